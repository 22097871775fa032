//! A table's columns in files that name them differently.
//!
//! The catalog's names are lower case, and Hive, Presto and Spark find a column of a file by its name whatever the case
//! (`userId` in a Parquet file is the table's `userid`). DataFusion matches names exactly and takes a column that it
//! does not find for NULLs, in rows and in statistics, so both get the file's spelling here first.

use std::sync::Arc;

use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr_adapter::{DefaultPhysicalExprAdapter, PhysicalExprAdapter, PhysicalExprAdapterFactory};
use datafusion::physical_plan::PhysicalExpr;

/// `table` with the names that `file` has for its columns; columns that `file` lacks keep theirs.
pub(super) fn spelled_as_in(file: &Schema, table: &Schema) -> SchemaRef {
    let renamed = |column: &FieldRef| match find(file, column.name()) {
        Some(field) if field.name() != column.name() => Arc::new(column.as_ref().clone().with_name(field.name())),
        _ => Arc::clone(column),
    };
    Arc::new(Schema::new(table.fields().iter().map(renamed).collect::<Vec<_>>()))
}

/// Adapts expressions on a table's columns to the columns of a file.
#[derive(Debug)]
pub(crate) struct AnyCase;

impl PhysicalExprAdapterFactory for AnyCase {
    fn create(&self, table: SchemaRef, file: SchemaRef) -> Result<Arc<dyn PhysicalExprAdapter>> {
        // A column that the file has in the table's type is taken as the file has it: whether it may be NULL and its
        // metadata may differ, and a cast because of those alone would only be in the way.
        let as_in_file = |column: &FieldRef| match find(&file, column.name()) {
            Some(field) if field.data_type() == column.data_type() => Arc::clone(field),
            Some(field) => Arc::new(column.as_ref().clone().with_name(field.name())),
            None => Arc::clone(column),
        };
        let fields: Vec<FieldRef> = table.fields().iter().map(as_in_file).collect();
        let renamed = table.fields().iter().zip(&fields).any(|(column, field)| column.name() != field.name());
        let inner = DefaultPhysicalExprAdapter::new(Arc::new(Schema::new(fields.clone())), file);
        Ok(Arc::new(AnyCaseAdapter { renamed: renamed.then_some((table, fields)), inner }))
    }
}

#[derive(Debug)]
struct AnyCaseAdapter {
    /// The table's columns and the same in the file's spelling, where they differ.
    renamed: Option<(SchemaRef, Vec<FieldRef>)>,
    inner: DefaultPhysicalExprAdapter,
}

impl PhysicalExprAdapter for AnyCaseAdapter {
    fn rewrite(&self, expr: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
        let Some((table, fields)) = &self.renamed else { return self.inner.rewrite(expr) };
        let renamed = expr.transform(|expr| {
            let Some(column) = expr.downcast_ref::<Column>() else { return Ok(Transformed::no(expr)) };
            let Ok(place) = table.index_of(column.name()) else { return Ok(Transformed::no(expr)) };
            let renamed = Column::new(fields[place].name(), column.index());
            Ok(Transformed::yes(Arc::new(renamed) as Arc<dyn PhysicalExpr>))
        });
        self.inner.rewrite(renamed.data()?)
    }
}

/// The field of that name, exactly or else but for the case.
fn find<'a>(file: &'a Schema, name: &str) -> Option<&'a FieldRef> {
    let exact = file.fields().find(name).map(|(_, field)| field);
    exact.or_else(|| file.fields().iter().find(|field| field.name().eq_ignore_ascii_case(name)))
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field};
    use datafusion::physical_expr::expressions::{CastExpr, Literal};

    use super::*;

    fn schema(fields: &[(&str, DataType, bool)]) -> SchemaRef {
        let fields: Vec<Field> =
            fields.iter().map(|(name, data_type, nullable)| Field::new(*name, data_type.clone(), *nullable)).collect();
        Arc::new(Schema::new(fields))
    }

    #[test]
    fn columns_are_found_in_any_case() {
        let table = schema(&[
            ("id", DataType::Int64, true),
            ("userid", DataType::Int64, true),
            ("late", DataType::Int64, true),
        ]);
        let file = schema(&[("userId", DataType::Int32, true), ("id", DataType::Int64, false)]);
        assert_eq!(
            spelled_as_in(&file, &table),
            schema(&[
                ("id", DataType::Int64, true),
                ("userId", DataType::Int64, true),
                ("late", DataType::Int64, true)
            ])
        );

        let adapter = AnyCase.create(Arc::clone(&table), file).unwrap();
        let adapted = |name: &str, place: usize| adapter.rewrite(Arc::new(Column::new(name, place))).unwrap();
        // As the file has it, without a cast for its not being NULL.
        assert_eq!(adapted("id", 0).downcast_ref::<Column>(), Some(&Column::new("id", 1)));
        let widened = adapted("userid", 1);
        let inner = widened.downcast_ref::<CastExpr>().unwrap().expr();
        assert_eq!(inner.downcast_ref::<Column>(), Some(&Column::new("userId", 0)));
        assert!(adapted("late", 2).downcast_ref::<Literal>().unwrap().value().is_null());
    }

    #[test]
    fn the_exact_name_goes_first() {
        let table = schema(&[("a", DataType::Int32, true)]);
        let file = schema(&[("A", DataType::Int32, true), ("a", DataType::Int32, true)]);
        let adapter = AnyCase.create(table, file).unwrap();
        let column = adapter.rewrite(Arc::new(Column::new("a", 0))).unwrap();
        assert_eq!(column.downcast_ref::<Column>(), Some(&Column::new("a", 1)));
    }
}

//! A table's columns in files that name them differently.
//!
//! The catalog's names are lower case, and Hive, Presto and Spark find a column of a file by its name whatever the case
//! (`userId` in a Parquet file is the table's `userid`). DataFusion matches names exactly and takes a column that it
//! does not find for NULLs, in rows and in statistics, so both get the file's spelling here first. `members` does the same
//! for members of structs.

use std::sync::Arc;

use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::physical_expr_adapter::{DefaultPhysicalExprAdapter, PhysicalExprAdapter, PhysicalExprAdapterFactory};
use datafusion::physical_plan::PhysicalExpr;

use super::members::{self, find};

/// `table` with the names that `file` has for its columns; columns that `file` lacks keep theirs.
pub(super) fn spelled_as_in(file: &Schema, table: &Schema) -> SchemaRef {
    let renamed = |column: &FieldRef| match find(file.fields(), column.name()) {
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
        let as_in_file = |column: &FieldRef| {
            let Some(field) = find(file.fields(), column.name()) else { return Arc::clone(column) };
            let data_type = members::spelled_as_in(field.data_type(), column.data_type());
            if data_type == *field.data_type() {
                return Arc::clone(field);
            }
            Arc::new(column.as_ref().clone().with_name(field.name()).with_data_type(data_type))
        };
        let spelled = Arc::new(Schema::new(table.fields().iter().map(as_in_file).collect::<Vec<FieldRef>>()));
        let is_renamed = table
            .fields()
            .iter()
            .zip(spelled.fields())
            .any(|(column, field)| column.name() != field.name() || column.data_type() != field.data_type());
        let inner = DefaultPhysicalExprAdapter::new(Arc::clone(&spelled), file);
        Ok(Arc::new(AnyCaseAdapter { renamed: is_renamed.then_some((table, spelled)), inner }))
    }
}

#[derive(Debug)]
struct AnyCaseAdapter {
    /// The table's columns and the same in the file's spelling, where they differ.
    renamed: Option<(SchemaRef, SchemaRef)>,
    inner: DefaultPhysicalExprAdapter,
}

impl PhysicalExprAdapter for AnyCaseAdapter {
    fn rewrite(&self, expr: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
        let Some((table, spelled)) = &self.renamed else { return self.inner.rewrite(expr) };
        let renamed = expr.transform_down(|expr| match members::in_spelling(&expr, table, spelled)? {
            Some(renamed) => Ok(Transformed::new(renamed, true, TreeNodeRecursion::Jump)),
            None => Ok(Transformed::no(expr)),
        });
        self.inner.rewrite(renamed.data()?)
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field};
    use datafusion::physical_expr::expressions::{CastExpr, Column, Literal};

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

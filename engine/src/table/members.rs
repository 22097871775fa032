//! Members of structs in files that name them differently: what [`AnyCase`](super::AnyCase) does for columns, further in.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use datafusion::common::{DataFusionError, Result};
use datafusion::functions::core::getfield::GetFieldFunc;
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::ScalarFunctionExpr;
use datafusion::physical_expr::expressions::{Column, Literal, lit};
use datafusion::physical_plan::PhysicalExpr;

use crate::formats::leaves::renamed;

/// The field of that name, exactly or else but for the case.
pub(super) fn find<'a>(fields: &'a Fields, name: &str) -> Option<&'a FieldRef> {
    fn folded(name: &str) -> impl Iterator<Item = char> {
        name.chars().flat_map(char::to_lowercase)
    }
    let exact = fields.find(name).map(|(_, field)| field);
    exact.or_else(|| fields.iter().find(|field| folded(field.name()).eq(folded(name))))
}

/// The `table`'s type with the names that the `file`'s has for members of structs; members that the file lacks keep theirs.
pub(super) fn spelled_as_in(file: &DataType, table: &DataType) -> DataType {
    let spelled = |file: &DataType, table: &Field| table.clone().with_data_type(spelled_as_in(file, table.data_type()));
    match (file, table) {
        (DataType::Struct(in_file), DataType::Struct(members)) => {
            let member = |member: &FieldRef| match find(in_file, member.name()) {
                Some(found) => Arc::new(spelled(found.data_type(), member).with_name(found.name())),
                None => Arc::clone(member),
            };
            DataType::Struct(members.iter().map(member).collect())
        }
        (DataType::List(in_file), DataType::List(item)) => DataType::List(Arc::new(spelled(in_file.data_type(), item))),
        (DataType::Map(in_file, _), DataType::Map(entries, ordered)) => {
            let (DataType::Struct(pair_in_file), DataType::Struct(pair)) = (in_file.data_type(), entries.data_type())
            else {
                return table.clone();
            };
            // Each writer has names of its own for key and value.
            let pair = pair.iter().zip(pair_in_file).map(|(field, in_file)| spelled(in_file.data_type(), field));
            let pair = DataType::Struct(pair.collect::<Vec<Field>>().into());
            DataType::Map(Arc::new(entries.as_ref().clone().with_data_type(pair)), *ordered)
        }
        _ => table.clone(),
    }
}

/// A column of `table`, or a member of one by constant names, from its place in `spelled`, which has the same columns in a file's
/// spelling, with the table's type. `None` for another expression.
pub(super) fn in_spelling(
    expr: &Arc<dyn PhysicalExpr>,
    table: &Schema,
    spelled: &SchemaRef,
) -> Result<Option<Arc<dyn PhysicalExpr>>> {
    let Some((values, field)) = values_in_spelling(expr, table, spelled)? else { return Ok(None) };
    if values.data_type(spelled)? == *field.data_type() {
        return Ok(Some(values));
    }
    Ok(Some(Arc::new(Renamed { values, field })))
}

/// The expression on `spelled`, and the field of the table that it stands for.
fn values_in_spelling(
    expr: &Arc<dyn PhysicalExpr>,
    table: &Schema,
    spelled: &SchemaRef,
) -> Result<Option<(Arc<dyn PhysicalExpr>, FieldRef)>> {
    if let Some(column) = expr.downcast_ref::<Column>() {
        let Ok(place) = table.index_of(column.name()) else { return Ok(None) };
        let values = Arc::new(Column::new(spelled.field(place).name(), place));
        return Ok(Some((values, Arc::clone(&table.fields()[place]))));
    }
    let Some(member) = ScalarFunctionExpr::try_downcast_func::<GetFieldFunc>(expr.as_ref()) else { return Ok(None) };
    let Some((values, names)) = member.args().split_first() else { return Ok(None) };
    let Some((values, mut field)) = values_in_spelling(values, table, spelled)? else { return Ok(None) };
    let mut data_type = values.data_type(spelled)?;
    let mut args = vec![values];
    for name in names {
        let name = name.downcast_ref::<Literal>().and_then(|name| name.value().try_as_str().flatten());
        let (Some(name), DataType::Struct(members)) = (name, field.data_type()) else { return Ok(None) };
        let (Some((place, member)), DataType::Struct(in_file)) = (members.find(name), &data_type) else {
            return Ok(None);
        };
        // Both have the members in the same order.
        let found = Arc::clone(&in_file[place]);
        args.push(lit(found.name().as_str()));
        (field, data_type) = (Arc::clone(member), found.data_type().clone());
    }
    let (function, options) = (member.fun().clone(), member.config_options().clone());
    let values = ScalarFunctionExpr::try_new(Arc::new(function), args, spelled, Arc::new(options))?;
    Ok(Some((Arc::new(values), field)))
}

/// Values whose members of structs get the names of a field of the table.
#[derive(Debug, Eq)]
struct Renamed {
    values: Arc<dyn PhysicalExpr>,
    field: FieldRef,
}

impl PartialEq for Renamed {
    fn eq(&self, other: &Self) -> bool {
        self.values.eq(&other.values) && self.field == other.field
    }
}

impl Hash for Renamed {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.values.hash(state);
        self.field.hash(state);
    }
}

impl fmt::Display for Renamed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} as {}", self.values, self.field.data_type())
    }
}

impl PhysicalExpr for Renamed {
    fn return_field(&self, _schema: &Schema) -> Result<FieldRef> {
        Ok(Arc::clone(&self.field))
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let values = self.values.evaluate(batch)?.into_array(batch.num_rows())?;
        Ok(ColumnarValue::Array(renamed(&values, self.field.data_type())?))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.values]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        let values = children.pop().ok_or_else(|| DataFusionError::Internal("renamed values went away".into()))?;
        Ok(Arc::new(Self { values, field: Arc::clone(&self.field) }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.values.fmt_sql(f)
    }
}

#[cfg(test)]
mod tests;

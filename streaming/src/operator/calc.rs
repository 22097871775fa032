//! Projection and filter: stateless, row by row.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::functions::core::getfield::GetFieldFunc;
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use tereza_runtime::error::{Error, Result};

use super::batch::Batch;
use super::error::failed;
use super::mode::ChangelogMode;
use super::state::columns_text;
use super::{Context, Operator, Output};

/// An expression over the columns of a batch.
pub type Expression = Arc<dyn PhysicalExpr>;

/// Keeps the rows where a condition is true and computes columns from them. Kinds stay as they are: of an update only one
/// half may pass the condition, which then stands for an insert or a delete.
#[derive(Debug)]
pub struct Calc {
    condition: Option<Expression>,
    read: Read,
    /// Over the columns that are read.
    columns: Vec<Expression>,
    schema: SchemaRef,
    mode: ChangelogMode,
    description: String,
}

/// The columns and members of structs that expressions read: only these are copied where a condition lets some rows pass.
#[derive(Debug)]
struct Read {
    values: Vec<Expression>,
    schema: SchemaRef,
}

impl Read {
    /// What expressions read of the input, and the same expressions over what is read.
    fn new(input: &Schema, expressions: Vec<Expression>) -> Result<(Self, Vec<Expression>)> {
        let mut values: Vec<Expression> = Vec::new();
        let mut over_read = |expression: Expression| {
            if !is_member(&expression) {
                return Ok(Transformed::no(expression));
            }
            let at = values.iter().position(|known| known.as_ref() == expression.as_ref()).unwrap_or(values.len());
            if at == values.len() {
                values.push(expression);
            }
            let column: Expression = Arc::new(Column::new(&format!("v{at}"), at));
            Ok(Transformed::new(column, true, TreeNodeRecursion::Jump))
        };
        let expressions = expressions
            .into_iter()
            .map(|expression| Ok(expression.transform_down(&mut over_read).map_err(failed)?.data))
            .collect::<Result<Vec<_>>>()?;
        let fields = values.iter().enumerate().map(|(at, value)| {
            let field = value.return_field(input).map_err(failed)?;
            Ok(field.as_ref().clone().with_name(format!("v{at}")))
        });
        let schema = Arc::new(Schema::new(fields.collect::<Result<Vec<_>>>()?));
        Ok((Self { values, schema }, expressions))
    }

    fn of(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let values = self.values.iter().map(|value| evaluate(value, rows)).collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        RecordBatch::try_new_with_options(SchemaRef::clone(&self.schema), values, &options).map_err(failed)
    }
}

/// Whether an expression is a column, or a member of one by constant names: it copies nothing and fails for no row.
fn is_member(expression: &Expression) -> bool {
    if expression.is::<Column>() {
        return true;
    }
    let Some(member) = ScalarFunctionExpr::try_downcast_func::<GetFieldFunc>(expression.as_ref()) else { return false };
    member
        .args()
        .split_first()
        .is_some_and(|(of, names)| is_member(of) && names.iter().all(|name| name.is::<Literal>()))
}

impl Calc {
    /// `columns` are the expressions of the output with their names. A stream without `-U` is refused where the columns
    /// lose its key, or the condition reads others: an update may then end what nobody takes back.
    pub fn new(
        input: &Schema,
        mode: &ChangelogMode,
        condition: Option<Expression>,
        columns: Vec<(Expression, String)>,
    ) -> Result<Self> {
        if let Some(condition) = &condition {
            let data_type = condition.data_type(input).map_err(failed)?;
            if data_type != DataType::Boolean {
                return Err(Error::invalid_input(format!(
                    "the condition {condition} has type {data_type}, not BOOLEAN"
                )));
            }
            if let ChangelogMode::Upsert(key) = mode {
                let read = datafusion::physical_expr::utils::collect_columns(condition);
                if !read.iter().all(|column| key.contains(&column.index())) {
                    return Err(Error::unsupported(format!(
                        "the condition {condition} on other columns than the key of a stream without before images"
                    )));
                }
            }
        }
        let fields = columns.iter().map(|(column, name)| {
            let field = column.return_field(input).map_err(failed)?;
            Ok(Field::new(name, field.data_type().clone(), field.is_nullable()).with_metadata(field.metadata().clone()))
        });
        let schema = Arc::new(Schema::new(fields.collect::<Result<Vec<_>>>()?));
        let kept: Vec<Option<usize>> =
            columns.iter().map(|(column, _)| column.downcast_ref::<Column>().map(Column::index)).collect();
        let mode = mode.project(&kept, "a projection")?;
        let columns: Vec<Expression> = columns.into_iter().map(|(column, _)| column).collect();
        let description = format!("calc({condition:?}, {columns:?}, {})", columns_text(&schema));
        let (read, columns) = Read::new(input, columns)?;
        Ok(Self { condition, read, columns, schema, mode, description })
    }
}

impl Operator for Calc {
    fn name(&self) -> &str {
        "calc"
    }

    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    fn mode(&self) -> ChangelogMode {
        self.mode.clone()
    }

    fn describe(&self) -> String {
        self.description.clone()
    }

    fn keyed_by(&self, _: usize) -> Option<&[usize]> {
        None
    }

    fn process(&mut self, _: usize, batch: Batch, _: &Context, out: &mut dyn Output) -> Result<()> {
        let read = batch.with_rows(self.read.of(batch.rows())?)?;
        let batch = match &self.condition {
            None => read,
            Some(condition) => read.filter(evaluate(condition, batch.rows())?.as_boolean())?,
        };
        if batch.is_empty() {
            return Ok(());
        }
        let columns = self.columns.iter().map(|column| evaluate(column, batch.rows())).collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.len()));
        let rows = RecordBatch::try_new_with_options(self.schema(), columns, &options).map_err(failed)?;
        out.emit(batch.with_rows(rows)?)
    }
}

/// The values of an expression, one for each row.
pub(crate) fn evaluate(expression: &Expression, rows: &RecordBatch) -> Result<arrow::array::ArrayRef> {
    expression.evaluate(rows).and_then(|value| value.into_array(rows.num_rows())).map_err(failed)
}

#[cfg(test)]
#[path = "calc_tests.rs"]
mod tests;

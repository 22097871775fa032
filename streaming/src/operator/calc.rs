//! Projection and filter: stateless, row by row.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
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
    columns: Vec<Expression>,
    schema: SchemaRef,
    mode: ChangelogMode,
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
        Ok(Self { condition, columns: columns.into_iter().map(|(column, _)| column).collect(), schema, mode })
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
        format!("calc({:?}, {:?}, {})", self.condition, self.columns, columns_text(&self.schema))
    }

    fn is_keyed(&self) -> bool {
        false
    }

    fn process(&mut self, _: usize, batch: Batch, _: &Context, out: &mut dyn Output) -> Result<()> {
        let batch = match &self.condition {
            None => batch,
            Some(condition) => batch.filter(evaluate(condition, batch.rows())?.as_boolean())?,
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

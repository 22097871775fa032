//! What a stream job does: an INSERT, planned.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use super::source::StreamSource;
use super::stream_plan::StreamPlan;

/// An INSERT of a stream job.
#[derive(Debug, Clone)]
pub struct StreamInsert {
    /// The query. Its columns are those of the sink in order, name and type.
    pub plan: StreamPlan,
    /// Where the rows go.
    pub sink: Sink,
}

/// Where the rows of a stream job go.
#[derive(Debug, Clone)]
pub enum Sink {
    /// Into a stream: [`StreamSource::written`] are the columns.
    Stream(Arc<StreamSource>),
    /// Into a table of files.
    Table {
        catalog: String,
        schema: String,
        table: String,
        /// All columns of the table; the keys of its partitions come last.
        columns: SchemaRef,
    },
}

impl Sink {
    /// The full name of the table.
    pub fn name(&self) -> String {
        match self {
            Self::Stream(stream) => stream.name().to_owned(),
            Self::Table { catalog, schema, table, .. } => format!("{catalog}.{schema}.{table}"),
        }
    }

    /// The columns that are written.
    pub fn columns(&self) -> SchemaRef {
        match self {
            Self::Stream(stream) => stream.written(),
            Self::Table { columns, .. } => Arc::clone(columns),
        }
    }
}

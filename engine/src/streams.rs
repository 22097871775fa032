//! What the engine asks of whoever runs stream jobs: the crate that does depends on this one.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use futures::stream::BoxStream;
use tereza_runtime::Result;

use crate::flink::{StreamInsert, StreamSource};

/// The side that runs stream jobs.
#[async_trait]
pub trait Streams: Send + Sync + fmt::Debug {
    /// Refuses a table that is to be made and that its connector could never read or write. What LIKE or OPTIONS may add
    /// later may be missing.
    ///
    /// # Errors
    /// `InvalidInput` names an option or a column that is wrong, `Unsupported` a type.
    fn check_table(&self, table: &StreamSource) -> Result<()>;

    /// The operators of a job as text, a line each, for EXPLAIN. `settings` are Flink's.
    ///
    /// # Errors
    /// What could not run is refused with the reason.
    async fn check(&self, inserts: &[StreamInsert], settings: &BTreeMap<String, String>) -> Result<String>;

    /// The rows of a stream's table up to where it ends now, for a query of the batch engine. `columns` are places in the
    /// table's schema; batches have these, in this order.
    ///
    /// # Errors
    /// `Unsupported` for a connector that has no rows to read.
    async fn scan(
        &self,
        table: Arc<StreamSource>,
        columns: Vec<usize>,
    ) -> Result<BoxStream<'static, Result<RecordBatch>>>;
}

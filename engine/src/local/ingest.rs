//! Bulk rows from a client: a one-time table in the session's memory that an ordinary INSERT or CTAS reads, so that types,
//! partitions, the commit and every error are those of SQL.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::common::TableReference;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use tereza_runtime::{Error, Result, ids};

use crate::catalogs::{MEMORY_CATALOG, MEMORY_SCHEMA};
use crate::error::{from_datafusion, to_datafusion};
use crate::query::{BatchStream, IfExists, IfNotExists, IngestTarget};
use crate::session::{Session, USER_CATALOG};

/// The one-time table; it is gone when this is dropped.
pub(super) struct Source {
    session: Arc<Session>,
    name: String,
    schema: SchemaRef,
}

impl Source {
    pub(super) fn register(session: &Arc<Session>, schema: SchemaRef, rows: BatchStream) -> Result<Self> {
        let name = format!("ingest_{}", ids::new_id());
        let partition = Once { schema: Arc::clone(&schema), rows: Mutex::new(Some(rows)) };
        let table = StreamingTable::try_new(Arc::clone(&schema), vec![Arc::new(partition)]).map_err(from_datafusion)?;
        let source = Self { session: Arc::clone(session), name, schema };
        session.context.register_table(source.reference(), Arc::new(table)).map_err(from_datafusion)?;
        Ok(source)
    }

    /// The statements that bring the rows to `target`, in order.
    pub(super) async fn statements(&self, session: &Session, target: &IngestTarget) -> Result<Vec<String>> {
        let catalog = match &target.catalog {
            _ if target.temporary => MEMORY_CATALOG.to_string(),
            Some(catalog) => catalog.clone(),
            None => session.catalog(),
        };
        let schema = match &target.schema {
            _ if target.temporary => MEMORY_SCHEMA.to_string(),
            Some(schema) => schema.clone(),
            None if catalog == session.catalog() => session.schema(),
            None => crate::catalogs::first_schema(&catalog).to_string(),
        };
        // The names of the user's tables and of their columns are in lower case, whatever the client calls them.
        let is_folded = catalog == USER_CATALOG;
        let folded = |name: &str| if is_folded { name.to_lowercase() } else { name.to_string() };
        let table = folded(&target.table);
        let name = [&catalog, &schema, &table].map(|part| quote(part)).join(".");
        let source = [MEMORY_CATALOG, MEMORY_SCHEMA, &self.name].map(quote).join(".");
        let fields = self.schema.fields();
        let columns = fields.iter().map(|field| quote(field.name())).collect::<Vec<_>>().join(", ");
        let into = fields.iter().map(|field| quote(&folded(field.name()))).collect::<Vec<_>>().join(", ");
        let exists = session.catalogs().tables(&catalog, &schema).await?.iter().any(|(known, _)| *known == table);
        let create = format!("CREATE TABLE {name} AS SELECT {columns} FROM {source}");
        match (exists, target.if_exists, target.if_not_exists) {
            (true, IfExists::Fail, _) => {
                Err(Error::already_exists(format!("table {catalog}.{schema}.{} exists", target.table)))
            }
            (true, IfExists::Append, _) => {
                Ok(vec![format!("INSERT INTO {name} ({into}) SELECT {columns} FROM {source}")])
            }
            (true, IfExists::Replace, _) => Ok(vec![format!("DROP TABLE {name}"), create]),
            (false, _, IfNotExists::Create) => Ok(vec![create]),
            (false, _, IfNotExists::Fail) => {
                Err(Error::not_found(format!("table {catalog}.{schema}.{} does not exist", target.table)))
            }
        }
    }

    fn reference(&self) -> TableReference {
        TableReference::full(MEMORY_CATALOG, MEMORY_SCHEMA, self.name.as_str())
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        if let Err(error) = self.session.context.deregister_table(self.reference()) {
            tracing::warn!(table = self.name, %error, "one-time table of an ingest is still there");
        }
    }
}

fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Rows that can be read once.
struct Once {
    schema: SchemaRef,
    rows: Mutex<Option<BatchStream>>,
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Once")
    }
}

impl PartitionStream for Once {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let again = || DataFusionError::Internal("the rows of an ingest can be read only once".into());
        let rows = match self.rows.lock().take() {
            Some(rows) => rows.map_err(to_datafusion).boxed(),
            None => stream::once(async move { Err(again()) }).boxed(),
        };
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), rows))
    }
}

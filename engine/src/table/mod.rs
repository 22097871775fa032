//! A table of the catalog as DataFusion reads it.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use tereza_catalog::store::VersionedTable;
use tereza_runtime::{Error, Result};

use crate::engine::Engine;

/// The provider of one table (not of views): its scan resolves partitions and files from the catalog at that moment.
pub(crate) fn provider(_engine: &Arc<Engine>, table: VersionedTable) -> Result<Arc<dyn TableProvider>> {
    Err(Error::unsupported(format!("table {}", table.table.name)))
}

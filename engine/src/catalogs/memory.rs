//! The catalog `memory`: a session's own tables, of any Arrow type, which end with it.
//!
//! DataFusion's memory providers do the work; they are wrapped so that a file's path is a table's name here too, and so that
//! the rows of tables count towards the memory budget.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{
    CatalogProvider, MemoryCatalogProvider, MemorySchemaProvider, SchemaProvider, TableProvider,
};
use datafusion::datasource::TableType;
use datafusion::error::DataFusionError;

use super::files::file_table;
use super::session_table::counted;
use super::{MEMORY_SCHEMA, OwnSession};
use crate::engine::Engine;
use crate::error::to_datafusion;

/// A session's own tables.
#[derive(Debug)]
pub(crate) struct MemoryCatalog {
    inner: MemoryCatalogProvider,
    engine: Arc<Engine>,
    session: OwnSession,
}

impl MemoryCatalog {
    pub(crate) fn new(engine: Arc<Engine>, session: OwnSession) -> Self {
        let inner = MemoryCatalogProvider::new();
        // The default implementation returns the schema that was there before, and here there is none.
        let _ = inner.register_schema(MEMORY_SCHEMA, Arc::new(MemorySchemaProvider::new()));
        Self { inner, engine, session }
    }
}

impl CatalogProvider for MemoryCatalog {
    fn schema_names(&self) -> Vec<String> {
        self.inner.schema_names()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        let inner = self.inner.schema(name)?;
        Some(Arc::new(MemorySchema { inner, engine: Arc::clone(&self.engine), session: self.session.clone() }))
    }

    fn register_schema(
        &self,
        name: &str,
        schema: Arc<dyn SchemaProvider>,
    ) -> Result<Option<Arc<dyn SchemaProvider>>, DataFusionError> {
        self.inner.register_schema(name, schema)
    }

    fn deregister_schema(&self, name: &str, cascade: bool) -> Result<Option<Arc<dyn SchemaProvider>>, DataFusionError> {
        self.inner.deregister_schema(name, cascade)
    }
}

#[derive(Debug)]
struct MemorySchema {
    inner: Arc<dyn SchemaProvider>,
    engine: Arc<Engine>,
    session: OwnSession,
}

#[async_trait]
impl SchemaProvider for MemorySchema {
    fn table_names(&self) -> Vec<String> {
        self.inner.table_names()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        match self.inner.table(name).await? {
            Some(table) => Ok(Some(table)),
            None => file_table(&self.engine, &self.session, name).await.map_err(to_datafusion),
        }
    }

    async fn table_type(&self, name: &str) -> Result<Option<TableType>, DataFusionError> {
        self.inner.table_type(name).await
    }

    fn register_table(
        &self,
        name: String,
        table: Arc<dyn TableProvider>,
    ) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        self.inner.register_table(name, counted(table, &self.engine.runtime.memory_pool)?)
    }

    fn deregister_table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        self.inner.deregister_table(name)
    }

    fn table_exist(&self, name: &str) -> bool {
        self.inner.table_exist(name)
    }
}

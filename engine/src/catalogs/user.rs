//! The catalog `tereza`: the user's databases, tables and views, out of the store.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, SchemaProvider, TableProvider};
use datafusion::datasource::{TableType, ViewTable};
use datafusion::error::DataFusionError;
use parking_lot::RwLock;
use tereza_catalog::model::TableKind;
use tereza_runtime::{ErrorKind, Result};

use super::OwnSession;
use super::files::file_table;
use crate::engine::Engine;
use crate::error::to_datafusion;
use crate::{statement, table};

/// Databases with their tables, as `information_schema` lists them.
type Names = BTreeMap<String, BTreeMap<String, TableKind>>;

/// The user's databases.
#[derive(Debug)]
pub(crate) struct UserCatalog {
    engine: Arc<Engine>,
    session: OwnSession,
    names: Arc<RwLock<Names>>,
}

impl UserCatalog {
    pub(crate) fn new(engine: Arc<Engine>, session: OwnSession) -> Self {
        Self { engine, session, names: Arc::default() }
    }

    pub(crate) async fn has_schema(&self, schema: &str) -> Result<bool> {
        match self.engine.catalog.database(schema).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn schemas(&self) -> Result<Vec<String>> {
        self.engine.catalog.databases().await
    }

    pub(crate) async fn tables(&self, schema: &str) -> Result<Vec<(String, String)>> {
        let tables = self.engine.catalog.tables(schema).await?;
        Ok(tables.into_iter().map(|(name, kind)| (name, kind_name(kind).to_string())).collect())
    }

    pub(crate) async fn refresh_names(&self) -> Result<()> {
        let mut names = Names::new();
        for database in self.engine.catalog.databases().await? {
            let tables = match self.engine.catalog.tables(&database).await {
                Ok(tables) => tables,
                // Dropped since it was listed.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            names.insert(database, tables.into_iter().collect());
        }
        *self.names.write() = names;
        Ok(())
    }
}

impl CatalogProvider for UserCatalog {
    fn schema_names(&self) -> Vec<String> {
        self.names.read().keys().cloned().collect()
    }

    /// A provider for any name: whether the database exists is found out when a table is looked up, since this may not
    /// wait for the store.
    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        Some(Arc::new(UserSchema {
            engine: Arc::clone(&self.engine),
            session: self.session.clone(),
            names: Arc::clone(&self.names),
            database: name.to_string(),
        }))
    }
}

#[derive(Debug)]
struct UserSchema {
    engine: Arc<Engine>,
    session: OwnSession,
    names: Arc<RwLock<Names>>,
    database: String,
}

#[async_trait]
impl SchemaProvider for UserSchema {
    fn table_names(&self) -> Vec<String> {
        self.names.read().get(&self.database).map(|tables| tables.keys().cloned().collect()).unwrap_or_default()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        let found = match self.engine.catalog.table(&self.database, name).await {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return file_table(&self.engine, &self.session, name).await.map_err(to_datafusion);
            }
            Err(error) => return Err(to_datafusion(error)),
        };
        if found.table.kind == TableKind::View {
            let state = self.session.state().map_err(to_datafusion)?;
            let view = &found.table;
            let plan = statement::plan_view(&state, view, &self.engine.presto_name).await.map_err(to_datafusion)?;
            let text = statement::query_text(view).map(Cow::into_owned);
            return Ok(Some(Arc::new(ViewTable::new(plan, text))));
        }
        table::provider(&self.engine, found).map(Some).map_err(to_datafusion)
    }

    async fn table_type(&self, name: &str) -> Result<Option<TableType>, DataFusionError> {
        let kind = self.names.read().get(&self.database).and_then(|tables| tables.get(name).copied());
        Ok(kind.map(|kind| if kind == TableKind::View { TableType::View } else { TableType::Base }))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.names.read().get(&self.database).is_some_and(|tables| tables.contains_key(name))
    }
}

fn kind_name(kind: TableKind) -> &'static str {
    match kind {
        TableKind::Managed | TableKind::External => "TABLE",
        TableKind::View => "VIEW",
        TableKind::MaterializedView => "MATERIALIZED VIEW",
    }
}

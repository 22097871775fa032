//! The catalog `tereza`: the user's databases, tables and views, out of the store.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, SchemaProvider, TableProvider};
use datafusion::datasource::{TableType, ViewTable};
use datafusion::error::DataFusionError;
use parking_lot::RwLock;
use tereza_catalog::model::TableKind;
use tereza_catalog::store::VersionedTable;
use tereza_runtime::{Error, ErrorKind, Result};

use super::OwnSession;
use super::files::file_table;
use super::streams::{OptionHints, TemporaryStreams};
use crate::engine::Engine;
use crate::error::to_datafusion;
use crate::flink::{self, StreamSource, StreamTable};
use crate::session::USER_CATALOG;
use crate::{statement, table};

/// The kind of the session's own tables in listings.
pub(crate) const TEMPORARY: &str = "LOCAL TEMPORARY";

/// Databases with their tables, as `information_schema` lists them.
type Names = BTreeMap<String, BTreeMap<String, TableKind>>;

/// The user's databases.
#[derive(Debug, Clone)]
pub(crate) struct UserCatalog {
    engine: Arc<Engine>,
    session: OwnSession,
    names: Arc<RwLock<Names>>,
    temporary: Arc<TemporaryStreams>,
    /// Options of tables of streams in one statement; empty for all others.
    hints: Arc<OptionHints>,
}

impl UserCatalog {
    pub(crate) fn new(engine: Arc<Engine>, session: OwnSession) -> Self {
        Self { engine, session, names: Arc::default(), temporary: Arc::default(), hints: Arc::default() }
    }

    /// The same catalog in which tables of streams have other options.
    pub(super) fn with_hints(&self, hints: OptionHints) -> Self {
        Self { hints: Arc::new(hints), ..self.clone() }
    }

    /// The session's own tables of streams.
    pub(super) fn temporary(&self) -> &TemporaryStreams {
        &self.temporary
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
        let tables = tables.into_iter().map(|(name, kind)| (name, kind_name(kind).to_string()));
        let mut tables: BTreeMap<String, String> = tables.collect();
        tables.extend(self.temporary.names(schema).into_iter().map(|name| (name, TEMPORARY.to_owned())));
        Ok(tables.into_iter().collect())
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
        let is_listed = AtomicBool::new(false);
        Some(Arc::new(UserSchema { catalog: self.clone(), database: name.to_string(), is_listed }))
    }
}

#[derive(Debug)]
struct UserSchema {
    catalog: UserCatalog,
    database: String,
    /// Set by who asks for the names first, as `information_schema` does: one table that cannot be planned is not to hide the others.
    is_listed: AtomicBool,
}

impl UserSchema {
    fn stream(&self, name: &str, definition: StreamTable) -> Result<Arc<dyn TableProvider>> {
        let state = self.catalog.session.state()?;
        let full_name = format!("{USER_CATALOG}.{}.{}", self.database, name.to_lowercase());
        let planned = StreamSource::plan(&self.catalog.engine, full_name, definition, self.hint(name), &state)?;
        Ok(Arc::new(planned))
    }

    fn hint(&self, name: &str) -> Option<&BTreeMap<String, String>> {
        if self.catalog.hints.is_empty() {
            return None;
        }
        self.catalog.hints.get(&(self.database.to_lowercase(), name.to_lowercase()))
    }

    /// The table of a name, planned.
    async fn planned(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if let Some(definition) = self.catalog.temporary.get(&self.database, name) {
            return self.stream(name, definition).map(Some);
        }
        let UserCatalog { engine, session, .. } = &self.catalog;
        let Some(found) = self.found(name).await? else { return file_table(engine, session, name).await };
        if found.table.kind == TableKind::View {
            let view = &found.table;
            let plan = statement::plan_view(&session.state()?, view, &engine.presto_name).await?;
            let text = statement::query_text(view).map(Cow::into_owned);
            return Ok(Some(Arc::new(ViewTable::new(plan, text))));
        }
        if let Some(definition) = flink::from_parameters(&found.table.parameters)? {
            return self.stream(&found.table.name, definition).map(Some);
        }
        if self.hint(name).is_some() {
            return Err(Error::unsupported(format!("the hint OPTIONS on {}.{name}, a table of files", self.database)));
        }
        table::provider(engine, found).map(Some)
    }

    /// The table as the store keeps it. Where names keep their case, those of the catalog are lower case all the same.
    async fn found(&self, name: &str) -> Result<Option<VersionedTable>> {
        let store = &self.catalog.engine.catalog;
        match store.table(&self.database, name).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            found => return found.map(Some),
        }
        let lower = name.to_lowercase();
        if lower == name || !flink::is_spoken(self.catalog.session.state()?.config()) {
            return Ok(None);
        }
        match store.table(&self.database, &lower).await {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            found => found.map(Some),
        }
    }
}

#[async_trait]
impl SchemaProvider for UserSchema {
    fn table_names(&self) -> Vec<String> {
        self.is_listed.store(true, Ordering::Relaxed);
        self.catalog.names.read().get(&self.database).map(|tables| tables.keys().cloned().collect()).unwrap_or_default()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        match self.planned(name).await {
            Err(error) if self.is_listed.load(Ordering::Relaxed) && is_of_table(&error) => {
                tracing::debug!(schema = self.database, name, %error, "a table that cannot be planned is listed without columns");
                Ok(None)
            }
            planned => planned.map_err(to_datafusion),
        }
    }

    async fn table_type(&self, name: &str) -> Result<Option<TableType>, DataFusionError> {
        let kind = self.catalog.names.read().get(&self.database).and_then(|tables| tables.get(name).copied());
        Ok(kind.map(|kind| if kind == TableKind::View { TableType::View } else { TableType::Base }))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.catalog.names.read().get(&self.database).is_some_and(|tables| tables.contains_key(name))
    }
}

/// Whether an error says what is wrong with a table, and not that it could not be asked for.
fn is_of_table(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported | ErrorKind::NotFound)
}

fn kind_name(kind: TableKind) -> &'static str {
    match kind {
        TableKind::Managed | TableKind::External => "TABLE",
        TableKind::View => "VIEW",
        TableKind::MaterializedView => "MATERIALIZED VIEW",
    }
}

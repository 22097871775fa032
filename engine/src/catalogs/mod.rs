//! Names to tables: the catalogs that one session sees.
//!
//! `tereza` holds the user's tables, out of the [`Store`](tereza_catalog::Store); `memory` the session's own tables, which
//! end with it; `tpch` and `tpcds` generated ones; `system` what runs. A session may add further catalogs of its own with
//! `CREATE DATABASE` in DataFusion's sense; they are kept in memory too.

mod files;
mod memory;
mod session_table;
mod streams;
mod user;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock, Weak};

use datafusion::catalog::{CatalogProvider, CatalogProviderList};
use datafusion::execution::session_state::SessionState;
use parking_lot::RwLock;
use tereza_runtime::{Error, Result};

pub(crate) use self::files::is_path;
use self::memory::MemoryCatalog;
pub(crate) use self::session_table::SessionTable;
pub(crate) use self::streams::{OptionHints, TemporaryStreams};
pub(crate) use self::user::TEMPORARY;
use self::user::UserCatalog;
use crate::engine::Engine;
use crate::session::{DEFAULT_SCHEMA, USER_CATALOG};
use crate::{generated, system};

/// The catalog of a session's own tables.
pub(crate) const MEMORY_CATALOG: &str = "memory";
/// The schema that always exists in it, and DataFusion's usual name.
pub(crate) const MEMORY_SCHEMA: &str = "public";

/// At most this many catalogs in one session.
const CATALOGS_MAX: usize = 256;

/// The schema that a session starts in when only its catalog is given.
pub(crate) fn first_schema(catalog: &str) -> &'static str {
    match catalog {
        MEMORY_CATALOG => MEMORY_SCHEMA,
        "tpch" | "tpcds" => "tiny",
        "system" => "runtime",
        _ => DEFAULT_SCHEMA,
    }
}

/// The session that a provider belongs to: set once it exists, weak since the session holds the providers.
#[derive(Clone, Default)]
pub(crate) struct OwnSession(Arc<OnceLock<Weak<RwLock<SessionState>>>>);

impl OwnSession {
    /// The session's state now.
    pub(crate) fn state(&self) -> Result<SessionState> {
        let state = self.0.get().and_then(Weak::upgrade).ok_or_else(|| Error::cancelled("the session is closed"))?;
        let state = state.read();
        Ok(state.clone())
    }
}

impl fmt::Debug for OwnSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OwnSession")
    }
}

/// The catalogs that one session sees.
#[derive(Debug)]
pub(crate) struct Catalogs {
    session: OwnSession,
    user: Arc<UserCatalog>,
    others: RwLock<BTreeMap<String, Arc<dyn CatalogProvider>>>,
}

impl Catalogs {
    pub(crate) fn new(engine: &Arc<Engine>) -> Self {
        let session = OwnSession::default();
        let user = Arc::new(UserCatalog::new(Arc::clone(engine), session.clone()));
        let memory = MemoryCatalog::new(Arc::clone(engine), session.clone());
        let others: [(&str, Arc<dyn CatalogProvider>); 5] = [
            (USER_CATALOG, Arc::clone(&user) as Arc<dyn CatalogProvider>),
            (MEMORY_CATALOG, Arc::new(memory)),
            ("tpch", generated::tpch()),
            ("tpcds", generated::tpcds()),
            ("system", system_catalog(engine)),
        ];
        let others = others.into_iter().map(|(name, catalog)| (name.to_string(), catalog)).collect();
        Self { session, user, others: RwLock::new(others) }
    }

    /// The session's own tables of streams, which are in the user's catalog.
    pub(crate) fn temporary_streams(&self) -> &TemporaryStreams {
        self.user.temporary()
    }

    /// Tells the providers which session they belong to; views and files by path are planned with its state.
    pub(crate) fn attach(&self, state: Weak<RwLock<SessionState>>) {
        // A second call would be a defect of the caller, and the first session stays the owner.
        let _ = self.session.0.set(state);
    }

    /// Names, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        self.others.read().keys().cloned().collect()
    }

    /// Whether a schema exists now.
    pub(crate) async fn has_schema(&self, catalog: &str, schema: &str) -> Result<bool> {
        if catalog == USER_CATALOG {
            return self.user.has_schema(schema).await;
        }
        let provider = self.others.read().get(catalog).cloned();
        Ok(provider.is_some_and(|provider| provider.schema(schema).is_some()))
    }

    /// Schema names of one catalog now, sorted.
    pub(crate) async fn schemas(&self, catalog: &str) -> Result<Vec<String>> {
        if catalog == USER_CATALOG {
            return self.user.schemas().await;
        }
        let provider = self.others.read().get(catalog).cloned();
        let mut names = provider.map(|provider| provider.schema_names()).unwrap_or_default();
        names.sort_unstable();
        Ok(names)
    }

    /// Table names and kinds of one schema now, sorted by name.
    pub(crate) async fn tables(&self, catalog: &str, schema: &str) -> Result<Vec<(String, String)>> {
        if catalog == USER_CATALOG {
            return self.user.tables(schema).await;
        }
        let provider = self.others.read().get(catalog).cloned();
        let Some(schema) = provider.and_then(|provider| provider.schema(schema)) else { return Ok(Vec::new()) };
        let mut names = schema.table_names();
        names.sort_unstable();
        let mut tables = Vec::with_capacity(names.len());
        for name in names {
            use datafusion::datasource::TableType;
            let kind = match (catalog, schema.table_type(&name).await.map_err(crate::error::from_datafusion)?) {
                (_, None) => continue,
                (_, Some(TableType::View)) => "VIEW",
                (MEMORY_CATALOG, Some(_)) => "LOCAL TEMPORARY",
                ("system", Some(_)) => "SYSTEM TABLE",
                (_, Some(_)) => "TABLE",
            };
            tables.push((name, kind.to_string()));
        }
        Ok(tables)
    }

    /// Loads the names that [`CatalogProvider::schema_names`] and its like answer with, which may not wait.
    pub(crate) async fn refresh_names(&self) -> Result<()> {
        self.user.refresh_names().await
    }
}

/// The catalogs of a session for one statement in which tables of streams have other options.
#[derive(Debug)]
pub(crate) struct HintedCatalogs {
    session: Arc<Catalogs>,
    user: Arc<UserCatalog>,
}

impl HintedCatalogs {
    pub(crate) fn new(session: &Arc<Catalogs>, hints: OptionHints) -> Self {
        Self { session: Arc::clone(session), user: Arc::new(session.user.with_hints(hints)) }
    }
}

impl CatalogProviderList for HintedCatalogs {
    fn register_catalog(&self, name: String, catalog: Arc<dyn CatalogProvider>) -> Option<Arc<dyn CatalogProvider>> {
        self.session.register_catalog(name, catalog)
    }

    fn catalog_names(&self) -> Vec<String> {
        self.session.catalog_names()
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        match name {
            USER_CATALOG => Some(Arc::clone(&self.user) as Arc<dyn CatalogProvider>),
            _ => self.session.catalog(name),
        }
    }
}

fn system_catalog(engine: &Arc<Engine>) -> Arc<dyn CatalogProvider> {
    let node = system::Node {
        id: engine.process_id.clone(),
        role: "all".to_string(),
        address: None,
        memory_limit_bytes: engine.memory_limit_bytes,
        started_ms: engine.started_ms,
    };
    let (queries, store, jobs) = (Arc::clone(&engine.queries), Arc::clone(&engine.catalog), engine.jobs());
    system::catalog(queries, store, jobs, engine.cluster(), node, engine.clock.clone())
}

impl CatalogProviderList for Catalogs {
    fn register_catalog(&self, name: String, catalog: Arc<dyn CatalogProvider>) -> Option<Arc<dyn CatalogProvider>> {
        let mut others = self.others.write();
        if others.len() >= CATALOGS_MAX && !others.contains_key(&name) {
            tracing::warn!(name, limit = CATALOGS_MAX, "catalog not registered: the session has too many");
            return None;
        }
        others.insert(name, catalog)
    }

    fn catalog_names(&self) -> Vec<String> {
        self.names()
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        self.others.read().get(name).cloned()
    }
}

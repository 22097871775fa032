//! Tables of streams that only one session knows.

use std::collections::BTreeMap;

use parking_lot::RwLock;
use tereza_runtime::{Error, Result};

use crate::flink::StreamTable;

/// The most of them in one session.
const TEMPORARY_MAX: usize = 1_000;

/// Schema and name of a table in the user's catalog, in lower case.
pub(crate) type StreamName = (String, String);

/// The temporary tables of a session. A name means them before any table of the catalog.
#[derive(Debug, Default)]
pub(crate) struct TemporaryStreams(RwLock<BTreeMap<StreamName, StreamTable>>);

impl TemporaryStreams {
    /// The table of this name.
    pub(crate) fn get(&self, schema: &str, table: &str) -> Option<StreamTable> {
        let tables = self.0.read();
        if tables.is_empty() {
            return None;
        }
        tables.get(&(schema.to_lowercase(), table.to_lowercase())).cloned()
    }

    /// Keeps a table; false if there is one of this name.
    pub(crate) fn add(&self, schema: &str, table: &str, definition: StreamTable) -> Result<bool> {
        let mut tables = self.0.write();
        let name = (schema.to_lowercase(), table.to_lowercase());
        if tables.contains_key(&name) {
            return Ok(false);
        }
        if tables.len() >= TEMPORARY_MAX {
            return Err(Error::resource_exhausted(format!("a session has at most {TEMPORARY_MAX} temporary streams"))
                .with_hint("drop some, or make them in the catalog"));
        }
        tables.insert(name, definition);
        Ok(true)
    }

    /// Forgets a table; false if there is none.
    pub(crate) fn remove(&self, schema: &str, table: &str) -> bool {
        self.0.write().remove(&(schema.to_lowercase(), table.to_lowercase())).is_some()
    }

    /// Names of the tables of a schema, sorted.
    pub(crate) fn names(&self, schema: &str) -> Vec<String> {
        let schema = schema.to_lowercase();
        self.0.read().keys().filter(|(of, _)| *of == schema).map(|(_, table)| table.clone()).collect()
    }
}

/// Options that stand for a table's own in one statement, by table.
pub(crate) type OptionHints = BTreeMap<StreamName, BTreeMap<String, String>>;

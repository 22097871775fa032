//! Tables as they were last read, for as long as nobody commits anything to the file.
//!
//! Planning a statement asks for each of its tables four times. SQLite tells in one small statement, `PRAGMA data_version`,
//! whether any other connection, of this process or of another, committed since it was asked on the same connection: so one
//! connection does nothing but ask, and what was read after an answer holds as long as the answer stays the same.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use sqlx::{SqlitePool, query_scalar};

use crate::model::ColumnStatistics;
use crate::store::{Commit, VersionedTable, names};

/// Columns of all tables that are kept, at most; then the tables are forgotten and read anew.
const COLUMNS_MAX: usize = 20_000;

/// A table with all that readers ask for but its partitions, from one transaction.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) table: VersionedTable,
    /// Commits that are not rolled forward, oldest first.
    pub(super) pending: Vec<Commit>,
    /// Of the table's columns.
    pub(super) statistics: Vec<ColumnStatistics>,
}

/// The state of the file at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp(i64);

/// The tables of one file.
#[derive(Debug)]
pub(super) struct Cache {
    /// The one connection that asks. It never reads a table and never writes.
    watcher: SqlitePool,
    kept: Mutex<Option<Kept>>,
}

#[derive(Debug)]
struct Kept {
    stamp: Stamp,
    /// By the names, in lower case, of database and table.
    tables: HashMap<(String, String), Arc<Known>>,
    columns: usize,
}

impl Cache {
    /// An empty cache; `watcher` is a pool of exactly one connection that nobody else uses.
    pub(super) fn new(watcher: SqlitePool) -> Self {
        Self { watcher, kept: Mutex::default() }
    }

    pub(super) async fn close(&self) {
        self.watcher.close().await;
    }

    /// The state of the file now.
    pub(super) async fn stamp(&self) -> sqlx::Result<Stamp> {
        query_scalar("PRAGMA data_version").fetch_one(&self.watcher).await.map(Stamp)
    }

    /// The table, if it was read in this state of the file.
    pub(super) fn get(&self, stamp: Stamp, database: &str, table: &str) -> Option<Arc<Known>> {
        let mut kept = self.kept.lock();
        match kept.as_ref() {
            Some(kept) if kept.stamp == stamp => kept.tables.get(&key(database, table)).cloned(),
            _ => {
                *kept = Some(Kept { stamp, tables: HashMap::new(), columns: 0 });
                None
            }
        }
    }

    /// Keeps a table that was read after the file had this state.
    pub(super) fn put(&self, stamp: Stamp, database: &str, table: &str, known: &Arc<Known>) {
        let mut kept = self.kept.lock();
        let Some(kept) = kept.as_mut().filter(|kept| kept.stamp == stamp) else { return };
        let columns = known.table.table.storage.columns.len() + known.statistics.len();
        if kept.columns + columns > COLUMNS_MAX {
            kept.tables.clear();
            kept.columns = 0;
        }
        if kept.tables.insert(key(database, table), Arc::clone(known)).is_none() {
            kept.columns += columns;
        }
    }
}

fn key(database: &str, table: &str) -> (String, String) {
    (names::fold(database), names::fold(table))
}

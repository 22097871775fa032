//! The embedded catalog: the tables of Hive Metastore 3.1 in one SQLite file, with nothing else to run.
//!
//! One connection writes, in `BEGIN IMMEDIATE` transactions that wait for each other; a few read, each from a snapshot that
//! no writer disturbs (write-ahead log). What is acknowledged survives a loss of power (`synchronous = FULL`). Several
//! processes may open one file: SQLite's locks order their transactions, and none is ever seen by half.
//!
//! What was read of a table holds until anybody commits to the file (`cache`), this process or another.
//!
//! Ids are taken inside the transaction that uses them. With one writer at a time that is as good as the separate
//! transaction that metastores on MySQL use, and it leaves no gaps.

pub(super) mod beside;
mod cache;
mod dialect;
mod error;
mod open;
mod schema;
#[path = "../sql/mod.rs"]
mod sql;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use sqlx::{SqlitePool, Transaction};
use tereza_runtime::clock::Clock;
use tereza_runtime::{Error, Result};

use self::cache::{Cache, Known};
use self::dialect::Db;
use self::sql::statistics::{self, Owner};
use self::sql::{commits, tables, transactions};
use super::{PartitionFilter, Snapshot, VersionedTable};
use crate::model::{Column, ColumnStatistics};

/// A catalog in a SQLite file.
///
/// Cheap to clone; all clones share the connections. [`SqliteStore::close`] is polite, not needed: what was committed is
/// there at the next opening, whatever happened to the process.
#[derive(Debug, Clone)]
pub struct SqliteStore {
    /// The one connection that writes.
    writer: SqlitePool,
    /// The connections that read; in memory, the writer.
    readers: SqlitePool,
    /// What was read before; none in memory.
    cache: Option<Arc<Cache>>,
    clock: Clock,
    /// The file, for errors.
    file: Arc<str>,
}

impl SqliteStore {
    /// Ends all connections, after those in use are given back, and leaves one tidy file.
    pub async fn close(&self) {
        if let Some(cache) = &self.cache {
            cache.close().await;
        }
        self.readers.close().await;
        self.writer.close().await;
    }

    async fn begin_read(&self) -> Result<Transaction<'static, Db>> {
        self.readers.begin().await.map_err(|error| self.database_error(error))
    }

    async fn begin_change(&self) -> Result<Transaction<'static, Db>> {
        self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(|error| self.database_error(error))
    }

    /// Commits if all went well, else rolls back.
    async fn end<T>(&self, transaction: Transaction<'static, Db>, outcome: sql::Result<T>) -> Result<T> {
        match outcome {
            Ok(value) => match transaction.commit().await {
                Ok(()) => Ok(value),
                Err(error) => Err(self.database_error(error)),
            },
            Err(failure) => {
                // A failed rollback changes nothing for the caller: SQLite drops what is not committed with the connection.
                if let Err(error) = transaction.rollback().await {
                    tracing::warn!(file = %self.file, %error, "cannot roll back");
                }
                Err(match failure {
                    sql::Failure::Refused(error) => error,
                    sql::Failure::Database(error) => self.database_error(error),
                })
            }
        }
    }

    async fn read_table(&self, database: &str, table: &str) -> Result<VersionedTable> {
        self.known(database, table).await.map(|known| known.table.clone())
    }

    async fn read_keys(&self, database: &str, table: &str) -> Result<Vec<Column>> {
        self.known(database, table).await.map(|known| known.table.table.partition_keys.clone())
    }

    async fn read_version(&self, database: &str, table: &str) -> Result<i64> {
        self.known(database, table).await.map(|known| known.table.version)
    }

    async fn read_statistics(&self, database: &str, table: &str) -> Result<Vec<ColumnStatistics>> {
        self.known(database, table).await.map(|known| known.statistics.clone())
    }

    async fn read_snapshot(&self, database: &str, table: &str, filter: &PartitionFilter) -> Result<Snapshot> {
        let known = self.known(database, table).await?;
        if known.table.table.partition_keys.is_empty() {
            return Ok(Snapshot { table: known.table.clone(), partitions: Vec::new(), pending: known.pending.clone() });
        }
        dialect::read!(self, conn => transactions::snapshot(conn, database, table, filter))
    }

    /// A table with what readers ask for, out of the cache if nothing was committed to the file since.
    async fn known(&self, database: &str, table: &str) -> Result<Arc<Known>> {
        let Some(cache) = &self.cache else { return self.read(database, table).await };
        let stamp = cache.stamp().await.map_err(|error| self.database_error(error))?;
        if let Some(known) = cache.get(stamp, database, table) {
            return Ok(known);
        }
        let known = self.read(database, table).await?;
        cache.put(stamp, database, table, &known);
        Ok(known)
    }

    async fn read(&self, database: &str, table: &str) -> Result<Arc<Known>> {
        dialect::read!(self, conn => async {
            let (head, table) = tables::load(conn, database, table).await?;
            let pending = commits::pending_of(conn, head.id).await?;
            let statistics = statistics::load(conn, &head, Owner::Table).await?;
            Ok(Arc::new(Known { table, pending, statistics }))
        })
    }

    fn database_error(&self, error: sqlx::Error) -> Error {
        error::explain(&self.file, error)
    }
}

//! The catalog in MySQL or MariaDB: the tables of Hive Metastore 3.1 in a database that a metastore and other processes
//! of Tereza may use at the same time.
//!
//! **Reads** are transactions at REPEATABLE READ: all that a call returns is of one moment. Nothing is kept between
//! calls, since neither MySQL nor a metastore says cheaply that something changed: so no reader ever gets what is not
//! true any more.
//!
//! **Changes** are transactions at READ COMMITTED, the level at which a metastore writes: a statement sees what is
//! committed when it runs, so what is read after waiting for a lock is what the one before wrote (a transaction at
//! REPEATABLE READ would go on with what it saw before it waited), and no gaps between rows are locked. Lost updates
//! are kept out by row locks: a change of a table begins by locking its row (`dialect::lock_table`), records of
//! Tereza's own are read `FOR UPDATE`, and the locks of clients are compared under the metastore's mutex. Two that make
//! the same name are told apart by unique keys.
//!
//! A transaction that surely did not happen is tried again, a bounded number of times, after a deadlock, a lock that
//! was not given up in time, a key that another took first, or a lost connection (`retry`). If the connection is lost
//! while a commit is under way nobody knows, and the caller hears so.
//!
//! Files in reading order: `open` (settings, connections), `schema` (what is in the database), `dialect` (transactions
//! and locks), `ids`, `retry`, `error`.

mod dialect;
mod error;
mod ids;
mod open;
mod retry;
mod schema;
#[expect(clippy::duplicate_mod, reason = "`store/sql` is compiled once for each database; its documentation says why")]
#[path = "../sql/mod.rs"]
mod sql;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use sqlx::MySqlPool;
use tereza_runtime::clock::Clock;
use tereza_runtime::{Error, Result};

use self::dialect::Connection;
use self::ids::Ids;
pub use self::open::Settings;
use self::retry::Failure;
use self::sql::transactions;
use super::{PartitionFilter, Snapshot, VersionedTable};
use crate::model::{Column, ColumnStatistics};

/// A catalog in a database of MySQL or MariaDB.
///
/// Cheap to clone; all clones share the connections. If the server goes away, each call waits for it as long as
/// [`Settings::connect_timeout`] says and fails with `Unavailable`; when it is back, calls succeed again.
#[derive(Clone)]
pub struct MySqlStore {
    readers: MySqlPool,
    writers: MySqlPool,
    ids: Arc<Ids>,
    clock: Clock,
    connect_timeout: Duration,
    transaction_timeout: Duration,
    /// The URL without user and password, for errors.
    name: Arc<str>,
}

impl fmt::Debug for MySqlStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MySqlStore").field("name", &self.name).finish_non_exhaustive()
    }
}

impl MySqlStore {
    /// Ends all connections, after those in use are given back.
    pub async fn close(&self) {
        self.ids.close().await;
        self.readers.close().await;
        self.writers.close().await;
    }

    async fn begin_read(&self) -> std::result::Result<Connection, Failure> {
        let begun = self.readers.begin_with("START TRANSACTION READ ONLY").await;
        begun.map(|transaction| Connection::new(transaction, Arc::clone(&self.ids))).map_err(Failure::NotDone)
    }

    async fn begin_change(&self) -> std::result::Result<Connection, Failure> {
        let begun = self.writers.begin().await;
        begun.map(|transaction| Connection::new(transaction, Arc::clone(&self.ids))).map_err(Failure::NotDone)
    }

    /// Commits if all went well, else rolls back.
    async fn end<T>(&self, connection: Connection, outcome: sql::Result<T>) -> std::result::Result<T, Failure> {
        let transaction = connection.into_transaction();
        match outcome {
            Ok(value) => match transaction.commit().await {
                Ok(()) => Ok(value),
                // The server refused it, as in a deadlock: then it did not happen. Else nobody knows.
                Err(error) if error.as_database_error().is_some() => Err(Failure::NotDone(error)),
                Err(error) => Err(Failure::Unknown(error)),
            },
            Err(failure) => {
                // A failed rollback changes nothing for the caller: what is not committed goes with the connection.
                if let Err(error) = transaction.rollback().await {
                    tracing::debug!(catalog = %self.name, %error, "cannot roll back");
                }
                Err(match failure {
                    sql::Failure::Refused(error) => Failure::Refused(error),
                    sql::Failure::Database(error) => Failure::NotDone(error),
                })
            }
        }
    }

    /// Ends an attempt at a transaction that takes too long.
    async fn bounded<T>(
        &self,
        attempt: impl Future<Output = std::result::Result<T, Failure>>,
    ) -> std::result::Result<T, Failure> {
        tokio::time::timeout(self.transaction_timeout, attempt).await.unwrap_or(Err(Failure::TooLate))
    }

    fn explain(&self, failure: Failure) -> Error {
        match failure {
            Failure::Refused(error) => error,
            Failure::NotDone(error) => self.driver_error(error),
            Failure::Unknown(error) => {
                let message = format!(
                    "the connection to catalog '{}' broke while a change was being committed: whether it was is not known",
                    self.name
                );
                Error::unavailable(message).with_source(error)
            }
            Failure::TooLate => Error::unavailable(format!(
                "catalog '{}' did not answer within {:?}: whether what was asked for was done is not known",
                self.name, self.transaction_timeout
            )),
        }
    }

    async fn read_table(&self, database: &str, table: &str) -> Result<VersionedTable> {
        dialect::read!(self, conn => async { sql::tables::load(conn, database, table).await.map(|(_, table)| table) })
    }

    async fn read_keys(&self, database: &str, table: &str) -> Result<Vec<Column>> {
        dialect::read!(self, conn => async {
            let head = sql::tables::find(conn, database, table).await?;
            sql::tables::partition_keys(conn, head.id).await
        })
    }

    async fn read_version(&self, database: &str, table: &str) -> Result<i64> {
        dialect::read!(self, conn => async { sql::tables::find(conn, database, table).await.map(|head| head.version) })
    }

    async fn read_statistics(&self, database: &str, table: &str) -> Result<Vec<ColumnStatistics>> {
        dialect::read!(self, conn => transactions::column_statistics(conn, database, table, None))
    }

    async fn read_snapshot(&self, database: &str, table: &str, filter: &PartitionFilter) -> Result<Snapshot> {
        dialect::read!(self, conn => transactions::snapshot(conn, database, table, filter))
    }
}

//! What the methods of the store do to the tables of Hive Metastore 3.1, as functions over one open transaction.
//!
//! The statements are plain SQL that SQLite and MySQL both understand (reserved words stand in backticks), typed here by
//! two aliases. What a dialect does in its own way (opening, locking, DDL, errors) is not here but in `store/sqlite`.
//! Nothing here retries, commits or rolls back: whoever began the transaction does.

pub(crate) mod commits;
pub(crate) mod databases;
pub(crate) mod functions;
pub(crate) mod ids;
pub(crate) mod jobs;
pub(crate) mod locks;
pub(crate) mod parameters;
pub(crate) mod partitions;
pub(crate) mod rows;
pub(crate) mod statistics;
pub(crate) mod storage;
pub(crate) mod tables;
pub(crate) mod transactions;
pub(crate) mod versions;
pub(crate) mod writes;

/// The database driver.
pub(crate) type Db = sqlx::Sqlite;
/// One open transaction.
pub(crate) type Connection = sqlx::SqliteConnection;

/// Why a transaction did not happen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The catalog's rules refused it.
    #[error(transparent)]
    Refused(#[from] tereza_runtime::Error),
    /// The database failed; the dialect knows what its error means.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// Shorthand for what the functions here return.
pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// The metastore's name of the one catalog that databases belong to (`CTLGS.NAME`).
pub(crate) const CATALOG: &str = "hive";

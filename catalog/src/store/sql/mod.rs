//! What the methods of the store do to the tables of Hive Metastore 3.1, as functions over one open transaction.
//!
//! The statements are plain SQL that SQLite and MySQL both understand (reserved words stand in backticks). The folder
//! is **compiled once for each database**, as `store::sqlite::sql` and as `store::mysql::sql`, and takes its types and
//! the few differences from the `dialect` beside it: rows and connections of the driver have a type for each database,
//! and code generic over both would name a dozen bounds at every function, where this names none. So whatever is
//! changed here is changed for both, and what a database does in its own way (opening, ids, DDL, errors) is not here.
//!
//! Nothing here but `methods` and `schema_methods` begins, commits or rolls back: whoever began the transaction does.

pub(crate) mod commits;
pub(crate) mod constraints;
pub(crate) mod databases;
pub(crate) mod functions;
pub(crate) mod ids;
pub(crate) mod jobs;
pub(crate) mod locks;
mod methods;
pub(crate) mod notifications;
pub(crate) mod owners;
pub(crate) mod parameters;
pub(crate) mod partitions;
pub(crate) mod privileges;
pub(crate) mod properties;
pub(crate) mod removals;
pub(crate) mod roles;
pub(crate) mod rows;
mod schema_methods;
pub(crate) mod schemas;
pub(crate) mod skewed;
pub(crate) mod statistics;
pub(crate) mod storage;
pub(crate) mod tables;
pub(crate) mod transactions;
pub(crate) mod versions;
pub(crate) mod writes;

use super::dialect::{Connection, Db};

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

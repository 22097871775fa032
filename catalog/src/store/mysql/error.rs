//! What MySQL's errors mean to the caller, and which of them may pass. Every message names the database.

use sqlx::mysql::MySqlDatabaseError;
use tereza_runtime::{Error, ErrorKind};

/// Numbers of errors, the same in MySQL and MariaDB (<https://mariadb.com/docs/server/reference/error-codes>).
mod code {
    pub(super) const CANNOT_CREATE_TABLE: u16 = 1005;
    pub(super) const DISK_FULL: u16 = 1021;
    pub(super) const TOO_MANY_CONNECTIONS: u16 = 1040;
    pub(super) const DATABASE_DENIED: u16 = 1044;
    pub(super) const USER_DENIED: u16 = 1045;
    pub(super) const DATABASE_MISSING: u16 = 1049;
    pub(super) const SERVER_SHUTDOWN: u16 = 1053;
    pub(super) const DUPLICATE_ENTRY: u16 = 1062;
    pub(super) const TABLE_FULL: u16 = 1114;
    pub(super) const TABLE_DENIED: u16 = 1142;
    pub(super) const PACKET_TOO_LARGE: u16 = 1153;
    pub(super) const SHUTTING_DOWN_NORMALLY: u16 = 1079;
    pub(super) const LOCK_WAIT: u16 = 1205;
    pub(super) const DEADLOCK: u16 = 1213;
    pub(super) const OUT_OF_RANGE: u16 = 1264;
    pub(super) const MIXED_COLLATIONS_OF_2: u16 = 1267;
    pub(super) const MIXED_COLLATIONS_OF_3: u16 = 1270;
    pub(super) const MIXED_COLLATIONS: u16 = 1271;
    pub(super) const READ_ONLY: u16 = 1290;
    pub(super) const QUERY_INTERRUPTED: u16 = 1317;
    pub(super) const WRONG_VALUE: u16 = 1366;
    pub(super) const TOO_LONG: u16 = 1406;
    pub(super) const PARENT_IN_USE: u16 = 1451;
    pub(super) const PARENT_MISSING: u16 = 1452;
    pub(super) const READ_ONLY_SERVER: u16 = 1836;
    pub(super) const CONNECTION_KILLED: u16 = 1927;
    pub(super) const ROW_TOO_LARGE: u16 = 1118;
    pub(super) const CANNOT_CONVERT: u16 = 3988;
}

/// Whether trying again may help after an error that left nothing behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Others were in the way, or dropped what a row belongs to.
    Passing,
    /// The connection broke, or there is none.
    Lost,
    /// A row that is there already: what another transaction made meanwhile. The next attempt sees it and says what it
    /// means, unless what the catalog takes for two keys is one for the database.
    Key,
    /// Anything else.
    Lasting,
}

/// What kind of trouble an error is.
pub(super) fn trouble(error: &sqlx::Error) -> Trouble {
    if let Some(number) = number(error) {
        return match number {
            code::DEADLOCK | code::LOCK_WAIT | code::PARENT_IN_USE | code::PARENT_MISSING => Trouble::Passing,
            code::SERVER_SHUTDOWN
            | code::SHUTTING_DOWN_NORMALLY
            | code::CONNECTION_KILLED
            | code::TOO_MANY_CONNECTIONS => Trouble::Lost,
            code::DUPLICATE_ENTRY => Trouble::Key,
            _ => Trouble::Lasting,
        };
    }
    // A broken connection: the driver says so by what it failed to read.
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::BeginFailed => Trouble::Lost,
        _ => Trouble::Lasting,
    }
}

/// The number of an error of the server.
pub(super) fn number(error: &sqlx::Error) -> Option<u16> {
    error.as_database_error()?.try_downcast_ref::<MySqlDatabaseError>().map(MySqlDatabaseError::number)
}

/// Turns an error of the driver into one for the caller; `database` is its URL without user and password.
pub(super) fn explain(database: &str, error: sqlx::Error) -> Error {
    let (kind, message) = match &error {
        sqlx::Error::Database(detail) => from_number(database, number(&error).unwrap_or_default(), detail.message()),
        sqlx::Error::PoolTimedOut => (
            ErrorKind::Unavailable,
            format!("catalog '{database}' does not answer: no connection to it could be had in time"),
        ),
        sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
            (ErrorKind::Unavailable, format!("catalog '{database}' is closed"))
        }
        sqlx::Error::Io(io) => (ErrorKind::Unavailable, format!("cannot reach catalog '{database}': {io}")),
        sqlx::Error::Tls(detail) => {
            (ErrorKind::Unavailable, format!("cannot reach catalog '{database}' over TLS: {detail}"))
        }
        sqlx::Error::Protocol(detail) => {
            (ErrorKind::Unavailable, format!("the connection to catalog '{database}' broke: {detail}"))
        }
        other => (ErrorKind::Internal, format!("catalog '{database}' failed: {other}")),
    };
    Error::new(kind, message).with_source(error)
}

fn from_number(database: &str, number: u16, detail: &str) -> (ErrorKind, String) {
    let failed = || format!("catalog '{database}' failed ({number}): {detail}");
    match number {
        code::DEADLOCK | code::LOCK_WAIT => (
            ErrorKind::Unavailable,
            format!("catalog '{database}' is busy: others kept what was needed locked ({detail})"),
        ),
        code::TOO_MANY_CONNECTIONS
        | code::SERVER_SHUTDOWN
        | code::SHUTTING_DOWN_NORMALLY
        | code::CONNECTION_KILLED
        | code::QUERY_INTERRUPTED => (ErrorKind::Unavailable, failed()),
        code::DISK_FULL | code::TABLE_FULL => {
            (ErrorKind::ResourceExhausted, format!("the disk of catalog '{database}' is full: {detail}"))
        }
        code::PACKET_TOO_LARGE => (
            ErrorKind::ResourceExhausted,
            format!("a value is too big for catalog '{database}': raise its max_allowed_packet ({detail})"),
        ),
        code::DATABASE_DENIED | code::USER_DENIED | code::TABLE_DENIED => (ErrorKind::Denied, failed()),
        code::READ_ONLY | code::READ_ONLY_SERVER => {
            (ErrorKind::Denied, format!("catalog '{database}' cannot be written: {detail}"))
        }
        code::DATABASE_MISSING => (ErrorKind::NotFound, format!("catalog '{database}' does not exist: {detail}")),
        code::WRONG_VALUE
        | code::CANNOT_CONVERT
        | code::MIXED_COLLATIONS_OF_2
        | code::MIXED_COLLATIONS_OF_3
        | code::MIXED_COLLATIONS => (
            ErrorKind::InvalidInput,
            format!(
                "catalog '{database}' cannot keep, or compare, a text in the character set of its column: {detail}"
            ),
        ),
        code::TOO_LONG | code::OUT_OF_RANGE | code::ROW_TOO_LARGE => {
            (ErrorKind::InvalidInput, format!("a value does not fit catalog '{database}': {detail}"))
        }
        // Only after several attempts: names that the database takes for the same, which ignores spaces at the end.
        code::DUPLICATE_ENTRY => {
            (ErrorKind::AlreadyExists, format!("catalog '{database}' has a row with the same key already: {detail}"))
        }
        code::PARENT_IN_USE | code::PARENT_MISSING => {
            (ErrorKind::Conflict, format!("catalog '{database}' was changed meanwhile: {detail}"))
        }
        code::CANNOT_CREATE_TABLE => {
            (ErrorKind::Internal, format!("catalog '{database}' cannot make a table: {detail}"))
        }
        _ => (ErrorKind::Internal, failed()),
    }
}

//! What SQLite's errors mean to the caller. Every message names the file.

use sqlx::error::DatabaseError;
use tereza_runtime::{Error, ErrorKind};

/// Primary result codes (<https://www.sqlite.org/rescode.html>): the lowest 8 bits of an extended code.
mod code {
    pub(super) const PERM: i32 = 3;
    pub(super) const BUSY: i32 = 5;
    pub(super) const LOCKED: i32 = 6;
    pub(super) const NOMEM: i32 = 7;
    pub(super) const READONLY: i32 = 8;
    pub(super) const IOERR: i32 = 10;
    pub(super) const CORRUPT: i32 = 11;
    pub(super) const FULL: i32 = 13;
    pub(super) const CANTOPEN: i32 = 14;
    pub(super) const TOOBIG: i32 = 18;
    pub(super) const NOTADB: i32 = 26;
}

/// Turns an error of the driver into one for the caller.
pub(super) fn explain(file: &str, error: sqlx::Error) -> Error {
    let (kind, message) = match &error {
        sqlx::Error::Database(database) => from_code(file, database.as_ref()),
        sqlx::Error::PoolTimedOut => {
            (ErrorKind::Unavailable, format!("catalog '{file}' is busy: no connection became free in time"))
        }
        sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
            (ErrorKind::Unavailable, format!("catalog '{file}' is closed"))
        }
        sqlx::Error::Io(io) => (ErrorKind::Unavailable, format!("cannot reach catalog '{file}': {io}")),
        other => (ErrorKind::Internal, format!("catalog '{file}' failed: {other}")),
    };
    Error::new(kind, message).with_source(error)
}

/// Whether another connection was in the way, so that trying again may help.
pub(super) fn is_busy(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| matches!(primary_code(error), code::BUSY | code::LOCKED))
}

fn from_code(file: &str, error: &dyn DatabaseError) -> (ErrorKind, String) {
    let detail = error.message();
    match primary_code(error) {
        code::BUSY | code::LOCKED => {
            (ErrorKind::Unavailable, format!("catalog '{file}' is locked by another process: {detail}"))
        }
        code::FULL => (ErrorKind::ResourceExhausted, format!("the disk of catalog '{file}' is full: free some space")),
        code::NOMEM => (ErrorKind::ResourceExhausted, format!("no memory left for catalog '{file}'")),
        code::TOOBIG => (ErrorKind::InvalidInput, format!("a value is too big for catalog '{file}': {detail}")),
        code::NOTADB => (ErrorKind::InvalidInput, format!("'{file}' is not a catalog: it is no SQLite file")),
        code::CORRUPT => {
            (ErrorKind::Internal, format!("catalog '{file}' is damaged: restore it from a backup ({detail})"))
        }
        code::PERM | code::READONLY => (
            ErrorKind::Denied,
            format!("catalog '{file}' cannot be written: check the permissions of the file and its folder"),
        ),
        code::CANTOPEN => (
            ErrorKind::InvalidInput,
            format!("catalog '{file}' cannot be opened: check that its folder exists and may be written"),
        ),
        code::IOERR => (ErrorKind::Unavailable, format!("reading or writing catalog '{file}' failed: {detail}")),
        _ => (ErrorKind::Internal, format!("catalog '{file}' failed: {detail}")),
    }
}

fn primary_code(error: &dyn DatabaseError) -> i32 {
    error.code().and_then(|code| code.parse::<i32>().ok()).map_or(0, |code| code & 0xff)
}

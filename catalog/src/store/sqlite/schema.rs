//! Finding out what a file holds, filling an empty one, and bringing Tereza's own tables up to date.
//!
//! The metastore's tables are made once and never migrated: their version is the metastore's business. Tereza's own tables
//! (`TZ_…`) have the version in `TZ_VERSION`, brought up step by step.

use sqlx::{Connection as _, query, query_scalar, raw_sql};
use tereza_runtime::{Error, Result as PublicResult};

use super::SqliteStore;
use super::dialect::Connection;
use super::sql::Result;
use crate::store::steps::STEPS;

/// The metastore's tables with the rows that they begin with.
const HIVE_SCHEMA: &str = include_str!("schema.sql");
/// The version of the metastore's schema that Tereza reads and writes.
const HIVE_VERSION: &str = "3.1.0";
/// Names of tables that an error about a foreign file shows.
const SHOWN_TABLES: usize = 5;

/// Makes sure that the file is a catalog of today's version.
pub(super) async fn prepare(store: &SqliteStore) -> PublicResult<()> {
    let mut tx = store.begin_read().await?;
    let state = inspect(&mut tx, &store.file).await;
    if store.end(tx, state).await? == State::Current {
        return Ok(());
    }
    let now_s = store.clock.unix_s();
    let mut tx = store.begin_change().await?;
    let done = bring_up(&mut tx, &store.file, now_s).await;
    store.end(tx, done).await
}

/// What a file holds.
#[derive(Debug, PartialEq, Eq)]
enum State {
    /// Nothing yet.
    Empty,
    /// A metastore's tables, and Tereza's at this version, which is not the last one.
    Behind(usize),
    /// A catalog of today's version.
    Current,
}

async fn inspect(conn: &mut Connection, file: &str) -> Result<State> {
    let tables: Vec<String> =
        query_scalar("SELECT NAME FROM sqlite_master WHERE TYPE = 'table' AND NAME NOT LIKE 'sqlite%' ORDER BY NAME")
            .fetch_all(&mut *conn)
            .await?;
    if tables.is_empty() {
        return Ok(State::Empty);
    }
    let has = |name: &str| tables.iter().any(|table| table.eq_ignore_ascii_case(name));
    if !["VERSION", "DBS", "TBLS", "SDS", "PARTITIONS", "SEQUENCE_TABLE"].into_iter().all(has) {
        let shown = tables.iter().take(SHOWN_TABLES).map(String::as_str).collect::<Vec<_>>().join(", ");
        let message =
            format!("'{file}' is not a catalog: it is a SQLite file with {} other tables ({shown})", tables.len());
        return Err(Error::invalid_input(message).into());
    }
    let hive_version: Option<String> =
        query_scalar("SELECT SCHEMA_VERSION FROM VERSION").fetch_optional(&mut *conn).await?;
    if hive_version.as_deref() != Some(HIVE_VERSION) {
        let found = hive_version.unwrap_or_else(|| "unknown".into());
        let message = format!("'{file}' is a metastore of schema version {found}, but {HIVE_VERSION} is needed");
        return Err(Error::invalid_input(message).into());
    }
    if !has("TZ_VERSION") {
        return Ok(State::Behind(0));
    }
    let version: i64 = query_scalar("SELECT VERSION FROM TZ_VERSION WHERE ID = 1").fetch_one(conn).await?;
    match usize::try_from(version) {
        Ok(version) if version == STEPS.len() => Ok(State::Current),
        Ok(version) if version < STEPS.len() => Ok(State::Behind(version)),
        _ => {
            let message = format!(
                "'{file}' was made by a newer Tereza: its catalog has version {version}, this one knows up to {}",
                STEPS.len()
            );
            Err(Error::invalid_input(message).with_hint("use the newer Tereza").into())
        }
    }
}

/// Does what is missing. It looks again first, because another process may have been faster.
async fn bring_up(conn: &mut Connection, file: &str, now_s: i64) -> Result<()> {
    let version = match inspect(conn, file).await? {
        State::Current => return Ok(()),
        State::Behind(version) => version,
        State::Empty => {
            raw_sql(HIVE_SCHEMA).execute(&mut *conn).await?;
            for update in ["UPDATE ROLES SET CREATE_TIME = ?", "UPDATE GLOBAL_PRIVS SET CREATE_TIME = ?"] {
                query(update).bind(now_s).execute(&mut *conn).await?;
            }
            0
        }
    };
    if version == 0 {
        raw_sql(
            "CREATE TABLE TZ_VERSION (ID INTEGER NOT NULL PRIMARY KEY, VERSION BIGINT NOT NULL);
             INSERT INTO TZ_VERSION (ID, VERSION) VALUES (1, 0);",
        )
        .execute(&mut *conn)
        .await?;
    }
    for step in &STEPS[version..] {
        raw_sql(step.sqlite).execute(&mut *conn).await?;
    }
    let last = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
    query("UPDATE TZ_VERSION SET VERSION = ? WHERE ID = 1").bind(last).execute(&mut *conn).await?;
    // The statements prepared so far know the tables as they were.
    conn.clear_cached_statements().await?;
    Ok(())
}

//! Finding out what a database holds, filling an empty one, and bringing Tereza's own tables up to date.
//!
//! The metastore's tables are made once and never migrated: their version is the metastore's business. Tereza's own
//! tables (`TZ_…`) have the version in `TZ_VERSION`, brought up step by step.
//!
//! MySQL commits with each statement that makes a table, so nothing here is one transaction. Instead it is done under a
//! lock of the server's that goes with the connection, `TZ_VERSION` says before each part that it is begun and after it
//! that it is done, and every statement may be run again: whoever opens a database after a process died in the middle
//! goes on there.

use sqlx::pool::PoolConnection;
use sqlx::{AssertSqlSafe, MySqlConnection, query, query_scalar, raw_sql};
use tereza_runtime::{Error, Result as PublicResult};

use super::dialect::Db;
use super::sql::{Failure, Result};
use super::{MySqlStore, error};
use crate::store::steps::STEPS;

/// The metastore's tables with the rows that they begin with.
const HIVE_SCHEMA: &str = include_str!("schema.sql");
/// The version of the metastore's schema that Tereza reads and writes.
const HIVE_VERSION: &str = "3.1.0";
/// In `TZ_VERSION` while the metastore's tables are being made.
const MAKING: i64 = -1;
/// Names of tables that an error about a foreign database shows.
const SHOWN_TABLES: usize = 5;
/// Seconds to wait while another process makes or changes tables.
const SCHEMA_LOCK_WAIT_S: u32 = 120;
/// Errors of a statement that was done before: a column or a key is there already.
const DONE_BEFORE: [u16; 2] = [1060, 1061];

/// Makes sure that the database is a catalog of today's version.
pub(super) async fn prepare(store: &MySqlStore, create: bool) -> PublicResult<()> {
    let mut conn = store.writers.acquire().await.map_err(|error| store.driver_error(error))?;
    let done = match inspect(&mut conn, &store.name).await {
        Ok(State::Current) => Ok(()),
        Ok(_) => bring_up_alone(&mut conn, store, create).await,
        Err(failure) => Err(failure),
    };
    done.map_err(|failure| match failure {
        Failure::Refused(error) => error,
        Failure::Database(error) => store.driver_error(error),
    })
}

/// Makes sure that the database is a metastore's, and changes nothing.
pub(super) async fn look(store: &MySqlStore) -> PublicResult<()> {
    let mut conn = store.readers.acquire().await.map_err(|error| store.driver_error(error))?;
    match inspect(&mut conn, &store.name).await {
        Ok(State::Current | State::Behind(_)) => Ok(()),
        Ok(State::Empty | State::Begun) => Err(Error::not_found(format!("'{}' holds no catalog", store.name))),
        Err(Failure::Refused(error)) => Err(error),
        Err(Failure::Database(error)) => Err(store.driver_error(error)),
    }
}

/// What a database holds.
#[derive(Debug, PartialEq, Eq)]
enum State {
    /// Nothing yet.
    Empty,
    /// Some of a metastore's tables: whoever began to make them did not end.
    Begun,
    /// A metastore's tables, and Tereza's at this version, which is not the last one.
    Behind(usize),
    /// A catalog of today's version.
    Current,
}

async fn inspect(conn: &mut MySqlConnection, name: &str) -> Result<State> {
    let select =
        "SELECT CAST(TABLE_NAME AS CHAR) FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() ORDER BY 1";
    let tables: Vec<String> = query_scalar(select).fetch_all(&mut *conn).await?;
    if tables.is_empty() {
        return Ok(State::Empty);
    }
    let has = |name: &str| tables.iter().any(|table| table == name);
    let version: Option<i64> = if has("TZ_VERSION") {
        query_scalar("SELECT VERSION FROM TZ_VERSION WHERE ID = 1").fetch_optional(&mut *conn).await?
    } else {
        None
    };
    // The first table of all is this one, and its row follows it.
    if version == Some(MAKING) || tables == ["TZ_VERSION"] {
        return Ok(State::Begun);
    }
    if !["VERSION", "DBS", "TBLS", "SDS", "PARTITIONS", "SEQUENCE_TABLE"].into_iter().all(has) {
        let shown = tables.iter().take(SHOWN_TABLES).map(String::as_str).collect::<Vec<_>>().join(", ");
        let message = format!("'{name}' is not a catalog: it holds {} other tables ({shown})", tables.len());
        return Err(Error::invalid_input(message).into());
    }
    check_hive_version(conn, name).await?;
    let Some(version) = version else { return Ok(State::Behind(0)) };
    match usize::try_from(version) {
        Ok(version) if version == STEPS.len() => Ok(State::Current),
        Ok(version) if version < STEPS.len() => Ok(State::Behind(version)),
        _ => {
            let message = format!(
                "'{name}' was made by a newer Tereza: its catalog has version {version}, this one knows up to {}",
                STEPS.len()
            );
            Err(Error::invalid_input(message).with_hint("use the newer Tereza").into())
        }
    }
}

async fn check_hive_version(conn: &mut MySqlConnection, name: &str) -> Result<()> {
    let found: Option<String> = query_scalar("SELECT SCHEMA_VERSION FROM VERSION").fetch_optional(conn).await?;
    let found = found.unwrap_or_else(|| "unknown".into());
    if found == HIVE_VERSION {
        return Ok(());
    }
    let message = format!("'{name}' is a metastore of schema version {found}, but {HIVE_VERSION} is needed");
    let major: Option<u32> = found.split('.').next().and_then(|major| major.parse().ok());
    let hint = match major {
        Some(..=3) => {
            "back the database up and bring it to 3.1.0 with `schematool -dbType mysql -upgradeSchema` of Hive 3.1; \
             metastores of 3.1 go on with it"
        }
        Some(_) => {
            "a metastore's schema does not go back to 3.1.0: give Tereza an empty database of its own, and make the \
             databases and tables in it anew"
        }
        None => "check the table VERSION",
    };
    Err(Error::invalid_input(message).with_hint(hint).into())
}

/// Does what is missing while no other process does.
async fn bring_up_alone(conn: &mut PoolConnection<Db>, store: &MySqlStore, create: bool) -> Result<()> {
    // The name of a lock is the server's, not the database's, and has at most 64 characters.
    let lock = "SELECT GET_LOCK(CONCAT('tereza ', MD5(DATABASE())), ?)";
    let locked: Option<i64> = query_scalar(lock).bind(SCHEMA_LOCK_WAIT_S).fetch_one(&mut **conn).await?;
    if locked != Some(1) {
        let message = format!("another process is still making the tables of catalog '{}'", store.name);
        return Err(Error::unavailable(message).into());
    }
    let done = bring_up(conn, store, create).await;
    // If it cannot be given back it goes with the connection.
    conn.close_on_drop();
    done
}

/// Does what is missing. It looks again first, because another process may have been faster.
async fn bring_up(conn: &mut MySqlConnection, store: &MySqlStore, create: bool) -> Result<()> {
    let version = match inspect(conn, &store.name).await? {
        State::Current => return Ok(()),
        State::Behind(version) => version,
        State::Empty if !create => {
            let message = format!("'{}' is no catalog yet: the database is empty", store.name);
            let hint = "say that one is to be made in it, or name the database of a Hive Metastore 3.1";
            return Err(Error::not_found(message).with_hint(hint).into());
        }
        State::Empty | State::Begun => {
            make_version_table(conn, MAKING).await?;
            make_hive_tables(conn, store.clock.unix_s()).await?;
            set_version(conn, 0).await?;
            0
        }
    };
    make_version_table(conn, 0).await?;
    make_default_database(conn).await?;
    for (done, step) in (1_i64..).zip(STEPS).skip(version) {
        run(conn, step.mysql).await?;
        set_version(conn, done).await?;
    }
    Ok(())
}

/// Makes `TZ_VERSION` with this version in it, unless it is there.
async fn make_version_table(conn: &mut MySqlConnection, version: i64) -> Result<()> {
    let table = "CREATE TABLE IF NOT EXISTS TZ_VERSION (ID BIGINT NOT NULL, VERSION BIGINT NOT NULL, PRIMARY KEY (ID)) \
                 ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin";
    raw_sql(table).execute(&mut *conn).await?;
    query("INSERT IGNORE INTO TZ_VERSION (ID, VERSION) VALUES (1, ?)").bind(version).execute(conn).await?;
    Ok(())
}

async fn set_version(conn: &mut MySqlConnection, version: i64) -> Result<()> {
    query("UPDATE TZ_VERSION SET VERSION = ? WHERE ID = 1").bind(version).execute(conn).await?;
    Ok(())
}

async fn make_hive_tables(conn: &mut MySqlConnection, now_s: i64) -> Result<()> {
    // Tables may name those that are made after them.
    raw_sql("SET SESSION foreign_key_checks = 0").execute(&mut *conn).await?;
    run(conn, HIVE_SCHEMA).await?;
    raw_sql("SET SESSION foreign_key_checks = 1").execute(&mut *conn).await?;
    for update in ["UPDATE ROLES SET CREATE_TIME = ?", "UPDATE GLOBAL_PRIVS SET CREATE_TIME = ?"] {
        query(update).bind(now_s).execute(&mut *conn).await?;
    }
    Ok(())
}

/// A metastore makes the database that always exists at its first start, which may not have been yet.
async fn make_default_database(conn: &mut MySqlConnection) -> Result<()> {
    let sequence = "INSERT IGNORE INTO SEQUENCE_TABLE (SEQUENCE_NAME, NEXT_VAL) \
                    SELECT 'org.apache.hadoop.hive.metastore.model.MDatabase', COALESCE(MAX(DB_ID), 0) + 1 FROM DBS";
    let present: i64 = query_scalar("SELECT COUNT(*) FROM DBS WHERE NAME = 'default' AND CTLG_NAME = 'hive'")
        .fetch_one(&mut *conn)
        .await?;
    if present > 0 {
        return Ok(());
    }
    query(sequence).execute(&mut *conn).await?;
    let take = "UPDATE SEQUENCE_TABLE SET NEXT_VAL = LAST_INSERT_ID(NEXT_VAL) + 1 \
                WHERE SEQUENCE_NAME = 'org.apache.hadoop.hive.metastore.model.MDatabase'";
    let id = query(take).execute(&mut *conn).await?.last_insert_id();
    let insert = "INSERT INTO DBS (DB_ID, `DESC`, DB_LOCATION_URI, NAME, OWNER_NAME, OWNER_TYPE, CTLG_NAME) \
                  VALUES (?, 'Default Hive database', '', 'default', 'public', 'ROLE', 'hive')";
    query(insert).bind(id).execute(conn).await?;
    Ok(())
}

/// Runs the statements of a file, each ending with a semicolon at the end of a line.
async fn run(conn: &mut MySqlConnection, file: &'static str) -> Result<()> {
    for statement in file.split(";\n").filter(|statement| !statement.trim().is_empty()) {
        // Safe: the files are part of this program.
        match raw_sql(AssertSqlSafe(statement)).execute(&mut *conn).await {
            Err(error) if error::number(&error).is_some_and(|number| DONE_BEFORE.contains(&number)) => {}
            outcome => {
                outcome?;
            }
        }
    }
    Ok(())
}

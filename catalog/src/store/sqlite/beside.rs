//! Records of tables that a metastore elsewhere keeps: how they were last seen, their versions, and commits that are decided
//! here and not yet done there.
//!
//! They are in the same file as the journal, so that a commit is decided by one transaction. `TZ_REMOTE_TABLES` gives a
//! remote table the number that versions and the journal name it by; nothing else about tables is kept.

use serde::{Deserialize, Serialize};
use sqlx::{query, query_as, query_scalar, raw_sql};
use tereza_runtime::{Error, Result};

use super::SqliteStore;
use super::dialect::{Connection, change, read};
pub(crate) use super::sql::commits::Changes;
use super::sql::{self, commits, jobs, versions, writes};
use crate::model::TableKind;
use crate::store::{Commit, Write, names};

/// The tables of this file's own, made when it is first used so.
const SCHEMA: &str = "
-- Whose tables these are, and the name under which this file leaves marks there.
CREATE TABLE IF NOT EXISTS TZ_REMOTE (
  ID INTEGER NOT NULL PRIMARY KEY,
  INSTANCE VARCHAR(64) NOT NULL,
  URL VARCHAR(4000) NOT NULL
);
-- Tables as they were last seen. CREATED_S and STATE are NULL while a commit that makes the table is not done there.
CREATE TABLE IF NOT EXISTS TZ_REMOTE_TABLES (
  TBL_ID INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  DB_NAME VARCHAR(128) NOT NULL,
  TBL_NAME VARCHAR(256) NOT NULL,
  KIND VARCHAR(32) NOT NULL,
  CREATED_S BIGINT,
  STATE CHAR(64),
  LOCATION VARCHAR(4000)
);
CREATE UNIQUE INDEX IF NOT EXISTS TZ_REMOTE_TABLES_NAME ON TZ_REMOTE_TABLES (DB_NAME, TBL_NAME);
-- Commits that are in the journal and not yet done at the metastore.
CREATE TABLE IF NOT EXISTS TZ_REMOTE_COMMITS (
  COMMIT_SEQ INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  COMMIT_ID VARCHAR(128) NOT NULL,
  TBL_ID BIGINT NOT NULL,
  BODY LONGTEXT NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS TZ_REMOTE_COMMITS_ID ON TZ_REMOTE_COMMITS (COMMIT_ID);
CREATE INDEX IF NOT EXISTS TZ_REMOTE_COMMITS_TABLE ON TZ_REMOTE_COMMITS (TBL_ID);
";

/// What tells one state of a table from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) created_s: i64,
    /// A hash of all that matters about it.
    pub(crate) state: String,
    pub(crate) kind: TableKind,
    pub(crate) location: Option<String>,
}

/// What is known here of a table.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) id: i64,
    pub(crate) version: i64,
    pub(crate) created_s: Option<i64>,
    pub(crate) state: Option<String>,
    /// Commits not yet done there, oldest first.
    pub(crate) undone: Vec<Undone>,
    /// Commits that are not rolled forward, oldest first.
    pub(crate) pending: Vec<Commit>,
}

/// A commit that is decided and not yet done at the metastore.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Undone {
    pub(crate) commit: Commit,
    /// Seconds since 1970 when it was decided.
    pub(crate) decided_s: i64,
}

/// Who changed the table that is seen now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Changed {
    /// Somebody, if it is not as it was last seen: then its version goes up.
    ByOthers,
    /// This process just now: its version goes up.
    Here,
    /// This process, in a way that does not count.
    Hardly,
}

impl SqliteStore {
    /// Makes the file one that stands beside the metastore at `url`, and returns the name that it has there.
    pub(crate) async fn stand_beside(&self, url: &str, new_instance: &str) -> Result<String> {
        let file = self.file.clone();
        change!(self, conn => async {
            let tables: i64 = query_scalar("SELECT COUNT(*) FROM TBLS").fetch_one(&mut *conn).await?;
            if tables > 0 {
                let message = format!("'{file}' is a catalog with tables of its own, and cannot be that of a metastore");
                return Err(Error::invalid_input(message).with_hint("choose another folder").into());
            }
            raw_sql(SCHEMA).execute(&mut *conn).await?;
            let known: Option<(String, String)> =
                query_as("SELECT INSTANCE, URL FROM TZ_REMOTE WHERE ID = 1").fetch_optional(&mut *conn).await?;
            let Some((instance, known)) = known else {
                query("INSERT INTO TZ_REMOTE (ID, INSTANCE, URL) VALUES (1, ?, ?)")
                    .bind(new_instance)
                    .bind(url)
                    .execute(conn)
                    .await?;
                return Ok(new_instance.to_owned());
            };
            if known != url {
                let undone: i64 = query_scalar("SELECT COUNT(*) FROM TZ_REMOTE_COMMITS").fetch_one(&mut *conn).await?;
                if undone > 0 {
                    let message = format!("'{file}' has {undone} commits for the metastore at {known}, not for {url}");
                    return Err(Error::invalid_input(message).with_hint("open it once with the former URL").into());
                }
                query("UPDATE TZ_REMOTE SET URL = ? WHERE ID = 1").bind(url).execute(conn).await?;
            }
            Ok(instance)
        })
    }

    /// What is known of a table.
    pub(crate) async fn seen(&self, database: &str, name: &str) -> Result<Option<Seen>> {
        read!(self, conn => seen(conn, database, name))
    }

    /// Notes how a table is now, and returns what is known of it then.
    pub(crate) async fn note(&self, database: &str, name: &str, mark: &Mark, changed: Changed) -> Result<Seen> {
        change!(self, conn => note(conn, database, name, mark, changed))
    }

    /// Moves a table's version on, where it is not known how the table is now.
    pub(crate) async fn move_on(&self, table_id: i64) -> Result<()> {
        change!(self, conn => async {
            query("UPDATE TZ_REMOTE_TABLES SET STATE = '' WHERE TBL_ID = ?").bind(table_id).execute(&mut *conn).await?;
            versions::bump(conn, table_id).await.map(|_| ())
        })
    }

    /// Forgets a table that is not there any more.
    pub(crate) async fn gone(&self, database: &str, name: &str) -> Result<()> {
        change!(self, conn => async {
            match find(conn, database, name).await? {
                Some(row) => end(conn, &row).await,
                None => Ok(()),
            }
        })
    }

    /// Forgets all tables of a database.
    pub(crate) async fn gone_with_database(&self, database: &str) -> Result<()> {
        change!(self, conn => async {
            let rows: Vec<Row> =
                query_as(select!("WHERE t.DB_NAME = ?")).bind(names::fold(database)).fetch_all(&mut *conn).await?;
            for row in rows {
                end(conn, &row).await?;
            }
            Ok(())
        })
    }

    /// Gives a table another name, with its journal.
    pub(crate) async fn renamed(&self, table_id: i64, database: &str, name: &str, mark: &Mark) -> Result<()> {
        change!(self, conn => async {
            let (database, name) = (names::fold(database), names::fold(name));
            // Whoever had the name before is gone.
            if let Some(former) = find(conn, &database, &name).await?.filter(|row| row.0 != table_id) {
                end(conn, &former).await?;
            }
            query("UPDATE TZ_REMOTE_TABLES SET DB_NAME = ?, TBL_NAME = ? WHERE TBL_ID = ?")
                .bind(&database)
                .bind(&name)
                .bind(table_id)
                .execute(&mut *conn)
                .await?;
            keep(conn, table_id, mark).await?;
            commits::rename_table(conn, table_id, &database, &name).await?;
            versions::rename(conn, table_id).await.map(|_| ())
        })
    }

    /// Names of the tables of a database that commits make and that are not there yet.
    pub(crate) async fn unmade(&self, database: &str) -> Result<Vec<String>> {
        let select = "SELECT TBL_NAME FROM TZ_REMOTE_TABLES WHERE DB_NAME = ? AND CREATED_S IS NULL";
        read!(self, conn => async { Ok(query_scalar(select).bind(names::fold(database)).fetch_all(conn).await?) })
    }

    /// Database and name of each table that has commits not yet done.
    pub(crate) async fn tables_with_undone(&self) -> Result<Vec<(String, String)>> {
        let select = "SELECT DISTINCT t.DB_NAME, t.TBL_NAME FROM TZ_REMOTE_COMMITS c \
                      JOIN TZ_REMOTE_TABLES t ON t.TBL_ID = c.TBL_ID ORDER BY t.DB_NAME, t.TBL_NAME";
        read!(self, conn => async { Ok(query_as(select).fetch_all(conn).await?) })
    }

    /// Where tables were when they were last seen.
    pub(crate) async fn seen_locations(&self) -> Result<Vec<String>> {
        let select = "SELECT LOCATION FROM TZ_REMOTE_TABLES WHERE LOCATION IS NOT NULL";
        read!(self, conn => async { Ok(query_scalar(select).fetch_all(conn).await?) })
    }

    /// Commits of a table above `version`, oldest first.
    pub(crate) async fn commits_of(&self, table_id: i64, version: i64) -> Result<Vec<Commit>> {
        read!(self, conn => commits::since(conn, table_id, version))
    }

    /// The version of a commit that is in the journal, and whether the write of another has begun and not ended.
    pub(crate) async fn journaled(&self, commit_id: &str) -> Result<(Option<i64>, bool)> {
        read!(self, conn => async {
            let version = commits::journaled_version(conn, commit_id).await?;
            Ok((version, writes::exists(conn, commit_id).await?))
        })
    }

    /// **The commit point**: puts a commit into the journal and among those to be done at the metastore, ends its write, does
    /// its step, and gives the table its next version. `table_id` is of the table that is there; without one the commit makes
    /// it. Returns the commit as it is journaled, and the write that it ended.
    pub(crate) async fn decide(
        &self,
        commit: &Commit,
        table_id: Option<i64>,
        now_ms: i64,
    ) -> Result<(Undone, Option<Write>)> {
        change!(self, conn => decide(conn, commit, table_id, now_ms))
    }

    /// Undoes the decision on a commit of which nothing was done: its write goes on, and its step is not done.
    pub(crate) async fn withdraw(&self, commit: &Commit, write: Option<&Write>) -> Result<()> {
        change!(self, conn => async {
            query("DELETE FROM TZ_REMOTE_COMMITS WHERE COMMIT_ID = ?").bind(&commit.id).execute(&mut *conn).await?;
            query("DELETE FROM TZ_COMMITS WHERE COMMIT_ID = ?").bind(&commit.id).execute(&mut *conn).await?;
            if let Some(write) = write {
                writes::begin(conn, write).await?;
            }
            if let Some(step) = &commit.step {
                query("UPDATE TZ_JOBS SET STEP = ?, VERSION = VERSION - 1 WHERE JOB_ID = ? AND ATTEMPTS = ? AND STEP = ?")
                    .bind(step.step)
                    .bind(&step.job)
                    .bind(step.attempt)
                    .bind(step.step + 1)
                    .execute(&mut *conn)
                    .await?;
            }
            match find(conn, &commit.database, &commit.table).await? {
                Some(row) if commit.create_table.is_some() => end(conn, &row).await,
                // Nobody has seen the version: whoever expects the one before is right.
                Some(row) => {
                    query("UPDATE TZ_TABLE_VERSIONS SET VERSION = VERSION - 1 WHERE TBL_ID = ? AND VERSION = ?")
                        .bind(row.0)
                        .bind(commit.version)
                        .execute(conn)
                        .await?;
                    Ok(())
                }
                None => Ok(()),
            }
        })
    }

    /// Notes that a commit is done at the metastore, and how the table is now. One that took more than one try moves the
    /// version on once more: somebody may have changed the table in between.
    pub(crate) async fn done(&self, commit: &Commit, mark: &Mark, is_late: bool) -> Result<()> {
        change!(self, conn => async {
            query("DELETE FROM TZ_REMOTE_COMMITS WHERE COMMIT_ID = ?").bind(&commit.id).execute(&mut *conn).await?;
            let Some(row) = find(conn, &commit.database, &commit.table).await? else { return Ok(()) };
            keep(conn, row.0, mark).await?;
            if is_late {
                versions::bump(conn, row.0).await?;
            }
            Ok(())
        })
    }
}

/// Id, created, state, kind and version.
type Row = (i64, Option<i64>, Option<String>, String, Option<i64>);

macro_rules! select {
    ($tail:literal) => {
        concat!(
            "SELECT t.TBL_ID, t.CREATED_S, t.STATE, t.KIND, v.VERSION FROM TZ_REMOTE_TABLES t \
             LEFT JOIN TZ_TABLE_VERSIONS v ON v.TBL_ID = t.TBL_ID ",
            $tail
        )
    };
}
use select;

async fn find(conn: &mut Connection, database: &str, name: &str) -> sql::Result<Option<Row>> {
    let row = query_as(select!("WHERE t.DB_NAME = ? AND t.TBL_NAME = ?"));
    Ok(row.bind(names::fold(database)).bind(names::fold(name)).fetch_optional(conn).await?)
}

async fn seen(conn: &mut Connection, database: &str, name: &str) -> sql::Result<Option<Seen>> {
    let Some((id, created_s, state, _, version)) = find(conn, database, name).await? else { return Ok(None) };
    let bodies: Vec<String> = query_scalar("SELECT BODY FROM TZ_REMOTE_COMMITS WHERE TBL_ID = ? ORDER BY COMMIT_SEQ")
        .bind(id)
        .fetch_all(&mut *conn)
        .await?;
    let (database, table) = (names::fold(database), names::fold(name));
    let mut undone = Vec::with_capacity(bodies.len());
    for body in bodies {
        let mut one: Undone = writes::from_json(&body)?;
        // Under the name that the table has today.
        (one.commit.database, one.commit.table) = (database.clone(), table.clone());
        undone.push(one);
    }
    let pending = commits::pending_of(conn, id).await?;
    Ok(Some(Seen { id, version: version.unwrap_or_default(), created_s, state, undone, pending }))
}

async fn note(conn: &mut Connection, database: &str, name: &str, mark: &Mark, changed: Changed) -> sql::Result<Seen> {
    match find(conn, database, name).await? {
        Some((id, created_s, state, ..)) if created_s.is_none_or(|created_s| created_s == mark.created_s) => {
            let is_other = changed == Changed::Here
                || changed == Changed::ByOthers && state.as_ref().is_some_and(|state| *state != mark.state);
            keep(conn, id, mark).await?;
            if is_other {
                versions::bump(conn, id).await?;
            }
        }
        former => {
            // Another table has the name now.
            if let Some(former) = former {
                end(conn, &former).await?;
            }
            let id = insert(conn, database, name, mark.kind).await?;
            keep(conn, id, mark).await?;
        }
    }
    let known = seen(conn, database, name).await?;
    known.ok_or_else(|| Error::internal("a record of a table is gone").into())
}

async fn insert(conn: &mut Connection, database: &str, name: &str, kind: TableKind) -> sql::Result<i64> {
    let inserted = query("INSERT INTO TZ_REMOTE_TABLES (DB_NAME, TBL_NAME, KIND) VALUES (?, ?, ?)")
        .bind(names::fold(database))
        .bind(names::fold(name))
        .bind(kind.as_str())
        .execute(&mut *conn)
        .await?;
    let id = inserted.last_insert_rowid();
    versions::begin(conn, id).await?;
    Ok(id)
}

async fn keep(conn: &mut Connection, table_id: i64, mark: &Mark) -> sql::Result<()> {
    query("UPDATE TZ_REMOTE_TABLES SET CREATED_S = ?, STATE = ?, KIND = ?, LOCATION = ? WHERE TBL_ID = ?")
        .bind(mark.created_s)
        .bind(&mark.state)
        .bind(mark.kind.as_str())
        .bind(&mark.location)
        .bind(table_id)
        .execute(conn)
        .await?;
    Ok(())
}

/// What the journal says of it ends as the store's rules say, and so does what was to be done.
async fn end(conn: &mut Connection, row: &Row) -> sql::Result<()> {
    let (id, _, _, kind, _) = row;
    query("DELETE FROM TZ_REMOTE_COMMITS WHERE TBL_ID = ?").bind(id).execute(&mut *conn).await?;
    commits::drop_table(conn, *id, TableKind::parse(Some(kind))).await?;
    versions::end(conn, *id).await?;
    query("DELETE FROM TZ_REMOTE_TABLES WHERE TBL_ID = ?").bind(id).execute(conn).await?;
    Ok(())
}

async fn decide(
    conn: &mut Connection,
    commit: &Commit,
    table_id: Option<i64>,
    now_ms: i64,
) -> sql::Result<(Undone, Option<Write>)> {
    let write = writes::find(conn, &commit.id).await?;
    if write.is_none() {
        return Err(Error::not_found(format!("write '{}' has not begun or has ended", commit.id)).into());
    }
    if let Some(step) = &commit.step {
        jobs::do_step(conn, step, now_ms).await?;
    }
    let (database, table) = (names::fold(&commit.database), names::fold(&commit.table));
    let (id, version) = match table_id {
        Some(id) => (id, versions::bump(conn, id).await?),
        None => {
            let kind = commit.create_table.as_ref().map_or(TableKind::Managed, |table| table.kind);
            let id = insert(conn, &database, &table, kind).await?;
            let row = find(conn, &database, &table).await?;
            (id, row.and_then(|row| row.4).unwrap_or_default())
        }
    };
    let journaled = Commit { database, table, version, ..commit.clone() };
    commits::enter(conn, id, &journaled, now_ms).await?;
    let undone = Undone { commit: journaled, decided_s: now_ms.div_euclid(1000) };
    query("INSERT INTO TZ_REMOTE_COMMITS (COMMIT_ID, TBL_ID, BODY) VALUES (?, ?, ?)")
        .bind(&commit.id)
        .bind(id)
        .bind(writes::to_json(&undone)?)
        .execute(&mut *conn)
        .await?;
    writes::end(conn, &commit.id).await?;
    Ok((undone, write))
}

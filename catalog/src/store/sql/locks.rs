//! Locks of the metastore's clients: `HIVE_LOCKS`, one row for each thing that a request locks.
//!
//! A request is all or nothing, and waits in line: whatever was asked for before it and is in its way blocks it, held or
//! not, so nobody starves and no two wait for each other. A lock that its owner did not renew in time is removed by
//! whoever comes next. Rows of transactions (`HL_TXNID`) belong to a metastore that shares the database: they are in the way
//! like others and never removed here.

use std::collections::BTreeMap;

use futures::TryStreamExt;
use sqlx::{QueryBuilder, query, query_scalar};
use tereza_runtime::Error;

use super::super::dialect::lock_locks;
use super::{Connection, Db, Result, rows};
use crate::model::{LockMode, LockPart};
use crate::store::{Lock, LockRequest, names};

/// Things that one request may lock.
const PARTS_MAX: usize = 10_000;
/// Rows of all locks together: a client that takes locks and never gives them back must not make everybody slow.
const ROWS_MAX: i64 = 100_000;
/// `HL_TXNID` of a lock that belongs to no transaction.
const NO_TRANSACTION: i64 = 0;

/// Asks for locks on all parts of a request.
pub(crate) async fn lock(conn: &mut Connection, request: &LockRequest, now_ms: i64, timeout_ms: i64) -> Result<Lock> {
    check_request(request)?;
    lock_locks(conn).await?;
    remove_expired(conn, now_ms, timeout_ms).await?;
    let rows: i64 = query_scalar("SELECT COUNT(*) FROM HIVE_LOCKS").fetch_one(&mut *conn).await?;
    if rows >= ROWS_MAX {
        let message = format!("there are {rows} locks already, at most {ROWS_MAX} are kept");
        return Err(Error::resource_exhausted(message)
            .with_hint("give back those that are not needed, or wait")
            .into());
    }
    // First moved on, which locks the row, then read.
    query("UPDATE NEXT_LOCK_ID SET NL_NEXT = NL_NEXT + 1").execute(&mut *conn).await?;
    let next: i64 = query_scalar("SELECT NL_NEXT FROM NEXT_LOCK_ID").fetch_one(&mut *conn).await?;
    let id = next - 1;
    let parts: Vec<(i64, LockPart)> = (1..).zip(request.parts.iter().map(folded)).collect();
    let into = "INSERT INTO HIVE_LOCKS (HL_LOCK_EXT_ID, HL_LOCK_INT_ID, HL_TXNID, HL_DB, HL_TABLE, HL_PARTITION, HL_LOCK_STATE, \
                HL_LOCK_TYPE, HL_LAST_HEARTBEAT, HL_USER, HL_HOST, HL_AGENT_INFO) ";
    rows::insert(conn, into, 12, &parts, |values, (at, part)| {
        values
            .push_bind(id)
            .push_bind(*at)
            .push_bind(NO_TRANSACTION)
            .push_bind(part.database.clone())
            .push_bind(part.table.clone())
            .push_bind(part.partition.clone())
            .push_bind("w")
            .push_bind(letter(part.mode))
            .push_bind(now_ms)
            .push_bind(request.user.as_str())
            .push_bind(request.host.as_str())
            .push_bind(request.agent.as_deref());
    })
    .await?;
    take(conn, id, now_ms).await
}

/// Renews a lock and takes it if nothing is in the way.
pub(crate) async fn check(conn: &mut Connection, id: i64, now_ms: i64, timeout_ms: i64) -> Result<Lock> {
    lock_locks(conn).await?;
    renew(conn, id, now_ms, timeout_ms).await?;
    take(conn, id, now_ms).await
}

/// Renews a lock.
pub(crate) async fn renew(conn: &mut Connection, id: i64, now_ms: i64, timeout_ms: i64) -> Result<()> {
    remove_expired(conn, now_ms, timeout_ms).await?;
    let renewed = query("UPDATE HIVE_LOCKS SET HL_LAST_HEARTBEAT = ? WHERE HL_LOCK_EXT_ID = ? AND HL_TXNID = ?")
        .bind(now_ms)
        .bind(id)
        .bind(NO_TRANSACTION)
        .execute(conn)
        .await?;
    if renewed.rows_affected() == 0 { Err(missing(id).into()) } else { Ok(()) }
}

/// Gives a lock back.
pub(crate) async fn unlock(conn: &mut Connection, id: i64, now_ms: i64, timeout_ms: i64) -> Result<()> {
    remove_expired(conn, now_ms, timeout_ms).await?;
    let deleted = query("DELETE FROM HIVE_LOCKS WHERE HL_LOCK_EXT_ID = ? AND HL_TXNID = ?")
        .bind(id)
        .bind(NO_TRANSACTION)
        .execute(conn)
        .await?;
    if deleted.rows_affected() == 0 { Err(missing(id).into()) } else { Ok(()) }
}

/// All locks that have not run out, oldest first.
pub(crate) async fn list(conn: &mut Connection, now_ms: i64, timeout_ms: i64) -> Result<Vec<Lock>> {
    let mut statement = select_rows("WHERE HL_TXNID <> 0 OR HL_LAST_HEARTBEAT >= ");
    statement.push_bind(now_ms.saturating_sub(timeout_ms)).push(" ORDER BY HL_LOCK_EXT_ID, HL_LOCK_INT_ID");
    Ok(locks(statement.build_query_as().fetch_all(conn).await?))
}

type Row = (
    i64,
    String,
    Option<String>,
    Option<String>,
    String,
    String,
    Option<String>,
    String,
    String,
    i64,
    Option<i64>,
    Option<i64>,
);

fn select_rows(tail: &str) -> QueryBuilder<Db> {
    QueryBuilder::new(format!(
        "SELECT HL_LOCK_EXT_ID, HL_DB, HL_TABLE, HL_PARTITION, HL_USER, HL_HOST, HL_AGENT_INFO, HL_LOCK_STATE, HL_LOCK_TYPE, \
         HL_LAST_HEARTBEAT, HL_ACQUIRED_AT, HL_BLOCKEDBY_EXT_ID FROM HIVE_LOCKS {tail}"
    ))
}

/// Locks from the rows of their parts.
fn locks(rows: Vec<Row>) -> Vec<Lock> {
    let mut locks: BTreeMap<i64, Lock> = BTreeMap::new();
    for row in rows {
        let (id, database, table, partition, user, host, agent, state, mode, renewed_ms, acquired_ms, blocked_by) = row;
        let part = LockPart { mode: mode_of(&mode), database, table, partition };
        let lock = locks.entry(id).or_insert_with(|| Lock {
            id,
            request: LockRequest { parts: Vec::new(), user, host, agent },
            acquired_ms: if state == "a" { Some(acquired_ms.unwrap_or(renewed_ms)) } else { None },
            renewed_ms,
            blocked_by,
        });
        lock.request.parts.push(part);
    }
    locks.into_values().collect()
}

/// Takes the lock if nothing is in the way, else notes what is.
async fn take(conn: &mut Connection, id: i64, now_ms: i64) -> Result<Lock> {
    let mut own = select_rows("WHERE HL_TXNID = 0 AND HL_LOCK_EXT_ID = ");
    own.push_bind(id).push(" ORDER BY HL_LOCK_INT_ID");
    let Some(mut lock) = locks(own.build_query_as().fetch_all(&mut *conn).await?).pop() else {
        return Err(missing(id).into());
    };
    if lock.acquired_ms.is_some() {
        return Ok(lock);
    }
    lock.blocked_by = first_in_the_way(conn, &lock).await?;
    let update = query(
        "UPDATE HIVE_LOCKS SET HL_LOCK_STATE = ?, HL_ACQUIRED_AT = ?, HL_BLOCKEDBY_EXT_ID = ?, HL_BLOCKEDBY_INT_ID = ? \
         WHERE HL_LOCK_EXT_ID = ? AND HL_TXNID = ?",
    );
    lock.acquired_ms = if lock.blocked_by.is_none() { Some(now_ms) } else { None };
    update
        .bind(if lock.acquired_ms.is_some() { "a" } else { "w" })
        .bind(lock.acquired_ms)
        .bind(lock.blocked_by)
        .bind(lock.blocked_by.map(|_| 1_i64))
        .bind(id)
        .bind(NO_TRANSACTION)
        .execute(conn)
        .await?;
    Ok(lock)
}

/// The oldest lock that is ahead and excludes this one. Of the others only those on the same databases and tables are read.
async fn first_in_the_way(conn: &mut Connection, lock: &Lock) -> Result<Option<i64>> {
    let mut by_database: BTreeMap<&str, Wanted<'_>> = BTreeMap::new();
    for part in &lock.request.parts {
        by_database.entry(&part.database).or_default().add(part);
    }
    let mut first: Option<i64> = None;
    for (database, wanted) in by_database {
        let tables: Vec<&str> = wanted.tables.keys().copied().collect();
        // A lock on all of the database is in the way of, and blocked by, those on any table.
        let all = [Vec::new()];
        let chunks: Vec<&[&str]> = if wanted.whole.is_some() {
            all.iter().map(Vec::as_slice).collect()
        } else {
            tables.chunks(rows::LIST_LEN).collect()
        };
        for tables in chunks {
            let mut statement = QueryBuilder::<Db>::new(
                "SELECT HL_LOCK_EXT_ID, HL_LOCK_TYPE, HL_TABLE, HL_PARTITION FROM HIVE_LOCKS WHERE HL_DB = ",
            );
            statement.push_bind(database).push(" AND HL_LOCK_EXT_ID <> ").push_bind(lock.id);
            statement.push(" AND (HL_LOCK_STATE = 'a' OR HL_LOCK_EXT_ID < ").push_bind(lock.id).push(")");
            if !tables.is_empty() {
                statement.push(" AND (HL_TABLE IS NULL OR HL_TABLE IN ");
                rows::push_list(&mut statement, tables);
                statement.push(")");
            }
            let query = statement.build_query_as::<(i64, String, Option<String>, Option<String>)>();
            let mut others = query.fetch(&mut *conn);
            while let Some((id, mode, table, partition)) = others.try_next().await? {
                let is_in_the_way = wanted.strongest(table.as_deref(), partition.as_deref());
                if is_in_the_way.is_some_and(|mode_wanted| mode_of(&mode).excludes(mode_wanted)) {
                    first = Some(first.map_or(id, |first| first.min(id)));
                }
            }
        }
    }
    Ok(first)
}

/// What a request wants in one database. Of several modes only the strongest counts: it is excluded by whatever excludes
/// the others.
#[derive(Default)]
struct Wanted<'a> {
    any: Option<LockMode>,
    /// Of parts that are all of the database.
    whole: Option<LockMode>,
    tables: BTreeMap<&'a str, OfTable<'a>>,
}

#[derive(Default)]
struct OfTable<'a> {
    any: Option<LockMode>,
    /// Of parts that are all of the table.
    whole: Option<LockMode>,
    partitions: BTreeMap<&'a str, LockMode>,
}

impl<'a> Wanted<'a> {
    fn add(&mut self, part: &'a LockPart) {
        self.any = self.any.max(Some(part.mode));
        let Some(table) = &part.table else {
            self.whole = self.whole.max(Some(part.mode));
            return;
        };
        let table = self.tables.entry(table).or_default();
        table.any = table.any.max(Some(part.mode));
        match &part.partition {
            None => table.whole = table.whole.max(Some(part.mode)),
            Some(partition) => {
                let before = table.partitions.get(partition.as_str()).copied();
                table.partitions.extend(before.max(Some(part.mode)).map(|mode| (partition.as_str(), mode)));
            }
        }
    }

    /// The strongest mode of what overlaps with a thing.
    fn strongest(&self, table: Option<&str>, partition: Option<&str>) -> Option<LockMode> {
        let Some(table) = table else { return self.any };
        let Some(wanted) = self.tables.get(table) else { return self.whole };
        let inner = match partition {
            None => wanted.any,
            Some(partition) => wanted.whole.max(wanted.partitions.get(partition).copied()),
        };
        self.whole.max(inner)
    }
}

async fn remove_expired(conn: &mut Connection, now_ms: i64, timeout_ms: i64) -> Result<()> {
    query("DELETE FROM HIVE_LOCKS WHERE HL_TXNID = ? AND HL_LAST_HEARTBEAT < ?")
        .bind(NO_TRANSACTION)
        .bind(now_ms.saturating_sub(timeout_ms))
        .execute(conn)
        .await?;
    Ok(())
}

fn check_request(request: &LockRequest) -> tereza_runtime::Result<()> {
    if request.parts.is_empty() || request.parts.len() > PARTS_MAX {
        let count = request.parts.len();
        return Err(Error::invalid_input(format!("a request for locks names 1 to {PARTS_MAX} things, not {count}")));
    }
    names::check_chars("the user of a lock", &request.user, names::SHORT_TEXT_CHARS)?;
    names::check_chars("the host of a lock", &request.host, names::SHORT_TEXT_CHARS)?;
    names::check_optional_chars("the agent of a lock", request.agent.as_ref(), names::SHORT_TEXT_CHARS)?;
    for part in &request.parts {
        names::check_chars("the database of a lock", &part.database, names::DATABASE_CHARS)?;
        names::check_optional_chars("the table of a lock", part.table.as_ref(), names::LOCK_TABLE_CHARS)?;
        names::check_optional_chars("the partition of a lock", part.partition.as_ref(), names::PARTITION_NAME_CHARS)?;
    }
    Ok(())
}

fn folded(part: &LockPart) -> LockPart {
    LockPart {
        mode: part.mode,
        database: names::fold(&part.database),
        table: part.table.as_deref().map(names::fold),
        partition: part.partition.clone(),
    }
}

fn missing(id: i64) -> Error {
    Error::not_found(format!("lock {id} does not exist"))
}

/// The metastore's letter.
fn letter(mode: LockMode) -> &'static str {
    match mode {
        LockMode::SharedRead => "r",
        LockMode::SharedWrite => "w",
        LockMode::Exclusive => "e",
    }
}

fn mode_of(letter: &str) -> LockMode {
    match letter {
        "r" => LockMode::SharedRead,
        "w" => LockMode::SharedWrite,
        _ => LockMode::Exclusive,
    }
}

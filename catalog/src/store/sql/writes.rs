//! Writes that have begun and not committed: `TZ_WRITES` and the files that they stage, `TZ_STAGED`.

use std::collections::HashMap;

use sqlx::{query, query_as, query_scalar};
use tereza_runtime::Error;

use super::super::dialect::for_update;
use super::{Connection, Result, owners, rows};
use crate::store::{StagedFile, Write, names};

/// The owner of writes whose table was dropped after they committed: nobody, so anybody may clean up after them.
const NOBODY: &str = "";

/// Begins a write.
pub(crate) async fn begin(conn: &mut Connection, write: &Write) -> Result<()> {
    if write.id.is_empty() || write.owner.is_empty() {
        return Err(Error::invalid_input("a write needs an id and an owner").into());
    }
    names::check_chars("the id of a write", &write.id, names::ID_CHARS)?;
    names::check_chars("the owner of a write", &write.owner, names::OWNER_CHARS)?;
    if exists(conn, &write.id).await? {
        return Err(Error::already_exists(format!("write '{}' has begun already", write.id)).into());
    }
    insert(conn, write).await
}

/// Notes a staged file; nothing happens if it was noted before.
pub(crate) async fn stage(conn: &mut Connection, write_id: &str, file: &StagedFile) -> Result<()> {
    expect_open(conn, write_id).await?;
    let noted: Option<i64> = query_scalar("SELECT 1 FROM TZ_STAGED WHERE WRITE_ID = ? AND PLACE = ? AND TARGET = ?")
        .bind(write_id)
        .bind(&file.staged)
        .bind(&file.target)
        .fetch_optional(&mut *conn)
        .await?;
    if noted.is_none() {
        insert_staged(conn, write_id, std::slice::from_ref(file)).await?;
    }
    Ok(())
}

/// Forgets a write and what it staged; nothing happens if it is not known.
pub(crate) async fn end(conn: &mut Connection, write_id: &str) -> Result<()> {
    for delete in [
        "DELETE FROM TZ_STAGED WHERE WRITE_ID = ?",
        "DELETE FROM TZ_WRITES WHERE WRITE_ID = ?",
        "DELETE FROM TZ_GIVEN_UP WHERE WRITE_ID = ?",
    ] {
        query(delete).bind(write_id).execute(&mut *conn).await?;
    }
    Ok(())
}

type Row = (String, String, String, String, i64);

macro_rules! select_writes {
    ($tail:literal) => {
        concat!("SELECT WRITE_ID, DB_NAME, TBL_NAME, OWNER, BEGAN_MS FROM TZ_WRITES ", $tail)
    };
}

/// One write, if it has begun and not ended.
pub(crate) async fn find(conn: &mut Connection, write_id: &str) -> Result<Option<Write>> {
    let found = query_as(select_writes!("WHERE WRITE_ID = ?")).bind(write_id).fetch_all(&mut *conn).await?;
    Ok(with_files(conn, found).await?.pop())
}

/// Writes of owners that are not alive and not `alive_owner`, oldest first.
pub(crate) async fn abandoned(conn: &mut Connection, alive_owner: &str, now_ms: i64) -> Result<Vec<Write>> {
    let alive = owners::live(conn, now_ms).await?;
    let select = select_writes!("WHERE OWNER <> ? ORDER BY BEGAN_MS, WRITE_ID");
    let mut found: Vec<Row> = query_as(select).bind(alive_owner).fetch_all(&mut *conn).await?;
    found.retain(|(_, _, _, owner, _)| !alive.contains(owner));
    with_files(conn, found).await
}

async fn with_files(conn: &mut Connection, found: Vec<Row>) -> Result<Vec<Write>> {
    let ids: Vec<&str> = found.iter().map(|row| row.0.as_str()).collect();
    let select = "SELECT WRITE_ID, TARGET, PLACE FROM TZ_STAGED WHERE WRITE_ID IN ";
    let files: Vec<(String, String, String)> =
        rows::select_in(conn, select, &ids, " ORDER BY WRITE_ID, TARGET, PLACE").await?;
    let mut by_write: HashMap<String, Vec<StagedFile>> = HashMap::new();
    for (write, target, staged) in files {
        by_write.entry(write).or_default().push(StagedFile { target, staged });
    }
    let write = |(id, database, table, owner, began_ms): Row| {
        let staged = by_write.remove(&id).unwrap_or_default();
        Write { id, database, table, owner, began_ms, staged }
    };
    Ok(found.into_iter().map(write).collect())
}

/// Keeps the staged files of a commit that will not be rolled forward as a write of nobody's.
pub(crate) async fn disown(conn: &mut Connection, mut write: Write) -> Result<()> {
    write.owner = NOBODY.into();
    insert(conn, &write).await
}

/// `NotFound` unless a write has begun, has not ended and was not given up; that stays so to the end of the transaction.
pub(crate) async fn expect_open(conn: &mut Connection, write_id: &str) -> Result<()> {
    if !exists(conn, write_id).await? {
        return Err(Error::not_found(format!("write '{write_id}' has not begun or has ended")).into());
    }
    if owners::is_given_up(conn, write_id).await? {
        let message = format!("write '{write_id}' was given up: its process was not heard of for too long");
        return Err(Error::not_found(message).with_hint("run the statement again").into());
    }
    Ok(())
}

/// Whether a write has begun and not ended, given up or not; that stays so to the end of the transaction.
pub(crate) async fn exists(conn: &mut Connection, write_id: &str) -> Result<bool> {
    let select = for_update!("SELECT 1 FROM TZ_WRITES WHERE WRITE_ID = ?");
    let found: Option<i64> = query_scalar(select).bind(write_id).fetch_optional(conn).await?;
    Ok(found.is_some())
}

/// A record of the journal as JSON.
pub(crate) fn to_json<T: serde::Serialize>(record: &T) -> Result<String> {
    serde_json::to_string(record)
        .map_err(|error| Error::internal("cannot write a record of the catalog as JSON").with_source(error).into())
}

/// A record of the journal from JSON.
pub(crate) fn from_json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| {
        Error::internal(format!("cannot read a record of the catalog: {error}")).with_source(error).into()
    })
}

async fn insert(conn: &mut Connection, write: &Write) -> Result<()> {
    query("INSERT INTO TZ_WRITES (WRITE_ID, DB_NAME, TBL_NAME, OWNER, BEGAN_MS) VALUES (?, ?, ?, ?, ?)")
        .bind(&write.id)
        .bind(names::fold(&write.database))
        .bind(names::fold(&write.table))
        .bind(&write.owner)
        .bind(write.began_ms)
        .execute(&mut *conn)
        .await?;
    insert_staged(conn, &write.id, &write.staged).await
}

async fn insert_staged(conn: &mut Connection, write_id: &str, files: &[StagedFile]) -> Result<()> {
    for file in files {
        names::check_chars("the URL of a staged file", &file.target, names::TEXT_CHARS)?;
        names::check_chars("the place of a staged file", &file.staged, names::TEXT_CHARS)?;
    }
    let into = "INSERT INTO TZ_STAGED (WRITE_ID, PLACE, TARGET) ";
    rows::insert(conn, into, 3, files, |values, file| {
        values.push_bind(write_id).push_bind(file.staged.as_str()).push_bind(file.target.as_str());
    })
    .await
}

//! Versions of tables (`TZ_TABLE_VERSIONS`) for compare-and-set.
//!
//! A table's version goes up by one with each change. Row 0 is the highest version that any dropped or renamed table left
//! behind; a table that gets a name begins above it, so a write prepared on what had the name before never fits.

use sqlx::{query, query_scalar};

use super::super::dialect::for_update;
use super::{Connection, Result};

/// The row that holds what is left behind.
const LEFT_BEHIND: i64 = 0;

/// Gives a new table its first version.
pub(crate) async fn begin(conn: &mut Connection, table_id: i64) -> Result<i64> {
    let version = get(conn, LEFT_BEHIND).await? + 1;
    set(conn, table_id, version).await?;
    Ok(version)
}

/// Moves a table's version on by one.
pub(crate) async fn bump(conn: &mut Connection, table_id: i64) -> Result<i64> {
    let version = get(conn, table_id).await? + 1;
    set(conn, table_id, version).await?;
    Ok(version)
}

/// Moves the version of a table on that has just got another name.
pub(crate) async fn rename(conn: &mut Connection, table_id: i64) -> Result<i64> {
    let old = get(conn, table_id).await?;
    let left_behind = get(conn, LEFT_BEHIND).await?;
    let version = old.max(left_behind) + 1;
    set(conn, table_id, version).await?;
    set(conn, LEFT_BEHIND, left_behind.max(old)).await?;
    Ok(version)
}

/// Forgets a dropped table's version but for what it leaves behind.
pub(crate) async fn end(conn: &mut Connection, table_id: i64) -> Result<()> {
    let left_behind = get(conn, LEFT_BEHIND).await?.max(get(conn, table_id).await?);
    set(conn, LEFT_BEHIND, left_behind).await?;
    query("DELETE FROM TZ_TABLE_VERSIONS WHERE TBL_ID = ?").bind(table_id).execute(conn).await?;
    Ok(())
}

async fn get(conn: &mut Connection, table_id: i64) -> Result<i64> {
    let version: Option<i64> = query_scalar(for_update!("SELECT VERSION FROM TZ_TABLE_VERSIONS WHERE TBL_ID = ?"))
        .bind(table_id)
        .fetch_optional(conn)
        .await?;
    Ok(version.unwrap_or(0))
}

async fn set(conn: &mut Connection, table_id: i64, version: i64) -> Result<()> {
    let updated = query("UPDATE TZ_TABLE_VERSIONS SET VERSION = ? WHERE TBL_ID = ?")
        .bind(version)
        .bind(table_id)
        .execute(&mut *conn)
        .await?;
    if updated.rows_affected() == 0 {
        query("INSERT INTO TZ_TABLE_VERSIONS (TBL_ID, VERSION) VALUES (?, ?)")
            .bind(table_id)
            .bind(version)
            .execute(conn)
            .await?;
    }
    Ok(())
}

//! Processes that write and say that they live, `TZ_OWNERS`, and the writes of those that stopped saying so, `TZ_GIVEN_UP`.

use sqlx::{query, query_scalar};

use super::super::dialect::{for_update, shared_now_ms};
use super::{Connection, Result};
use crate::store::names;

/// Counts an owner as alive for `for_ms` from now. Those who ran out are forgotten, which changes nothing for them.
pub(crate) async fn renew(conn: &mut Connection, owner: &str, for_ms: i64, now_ms: i64) -> Result<()> {
    names::check_chars("the owner of a write", owner, names::OWNER_CHARS)?;
    let now_ms = shared_now_ms(conn, now_ms).await?;
    query("DELETE FROM TZ_OWNERS WHERE OWNER = ? OR UNTIL_MS <= ?")
        .bind(owner)
        .bind(now_ms)
        .execute(&mut *conn)
        .await?;
    query("INSERT INTO TZ_OWNERS (OWNER, UNTIL_MS) VALUES (?, ?)")
        .bind(owner)
        .bind(now_ms.saturating_add(for_ms))
        .execute(conn)
        .await?;
    Ok(())
}

/// Counts an owner as alive no more.
pub(crate) async fn end(conn: &mut Connection, owner: &str) -> Result<()> {
    query("DELETE FROM TZ_OWNERS WHERE OWNER = ?").bind(owner).execute(conn).await?;
    Ok(())
}

/// Who is alive.
pub(crate) async fn live(conn: &mut Connection, now_ms: i64) -> Result<Vec<String>> {
    let now_ms = shared_now_ms(conn, now_ms).await?;
    let select = query_scalar("SELECT OWNER FROM TZ_OWNERS WHERE UNTIL_MS > ? ORDER BY OWNER");
    Ok(select.bind(now_ms).fetch_all(conn).await?)
}

/// Gives up a write whose owner is not alive; whether it is given up now. It holds the write's row, as a commit does: so one
/// of the two is first, and the other knows.
pub(crate) async fn give_up(conn: &mut Connection, write_id: &str, now_ms: i64) -> Result<bool> {
    let select = for_update!("SELECT OWNER FROM TZ_WRITES WHERE WRITE_ID = ?");
    let owner: Option<String> = query_scalar(select).bind(write_id).fetch_optional(&mut *conn).await?;
    let Some(owner) = owner else { return Ok(false) };
    if live(conn, now_ms).await?.contains(&owner) {
        return Ok(false);
    }
    if !is_given_up(conn, write_id).await? {
        query("INSERT INTO TZ_GIVEN_UP (WRITE_ID) VALUES (?)").bind(write_id).execute(conn).await?;
    }
    Ok(true)
}

/// Whether a write was given up.
pub(crate) async fn is_given_up(conn: &mut Connection, write_id: &str) -> Result<bool> {
    let select = "SELECT 1 FROM TZ_GIVEN_UP WHERE WRITE_ID = ?";
    let found: Option<i64> = query_scalar(select).bind(write_id).fetch_optional(conn).await?;
    Ok(found.is_some())
}

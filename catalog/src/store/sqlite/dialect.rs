//! What `store/sql` takes from SQLite: the types of its driver, what a transaction is, and ids. Row locks are nothing
//! here, as one transaction at a time writes.

use sqlx::{AssertSqlSafe, query, query_scalar};

use super::sql::Result;
use super::sql::ids::Sequence;

/// The database driver.
pub(crate) type Db = sqlx::Sqlite;
/// One open transaction.
pub(crate) type Connection = sqlx::SqliteConnection;
/// What the methods of the store are for.
pub(crate) type Catalog = super::SqliteStore;

/// Whether what is at a location is found without reading all (`TZ_SDS_LOCATION`).
pub(crate) const LOCATIONS_HAVE_AN_INDEX: bool = true;

/// Runs a future over `$conn` in a transaction that reads.
macro_rules! read {
    ($store:expr, $conn:ident => $work:expr) => {{
        let mut transaction = $store.begin_read().await?;
        let $conn = &mut *transaction;
        let outcome = $work.await;
        $store.end(transaction, outcome).await
    }};
}

/// Runs a future over `$conn` in the transaction that writes, of which there is one at a time. So none has to be tried
/// again.
macro_rules! change {
    ($store:expr, $conn:ident => $work:expr) => {{
        let mut transaction = $store.begin_change().await?;
        let $conn = &mut *transaction;
        let outcome = $work.await;
        $store.end(transaction, outcome).await
    }};
}

/// The text of a `SELECT` whose rows stay as they are to the end of the transaction.
macro_rules! for_update {
    ($select:literal) => {
        $select
    };
}

pub(crate) use {change, for_update, read};

/// Takes `count` ids in a row, in the transaction that uses them, and returns the first.
pub(crate) async fn take_ids(conn: &mut Connection, sequence: Sequence, count: i64) -> Result<i64> {
    let name = sequence.name();
    let next: Option<i64> = query_scalar("SELECT NEXT_VAL FROM SEQUENCE_TABLE WHERE SEQUENCE_NAME = ?")
        .bind(&name)
        .fetch_optional(&mut *conn)
        .await?;
    if let Some(first) = next {
        query("UPDATE SEQUENCE_TABLE SET NEXT_VAL = NEXT_VAL + ? WHERE SEQUENCE_NAME = ?")
            .bind(count)
            .bind(&name)
            .execute(conn)
            .await?;
        return Ok(first);
    }
    let (table, column) = sequence.place();
    // Safe: both names are constants.
    let greatest: Option<i64> =
        query_scalar(AssertSqlSafe(format!("SELECT MAX({column}) FROM {table}"))).fetch_one(&mut *conn).await?;
    let first = greatest.unwrap_or(0) + 1;
    query("INSERT INTO SEQUENCE_TABLE (SEQUENCE_NAME, NEXT_VAL) VALUES (?, ?)")
        .bind(&name)
        .bind(first + count)
        .execute(conn)
        .await?;
    Ok(first)
}

/// Milliseconds since 1970 by a clock that all who have the catalog go by: that of the one process.
pub(crate) async fn shared_now_ms(_: &mut Connection, now_ms: i64) -> Result<i64> {
    Ok(now_ms)
}

/// Locks the row of a table: nothing to do.
pub(crate) async fn lock_table(_: &mut Connection, _catalog: &str, _database: &str, _table: &str) -> Result<()> {
    Ok(())
}

/// Keeps others from putting something into folders: nothing to do.
pub(crate) async fn hold_removals(_: &mut Connection) -> Result<()> {
    Ok(())
}

/// Keeps others from noting folders for removal: nothing to do.
pub(crate) async fn share_removals(_: &mut Connection) -> Result<()> {
    Ok(())
}

/// Takes the mutex under which locks of clients are compared: nothing to do.
pub(crate) async fn lock_locks(_: &mut Connection) -> Result<()> {
    Ok(())
}

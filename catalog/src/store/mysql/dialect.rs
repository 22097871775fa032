//! What `store/sql` takes from MySQL: the types of its driver, what a transaction is and when it is tried again, row
//! locks, and ids.

use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use sqlx::mysql::{MySqlQueryResult, MySqlRow, MySqlStatement, MySqlTypeInfo};
use sqlx::{Either, Execute, Executor, MySqlConnection, SqlStr, Transaction, query, query_scalar};

use super::ids::Ids;
use super::sql::Result;
use super::sql::ids::Sequence;
use crate::store::names;

/// The database driver.
pub(crate) type Db = sqlx::MySql;
/// What the methods of the store are for.
pub(crate) type Catalog = super::MySqlStore;

/// Whether what is at a location is found without reading all: a metastore's tables are left as they are.
pub(crate) const LOCATIONS_HAVE_AN_INDEX: bool = false;

/// One open transaction, and where the ids of its rows come from, which is not the transaction itself.
#[derive(Debug)]
pub(crate) struct Connection {
    transaction: Transaction<'static, Db>,
    ids: Arc<Ids>,
}

impl Connection {
    pub(super) fn new(transaction: Transaction<'static, Db>, ids: Arc<Ids>) -> Self {
        Self { transaction, ids }
    }

    pub(super) fn into_transaction(self) -> Transaction<'static, Db> {
        self.transaction
    }
}

/// Statements go to the transaction.
impl<'c> Executor<'c> for &'c mut Connection {
    type Database = Db;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, sqlx::Result<Either<MySqlQueryResult, MySqlRow>>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Db>,
    {
        let connection: &'c mut MySqlConnection = &mut self.transaction;
        connection.fetch_many(query)
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, sqlx::Result<Option<MySqlRow>>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Db>,
    {
        let connection: &'c mut MySqlConnection = &mut self.transaction;
        connection.fetch_optional(query)
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [MySqlTypeInfo],
    ) -> BoxFuture<'e, sqlx::Result<MySqlStatement>>
    where
        'c: 'e,
    {
        let connection: &'c mut MySqlConnection = &mut self.transaction;
        connection.prepare_with(sql, parameters)
    }
}

/// Runs a future over `$conn` in a transaction that reads.
macro_rules! read {
    ($store:expr, $conn:ident => $work:expr) => {
        $crate::store::mysql::dialect::run!($store, begin_read, $conn => $work)
    };
}

/// Runs a future over `$conn` in a transaction that writes.
macro_rules! change {
    ($store:expr, $conn:ident => $work:expr) => {
        $crate::store::mysql::dialect::run!($store, begin_change, $conn => $work)
    };
}

/// Runs a future over `$conn` in a transaction, again and again while it surely did not happen and might the next time.
macro_rules! run {
    ($store:expr, $begin:ident, $conn:ident => $work:expr) => {{
        let mut attempts = $crate::store::mysql::retry::Attempts::begin($store.connect_timeout);
        loop {
            let attempt = $store.bounded(async {
                let mut transaction = $store.$begin().await?;
                let $conn = &mut transaction;
                let outcome = $work.await;
                $store.end(transaction, outcome).await
            });
            match attempt.await {
                Ok(value) => break Ok(value),
                Err(failure) => match attempts.next(failure).await {
                    Some(failure) => break Err($store.explain(failure)),
                    None => {}
                },
            }
        }
    }};
}

/// The text of a `SELECT` whose rows stay locked to the end of the transaction, and are as last committed.
macro_rules! for_update {
    ($select:literal) => {
        concat!($select, " FOR UPDATE")
    };
}

pub(crate) use {change, for_update, read, run};

/// Takes `count` ids in a row and returns the first.
pub(crate) async fn take_ids(conn: &mut Connection, sequence: Sequence, count: i64) -> Result<i64> {
    Ok(conn.ids.take(sequence, count).await?)
}

/// Milliseconds since 1970 by a clock that all who have the catalog go by: the database's, in the time zone UTC as is the
/// connection.
pub(crate) async fn shared_now_ms(conn: &mut Connection, _: i64) -> Result<i64> {
    Ok(query_scalar("SELECT CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)").fetch_one(conn).await?)
}

/// Locks the row of a table, if there is one of this name: changes of one table wait for each other, those of different
/// tables do not. A metastore waits too when it changes the row, or adds what points at it, such as a partition.
pub(crate) async fn lock_table(conn: &mut Connection, catalog: &str, database: &str, table: &str) -> Result<()> {
    // The row of the database is read without a lock: it is everybody's.
    let lock = "SELECT TBL_ID FROM TBLS WHERE TBL_NAME = ? AND DB_ID = \
                (SELECT DB_ID FROM DBS WHERE NAME = ? AND CTLG_NAME = ?) FOR UPDATE";
    let _row: Option<i64> = query_scalar(lock)
        .bind(names::fold(table))
        .bind(names::fold(database))
        .bind(catalog)
        .fetch_optional(conn)
        .await?;
    Ok(())
}

/// Waits for all that put something into folders, and keeps others from it to the end of the transaction.
pub(crate) async fn hold_removals(conn: &mut Connection) -> Result<()> {
    let _row: Option<i64> =
        query_scalar("SELECT VERSION FROM TZ_VERSION WHERE ID = 1 FOR UPDATE").fetch_optional(conn).await?;
    Ok(())
}

/// Waits for who notes folders for removal, and keeps others from it to the end of the transaction.
pub(crate) async fn share_removals(conn: &mut Connection) -> Result<()> {
    let _row: Option<i64> =
        query_scalar("SELECT VERSION FROM TZ_VERSION WHERE ID = 1 LOCK IN SHARE MODE").fetch_optional(conn).await?;
    Ok(())
}

/// Takes the mutex that a metastore holds while it compares locks; whoever is first makes its row.
pub(crate) async fn lock_locks(conn: &mut Connection) -> Result<()> {
    let lock = "INSERT INTO AUX_TABLE (MT_KEY1, MT_KEY2) VALUES ('CheckLock', 0) ON DUPLICATE KEY UPDATE MT_KEY2 = 0";
    query(lock).execute(conn).await?;
    Ok(())
}

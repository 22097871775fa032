//! Ids of rows, by the protocol that every metastore on the database follows: `SEQUENCE_TABLE.NEXT_VAL` is the next
//! free id, and a block is taken by moving it on under the lock of its row.
//!
//! The block is taken on a connection of its own and committed before any row with one of its ids is written, as a
//! metastore does: held to the end of a long transaction, the lock would make all other servers wait, and two that wait
//! for each other on two connections each are no deadlock that the database can see. One statement does what a
//! metastore does in two, so the lock lasts no longer than a commit. Ids that are not used, because the transaction did
//! not happen or the process ended, are never given back: that leaves gaps, as a metastore does.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;
use sqlx::{AssertSqlSafe, MySqlPool, query, query_scalar};

use super::sql::ids::Sequence;

/// Ids that are taken at once and then handed out from memory. A metastore takes 5; whoever takes more waits less for
/// disks.
const BLOCK: i64 = 100;

/// The ids that one process has taken and not used yet.
#[derive(Debug)]
pub(super) struct Ids {
    pool: MySqlPool,
    /// By the name of the sequence. Its lock is held while a block is taken: who comes meanwhile takes from it too.
    blocks: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Range<i64>>>>>,
}

impl Ids {
    /// Takes blocks on connections of `pool`, which nobody uses who waits for an id.
    pub(super) fn new(pool: MySqlPool) -> Self {
        Self { pool, blocks: Mutex::default() }
    }

    /// Takes `count` ids in a row and returns the first.
    pub(super) async fn take(&self, sequence: Sequence, count: i64) -> sqlx::Result<i64> {
        let block = Arc::clone(self.blocks.lock().entry(sequence.name()).or_default());
        let mut block = block.lock().await;
        if block.end - block.start < count {
            let size = count.max(BLOCK);
            let first = self.take_block(sequence, size).await?;
            *block = first..first + size;
        }
        let first = block.start;
        block.start += count;
        Ok(first)
    }

    pub(super) async fn close(&self) {
        self.pool.close().await;
    }

    async fn take_block(&self, sequence: Sequence, size: i64) -> sqlx::Result<i64> {
        let name = sequence.name();
        let move_on = "UPDATE SEQUENCE_TABLE SET NEXT_VAL = LAST_INSERT_ID(NEXT_VAL) + ? WHERE SEQUENCE_NAME = ?";
        loop {
            let moved = query(move_on).bind(size).bind(&name).execute(&self.pool).await?;
            if moved.rows_affected() == 1 {
                return Ok(i64::try_from(moved.last_insert_id()).unwrap_or(i64::MAX));
            }
            // The first of all to ask begins above what is there.
            let (table, column) = sequence.place();
            // Safe: both names are constants.
            let greatest: Option<i64> =
                query_scalar(AssertSqlSafe(format!("SELECT MAX({column}) FROM {table}"))).fetch_one(&self.pool).await?;
            let first = greatest.unwrap_or(0) + 1;
            let insert = query("INSERT INTO SEQUENCE_TABLE (SEQUENCE_NAME, NEXT_VAL) VALUES (?, ?)");
            match insert.bind(&name).bind(first + size).execute(&self.pool).await {
                Ok(_) => return Ok(first),
                // Another was faster: its row is there now.
                Err(error) if error.as_database_error().is_some_and(|error| error.is_unique_violation()) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

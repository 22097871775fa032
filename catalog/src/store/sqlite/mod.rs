//! The embedded catalog: the tables of Hive Metastore 3.1 in one SQLite file, with nothing else to run.
//!
//! One connection writes, in `BEGIN IMMEDIATE` transactions that wait for each other; a few read, each from a snapshot that
//! no writer disturbs (write-ahead log). What is acknowledged survives a loss of power (`synchronous = FULL`). Several
//! processes may open one file: SQLite's locks order their transactions, and none is ever seen by half.
//!
//! What was read of a table holds until anybody commits to the file (`cache`), this process or another.
//!
//! Ids are taken inside the transaction that uses them. With one writer at a time that is as good as the separate
//! transaction that metastores on MySQL use, and it leaves no gaps.

mod cache;
mod error;
mod open;
mod schema;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use sqlx::{SqlitePool, Transaction};
use tereza_runtime::clock::Clock;
use tereza_runtime::{Error, Result};

use self::cache::{Cache, Known};
use super::sql::{self, Db, commits, databases, functions, jobs, locks, storage, tables, transactions, writes};
use super::{Commit, Lock, LockRequest, PartitionFilter, Snapshot, StagedFile, Store, VersionedTable, Write};
use crate::model::{ColumnStatistics, Database, Function, Job, Partition, Table, TableKind};

/// A catalog in a SQLite file.
///
/// Cheap to clone; all clones share the connections. [`SqliteStore::close`] is polite, not needed: what was committed is
/// there at the next opening, whatever happened to the process.
#[derive(Debug, Clone)]
pub struct SqliteStore {
    /// The one connection that writes.
    writer: SqlitePool,
    /// The connections that read; in memory, the writer.
    readers: SqlitePool,
    /// What was read before; none in memory.
    cache: Option<Arc<Cache>>,
    clock: Clock,
    /// The file, for errors.
    file: Arc<str>,
}

impl SqliteStore {
    /// Ends all connections, after those in use are given back, and leaves one tidy file.
    pub async fn close(&self) {
        if let Some(cache) = &self.cache {
            cache.close().await;
        }
        self.readers.close().await;
        self.writer.close().await;
    }

    async fn begin_read(&self) -> Result<Transaction<'static, Db>> {
        self.readers.begin().await.map_err(|error| self.database_error(error))
    }

    async fn begin_change(&self) -> Result<Transaction<'static, Db>> {
        self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(|error| self.database_error(error))
    }

    /// Commits if all went well, else rolls back.
    async fn end<T>(&self, transaction: Transaction<'static, Db>, outcome: sql::Result<T>) -> Result<T> {
        match outcome {
            Ok(value) => match transaction.commit().await {
                Ok(()) => Ok(value),
                Err(error) => Err(self.database_error(error)),
            },
            Err(failure) => {
                // A failed rollback changes nothing for the caller: SQLite drops what is not committed with the connection.
                if let Err(error) = transaction.rollback().await {
                    tracing::warn!(file = %self.file, %error, "cannot roll back");
                }
                Err(match failure {
                    sql::Failure::Refused(error) => error,
                    sql::Failure::Database(error) => self.database_error(error),
                })
            }
        }
    }

    /// A table with what readers ask for, out of the cache if nothing was committed to the file since.
    async fn known(&self, database: &str, table: &str) -> Result<Arc<Known>> {
        let Some(cache) = &self.cache else { return self.read(database, table).await };
        let stamp = cache.stamp().await.map_err(|error| self.database_error(error))?;
        if let Some(known) = cache.get(stamp, database, table) {
            return Ok(known);
        }
        let known = self.read(database, table).await?;
        cache.put(stamp, database, table, &known);
        Ok(known)
    }

    async fn read(&self, database: &str, table: &str) -> Result<Arc<Known>> {
        let mut tx = self.begin_read().await?;
        let known = transactions::known(&mut tx, database, table).await;
        self.end(tx, known).await.map(|(table, pending, statistics)| Arc::new(Known { table, pending, statistics }))
    }

    fn database_error(&self, error: sqlx::Error) -> Error {
        error::explain(&self.file, error)
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn databases(&self) -> Result<Vec<String>> {
        let mut tx = self.begin_read().await?;
        let names = databases::list(&mut tx).await;
        self.end(tx, names).await
    }

    async fn database(&self, name: &str) -> Result<Database> {
        let mut tx = self.begin_read().await?;
        let database = databases::load(&mut tx, name).await;
        self.end(tx, database).await
    }

    async fn create_database(&self, database: &Database) -> Result<()> {
        let mut tx = self.begin_change().await?;
        let created = databases::create(&mut tx, database).await;
        self.end(tx, created).await
    }

    async fn alter_database(&self, name: &str, database: &Database) -> Result<()> {
        let mut tx = self.begin_change().await?;
        let altered = databases::alter(&mut tx, name, database).await;
        self.end(tx, altered).await
    }

    async fn drop_database(&self, name: &str, cascade: bool) -> Result<()> {
        let mut tx = self.begin_change().await?;
        let dropped = databases::drop(&mut tx, name, cascade).await;
        self.end(tx, dropped).await
    }

    async fn tables(&self, database: &str) -> Result<Vec<(String, TableKind)>> {
        let mut tx = self.begin_read().await?;
        let tables = tables::list(&mut tx, database).await;
        self.end(tx, tables).await
    }

    async fn table(&self, database: &str, name: &str) -> Result<VersionedTable> {
        self.known(database, name).await.map(|known| known.table.clone())
    }

    async fn create_table(&self, table: &Table) -> Result<()> {
        let now_s = self.clock.unix_s();
        let mut tx = self.begin_change().await?;
        let created = tables::create(&mut tx, table, now_s).await.map(|_| ());
        self.end(tx, created).await
    }

    async fn alter_table(
        &self,
        database: &str,
        name: &str,
        expected_version: Option<i64>,
        table: &Table,
    ) -> Result<()> {
        let now_s = self.clock.unix_s();
        let mut tx = self.begin_change().await?;
        let altered = tables::alter(&mut tx, database, name, expected_version, table, now_s).await;
        self.end(tx, altered).await
    }

    async fn alter_table_and_partitions(
        &self,
        database: &str,
        name: &str,
        expected_version: Option<i64>,
        table: &Table,
    ) -> Result<()> {
        let now_s = self.clock.unix_s();
        let mut tx = self.begin_change().await?;
        let altered = tables::alter_with_partitions(&mut tx, database, name, expected_version, table, now_s).await;
        self.end(tx, altered).await
    }

    async fn drop_table(&self, database: &str, name: &str) -> Result<Table> {
        let mut tx = self.begin_change().await?;
        let dropped = tables::drop(&mut tx, database, name).await;
        self.end(tx, dropped).await
    }

    async fn add_partitions(
        &self,
        database: &str,
        table: &str,
        partitions: &[Partition],
        if_not_exists: bool,
    ) -> Result<usize> {
        let now_s = self.clock.unix_s();
        let mut tx = self.begin_change().await?;
        let added = transactions::add_partitions(&mut tx, database, table, partitions, if_not_exists, now_s).await;
        self.end(tx, added).await
    }

    async fn partitions(
        &self,
        database: &str,
        table: &str,
        filter: &PartitionFilter,
        limit: Option<usize>,
    ) -> Result<Vec<Partition>> {
        let mut tx = self.begin_read().await?;
        let partitions = transactions::partitions(&mut tx, database, table, filter, limit).await;
        self.end(tx, partitions).await
    }

    async fn partition_names(&self, database: &str, table: &str) -> Result<Vec<String>> {
        let mut tx = self.begin_read().await?;
        let names = transactions::partition_names(&mut tx, database, table).await;
        self.end(tx, names).await
    }

    async fn matching_partition_names(
        &self,
        database: &str,
        table: &str,
        filter: &PartitionFilter,
        limit: Option<usize>,
    ) -> Result<Vec<String>> {
        let mut tx = self.begin_read().await?;
        let names = transactions::matching_partition_names(&mut tx, database, table, filter, limit).await;
        self.end(tx, names).await
    }

    async fn partitions_by_names(&self, database: &str, table: &str, names: &[String]) -> Result<Vec<Partition>> {
        let mut tx = self.begin_read().await?;
        let partitions = transactions::partitions_by_names(&mut tx, database, table, names).await;
        self.end(tx, partitions).await
    }

    async fn rename_partition(
        &self,
        database: &str,
        table: &str,
        values: &[String],
        partition: &Partition,
    ) -> Result<()> {
        let now_s = self.clock.unix_s();
        let mut tx = self.begin_change().await?;
        let renamed = transactions::rename_partition(&mut tx, database, table, values, partition, now_s).await;
        self.end(tx, renamed).await
    }

    async fn alter_partitions(&self, database: &str, table: &str, partitions: &[Partition]) -> Result<()> {
        let now_s = self.clock.unix_s();
        let mut tx = self.begin_change().await?;
        let altered = transactions::alter_partitions(&mut tx, database, table, partitions, now_s).await;
        self.end(tx, altered).await
    }

    async fn drop_partitions(
        &self,
        database: &str,
        table: &str,
        values: &[Vec<String>],
        if_exists: bool,
    ) -> Result<Vec<Partition>> {
        let mut tx = self.begin_change().await?;
        let dropped = transactions::drop_partitions(&mut tx, database, table, values, if_exists).await;
        self.end(tx, dropped).await
    }

    async fn column_statistics(
        &self,
        database: &str,
        table: &str,
        partition: Option<&[String]>,
    ) -> Result<Vec<ColumnStatistics>> {
        if partition.is_none() {
            return self.known(database, table).await.map(|known| known.statistics.clone());
        }
        let mut tx = self.begin_read().await?;
        let statistics = transactions::column_statistics(&mut tx, database, table, partition).await;
        self.end(tx, statistics).await
    }

    async fn set_column_statistics(
        &self,
        database: &str,
        table: &str,
        partition: Option<&[String]>,
        statistics: &[ColumnStatistics],
    ) -> Result<()> {
        let now_s = self.clock.unix_s();
        let mut tx = self.begin_change().await?;
        let set = transactions::set_column_statistics(&mut tx, database, table, partition, statistics, now_s).await;
        self.end(tx, set).await
    }

    async fn delete_column_statistics(
        &self,
        database: &str,
        table: &str,
        partition: Option<&[String]>,
        column: Option<&str>,
    ) -> Result<u64> {
        let mut tx = self.begin_change().await?;
        let deleted = transactions::delete_column_statistics(&mut tx, database, table, partition, column).await;
        self.end(tx, deleted).await
    }

    async fn functions(&self, database: &str) -> Result<Vec<String>> {
        let mut tx = self.begin_read().await?;
        let names = functions::list(&mut tx, database).await;
        self.end(tx, names).await
    }

    async fn function(&self, database: &str, name: &str) -> Result<Function> {
        let mut tx = self.begin_read().await?;
        let function = functions::load(&mut tx, database, name).await;
        self.end(tx, function).await
    }

    async fn create_function(&self, function: &Function) -> Result<()> {
        let now_s = self.clock.unix_s();
        let mut tx = self.begin_change().await?;
        let created = functions::create(&mut tx, function, now_s).await;
        self.end(tx, created).await
    }

    async fn alter_function(&self, database: &str, name: &str, function: &Function) -> Result<()> {
        let mut tx = self.begin_change().await?;
        let altered = functions::alter(&mut tx, database, name, function).await;
        self.end(tx, altered).await
    }

    async fn drop_function(&self, database: &str, name: &str) -> Result<()> {
        let mut tx = self.begin_change().await?;
        let dropped = functions::drop(&mut tx, database, name).await;
        self.end(tx, dropped).await
    }

    async fn lock(&self, request: &LockRequest, timeout_ms: i64) -> Result<Lock> {
        let now_ms = self.clock.unix_ms();
        let mut tx = self.begin_change().await?;
        let lock = locks::lock(&mut tx, request, now_ms, timeout_ms).await;
        self.end(tx, lock).await
    }

    async fn check_lock(&self, id: i64, timeout_ms: i64) -> Result<Lock> {
        let now_ms = self.clock.unix_ms();
        let mut tx = self.begin_change().await?;
        let lock = locks::check(&mut tx, id, now_ms, timeout_ms).await;
        self.end(tx, lock).await
    }

    async fn renew_lock(&self, id: i64, timeout_ms: i64) -> Result<()> {
        let now_ms = self.clock.unix_ms();
        let mut tx = self.begin_change().await?;
        let renewed = locks::renew(&mut tx, id, now_ms, timeout_ms).await;
        self.end(tx, renewed).await
    }

    async fn unlock(&self, id: i64, timeout_ms: i64) -> Result<()> {
        let now_ms = self.clock.unix_ms();
        let mut tx = self.begin_change().await?;
        let unlocked = locks::unlock(&mut tx, id, now_ms, timeout_ms).await;
        self.end(tx, unlocked).await
    }

    async fn locks(&self, timeout_ms: i64) -> Result<Vec<Lock>> {
        let now_ms = self.clock.unix_ms();
        let mut tx = self.begin_read().await?;
        let locks = locks::list(&mut tx, now_ms, timeout_ms).await;
        self.end(tx, locks).await
    }

    async fn snapshot(&self, database: &str, table: &str, filter: &PartitionFilter) -> Result<Snapshot> {
        let known = self.known(database, table).await?;
        if known.table.table.partition_keys.is_empty() {
            return Ok(Snapshot { table: known.table.clone(), partitions: Vec::new(), pending: known.pending.clone() });
        }
        let mut tx = self.begin_read().await?;
        let snapshot = transactions::snapshot(&mut tx, database, table, filter).await;
        self.end(tx, snapshot).await
    }

    async fn is_location_taken(&self, location: &str) -> Result<bool> {
        let mut tx = self.begin_read().await?;
        let taken = storage::is_location_taken(&mut tx, location).await;
        self.end(tx, taken).await
    }

    async fn locations_in_use(&self, locations: &[String]) -> Result<Vec<String>> {
        let mut tx = self.begin_read().await?;
        let used = storage::locations_in_use(&mut tx, locations).await;
        self.end(tx, used).await
    }

    async fn is_folder_in_use(&self, location: &str) -> Result<bool> {
        let mut tx = self.begin_read().await?;
        let used = storage::is_folder_in_use(&mut tx, location).await;
        self.end(tx, used).await
    }

    async fn table_version(&self, database: &str, table: &str) -> Result<i64> {
        self.known(database, table).await.map(|known| known.table.version)
    }

    async fn commits_since(&self, database: &str, table: &str, version: i64) -> Result<Vec<Commit>> {
        let mut tx = self.begin_read().await?;
        let commits = transactions::commits_since(&mut tx, database, table, version).await;
        self.end(tx, commits).await
    }

    async fn begin_write(&self, write: &Write) -> Result<()> {
        let mut tx = self.begin_change().await?;
        let begun = writes::begin(&mut tx, write).await;
        self.end(tx, begun).await
    }

    async fn stage(&self, write_id: &str, file: &StagedFile) -> Result<()> {
        let mut tx = self.begin_change().await?;
        let staged = writes::stage(&mut tx, write_id, file).await;
        self.end(tx, staged).await
    }

    async fn commit(&self, commit: &Commit) -> Result<i64> {
        let now_ms = self.clock.unix_ms();
        let mut tx = self.begin_change().await?;
        let version = commits::commit(&mut tx, commit, now_ms).await;
        self.end(tx, version).await
    }

    async fn pending_commits(&self) -> Result<Vec<Commit>> {
        let mut tx = self.begin_read().await?;
        let pending = commits::pending(&mut tx).await;
        self.end(tx, pending).await
    }

    async fn finish_commit(&self, commit_id: &str) -> Result<()> {
        let now_ms = self.clock.unix_ms();
        let mut tx = self.begin_change().await?;
        let finished = commits::finish(&mut tx, commit_id, now_ms).await;
        self.end(tx, finished).await
    }

    async fn forget_commits(&self, before_ms: i64) -> Result<u64> {
        let mut tx = self.begin_change().await?;
        let forgotten = commits::forget(&mut tx, before_ms).await;
        self.end(tx, forgotten).await
    }

    async fn write(&self, write_id: &str) -> Result<Option<Write>> {
        let mut tx = self.begin_read().await?;
        let write = writes::find(&mut tx, write_id).await;
        self.end(tx, write).await
    }

    async fn abandoned_writes(&self, alive_owner: &str) -> Result<Vec<Write>> {
        let mut tx = self.begin_read().await?;
        let abandoned = writes::abandoned(&mut tx, alive_owner).await;
        self.end(tx, abandoned).await
    }

    async fn end_write(&self, write_id: &str) -> Result<()> {
        let mut tx = self.begin_change().await?;
        let ended = writes::end(&mut tx, write_id).await;
        self.end(tx, ended).await
    }

    async fn create_job(&self, job: &Job) -> Result<()> {
        let now_ms = self.clock.unix_ms();
        let mut tx = self.begin_change().await?;
        let created = jobs::create(&mut tx, job, now_ms).await;
        self.end(tx, created).await
    }

    async fn job(&self, id_or_name: &str) -> Result<Job> {
        let mut tx = self.begin_read().await?;
        let job = jobs::load(&mut tx, id_or_name).await;
        self.end(tx, job).await
    }

    async fn jobs(&self, state: Option<&str>, limit: usize) -> Result<Vec<Job>> {
        let mut tx = self.begin_read().await?;
        let jobs = jobs::list(&mut tx, state, limit).await;
        self.end(tx, jobs).await
    }

    async fn count_jobs(&self, state: &str) -> Result<u64> {
        let mut tx = self.begin_read().await?;
        let count = jobs::count(&mut tx, state).await;
        self.end(tx, count).await
    }

    async fn next_job(&self, kind: &str) -> Result<Option<Job>> {
        let mut tx = self.begin_read().await?;
        let next = jobs::next(&mut tx, kind).await;
        self.end(tx, next).await
    }

    async fn update_job(&self, job: &Job) -> Result<i64> {
        let now_ms = self.clock.unix_ms();
        let mut tx = self.begin_change().await?;
        let version = jobs::update(&mut tx, job, now_ms).await;
        self.end(tx, version).await
    }

    async fn forget_jobs(&self, kept: u64) -> Result<u64> {
        let mut tx = self.begin_change().await?;
        let forgotten = jobs::forget(&mut tx, kept).await;
        self.end(tx, forgotten).await
    }
}

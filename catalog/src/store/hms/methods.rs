//! The methods of [`Store`]: what is the metastore's there, what is Tereza's own in the file beside it. What nothing in Tereza
//! itself asks for stays refused, as the trait does.

use async_trait::async_trait;
use tereza_runtime::{Error, ErrorKind, Result};

use super::super::names;
use super::HmsStore;
use super::effects::without_marks;
use super::look::{no_database, shown};
use super::partitions::folded;
use crate::hive::remote::Failed;
use crate::import::Source;
use crate::model::{
    ColumnStatistics, Constraint, Database, Function, Grant, Job, LockPart, Partition, Table, TableKind,
};
use crate::store::{
    Commit, Lock, LockRequest, PartitionFilter, Removal, Snapshot, StagedFile, Store, VersionedTable, Write, not_kept,
};

/// Tables asked for at once.
const TABLES_AT_ONCE: usize = 100;

#[async_trait]
impl Store for HmsStore {
    async fn databases(&self) -> Result<Vec<String>> {
        let mut found = self.0.remote.databases().await?;
        found.sort_unstable();
        Ok(found)
    }

    async fn database(&self, name: &str) -> Result<Database> {
        let name = names::fold(name);
        self.0.remote.database(&name).await.map_err(|error| no_database(error, &name))
    }

    async fn create_database(&self, database: &Database) -> Result<()> {
        self.0.create_database(database).await
    }

    async fn alter_database(&self, name: &str, database: &Database) -> Result<()> {
        self.0.alter_database(name, database).await
    }

    async fn drop_database(&self, name: &str, cascade: bool) -> Result<()> {
        self.0.drop_database(name, cascade, false).await
    }

    /// The metastore removes the files: nothing is noted here.
    async fn drop_database_with_files(&self, name: &str, cascade: bool) -> Result<Vec<String>> {
        self.0.drop_database(name, cascade, true).await.map(|()| Vec::new())
    }

    async fn tables(&self, database: &str) -> Result<Vec<(String, TableKind)>> {
        self.0.tables(database).await
    }

    async fn table(&self, database: &str, name: &str) -> Result<VersionedTable> {
        let (database, name) = folded(database, name);
        let _turn = self.0.turns.read(&database, &name).await;
        let look = self.0.require(&database, &name).await?;
        Ok(VersionedTable { table: look.table(&self.0.marks)?, id: look.seen.id, version: look.seen.version })
    }

    async fn tables_by_names(&self, database: &str, names: &[String]) -> Result<Vec<Table>> {
        let database = names::fold(database);
        let undone = self.0.local.tables_with_undone().await?;
        let mut found = Vec::new();
        let wanted: Vec<String> = names.iter().map(|name| names::fold(name)).collect();
        for names in wanted.chunks(TABLES_AT_ONCE) {
            let known = self.0.remote.tables_by_names(&database, names).await;
            found.extend(known.map_err(|error| no_database(error, &database))?);
        }
        for (_, name) in undone.iter().filter(|(of, name)| *of == database && wanted.contains(name)) {
            found.retain(|table| table.name != *name);
            match self.table(&database, name).await {
                Ok(table) => found.push(table.table),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let mut by_name: std::collections::HashMap<String, Table> =
            found.into_iter().map(|table| (table.name.clone(), table)).collect();
        let shown = |mut table: Table| {
            without_marks(&mut table.parameters);
            table
        };
        Ok(wanted.iter().filter_map(|name| by_name.remove(name)).map(shown).collect())
    }

    async fn create_table(&self, table: &Table) -> Result<()> {
        self.0.create_table(table).await
    }

    async fn alter_table(
        &self,
        database: &str,
        name: &str,
        expected_version: Option<i64>,
        table: &Table,
    ) -> Result<()> {
        self.0.alter_table(database, name, expected_version, table, false).await
    }

    async fn alter_table_and_partitions(
        &self,
        database: &str,
        name: &str,
        expected_version: Option<i64>,
        table: &Table,
    ) -> Result<()> {
        self.0.alter_table(database, name, expected_version, table, true).await
    }

    async fn drop_table(&self, database: &str, name: &str) -> Result<Table> {
        self.0.drop_table(database, name, false).await
    }

    async fn drop_table_with_files(&self, database: &str, name: &str) -> Result<Table> {
        self.0.drop_table(database, name, true).await
    }

    async fn is_location_taken(&self, location: &str) -> Result<bool> {
        Ok(!self.0.locations_in_use(&[location.to_owned()]).await?.is_empty())
    }

    async fn locations_in_use(&self, locations: &[String]) -> Result<Vec<String>> {
        self.0.locations_in_use(locations).await
    }

    // ---- the metastore removes files itself

    async fn next_removals(&self, _: i64, _: usize) -> Result<Vec<Removal>> {
        Ok(Vec::new())
    }

    async fn go_on_with_removals(&self, _: &[i64]) -> Result<()> {
        Ok(())
    }

    async fn finish_removals(&self, _: &[i64]) -> Result<()> {
        Ok(())
    }

    async fn are_being_removed(&self, _: &[String]) -> Result<bool> {
        Ok(false)
    }

    async fn add_partitions(
        &self,
        database: &str,
        table: &str,
        partitions: &[Partition],
        if_not_exists: bool,
    ) -> Result<usize> {
        let (database, table) = folded(database, table);
        self.0.add_partitions((&database, &table), partitions, if_not_exists).await
    }

    async fn partitions(
        &self,
        database: &str,
        table: &str,
        filter: &PartitionFilter,
        limit: Option<usize>,
    ) -> Result<Vec<Partition>> {
        let (database, table) = folded(database, table);
        let _turn = self.0.turns.read(&database, &table).await;
        let look = self.0.require(&database, &table).await?;
        Ok(shown(self.0.filtered(&look, (&database, &table), filter, limit).await?))
    }

    async fn partition_names(&self, database: &str, table: &str) -> Result<Vec<String>> {
        self.matching_partition_names(database, table, &PartitionFilter::default(), None).await
    }

    async fn matching_partition_names(
        &self,
        database: &str,
        table: &str,
        filter: &PartitionFilter,
        limit: Option<usize>,
    ) -> Result<Vec<String>> {
        let (database, table) = folded(database, table);
        let _turn = self.0.turns.read(&database, &table).await;
        let look = self.0.require(&database, &table).await?;
        self.0.filtered_names(&look, (&database, &table), filter, limit).await
    }

    async fn partitions_by_names(&self, database: &str, table: &str, names: &[String]) -> Result<Vec<Partition>> {
        let (database, table) = folded(database, table);
        let _turn = self.0.turns.read(&database, &table).await;
        let look = self.0.require(&database, &table).await?;
        let mut found = self.0.named(&look, (&database, &table), names).await?;
        let ordered =
            names.iter().filter_map(|name| found.remove(name)).map(|one| shown([(String::new(), one)].into()));
        Ok(ordered.flatten().collect())
    }

    async fn rename_partition(
        &self,
        database: &str,
        table: &str,
        values: &[String],
        partition: &Partition,
    ) -> Result<()> {
        let (database, table) = folded(database, table);
        self.0.rename_partition((&database, &table), values, partition).await
    }

    async fn alter_partitions(&self, database: &str, table: &str, partitions: &[Partition]) -> Result<()> {
        let (database, table) = folded(database, table);
        self.0.alter_partitions((&database, &table), partitions).await
    }

    async fn drop_partitions(
        &self,
        database: &str,
        table: &str,
        values: &[Vec<String>],
        if_exists: bool,
    ) -> Result<Vec<Partition>> {
        let (database, table) = folded(database, table);
        self.0.drop_partitions((&database, &table), values, if_exists, false).await
    }

    async fn drop_partitions_with_files(
        &self,
        database: &str,
        table: &str,
        values: &[Vec<String>],
        if_exists: bool,
    ) -> Result<Vec<Partition>> {
        let (database, table) = folded(database, table);
        self.0.drop_partitions((&database, &table), values, if_exists, true).await
    }

    async fn column_statistics(
        &self,
        database: &str,
        table: &str,
        partition: Option<&[String]>,
    ) -> Result<Vec<ColumnStatistics>> {
        let (database, table) = folded(database, table);
        let _turn = self.0.turns.read(&database, &table).await;
        self.0.column_statistics((&database, &table), partition).await
    }

    async fn partition_statistics(
        &self,
        database: &str,
        table: &str,
        names: &[String],
    ) -> Result<Vec<(String, Vec<ColumnStatistics>)>> {
        let (database, table) = folded(database, table);
        let _turn = self.0.turns.read(&database, &table).await;
        self.0.partition_statistics((&database, &table), names).await
    }

    async fn set_column_statistics(
        &self,
        database: &str,
        table: &str,
        partition: Option<&[String]>,
        statistics: &[ColumnStatistics],
    ) -> Result<()> {
        let (database, table) = folded(database, table);
        self.0.set_column_statistics((&database, &table), partition, statistics).await
    }

    async fn delete_column_statistics(
        &self,
        database: &str,
        table: &str,
        partition: Option<&[String]>,
        column: Option<&str>,
    ) -> Result<u64> {
        let (database, table) = folded(database, table);
        self.0.delete_column_statistics((&database, &table), partition, column).await
    }

    async fn functions(&self, database: &str) -> Result<Vec<String>> {
        let database = names::fold(database);
        self.0.require_database(&database).await?;
        let mut found = self.0.remote.function_names(&database).await?;
        found.sort_unstable();
        Ok(found)
    }

    async fn function(&self, database: &str, name: &str) -> Result<Function> {
        let (database, name) = folded(database, name);
        self.0.remote.function(&database, &name).await
    }

    async fn create_function(&self, function: &Function) -> Result<()> {
        let (database, name) = folded(&function.database, &function.name);
        let function = Function { database, name, create_time_s: self.0.clock.unix_s(), ..function.clone() };
        Ok(self.0.remote.create_function(&function).await?)
    }

    async fn alter_function(&self, database: &str, name: &str, function: &Function) -> Result<()> {
        let (database, name) = folded(database, name);
        // What is missing has no name of its own in what the metastore answers.
        let old = self.0.remote.function(&database, &name).await?;
        let (to_database, to_name) = folded(&function.database, &function.name);
        if (&to_database, &to_name) != (&database, &name) {
            match self.0.remote.function(&to_database, &to_name).await {
                Ok(_) => {
                    let message = format!("function '{to_database}.{to_name}' already exists");
                    return Err(Error::already_exists(message));
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let new =
            Function { database: to_database, name: to_name, create_time_s: old.create_time_s, ..function.clone() };
        Ok(self.0.remote.alter_function(&database, &name, &new).await?)
    }

    async fn drop_function(&self, database: &str, name: &str) -> Result<()> {
        let (database, name) = folded(database, name);
        Ok(self.0.remote.drop_function(&database, &name).await?)
    }

    // ---- locks are the metastore's, and so is how long they live

    async fn lock(&self, request: &LockRequest, _: i64) -> Result<Lock> {
        check_request(request)?;
        let part = |part: &LockPart| LockPart {
            database: names::fold(&part.database),
            table: part.table.as_deref().map(names::fold),
            ..part.clone()
        };
        let request = LockRequest { parts: request.parts.iter().map(part).collect(), ..request.clone() };
        let (id, _) = self.0.remote.lock(&request).await.map_err(|failed| match failed {
            Failed::Lost(error) => error.context("whether a lock was taken is not known: it runs out by itself"),
            failed => failed.into(),
        })?;
        self.described(id).await
    }

    async fn check_lock(&self, id: i64, _: i64) -> Result<Lock> {
        self.0.remote.check_lock(id).await?;
        self.described(id).await
    }

    async fn renew_lock(&self, id: i64, _: i64) -> Result<()> {
        self.0.remote.renew_lock(id).await
    }

    async fn unlock(&self, id: i64, _: i64) -> Result<()> {
        self.0.remote.unlock(id).await
    }

    async fn locks(&self, _: i64) -> Result<Vec<Lock>> {
        self.0.remote.locks().await
    }

    async fn snapshot(&self, database: &str, table: &str, filter: &PartitionFilter) -> Result<Snapshot> {
        let (database, table) = folded(database, table);
        let _turn = self.0.turns.read(&database, &table).await;
        let look = self.0.require(&database, &table).await?;
        let partitions = match look.keys().is_empty() {
            true => Vec::new(),
            false => shown(self.0.filtered(&look, (&database, &table), filter, None).await?),
        };
        let table = VersionedTable { table: look.table(&self.0.marks)?, id: look.seen.id, version: look.seen.version };
        Ok(Snapshot { table, partitions, pending: look.seen.pending })
    }

    async fn table_version(&self, database: &str, table: &str) -> Result<i64> {
        let (database, table) = folded(database, table);
        let _turn = self.0.turns.read(&database, &table).await;
        Ok(self.0.require(&database, &table).await?.seen.version)
    }

    async fn commits_since(&self, database: &str, table: &str, version: i64) -> Result<Vec<Commit>> {
        let (database, table) = folded(database, table);
        let _turn = self.0.turns.read(&database, &table).await;
        let look = self.0.require(&database, &table).await?;
        self.0.local.commits_of(look.seen.id, version).await
    }

    async fn commit(&self, commit: &Commit) -> Result<i64> {
        self.0.commit(commit).await
    }

    // ---- what only Tereza knows

    async fn begin_write(&self, write: &Write) -> Result<()> {
        self.0.local.begin_write(write).await
    }

    async fn stage(&self, write_id: &str, file: &StagedFile) -> Result<()> {
        self.0.local.stage(write_id, file).await
    }

    async fn pending_commits(&self) -> Result<Vec<Commit>> {
        self.0.local.pending_commits().await
    }

    async fn finish_commit(&self, commit_id: &str) -> Result<()> {
        self.0.local.finish_commit(commit_id).await
    }

    async fn forget_commits(&self, before_ms: i64) -> Result<u64> {
        self.0.local.forget_commits(before_ms).await
    }

    async fn write(&self, write_id: &str) -> Result<Option<Write>> {
        self.0.local.write(write_id).await
    }

    async fn abandoned_writes(&self, alive_owner: &str) -> Result<Vec<Write>> {
        self.0.local.abandoned_writes(alive_owner).await
    }

    async fn end_write(&self, write_id: &str) -> Result<()> {
        self.0.local.end_write(write_id).await
    }

    async fn give_up_write(&self, write_id: &str) -> Result<bool> {
        self.0.local.give_up_write(write_id).await
    }

    async fn renew_owner(&self, owner: &str, for_ms: i64) -> Result<()> {
        self.0.local.renew_owner(owner, for_ms).await
    }

    async fn end_owner(&self, owner: &str) -> Result<()> {
        self.0.local.end_owner(owner).await
    }

    async fn live_owners(&self) -> Result<Vec<String>> {
        self.0.local.live_owners().await
    }

    async fn create_table_with(&self, table: &Table, constraints: &[Constraint], grants: &[Grant]) -> Result<()> {
        match constraints.is_empty() && grants.is_empty() {
            true => self.create_table(table).await,
            false => Err(not_kept("constraints and privileges")),
        }
    }

    async fn catalog_id(&self) -> Result<String> {
        self.0.local.catalog_id().await
    }

    async fn create_job(&self, job: &Job) -> Result<()> {
        self.0.local.create_job(job).await
    }

    async fn job(&self, id_or_name: &str) -> Result<Job> {
        self.0.local.job(id_or_name).await
    }

    async fn jobs(&self, state: Option<&str>, limit: usize) -> Result<Vec<Job>> {
        self.0.local.jobs(state, limit).await
    }

    async fn count_jobs(&self, state: &str) -> Result<u64> {
        self.0.local.count_jobs(state).await
    }

    async fn next_job(&self, kind: &str) -> Result<Option<Job>> {
        self.0.local.next_job(kind).await
    }

    async fn update_job(&self, job: &Job) -> Result<i64> {
        self.0.local.update_job(job).await
    }

    async fn jobs_left(&self, kind: &str, limit: usize) -> Result<Vec<Job>> {
        self.0.local.jobs_left(kind, limit).await
    }

    async fn forget_jobs(&self, kept: u64) -> Result<u64> {
        self.0.local.forget_jobs(kept).await
    }
}

impl HmsStore {
    /// A lock with all that the metastore says of it.
    async fn described(&self, id: i64) -> Result<Lock> {
        let found = self.0.remote.locks().await?.into_iter().find(|lock| lock.id == id);
        found.ok_or_else(|| Error::not_found(format!("lock {id} does not exist")))
    }
}

fn check_request(request: &LockRequest) -> Result<()> {
    if request.parts.is_empty() {
        return Err(Error::invalid_input("a request for locks names what to lock"));
    }
    for part in &request.parts {
        names::check_chars("the database of a lock", &part.database, names::DATABASE_CHARS)?;
        names::check_optional_chars("the table of a lock", part.table.as_ref(), names::LOCK_TABLE_CHARS)?;
        names::check_optional_chars("the partition of a lock", part.partition.as_ref(), names::PARTITION_NAME_CHARS)?;
    }
    Ok(())
}

//! The methods of [`Store`], each one transaction of the database that this folder is compiled for.
//!
//! What a transaction is, and when one is tried again, is the dialect's (`read!`, `change!`); so is how a single table
//! is read, which SQLite keeps in memory while nobody commits anything.

use async_trait::async_trait;
use tereza_runtime::Result;
use tereza_thrift::codec::Texts;

use super::{
    commits, constraints, databases, functions, jobs, locks, notifications, owners, privileges, properties, removals,
    roles, storage, tables, transactions, writes,
};
use crate::model::{
    Column, ColumnStatistics, Constraint, Database, Function, Grant, Job, Partition, Principal, Role, RoleGrant,
    Securable, Table, TableKind,
};
use crate::store::{
    Commit, Lock, LockRequest, Notification, NotificationFilter, PartitionFilter, Removal, Snapshot, StagedFile, Store,
    VersionedTable, Write,
};

use super::super::dialect::{Catalog, change, read};

#[async_trait]
impl Store for Catalog {
    async fn databases(&self) -> Result<Vec<String>> {
        read!(self, conn => databases::list(conn))
    }

    async fn database(&self, name: &str) -> Result<Database> {
        read!(self, conn => databases::load(conn, name))
    }

    async fn create_database(&self, database: &Database) -> Result<()> {
        change!(self, conn => databases::create(conn, database))
    }

    async fn alter_database(&self, name: &str, database: &Database) -> Result<()> {
        change!(self, conn => databases::alter(conn, name, database))
    }

    async fn drop_database(&self, name: &str, cascade: bool) -> Result<()> {
        change!(self, conn => databases::drop(conn, name, cascade))
    }

    async fn drop_database_with_files(&self, name: &str, cascade: bool) -> Result<Vec<String>> {
        let now_ms = self.clock.unix_ms();
        change!(self, conn => databases::drop_with_files(conn, name, cascade, now_ms))
    }

    async fn tables(&self, database: &str) -> Result<Vec<(String, TableKind)>> {
        read!(self, conn => tables::list(conn, database))
    }

    async fn table(&self, database: &str, name: &str) -> Result<VersionedTable> {
        self.read_table(database, name).await
    }

    async fn tables_by_names(&self, database: &str, names: &[String]) -> Result<Vec<Table>> {
        read!(self, conn => tables::by_names(conn, database, names))
    }

    async fn create_table(&self, table: &Table) -> Result<()> {
        let now_s = self.clock.unix_s();
        change!(self, conn => async { tables::create(conn, table, now_s).await.map(|_| ()) })
    }

    async fn alter_table(
        &self,
        database: &str,
        name: &str,
        expected_version: Option<i64>,
        table: &Table,
    ) -> Result<()> {
        let now_s = self.clock.unix_s();
        change!(self, conn => tables::alter(conn, database, name, expected_version, table, now_s))
    }

    async fn alter_table_and_partitions(
        &self,
        database: &str,
        name: &str,
        expected_version: Option<i64>,
        table: &Table,
    ) -> Result<()> {
        let now_s = self.clock.unix_s();
        change!(self, conn => tables::alter_with_partitions(conn, database, name, expected_version, table, now_s))
    }

    async fn drop_table(&self, database: &str, name: &str) -> Result<Table> {
        change!(self, conn => tables::drop(conn, database, name))
    }

    async fn drop_table_with_files(&self, database: &str, name: &str) -> Result<Table> {
        let now_ms = self.clock.unix_ms();
        change!(self, conn => tables::drop_with_files(conn, database, name, now_ms))
    }

    async fn add_partitions(
        &self,
        database: &str,
        table: &str,
        partitions: &[Partition],
        if_not_exists: bool,
    ) -> Result<usize> {
        let now_s = self.clock.unix_s();
        change!(self, conn => transactions::add_partitions(conn, database, table, partitions, if_not_exists, now_s))
    }

    async fn partitions(
        &self,
        database: &str,
        table: &str,
        filter: &PartitionFilter,
        limit: Option<usize>,
    ) -> Result<Vec<Partition>> {
        read!(self, conn => transactions::partitions(conn, database, table, filter, limit))
    }

    async fn partition_names(&self, database: &str, table: &str) -> Result<Vec<String>> {
        read!(self, conn => transactions::partition_names(conn, database, table))
    }

    async fn matching_partition_names(
        &self,
        database: &str,
        table: &str,
        filter: &PartitionFilter,
        limit: Option<usize>,
    ) -> Result<Vec<String>> {
        read!(self, conn => transactions::matching_partition_names(conn, database, table, filter, limit))
    }

    async fn listed_partition_names(
        &self,
        database: &str,
        table: &str,
        filter: &PartitionFilter,
        limit: Option<usize>,
        max_bytes: usize,
    ) -> Result<Texts> {
        read!(self, conn => transactions::listed_partition_names(conn, database, table, filter, limit, max_bytes))
    }

    async fn partition_keys(&self, database: &str, table: &str) -> Result<Vec<Column>> {
        self.read_keys(database, table).await
    }

    async fn partitions_by_names(&self, database: &str, table: &str, names: &[String]) -> Result<Vec<Partition>> {
        read!(self, conn => transactions::partitions_by_names(conn, database, table, names))
    }

    async fn rename_partition(
        &self,
        database: &str,
        table: &str,
        values: &[String],
        partition: &Partition,
    ) -> Result<()> {
        let now_s = self.clock.unix_s();
        change!(self, conn => transactions::rename_partition(conn, database, table, values, partition, now_s))
    }

    async fn alter_partitions(&self, database: &str, table: &str, partitions: &[Partition]) -> Result<()> {
        let now_s = self.clock.unix_s();
        change!(self, conn => transactions::alter_partitions(conn, database, table, partitions, now_s))
    }

    async fn drop_partitions(
        &self,
        database: &str,
        table: &str,
        values: &[Vec<String>],
        if_exists: bool,
    ) -> Result<Vec<Partition>> {
        change!(self, conn => transactions::drop_partitions(conn, database, table, values, if_exists))
    }

    async fn drop_partitions_with_files(
        &self,
        database: &str,
        table: &str,
        values: &[Vec<String>],
        if_exists: bool,
    ) -> Result<Vec<Partition>> {
        let now_ms = self.clock.unix_ms();
        change!(
            self,
            conn => transactions::drop_partitions_with_files(conn, database, table, values, if_exists, now_ms)
        )
    }

    async fn give_partitions(
        &self,
        from: (&str, &str),
        to: (&str, &str),
        values: &[Vec<String>],
    ) -> Result<Vec<Partition>> {
        let now_s = self.clock.unix_s();
        change!(self, conn => transactions::give_partitions(conn, from, to, values, now_s))
    }

    async fn column_statistics(
        &self,
        database: &str,
        table: &str,
        partition: Option<&[String]>,
    ) -> Result<Vec<ColumnStatistics>> {
        if partition.is_none() {
            return self.read_statistics(database, table).await;
        }
        read!(self, conn => transactions::column_statistics(conn, database, table, partition))
    }

    async fn partition_statistics(
        &self,
        database: &str,
        table: &str,
        names: &[String],
    ) -> Result<Vec<(String, Vec<ColumnStatistics>)>> {
        read!(self, conn => transactions::partition_statistics(conn, database, table, names))
    }

    async fn set_column_statistics(
        &self,
        database: &str,
        table: &str,
        partition: Option<&[String]>,
        statistics: &[ColumnStatistics],
    ) -> Result<()> {
        let now_s = self.clock.unix_s();
        change!(self, conn => transactions::set_column_statistics(conn, database, table, partition, statistics, now_s))
    }

    async fn delete_column_statistics(
        &self,
        database: &str,
        table: &str,
        partition: Option<&[String]>,
        column: Option<&str>,
    ) -> Result<u64> {
        change!(self, conn => transactions::delete_column_statistics(conn, database, table, partition, column))
    }

    async fn functions(&self, database: &str) -> Result<Vec<String>> {
        read!(self, conn => functions::list(conn, database))
    }

    async fn function(&self, database: &str, name: &str) -> Result<Function> {
        read!(self, conn => functions::load(conn, database, name))
    }

    async fn create_function(&self, function: &Function) -> Result<()> {
        let now_s = self.clock.unix_s();
        change!(self, conn => functions::create(conn, function, now_s))
    }

    async fn alter_function(&self, database: &str, name: &str, function: &Function) -> Result<()> {
        change!(self, conn => functions::alter(conn, database, name, function))
    }

    async fn drop_function(&self, database: &str, name: &str) -> Result<()> {
        change!(self, conn => functions::drop(conn, database, name))
    }

    async fn constraints(&self, database: &str, table: &str) -> Result<Vec<Constraint>> {
        read!(self, conn => constraints::list(conn, database, table))
    }

    async fn foreign_keys_to(&self, database: &str, table: &str) -> Result<Vec<Constraint>> {
        read!(self, conn => constraints::foreign_keys_to(conn, database, table))
    }

    async fn add_constraints(&self, constraints: &[Constraint]) -> Result<()> {
        change!(self, conn => constraints::add(conn, constraints))
    }

    async fn create_table_with(&self, table: &Table, constraints: &[Constraint], grants: &[Grant]) -> Result<()> {
        let now_s = self.clock.unix_s();
        change!(self, conn => async {
            tables::create(conn, table, now_s).await?;
            constraints::add(conn, constraints).await?;
            privileges::grant(conn, grants, now_s).await
        })
    }

    async fn drop_constraint(&self, database: &str, table: &str, name: &str) -> Result<()> {
        change!(self, conn => constraints::drop(conn, database, table, name))
    }

    async fn roles(&self) -> Result<Vec<Role>> {
        read!(self, conn => roles::list(conn))
    }

    async fn create_role(&self, role: &Role) -> Result<()> {
        let now_s = self.clock.unix_s();
        change!(self, conn => roles::create(conn, role, now_s))
    }

    async fn drop_role(&self, name: &str) -> Result<bool> {
        change!(self, conn => roles::drop(conn, name))
    }

    async fn roles_of(&self, principal: &Principal) -> Result<Vec<RoleGrant>> {
        read!(self, conn => roles::of_principal(conn, principal))
    }

    async fn principals_in_role(&self, role: &str) -> Result<Vec<RoleGrant>> {
        read!(self, conn => roles::principals(conn, role))
    }

    async fn grant_role(&self, grant: &RoleGrant) -> Result<()> {
        let now_s = self.clock.unix_s();
        change!(self, conn => roles::grant(conn, grant, now_s))
    }

    async fn revoke_role(&self, role: &str, from: &Principal, option_only: bool) -> Result<()> {
        change!(self, conn => roles::revoke(conn, role, from, option_only))
    }

    async fn privileges(&self, on: &Securable, of: Option<&Principal>) -> Result<Vec<Grant>> {
        read!(self, conn => privileges::list(conn, on, of))
    }

    async fn grant_privileges(&self, grants: &[Grant]) -> Result<()> {
        let now_s = self.clock.unix_s();
        change!(self, conn => privileges::grant(conn, grants, now_s))
    }

    async fn revoke_privileges(&self, grants: &[Grant], option_only: bool) -> Result<()> {
        change!(self, conn => privileges::revoke(conn, grants, option_only))
    }

    async fn lock(&self, request: &LockRequest, timeout_ms: i64) -> Result<Lock> {
        let now_ms = self.clock.unix_ms();
        change!(self, conn => locks::lock(conn, request, now_ms, timeout_ms))
    }

    async fn check_lock(&self, id: i64, timeout_ms: i64) -> Result<Lock> {
        let now_ms = self.clock.unix_ms();
        change!(self, conn => locks::check(conn, id, now_ms, timeout_ms))
    }

    async fn renew_lock(&self, id: i64, timeout_ms: i64) -> Result<()> {
        let now_ms = self.clock.unix_ms();
        change!(self, conn => locks::renew(conn, id, now_ms, timeout_ms))
    }

    async fn unlock(&self, id: i64, timeout_ms: i64) -> Result<()> {
        let now_ms = self.clock.unix_ms();
        change!(self, conn => locks::unlock(conn, id, now_ms, timeout_ms))
    }

    async fn locks(&self, timeout_ms: i64) -> Result<Vec<Lock>> {
        let now_ms = self.clock.unix_ms();
        read!(self, conn => locks::list(conn, now_ms, timeout_ms))
    }

    async fn catalog_id(&self) -> Result<String> {
        change!(self, conn => properties::id(conn))
    }

    async fn last_notification(&self) -> Result<i64> {
        read!(self, conn => notifications::last(conn))
    }

    async fn notifications(&self, after: i64, limit: usize) -> Result<Vec<Notification>> {
        read!(self, conn => notifications::after(conn, after, limit))
    }

    async fn count_notifications(&self, filter: &NotificationFilter) -> Result<i64> {
        read!(self, conn => notifications::count(conn, filter))
    }

    async fn snapshot(&self, database: &str, table: &str, filter: &PartitionFilter) -> Result<Snapshot> {
        self.read_snapshot(database, table, filter).await
    }

    async fn is_location_taken(&self, location: &str) -> Result<bool> {
        read!(self, conn => storage::is_location_taken(conn, location))
    }

    async fn locations_in_use(&self, locations: &[String]) -> Result<Vec<String>> {
        read!(self, conn => storage::locations_in_use(conn, locations))
    }

    async fn next_removals(&self, lease_ms: i64, limit: usize) -> Result<Vec<Removal>> {
        let now_ms = self.clock.unix_ms();
        change!(self, conn => removals::next(conn, now_ms, lease_ms, limit))
    }

    async fn go_on_with_removals(&self, ids: &[i64]) -> Result<()> {
        let now_ms = self.clock.unix_ms();
        change!(self, conn => removals::put_off(conn, ids, now_ms))
    }

    async fn finish_removals(&self, ids: &[i64]) -> Result<()> {
        change!(self, conn => removals::finish(conn, ids))
    }

    async fn are_being_removed(&self, locations: &[String]) -> Result<bool> {
        read!(self, conn => async { removals::removed(conn, locations).await.map(|removed| !removed.is_empty()) })
    }

    async fn table_version(&self, database: &str, table: &str) -> Result<i64> {
        self.read_version(database, table).await
    }

    async fn commits_since(&self, database: &str, table: &str, version: i64) -> Result<Vec<Commit>> {
        read!(self, conn => transactions::commits_since(conn, database, table, version))
    }

    async fn begin_write(&self, write: &Write) -> Result<()> {
        change!(self, conn => writes::begin(conn, write))
    }

    async fn stage(&self, write_id: &str, file: &StagedFile) -> Result<()> {
        change!(self, conn => writes::stage(conn, write_id, file))
    }

    async fn commit(&self, commit: &Commit) -> Result<i64> {
        let now_ms = self.clock.unix_ms();
        change!(self, conn => commits::commit(conn, commit, now_ms))
    }

    async fn pending_commits(&self) -> Result<Vec<Commit>> {
        read!(self, conn => commits::pending(conn))
    }

    async fn finish_commit(&self, commit_id: &str) -> Result<()> {
        let now_ms = self.clock.unix_ms();
        change!(self, conn => commits::finish(conn, commit_id, now_ms))
    }

    async fn forget_commits(&self, before_ms: i64) -> Result<u64> {
        change!(self, conn => commits::forget(conn, before_ms))
    }

    async fn write(&self, write_id: &str) -> Result<Option<Write>> {
        read!(self, conn => writes::find(conn, write_id))
    }

    async fn abandoned_writes(&self, alive_owner: &str) -> Result<Vec<Write>> {
        let now_ms = self.clock.unix_ms();
        read!(self, conn => writes::abandoned(conn, alive_owner, now_ms))
    }

    async fn give_up_write(&self, write_id: &str) -> Result<bool> {
        let now_ms = self.clock.unix_ms();
        change!(self, conn => owners::give_up(conn, write_id, now_ms))
    }

    async fn renew_owner(&self, owner: &str, for_ms: i64) -> Result<()> {
        let now_ms = self.clock.unix_ms();
        change!(self, conn => owners::renew(conn, owner, for_ms, now_ms))
    }

    async fn end_owner(&self, owner: &str) -> Result<()> {
        change!(self, conn => owners::end(conn, owner))
    }

    async fn live_owners(&self) -> Result<Vec<String>> {
        let now_ms = self.clock.unix_ms();
        read!(self, conn => owners::live(conn, now_ms))
    }

    async fn end_write(&self, write_id: &str) -> Result<()> {
        change!(self, conn => writes::end(conn, write_id))
    }

    async fn create_job(&self, job: &Job) -> Result<()> {
        let now_ms = self.clock.unix_ms();
        change!(self, conn => jobs::create(conn, job, now_ms))
    }

    async fn job(&self, id_or_name: &str) -> Result<Job> {
        read!(self, conn => jobs::load(conn, id_or_name))
    }

    async fn jobs(&self, state: Option<&str>, limit: usize) -> Result<Vec<Job>> {
        read!(self, conn => jobs::list(conn, state, limit))
    }

    async fn count_jobs(&self, state: &str) -> Result<u64> {
        read!(self, conn => jobs::count(conn, state))
    }

    async fn next_job(&self, kind: &str) -> Result<Option<Job>> {
        read!(self, conn => jobs::next(conn, kind))
    }

    async fn update_job(&self, job: &Job) -> Result<i64> {
        let now_ms = self.clock.unix_ms();
        change!(self, conn => jobs::update(conn, job, now_ms))
    }

    async fn jobs_left(&self, kind: &str, limit: usize) -> Result<Vec<Job>> {
        read!(self, conn => jobs::left(conn, kind, limit))
    }

    async fn forget_jobs(&self, kept: u64) -> Result<u64> {
        change!(self, conn => jobs::forget(conn, kept))
    }
}

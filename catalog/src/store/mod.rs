//! The trait of everything that keeps a catalog, and the commit journal that makes writes atomic.
//!
//! Rules that every implementation keeps (the public suite [`crate::conformance`] checks them):
//! * each method is one transaction: it happened whole or not at all, also when the process dies in it;
//! * names are looked up in lower case; the database `default` always exists;
//! * a missing thing is `NotFound`, a name taken is `AlreadyExists`, a lost race is `Conflict`, a store that does not
//!   answer is `Unavailable`; a name that is empty, longer than the metastore keeps or holds control characters is
//!   `InvalidInput`;
//! * [`Table::create_time_s`] and the like are set by the store, and `transient_lastDdlTime` where the caller sends none;
//! * partitions are told apart by their names, in which the empty value and NULL are the same;
//! * a table's name never gets the same version twice, also when the table is dropped or renamed and made anew.
//!
//! ## Commits
//! A statement that writes files calls [`Store::begin_write`] first, stages files where no reader sees them and names each
//! with [`Store::stage`] before its first byte is written, and ends with [`Store::commit`]: the one transaction that puts
//! the [`Commit`] into the journal together with the partitions and statistics that it brings. From then on the rows are
//! part of the table; moving the files to their places (*roll forward*) may be repeated by anyone until
//! [`Store::finish_commit`]. A write that never committed leaves only what [`Store::abandoned_writes`] lists.
//!
//! ## Removals
//! What is dropped `_with_files` notes its folder in the transaction that drops it. Whoever removes files takes the next
//! [`Removal`]s, removes some of them, and says whether that was all. A folder is not noted if anything that stays, table,
//! partition or database, is in it, or if it is in the folder of another table or partition; and as long as it is noted,
//! nothing new is kept in it: `Unavailable`.

mod filter;
pub mod hms;
pub mod mysql;
mod names;
pub(crate) mod places;
pub mod schemas;
pub mod sqlite;
mod steps;

use std::fmt::Debug;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tereza_runtime::{Error, Result};
use tereza_thrift::codec::Texts;

pub use self::names::check_partition;
use crate::model::{
    Column, ColumnStatistics, Constraint, Database, Function, Grant, Job, LockPart, Parameters, Partition, Principal,
    Role, RoleGrant, Securable, Table, TableKind,
};

/// A table with the version that a compare-and-set names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionedTable {
    /// The table.
    pub table: Table,
    /// The store's own number of the table; one that is made anew under the same name gets another.
    pub id: i64,
    /// Goes up by one with each commit, each alteration and each change of partitions.
    pub version: i64,
}

/// What a reader needs to read a table, all from one transaction.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The table and its version.
    pub table: VersionedTable,
    /// Its partitions that the filter lets through, in the order of their names; empty for an unpartitioned table.
    pub partitions: Vec<Partition>,
    /// Commits that are part of the table and not yet rolled forward, oldest first.
    pub pending: Vec<Commit>,
}

/// Which partitions of a table to return. Everything is compared as text, so a filter may let through too much, never
/// too little: the reader's own predicate decides.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PartitionFilter {
    /// For each partition key in order: the values that may match, or `None` for all.
    pub values: Vec<Option<Vec<String>>>,
}

/// A file that a statement writes and that no reader sees yet; or, with a slash at the end of both, a folder that holds nothing
/// but such files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedFile {
    /// URL at which readers will find it.
    pub target: String,
    /// URL at which it is now, below a `_tereza/` folder.
    pub staged: String,
}

/// A write that has begun and not committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Id, part of the name of every file it makes.
    pub id: String,
    /// Database and table; the table may not exist yet (CTAS).
    pub database: String,
    /// Table.
    pub table: String,
    /// Who writes: the id of the process.
    pub owner: String,
    /// Milliseconds since 1970 when it began.
    pub began_ms: i64,
    /// What it has staged so far.
    pub staged: Vec<StagedFile>,
}

/// Numbers to add to numeric parameters. One that is absent counts as 0; one that is unknown (negative, as Hive's -1, or
/// no number) stays as it is, and none gets below 0.
pub type Increments = Vec<(String, i64)>;

/// What a commit does to the catalog and to files, all of it at once. What it does to partitions happens in the order drop,
/// add, set, increment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Commit {
    /// The id of its [`Write`].
    pub id: String,
    /// Database.
    pub database: String,
    /// Table.
    pub table: String,
    /// The version the table got by this commit; set by the store.
    pub version: i64,
    /// Refuse with `Conflict` unless the table still has this version (OVERWRITE, DDL); `None` for INSERT, which commutes.
    pub expected_version: Option<i64>,
    /// Refuse with `Conflict` unless the name still means the table of this id ([`VersionedTable::id`]): rows for a table
    /// that was dropped are not those of the next one of its name. `None` where the commit makes the table, and in journals
    /// of older versions.
    #[serde(default)]
    pub expected_table: Option<i64>,
    /// A table to make in the same transaction (CTAS); `AlreadyExists` if the name is taken.
    pub create_table: Option<Table>,
    /// Files to make visible.
    pub add_files: Vec<StagedFile>,
    /// URLs of files to delete (OVERWRITE).
    pub remove_files: Vec<String>,
    /// URLs of staging folders to remove with whatever is in them, when the files to make visible are at their places: tasks
    /// that were given up may have left files there that nobody named.
    #[serde(default)]
    pub remove_folders: Vec<String>,
    /// Partitions to add; those that exist already are left as they are.
    pub add_partitions: Vec<Partition>,
    /// Partitions, by their values, to drop from the catalog (OVERWRITE of a whole table).
    pub drop_partitions: Vec<Vec<String>>,
    /// Parameters to set on the table (statistics).
    pub table_parameters: Parameters,
    /// Parameters to set on partitions, by their values (statistics).
    pub partition_parameters: Vec<(Vec<String>, Parameters)>,
    /// Numbers to add to numeric parameters, `numRows`, `numFiles`, `totalSize`, of the table (INSERT: commutes).
    pub table_increments: Increments,
    /// The same for partitions, by their values.
    pub partition_increments: Vec<(Vec<String>, Increments)>,
    /// The step of a job that this commit is: done with it, in the same transaction. `Conflict` if the job has come further,
    /// was begun again, or is not running any more: so that no job commits a step twice.
    #[serde(default)]
    pub step: Option<JobStep>,
}

impl Commit {
    /// The commit that ends a write and changes nothing.
    pub fn bare(id: String, database: &str, table: &str) -> Self {
        Self {
            id,
            database: database.to_owned(),
            table: table.to_owned(),
            version: 0,
            expected_version: None,
            expected_table: None,
            create_table: None,
            add_files: Vec::new(),
            remove_files: Vec::new(),
            remove_folders: Vec::new(),
            add_partitions: Vec::new(),
            drop_partitions: Vec::new(),
            table_parameters: Parameters::new(),
            partition_parameters: Vec::new(),
            table_increments: Vec::new(),
            partition_increments: Vec::new(),
            step: None,
        }
    }
}

/// One step of one attempt at a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobStep {
    /// The job's id.
    pub job: String,
    /// Which of its starts: [`Job::attempts`] while it runs.
    pub attempt: i32,
    /// How many steps are done before it: [`Job::step`] until then.
    pub step: i32,
}

/// Who asks for locks, and on what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockRequest {
    /// What to lock: all of it or nothing.
    pub parts: Vec<LockPart>,
    /// User, as the client says.
    pub user: String,
    /// Machine, as the client says.
    pub host: String,
    /// What the client calls itself.
    pub agent: Option<String>,
}

/// A request for locks with what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    /// Id; those asked for later have greater ones.
    pub id: i64,
    /// The request.
    pub request: LockRequest,
    /// Milliseconds since 1970 when it was taken; none while it waits.
    pub acquired_ms: Option<i64>,
    /// Milliseconds since 1970 of its last renewal.
    pub renewed_ms: i64,
    /// The lock that it waits for.
    pub blocked_by: Option<i64>,
}

/// A change that a metastore's listener wrote down (`NOTIFICATION_LOG`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// Its number; they go up one by one.
    pub id: i64,
    /// Seconds since 1970.
    pub time_s: i64,
    /// Such as `CREATE_TABLE`.
    pub kind: String,
    /// Name of the catalog.
    pub catalog: Option<String>,
    /// Name of the database, as a client wrote it.
    pub database: Option<String>,
    /// Name of the table, as a client wrote it.
    pub table: Option<String>,
    /// What was changed.
    pub message: String,
    /// How that is written, such as `json-0.2`.
    pub format: Option<String>,
}

/// Which [`Notification`]s to count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotificationFilter {
    /// Those with a greater id.
    pub after: i64,
    /// Up to this id.
    pub until: Option<i64>,
    /// Those of this database.
    pub database: String,
    /// Those of these tables; of all if there are none.
    pub tables: Vec<String>,
}

/// A folder of something that was dropped with its files, some of which may be there still.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// The store's own number of it.
    pub id: i64,
    /// URL of the folder.
    pub location: String,
}

/// The refusal of a store that does not keep something.
fn not_kept(what: &str) -> Error {
    Error::unsupported(format!("{what}, by way of another metastore")).with_hint("ask the metastore itself")
}

/// Something that keeps a catalog. A method with a body refuses, `Unsupported`: a store has it or not.
#[expect(unused_variables, reason = "a refusal is one whatever is asked for")]
#[async_trait]
pub trait Store: Send + Sync + Debug + 'static {
    // ---- databases

    /// All database names, sorted.
    async fn databases(&self) -> Result<Vec<String>>;
    /// One database.
    async fn database(&self, name: &str) -> Result<Database>;
    /// Makes a database.
    async fn create_database(&self, database: &Database) -> Result<()>;
    /// Replaces everything of a database but its name.
    async fn alter_database(&self, name: &str, database: &Database) -> Result<()>;
    /// Drops a database. With tables in it: `InvalidInput` unless `cascade`.
    async fn drop_database(&self, name: &str, cascade: bool) -> Result<()>;
    /// [`Store::drop_database`] that notes for removal the folders of its tables that own their files, and its own, and
    /// returns what it noted.
    async fn drop_database_with_files(&self, name: &str, cascade: bool) -> Result<Vec<String>>;

    // ---- tables

    /// Names and kinds of all tables of a database, sorted by name.
    async fn tables(&self, database: &str) -> Result<Vec<(String, TableKind)>>;
    /// One table.
    async fn table(&self, database: &str, name: &str) -> Result<VersionedTable>;
    /// The tables with these names that exist, in the order of the names.
    async fn tables_by_names(&self, database: &str, names: &[String]) -> Result<Vec<Table>>;
    /// Makes a table; the database must exist. An external one gets the parameter `EXTERNAL` if it has none.
    async fn create_table(&self, table: &Table) -> Result<()>;
    /// Replaces a table, also its name or database. `Conflict` if the version is not `expected_version` any more. It keeps
    /// its partitions with their places and columns, pending commits, and the statistics of columns that did not change.
    /// While it has partitions, only the types and comments of its keys may change, else `InvalidInput`.
    async fn alter_table(&self, database: &str, name: &str, expected_version: Option<i64>, table: &Table)
    -> Result<()>;
    /// [`Store::alter_table`] that also gives all partitions the table's columns, in the same transaction.
    async fn alter_table_and_partitions(
        &self,
        database: &str,
        name: &str,
        expected_version: Option<i64>,
        table: &Table,
    ) -> Result<()>;
    /// Drops a table with its partitions and statistics and returns it as it was; the caller removes its files. Pending
    /// commits of an external table stay pending, because its files outlive it; what those of other tables have staged
    /// turns up among the abandoned writes.
    async fn drop_table(&self, database: &str, name: &str) -> Result<Table>;

    /// [`Store::drop_table`] that notes the folder for removal if the table owns its files.
    async fn drop_table_with_files(&self, database: &str, name: &str) -> Result<Table>;

    /// Whether a table or partition has its files in the folder at this URL, or files in it are to be removed.
    async fn is_location_taken(&self, location: &str) -> Result<bool>;

    /// Those of the locations that are taken.
    async fn locations_in_use(&self, locations: &[String]) -> Result<Vec<String>>;

    // ---- removals

    /// The removals that have waited longest, at most `limit`, of those that nobody has. Nobody else gets them for `lease_ms`,
    /// unless [`Store::go_on_with_removals`] ends that.
    async fn next_removals(&self, lease_ms: i64, limit: usize) -> Result<Vec<Removal>>;
    /// Puts removals at the end of the line.
    async fn go_on_with_removals(&self, ids: &[i64]) -> Result<()>;
    /// Forgets removals whose files are gone; harmless when repeated.
    async fn finish_removals(&self, ids: &[i64]) -> Result<()>;
    /// Whether files at one of the locations are to be removed.
    async fn are_being_removed(&self, locations: &[String]) -> Result<bool>;

    // ---- partitions

    /// Adds partitions and returns how many were new. One that exists: skipped if `if_not_exists`, else `AlreadyExists`
    /// and none is added.
    async fn add_partitions(
        &self,
        database: &str,
        table: &str,
        partitions: &[Partition],
        if_not_exists: bool,
    ) -> Result<usize>;
    /// Partitions that `filter` lets through, in the order of their names, at most `limit`.
    async fn partitions(
        &self,
        database: &str,
        table: &str,
        filter: &PartitionFilter,
        limit: Option<usize>,
    ) -> Result<Vec<Partition>>;
    /// Names (`ds=1/k=a`) of all partitions, sorted.
    async fn partition_names(&self, database: &str, table: &str) -> Result<Vec<String>>;
    /// Names of the partitions that `filter` lets through, sorted, at most `limit`.
    async fn matching_partition_names(
        &self,
        database: &str,
        table: &str,
        filter: &PartitionFilter,
        limit: Option<usize>,
    ) -> Result<Vec<String>>;
    /// [`Store::matching_partition_names`] for an answer that has at most `max_bytes` on the wire: where the names have more,
    /// some of them, in a list that says it is full.
    async fn listed_partition_names(
        &self,
        database: &str,
        table: &str,
        filter: &PartitionFilter,
        limit: Option<usize>,
        max_bytes: usize,
    ) -> Result<Texts> {
        let mut listed = Texts::new(max_bytes);
        for name in self.matching_partition_names(database, table, filter, limit).await? {
            listed.push_str(&name);
        }
        Ok(listed)
    }
    /// The partition keys of a table, in order.
    async fn partition_keys(&self, database: &str, table: &str) -> Result<Vec<Column>> {
        Ok(self.table(database, table).await?.table.partition_keys)
    }
    /// The partitions with these names, in the order of the names; those that do not exist are left out.
    async fn partitions_by_names(&self, database: &str, table: &str, names: &[String]) -> Result<Vec<Partition>>;
    /// Gives the partition with these values all that `partition` has, its values too; it keeps its statistics.
    /// `AlreadyExists` if another has the new values.
    async fn rename_partition(
        &self,
        database: &str,
        table: &str,
        values: &[String],
        partition: &Partition,
    ) -> Result<()>;
    /// Replaces partitions (found by their values).
    async fn alter_partitions(&self, database: &str, table: &str, partitions: &[Partition]) -> Result<()>;
    /// Drops partitions by their values and returns them as they were. One that is missing: skipped if `if_exists`, else
    /// `NotFound` and none is dropped.
    async fn drop_partitions(
        &self,
        database: &str,
        table: &str,
        values: &[Vec<String>],
        if_exists: bool,
    ) -> Result<Vec<Partition>>;
    /// [`Store::drop_partitions`] that notes their folders for removal, if the table owns its files and they are in its
    /// folder.
    async fn drop_partitions_with_files(
        &self,
        database: &str,
        table: &str,
        values: &[Vec<String>],
        if_exists: bool,
    ) -> Result<Vec<Partition>>;

    /// Gives partitions of one table to another with the same columns and keys, named `(database, table)`, and returns them.
    /// They keep their places, and lose their statistics. `AlreadyExists` if the other has one of these values.
    async fn give_partitions(
        &self,
        from: (&str, &str),
        to: (&str, &str),
        values: &[Vec<String>],
    ) -> Result<Vec<Partition>> {
        Err(not_kept("giving partitions to another table"))
    }

    // ---- statistics

    /// Column statistics of a table (or of one partition, by its values).
    async fn column_statistics(
        &self,
        database: &str,
        table: &str,
        partition: Option<&[String]>,
    ) -> Result<Vec<ColumnStatistics>>;
    /// Column statistics of the partitions with these names, in no order; those that do not exist or have none are left out.
    async fn partition_statistics(
        &self,
        database: &str,
        table: &str,
        names: &[String],
    ) -> Result<Vec<(String, Vec<ColumnStatistics>)>>;
    /// Sets column statistics of a table or partition; other columns' stay.
    async fn set_column_statistics(
        &self,
        database: &str,
        table: &str,
        partition: Option<&[String]>,
        statistics: &[ColumnStatistics],
    ) -> Result<()>;

    /// Forgets the statistics of one column, or of all, of a table or partition; returns how many there were.
    async fn delete_column_statistics(
        &self,
        database: &str,
        table: &str,
        partition: Option<&[String]>,
        column: Option<&str>,
    ) -> Result<u64>;

    // ---- functions

    /// Names of all functions of a database, sorted.
    async fn functions(&self, database: &str) -> Result<Vec<String>>;
    /// One function.
    async fn function(&self, database: &str, name: &str) -> Result<Function>;
    /// Makes a function; the database must exist.
    async fn create_function(&self, function: &Function) -> Result<()>;
    /// Replaces a function, also its name or database.
    async fn alter_function(&self, database: &str, name: &str, function: &Function) -> Result<()>;
    /// Drops a function.
    async fn drop_function(&self, database: &str, name: &str) -> Result<()>;

    // ---- constraints

    /// Constraints of a table, sorted by name.
    async fn constraints(&self, database: &str, table: &str) -> Result<Vec<Constraint>> {
        Err(not_kept("constraints"))
    }
    /// Foreign keys of any table that refer to this one, sorted by name.
    async fn foreign_keys_to(&self, database: &str, table: &str) -> Result<Vec<Constraint>> {
        Err(not_kept("constraints"))
    }
    /// Adds constraints, all or none. A constraint of an empty name gets one. A table that is missing: `NotFound`; a column
    /// that is missing, a second primary key, a foreign key to columns that are no key: `InvalidInput`; a name that any
    /// constraint has: `AlreadyExists`.
    async fn add_constraints(&self, constraints: &[Constraint]) -> Result<()> {
        Err(not_kept("constraints"))
    }
    /// [`Store::create_table`], [`Store::add_constraints`] and [`Store::grant_privileges`] in one.
    async fn create_table_with(&self, table: &Table, constraints: &[Constraint], grants: &[Grant]) -> Result<()>;
    /// Drops a constraint of a table or a foreign key to it.
    async fn drop_constraint(&self, database: &str, table: &str, name: &str) -> Result<()> {
        Err(not_kept("constraints"))
    }

    // ---- roles and privileges, which nothing in the catalog asks for

    /// All roles, sorted by name; `admin` and `public` are always among them.
    async fn roles(&self) -> Result<Vec<Role>> {
        Err(not_kept("roles"))
    }
    /// Makes a role.
    async fn create_role(&self, role: &Role) -> Result<()> {
        Err(not_kept("roles"))
    }
    /// Drops a role with all that it was given, and returns whether there was one. `admin` and `public`: `InvalidInput`.
    async fn drop_role(&self, name: &str) -> Result<bool> {
        Err(not_kept("roles"))
    }
    /// The roles that were given to somebody, without those that they have through these, sorted by name.
    async fn roles_of(&self, principal: &Principal) -> Result<Vec<RoleGrant>> {
        Err(not_kept("roles"))
    }
    /// Who was given a role, sorted by name.
    async fn principals_in_role(&self, role: &str) -> Result<Vec<RoleGrant>> {
        Err(not_kept("roles"))
    }
    /// Gives somebody a role. If they have it: `AlreadyExists`; if it has what it would be given to: `InvalidInput`.
    async fn grant_role(&self, grant: &RoleGrant) -> Result<()> {
        Err(not_kept("roles"))
    }
    /// Takes a role from somebody; with `option_only` only that they may give it on, `InvalidInput` if they may not. Nothing
    /// happens if they have it not.
    async fn revoke_role(&self, role: &str, from: &Principal, option_only: bool) -> Result<()> {
        Err(not_kept("roles"))
    }
    /// Who may do what on something, in the order in which it was given; of one principal if it is said of which.
    async fn privileges(&self, on: &Securable, of: Option<&Principal>) -> Result<Vec<Grant>> {
        Err(not_kept("privileges"))
    }
    /// Gives privileges, all or none. One that the same grantor has given: `AlreadyExists`.
    async fn grant_privileges(&self, grants: &[Grant]) -> Result<()> {
        Err(not_kept("privileges"))
    }
    /// Takes privileges, all or none, whoever gave them and in whatever case they are written; with `option_only` only that
    /// they may be given on, `InvalidInput` if they may not. One that is not there: `NotFound`.
    async fn revoke_privileges(&self, grants: &[Grant], option_only: bool) -> Result<()> {
        Err(not_kept("privileges"))
    }

    // ---- locks, as clients of a metastore take them; nothing in Tereza itself waits for one

    /// Asks for locks on all parts at once, and returns the request with its id. What nobody held in the way is held; else
    /// it waits in line until [`Store::check_lock`] finds the way free. Locks that were not renewed for `timeout_ms` are
    /// gone, whoever asks.
    async fn lock(&self, request: &LockRequest, timeout_ms: i64) -> Result<Lock>;
    /// Renews a lock and takes it if the way is free now. `NotFound` if it was given back or ran out.
    async fn check_lock(&self, id: i64, timeout_ms: i64) -> Result<Lock>;
    /// Renews a lock. `NotFound` if it was given back or ran out.
    async fn renew_lock(&self, id: i64, timeout_ms: i64) -> Result<()>;
    /// Gives a lock back, or leaves the line. `NotFound` if it was given back or ran out.
    async fn unlock(&self, id: i64, timeout_ms: i64) -> Result<()>;
    /// All locks, held and waiting, oldest first.
    async fn locks(&self, timeout_ms: i64) -> Result<Vec<Lock>>;

    // ---- what a metastore says of itself

    /// The id of the catalog: the same as long as it lives, also for a metastore on the same database.
    async fn catalog_id(&self) -> Result<String>;
    /// The id of the last notification; 0 if there was none.
    async fn last_notification(&self) -> Result<i64> {
        Err(not_kept("notifications"))
    }
    /// Notifications after an id, oldest first, at most `limit`.
    async fn notifications(&self, after: i64, limit: usize) -> Result<Vec<Notification>> {
        Err(not_kept("notifications"))
    }
    /// How many notifications a filter lets through.
    async fn count_notifications(&self, filter: &NotificationFilter) -> Result<i64> {
        Err(not_kept("notifications"))
    }

    // ---- reading and writing with commits

    /// Table, partitions and pending commits, from one transaction.
    async fn snapshot(&self, database: &str, table: &str, filter: &PartitionFilter) -> Result<Snapshot>;
    /// The table's version alone: cheap, for readers that check whether their listing was disturbed.
    async fn table_version(&self, database: &str, table: &str) -> Result<i64>;
    /// Commits of a table with a version above `version`, oldest first, finished ones too while the journal keeps them.
    async fn commits_since(&self, database: &str, table: &str, version: i64) -> Result<Vec<Commit>>;
    /// Begins a write; its id names the files.
    async fn begin_write(&self, write: &Write) -> Result<()>;
    /// Notes a staged file before its first byte is written; noted again, nothing happens. `NotFound` if the write has not
    /// begun or has ended or was given up.
    async fn stage(&self, write_id: &str, file: &StagedFile) -> Result<()>;
    /// The commit point. Returns the table's new version. The write is ended by it. Asked for again, as after an answer that
    /// got lost, it changes nothing and returns the same version. `NotFound` if its write has not begun or was ended or
    /// given up, as its files may be gone; `Conflict` if a partition whose parameters it changes was dropped meanwhile.
    async fn commit(&self, commit: &Commit) -> Result<i64>;
    /// All commits not yet rolled forward, of all tables, oldest first.
    async fn pending_commits(&self) -> Result<Vec<Commit>>;
    /// Marks a commit as rolled forward; harmless when repeated.
    async fn finish_commit(&self, commit_id: &str) -> Result<()>;
    /// Forgets commits that were finished before `before_ms` and returns how many.
    async fn forget_commits(&self, before_ms: i64) -> Result<u64>;
    /// A write that has begun and not ended.
    async fn write(&self, write_id: &str) -> Result<Option<Write>>;
    /// Writes that began, did not commit, and whose owner is neither `alive_owner` nor [alive](Store::renew_owner); for
    /// cleaning up after the dead.
    async fn abandoned_writes(&self, alive_owner: &str) -> Result<Vec<Write>>;
    /// Sees to it that a write is not committed any more, unless its owner is [alive](Store::renew_owner) again or it ended;
    /// whether that is so. To be asked before its files are removed: who was taken for dead may only have been slow.
    async fn give_up_write(&self, write_id: &str) -> Result<bool>;
    /// Forgets a write (after its staged files were removed); harmless when repeated.
    async fn end_write(&self, write_id: &str) -> Result<()>;

    // ---- processes, where several have one catalog

    /// Counts the owner of writes or jobs as alive for `for_ms` from now, by the database's clock if it has one.
    async fn renew_owner(&self, owner: &str, for_ms: i64) -> Result<()>;
    /// Counts it as alive no more.
    async fn end_owner(&self, owner: &str) -> Result<()>;
    /// Who is alive, sorted.
    async fn live_owners(&self) -> Result<Vec<String>>;

    // ---- jobs

    /// Keeps a new job; a live job with the same name: `AlreadyExists`.
    async fn create_job(&self, job: &Job) -> Result<()>;
    /// One job by id or name; of those of one name the live one, or else the newest.
    async fn job(&self, id_or_name: &str) -> Result<Job>;
    /// The newest jobs first, at most `limit`, optionally of one state.
    async fn jobs(&self, state: Option<&str>, limit: usize) -> Result<Vec<Job>>;
    /// How many jobs are in a state.
    async fn count_jobs(&self, state: &str) -> Result<u64>;
    /// The queued job of a kind that is next: of the greatest priority the oldest.
    async fn next_job(&self, kind: &str) -> Result<Option<Job>>;
    /// Replaces a job if its version is still `job.version`, else `Conflict`; returns the new version.
    async fn update_job(&self, job: &Job) -> Result<i64>;
    /// At most `limit` jobs of a kind that are done and whose step is 0, those first that were changed longest ago.
    async fn jobs_left(&self, kind: &str, limit: usize) -> Result<Vec<Job>>;
    /// Forgets all jobs that are done but the `kept` that were the last to end, and returns how many. Those of the kind `stream`
    /// whose step is 0 stay: something of them is left.
    async fn forget_jobs(&self, kept: u64) -> Result<u64>;
}

//! Copies the names of another catalog: databases, tables, partitions, their statistics, functions, constraints, roles and
//! privileges. Files stay where they are.
//!
//! It may be done again: what is there already is left as it is, so that an import that was cut off goes on, and one that is
//! done again brings what is new. What stands in both and differs is counted and left alone.

mod beside;
mod from_store;

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use tereza_runtime::{Error, ErrorKind, Result};

use self::beside::Kind;
pub use self::from_store::FromStore;
use crate::Store;
use crate::model::{
    ColumnStatistics, Constraint, Database, Function, Grant, Partition, Role, RoleGrant, Securable, Table,
    unescape_path_name,
};

/// Tables asked for at once.
const TABLES_AT_ONCE: usize = 100;
/// Partitions asked for at once, and put in one transaction.
const PARTITIONS_AT_ONCE: usize = 1_000;
/// Problems that are told one by one.
const PROBLEMS_MAX: usize = 100;
/// The database that is always there.
const DEFAULT: &str = "default";

/// Statistics by the name of a partition.
pub type PartitionStatistics = BTreeMap<String, Vec<ColumnStatistics>>;

/// A catalog that is copied. Nothing is changed in it.
#[async_trait]
pub trait Source: Send + Sync {
    /// Names of all databases.
    async fn databases(&self) -> Result<Vec<String>>;
    /// One database.
    async fn database(&self, name: &str) -> Result<Database>;
    /// Names of all tables and views of a database.
    async fn tables(&self, database: &str) -> Result<Vec<String>>;
    /// Those of the tables that are there.
    async fn tables_by_names(&self, database: &str, names: &[String]) -> Result<Vec<Table>>;
    /// Names (`ds=1/k=a`) of all partitions of a table.
    async fn partition_names(&self, database: &str, table: &str) -> Result<Vec<String>>;
    /// Those of the partitions that are there.
    async fn partitions(&self, database: &str, table: &str, names: &[String]) -> Result<Vec<Partition>>;
    /// Statistics of a table as a whole.
    async fn table_statistics(&self, table: &Table, columns: &[String]) -> Result<Vec<ColumnStatistics>>;
    /// Statistics of partitions.
    async fn partition_statistics(
        &self,
        table: &Table,
        names: &[String],
        columns: &[String],
    ) -> Result<PartitionStatistics>;
    /// All functions of a database.
    async fn functions(&self, database: &str) -> Result<Vec<Function>>;
    /// Constraints of a table, all but foreign keys.
    async fn constraints(&self, database: &str, table: &str) -> Result<Vec<Constraint>>;
    /// Foreign keys of a table.
    async fn foreign_keys(&self, database: &str, table: &str) -> Result<Vec<Constraint>>;
    /// All roles, without their owners where the source does not tell.
    async fn roles(&self) -> Result<Vec<Role>>;
    /// Who was given a role.
    async fn role_grants(&self, role: &str) -> Result<Vec<RoleGrant>>;
    /// Who may do what on something.
    async fn privileges(&self, on: &Securable) -> Result<Vec<Grant>>;
}

/// What was done so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Imported {
    /// New ones.
    pub databases: usize,
    /// New ones, views too.
    pub tables: usize,
    /// New ones.
    pub partitions: usize,
    /// New ones.
    pub functions: usize,
    /// New ones.
    pub constraints: usize,
    /// New ones.
    pub roles: usize,
    /// How often a role was given to somebody who did not have it.
    pub role_grants: usize,
    /// New ones.
    pub privileges: usize,
    /// Databases, tables and functions that were there already.
    pub known: usize,
    /// Those of them, and of constraints, roles and privileges, that are not what the source has.
    pub different: Vec<String>,
    /// What could not be brought, and why; all else was.
    pub problems: Vec<String>,
    /// Further ones.
    pub more_problems: usize,
}

/// Copies from `source` what `wanted` says: databases, or all if it names none. Roles are copied in any case, as privileges name
/// them; privileges on the catalog as a whole only with all databases. `progress` is told where it stands after each step.
pub async fn import(
    source: &dyn Source,
    store: &dyn Store,
    wanted: &[String],
    progress: &mut (dyn FnMut(&Imported, &str) + Send),
) -> Result<Imported> {
    let known: BTreeSet<String> = source.databases().await?.into_iter().map(|name| name.to_lowercase()).collect();
    let wanted: BTreeSet<String> = wanted.iter().map(|name| name.to_lowercase()).collect();
    if let Some(missing) = wanted.difference(&known).next() {
        return Err(Error::not_found(format!("the source has no database {missing}")));
    }
    let is_whole = wanted.is_empty();
    let databases = if is_whole { known } else { wanted };
    let mut import = Import { source, store, done: Imported::default(), lacking: Vec::new(), progress };
    import.roles().await?;
    if is_whole {
        import.privileges(vec![Securable::Everything]).await?;
    }
    for name in &databases {
        import.database(name).await?;
    }
    for name in &databases {
        import.foreign_keys(name).await?;
    }
    Ok(import.done)
}

struct Import<'a> {
    source: &'a dyn Source,
    store: &'a dyn Store,
    done: Imported,
    /// What the source does not tell, or the store does not keep.
    lacking: Vec<Kind>,
    progress: &'a mut (dyn FnMut(&Imported, &str) + Send),
}

impl Import<'_> {
    async fn database(&mut self, name: &str) -> Result<()> {
        let database = self.source.database(name).await?;
        let made = match self.store.create_database(&database).await {
            // What is always there has nobody made: its place is that of the source as long as nothing is in it.
            Err(error) if error.kind() == ErrorKind::AlreadyExists && name == DEFAULT => {
                let is_new = self.store.tables(DEFAULT).await?.is_empty();
                let known = self.store.database(DEFAULT).await?;
                match is_new && known != database {
                    true => self.store.alter_database(DEFAULT, &database).await.map(|()| true),
                    false => Ok(false),
                }
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            made => made.map(|()| true),
        };
        match made {
            Ok(true) => self.done.databases += 1,
            Ok(false) => {
                self.done.known += 1;
                if self.store.database(name).await? != database {
                    self.done.different.push(format!("database {name}"));
                }
            }
            // Nothing of it can be brought then.
            Err(error) => return self.problem(format!("database {name}"), error),
        }
        self.privileges(vec![Securable::Database { database: name.to_owned() }]).await?;
        (self.progress)(&self.done, name);
        let tables = self.source.tables(name).await?;
        for names in tables.chunks(TABLES_AT_ONCE) {
            for table in self.source.tables_by_names(name, names).await? {
                let what = format!("table {name}.{}", table.name);
                if let Err(error) = self.table(&table).await {
                    self.problem(what, error)?;
                }
            }
        }
        for function in self.source.functions(name).await? {
            let what = format!("function {name}.{}", function.name);
            match self.store.create_function(&function).await {
                Ok(()) => self.done.functions += 1,
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    self.done.known += 1;
                    let known = self.store.function(name, &function.name).await?;
                    // When it was made here is no difference.
                    if (Function { create_time_s: function.create_time_s, ..known }) != function {
                        self.done.different.push(what);
                    }
                }
                Err(error) => self.problem(what, error)?,
            }
        }
        (self.progress)(&self.done, name);
        Ok(())
    }

    async fn table(&mut self, table: &Table) -> Result<()> {
        let what = format!("{}.{}", table.database, table.name);
        (self.progress)(&self.done, &what);
        let is_new = match self.store.create_table(table).await {
            Ok(()) => true,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => false,
            Err(error) => return Err(error),
        };
        if is_new {
            self.done.tables += 1;
        } else {
            self.done.known += 1;
            let known = self.store.table(&table.database, &table.name).await?.table;
            if (Table { create_time_s: table.create_time_s, ..known }) != *table {
                self.done.different.push(format!("table {what}"));
            }
        }
        self.constraints(table).await?;
        self.table_privileges(table).await?;
        let columns: Vec<String> = table.storage.columns.iter().map(|column| column.name.clone()).collect();
        if table.partition_keys.is_empty() {
            let statistics = self.source.table_statistics(table, &columns).await?;
            let known = self.store.column_statistics(&table.database, &table.name, None).await?;
            if known.is_empty() && !statistics.is_empty() {
                self.store.set_column_statistics(&table.database, &table.name, None, &statistics).await?;
            }
            return Ok(());
        }
        let names = self.source.partition_names(&table.database, &table.name).await?;
        let known: BTreeSet<String> =
            self.store.partition_names(&table.database, &table.name).await?.into_iter().collect();
        for names in names.chunks(PARTITIONS_AT_ONCE) {
            let new: Vec<String> = names.iter().filter(|name| !known.contains(*name)).cloned().collect();
            if !new.is_empty() {
                let partitions = self.source.partitions(&table.database, &table.name, &new).await?;
                let added = self.store.add_partitions(&table.database, &table.name, &partitions, true).await?;
                self.done.partitions += added;
            }
            self.partition_statistics(table, names, &columns).await?;
            self.partition_privileges(table, names).await?;
            (self.progress)(&self.done, &what);
        }
        Ok(())
    }

    /// Brings the statistics of those partitions that have none here: an import may have been cut off before it came to them.
    async fn partition_statistics(&self, table: &Table, names: &[String], columns: &[String]) -> Result<()> {
        let known = self.store.partition_statistics(&table.database, &table.name, names).await?;
        let known: BTreeSet<String> = known.into_iter().map(|(name, _)| name).collect();
        let missing: Vec<String> = names.iter().filter(|name| !known.contains(*name)).cloned().collect();
        if missing.is_empty() {
            return Ok(());
        }
        let found = self.source.partition_statistics(table, &missing, columns).await?;
        for (name, statistics) in found.iter().filter(|(_, statistics)| !statistics.is_empty()) {
            let Some(values) = values_of(name) else { continue };
            self.store.set_column_statistics(&table.database, &table.name, Some(&values), statistics).await?;
        }
        Ok(())
    }

    /// Notes what could not be brought; an error where the source or the store is gone, and nothing more can be.
    fn problem(&mut self, what: String, error: Error) -> Result<()> {
        if error.kind() == ErrorKind::Unavailable {
            return Err(error.context(what));
        }
        match self.done.problems.len() < PROBLEMS_MAX {
            true => self.done.problems.push(format!("{what}: {error}")),
            false => self.done.more_problems += 1,
        }
        Ok(())
    }
}

/// The values in the name of a partition.
fn values_of(name: &str) -> Option<Vec<String>> {
    name.split('/').map(|part| part.split_once('=').map(|(_, value)| unescape_path_name(value))).collect()
}

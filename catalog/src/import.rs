//! Copies the names of another catalog: databases, tables, partitions, their statistics, and functions. Files stay where they
//! are.
//!
//! It may be done again: what is there already is left as it is, so that an import that was cut off goes on, and one that is
//! done again brings what is new. What stands in both and differs is counted and left alone.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use tereza_runtime::{Error, ErrorKind, Result};

use crate::Store;
use crate::model::{ColumnStatistics, Database, Function, Partition, Table, unescape_path_name};

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
}

/// A store as what is copied: the database of a metastore, opened to read ([`mysql::Settings::read_only`]).
///
/// [`mysql::Settings::read_only`]: crate::store::mysql::Settings::read_only
#[derive(Debug)]
pub struct FromStore<S>(pub S);

#[async_trait]
impl<S: Store> Source for FromStore<S> {
    async fn databases(&self) -> Result<Vec<String>> {
        self.0.databases().await
    }

    async fn database(&self, name: &str) -> Result<Database> {
        self.0.database(name).await
    }

    async fn tables(&self, database: &str) -> Result<Vec<String>> {
        Ok(self.0.tables(database).await?.into_iter().map(|(name, _)| name).collect())
    }

    async fn tables_by_names(&self, database: &str, names: &[String]) -> Result<Vec<Table>> {
        self.0.tables_by_names(database, names).await
    }

    async fn partition_names(&self, database: &str, table: &str) -> Result<Vec<String>> {
        self.0.partition_names(database, table).await
    }

    async fn partitions(&self, database: &str, table: &str, names: &[String]) -> Result<Vec<Partition>> {
        self.0.partitions_by_names(database, table, names).await
    }

    async fn table_statistics(&self, table: &Table, columns: &[String]) -> Result<Vec<ColumnStatistics>> {
        let known = self.0.column_statistics(&table.database, &table.name, None).await?;
        Ok(known.into_iter().filter(|column| columns.contains(&column.column)).collect())
    }

    async fn partition_statistics(
        &self,
        table: &Table,
        names: &[String],
        columns: &[String],
    ) -> Result<PartitionStatistics> {
        let known = self.0.partition_statistics(&table.database, &table.name, names).await?;
        let wanted = |(name, mut of): (String, Vec<ColumnStatistics>)| {
            of.retain(|column| columns.contains(&column.column));
            (name, of)
        };
        Ok(known.into_iter().map(wanted).collect())
    }

    async fn functions(&self, database: &str) -> Result<Vec<Function>> {
        let mut functions = Vec::new();
        for name in self.0.functions(database).await? {
            functions.push(self.0.function(database, &name).await?);
        }
        Ok(functions)
    }
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
    /// Databases, tables and functions that were there already.
    pub known: usize,
    /// Those of them that are not what the source has.
    pub different: Vec<String>,
    /// What could not be brought, and why; all else was.
    pub problems: Vec<String>,
    /// Further ones.
    pub more_problems: usize,
}

/// Copies from `source` what `wanted` says: databases, or all if it names none. `progress` is told where it stands after each
/// step.
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
    let databases = if wanted.is_empty() { known } else { wanted };
    let mut import = Import { source, store, done: Imported::default(), progress };
    for name in &databases {
        import.database(name).await?;
    }
    Ok(import.done)
}

struct Import<'a> {
    source: &'a dyn Source,
    store: &'a dyn Store,
    done: Imported,
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
            let value = |part: &str| part.split_once('=').map(|(_, value)| unescape_path_name(value));
            let Some(values) = name.split('/').map(value).collect::<Option<Vec<String>>>() else { continue };
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

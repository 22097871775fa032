//! Databases and tables: each change is one call at the metastore, made under a lock.

use tereza_runtime::{Error, ErrorKind, Result, ids};

use super::super::{names, places};
use super::Inner;
use super::commit::expect_version;
use super::effects::{checked, has_change, keep_marks, mark_change, mark_of};
use super::look::no_database;
use crate::hive::remote::Failed;
use crate::import::Source;
use crate::model::{Database, LockMode, Table, TableKind};

/// The database that always exists.
const DEFAULT: &str = "default";
/// Tables whose locations are asked for at once.
const TABLES_AT_ONCE: usize = 100;

impl Inner {
    pub(super) async fn create_database(&self, database: &Database) -> Result<()> {
        let name = names::new_name("database", &database.name, names::DATABASE_CHARS)?;
        let database = Database { name: name.clone(), ..database.clone() };
        self.remote.create_database(&database).await.map_err(|failed| match failed {
            Failed::Refused(error) if error.kind() == ErrorKind::AlreadyExists => {
                Error::already_exists(format!("database '{name}' already exists"))
            }
            failed => failed.into(),
        })
    }

    pub(super) async fn alter_database(&self, name: &str, database: &Database) -> Result<()> {
        let name = names::fold(name);
        self.require_database(&name).await?;
        let database = Database { name: name.clone(), ..database.clone() };
        Ok(self.remote.alter_database(&name, &database).await?)
    }

    pub(super) async fn drop_database(&self, name: &str, cascade: bool, with_files: bool) -> Result<()> {
        let name = names::fold(name);
        if name == DEFAULT {
            return Err(Error::invalid_input("the database 'default' cannot be dropped"));
        }
        self.require_database(&name).await?;
        let change = self.change(LockMode::Exclusive, &[(&name, "")]).await?;
        let outcome = match self.remote.drop_database(&name, with_files, cascade).await {
            Ok(()) => self.local.gone_with_database(&name).await,
            Err(Failed::Lost(error)) => match self.remote.database(&name).await {
                Err(gone) if gone.kind() == ErrorKind::NotFound => self.local.gone_with_database(&name).await,
                _ => Err(error),
            },
            Err(Failed::Refused(error) | Failed::Unsent(error)) => Err(no_database(error, &name)),
        };
        change.end().await;
        outcome
    }

    pub(super) async fn tables(&self, database: &str) -> Result<Vec<(String, TableKind)>> {
        let database = names::fold(database);
        self.require_database(&database).await?;
        let mut tables = self.remote.table_kinds(&database).await?;
        for name in self.local.unmade(&database).await? {
            if let Some(look) = self.look(&database, &name).await?
                && look.remote.is_none()
            {
                tables.push((name, look.table(&self.marks)?.kind));
            }
        }
        tables.sort_by(|one, two| one.0.cmp(&two.0));
        Ok(tables)
    }

    pub(super) async fn create_table(&self, table: &Table) -> Result<()> {
        let mut new = checked(table)?;
        let (database, name) = (new.database.clone(), new.name.clone());
        let change = self.change(LockMode::Exclusive, &[(&database, &name)]).await?;
        let outcome = self.create_in_turn(&mut new).await;
        change.end().await;
        outcome
    }

    async fn create_in_turn(&self, new: &mut Table) -> Result<()> {
        let (database, name) = (new.database.clone(), new.name.clone());
        let exists = || Error::already_exists(format!("table '{database}.{name}' already exists"));
        if self.look(&database, &name).await?.is_some() {
            return Err(exists());
        }
        self.require_database(&database).await?;
        let id = ids::new_id();
        mark_change(new, &id);
        match self.remote.create_table(new).await {
            Ok(()) => {}
            Err(Failed::Lost(error)) => {
                let made = self.remote.table(&database, &name).await?;
                made.filter(|made| has_change(made, &id)).ok_or(error)?;
            }
            Err(Failed::Refused(error)) if error.kind() == ErrorKind::AlreadyExists => return Err(exists()),
            Err(Failed::Refused(error) | Failed::Unsent(error)) => return Err(error),
        }
        self.note_change(&database, &name).await
    }

    pub(super) async fn alter_table(
        &self,
        database: &str,
        name: &str,
        expected_version: Option<i64>,
        table: &Table,
        with_partitions: bool,
    ) -> Result<()> {
        let new = checked(table)?;
        let (database, name) = (names::fold(database), names::fold(name));
        let mut tables = vec![(database.as_str(), name.as_str())];
        if (new.database.as_str(), new.name.as_str()) != tables[0] {
            tables.push((&new.database, &new.name));
        }
        let change = self.change(LockMode::Exclusive, &tables).await?;
        let outcome = self.alter_in_turn(tables[0], expected_version, new.clone(), with_partitions).await;
        change.end().await;
        outcome
    }

    async fn alter_in_turn(
        &self,
        (database, name): (&str, &str),
        expected_version: Option<i64>,
        mut new: Table,
        with_partitions: bool,
    ) -> Result<()> {
        let look = self.require(database, name).await?;
        expect_version(&look, expected_version, database, name)?;
        let old = look.at_remote()?;
        let is_renamed = (new.database.as_str(), new.name.as_str()) != (database, name);
        if is_renamed {
            self.require_database(&new.database).await?;
            if self.look(&new.database, &new.name).await?.is_some() {
                return Err(Error::already_exists(format!("table '{}.{}' already exists", new.database, new.name)));
            }
            if !look.seen.pending.is_empty() && old.owns_files() && !self.remote.is_tereza().await? {
                let message = format!(
                    "the metastore may move the files of table '{database}.{name}', and commits to it are not rolled forward"
                );
                return Err(Error::unavailable(message).with_hint("read the table, and try again"));
            }
        }
        let same_keys =
            old.partition_keys.iter().map(|key| &key.name).eq(new.partition_keys.iter().map(|key| &key.name));
        if !same_keys
            && !old.partition_keys.is_empty()
            && !self.remote.partition_names(database, name).await?.is_empty()
        {
            let message =
                format!("the partition keys of table '{database}.{name}' cannot change while it has partitions");
            return Err(Error::invalid_input(message));
        }
        let id = ids::new_id();
        new.create_time_s = old.create_time_s;
        keep_marks(&old.parameters, &mut new.parameters);
        mark_change(&mut new, &id);
        if let Err(failed) = self.remote.alter_table(database, name, &new, with_partitions).await {
            let Failed::Lost(error) = failed else { return Err(failed.into()) };
            let altered = self.remote.table(&new.database, &new.name).await?;
            altered.filter(|altered| has_change(altered, &id)).ok_or(error)?;
        }
        if !is_renamed {
            return self.note_change(database, name).await;
        }
        match self.remote.table(&new.database, &new.name).await? {
            Some(table) => self.local.renamed(look.seen.id, &new.database, &new.name, &mark_of(&table)?).await,
            None => self.local.gone(database, name).await,
        }
    }

    pub(super) async fn drop_table(&self, database: &str, name: &str, with_files: bool) -> Result<Table> {
        let (database, name) = (names::fold(database), names::fold(name));
        let change = self.change(LockMode::Exclusive, &[(&database, &name)]).await?;
        let outcome = self.drop_in_turn(&database, &name, with_files).await;
        change.end().await;
        outcome
    }

    async fn drop_in_turn(&self, database: &str, name: &str, with_files: bool) -> Result<Table> {
        let look = self.require(database, name).await?;
        let table = look.table(&self.marks)?;
        if let Err(failed) = self.remote.drop_table(database, name, with_files).await {
            let Failed::Lost(error) = failed else { return Err(failed.into()) };
            if self.remote.table(database, name).await?.is_some() {
                return Err(error);
            }
        }
        self.local.gone(database, name).await?;
        Ok(table)
    }

    /// Those of the locations at which a table is that is known of, or one of a database in whose folder they are.
    pub(super) async fn locations_in_use(&self, locations: &[String]) -> Result<Vec<String>> {
        let mut used = self.local.seen_locations().await?;
        for database in self.remote.databases().await? {
            let home = match self.remote.database(&database).await {
                Ok(database) => database.location,
                // One that was dropped since it was listed.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            if !locations.iter().any(|location| places::is_below(location, &home)) {
                continue;
            }
            let names = Source::tables(&*self.remote, &database).await?;
            for names in names.chunks(TABLES_AT_ONCE) {
                let tables = self.remote.tables_by_names(&database, names).await?;
                used.extend(tables.into_iter().filter_map(|table| table.storage.location));
            }
        }
        let used: std::collections::HashSet<String> = used.iter().map(|location| places::plain(location)).collect();
        Ok(locations.iter().filter(|location| used.contains(&places::plain(location))).cloned().collect())
    }
}

//! Databases.

use tereza_runtime::{Error, ErrorKind};
use tereza_thrift::hive::{
    self, AlreadyExistsException, Exception, InvalidObjectException, InvalidOperationException, NoSuchObjectException,
};

use super::pattern::Pattern;
use super::tables::owns_files;
use super::{Answer, Session, below, convert, is_below, names};
use crate::model::TableKind;

impl Session {
    /// Names of the databases that fit a pattern.
    pub(super) async fn databases(&self, pattern: Option<String>) -> Answer<Vec<String>> {
        let mut found = self.store().databases().await?;
        if let Some(pattern) = names::database_or_all(pattern)? {
            let pattern = Pattern::of_names(&pattern);
            found.retain(|name| pattern.matches(name));
        }
        Ok(found)
    }

    pub(super) async fn database(&self, name: Option<String>) -> Answer<hive::Database> {
        let name = names::database(name)?;
        let found = self.store().database(&name).await.map_err(|error| of_database(error, &name))?;
        Ok(convert::database_to(found))
    }

    pub(super) async fn make_database(&self, database: hive::Database) -> Answer<()> {
        names::check_catalog(database.catalog_name.as_deref())?;
        let name = names::database(database.name.clone())?;
        names::check_new(&name, "database")?;
        let mut new = convert::database_from(name.clone(), database);
        if new.location.is_empty() {
            new.location = below(&self.shared.settings.warehouse, &format!("{name}.db"));
        }
        if self.store().database(&name).await.is_err() {
            self.make_folder(Some(&new.location))?;
        }
        self.store().create_database(&new).await.map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => AlreadyExistsException::new(format!("Database {name} already exists")).into(),
            ErrorKind::InvalidInput => InvalidObjectException::new(error.to_string()).into(),
            _ => Exception::from(error),
        })
    }

    pub(super) async fn change_database(&self, name: Option<String>, database: hive::Database) -> Answer<()> {
        let name = names::database(name)?;
        let old = self.store().database(&name).await.map_err(|error| of_database(error, &name))?;
        let mut new = convert::database_from(name.clone(), database);
        if new.location.is_empty() {
            new.location = old.location;
        }
        self.store().alter_database(&name, &new).await.map_err(|error| of_database(error, &name))
    }

    pub(super) async fn remove_database(&self, name: Option<String>, delete_data: bool, cascade: bool) -> Answer<()> {
        let name = names::database(name)?;
        let database = self.store().database(&name).await.map_err(|error| of_database(error, &name))?;
        let mut locations = Vec::new();
        // The files of an external table stay when it is dropped, so the folder that they are in stays too.
        let mut keeps_folder = false;
        if delete_data && cascade {
            for (table, kind) in self.store().tables(&name).await? {
                if kind == TableKind::View {
                    continue;
                }
                let table = self.table(&name, &table).await?;
                if owns_files(&table) {
                    locations.extend(self.data_locations(&table).await?);
                } else {
                    let location = table.storage.location.as_deref();
                    keeps_folder |= location.is_some_and(|location| is_below(location, &database.location));
                }
            }
        }
        self.store().drop_database(&name, cascade).await.map_err(|error| match error.kind() {
            ErrorKind::NotFound => of_database(error, &name),
            // Clients look for this text and not for the store's.
            ErrorKind::InvalidInput if error.message().contains("is not empty") => {
                let what = if error.message().contains("holds 0 tables") { "functions" } else { "tables" };
                let message = format!("Database {name} is not empty. One or more {what} exist.");
                InvalidOperationException::new(message).into()
            }
            _ => Exception::from(error),
        })?;
        tracing::debug!(database = name, user = self.user(), "a database was dropped");
        if !delete_data {
            return Ok(());
        }
        self.remove_folders(locations).await;
        if !keeps_folder {
            self.remove_folder(&database.location).await;
        }
        Ok(())
    }
}

pub(super) fn of_database(error: Error, name: &str) -> Exception {
    if error.kind() == ErrorKind::NotFound { NoSuchObjectException::new(name).into() } else { error.into() }
}

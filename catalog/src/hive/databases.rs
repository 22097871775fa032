//! Databases.

use tereza_runtime::{Error, ErrorKind};
use tereza_thrift::hive::{
    self, AlreadyExistsException, Exception, InvalidObjectException, InvalidOperationException, MetaException,
    NoSuchObjectException,
};

use super::pattern::Pattern;
use super::{Answer, Session, below, convert, names};

/// The database that is always there.
const DEFAULT_DATABASE: &str = "default";

impl Session {
    /// Names of the databases that fit a pattern.
    pub(super) async fn databases(&self, pattern: Option<String>) -> Answer<Vec<String>> {
        let mut found = self.store().databases().await?;
        let pattern = match names::database_or_all(pattern) {
            // Another catalog has no databases.
            Err(Exception::NoSuchObject(_)) => return Ok(Vec::new()),
            pattern => pattern?,
        };
        if let Some(pattern) = pattern {
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
        names::check_new_in(database.catalog_name.as_deref())?;
        let name = names::database(database.name.clone())?;
        names::check_new(&name, "database")?;
        let mut new = convert::database_from(name.clone(), database);
        if new.location.is_empty() {
            new.location = below(&self.shared.settings.warehouse, &format!("{name}.db"));
        }
        if self.store().database(&name).await.is_err() {
            self.wait_for_removal(std::slice::from_ref(&new.location)).await;
            self.make_folders(vec![new.location.clone()], false).await?;
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
        // A metastore takes an empty one for one that is not said.
        if new.description.as_deref().is_none_or(|text| text.trim().is_empty()) {
            new.description = old.description;
        }
        self.store().alter_database(&name, &new).await.map_err(|error| of_database(error, &name))
    }

    pub(super) async fn remove_database(&self, name: Option<String>, delete_data: bool, cascade: bool) -> Answer<()> {
        let name = names::database(name)?;
        if name == DEFAULT_DATABASE {
            let message = format!("Can not drop default database in catalog {}", names::CATALOG);
            return Err(MetaException::new(message).into());
        }
        let dropped = if delete_data {
            self.store().drop_database_with_files(&name, cascade).await
        } else {
            self.store().drop_database(&name, cascade).await.map(|()| Vec::new())
        };
        let noted = dropped.map_err(|error| match error.kind() {
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
        self.wait_for_removal(&noted).await;
        Ok(())
    }
}

pub(super) fn of_database(error: Error, name: &str) -> Exception {
    if error.kind() == ErrorKind::NotFound { NoSuchObjectException::new(name).into() } else { error.into() }
}

//! CREATE, DROP and ALTER SCHEMA (DATABASE).

use std::sync::Arc;

use tereza_catalog::model::{Database, Parameters, Table, TableKind};
use tereza_catalog::store::PartitionFilter;
use tereza_runtime::{Error, ErrorKind, Result};

use super::change::settle;
use super::files;
use super::properties::texts;
use crate::session::{Session, USER_CATALOG};
use crate::statement::errors;
use crate::statement::parse::{Reader, SchemaName, TableName};
use crate::statement::{Planned, Planner};

/// `CREATE SCHEMA|DATABASE [IF NOT EXISTS] name [COMMENT '…'] [LOCATION '…'] [WITH [DBPROPERTIES] (…)]`
pub(in crate::statement) struct CreateSchema {
    name: SchemaName,
    pub(super) if_not_exists: bool,
    comment: Option<String>,
    location: Option<String>,
    parameters: Parameters,
}

impl CreateSchema {
    pub(super) fn parse(reader: &mut Reader<'_>, name: SchemaName, if_not_exists: bool) -> Result<Self> {
        let mut create = Self { name, if_not_exists, comment: None, location: None, parameters: Parameters::new() };
        loop {
            if reader.take("COMMENT") {
                create.comment = Some(reader.text()?);
            } else if reader.take("LOCATION") {
                create.location = Some(reader.text()?);
            } else if reader.take("WITH DBPROPERTIES") || reader.text.scope.is_flink && reader.take("WITH") {
                create.parameters.extend(texts(reader)?);
            } else if reader.take("WITH") {
                // Presto's only property is the location.
                for (key, value) in texts(reader)? {
                    match key.as_str() {
                        "location" => create.location = Some(value),
                        _ => {
                            return Err(Error::unsupported(format!("schema property '{key}'"))
                                .with_hint("use WITH DBPROPERTIES"));
                        }
                    }
                }
            } else {
                return Ok(create);
            }
        }
    }

    pub(super) fn plan(self, planner: &Planner<'_>) -> Planned {
        let session = Arc::clone(planner.session);
        Planned::command(async move { self.run(&session).await })
    }

    async fn run(self, session: &Session) -> Result<()> {
        let name = self.name.schema;
        let location = match &self.location {
            Some(location) => session.engine.stores.kept_url(location)?,
            None => {
                let location = format!("{}/{name}.db", session.engine.warehouse.trim_end_matches('/'));
                session.engine.stores.kept_url(&location)?
            }
        };
        let database = Database {
            name,
            description: self.comment,
            location,
            owner: Some(session.user.clone()),
            owner_kind: Default::default(),
            parameters: self.parameters,
        };
        match session.engine.catalog.create_database(&database).await {
            Err(error) if error.kind() == ErrorKind::AlreadyExists && self.if_not_exists => Ok(()),
            done => done,
        }
    }
}

/// `DROP SCHEMA|DATABASE [IF EXISTS] name [CASCADE|RESTRICT]`
pub(in crate::statement) struct DropSchema {
    name: SchemaName,
    pub(super) if_exists: bool,
    cascade: bool,
}

impl DropSchema {
    pub(super) fn parse(reader: &mut Reader<'_>, name: SchemaName, if_exists: bool) -> Self {
        let cascade = reader.take("CASCADE");
        reader.take("RESTRICT");
        Self { name, if_exists, cascade }
    }

    pub(super) fn plan(self, planner: &Planner<'_>) -> Planned {
        let session = Arc::clone(planner.session);
        Planned::command(async move { self.run(&session).await })
    }

    async fn run(self, session: &Session) -> Result<()> {
        let store = &session.engine.catalog;
        let name = &self.name.schema;
        if name == "default" {
            return Err(Error::denied("dropping schema 'default'").with_hint("drop its tables instead"));
        }
        match errors::database(session, &self.name).await {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound && self.if_exists => return Ok(()),
            Err(error) => return Err(error),
        }
        let tables = store.tables(name).await?;
        if !tables.is_empty() && !self.cascade {
            return Err(Error::invalid_input(format!("schema '{name}' is not empty: it has {} tables", tables.len()))
                .with_hint("drop them first, or use CASCADE"));
        }
        let mut managed = Vec::new();
        for (table, _) in tables.iter().filter(|(_, kind)| *kind == TableKind::Managed) {
            let snapshot = store.snapshot(name, table, &PartitionFilter::default()).await?;
            settle(session, &snapshot.pending).await?;
            managed.push(snapshot.table.table);
        }
        store.drop_database(name, self.cascade).await?;
        for table in &managed {
            remove_files(session, table).await?;
        }
        Ok(())
    }
}

/// Deletes the files of a managed table that was dropped.
pub(super) async fn remove_files(session: &Session, table: &Table) -> Result<()> {
    let Some(location) = &table.storage.location else { return Ok(()) };
    let place = session.engine.stores.place(location)?;
    files::remove(&place).await.map_err(|error| {
        let name =
            TableName { catalog: USER_CATALOG.into(), schema: table.database.clone(), table: table.name.clone() };
        error.context(format!("{name} is dropped, but its files are left"))
    })
}

/// `ALTER SCHEMA|DATABASE name SET DBPROPERTIES (…) | SET LOCATION '…' | SET OWNER [USER] name | RENAME TO name`
pub(in crate::statement) struct AlterSchema {
    name: SchemaName,
    action: Action,
}

enum Action {
    Properties(Parameters),
    Location(String),
    Owner(String),
}

impl AlterSchema {
    pub(super) fn parse(reader: &mut Reader<'_>) -> Result<Self> {
        let name = reader.schema_name()?;
        match name.home() {
            crate::statement::parse::Home::Tereza => {}
            _ => return Err(Error::unsupported(format!("ALTER SCHEMA on {name}"))),
        }
        let action = if reader.take("SET DBPROPERTIES") || reader.take("SET PROPERTIES") {
            Action::Properties(texts(reader)?)
        } else if reader.take("SET LOCATION") {
            Action::Location(reader.text()?)
        } else if reader.take("SET OWNER") {
            let _ = reader.take("USER") || reader.take("ROLE");
            Action::Owner(reader.identifier()?)
        } else if reader.at("RENAME TO") {
            return Err(reader.refuse(Error::unsupported("ALTER SCHEMA … RENAME TO")));
        } else {
            return Err(reader.expected("SET DBPROPERTIES, SET LOCATION or SET OWNER"));
        };
        Ok(Self { name, action })
    }

    pub(super) fn plan(self, planner: &Planner<'_>) -> Planned {
        let session = Arc::clone(planner.session);
        Planned::command(async move { self.run(&session).await })
    }

    async fn run(self, session: &Session) -> Result<()> {
        let mut database = errors::database(session, &self.name).await?;
        match self.action {
            Action::Properties(parameters) => database.parameters.extend(parameters),
            Action::Location(location) => database.location = session.engine.stores.kept_url(&location)?,
            Action::Owner(owner) => database.owner = Some(owner),
        }
        session.engine.catalog.alter_database(&self.name.schema, &database).await
    }
}

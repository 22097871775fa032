//! ALTER TABLE.
//!
//! Files are never rewritten but by COMPACT, so a change of columns is allowed only where every file that is there keeps its meaning.
//! Parquet, ORC, Avro and JSON files are read by the names of their columns, CSV files by position: adding at the end and
//! dropping are safe by name, renaming is safe by position, and everything is safe while the table has no files.

use std::sync::Arc;

use datafusion::sql::sqlparser::tokenizer::Token;
use tereza_catalog::model::{Column, Parameters, Partition, Table, TableKind};
use tereza_catalog::store::{PartitionFilter, VersionedTable};
use tereza_runtime::{Error, ErrorKind, Result};

use super::change::{change, settle};
use super::drop::file_urls;
use super::files;
use super::partitions::{Repair, Spec, new_partition, partitioned};
use super::properties::{key, texts};
use super::table::added_columns;
use crate::formats::{Format, spark};
use crate::session::Session;
use crate::statement::errors;
use crate::statement::parse::{Reader, SchemaName, TableName};
use crate::statement::{Planned, Planner, stream};
use crate::write;

/// `ALTER TABLE [IF EXISTS] name action`
pub(in crate::statement) struct AlterTable {
    name: TableName,
    if_exists: bool,
    action: Action,
}

enum Action {
    AddColumns { columns: Vec<Column>, if_not_exists: bool },
    RenameColumn { from: String, to: String },
    DropColumn { column: String, if_exists: bool },
    Rename(TableName),
    SetProperties(Parameters),
    UnsetProperties { keys: Vec<String>, if_exists: bool },
    SetLocation { spec: Option<Spec>, location: String },
    AddPartitions { partitions: Vec<(Spec, Option<String>)>, if_not_exists: bool },
    DropPartitions { specs: Vec<Spec>, if_exists: bool },
    RecoverPartitions,
    Compact(Option<Spec>),
}

impl AlterTable {
    pub(super) fn parse(reader: &mut Reader<'_>) -> Result<Self> {
        let if_exists = reader.take("IF EXISTS");
        let name = reader.table_name()?;
        name.require_tereza("ALTER TABLE")?;
        let partition = if reader.take("PARTITION") { Some(Spec::parse(reader)?) } else { None };
        let action = match (Action::parse(reader)?, partition) {
            (Action::SetLocation { location, .. }, spec) => Action::SetLocation { spec, location },
            (Action::Compact(_), spec) => Action::Compact(spec),
            (action, None) => action,
            (_, Some(_)) => {
                return Err(Error::unsupported("ALTER TABLE … PARTITION with anything but SET LOCATION and COMPACT"));
            }
        };
        Ok(Self { name, if_exists, action })
    }

    pub(super) fn plan(self, planner: &Planner<'_>) -> Planned {
        let session = Arc::clone(planner.session);
        Planned::command(async move { self.run(&session).await })
    }

    async fn run(self, session: &Session) -> Result<()> {
        let found = match errors::table(session, &self.name).await {
            Err(error) if error.kind() == ErrorKind::NotFound && self.if_exists => return Ok(()),
            found => found?,
        };
        let view = matches!(found.table.kind, TableKind::View | TableKind::MaterializedView);
        let of_views =
            matches!(self.action, Action::Rename(_) | Action::SetProperties(_) | Action::UnsetProperties { .. });
        if view && !of_views {
            return Err(
                Error::invalid_input(format!("{} is a view", self.name)).with_hint("CREATE OR REPLACE VIEW changes it")
            );
        }
        if !of_views && stream::of_table(&found.table)?.is_some() {
            return Err(Error::unsupported(format!("this ALTER TABLE on {}, the table of a stream", self.name))
                .with_hint("DROP TABLE it and make it again: its rows are not in the catalog"));
        }
        let name = &self.name;
        let of_columns = matches!(self.action, Action::RenameColumn { .. } | Action::DropColumn { .. });
        if of_columns && spark::keeps_columns(&found.table) {
            return Err(Error::unsupported(format!(
                "renaming and dropping columns of {name}, which Spark keeps a list of its own of"
            ))
            .with_hint("change them in Spark"));
        }
        match self.action {
            Action::AddColumns { columns, if_not_exists } => {
                add_columns(session, name, found, columns, if_not_exists).await
            }
            Action::RenameColumn { from, to } => rename_column(session, name, found, &from, to).await,
            Action::DropColumn { column, if_exists } => drop_column(session, name, found, &column, if_exists).await,
            Action::Rename(to) => rename(session, name, found, to).await,
            Action::SetProperties(parameters) => set_properties(session, found, parameters).await,
            Action::UnsetProperties { keys, if_exists } => {
                unset_properties(session, name, found, &keys, if_exists).await
            }
            Action::SetLocation { spec, location } => set_location(session, name, found, spec, &location).await,
            Action::AddPartitions { partitions, if_not_exists } => {
                add_partitions(session, name, &partitions, if_not_exists).await
            }
            Action::DropPartitions { specs, if_exists } => drop_partitions(session, name, &specs, if_exists).await,
            Action::RecoverPartitions => Repair::recover(self.name).run(session).await,
            Action::Compact(spec) => compact(session, name, &found.table, spec.as_ref()).await,
        }
    }
}

impl Action {
    fn parse(reader: &mut Reader<'_>) -> Result<Self> {
        let actions = [
            "ADD IF NOT EXISTS PARTITION",
            "ADD PARTITION",
            "ADD COLUMNS",
            "ADD COLUMN IF NOT EXISTS",
            "ADD COLUMN",
            "DROP IF EXISTS PARTITION",
            "DROP PARTITION",
            "DROP COLUMN IF EXISTS",
            "DROP COLUMN",
            "RENAME COLUMN",
            "RENAME TO",
            "SET TBLPROPERTIES",
            "SET PROPERTIES",
            "UNSET TBLPROPERTIES",
            "SET LOCATION",
            "RECOVER PARTITIONS",
            "COMPACT",
        ];
        match reader.take_one(&actions) {
            Some("ADD COLUMNS" | "ADD COLUMN") => {
                Ok(Self::AddColumns { columns: added_columns(reader)?, if_not_exists: false })
            }
            Some("ADD COLUMN IF NOT EXISTS") => {
                Ok(Self::AddColumns { columns: added_columns(reader)?, if_not_exists: true })
            }
            Some("RENAME COLUMN") => {
                let from = reader.identifier()?.to_lowercase();
                reader.expect("TO")?;
                Ok(Self::RenameColumn { from, to: reader.identifier()?.to_lowercase() })
            }
            Some("DROP COLUMN") => {
                Ok(Self::DropColumn { column: reader.identifier()?.to_lowercase(), if_exists: false })
            }
            Some("DROP COLUMN IF EXISTS") => {
                Ok(Self::DropColumn { column: reader.identifier()?.to_lowercase(), if_exists: true })
            }
            Some("RENAME TO") => {
                let name = reader.table_name()?;
                name.require_tereza("ALTER TABLE … RENAME TO")?;
                Ok(Self::Rename(name))
            }
            Some("SET TBLPROPERTIES") => Ok(Self::SetProperties(texts(reader)?)),
            Some("SET PROPERTIES") => {
                // Presto writes them without parentheses.
                let mut parameters = Parameters::new();
                loop {
                    let name = key(reader)?;
                    reader.expect_token(&Token::Eq)?;
                    parameters.insert(name, reader.text()?);
                    if !reader.take_token(&Token::Comma) {
                        return Ok(Self::SetProperties(parameters));
                    }
                }
            }
            Some("UNSET TBLPROPERTIES") => {
                let if_exists = reader.take("IF EXISTS");
                Ok(Self::UnsetProperties { keys: reader.list(key)?, if_exists })
            }
            Some("SET LOCATION") => Ok(Self::SetLocation { spec: None, location: reader.text()? }),
            Some("RECOVER PARTITIONS") => Ok(Self::RecoverPartitions),
            Some("COMPACT") => match reader.text()? {
                kind if kind.eq_ignore_ascii_case("major") => Ok(Self::Compact(None)),
                kind => Err(Error::unsupported(format!("ALTER TABLE … COMPACT '{kind}'"))
                    .with_hint("COMPACT 'major' rewrites partitions that have small files")),
            },
            Some(words @ ("ADD PARTITION" | "ADD IF NOT EXISTS PARTITION")) => {
                let mut partitions = Vec::new();
                loop {
                    let spec = Spec::parse(reader)?;
                    let location = if reader.take("LOCATION") { Some(reader.text()?) } else { None };
                    partitions.push((spec, location));
                    if !reader.take("PARTITION") {
                        return Ok(Self::AddPartitions { partitions, if_not_exists: words != "ADD PARTITION" });
                    }
                }
            }
            Some(words) => {
                let mut specs = vec![Spec::parse(reader)?];
                while reader.take_token(&Token::Comma) {
                    reader.expect("PARTITION")?;
                    specs.push(Spec::parse(reader)?);
                }
                reader.take("PURGE");
                Ok(Self::DropPartitions { specs, if_exists: words == "DROP IF EXISTS PARTITION" })
            }
            None => Err(refused(reader)),
        }
    }
}

/// The error for what other systems can alter.
fn refused(reader: &Reader<'_>) -> Error {
    let known = [
        "CHANGE",
        "REPLACE COLUMNS",
        "ALTER COLUMN",
        "SET FILEFORMAT",
        "SET SERDE",
        "SET SERDEPROPERTIES",
        "EXCHANGE",
        "CLUSTERED BY",
        "SKEWED BY",
        "TOUCH",
        "ARCHIVE",
        "CONCATENATE",
        "RENAME PARTITION",
        "EXECUTE",
        "ADD CONSTRAINT",
    ];
    match known.iter().find(|words| reader.at(words)) {
        Some(words) => reader.refuse(Error::unsupported(format!("ALTER TABLE … {words}"))),
        None => reader.expected("ADD, DROP, RENAME, SET, UNSET or RECOVER PARTITIONS"),
    }
}

/// Rewrites partitions with small files, one after the other, each in a commit of its own.
async fn compact(session: &Session, name: &TableName, table: &Table, spec: Option<&Spec>) -> Result<()> {
    let (engine, database, table_name) = (&session.engine, &table.database, &table.name);
    let filter = spec.map(|spec| spec.filter(table)).transpose()?.unwrap_or_default();
    if table.partition_keys.is_empty() {
        return write::compact(engine, database, table_name, &[]).await.map(drop);
    }
    let mut partitions = engine.catalog.partitions(database, table_name, &filter, None).await?;
    partitions.retain(|partition| spec.is_none_or(|spec| spec.matches(table, partition)));
    if let Some(spec) = spec.filter(|_| partitions.is_empty()) {
        return Err(Error::not_found(format!("{name} has no partition ({spec})")));
    }
    for partition in partitions {
        write::compact(engine, database, table_name, &partition.values).await?;
    }
    Ok(())
}

async fn save(session: &Session, found: &VersionedTable, table: &Table) -> Result<()> {
    let (database, name) = (&found.table.database, &found.table.name);
    session.engine.catalog.alter_table(database, name, Some(found.version), table).await
}

/// Whether the table has no files at all, so that no change of its columns can change what a file means.
async fn has_no_files(session: &Session, table: &Table) -> Result<bool> {
    let snapshot = session.engine.catalog.snapshot(&table.database, &table.name, &PartitionFilter::default()).await?;
    settle(session, &snapshot.pending).await?;
    let partitions = snapshot.partitions.iter().filter_map(|partition| partition.storage.location.as_deref());
    for location in table.storage.location.as_deref().into_iter().chain(partitions) {
        let place = session.engine.stores.place(location)?;
        if !files::visible_files(&place).await?.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether the fields of the table's files are known by their position only.
fn is_by_position(table: &Table) -> Result<bool> {
    Ok(matches!(Format::of_table(table, &table.storage)?, Format::Csv | Format::Text))
}

async fn add_columns(
    session: &Session,
    name: &TableName,
    found: VersionedTable,
    columns: Vec<Column>,
    if_not_exists: bool,
) -> Result<()> {
    let mut table = found.table.clone();
    if is_by_position(&table)? && !has_no_files(session, &table).await? {
        return Err(Error::unsupported(format!("adding a column to {name}, whose text files have no field for it"))
            .with_hint("make a new table with CREATE TABLE AS"));
    }
    let there = spark::columns(&table)?.into_owned();
    let mut added: Vec<Column> = Vec::new();
    for column in columns {
        let mut known = there.iter().chain(&table.partition_keys).chain(&added);
        match known.any(|known| known.name == column.name) {
            true if if_not_exists => {}
            true => return Err(Error::already_exists(format!("column '{}' exists already in {name}", column.name))),
            false => added.push(column),
        }
    }
    spark::add_columns(&mut table, added)?;
    save(session, &found, &table).await
}

/// Where a column of the files is.
fn position(table: &Table, name: &TableName, column: &str) -> Result<usize> {
    if let Some(position) = table.storage.columns.iter().position(|known| known.name == column) {
        return Ok(position);
    }
    if table.partition_keys.iter().any(|key| key.name == column) {
        return Err(Error::unsupported(format!(
            "changing the partition key '{column}' of {name}, which is in the names of folders"
        )));
    }
    let error = Error::invalid_input(format!("column '{column}' not found in {name}"));
    Err(errors::did_you_mean(error, column, table.storage.columns.iter().map(|known| known.name.as_str())))
}

async fn rename_column(
    session: &Session,
    name: &TableName,
    found: VersionedTable,
    from: &str,
    to: String,
) -> Result<()> {
    let mut table = found.table.clone();
    let position = position(&table, name, from)?;
    if table.storage.columns.iter().chain(&table.partition_keys).any(|known| known.name == to) {
        return Err(Error::already_exists(format!("column '{to}' exists already in {name}")));
    }
    if !is_by_position(&table)? && !has_no_files(session, &table).await? {
        return Err(Error::unsupported(format!(
            "renaming column '{from}' of {name}: its files know the column by that name, and its values would become NULL"
        ))
        .with_hint("make a view with the new name, or a new table with CREATE TABLE AS"));
    }
    table.storage.columns[position].name = to;
    save(session, &found, &table).await
}

async fn drop_column(
    session: &Session,
    name: &TableName,
    found: VersionedTable,
    column: &str,
    if_exists: bool,
) -> Result<()> {
    let mut table = found.table.clone();
    let known = table.storage.columns.iter().chain(&table.partition_keys).any(|known| known.name == column);
    if !known && if_exists {
        return Ok(());
    }
    let position = position(&table, name, column)?;
    if table.storage.columns.len() == 1 {
        return Err(
            Error::invalid_input(format!("column '{column}' is the only column of {name}")).with_hint("use DROP TABLE")
        );
    }
    if is_by_position(&table)? && !has_no_files(session, &table).await? {
        return Err(Error::unsupported(format!(
            "dropping a column of {name}, whose text files still have a field for it"
        ))
        .with_hint("make a view or a new table without it"));
    }
    table.storage.columns.remove(position);
    save(session, &found, &table).await
}

async fn rename(session: &Session, name: &TableName, found: VersionedTable, to: TableName) -> Result<()> {
    let schema = SchemaName { catalog: to.catalog.clone(), schema: to.schema.clone() };
    errors::database(session, &schema).await?;
    if session.engine.catalog.table(&to.schema, &to.table).await.is_ok() {
        return Err(Error::already_exists(format!("table {to} exists already")));
    }
    // The folder stays where it is: moving files would not be one step.
    let table = Table { database: to.schema, name: to.table, ..found.table.clone() };
    save(session, &found, &table).await.map_err(|error| error.context(format!("renaming {name}")))
}

async fn set_properties(session: &Session, found: VersionedTable, parameters: Parameters) -> Result<()> {
    let mut table = found.table.clone();
    for (key, value) in parameters {
        // Hive's way of handing the files over, or taking them.
        if key == "EXTERNAL" && matches!(table.kind, TableKind::Managed | TableKind::External) {
            table.kind = if value.eq_ignore_ascii_case("true") { TableKind::External } else { TableKind::Managed };
        }
        table.parameters.insert(key, value);
    }
    save(session, &found, &table).await
}

async fn unset_properties(
    session: &Session,
    name: &TableName,
    found: VersionedTable,
    keys: &[String],
    if_exists: bool,
) -> Result<()> {
    let mut table = found.table.clone();
    for key in keys {
        if table.parameters.remove(key).is_none() && !if_exists {
            let error = Error::not_found(format!("{name} has no property '{key}'"));
            return Err(errors::did_you_mean(error, key, table.parameters.keys().map(String::as_str)));
        }
    }
    save(session, &found, &table).await
}

async fn set_location(
    session: &Session,
    name: &TableName,
    found: VersionedTable,
    spec: Option<Spec>,
    location: &str,
) -> Result<()> {
    if found.table.kind != TableKind::External {
        return Err(Error::unsupported(format!("SET LOCATION on {name}, whose files belong to it"))
            .with_hint("only external tables can be pointed elsewhere"));
    }
    let location = Some(session.engine.stores.kept_url(location)?);
    let Some(spec) = spec else {
        let mut table = found.table.clone();
        table.storage.location = location;
        return save(session, &found, &table).await;
    };
    let store = &session.engine.catalog;
    let values = spec.values(&found.table)?;
    let partitions =
        store.partitions(&found.table.database, &found.table.name, &spec.filter(&found.table)?, None).await?;
    let Some(mut partition) = partitions.into_iter().find(|partition| partition.values == values) else {
        return Err(Error::not_found(format!("{name} has no partition {}", values.join(", "))));
    };
    partition.storage.location = location;
    store.alter_partitions(&found.table.database, &found.table.name, &[partition]).await
}

async fn add_partitions(
    session: &Session,
    name: &TableName,
    partitions: &[(Spec, Option<String>)],
    if_not_exists: bool,
) -> Result<()> {
    let table = partitioned(session, name).await?;
    let partitions = partitions
        .iter()
        .map(|(spec, location)| new_partition(session, &table, spec, location.as_deref()))
        .collect::<Result<Vec<_>>>()?;
    session.engine.catalog.add_partitions(&table.database, &table.name, &partitions, if_not_exists).await?;
    Ok(())
}

/// Drops all partitions that a spec names, and their rows: the files of a managed table go with them.
async fn drop_partitions(session: &Session, name: &TableName, specs: &[Spec], if_exists: bool) -> Result<()> {
    let table = partitioned(session, name).await?;
    let store = &session.engine.catalog;
    let snapshot = store.snapshot(&table.database, &table.name, &PartitionFilter::default()).await?;
    for spec in specs {
        spec.filter(&table)?;
        if !if_exists && !snapshot.partitions.iter().any(|partition| spec.matches(&table, partition)) {
            return Err(Error::not_found(format!("{name} has no partition ({spec})")).with_hint("see SHOW PARTITIONS"));
        }
    }
    let is_named = |partition: &&Partition| specs.iter().any(|spec| spec.matches(&table, partition));
    let dropped: Vec<&Partition> = snapshot.partitions.iter().filter(is_named).collect();
    let values: Vec<Vec<String>> = dropped.iter().map(|partition| partition.values.clone()).collect();
    if values.is_empty() {
        return Ok(());
    }
    if table.kind != TableKind::Managed {
        store.drop_partitions(&table.database, &table.name, &values, true).await?;
        return Ok(());
    }
    settle(session, &snapshot.pending).await?;
    let storages: Vec<_> = dropped.iter().map(|partition| &partition.storage).collect();
    let files = file_urls(session, &table, &storages).await?;
    change(session, &table.database, &table.name, snapshot.table.version, |commit| {
        commit.remove_files = files;
        commit.drop_partitions = values;
    })
    .await
}

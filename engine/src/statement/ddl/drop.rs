//! DROP TABLE and TRUNCATE TABLE.

use std::sync::Arc;

use datafusion::common::DFSchema;
use datafusion::logical_expr::{DdlStatement, DropTable as DataFusionDrop, LogicalPlan};
use tereza_catalog::model::{Storage, Table, TableKind};
use tereza_catalog::store::PartitionFilter;
use tereza_runtime::{Error, ErrorKind, Result};

use super::change::{change, settle};
use super::files;
use super::schema::remove_files;
use super::table::no_rows;
use crate::session::Session;
use crate::statement::errors;
use crate::statement::parse::{Home, Reader, TableName, read_only};
use crate::statement::{Planned, Planner, stream};

/// `DROP TABLE [IF EXISTS] name [PURGE]`
pub(in crate::statement) struct DropTable {
    name: TableName,
    pub(super) if_exists: bool,
}

impl DropTable {
    pub(super) fn parse(reader: &mut Reader<'_>) -> Result<Self> {
        let if_exists = reader.take("IF EXISTS");
        let name = reader.table_name()?;
        let _ = reader.take_one(&["CASCADE", "RESTRICT"]);
        // Files are always deleted at once: there is no trash to skip.
        reader.take("PURGE");
        Ok(Self { name, if_exists })
    }

    pub(super) async fn plan(self, planner: &Planner<'_>) -> Result<Planned> {
        match self.name.home() {
            Home::ReadOnly => Err(read_only(&self.name.to_string(), "DROP TABLE")),
            Home::Session => {
                let drop = DataFusionDrop {
                    name: self.name.reference(),
                    if_exists: self.if_exists,
                    schema: Arc::new(DFSchema::empty()),
                };
                planner.finish(LogicalPlan::Ddl(DdlStatement::DropTable(drop))).await
            }
            Home::Tereza => {
                let session = Arc::clone(planner.session);
                Ok(Planned::command(async move { self.run(&session).await }))
            }
        }
    }

    async fn run(self, session: &Session) -> Result<()> {
        // While there is a temporary table of a stream, the name means that.
        if stream::drop_temporary(session, &self.name) {
            return Ok(());
        }
        let store = &session.engine.catalog;
        let table = match errors::table(session, &self.name).await {
            Err(error) if error.kind() == ErrorKind::NotFound && self.if_exists => return Ok(()),
            found => found?.table,
        };
        if matches!(table.kind, TableKind::View | TableKind::MaterializedView) {
            return Err(Error::invalid_input(format!("{} is a view", self.name)).with_hint("use DROP VIEW"));
        }
        if table.kind == TableKind::Managed {
            // What an earlier statement committed must be in the folder, or it would stay behind.
            let snapshot = store.snapshot(&table.database, &table.name, &PartitionFilter::default()).await?;
            settle(session, &snapshot.pending).await?;
        }
        let dropped = store.drop_table(&table.database, &table.name).await?;
        if dropped.kind == TableKind::Managed { remove_files(session, &dropped).await } else { Ok(()) }
    }
}

/// `TRUNCATE [TABLE] [IF EXISTS] name`: all rows go in one commit, and with them the partitions.
pub(in crate::statement) struct Truncate {
    name: TableName,
    if_exists: bool,
}

impl Truncate {
    /// Reads the rest of the statement; `None` if the table is the session's own.
    pub(super) fn parse(reader: &mut Reader<'_>) -> Result<Option<Self>> {
        reader.take("TABLE");
        let if_exists = reader.take("IF EXISTS");
        let name = reader.table_name()?;
        if name.home() == Home::Session {
            return Ok(None);
        }
        name.require_tereza("TRUNCATE TABLE")?;
        if reader.at("PARTITION") {
            return Err(reader
                .refuse(Error::unsupported("TRUNCATE TABLE … PARTITION"))
                .with_hint("ALTER TABLE … DROP PARTITION removes a partition and its rows"));
        }
        Ok(Some(Self { name, if_exists }))
    }

    pub(super) fn plan(self, planner: &Planner<'_>) -> Planned {
        let session = Arc::clone(planner.session);
        Planned::command(async move { self.run(&session).await })
    }

    async fn run(self, session: &Session) -> Result<()> {
        let table = match errors::table_of_files(session, &self.name, "TRUNCATE TABLE").await {
            Err(error) if error.kind() == ErrorKind::NotFound && self.if_exists => return Ok(()),
            found => found?.table,
        };
        match table.kind {
            TableKind::Managed => {}
            TableKind::External => {
                return Err(Error::denied(format!(
                    "truncating {}, an external table whose files belong to somebody else",
                    self.name
                ))
                .with_hint("INSERT OVERWRITE replaces its rows"));
            }
            TableKind::View | TableKind::MaterializedView => {
                return Err(Error::invalid_input(format!("{} is a view, which has no rows to truncate", self.name)));
            }
        }
        let snapshot =
            session.engine.catalog.snapshot(&table.database, &table.name, &PartitionFilter::default()).await?;
        settle(session, &snapshot.pending).await?;
        let partitioned = !table.partition_keys.is_empty();
        let storages: Vec<&Storage> = match partitioned {
            true => snapshot.partitions.iter().map(|partition| &partition.storage).collect(),
            false => vec![&snapshot.table.table.storage],
        };
        let files = file_urls(session, &table, &storages).await?;
        // Settling changed files, not the table: its version is still the snapshot's.
        change(session, &table.database, &table.name, snapshot.table.version, |commit| {
            commit.remove_files = files;
            commit.drop_partitions = snapshot.partitions.iter().map(|partition| partition.values.clone()).collect();
            if !partitioned {
                commit.table_parameters = no_rows();
            }
        })
        .await
    }
}

/// URLs of the visible files of a table, or of these partitions of it; only files inside the table's own folder.
pub(super) async fn file_urls(session: &Session, table: &Table, storages: &[&Storage]) -> Result<Vec<String>> {
    let Some(home) = table.storage.location.as_deref().map(|location| location.trim_end_matches('/')) else {
        return Ok(Vec::new());
    };
    let mut urls = Vec::new();
    for location in storages.iter().filter_map(|storage| storage.location.as_deref()) {
        let base = location.trim_end_matches('/');
        if !base.strip_prefix(home).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
            continue;
        }
        let place = session.engine.stores.place(location)?;
        for file in files::visible_files(&place).await? {
            let Some(parts) = file.location.prefix_match(&place.path) else { continue };
            let name: Vec<String> = parts.map(|part| part.as_ref().to_owned()).collect();
            urls.push(format!("{base}/{}", name.join("/")));
        }
    }
    Ok(urls)
}

//! Files of stream jobs: made without the catalog, and brought into a table later, perhaps by another process.
//!
//! An INSERT names its files in the catalog and dies with its process. A stream job writes the files of an epoch, names them in
//! its own record, and brings those of many epochs into the table at once, together with a number (the marker) that says how
//! far it has come. What holds:
//! * a table takes files and marker in one transaction, and only if it is the version whose marker was read;
//! * **files are taken once**: a commit looks for each at the place where it was made, after everything was rolled forward that
//!   is decided. So not even a marker that somebody else set back (a client of a metastore that writes the whole table) brings
//!   rows in twice: their files are gone from there;
//! * writing files needs no catalog, so that one that is away holds nothing up: the table's columns and the partitions that lie
//!   elsewhere are those of the time when it was opened. What has become of them is looked at by the commit;
//! * no file is in the catalog before its commit, so no process removes it as that of a dead one. Files that never came into a
//!   record are removed by [`StagingTable::remove_orphans`] alone, at the wish of their job.
//!
//! A table may say when its partitions are complete (`policy`). Then its files come into the folder of a partition without the
//! partition, which readers do not see before it is completed (`complete`).
//!
//! Files in reading order: `writer` (rows to complete files), `token` (what a file says for its commit), `commit`, `policy`,
//! `complete`, `orphans`, `folder` (folders that no catalog knows).

mod commit;
mod complete;
mod folder;
mod orphans;
mod policy;
mod token;
mod writer;

use std::sync::Arc;

use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use tereza_catalog::model::TableKind;
use tereza_catalog::store::VersionedTable;
use tereza_runtime::{Error, Result};

pub use self::folder::{Folder, StagingFolder};
pub use self::policy::PartitionCommit;
use self::token::Token;
pub use self::writer::StagingWriter;
use super::output::Output;
use super::{BACKGROUND, files};
use crate::engine::Engine;
use crate::flink::from_parameters;
use crate::session::USER_CATALOG;

/// A table of the catalog, for the files of a stream job.
#[derive(Debug)]
pub struct StagingTable {
    engine: Arc<Engine>,
    /// The id of the catalog.
    catalog: String,
    database: String,
    name: String,
    /// Where files go, of the table as it was when it was opened.
    output: Output,
    /// When partitions are complete, where the table says so.
    policy: Option<PartitionCommit>,
}

/// A complete file that no reader sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompleteFile {
    /// URL at which it is until it is committed.
    pub path: String,
    /// Bytes.
    pub size: u64,
    pub rows: u64,
    /// All else that its commit needs, as text of at most 16 KiB.
    pub token: String,
}

/// How a table is at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableState {
    /// Distinguishes this version of the table from all others.
    pub token: String,
    /// Stays as long as the table, whatever its name; one that is made anew under the same name has another.
    pub uuid: String,
    /// The number that is kept under the key that was asked for; 0 if there is none.
    pub marker: u64,
}

/// Files that a table is to take, with the marker that says so.
#[derive(Debug, Clone, Copy)]
pub struct TableChange<'a> {
    /// The table as it was loaded, with the marker under `key`.
    pub base: &'a TableState,
    /// A parameter of the table.
    pub key: &'a str,
    /// Greater than the one of `base`.
    pub marker: u64,
    pub files: &'a [CompleteFile],
}

impl StagingTable {
    /// Opens a table for the files of a job.
    ///
    /// # Errors
    /// `NotFound` if there is none of the name; `Unsupported` if it is in another catalog than `tereza`, or its files are of a
    /// format that is only read; `InvalidInput` if it is a view, or a table of a stream.
    pub async fn open(engine: &Arc<Engine>, catalog: &str, schema: &str, table: &str) -> Result<Self> {
        if !catalog.eq_ignore_ascii_case(USER_CATALOG) {
            return Err(Error::unsupported(format!("rows of a stream in table {catalog}.{schema}.{table}"))
                .with_hint(format!("use a table of the catalog {USER_CATALOG}: others have no commits")));
        }
        let found = engine.catalog.table(schema, table).await?;
        expect_files(&found)?;
        let (database, name) = (found.table.database.clone(), found.table.name.clone());
        // Files get ids of their own.
        let output = Output::new(engine, String::new(), found.table, false)?;
        engine.stores.place(&output.location)?;
        let output = output.listed(output.elsewhere().await?)?;
        let policy = PartitionCommit::of(&output.table)?;
        let catalog = engine.catalog.catalog_id().await?;
        Ok(Self { engine: Arc::clone(engine), catalog, database, name, output, policy })
    }

    /// When partitions are complete, if the table said so when it was opened.
    pub fn policy(&self) -> Option<&PartitionCommit> {
        self.policy.as_ref()
    }

    /// The partition of a file, by the catalog's texts of its values; none in an unpartitioned table.
    pub fn partition(&self, file: &CompleteFile) -> Result<Option<Vec<String>>> {
        Ok(Token::decode(&file.token).map_err(|error| error.context(&file.path))?.partition)
    }

    /// What its rows are: the columns that the table had when it was opened, then its partition keys.
    pub fn schema(&self) -> SchemaRef {
        let fields: Vec<FieldRef> = self.output.columns.fields().iter().chain(&self.output.keys).cloned().collect();
        Arc::new(Schema::new(fields))
    }

    /// Begins files. `name` is to be used once; it is part of the names of the files, and that of their folder.
    ///
    /// # Errors
    /// `InvalidInput` if it has other characters than letters and digits of ASCII, `-`, `_` and `.`, or too many of them.
    pub fn begin(&self, name: &str) -> Result<StagingWriter> {
        StagingWriter::begin(&self.engine, &self.output, name)
    }

    /// Whether a file that was made and is not in a table yet is at `path`, with its size in bytes.
    pub async fn has(&self, path: &str, size: u64) -> Result<bool> {
        files::is_there(&self.engine.stores.place(path)?, size).await
    }

    /// The table as it is now.
    ///
    /// # Errors
    /// `NotFound` if it was dropped; `InvalidInput` if what is kept under `key` is no number.
    pub async fn load(&self, key: &str) -> Result<TableState> {
        let found = self.engine.catalog.table(&self.database, &self.name).await?;
        expect_files(&found)?;
        Ok(TableState {
            token: Version::of(&found).token(),
            uuid: uuid(&self.catalog, &found),
            marker: marker(&found, key)?,
        })
    }

    /// Brings files into the table and sets the marker, in one transaction and only if the table is still the version that was
    /// loaded; whether it is so. New partitions are made as INSERT makes them, unless the table's policy adds them later.
    ///
    /// # Errors
    /// `InvalidInput` if the files do not fit the table any more: a column of theirs was dropped or has another type, the
    /// files of the table or partition are of another format or where these cannot be brought. `Internal` if one is gone.
    /// Whether it was done is open after all others: the marker tells.
    pub async fn commit(&self, change: TableChange<'_>) -> Result<bool> {
        let commit = commit::Bringing::new(self, change)?;
        // In a task of its own, which goes on when its caller is gone.
        let ended = BACKGROUND.spawn(commit.run()).await;
        ended.map_err(|error| Error::internal("a commit did not end").with_source(error))?
    }

    /// Completes a partition: adds it with the files that are in its folder, compacts these, and writes the file that says so, as
    /// the table's policy wants. `uuid` is that of the table that is meant. Whether it is done; else the table was changed at the same
    /// time. It may be done again.
    ///
    /// # Errors
    /// `NotFound` if the table was dropped; `InvalidInput` if it is another one now, or has other partition keys.
    pub async fn complete(&self, uuid: &str, values: &[String]) -> Result<bool> {
        let completing = complete::Completing::new(self, uuid, values);
        let ended = BACKGROUND.spawn(completing.clone().add()).await;
        let folder = ended.map_err(|error| Error::internal("a commit did not end").with_source(error))??;
        match folder {
            Some(folder) => completing.finish(&folder).await.map(|()| true),
            None => Ok(false),
        }
    }
}

/// The uuid of a table in a catalog.
fn uuid(catalog: &str, found: &VersionedTable) -> String {
    format!("{catalog}.{}", found.id)
}

/// A version of a table in the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    /// The store's own number of the table.
    table: i64,
    version: i64,
}

impl Version {
    fn of(found: &VersionedTable) -> Self {
        Self { table: found.id, version: found.version }
    }

    fn token(self) -> String {
        format!("{}.{}", self.table, self.version)
    }

    fn parse(token: &str) -> Result<Self> {
        let numbers = token
            .split_once('.')
            .and_then(|(table, version)| Some(Self { table: table.parse().ok()?, version: version.parse().ok()? }));
        numbers.ok_or_else(|| Error::internal(format!("'{token}' is no version of a table")))
    }
}

fn expect_files(found: &VersionedTable) -> Result<()> {
    let table = &found.table;
    match table.kind {
        TableKind::Managed | TableKind::External => match from_parameters(&table.parameters)? {
            None => Ok(()),
            Some(_) => Err(Error::invalid_input(format!(
                "the rows of {}.{} are a stream's: it has no files",
                table.database, table.name
            ))),
        },
        TableKind::View | TableKind::MaterializedView => {
            Err(Error::invalid_input(format!("{}.{} is a view: it takes no rows", table.database, table.name)))
        }
    }
}

fn marker(found: &VersionedTable, key: &str) -> Result<u64> {
    let Some(text) = found.table.parameters.get(key) else { return Ok(0) };
    text.parse().map_err(|_| {
        let (database, name) = (&found.table.database, &found.table.name);
        Error::invalid_input(format!("the parameter {key} of table {database}.{name} is '{text}', and no number"))
            .with_hint("a stream job keeps there how far the table has its rows: restore it")
    })
}

#[cfg(test)]
mod tests;

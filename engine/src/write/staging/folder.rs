//! Folders that take the files of stream jobs, and that no catalog knows: Flink's tables with the connector `filesystem`.
//!
//! Nothing ties files and marker together here, so each step may be repeated by anybody, at any time:
//! * files are complete below `_tereza/`, where no reader looks, before a record of the job names them. Each has one name for ever: a
//!   commit renames it to the folder of its partition, or copies the object there and deletes it. Who comes late finds it gone and
//!   at its place;
//! * then an empty file `_tereza/markers/<key>/<marker>` says how far the folder has come. The highest holds, so that who comes late
//!   with a lower one changes nothing;
//! * `_tereza/uuid` is made once, and tells a folder from one that was made anew at the same place.
//!
//! A crash between the two repeats the renames. If a reader removes a file in just that gap it is missed, loudly. In an object store, a
//! copy that was asked for before the object was deleted, and is made long after, may bring back a file that a reader has removed,
//! under the name that it had.

use std::collections::BTreeMap;
use std::io;
use std::path::Path as FilePath;
use std::sync::Arc;

use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use sha2::{Digest, Sha256};
use tereza_catalog::model::{Column, Parameters, PrincipalKind, Table, TableKind};
use tereza_catalog::store::StagedFile;
use tereza_runtime::{Error, Result, ids};

use super::super::lines::LineFormat;
use super::super::output::{OfFolder, Output};
use super::super::roll_forward::{self, Brought};
use super::super::{BACKGROUND, STAGING_FOLDER, child_url, files};
use super::{CompleteFile, PartitionCommit, StagingWriter, TableState, complete, orphans};
use crate::engine::Engine;
use crate::formats::Format;
use crate::stores::Place;

/// Below the folder for files that no reader sees. No name of files is that: they begin with the id of a job.
const MARKERS: &str = "markers";
const UUID: &str = "uuid";
/// Digits of a marker: names sort as numbers do.
const MARKER_DIGITS: usize = 20;
/// Bytes of a digest that tell the tables of a folder apart.
const NAME_BYTES: usize = 8;
/// An id of a folder has fewer bytes.
const UUID_BYTES_MAX: usize = 256;

/// A folder for the files of a stream job, and what is in them.
#[derive(Debug, Clone)]
pub struct Folder {
    /// The name of its table, for errors: `catalog.schema.table`.
    pub name: String,
    /// Its path or URL.
    pub location: String,
    /// All columns, in the order of the rows that are written.
    pub columns: SchemaRef,
    /// The columns whose values are folders `name=value`, in the order of the folders.
    pub partition_keys: Vec<String>,
    /// What records look like; none is Parquet.
    pub lines: Option<Arc<dyn LineFormat>>,
    /// What the folder of NULL, and of a text without characters, says in the place of the value.
    pub null_partition: String,
    /// Options of the table, of which those count that say when partitions are complete.
    pub options: BTreeMap<String, String>,
}

/// A folder that takes the files of a stream job.
#[derive(Debug)]
pub struct StagingFolder {
    engine: Arc<Engine>,
    name: String,
    output: Output,
    policy: Option<PartitionCommit>,
    /// For each column of files, then for each partition key, its place among the columns of rows.
    places: Vec<usize>,
}

impl StagingFolder {
    /// Checks a folder; nothing is made in it.
    ///
    /// # Errors
    /// `InvalidInput` names an option or a column that is wrong, `Unsupported` what a folder cannot do.
    pub fn open(engine: &Arc<Engine>, folder: Folder) -> Result<Self> {
        let Folder { name, location, columns, partition_keys, lines, null_partition, options } = folder;
        let location = engine.stores.place(&location)?.url();
        let of_keys = partition_keys.iter().map(|key| {
            let place = columns.index_of(key);
            place.map_err(|_| {
                Error::invalid_input(format!("table {name} is partitioned by '{key}', and has no such column"))
            })
        });
        let of_keys: Vec<usize> = of_keys.collect::<Result<_>>()?;
        let mut places: Vec<usize> = (0..columns.fields().len()).filter(|at| !of_keys.contains(at)).collect();
        let data: Vec<FieldRef> = places.iter().map(|at| Arc::clone(&columns.fields()[*at])).collect();
        let keys: Vec<FieldRef> = of_keys.iter().map(|at| Arc::clone(&columns.fields()[*at])).collect();
        places.extend(of_keys);
        let table = table(&name, location, &partition_keys, lines.is_some(), options)?;
        let policy = PartitionCommit::of(&table)?;
        if policy.as_ref().is_some_and(|policy| policy.compacts() || policy.names_catalog()) {
            return Err(Error::unsupported(format!(
                "partitions of table {name} that come into a catalog or are compacted when they are complete"
            ))
            .with_hint("'sink.partition-commit.policy.kind' = 'success-file', or a table of the catalog"));
        }
        let stores = Arc::clone(&engine.stores);
        let output =
            Output::of_folder(table, (Arc::new(Schema::new(data)), keys), stores, OfFolder { lines, null_partition })?;
        Ok(Self { engine: Arc::clone(engine), name, output, policy, places })
    }

    /// When partitions are complete, if the table says so.
    pub fn policy(&self) -> Option<&PartitionCommit> {
        self.policy.as_ref()
    }

    /// What [`StagingFolder::begin`] takes: the columns of files, then partition keys.
    pub fn schema(&self) -> SchemaRef {
        let fields: Vec<FieldRef> = self.output.columns.fields().iter().chain(&self.output.keys).cloned().collect();
        Arc::new(Schema::new(fields))
    }

    /// For each column of [`StagingFolder::schema`], its place among the columns that the folder was opened with.
    pub fn places(&self) -> &[usize] {
        &self.places
    }

    /// The partition of a file, by the texts of its values; none without partitions.
    pub fn partition(&self, file: &CompleteFile) -> Result<Option<Vec<String>>> {
        serde_json::from_str(&file.token)
            .map_err(|error| Error::internal(format!("what is said of {} cannot be read: {error}", file.path)))
    }

    /// As [`StagingTable::begin`](super::StagingTable::begin).
    pub fn begin(&self, name: &str) -> Result<StagingWriter> {
        StagingWriter::begin(&self.engine, &self.output, name)
    }

    /// Whether a file is where it was made, or where a commit brought it.
    pub async fn has(&self, file: &CompleteFile) -> Result<bool> {
        let StagedFile { staged, target } = self.placed(file)?;
        let is_at = async |url: &str| files::is_there(&self.engine.stores.place(url)?, file.size).await;
        Ok(is_at(&staged).await? || is_at(&target).await?)
    }

    /// How far the folder has come under `key`. A folder that is not there is made.
    pub async fn load(&self, key: &str) -> Result<TableState> {
        let marker = self.markers(key).await?.into_iter().map(|(marker, _)| marker).max().unwrap_or_default();
        Ok(TableState { token: String::new(), uuid: self.uuid().await?, marker })
    }

    /// Brings files to their places, and says then that the folder has come to `marker` under `key`. It may be repeated.
    ///
    /// # Errors
    /// `Internal` if a file is nowhere.
    pub async fn commit(&self, key: &str, marker: u64, files: &[CompleteFile]) -> Result<()> {
        let files: Vec<StagedFile> = files.iter().map(|file| self.placed(file)).collect::<Result<_>>()?;
        let engine = Arc::clone(&self.engine);
        // In a task of its own, which goes on when its caller is gone.
        let brought = BACKGROUND.spawn(async move {
            let Brought { moved, copied, lost } = roll_forward::bring(&engine, &files).await?;
            if let Some(lost) = lost {
                return Err(Error::internal(format!("rows are lost: {lost} is nowhere to be found")));
            }
            roll_forward::delete_all(copied).await?;
            files::blocking(move || {
                files::remove_staging_folders(moved);
                Ok(())
            })
            .await
        });
        brought.await.map_err(|error| Error::internal("a commit did not end").with_source(error))??;
        complete::say(&self.engine, &child_url(&self.key_url(key), &format!("{marker:0MARKER_DIGITS$}"))).await?;
        let lower = self.markers(key).await?.into_iter().filter(|(other, _)| *other < marker);
        for (_, place) in lower {
            // It says nothing any more.
            if let Err(error) = roll_forward::delete(&place).await {
                tracing::debug!(table = self.name, %error, "an old marker stays");
            }
        }
        Ok(())
    }

    /// Writes the file that says that a partition is complete, as the table wants. It may be repeated.
    pub async fn complete(&self, values: &[String]) -> Result<()> {
        match self.policy.as_ref().and_then(PartitionCommit::success_file) {
            Some(file) => complete::say(&self.engine, &child_url(&self.output.usual_folder(values), file)).await,
            None => Ok(()),
        }
    }

    /// As [`StagingTable::remove_orphans`](super::StagingTable::remove_orphans).
    pub async fn remove_orphans(&self, is_own: impl Fn(&str) -> bool, kept: &[&str]) -> Result<u64> {
        orphans::remove(&self.engine, &self.output, is_own, kept).await
    }

    /// Forgets how far the folder has come under all keys that begin with `prefix`: of a job that will never come again.
    pub async fn forget(&self, prefix: &str) -> Result<()> {
        let all = self.hidden(MARKERS);
        let root = self.engine.stores.place(&all)?;
        let is_meant = |path: &Path| {
            let mut below = path.prefix_match(&root.path).into_iter().flatten();
            below.next().is_some_and(|key| key.as_ref().starts_with(prefix))
        };
        for place in list(&root, &all).await?.into_iter().filter(|place| is_meant(&place.path)) {
            roll_forward::delete(&place).await?;
        }
        Ok(())
    }

    /// A file with the place to which it comes.
    fn placed(&self, file: &CompleteFile) -> Result<StagedFile> {
        let folder = match self.partition(file)? {
            Some(values) => self.output.usual_folder(&values),
            None => self.output.location.clone(),
        };
        let name = file.path.rsplit('/').next().unwrap_or_default();
        Ok(StagedFile { staged: file.path.clone(), target: child_url(&folder, name) })
    }

    fn hidden(&self, name: &str) -> String {
        child_url(&child_url(&self.output.location, STAGING_FOLDER), name)
    }

    /// The folder of the markers of a key. Several tables may have one folder, and names may have characters that no path has.
    fn key_url(&self, key: &str) -> String {
        let digest = Sha256::digest(self.name.as_bytes());
        let of_table: String = digest.iter().take(NAME_BYTES).map(|byte| format!("{byte:02x}")).collect();
        child_url(&self.hidden(MARKERS), &format!("{key}.{of_table}"))
    }

    /// All markers under `key`, with their files.
    async fn markers(&self, key: &str) -> Result<Vec<(u64, Place)>> {
        let url = self.key_url(key);
        let listed = list(&self.engine.stores.place(&url)?, &url).await?;
        Ok(listed.into_iter().filter_map(|place| Some((place.path.filename()?.parse().ok()?, place))).collect())
    }

    /// The id of the folder, which gets one if it has none.
    async fn uuid(&self) -> Result<String> {
        let url = self.hidden(UUID);
        let place = self.engine.stores.place(&url)?;
        if let Some(known) = read(&place, &url).await? {
            return Ok(known);
        }
        let id = ids::new_id();
        if place.bucket.is_some() {
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            match place.store.put_opts(&place.path, PutPayload::from(id), options).await {
                Ok(_) | Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {}
                Err(error) => return Err(files::store_error(error, &url)),
            }
        } else {
            let path = files::local_path(&place)?;
            files::blocking(move || create_once(&path, &id).map_err(|error| files::io_error(error, &path))).await?;
        }
        read(&place, &url).await?.ok_or_else(|| Error::unavailable(format!("{url} was removed just now")))
    }
}

/// What of a file is to be known when it is committed.
pub(super) fn token(partition: Option<&[String]>) -> Result<String> {
    serde_json::to_string(&partition)
        .map_err(|error| Error::internal("a partition cannot be said in JSON").with_source(error))
}

/// What the writer of files asks of a table.
fn table(
    name: &str,
    location: String,
    partition_keys: &[String],
    has_lines: bool,
    options: BTreeMap<String, String>,
) -> Result<Table> {
    let format = if has_lines { Format::Text } else { Format::Parquet };
    let (database, name) = name.rsplit_once('.').unwrap_or(("", name));
    let key = |name: &String| Column { name: name.clone(), type_name: "string".to_owned(), comment: None };
    Ok(Table {
        database: database.to_owned(),
        name: name.to_owned(),
        kind: TableKind::External,
        owner: None,
        owner_kind: PrincipalKind::default(),
        create_time_s: 0,
        last_access_time_s: 0,
        retention: 0,
        storage: format.storage(Vec::new(), Some(location), &Parameters::new())?,
        partition_keys: partition_keys.iter().map(key).collect(),
        parameters: options,
        view_original_text: None,
        view_expanded_text: None,
    })
}

/// All files below a place.
async fn list(place: &Place, url: &str) -> Result<Vec<Place>> {
    let listed = place.store.list(Some(&place.path)).map_ok(|file| place.at(file.location));
    match listed.try_collect().await {
        Err(object_store::Error::NotFound { .. }) => Ok(Vec::new()),
        listed => listed.map_err(|error| files::store_error(error, url)),
    }
}

async fn read(place: &Place, url: &str) -> Result<Option<String>> {
    let got = match place.store.get(&place.path).await {
        Ok(got) => got.bytes().await,
        Err(error) => Err(error),
    };
    let bytes = match got {
        Ok(bytes) => bytes,
        Err(object_store::Error::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(files::store_error(error, url)),
    };
    let text = String::from_utf8(bytes.to_vec()).ok().filter(|text| !text.is_empty() && text.len() < UUID_BYTES_MAX);
    text.map(Some).ok_or_else(|| {
        Error::invalid_input(format!("{url} is damaged")).with_hint("remove it if no stream job writes to the folder")
    })
}

/// Makes a file with a text, whole and durable, unless there is one of the name.
fn create_once(path: &FilePath, text: &str) -> io::Result<()> {
    let folder = path.parent().unwrap_or(FilePath::new("/"));
    files::create_dir(folder)?;
    let made = folder.join(format!(".{text}"));
    let file = std::fs::File::create(&made)?;
    io::Write::write_all(&mut &file, text.as_bytes())?;
    file.sync_all()?;
    let linked = std::fs::hard_link(&made, path);
    std::fs::remove_file(&made)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    files::sync_parent(path)
}

#[cfg(test)]
#[path = "folder_tests.rs"]
mod tests;

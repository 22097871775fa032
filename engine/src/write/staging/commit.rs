//! Files and marker into the table, in one transaction of the catalog.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};
use tereza_catalog::model::{Partition, Table, partition_name};
use tereza_catalog::store::{Commit, Snapshot, StagedFile, Write};
use tereza_runtime::{Error, ErrorKind, Result, ids};

use super::super::entry::{self, Entry};
use super::super::outcome::{Outcome, outcome};
use super::super::written::WrittenFile;
use super::super::{
    STAGING_FOLDER, child_url, fail_point, files, folder_of_partition, folder_of_table, recover, roll_forward,
};
use super::token::Token;
use super::{CompleteFile, PartitionCommit, StagingTable, TableChange, Version, marker};
use crate::engine::Engine;

/// Requests to an object store at once.
const REQUESTS_IN_FLIGHT_MAX: usize = 16;

/// A change on its way into the catalog.
pub(super) struct Bringing {
    engine: Arc<Engine>,
    database: String,
    name: String,
    keys: usize,
    /// Partitions that are not there stay away.
    adds_later: bool,
    base: Version,
    key: String,
    /// The marker that was read, and the new one.
    markers: (u64, u64),
    files: Vec<Brought>,
}

struct Brought {
    file: CompleteFile,
    token: Token,
}

impl Bringing {
    pub(super) fn new(table: &StagingTable, change: TableChange<'_>) -> Result<Self> {
        let TableChange { base, key, marker, files } = change;
        if marker <= base.marker {
            return Err(Error::internal(format!("the marker {key} would go from {} to {marker}", base.marker)));
        }
        let brought = |file: &CompleteFile| {
            Ok(Brought {
                token: Token::decode(&file.token).map_err(|error| error.context(&file.path))?,
                file: file.clone(),
            })
        };
        Ok(Self {
            engine: Arc::clone(&table.engine),
            database: table.database.clone(),
            name: table.name.clone(),
            keys: table.output.keys.len(),
            adds_later: table.policy.as_ref().is_some_and(PartitionCommit::adds),
            base: Version::parse(&base.token)?,
            key: key.to_owned(),
            markers: (base.marker, marker),
            files: files.iter().map(brought).collect::<Result<_>>()?,
        })
    }

    /// Whether the table was still the version that was loaded, and has the files now.
    pub(super) async fn run(self) -> Result<bool> {
        let engine = &self.engine;
        let values: BTreeSet<&Vec<String>> =
            self.files.iter().filter_map(|file| file.token.partition.as_ref()).collect();
        let filter = entry::exact_filter(self.keys, &values);
        let snapshot = engine.catalog.snapshot(&self.database, &self.name, &filter).await?;
        if Version::of(&snapshot.table) != self.base || marker(&snapshot.table, &self.key)? != self.markers.0 {
            return Ok(false);
        }
        // What is decided leaves its place, so that no file is found there twice.
        roll_forward::finish_pending(engine, &snapshot.pending).await?;
        let Snapshot { table: now, partitions, .. } = snapshot;
        let existing: HashMap<Vec<String>, Partition> =
            partitions.into_iter().map(|partition| (partition.values.clone(), partition)).collect();
        let location = folder_of_table(&now.table).ok_or_else(|| {
            Error::invalid_input(format!("table {}.{} has no location to write to", now.table.database, now.table.name))
        })?;
        let placed = self.files.iter().map(|file| file.place(&now.table, location, &existing));
        let placed: Vec<WrittenFile> = placed.collect::<Result<_>>()?;
        if let Err(error) = self.require_files(&placed).await {
            // Others may have brought the same files meanwhile.
            let version = engine.catalog.table_version(&self.database, &self.name).await?;
            return if version == now.version { Err(error) } else { Ok(false) };
        }

        let id = ids::new_id();
        let entry = Entry { id: &id, table: &now.table, location, expected_table: Some(now.id), step: None };
        let mut commit = entry::append(&entry, placed, &now.table.parameters, &existing);
        if self.adds_later {
            entry::leave_out_new(&mut commit, &existing);
        }
        commit.expected_version = Some(now.version);
        commit.table_parameters.insert(self.key.clone(), self.markers.1.to_string());

        commit_now(engine, &commit, now.version).await
    }

    /// `Internal` for a file that is not where it was made, `InvalidInput` for one that cannot be brought from there.
    async fn require_files(&self, placed: &[WrittenFile]) -> Result<()> {
        let required: Vec<WrittenFile> = placed.to_vec();
        let checks = required.into_iter().map(|file| require_file(&self.engine, file));
        stream::iter(checks).buffer_unordered(REQUESTS_IN_FLIGHT_MAX).try_collect::<()>().await?;
        let ways: BTreeMap<(&str, &str), &StagedFile> = placed
            .iter()
            .map(|WrittenFile { file, .. }| ((folder_of(&file.staged), folder_of(&file.target)), file))
            .collect();
        for ((_, to), file) in ways {
            require_way(&self.engine, Staged::parse(&file.staged)?, to).await?;
        }
        Ok(())
    }
}

/// Commits what was made for the table's version `now`, and brings its files to their places. Whether the table was still that
/// version.
pub(super) async fn commit_now(engine: &Arc<Engine>, commit: &Commit, now: i64) -> Result<bool> {
    let id = &commit.id;
    let write = Write {
        id: id.clone(),
        database: commit.database.clone(),
        table: commit.table.clone(),
        owner: engine.process_id.clone(),
        began_ms: engine.clock.unix_ms(),
        // Whoever cleans up after this process leaves the files alone: the job's record names them.
        staged: Vec::new(),
    };
    engine.catalog.begin_write(&write).await?;
    fail_point::hit(fail_point::AFTER_BEGIN);
    fail_point::hit(fail_point::BEFORE_COMMIT);
    if let Err(error) = engine.catalog.commit(commit).await {
        match outcome(engine.catalog.as_ref(), now, commit, &error).await {
            Outcome::Committed => {}
            Outcome::NotCommitted => {
                if let Err(error) = engine.catalog.end_write(id).await {
                    tracing::debug!(write = id, %error, "a write that did not commit is still noted");
                }
                return if error.kind() == ErrorKind::Conflict { Ok(false) } else { Err(error) };
            }
            Outcome::Unknown => {
                return Err(error.context(format!("whether write {id} was committed is not known")));
            }
        }
    }
    fail_point::hit(fail_point::AFTER_COMMIT);
    match roll_forward::finish(engine, commit).await {
        Ok(()) => recover::tidy_journal(engine).await,
        // Rows are lost: not to be called a success.
        Err(error) if error.kind() == ErrorKind::Internal => return Err(error),
        // The rows are committed and safe where they are; whoever opens the table next goes on.
        Err(error) => tracing::warn!(commit = id, %error, "committed files are not rolled forward yet"),
    }
    Ok(true)
}

impl Brought {
    /// The file with the place where readers of the table look for it.
    fn place(&self, table: &Table, location: &str, existing: &HashMap<Vec<String>, Partition>) -> Result<WrittenFile> {
        let partition = self.token.partition.as_ref().and_then(|values| existing.get(values));
        self.token.check(table, partition.map_or(&table.storage, |partition| &partition.storage))?;
        let folder = match (&self.token.partition, partition.and_then(|known| folder_of_partition(&known.storage))) {
            (_, Some(folder)) => folder.to_owned(),
            (Some(values), None) => child_url(location, &partition_name(&table.partition_keys, values)),
            (None, None) => location.to_owned(),
        };
        let staged = self.file.path.clone();
        let target = child_url(&folder, Staged::parse(&staged)?.name);
        let (file, partition) = (StagedFile { target, staged }, self.token.partition.clone());
        Ok(WrittenFile { file, rows: self.file.rows, bytes: self.file.size, partition })
    }
}

/// The URL of a file that waits, `<root><staging folder>/<name of its files>/<name>`, in its parts.
struct Staged<'a> {
    /// With a slash at its end.
    root: &'a str,
    folder: &'a str,
    name: &'a str,
}

impl<'a> Staged<'a> {
    fn parse(url: &'a str) -> Result<Self> {
        let parts = url.rsplit_once('/').and_then(|(folder, name)| {
            let (staging, _) = folder.rsplit_once('/')?;
            let root = staging.strip_suffix(STAGING_FOLDER).filter(|root| root.ends_with('/'))?;
            (!name.is_empty()).then_some(Self { root, folder, name })
        });
        parts.ok_or_else(|| Error::internal(format!("{url} is no file that waits for a table")))
    }
}

fn folder_of(url: &str) -> &str {
    url.rsplit_once('/').map_or(url, |(folder, _)| folder)
}

async fn require_file(engine: &Engine, written: WrittenFile) -> Result<()> {
    let url = &written.file.staged;
    if files::is_there(&engine.stores.place(url)?, written.bytes).await? {
        return Ok(());
    }
    Err(Error::internal(format!("{url} ({} bytes) is not there any more", written.bytes)))
}

/// Files are renamed, and objects copied within their bucket. A table or partition may have got another place since.
async fn require_way(engine: &Engine, from: Staged<'_>, to: &str) -> Result<()> {
    // What is staged below a folder is for it and those in it.
    if child_url(to, "").starts_with(from.root) {
        return Ok(());
    }
    let from = from.folder;
    let (source, target) = (engine.stores.place(from)?, engine.stores.place(to)?);
    let is_open = match (&source.bucket, &target.bucket) {
        (Some(_), Some(_)) => source.root == target.root,
        (None, None) => {
            let (from, to) = (files::local_path(&source)?, files::local_path(&target)?);
            files::blocking(move || is_same_file_system(&from, &to)).await?
        }
        _ => false,
    };
    if is_open {
        return Ok(());
    }
    Err(Error::invalid_input(format!("files in {from} cannot be brought to {to}, which is in another store"))
        .with_hint("give the table or partition its former location until they are in"))
}

fn is_same_file_system(from: &Path, to: &Path) -> Result<bool> {
    let device = |path: &Path| path.metadata().map(|found| found.dev()).map_err(|error| files::io_error(error, path));
    // A folder that is still to be made will be in the file system of those above it.
    let nearest = to.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    Ok(device(from)? == device(nearest)?)
}

//! Brings committed files into their tables.
//!
//! A record names all files that may not be in their tables yet. The table says itself how far it has them, by a marker that is
//! changed in the same step as its files, and only if the table is the version whose marker was read. So it does no harm if
//! several apply the same files, or one that is long superseded.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tereza_runtime::{Error, ErrorKind, Result};

use crate::host::{Backoff, Host};
use crate::objects::Objects;
use crate::pipeline::{Change, Moment, Outcome, Table};
use crate::record::{Applied, DataFile, EpochRecord, Files, OpenPartition, Pending};
use crate::rules::{Rule, Rules};
use crate::waits::TABLES;

/// Tries of a table's commit before it is left for later.
const TRIES_MAX: u32 = 8;

/// Partitions of a task that may wait to be completed.
const PARTITIONS_MAX: usize = 10_000;

/// Tables by their names in plans and records.
pub type Tables<R> = BTreeMap<String, Arc<dyn Table<Rows = R>>>;

/// Files of one task that a committed record names, and how far tables have them.
#[derive(Debug, Default)]
pub(crate) struct Backlog(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    pending: Vec<Pending>,
    applied: BTreeMap<String, Applied>,
    /// Partitions that are to be completed, and how far the last record has come.
    partitions: Vec<OpenPartition>,
    watermark_ms: Option<i64>,
}

impl Backlog {
    /// What a record says, with its partitions.
    pub(crate) fn of(record: &EpochRecord) -> Self {
        let backlog = Self::new(record.pending.clone(), record.applied.clone());
        let mut state = backlog.0.lock();
        state.partitions.clone_from(&record.partitions);
        state.watermark_ms = record.watermark_ms();
        drop(state);
        backlog
    }

    /// What a record says.
    pub(crate) fn new(pending: Vec<Pending>, applied: BTreeMap<String, Applied>) -> Self {
        let backlog = Self(Mutex::new(State { pending, applied, ..State::default() }));
        backlog.0.lock().prune();
        backlog
    }

    /// Files that are not known to be in their tables, and how far these are.
    pub(crate) fn state(&self) -> (Vec<Pending>, BTreeMap<String, Applied>) {
        let state = self.0.lock();
        (state.pending.clone(), state.applied.clone())
    }

    /// Partitions that are to be completed, with those that get files now.
    ///
    /// # Errors
    /// `ResourceExhausted` if they are too many.
    pub(crate) fn partitions(&self, touched: &[OpenPartition]) -> Result<Vec<OpenPartition>> {
        let mut open = self.0.lock().partitions.clone();
        touch(&mut open, touched);
        if open.len() > PARTITIONS_MAX && !touched.is_empty() {
            return Err(Error::resource_exhausted(format!(
                "{} partitions of tables wait to be complete, the bound is {PARTITIONS_MAX}",
                open.len()
            ))
            .with_hint("'sink.partition-commit.delay' of the table says how long they wait"));
        }
        Ok(open)
    }

    /// A record with these files is committed; of these partitions.
    pub(crate) fn committed(&self, pending: &[Pending], touched: &[OpenPartition], watermark_ms: Option<i64>) {
        let mut state = self.0.lock();
        state.pending.extend_from_slice(pending);
        touch(&mut state.partitions, touched);
        // A source that was idle may come back with an earlier one.
        state.watermark_ms = state.watermark_ms.max(watermark_ms);
    }

    /// Partitions whose files are all in their folders, with the uuids of their tables.
    fn whole_partitions(&self) -> (Vec<(OpenPartition, String)>, Option<i64>) {
        let state = self.0.lock();
        let whole = state.partitions.iter().filter_map(|partition| {
            let applied = state.applied.get(&partition.table)?;
            (partition.epoch <= applied.marker).then(|| (partition.clone(), applied.uuid.clone()))
        });
        (whole.collect(), state.watermark_ms)
    }

    /// A partition is complete, unless it got files meanwhile.
    fn completed(&self, partition: &OpenPartition) {
        self.0.lock().partitions.retain(|open| open != partition);
    }

    /// Epochs of tables that are to be applied.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().pending.len()
    }

    fn applied(&self, table: &str, applied: Applied) {
        let mut state = self.0.lock();
        state.applied.insert(table.to_owned(), applied);
        state.prune();
    }
}

/// Notes that partitions get files.
fn touch(open: &mut Vec<OpenPartition>, touched: &[OpenPartition]) {
    for new in touched {
        match open.iter_mut().find(|open| open.table == new.table && open.values == new.values) {
            Some(open) => open.epoch = new.epoch,
            None => open.push(new.clone()),
        }
    }
}

impl State {
    fn prune(&mut self) {
        let applied = &self.applied;
        self.pending.retain(|files| applied.get(&files.table).is_none_or(|applied| files.epoch > applied.marker));
    }
}

/// Applies the files of one task.
pub(crate) struct Applier<R> {
    pub(crate) uid: String,
    pub(crate) task: u32,
    pub(crate) tables: Tables<R>,
    pub(crate) objects: Objects,
    pub(crate) host: Arc<dyn Host>,
    pub(crate) backlog: Arc<Backlog>,
    pub(crate) rules: Rules,
}

impl<R: Send> Applier<R> {
    /// Applies what is committed, again and again; comes back with an error that does not pass by itself.
    pub(crate) async fn run(&self, every: Duration) -> Error {
        loop {
            self.host.pause(every).await;
            match self.turn().await {
                Ok(()) => self.objects.waits.end(TABLES),
                Err(error) if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Conflict) => {
                    self.objects.waits.begin(TABLES, format_args!("files wait for their table: {error}"));
                    tracing::warn!(uid = self.uid, task = self.task, %error, "files wait for their table");
                }
                Err(error) => return error,
            }
        }
    }

    /// Applies what is committed now.
    pub(crate) async fn turn(&self) -> Result<()> {
        let (pending, applied) = self.backlog.state();
        for (name, applied) in applied {
            let of_table: Vec<&Pending> = pending.iter().filter(|files| files.table == name).collect();
            if !of_table.is_empty() {
                let marker = self.apply(&name, &applied, &of_table).await?;
                self.backlog.applied(&name, Applied { marker, uuid: applied.uuid });
            }
        }
        self.complete_due().await
    }

    /// Completes partitions whose time has come, when all their files are in their folders.
    async fn complete_due(&self) -> Result<()> {
        let (whole, watermark_ms) = self.backlog.whole_partitions();
        let moment = Moment { watermark_ms, now_ms: self.host.now_ms() };
        for (partition, uuid) in whole {
            let table = self.table(&partition.table)?;
            if table.is_due(&partition, moment)? {
                self.complete(&**table, &partition, &uuid).await?;
                self.backlog.completed(&partition);
            }
        }
        Ok(())
    }

    async fn complete(&self, table: &dyn Table<Rows = R>, partition: &OpenPartition, uuid: &str) -> Result<()> {
        let mut backoff = Backoff::new();
        for _ in 0..TRIES_MAX {
            if table.complete(uuid, &partition.values).await? == Outcome::Committed {
                return Ok(());
            }
            backoff.pause(&*self.host).await;
        }
        let (name, values) = (&partition.table, partition.values.join("/"));
        Err(Error::unavailable(format!(
            "the partition {values} of the table {name} waits: others change the table all the time"
        )))
    }

    fn table(&self, name: &str) -> Result<&Arc<dyn Table<Rows = R>>> {
        self.tables.get(name).ok_or_else(|| {
            Error::internal(format!("a record of {} names the table {name}, the plan does not", self.uid))
        })
    }

    /// The table's marker when it has all of `pending`.
    pub(crate) async fn apply(&self, name: &str, known: &Applied, pending: &[&Pending]) -> Result<u64> {
        let table = self.table(name)?;
        let key = format!("tereza.{}.{}", self.uid, self.task);
        let mut backoff = Backoff::new();
        let mut failed = None;
        for _ in 0..TRIES_MAX {
            let version = table.load(&key).await?;
            if version.uuid != known.uuid {
                let (is, was) = (&version.uuid, &known.uuid);
                let message =
                    format!("the table {name} is not the one that the job began with: its uuid is {is}, it was {was}");
                return Err(Error::invalid_input(message));
            }
            if version.marker < known.marker {
                let (is, was) = (version.marker, known.marker);
                return Err(Error::invalid_input(format!(
                    "the table {name} was set back: its marker {key} is {is}, and was {was}; rows after it are not written again"
                )));
            }
            let skipped = if self.rules.breaks(Rule::Marker) { 0 } else { version.marker };
            let mut files = Vec::new();
            let mut marker = version.marker;
            for pending in pending.iter().filter(|pending| pending.epoch > skipped) {
                files.extend(self.files(pending).await?);
                marker = marker.max(pending.epoch);
            }
            if files.is_empty() {
                return Ok(marker);
            }
            if let Some(lost) = self.missing(&**table, &files).await? {
                // Files that are in a table may be compacted away, and this may be a late applier.
                if table.load(&key).await?.marker > version.marker {
                    continue;
                }
                let (path, size) = (&lost.path, lost.size);
                return Err(Error::internal(format!(
                    "the file {path} ({size} bytes) is gone before it came into the table {name}: its rows are lost"
                )));
            }
            let change = Change { base: &version, key: &key, marker, files: &files };
            match table.commit(change).await {
                Ok(Outcome::Committed) => return Ok(marker),
                Ok(Outcome::Conflict) => {}
                // It was not done, and no other time will do.
                Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => {
                    return Err(error);
                }
                // It may have been done: the table's marker tells.
                Err(error) => failed = Some(error),
            }
            backoff.pause(&*self.host).await;
        }
        let why = failed.map_or_else(|| "others change it all the time".to_owned(), |error| error.to_string());
        Err(Error::unavailable(format!("the table {name} takes no files: {why}")))
    }

    async fn files(&self, pending: &Pending) -> Result<Vec<DataFile>> {
        let object = match &pending.files {
            Files::Inline(files) => return Ok(files.clone()),
            Files::Manifest(object) => object,
        };
        // A late applier may come when the list is collected: then there is nothing for it to do.
        let bytes = self.objects.get(object).await?.ok_or_else(|| {
            Error::conflict(format!("the list {} of files of epoch {} is gone", object.path, pending.epoch))
        })?;
        serde_json::from_slice(&bytes)
            .map_err(|error| Error::internal(format!("the list of files {} cannot be read: {error}", object.path)))
    }

    async fn missing<'a>(&self, table: &dyn Table<Rows = R>, files: &'a [DataFile]) -> Result<Option<&'a DataFile>> {
        for file in files {
            if !table.has(file).await? {
                return Ok(Some(file));
            }
        }
        Ok(None)
    }
}

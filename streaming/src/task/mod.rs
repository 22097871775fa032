//! An attempt of a task: opens its log, restores what the last record says, and commits epoch after epoch.
//!
//! Everything that may fail takes the [`Task`] by value. When it does not come back the attempt is over, and the process begins a
//! new one after a pause; what the dead attempt was about to do is not its business any more.

#[cfg(test)]
mod broken;
mod epoch;
mod run;
mod start;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tereza_runtime::Error;

use crate::apply::{Applier, Backlog, Tables};
use crate::host::Host;
use crate::log::{Ended, Log, Writer};
use crate::objects::Objects;
use crate::pipeline::{FileWriter, Pipeline, Source};
use crate::record::{ENTRY_BYTES_MAX, EpochRecord, Positions};
use crate::rules::Rules;

pub(crate) use epoch::named;
pub use run::{Control, Exit};
pub use start::{Started, start};
pub(crate) use start::{load, object_of, unless_superseded};

/// What an attempt is given.
pub struct Job<R> {
    pub uid: String,
    pub task: u32,
    /// Of the query; state of another one is not restored.
    pub fingerprint: String,
    pub log: Arc<dyn Log>,
    pub objects: Objects,
    /// Path in the object store below which all jobs have their objects.
    pub root: String,
    pub tables: Tables<R>,
    pub host: Arc<dyn Host>,
    pub settings: Settings,
    #[cfg(test)]
    pub(crate) rules: Rules,
}

/// How an attempt works.
#[derive(Debug, Clone)]
pub struct Settings {
    /// From an epoch's first row to its commit.
    pub epoch: Duration,
    /// Micro-batches of an epoch.
    pub batches_max: u64,
    /// Without anything new, a record is committed all the same after this time, so that the log's identity does not expire.
    pub keep_alive: Duration,
    /// Between two looks for files that are to come into their tables.
    pub apply: Duration,
    /// Epochs of tables that may wait; beyond that no rows are read.
    pub pending_max: usize,
    /// Bytes of a part of state that is kept in the record itself.
    pub inline_state_max: usize,
    /// Bytes of a record that is kept in the log itself; at most [`ENTRY_BYTES_MAX`].
    pub inline_record_max: usize,
    /// Files of an epoch of a table that are kept in the record itself.
    pub inline_files_max: usize,
    /// Tries to bring all files into their tables when a task stops.
    pub drain_tries: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            epoch: Duration::from_secs(1),
            batches_max: 1000,
            keep_alive: Duration::from_secs(3600),
            apply: Duration::from_secs(30),
            pending_max: 1000,
            inline_state_max: 4 << 10,
            inline_record_max: ENTRY_BYTES_MAX,
            inline_files_max: 16,
            drain_tries: 10,
        }
    }
}

impl<R> Job<R> {
    fn rules(&self) -> Rules {
        #[cfg(test)]
        return self.rules;
        #[cfg(not(test))]
        Rules::default()
    }

    /// Below it are the objects of the task.
    pub(crate) fn state_path(&self) -> String {
        state_path(&self.root, &self.uid, self.task)
    }
}

/// Below it are the state and large records of a task.
pub(crate) fn state_path(root: &str, uid: &str, task: u32) -> String {
    format!("{root}/{uid}/state/{task}")
}

/// An attempt that runs.
pub struct Task<P: Pipeline, S> {
    job: Arc<Job<P::Rows>>,
    attempt: String,
    writer: Box<dyn Writer>,
    pipeline: P,
    source: S,
    applier: Arc<Applier<P::Rows>>,
    backlog: Arc<Backlog>,
    /// The last committed record, or what the plan begins with.
    last: EpochRecord,
    /// The object that holds the last record, if it is a large one.
    stored: Option<String>,
    /// Objects that the plan's cut names; other tasks may need them.
    of_plan: BTreeSet<String>,
    /// Garbage of committed records that could not be deleted yet.
    left: Vec<String>,
    open: Open<P::Rows>,
}

/// The epoch that is not committed.
struct Open<R> {
    positions: Positions,
    /// When its first row or change came, or when the last epoch ended; milliseconds since 1970.
    since_ms: i64,
    /// When the first output was sent.
    sent_ms: Option<i64>,
    batches: u64,
    /// There is something to commit.
    is_dirty: bool,
    files: BTreeMap<String, Box<dyn FileWriter<Rows = R>>>,
}

impl<R> Open<R> {
    fn new(positions: Positions, now_ms: i64) -> Self {
        Self { positions, since_ms: now_ms, sent_ms: None, batches: 0, is_dirty: false, files: BTreeMap::new() }
    }
}

impl<P, S> Task<P, S>
where
    P: Pipeline,
    S: Source<Input = P::Input>,
{
    /// The last committed record, or what the plan begins with.
    pub fn last(&self) -> &EpochRecord {
        &self.last
    }

    /// The attempt ends here: gives up what is open, so that readers of the outputs do not wait for it.
    async fn fail(self, error: Error) -> Ended {
        self.writer.abort().await;
        Ended::Failed(error)
    }
}

//! Rows to files, and the commit.
//!
//! A statement that writes is a plan of two stages, so that it fits one process as well as a cluster:
//! `WriteExec` (each partition of the input writes files of its own that no reader sees, and yields their descriptions)
//! below `CommitExec` (one partition: gathers the descriptions, commits them in one catalog transaction, brings the files
//! to their places and yields `count`). Why the commit is one row: `docs/decisions/0001-commit-by-one-row.md`.
//!
//! What holds at every instant:
//! * a file is named in the catalog ([`Store::stage`](tereza_catalog::Store::stage)) before its first byte is written;
//! * before [`Store::commit`](tereza_catalog::Store::commit) nothing of a write is visible, and whoever ends it removes
//!   what it staged: the process itself when it fails or is cancelled, [`recover`] when the process died;
//! * after it the rows are part of the table, and [`finish_pending`] may be repeated by anyone until the commit is marked
//!   finished;
//! * nothing is ever removed that a record does not name.
//!
//! Files of stream jobs are named by the jobs' own records and not in the catalog, until a commit brings them: they may wait
//! for their table as long as it takes, and no [`recover`] touches them. All of that is in `staging`.
//!
//! Files in reading order: `commit_exec` (the life of a write), `write_exec` and `task` (rows to open files), `split`
//! (rows by partition), `output` (what a task knows) and `remote` (tasks on executors), `encoder`, `json`, `text` and `lines` (batches to bytes), `sink` (bytes to invisible files), `entry` (what the
//! commit says), `outcome`, `roll_forward`, `recover`, `lease` (catalogs that several processes have), `compact` (small files into larger ones), `files` (durable file operations), [`fail_point`] (for tests).

pub mod fail_point;

mod commit_exec;
mod compact;
mod encoder;
mod entry;
mod files;
mod json;
mod lease;
mod lines;
mod outcome;
mod output;
mod recover;
mod remote;
mod roll_forward;
mod sink;
mod split;
mod staging;
mod task;
mod text;
mod write_exec;
mod written;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::prelude::SessionConfig;
use tereza_catalog::model::{Storage, Table};
use tereza_catalog::store::VersionedTable;
use tereza_runtime::{Result, ids};
use tokio_util::task::TaskTracker;

use crate::engine::Engine;
use crate::jobs::JobStep;
use crate::session::current_step;
use output::Output;

pub(crate) use compact::compact;
pub(crate) use lease::{Lease, begin as begin_lease, end as end_lease};
pub use lines::{LineEncoder, LineFormat};
pub(crate) use recover::recover;
pub(crate) use remote::{RemoteTasks, decode_tasks, encode_tasks};
pub(crate) use roll_forward::{Turns, finish_pending};
pub use staging::{
    CompleteFile, Folder, PartitionCommit, StagingFolder, StagingTable, StagingWriter, TableChange, TableState,
};

/// Name of the folder, below a table's, that holds files no reader may see; other engines skip names that begin with `_`.
const STAGING_FOLDER: &str = "_tereza";

/// Serde parameter in which Spark keeps the location of the tables that it makes.
const SPARKS_LOCATION: &str = "path";

/// Time for cleaning up after one write; what is left then is removed by the next [`recover`].
const CLEANUP_TIMEOUT: Duration = Duration::from_secs(60);

/// Commits and clean-ups under way, which go on when their statement is dropped. [`settle`] awaits them.
static BACKGROUND: LazyLock<TaskTracker> = LazyLock::new(TaskTracker::new);

/// What is written to.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// A table that exists.
    Existing(VersionedTable),
    /// A table that the commit makes (CTAS); its location is set.
    New(Table),
}

impl Target {
    fn table(&self) -> &Table {
        match self {
            Self::Existing(existing) => &existing.table,
            Self::New(table) => table,
        }
    }
}

/// What happens to the rows that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// They stay.
    Append,
    /// They go: all of an unpartitioned table, and of a partitioned one the partitions that get rows, as Hive's dynamic
    /// `INSERT OVERWRITE` does.
    Overwrite,
}

/// The plan that writes `input` (table columns, then partition keys, by position) and commits; it yields one `count` row.
///
/// The plan carries the id of its write, so it runs once: a second run is refused by the catalog.
pub(crate) fn plan(
    engine: &Arc<Engine>,
    config: &SessionConfig,
    target: Target,
    mode: Mode,
    input: Arc<dyn ExecutionPlan>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let writing = Writing::new(engine, target, mode, current_step(config))?;
    writing.output.check(&input.schema())?;
    let writing = Arc::new(writing);
    let write = Arc::new(write_exec::WriteExec::new(Arc::clone(&writing.output), input));
    // Also for plans that no optimizer sees afterwards; an optimizer puts its own in the place of this one.
    let gathered = Arc::new(CoalescePartitionsExec::new(write));
    Ok(Arc::new(commit_exec::CommitExec::new(writing, gathered)))
}

/// Waits, for a bounded time, until commits and clean-ups of ended statements are done: for an orderly shutdown.
pub(crate) async fn settle() {
    BACKGROUND.close();
    if tokio::time::timeout(CLEANUP_TIMEOUT, BACKGROUND.wait()).await.is_err() {
        tracing::warn!("writes were still being cleaned up at shutdown; the next start removes what they left");
    }
    BACKGROUND.reopen();
}

/// One write, as the process that commits it knows it.
#[derive(Debug)]
struct Writing {
    engine: Arc<Engine>,
    /// What its tasks know.
    output: Arc<Output>,
    target: Target,
    mode: Mode,
    /// The step of a job that its commit is.
    step: Option<JobStep>,
}

impl Writing {
    fn new(engine: &Arc<Engine>, target: Target, mode: Mode, step: Option<JobStep>) -> Result<Self> {
        let is_new = matches!(target, Target::New(_));
        let output = Output::new(engine, ids::new_id(), target.table().clone(), is_new)?;
        Ok(Self { engine: Arc::clone(engine), output: Arc::new(output), target, mode, step })
    }

    /// Its id in the catalog.
    fn id(&self) -> &str {
        &self.output.id
    }

    fn table(&self) -> &Table {
        self.target.table()
    }
}

/// The URL of a table's folder, without a slash at its end. Tables that Spark made have it in a parameter.
pub(crate) fn folder_of_table(table: &Table) -> Option<&str> {
    let storage = &table.storage;
    folder(storage.serde.parameters.get(SPARKS_LOCATION).or(storage.location.as_ref()))
}

/// The URL of a partition's folder, without a slash at its end. That parameter of Spark's is its table's there.
pub(crate) fn folder_of_partition(storage: &Storage) -> Option<&str> {
    folder(storage.location.as_ref())
}

fn folder(location: Option<&String>) -> Option<&str> {
    location.map(|location| location.trim_end_matches('/')).filter(|location| !location.is_empty())
}

/// The URL of `name` below the folder `url`. Locations are text as Hadoop's paths are: nothing in them is encoded.
fn child_url(url: &str, name: &str) -> String {
    format!("{}/{name}", url.trim_end_matches('/'))
}

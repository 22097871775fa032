//! What an attempt of a task is made of: rows come from a source, a pipeline turns them into messages and rows of tables, and
//! tables take files. The pipeline is pure: it reads no clock and does no I/O, so what it holds after an epoch is its snapshot.

use async_trait::async_trait;
use bytes::Bytes;
use tereza_runtime::{Error, Result};

use crate::log::Output;
use crate::record::{DataFile, EpochRecord, OpenPartition, Positions, Watermarks};

pub use crate::record::Upstream;

/// The computation of a task.
pub trait Pipeline: Send {
    /// A micro-batch.
    type Input: Send;
    /// Rows for a table.
    type Rows: Send;

    /// Takes a micro-batch at this time (milliseconds since 1970).
    fn process(&mut self, input: Self::Input, now_ms: i64, out: &mut Produced<Self::Rows>) -> Result<()>;

    /// No rows came. Says whether anything changed, such as a partition that is idle now.
    fn tick(&mut self, now_ms: i64, out: &mut Produced<Self::Rows>) -> Result<bool>;

    /// What it holds, at the end of an epoch; it may still put out rows of that epoch.
    fn snapshot(&mut self, out: &mut Produced<Self::Rows>) -> Result<Snapshot>;

    /// Goes on from a snapshot. Called once, before anything else.
    fn restore(&mut self, from: Restored) -> Result<()>;
}

/// What a pipeline puts out.
#[derive(Debug)]
pub struct Produced<R> {
    pub outputs: Vec<Output>,
    /// Table → rows.
    pub rows: Vec<(String, R)>,
}

impl<R> Default for Produced<R> {
    fn default() -> Self {
        Self { outputs: Vec::new(), rows: Vec::new() }
    }
}

/// What a pipeline holds.
#[derive(Debug, Default)]
pub struct Snapshot {
    pub watermarks: Watermarks,
    pub upstream: Upstream,
    /// The parts of the snapshot before that still count. They come first.
    pub kept: Kept,
    /// New parts.
    pub parts: Vec<Part>,
}

/// Which parts of a snapshot the next one keeps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Kept {
    #[default]
    None,
    All,
    /// Those at these places, ascending.
    Places(Vec<usize>),
}

impl Kept {
    /// Those of `parts` that are kept.
    pub(crate) fn of<T: Clone>(&self, parts: &[T]) -> Result<Vec<T>> {
        match self {
            Self::None => Ok(Vec::new()),
            Self::All => Ok(parts.to_vec()),
            Self::Places(places) => {
                let kept = places.iter().map(|place| parts.get(*place).cloned()).collect::<Option<_>>();
                kept.ok_or_else(|| Error::internal("a part of state is to be kept that the last record has not"))
            }
        }
    }
}

/// A piece of state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// First and last key group that it counts for. What it holds of others is not to be restored.
    pub key_groups: (u16, u16),
    pub bytes: Bytes,
}

/// What a pipeline goes on from.
#[derive(Debug, Default)]
pub struct Restored {
    /// Of the plan that is in force.
    pub generation: u64,
    /// First and last key group of the task.
    pub key_groups: (u16, u16),
    pub watermarks: Watermarks,
    pub upstream: Upstream,
    /// A base, then what changed, in order.
    pub parts: Vec<Part>,
}

/// Where rows come from.
#[async_trait]
pub trait Source: Send {
    type Input: Send;

    /// Begins to read at these positions, once.
    async fn assign(&mut self, positions: &Positions) -> Result<()>;

    /// The next micro-batch, or that there is none for now.
    async fn poll(&mut self) -> Result<Polled<Self::Input>>;

    /// A record was committed. For those who watch; nothing depends on it.
    fn committed(&mut self, record: &EpochRecord);
}

/// What a source has.
#[derive(Debug)]
pub enum Polled<I> {
    /// A micro-batch, and for each partition with rows in it the position after them.
    Rows { input: I, positions: Positions },
    /// No rows within the source's time of waiting.
    Idle,
    /// A bounded source is read to its end; its positions may be past the last row.
    End { positions: Positions },
}

/// A table that takes files of rows.
#[async_trait]
pub trait Table: Send + Sync {
    type Rows: Send;

    /// Begins files that no reader sees. `name` is used once and is to be part of their names.
    async fn begin(&self, name: &str) -> Result<Box<dyn FileWriter<Rows = Self::Rows>>>;

    /// Removes files whose names begin with `prefix`, and that are not among `kept`, if they are old enough to be in no record
    /// that is still to come; how many. Only for who has fenced all that may begin such names.
    async fn remove_orphans(&self, _prefix: &str, _kept: &[DataFile]) -> Result<u64> {
        Ok(0)
    }

    /// The partition of a file by its values, if the table says when partitions are complete.
    fn partition(&self, _file: &DataFile) -> Result<Option<Vec<String>>> {
        Ok(None)
    }

    /// Whether it is time to complete a partition.
    fn is_due(&self, _partition: &OpenPartition, _moment: Moment) -> Result<bool> {
        Ok(true)
    }

    /// Completes a partition of the table with this uuid. It may be done again, by anybody.
    async fn complete(&self, _uuid: &str, _values: &[String]) -> Result<Outcome> {
        Ok(Outcome::Committed)
    }

    /// Whether a file is there with its size.
    async fn has(&self, file: &DataFile) -> Result<bool>;

    /// The table as it is now.
    async fn load(&self, key: &str) -> Result<Version>;

    /// Brings files into the table and sets the marker, in one step and only if the table is still the version that was loaded. An
    /// error leaves open whether it was done.
    async fn commit(&self, change: Change<'_>) -> Result<Outcome>;
}

/// Writes the files of one epoch. Those of one that is dropped are never in a table.
#[async_trait]
pub trait FileWriter: Send {
    type Rows: Send;

    async fn write(&mut self, rows: Self::Rows) -> Result<()>;

    /// Completes the files.
    async fn finish(self: Box<Self>) -> Result<Vec<DataFile>>;
}

/// A version of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Distinguishes it from all other versions of the table.
    pub token: String,
    /// Of the table; one of the same name that is made anew has another.
    pub uuid: String,
    /// The last epoch whose files are in it, by the key that was asked for; 0 is none.
    pub marker: u64,
}

/// How far time has come, in milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Of the last record; none before the first watermark, `i64::MAX` after the end.
    pub watermark_ms: Option<i64>,
    pub now_ms: i64,
}

/// Files for a table.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    pub base: &'a Version,
    pub key: &'a str,
    pub marker: u64,
    pub files: &'a [DataFile],
}

/// How a table took a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Committed,
    /// It is another version by now; nothing was done.
    Conflict,
}

//! Commit logs: where a task of a job says how far it got, in one atomic step with what it put out.
//!
//! A job has one log for its plans ([`LogName::Control`]) and one per task. A log has one writer at a time: whoever opens it
//! fences all writers before, and only then reads the last record. So [`Log::open`] is one verb, and its order is not the caller's.
//! Whatever goes wrong after that ends the writer: each verb of [`Writer`] takes it by value and gives it back only when it
//! may go on. What an [`Ended::Unknown`] did is found out by the next one who opens the log, and by nobody else.

pub mod kafka;
pub mod object;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tereza_runtime::{Error, Result};

use crate::record::{Body, Seal};

/// One of the logs of a job.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogName {
    /// Id of the job for its whole life; never used for another one.
    pub uid: String,
    /// Which of the job's logs.
    pub kind: LogKind,
}

/// What is written to a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogKind {
    /// The job's plans.
    Control,
    /// The epochs of this task.
    Task(u32),
}

impl LogName {
    /// The log of the plans of a job.
    pub fn control(uid: &str) -> Self {
        Self { uid: uid.to_owned(), kind: LogKind::Control }
    }

    /// The log of a task.
    pub fn task(uid: &str, task: u32) -> Self {
        Self { uid: uid.to_owned(), kind: LogKind::Task(task) }
    }

    /// The last part of a transactional id or of a path: `ctl`, or the task's number.
    pub fn part(&self) -> String {
        match self.kind {
            LogKind::Control => "ctl".to_owned(),
            LogKind::Task(task) => task.to_string(),
        }
    }
}

impl fmt::Display for LogName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.uid, self.part())
    }
}

/// A kind of log: Kafka's, or one of objects.
#[async_trait]
pub trait Log: Send + Sync + fmt::Debug {
    /// What a writer of this log can take.
    fn limits(&self) -> Limits;

    /// Fences every earlier writer of the log, then reads its last record. `attempt` names the new writer and was never used before.
    ///
    /// # Errors
    /// [`Ended::Fenced`] if a later opener was faster, [`Ended::Failed`] if the log cannot be opened: nobody may go on then.
    async fn open(&self, name: &LogName, attempt: &str) -> Result<Opened, Ended>;

    /// The newest committed record or seal, without fencing anybody. A hint: it may be old, and another one may follow at any time.
    async fn peek(&self, name: &LogName) -> Result<Last>;
}

/// An opened log.
#[derive(Debug)]
pub struct Opened {
    /// The only writer of the log, until the next `open`.
    pub writer: Box<dyn Writer>,
    /// What all writers before have left.
    pub last: Last,
}

/// The newest entry of a log.
#[derive(Debug, Clone, PartialEq)]
pub enum Last {
    /// Nothing was ever committed.
    Nothing,
    /// The last record.
    Record(Body),
    /// The log is closed for a generation; the seal holds the record before it.
    Sealed(Seal),
}

/// What a writer can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Whether the epoch's outputs go through the writer.
    pub outputs: bool,
    /// Longest time from the first output of an epoch to its append; `None` if there is no such limit.
    pub epoch: Option<Duration>,
}

/// The writer of a log. It is gone when a verb does not give it back.
#[async_trait]
pub trait Writer: Send + fmt::Debug {
    /// Puts rows out as part of the next record or seal. Nobody sees them before that is committed.
    async fn send(self: Box<Self>, outputs: Vec<Output>) -> Result<Box<dyn Writer>, Ended>;

    /// Commits a record with all outputs since the last one. `Ok` is "committed".
    async fn append(self: Box<Self>, record: Body) -> Result<Box<dyn Writer>, Ended>;

    /// Commits a seal with all outputs since the last record.
    async fn seal(self: Box<Self>, seal: Seal) -> Result<(), Ended>;

    /// Asks whether this is still the log's writer. For who finds that something is missing which the last record names: only if
    /// nobody came after is it lost. No outputs may be open.
    async fn confirm(self: Box<Self>) -> Result<Box<dyn Writer>, Ended>;

    /// Gives up the outputs since the last record, for a process that was told to stop.
    async fn abort(self: Box<Self>);
}

/// Why a writer is gone.
#[derive(Debug)]
pub enum Ended {
    /// A later opener has the log. Nothing was committed by the verb that says so.
    Fenced,
    /// What was to be committed may be committed or not. Its owner deletes, aborts and applies nothing more: the next opener judges.
    Unknown(Error),
    /// Nothing was committed, and trying again does not help before somebody has done what the error says.
    Failed(Error),
}

impl Ended {
    /// The error for people. That of [`Ended::Fenced`] is no defect: another attempt goes on.
    pub fn into_error(self) -> Error {
        match self {
            Self::Fenced => Error::conflict("a later attempt has the log"),
            Self::Unknown(error) => error.context("in doubt"),
            Self::Failed(error) => error,
        }
    }
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fenced => f.write_str("a later attempt has the log"),
            Self::Unknown(error) => write!(f, "in doubt: {error}"),
            Self::Failed(error) => write!(f, "{error}"),
        }
    }
}

/// A message for a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    pub topic: String,
    /// `None` lets the producer choose by the key.
    pub partition: Option<i32>,
    pub key: Option<Bytes>,
    /// `None` is a tombstone.
    pub value: Option<Bytes>,
    /// In their order; a value may be missing.
    pub headers: Vec<(String, Option<Bytes>)>,
    /// Milliseconds since 1970; `None` lets the producer say now.
    pub timestamp: Option<i64>,
}

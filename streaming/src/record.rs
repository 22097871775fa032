//! What stands in commit logs, and its bytes.
//!
//! An [`Entry`] is JSON: `{"magic": "tereza.epochs", "version": 1, "content": {"record": {"epoch": {…}}}}`. It has at most
//! [`ENTRY_BYTES_MAX`] bytes; a larger record is put to the object store, and [`Body::Stored`] names it.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use tereza_runtime::{Error, Result};

/// First field of an entry.
pub const MAGIC: &str = "tereza.epochs";
/// Second field; a reader refuses a higher one.
pub const VERSION: u32 = 1;
/// Bytes of an entry in a log.
pub const ENTRY_BYTES_MAX: usize = 256 << 10;
/// Bytes of a record that is kept in the object store.
pub const STORED_BYTES_MAX: u64 = 64 << 20;

/// Topic → partition → the offset of the next row to read.
pub type Positions = BTreeMap<String, BTreeMap<i32, i64>>;
/// Topic → partition → watermark.
pub type Watermarks = BTreeMap<String, BTreeMap<i32, Watermark>>;

/// Topic of an edge → partition → what the tasks that write it told of their time.
pub type Upstream = BTreeMap<String, BTreeMap<i32, Told>>;

/// One entry of a log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// How far a task or the plan of a job is.
    Record(Body),
    /// Closes a log for a generation.
    Seal(Seal),
    /// An attempt has opened the log. In a log of Kafka, what precedes the own one is complete.
    Start(Start),
    /// A later attempt has closed the chain that it is found in; in logs of objects.
    Fence(Start),
}

/// A record, or where it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    Epoch(Box<EpochRecord>),
    Plan(Box<PlanRecord>),
    /// An object with the JSON of a body of another kind, whose nonce is repeated here.
    Stored {
        nonce: String,
        object: ObjectRef,
    },
}

/// Says which attempt did it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    pub attempt: String,
    /// An attempt may start more than once.
    pub nonce: String,
}

/// Closes a log for all generations up to one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Seal {
    pub nonce: String,
    pub generation: u64,
    pub attempt: String,
    /// The last record before the seal.
    pub record: Option<Body>,
}

/// The state of one task after an epoch, and all that another attempt needs to go on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    pub uid: String,
    pub task: u32,
    pub generation: u64,
    /// One more than in the record before; never used twice in the life of a job.
    pub epoch: u64,
    pub nonce: String,
    /// That of the record before, or of the plan if this is the first one of its generation.
    pub prev_nonce: String,
    pub attempt: String,
    pub positions: Positions,
    pub watermarks: Watermarks,
    pub upstream: Upstream,
    pub state: Vec<StatePart>,
    /// Files that may not be in their tables yet, in the order of epochs.
    pub pending: Vec<Pending>,
    /// Table → how far it had them when this was written.
    pub applied: BTreeMap<String, Applied>,
    /// Partitions whose tables say when they are complete, and that are not yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partitions: Vec<OpenPartition>,
    /// Objects that nothing names any more once this is committed.
    pub garbage: Vec<String>,
    /// Of the query whose state this is.
    pub fingerprint: String,
    /// The input has ended and everything of it is in.
    pub finished: bool,
    /// Written at a stop: nothing is pending.
    #[serde(rename = "final")]
    pub is_final: bool,
}

/// Up to where time has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watermark {
    /// Milliseconds since 1970; `None` before the first one, `i64::MAX` after the end.
    pub ms: Option<i64>,
    /// Does not hold others back.
    pub idle: bool,
}

/// What the tasks of one generation told in one partition of an edge.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Of the last message.
    pub generation: u64,
    /// So many tasks has the generation.
    pub tasks: u32,
    /// Task → watermark, of those that told one.
    pub by_task: BTreeMap<u32, Watermark>,
    /// Of the partition: the least that all tasks of a generation told, and never less than before.
    pub watermark: Watermark,
}

/// A piece of the state of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatePart {
    /// First and last key group that it counts for; it may hold others.
    pub key_groups: (u16, u16),
    pub content: StateContent,
}

/// Where a piece of state is. Parts are restored in their order: a base, then what changed since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateContent {
    #[serde(serialize_with = "to_base64", deserialize_with = "from_base64")]
    Inline(Bytes),
    Object(ObjectRef),
}

/// An object that was put once under a name of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectRef {
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// 64 hexadecimal digits.
    pub sha256: String,
}

/// Files of one epoch for one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    pub table: String,
    pub epoch: u64,
    pub files: Files,
}

/// A partition with files of a task that is to be completed later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenPartition {
    pub table: String,
    /// The catalog's texts of its values.
    pub values: Vec<String>,
    /// The last epoch with files of it.
    pub epoch: u64,
    /// When its first file was complete, in milliseconds since 1970.
    pub since_ms: i64,
}

/// A list of files, or an object with its JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Files {
    Inline(Vec<DataFile>),
    Manifest(ObjectRef),
}

/// A file of rows that is complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataFile {
    pub path: String,
    /// Bytes.
    pub size: u64,
    pub rows: u64,
    /// What else its table needs to take it, as text: bounded, and of the table's own making.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub token: String,
}

/// How far a table has the files of a task.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Of the table as it was when the job was made.
    pub uuid: String,
    /// The last epoch in it; 0 is none.
    pub marker: u64,
}

/// Who does what in a generation of a job, and from where.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PlanRecord {
    pub uid: String,
    pub generation: u64,
    pub nonce: String,
    /// Empty in the first one.
    pub prev_nonce: String,
    pub attempt: String,
    /// Of the Kafka cluster; empty if there is none.
    pub cluster: String,
    /// Topic → its id, of all topics that the job reads or writes.
    pub topics: BTreeMap<String, String>,
    /// Table → its uuid.
    pub tables: BTreeMap<String, String>,
    /// Topic → partition → the offset at which a bounded job ends.
    pub ends: Positions,
    /// Topic → edge, of those through which the tasks exchange rows; none in a job whose operators are all in one task.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub edges: BTreeMap<String, EdgePlan>,
    /// One for each task, by its number.
    pub cuts: Vec<Cut>,
    /// Objects that nothing names any more once this is committed.
    pub garbage: Vec<String>,
    pub fingerprint: String,
    /// The job is deleted: nothing of it starts again.
    pub deleted: bool,
}

/// What an edge is for the life of a job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgePlan {
    /// Partitions of its topic: each has the same number of key groups, in their order.
    pub partitions: i32,
    /// The hash of what its messages hold and of where they go.
    pub shape: String,
}

/// Where a task begins in a generation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Cut {
    /// Its first epoch is one more.
    pub epoch: u64,
    /// The partitions it owns.
    pub positions: Positions,
    pub watermarks: Watermarks,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub upstream: Upstream,
    /// First and last key group that it owns.
    pub key_groups: (u16, u16),
    pub state: Vec<StatePart>,
    pub applied: BTreeMap<String, Applied>,
    /// Partitions that are still to be completed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partitions: Vec<OpenPartition>,
}

#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    magic: String,
    version: u32,
    content: T,
}

impl Entry {
    /// Distinguishes it from all others that were ever written.
    pub fn nonce(&self) -> &str {
        match self {
            Self::Record(body) => body.nonce(),
            Self::Seal(seal) => &seal.nonce,
            Self::Start(start) | Self::Fence(start) => &start.nonce,
        }
    }

    /// Key in a compacted topic: an entry replaces those of its own kind alone.
    pub fn key(&self) -> &'static str {
        match self {
            Self::Record(_) => "rec",
            Self::Seal(_) => "seal",
            Self::Start(_) => "start",
            Self::Fence(_) => "fence",
        }
    }

    /// Its bytes.
    ///
    /// # Errors
    /// `ResourceExhausted` if they are more than [`ENTRY_BYTES_MAX`].
    pub fn encode(&self) -> Result<Bytes> {
        let bytes = encode(self)?;
        if bytes.len() > ENTRY_BYTES_MAX {
            let (length, key) = (bytes.len(), self.key());
            let message =
                format!("an entry '{key}' of a commit log has {length} bytes, the bound is {ENTRY_BYTES_MAX}");
            return Err(Error::resource_exhausted(message));
        }
        Ok(bytes)
    }

    /// What [`Self::encode`] made.
    ///
    /// # Errors
    /// `Internal` if the bytes are no entry, `Unsupported` if a later version wrote them.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        decode(bytes)
    }
}

impl Body {
    /// Distinguishes it from all others that were ever written.
    pub fn nonce(&self) -> &str {
        match self {
            Self::Epoch(record) => &record.nonce,
            Self::Plan(plan) => &plan.nonce,
            Self::Stored { nonce, .. } => nonce,
        }
    }

    /// Bytes for the object store, where a body may be larger than an entry.
    ///
    /// # Errors
    /// `ResourceExhausted` if they are more than [`STORED_BYTES_MAX`].
    pub fn encode(&self) -> Result<Bytes> {
        let bytes = encode(self)?;
        let length = bytes.len() as u64;
        if length > STORED_BYTES_MAX {
            let message = format!("a record of a commit log has {length} bytes, the bound is {STORED_BYTES_MAX}");
            return Err(Error::resource_exhausted(message));
        }
        Ok(bytes)
    }

    /// What [`Self::encode`] made.
    ///
    /// # Errors
    /// As [`Entry::decode`].
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        decode(bytes)
    }
}

fn encode<T: Serialize>(content: &T) -> Result<Bytes> {
    let envelope = Envelope { magic: MAGIC.to_owned(), version: VERSION, content };
    let bytes = serde_json::to_vec(&envelope)
        .map_err(|error| Error::internal(format!("cannot write an entry of a commit log: {error}")))?;
    Ok(bytes.into())
}

fn decode<T: for<'a> Deserialize<'a>>(bytes: &[u8]) -> Result<T> {
    #[derive(Deserialize)]
    struct Head {
        magic: String,
        version: u32,
    }
    let bad = |error: serde_json::Error| Error::internal(format!("an entry of a commit log cannot be read: {error}"));
    let head: Head = serde_json::from_slice(bytes).map_err(bad)?;
    if head.magic != MAGIC {
        return Err(Error::internal(format!("an entry of a commit log begins with '{}', not '{MAGIC}'", head.magic)));
    }
    if head.version == 0 || head.version > VERSION {
        let version = head.version;
        return Err(Error::unsupported(format!("an entry of a commit log has version {version}, known is {VERSION}"))
            .with_hint("a later release wrote it: use that one"));
    }
    let envelope: Envelope<T> = serde_json::from_slice(bytes).map_err(bad)?;
    Ok(envelope.content)
}

impl EpochRecord {
    /// Up to where time has come in all that is read, in milliseconds since 1970: `i64::MAX` at the end of the input. None if
    /// something that holds others back has no watermark yet, or nothing has one.
    pub fn watermark_ms(&self) -> Option<i64> {
        if self.finished {
            return Some(i64::MAX);
        }
        let of_edges = self.upstream.values().flat_map(BTreeMap::values).map(|told| &told.watermark);
        let marks = self.watermarks.values().flat_map(BTreeMap::values).chain(of_edges).filter(|mark| !mark.idle);
        // None is less than all others.
        marks.map(|mark| mark.ms).min().flatten()
    }

    /// Whether this may come right after `prev` of the same generation.
    ///
    /// # Errors
    /// `Internal` naming what does not fit.
    pub fn check_follows(&self, prev: &Self) -> Result<()> {
        let what = if self.uid != prev.uid {
            format!("job {} follows job {}", self.uid, prev.uid)
        } else if self.task != prev.task {
            format!("task {} follows task {}", self.task, prev.task)
        } else if self.generation != prev.generation {
            format!("generation {} follows generation {}", self.generation, prev.generation)
        } else if self.epoch != prev.epoch + 1 {
            format!("epoch {} follows epoch {}", self.epoch, prev.epoch)
        } else if self.prev_nonce != prev.nonce {
            format!("epoch {} follows nonce {}, the record before has {}", self.epoch, self.prev_nonce, prev.nonce)
        } else {
            return Ok(());
        };
        Err(Error::internal(format!("the commit log of {}.{} is broken: {what}", prev.uid, prev.task)))
    }
}

impl PlanRecord {
    /// Whether this may come right after `prev`.
    ///
    /// # Errors
    /// `Internal` naming what does not fit.
    pub fn check_follows(&self, prev: &Self) -> Result<()> {
        if self.uid == prev.uid && self.generation == prev.generation + 1 && self.prev_nonce == prev.nonce {
            return Ok(());
        }
        let (uid, generation, nonce) = (&self.uid, self.generation, &self.prev_nonce);
        Err(Error::internal(format!(
            "the log of plans of {} is broken: generation {generation} of {uid} after {nonce} follows generation {} with nonce {}",
            prev.uid, prev.generation, prev.nonce
        )))
    }
}

impl StatePart {
    /// The part as far as it counts for these key groups too; `None` if it does not.
    pub fn within(&self, key_groups: (u16, u16)) -> Option<Self> {
        let both = (self.key_groups.0.max(key_groups.0), self.key_groups.1.min(key_groups.1));
        (both.0 <= both.1).then(|| Self { key_groups: both, content: self.content.clone() })
    }
}

impl ObjectRef {
    /// What refers to `bytes` at `path`.
    pub fn of(path: impl Into<String>, bytes: &[u8]) -> Self {
        Self { path: path.into(), size: bytes.len() as u64, sha256: sha256(bytes) }
    }

    /// Whether `bytes` are those that were put.
    ///
    /// # Errors
    /// `Internal` naming the object.
    pub fn check(&self, bytes: &[u8]) -> Result<()> {
        if bytes.len() as u64 != self.size {
            let (path, size, length) = (&self.path, self.size, bytes.len());
            return Err(Error::internal(format!("the object {path} has {length} bytes, its record says {size}")));
        }
        if sha256(bytes) != self.sha256 {
            return Err(Error::internal(format!(
                "the object {} is not what its record says: the hash differs",
                self.path
            )));
        }
        Ok(())
    }
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn to_base64<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&BASE64_STANDARD.encode(bytes))
}

fn from_base64<'a, D: Deserializer<'a>>(deserializer: D) -> Result<Bytes, D::Error> {
    let text = String::deserialize(deserializer)?;
    BASE64_STANDARD.decode(text).map(Bytes::from).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests;

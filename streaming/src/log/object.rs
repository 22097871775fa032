//! The commit log in an object store, for jobs that put nothing out to Kafka.
//!
//! `<root>/<uid>/<log>/<chain>/<slot>`: each attempt writes a chain of its own, and every object is put only where none is. Slot 0
//! says whose chain it is, then come records. Who opens the log takes the next number of a chain, puts a FENCE in the next free slot
//! of the older ones, newest first, until one has a record, and only then reads that. So the one slot that an earlier writer can
//! still try for is the FENCE's, and the two cannot both get it.
//!
//! Numbers of chains and slots have no gaps, so that a listing which is behind is corrected by the put itself. Therefore a writer
//! never deletes in its own chain. After [`CHAIN_SLOTS_MAX`] records it takes a new one, and once that has a record, those of older
//! chains are deleted; FENCE, SEAL and slot 0 stay, a few hundred bytes each.

use std::collections::BTreeMap;

use async_trait::async_trait;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use tereza_runtime::{Error, ErrorKind, Result};

use super::{Ended, Last, Limits, Log, LogName, Opened, Output, Writer};
use crate::host::Backoff;
use crate::objects::{Objects, Patience, Put, store_error};
use crate::record::{Body, Entry, Seal, Start};
use crate::rules::Rule;

/// Records in a chain before its writer takes a new one.
pub const CHAIN_SLOTS_MAX: u64 = 1000;
/// Numbers that an opener tries beyond the highest that the store lists.
const TAKE_TRIES_MAX: u64 = 10_000;
/// Objects that an opener looks at.
const LISTED_MAX: usize = 1_000_000;
/// Records of older chains that are deleted after a commit.
const DELETED_PER_COMMIT_MAX: usize = 100;
/// Tries to read a log that others write and collect meanwhile.
const PEEK_TRIES_MAX: u32 = 5;
/// Tries to list a log.
const LIST_TRIES_MAX: u32 = 8;
/// Tries to find out whether the store honours puts that only make new objects.
const PROBE_TRIES_MAX: u32 = 8;

/// Commit logs below a path of an object store.
#[derive(Debug, Clone)]
pub struct ObjectLog {
    pub(crate) objects: Objects,
    root: Path,
    pub(crate) chain_slots_max: u64,
}

/// Chain → the slots that the store lists.
type Chains = BTreeMap<u64, Vec<u64>>;

/// A chain that nobody writes any more, and its last entry.
enum Closed {
    Empty,
    Record {
        body: Body,
        slot: u64,
    },
    Sealed {
        seal: Seal,
        slot: u64,
    },
    /// It had records, and they are deleted.
    Collected,
}

#[derive(Debug)]
struct ChainWriter {
    log: ObjectLog,
    name: LogName,
    attempt: String,
    chain: u64,
    /// The next one to put.
    slot: u64,
    /// Records of older chains, to be deleted when this one has a record.
    old: Vec<Path>,
}

impl ObjectLog {
    /// Logs of jobs below `root`.
    pub fn new(objects: Objects, root: &str) -> Self {
        Self { objects, root: Path::from(root), chain_slots_max: CHAIN_SLOTS_MAX }
    }

    fn path_of(&self, name: &LogName) -> Path {
        self.root.clone().join(name.uid.as_str()).join(name.part())
    }

    fn slot(&self, name: &LogName, chain: u64, slot: u64) -> Path {
        self.path_of(name).join(format!("{chain:020}")).join(format!("{slot:020}"))
    }

    /// Puts the same object twice: the second put must fail, or the store lets two writers win.
    async fn probe(&self, name: &LogName) -> Result<()> {
        let path = self.root.clone().join(name.uid.as_str()).join("probe").join(self.objects.host.new_id());
        if let Put::Taken(_) = self.objects.put_new(&path, &"1".into(), Patience::Tries, |there| there == "1").await? {
            return Err(Error::internal(format!("another object has the name {path}, which is used once")));
        }
        let mut backoff = Backoff::new();
        for tries in 1.. {
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            let second = self.objects.store.put_opts(&path, PutPayload::from_static(b"2"), options).await;
            let there = self.objects.read(&path, Patience::Tries).await?;
            if second.is_ok() || there.as_deref() != Some(b"1") {
                return Err(Error::unsupported(format!(
                    "the object store {} replaces objects that were to be put only where none is: it cannot keep a commit log",
                    self.objects.store
                )));
            }
            match second {
                Err(object_store::Error::AlreadyExists { .. }) | Ok(_) => break,
                Err(error) if tries == PROBE_TRIES_MAX => return Err(store_error(&path, error)),
                Err(_) => backoff.pause(&*self.objects.host).await,
            }
        }
        // One that stays is a byte that nobody reads.
        if let Err(error) = self.objects.store.delete(&path).await {
            tracing::debug!(%path, %error, "the probe of an object store stays");
        }
        Ok(())
    }

    async fn list(&self, name: &LogName) -> Result<Chains> {
        let path = self.path_of(name);
        let mut backoff = Backoff::new();
        for _ in 1..LIST_TRIES_MAX {
            match self.list_once(name, &path).await {
                Err(error) if error.kind() == ErrorKind::Unavailable => backoff.pause(&*self.objects.host).await,
                done => return done,
            }
        }
        self.list_once(name, &path).await
    }

    async fn list_once(&self, name: &LogName, path: &Path) -> Result<Chains> {
        let mut chains = Chains::new();
        let mut listed = 0;
        let mut objects = self.objects.store.list(Some(path));
        while let Some(object) = objects.try_next().await.map_err(|error| store_error(path, error))? {
            listed += 1;
            if listed > LISTED_MAX {
                let message = format!("the commit log {name} has more than {LISTED_MAX} objects at {path}");
                return Err(Error::resource_exhausted(message));
            }
            let mut parts = object.location.prefix_match(path).into_iter().flatten();
            let mut number = || parts.next()?.as_ref().parse::<u64>().ok();
            if let (Some(chain), Some(slot)) = (number(), number()) {
                chains.entry(chain).or_default().push(slot);
            }
        }
        Ok(chains)
    }

    /// Puts an entry in a slot; what is there instead if it is taken.
    async fn put(&self, path: &Path, entry: &Entry, patience: Patience) -> Result<Option<Entry>> {
        let bytes = entry.encode()?;
        let mine = |there: &bytes::Bytes| Entry::decode(there).is_ok_and(|there| there.nonce() == entry.nonce());
        match self.objects.put_new(path, &bytes, patience, mine).await? {
            Put::Mine => Ok(None),
            Put::Taken(there) => Ok(Some(Entry::decode(&there).map_err(|error| error.context(path))?)),
        }
    }

    async fn entry(&self, path: &Path) -> Result<Option<Entry>> {
        let bytes = self.objects.read(path, Patience::Tries).await?;
        bytes.map(|bytes| Entry::decode(&bytes).map_err(|error| error.context(path))).transpose()
    }

    fn start(&self, attempt: &str) -> Start {
        Start { attempt: attempt.to_owned(), nonce: self.objects.host.new_id() }
    }

    /// Takes the next chain's number, beginning with `from`.
    async fn take(&self, name: &LogName, from: u64, attempt: &str) -> Result<u64> {
        let start = Entry::Start(self.start(attempt));
        for chain in from..from + TAKE_TRIES_MAX {
            if self.put(&self.slot(name, chain, 0), &start, Patience::Tries).await?.is_none() {
                return Ok(chain);
            }
        }
        Err(Error::unavailable(format!(
            "the object store lists the commit log {name} more than {TAKE_TRIES_MAX} chains late"
        )))
    }

    /// Closes a chain and reads its last entry.
    async fn close(&self, name: &LogName, chain: u64, listed: u64, attempt: &str) -> Result<Closed> {
        let fence = Entry::Fence(self.start(attempt));
        let mut slot = listed;
        let mut last = self.entry(&self.slot(name, chain, slot)).await?;
        loop {
            match last {
                Some(Entry::Record(_) | Entry::Start(_)) if !self.objects.rules.breaks(Rule::Fence) => {
                    let next = self.put(&self.slot(name, chain, slot + 1), &fence, Patience::Tries).await?;
                    if next.is_none() {
                        break;
                    }
                    (last, slot) = (next, slot + 1);
                }
                Some(Entry::Fence(_)) if slot > 0 => {
                    slot -= 1;
                    last = self.entry(&self.slot(name, chain, slot)).await?;
                    break;
                }
                _ => break,
            }
        }
        match last {
            Some(Entry::Record(body)) => Ok(Closed::Record { body, slot }),
            Some(Entry::Seal(seal)) => Ok(Closed::Sealed { seal, slot }),
            Some(Entry::Start(_)) => Ok(Closed::Empty),
            // A late opener has put its FENCE where a record was.
            Some(Entry::Fence(_)) | None => Ok(Closed::Collected),
        }
    }
}

#[async_trait]
impl Log for ObjectLog {
    fn limits(&self) -> Limits {
        Limits { outputs: false, epoch: None }
    }

    async fn open(&self, name: &LogName, attempt: &str) -> Result<Opened, Ended> {
        self.probe(name).await?;
        let listed = self.list(name).await?;
        let newest = listed.keys().next_back().copied().unwrap_or(0);
        let chain = self.take(name, newest + 1, attempt).await?;
        let mut last = Last::Nothing;
        let (name, attempt) = (name.clone(), attempt.to_owned());
        let mut writer = Box::new(ChainWriter { log: self.clone(), name, attempt, chain, slot: 1, old: Vec::new() });
        for older in (1..chain).rev() {
            let slots = listed.get(&older).map(Vec::as_slice).unwrap_or_default();
            let tail = slots.iter().max().copied().unwrap_or(0);
            if last != Last::Nothing {
                // Chains before the last record: what an earlier collection has left. Their highest slot closes them.
                let records = slots.iter().filter(|slot| **slot > 0 && **slot < tail);
                writer.old.extend(records.map(|slot| self.slot(&writer.name, older, *slot)));
                continue;
            }
            let end = match self.close(&writer.name, older, tail, &writer.attempt).await? {
                Closed::Empty => continue,
                Closed::Record { body, slot } => {
                    last = Last::Record(body);
                    slot + 1
                }
                Closed::Sealed { seal, slot } => {
                    last = Last::Sealed(seal);
                    slot
                }
                // Who has deleted them was past this opener, and has closed its chain before.
                Closed::Collected => {
                    let path = self.slot(&writer.name, older, 0);
                    writer.confirm().await?;
                    let message = format!("the records after {path} are gone, and nobody has come after them");
                    return Err(Error::internal(message).into());
                }
            };
            writer.old.extend((1..end).map(|slot| self.slot(&writer.name, older, slot)));
        }
        // A listing that is behind can hide that a chain is collected. Who collected it has closed this one before.
        Ok(Opened { writer: writer.confirm().await?, last })
    }

    async fn peek(&self, name: &LogName) -> Result<Last> {
        let mut backoff = Backoff::new();
        'again: for _ in 0..PEEK_TRIES_MAX {
            for (chain, slots) in self.list(name).await?.into_iter().rev() {
                let mut slot = slots.into_iter().max().unwrap_or(0);
                while slot > 0 {
                    match self.entry(&self.slot(name, chain, slot)).await? {
                        Some(Entry::Record(body)) => return Ok(Last::Record(body)),
                        Some(Entry::Seal(seal)) => return Ok(Last::Sealed(seal)),
                        Some(Entry::Fence(_)) => slot -= 1,
                        Some(Entry::Start(_)) => break,
                        None => {
                            backoff.pause(&*self.objects.host).await;
                            continue 'again;
                        }
                    }
                }
            }
            return Ok(Last::Nothing);
        }
        Err(Error::unavailable(format!("the commit log {name} is collected as fast as it is read")))
    }
}

impl ChainWriter {
    fn next(&self) -> Path {
        self.log.slot(&self.name, self.chain, self.slot)
    }

    /// Puts an entry in the next slot, however long the store is away.
    async fn put(&mut self, entry: &Entry) -> Result<(), Ended> {
        entry.encode()?;
        match self.log.put(&self.next(), entry, Patience::ForEver).await.map_err(Ended::Unknown)? {
            None => {
                self.slot += 1;
                Ok(())
            }
            Some(_) => Err(Ended::Fenced),
        }
    }

    /// Goes on in a new chain.
    async fn roll(&mut self) -> Result<(), Ended> {
        let start = Entry::Start(self.log.start(&self.attempt));
        let path = self.log.slot(&self.name, self.chain + 1, 0);
        if self.log.put(&path, &start, Patience::ForEver).await?.is_some() {
            return Err(Ended::Fenced);
        }
        let fence = Entry::Fence(self.log.start(&self.attempt));
        let end = self.slot;
        self.put(&fence).await?;
        self.old.extend((1..end).map(|slot| self.log.slot(&self.name, self.chain, slot)));
        (self.chain, self.slot) = (self.chain + 1, 1);
        Ok(())
    }

    /// Deletes records that a committed one of this chain replaces. What fails is tried after the next commit.
    async fn collect(&mut self) {
        if self.log.objects.rules.breaks(Rule::KeepOwnChain) {
            self.old.extend((self.slot > 2).then(|| self.log.slot(&self.name, self.chain, self.slot - 2)));
        }
        for _ in 0..DELETED_PER_COMMIT_MAX {
            let Some(path) = self.old.last() else { return };
            match self.log.objects.store.delete(path).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => _ = self.old.pop(),
                Err(error) => {
                    tracing::debug!(%path, %error, "an old record stays for now");
                    return;
                }
            }
        }
    }
}

#[async_trait]
impl Writer for ChainWriter {
    async fn send(self: Box<Self>, outputs: Vec<Output>) -> Result<Box<dyn Writer>, Ended> {
        match outputs.first() {
            None => Ok(self),
            Some(output) => {
                let topic = &output.topic;
                let message = format!("the topic {topic} as output of a job whose commit log is in an object store");
                Err(Error::unsupported(message).with_hint("keep the log of the job in Kafka").into())
            }
        }
    }

    async fn append(mut self: Box<Self>, record: Body) -> Result<Box<dyn Writer>, Ended> {
        let entry = Entry::Record(record);
        // Before anything is put: an entry that is too large is no doubt.
        entry.encode()?;
        if self.slot > self.log.chain_slots_max {
            self.roll().await?;
        }
        self.put(&entry).await?;
        self.collect().await;
        Ok(self)
    }

    async fn seal(mut self: Box<Self>, seal: Seal) -> Result<(), Ended> {
        self.put(&Entry::Seal(seal)).await
    }

    async fn confirm(self: Box<Self>) -> Result<Box<dyn Writer>, Ended> {
        match self.log.entry(&self.next()).await? {
            None => Ok(self),
            Some(_) => Err(Ended::Fenced),
        }
    }

    async fn abort(self: Box<Self>) {}
}

#[cfg(test)]
mod tests;

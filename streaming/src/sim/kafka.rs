//! A commit log as Kafka keeps it: transactional ids with epochs, transactions that are decided before readers see them, a broker
//! that lets transactions expire, and requests and replies that get lost. The rules of the log itself can be broken here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tereza_runtime::{Error, Result};

use super::Broken;
use super::world::World;
use crate::host::Host;
use crate::log::{Ended, Last, Limits, Log, LogName, Opened, Output, Writer};
use crate::record::{Body, Entry, Seal, Start};

#[derive(Debug)]
pub(super) struct Kafka {
    world: Arc<World>,
    state: Mutex<State>,
    broken: Option<Broken>,
}

#[derive(Debug, Default)]
struct State {
    ids: BTreeMap<String, Id>,
    /// What readers of committed records see.
    logs: BTreeMap<LogName, Vec<Entry>>,
    outputs: Vec<Output>,
}

/// A transactional id.
#[derive(Debug, Default)]
struct Id {
    epoch: u64,
    open: Option<Vec<Output>>,
    /// The broker has decided to commit it, and has not written that to the partitions.
    decided: Option<(LogName, Vec<Output>, Option<Entry>)>,
}

#[derive(Debug)]
struct Producer {
    kafka: Arc<Kafka>,
    name: LogName,
    id: String,
    attempt: String,
    epoch: u64,
}

/// The log that tasks see.
#[derive(Debug, Clone)]
pub(super) struct KafkaLog(pub(super) Arc<Kafka>);

impl Kafka {
    pub(super) fn new(world: Arc<World>, broken: Option<Broken>) -> Self {
        Self { world, state: Mutex::default(), broken }
    }

    fn breaks(&self, broken: Broken) -> bool {
        self.broken == Some(broken)
    }

    /// What the broker does by itself.
    pub(super) fn tick(&self) {
        let mut state = self.state.lock();
        let State { ids, logs, outputs } = &mut *state;
        for id in ids.values_mut() {
            if id.decided.is_some() {
                if self.world.chance(200) {
                    let (name, rows, entry) = id.decided.take().into_iter().next().unwrap();
                    outputs.extend(rows);
                    logs.entry(name).or_default().extend(entry);
                }
            } else if id.open.is_some() && self.world.fault(2) {
                (id.epoch, id.open) = (id.epoch + 1, None);
            }
        }
    }

    /// Outputs that readers see.
    pub(super) fn outputs(&self) -> Vec<Output> {
        self.state.lock().outputs.clone()
    }

    pub(super) fn output_count(&self) -> usize {
        self.state.lock().outputs.len()
    }

    pub(super) fn logs(&self) -> BTreeMap<LogName, Vec<Entry>> {
        self.state.lock().logs.clone()
    }

    fn newest(&self, name: &LogName, skipped: usize) -> Last {
        let state = self.state.lock();
        let entries = state.logs.get(name).map(Vec::as_slice).unwrap_or_default();
        let found = entries.iter().rev().filter(|entry| !matches!(entry, Entry::Start(_))).nth(skipped);
        match found {
            Some(Entry::Record(body)) => Last::Record(body.clone()),
            Some(Entry::Seal(seal)) => Last::Sealed(seal.clone()),
            _ => Last::Nothing,
        }
    }

    /// What `init_transactions` does: waits for what is decided, ends what is open.
    async fn init(&self, id: &str) -> u64 {
        loop {
            self.world.step().await;
            let mut state = self.state.lock();
            let entry = state.ids.entry(id.to_owned()).or_default();
            if entry.decided.is_none() {
                (entry.epoch, entry.open) = (entry.epoch + 1, None);
                return entry.epoch;
            }
        }
    }
}

fn lost() -> Error {
    Error::unavailable("no answer of the broker")
}

impl Producer {
    /// Runs `change` in the open transaction, which begins if there is none.
    async fn within(&self, change: impl FnOnce(&mut Vec<Output>)) -> Result<(), Ended> {
        loop {
            self.kafka.world.step().await;
            let mut state = self.kafka.state.lock();
            let id = state.ids.entry(self.id.clone()).or_default();
            if id.epoch != self.epoch {
                return Err(Ended::Fenced);
            }
            if id.decided.is_none() {
                change(id.open.get_or_insert_default());
                return Ok(());
            }
        }
    }

    /// Ends the open transaction with `entry` in it.
    async fn commit(&self, entry: Option<Entry>) -> Result<(), Ended> {
        let world = &self.kafka.world;
        if let Some(entry) = &entry {
            entry.encode()?;
        }
        self.within(|_| {}).await?;
        world.step().await;
        if world.fault(20) {
            return Err(Ended::Unknown(lost()));
        }
        {
            let mut state = self.kafka.state.lock();
            let id = state.ids.entry(self.id.clone()).or_default();
            if id.epoch != self.epoch {
                return Err(Ended::Fenced);
            }
            let Some(outputs) = id.open.take() else { return Err(Ended::Fenced) };
            world.note(|| format!("commit {} {:?} by {}", self.name, entry.as_ref().map(Entry::nonce), self.attempt));
            id.decided = Some((self.name.clone(), outputs, entry));
        }
        world.step().await;
        if world.fault(30) { Err(Ended::Unknown(lost())) } else { Ok(()) }
    }

    fn start(&self) -> (String, Entry) {
        let nonce = self.kafka.world.new_id();
        (nonce.clone(), Entry::Start(Start { attempt: self.attempt.clone(), nonce }))
    }

    async fn barrier(&self) -> Result<(), Ended> {
        let (nonce, start) = self.start();
        match self.commit(Some(start)).await {
            Err(Ended::Unknown(error)) => return Err(Ended::Failed(error)),
            done => done?,
        }
        loop {
            self.kafka.world.step().await;
            let state = self.kafka.state.lock();
            let entries = state.logs.get(&self.name).map(Vec::as_slice).unwrap_or_default();
            if entries.iter().any(|entry| entry.nonce() == nonce) {
                return Ok(());
            }
        }
    }
}

#[async_trait]
impl Log for KafkaLog {
    fn limits(&self) -> Limits {
        Limits { outputs: true, epoch: Some(Duration::from_secs(3)) }
    }

    async fn open(&self, name: &LogName, attempt: &str) -> Result<Opened, Ended> {
        let kafka = &self.0;
        let early = kafka.newest(name, 0);
        let id = if kafka.breaks(Broken::NoFencing) { format!("{name}.{attempt}") } else { name.to_string() };
        kafka.world.step().await;
        let epoch = kafka.init(&id).await;
        let writer = Producer { kafka: Arc::clone(kafka), name: name.clone(), id, attempt: attempt.to_owned(), epoch };
        let last = if kafka.breaks(Broken::ReadBeforeInit) {
            early
        } else if kafka.breaks(Broken::ReadToEnd) {
            kafka.newest(name, usize::from(kafka.world.fault(300)))
        } else {
            writer.barrier().await?;
            kafka.newest(name, 0)
        };
        kafka.world.note(|| format!("open {name} by {attempt}"));
        Ok(Opened { writer: Box::new(writer), last })
    }

    async fn peek(&self, name: &LogName) -> Result<Last> {
        self.0.world.step().await;
        Ok(self.0.newest(name, usize::from(self.0.world.fault(100))))
    }
}

#[async_trait]
impl Writer for Producer {
    async fn send(self: Box<Self>, outputs: Vec<Output>) -> Result<Box<dyn Writer>, Ended> {
        if self.kafka.world.fault(5) {
            return Err(Ended::Failed(lost()));
        }
        self.within(|open| open.extend(outputs)).await?;
        Ok(self)
    }

    async fn append(self: Box<Self>, record: Body) -> Result<Box<dyn Writer>, Ended> {
        if self.kafka.breaks(Broken::TwoTransactions) {
            self.commit(None).await?;
        }
        self.commit(Some(Entry::Record(record))).await?;
        Ok(self)
    }

    async fn seal(self: Box<Self>, seal: Seal) -> Result<(), Ended> {
        self.commit(Some(Entry::Seal(seal))).await
    }

    async fn confirm(self: Box<Self>) -> Result<Box<dyn Writer>, Ended> {
        let (_, start) = self.start();
        match self.commit(Some(start)).await {
            Err(Ended::Unknown(error)) => Err(Ended::Failed(error)),
            Err(ended) => Err(ended),
            Ok(()) => Ok(self),
        }
    }

    async fn abort(self: Box<Self>) {
        self.kafka.world.step().await;
        let mut state = self.kafka.state.lock();
        let id = state.ids.entry(self.id.clone()).or_default();
        if id.epoch == self.epoch {
            id.open = None;
        }
    }
}

//! Commit logs in Kafka. A record is written in the transaction of the outputs it counts, so one commit makes both known.
//!
//! All logs of a job are partitions of one compacted topic: 0 has the plans, 1 + t the epochs of task t. Who opens a log takes
//! its transactional id, which fences the writers before and ends their transaction; commits a [`Start`] to the partition; and
//! reads until that is delivered. What precedes it is all there is. The end of a partition as a broker tells it would not do: a
//! transaction of somebody else, or a new leader, can hold it back, and an old record would be taken for the last.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use tereza_runtime::{Error, Result, ids};

use super::{Ended, Last, Limits, Log, LogKind, LogName, Opened, Output, Writer};
use crate::kafka::{Cluster, Connection, Message, TRANSACTION_TIMEOUT, Tail, TransactionalProducer, Until, read_tail};
use crate::record::{Body, Entry, Seal, Start};

/// Longest wait until an own start is delivered.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest read of a record that may be old.
const PEEK_TIMEOUT: Duration = Duration::from_secs(20);
/// Most tasks of a job, for its whole life: partitions are never added.
pub const TASKS_MAX: u32 = 128;

/// What a topic of commit logs must be set to. Anything else loses records, and a lost record is output a second time.
const SETTINGS: &[(&str, &str)] = &[
    ("cleanup.policy", "compact"),
    ("retention.ms", "-1"),
    ("retention.bytes", "-1"),
    ("unclean.leader.election.enable", "false"),
];

/// The logs of jobs on one cluster.
#[derive(Debug, Clone)]
pub struct KafkaLog {
    connection: Connection,
    topic_id: Option<String>,
    start_timeout: Duration,
    commit_timeout: Option<Duration>,
}

impl KafkaLog {
    /// Logs on a cluster.
    pub fn new(connection: Connection) -> Self {
        Self { connection, topic_id: None, start_timeout: START_TIMEOUT, commit_timeout: None }
    }

    /// Refuses a topic of logs with another id than this one, for a job whose topic was deleted and made again.
    #[must_use]
    pub fn with_topic_id(mut self, id: impl Into<String>) -> Self {
        self.topic_id = Some(id.into());
        self
    }

    /// Gives up sooner, or later, when an own start is not delivered.
    #[must_use]
    pub fn with_start_timeout(mut self, timeout: Duration) -> Self {
        self.start_timeout = timeout;
        self
    }

    /// Takes a commit for doubtful sooner, or later, when no answer comes.
    #[must_use]
    pub fn with_commit_timeout(mut self, timeout: Duration) -> Self {
        self.commit_timeout = Some(timeout);
        self
    }

    /// The topic that has the logs of a job.
    pub fn topic(uid: &str) -> String {
        format!("__tereza.{uid}.epochs")
    }

    /// Makes the topic of a job that is new, for at most `tasks` tasks ever. Returns the topic's id. `replicas` of `None` is the
    /// cluster's default.
    ///
    /// # Errors
    /// `AlreadyExists` if the job has one; `InvalidInput`, `Denied`, `Unavailable`.
    pub fn create(&self, uid: &str, tasks: u32, replicas: Option<i32>) -> Result<String> {
        if tasks == 0 || tasks > TASKS_MAX {
            return Err(Error::invalid_input(format!("{tasks} tasks: a job has from 1 to {TASKS_MAX}")));
        }
        let topic = Self::topic(uid);
        let cluster = Cluster::new(&self.connection)?;
        let partitions = i32::try_from(tasks + 1).unwrap_or(i32::MAX);
        cluster.create_topic(&topic, partitions, replicas, SETTINGS)?;
        self.check(&cluster, &topic, 0)
    }

    /// Whether the topic can have commit logs; its id.
    fn check(&self, cluster: &Cluster, topic: &str, partition: i32) -> Result<String> {
        let settings = cluster.settings(topic)?;
        if partition >= settings.partitions {
            let partitions = settings.partitions;
            return Err(Error::invalid_input(format!(
                "topic '{topic}' has {partitions} partitions and none for log {partition}"
            )));
        }
        for (name, wanted) in SETTINGS {
            let found = settings.get(name);
            if found != *wanted {
                let text = format!("topic '{topic}' has '{name}' = '{found}' and cannot hold commit logs so");
                return Err(Error::invalid_input(text).with_hint(format!("set it to '{wanted}'")));
            }
        }
        if settings.replicas < 3 || settings.get("min.insync.replicas").parse().is_ok_and(|replicas: u32| replicas < 2)
        {
            let (replicas, insync) = (settings.replicas, settings.get("min.insync.replicas"));
            tracing::warn!(
                topic,
                replicas,
                insync,
                "a lost broker can lose commits: have 3 replicas, 2 of them in sync"
            );
        }
        let id = cluster.topic_ids(&[topic])?.remove(topic).unwrap_or_default();
        match &self.topic_id {
            Some(wanted) if *wanted != id => {
                let text =
                    format!("topic '{topic}' was deleted and made again: its id is {id}, the job's was {wanted}");
                Err(Error::not_found(text)
                    .with_hint("what the job had committed is not known any more: make a new job"))
            }
            _ => Ok(id),
        }
    }

    fn open_now(&self, name: &LogName, attempt: &str) -> Result<Opened, Ended> {
        let (topic, partition) = place(name);
        let id = format!("tereza.{}.{}", name.uid, name.part());
        // Neither needs the other, and each waits for brokers.
        let (checked, producer) = std::thread::scope(|scope| {
            let checked = scope.spawn(|| self.check(&Cluster::new(&self.connection)?, &topic, partition));
            let producer = TransactionalProducer::open(&self.connection, &id);
            (checked.join().unwrap_or_else(|_| Err(Error::internal("the check of a topic panicked"))), producer)
        });
        checked.map_err(doubtful)?;
        let mut producer = producer?;
        if let Some(timeout) = self.commit_timeout {
            producer = producer.with_commit_timeout(timeout);
        }
        let writer = KafkaWriter { producer, topic, partition, attempt: attempt.to_owned() };
        let (writer, nonce) = writer.start()?;
        let tail = read_tail(&self.connection, &writer.topic, partition, Until::Start(&nonce), self.start_timeout);
        let offset = match tail.map_err(doubtful)? {
            Tail::Read(entry) => return Ok(Opened { writer: Box::new(writer), last: last(entry) }),
            Tail::Held(offset) => offset,
        };
        // A successor's transaction may be what holds readers back; then there is nothing to repair.
        let (writer, _) = writer.start()?;
        let topic = &writer.topic;
        let text =
            format!("a transaction of somebody else holds back readers of {topic} [{partition}] at offset {offset}");
        Err(Ended::Failed(
            Error::unavailable(text).with_hint("find it with Kafka's tool: kafka-transactions.sh find-hanging"),
        ))
    }

    fn peek_now(&self, name: &LogName) -> Result<Last> {
        let (topic, partition) = place(name);
        match read_tail(&self.connection, &topic, partition, Until::Now, PEEK_TIMEOUT)? {
            Tail::Read(entry) => Ok(last(entry)),
            Tail::Held(offset) => Err(Error::unavailable(format!(
                "{topic} [{partition}] could not be read past offset {offset} in {PEEK_TIMEOUT:?}"
            ))),
        }
    }
}

#[async_trait]
impl Log for KafkaLog {
    fn limits(&self) -> Limits {
        Limits { outputs: true, epoch: Some(TRANSACTION_TIMEOUT) }
    }

    async fn open(&self, name: &LogName, attempt: &str) -> Result<Opened, Ended> {
        let (log, name, attempt) = (self.clone(), name.clone(), attempt.to_owned());
        blocking(move || log.open_now(&name, &attempt)).await?
    }

    async fn peek(&self, name: &LogName) -> Result<Last> {
        let (log, name) = (self.clone(), name.clone());
        blocking(move || log.peek_now(&name)).await?
    }
}

/// The writer of one partition.
struct KafkaWriter {
    producer: TransactionalProducer,
    topic: String,
    partition: i32,
    attempt: String,
}

impl fmt::Debug for KafkaWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaWriter").field("topic", &self.topic).field("partition", &self.partition).finish()
    }
}

impl KafkaWriter {
    /// Commits a start; returns its nonce.
    fn start(self) -> Result<(Self, String), Ended> {
        let nonce = ids::new_secret();
        let start = Start { attempt: self.attempt.clone(), nonce: nonce.clone() };
        Ok((self.commit(&Entry::Start(start))?, nonce))
    }

    fn commit(mut self, entry: &Entry) -> Result<Self, Ended> {
        let bytes = entry.encode()?;
        let (topic, partition) = (self.topic.as_str(), Some(self.partition));
        let key = Some(entry.key().as_bytes());
        self.producer.send(Message { topic, partition, key, value: Some(&bytes), headers: &[], timestamp: None })?;
        let producer = self.producer.commit()?;
        Ok(Self { producer, ..self })
    }

    fn send_now(mut self, outputs: &[Output]) -> Result<Self, Ended> {
        for output in outputs {
            self.producer.send(Message {
                topic: &output.topic,
                partition: output.partition,
                key: output.key.as_deref(),
                value: output.value.as_deref(),
                headers: &output.headers,
                timestamp: output.timestamp,
            })?;
        }
        Ok(self)
    }
}

#[async_trait]
impl Writer for KafkaWriter {
    async fn send(self: Box<Self>, outputs: Vec<Output>) -> Result<Box<dyn Writer>, Ended> {
        Ok(Box::new(blocking(move || self.send_now(&outputs)).await??))
    }

    async fn append(self: Box<Self>, record: Body) -> Result<Box<dyn Writer>, Ended> {
        Ok(Box::new(doubted(move || self.commit(&Entry::Record(record))).await?))
    }

    async fn seal(self: Box<Self>, seal: Seal) -> Result<(), Ended> {
        doubted(move || self.commit(&Entry::Seal(seal))).await.map(drop)
    }

    async fn confirm(self: Box<Self>) -> Result<Box<dyn Writer>, Ended> {
        Ok(Box::new(doubted(move || self.start()).await?.0))
    }

    async fn abort(self: Box<Self>) {
        // The broker aborts what this does not.
        let _ = blocking(move || self.producer.abort()).await;
    }
}

fn place(name: &LogName) -> (String, i32) {
    let partition = match name.kind {
        LogKind::Control => 0,
        LogKind::Task(task) => i32::try_from(task).map_or(i32::MAX, |task| task.saturating_add(1)),
    };
    (KafkaLog::topic(&name.uid), partition)
}

fn last(entry: Option<Entry>) -> Last {
    match entry {
        Some(Entry::Record(body)) => Last::Record(body),
        Some(Entry::Seal(seal)) => Last::Sealed(seal),
        _ => Last::Nothing,
    }
}

/// An error of a request before anything was committed: another attempt may do better unless the request is refused.
fn doubtful(error: Error) -> Ended {
    match error.kind() {
        tereza_runtime::ErrorKind::Unavailable => Ended::Unknown(error),
        _ => Ended::Failed(error),
    }
}

/// Runs what blocks on a thread for it.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::internal(format!("a call of Kafka panicked: {error}")))
}

/// The same for a commit, which may have happened when the thread did not come back.
async fn doubted<T: Send + 'static>(work: impl FnOnce() -> Result<T, Ended> + Send + 'static) -> Result<T, Ended> {
    blocking(work).await.map_err(Ended::Unknown)?
}

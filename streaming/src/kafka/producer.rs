//! A producer whose transactions are the commits of a job.
//!
//! One producer has one transaction. It is opened at the first message and closed by [`TransactionalProducer::commit`], which
//! takes the producer and gives it back only when the commit is certain. A producer is never used again after anything
//! failed: the broker may still take a late message of an aborted transaction for one of the next.

use std::fmt;
use std::time::{Duration, Instant};

use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use tereza_runtime::{Error, Result, clock};

use super::client::{self, Connection, Context, MESSAGE_BYTES_MAX};
use crate::log::Ended;

/// How long the broker keeps a transaction open that its producer does not close. A task that is dead holds back the readers of
/// its topics for as long, unless its successor comes earlier.
pub const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest wait for a transactional id to be ours. An older transaction of it must be decided first.
const INIT_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest wait for room in the producer's queue.
const ROOM_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest wait for a decision on a commit; the broker gives up a transaction earlier.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest wait for an abort; the broker aborts by itself later.
const ABORT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often it is looked whether all messages are with the brokers.
const FLUSH_STEP: Duration = Duration::from_millis(1);
/// Longest single call of librdkafka in those waits.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// A producer that is alone with its transactional id, until another one takes the id. Its calls block.
pub struct TransactionalProducer {
    native: ThreadedProducer<Context>,
    id: String,
    begun: Option<Instant>,
    commit_timeout: Duration,
}

/// A message to send. Borrowed, since librdkafka copies it.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    pub topic: &'a str,
    /// `None` lets the hash of the key choose, as Kafka's Java clients do.
    pub partition: Option<i32>,
    pub key: Option<&'a [u8]>,
    /// `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    pub headers: &'a [(String, Option<bytes::Bytes>)],
    /// Milliseconds since 1970; `None` is now.
    pub timestamp: Option<i64>,
}

impl fmt::Debug for TransactionalProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransactionalProducer").field("id", &self.id).field("open", &self.begun.is_some()).finish()
    }
}

impl TransactionalProducer {
    /// Takes the transactional id: producers that had it are fenced, and their open transaction is aborted.
    ///
    /// # Errors
    /// `Fenced` if another one takes the id at the same time, `Unknown` if the cluster does not answer, `Failed` if it refuses.
    pub fn open(connection: &Connection, id: &str) -> Result<Self, Ended> {
        let config = connection.producer(id, TRANSACTION_TIMEOUT);
        let native = ThreadedProducer::from_config_and_context(&config, Context::default())
            .map_err(|error| Error::invalid_input(format!("no producer '{id}': {error}")))?;
        let start = clock::now();
        while let Err(error) = native.init_transactions(CALL_TIMEOUT) {
            if client::is_fenced(&error) {
                return Err(Ended::Fenced);
            }
            if let Some(refused) = native.context().refused() {
                return Err(refused.into());
            }
            if !is_retriable(&error) || start.elapsed() > INIT_TIMEOUT {
                return Err(ended(client::error(format!("cannot take the transactional id '{id}'"), &error)));
            }
            tracing::debug!(target: "tereza::kafka", id, %error, "the transactional id is not ours yet");
        }
        Ok(Self { native, id: id.to_owned(), begun: None, commit_timeout: COMMIT_TIMEOUT })
    }

    /// Waits for a decision on commits shorter or longer.
    #[must_use]
    pub fn with_commit_timeout(mut self, timeout: Duration) -> Self {
        self.commit_timeout = timeout;
        self
    }

    /// Time since the first message of the open transaction; `None` if none is open.
    pub fn open_for(&self) -> Option<Duration> {
        self.begun.map(|begun| begun.elapsed())
    }

    /// Puts a message into the open transaction, which is opened if there is none. Waits while the producer's queue is full.
    ///
    /// # Errors
    /// The producer is to be dropped: `Fenced`, `Unknown` when the cluster does not take messages, `Failed` for one that it
    /// refuses. Nothing of the transaction is committed.
    pub fn send(&mut self, message: Message<'_>) -> Result<(), Ended> {
        self.check_deliveries()?;
        let size = message.key.map_or(0, <[u8]>::len) + message.value.map_or(0, <[u8]>::len);
        if size > MESSAGE_BYTES_MAX {
            let topic = message.topic;
            let text = format!("a message for topic '{topic}' has {size} bytes, the bound is {MESSAGE_BYTES_MAX}");
            return Err(Error::resource_exhausted(text).into());
        }
        if self.begun.is_none() {
            self.native.begin_transaction().map_err(|error| self.before_commit("begin a transaction", &error))?;
            self.begun = Some(clock::now());
        }
        let mut record = BaseRecord::<[u8], [u8]>::to(message.topic);
        record.partition = message.partition;
        record.key = message.key;
        record.payload = message.value;
        record.timestamp = message.timestamp;
        if !message.headers.is_empty() {
            let headers = OwnedHeaders::new_with_capacity(message.headers.len());
            let headers = message
                .headers
                .iter()
                .fold(headers, |headers, (key, value)| headers.insert(Header { key, value: value.as_deref() }));
            record.headers = Some(headers);
        }
        let start = clock::now();
        loop {
            match self.native.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(Code::QueueFull), refused)) => {
                    self.check_deliveries()?;
                    if start.elapsed() > ROOM_TIMEOUT {
                        let text = format!("the brokers took no message of '{}' for {ROOM_TIMEOUT:?}", self.id);
                        return Err(Ended::Unknown(Error::unavailable(text)));
                    }
                    record = refused;
                    self.native.poll(Duration::from_millis(5));
                }
                Err((error, _)) => {
                    let doing = format!("send a message for topic '{}'", message.topic);
                    return Err(self.before_commit(doing, &error));
                }
            }
        }
    }

    /// Commits the open transaction, if there is one.
    ///
    /// # Errors
    /// `Fenced` and `Failed` if it is certain that nothing was committed, else `Unknown`. The producer is gone in any case.
    pub fn commit(mut self) -> Result<Self, Ended> {
        if self.begun.is_none() {
            return Ok(self);
        }
        let start = clock::now();
        // Until all messages are with the brokers, nothing was asked of the coordinator: errors here leave no doubt. The thread
        // that polls is told of errors alone, so this one looks how many are left.
        while let Err(error) = self.native.flush(Duration::ZERO) {
            self.check_deliveries()?;
            if self.native.context().broken().is_some() {
                // The commit says why, and is not asked for.
                break;
            }
            if start.elapsed() > self.commit_timeout {
                return Err(self.before_commit("send all messages of a transaction", &error));
            }
            std::thread::park_timeout(FLUSH_STEP);
        }
        self.check_deliveries()?;
        loop {
            let error = match self.native.commit_transaction(CALL_TIMEOUT.min(self.commit_timeout)) {
                Ok(()) => {
                    self.begun = None;
                    return Ok(self);
                }
                Err(error) => error,
            };
            if !is_retriable(&error) || start.elapsed() > self.commit_timeout {
                let doing = format!("cannot commit a transaction of '{}'", self.id);
                let error = client::error(doing, &error);
                return Err(Ended::Unknown(self.expired(&error).unwrap_or(error)));
            }
            tracing::debug!(target: "tereza::kafka", id = self.id, %error, "the commit is asked for again");
        }
    }

    /// Gives up the open transaction, so that readers need not wait until it expires. The producer is not used again.
    pub fn abort(self) {
        if self.begun.is_some()
            && let Err(error) = self.native.abort_transaction(ABORT_TIMEOUT)
        {
            tracing::info!(target: "tereza::kafka", id = self.id, %error, "a transaction is left to expire");
        }
    }

    fn check_deliveries(&self) -> Result<(), Ended> {
        match self.native.context().failed() {
            None => Ok(()),
            Some((error, what)) => Err(self.before_commit(format!("deliver {what}"), &error)),
        }
    }

    /// The error of a transaction that was open for longer than brokers keep one: its process was stopped, or the machine asleep. Such
    /// a one is fenced by the brokers, and mostly by nobody else.
    fn expired(&self, error: &Error) -> Option<Error> {
        let open_for = self.open_for().filter(|open_for| *open_for > TRANSACTION_TIMEOUT)?;
        let (id, why) = (&self.id, error.message());
        Some(Error::unavailable(format!(
            "a transaction of '{id}' was open for {open_for:.0?}, and brokers give one up after {TRANSACTION_TIMEOUT:?}: {why}"
        )))
    }

    /// What an error means while the coordinator was not asked to commit.
    fn before_commit(&self, doing: impl fmt::Display, error: &KafkaError) -> Ended {
        let fatal = self.native.client().fatal_error().map(|(code, _)| KafkaError::Global(code));
        let is_fenced = client::is_fenced(error) || fatal.as_ref().is_some_and(client::is_fenced);
        let error = client::error(format!("'{}' cannot {doing}", self.id), error);
        let error = match self.native.context().broken() {
            Some(broken) => error.context(broken),
            None => error,
        };
        match self.expired(&error) {
            Some(expired) if is_fenced || client::may_pass(&error) => Ended::Unknown(expired),
            _ if is_fenced => Ended::Fenced,
            _ => ended(error),
        }
    }
}

fn ended(error: Error) -> Ended {
    if client::may_pass(&error) { Ended::Unknown(error) } else { Ended::Failed(error) }
}

fn is_retriable(error: &KafkaError) -> bool {
    match error {
        KafkaError::Transaction(error) => error.is_retriable(),
        KafkaError::Flush(code) => *code == Code::OperationTimedOut,
        _ => false,
    }
}

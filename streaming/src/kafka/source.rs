//! Reads partitions that are assigned, from positions that a record says, up to ends that a plan says.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Headers};
use rdkafka::{Message, Offset, TopicPartitionList};
use tereza_runtime::{Error, ErrorKind, Result, clock};

use super::client::{self, Connection, Context, ENDS_INTERVAL, REQUEST_TIMEOUT};
use super::start::watermarks;
use super::topic_ids::topic_ids;
use crate::record::Positions;
use crate::shares::Owners;

/// Longest single wait in librdkafka, so that what is to be done by time is done.
const POLL_TIMEOUT: Duration = Duration::from_millis(100);
/// How often it is looked whether the topics are still those of the plan, where new partitions are not looked for.
const IDS_INTERVAL: Duration = Duration::from_secs(30);
/// How soon it is looked again when a topic was not found.
const DOUBT_INTERVAL: Duration = Duration::from_secs(2);
/// Topics that an error names.
const TOPICS_TOLD: usize = 10;
/// How long a partition gives nothing after the broker said that all before its end can be read, until it counts as read. Only
/// for one whose last messages were compacted away, where no offset tells.
const SETTLE: Duration = Duration::from_secs(2);

/// What a task reads of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    pub topic: String,
    pub partition: i32,
    /// The next offset to read.
    pub position: i64,
    /// The offset before which it ends.
    pub end: Option<i64>,
}

/// What a source keeps to.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes that wait in the source, and those of a batch.
    pub queue_bytes: u64,
    /// How often new partitions are looked for; `None` is never.
    pub discovery: Option<Duration>,
    /// This task, which takes those of the new partitions that are its own.
    pub task: u32,
    /// Whose they are.
    pub owners: Owners,
}

/// A message of a topic.
pub struct Row<'a> {
    pub topic: &'a str,
    pub partition: i32,
    pub offset: i64,
    /// Milliseconds since 1970.
    pub timestamp: Option<i64>,
    pub key: Option<&'a [u8]>,
    /// `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    message: &'a BorrowedMessage<'a>,
}

impl Row<'_> {
    /// Names and values of its headers; a value may be missing.
    pub fn headers(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        let headers = self.message.headers().into_iter().flat_map(|headers| headers.iter());
        headers.map(|header| (header.key, header.value))
    }
}

/// What one call of [`Source::poll`] gave.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Batch {
    pub rows: usize,
    /// Of keys and values.
    pub bytes: usize,
    /// Nothing more will come: every partition is at its end.
    pub is_finished: bool,
}

struct Slot {
    topic: String,
    partition: i32,
    next: i64,
    end: Option<i64>,
    ended: bool,
    /// Since when the broker says that all before the end can be read, and nothing came.
    settled: Option<Instant>,
}

/// A reader of partitions. Its calls block; librdkafka fetches on threads of its own.
pub struct Source {
    consumer: BaseConsumer<Context>,
    slots: Vec<Slot>,
    /// Topic → partition → slot.
    index: BTreeMap<String, BTreeMap<i32, usize>>,
    /// The slot of the last message: the next one is mostly of the same.
    last: usize,
    /// Topic → the id it must have.
    ids: BTreeMap<String, String>,
    /// Topic → number of partitions that are known.
    known: BTreeMap<String, i32>,
    limits: Limits,
    looked: Instant,
    /// The last look for partitions ended with an error that stops the source if it comes again.
    doubted: bool,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("partitions", &self.slots.len()).finish()
    }
}

impl Source {
    /// Begins to read. `ids` are those of the topics in the plan. `group` is told how far the job is by [`Self::tell_group`].
    ///
    /// # Errors
    /// `NotFound` if a topic is gone, was made again, or has lost partitions; `Unavailable`.
    pub fn open(
        connection: &Connection,
        group: &str,
        assignments: Vec<Assignment>,
        ids: BTreeMap<String, String>,
        limits: Limits,
    ) -> Result<Self> {
        let mut config = connection.consumer(group, limits.queue_bytes);
        config.set("statistics.interval.ms", ENDS_INTERVAL.as_millis().to_string());
        let consumer = BaseConsumer::from_config_and_context(&config, Context::default())
            .map_err(|error| Error::invalid_input(format!("no consumer: {error}")))?;
        let mut source = Self {
            consumer,
            slots: Vec::new(),
            index: BTreeMap::new(),
            last: 0,
            ids,
            known: BTreeMap::new(),
            limits,
            looked: clock::now(),
            doubted: false,
        };
        source.check_ids().map_err(|error| client::why(connection, error))?;
        for topic in source.ids.keys() {
            source.known.insert(topic.clone(), source.partitions(topic)?);
        }
        for Assignment { topic, partition, position, end } in assignments {
            let known = source.known.get(&topic).copied().unwrap_or_default();
            if partition >= known {
                return Err(Error::not_found(format!(
                    "{topic} [{partition}] is gone: the topic has {known} partitions"
                )));
            }
            source.add(Slot { topic, partition, next: position, end, ended: false, settled: None });
        }
        let list = source.list(|slot| !slot.ended)?;
        source.consumer.assign(&list).map_err(|error| client::error("cannot assign partitions", &error))?;
        Ok(source)
    }

    /// Gives rows to `each`, in the order of each partition: at most `rows`, those that come within `wait`, and hardly more bytes
    /// than may wait in the source.
    ///
    /// # Errors
    /// `NotFound` if rows or a topic are gone that should be read: the message names partition, wanted offset and the earliest there
    /// is. `Denied`. A cluster that does not answer is no error: reading goes on when it does.
    pub fn poll(&mut self, rows: usize, wait: Duration, mut each: impl FnMut(Row<'_>)) -> Result<Batch> {
        let start = clock::now();
        let mut batch = Batch::default();
        self.discover_if_due()?;
        let bytes = usize::try_from(self.limits.queue_bytes).unwrap_or(usize::MAX);
        // What is there is taken without a look at the clock.
        let mut is_there = false;
        while batch.rows < rows && batch.bytes < bytes && !self.is_finished() {
            let left = if is_there { Duration::ZERO } else { wait.saturating_sub(start.elapsed()) };
            let was_there = std::mem::take(&mut is_there);
            match self.consumer.poll(left.min(POLL_TIMEOUT)) {
                Some(Ok(message)) => {
                    is_there = true;
                    let (at, partition, offset) = (self.last, message.partition(), message.offset());
                    let topic = message.topic();
                    let is_same =
                        self.slots.get(at).is_some_and(|slot| slot.partition == partition && slot.topic == topic);
                    let found = if is_same {
                        Some(at)
                    } else {
                        self.index.get(topic).and_then(|of| of.get(&partition)).copied()
                    };
                    let Some((at, slot)) = found.and_then(|at| Some((at, self.slots.get_mut(at)?))) else { continue };
                    self.last = at;
                    slot.settled = None;
                    // After an end nothing counts, and nothing comes twice.
                    if offset < slot.next || slot.ended {
                        continue;
                    }
                    if slot.end.is_some_and(|end| offset >= end) {
                        slot.next = slot.end.unwrap_or(offset);
                        Self::end(&self.consumer, slot)?;
                        continue;
                    }
                    slot.next = offset + 1;
                    let (key, value) = (message.key(), message.payload());
                    batch.rows += 1;
                    batch.bytes += key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len);
                    let timestamp = message.timestamp().to_millis();
                    each(Row { topic, partition, offset, timestamp, key, value, message: &message });
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    Self::at_end(&self.consumer, &mut self.slots, partition)
                }
                Some(Err(error)) => self.explain(&error)?,
                None if was_there => {}
                None if left.is_zero() => break,
                None => {}
            }
            if batch.rows == 0 && start.elapsed() >= wait {
                break;
            }
        }
        self.take_positions();
        self.end_settled()?;
        batch.is_finished = self.is_finished();
        Ok(batch)
    }

    /// The next offset to read of every partition. Those of control messages and of aborted transactions are passed.
    pub fn positions(&self) -> Positions {
        let mut positions = Positions::new();
        for slot in &self.slots {
            positions.entry(slot.topic.clone()).or_default().insert(slot.partition, slot.next);
        }
        positions
    }

    /// Whether no broker answers, as far as it is known yet.
    pub fn is_alone(&self) -> bool {
        self.consumer.client().context().is_alone()
    }

    /// Topic → partition → the offset after what is committed there, as it was lately; nothing of partitions that are new.
    pub fn ends(&self) -> Positions {
        self.consumer.client().context().ends()
    }

    /// Whether every partition is at its end. A source without ends is never finished, nor is one that waits for the first partition
    /// of a topic that is its own.
    pub fn is_finished(&self) -> bool {
        self.slots.iter().all(|slot| slot.ended)
            && !self.slots.is_empty()
            && self.ids.keys().all(|topic| self.index.contains_key(topic))
    }

    /// Tells the consumer group how far a committed record is, for tools that show lag. Nobody waits for it, and it may fail.
    pub fn tell_group(&self, positions: &Positions) {
        let mut list = TopicPartitionList::new();
        for (topic, partitions) in positions {
            for (partition, offset) in partitions {
                // A name that cannot be listed could not be read.
                let _ = list.add_partition_offset(topic, *partition, Offset::Offset(*offset));
            }
        }
        if let Err(error) = self.consumer.commit(&list, CommitMode::Async) {
            tracing::debug!(target: "tereza::kafka", %error, "the consumer group is not told");
        }
    }

    /// Whether the topics are still those of the plan.
    ///
    /// # Errors
    /// `NotFound` naming one that is gone or was made again; `Unavailable`.
    pub fn check_ids(&self) -> Result<()> {
        if self.ids.is_empty() {
            return Ok(());
        }
        let topics: Vec<&str> = self.ids.keys().map(String::as_str).collect();
        let found =
            topic_ids(self.consumer.client(), &topics, REQUEST_TIMEOUT).map_err(|error| match error.kind() {
                ErrorKind::NotFound => error
                    .context("a topic that is read was deleted")
                    .with_hint("what is not read of it is lost: make it again, and a new job"),
                _ => error,
            })?;
        for (topic, wanted) in &self.ids {
            let id = found.get(topic).map_or("", String::as_str);
            if id != wanted {
                let text =
                    format!("topic '{topic}' was deleted and made again: its id is '{id}', the plan's is '{wanted}'");
                return Err(Error::not_found(text).with_hint("its offsets mean nothing any more: make a new job"));
            }
        }
        Ok(())
    }

    /// How many partitions a topic has; the consumer itself learns of them so.
    fn partitions(&self, topic: &str) -> Result<i32> {
        let metadata = self.consumer.fetch_metadata(Some(topic), REQUEST_TIMEOUT);
        let metadata = metadata
            .map_err(|error| client::error(format!("cannot ask for the partitions of topic '{topic}'"), &error))?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        Ok(i32::try_from(found.map_or(0, |found| found.partitions().len())).unwrap_or(i32::MAX))
    }

    fn add(&mut self, mut slot: Slot) {
        slot.ended = slot.end.is_some_and(|end| slot.next >= end);
        let of = self.index.entry(slot.topic.clone()).or_default();
        of.insert(slot.partition, self.slots.len());
        self.slots.push(slot);
    }

    fn list(&self, wanted: impl Fn(&Slot) -> bool) -> Result<TopicPartitionList> {
        let mut list = TopicPartitionList::new();
        for slot in self.slots.iter().filter(|slot| wanted(slot)) {
            list.add_partition_offset(&slot.topic, slot.partition, Offset::Offset(slot.next))
                .map_err(|error| client::error("cannot list partitions", &error))?;
        }
        Ok(list)
    }

    /// Stops to fetch a partition.
    fn end(consumer: &BaseConsumer<Context>, slot: &mut Slot) -> Result<()> {
        slot.ended = true;
        let mut list = TopicPartitionList::new();
        list.add_partition(&slot.topic, slot.partition);
        consumer.incremental_unassign(&list).map_err(|error| client::error("cannot give up a partition", &error))
    }

    /// Takes over where the consumer is: past control messages, which are not delivered. A partition may be at its end so.
    fn take_positions(&mut self) {
        let Ok(list) = self.consumer.position() else { return };
        for slot in self.slots.iter_mut().filter(|slot| !slot.ended) {
            let found = list.find_partition(&slot.topic, slot.partition).map(|found| found.offset());
            if let Some(Offset::Offset(offset)) = found {
                slot.next = slot.next.max(slot.end.map_or(offset, |end| offset.min(end)));
            }
        }
    }

    /// All that was committed of a partition with this number was read. rdkafka does not say of which topic.
    fn at_end(consumer: &BaseConsumer<Context>, slots: &mut [Slot], partition: i32) {
        for slot in slots.iter_mut().filter(|slot| slot.partition == partition && !slot.ended) {
            let Some(end) = slot.end else { continue };
            if slot.settled.is_none()
                && watermarks(consumer, &slot.topic, partition).is_ok_and(|(_, committed)| committed >= end)
            {
                slot.settled = Some(clock::now());
            }
        }
    }

    fn end_settled(&mut self) -> Result<()> {
        for slot in self.slots.iter_mut().filter(|slot| !slot.ended) {
            let Some(end) = slot.end else { continue };
            if slot.next >= end || slot.settled.is_some_and(|since| since.elapsed() > SETTLE) {
                slot.next = end;
                Self::end(&self.consumer, slot)?;
            }
        }
        Ok(())
    }

    /// Whether reading may go on after an error.
    fn explain(&self, error: &KafkaError) -> Result<()> {
        match error.rdkafka_error_code() {
            Some(Code::Authentication | Code::SaslAuthenticationFailed | Code::SSL) => {
                if let Some(refused) = self.consumer.client().context().refused() {
                    return Err(refused);
                }
            }
            Some(Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::NoOffset | Code::LogTruncation) => {
                self.check_offsets()?
            }
            Some(
                Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition | Code::UnknownTopicId,
            ) => {
                self.check_ids()?;
            }
            _ => {}
        }
        let is_fatal = matches!(error, KafkaError::MessageConsumptionFatal(_));
        // The client does not say which of them it is.
        let topics: Vec<&str> = self.ids.keys().map(String::as_str).take(TOPICS_TOLD).collect();
        let error = client::error(format_args!("cannot read {}", topics.join(", ")), error);
        if is_fatal || !client::may_pass(&error) {
            return Err(error);
        }
        tracing::debug!(target: "tereza::kafka", %error, "reading goes on");
        Ok(())
    }

    /// Finds the partition whose rows are not there any more.
    fn check_offsets(&self) -> Result<()> {
        self.check_ids()?;
        for slot in self.slots.iter().filter(|slot| !slot.ended) {
            let (low, end) = watermarks(&self.consumer, &slot.topic, slot.partition)?;
            let Slot { topic, partition, next, .. } = slot;
            if *next < low {
                let text =
                    format!("rows of {topic} [{partition}] are gone: wanted is offset {next}, the earliest is {low}");
                return Err(Error::not_found(text).with_hint("the topic's retention is shorter than the job was away"));
            }
            if *next > end {
                let text =
                    format!("rows of {topic} [{partition}] are gone: wanted is offset {next}, the topic ends at {end}");
                return Err(Error::not_found(text).with_hint("the topic was truncated or made again"));
            }
        }
        Err(Error::unavailable("an offset is out of range, and the broker now says otherwise"))
    }

    fn discover_if_due(&mut self) -> Result<()> {
        let interval = self.limits.discovery.unwrap_or(IDS_INTERVAL);
        if self.looked.elapsed() < if self.doubted { interval.min(DOUBT_INTERVAL) } else { interval } {
            return Ok(());
        }
        self.looked = clock::now();
        let found = if self.limits.discovery.is_some() { self.discover() } else { self.check_ids() };
        match found {
            // What is not known of a new partition yet, or to a broker that has just started, is when it is asked again.
            Err(error) if client::may_pass(&error) || !self.doubted => {
                tracing::debug!(target: "tereza::kafka", %error, "topics and new partitions are looked for later");
                self.doubted = !client::may_pass(&error);
                Ok(())
            }
            Ok(()) => {
                self.doubted = false;
                Ok(())
            }
            error => error,
        }
    }

    /// Looks for new partitions and takes those of this task, from their earliest offset. A topic with ends has none.
    fn discover(&mut self) -> Result<()> {
        self.check_ids()?;
        let known: Vec<(String, i32)> = self.known.iter().map(|(topic, count)| (topic.clone(), *count)).collect();
        for (topic, known) in known {
            if self.slots.iter().any(|slot| slot.topic == topic && slot.end.is_some()) {
                continue;
            }
            let count = self.partitions(&topic)?;
            if count < known {
                return Err(Error::not_found(format!("topic '{topic}' has {count} partitions, it had {known}")));
            }
            let mut list = TopicPartitionList::new();
            let mut slots = Vec::new();
            // Also those that came while nobody looked.
            let is_read = |partition| self.index.get(&topic).is_some_and(|of| of.contains_key(&partition));
            let Limits { task, owners, .. } = &self.limits;
            let is_own = |partition: &i32| owners.owner(&topic, *partition) == *task && !is_read(*partition);
            for partition in (0..count).filter(is_own) {
                let (low, _) = watermarks(&self.consumer, &topic, partition)?;
                list.add_partition_offset(&topic, partition, Offset::Offset(low))
                    .map_err(|error| client::error("cannot list partitions", &error))?;
                slots.push(Slot { topic: topic.clone(), partition, next: low, end: None, ended: false, settled: None });
            }
            if !slots.is_empty() {
                self.consumer
                    .incremental_assign(&list)
                    .map_err(|error| client::error("cannot assign partitions", &error))?;
                tracing::info!(topic, partitions = slots.len(), "new partitions are read");
            }
            slots.into_iter().for_each(|slot| self.add(slot));
            self.known.insert(topic, count);
        }
        Ok(())
    }
}

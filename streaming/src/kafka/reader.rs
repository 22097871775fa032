//! Reads the end of a partition of commit records.

use std::time::Duration;

use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Message, Offset, TopicPartitionList};
use tereza_runtime::{Error, Result, clock};

use super::client::{self, Connection, Context};
use super::start::watermarks;
use crate::record::Entry;

/// Offsets before the end that are read first. Most of the time the last record is among the last few.
const FIRST_DISTANCE: i64 = 512;
/// How many times as many are read when no record was among them.
const GROWTH: i64 = 8;
/// Bytes that may wait in the consumer: more than the first distance of usual records.
const QUEUE_BYTES: u64 = 16 << 20;
/// Longest wait for one message.
const POLL_TIMEOUT: Duration = Duration::from_millis(50);

/// Where reading stops.
#[derive(Debug, Clone, Copy)]
pub enum Until<'a> {
    /// At the start entry with this nonce, which is committed. All that precedes it is complete.
    Start(&'a str),
    /// At what is committed now. It may be old.
    Now,
}

/// What was read.
#[derive(Debug)]
pub enum Tail {
    /// The last record or seal, if there is one.
    Read(Option<Entry>),
    /// Not up to where reading stops within the time: an open transaction of somebody holds readers back at this offset.
    Held(i64),
}

/// The last record or seal of a partition before `until`. A message that is no entry of a commit log is an error.
///
/// # Errors
/// `Unavailable` if the cluster does not answer, `Internal` naming the offset of what cannot be read, `NotFound`, `Denied`.
pub fn read_tail(
    connection: &Connection,
    topic: &str,
    partition: i32,
    until: Until<'_>,
    timeout: Duration,
) -> Result<Tail> {
    let config = connection.consumer("tereza.tail", QUEUE_BYTES);
    let consumer = BaseConsumer::from_config_and_context(&config, Context::default())
        .map_err(|error| Error::invalid_input(format!("no consumer: {error}")))?;
    let (low, end) = watermarks(&consumer, topic, partition)?;
    let reader = Reader { consumer, topic, partition, until, end, timeout };
    let mut distance = FIRST_DISTANCE;
    loop {
        let from = low.max(end.saturating_sub(distance));
        match reader.scan(from)? {
            Tail::Read(None) if from > low => distance = distance.saturating_mul(GROWTH),
            tail => return Ok(tail),
        }
    }
}

struct Reader<'a> {
    consumer: BaseConsumer<Context>,
    topic: &'a str,
    partition: i32,
    until: Until<'a>,
    /// After what was committed when reading began.
    end: i64,
    timeout: Duration,
}

impl Reader<'_> {
    fn scan(&self, from: i64) -> Result<Tail> {
        let mut list = TopicPartitionList::new();
        let assigned = list
            .add_partition_offset(self.topic, self.partition, Offset::Offset(from))
            .and_then(|()| self.consumer.assign(&list));
        assigned.map_err(|error| client::error(format!("cannot read {}", self.place(from)), &error))?;
        let mut newest: Option<(i64, Vec<u8>)> = None;
        let mut position = from;
        let start = clock::now();
        loop {
            if matches!(self.until, Until::Now) && position >= self.end {
                break;
            }
            if start.elapsed() > self.timeout {
                return Ok(Tail::Held(position));
            }
            match self.consumer.poll(POLL_TIMEOUT) {
                None | Some(Err(KafkaError::PartitionEOF(_))) => position = position.max(self.position()),
                Some(Ok(message)) => {
                    position = message.offset() + 1;
                    let value = message.payload().unwrap_or_default();
                    match message.key() {
                        Some(b"rec" | b"seal") => newest = Some((message.offset(), value.to_vec())),
                        Some(b"start") if self.is_own(message.offset(), value)? => break,
                        _ => {}
                    }
                }
                Some(Err(error)) => {
                    let is_fatal = matches!(error, KafkaError::MessageConsumptionFatal(_));
                    let error = client::error(format!("cannot read {}", self.place(position)), &error);
                    if is_fatal || !client::may_pass(&error) {
                        return Err(error);
                    }
                    tracing::debug!(target: "tereza::kafka", %error, "reading goes on");
                }
            }
        }
        let decode =
            |(offset, bytes): (i64, Vec<u8>)| Entry::decode(&bytes).map_err(|error| error.context(self.place(offset)));
        Ok(Tail::Read(newest.map(decode).transpose()?))
    }

    fn is_own(&self, offset: i64, value: &[u8]) -> Result<bool> {
        let Until::Start(nonce) = self.until else { return Ok(false) };
        let entry = Entry::decode(value).map_err(|error| error.context(self.place(offset)))?;
        Ok(matches!(&entry, Entry::Start(start) if start.nonce == nonce))
    }

    /// Where the consumer is, past what no reader is given: markers, and messages of aborted transactions.
    fn position(&self) -> i64 {
        let found = self.consumer.position().ok();
        match found.and_then(|list| Some(list.find_partition(self.topic, self.partition)?.offset())) {
            Some(Offset::Offset(offset)) => offset,
            _ => 0,
        }
    }

    fn place(&self, offset: i64) -> String {
        format!("{} [{}] at offset {offset}", self.topic, self.partition)
    }
}

//! All that a task reads: partitions of Kafka, generated events, files and rows that are kept, as rows of tables.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use bytes::Bytes;
use tereza_runtime::{Error, Result};

use super::files::{Files, Read};
use super::passed::{Edges, Passed};
use super::{Made, Once, Reader};
use crate::format::Message;
use crate::host::Host;
use crate::job::stats::Stats;
use crate::kafka::{BATCH_WAIT, Decode, Feed, Row};
use crate::log::Output;
use crate::operator::batch::Batch;
use crate::pipeline::{Polled, Source};
use crate::record::{EpochRecord, Positions};
use crate::waits::BROKERS;

/// How long a task waits for events whose time has not come, or for nothing.
const WAIT: Duration = Duration::from_millis(20);

/// A table that is read: who makes its rows, and what they are.
pub(crate) struct Table {
    /// None where rows need no reading.
    pub(crate) reader: Option<Reader>,
    pub(crate) from: From,
}

/// Where the rows of a table are from.
pub(crate) enum From {
    /// These topics.
    Topics(Vec<String>),
    /// Events, as if they were the rows of partition 0 of a topic of this name.
    Events { name: String, events: Made },
    /// Records of files, as if they were the rows of partition 0 of a topic of this name.
    Files { name: String, files: Box<Files> },
    /// Rows of a query of tables, as if they were those of partition 0 of a topic of this name.
    Once { name: String, rows: Box<Once> },
}

impl Table {
    /// All columns of records.
    fn compute(&self, records: RecordBatch) -> Result<RecordBatch> {
        match &self.reader {
            Some(reader) => reader.compute(records),
            None => Ok(records),
        }
    }
}

/// What came at once.
#[derive(Default)]
pub(crate) struct Arrivals {
    /// Partitions of tables that are read from now on.
    pub(crate) partitions: Vec<(usize, Arc<str>, i32)>,
    /// In the order in which they came.
    pub(crate) rows: Vec<Arrived>,
    /// Messages of edges, in the order in which they came.
    pub(crate) passed: Vec<Passed>,
    /// Messages that could not be read, for the topics that take them.
    pub(crate) dead: Vec<Output>,
    /// Tables that are read to their ends.
    pub(crate) ended: Vec<usize>,
}

/// Rows of one partition.
pub(crate) struct Arrived {
    pub(crate) table: usize,
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
    pub(crate) batch: Batch,
}

/// Reads the tables of a task.
pub(crate) struct Inputs {
    tables: Vec<Table>,
    /// Topic → table.
    of_topic: BTreeMap<String, usize>,
    feed: Option<Feed<Collect>>,
    generators: Vec<Generator>,
    /// The tables whose files or kept rows this task reads.
    files: Vec<usize>,
    /// Whose turn it is: after all generators come files, then the feed.
    turn: usize,
    /// Partitions that nobody was told of.
    new: Vec<(usize, Arc<str>, i32)>,
    known: Positions,
    /// The offset before which each partition ends, of topics that end.
    bounds: Positions,
    /// Tables on Kafka or of files that are read to their ends, beside others that go on.
    ended: BTreeSet<usize>,
    /// What comes from tasks.
    edges: Option<Edges>,
    /// It was told which partitions of tables there are, where that matters before their rows.
    has_begun: bool,
    /// Set when the tables are to end where they are.
    drain: Arc<AtomicBool>,
    is_drained: bool,
    host: Arc<dyn Host>,
    stats: Arc<Stats>,
}

/// Events that are made from a number on.
struct Generator {
    table: usize,
    topic: Arc<str>,
    next: u64,
    /// The task that has no events.
    is_ended: bool,
}

impl Inputs {
    /// Tables, and what reads those on Kafka. Once `drain` is set, all of them end where they are.
    pub(crate) fn new(
        tables: Vec<Table>,
        feed: Option<Feed<Collect>>,
        drain: Arc<AtomicBool>,
        host: Arc<dyn Host>,
        stats: Arc<Stats>,
    ) -> Result<Self> {
        let mut of_topic = BTreeMap::new();
        for (at, table) in tables.iter().enumerate() {
            let names = match &table.from {
                From::Topics(topics) => topics.clone(),
                From::Events { name, .. } | From::Files { name, .. } | From::Once { name, .. } => vec![name.clone()],
            };
            for name in names {
                if of_topic.insert(name.clone(), at).is_some() {
                    return Err(Error::unsupported(format!("two tables of the topic '{name}' in one job")));
                }
            }
        }
        let (generators, files, turn, new, known) = (Vec::new(), Vec::new(), 0, Vec::new(), Positions::new());
        let bounds = feed.as_ref().map(|feed| feed.bounds().clone()).unwrap_or_default();
        let (ended, edges, has_begun, is_drained) = (BTreeSet::new(), None, false, false);
        Ok(Self {
            tables,
            of_topic,
            feed,
            generators,
            files,
            turn,
            new,
            known,
            bounds,
            ended,
            edges,
            has_begun,
            drain,
            is_drained,
            host,
            stats,
        })
    }

    /// Reads what comes through edges too.
    #[must_use]
    pub(crate) fn with_edges(mut self, edges: Option<Edges>) -> Self {
        self.edges = edges;
        self
    }

    /// Before all else the tasks that exchange rows are told of the partitions of tables, and of tables that this one has no partition of
    /// and gets none: their watermarks are waited for.
    fn beginning(&mut self) -> Option<Polled<Arrivals>> {
        if self.edges.is_none() || std::mem::replace(&mut self.has_begun, true) {
            return None;
        }
        let mut ended = self.newly_ended();
        for (at, table) in self.tables.iter().enumerate() {
            let has_none = match &table.from {
                // One without ends gets new partitions, and is read by all tasks.
                From::Topics(_) => self.feed.is_none(),
                From::Events { .. } => self.generators.iter().any(|of| of.table == at && of.is_ended),
                From::Files { .. } | From::Once { .. } => !self.files.contains(&at),
            };
            if has_none && self.ended.insert(at) {
                ended.push(at);
            }
        }
        let partitions = std::mem::take(&mut self.new);
        if partitions.is_empty() && ended.is_empty() {
            return None;
        }
        let input = Arrivals { partitions, ended, ..Arrivals::default() };
        Some(Polled::Rows { input, positions: Positions::new() })
    }

    /// Whether tables may have rows, now or later.
    fn has_tables(&self) -> bool {
        let has_made = self.generators.iter().any(|generator| !generator.is_ended);
        let has_files = self.files.iter().any(|table| !self.ended.contains(table));
        !self.is_drained && (self.feed.is_some() || has_made || has_files)
    }

    /// Notes partitions that were not known.
    fn announce(&mut self, positions: &Positions) {
        for (topic, partitions) in positions {
            let Some(table) = self.of_topic.get(topic) else { continue };
            let known = self.known.entry(topic.clone()).or_default();
            for (partition, position) in partitions {
                if known.insert(*partition, *position).is_none() {
                    self.new.push((*table, topic.as_str().into(), *partition));
                }
            }
        }
    }

    /// Where the partitions of Kafka are read, also where only what is no row was passed.
    pub(crate) fn positions(&self) -> Positions {
        self.feed.as_ref().map(Feed::positions).unwrap_or_default()
    }

    /// Tables on Kafka that have come to their ends since the last call.
    fn newly_ended(&mut self) -> Vec<usize> {
        let ended = self.tables.iter().enumerate().filter(|(at, table)| match &table.from {
            From::Topics(topics) => !self.ended.contains(at) && are_read(topics, &self.known, &self.bounds),
            From::Events { .. } | From::Files { .. } | From::Once { .. } => false,
        });
        let ended: Vec<usize> = ended.map(|(at, _)| at).collect();
        self.ended.extend(&ended);
        ended
    }

    /// Polls Kafka; `None` if it has nothing now.
    async fn messages(&mut self) -> Result<Option<(Arrivals, Positions)>> {
        let Some(feed) = &mut self.feed else { return Ok(None) };
        let (messages, positions) = match feed.poll().await? {
            Polled::Rows { input, positions } => (input, positions),
            Polled::Idle => {
                self.stats.ends(feed.ends());
                match feed.is_alone() {
                    Some(brokers) => self.stats.waits().begin(BROKERS, format_args!("no broker of {brokers} answers")),
                    None => self.stats.waits().end(BROKERS),
                }
                return Ok(None);
            }
            Polled::End { positions } => {
                self.feed = None;
                let ended = self.tables.iter().enumerate();
                let ended = ended.filter(|(_, table)| matches!(table.from, From::Topics(_))).map(|(at, _)| at);
                return Ok(Some((Arrivals { ended: ended.collect(), ..Arrivals::default() }, positions)));
            }
        };
        self.stats.waits().end(BROKERS);
        self.announce(&positions);
        let by_partition = by_partition(messages);
        let (mut rows, mut dead) = (Vec::new(), Vec::new());
        for ((topic, partition), messages) in by_partition {
            let Some(table) = self.of_topic.get(&*topic).copied() else { continue };
            let reader = self.tables[table].reader.as_mut();
            let reader = reader.ok_or_else(|| Error::internal(format!("nobody reads the messages of '{topic}'")))?;
            let batch = reader.decode(&messages, &mut dead).await?;
            self.stats.read(batch.len() as u64);
            rows.push(Arrived { table, topic, partition, batch });
        }
        let ended = self.newly_ended();
        Ok(Some((Arrivals { rows, dead, ended, ..Arrivals::default() }, positions)))
    }

    /// Reads the next records of files, or rows that are kept; `None` if there are none now.
    async fn records(&mut self, at: usize) -> Result<Option<(Arrivals, Positions)>> {
        let table = self.files[at];
        if self.ended.contains(&table) {
            return Ok(None);
        }
        let (name, read) = match &mut self.tables[table].from {
            From::Files { name, files } => (name.clone(), files.poll(self.host.now_ms()).await?),
            From::Once { name, rows } => (name.clone(), rows.poll().await?),
            From::Topics(_) | From::Events { .. } => return Ok(None),
        };
        let (arrivals, position) = match read {
            Read::Idle => return Ok(None),
            Read::End { position } => {
                self.ended.insert(table);
                (Arrivals { ended: vec![table], ..Arrivals::default() }, position)
            }
            Read::Rows { records, position } => {
                self.stats.read(records.num_rows() as u64);
                let batch = Batch::inserts(self.tables[table].compute(records)?);
                let rows = vec![Arrived { table, topic: name.as_str().into(), partition: 0, batch }];
                (Arrivals { rows, ..Arrivals::default() }, position)
            }
        };
        Ok(Some((arrivals, Positions::from([(name, BTreeMap::from([(0, position)]))]))))
    }

    /// Makes the next events of a table; `None` if their time has not come.
    fn events(&mut self, at: usize) -> Result<Option<(Arrivals, Positions)>> {
        let Generator { table, topic, next, is_ended } = &mut self.generators[at];
        let From::Events { name, events } = &self.tables[*table].from else { return Ok(None) };
        if *is_ended {
            return Ok(None);
        }
        let numbers = events.due(*next, self.host.now_ms());
        let position = |next: u64| {
            let offset = i64::try_from(next).unwrap_or(i64::MAX);
            Positions::from([(name.clone(), BTreeMap::from([(0, offset)]))])
        };
        if numbers.is_empty() {
            if numbers.start < events.numbers().end || events.keeps_alive() {
                return Ok(None);
            }
            *is_ended = true;
            return Ok(Some((Arrivals { ended: vec![*table], ..Arrivals::default() }, position(*next))));
        }
        *next = numbers.end;
        let made = events.batch(numbers)?;
        self.stats.read(made.num_rows() as u64);
        let batch = Batch::inserts(self.tables[*table].compute(made)?);
        let rows = vec![Arrived { table: *table, topic: Arc::clone(topic), partition: 0, batch }];
        Ok(Some((Arrivals { rows, ..Arrivals::default() }, position(*next))))
    }
}

/// The messages of each partition. They come in runs of one.
fn by_partition(messages: Vec<Message>) -> BTreeMap<(Arc<str>, i32), Vec<Message>> {
    let mut found = BTreeMap::new();
    let mut messages = messages.into_iter().peekable();
    while let Some(first) = messages.next() {
        let (topic, partition) = (Arc::clone(&first.topic), first.partition);
        let of: &mut Vec<Message> = found.entry((Arc::clone(&topic), partition)).or_default();
        of.push(first);
        while let Some(next) = messages.next_if(|next| next.partition == partition && next.topic == topic) {
            of.push(next);
        }
    }
    found
}

/// Whether topics have ends, and all their partitions are there.
fn are_read(topics: &[String], known: &Positions, bounds: &Positions) -> bool {
    let is_read = |topic: &String| {
        known.get(topic).zip(bounds.get(topic)).is_some_and(|(known, bounds)| {
            bounds.iter().all(|(partition, end)| known.get(partition).is_some_and(|next| next >= end))
        })
    };
    !topics.is_empty() && topics.iter().all(is_read)
}

#[async_trait]
impl Source for Inputs {
    type Input = Arrivals;

    async fn assign(&mut self, positions: &Positions) -> Result<()> {
        let (mut on_kafka, mut of_edges) = (Positions::new(), Positions::new());
        for (topic, partitions) in positions {
            if self.edges.as_ref().is_some_and(|edges| edges.has(topic)) {
                of_edges.insert(topic.clone(), partitions.clone());
                continue;
            }
            let table = self.of_topic.get(topic).copied();
            let table = table.ok_or_else(|| Error::internal(format!("no table of the job reads '{topic}'")))?;
            match &mut self.tables[table].from {
                From::Files { files, .. } => {
                    if let Some(position) = partitions.get(&0) {
                        files.begin(*position);
                        self.files.push(table);
                    }
                }
                From::Once { rows, .. } => {
                    if let Some(position) = partitions.get(&0) {
                        rows.begin(*position);
                        self.files.push(table);
                    }
                }
                From::Topics(_) => {
                    on_kafka.insert(topic.clone(), partitions.clone());
                }
                From::Events { name, .. } => {
                    let next = partitions.get(&0).copied().and_then(|next| u64::try_from(next).ok());
                    self.generators.push(Generator {
                        table,
                        topic: name.as_str().into(),
                        next: next.unwrap_or_default(),
                        is_ended: next.is_none(),
                    });
                }
            }
        }
        if let Some(feed) = &mut self.feed {
            feed.assign(&on_kafka).await?;
        }
        if let Some(edges) = &mut self.edges {
            edges.assign(&of_edges).await?;
        }
        self.announce(positions);
        Ok(())
    }

    async fn poll(&mut self) -> Result<Polled<Arrivals>> {
        if !self.is_drained && self.drain.load(Ordering::Relaxed) {
            self.is_drained = true;
            let (partitions, ended) = (std::mem::take(&mut self.new), (0..self.tables.len()).collect());
            let input = Arrivals { partitions, ended, ..Arrivals::default() };
            return Ok(Polled::Rows { input, positions: Positions::new() });
        }
        if let Some(beginning) = self.beginning() {
            return Ok(beginning);
        }
        let has_tables = self.has_tables();
        if let Some(edges) = &mut self.edges {
            // What tasks have sent comes before new rows: so no more of it waits in Kafka than the tasks can take.
            let wait = if has_tables { Duration::ZERO } else { BATCH_WAIT };
            if let Some((passed, positions)) = edges.poll(wait).await? {
                return Ok(Polled::Rows { input: Arrivals { passed, ..Arrivals::default() }, positions });
            }
        }
        if !has_tables {
            return Ok(match self.edges.as_ref().is_none_or(Edges::are_ended) {
                true => Polled::End { positions: Positions::new() },
                false => Polled::Idle,
            });
        }
        let made = self.generators.len();
        let turns = made + self.files.len() + 1;
        for _ in 0..turns {
            let turn = self.turn;
            self.turn = (turn + 1) % turns;
            let found = match turn {
                turn if turn < made => self.events(turn)?,
                turn if turn < turns - 1 => self.records(turn - made).await?,
                _ => self.messages().await?,
            };
            if let Some((mut input, positions)) = found {
                // Events may be there always, and so no time to be told to stop.
                if turn < turns - 1 {
                    tokio::task::yield_now().await;
                }
                input.partitions = std::mem::take(&mut self.new);
                return Ok(Polled::Rows { input, positions });
            }
        }
        if self.feed.is_none() {
            self.host.pause(WAIT).await;
        }
        Ok(Polled::Idle)
    }

    fn committed(&mut self, record: &EpochRecord) {
        self.stats.committed(record);
        if let Some(feed) = &mut self.feed {
            self.stats.ends(feed.ends());
            feed.committed(record);
        }
        if let Some(edges) = &mut self.edges {
            edges.committed(record);
        }
    }
}

/// Messages of a batch, whose bytes are in one buffer.
pub(crate) struct Collect {
    /// Whether headers are wanted.
    headers: bool,
    bytes: Vec<u8>,
    rows: Vec<Collected>,
    topic: Option<Arc<str>>,
}

struct Collected {
    topic: Arc<str>,
    partition: i32,
    offset: i64,
    timestamp_ms: Option<i64>,
    key: Option<Range<usize>>,
    value: Option<Range<usize>>,
    headers: Vec<(String, Option<Bytes>)>,
}

impl Collect {
    pub(crate) fn new(headers: bool) -> Self {
        Self { headers, bytes: Vec::new(), rows: Vec::new(), topic: None }
    }

    fn put(&mut self, bytes: Option<&[u8]>) -> Option<Range<usize>> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes?);
        Some(start..self.bytes.len())
    }
}

impl Decode for Collect {
    type Input = Vec<Message>;

    fn row(&mut self, row: &Row<'_>) -> Result<()> {
        let topic = match &self.topic {
            Some(topic) if **topic == *row.topic => Arc::clone(topic),
            _ => self.topic.insert(row.topic.into()).clone(),
        };
        let (key, value) = (self.put(row.key), self.put(row.value));
        let headers = match self.headers {
            true => row.headers().map(|(name, value)| (name.to_owned(), value.map(Bytes::copy_from_slice))).collect(),
            false => Vec::new(),
        };
        let (partition, offset, timestamp_ms) = (row.partition, row.offset, row.timestamp);
        self.rows.push(Collected { topic, partition, offset, timestamp_ms, key, value, headers });
        Ok(())
    }

    fn take(&mut self) -> Vec<Message> {
        // Batches are mostly alike.
        let next = Vec::with_capacity(self.bytes.len());
        let bytes = Bytes::from(std::mem::replace(&mut self.bytes, next));
        let rows = std::mem::take(&mut self.rows).into_iter();
        rows.map(|row| Message {
            topic: row.topic,
            partition: row.partition,
            offset: row.offset,
            timestamp_ms: row.timestamp_ms,
            key: row.key.map(|range| bytes.slice(range)),
            value: row.value.map(|range| bytes.slice(range)),
            headers: row.headers,
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_ends_when_all_its_partitions_do() {
        let at = |topic: &str, offsets: &[i64]| -> (String, BTreeMap<i32, i64>) {
            (topic.to_owned(), (0..).zip(offsets.iter().copied()).collect())
        };
        let bounds = Positions::from([at("a", &[5, 0]), at("b", &[1])]);
        let is_end = |topics: &[&str], known: Positions| {
            let topics: Vec<String> = topics.iter().map(|topic| (*topic).to_owned()).collect();
            are_read(&topics, &known, &bounds)
        };
        assert!(is_end(&["a"], Positions::from([at("a", &[5, 0])])));
        assert!(!is_end(&["a"], Positions::from([at("a", &[4, 0])])));
        assert!(!is_end(&["a"], Positions::from([at("a", &[5])])), "partition 1 is not known yet");
        assert!(!is_end(&["a", "b"], Positions::from([at("a", &[5, 0]), at("b", &[0])])));
        assert!(!is_end(&["c"], Positions::from([at("c", &[9])])), "a topic without an end");
    }
}

//! A source of a task: partitions of topics, with their rows as a pipeline wants them.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use tereza_runtime::{Error, Result};

use super::client::Connection;
use super::source::{Assignment, Limits, Row, Source};
use crate::pipeline::{self, Polled};
use crate::record::{EpochRecord, Positions};

/// Rows of a micro-batch.
const BATCH_ROWS_MAX: usize = 64 << 10;
/// How long a micro-batch waits for its rows.
pub(crate) const BATCH_WAIT: Duration = Duration::from_millis(50);

/// Collects rows for a pipeline. It holds no rows between two batches.
pub trait Decode: Send + 'static {
    /// A micro-batch.
    type Input: Send + 'static;

    /// Takes a row.
    ///
    /// # Errors
    /// The attempt ends with it.
    fn row(&mut self, row: &Row<'_>) -> Result<()>;

    /// The rows since the last call.
    fn take(&mut self) -> Self::Input;
}

/// What a task reads, of its plan and its table's options.
#[derive(Debug, Clone)]
pub struct FeedSettings {
    pub connection: Connection,
    /// Consumer group that is told how far the job is.
    pub group: String,
    /// Topic → id.
    pub topics: BTreeMap<String, String>,
    /// The offset before which each partition ends; empty for a job without an end.
    pub ends: Positions,
    pub limits: Limits,
}

/// Reads partitions of Kafka for a task.
pub struct Feed<D> {
    settings: FeedSettings,
    /// `None` while a call has it, and after one that failed.
    open: Option<(Source, D)>,
    decode: Option<D>,
}

impl<D: Decode> Feed<D> {
    /// A feed that reads nothing before it is told where from.
    pub fn new(settings: FeedSettings, decode: D) -> Self {
        Self { settings, open: None, decode: Some(decode) }
    }

    /// The offset before which each partition ends, of topics that end.
    pub fn bounds(&self) -> &Positions {
        &self.settings.ends
    }

    /// As [`Source::positions`]; nothing while it does not read.
    pub fn positions(&self) -> Positions {
        self.open.as_ref().map(|(source, _)| source.positions()).unwrap_or_default()
    }

    /// The addresses of the brokers, if none of them answers.
    pub fn is_alone(&self) -> Option<&str> {
        let is_alone = self.open.as_ref().is_some_and(|(source, _)| source.is_alone());
        is_alone.then(|| self.settings.connection.bootstrap())
    }

    /// As [`Source::ends`]; nothing while it does not read.
    pub fn ends(&self) -> Positions {
        self.open.as_ref().map(|(source, _)| source.ends()).unwrap_or_default()
    }
}

#[async_trait]
impl<D: Decode> pipeline::Source for Feed<D> {
    type Input = D::Input;

    async fn assign(&mut self, positions: &Positions) -> Result<()> {
        let FeedSettings { connection, group, topics, ends, limits } = self.settings.clone();
        let one = |topic: &String, partition: i32, position: i64| Assignment {
            topic: topic.clone(),
            partition,
            position,
            end: ends.get(topic).and_then(|of| of.get(&partition)).copied(),
        };
        let of = |(topic, partitions): (&String, &BTreeMap<i32, i64>)| {
            partitions.iter().map(|(partition, position)| one(topic, *partition, *position)).collect::<Vec<_>>()
        };
        let assignments = positions.iter().flat_map(of).collect();
        let source = blocking(move || Source::open(&connection, &group, assignments, topics, limits)).await??;
        let decode = self.decode.take().ok_or_else(|| Error::internal("a source of Kafka is assigned twice"))?;
        self.open = Some((source, decode));
        Ok(())
    }

    async fn poll(&mut self) -> Result<Polled<D::Input>> {
        self.poll_within(BATCH_WAIT).await
    }

    fn committed(&mut self, record: &EpochRecord) {
        if let Some((source, _)) = &self.open {
            let mut positions = record.positions.clone();
            positions.retain(|topic, _| self.settings.topics.contains_key(topic));
            source.tell_group(&positions);
        }
    }
}

impl<D: Decode> Feed<D> {
    /// The next micro-batch, if any rows come within this time.
    pub async fn poll_within(&mut self, wait: Duration) -> Result<Polled<D::Input>> {
        let (mut source, mut decode) =
            self.open.take().ok_or_else(|| Error::internal("a source of Kafka is not assigned"))?;
        let (source, mut decode, batch) = blocking(move || {
            let mut failed = None;
            let batch = source.poll(BATCH_ROWS_MAX, wait, |row| {
                if failed.is_none() {
                    failed = decode.row(&row).err().map(|error| {
                        error.context(format_args!("row {} of {} [{}]", row.offset, row.topic, row.partition))
                    });
                }
            });
            (source, decode, failed.map_or(batch, Err))
        })
        .await?;
        let batch = batch?;
        let positions = source.positions();
        let polled = match (batch.rows, batch.is_finished) {
            (0, true) => Polled::End { positions },
            (0, false) => Polled::Idle,
            _ => Polled::Rows { input: decode.take(), positions },
        };
        self.open = Some((source, decode));
        Ok(polled)
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::internal(format!("a call of Kafka panicked: {error}")))
}

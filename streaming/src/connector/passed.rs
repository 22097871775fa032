//! What a task is given by the tasks of its job: messages of the partitions of edges that it owns.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use tereza_runtime::{Error, Result};

use super::Collect;
use crate::edge::{self, Broom, Head};
use crate::kafka::Feed;
use crate::operator::batch::Batch;
use crate::pipeline::{Polled, Source};
use crate::record::{EpochRecord, Positions};

/// A message of an edge.
pub(crate) struct Passed {
    /// The edge's number.
    pub(crate) edge: usize,
    pub(crate) partition: i32,
    pub(crate) rows: Option<Batch>,
    pub(crate) head: Head,
}

/// Reads the edges of a task.
pub(crate) struct Edges {
    feed: Feed<Collect>,
    /// Topic → the edge's number, and the columns of its rows.
    known: BTreeMap<String, (usize, SchemaRef)>,
    /// Set by who takes the messages: no more are to come.
    ended: Arc<AtomicBool>,
    broom: Broom,
}

impl Edges {
    pub(crate) fn new(
        feed: Feed<Collect>,
        known: BTreeMap<String, (usize, SchemaRef)>,
        ended: Arc<AtomicBool>,
        broom: Broom,
    ) -> Self {
        Self { feed, known, ended, broom }
    }

    /// Whether a topic is one of them.
    pub(super) fn has(&self, topic: &str) -> bool {
        self.known.contains_key(topic)
    }

    /// Whether no more rows come.
    pub(super) fn are_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    pub(super) async fn assign(&mut self, positions: &Positions) -> Result<()> {
        self.feed.assign(positions).await
    }

    /// Messages that come within this time, with the positions after them.
    ///
    /// # Errors
    /// `InvalidInput` naming a message that is none of the edge's; what the source says.
    pub(super) async fn poll(&mut self, wait: Duration) -> Result<Option<(Vec<Passed>, Positions)>> {
        let (messages, positions) = match self.feed.poll_within(wait).await? {
            Polled::Rows { input, positions } => (input, positions),
            Polled::Idle | Polled::End { .. } => return Ok(None),
        };
        let mut passed = Vec::with_capacity(messages.len());
        for message in messages {
            let known = self.known.get(&*message.topic);
            let (edge, schema) =
                known.ok_or_else(|| Error::internal(format!("{} is no edge of the job", message.topic)))?;
            let decoded = edge::decode(&message.headers, message.value.as_ref(), schema);
            let (head, rows) = decoded.map_err(|error| {
                error.context(format_args!("{} [{}] at offset {}", message.topic, message.partition, message.offset))
            })?;
            passed.push(Passed { edge: *edge, partition: message.partition, rows, head });
        }
        Ok(Some((passed, positions)))
    }

    pub(super) fn committed(&mut self, record: &EpochRecord) {
        let own = record.positions.iter().filter(|(topic, _)| self.known.contains_key(*topic));
        self.broom.sweep(&own.map(|(topic, of)| (topic.clone(), of.clone())).collect());
    }
}

//! Kafka: options of tables, readers of topics, and producers whose transactions are the commits of a job.
//!
//! What is here blocks: librdkafka has threads of its own, and waits of a caller are told in milliseconds. Asynchronous callers
//! put it on a thread for blocking work, as [`crate::log::kafka`] does. Files in reading order: `client.rs` (configuration, errors),
//! `options.rs`, `cluster.rs` (ids, topics, offsets), `start.rs` (where a job begins and ends), `source.rs`, `feed.rs`, `producer.rs`, `reader.rs`.

mod client;
mod cluster;
mod feed;
mod options;
mod producer;
mod reader;
mod source;
mod start;
mod topic_ids;

pub use client::Connection;
pub use cluster::{Cluster, TopicSettings};
pub(crate) use feed::BATCH_WAIT;
pub use feed::{Decode, Feed, FeedSettings};
pub(crate) use options::duration;
pub use options::{BoundedMode, Format, KafkaOptions, KeyFormat, OffsetReset, Partitioner, StartupMode, Topics};
pub use producer::{Message, TRANSACTION_TIMEOUT, TransactionalProducer};
pub use reader::{Tail, Until, read_tail};
pub use source::{Assignment, Batch, Limits, Row, Source};
pub use start::{Begin, resolve};

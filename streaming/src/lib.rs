//! Stream jobs: Kafka in, Kafka or tables out, exactly once, with the log as the engine.

mod apply;
mod connector;
pub mod coordinator;
mod edge;
pub mod format;
pub mod host;
mod job;
pub mod kafka;
pub mod log;
pub mod nexmark;
pub mod objects;
pub mod operator;
pub mod pipeline;
pub mod plan;
pub mod record;
mod rules;
pub mod shares;
#[cfg(test)]
mod sim;
pub mod table;
pub mod task;
mod waits;

pub use apply::Tables;
pub use job::{StreamRunner, StreamSettings};

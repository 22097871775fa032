//! Stream jobs: Kafka in, Kafka or tables out, exactly once, with the log as the engine.

pub mod host;
pub mod log;
pub mod objects;
pub mod record;
mod rules;

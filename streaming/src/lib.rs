//! Stream jobs: Kafka in, Kafka or tables out, exactly once, with the log as the engine.

pub mod log;
pub mod record;

//! Stream jobs: Kafka in, Kafka or tables out, exactly once, with the log as the engine.

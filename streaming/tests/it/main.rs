//! Streaming against a real broker of Kafka, and against whoever reads what it wrote.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed, which is what it is there for")]

#[path = "../../../tests/support/kafka.rs"]
#[expect(dead_code, reason = "others start a broker and use more of it")]
mod kafka;
mod ledger;
mod log;
mod proxy;
mod secure;
mod source;
mod speed;
mod support;

//! The one integration-test binary: each module is a part of what Tereza promises.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed, which is what it is there for")]

mod cli;
mod clients;
mod cluster;
mod dead_letters;
mod faults;
mod figures;
mod flight;
mod folder_sinks;
mod jobs;
#[path = "support/kafka.rs"]
#[expect(dead_code, reason = "others start a broker and use more of it")]
mod kafka;
mod lake;
mod lookups;
mod metastore;
mod robust;
mod savepoints;
mod scale;
mod shared;
mod slt;
mod sources;
mod spread;
mod streams;
mod support;
mod table_sinks;
mod tidy;
mod tpc;
mod troubles;

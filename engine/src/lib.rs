//! The one room that builds DataFusion sessions: names, files, functions and statements become plans here, and plans
//! become batches.
//!
//! It refuses to know wire protocols (the gateway's) and Ballista (the scheduler's). Everything that runs a query, in this
//! process or on an executor, gets its session, object stores and functions from here, so that all of them agree.
//!
//! Files in reading order, along the life of a query: [`query`] (the contract), `local` (the service in this process),
//! `session` (one user's DataFusion session), `statement` (text to plan; DDL, SHOW, ANALYZE), `catalogs` (names to tables),
//! `table` (partitions and files of a table), `join_order` (which of a
//! plan's joins come first), `write` (rows to files, and the commit), `stores` (URLs to object stores),
//! `catalog_files` (what a metastore does to files), `memory_pool` (who may hold how much) and `spill` (what does not fit in memory), `formats` and `types` (Hive's words in Arrow's), `generated` (`tpch` and `tpcds`),
//! `flink` (Flink's SQL: its statements, and plans of stream jobs), `streams` (who runs those), `interrupt` (joins that can be cancelled), `syntax` (what texts of every dialect have in common), `jobs` (texts that outlive their client), `system` (what runs now).

pub mod query;

mod catalog_files;
mod catalogs;
pub mod cluster;
mod codec;
mod dynamic_filter;
mod engine;
mod error;
mod filter_order;
pub mod flink;
mod formats;
mod generated;
mod interrupt;
pub mod jobs;
mod join_order;
mod local;
mod memory_pool;
mod selectivity;
mod session;
mod shared_plan;
mod spill;
mod spillable_joins;
mod stages;
mod statement;
mod stores;
pub mod streams;
mod syntax;
mod system;
mod table;
#[cfg(test)]
mod test_session;
mod types;
mod write;

pub use catalog_files::{Catalog, CatalogFiles, is_readable};
pub use engine::Engine;
pub use interrupt::interruptible;
pub use local::LocalQueryService;
pub use query::QueryService;
pub use stages::Stages;
pub use write::{
    CompleteFile, Folder, LineEncoder, LineFormat, PartitionCommit, StagingFolder, StagingTable, StagingWriter,
    TableChange, TableState, fail_point,
};

//! What all sessions of one process share: the catalog, object stores, the memory pool and its spill files, caches, and
//! the record of queries.

use std::path::PathBuf;
use std::sync::Arc;

use datafusion::execution::runtime_env::RuntimeEnv;
use tereza_catalog::Store;
use tereza_runtime::clock::Clock;
use url::Url;

use crate::stores::ObjectStores;
use crate::system::QueryLog;

/// Settings of the engine, in the engine's own words.
#[derive(Debug, Clone)]
pub struct Options {
    /// URL of the folder in which databases get theirs (`file:///…/warehouse`, `s3://bucket/prefix`).
    pub warehouse: Url,
    /// Bytes that all operators of all queries may hold together.
    pub memory_limit_bytes: usize,
    /// Folder of spill files.
    pub spill_dir: PathBuf,
    /// Bytes that spill files may take.
    pub spill_limit_bytes: u64,
    /// Parallel tasks of one query.
    pub target_partitions: usize,
    /// Rows of a batch.
    pub batch_size_rows: usize,
    /// Sessions open at once.
    pub sessions_max: usize,
    /// A session without a statement for this long is closed.
    pub session_idle_ms: u64,
    /// Statements running at once; more wait.
    pub queries_max: usize,
    /// Finished statements kept in `system.runtime.queries`.
    pub query_history_max: usize,
    /// Bytes of Parquet footers kept.
    pub footer_cache_bytes: usize,
    /// Object stores reached by URL.
    pub s3: crate::stores::S3Options,
}

/// What all sessions of one process share.
#[derive(Debug)]
pub struct Engine {
    pub(crate) options: Options,
    pub(crate) catalog: Arc<dyn Store>,
    pub(crate) stores: Arc<ObjectStores>,
    pub(crate) runtime: Arc<RuntimeEnv>,
    pub(crate) queries: Arc<QueryLog>,
    pub(crate) clock: Clock,
    /// Who writes, in the catalog's records of writes.
    pub(crate) process_id: String,
}

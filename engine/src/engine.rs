//! What all sessions of one process share: the catalog, object stores, the memory pool and its spill files, caches, and
//! the record of queries.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use datafusion::execution::cache::cache_manager::CacheManagerConfig;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::object_store::ObjectStoreRegistry;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use tereza_catalog::Store;
use tereza_runtime::clock::Clock;
use tereza_runtime::{Error, Result, ids};

use crate::error::{from_datafusion, from_io};
use crate::stores::{ObjectStores, S3Options};
use crate::system::QueryLog;
use crate::write;

/// A refused query names this many of the greatest holders of memory.
const CONSUMERS_NAMED: NonZeroUsize = NonZeroUsize::new(5).expect("5 is not 0");

/// Settings of the engine, in the engine's own words.
#[derive(Debug, Clone)]
pub struct Options {
    /// URL of the folder in which databases get theirs (`file:///…/warehouse`, `s3://bucket/prefix`).
    pub warehouse: String,
    /// Bytes that all operators of all queries may hold together.
    pub memory_limit_bytes: usize,
    /// Folder of spill files; emptied of what a dead process left at the start.
    pub spill_dir: PathBuf,
    /// Bytes that spill files may take together.
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
    /// Bytes of Parquet footers and page indexes kept.
    pub footer_cache_bytes: usize,
    /// Bytes of file statistics kept.
    pub statistics_cache_bytes: usize,
    /// How S3 is reached.
    pub s3: S3Options,
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

impl Engine {
    /// Opens the engine over a catalog, and finishes the writes that a dead process left in it.
    ///
    /// The caller holds the data folder: nobody else writes as long as the engine lives.
    pub async fn open(options: Options, catalog: Arc<dyn Store>, clock: Clock) -> Result<Arc<Self>> {
        let stores = Arc::new(ObjectStores::new(options.s3.clone()));
        let engine = Arc::new(Self {
            runtime: runtime(&options, Arc::clone(&stores))?,
            queries: Arc::new(QueryLog::new(options.query_history_max, clock.clone())),
            process_id: ids::new_id(),
            options,
            catalog,
            stores,
            clock,
        });
        write::recover(&engine).await?;
        Ok(engine)
    }

    /// The record of statements that run and ran.
    pub fn memory_reserved_bytes(&self) -> usize {
        self.runtime.memory_pool.reserved()
    }
}

fn runtime(options: &Options, stores: Arc<ObjectStores>) -> Result<Arc<RuntimeEnv>> {
    if options.memory_limit_bytes == 0 || options.target_partitions == 0 || options.batch_size_rows == 0 {
        return Err(Error::internal("memory limit, target partitions and batch size must be resolved and above 0"));
    }
    std::fs::create_dir_all(&options.spill_dir)
        .map_err(|error| from_io(&error).context(format!("spill folder {}", options.spill_dir.display())))?;
    remove_old_spills(&options.spill_dir)?;
    let pool = TrackConsumersPool::new(FairSpillPool::new(options.memory_limit_bytes), CONSUMERS_NAMED);
    let disk = DiskManagerBuilder::default()
        .with_mode(DiskManagerMode::Directories(vec![options.spill_dir.clone()]))
        .with_max_temp_directory_size(options.spill_limit_bytes);
    // Listings are not cached: a file that another engine adds must be seen by the next query. Footers and statistics
    // are, since they are checked against the file's size and time before they are used.
    let caches = CacheManagerConfig::default()
        .with_list_files_cache(None)
        .with_list_files_cache_limit(0)
        .with_file_statistics_cache_limit(options.statistics_cache_bytes)
        .with_metadata_cache_limit(options.footer_cache_bytes);
    RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(pool))
        .with_disk_manager_builder(disk)
        .with_cache_manager(caches)
        .with_object_store_registry(stores as Arc<dyn ObjectStoreRegistry>)
        .build_arc()
        .map_err(from_datafusion)
}

/// Removes the folders of spill files that a killed process left: DataFusion names each `datafusion-…`.
fn remove_old_spills(folder: &std::path::Path) -> Result<()> {
    let failed = |error: std::io::Error| from_io(&error).context(format!("spill folder {}", folder.display()));
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_name().to_string_lossy().starts_with("datafusion-") {
            std::fs::remove_dir_all(entry.path()).map_err(failed)?;
        }
    }
    Ok(())
}

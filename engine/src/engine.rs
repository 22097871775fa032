//! What all sessions of one process share: the catalog, object stores, the memory pool and its spill files, caches, and
//! the record of queries.

use std::num::NonZeroUsize;
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use datafusion::execution::cache::cache_manager::CacheManagerConfig;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::TrackConsumersPool;
use datafusion::execution::object_store::ObjectStoreRegistry;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use object_store::ObjectStore;
use tereza_catalog::Store;
use tereza_runtime::clock::Clock;
use tereza_runtime::settings::{self, Settings};
use tereza_runtime::{Result, ids, memory};

use crate::catalog_files::Catalog;
use crate::cluster::Cluster;
use crate::error::from_datafusion;
use crate::jobs::Jobs;
use crate::memory_pool::{BudgetPool, Held};
use crate::spill::SpillFolder;
use crate::stores::ObjectStores;
use crate::streams::Streams;
use crate::system::QueryLog;
use crate::write;

/// The longest pause between two looks at what other processes left.
const OTHERS_PAUSE: Duration = Duration::from_secs(30);
/// A refused query names this many of the greatest holders of memory.
const CONSUMERS_NAMED: NonZeroUsize = NonZeroUsize::new(5).expect("5 is not 0");

/// What one spilled run takes while it is merged, whatever its batches hold: DataFusion reads runs in pieces of 128 KiB, of
/// which the file, the decoder, two batches read ahead and the batch being merged each hold one. No pool counts them.
const RUN_BUFFERS_BYTES: usize = 5 * 128 * 1024;
/// The buffers of one merge take at most one part in so many of the budget.
const MERGE_BUFFERS_PART: usize = 32;
/// Runs merged at once, at least: with fewer, merging takes many passes.
const MERGE_RUNS_MIN: usize = 4;

/// What all sessions of one process share.
#[derive(Debug)]
pub struct Engine {
    pub(crate) settings: settings::Engine,
    /// The folder in which databases get theirs: a path or a URL.
    pub(crate) warehouse: String,
    /// What Presto calls the catalog, in views.
    pub(crate) presto_name: String,
    pub(crate) catalog: Arc<dyn Store>,
    pub(crate) stores: Arc<ObjectStores>,
    pub(crate) runtime: Arc<RuntimeEnv>,
    pub(crate) queries: Arc<QueryLog>,
    pub(crate) jobs: Arc<Jobs>,
    pub(crate) clock: Clock,
    /// Who writes, in the catalog's records of writes.
    pub(crate) process_id: String,
    /// Milliseconds since 1970.
    pub(crate) started_ms: i64,
    pub(crate) memory_limit_bytes: usize,
    /// Milliseconds since 1970 when finished commits were last forgotten.
    pub(crate) journal_tidied_ms: AtomicI64,
    pub(crate) roll_forwards: write::Turns,
    cluster: OnceLock<Arc<dyn Cluster>>,
    /// Who runs stream jobs holds the engine, so that it is not held from here.
    streams: OnceLock<Weak<dyn Streams>>,
    /// Where several processes have the catalog.
    lease: Option<write::Lease>,
    _spill_folder: SpillFolder,
}

impl Engine {
    /// Opens the engine and its catalog, and finishes the writes that a dead process left in it.
    ///
    /// The caller holds the data folder, in which an embedded catalog is: nobody else writes there as long as the engine
    /// lives.
    pub async fn open(settings: &Settings) -> Result<Arc<Self>> {
        let clock = Clock::system();
        let catalog = Catalog::open(settings, clock.clone()).await?;
        Self::over(settings, catalog.store, clock).await
    }

    /// The same over a catalog that is open, with its default database in its place.
    pub async fn over(settings: &Settings, catalog: Arc<dyn Store>, clock: Clock) -> Result<Arc<Self>> {
        let stores = Arc::new(ObjectStores::new(settings.s3.clone()));
        let memory_limit_bytes = usize::try_from(memory::budget_bytes(&settings.engine)?).unwrap_or(usize::MAX);
        let process_id = ids::new_id();
        let spill_folder = SpillFolder::open(&settings.engine.spill_dir, &process_id)?;
        let engine = Arc::new(Self {
            runtime: runtime(&settings.engine, &spill_folder, memory_limit_bytes, Arc::clone(&stores))?,
            _spill_folder: spill_folder,
            memory_limit_bytes,
            queries: Arc::new(QueryLog::new(clock.clone(), settings.engine.query_history_max)),
            jobs: Arc::new(Jobs::new(Arc::clone(&catalog), clock.clone(), settings.jobs.clone(), memory_limit_bytes)),
            process_id,
            started_ms: clock.unix_ms(),
            journal_tidied_ms: AtomicI64::new(clock.unix_ms()),
            roll_forwards: write::Turns::default(),
            cluster: OnceLock::new(),
            streams: OnceLock::new(),
            lease: settings.catalog.is_shared().then(|| write::Lease::of(settings.catalog.lease_ms)),
            settings: settings.engine.clone(),
            warehouse: settings.warehouse.url.clone(),
            presto_name: settings.catalog.presto_name.clone(),
            catalog,
            stores,
            clock,
        });
        if let Some(lease) = &engine.lease {
            write::begin_lease(&engine, lease).await?;
        }
        write::recover(&engine).await?;
        Ok(engine)
    }

    /// Lets statements run on the executors of a scheduler too; to be called once, before the first statement.
    pub fn join_cluster(&self, cluster: Arc<dyn Cluster>) {
        if self.cluster.set(cluster).is_err() {
            tracing::error!("the engine has a scheduler already: the second one is not asked");
        }
    }

    /// Lets stream jobs be submitted and streams be read; to be called once. It is held weakly: the caller keeps it, for as
    /// long as stream jobs run here.
    pub fn install_streams(&self, streams: Arc<dyn Streams>) {
        if self.streams.set(Arc::downgrade(&streams)).is_err() {
            tracing::error!("the engine has somebody who runs stream jobs already: the second one is not asked");
        }
    }

    /// Who runs stream jobs, if that is done in this process.
    pub fn streams(&self) -> Option<Arc<dyn Streams>> {
        self.streams.get()?.upgrade()
    }

    /// The jobs of the catalog.
    pub fn jobs(&self) -> Arc<Jobs> {
        Arc::clone(&self.jobs)
    }

    /// The store that a folder or a URL leads to, and the path in it.
    pub fn object_store(&self, location: &str) -> Result<(Arc<dyn ObjectStore>, String)> {
        let place = self.stores.place(location)?;
        Ok((place.store, place.path.to_string()))
    }

    /// The id of this process in the records of the catalog.
    pub fn process_id(&self) -> &str {
        &self.process_id
    }

    /// The scheduler, if there is one.
    pub(crate) fn cluster(&self) -> Option<Arc<dyn Cluster>> {
        self.cluster.get().cloned()
    }

    /// Whether other processes may have the catalog too.
    pub(crate) fn shares_catalog(&self) -> bool {
        self.lease.is_some()
    }

    /// How often to look for what processes left that died.
    pub fn others_pause(&self) -> Duration {
        self.lease.as_ref().map_or(OTHERS_PAUSE, |lease| lease.pause().min(OTHERS_PAUSE))
    }

    /// Waits until what dropped statements left is cleaned up. What is cut off here, the next start cleans up.
    pub async fn close(&self) {
        write::settle().await;
        if let Some(lease) = &self.lease {
            write::end_lease(self, lease).await;
        }
    }

    /// Bytes that operators hold now, for metrics.
    pub fn memory_reserved_bytes(&self) -> usize {
        self.runtime.memory_pool.reserved()
    }
}

pub(crate) fn runtime(
    settings: &settings::Engine,
    spill_folder: &SpillFolder,
    memory_limit_bytes: usize,
    stores: Arc<ObjectStores>,
) -> Result<Arc<RuntimeEnv>> {
    let footer_cache_bytes = usize::try_from(settings.footer_cache_bytes).unwrap_or(usize::MAX);
    let pool = BudgetPool::new(memory_limit_bytes, settings.partitions(), Held::of_process());
    let pool = TrackConsumersPool::new(pool, CONSUMERS_NAMED);
    let merge_runs = memory_limit_bytes / MERGE_BUFFERS_PART / settings.partitions() / RUN_BUFFERS_BYTES;
    let disk = DiskManagerBuilder::default()
        .with_mode(DiskManagerMode::Directories(vec![spill_folder.path().to_path_buf()]))
        .with_max_temp_directory_size(settings.spill_limit_bytes)
        .with_max_spill_merge_fan_in(merge_runs.max(MERGE_RUNS_MIN));
    // Listings are not cached: a file that another engine adds must be seen by the next query. Footers and statistics
    // are, since they are checked against the file's size and time before they are used.
    let caches = CacheManagerConfig::default()
        .with_list_files_cache(None)
        .with_list_files_cache_limit(0)
        .with_file_statistics_cache_limit(footer_cache_bytes)
        .with_metadata_cache_limit(footer_cache_bytes);
    RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(pool))
        .with_disk_manager_builder(disk)
        .with_cache_manager(caches)
        .with_object_store_registry(stores as Arc<dyn ObjectStoreRegistry>)
        .build_arc()
        .map_err(from_datafusion)
}

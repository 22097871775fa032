//! Opening: connections with their settings, then the schema.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::pool::PoolOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use tereza_runtime::clock::Clock;
use tereza_runtime::{Error, Result};

use super::cache::Cache;
use super::{SqliteStore, error, schema};

/// Connections that read at once.
const READERS: u32 = 4;
/// How long a transaction waits for another process's before it gives up.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a caller waits for a connection; longer than [`BUSY_TIMEOUT`], so that the truer error comes first.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);
/// Prepared statements that a connection keeps.
const PREPARED_STATEMENTS: usize = 200;
/// KiB of pages that a connection keeps in memory.
const PAGE_CACHE_KIB: i64 = 8_192;
/// Bytes that the write-ahead log keeps on disk between transactions.
const LOG_BYTES: i64 = 64 << 20;
/// How often a new file is tried again while another process is turning it into a catalog; SQLite does not wait for the
/// change to write-ahead logging by itself.
const OPEN_ATTEMPTS: u32 = 50;
/// Pause between these attempts.
const OPEN_PAUSE: Duration = Duration::from_millis(20);

impl SqliteStore {
    /// Opens the catalog in the file at `path`, or makes it if the file is missing or empty. Its folder must exist.
    ///
    /// # Errors
    /// `InvalidInput` if the file is something else: no SQLite file, another program's, or a metastore of another schema
    /// version than 3.1.0. `Unavailable` if another process keeps it locked.
    pub async fn open(path: impl AsRef<Path>, clock: Clock) -> Result<Self> {
        let path = path.as_ref();
        let file = path.display().to_string();
        // Absolute, because SQLite takes a name that begins with "file:" for a URL.
        let absolute = std::path::absolute(path).map_err(|error| {
            Error::invalid_input(format!("'{file}' is no path of a catalog: {error}")).with_source(error)
        })?;
        let options = options()
            .filename(absolute)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .pragma("journal_size_limit", LOG_BYTES.to_string());
        let mut attempt = 1;
        let writer = loop {
            match pool(1).connect_with(options.clone()).await {
                Err(error) if error::is_busy(&error) && attempt < OPEN_ATTEMPTS => attempt += 1,
                outcome => break outcome.map_err(|error| error::explain(&file, error))?,
            }
            tokio::time::sleep(OPEN_PAUSE).await;
        };
        let readers = pool(READERS).connect_lazy_with(options.clone());
        let cache = Some(Arc::new(Cache::new(pool(1).connect_lazy_with(options))));
        Self { writer, readers, cache, clock, file: file.into() }.with_schema().await
    }

    /// Makes a catalog in memory, which ends with the last clone: for tests and sessions without a data folder.
    pub async fn open_in_memory(clock: Clock) -> Result<Self> {
        let file = ":memory:";
        let writer =
            pool(1).connect_with(options().in_memory(true)).await.map_err(|error| error::explain(file, error))?;
        // A database in memory belongs to its connection, so this one reads too.
        let readers = writer.clone();
        Self { writer, readers, cache: None, clock, file: file.into() }.with_schema().await
    }

    async fn with_schema(self) -> Result<Self> {
        match schema::prepare(&self).await {
            Ok(()) => Ok(self),
            Err(error) => {
                self.close().await;
                Err(error)
            }
        }
    }
}

fn options() -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .statement_cache_capacity(PREPARED_STATEMENTS)
        .pragma("cache_size", format!("-{PAGE_CACHE_KIB}"))
        .disable_statement_logging()
}

/// A pool whose connections live as long as it does.
fn pool(max_connections: u32) -> PoolOptions<sqlx::Sqlite> {
    SqlitePoolOptions::new()
        .max_connections(max_connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
}

//! Opening: connections with their settings, then the schema.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions};
use sqlx::{ConnectOptions, Connection as _, Executor, MySqlPool};
use tereza_runtime::clock::Clock;
use tereza_runtime::{Error, Result};

use super::ids::Ids;
use super::{MySqlStore, error, schema};

/// How a catalog in MySQL is used.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Whether to make a catalog in a database that is empty; else it is refused.
    pub create: bool,
    /// Whether nothing is changed: neither by the store, whose changes all fail, nor by opening it, which else makes
    /// Tereza's own tables. The user needs `SELECT` and `CREATE TEMPORARY TABLES`.
    pub read_only: bool,
    /// Connections that read at once.
    pub readers: u32,
    /// Connections that write at once.
    pub writers: u32,
    /// How long a call waits for a connection, also while the server is gone.
    pub connect_timeout: Duration,
    /// How long one attempt at a transaction may take, whatever the server does.
    pub transaction_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            create: false,
            read_only: false,
            readers: 8,
            writers: 8,
            connect_timeout: Duration::from_secs(10),
            transaction_timeout: Duration::from_secs(300),
        }
    }
}

/// Connections that take ids.
const ID_TAKERS: u32 = 4;
/// Seconds that a statement waits for a row that another transaction has locked.
const LOCK_WAIT_S: u32 = 10;
/// Prepared statements that a connection keeps, here and in the server, which by itself allows some 16,000 in all.
const PREPARED_STATEMENTS: usize = 250;
/// A connection that was not used for so long is asked whether it still stands before it is used.
const UNTESTED: Duration = Duration::from_secs(1);
/// A connection that was not used for so long is closed.
const IDLE: Duration = Duration::from_secs(12);
/// Seconds after which the server closes a connection that asks nothing, and ends its transaction: a process that is stopped,
/// or cut off from the network, may hold rows that others wait for. More than [`IDLE`], and less than they wait in all.
const SILENCE_S: u32 = 15;
/// What makes a connection one that only reads. Tables are read together with their versions, which the database of a metastore
/// lacks: none is as good as any where nothing is changed.
const READ_ONLY: &str = "CREATE TEMPORARY TABLE IF NOT EXISTS TZ_TABLE_VERSIONS \
                         (TBL_ID BIGINT NOT NULL PRIMARY KEY, VERSION BIGINT NOT NULL); \
                         SET SESSION TRANSACTION READ ONLY";
/// A connection is closed at this age, so that the server forgets what it keeps for it.
const LIFETIME: Duration = Duration::from_secs(3_600);

impl MySqlStore {
    /// Opens the catalog at `url`, `mysql://user:password@host:port/database`, which may be the database of a Hive
    /// Metastore 3.1. It gets Tereza's own tables if it has none.
    ///
    /// # Errors `InvalidInput` if the URL is none, or the database holds something else or a metastore of another
    /// schema version. `NotFound` if there is no such database, or it is empty and [`Settings::create`] is not set.
    /// `Denied` if user or password are refused. `Unavailable` if the server does not answer in time.
    pub async fn open(url: &str, settings: Settings, clock: Clock) -> Result<Self> {
        // The driver's own error may show the URL, and with it the password.
        let options = MySqlConnectOptions::from_str(url)
            .ok()
            .filter(|_| ["mysql://", "mariadb://"].iter().any(|scheme| url.starts_with(scheme)))
            .filter(|options| options.get_database().is_some())
            .ok_or_else(|| {
                Error::invalid_input("the URL of a catalog in MySQL is mysql://user:password@host:port/database")
            })?
            .statement_cache_capacity(PREPARED_STATEMENTS)
            .disable_statement_logging();
        let database = options.get_database().unwrap_or_default();
        let name = format!("mysql://{}:{}/{database}", options.get_host(), options.get_port());
        // Readers see one moment. Writers see what is committed when they look, after they waited for a lock.
        let readers = pool(settings.readers, &settings, "REPEATABLE READ", &options);
        let writers = pool(settings.writers, &settings, "READ COMMITTED", &options);
        let ids = Arc::new(Ids::new(pool(ID_TAKERS, &settings, "READ COMMITTED", &options)));
        let store = Self {
            readers,
            writers,
            ids,
            clock,
            connect_timeout: settings.connect_timeout,
            transaction_timeout: settings.transaction_timeout,
            name: name.into(),
        };
        let prepared = match settings.read_only {
            true => schema::look(&store).await,
            false => schema::prepare(&store, settings.create).await,
        };
        match prepared {
            Ok(()) => Ok(store),
            Err(error) => {
                store.close().await;
                Err(error)
            }
        }
    }

    pub(super) fn driver_error(&self, error: sqlx::Error) -> Error {
        error::explain(&self.name, error)
    }
}

fn pool(connections: u32, settings: &Settings, isolation: &'static str, options: &MySqlConnectOptions) -> MySqlPool {
    // A text that does not fit is an error, not cut or changed, whatever the server's own mode is.
    let session = format!(
        "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', \
         innodb_lock_wait_timeout = {LOCK_WAIT_S}, wait_timeout = {SILENCE_S}; \
         SET SESSION TRANSACTION ISOLATION LEVEL {isolation}"
    );
    let session = if settings.read_only { format!("{session}; {READ_ONLY}") } else { session };
    MySqlPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(settings.connect_timeout)
        .idle_timeout(IDLE)
        .max_lifetime(LIFETIME)
        .test_before_acquire(false)
        .before_acquire(|connection, known| {
            Box::pin(async move { Ok(known.idle_for < UNTESTED || connection.ping().await.is_ok()) })
        })
        .after_connect(move |connection, _| {
            let session = sqlx::AssertSqlSafe(session.clone());
            Box::pin(async move { connection.execute(session).await.map(|_| ()) })
        })
        .connect_lazy_with(options.clone())
}

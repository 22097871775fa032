//! What can be set, what it is when nobody sets it, and where it may be set.
//!
//! Layers, each over the one before: defaults, a file (`tereza.toml`), the environment (`TEREZA__SECTION__KEY`),
//! `--set section.key=value`, and the flags of a command. A key that does not exist is refused together with the name
//! that is nearest to it; a value that cannot be is refused with what was expected.
//!
//! Names end in their unit: `_ms` milliseconds, `_bytes`, `_rows`, `_max` a count. A `_bytes` value may also be text
//! such as `"512MB"` or `"2GiB"`.
//!
//! ```toml
//! [data]
//! dir = "/var/lib/tereza"
//!
//! [engine]
//! memory_limit_bytes = "2GiB"
//!
//! [s3]
//! endpoint = "http://127.0.0.1:9000"
//! allow_http = true
//! access_key = "minio"
//! secret_key = "a secret"
//!
//! [s3.buckets.logs]          # the bucket `logs` lies elsewhere; what is not said here is as in [s3]
//! endpoint = "https://logs.example.org"
//! ```

mod layers;
mod secret;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use self::layers::size_bytes;
pub use self::secret::{MASK, Secret, without_passwords};
use crate::{Error, Result};

/// The settings file that is read from the working folder when no other is named.
pub const FILE_NAME: &str = "tereza.toml";

/// Everything that can be set. Printing it (`Debug`, [`Settings::show`]) never shows a secret.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Where the process keeps what it owns.
    pub data: Data,
    /// Addresses it serves.
    pub listen: Listen,
    /// Where names are kept.
    pub catalog: Catalog,
    /// How clients of a Hive Metastore are served.
    pub metastore: Metastore,
    /// How clients of a Schema Registry are served.
    pub registry: Registry,
    /// Where the files of tables are kept.
    pub warehouse: Warehouse,
    /// How object stores are reached.
    pub s3: S3,
    /// How statements run.
    pub engine: Engine,
    /// How clients are served.
    pub gateway: Gateway,
    /// How statements run on executors.
    pub cluster: Cluster,
    /// How jobs run.
    pub jobs: Jobs,
    /// How stream jobs run.
    pub streaming: Streaming,
    /// What is logged.
    pub log: Log,
    /// How the process ends.
    pub shutdown: Shutdown,
}

/// Where the process keeps what it owns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Data {
    /// The data folder, made on start. One process at a time has it.
    pub dir: PathBuf,
}

/// Addresses the process serves. Port 0 means any free port; the chosen one is printed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Listen {
    /// The address every port is bound on.
    pub ip: IpAddr,
    /// Port of Flight SQL (gRPC).
    pub flight_sql: u16,
    /// Port on which clients of a Hive Metastore are served (Thrift).
    pub metastore: u16,
    /// Port on which clients of a Schema Registry are served (REST).
    pub registry: u16,
    /// Port of `/healthz`, `/readyz` and `/metrics` (HTTP).
    pub console: u16,
    /// Port on which executors reach the scheduler (gRPC).
    pub scheduler: u16,
    /// Port on which an executor gives away what its stages made (Arrow Flight).
    pub executor_flight: u16,
    /// Port on which an executor is given tasks (gRPC).
    pub executor_tasks: u16,
}

/// Where names are kept.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Catalog {
    /// `sqlite:<path>`; `mysql://user:password@host:port/database`, which may be the database of a Hive Metastore 3.1; or
    /// `thrift://host:port` of a running metastore of any version; empty means `catalog.db` in the data folder.
    pub url: String,
    /// Whether a catalog is made in an empty database of MySQL; else that is refused.
    pub create: bool,
    /// A process that several share a catalog with counts as dead when it did not say so long that it lives: others then
    /// remove what it had begun to write, and take over its jobs. It says so three times as often.
    pub lease_ms: u64,
    /// What Presto calls this catalog, in the views that it makes and reads.
    pub presto_name: String,
}

impl Catalog {
    /// Whether several processes may have it at once.
    pub fn is_shared(&self) -> bool {
        ["mysql://", "mariadb://"].iter().any(|scheme| self.url.starts_with(scheme))
    }
}

/// How clients of a Hive Metastore are served. Thrift has no users: whoever reaches the port is let in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Metastore {
    /// Whether they are served at all by `tereza up`, `tereza scheduler` and `tereza catalog`.
    pub enabled: bool,
    /// Connections open at once; one more is closed.
    pub connections_max: usize,
    /// A connection is closed that has made no call for so long.
    pub idle_timeout_ms: u64,
    /// For one message to arrive or to leave.
    pub message_timeout_ms: u64,
    /// For one call to be answered.
    pub call_timeout_ms: u64,
    /// Size of one message from a client.
    pub request_limit_bytes: usize,
    /// Size of one answer; Java clients refuse more than 100 MiB.
    pub reply_limit_bytes: usize,
    /// Memory that answers may take together, about.
    pub answers_limit_bytes: usize,
    /// A lock is free whose owner has not renewed it for so long.
    pub lock_timeout_ms: u64,
    /// PEM file with the server's certificate chain; empty means no TLS.
    pub tls_cert: PathBuf,
    /// PEM file with the key of the certificate.
    pub tls_key: PathBuf,
}

/// How clients of a Schema Registry are served. It has no users: whoever reaches the port is let in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Registry {
    /// Whether they are served at all by `tereza up`, `tereza scheduler` and `tereza catalog`.
    pub enabled: bool,
    /// Connections served at once; more wait.
    pub connections_max: usize,
    /// A connection is closed on which nothing moved for so long.
    pub idle_timeout_ms: u64,
    /// Requests worked on at once; more wait.
    pub requests_max: usize,
    /// For one request to be answered, waiting included.
    pub request_timeout_ms: u64,
    /// Size of the body of one request.
    pub request_limit_bytes: usize,
    /// Size of the text of one schema.
    pub schema_limit_bytes: usize,
    /// Schemas that one may refer to, directly or through others.
    pub references_max: usize,
    /// Size of the texts of all of those together.
    pub references_limit_bytes: usize,
    /// Schemas that are kept in memory for look-ups by id.
    pub cached_schemas: usize,
    /// Memory of all of them.
    pub cached_bytes: usize,
}

/// Where the files of tables are kept that name no location.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Warehouse {
    /// A folder, or a URL such as `s3://bucket/warehouse`; empty means `warehouse` in the data folder.
    pub url: String,
}

/// How object stores are reached.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct S3 {
    /// For every bucket that has no section of its own.
    #[serde(flatten)]
    pub defaults: S3Connection,
    /// For single buckets, by name: what is not set there is as in `s3`.
    pub buckets: BTreeMap<String, S3Connection>,
}

/// How one object store is reached.
///
/// The time limits together make an absent or silent server an error within 30 s: the last try starts before
/// `retry_timeout_ms` has passed and takes at most `request_timeout_ms`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct S3Connection {
    /// `http://…` or `https://…` of the server; empty means Amazon's for the region.
    pub endpoint: String,
    /// Region in signatures.
    pub region: String,
    /// Access key; empty, with an empty secret key, means requests are not signed.
    pub access_key: Secret,
    /// Secret key.
    pub secret_key: Secret,
    /// Token of temporary credentials, or empty.
    pub session_token: Secret,
    /// Whether the bucket is in the path of requests (MinIO) and not in the host's name.
    pub path_style: bool,
    /// Whether an endpoint without TLS is allowed.
    pub allow_http: bool,
    /// Retries of one request; 0 means none.
    pub retries_max: u32,
    /// No retry starts later than this after the first try.
    pub retry_timeout_ms: u64,
    /// For the connection to stand.
    pub connect_timeout_ms: u64,
    /// For one try of one request, with its body.
    pub request_timeout_ms: u64,
    /// For one try of a request that the server answers when it has copied or joined a file.
    pub copy_timeout_ms: u64,
}

/// How statements run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Engine {
    /// Memory that statements may use together; 0 means `memory_fraction` of what the process may use. Whatever is set,
    /// operators spill or are refused when the process really holds more than 85 % of what it may use.
    pub memory_limit_bytes: u64,
    /// Part of the memory of the process (its cgroup's limit, else the machine's) that statements may use.
    pub memory_fraction: f64,
    /// Folder for what does not fit in memory; empty means `spill` in the data folder.
    pub spill_dir: PathBuf,
    /// What may lie in that folder at once; 0 means nothing is spilled.
    pub spill_limit_bytes: u64,
    /// Degree of parallelism of a statement; 0 means the number of cores.
    pub target_partitions: usize,
    /// Rows of a batch, at most: a small memory budget makes batches smaller.
    pub batch_size_rows: usize,
    /// Sessions open at once.
    pub sessions_max: usize,
    /// A session is closed that was not used for so long.
    pub session_idle_ms: u64,
    /// Statements running at once; more wait for their turn.
    pub queries_max: usize,
    /// Finished statements that `system.runtime.queries` remembers.
    pub query_history_max: usize,
    /// Cache of Parquet footers, and as much again of their statistics; 0 means none.
    pub footer_cache_bytes: u64,
}

/// How clients are served, whatever their protocol.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Gateway {
    /// Connections open at once; one more is refused.
    pub connections_max: usize,
    /// Requests that one connection may have open at once; a client waits with the next.
    pub requests_per_connection_max: u32,
    /// A connection is closed that has not made its first request (TLS included) after this.
    pub connection_setup_ms: u64,
    /// Results are cut into messages of about this size; many clients refuse more than 4 MiB.
    pub message_limit_bytes: usize,
    /// Size of one message from a client.
    pub request_limit_bytes: usize,
    /// A statement is cancelled whose client neither reads nor writes for so long.
    pub stream_idle_timeout_ms: u64,
    /// A result that nobody fetched is dropped after this.
    pub ticket_ttl_ms: u64,
    /// Results waiting to be fetched, of all clients.
    pub tickets_max: usize,
    /// Batches kept of a statement that a client polls.
    pub poll_buffer_batches: usize,
    /// Prepared statements of one session.
    pub prepared_max: usize,
    /// Rows of parameters bound to one prepared statement.
    pub parameter_rows_max: usize,
    /// Memory of the parameters bound to one prepared statement.
    pub parameters_limit_bytes: usize,
    /// A token, or a session without one, ends that was not used for so long.
    pub token_ttl_ms: u64,
    /// Whether results keep the types Utf8View and BinaryView, which not every client reads.
    pub views: bool,
    /// Users with their passwords; none means that everybody is let in.
    pub users: BTreeMap<String, Secret>,
    /// PEM file with the server's certificate chain; empty means no TLS.
    pub tls_cert: PathBuf,
    /// PEM file with the key of the certificate.
    pub tls_key: PathBuf,
}

/// How statements run on executors: processes that a scheduler hands the stages of a statement to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cluster {
    /// Executors that `tereza up` starts, each a process of its own on this machine.
    pub executors: usize,
    /// Where an executor finds its scheduler.
    pub scheduler_url: String,
    /// The name or address by which an executor is reached; empty means the one that it is bound on.
    pub executor_host: String,
    /// Tasks that an executor runs at once; 0 means the number of cores.
    pub task_slots: usize,
    /// Folder for what stages pass on; empty means `shuffle` in the data folder. A folder in memory is faster and counts as
    /// memory.
    pub shuffle_dir: PathBuf,
    /// An executor is heard of so often, in whole seconds.
    pub heartbeat_ms: u64,
    /// An executor that was not heard of for so long is lost, in whole seconds.
    pub executor_timeout_ms: u64,
    /// A statement waits so long for an executor where there is none.
    pub executor_wait_ms: u64,
    /// Size of one message between scheduler and executors: the plan of a stage with its list of files.
    pub message_limit_bytes: u32,
    /// A statement begins again so often at most, after executors were lost.
    pub attempts_max: usize,
    /// A statement begins again that has had no task on any executor for so long, though there are executors with room.
    pub progress_timeout_ms: u64,
    /// Rows of a result that are kept before the first is given out, so that it can begin again if an executor is lost.
    pub result_buffer_bytes: usize,
    /// Statements that read files of so many bytes, or more, run on executors where the session leaves it open.
    pub scan_bytes_min: u64,
}

/// How jobs run: texts of SQL that are kept in the catalog.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Jobs {
    /// Jobs that run at once; 0 means that this process runs none.
    pub running_max: usize,
    /// Jobs that wait; more are refused.
    pub queue_max: usize,
    /// Jobs that are done and still known.
    pub kept_max: usize,
    /// A job is started so often at most, unless it says otherwise.
    pub attempts_max: u32,
    /// Pause before the second start after an error that may pass; it doubles with each, up to a minute.
    pub retry_pause_ms: u64,
    /// Size of a job's text.
    pub text_limit_bytes: u64,
}

/// How stream jobs run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Streaming {
    /// Stream jobs that run at once; 0 means that this process runs none.
    pub running_max: usize,
    /// Where their state is, and the commits of those that write nothing to Kafka: a folder, or a URL such as
    /// `s3://bucket/streams`; empty means `streams` in the data folder. Processes that share a catalog need one that all reach.
    pub url: String,
    /// Size of the state of one operator; more ends the job.
    pub state_limit_bytes: u64,
    /// Pause before a job begins again after an error that may pass; it doubles with each, up to a minute.
    pub retry_pause_ms: u64,
}

/// What is logged, on standard error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Log {
    /// Levels, as in `info` or `warn,tereza_engine=debug`.
    pub filter: String,
    /// For people or for machines.
    pub format: LogFormat,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// A line of text.
    #[default]
    Human,
    /// A line of JSON.
    Json,
}

/// How the process ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Shutdown {
    /// What runs may finish for so long after the first SIGTERM or SIGINT; 0 means not at all.
    pub drain_timeout_ms: u64,
}

impl std::fmt::Debug for Catalog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let url = without_passwords(&self.url);
        let Self { create, lease_ms, presto_name, .. } = self;
        f.debug_struct("Catalog")
            .field("url", &url)
            .field("create", create)
            .field("lease_ms", lease_ms)
            .field("presto_name", presto_name)
            .finish()
    }
}

impl Default for Catalog {
    fn default() -> Self {
        Self { url: String::new(), create: false, lease_ms: 30_000, presto_name: "hive".into() }
    }
}

impl Default for Data {
    fn default() -> Self {
        Self { dir: "tereza-data".into() }
    }
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            ip: Ipv4Addr::LOCALHOST.into(),
            flight_sql: 32010,
            metastore: 9083,
            registry: 8081,
            console: 7070,
            scheduler: 50050,
            executor_flight: 50051,
            executor_tasks: 50052,
        }
    }
}

impl Default for Metastore {
    fn default() -> Self {
        Self {
            enabled: true,
            connections_max: 20_000,
            idle_timeout_ms: 60 * 60 * 1_000,
            message_timeout_ms: 2 * 60 * 1_000,
            call_timeout_ms: 5 * 60 * 1_000,
            request_limit_bytes: 100 << 20,
            reply_limit_bytes: 100 << 20,
            answers_limit_bytes: 512 << 20,
            lock_timeout_ms: 5 * 60 * 1_000,
            tls_cert: PathBuf::new(),
            tls_key: PathBuf::new(),
        }
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            enabled: true,
            connections_max: 1_024,
            idle_timeout_ms: 5 * 60 * 1_000,
            requests_max: 128,
            request_timeout_ms: 60_000,
            request_limit_bytes: 4 << 20,
            schema_limit_bytes: 1 << 20,
            references_max: 200,
            references_limit_bytes: 8 << 20,
            cached_schemas: 1_000,
            cached_bytes: 16 << 20,
        }
    }
}

impl Default for S3Connection {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            region: "us-east-1".into(),
            access_key: Secret::default(),
            secret_key: Secret::default(),
            session_token: Secret::default(),
            path_style: true,
            allow_http: false,
            retries_max: 5,
            retry_timeout_ms: 10_000,
            connect_timeout_ms: 4_000,
            request_timeout_ms: 15_000,
            copy_timeout_ms: 5 * 60 * 1_000,
        }
    }
}

impl Default for Engine {
    fn default() -> Self {
        Self {
            memory_limit_bytes: 0,
            memory_fraction: 0.7,
            spill_dir: PathBuf::new(),
            spill_limit_bytes: 100 << 30,
            target_partitions: 0,
            batch_size_rows: 16_384,
            sessions_max: 1_000,
            session_idle_ms: 30 * 60 * 1_000,
            queries_max: 64,
            query_history_max: 1_000,
            footer_cache_bytes: 64 << 20,
        }
    }
}

impl Default for Gateway {
    fn default() -> Self {
        Self {
            connections_max: 1_000,
            requests_per_connection_max: 256,
            connection_setup_ms: 30_000,
            message_limit_bytes: 2 << 20,
            request_limit_bytes: 64 << 20,
            stream_idle_timeout_ms: 5 * 60 * 1_000,
            ticket_ttl_ms: 5 * 60 * 1_000,
            tickets_max: 1_000,
            poll_buffer_batches: 16,
            prepared_max: 1_000,
            parameter_rows_max: 100_000,
            parameters_limit_bytes: 64 << 20,
            token_ttl_ms: 60 * 60 * 1_000,
            views: false,
            users: BTreeMap::new(),
            tls_cert: PathBuf::new(),
            tls_key: PathBuf::new(),
        }
    }
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            executors: 0,
            scheduler_url: "http://127.0.0.1:50050".into(),
            executor_host: String::new(),
            task_slots: 0,
            shuffle_dir: PathBuf::new(),
            heartbeat_ms: 1_000,
            executor_timeout_ms: 4_000,
            executor_wait_ms: 30_000,
            message_limit_bytes: 256 << 20,
            attempts_max: 4,
            progress_timeout_ms: 5_000,
            result_buffer_bytes: 64 << 20,
            scan_bytes_min: 64 << 30,
        }
    }
}

impl Default for Jobs {
    fn default() -> Self {
        Self {
            running_max: 2,
            queue_max: 1_000,
            kept_max: 1_000,
            attempts_max: 3,
            retry_pause_ms: 1_000,
            text_limit_bytes: 1 << 20,
        }
    }
}

impl Default for Streaming {
    fn default() -> Self {
        Self { running_max: 16, url: String::new(), state_limit_bytes: 1 << 30, retry_pause_ms: 1_000 }
    }
}

impl Default for Log {
    fn default() -> Self {
        // Ballista tells each step of each job.
        let filter = "info,ballista_core=warn,ballista_executor=warn,ballista_scheduler=warn";
        Self { filter: filter.into(), format: LogFormat::Human }
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { drain_timeout_ms: 30_000 }
    }
}

/// Where settings come from, besides the defaults.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// A settings file that must be there.
    pub file: Option<PathBuf>,
    /// A folder in which [`FILE_NAME`] is read, if it is there and `file` names none.
    pub folder: Option<PathBuf>,
    /// Environment variables; those that do not begin with `TEREZA__` are not looked at.
    pub env: Vec<(OsString, OsString)>,
    /// `section.key=value`, in order.
    pub set: Vec<String>,
    /// Flags that have a setting of their own.
    pub flags: Vec<Flag>,
}

/// A flag that was given and the setting that it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flag {
    /// As it is typed: `--data`.
    pub name: &'static str,
    /// The setting: `data.dir`.
    pub key: &'static str,
    /// Its value.
    pub value: String,
}

impl Sources {
    /// The working folder's file (unless `file` names another) and the environment of this process.
    pub fn of_process(file: Option<PathBuf>, set: Vec<String>) -> Self {
        Self { file, folder: Some(PathBuf::from(".")), env: std::env::vars_os().collect(), set, flags: Vec::new() }
    }

    /// Adds a flag, if it was given.
    #[must_use]
    pub fn flag(mut self, name: &'static str, key: &'static str, value: Option<impl ToString>) -> Self {
        self.flags.extend(value.map(|value| Flag { name, key, value: value.to_string() }));
        self
    }
}

impl Settings {
    /// Joins all layers. Errors are of kind `InvalidInput` and name the layer, the key and what was expected.
    ///
    /// Paths that were left empty are filled in, and those in the data folder are absolute.
    pub fn load(sources: &Sources) -> Result<Self> {
        layers::load(sources)?.resolved()
    }

    /// The defaults on the data folder `dir`, with every port 0: for tests and for embedding.
    pub fn in_folder(dir: impl Into<PathBuf>) -> Result<Self> {
        let mut settings = Self { data: Data { dir: dir.into() }, ..Self::default() };
        settings.listen.flight_sql = 0;
        settings.listen.metastore = 0;
        settings.listen.registry = 0;
        settings.listen.console = 0;
        settings.listen.scheduler = 0;
        settings.listen.executor_flight = 0;
        settings.listen.executor_tasks = 0;
        settings.resolved()
    }

    /// The settings as a TOML file, with secrets and the passwords of URLs as `***`.
    pub fn show(&self) -> Result<String> {
        let text = toml::to_string(self)
            .map_err(|error| Error::internal("the settings cannot be written as TOML").with_source(error))?;
        Ok(without_passwords(&text))
    }

    /// Fills in the paths that follow from the data folder.
    fn resolved(mut self) -> Result<Self> {
        let dir = std::path::absolute(&self.data.dir)
            .map_err(|error| Error::invalid_input("data.dir: expected the path of a folder").with_source(error))?;
        if self.catalog.url.is_empty() {
            self.catalog.url = format!("sqlite:{}", utf8(&dir.join("catalog.db"))?);
        }
        if self.warehouse.url.is_empty() {
            self.warehouse.url = utf8(&dir.join("warehouse"))?;
        }
        if self.streaming.url.is_empty() {
            self.streaming.url = utf8(&dir.join("streams"))?;
        }
        if self.engine.spill_dir.as_os_str().is_empty() {
            self.engine.spill_dir = dir.join("spill");
        }
        if self.cluster.shuffle_dir.as_os_str().is_empty() {
            self.cluster.shuffle_dir = dir.join("shuffle");
        }
        self.data.dir = dir;
        Ok(self)
    }
}

impl S3 {
    /// How the bucket is reached.
    pub fn bucket(&self, name: &str) -> &S3Connection {
        self.buckets.get(name).unwrap_or(&self.defaults)
    }
}

impl Engine {
    /// Degree of parallelism of a statement, at least 1.
    pub fn partitions(&self) -> usize {
        match self.target_partitions {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            partitions => partitions,
        }
    }
}

fn utf8(path: &Path) -> Result<String> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| Error::invalid_input(format!("data.dir = '{}': expected a path in UTF-8", path.display())))
}

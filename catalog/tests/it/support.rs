//! A metastore over a catalog in a folder, and what it is asked. `TEREZA_TEST_CATALOG=mysql` keeps the catalog in MariaDB.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{fs, io};

use tempfile::TempDir;
use tereza_catalog::hive::{self, DataFiles, LocalFiles};
use tereza_catalog::model::Database;
use tereza_catalog::{SqliteStore, Store};
use tereza_runtime::clock::Clock;
use tereza_thrift::call::Outcome;
use tereza_thrift::client::{self, CallError, Client};
use tereza_thrift::hive::*;
use tereza_thrift::server::Observer;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::mariadb;

pub(crate) struct Metastore {
    pub(crate) folder: TempDir,
    pub(crate) clock: Clock,
    pub(crate) address: SocketAddr,
    pub(crate) calls: Calls,
    drain: CancellationToken,
    task: JoinHandle<()>,
}

/// The methods that were asked for and are not there.
#[derive(Clone, Default)]
pub(crate) struct Calls(pub(crate) Arc<Mutex<BTreeSet<&'static str>>>);

impl Observer for Calls {
    fn called(&self, method: &'static str, outcome: Outcome, _: Duration) {
        if outcome == Outcome::UnknownMethod {
            self.0.lock().unwrap().insert(method);
        }
    }
}

/// Folders on this machine that are removed when somebody allows it.
struct Patient(LocalFiles, Arc<AtomicBool>);

impl DataFiles for Patient {
    fn make(&self, location: &str) -> io::Result<()> {
        self.0.make(location)
    }

    fn remove(&self, location: &str) -> io::Result<bool> {
        if self.1.load(Ordering::SeqCst) { self.0.remove(location) } else { Err(io::Error::other("not now")) }
    }
}

/// The path of a `file:` URL.
pub(crate) fn path(location: &str) -> PathBuf {
    let path = location.strip_prefix("file:/").unwrap_or_else(|| panic!("{location} is not on this machine"));
    Path::new("/").join(path.trim_start_matches('/'))
}

impl Metastore {
    pub(crate) async fn new() -> Self {
        Self::start(|files| Arc::new(files), |_| {}).await
    }

    /// One whose answers may take so many bytes together.
    pub(crate) async fn with_answers_of(bytes: usize) -> Self {
        Self::start(|files| Arc::new(files), |settings| settings.answers_limit_bytes = bytes).await
    }

    /// One that removes nothing until it is allowed.
    pub(crate) async fn patient() -> (Self, Arc<AtomicBool>) {
        let is_allowed = Arc::new(AtomicBool::new(false));
        let allowed = Arc::clone(&is_allowed);
        (Self::start(|files| Arc::new(Patient(files, allowed)), |_| {}).await, is_allowed)
    }

    async fn start(
        files: impl FnOnce(LocalFiles) -> Arc<dyn DataFiles>,
        change: impl FnOnce(&mut hive::Settings),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let files = files(LocalFiles::below(folder.path()));
        // A clock that begins now and moves on when told.
        let clock = Clock::fixed(Clock::system().unix_ms());
        fs::create_dir(folder.path().join("warehouse")).unwrap();
        Self::on(folder, clock, files, Calls::default(), change).await
    }

    async fn on(
        folder: TempDir,
        clock: Clock,
        files: Arc<dyn DataFiles>,
        calls: Calls,
        change: impl FnOnce(&mut hive::Settings),
    ) -> Self {
        let store: Arc<dyn Store> = match std::env::var("TEREZA_TEST_CATALOG").as_deref() {
            Ok("mysql") => Arc::new(mariadb::new_database().await.unwrap().store_at(clock.clone()).await),
            _ => Arc::new(SqliteStore::open(folder.path().join("catalog.db"), clock.clone()).await.unwrap()),
        };
        Self::over(store, folder, clock, files, calls, change).await
    }

    /// One whose catalog is in MariaDB; none where there is no server.
    pub(crate) async fn in_mariadb() -> Option<Self> {
        let at = mariadb::new_database().await?;
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("warehouse")).unwrap();
        let clock = Clock::fixed(Clock::system().unix_ms());
        let store = Arc::new(at.store_at(clock.clone()).await);
        let files = Arc::new(LocalFiles::below(folder.path()));
        Some(Self::over(store, folder, clock, files, Calls::default(), |_| {}).await)
    }

    async fn over(
        store: Arc<dyn Store>,
        folder: TempDir,
        clock: Clock,
        files: Arc<dyn DataFiles>,
        calls: Calls,
        change: impl FnOnce(&mut hive::Settings),
    ) -> Self {
        let warehouse = format!("file:{}/warehouse", folder.path().display());
        let default = store.database("default").await.unwrap();
        store.alter_database("default", &Database { location: warehouse.clone(), ..default }).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let drain = CancellationToken::new();
        // Long enough for what is removed, and not for what is not.
        let removal_patience = Duration::from_secs(1);
        let mut settings = hive::Settings { warehouse, removal_patience, ..hive::Settings::default() };
        change(&mut settings);
        let serving = hive::serve_observed(listener, store, files, settings, calls.clone(), drain.clone());
        Self { task: tokio::spawn(serving), folder, clock, address, calls, drain }
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(&self.address.to_string(), client::Settings::default()).await.unwrap()
    }

    pub(crate) fn warehouse(&self) -> String {
        format!("file:{}/warehouse", self.folder.path().display())
    }

    /// Ends it and begins another one on the same catalog and folder.
    pub(crate) async fn again(mut self) -> Self {
        self.drain.cancel();
        (&mut self.task).await.unwrap();
        let Self { folder, clock, calls, .. } = self;
        let files = LocalFiles::below(folder.path());
        Self::on(folder, clock, Arc::new(files), calls, |_| {}).await
    }

    /// Ends it when all that were asked are answered.
    /// Its catalog, once more.
    pub(crate) async fn store(&self) -> SqliteStore {
        SqliteStore::open(self.folder.path().join("catalog.db"), self.clock.clone()).await.unwrap()
    }

    pub(crate) async fn end(self) {
        self.drain.cancel();
        self.task.await.unwrap();
    }
}

pub(crate) fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

pub(crate) fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

pub(crate) fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

pub(crate) fn environment(entries: &[(&str, &str)]) -> Option<EnvironmentContext> {
    Some(EnvironmentContext { properties: Some(map(entries)) })
}

pub(crate) fn column(name: &str, type_name: &str) -> FieldSchema {
    FieldSchema { name: text(name), r#type: text(type_name), comment: None }
}

/// A table `web.<name>` of Parquet files with `id` and `name`.
pub(crate) fn table(name: &str) -> Table {
    let serde = SerDeInfo {
        serialization_lib: text("org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe"),
        parameters: Some(map(&[("serialization.format", "1")])),
        ..SerDeInfo::default()
    };
    let storage = StorageDescriptor {
        cols: Some(vec![column("id", "bigint"), column("name", "string")].into()),
        input_format: text("org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat"),
        output_format: text("org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat"),
        num_buckets: Some(-1),
        serde_info: Some(serde),
        ..StorageDescriptor::default()
    };
    Table {
        db_name: text("web"),
        table_name: text(name),
        owner: text("ada"),
        sd: Some(storage),
        table_type: text("MANAGED_TABLE"),
        parameters: Some(map(&[("k", "v")])),
        ..Table::default()
    }
}

/// [`table`] with the keys `ds`, `k` and `d`.
pub(crate) fn partitioned_table(name: &str) -> Table {
    let keys = vec![column("ds", "string"), column("k", "int"), column("d", "date")];
    Table { partition_keys: Some(keys), ..table(name) }
}

pub(crate) fn partition(name: &str, values: &[&str]) -> Partition {
    Partition { db_name: text("web"), table_name: text(name), values: Some(texts(values)), ..Partition::default() }
}

/// Makes the database `web`.
pub(crate) async fn make_web(client: &mut Client) {
    let database = Database_ { name: text("Web"), ..Database_::default() };
    client.create_database(CreateDatabaseArgs { database: Some(database) }).await.unwrap();
}

/// The database of the interface; [`Database`] is the catalog's.
pub(crate) type Database_ = tereza_thrift::hive::Database;

pub(crate) async fn make(client: &mut Client, table: Table) {
    client.create_table(CreateTableArgs { tbl: Some(table) }).await.unwrap();
}

pub(crate) async fn get(client: &mut Client, name: &str) -> Table {
    client.get_table(GetTableArgs { dbname: text("web"), tbl_name: text(name) }).await.unwrap()
}

pub(crate) fn exception<T: Debug>(result: Result<T, CallError<Exception>>) -> Exception {
    match result {
        Err(CallError::Exception(exception)) => exception,
        other => panic!("no exception but {other:?}"),
    }
}

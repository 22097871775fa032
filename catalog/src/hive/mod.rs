//! The metastore itself: what a Hive Metastore answers over Thrift, out of a [`Store`].
//!
//! One endpoint serves clients of Hive 2.3, 3.1 and 4. Exceptions have the types and texts of Hive 3.1 where clients are
//! known to look at them. A method that is not here is answered "unknown method", which clients take for an old metastore.
//!
//! It never lists, opens or moves files. What a metastore does to them goes to [`DataFiles`]: folders of new tables and
//! partitions are made, and those of managed tables that are dropped with their data are removed (`removals`).
//!
//! Where it is not like Hive 3.1, on purpose (`tests/it/differential` has every answer that differs, with its reason):
//! * a filter of partitions works on keys of every type, as SQL says; NULL is different from every value in `!=`, as there;
//! * a table is external if its type or its parameter says so; there, a type without the parameter is managed;
//! * cascading an alteration gives all partitions the one column list of their table;
//! * numbers and sizes of files are not added to parameters, nor `COLUMN_STATS_ACCURATE`;
//! * types of columns are not checked, and any change of a column's type is let through;
//! * renaming moves no files: a managed table that gets another name, or another database, keeps its location, and a new one
//!   that would get its folder gets another; a managed table's partition in its usual folder is not renamed at all;
//! * partitions that are dropped by an expression serialised in Java are refused, as it cannot be read without a JVM; asked
//!   for by one, all are returned with the mark that the client has to look itself;
//! * there are no transactions, and nothing is written to the log of notifications; what would begin a transaction, other
//!   catalogs and `truncate_table` are refused;
//! * roles and privileges are kept, and nothing here asks for them; a privilege on what is not there is refused;
//! * partitions that are exchanged keep their places;
//! * constraints follow a column that gets another place or name, and go with it; there, those of a table whose columns change
//!   forget which they are of.
//!
//! Locks are rows of the store (`HIVE_LOCKS`), so a metastore on the same database respects them.
//!
//! Files in reading order: `service` (each method in a line), `databases`, `tables`, `alter_table`, `partitions`,
//! `partition_changes`, `removals`, `constraints`, `statistics`, `functions`, `locks`, `roles`, `privileges`, `notifications`,
//! `transactions`, `catalogs`, `settings`; under them `names`, `convert`, `pattern`, `filter` and `value`; `answers` (their
//! memory); `local_files` for a metastore on one machine. `remote` is the other side: a running metastore that is read.

mod alter_table;
mod answers;
mod catalogs;
mod constraints;
mod convert;
mod databases;
mod filter;
mod functions;
mod local_files;
mod locks;
mod names;
mod notifications;
mod partition_changes;
mod partitions;
mod pattern;
mod privileges;
pub(crate) mod remote;
mod removals;
mod roles;
mod service;
mod settings;
mod statistics;
mod tables;
mod transactions;
mod value;

#[cfg(test)]
#[path = "../../../tests/support/fuzz.rs"]
mod driver;
#[cfg(test)]
mod fuzz_tests;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tereza_runtime::clock::Clock;
use tereza_runtime::{Error, ErrorKind};
use tereza_thrift::call::Outcome;
use tereza_thrift::hive::{Exception, MetaException};
use tereza_thrift::server::{self, Observer, Server};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::answers::{Answers, Growing, Held};
pub use self::local_files::LocalFiles;
pub use self::remote::Remote;
use self::removals::Removals;
use crate::Store;
use crate::model::Table;

/// What a method answers.
type Answer<T> = Result<T, Exception>;

/// How the metastore behaves.
#[derive(Debug, Clone)]
pub struct Settings {
    /// URL of the folder that databases without a location get theirs in.
    pub warehouse: String,
    /// How long a lock lives that its owner does not renew (`hive.txn.timeout`).
    pub lock_timeout: Duration,
    /// How long a call that drops waits until the files are gone: engines make a table anew as soon as it is dropped, and
    /// look whether its folder is empty. What takes longer goes on behind it.
    pub removal_patience: Duration,
    /// Bytes of memory that answers may take together, about: those being made and those being sent.
    pub answers_limit_bytes: usize,
    /// The bounds of the server.
    pub server: server::Settings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            warehouse: "file:/user/hive/warehouse".to_owned(),
            lock_timeout: Duration::from_secs(300),
            removal_patience: Duration::from_secs(5),
            answers_limit_bytes: 512 << 20,
            server: server::Settings::default(),
        }
    }
}

/// What a metastore does to files. Calls may block: they are made where that is allowed.
pub trait DataFiles: Send + Sync + 'static {
    /// Makes the folder of a new database, table or partition. Nothing happens if it is there, or where there are no folders.
    fn make(&self, location: &str) -> io::Result<()>;

    /// The same for a partition, of which there may be very many: none is made where a folder costs something and nobody looks
    /// for it.
    fn make_for_partition(&self, location: &str) -> io::Result<()> {
        self.make(location)
    }

    /// Removes a folder with what is in it, or a bounded part of that, and returns whether nothing is left to remove. The
    /// catalog knows nothing of it any more. Where there is nothing, nothing is left.
    fn remove(&self, location: &str) -> io::Result<bool>;
}

/// Leaves all files alone.
impl DataFiles for () {
    fn make(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn remove(&self, location: &str) -> io::Result<bool> {
        tracing::info!(location, "the files of what was dropped are left where they are");
        Ok(true)
    }
}

/// Answers the clients of `listener` until `drain` is cancelled, and returns when the last connection is closed.
///
/// Metrics: `tereza_metastore_calls_total` by method and outcome, `tereza_metastore_call_seconds` by method.
pub async fn serve(
    listener: TcpListener,
    store: Arc<dyn Store>,
    files: Arc<dyn DataFiles>,
    settings: Settings,
    drain: CancellationToken,
) {
    serve_observed(listener, store, files, settings, Metrics, drain).await;
}

/// [`serve`] that tells `observer` of every call in place of the metrics.
pub async fn serve_observed(
    listener: TcpListener,
    store: Arc<dyn Store>,
    files: Arc<dyn DataFiles>,
    settings: Settings,
    observer: impl Observer,
    drain: CancellationToken,
) {
    let server = Server::new(settings.server.clone(), observer);
    let started_s = Clock::system().unix_s();
    let removals = Removals::new(Arc::clone(&store), Arc::clone(&files), settings.removal_patience);
    let answers = Answers::new(settings.answers_limit_bytes, settings.server.reply_limit_bytes);
    let shared = Arc::new(Shared { store, files, removals, answers, settings, started_s });
    let connect = |_| Session { shared: Arc::clone(&shared), user: Mutex::default(), held: Held::default() };
    tokio::join!(server.serve(listener, connect, drain.clone()), shared.removals.run(drain));
}

struct Metrics;

impl Observer for Metrics {
    fn called(&self, method: &'static str, outcome: Outcome, took: Duration) {
        let outcome = outcome.as_str();
        metrics::counter!("tereza_metastore_calls_total", "method" => method, "outcome" => outcome).increment(1);
        metrics::histogram!("tereza_metastore_call_seconds", "method" => method).record(took.as_secs_f64());
    }
}

/// What all connections share.
struct Shared {
    store: Arc<dyn Store>,
    files: Arc<dyn DataFiles>,
    removals: Removals,
    answers: Answers,
    settings: Settings,
    /// Seconds since 1970.
    started_s: i64,
}

/// One connection.
struct Session {
    shared: Arc<Shared>,
    /// Who the client says it is. Nobody has checked it.
    user: Mutex<Option<String>>,
    /// The memory of the answer that is being made or sent.
    held: Held,
}

impl Session {
    fn store(&self) -> &dyn Store {
        self.shared.store.as_ref()
    }

    /// Begins an answer that may be large.
    fn growing(&self) -> Growing<'_> {
        self.shared.answers.begin(&self.held)
    }

    /// For logs.
    fn user(&self) -> String {
        self.user.lock().clone().unwrap_or_else(|| "unknown".to_owned())
    }

    /// A table, or the exception of `get_table`.
    async fn table(&self, database: &str, table: &str) -> Answer<Table> {
        let found = self.store().table(database, table).await;
        found.map(|found| found.table).map_err(|error| self.of_table(error, database, table))
    }

    /// The exception for a failed question about a table.
    fn of_table(&self, error: Error, database: &str, table: &str) -> Exception {
        if error.kind() == ErrorKind::NotFound { names::no_table(database, table) } else { error.into() }
    }

    /// Makes folders, before what they are for is in the catalog.
    async fn make_folders(&self, locations: Vec<String>, are_partitions: bool) -> Answer<()> {
        let files = Arc::clone(&self.shared.files);
        let making = tokio::task::spawn_blocking(move || {
            for location in locations {
                let made = if are_partitions { files.make_for_partition(&location) } else { files.make(&location) };
                made.map_err(|error| {
                    MetaException::new(format!("{location} is not a directory or unable to create one: {error}"))
                })?;
            }
            Ok(())
        });
        making.await.map_err(|error| MetaException::new(format!("making a folder broke off: {error}")))?
    }

    /// Waits a while until the files of something that was dropped are gone.
    async fn wait_for_removal(&self, locations: &[String]) {
        self.shared.removals.wait(locations).await;
    }
}

/// What was found, or nothing if it was dropped since it was listed.
fn unless_gone<T>(found: tereza_runtime::Result<T>) -> tereza_runtime::Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// `folder/name`.
fn below(folder: &str, name: &str) -> String {
    format!("{}/{name}", folder.trim_end_matches('/'))
}

/// How many a client wants at most; negative is all.
fn limit(max: impl Into<Option<i16>>) -> Option<usize> {
    max.into().and_then(|max| usize::try_from(max).ok())
}

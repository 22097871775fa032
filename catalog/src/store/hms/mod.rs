//! A running Hive Metastore as the catalog: its databases, tables, partitions, statistics, functions and locks are the
//! store's, over Thrift, and what only Tereza knows is in a SQLite file beside it: the journal of commits, writes and what they
//! staged, jobs, schemas, and how tables were last seen. One process at a time has that file.
//!
//! ## Commits
//! A metastore has no transaction over partitions, parameters and a journal. So:
//! 1. a lock on the table is taken at the metastore (exclusive where a version is expected or something is dropped, one that
//!    lets readers pass for INSERT), and all that the commit demands is checked against the metastore;
//! 2. **one transaction of the file decides**: journal, version, end of the write, step of a job, and the commit among those
//!    that are to be done;
//! 3. it is done at the metastore, in calls that may be repeated: what a commit changed bears its mark (`effects`), so that
//!    numbers are not added twice and nothing that others did later is undone;
//! 4. the file notes that it is done.
//!
//! Who dies after 2 leaves a commit that the next change of the table, or [`HmsStore::connect`], or a task in the background
//! does; readers here have it laid over what the metastore says until then. If the metastore says no, what was done is taken
//! back, the decision is undone, and the caller hears why. Once a commit was acknowledged, what the metastore refuses of it for
//! good is given up with an error in the log, and the next change goes on.
//!
//! ## Versions
//! The file counts them. A table that is not as it was last seen (a hash of all that a metastore says of it, and when it was
//! made) was changed by others, and its version goes up when that is seen. Each change by a Tereza also changes a parameter of
//! the table, `tereza.change`, so that others see those of its partitions.
//!
//! ## What is not so good as in a database
//! * Hive's own clients change tables without a lock where they are not set to take one (`hive.support.concurrency`), and
//!   Presto, Trino and Spark mostly: what they change between the check and the call that follows is lost, as it is between
//!   two of them. They see the partitions and the numbers of one commit one after the other.
//! * Partitions that others add or drop do not change their table: a commit that expects a version does not hear of it.
//! * A table that others drop and make anew within the same second is taken for the former one.
//! * A commit that makes a table is given up, with an error in the log, if its process dies before the table is made and
//!   others take the name before the next one runs.
//! * A snapshot asks for the table and then for its partitions.
//! * A DDL call whose answer is lost fails with `Unavailable`, and may have been done.
//! * The metastore removes the files of what is dropped with them, in its own way: there are no [`Removal`]s here.
//! * Whether a folder is taken is looked up among the tables that were seen here and those of the databases above it.
//! * A managed table with commits that are not rolled forward is renamed only at a metastore of Tereza: others move the folder.
//! * Tables with names of more than 128 characters cannot be locked, and so not be changed.
//!
//! Files in reading order: `turns`, `held` (locks), `effects` (what a commit does, without doing it), `look` (reading),
//! `commit`, `tables`, `partitions`, `methods`; `store/sqlite/beside` is the file.
//!
//! [`Removal`]: crate::store::Removal

mod commit;
mod effects;
mod held;
mod look;
mod methods;
mod partitions;
mod statistics;
mod tables;
mod turns;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tereza_runtime::clock::Clock;
use tereza_runtime::{Result, ids};
use tereza_thrift::client;

use self::effects::Marks;
use self::turns::Turns;
use super::sqlite::SqliteStore;
use crate::hive::remote::Remote;
use crate::import::Source;

/// How a metastore is used.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long a connection and a call may take.
    pub client: client::Settings,
    /// Connections at once, at most.
    pub connections: usize,
    /// How long a change waits for a lock that others have.
    pub lock_patience: Duration,
    /// How often commits that are decided and could not be done are tried again.
    pub settle_every: Duration,
    /// How long a metastore may refuse what is decided, for a reason that may pass, until it is given up.
    pub refusal_patience: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            client: client::Settings { call_timeout: Duration::from_secs(120), ..client::Settings::default() },
            connections: 8,
            lock_patience: Duration::from_secs(30),
            settle_every: Duration::from_secs(10),
            refusal_patience: Duration::from_secs(600),
        }
    }
}

/// A catalog in a running metastore. Cheap to clone.
#[derive(Debug, Clone)]
pub struct HmsStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    remote: Arc<Remote>,
    local: SqliteStore,
    /// The name of the local file, at the metastore.
    instance: String,
    marks: Marks,
    turns: Turns,
    /// Since when commits are refused that are decided, by their ids: as many as are not done, one for each table.
    refusals: Mutex<HashMap<String, Instant>>,
    settings: Settings,
    clock: Clock,
}

impl HmsStore {
    /// Connects to the metastore at `thrift://host:port`, or several addresses of one with commas between. What only Tereza
    /// knows is in the SQLite file at `local`, which is made if it is missing; its folder must exist.
    ///
    /// # Errors
    /// `Unavailable` if the metastore does not answer. `InvalidInput` if the URL is none, or the file is a catalog itself or
    /// has commits for another metastore.
    pub async fn connect(url: &str, settings: Settings, local: impl AsRef<Path>, clock: Clock) -> Result<Self> {
        let remote = Arc::new(Remote::with_connections(url, settings.client.clone(), settings.connections)?);
        remote.databases().await?;
        let local = SqliteStore::open(local, clock.clone()).await?;
        let instance = local.stand_beside(url, &ids::new_id()).await?;
        held::give_back_former(&remote, &instance).await?;
        let marks = Marks::of(&instance);
        let (turns, refusals) = (Turns::new(), Mutex::default());
        let inner = Inner { remote, local, instance, marks, turns, refusals, settings, clock };
        let inner = Arc::new(inner);
        tokio::spawn(settle_later(Arc::downgrade(&inner), inner.settings.settle_every));
        Ok(Self(inner))
    }

    /// What is kept beside the metastore; the schemas of the registry are in it.
    pub fn local(&self) -> &SqliteStore {
        &self.0.local
    }
}

/// Does what is decided and not done, until the store is dropped.
async fn settle_later(store: Weak<Inner>, every: Duration) {
    loop {
        let Some(inner) = store.upgrade() else { return };
        if let Err(error) = inner.settle_all().await {
            tracing::warn!(%error, "commits are decided that the metastore does not have yet");
        }
        drop(inner);
        tokio::time::sleep(every).await;
    }
}

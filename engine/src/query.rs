//! What every front door calls: sessions, statements, and results as streams of record batches.
//!
//! [`QueryService`] is implemented by the local lane here ([`crate::local`]) and by the router over both lanes in the
//! scheduler. A gateway turns bytes into a [`Statement`] and a [`Query`]'s stream into bytes, and knows nothing of SQL.
//!
//! ## Life of a statement
//! [`QueryService::submit`] parses and plans it, so its schema and its errors are known at once; nothing has run yet.
//! The work is done while [`Query::next`] is called (or by [`Query::run`]). Dropping a [`Query`] at any moment cancels
//! it everywhere.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};
use tereza_runtime::{Error, Result};
use tokio_util::sync::CancellationToken;

use crate::cluster::{StageCounts, StageProgress};

/// A stream of the batches of a result, or of rows to be written. Every batch has the schema that goes with the stream.
pub type BatchStream = BoxStream<'static, Result<RecordBatch>>;

/// Names one session of one user.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SessionId(pub String);

/// Names one statement that was submitted: 32 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct QueryId(pub String);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for QueryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a new session starts with; `None` means the service's default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionDefaults {
    /// Catalog of unqualified names.
    pub catalog: Option<String>,
    /// Database (schema) of unqualified names.
    pub schema: Option<String>,
    /// Further options, as `SET key = value` would set them.
    pub options: Vec<(String, String)>,
}

/// A statement to run.
#[derive(Debug, Clone)]
pub struct Statement {
    /// The text; exactly one statement, a `;` at its end is allowed.
    pub sql: String,
    /// Values for `$1`, `$2`, … or `?`: one row, a column for each parameter in order (or named as in `$name`).
    pub parameters: Option<RecordBatch>,
}

impl Statement {
    /// A statement without parameters.
    pub fn new(sql: impl Into<String>) -> Self {
        Self { sql: sql.into(), parameters: None }
    }
}

/// What a statement gives back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatementKind {
    /// Rows.
    Query,
    /// A change of rows: one batch with one `count` column of UInt64, the number of rows written.
    Update,
    /// A change of names or of the session (DDL, SET, USE): no columns and no rows.
    Command,
}

/// What [`QueryService::describe`] finds out without running anything.
#[derive(Debug, Clone)]
pub struct Description {
    /// What it gives back.
    pub kind: StatementKind,
    /// The columns of the result, exactly as the batches will have them.
    pub schema: SchemaRef,
    /// One field for each parameter in order; type Null where the statement does not tell.
    pub parameters: SchemaRef,
}

/// Where bulk rows go ([`QueryService::ingest`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngestTarget {
    /// Catalog, or the session's.
    pub catalog: Option<String>,
    /// Database, or the session's.
    pub schema: Option<String>,
    /// Table.
    pub table: String,
    /// What to do when the table does not exist.
    pub if_not_exists: IfNotExists,
    /// What to do when it exists.
    pub if_exists: IfExists,
    /// Whether the table is the session's own and ends with it; it is in `memory.public` then, whatever `catalog` and
    /// `schema` say.
    pub temporary: bool,
}

/// For a table that does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfNotExists {
    /// Make it with the columns of the rows.
    Create,
    /// Refuse.
    Fail,
}

/// For a table that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfExists {
    /// Add the rows.
    Append,
    /// Drop it and make it again with the columns of the rows.
    Replace,
    /// Refuse.
    Fail,
}

/// Which tables [`QueryService::tables`] returns. Patterns are SQL LIKE patterns (`%`, `_`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableFilter {
    /// Exact catalog name.
    pub catalog: Option<String>,
    /// Pattern of the schema's name.
    pub schema_pattern: Option<String>,
    /// Pattern of the table's name.
    pub table_pattern: Option<String>,
    /// `TABLE`, `VIEW`, `SYSTEM TABLE`, …; empty means all.
    pub kinds: Vec<String>,
    /// Whether to fill in [`TableEntry::columns`], which costs a look into each table.
    pub with_columns: bool,
}

/// One table of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableEntry {
    /// Catalog.
    pub catalog: String,
    /// Schema.
    pub schema: String,
    /// Table.
    pub table: String,
    /// `TABLE`, `VIEW`, `LOCAL TEMPORARY`, `SYSTEM TABLE`.
    pub kind: String,
    /// Its columns, if asked for.
    pub columns: Option<SchemaRef>,
}

/// The front of an engine: what gateways and the command line call.
///
/// Every method is safe to call from many tasks at once. Errors carry the kind that the protocol maps to its own status.
#[async_trait]
pub trait QueryService: Send + Sync + fmt::Debug + 'static {
    /// Opens a session. `ResourceExhausted` past the bound on sessions. A session that is idle for longer than the
    /// setting is closed by the service.
    async fn open_session(&self, user: &str, defaults: SessionDefaults) -> Result<SessionId>;
    /// Closes a session and cancels what it runs; `NotFound` if there is none.
    async fn close_session(&self, session: &SessionId) -> Result<()>;
    /// Sets an option of a session: `catalog`, `schema`, or any key that `SET` takes.
    async fn set_option(&self, session: &SessionId, key: &str, value: &str) -> Result<()>;
    /// The options of a session with their values: `catalog`, `schema` and what was set.
    async fn options(&self, session: &SessionId) -> Result<Vec<(String, String)>>;

    /// Parses and plans a statement without running it.
    async fn describe(&self, session: &SessionId, sql: &str) -> Result<Description>;
    /// Parses and plans a statement; it runs while its [`Query`] is read.
    async fn submit(&self, session: &SessionId, statement: Statement) -> Result<Query>;
    /// Writes rows into a table in one commit and returns how many.
    async fn ingest(
        &self,
        session: &SessionId,
        target: IngestTarget,
        schema: SchemaRef,
        rows: BatchStream,
    ) -> Result<u64>;
    /// Cancels a running statement of any session of the same user; `NotFound` if it is not running any more.
    async fn cancel(&self, session: &SessionId, query: &QueryId) -> Result<()>;

    /// Catalog names, sorted.
    async fn catalogs(&self, session: &SessionId) -> Result<Vec<String>>;
    /// `(catalog, schema)` names, sorted; `schema_pattern` is a SQL LIKE pattern.
    async fn schemas(
        &self,
        session: &SessionId,
        catalog: Option<&str>,
        schema_pattern: Option<&str>,
    ) -> Result<Vec<(String, String)>>;
    /// Tables, sorted by catalog, schema and name.
    async fn tables(&self, session: &SessionId, filter: &TableFilter) -> Result<Vec<TableEntry>>;
    /// How far the statement is that the session submitted last and that has not ended; `None` if there is none, or this
    /// service does not know.
    async fn progress(&self, _session: &SessionId) -> Result<Option<ProgressReading>> {
        Ok(None)
    }
    /// Splits a text into its statements, without the `;` between them and without empty ones; `InvalidInput` with a
    /// location if a quote or comment is not closed.
    fn split(&self, sql: &str) -> Result<Vec<String>>;
    /// SQL keywords and function names, for completion at a prompt, sorted.
    fn words(&self) -> Vec<String>;
}

/// How far a statement has come. All counters only grow.
#[derive(Debug, Default)]
pub struct Progress {
    rows: AtomicU64,
    bytes: AtomicU64,
    batches: AtomicU64,
    scanned_rows: AtomicU64,
    scanned_bytes: AtomicU64,
    stages: OnceLock<Arc<StageProgress>>,
    has_begun: AtomicBool,
}

/// A reading of [`Progress`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProgressReading {
    /// Rows returned.
    pub rows: u64,
    /// Bytes returned, as they are in memory.
    pub bytes: u64,
    /// Batches returned.
    pub batches: u64,
    /// Rows read from tables.
    pub scanned_rows: u64,
    /// Bytes read from tables.
    pub scanned_bytes: u64,
    /// How far executors are, if they run it.
    pub stages: Option<StageCounts>,
}

impl Progress {
    /// The counters now.
    pub fn read(&self) -> ProgressReading {
        let stages = self.stages.get().map(|stages| stages.read());
        let (rows, bytes) = stages.map_or((0, 0), |stages| (stages.scanned_rows, stages.scanned_bytes));
        ProgressReading {
            rows: self.rows.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            batches: self.batches.load(Ordering::Relaxed),
            scanned_rows: self.scanned_rows.load(Ordering::Relaxed).max(rows),
            scanned_bytes: self.scanned_bytes.load(Ordering::Relaxed).max(bytes),
            stages,
        }
    }

    /// Whether it got its turn.
    pub fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Relaxed)
    }

    /// Says that it got its turn.
    pub(crate) fn begin(&self) {
        self.has_begun.store(true, Ordering::Relaxed);
    }

    /// Sets what was read from tables so far.
    pub fn set_scanned(&self, rows: u64, bytes: u64) {
        self.scanned_rows.fetch_max(rows, Ordering::Relaxed);
        self.scanned_bytes.fetch_max(bytes, Ordering::Relaxed);
    }

    /// Why executors cannot run it, if it was theirs first.
    pub(crate) fn taken_back(&self) -> Option<&str> {
        self.stages.get().and_then(|stages| stages.taken_back())
    }

    /// Says that executors run it.
    pub fn follow(&self, stages: Arc<StageProgress>) {
        // A statement is placed once.
        let _ = self.stages.set(stages);
    }

    fn returned(&self, batch: &RecordBatch) {
        self.rows.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
        self.bytes.fetch_add(batch.get_array_memory_size() as u64, Ordering::Relaxed);
        self.batches.fetch_add(1, Ordering::Relaxed);
    }
}

/// A submitted statement: its schema, its progress, and its rows as they come. Dropping it cancels it.
pub struct Query {
    id: QueryId,
    kind: StatementKind,
    schema: SchemaRef,
    progress: Arc<Progress>,
    cancellation: CancellationToken,
    stream: BatchStream,
}

impl Query {
    /// Joins the parts; `cancellation` must end `stream` with an error of kind `Cancelled`.
    pub fn new(
        id: QueryId,
        kind: StatementKind,
        schema: SchemaRef,
        progress: Arc<Progress>,
        cancellation: CancellationToken,
        stream: BatchStream,
    ) -> Self {
        Self { id, kind, schema, progress, cancellation, stream }
    }

    /// Its id.
    pub fn id(&self) -> &QueryId {
        &self.id
    }

    /// What it gives back.
    pub fn kind(&self) -> StatementKind {
        self.kind
    }

    /// The schema of its batches, exactly.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// How far it is; may be read from another task while the query runs.
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// Cancels the query from another task when its `cancel` is called.
    pub fn cancellation(&self) -> CancellationToken {
        self.cancellation.clone()
    }

    /// The next batch, or `None` at the end. After an error there is nothing more.
    pub async fn next(&mut self) -> Option<Result<RecordBatch>> {
        let batch = self.stream.next().await?;
        if let Ok(batch) = &batch {
            self.progress.returned(batch);
        }
        Some(batch)
    }

    /// Runs to the end and returns all batches: for results known to be small.
    pub async fn collect(mut self) -> Result<Vec<RecordBatch>> {
        let mut batches = Vec::new();
        while let Some(batch) = self.next().await {
            batches.push(batch?);
        }
        Ok(batches)
    }

    /// Runs to the end, dropping rows, and returns the number of rows written (of an update) or returned (of a query).
    pub async fn run(mut self) -> Result<u64> {
        let mut rows = 0;
        while let Some(batch) = self.next().await {
            let batch = batch?;
            rows += match self.kind {
                StatementKind::Update => updated_rows(&batch)?,
                StatementKind::Query | StatementKind::Command => batch.num_rows() as u64,
            };
        }
        Ok(rows)
    }
}

impl Drop for Query {
    fn drop(&mut self) {
        // First, so that whatever it holds is free when this returns, and not when the cancellation got about.
        self.stream = futures::stream::empty().boxed();
        self.cancellation.cancel();
    }
}

impl fmt::Debug for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Query").field("id", &self.id).field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// The sum of the `count` column of an update's batch.
pub fn updated_rows(batch: &RecordBatch) -> Result<u64> {
    use arrow::array::AsArray;
    use arrow::datatypes::UInt64Type;

    let counts = batch
        .column_by_name("count")
        .and_then(|column| column.as_primitive_opt::<UInt64Type>())
        .ok_or_else(|| Error::internal("an update's result has no UInt64 column 'count'"))?;
    Ok(counts.iter().flatten().sum())
}

//! The query service of this process: sessions, and statements that run here.

mod ingest;
mod run;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use parking_lot::Mutex;
use tereza_runtime::clock::Clock;
use tereza_runtime::{Error, Result, ids};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::engine::Engine;
use crate::error::from_datafusion;
use crate::flink::{StreamInsert, StreamPlan};
use crate::jobs::{Detail, Job, JobStep, Repeat};
use crate::query::{
    BatchStream, Description, IngestTarget, ProgressReading, Query, QueryId, QueryService, SessionDefaults, SessionId,
    Statement, TableEntry, TableFilter,
};
use crate::session::Session;
use crate::statement::{self, Work};

/// Runs statements in this process, with all of DataFusion's optimisations.
#[derive(Debug)]
pub struct LocalQueryService {
    engine: Arc<Engine>,
    sessions: Mutex<HashMap<SessionId, Arc<OpenSession>>>,
    /// One permit for each statement that runs.
    running: Arc<Semaphore>,
}

#[derive(Debug)]
struct OpenSession {
    session: Arc<Session>,
    /// Cancels every statement of the session when it is closed.
    cancellation: CancellationToken,
    used_ms: AtomicI64,
}

/// One use of a session: as long as this lives the session is not idle, and afterwards it has just been used.
struct InUse {
    open: Arc<OpenSession>,
    clock: Clock,
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.open.used_ms.store(self.clock.unix_ms(), Ordering::Relaxed);
    }
}

impl LocalQueryService {
    /// A service over an engine.
    pub fn new(engine: Arc<Engine>) -> Arc<Self> {
        let running = Arc::new(Semaphore::new(engine.settings.queries_max.max(1)));
        Arc::new(Self { engine, sessions: Mutex::new(HashMap::new()), running })
    }

    fn open(&self, id: &SessionId) -> Result<Arc<OpenSession>> {
        let sessions = self.sessions.lock();
        let open = sessions.get(id).ok_or_else(|| Error::not_found(format!("session {id} is closed")))?;
        open.used_ms.store(self.engine.clock.unix_ms(), Ordering::Relaxed);
        Ok(Arc::clone(open))
    }

    fn session(&self, id: &SessionId) -> Result<Arc<Session>> {
        Ok(Arc::clone(&self.open(id)?.session))
    }

    /// What may be done with a statement of a job that was interrupted.
    pub async fn repeat(&self, session: &SessionId, sql: &str) -> Result<Repeat> {
        let session = self.session(session)?;
        statement::repeat(&session, sql).await
    }

    /// Plans a query for a stream job.
    pub async fn plan_stream(&self, session: &SessionId, sql: &str) -> Result<StreamPlan> {
        let session = self.session(session)?;
        statement::plan_stream(&session, sql).await
    }

    /// Plans an INSERT or a statement set for a stream job.
    pub async fn plan_inserts(&self, session: &SessionId, sql: &str) -> Result<Vec<StreamInsert>> {
        let session = self.session(session)?;
        let sql = sql.to_owned();
        run::on_own_thread(async move { statement::plan_stream_inserts(&session, &sql).await }).await
    }

    /// Opens a session in which the text of a stream job means what it meant when the job was submitted: the user's, with the
    /// same current schema, dialect and settings, and with the streams' tables as they were.
    ///
    /// # Errors
    /// `InvalidInput` for a job of another kind; those of [`QueryService::open_session`].
    pub async fn open_stream_session(&self, job: &Job, detail: &Detail) -> Result<SessionId> {
        let Some(stream) = &detail.stream else {
            return Err(Error::invalid_input(format!("job '{}' is no stream", job.id)));
        };
        let defaults = SessionDefaults {
            catalog: Some(detail.catalog.clone()),
            schema: Some(detail.schema.clone()),
            options: Vec::new(),
        };
        let id = self.open_session(&job.user, defaults).await?;
        match self.session(&id).and_then(|session| session.continue_stream(stream)) {
            Ok(()) => Ok(id),
            Err(error) => {
                self.close_session(&id).await?;
                Err(error)
            }
        }
    }

    /// Says which step of a job the next statement of a session is: its commit is that step, or does not happen.
    pub fn set_step(&self, session: &SessionId, step: Option<JobStep>) -> Result<()> {
        self.session(session)?.set_step(step);
        Ok(())
    }

    fn in_use(&self, id: &SessionId) -> Result<InUse> {
        Ok(InUse { open: self.open(id)?, clock: self.engine.clock.clone() })
    }

    /// Closes sessions that nobody used for too long. A statement that still runs holds its session's `Arc`, and such a
    /// session is kept.
    fn close_idle(&self) {
        let oldest_ms = self.engine.clock.unix_ms().saturating_sub_unsigned(self.engine.settings.session_idle_ms);
        self.sessions.lock().retain(|_, open| {
            let is_in_use = Arc::strong_count(open) > 1 || Arc::strong_count(&open.session) > 1;
            let keep = is_in_use || open.used_ms.load(Ordering::Relaxed) >= oldest_ms;
            if !keep {
                open.cancellation.cancel();
            }
            keep
        });
    }
}

#[async_trait]
impl QueryService for LocalQueryService {
    async fn open_session(&self, user: &str, defaults: SessionDefaults) -> Result<SessionId> {
        self.close_idle();
        let limit = self.engine.settings.sessions_max;
        let full = || {
            Error::resource_exhausted(format!("{limit} sessions are open"))
                .with_hint("close some, or raise engine.sessions_max")
        };
        if self.sessions.lock().len() >= limit {
            return Err(full());
        }
        let id = SessionId(ids::new_secret());
        let options = defaults.options.clone();
        let session = Session::open(Arc::clone(&self.engine), id.clone(), user, defaults).await?;
        let open = OpenSession {
            session,
            cancellation: CancellationToken::new(),
            used_ms: AtomicI64::new(self.engine.clock.unix_ms()),
        };
        {
            let mut sessions = self.sessions.lock();
            // Asked again: others opened theirs while this one was made.
            if sessions.len() >= limit {
                return Err(full());
            }
            sessions.insert(id.clone(), Arc::new(open));
        }
        for (key, value) in options {
            if let Err(error) = self.set_option(&id, &key, &value).await {
                self.close_session(&id).await?;
                return Err(error);
            }
        }
        Ok(id)
    }

    async fn close_session(&self, session: &SessionId) -> Result<()> {
        let open = self.sessions.lock().remove(session);
        let open = open.ok_or_else(|| Error::not_found(format!("session {session} is closed")))?;
        open.cancellation.cancel();
        Ok(())
    }

    async fn set_option(&self, session: &SessionId, key: &str, value: &str) -> Result<()> {
        let session = self.session(session)?;
        match key {
            "catalog" => {
                let schema = session.schema();
                let schema = match session.catalogs().has_schema(value, &schema).await? {
                    true => schema,
                    false => crate::catalogs::first_schema(value).to_string(),
                };
                session.set_current(value, &schema).await
            }
            "schema" => session.set_current(&session.catalog(), value).await,
            _ => statement::set_option(&session, key, value).await,
        }
    }

    async fn options(&self, session: &SessionId) -> Result<Vec<(String, String)>> {
        let session = self.session(session)?;
        let mut options = vec![("catalog".to_string(), session.catalog()), ("schema".to_string(), session.schema())];
        let entries = session.state().config_options().entries();
        options.extend(entries.into_iter().filter_map(|entry| entry.value.map(|value| (entry.key, value))));
        options.extend(session.stream_settings());
        Ok(options)
    }

    async fn describe(&self, session: &SessionId, sql: &str) -> Result<Description> {
        let session = self.session(session)?;
        let sql = sql.to_string();
        let (planned, schema) = run::on_own_thread(async move {
            let mut planned = statement::plan(&session, &sql, None).await?;
            let schema = match &planned.work {
                // The physical plan's, which is the batches': the logical one may be vaguer about NULLs. With parameters
                // open there is no physical plan yet.
                Work::Plan(plan) if planned.parameters.fields().is_empty() => {
                    session.state().create_physical_plan(plan).await.map_err(from_datafusion)?.schema()
                }
                Work::Plan(_) | Work::Task(_) => Arc::clone(&planned.schema),
            };
            // Nothing is run, and the work must not outlive the session.
            planned.work = Work::Task(Box::pin(async { Ok(Vec::new()) }));
            Ok((planned, schema))
        })
        .await?;
        Ok(Description { kind: planned.kind, schema, parameters: planned.parameters })
    }

    async fn submit(&self, session: &SessionId, statement: Statement) -> Result<Query> {
        self.close_idle();
        run::submit(self.in_use(session)?, Arc::clone(&self.running), statement).await
    }

    async fn ingest(
        &self,
        session: &SessionId,
        target: IngestTarget,
        schema: SchemaRef,
        rows: BatchStream,
    ) -> Result<u64> {
        let open = self.open(session)?;
        let source = ingest::Source::register(&open.session, schema, rows)?;
        let mut written = 0;
        for sql in source.statements(&open.session, &target).await? {
            let query = run::submit(self.in_use(session)?, Arc::clone(&self.running), Statement::new(sql)).await?;
            written += query.run().await?;
        }
        Ok(written)
    }

    async fn cancel(&self, session: &SessionId, query: &QueryId) -> Result<()> {
        let session = self.session(session)?;
        self.engine.queries.cancel(query, &session.user)
    }

    async fn progress(&self, session: &SessionId) -> Result<Option<ProgressReading>> {
        self.session(session)?;
        Ok(self.engine.queries.progress(session))
    }

    async fn catalogs(&self, session: &SessionId) -> Result<Vec<String>> {
        Ok(self.session(session)?.catalogs().names())
    }

    async fn schemas(
        &self,
        session: &SessionId,
        catalog: Option<&str>,
        schema_pattern: Option<&str>,
    ) -> Result<Vec<(String, String)>> {
        let session = self.session(session)?;
        let mut found = Vec::new();
        for catalog in session.catalogs().names().into_iter().filter(|name| catalog.is_none_or(|wanted| wanted == name))
        {
            for schema in session.catalogs().schemas(&catalog).await? {
                if schema_pattern.is_none_or(|pattern| like(pattern, &schema)) {
                    found.push((catalog.clone(), schema));
                }
            }
        }
        Ok(found)
    }

    async fn tables(&self, session: &SessionId, filter: &TableFilter) -> Result<Vec<TableEntry>> {
        let schemas = self.schemas(session, filter.catalog.as_deref(), filter.schema_pattern.as_deref()).await?;
        let session = self.session(session)?;
        let mut found = Vec::new();
        for (catalog, schema) in schemas {
            for (table, kind) in session.catalogs().tables(&catalog, &schema).await? {
                let wanted = filter.table_pattern.as_deref().is_none_or(|pattern| like(pattern, &table))
                    && (filter.kinds.is_empty() || filter.kinds.contains(&kind));
                if !wanted {
                    continue;
                }
                let columns = match filter.with_columns {
                    true => match session.columns(&catalog, &schema, &table).await {
                        Ok(columns) => Some(columns),
                        // A listing must not fail for one broken table; a client sees it without columns.
                        Err(error) => {
                            tracing::warn!(catalog, schema, table, %error, "table listed without its columns");
                            Some(Arc::new(arrow::datatypes::Schema::empty()))
                        }
                    },
                    false => None,
                };
                found.push(TableEntry { catalog: catalog.clone(), schema: schema.clone(), table, kind, columns });
            }
        }
        Ok(found)
    }

    fn split(&self, sql: &str) -> Result<Vec<String>> {
        statement::split(sql)
    }

    fn words(&self) -> Vec<String> {
        statement::words()
    }
}

/// SQL LIKE with `%` and `_`, and `\` to escape them; case matters.
fn like(pattern: &str, text: &str) -> bool {
    let matched = arrow::compute::kernels::comparison::like(
        &arrow::array::Scalar::new(arrow::array::StringArray::from(vec![text])),
        &arrow::array::Scalar::new(arrow::array::StringArray::from(vec![pattern])),
    );
    matched.is_ok_and(|matched| matched.value(0))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use arrow::array::{ArrayRef, RecordBatch, StringArray};
    use futures::{StreamExt, stream};
    use tereza_catalog::store::sqlite::SqliteStore;
    use tereza_runtime::ErrorKind;
    use tereza_runtime::settings::Settings;

    use super::*;
    use crate::query::{IfExists, IfNotExists};

    const IDLE_MS: i64 = 1_000;

    /// A service that runs one statement at a time; its folder lives as long as the last value.
    async fn service(clock: &Clock) -> (Arc<LocalQueryService>, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = Settings::default();
        settings.engine.spill_dir = dir.path().join("spill");
        settings.engine.session_idle_ms = IDLE_MS.unsigned_abs();
        settings.engine.queries_max = 1;
        settings.warehouse.url = dir.path().to_str().unwrap().to_owned();
        let catalog = SqliteStore::open_in_memory(clock.clone()).await.unwrap();
        let engine = Engine::over(&settings, Arc::new(catalog), clock.clone()).await.unwrap();
        (LocalQueryService::new(engine), dir)
    }

    #[tokio::test]
    async fn a_session_is_not_idle_while_its_statement_runs_nor_just_afterwards() {
        let clock = Clock::fixed(0);
        let (service, _dir) = service(&clock).await;
        let session = service.open_session("ada", SessionDefaults::default()).await.unwrap();
        let long = service.submit(&session, Statement::new("SELECT 1")).await.unwrap();
        clock.advance_ms(2 * IDLE_MS);
        assert_eq!(long.run().await.unwrap(), 1);
        // Each statement looks for idle sessions first.
        service.submit(&session, Statement::new("SELECT 1")).await.unwrap();
        clock.advance_ms(2 * IDLE_MS);
        let error = service.submit(&session, Statement::new("SELECT 1")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn a_cancelled_statement_lets_go_though_nobody_reads_it() {
        let (service, _dir) = service(&Clock::fixed(0)).await;
        let session = service.open_session("ada", SessionDefaults::default()).await.unwrap();
        let mut unread = service.submit(&session, Statement::new("SELECT 1")).await.unwrap();
        assert!(unread.next().await.unwrap().is_ok());
        service.cancel(&session, &unread.id().clone()).await.unwrap();

        let next = service.submit(&session, Statement::new("SELECT 2")).await.unwrap();
        let rows = tokio::time::timeout(Duration::from_secs(30), next.run()).await.expect("a free permit");
        assert_eq!(rows.unwrap(), 1);
        assert_eq!(unread.next().await.unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
        assert!(unread.next().await.is_none());
    }

    #[tokio::test]
    async fn rows_of_the_session_are_made_anew_and_files_are_not_written_twice() {
        let (service, folder) = service(&Clock::fixed(0)).await;
        let session = service.open_session("ada", SessionDefaults::default()).await.unwrap();
        let files = folder.path().join("files");
        std::fs::create_dir(&files).unwrap();
        let external =
            format!("CREATE EXTERNAL TABLE memory.public.files (a INT) STORED AS CSV LOCATION '{}/'", files.display());
        for sql in ["CREATE TEMPORARY TABLE numbers AS VALUES (1)", &external] {
            service.submit(&session, Statement::new(sql)).await.unwrap().run().await.unwrap();
        }
        for (expected, sql) in [
            (Repeat::Always, "INSERT INTO numbers VALUES (2)"),
            (Repeat::Always, "EXPLAIN ANALYZE INSERT INTO numbers VALUES (2)"),
            (Repeat::Never, "INSERT INTO memory.public.files VALUES (2)"),
            (Repeat::Never, "INSERT INTO memory.public.nowhere VALUES (2)"),
        ] {
            assert_eq!(service.repeat(&session, sql).await.unwrap(), expected, "{sql}");
        }
    }

    #[tokio::test]
    async fn rows_are_added_to_the_table_that_their_first_ingest_made_whatever_its_case() {
        let (service, _dir) = service(&Clock::fixed(0)).await;
        let session = service.open_session("ada", SessionDefaults::default()).await.unwrap();
        let names: ArrayRef = Arc::new(StringArray::from(vec!["ada"]));
        let batch = RecordBatch::try_from_iter([("Name", names)]).unwrap();
        let target = IngestTarget {
            catalog: None,
            schema: None,
            table: "People".into(),
            if_not_exists: IfNotExists::Create,
            if_exists: IfExists::Append,
            temporary: false,
        };
        for _ in 0..2 {
            let rows = stream::iter([Ok(batch.clone())]).boxed();
            assert_eq!(service.ingest(&session, target.clone(), batch.schema(), rows).await.unwrap(), 1);
        }
        let all = service.submit(&session, Statement::new("SELECT name FROM people")).await.unwrap();
        assert_eq!(all.run().await.unwrap(), 2);
    }

    #[test]
    fn patterns_are_those_of_sql() {
        assert!(like("line%", "lineitem"));
        assert!(like("_rders", "orders"));
        assert!(like(r"a\_b", "a_b"));
        assert!(!like(r"a\_b", "axb"));
        assert!(!like("Orders", "orders"));
    }
}

use std::future::Future;
use std::time::Duration;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, Executor, SqliteConnection};
use tereza_engine::QueryService;
use tereza_engine::jobs::LAST_TRIES;
use tereza_engine::query::{Query, SessionDefaults, SessionId, Statement};
use tereza_runtime::Settings;
use tokio::task::JoinHandle;

use super::*;

/// An engine on a folder of its own.
struct World {
    service: Arc<LocalQueryService>,
    engine: Arc<Engine>,
    session: SessionId,
    settings: Settings,
    _folder: tempfile::TempDir,
}

impl World {
    async fn open() -> Self {
        Self::with(|_| ()).await
    }

    async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = Settings::in_folder(folder.path()).unwrap();
        change(&mut settings);
        settings.jobs.retry_pause_ms = 1;
        // Nobody listens there.
        settings.s3.defaults.endpoint = "http://127.0.0.1:1".into();
        settings.s3.defaults.allow_http = true;
        settings.s3.defaults.retries_max = 0;
        let engine = Engine::open(&settings).await.unwrap();
        let service = LocalQueryService::new(Arc::clone(&engine));
        let session = service.open_session("ada", SessionDefaults::default()).await.unwrap();
        Self { service, engine, session, settings, _folder: folder }
    }

    async fn rows(&self, sql: &str) -> Vec<arrow::array::RecordBatch> {
        let query = self.service.submit(&self.session, Statement::new(sql)).await.unwrap();
        query.collect().await.unwrap()
    }

    async fn submit(&self, text: &str) -> String {
        self.call(&format!("CALL system.runtime.submit_job('{}')", text.replace('\'', "''"))).await
    }

    async fn call(&self, sql: &str) -> String {
        let rows = self.rows(sql).await;
        arrow::util::display::array_value_to_string(rows[0].column(0), 0).unwrap()
    }

    /// Runs jobs until this one has ended, and returns how.
    async fn run(&self, id: &str) -> (Job, Detail) {
        let stop = CancellationToken::new();
        let runner = JobRunner::new(&self.engine, Arc::clone(&self.service), self.settings.jobs.clone());
        let running = tokio::spawn(runner.run(stop.clone()));
        let ended = || async {
            let job = self.record(id).await;
            job.1.ended_ms.is_some().then_some(job)
        };
        let ended = awaited(ended).await;
        stop.cancel();
        running.await.unwrap().unwrap();
        ended
    }

    async fn record(&self, id: &str) -> (Job, Detail) {
        self.engine.jobs().change(id, |_, _| Ok(())).await.unwrap()
    }

    /// Runs a job until its first statement waits for the end of the query that is returned.
    async fn run_to_its_turn(&self, id: &str, stop: &CancellationToken) -> (Query, JoinHandle<Result<()>>) {
        let sql = "SELECT * FROM generate_series(1, 1000000)";
        let mut first = self.service.submit(&self.session, Statement::new(sql)).await.unwrap();
        first.next().await.unwrap().unwrap();
        let runner = JobRunner::new(&self.engine, Arc::clone(&self.service), self.settings.jobs.clone());
        let running = tokio::spawn(runner.run(stop.clone()));
        awaited(|| async { self.record(id).await.1.begun }).await;
        (first, running)
    }

    /// Another process writes to the catalog until this is closed.
    async fn lock(&self) -> SqliteConnection {
        let mut other = self.catalog().await;
        other.execute("BEGIN IMMEDIATE").await.unwrap();
        other
    }

    /// The catalog's own tables.
    async fn catalog(&self) -> SqliteConnection {
        let file = self.settings.data.dir.join("catalog.db");
        SqliteConnectOptions::new().filename(file).connect().await.unwrap()
    }
}

/// What there is at last.
async fn awaited<T, F: Future<Output = Option<T>>>(look: impl Fn() -> F) -> T {
    let looking = async {
        loop {
            match look().await {
                Some(found) => return found,
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), looking).await.expect("in time")
}

#[tokio::test]
async fn a_statement_that_nobody_knows_of_whether_it_is_done_fails_its_job() {
    let world = World::open().await;
    let id = world.submit("CREATE TABLE t (a INT); CREATE TABLE u (a INT)").await;
    // As a process leaves it that died in the second statement.
    let jobs = world.engine.jobs();
    let died = jobs.change(&id, |job, detail| {
        (job.state, job.owner, job.attempts, job.step) = (RUNNING.into(), Some("dead".into()), 1, 1);
        detail.begun = Some(1);
        Ok(())
    });
    died.await.unwrap();
    let (job, detail) = world.run(&id).await;
    let (kind, message) = detail.error.unwrap();
    assert_eq!((job.state.as_str(), job.attempts, kind.as_str()), (FAILED, 2, "Conflict"));
    assert!(message.contains("statement 2 of 2") && message.contains("is not known"), "{message}");
}

#[tokio::test]
async fn what_changes_the_session_runs_in_each_attempt_and_what_is_done_does_not() {
    let world = World::open().await;
    world.rows("CREATE SCHEMA s").await;
    let id = world
        .submit(
            "USE s; CREATE TEMPORARY TABLE numbers AS VALUES (1), (2); CREATE TABLE t AS SELECT * FROM numbers; \
             INSERT INTO t SELECT * FROM numbers",
        )
        .await;
    // As a process leaves it that died before the last statement, whose table is there.
    world.rows("CREATE TABLE s.t AS VALUES (7)").await;
    let jobs = world.engine.jobs();
    let died = jobs.change(&id, |job, _| {
        (job.state, job.owner, job.attempts, job.step) = (RUNNING.into(), Some("dead".into()), 1, 3);
        Ok(())
    });
    died.await.unwrap();
    let (job, detail) = world.run(&id).await;
    assert_eq!((job.state.as_str(), job.step, detail.rows), (SUCCEEDED, 4, Some(2)), "{detail:?}");
    assert_eq!(world.rows("SELECT * FROM s.t").await.iter().map(|batch| batch.num_rows()).sum::<usize>(), 3);
}

#[tokio::test]
async fn a_job_that_ends_its_process_each_time_is_not_run_for_ever() {
    let world = World::open().await;
    let id = world.submit("SELECT 1").await;
    let jobs = world.engine.jobs();
    let died = jobs.change(&id, |job, _| {
        (job.state, job.owner, job.attempts) = (RUNNING.into(), Some("dead".into()), 3);
        Ok(())
    });
    died.await.unwrap();
    let (job, detail) = world.run(&id).await;
    assert_eq!((job.state.as_str(), job.attempts), (FAILED, 3));
    assert!(detail.error.unwrap().1.contains("the process that ran it ended"));
}

#[tokio::test]
async fn a_job_whose_statements_are_all_done_has_succeeded_however_its_process_ended() {
    let world = World::open().await;
    let jobs = world.engine.jobs();
    for (attempts, timeout_ms) in [(3, None), (1, Some(1))] {
        let id = world.submit("SELECT 1").await;
        let died = jobs.change(&id, |job, detail| {
            (job.state, job.owner, job.attempts, job.step) = (RUNNING.into(), Some("dead".into()), attempts, 1);
            (detail.started_ms, detail.timeout_ms) = (Some(0), timeout_ms);
            Ok(())
        });
        died.await.unwrap();
        let cancel = Statement::new(format!("CALL system.runtime.cancel_job('{id}')"));
        let refused = world.service.submit(&world.session, cancel).await.unwrap().run().await.unwrap_err();
        assert!(refused.message().contains("has succeeded"), "{refused}");
        let (job, detail) = world.run(&id).await;
        assert_eq!((job.state.as_str(), job.attempts, detail.error), (SUCCEEDED, attempts, None));
    }
}

#[tokio::test]
async fn a_statement_that_only_waited_for_its_turn_begins_again_after_the_process_was_asked_to_end() {
    let world = World::with(|settings| settings.engine.queries_max = 1).await;
    let id = world.submit("CREATE TABLE t (a INT)").await;
    let stop = CancellationToken::new();
    let (first, running) = world.run_to_its_turn(&id, &stop).await;
    stop.cancel();
    running.await.unwrap().unwrap();
    let (job, detail) = world.record(&id).await;
    assert_eq!((job.state.as_str(), detail.begun), (QUEUED, None));
    drop(first);
    let (job, detail) = world.run(&id).await;
    assert_eq!(job.state, SUCCEEDED, "{detail:?}");
}

#[tokio::test]
async fn a_job_whose_record_cannot_be_read_holds_up_no_other() {
    let world = World::open().await;
    let spoilt = world.submit("SELECT 1").await;
    let running = world.submit("SELECT 2").await;
    let mut catalog = world.catalog().await;
    catalog.execute("UPDATE TZ_JOBS SET DETAIL = '{'").await.unwrap();
    sqlx::query("UPDATE TZ_JOBS SET STATE = 'running' WHERE JOB_ID = ?")
        .bind(&running)
        .execute(&mut catalog)
        .await
        .unwrap();
    let next = world.submit("SELECT 3").await;
    assert_eq!(world.run(&next).await.0.state, SUCCEEDED);
    for id in [spoilt, running] {
        let (job, detail) = world.record(&id).await;
        assert_eq!(job.state, FAILED);
        assert!(detail.error.unwrap().1.contains("cannot be read"));
    }
}

/// A world with a job whose statement has made its file, and whose end the catalog does not take; the folder of the file.
async fn done_and_not_noted(stop: &CancellationToken) -> (World, String, JoinHandle<Result<()>>, SqliteConnection) {
    let world = World::with(|settings| settings.engine.queries_max = 1).await;
    let folder = world.settings.data.dir.join("made");
    let id = world.submit(&format!("COPY (SELECT 1 AS a) TO '{}/' STORED AS CSV", folder.display())).await;
    let (first, running) = world.run_to_its_turn(&id, stop).await;
    let lock = world.lock().await;
    drop(first);
    awaited(|| async { folder.read_dir().ok()?.next().map(drop) }).await;
    // It has its turn when the other has ended.
    world.rows("SELECT 1").await;
    (world, id, running, lock)
}

#[tokio::test]
async fn what_is_done_is_noted_when_the_process_is_asked_to_end_before() {
    let stop = CancellationToken::new();
    let (world, id, running, lock) = done_and_not_noted(&stop).await;
    stop.cancel();
    tokio::time::sleep(LAST_TRIES / 3).await;
    lock.close().await.unwrap();
    running.await.unwrap().unwrap();
    let (job, detail) = world.record(&id).await;
    assert_eq!((job.state.as_str(), job.attempts, detail.rows), (SUCCEEDED, 1, Some(1)), "{detail:?}");
}

#[tokio::test]
async fn a_job_whose_record_does_not_change_in_time_is_left_to_the_next_process() {
    let stop = CancellationToken::new();
    let (world, id, running, lock) = done_and_not_noted(&stop).await;
    stop.cancel();
    tokio::time::timeout(2 * LAST_TRIES, running).await.expect("in time").unwrap().unwrap();
    lock.close().await.unwrap();
    let (job, detail) = world.record(&id).await;
    assert_eq!((job.state.as_str(), job.step, detail.error), (RUNNING, 0, None));
}

#[tokio::test]
async fn a_record_is_changed_when_the_catalog_answers_again() {
    let stop = CancellationToken::new();
    let (world, id, running, lock) = done_and_not_noted(&stop).await;
    // Longer than one try waits.
    tokio::time::sleep(Duration::from_secs(11)).await;
    lock.close().await.unwrap();
    awaited(|| async { (world.record(&id).await.0.state == SUCCEEDED).then_some(()) }).await;
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_name_stands_for_a_text_with_what_its_names_mean() {
    let world = World::open().await;
    world.rows("CREATE SCHEMA s").await;
    let sql = "CALL system.runtime.submit_job('SELECT 1', 'nightly')";
    let id = world.call(sql).await;
    assert_eq!(world.call(sql).await, id);
    world.rows("USE s").await;
    let query = world.service.submit(&world.session, Statement::new(sql)).await.unwrap();
    assert_eq!(query.collect().await.unwrap_err().kind(), ErrorKind::AlreadyExists);
}

#[tokio::test]
async fn errors_that_may_pass_are_tried_again_and_others_are_not() {
    let world = World::open().await;
    let id = world.submit("SELECT * FROM nowhere").await;
    let (job, detail) = world.run(&id).await;
    assert_eq!((job.state.as_str(), job.attempts), (FAILED, 1), "{detail:?}");
    let id = world.submit("SELECT * FROM 's3://bucket/none.parquet'").await;
    let (job, detail) = world.run(&id).await;
    let kind = detail.error.clone().unwrap().0;
    assert_eq!((job.state.as_str(), kind.as_str(), job.attempts), (FAILED, "Unavailable", 3), "{detail:?}");
}

//! Runs the jobs of the catalog: some at once, of the greatest priority first, each again while that may help.
//!
//! A job belongs to the process that wrote itself into its record. One whose process died is queued again by the next
//! process that has the catalog; what it had committed is noted in its record by the commits themselves, so that nothing is
//! committed twice (`docs/decisions/0006-jobs.md`).

mod attempt;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tereza_engine::jobs::{CANCELLED, Detail, FAILED, Job, Jobs, QUEUED, RUNNING, SUCCEEDED};
use tereza_engine::{Engine, LocalQueryService};
use tereza_runtime::{Error, ErrorKind, Result, settings};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::attempt::{Attempt, Ended};

/// The longest pause before a job is started again, or the catalog asked again.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Runs jobs in this process.
pub struct JobRunner {
    jobs: Arc<Jobs>,
    service: Arc<LocalQueryService>,
    settings: settings::Jobs,
    process_id: String,
}

impl JobRunner {
    /// Jobs of the catalog of `engine`, whose statements `service` runs.
    pub fn new(engine: &Engine, service: Arc<LocalQueryService>, settings: settings::Jobs) -> Arc<Self> {
        Arc::new(Self { jobs: engine.jobs(), service, settings, process_id: engine.process_id().to_owned() })
    }

    /// Runs jobs until `stop` fires; those that run then are queued again, for the next process.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) -> Result<()> {
        self.adopt(&stop).await?;
        let mut running = JoinSet::new();
        let mut pause = Pause::new(self.settings.retry_pause_ms);
        while !stop.is_cancelled() {
            let mut wait = None;
            while running.len() < self.settings.running_max {
                match self.take_next(&stop).await {
                    Ok(Some(attempt)) => {
                        pause = Pause::new(self.settings.retry_pause_ms);
                        running.spawn(Arc::clone(&self).run_job(attempt, stop.clone()));
                    }
                    Ok(None) => break,
                    Err(error) => {
                        tracing::warn!(%error, "the next job cannot be taken yet");
                        wait = Some(pause.next());
                        break;
                    }
                }
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.jobs.queued(), if running.len() < self.settings.running_max => {}
                Some(_) = running.join_next() => {}
                () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {}
            }
        }
        while running.join_next().await.is_some() {}
        Ok(())
    }

    /// Queues the jobs of processes that died: the catalog is this process's now.
    async fn adopt(&self, stop: &CancellationToken) -> Result<()> {
        for Job { id, .. } in self.jobs.running().await? {
            let now_ms = self.jobs.now_ms();
            let adopted = self.change(&id, stop, |job, detail| {
                if job.state != RUNNING {
                    return Ok(());
                }
                if detail.may_start(job) && !detail.is_done(job) {
                    job.state = QUEUED.into();
                    job.owner = None;
                    detail.note(now_ms, job.attempts, "queued again: the process that ran it ended");
                } else {
                    let error =
                        Error::unavailable(format!("the process that ran it ended, at attempt {}", job.attempts));
                    fail(job, detail, now_ms, &error);
                }
                Ok(())
            });
            match adopted.await {
                Ok((job, _)) => {
                    tracing::info!(job = id, state = job.state, "a job of a process that ended was taken over");
                }
                // The others can be.
                Err(error) => tracing::error!(job = id, %error, "a job of a process that ended is not taken over"),
            }
        }
        Ok(())
    }

    /// Takes the next job, if one waits: its first attempt has begun then.
    async fn take_next(&self, stop: &CancellationToken) -> Result<Option<Attempt>> {
        loop {
            let Some(job) = self.jobs.next().await? else { return Ok(None) };
            self.jobs.enter(&job.id);
            match self.start(&job.id, stop).await {
                Ok(attempt) => return Ok(Some(attempt)),
                Err(error) => {
                    self.jobs.leave(&job.id);
                    // Cancelled at this moment: there may be another.
                    if error.kind() != ErrorKind::Cancelled {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// Notes that an attempt begins; `Cancelled` if the job is no longer to be run.
    async fn start(&self, id: &str, stop: &CancellationToken) -> Result<Attempt> {
        let now_ms = self.jobs.now_ms();
        let (job, detail) = self
            .change(id, stop, |job, detail| {
                let is_mine = job.state == RUNNING && job.owner.as_ref() == Some(&self.process_id);
                if job.state != QUEUED && !is_mine {
                    return Err(Error::cancelled(format!("job '{}' is {}", job.id, job.state)));
                }
                job.state = RUNNING.into();
                job.owner = Some(self.process_id.clone());
                job.attempts += 1;
                detail.started_ms.get_or_insert(now_ms);
                let from = job.step + 1;
                detail.note(now_ms, job.attempts, format_args!("attempt {} begins at statement {from}", job.attempts));
                Ok(())
            })
            .await?;
        Ok(Attempt { job, detail })
    }

    /// Runs one job to its end; whatever happens is in its record afterwards.
    async fn run_job(self: Arc<Self>, first: Attempt, stop: CancellationToken) {
        metrics::gauge!("tereza_jobs_running").increment(1);
        let id = first.job.id.clone();
        let ended = AssertUnwindSafe(self.attempts(first, &stop)).catch_unwind().await;
        let ended = ended.unwrap_or_else(|_| Err(Error::internal("the job's runner panicked")));
        if let Err(error) = ended {
            tracing::error!(job = id, %error, "a job could not be run");
            self.end_failed(&id, &stop, &error).await;
        }
        self.jobs.leave(&id);
        metrics::gauge!("tereza_jobs_running").decrement(1);
        if let Err(error) = self.jobs.forget_old().await {
            tracing::warn!(%error, "old jobs are not forgotten yet");
        }
    }

    /// Runs the attempt that has begun, and others while that may help.
    async fn attempts(&self, mut attempt: Attempt, stop: &CancellationToken) -> Result<()> {
        let id = &attempt.job.id.clone();
        let cancellation = self.jobs.enter(id);
        let mut pause = Pause::new(self.settings.retry_pause_ms);
        loop {
            let ended = attempt.run(self, &cancellation, stop).await;
            let now_ms = self.jobs.now_ms();
            let number = attempt.job.attempts;
            let has_begun = self.jobs.has_begun(id);
            let mut starts_again = false;
            let (job, _) = self
                .change(id, stop, |job, detail| {
                    starts_again = false;
                    // Cancelled, and noted by who did it.
                    if job.state != RUNNING || job.attempts != number {
                        return Ok(());
                    }
                    match &ended {
                        Ended::Done => succeed(job, detail, now_ms),
                        Ended::Drained if !detail.is_done(job) => {
                            // What only waited for its turn has not begun.
                            if !has_begun {
                                detail.begun = attempt.detail.begun;
                            }
                            job.state = QUEUED.into();
                            job.owner = None;
                            detail.drained += 1;
                            detail.note(now_ms, number, "queued again: the process is asked to end");
                        }
                        Ended::Cancelled => {
                            job.state = CANCELLED.into();
                            job.owner = None;
                            detail.ended_ms = Some(now_ms);
                        }
                        Ended::Drained => succeed(job, detail, now_ms),
                        Ended::Failed { error, may_pass }
                            if *may_pass && detail.may_start(job) && !detail.is_done(job) =>
                        {
                            starts_again = true;
                            detail.note(now_ms, number, format_args!("failed, and starts again: {}", described(error)));
                        }
                        Ended::Failed { error, .. } => fail(job, detail, now_ms, error),
                    }
                    Ok(())
                })
                .await?;
            if !starts_again {
                tracing::info!(job = id, state = job.state, attempts = job.attempts, "a job ended");
                metrics::counter!("tereza_jobs_ended_total", "state" => job.state).increment(1);
                return Ok(());
            }
            tokio::select! {
                () = cancellation.cancelled() => return Ok(()),
                // The record says that it runs: the next round queues it.
                () = stop.cancelled() => {}
                () = tokio::time::sleep(pause.next()) => {}
            }
            attempt = match self.start(id, stop).await {
                Err(error) if error.kind() == ErrorKind::Cancelled => return Ok(()),
                started => started?,
            };
        }
    }

    /// Changes a job's record, as often as that needs to be tried; gives up only when the process is asked to end.
    async fn change(
        &self,
        id: &str,
        stop: &CancellationToken,
        mut change: impl FnMut(&mut Job, &mut Detail) -> Result<()> + Send,
    ) -> Result<(Job, Detail)> {
        use ErrorKind::{Conflict, ResourceExhausted, Unavailable};

        let mut pause = Pause::new(self.settings.retry_pause_ms);
        loop {
            match self.jobs.change(id, &mut change).await {
                Err(error)
                    if [Unavailable, ResourceExhausted, Conflict].contains(&error.kind()) && !stop.is_cancelled() =>
                {
                    tracing::warn!(job = id, %error, "the record of a job cannot be changed yet");
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = tokio::time::sleep(pause.next()) => {}
                    }
                }
                changed => return changed,
            }
        }
    }

    async fn end_failed(&self, id: &str, stop: &CancellationToken, error: &Error) {
        let now_ms = self.jobs.now_ms();
        let failed = self.change(id, stop, |job, detail| {
            if job.state == RUNNING && job.owner.as_ref() == Some(&self.process_id) {
                fail(job, detail, now_ms, error);
            }
            Ok(())
        });
        if let Err(error) = failed.await {
            tracing::error!(job = id, %error, "the end of a job could not be noted: it begins again with the next process");
        }
    }
}

fn succeed(job: &mut Job, detail: &mut Detail, now_ms: i64) {
    job.state = SUCCEEDED.into();
    job.owner = None;
    detail.ended_ms = Some(now_ms);
    detail.note(now_ms, job.attempts, "succeeded");
}

/// Notes that a job failed. One whose statements are all done has succeeded, whatever happened then.
fn fail(job: &mut Job, detail: &mut Detail, now_ms: i64, error: &Error) {
    if detail.is_done(job) {
        return succeed(job, detail, now_ms);
    }
    job.state = FAILED.into();
    job.owner = None;
    detail.ended_ms = Some(now_ms);
    detail.note(now_ms, job.attempts, format_args!("failed: {}", described(error)));
    detail.error = Some((error.kind().as_str().to_owned(), described(error)));
}

/// The message of an error with its hint.
fn described(error: &Error) -> String {
    match error.hint() {
        Some(hint) => format!("{} (hint: {hint})", error.message()),
        None => error.message().to_owned(),
    }
}

/// Pauses that double.
struct Pause(Duration);

impl Pause {
    fn new(first_ms: u64) -> Self {
        Self(Duration::from_millis(first_ms).min(PAUSE_MAX))
    }

    fn next(&mut self) -> Duration {
        let now = self.0;
        self.0 = (now * 2).min(PAUSE_MAX);
        now
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tereza_engine::QueryService;
    use tereza_engine::query::{SessionDefaults, SessionId, Statement};
    use tereza_runtime::Settings;

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
        async fn run(&self, id: &str) -> (tereza_engine::jobs::Job, Detail) {
            let stop = CancellationToken::new();
            let runner = JobRunner::new(&self.engine, Arc::clone(&self.service), self.settings.jobs.clone());
            let running = tokio::spawn(runner.run(stop.clone()));
            let jobs = self.engine.jobs();
            let ended = tokio::time::timeout(Duration::from_secs(30), async {
                loop {
                    let job = jobs.change(id, |_, _| Ok(())).await.unwrap();
                    if job.1.ended_ms.is_some() {
                        return job;
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            });
            let ended = ended.await.expect("it ends");
            stop.cancel();
            running.await.unwrap().unwrap();
            ended
        }
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
        let sql = "SELECT * FROM generate_series(1, 1000000)";
        let mut first = world.service.submit(&world.session, Statement::new(sql)).await.unwrap();
        first.next().await.unwrap().unwrap();
        let (stop, jobs) = (CancellationToken::new(), world.engine.jobs());
        let runner = JobRunner::new(&world.engine, Arc::clone(&world.service), world.settings.jobs.clone());
        let running = tokio::spawn(runner.run(stop.clone()));
        let record = || jobs.change(&id, |_, _| Ok(()));
        tokio::time::timeout(Duration::from_secs(30), async {
            while record().await.unwrap().1.begun.is_none() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("it waits");
        stop.cancel();
        running.await.unwrap().unwrap();
        let (job, detail) = record().await.unwrap();
        assert_eq!((job.state.as_str(), detail.begun), (QUEUED, None));
        drop(first);
        let (job, detail) = world.run(&id).await;
        assert_eq!(job.state, SUCCEEDED, "{detail:?}");
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

    #[test]
    fn pauses_double_up_to_a_minute() {
        let mut pause = Pause::new(20_000);
        let pauses: Vec<u64> = (0..4).map(|_| pause.next().as_secs()).collect();
        assert_eq!(pauses, [20, 40, 60, 60]);
    }
}

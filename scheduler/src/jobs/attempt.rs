//! One attempt at a job: its statements one after the other in a session of its own, from the first that is not done.

use std::time::Duration;

use parking_lot::Mutex;
use tereza_engine::jobs::{Detail, Job, JobStep, Jobs, RUNNING, Repeat};
use tereza_engine::query::{QueryService, SessionDefaults, SessionId, Statement};
use tereza_runtime::{Error, ErrorKind, Result, clock};
use tokio_util::sync::CancellationToken;

use super::JobRunner;

/// The setting of a session that bounds what its operators hold.
const MEMORY_LIMIT: &str = "datafusion.runtime.memory_limit";
/// Characters of a statement that its error shows.
const SHOWN_CHARS: usize = 60;

/// An attempt, as the job's record was when it began.
pub(super) struct Attempt {
    pub(super) job: Job,
    pub(super) detail: Detail,
    /// The statement that ended last, for the next change of the record.
    done: Mutex<Option<Done>>,
}

/// A statement that has ended well.
struct Done {
    statement: i32,
    at_ms: i64,
    rows: u64,
    text: String,
}

/// How an attempt ended.
pub(super) enum Ended {
    /// All statements are done.
    Done,
    /// The process is asked to end.
    Drained,
    /// Somebody cancelled the job.
    Cancelled,
    /// A statement failed, or the time is over; `may_pass` if another attempt may do better.
    Failed { error: Error, may_pass: bool },
}

impl Attempt {
    pub(super) fn new(job: Job, detail: Detail) -> Self {
        Self { job, detail, done: Mutex::default() }
    }

    /// Notes in the job's record what is done, once.
    pub(super) fn note_done(&self, job: &mut Job, detail: &mut Detail) {
        let done = self.done.lock();
        let Some(Done { statement, at_ms, rows, text }) = &*done else { return };
        if detail.events.last().is_some_and(|last| last.text == *text) {
            return;
        }
        job.step = job.step.max(statement + 1);
        detail.rows = Some(*rows);
        detail.note(*at_ms, job.attempts, text);
    }

    /// Runs the statements that are not done.
    pub(super) async fn run(
        &self,
        runner: &JobRunner,
        cancellation: &CancellationToken,
        stop: &CancellationToken,
    ) -> Ended {
        let service = &runner.service;
        let time_left = self.time_left(&runner.jobs);
        let defaults = SessionDefaults {
            catalog: Some(self.detail.catalog.clone()),
            schema: Some(self.detail.schema.clone()),
            options: self.detail.memory_limit.iter().map(|limit| (MEMORY_LIMIT.to_owned(), limit.clone())).collect(),
        };
        let session = match service.open_session(&self.job.user, defaults).await {
            Ok(session) => session,
            Err(error) => return Ended::Failed { may_pass: error.kind() == ErrorKind::ResourceExhausted, error },
        };
        let ended = tokio::select! {
            biased;
            // First, so that what has just been done is known to be.
            ended = self.statements(runner, &session, stop) => ended.err().unwrap_or(Ended::Done),
            () = cancellation.cancelled() => Ended::Cancelled,
            () = stop.cancelled() => Ended::Drained,
            () = tokio::time::sleep(time_left.unwrap_or_default()), if time_left.is_some() => {
                let limit_ms = self.detail.timeout_ms.unwrap_or_default();
                let error = Error::cancelled(format!("the job took longer than its limit of {limit_ms} ms"));
                Ended::Failed { error, may_pass: false }
            }
        };
        // What runs is cancelled with it.
        let _ = service.close_session(&session).await;
        ended
    }

    /// What is left of the job's time, which begins with its first start.
    fn time_left(&self, jobs: &Jobs) -> Option<Duration> {
        let limit_ms = self.detail.timeout_ms?;
        let spent_ms = jobs.now_ms() - self.detail.started_ms.unwrap_or_else(|| jobs.now_ms());
        Some(Duration::from_millis(limit_ms.saturating_sub(u64::try_from(spent_ms).unwrap_or_default())))
    }

    async fn statements(&self, runner: &JobRunner, session: &SessionId, stop: &CancellationToken) -> Result<(), Ended> {
        let service = &runner.service;
        let statements = service.split(&self.job.text).map_err(for_good)?;
        let script = self.detail.script(statements);
        for (n, sql) in script.iter().enumerate() {
            let n = i32::try_from(n).unwrap_or(i32::MAX);
            let in_statement =
                |error: Error| error.context(format!("statement {} of {}, {}", n + 1, script.len(), shown(sql)));
            let repeat = service.repeat(session, sql).await.map_err(|error| for_good(in_statement(error)))?;
            let is_done = n < self.job.step;
            if is_done && repeat != Repeat::Always {
                continue;
            }
            let run = self.statement(runner, session, stop, sql, n, repeat).await;
            run.map_err(|(error, may_pass)| {
                let may_pass = may_pass && [ErrorKind::Unavailable, ErrorKind::Conflict].contains(&error.kind());
                Ended::Failed { error: in_statement(error), may_pass }
            })?;
        }
        Ok(())
    }

    /// Runs one statement and notes that it is done, if its commit did not. An error comes with whether the statement may be
    /// run once more.
    async fn statement(
        &self,
        runner: &JobRunner,
        session: &SessionId,
        stop: &CancellationToken,
        sql: &str,
        n: i32,
        repeat: Repeat,
    ) -> Result<(), (Error, bool)> {
        let JobRunner { jobs, service, .. } = runner;
        let began = clock::now();
        let step = JobStep { job: self.job.id.clone(), attempt: self.job.attempts, step: n };
        let may_repeat = |error| (error, true);
        if repeat == Repeat::Never && self.detail.begun == u32::try_from(n).ok() {
            let error = Error::conflict("it was interrupted, and whether it is done is not known")
                .with_hint("look, and submit what is left; IF EXISTS, IF NOT EXISTS and OR REPLACE may be repeated");
            return Err((error, false));
        }
        service.set_step(session, (n >= self.job.step).then_some(step)).map_err(may_repeat)?;
        // Nothing has happened until it is run.
        let query = service.submit(session, Statement::new(sql)).await.map_err(may_repeat)?;
        jobs.runs(&self.job.id, &query);
        if repeat == Repeat::Never {
            self.note_begun(runner, stop, n).await.map_err(may_repeat)?;
        }
        let query_id = query.id().clone();
        let rows = query.run().await.map_err(|error| (error, repeat != Repeat::Never))?;
        if n < self.job.step {
            return Ok(());
        }
        let elapsed_ms = began.elapsed().as_millis();
        let text = format!("statement {} is done: {rows} rows in {elapsed_ms} ms (query {query_id})", n + 1);
        *self.done.lock() = Some(Done { statement: n, at_ms: jobs.now_ms(), rows, text });
        // The catalog is asked until it notes that, or the attempt is to end.
        let noted = runner.change(&self.job.id, stop, |job, detail| {
            self.require_running(job)?;
            self.note_done(job, detail);
            Ok(())
        });
        noted.await.map(drop).map_err(may_repeat)
    }

    /// Notes that a statement begins that may not be repeated.
    async fn note_begun(&self, runner: &JobRunner, stop: &CancellationToken, n: i32) -> Result<()> {
        let noted = runner.change(&self.job.id, stop, |job, detail| {
            self.require_running(job)?;
            detail.begun = u32::try_from(n).ok();
            Ok(())
        });
        noted.await.map(drop)
    }

    fn require_running(&self, job: &Job) -> Result<()> {
        match job.state == RUNNING && job.attempts == self.job.attempts {
            true => Ok(()),
            false => Err(Error::cancelled(format!("job '{}' is {}", job.id, job.state))),
        }
    }
}

/// Another attempt would end the same way.
fn for_good(error: Error) -> Ended {
    Ended::Failed { error, may_pass: false }
}

/// The beginning of a statement, in one line.
fn shown(sql: &str) -> String {
    let line = sql.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("'{}…'", &line[..end]),
        None => format!("'{line}'"),
    }
}

//! Jobs: texts of SQL that are kept in the catalog, so that they outlive their client and the process that runs them. They are of
//! two kinds: [statements](SQL), and [INSERTs of streams](STREAM).
//!
//! Here is what submitting and cancelling mean, and what a job's record says ([`Detail`]). Whoever runs jobs asks for the
//! [next](Jobs::next) one, writes into its record with [`Jobs::change`], and knows from [`Repeat`] what a statement may be
//! done with that was interrupted. Why so: `docs/decisions/0006-jobs.md`.

mod patience;
mod savepoint;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::num::NonZero;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tereza_catalog::Store;
pub use tereza_catalog::model::Job;
pub use tereza_catalog::store::JobStep;
use tereza_runtime::clock::Clock;
use tereza_runtime::{Error, ErrorKind, Result, ids, settings};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub use self::patience::{LAST_TRIES, Pause, described, may_pass};
pub use self::savepoint::{SavepointOrder, SavepointTaken};
use crate::flink::StreamTable;
use crate::query::{Progress, QueryId};
use crate::statement::memory_limit_bytes;
use crate::system::truncated;

/// The kind of jobs of statements one after the other.
pub const SQL: &str = "sql";
/// The kind of jobs of streams: INSERTs that go on as long as rows come.
pub const STREAM: &str = "stream";
/// States of a job.
pub const QUEUED: &str = "queued";
/// See [`QUEUED`].
pub const RUNNING: &str = "running";
/// See [`QUEUED`].
pub const SUCCEEDED: &str = "succeeded";
/// See [`QUEUED`].
pub const FAILED: &str = "failed";
/// See [`QUEUED`].
pub const CANCELLED: &str = "cancelled";

/// The setting of a stream job that says in how many tasks it is to run.
pub const PARALLELISM: &str = "parallelism.default";

/// What a record keeps of what happened: the first so many, and the last so many.
const FIRST_EVENTS: usize = 50;
const LAST_EVENTS: usize = 150;
/// Characters of an event that are kept.
const EVENT_CHARS_MAX: usize = 1024;
/// Statements of one job.
const STATEMENTS_MAX: usize = 10_000;
/// A change of a record that others change too is tried so often.
const CHANGE_TRIES: usize = 100;

/// What may be done with a statement of a job that begins again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// It changes the session, which every attempt has anew: it runs in each.
    Always,
    /// It has no effect, or the same if it runs twice, or its one commit is noted as a step of the job: it runs until it is
    /// known to be done.
    UnlessDone,
    /// If it was interrupted, nobody knows whether it is done.
    Never,
}

/// A job that somebody wants to be run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Submission {
    pub(crate) text: String,
    pub(crate) name: Option<String>,
    pub(crate) priority: i32,
    pub(crate) attempts_max: Option<u32>,
    pub(crate) timeout_ms: Option<u64>,
    pub(crate) memory_limit: Option<String>,
    /// Where the rows of its last statement go: a table's name, or the URL or path of a file.
    pub(crate) into: Option<String>,
    /// Whether to run it also if a job of its name has succeeded.
    pub(crate) again: bool,
}

/// What the record of a job of SQL says beyond its text ([`Job::detail`]).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Detail {
    /// Catalog of names that say none.
    pub catalog: String,
    /// Schema of names that say none.
    pub schema: String,
    /// How often it may be started.
    pub attempts_max: u32,
    /// How long it may run, from its first start.
    pub timeout_ms: Option<u64>,
    /// What its operators may hold, as text such as `2GB`.
    pub memory_limit: Option<String>,
    /// Where the rows of its last statement go.
    pub into: Option<String>,
    /// How many statements it has.
    pub statements: u32,
    /// The statement that has begun and may not be repeated ([`Repeat::Never`]), counted from 0.
    pub begun: Option<u32>,
    /// Starts that ended because their process was asked to end, which do not count.
    pub drained: u32,
    /// Milliseconds since 1970 when it was first started.
    pub started_ms: Option<i64>,
    /// Milliseconds since 1970 when it ended.
    pub ended_ms: Option<i64>,
    /// Rows that its last statement wrote or returned.
    pub rows: Option<u64>,
    /// Kind and message of the error that it ended with.
    pub error: Option<(String, String)>,
    /// What a job of the kind [`STREAM`] needs to be planned again as it was submitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<StreamJob>,
    /// The job of a stream is to end: whether windows that are open are answered first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop: Option<bool>,
    /// The savepoint that is to be taken of the job of a stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub savepoint: Option<SavepointOrder>,
    /// What has become of the last ones that were asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub savepoints: Vec<SavepointTaken>,
    /// How far the job of a stream was lately, for processes that do not run it; or how far it came, once it has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<StreamProgress>,
    /// What happened, oldest first.
    pub events: Vec<Event>,
}

/// What the text of a stream job meant when it was submitted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StreamJob {
    /// Full names of the tables that are written.
    pub sinks: Vec<String>,
    /// Full names of the streams that are read.
    pub sources: Vec<String>,
    /// Flink's settings of the session.
    pub settings: BTreeMap<String, String>,
    /// The streams' tables by their full names, also those of the session alone. Their options may be credentials.
    pub tables: BTreeMap<String, StreamTable>,
    /// Whether the session spoke Flink's SQL.
    pub dialect_flink: bool,
    /// The id of the topic that its commits are in, once it is made.
    pub log: Option<String>,
    /// Of what the job was when it began; none before. From then on a log that is gone is lost, and no reason to begin anew.
    pub fingerprint: Option<String>,
    /// The job has ended, its logs are closed, and all its files are in their tables.
    pub settled: bool,
}

impl StreamJob {
    /// In how many tasks it is to run, as it was set ([`PARALLELISM`]).
    pub fn parallelism(&self) -> Option<&str> {
        self.settings.get(PARALLELISM).map(String::as_str)
    }
}

/// How far a stream job is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StreamProgress {
    /// The last epoch that was committed.
    pub epoch: u64,
    /// Milliseconds since 1970 up to which all rows have come; none before the first.
    pub watermark_ms: Option<i64>,
    /// Records that are there and not read yet, if that is known.
    pub lag: Option<u64>,
    /// Rows read since the job was started here.
    pub rows_in: u64,
    /// Rows written since the job was started here.
    pub rows_out: u64,
    /// Rows read in a second, lately.
    pub rows_per_second: f64,
    /// Rows that came after their window was answered.
    pub late_rows: u64,
    /// Bytes of state.
    pub state_bytes: u64,
    /// What it waits for that is away or refuses it; none while it works.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    /// Tasks that it runs in here; 0 before they begin.
    pub tasks: u32,
}

/// Something that happened to a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Milliseconds since 1970.
    pub at_ms: i64,
    /// During which start; 0 before the first.
    pub attempt: i32,
    /// What.
    pub text: String,
}

impl Detail {
    /// The detail of a record; one that cannot be read is of another kind of job.
    pub fn of(job: &Job) -> Result<Self> {
        serde_json::from_str(&job.detail)
            .map_err(|error| Error::internal(format!("the record of job '{}' cannot be read: {error}", job.id)))
    }

    /// Whether it may be started again.
    pub fn may_start(&self, job: &Job) -> bool {
        i64::from(job.attempts) < i64::from(self.attempts_max) + i64::from(self.drained)
    }

    /// Whether all its statements are done, also if nobody noted yet that it succeeded.
    pub fn is_done(&self, job: &Job) -> bool {
        self.statements > 0 && i64::from(job.step) >= i64::from(self.statements)
    }

    /// Notes what happened; of very many events those in the middle are dropped.
    pub fn note(&mut self, at_ms: i64, attempt: i32, text: impl fmt::Display) {
        let text = truncated(&text.to_string(), EVENT_CHARS_MAX);
        self.events.push(Event { at_ms, attempt, text });
        if self.events.len() > FIRST_EVENTS + LAST_EVENTS {
            self.events.remove(FIRST_EVENTS);
        }
    }

    /// The statements of a text, the last one with the place that its rows go to.
    pub fn script(&self, mut statements: Vec<String>) -> Vec<String> {
        if let (Some(into), Some(last)) = (&self.into, statements.last_mut()) {
            *last = match is_path(into) {
                true => format!("COPY (\n{last}\n) TO '{}'", into.replace('\'', "''")),
                false => format!("CREATE TABLE {into} AS\n{last}"),
            };
        }
        statements
    }
}

/// Whether the destination of rows is a file and not a table.
fn is_path(into: &str) -> bool {
    into.contains('/')
}

/// What a running job does now, in this process.
#[derive(Debug, Clone)]
pub(crate) struct Current {
    pub(crate) query: QueryId,
    pub(crate) progress: Arc<Progress>,
}

/// A job that runs in this process.
#[derive(Debug, Default)]
struct Live {
    cancellation: CancellationToken,
    stopping: CancellationToken,
    current: Option<Current>,
    stream: Option<StreamProgress>,
}

/// The jobs of the catalog.
#[derive(Debug)]
pub struct Jobs {
    catalog: Arc<dyn Store>,
    clock: Clock,
    settings: settings::Jobs,
    memory_limit_bytes: usize,
    live: Mutex<HashMap<String, Live>>,
    queued: Notify,
    streams_queued: Notify,
    /// Held while a job is submitted, so that a name is given once.
    submitting: tokio::sync::Mutex<()>,
}

impl Jobs {
    pub(crate) fn new(
        catalog: Arc<dyn Store>,
        clock: Clock,
        settings: settings::Jobs,
        memory_limit_bytes: usize,
    ) -> Self {
        Self {
            catalog,
            clock,
            settings,
            memory_limit_bytes,
            live: Mutex::default(),
            queued: Notify::new(),
            streams_queued: Notify::new(),
            submitting: tokio::sync::Mutex::default(),
        }
    }

    /// Keeps a job and returns its id. A name stands for one job: the same submission again, as after an answer that got
    /// lost, is that job, unless it failed or was cancelled.
    pub(crate) async fn submit(&self, user: &str, detail: Detail, submission: Submission) -> Result<String> {
        self.check(&submission)?;
        let _one_at_a_time = self.submitting.lock().await;
        if let Some(name) = &submission.name
            && let Some(known) = self.known(name, user, &detail, &submission).await?
        {
            return Ok(known);
        }
        let detail = Detail {
            attempts_max: submission.attempts_max.unwrap_or(self.settings.attempts_max),
            timeout_ms: submission.timeout_ms,
            memory_limit: submission.memory_limit,
            into: submission.into,
            ..detail
        };
        let Submission { name, priority, text, .. } = submission;
        self.queue_job(SQL, ids::new_id(), name, user, priority, text, detail).await
    }

    /// Keeps the job of a stream and returns its id. With `id`, a job that has it is this one, submitted again. No other live job
    /// has its name.
    pub(crate) async fn submit_stream(
        &self,
        user: &str,
        id: Option<String>,
        name: Option<String>,
        text: String,
        detail: Detail,
    ) -> Result<String> {
        self.check_text(&text)?;
        let _one_at_a_time = self.submitting.lock().await;
        if let Some(id) = &id {
            match self.catalog.job(id).await {
                Ok(job) if job.id == *id => return Ok(job.id),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        if let Some(name) = &name {
            match self.catalog.job(name).await {
                Ok(job) if is_live(&job) => {
                    return Err(Error::already_exists(format!("job '{}' has the name '{name}'", job.id))
                        .with_hint("stop it, or set 'pipeline.name' to another one"));
                }
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        // It runs until somebody ends it: how often it was started is no reason to give it up.
        let detail = Detail { attempts_max: u32::MAX, ..detail };
        self.queue_job(STREAM, id.unwrap_or_else(ids::new_id), name, user, 0, text, detail).await
    }

    async fn queue_job(
        &self,
        kind: &str,
        id: String,
        name: Option<String>,
        user: &str,
        priority: i32,
        text: String,
        mut detail: Detail,
    ) -> Result<String> {
        let queued = self.catalog.count_jobs(QUEUED).await?;
        if queued >= self.settings.queue_max as u64 {
            return Err(Error::resource_exhausted(format!("{queued} jobs wait already"))
                .with_hint("submit it later, or raise jobs.queue_max"));
        }
        let now_ms = self.clock.unix_ms();
        detail.note(now_ms, 0, format_args!("submitted by {user}"));
        let job = Job {
            id,
            name,
            priority,
            kind: kind.into(),
            state: QUEUED.into(),
            user: user.into(),
            text,
            attempts: 0,
            owner: None,
            step: 0,
            detail: to_json(&detail)?,
            created_ms: now_ms,
            updated_ms: now_ms,
            version: 0,
        };
        self.catalog.create_job(&job).await?;
        self.queue(kind).notify_one();
        Ok(job.id)
    }

    fn check_text(&self, text: &str) -> Result<()> {
        let limit = self.settings.text_limit_bytes;
        if text.len() as u64 <= limit {
            return Ok(());
        }
        Err(Error::resource_exhausted(format!("the text of a job has more than {limit} bytes"))
            .with_hint("split it, or raise jobs.text_limit_bytes"))
    }

    fn check(&self, submission: &Submission) -> Result<()> {
        self.check_text(&submission.text)?;
        if submission.attempts_max == Some(0) || submission.timeout_ms == Some(0) {
            return Err(Error::invalid_input("a job needs at least one attempt and some time"));
        }
        if let Some(text) = &submission.memory_limit
            && memory_limit_bytes(text)? > self.memory_limit_bytes
        {
            return Err(Error::denied(format!(
                "memory_limit of {text} is more than the process may use, {} bytes",
                self.memory_limit_bytes
            )));
        }
        Ok(())
    }

    /// The job that a submission under this name is already.
    async fn known(&self, name: &str, user: &str, detail: &Detail, submission: &Submission) -> Result<Option<String>> {
        let job = match self.catalog.job(name).await {
            Ok(job) => job,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let is_live = is_live(&job);
        if !is_live && (submission.again || job.state != SUCCEEDED) {
            return Ok(None);
        }
        let known = Detail::of(&job)?;
        let is_same = job.text == submission.text
            && job.user == user
            && (known.into, known.catalog, known.schema)
                == (submission.into.clone(), detail.catalog.clone(), detail.schema.clone());
        match is_same {
            true => Ok(Some(job.id)),
            false => {
                Err(Error::already_exists(format!("job '{}' has the name '{name}' and does something else", job.id))
                    .with_hint(if is_live {
                        "choose another name"
                    } else {
                        "choose another name, or ask for it again"
                    }))
            }
        }
    }

    /// Ends a job of the user's: one that waits never runs, one that runs commits nothing more.
    pub(crate) async fn cancel(&self, id_or_name: &str, user: &str) -> Result<()> {
        let job = self.catalog.job(id_or_name).await?;
        if job.user != user {
            return Err(Error::denied(format!("job '{}' is of another user", job.id)));
        }
        let now_ms = self.clock.unix_ms();
        let cancelled = self.change(&job.id, |job, detail| {
            let state = if is_live(job) && detail.is_done(job) { SUCCEEDED } else { &job.state };
            if ![QUEUED, RUNNING].contains(&state) {
                return Err(Error::not_found(format!("job '{}' has {}", job.id, ended_as(state))));
            }
            job.state = CANCELLED.into();
            job.owner = None;
            detail.ended_ms = Some(now_ms);
            detail.note(now_ms, job.attempts, format_args!("cancelled by {user}"));
            Ok(())
        });
        cancelled.await?;
        if let Some(live) = self.live.lock().get(&job.id) {
            live.cancellation.cancel();
        }
        Ok(())
    }

    /// Asks the job of a stream to end by itself; with `drain`, windows that are open are answered first. Whoever runs it notes
    /// the end.
    pub(crate) async fn stop(&self, id_or_name: &str, user: &str, drain: bool) -> Result<()> {
        let job = self.catalog.job(id_or_name).await?;
        if job.user != user {
            return Err(Error::denied(format!("job '{}' is of another user", job.id)));
        }
        if job.kind != STREAM {
            return Err(Error::unsupported(format!("stopping job '{}', which is no stream", job.id))
                .with_hint("CALL system.runtime.cancel_job ends it"));
        }
        let now_ms = self.clock.unix_ms();
        let stopped = self.change(&job.id, |job, detail| {
            if !is_live(job) {
                return Err(Error::not_found(format!("job '{}' has {}", job.id, ended_as(&job.state))));
            }
            detail.stop = Some(drain);
            let how = if drain { " when its windows are answered" } else { "" };
            detail.note(now_ms, job.attempts, format_args!("to be stopped{how}, by {user}"));
            Ok(())
        });
        stopped.await?;
        if let Some(live) = self.live.lock().get(&job.id) {
            live.stopping.cancel();
        }
        Ok(())
    }

    /// Asks for another number of tasks of a stream's job, now and whenever it begins again. Whoever runs it ends its epoch first.
    pub(crate) async fn rescale(&self, id_or_name: &str, user: &str, tasks: NonZero<u32>) -> Result<()> {
        let job = self.catalog.job(id_or_name).await?;
        if job.user != user {
            return Err(Error::denied(format!("job '{}' is of another user", job.id)));
        }
        let now_ms = self.clock.unix_ms();
        let changed = self.change(&job.id, |job, detail| {
            if !is_live(job) {
                return Err(Error::not_found(format!("job '{}' has {}", job.id, ended_as(&job.state))));
            }
            let Some(stream) = &mut detail.stream else {
                return Err(Error::unsupported(format!("tasks of job '{}', which is no stream", job.id)));
            };
            stream.settings.insert(PARALLELISM.to_owned(), tasks.to_string());
            detail.note(now_ms, job.attempts, format_args!("'{PARALLELISM}' is set to {tasks} by {user}"));
            Ok(())
        });
        changed.await.map(drop)
    }

    /// A job's record as it is now.
    pub async fn look(&self, id: &str) -> Result<(Job, Detail)> {
        let job = self.catalog.job(id).await?;
        let detail = Detail::of(&job)?;
        Ok((job, detail))
    }

    /// Changes a job's record, as it is now. `change` may be called several times, when others change it too.
    pub async fn change(
        &self,
        id: &str,
        mut change: impl FnMut(&mut Job, &mut Detail) -> Result<()>,
    ) -> Result<(Job, Detail)> {
        for _ in 0..CHANGE_TRIES {
            let mut job = self.catalog.job(id).await?;
            let mut detail = Detail::of(&job)?;
            change(&mut job, &mut detail)?;
            job.detail = to_json(&detail)?;
            match self.catalog.update_job(&job).await {
                Ok(version) => return Ok((Job { version, ..job }, detail)),
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::conflict(format!("the record of job '{id}' is changed all the time")))
    }

    /// The job of a kind that is to run next. One whose record cannot be read has failed: it would hold up all others.
    pub async fn next(&self, kind: &str) -> Result<Option<Job>> {
        loop {
            let Some(job) = self.catalog.next_job(kind).await? else { return Ok(None) };
            match Detail::of(&job) {
                Ok(_) => return Ok(Some(job)),
                Err(error) => self.give_up(job, &error).await?,
            }
        }
    }

    async fn give_up(&self, job: Job, error: &Error) -> Result<()> {
        // Not its detail: options in it may be credentials.
        tracing::error!(job = job.id, %error, "a job has failed");
        let error = Some((error.kind().as_str().to_owned(), error.message().to_owned()));
        let detail = Detail { ended_ms: Some(self.clock.unix_ms()), error, ..Detail::default() };
        self.catalog.update_job(&Job { state: FAILED.into(), detail: to_json(&detail)?, ..job }).await?;
        Ok(())
    }

    /// Jobs of a kind whose record says that they run, in a process that is neither this nor another that says in the catalog that it
    /// lives. One whose record cannot be read has failed.
    pub async fn orphaned(&self, process_id: &str, kind: &str) -> Result<Vec<Job>> {
        let running = self.catalog.jobs(Some(RUNNING), usize::MAX).await?;
        if running.is_empty() {
            return Ok(running);
        }
        let mut alive = self.catalog.live_owners().await?;
        alive.push(process_id.to_owned());
        let mut orphaned = Vec::new();
        for job in running.into_iter().filter(|job| job.kind == kind) {
            if job.owner.as_ref().is_some_and(|owner| alive.contains(owner)) {
                continue;
            }
            match Detail::of(&job) {
                Ok(_) => orphaned.push(job),
                Err(error) => self.give_up(job, &error).await?,
            }
        }
        Ok(orphaned)
    }

    /// Waits until a job of a kind was queued in this process; one waits for each kind.
    pub async fn queued(&self, kind: &str) {
        self.queue(kind).notified().await;
    }

    fn queue(&self, kind: &str) -> &Notify {
        if kind == STREAM { &self.streams_queued } else { &self.queued }
    }

    /// Jobs of streams that have ended and of which something is left, those first that were changed longest ago.
    pub async fn left(&self, limit: usize) -> Result<Vec<Job>> {
        self.catalog.jobs_left(STREAM, limit).await
    }

    /// Notes that nothing is left of the job of a stream that has ended: its record may be forgotten.
    ///
    /// # Errors
    /// `Conflict` if the job has not ended.
    pub async fn nothing_left(&self, id: &str) -> Result<()> {
        let now_ms = self.clock.unix_ms();
        let noted = self.change(id, |job, detail| {
            if is_live(job) {
                return Err(Error::conflict(format!("job '{id}' is {}", job.state)));
            }
            if job.step == 0 {
                job.step = 1;
                detail.note(now_ms, job.attempts, "its logs and its state are deleted");
            }
            Ok(())
        });
        noted.await.map(drop)
    }

    /// Forgets the oldest of those that are done. Jobs of streams stay as long as something of them is left.
    pub async fn forget_old(&self) -> Result<u64> {
        self.catalog.forget_jobs(self.settings.kept_max as u64).await
    }

    /// Milliseconds since 1970.
    pub fn now_ms(&self) -> i64 {
        self.clock.unix_ms()
    }

    /// Says that a job runs in this process, and returns what is cancelled when it is.
    pub fn enter(&self, id: &str) -> CancellationToken {
        self.live.lock().entry(id.to_owned()).or_default().cancellation.clone()
    }

    /// What is cancelled when a stream job that runs in this process is asked to stop ([`Detail::stop`]).
    pub fn stopping(&self, id: &str) -> CancellationToken {
        self.live.lock().entry(id.to_owned()).or_default().stopping.clone()
    }

    /// Says how far a stream job is that runs in this process.
    pub fn tell(&self, id: &str, progress: StreamProgress) {
        if let Some(live) = self.live.lock().get_mut(id) {
            live.stream = Some(progress);
        }
    }

    /// How far a stream job is, if it runs in this process.
    pub fn progress(&self, id: &str) -> Option<StreamProgress> {
        self.live.lock().get(id)?.stream.clone()
    }

    /// Says which statement it runs now.
    pub fn runs(&self, id: &str, query: &crate::query::Query) {
        if let Some(live) = self.live.lock().get_mut(id) {
            live.current = Some(Current { query: query.id().clone(), progress: query.progress() });
        }
    }

    /// Whether the statement that it runs now got its turn: one that only waits has done nothing.
    pub fn has_begun(&self, id: &str) -> bool {
        self.current(id).is_some_and(|current| current.progress.has_begun())
    }

    /// Says that it runs here no longer.
    pub fn leave(&self, id: &str) {
        self.live.lock().remove(id);
    }

    /// What a job does now, if it runs in this process.
    pub(crate) fn current(&self, id: &str) -> Option<Current> {
        self.live.lock().get(id)?.current.clone()
    }
}

/// Refuses a text of so many statements.
pub(crate) fn check_count(statements: usize) -> Result<u32> {
    match statements {
        0 => Err(Error::invalid_input("the text of the job has no statement")),
        count if count > STATEMENTS_MAX => {
            Err(Error::resource_exhausted(format!("a job of {count} statements; the most are {STATEMENTS_MAX}")))
        }
        count => Ok(u32::try_from(count).unwrap_or(u32::MAX)),
    }
}

fn is_live(job: &Job) -> bool {
    [QUEUED, RUNNING].contains(&job.state.as_str())
}

fn ended_as(state: &str) -> &'static str {
    match state {
        SUCCEEDED => "succeeded",
        FAILED => "failed",
        _ => "been cancelled",
    }
}

fn to_json(detail: &Detail) -> Result<String> {
    serde_json::to_string(detail)
        .map_err(|error| Error::internal(format!("the record of a job cannot be written: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_events_the_first_and_the_last_are_kept() {
        let mut detail = Detail::default();
        for n in 0..1000 {
            detail.note(n, 1, n);
        }
        let kept: Vec<i64> = detail.events.iter().map(|event| event.at_ms).collect();
        let expected: Vec<i64> = (0..50).chain(850..1000).collect();
        assert_eq!(kept, expected);
    }

    #[test]
    fn the_rows_of_the_last_statement_go_where_they_are_wanted() {
        let script = |into: Option<&str>| {
            let detail = Detail { into: into.map(str::to_owned), ..Detail::default() };
            detail.script(vec!["use a".into(), "select 1 -- one".into()])
        };
        assert_eq!(script(None), ["use a", "select 1 -- one"]);
        assert_eq!(script(Some("b.t")), ["use a", "CREATE TABLE b.t AS\nselect 1 -- one"]);
        assert_eq!(script(Some("/it's.csv")), ["use a", "COPY (\nselect 1 -- one\n) TO '/it''s.csv'"]);
    }

    #[test]
    fn a_start_that_was_drained_does_not_count() {
        let job = |attempts| Job {
            id: "j".into(),
            name: None,
            priority: 0,
            kind: SQL.into(),
            state: QUEUED.into(),
            user: "u".into(),
            text: String::new(),
            attempts,
            owner: None,
            step: 0,
            detail: String::new(),
            created_ms: 0,
            updated_ms: 0,
            version: 0,
        };
        let detail = Detail { attempts_max: 2, drained: 1, ..Detail::default() };
        assert!(detail.may_start(&job(2)) && !detail.may_start(&job(3)));
    }
}

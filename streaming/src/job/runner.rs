//! Runs the stream jobs of the catalog, again and again until they end.
//!
//! Who runs a job is in its record; that nobody else commits for it is the log's business. So a job that two processes take for
//! theirs is fenced from one to the other, and loses no row by it.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use futures::FutureExt;
use futures::stream::BoxStream;
use object_store::ObjectStore;
use sha2::{Digest, Sha256};
use tereza_engine::flink::{StreamInsert, StreamSource};
use tereza_engine::jobs::{
    CANCELLED, Detail, FAILED, Job, Jobs, Pause, QUEUED, RUNNING, STREAM, SUCCEEDED, StreamJob, described,
};
use tereza_engine::streams::Streams;
use tereza_engine::{Engine, LocalQueryService, QueryService};
use tereza_runtime::clock::Clock;
use tereza_runtime::{Error, ErrorKind, Result};
use tokio::task::{self, JoinSet};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::attempt::{Attempt, Notes};
use super::bounded;
use super::cleaner::Cleaner;
use super::prepare::Prepared;
use super::progress::{self, Keeper, Meter};
use super::savepoint::{Origin, path_of};
use super::settings::JobSettings;
use super::stats::JobStats;
use super::tasks::passes;
use crate::connector::Connector;
use crate::host::{Host, System};
use crate::log::Ended;
use crate::objects::Objects;
use crate::task::{Control, Exit};

/// How often it is told how far a job is.
const TELL_PAUSE: Duration = Duration::from_secs(1);
/// How long a task may take to end its epoch when it is told to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);
/// How often the record of a job that runs here is read: another process may have cancelled or stopped it, or taken it over.
const LOOK_PAUSE: Duration = Duration::from_secs(2);

/// How stream jobs run in this process.
#[derive(Debug, Clone)]
pub struct StreamSettings {
    /// At once.
    pub running_max: usize,
    /// Where state is, and the logs of jobs that write nothing to Kafka.
    pub store: Arc<dyn ObjectStore>,
    /// The path in it.
    pub root: String,
    /// Size of the state of one operator.
    pub state_bytes_max: usize,
    /// Pause before a job begins again after an error that may pass.
    pub retry_pause: Duration,
}

/// Runs stream jobs in this process.
pub struct StreamRunner {
    jobs: Arc<Jobs>,
    engine: Arc<Engine>,
    service: Arc<LocalQueryService>,
    settings: StreamSettings,
    process_id: String,
    host: Arc<dyn Host>,
}

impl fmt::Debug for StreamRunner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamRunner").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// How an attempt of a job ended.
enum Outcome {
    /// Everything is in its place.
    Finished,
    /// It was told to stop, and nothing of it is lost.
    Stopped,
    /// The process is asked to end.
    Drained,
    /// It begins again in another number of tasks.
    Rescaled,
    /// Somebody else has the job, or nobody is to.
    Gone,
    /// It begins again.
    Again(Error),
    Failed(Error),
}

impl StreamRunner {
    /// Stream jobs of the catalog of `engine`, whose statements `service` plans.
    pub fn new(
        engine: Arc<Engine>,
        service: Arc<LocalQueryService>,
        clock: Clock,
        settings: StreamSettings,
    ) -> Arc<Self> {
        let host: Arc<dyn Host> = Arc::new(System(clock));
        let (jobs, process_id) = (engine.jobs(), engine.process_id().to_owned());
        Arc::new(Self { jobs, engine, service, settings, process_id, host })
    }

    /// Runs jobs until `stop` fires; those that run then are queued again, for the next process.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) -> Result<()> {
        let cleaner = Cleaner::new(
            Arc::clone(&self.jobs),
            Arc::clone(&self.engine),
            Objects::new(Arc::clone(&self.settings.store), Arc::clone(&self.host)),
            self.settings.root.clone(),
        );
        let cleaning = tokio::spawn(cleaner.run(stop.clone()));
        let mut running = JoinSet::new();
        let mut pause = Pause::new(self.settings.retry_pause);
        let mut others = tokio::time::interval(self.engine.others_pause());
        others.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut here, mut doubtful) = (HashMap::new(), None);
        while !stop.is_cancelled() {
            let mut wait = None;
            while running.len() < self.settings.running_max {
                match self.take_next(&mut doubtful, &here).await {
                    Ok(Some((job, detail))) => {
                        pause = Pause::new(self.settings.retry_pause);
                        let id = job.id.clone();
                        let task = running.spawn(Arc::clone(&self).run_job(job, detail, stop.clone()));
                        here.insert(task.id(), id);
                    }
                    Ok(None) => break,
                    Err(error) => {
                        tracing::warn!(%error, "the next stream job cannot be taken yet");
                        wait = Some(pause.next_pause());
                        break;
                    }
                }
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.jobs.queued(STREAM), if running.len() < self.settings.running_max => {}
                Some(ended) = running.join_next_with_id() => {
                    here.remove(&ended.map_or_else(|error| error.id(), |(task, ())| task));
                }
                () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {}
                // The first tick comes at once: jobs of a process that died wait for this one.
                _ = others.tick() => {
                    if let Err(error) = self.adopt().await {
                        tracing::warn!(%error, "stream jobs of processes that died are not looked for");
                    }
                }
            }
        }
        while running.join_next().await.is_some() {}
        cleaning.await.map_err(|error| Error::internal(format!("the cleaner of ended jobs panicked: {error}")))
    }

    /// Queues the jobs of processes that died.
    async fn adopt(&self) -> Result<()> {
        for Job { id, owner, .. } in self.jobs.orphaned(&self.process_id, STREAM).await? {
            let now_ms = self.jobs.now_ms();
            let (job, _) = self
                .jobs
                .change(&id, |job, detail| {
                    if job.state == RUNNING && job.owner == owner {
                        job.state = QUEUED.into();
                        job.owner = None;
                        detail.note(now_ms, job.attempts, "queued again: the process that ran it ended");
                    }
                    Ok(())
                })
                .await?;
            tracing::info!(job = id, state = job.state, "a stream job of a process that ended was taken over");
        }
        Ok(())
    }

    /// Takes the next job, if one waits. `doubtful` is one of which it was not told whether it was taken: it comes first, since
    /// its record may say that it runs here. `here` are the jobs of tasks. One of them is queued if another process took this one
    /// for dead: it is taken again when its task has seen that.
    async fn take_next(
        &self,
        doubtful: &mut Option<String>,
        here: &HashMap<task::Id, String>,
    ) -> Result<Option<(Job, Detail)>> {
        loop {
            let id = match doubtful.take() {
                Some(id) => id,
                None => match self.jobs.next(STREAM).await? {
                    Some(job) if !here.values().any(|id| *id == job.id) => job.id,
                    _ => return Ok(None),
                },
            };
            // Before its record says so: who cancels it then finds it here.
            self.jobs.enter(&id);
            let error = match self.jobs.change(&id, self.beginning()).await {
                Ok(begun) => return Ok(Some(begun)),
                Err(error) => error,
            };
            self.jobs.leave(&id);
            // Cancelled or forgotten at this moment: there may be another.
            if !matches!(error.kind(), ErrorKind::Cancelled | ErrorKind::NotFound) {
                *doubtful = Some(id);
                return Err(error);
            }
        }
    }

    /// Notes that an attempt begins; `Cancelled` if the job is no longer to be run.
    fn beginning(&self) -> impl FnMut(&mut Job, &mut Detail) -> Result<()> + Send {
        let now_ms = self.jobs.now_ms();
        move |job, detail| {
            let is_mine = job.state == RUNNING && job.owner.as_ref() == Some(&self.process_id);
            if job.state != QUEUED && !is_mine {
                return Err(Error::cancelled(format!("job '{}' is {}", job.id, job.state)));
            }
            job.state = RUNNING.into();
            job.owner = Some(self.process_id.clone());
            job.attempts += 1;
            detail.started_ms.get_or_insert(now_ms);
            detail.note(now_ms, job.attempts, format_args!("attempt {} begins", job.attempts));
            Ok(())
        }
    }

    /// Changes a job's record, as soon as the catalog is there.
    async fn change(
        &self,
        id: &str,
        stop: &CancellationToken,
        change: impl FnMut(&mut Job, &mut Detail) -> Result<()> + Send,
    ) -> Result<(Job, Detail)> {
        self.jobs.change_patiently(id, stop, self.settings.retry_pause, change).await
    }

    /// Runs one job to its end; whatever happens is in its record afterwards.
    async fn run_job(self: Arc<Self>, mut job: Job, mut detail: Detail, stop: CancellationToken) {
        let id = job.id.clone();
        metrics::gauge!("tereza_stream_jobs_running").increment(1);
        let mut pause = Pause::new(self.settings.retry_pause);
        let mut is_doubted = false;
        loop {
            let stats = Arc::new(JobStats::default());
            let attempt = self.attempt(&job, &detail, Arc::clone(&stats), &stop);
            let outcome = AssertUnwindSafe(attempt).catch_unwind().await;
            let outcome = outcome.unwrap_or_else(|_| Outcome::Failed(Error::internal("the job's task panicked")));
            if stats.has_committed() {
                pause = Pause::new(self.settings.retry_pause);
                is_doubted = false;
            }
            let has_plan =
                stats.has_begun() || detail.stream.as_ref().is_some_and(|stream| stream.fingerprint.is_some());
            let outcome = match outcome {
                // A broker that has just started may not know a topic yet.
                Outcome::Failed(error) if error.kind() == ErrorKind::NotFound && has_plan && !is_doubted => {
                    is_doubted = true;
                    Outcome::Again(error)
                }
                // What it holds would be gone if it failed.
                Outcome::Failed(error) if has_plan && can_be_mended(&error) => Outcome::Again(error),
                outcome => outcome,
            };
            if !self.note_end(&id, &outcome, &stats, &stop).await {
                break;
            }
            let cancelled = self.jobs.enter(&id);
            tokio::select! {
                // The record says that it runs: the next process queues it.
                () = stop.cancelled() => break,
                () = cancelled.cancelled() => break,
                () = tokio::time::sleep(pause.next_pause()) => {}
            }
            match self.change(&id, &stop, self.beginning()).await {
                Ok(begun) => (job, detail) = begun,
                Err(error) if error.kind() == ErrorKind::Cancelled => break,
                Err(error) => {
                    tracing::error!(job = id, %error, "a stream job cannot begin again: the next process goes on with it");
                    break;
                }
            }
        }
        self.jobs.leave(&id);
        metrics::gauge!("tereza_stream_jobs_running").decrement(1);
        if !stop.is_cancelled()
            && let Err(error) = self.jobs.forget_old().await
        {
            tracing::warn!(%error, "old jobs are not forgotten yet");
        }
    }

    /// Notes how an attempt ended, and how far it came. Whether there is to be another.
    async fn note_end(&self, id: &str, outcome: &Outcome, stats: &JobStats, stop: &CancellationToken) -> bool {
        let now_ms = self.jobs.now_ms();
        let mut starts_again = false;
        let mut progress = stats.has_begun().then(|| progress::now(stats)).or_else(|| self.jobs.progress(id));
        if let Some(progress) = &mut progress {
            progress.waits_for = match outcome {
                Outcome::Again(error) => Some(described(error)),
                _ => None,
            };
            self.jobs.tell(id, progress.clone());
        }
        let noted = self.change(id, stop, |job, detail| {
            starts_again = false;
            // Cancelled, or taken over, and noted by who did it.
            if job.state != RUNNING || job.owner.as_ref() != Some(&self.process_id) {
                return Ok(());
            }
            let attempt = job.attempts;
            if progress.is_some() {
                detail.progress.clone_from(&progress);
            }
            let end = |job: &mut Job, detail: &mut Detail, state: &str| {
                job.state = state.into();
                job.owner = None;
                detail.ended_ms = Some(now_ms);
            };
            match outcome {
                Outcome::Finished => {
                    end(job, detail, SUCCEEDED);
                    detail.note(now_ms, attempt, "succeeded: all tables are read to their ends");
                }
                Outcome::Stopped => {
                    end(job, detail, CANCELLED);
                    detail.note(now_ms, attempt, "stopped after its last epoch");
                }
                Outcome::Drained => {
                    job.state = QUEUED.into();
                    job.owner = None;
                    detail.drained += 1;
                    detail.note(now_ms, attempt, "queued again: the process is asked to end");
                }
                Outcome::Gone => {}
                Outcome::Rescaled => {
                    starts_again = true;
                    detail.note(now_ms, attempt, "begins again: another number of tasks is asked for");
                }
                Outcome::Again(error) => {
                    starts_again = true;
                    detail.note(now_ms, attempt, format_args!("begins again: {}", described(error)));
                }
                Outcome::Failed(error) => {
                    end(job, detail, FAILED);
                    detail.note(now_ms, attempt, format_args!("failed: {}", described(error)));
                    detail.error = Some((error.kind().as_str().to_owned(), described(error)));
                }
            }
            Ok(())
        });
        match noted.await {
            Ok((job, _)) => {
                match outcome {
                    Outcome::Again(error) => tracing::warn!(job = id, %error, "a stream job begins again"),
                    Outcome::Failed(error) => tracing::error!(job = id, %error, "a stream job has failed"),
                    Outcome::Rescaled => tracing::info!(job = id, "a stream job gets another number of tasks"),
                    _ => tracing::info!(job = id, state = job.state, "a stream job ended"),
                }
                starts_again
            }
            // Its record says that it runs: the next process queues it.
            Err(error) => {
                tracing::error!(job = id, %error, "it could not be noted how a stream job ended");
                false
            }
        }
    }

    /// Plans and runs a job until it ends or is told to.
    async fn attempt(&self, job: &Job, detail: &Detail, stats: Arc<JobStats>, stop: &CancellationToken) -> Outcome {
        let known = self.jobs.progress(&job.id).or_else(|| detail.progress.clone()).unwrap_or_default();
        let keeper = Keeper::new(&self.jobs, &self.process_id, known.waits_for.is_some());
        let mut meter = Meter::new(known);
        self.jobs.tell(&job.id, meter.read(&stats));
        let (cancelled, stopping) = (self.jobs.enter(&job.id), self.jobs.stopping(&job.id));
        if detail.stop.is_some() {
            stopping.cancel();
        }
        let drain = Arc::new(AtomicBool::new(false));
        let attempt = match self.plan(job, detail, Arc::clone(&stats), Arc::clone(&drain)).await {
            Ok(attempt) => attempt,
            Err(error) => return self.ended(Err(Ended::Failed(error)), stop, &cancelled),
        };
        let notes = Record { jobs: &self.jobs, id: &job.id };
        let control = Control::default();
        let mut running = std::pin::pin!(attempt.run(&notes, &control));
        let rescaled = CancellationToken::new();
        let tasks = detail.stream.as_ref().and_then(StreamJob::parallelism);
        let mut watching = std::pin::pin!(self.watch(&job.id, keeper, tasks, &cancelled, &stopping, &rescaled));
        let asked = AtomicBool::new(false);
        let mut taking = Box::pin(self.take_savepoint(&job.id, &control, &asked));
        let mut told = tokio::time::interval(TELL_PAUSE);
        told.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let why = loop {
            tokio::select! {
                ended = &mut running => {
                    control.no_savepoint();
                    if asked.load(Ordering::Relaxed) {
                        // It may have ended with a savepoint, which is to be noted first.
                        _ = tokio::time::timeout(STOP_TIMEOUT, taking).await;
                    }
                    return self.ended(ended, stop, &cancelled);
                }
                () = &mut taking => taking = Box::pin(self.take_savepoint(&job.id, &control, &asked)),
                () = &mut watching => {}
                _ = told.tick() => self.jobs.tell(&job.id, meter.read(&stats)),
                () = stop.cancelled() => break "the process is asked to end",
                () = cancelled.cancelled() => break "it is cancelled",
                () = rescaled.cancelled() => break "another number of tasks is asked for",
                () = stopping.cancelled(), if !drain.load(Ordering::Relaxed) => {
                    if !self.is_to_drain(&job.id).await {
                        break "it is stopped";
                    }
                    drain.store(true, Ordering::Relaxed);
                }
            }
        };
        tracing::info!(job = job.id, why, "a stream job ends its epoch");
        control.stop();
        match tokio::time::timeout(STOP_TIMEOUT, running).await {
            Ok(ended) => match self.ended(ended, stop, &cancelled) {
                // If it is stopped too, the next attempt is.
                Outcome::Stopped if rescaled.is_cancelled() && !cancelled.is_cancelled() => Outcome::Rescaled,
                outcome => outcome,
            },
            // What was not committed is read again by the next attempt.
            Err(_) if stop.is_cancelled() => Outcome::Drained,
            Err(_) if cancelled.is_cancelled() => Outcome::Gone,
            Err(_) => Outcome::Again(Error::unavailable(format!("it did not end its epoch within {STOP_TIMEOUT:?}"))),
        }
    }

    /// Tells a job that runs here what others wrote into its record: that it is to stop, or not to run here any more, or to run in
    /// another number of tasks than `tasks`. And lets others know how far it is. It does not end by itself.
    async fn watch(
        &self,
        id: &str,
        mut keeper: Keeper<'_>,
        tasks: Option<&str>,
        cancelled: &CancellationToken,
        stopping: &CancellationToken,
        rescaled: &CancellationToken,
    ) {
        loop {
            tokio::time::sleep(LOOK_PAUSE).await;
            match self.jobs.look(id).await {
                Ok((job, detail)) => {
                    if job.state != RUNNING || job.owner.as_ref() != Some(&self.process_id) {
                        cancelled.cancel();
                    }
                    if detail.stop.is_some() {
                        stopping.cancel();
                    }
                    if detail.stream.as_ref().and_then(StreamJob::parallelism) != tasks {
                        rescaled.cancel();
                    }
                }
                Err(error) if error.kind() == ErrorKind::NotFound => cancelled.cancel(),
                Err(error) => tracing::debug!(job = id, %error, "the record of a stream job cannot be read"),
            }
            keeper.look(id).await;
        }
    }

    /// Waits until a savepoint is asked for, has it taken, and notes it. One that the attempt does not take is for the next attempt;
    /// each has a place of its own.
    async fn take_savepoint(&self, job: &str, control: &Control, asked: &AtomicBool) {
        let order = loop {
            tokio::time::sleep(LOOK_PAUSE).await;
            match self.jobs.look(job).await {
                Ok((_, Detail { savepoint: Some(order), .. })) => break order,
                Ok(_) => {}
                Err(error) => tracing::debug!(job, %error, "the record of a stream job cannot be read"),
            }
        };
        asked.store(true, Ordering::Relaxed);
        let id = format!("{}-{}", order.name, self.host.new_id());
        if let Ok(done) = control.savepoint(&id, order.stop).await {
            let outcome = done.map(|()| path_of(&id)).map_err(|error| described(&error));
            if let Err(error) = self.jobs.savepoint_taken(job, &order, outcome).await {
                tracing::warn!(job, %error, "it is not noted that a savepoint was taken");
            }
        }
        asked.store(false, Ordering::Relaxed);
    }

    /// Whether a job that is to stop first answers what its windows hold. Where that cannot be told, nothing is answered early.
    async fn is_to_drain(&self, id: &str) -> bool {
        self.jobs.look(id).await.is_ok_and(|(_, detail)| detail.stop == Some(true))
    }

    fn ended(&self, ended: Result<Exit, Ended>, stop: &CancellationToken, cancelled: &CancellationToken) -> Outcome {
        match ended {
            Ok(Exit::Finished) => Outcome::Finished,
            Ok(Exit::Stopped) if cancelled.is_cancelled() || !stop.is_cancelled() => Outcome::Stopped,
            Ok(Exit::Stopped) => Outcome::Drained,
            Err(_) if cancelled.is_cancelled() => Outcome::Gone,
            Err(_) if stop.is_cancelled() => Outcome::Drained,
            Err(ended) => outcome_of(ended),
        }
    }

    /// Plans a job as it was submitted.
    async fn plan(&self, job: &Job, detail: &Detail, stats: Arc<JobStats>, drain: Arc<AtomicBool>) -> Result<Attempt> {
        let stream = detail.stream.as_ref();
        let stream =
            stream.ok_or_else(|| Error::internal(format!("the record of job '{}' is of no stream", job.id)))?;
        let session = self.service.open_stream_session(job, detail).await.map_err(|error| match error.kind() {
            // Clients have all sessions now.
            ErrorKind::ResourceExhausted => Error::unavailable(error.message()),
            _ => error,
        })?;
        let inserts = self.service.plan_inserts(&session, &job.text).await;
        // Its plan has all that it needs.
        let _ = self.service.close_session(&session).await;
        Ok(Attempt {
            uid: job.id.clone(),
            fingerprint: match &stream.fingerprint {
                Some(kept) => kept.clone(),
                None => fingerprint(job, detail, stream)?,
            },
            inserts: inserts?,
            settings: JobSettings::new(&stream.settings)?,
            origin: Origin::of(&stream.settings)?,
            origin_ms: job.created_ms,
            state_bytes_max: self.settings.state_bytes_max,
            log: stream.log.clone(),
            has_plan: stream.fingerprint.is_some(),
            objects: Objects::new(Arc::clone(&self.settings.store), Arc::clone(&self.host))
                .telling(stats.waits().clone()),
            root: self.settings.root.clone(),
            engine: Arc::clone(&self.engine),
            host: Arc::clone(&self.host),
            drain,
            stats,
        })
    }
}

#[async_trait]
impl Streams for StreamRunner {
    fn check_table(&self, table: &StreamSource) -> Result<()> {
        Connector::check(table)
    }

    async fn check(&self, inserts: &[StreamInsert], settings: &BTreeMap<String, String>) -> Result<String> {
        if let Some(origin) = Origin::of(settings)? {
            let objects = Objects::new(Arc::clone(&self.settings.store), Arc::clone(&self.host));
            origin.check(&objects, &self.settings.root).await?;
        }
        let (settings, now_ms) = (JobSettings::new(settings)?, self.host.now_ms());
        let prepared = Prepared::new(inserts, &settings, now_ms)?;
        let exchanges = settings.tasks > 1 && !prepared.exchanges.is_empty() && prepared.alone(true).is_none();
        let prepared = if exchanges { Prepared::spread(inserts, &settings, now_ms)? } else { prepared };
        Ok(prepared.lines().join("\n"))
    }

    async fn scan(
        &self,
        table: Arc<StreamSource>,
        columns: Vec<usize>,
    ) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        bounded::scan(table, columns, Arc::clone(&self.host)).await
    }
}

/// The record of a job in the catalog.
struct Record<'a> {
    jobs: &'a Jobs,
    id: &'a str,
}

#[async_trait]
impl Notes for Record<'_> {
    async fn log_made(&self, id: &str) -> Result<()> {
        let noted = self.change(|stream| match &stream.fingerprint {
            None => {
                stream.log = Some(id.to_owned());
                Ok(())
            }
            Some(_) => Err(Error::conflict("another attempt has planned the job meanwhile")),
        });
        noted.await
    }

    async fn planned(&self, fingerprint: &str, in_kafka: bool) -> Result<()> {
        let noted = self.change(|stream| match stream.log.is_some() == in_kafka {
            true => {
                stream.fingerprint = Some(fingerprint.to_owned());
                Ok(())
            }
            // How many tasks are asked for has changed between the two.
            false => Err(Error::conflict("another attempt has made the log of the job elsewhere meanwhile")),
        });
        noted.await
    }

    async fn tell(&self, text: &str) -> Result<()> {
        let now_ms = self.jobs.now_ms();
        let noted = self.jobs.change(self.id, |job, detail| {
            detail.note(now_ms, job.attempts, text);
            Ok(())
        });
        noted.await.map(drop)
    }
}

impl Record<'_> {
    async fn change(&self, mut change: impl FnMut(&mut StreamJob) -> Result<()> + Send) -> Result<()> {
        let changed = self.jobs.change(self.id, |_, detail| detail.stream.as_mut().map_or(Ok(()), &mut change));
        changed.await.map(drop)
    }
}

/// What an attempt's end means for the job.
fn outcome_of(ended: Ended) -> Outcome {
    match ended {
        ended if passes(&ended) => Outcome::Again(ended.into_error()),
        ended => Outcome::Failed(ended.into_error()),
    }
}

/// Whether somebody outside can let a job go on that has begun: who gives it rights, or a larger bound.
fn can_be_mended(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Denied | ErrorKind::Unauthenticated | ErrorKind::ResourceExhausted)
}

/// Of all that decides what a job's state means, as it was submitted.
fn fingerprint(job: &Job, detail: &Detail, stream: &StreamJob) -> Result<String> {
    let parts = (&job.text, &detail.catalog, &detail.schema, &stream.tables, stream.dialect_flink);
    let text = serde_json::to_vec(&parts).map_err(|error| Error::internal(error.to_string()))?;
    Ok(Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect())
}

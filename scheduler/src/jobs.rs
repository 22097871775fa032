//! Runs the jobs of the catalog that are statements: some at once, of the greatest priority first, each again while that may help.
//!
//! A job belongs to the process that wrote itself into its record. One whose process died is queued again by the next
//! process that has the catalog; what it had committed is noted in its record by the commits themselves, so that nothing is
//! committed twice (`docs/decisions/0006-jobs.md`).

mod attempt;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tereza_engine::jobs::{
    CANCELLED, Detail, FAILED, Job, Jobs, Pause, QUEUED, RUNNING, SQL, SUCCEEDED, described, may_pass,
};
use tereza_engine::{Engine, LocalQueryService};
use tereza_runtime::{Error, ErrorKind, Result, settings};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use self::attempt::{Attempt, Ended};

/// Runs jobs in this process.
pub struct JobRunner {
    jobs: Arc<Jobs>,
    service: Arc<LocalQueryService>,
    settings: settings::Jobs,
    process_id: String,
    others_pause: Duration,
}

impl JobRunner {
    /// Jobs of the catalog of `engine`, whose statements `service` runs.
    pub fn new(engine: &Engine, service: Arc<LocalQueryService>, settings: settings::Jobs) -> Arc<Self> {
        let (process_id, others_pause) = (engine.process_id().to_owned(), engine.others_pause());
        Arc::new(Self { jobs: engine.jobs(), service, settings, process_id, others_pause })
    }

    /// Runs jobs until `stop` fires; those that run then are queued again, for the next process.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) -> Result<()> {
        self.adopt(&stop).await?;
        let mut running = JoinSet::new();
        let mut pause = Pause::new(self.first_pause());
        let mut others = tokio::time::interval(self.others_pause);
        others.set_missed_tick_behavior(MissedTickBehavior::Delay);
        others.tick().await;
        while !stop.is_cancelled() {
            let mut wait = None;
            while running.len() < self.settings.running_max {
                match self.take_next(&stop).await {
                    Ok(Some(attempt)) => {
                        pause = Pause::new(self.first_pause());
                        running.spawn(Arc::clone(&self).run_job(attempt, stop.clone()));
                    }
                    Ok(None) => break,
                    Err(error) => {
                        tracing::warn!(%error, "the next job cannot be taken yet");
                        wait = Some(pause.next_pause());
                        break;
                    }
                }
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.jobs.queued(SQL), if running.len() < self.settings.running_max => {}
                Some(_) = running.join_next() => {}
                () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {}
                // Other processes may have the catalog too: they queue jobs, and die.
                _ = others.tick() => {
                    if let Err(error) = self.adopt(&stop).await {
                        tracing::warn!(%error, "jobs of processes that died are not looked for");
                    }
                }
            }
        }
        while running.join_next().await.is_some() {}
        Ok(())
    }

    /// Queues the jobs of processes that died.
    async fn adopt(&self, stop: &CancellationToken) -> Result<()> {
        for Job { id, owner, .. } in self.jobs.orphaned(&self.process_id, SQL).await? {
            let now_ms = self.jobs.now_ms();
            let adopted = self.change(&id, stop, |job, detail| {
                if job.state != RUNNING || job.owner != owner {
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
            let Some(job) = self.jobs.next(SQL).await? else { return Ok(None) };
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
        Ok(Attempt::new(job, detail))
    }

    /// Runs one job to its end; whatever happens is in its record afterwards.
    async fn run_job(self: Arc<Self>, first: Attempt, stop: CancellationToken) {
        metrics::gauge!("tereza_jobs_running").increment(1);
        let id = first.job.id.clone();
        let ended = AssertUnwindSafe(self.attempts(first, &stop)).catch_unwind().await;
        let ended = ended.unwrap_or_else(|_| Err(Error::internal("the job's runner panicked")));
        match ended {
            Ok(()) => {}
            // Its record says that it runs, for the next process.
            Err(error) if may_pass(&error) => {
                tracing::error!(job = id, %error, "how a job is cannot be noted: the next process goes on with it");
            }
            Err(error) => {
                tracing::error!(job = id, %error, "a job could not be run");
                self.end_failed(&id, &stop, &error).await;
            }
        }
        self.jobs.leave(&id);
        metrics::gauge!("tereza_jobs_running").decrement(1);
        if !stop.is_cancelled()
            && let Err(error) = self.jobs.forget_old().await
        {
            tracing::warn!(%error, "old jobs are not forgotten yet");
        }
    }

    /// Runs the attempt that has begun, and others while that may help.
    async fn attempts(&self, mut attempt: Attempt, stop: &CancellationToken) -> Result<()> {
        let id = &attempt.job.id.clone();
        let cancellation = self.jobs.enter(id);
        let mut pause = Pause::new(self.first_pause());
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
                    attempt.note_done(job, detail);
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
                () = tokio::time::sleep(pause.next_pause()) => {}
            }
            attempt = match self.start(id, stop).await {
                Err(error) if error.kind() == ErrorKind::Cancelled => return Ok(()),
                started => started?,
            };
        }
    }

    /// Changes a job's record, as often as that needs to be tried; gives up only some time after the process is asked to end.
    async fn change(
        &self,
        id: &str,
        stop: &CancellationToken,
        change: impl FnMut(&mut Job, &mut Detail) -> Result<()> + Send,
    ) -> Result<(Job, Detail)> {
        self.jobs.change_patiently(id, stop, self.first_pause(), change).await
    }

    /// The pause before the second try of anything.
    fn first_pause(&self) -> Duration {
        Duration::from_millis(self.settings.retry_pause_ms)
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

#[cfg(test)]
mod tests;

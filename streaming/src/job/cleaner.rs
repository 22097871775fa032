//! Removes what jobs of the catalog have left that have ended, a few in a turn.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tereza_engine::Engine;
use tereza_engine::jobs::{Detail, Job, Jobs, StreamJob, described};
use tereza_runtime::{Error, ErrorKind, Result};
use tokio_util::sync::CancellationToken;

use super::deletion::{Remains, Removed};
use crate::objects::Objects;

/// Between two turns.
const TURN_PAUSE: Duration = Duration::from_secs(10);
/// So long after its end nobody works at a job any more: a cancelled one sees it within 2 seconds and ends its epoch within 20.
const ENDED_MS: i64 = 30_000;
/// Jobs whose records a turn reads, and those that it works at.
const READ_MAX: usize = 100;
const JOBS_MAX: usize = 4;
/// Pause of a job whose remains could not be removed; it doubles up to an hour.
const RETRY_MS: i64 = 30_000;
const RETRY_MAX_MS: i64 = 3_600_000;
/// A log that is not there at so many tries is lost, and what waited for tables is not known any more.
const LOST_TRIES: u32 = 6;

/// Removes what ended jobs have left.
pub(super) struct Cleaner {
    jobs: Arc<Jobs>,
    engine: Arc<Engine>,
    objects: Objects,
    root: String,
    /// Of jobs that could not be cleaned up, at most [`READ_MAX`].
    waiting: HashMap<String, Waiting>,
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    until_ms: i64,
    pause_ms: i64,
    /// Tries that did not find the log.
    lost: u32,
}

impl Cleaner {
    pub(super) fn new(jobs: Arc<Jobs>, engine: Arc<Engine>, objects: Objects, root: String) -> Self {
        Self { jobs, engine, objects, root, waiting: HashMap::new() }
    }

    /// Works until `stop` fires. What is cut off is found again at the next start.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut has_more = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(TURN_PAUSE), if !has_more => {}
                () = tokio::task::yield_now(), if has_more => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                done = self.turn() => {
                    has_more = done.unwrap_or_else(|error| {
                        tracing::warn!(%error, "what ended stream jobs have left is not looked for");
                        false
                    });
                }
            }
        }
    }

    /// Works at some jobs; whether there is more to do at once.
    async fn turn(&mut self) -> Result<bool> {
        let now_ms = self.jobs.now_ms();
        let left = self.jobs.left(READ_MAX).await?;
        self.waiting.retain(|id, _| left.iter().any(|job| job.id == *id));
        let due = |job: &Job| {
            job.updated_ms.saturating_add(ENDED_MS) <= now_ms
                && self.waiting.get(&job.id).is_none_or(|waiting| waiting.until_ms <= now_ms)
        };
        let due: Vec<Job> = left.into_iter().filter(due).take(JOBS_MAX).collect();
        let mut has_more = due.len() == JOBS_MAX;
        for job in due {
            match self.remove(&job).await {
                Ok(Removed::All) => {
                    self.waiting.remove(&job.id);
                    tracing::info!(job = job.id, "nothing is left of an ended stream job");
                }
                Ok(Removed::Some) => has_more = true,
                Err(error) => self.wait(&job, &error).await,
            }
        }
        Ok(has_more)
    }

    async fn remove(&self, job: &Job) -> Result<Removed> {
        // The record of a job that could not be read says nothing of its logs.
        let stream = Detail::of(job)?.stream.unwrap_or_default();
        let is_lost = self.waiting.get(&job.id).is_some_and(|waiting| waiting.lost >= LOST_TRIES);
        let remains = Remains {
            uid: &job.id,
            stream: &stream,
            objects: self.objects.clone(),
            root: &self.root,
            engine: &self.engine,
            host: Arc::clone(&self.objects.host),
        };
        if !stream.settled && !is_lost {
            remains.settle().await?;
            self.settled(&job.id).await?;
        }
        let removed = remains.clear().await?;
        if removed == Removed::All {
            self.jobs.nothing_left(&job.id).await?;
        }
        Ok(removed)
    }

    /// Notes that all files of a job are in their tables.
    async fn settled(&self, id: &str) -> Result<()> {
        let changed = self.jobs.change(id, |_, detail| {
            detail.stream.get_or_insert_with(StreamJob::default).settled = true;
            Ok(())
        });
        changed.await.map(drop)
    }

    /// Notes why something of a job is left, once for each reason, and tries it later.
    async fn wait(&mut self, job: &Job, error: &Error) {
        tracing::warn!(job = job.id, %error, "what an ended stream job has left cannot be removed yet");
        let before = self.waiting.get(&job.id).copied();
        let pause_ms = before.map_or(RETRY_MS, |before| (before.pause_ms * 2).min(RETRY_MAX_MS));
        let lost = before.map_or(0, |before| before.lost) + u32::from(error.kind() == ErrorKind::NotFound);
        let now_ms = self.jobs.now_ms();
        self.waiting.insert(job.id.clone(), Waiting { until_ms: now_ms + pause_ms, pause_ms, lost });
        let what = match lost >= LOST_TRIES {
            true => format!("its log is lost, and with it which files waited for tables: {}", described(error)),
            false => format!("something of it is left: {}", described(error)),
        };
        let noted = self.jobs.change(&job.id, |job, detail| {
            if detail.events.iter().rev().take(2).all(|event| event.text != what) {
                detail.note(now_ms, job.attempts, &what);
            }
            Ok(())
        });
        if let Err(error) = noted.await {
            tracing::debug!(job = job.id, %error, "it is not noted why something of a stream job is left");
        }
    }
}

//! One submission of a statement to the executors, watched to its end.
//!
//! Ballista's adaptive planner does not make again what a lost executor had made: a job whose map outputs are gone waits for
//! ever. So an attempt ends as soon as an executor is lost, or when nothing of the job runs though something could, and the
//! statement begins again as another job. That is right for queries, which have no effect before their rows are given out.

use std::sync::Arc;
use std::time::Duration;

use ballista_core::JobId;
use ballista_core::serde::protobuf::job_status::Status;
use ballista_core::serde::protobuf::{JobStatus, PartitionLocation};
use ballista_scheduler::cluster::{ClusterState, ClusterStateEvent, ClusterStateEventStream, JobState};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::LogicalPlan;
use futures::StreamExt;
use tereza_engine::cluster::{Job, StageCounts, StageProgress};
use tereza_runtime::{Error, Result, settings};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::cluster::{Server, internal};
use crate::drain::{Drains, Statement};
use crate::progress::{counts, explain};
use crate::result::{UNPREPARED, failure};
use crate::slots::Slots;

/// Status messages that wait to be read. A job sends a handful; one that is lost is found by looking, each `LOOK`.
const MESSAGES_MAX: usize = 64;
/// How often a job is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// Stages of a statement, and more for each node of its plan, that are not too many.
const STAGES: u64 = 64;
const STAGES_PER_NODE: u64 = 4;

/// A job that was submitted. Dropping it cancels what runs of it and removes what its stages left.
pub(crate) struct Attempt<'a> {
    submitted: Submitted,
    server: &'a Server,
    slots: &'a Arc<Slots>,
    jobs: &'a Arc<dyn JobState>,
    drains: &'a Drains,
    progress: Arc<StageProgress>,
    messages: mpsc::Receiver<JobStatus>,
    events: ClusterStateEventStream,
    looks_max: u128,
    stages_max: u64,
}

/// How an attempt ended.
pub(crate) enum Ended {
    /// Well.
    Rows(Box<Rows>),
    /// Another attempt may end well; the clause says what was lost.
    Lost(String),
    /// The planner's fault: another attempt may end well with another planner.
    Stuck(String),
}

/// Where the rows of a result lie, for as long as this lives.
pub(crate) struct Rows {
    /// Partitions, in order.
    pub(crate) partitions: Vec<PartitionLocation>,
    pub(crate) submitted: Submitted,
}

/// Cancels and removes a job when dropped.
pub(crate) struct Submitted {
    server: Server,
    job: JobId,
    has_ended: bool,
    /// Executors that are asked to end stay for it.
    _statement: Statement,
}

impl Drop for Submitted {
    fn drop(&mut self) {
        let (server, job, has_ended) = (self.server.clone(), self.job.clone(), self.has_ended);
        // Without a runtime the process ends, and its executors' jobs with it.
        let Ok(runtime) = Handle::try_current() else { return };
        runtime.spawn(async move {
            if !has_ended && let Err(error) = server.cancel_job(job.clone()).await {
                tracing::warn!(%job, %error, "the job cannot be cancelled");
            }
            server.state.executor_manager.clean_up_job_data(job);
        });
    }
}

impl<'a> Attempt<'a> {
    /// Submits a statement.
    pub(crate) async fn new(
        server: &'a Server,
        slots: &'a Arc<Slots>,
        jobs: &'a Arc<dyn JobState>,
        drains: &'a Drains,
        settings: &settings::Cluster,
        job: &Job,
    ) -> Result<Self> {
        // Before the submission, so that no loss goes by unseen.
        let events = slots.cluster_state_events().await.map_err(internal)?;
        let (sender, messages) = mpsc::channel(MESSAGES_MAX);
        let context = Arc::clone(&job.context);
        let statement = drains.begin();
        let id = server.submit_job(&job.name, context, &job.plan, Some(sender)).await.map_err(internal)?;
        let submitted = Submitted { server: server.clone(), job: id, has_ended: false, _statement: statement };
        let timeout = Duration::from_millis(settings.progress_timeout_ms);
        let progress = Arc::clone(&job.progress);
        progress.set(StageCounts::default());
        Ok(Self {
            submitted,
            server,
            slots,
            jobs,
            drains,
            progress,
            messages,
            events,
            looks_max: timeout.as_millis() / LOOK.as_millis(),
            stages_max: stages_max(&job.plan)?,
        })
    }

    /// Waits for its end.
    pub(crate) async fn run(mut self) -> Result<Ended> {
        let mut looks = tokio::time::interval(LOOK);
        let mut idle_looks = 0;
        loop {
            let status = tokio::select! {
                biased;
                message = self.messages.recv() => message.and_then(|message| message.status),
                event = self.events.next() => {
                    if let Some(ClusterStateEvent::RemovedExecutor { executor_id }) = event
                        && !self.drains.is_released(&executor_id)
                    {
                        return Ok(Ended::Lost(format!("executor {executor_id} was lost")));
                    }
                    continue;
                }
                _ = looks.tick() => {
                    let was_idle = idle_looks > 0;
                    idle_looks = if is_idle(self.server, &self.submitted.job).await { idle_looks + 1 } else { 0 };
                    // They wait for this statement, and it for another that may be given tasks.
                    if was_idle && idle_looks > 0 && all_are_ending(self.slots, self.drains).await {
                        return Ok(Ended::Lost("all executors are asked to end".into()));
                    }
                    if idle_looks > self.looks_max {
                        return Ok(Ended::Stuck("no task of it ran any more".into()));
                    }
                    let job = &self.submitted.job;
                    if let Some(running) = self.server.state.task_manager.get_running_job_cache().get(job) {
                        let counts = counts(&*running.execution_graph.read().await);
                        self.progress.set(counts);
                        if counts.stages > self.stages_max {
                            return Ok(Ended::Stuck(format!("{} stages and no end", counts.stages)));
                        }
                    }
                    let status = self.server.state.task_manager.get_job_status(job).await.map_err(internal)?;
                    status.and_then(|status| status.status)
                }
            };
            match status {
                Some(Status::Successful(job)) => {
                    self.submitted.has_ended = true;
                    note_end(self.jobs, &self.submitted.job, &self.progress).await;
                    let rows = Rows { partitions: job.partition_location, submitted: self.submitted };
                    return Ok(Ended::Rows(Box::new(rows)));
                }
                Some(Status::Failed(job)) => {
                    self.submitted.has_ended = true;
                    if job.error.contains(UNPREPARED) {
                        self.slots.refused(&self.submitted.job).await.map_err(internal)?;
                    }
                    return failure(&job.error);
                }
                Some(Status::Queued(_) | Status::Running(_)) | None => {}
            }
        }
    }
}

/// The most stages that a statement may need. The adaptive planner, which plans again after each stage, may plan the same one
/// for ever (an outer join of which it learns that a side is empty).
fn stages_max(plan: &LogicalPlan) -> Result<u64> {
    let mut nodes = 0;
    let counted = plan.apply_with_subqueries(|_| {
        nodes += 1;
        Ok(TreeNodeRecursion::Continue)
    });
    counted.map_err(|error| Error::internal(format!("a plan cannot be counted: {error}")))?;
    Ok(STAGES + STAGES_PER_NODE * nodes)
}

/// Notes what the stages of a job that is done did.
async fn note_end(jobs: &Arc<dyn JobState>, job: &JobId, progress: &StageProgress) {
    // It is for people, and the rows are there: without it there is less to show.
    let Ok(Some(graph)) = jobs.get_execution_graph(job).await else { return };
    progress.set(counts(&graph));
    if progress.wants_explanation() {
        progress.explain(explain(&graph));
    }
}

/// Whether no executor may be given tasks any more.
async fn all_are_ending(slots: &Slots, drains: &Drains) -> bool {
    let executors = slots.registered_executor_metadata().await;
    executors.iter().all(|executor| drains.is_ending(&executor.id))
}

/// Whether the job runs nothing and is not to blame others for it: it has no task that could run, or nobody has any that
/// runs.
async fn is_idle(server: &Server, job: &JobId) -> bool {
    let jobs = server.state.task_manager.get_running_job_cache();
    let Some(own) = jobs.get(job) else { return false };
    let graph = own.execution_graph.read().await;
    let (running, available) = (graph.running_tasks().len(), graph.available_tasks());
    drop(graph);
    if running > 0 {
        return false;
    }
    if available == 0 {
        return true;
    }
    for job in jobs.values() {
        if !job.execution_graph.read().await.running_tasks().is_empty() {
            return false;
        }
    }
    true
}

//! The scheduler of this process: who its executors are, and a statement's way through them.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use ballista_core::serde::BallistaPhysicalExtensionCodec;
use ballista_core::serde::protobuf::UpdateTaskStatusParams;
use ballista_core::serde::protobuf::scheduler_grpc_server::SchedulerGrpc;
use ballista_core::serde::scheduler::ExecutorMetadata;
use ballista_scheduler::cluster::{BallistaCluster, ClusterState, JobState};
use ballista_scheduler::config::SchedulerConfig;
use ballista_scheduler::scheduler_process::create_scheduler;
use ballista_scheduler::scheduler_server::SchedulerServer;
use datafusion::prelude::SessionConfig;
use datafusion_proto::physical_plan::PhysicalExtensionCodec;
use datafusion_proto::protobuf::{LogicalPlanNode, PhysicalPlanNode};
use futures::StreamExt;
use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};
use parking_lot::Mutex;
use tereza_engine::cluster::{Candidate, Cluster, Executor, Job, Planning, Route, is_hash_join_too_large, plan_codec};
use tereza_engine::query::BatchStream;
use tereza_runtime::{Error, Result, clock, ids, settings};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::Request;

use crate::attempt::{Attempt, Ended};
use crate::drain::Drains;
use crate::executors::{Desk, Watches};
use crate::slots::{Orphans, Slots};
use crate::{config, executors, result, router};

/// Ballista's scheduler over plans of DataFusion.
pub(crate) type Server = SchedulerServer<LogicalPlanNode, PhysicalPlanNode>;

/// How often a statement without an executor looks for one.
const EXECUTOR_POLL: Duration = Duration::from_millis(50);
/// How often tasks are looked for whose job is gone.
const ORPHAN_LOOK: Duration = Duration::from_millis(250);
/// A finished job's record is kept so long, in seconds; what its stages left is removed when its rows were fetched.
const FINISHED_JOB_S: u64 = 60;
/// What its stages left is removed after so long, in seconds, if nobody did it before.
const FINISHED_DATA_S: u64 = 300;

/// Runs statements on executors.
pub struct Scheduler {
    server: Server,
    state: Arc<dyn ClusterState>,
    /// The same.
    slots: Arc<Slots>,
    jobs: Arc<dyn JobState>,
    settings: settings::Cluster,
    codec: Arc<dyn PhysicalExtensionCodec>,
    /// Of all sessions that plan for executors: they share what executors have opened.
    session_id: String,
    executors: Mutex<Vec<Known>>,
    drains: Drains,
    drain_timeout: Duration,
}

/// An executor, and when it came.
struct Known {
    metadata: ExecutorMetadata,
    since: Instant,
}

impl Scheduler {
    /// A scheduler that executors reach at `address`, which [`Scheduler::serve`] is to answer at. An executor that is asked to
    /// end is needed for `drain_timeout` at most.
    pub async fn start(
        settings: &settings::Cluster,
        address: SocketAddr,
        drain_timeout: Duration,
    ) -> Result<Arc<Self>> {
        let codec = plan_codec(Arc::new(BallistaPhysicalExtensionCodec::default()), None);
        let seconds = |ms: u64| ms.div_ceil(1_000).max(1);
        let config = SchedulerConfig {
            external_host: address.ip().to_string(),
            bind_host: address.ip().to_string(),
            bind_port: address.port(),
            executor_timeout_seconds: seconds(settings.executor_timeout_ms),
            expire_dead_executor_interval_seconds: 1,
            no_executors_grace_period_seconds: seconds(settings.executor_wait_ms),
            finished_job_data_clean_up_interval_seconds: FINISHED_DATA_S,
            finished_job_state_clean_up_interval_seconds: FINISHED_JOB_S,
            grpc_server_max_decoding_message_size: settings.message_limit_bytes,
            grpc_server_max_encoding_message_size: settings.message_limit_bytes,
            grpc_client_max_message_size: settings.message_limit_bytes,
            override_physical_codec: Some(Arc::clone(&codec)),
            ..SchedulerConfig::default()
        };
        let cluster = BallistaCluster::new_from_config(&config).await.map_err(internal)?;
        let slots = Arc::new(Slots::new(cluster.cluster_state()));
        let (state, jobs) = (Arc::clone(&slots) as Arc<dyn ClusterState>, cluster.job_state());
        let cluster = BallistaCluster::new(Arc::clone(&state), Arc::clone(&jobs));
        let server = create_scheduler(cluster, Arc::new(config)).await.map_err(internal)?;
        Ok(Arc::new(Self {
            server,
            state,
            slots,
            jobs,
            settings: settings.clone(),
            codec,
            session_id: ids::new_id(),
            executors: Mutex::default(),
            drains: Drains::default(),
            drain_timeout,
        }))
    }

    /// Answers executors until `stop` fires: when there are no statements any more.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, stop: CancellationToken) -> Result<()> {
        let (server, slots) = (self.server.clone(), Arc::clone(&self.slots));
        let (drains, drain_timeout) = (self.drains.clone(), self.drain_timeout);
        tokio::select! {
            served = executors::serve(Desk { server, slots, drains, drain_timeout }, listener) => served,
            watched = self.watch_executors() => watched,
            cancelled = self.cancel_orphans() => cancelled,
            () = stop.cancelled() => Ok(()),
        }
    }

    /// Cancels what still runs of statements that have ended, for as long as it is polled.
    async fn cancel_orphans(&self) -> Result<()> {
        let state = &self.server.state;
        loop {
            tokio::time::sleep(ORPHAN_LOOK).await;
            let jobs = state.task_manager.get_running_job_cache();
            let Orphans { cancelled, freed } =
                self.slots.orphans(|job| jobs.contains_key(job)).await.map_err(internal)?;
            for tasks in cancelled {
                tracing::debug!(?tasks, "tasks without a job are cancelled");
                state.executor_manager.cancel_running_tasks(tasks).await.map_err(internal)?;
            }
            for executor_id in freed {
                // Who waits for slots is asked again when an executor says something.
                let nothing = UpdateTaskStatusParams { executor_id, task_status: Vec::new() };
                if let Err(error) = self.server.update_task_status(Request::new(nothing)).await {
                    tracing::warn!(%error, "slots are free, and nobody was told");
                }
            }
        }
    }

    /// Keeps count of the executors, and misses those that end, for as long as it is polled.
    async fn watch_executors(&self) -> Result<()> {
        describe_gauge!("tereza_executors", Unit::Count, "executors that can be given tasks");
        describe_gauge!("tereza_executor_slots", Unit::Count, "tasks that they run at once");
        describe_counter!(
            "tereza_statements_begun_again_total",
            "statements that lost an executor or did not fit, and began again"
        );
        describe_counter!(
            "tereza_statements_taken_back_total",
            "statements that executors could not run, and the process that schedules did"
        );
        let mut events = self.state.cluster_state_events().await.map_err(internal)?;
        let mut watches = Watches::new(self.server.clone());
        loop {
            let executors = self.state.registered_executor_metadata().await;
            watches.set(&executors);
            gauge!("tereza_executors").set(executors.len() as f64);
            self.know(executors);
            gauge!("tereza_executor_slots").set(self.slots() as f64);
            if events.next().await.is_none() {
                return Err(Error::internal("the scheduler no longer tells who its executors are"));
            }
        }
    }

    fn know(&self, executors: Vec<ExecutorMetadata>) {
        let mut known = self.executors.lock();
        known.retain(|known| {
            let is_there = executors.iter().any(|executor| executor.id == known.metadata.id);
            if !is_there {
                self.drains.lost(&known.metadata.id);
            }
            is_there
        });
        for metadata in executors {
            if !known.iter().any(|known| known.metadata.id == metadata.id) {
                known.push(Known { metadata, since: clock::now() });
            }
        }
    }

    /// How many executors can be given tasks now.
    pub fn executor_count(&self) -> usize {
        self.executors.lock().iter().filter(|known| self.is_taking_tasks(known)).count()
    }

    /// How many tasks they run at once.
    fn slots(&self) -> usize {
        let executors = self.executors.lock();
        let taking = executors.iter().filter(|known| self.is_taking_tasks(known));
        taking.map(|known| known.metadata.specification.vcores as usize).sum()
    }

    fn is_taking_tasks(&self, executor: &Known) -> bool {
        !self.drains.is_ending(&executor.metadata.id)
    }

    async fn wait_for_executor(&self) -> Result<()> {
        let waiting = async {
            while self.executor_count() == 0 {
                tokio::time::sleep(EXECUTOR_POLL).await;
            }
        };
        let wait = Duration::from_millis(self.settings.executor_wait_ms);
        tokio::time::timeout(wait, waiting).await.map_err(|_| {
            Error::unavailable(format!("no executor came within {} ms", self.settings.executor_wait_ms))
                .with_hint("start some with `tereza executor`, or SET tereza.mode = 'local'")
        })
    }
}

#[async_trait]
impl Cluster for Scheduler {
    fn route(&self, candidate: &Candidate) -> Result<Route> {
        // Where all are asked to end, others are waited for.
        router::route(candidate, self.executors.lock().len(), self.settings.scan_bytes_min)
    }

    fn executors(&self) -> Vec<Executor> {
        let known = self.executors.lock();
        let executor = |Known { metadata, since }: &Known| Executor {
            id: metadata.id.clone(),
            address: format!("{}:{}", metadata.host, metadata.grpc_port),
            slots: metadata.specification.vcores,
            uptime_ms: u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        known.iter().map(executor).collect()
    }

    fn planning(&self, config: SessionConfig) -> Planning {
        let codec = Arc::clone(&self.codec);
        config::planning(config, self.slots(), &self.session_id, codec, self.settings.message_limit_bytes)
    }

    async fn run(&self, job: Job) -> Result<BatchStream> {
        let mut losses = Vec::new();
        let (mut job, mut is_adaptive, mut is_sorted) = (job, true, false);
        let attempts_max = self.settings.attempts_max.max(1);
        for attempt in 1..=attempts_max {
            self.wait_for_executor().await?;
            let attempting =
                Attempt::new(&self.server, &self.slots, &self.jobs, &self.drains, &self.settings, &job).await?;
            let loss = match attempting.run().await {
                Ok(Ended::Rows(rows)) => match result::fetch(*rows, &self.settings).await {
                    Ok(stream) => return Ok(stream),
                    Err(loss) => loss,
                },
                // Nobody was lost: executors cannot read a part of the plan.
                Ok(Ended::Lost(loss)) if loss.contains(result::UNPREPARED) && losses.contains(&loss) => {
                    return Err(taken_back(&loss));
                }
                Ok(Ended::Lost(loss)) => loss,
                Ok(Ended::Stuck(reason)) if is_adaptive => {
                    job = job.with_settings(config::STATIC_PLANNER)?;
                    is_adaptive = false;
                    reason
                }
                Ok(Ended::Stuck(reason)) => return Err(taken_back(&reason)),
                // The adaptive planner hashes a side also then, if it does not know how large it is.
                Err(error)
                    if is_hash_join_too_large(&error) && (!is_sorted || is_adaptive) && attempt < attempts_max =>
                {
                    is_adaptive = is_adaptive && !is_sorted;
                    is_sorted = true;
                    job = job.with_settings(config::SORTED)?;
                    if !is_adaptive {
                        job = job.with_settings(config::STATIC_PLANNER)?;
                    }
                    error.message().to_owned()
                }
                Err(error) => return Err(error),
            };
            tracing::warn!(query = job.name, attempt, loss, "the statement begins again");
            counter!("tereza_statements_begun_again_total").increment(1);
            losses.push(loss);
        }
        Err(Error::unavailable(format!("given up after {} attempts: {}", losses.len(), losses.join("; "))))
    }
}

impl fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scheduler").field("executors", &self.executor_count()).finish_non_exhaustive()
    }
}

/// What makes the process that schedules run a statement itself.
fn taken_back(reason: &str) -> Error {
    counter!("tereza_statements_taken_back_total").increment(1);
    Error::unsupported(format!("by executors: {reason}"))
}

/// An error of Ballista's that nobody outside can do anything about.
pub(crate) fn internal(error: ballista_core::error::BallistaError) -> Error {
    Error::internal(format!("scheduler: {error}"))
}

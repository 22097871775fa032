//! Which tasks hold the slots of executors.
//!
//! Ballista counts free slots, and when a task has ended looks up in its job how many it held. After the loss of an executor it
//! cancels tasks of other executors too, and by the time that they say so their job may be gone: those slots stayed taken, and
//! an executor without any gets no tasks for ever. So here slots are given back task by task, when the executor says that the
//! task has ended, whatever has become of its job. And tasks whose job is gone are cancelled until they have ended: Ballista does
//! so once, which goes by a task that has not begun, and waits for executors one after the other, also for one that hangs.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use ballista_core::JobId;
use ballista_core::error::Result;
use ballista_core::serde::protobuf::task_status::Status;
use ballista_core::serde::protobuf::{ExecutorHeartbeat, TaskStatus};
use ballista_core::serde::scheduler::{ExecutorData, ExecutorMetadata};
use ballista_scheduler::cluster::{BoundTask, ClusterState, ClusterStateEventStream, ExecutorSlot};
use ballista_scheduler::config::TaskDistributionPolicy;
use ballista_scheduler::state::execution_graph::RunningTaskInfo;
use ballista_scheduler::state::task_manager::JobInfoCache;
use parking_lot::Mutex;

/// Looks at which a task without a job is cancelled; the first only notes it, since its end may be on its way. An executor that
/// does not know the task says nothing, as when its job was cancelled between the choice of an executor and the launch: then its
/// slots are free.
const LOOKS_MAX: u32 = 4;

/// Ballista's record of executors, with slots that belong to tasks.
pub(crate) struct Slots {
    inner: Arc<dyn ClusterState>,
    /// By executor.
    held: Mutex<HashMap<String, HashMap<Task, Held>>>,
}

/// What a task holds.
#[derive(Debug)]
struct Held {
    slots: u32,
    /// How often it was seen without its job.
    looks: u32,
}

/// What is to be done about tasks whose job is gone.
#[derive(Debug)]
pub(crate) struct Orphans {
    /// They are to be cancelled; those of one executor together.
    pub(crate) cancelled: Vec<Vec<RunningTaskInfo>>,
    /// Executors that have free slots now.
    pub(crate) freed: HashSet<String>,
}

/// A run of a task.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Task {
    job: String,
    stage: u64,
    /// A stage that is begun again counts its tasks from 0 again.
    stage_attempt: u64,
    task: u64,
}

impl Task {
    fn of(status: &TaskStatus) -> Self {
        Self {
            job: status.job_id.clone(),
            stage: status.stage_id.into(),
            stage_attempt: status.stage_attempt_num.into(),
            task: status.task_id.into(),
        }
    }
}

impl Slots {
    pub(crate) fn new(inner: Arc<dyn ClusterState>) -> Self {
        Self { inner, held: Mutex::default() }
    }

    /// An executor says how tasks are.
    pub(crate) async fn told(&self, executor: &str, statuses: &[TaskStatus]) -> Result<()> {
        let has_ended = |status: &&TaskStatus| matches!(status.status, Some(Status::Failed(_) | Status::Successful(_)));
        let ended: Vec<Task> = statuses.iter().filter(has_ended).map(Task::of).collect();
        let freed = match self.held.lock().get_mut(executor) {
            Some(held) => ended.iter().filter_map(|task| held.remove(task)).map(|held| held.slots).sum(),
            None => 0,
        };
        self.inner.unbind_tasks(vec![(executor.to_owned(), freed)]).await
    }

    /// Executors have refused tasks of a job, and will not say more of them.
    pub(crate) async fn refused(&self, job: &JobId) -> Result<()> {
        let job = job.to_string();
        let freed: Vec<ExecutorSlot> = {
            let mut held = self.held.lock();
            let free = |(executor, tasks): (&String, &mut HashMap<Task, Held>)| {
                let freed = tasks.extract_if(|task, _| task.job == job).map(|(_, held)| held.slots).sum();
                (executor.clone(), freed)
            };
            held.iter_mut().map(free).collect()
        };
        self.inner.unbind_tasks(freed).await
    }

    /// Looks for tasks whose job is gone.
    pub(crate) async fn orphans(&self, is_there: impl Fn(&JobId) -> bool + Send) -> Result<Orphans> {
        let (mut cancelled, mut freed) = (Vec::new(), Vec::new());
        for (executor, tasks) in self.held.lock().iter_mut() {
            let mut of_executor = Vec::new();
            tasks.retain(|task, held| {
                let job_id = JobId::from(task.job.clone());
                if is_there(&job_id) {
                    return true;
                }
                held.looks += 1;
                if held.looks > LOOKS_MAX {
                    freed.push((executor.clone(), held.slots));
                    return false;
                }
                if held.looks > 1 {
                    let (stage_id, task_id) = (task.stage as usize, task.task as usize);
                    of_executor.push(RunningTaskInfo { task_id, job_id, stage_id, executor_id: executor.clone() });
                }
                true
            });
            cancelled.push(of_executor);
        }
        self.inner.unbind_tasks(freed.clone()).await?;
        cancelled.retain(|tasks| !tasks.is_empty());
        Ok(Orphans { cancelled, freed: freed.into_iter().map(|(executor, _)| executor).collect() })
    }
}

#[async_trait]
impl ClusterState for Slots {
    async fn init(&self) -> Result<()> {
        self.inner.init().await
    }

    async fn bind_schedulable_tasks(
        &self,
        distribution: TaskDistributionPolicy,
        active_jobs: Arc<HashMap<JobId, JobInfoCache>>,
        executors: Option<HashSet<String>>,
    ) -> Result<Vec<BoundTask>> {
        let bound = self.inner.bind_schedulable_tasks(distribution, active_jobs, executors).await?;
        let mut held = self.held.lock();
        for (executor, task) in &bound {
            let taken = Held { slots: task.vcores_consumed, looks: 0 };
            let task = Task {
                job: task.key.job_id.to_string(),
                stage: task.key.stage_id as u64,
                stage_attempt: task.stage_attempt_num as u64,
                task: task.key.task_id as u64,
            };
            held.entry(executor.clone()).or_default().insert(task, taken);
        }
        drop(held);
        Ok(bound)
    }

    /// What Ballista counts is not asked for: the methods above give slots back.
    async fn unbind_tasks(&self, _: Vec<ExecutorSlot>) -> Result<()> {
        Ok(())
    }

    async fn register_executor(&self, metadata: ExecutorMetadata, spec: ExecutorData) -> Result<()> {
        self.held.lock().remove(&metadata.id);
        self.inner.register_executor(metadata, spec).await
    }

    async fn save_executor_metadata(&self, metadata: ExecutorMetadata) -> Result<()> {
        self.inner.save_executor_metadata(metadata).await
    }

    async fn get_executor_metadata(&self, executor_id: &str) -> Result<ExecutorMetadata> {
        self.inner.get_executor_metadata(executor_id).await
    }

    async fn registered_executor_metadata(&self) -> Vec<ExecutorMetadata> {
        self.inner.registered_executor_metadata().await
    }

    async fn save_executor_heartbeat(&self, heartbeat: ExecutorHeartbeat) -> Result<()> {
        self.inner.save_executor_heartbeat(heartbeat).await
    }

    async fn remove_executor(&self, executor_id: &str) -> Result<()> {
        self.inner.remove_executor(executor_id).await?;
        self.held.lock().remove(executor_id);
        Ok(())
    }

    fn executor_heartbeats(&self) -> HashMap<String, ExecutorHeartbeat> {
        self.inner.executor_heartbeats()
    }

    fn get_executor_heartbeat(&self, executor_id: &str) -> Option<ExecutorHeartbeat> {
        self.inner.get_executor_heartbeat(executor_id)
    }

    async fn cluster_state_events(&self) -> Result<ClusterStateEventStream> {
        self.inner.cluster_state_events().await
    }
}

#[cfg(test)]
mod tests {
    use ballista_core::serde::protobuf::{AvailableVcores, FailedTask};
    use ballista_core::serde::scheduler::{ExecutorSpecification, TaskKey};
    use ballista_scheduler::cluster::DistributionPolicy;
    use ballista_scheduler::cluster::memory::InMemoryClusterState;
    use ballista_scheduler::state::execution_graph::TaskDescription;
    use datafusion::arrow::datatypes::Schema;
    use datafusion::physical_plan::empty::EmptyExec;
    use datafusion::prelude::SessionConfig;

    use super::*;

    /// One task, which takes all slots that are free.
    #[derive(Debug)]
    struct TakeAll;

    #[async_trait]
    impl DistributionPolicy for TakeAll {
        async fn bind_tasks(
            &self,
            budgets: Vec<&mut AvailableVcores>,
            _: Arc<HashMap<JobId, JobInfoCache>>,
        ) -> datafusion::error::Result<Vec<BoundTask>> {
            let bind = |budget: &mut AvailableVcores| {
                let task = TaskDescription {
                    session_id: "s".into(),
                    key: TaskKey { job_id: JobId::new("job"), stage_id: 1, task_id: 2 },
                    stage_attempt_num: 3,
                    task_attempt: 0,
                    global_input_partition_ids: vec![0],
                    vcores_consumed: std::mem::take(&mut budget.vcores),
                    plan: Arc::new(EmptyExec::new(Arc::new(Schema::empty()))),
                    session_config: Arc::new(SessionConfig::new()),
                };
                (budget.executor_id.clone(), task)
            };
            Ok(budgets.into_iter().map(bind).collect())
        }

        fn name(&self) -> &str {
            "all"
        }
    }

    /// How many slots are free; they are not afterwards.
    async fn take(slots: &Slots) -> u32 {
        let policy = TaskDistributionPolicy::Custom(Arc::new(TakeAll));
        let bound = slots.bind_schedulable_tasks(policy, Arc::default(), None).await.unwrap();
        bound.iter().map(|(_, task)| task.vcores_consumed).sum()
    }

    fn status(job: &str, stage_attempt_num: u32) -> TaskStatus {
        let status = Some(Status::Failed(FailedTask::default()));
        TaskStatus { job_id: job.into(), stage_id: 1, stage_attempt_num, task_id: 2, status, ..TaskStatus::default() }
    }

    #[tokio::test]
    async fn a_task_gives_its_slots_back_once_when_it_has_ended() {
        let slots = Slots::new(Arc::new(InMemoryClusterState::default()));
        let specification = ExecutorSpecification::default().with_vcores(2);
        let metadata = ExecutorMetadata {
            id: "e".into(),
            host: "127.0.0.1".into(),
            port: 1,
            grpc_port: 2,
            specification,
            os_info: Default::default(),
        };
        let data = ExecutorData { executor_id: "e".into(), total_vcores: 2, available_vcores: 2 };
        slots.register_executor(metadata, data).await.unwrap();
        assert_eq!((take(&slots).await, take(&slots).await), (2, 0));
        // What is counted elsewhere, and tasks of others.
        slots.unbind_tasks(vec![("e".into(), 2)]).await.unwrap();
        slots.told("e", &[status("job", 4), status("other", 3)]).await.unwrap();
        slots.told("f", &[status("job", 3)]).await.unwrap();
        slots.told("e", &[TaskStatus { status: None, ..status("job", 3) }]).await.unwrap();
        assert_eq!(take(&slots).await, 0);
        for _ in 0..2 {
            slots.told("e", &[status("job", 3)]).await.unwrap();
        }
        assert_eq!((take(&slots).await, take(&slots).await), (2, 0));
        for look in 0..=LOOKS_MAX {
            let Orphans { cancelled, freed } = slots.orphans(|_| false).await.unwrap();
            let is_cancelled = cancelled.iter().flatten().any(|task| (task.stage_id, task.task_id) == (1, 2));
            assert_eq!(
                (is_cancelled, freed.len()),
                (look > 0 && look < LOOKS_MAX, usize::from(look == LOOKS_MAX)),
                "{look}"
            );
        }
        assert_eq!((take(&slots).await, slots.orphans(|_| true).await.unwrap().cancelled.len()), (2, 0));
        slots.refused(&JobId::new("other")).await.unwrap();
        assert_eq!(take(&slots).await, 0);
        slots.refused(&JobId::new("job")).await.unwrap();
        assert_eq!((take(&slots).await, take(&slots).await), (2, 0));
    }
}

//! How a stage is run: as Ballista does it, but tasks share the executor's memory, what they pass on is compact, they end when
//! they are cancelled, and their errors arrive whole at the client.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use arrow::error::ArrowError;
use async_trait::async_trait;
use ballista_core::JobId;
use ballista_core::error::BallistaError;
use ballista_core::serde::protobuf::{RuntimeStatsReport, ShuffleWritePartition, TaskColumnStats, WindowStateReport};
use ballista_executor::execution_engine::{DefaultExecutionEngine, ExecutionEngine, QueryStageExecutor};
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::prelude::SessionConfig;
use tereza_engine::Stages;
use tereza_engine::cluster::to_failure;
use tokio_util::sync::CancellationToken;

use crate::cancel::cancellable;
use crate::compact::compacted;
use crate::connections::Connections;
use crate::threads::Threads;

/// Runs stages.
pub(crate) struct StageEngine {
    inner: DefaultExecutionEngine,
    stages: Arc<Stages>,
    threads: Arc<Threads>,
}

impl StageEngine {
    pub(crate) fn new(stages: Arc<Stages>, threads: Threads) -> Self {
        let inner = DefaultExecutionEngine::with_client_pool(Arc::new(Connections::default()));
        Self { inner, stages, threads: Arc::new(threads) }
    }
}

impl ExecutionEngine for StageEngine {
    fn create_query_stage_exec(
        &self,
        job: JobId,
        stage: usize,
        task: usize,
        partitions: Vec<usize>,
        plan: Arc<dyn ExecutionPlan>,
        work_dir: &str,
        config: &SessionConfig,
    ) -> Result<Arc<dyn QueryStageExecutor>> {
        let runtime = self.stages.runtime_of(job.as_ref(), config)?;
        let token = CancellationToken::new();
        let plan = compacted(cancellable(plan, &token)?)?;
        let inner = self.inner.create_query_stage_exec(job, stage, task, partitions, plan, work_dir, config)?;
        Ok(Arc::new(Stage { inner, token, runtime, threads: Arc::clone(&self.threads) }))
    }
}

#[derive(Debug)]
struct Stage {
    inner: Arc<dyn QueryStageExecutor>,
    /// Ends the leaves.
    token: CancellationToken,
    runtime: Arc<RuntimeEnv>,
    threads: Arc<Threads>,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl QueryStageExecutor for Stage {
    async fn execute_query_stage(&self, task: usize, context: Arc<TaskContext>) -> Result<Vec<ShuffleWritePartition>> {
        let _end_with_this = self.token.clone().drop_guard();
        let context = Arc::new(in_runtime(&context, Arc::clone(&self.runtime)));
        let inner = Arc::clone(&self.inner);
        let ended = self.threads.run(async move { inner.execute_query_stage(task, context).await }).await;
        ended.map_err(|error| own(&error).map(to_failure).unwrap_or(error))
    }

    fn collect_plan_metrics(&self) -> Vec<MetricsSet> {
        self.inner.collect_plan_metrics()
    }

    fn collect_runtime_stats_reports(&self) -> Vec<RuntimeStatsReport> {
        self.inner.collect_runtime_stats_reports()
    }

    fn collect_window_state_reports(&self) -> Result<Vec<WindowStateReport>> {
        self.inner.collect_window_state_reports()
    }

    fn collect_column_stats(&self) -> Vec<TaskColumnStats> {
        self.inner.collect_column_stats()
    }
}

/// The context with the memory budget of the whole executor, or of the whole statement here. Ballista gives each task a
/// fair pool of its own, in which a sort that spills has less the more operators there are, and which does not see what
/// the process really holds.
fn in_runtime(context: &TaskContext, runtime: Arc<RuntimeEnv>) -> TaskContext {
    TaskContext::new(
        context.task_id(),
        context.session_id(),
        context.session_config().clone(),
        context.scalar_functions().clone(),
        context.higher_order_functions().clone(),
        context.aggregate_functions().clone(),
        context.window_functions().clone(),
        runtime,
    )
}

/// The statement's own error in that of a task; `None` if Ballista knows what to do about it: fetch elsewhere, or try again.
fn own(error: &DataFusionError) -> Option<&(dyn Error + 'static)> {
    match error.find_root() {
        DataFusionError::IoError(_) => None,
        DataFusionError::ArrowError(inner, _) if is_of_connection(inner) => None,
        DataFusionError::External(inner) => match inner.downcast_ref::<BallistaError>() {
            Some(BallistaError::ArrowError(inner)) => match inner.as_ref() {
                ArrowError::IoError(..) => None,
                inner if is_of_connection(inner) => None,
                inner => Some(inner),
            },
            Some(BallistaError::DataFusionError(inner)) => own(inner),
            Some(_) => None,
            None => Some(error),
        },
        _ => Some(error),
    }
}

/// Whether another executor, whose rows were read, went away meanwhile: such an error has the text of a status of gRPC.
fn is_of_connection(error: &ArrowError) -> bool {
    matches!(error, ArrowError::IpcError(text) if text.contains("code: '"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(error: BallistaError) -> Option<String> {
        let error = DataFusionError::Shared(Arc::new(DataFusionError::External(Box::new(error))));
        own(&error).map(|error| to_failure(error).to_string())
    }

    #[test]
    fn what_ballista_can_mend_is_left_to_it() {
        assert_eq!(told(BallistaError::FetchFailed("e".into(), 1, 0, "refused".into())), None);
        assert_eq!(told(BallistaError::IoError(std::io::Error::other("disk"))), None);
        let broken =
            "Arrow error: Ipc error: code: 'Unknown error', message: \"h2 protocol error: error reading a body\"";
        let broken = || ArrowError::IpcError(broken.into());
        assert_eq!(told(BallistaError::ArrowError(Box::new(broken()))), None);
        assert_eq!(told(BallistaError::DataFusionError(Box::new(DataFusionError::from(broken())))), None);
        let division = told(BallistaError::ArrowError(Box::new(ArrowError::DivideByZero))).unwrap();
        assert!(division.contains("division by zero"), "{division}");
        let nested = DataFusionError::ResourcesExhausted("too large".into());
        let nested = told(BallistaError::DataFusionError(Box::new(nested))).unwrap();
        assert!(nested.contains("ResourceExhausted"), "{nested}");
    }
}

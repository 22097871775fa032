//! The leaf that runs a statement on executors, and how it is planned for them.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, StringArray};
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_datafusion_err, internal_err};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::execution::context::QueryPlanner;
use datafusion::execution::session_state::SessionState;
use datafusion::execution::{SendableRecordBatchStream, SessionStateBuilder, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, ReplaceChildrenOptions, collect,
    execute_stream,
};
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use tereza_runtime::{Error, ErrorKind};

use super::barrier::Barriers;
use super::{Cluster, Job, Route, StageProgress};
use crate::error::to_datafusion;
use crate::join_order::JoinOrder;

/// Runs a logical plan on executors; its rows are the result, in one partition. What the cluster cannot run, though it took
/// it, runs in this process.
pub struct ClusterExec {
    cluster: Arc<dyn Cluster>,
    job: Job,
    /// The plan for this process.
    local: Arc<dyn ExecutionPlan>,
    /// For EXPLAIN ANALYZE: the lane and its reason. The rows are counted then, and what the stages did is the result.
    analyzing: Option<String>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl ClusterExec {
    /// A leaf with the columns that the statement has in this process.
    pub(super) fn new(cluster: Arc<dyn Cluster>, job: Job, local: Arc<dyn ExecutionPlan>) -> Self {
        Self::with(cluster, job, local, None)
    }

    /// The same for EXPLAIN ANALYZE, of which `job` is what it explains.
    pub(super) fn analyzing(cluster: Arc<dyn Cluster>, job: Job, local: Arc<dyn ExecutionPlan>, route: &Route) -> Self {
        Self::with(cluster, job, local, Some(format!("{}: {}", route.lane.as_str(), route.reason)))
    }

    fn with(cluster: Arc<dyn Cluster>, job: Job, local: Arc<dyn ExecutionPlan>, analyzing: Option<String>) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(local.schema()),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Self {
            cluster,
            job,
            local,
            analyzing,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }
}

impl fmt::Debug for ClusterExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterExec").field("job", &self.job.name).finish_non_exhaustive()
    }
}

impl DisplayAs for ClusterExec {
    fn fmt_as(&self, _kind: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterExec")
    }
}

impl ExecutionPlan for ClusterExec {
    fn name(&self) -> &str {
        "ClusterExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        _children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(self: Arc<Self>, _children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("partition {partition} of a result that has one");
        }
        let cluster = Arc::clone(&self.cluster);
        let (job, local) = (self.job.clone(), Arc::clone(&self.local));
        let schema = self.schema();
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        let wanted = Arc::clone(&schema);
        if let Some(lane) = self.analyzing.clone() {
            let explained = stream::once(analyze(cluster, job, local, context, lane)).try_flatten();
            return Ok(Box::pin(RecordBatchStreamAdapter::new(schema, explained)));
        }
        let rows = stream::once(run(cluster, job, local, context)).try_flatten().map(move |batch| {
            let batch = with_schema(&batch?, &wanted)?;
            baseline.record_output(batch.num_rows());
            Ok(batch)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// The rows from executors, or else from this process.
async fn run(
    cluster: Arc<dyn Cluster>,
    job: Job,
    local: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
) -> Result<BoxStream<'static, Result<RecordBatch>>> {
    let (name, progress) = (job.name.clone(), Arc::clone(&job.progress));
    match cluster.run(job).await {
        Ok(rows) => Ok(rows.map_err(to_datafusion).boxed()),
        Err(error) => take_back(&name, &progress, error, local, context),
    }
}

/// The rows from this process, if the error says that executors cannot give them.
fn take_back(
    name: &str,
    progress: &StageProgress,
    error: Error,
    local: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
) -> Result<BoxStream<'static, Result<RecordBatch>>> {
    if error.kind() != ErrorKind::Unsupported {
        return Err(to_datafusion(error));
    }
    tracing::warn!(query = name, %error, "the statement runs in this process");
    progress.take_back(error.message().to_owned());
    Ok(execute_stream(local, context)?.boxed())
}

/// Runs a statement for what its stages did.
async fn analyze(
    cluster: Arc<dyn Cluster>,
    job: Job,
    local: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    lane: String,
) -> Result<BoxStream<'static, Result<RecordBatch>>> {
    let (name, progress, schema) = (job.name.clone(), Arc::clone(&job.progress), local.schema());
    let mut rows = match cluster.run(job).await {
        Ok(rows) => rows,
        Err(error) => return take_back(&name, &progress, error, local, context),
    };
    let mut count = 0;
    while let Some(batch) = rows.next().await {
        count += batch.map_err(to_datafusion)?.num_rows();
    }
    let stages = progress.explanation().unwrap_or("what its stages did is not known any more");
    let texts = |texts: [&str; 2]| Arc::new(StringArray::from(texts.to_vec())) as ArrayRef;
    let plan = format!("{stages}{count} rows");
    let batch = RecordBatch::try_new(schema, vec![texts(["lane", "Plan with Metrics"]), texts([&lane, &plan])])?;
    Ok(stream::once(async { Ok(batch) }).boxed())
}

/// What EXPLAIN shows, with the lane and its reason in front.
pub(super) async fn with_route(
    explain: Arc<dyn ExecutionPlan>,
    route: &Route,
    context: Arc<TaskContext>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = explain.schema();
    let shown = collect(explain, context).await?;
    let text = |text: String| Arc::new(StringArray::from(vec![text])) as ArrayRef;
    let row = vec![text("lane".into()), text(format!("{}: {}", route.lane.as_str(), route.reason))];
    let rows = std::iter::once(RecordBatch::try_new(Arc::clone(&schema), row)?).chain(shown).collect();
    Ok(MemorySourceConfig::try_new_exec(&[rows], schema, None)?)
}

/// The batch with the columns that were promised: planned for executors, a column may be known to have NULLs, or be text of
/// another layout; and what one executor sends to another has the values of dictionaries in their place.
pub fn with_schema(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    if batch.num_columns() != schema.fields().len() {
        return Err(internal_datafusion_err!(
            "executors gave {} columns for {}",
            batch.num_columns(),
            schema.fields().len()
        ));
    }
    let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| {
        if column.data_type() == field.data_type() { Ok(Arc::clone(column)) } else { cast(column, field.data_type()) }
    });
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns.collect::<Result<_, _>>()?, &options)?)
}

/// DataFusion's planner with the engine's order of joins and its barriers, which the cluster's own rules do not replace: those
/// that a session has it drops.
#[derive(Debug)]
pub(super) struct ClusterPlanner;

#[async_trait]
impl QueryPlanner for ClusterPlanner {
    async fn create_physical_plan(&self, plan: &LogicalPlan, session: &dyn Session) -> Result<Arc<dyn ExecutionPlan>> {
        let planner = DefaultPhysicalPlanner::default();
        let Some(state) = session.as_any().downcast_ref::<SessionState>() else {
            return planner.create_physical_plan(plan, session).await;
        };
        let own: [Arc<dyn PhysicalOptimizerRule + Send + Sync>; 2] = [Arc::new(JoinOrder), Arc::new(Barriers)];
        let rules = own.into_iter().chain(state.physical_optimizers().iter().cloned());
        let state = SessionStateBuilder::new_from_existing(state.clone())
            .with_physical_optimizer_rules(rules.collect())
            .build();
        planner.create_physical_plan(plan, &state).await
    }
}

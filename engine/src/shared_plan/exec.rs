//! The operator.

use std::fmt;
use std::sync::{Arc, OnceLock};

use arrow::array::RecordBatch;
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, Result, Statistics};
use datafusion::config::ConfigOptions;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, SpillFile, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet, SpillMetrics};
use datafusion::physical_plan::spill::{SpillManager, get_record_batch_memory_size};
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, ReplaceChildrenOptions,
};
use futures::future::{BoxFuture, FutureExt, try_join_all};
use futures::stream::{self, StreamExt, TryStreamExt};

/// What is kept in memory is at most one part in so many of the budget.
const MEMORY_PART: usize = 8;

/// A subplan whose rows are computed once for all places that it stands in.
pub(crate) struct Shared {
    plan: Arc<dyn ExecutionPlan>,
    /// Begun by the first who asks; it goes on also if that one is gone.
    computed: OnceLock<Computed>,
}

type Computed = futures::future::Shared<BoxFuture<'static, Result<Arc<Vec<Kept>>, Arc<DataFusionError>>>>;

/// The rows of one partition.
struct Kept {
    batches: Vec<RecordBatch>,
    /// Those behind, which memory had no room for.
    spilled: Option<(SpillManager, Arc<dyn SpillFile>)>,
    /// The room of `batches`.
    _reservation: MemoryReservation,
}

impl Shared {
    pub(crate) fn new(plan: Arc<dyn ExecutionPlan>) -> Self {
        Self { plan, computed: OnceLock::new() }
    }

    pub(crate) fn plan(&self) -> &Arc<dyn ExecutionPlan> {
        &self.plan
    }

    fn computed(&self, context: Arc<TaskContext>, metrics: &ExecutionPlanMetricsSet) -> Computed {
        let begin = || {
            let partitions = self.plan.properties().partitioning.partition_count();
            let metrics: Vec<_> = (0..partitions).map(|partition| SpillMetrics::new(metrics, partition)).collect();
            let compute = compute(Arc::clone(&self.plan), context, metrics);
            compute.map(|kept| kept.map(Arc::new).map_err(Arc::new)).boxed().shared()
        };
        self.computed.get_or_init(begin).clone()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("plan", &self.plan).finish_non_exhaustive()
    }
}

/// All partitions, at once.
async fn compute(
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    metrics: Vec<SpillMetrics>,
) -> Result<Vec<Kept>> {
    let limit_bytes = match context.memory_pool().memory_limit() {
        MemoryLimit::Finite(bytes) => bytes / MEMORY_PART / metrics.len().max(1),
        MemoryLimit::Infinite | MemoryLimit::Unknown => usize::MAX,
    };
    let partitions = metrics.into_iter().enumerate().map(|(partition, metrics)| {
        let rows = plan.execute(partition, Arc::clone(&context))?;
        let reservation = MemoryConsumer::new(format!("Shared[{partition}]")).register(context.memory_pool());
        let spills = SpillManager::new(context.runtime_env(), metrics, plan.schema());
        let keep = SpawnedTask::spawn(keep(rows, reservation, limit_bytes, spills));
        Ok(async { keep.join_unwind().await.map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))? })
    });
    try_join_all(partitions.collect::<Result<Vec<_>>>()?).await
}

async fn keep(
    mut rows: SendableRecordBatchStream,
    reservation: MemoryReservation,
    limit_bytes: usize,
    spills: SpillManager,
) -> Result<Kept> {
    let mut batches = Vec::new();
    let mut file = None;
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        let bytes = get_record_batch_memory_size(&batch);
        let has_room = || reservation.size() + bytes <= limit_bytes && reservation.try_grow(bytes).is_ok();
        if file.is_none() && has_room() {
            batches.push(batch);
            continue;
        }
        // What comes after a spilled batch goes behind it: rows keep their order.
        let spilled = match &mut file {
            Some(spilled) => spilled,
            None => file.insert(spills.create_in_progress_file("shared subplan")?),
        };
        spilled.append_batch(&batch)?;
    }
    let spilled = match file {
        Some(mut file) => file.finish()?.map(|file| (spills, file)),
        None => None,
    };
    Ok(Kept { batches, spilled, _reservation: reservation })
}

/// A place of a shared subplan: a leaf until it is shown.
#[derive(Debug)]
pub(crate) struct SharedExec {
    index: usize,
    is_first: bool,
    /// Whether the subplan is among the operator's children. It is not while the plan around it is optimized: rules would
    /// change it here and not in its other places.
    is_shown: bool,
    shared: Arc<Shared>,
    metrics: ExecutionPlanMetricsSet,
}

impl SharedExec {
    pub(super) fn new(index: usize, is_first: bool, shared: Arc<Shared>) -> Self {
        Self { index, is_first, is_shown: false, shared, metrics: ExecutionPlanMetricsSet::new() }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The place, of another subplan.
    pub(crate) fn with_shared(&self, shared: Arc<Shared>) -> Self {
        Self { shared, metrics: ExecutionPlanMetricsSet::new(), ..*self }
    }
}

impl DisplayAs for SharedExec {
    fn fmt_as(&self, format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.index + 1;
        match format {
            DisplayFormatType::TreeRender => write!(f, "#{number}"),
            _ if self.is_shown => write!(f, "SharedExec: #{number}"),
            _ => write!(f, "SharedExec: #{number}, computed where it is shown"),
        }
    }
}

impl ExecutionPlan for SharedExec {
    fn name(&self) -> &str {
        Self::static_name()
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.shared.plan.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        if self.is_shown { vec![&self.shared.plan] } else { Vec::new() }
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        self.children().iter().map(|_| false).collect()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        self.children().iter().map(|_| true).collect()
    }

    /// With another subplan it has nothing in common with the other places any more.
    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(plan) = children.pop().filter(|plan| !Arc::ptr_eq(plan, &self.shared.plan)) else { return Ok(self) };
        let metrics = ExecutionPlanMetricsSet::new();
        Ok(Arc::new(Self { shared: Arc::new(Shared::new(plan)), metrics, ..*self }))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    /// What is run again computes its rows again, in each place for itself.
    fn reset_state(self: Arc<Self>) -> Result<Arc<dyn ExecutionPlan>> {
        let plan = Arc::clone(&self.shared.plan);
        // A shown subplan is reset as one of the children.
        let plan = if self.is_shown { plan } else { reset_plan_states(plan)? };
        let metrics = ExecutionPlanMetricsSet::new();
        Ok(Arc::new(Self { shared: Arc::new(Shared::new(plan)), metrics, ..*self }))
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn statistics_from_inputs(&self, _: &[Arc<Statistics>], args: &StatisticsArgs) -> Result<Arc<Statistics>> {
        StatisticsContext::new().compute(self.shared.plan.as_ref(), args)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        let computed = self.shared.computed(context, &self.metrics);
        let rows = async move {
            let kept = computed.await.map_err(DataFusionError::Shared)?;
            rows(&kept, partition)
        };
        let rows = stream::once(rows).try_flatten().inspect_ok(move |batch| {
            baseline.record_output(batch.num_rows());
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// The rows of one partition: those in memory, then those on disk.
fn rows(kept: &Arc<Vec<Kept>>, partition: usize) -> Result<impl stream::Stream<Item = Result<RecordBatch>> + use<>> {
    let spilled = match &kept[partition].spilled {
        Some((spills, file)) => spills.read_spill_as_stream(Arc::clone(file), None)?.boxed(),
        None => stream::empty().boxed(),
    };
    let count = kept[partition].batches.len();
    let kept = Arc::clone(kept);
    let held = stream::iter(0..count).map(move |index| Ok(kept[partition].batches[index].clone()));
    Ok(held.chain(spilled))
}

/// The rule that shows each shared subplan in its first place; the last, since others would change it there.
#[derive(Debug)]
pub(crate) struct ShowShared;

impl PhysicalOptimizerRule for ShowShared {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let shown = plan.transform_down(|node| {
            let Some(place) = node.downcast_ref::<SharedExec>().filter(|place| place.is_first && !place.is_shown)
            else {
                return Ok(Transformed::no(node));
            };
            let shown = SharedExec {
                is_shown: true,
                shared: Arc::clone(&place.shared),
                metrics: place.metrics.clone(),
                ..*place
            };
            // What is below was planned by itself, with this rule.
            Ok(Transformed::new(Arc::new(shown) as Arc<dyn ExecutionPlan>, true, TreeNodeRecursion::Jump))
        })?;
        Ok(shown.data)
    }

    fn name(&self) -> &str {
        "show_shared"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

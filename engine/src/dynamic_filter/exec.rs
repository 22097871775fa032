//! The operator.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::compute::{BatchCoalescer, filter_record_batch, prep_null_mask_filter};
use datafusion::common::cast::as_boolean_array;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, ScalarValue, Statistics};
use datafusion::config::ConfigOptions;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{DynamicFilterPhysicalExpr, Literal};
use datafusion::physical_plan::execution_plan::CardinalityEffect;
use datafusion::physical_plan::filter_pushdown::{
    ChildFilterDescription, ChildPushdownResult, FilterDescription, FilterPushdownPhase, FilterPushdownPropagation,
};
use datafusion::physical_plan::metrics::{BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, ReplaceChildrenOptions,
    apply_expression_roots,
};
use futures::{StreamExt, stream};

/// Rows that a filter is judged by.
const TRIAL_ROWS: usize = 128 * 1024;
/// A filter that keeps more than this part of them is not worth looking up each row for.
const KEPT_MAX: f64 = 0.5;

/// Drops rows of its input that joins above it will find no partner for; and rows pass that they do not know yet.
///
/// It changes how long a statement takes, never its result: with fewer filters, or none, that is the same.
#[derive(Debug)]
pub(super) struct DynamicFilterExec {
    input: Arc<dyn ExecutionPlan>,
    /// On the input's columns.
    filters: Vec<Arc<DynamicFilterPhysicalExpr>>,
    metrics: ExecutionPlanMetricsSet,
}

impl DynamicFilterExec {
    pub(super) fn new(input: Arc<dyn ExecutionPlan>, filters: Vec<Arc<DynamicFilterPhysicalExpr>>) -> Self {
        Self { input, filters, metrics: ExecutionPlanMetricsSet::new() }
    }

    /// The same with those filters whose ids `is_wanted`; the input alone if there are none.
    pub(super) fn only(&self, is_wanted: impl Fn(u64) -> bool) -> Arc<dyn ExecutionPlan> {
        let wanted = self.filters.iter().filter(|filter| filter.expression_id().is_some_and(&is_wanted));
        let filters: Vec<_> = wanted.cloned().collect();
        if filters.is_empty() {
            return Arc::clone(&self.input);
        }
        Arc::new(Self::new(Arc::clone(&self.input), filters))
    }
}

impl DisplayAs for DynamicFilterExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let filters: Vec<String> = self.filters.iter().map(ToString::to_string).collect();
        write!(f, "DynamicFilterExec: {}", filters.join(" AND "))
    }
}

impl ExecutionPlan for DynamicFilterExec {
    fn name(&self) -> &str {
        Self::static_name()
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self::new(children.swap_remove(0), self.filters.clone())))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    /// Without filters: a plan that is run again has joins that make new ones, which are not handed down again.
    fn reset_state(self: Arc<Self>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self::new(Arc::clone(&self.input), Vec::new())))
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        let filters: Vec<_> = self.filters.iter().map(|filter| Arc::clone(filter) as Arc<dyn PhysicalExpr>).collect();
        apply_expression_roots(&filters, f)
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::LowerEqual
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(partition)]
    }

    fn statistics_from_inputs(&self, inputs: &[Arc<Statistics>], _: &StatisticsArgs) -> Result<Arc<Statistics>> {
        Ok(Arc::new(inputs[0].as_ref().clone().to_inexact()))
    }

    fn gather_filters_for_pushdown(
        &self,
        _: FilterPushdownPhase,
        parent_filters: Vec<Arc<dyn PhysicalExpr>>,
        _: &ConfigOptions,
    ) -> Result<FilterDescription> {
        // The scan gets them all the same: it may skip whole row groups.
        let child = ChildFilterDescription::from_child(&parent_filters, &self.input)?;
        Ok(FilterDescription::new().with_child(child))
    }

    fn handle_child_pushdown_result(
        &self,
        phase: FilterPushdownPhase,
        result: ChildPushdownResult,
        _: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn ExecutionPlan>>> {
        if phase != FilterPushdownPhase::Post {
            return Ok(FilterPushdownPropagation::if_all(result));
        }
        let mut filters = self.filters.clone();
        for handed in &result.parent_filters {
            let filter: Arc<dyn Any + Send + Sync> = Arc::clone(&handed.filter) as _;
            if let Ok(filter) = filter.downcast::<DynamicFilterPhysicalExpr>() {
                filters.push(filter);
            }
        }
        let new: Arc<dyn ExecutionPlan> = Arc::new(Self::new(Arc::clone(&self.input), filters));
        Ok(FilterPushdownPropagation::if_all(result).with_updated_node(new))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let schema = self.schema();
        let batch_size_rows = context.session_config().batch_size();
        let filtering = Filtering {
            input: self.input.execute(partition, context)?,
            trials: self.filters.iter().map(Trial::new).collect(),
            coalescer: BatchCoalescer::new(Arc::clone(&schema), batch_size_rows)
                .with_biggest_coalesce_batch_size(Some(batch_size_rows / 2)),
            has_ended: false,
            metrics: BaselineMetrics::new(&self.metrics, partition),
            dropped: MetricBuilder::new(&self.metrics).counter("rows_dropped", partition),
        };
        let batches = stream::try_unfold(filtering, async |mut filtering| {
            Ok(filtering.next().await?.map(|batch| (batch, filtering)))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// One partition while it is read.
struct Filtering {
    input: SendableRecordBatchStream,
    trials: Vec<Trial>,
    coalescer: BatchCoalescer,
    has_ended: bool,
    metrics: BaselineMetrics,
    dropped: Count,
}

impl Filtering {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(batch) = self.coalescer.next_completed_batch() {
                self.metrics.record_output(batch.num_rows());
                return Ok(Some(batch));
            }
            if self.has_ended {
                return Ok(None);
            }
            let Some(batch) = self.input.next().await.transpose()? else {
                self.has_ended = true;
                self.coalescer.finish_buffered_batch()?;
                continue;
            };
            let _timer = self.metrics.elapsed_compute().timer();
            let rows = batch.num_rows();
            let mut rest = batch;
            for trial in &mut self.trials {
                if rest.num_rows() > 0 {
                    rest = trial.filter(rest)?;
                }
            }
            self.dropped.add(rows - rest.num_rows());
            self.coalescer.push_batch(rest)?;
        }
    }
}

/// A filter, and whether it is worth its time.
struct Trial {
    filter: Arc<DynamicFilterPhysicalExpr>,
    /// Rows that were looked up, at most [`TRIAL_ROWS`] and a batch.
    rows: usize,
    /// Those of them that were kept.
    kept: usize,
}

impl Trial {
    fn new(filter: &Arc<DynamicFilterPhysicalExpr>) -> Self {
        Self { filter: Arc::clone(filter), rows: 0, kept: 0 }
    }

    /// The rows of `batch` that may find a partner.
    fn filter(&mut self, batch: RecordBatch) -> Result<RecordBatch> {
        let is_on_trial = self.rows < TRIAL_ROWS;
        if !is_on_trial && self.kept as f64 > KEPT_MAX * self.rows as f64 {
            return Ok(batch);
        }
        let filter = self.filter.current()?;
        // The join has not read its build side.
        if filter.downcast_ref::<Literal>().is_some_and(is_true) {
            return Ok(batch);
        }
        let is_kept = filter.evaluate(&batch)?.into_array(batch.num_rows())?;
        let is_kept = as_boolean_array(&is_kept)?;
        let rest = match is_kept.null_count() {
            0 => filter_record_batch(&batch, is_kept)?,
            _ => filter_record_batch(&batch, &prep_null_mask_filter(is_kept))?,
        };
        if is_on_trial {
            self.rows += batch.num_rows();
            self.kept += rest.num_rows();
        }
        Ok(rest)
    }
}

fn is_true(literal: &Literal) -> bool {
    matches!(literal.value(), ScalarValue::Boolean(Some(true)))
}

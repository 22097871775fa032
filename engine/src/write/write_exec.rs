//! The first stage of a write: each partition of the input becomes files that no reader sees.

use std::fmt;
use std::sync::Arc;

use datafusion::common::Result as DataFusionResult;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{EmissionType, SchedulingType};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning,
    PlanProperties, ReplaceChildrenOptions,
};
use futures::{StreamExt, stream};
use tereza_runtime::Error;

use super::output::Output;
use super::task::{Limits, Task};
use super::written;
use crate::error::{from_datafusion, to_datafusion};

/// Writes each partition of its input and yields one batch for it, described in [`written`].
#[derive(Debug)]
pub(super) struct WriteExec {
    output: Arc<Output>,
    input: Arc<dyn ExecutionPlan>,
    metrics: ExecutionPlanMetricsSet,
    properties: Arc<PlanProperties>,
}

impl WriteExec {
    pub(super) fn new(output: Arc<Output>, input: Arc<dyn ExecutionPlan>) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(written::schema()),
            Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
            EmissionType::Final,
            input.boundedness(),
        )
        .with_scheduling_type(SchedulingType::Cooperative);
        Self { output, input, metrics: ExecutionPlanMetricsSet::new(), properties: Arc::new(properties) }
    }

    /// What its tasks know.
    pub(super) fn output(&self) -> &Output {
        &self.output
    }
}

impl DisplayAs for WriteExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = &self.output.table;
        write!(f, "WriteExec: table={}.{}, location={}", table.database, table.name, self.output.location)?;
        if !table.partition_keys.is_empty() {
            let keys: Vec<&str> = table.partition_keys.iter().map(|key| key.name.as_str()).collect();
            write!(f, ", partitioned by={keys:?}")?;
        }
        Ok(())
    }
}

impl ExecutionPlan for WriteExec {
    fn name(&self) -> &str {
        Self::static_name()
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        // Encoding is work worth sharing, but sorted rows are worth more in one sorted file.
        vec![self.input.output_ordering().is_none()]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        // The order of the rows in the files, so that no optimizer takes an ORDER BY below for useless.
        vec![true]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self::new(Arc::clone(&self.output), children.swap_remove(0))))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DataFusionResult<TreeNodeRecursion>,
    ) -> DataFusionResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DataFusionResult<SendableRecordBatchStream> {
        let output = Arc::clone(&self.output);
        // From here on a clean-up of this write waits for this stream to be dropped; if one began before, it may have
        // ended already.
        let alive = output.tasks.token();
        if output.tasks.is_closed() {
            return Err(to_datafusion(Error::cancelled(format!("write {} has ended", output.id))));
        }
        let mut input = self.input.execute(partition, Arc::clone(&context))?;
        let reservation = MemoryConsumer::new(format!("WriteExec[{partition}]")).register(context.memory_pool());
        let mut task = Task::new(&output, partition, Limits::DEFAULT, reservation).map_err(to_datafusion)?;
        let rows_written = MetricBuilder::new(&self.metrics).counter("rows_written", partition);
        let bytes_written = MetricBuilder::new(&self.metrics).counter("bytes_written", partition);
        let run = async move {
            let _alive = alive;
            while let Some(batch) = input.next().await {
                task.write(&batch.map_err(from_datafusion)?).await?;
            }
            let files = task.finish().await?;
            for file in &files {
                rows_written.add(usize::try_from(file.rows).unwrap_or(usize::MAX));
                bytes_written.add(usize::try_from(file.bytes).unwrap_or(usize::MAX));
            }
            written::to_batch(&files)
        };
        let run = async move { run.await.map_err(to_datafusion) };
        Ok(Box::pin(RecordBatchStreamAdapter::new(written::schema(), stream::once(run))))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

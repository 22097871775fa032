//! Leaves of a stage that end with its task.
//!
//! Ballista cancels a task by dropping its future. What writes a stage's output runs its partitions in tasks of their own,
//! which go on then. So the leaves of a stage end with an error as soon as the future of its task is dropped, and with them
//! all that waits for their rows.

use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, ReplaceChildrenOptions,
};
use futures::{StreamExt, future, stream};
use tokio_util::sync::CancellationToken;

/// The plan with leaves that end when `token` is cancelled.
pub(crate) fn cancellable(plan: Arc<dyn ExecutionPlan>, token: &CancellationToken) -> Result<Arc<dyn ExecutionPlan>> {
    let wrapped = plan.transform_up(|node| {
        Ok(match node.children().is_empty() {
            true => Transformed::yes(Arc::new(Cancellable { input: node, token: token.clone() }) as _),
            false => Transformed::no(node),
        })
    });
    Ok(wrapped?.data)
}

/// A leaf that ends when its task does.
#[derive(Debug)]
struct Cancellable {
    input: Arc<dyn ExecutionPlan>,
    token: CancellationToken,
}

impl DisplayAs for Cancellable {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cancellable")
    }
}

impl ExecutionPlan for Cancellable {
    fn name(&self) -> &str {
        "Cancellable"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self { input: children.swap_remove(0), token: self.token.clone() }))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let rows = self.input.execute(partition, context)?;
        let schema = rows.schema();
        let token = self.token.clone();
        let cut_off = async move {
            token.is_cancelled().then(|| Err(DataFusionError::Execution("the task was cancelled".into())))
        };
        let rows = rows
            .take_until(self.token.clone().cancelled_owned())
            .chain(stream::once(cut_off).filter_map(future::ready));
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int32Array, RecordBatch};
    use datafusion::arrow;
    use datafusion::datasource::memory::MemorySourceConfig;
    use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;

    use super::*;

    #[tokio::test]
    async fn leaves_end_with_an_error_when_their_task_does() {
        let column = Arc::new(Int32Array::from(vec![1, 2])) as arrow::array::ArrayRef;
        let batch = RecordBatch::try_from_iter([("a", column)]).unwrap();
        let schema = batch.schema();
        let partitions = vec![vec![batch.clone(), batch.clone()], vec![batch]];
        let leaf = MemorySourceConfig::try_new_exec(&partitions, schema, None).unwrap();
        let token = CancellationToken::new();
        let plan = cancellable(Arc::new(CoalescePartitionsExec::new(leaf)), &token).unwrap();
        let all = datafusion::physical_plan::collect(Arc::clone(&plan), Arc::default()).await.unwrap();
        assert_eq!(all.iter().map(RecordBatch::num_rows).sum::<usize>(), 6);

        let mut rows = plan.children()[0].execute(0, Arc::default()).unwrap();
        assert!(rows.next().await.unwrap().is_ok());
        token.cancel();
        assert!(rows.next().await.unwrap().unwrap_err().to_string().contains("cancelled"));
        assert!(rows.next().await.is_none());
    }
}

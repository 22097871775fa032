//! Leaves of a stage that end with its task.
//!
//! Ballista cancels a task by dropping its future. What writes a stage's output runs its partitions in tasks of their own,
//! which go on then. So the leaves of a stage end with an error as soon as the future of its task is dropped, and with them
//! all that waits for their rows.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, future, stream};
use tokio_util::sync::CancellationToken;

use crate::passing::Passing;

/// The plan with leaves that end when `token` is cancelled.
pub(crate) fn cancellable(plan: Arc<dyn ExecutionPlan>, token: &CancellationToken) -> Result<Arc<dyn ExecutionPlan>> {
    let wrapped = plan.transform_up(|node| {
        let token = token.clone();
        Ok(match node.children().is_empty() {
            true => Transformed::yes(Passing::through(node, "Cancellable", move |rows| until(&token, rows))),
            false => Transformed::no(node),
        })
    });
    Ok(wrapped?.data)
}

/// The rows up to the moment when `token` is cancelled, and then an error.
fn until(token: &CancellationToken, rows: SendableRecordBatchStream) -> SendableRecordBatchStream {
    let schema = rows.schema();
    let cancelled = token.clone();
    let cut_off = async move {
        cancelled.is_cancelled().then(|| Err(DataFusionError::Execution("the task was cancelled".into())))
    };
    let rows = rows.take_until(token.clone().cancelled_owned()).chain(stream::once(cut_off).filter_map(future::ready));
    Box::pin(RecordBatchStreamAdapter::new(schema, rows))
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

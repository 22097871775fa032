//! Leaves and joins of a stage that end with its task.
//!
//! Ballista cancels a task by dropping its future. What writes a stage's output runs its partitions in tasks of their
//! own, which go on then. So the leaves of a stage end with an error as soon as the future of its task is dropped, and
//! with them all that waits for their rows; and its joins, which may make rows of what they have for long. And leaves
//! give rows of the types that they promise: what was fetched from another executor has the values of dictionaries in
//! their place.

use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::placeholder_row::PlaceholderRowExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, future, stream};
use tereza_engine::cluster::with_schema;
use tereza_engine::interruptible;
use tokio_util::sync::CancellationToken;

use crate::passing::Passing;

/// The plan with leaves and joins that end when `token` is cancelled.
pub(crate) fn cancellable(plan: Arc<dyn ExecutionPlan>, token: &CancellationToken) -> Result<Arc<dyn ExecutionPlan>> {
    let wrapped = plan.transform_up(|node| {
        if let Some(join) = interruptible(&node, token)? {
            let token = token.clone();
            return Ok(Transformed::yes(Passing::through(join, "Join", move |rows| until(&token, rows))));
        }
        if !node.children().is_empty() {
            return Ok(Transformed::no(node));
        }
        // What a row without columns has is not what its schema says, on purpose.
        let promised = (!node.is::<PlaceholderRowExec>()).then(|| node.schema());
        let token = token.clone();
        let leaf = Passing::through(node, "Leaf", move |rows| match &promised {
            Some(promised) => until(&token, as_promised(rows, Arc::clone(promised))),
            None => until(&token, rows),
        });
        Ok(Transformed::yes(leaf))
    });
    Ok(wrapped?.data)
}

/// The rows in the types of a schema.
fn as_promised(rows: SendableRecordBatchStream, promised: SchemaRef) -> SendableRecordBatchStream {
    let schema = Arc::clone(&promised);
    let rows = rows.map(move |batch| {
        let batch = batch?;
        let mut columns = batch.columns().iter().zip(promised.fields());
        match columns.all(|(column, field)| column.data_type() == field.data_type()) {
            true => Ok(batch),
            false => with_schema(&batch, &promised),
        }
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, rows))
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
    use datafusion::arrow::array::{Array, ArrayRef, DictionaryArray, Int32Array, RecordBatch, StringArray};
    use datafusion::arrow::datatypes::{DataType, Field, Schema, UInt16Type};
    use datafusion::datasource::memory::MemorySourceConfig;
    use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;

    use super::*;

    #[tokio::test]
    async fn leaves_give_the_types_that_they_promise() {
        let promised = DataType::Dictionary(Box::new(DataType::UInt16), Box::new(DataType::Utf8));
        let promised = Arc::new(Schema::new(vec![Field::new("a", promised, true)]));
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["x", "y", "x"]));
        let sent = RecordBatch::try_from_iter([("a", texts)]).unwrap();
        let rows = RecordBatchStreamAdapter::new(sent.schema(), stream::iter([Ok(sent)]));
        let batch = as_promised(Box::pin(rows), promised).next().await.unwrap().unwrap();
        let texts: DictionaryArray<UInt16Type> = vec!["x", "y", "x"].into_iter().collect();
        assert_eq!(batch.column(0).to_data(), texts.to_data());
    }

    #[tokio::test]
    async fn leaves_end_with_an_error_when_their_task_does() {
        let column = Arc::new(Int32Array::from(vec![1, 2])) as ArrayRef;
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

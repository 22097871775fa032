//! Batches of a stage's output that hold no more than their own rows.
//!
//! A batch may share its memory with others: a slice of what an aggregation gave out as a whole, or views into the texts of
//! a whole build side. What writes the output counts, keeps and writes all of that for each batch: forty rows of TPC-H query
//! 10 at scale 10 were written as a gigabyte.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, BinaryViewArray, GenericByteViewArray, MutableArrayData, RecordBatch, RecordBatchOptions,
    StringViewArray, make_array,
};
use datafusion::arrow::datatypes::ByteViewType;
use datafusion::common::Result;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ChildrenPropertiesMode, ExecutionPlan, ReplaceChildrenOptions};
use futures::StreamExt;

use crate::passing::Passing;

/// What is less than this is shared for nothing worth a copy.
const SLACK_BYTES: usize = 16 << 10;
/// A column is copied if it holds more than so many times its own bytes.
const SLACK: usize = 2;

/// The stage with compact batches for its writer, which is the root.
pub(crate) fn compacted(stage: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let [input] = stage.children()[..] else { return Ok(stage) };
    let input = Passing::through(Arc::clone(input), "Compact", |rows| {
        let schema = rows.schema();
        Box::pin(RecordBatchStreamAdapter::new(schema, rows.map(|batch| compact(&batch?))))
    });
    let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
    stage.replace_children(vec![input], options)
}

fn compact(batch: &RecordBatch) -> Result<RecordBatch> {
    let columns = batch.columns().iter().map(compact_column).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(batch.schema(), columns, &options)?)
}

fn compact_column(column: &ArrayRef) -> ArrayRef {
    if let Some(texts) = column.as_any().downcast_ref::<StringViewArray>() {
        return compact_views(texts, column);
    }
    if let Some(bytes) = column.as_any().downcast_ref::<BinaryViewArray>() {
        return compact_views(bytes, column);
    }
    let data = column.to_data();
    let is_loose = |own: usize| column.get_array_memory_size() > SLACK * own + SLACK_BYTES;
    // A type that does not say how much is its own stays as it is.
    if data.get_slice_memory_size().is_ok_and(is_loose) {
        let mut copy = MutableArrayData::new(vec![&data], false, data.len());
        if copy.try_extend(0, 0, data.len()).is_ok() {
            return make_array(copy.freeze());
        }
    }
    Arc::clone(column)
}

fn compact_views<T: ByteViewType + ?Sized>(views: &GenericByteViewArray<T>, column: &ArrayRef) -> ArrayRef {
    let own = size_of_val(&views.views()[..]) + views.total_buffer_bytes_used();
    match views.get_array_memory_size() > SLACK * own + SLACK_BYTES {
        true => Arc::new(views.gc()),
        false => Arc::clone(column),
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Int64Array, StringArray};
    use datafusion::arrow::datatypes::Schema;

    use super::*;

    const ROWS: usize = 100_000;

    fn columns() -> Vec<(&'static str, ArrayRef)> {
        let text = |n: usize| (!n.is_multiple_of(3)).then(|| format!("a text that is longer than a view, {n}"));
        vec![
            ("number", Arc::new((0..ROWS as i64).map(|n| (n > 5).then_some(n)).collect::<Int64Array>())),
            ("text", Arc::new((0..ROWS).map(text).collect::<StringArray>())),
            ("view", Arc::new((0..ROWS).map(text).collect::<StringViewArray>())),
            ("bytes", Arc::new((0..ROWS).map(text).collect::<BinaryViewArray>())),
        ]
    }

    #[test]
    fn a_slice_becomes_its_own_rows_and_stays_the_same() {
        let whole = RecordBatch::try_from_iter(columns()).unwrap();
        let slice = whole.slice(77_777, 40);
        let compacted = compact(&slice).unwrap();
        assert_eq!(compacted, slice);
        for (at, column) in compacted.columns().iter().enumerate() {
            let bytes = column.get_array_memory_size();
            assert!(bytes < SLACK_BYTES, "column {at} holds {bytes} bytes");
            assert!(slice.column(at).get_array_memory_size() > 1 << 17, "column {at}");
        }
    }

    #[test]
    fn what_is_compact_is_not_copied() {
        let whole = RecordBatch::try_from_iter(columns()).unwrap();
        let compacted = compact(&whole).unwrap();
        for (before, after) in whole.columns().iter().zip(compacted.columns()) {
            assert!(Arc::ptr_eq(before, after));
        }
        let no_columns = RecordBatchOptions::new().with_row_count(Some(3));
        let schema = Arc::new(Schema::empty());
        let none = RecordBatch::try_new_with_options(schema, Vec::new(), &no_columns).unwrap();
        assert_eq!(compact(&none).unwrap().num_rows(), 3);
    }
}

//! Batches of a stage's output that hold no more than their own rows.
//!
//! A batch may share its memory with others: a slice of what an aggregation gave out as a whole, or views into the texts of
//! a whole build side. What writes the output counts, keeps and writes all of that for each batch: forty rows of TPC-H query
//! 10 at scale 10 were written as a gigabyte.

use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, GenericByteViewArray, GenericListArray, MapArray, MutableArrayData, OffsetSizeTrait,
    RecordBatch, RecordBatchOptions, StructArray, make_array,
};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::datatypes::{ByteViewType, DataType};
use datafusion::arrow::error::ArrowError;
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
    let compacted = match column.data_type() {
        DataType::Utf8View => Ok(compact_views(column.as_string_view())),
        DataType::BinaryView => Ok(compact_views(column.as_binary_view())),
        DataType::Struct(_) => {
            compact_struct(column.as_struct()).map(|made| made.map(|made| Arc::new(made) as ArrayRef))
        }
        DataType::List(_) => compact_list(column.as_list::<i32>()),
        DataType::LargeList(_) => compact_list(column.as_list::<i64>()),
        DataType::Map(..) => compact_map(column.as_map()),
        // What others share is part of a dictionary's meaning.
        DataType::Dictionary(..) => Ok(None),
        _ => compact_plain(column),
    };
    // What cannot be made compact stays as it is.
    compacted.ok().flatten().unwrap_or_else(|| Arc::clone(column))
}

fn is_loose(column: &dyn Array, own: usize) -> bool {
    column.get_array_memory_size() > SLACK * own + SLACK_BYTES
}

fn compact_plain(column: &ArrayRef) -> Result<Option<ArrayRef>, ArrowError> {
    let data = column.to_data();
    if !is_loose(column, data.get_slice_memory_size()?) {
        return Ok(None);
    }
    let mut copy = MutableArrayData::new(vec![&data], false, data.len());
    copy.try_extend(0, 0, data.len())?;
    Ok(Some(make_array(copy.freeze())))
}

/// The fields of a struct are columns of the same rows.
fn compact_struct(structs: &StructArray) -> Result<Option<StructArray>, ArrowError> {
    let columns: Vec<ArrayRef> = structs.columns().iter().map(compact_column).collect();
    if columns.iter().zip(structs.columns()).all(|(after, before)| Arc::ptr_eq(after, before)) {
        return Ok(None);
    }
    let (fields, nulls) = (structs.fields().clone(), structs.nulls().cloned());
    StructArray::try_new_with_length(fields, columns, nulls, structs.len()).map(Some)
}

fn compact_list<O: OffsetSizeTrait>(list: &GenericListArray<O>) -> Result<Option<ArrayRef>, ArrowError> {
    let (DataType::List(field) | DataType::LargeList(field)) = list.data_type() else { return Ok(None) };
    let (own, offsets) = own_offsets(list.offsets());
    let used = list.values().slice(own.start, own.len());
    let values = compact_column(&used);
    if Arc::ptr_eq(&values, &used) && !are_loose(list.offsets()) {
        return Ok(None);
    }
    let made = GenericListArray::try_new(Arc::clone(field), offsets, values, list.nulls().cloned())?;
    Ok(Some(Arc::new(made)))
}

fn compact_map(map: &MapArray) -> Result<Option<ArrayRef>, ArrowError> {
    let DataType::Map(field, is_sorted) = map.data_type() else { return Ok(None) };
    let (own, offsets) = own_offsets(map.offsets());
    let used = map.entries().slice(own.start, own.len());
    let entries = match compact_struct(&used)? {
        Some(entries) => entries,
        None if are_loose(map.offsets()) => used,
        None => return Ok(None),
    };
    let made = MapArray::try_new(Arc::clone(field), offsets, entries, map.nulls().cloned(), *is_sorted)?;
    Ok(Some(Arc::new(made)))
}

fn are_loose<O: OffsetSizeTrait>(offsets: &OffsetBuffer<O>) -> bool {
    offsets.inner().inner().capacity() > SLACK * size_of_val(&offsets[..]) + SLACK_BYTES
}

/// The part of the values that offsets are about, and the offsets in it.
fn own_offsets<O: OffsetSizeTrait>(offsets: &OffsetBuffer<O>) -> (Range<usize>, OffsetBuffer<O>) {
    let (first, last) = (offsets[0], offsets[offsets.len() - 1]);
    let own = OffsetBuffer::new(offsets.iter().map(|offset| *offset - first).collect());
    (first.as_usize()..last.as_usize(), own)
}

fn compact_views<T: ByteViewType + ?Sized>(views: &GenericByteViewArray<T>) -> Option<ArrayRef> {
    let own = size_of_val(&views.views()[..]) + views.total_buffer_bytes_used();
    is_loose(views, own).then(|| Arc::new(views.gc()) as ArrayRef)
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{
        BinaryViewArray, Int64Array, LargeListBuilder, ListArray, MapBuilder, StringArray, StringBuilder,
        StringViewArray, StringViewBuilder, new_empty_array,
    };
    use datafusion::arrow::datatypes::{Field, Schema};

    use super::*;

    const ROWS: usize = 100_000;

    fn columns() -> Vec<(&'static str, ArrayRef)> {
        let text = |n: usize| (!n.is_multiple_of(3)).then(|| format!("a text that is longer than a view, {n}"));
        let view: ArrayRef = Arc::new((0..ROWS).map(text).collect::<StringViewArray>());
        let field = Arc::new(Field::new("view", DataType::Utf8View, true));
        let structs = StructArray::new(vec![Arc::clone(&field)].into(), vec![Arc::clone(&view)], None);
        let offsets = OffsetBuffer::from_repeated_length(1, ROWS);
        let list = ListArray::new(Arc::clone(&field), offsets, Arc::clone(&view), None);
        let no_values = new_empty_array(&DataType::Utf8View);
        let offsets = OffsetBuffer::from_repeated_length(0, ROWS);
        let empty = ListArray::new(Arc::clone(&field), offsets, no_values, None);
        let mut lists = LargeListBuilder::new(StringViewBuilder::new());
        let mut map = MapBuilder::new(None, StringBuilder::new(), StringViewBuilder::new());
        for n in 0..ROWS {
            lists.values().append_option(text(n));
            lists.append(n % 5 != 1);
            map.keys().append_value("a key");
            map.values().append_option(text(n));
            map.append(n % 5 != 2).unwrap();
        }
        vec![
            ("struct", Arc::new(structs)),
            ("list", Arc::new(list)),
            ("empty list", Arc::new(empty)),
            ("large list", Arc::new(lists.finish())),
            ("map", Arc::new(map.finish())),
            ("number", Arc::new((0..ROWS as i64).map(|n| (n > 5).then_some(n)).collect::<Int64Array>())),
            ("text", Arc::new((0..ROWS).map(text).collect::<StringArray>())),
            ("view", view),
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
            // With the bits that say what is NULL, which stay shared.
            assert!(bytes < 3 * SLACK_BYTES, "column {at} holds {bytes} bytes");
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

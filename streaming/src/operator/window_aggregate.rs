//! Aggregates over windows: `GROUP BY keys, window_start, window_end` over `TUMBLE`, `HOP` or `CUMULATE`, or over windows
//! that the rows have already.
//!
//! Rows are counted once, in their slice, by DataFusion's accumulators. When the watermark closes a window, its slices are
//! merged and their results emitted; a slice goes when its last window is closed. A row whose windows are all closed is
//! late: it is dropped and counted. One whose windows are closed in part counts in the others, as in Flink.
//!
//! Between snapshots a slice only adds partial sums, so a delta holds what was counted since the one before, not the slice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take};
use arrow::datatypes::{Field, Schema, SchemaRef};
use tereza_runtime::error::{Error, Result};

use super::batch::{BATCH_ROWS_MAX, Batch};
use super::error::failed;
use super::key::{RowCodec, key_group};
use super::mode::ChangelogMode;
pub use super::slice::WindowCall;
use super::slice::{Arguments, Shape, Slice, results};
use super::state::{SnapshotWriter, StateReader, columns_text};
use super::time::{check_time, event_times, window_columns, window_fields};
use super::window::{Windows, is_closed};
use super::{Context, Operator, Output, WATERMARK_MIN};

const NAME: &str = "window aggregate";
const TABLE: &str = "slices";

/// Where the windows of a row come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WindowSource {
    /// From the event time in a column.
    Aligned {
        /// The windows.
        windows: Windows,
        /// The column of the event time.
        time: usize,
    },
    /// From the columns of its window's start and end.
    Attached {
        /// The column of the start.
        start: usize,
        /// The column of the end.
        end: usize,
    },
}

/// A slice is found by its end and its start.
type Bounds = (i64, i64);

/// The operator. It emits the keys, the results, and the window's bounds; all are final.
pub struct WindowAggregate {
    source: WindowSource,
    keys: Vec<usize>,
    shape: Shape,
    key_codec: RowCodec,
    description: String,
    schema: SchemaRef,
    slices: BTreeMap<Bounds, Slice>,
    bytes: usize,
    watermark: i64,
    late_rows: u64,
}

impl WindowAggregate {
    /// `keys` are columns of the input. Fails with `Unsupported` for an input of updates.
    pub fn new(
        input: &Schema,
        mode: &ChangelogMode,
        source: WindowSource,
        keys: Vec<usize>,
        calls: Vec<WindowCall>,
    ) -> Result<Self> {
        mode.require_append("an aggregate over windows")?;
        let times: &[usize] = match &source {
            WindowSource::Aligned { time, .. } => &[*time],
            WindowSource::Attached { start, end } => &[*start, *end],
        };
        times.iter().try_for_each(|column| check_time(input.field(*column)))?;
        let key_schema = Arc::new(input.project(&keys).map_err(failed)?);
        let mut fields: Vec<Arc<Field>> = key_schema.fields().to_vec();
        fields.extend(calls.iter().map(|call| call.function.field()));
        fields.extend(window_fields().map(Arc::new));
        let of_call = |call: &WindowCall| {
            let arguments: Vec<String> = call.function.expressions().iter().map(ToString::to_string).collect();
            let filter = call.filter.as_ref().map(ToString::to_string);
            format!(
                "{}({arguments:?}, distinct {}, filter {filter:?})",
                call.function.fun().name(),
                call.function.is_distinct()
            )
        };
        let calls_described: Vec<String> = calls.iter().map(of_call).collect();
        let columns = columns_text(input);
        Ok(Self {
            description: format!("{NAME}({source:?}, {keys:?}, {calls_described:?}, {columns})"),
            key_codec: RowCodec::whole(&key_schema)?,
            shape: Shape::new(key_schema, calls)?,
            schema: Arc::new(Schema::new(fields)),
            source,
            keys,
            slices: BTreeMap::new(),
            bytes: 0,
            watermark: WATERMARK_MIN,
            late_rows: 0,
        })
    }

    /// The slice of each row, `None` for late ones.
    fn bounds(&mut self, rows: &RecordBatch) -> Result<Vec<Option<Bounds>>> {
        let times = |column: usize| event_times(rows.column(column), rows.schema_ref().field(column).name());
        let watermark = self.watermark;
        let bounds: Vec<Option<Bounds>> = match self.source {
            WindowSource::Aligned { windows, time } => {
                let of_time = |time: i64| {
                    let end = windows.slice_end(time);
                    (!is_closed(windows.last_end(end), watermark)).then_some((end, end - windows.slice()))
                };
                times(time)?.into_iter().map(of_time).collect()
            }
            WindowSource::Attached { start, end } => {
                let pairs = times(end)?.into_iter().zip(times(start)?);
                pairs.map(|(end, start)| (!is_closed(end, watermark)).then_some((end, start))).collect()
            }
        };
        self.late_rows += bounds.iter().filter(|bounds| bounds.is_none()).count() as u64;
        Ok(bounds)
    }

    fn update(&mut self, bounds: Bounds, keys: &[ArrayRef], arguments: &[Arguments], rows: usize) -> Result<()> {
        let slice = self.slices.entry(bounds).or_default();
        let before = slice.bytes();
        slice.update(&self.shape, keys, arguments, rows)?;
        self.bytes = self.bytes + slice.bytes() - before;
        Ok(())
    }

    /// The windows that `watermark` closes and the one before did not, in the order of their ends.
    fn closing(&self, watermark: i64) -> BTreeSet<Bounds> {
        let mut closing = BTreeSet::new();
        for (end, start) in self.slices.keys() {
            match &self.source {
                WindowSource::Attached { .. } => {
                    if is_closed(*end, watermark) {
                        closing.insert((*end, *start));
                    }
                }
                WindowSource::Aligned { windows, .. } => {
                    let mut next = windows.first_open_end(*end, self.watermark);
                    while let Some(window) = next.filter(|window| is_closed(*window, watermark)) {
                        closing.insert((window, windows.start(window)));
                        next = windows.first_open_end(*end, window - 1);
                    }
                }
            }
        }
        closing
    }

    /// The results of a window. Slices that no later window has are taken out.
    fn close(&mut self, (end, start): Bounds) -> Result<Vec<ArrayRef>> {
        let range = match &self.source {
            WindowSource::Attached { .. } => (end, start)..=(end, start),
            WindowSource::Aligned { windows, .. } => (start + windows.slice(), i64::MIN)..=(end, i64::MAX),
        };
        let is_last = |slice_end: i64| match &self.source {
            WindowSource::Attached { .. } => true,
            WindowSource::Aligned { windows, .. } => windows.last_end(slice_end) == end,
        };
        let going = self.slices.range(range.clone()).map(|(bounds, _)| *bounds).filter(|(end, _)| is_last(*end));
        let mut going: Vec<Slice> =
            going.collect::<Vec<_>>().iter().filter_map(|bounds| self.slices.remove(bounds)).collect();
        let last = going.pop();
        let (shape, slices) = (&self.shape, &mut self.slices);
        let mut others: Vec<&mut Slice> = slices.range_mut(range).map(|(_, slice)| slice).chain(&mut going).collect();
        results(shape, last, &mut others)
    }
}

impl Operator for WindowAggregate {
    fn name(&self) -> &str {
        NAME
    }

    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    fn mode(&self) -> ChangelogMode {
        ChangelogMode::Append
    }

    fn describe(&self) -> String {
        self.description.clone()
    }

    fn keyed_by(&self, _: usize) -> Option<&[usize]> {
        Some(&self.keys)
    }

    fn process(&mut self, _: usize, batch: Batch, cx: &Context, _: &mut dyn Output) -> Result<()> {
        let rows = batch.rows();
        let bounds = self.bounds(rows)?;
        let mut by_slice: BTreeMap<Bounds, Vec<u32>> = BTreeMap::new();
        let first = bounds.first().copied().flatten();
        if first.is_some() && bounds.iter().all(|bounds| *bounds == first) {
            by_slice.insert(first.unwrap_or_default(), Vec::new());
        } else {
            for (row, bounds) in bounds.iter().enumerate() {
                if let Some(bounds) = bounds {
                    by_slice.entry(*bounds).or_default().push(row as u32);
                }
            }
        }
        if by_slice.is_empty() {
            return Ok(());
        }
        let arguments = self.shape.arguments(rows)?;
        let keys: Vec<ArrayRef> = self.keys.iter().map(|column| Arc::clone(rows.column(*column))).collect();
        for (bounds, of_slice) in by_slice {
            if of_slice.is_empty() {
                self.update(bounds, &keys, &arguments, rows.num_rows())?;
                continue;
            }
            let count = of_slice.len();
            let of_slice = UInt32Array::from(of_slice);
            let taken = |column: &ArrayRef| take(column, &of_slice, None).map_err(failed);
            let of_call = |call: &Arguments| {
                let values = call.values.iter().map(taken).collect::<Result<_>>()?;
                Ok(Arguments { values, filter: call.filter.as_ref().map(taken).transpose()? })
            };
            let arguments = arguments.iter().map(of_call).collect::<Result<Vec<_>>>()?;
            let keys = keys.iter().map(taken).collect::<Result<Vec<_>>>()?;
            self.update(bounds, &keys, &arguments, count)?;
        }
        cx.admit(NAME, self.bytes)
    }

    fn advance(&mut self, watermark: i64, _: &Context, out: &mut dyn Output) -> Result<()> {
        if watermark <= self.watermark {
            return Ok(());
        }
        for window in self.closing(watermark) {
            let mut columns = self.close(window)?;
            // Without keys there is one group.
            let rows = columns.first().filter(|_| !self.keys.is_empty()).map_or(1, |column| column.len());
            columns.extend(window_columns(&vec![(window.1, window.0); rows]));
            let results = RecordBatch::try_new(self.schema(), columns).map_err(failed)?;
            for from in (0..rows).step_by(BATCH_ROWS_MAX) {
                out.emit(Batch::inserts(results.slice(from, BATCH_ROWS_MAX.min(rows - from))))?;
            }
        }
        self.watermark = watermark;
        self.bytes = self.slices.values().map(Slice::bytes).sum();
        Ok(())
    }

    fn snapshot(&mut self, writer: &mut SnapshotWriter) -> Result<()> {
        writer.watermark(self.watermark);
        let keys = self.keys.len();
        for ((end, start), slice) in &mut self.slices {
            for partial in slice.save(&self.shape)? {
                let encoded = self.key_codec.encode_columns(&partial.columns()[..keys], partial.num_rows())?;
                let groups = (0..encoded.len()).map(|row| key_group(encoded.get(row))).collect();
                let last_end = match &self.source {
                    WindowSource::Aligned { windows, .. } => windows.last_end(*end),
                    WindowSource::Attached { .. } => *end,
                };
                writer.rows(
                    TABLE,
                    &with_bounds(&partial, (*end, *start))?,
                    groups,
                    vec![last_end; partial.num_rows()],
                )?;
            }
        }
        self.bytes = self.slices.values().map(Slice::bytes).sum();
        // A window that ends at `e` is closed by the watermark `e - 1`.
        writer.drop_through(TABLE, self.watermark.saturating_add(1));
        Ok(())
    }

    fn restore(&mut self, reader: &StateReader) -> Result<()> {
        self.watermark = reader.watermark()?;
        let mut by_slice: BTreeMap<Bounds, Vec<RecordBatch>> = BTreeMap::new();
        for rows in reader.rows(TABLE)? {
            for (bounds, partial) in without_bounds(&rows)? {
                by_slice.entry(bounds).or_default().push(partial);
            }
        }
        for (bounds, partials) in by_slice {
            let slice = self.slices.entry(bounds).or_default();
            slice.restore(concat_batches(&partials[0].schema(), &partials).map_err(failed)?);
            self.bytes += slice.bytes();
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.bytes
    }

    fn late_rows(&self) -> u64 {
        self.late_rows
    }
}

/// Partial sums with the bounds of their slice before them.
fn with_bounds(partial: &RecordBatch, (end, start): Bounds) -> Result<RecordBatch> {
    let rows = partial.num_rows();
    let column = |value: i64| -> ArrayRef { Arc::new(arrow::array::Int64Array::from(vec![value; rows])) };
    let int = arrow::datatypes::DataType::Int64;
    let mut fields =
        vec![Arc::new(Field::new("c_end", int.clone(), false)), Arc::new(Field::new("c_start", int, false))];
    fields.extend(partial.schema().fields().iter().cloned());
    let mut columns = vec![column(end), column(start)];
    columns.extend(partial.columns().iter().cloned());
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(failed)
}

/// The partial sums of each slice in a batch of [`with_bounds`], which may hold several after a compaction.
fn without_bounds(rows: &RecordBatch) -> Result<Vec<(Bounds, RecordBatch)>> {
    use arrow::array::AsArray;
    use arrow::datatypes::Int64Type;
    if rows.num_columns() < 2 {
        return Err(Error::invalid_input("a snapshot of stream state is damaged: slices without bounds"));
    }
    let bounds = |column: usize| {
        rows.column(column)
            .as_primitive_opt::<Int64Type>()
            .ok_or_else(|| Error::invalid_input("a snapshot of stream state is damaged: bounds that are no numbers"))
    };
    let (ends, starts) = (bounds(0)?, bounds(1)?);
    let columns: Vec<usize> = (2..rows.num_columns()).collect();
    let partial = rows.project(&columns).map_err(failed)?;
    let mut slices = Vec::new();
    let mut from = 0;
    for row in 1..=rows.num_rows() {
        let of = |row: usize| (ends.value(row), starts.value(row));
        if row == rows.num_rows() || of(row) != of(from) {
            slices.push((of(from), partial.slice(from, row - from)));
            from = row;
        }
    }
    Ok(slices)
}

#[cfg(test)]
#[path = "window_aggregate_tests.rs"]
mod tests;

//! Joins of two streams window by window: rows meet that have the same `window_start` and `window_end`.
//!
//! The rows of both inputs are kept until the watermark closes their window, then joined at once. Results are final. Rows
//! whose window is closed are late: they are dropped and counted.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, filter, filter_record_batch, prep_null_mask_filter, take, take_record_batch};
use arrow::datatypes::{SchemaRef, UInt32Type};
use tereza_runtime::error::Result;

use super::batch::{BATCH_ROWS_MAX, Batch};
use super::calc::evaluate;
use super::error::failed;
use super::key::{BuildKeyHasher, RowCodec, key_group};
use super::mode::ChangelogMode;
use super::pairs::JoinOn;
use super::state::{SnapshotWriter, StateReader, columns_text};
use super::time::{check_time, event_times};
use super::window::is_closed;
use super::{Context, Operator, Output, WATERMARK_MIN};

const NAME: &str = "window join";
const TABLES: [&str; 2] = ["left", "right"];

/// The columns of a row's window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowColumns {
    /// `window_start`.
    pub start: usize,
    /// `window_end`.
    pub end: usize,
}

#[derive(Debug, Default)]
struct Window {
    /// Rows of both inputs; the first so many batches are in a snapshot.
    batches: [Vec<RecordBatch>; 2],
    saved: [usize; 2],
}

impl Window {
    fn bytes(&self) -> usize {
        self.batches.iter().flatten().map(RecordBatch::get_array_memory_size).sum()
    }
}

/// The operator. Input 0 is the left one. It emits the columns of both.
pub struct WindowJoin {
    on: JoinOn,
    inputs: [SchemaRef; 2],
    columns: [WindowColumns; 2],
    keys: [RowCodec; 2],
    schema: SchemaRef,
    description: String,
    /// By end and start.
    windows: BTreeMap<(i64, i64), Window>,
    bytes: usize,
    watermark: i64,
    late_rows: u64,
}

impl WindowJoin {
    /// `columns` are the windows of both inputs; they need not be among the columns of `on`.
    pub fn new(
        inputs: [&SchemaRef; 2],
        modes: [&ChangelogMode; 2],
        on: JoinOn,
        columns: [WindowColumns; 2],
    ) -> Result<Self> {
        modes.iter().try_for_each(|mode| mode.require_append("a join of windows"))?;
        on.check(inputs[0], inputs[1])?;
        for (input, columns) in inputs.iter().zip(&columns) {
            check_time(input.field(columns.start))?;
            check_time(input.field(columns.end))?;
        }
        Ok(Self {
            keys: [RowCodec::new(inputs[0], &on.left)?, RowCodec::new(inputs[1], &on.right)?],
            schema: on.schema(inputs[0], inputs[1]),
            description: format!(
                "{NAME}({}, {columns:?}, {}, {})",
                on.describe(),
                columns_text(inputs[0]),
                columns_text(inputs[1])
            ),
            inputs: inputs.map(SchemaRef::clone),
            on,
            columns,
            windows: BTreeMap::new(),
            bytes: 0,
            watermark: WATERMARK_MIN,
            late_rows: 0,
        })
    }

    /// The rows of each window, late ones too.
    fn by_window(&self, input: usize, rows: &RecordBatch) -> Result<Vec<((i64, i64), RecordBatch)>> {
        let times = |column: usize| event_times(rows.column(column), rows.schema_ref().field(column).name());
        let WindowColumns { start, end } = self.columns[input];
        let windows: Vec<(i64, i64)> = times(end)?.into_iter().zip(times(start)?).collect();
        if let Some(first) = windows.first()
            && windows.iter().all(|window| window == first)
        {
            return Ok(vec![(*first, rows.clone())]);
        }
        let mut by_window: BTreeMap<(i64, i64), Vec<u32>> = BTreeMap::new();
        for (row, window) in windows.into_iter().enumerate() {
            by_window.entry(window).or_default().push(row as u32);
        }
        let taken = by_window
            .into_iter()
            .map(|(window, at)| Ok((window, take_record_batch(rows, &UInt32Array::from(at)).map_err(failed)?)));
        taken.collect()
    }

    fn join(&self, window: Window, out: &mut dyn Output) -> Result<()> {
        let [left, right] = window.batches;
        let left = concat_batches(&self.inputs[0], &left).map_err(failed)?;
        let right = concat_batches(&self.inputs[1], &right).map_err(failed)?;
        let (left_keys, right_keys) = (self.keys[0].encode(&left)?, self.keys[1].encode(&right)?);
        let (left_nulls, right_nulls) = (self.keys[0].nulls(&left), self.keys[1].nulls(&right));
        let mut by_key: HashMap<&[u8], Vec<u32>, BuildKeyHasher> = HashMap::default();
        for row in (0..right.num_rows()).filter(|row| right_nulls.as_ref().is_none_or(|nulls| nulls.is_valid(*row))) {
            by_key.entry(right_keys.get(row)).or_default().push(row as u32);
        }
        let mut has_partner = [vec![false; left.num_rows()], vec![false; right.num_rows()]];
        let mut pairs: [Vec<Option<u32>>; 2] = [Vec::new(), Vec::new()];
        for row in 0..left.num_rows() {
            let is_null = left_nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
            let partners = by_key.get(left_keys.get(row)).filter(|_| !is_null).map_or(&[][..], Vec::as_slice);
            for partners in partners.chunks(BATCH_ROWS_MAX) {
                pairs[0].extend(partners.iter().map(|_| Some(row as u32)));
                pairs[1].extend(partners.iter().map(|partner| Some(*partner)));
                if pairs[0].len() >= BATCH_ROWS_MAX {
                    self.emit_pairs([&left, &right], &mut pairs, Some(&mut has_partner), out)?;
                }
            }
        }
        self.emit_pairs([&left, &right], &mut pairs, Some(&mut has_partner), out)?;
        for input in [0, 1] {
            if self.on.kind.keeps(input) {
                let alone = (0..).zip(&has_partner[input]).filter(|(_, has_partner)| !**has_partner);
                pairs[input] = alone.map(|(row, _)| Some(row)).collect();
                pairs[1 - input] = vec![None; pairs[input].len()];
                self.emit_pairs([&left, &right], &mut pairs, None, out)?;
            }
        }
        Ok(())
    }

    /// Emits the pairs and empties the list. Those that have partners are put to the condition, and noted.
    fn emit_pairs(
        &self,
        rows: [&RecordBatch; 2],
        pairs: &mut [Vec<Option<u32>>; 2],
        has_partner: Option<&mut [Vec<bool>; 2]>,
        out: &mut dyn Output,
    ) -> Result<()> {
        let mut at = pairs.each_mut().map(|side| -> ArrayRef { Arc::new(UInt32Array::from(std::mem::take(side))) });
        if at[0].is_empty() {
            return Ok(());
        }
        let joined = |at: &[ArrayRef; 2]| {
            let columns =
                [0, 1].into_iter().flat_map(|side| rows[side].columns().iter().map(move |column| (side, column)));
            let columns = columns.map(|(side, column)| take(column, &at[side], None).map_err(failed));
            RecordBatch::try_new(SchemaRef::clone(&self.schema), columns.collect::<Result<Vec<_>>>()?).map_err(failed)
        };
        let mut batch = joined(&at)?;
        if let Some(has_partner) = has_partner {
            if let Some(condition) = &self.on.condition {
                let meets = evaluate(condition, &batch)?;
                let meets = meets.as_boolean();
                let meets = if meets.null_count() > 0 { prep_null_mask_filter(meets) } else { meets.clone() };
                batch = filter_record_batch(&batch, &meets).map_err(failed)?;
                for side in &mut at {
                    *side = filter(&*side, &meets).map_err(failed)?;
                }
            }
            for (side, has_partner) in at.iter().zip(has_partner) {
                side.as_primitive::<UInt32Type>().values().iter().for_each(|row| has_partner[*row as usize] = true);
            }
        }
        for from in (0..batch.num_rows()).step_by(BATCH_ROWS_MAX) {
            out.emit(Batch::inserts(batch.slice(from, BATCH_ROWS_MAX.min(batch.num_rows() - from))))?;
        }
        Ok(())
    }
}

impl Operator for WindowJoin {
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

    fn keyed_by(&self, input: usize) -> Option<&[usize]> {
        Some(self.keys[input].columns())
    }

    fn process(&mut self, input: usize, batch: Batch, cx: &Context, _: &mut dyn Output) -> Result<()> {
        for ((end, start), rows) in self.by_window(input, batch.rows())? {
            if is_closed(end, self.watermark) {
                self.late_rows += rows.num_rows() as u64;
                continue;
            }
            self.bytes += rows.get_array_memory_size();
            self.windows.entry((end, start)).or_default().batches[input].push(rows);
        }
        cx.admit(NAME, self.bytes)
    }

    fn advance(&mut self, watermark: i64, _: &Context, out: &mut dyn Output) -> Result<()> {
        self.watermark = self.watermark.max(watermark);
        while let Some(first) = self.windows.first_entry().filter(|first| is_closed(first.key().0, watermark)) {
            let window = first.remove();
            self.bytes -= window.bytes();
            self.join(window, out)?;
        }
        Ok(())
    }

    fn snapshot(&mut self, writer: &mut SnapshotWriter) -> Result<()> {
        writer.watermark(self.watermark);
        let mut bytes = 0;
        for ((end, _), window) in &mut self.windows {
            for input in [0, 1] {
                let batches = &mut window.batches[input];
                for rows in &batches[window.saved[input]..] {
                    let keys = self.keys[input].encode(rows)?;
                    let groups = (0..keys.len()).map(|row| key_group(keys.get(row))).collect();
                    writer.rows(TABLES[input], rows, groups, vec![*end; rows.num_rows()])?;
                }
                if batches.len() > 1 {
                    *batches = vec![concat_batches(&self.inputs[input], batches.as_slice()).map_err(failed)?];
                }
                window.saved[input] = batches.len();
            }
            bytes += window.bytes();
        }
        self.bytes = bytes;
        for table in TABLES {
            // A window that ends at `e` is closed by the watermark `e - 1`.
            writer.drop_through(table, self.watermark.saturating_add(1));
        }
        Ok(())
    }

    fn restore(&mut self, reader: &StateReader) -> Result<()> {
        self.watermark = reader.watermark()?;
        for (input, table) in TABLES.into_iter().enumerate() {
            for rows in reader.rows(table)? {
                for (window, rows) in self.by_window(input, &rows)? {
                    self.bytes += rows.get_array_memory_size();
                    let window = self.windows.entry(window).or_default();
                    window.batches[input].push(rows);
                    window.saved[input] += 1;
                }
            }
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

#[cfg(test)]
#[path = "window_join_tests.rs"]
mod tests;

//! `GROUP BY` without windows: the result of a group changes with its rows.
//!
//! For each batch and group at most one change is emitted: `+I` for a new group, `-U` and `+U` where results differ, `-D`
//! where the last row of a group was taken back. A row that is taken back from a group that is not there is passed over, as
//! in Flink: its group may have been there before its state was given up. With a time to live it is given up so long after the last
//! row of the group, and the next one begins it anew.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::kernels::cmp::distinct;
use arrow::compute::{interleave_record_batch, take_record_batch};
use arrow::datatypes::{Field, Schema, SchemaRef};
use tereza_runtime::error::Result;

use super::accumulate::{Accumulator, Rows, Saved, accumulator, restore_values, result_field, save_values};
pub use super::accumulate::{AggregateCall, AggregateKind};
use super::batch::{BATCH_ROWS_MAX, Batch, RowKind};
use super::error::failed;
use super::index::KeyIndex;
use super::key::{BuildKeyHasher, RowCodec};
use super::mode::ChangelogMode;
use super::state::{SnapshotWriter, StateReader, columns_text, take_i64};
use super::ttl::{TimeToLive, UNKNOWN_MS};
use super::{Context, Operator, Output};

const NAME: &str = "group aggregate";
const TABLE: &str = "groups";

/// The operator. It emits the keys and the results.
pub struct GroupAggregate {
    calls: Vec<AggregateCall>,
    key_codec: RowCodec,
    schema: SchemaRef,
    description: String,
    groups: KeyIndex,
    accumulators: Vec<Box<dyn Accumulator>>,
    /// Rows of each group. 0: the group is not there.
    rows: Vec<i64>,
    /// The batch that touched a group last, so that each is looked at once for a batch.
    touched_by: Vec<u64>,
    batches: u64,
    changed: Vec<u32>,
    is_changed: Vec<bool>,
    ttl: Option<TimeToLive>,
    /// When each group was written, where that ends it.
    written_ms: Vec<i64>,
}

impl GroupAggregate {
    /// `keys` are columns of the input. Fails with `Unsupported` for an input without before images.
    pub fn new(input: &Schema, mode: &ChangelogMode, keys: Vec<usize>, calls: Vec<AggregateCall>) -> Result<Self> {
        mode.require_before_images("an aggregate")?;
        let retracts = *mode != ChangelogMode::Append;
        let mut fields: Vec<Arc<Field>> = keys.iter().map(|column| Arc::clone(&input.fields()[*column])).collect();
        for call in &calls {
            fields.push(Arc::new(result_field(call, input)?));
        }
        let accumulators =
            calls.iter().map(|call| accumulator(call, input, retracts, Saved::OneByOne)).collect::<Result<_>>()?;
        let columns = columns_text(input);
        Ok(Self {
            key_codec: RowCodec::new(input, &keys)?,
            schema: Arc::new(Schema::new(fields)),
            description: format!("{NAME}({keys:?}, {calls:?}, retracts {retracts}, {columns})"),
            calls,
            groups: KeyIndex::default(),
            accumulators,
            rows: Vec::new(),
            touched_by: Vec::new(),
            batches: 0,
            changed: Vec::new(),
            is_changed: Vec::new(),
            ttl: None,
            written_ms: Vec::new(),
        })
    }

    /// Gives a group up so many ms of processing time after its last row.
    pub fn with_time_to_live(mut self, ttl_ms: Option<i64>) -> Result<Self> {
        self.ttl = TimeToLive::new(ttl_ms)?;
        Ok(self)
    }

    fn grow(&mut self) {
        let groups = self.groups.len();
        self.rows.resize(groups, 0);
        self.touched_by.resize(groups, 0);
        self.is_changed.resize(groups, false);
        if self.ttl.is_some() {
            self.written_ms.resize(groups, UNKNOWN_MS);
        }
        self.accumulators.iter_mut().for_each(|accumulator| accumulator.grow(groups));
    }

    /// The group of each row, and each group once, in the order of the rows.
    fn touch(&mut self, rows: &RecordBatch) -> Result<(Vec<u32>, Vec<u32>)> {
        let keys = self.key_codec.encode(rows)?;
        let of_rows: Vec<u32> = (0..keys.len()).map(|row| self.groups.intern(keys.get(row))).collect();
        self.grow();
        self.batches += 1;
        let mut touched = Vec::new();
        for group in &of_rows {
            let last = &mut self.touched_by[*group as usize];
            if *last != self.batches {
                *last = self.batches;
                touched.push(*group);
            }
        }
        Ok((of_rows, touched))
    }

    /// Forgets groups past their time to live, now and then.
    fn sweep(&mut self, now_ms: i64) {
        if !self.ttl.as_mut().is_some_and(|ttl| ttl.is_due(now_ms)) {
            return;
        }
        for group in 0..self.rows.len() as u32 {
            let written_ms = &mut self.written_ms[group as usize];
            if *written_ms == UNKNOWN_MS {
                *written_ms = now_ms;
            }
            if self.is_over(group, now_ms) {
                self.note_changed(group);
                self.empty(group);
                self.groups.remove(group);
            }
        }
    }

    /// Whether a group that is there is past its time to live.
    fn is_over(&self, group: u32, now_ms: i64) -> bool {
        let group = group as usize;
        self.rows[group] > 0 && self.ttl.is_some_and(|ttl| ttl.is_over(self.written_ms[group], now_ms))
    }

    fn empty(&mut self, group: u32) {
        self.rows[group as usize] = 0;
        self.accumulators.iter_mut().for_each(|accumulator| accumulator.clear(group));
    }

    /// What is emitted for some groups as they are now.
    fn results(&self, groups: &[u32]) -> Result<RecordBatch> {
        let mut columns = self.key_codec.decode(groups.iter().map(|group| self.groups.key(*group)))?;
        for accumulator in &self.accumulators {
            columns.push(accumulator.evaluate(groups)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(groups.len()));
        RecordBatch::try_new_with_options(self.schema(), columns, &options).map_err(failed)
    }

    fn note_changed(&mut self, group: u32) {
        if !std::mem::replace(&mut self.is_changed[group as usize], true) {
            self.changed.push(group);
        }
    }
}

/// Where the rows of two batches differ in some column from `from` on.
fn differing(before: &RecordBatch, after: &RecordBatch, from: usize) -> Result<BooleanBuffer> {
    let mut differ = BooleanBuffer::new_unset(before.num_rows());
    for (left, right) in before.columns().iter().zip(after.columns()).skip(from) {
        differ = &differ | distinct(left, right).map_err(failed)?.values();
    }
    Ok(differ)
}

impl Operator for GroupAggregate {
    fn name(&self) -> &str {
        NAME
    }

    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    fn mode(&self) -> ChangelogMode {
        ChangelogMode::Retract { key: Some((0..self.key_codec.fields().len()).collect()) }
    }

    fn describe(&self) -> String {
        self.description.clone()
    }

    fn keyed_by(&self, _: usize) -> Option<&[usize]> {
        Some(self.key_codec.columns())
    }

    fn process(&mut self, _: usize, batch: Batch, cx: &Context, out: &mut dyn Output) -> Result<()> {
        self.sweep(cx.now_ms);
        let (of_rows, touched) = self.touch(batch.rows())?;
        if self.ttl.is_some() {
            for group in &touched {
                if self.is_over(*group, cx.now_ms) {
                    self.empty(*group);
                }
                self.written_ms[*group as usize] = cx.now_ms;
            }
        }
        let known: Vec<u32> = touched.iter().copied().filter(|group| self.rows[*group as usize] > 0).collect();
        let before = self.results(&known)?;

        let signs: Vec<i64> = (0..batch.len()).map(|row| batch.kind(row).sign()).collect();
        for (group, sign) in of_rows.iter().zip(&signs) {
            self.rows[*group as usize] += sign;
        }
        for (call, accumulator) in self.calls.iter().zip(&mut self.accumulators) {
            let column = |column: Option<usize>| column.map(|column| batch.rows().column(column));
            let filter: Option<&BooleanArray> = column(call.filter).map(|filter| filter.as_boolean());
            accumulator.update(column(call.column), &Rows { groups: &of_rows, signs: &signs, filter })?;
        }

        let alive: Vec<u32> = touched.iter().copied().filter(|group| self.rows[*group as usize] > 0).collect();
        let after = self.results(&alive)?;
        // All three lists are in the order of `touched`.
        let at = |groups: &[u32], stay: &dyn Fn(u32) -> bool| -> UInt32Array {
            (0..groups.len() as u32).filter(|at| stay(groups[*at as usize])).collect::<Vec<_>>().into()
        };
        let was_known: HashSet<u32, BuildKeyHasher> = known.iter().copied().collect();
        let stayed_before = at(&known, &|group| self.rows[group as usize] > 0);
        let stayed_after = at(&alive, &|group| was_known.contains(&group));
        let differ = differing(
            &take_record_batch(&before, &stayed_before).map_err(failed)?,
            &take_record_batch(&after, &stayed_after).map_err(failed)?,
            self.key_codec.fields().len(),
        )?;
        let (mut kinds, mut picked) = (Vec::new(), Vec::new());
        let (mut known_at, mut alive_at) = (0, 0);
        let mut updated = 0;
        for group in &touched {
            let was = known.get(known_at) == Some(group);
            let is = alive.get(alive_at) == Some(group);
            match (was, is) {
                (true, true) => {
                    if differ.value(updated) {
                        kinds.extend([RowKind::UpdateBefore, RowKind::UpdateAfter]);
                        picked.extend([(0, known_at), (1, alive_at)]);
                    }
                    updated += 1;
                }
                (true, false) => {
                    kinds.push(RowKind::Delete);
                    picked.push((0, known_at));
                }
                (false, true) => {
                    kinds.push(RowKind::Insert);
                    picked.push((1, alive_at));
                }
                (false, false) => {}
            }
            known_at += usize::from(was);
            alive_at += usize::from(is);
        }
        for group in touched {
            self.note_changed(group);
            if self.rows[group as usize] <= 0 {
                self.empty(group);
                self.groups.remove(group);
            }
        }
        if !picked.is_empty() {
            let rows = match self.schema.fields().is_empty() {
                true => {
                    let options = RecordBatchOptions::new().with_row_count(Some(picked.len()));
                    RecordBatch::try_new_with_options(self.schema(), Vec::new(), &options).map_err(failed)?
                }
                false => interleave_record_batch(&[&before, &after], &picked).map_err(failed)?,
            };
            let changes = Batch::changes(rows, kinds)?;
            for from in (0..changes.len()).step_by(BATCH_ROWS_MAX) {
                out.emit(changes.slice(from, BATCH_ROWS_MAX.min(changes.len() - from))?)?;
            }
        }
        cx.admit(NAME, self.state_bytes())
    }

    fn snapshot(&mut self, writer: &mut SnapshotWriter) -> Result<()> {
        let Self { groups, accumulators, rows, changed, is_changed, written_ms, .. } = self;
        changed.sort_unstable();
        // What is gone goes first: its key may be there again under another number.
        for only_gone in [true, false] {
            for group in changed.iter().filter(|group| (rows[**group as usize] == 0) == only_gone) {
                let key = groups.key(*group);
                if only_gone {
                    writer.entry(TABLE, key, key, None)?;
                    continue;
                }
                let mut value = rows[*group as usize].to_le_bytes().to_vec();
                accumulators.iter().for_each(|accumulator| accumulator.save(*group, &mut value));
                // At the end: state of a job without a time to live has none, and is read by one that has.
                if let Some(written_ms) = written_ms.get(*group as usize) {
                    value.extend_from_slice(&written_ms.to_le_bytes());
                }
                writer.entry(TABLE, key, key, Some(&value))?;
            }
        }
        for (at, accumulator) in accumulators.iter_mut().enumerate() {
            if let Some(values) = accumulator.values() {
                save_values(values, &format!("values.{at}"), groups, writer)?;
            }
        }
        for group in changed.drain(..) {
            is_changed[group as usize] = false;
        }
        groups.recycle();
        Ok(())
    }

    fn restore(&mut self, reader: &StateReader) -> Result<()> {
        self.groups.reserve(reader.entries_about(TABLE));
        reader.replay(TABLE, |changes| {
            let groups = self.groups.intern_all(changes.len(), |change| changes.key(change));
            self.grow();
            for (change, group) in groups.into_iter().enumerate() {
                // What was read of the key before holds no more.
                if self.rows[group as usize] > 0 {
                    self.empty(group);
                }
                let Some(mut value) = changes.value(change) else { continue };
                self.rows[group as usize] = take_i64(&mut value)?;
                for accumulator in &mut self.accumulators {
                    accumulator.load(group, &mut value)?;
                }
                if let Some(written_ms) = self.written_ms.get_mut(group as usize)
                    && !value.is_empty()
                {
                    *written_ms = take_i64(&mut value)?;
                }
            }
            Ok(())
        })?;
        for group in (0..self.rows.len() as u32).filter(|group| self.rows[*group as usize] <= 0) {
            self.groups.remove(group);
        }
        self.groups.recycle();
        for (at, accumulator) in self.accumulators.iter_mut().enumerate() {
            if let Some(values) = accumulator.values() {
                restore_values(values, &format!("values.{at}"), &self.groups, reader)?;
            }
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        let accumulators: usize = self.accumulators.iter().map(|accumulator| accumulator.bytes()).sum();
        self.groups.bytes() + accumulators + self.rows.len() * 17 + self.written_ms.len() * 8
    }
}

#[cfg(test)]
#[path = "aggregate_tests.rs"]
mod tests;

//! The first or the last row of each key: `ROW_NUMBER() OVER (PARTITION BY key ORDER BY time) = 1`.
//!
//! By processing time the order is that of arrival, and a first row is final. By event time a row that arrives later may be
//! earlier; of two rows of the same time the one that arrived first is the first, and the one that arrived last is the last.
//! With a time to live a key is given up so long after its row was written.

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::SchemaRef;
use tereza_runtime::error::Result;

use super::batch::{Batch, RowKind};
use super::error::failed;
use super::index::KeyIndex;
use super::key::RowCodec;
use super::mode::ChangelogMode;
use super::state::{SnapshotWriter, StateReader, columns_text, take_i64};
use super::time::{check_time, event_times};
use super::ttl::TimeToLive;
use super::{Context, Operator, Output};

const NAME: &str = "deduplicate";
const TABLE: &str = "rows";
/// Bytes of a key besides those of its row and of the index.
const ENTRY_BYTES: usize = 56;

/// Which row of a key stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// The first.
    First,
    /// The last.
    Last,
}

/// What orders the rows of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderBy {
    /// Their arrival.
    ProcessingTime,
    /// The event time in a column.
    EventTime(usize),
}

#[derive(Debug)]
struct Kept {
    time: i64,
    written_ms: i64,
    row: Box<[u8]>,
}

/// What is kept of a key, and what happened to it lately.
#[derive(Debug, Default)]
struct OfKey {
    kept: Option<Kept>,
    /// Since the last snapshot.
    is_changed: bool,
    /// The batch in which a row of the key counted last, and its place among those of the batch.
    touched: (u64, u32),
}

/// A row of a batch that stays of its key, up to now.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    key: u32,
    row: u32,
    time: i64,
}

/// The operator. It emits the columns of its input.
pub struct Deduplicate {
    keep: Keep,
    order: OrderBy,
    keys: Vec<usize>,
    key_codec: RowCodec,
    row_codec: RowCodec,
    schema: SchemaRef,
    description: String,
    index: KeyIndex,
    of_keys: Vec<OfKey>,
    changed: Vec<u32>,
    batches: u64,
    row_bytes: usize,
    ttl: Option<TimeToLive>,
}

impl Deduplicate {
    /// `keys` are columns of the input. Fails with `Unsupported` for an input of updates.
    pub fn new(input: &SchemaRef, mode: &ChangelogMode, keys: Vec<usize>, keep: Keep, order: OrderBy) -> Result<Self> {
        mode.require_append("the first or last row of a key")?;
        if let OrderBy::EventTime(time) = order {
            check_time(input.field(time))?;
        }
        let columns = columns_text(input);
        Ok(Self {
            key_codec: RowCodec::new(input, &keys)?,
            row_codec: RowCodec::whole(input)?,
            schema: SchemaRef::clone(input),
            description: format!("{NAME}({keep:?}, {order:?}, {keys:?}, {columns})"),
            keep,
            order,
            keys,
            index: KeyIndex::default(),
            of_keys: Vec::new(),
            changed: Vec::new(),
            batches: 0,
            row_bytes: 0,
            ttl: None,
        })
    }

    /// Gives a key up so many ms of processing time after its row was written.
    pub fn with_time_to_live(mut self, ttl_ms: Option<i64>) -> Result<Self> {
        self.ttl = TimeToLive::new(ttl_ms)?;
        Ok(self)
    }

    /// Forgets keys past their time to live, now and then.
    fn sweep(&mut self, now_ms: i64) {
        let Self { ttl: Some(ttl), index, of_keys, changed, row_bytes, .. } = self else { return };
        if !ttl.is_due(now_ms) {
            return;
        }
        for (key, of_key) in (0..).zip(of_keys) {
            if let Some(over) = of_key.kept.take_if(|kept| ttl.is_over(kept.written_ms, now_ms)) {
                *row_bytes -= over.row.len();
                index.remove(key);
                note_changed(changed, of_key, key);
            }
        }
    }

    fn is_final(&self) -> bool {
        self.keep == Keep::First && self.order == OrderBy::ProcessingTime
    }

    /// Whether a row of that time stays in the place of one of time `known`.
    fn replaces(&self, known: i64, time: i64) -> bool {
        match (self.keep, self.order) {
            (Keep::First, OrderBy::ProcessingTime) => false,
            (Keep::Last, OrderBy::ProcessingTime) => true,
            (Keep::First, OrderBy::EventTime(_)) => time < known,
            (Keep::Last, OrderBy::EventTime(_)) => time >= known,
        }
    }
}

/// Notes a key once for each snapshot.
fn note_changed(changed: &mut Vec<u32>, of_key: &mut OfKey, key: u32) {
    if !std::mem::replace(&mut of_key.is_changed, true) {
        changed.push(key);
    }
}

impl Operator for Deduplicate {
    fn name(&self) -> &str {
        NAME
    }

    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    fn mode(&self) -> ChangelogMode {
        match self.is_final() {
            true => ChangelogMode::Append,
            false => ChangelogMode::Retract { key: Some(self.keys.clone()) },
        }
    }

    fn describe(&self) -> String {
        self.description.clone()
    }

    fn keyed_by(&self, _: usize) -> Option<&[usize]> {
        Some(&self.keys)
    }

    fn process(&mut self, _: usize, batch: Batch, cx: &Context, out: &mut dyn Output) -> Result<()> {
        let keys = self.key_codec.encode(batch.rows())?;
        let times = match self.order {
            OrderBy::ProcessingTime => vec![cx.now_ms; batch.len()],
            OrderBy::EventTime(time) => event_times(batch.rows().column(time), self.schema.field(time).name())?,
        };
        self.sweep(cx.now_ms);
        self.batches += 1;
        let ttl = self.ttl;
        let is_alive = |kept: &&Kept| ttl.is_none_or(|ttl| !ttl.is_over(kept.written_ms, cx.now_ms));
        // In the order of the keys' first rows that counted.
        let mut staying: Vec<Candidate> = Vec::new();
        for (row, time) in (0..).zip(times) {
            let key = self.index.intern(keys.get(row as usize));
            self.of_keys.resize_with(self.index.len(), OfKey::default);
            let OfKey { kept, touched, .. } = &self.of_keys[key as usize];
            let place = (touched.0 == self.batches).then_some(touched.1 as usize);
            let known = match place {
                Some(place) => Some(staying[place].time),
                None => kept.as_ref().filter(is_alive).map(|kept| kept.time),
            };
            if known.is_some_and(|known| !self.replaces(known, time)) {
                continue;
            }
            let candidate = Candidate { key, row, time };
            match place {
                Some(place) => staying[place] = candidate,
                None => {
                    self.of_keys[key as usize].touched = (self.batches, staying.len() as u32);
                    staying.push(candidate);
                }
            }
        }
        let after = batch.take(&UInt32Array::from_iter_values(staying.iter().map(|candidate| candidate.row)))?;
        let rows = self.row_codec.encode(after.rows())?;
        let (mut kinds, mut picked) = (Vec::new(), Vec::new());
        let mut replaced: Vec<Box<[u8]>> = Vec::new();
        let is_final = self.is_final();
        for (at, Candidate { key, time, .. }) in staying.into_iter().enumerate() {
            let of_key = &mut self.of_keys[key as usize];
            let row = rows.get(at);
            let before = of_key.kept.take();
            self.row_bytes -= before.as_ref().map_or(0, |before| before.row.len());
            match before.filter(|before| is_alive(&before)) {
                None => {
                    kinds.push(RowKind::Insert);
                    picked.push((1, at));
                }
                Some(before) if *before.row != *row => {
                    kinds.extend([RowKind::UpdateBefore, RowKind::UpdateAfter]);
                    picked.extend([(0, replaced.len()), (1, at)]);
                    replaced.push(before.row);
                }
                Some(_) => {}
            }
            // A final row is never asked for again: its key is enough.
            let row: Box<[u8]> = if is_final { Box::default() } else { row.into() };
            self.row_bytes += row.len();
            of_key.kept = Some(Kept { time, written_ms: cx.now_ms, row });
            note_changed(&mut self.changed, of_key, key);
        }
        if !kinds.is_empty() {
            let columns = self.row_codec.decode(replaced.iter().map(AsRef::as_ref))?;
            let before = RecordBatch::try_new(self.schema(), columns).map_err(failed)?;
            let rows = interleave_record_batch(&[&before, after.rows()], &picked).map_err(failed)?;
            out.emit(Batch::changes(rows, kinds)?)?;
        }
        cx.admit(NAME, self.state_bytes())
    }

    fn snapshot(&mut self, writer: &mut SnapshotWriter) -> Result<()> {
        let changed = std::mem::take(&mut self.changed);
        // What is gone goes first: its key may be there again under another number.
        for only_gone in [true, false] {
            for number in &changed {
                let of_key = &mut self.of_keys[*number as usize];
                if of_key.kept.is_none() != only_gone {
                    continue;
                }
                of_key.is_changed = false;
                let key = self.index.key(*number);
                let value = of_key.kept.as_ref().map(|kept| {
                    let mut value = [kept.time, kept.written_ms].map(i64::to_le_bytes).concat();
                    value.extend_from_slice(&kept.row);
                    value
                });
                writer.entry(TABLE, key, key, value.as_deref())?;
            }
        }
        self.index.recycle();
        Ok(())
    }

    fn restore(&mut self, reader: &StateReader) -> Result<()> {
        let keys = reader.entries_about(TABLE);
        self.index.reserve(keys);
        self.of_keys.reserve(keys);
        reader.replay(TABLE, |changes| {
            let keys = self.index.intern_all(changes.len(), |change| changes.key(change));
            self.of_keys.resize_with(self.index.len(), OfKey::default);
            for (change, key) in keys.into_iter().enumerate() {
                let kept = match changes.value(change) {
                    Some(mut row) => {
                        let (time, written_ms) = (take_i64(&mut row)?, take_i64(&mut row)?);
                        self.row_bytes += row.len();
                        Some(Kept { time, written_ms, row: row.into() })
                    }
                    None => None,
                };
                let before = std::mem::replace(&mut self.of_keys[key as usize].kept, kept);
                self.row_bytes -= before.map_or(0, |before| before.row.len());
            }
            Ok(())
        })?;
        let gone = self.of_keys.iter().zip(0..).filter(|(of_key, _)| of_key.kept.is_none());
        for (_, key) in gone {
            self.index.remove(key);
        }
        self.index.recycle();
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.index.bytes() + self.of_keys.len() * ENTRY_BYTES + self.row_bytes
    }
}

#[cfg(test)]
#[path = "deduplicate_tests.rs"]
mod tests;

//! The first or the last row of each key: `ROW_NUMBER() OVER (PARTITION BY key ORDER BY time) = 1`.
//!
//! By processing time the order is that of arrival, and a first row is final. By event time a row that arrives later may be
//! earlier; of two rows of the same time the one that arrived first is the first, and the one that arrived last is the last.
//! With a time to live a key is given up so long after its row was written.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use tereza_runtime::error::Result;

use super::batch::{Batch, RowKind};
use super::error::failed;
use super::key::{BuildKeyHasher, RowCodec};
use super::mode::ChangelogMode;
use super::state::{SnapshotWriter, StateReader, columns_text, take_i64};
use super::time::{check_time, event_times};
use super::ttl::TimeToLive;
use super::{Context, Operator, Output};

const NAME: &str = "deduplicate";
const TABLE: &str = "rows";
const ENTRY_BYTES: usize = 96;

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

#[derive(Debug, Clone)]
struct Kept {
    time: i64,
    written_ms: i64,
    row: Arc<[u8]>,
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
    rows: HashMap<Arc<[u8]>, Kept, BuildKeyHasher>,
    changed: BTreeSet<Arc<[u8]>>,
    bytes: usize,
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
            rows: HashMap::default(),
            changed: BTreeSet::new(),
            bytes: 0,
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
        let Self { ttl: Some(ttl), rows, changed, bytes, .. } = self else { return };
        if !ttl.is_due(now_ms) {
            return;
        }
        rows.retain(|key, kept| {
            let stays = !ttl.is_over(kept.written_ms, now_ms);
            if !stays {
                *bytes -= key.len() + ENTRY_BYTES + kept.row.len();
                changed.insert(Arc::clone(key));
            }
            stays
        });
    }

    fn is_final(&self) -> bool {
        self.keep == Keep::First && self.order == OrderBy::ProcessingTime
    }

    fn replaces(&self, known: &Kept, time: i64) -> bool {
        match (self.keep, self.order) {
            (Keep::First, OrderBy::ProcessingTime) => false,
            (Keep::Last, OrderBy::ProcessingTime) => true,
            (Keep::First, OrderBy::EventTime(_)) => time < known.time,
            (Keep::Last, OrderBy::EventTime(_)) => time >= known.time,
        }
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

    fn process(&mut self, _: usize, batch: Batch, cx: &Context, out: &mut dyn Output) -> Result<()> {
        let keys = self.key_codec.encode(batch.rows())?;
        let rows = self.row_codec.encode(batch.rows())?;
        let times = match self.order {
            OrderBy::ProcessingTime => vec![cx.now_ms; batch.len()],
            OrderBy::EventTime(time) => event_times(batch.rows().column(time), self.schema.field(time).name())?,
        };
        self.sweep(cx.now_ms);
        // The row that each key had before this batch, in the order of the keys' first rows that counted.
        let mut before: Vec<(Arc<[u8]>, Option<Kept>)> = Vec::new();
        let mut touched: HashSet<Arc<[u8]>, BuildKeyHasher> = HashSet::default();
        for (row, time) in times.into_iter().enumerate() {
            let key = keys.get(row);
            let known = self.rows.get(key);
            let alive = known.filter(|known| self.ttl.is_none_or(|ttl| !ttl.is_over(known.written_ms, cx.now_ms)));
            if alive.is_some_and(|known| !self.replaces(known, time)) {
                continue;
            }
            let kept = Kept { time, written_ms: cx.now_ms, row: rows.get(row).into() };
            let key: Arc<[u8]> = key.into();
            if touched.insert(Arc::clone(&key)) {
                before.push((Arc::clone(&key), alive.cloned()));
            }
            self.bytes += known.map_or(key.len() + ENTRY_BYTES, |_| 0) + kept.row.len();
            self.bytes -= known.map_or(0, |known| known.row.len());
            self.rows.insert(key, kept);
        }
        let (mut kinds, mut changes): (Vec<RowKind>, Vec<Arc<[u8]>>) = (Vec::new(), Vec::new());
        for (key, before) in before {
            let Some(after) = self.rows.get(&key) else { continue };
            match before {
                None => {
                    kinds.push(RowKind::Insert);
                    changes.push(Arc::clone(&after.row));
                }
                Some(before) if before.row != after.row => {
                    kinds.extend([RowKind::UpdateBefore, RowKind::UpdateAfter]);
                    changes.extend([before.row, Arc::clone(&after.row)]);
                }
                Some(_) => {}
            }
            // A final row is never asked for again: its key is enough.
            if self.is_final()
                && let Some(kept) = self.rows.get_mut(&key)
            {
                self.bytes -= kept.row.len();
                kept.row = Arc::from([]);
            }
            self.changed.insert(key);
        }
        if !kinds.is_empty() {
            let columns = self.row_codec.decode(changes.iter().map(AsRef::as_ref))?;
            let rows = RecordBatch::try_new(self.schema(), columns).map_err(failed)?;
            out.emit(Batch::changes(rows, kinds)?)?;
        }
        cx.admit(NAME, self.bytes)
    }

    fn snapshot(&mut self, writer: &mut SnapshotWriter) -> Result<()> {
        for key in std::mem::take(&mut self.changed) {
            let value = self.rows.get(&key).map(|kept| {
                let mut value = [kept.time, kept.written_ms].map(i64::to_le_bytes).concat();
                value.extend_from_slice(&kept.row);
                value
            });
            writer.entry(TABLE, &key, &key, value.as_deref())?;
        }
        Ok(())
    }

    fn restore(&mut self, reader: &StateReader) -> Result<()> {
        for entry in reader.entries(TABLE).iter() {
            let mut row = entry.value;
            let (time, written_ms) = (take_i64(&mut row)?, take_i64(&mut row)?);
            self.bytes += entry.key.len() + ENTRY_BYTES + row.len();
            self.rows.insert(entry.key.into(), Kept { time, written_ms, row: row.into() });
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
#[path = "deduplicate_tests.rs"]
mod tests;

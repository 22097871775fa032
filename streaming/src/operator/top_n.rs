//! The first rows of each key by some order: `ROW_NUMBER() OVER (PARTITION BY key ORDER BY …) <= N`, with the number or
//! without it. Rows that the order does not tell apart stay in the order of their arrival.
//!
//! Where the input is append only, rows past the last rank can never come back and are not kept. With a time to live all rows of a
//! key are given up so long after they changed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use tereza_runtime::error::{Error, Result};

use super::batch::{BATCH_ROWS_MAX, Batch, RowKind};
use super::error::failed;
use super::key::{BuildKeyHasher, RowCodec};
use super::mode::ChangelogMode;
use super::state::{
    SnapshotWriter, StateReader, columns_text, joined_key, put_bytes, split_key, take, take_bytes, take_i64,
};
use super::ttl::{TimeToLive, UNKNOWN_MS};
use super::{Context, Operator, Output};

const NAME: &str = "top n";
const TABLE: &str = "rows";
/// When the rows of each key changed, where that ends them.
const WRITTEN: &str = "written";
/// Bytes of a row besides its own: its place in the order, and the place in the tree.
const ROW_BYTES: usize = 96;
/// Ranks kept for one key, at most.
pub const RANKS_MAX: usize = 100_000;

/// The first and the last rank that is emitted; ranks count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ranks {
    /// The first.
    pub first: usize,
    /// The last.
    pub last: usize,
}

/// The place of a row: the bytes of what it is ordered by, and the number of its arrival.
type Place = (Arc<[u8]>, u64);
type Rows = BTreeMap<Place, Arc<[u8]>>;
/// Rows in the order of their ranks.
type Ranked = Vec<Arc<[u8]>>;

/// A row that came or went since the last snapshot: key, number of arrival.
type Change = (Arc<[u8]>, u64);

/// The operator. It emits the columns of its input, and the rank where asked.
pub struct TopN {
    ranks: Ranks,
    with_rank: bool,
    retracts: bool,
    key_codec: RowCodec,
    order_codec: RowCodec,
    row_codec: RowCodec,
    schema: SchemaRef,
    mode: ChangelogMode,
    description: String,
    rows: HashMap<Arc<[u8]>, Rows, BuildKeyHasher>,
    next: u64,
    changed: BTreeMap<Change, Option<Place>>,
    bytes: usize,
    ttl: Option<TimeToLive>,
    written_ms: HashMap<Arc<[u8]>, i64, BuildKeyHasher>,
    /// Keys whose rows changed since the last snapshot.
    written: HashSet<Arc<[u8]>, BuildKeyHasher>,
}

impl TopN {
    /// `keys` are columns of the input, `order` columns with their direction. `rank` names the column of the rank.
    pub fn new(
        input: &SchemaRef,
        mode: &ChangelogMode,
        keys: Vec<usize>,
        order: &[(usize, SortOptions)],
        ranks: Ranks,
        rank: Option<&str>,
    ) -> Result<Self> {
        mode.require_before_images("the first rows by an order")?;
        if ranks.first == 0 || ranks.first > ranks.last {
            return Err(Error::invalid_input(format!("ranks from {} to {}", ranks.first, ranks.last)));
        }
        if ranks.last > RANKS_MAX {
            return Err(Error::resource_exhausted(format!("rank {}, more than {RANKS_MAX}", ranks.last)));
        }
        let mut fields = input.fields().to_vec();
        fields.extend(rank.map(|name| Arc::new(Field::new(name, DataType::Int64, false))));
        let key = match (rank, mode) {
            (Some(_), _) => Some(keys.iter().copied().chain([input.fields().len()]).collect()),
            (None, ChangelogMode::Retract { key }) => key.clone(),
            (None, _) if ranks.last == 1 => Some(keys.clone()),
            (None, _) => None,
        };
        let columns = columns_text(input);
        Ok(Self {
            with_rank: rank.is_some(),
            retracts: *mode != ChangelogMode::Append,
            key_codec: RowCodec::new(input, &keys)?,
            order_codec: RowCodec::sorted(input, order)?,
            row_codec: RowCodec::whole(input)?,
            schema: Arc::new(Schema::new(fields)),
            mode: ChangelogMode::Retract { key },
            description: format!("{NAME}({keys:?}, {order:?}, {ranks:?}, {rank:?}, {}, {columns})", mode.as_str()),
            ranks,
            rows: HashMap::default(),
            next: 0,
            changed: BTreeMap::new(),
            bytes: 0,
            ttl: None,
            written_ms: HashMap::default(),
            written: HashSet::default(),
        })
    }

    /// Gives the rows of a key up so many ms of processing time after they changed.
    pub fn with_time_to_live(mut self, ttl_ms: Option<i64>) -> Result<Self> {
        self.ttl = TimeToLive::new(ttl_ms)?;
        Ok(self)
    }

    fn is_over(&self, key: &[u8], now_ms: i64) -> bool {
        let written_ms = self.written_ms.get(key).copied().unwrap_or(UNKNOWN_MS);
        self.ttl.is_some_and(|ttl| ttl.is_over(written_ms, now_ms))
    }

    /// Forgets keys past their time to live, now and then.
    fn sweep(&mut self, now_ms: i64) {
        if !self.ttl.as_mut().is_some_and(|ttl| ttl.is_due(now_ms)) {
            return;
        }
        let keys: Vec<Arc<[u8]>> = self.rows.keys().cloned().collect();
        for key in keys {
            if self.is_over(&key, now_ms) {
                self.forget(&key);
            } else if !self.written_ms.contains_key(&key) {
                self.note_written(&key, now_ms);
            }
        }
    }

    fn note_written(&mut self, key: &Arc<[u8]>, now_ms: i64) {
        if self.ttl.is_some() {
            self.written_ms.insert(Arc::clone(key), now_ms);
            self.written.insert(Arc::clone(key));
        }
    }

    /// Takes a key out with all its rows.
    fn forget(&mut self, key: &Arc<[u8]>) {
        for ((order, number), row) in self.rows.remove(key).unwrap_or_default() {
            self.bytes -= cost(&order, &row);
            self.changed.insert((Arc::clone(key), number), None);
        }
        if self.written_ms.remove(key).is_some() {
            self.written.insert(Arc::clone(key));
        }
    }

    /// The rows that are emitted for a key, in their order.
    fn top(&self, key: &[u8]) -> Vec<Arc<[u8]>> {
        let (skip, take) = (self.ranks.first - 1, self.ranks.last - self.ranks.first + 1);
        self.rows.get(key).into_iter().flat_map(|rows| rows.values().skip(skip).take(take).cloned()).collect()
    }

    /// Adds a row; false if it is past the last rank for ever.
    fn insert(&mut self, key: &Arc<[u8]>, order: &[u8], row: &[u8]) -> bool {
        let rows = self.rows.entry(Arc::clone(key)).or_default();
        if !self.retracts
            && rows.len() >= self.ranks.last
            && rows.last_key_value().is_some_and(|((last, _), _)| last.as_ref() <= order)
        {
            return false;
        }
        let place: Place = (order.into(), self.next);
        self.next += 1;
        self.bytes += cost(order, row);
        self.changed.insert((Arc::clone(key), place.1), Some(place.clone()));
        rows.insert(place, row.into());
        if !self.retracts
            && rows.len() > self.ranks.last
            && let Some(((order, number), row)) = rows.pop_last()
        {
            self.bytes -= cost(&order, &row);
            self.changed.insert((Arc::clone(key), number), None);
        }
        true
    }

    /// Removes the row that arrived last of those that are the same; false if there is none. It may have been there before the
    /// state of an operator above was given up.
    fn remove(&mut self, key: &Arc<[u8]>, order: &[u8], row: &[u8]) -> bool {
        let Some(rows) = self.rows.get_mut(key) else { return false };
        let order: Arc<[u8]> = order.into();
        let mut same = rows.range((Arc::clone(&order), 0)..=(order, u64::MAX)).rev();
        let found = same.find(|(_, known)| known.as_ref() == row).map(|(place, _)| place.clone());
        let Some(place) = found else { return false };
        rows.remove(&place);
        self.bytes -= cost(&place.0, row);
        self.changed.insert((Arc::clone(key), place.1), None);
        true
    }

    /// The changes from the rows that a key had to those that it has.
    fn compare(&self, before: &[Arc<[u8]>], after: &[Arc<[u8]>], changes: &mut Changes) {
        if self.with_rank {
            for at in 0..before.len().max(after.len()) {
                let rank = (self.ranks.first + at) as i64;
                match (before.get(at), after.get(at)) {
                    (Some(before), Some(after)) if before == after => {}
                    (Some(before), Some(after)) => {
                        changes.push(RowKind::UpdateBefore, before, rank);
                        changes.push(RowKind::UpdateAfter, after, rank);
                    }
                    (Some(before), None) => changes.push(RowKind::Delete, before, rank),
                    (None, Some(after)) => changes.push(RowKind::Insert, after, rank),
                    (None, None) => {}
                }
            }
            return;
        }
        let mut counts: HashMap<&[u8], i64, BuildKeyHasher> = HashMap::default();
        for row in after {
            *counts.entry(row).or_default() += 1;
        }
        for row in before {
            let count = counts.entry(row).or_default();
            *count -= 1;
            if *count < 0 {
                changes.push(RowKind::Delete, row, 0);
            }
        }
        for row in after {
            let count = counts.entry(row).or_default();
            if *count > 0 {
                *count -= 1;
                changes.push(RowKind::Insert, row, 0);
            }
        }
    }
}

fn cost(order: &[u8], row: &[u8]) -> usize {
    order.len() + row.len() + ROW_BYTES
}

#[derive(Default)]
struct Changes {
    kinds: Vec<RowKind>,
    rows: Vec<Arc<[u8]>>,
    ranks: Vec<i64>,
}

impl Changes {
    fn push(&mut self, kind: RowKind, row: &Arc<[u8]>, rank: i64) {
        self.kinds.push(kind);
        self.rows.push(Arc::clone(row));
        self.ranks.push(rank);
    }
}

impl Operator for TopN {
    fn name(&self) -> &str {
        NAME
    }

    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    fn mode(&self) -> ChangelogMode {
        self.mode.clone()
    }

    fn describe(&self) -> String {
        self.description.clone()
    }

    fn keyed_by(&self, _: usize) -> Option<&[usize]> {
        Some(self.key_codec.columns())
    }

    fn process(&mut self, _: usize, batch: Batch, cx: &Context, out: &mut dyn Output) -> Result<()> {
        let keys = self.key_codec.encode(batch.rows())?;
        let orders = self.order_codec.encode(batch.rows())?;
        let rows = self.row_codec.encode(batch.rows())?;
        self.sweep(cx.now_ms);
        let mut before: Vec<(Arc<[u8]>, Ranked)> = Vec::new();
        let mut touched: HashSet<Arc<[u8]>, BuildKeyHasher> = HashSet::default();
        for row in 0..batch.len() {
            let key = match touched.get(keys.get(row)) {
                Some(key) => Arc::clone(key),
                None => {
                    let key: Arc<[u8]> = keys.get(row).into();
                    touched.insert(Arc::clone(&key));
                    if self.is_over(&key, cx.now_ms) {
                        self.forget(&key);
                    }
                    before.push((Arc::clone(&key), self.top(&key)));
                    key
                }
            };
            let is_written = match batch.kind(row).adds() {
                true => self.insert(&key, orders.get(row), rows.get(row)),
                false => self.remove(&key, orders.get(row), rows.get(row)),
            };
            if is_written {
                self.note_written(&key, cx.now_ms);
            }
        }
        let mut changes = Changes::default();
        for (key, before) in before {
            self.compare(&before, &self.top(&key), &mut changes);
            if self.rows.get(&key).is_some_and(BTreeMap::is_empty) {
                self.forget(&key);
            }
        }
        for from in (0..changes.kinds.len()).step_by(BATCH_ROWS_MAX) {
            let range = from..changes.kinds.len().min(from + BATCH_ROWS_MAX);
            let mut columns = self.row_codec.decode(changes.rows[range.clone()].iter().map(AsRef::as_ref))?;
            if self.with_rank {
                let ranks: ArrayRef = Arc::new(Int64Array::from(changes.ranks[range.clone()].to_vec()));
                columns.push(ranks);
            }
            let rows = RecordBatch::try_new(self.schema(), columns).map_err(failed)?;
            out.emit(Batch::changes(rows, changes.kinds[range].to_vec())?)?;
        }
        cx.admit(NAME, self.state_bytes())
    }

    fn snapshot(&mut self, writer: &mut SnapshotWriter) -> Result<()> {
        writer.scalar("next", self.next as i64);
        for ((key, number), place) in std::mem::take(&mut self.changed) {
            let entry = joined_key(&key, &number.to_be_bytes());
            let row = place.as_ref().and_then(|place| self.rows.get(&key)?.get(place));
            let value = place.as_ref().zip(row).map(|((order, _), row)| {
                let mut value = Vec::with_capacity(4 + order.len() + row.len());
                put_bytes(&mut value, order);
                value.extend_from_slice(row);
                value
            });
            writer.entry(TABLE, &key, &entry, value.as_deref())?;
        }
        for key in std::mem::take(&mut self.written) {
            let written_ms = self.written_ms.get(&key).map(|written_ms| written_ms.to_le_bytes());
            writer.entry(WRITTEN, &key, &key, written_ms.as_ref().map(<[u8; 8]>::as_slice))?;
        }
        Ok(())
    }

    fn restore(&mut self, reader: &StateReader) -> Result<()> {
        self.next = reader.scalar_max("next").unwrap_or(0) as u64;
        let mut shared: HashSet<Arc<[u8]>, BuildKeyHasher> = HashSet::default();
        reader.each(TABLE, |entry| {
            let (key, mut number) = split_key(entry.key)?;
            let number = u64::from_be_bytes(take::<8>(&mut number)?);
            let mut row = entry.value;
            let order = take_bytes(&mut row)?;
            let key = match shared.get(key) {
                Some(key) => Arc::clone(key),
                None => {
                    let key: Arc<[u8]> = key.into();
                    shared.insert(Arc::clone(&key));
                    key
                }
            };
            self.bytes += cost(order, row);
            self.rows.entry(key).or_default().insert((order.into(), number), row.into());
            Ok(())
        })?;
        reader.each(WRITTEN, |entry| {
            let mut written_ms = entry.value;
            let key: Arc<[u8]> = entry.key.into();
            match self.ttl {
                Some(_) => {
                    self.written_ms.insert(key, take_i64(&mut written_ms)?);
                }
                // Nothing keeps it up to date from now on.
                None => {
                    self.written.insert(key);
                }
            }
            Ok(())
        })
    }

    fn state_bytes(&self) -> usize {
        self.bytes + (self.rows.len() + self.written_ms.len()) * ROW_BYTES
    }
}

#[cfg(test)]
#[path = "top_n_tests.rs"]
mod tests;

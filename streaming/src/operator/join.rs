//! Joins of two streams without a bound in time: each row meets all rows of the other input, past and future.
//!
//! Both inputs are kept as multisets. Where rows without a partner stay, each knows with how many rows of the other input it
//! is paired: the first partner takes back the row padded with NULLs, and the last one that goes brings it again. Rows that
//! were not written for a time to live are given up without a word, as in Flink.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use tereza_runtime::error::Result;

use super::batch::{BATCH_ROWS_MAX, Batch, RowKind};
use super::key::{BuildKeyHasher, Encoded, RowCodec};
use super::mode::ChangelogMode;
pub use super::pairs::{JoinKind, JoinOn};
use super::pairs::{PairChange, PairCodec, in_order, joined_mode};
use super::state::{SnapshotWriter, StateReader, columns_text, joined_key, split_key, take_i64};
use super::ttl::TimeToLive;
use super::{Context, Operator, Output};

const NAME: &str = "join";
const TABLES: [&str; 2] = ["left", "right"];
/// Bytes of a row besides its own.
const ROW_BYTES: usize = 96;

type Bytes = Arc<[u8]>;

#[derive(Debug, Clone, Copy)]
struct Known {
    count: i64,
    /// Rows of the other input it is paired with; kept where it stays without any.
    partners: i64,
    written_ms: i64,
    /// Since the last snapshot; then it is among the side's.
    is_changed: bool,
}

#[derive(Debug, Default)]
struct Side {
    rows: HashMap<Bytes, BTreeMap<Bytes, Known>, BuildKeyHasher>,
    /// Rows that changed or went, with their keys. One that went and came back is there twice.
    changed: Vec<(Bytes, Bytes)>,
    bytes: usize,
}

/// The operator. Input 0 is the left one. It emits the columns of both.
pub struct Join {
    on: JoinOn,
    ttl: [Option<TimeToLive>; 2],
    keys: [RowCodec; 2],
    pairs: PairCodec,
    mode: ChangelogMode,
    description: String,
    sides: [Side; 2],
}

impl Join {
    /// `ttl_ms` are the times to live of the rows of both inputs, in processing time.
    pub fn new(inputs: [&Schema; 2], modes: [&ChangelogMode; 2], on: JoinOn, ttl_ms: [Option<i64>; 2]) -> Result<Self> {
        modes.iter().try_for_each(|mode| mode.require_before_images("a join"))?;
        on.check(inputs[0], inputs[1])?;
        Ok(Self {
            keys: [RowCodec::new(inputs[0], &on.left)?, RowCodec::new(inputs[1], &on.right)?],
            pairs: PairCodec::new(&on, inputs[0], inputs[1])?,
            mode: joined_mode(on.kind, modes[0], modes[1], inputs[0].fields().len()),
            description: format!("{NAME}({}, {}, {})", on.describe(), columns_text(inputs[0]), columns_text(inputs[1])),
            on,
            ttl: [TimeToLive::new(ttl_ms[0])?, TimeToLive::new(ttl_ms[1])?],
            sides: [Side::default(), Side::default()],
        })
    }

    fn is_alive(&self, input: usize, known: &Known, now_ms: i64) -> bool {
        self.ttl[input].is_none_or(|ttl| !ttl.is_over(known.written_ms, now_ms))
    }

    /// Forgets rows past their time to live, now and then.
    fn sweep(&mut self, now_ms: i64) {
        for (side, ttl) in self.sides.iter_mut().zip(&mut self.ttl) {
            let Some(ttl) = ttl else { continue };
            if !ttl.is_due(now_ms) {
                continue;
            }
            let Side { rows, changed, bytes } = side;
            rows.retain(|key, rows| {
                rows.retain(|row, known| {
                    let stays = !ttl.is_over(known.written_ms, now_ms);
                    if !stays {
                        *bytes -= cost(key, row);
                        if !known.is_changed {
                            changed.push((Arc::clone(key), Arc::clone(row)));
                        }
                    }
                    stays
                });
                !rows.is_empty()
            });
        }
    }

    /// Adds or takes back a row of an input in its own state.
    fn keep(&mut self, input: usize, row: &InputRow<'_>, own: Bytes, partners: i64, now_ms: i64) {
        let ttl = self.ttl[input];
        let Side { rows, changed, bytes } = &mut self.sides[input];
        let known_key = rows.get_key_value(row.key).map(|(key, _)| Arc::clone(key));
        let key = match known_key {
            Some(key) => key,
            None if row.adds => row.key.into(),
            None => return,
        };
        let of_key = rows.entry(Arc::clone(&key)).or_default();
        let mut was_changed = false;
        if let Some(known) = of_key.get_mut(&own) {
            was_changed = std::mem::replace(&mut known.is_changed, true);
            if ttl.is_some_and(|ttl| ttl.is_over(known.written_ms, now_ms)) {
                known.count = 0;
            }
            known.count += if row.adds { 1 } else { -1 };
            known.partners = partners;
            known.written_ms = now_ms;
            if known.count <= 0 {
                of_key.remove(&own);
                *bytes -= cost(&key, &own);
            }
        } else if row.adds {
            *bytes += cost(&key, &own);
            let known = Known { count: 1, partners, written_ms: now_ms, is_changed: true };
            of_key.insert(Arc::clone(&own), known);
        }
        if of_key.is_empty() {
            rows.remove(&key);
        }
        if !was_changed {
            changed.push((key, own));
        }
    }

    /// Joins some rows of an input with what is kept of the other, and keeps them.
    fn join(
        &mut self,
        input: usize,
        rows: &[InputRow<'_>],
        cx: &Context,
        out: &mut Vec<PairChange<Bytes>>,
    ) -> Result<()> {
        let other = 1 - input;
        let mut pairs: Vec<[Bytes; 2]> = Vec::new();
        let mut partners: Vec<Vec<Bytes>> = Vec::with_capacity(rows.len());
        let own: Vec<Bytes> = rows.iter().map(|row| row.row.into()).collect();
        for (row, own) in rows.iter().zip(&own) {
            let of_key = self.sides[other].rows.get(row.key).filter(|_| !row.is_null).into_iter().flatten();
            let alive = of_key.filter(|(_, known)| self.is_alive(other, known, cx.now_ms));
            let found: Vec<Bytes> = alive.map(|(other, _)| Arc::clone(other)).collect();
            pairs.extend(found.iter().map(|other| in_order(input, Arc::clone(own), Arc::clone(other))));
            partners.push(found);
        }
        let meets = self.pairs.meets(&pairs)?;
        let mut meets = meets.into_iter();
        for ((row, own), found) in rows.iter().zip(own).zip(partners) {
            let met: Vec<Bytes> = found.into_iter().filter(|_| meets.next() == Some(true)).collect();
            let kind = if row.adds { RowKind::Insert } else { RowKind::Delete };
            if met.is_empty() && self.on.kind.keeps(input) {
                out.push((kind, in_order(input, Some(Arc::clone(&own)), None)));
            }
            let mut count = 0;
            let other_stays = self.on.kind.keeps(other);
            for partner in &met {
                let side = &mut self.sides[other];
                let Some(known) = side.rows.get_mut(row.key).and_then(|rows| rows.get_mut(partner)) else { continue };
                count += known.count;
                let padded = (0..known.count).map(|_| in_order(input, None, Some(Arc::clone(partner))));
                if other_stays && row.adds && known.partners == 0 {
                    out.extend(padded.clone().map(|pair| (RowKind::Delete, pair)));
                }
                let pair = || in_order(input, Some(Arc::clone(&own)), Some(Arc::clone(partner)));
                out.extend((0..known.count).map(|_| (kind, pair())));
                if other_stays {
                    known.partners = (known.partners + if row.adds { 1 } else { -1 }).max(0);
                    if !row.adds && known.partners == 0 {
                        out.extend(padded.map(|pair| (RowKind::Insert, pair)));
                    }
                    if !std::mem::replace(&mut known.is_changed, true) {
                        let key = side.rows.get_key_value(row.key).map(|(key, _)| Arc::clone(key));
                        side.changed.extend(key.map(|key| (key, Arc::clone(partner))));
                    }
                }
            }
            if !row.is_null {
                self.keep(input, row, own, count, cx.now_ms);
            }
        }
        Ok(())
    }
}

struct InputRow<'a> {
    key: &'a [u8],
    row: &'a [u8],
    is_null: bool,
    adds: bool,
}

fn cost(key: &[u8], row: &[u8]) -> usize {
    key.len() + row.len() + ROW_BYTES
}

impl Operator for Join {
    fn name(&self) -> &str {
        NAME
    }

    fn schema(&self) -> SchemaRef {
        self.pairs.schema()
    }

    fn mode(&self) -> ChangelogMode {
        self.mode.clone()
    }

    fn describe(&self) -> String {
        self.description.clone()
    }

    fn keyed_by(&self, input: usize) -> Option<&[usize]> {
        Some(self.keys[input].columns())
    }

    fn process(&mut self, input: usize, batch: Batch, cx: &Context, out: &mut dyn Output) -> Result<()> {
        self.sweep(cx.now_ms);
        let keys = self.keys[input].encode(batch.rows())?;
        let rows: Encoded = self.pairs.row(input).encode(batch.rows())?;
        let nulls = self.keys[input].nulls(batch.rows());
        let input_row = |row: usize| InputRow {
            key: keys.get(row),
            row: rows.get(row),
            is_null: nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)),
            adds: batch.kind(row).adds(),
        };
        let all: Vec<InputRow<'_>> = (0..batch.len()).map(input_row).collect();
        let mut from = 0;
        while from < all.len() {
            // So many rows at once that their pairs fill a batch.
            let mut pairs = 0;
            let width = all[from..].iter().take_while(|row| {
                let fits = pairs < BATCH_ROWS_MAX;
                pairs += self.sides[1 - input].rows.get(row.key).map_or(0, BTreeMap::len);
                fits
            });
            let to = from + width.count();
            let mut changes = Vec::new();
            self.join(input, &all[from..to], cx, &mut changes)?;
            self.pairs.emit(&changes, out)?;
            from = to;
        }
        cx.admit(NAME, self.state_bytes())
    }

    fn snapshot(&mut self, writer: &mut SnapshotWriter) -> Result<()> {
        for (side, table) in self.sides.iter_mut().zip(TABLES) {
            for (key, row) in std::mem::take(&mut side.changed) {
                let known = side.rows.get_mut(&key).and_then(|rows| rows.get_mut(&row));
                let value = known.as_ref().map(|known| [known.count, known.partners, known.written_ms]);
                if known.is_some_and(|known| !std::mem::take(&mut known.is_changed)) {
                    continue;
                }
                let value = value.map(|numbers| numbers.map(i64::to_le_bytes).concat());
                writer.entry(table, &key, &joined_key(&key, &row), value.as_deref())?;
            }
        }
        Ok(())
    }

    fn restore(&mut self, reader: &StateReader) -> Result<()> {
        for (side, table) in self.sides.iter_mut().zip(TABLES) {
            reader.each(table, |entry| {
                let (key, row) = split_key(entry.key)?;
                let mut value = entry.value;
                let known = Known {
                    count: take_i64(&mut value)?,
                    partners: take_i64(&mut value)?,
                    written_ms: take_i64(&mut value)?,
                    is_changed: false,
                };
                side.bytes += cost(key, row);
                match side.rows.get_mut(key) {
                    Some(rows) => rows.insert(row.into(), known),
                    None => side.rows.entry(key.into()).or_default().insert(row.into(), known),
                };
                Ok(())
            })?;
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.sides.iter().map(|side| side.bytes).sum()
    }
}

#[cfg(test)]
#[path = "join_tests.rs"]
mod tests;

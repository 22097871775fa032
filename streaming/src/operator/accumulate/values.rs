//! Aggregates that keep values: the least, the greatest, and each once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, new_null_array};
use arrow::datatypes::DataType;
use tereza_runtime::error::{Error, Result};

use super::sum::SumOf;
use super::{Accumulator, Rows, Saved, Values, Visit};
use crate::operator::index::KeyIndex;
use crate::operator::key::{BuildKeyHasher, RowCodec};
use crate::operator::state::{
    SnapshotWriter, StateReader, joined_key, put_bytes, split_key, take, take_bytes, take_i64,
};

/// Bytes of a map's entry besides its key.
const ENTRY_BYTES: usize = 56;

/// Writes the values that changed to a table of their own; `keys` has the keys of the groups.
pub(crate) fn save_values(
    values: &mut dyn Values,
    table: &str,
    keys: &KeyIndex,
    writer: &mut SnapshotWriter,
) -> Result<()> {
    let mut live = Vec::new();
    // What is gone goes first: its key may be there again under another number.
    values.changed(&mut |group, value, count| {
        let key = keys.key(group);
        let joined = joined_key(key, value);
        match count {
            None => writer.entry(table, key, &joined, None)?,
            Some(count) => live.push((group, joined, count)),
        }
        Ok(())
    })?;
    for (group, joined, count) in live {
        writer.entry(table, keys.key(group), &joined, Some(&count.to_le_bytes()))?;
    }
    Ok(())
}

/// Takes back what [`save_values`] wrote, for groups that are there.
pub(crate) fn restore_values(
    values: &mut dyn Values,
    table: &str,
    keys: &KeyIndex,
    reader: &StateReader,
) -> Result<()> {
    reader.each(table, |entry| {
        let (key, value) = split_key(entry.key)?;
        let mut count = entry.value;
        let group = keys
            .get(key)
            .ok_or_else(|| Error::invalid_input("a snapshot of stream state is damaged: values of no group"))?;
        values.restore(group, value, take_i64(&mut count)?);
        Ok(())
    })
}

/// Decodes optional values of one column.
pub(super) fn decoded<'a>(
    codec: &RowCodec,
    result: &DataType,
    values: impl Iterator<Item = Option<&'a [u8]>>,
    null: &'a [u8],
) -> Result<ArrayRef> {
    let mut columns = codec.decode(values.map(|value| value.unwrap_or(null)))?;
    let column = columns.pop().ok_or_else(|| Error::internal("a codec without columns"))?;
    debug_assert_eq!(column.data_type(), result);
    Ok(column)
}

/// The bytes of NULL.
pub(super) fn null_bytes(codec: &RowCodec, data_type: &DataType) -> Result<Vec<u8>> {
    Ok(codec.encode_columns(&[new_null_array(data_type, 1)], 1)?.get(0).to_vec())
}

/// MIN or MAX of rows that stay: the bytes of values sort as the values do.
pub(super) struct Extreme {
    codec: RowCodec,
    is_max: bool,
    result: DataType,
    values: Vec<Option<Box<[u8]>>>,
    bytes: usize,
}

impl Extreme {
    pub(super) fn new(codec: RowCodec, is_max: bool, result: DataType) -> Self {
        Self { codec, is_max, result, values: Vec::new(), bytes: 0 }
    }

    fn offer(&mut self, group: usize, value: &[u8]) {
        let known = &mut self.values[group];
        let is_better = known.as_deref().is_none_or(|known| if self.is_max { value > known } else { value < known });
        if is_better {
            self.bytes = self.bytes + value.len() - known.as_deref().map_or(0, <[u8]>::len);
            *known = Some(value.into());
        }
    }
}

impl Accumulator for Extreme {
    fn grow(&mut self, groups: usize) {
        self.values.resize(groups.max(self.values.len()), None);
    }

    fn update(&mut self, values: Option<&ArrayRef>, rows: &Rows<'_>) -> Result<()> {
        let Some(values) = values else { return Ok(()) };
        let encoded = self.codec.encode_columns(std::slice::from_ref(values), values.len())?;
        for (row, group, _) in rows.of(Some(values.as_ref())) {
            self.offer(group, encoded.get(row));
        }
        Ok(())
    }

    fn clear(&mut self, group: u32) {
        let known = self.values[group as usize].take();
        self.bytes -= known.map_or(0, |known| known.len());
    }

    fn merge(&mut self, into: u32, from: u32) -> Result<()> {
        if let Some(value) = self.values[from as usize].clone() {
            self.offer(into as usize, &value);
        }
        Ok(())
    }

    fn evaluate(&self, groups: &[u32]) -> Result<ArrayRef> {
        let null = null_bytes(&self.codec, &self.result)?;
        let values = groups.iter().map(|group| self.values[*group as usize].as_deref());
        decoded(&self.codec, &self.result, values, &null)
    }

    fn save(&self, group: u32, out: &mut Vec<u8>) {
        let value = self.values[group as usize].as_deref();
        out.push(u8::from(value.is_some()));
        put_bytes(out, value.unwrap_or_default());
    }

    fn load(&mut self, group: u32, bytes: &mut &[u8]) -> Result<()> {
        let is_some = take::<1>(bytes)? == [1];
        let value = take_bytes(bytes)?;
        if is_some {
            self.offer(group as usize, value);
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.bytes + self.values.len() * 16
    }
}

/// The values that changed since the last snapshot, where they are saved one by one.
struct Changed {
    saved: Saved,
    values: HashSet<(u32, Box<[u8]>), BuildKeyHasher>,
}

impl Changed {
    fn note(&mut self, group: usize, value: &[u8]) {
        if self.saved == Saved::OneByOne {
            self.values.insert((group as u32, value.into()));
        }
    }
}

/// Bytes that a value takes with its count.
fn cost(value: &[u8]) -> usize {
    value.len() + ENTRY_BYTES
}

/// The values of one group with their counts. A count below 0 stands for a row that is taken back before it is added.
pub(super) trait Group: Default + Send {
    /// What is asked of the groups.
    type Question: Send;

    fn count(&mut self, value: &[u8]) -> Option<&mut i64>;
    fn insert(&mut self, value: &[u8], count: i64);
    fn remove(&mut self, value: &[u8]);
    /// Hears of a count that changed, from or to 0 too.
    fn counted(&mut self, _before: i64, _after: i64) {}
    fn values(&self) -> impl ExactSizeIterator<Item = (&[u8], i64)>;
    fn answer<'a>(
        groups: impl Iterator<Item = &'a Self>,
        question: &Self::Question,
        codec: &RowCodec,
    ) -> Result<ArrayRef>
    where
        Self: 'a;
}

/// An aggregate that keeps all values, with their counts where rows may be taken back.
pub(super) struct OfAll<G: Group> {
    codec: RowCodec,
    retracts: bool,
    question: G::Question,
    groups: Vec<G>,
    changed: Changed,
    bytes: usize,
}

impl<G: Group> OfAll<G> {
    pub(super) fn new(codec: RowCodec, retracts: bool, saved: Saved, question: G::Question) -> Self {
        let changed = Changed { saved, values: HashSet::default() };
        Self { codec, retracts, question, groups: Vec::new(), changed, bytes: 0 }
    }

    /// Counts a value. 1 if it is there now and was not, -1 if it is gone, else 0.
    fn add(&mut self, group: usize, value: &[u8], by: i64) -> i64 {
        let values = &mut self.groups[group];
        let before = match values.count(value) {
            Some(_) if !self.retracts => return 0,
            Some(count) => {
                let before = *count;
                *count += by;
                if before + by == 0 {
                    values.remove(value);
                    self.bytes -= cost(value);
                }
                before
            }
            None => {
                values.insert(value, by);
                self.bytes += cost(value);
                0
            }
        };
        values.counted(before, before + by);
        self.changed.note(group, value);
        i64::from(before + by > 0) - i64::from(before > 0)
    }

    /// Adds the values of group `from` to group `into`; those that are there now and were not, or are gone, with 1 or -1.
    fn add_all(&mut self, into: u32, from: u32) -> Vec<(Box<[u8]>, i64)> {
        let values: Vec<(Box<[u8]>, i64)> =
            self.groups[from as usize].values().map(|(value, count)| (value.into(), count)).collect();
        let added = values.into_iter().map(|(value, count)| {
            let by = self.add(into as usize, &value, count);
            (value, by)
        });
        added.filter(|(_, by)| *by != 0).collect()
    }
}

impl<G: Group> Accumulator for OfAll<G> {
    fn grow(&mut self, groups: usize) {
        self.groups.resize_with(groups.max(self.groups.len()), G::default);
    }

    fn update(&mut self, values: Option<&ArrayRef>, rows: &Rows<'_>) -> Result<()> {
        let Some(values) = values else { return Ok(()) };
        let encoded = self.codec.encode_columns(std::slice::from_ref(values), values.len())?;
        for (row, group, sign) in rows.of(Some(values.as_ref())) {
            self.add(group, encoded.get(row), sign);
        }
        Ok(())
    }

    fn clear(&mut self, group: u32) {
        let gone = std::mem::take(&mut self.groups[group as usize]);
        for (value, _) in gone.values() {
            self.bytes -= cost(value);
            self.changed.note(group as usize, value);
        }
    }

    fn merge(&mut self, into: u32, from: u32) -> Result<()> {
        self.add_all(into, from);
        Ok(())
    }

    fn evaluate(&self, groups: &[u32]) -> Result<ArrayRef> {
        G::answer(groups.iter().map(|group| &self.groups[*group as usize]), &self.question, &self.codec)
    }

    fn save(&self, group: u32, out: &mut Vec<u8>) {
        if self.changed.saved != Saved::WithGroup {
            return;
        }
        let values = self.groups[group as usize].values();
        out.extend_from_slice(&(values.len() as u32).to_le_bytes());
        for (value, count) in values {
            put_bytes(out, value);
            out.extend_from_slice(&count.to_le_bytes());
        }
    }

    fn load(&mut self, group: u32, bytes: &mut &[u8]) -> Result<()> {
        if self.changed.saved != Saved::WithGroup {
            return Ok(());
        }
        for _ in 0..u32::from_le_bytes(take::<4>(bytes)?) {
            let value = take_bytes(bytes)?;
            self.add(group as usize, value, take_i64(bytes)?);
        }
        Ok(())
    }

    fn values(&mut self) -> Option<&mut dyn Values> {
        if self.changed.saved == Saved::OneByOne { Some(self) } else { None }
    }

    fn bytes(&self) -> usize {
        self.bytes + self.groups.len() * size_of::<G>()
    }
}

impl<G: Group> Values for OfAll<G> {
    fn changed(&mut self, visit: Visit<'_>) -> Result<()> {
        for (group, value) in std::mem::take(&mut self.changed.values) {
            visit(group, &value, self.groups[group as usize].count(&value).copied())?;
        }
        Ok(())
    }

    fn restore(&mut self, group: u32, value: &[u8], count: i64) {
        self.bytes += cost(value);
        let group = &mut self.groups[group as usize];
        group.insert(value, count);
        group.counted(0, count);
    }
}

/// MIN or MAX of rows that may be taken back.
pub(super) struct ExtremeOfAll {
    pub(super) is_max: bool,
    pub(super) result: DataType,
}

impl Group for BTreeMap<Box<[u8]>, i64> {
    type Question = ExtremeOfAll;

    fn count(&mut self, value: &[u8]) -> Option<&mut i64> {
        self.get_mut(value)
    }

    fn insert(&mut self, value: &[u8], count: i64) {
        self.insert(value.into(), count);
    }

    fn remove(&mut self, value: &[u8]) {
        self.remove(value);
    }

    fn values(&self) -> impl ExactSizeIterator<Item = (&[u8], i64)> {
        self.iter().map(|(value, count)| (value.as_ref(), *count))
    }

    fn answer<'a>(
        groups: impl Iterator<Item = &'a Self>,
        question: &ExtremeOfAll,
        codec: &RowCodec,
    ) -> Result<ArrayRef> {
        let null = null_bytes(codec, &question.result)?;
        let extremes = groups.map(|group| {
            let mut values = group.iter().filter(|(_, count)| **count > 0);
            let value = if question.is_max { values.next_back() } else { values.next() };
            value.map(|(value, _)| value.as_ref())
        });
        decoded(codec, &question.result, extremes, &null)
    }
}

/// The values of an aggregate with DISTINCT.
#[derive(Default)]
pub(super) struct Distinct {
    counts: HashMap<Box<[u8]>, i64, BuildKeyHasher>,
    /// Values with a count over 0.
    distinct: i64,
}

impl Group for Distinct {
    type Question = ();

    fn count(&mut self, value: &[u8]) -> Option<&mut i64> {
        self.counts.get_mut(value)
    }

    fn insert(&mut self, value: &[u8], count: i64) {
        self.counts.insert(value.into(), count);
    }

    fn remove(&mut self, value: &[u8]) {
        self.counts.remove(value);
    }

    fn counted(&mut self, before: i64, after: i64) {
        self.distinct += i64::from(after > 0) - i64::from(before > 0);
    }

    fn values(&self) -> impl ExactSizeIterator<Item = (&[u8], i64)> {
        self.counts.iter().map(|(value, count)| (value.as_ref(), *count))
    }

    fn answer<'a>(groups: impl Iterator<Item = &'a Self>, (): &(), _: &RowCodec) -> Result<ArrayRef> {
        Ok(Arc::new(Int64Array::from_iter_values(groups.map(|group| group.distinct))))
    }
}

/// SUM or AVG of each value once.
pub(super) struct SumOfDistinct {
    pub(super) values: OfAll<Distinct>,
    /// Of the values that are there.
    pub(super) sum: SumOf,
}

impl Accumulator for SumOfDistinct {
    fn grow(&mut self, groups: usize) {
        self.values.grow(groups);
        self.sum.grow(groups);
    }

    fn update(&mut self, values: Option<&ArrayRef>, rows: &Rows<'_>) -> Result<()> {
        let Some(values) = values else { return Ok(()) };
        let encoded = self.values.codec.encode_columns(std::slice::from_ref(values), values.len())?;
        let mut signs = vec![0; rows.groups.len()];
        for (row, group, sign) in rows.of(Some(values.as_ref())) {
            signs[row] = self.values.add(group, encoded.get(row), sign);
        }
        let counts: BooleanArray = signs.iter().map(|sign| Some(*sign != 0)).collect();
        self.sum.update(Some(values), &Rows { groups: rows.groups, signs: &signs, filter: Some(&counts) })
    }

    fn clear(&mut self, group: u32) {
        self.values.clear(group);
        self.sum.clear(group);
    }

    fn merge(&mut self, into: u32, from: u32) -> Result<()> {
        let added = self.values.add_all(into, from);
        let column = self.values.codec.decode(added.iter().map(|(value, _)| value.as_ref()))?.pop();
        let (groups, signs) = (vec![into; added.len()], added.iter().map(|(_, by)| *by).collect::<Vec<_>>());
        self.sum.update(column.as_ref(), &Rows { groups: &groups, signs: &signs, filter: None })
    }

    fn evaluate(&self, groups: &[u32]) -> Result<ArrayRef> {
        self.sum.evaluate(groups)
    }

    fn save(&self, group: u32, out: &mut Vec<u8>) {
        self.values.save(group, out);
        self.sum.save(group, out);
    }

    fn load(&mut self, group: u32, bytes: &mut &[u8]) -> Result<()> {
        self.values.load(group, bytes)?;
        self.sum.load(group, bytes)
    }

    fn values(&mut self) -> Option<&mut dyn Values> {
        self.values.values()
    }

    fn bytes(&self) -> usize {
        self.values.bytes() + self.sum.bytes()
    }
}

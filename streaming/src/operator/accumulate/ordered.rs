//! Values by the order of the rows, for OVER.

use std::collections::VecDeque;

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{DataType, Schema};
use tereza_runtime::error::Result;

use super::values::{decoded, null_bytes};
use super::{Accumulator, Rows};
use crate::operator::key::RowCodec;
use crate::operator::state::{put_bytes, take, take_bytes};

/// Bytes of a value besides its own.
const VALUE_BYTES: usize = 16;

type Value = Box<[u8]>;

/// The values of one column for each group, in the order of the rows.
struct Queues {
    codec: RowCodec,
    result: DataType,
    groups: Vec<VecDeque<Value>>,
    bytes: usize,
}

impl Queues {
    fn new(input: &Schema, column: usize) -> Result<Self> {
        let result = input.field(column).data_type().clone();
        Ok(Self { codec: RowCodec::new(input, &[column])?, result, groups: Vec::new(), bytes: 0 })
    }

    fn grow(&mut self, groups: usize) {
        self.groups.resize_with(groups.max(self.groups.len()), VecDeque::new);
    }

    fn push(&mut self, group: usize, value: &[u8]) {
        self.bytes += value.len() + VALUE_BYTES;
        self.groups[group].push_back(value.into());
    }

    fn pop(&mut self, group: usize) {
        if let Some(value) = self.groups[group].pop_front() {
            self.bytes -= value.len() + VALUE_BYTES;
        }
    }

    fn clear(&mut self, group: u32) {
        while !self.groups[group as usize].is_empty() {
            self.pop(group as usize);
        }
    }

    /// The values of `from` come after those of `into`.
    fn merge(&mut self, into: u32, from: u32) {
        for value in self.groups[from as usize].clone() {
            self.push(into as usize, &value);
        }
    }

    fn save(&self, group: u32, out: &mut Vec<u8>) {
        let values = &self.groups[group as usize];
        out.extend_from_slice(&(values.len() as u32).to_le_bytes());
        values.iter().for_each(|value| put_bytes(out, value));
    }

    fn load(&mut self, group: u32, bytes: &mut &[u8]) -> Result<()> {
        for _ in 0..u32::from_le_bytes(take::<4>(bytes)?) {
            let value = take_bytes(bytes)?;
            self.push(group as usize, value);
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.bytes + self.groups.len() * size_of::<VecDeque<Value>>()
    }
}

/// FIRST_VALUE or LAST_VALUE. As in Flink, NULL is passed over.
pub(crate) struct InOrder {
    is_last: bool,
    /// Whether rows are taken back, which they are in the order in which they came: then all values are kept, and saved by
    /// whoever keeps the rows. Else only the one that is asked for.
    retracts: bool,
    queues: Queues,
}

impl InOrder {
    /// Of a column of the input.
    pub(crate) fn new(input: &Schema, column: usize, is_last: bool, retracts: bool) -> Result<Self> {
        Ok(Self { is_last, retracts, queues: Queues::new(input, column)? })
    }

    /// Without rows that leave, only one value is asked for ever.
    fn thin(&mut self, group: usize) {
        while !self.retracts && self.queues.groups[group].len() > 1 {
            match self.is_last {
                true => self.queues.pop(group),
                false => {
                    if let Some(value) = self.queues.groups[group].pop_back() {
                        self.queues.bytes -= value.len() + VALUE_BYTES;
                    }
                }
            }
        }
    }
}

impl Accumulator for InOrder {
    fn grow(&mut self, groups: usize) {
        self.queues.grow(groups);
    }

    fn update(&mut self, values: Option<&ArrayRef>, rows: &Rows<'_>) -> Result<()> {
        let Some(values) = values else { return Ok(()) };
        let encoded = self.queues.codec.encode_columns(std::slice::from_ref(values), values.len())?;
        for (row, group, sign) in rows.of(Some(values.as_ref())) {
            if sign < 0 {
                self.queues.pop(group);
                continue;
            }
            self.queues.push(group, encoded.get(row));
            self.thin(group);
        }
        Ok(())
    }

    fn clear(&mut self, group: u32) {
        self.queues.clear(group);
    }

    fn merge(&mut self, into: u32, from: u32) -> Result<()> {
        self.queues.merge(into, from);
        self.thin(into as usize);
        Ok(())
    }

    fn evaluate(&self, groups: &[u32]) -> Result<ArrayRef> {
        let null = null_bytes(&self.queues.codec, &self.queues.result)?;
        let value = |group: &u32| {
            let values = &self.queues.groups[*group as usize];
            if self.is_last { values.back() } else { values.front() }
        };
        let values = groups.iter().map(|group| value(group).map(AsRef::as_ref));
        decoded(&self.queues.codec, &self.queues.result, values, &null)
    }

    fn save(&self, group: u32, out: &mut Vec<u8>) {
        if !self.retracts {
            self.queues.save(group, out);
        }
    }

    fn load(&mut self, group: u32, bytes: &mut &[u8]) -> Result<()> {
        if self.retracts { Ok(()) } else { self.queues.load(group, bytes) }
    }

    fn bytes(&self) -> usize {
        self.queues.bytes()
    }
}

/// LAG: the value of the row so many rows before the last.
pub(crate) struct Lag {
    offset: usize,
    /// Where there is no such row.
    default: Value,
    queues: Queues,
}

impl Lag {
    /// Of a column of the input. `default` is one value of its type, NULL without it.
    pub(crate) fn new(input: &Schema, column: usize, offset: usize, default: Option<&ArrayRef>) -> Result<Self> {
        let queues = Queues::new(input, column)?;
        let default = match default {
            Some(default) => queues.codec.encode_columns(std::slice::from_ref(default), 1)?.get(0).into(),
            None => null_bytes(&queues.codec, &queues.result)?.into(),
        };
        Ok(Self { offset, default, queues })
    }

    fn thin(&mut self, group: usize) {
        while self.queues.groups[group].len() > self.offset + 1 {
            self.queues.pop(group);
        }
    }
}

impl Accumulator for Lag {
    fn grow(&mut self, groups: usize) {
        self.queues.grow(groups);
    }

    fn update(&mut self, values: Option<&ArrayRef>, rows: &Rows<'_>) -> Result<()> {
        let Some(values) = values else { return Ok(()) };
        let encoded = self.queues.codec.encode_columns(std::slice::from_ref(values), values.len())?;
        // NULL is a value too.
        for (row, group, _) in rows.of(None) {
            self.queues.push(group, encoded.get(row));
            self.thin(group);
        }
        Ok(())
    }

    fn clear(&mut self, group: u32) {
        self.queues.clear(group);
    }

    fn merge(&mut self, into: u32, from: u32) -> Result<()> {
        self.queues.merge(into, from);
        self.thin(into as usize);
        Ok(())
    }

    fn evaluate(&self, groups: &[u32]) -> Result<ArrayRef> {
        let value = |group: &u32| {
            let values = &self.queues.groups[*group as usize];
            values.front().filter(|_| values.len() > self.offset).map(AsRef::as_ref)
        };
        decoded(&self.queues.codec, &self.queues.result, groups.iter().map(value), &self.default)
    }

    fn save(&self, group: u32, out: &mut Vec<u8>) {
        self.queues.save(group, out);
    }

    fn load(&mut self, group: u32, bytes: &mut &[u8]) -> Result<()> {
        self.queues.load(group, bytes)
    }

    fn bytes(&self) -> usize {
        self.queues.bytes()
    }
}

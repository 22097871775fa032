//! Accumulators that take rows back, and whose state can be read without ending it.
//!
//! Each holds the state of all groups, which are numbered by their owner. Types and results are Flink's: SUM has the type
//! of its argument and wraps around, AVG of integers is an integer rounded towards zero, AVG of a decimal has 38 digits and
//! a scale of 6 or more. SUM and AVG of a decimal are NULL where 38 digits do not hold them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Float64Array, Int8Array, Int16Array, Int32Array,
    Int64Array, new_null_array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Field, Float64Type, Int64Type, Schema};
use tereza_runtime::error::{Error, Result};

use super::error::failed;
use super::key::{BuildKeyHasher, RowCodec};
use super::state::{put_bytes, take, take_bytes, take_i64};

/// What an aggregate computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AggregateKind {
    /// `COUNT(*)`.
    CountRows,
    /// `COUNT(x)`.
    Count,
    /// `COUNT(DISTINCT x)`.
    CountDistinct,
    /// `SUM(x)`.
    Sum,
    /// `AVG(x)`.
    Avg,
    /// `MIN(x)`.
    Min,
    /// `MAX(x)`.
    Max,
}

/// An aggregate over columns of the input.
#[derive(Debug, Clone)]
pub struct AggregateCall {
    /// What is computed.
    pub kind: AggregateKind,
    /// The argument's column; `COUNT(*)` has none.
    pub column: Option<usize>,
    /// The column of the `FILTER` condition.
    pub filter: Option<usize>,
    /// The name of the result.
    pub name: String,
}

/// Bytes of a map's entry besides its key.
const ENTRY_BYTES: usize = 56;

/// Rows for an accumulator: the group and the sign of each.
pub(crate) struct Rows<'a> {
    pub(crate) groups: &'a [u32],
    /// 1 for a row that is added, -1 for one that is taken back.
    pub(crate) signs: &'a [i64],
    pub(crate) filter: Option<&'a BooleanArray>,
}

impl Rows<'_> {
    /// The rows that count, where `values` is not NULL: row, group, sign.
    fn of<'s>(&'s self, values: Option<&'s dyn Array>) -> impl Iterator<Item = (usize, usize, i64)> + 's {
        let nulls = values.and_then(|values| values.logical_nulls());
        let counts = move |row: &usize| {
            nulls.as_ref().is_none_or(|nulls| nulls.is_valid(*row))
                && self.filter.is_none_or(|filter| filter.is_valid(*row) && filter.value(*row))
        };
        (0..self.groups.len()).filter(counts).map(move |row| (row, self.groups[row] as usize, self.signs[row]))
    }
}

/// The state of one aggregate for all groups.
pub(crate) trait Accumulator: Send {
    /// Makes room for groups up to, not with, `groups`.
    fn grow(&mut self, groups: usize);
    /// Adds rows and takes rows back.
    fn update(&mut self, values: Option<&ArrayRef>, rows: &Rows<'_>) -> Result<()>;
    /// Makes a group as if no row had been in it.
    fn clear(&mut self, group: u32);
    /// Adds all of group `from` to group `into`. `from` stays as it is.
    fn merge(&mut self, into: u32, from: u32);
    /// The results of some groups.
    fn evaluate(&self, groups: &[u32]) -> Result<ArrayRef>;
    /// Appends the state of a group, without its values where [`Accumulator::values`] gives them.
    fn save(&self, group: u32, out: &mut Vec<u8>);
    /// Takes what [`Accumulator::save`] appended.
    fn load(&mut self, group: u32, bytes: &mut &[u8]) -> Result<()>;
    /// The values kept for some groups one by one.
    fn values(&mut self) -> Option<&mut dyn Values> {
        None
    }
    /// Bytes held.
    fn bytes(&self) -> usize;
}

/// Takes a group, a value and its count, `None` if it is gone.
pub(crate) type Visit<'a> = &'a mut dyn FnMut(u32, &[u8], Option<i64>) -> Result<()>;

/// Values with their counts, kept one by one because a group may have many.
pub(crate) trait Values {
    /// Calls `visit` with the group, the value and the count (`None` if gone) of all that changed since the last call.
    fn changed(&mut self, visit: Visit<'_>) -> Result<()>;
    /// Takes back a value that was visited.
    fn restore(&mut self, group: u32, value: &[u8], count: i64);
}

/// The type of an aggregate's result.
pub(crate) fn result_field(call: &AggregateCall, input: &Schema) -> Result<Field> {
    use AggregateKind::{Avg, Count, CountDistinct, CountRows, Max, Min, Sum};
    if let Some(filter) = call.filter
        && *input.field(filter).data_type() != DataType::Boolean
    {
        return Err(Error::invalid_input(format!("the filter of {} is no BOOLEAN", call.name)));
    }
    let of = |column: Option<usize>| {
        column
            .map(|column| input.field(column).data_type().clone())
            .ok_or_else(|| Error::invalid_input(format!("{} has no argument", call.name)))
    };
    let (data_type, nullable) = match call.kind {
        CountRows => (DataType::Int64, false),
        Count | CountDistinct => of(call.column).map(|_| (DataType::Int64, false))?,
        Min | Max => (of(call.column)?, true),
        Sum | Avg => match of(call.column)? {
            DataType::Decimal128(_, scale) if call.kind == Sum => (DataType::Decimal128(38, scale), true),
            DataType::Decimal128(_, scale) => (DataType::Decimal128(38, scale.max(6)), true),
            data_type if data_type.is_signed_integer() || is_float(&data_type) => (data_type, true),
            other => return Err(Error::unsupported(format!("{:?} of {other} in a stream job", call.kind))),
        },
    };
    if matches!(call.kind, Min | Max | CountDistinct) && data_type.is_nested() {
        return Err(Error::unsupported(format!("{:?} of {data_type} in a stream job", call.kind)));
    }
    Ok(Field::new(&call.name, data_type, nullable))
}

fn is_float(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Float32 | DataType::Float64)
}

/// The accumulator of a call. `retracts` says that rows may be taken back; `by_value` that values are saved one by one.
pub(crate) fn accumulator(
    call: &AggregateCall,
    input: &Schema,
    retracts: bool,
    by_value: bool,
) -> Result<Box<dyn Accumulator>> {
    use AggregateKind::{Avg, Count, CountDistinct, CountRows, Max, Min, Sum};
    let result = result_field(call, input)?;
    let codec = || RowCodec::new(input, &[call.column.unwrap_or_default()]);
    let accumulator: Box<dyn Accumulator> = match call.kind {
        CountRows | Count => Box::new(CountOf { counts: Vec::new() }),
        Sum | Avg => {
            let argument = input.field(call.column.unwrap_or_default()).data_type().clone();
            let numbers = match &argument {
                DataType::Decimal128(..) => Numbers::Decimal(Vec::new()),
                other if is_float(other) => Numbers::Float(Vec::new()),
                _ => Numbers::Int(Vec::new()),
            };
            let is_avg = call.kind == Avg;
            Box::new(SumOf { numbers, counts: Vec::new(), is_avg, argument, result: result.data_type().clone() })
        }
        Min | Max if retracts => {
            let question = ExtremeOfAll { is_max: call.kind == Max, result: result.data_type().clone() };
            Box::new(OfAll::<BTreeMap<Box<[u8]>, i64>>::new(codec()?, retracts, by_value, question))
        }
        Min | Max => {
            let (result, is_max) = (result.data_type().clone(), call.kind == Max);
            Box::new(Extreme { codec: codec()?, is_max, result, values: Vec::new(), bytes: 0 })
        }
        CountDistinct => Box::new(OfAll::<Distinct>::new(codec()?, retracts, by_value, ())),
    };
    Ok(accumulator)
}

struct CountOf {
    counts: Vec<i64>,
}

impl Accumulator for CountOf {
    fn grow(&mut self, groups: usize) {
        self.counts.resize(groups.max(self.counts.len()), 0);
    }

    fn update(&mut self, values: Option<&ArrayRef>, rows: &Rows<'_>) -> Result<()> {
        for (_, group, sign) in rows.of(values.map(|values| values.as_ref())) {
            self.counts[group] += sign;
        }
        Ok(())
    }

    fn clear(&mut self, group: u32) {
        self.counts[group as usize] = 0;
    }

    fn merge(&mut self, into: u32, from: u32) {
        self.counts[into as usize] += self.counts[from as usize];
    }

    fn evaluate(&self, groups: &[u32]) -> Result<ArrayRef> {
        Ok(Arc::new(Int64Array::from_iter_values(groups.iter().map(|group| self.counts[*group as usize]))))
    }

    fn save(&self, group: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.counts[group as usize].to_le_bytes());
    }

    fn load(&mut self, group: u32, bytes: &mut &[u8]) -> Result<()> {
        self.counts[group as usize] = take_i64(bytes)?;
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.counts.len() * 8
    }
}

enum Numbers {
    Int(Vec<i64>),
    Float(Vec<f64>),
    /// `None` where 38 digits do not hold the sum.
    Decimal(Vec<Option<i128>>),
}

struct SumOf {
    numbers: Numbers,
    /// Values that are not NULL, for each group.
    counts: Vec<i64>,
    is_avg: bool,
    argument: DataType,
    result: DataType,
}

impl SumOf {
    /// Each group with how many values it has.
    fn counted<'a>(&'a self, groups: &'a [u32]) -> impl Iterator<Item = (usize, i64)> + 'a {
        groups.iter().map(|group| (*group as usize, self.counts[*group as usize]))
    }

    fn decimal_average(&self, sum: i128, count: i64) -> Option<i128> {
        let (DataType::Decimal128(_, from), DataType::Decimal128(_, to)) = (&self.argument, &self.result) else {
            return None;
        };
        let scaled = sum.checked_mul(10_i128.checked_pow(u32::try_from(to - from).ok()?)?)?;
        let count = i128::from(count);
        let (quotient, rest) = (scaled / count, scaled % count);
        let away = if rest.abs() * 2 >= count { scaled.signum() } else { 0 };
        Some(quotient + away)
    }
}

impl Accumulator for SumOf {
    fn grow(&mut self, groups: usize) {
        let groups = groups.max(self.counts.len());
        self.counts.resize(groups, 0);
        match &mut self.numbers {
            Numbers::Int(sums) => sums.resize(groups, 0),
            Numbers::Float(sums) => sums.resize(groups, 0.0),
            Numbers::Decimal(sums) => sums.resize(groups, Some(0)),
        }
    }

    fn update(&mut self, values: Option<&ArrayRef>, rows: &Rows<'_>) -> Result<()> {
        let Some(values) = values else { return Ok(()) };
        let rows = rows.of(Some(values.as_ref()));
        match &mut self.numbers {
            Numbers::Int(sums) => {
                let values = cast(values, &DataType::Int64).map_err(failed)?;
                let values = values.as_primitive::<Int64Type>();
                for (row, group, sign) in rows {
                    sums[group] = sums[group].wrapping_add(values.value(row).wrapping_mul(sign));
                    self.counts[group] += sign;
                }
            }
            Numbers::Float(sums) => {
                let values = cast(values, &DataType::Float64).map_err(failed)?;
                let values = values.as_primitive::<Float64Type>();
                for (row, group, sign) in rows {
                    sums[group] += values.value(row) * sign as f64;
                    self.counts[group] += sign;
                }
            }
            Numbers::Decimal(sums) => {
                let values = values.as_primitive::<Decimal128Type>();
                for (row, group, sign) in rows {
                    sums[group] = sums[group].and_then(|sum| sum.checked_add(values.value(row) * i128::from(sign)));
                    self.counts[group] += sign;
                }
            }
        }
        Ok(())
    }

    fn clear(&mut self, group: u32) {
        let group = group as usize;
        self.counts[group] = 0;
        match &mut self.numbers {
            Numbers::Int(sums) => sums[group] = 0,
            Numbers::Float(sums) => sums[group] = 0.0,
            Numbers::Decimal(sums) => sums[group] = Some(0),
        }
    }

    fn merge(&mut self, into: u32, from: u32) {
        let (into, from) = (into as usize, from as usize);
        self.counts[into] += self.counts[from];
        match &mut self.numbers {
            Numbers::Int(sums) => sums[into] = sums[into].wrapping_add(sums[from]),
            Numbers::Float(sums) => sums[into] += sums[from],
            Numbers::Decimal(sums) => {
                sums[into] = sums[into].zip(sums[from]).and_then(|(into, from)| into.checked_add(from));
            }
        }
    }

    fn evaluate(&self, groups: &[u32]) -> Result<ArrayRef> {
        let counted = self.counted(groups);
        let array: ArrayRef = match &self.numbers {
            Numbers::Int(sums) => {
                let of = |(group, count): (usize, i64)| {
                    (count > 0).then(|| if self.is_avg { sums[group].wrapping_div(count) } else { sums[group] })
                };
                let wide = counted.map(of);
                match &self.result {
                    DataType::Int8 => Arc::new(wide.map(|sum| sum.map(|sum| sum as i8)).collect::<Int8Array>()),
                    DataType::Int16 => Arc::new(wide.map(|sum| sum.map(|sum| sum as i16)).collect::<Int16Array>()),
                    DataType::Int32 => Arc::new(wide.map(|sum| sum.map(|sum| sum as i32)).collect::<Int32Array>()),
                    _ => Arc::new(wide.collect::<Int64Array>()),
                }
            }
            Numbers::Float(sums) => {
                let of = |(group, count): (usize, i64)| {
                    (count > 0).then(|| if self.is_avg { sums[group] / count as f64 } else { sums[group] })
                };
                Arc::new(counted.map(of).collect::<Float64Array>())
            }
            Numbers::Decimal(sums) => {
                let bound = 10_i128.pow(38);
                let of = |(group, count): (usize, i64)| {
                    let sum = sums[group].filter(|_| count > 0)?;
                    let result = if self.is_avg { self.decimal_average(sum, count)? } else { sum };
                    (result.abs() < bound).then_some(result)
                };
                Arc::new(counted.map(of).collect::<Decimal128Array>().with_data_type(self.result.clone()))
            }
        };
        if *array.data_type() == self.result { Ok(array) } else { cast(&array, &self.result).map_err(failed) }
    }

    fn save(&self, group: u32, out: &mut Vec<u8>) {
        let group = group as usize;
        out.extend_from_slice(&self.counts[group].to_le_bytes());
        match &self.numbers {
            Numbers::Int(sums) => out.extend_from_slice(&sums[group].to_le_bytes()),
            Numbers::Float(sums) => out.extend_from_slice(&sums[group].to_le_bytes()),
            Numbers::Decimal(sums) => {
                out.push(u8::from(sums[group].is_some()));
                out.extend_from_slice(&sums[group].unwrap_or_default().to_le_bytes());
            }
        }
    }

    fn load(&mut self, group: u32, bytes: &mut &[u8]) -> Result<()> {
        let group = group as usize;
        self.counts[group] = take_i64(bytes)?;
        match &mut self.numbers {
            Numbers::Int(sums) => sums[group] = take_i64(bytes)?,
            Numbers::Float(sums) => sums[group] = f64::from_le_bytes(take::<8>(bytes)?),
            Numbers::Decimal(sums) => {
                let is_some = take::<1>(bytes)? == [1];
                let sum = i128::from_le_bytes(take::<16>(bytes)?);
                sums[group] = is_some.then_some(sum);
            }
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        let width = if matches!(self.numbers, Numbers::Decimal(_)) { 32 } else { 8 };
        self.counts.len() * (8 + width)
    }
}

/// Decodes optional values of one column.
fn decoded<'a>(
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
fn null_bytes(codec: &RowCodec, data_type: &DataType) -> Result<Vec<u8>> {
    Ok(codec.encode_columns(&[new_null_array(data_type, 1)], 1)?.get(0).to_vec())
}

/// MIN or MAX of rows that stay: the bytes of values sort as the values do.
struct Extreme {
    codec: RowCodec,
    is_max: bool,
    result: DataType,
    values: Vec<Option<Box<[u8]>>>,
    bytes: usize,
}

impl Extreme {
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

    fn merge(&mut self, into: u32, from: u32) {
        if let Some(value) = self.values[from as usize].clone() {
            self.offer(into as usize, &value);
        }
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

/// The values that changed since the last snapshot; without `by_value` none are noted.
struct Changed {
    by_value: bool,
    values: HashSet<(u32, Box<[u8]>), BuildKeyHasher>,
}

impl Changed {
    fn new(by_value: bool) -> Self {
        Self { by_value, values: HashSet::default() }
    }

    fn note(&mut self, group: usize, value: &[u8]) {
        if self.by_value {
            self.values.insert((group as u32, value.into()));
        }
    }
}

/// Bytes that a value takes with its count.
fn cost(value: &[u8]) -> usize {
    value.len() + ENTRY_BYTES
}

/// The values of one group with their counts. A count below 0 stands for a row that is taken back before it is added.
trait Group: Default + Send {
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
struct OfAll<G: Group> {
    codec: RowCodec,
    retracts: bool,
    question: G::Question,
    groups: Vec<G>,
    changed: Changed,
    bytes: usize,
}

impl<G: Group> OfAll<G> {
    fn new(codec: RowCodec, retracts: bool, by_value: bool, question: G::Question) -> Self {
        Self { codec, retracts, question, groups: Vec::new(), changed: Changed::new(by_value), bytes: 0 }
    }

    fn add(&mut self, group: usize, value: &[u8], by: i64) {
        let values = &mut self.groups[group];
        let before = match values.count(value) {
            Some(_) if !self.retracts => return,
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

    fn merge(&mut self, into: u32, from: u32) {
        let values: Vec<(Box<[u8]>, i64)> =
            self.groups[from as usize].values().map(|(value, count)| (value.into(), count)).collect();
        for (value, count) in values {
            self.add(into as usize, &value, count);
        }
    }

    fn evaluate(&self, groups: &[u32]) -> Result<ArrayRef> {
        G::answer(groups.iter().map(|group| &self.groups[*group as usize]), &self.question, &self.codec)
    }

    fn save(&self, group: u32, out: &mut Vec<u8>) {
        if self.changed.by_value {
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
        if self.changed.by_value {
            return Ok(());
        }
        for _ in 0..u32::from_le_bytes(take::<4>(bytes)?) {
            let value = take_bytes(bytes)?;
            self.add(group as usize, value, take_i64(bytes)?);
        }
        Ok(())
    }

    fn values(&mut self) -> Option<&mut dyn Values> {
        if self.changed.by_value { Some(self) } else { None }
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
struct ExtremeOfAll {
    is_max: bool,
    result: DataType,
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

/// The values of COUNT(DISTINCT).
#[derive(Default)]
struct Distinct {
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

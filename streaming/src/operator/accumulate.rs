//! Accumulators that take rows back, and whose state can be read without ending it. `sum` has SUM and AVG, `values` what keeps
//! values (MIN, MAX, DISTINCT), `ordered` what depends on the order of the rows.
//!
//! Each holds the state of all groups, which are numbered by their owner. Types and results are Flink's: SUM has the type
//! of its argument and wraps around, AVG of integers is an integer rounded towards zero, AVG of a decimal has 38 digits and
//! a scale of 6 or more. SUM and AVG of a decimal are NULL where 38 digits do not hold them.

mod ordered;
mod sum;
mod values;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array};
use arrow::datatypes::{DataType, Field, Schema};
use tereza_runtime::error::{Error, Result};

pub(crate) use self::ordered::{InOrder, Lag};
use self::sum::SumOf;
use self::values::{Distinct, Extreme, ExtremeOfAll, OfAll, SumOfDistinct};
pub(crate) use self::values::{restore_values, save_values};
use super::key::RowCodec;
use super::state::take_i64;

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
    /// `SUM(DISTINCT x)`.
    SumDistinct,
    /// `AVG(x)`.
    Avg,
    /// `AVG(DISTINCT x)`.
    AvgDistinct,
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
    fn merge(&mut self, into: u32, from: u32) -> Result<()>;
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

/// How values are saved that are kept one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Saved {
    /// With their group.
    WithGroup,
    /// Each by itself, when it changes: [`Values`].
    OneByOne,
    /// Not at all: whoever owns the accumulator keeps the rows, and gives them again before it loads the groups.
    AsRows,
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
    use AggregateKind::{Avg, AvgDistinct, Count, CountDistinct, CountRows, Max, Min, Sum, SumDistinct};
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
        Sum | SumDistinct | Avg | AvgDistinct => match of(call.column)? {
            DataType::Decimal128(_, scale) if matches!(call.kind, Sum | SumDistinct) => {
                (DataType::Decimal128(38, scale), true)
            }
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

/// The accumulator of a call. `retracts` says that rows may be taken back.
pub(crate) fn accumulator(
    call: &AggregateCall,
    input: &Schema,
    retracts: bool,
    saved: Saved,
) -> Result<Box<dyn Accumulator>> {
    use AggregateKind::{Avg, AvgDistinct, Count, CountDistinct, CountRows, Max, Min, Sum, SumDistinct};
    let result = result_field(call, input)?.data_type().clone();
    let column = call.column.unwrap_or_default();
    let codec = || RowCodec::new(input, &[column]);
    let sum = |result: DataType| {
        let is_avg = matches!(call.kind, Avg | AvgDistinct);
        SumOf::new(input.field(column).data_type().clone(), result, is_avg)
    };
    let accumulator: Box<dyn Accumulator> = match call.kind {
        CountRows | Count => Box::new(CountOf { counts: Vec::new() }),
        Sum | Avg => Box::new(sum(result)),
        SumDistinct | AvgDistinct => {
            let values = OfAll::<Distinct>::new(codec()?, retracts, saved, ());
            Box::new(SumOfDistinct { values, sum: sum(result) })
        }
        Min | Max if retracts => {
            let question = ExtremeOfAll { is_max: call.kind == Max, result };
            Box::new(OfAll::<BTreeMap<Box<[u8]>, i64>>::new(codec()?, retracts, saved, question))
        }
        Min | Max => Box::new(Extreme::new(codec()?, call.kind == Max, result)),
        CountDistinct => Box::new(OfAll::<Distinct>::new(codec()?, retracts, saved, ())),
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

    fn merge(&mut self, into: u32, from: u32) -> Result<()> {
        self.counts[into as usize] += self.counts[from as usize];
        Ok(())
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

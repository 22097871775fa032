//! SUM and AVG.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Decimal128Array, Float64Array, Int8Array, Int16Array, Int32Array, Int64Array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type};
use tereza_runtime::error::Result;

use super::{Accumulator, Rows, is_float};
use crate::operator::error::failed;
use crate::operator::state::{take, take_i64};

enum Numbers {
    Int(Vec<i64>),
    Float(Vec<f64>),
    /// `None` where 38 digits do not hold the sum.
    Decimal(Vec<Option<i128>>),
}

pub(super) struct SumOf {
    numbers: Numbers,
    /// Values that are not NULL, for each group.
    counts: Vec<i64>,
    is_avg: bool,
    argument: DataType,
    result: DataType,
}

impl SumOf {
    /// Of values of type `argument`; `result` is the type that [`super::result_field`] says.
    pub(super) fn new(argument: DataType, result: DataType, is_avg: bool) -> Self {
        let numbers = match &argument {
            DataType::Decimal128(..) => Numbers::Decimal(Vec::new()),
            other if is_float(other) => Numbers::Float(Vec::new()),
            _ => Numbers::Int(Vec::new()),
        };
        Self { numbers, counts: Vec::new(), is_avg, argument, result }
    }

    /// Each group with how many values it has.
    fn counted<'a>(&'a self, groups: &'a [u32]) -> impl Iterator<Item = (usize, i64)> + 'a {
        groups.iter().map(|group| (*group as usize, self.counts[*group as usize]))
    }

    /// The average with the digits of the result, rounded half away from zero; `None` where they do not hold it.
    fn decimal_average(&self, sum: i128, count: i64) -> Option<i128> {
        let (DataType::Decimal128(_, from), DataType::Decimal128(_, to)) = (&self.argument, &self.result) else {
            return None;
        };
        let unit = 10_i128.checked_pow(u32::try_from(to.checked_sub(*from)?).ok()?)?;
        let count = i128::from(count);
        // The sum with further digits may have more than an i128 holds, where its average has not.
        let (whole, rest) = (sum / count, (sum % count).checked_mul(unit)?);
        let away = if (rest % count).abs() * 2 >= count { sum.signum() } else { 0 };
        whole.checked_mul(unit)?.checked_add(rest / count + away)
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

    fn merge(&mut self, into: u32, from: u32) -> Result<()> {
        let (into, from) = (into as usize, from as usize);
        self.counts[into] += self.counts[from];
        match &mut self.numbers {
            Numbers::Int(sums) => sums[into] = sums[into].wrapping_add(sums[from]),
            Numbers::Float(sums) => sums[into] += sums[from],
            Numbers::Decimal(sums) => {
                sums[into] = sums[into].zip(sums[from]).and_then(|(into, from)| into.checked_add(from));
            }
        }
        Ok(())
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

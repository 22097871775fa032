//! AVG as Flink has it: that of whole numbers is a whole number of their type, cut off towards 0; that of decimals has 38 digits, 6 or
//! more of them after the point, and is rounded half away from 0. A decimal that 38 digits do not hold is NULL.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, Int64Array, ListArray, PrimitiveArray};
use arrow::buffer::OffsetBuffer;
use arrow::compute;
use arrow::datatypes::{DataType, Decimal128Type, Field, FieldRef, Int64Type};
use datafusion::common::{Result, ScalarValue, exec_err, internal_err, plan_err};
use datafusion::functions_aggregate::average::Avg;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, EmitTo, GroupsAccumulator, ReversedUDAF, Signature, Volatility,
};

/// Digits of a decimal's average, and how many of them are after the point at least.
const DIGITS: u8 = 38;
const SCALE_MIN: i8 = 6;

/// See the module; of other numbers it is DataFusion's.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Average {
    other: Avg,
    signature: Signature,
}

impl Average {
    pub(super) fn new() -> Self {
        Self { other: Avg::new(), signature: Signature::user_defined(Volatility::Immutable) }
    }
}

fn is_whole(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64)
}

/// The types of an average that is computed here.
#[derive(Debug, Clone)]
struct Types {
    /// Of sums.
    sum: DataType,
    /// Of averages before they are cast to the result.
    wide: DataType,
    result: DataType,
    /// The digits after the point that an average has more than its values.
    digits: u32,
}

impl Types {
    fn of(argument: &DataType) -> Option<Self> {
        match argument {
            whole if is_whole(whole) => {
                Some(Self { sum: DataType::Int64, wide: DataType::Int64, result: whole.clone(), digits: 0 })
            }
            DataType::Decimal128(_, scale) if *scale >= 0 => {
                let result = DataType::Decimal128(DIGITS, SCALE_MIN.max(*scale));
                let digits = u32::from(SCALE_MIN.max(*scale).abs_diff(*scale));
                Some(Self { sum: DataType::Decimal128(DIGITS, *scale), wide: result.clone(), result, digits })
            }
            _ => None,
        }
    }

    fn of_arguments(arguments: &AccumulatorArgs<'_>) -> Option<Self> {
        Self::of(arguments.expr_fields.first()?.data_type())
    }

    fn is_decimal(&self) -> bool {
        matches!(self.sum, DataType::Decimal128(..))
    }
}

impl AggregateUDFImpl for Average {
    fn name(&self) -> &str {
        "avg"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [number] if is_whole(number) || number.is_decimal() => Ok(vec![number.clone()]),
            [number] if number.is_numeric() || number.is_null() => Ok(vec![DataType::Float64]),
            [other] => plan_err!("avg: a value of type {other} is no number"),
            _ => plan_err!("avg has one argument"),
        }
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types.first().and_then(Types::of) {
            Some(own) => Ok(own.result),
            None => self.other.return_type(types),
        }
    }

    fn state_fields(&self, arguments: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let Some(types) = arguments.input_fields.first().and_then(|field| Types::of(field.data_type())) else {
            return self.other.state_fields(arguments);
        };
        let name = |part: &str| format!("{}[{part}]", arguments.name);
        if arguments.is_distinct {
            let values = Field::new_list(name("values"), Field::new_list_field(types.sum, true), false);
            return Ok(vec![Arc::new(values)]);
        }
        let state = |part: &str, data_type: DataType| Arc::new(Field::new(name(part), data_type, true));
        Ok(vec![state("count", DataType::Int64), state("sum", types.sum)])
    }

    fn accumulator(&self, arguments: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Ok(match (Types::of_arguments(&arguments), arguments.is_distinct) {
            (None, _) => return self.other.accumulator(arguments),
            (Some(types), false) if types.is_decimal() => Box::new(One::<Decimal128Type>::new(types)),
            (Some(types), false) => Box::new(One::<Int64Type>::new(types)),
            (Some(types), true) if types.is_decimal() => {
                Box::new(Distinct::<Decimal128Type> { values: BTreeSet::new(), types })
            }
            (Some(types), true) => Box::new(Distinct::<Int64Type> { values: BTreeSet::new(), types }),
        })
    }

    fn create_sliding_accumulator(&self, arguments: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        match Types::of_arguments(&arguments) {
            Some(_) => self.accumulator(arguments),
            None => self.other.create_sliding_accumulator(arguments),
        }
    }

    fn groups_accumulator_supported(&self, arguments: AccumulatorArgs<'_>) -> bool {
        match Types::of_arguments(&arguments) {
            Some(_) => !arguments.is_distinct,
            None => self.other.groups_accumulator_supported(arguments),
        }
    }

    fn create_groups_accumulator(&self, arguments: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        match Types::of_arguments(&arguments) {
            Some(types) if types.is_decimal() => Ok(Box::new(Groups::<Decimal128Type>::new(types))),
            Some(types) => Ok(Box::new(Groups::<Int64Type>::new(types))),
            None => self.other.create_groups_accumulator(arguments),
        }
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }
}

/// Numbers that are added up and divided as Flink does it; `None` is a sum that they do not hold.
trait Averaged: ArrowPrimitiveType<Native: Ord> + Debug {
    fn plus(sum: Self::Native, value: Self::Native) -> Option<Self::Native>;
    fn minus(sum: Self::Native, value: Self::Native) -> Option<Self::Native>;
    /// With so many digits more than the sum; of one value or more.
    fn average(sum: Self::Native, count: i64, digits: u32) -> Option<Self::Native>;
}

/// Sums wrap as Flink's do.
impl Averaged for Int64Type {
    fn plus(sum: i64, value: i64) -> Option<i64> {
        Some(sum.wrapping_add(value))
    }

    fn minus(sum: i64, value: i64) -> Option<i64> {
        Some(sum.wrapping_sub(value))
    }

    fn average(sum: i64, count: i64, _: u32) -> Option<i64> {
        Some(sum.wrapping_div(count))
    }
}

impl Averaged for Decimal128Type {
    fn plus(sum: i128, value: i128) -> Option<i128> {
        sum.checked_add(value)
    }

    fn minus(sum: i128, value: i128) -> Option<i128> {
        sum.checked_sub(value)
    }

    fn average(sum: i128, count: i64, digits: u32) -> Option<i128> {
        let (unit, count) = (10_i128.checked_pow(digits)?, i128::from(count));
        // The sum with further digits may have more than an i128 holds, where its average has not.
        let (whole, rest) = (sum / count, (sum % count).checked_mul(unit)?);
        let away = if (rest % count).abs() * 2 >= count { sum.signum() } else { 0 };
        let average = whole.checked_mul(unit)?.checked_add(rest / count + away)?;
        (average.unsigned_abs() < 10_u128.pow(u32::from(DIGITS))).then_some(average)
    }
}

/// An argument as numbers of the type of sums.
fn numbers<N: Averaged>(values: &ArrayRef, types: &Types) -> Result<PrimitiveArray<N>> {
    Ok(compute::cast(values, &types.sum)?.as_primitive::<N>().clone())
}

fn sums_of<N: Averaged>(sums: impl IntoIterator<Item = Option<N::Native>>, types: &Types) -> ArrayRef {
    Arc::new(sums.into_iter().collect::<PrimitiveArray<N>>().with_data_type(types.sum.clone()))
}

/// The averages of sums with their counts.
fn averages<N: Averaged>(
    groups: impl IntoIterator<Item = (Option<N::Native>, i64)>,
    types: &Types,
) -> Result<ArrayRef> {
    let average = |(sum, count): (Option<N::Native>, i64)| match count {
        0 => None,
        _ => N::average(sum?, count, types.digits),
    };
    let wide = groups.into_iter().map(average).collect::<PrimitiveArray<N>>().with_data_type(types.wide.clone());
    Ok(compute::cast(&wide, &types.result)?)
}

/// Count and sum of one group.
#[derive(Debug)]
struct One<N: Averaged> {
    count: i64,
    sum: Option<N::Native>,
    types: Types,
}

impl<N: Averaged> One<N> {
    fn new(types: Types) -> Self {
        Self { count: 0, sum: Some(N::Native::default()), types }
    }
}

impl<N: Averaged> Accumulator for One<N> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for value in numbers::<N>(&values[0], &self.types)?.iter().flatten() {
            self.count += 1;
            self.sum = self.sum.and_then(|sum| N::plus(sum, value));
        }
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for value in numbers::<N>(&values[0], &self.types)?.iter().flatten() {
            self.count -= 1;
            self.sum = self.sum.and_then(|sum| N::minus(sum, value));
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        ScalarValue::try_from_array(&averages::<N>([(self.sum, self.count)], &self.types)?, 0)
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let sum = ScalarValue::try_from_array(&sums_of::<N>([self.sum], &self.types), 0)?;
        Ok(vec![ScalarValue::Int64(Some(self.count)), sum])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [counts, sums] = states else { return internal_err!("an average's state of {} columns", states.len()) };
        for (count, sum) in counts.as_primitive::<Int64Type>().iter().zip(sums.as_primitive::<N>()) {
            self.count += count.unwrap_or_default();
            self.sum = self.sum.zip(sum).and_then(|(sum, other)| N::plus(sum, other));
        }
        Ok(())
    }
}

/// The values of one group, each once.
#[derive(Debug)]
struct Distinct<N: Averaged> {
    values: BTreeSet<N::Native>,
    types: Types,
}

impl<N: Averaged> Accumulator for Distinct<N> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.values.extend(numbers::<N>(&values[0], &self.types)?.iter().flatten());
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let sum = self.values.iter().try_fold(N::Native::default(), |sum, value| N::plus(sum, *value));
        ScalarValue::try_from_array(&averages::<N>([(sum, self.values.len() as i64)], &self.types)?, 0)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.values.len() * 2 * size_of::<N::Native>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let values = sums_of::<N>(self.values.iter().map(|value| Some(*value)), &self.types);
        let field = Arc::new(Field::new_list_field(self.types.sum.clone(), true));
        let list = ListArray::try_new(field, OffsetBuffer::from_lengths([values.len()]), values, None)?;
        Ok(vec![ScalarValue::List(Arc::new(list))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [values] = states else { return internal_err!("an average's values in {} columns", states.len()) };
        for list in values.as_list::<i32>().iter().flatten() {
            self.values.extend(list.as_primitive::<N>().iter().flatten());
        }
        Ok(())
    }
}

/// Counts and sums of many groups.
#[derive(Debug)]
struct Groups<N: Averaged> {
    counts: Vec<i64>,
    sums: Vec<Option<N::Native>>,
    types: Types,
}

impl<N: Averaged> Groups<N> {
    fn new(types: Types) -> Self {
        Self { counts: Vec::new(), sums: Vec::new(), types }
    }

    fn grow(&mut self, groups: usize) {
        self.counts.resize(groups, 0);
        self.sums.resize(groups, Some(N::Native::default()));
    }

    fn take(&mut self, emit_to: EmitTo) -> (Vec<i64>, Vec<Option<N::Native>>) {
        (emit_to.take_needed(&mut self.counts), emit_to.take_needed(&mut self.sums))
    }
}

impl<N: Averaged> GroupsAccumulator for Groups<N> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        filter: Option<&BooleanArray>,
        groups: usize,
    ) -> Result<()> {
        self.grow(groups);
        let values = numbers::<N>(&values[0], &self.types)?;
        for (row, (value, group)) in values.iter().zip(group_indices).enumerate() {
            let is_in = filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
            if let (Some(value), true) = (value, is_in) {
                self.counts[*group] += 1;
                self.sums[*group] = self.sums[*group].and_then(|sum| N::plus(sum, value));
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let (counts, sums) = self.take(emit_to);
        averages::<N>(sums.into_iter().zip(counts), &self.types)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let (counts, sums) = self.take(emit_to);
        Ok(vec![Arc::new(Int64Array::from(counts)), sums_of::<N>(sums, &self.types)])
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], groups: usize) -> Result<()> {
        self.grow(groups);
        let [counts, sums] = values else { return exec_err!("an average's state of {} columns", values.len()) };
        let states = counts.as_primitive::<Int64Type>().iter().zip(sums.as_primitive::<N>());
        for ((count, sum), group) in states.zip(group_indices) {
            self.counts[*group] += count.unwrap_or_default();
            self.sums[*group] = self.sums[*group].zip(sum).and_then(|(sum, other)| N::plus(sum, other));
        }
        Ok(())
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let mut each = Self::new(self.types.clone());
        let rows = values[0].len();
        each.update_batch(values, &(0..rows).collect::<Vec<_>>(), filter, rows)?;
        each.state(EmitTo::All)
    }

    fn size(&self) -> usize {
        self.counts.capacity() * size_of::<i64>() + self.sums.capacity() * size_of::<Option<N::Native>>()
    }
}

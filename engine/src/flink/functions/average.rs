//! AVG as Flink has it: that of whole numbers is a whole number of their type, cut off towards 0.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array};
use arrow::compute;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion::common::{Result, ScalarValue, exec_err, internal_err, not_impl_err, plan_err};
use datafusion::functions_aggregate::average::Avg;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, EmitTo, GroupsAccumulator, ReversedUDAF, Signature, Volatility,
};

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

fn is_of_whole(arguments: &AccumulatorArgs<'_>) -> bool {
    !arguments.is_distinct && is_whole(arguments.return_field.data_type())
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
        match types {
            [whole] if is_whole(whole) => Ok(whole.clone()),
            _ => self.other.return_type(types),
        }
    }

    fn state_fields(&self, arguments: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        if !arguments.is_distinct && is_whole(arguments.return_field.data_type()) {
            let state = |name: &str| Arc::new(Field::new(format!("{}[{name}]", arguments.name), DataType::Int64, true));
            return Ok(vec![state("count"), state("sum")]);
        }
        self.other.state_fields(arguments)
    }

    fn accumulator(&self, arguments: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        if is_of_whole(&arguments) {
            let data_type = arguments.return_field.data_type().clone();
            return Ok(Box::new(One { count: 0, sum: 0, data_type }));
        }
        if arguments.is_distinct && is_whole(arguments.return_field.data_type()) {
            return not_impl_err!("AVG(DISTINCT …) of whole numbers; AVG of a cast to DOUBLE works");
        }
        self.other.accumulator(arguments)
    }

    fn create_sliding_accumulator(&self, arguments: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        if is_of_whole(&arguments) {
            return self.accumulator(arguments);
        }
        self.other.create_sliding_accumulator(arguments)
    }

    fn groups_accumulator_supported(&self, arguments: AccumulatorArgs<'_>) -> bool {
        is_of_whole(&arguments) || self.other.groups_accumulator_supported(arguments)
    }

    fn create_groups_accumulator(&self, arguments: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        if is_of_whole(&arguments) {
            let data_type = arguments.return_field.data_type().clone();
            return Ok(Box::new(Groups { counts: Vec::new(), sums: Vec::new(), data_type }));
        }
        self.other.create_groups_accumulator(arguments)
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }
}

fn whole_numbers(values: &ArrayRef) -> Result<Int64Array> {
    Ok(compute::cast(values, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
}

/// Sums wrap as Flink's do.
fn average(sum: i64, count: i64) -> Option<i64> {
    (count != 0).then(|| sum.wrapping_div(count))
}

/// Count and sum of one group.
#[derive(Debug)]
struct One {
    count: i64,
    sum: i64,
    data_type: DataType,
}

impl Accumulator for One {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for value in whole_numbers(&values[0])?.iter().flatten() {
            self.count += 1;
            self.sum = self.sum.wrapping_add(value);
        }
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for value in whole_numbers(&values[0])?.iter().flatten() {
            self.count -= 1;
            self.sum = self.sum.wrapping_sub(value);
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        ScalarValue::Int64(average(self.sum, self.count)).cast_to(&self.data_type)
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::Int64(Some(self.count)), ScalarValue::Int64(Some(self.sum))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [counts, sums] = states else { return internal_err!("an average's state of {} columns", states.len()) };
        for (count, sum) in counts.as_primitive::<Int64Type>().iter().zip(sums.as_primitive::<Int64Type>()) {
            self.count += count.unwrap_or_default();
            self.sum = self.sum.wrapping_add(sum.unwrap_or_default());
        }
        Ok(())
    }
}

/// Counts and sums of many groups.
#[derive(Debug)]
struct Groups {
    counts: Vec<i64>,
    sums: Vec<i64>,
    data_type: DataType,
}

impl Groups {
    fn grow(&mut self, groups: usize) {
        self.counts.resize(groups, 0);
        self.sums.resize(groups, 0);
    }

    fn take(&mut self, emit_to: EmitTo) -> (Vec<i64>, Vec<i64>) {
        (emit_to.take_needed(&mut self.counts), emit_to.take_needed(&mut self.sums))
    }
}

impl GroupsAccumulator for Groups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        filter: Option<&BooleanArray>,
        groups: usize,
    ) -> Result<()> {
        self.grow(groups);
        let values = whole_numbers(&values[0])?;
        for (row, (value, group)) in values.iter().zip(group_indices).enumerate() {
            let is_in = filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
            if let (Some(value), true) = (value, is_in) {
                self.counts[*group] += 1;
                self.sums[*group] = self.sums[*group].wrapping_add(value);
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let (counts, sums) = self.take(emit_to);
        let averages: Int64Array = sums.into_iter().zip(counts).map(|(sum, count)| average(sum, count)).collect();
        Ok(compute::cast(&averages, &self.data_type)?)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let (counts, sums) = self.take(emit_to);
        Ok(vec![Arc::new(Int64Array::from(counts)), Arc::new(Int64Array::from(sums))])
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], groups: usize) -> Result<()> {
        self.grow(groups);
        let [counts, sums] = values else { return exec_err!("an average's state of {} columns", values.len()) };
        let states = counts.as_primitive::<Int64Type>().iter().zip(sums.as_primitive::<Int64Type>());
        for ((count, sum), group) in states.zip(group_indices) {
            self.counts[*group] += count.unwrap_or_default();
            self.sums[*group] = self.sums[*group].wrapping_add(sum.unwrap_or_default());
        }
        Ok(())
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let mut each = Self { counts: Vec::new(), sums: Vec::new(), data_type: self.data_type.clone() };
        let rows = values[0].len();
        each.update_batch(values, &(0..rows).collect::<Vec<_>>(), filter, rows)?;
        each.state(EmitTo::All)
    }

    fn size(&self) -> usize {
        (self.counts.capacity() + self.sums.capacity()) * size_of::<i64>()
    }
}

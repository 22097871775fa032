//! Groups with DataFusion's accumulators: what a window aggregate knows of one slice.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::GroupsAccumulatorAdapter;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;
use tereza_runtime::error::{Error, Result};

use super::calc::{Expression, evaluate};
use super::error::failed;

/// Partial sums of a slice are merged into one when there are more than so many.
const PARTIALS_MAX: usize = 8;

/// An aggregate function of DataFusion with the condition of its `FILTER`.
#[derive(Debug, Clone)]
pub struct WindowCall {
    /// The function and its arguments.
    pub function: Arc<AggregateFunctionExpr>,
    /// Rows where it is not true are passed over.
    pub filter: Option<Expression>,
}

/// What is counted for each group.
#[derive(Debug)]
pub(crate) struct Shape {
    /// The fields of the keys.
    pub(crate) keys: SchemaRef,
    pub(crate) calls: Vec<WindowCall>,
    /// How many columns the state of each call has.
    states: Vec<usize>,
}

impl Shape {
    pub(crate) fn new(keys: SchemaRef, calls: Vec<WindowCall>) -> Result<Self> {
        for call in &calls {
            if !call.function.order_bys().is_empty() {
                return Err(Error::unsupported(format!("ORDER BY in {} over windows", call.function.name())));
            }
        }
        let states = calls.iter().map(|call| Ok(call.function.state_fields().map_err(failed)?.len()));
        Ok(Self { keys, states: states.collect::<Result<_>>()?, calls })
    }

    /// The arguments and the filter of each call for the rows of a batch.
    pub(crate) fn arguments(&self, rows: &RecordBatch) -> Result<Vec<Arguments>> {
        let of_call = |call: &WindowCall| {
            let values =
                call.function.expressions().iter().map(|value| evaluate(value, rows)).collect::<Result<_>>()?;
            let filter = call.filter.as_ref().map(|filter| evaluate(filter, rows)).transpose()?;
            Ok(Arguments { values, filter })
        };
        self.calls.iter().map(of_call).collect()
    }
}

/// The arguments of one call.
#[derive(Debug, Clone)]
pub(crate) struct Arguments {
    pub(crate) values: Vec<ArrayRef>,
    pub(crate) filter: Option<ArrayRef>,
}

/// Groups and their accumulators. Reading the results ends it: DataFusion's accumulators give their state away.
struct Groups {
    /// None where there are no keys, and one group.
    values: Option<Box<dyn GroupValues>>,
    accumulators: Vec<Box<dyn GroupsAccumulator>>,
    numbers: Vec<usize>,
}

impl Groups {
    fn new(shape: &Shape) -> Result<Self> {
        let values = match shape.keys.fields().is_empty() {
            true => None,
            false => {
                let ordering = GroupOrdering::None;
                Some(new_group_values(SchemaRef::clone(&shape.keys), &ordering).map_err(failed)?)
            }
        };
        let make = |call: &WindowCall| -> DataFusionResult<Box<dyn GroupsAccumulator>> {
            if call.function.groups_accumulator_supported() {
                return call.function.create_groups_accumulator();
            }
            let function = Arc::clone(&call.function);
            Ok(Box::new(GroupsAccumulatorAdapter::new(move || function.create_accumulator())))
        };
        let accumulators = shape.calls.iter().map(make).collect::<DataFusionResult<_>>().map_err(failed)?;
        Ok(Self { values, accumulators, numbers: Vec::new() })
    }

    fn intern(&mut self, keys: &[ArrayRef], rows: usize) -> Result<usize> {
        match &mut self.values {
            None => {
                self.numbers.clear();
                self.numbers.resize(rows, 0);
                Ok(1)
            }
            Some(values) => {
                values.intern(keys, &mut self.numbers).map_err(failed)?;
                Ok(values.len())
            }
        }
    }

    fn update(&mut self, keys: &[ArrayRef], arguments: &[Arguments], rows: usize) -> Result<()> {
        let groups = self.intern(keys, rows)?;
        for (accumulator, Arguments { values, filter }) in self.accumulators.iter_mut().zip(arguments) {
            let filter: Option<&BooleanArray> = filter.as_ref().map(|filter| filter.as_boolean());
            accumulator.update_batch(values, &self.numbers, filter, groups).map_err(failed)?;
        }
        Ok(())
    }

    fn merge(&mut self, shape: &Shape, partial: &RecordBatch) -> Result<()> {
        let (keys, mut states) = partial.columns().split_at(shape.keys.fields().len());
        let groups = self.intern(keys, partial.num_rows())?;
        for (accumulator, columns) in self.accumulators.iter_mut().zip(&shape.states) {
            let (state, rest) = states.split_at(*columns);
            accumulator.merge_batch(state, &self.numbers, groups).map_err(failed)?;
            states = rest;
        }
        Ok(())
    }

    fn keys(&mut self) -> Result<Vec<ArrayRef>> {
        self.values.as_mut().map_or(Ok(Vec::new()), |values| values.emit(EmitTo::All)).map_err(failed)
    }

    fn into_partial(mut self) -> Result<RecordBatch> {
        let mut columns = self.keys()?;
        for accumulator in &mut self.accumulators {
            columns.extend(accumulator.state(EmitTo::All).map_err(failed)?);
        }
        let rows = columns.first().map_or(1, |column| column.len());
        let field = |(at, column): (usize, &ArrayRef)| Field::new(format!("c{at}"), column.data_type().clone(), true);
        let schema = Schema::new(columns.iter().enumerate().map(field).collect::<Vec<_>>());
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::new(schema), columns, &options).map_err(failed)
    }

    /// The keys, then the results.
    fn into_results(mut self) -> Result<Vec<ArrayRef>> {
        let mut columns = self.keys()?;
        for accumulator in &mut self.accumulators {
            columns.push(accumulator.evaluate(EmitTo::All).map_err(failed)?);
        }
        Ok(columns)
    }

    fn bytes(&self) -> usize {
        let values = self.values.as_ref().map_or(0, |values| values.size());
        values + self.accumulators.iter().map(|accumulator| accumulator.size()).sum::<usize>()
    }
}

/// Partial sums: the keys, then the state of each call.
struct Partial {
    rows: RecordBatch,
    is_saved: bool,
}

/// What is known of one slice: the groups that rows are counted in now, and the partial sums of those before them.
#[derive(Default)]
pub(crate) struct Slice {
    live: Option<Groups>,
    partials: Vec<Partial>,
    bytes: usize,
}

impl Slice {
    /// Counts rows. The bytes held change.
    pub(crate) fn update(
        &mut self,
        shape: &Shape,
        keys: &[ArrayRef],
        arguments: &[Arguments],
        rows: usize,
    ) -> Result<()> {
        let live = match &mut self.live {
            Some(live) => live,
            None => self.live.insert(Groups::new(shape)?),
        };
        live.update(keys, arguments, rows)?;
        self.measure();
        Ok(())
    }

    /// Adds partial sums that a snapshot held.
    pub(crate) fn restore(&mut self, rows: RecordBatch) {
        self.partials.push(Partial { rows, is_saved: true });
        self.measure();
    }

    /// The partial sums that no snapshot holds; from now on one does.
    pub(crate) fn save(&mut self, shape: &Shape) -> Result<Vec<RecordBatch>> {
        self.seal()?;
        let new = self.partials.iter_mut().filter(|partial| !partial.is_saved).map(|partial| {
            partial.is_saved = true;
            partial.rows.clone()
        });
        let new = new.collect();
        if self.partials.len() > PARTIALS_MAX {
            let mut groups = Groups::new(shape)?;
            for partial in self.partials.drain(..) {
                groups.merge(shape, &partial.rows)?;
            }
            self.partials.push(Partial { rows: groups.into_partial()?, is_saved: true });
        }
        self.measure();
        Ok(new)
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    fn seal(&mut self) -> Result<()> {
        if let Some(live) = self.live.take() {
            self.partials.push(Partial { rows: live.into_partial()?, is_saved: false });
        }
        Ok(())
    }

    fn measure(&mut self) {
        let partials = self.partials.iter().map(|partial| partial.rows.get_array_memory_size()).sum::<usize>();
        self.bytes = partials + self.live.as_ref().map_or(0, Groups::bytes);
    }
}

/// The results of a window: the keys, then a column for each call. `last` is a slice that no later window has.
pub(crate) fn results(shape: &Shape, last: Option<Slice>, others: &mut [&mut Slice]) -> Result<Vec<ArrayRef>> {
    let (live, partials) = last.map_or((None, Vec::new()), |slice| (slice.live, slice.partials));
    let mut groups = live.map_or_else(|| Groups::new(shape), Ok)?;
    for partial in &partials {
        groups.merge(shape, &partial.rows)?;
    }
    for slice in others {
        slice.seal()?;
        for partial in &slice.partials {
            groups.merge(shape, &partial.rows)?;
        }
        slice.measure();
    }
    groups.into_results()
}

//! GROUP BY: over windows where windows are grouped by, by the latest result of each group otherwise.

use std::sync::Arc;

use arrow::datatypes::Field;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::expr::{AggregateFunction, AggregateFunctionParams};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Aggregate, Expr, Extension, LogicalPlan, Operator as Op};
use datafusion::physical_expr::aggregate::LoweredAggregateBuilder;
use datafusion::physical_expr::expressions::{CastExpr, Column as Place, binary, lit};
use tereza_engine::flink::{WINDOW_END, WINDOW_START, WINDOW_TIME, Window, WindowTable};
use tereza_runtime::error::Result;

use super::{
    Expression, Named, Places, Planner, Stream, WindowColumns, failed, name_of, unsupported, windows, without_alias,
};
use crate::operator::aggregate::{AggregateCall, AggregateKind, GroupAggregate};
use crate::operator::calc::Calc;
use crate::operator::session::SessionAggregate;
use crate::operator::window_aggregate::{WindowAggregate, WindowCall, WindowSource};

/// What to write for aggregates over sessions.
pub(super) const SESSION_HINT: &str = "write SELECT k, window_start, window_end, COUNT(*) FROM \
    TABLE(SESSION(TABLE t PARTITION BY k, DESCRIPTOR(ts), INTERVAL '10' MINUTE)) GROUP BY k, window_start, window_end";

impl Planner<'_> {
    pub(super) fn aggregate(&mut self, aggregate: &Aggregate) -> Result<Stream> {
        if aggregate.group_expr.iter().any(|group| matches!(group, Expr::GroupingSet(_))) {
            return Err(unsupported("GROUPING SETS, ROLLUP or CUBE"));
        }
        if let Some(over) = Over::find(aggregate)? {
            return self.over_windows(aggregate, &over);
        }
        let input = self.node(&aggregate.input)?;
        match input.windows.filter(|windows| windows.are_grouped_by(aggregate)) {
            Some(windows) => self.over_attached(aggregate, input, windows),
            None => self.latest(aggregate, input),
        }
    }

    /// The latest result of each group.
    fn latest(&mut self, aggregate: &Aggregate, input: Stream) -> Result<Stream> {
        let mut columns = Columns::default();
        let keys: Vec<usize> = aggregate.group_expr.iter().map(|key| columns.place(key)).collect();
        let calls = columns.calls(aggregate, &aggregate.aggr_expr, "without a window")?;
        let input = self.calc(input, aggregate.input.schema(), None, Some(columns.0))?;
        let own: Vec<usize> = (0..keys.len()).collect();
        let operator = GroupAggregate::new(&input.schema, &input.mode, keys, calls)?
            .with_time_to_live(self.settings.state_ttl_ms)?;
        let grouped = Stream { places: Places::by([own]), ..self.add(Box::new(operator), &[input])? };
        let places: Vec<usize> = (0..aggregate.schema.fields().len()).collect();
        self.arranged(grouped, aggregate.schema.as_ref(), &places)
    }

    /// Results of windows that the operator finds by the time of the rows.
    fn over_windows(&mut self, aggregate: &Aggregate, over: &Over<'_>) -> Result<Stream> {
        let table = over.table;
        let input = self.node(&table.input)?;
        self.check_event_time(&input, table)?;
        let Some(windows) = windows(table.window)? else { return self.over_sessions(aggregate, input, over) };
        let (input, schema, keys) =
            self.with_keys(input, table.input.schema(), over.condition.as_ref(), over.keys.iter())?;
        let time = table.input.schema().index_of_column(&table.time).map_err(failed)?;
        let calls = self.window_calls(&over.calls, &schema)?;
        let source = WindowSource::Aligned { windows, time };
        let operator = WindowAggregate::new(&input.schema, &input.mode, source, keys, calls)?;
        let windowed = self.add(Box::new(operator), &[input])?;
        self.windowed(aggregate, windowed, &over.groups)
    }

    fn over_sessions(&mut self, aggregate: &Aggregate, input: Stream, over: &Over<'_>) -> Result<Stream> {
        let Window::Session { gap_ms } = over.table.window else { return Err(unsupported(over.table.window.name())) };
        let mut columns = Columns::default();
        let time = columns.place(&Expr::Column(over.table.time.clone()));
        let keys: Vec<usize> = over.keys.iter().map(|key| columns.place(key)).collect();
        let mut calls = columns.calls(aggregate, &over.calls, "over a SESSION window")?;
        // Rows that a condition above the windows drops are in their sessions all the same: they are not counted, and sessions
        // of no others are dropped.
        if let Some(condition) = &over.condition {
            let name = "__rows".to_owned();
            calls.push(AggregateCall { kind: AggregateKind::CountRows, column: None, filter: None, name });
            for call in &mut calls {
                let filter = call.filter.map(|filter| columns.0[filter].0.clone());
                let filter = filter.into_iter().fold(condition.clone(), Expr::and);
                call.filter = Some(columns.place(&filter));
            }
        }
        let counted = keys.len() + over.calls.len();
        let input = self.calc(input, over.table.input.schema(), None, Some(columns.0))?;
        let operator = SessionAggregate::new(&input.schema, &input.mode, time, gap_ms, keys, calls)?;
        let mut windowed = self.add(Box::new(operator), &[input])?;
        if over.condition.is_some() {
            let place = |at: usize| -> Expression { Arc::new(Place::new(windowed.schema.field(at).name(), at)) };
            let is_there = binary(place(counted), Op::Gt, lit(0_i64), &windowed.schema).map_err(failed)?;
            let others = (0..windowed.schema.fields().len()).filter(|at| *at != counted);
            let others = others.map(|at| (place(at), windowed.schema.field(at).name().clone())).collect();
            let calc = Calc::new(&windowed.schema, &windowed.mode, Some(is_there), others)?;
            windowed = self.add(Box::new(calc), &[windowed])?;
        }
        self.windowed(aggregate, windowed, &over.groups)
    }

    /// Results of windows that the rows have with them.
    fn over_attached(&mut self, aggregate: &Aggregate, input: Stream, windows: WindowColumns) -> Result<Stream> {
        let mut groups = Vec::with_capacity(aggregate.group_expr.len());
        let mut keys = Vec::new();
        for group in &aggregate.group_expr {
            groups.push(match windows.part_of(without_alias(group), aggregate.input.schema()) {
                Some(part) => Group::Window(part),
                None => {
                    keys.push(without_alias(group).clone());
                    Group::Key(keys.len() - 1)
                }
            });
        }
        let (input, schema, keys) = self.with_keys(input, aggregate.input.schema(), None, keys.iter())?;
        let calls = self.window_calls(&aggregate.aggr_expr, &schema)?;
        let source = WindowSource::Attached { start: windows.start, end: windows.end };
        let operator = WindowAggregate::new(&input.schema, &input.mode, source, keys, calls)?;
        let windowed = self.add(Box::new(operator), &[input])?;
        self.windowed(aggregate, windowed, &groups)
    }

    /// The input with further columns for keys that are none of its own; with its schema, and the places of the keys.
    fn with_keys<'e>(
        &mut self,
        input: Stream,
        schema: &DFSchema,
        condition: Option<&Expr>,
        keys: impl Iterator<Item = &'e Expr>,
    ) -> Result<(Stream, DFSchema, Vec<usize>)> {
        let mut columns: Vec<(Expr, String)> =
            schema.columns().into_iter().map(|column| (Expr::Column(column.clone()), column.name)).collect();
        let mut fields: Vec<_> =
            schema.iter().map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field))).collect();
        let mut places = Vec::new();
        for key in keys {
            if let Expr::Column(column) = key {
                places.push(schema.index_of_column(column).map_err(failed)?);
                continue;
            }
            let name = format!("__key_{}", columns.len());
            let (_, field) = datafusion::logical_expr::ExprSchemable::to_field(key, schema).map_err(failed)?;
            fields.push((None, Arc::new(field.as_ref().clone().with_name(&name))));
            places.push(columns.len());
            columns.push((key.clone(), name));
        }
        let stream = self.calc(input, schema, condition, Some(columns))?;
        let schema = DFSchema::new_with_metadata(fields, schema.metadata().clone()).map_err(failed)?;
        Ok((stream, schema, places))
    }

    fn window_calls(&self, calls: &[Expr], schema: &DFSchema) -> Result<Vec<WindowCall>> {
        let context = PhysicalPlanningContext::default();
        let properties = self.state.execution_props();
        let lower = |call: &Expr| {
            let physical = schema.inner();
            let lowered =
                LoweredAggregateBuilder::new(call, schema, physical, properties, &context).build().map_err(failed)?;
            Ok(WindowCall { function: lowered.aggregate, filter: lowered.filter })
        };
        calls.iter().map(lower).collect()
    }

    /// The columns of the aggregation, out of keys, results and the bounds of the window.
    fn windowed(&mut self, aggregate: &Aggregate, windowed: Stream, groups: &[Group]) -> Result<Stream> {
        let keys = groups.iter().filter(|group| matches!(group, Group::Key(_))).count();
        let windowed = Stream { places: Places::by([(0..keys).collect()]), ..windowed };
        let calls = aggregate.aggr_expr.len();
        let of_group = |group: &Group| match group {
            Group::Key(at) => *at,
            Group::Window(part) => keys + calls + *part as usize,
        };
        let places: Vec<usize> = groups.iter().map(of_group).chain((0..calls).map(|call| keys + call)).collect();
        let mut stream = self.arranged(windowed, aggregate.schema.as_ref(), &places)?;
        let place = |part: Part| groups.iter().position(|group| *group == Group::Window(part));
        if let (Some(start), Some(end)) = (place(Part::Start), place(Part::End)) {
            stream.windows = Some(WindowColumns { start, end, time: place(Part::Time) });
        }
        stream.times = place(Part::Time).into_iter().collect();
        Ok(stream)
    }

    /// Columns by their places, with the names and types of a node of the plan.
    pub(super) fn arranged(&mut self, input: Stream, schema: &DFSchema, places: &[usize]) -> Result<Stream> {
        let columns = places.iter().zip(schema.fields()).map(|(place, field)| {
            let found = input.schema.field(*place);
            let column: Expression = Arc::new(Place::new(found.name(), *place));
            let column = match found.data_type() == field.data_type() {
                true => column,
                false => Arc::new(CastExpr::new(column, field.data_type().clone(), None)),
            };
            (column, field.name().clone())
        });
        let calc = Calc::new(&input.schema, &input.mode, None, columns.collect())?;
        let has_type = |to: usize, from: usize| schema.field(to).data_type() == input.schema.field(from).data_type();
        let moved = input.places.moved(|at| (0..places.len()).find(|to| places[*to] == at && has_type(*to, at)));
        Ok(Stream { places: moved, ..self.add(Box::new(calc), &[input])? })
    }
}

/// What an operator reads, as columns of their own.
#[derive(Default)]
struct Columns(Vec<Named>);

impl Columns {
    fn place(&mut self, expression: &Expr) -> usize {
        self.0.push((expression.clone(), format!("c{}", self.0.len())));
        self.0.len() - 1
    }

    /// Calls of an aggregation over columns; their names are those of the results.
    fn calls(&mut self, aggregate: &Aggregate, calls: &[Expr], over: &str) -> Result<Vec<AggregateCall>> {
        let results = aggregate.schema.fields().iter().skip(aggregate.group_expr.len());
        let call = |(call, field): (&Expr, &Arc<Field>)| {
            let (kind, argument, filter) = call_of(call, over)?;
            Ok(AggregateCall {
                kind,
                column: argument.map(|argument| self.place(argument)),
                filter: filter.map(|filter| self.place(filter)),
                name: field.name().clone(),
            })
        };
        calls.iter().zip(results).map(call).collect()
    }
}

/// A bound of a window, by its place after the results of an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Start = 0,
    End = 1,
    Time = 2,
}

/// What a group expression is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Group {
    /// The key of this number.
    Key(usize),
    /// The window's.
    Window(Part),
}

impl WindowColumns {
    fn part_of(&self, expression: &Expr, schema: &DFSchema) -> Option<Part> {
        let Expr::Column(column) = expression else { return None };
        let at = schema.index_of_column(column).ok()?;
        match at {
            at if at == self.start => Some(Part::Start),
            at if at == self.end => Some(Part::End),
            at if Some(at) == self.time => Some(Part::Time),
            _ => None,
        }
    }

    fn are_grouped_by(&self, aggregate: &Aggregate) -> bool {
        let parts: Vec<Part> = aggregate
            .group_expr
            .iter()
            .filter_map(|group| self.part_of(without_alias(group), aggregate.input.schema()))
            .collect();
        parts.contains(&Part::Start) && parts.contains(&Part::End)
    }
}

/// An aggregation directly over a window function, in the terms of what the function reads.
struct Over<'p> {
    table: &'p WindowTable,
    condition: Option<Expr>,
    groups: Vec<Group>,
    keys: Vec<Expr>,
    calls: Vec<Expr>,
}

impl<'p> Over<'p> {
    fn find(aggregate: &'p Aggregate) -> Result<Option<Self>> {
        let Some(below) = Below::of(&aggregate.input)? else { return Ok(None) };
        let mut groups = Vec::with_capacity(aggregate.group_expr.len());
        let mut keys = Vec::new();
        for group in &aggregate.group_expr {
            let group = below.translate(without_alias(group), aggregate.input.schema())?;
            match part(&group) {
                Some(part) => groups.push(Group::Window(part)),
                None => {
                    groups.push(Group::Key(keys.len()));
                    keys.push(group);
                }
            }
        }
        let has = |part: Part| groups.contains(&Group::Window(part));
        if !has(Part::Start) || !has(Part::End) {
            return Ok(None);
        }
        let calls = aggregate
            .aggr_expr
            .iter()
            .map(|call| below.translate(call, aggregate.input.schema()))
            .collect::<Result<Vec<_>>>()?;
        // A session's key is who it is of; rows of another grouping would be of other sessions.
        if matches!(below.table.window, Window::Session { .. }) {
            let of: Vec<Expr> = below.table.keys.iter().cloned().map(Expr::Column).collect();
            if keys.len() != of.len() || !of.iter().all(|key| keys.contains(key)) {
                let list = |keys: &[Expr]| match keys {
                    [] => "nothing".to_owned(),
                    keys => keys.iter().map(name_of).collect::<Vec<_>>().join(", "),
                };
                return Err(unsupported(&format!(
                    "a SESSION window with PARTITION BY {} that is grouped by {}",
                    list(&of),
                    list(&keys)
                ))
                .with_hint(SESSION_HINT));
            }
        }
        let reads_windows = |expression: &Expr| expression.column_refs().into_iter().any(is_bound);
        if keys.iter().chain(&calls).chain(&below.condition).any(reads_windows) {
            if matches!(below.table.window, Window::Session { .. }) {
                return Err(unsupported("a bound of a SESSION window within an aggregate or a condition below it")
                    .with_hint("group by window_start and window_end, and compute with them in a query around it"));
            }
            return Ok(None);
        }
        Ok(Some(Self { table: below.table, condition: below.condition, groups, keys, calls }))
    }
}

fn is_bound(column: &Column) -> bool {
    column.relation.is_none() && [WINDOW_START, WINDOW_END, WINDOW_TIME].contains(&column.name.as_str())
}

fn part(expression: &Expr) -> Option<Part> {
    match expression {
        Expr::Column(column) if column.relation.is_none() => match column.name.as_str() {
            WINDOW_START => Some(Part::Start),
            WINDOW_END => Some(Part::End),
            WINDOW_TIME => Some(Part::Time),
            _ => None,
        },
        _ => None,
    }
}

/// A window function with nothing but projections and conditions above.
struct Below<'p> {
    table: &'p WindowTable,
    condition: Option<Expr>,
    /// What each column of the plan is, in the columns of the function.
    columns: Vec<Expr>,
}

impl<'p> Below<'p> {
    fn of(plan: &'p LogicalPlan) -> Result<Option<Self>> {
        match plan {
            LogicalPlan::Extension(Extension { node }) => {
                Ok(node.as_any().downcast_ref::<WindowTable>().map(|table| Self {
                    table,
                    condition: None,
                    columns: plan.schema().columns().into_iter().map(Expr::Column).collect(),
                }))
            }
            LogicalPlan::SubqueryAlias(alias) => Self::of(&alias.input),
            LogicalPlan::Projection(projection) => {
                let Some(below) = Self::of(&projection.input)? else { return Ok(None) };
                let schema = projection.input.schema();
                let columns = projection
                    .expr
                    .iter()
                    .map(|expression| below.translate(without_alias(expression), schema))
                    .collect::<Result<Vec<_>>>()?;
                Ok(Some(Self { columns, ..below }))
            }
            LogicalPlan::Filter(filter) => {
                let Some(below) = Self::of(&filter.input)? else { return Ok(None) };
                let condition = below.translate(&filter.predicate, filter.input.schema())?;
                let condition = below.condition.clone().into_iter().chain([condition]).reduce(Expr::and);
                Ok(Some(Self { condition, ..below }))
            }
            _ => Ok(None),
        }
    }

    /// An expression over the plan's columns in the columns of the function.
    fn translate(&self, expression: &Expr, schema: &DFSchema) -> Result<Expr> {
        let translated = expression.clone().transform(|expression| match &expression {
            Expr::Column(column) => {
                let at = schema.index_of_column(column)?;
                Ok(Transformed::yes(self.columns[at].clone()))
            }
            _ => Ok(Transformed::no(expression)),
        });
        Ok(translated.map_err(failed)?.data)
    }
}

/// What an aggregate of the plan is to the operator: kind, argument and condition. `over` says in errors what it is over.
fn call_of<'e>(expression: &'e Expr, over: &str) -> Result<(AggregateKind, Option<&'e Expr>, Option<&'e Expr>)> {
    let Expr::AggregateFunction(AggregateFunction { func, params }) = without_alias(expression) else {
        return Err(unsupported(&format!("{expression}")));
    };
    let AggregateFunctionParams { args, distinct, filter, order_by, .. } = params;
    if !order_by.is_empty() {
        return Err(unsupported(&format!("ORDER BY in {}", func.name())));
    }
    let (kind, argument) = kind_of(func.name(), args, *distinct, over)?;
    Ok((kind, argument, filter.as_deref()))
}

/// The kind and the argument of an aggregate by its name.
pub(super) fn kind_of<'e>(
    name: &str,
    args: &'e [Expr],
    distinct: bool,
    over: &str,
) -> Result<(AggregateKind, Option<&'e Expr>)> {
    let is_row_count = matches!(args, [] | [Expr::Literal(..)]) && !args.iter().any(is_null);
    let kind = match (name, distinct) {
        ("count", false) if is_row_count => return Ok((AggregateKind::CountRows, None)),
        ("count", false) => AggregateKind::Count,
        ("count", true) => AggregateKind::CountDistinct,
        ("sum", false) => AggregateKind::Sum,
        ("sum", true) => AggregateKind::SumDistinct,
        ("avg", false) => AggregateKind::Avg,
        ("avg", true) => AggregateKind::AvgDistinct,
        ("min", _) => AggregateKind::Min,
        ("max", _) => AggregateKind::Max,
        (name, true) => return Err(unsupported(&format!("{name}(DISTINCT …) {over}"))),
        (name, false) => return Err(unsupported(&format!("{name} {over}"))),
    };
    match args {
        [argument] => Ok((kind, Some(argument))),
        _ => Err(unsupported(&format!("{name} of {} arguments {over}", args.len()))),
    }
}

fn is_null(expression: &Expr) -> bool {
    matches!(expression, Expr::Literal(value, _) if value.is_null())
}

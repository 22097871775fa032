//! A query as operators: DataFusion's logical plan, node by node, becomes a [`Graph`].
//!
//! What a stream cannot do is refused here, when the job is submitted, with the reason.

mod aggregate;
mod exchange;
mod join;
mod lookup;
mod over;
mod rank;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::DFSchema;
use datafusion::datasource::{TableProvider, source_as_provider};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, TableScan};
use datafusion::physical_expr::expressions::Column;
use tereza_engine::flink::{BoundedPlan, StreamPlan, TableAsOf, Window, WindowTable};
use tereza_runtime::error::{Error, Result};

pub use exchange::{Exchange, Places};

use crate::operator::batch::Batch;
use crate::operator::calc::{Calc, Expression};
use crate::operator::graph::{Graph, Target};
use crate::operator::normalize::Normalize;
use crate::operator::window::{WindowAssign, Windows};
use crate::operator::{ChangelogMode, Context, Operator, Output};

pub use lookup::Side;

/// Queries that are ready to run.
pub struct Planned {
    /// Their operators, with a sink for each query.
    pub graph: Graph,
    /// What the sources of the graph are, in order.
    pub sources: Vec<SourceTable>,
    /// The tables that are looked up.
    pub sides: Vec<Side>,
    /// What comes out, for each query.
    pub results: Vec<Changes>,
    /// Where rows have to change from one task to another if there are several. The graph has them as its edges, in this order, if it is
    /// planned for several tasks.
    pub exchanges: Vec<Exchange>,
}

/// A stream of changes.
#[derive(Debug, Clone)]
pub struct Changes {
    /// The columns.
    pub schema: SchemaRef,
    /// The kinds of changes.
    pub mode: ChangelogMode,
    /// In which tasks they come out.
    pub places: Places,
}

/// What a table is as a stream.
#[derive(Debug, Clone)]
pub struct TableFacts {
    /// The column that its watermark is of, where it has one.
    pub time: Option<usize>,
    /// The changes that come from it; places are those of all its columns.
    pub mode: ChangelogMode,
    /// Whether it is no stream: its rows are read once, and then there are no more.
    pub ends: bool,
}

/// A table that is read.
pub struct SourceTable {
    /// Its name in the query.
    pub name: String,
    /// Where its rows are from.
    pub rows: SourceRows,
    /// Which of its columns are read, in order.
    pub columns: Vec<usize>,
}

/// Where the rows of a source are from.
pub enum SourceRows {
    /// A stream.
    Stream(Arc<dyn TableProvider>),
    /// A query that reads no stream.
    Once(Box<BoundedPlan>),
}

/// How a query is planned.
#[derive(Debug, Clone, Copy, Default)]
pub struct Settings {
    /// Whether the operators are in several tasks, so that rows pass through edges. They and their ids are the same.
    pub is_spread: bool,
    /// Milliseconds since the last change after which what is kept of a key is forgotten (`table.exec.state.ttl`); for ever if none.
    pub state_ttl_ms: Option<i64>,
}

/// Plans queries as one graph: the result of each goes to the sink of its number.
pub fn plan<'a>(
    queries: impl IntoIterator<Item = &'a StreamPlan>,
    settings: Settings,
    facts_of: &dyn Fn(&dyn TableProvider) -> Result<TableFacts>,
) -> Result<Planned> {
    let mut planned = Planned {
        graph: Graph::new(),
        sources: Vec::new(),
        sides: Vec::new(),
        results: Vec::new(),
        exchanges: Vec::new(),
    };
    let mut operators = 0;
    for (sink, query) in queries.into_iter().enumerate() {
        let Planned { graph, sources, sides, exchanges, .. } = planned;
        let (state, batch) = (&query.state, &query.batch);
        let mut planner = Planner { state, batch, settings, facts_of, graph, operators, sources, sides, exchanges };
        let stream = match query.ends {
            true => planner.bounded("the query".to_owned(), &query.plan),
            false => planner.node(&query.plan)?,
        };
        planner.send(stream.port, Target::Sink(sink))?;
        operators = planner.operators;
        (planned.graph, planned.sources, planned.sides) = (planner.graph, planner.sources, planner.sides);
        planned.exchanges = planner.exchanges;
        planned.results.push(Changes { schema: stream.schema, mode: stream.mode, places: stream.places });
    }
    Ok(planned)
}

/// Where a stream comes from.
#[derive(Debug, Clone, Copy)]
enum Port {
    Source(usize),
    Node(usize),
}

/// The output of a node of the plan.
#[derive(Debug, Clone)]
struct Stream {
    port: Port,
    schema: SchemaRef,
    mode: ChangelogMode,
    /// The columns of event times: no row comes with one that the watermark has reached.
    times: Vec<usize>,
    /// Where the bounds of the rows' windows are, if they have windows.
    windows: Option<WindowColumns>,
    places: Places,
}

/// The places of a window's bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct WindowColumns {
    start: usize,
    end: usize,
    time: Option<usize>,
}

struct Planner<'a> {
    state: &'a SessionState,
    batch: &'a SessionState,
    settings: Settings,
    facts_of: &'a dyn Fn(&dyn TableProvider) -> Result<TableFacts>,
    graph: Graph,
    operators: usize,
    sources: Vec<SourceTable>,
    sides: Vec<Side>,
    exchanges: Vec<Exchange>,
}

/// An expression with the name of its column.
type Named = (Expr, String);

impl Planner<'_> {
    fn node(&mut self, plan: &LogicalPlan) -> Result<Stream> {
        match plan {
            LogicalPlan::TableScan(scan) => {
                let provider = source_as_provider(&scan.source).map_err(failed)?;
                if (self.facts_of)(provider.as_ref())?.ends {
                    return Ok(self.bounded(scan.table_name.to_string(), plan));
                }
                let read = self.scan(scan)?;
                match scan.filters.iter().cloned().reduce(Expr::and) {
                    Some(condition) => self.calc(read, plan.schema(), Some(&condition), None),
                    None => Ok(read),
                }
            }
            LogicalPlan::SubqueryAlias(alias) => self.node(&alias.input),
            LogicalPlan::Projection(projection) => {
                let wanted: Vec<Named> = projection
                    .expr
                    .iter()
                    .zip(projection.schema.fields())
                    .map(|(expression, field)| (expression.clone(), field.name().clone()))
                    .collect();
                match projection.input.as_ref() {
                    LogicalPlan::Filter(filter) => match rank::of(filter)? {
                        Some(rank) => self.rank(rank, Some(wanted)),
                        None => {
                            let input = self.node(&filter.input)?;
                            self.calc(input, filter.input.schema(), Some(&filter.predicate), Some(wanted))
                        }
                    },
                    other => {
                        let input = self.node(other)?;
                        self.calc(input, other.schema(), None, Some(wanted))
                    }
                }
            }
            LogicalPlan::Filter(filter) => match rank::of(filter)? {
                Some(rank) => self.rank(rank, None),
                None => {
                    let input = self.node(&filter.input)?;
                    self.calc(input, filter.input.schema(), Some(&filter.predicate), None)
                }
            },
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate),
            LogicalPlan::Join(join) => match TableAsOf::of(&join.right) {
                Some(table) => self.lookup_join(join, table),
                None => self.join(join),
            },
            LogicalPlan::Union(union) => {
                let inputs = union.inputs.iter().map(|input| self.node(input)).collect::<Result<Vec<_>>>()?;
                self.union(&inputs, plan.schema())
            }
            LogicalPlan::Extension(extension) => match extension.node.as_any().downcast_ref::<WindowTable>() {
                Some(table) => self.window_table(table),
                None => Err(unsupported(extension.node.name())),
            },
            LogicalPlan::Window(window) => self.over(window),
            LogicalPlan::Sort(_) => Err(unsupported("ORDER BY without an end")),
            LogicalPlan::Limit(_) => Err(unsupported("LIMIT")),
            LogicalPlan::Values(_) => Ok(self.bounded("VALUES".to_owned(), plan)),
            LogicalPlan::EmptyRelation(_) => Err(unsupported("a query of no table")),
            other => Err(unsupported(&other.display().to_string())),
        }
    }

    /// The wanted columns of a table. Where rows replace others, all columns are read: which they replace is told by the key.
    fn scan(&mut self, scan: &TableScan) -> Result<Stream> {
        let provider = source_as_provider(&scan.source).map_err(failed)?;
        let TableFacts { time, mode, .. } = (self.facts_of)(provider.as_ref())?;
        let all: Vec<usize> = (0..provider.schema().fields().len()).collect();
        let wanted = scan.projection.clone().unwrap_or_else(|| all.clone());
        let read = if mode == ChangelogMode::Append { wanted.clone() } else { all };
        let schema = Arc::new(provider.schema().project(&read).map_err(|error| failed(error.into()))?);
        self.sources.push(SourceTable {
            name: scan.table_name.to_string(),
            rows: SourceRows::Stream(provider),
            columns: read.clone(),
        });
        let place = |columns: &[usize]| -> Vec<usize> {
            time.and_then(|time| columns.iter().position(|at| *at == time)).into_iter().collect()
        };
        let port = Port::Source(self.graph.source());
        let (times, places) = (place(&read), Places::default());
        let mut stream = Stream { port, schema, mode, times, windows: None, places };
        if let ChangelogMode::Upsert(key) = &stream.mode {
            let (normalize, places) = (Normalize::new(&stream.schema, &stream.mode)?, Places::by([key.clone()]));
            stream = Stream { times: place(&read), places, ..self.add(Box::new(normalize), &[stream])? };
        }
        if wanted == read {
            return Ok(stream);
        }
        let columns = wanted.iter().map(|at| {
            let name = stream.schema.field(*at).name().clone();
            (Arc::new(Column::new(&name, *at)) as Expression, name)
        });
        let calc = Calc::new(&stream.schema, &stream.mode, None, columns.collect())?;
        let places = stream.places.moved(|at| wanted.iter().position(|column| *column == at));
        Ok(Stream { times: place(&wanted), places, ..self.add(Box::new(calc), &[stream])? })
    }

    /// Filters and projects; all columns without `columns`.
    fn calc(
        &mut self,
        input: Stream,
        input_schema: &DFSchema,
        condition: Option<&Expr>,
        columns: Option<Vec<Named>>,
    ) -> Result<Stream> {
        let columns = columns.unwrap_or_else(|| {
            let all = input_schema.columns().into_iter();
            all.map(|column| (Expr::Column(column.clone()), column.name)).collect()
        });
        let is_nothing_to_do = condition.is_none()
            && columns.len() == input.schema.fields().len()
            && columns.iter().zip(input_schema.columns()).all(|((expression, name), column)| {
                *name == column.name && matches!(without_alias(expression), Expr::Column(found) if *found == column)
            });
        if is_nothing_to_do {
            return Ok(input);
        }
        let is_at = |expression: &Expr, at: usize| match without_alias(expression) {
            Expr::Column(column) => input_schema.index_of_column(column).is_ok_and(|found| found == at),
            _ => false,
        };
        let place = |at: usize| columns.iter().position(|(expression, _)| is_at(expression, at));
        let is_time = |expression: &Expr| input.times.iter().any(|time| is_at(expression, *time));
        let times = (0..columns.len()).filter(|at| is_time(&columns[*at].0)).collect();
        let places = input.places.moved(place);
        let windows = input.windows.and_then(|windows| {
            Some(WindowColumns {
                start: place(windows.start)?,
                end: place(windows.end)?,
                time: windows.time.and_then(place),
            })
        });
        let condition = condition.map(|condition| self.expression(condition, input_schema)).transpose()?;
        let columns = columns
            .into_iter()
            .map(|(expression, name)| Ok((self.expression(&expression, input_schema)?, name)))
            .collect::<Result<Vec<_>>>()?;
        let calc = Calc::new(&input.schema, &input.mode, condition, columns)?;
        Ok(Stream { times, windows, places, ..self.add(Box::new(calc), &[input])? })
    }

    fn expression(&self, expression: &Expr, schema: &DFSchema) -> Result<Expression> {
        self.state.create_physical_expr(without_alias(expression).clone(), schema).map_err(failed)
    }

    /// Adds an operator. Its id is its number and its name: a query that is planned again has the same, also for another number of tasks.
    /// Nothing is said of the places of what it emits.
    fn add(&mut self, operator: Box<dyn Operator>, inputs: &[Stream]) -> Result<Stream> {
        let (schema, mode) = (operator.schema(), operator.mode());
        let id = format!("{}-{}", self.operators, operator.name().replace(' ', "-"));
        self.operators += 1;
        let keys: Vec<Option<Vec<usize>>> =
            (0..inputs.len()).map(|input| operator.keyed_by(input).map(<[usize]>::to_vec)).collect();
        let node = self.graph.operator(id.as_str(), operator, inputs.len())?;
        let mut places = Places::default();
        for (input, (stream, keys)) in inputs.iter().zip(keys).enumerate() {
            places.exchanged |= stream.places.exchanged || keys.is_some();
            match keys {
                Some(keys) => self.exchange(stream, keys, (id.as_str(), node, input))?,
                None => self.send(stream.port, Target::Operator { node, input })?,
            }
        }
        Ok(Stream { port: Port::Node(node), schema, mode, times: Vec::new(), windows: None, places })
    }

    fn send(&mut self, port: Port, target: Target) -> Result<()> {
        match port {
            Port::Source(source) => {
                self.graph.from_source(source, target);
                Ok(())
            }
            Port::Node(node) => self.graph.connect(node, target),
        }
    }

    /// Refuses windows over a column that the watermark is not of: nothing would tell when they end.
    fn check_event_time(&self, input: &Stream, table: &WindowTable) -> Result<()> {
        input.mode.require_append("a window")?;
        let at = table.input.schema().index_of_column(&table.time).map_err(failed)?;
        if input.times.contains(&at) {
            return Ok(());
        }
        Err(no_event_time("a window over", &table.time.name))
    }

    fn window_table(&mut self, table: &WindowTable) -> Result<Stream> {
        let input = self.node(&table.input)?;
        self.check_event_time(&input, table)?;
        let time = table.input.schema().index_of_column(&table.time).map_err(failed)?;
        let Some(windows) = windows(table.window)? else {
            return Err(unsupported("a SESSION window without GROUP BY window_start, window_end")
                .with_hint(aggregate::SESSION_HINT));
        };
        let count = input.schema.fields().len();
        let assign = WindowAssign::new(&input.schema, &input.mode, windows, time)?;
        let (times, places) = (input.times.iter().copied().chain([count + 2]).collect(), input.places.clone());
        let assigned = self.add(Box::new(assign), &[input])?;
        Ok(Stream {
            times,
            places,
            windows: Some(WindowColumns { start: count, end: count + 1, time: Some(count + 2) }),
            ..assigned
        })
    }

    fn union(&mut self, inputs: &[Stream], schema: &DFSchema) -> Result<Stream> {
        let mode = match inputs.iter().all(|input| input.mode == ChangelogMode::Append) {
            true => ChangelogMode::Append,
            false => {
                inputs.iter().try_for_each(|input| input.mode.require_before_images("UNION ALL"))?;
                ChangelogMode::Retract { key: None }
            }
        };
        let union = Union { schema: Arc::clone(schema.inner()), mode };
        let (first, others) = inputs.split_first().ok_or_else(|| unsupported("a UNION of nothing"))?;
        let times = first.times.iter().filter(|time| others.iter().all(|other| other.times.contains(time)));
        let windows = first.windows.filter(|windows| others.iter().all(|other| other.windows == Some(*windows)));
        let (times, places) = (times.copied().collect(), Places::of_all(inputs.iter().map(|input| &input.places)));
        Ok(Stream { times, windows, places, ..self.add(Box::new(union), inputs)? })
    }
}

/// The windows of the operators; none for sessions.
fn windows(window: Window) -> Result<Option<Windows>> {
    Ok(Some(match window {
        Window::Tumble { size_ms, offset_ms } => Windows::tumble(size_ms, offset_ms)?,
        Window::Hop { slide_ms, size_ms, offset_ms } => Windows::hop(size_ms, slide_ms, offset_ms)?,
        Window::Cumulate { step_ms, size_ms, offset_ms } => Windows::cumulate(size_ms, step_ms, offset_ms)?,
        Window::Session { .. } => return Ok(None),
    }))
}

fn without_alias(expression: &Expr) -> &Expr {
    match expression {
        Expr::Alias(alias) => without_alias(&alias.expr),
        other => other,
    }
}

/// What an expression is called in an error.
fn name_of(expression: &Expr) -> String {
    match without_alias(expression) {
        Expr::Column(column) => column.name.clone(),
        other => other.schema_name().to_string(),
    }
}

fn unsupported(what: &str) -> Error {
    Error::unsupported(format!("{what} in a query of a stream"))
}

/// What is said of an order in time that is none.
fn no_event_time(what: &str, column: &str) -> Error {
    unsupported(&format!("{what} '{column}', which no WATERMARK is of,")).with_hint(
        "declare a WATERMARK FOR the column, and read it as it is; a join keeps it where its condition bounds the times of both \
         sides, an aggregate where it is of windows",
    )
}

fn failed(error: datafusion::error::DataFusionError) -> Error {
    crate::operator::failed(error)
}

/// The rows of all inputs.
#[derive(Debug)]
struct Union {
    schema: SchemaRef,
    mode: ChangelogMode,
}

impl Operator for Union {
    fn name(&self) -> &str {
        "union"
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn mode(&self) -> ChangelogMode {
        self.mode.clone()
    }

    fn describe(&self) -> String {
        format!("union({:?})", self.schema)
    }

    fn keyed_by(&self, _: usize) -> Option<&[usize]> {
        None
    }

    fn process(&mut self, _: usize, batch: Batch, _: &Context, out: &mut dyn Output) -> Result<()> {
        // The inputs may differ in names and in what may be NULL.
        let columns = batch.rows().columns().to_vec();
        let rows = arrow::array::RecordBatch::try_new(self.schema(), columns).map_err(|error| failed(error.into()))?;
        out.emit(batch.with_rows(rows)?)
    }
}

#[cfg(test)]
mod tests;

//! Windows of relations that end, in DataFusion's own nodes: what every row's windows are is a list that is unnested, and
//! sessions are found by sorting.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, StructArray, TimestampMillisecondArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Fields, TimestampMillisecondType};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, Result, UnnestOptions, exec_err};
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::functions_window::expr_fn::lag;
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{
    AggregateUDF, ColumnarValue, Expr, ExprFunctionExt, Extension, LogicalPlan, LogicalPlanBuilder, ScalarFunctionArgs,
    ScalarUDF, ScalarUDFImpl, Signature, Volatility, WindowFrame, WindowFunctionDefinition, cast, lit, when,
};
use datafusion::optimizer::AnalyzerRule;

use super::super::as_of;
use super::group;
use super::node::{BOUND, WINDOW_END, WINDOW_START, WINDOW_TIME, WindowTable};
use super::window::Window;

/// Puts DataFusion's nodes in the place of windows, and the tables themselves where rows are joined with them as of a time.
#[derive(Debug)]
pub(crate) struct LowerWindows;

impl AnalyzerRule for LowerWindows {
    fn name(&self) -> &str {
        "lower_windows"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        as_of::check(&plan)?;
        let plan = as_of::to_tables(group::to_window_tables(plan)?)?;
        let lowered = plan.transform_up_with_subqueries(|plan| match &plan {
            LogicalPlan::Extension(Extension { node }) => match node.as_any().downcast_ref::<WindowTable>() {
                Some(table) => lower(table).map(Transformed::yes),
                None => Ok(Transformed::no(plan)),
            },
            _ => Ok(Transformed::no(plan)),
        });
        Ok(lowered?.data)
    }
}

/// Columns that are only there on the way.
const WINDOW: &str = "__window";
const MILLIS: &str = "__millis";
const BEGINS: &str = "__begins";
const SESSION: &str = "__session";
const FIRST: &str = "__first";
const LAST: &str = "__last";

fn lower(table: &WindowTable) -> Result<LogicalPlan> {
    let with_time =
        LogicalPlanBuilder::new(table.input.clone()).filter(Expr::Column(table.time.clone()).is_not_null())?;
    let (plan, start, end) = match table.window {
        Window::Session { gap_ms } => sessions(table, with_time, gap_ms)?,
        _ => listed(table, with_time)?,
    };
    let last = cast(cast(end.clone(), DataType::Int64) - lit(1_i64), table.time_type()?);
    let bounds = [start.alias(WINDOW_START), end.alias(WINDOW_END), last.alias(WINDOW_TIME)];
    plan.project(own_columns(table).chain(bounds))?.build()
}

fn own_columns(table: &WindowTable) -> impl Iterator<Item = Expr> {
    table.input.schema().columns().into_iter().map(Expr::Column)
}

fn column(name: &str) -> Expr {
    Expr::Column(Column::new_unqualified(name))
}

/// Each row once for each of its windows, and what the windows' bounds are then.
fn listed(table: &WindowTable, plan: LogicalPlanBuilder) -> Result<(LogicalPlanBuilder, Expr, Expr)> {
    let time = to_millis(&table.time);
    let windows = ScalarUDF::from(WindowsOf::new(table.window)).call(vec![time]);
    let plan = plan
        .project(own_columns(table).chain([windows.alias(WINDOW)]))?
        .unnest_column_with_options(Column::new_unqualified(WINDOW), UnnestOptions::new().with_preserve_nulls(false))?;
    let bound = |name: &str| datafusion::functions::core::expr_fn::get_field(column(WINDOW), name);
    Ok((plan, bound(WINDOW_START), bound(WINDOW_END)))
}

/// Each row with its session: one begins where more than the gap has passed since the key's row before.
fn sessions(table: &WindowTable, plan: LogicalPlanBuilder, gap_ms: i64) -> Result<(LogicalPlanBuilder, Expr, Expr)> {
    let keys: Vec<Expr> = table.keys.iter().cloned().map(Expr::Column).collect();
    let millis = cast(to_millis(&table.time), DataType::Int64).alias(MILLIS);
    let in_order = || vec![column(MILLIS).sort(true, false)];
    let before = lag(column(MILLIS), Some(1), None).partition_by(keys.clone()).order_by(in_order()).build()?;
    let before_name = before.schema_name().to_string();
    let pause = column(MILLIS) - Expr::Column(Column::new_unqualified(before_name));
    let begins = when(pause.gt(lit(gap_ms)), lit(1_i64)).otherwise(lit(0_i64))?;
    let number = over(sum_udaf(), column(BEGINS))
        .partition_by(keys.clone())
        .order_by(in_order())
        .window_frame(WindowFrame::new(Some(true)))
        .build()?;
    let number_name = number.schema_name().to_string();
    let of_session: Vec<Expr> = keys.into_iter().chain([column(SESSION)]).collect();
    let whole = || WindowFrame::new(None);
    let first = over(min_udaf(), column(MILLIS)).partition_by(of_session.clone()).window_frame(whole()).build()?;
    let last = over(max_udaf(), column(MILLIS)).partition_by(of_session).window_frame(whole()).build()?;
    let (first_name, last_name) = (first.schema_name().to_string(), last.schema_name().to_string());
    let named = |name: String| Expr::Column(Column::new_unqualified(name));
    let plan = plan
        .project(own_columns(table).chain([millis]))?
        .window(vec![before])?
        .project(own_columns(table).chain([column(MILLIS), begins.alias(BEGINS)]))?
        .window(vec![number])?
        .project(own_columns(table).chain([column(MILLIS), named(number_name).alias(SESSION)]))?
        .window(vec![first, last])?
        .project(own_columns(table).chain([named(first_name).alias(FIRST), named(last_name).alias(LAST)]))?;
    Ok((plan, cast(column(FIRST), BOUND), cast(column(LAST) + lit(gap_ms), BOUND)))
}

/// An aggregate as a window function.
fn over(function: Arc<AggregateUDF>, argument: Expr) -> Expr {
    Expr::from(WindowFunction::new(WindowFunctionDefinition::AggregateUDF(function), vec![argument]))
}

fn to_millis(time: &Column) -> Expr {
    cast(Expr::Column(time.clone()), BOUND)
}

/// The windows of a moment, as a list of starts and ends.
#[derive(Debug, PartialEq, Eq, Hash)]
struct WindowsOf {
    window: Window,
    signature: Signature,
}

impl WindowsOf {
    fn new(window: Window) -> Self {
        Self { window, signature: Signature::exact(vec![BOUND], Volatility::Immutable) }
    }

    fn fields() -> Fields {
        Fields::from(vec![Field::new(WINDOW_START, BOUND, false), Field::new(WINDOW_END, BOUND, false)])
    }

    fn item() -> Field {
        Field::new_list_field(DataType::Struct(Self::fields()), false)
    }
}

impl ScalarUDFImpl for WindowsOf {
    fn name(&self) -> &str {
        "windows_of"
    }

    fn schema_name(&self, arguments: &[Expr]) -> Result<String> {
        let arguments: Vec<String> = arguments.iter().map(|argument| argument.schema_name().to_string()).collect();
        Ok(format!("windows_of({}, {})", self.window, arguments.join(", ")))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::List(Arc::new(Self::item())))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let times = first_array(&arguments)?;
        let times = times.as_primitive::<TimestampMillisecondType>();
        let (mut starts, mut ends, mut counts) = (Vec::new(), Vec::new(), Vec::with_capacity(times.len()));
        for time in times {
            let before = starts.len();
            for (start, end) in time.into_iter().flat_map(|time| self.window.of(time)) {
                starts.push(start);
                ends.push(end);
            }
            counts.push(starts.len() - before);
        }
        let bounds: Vec<ArrayRef> =
            vec![Arc::new(TimestampMillisecondArray::from(starts)), Arc::new(TimestampMillisecondArray::from(ends))];
        let windows = StructArray::try_new(Self::fields(), bounds, None)?;
        let nulls: Option<NullBuffer> = times.nulls().cloned();
        let offsets = OffsetBuffer::from_lengths(counts);
        let lists = ListArray::try_new(Arc::new(Self::item()), offsets, Arc::new(windows), nulls)?;
        Ok(ColumnarValue::Array(Arc::new(lists)))
    }
}

fn first_array(arguments: &ScalarFunctionArgs) -> Result<ArrayRef> {
    match arguments.args.first() {
        Some(ColumnarValue::Array(array)) => Ok(Arc::clone(array)),
        Some(ColumnarValue::Scalar(scalar)) => scalar.to_array_of_size(arguments.number_rows),
        None => exec_err!("a window of no moment"),
    }
}

//! Windows in GROUP BY, Flink's older form: `GROUP BY TUMBLE(ts, INTERVAL '1' MINUTE), k`.
//!
//! `TUMBLE`, `HOP` and `SESSION` are functions that give a window's bounds, and nothing but a mark: an aggregation by one becomes an
//! aggregation by the columns of a [`WindowTable`]. `TUMBLE_START(…)` and its like are written as fields of the same call
//! before the statement is planned ([`rewrite_auxiliary`]), so that the planner finds in them what it groups by.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, Result, not_impl_err, plan_err};
use datafusion::functions::core::expr_fn::named_struct;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    Aggregate, ColumnarValue, Expr, LogicalPlan, LogicalPlanBuilder, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility, lit,
};
use datafusion::sql::sqlparser::ast::{
    AccessExpr, Expr as SqlExpr, Function, Ident, ObjectName, ObjectNamePart, Subscript, Value,
};

use super::interval_ms;
use super::node::{BOUND, WINDOW_END, WINDOW_START, WindowTable};
use super::window::Window;

const AUXILIARY: [(&str, &str); 4] =
    [("_START", WINDOW_START), ("_END", WINDOW_END), ("_ROWTIME", ROW_TIME), ("_PROCTIME", "")];
/// The last moment of a window, of which the mark's third field is.
const ROW_TIME: &str = "window_time";
const KEY: &str = "__window_key";
const TIME: &str = "__window_of";

/// The marks, to be registered as functions.
pub(crate) fn functions() -> impl Iterator<Item = Arc<ScalarUDF>> {
    ["tumble", "hop", "session"].into_iter().map(|name| Arc::new(ScalarUDF::from(GroupWindow::new(name))))
}

/// `TUMBLE_START(a, b)` as `TUMBLE(a, b)['window_start']`, and so the others.
pub(crate) fn rewrite_auxiliary(expression: &mut SqlExpr) -> Result<()> {
    let SqlExpr::Function(function) = expression else { return Ok(()) };
    let [ObjectNamePart::Identifier(name)] = function.name.0.as_slice() else { return Ok(()) };
    let upper = name.value.to_uppercase();
    let Some((suffix, field)) = AUXILIARY.iter().find(|(suffix, _)| upper.ends_with(suffix)) else { return Ok(()) };
    let window = &upper[..upper.len() - suffix.len()];
    if !["TUMBLE", "HOP", "SESSION"].contains(&window) {
        return Ok(());
    }
    if field.is_empty() {
        return not_impl_err!("{upper}: windows of processing time in GROUP BY; use the table function {window}(…)");
    }
    let name = ObjectName(vec![ObjectNamePart::Identifier(Ident::new(window.to_lowercase()))]);
    let call = Function { name, ..function.clone() };
    let index = SqlExpr::value(Value::SingleQuotedString((*field).to_owned()));
    *expression = SqlExpr::CompoundFieldAccess {
        root: Box::new(SqlExpr::Function(call)),
        access_chain: vec![AccessExpr::Subscript(Subscript::Index { index })],
    };
    Ok(())
}

/// Aggregations by marks as aggregations over windows.
pub(crate) fn to_window_tables(plan: LogicalPlan) -> Result<LogicalPlan> {
    let changed = plan.transform_up_with_subqueries(|plan| match plan {
        LogicalPlan::Aggregate(aggregate) if aggregate.group_expr.iter().any(is_mark) => {
            with_windows(aggregate).map(Transformed::yes)
        }
        plan => Ok(Transformed::no(plan)),
    })?;
    Ok(changed.data)
}

fn is_mark(expression: &Expr) -> bool {
    matches!(expression, Expr::ScalarFunction(function) if function.func.inner().is::<GroupWindow>())
}

fn with_windows(aggregate: Aggregate) -> Result<LogicalPlan> {
    let marks: Vec<&Expr> = aggregate.group_expr.iter().filter(|expression| is_mark(expression)).collect();
    let [Expr::ScalarFunction(mark)] = marks.as_slice() else {
        return not_impl_err!("two windows in one GROUP BY");
    };
    let (window, time) = window_of(mark)?;
    // What the window needs as columns: the time, and for sessions whose they are.
    let mut own: Vec<Expr> = aggregate.input.schema().columns().into_iter().map(Expr::Column).collect();
    let mut as_column = |expression: &Expr, name: String| match expression {
        Expr::Column(column) => column.clone(),
        other => {
            own.push(other.clone().alias(name.clone()));
            Column::new_unqualified(name)
        }
    };
    let time = as_column(time, TIME.to_owned());
    let mut keys = Vec::new();
    if matches!(window, Window::Session { .. }) {
        for (at, key) in aggregate.group_expr.iter().filter(|expression| !is_mark(expression)).enumerate() {
            keys.push(as_column(key, format!("{KEY}_{at}")));
        }
    }
    let input = match own.len() == aggregate.input.schema().fields().len() {
        true => Arc::unwrap_or_clone(Arc::clone(&aggregate.input)),
        false => LogicalPlanBuilder::new_from_arc(Arc::clone(&aggregate.input)).project(own)?.build()?,
    };
    let table = WindowTable::plan(input, window, time, keys)?;
    let column = |name: &str| Expr::Column(Column::new_unqualified(name));
    let groups = aggregate.group_expr.iter().filter(|expression| !is_mark(expression)).cloned();
    let groups: Vec<Expr> = groups.chain([column(WINDOW_START), column(WINDOW_END)]).collect();
    let windowed = LogicalPlanBuilder::new(table).aggregate(groups, aggregate.aggr_expr.clone())?;
    // The columns of the aggregation as it was.
    let bounds = named_struct(vec![
        lit(WINDOW_START),
        column(WINDOW_START),
        lit(WINDOW_END),
        column(WINDOW_END),
        lit(ROW_TIME),
        datafusion::logical_expr::cast(
            datafusion::logical_expr::cast(column(WINDOW_END), DataType::Int64) - lit(1_i64),
            BOUND,
        ),
    ]);
    let before = aggregate.schema.iter().zip(aggregate.group_expr.iter().map(Some).chain(std::iter::repeat(None)));
    let columns = before.map(|((qualifier, field), group)| match group {
        Some(group) if is_mark(group) => bounds.clone().alias_qualified(qualifier.cloned(), field.name()),
        _ => Expr::Column(Column::new(qualifier.cloned(), field.name())),
    });
    windowed.project(columns.collect::<Vec<_>>())?.build()
}

/// The window that a mark stands for, and its time.
fn window_of(mark: &ScalarFunction) -> Result<(Window, &Expr)> {
    let name = mark.func.name().to_uppercase();
    let Some((time, sizes)) = mark.args.split_first() else { return plan_err!("{name}: no column of time") };
    let sizes_ms = sizes.iter().map(|size| interval_ms(&name, size)).collect::<Result<Vec<i64>>>()?;
    let window = match (name.as_str(), sizes_ms.as_slice()) {
        ("TUMBLE", [size_ms]) => Window::Tumble { size_ms: *size_ms, offset_ms: 0 },
        ("TUMBLE", [size_ms, offset_ms]) => Window::Tumble { size_ms: *size_ms, offset_ms: *offset_ms },
        ("HOP", [slide_ms, size_ms]) => Window::Hop { slide_ms: *slide_ms, size_ms: *size_ms, offset_ms: 0 },
        ("HOP", [slide_ms, size_ms, offset_ms]) => {
            Window::Hop { slide_ms: *slide_ms, size_ms: *size_ms, offset_ms: *offset_ms }
        }
        ("SESSION", [gap_ms]) => Window::Session { gap_ms: *gap_ms },
        _ => return plan_err!("{name}: {} arguments", mark.args.len()),
    };
    Ok((window.checked().map_err(crate::error::to_datafusion)?, time))
}

/// A window's bounds, as a mark in GROUP BY.
#[derive(Debug, PartialEq, Eq, Hash)]
struct GroupWindow {
    name: &'static str,
    signature: Signature,
}

impl GroupWindow {
    fn new(name: &'static str) -> Self {
        Self { name, signature: Signature::variadic_any(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for GroupWindow {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        let name = self.name.to_uppercase();
        if !matches!(arguments.first(), Some(DataType::Timestamp(_, _))) {
            return plan_err!("{name}: its first argument is no column of type TIMESTAMP");
        }
        let field = |name: &str| Field::new(name, BOUND, true);
        Ok(DataType::Struct(Fields::from(vec![field(WINDOW_START), field(WINDOW_END), field(ROW_TIME)])))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let name = self.name.to_uppercase();
        plan_err!("{name} stands in GROUP BY, or as a table function: FROM TABLE({name}(TABLE t, DESCRIPTOR(ts), …))")
    }
}

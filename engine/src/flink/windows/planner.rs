//! `FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '10' SECOND))` as a [`WindowTable`].

use datafusion::common::{Column, DFSchema, Result, plan_err};
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::sql::sqlparser::ast::{
    Expr as SqlExpr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, ObjectNamePart,
    Query, Statement, TableFactor, WindowType,
};
use datafusion::sql::sqlparser::parser::Parser;

use super::interval_ms;
use super::node::WindowTable;
use super::window::Window;
use crate::flink::{FlinkDialect, table_argument};

/// Plans the window functions of tables.
#[derive(Debug)]
pub(crate) struct WindowPlanner;

impl RelationPlanner for WindowPlanner {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let (call, alias) = match &relation {
            TableFactor::TableFunction { expr: SqlExpr::Function(function), alias } => (function, alias),
            _ => return Ok(RelationPlanning::Original(Box::new(relation))),
        };
        let Some((name, parameters)) = parameters_of(call) else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let plan = plan(name, parameters, call, context)?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias.clone()))))
    }
}

/// The name of a window function and of its parameters, in order; the last of all but sessions may be left out.
fn parameters_of(call: &Function) -> Option<(&'static str, &'static [&'static str])> {
    let [ObjectNamePart::Identifier(name)] = call.name.0.as_slice() else { return None };
    Some(match name.value.to_uppercase().as_str() {
        "TUMBLE" => ("TUMBLE", &["DATA", "TIMECOL", "SIZE", "OFFSET"]),
        "HOP" => ("HOP", &["DATA", "TIMECOL", "SLIDE", "SIZE", "OFFSET"]),
        "CUMULATE" => ("CUMULATE", &["DATA", "TIMECOL", "STEP", "SIZE", "OFFSET"]),
        "SESSION" => ("SESSION", &["DATA", "TIMECOL", "GAP"]),
        _ => return None,
    })
}

fn plan(
    name: &'static str,
    parameters: &[&str],
    call: &Function,
    context: &mut dyn RelationPlannerContext,
) -> Result<LogicalPlan> {
    let arguments = arguments(name, parameters, call)?;
    let [Some(data), Some(time), sizes @ ..] = arguments.as_slice() else {
        return plan_err!("{name}: {} and {} must be given", parameters[0], parameters[1]);
    };
    let Some((query, keys)) = shown_table(data) else {
        return plan_err!("{name}: '{data}' is no table; write TABLE and its name");
    };
    let input = context.plan(relation(query))?;
    let column = |expression: &SqlExpr, context: &mut dyn RelationPlannerContext| match context
        .sql_to_expr(expression.clone(), input.schema())?
    {
        Expr::Column(column) => Ok(column),
        other => plan_err!("{name}: '{other}' is no column"),
    };
    let time = column(descriptor(name, time)?, context)?;
    let keys = keys.iter().map(|key| column(key, context)).collect::<Result<Vec<Column>>>()?;
    let mut sizes_ms = Vec::with_capacity(sizes.len());
    for size in sizes {
        let Some(size) = size else {
            sizes_ms.push(None);
            continue;
        };
        let size = context.sql_to_expr((*size).clone(), &DFSchema::empty())?;
        sizes_ms.push(Some(interval_ms(name, &size)?));
    }
    let window = match (name, sizes_ms.as_slice()) {
        ("TUMBLE", [Some(size_ms), offset_ms]) => {
            Window::Tumble { size_ms: *size_ms, offset_ms: offset_ms.unwrap_or_default() }
        }
        ("HOP", [Some(slide_ms), Some(size_ms), offset_ms]) => {
            Window::Hop { slide_ms: *slide_ms, size_ms: *size_ms, offset_ms: offset_ms.unwrap_or_default() }
        }
        ("CUMULATE", [Some(step_ms), Some(size_ms), offset_ms]) => {
            Window::Cumulate { step_ms: *step_ms, size_ms: *size_ms, offset_ms: offset_ms.unwrap_or_default() }
        }
        ("SESSION", [Some(gap_ms)]) => Window::Session { gap_ms: *gap_ms },
        _ => return plan_err!("{name} needs {}", parameters.join(", ")),
    };
    if !keys.is_empty() && !matches!(window, Window::Session { .. }) {
        return plan_err!("{name}: only sessions have PARTITION BY");
    }
    WindowTable::plan(input, window.checked().map_err(crate::error::to_datafusion)?, time, keys)
}

/// The arguments by the order of the parameters, whether they were given by place or by name.
fn arguments<'a>(name: &str, parameters: &[&str], call: &'a Function) -> Result<Vec<Option<&'a SqlExpr>>> {
    let FunctionArguments::List(list) = &call.args else { return plan_err!("{name} needs {}", parameters.join(", ")) };
    let mut found = vec![None; parameters.len()];
    for (place, argument) in list.args.iter().enumerate() {
        let (at, value) = match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => (Some(place), value),
            FunctionArg::Named { name: parameter, arg: FunctionArgExpr::Expr(value), .. } => {
                let at = parameters.iter().position(|known| parameter.value.eq_ignore_ascii_case(known));
                if at.is_none() {
                    return plan_err!("{name} has no parameter '{}', but {}", parameter.value, parameters.join(", "));
                }
                (at, value)
            }
            other => return plan_err!("{name}: '{other}' is no argument of it"),
        };
        match at.and_then(|at| found.get_mut(at)) {
            Some(slot @ None) => *slot = Some(value),
            Some(Some(_)) => return plan_err!("{name}: an argument is given twice"),
            None => return plan_err!("{name} has {} arguments at most", parameters.len()),
        }
    }
    Ok(found)
}

/// What is read, as it stands in FROM.
fn relation(query: Query) -> TableFactor {
    TableFactor::Derived { lateral: false, subquery: Box::new(query), alias: None, sample: None }
}

/// Writes `TABLE t` among arguments as a query of `t`, where the planner looks for names of tables before it plans.
pub(crate) fn show_table(expression: &mut SqlExpr) {
    let Some(table) = table_argument(expression) else { return };
    let Some(query) = all_of(table.name) else { return };
    if let SqlExpr::Function(function) = expression
        && let FunctionArguments::List(list) = &mut function.args
        && let [FunctionArg::Unnamed(FunctionArgExpr::Expr(source))] = list.args.as_mut_slice()
    {
        *source = SqlExpr::Subquery(Box::new(query));
    }
}

/// The table that an argument is, after [`show_table`], and the keys of its PARTITION BY.
fn shown_table(argument: &SqlExpr) -> Option<(Query, &[SqlExpr])> {
    let SqlExpr::Function(function) = argument else { return None };
    let FunctionArguments::List(list) = &function.args else { return None };
    let [FunctionArg::Unnamed(FunctionArgExpr::Expr(SqlExpr::Subquery(query)))] = list.args.as_slice() else {
        return None;
    };
    let keys = match &function.over {
        Some(WindowType::WindowSpec(spec)) => spec.partition_by.as_slice(),
        _ => &[],
    };
    Some((query.as_ref().clone(), keys))
}

/// `SELECT * FROM name`
fn all_of(name: &[Ident]) -> Option<Query> {
    let name = ObjectName::from(name.to_vec());
    match Parser::parse_sql(&FlinkDialect, &format!("SELECT * FROM {name}")).ok()?.pop()? {
        Statement::Query(query) => Some(*query),
        _ => None,
    }
}

/// The column in `DESCRIPTOR(column)`.
fn descriptor<'a>(name: &str, argument: &'a SqlExpr) -> Result<&'a SqlExpr> {
    if let SqlExpr::Function(function) = argument
        && function.name.to_string().eq_ignore_ascii_case("DESCRIPTOR")
        && let FunctionArguments::List(list) = &function.args
        && let [FunctionArg::Unnamed(FunctionArgExpr::Expr(column))] = list.args.as_slice()
    {
        return Ok(column);
    }
    plan_err!("{name}: '{argument}' is not DESCRIPTOR(column)")
}

//! Planning a view: its query with what names in it mean, and the names and types that the view gives its columns.

use std::sync::Arc;

use arrow::compute::can_cast_types;
use arrow::datatypes::DataType;
use datafusion::common::TableReference;
use datafusion::common::config::Dialect;
use datafusion::execution::session_state::SessionState;
use datafusion::execution::{SessionStateBuilder, SessionStateDefaults};
use datafusion::logical_expr::expr_fn::cast;
use datafusion::logical_expr::planner::ExprPlanner;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::parser::Statement;
use datafusion_spark::SessionStateBuilderSpark;
use tereza_catalog::model::{Column, Table};
use tereza_runtime::{Error, ErrorKind, Result};

use super::super::parse::Home;
use super::definition::{self, Definition, Owner};
use super::operators::{PrestoCast, SparkDivision};
use super::words;
use crate::catalogs::is_path;
use crate::error::from_datafusion;
use crate::flink;
use crate::types::arrow_type;

/// Views of views, and no deeper.
const DEPTH_MAX: usize = 16;

tokio::task_local! {
    /// The views that are being planned around this one, from the outside.
    static AROUND: Vec<String>;
}

/// Plans a view of the catalog. `presto_name` is what Presto calls the catalog.
///
/// # Errors
/// `Unsupported` for the view of another system that cannot be read, with the words that cannot; `NotFound` for a table of it that is
/// gone; `InvalidInput` for a view that is defined by itself.
pub(crate) async fn plan_view(session_state: &SessionState, table: &Table, presto_name: &str) -> Result<LogicalPlan> {
    let name = definition::name(table);
    let mut around = AROUND.try_with(Vec::clone).unwrap_or_default();
    if around.contains(&name) {
        around.push(name.clone());
        return Err(Error::invalid_input(format!("{name} is defined by itself: {}", around.join(" → "))));
    }
    if around.len() == DEPTH_MAX {
        return Err(Error::invalid_input(format!("{name} is more than {DEPTH_MAX} views deep")));
    }
    around.push(name.clone());
    let definition = Definition::of(table, presto_name).map_err(|error| error.context(&name))?;
    let in_context = |error: Error| unread(error, &name, definition.owner);
    let state = state_for(session_state, &definition);
    let floats_are_decimals = state.config_options().sql_parser.parse_float_as_decimal;
    let statement = words::statement(&definition, floats_are_decimals).map_err(in_context)?;
    let plan = AROUND.scope(around, planned(&state, statement, &definition)).await.map_err(in_context)?;
    let plan = match definition.is_flink && !flink::is_spoken(session_state.config()) {
        true => flink::for_others(plan).map_err(in_context)?,
        false => plan,
    };
    named(plan, &definition).map_err(in_context)
}

/// Plans what the view of this name is to become: it is not planned again inside.
pub(super) async fn within<T>(database: &str, table: &str, planning: impl Future<Output = T>) -> T {
    AROUND.scope(vec![definition::name_of(database, table)], planning).await
}

/// The session's state with what names and functions mean to the view's owner.
fn state_for(session_state: &SessionState, definition: &Definition<'_>) -> SessionState {
    let is_spark = session_state.config_options().sql_parser.dialect == Dialect::Spark;
    let mut builder = SessionStateBuilder::new_from_existing(session_state.clone());
    if definition.dialect == Dialect::Spark {
        builder = builder.with_spark_features();
    } else if is_spark {
        builder = builder.with_expr_planners(SessionStateDefaults::default_expr_planners());
        let scalar = builder.scalar_functions().get_or_insert_default();
        scalar.extend(SessionStateDefaults::default_scalar_functions());
        let aggregate = builder.aggregate_functions().get_or_insert_default();
        aggregate.extend(SessionStateDefaults::default_aggregate_functions());
        let window = builder.window_functions().get_or_insert_default();
        window.extend(SessionStateDefaults::default_window_functions());
    }
    let planner: Option<Arc<dyn ExprPlanner>> = match definition.owner {
        Owner::Tereza => None,
        Owner::Presto => Some(Arc::new(PrestoCast)),
        Owner::Spark | Owner::Hive => Some(Arc::new(SparkDivision { is_ansi: definition.is_ansi })),
    };
    if let Some(planner) = planner {
        builder.expr_planners().get_or_insert_default().insert(0, planner);
    }
    let mut state = builder.build();
    match flink::is_spoken(state.config()) {
        true => flink::register_functions(&mut state),
        false if definition.is_flink => state = flink::speaking(&state),
        false => {}
    }
    let options = state.config_mut().options_mut();
    options.catalog.default_catalog.clone_from(&definition.catalog);
    options.catalog.default_schema.clone_from(&definition.schema);
    options.sql_parser.dialect = definition.dialect;
    if definition.owner != Owner::Tereza {
        options.sql_parser.parse_float_as_decimal = true;
    }
    state
}

async fn planned(state: &SessionState, statement: Statement, definition: &Definition<'_>) -> Result<LogicalPlan> {
    let references = state.resolve_table_references(&statement).map_err(from_datafusion)?;
    if definition.owner != Owner::Tereza {
        check_catalogs(&references, definition)?;
    }
    let plan = match state.statement_to_plan(statement).await {
        Ok(plan) => plan,
        Err(error) => return Err(missing(from_datafusion(error), &references)),
    };
    // The text may be another system's: nothing but a query may hide in it.
    match plan {
        LogicalPlan::Ddl(_)
        | LogicalPlan::Dml(_)
        | LogicalPlan::Copy(_)
        | LogicalPlan::Statement(_)
        | LogicalPlan::Explain(_)
        | LogicalPlan::Analyze(_)
        | LogicalPlan::DescribeTable(_) => Err(Error::invalid_input("it is not a query")),
        plan => Ok(plan),
    }
}

/// Refuses tables of catalogs that are not there, and what is a file here and nothing to the owner.
fn check_catalogs(references: &[TableReference], definition: &Definition<'_>) -> Result<()> {
    for reference in references {
        let catalog = reference.catalog().unwrap_or(&definition.catalog);
        if Home::of(catalog) == Home::Session {
            return Err(Error::unsupported(format!("catalog '{catalog}'")));
        }
        if is_path(reference.table()) {
            return Err(Error::unsupported(format!("a table of files, '{}'", reference.table())));
        }
    }
    Ok(())
}

/// An error of planning, which has its own kind where a table is gone.
fn missing(error: Error, references: &[TableReference]) -> Error {
    let is_table = |reference: &TableReference| error.message().contains(&format!("{}' not found", reference.table()));
    match error.kind() == ErrorKind::InvalidInput && error.message().starts_with("table '") {
        true if references.iter().any(is_table) => Error::new(ErrorKind::NotFound, error.message()),
        _ => error,
    }
}

/// An error of a view in its words: what is wrong in the view of another system is what this one cannot read.
fn unread(error: Error, name: &str, owner: Owner) -> Error {
    let is_unread = matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported);
    // Those of a view inside name it.
    if owner == Owner::Tereza || !is_unread || error.message().starts_with("view ") {
        return error.context(name);
    }
    let place = error.location();
    let place = place.map_or_else(String::new, |place| format!(" (line {}, column {})", place.line, place.column));
    let unread = Error::unsupported(format!("{name} of {owner}: {}{place}", error.message()));
    match error.hint() {
        Some(hint) => unread.with_hint(hint),
        None => unread,
    }
}

/// The plan with the names that the view gives its columns, and with their types where another system counted them.
fn named(plan: LogicalPlan, definition: &Definition<'_>) -> Result<LogicalPlan> {
    let columns: &[Column] = &definition.columns;
    // Views of some systems keep no columns.
    if columns.is_empty() {
        return Ok(plan);
    }
    let places = places(&plan, definition)?;
    let fields = plan.schema().fields();
    let is_same = |(place, column): (&usize, &Column)| fields.get(*place).is_some_and(|f| *f.name() == column.name);
    let sources = plan.schema().columns();
    let is_own = definition.owner == Owner::Tereza;
    if is_own && places.iter().zip(columns).all(is_same) {
        return Ok(plan);
    }
    let mut projection = Vec::with_capacity(columns.len());
    for (place, column) in places.into_iter().zip(columns) {
        let value = Expr::Column(sources[place].clone());
        let value = if is_own { value } else { typed(value, fields[place].data_type(), column)? };
        projection.push(value.alias(&column.name));
    }
    LogicalPlanBuilder::from(plan).project(projection).and_then(LogicalPlanBuilder::build).map_err(from_datafusion)
}

/// Which columns of the query are the view's.
fn places(plan: &LogicalPlan, definition: &Definition<'_>) -> Result<Vec<usize>> {
    let fields = plan.schema().fields();
    let (columns, picked) = (&definition.columns, &definition.picked);
    if picked.len() == columns.len() {
        // Others may have come to the table since, if all are selected.
        let place = |name: &&str| {
            let mut found = fields.iter().enumerate().filter(|(_, field)| field.name().eq_ignore_ascii_case(name));
            found.next().filter(|_| found.next().is_none()).map(|(place, _)| place)
        };
        if let Some(places) = picked.iter().map(place).collect::<Option<Vec<_>>>() {
            return Ok(places);
        }
    }
    if fields.len() != columns.len() {
        let (wanted, found) = (columns.len(), fields.len());
        return Err(Error::invalid_input(format!("it has {wanted} columns, and its query has {found} now"))
            .with_hint("CREATE OR REPLACE VIEW makes it again"));
    }
    Ok((0..columns.len()).collect())
}

/// A column in the type that the view says.
fn typed(value: Expr, found: &DataType, column: &Column) -> Result<Expr> {
    let wanted = arrow_type(&column.type_name).map_err(|error| error.context(format!("column '{}'", column.name)))?;
    if *found == wanted || wanted == DataType::Null || (is_text(found) && is_text(&wanted)) {
        return Ok(value);
    }
    if !can_cast_types(found, &wanted) {
        let Column { name, type_name, .. } = column;
        return Err(Error::unsupported(format!("column '{name}' is {type_name}, and here {found}")));
    }
    Ok(cast(value, wanted))
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

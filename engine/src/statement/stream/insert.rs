//! An INSERT as what the job of a stream does.

use std::sync::Arc;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Column, DFSchema, ScalarValue, TableReference};
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, WriteOp};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{Insert, Statement as SqlStatement, TableObject};
use tereza_runtime::{Error, ErrorKind, Result};

use super::hints::Hints;
use super::{Piece, StreamStatement, kept};
use crate::error::from_datafusion;
use crate::flink::{Sink, StreamInsert, StreamPlan, StreamSource};
use crate::session::{Session, USER_CATALOG};
use crate::statement::parse::{Home, Own, Parsed, Scope, TableName, Text};
use crate::statement::{Planner, errors};

/// The setting that says whether queries of streams end.
const RUNTIME_MODE: &str = "execution.runtime-mode";

/// What a statement of DataFusion's is.
pub(in crate::statement) enum Inserted {
    /// The job of a stream.
    Stream(Box<Planned>),
    /// EXPLAIN of that.
    Explained(Box<Planned>),
    /// Something else.
    Other(Box<LogicalPlan>),
}

/// An INSERT of a stream job, and the streams that it reads.
pub(in crate::statement) struct Planned {
    pub(in crate::statement) insert: StreamInsert,
    pub(super) sources: Vec<StreamSource>,
}

/// Plans a statement of DataFusion's.
pub(in crate::statement) async fn inserted(planner: &Planner<'_>, statement: Statement) -> Result<Inserted> {
    let is_batch = planner.session.stream_setting(RUNTIME_MODE).is_some_and(|mode| mode.eq_ignore_ascii_case("batch"));
    let hints = || Hints::of(planner.session, planner.text);
    if let Statement::Explain(explain) = &statement
        && let Some(insert) = insert_of(&explain.statement)
    {
        let planned = match target(planner, insert, &hints()?).await? {
            Some(sink) => Some(into_stream(planner, insert, sink, hints()?).await?),
            None if is_batch => None,
            None => match into_table(planner, explain.statement.as_ref().clone(), hints()?).await? {
                Inserted::Stream(planned) => Some(*planned),
                _ => None,
            },
        };
        match planned {
            Some(_) if explain.options.analyze => {
                return Err(Error::unsupported("EXPLAIN ANALYZE of the job of a stream"));
            }
            Some(planned) => return Ok(Inserted::Explained(Box::new(planned))),
            None => {}
        }
    }
    let hints = hints()?;
    if let Some(insert) = insert_of(&statement) {
        if let Some(sink) = target(planner, insert, &hints).await? {
            return Ok(Inserted::Stream(Box::new(into_stream(planner, insert, sink, hints).await?)));
        }
        if !is_batch {
            return into_table(planner, statement, hints).await;
        }
    }
    let (plan, _) = planner.logical_in(hints.state(planner.session), statement).await?;
    Ok(Inserted::Other(Box::new(plan)))
}

/// Plans an INSERT or a statement set for the job of a stream.
pub(crate) async fn plan_stream_inserts(session: &Arc<Session>, sql: &str) -> Result<Vec<StreamInsert>> {
    let text = Text::new(sql, Scope::of(session))?;
    let parsed = text.parse()?;
    let planner = Planner { session, text: &text, parameters: None };
    let planned = match parsed {
        Parsed::Own(Own::Stream(statement)) => match *statement {
            StreamStatement::Inserts(pieces) => plan_inserts(&planner, &pieces).await?,
            _ => return Err(no_job()),
        },
        Parsed::DataFusion(statement) => vec![planned(&planner, statement).await?],
        Parsed::Own(_) => return Err(no_job()),
    };
    Ok(planned.into_iter().map(|planned| planned.insert).collect())
}

/// Plans the INSERTs of one job.
pub(in crate::statement) async fn plan_inserts(planner: &Planner<'_>, pieces: &[Piece]) -> Result<Vec<Planned>> {
    let mut inserts = Vec::with_capacity(pieces.len());
    for piece in pieces {
        inserts.push(piece_planned(planner, piece).await.map_err(|error| piece.in_statement(error))?);
    }
    Ok(inserts)
}

async fn piece_planned(planner: &Planner<'_>, piece: &Piece) -> Result<Planned> {
    let text = Text::new(&piece.sql, planner.text.scope.clone())?;
    let Parsed::DataFusion(statement) = text.parse()? else { return Err(no_job()) };
    planned(&Planner { session: planner.session, text: &text, parameters: None }, statement).await
}

/// Plans one INSERT, which is a stream job whatever it reads and writes.
async fn planned(planner: &Planner<'_>, statement: Statement) -> Result<Planned> {
    let Some(insert) = insert_of(&statement) else { return Err(no_job()) };
    let hints = Hints::of(planner.session, planner.text)?;
    if let Some(sink) = target(planner, insert, &hints).await? {
        return into_stream(planner, insert, sink, hints).await;
    }
    match into_table(planner, statement, hints).await? {
        Inserted::Stream(planned) => Ok(*planned),
        _ => Err(Error::invalid_input("the INSERT of a stream job neither reads nor writes a stream")),
    }
}

fn no_job() -> Error {
    Error::invalid_input("the job of a stream is an INSERT or a statement set")
}

fn insert_of(statement: &Statement) -> Option<&Insert> {
    match statement {
        Statement::Statement(statement) => match statement.as_ref() {
            SqlStatement::Insert(insert) => Some(insert),
            _ => None,
        },
        _ => None,
    }
}

/// The stream that an INSERT writes; `None` if it writes something else.
async fn target(planner: &Planner<'_>, insert: &Insert, hints: &Hints) -> Result<Option<StreamSource>> {
    let TableObject::TableName(name) = &insert.table else { return Ok(None) };
    let scope = &planner.text.scope;
    let name = scope.table(scope.parts(name)?)?;
    let found = match name.home() {
        Home::Tereza => match kept::find(planner.session, &name).await {
            // The planner says it with the place.
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            found => found?,
        },
        Home::Session | Home::ReadOnly => None,
    };
    let Some(definition) = found else {
        if !hints.target.is_empty() {
            return Err(Error::unsupported(format!("the hint OPTIONS on {name}, which is no stream")));
        }
        return Ok(None);
    };
    let (engine, state) = (&planner.session.engine, planner.session.context.state());
    StreamSource::plan(engine, name.to_string(), definition, Some(&hints.target), &state).map(Some)
}

/// An INSERT into a stream.
async fn into_stream(planner: &Planner<'_>, insert: &Insert, sink: StreamSource, hints: Hints) -> Result<Planned> {
    let refuse = |what: &str| Err(Error::unsupported(format!("{what} into {}, the table of a stream", sink.name())));
    if insert.overwrite {
        return refuse("INSERT OVERWRITE");
    }
    if insert.partitioned.is_some() {
        return refuse("INSERT with PARTITION");
    }
    if insert.replace_into || insert.on.is_some() || insert.returning.is_some() {
        return refuse("INSERT with REPLACE, ON or RETURNING");
    }
    let Some(query) = &insert.source else { return refuse("INSERT without a query") };
    let columns = insert.columns.iter().map(|column| planner.text.scope.parts(column).map(|parts| parts.join(".")));
    let columns = columns.collect::<Result<Vec<String>>>()?;
    let state = hints.state(planner.session);
    let query = Statement::Statement(Box::new(SqlStatement::Query(query.clone())));
    let (plan, references) = planner.logical_in(state.clone(), query).await?;
    check(planner, &references)?;
    let sources = streams_of(&plan)?;
    let plan = projected(plan, &sink, &columns)?;
    let plan = match sources.is_empty() {
        true => StreamPlan::of_tables(&state, plan)?,
        false => StreamPlan::new(&state, plan)?,
    };
    Ok(Planned { insert: StreamInsert { plan, sink: Sink::Stream(Arc::new(sink)) }, sources })
}

/// An INSERT into a table of files: a job if it reads a stream.
async fn into_table(planner: &Planner<'_>, statement: Statement, hints: Hints) -> Result<Inserted> {
    let state = hints.state(planner.session);
    let (plan, references) = planner.logical_in(state.clone(), statement).await?;
    let sources = streams_of(&plan)?;
    let LogicalPlan::Dml(dml) = &plan else { return Ok(Inserted::Other(Box::new(plan))) };
    if sources.is_empty() {
        return Ok(Inserted::Other(Box::new(plan)));
    }
    let TableName { catalog, schema, table } = planner.resolve(&dml.table_name);
    if catalog != USER_CATALOG {
        return Err(Error::unsupported(format!(
            "INSERT of a stream, which does not end, into {catalog}.{schema}.{table}, a table of the session"
        ))
        .with_hint("SET 'execution.runtime-mode' = 'batch' reads what is there now"));
    }
    if !matches!(dml.op, WriteOp::Insert(InsertOp::Append)) {
        return Err(Error::unsupported("INSERT OVERWRITE of a stream, which does not end")
            .with_hint("SET 'execution.runtime-mode' = 'batch' reads what is there now"));
    }
    check(planner, &references)?;
    let columns = dml.target.schema();
    let sink = Sink::Table { catalog, schema, table, columns };
    let plan = StreamPlan::new(&state, dml.input.as_ref().clone())?;
    Ok(Inserted::Stream(Box::new(Planned { insert: StreamInsert { plan, sink }, sources })))
}

/// Refuses what a job could not find again when it is started.
fn check(planner: &Planner<'_>, references: &[TableReference]) -> Result<()> {
    if !planner.text.placeholders.is_empty() {
        return Err(Error::unsupported("parameters in the job of a stream"));
    }
    if planner.session.speaks_spark() {
        return Err(Error::unsupported("the job of a stream with the functions of Spark")
            .with_hint("submit it in a session with SET tereza.dialect = 'flink'"));
    }
    for reference in references {
        let name = planner.resolve(reference);
        if Home::of(&name.catalog) == Home::Session {
            return Err(Error::unsupported(format!("{name} in the job of a stream: it ends with the session")));
        }
    }
    Ok(())
}

/// The streams that a plan reads, each once.
fn streams_of(plan: &LogicalPlan) -> Result<Vec<StreamSource>> {
    let mut found: Vec<StreamSource> = Vec::new();
    let visited = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Ok(provider) = source_as_provider(&scan.source)
            && let Some(stream) = provider.downcast_ref::<StreamSource>()
            && !found.iter().any(|known| known.name() == stream.name())
        {
            found.push(stream.clone());
        }
        Ok(TreeNodeRecursion::Continue)
    });
    visited.map_err(from_datafusion)?;
    Ok(found)
}

/// The rows of a query as the columns of a stream: by place, or by the list of INSERT.
fn projected(plan: LogicalPlan, sink: &StreamSource, listed: &[String]) -> Result<LogicalPlan> {
    let written = sink.written();
    let given = plan.schema().fields().len();
    let wanted = if listed.is_empty() { written.fields().len() } else { listed.len() };
    if given != wanted {
        return Err(Error::invalid_input(format!(
            "INSERT INTO {} has {given} values, and {wanted} columns",
            sink.name()
        )));
    }
    let mut places: Vec<Option<usize>> = vec![None; written.fields().len()];
    for (value, name) in listed.iter().enumerate() {
        let Ok(column) = written.index_of(name) else { return Err(not_written(sink, name)) };
        if places[column].replace(value).is_some() {
            return Err(Error::invalid_input(format!("column '{name}' is named twice")));
        }
    }
    if listed.is_empty() {
        places = (0..given).map(Some).collect();
    }
    let mut columns = Vec::with_capacity(places.len());
    for (field, place) in written.fields().iter().zip(places) {
        let value = match place {
            Some(place) => {
                let column = Expr::Column(Column::from(plan.schema().qualified_field(place)));
                column.cast_to(field.data_type(), plan.schema())
            }
            None if !field.is_nullable() => {
                return Err(Error::invalid_input(format!(
                    "INSERT INTO {} has no value for column '{}', which is NOT NULL",
                    sink.name(),
                    field.name()
                )));
            }
            None => Expr::Literal(ScalarValue::Null, None).cast_to(field.data_type(), &DFSchema::empty()),
        };
        let value = value.map_err(|error| from_datafusion(error).context(format!("column '{}'", field.name())))?;
        columns.push(value.alias(field.name()));
    }
    LogicalPlanBuilder::from(plan).project(columns).and_then(LogicalPlanBuilder::build).map_err(from_datafusion)
}

fn not_written(sink: &StreamSource, name: &str) -> Error {
    if sink.definition().column(name).is_some() {
        return Error::invalid_input(format!(
            "column '{name}' of {} is not written: it is computed or VIRTUAL",
            sink.name()
        ));
    }
    let error = Error::invalid_input(format!("column '{name}' not found in {}", sink.name()));
    let written = sink.written();
    errors::did_you_mean(error, name, written.fields().iter().map(|field| field.name().as_str()))
}

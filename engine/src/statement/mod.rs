//! Text to work: parses one statement, handles what is Tereza's own (DDL, SHOW, USE, ANALYZE, …) and plans the rest with
//! DataFusion.
//!
//! Files in reading order: [`parse`] (whose statement it is), this one (planning), `adapt` (temporary tables), `insert` (Hive's forms of INSERT),
//! `parameters` (`?` and `$1`), `ddl` (tables, schemas, partitions), `view`, `show` and `describe`, `analyze`, `session`
//! (USE, SET, KILL), `stream` (what Flink's words say of streams), `call` (procedures), `repeat` (what jobs may run again), `errors` (places and nearest names), `split` (scripts).
//!
//! Tables of the session (catalog `memory`) are DataFusion's own, with DataFusion's own statements; tables of catalog
//! `tereza` are kept by the metastore, and every statement on them is here. Planning reads the catalog and changes
//! nothing: what changes something is a [`Work::Task`] that runs when the result is read.

mod adapt;
mod analyze;
mod call;
mod ddl;
mod describe;
mod errors;
mod insert;
mod parameters;
mod parse;
mod repeat;
mod rewrite;
mod session;
mod show;
mod split;
mod stream;
mod view;

use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{Result as DataFusionResult, TableReference, exec_err, plan_err};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{CreateMemoryTable, DdlStatement, LogicalPlan, Statement as PlanStatement, WriteOp};
use datafusion::sql::parser::{CopyToSource, Statement};
use futures::FutureExt;
use futures::future::BoxFuture;
use tereza_runtime::{Error, Result};

pub(crate) use repeat::repeat;
pub(crate) use rewrite::rewrite as rewrite_tree;
pub(crate) use session::{memory_limit_bytes, set_option};
pub(crate) use split::{split, words};
pub(crate) use stream::plan_stream_inserts;
pub(crate) use view::{plan_view, query_text};

use crate::catalogs::SessionTable;
use crate::error::from_datafusion;
use crate::flink::{self, StreamPlan};
use crate::query::StatementKind;
use crate::session::Session;
use parse::{Home, Own, Parsed, Scope, TableName, Text, read_only};
use stream::Inserted;

/// Catalogs in which nothing can be changed.
const READ_ONLY_CATALOGS: [&str; 3] = ["tpch", "tpcds", "system"];

/// A statement that is ready to run.
pub(crate) struct Planned {
    pub(crate) kind: StatementKind,
    /// The columns of its result (before views of text are cast for clients).
    pub(crate) schema: SchemaRef,
    /// One field for each parameter in order; type Null where unknown.
    pub(crate) parameters: SchemaRef,
    pub(crate) work: Work,
}

/// What is left to do.
pub(crate) enum Work {
    /// Run this plan with the session's state.
    Plan(Box<LogicalPlan>),
    /// Do this; it returns the result's batches.
    Task(BoxFuture<'static, Result<Vec<RecordBatch>>>),
}

impl Planned {
    /// A change without rows.
    fn command(work: impl Future<Output = Result<()>> + Send + 'static) -> Self {
        Self {
            kind: StatementKind::Command,
            schema: Arc::new(Schema::empty()),
            parameters: Arc::new(Schema::empty()),
            work: Work::Task(work.map(|done| done.map(|()| Vec::new())).boxed()),
        }
    }

    /// A change of rows that is made without a plan; `work` says how many.
    fn update(work: impl Future<Output = Result<u64>> + Send + 'static) -> Self {
        let schema = Arc::new(Schema::new(vec![Field::new("count", DataType::UInt64, false)]));
        let counted = Arc::clone(&schema);
        let batch = move |rows: u64| {
            RecordBatch::try_new(counted, vec![Arc::new(UInt64Array::from(vec![rows]))])
                .map_err(|error| Error::internal(format!("a count is not a row: {error}")))
        };
        Self {
            kind: StatementKind::Update,
            schema,
            parameters: Arc::new(Schema::empty()),
            work: Work::Task(work.map(|rows| rows.and_then(batch).map(|batch| vec![batch])).boxed()),
        }
    }

    /// Rows that are made without a plan.
    fn rows(schema: SchemaRef, work: impl Future<Output = Result<RecordBatch>> + Send + 'static) -> Self {
        Self {
            kind: StatementKind::Query,
            schema,
            parameters: Arc::new(Schema::empty()),
            work: Work::Task(work.map(|rows| rows.map(|rows| vec![rows])).boxed()),
        }
    }
}

/// Parses and plans one statement without running anything. With `parameters`, placeholders are replaced.
pub(crate) async fn plan(session: &Arc<Session>, sql: &str, parameters: Option<&RecordBatch>) -> Result<Planned> {
    let text = Text::new(sql, Scope::of(session))?;
    let parsed = text.parse()?;
    Planner { session, text: &text, parameters }.plan_parsed(parsed).await
}

/// Plans a query for a stream job.
pub(crate) async fn plan_stream(session: &Arc<Session>, sql: &str) -> Result<StreamPlan> {
    let text = Text::new(sql, Scope::of(session))?;
    let Parsed::DataFusion(statement) = text.parse()? else {
        return Err(Error::invalid_input("a stream job is an INSERT of a query"));
    };
    let planner = Planner { session, text: &text, parameters: None };
    let plan = planner.logical(statement).await?;
    StreamPlan::new(&session.state(), plan)
}

/// What planning one statement needs.
struct Planner<'a> {
    session: &'a Arc<Session>,
    text: &'a Text,
    parameters: Option<&'a RecordBatch>,
}

impl Planner<'_> {
    /// Plans the statement of the text.
    async fn plan_parsed(&self, parsed: Parsed) -> Result<Planned> {
        match parsed {
            Parsed::DataFusion(statement) => self.plan(statement).await,
            Parsed::Own(own) => match own {
                Own::Ddl(ddl) => ddl.plan(self).await,
                Own::CreateView(create) => create.plan(self).await,
                Own::DropView(drop) => drop.plan(self).await,
                Own::Show(show) => show.plan(self).await,
                Own::Describe(describe) => describe.plan(self).await,
                Own::Analyze(analyze) => analyze.plan(self),
                Own::Call(call) => call.plan(self),
                Own::Session(statement) => statement.plan(self).await,
                Own::Stream(statement) => statement.plan(self).await,
            },
        }
    }

    /// Plans the statement of the text as one that is not about streams.
    async fn plan_otherwise(&self) -> Result<Planned> {
        let parsed = self.text.parse_otherwise()?;
        Box::pin(self.plan_parsed(parsed)).await
    }

    /// Plans one of DataFusion's statements.
    async fn plan(&self, statement: Statement) -> Result<Planned> {
        match stream::inserted(self, statement).await? {
            Inserted::Stream(insert) => stream::submit(self, vec![*insert]).await,
            Inserted::Explained(insert) => stream::explain(self, vec![*insert]).await,
            Inserted::Other(plan) => self.finish(*plan).await,
        }
    }

    /// Plans a text of Tereza's own making.
    async fn plan_text(&self, sql: &str) -> Result<Planned> {
        let text = Text::new(sql, self.text.scope.clone())?;
        let statement = text.datafusion(text.tokens.clone())?;
        Planner { session: self.session, text: &text, parameters: None }.plan(statement).await
    }

    /// The logical plan of one of DataFusion's statements, with the placeholders still in it.
    async fn logical(&self, statement: Statement) -> Result<LogicalPlan> {
        Ok(self.logical_in(self.session.context.state(), statement).await?.0)
    }

    /// The same with the tables that a state knows, and the names of those that the statement says.
    async fn logical_in(
        &self,
        state: SessionState,
        statement: Statement,
    ) -> Result<(LogicalPlan, Vec<TableReference>)> {
        let statement = insert::rewrite(self.session, self.text, statement).await?;
        let mut statement = adapt::adapt(&self.text.scope, statement)?;
        rewrite_all(&mut statement, self.text.scope.floats_are_decimals)?;
        if self.text.scope.is_flink {
            flink::rewrite(&mut statement)?;
        }
        let references = state.resolve_table_references(&statement).map_err(from_datafusion)?;
        let current = state.config_options().catalog.default_schema.as_str();
        if references.iter().any(|reference| reference.schema().unwrap_or(current) == "information_schema") {
            self.session.refresh_names().await?;
        }
        match state.statement_to_plan(statement).await {
            Ok(plan) => Ok((plan, references)),
            Err(error) => Err(errors::of_planning(self.session, self.text, error).await),
        }
    }

    /// What runs a logical plan.
    async fn finish(&self, plan: LogicalPlan) -> Result<Planned> {
        // What PREPARE's statement has for parameters is EXECUTE's business, not the client's.
        let prepares = matches!(plan, LogicalPlan::Statement(PlanStatement::Prepare(_)));
        let names: &[String] = if prepares { &[] } else { &self.text.placeholders };
        let parameters = parameters::fields(&plan, names)?;
        let plan = match self.parameters {
            Some(values) if !prepares => parameters::bind(plan, names, &parameters, values)?,
            _ => plan,
        };
        let planned = match plan {
            LogicalPlan::Statement(PlanStatement::SetVariable(set)) => {
                let session = Arc::clone(self.session);
                Planned::command(async move { session::set(&session, &set.variable, &set.value).await })
            }
            LogicalPlan::Statement(PlanStatement::ResetVariable(reset)) => {
                let session = Arc::clone(self.session);
                Planned::command(async move { session::reset(&session, &reset.variable).await })
            }
            plan @ LogicalPlan::Statement(PlanStatement::Execute(_)) => {
                let frame = self.session.context.execute_logical_plan(plan).await.map_err(errors::of_command)?;
                planned(frame.into_unoptimized_plan())
            }
            plan @ LogicalPlan::Statement(_) => self.datafusion_command(plan),
            LogicalPlan::Ddl(ddl) => {
                self.allow_ddl(&ddl)?;
                match &ddl {
                    DdlStatement::CreateMemoryTable(create)
                        if !matches!(*create.input, LogicalPlan::EmptyRelation(_)) =>
                    {
                        self.create_in_memory(create.clone())
                    }
                    _ => self.datafusion_command(LogicalPlan::Ddl(ddl)),
                }
            }
            plan => {
                self.allow_dml(&plan)?;
                planned(plan)
            }
        };
        Ok(Planned { parameters, ..planned })
    }

    fn datafusion_command(&self, plan: LogicalPlan) -> Planned {
        let session = Arc::clone(self.session);
        Planned::command(async move {
            let frame = session.context.execute_logical_plan(plan).await.map_err(errors::of_command)?;
            frame.collect().await.map_err(from_datafusion)?;
            Ok(())
        })
    }

    /// CREATE TABLE AS in the session's own catalog: an update like any other, of as many rows as the table has then.
    fn create_in_memory(&self, create: CreateMemoryTable) -> Planned {
        let session = Arc::clone(self.session);
        Planned::update(async move { create_in_memory(&session, create).await.map_err(errors::of_command) })
    }

    /// DataFusion's DDL reaches only what the session keeps.
    fn allow_ddl(&self, ddl: &DdlStatement) -> Result<()> {
        let name = match ddl {
            DdlStatement::CreateExternalTable(create) => &create.name,
            DdlStatement::CreateMemoryTable(create) => &create.name,
            DdlStatement::CreateView(create) => &create.name,
            DdlStatement::CreateIndex(create) => &create.table,
            DdlStatement::DropTable(drop) => &drop.name,
            DdlStatement::DropView(drop) => &drop.name,
            _ => return Ok(()),
        };
        let table = self.resolve(name);
        match table.home() {
            Home::Session => Ok(()),
            Home::ReadOnly => Err(read_only(&table.to_string(), ddl.name())),
            Home::Tereza => Err(Error::unsupported(format!("this form of {} on {table}", ddl.name()))),
        }
    }

    /// DataFusion's DML reaches only tables whose files or rows can be changed that way.
    fn allow_dml(&self, plan: &LogicalPlan) -> Result<()> {
        let LogicalPlan::Dml(dml) = plan else { return Ok(()) };
        let table = self.resolve(&dml.table_name);
        match (table.home(), &dml.op) {
            (Home::Session, _) | (Home::Tereza, WriteOp::Insert(InsertOp::Append | InsertOp::Overwrite)) => Ok(()),
            (Home::ReadOnly, op) => Err(read_only(&table.to_string(), &op.name().to_uppercase())),
            (Home::Tereza, op) => {
                let statement = match op {
                    WriteOp::MergeInto(_) => "MERGE".to_owned(),
                    WriteOp::Insert(_) => "REPLACE INTO".to_owned(),
                    other => other.name().to_uppercase(),
                };
                Err(Error::unsupported(format!("{statement} on {table}"))
                    .with_hint("rewrite the rows with INSERT OVERWRITE"))
            }
        }
    }

    fn resolve(&self, name: &TableReference) -> TableName {
        let resolved = name.clone().resolve(&self.text.scope.catalog, &self.text.scope.schema);
        TableName {
            catalog: resolved.catalog.to_string(),
            schema: resolved.schema.to_string(),
            table: resolved.table.to_string(),
        }
    }
}

async fn create_in_memory(session: &Session, create: CreateMemoryTable) -> DataFusionResult<u64> {
    let CreateMemoryTable { name, input, if_not_exists, or_replace, constraints, column_defaults, .. } = create;
    let context = &session.context;
    let exists = context.table_exist(name.clone())?;
    match (exists, if_not_exists, or_replace) {
        (true, true, false) => return Ok(0),
        (true, true, true) => return plan_err!("'IF NOT EXISTS' cannot coexist with 'REPLACE'"),
        (true, false, false) => return exec_err!("Table '{name}' already exists"),
        _ => {}
    }
    let mut names = HashSet::new();
    if let Some(twice) = input.schema().fields().iter().find(|field| !names.insert(field.name())) {
        return plan_err!("two columns of the query are named '{}'", twice.name());
    }
    let state = context.state();
    // Optimizing may change whether a column has NULLs.
    let input = state.optimize(&input)?;
    let plan = state.create_physical_plan(&input).await?;
    let (table, rows) = SessionTable::collect(Arc::clone(input.schema().inner()), plan, state.task_ctx()).await?;
    if or_replace {
        context.deregister_table(name.clone())?;
    }
    context.register_table(name, Arc::new(table.with(constraints, column_defaults)))?;
    Ok(rows)
}

fn rewrite_all(statement: &mut Statement, floats_are_decimals: bool) -> Result<()> {
    match statement {
        Statement::Statement(statement) => rewrite::rewrite(statement, floats_are_decimals),
        Statement::Explain(explain) => rewrite_all(&mut explain.statement, floats_are_decimals),
        Statement::CopyTo(copy) => match &mut copy.source {
            CopyToSource::Query(query) => rewrite::rewrite(query, floats_are_decimals),
            CopyToSource::Relation(_) => Ok(()),
        },
        _ => Ok(()),
    }
}

/// The kind and schema of a plan; its parameters are the caller's to set.
fn planned(plan: LogicalPlan) -> Planned {
    let kind = match &plan {
        LogicalPlan::Dml(_) | LogicalPlan::Copy(_) => StatementKind::Update,
        _ => StatementKind::Query,
    };
    Planned {
        kind,
        schema: Arc::clone(plan.schema().inner()),
        parameters: Arc::new(Schema::empty()),
        work: Work::Plan(Box::new(plan)),
    }
}

/// A schema of text columns, for SHOW and DESCRIBE.
fn text_schema(columns: &[&str]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(|name| Field::new(*name, DataType::Utf8, true)).collect::<Vec<_>>()))
}

/// Rows of text for [`text_schema`].
fn text_rows(schema: &SchemaRef, rows: &[Vec<Option<String>>]) -> Result<RecordBatch> {
    let columns = (0..schema.fields().len())
        .map(|column| {
            let values: StringArray = rows.iter().map(|row| row.get(column).and_then(Option::as_deref)).collect();
            Arc::new(values) as ArrayRef
        })
        .collect();
    RecordBatch::try_new(Arc::clone(schema), columns)
        .map_err(|error| Error::internal(format!("rows of a listing do not fit its columns: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gateways plan on any thread.
    fn is_send<T: Send>(_: &T) {}

    #[expect(dead_code, reason = "it is enough that it compiles")]
    fn planning_can_be_sent(session: &Arc<Session>) {
        is_send(&plan(session, "", None));
        is_send(&set_option(session, "", ""));
    }
}

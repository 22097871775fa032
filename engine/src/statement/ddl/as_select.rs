//! CREATE TABLE AS: the new table is the target of an INSERT, and the commit of its rows makes it.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session as DataFusionSession, TableProvider};
use datafusion::datasource::provider_as_source;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{DmlStatement, Expr, LogicalPlan, LogicalPlanBuilder, TableType, WriteOp, cast};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{Query, Statement as SqlStatement};
use tereza_catalog::model::{Column, Table};
use tereza_runtime::{Error, Result};

use super::files;
use super::table::{CreateTable, free_location};
use crate::engine::Engine;
use crate::error::{from_datafusion, to_datafusion};
use crate::statement::{Planned, Planner};
use crate::types::{hive_type, table_fields};
use crate::write;

/// Plans `CREATE TABLE … AS query`.
pub(super) async fn plan(create: CreateTable, query: Box<Query>, planner: &Planner<'_>) -> Result<Planned> {
    let session = planner.session;
    let Some(database) = create.target(session).await? else { return Ok(Planned::update(async { Ok(0) })) };
    let rows = planner.logical(Statement::Statement(Box::new(SqlStatement::Query(query)))).await?;
    let (columns, keys) = create.split(columns(&create, &rows)?)?;
    let mut table = create.table(session, columns, keys)?;
    table.storage.location = Some(match &table.storage.location {
        None => free_location(session, &database, &table.name).await?,
        Some(location) => {
            let place = session.engine.stores.place(location)?;
            files::require_folder(&place).await?;
            if !files::is_empty(&place).await? {
                return Err(Error::already_exists(format!(
                    "files are at '{location}' already, which would become rows of the table"
                ))
                .with_hint("choose an empty folder"));
            }
            location.clone()
        }
    });
    if create.no_data {
        let session = Arc::clone(session);
        return Ok(Planned::update(async move { session.engine.catalog.create_table(&table).await.map(|()| 0) }));
    }
    let rows = by_position(&create, rows, &table)?;
    let target = NewTable { engine: Arc::clone(&session.engine), schema: Arc::clone(rows.schema().inner()), table };
    let insert = DmlStatement::new(
        create.head.name.reference(),
        provider_as_source(Arc::new(target)),
        WriteOp::Insert(InsertOp::Append),
        Arc::new(rows),
    );
    planner.finish(LogicalPlan::Dml(insert)).await
}

/// The columns of the query's result, with the names that the statement gives them.
fn columns(create: &CreateTable, rows: &LogicalPlan) -> Result<Vec<Column>> {
    let fields = rows.schema().fields();
    if !create.column_names.is_empty() && create.column_names.len() != fields.len() {
        return Err(Error::invalid_input(format!(
            "table {} names {} columns, and its query has {}",
            create.head.name,
            create.column_names.len(),
            fields.len()
        )));
    }
    let mut columns: Vec<Column> = Vec::with_capacity(fields.len());
    for (position, field) in fields.iter().enumerate() {
        let name = create.column_names.get(position).cloned().unwrap_or_else(|| field.name().to_lowercase());
        if columns.iter().any(|column| column.name == name) {
            return Err(Error::invalid_input(format!("two columns of the query are named '{name}'"))
                .with_hint("give one of them another name with AS"));
        }
        let type_name = hive_type(field.data_type()).map_err(|error| {
            error.context(format!("column '{name}'")).with_hint("CAST it to a type that a table can have")
        })?;
        columns.push(Column { name, type_name, comment: None });
    }
    Ok(columns)
}

/// The rows in the order of the table (columns, then partition keys) and in its types.
fn by_position(create: &CreateTable, rows: LogicalPlan, table: &Table) -> Result<LogicalPlan> {
    let (columns, keys) = table_fields(table)?;
    let sources = rows.schema().columns();
    let names: Vec<String> = match create.column_names.as_slice() {
        [] => sources.iter().map(|column| column.name.to_lowercase()).collect(),
        names => names.to_vec(),
    };
    let projection = columns
        .fields()
        .iter()
        .chain(&keys)
        .map(|field| {
            let Some(position) = names.iter().position(|name| name == field.name()) else {
                return Err(Error::internal(format!("column '{}' of a new table is not in its query", field.name())));
            };
            let value = Expr::Column(sources[position].clone());
            let same = rows.schema().field(position).data_type() == field.data_type();
            Ok(if same { value } else { cast(value, field.data_type().clone()) }.alias(field.name()))
        })
        .collect::<Result<Vec<_>>>()?;
    LogicalPlanBuilder::from(rows).project(projection).and_then(LogicalPlanBuilder::build).map_err(from_datafusion)
}

/// A table that its first rows make: it can be written and nothing else.
struct NewTable {
    engine: Arc<Engine>,
    schema: SchemaRef,
    table: Table,
}

impl fmt::Debug for NewTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewTable")
            .field("database", &self.table.database)
            .field("name", &self.table.name)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl TableProvider for NewTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _state: &dyn DataFusionSession,
        _projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        Err(DataFusionError::Plan(format!("table {} is read before it is made", self.table.name)))
    }

    async fn insert_into(
        &self,
        state: &dyn DataFusionSession,
        input: Arc<dyn ExecutionPlan>,
        _op: InsertOp,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let target = write::Target::New(self.table.clone());
        write::plan(&self.engine, state.config(), target, write::Mode::Append, input).map_err(to_datafusion)
    }
}

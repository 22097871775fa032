//! Views: stored as the text of their query and what unqualified names in it meant, planned again at each use.

use std::ops::ControlFlow;
use std::str::FromStr;
use std::sync::Arc;

use datafusion::common::DFSchema;
use datafusion::common::config::Dialect;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{DdlStatement, DropView as DataFusionDrop, Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::parser::Statement;
use datafusion::sql::resolve::resolve_table_references;
use datafusion::sql::sqlparser::ast::{Query, Statement as SqlStatement, visit_relations_mut};
use datafusion::sql::sqlparser::tokenizer::Token;
use tereza_catalog::model::{Column, Parameters, Storage, Table, TableKind};
use tereza_runtime::{Error, ErrorKind, Result};

use super::adapt::quoted;
use super::ddl::properties;
use super::errors;
use super::parse::{Home, Reader, SchemaName, TableName, Text, read_only};
use super::rewrite_all;
use super::{Planned, Planner};
use crate::error::from_datafusion;
use crate::session::{Session, USER_CATALOG};
use crate::syntax::Places;
use crate::types::hive_type;

/// Parameters of a view that Tereza made: what its text's names mean, and how it is read.
const CATALOG: &str = "tereza.view.catalog";
const SCHEMA: &str = "tereza.view.schema";
const DIALECT: &str = "tereza.view.dialect";

/// Views of views, and no deeper.
const DEPTH_MAX: usize = 16;

tokio::task_local! {
    /// How many views are being planned around this one.
    static DEPTH: usize;
}

/// `CREATE [OR REPLACE] VIEW [IF NOT EXISTS] name [(column [COMMENT '…'], …)] [COMMENT '…'] [TBLPROPERTIES (…)] AS query`
pub(super) struct CreateView {
    name: TableName,
    or_replace: bool,
    if_not_exists: bool,
    columns: Vec<(String, Option<String>)>,
    parameters: Parameters,
    query: Box<Query>,
    /// The query as it was written.
    text: String,
}

impl CreateView {
    /// Whether it may be done twice.
    pub(super) fn is_repeatable(&self) -> bool {
        self.or_replace || self.if_not_exists
    }

    pub(super) fn parse(
        reader: &mut Reader<'_>,
        name: TableName,
        or_replace: bool,
        if_not_exists: bool,
    ) -> Result<Self> {
        if or_replace && if_not_exists {
            return Err(Error::invalid_input("OR REPLACE and IF NOT EXISTS exclude each other"));
        }
        let mut columns = Vec::new();
        if reader.at_token(&Token::LParen) {
            columns = reader.list(|reader| {
                let column = reader.identifier()?.to_lowercase();
                let comment = if reader.take("COMMENT") { Some(reader.text()?) } else { None };
                Ok((column, comment))
            })?;
        }
        let mut parameters = Parameters::new();
        loop {
            match reader.take_one(&["COMMENT", "TBLPROPERTIES", "AS"]) {
                Some("COMMENT") => {
                    let comment = reader.text()?;
                    parameters.insert("comment".into(), comment);
                }
                Some("TBLPROPERTIES") => {
                    for (key, value) in properties(reader)? {
                        let value = value.text(&key)?;
                        parameters.insert(key, value);
                    }
                }
                Some(_) => break,
                None => return Err(reader.expected("AS")),
            }
        }
        if !reader.text.placeholders.is_empty() {
            return Err(Error::invalid_input("a view cannot have parameters"));
        }
        let text = rest(reader);
        Ok(Self { name, or_replace, if_not_exists, columns, parameters, query: reader.query()?, text })
    }

    /// Planned now, so that a wrong query is refused, and its columns are known to the catalog.
    pub(super) async fn plan(self, planner: &Planner<'_>) -> Result<Planned> {
        let session = Arc::clone(planner.session);
        let schema = SchemaName { catalog: self.name.catalog.clone(), schema: self.name.schema.clone() };
        errors::database(&session, &schema).await?;
        let existing = match session.engine.catalog.table(&self.name.schema, &self.name.table).await {
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            found => Some(found?),
        };
        if let Some(existing) = &existing {
            let view = existing.table.kind == TableKind::View;
            match (view, self.if_not_exists, self.or_replace) {
                (_, true, _) => return Ok(Planned::command(async { Ok(()) })),
                (true, _, true) => {}
                (true, _, false) => return Err(Error::already_exists(format!("view {} exists already", self.name))),
                (false, ..) => {
                    return Err(Error::already_exists(format!("{} exists already, and is a table", self.name)));
                }
            }
        }
        let statement = Statement::Statement(Box::new(SqlStatement::Query(self.query.clone())));
        let expanded = self.expanded(planner.text, &statement)?;
        let plan = planner.logical(statement).await?;
        let columns = self.columns(&plan)?;
        let table = self.table(planner, columns, expanded);
        Ok(Planned::command(async move {
            let store = &session.engine.catalog;
            match existing {
                Some(found) => store.alter_table(&table.database, &table.name, Some(found.version), &table).await,
                None => store.create_table(&table).await,
            }
        }))
    }

    /// The query with every name spelled out, for other systems; names that the session alone knows are refused.
    fn expanded(&self, text: &Text, statement: &Statement) -> Result<String> {
        let (references, expressions) =
            resolve_table_references(statement, text.scope.normalize).map_err(from_datafusion)?;
        for reference in &references {
            let parts = [reference.catalog(), reference.schema(), Some(reference.table())];
            let table = text.scope.table(parts.into_iter().flatten().map(str::to_owned).collect())?;
            if table.home() == Home::Session {
                return Err(Error::invalid_input(format!(
                    "view {} would outlive {table}, a table of the session",
                    self.name
                )));
            }
            if table == self.name {
                return Err(Error::invalid_input(format!("view {} would be defined by itself", self.name)));
            }
        }
        let mut query = self.query.clone();
        let visited = visit_relations_mut(&mut query, |name| {
            let spelled = text.scope.parts(name).and_then(|parts| {
                let expression =
                    matches!(parts.as_slice(), [name] if expressions.iter().any(|known| known.table() == name));
                // A path of files is no name to be spelled out.
                let path = parts.iter().any(|part| part.contains('/'));
                if expression || path { Ok(None) } else { text.scope.table(parts).map(Some) }
            });
            match spelled {
                Ok(Some(table)) => *name = quoted(&table),
                Ok(None) => {}
                Err(error) => return ControlFlow::Break(error),
            }
            ControlFlow::Continue(())
        });
        match visited {
            ControlFlow::Continue(()) => Ok(query.to_string()),
            ControlFlow::Break(error) => Err(error),
        }
    }

    fn columns(&self, plan: &LogicalPlan) -> Result<Vec<Column>> {
        let fields = plan.schema().fields();
        if !self.columns.is_empty() && self.columns.len() != fields.len() {
            return Err(Error::invalid_input(format!(
                "view {} names {} columns, and its query has {}",
                self.name,
                self.columns.len(),
                fields.len()
            )));
        }
        let mut columns: Vec<Column> = Vec::with_capacity(fields.len());
        for (position, field) in fields.iter().enumerate() {
            let (name, comment) = match self.columns.get(position) {
                Some((name, comment)) => (name.clone(), comment.clone()),
                None => (field.name().to_lowercase(), None),
            };
            if columns.iter().any(|column| column.name == name) {
                return Err(Error::invalid_input(format!("two columns of view {} are named '{name}'", self.name))
                    .with_hint("give one of them another name with AS"));
            }
            let type_name = hive_type(field.data_type()).map_err(|error| {
                error.context(format!("column '{name}'")).with_hint("CAST it to a type that a table can have")
            })?;
            columns.push(Column { name, type_name, comment });
        }
        Ok(columns)
    }

    fn table(self, planner: &Planner<'_>, columns: Vec<Column>, expanded: String) -> Table {
        let scope = &planner.text.scope;
        let mut parameters = self.parameters;
        parameters.insert(CATALOG.into(), scope.catalog.clone());
        parameters.insert(SCHEMA.into(), scope.schema.clone());
        parameters.insert(DIALECT.into(), scope.dialect.to_string());
        Table {
            database: self.name.schema,
            name: self.name.table,
            kind: TableKind::View,
            owner: Some(planner.session.user.clone()),
            create_time_s: 0,
            last_access_time_s: 0,
            retention: 0,
            storage: Storage { columns, ..Storage::default() },
            partition_keys: Vec::new(),
            parameters,
            view_original_text: Some(self.text),
            view_expanded_text: Some(expanded),
            owner_kind: Default::default(),
        }
    }
}

/// The text of the statement from the reader's place on, without the `;` at its end.
fn rest(reader: &Reader<'_>) -> String {
    let sql = &reader.text.sql;
    let start = Places::new(sql).byte(reader.parser.peek_token_ref().span.start);
    let end = reader
        .text
        .tokens
        .iter()
        .rev()
        .find(|token| !matches!(token.token, Token::Whitespace(_) | Token::SemiColon | Token::EOF));
    // Spans end after the last character.
    let end = end.map_or(sql.len(), |token| Places::new(sql).byte(token.span.end));
    sql.get(start..end).unwrap_or_default().to_owned()
}

/// `DROP VIEW [IF EXISTS] name`
pub(super) struct DropView {
    name: TableName,
    if_exists: bool,
}

impl DropView {
    /// Whether it may be done twice.
    pub(super) fn is_repeatable(&self) -> bool {
        self.if_exists
    }

    pub(super) fn parse(reader: &mut Reader<'_>) -> Result<Self> {
        let if_exists = reader.take("IF EXISTS");
        let name = reader.table_name()?;
        let _ = reader.take_one(&["CASCADE", "RESTRICT"]);
        Ok(Self { name, if_exists })
    }

    pub(super) async fn plan(self, planner: &Planner<'_>) -> Result<Planned> {
        match self.name.home() {
            Home::ReadOnly => Err(read_only(&self.name.to_string(), "DROP VIEW")),
            Home::Session => {
                let drop = DataFusionDrop {
                    name: self.name.reference(),
                    if_exists: self.if_exists,
                    schema: Arc::new(DFSchema::empty()),
                };
                planner.finish(LogicalPlan::Ddl(DdlStatement::DropView(drop))).await
            }
            Home::Tereza => {
                let session = Arc::clone(planner.session);
                Ok(Planned::command(async move { self.run(&session).await }))
            }
        }
    }

    async fn run(self, session: &Session) -> Result<()> {
        let view = match errors::table(session, &self.name).await {
            Err(error) if error.kind() == ErrorKind::NotFound && self.if_exists => return Ok(()),
            found => found?.table,
        };
        if !matches!(view.kind, TableKind::View | TableKind::MaterializedView) {
            return Err(Error::invalid_input(format!("{} is a table", self.name)).with_hint("use DROP TABLE"));
        }
        session.engine.catalog.drop_table(&view.database, &view.name).await?;
        Ok(())
    }
}

/// Plans a view of the catalog: its text with the catalog, schema and dialect that it was made with. Views of other systems
/// are read with their database as the current one.
pub(crate) async fn plan_view(session_state: &SessionState, table: &Table) -> Result<LogicalPlan> {
    let depth = DEPTH.try_with(|depth| *depth).unwrap_or(0) + 1;
    let name = format!("view {}.{}", table.database, table.name);
    if depth > DEPTH_MAX {
        return Err(Error::invalid_input(format!("{name} is more than {DEPTH_MAX} views deep"))
            .with_hint("is a view defined by itself?"));
    }
    let own = table.parameters.get(CATALOG).zip(table.parameters.get(SCHEMA));
    let text = match own {
        Some(_) => table.view_original_text.as_deref(),
        None => table.view_expanded_text.as_deref().or(table.view_original_text.as_deref()),
    };
    let Some(text) = text.filter(|text| !text.trim().is_empty()) else {
        return Err(Error::invalid_input(format!("{name} has no query")));
    };
    if text.starts_with("/* Presto") || text.starts_with("/* Trino") {
        return Err(Error::unsupported(format!("{name}, which Presto encoded")));
    }
    let mut state = session_state.clone();
    let options = state.config_mut().options_mut();
    let (catalog, schema) = own.map_or((USER_CATALOG, table.database.as_str()), |(catalog, schema)| (catalog, schema));
    options.catalog.default_catalog = catalog.into();
    options.catalog.default_schema = schema.into();
    let dialect = table.parameters.get(DIALECT).map_or(Ok(Dialect::Generic), |dialect| Dialect::from_str(dialect));
    options.sql_parser.dialect = dialect.map_err(from_datafusion)?;
    let (dialect, floats_are_decimals) = (options.sql_parser.dialect, options.sql_parser.parse_float_as_decimal);
    let parsed = state.sql_to_statement(text, &dialect);
    let mut statement = parsed.map_err(|error| from_datafusion(error).context(&name))?;
    rewrite_all(&mut statement, floats_are_decimals)?;
    let planned = DEPTH.scope(depth, state.statement_to_plan(statement)).await;
    let plan = planned.map_err(|error| from_datafusion(error).context(&name))?;
    // The text may be another system's: nothing but a query may hide in it.
    if matches!(
        plan,
        LogicalPlan::Ddl(_)
            | LogicalPlan::Dml(_)
            | LogicalPlan::Copy(_)
            | LogicalPlan::Statement(_)
            | LogicalPlan::Explain(_)
            | LogicalPlan::Analyze(_)
            | LogicalPlan::DescribeTable(_)
    ) {
        return Err(Error::invalid_input(format!("{name} is not a query")));
    }
    named(plan, table, &name)
}

/// The plan with the names that the view gives its columns.
fn named(plan: LogicalPlan, table: &Table, name: &str) -> Result<LogicalPlan> {
    let columns = &table.storage.columns;
    let sources = plan.schema().columns();
    // Views of some systems keep no columns.
    if columns.is_empty() {
        return Ok(plan);
    }
    if sources.len() != columns.len() {
        return Err(Error::invalid_input(format!(
            "{name} has {} columns, and its query has {} now",
            columns.len(),
            sources.len()
        ))
        .with_hint("CREATE OR REPLACE VIEW makes it again"));
    }
    if sources.iter().zip(columns).all(|(source, column)| source.name == column.name) {
        return Ok(plan);
    }
    let projection = sources.into_iter().zip(columns).map(|(source, column)| Expr::Column(source).alias(&column.name));
    LogicalPlanBuilder::from(plan)
        .project(projection)
        .and_then(LogicalPlanBuilder::build)
        .map_err(|error| from_datafusion(error).context(name))
}

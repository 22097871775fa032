//! Views: stored as the text of their query and what unqualified names in it meant, planned again at each use.
//!
//! Files in reading order: this one (CREATE VIEW and DROP VIEW), `definition` (a view as its owner keeps it), `words` (what its text
//! means here), `operators` (what hangs on types), `read` (planning it), `spelled` (its text for the readers of other systems).

mod definition;
mod operators;
mod read;
mod spelled;
mod words;

use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::common::DFSchema;
use datafusion::logical_expr::{DdlStatement, DropView as DataFusionDrop, LogicalPlan};
use datafusion::sql::parser::Statement;
use datafusion::sql::resolve::resolve_table_references;
use datafusion::sql::sqlparser::ast::{Query, Statement as SqlStatement, visit_relations_mut};
use datafusion::sql::sqlparser::tokenizer::Token;
use tereza_catalog::model::{Column, Parameters, Storage, Table, TableKind};
use tereza_runtime::{Error, ErrorKind, Result};

use super::adapt::quoted;
use super::ddl::properties;
use super::errors;
use super::parse::{Home, Reader, SchemaName, TableName, read_only};
use super::{Planned, Planner, stream};
use crate::error::from_datafusion;
use crate::session::Session;
use crate::syntax::Places;
use crate::types::hive_type;
use definition::{CATALOG, COLUMN_NAMES, DIALECT, FLINK, PRESTOS, SCHEMA};
use spelled::Words;

pub(super) use definition::columns;
pub(crate) use definition::query_text;
pub(crate) use read::plan_view;

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
            let keeps_case = reader.text.scope.is_flink;
            columns = reader.list(|reader| {
                let column = reader.identifier()?;
                let column = if keeps_case { column } else { column.to_lowercase() };
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
        let expanded = self.expanded(planner, &statement)?;
        let plan = read::within(&self.name.schema, &self.name.table, planner.logical(statement)).await?;
        let columns = self.columns(&plan, planner.text.scope.is_flink)?;
        let table = self.table(planner, columns, &expanded, &plan)?;
        Ok(Planned::command(async move {
            let store = &session.engine.catalog;
            match existing {
                Some(found) => store.alter_table(&table.database, &table.name, Some(found.version), &table).await,
                None => store.create_table(&table).await,
            }
        }))
    }

    /// The query with every name spelled out, for other systems; names that the session alone knows are refused.
    fn expanded(&self, planner: &Planner<'_>, statement: &Statement) -> Result<Box<Query>> {
        let text = planner.text;
        let (references, expressions) =
            resolve_table_references(statement, text.scope.normalize).map_err(from_datafusion)?;
        for reference in &references {
            let parts = [reference.catalog(), reference.schema(), Some(reference.table())];
            let table = text.scope.table(parts.into_iter().flatten().map(str::to_owned).collect())?;
            if table.home() == Home::Session || stream::is_temporary(planner.session, &table) {
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
            ControlFlow::Continue(()) => Ok(query),
            ControlFlow::Break(error) => Err(error),
        }
    }

    fn columns(&self, plan: &LogicalPlan, keeps_case: bool) -> Result<Vec<Column>> {
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
                None if keeps_case => (field.name().clone(), None),
                None => (field.name().to_lowercase(), None),
            };
            if columns.iter().any(|column| column.name.to_lowercase() == name.to_lowercase()) {
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

    /// The entry of the catalog: for Spark and Hive it has the text, for Presto what that keeps in place of one.
    fn table(self, planner: &Planner<'_>, columns: Vec<Column>, expanded: &Query, plan: &LogicalPlan) -> Result<Table> {
        if planner.text.scope.is_flink {
            return self.table_of_flink(planner, columns);
        }
        // What others cannot read is Tereza's all the same.
        let for_spark = spelled::text(expanded, &columns, Words::Spark).unwrap_or_else(|_| expanded.to_string());
        let presto_name = &planner.session.engine.presto_name;
        let fields = plan.schema().fields();
        let for_presto = spelled::presto_view(expanded, &columns, fields, &self.text, presto_name).unwrap_or_default();
        let scope = &planner.text.scope;
        let mut parameters = self.parameters;
        parameters.insert(CATALOG.into(), scope.catalog.clone());
        parameters.insert(SCHEMA.into(), scope.schema.clone());
        parameters.insert(DIALECT.into(), scope.dialect.to_string());
        if for_presto.is_some() {
            parameters.insert(PRESTOS.into(), "true".into());
        }
        let original = for_presto.map_or(Ok(self.text), |view| view.encode())?;
        Ok(entry(self.name, planner, columns, parameters, (original, for_spark)))
    }

    /// The entry of a view in Flink's SQL: nobody else reads its text.
    fn table_of_flink(self, planner: &Planner<'_>, mut columns: Vec<Column>) -> Result<Table> {
        let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        let names = serde_json::to_string(&names)
            .map_err(|error| Error::internal(format!("names of columns cannot be written: {error}")))?;
        let scope = &planner.text.scope;
        let mut parameters = self.parameters;
        parameters.insert(CATALOG.into(), scope.catalog.clone());
        parameters.insert(SCHEMA.into(), scope.schema.clone());
        parameters.insert(DIALECT.into(), FLINK.into());
        parameters.insert(COLUMN_NAMES.into(), names);
        for column in &mut columns {
            column.name = column.name.to_lowercase();
        }
        Ok(entry(self.name, planner, columns, parameters, (self.text.clone(), self.text)))
    }
}

/// The entry of a view; `texts` are what its owner and what others read.
fn entry(
    name: TableName,
    planner: &Planner<'_>,
    columns: Vec<Column>,
    parameters: Parameters,
    texts: (String, String),
) -> Table {
    Table {
        database: name.schema,
        name: name.table,
        kind: TableKind::View,
        owner: Some(planner.session.user.clone()),
        create_time_s: 0,
        last_access_time_s: 0,
        retention: 0,
        storage: Storage { columns, ..Storage::default() },
        partition_keys: Vec::new(),
        parameters,
        view_original_text: Some(texts.0),
        view_expanded_text: Some(texts.1),
        owner_kind: Default::default(),
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

#[cfg(test)]
mod tests;

//! Puts the session's meaning into a statement before DataFusion plans it: temporary tables, and scopes that DataFusion
//! lacks.

use std::ops::ControlFlow;

use datafusion::common::TableReference;
use datafusion::sql::parser::{CopyToSource, Statement};
use datafusion::sql::resolve::resolve_table_references;
use datafusion::sql::sqlparser::ast::{
    ContextModifier, Expr, Ident, ObjectName, Set, Statement as SqlStatement, Value, VisitMut, visit_relations_mut,
};
use tereza_runtime::{Error, Result};

use super::parse::{Home, Scope, TableName};
use crate::catalogs::is_path;
use crate::error::from_datafusion;
use crate::session::{DEFAULT_SCHEMA, USER_CATALOG};

/// The statement with names of temporary tables spelled out, temporary tables made where they live, and `SESSION` left
/// out of SET.
pub(super) fn adapt(scope: &Scope, statement: Statement) -> Result<Statement> {
    let (_, expressions) = resolve_table_references(&statement, scope.normalize).map_err(from_datafusion)?;
    Adapter { scope, expressions }.statement(statement)
}

/// A name for the parser that no rule of a dialect changes.
pub(super) fn quoted(table: &TableName) -> ObjectName {
    ObjectName::from(vec![
        Ident::with_quote('"', &table.catalog),
        Ident::with_quote('"', &table.schema),
        Ident::with_quote('"', &table.table),
    ])
}

struct Adapter<'a> {
    scope: &'a Scope,
    /// Names of common table expressions: they hide temporary tables.
    expressions: Vec<TableReference>,
}

impl Adapter<'_> {
    fn statement(&self, statement: Statement) -> Result<Statement> {
        match statement {
            Statement::Statement(mut statement) => {
                self.sql(&mut statement)?;
                Ok(Statement::Statement(statement))
            }
            Statement::Explain(mut explain) => {
                explain.statement = Box::new(self.statement(*explain.statement)?);
                Ok(Statement::Explain(explain))
            }
            Statement::CopyTo(mut copy) => {
                match &mut copy.source {
                    CopyToSource::Relation(name) => self.name(name)?,
                    CopyToSource::Query(query) => self.names(query.as_mut())?,
                }
                Ok(Statement::CopyTo(copy))
            }
            other => Ok(other),
        }
    }

    fn sql(&self, statement: &mut SqlStatement) -> Result<()> {
        match statement {
            SqlStatement::CreateTable(create) if create.temporary => {
                create.temporary = false;
                create.name = self.temporary(&create.name)?;
            }
            SqlStatement::CreateView(create) if create.temporary => {
                create.temporary = false;
                create.name = self.temporary(&create.name)?;
            }
            SqlStatement::Set(set) => set_for_session(set)?,
            SqlStatement::Prepare { statement, .. } => return self.sql(statement),
            _ => {}
        }
        self.names(statement)
    }

    /// Where a temporary table of this name goes: into the session's catalog, unless its name says where.
    fn temporary(&self, name: &ObjectName) -> Result<ObjectName> {
        let parts = self.scope.parts(name)?;
        if let [table] = parts.as_slice() {
            return Ok(quoted(&Scope::temporary_table(table.clone())));
        }
        let table = self.scope.table(parts)?;
        match table.home() {
            Home::Session => Ok(quoted(&table)),
            Home::Tereza | Home::ReadOnly => {
                let schema = format!("{}.{}", table.catalog, table.schema);
                Err(Error::invalid_input(format!("a temporary table cannot be in {schema}"))
                    .with_hint("leave the schema out of its name"))
            }
        }
    }

    fn names<V: VisitMut>(&self, node: &mut V) -> Result<()> {
        let visited = visit_relations_mut(node, |name| match self.name(name) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        });
        match visited {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(error) => Err(error),
        }
    }

    /// Spells the name of a temporary table out, and a path where the current catalog has nothing but its own tables.
    fn name(&self, name: &mut ObjectName) -> Result<()> {
        let [part] = name.0.as_slice() else { return Ok(()) };
        let Some(ident) = part.as_ident() else { return Ok(()) };
        let table = self.scope.identifier(ident);
        let hidden = self.expressions.iter().any(|expression| expression.table() == table);
        if hidden {
            return Ok(());
        }
        if self.scope.temporary.contains(&table) {
            *name = quoted(&Scope::temporary_table(table));
        } else if Home::of(&self.scope.catalog) == Home::ReadOnly && is_path(&table) {
            let (catalog, schema) = (USER_CATALOG.into(), DEFAULT_SCHEMA.into());
            *name = quoted(&TableName { catalog, schema, table });
        }
        Ok(())
    }
}

/// `SET SESSION key = value` is `SET key = value`, and `SET TIME ZONE` names its key.
fn set_for_session(set: &mut Set) -> Result<()> {
    match set {
        Set::SingleAssignment { scope: scope @ Some(ContextModifier::Session), .. } => *scope = None,
        Set::SetTimeZone { local, value } => {
            if *local {
                return Err(
                    Error::unsupported("SET TIME ZONE LOCAL").with_hint("name the zone, as in SET TIME ZONE 'UTC'")
                );
            }
            let value = match value {
                Expr::Value(literal) => match &literal.value {
                    Value::SingleQuotedString(_) => Expr::Value(literal.clone()),
                    _ => return Err(Error::invalid_input("a time zone is a text such as 'UTC' or '+02:00'")),
                },
                _ => return Err(Error::invalid_input("a time zone is a text such as 'UTC' or '+02:00'")),
            };
            *set = Set::SingleAssignment {
                scope: None,
                hivevar: false,
                variable: ObjectName::from(vec![Ident::new("timezone")]),
                values: vec![value],
            };
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::parse::{Parsed, Text, tests::scope};
    use super::*;

    fn adapted(sql: &str) -> String {
        let text = Text::new(sql, scope()).expect("tokens");
        let Ok(Parsed::DataFusion(statement)) = text.parse() else { panic!("{sql} is not DataFusion's") };
        adapt(&text.scope, statement).expect("adapts").to_string()
    }

    #[test]
    fn temporary_tables_are_found_by_their_bare_name() {
        assert_eq!(adapted("select scratch.a from scratch"), "SELECT scratch.a FROM \"memory\".\"public\".\"scratch\"");
        assert_eq!(adapted("select * from default.scratch"), "SELECT * FROM default.scratch");
    }

    #[test]
    fn common_table_expressions_hide_temporary_tables() {
        let sql = "WITH scratch AS (SELECT 1) SELECT * FROM scratch";
        assert_eq!(adapted(sql), sql);
    }

    #[test]
    fn temporary_tables_are_made_in_the_sessions_catalog() {
        assert_eq!(adapted("create temp table T (a int)"), "CREATE TABLE \"memory\".\"public\".\"t\" (a INT)");
    }

    #[test]
    fn set_session_is_set() {
        assert_eq!(adapted("set session a.b = 1"), "SET a.b = 1");
        assert_eq!(adapted("set time zone 'UTC'"), "SET timezone = 'UTC'");
    }
}

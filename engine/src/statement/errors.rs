//! What went wrong with a statement, where in it, and what was perhaps meant.
//!
//! The planner's messages become Tereza's, with the nearest known names; the parser's are turned by [`crate::syntax`].

use datafusion::common::{Column, SchemaError};
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use tereza_catalog::model::Database;
use tereza_catalog::store::VersionedTable;
use tereza_runtime::{Error, ErrorKind, Location, Result};

pub(super) use crate::syntax::{did_you_mean, nearest};

use super::parse::{SchemaName, TableName, Text};
use super::stream;
use crate::error::from_datafusion;
use crate::session::Session;

/// A table of the user's catalog; one that is missing gets the nearest names.
pub(super) async fn table(session: &Session, name: &TableName) -> Result<VersionedTable> {
    match session.engine.catalog.table(&name.schema, &name.table).await {
        Err(error) if error.kind() == ErrorKind::NotFound => Err(missing_table(session, name).await),
        found => found,
    }
}

/// The same for a statement about the files of a table; `Unsupported` for the table of a stream, which has none.
pub(super) async fn table_of_files(session: &Session, name: &TableName, what: &str) -> Result<VersionedTable> {
    let found = table(session, name).await?;
    match stream::of_table(&found.table)? {
        None => Ok(found),
        Some(_) => Err(Error::unsupported(format!("{what} on {name}, the table of a stream"))),
    }
}

/// A database of the user's catalog; one that is missing gets the nearest names.
pub(super) async fn database(session: &Session, name: &SchemaName) -> Result<Database> {
    match session.engine.catalog.database(&name.schema).await {
        Err(error) if error.kind() == ErrorKind::NotFound => Err(missing_schema(session, name).await),
        found => found,
    }
}

/// The error for a table that is not there: which part of its name is wrong, and the nearest names.
pub(super) async fn missing_table(session: &Session, name: &TableName) -> Error {
    if name.table.contains('/') {
        return Error::not_found(format!("no file is at '{}', or its format is not known", name.table));
    }
    let schema = SchemaName { catalog: name.catalog.clone(), schema: name.schema.clone() };
    let found = match schema_names(session, &name.catalog).await {
        Ok(schemas) => schemas.is_some_and(|schemas| schemas.contains(&name.schema)),
        Err(error) => return error,
    };
    if !found {
        return missing_schema(session, &schema).await;
    }
    let tables = session.catalogs().tables(&schema.catalog, &schema.schema).await.unwrap_or_default();
    let error = Error::not_found(format!("table '{}' not found in {schema}", name.table));
    did_you_mean(error, &name.table, tables.iter().map(|(table, _)| table.as_str()))
}

/// The error for a schema that is not there.
pub(super) async fn missing_schema(session: &Session, name: &SchemaName) -> Error {
    match schema_names(session, &name.catalog).await {
        Ok(Some(schemas)) => {
            let error = Error::not_found(format!("schema '{}' not found in catalog {}", name.schema, name.catalog));
            did_you_mean(error, &name.schema, schemas.iter().map(String::as_str))
        }
        Ok(None) => missing_catalog(session, &name.catalog),
        Err(error) => error,
    }
}

/// The error for a catalog that is not there.
pub(super) fn missing_catalog(session: &Session, catalog: &str) -> Error {
    let catalogs = session.catalogs().names();
    let error = Error::not_found(format!("catalog '{catalog}' not found"));
    match nearest(catalog, catalogs.iter().map(String::as_str)) {
        Some(near) => error.with_hint(format!("did you mean '{near}'?")),
        None => error.with_hint(format!("there are {}", catalogs.join(", "))),
    }
}

/// The schemas of a catalog, sorted; `None` if there is no such catalog.
pub(super) async fn schema_names(session: &Session, catalog: &str) -> Result<Option<Vec<String>>> {
    if !session.catalogs().names().iter().any(|name| name == catalog) {
        return Ok(None);
    }
    let mut names = session.catalogs().schemas(catalog).await?;
    if !names.iter().any(|name| name == "information_schema") {
        names.push("information_schema".into());
        names.sort();
    }
    Ok(Some(names))
}

/// The error for text that DataFusion's parser did not take.
pub(super) fn of_parser(sql: &str, tokens: &[TokenWithSpan], error: DataFusionError) -> Error {
    match error.find_root() {
        DataFusionError::SQL(error, _) => syntax(sql, tokens, error),
        _ => from_datafusion(error),
    }
}

/// The error for text that the parser or the tokenizer did not take.
pub(super) fn syntax(sql: &str, tokens: &[TokenWithSpan], error: &ParserError) -> Error {
    crate::syntax::syntax(sql, tokens, error, '"')
}

/// The error for a statement that cannot be planned.
pub(super) async fn of_planning(session: &Session, text: &Text, error: DataFusionError) -> Error {
    // An error of Tereza's own (a view that cannot be planned, a store that does not answer) says it all already.
    if is_own(&error) {
        return from_datafusion(error);
    }
    let place = error
        .diagnostic()
        .and_then(|diagnostic| diagnostic.span)
        .map(|span| Location { line: span.start.line, column: span.start.column });
    let (known, word) = match error.find_root() {
        DataFusionError::SQL(parser_error, _) => return syntax(&text.sql, &text.tokens, parser_error),
        DataFusionError::SchemaError(schema_error, _) => match schema_error.as_ref() {
            SchemaError::FieldNotFound { field, valid_fields } => {
                (missing_column(field, valid_fields), field.name.clone())
            }
            SchemaError::AmbiguousReference { field } => {
                let error = Error::invalid_input(format!("column '{}' is ambiguous", field.name))
                    .with_hint("put the table's name or alias before it");
                (error, field.name.clone())
            }
            _ => return from_datafusion(error),
        },
        DataFusionError::Plan(message) if message.starts_with("Column count doesn't match insert query") => {
            return Error::invalid_input("INSERT has another number of values than of columns");
        }
        DataFusionError::Plan(message) => match missing_thing(session, text, message).await {
            Some(found) => found,
            None => return from_datafusion(error),
        },
        _ => return from_datafusion(error),
    };
    match place.or_else(|| place_of(&text.tokens, &word)) {
        Some(place) => known.with_location(place),
        None => known,
    }
}

/// The error of a command of DataFusion's: it has one kind for all, and the words tell what is taken or missing.
pub(super) fn of_command(error: DataFusionError) -> Error {
    let error = from_datafusion(error);
    let kind = match error.message() {
        message if message.ends_with("already exists") => ErrorKind::AlreadyExists,
        message if message.ends_with("doesn't exist") || message.ends_with("does not exist") => ErrorKind::NotFound,
        _ => return error,
    };
    Error::new(kind, error.message()).with_source(error)
}

fn is_own(error: &DataFusionError) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if error.is::<Error>() {
            return true;
        }
        next = error.source();
    }
    false
}

fn missing_column(field: &Column, valid: &[Column]) -> Error {
    let described = match &field.relation {
        Some(relation) => format!("column '{}' not found in {relation}", field.name),
        None => format!("column '{}' not found", field.name),
    };
    let error = Error::invalid_input(described);
    if let Some(found) =
        valid.iter().find(|column| column.name.eq_ignore_ascii_case(&field.name) && column.name != field.name)
    {
        return error.with_hint(format!("names without quotes are lower-cased: write \"{}\"", found.name));
    }
    did_you_mean(error, &field.name, valid.iter().map(|column| column.name.as_str()))
}

/// The error for a table, schema, catalog or function that the planner did not find, and the word to look for in the text.
async fn missing_thing(session: &Session, text: &Text, message: &str) -> Option<(Error, String)> {
    if let Some(name) = between(message, "table '", "' not found") {
        let mut parts = name.splitn(3, '.');
        let (catalog, schema, table) = (parts.next()?, parts.next()?, parts.next()?);
        let name = TableName { catalog: catalog.into(), schema: schema.into(), table: table.into() };
        return Some((missing_table(session, &name).await, table.into()));
    }
    if let Some(name) = between(message, "table function '", "' not found") {
        let state = session.context.state();
        let error = Error::not_found(format!("table function '{name}' not found"));
        return Some((did_you_mean(error, name, state.table_functions().keys().map(String::as_str)), name.into()));
    }
    if let Some(name) = between(message, "Invalid function '", "'") {
        let state = session.context.state();
        let functions = (state.scalar_functions().keys())
            .chain(state.aggregate_functions().keys())
            .chain(state.window_functions().keys());
        let error = Error::not_found(format!("function '{name}' not found"));
        return Some((did_you_mean(error, name, functions.map(String::as_str)), name.into()));
    }
    if let Some(name) = between(message, "'", "' is not a variable") {
        return Some((super::session::unknown_setting(session, name), name.into()));
    }
    if let Some(name) = message.strip_prefix("failed to resolve schema: ") {
        let schema = SchemaName { catalog: text.scope.catalog.clone(), schema: name.into() };
        return Some((missing_schema(session, &schema).await, name.into()));
    }
    let name = message.strip_prefix("failed to resolve catalog: ")?;
    Some((missing_catalog(session, name), name.into()))
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let rest = text.strip_prefix(before)?;
    rest.find(after).map(|end| &rest[..end])
}

/// The place of the first token that is this name.
fn place_of(tokens: &[TokenWithSpan], name: &str) -> Option<Location> {
    let found = tokens.iter().find(|token| match &token.token {
        Token::Word(word) => word.value.eq_ignore_ascii_case(name),
        Token::SingleQuotedString(text) => text == name,
        _ => false,
    })?;
    Some(Location { line: found.span.start.line, column: found.span.start.column })
}

#[cfg(test)]
mod tests {
    use super::super::parse::tests::scope;
    use super::*;

    fn error(sql: &str) -> Error {
        match Text::new(sql, scope()).and_then(|text| text.parse()) {
            Ok(_) => panic!("'{sql}' was read"),
            Err(error) => error,
        }
    }

    #[test]
    fn places_are_taken_out_of_the_message() {
        let error = error("select *\nfrom t wher a = 1 group");
        assert_eq!(error.location().map(|at| at.line), Some(2));
        assert!(!error.message().contains("Line:"), "{error}");
        assert!(!error.message().contains("sql parser"), "{error}");
    }

    #[test]
    fn misspelt_clauses_are_recognised() {
        assert_eq!(error("selct 1").hint(), Some("did you mean SELECT instead of 'selct'?"));
        assert_eq!(error("select a form t").hint(), Some("did you mean FROM instead of 'form'?"));
        assert_eq!(error("crate table t (a int)").hint(), Some("did you mean CREATE instead of 'crate'?"));
    }

    #[test]
    fn what_is_not_closed_is_said() {
        let quote = error("select 'abc");
        assert!(quote.hint().expect("a hint").contains("close the quote"), "{quote}");
        assert_eq!(quote.location(), Some(Location { line: 1, column: 8 }));
        let parenthesis = error("select (1 + 2");
        assert!(parenthesis.hint().expect("a hint").contains("'(' is not closed"), "{parenthesis}");
        assert_eq!(parenthesis.location(), Some(Location { line: 1, column: 14 }));
        assert!(error("select 1 /* abc").hint().expect("a hint").contains("*/"));
    }

    #[test]
    fn a_missing_comma_is_guessed() {
        let error = error("select a b c from t");
        assert_eq!(error.hint(), Some("is a comma missing before c?"), "{error}");
    }

    #[test]
    fn nearest_names_are_near() {
        assert_eq!(nearest("lineitm", ["orders", "lineitem"]), Some("lineitem"));
        assert_eq!(nearest("x", ["orders", "lineitem"]), None);
    }
}

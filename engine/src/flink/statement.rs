//! A text to one of Flink's statements.

use std::collections::BTreeMap;

use datafusion::sql::sqlparser::tokenizer::Token;
use tereza_runtime::{Error, Result};

use super::create::{CreateTable, comment, create_table, options};
use super::hints::HintTarget;
use super::reader::{FlinkQuery, Reader, with_stack};
use crate::syntax::nearest;

/// The most INSERTs of one statement set.
pub const INSERTS_MAX: usize = 256;

/// One of Flink's statements. Names have one to three parts: catalog, database, object.
#[derive(Debug, Clone)]
pub enum FlinkStatement {
    Query(FlinkQuery),
    Insert(Box<Insert>),
    /// `EXECUTE STATEMENT SET BEGIN … END`, and what stood between [`Self::BeginStatementSet`] and [`Self::End`].
    StatementSet(Vec<Insert>),
    /// `BEGIN STATEMENT SET`: the INSERTs that follow wait for `END`.
    BeginStatementSet,
    /// `END`
    End,
    CreateTable(Box<CreateTable>),
    CreateView(Box<CreateView>),
    CreateDatabase(CreateDatabase),
    Drop(Drop),
    /// `SET`: everything that is set.
    ShowSettings,
    /// `SET 'key' = 'value'`
    Set {
        key: String,
        value: String,
    },
    /// `RESET 'key'`; every key without one.
    Reset {
        key: Option<String>,
    },
    Show(Show),
    StopJob(StopJob),
    Describe(Describe),
    Explain(Explain),
    UseCatalog(String),
    /// `USE [catalog.]database`
    UseDatabase(Vec<String>),
}

/// `INSERT INTO`
#[derive(Debug, Clone)]
pub struct Insert {
    pub table: Vec<String>,
    /// `/*+ OPTIONS(…) */` after the name: these stand for the table's own for this INSERT.
    pub options: BTreeMap<String, String>,
    pub overwrite: bool,
    /// Partition columns that have one value for all rows.
    pub partition: Vec<(String, String)>,
    /// The columns that are given, all if empty; a field of a row as `column.field`.
    pub columns: Vec<String>,
    pub query: FlinkQuery,
}

/// `CREATE VIEW`
#[derive(Debug, Clone)]
pub struct CreateView {
    pub name: Vec<String>,
    pub temporary: bool,
    pub if_not_exists: bool,
    /// Names for the query's columns; those of the query if empty.
    pub columns: Vec<String>,
    pub comment: Option<String>,
    pub query: FlinkQuery,
}

/// `CREATE DATABASE`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateDatabase {
    pub name: Vec<String>,
    pub if_not_exists: bool,
    pub comment: Option<String>,
    pub options: BTreeMap<String, String>,
}

/// `DROP`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drop {
    pub kind: DropKind,
    pub name: Vec<String>,
    pub temporary: bool,
    pub if_exists: bool,
    /// A database with its tables.
    pub cascade: bool,
}

/// What a DROP is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropKind {
    Table,
    View,
    Database,
}

/// `SHOW`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Show {
    Catalogs(Option<Pattern>),
    CurrentCatalog,
    CurrentDatabase,
    /// The databases of a catalog, the current one without.
    Databases(Option<String>, Option<Pattern>),
    /// The tables of a database, the current one if it is empty.
    Tables(Vec<String>, Option<Pattern>),
    /// The views of a database, the current one if it is empty.
    Views(Vec<String>, Option<Pattern>),
    Columns(Vec<String>, Option<Pattern>),
    CreateTable(Vec<String>),
    CreateView(Vec<String>),
    Jobs,
}

/// `[NOT] LIKE 'pattern'`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    pub negated: bool,
    /// `ILIKE`: upper and lower case are the same.
    pub ignore_case: bool,
    pub pattern: String,
}

/// `STOP JOB 'id' [WITH SAVEPOINT] [WITH DRAIN]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopJob {
    pub id: String,
    pub savepoint: bool,
    /// Windows that are open are answered before the end.
    pub drain: bool,
}

/// `DESCRIBE`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Describe {
    Table { name: Vec<String>, extended: bool },
    Job(String),
}

/// `EXPLAIN`
#[derive(Debug, Clone)]
pub struct Explain {
    pub details: Vec<ExplainDetail>,
    /// A query, an INSERT or a statement set.
    pub statement: Box<FlinkStatement>,
}

/// What a plan is shown with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExplainDetail {
    EstimatedCost,
    ChangelogMode,
    JsonExecutionPlan,
    PlanAdvice,
}

const DETAILS: [(&str, ExplainDetail); 4] = [
    ("ESTIMATED_COST", ExplainDetail::EstimatedCost),
    ("CHANGELOG_MODE", ExplainDetail::ChangelogMode),
    ("JSON_EXECUTION_PLAN", ExplainDetail::JsonExecutionPlan),
    ("PLAN_ADVICE", ExplainDetail::PlanAdvice),
];

/// Words that a statement begins with.
const FIRST_WORDS: [&str; 18] = [
    "BEGIN", "CREATE", "DESC", "DESCRIBE", "DROP", "END", "EXECUTE", "EXPLAIN", "INSERT", "RESET", "SELECT", "SET",
    "SHOW", "STOP", "USE", "VALUES", "WITH", "TABLE",
];

/// Statements of Flink that Tereza does not do, by their first words.
const REFUSED: [&str; 21] = [
    "ADD JAR",
    "ALTER",
    "ANALYZE TABLE",
    "CALL",
    "COMPILE AND EXECUTE PLAN",
    "COMPILE PLAN",
    "DELETE",
    "DESC CATALOG",
    "DESC DATABASE",
    "DESC FUNCTION",
    "DESCRIBE CATALOG",
    "DESCRIBE DATABASE",
    "DESCRIBE FUNCTION",
    "EXECUTE PLAN",
    "LOAD MODULE",
    "REMOVE JAR",
    "TRUNCATE TABLE",
    "UNLOAD MODULE",
    "UPDATE",
    "USE MODULES",
    "UPSERT",
];

/// Things that Flink can CREATE or DROP and Tereza cannot, by their words after TEMPORARY or OR REPLACE.
const REFUSED_OBJECTS: [&str; 7] =
    ["CATALOG", "CONNECTION", "FUNCTION", "MATERIALIZED TABLE", "MODEL", "SYSTEM FUNCTION", "SECRET"];

/// Reads one statement; a semicolon may stand after it.
pub fn parse(sql: &str) -> Result<FlinkStatement> {
    with_stack(|| {
        let mut reader = Reader::new(sql)?;
        if at_end(&reader) {
            return Err(Error::invalid_input("the statement is empty"));
        }
        let statement = statement(&mut reader)?;
        reader.end()?;
        Ok(statement)
    })
}

fn statement(reader: &mut Reader<'_>) -> Result<FlinkStatement> {
    let word = reader.word().unwrap_or_default();
    if let Some(words) = REFUSED.iter().find(|words| reader.at(words)) {
        return Err(reader.refuse(Error::unsupported(*words)));
    }
    match word.as_str() {
        "CREATE" => create(reader),
        "DROP" => drop_object(reader),
        "INSERT" => Ok(FlinkStatement::Insert(Box::new(insert(reader)?))),
        "EXECUTE" => {
            reader.expect("EXECUTE")?;
            if reader.take("STATEMENT SET") {
                return statement_set(reader);
            }
            // EXECUTE before a query or an INSERT says nothing more.
            query_or_insert(reader)
        }
        "BEGIN" => {
            reader.expect("BEGIN STATEMENT SET")?;
            Ok(FlinkStatement::BeginStatementSet)
        }
        "END" => {
            reader.expect("END")?;
            Ok(FlinkStatement::End)
        }
        "SET" => set(reader),
        "RESET" => {
            reader.expect("RESET")?;
            let key = if at_end(reader) { None } else { Some(reader.text()?) };
            Ok(FlinkStatement::Reset { key })
        }
        "SHOW" => show(reader).map(FlinkStatement::Show),
        "STOP" => stop(reader).map(FlinkStatement::StopJob),
        "DESCRIBE" | "DESC" => describe(reader).map(FlinkStatement::Describe),
        "EXPLAIN" => explain(reader).map(FlinkStatement::Explain),
        "USE" => {
            reader.expect("USE")?;
            if reader.take("CATALOG") {
                return reader.identifier().map(FlinkStatement::UseCatalog);
            }
            reader.name(2).map(FlinkStatement::UseDatabase)
        }
        "SELECT" | "WITH" | "VALUES" | "TABLE" => reader.query().map(FlinkStatement::Query),
        _ if reader.next().token == Token::LParen => reader.query().map(FlinkStatement::Query),
        _ => {
            let error = reader.expected(&["a statement"]);
            Err(match nearest(&word, FIRST_WORDS) {
                Some(near) => error.with_hint(format!("did you mean {near}?")),
                None => error,
            })
        }
    }
}

fn at_end(reader: &Reader<'_>) -> bool {
    matches!(reader.next().token, Token::EOF | Token::SemiColon)
}

fn create(reader: &mut Reader<'_>) -> Result<FlinkStatement> {
    reader.expect("CREATE")?;
    if reader.at("OR REPLACE") || reader.at("OR ALTER") {
        return Err(reader.refuse(Error::unsupported("CREATE OR REPLACE")));
    }
    let temporary = reader.take("TEMPORARY");
    if let Some(words) = REFUSED_OBJECTS.iter().find(|words| reader.at(words)) {
        return Err(reader.refuse(Error::unsupported(format!("CREATE {words}"))));
    }
    if reader.take("TABLE") {
        return create_table(reader, temporary).map(|create| FlinkStatement::CreateTable(Box::new(create)));
    }
    if reader.take("VIEW") {
        let if_not_exists = reader.take("IF NOT EXISTS");
        let name = reader.name(3)?;
        let columns = if reader.next().token == Token::LParen { reader.list(Reader::identifier)? } else { Vec::new() };
        let comment = comment(reader)?;
        reader.expect("AS")?;
        let query = reader.query()?;
        let view = CreateView { name, temporary, if_not_exists, columns, comment, query };
        return Ok(FlinkStatement::CreateView(Box::new(view)));
    }
    if temporary || !reader.take("DATABASE") {
        return Err(reader.expected(if temporary { &["TABLE", "VIEW"] } else { &["TABLE", "VIEW", "DATABASE"] }));
    }
    let if_not_exists = reader.take("IF NOT EXISTS");
    let name = reader.name(2)?;
    let comment = comment(reader)?;
    let options = if reader.take("WITH") { options(reader)? } else { BTreeMap::new() };
    Ok(FlinkStatement::CreateDatabase(CreateDatabase { name, if_not_exists, comment, options }))
}

fn drop_object(reader: &mut Reader<'_>) -> Result<FlinkStatement> {
    reader.expect("DROP")?;
    let temporary = reader.take("TEMPORARY");
    if let Some(words) = REFUSED_OBJECTS.iter().find(|words| reader.at(words)) {
        return Err(reader.refuse(Error::unsupported(format!("DROP {words}"))));
    }
    let kinds: &[&str] = if temporary { &["TABLE", "VIEW"] } else { &["TABLE", "VIEW", "DATABASE"] };
    let (kind, parts) = match reader.expect_one(kinds)? {
        "TABLE" => (DropKind::Table, 3),
        "VIEW" => (DropKind::View, 3),
        _ => (DropKind::Database, 2),
    };
    let if_exists = reader.take("IF EXISTS");
    let name = reader.name(parts)?;
    let cascade = kind == DropKind::Database && !reader.take("RESTRICT") && reader.take("CASCADE");
    Ok(FlinkStatement::Drop(Drop { kind, name, temporary, if_exists, cascade }))
}

fn insert(reader: &mut Reader<'_>) -> Result<Insert> {
    reader.expect("INSERT")?;
    let overwrite = reader.expect_one(&["INTO", "OVERWRITE"])? == "OVERWRITE";
    let table = reader.name(3)?;
    let mut options = BTreeMap::new();
    for hint in reader.hints_here()? {
        match hint.target {
            HintTarget::Table(..) if hint.name == "OPTIONS" => options.extend(hint.options()?),
            _ => return Err(reader.refuse(Error::unsupported(format!("hint {} on the table of INSERT", hint.name)))),
        }
    }
    let partition = if reader.take("PARTITION") {
        reader.list(|reader| {
            let column = reader.identifier()?;
            reader.expect_token(&Token::Eq)?;
            Ok((column, literal(reader)?))
        })?
    } else {
        Vec::new()
    };
    let columns = if reader.next().token == Token::LParen && !begins_query(reader) {
        reader.list(|reader| Ok(reader.name(super::types::TYPE_DEPTH_MAX)?.join(".")))?
    } else {
        Vec::new()
    };
    if !matches!(reader.word().as_deref(), Some("SELECT" | "WITH" | "VALUES" | "TABLE"))
        && reader.next().token != Token::LParen
    {
        return Err(reader.expected(&["PARTITION", "SELECT", "VALUES", "WITH", "a list of columns"]));
    }
    Ok(Insert { table, options, overwrite, partition, columns, query: reader.query()? })
}

/// Whether the parenthesis that is next begins a query and not a list of names.
fn begins_query(reader: &Reader<'_>) -> bool {
    match &reader.parser.peek_nth_token_ref(1).token {
        Token::Word(word) if word.quote_style.is_none() => {
            ["SELECT", "WITH", "VALUES", "TABLE"].iter().any(|first| word.value.eq_ignore_ascii_case(first))
        }
        token => *token == Token::LParen,
    }
}

/// The value of a partition column, as text.
fn literal(reader: &mut Reader<'_>) -> Result<String> {
    let sign = if reader.take_token(&Token::Minus) { "-" } else { "" };
    match &reader.next().token {
        Token::Number(number, false) => {
            let number = format!("{sign}{number}");
            reader.parser.advance_token();
            Ok(number)
        }
        _ if !sign.is_empty() => Err(reader.expected(&["a number"])),
        _ if reader.at("DATE") || reader.at("TIMESTAMP") || reader.at("TIME") => {
            reader.parser.advance_token();
            reader.text()
        }
        _ if reader.at("TRUE") || reader.at("FALSE") => reader.identifier().map(|word| word.to_lowercase()),
        _ => reader.text(),
    }
}

/// `BEGIN insert; … END`
fn statement_set(reader: &mut Reader<'_>) -> Result<FlinkStatement> {
    reader.expect("BEGIN")?;
    let mut inserts = Vec::new();
    while inserts.is_empty() || !reader.take("END") {
        if !reader.at("INSERT") {
            let words: &[&str] = if inserts.is_empty() { &["INSERT"] } else { &["INSERT", "END"] };
            return Err(reader.expected(words));
        }
        if inserts.len() == INSERTS_MAX {
            let error = Error::invalid_input(format!("a statement set has at most {INSERTS_MAX} INSERTs"));
            return Err(reader.refuse(error));
        }
        inserts.push(insert(reader)?);
        reader.expect_token(&Token::SemiColon)?;
    }
    Ok(FlinkStatement::StatementSet(inserts))
}

fn query_or_insert(reader: &mut Reader<'_>) -> Result<FlinkStatement> {
    match reader.word().as_deref() {
        Some("INSERT") => Ok(FlinkStatement::Insert(Box::new(insert(reader)?))),
        Some("SELECT" | "WITH" | "VALUES" | "TABLE") => reader.query().map(FlinkStatement::Query),
        _ if reader.next().token == Token::LParen => reader.query().map(FlinkStatement::Query),
        _ => Err(reader.expected(&["SELECT", "INSERT", "STATEMENT SET", "WITH", "VALUES"])),
    }
}

fn set(reader: &mut Reader<'_>) -> Result<FlinkStatement> {
    reader.expect("SET")?;
    if at_end(reader) {
        return Ok(FlinkStatement::ShowSettings);
    }
    let quoted = |error: Error| error.with_hint("write SET 'key' = 'value'");
    let key = reader.text().map_err(quoted)?;
    reader.expect_token(&Token::Eq)?;
    let value = reader.text().map_err(quoted)?;
    Ok(FlinkStatement::Set { key, value })
}

fn show(reader: &mut Reader<'_>) -> Result<Show> {
    const WORDS: [&str; 9] =
        ["CATALOGS", "COLUMNS", "CREATE TABLE", "CREATE VIEW", "CURRENT", "DATABASES", "JOBS", "TABLES", "VIEWS"];
    const REFUSED: [&str; 10] = [
        "CONNECTIONS",
        "CREATE",
        "FULL MODULES",
        "FUNCTIONS",
        "JARS",
        "MATERIALIZED TABLES",
        "MODELS",
        "MODULES",
        "PARTITIONS",
        "PROCEDURES",
    ];
    reader.expect("SHOW")?;
    if reader.at("USER FUNCTIONS") {
        return Err(reader.refuse(Error::unsupported("SHOW USER FUNCTIONS")));
    }
    let known = WORDS.iter().find(|words| reader.take(words));
    let Some(word) = known else {
        return Err(match REFUSED.iter().find(|words| reader.at(words)) {
            Some(words) => reader.refuse(Error::unsupported(format!("SHOW {words}"))),
            None => reader.expected(&WORDS),
        });
    };
    Ok(match *word {
        "CATALOGS" => Show::Catalogs(pattern(reader)?),
        "COLUMNS" => {
            reader.expect_one(&["FROM", "IN"])?;
            Show::Columns(reader.name(3)?, pattern(reader)?)
        }
        "CREATE TABLE" => Show::CreateTable(reader.name(3)?),
        "CREATE VIEW" => Show::CreateView(reader.name(3)?),
        "CURRENT" => match reader.expect_one(&["CATALOG", "DATABASE"])? {
            "CATALOG" => Show::CurrentCatalog,
            _ => Show::CurrentDatabase,
        },
        "DATABASES" => {
            let catalog = if takes_from(reader) { Some(reader.identifier()?) } else { None };
            Show::Databases(catalog, pattern(reader)?)
        }
        "JOBS" => Show::Jobs,
        "TABLES" => Show::Tables(from_database(reader)?, pattern(reader)?),
        _ => Show::Views(from_database(reader)?, pattern(reader)?),
    })
}

/// `FROM database`; nothing without.
fn from_database(reader: &mut Reader<'_>) -> Result<Vec<String>> {
    if takes_from(reader) { reader.name(2) } else { Ok(Vec::new()) }
}

fn takes_from(reader: &mut Reader<'_>) -> bool {
    reader.take("FROM") || reader.take("IN")
}

fn pattern(reader: &mut Reader<'_>) -> Result<Option<Pattern>> {
    if at_end(reader) {
        return Ok(None);
    }
    let negated = reader.take("NOT");
    let ignore_case = reader.expect_one(&["LIKE", "ILIKE"])? == "ILIKE";
    Ok(Some(Pattern { negated, ignore_case, pattern: reader.text()? }))
}

fn stop(reader: &mut Reader<'_>) -> Result<StopJob> {
    reader.expect("STOP JOB")?;
    let id = reader.text()?;
    let savepoint = reader.take("WITH SAVEPOINT");
    if !savepoint && reader.at("WITH DRAIN") {
        return Err(reader.refuse(Error::invalid_input("WITH DRAIN stands after WITH SAVEPOINT")));
    }
    let drain = reader.take("WITH DRAIN");
    Ok(StopJob { id, savepoint, drain })
}

fn describe(reader: &mut Reader<'_>) -> Result<Describe> {
    reader.expect_one(&["DESCRIBE", "DESC"])?;
    if reader.at("JOB") && matches!(reader.parser.peek_nth_token_ref(1).token, Token::SingleQuotedString(_)) {
        reader.expect("JOB")?;
        return reader.text().map(Describe::Job);
    }
    let extended = reader.take("EXTENDED");
    Ok(Describe::Table { name: reader.name(3)?, extended })
}

fn explain(reader: &mut Reader<'_>) -> Result<Explain> {
    reader.expect("EXPLAIN")?;
    let mut details = Vec::new();
    if !reader.take("PLAN FOR") {
        while let Some((_, detail)) = DETAILS.iter().find(|(word, _)| reader.take(word)) {
            details.push(*detail);
            if !reader.take_token(&Token::Comma) {
                break;
            }
            if !DETAILS.iter().any(|(word, _)| reader.at(word)) {
                return Err(reader.expected(&DETAILS.map(|(word, _)| word)));
            }
        }
    }
    let has_set = reader.take("EXECUTE STATEMENT SET") || reader.take("STATEMENT SET");
    let statement = Box::new(if has_set { statement_set(reader)? } else { query_or_insert(reader)? });
    Ok(Explain { details, statement })
}

#[cfg(test)]
#[path = "statement_tests.rs"]
mod tests;

//! Statements about streams, in Flink's words: tables with a connector, INSERTs that become jobs, and what a session of Flink's
//! SQL is told and asked.
//!
//! Files in reading order: this one (whose statement it is), `settings` (SET, RESET), `create` (CREATE TABLE), `kept` (tables that
//! the catalog or the session keeps, as SHOW and DESCRIBE show them), `hints` (OPTIONS of one statement), `insert` (an INSERT as
//! what a job does), `submit` (the job).

mod create;
mod hints;
mod insert;
mod kept;
mod settings;
mod submit;

#[cfg(test)]
mod tests;

use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use tereza_runtime::{Error, Location, Result};

pub(crate) use insert::plan_stream_inserts;
pub(super) use insert::{Inserted, inserted, plan_inserts};
pub(super) use kept::{column_rows, create_statement, drop_temporary, find, is_temporary, of_table};
pub(super) use submit::{explain, submit};

use super::call::savepoint;
use super::parse::{TableName, Text};
use super::{Planned, Planner};
use crate::flink::{self, CreateTable, Describe, DropKind, FlinkStatement, INSERTS_MAX, Show, StopJob};
use crate::jobs::Repeat;
use crate::syntax::Places;

/// A statement about streams.
pub(super) enum StreamStatement {
    /// CREATE TABLE with a connector.
    Create(Box<CreateTable>),
    /// CREATE TABLE … LIKE a table that may be a stream's.
    CreateLike(Box<CreateTable>),
    /// `DROP TEMPORARY TABLE`, of a stream or of the session's own tables.
    DropTemporary {
        name: TableName,
        if_exists: bool,
    },
    /// The INSERTs of one job.
    Inserts(Vec<Piece>),
    /// EXPLAIN of the INSERTs of one job.
    ExplainInserts(Vec<Piece>),
    /// EXPLAIN of another statement, without Flink's words after EXPLAIN.
    Explain(String),
    Set {
        key: String,
        value: String,
    },
    Reset(Option<String>),
    ShowSettings,
    ShowCurrent {
        is_catalog: bool,
    },
    ShowJobs,
    DescribeJob(String),
    Stop(StopJob),
}

/// One INSERT of a statement set, and where it begins in the statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) sql: String,
    pub(super) place: Location,
}

impl Piece {
    /// An error with its place in the whole statement.
    pub(super) fn in_statement(&self, error: Error) -> Error {
        let Some(place) = error.location() else { return error.with_location(self.place) };
        let column = if place.line == 1 { self.place.column + place.column - 1 } else { place.column };
        error.with_location(Location { line: self.place.line + place.line - 1, column })
    }
}

/// Reads a statement about streams; `None` if it is another one.
pub(super) fn parse(text: &Text) -> Result<Option<StreamStatement>> {
    let tokens: Vec<&TokenWithSpan> =
        text.tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_) | Token::EOF)).collect();
    let words = Words(&tokens);
    let is_flink = text.scope.is_flink;
    match words.word(0).as_deref() {
        Some("CREATE") => create(text, &words),
        Some("DROP") if words.at(0, "DROP TEMPORARY TABLE") => drop_temporary_table(text),
        Some("EXECUTE") if words.at(0, "EXECUTE STATEMENT SET") => {
            pieces(text, &tokens[3..]).map(StreamStatement::Inserts).map(Some)
        }
        Some("EXECUTE") if is_flink && words.at(0, "EXECUTE INSERT") => {
            Ok(Some(StreamStatement::Inserts(vec![piece(text, &tokens[1..])])))
        }
        Some("BEGIN") if words.at(0, "BEGIN STATEMENT SET") => {
            Err(Error::unsupported("BEGIN STATEMENT SET").with_hint("write EXECUTE STATEMENT SET BEGIN …; END"))
        }
        Some("EXPLAIN") => explained(text, &words),
        Some("STOP") if words.at(0, "STOP JOB") => match flink::parse(&text.sql)? {
            FlinkStatement::StopJob(stop) => Ok(Some(StreamStatement::Stop(stop))),
            _ => Ok(None),
        },
        Some("SET" | "RESET") if is_flink && (words.ends(1) || words.is_text(1)) => {
            Ok(match flink::parse(&text.sql)? {
                FlinkStatement::Set { key, value } => Some(StreamStatement::Set { key, value }),
                FlinkStatement::Reset { key } => Some(StreamStatement::Reset(key)),
                FlinkStatement::ShowSettings => Some(StreamStatement::ShowSettings),
                _ => None,
            })
        }
        Some("SHOW") if is_flink && (words.at(1, "CURRENT") || words.at(1, "JOBS")) => {
            Ok(match flink::parse(&text.sql)? {
                FlinkStatement::Show(Show::CurrentCatalog) => Some(StreamStatement::ShowCurrent { is_catalog: true }),
                FlinkStatement::Show(Show::CurrentDatabase) => Some(StreamStatement::ShowCurrent { is_catalog: false }),
                FlinkStatement::Show(Show::Jobs) => Some(StreamStatement::ShowJobs),
                _ => None,
            })
        }
        Some("DESCRIBE" | "DESC") if is_flink && words.at(1, "JOB") && words.is_text(2) => {
            Ok(match flink::parse(&text.sql)? {
                FlinkStatement::Describe(Describe::Job(id)) => Some(StreamStatement::DescribeJob(id)),
                _ => None,
            })
        }
        _ => Ok(None),
    }
}

/// The tokens of a statement without what is between them.
struct Words<'a>(&'a [&'a TokenWithSpan]);

impl Words<'_> {
    fn word(&self, at: usize) -> Option<String> {
        match self.0.get(at).map(|token| &token.token) {
            Some(Token::Word(word)) if word.quote_style.is_none() => Some(word.value.to_uppercase()),
            _ => None,
        }
    }

    /// Whether these words come next.
    fn at(&self, at: usize, words: &str) -> bool {
        words.split(' ').enumerate().all(|(n, word)| self.word(at + n).is_some_and(|found| found == word))
    }

    fn is_text(&self, at: usize) -> bool {
        matches!(self.0.get(at).map(|token| &token.token), Some(Token::SingleQuotedString(_)))
    }

    fn ends(&self, at: usize) -> bool {
        self.0[at.min(self.0.len())..].iter().all(|token| token.token == Token::SemiColon)
    }

    /// Whether `WITH ('connector' = …)` stands outside of parentheses.
    fn names_connector(&self) -> bool {
        let mut depth = 0_usize;
        let mut is_with = false;
        for (at, token) in self.0.iter().enumerate() {
            match &token.token {
                Token::LParen => {
                    depth += 1;
                    is_with = depth == 1 && at > 0 && self.at(at - 1, "WITH");
                }
                Token::RParen => depth = depth.saturating_sub(1),
                Token::SingleQuotedString(key) if is_with && depth == 1 => {
                    let is_key = self.0.get(at + 1).is_some_and(|next| next.token == Token::Eq);
                    if is_key && (key == "connector" || key == "connector.type") {
                        return true;
                    }
                }
                _ => {}
            }
        }
        false
    }

    /// Whether LIKE stands outside of parentheses.
    fn has_like(&self) -> bool {
        let mut depth = 0_usize;
        self.0.iter().enumerate().any(|(at, token)| {
            match &token.token {
                Token::LParen => depth += 1,
                Token::RParen => depth = depth.saturating_sub(1),
                _ => {}
            }
            depth == 0 && self.at(at, "LIKE")
        })
    }
}

fn create(text: &Text, words: &Words<'_>) -> Result<Option<StreamStatement>> {
    let heads = ["CREATE TABLE", "CREATE TEMPORARY TABLE", "CREATE OR REPLACE TABLE", "CREATE OR ALTER TABLE"];
    if !heads.iter().any(|head| words.at(0, head)) {
        return Ok(None);
    }
    if words.names_connector() {
        return match flink::parse(&text.sql)? {
            FlinkStatement::CreateTable(create) => Ok(Some(StreamStatement::Create(create))),
            _ => Ok(None),
        };
    }
    if !words.has_like() {
        return Ok(None);
    }
    // What Flink's grammar does not take is another system's LIKE.
    Ok(match flink::parse(&text.sql) {
        Ok(FlinkStatement::CreateTable(create)) if create.like.is_some() => Some(StreamStatement::CreateLike(create)),
        _ => None,
    })
}

fn drop_temporary_table(text: &Text) -> Result<Option<StreamStatement>> {
    match flink::parse(&text.sql) {
        Ok(FlinkStatement::Drop(drop)) if drop.kind == DropKind::Table => {
            // Not by the scope: a temporary table of the session's own may have the name.
            let name = text.scope.stream_name(drop.name)?;
            Ok(Some(StreamStatement::DropTemporary { name, if_exists: drop.if_exists }))
        }
        _ => Ok(None),
    }
}

/// `EXPLAIN [PLAN FOR | details] [EXECUTE] STATEMENT SET …`, and Flink's words before other statements.
fn explained(text: &Text, words: &Words<'_>) -> Result<Option<StreamStatement>> {
    const DETAILS: [&str; 4] = ["ESTIMATED_COST", "CHANGELOG_MODE", "JSON_EXECUTION_PLAN", "PLAN_ADVICE"];
    let mut at = 1;
    if words.at(at, "PLAN FOR") {
        at += 2;
    } else {
        while words.word(at).is_some_and(|word| DETAILS.contains(&word.as_str())) {
            at += 1;
            if words.0.get(at).is_some_and(|token| token.token == Token::Comma) {
                at += 1;
            }
        }
    }
    for head in ["EXECUTE STATEMENT SET", "STATEMENT SET"] {
        if words.at(at, head) {
            let set = &words.0[at + head.split(' ').count()..];
            return pieces(text, set).map(StreamStatement::ExplainInserts).map(Some);
        }
    }
    if at == 1 || !text.scope.is_flink {
        return Ok(None);
    }
    Ok(Some(StreamStatement::Explain(format!("EXPLAIN {}", piece(text, &words.0[at..]).sql))))
}

/// The INSERTs of `BEGIN insert; … END`.
fn pieces(text: &Text, tokens: &[&TokenWithSpan]) -> Result<Vec<Piece>> {
    let at = |error: Error, token: Option<&&TokenWithSpan>| match token.map(|token| token.span.start) {
        Some(start) if start.line > 0 => error.with_location(Location { line: start.line, column: start.column }),
        _ => error,
    };
    let is_word = |token: &TokenWithSpan, wanted: &str| match &token.token {
        Token::Word(word) => word.quote_style.is_none() && word.value.eq_ignore_ascii_case(wanted),
        _ => false,
    };
    let wrong = |expected: &str, token: Option<&&TokenWithSpan>| {
        at(Error::invalid_input(format!("the statement set is not understood: expected {expected}")), token)
            .with_hint("write EXECUTE STATEMENT SET BEGIN INSERT …; INSERT …; END")
    };
    if !tokens.first().is_some_and(|token| is_word(token, "BEGIN")) {
        return Err(wrong("BEGIN", tokens.first()));
    }
    let mut rest = &tokens[1..];
    let mut pieces = Vec::new();
    loop {
        match rest.first() {
            Some(token) if is_word(token, "END") && !pieces.is_empty() => break,
            Some(token) if is_word(token, "INSERT") => {}
            other => return Err(wrong(if pieces.is_empty() { "INSERT" } else { "INSERT or END" }, other)),
        }
        if pieces.len() == INSERTS_MAX {
            let error = Error::invalid_input(format!("a statement set has at most {INSERTS_MAX} INSERTs"));
            return Err(at(error, rest.first()));
        }
        let Some(end) = rest.iter().position(|token| token.token == Token::SemiColon) else {
            return Err(wrong("';' after INSERT", rest.last()));
        };
        pieces.push(piece(text, &rest[..end]));
        rest = &rest[end + 1..];
    }
    match rest[1..].iter().find(|token| token.token != Token::SemiColon) {
        Some(token) => Err(wrong("nothing after END", Some(token))),
        None => Ok(pieces),
    }
}

/// The text of these tokens, which are not empty.
fn piece(text: &Text, tokens: &[&TokenWithSpan]) -> Piece {
    let mut places = Places::new(&text.sql);
    let tokens = match tokens {
        [most @ .., last] if last.token == Token::SemiColon => most,
        all => all,
    };
    let (Some(first), Some(last)) = (tokens.first(), tokens.last()) else {
        return Piece { sql: String::new(), place: Location { line: 1, column: 1 } };
    };
    let start = first.span.start;
    let (from, to) = (places.byte(start), places.byte(last.span.end));
    let sql = text.sql.get(from..to).unwrap_or_default().to_owned();
    Piece { sql, place: Location { line: start.line.max(1), column: start.column.max(1) } }
}

impl StreamStatement {
    /// What may be done with it in a job that begins again.
    pub(super) fn repeat(&self) -> Repeat {
        match self {
            Self::Create(create) | Self::CreateLike(create) if create.temporary => Repeat::Always,
            Self::Create(create) | Self::CreateLike(create) if create.if_not_exists => Repeat::UnlessDone,
            Self::Create(_) | Self::CreateLike(_) => Repeat::Never,
            Self::DropTemporary { .. } | Self::Set { .. } | Self::Reset(_) => Repeat::Always,
            // The job's id follows from the statement's place.
            Self::Inserts(_) => Repeat::UnlessDone,
            Self::ExplainInserts(_)
            | Self::Explain(_)
            | Self::ShowSettings
            | Self::ShowCurrent { .. }
            | Self::ShowJobs
            | Self::DescribeJob(_)
            | Self::Stop(_) => Repeat::UnlessDone,
        }
    }

    pub(super) async fn plan(self, planner: &Planner<'_>) -> Result<Planned> {
        match self {
            Self::Create(statement) => create::plan(*statement, planner).await,
            Self::CreateLike(statement) => match create::is_like_stream(&statement, planner).await? {
                true => create::plan(*statement, planner).await,
                false => planner.plan_otherwise().await,
            },
            Self::DropTemporary { name, if_exists } => match is_temporary(planner.session, &name) {
                true => Ok(kept::drop(planner, name, if_exists)),
                false => planner.plan_otherwise().await,
            },
            Self::Inserts(pieces) => submit(planner, plan_inserts(planner, &pieces).await?).await,
            Self::ExplainInserts(pieces) => explain(planner, plan_inserts(planner, &pieces).await?).await,
            Self::Explain(sql) => Box::pin(super::plan(planner.session, &sql, planner.parameters)).await,
            Self::Set { key, value } => Ok(settings::set(planner, key, value)),
            Self::Reset(key) => Ok(settings::reset(planner, key)),
            Self::ShowSettings => settings::show(planner),
            Self::ShowCurrent { is_catalog } => settings::show_current(planner, is_catalog),
            Self::ShowJobs => planner.plan_text(&submit::jobs(None)).await,
            Self::DescribeJob(id) => planner.plan_text(&submit::jobs(Some(&id))).await,
            Self::Stop(stop) if stop.savepoint && stop.drain => {
                Err(Error::unsupported("STOP JOB WITH SAVEPOINT WITH DRAIN")
                    .with_hint("what open windows hold is in the savepoint, or answered by WITH DRAIN, and not both"))
            }
            Self::Stop(stop) if stop.savepoint => Ok(savepoint(planner.session, stop.id, None, true)),
            Self::Stop(stop) => Ok(submit::stop(planner, stop.id, stop.drain)),
        }
    }
}

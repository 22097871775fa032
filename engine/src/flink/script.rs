//! Scripts: texts of several statements, cut at semicolons.

use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use tereza_runtime::{Error, Location, Result};

use super::reader::{is_word, place, tokens};
use super::statement::{FlinkStatement, INSERTS_MAX, parse};
use crate::syntax::Places;

/// The most statements of one script.
pub const STATEMENTS_MAX: usize = 10_000;

/// One statement of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Without the semicolon and what is around the statement.
    pub text: String,
    /// Where it begins in the script.
    pub place: Location,
}

impl Piece {
    /// Reads the statement; the places of errors are those of the script.
    pub fn parse(&self) -> Result<FlinkStatement> {
        parse(&self.text).map_err(|error| self.in_script(error))
    }

    fn in_script(&self, error: Error) -> Error {
        let Some(place) = error.location() else { return error.with_location(self.place) };
        let column = if place.line == 1 { self.place.column + place.column - 1 } else { place.column };
        error.with_location(Location { line: self.place.line + place.line - 1, column })
    }
}

/// How far a statement set is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Set {
    /// There is none.
    Outside,
    /// A statement inside it.
    Inside,
    /// Its next statement begins here, or it ends.
    Between,
}

/// Cuts a script into its statements. `STATEMENT SET BEGIN …; …; END` is one of them.
pub fn split(script: &str) -> Result<Vec<Piece>> {
    let tokens = tokens(script)?;
    let meaningful: Vec<&TokenWithSpan> =
        tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_) | Token::EOF)).collect();
    let mut places = Places::new(script);
    let mut pieces: Vec<Piece> = Vec::new();
    let mut first: Option<&TokenWithSpan> = None;
    let mut set = Set::Outside;
    for (at, &token) in meaningful.iter().enumerate() {
        let is_end = token.token == Token::SemiColon;
        if is_end && set != Set::Outside {
            set = Set::Between;
            continue;
        }
        if !is_end {
            first = first.or(Some(token));
            set = match set {
                Set::Between if is_word(token, "END") => Set::Outside,
                Set::Between => Set::Inside,
                Set::Outside if begins_set(&meaningful[..=at]) => Set::Between,
                set => set,
            };
        }
        let is_last = at + 1 == meaningful.len();
        if !is_end && !is_last {
            continue;
        }
        let Some(begin) = first.take() else { continue };
        let Some(place) = place(begin) else { continue };
        if pieces.len() == STATEMENTS_MAX {
            return Err(
                Error::invalid_input(format!("a script has at most {STATEMENTS_MAX} statements")).with_location(place)
            );
        }
        let from = places.byte(begin.span.start);
        let to = places.byte(if is_end { token.span.start } else { token.span.end });
        pieces.push(Piece { text: script.get(from..to).unwrap_or_default().trim_end().to_owned(), place });
    }
    Ok(pieces)
}

/// Whether the tokens end with `STATEMENT SET BEGIN`.
fn begins_set(tokens: &[&TokenWithSpan]) -> bool {
    match tokens {
        [.., statement, set, begin] => {
            is_word(begin, "BEGIN") && is_word(set, "SET") && is_word(statement, "STATEMENT")
        }
        _ => false,
    }
}

/// Reads all statements of a script. `BEGIN STATEMENT SET; …; END;` becomes one, at the place of its BEGIN.
pub fn parse_script(script: &str) -> Result<Vec<(Location, FlinkStatement)>> {
    let mut statements = Vec::new();
    let mut set: Option<(Location, Vec<super::statement::Insert>)> = None;
    for piece in split(script)? {
        let refuse = |message: String| Err(Error::invalid_input(message).with_location(piece.place));
        match (piece.parse()?, &mut set) {
            (FlinkStatement::BeginStatementSet, None) => set = Some((piece.place, Vec::new())),
            (FlinkStatement::Insert(insert), Some((_, inserts))) if inserts.len() < INSERTS_MAX => {
                inserts.push(*insert);
            }
            (FlinkStatement::Insert(_), Some(_)) => {
                return refuse(format!("a statement set has at most {INSERTS_MAX} INSERTs"));
            }
            (FlinkStatement::End, Some(_)) => {
                let Some((place, inserts)) = set.take() else { continue };
                if inserts.is_empty() {
                    return refuse("the statement set has no INSERT".into());
                }
                statements.push((place, FlinkStatement::StatementSet(inserts)));
            }
            (FlinkStatement::End, None) => return refuse("END without BEGIN STATEMENT SET".into()),
            (_, Some(_)) => return refuse("a statement set has INSERTs only, and ends with END".into()),
            (statement, None) => statements.push((piece.place, statement)),
        }
    }
    match set {
        Some((place, _)) => {
            Err(Error::invalid_input("the statement set does not end: expected END").with_location(place))
        }
        None => Ok(statements),
    }
}

#[cfg(test)]
#[path = "script_tests.rs"]
mod tests;

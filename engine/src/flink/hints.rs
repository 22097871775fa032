//! Hints: `/*+ OPTIONS('k' = 'v') */` after a table, `/*+ STATE_TTL('t' = '1d') */` after SELECT.
//!
//! They are comments to the parser, so they are taken from the tokens and kept beside the tree, with the place of what
//! they stand after.

use std::collections::BTreeMap;

use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer, Whitespace};
use tereza_runtime::{Error, Location, Result};

use super::dialect::FlinkDialect;
use super::reader::{at, place};

/// The most hints of one query.
pub const HINTS_MAX: usize = 256;

/// One hint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint {
    /// `OPTIONS`, `STATE_TTL`, `LOOKUP`, …: in upper case.
    pub name: String,
    /// `'k' = 'v'` as key and value; an argument without a value has none.
    pub arguments: Vec<(String, Option<String>)>,
    pub target: HintTarget,
}

/// What a hint is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HintTarget {
    /// The SELECT that begins here.
    Select(Location),
    /// The table with this name, and where the name begins.
    Table(Vec<String>, Location),
}

impl Hint {
    /// The arguments of `OPTIONS`.
    pub fn options(&self) -> Result<BTreeMap<String, String>> {
        self.arguments
            .iter()
            .map(|(key, value)| match value {
                Some(value) => Ok((key.clone(), value.clone())),
                None => Err(self.refuse(format!("option '{key}' of hint {} has no value", self.name))),
            })
            .collect()
    }

    fn refuse(&self, message: String) -> Error {
        let (HintTarget::Select(place) | HintTarget::Table(_, place)) = &self.target;
        Error::invalid_input(message).with_location(*place)
    }
}

/// The hints among tokens.
pub(super) fn hints(tokens: &[TokenWithSpan]) -> Result<Vec<Hint>> {
    let mut found = Vec::new();
    for (n, token) in tokens.iter().enumerate() {
        let Token::Whitespace(Whitespace::MultiLineComment(comment)) = &token.token else { continue };
        let Some(text) = comment.strip_prefix('+') else { continue };
        let Some(target) = target(&tokens[..n]) else {
            return Err(at(misplaced(), token));
        };
        read(text, token, &target, &mut found)?;
        if found.len() > HINTS_MAX {
            return Err(at(Error::invalid_input(format!("a query has at most {HINTS_MAX} hints")), token));
        }
    }
    Ok(found)
}

/// The error for a hint that nothing takes.
pub(super) fn misplaced() -> Error {
    Error::invalid_input("a hint stands after SELECT or after the name of a table")
}

/// Whether a token is a hint.
pub(super) fn is_hint(token: &TokenWithSpan) -> bool {
    matches!(&token.token, Token::Whitespace(Whitespace::MultiLineComment(comment)) if comment.starts_with('+'))
}

/// What the tokens before a hint end with.
fn target(before: &[TokenWithSpan]) -> Option<HintTarget> {
    let mut tokens = before.iter().rev().filter(|token| !matches!(token.token, Token::Whitespace(_))).peekable();
    let mut parts = Vec::new();
    loop {
        let token = tokens.next()?;
        let Token::Word(word) = &token.token else { return None };
        let begin = place(token)?;
        if parts.is_empty() && word.quote_style.is_none() && word.value.eq_ignore_ascii_case("SELECT") {
            return Some(HintTarget::Select(begin));
        }
        parts.insert(0, word.value.clone());
        if parts.len() == 3 || tokens.next_if(|token| token.token == Token::Period).is_none() {
            return Some(HintTarget::Table(parts, begin));
        }
    }
}

/// Reads `NAME(arguments), NAME, …`.
fn read(text: &str, comment: &TokenWithSpan, target: &HintTarget, found: &mut Vec<Hint>) -> Result<()> {
    let wrong = |expected: &str| {
        at(Error::invalid_input(format!("the hint is not understood: expected {expected}")), comment)
            .with_hint("a hint is written /*+ OPTIONS('key' = 'value') */")
    };
    let tokens = Tokenizer::new(&FlinkDialect, text).tokenize().map_err(|_| wrong("quotes that are closed"))?;
    let mut tokens = tokens.into_iter().filter(|token| !matches!(token, Token::Whitespace(_))).peekable();
    while tokens.peek().is_some() {
        let Some(Token::Word(name)) = tokens.next() else { return Err(wrong("the name of a hint")) };
        let mut arguments = Vec::new();
        if tokens.next_if_eq(&Token::LParen).is_some() && tokens.next_if_eq(&Token::RParen).is_none() {
            loop {
                let name = tokens.next().and_then(key).ok_or_else(|| wrong("a key"))?;
                let argument = match tokens.next_if_eq(&Token::Eq) {
                    Some(_) => match tokens.next() {
                        Some(Token::SingleQuotedString(text)) => Some(text),
                        _ => return Err(wrong("a value in single quotes")),
                    },
                    None => None,
                };
                arguments.push((name, argument));
                match tokens.next() {
                    Some(Token::Comma) => {}
                    Some(Token::RParen) => break,
                    _ => return Err(wrong("',' or ')'")),
                }
            }
        }
        found.push(Hint { name: name.value.to_uppercase(), arguments, target: target.clone() });
        tokens.next_if_eq(&Token::Comma);
    }
    Ok(())
}

fn key(token: Token) -> Option<String> {
    match token {
        Token::SingleQuotedString(text) | Token::Number(text, false) => Some(text),
        Token::Word(word) => Some(word.value),
        _ => None,
    }
}

#[cfg(test)]
#[path = "hints_tests.rs"]
mod tests;

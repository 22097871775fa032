//! What texts of every dialect have in common: places in them, bounds on them, and words for what is wrong with them.
//!
//! A parser's messages become Tereza's: the layers and the place are taken out of the text, unknown names get the nearest
//! known ones by edit distance, and common slips get a hint.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::{self, Token, TokenWithSpan, Word};
use tereza_runtime::{Error, Location, Result};

/// Words that statements and clauses begin with: what a misspelt word near one of them was probably meant to be.
const STRUCTURE_WORDS: [&str; 49] = [
    "ALTER",
    "ANALYZE",
    "AND",
    "BETWEEN",
    "CASE",
    "COLUMN",
    "COLUMNS",
    "COPY",
    "CREATE",
    "CROSS",
    "DATABASE",
    "DELETE",
    "DESCRIBE",
    "DISTINCT",
    "DROP",
    "EXCEPT",
    "EXISTS",
    "EXPLAIN",
    "EXTERNAL",
    "FROM",
    "GROUP",
    "HAVING",
    "INNER",
    "INSERT",
    "INTERSECT",
    "INTO",
    "JOIN",
    "LEFT",
    "LIMIT",
    "LOCATION",
    "OFFSET",
    "ORDER",
    "OUTER",
    "OVERWRITE",
    "PARTITION",
    "PARTITIONED",
    "REPLACE",
    "RIGHT",
    "SCHEMA",
    "SELECT",
    "SHOW",
    "STORED",
    "TABLE",
    "TRUNCATE",
    "UNION",
    "UPDATE",
    "USING",
    "VALUES",
    "WHERE",
];

/// The known name that is nearest to `name`, if one is near enough to be what was meant.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    let limit = (name.chars().count() / 3).clamp(1, 4);
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&name, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// `error` with the hint that `known` has a name like `name`.
pub(crate) fn did_you_mean<'a>(error: Error, name: &str, known: impl IntoIterator<Item = &'a str>) -> Error {
    match nearest(name, known) {
        Some(candidate) => error.with_hint(format!("did you mean '{candidate}'?")),
        None => error,
    }
}

/// The error for text that the parser or the tokenizer did not take.
///
/// `quote` is what a name that is a keyword is written in.
pub(crate) fn syntax(sql: &str, tokens: &[TokenWithSpan], error: &ParserError, quote: char) -> Error {
    let text = match error {
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => text.as_str(),
        ParserError::RecursionLimitExceeded => {
            return Error::invalid_input("the statement is nested too deeply")
                .with_hint("SET datafusion.sql_parser.recursion_limit to a greater number");
        }
    };
    let (message, location) = take_location(text);
    let location = location.or_else(|| message.contains("EOF").then(|| end_of(sql)));
    let message = message
        .trim_start_matches("sql parser error: ")
        .replace("Expected: ", "expected ")
        .replace("found: EOF", "found the end of the text")
        .replace("found: ", "found ");
    let hint = hint(tokens, &message, location, quote);
    let mut error = Error::invalid_input(lower_first(message.trim_end_matches('.')));
    if let Some(location) = location {
        error = error.with_location(location);
    }
    match hint {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

/// Cuts ` at Line: 1, Column: 2` off a message.
fn take_location(text: &str) -> (&str, Option<Location>) {
    let Some(at) = text.rfind(" at Line: ") else { return (text, None) };
    let numbers = text[at + " at Line: ".len()..].split_once(", Column: ");
    let location = numbers.and_then(|(line, column)| {
        let column: String = column.chars().take_while(char::is_ascii_digit).collect();
        Some(Location { line: line.parse().ok()?, column: column.parse().ok()? })
    });
    match location {
        Some(_) => (&text[..at], location),
        None => (text, None),
    }
}

/// The place after the last character that is not white space.
fn end_of(sql: &str) -> Location {
    let text = sql.trim_end();
    let line = text.matches('\n').count() as u64 + 1;
    let column = text.rsplit('\n').next().unwrap_or_default().chars().count() as u64 + 1;
    Location { line, column }
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        // `EOF` and the like stay as they are.
        (Some(first), Some(second)) if second.is_lowercase() || second == ' ' => {
            first.to_lowercase().chain(text.chars().skip(1)).collect()
        }
        _ => text.into(),
    }
}

/// What the writer of the statement probably meant.
fn hint(tokens: &[TokenWithSpan], message: &str, location: Option<Location>, quote: char) -> Option<String> {
    if message.contains("nterminated") {
        return Some("close the quote; a quote inside a text is written twice".into());
    }
    if message.contains("multi-line comment") {
        return Some("close the comment with */".into());
    }
    if message.starts_with("expected )") && message.ends_with("the end of the text") {
        return Some("a '(' is not closed".into());
    }
    let meaningful: Vec<&TokenWithSpan> =
        tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_) | Token::EOF)).collect();
    let here = match location {
        Some(at) => {
            meaningful.iter().position(|token| token.span.start.line == at.line && token.span.start.column == at.column)
        }
        None => None,
    };
    let found = here.map(|here| &meaningful[here].token);
    let before = here.unwrap_or(meaningful.len()).checked_sub(1).map(|before| &meaningful[before].token);
    // A misspelt clause is often read as an alias, and the parser stumbles over the word after it.
    if let Some((wrong, meant)) = found.and_then(misspelt).or_else(|| before.and_then(misspelt)) {
        return Some(format!("did you mean {meant} instead of '{wrong}'?"));
    }
    let (found, before) = (found?, before?);
    if let Token::Word(word) = found
        && word.quote_style.is_none()
        && word.keyword != Keyword::NoKeyword
        && message.starts_with("expected identifier")
    {
        return Some(format!("'{}' is a keyword: as a name it is written {quote}{}{quote}", word.value, word.value));
    }
    (begins_value(found) && ends_value(before)).then(|| format!("is a comma missing before {found}?"))
}

/// A word that is no keyword and nearly one.
fn misspelt(token: &Token) -> Option<(&str, &'static str)> {
    match token {
        Token::Word(Word { value, quote_style: None, keyword: Keyword::NoKeyword }) if value.chars().count() > 2 => {
            nearest(value, STRUCTURE_WORDS).map(|meant| (value.as_str(), meant))
        }
        _ => None,
    }
}

fn begins_value(token: &Token) -> bool {
    match token {
        Token::Word(word) => word.keyword == Keyword::NoKeyword || word.quote_style.is_some(),
        Token::Number(..) | Token::SingleQuotedString(_) => true,
        _ => false,
    }
}

fn ends_value(token: &Token) -> bool {
    begins_value(token) || *token == Token::RParen
}

/// Turns the tokenizer's lines and columns into byte offsets; places must be asked for in order.
pub(crate) struct Places<'a> {
    chars: std::str::CharIndices<'a>,
    line: u64,
    column: u64,
    length: usize,
}

impl<'a> Places<'a> {
    pub(crate) fn new(sql: &'a str) -> Self {
        Self { chars: sql.char_indices(), line: 1, column: 1, length: sql.len() }
    }

    /// The offset of the character at `place`, or of the end of the text.
    pub(crate) fn byte(&mut self, place: tokenizer::Location) -> usize {
        loop {
            let offset = self.chars.offset();
            if (self.line, self.column) >= (place.line, place.column) {
                return offset.min(self.length);
            }
            match self.chars.next() {
                Some((_, '\n')) => {
                    self.line += 1;
                    self.column = 1;
                }
                Some(_) => self.column += 1,
                None => return self.length,
            }
        }
    }
}

/// Operators that may stand in one chain (`a = 1 OR a = 2 OR …`) between commas and parentheses. Planning one takes time that
/// grows with its square and stack that grows with its length; lists (`IN (…)`, `VALUES`) have no such bound.
const CHAIN_MAX: usize = 4096;

/// Refuses a text with an expression that is longer than can be planned.
pub(crate) fn check_chains(tokens: &[TokenWithSpan]) -> Result<()> {
    let mut chains = vec![0_usize];
    for token in tokens {
        match &token.token {
            Token::LParen | Token::LBracket | Token::LBrace => chains.push(0),
            Token::RParen | Token::RBracket | Token::RBrace if chains.len() > 1 => drop(chains.pop()),
            Token::Comma | Token::SemiColon => *chains.last_mut().unwrap_or(&mut 0) = 0,
            token if is_operator(token) => {
                let Some(chain) = chains.last_mut() else { continue };
                *chain += 1;
                if *chain > CHAIN_MAX {
                    return Err(Error::invalid_input(format!(
                        "an expression has more than {CHAIN_MAX} operators in one chain"
                    ))
                    .with_hint("write a long chain of OR as IN (…), or join with a table of the values"));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn is_operator(token: &Token) -> bool {
    match token {
        Token::Word(word) => matches!(
            word.keyword,
            Keyword::AND
                | Keyword::OR
                | Keyword::NOT
                | Keyword::IS
                | Keyword::IN
                | Keyword::LIKE
                | Keyword::ILIKE
                | Keyword::BETWEEN
                | Keyword::AT
                | Keyword::COLLATE
                | Keyword::UNION
                | Keyword::INTERSECT
                | Keyword::EXCEPT
                | Keyword::JOIN
                | Keyword::WHEN
        ),
        Token::Whitespace(_) | Token::Number(..) | Token::Period | Token::EOF => false,
        Token::SingleQuotedString(_) | Token::Placeholder(_) | Token::RParen | Token::RBracket | Token::RBrace => false,
        // Every other token is punctuation or an operator, or a literal too rare to make a chain.
        _ => true,
    }
}

//! Reads Flink's own grammar from the tokens of one statement.

use datafusion::sql::sqlparser::ast::{Expr, Query};
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};
use tereza_runtime::{Error, ErrorKind, Location, Result};

use super::dialect::FlinkDialect;
use super::hints::{Hint, hints, is_hint, misplaced};
use super::types::{FlinkType, TYPE_WORDS, parse_kept_type, parse_type};
use crate::syntax::{Places, check_chains, did_you_mean, nearest, syntax};

/// The levels of parentheses, brackets and expressions that a statement may have.
pub const DEPTH_MAX: usize = 50;

/// The most bytes of one statement or script.
pub const TEXT_BYTES_MAX: usize = 4 << 20;

/// The stack of the parser; only what is used of it is memory.
const STACK_BYTES: usize = 32 << 20;

/// What the message of a parser's error begins with when the text is right and Tereza cannot do it.
pub(super) const NOT_SUPPORTED: &str = "not supported: ";

static DIALECT: FlinkDialect = FlinkDialect;

/// A query: its tree, its text and the hints in it.
#[derive(Debug, Clone)]
pub struct FlinkQuery {
    pub query: Box<Query>,
    /// As it was written, without what is around it.
    pub text: String,
    pub hints: Vec<Hint>,
}

/// The tokens of one statement and how far they are read.
pub(super) struct Reader<'a> {
    sql: &'a str,
    tokens: Vec<TokenWithSpan>,
    /// Where the last text that was kept ended: texts are kept in order.
    places: Places<'a>,
    /// The number of tokens whose hints are kept.
    hints_read: usize,
    pub(super) parser: Parser<'static>,
}

/// Cuts a text into tokens.
pub(super) fn tokens(sql: &str) -> Result<Vec<TokenWithSpan>> {
    if sql.len() > TEXT_BYTES_MAX {
        return Err(Error::invalid_input(format!("a text of SQL has at most {TEXT_BYTES_MAX} bytes")));
    }
    let tokens = Tokenizer::new(&DIALECT, sql)
        .tokenize_with_location()
        .map_err(|error| syntax(sql, &[], &ParserError::from(error), '`'))?;
    match tokens.iter().find(|token| matches!(token.token, Token::DoubleQuotedString(_))) {
        Some(quoted) => {
            let error = Error::invalid_input("double quotes have no meaning")
                .with_hint("write a text in single quotes and a name in backticks");
            Err(at(error, quoted))
        }
        None => Ok(tokens),
    }
}

/// `error` at the place of a token.
pub(super) fn at(error: Error, token: &TokenWithSpan) -> Error {
    match place(token) {
        Some(place) => error.with_location(place),
        None => error,
    }
}

/// Whether a token is this word without quotes.
pub(super) fn is_word(token: &TokenWithSpan, word: &str) -> bool {
    match &token.token {
        Token::Word(found) => found.quote_style.is_none() && found.value.eq_ignore_ascii_case(word),
        _ => false,
    }
}

/// An error of the parser's kind with the place of a token.
pub(super) fn at_place(message: &str, token: &TokenWithSpan) -> ParserError {
    let start = token.span.start;
    if start.line == 0 {
        return ParserError::ParserError(message.to_owned());
    }
    ParserError::ParserError(format!("{message} at Line: {}, Column: {}", start.line, start.column))
}

/// The place where a token begins.
pub(super) fn place(token: &TokenWithSpan) -> Option<Location> {
    let start = token.span.start;
    (start.line > 0).then_some(Location { line: start.line, column: start.column })
}

/// Parses an expression as Flink writes it: what a computed column or a watermark is.
pub fn parse_expression(text: &str) -> Result<Expr> {
    with_stack(|| {
        let mut reader = Reader::new(text)?;
        let expression = reader.expression()?.0;
        reader.end()?;
        Ok(expression)
    })
}

impl<'a> Reader<'a> {
    /// A reader at the beginning of a text of one statement.
    pub(super) fn new(sql: &'a str) -> Result<Self> {
        let tokens = tokens(sql)?;
        check_chains(&tokens)?;
        check_depth(&tokens)?;
        let parser = Parser::new(&DIALECT).with_recursion_limit(DEPTH_MAX).with_tokens_with_locations(tokens.clone());
        Ok(Self { sql, tokens, places: Places::new(sql), hints_read: 0, parser })
    }

    /// The next token.
    pub(super) fn next(&self) -> &TokenWithSpan {
        self.parser.peek_token_ref()
    }

    /// The next token if it is a word without quotes, in upper case; it is not consumed.
    pub(super) fn word(&self) -> Option<String> {
        match &self.next().token {
            Token::Word(word) if word.quote_style.is_none() => Some(word.value.to_uppercase()),
            _ => None,
        }
    }

    /// Whether the next tokens are these words (parted by spaces); nothing is consumed.
    pub(super) fn at(&self, words: &str) -> bool {
        words.split(' ').enumerate().all(|(n, word)| is_word(self.parser.peek_nth_token_ref(n), word))
    }

    /// Consumes these words if they are next, all of them or none.
    pub(super) fn take(&mut self, words: &str) -> bool {
        let found = self.at(words);
        if found {
            for _ in words.split(' ') {
                self.parser.advance_token();
            }
        }
        found
    }

    /// Consumes these words or fails.
    pub(super) fn expect(&mut self, words: &str) -> Result<()> {
        for word in words.split(' ') {
            if !self.take(word) {
                return Err(self.expected(&[word]));
            }
        }
        Ok(())
    }

    /// Consumes one of the words and says which.
    pub(super) fn expect_one<'w>(&mut self, words: &[&'w str]) -> Result<&'w str> {
        match words.iter().find(|word| self.take(word)) {
            Some(word) => Ok(word),
            None => Err(self.expected(words)),
        }
    }

    /// Consumes the token if it is next.
    pub(super) fn take_token(&mut self, token: &Token) -> bool {
        self.parser.consume_token(token)
    }

    /// Consumes the token or fails.
    pub(super) fn expect_token(&mut self, token: &Token) -> Result<()> {
        if self.take_token(token) { Ok(()) } else { Err(self.expected(&[&token.to_string()])) }
    }

    /// The error that one of these was expected here: words of the grammar, or descriptions in lower case.
    pub(super) fn expected(&self, choices: &[&str]) -> Error {
        let listed = match choices {
            [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
            _ => choices.join(", "),
        };
        let error = match self.parser.expected_ref::<()>(&listed, self.next()) {
            Ok(()) => return Error::internal("the parser expected something and did not say so"),
            Err(error) => self.error(&error),
        };
        match self.word().and_then(|word| nearest(&word, choices.iter().copied()).filter(|near| *near != word)) {
            Some(near) => error.with_hint(format!("did you mean {near}?")),
            None => error,
        }
    }

    /// An error at the next token.
    pub(super) fn refuse(&self, error: Error) -> Error {
        at(error, self.next())
    }

    /// An error at the last place where `name` is, or without a place.
    pub(super) fn refuse_name(&self, error: Error, name: &str) -> Error {
        let named = |token: &&TokenWithSpan| matches!(&token.token, Token::Word(word) if word.value == name);
        match self.tokens.iter().rev().find(named) {
            Some(token) => at(error, token),
            None => error,
        }
    }

    /// What the parser did not take, in Tereza's words.
    pub(super) fn error(&self, error: &ParserError) -> Error {
        if matches!(error, ParserError::RecursionLimitExceeded) {
            return too_deep();
        }
        let error = syntax(self.sql, &self.tokens, error, '`');
        if let Some(name) = error.message().strip_prefix(NOT_SUPPORTED) {
            let unsupported = Error::new(ErrorKind::Unsupported, name);
            return match error.location() {
                Some(place) => unsupported.with_location(place),
                None => unsupported,
            };
        }
        match error.message().strip_prefix("unknown type '").and_then(|rest| rest.strip_suffix('\'')) {
            Some(name) => {
                let name = name.to_owned();
                did_you_mean(error, &name, TYPE_WORDS)
            }
            None => error,
        }
    }

    fn parsed<T>(&self, parsed: Result<T, ParserError>) -> Result<T> {
        parsed.map_err(|error| self.error(&error))
    }

    /// A name of one part.
    pub(super) fn identifier(&mut self) -> Result<String> {
        match &self.next().token {
            Token::Word(word) => {
                let name = word.value.clone();
                self.parser.advance_token();
                Ok(name)
            }
            _ => Err(self.expected(&["a name"])),
        }
    }

    /// The parts of a name, at most `max` of them.
    pub(super) fn name(&mut self, max: usize) -> Result<Vec<String>> {
        let mut parts = vec![self.identifier()?];
        while self.take_token(&Token::Period) {
            if parts.len() == max {
                return Err(self.refuse(Error::invalid_input(format!("the name has more than {max} parts"))));
            }
            parts.push(self.identifier()?);
        }
        Ok(parts)
    }

    /// A text in single quotes.
    pub(super) fn text(&mut self) -> Result<String> {
        match &self.next().token {
            Token::SingleQuotedString(text) => {
                let text = text.clone();
                self.parser.advance_token();
                Ok(text)
            }
            _ => Err(self.expected(&["a text in single quotes"])),
        }
    }

    /// A whole number of at least 1.
    pub(super) fn count(&mut self) -> Result<u32> {
        match &self.next().token {
            Token::Number(number, false) => match number.parse::<u32>() {
                Ok(number) if (1..=i32::MAX as u32).contains(&number) => {
                    self.parser.advance_token();
                    Ok(number)
                }
                _ => Err(self.refuse(Error::invalid_input(format!("{number} is not between 1 and {}", i32::MAX)))),
            },
            _ => Err(self.expected(&["a number"])),
        }
    }

    /// A data type.
    pub(super) fn data_type(&mut self) -> Result<FlinkType> {
        let parsed = parse_type(&mut self.parser);
        self.parsed(parsed)
    }

    /// A data type as a catalog keeps it.
    pub(super) fn kept_type(&mut self) -> Result<FlinkType> {
        let parsed = parse_kept_type(&mut self.parser);
        self.parsed(parsed)
    }

    /// An expression, and how it was written.
    pub(super) fn expression(&mut self) -> Result<(Expr, String)> {
        let start = self.next().span.start;
        let parsed = self.parser.parse_expr();
        let expression = self.parsed(parsed)?;
        Ok((expression, self.since(start, self.read())))
    }

    /// A query, and how it was written.
    pub(super) fn query(&mut self) -> Result<FlinkQuery> {
        let start = self.next().span.start;
        let parsed = self.parser.parse_query();
        let query = self.parsed(parsed)?;
        let end = self.read_with_hints();
        let first = self.tokens.partition_point(|token| token.span.start < start);
        let hints = self.hints(first, end)?;
        Ok(FlinkQuery { query, text: self.since(start, end), hints })
    }

    /// The hints right after the name that was read last.
    pub(super) fn hints_here(&mut self) -> Result<Vec<Hint>> {
        let is_name =
            |token: &TokenWithSpan| matches!(token.token, Token::Word(_) | Token::Period | Token::Whitespace(_));
        let begin = self.tokens[..self.read()].iter().rposition(|token| !is_name(token)).map_or(0, |at| at + 1);
        self.hints(begin, self.read_with_hints())
    }

    /// The hints among these tokens. None before them may be left.
    fn hints(&mut self, begin: usize, end: usize) -> Result<Vec<Hint>> {
        self.no_hints_before(begin)?;
        let found = hints(self.tokens.get(begin..end).unwrap_or_default())?;
        self.hints_read = end;
        Ok(found)
    }

    fn no_hints_before(&self, end: usize) -> Result<()> {
        let passed = self.tokens.get(self.hints_read..end).unwrap_or_default();
        match passed.iter().find(|token| is_hint(token)) {
            Some(token) => Err(at(misplaced(), token)),
            None => Ok(()),
        }
    }

    /// The number of tokens that were read, without white space and comments after the last one.
    fn read(&self) -> usize {
        let read = &self.tokens[..self.parser.index().min(self.tokens.len())];
        read.iter().rposition(|token| !matches!(token.token, Token::Whitespace(_))).map_or(0, |last| last + 1)
    }

    /// The number of tokens that were read, with hints after the last one: the parser takes them for white space.
    fn read_with_hints(&self) -> usize {
        let read = self.read();
        let blank = self.tokens[read..].iter().take_while(|token| matches!(token.token, Token::Whitespace(_)));
        read + blank.enumerate().filter(|(_, token)| is_hint(token)).last().map_or(0, |(at, _)| at + 1)
    }

    /// The text from `start` to the end of the first `end` tokens.
    fn since(&mut self, start: datafusion::sql::sqlparser::tokenizer::Location, end: usize) -> String {
        let Some(last) = end.checked_sub(1).and_then(|last| self.tokens.get(last)) else { return String::new() };
        let from = self.places.byte(start);
        let to = self.places.byte(last.span.end);
        self.sql.get(from..to).unwrap_or_default().to_owned()
    }

    /// Something in parentheses, once or more, parted by commas.
    pub(super) fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        self.expect_token(&Token::LParen)?;
        let mut items = Vec::new();
        loop {
            items.push(item(self)?);
            if !self.take_token(&Token::Comma) {
                break;
            }
        }
        if self.take_token(&Token::RParen) { Ok(items) } else { Err(self.expected(&["','", "')'"])) }
    }

    /// The end of the statement.
    pub(super) fn end(&mut self) -> Result<()> {
        let mut ended = false;
        while self.take_token(&Token::SemiColon) {
            ended = true;
        }
        if self.next().token == Token::EOF {
            return self.no_hints_before(self.tokens.len());
        }
        if ended {
            let error = Error::invalid_input("the text has more than one statement");
            return Err(self.refuse(error).with_hint("send them one at a time"));
        }
        Err(self.expected(&["the end of the statement"]))
    }
}

fn too_deep() -> Error {
    Error::invalid_input(format!("the statement is nested deeper than {DEPTH_MAX} levels"))
}

/// Refuses brackets in brackets before the parser sees them: it counts levels by its own measure, which is not this one.
fn check_depth(tokens: &[TokenWithSpan]) -> Result<()> {
    let mut depth = 0_usize;
    for token in tokens {
        match token.token {
            Token::LParen | Token::LBracket | Token::LBrace => depth += 1,
            Token::RParen | Token::RBracket | Token::RBrace => depth = depth.saturating_sub(1),
            _ => continue,
        }
        if depth > DEPTH_MAX {
            return Err(at(too_deep(), token));
        }
    }
    Ok(())
}

/// Does `work` on a stack that the parser cannot fill with [`DEPTH_MAX`] levels: the stack of a worker is too small for
/// them where code is not optimised.
pub(super) fn with_stack<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("flink-parser".into()).stack_size(STACK_BYTES);
        match thread.spawn_scoped(scope, work) {
            Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(error) => Err(Error::io("starting a thread for the parser", error)),
        }
    })
}

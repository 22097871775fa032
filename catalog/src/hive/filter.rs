//! Filters of partitions and tables as clients write them, from their text to what they let through.
//!
//! The grammar is that of Hive's `Filter.g` with what engines really send, and more: any comparison works on a key of any
//! type, literals may stand left or right, and there are `NOT`, `IS NULL` and `STRUCT`. A metastore refuses many of these,
//! and a client that is refused asks for all partitions.

use std::cmp::Ordering;
use std::collections::HashSet;

use super::pattern::Pattern;
use super::value::{Family, Value};
use crate::model::DEFAULT_PARTITION;
use crate::store::PartitionFilter;

/// Bytes of a filter.
const TEXT_BYTES_MAX: usize = 4 << 20;
/// Parentheses and `NOT`s inside each other.
const DEPTH_MAX: usize = 400;

/// A key that a filter may name.
#[derive(Debug, Clone)]
pub(super) struct Key {
    /// In lower case.
    pub(super) name: String,
    pub(super) family: Family,
}

/// A filter, ready to be compared.
#[derive(Debug)]
pub(super) struct Filter {
    keys: Vec<Key>,
    condition: Condition,
}

#[derive(Debug)]
enum Condition {
    Always(bool),
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Not(Box<Condition>),
    Compare(usize, Operator, Value),
    In(usize, OneOf),
    Like(usize, Pattern),
    IsNull(usize),
    /// `(STRUCT(a, b)) IN (CONST STRUCT(1, 'x'), …)`.
    RowIn(Vec<usize>, Vec<Vec<Value>>),
}

/// Literals of which any will do.
#[derive(Debug)]
struct OneOf {
    values: Vec<Value>,
    texts: HashSet<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Operator {
    /// The operator that says the same with both sides exchanged.
    fn turned(self) -> Self {
        match self {
            Self::Less => Self::Greater,
            Self::LessOrEqual => Self::GreaterOrEqual,
            Self::Greater => Self::Less,
            Self::GreaterOrEqual => Self::LessOrEqual,
            same => same,
        }
    }

    fn holds(self, ordering: Ordering) -> bool {
        match self {
            Self::Equal => ordering.is_eq(),
            Self::NotEqual => ordering.is_ne(),
            Self::Less => ordering.is_lt(),
            Self::LessOrEqual => ordering.is_le(),
            Self::Greater => ordering.is_gt(),
            Self::GreaterOrEqual => ordering.is_ge(),
        }
    }
}

impl Filter {
    /// Parses a filter over `keys`; an empty one lets everything through. `open` makes the key that a name which is none of
    /// them stands for, if it may be one. The error is what the client is told.
    pub(super) fn parse(text: &str, keys: Vec<Key>, open: fn(&str) -> Option<Key>) -> Result<Self, String> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(format!("the filter has {} bytes, more than {TEXT_BYTES_MAX}", text.len()));
        }
        let tokens = tokens(text)?;
        let mut parser = Parser { tokens: &tokens, at: 0, depth: 0, keys, open };
        let condition = if tokens.is_empty() { Condition::Always(true) } else { parser.any()? };
        match parser.peek() {
            None => Ok(Self { keys: parser.keys, condition }),
            Some(token) => Err(format!("Error parsing partition filter: {token:?} is not expected in '{text}'")),
        }
    }

    /// The keys that it may name: those it was given, then those that were opened.
    pub(super) fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// Whether it lets through what has these values, one for each key; `None` is NULL.
    pub(super) fn matches(&self, values: &[Option<&str>]) -> bool {
        self.holds(&self.condition, values) == Some(true)
    }

    /// A filter of the store that lets through all that this one does, and is no wider than it has to be.
    pub(super) fn for_store(&self) -> PartitionFilter {
        let mut values: Vec<Option<Vec<String>>> = vec![None; self.keys.len()];
        let parts = match &self.condition {
            Condition::All(parts) => parts.as_slice(),
            other => std::slice::from_ref(other),
        };
        for part in parts {
            let (key, allowed): (usize, Vec<&Value>) = match part {
                Condition::Compare(key, Operator::Equal, value) => (*key, vec![value]),
                Condition::In(key, allowed) => (*key, allowed.values.iter().collect()),
                _ => continue,
            };
            // Only there equal means the same text.
            if self.keys[key].family == Family::Text {
                let texts: HashSet<&str> = allowed.into_iter().map(|value| value.text.as_str()).collect();
                match &mut values[key] {
                    Some(before) => before.retain(|text| texts.contains(text.as_str())),
                    none => *none = Some(texts.into_iter().map(str::to_owned).collect()),
                }
            }
        }
        PartitionFilter { values }
    }

    /// `None` is SQL's unknown.
    fn holds(&self, condition: &Condition, values: &[Option<&str>]) -> Option<bool> {
        match condition {
            Condition::Always(holds) => Some(*holds),
            Condition::All(parts) => {
                let mut all = Some(true);
                for part in parts {
                    match self.holds(part, values) {
                        Some(false) => return Some(false),
                        None => all = None,
                        Some(true) => {}
                    }
                }
                all
            }
            Condition::Any(parts) => {
                let mut any = Some(false);
                for part in parts {
                    match self.holds(part, values) {
                        Some(true) => return Some(true),
                        None => any = None,
                        Some(false) => {}
                    }
                }
                any
            }
            Condition::Not(inner) => self.holds(inner, values).map(|holds| !holds),
            Condition::Compare(key, operator, value) => self.compare(*key, *operator, value, values),
            Condition::In(key, allowed) => self.is_in(*key, allowed, values),
            Condition::Like(key, pattern) => values[*key].map(|text| pattern.matches(text)),
            Condition::IsNull(key) => Some(values[*key].is_none()),
            Condition::RowIn(keys, rows) => {
                if keys.iter().any(|key| values[*key].is_none()) {
                    return None;
                }
                let fits = |row: &Vec<Value>| {
                    let equal = |(key, value): (&usize, &Value)| {
                        self.compare(*key, Operator::Equal, value, values) == Some(true)
                    };
                    keys.iter().zip(row).all(equal)
                };
                Some(rows.iter().any(fits))
            }
        }
    }

    fn compare(&self, key: usize, operator: Operator, literal: &Value, values: &[Option<&str>]) -> Option<bool> {
        match values[key] {
            Some(text) => Some(operator.holds(self.keys[key].family.read(text).compare(literal))),
            // NULL has a name, by which it is asked for too; and a metastore takes it for different from all else.
            None if literal.text.is_empty() || literal.text == DEFAULT_PARTITION => {
                Some(matches!(operator, Operator::Equal | Operator::LessOrEqual | Operator::GreaterOrEqual))
            }
            None if operator == Operator::NotEqual => Some(true),
            None => None,
        }
    }

    fn is_in(&self, key: usize, allowed: &OneOf, values: &[Option<&str>]) -> Option<bool> {
        match values[key] {
            // The same text is equal whatever the type; for texts nothing else is.
            Some(text) if allowed.texts.contains(text) => Some(true),
            Some(_) if self.keys[key].family == Family::Text => Some(false),
            Some(text) => {
                let value = self.keys[key].family.read(text);
                Some(allowed.values.iter().any(|literal| value.compare(literal).is_eq()))
            }
            None if allowed.texts.contains(DEFAULT_PARTITION) => Some(true),
            None => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// A name or a word of the grammar, as written.
    Word(String),
    /// A name in back quotes.
    Quoted(String),
    /// A literal in quotes.
    Text(String),
    /// A number, or a date without quotes.
    Number(String),
    Sign(&'static str),
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    const SIGNS: [&str; 11] = ["<=", ">=", "<>", "!=", "==", "=", "<", ">", "(", ")", ","];
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let len;
        if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            len = sign.len();
            tokens.push(Token::Sign(sign));
        } else if matches!(first, '"' | '\'' | '`') {
            let Some(end) = end_of_quoted(rest, first) else {
                return Err(format!("Error parsing partition filter: a {first} is never closed in '{text}'"));
            };
            let inner = rest[1..end].to_owned();
            tokens.push(if first == '`' { Token::Quoted(inner) } else { Token::Text(inner) });
            len = end + 1;
        } else if first.is_ascii_digit() || (matches!(first, '-' | '+' | '.') && rest[1..].starts_with(is_numeric)) {
            let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+');
            len = rest[1..].find(|c| !is_part(c)).map_or(rest.len(), |at| at + 1);
            tokens.push(Token::Number(rest[..len].to_owned()));
        } else if first.is_alphabetic() || first == '_' {
            let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '$');
            len = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
            tokens.push(Token::Word(rest[..len].to_owned()));
        } else {
            return Err(format!("Error parsing partition filter; lexer error: '{first}' in '{text}'"));
        }
        rest = rest[len..].trim_start();
    }
    Ok(tokens)
}

fn is_numeric(c: char) -> bool {
    c.is_ascii_digit() || c == '.'
}

/// Where the closing quote is. A backslash keeps the next character from being one, but Spark writes backslashes that mean
/// nothing but themselves.
fn end_of_quoted(text: &str, quote: char) -> Option<usize> {
    let mut is_escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            c if c == quote => return Some(at),
            _ => {}
        }
    }
    text[1..].find(quote).map(|at| at + 1)
}

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
    depth: usize,
    keys: Vec<Key>,
    open: fn(&str) -> Option<Key>,
}

/// One side of a comparison.
enum Operand {
    Key(usize),
    Literal(Option<String>),
}

type Parsed<T> = Result<T, String>;

impl Parser<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn takes_sign(&mut self, sign: &str) -> bool {
        let is_next = matches!(self.peek(), Some(Token::Sign(next)) if *next == sign);
        self.at += usize::from(is_next);
        is_next
    }

    fn takes_word(&mut self, word: &str) -> bool {
        let is_next = is_word(self.peek(), word);
        self.at += usize::from(is_next);
        is_next
    }

    fn expect_sign(&mut self, sign: &str) -> Parsed<()> {
        if self.takes_sign(sign) { Ok(()) } else { Err(self.unexpected(sign)) }
    }

    fn unexpected(&self, wanted: &str) -> String {
        match self.peek() {
            Some(token) => format!("Error parsing partition filter: expected {wanted}, found {token:?}"),
            None => format!("Error parsing partition filter: expected {wanted} at its end"),
        }
    }

    fn any(&mut self) -> Parsed<Condition> {
        let mut parts = vec![self.all()?];
        while self.takes_word("or") {
            parts.push(self.all()?);
        }
        Ok(one_or(parts, Condition::Any))
    }

    fn all(&mut self) -> Parsed<Condition> {
        let mut parts = Vec::new();
        loop {
            match self.single()? {
                // In one list, so that what narrows the search is seen.
                Condition::All(inner) => parts.extend(inner),
                other => parts.push(other),
            }
            if !self.takes_word("and") {
                return Ok(one_or(parts, Condition::All));
            }
        }
    }

    fn single(&mut self) -> Parsed<Condition> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(format!("Error parsing partition filter: more than {DEPTH_MAX} parentheses inside each other"));
        }
        let condition = if self.takes_word("not") {
            Condition::Not(Box::new(self.single()?))
        } else if self.begins_group() {
            self.at += 1;
            let inner = self.any()?;
            self.expect_sign(")")?;
            inner
        } else {
            self.comparison()?
        };
        self.depth -= 1;
        Ok(condition)
    }

    /// Whether a parenthesis is around a condition and not around one side of it: `(ds) in ("1")` has the latter.
    fn begins_group(&self) -> bool {
        let rest = &self.tokens[self.at..];
        let opened = rest.iter().take_while(|token| **token == Token::Sign("(")).count();
        if opened == 0 || is_word(rest.get(opened), "struct") {
            return opened > 1 && !rest[opened..].is_empty() && self.struct_is_grouped(opened);
        }
        let closed = rest[opened..].iter().skip(1).take_while(|token| **token == Token::Sign(")")).count();
        // All the parentheses that are closed at once are around the one token; those left over are a group's.
        closed < opened
    }

    /// Of `((STRUCT(…)) IN (…))` the first parenthesis is a group's.
    fn struct_is_grouped(&self, opened: usize) -> bool {
        let rest = &self.tokens[self.at + opened + 1..];
        let inner = rest.iter().position(|token| *token == Token::Sign(")"));
        let after = inner.map_or(&[][..], |at| &rest[at + 1..]);
        after.iter().take_while(|token| **token == Token::Sign(")")).count() < opened
    }

    fn comparison(&mut self) -> Parsed<Condition> {
        let opened = self.tokens[self.at..].iter().take_while(|token| **token == Token::Sign("(")).count();
        if is_word(self.tokens.get(self.at + opened), "struct") {
            return self.row_in(opened);
        }
        for word in ["true", "false"] {
            let is_alone = is_word(self.peek(), word)
                && !matches!(self.tokens.get(self.at + 1), Some(Token::Sign(sign)) if !matches!(*sign, ")" | ","));
            if is_alone && self.takes_word(word) {
                return Ok(Condition::Always(word == "true"));
            }
        }
        let left = self.operand()?;
        let is_negated = self.takes_word("not");
        let key = |operand: &Operand| match operand {
            Operand::Key(key) => Ok(*key),
            Operand::Literal(_) => Err("Error parsing partition filter: a literal where a key has to be".to_owned()),
        };
        let condition = if self.takes_word("in") {
            let key = key(&left)?;
            let values = self.literals(key)?;
            let texts = values.iter().map(|value| value.text.clone()).collect();
            Condition::In(key, OneOf { values, texts })
        } else if self.takes_word("between") {
            let key = key(&left)?;
            let low = self.literal(key)?;
            if !self.takes_word("and") {
                return Err(self.unexpected("AND"));
            }
            let high = self.literal(key)?;
            let ends = [(Operator::GreaterOrEqual, low), (Operator::LessOrEqual, high)];
            Condition::All(ends.into_iter().map(|(operator, value)| Condition::Compare(key, operator, value)).collect())
        } else if self.takes_word("like") {
            let key = key(&left)?;
            Condition::Like(key, Pattern::regex_with_case(&self.literal(key)?.text))
        } else if !is_negated && self.takes_word("is") {
            let is_not = self.takes_word("not");
            if !self.takes_word("null") {
                return Err(self.unexpected("NULL"));
            }
            let is_null = Condition::IsNull(key(&left)?);
            if is_not { Condition::Not(Box::new(is_null)) } else { is_null }
        } else if !is_negated {
            let operator = self.operator()?;
            let right = self.operand()?;
            self.compared(left, operator, right)?
        } else {
            return Err(self.unexpected("IN, BETWEEN or LIKE"));
        };
        Ok(if is_negated { Condition::Not(Box::new(condition)) } else { condition })
    }

    fn compared(&self, left: Operand, operator: Operator, right: Operand) -> Parsed<Condition> {
        match (left, right) {
            (Operand::Key(key), Operand::Literal(Some(text))) => {
                Ok(Condition::Compare(key, operator, self.keys[key].family.read(&text)))
            }
            (Operand::Literal(Some(text)), Operand::Key(key)) => {
                Ok(Condition::Compare(key, operator.turned(), self.keys[key].family.read(&text)))
            }
            (Operand::Literal(Some(left)), Operand::Literal(Some(right))) => {
                let ordering = Family::Number.read(&left).compare(&Family::Number.read(&right));
                Ok(Condition::Always(operator.holds(ordering)))
            }
            // Nothing is known of a comparison with NULL.
            (Operand::Literal(None), _) | (_, Operand::Literal(None)) => Ok(Condition::Always(false)),
            (Operand::Key(_), Operand::Key(_)) => {
                Err("Error parsing partition filter: two keys are not compared with each other".to_owned())
            }
        }
    }

    fn operator(&mut self) -> Parsed<Operator> {
        let operator = match self.peek() {
            Some(Token::Sign("=" | "==")) => Operator::Equal,
            Some(Token::Sign("!=" | "<>")) => Operator::NotEqual,
            Some(Token::Sign("<")) => Operator::Less,
            Some(Token::Sign("<=")) => Operator::LessOrEqual,
            Some(Token::Sign(">")) => Operator::Greater,
            Some(Token::Sign(">=")) => Operator::GreaterOrEqual,
            _ => return Err(self.unexpected("an operator")),
        };
        self.at += 1;
        Ok(operator)
    }

    /// `STRUCT(a, b) IN (STRUCT(1, 'x'), …)`, each with or without CONST and parentheses.
    fn row_in(&mut self, opened: usize) -> Parsed<Condition> {
        self.at += opened + 1;
        self.expect_sign("(")?;
        let mut keys = Vec::new();
        loop {
            match self.operand()? {
                Operand::Key(key) => keys.push(key),
                Operand::Literal(_) => return Err(self.unexpected("a key")),
            }
            if !self.takes_sign(",") {
                break;
            }
        }
        for _ in 0..=opened {
            self.expect_sign(")")?;
        }
        let is_negated = self.takes_word("not");
        if !self.takes_word("in") {
            return Err(self.unexpected("IN"));
        }
        self.expect_sign("(")?;
        let mut rows = Vec::new();
        loop {
            self.takes_word("const");
            if !self.takes_word("struct") {
                return Err(self.unexpected("STRUCT"));
            }
            self.expect_sign("(")?;
            let mut row = Vec::with_capacity(keys.len());
            for (at, key) in keys.iter().enumerate() {
                if at > 0 {
                    self.expect_sign(",")?;
                }
                row.push(self.literal(*key)?);
            }
            self.expect_sign(")")?;
            rows.push(row);
            if !self.takes_sign(",") {
                break;
            }
        }
        self.expect_sign(")")?;
        let condition = Condition::RowIn(keys, rows);
        Ok(if is_negated { Condition::Not(Box::new(condition)) } else { condition })
    }

    fn literals(&mut self, key: usize) -> Parsed<Vec<Value>> {
        self.expect_sign("(")?;
        let mut literals = vec![self.literal(key)?];
        while self.takes_sign(",") {
            literals.push(self.literal(key)?);
        }
        self.expect_sign(")")?;
        Ok(literals)
    }

    fn literal(&mut self, key: usize) -> Parsed<Value> {
        match self.operand()? {
            Operand::Literal(Some(text)) => Ok(self.keys[key].family.read(&text)),
            _ => Err(self.unexpected("a literal")),
        }
    }

    fn operand(&mut self) -> Parsed<Operand> {
        let opened = self.tokens[self.at..].iter().take_while(|token| **token == Token::Sign("(")).count();
        self.at += opened;
        let token = self.peek().cloned();
        self.at += 1;
        let operand = match token {
            Some(Token::Text(text) | Token::Number(text)) => Operand::Literal(Some(text)),
            Some(Token::Quoted(name)) => self.key(&name)?,
            Some(Token::Word(word)) => match (word.to_ascii_lowercase().as_str(), self.peek()) {
                // DATE '2024-01-01', or without quotes.
                ("date" | "timestamp", Some(Token::Text(text) | Token::Number(text))) => {
                    let text = text.clone();
                    self.at += 1;
                    Operand::Literal(Some(text))
                }
                ("null", _) => Operand::Literal(None),
                ("true" | "false", _) => Operand::Literal(Some(word)),
                _ => self.key(&word)?,
            },
            _ => {
                self.at -= 1;
                return Err(self.unexpected("a key or a literal"));
            }
        };
        for _ in 0..opened {
            self.expect_sign(")")?;
        }
        Ok(operand)
    }

    fn key(&mut self, name: &str) -> Parsed<Operand> {
        let folded = name.to_lowercase();
        if let Some(at) = self.keys.iter().position(|key| key.name == folded) {
            return Ok(Operand::Key(at));
        }
        match (self.open)(name) {
            Some(key) => {
                self.keys.push(Key { name: folded, ..key });
                Ok(Operand::Key(self.keys.len() - 1))
            }
            None => Err(format!("Specified key <{name}> is not a partitioning key for the table")),
        }
    }
}

fn is_word(token: Option<&Token>, word: &str) -> bool {
    matches!(token, Some(Token::Word(next)) if next.eq_ignore_ascii_case(word))
}

fn one_or(mut parts: Vec<Condition>, list: fn(Vec<Condition>) -> Condition) -> Condition {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        last => {
            parts.extend(last);
            list(parts)
        }
    }
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;

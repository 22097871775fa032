//! Filters of partitions and tables as clients write them, from their text to what they let through.
//!
//! The grammar is that of Hive's `Filter.g` with what engines really send, and more: any comparison works on a key of any
//! type, literals may stand left or right, and there are `NOT`, `IS NULL` and `STRUCT`. A metastore refuses many of these,
//! and a client that is refused asks for all partitions.
//!
//! What a filter may cost is bounded: each value is read as its type once for each row, lists are looked up in, and what
//! is compared is counted ([`Work`]).

use std::cell::OnceCell;
use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;

use super::pattern::Like;
use super::value::{Family, OneOf, Read, Value};
use crate::model::DEFAULT_PARTITION;
use crate::store::PartitionFilter;

/// Bytes of a filter.
const TEXT_BYTES_MAX: usize = 4 << 20;
/// Parentheses inside each other.
const DEPTH_MAX: usize = 500;
/// Keys that a filter may open.
const KEYS_MAX: usize = 200;
/// Comparisons that one call may make.
const WORK_MAX: u64 = 2_000_000_000;
/// Comparisons after which others get their turn on the thread.
const WORK_AT_ONCE: u64 = 1_000_000;
/// What it costs to begin with a row, in comparisons.
const ROW_WORK: u64 = 20;
/// Characters of a filter that an error shows.
const SHOWN_CHARS: usize = 200;

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
    Like(usize, Like),
    IsNull(usize),
    /// `(STRUCT(a, b)) IN (CONST STRUCT(1, 'x'), …)`.
    RowIn(Vec<usize>, Vec<Vec<Value>>),
}

/// What a call has compared so far.
#[derive(Debug, Default)]
pub(super) struct Work {
    done: u64,
    shared_at: u64,
}

impl Work {
    fn spend(&mut self, comparisons: usize) {
        self.done = self.done.saturating_add(u64::try_from(comparisons).unwrap_or(u64::MAX));
    }

    fn is_too_much(&self) -> bool {
        self.done > WORK_MAX
    }

    /// To be asked between rows: lets others have their turn, or refuses to go on.
    pub(super) async fn go_on(&mut self) -> Result<(), String> {
        if self.is_too_much() {
            return Err(format!(
                "the filter would need more than {WORK_MAX} comparisons: it is too long for that many partitions or tables"
            ));
        }
        if self.done - self.shared_at > WORK_AT_ONCE {
            self.shared_at = self.done;
            tokio::task::yield_now().await;
        }
        Ok(())
    }
}

/// A row that is compared: its values, each read as its type when that is first needed.
struct Row<'a> {
    values: &'a [Option<&'a str>],
    read: Vec<OnceCell<Read<'a>>>,
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
    /// Parses a filter of partitions with these keys; an empty one lets everything through. The error is what the client
    /// is told. What it lets through may be more than it says where `LIKE` can be read in two ways: clients look again.
    pub(super) fn of_partitions(text: &str, keys: Vec<Key>) -> Result<Self, String> {
        Self::parse(text, Parser { keys, open: |_| None, is_loose: true, ..Parser::default() })
    }

    /// Parses a filter of tables. `open` makes the key that a name stands for, if it may be one.
    pub(super) fn of_tables(text: &str, open: fn(&str) -> Option<Key>) -> Result<Self, String> {
        Self::parse(text, Parser { open, ..Parser::default() })
    }

    fn parse(text: &str, parser: Parser<'_>) -> Result<Self, String> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(format!("the filter has {} bytes, more than {TEXT_BYTES_MAX}", text.len()));
        }
        let tokens = tokens(text)?;
        let mut parser = Parser { tokens: &tokens, ..parser };
        let condition = if tokens.is_empty() { Condition::Always(true) } else { parser.condition()? };
        match parser.peek() {
            None => Ok(Self { keys: parser.keys, condition }),
            Some(token) => {
                let text = shown(text);
                Err(format!("Error parsing partition filter: {token} is not expected in '{text}'"))
            }
        }
    }

    /// The keys that it may name: those it was given, then those that were opened.
    pub(super) fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// Whether it lets through what has these values, one for each key; `None` is NULL. Meaningless when too much work is
    /// done, which [`Work::go_on`] tells.
    pub(super) fn matches(&self, values: &[Option<&str>], work: &mut Work) -> bool {
        work.done += ROW_WORK;
        let row = Row { values, read: vec![OnceCell::new(); values.len()] };
        self.holds(&self.condition, &row, work) == Some(true)
    }

    /// A filter of the store that lets through all that this one does, and is no wider than it has to be.
    pub(super) fn for_store(&self) -> PartitionFilter {
        let mut values: Vec<Option<Vec<String>>> = vec![None; self.keys.len()];
        let parts = match &self.condition {
            Condition::All(parts) => parts.as_slice(),
            other => std::slice::from_ref(other),
        };
        for part in parts {
            let (key, mut texts): (usize, HashSet<&str>) = match part {
                Condition::Compare(key, Operator::Equal, value) => (*key, HashSet::from([value.text()])),
                Condition::In(key, allowed) => (*key, allowed.texts().collect()),
                _ => continue,
            };
            if texts.iter().any(|text| is_null(text)) {
                texts.insert(DEFAULT_PARTITION);
            }
            // Only there equal means the same text.
            if self.keys[key].family == Family::Text {
                match &mut values[key] {
                    Some(before) => before.retain(|text| texts.contains(text.as_str())),
                    none => *none = Some(texts.into_iter().map(str::to_owned).collect()),
                }
            }
        }
        PartitionFilter { values }
    }

    /// `None` is SQL's unknown.
    fn holds(&self, condition: &Condition, row: &Row<'_>, work: &mut Work) -> Option<bool> {
        if work.is_too_much() {
            return None;
        }
        work.spend(1);
        match condition {
            Condition::Always(holds) => Some(*holds),
            Condition::All(parts) => {
                let mut all = Some(true);
                for part in parts {
                    match self.holds(part, row, work) {
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
                    match self.holds(part, row, work) {
                        Some(true) => return Some(true),
                        None => any = None,
                        Some(false) => {}
                    }
                }
                any
            }
            Condition::Not(inner) => self.holds(inner, row, work).map(|holds| !holds),
            Condition::Compare(key, operator, value) => self.compare(*key, *operator, value, row),
            Condition::In(key, allowed) => {
                work.spend(allowed.compared_one_by_one());
                match row.values[*key] {
                    Some(_) => Some(allowed.contains(self.read(*key, row)?)),
                    // NULL has a name, by which it is asked for too.
                    None if allowed.texts().any(is_null) => Some(true),
                    None => None,
                }
            }
            Condition::Like(key, like) => row.values[*key].map(|text| {
                work.spend(like.cost(text));
                like.matches(text)
            }),
            Condition::IsNull(key) => Some(row.values[*key].is_none()),
            Condition::RowIn(keys, rows) => {
                let mut any = Some(false);
                for literals in rows {
                    work.spend(keys.len());
                    let mut all = Some(true);
                    for (key, literal) in keys.iter().zip(literals) {
                        match self.compare(*key, Operator::Equal, literal, row) {
                            Some(true) => {}
                            Some(false) => {
                                all = Some(false);
                                break;
                            }
                            None => all = None,
                        }
                    }
                    match all {
                        Some(true) => return Some(true),
                        None => any = None,
                        Some(false) => {}
                    }
                }
                any
            }
        }
    }

    /// A value as its type says; nothing for NULL.
    fn read<'a>(&self, key: usize, row: &Row<'a>) -> Option<Read<'a>> {
        let text = row.values[key]?;
        Some(*row.read[key].get_or_init(|| self.keys[key].family.look(text)))
    }

    fn compare(&self, key: usize, operator: Operator, literal: &Value, row: &Row<'_>) -> Option<bool> {
        match self.read(key, row) {
            Some(value) => Some(operator.holds(value.compare(literal.as_read()))),
            // NULL has a name, by which it is asked for too; and a metastore takes it for different from all else.
            None if is_null(literal.text()) => {
                Some(matches!(operator, Operator::Equal | Operator::LessOrEqual | Operator::GreaterOrEqual))
            }
            None if operator == Operator::NotEqual => Some(true),
            None => None,
        }
    }
}

/// Whether a literal stands for NULL: the empty text has the same partition.
fn is_null(literal: &str) -> bool {
    literal.is_empty() || literal == DEFAULT_PARTITION
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    /// A name or a word of the grammar, as written.
    Word(&'a str),
    /// A name in back quotes.
    Quoted(&'a str),
    /// A literal in quotes.
    Text(&'a str),
    /// A number, or a date without quotes.
    Number(&'a str),
    Sign(&'static str),
}

/// For errors, so of no more than some length.
impl fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(text) => write!(f, "Word({:?})", shown(text)),
            Self::Quoted(text) => write!(f, "Quoted({:?})", shown(text)),
            Self::Text(text) => write!(f, "Text({:?})", shown(text)),
            Self::Number(text) => write!(f, "Number({:?})", shown(text)),
            Self::Sign(sign) => write!(f, "Sign({sign:?})"),
        }
    }
}

fn tokens(text: &str) -> Result<Vec<Token<'_>>, String> {
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
                return Err(format!("Error parsing partition filter: a {first} is never closed in '{}'", shown(text)));
            };
            let inner = &rest[1..end];
            tokens.push(if first == '`' { Token::Quoted(inner) } else { Token::Text(inner) });
            len = end + 1;
        } else if first.is_ascii_digit() || (matches!(first, '-' | '+' | '.') && rest[1..].starts_with(is_numeric)) {
            let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+');
            len = rest[1..].find(|c| !is_part(c)).map_or(rest.len(), |at| at + 1);
            tokens.push(Token::Number(&rest[..len]));
        } else if first.is_alphabetic() || first == '_' {
            let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '$');
            len = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
            tokens.push(Token::Word(&rest[..len]));
        } else {
            return Err(format!("Error parsing partition filter; lexer error: '{first}' in '{}'", shown(text)));
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

/// The beginning of a filter, for an error.
fn shown(text: &str) -> &str {
    text.char_indices().nth(SHOWN_CHARS).map_or(text, |(end, _)| &text[..end])
}

struct Parser<'a> {
    tokens: &'a [Token<'a>],
    at: usize,
    /// The parentheses that were opened last.
    run: Run,
    keys: Vec<Key>,
    open: fn(&str) -> Option<Key>,
    /// Whether more may be let through than the filter says.
    is_loose: bool,
    /// Whether what is read now is under an odd number of `NOT`s.
    is_negated: bool,
}

impl Default for Parser<'_> {
    fn default() -> Self {
        Self {
            tokens: &[],
            at: 0,
            run: Run::default(),
            keys: Vec::new(),
            open: |_| None,
            is_loose: false,
            is_negated: false,
        }
    }
}

/// Parentheses that are opened one after the other. They are looked at once and not for each one again.
#[derive(Clone, Copy, Default)]
struct Run {
    /// The token after the last one.
    end: usize,
    /// How many are closed right after what may be one side of a comparison: a token, or a `STRUCT`.
    closed: usize,
}

/// What is between two parentheses, or all of the filter, as far as it is read.
#[derive(Default)]
struct Group {
    /// Whether a `NOT` is before it.
    is_not: bool,
    any: Vec<Condition>,
    all: Vec<Condition>,
}

impl Group {
    fn and(&mut self, condition: Condition) {
        match condition {
            // In one list, so that what narrows the search is seen.
            Condition::All(inner) => self.all.extend(inner),
            other => self.all.push(other),
        }
    }

    fn or(&mut self) {
        match one_or(std::mem::take(&mut self.all), Condition::All) {
            // In one list, as clients nest hundreds.
            Condition::Any(inner) => self.any.extend(inner),
            other => self.any.push(other),
        }
    }

    fn end(mut self) -> Condition {
        self.or();
        one_or(self.any, Condition::Any)
    }
}

/// One side of a comparison.
enum Operand<'a> {
    Key(usize),
    Literal(Option<&'a str>),
}

type Parsed<T> = Result<T, String>;

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a Token<'a>> {
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
            Some(token) => format!("Error parsing partition filter: expected {wanted}, found {token}"),
            None => format!("Error parsing partition filter: expected {wanted} at its end"),
        }
    }

    /// The whole filter. Open groups are in a list and not on the stack of the thread.
    fn condition(&mut self) -> Parsed<Condition> {
        let mut outer: Vec<Group> = Vec::new();
        let mut group = Group::default();
        loop {
            let mut is_not = false;
            while self.takes_word("not") {
                is_not = !is_not;
            }
            self.is_negated ^= is_not;
            if self.begins_group()? {
                if outer.len() == DEPTH_MAX {
                    return Err(too_deep());
                }
                self.at += 1;
                outer.push(std::mem::replace(&mut group, Group { is_not, ..Group::default() }));
                continue;
            }
            let mut next = self.comparison()?;
            loop {
                self.is_negated ^= is_not;
                group.and(if is_not { Condition::Not(Box::new(next)) } else { next });
                if self.takes_word("and") {
                    break;
                }
                if self.takes_word("or") {
                    group.or();
                    break;
                }
                let Some(around) = outer.pop() else { return Ok(group.end()) };
                self.expect_sign(")")?;
                let ended = std::mem::replace(&mut group, around);
                is_not = ended.is_not;
                next = ended.end();
            }
        }
    }

    /// How many parentheses are opened here.
    fn opened(&mut self) -> Parsed<usize> {
        if self.at >= self.run.end {
            let is = |sign| move |token: &&Token<'_>| **token == Token::Sign(sign);
            let rest = &self.tokens[self.at..];
            let opened = rest.iter().take_while(is("(")).count();
            if opened > DEPTH_MAX {
                return Err(too_deep());
            }
            let rest = &rest[opened..];
            let side = if opened > 0 && is_word(rest.first(), "struct") {
                rest.iter().position(|token| *token == Token::Sign(")")).map_or(rest.len(), |at| at + 1)
            } else {
                rest.len().min(1)
            };
            let closed = rest[side..].iter().take_while(is(")")).count();
            self.run = Run { end: self.at + opened, closed };
        }
        Ok(self.run.end - self.at)
    }

    /// Whether a parenthesis is around a condition and not around one side of it: `(ds) in ("1")` has the latter.
    fn begins_group(&mut self) -> Parsed<bool> {
        let opened = self.opened()?;
        // All the parentheses that are closed at once are around the one side; those left over are a group's.
        Ok(opened > 0 && self.run.closed < opened && (opened > 1 || !is_word(self.tokens.get(self.run.end), "struct")))
    }

    fn comparison(&mut self) -> Parsed<Condition> {
        let opened = self.opened()?;
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
        let key = |operand: &Operand<'_>| match operand {
            Operand::Key(key) => Ok(*key),
            Operand::Literal(_) => Err("Error parsing partition filter: a literal where a key has to be".to_owned()),
        };
        let condition = if self.takes_word("in") {
            let key = key(&left)?;
            Condition::In(key, OneOf::new(self.literals(key)?))
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
            let text = self.literal(key)?;
            let is_wide = self.is_negated == is_negated;
            Condition::Like(
                key,
                if self.is_loose { Like::loose(text.text(), is_wide) } else { Like::regex(text.text()) },
            )
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

    fn compared(&self, left: Operand<'_>, operator: Operator, right: Operand<'_>) -> Parsed<Condition> {
        match (left, right) {
            (Operand::Key(key), Operand::Literal(Some(text))) => {
                Ok(Condition::Compare(key, operator, self.keys[key].family.read(text)))
            }
            (Operand::Literal(Some(text)), Operand::Key(key)) => {
                Ok(Condition::Compare(key, operator.turned(), self.keys[key].family.read(text)))
            }
            (Operand::Literal(Some(left)), Operand::Literal(Some(right))) => {
                let ordering = Family::Number.look(left).compare(Family::Number.look(right));
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
            Operand::Literal(Some(text)) => Ok(self.keys[key].family.read(text)),
            _ => Err(self.unexpected("a literal")),
        }
    }

    fn operand(&mut self) -> Parsed<Operand<'a>> {
        let opened = self.opened()?;
        self.at += opened;
        let token = self.peek().copied();
        self.at += 1;
        let operand = match token {
            Some(Token::Text(text) | Token::Number(text)) => Operand::Literal(Some(text)),
            Some(Token::Quoted(name)) => self.key(name)?,
            Some(Token::Word(word)) => match (word.to_ascii_lowercase().as_str(), self.peek()) {
                // DATE '2024-01-01', or without quotes.
                ("date" | "timestamp", Some(Token::Text(text) | Token::Number(text))) => {
                    self.at += 1;
                    Operand::Literal(Some(text))
                }
                ("null", _) => Operand::Literal(None),
                ("true" | "false", _) => Operand::Literal(Some(word)),
                _ => self.key(word)?,
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

    fn key(&mut self, name: &str) -> Parsed<Operand<'a>> {
        let folded = name.to_lowercase();
        if let Some(at) = self.keys.iter().position(|key| key.name == folded) {
            return Ok(Operand::Key(at));
        }
        match (self.open)(name) {
            Some(_) if self.keys.len() == KEYS_MAX => Err(format!("the filter names more than {KEYS_MAX} keys")),
            Some(key) => {
                self.keys.push(Key { name: folded, ..key });
                Ok(Operand::Key(self.keys.len() - 1))
            }
            None => Err(format!("Specified key <{}> is not a partitioning key for the table", shown(name))),
        }
    }
}

fn too_deep() -> String {
    format!("Error parsing partition filter: more than {DEPTH_MAX} parentheses inside each other")
}

fn is_word(token: Option<&Token<'_>>, word: &str) -> bool {
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

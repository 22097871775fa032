//! Flink's data types, read from texts and printed as Flink prints them.
//!
//! One reader serves columns of `CREATE TABLE`, `CAST` in queries and the texts that a catalog keeps.

use std::fmt;
use std::str::FromStr;

use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;
use serde::{Deserialize, Serialize};
use tereza_runtime::Error;

use super::reader::{NOT_SUPPORTED, Reader, at_place, is_word};

/// The greatest length of a text or of bytes, which `STRING` and `BYTES` have.
pub const LENGTH_MAX: u32 = i32::MAX as u32;

/// The levels that a type may have.
pub const TYPE_DEPTH_MAX: usize = 32;

/// The words that a type can begin with.
pub(super) const TYPE_WORDS: [&str; 28] = [
    "ARRAY",
    "BIGINT",
    "BINARY",
    "BOOLEAN",
    "BYTES",
    "CHAR",
    "CHARACTER",
    "DATE",
    "DEC",
    "DECIMAL",
    "DOUBLE",
    "FLOAT",
    "INT",
    "INTEGER",
    "INTERVAL",
    "MAP",
    "MULTISET",
    "NULL",
    "NUMERIC",
    "ROW",
    "SMALLINT",
    "STRING",
    "TIME",
    "TIMESTAMP",
    "TIMESTAMP_LTZ",
    "TINYINT",
    "VARBINARY",
    "VARCHAR",
];

/// A type and whether its values may be NULL. For serde it is its text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FlinkType {
    pub root: TypeRoot,
    pub nullable: bool,
}

/// What a [`FlinkType`] is, apart from NULL. Lengths are of characters or bytes, precisions of digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TypeRoot {
    Char(u32),
    /// `VARCHAR(n)`; `STRING` with [`LENGTH_MAX`].
    Varchar(u32),
    Boolean,
    Binary(u32),
    /// `VARBINARY(n)`; `BYTES` with [`LENGTH_MAX`].
    Varbinary(u32),
    Decimal {
        precision: u8,
        scale: u8,
    },
    TinyInt,
    SmallInt,
    Int,
    BigInt,
    Float,
    Double,
    Date,
    Time(u8),
    Timestamp(u8),
    /// `TIMESTAMP(p) WITH LOCAL TIME ZONE`: an instant.
    TimestampLtz(u8),
    Interval(Interval),
    Array(Box<FlinkType>),
    /// A bag of elements with the number of times each is in it.
    Multiset(Box<FlinkType>),
    Map(Box<FlinkType>, Box<FlinkType>),
    Row(Vec<RowField>),
    /// The type of an untyped NULL.
    Null,
}

/// The fields of an interval: the numbers are the digits of the first one and of the fraction of a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Interval {
    Year(u8),
    YearToMonth(u8),
    Month,
    Day(u8),
    DayToHour(u8),
    DayToMinute(u8),
    DayToSecond(u8, u8),
    Hour,
    HourToMinute,
    HourToSecond(u8),
    Minute,
    MinuteToSecond(u8),
    Second(u8),
}

/// A field of `ROW<…>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RowField {
    pub name: String,
    pub data_type: FlinkType,
    pub comment: Option<String>,
}

impl FlinkType {
    /// The type with NULL among its values.
    pub fn nullable(root: TypeRoot) -> Self {
        Self { root, nullable: true }
    }

    /// The levels of the type: 1 for one without parts.
    fn height(&self) -> usize {
        1 + match &self.root {
            TypeRoot::Array(element) | TypeRoot::Multiset(element) => element.height(),
            TypeRoot::Map(key, value) => key.height().max(value.height()),
            TypeRoot::Row(fields) => fields.iter().map(|field| field.data_type.height()).max().unwrap_or(0),
            _ => 0,
        }
    }
}

/// What a catalog keeps and `SHOW CREATE TABLE` prints: `VARCHAR(2147483647)`, `TIMESTAMP(3) WITH LOCAL TIME ZONE`.
impl fmt::Display for FlinkType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, Form::Whole)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Whole,
    Short,
}

struct Summary<'a>(&'a FlinkType);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write(f, Form::Short)
    }
}

impl FlinkType {
    /// What `DESCRIBE` prints: `STRING`, `TIMESTAMP_LTZ(3)`, and `'...'` for comments of fields.
    pub fn summary(&self) -> impl fmt::Display {
        Summary(self)
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, form: Form) -> fmt::Result {
        match &self.root {
            TypeRoot::Char(length) => write!(f, "CHAR({length})")?,
            TypeRoot::Varchar(LENGTH_MAX) if form == Form::Short => f.write_str("STRING")?,
            TypeRoot::Varchar(length) => write!(f, "VARCHAR({length})")?,
            TypeRoot::Boolean => f.write_str("BOOLEAN")?,
            TypeRoot::Binary(length) => write!(f, "BINARY({length})")?,
            TypeRoot::Varbinary(LENGTH_MAX) if form == Form::Short => f.write_str("BYTES")?,
            TypeRoot::Varbinary(length) => write!(f, "VARBINARY({length})")?,
            TypeRoot::Decimal { precision, scale } => write!(f, "DECIMAL({precision}, {scale})")?,
            TypeRoot::TinyInt => f.write_str("TINYINT")?,
            TypeRoot::SmallInt => f.write_str("SMALLINT")?,
            TypeRoot::Int => f.write_str("INT")?,
            TypeRoot::BigInt => f.write_str("BIGINT")?,
            TypeRoot::Float => f.write_str("FLOAT")?,
            TypeRoot::Double => f.write_str("DOUBLE")?,
            TypeRoot::Date => f.write_str("DATE")?,
            TypeRoot::Time(precision) => write!(f, "TIME({precision})")?,
            TypeRoot::Timestamp(precision) => write!(f, "TIMESTAMP({precision})")?,
            TypeRoot::TimestampLtz(precision) if form == Form::Short => write!(f, "TIMESTAMP_LTZ({precision})")?,
            TypeRoot::TimestampLtz(precision) => write!(f, "TIMESTAMP({precision}) WITH LOCAL TIME ZONE")?,
            TypeRoot::Interval(interval) => write!(f, "{interval}")?,
            TypeRoot::Array(element) => wrapped(f, form, "ARRAY", &[element])?,
            TypeRoot::Multiset(element) => wrapped(f, form, "MULTISET", &[element])?,
            TypeRoot::Map(key, value) => wrapped(f, form, "MAP", &[key, value])?,
            TypeRoot::Row(fields) => {
                f.write_str("ROW<")?;
                for (n, field) in fields.iter().enumerate() {
                    write!(f, "{}{} ", if n == 0 { "" } else { ", " }, quoted(&field.name))?;
                    field.data_type.write(f, form)?;
                    match (&field.comment, form) {
                        (None, _) => {}
                        (Some(_), Form::Short) => f.write_str(" '...'")?,
                        (Some(comment), Form::Whole) => write!(f, " '{}'", comment.replace('\'', "''"))?,
                    }
                }
                f.write_str(">")?;
            }
            TypeRoot::Null => f.write_str("NULL")?,
        }
        if self.nullable { Ok(()) } else { f.write_str(" NOT NULL") }
    }
}

fn wrapped(f: &mut fmt::Formatter<'_>, form: Form, name: &str, parts: &[&FlinkType]) -> fmt::Result {
    write!(f, "{name}<")?;
    for (n, part) in parts.iter().enumerate() {
        f.write_str(if n == 0 { "" } else { ", " })?;
        part.write(f, form)?;
    }
    f.write_str(">")
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("INTERVAL ")?;
        match self {
            Self::Year(digits) => write!(f, "YEAR({digits})"),
            Self::YearToMonth(digits) => write!(f, "YEAR({digits}) TO MONTH"),
            Self::Month => f.write_str("MONTH"),
            Self::Day(digits) => write!(f, "DAY({digits})"),
            Self::DayToHour(digits) => write!(f, "DAY({digits}) TO HOUR"),
            Self::DayToMinute(digits) => write!(f, "DAY({digits}) TO MINUTE"),
            Self::DayToSecond(digits, fraction) => write!(f, "DAY({digits}) TO SECOND({fraction})"),
            Self::Hour => f.write_str("HOUR"),
            Self::HourToMinute => f.write_str("HOUR TO MINUTE"),
            Self::HourToSecond(fraction) => write!(f, "HOUR TO SECOND({fraction})"),
            Self::Minute => f.write_str("MINUTE"),
            Self::MinuteToSecond(fraction) => write!(f, "MINUTE TO SECOND({fraction})"),
            Self::Second(fraction) => write!(f, "SECOND({fraction})"),
        }
    }
}

/// A name in backticks.
pub(super) fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

impl FromStr for FlinkType {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut reader = Reader::new(text)?;
        let data_type = reader.kept_type()?;
        reader.end()?;
        Ok(data_type)
    }
}

impl TryFrom<String> for FlinkType {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<FlinkType> for String {
    fn from(data_type: FlinkType) -> Self {
        data_type.to_string()
    }
}

/// Reads one type of a statement: `VARCHAR` and `VARBINARY` without a length have the greatest one.
pub(super) fn parse_type(parser: &mut Parser<'_>) -> Result<FlinkType, ParserError> {
    read_type(parser, LENGTH_MAX)
}

/// Reads one type that a catalog keeps: there `VARCHAR` and `VARBINARY` without a length have length 1.
pub(super) fn parse_kept_type(parser: &mut Parser<'_>) -> Result<FlinkType, ParserError> {
    read_type(parser, 1)
}

fn read_type(parser: &mut Parser<'_>, varying: u32) -> Result<FlinkType, ParserError> {
    let mut types = Types { parser, depth: 0, closed: 0, varying };
    let data_type = types.data_type()?;
    if types.closed > 0 {
        types.parser.prev_token();
        return types.refuse("a '>' too many");
    }
    Ok(data_type)
}

struct Types<'p, 't> {
    parser: &'p mut Parser<'t>,
    depth: usize,
    /// Halves of `>>` that were read and not yet used: 0 or 1.
    closed: usize,
    /// The length of `VARCHAR` and `VARBINARY` without one.
    varying: u32,
}

type Parsed<T> = Result<T, ParserError>;

impl Types<'_, '_> {
    fn data_type(&mut self) -> Parsed<FlinkType> {
        self.depth += 1;
        if self.depth > TYPE_DEPTH_MAX {
            return self.too_deep();
        }
        let root = self.root()?;
        let mut data_type = FlinkType { root, nullable: self.nullability()? };
        while self.closed == 0 {
            let wrap: fn(Box<FlinkType>) -> TypeRoot = if self.take("ARRAY") {
                TypeRoot::Array
            } else if self.take("MULTISET") {
                TypeRoot::Multiset
            } else {
                break;
            };
            if self.depth + data_type.height() > TYPE_DEPTH_MAX {
                return self.too_deep();
            }
            data_type = FlinkType { root: wrap(Box::new(data_type)), nullable: self.nullability()? };
        }
        self.depth -= 1;
        Ok(data_type)
    }

    fn root(&mut self) -> Parsed<TypeRoot> {
        let word = match &self.parser.peek_token_ref().token {
            Token::Word(word) if word.quote_style.is_none() => word.value.to_uppercase(),
            _ => return self.parser.expected_ref("a data type", self.parser.peek_token_ref()),
        };
        if !TYPE_WORDS.contains(&word.as_str()) {
            return match word.as_str() {
                "BITMAP" | "DESCRIPTOR" | "LEGACY" | "RAW" | "STRUCTURED" | "VARIANT" => self.unsupported(&word),
                _ => self.refuse(&format!("unknown type '{word}'")),
            };
        }
        self.parser.advance_token();
        Ok(match word.as_str() {
            "CHAR" | "CHARACTER" => {
                if self.take("VARYING") {
                    TypeRoot::Varchar(self.length(self.varying)?)
                } else {
                    TypeRoot::Char(self.length(1)?)
                }
            }
            "VARCHAR" => TypeRoot::Varchar(self.length(self.varying)?),
            "STRING" => TypeRoot::Varchar(LENGTH_MAX),
            "BOOLEAN" => TypeRoot::Boolean,
            "BINARY" => {
                if self.take("VARYING") {
                    TypeRoot::Varbinary(self.length(self.varying)?)
                } else {
                    TypeRoot::Binary(self.length(1)?)
                }
            }
            "VARBINARY" => TypeRoot::Varbinary(self.length(self.varying)?),
            "BYTES" => TypeRoot::Varbinary(LENGTH_MAX),
            "DECIMAL" | "DEC" | "NUMERIC" => self.decimal()?,
            "TINYINT" => TypeRoot::TinyInt,
            "SMALLINT" => TypeRoot::SmallInt,
            "INT" | "INTEGER" => TypeRoot::Int,
            "BIGINT" => TypeRoot::BigInt,
            "FLOAT" => TypeRoot::Float,
            "DOUBLE" => {
                self.take("PRECISION");
                TypeRoot::Double
            }
            "DATE" => TypeRoot::Date,
            "TIME" => {
                let precision = self.digits(0, "the precision of TIME", 0, 9)?;
                if self.take("WITHOUT") {
                    self.expect("TIME ZONE")?;
                } else if self.take("WITH") {
                    return self.unsupported("TIME WITH TIME ZONE");
                }
                TypeRoot::Time(precision)
            }
            "TIMESTAMP" => self.timestamp()?,
            "TIMESTAMP_LTZ" => TypeRoot::TimestampLtz(self.digits(6, "the precision of TIMESTAMP_LTZ", 0, 9)?),
            "INTERVAL" => TypeRoot::Interval(self.interval()?),
            "ARRAY" => TypeRoot::Array(self.element()?),
            "MULTISET" => TypeRoot::Multiset(self.element()?),
            "MAP" => {
                self.open()?;
                let key = self.data_type()?;
                self.parser.expect_token(&Token::Comma)?;
                let value = self.data_type()?;
                self.close()?;
                TypeRoot::Map(Box::new(key), Box::new(value))
            }
            "ROW" => TypeRoot::Row(self.fields()?),
            _ => TypeRoot::Null,
        })
    }

    /// `NOT NULL`, `NULL` or nothing.
    fn nullability(&mut self) -> Parsed<bool> {
        if self.closed > 0 {
            return Ok(true);
        }
        if self.take("NOT") {
            self.expect("NULL")?;
            return Ok(false);
        }
        self.take("NULL");
        Ok(true)
    }

    /// `(n)`; `default` without.
    fn length(&mut self, default: u32) -> Parsed<u32> {
        if !self.parser.consume_token(&Token::LParen) {
            return Ok(default);
        }
        let length = self.number("the length", 1, LENGTH_MAX)?;
        self.parser.expect_token(&Token::RParen)?;
        Ok(length)
    }

    /// `(digits)` of at least `min` and at most `max`; `default` without.
    fn digits(&mut self, default: u8, what: &str, min: u8, max: u8) -> Parsed<u8> {
        if !self.parser.consume_token(&Token::LParen) {
            return Ok(default);
        }
        let digits = self.small(what, min, max)?;
        self.parser.expect_token(&Token::RParen)?;
        Ok(digits)
    }

    fn small(&mut self, what: &str, min: u8, max: u8) -> Parsed<u8> {
        let number = self.number(what, min.into(), max.into())?;
        Ok(u8::try_from(number).unwrap_or(max))
    }

    fn number(&mut self, what: &str, min: u32, max: u32) -> Parsed<u32> {
        let Token::Number(number, false) = &self.parser.peek_token_ref().token else {
            return self.parser.expected_ref("a number", self.parser.peek_token_ref());
        };
        match number.parse::<u32>() {
            Ok(number) if (min..=max).contains(&number) => {
                self.parser.advance_token();
                Ok(number)
            }
            _ => self.refuse(&format!("{what} is between {min} and {max}, and not {number}")),
        }
    }

    fn decimal(&mut self) -> Parsed<TypeRoot> {
        let (mut precision, mut scale) = (10, 0);
        if self.parser.consume_token(&Token::LParen) {
            precision = self.small("the precision of DECIMAL", 1, 38)?;
            if self.parser.consume_token(&Token::Comma) {
                scale = self.small("the scale of DECIMAL", 0, precision)?;
            }
            self.parser.expect_token(&Token::RParen)?;
        }
        Ok(TypeRoot::Decimal { precision, scale })
    }

    fn timestamp(&mut self) -> Parsed<TypeRoot> {
        let precision = self.digits(6, "the precision of TIMESTAMP", 0, 9)?;
        if self.take("WITHOUT") {
            self.expect("TIME ZONE")?;
        } else if self.take("WITH") {
            if self.take("LOCAL") {
                self.expect("TIME ZONE")?;
                return Ok(TypeRoot::TimestampLtz(precision));
            }
            return self.unsupported("TIMESTAMP WITH TIME ZONE");
        }
        Ok(TypeRoot::Timestamp(precision))
    }

    fn interval(&mut self) -> Parsed<Interval> {
        const FRACTION: &str = "the precision of a fraction of a second";
        if self.take("YEAR") {
            let digits = self.digits(2, "the precision of YEAR", 1, 4)?;
            if self.take("TO") {
                self.expect("MONTH")?;
                return Ok(Interval::YearToMonth(digits));
            }
            return Ok(Interval::Year(digits));
        }
        if self.take("MONTH") {
            return Ok(Interval::Month);
        }
        if self.take("DAY") {
            let digits = self.digits(2, "the precision of DAY", 1, 6)?;
            if !self.take("TO") {
                return Ok(Interval::Day(digits));
            }
            if self.take("HOUR") {
                return Ok(Interval::DayToHour(digits));
            }
            if self.take("MINUTE") {
                return Ok(Interval::DayToMinute(digits));
            }
            self.expect("SECOND")?;
            return Ok(Interval::DayToSecond(digits, self.digits(6, FRACTION, 0, 9)?));
        }
        if self.take("HOUR") {
            if !self.take("TO") {
                return Ok(Interval::Hour);
            }
            if self.take("MINUTE") {
                return Ok(Interval::HourToMinute);
            }
            self.expect("SECOND")?;
            return Ok(Interval::HourToSecond(self.digits(6, FRACTION, 0, 9)?));
        }
        if self.take("MINUTE") {
            if !self.take("TO") {
                return Ok(Interval::Minute);
            }
            self.expect("SECOND")?;
            return Ok(Interval::MinuteToSecond(self.digits(6, FRACTION, 0, 9)?));
        }
        if self.take("SECOND") {
            return Ok(Interval::Second(self.digits(6, FRACTION, 0, 9)?));
        }
        self.parser.expected_ref("YEAR, MONTH, DAY, HOUR, MINUTE or SECOND", self.parser.peek_token_ref())
    }

    /// `<type>`
    fn element(&mut self) -> Parsed<Box<FlinkType>> {
        self.open()?;
        let element = self.data_type()?;
        self.close()?;
        Ok(Box::new(element))
    }

    /// `<name type ['comment'], …>`, or the same in parentheses.
    fn fields(&mut self) -> Parsed<Vec<RowField>> {
        if self.parser.consume_token(&Token::Neq) {
            return Ok(Vec::new());
        }
        let parentheses = self.parser.consume_token(&Token::LParen);
        if !parentheses {
            self.open()?;
        }
        let mut fields: Vec<RowField> = Vec::new();
        if parentheses && self.parser.consume_token(&Token::RParen) {
            return Ok(fields);
        }
        loop {
            let name = match &self.parser.peek_token_ref().token {
                Token::Word(word) => word.value.clone(),
                _ => return self.parser.expected_ref("the name of a field", self.parser.peek_token_ref()),
            };
            if fields.iter().any(|field| field.name == name) {
                return self.refuse(&format!("field '{name}' is twice in the row"));
            }
            self.parser.advance_token();
            let data_type = self.data_type()?;
            let comment = match &self.parser.peek_token_ref().token {
                Token::SingleQuotedString(text) if self.closed == 0 => Some(text.clone()),
                _ => None,
            };
            if comment.is_some() {
                self.parser.advance_token();
            }
            fields.push(RowField { name, data_type, comment });
            if self.closed > 0 || !self.parser.consume_token(&Token::Comma) {
                break;
            }
        }
        if parentheses {
            if self.closed > 0 {
                return self.refuse("a '>' too many");
            }
            self.parser.expect_token(&Token::RParen)?;
        } else {
            self.close()?;
        }
        Ok(fields)
    }

    fn open(&mut self) -> Parsed<()> {
        self.parser.expect_token(&Token::Lt).map(|_| ())
    }

    /// `>`, or one half of `>>`.
    fn close(&mut self) -> Parsed<()> {
        if self.closed > 0 {
            self.closed -= 1;
        } else if self.parser.consume_token(&Token::ShiftRight) {
            self.closed += 1;
        } else {
            self.parser.expect_token(&Token::Gt)?;
        }
        Ok(())
    }

    fn take(&mut self, word: &str) -> bool {
        let found = is_word(self.parser.peek_token_ref(), word);
        if found {
            self.parser.advance_token();
        }
        found
    }

    fn expect(&mut self, words: &str) -> Parsed<()> {
        for word in words.split(' ') {
            if !self.take(word) {
                return self.parser.expected_ref(word, self.parser.peek_token_ref());
            }
        }
        Ok(())
    }

    fn too_deep<T>(&self) -> Parsed<T> {
        self.refuse(&format!("the type has more than {TYPE_DEPTH_MAX} levels"))
    }

    fn unsupported<T>(&self, name: &str) -> Parsed<T> {
        self.refuse(&format!("{NOT_SUPPORTED}type {name}"))
    }

    fn refuse<T>(&self, message: &str) -> Parsed<T> {
        Err(at_place(message, self.parser.peek_token_ref()))
    }
}

#[cfg(test)]
#[path = "types_tests.rs"]
mod tests;

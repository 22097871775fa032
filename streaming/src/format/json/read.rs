//! Objects to rows.

use std::borrow::Cow;

use async_trait::async_trait;
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use tereza_runtime::Result;

use super::{JsonOptions, Parser, Token, check_types};
use crate::format::column::{Column, Kind, Names, Rows};
use crate::format::{Bad, Reason, RowKind, RowReader, text};

/// Base64 with its padding, whatever bits are left over, as Java's libraries read it.
pub(crate) const BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

/// Why a value cannot be read.
#[derive(Debug)]
pub(crate) enum Fault {
    /// It is not of its column's type: all behind it can be read.
    Value(Reason),
    /// The message is broken.
    Message(Reason),
}

impl From<Reason> for Fault {
    fn from(reason: Reason) -> Self {
        Self::Message(reason)
    }
}

impl Fault {
    pub(crate) fn into_reason(self) -> Reason {
        match self {
            Self::Value(reason) | Self::Message(reason) => reason,
        }
    }

    fn at(self, name: &str) -> Self {
        let inside = |reason: Reason| format!("field `{name}`: {reason}");
        match self {
            Self::Value(reason) => Self::Value(inside(reason)),
            Self::Message(reason) => Self::Message(inside(reason)),
        }
    }
}

/// Reads objects into columns of their names.
#[derive(Debug)]
pub(crate) struct ObjectReader {
    pub(crate) fails_on_missing_field: bool,
    pub(crate) ignores_parse_errors: bool,
    pub(crate) timestamps: text::TimestampForm,
}

impl ObjectReader {
    pub(crate) fn new(options: &JsonOptions) -> Self {
        Self {
            fails_on_missing_field: options.fails_on_missing_field,
            ignores_parse_errors: options.ignores_parse_errors,
            timestamps: options.timestamps,
        }
    }

    /// Adds the members of the object that was just begun to columns that all have `len` values.
    pub(crate) fn read_members(
        &self,
        parser: &mut Parser<'_>,
        names: &Names,
        columns: &mut [Column],
        len: usize,
    ) -> Result<(), Fault> {
        let mut guess = 0;
        while let Some(name) = parser.next_name()? {
            let Some(place) = names.find(&name, guess) else {
                let token = parser.value()?;
                parser.skip(&token)?;
                continue;
            };
            let column = &mut columns[place];
            // Of a field that is there twice the last one counts.
            if column.len() > len {
                column.truncate(len);
            }
            self.read_value(parser, column).map_err(|fault| fault.at(&name))?;
            guess = place + 1;
        }
        for (place, column) in columns.iter_mut().enumerate().filter(|(_, column)| column.len() == len) {
            let name = names.at(place);
            if self.fails_on_missing_field {
                return Err(Fault::Value(format!("field `{name}` is missing")));
            }
            column.push_null().map_err(|reason| Fault::Message(reason).at(name))?;
        }
        Ok(())
    }

    fn read_value(&self, parser: &mut Parser<'_>, column: &mut Column) -> Result<(), Fault> {
        let len = column.len();
        let token = parser.value()?;
        if token == Token::Null {
            return Ok(column.push_null()?);
        }
        match self.convert(parser, token, column) {
            Err(Fault::Value(_)) if self.ignores_parse_errors => {
                column.truncate(len);
                Ok(column.push_null()?)
            }
            done => done,
        }
    }

    fn convert(&self, parser: &mut Parser<'_>, token: Token<'_>, column: &mut Column) -> Result<(), Fault> {
        match (column.kind(), token) {
            (Kind::List, Token::Array) => {
                while parser.next_element()? {
                    self.read_value(parser, column.item()?)?;
                }
                Ok(column.end_entries()?)
            }
            (Kind::Map, Token::Object) => self.read_map(parser, column),
            (Kind::Struct, Token::Object) => {
                let len = column.len();
                let (names, columns) = column.fields()?;
                self.read_members(parser, names, columns, len)?;
                column.end_row();
                Ok(())
            }
            (Kind::Text, token @ (Token::Object | Token::Array)) => {
                let mut copy = Vec::new();
                parser.copy(&token, Some(&mut copy))?;
                let copy = String::from_utf8(copy).map_err(|error| error.to_string())?;
                Ok(column.push_text(&copy)?)
            }
            (Kind::List, token) => {
                parser.skip(&token)?;
                Err(Fault::Value("it is no array".to_owned()))
            }
            (_, token @ (Token::Object | Token::Array)) => {
                parser.skip(&token)?;
                Err(Fault::Value("it is an object or an array".to_owned()))
            }
            (Kind::Map | Kind::Struct, _) => Err(Fault::Value("it is no object".to_owned())),
            (_, token) => self.push_scalar(column, &token).map_err(Fault::Value),
        }
    }

    fn read_map(&self, parser: &mut Parser<'_>, column: &mut Column) -> Result<(), Fault> {
        let mut names: Vec<Cow<'_, str>> = Vec::new();
        let (key, value) = column.entry()?;
        while let Some(name) = parser.next_name()? {
            key.push_text(&name)?;
            self.read_value(parser, value).map_err(|fault| fault.at(&name))?;
            names.push(name);
        }
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Fault::Value(format!("the key `{}` comes twice", pair[0])));
        }
        Ok(column.end_entries()?)
    }

    fn push_scalar(&self, column: &mut Column, token: &Token<'_>) -> Bad {
        let digits = match token {
            Token::Int(text) | Token::Float(text) => *text,
            Token::Text(text) => text.as_ref(),
            Token::Bool(true) => "true",
            Token::Bool(false) => "false",
            _ => return Err("it has no text".to_owned()),
        };
        let no = |what: &str| format!("`{}` is no {what}", shortened(digits));
        match column.kind() {
            Kind::Bool => column.push_bool(text::parse_bool(digits)),
            Kind::Text => column.push_text(digits),
            Kind::I32 | Kind::I64 if matches!(token, Token::Float(_)) => {
                let value: f64 = digits.parse().map_err(|_| no("number"))?;
                column.push_i128(truncated(value).ok_or_else(|| no("whole number in range"))?)
            }
            Kind::I8 | Kind::I16 | Kind::I32 | Kind::I64 => {
                column.push_i64(digits.trim().parse().map_err(|_| no("whole number in range"))?)
            }
            Kind::F32 => column.push_f32(text::parse_f32(digits).ok_or_else(|| no("number"))?),
            Kind::F64 => column.push_f64(text::parse_f64(digits).ok_or_else(|| no("number"))?),
            Kind::Decimal { precision, scale } => {
                match text::parse_decimal(digits.trim(), precision, scale).ok_or_else(|| no("number"))? {
                    Some(value) => column.push_i128(value),
                    None => column.push_null(),
                }
            }
            Kind::Bytes => match token {
                Token::Text(text) => column.push_bytes(&BASE64.decode(text.trim()).map_err(|_| no("base64"))?),
                _ => Err(no("base64")),
            },
            Kind::Date => column.push_i64(text::parse_date(digits).ok_or_else(|| no("date: yyyy-MM-dd"))?),
            Kind::Time(unit) => {
                let nanos = text::parse_time(digits).ok_or_else(|| no("time: HH:mm:ss"))?;
                column.push_i64(nanos / (1_000_000_000 / crate::format::column::per_second(unit)))
            }
            Kind::Timestamp { unit, is_zoned } => {
                let units = text::parse_timestamp(digits, self.timestamps, is_zoned, unit);
                column.push_i64(units.ok_or_else(|| no(form_of(self.timestamps, is_zoned)))?)
            }
            Kind::List | Kind::Map | Kind::Struct => Err(no("object or array")),
        }
    }
}

/// The whole part of a number, if it is one of 64 bits.
fn truncated(value: f64) -> Option<i128> {
    (value.abs() < 1e30).then_some(value as i128)
}

pub(crate) fn form_of(form: text::TimestampForm, is_zoned: bool) -> &'static str {
    match (form, is_zoned) {
        (text::TimestampForm::Sql, false) => "timestamp: yyyy-MM-dd HH:mm:ss",
        (text::TimestampForm::Sql, true) => "timestamp: yyyy-MM-dd HH:mm:ssZ",
        (text::TimestampForm::Iso8601, false) => "timestamp: yyyy-MM-ddTHH:mm:ss",
        (text::TimestampForm::Iso8601, true) => "timestamp: yyyy-MM-ddTHH:mm:ssZ",
    }
}

/// Characters of a value that an error shows.
const SHOWN: usize = 64;

pub(crate) fn shortened(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(SHOWN) {
        None => Cow::Borrowed(text),
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
    }
}

/// Reads messages of the format.
#[derive(Debug)]
pub(crate) struct JsonReader {
    objects: ObjectReader,
}

impl JsonReader {
    /// A reader of rows of a schema. Errors: `Unsupported` names a column.
    pub(crate) fn new(options: &JsonOptions, schema: &arrow::datatypes::Schema) -> Result<Self> {
        check_types(schema.fields())?;
        Ok(Self { objects: ObjectReader::new(options) })
    }

    fn read_object(&self, parser: &mut Parser<'_>, rows: &mut Rows) -> Result<(), Fault> {
        let len = rows.len();
        let (names, columns) = rows.fields();
        self.objects.read_members(parser, names, columns, len)?;
        rows.end_row();
        Ok(())
    }
}

#[async_trait]
impl RowReader for JsonReader {
    fn read(&mut self, bytes: Option<&[u8]>, rows: &mut Rows, _kinds: &mut Vec<RowKind>) -> Bad {
        let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) else { return Ok(()) };
        let mut parser = Parser::new(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes));
        match parser.value()? {
            Token::Object => self.read_object(&mut parser, rows).map_err(Fault::into_reason),
            Token::Array => {
                while parser.next_element()? {
                    match parser.value()? {
                        Token::Object => self.read_object(&mut parser, rows).map_err(Fault::into_reason)?,
                        Token::Null => {}
                        _ => return Err("an element of the JSON is no object".to_owned()),
                    }
                }
                Ok(())
            }
            _ => Err("the JSON is no object".to_owned()),
        }
    }
}

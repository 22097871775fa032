//! Lines to rows.

use std::borrow::Cow;

use arrow::datatypes::Schema;
use async_trait::async_trait;
use base64::Engine;
use tereza_runtime::Result;

use super::CsvOptions;
use crate::format::column::{Column, Kind, Rows, per_second};
use crate::format::json::{BASE64, form_of, shortened};
use crate::format::{Bad, FormatOptions, Reason, RowKind, RowReader, text};

#[derive(Debug)]
pub(in crate::format) struct CsvReader {
    options: CsvOptions,
    /// Values of a line.
    count: usize,
    /// Which of them the columns are.
    places: Vec<usize>,
}

impl CsvReader {
    /// A reader of those columns of a schema. Errors: `InvalidInput` names an option, `Unsupported` a column.
    pub(in crate::format) fn new(options: &FormatOptions, schema: &Schema, places: &[usize]) -> Result<Self> {
        let (count, places) = (schema.fields().len(), places.to_vec());
        Ok(Self { options: CsvOptions::new(options, schema)?, count, places })
    }

    /// A value, or NULL where the options say so. An array is never NULL: only what is in it can be.
    fn push_value(&self, column: &mut Column, value: &str) -> Bad {
        let options = &self.options;
        let is_nested = matches!(column.kind(), Kind::List | Kind::Struct);
        let is_null = !is_nested
            && (options.null_literal.as_deref() == Some(value) || (options.empty_is_null && value.is_empty()));
        if is_null {
            return column.push_null();
        }
        let len = column.len();
        match self.push_some(column, value) {
            Err(_) if options.ignores_parse_errors => {
                column.truncate(len);
                column.push_null()
            }
            done => done,
        }
    }

    fn push_some(&self, column: &mut Column, value: &str) -> Bad {
        match column.kind() {
            Kind::List => {
                for element in self.elements(value) {
                    self.push_value(column.item()?, element)?;
                }
                column.end_entries()
            }
            Kind::Struct => {
                let elements = self.elements(value);
                let (_, columns) = column.fields()?;
                if elements.is_empty() {
                    return column.push_null();
                }
                self.check_count(columns.len(), elements.len())?;
                for (at, column) in columns.iter_mut().enumerate() {
                    match elements.get(at) {
                        Some(element) => self.push_value(column, element)?,
                        None => column.push_null()?,
                    }
                }
                column.end_row();
                Ok(())
            }
            _ => push_scalar(column, value),
        }
    }

    /// The elements of an array; a blank text is an empty array.
    fn elements<'a>(&self, value: &'a str) -> Vec<&'a str> {
        if value.trim().is_empty() {
            return Vec::new();
        }
        let trim = |element: &'a str| if self.options.trims { element.trim() } else { element };
        value.split(self.options.element_delimiter).map(trim).collect()
    }

    fn check_count(&self, expected: usize, found: usize) -> Bad {
        if found < expected && !self.options.ignores_parse_errors {
            return Err(format!("it has {found} values, not {expected}"));
        }
        Ok(())
    }

    fn read_line(&self, values: &[Cow<'_, str>], rows: &mut Rows) -> Bad {
        let (names, columns) = rows.fields();
        let count = self.count;
        let is_delimiter_at_end = self.options.allows_delimiter_at_end
            && values.len() == count + 1
            && values.last().is_some_and(|value| value.trim().is_empty());
        if values.len() > count && !is_delimiter_at_end && !self.options.ignores_more_values {
            return Err(format!("it has {} values, not {count}", values.len()));
        }
        if values.len() < count && self.options.fails_on_missing_columns {
            return Err(format!("it has {} values, not {count}", values.len()));
        }
        self.check_count(count, values.len())?;
        for (at, column) in columns.iter_mut().enumerate() {
            let done = match self.places.get(at).and_then(|place| values.get(*place)) {
                Some(value) => self.push_value(column, value),
                None => column.push_null(),
            };
            done.map_err(|reason| format!("field `{}`: {reason}", names.at(at)))?;
        }
        rows.end_row();
        Ok(())
    }
}

fn push_scalar(column: &mut Column, value: &str) -> Bad {
    let no = |what: &str| format!("`{}` is no {what}", shortened(value));
    match column.kind() {
        Kind::Bool => column.push_bool(text::parse_bool(value)),
        Kind::Text => column.push_text(value),
        Kind::I8 | Kind::I16 | Kind::I32 | Kind::I64 => {
            column.push_i64(value.trim().parse().map_err(|_| no("whole number in range"))?)
        }
        Kind::F32 => column.push_f32(text::parse_f32(value).ok_or_else(|| no("number"))?),
        Kind::F64 => column.push_f64(text::parse_f64(value).ok_or_else(|| no("number"))?),
        Kind::Decimal { precision, scale } => {
            match text::parse_decimal(value, precision, scale).ok_or_else(|| no("number"))? {
                Some(value) => column.push_i128(value),
                None => column.push_null(),
            }
        }
        Kind::Bytes => column.push_bytes(&BASE64.decode(value).map_err(|_| no("base64"))?),
        Kind::Date => column.push_i64(text::parse_sql_date(value).ok_or_else(|| no("date: yyyy-MM-dd"))?),
        Kind::Time(unit) => {
            let nanos = text::parse_iso_time(value).ok_or_else(|| no("time: HH:mm:ss"))?;
            column.push_i64(nanos / (1_000_000_000 / per_second(unit)))
        }
        Kind::Timestamp { unit, is_zoned } => {
            let form = text::TimestampForm::Sql;
            let units = text::parse_timestamp(value.trim(), form, is_zoned, unit);
            column.push_i64(units.ok_or_else(|| no(form_of(form, is_zoned)))?)
        }
        Kind::List | Kind::Map | Kind::Struct => Err(no("array")),
    }
}

/// Takes the values of the first line of a text.
struct Line<'a> {
    options: &'a CsvOptions,
    rest: &'a str,
}

impl<'a> Line<'a> {
    fn values(mut self) -> Result<Vec<Cow<'a, str>>, Reason> {
        let mut values = Vec::new();
        loop {
            if self.options.trims {
                self.rest = self.rest.trim_start_matches([' ', '\t']);
            }
            let (value, is_last) = match self.options.quote.filter(|quote| self.rest.starts_with(*quote)) {
                Some(quote) => self.quoted(quote)?,
                None => self.unquoted()?,
            };
            values.push(value);
            if is_last {
                return Ok(values);
            }
        }
    }

    /// Up to the delimiter, which is left out, or the end of the line.
    fn unquoted(&mut self) -> Result<(Cow<'a, str>, bool), Reason> {
        let (delimiter, escape) = (self.options.delimiter, self.options.escape);
        let is_end = |character: char| character == delimiter || matches!(character, '\n' | '\r');
        let is_special = |character: char| is_end(character) || Some(character) == escape;
        let mut value = Cow::Borrowed("");
        loop {
            let end = self.rest.find(is_special).unwrap_or(self.rest.len());
            let (piece, rest) = self.rest.split_at(end);
            push(&mut value, piece);
            let mut characters = rest.chars();
            let special = characters.next();
            self.rest = characters.as_str();
            match special {
                Some(character) if !is_end(character) => self.unescape(&mut value)?,
                other => {
                    if self.options.trims {
                        value = Cow::Owned(value.trim_end().to_owned());
                    }
                    return Ok((value, other != Some(delimiter)));
                }
            }
        }
    }

    /// A value in quotes, and what is left out behind it.
    fn quoted(&mut self, quote: char) -> Result<(Cow<'a, str>, bool), Reason> {
        let escape = self.options.escape;
        let is_special = |character: char| character == quote || Some(character) == escape;
        self.rest = self.rest.strip_prefix(quote).unwrap_or(self.rest);
        let mut value = Cow::Borrowed("");
        loop {
            let end = self.rest.find(is_special).ok_or("a quote is not closed")?;
            let (piece, rest) = self.rest.split_at(end);
            push(&mut value, piece);
            let mut characters = rest.chars();
            let special = characters.next();
            self.rest = characters.as_str();
            if special != Some(quote) {
                self.unescape(&mut value)?;
            } else if let Some(rest) = self.rest.strip_prefix(quote) {
                value.to_mut().push(quote);
                self.rest = rest;
            } else {
                break;
            }
        }
        loop {
            let mut characters = self.rest.chars();
            let next = characters.next();
            self.rest = characters.as_str();
            match next {
                Some(next) if next == self.options.delimiter => return Ok((value, false)),
                None | Some('\n' | '\r') => return Ok((value, true)),
                Some(next) if next <= ' ' => {}
                Some(next) => return Err(format!("{next:?} stands behind a closed quote")),
            }
        }
    }

    /// What an escape character means with the next one.
    fn unescape(&mut self, value: &mut Cow<'a, str>) -> Bad {
        let mut characters = self.rest.chars();
        let character = match characters.next().ok_or("nothing is behind an escape character")? {
            '0' => '\0',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            other => other,
        };
        value.to_mut().push(character);
        self.rest = characters.as_str();
        Ok(())
    }
}

fn push<'a>(value: &mut Cow<'a, str>, piece: &'a str) {
    if value.is_empty() {
        *value = Cow::Borrowed(piece);
    } else {
        value.to_mut().push_str(piece);
    }
}

#[async_trait]
impl RowReader for CsvReader {
    fn read(&mut self, bytes: Option<&[u8]>, rows: &mut Rows, _kinds: &mut Vec<RowKind>) -> Bad {
        let mut line = match bytes.map(std::str::from_utf8) {
            None => return Ok(()),
            Some(Ok(text)) => text,
            Some(Err(_)) => return Err("it is no UTF-8".to_owned()),
        };
        while self.options.allows_comments && line.trim_start().starts_with('#') {
            line = line.split_once('\n').map_or("", |(_, rest)| rest);
        }
        if line.is_empty() {
            return Err("it is empty".to_owned());
        }
        let values = Line { options: &self.options, rest: line }.values()?;
        self.read_line(&values, rows)
    }
}

//! Rows to lines.

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use async_trait::async_trait;
use tereza_runtime::{Error, Result};

use super::CsvOptions;
use crate::format::cells::{Cells, Values, entries, write_rows};
use crate::format::json::write_base64;
use crate::format::text::{self, DecimalForm, TimestampForm};
use crate::format::{FormatOptions, RowKind, RowWriter};

/// UTF-16 units of a text beyond which it is put in quotes without being looked at.
const LOOKED_AT: usize = 24;

#[derive(Debug)]
pub(in crate::format) struct CsvWriter {
    options: CsvOptions,
    /// The value being written, before it is known whether it needs quotes.
    value: Vec<u8>,
}

impl CsvWriter {
    /// A writer of rows of a schema. Errors: `InvalidInput` names an option, `Unsupported` a column.
    pub(in crate::format) fn new(options: &FormatOptions, schema: &Schema) -> Result<Self> {
        Ok(Self { options: CsvOptions::new(options, schema)?, value: Vec::new() })
    }

    fn write_field(&mut self, cells: &Cells<'_>, row: usize, out: &mut Vec<u8>) -> Result<()> {
        if cells.is_null(row) {
            out.extend_from_slice(self.options.null_literal.as_deref().unwrap_or_default().as_bytes());
            return Ok(());
        }
        self.value.clear();
        let is_text = match &cells.values {
            Values::List { ends, item } => {
                let range = entries(ends, row);
                for entry in range.clone() {
                    if entry > range.start {
                        text::push_display(&mut self.value, format_args!("{}", self.options.element_delimiter));
                    }
                    self.write_element(item, entry)?;
                }
                true
            }
            Values::Struct(fields) => {
                for (at, field) in fields.iter().enumerate() {
                    if at > 0 {
                        text::push_display(&mut self.value, format_args!("{}", self.options.element_delimiter));
                    }
                    self.write_element(field, row)?;
                }
                true
            }
            _ => write_scalar(&self.options, cells, row, &mut self.value)?,
        };
        if is_text {
            self.write_text(out)
        } else {
            out.extend_from_slice(&self.value)
        }
        Ok(())
    }

    fn write_element(&mut self, cells: &Cells<'_>, row: usize) -> Result<()> {
        if cells.is_null(row) {
            let literal = self.options.null_literal.as_deref().unwrap_or_default();
            self.value.extend_from_slice(literal.as_bytes());
            return Ok(());
        }
        write_scalar(&self.options, cells, row, &mut self.value).map(|_| ())
    }

    /// Writes the value, in quotes if it is long, has a backslash or a character that sorts before those that need none. In
    /// quotes, a quote and the escape character are doubled; without quotes nothing is escaped.
    fn write_text(&self, out: &mut Vec<u8>) {
        let value = String::from_utf8_lossy(&self.value);
        let Some(quote) = self.options.quote else { return out.extend_from_slice(value.as_bytes()) };
        let safe = self.options.delimiter.max(quote).max('\r');
        let is_long = value.len() > LOOKED_AT && value.encode_utf16().count() > LOOKED_AT;
        if !is_long && !value.chars().any(|character| character <= safe || character == '\\') {
            return out.extend_from_slice(value.as_bytes());
        }
        push_char(out, quote);
        for character in value.chars() {
            if character == quote || Some(character) == self.options.escape {
                push_char(out, character);
            }
            push_char(out, character);
        }
        push_char(out, quote);
    }
}

fn push_char(out: &mut Vec<u8>, character: char) {
    out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
}

/// Writes a value that is not NULL and says whether it is a text, which may need quotes.
fn write_scalar(options: &CsvOptions, cells: &Cells<'_>, row: usize, out: &mut Vec<u8>) -> Result<bool> {
    match &cells.values {
        Values::Bool(values) => out.extend_from_slice(if values.value(row) { &b"true"[..] } else { &b"false"[..] }),
        Values::I8(values) => text::push_display(out, format_args!("{}", values[row])),
        Values::I16(values) => text::push_display(out, format_args!("{}", values[row])),
        Values::I32(values) => text::push_display(out, format_args!("{}", values[row])),
        Values::I64(values) => text::push_display(out, format_args!("{}", values[row])),
        Values::F32(values) => text::write_f32(out, values[row]),
        Values::F64(values) => text::write_f64(out, values[row]),
        Values::Decimal { values, scale } => {
            let form = if options.is_scientific { DecimalForm::Scientific } else { DecimalForm::Plain };
            text::write_decimal(out, values[row], *scale, form);
        }
        Values::Text(values) => {
            out.extend_from_slice(values.value(row).as_bytes());
            return Ok(true);
        }
        Values::Bytes(values) => {
            write_base64(out, values.value(row));
            return Ok(true);
        }
        Values::Date(values) => {
            text::write_date(out, i64::from(values[row]));
            return Ok(true);
        }
        Values::Time32(values, unit) => {
            text::write_time(out, i64::from(values[row]), *unit);
            return Ok(true);
        }
        Values::Time64(values, unit) => {
            text::write_time(out, values[row], *unit);
            return Ok(true);
        }
        Values::Timestamp { values, unit, is_zoned } => {
            text::write_timestamp(out, values[row], *unit, TimestampForm::Sql, *is_zoned);
            return Ok(true);
        }
        Values::List { .. } | Values::Map { .. } | Values::Struct(_) => {
            return Err(Error::internal("a nested value in a nested value of CSV"));
        }
    }
    Ok(false)
}

#[async_trait]
impl RowWriter for CsvWriter {
    fn write(
        &mut self,
        batch: &RecordBatch,
        _kinds: Option<&[RowKind]>,
        out: &mut Vec<u8>,
        ends: &mut Vec<Option<usize>>,
    ) -> Result<()> {
        write_rows(batch, out, ends, |cells, row, out| {
            for (at, cells) in cells.iter().enumerate() {
                if at > 0 {
                    push_char(out, self.options.delimiter);
                }
                self.write_field(cells, row, out)?;
            }
            Ok(())
        })
    }
}

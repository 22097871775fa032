//! Rows to objects.

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Fields, Schema};
use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tereza_runtime::{Error, Result};

use super::{JsonOptions, NullKey, check_types};
use crate::format::cells::{Cells, Values, entries, write_rows};
use crate::format::{Reason, RowKind, RowWriter, text};

/// Names as they stand in objects, with quotes and colon, of a row and of those inside.
#[derive(Debug)]
enum Labels {
    None,
    Inner(Box<Labels>),
    Fields(Vec<(Vec<u8>, Labels)>),
}

impl Labels {
    fn of_fields(fields: &Fields) -> Self {
        let label = |name: &str| {
            let mut label = Vec::new();
            write_text(&mut label, name);
            label.push(b':');
            label
        };
        Self::Fields(fields.iter().map(|field| (label(field.name()), Self::of(field.data_type()))).collect())
    }

    fn of(data_type: &DataType) -> Self {
        match data_type {
            DataType::Struct(fields) => Self::of_fields(fields),
            DataType::List(item) => Self::Inner(Box::new(Self::of(item.data_type()))),
            DataType::Map(entries, _) => match entries.data_type() {
                DataType::Struct(pair) if pair.len() == 2 => Self::Inner(Box::new(Self::of(pair[1].data_type()))),
                _ => Self::None,
            },
            _ => Self::None,
        }
    }
}

/// Writes rows as objects.
#[derive(Debug)]
pub(crate) struct ObjectWriter {
    options: JsonOptions,
    labels: Labels,
}

impl ObjectWriter {
    /// A writer of rows of a schema. Errors: `Unsupported` names a column.
    pub(crate) fn new(options: &JsonOptions, schema: &Schema) -> Result<Self> {
        check_types(schema.fields())?;
        Ok(Self { options: options.clone(), labels: Labels::of_fields(schema.fields()) })
    }

    /// Writes a row. Errors: `InvalidInput` says which value JSON cannot hold.
    pub(crate) fn write_row(&self, cells: &[Cells<'_>], row: usize, out: &mut Vec<u8>) -> Result<()> {
        self.write_fields(cells, &self.labels, row, out)
            .map_err(|reason| Error::invalid_input(format!("a row cannot be written as JSON: {reason}")))
    }

    fn write_fields(&self, cells: &[Cells<'_>], labels: &Labels, row: usize, out: &mut Vec<u8>) -> Result<(), Reason> {
        let Labels::Fields(labels) = labels else { return Err("a row without names".to_owned()) };
        out.push(b'{');
        let mut is_first = true;
        for (cells, (label, inner)) in cells.iter().zip(labels) {
            if self.options.leaves_out_nulls && cells.is_null(row) {
                continue;
            }
            if !std::mem::take(&mut is_first) {
                out.push(b',');
            }
            out.extend_from_slice(label);
            self.write_value(cells, inner, row, out)?;
        }
        out.push(b'}');
        Ok(())
    }

    fn write_value(&self, cells: &Cells<'_>, labels: &Labels, row: usize, out: &mut Vec<u8>) -> Result<(), Reason> {
        if cells.is_null(row) {
            out.extend_from_slice(b"null");
            return Ok(());
        }
        let inner = if let Labels::Inner(inner) = labels { inner } else { labels };
        let form = self.options.timestamps;
        match &cells.values {
            Values::Bool(values) => out.extend_from_slice(if values.value(row) { &b"true"[..] } else { &b"false"[..] }),
            Values::I8(values) => text::push_display(out, format_args!("{}", values[row])),
            Values::I16(values) => text::push_display(out, format_args!("{}", values[row])),
            Values::I32(values) => text::push_display(out, format_args!("{}", values[row])),
            Values::I64(values) => text::push_display(out, format_args!("{}", values[row])),
            Values::F32(values) if values[row].is_finite() => text::write_f32(out, values[row]),
            Values::F64(values) if values[row].is_finite() => text::write_f64(out, values[row]),
            Values::F32(values) => quoted(out, |out| text::write_f32(out, values[row])),
            Values::F64(values) => quoted(out, |out| text::write_f64(out, values[row])),
            Values::Text(values) => write_text(out, values.value(row)),
            Values::Bytes(values) => quoted(out, |out| write_base64(out, values.value(row))),
            Values::Date(values) => quoted(out, |out| text::write_date(out, i64::from(values[row]))),
            Values::Time32(values, unit) => quoted(out, |out| text::write_time(out, i64::from(values[row]), *unit)),
            Values::Time64(values, unit) => quoted(out, |out| text::write_time(out, values[row], *unit)),
            Values::Timestamp { values, unit, is_zoned } => {
                quoted(out, |out| text::write_timestamp(out, values[row], *unit, form, *is_zoned));
            }
            Values::Decimal { values, scale } => text::write_decimal(out, values[row], *scale, self.options.decimals),
            Values::List { ends, item } => {
                out.push(b'[');
                let range = entries(ends, row);
                for entry in range.clone() {
                    if entry > range.start {
                        out.push(b',');
                    }
                    self.write_value(item, inner, entry, out)?;
                }
                out.push(b']');
            }
            Values::Map { ends, key, value } => {
                out.push(b'{');
                let mut is_first = true;
                for entry in entries(ends, row) {
                    let name = match (&key.values, &self.options.null_key) {
                        (Values::Text(names), _) if !key.is_null(entry) => names.value(entry),
                        (Values::Text(_), NullKey::Drop) => continue,
                        (Values::Text(_), NullKey::Literal(literal)) => literal,
                        _ => return Err("a key of a map is NULL".to_owned()),
                    };
                    if !std::mem::take(&mut is_first) {
                        out.push(b',');
                    }
                    write_text(out, name);
                    out.push(b':');
                    self.write_value(value, inner, entry, out)?;
                }
                out.push(b'}');
            }
            Values::Struct(fields) => self.write_fields(fields, labels, row, out)?,
        }
        Ok(())
    }
}

fn quoted(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(b'"');
    write(out);
    out.push(b'"');
}

/// Appends without a buffer of its own.
pub(crate) fn write_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    let written = STANDARD.encode_slice(bytes, &mut out[start..]).unwrap_or_default();
    out.truncate(start + written);
}

/// Writes a text with its quotes. Escaped are quotes, backslashes, control characters, and, as Flink does, characters beyond
/// U+FFFF.
pub(crate) fn write_text(out: &mut Vec<u8>, value: &str) {
    out.push(b'"');
    let bytes = value.as_bytes();
    let mut from = 0;
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(byte, b' '..=0xef) && *byte != b'"' && *byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[from..at]);
        from = at + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x8 => out.extend_from_slice(b"\\b"),
            0xc => out.extend_from_slice(b"\\f"),
            0xf0.. => {
                for unit in
                    value.get(at..).and_then(|rest| rest.chars().next()).unwrap_or_default().encode_utf16(&mut [0; 2])
                {
                    text::push_display(out, format_args!("\\u{unit:04X}"));
                }
                from = at + 4;
            }
            _ => text::push_display(out, format_args!("\\u{byte:04X}")),
        }
    }
    out.extend_from_slice(&bytes[from..]);
    out.push(b'"');
}

/// Writes messages of the format.
#[derive(Debug)]
pub(crate) struct JsonWriter {
    objects: ObjectWriter,
}

impl JsonWriter {
    /// A writer of rows of a schema. Errors: `Unsupported` names a column.
    pub(crate) fn new(options: &JsonOptions, schema: &Schema) -> Result<Self> {
        Ok(Self { objects: ObjectWriter::new(options, schema)? })
    }
}

#[async_trait]
impl RowWriter for JsonWriter {
    fn write(
        &mut self,
        batch: &RecordBatch,
        _kinds: Option<&[RowKind]>,
        out: &mut Vec<u8>,
        ends: &mut Vec<Option<usize>>,
    ) -> Result<()> {
        write_rows(batch, out, ends, |cells, row, out| self.objects.write_row(cells, row, out))
    }
}

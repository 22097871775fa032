//! Rows to records, by the schema that is made of the table.

use super::super::cells::{Cells, Values, entries};
use super::super::column::per_second;
use crate::format::Reason;
use arrow::datatypes::{DataType, Fields, TimeUnit};

/// Which values can be NULL, as each of those is a union.
#[derive(Debug)]
pub(super) struct Shape {
    is_nullable: bool,
    inner: Vec<Shape>,
}

impl Shape {
    pub(super) fn of_fields(fields: &Fields) -> Vec<Self> {
        fields.iter().map(|field| Self::of(field.data_type(), field.is_nullable())).collect()
    }

    fn of(data_type: &DataType, is_nullable: bool) -> Self {
        let inner = match data_type {
            DataType::Struct(fields) => Self::of_fields(fields),
            DataType::List(item) => vec![Self::of(item.data_type(), item.is_nullable())],
            DataType::Map(entries, _) => match entries.data_type() {
                DataType::Struct(pair) => Self::of_fields(pair),
                _ => Vec::new(),
            },
            _ => Vec::new(),
        };
        Self { is_nullable, inner }
    }
}

/// Adds a row of columns. Errors say which value Avro cannot hold.
pub(super) fn write_row(cells: &[Cells<'_>], shapes: &[Shape], row: usize, out: &mut Vec<u8>) -> Result<(), Reason> {
    cells.iter().zip(shapes).try_for_each(|(cells, shape)| write_value(cells, shape, row, out))
}

fn write_value(cells: &Cells<'_>, shape: &Shape, row: usize, out: &mut Vec<u8>) -> Result<(), Reason> {
    let is_null = cells.is_null(row);
    if shape.is_nullable {
        write_long(out, i64::from(!is_null));
    } else if is_null {
        return Err("a value is NULL where none may be".to_owned());
    }
    if is_null {
        return Ok(());
    }
    let inner = || shape.inner.first().ok_or_else(|| "a nested value without its type".to_owned());
    match &cells.values {
        Values::Bool(values) => out.push(u8::from(values.value(row))),
        Values::I8(values) => write_long(out, i64::from(values[row])),
        Values::I16(values) => write_long(out, i64::from(values[row])),
        Values::I32(values) | Values::Date(values) => write_long(out, i64::from(values[row])),
        Values::I64(values) => write_long(out, values[row]),
        Values::F32(values) => out.extend_from_slice(&values[row].to_le_bytes()),
        Values::F64(values) => out.extend_from_slice(&values[row].to_le_bytes()),
        Values::Text(values) => write_bytes(out, values.value(row).as_bytes()),
        Values::Bytes(values) => write_bytes(out, values.value(row)),
        Values::Time32(values, unit) => {
            write_long(out, i64::from(values[row]) * (1_000 / per_second(*unit)));
        }
        Values::Time64(..) => return Err("a time of more than three digits of a second".to_owned()),
        Values::Timestamp { values, unit: TimeUnit::Second, .. } => {
            write_long(out, values[row].checked_mul(1_000).ok_or("a timestamp is out of range")?);
        }
        Values::Timestamp { values, .. } => write_long(out, values[row]),
        Values::Decimal { values, .. } => {
            let bytes = values[row].to_be_bytes();
            // Bytes that only repeat the sign are left out.
            let sign = if values[row] < 0 { 0xff } else { 0 };
            let is_sign = |at: &usize| bytes[*at] == sign && (bytes[at + 1] ^ sign) & 0x80 == 0;
            let start = (0..15).take_while(is_sign).count();
            write_bytes(out, &bytes[start..]);
        }
        Values::List { ends, item } => {
            let range = entries(ends, row);
            if !range.is_empty() {
                write_long(out, count(range.len())?);
            }
            for entry in range {
                write_value(item, inner()?, entry, out)?;
            }
            out.push(0);
        }
        Values::Map { ends, key, value } => {
            let range = entries(ends, row);
            if !range.is_empty() {
                write_long(out, count(range.len())?);
            }
            let of_value = shape.inner.get(1).ok_or_else(|| "a map without the type of its values".to_owned())?;
            for entry in range {
                match &key.values {
                    Values::Text(names) if !key.is_null(entry) => write_bytes(out, names.value(entry).as_bytes()),
                    _ => return Err("a key of a map is NULL".to_owned()),
                }
                write_value(value, of_value, entry, out)?;
            }
            out.push(0);
        }
        Values::Struct(fields) => write_row(fields, &shape.inner, row, out)?,
    }
    Ok(())
}

fn count(len: usize) -> Result<i64, Reason> {
    i64::try_from(len).map_err(|_| "an array is too long".to_owned())
}

fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    write_long(out, i64::try_from(bytes.len()).unwrap_or(i64::MAX));
    out.extend_from_slice(bytes);
}

/// Adds a zig-zag number.
fn write_long(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.push(u8::try_from(rest & 0x7f).unwrap_or_default() | 0x80);
        rest >>= 7;
    }
    out.push(u8::try_from(rest).unwrap_or_default());
}

//! `raw`: a message is the value of the only column, as bytes.

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use async_trait::async_trait;
use tereza_runtime::{Error, Result};

use super::cells::{Cells, Values};
use super::column::{Kind, Rows};
use super::{Bad, FormatOptions, RowKind, RowReader, RowWriter};

const CHARSET: &str = "charset";
const ENDIANNESS: &str = "endianness";

/// How texts are bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Charset {
    Utf8,
    Ascii,
    Latin1,
    Utf16Be,
    Utf16Le,
}

const CHARSETS: [(&str, Charset); 5] = [
    ("UTF-8", Charset::Utf8),
    ("US-ASCII", Charset::Ascii),
    ("ISO-8859-1", Charset::Latin1),
    ("UTF-16BE", Charset::Utf16Be),
    ("UTF-16LE", Charset::Utf16Le),
];

impl Charset {
    /// The text of bytes; what is no character is the replacement character.
    fn decode(self, bytes: &[u8]) -> String {
        let units = |unit: fn([u8; 2]) -> u16| {
            let units = bytes.chunks(2).map(|pair| <[u8; 2]>::try_from(pair).map_or(0xfffd, unit));
            char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
        };
        match self {
            Self::Utf8 => String::from_utf8_lossy(bytes).into_owned(),
            Self::Ascii => {
                let character =
                    |byte: &u8| if byte.is_ascii() { char::from(*byte) } else { char::REPLACEMENT_CHARACTER };
                bytes.iter().map(character).collect()
            }
            Self::Latin1 => bytes.iter().copied().map(char::from).collect(),
            Self::Utf16Be => units(u16::from_be_bytes),
            Self::Utf16Le => units(u16::from_le_bytes),
        }
    }

    /// Adds the bytes of a text; a character that there is not is a question mark.
    fn encode(self, text: &str, out: &mut Vec<u8>) {
        let byte = |character: char, last: char| match u8::try_from(character) {
            Ok(byte) if character <= last => byte,
            _ => b'?',
        };
        match self {
            Self::Utf8 => out.extend_from_slice(text.as_bytes()),
            Self::Ascii => out.extend(text.chars().map(|character| byte(character, '\u{7f}'))),
            Self::Latin1 => out.extend(text.chars().map(|character| byte(character, '\u{ff}'))),
            Self::Utf16Be => out.extend(text.encode_utf16().flat_map(u16::to_be_bytes)),
            Self::Utf16Le => out.extend(text.encode_utf16().flat_map(u16::to_le_bytes)),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct RawOptions {
    charset: Charset,
    is_big_endian: bool,
}

impl RawOptions {
    fn new(options: &FormatOptions, schema: &Schema) -> Result<Self> {
        options.check(&[CHARSET, ENDIANNESS])?;
        if schema.fields().len() != 1 {
            let count = schema.fields().len();
            return Err(Error::invalid_input(format!("format `raw` is of one column, and here are {count}")));
        }
        let kind = Kind::of(schema.field(0).data_type())?;
        if matches!(
            kind,
            Kind::Date
                | Kind::Time(_)
                | Kind::Timestamp { .. }
                | Kind::Decimal { .. }
                | Kind::List
                | Kind::Map
                | Kind::Struct
        ) {
            let data_type = schema.field(0).data_type();
            return Err(Error::unsupported(format!("format `raw` for a column of type {data_type}")));
        }
        Ok(Self {
            charset: options.choice(CHARSET, &CHARSETS, Charset::Utf8, true)?,
            is_big_endian: options.choice(ENDIANNESS, &[("big-endian", true), ("little-endian", false)], true, true)?,
        })
    }
}

#[derive(Debug)]
pub(super) struct RawReader(RawOptions);

impl RawReader {
    /// A reader of a schema of one column. Errors: `InvalidInput` and `Unsupported`.
    pub(super) fn new(options: &FormatOptions, schema: &Schema) -> Result<Self> {
        RawOptions::new(options, schema).map(Self)
    }

    /// Exactly as many bytes, the first one the highest.
    fn bytes<const N: usize>(&self, bytes: &[u8]) -> Result<[u8; N], String> {
        let wrong = || format!("it has {} bytes, not {N}", bytes.len());
        let mut bytes: [u8; N] = bytes.try_into().map_err(|_| wrong())?;
        if !self.0.is_big_endian {
            bytes.reverse();
        }
        Ok(bytes)
    }
}

#[async_trait]
impl RowReader for RawReader {
    fn read(&mut self, bytes: Option<&[u8]>, rows: &mut Rows, _kinds: &mut Vec<RowKind>) -> Bad {
        let (_, columns) = rows.fields();
        let column = &mut columns[0];
        match (bytes, column.kind()) {
            (None, _) => column.push_null()?,
            (Some(bytes), Kind::Text) => column.push_text(&self.0.charset.decode(bytes))?,
            (Some(bytes), Kind::Bytes) => column.push_bytes(bytes)?,
            (Some(bytes), Kind::Bool) => column.push_bool(self.bytes::<1>(bytes)? != [0])?,
            (Some(bytes), Kind::I8) => column.push_i64(i8::from_be_bytes(self.bytes(bytes)?).into())?,
            (Some(bytes), Kind::I16) => column.push_i64(i16::from_be_bytes(self.bytes(bytes)?).into())?,
            (Some(bytes), Kind::I32) => column.push_i64(i32::from_be_bytes(self.bytes(bytes)?).into())?,
            (Some(bytes), Kind::I64) => column.push_i64(i64::from_be_bytes(self.bytes(bytes)?))?,
            (Some(bytes), Kind::F32) => column.push_f32(f32::from_be_bytes(self.bytes(bytes)?))?,
            (Some(bytes), Kind::F64) => column.push_f64(f64::from_be_bytes(self.bytes(bytes)?))?,
            (Some(_), _) => return Err("its type has no raw form".to_owned()),
        }
        rows.end_row();
        Ok(())
    }
}

#[derive(Debug)]
pub(super) struct RawWriter(RawOptions);

impl RawWriter {
    /// A writer of a schema of one column. Errors: as those of the reader.
    pub(super) fn new(options: &FormatOptions, schema: &Schema) -> Result<Self> {
        RawOptions::new(options, schema).map(Self)
    }

    fn push<const N: usize>(&self, out: &mut Vec<u8>, mut bytes: [u8; N]) {
        if !self.0.is_big_endian {
            bytes.reverse();
        }
        out.extend_from_slice(&bytes);
    }
}

#[async_trait]
impl RowWriter for RawWriter {
    fn write(
        &mut self,
        batch: &RecordBatch,
        _kinds: Option<&[RowKind]>,
        out: &mut Vec<u8>,
        ends: &mut Vec<Option<usize>>,
    ) -> Result<()> {
        let cells = Cells::new(batch.column(0).as_ref())?;
        for row in 0..batch.num_rows() {
            if cells.is_null(row) {
                ends.push(None);
                continue;
            }
            match &cells.values {
                Values::Text(values) => self.0.charset.encode(values.value(row), out),
                Values::Bytes(values) => out.extend_from_slice(values.value(row)),
                Values::Bool(values) => out.push(u8::from(values.value(row))),
                Values::I8(values) => self.push(out, values[row].to_be_bytes()),
                Values::I16(values) => self.push(out, values[row].to_be_bytes()),
                Values::I32(values) => self.push(out, values[row].to_be_bytes()),
                Values::I64(values) => self.push(out, values[row].to_be_bytes()),
                Values::F32(values) => self.push(out, values[row].to_be_bytes()),
                Values::F64(values) => self.push(out, values[row].to_be_bytes()),
                _ => return Err(Error::internal("a column without a raw form")),
            }
            ends.push(Some(out.len()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;

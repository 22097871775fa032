//! Delimited text as Hive's serdes write it.
//!
//! `LazySimpleSerDe` has a delimiter, a text for NULL and perhaps an escape character, and no quotes; `OpenCSVSerde` has a
//! separator, a quote and an escape character, and nothing at all for NULL. A value that would read back as something else
//! is refused, never written.
//! Source: Hive's `LazySerDeParameters`, `LazyUtils.writeEscaped` and `OpenCSVSerde`.

use std::fmt::Write;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use tereza_catalog::model::{Parameters, Storage};
use tereza_runtime::{Error, Result};

use super::encoder::parameter;
use super::split::arrow_error;

/// How Hive writes timestamps: a space between date and time, fractions only where there are any.
pub(super) const TIMESTAMP: &str = "%Y-%m-%d %H:%M:%S%.f";
/// The same with the offset of the time zone.
pub(super) const TIMESTAMP_TZ: &str = "%Y-%m-%d %H:%M:%S%.f%:z";

/// Turns batches into lines.
#[derive(Debug)]
pub(super) struct TextEncoder {
    style: Style,
    names: Vec<String>,
    out: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Style {
    /// `LazySimpleSerDe`.
    Plain { delimiter: u8, escape: Option<u8>, null: String },
    /// `OpenCSVSerde`.
    Quoted { separator: u8, quote: u8, escape: u8 },
}

impl TextEncoder {
    /// `Unsupported` for types that a line of text has no room for.
    pub(super) fn new(storage: &Storage, table_parameters: &Parameters, columns: &SchemaRef) -> Result<Self> {
        for field in columns.fields() {
            if field.data_type().is_nested() || is_binary(field.data_type()) {
                let (name, data_type) = (field.name(), field.data_type());
                return Err(Error::unsupported(format!("column {name} of type {data_type} in a text file"))
                    .with_hint("use STORED AS PARQUET"));
            }
        }
        if let Some(word) = parameter("compression", storage, table_parameters)
            && !["", "none", "uncompressed"].contains(&word.to_ascii_lowercase().as_str())
        {
            return Err(Error::unsupported(format!("writing text files with compression {word}")));
        }
        let style = Style::of(storage, table_parameters)?;
        let names: Vec<String> = columns.fields().iter().map(|field| field.name().clone()).collect();
        let mut encoder = Self { style, names, out: Vec::new() };
        let header_lines = parameter("skip.header.line.count", storage, table_parameters);
        for _ in 0..header_lines.and_then(|count| count.trim().parse::<u8>().ok()).unwrap_or(0) {
            encoder.header()?;
        }
        Ok(encoder)
    }

    /// Adds the rows of `batch`. `InvalidInput` for a value that cannot be told apart when it is read again.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let options =
            FormatOptions::new().with_timestamp_format(Some(TIMESTAMP)).with_timestamp_tz_format(Some(TIMESTAMP_TZ));
        let formatters = batch.columns().iter().map(|column| ArrayFormatter::try_new(column.as_ref(), &options));
        let formatters: Vec<ArrayFormatter<'_>> = formatters.collect::<Result<_, _>>().map_err(arrow_error)?;
        let mut text = String::new();
        for row in 0..batch.num_rows() {
            let begin = self.out.len();
            for (at, formatter) in formatters.iter().enumerate() {
                if batch.column(at).is_null(row) {
                    self.style.null(at, &mut self.out);
                    continue;
                }
                text.clear();
                write!(text, "{}", formatter.value(row))
                    .map_err(|_| Error::invalid_input(format!("a value of column {} has no text", self.names[at])))?;
                self.style
                    .value(at, &text, &mut self.out)
                    .map_err(|error| error.context(format!("column {}", self.names[at])))?;
            }
            if self.out.len() == begin {
                // The only column holds nothing, and readers skip lines without anything.
                return Err(Error::invalid_input("a text file cannot hold a row that is an empty line")
                    .with_hint("use STORED AS PARQUET"));
            }
            self.out.push(b'\n');
        }
        Ok(())
    }

    /// The lines added since the last call.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    fn header(&mut self) -> Result<()> {
        for (at, name) in self.names.iter().enumerate() {
            self.style.value(at, name, &mut self.out)?;
        }
        self.out.push(b'\n');
        Ok(())
    }
}

impl Style {
    fn of(storage: &Storage, table_parameters: &Parameters) -> Result<Self> {
        let byte = |key: &str, default: u8| match parameter(key, storage, table_parameters) {
            None | Some("") => Ok(default),
            Some(text) => {
                one_byte(text).ok_or_else(|| Error::unsupported(format!("{key} of more than one byte: '{text}'")))
            }
        };
        if storage.serde.library.as_deref().is_some_and(|class| class.ends_with("OpenCSVSerde")) {
            let (separator, quote) = (byte("separatorChar", b',')?, byte("quoteChar", b'"')?);
            return Ok(Self::Quoted { separator, quote, escape: byte("escapeChar", b'\\')? });
        }
        let delimiter = byte("field.delim", byte("serialization.format", 1)?)?;
        let escape =
            parameter("escape.delim", storage, table_parameters).map(|_| byte("escape.delim", b'\\')).transpose()?;
        let null = parameter("serialization.null.format", storage, table_parameters).unwrap_or("\\N").to_owned();
        Ok(Self::Plain { delimiter, escape, null })
    }

    fn null(&self, at: usize, out: &mut Vec<u8>) {
        self.delimit(at, out);
        if let Self::Plain { null, .. } = self {
            out.extend_from_slice(null.as_bytes());
        }
    }

    fn value(&self, at: usize, text: &str, out: &mut Vec<u8>) -> Result<()> {
        self.delimit(at, out);
        match self {
            Self::Plain { delimiter, escape, null } => {
                if text.contains(['\n', '\r']) {
                    return Err(Error::invalid_input("a text file cannot hold a value with a line break")
                        .with_hint("use STORED AS PARQUET"));
                }
                let Some(escape) = escape else {
                    if text == null || text.as_bytes().contains(delimiter) {
                        return Err(Error::invalid_input(format!("the value '{text}' would read back as another one"))
                            .with_hint("set the serde's escape.delim, or use STORED AS PARQUET"));
                    }
                    out.extend_from_slice(text.as_bytes());
                    return Ok(());
                };
                for byte in text.bytes() {
                    if byte == *delimiter || byte == *escape {
                        out.push(*escape);
                    }
                    out.push(byte);
                }
            }
            Self::Quoted { quote, escape, .. } => {
                out.push(*quote);
                for byte in text.bytes() {
                    if byte == *quote || byte == *escape {
                        out.push(*escape);
                    }
                    out.push(byte);
                }
                out.push(*quote);
            }
        }
        Ok(())
    }

    fn delimit(&self, at: usize, out: &mut Vec<u8>) {
        if at > 0 {
            let (Self::Plain { delimiter: byte, .. } | Self::Quoted { separator: byte, .. }) = self;
            out.push(*byte);
        }
    }
}

/// A delimiter: a number (`1` is Ctrl-A) or the character itself, as `LazyUtils.getByte` reads it.
fn one_byte(text: &str) -> Option<u8> {
    if let Ok(number) = text.parse::<u8>() {
        return Some(number);
    }
    match text.as_bytes() {
        [byte] => Some(*byte),
        _ => None,
    }
}

fn is_binary(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float64Array, StringArray, TimestampMicrosecondArray};
    use tereza_catalog::model::Serde;

    use super::*;

    fn storage(class: &str, parameters: &[(&str, &str)]) -> Storage {
        let parameters = parameters.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let serde = Serde { name: None, library: Some(class.to_owned()), parameters };
        Storage { serde, ..Storage::default() }
    }

    fn lines(storage: &Storage, columns: Vec<(&str, ArrayRef)>) -> Result<String> {
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let mut encoder = TextEncoder::new(storage, &Parameters::new(), &batch.schema())?;
        encoder.write(&batch)?;
        Ok(String::from_utf8(encoder.take()).unwrap())
    }

    fn texts(values: &[Option<&str>]) -> ArrayRef {
        Arc::new(StringArray::from(values.to_vec()))
    }

    const LAZY: &str = "org.apache.hadoop.hive.serde2.lazy.LazySimpleSerDe";
    const OPEN: &str = "org.apache.hadoop.hive.serde2.OpenCSVSerde";

    #[test]
    fn plain_text_has_hives_defaults() {
        let columns = vec![
            ("a", texts(&[Some("x"), None])),
            ("b", Arc::new(Float64Array::from(vec![1.5, -2.0])) as ArrayRef),
            ("c", Arc::new(TimestampMicrosecondArray::from(vec![0, 1_500_000])) as ArrayRef),
        ];
        let text = lines(&storage(LAZY, &[]), columns).unwrap();
        assert_eq!(text, "x\u{1}1.5\u{1}1970-01-01 00:00:00\n\\N\u{1}-2.0\u{1}1970-01-01 00:00:01.500\n");
    }

    #[test]
    fn plain_text_escapes_or_refuses() {
        let columns = || vec![("a", texts(&[Some("x,y\\z")])), ("b", texts(&[Some("")]))];
        let escaping = storage(LAZY, &[("field.delim", ","), ("escape.delim", "\\")]);
        assert_eq!(lines(&escaping, columns()).unwrap(), "x\\,y\\\\z,\n");
        let error = lines(&storage(LAZY, &[("field.delim", ",")]), columns()).unwrap_err();
        assert!(error.message().starts_with("column a:"), "{error}");
        assert!(lines(&storage(LAZY, &[]), vec![("a", texts(&[Some("1\n2")]))]).is_err());
        assert!(lines(&storage(LAZY, &[]), vec![("a", texts(&[Some("\\N")]))]).is_err());
        assert!(lines(&storage(LAZY, &[]), vec![("a", texts(&[Some("")]))]).is_err());
    }

    #[test]
    fn quoted_text_tells_null_from_empty() {
        let storage = storage(OPEN, &[("separatorChar", ";"), ("skip.header.line.count", "1")]);
        let columns =
            vec![("a", texts(&[Some("say \"hi\";\n"), None, Some("")])), ("b", texts(&[Some("\\"), None, None]))];
        let text = lines(&storage, columns).unwrap();
        assert_eq!(text, "\"a\";\"b\"\n\"say \\\"hi\\\";\n\";\"\\\\\"\n;\n\"\";\n");
    }

    #[test]
    fn delimiters_are_numbers_or_characters() {
        assert_eq!(one_byte("1"), Some(1));
        assert_eq!(one_byte("\t"), Some(b'\t'));
        assert_eq!(one_byte("||"), None);
    }
}

//! Delimited text as Hive's serdes write it.
//!
//! `LazySimpleSerDe` has a delimiter, a text for NULL and perhaps an escape character, and no quotes; CSV has a delimiter,
//! quotes and perhaps an escape, and line breaks in quotes where the table's owner reads them. A value that would read back as
//! another one is refused, but for the empty text where it is what NULL looks like.
//! Source: Hive's `LazyUtils.writeEscaped` (with `serialization.escape.crlf`) and `OpenCSVSerde`.

use std::fmt::Write;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use tereza_runtime::{Error, Result};

use super::split::arrow_error;
use crate::formats::{Rules, TextOptions};

/// How Hive writes timestamps: a space between date and time, fractions only where there are any.
pub(super) const TIMESTAMP: &str = "%Y-%m-%d %H:%M:%S%.f";
/// The same with the offset of the time zone.
pub(super) const TIMESTAMP_TZ: &str = "%Y-%m-%d %H:%M:%S%.f%:z";

/// Turns batches into lines.
#[derive(Debug)]
pub(super) struct TextEncoder {
    options: TextOptions,
    names: Vec<String>,
    out: Vec<u8>,
}

impl TextEncoder {
    /// `Unsupported` for types that a line of text has no room for.
    pub(super) fn new(options: TextOptions, columns: &SchemaRef) -> Result<Self> {
        for field in columns.fields() {
            if field.data_type().is_nested() || is_binary(field.data_type()) {
                let (name, data_type) = (field.name(), field.data_type());
                return Err(Error::unsupported(format!("writing column {name} of type {data_type} to a text file"))
                    .with_hint("use STORED AS PARQUET"));
            }
        }
        let names = columns.fields().iter().map(|field| field.name().clone()).collect();
        let mut encoder = Self { options, names, out: Vec::new() };
        for _ in 0..encoder.options.header_lines {
            encoder.header()?;
        }
        Ok(encoder)
    }

    /// Adds the rows of `batch`. `InvalidInput` for a value that would read back as another one.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let formats =
            FormatOptions::new().with_timestamp_format(Some(TIMESTAMP)).with_timestamp_tz_format(Some(TIMESTAMP_TZ));
        let formatters = batch.columns().iter().map(|column| ArrayFormatter::try_new(column.as_ref(), &formats));
        let formatters: Vec<ArrayFormatter<'_>> = formatters.collect::<Result<_, _>>().map_err(arrow_error)?;
        let mut text = String::new();
        for row in 0..batch.num_rows() {
            let begin = self.out.len();
            for (at, formatter) in formatters.iter().enumerate() {
                if at > 0 {
                    self.out.push(self.options.delimiter);
                }
                if batch.column(at).is_null(row) {
                    self.null();
                    continue;
                }
                text.clear();
                write!(text, "{}", formatter.value(row))
                    .map_err(|_| Error::invalid_input(format!("a value of column {} has no text", self.names[at])))?;
                self.value(&text).map_err(|error| error.context(format!("column {}", self.names[at])))?;
            }
            if self.is_csv() && self.out.len() == begin {
                return Err(Error::invalid_input("a CSV file cannot hold a row of one NULL: readers skip empty lines")
                    .with_hint("give the table a null_value, or use STORED AS PARQUET"));
            }
            self.out.push(b'\n');
        }
        Ok(())
    }

    /// The lines added since the last call.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    fn is_csv(&self) -> bool {
        self.options.rules != Rules::Hive
    }

    fn header(&mut self) -> Result<()> {
        for (at, name) in self.names.clone().iter().enumerate() {
            if at > 0 {
                self.out.push(self.options.delimiter);
            }
            self.value(name)?;
        }
        self.out.push(b'\n');
        Ok(())
    }

    fn null(&mut self) {
        // A text with this character stands for a format that has no NULL, where NULL is written as nothing.
        if !self.options.null.contains('\0') {
            self.out.extend_from_slice(self.options.null.as_bytes());
        }
    }

    fn value(&mut self, text: &str) -> Result<()> {
        let begin = self.out.len();
        if self.is_csv() {
            self.quoted(text)?
        } else {
            self.escaped(text)?
        }
        // CSV readers do not look at the quotes when they look for NULL. Where NULL is the empty text, the two are one.
        let seen = if self.is_csv() { text.as_bytes() } else { &self.out[begin..] };
        if !seen.is_empty() && seen == self.options.null.as_bytes() {
            return Err(Error::invalid_input(format!("the text '{text}' would read back as NULL"))
                .with_hint("give the table another null_value, or use STORED AS PARQUET"));
        }
        Ok(())
    }

    /// CSV: in quotes where they are needed.
    fn quoted(&mut self, text: &str) -> Result<()> {
        let TextOptions { rules, delimiter, quote, escape, .. } = self.options;
        if rules != Rules::Csv && text.contains(['\n', '\r']) {
            return Err(Error::invalid_input("a value holds a line break, where readers of this CSV begin a row")
                .with_hint("use STORED AS PARQUET"));
        }
        let special = [delimiter, quote, escape.unwrap_or(quote), b'\n', b'\r'];
        // Spark passes over lines of nothing but blanks.
        let is_blank = text.bytes().all(|byte| byte <= b' ');
        if !is_blank && !text.bytes().any(|byte| special.contains(&byte)) {
            self.out.extend_from_slice(text.as_bytes());
            return Ok(());
        }
        self.out.push(quote);
        for byte in text.bytes() {
            if byte == quote || Some(byte) == escape {
                self.out.push(escape.unwrap_or(quote));
            }
            self.out.push(byte);
        }
        self.out.push(quote);
        Ok(())
    }

    /// Hive's text: with escapes, if the table has them.
    fn escaped(&mut self, text: &str) -> Result<()> {
        let delimiter = self.options.delimiter;
        let Some(escape) = self.options.escape else {
            if text.bytes().any(|byte| [delimiter, b'\n', b'\r'].contains(&byte)) {
                return Err(Error::invalid_input(
                    "a value holds a delimiter or line break, and the table has no escape",
                )
                .with_hint("set the serde's escape.delim, or use STORED AS PARQUET"));
            }
            self.out.extend_from_slice(text.as_bytes());
            return Ok(());
        };
        for byte in text.bytes() {
            match byte {
                b'\n' => self.out.extend([escape, b'n']),
                b'\r' => self.out.extend([escape, b'r']),
                byte if byte == delimiter || byte == escape => self.out.extend([escape, byte]),
                byte => self.out.push(byte),
            }
        }
        Ok(())
    }
}

fn is_binary(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float64Array, StringArray, TimestampMicrosecondArray};
    use tereza_catalog::model::{Parameters, Storage};

    use super::*;
    use crate::formats::Format;

    fn options(format: Format, parameters: &[(&str, &str)]) -> TextOptions {
        let mut storage = Storage::default();
        for (key, value) in parameters {
            storage.serde.parameters.insert((*key).to_owned(), (*value).to_owned());
        }
        TextOptions::of(format, &storage, &Parameters::new()).unwrap()
    }

    fn lines(options: TextOptions, columns: Vec<(&str, ArrayRef)>) -> Result<String> {
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let mut encoder = TextEncoder::new(options, &batch.schema())?;
        encoder.write(&batch)?;
        Ok(String::from_utf8(encoder.take()).unwrap())
    }

    fn texts(values: &[Option<&str>]) -> ArrayRef {
        Arc::new(StringArray::from(values.to_vec()))
    }

    #[test]
    fn plain_text_has_hives_defaults() {
        let columns = vec![
            ("a", texts(&[Some("x"), None])),
            ("b", Arc::new(Float64Array::from(vec![1.5, -2.0])) as ArrayRef),
            ("c", Arc::new(TimestampMicrosecondArray::from(vec![0, 1_500_000])) as ArrayRef),
        ];
        let text = lines(options(Format::Text, &[]), columns).unwrap();
        assert_eq!(text, "x\u{1}1.5\u{1}1970-01-01 00:00:00\n\\N\u{1}-2.0\u{1}1970-01-01 00:00:01.500\n");
    }

    #[test]
    fn plain_text_escapes_or_refuses() {
        let columns = || vec![("a", texts(&[Some("x,y\\z\n")])), ("b", texts(&[Some("")]))];
        let escaping = options(Format::Text, &[("field.delim", ","), ("escape.delim", "\\")]);
        assert_eq!(lines(escaping.clone(), columns()).unwrap(), "x\\,y\\\\z\\n,\n");
        assert_eq!(lines(escaping, vec![("a", texts(&[Some("\\N")]))]).unwrap(), "\\\\N\n");
        let error = lines(options(Format::Text, &[("field.delim", ",")]), columns()).unwrap_err();
        assert!(error.message().starts_with("column a:"), "{error}");
        for lost in ["1\n2", "\\N"] {
            assert!(lines(options(Format::Text, &[]), vec![("a", texts(&[Some(lost)]))]).is_err(), "{lost}");
        }
    }

    #[test]
    fn csv_is_quoted_where_it_must_be() {
        let storage = [("separatorChar", ";"), ("skip.header.line.count", "1"), ("serialization.null.format", "")];
        let columns = vec![
            ("a", texts(&[Some("say \"hi\""), None, Some("")])),
            ("b", texts(&[Some("\\"), Some("x;\n"), Some("plain")])),
        ];
        let text = lines(options(Format::Csv, &storage), columns).unwrap();
        assert_eq!(text, "a;b\n\"say \\\"hi\\\"\";\"\\\\\"\n;\"x;\n\"\n\"\";plain\n");
    }

    #[test]
    fn csv_doubles_the_quote_where_that_is_the_escape() {
        let doubling = options(Format::Csv, &[("escapeChar", "\""), ("serialization.null.format", "")]);
        assert_eq!(lines(doubling, vec![("a", texts(&[Some("a\"\\")]))]).unwrap(), "\"a\"\"\\\"\n");
    }

    #[test]
    fn csv_refuses_what_would_read_back_as_null_or_not_at_all() {
        let with_null = options(Format::Csv, &[("serialization.null.format", "NULL")]);
        assert_eq!(lines(with_null.clone(), vec![("a", texts(&[None]))]).unwrap(), "NULL\n");
        assert!(lines(with_null, vec![("a", texts(&[Some("NULL")]))]).is_err());
        assert!(lines(options(Format::Csv, &[]), vec![("a", texts(&[None]))]).is_err());
    }
    #[test]
    fn hives_and_sparks_csv_have_no_line_breaks() {
        let hives = options(Format::Csv, &[]);
        let spark = Parameters::from([("spark.sql.sources.provider".to_owned(), "csv".to_owned())]);
        let sparks = TextOptions::of(Format::Csv, &Storage::default(), &spark).unwrap();
        for options in [hives, sparks] {
            let columns = vec![("a", texts(&[Some("a\\b"), Some("c\"d"), Some(" ")]))];
            assert_eq!(lines(options.clone(), columns).unwrap(), "\"a\\\\b\"\n\"c\\\"d\"\n\" \"\n");
            for text in ["a\nb", "a\rb"] {
                let error = lines(options.clone(), vec![("a", texts(&[Some(text)]))]).unwrap_err();
                assert!(error.message().contains("column a") && error.message().contains("line break"), "{error}");
            }
        }
    }
}

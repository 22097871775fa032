//! Delimited text as its owner reads and writes it: Hive's TEXTFILE (LazySimpleSerDe) and CSV (OpenCSVSerde), Spark's CSV, and
//! Tereza's CSV where DataFusion's reader would differ (an empty text that is not NULL, several header lines).
//!
//! In TEXTFILE and in Spark's CSV a value that is not of its column's type is NULL; in the other CSVs it is an error. A line with too
//! few fields ends in NULLs, and what is too much is ignored. A line ends at a line feed, a carriage return or both, but for
//! Tereza's CSV, where line breaks may stand in quotes. `csv` cuts the lines of the two others.
//! Source: `org.apache.hadoop.hive.serde2.lazy.LazyUtils`, `LazySerDeParameters`, `OpenCSVSerde`, Spark's `CSVOptions`.

mod csv;
mod decimal;

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, ListArray, MapArray, NullArray, RecordBatch, RecordBatchOptions, StringArray,
    StringBuilder, StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::csv::reader as arrow_csv;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use async_trait::async_trait;
use bytes::Bytes;
use datafusion::common::{DataFusionError, Result};
use datafusion::datasource::listing::PartitionedFile;
use datafusion_datasource::decoder::{Decoder, DecoderDeserializer, deserialize_stream};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectMeta, ObjectStore};
use serde::{Deserialize, Serialize};
use tereza_catalog::model::{Parameters, Storage};
use tereza_runtime::Error;

use super::source::{FileReader, ReaderKind, Request, open};
use super::{Format, option, spark};

/// Bytes of text in a batch after which it is given out before it has all its rows.
const BATCH_BYTES_MAX: usize = 64 << 20;

/// Bytes of one line; a longer one is no line of text.
const LINE_BYTES_MAX: usize = 512 << 20;

/// Whose rules a text follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Rules {
    /// Hive's text: escapes, no quotes.
    Hive,
    /// CSV of Tereza's tables, and Spark's with line breaks in quotes.
    Csv,
    /// CSV of Hive, whose values are texts and never NULL.
    OpenCsv,
    /// CSV of Spark.
    Spark,
}

/// How the fields of a line are told apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TextOptions {
    pub(crate) rules: Rules,
    /// Between fields.
    pub(crate) delimiter: u8,
    /// Around a field (CSV).
    pub(crate) quote: u8,
    /// Before a character that stands for itself, if there is one.
    pub(crate) escape: Option<u8>,
    /// The text that stands for NULL. In CSV the empty text is NULL only if this is it.
    pub(crate) null: String,
    /// Lines at the beginning of each file that are not rows.
    pub(crate) header_lines: usize,
    /// Between the elements of a collection, between keys and values, and so on inwards.
    pub(crate) inner_delimiters: Vec<u8>,
}

/// NULL in Hive's text.
const HIVE_NULL: &str = "\\N";
/// The property for it. In CSV only Tereza's tables have it: OpenCSVSerde does not look at it.
const NULL_FORMAT: &str = "serialization.null.format";
/// Options of Spark's CSV by which files mean something that is not read here, with the values that change nothing.
const OTHERS_OF_SPARK: [(&str, &[&str]); 17] = [
    ("charToEscapeQuoteEscaping", &[]),
    ("charset", &["utf-8", "utf8"]),
    ("comment", &[]),
    ("dateFormat", &["yyyy-mm-dd"]),
    ("emptyValue", &["", "\"\""]),
    ("encoding", &["utf-8", "utf8"]),
    ("enforceSchema", &["true"]),
    ("ignoreLeadingWhiteSpace", &["false"]),
    ("ignoreTrailingWhiteSpace", &["false"]),
    ("lineSep", &["\n", "\r\n"]),
    ("mode", &["permissive"]),
    ("nanValue", &["nan"]),
    ("negativeInf", &["-inf"]),
    ("positiveInf", &["inf"]),
    ("timestampFormat", &[]),
    ("timestampNTZFormat", &[]),
    ("unescapedQuoteHandling", &["stop_at_delimiter"]),
];
/// A NULL text that no CSV file holds: OpenCSVSerde has no NULL.
const NO_NULL: &str = "\u{0}";

impl TextOptions {
    /// Reads a storage's parameters: Hive's, and Spark's for tables that it made with `USING csv`. `table_parameters`
    /// count where the storage says nothing.
    pub(crate) fn of(format: Format, storage: &Storage, table_parameters: &Parameters) -> tereza_runtime::Result<Self> {
        let is_sparks = format == Format::Csv && spark::is_own(table_parameters);
        let parameter = |names: &[&str]| {
            let places = [&storage.serde.parameters, &storage.parameters, table_parameters];
            // Spark's options are in one of them, and others of the same name mean something else.
            let places = if is_sparks { &places[..1] } else { &places[..] };
            let found = places.iter().find_map(|place| names.iter().find_map(|name| get(place, name, is_sparks)));
            found.map(String::as_str)
        };
        let header_lines = match parameter(&["skip.header.line.count"]) {
            Some(count) => count
                .trim()
                .parse()
                .map_err(|_| Error::invalid_input(format!("skip.header.line.count is not a number: '{count}'")))?,
            None => usize::from(parameter(&["header"]).is_some_and(|header| header.eq_ignore_ascii_case("true"))),
        };
        if let Some(count) = parameter(&["skip.footer.line.count"]).filter(|count| count.trim() != "0") {
            return Err(Error::unsupported(format!("skip.footer.line.count {count}")));
        }
        if format == Format::Text {
            let delimiter = parameter(&["field.delim", "serialization.format"]).map_or(Ok(1), byte)?;
            let collection = parameter(&["collection.delim", "colelction.delim"]).map_or(Ok(2), byte)?;
            let key = parameter(&["mapkey.delim"]).map_or(Ok(3), byte)?;
            return Ok(Self {
                rules: Rules::Hive,
                delimiter,
                quote: 0,
                escape: parameter(&["escape.delim"]).map(byte).transpose()?,
                null: parameter(&[NULL_FORMAT]).unwrap_or(HIVE_NULL).to_owned(),
                header_lines,
                inner_delimiters: [collection, key].into_iter().chain(4..=8).collect(),
            });
        }
        let is_true = |name: &str| parameter(&[name]).is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let (rules, null_unless_said) = match (is_sparks, parameter(&[NULL_FORMAT])) {
            (true, _) if is_true("multiLine") => (Rules::Csv, ""),
            (true, _) => (Rules::Spark, ""),
            (false, Some(_)) => (Rules::Csv, NO_NULL),
            (false, None) => (Rules::OpenCsv, NO_NULL),
        };
        if is_sparks {
            let is_other = |(name, same): &&(&str, &[&str])| {
                parameter(&[*name]).is_some_and(|value| !same.iter().any(|same| same.eq_ignore_ascii_case(value)))
            };
            if let Some((name, _)) = OTHERS_OF_SPARK.iter().find(is_other) {
                return Err(Error::unsupported(format!("option {name} of Spark's CSV")));
            }
        }
        let quote = parameter(&["quoteChar", "quote"]).map_or(Ok(b'"'), byte)?;
        let escape = parameter(&["escapeChar", "escape"]).map_or(Ok(b'\\'), byte)?;
        let escape = match rules {
            // It takes the quote for what was not said, when it reads.
            Rules::OpenCsv if escape == b'"' => Some(b'\\'),
            Rules::OpenCsv => Some(escape),
            _ => (escape != quote).then_some(escape),
        };
        Ok(Self {
            rules,
            delimiter: parameter(&["separatorChar", "sep", "delimiter"]).map_or(Ok(b','), byte)?,
            quote,
            escape,
            null: parameter(&[NULL_FORMAT, "nullValue"]).unwrap_or(null_unless_said).to_owned(),
            header_lines,
            inner_delimiters: Vec::new(),
        })
    }

    /// What `OPTIONS (…)` of a new table say.
    pub(super) fn from_options(format: Format, options: &Parameters) -> tereza_runtime::Result<Self> {
        let quoted = format == Format::Csv;
        let has_header = match option(options, "has_header").map(str::to_lowercase).as_deref() {
            None | Some("false" | "0") => false,
            Some("true" | "1") => true,
            Some(other) => {
                return Err(Error::invalid_input(format!("has_header is neither true nor false: '{other}'")));
            }
        };
        let null = option(options, "null_value").unwrap_or(if quoted { "" } else { HIVE_NULL });
        Ok(Self {
            rules: if quoted { Rules::Csv } else { Rules::Hive },
            delimiter: option(options, "delimiter").map_or(Ok(if quoted { b',' } else { 1 }), byte)?,
            quote: option(options, "quote").map_or(Ok(b'"'), byte)?,
            // Without an escape a text with a line break could not be written.
            escape: match option(options, "escape") {
                Some(escape) => Some(byte(escape)?),
                None => (!quoted).then_some(b'\\'),
            },
            null: null.to_owned(),
            header_lines: usize::from(has_header),
            inner_delimiters: vec![2, 3],
        })
    }

    /// The serde parameters that say this.
    pub(super) fn parameters(&self) -> Parameters {
        let text = |byte: u8| char::from(byte).to_string();
        let mut parameters = Parameters::from([(NULL_FORMAT.to_owned(), self.null.clone())]);
        if self.rules != Rules::Hive {
            parameters.insert("separatorChar".into(), text(self.delimiter));
            parameters.insert("quoteChar".into(), text(self.quote));
            // OpenCSVSerde has an escape always; the quote as its own escape is CSV's doubled quote.
            parameters.insert("escapeChar".into(), text(self.escape.unwrap_or(self.quote)));
        } else {
            parameters.insert("field.delim".into(), text(self.delimiter));
            parameters.insert("serialization.format".into(), text(self.delimiter));
            if let Some(escape) = self.escape {
                parameters.insert("escape.delim".into(), text(escape));
            }
        }
        if self.header_lines > 0 {
            parameters.insert("skip.header.line.count".into(), self.header_lines.to_string());
        }
        parameters
    }
}

/// A parameter; names of Spark's options are the same in capitals.
fn get<'a>(parameters: &'a Parameters, name: &str, any_case: bool) -> Option<&'a String> {
    let in_any_case = || parameters.iter().find(|(key, _)| any_case && key.eq_ignore_ascii_case(name));
    parameters.get(name).or_else(|| in_any_case().map(|(_, value)| value))
}

/// A delimiter as Hive reads it: the code of a byte as a number, or the character itself; `\t` is read too.
fn byte(text: &str) -> tereza_runtime::Result<u8> {
    if let Ok(code) = text.parse::<i8>().map(u8::try_from).unwrap_or(Ok(u8::MAX))
        && code.is_ascii()
    {
        return Ok(code);
    }
    let character = if text == "\\t" { Some('\t') } else { text.chars().next() };
    character
        .and_then(|character| u8::try_from(character).ok())
        .filter(u8::is_ascii)
        .ok_or_else(|| Error::unsupported(format!("delimiter '{text}'")).with_hint("use one ASCII character"))
}

/// Reads delimited text.
#[derive(Debug)]
pub(super) struct TextReader {
    options: Arc<TextOptions>,
}

impl TextReader {
    /// The reader of text written with `options`.
    pub(super) fn new(options: TextOptions) -> Self {
        Self { options: Arc::new(options) }
    }
}

#[async_trait]
impl FileReader for TextReader {
    fn kind(&self) -> ReaderKind {
        ReaderKind::Text(self.options.as_ref().clone())
    }

    fn name(&self) -> &'static str {
        if self.options.rules == Rules::Hive { "text" } else { "csv" }
    }

    /// A line break in quotes belongs to the value, so Tereza's CSV cannot be split at line breaks; and where header lines end is
    /// known at the beginning of a file only.
    fn reads_ranges(&self) -> bool {
        self.options.rules != Rules::Csv && self.options.header_lines == 0
    }

    async fn read(
        &self,
        store: Arc<dyn ObjectStore>,
        file: &PartitionedFile,
        request: Request,
    ) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let text = open(store, file, &request).await?;
        let rows = without_lines(text, self.options.header_lines).fuse();
        let batches = if self.options.rules == Rules::Csv {
            deserialize_stream(rows, DecoderDeserializer::new(CsvDecoder::new(Arc::clone(&self.options), &request)?))
        } else {
            deserialize_stream(rows, DecoderDeserializer::new(LineDecoder::new(Arc::clone(&self.options), &request)?))
        };
        Ok(batches.map_err(DataFusionError::from).boxed())
    }

    async fn describe(&self, _store: &Arc<dyn ObjectStore>, _file: &ObjectMeta) -> Result<Option<(SchemaRef, usize)>> {
        Ok(None)
    }
}

/// `bytes` without its first `lines` lines.
fn without_lines(bytes: BoxStream<'static, Result<Bytes>>, lines: usize) -> BoxStream<'static, Result<Bytes>> {
    let mut left = lines;
    bytes
        .map_ok(move |mut chunk| {
            while left > 0 && !chunk.is_empty() {
                let line_end = chunk.iter().position(|byte| *byte == b'\n');
                left -= usize::from(line_end.is_some());
                chunk = chunk.split_off(line_end.map_or(chunk.len(), |end| end + 1));
            }
            chunk
        })
        .boxed()
}

/// Text in columns of the types wanted: strings are taken as they are, others are cast. To Hive and Spark what is not of its column's
/// type is NULL; elsewhere it is an error.
fn typed(text: ArrayRef, data_type: &DataType, rules: Rules) -> Result<ArrayRef, ArrowError> {
    let malformed_is_null = matches!(rules, Rules::Hive | Rules::Spark);
    let options = CastOptions { safe: malformed_is_null, ..CastOptions::default() };
    match data_type {
        DataType::Utf8 => Ok(text),
        DataType::Null => Ok(Arc::new(NullArray::new(text.len()))),
        DataType::Decimal128(precision, scale) => {
            Ok(Arc::new(decimal::column(text.as_string(), *precision, *scale, rules)?))
        }
        DataType::Binary | DataType::BinaryView => {
            Err(ArrowError::NotYetImplemented("binary columns of text files".into()))
        }
        _ => cast_with_options(&text, data_type, &options),
    }
}

/// CSV to batches.
#[derive(Debug)]
struct CsvDecoder {
    options: Arc<TextOptions>,
    schema: SchemaRef,
    inner: arrow_csv::Decoder,
}

impl CsvDecoder {
    fn new(options: Arc<TextOptions>, request: &Request) -> Result<Self> {
        let as_text = |column: &Arc<Field>| column.as_ref().clone().with_data_type(DataType::Utf8);
        let text_schema = Schema::new(request.columns.fields().iter().map(as_text).collect::<Vec<_>>());
        let mut builder = arrow_csv::ReaderBuilder::new(Arc::new(text_schema))
            .with_batch_size(request.batch_size_rows)
            .with_delimiter(options.delimiter)
            .with_quote(options.quote)
            .with_truncated_rows(true)
            .with_projection(request.wanted.clone());
        if let Some(escape) = options.escape {
            builder = builder.with_escape(escape);
        }
        Ok(Self { schema: request.schema()?, inner: builder.build_decoder(), options })
    }

    fn column(&self, text: &StringArray, field: &Field) -> Result<ArrayRef, ArrowError> {
        let is_text = matches!(field.data_type(), DataType::Utf8 | DataType::Utf8View);
        let empty = if is_text { Some("") } else { None };
        // Arrow's reader has made NULL of the empty text.
        let values = text.iter().map(|value| value.or(empty).filter(|value| *value != self.options.null));
        typed(Arc::new(values.collect::<StringArray>()), field.data_type(), self.options.rules)
            .map_err(|error| ArrowError::CsvError(format!("column '{}': {error}", field.name())))
    }
}

impl Decoder for CsvDecoder {
    fn decode(&mut self, buffer: &[u8]) -> Result<usize, ArrowError> {
        self.inner.decode(buffer)
    }

    fn flush(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        let Some(batch) = self.inner.flush()? else { return Ok(None) };
        let columns = batch.columns().iter().zip(self.schema.fields()).map(|(column, field)| {
            let text = column
                .as_any()
                .downcast_ref::<StringArray>()
                .ok_or_else(|| ArrowError::CsvError("a column that is not text".into()))?;
            self.column(text, field)
        });
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options).map(Some)
    }

    fn can_flush_early(&self) -> bool {
        self.inner.capacity() == 0
    }
}

/// Lines of Hive's text to batches.
#[derive(Debug)]
struct LineDecoder {
    options: Arc<TextOptions>,
    schema: SchemaRef,
    /// For each field of a line up to the last that is wanted: the column it goes to.
    targets: Vec<Option<usize>>,
    /// The text of the columns of the batch being made.
    columns: Vec<StringBuilder>,
    rows: usize,
    rows_max: usize,
    bytes: usize,
    /// The beginning of a line whose end has not come yet.
    partial: Vec<u8>,
    /// Whether the last line ended with a carriage return, to which a line feed may belong.
    after_return: bool,
}

impl LineDecoder {
    fn new(options: Arc<TextOptions>, request: &Request) -> Result<Self> {
        let field_count = request.wanted.last().map_or(0, |last| last + 1);
        let mut targets = vec![None; field_count];
        for (column, field) in request.wanted.iter().enumerate() {
            targets[*field] = Some(column);
        }
        Ok(Self {
            options,
            schema: request.schema()?,
            targets,
            columns: request.wanted.iter().map(|_| StringBuilder::new()).collect(),
            rows: 0,
            rows_max: request.batch_size_rows.max(1),
            bytes: 0,
            partial: Vec::new(),
            after_return: false,
        })
    }

    fn is_full(&self) -> bool {
        self.rows == self.rows_max || self.bytes >= BATCH_BYTES_MAX
    }

    fn push_line(&mut self, line: &[u8]) {
        let TextOptions { rules, delimiter, quote, escape, .. } = *self.options;
        let text = || String::from_utf8_lossy(line);
        match rules {
            Rules::Hive | Rules::Csv => {
                self.push_fields(hive_fields(line, delimiter, escape).map(|field| Some(String::from_utf8_lossy(field))))
            }
            Rules::OpenCsv => {
                let fields = csv::opencsv_fields(&text(), delimiter, quote, escape);
                self.push_fields(fields.into_iter().map(|field| Some(Cow::Owned(field))));
            }
            Rules::Spark => {
                let line = text();
                if csv::is_nothing_to_spark(&line) {
                    return;
                }
                self.push_fields(csv::spark_fields(&line, delimiter, quote, escape).into_iter());
            }
        }
        self.rows += 1;
        self.bytes += line.len();
    }

    fn push_fields<'a>(&mut self, mut fields: impl Iterator<Item = Option<Cow<'a, str>>>) {
        for target in &self.targets {
            let field = fields.next().flatten();
            let Some(column) = target.map(|column| &mut self.columns[column]) else { continue };
            match field.filter(|field| *field != self.options.null) {
                Some(field) => column.append_value(field),
                None => column.append_null(),
            }
        }
    }
}

impl Decoder for LineDecoder {
    fn decode(&mut self, buffer: &[u8]) -> Result<usize, ArrowError> {
        // The empty buffer is the end: a last line may lack its line break.
        if buffer.is_empty() && !self.partial.is_empty() {
            let line = std::mem::take(&mut self.partial);
            self.push_line(&line);
        }
        let mut used = 0;
        while used < buffer.len() && !self.is_full() {
            let rest = &buffer[used..];
            if std::mem::take(&mut self.after_return) && rest[0] == b'\n' {
                used += 1;
                continue;
            }
            let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
                if self.partial.len() + rest.len() > LINE_BYTES_MAX {
                    return Err(ArrowError::ParseError(format!("a line of more than {LINE_BYTES_MAX} bytes")));
                }
                self.partial.extend_from_slice(rest);
                return Ok(buffer.len());
            };
            if self.partial.is_empty() {
                self.push_line(&rest[..end]);
            } else {
                let mut line = std::mem::take(&mut self.partial);
                line.extend_from_slice(&rest[..end]);
                self.push_line(&line);
            }
            self.after_return = rest[end] == b'\r';
            used += end + 1;
        }
        Ok(used)
    }

    fn flush(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        if self.rows == 0 {
            return Ok(None);
        }
        let mut columns = Vec::with_capacity(self.columns.len());
        for (builder, field) in self.columns.iter_mut().zip(self.schema.fields()) {
            let text = builder.finish();
            columns.push(match self.options.rules {
                Rules::Hive => column_of(&text.iter().collect::<Vec<_>>(), field.data_type(), 0, &self.options)?,
                rules => csv_column(text, field, rules)?,
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        (self.rows, self.bytes) = (0, 0);
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options).map(Some)
    }

    fn can_flush_early(&self) -> bool {
        self.is_full()
    }
}

/// The fields of a line of Hive's text, with their escapes.
fn hive_fields(line: &[u8], delimiter: u8, escape: Option<u8>) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let text = rest?;
        let end = field_end(text, delimiter, escape);
        rest = text.get(end + 1..);
        Some(&text[..end])
    })
}

/// A column of CSV. Nothing at all is NULL in all that is no text.
fn csv_column(text: StringArray, field: &Field, rules: Rules) -> Result<ArrayRef, ArrowError> {
    let data_type = field.data_type();
    if data_type.is_nested() {
        return Err(ArrowError::NotYetImplemented(format!("column '{}' of type {data_type} in CSV", field.name())));
    }
    let is_spark = rules == Rules::Spark;
    let is_known = |value: &&str| match data_type {
        DataType::Utf8 | DataType::Utf8View => true,
        // Arrow has more words for these.
        DataType::Boolean if is_spark => ["true", "false"].iter().any(|word| word.eq_ignore_ascii_case(value)),
        _ => !value.is_empty(),
    };
    let known: StringArray = text.iter().map(|value| value.filter(is_known)).collect();
    typed(Arc::new(known), data_type, rules).map_err(|error| match error {
        ArrowError::NotYetImplemented(_) => error,
        error => ArrowError::CsvError(format!("column '{}': {error}", field.name())),
    })
}

/// Where the field at the start of `text` ends: at the next delimiter that is not escaped, or with the text.
fn field_end(text: &[u8], delimiter: u8, escape: Option<u8>) -> usize {
    let Some(escape) = escape else { return text.iter().position(|byte| *byte == delimiter).unwrap_or(text.len()) };
    let mut at = 0;
    while at < text.len() && text[at] != delimiter {
        at += 1 + usize::from(text[at] == escape);
    }
    at.min(text.len())
}

/// The pieces of a collection's text; the empty text has none.
fn pieces<'a>(text: &'a str, delimiter: u8, options: &TextOptions) -> Vec<&'a str> {
    let mut pieces = Vec::new();
    let mut rest = if text.is_empty() { None } else { Some(text) };
    while let Some(text) = rest {
        // Delimiter and escape are ASCII, so both cuts are at characters' borders.
        let end = field_end(text.as_bytes(), delimiter, options.escape);
        pieces.push(&text[..end]);
        rest = text.get(end + 1..);
    }
    pieces
}

/// A column from the text of its values; `level` counts the collections around it.
fn column_of(
    values: &[Option<&str>],
    data_type: &DataType,
    level: usize,
    options: &TextOptions,
) -> Result<ArrayRef, ArrowError> {
    let delimiter = |level: usize| {
        let too_deep = || ArrowError::NotYetImplemented(format!("{} nested types in text files", level + 1));
        options.inner_delimiters.get(level).copied().ok_or_else(too_deep)
    };
    let nulls = || NullBuffer::from_iter(values.iter().map(Option::is_some));
    let element = |text: &str| -> bool { text != options.null };
    match data_type {
        DataType::List(item) => {
            let lists: Vec<Vec<&str>> = split(values, delimiter(level)?, options);
            let offsets = OffsetBuffer::from_lengths(lists.iter().map(Vec::len));
            let items: Vec<Option<&str>> =
                lists.into_iter().flatten().map(|text| element(text).then_some(text)).collect();
            let items = column_of(&items, item.data_type(), level + 1, options)?;
            Ok(Arc::new(ListArray::try_new(Arc::clone(item), offsets, items, Some(nulls()))?))
        }
        DataType::Map(entries, ordered) => {
            let DataType::Struct(fields) = entries.data_type() else {
                return Err(ArrowError::SchemaError(format!("a map of {}", entries.data_type())));
            };
            let inner = delimiter(level + 1)?;
            // An entry without a key cannot be in a map.
            let maps = split(values, delimiter(level)?, options).into_iter().map(|map| {
                let pairs = map.into_iter().map(|pair| {
                    let end = field_end(pair.as_bytes(), inner, options.escape);
                    (&pair[..end], pair.get(end + 1..))
                });
                pairs.filter(|(key, _)| element(key)).collect::<Vec<_>>()
            });
            let maps: Vec<Vec<(&str, Option<&str>)>> = maps.collect();
            let offsets = OffsetBuffer::from_lengths(maps.iter().map(Vec::len));
            let (keys, items): (Vec<_>, Vec<_>) = maps
                .into_iter()
                .flatten()
                .map(|(key, value)| (Some(key), value.filter(|value| element(value))))
                .unzip();
            let columns = vec![
                column_of(&keys, fields[0].data_type(), level + 2, options)?,
                column_of(&items, fields[1].data_type(), level + 2, options)?,
            ];
            let pairs = StructArray::try_new(fields.clone(), columns, None)?;
            Ok(Arc::new(MapArray::try_new(Arc::clone(entries), offsets, pairs, Some(nulls()), *ordered)?))
        }
        DataType::Struct(fields) => {
            let structs = split(values, delimiter(level)?, options);
            let columns = fields.iter().enumerate().map(|(place, field)| {
                let column: Vec<Option<&str>> =
                    structs.iter().map(|pieces| pieces.get(place).copied().filter(|text| element(text))).collect();
                column_of(&column, field.data_type(), level + 1, options)
            });
            let columns = columns.collect::<Result<Vec<_>, _>>()?;
            Ok(Arc::new(StructArray::try_new(fields.clone(), columns, Some(nulls()))?))
        }
        _ => {
            let text: StringArray = match options.escape {
                None => values.iter().copied().collect(),
                Some(escape) => values.iter().map(|value| value.map(|text| unescaped(text, escape))).collect(),
            };
            typed(Arc::new(text), data_type, options.rules)
        }
    }
}

fn split<'a>(values: &[Option<&'a str>], delimiter: u8, options: &TextOptions) -> Vec<Vec<&'a str>> {
    values.iter().map(|value| value.map(|text| pieces(text, delimiter, options)).unwrap_or_default()).collect()
}

/// `text` without escapes; an escaped `r` or `n` is a line break.
fn unescaped(text: &str, escape: u8) -> Cow<'_, str> {
    let escape = char::from(escape);
    if !text.contains(escape) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != escape {
            plain.push(character);
            continue;
        }
        match characters.next() {
            Some('r') => plain.push('\r'),
            Some('n') => plain.push('\n'),
            Some(other) => plain.push(other),
            None => plain.push(escape),
        }
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests;

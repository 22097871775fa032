//! Delimited text as Hive reads and writes it: LazySimpleSerDe (TEXTFILE), and OpenCSVSerde where DataFusion's CSV reader
//! would differ (an empty text that is not NULL, several header lines).
//!
//! In TEXTFILE a value that is not of its column's type is NULL, a line with too few fields ends in NULLs, and what is
//! too much is ignored: that is how Hive, Presto and Spark read it. In CSV a value of another type is an error.
//! Source: `org.apache.hadoop.hive.serde2.lazy.LazyUtils`, `LazySerDeParameters`, `OpenCSVSerde`.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ListArray, MapArray, NullArray, RecordBatch, RecordBatchOptions, StringArray, StringBuilder,
    StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::csv;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use async_trait::async_trait;
use bytes::Bytes;
use datafusion::common::{DataFusionError, Result};
use datafusion::datasource::listing::PartitionedFile;
use datafusion_datasource::boundary_stream::AlignedBoundaryStream;
use datafusion_datasource::decoder::{Decoder, DecoderDeserializer, deserialize_stream};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};
use tereza_catalog::model::{Parameters, Storage};
use tereza_runtime::Error;

use super::source::{FileReader, ReaderKind, Request};
use super::{Format, option};

/// Bytes of text in a batch after which it is given out before it has all its rows.
const BATCH_BYTES_MAX: usize = 64 << 20;

/// Bytes of one line; a longer one is no line of text.
const LINE_BYTES_MAX: usize = 512 << 20;

/// How the fields of a line are told apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TextOptions {
    /// CSV with quotes, or Hive's text with escapes.
    pub(crate) quoted: bool,
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
/// A NULL text that no CSV file holds: OpenCSVSerde has no NULL.
const NO_NULL: &str = "\u{0}";

impl TextOptions {
    /// Reads a storage's parameters: Hive's, and Spark's for tables that it made with `USING csv`. `table_parameters`
    /// count where the storage says nothing.
    pub(crate) fn of(format: Format, storage: &Storage, table_parameters: &Parameters) -> tereza_runtime::Result<Self> {
        let parameter = |names: &[&str]| {
            let places = [&storage.serde.parameters, &storage.parameters, table_parameters];
            let found = places.into_iter().find_map(|place| names.iter().find_map(|name| place.get(*name)));
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
        let is_sparks = table_parameters.contains_key("spark.sql.sources.provider");
        if format == Format::Text {
            let delimiter = parameter(&["field.delim", "serialization.format"]).map_or(Ok(1), byte)?;
            let collection = parameter(&["collection.delim", "colelction.delim"]).map_or(Ok(2), byte)?;
            let key = parameter(&["mapkey.delim"]).map_or(Ok(3), byte)?;
            return Ok(Self {
                quoted: false,
                delimiter,
                quote: 0,
                escape: parameter(&["escape.delim"]).map(byte).transpose()?,
                null: parameter(&["serialization.null.format"]).unwrap_or(HIVE_NULL).to_owned(),
                header_lines,
                inner_delimiters: [collection, key].into_iter().chain(4..=8).collect(),
            });
        }
        let quote = parameter(&["quoteChar", "quote"]).map_or(Ok(b'"'), byte)?;
        let escape = parameter(&["escapeChar", "escape"]).map_or(Ok(b'\\'), byte)?;
        let null_unless_said = if is_sparks { "" } else { NO_NULL };
        Ok(Self {
            quoted: true,
            delimiter: parameter(&["separatorChar", "sep", "delimiter"]).map_or(Ok(b','), byte)?,
            quote,
            escape: (escape != quote).then_some(escape),
            null: parameter(&["serialization.null.format", "nullValue"]).unwrap_or(null_unless_said).to_owned(),
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
            quoted,
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
        let mut parameters = Parameters::from([("serialization.null.format".to_owned(), self.null.clone())]);
        if self.quoted {
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
        if self.options.quoted { "csv" } else { "text" }
    }

    /// A line break in quotes belongs to the value, so CSV cannot be split at line breaks; and where header lines end is
    /// known at the beginning of a file only.
    fn reads_ranges(&self) -> bool {
        !self.options.quoted && self.options.header_lines == 0
    }

    async fn read(
        &self,
        store: Arc<dyn ObjectStore>,
        file: &PartitionedFile,
        request: Request,
    ) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let meta = &file.object_meta;
        let bytes = match &file.range {
            None => store.get(&meta.location).await?.into_stream(),
            Some(_) => {
                let (start, end) = file.range();
                AlignedBoundaryStream::new(store, meta.location.clone(), start, end, meta.size, b'\n').await?.boxed()
            }
        };
        let bytes = request.compression.convert_stream(bytes.map_err(DataFusionError::from).boxed())?;
        let rows = without_lines(bytes, self.options.header_lines).fuse();
        let batches = if self.options.quoted {
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

/// Text in columns of the types wanted: strings are taken as they are, others are cast.
fn typed(text: ArrayRef, data_type: &DataType, malformed_is_null: bool) -> Result<ArrayRef, ArrowError> {
    let options = CastOptions { safe: malformed_is_null, ..CastOptions::default() };
    match data_type {
        DataType::Utf8 => Ok(text),
        DataType::Null => Ok(Arc::new(NullArray::new(text.len()))),
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
    inner: csv::reader::Decoder,
}

impl CsvDecoder {
    fn new(options: Arc<TextOptions>, request: &Request) -> Result<Self> {
        let as_text = |column: &Arc<Field>| column.as_ref().clone().with_data_type(DataType::Utf8);
        let text_schema = Schema::new(request.columns.fields().iter().map(as_text).collect::<Vec<_>>());
        let mut builder = csv::ReaderBuilder::new(Arc::new(text_schema))
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
        typed(Arc::new(values.collect::<StringArray>()), field.data_type(), false)
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
        })
    }

    fn is_full(&self) -> bool {
        self.rows == self.rows_max || self.bytes >= BATCH_BYTES_MAX
    }

    fn push_line(&mut self, line: &[u8]) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let mut rest = Some(line);
        for target in &self.targets {
            let field = match rest {
                Some(text) => {
                    let end = field_end(text, self.options.delimiter, self.options.escape);
                    rest = text.get(end + 1..);
                    Some(&text[..end])
                }
                None => None,
            };
            let Some(column) = target.map(|column| &mut self.columns[column]) else { continue };
            match field.filter(|field| *field != self.options.null.as_bytes()) {
                Some(field) => column.append_value(String::from_utf8_lossy(field)),
                None => column.append_null(),
            }
        }
        self.rows += 1;
        self.bytes += line.len();
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
            let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
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
            columns.push(column_of(&text.iter().collect::<Vec<_>>(), field.data_type(), 0, &self.options)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        (self.rows, self.bytes) = (0, 0);
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options).map(Some)
    }

    fn can_flush_early(&self) -> bool {
        self.is_full()
    }
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
            typed(Arc::new(text), data_type, true)
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

//! JSON as a metastore's tables have it: columns are in lower case there, and members of an object are theirs in whatever case
//! (`org.apache.hive.hcatalog.data.JsonSerDe`). DataFusion's reader finds members by their exact names; it reads files by their
//! path, whose columns are named as the members are.
//!
//! `bytes` says how bytes stand in texts. [`Fold`] brings the names of members to lower case on their way to Arrow's decoder. Which texts are names of members is known
//! from the columns' types: keys of a map are values and stay as they are.

pub(crate) mod bytes;

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Fields, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::json;
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::parsers::CompressionTypeVariant;
use datafusion::common::{DataFusionError, Result, Statistics};
use datafusion::config::JsonOptions;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::file_format::json::JsonFormat;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileScanConfig, FileSource};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_datasource::decoder::{Decoder, DecoderDeserializer, deserialize_stream};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectMeta, ObjectStore};

use self::bytes::JsonBytes;
use super::source::{FileReader, ReaderKind, Request, RowFormat, open};

/// JSON of tables and of files.
#[derive(Debug)]
pub(super) struct JsonFiles {
    of_files: JsonFormat,
    of_tables: RowFormat<JsonReader>,
}

impl JsonFiles {
    pub(super) fn new(bytes: JsonBytes, extension: &'static str, compression: CompressionTypeVariant) -> Self {
        let options = JsonOptions { compression, ..JsonOptions::default() };
        Self {
            of_files: JsonFormat::default().with_options(options),
            of_tables: RowFormat::new(JsonReader { bytes }, extension, compression),
        }
    }
}

#[async_trait]
impl FileFormat for JsonFiles {
    fn get_ext(&self) -> String {
        self.of_files.get_ext()
    }

    fn get_ext_with_compression(&self, compression: &FileCompressionType) -> Result<String> {
        self.of_files.get_ext_with_compression(compression)
    }

    fn compression_type(&self) -> Option<FileCompressionType> {
        self.of_files.compression_type()
    }

    async fn infer_schema(
        &self,
        state: &dyn Session,
        store: &Arc<dyn ObjectStore>,
        objects: &[ObjectMeta],
    ) -> Result<SchemaRef> {
        self.of_files.infer_schema(state, store, objects).await
    }

    async fn infer_stats(
        &self,
        _state: &dyn Session,
        _store: &Arc<dyn ObjectStore>,
        table_schema: SchemaRef,
        _object: &ObjectMeta,
    ) -> Result<Statistics> {
        Ok(Statistics::new_unknown(&table_schema))
    }

    async fn create_physical_plan(
        &self,
        state: &dyn Session,
        config: FileScanConfig,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.of_tables.create_physical_plan(state, config).await
    }

    fn file_source(&self, table_schema: TableSchema) -> Arc<dyn FileSource> {
        match has_capitals(table_schema.file_schema().fields()) {
            true => self.of_files.file_source(table_schema),
            false => self.of_tables.file_source(table_schema),
        }
    }
}

/// Whether a name of a column, or of a field of one, has capital letters.
fn has_capitals(fields: &Fields) -> bool {
    fields.iter().any(|field| field.name().chars().any(char::is_uppercase) || has_capitals_inside(field.data_type()))
}

fn has_capitals_inside(data_type: &DataType) -> bool {
    match data_type {
        DataType::Struct(fields) => has_capitals(fields),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            has_capitals_inside(item.data_type())
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(pair) => pair.iter().any(|field| has_capitals_inside(field.data_type())),
            _ => false,
        },
        _ => false,
    }
}

/// Reads objects, one a line, into columns with names in lower case.
#[derive(Debug)]
pub(super) struct JsonReader {
    pub(super) bytes: JsonBytes,
}

#[async_trait]
impl FileReader for JsonReader {
    fn kind(&self) -> ReaderKind {
        ReaderKind::Json(self.bytes)
    }

    fn name(&self) -> &'static str {
        "json"
    }

    fn reads_ranges(&self) -> bool {
        true
    }

    async fn read(
        &self,
        store: Arc<dyn ObjectStore>,
        file: &PartitionedFile,
        request: Request,
    ) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let text = open(store, file, &request).await?.fuse();
        let decoder = FoldingDecoder::new(request.schema()?, self.bytes, request.batch_size_rows)?;
        let batches = deserialize_stream(text, DecoderDeserializer::new(decoder));
        Ok(batches.map_err(DataFusionError::from).boxed())
    }

    async fn describe(&self, _store: &Arc<dyn ObjectStore>, _file: &ObjectMeta) -> Result<Option<(SchemaRef, usize)>> {
        Ok(None)
    }
}

/// Arrow's decoder behind [`Fold`].
#[derive(Debug)]
struct FoldingDecoder {
    fold: Fold,
    folded: Vec<u8>,
    inner: json::reader::Decoder,
    /// The columns with bytes among them, where there are any: Arrow's decoder takes a text for hexadecimal.
    with_bytes: Option<(SchemaRef, JsonBytes)>,
}

impl FoldingDecoder {
    fn new(schema: SchemaRef, bytes: JsonBytes, batch_size_rows: usize) -> Result<Self> {
        let fold = Fold::new(&schema);
        let in_files = bytes::in_files(&schema);
        let with_bytes = (in_files != schema).then_some((schema, bytes));
        let inner = json::ReaderBuilder::new(in_files).with_batch_size(batch_size_rows).build_decoder()?;
        Ok(Self { fold, folded: Vec::new(), inner, with_bytes })
    }
}

impl Decoder for FoldingDecoder {
    fn decode(&mut self, buffer: &[u8]) -> Result<usize, ArrowError> {
        self.folded.clear();
        self.folded.extend_from_slice(buffer);
        self.fold.apply(&mut self.folded);
        let read = self.inner.decode(&self.folded)?;
        if read < buffer.len() {
            // The batch is full: it ends with an object, and what follows comes again.
            self.fold.restart();
        }
        Ok(read)
    }

    fn flush(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        let batch = self.inner.flush()?;
        match (batch, &self.with_bytes) {
            (Some(batch), Some((schema, bytes))) => bytes::of_file(&batch, schema, *bytes).map(Some),
            (batch, _) => Ok(batch),
        }
    }

    fn can_flush_early(&self) -> bool {
        false
    }
}

/// What a value is expected to be, by its place in [`Fold::shapes`].
type ShapeId = usize;

/// A value that holds others.
#[derive(Debug)]
enum Shape {
    /// Members by their names.
    Struct(HashMap<Vec<u8>, ShapeId>),
    /// All members, whatever their names, and all elements.
    Each(ShapeId),
    /// Nothing that is wanted is inside.
    Other,
}

/// The shape of what nobody wants.
const OTHER: ShapeId = 0;

/// An object or array that is open.
#[derive(Debug, Clone, Copy)]
struct Open {
    shape: ShapeId,
    is_object: bool,
    /// Whether the next text is the name of a member.
    wants_name: bool,
    /// What the member that was named last is, or an element.
    next: ShapeId,
}

/// Brings names of members to lower case, in as many pieces as the text comes in. Letters beyond ASCII stay as they are, so a
/// text keeps its length.
#[derive(Debug)]
struct Fold {
    shapes: Vec<Shape>,
    /// The shape of a whole object.
    root: ShapeId,
    open: Vec<Open>,
    /// The name being read.
    name: Vec<u8>,
    text: Text,
}

/// Where a piece ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Text {
    /// Between texts.
    Outside,
    /// In a text, which may be a name; after a backslash or not.
    In { is_name: bool, is_escaped: bool },
}

impl Fold {
    fn new(schema: &Schema) -> Self {
        let mut shapes = vec![Shape::Other];
        let root = Self::of_fields(&mut shapes, schema.fields());
        Self { shapes, root, open: Vec::new(), name: Vec::new(), text: Text::Outside }
    }

    fn of_fields(shapes: &mut Vec<Shape>, fields: &Fields) -> ShapeId {
        let members =
            fields.iter().map(|field| (field.name().as_bytes().to_vec(), Self::of(shapes, field.data_type())));
        let members = members.collect();
        shapes.push(Shape::Struct(members));
        shapes.len() - 1
    }

    fn of(shapes: &mut Vec<Shape>, data_type: &DataType) -> ShapeId {
        let each = match data_type {
            DataType::Struct(fields) => return Self::of_fields(shapes, fields),
            DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
                Self::of(shapes, item.data_type())
            }
            DataType::Map(entries, _) => match entries.data_type() {
                DataType::Struct(pair) => pair.last().map_or(OTHER, |value| Self::of(shapes, value.data_type())),
                _ => OTHER,
            },
            _ => OTHER,
        };
        if each == OTHER {
            return OTHER;
        }
        shapes.push(Shape::Each(each));
        shapes.len() - 1
    }

    /// Begins with a new object.
    fn restart(&mut self) {
        self.open.clear();
        self.name.clear();
        self.text = Text::Outside;
    }

    fn apply(&mut self, bytes: &mut [u8]) {
        let mut at = 0;
        while at < bytes.len() {
            at = match self.text {
                Text::Outside => self.outside(bytes, at),
                Text::In { is_name, is_escaped } => self.inside(bytes, at, is_name, is_escaped),
            };
        }
    }

    /// What is between texts, up to the next one.
    fn outside(&mut self, bytes: &[u8], at: usize) -> usize {
        match bytes[at] {
            b'"' => {
                let is_name = self.open.last().is_some_and(|open| open.is_object && open.wants_name);
                self.name.clear();
                self.text = Text::In { is_name, is_escaped: false };
            }
            byte @ (b'{' | b'[') => {
                let shape = self.open.last().map_or(self.root, |open| open.next);
                let is_object = byte == b'{';
                let next = match self.shapes.get(shape) {
                    Some(Shape::Each(each)) => *each,
                    _ => OTHER,
                };
                self.open.push(Open { shape, is_object, wants_name: is_object, next });
            }
            b'}' | b']' => {
                self.open.pop();
            }
            b',' => {
                if let Some(open) = self.open.last_mut() {
                    open.wants_name = open.is_object;
                }
            }
            _ => {}
        }
        at + 1
    }

    /// What is in a text, up to its end or that of the piece.
    fn inside(&mut self, bytes: &mut [u8], at: usize, is_name: bool, is_escaped: bool) -> usize {
        let from = at + usize::from(is_escaped);
        let end = bytes.get(from..).and_then(|rest| rest.iter().position(|byte| matches!(byte, b'"' | b'\\')));
        let until = end.map_or(bytes.len(), |end| from + end);
        if is_name && self.folds() {
            bytes[from.min(until)..until].make_ascii_lowercase();
            self.name.extend_from_slice(&bytes[at..until]);
        }
        self.text = match end.and_then(|_| bytes.get(until)) {
            Some(b'"') => {
                if is_name {
                    self.named();
                }
                Text::Outside
            }
            Some(_) => Text::In { is_name, is_escaped: true },
            // The piece may have ended with the backslash.
            None => Text::In { is_name, is_escaped: is_escaped && at >= bytes.len() },
        };
        until + usize::from(end.is_some())
    }

    /// Whether names of the object that is open are names of fields.
    fn folds(&self) -> bool {
        self.open.last().is_some_and(|open| matches!(self.shapes.get(open.shape), Some(Shape::Struct(_))))
    }

    /// A name has ended: what comes is its member.
    fn named(&mut self) {
        let Some(open) = self.open.last_mut() else { return };
        open.wants_name = false;
        open.next = match self.shapes.get(open.shape) {
            Some(Shape::Struct(members)) => members.get(&self.name).copied().unwrap_or(OTHER),
            Some(Shape::Each(each)) => *each,
            _ => OTHER,
        };
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::Field;

    use super::*;

    fn schema() -> SchemaRef {
        let text = |name: &str| Field::new(name, DataType::Utf8, true);
        let inner = Fields::from(vec![text("a"), text("b")]);
        let pair = Fields::from(vec![
            Field::new("key", DataType::Utf8, false),
            Field::new("value", DataType::Struct(inner.clone()), true),
        ]);
        let entries = Field::new("entries", DataType::Struct(pair), false);
        Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int64, true),
            Field::new("s", DataType::Struct(inner.clone()), true),
            Field::new("m", DataType::Map(Arc::new(entries), false), true),
            Field::new("l", DataType::List(Arc::new(Field::new("item", DataType::Struct(inner), true))), true),
            text("t"),
        ]))
    }

    /// Both members and values in capitals, with quotes, backslashes and brackets in texts.
    const GIVEN: &str = r#"{"ID":1,"S":{"A":"A:{\"B\"}\\","B":"\\\"X"},"M":{"K,\"Y":{"A":"V"}},"L":[{"A":"[Z"},{"B":"Q"}],"T":"ID","NO":{"A":{"ID":[1]}}}
{"Id":2,"No":["A",{"A":1}],"t":"{\"ID\":3}"}
"#;
    const EXPECTED: &str = r#"{"id":1,"s":{"a":"A:{\"B\"}\\","b":"\\\"X"},"m":{"K,\"Y":{"a":"V"}},"l":[{"a":"[Z"},{"b":"Q"}],"t":"ID","no":{"A":{"ID":[1]}}}
{"id":2,"no":["A",{"A":1}],"t":"{\"ID\":3}"}
"#;

    #[test]
    fn names_of_fields_and_no_others_are_folded() {
        for piece in 1..GIVEN.len() {
            let mut fold = Fold::new(&schema());
            let mut found = Vec::new();
            for bytes in GIVEN.as_bytes().chunks(piece) {
                let mut bytes = bytes.to_vec();
                fold.apply(&mut bytes);
                found.extend(bytes);
            }
            assert_eq!(String::from_utf8(found).unwrap(), EXPECTED, "in pieces of {piece}");
        }
    }

    #[test]
    fn rows_are_the_same_in_batches_of_any_size() {
        let text = GIVEN.repeat(10);
        for rows in [1, 2, 3, 7, 100] {
            let mut decoder = FoldingDecoder::new(schema(), JsonBytes::Raw, rows).unwrap();
            let (mut rest, mut ids) = (text.as_bytes(), 0);
            loop {
                let read = decoder.decode(rest).unwrap();
                rest = &rest[read..];
                let Some(batch) = decoder.flush().unwrap() else { break };
                assert!(batch.num_rows() <= rows);
                assert_eq!(batch.column(0).null_count(), 0);
                ids += batch.num_rows();
            }
            assert_eq!(ids, 20);
        }
    }

    #[test]
    fn broken_text_is_an_error_and_no_panic() {
        for text in ["}}}", "{\"", "[[[[", "\"\\", "{\"A\\", "{\"a\":{]}", ",,,\"x\":", "\\\"\\"] {
            for piece in 1..=text.len() {
                let mut fold = Fold::new(&schema());
                for bytes in text.as_bytes().chunks(piece) {
                    fold.apply(&mut bytes.to_vec());
                }
            }
        }
        let mut decoder = FoldingDecoder::new(schema(), JsonBytes::Raw, 10).unwrap();
        assert!(decoder.decode(b"{\"ID\":}").is_err());
    }
}

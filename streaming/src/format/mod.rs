//! Formats of messages: bytes to rows and rows to bytes, as Flink's formats of the same names do.
//!
//! A [`Decoder`] takes messages and gives a batch, and beside it the messages that it could not read: a bad message never
//! costs its neighbours. What to do about one is the caller's; [`Poisoned::policy`] says what the table's options ask for.
//! An [`Encoder`] takes a batch with what its rows mean and gives messages.
//!
//! [`TableFormats`] is what a table says about its messages; [`decoder`] and [`encoder`] put its formats of keys and values
//! together.

mod avro;
mod cells;
mod column;
mod csv;
mod debezium;
mod decode;
mod encode;
mod json;
mod options;
mod protobuf;
mod raw;
mod registry;
mod text;

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use async_trait::async_trait;
use bytes::Bytes;
use tereza_runtime::{Error, Result};

pub(crate) use csv::CsvRecords;
pub use decode::{decoder, decoder_of};
pub use encode::encoder;
pub use options::FormatOptions;
pub(crate) use options::nearest;
pub(crate) use text::push_display;

use column::Rows;

pub use crate::operator::RowKind;

/// A record of a log, as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The topic it is of.
    pub topic: Arc<str>,
    /// The partition it is of.
    pub partition: i32,
    /// Its place in the partition.
    pub offset: i64,
    /// Milliseconds since 1970-01-01, if it has a time.
    pub timestamp_ms: Option<i64>,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value; none is a tombstone.
    pub value: Option<Bytes>,
    /// Its headers, in their order.
    pub headers: Vec<(String, Option<Bytes>)>,
}

impl Message {
    /// Where the message is, for people.
    fn place(&self) -> String {
        format!("topic `{}`, partition {}, offset {}", self.topic, self.partition, self.offset)
    }
}

/// What messages say.
#[derive(Debug, Clone)]
pub struct Decoded {
    /// Their rows, with the schema of [`Decoder::schema`].
    pub batch: RecordBatch,
    /// What each row does; none means that all are inserts.
    pub kinds: Option<Vec<RowKind>>,
    /// For each row, the index of its message. A message may have no row (a tombstone), or several.
    pub sources: Vec<u32>,
    /// The messages that could not be read, in their order.
    pub poisoned: Vec<Poisoned>,
}

/// A message that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Poisoned {
    /// Its index among the messages.
    pub index: usize,
    /// Why, without its place.
    pub reason: String,
    /// What the options of the format ask for.
    pub policy: OnPoison,
}

impl Poisoned {
    /// The error that names the message. `messages` are those that were decoded.
    pub fn to_error(&self, messages: &[Message]) -> Error {
        let place = messages.get(self.index).map_or_else(|| format!("message {}", self.index), Message::place);
        Error::invalid_input(format!("{place}: {}", self.reason))
    }
}

/// What the options of a table ask for when a message cannot be read. (To keep such messages elsewhere is the caller's.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnPoison {
    /// The job fails, with [`Poisoned::to_error`].
    Fail,
    /// The message is left out: `ignore-parse-errors`.
    Skip,
}

/// What a table says about its messages.
#[derive(Debug, Clone)]
pub struct TableFormats {
    /// All columns of the table that messages hold.
    pub schema: SchemaRef,
    /// The format of keys, if the table has one.
    pub key: Option<KeyFormat>,
    /// The format of values.
    pub value: FormatOptions,
    /// Whether values hold the columns of the key too: `value.fields-include` is `ALL`.
    pub value_has_key: bool,
    /// Whether a message stands for the row of its key (`upsert-kafka`): a tombstone deletes it.
    pub is_upsert: bool,
    /// The topic, which names the subjects of a registry if nothing else does.
    pub topic: Option<String>,
}

/// What a table says about its keys.
#[derive(Debug, Clone)]
pub struct KeyFormat {
    /// Its format.
    pub format: FormatOptions,
    /// Its columns, by their places in the table.
    pub columns: Vec<usize>,
    /// What the names of columns begin with that the names in keys do not: `key.fields-prefix`.
    pub prefix: String,
}

/// Makes rows of messages.
#[async_trait]
pub trait Decoder: Send {
    /// The schema of the batches.
    fn schema(&self) -> SchemaRef;

    /// Fetches what is needed to read the messages: schemas that they name. Errors: `Unavailable` if a registry does not
    /// answer, or another kind if it refuses the caller. A message that names what does not exist is found by `decode`.
    async fn prepare(&mut self, messages: &[Message]) -> Result<()>;

    /// The rows of messages that [`Decoder::prepare`] has seen. Errors: `Internal`; a message is no reason for one.
    fn decode(&mut self, messages: &[Message]) -> Result<Decoded>;
}

/// A message to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// The row of the batch that it is of.
    pub row: usize,
    /// The key, where the table has a format for it.
    pub key: Option<Bytes>,
    /// The value; none is a tombstone.
    pub value: Option<Bytes>,
}

/// Makes messages of rows.
#[async_trait]
pub trait Encoder: Send {
    /// Fetches what is needed to write: registers schemas. To be called once before the first batch. Errors: `Unavailable`
    /// if a registry does not answer, or what it says against the schema.
    async fn prepare(&mut self) -> Result<()>;

    /// The messages of a batch whose columns are those of the table. `kinds` has as many as the batch has rows; none means
    /// that all are inserts. Errors: `InvalidInput` names a column that the format cannot write with its value; `Unsupported`
    /// a kind that the format has no message for.
    fn encode(&mut self, batch: &RecordBatch, kinds: Option<&[RowKind]>) -> Result<Vec<Encoded>>;
}

/// The formats that there are.
const FORMATS: [&str; 8] =
    ["json", "csv", "raw", "avro", "avro-confluent", "protobuf", protobuf::CONFLUENT, "debezium-json"];

/// Which part of messages a format is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Key,
    Value,
}

impl TableFormats {
    /// The columns that keys hold with their names there, if the table has a format for keys.
    fn key_schema(&self) -> Result<Option<SchemaRef>> {
        let Some(key) = &self.key else { return Ok(None) };
        let fields = key.columns.iter().map(|place| {
            let field = self.schema.fields().get(*place);
            let field = field.ok_or_else(|| Error::invalid_input(format!("the table has no column {place}")))?;
            match field.name().strip_prefix(&key.prefix) {
                Some(name) => Ok(Field::clone(field).with_name(name)),
                None => Err(Error::invalid_input(format!(
                    "column `{}` of the key does not begin with `{}` (key.fields-prefix)",
                    field.name(),
                    key.prefix
                ))),
            }
        });
        Ok(Some(Arc::new(Schema::new(fields.collect::<Result<Vec<_>>>()?))))
    }

    /// The places of the columns that values hold.
    fn value_columns(&self) -> Vec<usize> {
        let is_key = |place: &usize| self.key.as_ref().is_some_and(|key| key.columns.contains(place));
        (0..self.schema.fields().len()).filter(|place| self.value_has_key || !is_key(place)).collect()
    }

    /// Errors: a table whose messages stand for rows of keys has no key, or a format that says what rows do.
    fn check(&self) -> Result<()> {
        if let Some(key) = &self.key
            && key.format.format == debezium::NAME
        {
            return Err(Error::unsupported(format!("format `{}` for keys", debezium::NAME)));
        }
        if !self.is_upsert {
            return Ok(());
        }
        match &self.key {
            Some(key) if !key.columns.is_empty() => {}
            _ => return Err(Error::invalid_input("a table of upsert-kafka needs a primary key and a format for it")),
        }
        match self.value.format.as_str() {
            debezium::NAME => Err(Error::unsupported(format!("format `{}` with upsert-kafka", debezium::NAME))),
            _ => Ok(()),
        }
    }
}

fn no_such_format(name: &str) -> Error {
    let error = Error::unsupported(format!("format `{name}`"));
    error.with_hint(match options::nearest(name, &FORMATS) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("there are {}", options::list(&FORMATS)),
    })
}

/// Why a message cannot be read.
type Reason = String;

/// Nothing, or why not.
type Bad = Result<(), Reason>;

/// Reads the rows that a key or a value holds.
#[async_trait]
trait RowReader: Send + fmt::Debug {
    /// Fetches what is needed to read the texts.
    async fn prepare(&mut self, _texts: &[&[u8]]) -> Result<()> {
        Ok(())
    }

    /// Adds the rows of `bytes`, with their kinds if the format has them. Whoever calls forgets what was added before an
    /// error.
    fn read(&mut self, bytes: Option<&[u8]>, rows: &mut Rows, kinds: &mut Vec<RowKind>) -> Bad;
}

/// Writes rows of a batch as keys or values.
#[async_trait]
trait RowWriter: Send + fmt::Debug {
    /// Fetches what is needed to write.
    async fn prepare(&mut self) -> Result<()> {
        Ok(())
    }

    /// Adds each row's bytes to `out` and where they end to `ends`; none is NULL. Columns are those the writer was made for.
    fn write(
        &mut self,
        batch: &RecordBatch,
        kinds: Option<&[RowKind]>,
        out: &mut Vec<u8>,
        ends: &mut Vec<Option<usize>>,
    ) -> Result<()>;
}

#[cfg(test)]
mod tests;

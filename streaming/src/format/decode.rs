//! Puts readers of keys and values together.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, NullArray, RecordBatch, RecordBatchOptions};
use arrow::compute::kernels::zip::zip;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use tereza_runtime::{Error, Result};

use super::column::Rows;
use super::json::{JsonOptions, JsonReader};
use super::{
    Bad, Decoded, Decoder, FormatOptions, Message, OnPoison, Poisoned, RowKind, RowReader, TableFormats, avro, csv,
    debezium, json, no_such_format, protobuf, raw,
};

/// The decoder of a table's messages. Errors: `InvalidInput` names an option or column that is wrong, `Unsupported` a format
/// or type that there is not.
pub fn decoder(table: &TableFormats) -> Result<Box<dyn Decoder>> {
    decoder_of(table, &(0..table.schema.fields().len()).collect())
}

/// As [`decoder`], of a table of which only these columns are wanted, by their places. The others keep their places, as columns
/// of the type Null, and what messages hold for them is passed over: it is no reason why a message cannot be read.
pub fn decoder_of(table: &TableFormats, wanted: &BTreeSet<usize>) -> Result<Box<dyn Decoder>> {
    table.check()?;
    // Which row is meant is said by all of a key.
    let of_key = table.key.iter().filter(|_| table.is_upsert).flat_map(|key| &key.columns);
    let wanted: BTreeSet<usize> = wanted.iter().chain(of_key).copied().collect();
    let value_columns = table.value_columns();
    let value_schema = projected(&table.schema, &value_columns)?;
    let key = match (&table.key, table.key_schema()?) {
        (Some(key), Some(schema)) if key.columns.iter().any(|place| wanted.contains(place)) => {
            Some(Side::new(&key.format, &schema, &key.columns, &wanted)?)
        }
        _ => None,
    };
    let value = Side::new(&table.value, &value_schema, &value_columns, &wanted)?;
    let is_read =
        |place| value.columns.contains(&place) || key.as_ref().is_some_and(|key| key.columns.contains(&place));
    let fields = table.schema.fields().iter().enumerate().map(|(place, field)| match is_read(place) {
        true => Arc::clone(field),
        false => Arc::new(Field::new(field.name(), DataType::Null, true)),
    });
    Ok(Box::new(TableDecoder {
        schema: Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), table.schema.metadata().clone())),
        key,
        value,
        is_upsert: table.is_upsert,
        has_kinds: table.is_upsert || table.value.format == debezium::NAME,
    }))
}

fn projected(schema: &Schema, columns: &[usize]) -> Result<Schema> {
    schema.project(columns).map_err(|error| Error::internal(error.to_string()))
}

/// A reader of those columns of a schema. All of it is what messages hold.
fn reader(options: &FormatOptions, all: &Schema, columns: &[usize]) -> Result<Box<dyn RowReader>> {
    let schema = &projected(all, columns)?;
    Ok(match options.format.as_str() {
        "json" => Box::new(JsonReader::new(&JsonOptions::new(options)?, schema)?),
        "csv" => Box::new(csv::CsvReader::new(options, all, columns)?),
        "raw" => Box::new(raw::RawReader::new(options, schema)?),
        "avro" => Box::new(avro::AvroReader::new(options, all, schema)?),
        "avro-confluent" => Box::new(avro::RegistryReader::new(options, all, schema)?),
        "protobuf" => Box::new(protobuf::ProtobufReader::new(options, all, schema)?),
        protobuf::CONFLUENT => Box::new(protobuf::RegistryReader::new(options, schema)?),
        debezium::NAME => Box::new(debezium::DebeziumReader::new(options, schema)?),
        other => return Err(no_such_format(other)),
    })
}

/// Keys or values of messages.
#[derive(Debug)]
struct Side {
    reader: Box<dyn RowReader>,
    rows: Rows,
    /// The places in the table of its columns that are read.
    columns: Vec<usize>,
    policy: OnPoison,
}

impl Side {
    /// The side with the columns of `schema`, which are at `places` in the table; those that are not wanted are passed over.
    fn new(options: &FormatOptions, schema: &Schema, places: &[usize], wanted: &BTreeSet<usize>) -> Result<Self> {
        // The one column of `raw` is the whole message.
        let is_read = |at: &usize| wanted.contains(&places[*at]) || options.format == "raw";
        let read: Vec<usize> = (0..places.len()).filter(is_read).collect();
        let policy = match options.is(json::IGNORE_PARSE_ERRORS, false)? {
            true => OnPoison::Skip,
            false => OnPoison::Fail,
        };
        let rows = Rows::new(&projected(schema, &read)?)?;
        let reader = reader(options, schema, &read)?;
        Ok(Self { reader, rows, columns: read.iter().map(|at| places[*at]).collect(), policy })
    }
}

struct TableDecoder {
    schema: SchemaRef,
    key: Option<Side>,
    value: Side,
    is_upsert: bool,
    has_kinds: bool,
}

impl TableDecoder {
    /// Adds the rows of a message to both sides, as many to each.
    fn read(&mut self, message: &Message, kinds: &mut Vec<RowKind>) -> Result<(), (String, OnPoison)> {
        let before = self.value.rows.len();
        let value = self.read_value(message, kinds);
        value.map_err(|reason| (format!("the value: {reason}"), self.value.policy))?;
        let added = self.value.rows.len() - before;
        let Some(key) = &mut self.key else { return Ok(()) };
        for _ in 0..added {
            read_key(key, message, self.is_upsert).map_err(|reason| (format!("the key: {reason}"), key.policy))?;
        }
        Ok(())
    }

    fn read_value(&mut self, message: &Message, kinds: &mut Vec<RowKind>) -> Bad {
        let value = &mut self.value;
        if self.is_upsert && message.value.is_none() {
            value.rows.push_filler();
            kinds.push(RowKind::Delete);
            return Ok(());
        }
        value.reader.read(message.value.as_deref(), &mut value.rows, kinds)?;
        if self.is_upsert {
            kinds.resize(value.rows.len(), RowKind::UpdateAfter);
        }
        Ok(())
    }

    /// The columns of the table out of those of both sides.
    fn finish(&mut self, kinds: &[RowKind]) -> Result<RecordBatch> {
        let options = RecordBatchOptions::new().with_row_count(Some(self.value.rows.len()));
        let mut columns: Vec<Option<ArrayRef>> = vec![None; self.schema.fields().len()];
        for (array, place) in self.value.rows.finish_columns()?.into_iter().zip(&self.value.columns) {
            columns[*place] = Some(array);
        }
        if let Some(key) = &mut self.key {
            for (array, place) in key.rows.finish_columns()?.into_iter().zip(&key.columns) {
                columns[*place] = Some(match columns[*place].take() {
                    None => array,
                    // A value says its key again, but a tombstone does not.
                    Some(of_value) if self.is_upsert => {
                        let is_of_key: BooleanArray = kinds.iter().map(|kind| Some(*kind == RowKind::Delete)).collect();
                        zip(&is_of_key, &array, &of_value).map_err(|error| Error::internal(error.to_string()))?
                    }
                    Some(of_value) => of_value,
                });
            }
        }
        let rows = options.row_count.unwrap_or_default();
        let columns = columns.into_iter().map(|column| column.unwrap_or_else(|| Arc::new(NullArray::new(rows))));
        let columns = columns.collect();
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)
            .map_err(|error| Error::internal("cannot make a batch of messages").with_source(error))
    }
}

/// Adds the row of a key. One without rows has NULL in all columns.
fn read_key(key: &mut Side, message: &Message, is_needed: bool) -> Bad {
    let before = key.rows.len();
    if is_needed && message.key.is_none() {
        return Err("there is none, so no row is meant".to_owned());
    }
    key.reader.read(message.key.as_deref(), &mut key.rows, &mut Vec::new())?;
    match key.rows.len() - before {
        1 => Ok(()),
        0 => {
            let (names, columns) = key.rows.fields();
            for (place, column) in columns.iter_mut().enumerate() {
                column.push_null().map_err(|reason| format!("field `{}`: {reason}", names.at(place)))?;
            }
            key.rows.end_row();
            Ok(())
        }
        count => Err(format!("it holds {count} rows")),
    }
}

#[async_trait]
impl Decoder for TableDecoder {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    async fn prepare(&mut self, messages: &[Message]) -> Result<()> {
        let values: Vec<&[u8]> = messages.iter().filter_map(|message| message.value.as_deref()).collect();
        self.value.reader.prepare(&values).await?;
        if let Some(key) = &mut self.key {
            let keys: Vec<&[u8]> = messages.iter().filter_map(|message| message.key.as_deref()).collect();
            key.reader.prepare(&keys).await?;
        }
        Ok(())
    }

    fn decode(&mut self, messages: &[Message]) -> Result<Decoded> {
        let mut kinds = Vec::new();
        let mut sources = Vec::with_capacity(messages.len());
        let mut poisoned = Vec::new();
        for (index, message) in messages.iter().enumerate() {
            let before = self.value.rows.len();
            if let Err((reason, policy)) = self.read(message, &mut kinds) {
                self.value.rows.truncate(before);
                if let Some(key) = &mut self.key {
                    key.rows.truncate(before);
                }
                kinds.truncate(before);
                poisoned.push(Poisoned { index, reason, policy });
            }
            let source = u32::try_from(index).map_err(|_| Error::internal("too many messages in a batch"))?;
            sources.resize(self.value.rows.len(), source);
        }
        let batch = self.finish(&kinds)?;
        Ok(Decoded { batch, kinds: self.has_kinds.then_some(kinds), sources, poisoned })
    }
}

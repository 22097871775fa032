//! Puts writers of keys and values together.

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use bytes::Bytes;
use tereza_runtime::{Error, Result};

use super::json::{JsonOptions, JsonWriter};
use super::{
    Encoded, Encoder, FormatOptions, Part, RowKind, RowWriter, TableFormats, avro, cells, csv, debezium,
    no_such_format, protobuf, raw,
};

/// The encoder of a table's messages. Errors: `InvalidInput` names an option or column that is wrong, `Unsupported` a format
/// or type that there is not.
pub fn encoder(table: &TableFormats) -> Result<Box<dyn Encoder>> {
    table.check()?;
    let columns = table.value_columns();
    let schema = Arc::new(table.schema.project(&columns).map_err(|error| Error::internal(error.to_string()))?);
    let topic = table.topic.as_deref();
    let key = match (&table.key, table.key_schema()?) {
        (Some(key), Some(schema)) => {
            Some(Side { writer: writer(&key.format, &schema, Part::Key, topic)?, columns: key.columns.clone(), schema })
        }
        _ => None,
    };
    Ok(Box::new(TableEncoder {
        schema: Arc::clone(&table.schema),
        key,
        value: Side { writer: writer(&table.value, &schema, Part::Value, topic)?, columns, schema },
        format: table.value.format.clone(),
        is_upsert: table.is_upsert,
    }))
}

fn writer(options: &FormatOptions, schema: &SchemaRef, part: Part, topic: Option<&str>) -> Result<Box<dyn RowWriter>> {
    let fields: &Schema = schema;
    Ok(match options.format.as_str() {
        "json" => Box::new(JsonWriter::new(&JsonOptions::new(options)?, fields)?),
        "csv" => Box::new(csv::CsvWriter::new(options, fields)?),
        "raw" => Box::new(raw::RawWriter::new(options, fields)?),
        "avro" => Box::new(avro::AvroWriter::new(options, fields)?),
        "avro-confluent" => Box::new(avro::RegistryWriter::new(options, fields, part, topic)?),
        "protobuf" => Box::new(protobuf::ProtobufWriter::new(options, fields)?),
        protobuf::CONFLUENT => Box::new(protobuf::RegistryWriter::new(options, fields, part, topic)?),
        debezium::NAME => Box::new(debezium::DebeziumWriter::new(options, fields)?),
        other => return Err(no_such_format(other)),
    })
}

/// Keys or values of messages.
#[derive(Debug)]
struct Side {
    writer: Box<dyn RowWriter>,
    schema: SchemaRef,
    /// The places of its columns in the table.
    columns: Vec<usize>,
}

impl Side {
    /// The bytes of each row of a batch of the table; none for NULL.
    fn write(&mut self, batch: &RecordBatch, kinds: Option<&[RowKind]>) -> Result<Vec<Option<Bytes>>> {
        let columns = self.columns.iter().map(|place| Arc::clone(batch.column(*place))).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)
            .map_err(|error| Error::internal("cannot take columns of a batch").with_source(error))?;
        let mut out = Vec::new();
        let mut ends = Vec::with_capacity(batch.num_rows());
        self.writer.write(&batch, kinds, &mut out, &mut ends)?;
        let out = Bytes::from(out);
        let mut start = 0;
        let texts = ends.into_iter().map(|end| end.map(|end| out.slice(std::mem::replace(&mut start, end)..end)));
        Ok(texts.collect())
    }
}

struct TableEncoder {
    schema: SchemaRef,
    key: Option<Side>,
    value: Side,
    format: String,
    is_upsert: bool,
}

impl TableEncoder {
    /// A message for each row, tombstones for those that are deleted.
    fn encode_upserts(&mut self, batch: &RecordBatch, kinds: Option<&[RowKind]>) -> Result<Vec<Encoded>> {
        let kind = |row: usize| kinds.map_or(RowKind::Insert, |kinds| kinds[row]);
        // What a row was before is of no use where a message stands for the whole row.
        let rows: Vec<usize> = (0..batch.num_rows()).filter(|row| kind(*row) != RowKind::UpdateBefore).collect();
        let batch = filter(batch, |row| kind(row) != RowKind::UpdateBefore)?;
        let lives = |row: usize| kind(rows[row]) != RowKind::Delete;
        let values = self.value.write(&filter(&batch, lives)?, None)?;
        let key = self.key.as_mut().ok_or_else(|| Error::internal("a table of upsert-kafka without a key"))?;
        let keys = key.write(&batch, None)?;
        let mut values = values.into_iter();
        let messages = keys.into_iter().enumerate().map(|(at, key)| {
            let value = if lives(at) { values.next().flatten() } else { None };
            Encoded { row: rows[at], key, value }
        });
        Ok(messages.collect())
    }
}

fn filter(batch: &RecordBatch, keeps: impl Fn(usize) -> bool) -> Result<RecordBatch> {
    let mask: BooleanArray = (0..batch.num_rows()).map(|row| Some(keeps(row))).collect();
    filter_record_batch(batch, &mask).map_err(|error| Error::internal(error.to_string()).with_source(error))
}

#[async_trait]
impl Encoder for TableEncoder {
    async fn prepare(&mut self) -> Result<()> {
        if let Some(key) = &mut self.key {
            key.writer.prepare().await?;
        }
        self.value.writer.prepare().await
    }

    fn encode(&mut self, batch: &RecordBatch, kinds: Option<&[RowKind]>) -> Result<Vec<Encoded>> {
        let rows = batch.num_rows();
        if let Some(kinds) = kinds
            && kinds.len() != rows
        {
            return Err(Error::internal(format!("{} row kinds for {rows} rows", kinds.len())));
        }
        let batch = cells::to_schema(batch, &self.schema)?;
        if self.is_upsert {
            return self.encode_upserts(&batch, kinds);
        }
        let other = kinds.and_then(|kinds| kinds.iter().find(|kind| **kind != RowKind::Insert));
        if let Some(kind) = other
            && self.format != debezium::NAME
        {
            let error =
                Error::unsupported(format!("a row that is {} as a message of format `{}`", kind.as_str(), self.format));
            return Err(error.with_hint("write to a table of upsert-kafka, or in format `debezium-json`"));
        }
        let values = self.value.write(&batch, kinds)?;
        let keys = match &mut self.key {
            Some(key) => key.write(&batch, None)?,
            None => vec![None; rows],
        };
        let messages = keys.into_iter().zip(values).enumerate();
        Ok(messages.map(|(row, (key, value))| Encoded { row, key, value }).collect())
    }
}

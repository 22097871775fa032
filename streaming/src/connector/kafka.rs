//! A table on Kafka: which of its columns messages hold, in which formats, and which tell of the messages themselves.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, Int32Array, Int64Array, MapBuilder, MapFieldNames, NullArray, StringArray, StringBuilder,
    TimestampMillisecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema};
use tereza_engine::flink::{ColumnKind, StreamSource};
use tereza_runtime::{Error, Result};

use super::primary_key;
use crate::format::{FormatOptions, KeyFormat, Message, TableFormats};
use crate::kafka::{KafkaOptions, Topics};
use crate::operator::mode::SinkMode;
use crate::operator::{ChangelogMode, failed};

/// What is known of a message besides its key and value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Metadata {
    Topic,
    Partition,
    Offset,
    Timestamp,
    Headers,
}

impl Metadata {
    fn of(key: &str) -> Result<Self> {
        match key {
            "topic" => Ok(Self::Topic),
            "partition" => Ok(Self::Partition),
            "offset" => Ok(Self::Offset),
            "timestamp" => Ok(Self::Timestamp),
            "headers" => Ok(Self::Headers),
            "timestamp-type" | "leader-epoch" => Err(Error::unsupported(format!("metadata '{key}' of Kafka"))),
            _ if key.starts_with("value.") => Err(Error::unsupported(format!("metadata '{key}' of a format"))),
            _ => Err(Error::invalid_input(format!("Kafka has no metadata '{key}'"))
                .with_hint("there are topic, partition, offset, timestamp and headers")),
        }
    }

    /// The column, in the type that the table says.
    fn column(self, messages: &[&Message], data_type: &DataType) -> Result<ArrayRef> {
        let column: ArrayRef = match self {
            Self::Topic => Arc::new(messages.iter().map(|message| Some(&*message.topic)).collect::<StringArray>()),
            Self::Partition => Arc::new(messages.iter().map(|message| Some(message.partition)).collect::<Int32Array>()),
            Self::Offset => Arc::new(messages.iter().map(|message| Some(message.offset)).collect::<Int64Array>()),
            Self::Timestamp => {
                let times: TimestampMillisecondArray = messages.iter().map(|message| message.timestamp_ms).collect();
                Arc::new(times.with_timezone("+00:00"))
            }
            Self::Headers => {
                let DataType::Map(entries, _) = data_type else {
                    return Err(Error::invalid_input("metadata 'headers' is MAP<STRING, BYTES>"));
                };
                let DataType::Struct(fields) = entries.data_type() else {
                    return Err(Error::internal("the entries of a map are no structs"));
                };
                let names = MapFieldNames {
                    entry: entries.name().clone(),
                    key: fields[0].name().clone(),
                    value: fields[1].name().clone(),
                };
                let mut maps = MapBuilder::new(Some(names), StringBuilder::new(), BinaryBuilder::new())
                    .with_keys_field(Arc::clone(&fields[0]))
                    .with_values_field(Arc::clone(&fields[1]));
                for message in messages {
                    for (key, value) in &message.headers {
                        maps.keys().append_value(key);
                        maps.values().append_option(value.as_deref());
                    }
                    maps.append(true).map_err(failed)?;
                }
                Arc::new(maps.finish())
            }
        };
        if column.data_type() == data_type { Ok(column) } else { cast(&column, data_type).map_err(failed) }
    }
}

/// Where a column of records is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// A column of key or value, by its place in [`TableFormats::schema`].
    Data(usize),
    Metadata(Metadata),
}

/// A table on Kafka.
#[derive(Debug, Clone)]
pub(crate) struct KafkaTable {
    pub(crate) options: KafkaOptions,
    pub(crate) formats: TableFormats,
    /// For each column of records, as [`StreamSource::record_schema`] has them.
    pub(crate) places: Vec<Place>,
}

impl KafkaTable {
    pub(super) fn new(table: &StreamSource) -> Result<Self> {
        let options = KafkaOptions::parse(&table.definition().options)?;
        let stored =
            table.definition().columns.iter().filter(|column| !matches!(column.kind, ColumnKind::Computed { .. }));
        let (mut fields, mut places) = (Vec::new(), Vec::new());
        for (column, field) in stored.zip(table.record_schema().fields()) {
            match &column.kind {
                ColumnKind::Metadata { key, .. } => {
                    places.push(Place::Metadata(Metadata::of(key.as_deref().unwrap_or(&column.name))?));
                }
                _ => {
                    places.push(Place::Data(fields.len()));
                    // A message may lack any column, and a tombstone has its key alone.
                    fields.push(Field::clone(field).with_nullable(true));
                }
            }
        }
        let schema = Arc::new(Schema::new(fields));
        let at = |name: &String| {
            schema
                .index_of(name)
                .map_err(|_| Error::invalid_input(format!("the key's column '{name}' is not in messages")))
        };
        let key_columns = match (&options.key, options.upsert) {
            (None, _) => Vec::new(),
            (Some(_), true) => {
                let key = table.definition().primary_key.as_ref();
                let key = key.ok_or_else(|| Error::invalid_input("'upsert-kafka' needs a PRIMARY KEY"))?;
                key.columns.iter().map(at).collect::<Result<Vec<_>>>()?
            }
            (Some(key), false) => key.fields.iter().map(at).collect::<Result<Vec<_>>>()?,
        };
        let format = |format: &crate::kafka::Format| FormatOptions {
            format: format.name.clone(),
            options: format.options.clone(),
        };
        let topic = match &options.topics {
            Topics::Names(names) if names.len() == 1 => names.first().cloned(),
            _ => None,
        };
        let formats = TableFormats {
            schema,
            key: options.key.as_ref().map(|key| KeyFormat {
                format: format(&key.format),
                columns: key_columns,
                prefix: key.prefix.clone(),
            }),
            value: format(&options.value),
            value_has_key: options.key_in_value,
            is_upsert: options.upsert,
            topic,
        };
        Ok(Self { options, formats, places })
    }

    /// Whether a column is made of messages' headers, or they go on with messages that cannot be read.
    pub(crate) fn wants_headers(&self) -> bool {
        self.options.dead_letters.is_some() || self.places.contains(&Place::Metadata(Metadata::Headers))
    }

    fn has_kinds(&self) -> bool {
        self.formats.value.format == "debezium-json"
    }

    pub(super) fn reads(&self, table: &StreamSource) -> Result<ChangelogMode> {
        crate::format::decoder(&self.formats)?;
        Ok(match primary_key(table) {
            Some(key) if self.options.upsert => ChangelogMode::Upsert(key),
            key if self.has_kinds() => ChangelogMode::Retract { key },
            _ => ChangelogMode::Append,
        })
    }

    pub(super) fn takes(&self, table: &StreamSource) -> Result<SinkMode> {
        crate::format::encoder(&self.formats)?;
        self.topic()?;
        let metadata = self.places.iter().zip(table.record_schema().fields());
        for (place, field) in metadata {
            let is_written = table.written().index_of(field.name()).is_ok();
            if let Place::Metadata(metadata) = place
                && is_written
                && *metadata != Metadata::Timestamp
            {
                return Err(Error::unsupported(format!("writing the metadata of column '{}'", field.name()))
                    .with_hint("declare it VIRTUAL"));
            }
        }
        let written = |key: Vec<usize>| -> Vec<usize> {
            let name = |at: usize| table.definition().columns[at].name.as_str();
            key.into_iter().filter_map(|at| table.written().index_of(name(at)).ok()).collect()
        };
        Ok(match primary_key(table) {
            Some(key) if self.options.upsert => SinkMode::Upsert(written(key)),
            _ if self.has_kinds() => SinkMode::Retract,
            _ => SinkMode::Append,
        })
    }

    /// The topic that is written.
    pub(crate) fn topic(&self) -> Result<&str> {
        match &self.options.topics {
            Topics::Names(names) if names.len() == 1 => Ok(&names[0]),
            _ => Err(Error::invalid_input("a table that is written has one topic")),
        }
    }

    /// The places in [`TableFormats::schema`] of those columns of records that are from keys and values.
    pub(crate) fn data_of(&self, records: &BTreeSet<usize>) -> BTreeSet<usize> {
        let data = |at: &usize| match self.places.get(*at) {
            Some(Place::Data(place)) => Some(*place),
            _ => None,
        };
        records.iter().filter_map(data).collect()
    }

    /// The columns of records, of the data of some messages and what is known of them.
    pub(crate) fn columns(&self, data: &[ArrayRef], messages: &[&Message], types: &Schema) -> Result<Vec<ArrayRef>> {
        let columns = self.places.iter().zip(types.fields()).map(|(place, field)| match place {
            Place::Data(at) => Ok(Arc::clone(&data[*at])),
            // Nobody reads it.
            Place::Metadata(_) if field.data_type().is_null() => {
                Ok(Arc::new(NullArray::new(messages.len())) as ArrayRef)
            }
            Place::Metadata(metadata) => metadata.column(messages, field.data_type()),
        });
        columns.collect()
    }
}

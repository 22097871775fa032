//! Bytes in JSON, which has texts only: as they are, or in Base64.
//!
//! Spark's own tables have Base64 always. Hive 3 and Presto take the text's own bytes; Hive 4 takes Base64 unless
//! `json.binary.format` says `rawstring`, which is what Tereza's tables say.
//! Source: `JsonSerDe` of Hive 3.1 and 4.0, Spark's `JacksonGenerator` and `JacksonParser`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder, RecordBatch, RecordBatchOptions, StringBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use arrow::error::ArrowError;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use tereza_catalog::model::{Parameters, Storage};
use tereza_runtime::{Error, Result};

use crate::error::from_any;
use crate::formats::leaves::map_leaves;
use crate::formats::spark;

/// The property of Hive 4, and of the tables that Tereza makes.
pub(crate) const BINARY_FORMAT: &str = "json.binary.format";
/// Its value for bytes as they are.
pub(crate) const RAW: &str = "rawstring";

/// A serde that has no rule for bytes.
const WITHOUT_BYTES: &str = "org.openx.data.jsonserde.JsonSerDe";

/// How bytes stand in the texts of a table's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum JsonBytes {
    /// The text's own bytes, in UTF-8.
    Raw,
    /// Base64 with padding.
    Base64,
    /// Not at all.
    Never,
}

impl JsonBytes {
    /// That of a table's files in such a storage.
    pub(crate) fn of(storage: &Storage, table_parameters: &Parameters) -> Result<Self> {
        if spark::is_own(table_parameters) {
            return Ok(Self::Base64);
        }
        let places = [&storage.serde.parameters, table_parameters];
        let said = places.into_iter().find_map(|place| place.get(BINARY_FORMAT));
        match said.map(|said| said.to_lowercase()).as_deref() {
            Some(RAW) => Ok(Self::Raw),
            Some("base64") => Ok(Self::Base64),
            Some(other) => Err(Error::unsupported(format!("{BINARY_FORMAT} = {other}"))),
            None if storage.serde.library.as_deref() == Some(WITHOUT_BYTES) => Ok(Self::Never),
            None => Ok(Self::Raw),
        }
    }

    fn check(self) -> Result<(), ArrowError> {
        match self {
            Self::Never => Err(external(Error::unsupported(format!("binary columns of {WITHOUT_BYTES}")))),
            Self::Raw | Self::Base64 => Ok(()),
        }
    }

    /// Texts to bytes.
    fn decoded(self, texts: &ArrayRef) -> Result<ArrayRef, ArrowError> {
        let mut bytes = BinaryBuilder::new();
        for text in texts.as_string::<i32>() {
            match (text, self) {
                (None, _) => bytes.append_null(),
                (Some(text), Self::Base64) => {
                    let broken = |error: base64::DecodeError| {
                        external(Error::invalid_input(format!("'{text}' is not Base64: {error}")))
                    };
                    bytes.append_value(STANDARD.decode(text).map_err(broken)?);
                }
                (Some(text), _) => bytes.append_value(text),
            }
        }
        Ok(Arc::new(bytes.finish()))
    }

    /// Bytes to texts.
    fn encoded(self, bytes: &ArrayRef) -> Result<ArrayRef, ArrowError> {
        let bytes = cast(bytes, &DataType::Binary)?;
        let mut texts = StringBuilder::new();
        for bytes in bytes.as_binary::<i32>() {
            match (bytes, self) {
                (None, _) => texts.append_null(),
                (Some(bytes), Self::Base64) => texts.append_value(STANDARD.encode(bytes)),
                (Some(bytes), _) => {
                    texts.append_value(std::str::from_utf8(bytes).map_err(|_| {
                        let lost = Error::invalid_input("bytes that are no text are lost in this JSON");
                        external(lost.with_hint(format!(
                            "give the serde '{BINARY_FORMAT}' = 'base64', or use STORED AS PARQUET"
                        )))
                    })?)
                }
            }
        }
        Ok(Arc::new(texts.finish()))
    }
}

fn external(error: Error) -> ArrowError {
    ArrowError::ExternalError(Box::new(error))
}

/// The columns as they stand in files: bytes are texts there.
pub(crate) fn in_files(columns: &SchemaRef) -> SchemaRef {
    let fields: Vec<FieldRef> = columns.fields().iter().map(text_field).collect();
    Arc::new(Schema::new(fields))
}

fn text_field(field: &FieldRef) -> FieldRef {
    Arc::new(Field::clone(field).with_data_type(text_type(field.data_type())))
}

fn text_type(data_type: &DataType) -> DataType {
    match data_type {
        data_type if is_binary(data_type) => DataType::Utf8,
        DataType::List(item) => DataType::List(text_field(item)),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(text_field).collect::<Fields>()),
        DataType::Map(entries, ordered) => DataType::Map(text_field(entries), *ordered),
        other => other.clone(),
    }
}

fn is_binary(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
}

/// Rows of a file with the table's `columns`, which differ from [`in_files`] in bytes only.
pub(super) fn of_file(batch: &RecordBatch, columns: &SchemaRef, bytes: JsonBytes) -> Result<RecordBatch, ArrowError> {
    bytes.check()?;
    mapped(batch, columns, &|texts, wanted| match is_binary(wanted) {
        true => cast(&bytes.decoded(texts)?, wanted),
        false => Ok(Arc::clone(texts)),
    })
}

/// The table's rows with the `columns` of files, which may be named otherwise too.
pub(crate) fn for_file(batch: &RecordBatch, columns: &SchemaRef, bytes: JsonBytes) -> Result<RecordBatch, ArrowError> {
    mapped(batch, columns, &|values, _| match is_binary(values.data_type()) {
        true => bytes.check().and_then(|()| bytes.encoded(values)),
        false => Ok(Arc::clone(values)),
    })
}

type Leaf<'a> = &'a dyn Fn(&ArrayRef, &DataType) -> Result<ArrayRef, ArrowError>;

fn mapped(batch: &RecordBatch, columns: &SchemaRef, leaf: Leaf<'_>) -> Result<RecordBatch, ArrowError> {
    let arrays = batch.columns().iter().zip(columns.fields()).map(|(array, field)| {
        map_leaves(array, field.data_type(), leaf).map_err(|error| match error {
            ArrowError::ExternalError(inner) => {
                external(from_any(inner.as_ref()).context(format!("column '{}'", field.name())))
            }
            other => other,
        })
    });
    let arrays = arrays.collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(columns), arrays, &options)
}

#[cfg(test)]
mod tests;

//! Batches to the bytes of one file: Parquet, delimited text, JSON lines, lines of a stream's format.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use datafusion::error::DataFusionError;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, GzipLevel, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use tereza_catalog::model::{Parameters, Storage, Table};
use tereza_runtime::{Error, Result};

use super::json::JsonEncoder;
use super::lines::LinesEncoder;
use super::split::arrow_error;
use super::text::TextEncoder;
use crate::error::from_datafusion;
use crate::formats::leaves::renamed;
use crate::formats::{Format, TextOptions, spark};

/// A row group is closed at this many rows or bytes, whichever comes first.
const ROW_GROUP_ROWS_MAX: usize = 1 << 20;
const ROW_GROUP_BYTES_MAX: usize = 128 << 20;

/// Table parameter that names the compression of Parquet files.
const PARQUET_COMPRESSION: &str = "parquet.compression";

/// Turns batches into the bytes of one file.
pub(super) enum Encoder {
    /// Apache Parquet.
    Parquet(ParquetEncoder),
    /// Delimited text.
    Text(TextEncoder),
    /// One JSON object a line.
    Json(JsonEncoder),
    /// Lines of a format that no storage names.
    Lines(LinesEncoder),
}

impl Encoder {
    /// For a file with these columns in the format of `storage`, the table's or that of one of its partitions.
    /// `Unsupported` for a format that is only read.
    pub(super) fn new(table: &Table, storage: &Storage, columns: &SchemaRef) -> Result<Self> {
        let format = Format::of_table(table, storage)?;
        let storage = spark::storage_of_files(table, storage);
        match format {
            Format::Parquet => {
                let compression = parquet_compression(storage, &table.parameters)?;
                let properties = WriterProperties::builder()
                    .set_compression(compression)
                    .set_max_row_group_row_count(Some(ROW_GROUP_ROWS_MAX))
                    .set_max_row_group_bytes(Some(ROW_GROUP_BYTES_MAX))
                    .set_created_by(concat!("tereza ", env!("CARGO_PKG_VERSION")).to_owned())
                    .build();
                // Types come from the catalog; other engines do not read Arrow's own copy of the schema.
                let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
                let columns = spark::named_for_spark(table, columns)?;
                let writer = ArrowWriter::try_new_with_options(Vec::new(), Arc::clone(&columns), options);
                let writer = Box::new(writer.map_err(parquet_error)?);
                Ok(Self::Parquet(ParquetEncoder { writer, columns, groups_taken: 0 }))
            }
            Format::Csv | Format::Text => {
                check_uncompressed(storage)?;
                let options = TextOptions::of(format, storage, &table.parameters)?;
                Ok(Self::Text(TextEncoder::new(options, columns)?))
            }
            Format::Json => {
                check_uncompressed(storage)?;
                Ok(Self::Json(JsonEncoder::new(table, storage, columns)?))
            }
            Format::Avro => Err(Error::unsupported("writing Avro files").with_hint("use STORED AS PARQUET")),
            Format::Orc => Err(Error::unsupported("writing ORC files").with_hint("use STORED AS PARQUET")),
        }
    }

    /// Encodes `batch`; the bytes that are ready then come from [`Encoder::take`].
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        match self {
            Self::Parquet(encoder) => encoder.write(batch),
            Self::Text(encoder) => encoder.write(batch),
            Self::Json(encoder) => encoder.write(batch),
            Self::Lines(encoder) => encoder.write(batch),
        }
    }

    /// The bytes encoded since the last call; none while a row group is still open.
    pub(super) fn take(&mut self) -> Vec<u8> {
        match self {
            Self::Parquet(encoder) => encoder.take(),
            Self::Text(encoder) => encoder.take(),
            Self::Json(encoder) => encoder.take(),
            Self::Lines(encoder) => encoder.take(),
        }
    }

    /// Bytes of memory held by rows that [`Encoder::take`] does not give out yet.
    pub(super) fn memory_bytes(&self) -> usize {
        match self {
            Self::Parquet(encoder) => encoder.writer.memory_size(),
            Self::Text(_) | Self::Json(_) | Self::Lines(_) => 0,
        }
    }

    /// About how many bytes those rows will be in the file.
    pub(super) fn unwritten_bytes(&self) -> usize {
        match self {
            Self::Parquet(encoder) => encoder.writer.in_progress_size(),
            Self::Text(_) | Self::Json(_) | Self::Lines(_) => 0,
        }
    }

    /// Ends the file and returns its last bytes.
    pub(super) fn finish(self) -> Result<Vec<u8>> {
        match self {
            Self::Parquet(mut encoder) => {
                encoder.writer.finish().map_err(parquet_error)?;
                Ok(std::mem::take(encoder.writer.inner_mut()))
            }
            Self::Text(mut encoder) => Ok(encoder.take()),
            Self::Json(encoder) => encoder.finish(),
            Self::Lines(mut encoder) => Ok(encoder.take()),
        }
    }
}

/// Batches to Parquet.
pub(super) struct ParquetEncoder {
    writer: Box<ArrowWriter<Vec<u8>>>,
    /// The columns of the file, which may be named otherwise than the table's.
    columns: SchemaRef,
    /// Row groups whose bytes were taken.
    groups_taken: usize,
}

impl ParquetEncoder {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.schema_ref() == &self.columns {
            return self.writer.write(batch).map_err(parquet_error);
        }
        let columns = batch.columns().iter().zip(self.columns.fields());
        let columns = columns.map(|(column, field)| renamed(column, field.data_type())).collect::<Result<_, _>>();
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let batch = columns
            .and_then(|columns| RecordBatch::try_new_with_options(Arc::clone(&self.columns), columns, &options))
            .map_err(arrow_error)?;
        self.writer.write(&batch).map_err(parquet_error)
    }

    fn take(&mut self) -> Vec<u8> {
        let flushed = self.writer.flushed_row_groups().len();
        if self.groups_taken == flushed {
            return Vec::new();
        }
        self.groups_taken = flushed;
        std::mem::take(self.writer.inner_mut())
    }
}

fn parquet_compression(storage: &Storage, table_parameters: &Parameters) -> Result<Compression> {
    let places = [&storage.serde.parameters, &storage.parameters, table_parameters];
    let Some(word) = places.into_iter().find_map(|place| place.get(PARQUET_COMPRESSION)) else {
        return Ok(Compression::SNAPPY);
    };
    match word.to_ascii_uppercase().as_str() {
        "SNAPPY" => Ok(Compression::SNAPPY),
        "UNCOMPRESSED" | "NONE" => Ok(Compression::UNCOMPRESSED),
        "GZIP" => Ok(Compression::GZIP(GzipLevel::default())),
        "ZSTD" => Ok(Compression::ZSTD(ZstdLevel::default())),
        _ => Err(Error::unsupported(format!("{PARQUET_COMPRESSION} = {word}"))
            .with_hint("use SNAPPY, ZSTD, GZIP or UNCOMPRESSED")),
    }
}

/// Readers take the serde's word for it that files of text are compressed.
fn check_uncompressed(storage: &Storage) -> Result<()> {
    match storage.serde.parameters.get("compression").map(|word| word.to_lowercase()).as_deref() {
        None | Some("" | "none" | "uncompressed") => Ok(()),
        Some(word) => Err(Error::unsupported(format!("writing text with compression {word}"))
            .with_hint("drop the option, or use STORED AS PARQUET")),
    }
}

fn parquet_error(error: ParquetError) -> Error {
    from_datafusion(DataFusionError::from(error))
}

#[cfg(test)]
mod tests;

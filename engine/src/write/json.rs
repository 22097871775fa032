//! JSON, one object a line, with the names and the bytes that the table's readers look for.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::json::writer::{LineDelimited, Writer, WriterBuilder};
use tereza_catalog::model::{Storage, Table};
use tereza_runtime::Result;

use super::split::arrow_error;
use super::text::{TIMESTAMP, TIMESTAMP_TZ};
use crate::formats::json::bytes::{JsonBytes, for_file, in_files};
use crate::formats::spark;

/// Turns batches into lines.
pub(super) struct JsonEncoder {
    writer: Writer<Vec<u8>, LineDelimited>,
    /// The columns of the file, where they are not the table's.
    columns: Option<SchemaRef>,
    bytes: JsonBytes,
}

impl JsonEncoder {
    pub(super) fn new(table: &Table, storage: &Storage, columns: &SchemaRef) -> Result<Self> {
        let formats = WriterBuilder::new()
            // Without them an entry of a map whose value is NULL would be lost.
            .with_explicit_nulls(true)
            .with_timestamp_format(TIMESTAMP.to_owned())
            .with_timestamp_tz_format(TIMESTAMP_TZ.to_owned());
        let in_file = in_files(&spark::named_for_spark(table, columns)?);
        Ok(Self {
            writer: formats.build(Vec::new()),
            columns: (in_file != *columns).then_some(in_file),
            bytes: JsonBytes::of(storage, &table.parameters)?,
        })
    }

    /// Adds the rows of `batch`. `InvalidInput` for bytes that would read back as others.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let written = match &self.columns {
            None => self.writer.write(batch),
            Some(columns) => for_file(batch, columns, self.bytes).and_then(|batch| self.writer.write(&batch)),
        };
        written.map_err(arrow_error)
    }

    /// The lines added since the last call.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(self.writer.get_mut())
    }

    /// Ends the file and returns its last lines.
    pub(super) fn finish(mut self) -> Result<Vec<u8>> {
        self.writer.finish().map_err(arrow_error)?;
        Ok(self.take())
    }
}

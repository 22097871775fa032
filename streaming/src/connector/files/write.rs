//! Rows to the records of files.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use tereza_engine::flink::StreamTable;
use tereza_engine::{Folder, LineEncoder, LineFormat};
use tereza_runtime::{Error, Result};

use super::{FORMAT, FilesTable, NULL_PARTITION, NULL_PARTITION_NAME, PATH};
use crate::format::{Encoder, TableFormats, encoder};

/// What a folder has to know that takes rows with these columns.
pub(super) fn folder(table: &FilesTable, definition: &StreamTable, columns: SchemaRef) -> Result<Folder> {
    let lines = match &table.lines {
        None => None,
        Some(lines) => {
            let of = LinesOf { table: table.name.clone(), formats: lines.formats.clone() };
            Some(Arc::new(of) as Arc<dyn LineFormat>)
        }
    };
    Ok(Folder {
        name: table.name.clone(),
        location: table.location.clone(),
        columns,
        partition_keys: definition.partition_keys.clone(),
        lines,
        null_partition: table.null_partition.clone(),
        options: definition.options.clone(),
    })
}

/// The folder of a table for who brings its files to their places and makes none; none if the table is connected to something else.
pub(crate) fn place_only(name: &str, definition: &StreamTable) -> Option<Folder> {
    let StreamTable { options, partition_keys, .. } = definition;
    if options.get("connector").map(String::as_str) != Some("filesystem") || !options.contains_key(FORMAT) {
        return None;
    }
    let keys = partition_keys.iter().map(|key| Field::new(key, DataType::Utf8, true));
    Some(Folder {
        name: name.to_owned(),
        location: options.get(PATH)?.clone(),
        columns: Arc::new(Schema::new(keys.collect::<Vec<_>>())),
        partition_keys: partition_keys.clone(),
        lines: None,
        null_partition: options.get(NULL_PARTITION).map_or(NULL_PARTITION_NAME, String::as_str).to_owned(),
        options: options.clone(),
    })
}

/// Messages of a format as lines.
#[derive(Debug)]
struct LinesOf {
    table: String,
    formats: TableFormats,
}

impl LineFormat for LinesOf {
    fn extension(&self) -> &'static str {
        match self.formats.value.format.as_str() {
            "csv" => "csv",
            "json" => "json",
            _ => "txt",
        }
    }

    fn encoder(&self) -> Result<Box<dyn LineEncoder>> {
        let is_raw = self.formats.value.format == "raw";
        Ok(Box::new(Lines { table: self.table.clone(), is_raw, encoder: encoder(&self.formats)? }))
    }
}

struct Lines {
    table: String,
    /// Values stand for themselves: nothing tells a line break in one from its end.
    is_raw: bool,
    encoder: Box<dyn Encoder>,
}

impl LineEncoder for Lines {
    fn encode(&mut self, rows: &RecordBatch, lines: &mut Vec<u8>) -> Result<()> {
        for message in self.encoder.encode(rows, None)? {
            let no_line = match &message.value {
                None => Some("NULL"),
                Some(value) => (self.is_raw && value.iter().any(|byte| matches!(byte, b'\n' | b'\r')))
                    .then_some("a value with a line break"),
            };
            if let Some(what) = no_line {
                let table = &self.table;
                return Err(Error::invalid_input(format!(
                    "{what} is no line of a file of table {table}, whose format is 'raw'"
                ))
                .with_hint("'format' = 'csv' or 'json'"));
            }
            lines.extend_from_slice(&message.value.unwrap_or_default());
            lines.push(b'\n');
        }
        Ok(())
    }
}

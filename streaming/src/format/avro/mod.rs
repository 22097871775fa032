//! `avro`: a message is a record by the schema that is made of the table. `avro-confluent`: it begins with the id of the
//! schema that it was written by, which a Schema Registry keeps.
//!
//! Records of other schemas are read by the names of their fields: what the table does not have is left out, what they do not
//! have is NULL.

mod read;
mod schema;
mod write;

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use arrow::array::RecordBatch;
use arrow::datatypes::{Fields, Schema};
use async_trait::async_trait;
use tereza_runtime::{Error, Result};

use super::column::Rows;
use super::registry::{self, Registry};
use super::{Bad, FormatOptions, Part, Reason, RowKind, RowReader, RowWriter, cells};
use read::Resolved;
use schema::Timestamps;
use write::Shape;

const ENCODING: &str = "encoding";
const LEGACY: &str = "timestamp_mapping.legacy";

/// What every message with the id of a schema begins with.
const MAGIC: u8 = 0;
/// Bytes before the record: the magic byte and the id.
const HEADER: usize = 5;
/// Schemas of writers that are kept.
const SCHEMAS_MAX: usize = 1_000;

fn timestamps(options: &FormatOptions) -> Result<Timestamps> {
    options.check(&[ENCODING, LEGACY])?;
    if !options.choice(ENCODING, &[("binary", true), ("json", false)], true, true)? {
        return Err(Error::unsupported(format!("option `avro.{ENCODING}` with `json`")));
    }
    Ok(if options.is(LEGACY, true)? { Timestamps::Legacy } else { Timestamps::Exact })
}

/// Adds the row of a record.
fn read_record(resolved: &Resolved, bytes: &[u8], rows: &mut Rows) -> Bad {
    let (_, columns) = rows.fields();
    resolved.read(bytes, columns)?;
    rows.end_row();
    Ok(())
}

#[derive(Debug)]
pub(super) struct AvroReader {
    resolved: Resolved,
}

impl AvroReader {
    /// A reader of some columns of records by a table's schema. Errors: `InvalidInput` names an option, `Unsupported` a column.
    pub(super) fn new(options: &FormatOptions, table: &Schema, read: &Schema) -> Result<Self> {
        let text = schema::of_table(table.fields(), timestamps(options)?)?;
        let resolved = schema::Schema::parse(&text).and_then(|schema| Resolved::new(schema, read.fields()));
        Ok(Self { resolved: resolved.map_err(Error::internal)? })
    }
}

#[async_trait]
impl RowReader for AvroReader {
    fn read(&mut self, bytes: Option<&[u8]>, rows: &mut Rows, _kinds: &mut Vec<RowKind>) -> Bad {
        bytes.map_or(Ok(()), |bytes| read_record(&self.resolved, bytes, rows))
    }
}

#[derive(Debug)]
pub(super) struct AvroWriter {
    shapes: Vec<Shape>,
}

impl AvroWriter {
    /// A writer of records by a table's schema. Errors: `InvalidInput` names an option, `Unsupported` a column.
    pub(super) fn new(options: &FormatOptions, table: &Schema) -> Result<Self> {
        schema::of_table(table.fields(), timestamps(options)?)?;
        Ok(Self { shapes: Shape::of_fields(table.fields()) })
    }
}

/// Writes all rows, each behind a header.
fn write_rows(
    shapes: &[Shape],
    header: &[u8],
    batch: &RecordBatch,
    out: &mut Vec<u8>,
    ends: &mut Vec<Option<usize>>,
) -> Result<()> {
    cells::write_rows(batch, out, ends, |cells, row, out| {
        out.extend_from_slice(header);
        write::write_row(cells, shapes, row, out)
            .map_err(|reason| Error::invalid_input(format!("a row cannot be written as Avro: {reason}")))
    })
}

#[async_trait]
impl RowWriter for AvroWriter {
    fn write(
        &mut self,
        batch: &RecordBatch,
        _kinds: Option<&[RowKind]>,
        out: &mut Vec<u8>,
        ends: &mut Vec<Option<usize>>,
    ) -> Result<()> {
        write_rows(&self.shapes, &[], batch, out, ends)
    }
}

/// Reads records by the schemas that they name.
#[derive(Debug)]
pub(super) struct RegistryReader {
    registry: Registry,
    fields: Fields,
    /// By the ids of schemas.
    writers: HashMap<u32, Writer>,
    /// The schema of the last record that was read.
    last: Option<u32>,
}

/// A schema that records were written by.
#[derive(Debug)]
struct Writer {
    /// For errors.
    name: String,
    /// How its records are read, or why they are not.
    resolved: Result<Resolved, Reason>,
}

impl RegistryReader {
    /// A reader of some columns of a table. Errors: `InvalidInput` names an option, `Unsupported` an option or a column.
    pub(super) fn new(options: &FormatOptions, table: &Schema, read: &Schema) -> Result<Self> {
        registry::check_options(options)?;
        if let Some(text) = registry::option(options, registry::SCHEMA) {
            schema_of_table(text, table)?;
        }
        let (registry, fields) = (Registry::new(options)?, read.fields().clone());
        Ok(Self { registry, fields, writers: HashMap::new(), last: None })
    }

    /// Why a record could not be read, and by which schema the ones before it were.
    fn refused(&self, id: u32, writer: &Writer, reason: &str) -> Reason {
        let name = &writer.name;
        match self.last.filter(|last| *last != id && reason != registry::UNKNOWN) {
            None => format!("{name}: {reason}"),
            Some(last) => {
                let before = self.writers.get(&last).map_or_else(|| format!("schema {last}"), |of| of.name.clone());
                format!("{name}: {reason}; the record before it is of {before}")
            }
        }
    }
}

/// The id of the schema that a message names, and its record.
fn split(bytes: &[u8]) -> Result<(u32, &[u8]), Reason> {
    match bytes.split_at_checked(HEADER) {
        Some(([MAGIC, id @ ..], record)) => {
            let id = id.try_into().map_err(|_| "it has no id of a schema".to_owned())?;
            Ok((u32::from_be_bytes(id), record))
        }
        _ => Err("it does not begin with a zero byte and the id of a schema".to_owned()),
    }
}

#[async_trait]
impl RowReader for RegistryReader {
    async fn prepare(&mut self, texts: &[&[u8]]) -> Result<()> {
        // What was not there may be there now.
        self.writers.retain(|_, writer| !writer.resolved.as_ref().is_err_and(|reason| reason == registry::UNKNOWN));
        for text in texts {
            let Ok((id, _)) = split(text) else { continue };
            if self.writers.len() >= SCHEMAS_MAX && !self.writers.contains_key(&id) {
                // Those of this batch that are forgotten too are fetched again for the next one at the latest.
                self.writers.clear();
            }
            if let Entry::Vacant(entry) = self.writers.entry(id) {
                let found = self.registry.avro(id).await?;
                let name = if found.is_ok() { self.registry.name(id).await } else { format!("schema {id}") };
                let parsed = found.and_then(|text| schema::Schema::parse(&text));
                let resolved = parsed.and_then(|schema| Resolved::new(schema, &self.fields));
                entry.insert(Writer { name, resolved });
            }
        }
        Ok(())
    }

    fn read(&mut self, bytes: Option<&[u8]>, rows: &mut Rows, _kinds: &mut Vec<RowKind>) -> Bad {
        let Some(bytes) = bytes else { return Ok(()) };
        let (id, record) = split(bytes)?;
        let Some(writer) = self.writers.get(&id) else {
            return Err(format!("schema {id} is one of more than {SCHEMAS_MAX} in a batch"));
        };
        let read = match &writer.resolved {
            Ok(resolved) => read_record(resolved, record, rows),
            Err(reason) => Err(reason.clone()),
        };
        read.map_err(|reason| self.refused(id, writer, &reason))?;
        self.last = Some(id);
        Ok(())
    }
}

/// Writes records with the id that a registry gives to the table's schema.
#[derive(Debug)]
pub(super) struct RegistryWriter {
    registry: Registry,
    subject: String,
    schema: String,
    shapes: Vec<Shape>,
    id: Option<u32>,
}

impl RegistryWriter {
    /// A writer of rows of a schema. Errors: `InvalidInput` names an option, also one that is needed; `Unsupported` an option
    /// or a column.
    pub(super) fn new(options: &FormatOptions, table: &Schema, part: Part, topic: Option<&str>) -> Result<Self> {
        registry::check_options(options)?;
        let subject = registry::subject(options, part, topic)?;
        let of_table = schema::of_table(table.fields(), Timestamps::Legacy)?;
        let schema = match registry::option(options, registry::SCHEMA) {
            Some(text) => schema_of_table(text, table)?,
            None => of_table,
        };
        let shapes = Shape::of_fields(table.fields());
        Ok(Self { registry: Registry::new(options)?, subject, schema, shapes, id: None })
    }
}

/// The schema that a table's options give, if it is that of the table but for names, documentation and defaults.
fn schema_of_table(text: &str, table: &Schema) -> Result<String> {
    let invalid =
        |reason: Reason| Error::invalid_input(format!("option `avro-confluent.{}`: {reason}", registry::SCHEMA));
    let given = schema::Schema::parse(text).map_err(invalid)?;
    let of_table = schema::of_table(table.fields(), Timestamps::Legacy)?;
    let made = schema::Schema::parse(&of_table).map_err(Error::internal)?;
    match given == made {
        true => Ok(text.to_owned()),
        false => Err(invalid(format!("it is not the schema of the table, which is {of_table}"))),
    }
}

#[async_trait]
impl RowWriter for RegistryWriter {
    async fn prepare(&mut self) -> Result<()> {
        if self.id.is_none() {
            self.id = Some(self.registry.register(&self.subject, &self.schema, registry::AVRO).await?);
        }
        Ok(())
    }

    fn write(
        &mut self,
        batch: &RecordBatch,
        _kinds: Option<&[RowKind]>,
        out: &mut Vec<u8>,
        ends: &mut Vec<Option<usize>>,
    ) -> Result<()> {
        let id = self.id.ok_or_else(|| Error::internal("the schema of messages was not registered"))?;
        let mut header = [MAGIC; HEADER];
        header[1..].copy_from_slice(&id.to_be_bytes());
        write_rows(&self.shapes, &header, batch, out, ends)
    }
}

#[cfg(test)]
mod tests;

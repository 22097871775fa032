//! `protobuf`: a message is one of a schema that the table's options give. `protobuf-confluent`: it begins with the id of the
//! schema that it was written by, which a Schema Registry keeps, and with the place of its message there.
//!
//! Fields are columns of their names; what the table does not have is left out.

mod read;
mod schema;
mod shape;
mod write;

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use arrow::array::RecordBatch;
use arrow::datatypes::{Fields, Schema};
use async_trait::async_trait;
use protox::prost_reflect::{FileDescriptor, MessageDescriptor};
use tereza_runtime::{Error, Result};

use super::column::Rows;
use super::registry::{self, Registry};
use super::{Bad, FormatOptions, Part, Reason, RowKind, RowReader, RowWriter, cells, json};
use read::Absent;
use shape::Shape;

pub(super) const CONFLUENT: &str = "protobuf-confluent";

const MESSAGE: &str = "message-class-name";
/// Tereza's own: there are no classes here.
const SCHEMA: &str = "schema";
const DEFAULTS: &str = "read-default-values";
const NULL_LITERAL: &str = "write-null-string-literal";

/// What every message with the id of a schema begins with.
const MAGIC: u8 = 0;
/// The place of the first message of a schema.
const FIRST: u8 = 0;
/// How deep a message may be among those of its schema.
const PATH_MAX: usize = 32;
/// Schemas of writers that are kept, and messages of them.
const SCHEMAS_MAX: usize = 1_000;

/// The message that the options name. Errors: `InvalidInput` names the option.
fn message_of(options: &FormatOptions) -> Result<MessageDescriptor> {
    options.check(&[MESSAGE, SCHEMA, json::IGNORE_PARSE_ERRORS, DEFAULTS, NULL_LITERAL])?;
    let name = options.needed(MESSAGE)?;
    let pool = schema::pool(options.needed(SCHEMA)?).map_err(|reason| {
        Error::invalid_input(format!("option `{}.{SCHEMA}`: {reason}", options.format))
            .with_hint("it is the text of a .proto file, or a set of descriptors in base64")
    })?;
    schema::message(&pool, name).ok_or_else(|| {
        let names: Vec<String> = pool.all_messages().map(|message| message.full_name().to_owned()).collect();
        let known: Vec<&str> = names.iter().map(String::as_str).filter(|name| !name.starts_with("google.")).collect();
        let error = Error::invalid_input(format!("the schema has no message `{name}`"));
        error.with_hint(match super::nearest(name, &known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("set `{}.{MESSAGE}` to one of its messages", options.format),
        })
    })
}

fn fitted(message: &MessageDescriptor, fields: &Fields) -> Result<Shape> {
    Shape::new(message, fields, true).map_err(|reason| Error::invalid_input(format!("format `protobuf`: {reason}")))
}

/// Adds the row of a message.
fn read_message(bytes: &[u8], shape: &Shape, absent: Absent, rows: &mut Rows) -> Bad {
    let (_, columns) = rows.fields();
    read::read(bytes, shape, absent, columns)?;
    rows.end_row();
    Ok(())
}

#[derive(Debug)]
pub(super) struct ProtobufReader {
    shape: Shape,
    absent: Absent,
}

impl ProtobufReader {
    /// A reader of some columns of a table. Errors: `InvalidInput` names an option or a column.
    pub(super) fn new(options: &FormatOptions, table: &Schema, read: &Schema) -> Result<Self> {
        let message = message_of(options)?;
        fitted(&message, table.fields())?;
        let is_default = options.is(DEFAULTS, false)?;
        let absent = Absent { is_default, empty_is_null: !is_default };
        Ok(Self { shape: fitted(&message, read.fields())?, absent })
    }
}

#[async_trait]
impl RowReader for ProtobufReader {
    fn read(&mut self, bytes: Option<&[u8]>, rows: &mut Rows, _kinds: &mut Vec<RowKind>) -> Bad {
        bytes.map_or(Ok(()), |bytes| read_message(bytes, &self.shape, self.absent, rows))
    }
}

#[derive(Debug)]
pub(super) struct ProtobufWriter {
    shape: Shape,
    null: String,
}

impl ProtobufWriter {
    /// A writer of rows of a table. Errors: `InvalidInput` names an option or a column, `Unsupported` a message with groups.
    pub(super) fn new(options: &FormatOptions, table: &Schema) -> Result<Self> {
        let shape = fitted(&message_of(options)?, table.fields())?;
        match shape.group() {
            Some(group) => Err(Error::unsupported(format!("writing the group `{group}`"))),
            None => Ok(Self { shape, null: options.get(NULL_LITERAL).unwrap_or_default().to_owned() }),
        }
    }
}

/// Writes all rows, each behind a header.
fn write_rows(
    shape: &Shape,
    header: &[u8],
    null: &str,
    batch: &RecordBatch,
    out: &mut Vec<u8>,
    ends: &mut Vec<Option<usize>>,
) -> Result<()> {
    cells::write_rows(batch, out, ends, |cells, row, out| {
        out.extend_from_slice(header);
        write::write_row(shape, row, cells, null, out)
            .map_err(|reason| Error::invalid_input(format!("a row cannot be written as Protobuf: {reason}")))
    })
}

#[async_trait]
impl RowWriter for ProtobufWriter {
    fn write(
        &mut self,
        batch: &RecordBatch,
        _kinds: Option<&[RowKind]>,
        out: &mut Vec<u8>,
        ends: &mut Vec<Option<usize>>,
    ) -> Result<()> {
        write_rows(&self.shape, &[], &self.null, batch, out, ends)
    }
}

/// Reads messages by the schemas that they name.
#[derive(Debug)]
pub(super) struct RegistryReader {
    registry: Registry,
    fields: Fields,
    /// Files by the ids of schemas, or why there are none.
    files: HashMap<u32, Result<FileDescriptor, Reason>>,
    /// How messages of a file are read, by the id and the place of the message.
    shapes: HashMap<(u32, Vec<usize>), Result<Shape, Reason>>,
}

impl RegistryReader {
    /// A reader of some columns. Errors: `InvalidInput` names an option, `Unsupported` an option or a column.
    pub(super) fn new(options: &FormatOptions, read: &Schema) -> Result<Self> {
        check_options(options)?;
        let (fields, files, shapes) = (read.fields().clone(), HashMap::new(), HashMap::new());
        Ok(Self { registry: Registry::new(options)?, fields, files, shapes })
    }
}

fn check_options(options: &FormatOptions) -> Result<()> {
    registry::check_options(options)?;
    match registry::option(options, registry::SCHEMA) {
        Some(_) => Err(Error::unsupported(format!("option `{}.{}`", options.format, registry::SCHEMA))),
        None => Ok(()),
    }
}

/// The id of the schema that a message names, the place of its message there, and the message.
type Parts<'a> = (u32, Vec<usize>, &'a [u8]);

fn split(bytes: &[u8]) -> Result<Parts<'_>, Reason> {
    let Some(([MAGIC, id @ ..], mut rest)) = bytes.split_at_checked(5) else {
        return Err("it does not begin with a zero byte and the id of a schema".to_owned());
    };
    let id = id.try_into().map_err(|_| "it has no id of a schema".to_owned())?;
    let no_place = || "it does not say which message of the schema it is".to_owned();
    let count = number(&mut rest).filter(|count| *count <= PATH_MAX).ok_or_else(no_place)?;
    let path = match count {
        0 => vec![usize::from(FIRST)],
        count => (0..count).map(|_| number(&mut rest)).collect::<Option<_>>().ok_or_else(no_place)?,
    };
    Ok((u32::from_be_bytes(id), path, rest))
}

/// A zig-zag number that is not negative, and takes at most five bytes.
fn number(bytes: &mut &[u8]) -> Option<usize> {
    let mut value = 0_u64;
    for shift in [0, 7, 14, 21, 28] {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return usize::try_from(value / 2).ok().filter(|_| value & 1 == 0);
        }
    }
    None
}

#[async_trait]
impl RowReader for RegistryReader {
    async fn prepare(&mut self, texts: &[&[u8]]) -> Result<()> {
        // What was not there may be there now.
        self.files.retain(|_, file| !file.as_ref().is_err_and(|reason| reason == registry::UNKNOWN));
        self.shapes.retain(|_, shape| shape.is_ok());
        for text in texts {
            let Ok((id, path, _)) = split(text) else { continue };
            if self.files.len() >= SCHEMAS_MAX && !self.files.contains_key(&id) {
                // Those of this batch that are forgotten too are fetched again for the next one at the latest.
                self.files.clear();
            }
            if self.shapes.len() >= SCHEMAS_MAX {
                self.shapes.clear();
            }
            let file = match self.files.entry(id) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => {
                    let found = self.registry.protobuf(id).await?;
                    entry.insert(found.and_then(|(text, references)| schema::compile(&text, &references)))
                }
            };
            if let Entry::Vacant(entry) = self.shapes.entry((id, path)) {
                let (_, path) = entry.key();
                let shape = file.clone().and_then(|file| {
                    let message = schema::at(&file, path).ok_or_else(|| "it has no such message".to_owned())?;
                    Shape::new(&message, &self.fields, false)
                });
                entry.insert(shape);
            }
        }
        Ok(())
    }

    fn read(&mut self, bytes: Option<&[u8]>, rows: &mut Rows, _kinds: &mut Vec<RowKind>) -> Bad {
        let Some(bytes) = bytes else { return Ok(()) };
        let (id, path, message) = split(bytes)?;
        let absent = Absent { is_default: false, empty_is_null: false };
        match self.shapes.get(&(id, path)) {
            Some(Ok(shape)) => read_message(message, shape, absent, rows),
            Some(Err(reason)) => Err(format!("schema {id}: {reason}")),
            None => Err(format!("schema {id} is one of more than {SCHEMAS_MAX} in a batch")),
        }
    }
}

/// Writes messages with the id that a registry gives to the table's schema.
#[derive(Debug)]
pub(super) struct RegistryWriter {
    registry: Registry,
    subject: String,
    schema: String,
    shape: Shape,
    id: Option<u32>,
}

impl RegistryWriter {
    /// A writer of rows of a table. Errors: `InvalidInput` names an option, also one that is needed; `Unsupported` an option
    /// or a column.
    pub(super) fn new(options: &FormatOptions, table: &Schema, part: Part, topic: Option<&str>) -> Result<Self> {
        check_options(options)?;
        let subject = registry::subject(options, part, topic)?;
        let schema = schema::of_table(table.fields())?;
        let file = schema::compile(&schema, &[])
            .map_err(|reason| Error::invalid_input(format!("the columns make no schema of Protobuf: {reason}")))?;
        let message =
            schema::at(&file, &[usize::from(FIRST)]).ok_or_else(|| Error::internal("a schema without a message"))?;
        let shape = fitted(&message, table.fields())?;
        Ok(Self { registry: Registry::new(options)?, subject, schema, shape, id: None })
    }
}

#[async_trait]
impl RowWriter for RegistryWriter {
    async fn prepare(&mut self) -> Result<()> {
        if self.id.is_none() {
            self.id = Some(self.registry.register(&self.subject, &self.schema, registry::PROTOBUF).await?);
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
        let [a, b, c, d] = id.to_be_bytes();
        write_rows(&self.shape, &[MAGIC, a, b, c, d, FIRST], "", batch, out, ends)
    }
}

#[cfg(test)]
mod tests;

//! Snapshots of operators.
//!
//! A snapshot is a base or a delta: what changed since the one before. State is restored from a chain, a base and the
//! deltas after it, oldest first; [`compact`] makes one base of a chain. What an operator writes is of three shapes:
//!
//! * *keyed* tables: entries of key group, key and value, or no value where the key is gone; the last entry of a key holds;
//! * *bucketed* tables: rows, each with a key group and a bucket, usually the end of a window. Rows are added and never
//!   changed; all buckets up to a number are dropped at once;
//! * *scalars*: numbers with a name, one of each for the whole operator.
//!
//! The bytes: [`MAGIC`], the version of the form (u16), the length of the header (u32), the header (JSON), then one Arrow
//! IPC stream for each section that the header lists, zstd inside, one after the other. Numbers are little endian. The
//! header holds the SHA-256 of what gives the state its meaning ([`super::Operator::describe`]): state of another query, or
//! of an operator that has changed, is refused.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, LargeBinaryBuilder, RecordBatch, UInt8Array};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::ipc::CompressionType;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tereza_runtime::error::{Error, Result};

pub use self::read::{Changes, Entry, StateReader, compact, is_of};
pub(crate) use self::read::{merge, span};
use super::error::failed;
use super::key::key_group;

mod read;

/// The first bytes of every snapshot.
pub const MAGIC: &[u8; 8] = b"TEREZASO";
/// The form written, and the only one read.
pub const VERSION: u16 = 1;
/// A header of more bytes is refused.
pub const HEADER_BYTES_MAX: usize = 1 << 20;
/// Snapshots in a chain, at most; whoever keeps them compacts before.
pub const CHAIN_MAX: usize = 1024;

/// Entries of a keyed table are written in batches of so many bytes.
const CHUNK_BYTES: usize = 16 << 20;
/// The scalar that holds the operator's watermark.
const WATERMARK: &str = "watermark";
const PREFIX_BYTES: usize = MAGIC.len() + 2 + 4;

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    operator: String,
    fingerprint: String,
    epoch: u64,
    /// The epoch of the snapshot this one changes; none for a base.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    after: Option<u64>,
    scalars: BTreeMap<String, i64>,
    sections: Vec<Section>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Section {
    table: String,
    shape: Shape,
    /// 0 where an earlier release wrote it.
    #[serde(default)]
    rows: u64,
    /// Buckets up to this one are dropped, those of earlier snapshots too.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    dropped: Option<i64>,
    bytes: u64,
    /// Of its bytes: Arrow's reader trusts what it is given.
    sha256: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Shape {
    Keyed,
    Bucketed,
}

/// The fingerprint of an operator, from the text of [`super::Operator::describe`].
pub fn fingerprint(description: &str) -> String {
    digest(description.as_bytes())
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

struct Keyed {
    groups: Vec<u8>,
    keys: LargeBinaryBuilder,
    values: LargeBinaryBuilder,
    bytes: usize,
    rows: u64,
    /// The batches before, none before the first.
    stream: Option<StreamWriter<Vec<u8>>>,
}

impl Keyed {
    fn new() -> Self {
        let (groups, keys, values) = (Vec::new(), LargeBinaryBuilder::new(), LargeBinaryBuilder::new());
        Self { groups, keys, values, bytes: 0, rows: 0, stream: None }
    }

    fn close_chunk(&mut self) -> Result<()> {
        if self.groups.is_empty() {
            return Ok(());
        }
        self.rows += self.groups.len() as u64;
        self.bytes = 0;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(UInt8Array::from(std::mem::take(&mut self.groups))),
            Arc::new(self.keys.finish()),
            Arc::new(self.values.finish()),
        ];
        let chunk = RecordBatch::try_new(Arc::new(keyed_schema()), columns).map_err(failed)?;
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => self.stream.insert(stream_of(&chunk.schema())?),
        };
        stream.write(&chunk).map_err(failed)
    }
}

fn keyed_schema() -> Schema {
    Schema::new(vec![
        Field::new("group", DataType::UInt8, false),
        Field::new("key", DataType::LargeBinary, false),
        Field::new("value", DataType::LargeBinary, true),
    ])
}

#[derive(Debug, Default)]
struct Bucketed {
    batches: Vec<RecordBatch>,
    dropped: Option<i64>,
}

/// Collects what an operator writes.
pub struct SnapshotWriter {
    header: Header,
    keyed: BTreeMap<String, Keyed>,
    bucketed: BTreeMap<String, Bucketed>,
}

impl fmt::Debug for SnapshotWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotWriter").field("header", &self.header).finish_non_exhaustive()
    }
}

impl SnapshotWriter {
    /// A snapshot of `epoch`; a base if it is `after` no other.
    pub fn new(operator: &str, description: &str, epoch: u64, after: Option<u64>) -> Self {
        Self::with_fingerprint(operator.to_owned(), fingerprint(description), epoch, after)
    }

    fn with_fingerprint(operator: String, fingerprint: String, epoch: u64, after: Option<u64>) -> Self {
        let (scalars, sections) = (BTreeMap::new(), Vec::new());
        let header = Header { operator, fingerprint, epoch, after, scalars, sections };
        Self { header, keyed: BTreeMap::new(), bucketed: BTreeMap::new() }
    }

    /// Sets a number of the operator.
    pub fn scalar(&mut self, name: &str, value: i64) {
        self.header.scalars.insert(name.to_owned(), value);
    }

    /// Sets the operator's watermark.
    pub fn watermark(&mut self, watermark: i64) {
        self.scalar(WATERMARK, watermark);
    }

    /// An entry of a keyed table. `group_key` is the key that decides the group: `key` itself or a part of it.
    pub fn entry(&mut self, table: &str, group_key: &[u8], key: &[u8], value: Option<&[u8]>) -> Result<()> {
        self.grouped_entry(table, key_group(group_key), key, value)
    }

    fn grouped_entry(&mut self, table: &str, group: u8, key: &[u8], value: Option<&[u8]>) -> Result<()> {
        if !self.keyed.contains_key(table) {
            self.keyed.insert(table.to_owned(), Keyed::new());
        }
        let Some(keyed) = self.keyed.get_mut(table) else { return Ok(()) };
        keyed.groups.push(group);
        keyed.keys.append_value(key);
        keyed.values.append_option(value);
        keyed.bytes += key.len() + value.map_or(0, <[u8]>::len) + 17;
        if keyed.bytes >= CHUNK_BYTES { keyed.close_chunk() } else { Ok(()) }
    }

    /// Rows of a bucketed table, with the group and the bucket of each.
    pub fn rows(&mut self, table: &str, rows: &RecordBatch, groups: Vec<u8>, buckets: Vec<i64>) -> Result<()> {
        let mut fields = vec![
            Arc::new(Field::new("group", DataType::UInt8, false)),
            Arc::new(Field::new("bucket", DataType::Int64, false)),
        ];
        fields.extend(rows.schema().fields().iter().cloned());
        let mut columns: Vec<ArrayRef> = vec![Arc::new(UInt8Array::from(groups)), Arc::new(Int64Array::from(buckets))];
        columns.extend(rows.columns().iter().cloned());
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(failed)?;
        self.bucketed.entry(table.to_owned()).or_default().batches.push(batch);
        Ok(())
    }

    /// Drops all buckets of a bucketed table up to `through`.
    pub fn drop_through(&mut self, table: &str, through: i64) {
        self.bucketed.entry(table.to_owned()).or_default().dropped = Some(through);
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.header.scalars.is_empty() && self.keyed.is_empty() && self.bucketed.is_empty()
    }

    /// The snapshot's bytes.
    pub fn finish(mut self) -> Result<Vec<u8>> {
        let mut streams = Vec::new();
        for (table, mut keyed) in self.keyed {
            keyed.close_chunk()?;
            let stream = keyed.stream.map_or(Ok(Vec::new()), StreamWriter::into_inner).map_err(failed)?;
            let (bytes, sha256) = (stream.len() as u64, digest(&stream));
            let (shape, rows, dropped) = (Shape::Keyed, keyed.rows, None);
            self.header.sections.push(Section { table, shape, rows, dropped, bytes, sha256 });
            streams.push(stream);
        }
        for (table, Bucketed { batches, dropped }) in self.bucketed {
            let stream = write_stream(&batches)?;
            let (bytes, sha256) = (stream.len() as u64, digest(&stream));
            let (shape, rows) = (Shape::Bucketed, batches.iter().map(|batch| batch.num_rows() as u64).sum());
            self.header.sections.push(Section { table, shape, rows, dropped, bytes, sha256 });
            streams.push(stream);
        }
        let header = serde_json::to_vec(&self.header).map_err(|error| Error::internal(error.to_string()))?;
        if header.len() > HEADER_BYTES_MAX {
            return Err(Error::resource_exhausted(format!(
                "the header of a snapshot of {} has {} bytes, more than {HEADER_BYTES_MAX}",
                self.header.operator,
                header.len()
            )));
        }
        let mut bytes = Vec::with_capacity(PREFIX_BYTES + header.len() + streams.iter().map(Vec::len).sum::<usize>());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&(header.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&header);
        streams.iter().for_each(|stream| bytes.extend_from_slice(stream));
        Ok(bytes)
    }
}

fn stream_of(schema: &Schema) -> Result<StreamWriter<Vec<u8>>> {
    let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::ZSTD)).map_err(failed)?;
    StreamWriter::try_new_with_options(Vec::new(), schema, options).map_err(failed)
}

/// Batches of one schema as one stream; no batches are no bytes.
fn write_stream(batches: &[RecordBatch]) -> Result<Vec<u8>> {
    let Some(first) = batches.first() else { return Ok(Vec::new()) };
    let mut writer = stream_of(&first.schema())?;
    for batch in batches {
        writer.write(batch).map_err(failed)?;
    }
    writer.into_inner().map_err(failed)
}

/// Names, types and nullability of columns, without their metadata.
pub(crate) fn columns_text(schema: &Schema) -> String {
    let column = |field: &Arc<Field>| {
        format!("{:?} {}{}", field.name(), field.data_type(), if field.is_nullable() { "" } else { " NOT NULL" })
    };
    schema.fields().iter().map(column).collect::<Vec<_>>().join(", ")
}

/// Joins parts to one key that can be taken apart again: the length of the first part (u32), the first, the second.
pub(crate) fn joined_key(first: &[u8], second: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(4 + first.len() + second.len());
    key.extend_from_slice(&(first.len() as u32).to_le_bytes());
    key.extend_from_slice(first);
    key.extend_from_slice(second);
    key
}

/// The parts of a [`joined_key`].
pub(crate) fn split_key(key: &[u8]) -> Result<(&[u8], &[u8])> {
    let parts = key
        .split_first_chunk::<4>()
        .and_then(|(length, rest)| rest.split_at_checked(u32::from_le_bytes(*length) as usize));
    parts.ok_or_else(truncated)
}

/// Takes a number from the front of a value.
pub(crate) fn take_i64(bytes: &mut &[u8]) -> Result<i64> {
    take::<8>(bytes).map(i64::from_le_bytes)
}

/// Takes `N` bytes from the front of a value.
pub(crate) fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk::<N>().ok_or_else(truncated)?;
    *bytes = rest;
    Ok(*first)
}

/// Appends bytes with their length (u32).
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Takes bytes that [`put_bytes`] appended.
pub(crate) fn take_bytes<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8]> {
    let length = u32::from_le_bytes(take::<4>(bytes)?) as usize;
    let (first, rest) = bytes.split_at_checked(length).ok_or_else(truncated)?;
    *bytes = rest;
    Ok(first)
}

fn truncated() -> Error {
    Error::invalid_input("an entry of stream state is cut off")
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;

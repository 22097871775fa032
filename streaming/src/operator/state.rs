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

use std::collections::{BTreeMap, HashSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, LargeBinaryArray, LargeBinaryBuilder, RecordBatch, UInt8Array,
};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, UInt8Type};
use arrow::ipc::CompressionType;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tereza_runtime::error::{Error, Result};

use super::WATERMARK_MIN;
use super::error::failed;
use super::key::{BuildKeyHasher, key_group};

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

#[derive(Debug)]
struct Keyed {
    groups: Vec<u8>,
    keys: LargeBinaryBuilder,
    values: LargeBinaryBuilder,
    bytes: usize,
    chunks: Vec<RecordBatch>,
}

impl Keyed {
    fn new() -> Self {
        let (groups, keys, values) = (Vec::new(), LargeBinaryBuilder::new(), LargeBinaryBuilder::new());
        Self { groups, keys, values, bytes: 0, chunks: Vec::new() }
    }

    fn close_chunk(&mut self) -> Result<()> {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(UInt8Array::from(std::mem::take(&mut self.groups))),
            Arc::new(self.keys.finish()),
            Arc::new(self.values.finish()),
        ];
        self.bytes = 0;
        self.chunks.push(RecordBatch::try_new(Arc::new(keyed_schema()), columns).map_err(failed)?);
        Ok(())
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
#[derive(Debug)]
pub struct SnapshotWriter {
    header: Header,
    keyed: BTreeMap<String, Keyed>,
    bucketed: BTreeMap<String, Bucketed>,
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
            let stream = write_stream(&keyed.chunks)?;
            let (bytes, sha256) = (stream.len() as u64, digest(&stream));
            self.header.sections.push(Section { table, shape: Shape::Keyed, dropped: None, bytes, sha256 });
            streams.push(stream);
        }
        for (table, Bucketed { batches, dropped }) in self.bucketed {
            let stream = write_stream(&batches)?;
            let (bytes, sha256) = (stream.len() as u64, digest(&stream));
            self.header.sections.push(Section { table, shape: Shape::Bucketed, dropped, bytes, sha256 });
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

/// Batches of one schema as one stream; no batches are no bytes.
fn write_stream(batches: &[RecordBatch]) -> Result<Vec<u8>> {
    let Some(first) = batches.first() else { return Ok(Vec::new()) };
    let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::ZSTD)).map_err(failed)?;
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), &first.schema(), options).map_err(failed)?;
    for batch in batches {
        writer.write(batch).map_err(failed)?;
    }
    writer.into_inner().map_err(failed)
}

/// One snapshot, read.
struct Snapshot {
    header: Header,
    streams: Vec<Vec<RecordBatch>>,
}

fn damaged(what: &str) -> Error {
    Error::invalid_input(format!("a snapshot of stream state is damaged: {what}"))
}

/// The header of a snapshot, and the bytes after it.
fn read_header(bytes: &[u8]) -> Result<(Header, &[u8])> {
    let rest = bytes.strip_prefix(MAGIC.as_slice()).ok_or_else(|| damaged("its first bytes are others"))?;
    let (version, rest) = rest.split_first_chunk::<2>().ok_or_else(|| damaged("it ends in its prefix"))?;
    let version = u16::from_le_bytes(*version);
    if version != VERSION {
        return Err(Error::unsupported(format!("a snapshot of form {version}; this release reads form {VERSION}")));
    }
    let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(|| damaged("it ends in its prefix"))?;
    let length = u32::from_le_bytes(*length) as usize;
    if length > HEADER_BYTES_MAX || length > rest.len() {
        return Err(damaged("its header is too long"));
    }
    let (header, rest) = rest.split_at(length);
    Ok((serde_json::from_slice(header).map_err(|error| damaged(&error.to_string()))?, rest))
}

impl Snapshot {
    fn read(bytes: &[u8]) -> Result<Self> {
        let (header, mut rest) = read_header(bytes)?;
        let mut streams = Vec::with_capacity(header.sections.len());
        for section in &header.sections {
            let length = usize::try_from(section.bytes).ok().filter(|length| *length <= rest.len());
            let (stream, after) = rest.split_at(length.ok_or_else(|| damaged("it ends in a section"))?);
            rest = after;
            if digest(stream) != section.sha256 {
                return Err(damaged("a section has other bytes"));
            }
            let batches = read_stream(stream).map_err(|error| damaged(error.message()))?;
            let first = match section.shape {
                Shape::Keyed => keyed_schema().fields().iter().map(|field| field.data_type().clone()).collect(),
                Shape::Bucketed => vec![DataType::UInt8, DataType::Int64],
            };
            for batch in &batches {
                let schema = batch.schema();
                let types = schema.fields().iter().map(|field| field.data_type());
                if batch.num_columns() < first.len() || !types.zip(&first).all(|(left, right)| left == right) {
                    return Err(damaged("a section has other columns"));
                }
            }
            streams.push(batches);
        }
        if !rest.is_empty() {
            return Err(damaged("bytes follow its last section"));
        }
        Ok(Self { header, streams })
    }
}

fn read_stream(bytes: &[u8]) -> Result<Vec<RecordBatch>> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let reader = StreamReader::try_new(bytes, None).map_err(failed)?;
    reader.collect::<Result<Vec<_>, _>>().map_err(failed)
}

/// The epoch of the snapshot that this one changes, none for a base, and its own.
pub(crate) fn span(bytes: &[u8]) -> Result<(Option<u64>, u64)> {
    let (header, _) = read_header(bytes)?;
    Ok((header.after, header.epoch))
}

/// Whether a snapshot is of an operator that describes itself so.
pub fn is_of(description: &str, snapshot: &[u8]) -> Result<bool> {
    Ok(read_header(snapshot)?.0.fingerprint == fingerprint(description))
}

/// The state in one or several chains of snapshots: several where the tasks before had a part of the keys each.
#[derive(Debug, Default)]
pub struct StateReader {
    operator: String,
    fingerprint: String,
    epoch: u64,
    scalars: BTreeMap<String, Vec<i64>>,
    keyed: BTreeMap<String, Vec<RecordBatch>>,
    /// How many of the batches of a keyed table are those of its oldest snapshot, which has each key once, but for one that went
    /// and came back; 0 if there are several chains.
    oldest: BTreeMap<String, usize>,
    bucketed: BTreeMap<String, Vec<RecordBatch>>,
    dropped: BTreeMap<String, i64>,
}

/// A live entry of a keyed table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The key's group.
    pub group: u8,
    /// The key.
    pub key: &'a [u8],
    /// Its value.
    pub value: &'a [u8],
}

/// A batch of a keyed table.
struct KeyedBatch<'a> {
    groups: &'a UInt8Array,
    keys: &'a LargeBinaryArray,
    /// NULL where the key is gone.
    values: &'a LargeBinaryArray,
}

impl<'a> KeyedBatch<'a> {
    /// `batch` has the columns of [`keyed_schema`].
    fn new(batch: &'a RecordBatch) -> Self {
        let [groups, keys, values] = [0, 1, 2].map(|column| batch.column(column));
        Self { groups: groups.as_primitive(), keys: keys.as_binary(), values: values.as_binary() }
    }

    fn len(&self) -> usize {
        self.keys.len()
    }
}

/// The live entries of a keyed table, the oldest first.
pub struct Entries<'a> {
    batches: Vec<KeyedBatch<'a>>,
    /// Batch and row of each.
    rows: Vec<(u32, u32)>,
}

impl<'a> Entries<'a> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// One after the other.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Entry<'a>> + '_ {
        self.rows.iter().map(|(batch, row)| {
            let (batch, row) = (&self.batches[*batch as usize], *row as usize);
            Entry { group: batch.groups.value(row), key: batch.keys.value(row), value: batch.values.value(row) }
        })
    }
}

impl StateReader {
    /// Reads chains, each a base and the deltas after it, oldest first, and keeps the key groups in `groups`.
    ///
    /// Errors: `InvalidInput` for damaged bytes, a chain with a gap, or state of another operator; `Unsupported` for
    /// another form.
    pub fn open<B: AsRef<[u8]>>(description: &str, chains: &[Vec<B>], groups: RangeInclusive<u8>) -> Result<Self> {
        let mut state = Self { fingerprint: fingerprint(description), ..Self::default() };
        for chain in chains {
            state.read_chain(chain, None, &groups)?;
        }
        if chains.len() > 1 {
            state.oldest.clear();
        }
        Ok(state)
    }

    /// Reads a chain that begins after the snapshot of epoch `before`, or with a base.
    fn read_chain<B: AsRef<[u8]>>(
        &mut self,
        chain: &[B],
        mut before: Option<u64>,
        groups: &RangeInclusive<u8>,
    ) -> Result<()> {
        if chain.len() > CHAIN_MAX {
            return Err(Error::resource_exhausted(format!(
                "a chain of {} snapshots, more than {CHAIN_MAX}",
                chain.len()
            )));
        }
        let mut scalars = BTreeMap::new();
        let mut bucketed: BTreeMap<String, Vec<RecordBatch>> = BTreeMap::new();
        let mut dropped: BTreeMap<String, i64> = BTreeMap::new();
        for bytes in chain {
            let Snapshot { header, streams } = Snapshot::read(bytes.as_ref())?;
            if header.fingerprint != self.fingerprint {
                return Err(Error::invalid_input(format!(
                    "the state of {} at epoch {} was written by another query: its fingerprint is {}, not {}",
                    header.operator, header.epoch, header.fingerprint, self.fingerprint
                ))
                .with_hint("start the job without its state, or with the query it had"));
            }
            if header.after != before || before.is_some_and(|before| header.epoch <= before) {
                return Err(Error::invalid_input(format!(
                    "the snapshot of {} at epoch {} follows epoch {:?}, but the one before it has epoch {before:?}",
                    header.operator, header.epoch, header.after
                )));
            }
            before = Some(header.epoch);
            self.operator = header.operator;
            self.epoch = self.epoch.max(header.epoch);
            scalars.extend(header.scalars);
            for (section, batches) in header.sections.into_iter().zip(streams) {
                let kept = batches.iter().map(|batch| in_groups(batch, groups)).collect::<Result<Vec<_>>>()?;
                match section.shape {
                    Shape::Keyed => {
                        self.oldest.entry(section.table.clone()).or_insert(kept.len());
                        self.keyed.entry(section.table).or_default().extend(kept);
                    }
                    Shape::Bucketed => {
                        if let Some(through) = section.dropped {
                            let known = dropped.entry(section.table.clone()).or_insert(through);
                            *known = through.max(*known);
                        }
                        bucketed.entry(section.table).or_default().extend(kept);
                    }
                }
            }
        }
        for (table, batches) in bucketed {
            let through = dropped.get(&table).copied().unwrap_or(i64::MIN);
            let live = self.bucketed.entry(table).or_default();
            for batch in batches {
                let buckets = batch.column(1).as_primitive::<Int64Type>();
                let keep: BooleanArray =
                    buckets.iter().map(|bucket| Some(bucket.unwrap_or(i64::MAX) > through)).collect();
                let batch = filter_record_batch(&batch, &keep).map_err(failed)?;
                if batch.num_rows() > 0 {
                    live.push(batch);
                }
            }
        }
        for (table, through) in dropped {
            let known = self.dropped.entry(table).or_insert(through);
            *known = through.max(*known);
        }
        for (name, value) in scalars {
            self.scalars.entry(name).or_default().push(value);
        }
        Ok(())
    }

    /// The epoch of the newest snapshot.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The largest number of this name over the chains.
    pub fn scalar_max(&self, name: &str) -> Option<i64> {
        self.scalars.get(name)?.iter().max().copied()
    }

    /// The watermark that the snapshots hold. Tasks that stopped at different ones cannot be brought together: some have
    /// emitted what others have not.
    pub fn watermark(&self) -> Result<i64> {
        match self.scalars.get(WATERMARK).map_or(&[][..], Vec::as_slice) {
            [] => Ok(WATERMARK_MIN),
            [first, rest @ ..] if rest.iter().all(|other| other == first) => Ok(*first),
            different => Err(Error::invalid_input(format!(
                "the tasks of {} stopped at different watermarks: {different:?}",
                self.operator
            ))),
        }
    }

    /// The live entries of a keyed table.
    pub fn entries(&self, table: &str) -> Entries<'_> {
        let batches = self.keyed.get(table).map_or(&[][..], Vec::as_slice);
        let batches: Vec<KeyedBatch<'_>> = batches.iter().map(KeyedBatch::new).collect();
        let mut rows = Vec::with_capacity(self.rows_of(table));
        self.latest(table, &batches, |batch, row| {
            if batches[batch].values.is_valid(row) {
                rows.push((batch as u32, row as u32));
            }
        });
        rows.reverse();
        Entries { batches, rows }
    }

    /// Rows of a keyed table, latest or not.
    fn rows_of(&self, table: &str) -> usize {
        self.keyed.get(table).into_iter().flatten().map(RecordBatch::num_rows).sum()
    }

    /// Visits the latest of each key of a keyed table by its batch and row, the newest first, also where the key is gone. Of the
    /// oldest snapshot, keys that are gone are visited too if they are there again.
    fn latest<'a>(&'a self, table: &str, batches: &[KeyedBatch<'a>], mut visit: impl FnMut(usize, usize)) {
        let oldest = self.oldest.get(table).copied().unwrap_or_default();
        let newer: usize = batches.iter().skip(oldest).map(KeyedBatch::len).sum();
        let mut seen: HashSet<&[u8], BuildKeyHasher> = HashSet::default();
        seen.reserve(newer);
        for (place, batch) in batches.iter().enumerate().rev() {
            for row in (0..batch.len()).rev() {
                let key = batch.keys.value(row);
                // What is large needs no set of its keys.
                let is_latest = match place < oldest {
                    true => seen.is_empty() || !seen.contains(key),
                    false => seen.insert(key),
                };
                if is_latest {
                    visit(place, row);
                }
            }
        }
    }

    /// The live rows of a bucketed table, as they were written.
    pub fn rows(&self, table: &str) -> Result<Vec<RecordBatch>> {
        self.bucketed
            .get(table)
            .into_iter()
            .flatten()
            .map(|batch| batch.project(&(2..batch.num_columns()).collect::<Vec<_>>()).map_err(failed))
            .collect()
    }
}

fn in_groups(batch: &RecordBatch, groups: &RangeInclusive<u8>) -> Result<RecordBatch> {
    if *groups == (0..=u8::MAX) {
        return Ok(batch.clone());
    }
    let of = batch.column(0).as_primitive::<UInt8Type>();
    let keep: BooleanArray = of.iter().map(|group| Some(group.is_some_and(|group| groups.contains(&group)))).collect();
    filter_record_batch(batch, &keep).map_err(failed)
}

/// One base that holds what chains do of some key groups: for a long chain, and for tasks that share the keys anew.
pub fn compact<B: AsRef<[u8]>>(description: &str, chains: &[Vec<B>], groups: RangeInclusive<u8>) -> Result<Vec<u8>> {
    let state = StateReader::open(description, chains, groups)?;
    state.watermark()?;
    state.into_snapshot(None)
}

/// One delta that holds what consecutive ones do of some key groups.
pub(crate) fn merge<B: AsRef<[u8]>>(description: &str, deltas: &[B], groups: RangeInclusive<u8>) -> Result<Vec<u8>> {
    let Some(first) = deltas.first() else { return Err(Error::internal("no snapshots to merge")) };
    let (after, _) = span(first.as_ref())?;
    let mut state = StateReader { fingerprint: fingerprint(description), ..StateReader::default() };
    state.read_chain(deltas, after, &groups)?;
    state.into_snapshot(after)
}

impl StateReader {
    /// One snapshot of all of it, after another one; a base if there is none before.
    fn into_snapshot(self, after: Option<u64>) -> Result<Vec<u8>> {
        let (operator, fingerprint) = (self.operator.clone(), self.fingerprint.clone());
        let mut writer = SnapshotWriter::with_fingerprint(operator, fingerprint, self.epoch, after);
        for name in self.scalars.keys() {
            if let Some(value) = self.scalar_max(name) {
                writer.scalar(name, value);
            }
        }
        for table in self.keyed.keys() {
            let batches = self.keyed.get(table).map_or(&[][..], Vec::as_slice);
            let batches: Vec<KeyedBatch<'_>> = batches.iter().map(KeyedBatch::new).collect();
            let mut rows = Vec::with_capacity(self.rows_of(table));
            self.latest(table, &batches, |batch, row| rows.push((batch as u32, row as u32)));
            for (batch, row) in rows.into_iter().rev() {
                let (batch, row) = (&batches[batch as usize], row as usize);
                let value = batch.values.is_valid(row).then(|| batch.values.value(row));
                if value.is_some() || after.is_some() {
                    writer.grouped_entry(table, batch.groups.value(row), batch.keys.value(row), value)?;
                }
            }
        }
        for (table, batches) in self.bucketed {
            writer.bucketed.entry(table).or_default().batches = batches;
        }
        for (table, through) in self.dropped {
            writer.drop_through(&table, through);
        }
        writer.finish()
    }
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

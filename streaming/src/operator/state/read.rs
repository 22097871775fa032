//! Reading snapshots back.
//!
//! Keyed tables are read when their entries are asked for, a batch at a time and ahead of who takes them, so that state is not in memory
//! twice while it is restored. Who can put a value in the place of another takes all that snapshots say, in their order; for others, and
//! where snapshots are merged, the keys of all but the oldest snapshot are gathered first.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::mpsc::sync_channel;
use std::thread;

use arrow::array::{Array, AsArray, BooleanArray, LargeBinaryArray, RecordBatch, UInt8Array};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Int64Type, UInt8Type};
use arrow::ipc::reader::StreamReader;
use bytes::Bytes;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Slot;
use tereza_runtime::error::{Error, Result};

use super::super::WATERMARK_MIN;
use super::super::error::failed;
use super::super::index::{by_bucket, part_of_hash, spread};
use super::super::key::KEY_GROUPS;
use super::{
    CHAIN_MAX, HEADER_BYTES_MAX, Header, MAGIC, Section, Shape, SnapshotWriter, VERSION, WATERMARK, digest,
    fingerprint, keyed_schema,
};

/// Streams of fewer bytes are read by who takes them.
const AHEAD_BYTES_MIN: usize = 1 << 20;
/// Batches that wait to be taken.
const AHEAD_BATCHES: usize = 1;

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

/// The epoch of the snapshot that this one changes, none for a base, and its own.
pub(crate) fn span(bytes: &[u8]) -> Result<(Option<u64>, u64)> {
    let (header, _) = read_header(bytes)?;
    Ok((header.after, header.epoch))
}

/// Whether a snapshot is of an operator that describes itself so.
pub fn is_of(description: &str, snapshot: &[u8]) -> Result<bool> {
    Ok(read_header(snapshot)?.0.fingerprint == fingerprint(description))
}

/// One section of a snapshot: what the header says of it, and its bytes.
#[derive(Debug)]
struct Stream {
    section: Section,
    bytes: Bytes,
}

/// The header of a snapshot and its sections.
fn read_snapshot(bytes: &Bytes) -> Result<(Header, Vec<Stream>)> {
    let (mut header, rest) = read_header(bytes)?;
    let mut rest = bytes.slice_ref(rest);
    let mut streams = Vec::with_capacity(header.sections.len());
    for section in std::mem::take(&mut header.sections) {
        let length = usize::try_from(section.bytes).ok().filter(|length| *length <= rest.len());
        let bytes = rest.split_to(length.ok_or_else(|| damaged("it ends in a section"))?);
        streams.push(Stream { section, bytes });
    }
    match rest.is_empty() {
        true => Ok((header, streams)),
        false => Err(damaged("bytes follow its last section")),
    }
}

impl Stream {
    /// Gives all batches to `visit`, one after the other.
    fn each(&self, mut visit: impl FnMut(RecordBatch) -> Result<()>) -> Result<()> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        if self.bytes.len() < AHEAD_BYTES_MIN {
            return self.batches()?.try_for_each(|batch| visit(batch?));
        }
        thread::scope(|scope| {
            let (sender, receiver) = sync_channel(AHEAD_BATCHES);
            let ahead = thread::Builder::new().spawn_scoped(scope, move || match self.batches() {
                // Nobody takes them after an error.
                Ok(mut batches) => _ = batches.try_for_each(|batch| sender.send(batch)),
                Err(error) => _ = sender.send(Err(error)),
            });
            match ahead {
                Ok(_) => receiver.into_iter().try_for_each(|batch| visit(batch?)),
                // The system has no thread to give.
                Err(_) => self.batches()?.try_for_each(|batch| visit(batch?)),
            }
        })
    }

    fn batches(&self) -> Result<impl Iterator<Item = Result<RecordBatch>>> {
        // Arrow's reader trusts what it is given.
        if digest(&self.bytes) != self.section.sha256 {
            return Err(damaged("a section has other bytes"));
        }
        let first: Vec<DataType> = match self.section.shape {
            Shape::Keyed => keyed_schema().fields().iter().map(|field| field.data_type().clone()).collect(),
            Shape::Bucketed => vec![DataType::UInt8, DataType::Int64],
        };
        let reader = StreamReader::try_new(&self.bytes[..], None).map_err(|error| damaged(&error.to_string()))?;
        Ok(reader.map(move |batch| {
            let batch = batch.map_err(|error| damaged(&error.to_string()))?;
            let schema = batch.schema();
            let types = schema.fields().iter().map(|field| field.data_type());
            match batch.num_columns() >= first.len() && types.zip(&first).all(|(left, right)| left == right) {
                true => Ok(batch),
                false => Err(damaged("a section has other columns")),
            }
        }))
    }

    /// The batches, of these key groups.
    fn read(&self, groups: &RangeInclusive<u8>) -> Result<Vec<RecordBatch>> {
        let mut batches = Vec::new();
        self.each(|batch| {
            batches.push(in_groups(&batch, groups)?);
            Ok(())
        })?;
        Ok(batches)
    }
}

/// The state in one or several chains of snapshots: several where the tasks before had a part of the keys each.
#[derive(Debug)]
pub struct StateReader {
    operator: String,
    fingerprint: String,
    epoch: u64,
    groups: RangeInclusive<u8>,
    scalars: BTreeMap<String, Vec<i64>>,
    /// What snapshots have of keyed tables, the oldest first.
    keyed: BTreeMap<String, Vec<Stream>>,
    /// Whether they are of one chain. Its oldest has each key once, but for one that went and came back.
    is_one: bool,
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
#[derive(Debug)]
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

    fn hashes(&self) -> Vec<u32> {
        (0..self.keys.len()).map(|row| part_of_hash(self.keys.value(row))).collect()
    }
}

/// Changes of a keyed table, in their order.
#[derive(Debug)]
pub struct Changes<'a>(KeyedBatch<'a>);

impl<'a> Changes<'a> {
    /// How many they are.
    pub fn len(&self) -> usize {
        self.0.keys.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The key of a change.
    pub fn key(&self, place: usize) -> &'a [u8] {
        self.0.keys.value(place)
    }

    /// The value that the key gets; none if it goes.
    pub fn value(&self, place: usize) -> Option<&'a [u8]> {
        self.0.values.is_valid(place).then(|| self.0.values.value(place))
    }
}

/// The keys of several batches.
struct Keys<'a> {
    batches: Vec<KeyedBatch<'a>>,
    found: HashTable<Found>,
}

/// Where a key is.
struct Found {
    hash: u32,
    batch: u32,
    row: u32,
}

impl<'a> Keys<'a> {
    /// The keys of `batches`, and the rows of each, ascending, that are the last ones of their keys.
    fn of(batches: Vec<KeyedBatch<'a>>) -> (Self, Vec<Vec<u32>>) {
        let rows = batches.iter().map(|batch| batch.keys.len()).sum();
        let mut keys = Self { batches, found: HashTable::with_capacity(rows) };
        let mut last: Vec<Vec<u32>> = (0..keys.batches.len()).rev().map(|batch| keys.add(batch)).collect();
        last.reverse();
        (keys, last)
    }

    /// Adds the keys of a batch; returns the last rows of those that were not there, ascending.
    fn add(&mut self, at: usize) -> Vec<u32> {
        let Self { batches, found } = self;
        let batch = &batches[at];
        let hashes = batch.hashes();
        let last = (hashes.len() as u32).wrapping_sub(1);
        let mut new = Vec::new();
        for place in by_bucket(hashes.iter().rev().copied(), found.num_buckets()) {
            let row = last - place;
            let (hash, key) = (hashes[row as usize], batch.keys.value(row as usize));
            let is_same = |found: &Found| found.hash == hash && key_at(batches, found) == key;
            if let Slot::Vacant(slot) = found.entry(spread(hash), is_same, |found| spread(found.hash)) {
                slot.insert(Found { hash, batch: at as u32, row });
                new.push(row);
            }
        }
        new.sort_unstable();
        new
    }

    /// The rows of another batch, ascending, whose keys are not among these.
    fn others(&self, batch: &KeyedBatch<'_>) -> Vec<u32> {
        if self.found.is_empty() {
            return (0..batch.keys.len() as u32).collect();
        }
        let hashes = batch.hashes();
        let mut others = by_bucket(hashes.iter().copied(), self.found.num_buckets());
        others.retain(|row| {
            let (hash, key) = (hashes[*row as usize], batch.keys.value(*row as usize));
            let is_same = |found: &Found| found.hash == hash && key_at(&self.batches, found) == key;
            self.found.find(spread(hash), is_same).is_none()
        });
        others.sort_unstable();
        others
    }
}

fn key_at<'a>(batches: &[KeyedBatch<'a>], found: &Found) -> &'a [u8] {
    batches[found.batch as usize].keys.value(found.row as usize)
}

impl StateReader {
    fn new(description: &str, groups: RangeInclusive<u8>) -> Self {
        Self {
            operator: String::new(),
            fingerprint: fingerprint(description),
            epoch: 0,
            groups,
            scalars: BTreeMap::new(),
            keyed: BTreeMap::new(),
            is_one: true,
            bucketed: BTreeMap::new(),
            dropped: BTreeMap::new(),
        }
    }

    /// Reads chains, each a base and the deltas after it, oldest first, and keeps the key groups in `groups`.
    ///
    /// Errors: `InvalidInput` for damaged bytes, a chain with a gap, or state of another operator; `Unsupported` for
    /// another form.
    pub fn open<B>(description: &str, chains: &[Vec<B>], groups: RangeInclusive<u8>) -> Result<Self>
    where
        B: Clone + Into<Bytes>,
    {
        let mut state = Self::new(description, groups);
        state.is_one = chains.len() == 1;
        for chain in chains {
            state.read_chain(chain, None)?;
        }
        Ok(state)
    }

    /// Reads a chain that begins after the snapshot of epoch `before`, or with a base.
    fn read_chain<B>(&mut self, chain: &[B], mut before: Option<u64>) -> Result<()>
    where
        B: Clone + Into<Bytes>,
    {
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
            let (header, streams) = read_snapshot(&bytes.clone().into())?;
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
            for stream in streams {
                let table = stream.section.table.clone();
                match stream.section.shape {
                    Shape::Keyed => self.keyed.entry(table).or_default().push(stream),
                    Shape::Bucketed => {
                        if let Some(through) = stream.section.dropped {
                            let known = dropped.entry(table.clone()).or_insert(through);
                            *known = through.max(*known);
                        }
                        bucketed.entry(table).or_default().extend(stream.read(&self.groups)?);
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

    /// Visits the live entries of a keyed table, the oldest first.
    ///
    /// Errors: `InvalidInput` for damaged bytes, and those of `visit`, which end the visit.
    pub fn each(&self, table: &str, mut visit: impl FnMut(Entry<'_>) -> Result<()>) -> Result<()> {
        self.latest(table, |batch, rows| {
            for row in rows.into_iter().map(|row| row as usize).filter(|row| batch.values.is_valid(*row)) {
                let (group, key, value) = (batch.groups.value(row), batch.keys.value(row), batch.values.value(row));
                visit(Entry { group, key, value })?;
            }
            Ok(())
        })
    }

    /// Visits all that snapshots say of a keyed table, in their order, many at a time: what comes later of a key holds. That is faster
    /// than [`StateReader::each`], and takes less memory, for who can put a value in the place of another.
    ///
    /// Errors: as [`StateReader::each`].
    pub fn replay(&self, table: &str, mut visit: impl FnMut(Changes<'_>) -> Result<()>) -> Result<()> {
        for stream in self.keyed.get(table).into_iter().flatten() {
            stream.each(|batch| visit(Changes(KeyedBatch::new(&in_groups(&batch, &self.groups)?))))?;
        }
        Ok(())
    }

    /// About how many entries a keyed table has: the share of the key groups in what was written, 0 where that is not known. What
    /// takes room for them is not to count it.
    pub fn entries_about(&self, table: &str) -> usize {
        let share = self.groups.clone().count();
        // What a header says is not believed beyond what its bytes may hold.
        let rows = |of: &Stream| usize::try_from(of.section.rows).map_or(0, |rows| rows.min(of.bytes.len()));
        self.keyed.get(table).into_iter().flatten().map(|of| rows(of) * share / KEY_GROUPS).sum()
    }

    /// Visits the last row of each key of a keyed table, a batch at a time, the oldest first, also where the key is gone. Of the
    /// oldest snapshot, keys that are gone are visited too if they are there again.
    fn latest(&self, table: &str, mut visit: impl FnMut(&KeyedBatch<'_>, Vec<u32>) -> Result<()>) -> Result<()> {
        let streams = self.keyed.get(table).map_or(&[][..], Vec::as_slice);
        let (oldest, newer) = if self.is_one { streams.split_at(streams.len().min(1)) } else { (&[][..], streams) };
        let newer = newer.iter().map(|stream| stream.read(&self.groups)).collect::<Result<Vec<_>>>()?.concat();
        let (keys, last) = Keys::of(newer.iter().map(KeyedBatch::new).collect());
        for oldest in oldest {
            oldest.each(|batch| {
                let batch = in_groups(&batch, &self.groups)?;
                let batch = KeyedBatch::new(&batch);
                let rows = keys.others(&batch);
                visit(&batch, rows)
            })?;
        }
        keys.batches.iter().zip(last).try_for_each(|(batch, rows)| visit(batch, rows))
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
            self.latest(table, |batch, rows| {
                for row in rows.into_iter().map(|row| row as usize) {
                    let value = batch.values.is_valid(row).then(|| batch.values.value(row));
                    if value.is_some() || after.is_some() {
                        writer.grouped_entry(table, batch.groups.value(row), batch.keys.value(row), value)?;
                    }
                }
                Ok(())
            })?;
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

fn in_groups(batch: &RecordBatch, groups: &RangeInclusive<u8>) -> Result<RecordBatch> {
    if *groups == (0..=u8::MAX) {
        return Ok(batch.clone());
    }
    let of = batch.column(0).as_primitive::<UInt8Type>();
    let keep: BooleanArray = of.iter().map(|group| Some(group.is_some_and(|group| groups.contains(&group)))).collect();
    filter_record_batch(batch, &keep).map_err(failed)
}

/// One base that holds what chains do of some key groups: for a long chain, and for tasks that share the keys anew.
pub fn compact<B>(description: &str, chains: &[Vec<B>], groups: RangeInclusive<u8>) -> Result<Vec<u8>>
where
    B: Clone + Into<Bytes>,
{
    let state = StateReader::open(description, chains, groups)?;
    state.watermark()?;
    state.into_snapshot(None)
}

/// One delta that holds what consecutive ones do of some key groups.
pub(crate) fn merge<B>(description: &str, deltas: &[B], groups: RangeInclusive<u8>) -> Result<Vec<u8>>
where
    B: Clone + Into<Bytes>,
{
    let Some(first) = deltas.first() else { return Err(Error::internal("no snapshots to merge")) };
    let (after, _) = span(&first.clone().into())?;
    let mut state = StateReader::new(description, groups);
    state.read_chain(deltas, after)?;
    state.into_snapshot(after)
}

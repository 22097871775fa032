//! OVER aggregates: each row with results over the rows of its key up to it.
//!
//! Rows wait until the watermark reaches their time. Then they come out in the order of their times, those of one time in the order of
//! their arrival, and what comes out is final. A row whose time the watermark has reached before it comes is late: it is dropped and
//! counted.
//!
//! A frame ends with the current row. Where it begins at some row or time, the rows in it are kept until they leave it; else only what
//! was accumulated is. In a RANGE all rows of one time count, and have the same results. ROW_NUMBER and LAG are over all rows before,
//! whatever the frame is. A key whose RANGE is past is forgotten by the watermark; of other frames a key stays, or has a time to live.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{concat, take};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use tereza_runtime::error::{Error, Result};

use super::accumulate::{
    Accumulator, AggregateCall, AggregateKind, InOrder, Lag, Rows, Saved, accumulator, restore_values, result_field,
    save_values,
};
use super::batch::{BATCH_ROWS_MAX, Batch};
use super::error::failed;
use super::index::KeyIndex;
use super::key::{BuildKeyHasher, Encoded, RowCodec};
use super::mode::ChangelogMode;
use super::state::{SnapshotWriter, StateReader, columns_text, joined_key, split_key, take as take_bytes, take_i64};
use super::time::{TIME_MS_MAX, check_time, event_times};
use super::ttl::{TimeToLive, UNKNOWN_MS};
use super::{Context, Operator, Output, WATERMARK_MIN};

const NAME: &str = "over aggregate";
const ROWS: &str = "rows";
const KEYS: &str = "keys";
/// Bytes of a row besides its own: its places in the trees.
const ROW_BYTES: usize = 96;
/// How many rows LAG looks back, at most.
pub const LAG_MAX: usize = 100_000;

/// Which rows count besides the current one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame {
    /// So many rows before it; all without a number.
    Rows(Option<usize>),
    /// Those of its time, and those at most so many ms before it; all before it without a number.
    Range(Option<i64>),
}

impl Frame {
    fn is_bounded(self) -> bool {
        !matches!(self, Self::Rows(None) | Self::Range(None))
    }
}

/// What is computed.
#[derive(Debug, Clone)]
pub enum OverKind {
    /// An aggregate over the frame.
    Aggregate(AggregateKind),
    /// `FIRST_VALUE(x)`: the first of the frame that is not NULL.
    FirstValue,
    /// `LAST_VALUE(x)`: the last of the frame that is not NULL.
    LastValue,
    /// `ROW_NUMBER()`.
    RowNumber,
    /// `LAG(x, offset, default)`.
    Lag {
        /// How many rows before; at most [`LAG_MAX`].
        offset: usize,
        /// One value, where there is no such row; NULL without it.
        default: Option<ArrayRef>,
    },
}

/// A function over columns of the input.
#[derive(Debug, Clone)]
pub struct OverCall {
    /// What is computed.
    pub kind: OverKind,
    /// The argument's column; `COUNT(*)` and ROW_NUMBER have none.
    pub column: Option<usize>,
    /// The column of the `FILTER` condition.
    pub filter: Option<usize>,
    /// The name of the result.
    pub name: String,
}

struct Call {
    column: Option<usize>,
    filter: Option<usize>,
    /// Argument and filter as columns of the rows that are kept.
    kept: [Option<usize>; 2],
    /// Whether it is over all rows, one after the other.
    is_whole: bool,
    accumulator: Box<dyn Accumulator>,
}

impl Call {
    /// Adds rows to the groups of keys, or takes rows back from them.
    fn apply(&mut self, sign: i64, rows: &Chosen, values: Option<&ArrayRef>, filter: Option<&ArrayRef>) -> Result<()> {
        if rows.rows.is_empty() {
            return Ok(());
        }
        let at = UInt32Array::from(rows.rows.clone());
        let chosen = |column: Option<&ArrayRef>| column.map(|column| take(column, &at, None)).transpose();
        let (values, filter) = (chosen(values).map_err(failed)?, chosen(filter).map_err(failed)?);
        let filter = filter.as_ref().map(|filter| filter.as_boolean());
        let signs = vec![sign; rows.rows.len()];
        self.accumulator.update(values.as_ref(), &Rows { groups: &rows.keys, signs: &signs, filter })
    }
}

/// Rows of a batch with their keys.
#[derive(Debug, Default)]
struct Chosen {
    rows: Vec<u32>,
    keys: Vec<u32>,
}

impl Chosen {
    fn push(&mut self, row: usize, key: u32) {
        self.rows.push(row as u32);
        self.keys.push(key);
    }
}

/// Steps of different keys, which do not touch each other: what leaves their frames, what comes, and then a result of each.
#[derive(Debug, Default)]
struct Round {
    left: Chosen,
    added: Chosen,
    keys: Vec<u32>,
}

/// The last step of a key.
#[derive(Debug, Clone, Copy)]
struct Step {
    round: usize,
    /// Its place in the round.
    at: usize,
    time: i64,
}

/// All steps of a batch, those of a key in rounds one after the other.
#[derive(Debug, Default)]
struct Rounds {
    rounds: Vec<Round>,
    /// Round and place of each row's result.
    of_rows: Vec<(usize, usize)>,
    /// The columns of the rows that leave.
    left: Vec<ArrayRef>,
}

impl Rounds {
    /// The results of a call, one for each row of the batch.
    fn results(&self, call: &mut Call, rows: &RecordBatch) -> Result<ArrayRef> {
        let mut results: Vec<ArrayRef> = Vec::with_capacity(self.rounds.len());
        let mut starts = Vec::with_capacity(self.rounds.len());
        let mut start = 0;
        let [kept, kept_filter] = call.kept.map(|column| column.map(|column| &self.left[column]));
        let column = |column: Option<usize>| column.map(|column| rows.column(column));
        let (values, filter) = (column(call.column), column(call.filter));
        for round in &self.rounds {
            call.apply(-1, &round.left, kept, kept_filter)?;
            call.apply(1, &round.added, values, filter)?;
            results.push(call.accumulator.evaluate(&round.keys)?);
            starts.push(start);
            start += round.keys.len();
        }
        let all: Vec<&dyn Array> = results.iter().map(AsRef::as_ref).collect();
        let places = self.of_rows.iter().map(|(round, at)| (starts[*round] + at) as u32);
        let places = UInt32Array::from_iter_values(places);
        take(&concat(&all).map_err(failed)?, &places, None).map_err(failed)
    }
}

/// The time of a row, the number of its arrival and its key. Tasks that were brought together may share numbers.
type Place = (i64, u64, u32);
type Bytes = Box<[u8]>;

/// A row in the frame of a key.
#[derive(Debug)]
struct Kept {
    time: i64,
    number: u64,
    row: Bytes,
}

#[derive(Debug)]
struct Key {
    kept: VecDeque<Kept>,
    waiting: usize,
    written_ms: i64,
    is_alive: bool,
    is_changed: bool,
}

impl Default for Key {
    fn default() -> Self {
        Self { kept: VecDeque::new(), waiting: 0, written_ms: UNKNOWN_MS, is_alive: false, is_changed: false }
    }
}

/// A row that came or went since the last snapshot.
#[derive(Debug)]
struct Changed {
    /// No snapshot has it.
    is_new: bool,
    /// `None` if it is gone.
    time: Option<i64>,
}

/// The operator. It emits the columns of its input, and the results.
pub struct Over {
    time: usize,
    frame: Frame,
    calls: Vec<Call>,
    key_codec: RowCodec,
    row_codec: RowCodec,
    /// Of what calls need of the rows that leave a frame.
    kept_codec: RowCodec,
    input: SchemaRef,
    schema: SchemaRef,
    description: String,
    index: KeyIndex,
    keys: Vec<Key>,
    waiting: BTreeMap<Place, Bytes>,
    /// The time of the last row that each key keeps, where the watermark ends keys.
    lasts: BTreeSet<(i64, u32)>,
    changed_rows: BTreeMap<(u32, u64), Changed>,
    changed_keys: Vec<u32>,
    next: u64,
    watermark: i64,
    late_rows: u64,
    bytes: usize,
    ttl: Option<TimeToLive>,
}

impl Over {
    /// `time` is the column of the event time, `keys` and the columns of `calls` are of the input. Fails with `Unsupported` for an
    /// input of updates.
    pub fn new(
        input: &SchemaRef,
        mode: &ChangelogMode,
        time: usize,
        keys: Vec<usize>,
        frame: Frame,
        calls: Vec<OverCall>,
    ) -> Result<Self> {
        mode.require_append("OVER")?;
        check_time(input.field(time))?;
        if let Frame::Range(Some(ms)) = frame
            && !(0..=TIME_MS_MAX).contains(&ms)
        {
            return Err(Error::invalid_input(format!("a RANGE of {ms} ms before the current row")));
        }
        let mut fields = input.fields().to_vec();
        let mut kept_columns: Vec<usize> = Vec::new();
        let mut place = |column: usize| {
            kept_columns.iter().position(|known| *known == column).unwrap_or_else(|| {
                kept_columns.push(column);
                kept_columns.len() - 1
            })
        };
        let mut made = Vec::with_capacity(calls.len());
        for call in &calls {
            let (accumulator, field) = accumulator_of(call, input, frame.is_bounded())?;
            fields.push(Arc::new(field));
            let is_whole =
                frame == Frame::Rows(None) || matches!(call.kind, OverKind::RowNumber | OverKind::Lag { .. });
            let is_kept = frame.is_bounded() && !is_whole;
            let kept = [call.column, call.filter].map(|column| column.filter(|_| is_kept).map(&mut place));
            made.push(Call { column: call.column, filter: call.filter, kept, is_whole, accumulator });
        }
        let columns = columns_text(input);
        Ok(Self {
            description: format!("{NAME}({time}, {keys:?}, {frame:?}, {calls:?}, {columns})"),
            key_codec: RowCodec::new(input, &keys)?,
            row_codec: RowCodec::whole(input)?,
            kept_codec: RowCodec::new(input, &kept_columns)?,
            input: SchemaRef::clone(input),
            schema: Arc::new(Schema::new(fields)),
            time,
            frame,
            calls: made,
            index: KeyIndex::default(),
            keys: Vec::new(),
            waiting: BTreeMap::new(),
            lasts: BTreeSet::new(),
            changed_rows: BTreeMap::new(),
            changed_keys: Vec::new(),
            next: 0,
            watermark: WATERMARK_MIN,
            late_rows: 0,
            bytes: 0,
            ttl: None,
        })
    }

    /// Gives a key without waiting rows up so many ms of processing time after its last row came out.
    pub fn with_time_to_live(mut self, ttl_ms: Option<i64>) -> Result<Self> {
        self.ttl = TimeToLive::new(ttl_ms)?;
        Ok(self)
    }

    /// Whether the watermark says when nothing of a key counts any more.
    fn ends_keys(&self) -> bool {
        matches!(self.frame, Frame::Range(Some(_))) && !self.calls.iter().any(|call| call.is_whole)
    }

    fn intern(&mut self, key: &[u8]) -> u32 {
        let number = self.index.intern(key);
        let count = self.index.len();
        if count > self.keys.len() {
            self.keys.resize_with(count, Key::default);
            self.calls.iter_mut().for_each(|call| call.accumulator.grow(count));
        }
        self.keys[number as usize].is_alive = true;
        number
    }

    fn wait(&mut self, place: Place, row: Bytes) {
        self.bytes += row.len() + ROW_BYTES;
        self.keys[place.2 as usize].waiting += 1;
        self.waiting.insert(place, row);
    }

    fn keep(&mut self, key: u32, kept: Kept) {
        self.bytes += kept.row.len() + ROW_BYTES;
        if self.ends_keys() {
            let last = self.keys[key as usize].kept.back().map(|last| last.time);
            if let Some(last) = last.filter(|last| *last != kept.time) {
                self.lasts.remove(&(last, key));
            }
            self.lasts.insert((kept.time, key));
        }
        self.keys[key as usize].kept.push_back(kept);
    }

    /// Takes out the first row that a key keeps, if `leaves` says that it goes.
    fn leave(&mut self, key: u32, leaves: impl FnOnce(&VecDeque<Kept>, &Kept) -> bool) -> Option<Kept> {
        let kept = &mut self.keys[key as usize].kept;
        let first = kept.front()?;
        if !leaves(kept, first) {
            return None;
        }
        let gone = kept.pop_front()?;
        self.bytes -= gone.row.len() + ROW_BYTES;
        self.note_row(key, gone.number, None);
        Some(gone)
    }

    fn note_row(&mut self, key: u32, number: u64, time: Option<i64>) {
        match self.changed_rows.entry((key, number)) {
            Entry::Occupied(known) if time.is_none() && known.get().is_new => {
                known.remove();
            }
            Entry::Occupied(mut known) => known.get_mut().time = time,
            Entry::Vacant(place) => {
                place.insert(Changed { is_new: false, time });
            }
        }
    }

    fn note_key(&mut self, key: u32) {
        if !std::mem::replace(&mut self.keys[key as usize].is_changed, true) {
            self.changed_keys.push(key);
        }
    }

    fn forget(&mut self, key: u32) {
        while self.leave(key, |_, _| true).is_some() {}
        self.calls.iter_mut().for_each(|call| call.accumulator.clear(key));
        self.note_key(key);
        self.keys[key as usize].is_alive = false;
        self.keys[key as usize].written_ms = UNKNOWN_MS;
        self.index.remove(key);
    }

    /// Forgets keys past their time to live, now and then.
    fn sweep(&mut self, now_ms: i64) {
        let Some(ttl) = &mut self.ttl else { return };
        if !ttl.is_due(now_ms) {
            return;
        }
        let ttl = *ttl;
        for number in 0..self.keys.len() as u32 {
            let key = &mut self.keys[number as usize];
            if !key.is_alive || key.waiting > 0 {
                continue;
            }
            if key.written_ms == UNKNOWN_MS {
                key.written_ms = now_ms;
            }
            if ttl.is_over(key.written_ms, now_ms) {
                // What the watermark would end is ended now.
                if let Some(last) = key.kept.back() {
                    self.lasts.remove(&(last.time, number));
                }
                self.forget(number);
            }
        }
    }

    /// Some waiting rows that the watermark has reached, in their order; rows of one time come together.
    fn due(&mut self) -> Vec<(Place, Bytes)> {
        let mut due: Vec<(Place, Bytes)> = Vec::new();
        while let Some(((time, ..), _)) = self.waiting.first_key_value() {
            let is_full = due.len() >= BATCH_ROWS_MAX && due.last().is_some_and(|((last, ..), _)| last != time);
            if *time > self.watermark || is_full {
                break;
            }
            due.extend(self.waiting.pop_first());
        }
        due
    }

    /// The steps of rows in their order. Rows of a bounded frame are kept from here on, and what leaves it goes.
    fn rounds(&mut self, due: &[(Place, Bytes)], frame: Frame, kept: Option<&Encoded>) -> Result<Rounds> {
        let mut made = Rounds::default();
        let mut left: Vec<Bytes> = Vec::new();
        let mut latest: HashMap<u32, Step, BuildKeyHasher> = HashMap::default();
        for (row, ((time, number, key), _)) in due.iter().enumerate() {
            let step = match latest.get(key) {
                Some(step) if matches!(frame, Frame::Range(_)) && step.time == *time => *step,
                before => {
                    let round = before.map_or(0, |before| before.round + 1);
                    if round == made.rounds.len() {
                        made.rounds.push(Round::default());
                    }
                    let step = Step { round, at: made.rounds[round].keys.len(), time: *time };
                    made.rounds[round].keys.push(*key);
                    latest.insert(*key, step);
                    step
                }
            };
            made.of_rows.push((step.round, step.at));
            made.rounds[step.round].added.push(row, *key);
            let Some(kept) = kept else { continue };
            self.keep(*key, Kept { time: *time, number: *number, row: kept.get(row).into() });
            self.note_row(*key, *number, Some(*time));
            let leaves = |kept: &VecDeque<Kept>, first: &Kept| match frame {
                Frame::Rows(before) => before.is_some_and(|before| kept.len() - 1 > before),
                Frame::Range(before_ms) => before_ms.is_some_and(|before_ms| first.time < time - before_ms),
            };
            while let Some(gone) = self.leave(*key, leaves) {
                made.rounds[step.round].left.push(left.len(), *key);
                left.push(gone.row);
            }
        }
        made.left = self.kept_codec.decode(left.iter().map(AsRef::as_ref))?;
        Ok(made)
    }

    fn emit(&mut self, due: &[(Place, Bytes)], now_ms: i64, out: &mut dyn Output) -> Result<()> {
        let mut columns = self.row_codec.decode(due.iter().map(|(_, row)| row.as_ref()))?;
        let rows = RecordBatch::try_new(SchemaRef::clone(&self.input), columns.clone()).map_err(failed)?;
        let keeps_rows = self.frame.is_bounded() && self.calls.iter().any(|call| !call.is_whole);
        for ((_, number, key), row) in due {
            self.bytes -= row.len() + ROW_BYTES;
            if !keeps_rows {
                self.note_row(*key, *number, None);
            }
            self.note_key(*key);
            let key = &mut self.keys[*key as usize];
            key.waiting -= 1;
            key.written_ms = now_ms;
        }
        let framed = match self.calls.iter().all(|call| call.is_whole) {
            true => Rounds::default(),
            false => {
                let kept = keeps_rows.then(|| self.kept_codec.encode(&rows)).transpose()?;
                self.rounds(due, self.frame, kept.as_ref())?
            }
        };
        let whole = match self.calls.iter().any(|call| call.is_whole) {
            true => self.rounds(due, Frame::Rows(None), None)?,
            false => Rounds::default(),
        };
        for call in &mut self.calls {
            let rounds = if call.is_whole { &whole } else { &framed };
            columns.push(rounds.results(call, &rows)?);
        }
        let results = Batch::inserts(RecordBatch::try_new(self.schema(), columns).map_err(failed)?);
        for from in (0..results.len()).step_by(BATCH_ROWS_MAX) {
            out.emit(results.slice(from, BATCH_ROWS_MAX.min(results.len() - from))?)?;
        }
        Ok(())
    }

    /// Forgets keys whose rows are in no frame of a row that may come.
    fn end_keys(&mut self) {
        let Frame::Range(Some(before_ms)) = self.frame else { return };
        let past = self.watermark.saturating_sub(before_ms);
        while let Some((_, key)) = self.lasts.first().copied().filter(|(last, _)| *last <= past) {
            self.lasts.pop_first();
            if self.keys[key as usize].waiting == 0 {
                self.forget(key);
            }
        }
    }

    /// A row that is waiting or kept.
    fn row(&self, key: u32, number: u64, time: i64) -> Option<&[u8]> {
        if let Some(row) = self.waiting.get(&(time, number, key)) {
            return Some(row);
        }
        let kept = &self.keys[key as usize].kept;
        let at = kept.binary_search_by_key(&(time, number), |kept| (kept.time, kept.number)).ok()?;
        Some(&kept[at].row)
    }

    /// Gives kept rows to what is accumulated over the frame.
    fn replay(&mut self, groups: &[u32], rows: &[Bytes]) -> Result<()> {
        let columns = self.kept_codec.decode(rows.iter().map(AsRef::as_ref))?;
        let signs = vec![1; rows.len()];
        for call in self.calls.iter_mut().filter(|call| !call.is_whole) {
            let [values, filter] = call.kept.map(|column| column.map(|column| &columns[column]));
            let filter = filter.map(|filter| filter.as_boolean());
            call.accumulator.update(values, &Rows { groups, signs: &signs, filter })?;
        }
        Ok(())
    }
}

/// The accumulator of a call, and the field of its result. Rows leave a bounded frame.
fn accumulator_of(call: &OverCall, input: &Schema, is_bounded: bool) -> Result<(Box<dyn Accumulator>, Field)> {
    let aggregate = |kind: AggregateKind, is_bounded: bool| -> Result<(Box<dyn Accumulator>, Field)> {
        let call = AggregateCall { kind, column: call.column, filter: call.filter, name: call.name.clone() };
        let saved = if is_bounded { Saved::AsRows } else { Saved::OneByOne };
        Ok((accumulator(&call, input, is_bounded, saved)?, result_field(&call, input)?))
    };
    if call.filter.is_some_and(|filter| *input.field(filter).data_type() != DataType::Boolean) {
        return Err(Error::invalid_input(format!("the filter of {} is no BOOLEAN", call.name)));
    }
    let column = || call.column.ok_or_else(|| Error::invalid_input(format!("{} has no argument", call.name)));
    let field = |column: usize| Field::new(&call.name, input.field(column).data_type().clone(), true);
    match &call.kind {
        OverKind::Aggregate(kind) => aggregate(*kind, is_bounded),
        OverKind::RowNumber => aggregate(AggregateKind::CountRows, false),
        OverKind::FirstValue | OverKind::LastValue => {
            let (column, is_last) = (column()?, matches!(call.kind, OverKind::LastValue));
            let values: Box<dyn Accumulator> = Box::new(InOrder::new(input, column, is_last, is_bounded)?);
            Ok((values, field(column)))
        }
        OverKind::Lag { offset, .. } if *offset > LAG_MAX => {
            Err(Error::resource_exhausted(format!("LAG by {offset} rows, more than {LAG_MAX}")))
        }
        OverKind::Lag { offset, default } => {
            let column = column()?;
            let values: Box<dyn Accumulator> = Box::new(Lag::new(input, column, *offset, default.as_ref())?);
            Ok((values, field(column)))
        }
    }
}

impl Operator for Over {
    fn name(&self) -> &str {
        NAME
    }

    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    fn mode(&self) -> ChangelogMode {
        ChangelogMode::Append
    }

    fn describe(&self) -> String {
        self.description.clone()
    }

    fn keyed_by(&self, _: usize) -> Option<&[usize]> {
        Some(self.key_codec.columns())
    }

    fn process(&mut self, _: usize, batch: Batch, cx: &Context, _: &mut dyn Output) -> Result<()> {
        self.sweep(cx.now_ms);
        let times = event_times(batch.rows().column(self.time), self.input.field(self.time).name())?;
        let keys = self.key_codec.encode(batch.rows())?;
        let rows = self.row_codec.encode(batch.rows())?;
        for (row, time) in times.into_iter().enumerate() {
            if time <= self.watermark {
                self.late_rows += 1;
                continue;
            }
            let key = self.intern(keys.get(row));
            self.changed_rows.insert((key, self.next), Changed { is_new: true, time: Some(time) });
            self.wait((time, self.next, key), rows.get(row).into());
            self.next += 1;
        }
        cx.admit(NAME, self.state_bytes())
    }

    fn advance(&mut self, watermark: i64, cx: &Context, out: &mut dyn Output) -> Result<()> {
        if watermark <= self.watermark {
            return Ok(());
        }
        self.watermark = watermark;
        loop {
            let due = self.due();
            if due.is_empty() {
                break;
            }
            self.emit(&due, cx.now_ms, out)?;
        }
        self.end_keys();
        Ok(())
    }

    fn snapshot(&mut self, writer: &mut SnapshotWriter) -> Result<()> {
        writer.watermark(self.watermark);
        writer.scalar("next", self.next as i64);
        for ((key, number), changed) in std::mem::take(&mut self.changed_rows) {
            let found = changed.time.and_then(|time| Some((time, self.row(key, number, time)?)));
            let value = found.map(|(time, row)| [time.to_le_bytes().as_slice(), row].concat());
            let key = self.index.key(key);
            writer.entry(ROWS, key, &joined_key(key, &number.to_be_bytes()), value.as_deref())?;
        }
        let changed = std::mem::take(&mut self.changed_keys);
        // What is gone goes first: its key may be there again under another number.
        for is_alive in [false, true] {
            for number in changed.iter().filter(|number| self.keys[**number as usize].is_alive == is_alive) {
                let key = self.index.key(*number);
                let value = is_alive.then(|| {
                    let mut value = Vec::new();
                    self.calls.iter().for_each(|call| call.accumulator.save(*number, &mut value));
                    // At the end: state of a job without a time to live has none, and is read by one that has.
                    if self.ttl.is_some() {
                        value.extend_from_slice(&self.keys[*number as usize].written_ms.to_le_bytes());
                    }
                    value
                });
                writer.entry(KEYS, key, key, value.as_deref())?;
            }
        }
        for number in changed {
            self.keys[number as usize].is_changed = false;
        }
        for (at, call) in self.calls.iter_mut().enumerate() {
            if let Some(values) = call.accumulator.values() {
                save_values(values, &format!("values.{at}"), &self.index, writer)?;
            }
        }
        self.index.recycle();
        Ok(())
    }

    fn restore(&mut self, reader: &StateReader) -> Result<()> {
        self.watermark = reader.watermark()?;
        self.next = reader.scalar_max("next").unwrap_or(0) as u64;
        let mut kept: BTreeMap<(u32, i64, u64), Bytes> = BTreeMap::new();
        reader.each(ROWS, |entry| {
            let (key, mut number) = split_key(entry.key)?;
            let number = u64::from_be_bytes(take_bytes::<8>(&mut number)?);
            let mut row = entry.value;
            let time = take_i64(&mut row)?;
            let key = self.intern(key);
            match time > self.watermark {
                true => self.wait((time, number, key), row.into()),
                false => {
                    kept.insert((key, time, number), row.into());
                }
            }
            Ok(())
        })?;
        let (mut groups, mut rows) = (Vec::new(), Vec::new());
        for ((key, time, number), row) in kept {
            groups.push(key);
            rows.push(row.clone());
            self.keep(key, Kept { time, number, row });
            if rows.len() == BATCH_ROWS_MAX {
                self.replay(&groups, &rows)?;
                (groups, rows) = (Vec::new(), Vec::new());
            }
        }
        self.replay(&groups, &rows)?;
        // After the rows: what was saved of a sum is taken as it was.
        reader.each(KEYS, |entry| {
            let key = self.intern(entry.key);
            let mut value = entry.value;
            for call in &mut self.calls {
                call.accumulator.load(key, &mut value)?;
            }
            if self.ttl.is_some() && !value.is_empty() {
                self.keys[key as usize].written_ms = take_i64(&mut value)?;
            }
            Ok(())
        })?;
        for (at, call) in self.calls.iter_mut().enumerate() {
            if let Some(values) = call.accumulator.values() {
                restore_values(values, &format!("values.{at}"), &self.index, reader)?;
            }
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        let accumulators: usize = self.calls.iter().map(|call| call.accumulator.bytes()).sum();
        self.index.bytes() + accumulators + self.bytes + self.keys.len() * size_of::<Key>()
    }

    fn late_rows(&self) -> u64 {
        self.late_rows
    }
}

#[cfg(test)]
#[path = "over_tests.rs"]
mod tests;

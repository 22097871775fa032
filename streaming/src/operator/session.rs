//! Aggregates over sessions: a session of a key goes on while its rows are no more than a gap apart.
//!
//! A row stands for the window from its time to its time and the gap; windows that overlap or touch are one session, so two
//! rows exactly a gap apart are together, as in Flink. A session is emitted when the watermark passes its end. A row that
//! belongs to no open session and whose own window is closed is late: it is dropped and counted.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::{Field, Schema, SchemaRef};
use tereza_runtime::error::{Error, Result};

use super::accumulate::{Accumulator, AggregateCall, Rows, Saved, accumulator, result_field};
use super::batch::{BATCH_ROWS_MAX, Batch};
use super::error::failed;
use super::index::KeyIndex;
use super::key::{BuildKeyHasher, RowCodec};
use super::mode::ChangelogMode;
use super::state::{SnapshotWriter, StateReader, columns_text, take, take_i64};
use super::time::{TIME_MS_MAX, check_time, event_times, window_columns, window_fields};
use super::window::is_closed;
use super::{Context, Operator, Output, WATERMARK_MIN};

const NAME: &str = "session aggregate";
const TABLE: &str = "sessions";
/// Bytes of a session besides its key and its accumulators.
const SESSION_BYTES: usize = 96;

#[derive(Debug, Clone, Copy)]
struct Session {
    end: i64,
    group: u32,
}

/// The operator. It emits the keys, the results, and the window's bounds; all are final.
pub struct SessionAggregate {
    time: usize,
    gap: i64,
    calls: Vec<AggregateCall>,
    key_codec: RowCodec,
    schema: SchemaRef,
    description: String,
    keys: KeyIndex,
    /// The sessions of each key by their start. They neither overlap nor touch.
    sessions: Vec<BTreeMap<i64, Session>>,
    /// End, key, start of every session.
    ends: BTreeSet<(i64, u32, i64)>,
    accumulators: Vec<Box<dyn Accumulator>>,
    groups: u32,
    free_groups: Vec<u32>,
    changed: HashSet<Box<[u8]>, BuildKeyHasher>,
    watermark: i64,
    late_rows: u64,
}

impl SessionAggregate {
    /// `time` is the column of the event time, `gap` in ms, `keys` and the columns of `calls` are of the input.
    pub fn new(
        input: &Schema,
        mode: &ChangelogMode,
        time: usize,
        gap: i64,
        keys: Vec<usize>,
        calls: Vec<AggregateCall>,
    ) -> Result<Self> {
        mode.require_append("an aggregate over sessions")?;
        check_time(input.field(time))?;
        if !(1..=TIME_MS_MAX).contains(&gap) {
            return Err(Error::invalid_input(format!("a session gap of {gap} ms")));
        }
        let mut fields: Vec<Arc<Field>> = keys.iter().map(|column| Arc::clone(&input.fields()[*column])).collect();
        for call in &calls {
            fields.push(Arc::new(result_field(call, input)?));
        }
        fields.extend(window_fields().map(Arc::new));
        let accumulators =
            calls.iter().map(|call| accumulator(call, input, false, Saved::WithGroup)).collect::<Result<_>>()?;
        let columns = columns_text(input);
        Ok(Self {
            key_codec: RowCodec::new(input, &keys)?,
            schema: Arc::new(Schema::new(fields)),
            description: format!("{NAME}({time}, {gap}, {keys:?}, {calls:?}, {columns})"),
            time,
            gap,
            calls,
            keys: KeyIndex::default(),
            sessions: Vec::new(),
            ends: BTreeSet::new(),
            accumulators,
            groups: 0,
            free_groups: Vec::new(),
            changed: HashSet::default(),
            watermark: WATERMARK_MIN,
            late_rows: 0,
        })
    }

    fn new_group(&mut self) -> u32 {
        if let Some(group) = self.free_groups.pop() {
            return group;
        }
        self.groups += 1;
        self.accumulators.iter_mut().for_each(|accumulator| accumulator.grow(self.groups as usize));
        self.groups - 1
    }

    fn free_group(&mut self, group: u32) {
        self.accumulators.iter_mut().for_each(|accumulator| accumulator.clear(group));
        self.free_groups.push(group);
    }

    fn intern(&mut self, key: &[u8]) -> u32 {
        let number = self.keys.intern(key);
        self.sessions.resize_with(self.keys.len(), BTreeMap::new);
        number
    }

    /// Opens or widens the session of a row. Answers its group, `None` if the row is late; groups that become one are noted
    /// in `merged`, to be merged after the rows that were given them are counted.
    fn place(&mut self, key: u32, time: i64, merged: &mut Vec<(u32, u32)>) -> Option<u32> {
        let (mut start, mut end) = (time, time + self.gap);
        let touching: Vec<(i64, Session)> = self.sessions[key as usize]
            .range(..=end)
            .rev()
            .take_while(|(_, session)| session.end >= start)
            .map(|(start, session)| (*start, *session))
            .collect();
        let Some((_, first)) = touching.last().copied() else {
            if is_closed(end, self.watermark) {
                return None;
            }
            let group = self.new_group();
            self.sessions[key as usize].insert(start, Session { end, group });
            self.ends.insert((end, key, start));
            return Some(group);
        };
        if let [(old_start, session)] = touching[..]
            && old_start <= start
            && session.end >= end
        {
            return Some(session.group);
        }
        for (old_start, session) in touching {
            self.sessions[key as usize].remove(&old_start);
            self.ends.remove(&(session.end, key, old_start));
            start = start.min(old_start);
            end = end.max(session.end);
            if session.group != first.group {
                merged.push((first.group, session.group));
            }
        }
        self.sessions[key as usize].insert(start, Session { end, group: first.group });
        self.ends.insert((end, key, start));
        Some(first.group)
    }
}

impl Operator for SessionAggregate {
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
        let times = event_times(batch.rows().column(self.time), batch.rows().schema_ref().field(self.time).name())?;
        let keys = self.key_codec.encode(batch.rows())?;
        let mut merged = Vec::new();
        let mut groups = Vec::with_capacity(times.len());
        let mut is_late = Vec::new();
        for (row, time) in times.into_iter().enumerate() {
            let key = self.intern(keys.get(row));
            match self.place(key, time, &mut merged) {
                Some(group) => {
                    groups.push(group);
                    if !self.changed.contains(self.keys.key(key)) {
                        self.changed.insert(self.keys.key(key).into());
                    }
                }
                None => {
                    is_late.push(row);
                    if self.sessions[key as usize].is_empty() {
                        self.keys.remove(key);
                    }
                }
            }
        }
        self.late_rows += is_late.len() as u64;
        let batch = if is_late.is_empty() {
            batch
        } else {
            let keep: BooleanArray = (0..batch.len()).map(|row| Some(is_late.binary_search(&row).is_err())).collect();
            batch.filter(&keep)?
        };
        let signs = vec![1; batch.len()];
        for (call, accumulator) in self.calls.iter().zip(&mut self.accumulators) {
            let column = |column: Option<usize>| column.map(|column| batch.rows().column(column));
            let filter: Option<&BooleanArray> = column(call.filter).map(|filter| filter.as_boolean());
            accumulator.update(column(call.column), &Rows { groups: &groups, signs: &signs, filter })?;
        }
        for (into, from) in merged {
            self.accumulators.iter_mut().try_for_each(|accumulator| accumulator.merge(into, from))?;
            self.free_group(from);
        }
        self.keys.recycle();
        cx.admit(NAME, self.state_bytes())
    }

    fn advance(&mut self, watermark: i64, _: &Context, out: &mut dyn Output) -> Result<()> {
        if watermark <= self.watermark {
            return Ok(());
        }
        self.watermark = watermark;
        loop {
            let mut closed = Vec::new();
            while closed.len() < BATCH_ROWS_MAX {
                let Some((end, key, start)) = self.ends.first().copied().filter(|(end, ..)| is_closed(*end, watermark))
                else {
                    break;
                };
                self.ends.pop_first();
                if let Some(session) = self.sessions[key as usize].remove(&start) {
                    closed.push((key, (start, end), session.group));
                }
            }
            if closed.is_empty() {
                break;
            }
            let groups: Vec<u32> = closed.iter().map(|(.., group)| *group).collect();
            let windows: Vec<(i64, i64)> = closed.iter().map(|(_, window, _)| *window).collect();
            let mut columns = self.key_codec.decode(closed.iter().map(|(key, ..)| self.keys.key(*key)))?;
            for accumulator in &self.accumulators {
                columns.push(accumulator.evaluate(&groups)?);
            }
            columns.extend(window_columns(&windows));
            out.emit(Batch::inserts(RecordBatch::try_new(self.schema(), columns).map_err(failed)?))?;
            for (key, _, group) in closed {
                self.changed.insert(self.keys.key(key).into());
                if self.sessions[key as usize].is_empty() {
                    self.keys.remove(key);
                }
                self.free_group(group);
            }
        }
        self.keys.recycle();
        Ok(())
    }

    fn snapshot(&mut self, writer: &mut SnapshotWriter) -> Result<()> {
        writer.watermark(self.watermark);
        for key in std::mem::take(&mut self.changed) {
            let sessions = self.keys.get(&key).map(|number| &self.sessions[number as usize]);
            let Some(sessions) = sessions.filter(|sessions| !sessions.is_empty()) else {
                writer.entry(TABLE, &key, &key, None)?;
                continue;
            };
            let mut value = (sessions.len() as u32).to_le_bytes().to_vec();
            for (start, Session { end, group }) in sessions {
                value.extend_from_slice(&start.to_le_bytes());
                value.extend_from_slice(&end.to_le_bytes());
                self.accumulators.iter().for_each(|accumulator| accumulator.save(*group, &mut value));
            }
            writer.entry(TABLE, &key, &key, Some(&value))?;
        }
        Ok(())
    }

    fn restore(&mut self, reader: &StateReader) -> Result<()> {
        self.watermark = reader.watermark()?;
        reader.each(TABLE, |entry| {
            let key = self.intern(entry.key);
            let mut value = entry.value;
            for _ in 0..u32::from_le_bytes(take::<4>(&mut value)?) {
                let (start, end) = (take_i64(&mut value)?, take_i64(&mut value)?);
                let group = self.new_group();
                for accumulator in &mut self.accumulators {
                    accumulator.load(group, &mut value)?;
                }
                self.sessions[key as usize].insert(start, Session { end, group });
                self.ends.insert((end, key, start));
            }
            Ok(())
        })
    }

    fn state_bytes(&self) -> usize {
        let accumulators: usize = self.accumulators.iter().map(|accumulator| accumulator.bytes()).sum();
        self.keys.bytes() + accumulators + self.ends.len() * SESSION_BYTES
    }

    fn late_rows(&self) -> u64 {
        self.late_rows
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;

//! Joins of two streams within a bound in event time: a pair's left time minus its right time is between two numbers.
//!
//! A row is kept until the watermark says that no partner can come. Only then a row that stays without a partner is known to
//! have none, and is emitted padded with NULLs. Results are final. They may be older than the watermark by the width of the
//! interval, so [`Operator::output_watermark`] holds it back.

use std::collections::{BTreeMap, VecDeque};

use arrow::datatypes::{Schema, SchemaRef};
use tereza_runtime::error::{Error, Result};

use super::batch::{Batch, RowKind};
use super::index::KeyIndex;
use super::key::RowCodec;
use super::mode::ChangelogMode;
use super::pairs::{JoinOn, PairChange, PairCodec, in_order};
use super::state::{SnapshotWriter, StateReader, columns_text, joined_key, split_key, take, take_i64};
use super::time::{TIME_MS_MAX, check_time, event_times};
use super::{Context, Operator, Output, WATERMARK_MAX, WATERMARK_MIN};

const NAME: &str = "interval join";
const TABLES: [&str; 2] = ["left", "right"];
/// Bytes of a row besides its own.
const ROW_BYTES: usize = 88;

/// A row that may have partners yet.
#[derive(Debug)]
struct Kept {
    time: i64,
    /// Of its arrival. Tasks that were brought together may share numbers, but not of one key.
    number: u64,
    key: u32,
    row: Box<[u8]>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Flags {
    has_partner: bool,
    /// Since the last snapshot.
    is_changed: bool,
    /// It is in a snapshot.
    is_saved: bool,
}

#[derive(Debug, Default)]
struct Side {
    keys: KeyIndex,
    /// The rows of each key, by time and number.
    of_keys: Vec<VecDeque<u32>>,
    rows: Vec<Option<Kept>>,
    flags: Vec<Flags>,
    free: Vec<u32>,
    /// The rows of each time, in the order of their numbers: so they expire.
    by_time: BTreeMap<i64, Vec<u32>>,
    /// Rows that changed; one that is not there any more, or another in its place, is told by the flags.
    changed: Vec<u32>,
    /// Keys and numbers of rows that were saved and are gone.
    gone: Vec<(Box<[u8]>, u64)>,
    bytes: usize,
}

/// The operator. Input 0 is the left one. It emits the columns of both.
pub struct IntervalJoin {
    on: JoinOn,
    times: [usize; 2],
    /// Left time minus right time, in ms: the least and the most.
    least: i64,
    most: i64,
    keys: [RowCodec; 2],
    pairs: PairCodec,
    description: String,
    sides: [Side; 2],
    next: u64,
    watermark: i64,
}

impl IntervalJoin {
    /// `times` are the columns of the event times; a pair has a left time minus right time from `least` to `most` ms.
    pub fn new(
        inputs: [&Schema; 2],
        modes: [&ChangelogMode; 2],
        on: JoinOn,
        times: [usize; 2],
        least: i64,
        most: i64,
    ) -> Result<Self> {
        modes.iter().try_for_each(|mode| mode.require_append("a join within an interval"))?;
        on.check(inputs[0], inputs[1])?;
        check_time(inputs[0].field(times[0]))?;
        check_time(inputs[1].field(times[1]))?;
        if least > most || least < -TIME_MS_MAX || most > TIME_MS_MAX {
            return Err(Error::invalid_input(format!("a join within the interval from {least} to {most} ms")));
        }
        Ok(Self {
            keys: [RowCodec::new(inputs[0], &on.left)?, RowCodec::new(inputs[1], &on.right)?],
            pairs: PairCodec::new(&on, inputs[0], inputs[1])?,
            description: format!(
                "{NAME}({}, {times:?}, {least}, {most}, {}, {})",
                on.describe(),
                columns_text(inputs[0]),
                columns_text(inputs[1])
            ),
            on,
            times,
            least,
            most,
            sides: [Side::default(), Side::default()],
            next: 0,
            watermark: WATERMARK_MIN,
        })
    }

    /// The times of partners of a row.
    fn partner_times(&self, input: usize, time: i64) -> (i64, i64) {
        match input {
            0 => (time - self.most, time - self.least),
            _ => (time + self.least, time + self.most),
        }
    }

    /// The latest time of rows of an input for which no partner can come any more.
    fn expired_through(&self, input: usize, watermark: i64) -> i64 {
        match (input, watermark) {
            (_, WATERMARK_MAX) => i64::MAX,
            (0, _) => watermark.saturating_add(self.least),
            _ => watermark.saturating_sub(self.most),
        }
    }
}

impl Operator for IntervalJoin {
    fn name(&self) -> &str {
        NAME
    }

    fn schema(&self) -> SchemaRef {
        self.pairs.schema()
    }

    fn mode(&self) -> ChangelogMode {
        ChangelogMode::Append
    }

    fn describe(&self) -> String {
        self.description.clone()
    }

    fn keyed_by(&self, input: usize) -> Option<&[usize]> {
        Some(self.keys[input].columns())
    }

    fn process(&mut self, input: usize, batch: Batch, cx: &Context, out: &mut dyn Output) -> Result<()> {
        let time = self.times[input];
        let times = event_times(batch.rows().column(time), batch.rows().schema_ref().field(time).name())?;
        let keys = self.keys[input].encode(batch.rows())?;
        let rows = self.pairs.row(input).encode(batch.rows())?;
        let nulls = self.keys[input].nulls(batch.rows());
        let is_null = |row: usize| nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
        let expired = self.expired_through(input, self.watermark);
        let (keeps_own, keeps_other) = (self.on.kind.keeps(input), self.on.kind.keeps(1 - input));

        let mut found: Vec<(usize, u32)> = Vec::new();
        for (row, time) in times.iter().enumerate().filter(|(row, _)| !is_null(*row)) {
            let (from, to) = self.partner_times(input, *time);
            found.extend(self.sides[1 - input].partners(keys.get(row), from, to).map(|partner| (row, partner)));
        }
        let [left, right] = &mut self.sides;
        let (own, other) = if input == 0 { (left, right) } else { (right, left) };
        let Side { rows: partners, flags, changed, .. } = other;
        let pair = |(row, partner): &(usize, u32)| {
            let partner = partners[*partner as usize].as_ref().map_or(&[][..], |kept| &*kept.row);
            in_order(input, rows.get(*row), partner)
        };
        let pairs: Vec<[&[u8]; 2]> = found.iter().map(pair).collect();
        let mut has_partner = vec![false; batch.len()];
        let mut changes: Vec<PairChange<&[u8]>> = Vec::new();
        let meets = self.pairs.meets(&pairs)?;
        for (((row, partner), pair), _) in found.into_iter().zip(pairs).zip(meets).filter(|(_, meets)| *meets) {
            has_partner[row] = true;
            changes.push((RowKind::Insert, pair.map(Some)));
            let flags = &mut flags[partner as usize];
            if keeps_other && !std::mem::replace(&mut flags.has_partner, true) {
                flags.is_changed = true;
                changed.push(partner);
            }
        }
        for ((row, time), has_partner) in times.into_iter().enumerate().zip(has_partner) {
            if is_null(row) || time <= expired {
                if keeps_own && !has_partner {
                    changes.push((RowKind::Insert, in_order(input, Some(rows.get(row)), None)));
                }
                continue;
            }
            let flags = Flags { has_partner, is_changed: true, is_saved: false };
            own.keep(keys.get(row), time, self.next, rows.get(row), flags);
            self.next += 1;
        }
        self.pairs.emit(&changes, out)?;
        cx.admit(NAME, self.state_bytes())
    }

    fn advance(&mut self, watermark: i64, _: &Context, out: &mut dyn Output) -> Result<()> {
        if watermark <= self.watermark {
            return Ok(());
        }
        self.watermark = watermark;
        let mut changes = Vec::new();
        for input in [0, 1] {
            let expired = self.expired_through(input, watermark);
            let keeps = self.on.kind.keeps(input);
            self.sides[input].expire(expired, |row, has_partner| {
                if keeps && !has_partner {
                    changes.push((RowKind::Insert, in_order(input, Some(row), None)));
                }
            });
        }
        self.pairs.emit(&changes, out)
    }

    fn output_watermark(&self, watermark: i64) -> i64 {
        match watermark {
            WATERMARK_MAX | WATERMARK_MIN => watermark,
            _ => watermark.saturating_sub(self.most.max(-self.least).max(0)),
        }
    }

    fn snapshot(&mut self, writer: &mut SnapshotWriter) -> Result<()> {
        writer.watermark(self.watermark);
        writer.scalar("next", self.next as i64);
        for (side, table) in self.sides.iter_mut().zip(TABLES) {
            for (key, number) in side.gone.drain(..) {
                writer.entry(table, &key, &joined_key(&key, &number.to_be_bytes()), None)?;
            }
            for at in side.changed.drain(..) {
                let flags = &mut side.flags[at as usize];
                let Some(kept) = side.rows[at as usize].as_ref().filter(|_| flags.is_changed) else { continue };
                *flags = Flags { is_changed: false, is_saved: true, ..*flags };
                let mut value = kept.time.to_le_bytes().to_vec();
                value.push(u8::from(flags.has_partner));
                value.extend_from_slice(&kept.row);
                let key = side.keys.key(kept.key);
                writer.entry(table, key, &joined_key(key, &kept.number.to_be_bytes()), Some(&value))?;
            }
        }
        Ok(())
    }

    fn restore(&mut self, reader: &StateReader) -> Result<()> {
        self.watermark = reader.watermark()?;
        self.next = reader.scalar_max("next").unwrap_or(0) as u64;
        for (side, table) in self.sides.iter_mut().zip(TABLES) {
            reader.each(table, |entry| {
                let (key, mut number) = split_key(entry.key)?;
                let number = u64::from_be_bytes(take::<8>(&mut number)?);
                let mut row = entry.value;
                let time = take_i64(&mut row)?;
                let has_partner = take::<1>(&mut row)? == [1];
                let flags = Flags { has_partner, is_changed: false, is_saved: true };
                side.keep(key, time, number, row, flags);
                Ok(())
            })?;
            side.order_by_numbers();
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.sides.iter().map(|side| side.bytes + side.keys.bytes()).sum()
    }
}

impl Side {
    /// Rows of a key with times from one to another, by time and number.
    fn partners(&self, key: &[u8], from: i64, to: i64) -> impl Iterator<Item = u32> {
        let of_key = self.keys.get(key).map(|key| &self.of_keys[key as usize]);
        let range = of_key.map(|of_key| {
            let first = of_key.partition_point(|at| self.place(*at).0 < from);
            let last = of_key.partition_point(|at| self.place(*at).0 <= to);
            of_key.range(first..last.max(first)).copied()
        });
        range.into_iter().flatten()
    }

    /// Time and number of a row.
    fn place(&self, at: u32) -> (i64, u64) {
        self.rows[at as usize].as_ref().map_or((i64::MAX, u64::MAX), |kept| (kept.time, kept.number))
    }

    fn keep(&mut self, key: &[u8], time: i64, number: u64, row: &[u8], flags: Flags) {
        let key = self.keys.intern(key);
        self.of_keys.resize_with(self.keys.len(), VecDeque::new);
        self.bytes += row.len() + ROW_BYTES;
        let kept = Some(Kept { time, number, key, row: row.into() });
        let at = match self.free.pop() {
            Some(at) => {
                (self.rows[at as usize], self.flags[at as usize]) = (kept, flags);
                at
            }
            None => {
                self.rows.push(kept);
                self.flags.push(flags);
                (self.rows.len() - 1) as u32
            }
        };
        let of_key = &self.of_keys[key as usize];
        let is_last = of_key.back().is_none_or(|last| self.place(*last) < (time, number));
        let place = match is_last {
            true => of_key.len(),
            false => of_key.partition_point(|other| self.place(*other) < (time, number)),
        };
        self.of_keys[key as usize].insert(place, at);
        self.by_time.entry(time).or_default().push(at);
        if flags.is_changed {
            self.changed.push(at);
        }
    }

    /// Forgets the rows up to a time; tells of each, and whether it had a partner.
    fn expire(&mut self, through: i64, mut tell: impl FnMut(Box<[u8]>, bool)) {
        while let Some(first) = self.by_time.first_entry().filter(|first| *first.key() <= through) {
            for at in first.remove() {
                let Some(Kept { number, key, row, .. }) = self.rows[at as usize].take() else { continue };
                let flags = std::mem::take(&mut self.flags[at as usize]);
                let of_key = &mut self.of_keys[key as usize];
                match of_key.front() == Some(&at) {
                    true => _ = of_key.pop_front(),
                    false => of_key.retain(|other| *other != at),
                }
                let is_last = of_key.is_empty();
                if flags.is_saved {
                    self.gone.push((self.keys.key(key).into(), number));
                }
                if is_last {
                    self.keys.remove(key);
                }
                self.free.push(at);
                self.bytes -= row.len() + ROW_BYTES;
                tell(row, flags.has_partner);
            }
        }
        self.keys.recycle();
    }

    /// Puts rows of one time in the order of their numbers.
    fn order_by_numbers(&mut self) {
        let mut by_time = std::mem::take(&mut self.by_time);
        by_time.values_mut().for_each(|of_time| of_time.sort_by_key(|at| self.place(*at)));
        self.by_time = by_time;
    }
}

#[cfg(test)]
#[path = "interval_join_tests.rs"]
mod tests;

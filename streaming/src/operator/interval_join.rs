//! Joins of two streams within a bound in event time: a pair's left time minus its right time is between two numbers.
//!
//! A row is kept until the watermark says that no partner can come. Only then a row that stays without a partner is known to
//! have none, and is emitted padded with NULLs. Results are final. They may be older than the watermark by the width of the
//! interval, so [`Operator::output_watermark`] holds it back.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use tereza_runtime::error::{Error, Result};

use super::batch::{Batch, RowKind};
use super::key::{BuildKeyHasher, RowCodec};
use super::mode::ChangelogMode;
use super::pairs::{JoinOn, PairChange, PairCodec, in_order};
use super::state::{SnapshotWriter, StateReader, columns_text, joined_key, split_key, take, take_i64};
use super::time::{TIME_MS_MAX, check_time, event_times};
use super::{Context, Operator, Output, WATERMARK_MAX, WATERMARK_MIN};

const NAME: &str = "interval join";
const TABLES: [&str; 2] = ["left", "right"];
/// Bytes of a row besides its own.
const ROW_BYTES: usize = 160;

type Bytes = Arc<[u8]>;
/// The event time of a row and the number of its arrival.
type Place = (i64, u64);

#[derive(Debug, Clone)]
struct Kept {
    row: Bytes,
    has_partner: bool,
}

#[derive(Debug, Default)]
struct Side {
    rows: HashMap<Bytes, BTreeMap<Place, Kept>, BuildKeyHasher>,
    /// Every row by its place: the order in which rows expire. Tasks that were brought together may share numbers.
    places: BTreeSet<(Place, Bytes)>,
    changed: BTreeSet<(Bytes, Place)>,
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

    fn process(&mut self, input: usize, batch: Batch, cx: &Context, out: &mut dyn Output) -> Result<()> {
        let other = 1 - input;
        let time = self.times[input];
        let times = event_times(batch.rows().column(time), batch.rows().schema_ref().field(time).name())?;
        let keys = self.keys[input].encode(batch.rows())?;
        let rows = self.pairs.row(input).encode(batch.rows())?;
        let nulls = self.keys[input].nulls(batch.rows());
        let is_null = |row: usize| nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));

        let own: Vec<Bytes> = (0..batch.len()).map(|row| rows.get(row).into()).collect();
        let mut found: Vec<(usize, Place)> = Vec::new();
        let mut pairs: Vec<[Bytes; 2]> = Vec::new();
        for (row, time) in times.iter().enumerate().filter(|(row, _)| !is_null(*row)) {
            let Some(partners) = self.sides[other].rows.get(keys.get(row)) else { continue };
            let (from, to) = self.partner_times(input, *time);
            for (place, kept) in partners.range((from, 0)..=(to, u64::MAX)) {
                found.push((row, *place));
                pairs.push(in_order(input, Arc::clone(&own[row]), Arc::clone(&kept.row)));
            }
        }
        let mut has_partner = vec![false; batch.len()];
        let mut changes: Vec<PairChange<Bytes>> = Vec::new();
        let meets = self.pairs.meets(&pairs)?;
        for (((row, place), pair), _) in found.into_iter().zip(pairs).zip(meets).filter(|(_, meets)| *meets) {
            has_partner[row] = true;
            changes.push((RowKind::Insert, pair.map(Some)));
            let side = &mut self.sides[other];
            if !self.on.kind.keeps(other) {
                continue;
            }
            if let Some(kept) = side.rows.get_mut(keys.get(row)).and_then(|rows| rows.get_mut(&place))
                && !std::mem::replace(&mut kept.has_partner, true)
                && let Some((key, _)) = side.rows.get_key_value(keys.get(row))
            {
                side.changed.insert((Arc::clone(key), place));
            }
        }

        let expired = self.expired_through(input, self.watermark);
        let keeps = self.on.kind.keeps(input);
        for (((row, time), own), has_partner) in times.into_iter().enumerate().zip(own).zip(has_partner) {
            if is_null(row) || time <= expired {
                if keeps && !has_partner {
                    changes.push((RowKind::Insert, in_order(input, Some(own), None)));
                }
                continue;
            }
            let place = (time, self.next);
            self.next += 1;
            self.sides[input].keep(keys.get(row), place, Kept { row: own, has_partner });
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
            while let Some(kept) = self.sides[input].pop_through(expired) {
                if self.on.kind.keeps(input) && !kept.has_partner {
                    changes.push((RowKind::Insert, in_order(input, Some(kept.row), None)));
                }
            }
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
            for (key, place) in std::mem::take(&mut side.changed) {
                let value = side.rows.get(&key).and_then(|rows| rows.get(&place)).map(|kept| {
                    let mut value = place.0.to_le_bytes().to_vec();
                    value.push(u8::from(kept.has_partner));
                    value.extend_from_slice(&kept.row);
                    value
                });
                writer.entry(table, &key, &joined_key(&key, &place.1.to_be_bytes()), value.as_deref())?;
            }
        }
        Ok(())
    }

    fn restore(&mut self, reader: &StateReader) -> Result<()> {
        self.watermark = reader.watermark()?;
        self.next = reader.scalar_max("next").unwrap_or(0) as u64;
        for (side, table) in self.sides.iter_mut().zip(TABLES) {
            for entry in reader.entries(table) {
                let (key, mut number) = split_key(entry.key)?;
                let number = u64::from_be_bytes(take::<8>(&mut number)?);
                let mut row = entry.value;
                let time = take_i64(&mut row)?;
                let has_partner = take::<1>(&mut row)? == [1];
                side.keep(key, (time, number), Kept { row: row.into(), has_partner });
            }
            side.changed.clear();
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.sides.iter().map(|side| side.bytes).sum()
    }
}

impl Side {
    fn keep(&mut self, key: &[u8], place: Place, kept: Kept) {
        let known = self.rows.get_key_value(key).map(|(key, _)| Arc::clone(key));
        let key = known.unwrap_or_else(|| key.into());
        self.bytes += key.len() + kept.row.len() + ROW_BYTES;
        self.places.insert((place, Arc::clone(&key)));
        self.changed.insert((Arc::clone(&key), place));
        self.rows.entry(key).or_default().insert(place, kept);
    }

    /// Takes out the oldest row if its time is `through` or before.
    fn pop_through(&mut self, through: i64) -> Option<Kept> {
        self.places.first().filter(|((time, _), _)| *time <= through)?;
        let (place, key) = self.places.pop_first()?;
        let rows = self.rows.get_mut(&key)?;
        let kept = rows.remove(&place)?;
        if rows.is_empty() {
            self.rows.remove(&key);
        }
        self.bytes -= key.len() + kept.row.len() + ROW_BYTES;
        self.changed.insert((key, place));
        Some(kept)
    }
}

#[cfg(test)]
#[path = "interval_join_tests.rs"]
mod tests;

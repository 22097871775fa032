//! Rows that are made in the process, each a function of its number.

use std::ops::Range;

use arrow::array::RecordBatch;
use tereza_runtime::Result;

use super::datagen::Datagen;
use crate::nexmark::Nexmark;

/// Events of one batch.
const EVENTS_MAX: u64 = 16 << 10;

/// Who makes rows.
#[derive(Debug, Clone)]
pub(crate) enum Made {
    Nexmark(Box<Nexmark>),
    Datagen(Box<Datagen>),
}

impl Made {
    /// The numbers of all rows; up to `u64::MAX` if there is no end.
    pub(crate) fn numbers(&self) -> Range<u64> {
        match self {
            Self::Nexmark(events) => events.numbers(),
            Self::Datagen(rows) => rows.numbers(),
        }
    }

    /// Whether the table goes on without rows after the last one.
    pub(crate) fn keeps_alive(&self) -> bool {
        match self {
            Self::Nexmark(events) => events.options().keeps_alive,
            Self::Datagen(_) => false,
        }
    }

    /// The option that gives the table an end.
    pub(crate) fn end_option(&self) -> &'static str {
        match self {
            Self::Nexmark(_) => "events.num",
            Self::Datagen(_) => "number-of-rows",
        }
    }

    /// The rows that are to be made now as one batch, from `next` on.
    pub(super) fn due(&self, next: u64, now_ms: i64) -> Range<u64> {
        let rows_max = match self {
            Self::Nexmark(_) => EVENTS_MAX,
            Self::Datagen(rows) => rows.batch_rows().min(EVENTS_MAX),
        };
        let mut last = next.saturating_add(rows_max).min(self.numbers().end);
        while last > next && self.time_ms(last - 1).is_some_and(|time_ms| time_ms > now_ms) {
            last = next + (last - next) / 2;
        }
        next..last.max(next)
    }

    /// When a row is to be made, in milliseconds since 1970; `None` if there is nothing to wait for.
    fn time_ms(&self, number: u64) -> Option<i64> {
        match self {
            Self::Nexmark(events) => (!events.options().is_unpaced).then(|| events.time_ms(number)),
            Self::Datagen(rows) => Some(rows.time_ms(number)),
        }
    }

    pub(super) fn batch(&self, numbers: Range<u64>) -> Result<RecordBatch> {
        match self {
            Self::Nexmark(events) => events.batch(numbers),
            Self::Datagen(rows) => rows.batch(numbers),
        }
    }
}

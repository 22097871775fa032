//! How far a task is, for those who watch.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::record::{EpochRecord, Positions};

/// Counters of one task, since its attempt began.
#[derive(Debug)]
pub(crate) struct Stats {
    rows_in: AtomicU64,
    rows_out: AtomicU64,
    late: AtomicU64,
    state_bytes: AtomicU64,
    watermark: AtomicI64,
    committed: Mutex<Committed>,
    /// How far the partitions went lately.
    ends: Mutex<Positions>,
}

/// What the last committed record says.
#[derive(Debug, Default)]
struct Committed {
    /// Its epoch; 0 before the first one.
    epoch: u64,
    /// The next row of each partition.
    positions: Positions,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            rows_in: AtomicU64::new(0),
            rows_out: AtomicU64::new(0),
            late: AtomicU64::new(0),
            state_bytes: AtomicU64::new(0),
            watermark: AtomicI64::new(i64::MIN),
            committed: Mutex::default(),
            ends: Mutex::default(),
        }
    }
}

impl Stats {
    pub(crate) fn read(&self, rows: u64) {
        self.rows_in.fetch_add(rows, Ordering::Relaxed);
    }

    pub(crate) fn wrote(&self, rows: u64) {
        self.rows_out.fetch_add(rows, Ordering::Relaxed);
    }

    pub(crate) fn holds(&self, late: u64, state_bytes: u64, watermark: Option<i64>) {
        self.late.store(late, Ordering::Relaxed);
        self.state_bytes.store(state_bytes, Ordering::Relaxed);
        self.watermark.store(watermark.unwrap_or(i64::MIN), Ordering::Relaxed);
    }

    pub(crate) fn committed(&self, record: &EpochRecord) {
        *self.committed.lock() = Committed { epoch: record.epoch, positions: record.positions.clone() };
    }

    /// Partitions of Kafka go so far.
    pub(crate) fn ends(&self, ends: Positions) {
        *self.ends.lock() = ends;
    }

    /// Rows that were read.
    pub(crate) fn rows_in(&self) -> u64 {
        self.rows_in.load(Ordering::Relaxed)
    }

    /// Rows that went to sinks.
    pub(crate) fn rows_out(&self) -> u64 {
        self.rows_out.load(Ordering::Relaxed)
    }

    /// Rows that came after their window was final.
    pub(crate) fn late_rows(&self) -> u64 {
        self.late.load(Ordering::Relaxed)
    }

    /// Bytes that operators hold.
    pub(crate) fn state_bytes(&self) -> u64 {
        self.state_bytes.load(Ordering::Relaxed)
    }

    /// The least watermark of all tables that have one, in ms since 1970; `i64::MAX` after the end.
    pub(crate) fn watermark_ms(&self) -> Option<i64> {
        Some(self.watermark.load(Ordering::Relaxed)).filter(|watermark| *watermark > i64::MIN)
    }

    /// The epoch of the last committed record; 0 before the first one.
    pub(crate) fn epoch(&self) -> u64 {
        self.committed.lock().epoch
    }

    /// Messages that are committed in Kafka and in no committed record yet; `None` where nothing is known of them.
    pub(crate) fn lag(&self) -> Option<u64> {
        let (committed, ends) = (self.committed.lock(), self.ends.lock());
        let mut lag = None;
        for (topic, partitions) in &committed.positions {
            for (partition, next) in partitions {
                if let Some(end) = ends.get(topic).and_then(|of| of.get(partition)) {
                    *lag.get_or_insert(0) += u64::try_from(end - next).unwrap_or_default();
                }
            }
        }
        lag
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn lag_is_what_is_there_and_not_committed() {
        let stats = Stats::default();
        assert_eq!(stats.lag(), None);
        let positions = |offsets: &[i64]| -> Positions {
            let partitions = (0..).zip(offsets.iter().copied()).collect::<BTreeMap<i32, i64>>();
            Positions::from([("t".to_owned(), partitions)])
        };
        stats.ends(positions(&[10, 20]));
        stats.committed(&EpochRecord { epoch: 3, positions: positions(&[4, 25, 7]), ..EpochRecord::default() });
        assert_eq!((stats.epoch(), stats.lag()), (3, Some(6)));
    }
}

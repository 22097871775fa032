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
}

/// What the last committed record says.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Committed {
    /// Its epoch; 0 before the first one.
    pub(crate) epoch: u64,
    /// Messages that were committed in Kafka lately and are not read yet; `None` where nothing is known of them.
    pub(crate) lag: Option<u64>,
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

    /// A record is committed; `ends` is how far its partitions went lately.
    pub(crate) fn committed(&self, record: &EpochRecord, ends: &Positions) {
        let mut lag = None;
        for (topic, partitions) in &record.positions {
            for (partition, next) in partitions {
                if let Some(end) = ends.get(topic).and_then(|of| of.get(partition)) {
                    *lag.get_or_insert(0) += u64::try_from(end - next).unwrap_or_default();
                }
            }
        }
        *self.committed.lock() = Committed { epoch: record.epoch, lag };
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

    /// What the last committed record says.
    pub(crate) fn last(&self) -> Committed {
        *self.committed.lock()
    }
}

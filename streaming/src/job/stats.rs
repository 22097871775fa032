//! How far a task is, and the tasks of a job together, for those who watch.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::record::{EpochRecord, Positions};
use crate::waits::Waits;

/// Counters of one task, since its attempt began.
#[derive(Debug)]
pub(crate) struct Stats {
    rows_in: AtomicU64,
    rows_out: AtomicU64,
    late: AtomicU64,
    state_bytes: AtomicU64,
    watermark: AtomicI64,
    /// The task works, or has worked.
    has_begun: AtomicBool,
    committed: Mutex<Committed>,
    /// How far the partitions went lately.
    ends: Mutex<Positions>,
    /// What all tasks of the attempt wait for.
    waits: Waits,
}

/// What the last committed record says.
#[derive(Debug, Default)]
struct Committed {
    /// Whether this attempt has committed it.
    is_own: bool,
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
            has_begun: AtomicBool::new(false),
            committed: Mutex::default(),
            ends: Mutex::default(),
            waits: Waits::default(),
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
        *self.committed.lock() = Committed { is_own: true, epoch: record.epoch, positions: record.positions.clone() };
    }

    /// The attempt goes on from this record.
    pub(crate) fn begins(&self, record: &EpochRecord) {
        self.has_begun.store(true, Ordering::Relaxed);
        *self.committed.lock() = Committed { is_own: false, epoch: record.epoch, positions: record.positions.clone() };
    }

    /// Partitions of Kafka go so far.
    pub(crate) fn ends(&self, ends: Positions) {
        *self.ends.lock() = ends;
    }

    /// What is waited for that is away.
    pub(crate) fn waits(&self) -> &Waits {
        &self.waits
    }

    /// Messages that are committed in Kafka and in no committed record yet; `None` where nothing is known of them.
    fn lag(&self) -> Option<u64> {
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

/// How far the tasks of a job are.
#[derive(Debug, Default)]
pub(crate) struct JobStats {
    tasks: Mutex<Vec<Arc<Stats>>>,
    waits: Waits,
}

impl JobStats {
    /// Those of one more task.
    pub(crate) fn task(&self) -> Arc<Stats> {
        let stats = Arc::new(Stats { waits: self.waits.clone(), ..Stats::default() });
        self.tasks.lock().push(Arc::clone(&stats));
        stats
    }

    /// What the attempt waits for that is away.
    pub(crate) fn waits(&self) -> &Waits {
        &self.waits
    }

    /// How many there are.
    pub(crate) fn tasks(&self) -> u32 {
        u32::try_from(self.tasks.lock().len()).unwrap_or(u32::MAX)
    }

    /// Whether a task works, or has worked since this attempt began.
    pub(crate) fn has_begun(&self) -> bool {
        self.tasks.lock().iter().any(|stats| stats.has_begun.load(Ordering::Relaxed))
    }

    fn sum(&self, of: impl Fn(&Stats) -> &AtomicU64) -> u64 {
        self.tasks.lock().iter().map(|stats| of(stats).load(Ordering::Relaxed)).sum()
    }

    /// Rows that were read.
    pub(crate) fn rows_in(&self) -> u64 {
        self.sum(|stats| &stats.rows_in)
    }

    /// Rows that went to sinks.
    pub(crate) fn rows_out(&self) -> u64 {
        self.sum(|stats| &stats.rows_out)
    }

    /// Rows that came after their window was final.
    pub(crate) fn late_rows(&self) -> u64 {
        self.sum(|stats| &stats.late)
    }

    /// Bytes that operators hold.
    pub(crate) fn state_bytes(&self) -> u64 {
        self.sum(|stats| &stats.state_bytes)
    }

    /// The least watermark of all tables that have one, in ms since 1970; `i64::MAX` after the end.
    pub(crate) fn watermark_ms(&self) -> Option<i64> {
        let watermarks: Vec<i64> =
            self.tasks.lock().iter().map(|stats| stats.watermark.load(Ordering::Relaxed)).collect();
        watermarks.into_iter().filter(|watermark| *watermark > i64::MIN).min()
    }

    /// The lowest epoch that a task has committed last; 0 before the first one.
    pub(crate) fn epoch(&self) -> u64 {
        let epochs: Vec<u64> = self.tasks.lock().iter().map(|stats| stats.committed.lock().epoch).collect();
        epochs.into_iter().filter(|epoch| *epoch > 0).min().unwrap_or_default()
    }

    /// Whether a task has committed anything since this attempt began.
    pub(crate) fn has_committed(&self) -> bool {
        self.tasks.lock().iter().any(|stats| stats.committed.lock().is_own)
    }

    /// Messages that are committed in Kafka and in no committed record yet; `None` where nothing is known of them.
    pub(crate) fn lag(&self) -> Option<u64> {
        let lags: Vec<u64> = self.tasks.lock().iter().filter_map(|stats| stats.lag()).collect();
        lags.into_iter().reduce(|sum, lag| sum + lag)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn lag_is_what_is_there_and_not_committed() {
        let job = JobStats::default();
        let stats = job.task();
        assert_eq!((job.epoch(), job.lag()), (0, None));
        let positions = |offsets: &[i64]| -> Positions {
            let partitions = (0..).zip(offsets.iter().copied()).collect::<BTreeMap<i32, i64>>();
            Positions::from([("t".to_owned(), partitions)])
        };
        stats.ends(positions(&[10, 20]));
        stats.committed(&EpochRecord { epoch: 3, positions: positions(&[4, 25, 7]), ..EpochRecord::default() });
        assert_eq!((job.epoch(), job.lag(), job.has_committed()), (3, Some(6), true));
    }

    #[test]
    fn tasks_add_up() {
        let job = JobStats::default();
        let (one, other) = (job.task(), job.task());
        assert_eq!(job.tasks(), 2);
        assert_eq!((job.watermark_ms(), job.has_committed()), (None, false));
        one.begins(&EpochRecord { epoch: 7, ..EpochRecord::default() });
        assert_eq!((job.epoch(), job.has_committed()), (7, false), "nothing is known of the other one");
        other.committed(&EpochRecord { epoch: 5, ..EpochRecord::default() });
        for (stats, n) in [(&one, 1), (&other, 10)] {
            stats.read(n);
            stats.wrote(2 * n);
            stats.holds(3 * n, 4 * n, Some(i64::try_from(n).unwrap()));
        }
        assert_eq!((job.rows_in(), job.rows_out(), job.late_rows(), job.state_bytes()), (11, 22, 33, 44));
        assert_eq!((job.watermark_ms(), job.epoch(), job.has_committed()), (Some(1), 5, true));
    }
}

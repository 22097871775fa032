//! How far a job is, as the process that runs it knows, and as the job's record tells all others.

use std::time::Instant;

use tereza_engine::jobs::{Detail, Job, Jobs, RUNNING, StreamProgress};
use tereza_runtime::{Error, clock};

use super::stats::JobStats;
use crate::operator::WATERMARK_MAX;

/// Looks at the record of a job between two in which it is told how far the job is.
const LOOKS: u32 = 5;

/// Tells this process how far an attempt is.
pub(super) struct Meter {
    /// How far the job was before, and why it is not further: what holds until a task works.
    known: StreamProgress,
    last: Instant,
    rows_in: u64,
}

impl Meter {
    pub(super) fn new(known: StreamProgress) -> Self {
        Self { known: StreamProgress { rows_per_second: 0.0, ..known }, last: clock::now(), rows_in: 0 }
    }

    pub(super) fn read(&mut self, stats: &JobStats) -> StreamProgress {
        if !stats.has_begun() {
            let waits_for = stats.waits().text().or_else(|| self.known.waits_for.clone());
            return StreamProgress { waits_for, ..self.known.clone() };
        }
        let seconds = self.last.elapsed().as_secs_f64();
        let mut progress = now(stats);
        if seconds > 0.0 {
            progress.rows_per_second = (progress.rows_in - self.rows_in) as f64 / seconds;
            (self.last, self.rows_in) = (clock::now(), progress.rows_in);
        }
        progress
    }
}

/// How far a job is that reads no more.
pub(super) fn now(stats: &JobStats) -> StreamProgress {
    StreamProgress {
        epoch: stats.epoch(),
        // At the end of all tables it is no time.
        watermark_ms: stats.watermark_ms().filter(|watermark| *watermark < WATERMARK_MAX),
        lag: stats.lag(),
        rows_in: stats.rows_in(),
        rows_out: stats.rows_out(),
        rows_per_second: 0.0,
        late_rows: stats.late_rows(),
        state_bytes: stats.state_bytes(),
        waits_for: stats.waits().text(),
        tasks: stats.tasks(),
    }
}

/// Writes how far a job is into its record, and that it begins to wait.
pub(super) struct Keeper<'a> {
    jobs: &'a Jobs,
    process_id: &'a str,
    looks: u32,
    kept: Option<StreamProgress>,
    waits: bool,
}

impl<'a> Keeper<'a> {
    /// For an attempt that `process_id` runs. `waits` says that the record tells already what is waited for.
    pub(super) fn new(jobs: &'a Jobs, process_id: &'a str, waits: bool) -> Self {
        Self { jobs, process_id, looks: 0, kept: None, waits }
    }

    /// To be called at each look at the record. What cannot be written is written at a later one.
    pub(super) async fn look(&mut self, id: &str) {
        let Some(progress) = self.jobs.progress(id) else { return };
        let event = match (self.waits, &progress.waits_for) {
            (false, Some(what)) => Some(format!("waits: {what}")),
            (true, None) => Some("goes on".to_owned()),
            _ => None,
        };
        let is_due = self.looks.is_multiple_of(LOOKS);
        self.looks = self.looks.wrapping_add(1);
        if event.is_none() && (!is_due || self.kept.as_ref() == Some(&progress)) {
            return;
        }
        let now_ms = self.jobs.now_ms();
        let change = |job: &mut Job, detail: &mut Detail| {
            if job.state != RUNNING || job.owner.as_deref() != Some(self.process_id) {
                return Err(Error::cancelled(format!("job '{}' does not run here any more", job.id)));
            }
            detail.progress = Some(progress.clone());
            if let Some(event) = &event {
                detail.note(now_ms, job.attempts, event);
            }
            Ok(())
        };
        match self.jobs.change(id, change).await {
            Ok(_) => {
                self.waits = progress.waits_for.is_some();
                self.kept = Some(progress);
            }
            Err(error) => tracing::debug!(job = id, %error, "it is not noted how far a stream job is"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::EpochRecord;
    use crate::waits::STORE;

    #[test]
    fn what_was_known_holds_until_a_task_works() {
        let known = StreamProgress {
            epoch: 7,
            rows_per_second: 5.0,
            waits_for: Some("a right".into()),
            ..now(&JobStats::default())
        };
        let stats = JobStats::default();
        let mut meter = Meter::new(known);
        let told = meter.read(&stats);
        assert_eq!((told.epoch, told.rows_per_second, told.waits_for.as_deref()), (7, 0.0, Some("a right")));
        stats.waits().begin(STORE, "the store");
        assert_eq!(meter.read(&stats).waits_for.as_deref(), Some("the store"));
        stats.waits().end(STORE);
        let task = stats.task();
        assert_eq!(meter.read(&stats).epoch, 7);
        task.begins(&EpochRecord { epoch: 8, ..EpochRecord::default() });
        task.holds(3, 0, Some(WATERMARK_MAX));
        let told = meter.read(&stats);
        assert_eq!((told.epoch, told.late_rows, told.watermark_ms, told.waits_for), (8, 3, None, None));
    }
}

//! How far a statement is on executors.

use std::sync::OnceLock;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// How far the stages of a statement are: of the attempt that runs, so that the counts may begin again.
#[derive(Debug, Default)]
pub struct StageProgress {
    counts: Mutex<StageCounts>,
    wants_explanation: bool,
    explanation: OnceLock<String>,
    taken_back: OnceLock<String>,
}

/// A reading of [`StageProgress`]. Stages that depend on what others make are known when those are done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StageCounts {
    /// Stages that are known.
    pub stages: u64,
    /// Stages that are done.
    pub stages_done: u64,
    /// Partitions of the stages that have begun.
    pub partitions: u64,
    /// Partitions that are done.
    pub partitions_done: u64,
    /// Rows read from tables, by tasks that are done.
    pub scanned_rows: u64,
    /// Bytes read from tables, by tasks that are done.
    pub scanned_bytes: u64,
}

impl StageProgress {
    /// Of a statement that is to be explained when it is done.
    pub(crate) fn explaining() -> Self {
        Self { wants_explanation: true, ..Self::default() }
    }

    /// Whether [`StageProgress::explain`] is to be called at the end.
    pub fn wants_explanation(&self) -> bool {
        self.wants_explanation
    }

    /// Keeps what the stages did, for people.
    pub fn explain(&self, text: String) {
        // The first attempt that ended well is the one that counts.
        let _ = self.explanation.set(text);
    }

    /// What the stages did, if they are done and it was wanted.
    pub(crate) fn explanation(&self) -> Option<&str> {
        self.explanation.get().map(String::as_str)
    }

    /// Says that executors cannot run the statement, and why: the process that schedules does.
    pub(crate) fn take_back(&self, reason: String) {
        // A statement is placed once.
        let _ = self.taken_back.set(reason);
        self.set(StageCounts::default());
    }

    /// Why executors cannot run it, if that was found out.
    pub(crate) fn taken_back(&self) -> Option<&str> {
        self.taken_back.get().map(String::as_str)
    }

    /// Says how far they are.
    pub fn set(&self, counts: StageCounts) {
        *self.counts.lock() = counts;
    }

    /// How far they are.
    pub fn read(&self) -> StageCounts {
        *self.counts.lock()
    }
}

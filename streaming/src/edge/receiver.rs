//! How far time is in one partition of an edge.

use tereza_runtime::{Error, Result};

use super::{Head, Mark};
use crate::operator::WATERMARK_MAX;
use crate::record::{Told, Watermark};

/// Follows what the senders tell in one partition.
///
/// All messages of a generation come before those of the next one, since its tasks were closed before the next began. So the first
/// message of a generation ends what the tasks before told; until all tasks of the new one have told something, time stands still.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Receiver(Told);

impl Receiver {
    /// Goes on from a record.
    pub(crate) fn new(told: Told) -> Self {
        Self(told)
    }

    /// For a record.
    pub(crate) fn told(&self) -> &Told {
        &self.0
    }

    /// Takes what a message tells, after its rows.
    ///
    /// # Errors
    /// `Internal` if the message is of an earlier generation, or says that this one has other tasks.
    pub(crate) fn take(&mut self, head: &Head) -> Result<()> {
        let Told { generation, tasks, by_task, watermark } = &mut self.0;
        if head.generation > *generation {
            (*generation, *tasks) = (head.generation, head.tasks);
            by_task.clear();
            watermark.idle = false;
        }
        if (head.generation, head.tasks) != (*generation, *tasks) {
            return Err(Error::internal(format!(
                "an edge has a message of generation {} with {} tasks after one of generation {generation} with {tasks}",
                head.generation, head.tasks
            )));
        }
        let Some(mark) = head.mark else { return Ok(()) };
        by_task.insert(head.task, Watermark { ms: mark.watermark(), idle: mark == Mark::Idle });
        if by_task.len() < *tasks as usize {
            return Ok(());
        }
        let marks = by_task.values().map(|told| Some(if told.idle { Mark::Idle } else { Mark::from(told.ms) }));
        match Mark::least(marks) {
            Some(Mark::At(ms)) => *watermark = Watermark { ms: watermark.ms.max(Some(ms)), idle: false },
            Some(Mark::Idle) => watermark.idle = true,
            None => {}
        }
        Ok(())
    }

    /// Up to where time has come; `None` before anything is known.
    pub(crate) fn mark(&self) -> Option<Mark> {
        let Watermark { ms, idle } = self.0.watermark;
        match (ms, idle) {
            (Some(WATERMARK_MAX), _) => Some(Mark::At(WATERMARK_MAX)),
            (_, true) => Some(Mark::Idle),
            (ms, false) => ms.map(Mark::At),
        }
    }

    /// Whether no rows come any more.
    pub(crate) fn is_ended(&self) -> bool {
        self.mark() == Some(Mark::At(WATERMARK_MAX))
    }
}

//! The memory of answers: how much all that are being made or sent may take together.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tereza_thrift::hive::{Exception, MetaException};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::Answer;

/// The unit in which memory is given out.
const UNIT_BYTES: usize = 1 << 10;
/// How long an answer waits for others to be sent before any of it is there.
const PATIENCE: Duration = Duration::from_secs(30);

/// The memory that all answers share.
pub(super) struct Answers {
    free: Arc<Semaphore>,
    limit_bytes: usize,
    /// Bytes on the wire that no client reads.
    reply_limit_bytes: usize,
}

/// What one connection holds of it, until its answer is sent.
#[derive(Default)]
pub(super) struct Held(Mutex<Option<OwnedSemaphorePermit>>);

impl Held {
    /// Lets others have what is held, and returns how many bytes that was, about.
    pub(super) fn release(&self) -> usize {
        self.0.lock().take().map_or(0, |permit| permit.num_permits() * UNIT_BYTES)
    }
}

/// An answer that grows.
pub(super) struct Growing<'a> {
    answers: &'a Answers,
    held: &'a Held,
    wire_bytes: usize,
}

impl Answers {
    pub(super) fn new(limit_bytes: usize, reply_limit_bytes: usize) -> Self {
        let units = (limit_bytes / UNIT_BYTES).min(Semaphore::MAX_PERMITS);
        Self { free: Arc::new(Semaphore::new(units)), limit_bytes, reply_limit_bytes }
    }

    pub(super) fn begin<'a>(&'a self, held: &'a Held) -> Growing<'a> {
        Growing { answers: self, held, wire_bytes: 0 }
    }
}

impl Growing<'_> {
    /// Makes room for more of it: bytes of memory, and bytes that it has on the wire at least.
    pub(super) async fn grow(&mut self, (memory, wire): (usize, usize)) -> Answer<()> {
        self.wire_bytes = self.wire_bytes.saturating_add(wire);
        let limit = self.answers.reply_limit_bytes;
        if self.wire_bytes > limit {
            let message = format!(
                "the result has more than {limit} bytes, which clients refuse to read: ask for fewer partitions or tables at a time"
            );
            return Err(MetaException::new(message).into());
        }
        if memory >= self.answers.limit_bytes {
            return Err(self.refused());
        }
        let units = u32::try_from(memory / UNIT_BYTES + 1).unwrap_or(u32::MAX);
        let free = Arc::clone(&self.answers.free);
        let is_first = self.held.0.lock().is_none();
        // Who holds some does not wait for more: two that do would wait for each other.
        let permit = if is_first {
            timeout(PATIENCE, free.acquire_many_owned(units)).await.ok().and_then(Result::ok)
        } else {
            free.try_acquire_many_owned(units).ok()
        };
        let Some(permit) = permit else { return Err(self.refused()) };
        let mut held = self.held.0.lock();
        match held.as_mut() {
            Some(held) => held.merge(permit),
            None => *held = Some(permit),
        }
        Ok(())
    }

    fn refused(&self) -> Exception {
        let limit = self.answers.limit_bytes;
        let message = format!(
            "answers take all of the {limit} bytes that they may (answers_limit_bytes): ask again, or for fewer at a time"
        );
        MetaException::new(message).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn answers_share_what_there_is() {
        let answers = Answers::new(100 * UNIT_BYTES, 1 << 20);
        let (one, two) = (Held::default(), Held::default());
        let mut first = answers.begin(&one);
        first.grow((50 * UNIT_BYTES, 1)).await.unwrap();
        answers.begin(&two).grow((40 * UNIT_BYTES, 1)).await.unwrap();
        let refused = first.grow((20 * UNIT_BYTES, 1)).await.unwrap_err();
        assert!(refused.to_string().contains("answers_limit_bytes"), "{refused}");
        let refused = answers.begin(&Held::default()).grow((100 * UNIT_BYTES, 1)).await.unwrap_err();
        assert!(refused.to_string().contains("answers_limit_bytes"), "at once: it never fits");
        assert_eq!(two.release(), 41 * UNIT_BYTES);
        first.grow((20 * UNIT_BYTES, 1)).await.unwrap();
        let too_large = first.grow((1, 1 << 20)).await.unwrap_err();
        assert!(too_large.to_string().contains("clients refuse to read"), "{too_large}");
        assert_eq!((one.release(), one.release()), (72 * UNIT_BYTES, 0));
        assert_eq!(answers.free.available_permits(), 100);
    }
}

//! Executors that are asked to end, and who still needs what they made.
//!
//! Ballista forgets an executor as soon as it says that it ends, and with it what its tasks made: each statement would begin
//! again. Here it is given nothing new from then on, but it is let go of only when all statements have ended that had begun
//! before, or after a while. It waits for that, since its goodbye is not answered before.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

/// How often it is looked whether statements have ended.
const LOOK: Duration = Duration::from_millis(20);
/// Executors that are remembered to have gone: whoever runs a statement may learn of it a little later.
const GONE_MAX: usize = 1_000;

/// The statements on executors, and the executors that are asked to end. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Drains(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Of the next statement.
    next: u64,
    running: BTreeSet<u64>,
    /// Executors that may not be given tasks.
    ending: HashSet<String>,
    /// Those that said goodbye, and whether somebody still needed them then.
    gone: VecDeque<(String, bool)>,
}

/// A statement on executors; it has ended when this is dropped.
#[derive(Debug)]
pub(crate) struct Statement {
    number: u64,
    all: Drains,
}

impl Drop for Statement {
    fn drop(&mut self) {
        self.all.0.lock().running.remove(&self.number);
    }
}

impl Drains {
    /// A statement begins.
    pub(crate) fn begin(&self) -> Statement {
        let mut state = self.0.lock();
        let number = state.next;
        state.next += 1;
        state.running.insert(number);
        Statement { number, all: self.clone() }
    }

    /// An executor is asked to end.
    pub(crate) fn ends(&self, executor: &str) {
        self.0.lock().ending.insert(executor.to_owned());
    }

    /// Whether an executor is asked to end.
    pub(crate) fn is_ending(&self, executor: &str) -> bool {
        self.0.lock().ending.contains(executor)
    }

    /// Whether an executor said goodbye and was let go of.
    pub(crate) fn has_gone(&self, executor: &str) -> bool {
        self.0.lock().gone.iter().any(|(gone, _)| gone == executor)
    }

    /// Whether nobody needed it any more then.
    pub(crate) fn is_released(&self, executor: &str) -> bool {
        self.0.lock().gone.iter().any(|(gone, is_needed)| gone == executor && !is_needed)
    }

    /// Waits, for so long at most, until no statement needs what an executor has that is asked to end.
    pub(crate) async fn release(&self, executor: &str, timeout: Duration) {
        self.ends(executor);
        let is_needed = tokio::time::timeout(timeout, self.idle()).await.is_err();
        let mut state = self.0.lock();
        state.gone.push_back((executor.to_owned(), is_needed));
        if state.gone.len() > GONE_MAX {
            state.gone.pop_front();
        }
    }

    /// Waits until all statements have ended that run now.
    async fn idle(&self) {
        let next = self.0.lock().next;
        while self.0.lock().running.first().is_some_and(|first| *first < next) {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Forgets that an executor was asked to end: it is no longer there.
    pub(crate) fn lost(&self, executor: &str) {
        self.0.lock().ending.remove(executor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_executor_goes_when_the_statements_have_ended_that_had_begun_before() {
        let drains = Drains::default();
        let before = drains.begin();
        let all = drains.clone();
        let going = tokio::spawn(async move { all.release("e", Duration::from_secs(30)).await });
        tokio::time::sleep(3 * LOOK).await;
        assert!(drains.is_ending("e") && !going.is_finished());
        let _after = drains.begin();
        drop(before);
        going.await.unwrap();
        assert!(drains.is_released("e") && drains.has_gone("e"));
    }

    #[tokio::test]
    async fn an_executor_that_is_needed_for_too_long_is_lost() {
        let drains = Drains::default();
        let _statement = drains.begin();
        drains.release("e", 3 * LOOK).await;
        assert!(!drains.is_released("e") && drains.has_gone("e"));
        drains.lost("e");
        assert!(!drains.is_ending("e"));
    }
}

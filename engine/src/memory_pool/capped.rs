//! What one session may hold of the budget, where it has a limit of its own.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::common::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};

/// The setting of DataFusion's that a session may lower for itself.
pub(crate) const MEMORY_LIMIT: &str = "datafusion.runtime.memory_limit";

/// The runtime of a session whose operators may hold no more than this of what `runtime` lets all hold.
pub(crate) fn with_limit(runtime: &RuntimeEnv, limit_bytes: usize) -> Result<Arc<RuntimeEnv>> {
    let parent = Arc::clone(&runtime.memory_pool);
    let pool = CappedPool { limit_bytes, used_bytes: AtomicUsize::new(0), parent };
    RuntimeEnvBuilder::from_runtime_env(runtime).with_memory_pool(Arc::new(pool)).build_arc()
}

/// A smaller pool inside the process's: every byte counts in both.
#[derive(Debug)]
struct CappedPool {
    limit_bytes: usize,
    used_bytes: AtomicUsize,
    parent: Arc<dyn MemoryPool>,
}

impl fmt::Display for CappedPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "session limit of {} bytes within {}", self.limit_bytes, self.parent)
    }
}

impl MemoryPool for CappedPool {
    fn name(&self) -> &str {
        "session"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.parent.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.parent.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.used_bytes.fetch_add(additional, Ordering::Relaxed);
        self.parent.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.used_bytes.fetch_sub(shrink, Ordering::Relaxed);
        self.parent.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let grow = |used: usize| used.checked_add(additional).filter(|used| *used <= self.limit_bytes);
        if self.used_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grow).is_err() {
            return Err(DataFusionError::ResourcesExhausted(format!(
                "{} needs {additional} more bytes, beyond the session's limit of {} bytes ({MEMORY_LIMIT})",
                reservation.consumer().name(),
                self.limit_bytes
            )));
        }
        self.parent.try_grow(reservation, additional).inspect_err(|_| {
            self.used_bytes.fetch_sub(additional, Ordering::Relaxed);
        })
    }

    fn reserved(&self) -> usize {
        self.used_bytes.load(Ordering::Relaxed)
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.limit_bytes)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::execution::memory_pool::GreedyMemoryPool;

    use super::*;

    #[test]
    fn a_capped_pool_counts_in_both() {
        let parent: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(100));
        let runtime = RuntimeEnvBuilder::new().with_memory_pool(Arc::clone(&parent)).build().unwrap();
        let pool = Arc::clone(&with_limit(&runtime, 60).unwrap().memory_pool);
        let mine = MemoryConsumer::new("mine").register(&pool);
        let other = MemoryConsumer::new("other").register(&parent);
        mine.try_grow(50).expect("within both");
        assert!(mine.try_grow(11).is_err(), "beyond the session's limit");
        other.try_grow(45).expect("within the process's limit");
        assert!(mine.try_grow(10).is_err(), "beyond the process's limit");
        assert_eq!((pool.reserved(), parent.reserved()), (50, 95));
        drop(mine);
        assert_eq!((pool.reserved(), parent.reserved()), (0, 45));
    }
}

//! How the operators of all statements share the memory budget.
//!
//! DataFusion's fair pool gives each consumer that can spill the same part of the budget from the moment it is registered,
//! also those that hold next to nothing: a plan with eight exchanges and ten sorts leaves each sort a fortieth, and it
//! spills runs so small that merging them takes more memory than it saves. Here only those count that hold something.

use std::collections::HashMap;
use std::fmt;

use datafusion::common::{DataFusionError, Result};
use datafusion::execution::memory_pool::{
    MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation, human_readable_size,
};
use parking_lot::Mutex;

/// What can spill leaves one part in so many of the budget to what cannot: a hash join that comes late must not be refused
/// for a sort that could have spilled.
const UNSPILLABLE_PART: usize = 8;
/// Who holds less than one part in so many of the budget does not count when it is shared out.
const SMALL_PART: usize = 64;

/// A budget that consumers draw from.
///
/// * One that cannot spill gets what it asks for as long as the whole is not more than the budget.
/// * One that can spill and holds little gets so too: those that spill last still need some room to work in.
/// * One that can spill and holds much gets, beyond that, no more than an equal part of what those that cannot spill have left. The parts
///   are as many as there are spilling consumers that hold much, and one more for each partition, so that the next operator
///   of a plan finds room. Who holds more than its part, since others came, is refused the next time it asks, and spills.
pub(crate) struct BudgetPool {
    limit_bytes: usize,
    partitions: usize,
    shares: Mutex<Shares>,
}

#[derive(Debug, Default)]
struct Shares {
    unspillable_bytes: usize,
    spillable_bytes: usize,
    /// Bytes of each spilling consumer, by its id.
    spilling: HashMap<usize, usize>,
    /// How many of them hold much.
    large: usize,
}

impl BudgetPool {
    /// A pool of `limit_bytes` for plans of so many partitions.
    pub(crate) fn new(limit_bytes: usize, partitions: usize) -> Self {
        Self { limit_bytes, partitions, shares: Mutex::default() }
    }

    fn small(&self) -> usize {
        self.limit_bytes / SMALL_PART
    }

    fn is_large(&self, bytes: usize) -> bool {
        bytes > self.small()
    }

    /// Counts `change` for the consumer of a reservation.
    fn count(&self, shares: &mut Shares, consumer: &MemoryConsumer, change: impl Fn(usize) -> usize) {
        if !consumer.can_spill() {
            shares.unspillable_bytes = change(shares.unspillable_bytes);
            return;
        }
        shares.spillable_bytes = change(shares.spillable_bytes);
        let held = shares.spilling.entry(consumer.id()).or_default();
        let before = std::mem::replace(held, change(*held));
        let after = *held;
        match (self.is_large(before), self.is_large(after)) {
            (false, true) => shares.large += 1,
            (true, false) => shares.large -= 1,
            _ => {}
        }
    }

    /// The bytes that a consumer may get now.
    fn available(&self, shares: &Shares, consumer: &MemoryConsumer) -> usize {
        let free = self.limit_bytes.saturating_sub(shares.unspillable_bytes + shares.spillable_bytes);
        if !consumer.can_spill() {
            return free;
        }
        let spillable = self.limit_bytes - self.limit_bytes / UNSPILLABLE_PART;
        let held = shares.spilling.get(&consumer.id()).copied().unwrap_or_default();
        let others = shares.large - usize::from(self.is_large(held));
        let share = spillable.saturating_sub(shares.unspillable_bytes) / (others + 1 + self.partitions);
        let unspoken = spillable.saturating_sub(shares.unspillable_bytes + shares.spillable_bytes);
        let little = free.min(self.small().saturating_sub(held));
        little.max(unspoken.min(share.saturating_sub(held)))
    }
}

impl MemoryPool for BudgetPool {
    fn name(&self) -> &str {
        "budget"
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.shares.lock().spilling.remove(&consumer.id());
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.count(&mut self.shares.lock(), reservation.consumer(), |held| held + additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.count(&mut self.shares.lock(), reservation.consumer(), |held| held - shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let consumer = reservation.consumer();
        let mut shares = self.shares.lock();
        let available = self.available(&shares, consumer);
        if additional > available {
            return Err(DataFusionError::ResourcesExhausted(format!(
                "{} asked for {} more, has {}, and {} of the {} are left to it",
                consumer.name(),
                human_readable_size(additional),
                human_readable_size(reservation.size()),
                human_readable_size(available),
                human_readable_size(self.limit_bytes),
            )));
        }
        self.count(&mut shares, consumer, |held| held + additional);
        Ok(())
    }

    fn reserved(&self) -> usize {
        let shares = self.shares.lock();
        shares.unspillable_bytes + shares.spillable_bytes
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.limit_bytes)
    }
}

impl fmt::Debug for BudgetPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BudgetPool").field("limit_bytes", &self.limit_bytes).finish_non_exhaustive()
    }
}

impl fmt::Display for BudgetPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}(limit: {})", self.name(), human_readable_size(self.limit_bytes))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const LIMIT: usize = 8_000;
    const PARTITIONS: usize = 2;

    fn pool() -> Arc<dyn MemoryPool> {
        Arc::new(BudgetPool::new(LIMIT, PARTITIONS))
    }

    fn consumer(pool: &Arc<dyn MemoryPool>, can_spill: bool) -> MemoryReservation {
        MemoryConsumer::new("c").with_can_spill(can_spill).register(pool)
    }

    /// The most that a consumer gets now.
    fn most(reservation: &MemoryReservation) -> usize {
        let before = reservation.size();
        while reservation.try_grow(1).is_ok() {}
        let most = reservation.size();
        reservation.shrink(most - before);
        most
    }

    #[test]
    fn what_cannot_spill_gets_all() {
        let pool = pool();
        let join = consumer(&pool, false);
        assert_eq!(most(&join), LIMIT);
        join.grow(LIMIT);
        let other = consumer(&pool, false);
        let refused = other.try_grow(1).unwrap_err();
        assert!(matches!(refused, DataFusionError::ResourcesExhausted(_)), "{refused}");
        drop(join);
        assert_eq!(pool.reserved(), 0);
        other.try_grow(1).unwrap();
    }

    #[test]
    fn what_holds_little_takes_no_part_from_others() {
        let pool = pool();
        let exchanges: Vec<_> = (0..40).map(|_| consumer(&pool, true)).collect();
        let sort = consumer(&pool, true);
        assert_eq!(most(&sort), 7_000 / 3);
        for exchange in &exchanges {
            exchange.try_grow(10).unwrap();
        }
        assert_eq!(most(&sort), 7_000 / 3);
    }

    #[test]
    fn who_holds_more_than_its_part_is_refused_and_the_next_finds_room() {
        let pool = pool();
        let first = consumer(&pool, true);
        first.try_grow(2_300).unwrap();
        let second = consumer(&pool, true);
        second.try_grow(1_700).unwrap();
        assert!(first.try_grow(1).is_err());
        let join = consumer(&pool, false);
        assert_eq!(most(&join), LIMIT - 4_000);
        // It spilled.
        first.free();
        assert_eq!(most(&second), 7_000 / 3);
        drop(second);
        assert_eq!(most(&first), 7_000 / 3);
    }

    #[test]
    fn a_part_is_of_what_those_leave_that_cannot_spill() {
        let pool = pool();
        let join = consumer(&pool, false);
        join.try_grow(6_400).unwrap();
        let sort = consumer(&pool, true);
        assert_eq!(most(&sort), 200);
        // It took what is set aside for it, and more; a little is left to work in.
        join.try_grow(1_000).unwrap();
        assert_eq!(most(&sort), 125);
        join.grow(10_000);
        assert_eq!(most(&sort), 0);
    }
}

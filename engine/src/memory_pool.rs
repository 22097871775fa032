//! How the operators of all statements share the memory budget.
//!
//! DataFusion's fair pool gives each consumer that can spill the same part of the budget from the moment it is registered,
//! also those that hold next to nothing: a plan with eight exchanges and ten sorts leaves each sort a fortieth, and it
//! spills runs so small that merging them takes more memory than it saves. Here only those count that hold something.
//!
//! What operators report is not all they hold: pages being decoded, batches on their way, the copy that a hash join makes of
//! its batches when it has them all. So the pool also looks at what the process really holds.

pub(crate) mod capped;

use std::collections::HashMap;
use std::fmt;

use datafusion::common::{DataFusionError, Result};
use datafusion::execution::memory_pool::{
    MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation, human_readable_size,
};
use parking_lot::Mutex;
use tereza_runtime::memory;

/// What can spill leaves one part in so many of the budget to what cannot: a hash join that comes late must not be refused
/// for a sort that could have spilled.
const UNSPILLABLE_PART: usize = 8;
/// What hash joins hold, with the copies that they make of it, may be so many percent of the budget for a moment.
const COPIES_PERCENT: usize = 140;
/// The name of a hash join's input; one of several partitions has a number after it.
const HASH_JOIN_INPUT: &str = "HashJoinInput";
/// Of what the process may use, so many percent may really be held when an operator asks for more.
const HELD_PERCENT: u64 = 85;
/// What is really held is looked at again when so much was asked for and given back.
const LOOK_AGAIN_BYTES: usize = 8 << 20;
/// Who holds less than one part in so many of the budget does not count when it is shared out.
const SMALL_PART: usize = 64;

/// A budget that consumers draw from.
///
/// * One that cannot spill gets what it asks for as long as the whole is not more than the budget.
/// * One that can spill gets a little so too, with each of its reservations: those that spill last still need some room to
///   work in.
/// * One that can spill and holds much gets, beyond that, no more than an equal part of what those that cannot spill have
///   left. The parts are as many as there are spilling consumers that hold much, and one more for each partition, so that
///   the next operator of a plan finds room. Who holds more than its part, since others came, is refused the next time it
///   asks, and spills.
/// * A hash join's input leaves room for the copies that it and those of the other partitions make of themselves.
/// * When the process really holds too much, a hash join gets no more and what can spill no more than a little: the one is
///   planned again with joins that spill, where its statement can be, the other spills.
pub(crate) struct BudgetPool {
    limit_bytes: usize,
    partitions: usize,
    held: Option<Held>,
    shares: Mutex<Shares>,
}

/// What the process really holds, and how much that may be.
pub(crate) struct Held {
    pub(crate) most_bytes: u64,
    pub(crate) now_bytes: fn() -> Option<u64>,
    /// Gives back what is free and only kept for reuse.
    pub(crate) give_back: fn(),
}

impl Held {
    /// Of this process, whose memory and control group bound it.
    pub(crate) fn of_process() -> Option<Self> {
        let most_bytes = memory::limit()?.bytes / 100 * HELD_PERCENT;
        Some(Self { most_bytes, now_bytes: memory::anonymous_bytes, give_back: memory::give_back })
    }

    /// Whether it is too much, also after what is free was given back.
    fn is_too_much(&self) -> bool {
        let is_more = || (self.now_bytes)().is_some_and(|now| now > self.most_bytes);
        is_more() && {
            (self.give_back)();
            is_more()
        }
    }
}

#[derive(Debug, Default)]
struct Shares {
    unspillable_bytes: usize,
    spillable_bytes: usize,
    /// Bytes of each spilling consumer, by its id.
    spilling: HashMap<usize, usize>,
    /// How many of them hold much.
    large: usize,
    /// Whether the process held too much when it was last looked at, and what was asked for and given back since.
    is_too_much: bool,
    unseen_bytes: usize,
}

impl BudgetPool {
    /// A pool of `limit_bytes` for plans of so many partitions.
    pub(crate) fn new(limit_bytes: usize, partitions: usize, held: Option<Held>) -> Self {
        Self { limit_bytes, partitions, held, shares: Mutex::default() }
    }

    /// Looks at what the process holds, if much was asked for and given back since.
    fn look(&self, shares: &mut Shares) {
        if let Some(held) = &self.held
            && shares.unseen_bytes > LOOK_AGAIN_BYTES
        {
            shares.unseen_bytes = 0;
            shares.is_too_much = held.is_too_much();
        }
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

    /// The bytes that a reservation may get now.
    fn available(&self, shares: &Shares, reservation: &MemoryReservation) -> usize {
        let (consumer, held) = (reservation.consumer(), reservation.size());
        let reserved = shares.unspillable_bytes + shares.spillable_bytes;
        let free = self.limit_bytes.saturating_sub(reserved);
        if let Some(partition) = consumer.name().strip_prefix(HASH_JOIN_INPUT) {
            if shares.is_too_much && held > 0 {
                return 0;
            }
            // Inputs of all partitions are of about one size, and are complete at about the same time.
            let copies = if partition.is_empty() { 1 } else { self.partitions };
            let with_copies = (self.limit_bytes / 100 * COPIES_PERCENT).saturating_sub(reserved + copies * held);
            return free.min(with_copies / (1 + copies));
        }
        if !consumer.can_spill() {
            return free;
        }
        let spillable = self.limit_bytes - self.limit_bytes / UNSPILLABLE_PART;
        // An operator may have several reservations, of which one gets its little also when the others hold much: what merges
        // an aggregate's spilled runs must not take the room of the table that the runs are merged into.
        let little = free.min(self.small().saturating_sub(held));
        let held_in_all = shares.spilling.get(&consumer.id()).copied().unwrap_or_default();
        let others = shares.large - usize::from(self.is_large(held_in_all));
        let share = spillable.saturating_sub(shares.unspillable_bytes) / (others + 1 + self.partitions);
        let unspoken = spillable.saturating_sub(shares.unspillable_bytes + shares.spillable_bytes);
        if shares.is_too_much {
            return little;
        }
        little.max(unspoken.min(share.saturating_sub(held_in_all)))
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
        let mut shares = self.shares.lock();
        shares.unseen_bytes += shrink;
        self.count(&mut shares, reservation.consumer(), |held| held - shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let consumer = reservation.consumer();
        let mut shares = self.shares.lock();
        shares.unseen_bytes += additional;
        self.look(&mut shares);
        let available = self.available(&shares, reservation);
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
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    const LIMIT: usize = 8_000;
    const PARTITIONS: usize = 2;

    fn pool() -> Arc<dyn MemoryPool> {
        Arc::new(BudgetPool::new(LIMIT, PARTITIONS, None))
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
    fn each_reservation_of_an_operator_gets_a_little() {
        let pool = pool();
        let merge = consumer(&pool, true);
        assert_eq!(most(&merge), 7_000 / 3);
        merge.try_grow(7_000 / 3).unwrap();
        let table = merge.new_empty();
        assert_eq!(most(&table), 125);
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

    #[test]
    fn a_hash_join_leaves_room_for_its_copies() {
        let pool = pool();
        let whole = MemoryConsumer::new("HashJoinInput").register(&pool);
        // Twice as much is 140 % of the budget.
        assert_eq!(most(&whole), LIMIT * 7 / 10);
        let first = MemoryConsumer::new("HashJoinInput[0]").register(&pool);
        first.try_grow(2_800).unwrap();
        let second = MemoryConsumer::new("HashJoinInput[1]").register(&pool);
        assert_eq!(most(&second), 2_800);
    }

    #[test]
    fn what_is_free_is_given_back_before_anyone_is_refused() {
        static HELD: AtomicU64 = AtomicU64::new(101);
        let held = Held {
            most_bytes: 100,
            now_bytes: || Some(HELD.load(Ordering::SeqCst)),
            give_back: || HELD.store(100, Ordering::SeqCst),
        };
        let pool: Arc<dyn MemoryPool> = Arc::new(BudgetPool::new(100 * LOOK_AGAIN_BYTES, PARTITIONS, Some(held)));
        let sort = consumer(&pool, true);
        sort.try_grow(LOOK_AGAIN_BYTES).unwrap();
        sort.try_grow(LOOK_AGAIN_BYTES).unwrap();
        assert_eq!(HELD.load(Ordering::SeqCst), 100);
    }

    #[test]
    fn a_process_that_holds_too_much_spills() {
        let held = Held { most_bytes: 100, now_bytes: || Some(101), give_back: || {} };
        let pool: Arc<dyn MemoryPool> = Arc::new(BudgetPool::new(100 * LOOK_AGAIN_BYTES, PARTITIONS, Some(held)));
        let sort = consumer(&pool, true);
        sort.try_grow(LOOK_AGAIN_BYTES).unwrap();
        assert!(sort.try_grow(LOOK_AGAIN_BYTES).is_err());
        // A little is left to work in.
        sort.free();
        sort.try_grow(100).unwrap();
        let join = MemoryConsumer::new("HashJoinInput[0]").register(&pool);
        join.try_grow(100).unwrap();
        assert!(join.try_grow(100).is_err());
        consumer(&pool, false).try_grow(LOOK_AGAIN_BYTES).unwrap();
    }
}

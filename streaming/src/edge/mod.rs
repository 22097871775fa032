//! Edges: topics of a job through which its tasks exchange rows, so that all rows of a key come to one task.
//!
//! Every task runs all operators. What an operator needs by key leaves the task as messages of an edge, in the partition of the key's
//! group, and the task that owns the partition takes it in. Messages are part of the sender's commit and their positions of the
//! receiver's, so an edge adds no other commit than that of a task.
//!
//! Files in reading order: `message` (their bytes), `sender` (rows to messages), `receiver` (how far time is in a partition), `topics`
//! (making, checking and emptying them).

mod message;
mod receiver;
mod sender;
mod topics;

pub(crate) use message::{Head, Mark, decode};
pub(crate) use receiver::Receiver;
pub(crate) use sender::Sender;
pub(crate) use topics::{Broom, check, make};

use std::ops::RangeInclusive;

use crate::operator::key::KEY_GROUPS;

/// Partitions of an edge, for the life of its job. A job that exchanges rows has no more tasks than this.
pub(crate) const PARTITIONS: i32 = 16;

/// The key groups of a partition of an edge with so many.
pub(crate) fn key_groups(partition: i32, partitions: i32) -> RangeInclusive<u8> {
    let size = KEY_GROUPS / partitions.unsigned_abs().max(1) as usize;
    let first = partition.unsigned_abs() as usize * size;
    let group = |group: usize| u8::try_from(group).unwrap_or(u8::MAX);
    group(first)..=group((first + size).saturating_sub(1))
}

#[cfg(test)]
mod tests;

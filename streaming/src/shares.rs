//! Which task of a job reads which partition.

use std::collections::BTreeMap;

use crate::coordinator::Share;
use crate::operator::key::KEY_GROUPS;
use crate::record::{EdgePlan, PlanRecord, Positions};

/// The tasks of a generation as owners of partitions, also of those that nobody knows yet: all partitions are counted through, topic
/// after topic, and every task takes the next one in turn. A partition that a topic gets later has the number that follows there. So
/// each task finds the same owner by the plan alone.
///
/// Partitions of edges are given out in rows of neighbours, and a task has the key groups of its own: where rows of a key arrive, there
/// is its state.
///
/// Another rule than this one may only come with a new generation: under the old plan two tasks would find the same partition theirs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owners {
    tasks: u32,
    /// Topic → partitions of the topics before it.
    before: BTreeMap<String, u32>,
    /// Topic → partitions, of edges.
    edges: BTreeMap<String, u32>,
}

impl Owners {
    /// One task, which owns all.
    pub const fn one() -> Self {
        Self { tasks: 1, before: BTreeMap::new(), edges: BTreeMap::new() }
    }

    /// So many tasks, which own these partitions.
    pub fn new(positions: &Positions, tasks: u32) -> Self {
        Self::with_edges(positions, tasks, &BTreeMap::new())
    }

    /// So many tasks, which own these partitions and exchange rows through edges, which may be among them. They are to be no more than
    /// an edge has partitions.
    pub fn with_edges(positions: &Positions, tasks: u32, edges: &BTreeMap<String, EdgePlan>) -> Self {
        let edges: BTreeMap<String, u32> =
            edges.iter().map(|(topic, edge)| (topic.clone(), edge.partitions.unsigned_abs().max(1))).collect();
        let mut before = BTreeMap::new();
        let mut count = 0;
        for (topic, partitions) in positions.iter().filter(|(topic, _)| !edges.contains_key(*topic)) {
            before.insert(topic.clone(), count);
            count += u32::try_from(partitions.len()).unwrap_or(u32::MAX);
        }
        Self { tasks: tasks.max(1), before, edges }
    }

    /// The tasks of a plan.
    pub fn of_plan(plan: &PlanRecord) -> Self {
        Self::with_edges(&positions(plan), u32::try_from(plan.cuts.len()).unwrap_or(u32::MAX), &plan.edges)
    }

    /// The task that reads a partition.
    pub fn owner(&self, topic: &str, partition: i32) -> u32 {
        if let Some(partitions) = self.edges.get(topic) {
            // The last task whose first partition, task * partitions / tasks, is not after this one.
            return (partition.unsigned_abs() + 1).saturating_mul(self.tasks).saturating_sub(1) / partitions;
        }
        let before = self.before.get(topic).copied().unwrap_or_default();
        before.wrapping_add(partition.unsigned_abs()) % self.tasks
    }

    /// What each task has of these partitions, and its key groups: all of them in rows of neighbours.
    pub fn shares(&self, positions: &Positions) -> Vec<Share> {
        let groups = u32::try_from(KEY_GROUPS).unwrap_or(u32::MAX);
        // Groups that are not parted: those of a partition of an edge.
        let parts = self.edges.values().copied().min().unwrap_or(groups);
        let first = |task: u32| u16::try_from(task * parts / self.tasks * (groups / parts)).unwrap_or(u16::MAX);
        let share = |task: u32| Share {
            partitions: positions
                .iter()
                .map(|(topic, all)| {
                    (topic, all.keys().copied().filter(|partition| self.owner(topic, *partition) == task))
                })
                .map(|(topic, own)| (topic.clone(), own.collect()))
                .collect(),
            key_groups: (first(task), first(task + 1).saturating_sub(1)),
        };
        (0..self.tasks).map(share).collect()
    }
}

/// Where all tasks of a plan together begin.
pub(crate) fn positions(plan: &PlanRecord) -> Positions {
    let mut positions = Positions::new();
    for (topic, of) in plan.cuts.iter().flat_map(|cut| &cut.positions) {
        positions.entry(topic.clone()).or_default().extend(of);
    }
    positions
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::record::Cut;

    fn of(topics: &[(&str, i32)]) -> Positions {
        topics.iter().map(|(topic, count)| ((*topic).to_owned(), (0..*count).map(|at| (at, 0)).collect())).collect()
    }

    #[test]
    fn each_partition_and_each_key_group_has_one_task() {
        for topics in [&[("a", 6)][..], &[("a", 1), ("b", 1), ("c", 1)], &[("a", 5), ("b", 0), ("c", 9)]] {
            let positions = of(topics);
            let count: i32 = topics.iter().map(|(_, count)| count).sum();
            for tasks in 1..=u32::try_from(count).unwrap() {
                let shares = Owners::new(&positions, tasks).shares(&positions);
                assert_eq!(shares.len(), tasks as usize);
                let mut seen = BTreeSet::new();
                for share in &shares {
                    assert!(share.partitions.keys().eq(positions.keys()), "each task knows all topics: {share:?}");
                    let own: Vec<(&String, &i32)> = share
                        .partitions
                        .iter()
                        .flat_map(|(topic, own)| own.iter().map(move |at| (topic, at)))
                        .collect();
                    assert!(!own.is_empty(), "{tasks} tasks of {topics:?}: {shares:?}");
                    assert!(own.into_iter().all(|of| seen.insert(of)), "{shares:?}");
                }
                assert_eq!(seen.len(), usize::try_from(count).unwrap());
                let groups: Vec<u16> =
                    shares.iter().flat_map(|share| share.key_groups.0..=share.key_groups.1).collect();
                assert!(groups.iter().copied().eq(0..256), "{groups:?}");
            }
        }
    }

    #[test]
    fn the_key_groups_of_a_task_are_those_of_its_partitions_of_edges() {
        let mut positions = of(&[("a", 1), ("edge.0", 16), ("edge.1", 16), ("z", 3)]);
        let edge = |topic: &str| (topic.to_owned(), EdgePlan { partitions: 16, shape: String::new() });
        let edges: BTreeMap<String, EdgePlan> = [edge("edge.0"), edge("edge.1")].into();
        for tasks in 1..=16 {
            let owners = Owners::with_edges(&positions, tasks, &edges);
            let shares = owners.shares(&positions);
            let mut groups = Vec::new();
            for (task, share) in (0..).zip(&shares) {
                let of_edge = &share.partitions["edge.0"];
                assert!(!of_edge.is_empty() && *of_edge == share.partitions["edge.1"], "{tasks} tasks: {share:?}");
                assert!(of_edge.iter().all(|partition| owners.owner("edge.1", *partition) == task));
                let own: Vec<u16> =
                    of_edge.iter().flat_map(|at| (0..16).map(move |group| *at as u16 * 16 + group)).collect();
                assert!((share.key_groups.0..=share.key_groups.1).eq(own.iter().copied()), "{tasks} tasks: {share:?}");
                groups.extend(own);
            }
            assert!(groups.into_iter().eq(0..256), "{tasks} tasks");
            // Partitions of other topics are counted as if there were no edges.
            let others: Vec<u32> = (0..3).map(|partition| owners.owner("z", partition)).collect();
            assert_eq!(others, [1 % tasks, 2 % tasks, 3 % tasks]);
        }
        positions.retain(|topic, _| !topic.starts_with("edge"));
        assert_eq!(Owners::new(&positions, 3).owner("z", 1), 2);
    }

    #[test]
    fn a_partition_that_comes_later_has_one_task_that_all_find() {
        let positions = of(&[("a", 2), ("b", 3)]);
        let owners = Owners::new(&positions, 3);
        let cut = |share: Share| Cut {
            positions: share
                .partitions
                .into_iter()
                .map(|(topic, own)| (topic, own.into_iter().map(|at| (at, 7)).collect()))
                .collect(),
            ..Cut::default()
        };
        let cuts = owners.shares(&positions).into_iter().map(cut).collect();
        let plan = PlanRecord { cuts, ..PlanRecord::default() };
        assert_eq!(Owners::of_plan(&plan), owners);
        let later: Vec<u32> = (2..8).map(|partition| owners.owner("a", partition)).collect();
        assert_eq!(later, [2, 0, 1, 2, 0, 1]);
        assert_eq!(Owners::one().owner("a", 5), 0);
    }
}

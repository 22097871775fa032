//! The part of a task that takes rows by their keys, where its job exchanges rows: for each partition of the edges that the task owns
//! one lane, which is a graph of its own with the state of the partition's key groups.
//!
//! A lane has its own watermark. So it moves to another task as it is, wherever other lanes are: state of operators that have come to
//! different times cannot be brought together, since some have emitted what others have not.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use tereza_runtime::{Error, Result};

use crate::connector::Passed;
use crate::edge::{Head, Mark, Receiver, Sender, key_groups};
use crate::log::Output;
use crate::operator::Context;
use crate::operator::graph::{Entrance, Graph, Sinks};
use crate::plan::Exchange;
use crate::record::{Told, Upstream};

/// Stands for the graph that takes the rows of tables, among the numbers of those that send.
pub(super) const TABLES: i32 = -1;
/// Between the id of an operator and the lane's number, in the names of its state.
const OF_LANE: char = '@';

/// What a task of a job that exchanges rows is made of.
pub(crate) struct Spread {
    pub(crate) generation: u64,
    pub(crate) task: u32,
    /// Tasks of the generation.
    pub(crate) tasks: u32,
    /// Topics of the edges, by their numbers.
    pub(crate) topics: Vec<String>,
    pub(crate) exchanges: Vec<Exchange>,
    /// Partitions of an edge.
    pub(crate) partitions: i32,
    /// A graph for each of the task's own partitions.
    pub(crate) graphs: BTreeMap<i32, Graph>,
    /// Set when no more rows come through edges.
    pub(crate) ended: Arc<AtomicBool>,
}

/// Takes what comes out of several graphs.
pub(super) trait OfGraph: Sinks {
    /// What comes next is of the graph with this number.
    fn begin(&mut self, graph: i32);
}

/// One partition of all edges, and the operators for its keys.
struct Lane {
    graph: Graph,
    /// By edges.
    receivers: Vec<Receiver>,
    /// What the graph was told last of each edge.
    told: Vec<Option<Mark>>,
    /// Something came since the last snapshot.
    is_touched: bool,
}

/// The lanes of a task; none where its job does not exchange rows.
#[derive(Default)]
pub(super) struct Lanes {
    generation: u64,
    topics: Vec<String>,
    partitions: i32,
    lanes: BTreeMap<i32, Lane>,
    ended: Arc<AtomicBool>,
}

impl Lanes {
    /// The lanes of a task, and what sends to each edge. `tables` is the graph that takes the rows of tables.
    pub(super) fn new(spread: Spread, tables: &mut Graph) -> Result<(Self, Vec<Sender>)> {
        let Spread { generation, task, tasks, topics, exchanges, partitions, graphs, ended } = spread;
        let head = Head { generation, task, tasks, mark: None };
        let mut reached: Vec<Vec<i32>> = vec![Vec::new(); exchanges.len()];
        for edge in tables.only(Entrance::Sources) {
            reached[edge].push(TABLES);
        }
        let mut lanes = BTreeMap::new();
        for (number, mut graph) in graphs {
            for edge in graph.only(Entrance::Edges) {
                reached[edge].push(number);
            }
            let (receivers, told) = (vec![Receiver::default(); exchanges.len()], vec![None; exchanges.len()]);
            lanes.insert(number, Lane { graph, receivers, told, is_touched: false });
        }
        let senders = topics.iter().zip(&exchanges).zip(reached);
        let senders = senders
            .map(|((topic, exchange), from)| Sender::new(topic.clone(), exchange, partitions, head, from))
            .collect::<Result<_>>()?;
        Ok((Self { generation, topics, partitions, lanes, ended }, senders))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Takes a message. What comes out is of the graph with the lane's number.
    pub(super) fn take<S: OfGraph>(&mut self, passed: Passed, cx: &Context, sinks: &mut S) -> Result<()> {
        let Passed { edge, partition, rows, head } = passed;
        let lane = self.lanes.get_mut(&partition);
        let lane =
            lane.ok_or_else(|| Error::internal(format!("partition {partition} of an edge is another task's")))?;
        if let Some(rows) = rows {
            lane.is_touched = true;
            sinks.begin(partition);
            lane.graph.process_edge(edge, rows, cx, sinks)?;
        }
        lane.receivers[edge].take(&head)
    }

    /// Tells the graphs how far time is. Whether any of it is new.
    pub(super) fn advance<S: OfGraph>(&mut self, cx: &Context, sinks: &mut S) -> Result<bool> {
        let mut is_new = false;
        for (number, Lane { graph, receivers, told, is_touched }) in &mut self.lanes {
            sinks.begin(*number);
            for (edge, (receiver, told)) in receivers.iter().zip(told).enumerate() {
                let Some(mark) = receiver.mark().filter(|mark| *told != Some(*mark)) else { continue };
                *told = Some(mark);
                (is_new, *is_touched) = (true, true);
                graph.advance_edge(edge, mark.watermark(), cx, sinks)?;
            }
        }
        let mut all = self.lanes.values().flat_map(|lane| &lane.receivers);
        if !self.lanes.is_empty() && all.all(Receiver::is_ended) {
            self.ended.store(true, Ordering::Release);
        }
        Ok(is_new)
    }

    /// Late rows, the watermark of what was told all lanes, and bytes of state by operators.
    pub(super) fn holds(&self) -> (u64, Option<i64>, BTreeMap<&str, usize>) {
        let (mut late, mut bytes) = (0, BTreeMap::new());
        for lane in self.lanes.values() {
            late += lane.graph.late_rows();
            for (id, of) in lane.graph.state_bytes() {
                *bytes.entry(id).or_default() += of;
            }
        }
        let told = self.lanes.values().flat_map(|lane| &lane.told).filter_map(|mark| mark.and_then(Mark::watermark));
        (late, told.min(), bytes)
    }

    /// What the record of an epoch says of the edges.
    pub(super) fn upstream(&self) -> Upstream {
        let of = |edge: usize| -> BTreeMap<i32, Told> {
            self.lanes.iter().map(|(number, lane)| (*number, lane.receivers[edge].told().clone())).collect()
        };
        self.topics.iter().enumerate().map(|(edge, topic)| (topic.clone(), of(edge))).collect()
    }

    /// What changed in the operators of all lanes since the last snapshot, by the names of their states.
    pub(super) fn snapshot(&mut self, epoch: u64) -> Result<BTreeMap<String, Vec<u8>>> {
        let mut changed = BTreeMap::new();
        for (number, lane) in &mut self.lanes {
            if !std::mem::take(&mut lane.is_touched) {
                continue;
            }
            let of = lane.graph.snapshot(epoch)?;
            changed.extend(of.into_iter().map(|(id, bytes)| (name(&id, *number), bytes)));
        }
        Ok(changed)
    }

    /// Goes on from a record of `generation`; `chains` answers the chains of an operator's state in a lane, by the operator's id, the
    /// lane's number and its key groups.
    pub(super) fn restore(
        &mut self,
        generation: u64,
        upstream: &Upstream,
        mut chains: impl FnMut(&str, i32, &RangeInclusive<u8>) -> Result<Vec<Vec<Bytes>>>,
    ) -> Result<()> {
        if self.lanes.is_empty() {
            return Ok(());
        }
        if generation != self.generation {
            let text = format!("the plan of generation {} is not in force: that of {generation} is", self.generation);
            return Err(Error::conflict(text));
        }
        let partitions = self.partitions;
        for (number, lane) in &mut self.lanes {
            let groups = key_groups(*number, partitions);
            lane.graph.restore(groups.clone(), |id| chains(id, *number, &groups))?;
            for (topic, receiver) in self.topics.iter().zip(&mut lane.receivers) {
                let told = upstream.get(topic).and_then(|of| of.get(number)).cloned();
                *receiver = Receiver::new(told.unwrap_or_default());
            }
        }
        Ok(())
    }

    /// The numbers of the lanes, with their key groups.
    pub(super) fn numbers(&self) -> impl Iterator<Item = (i32, RangeInclusive<u8>)> {
        self.lanes.keys().map(|number| (*number, key_groups(*number, self.partitions)))
    }
}

/// The name of an operator's state in a lane.
pub(super) fn name(id: &str, lane: i32) -> String {
    format!("{id}{OF_LANE}{lane}")
}

/// The id of the operator whose state has a name.
pub(super) fn operator(name: &str) -> &str {
    name.split_once(OF_LANE).map_or(name, |(id, _)| id)
}

/// Puts out all rows for edges, and tells their watermarks.
pub(super) fn end_epoch(senders: &mut [Sender], out: &mut Vec<Output>) -> Result<()> {
    senders.iter_mut().try_for_each(|sender| sender.end_epoch(out))
}

#[cfg(test)]
#[path = "lanes_tests.rs"]
mod tests;

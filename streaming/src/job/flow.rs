//! The computation of a task: rows of tables go through the graph of operators to the writers of sinks.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow::array::RecordBatch;
use tereza_runtime::{Error, Result};

use super::chains::{ByTask, Chains};
use super::lanes::{self, Lanes, OfGraph, Spread};
use super::stats::Stats;
use crate::connector::{Arrivals, SinkWriter};
use crate::edge::{Mark, Sender};
use crate::operator::batch::Batch;
use crate::operator::graph::{Graph, Sinks};
use crate::operator::watermark::{PartitionWatermark, WatermarkAssigner};
use crate::operator::{Context, WATERMARK_MAX, WATERMARK_MIN};
use crate::pipeline::{Pipeline, Produced, Restored, Snapshot};
use crate::record::{Watermark, Watermarks};

/// A table that is read, as the graph sees it.
pub(crate) struct FlowTable {
    /// Sources of the graph, and the columns that each wants.
    pub(crate) sources: Vec<(usize, Vec<usize>)>,
    pub(crate) assigner: Option<WatermarkAssigner>,
    /// Of what it has partitions.
    pub(crate) topics: BTreeSet<String>,
    /// Partitions by their numbers in the assigner.
    pub(crate) partitions: BTreeMap<(Arc<str>, i32), i32>,
    pub(crate) is_ended: bool,
    /// What the graph was told last; none before.
    pub(crate) told: Option<Option<i64>>,
}

/// The pipeline of one task.
pub(crate) struct Flow {
    /// Takes the rows of tables: all operators, or those before an exchange.
    graph: Graph,
    /// What comes through edges.
    lanes: Lanes,
    /// What goes to each edge.
    senders: Vec<Sender>,
    tables: Vec<FlowTable>,
    sinks: Vec<SinkWriter>,
    state_bytes_max: usize,
    task: u32,
    epoch: u64,
    chains: Chains,
    /// State that no operator takes is left out and not refused.
    ignores_unclaimed: bool,
    has_begun: bool,
    stats: Arc<Stats>,
}

impl Flow {
    pub(crate) fn new(
        graph: Graph,
        tables: Vec<FlowTable>,
        sinks: Vec<SinkWriter>,
        state_bytes_max: usize,
        task: u32,
        stats: Arc<Stats>,
    ) -> Self {
        Self {
            graph,
            lanes: Lanes::default(),
            senders: Vec::new(),
            tables,
            sinks,
            state_bytes_max,
            task,
            epoch: 0,
            chains: Chains::new(task),
            ignores_unclaimed: false,
            has_begun: false,
            stats,
        }
    }

    /// Exchanges rows with other tasks.
    pub(crate) fn spread(mut self, spread: Option<Spread>) -> Result<Self> {
        if let Some(spread) = spread {
            (self.lanes, self.senders) = Lanes::new(spread, &mut self.graph)?;
        }
        Ok(self)
    }

    /// Leaves out state that no operator takes, if `ignores`.
    #[must_use]
    pub(crate) fn ignoring_unclaimed(mut self, ignores: bool) -> Self {
        self.ignores_unclaimed = ignores;
        self
    }

    fn context(&self, now_ms: i64) -> Context {
        Context { now_ms, state_bytes_max: self.state_bytes_max }
    }

    fn begin(&mut self, now_ms: i64) {
        if !self.has_begun {
            self.has_begun = true;
            self.tables.iter_mut().filter_map(|table| table.assigner.as_mut()).for_each(|of| of.begin(now_ms));
        }
    }

    /// Tells the graph the watermarks of all tables. Whether any is new.
    fn advance(&mut self, now_ms: i64, out: &mut Produced<RecordBatch>) -> Result<bool> {
        let cx = self.context(now_ms);
        let is_spread = !self.lanes.is_empty();
        let (sinks, senders) = (&mut self.sinks, &mut self.senders);
        let mut to = To { sinks, senders, out, stats: &self.stats, graph: lanes::TABLES };
        let mut is_new = false;
        for table in &mut self.tables {
            let watermark = match (&mut table.assigner, table.is_ended) {
                (_, true) => Some(WATERMARK_MAX),
                (None, false) => continue,
                (Some(assigner), false) => match assigner.watermark(now_ms) {
                    // Tasks that have a partition of it are not to wait for one that has none.
                    None if !(assigner.is_idle() || is_spread && table.partitions.is_empty()) => continue,
                    watermark => watermark,
                },
            };
            if table.told == Some(watermark) {
                continue;
            }
            table.told = Some(watermark);
            is_new = true;
            for (source, _) in &table.sources {
                self.graph.advance(*source, watermark, &cx, &mut to)?;
            }
        }
        is_new |= self.lanes.advance(&cx, &mut to)?;
        let (late, mark, by_operator) = self.lanes.holds();
        // Each lane keeps to the bound by itself.
        by_operator.iter().try_for_each(|(id, bytes)| cx.admit(id, *bytes))?;
        let marks = self.tables.iter().filter_map(|table| table.told.flatten()).chain(mark);
        let bytes = self.graph.state_bytes().values().chain(by_operator.values()).sum::<usize>();
        self.stats.holds(self.graph.late_rows() + late, bytes as u64, marks.min());
        Ok(is_new)
    }

    fn watermarks(&self) -> Watermarks {
        let mut watermarks = Watermarks::new();
        for table in &self.tables {
            let Some(assigner) = &table.assigner else { continue };
            let shown = assigner.partitions();
            for ((topic, partition), number) in &table.partitions {
                if let Some(PartitionWatermark { watermark_ms, idle }) = shown.get(number).copied() {
                    let ms = (watermark_ms > WATERMARK_MIN).then_some(watermark_ms);
                    watermarks.entry(topic.to_string()).or_default().insert(*partition, Watermark { ms, idle });
                }
            }
        }
        watermarks
    }
}

impl FlowTable {
    fn number(&mut self, topic: &Arc<str>, partition: i32) -> i32 {
        let next = i32::try_from(self.partitions.len()).unwrap_or(i32::MAX);
        *self.partitions.entry((Arc::clone(topic), partition)).or_insert(next)
    }
}

impl Pipeline for Flow {
    type Input = Arrivals;
    type Rows = RecordBatch;

    fn process(&mut self, input: Arrivals, now_ms: i64, out: &mut Produced<RecordBatch>) -> Result<()> {
        self.begin(now_ms);
        let cx = self.context(now_ms);
        for (table, topic, partition) in input.partitions {
            let table = &mut self.tables[table];
            let number = table.number(&topic, partition);
            if let Some(assigner) = &mut table.assigner {
                assigner.add(number, now_ms);
            }
        }
        out.outputs.extend(input.dead);
        let (sinks, senders) = (&mut self.sinks, &mut self.senders);
        let mut to = To { sinks, senders, out, stats: &self.stats, graph: lanes::TABLES };
        for passed in input.passed {
            self.lanes.take(passed, &cx, &mut to)?;
        }
        to.begin(lanes::TABLES);
        for arrived in input.rows {
            let table = &mut self.tables[arrived.table];
            let number = table.number(&arrived.topic, arrived.partition);
            if let Some(assigner) = &mut table.assigner {
                assigner.observe(number, arrived.batch.rows(), now_ms)?;
            }
            for (source, columns) in &table.sources {
                let rows = arrived.batch.rows().project(columns).map_err(crate::operator::failed)?;
                self.graph.process(*source, arrived.batch.with_rows(rows)?, &cx, &mut to)?;
            }
        }
        for table in input.ended {
            self.tables[table].is_ended = true;
        }
        self.advance(now_ms, out).map(drop)
    }

    fn tick(&mut self, now_ms: i64, out: &mut Produced<RecordBatch>) -> Result<bool> {
        self.begin(now_ms);
        self.advance(now_ms, out)
    }

    fn snapshot(&mut self, out: &mut Produced<RecordBatch>) -> Result<Snapshot> {
        lanes::end_epoch(&mut self.senders, &mut out.outputs)?;
        self.epoch += 1;
        let changed = match self.lanes.is_empty() {
            true => self.graph.snapshot(self.epoch)?,
            // What is before an exchange has no state.
            false => self.lanes.snapshot(self.epoch)?,
        };
        let describe = |name: &str| self.graph.describe(lanes::operator(name));
        let (kept, parts) = self.chains.snapshot(self.epoch, changed, describe)?;
        Ok(Snapshot { watermarks: self.watermarks(), upstream: self.lanes.upstream(), kept, parts })
    }

    fn restore(&mut self, from: Restored) -> Result<()> {
        let group = |group: u16| {
            u8::try_from(group)
                .map_err(|_| Error::internal(format!("a task of the key group {group}, the last is 255")))
        };
        let groups = group(from.key_groups.0)?..=group(from.key_groups.1)?;
        let (mut restored, epoch) = ByTask::read(&from.parts)?;
        self.epoch = epoch;
        if self.ignores_unclaimed {
            restored.retain(|name, base| self.graph.claims(lanes::operator(name), base));
        }
        let known: BTreeSet<&str> = self.graph.ids().collect();
        let found: BTreeSet<&str> = restored.names().into_iter().map(lanes::operator).collect();
        if let Some(lost) = found.difference(&known).next() {
            let text = format!("there is state of the operator {lost}, and none of this name in the plan of the query");
            return Err(Error::invalid_input(text)
                .with_hint("run the job with the release that wrote the state, or submit it again"));
        }
        if self.lanes.is_empty() {
            self.graph.restore(groups.clone(), |id| restored.of(id))?;
            self.chains = restored.into_chains(self.task, groups, |id| self.graph.describe(id))?;
        } else {
            let of_lane = |id: &str, lane, groups: &RangeInclusive<u8>| restored.of_lane(id, lane, groups);
            self.lanes.restore(from.generation, &from.upstream, of_lane)?;
            let describe = |name: &str| self.graph.describe(lanes::operator(name));
            self.chains = restored.into_lanes(self.task, groups, self.lanes.numbers(), describe)?;
        }
        for table in &mut self.tables {
            let mut shown = BTreeMap::new();
            for (topic, partitions) in from.watermarks.iter().filter(|(topic, _)| table.topics.contains(*topic)) {
                for (partition, Watermark { ms, idle }) in partitions {
                    let next = i32::try_from(table.partitions.len()).unwrap_or(i32::MAX);
                    let number = *table.partitions.entry((topic.as_str().into(), *partition)).or_insert(next);
                    shown.insert(number, PartitionWatermark { watermark_ms: ms.unwrap_or(WATERMARK_MIN), idle: *idle });
                }
            }
            if let Some(assigner) = &mut table.assigner {
                assigner.restore(&shown);
            }
        }
        Ok(())
    }
}

/// Takes what comes out of a graph to sinks and edges.
struct To<'a> {
    sinks: &'a mut [SinkWriter],
    senders: &'a mut [Sender],
    out: &'a mut Produced<RecordBatch>,
    stats: &'a Stats,
    /// The number of the graph.
    graph: i32,
}

impl OfGraph for To<'_> {
    fn begin(&mut self, graph: i32) {
        self.graph = graph;
    }
}

impl Sinks for To<'_> {
    fn batch(&mut self, sink: usize, batch: Batch) -> Result<()> {
        let written = self.sinks[sink].write(batch, self.out)?;
        self.stats.wrote(written);
        Ok(())
    }

    fn edge(&mut self, edge: usize, batch: Batch) -> Result<()> {
        self.senders[edge].put(&batch, &mut self.out.outputs)
    }

    fn edge_watermark(&mut self, edge: usize, watermark: Option<i64>) -> Result<()> {
        self.senders[edge].advance(self.graph, Mark::from(watermark));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::state::SnapshotWriter;

    #[test]
    fn state_of_operators_that_are_not_there_is_refused() {
        let snapshot = SnapshotWriter::new("3-join", "join", 7, None).finish().unwrap();
        let (_, parts) = Chains::new(0).snapshot(7, vec![("3-join".to_owned(), snapshot)], |_| None).unwrap();
        let mut flow = Flow::new(Graph::new(), Vec::new(), Vec::new(), 0, 0, Arc::default());
        let restored = flow.restore(Restored { key_groups: (0, 255), parts, ..Restored::default() });
        assert!(restored.unwrap_err().to_string().contains("3-join"));
    }
}

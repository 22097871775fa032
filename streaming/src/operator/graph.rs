//! Operators joined to a graph, run in one thread.
//!
//! What a source gives goes through all operators before the call returns: between two calls nothing is on its way, so the
//! states of all operators belong together.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::RangeInclusive;

use bytes::Bytes;
use tereza_runtime::error::{Error, Result};

use super::batch::Batch;
use super::state::{SnapshotWriter, StateReader, is_of};
use super::watermark::WatermarkMerge;
use super::{Context, Operator};

/// Where the output of a source or an operator goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// An input of an operator, by its number in the graph.
    Operator {
        /// The operator.
        node: usize,
        /// Its input.
        input: usize,
    },
    /// A sink, by its number.
    Sink(usize),
    /// An edge, by its number: rows leave the graph, and those of a key come to the graph that has it.
    Edge(usize),
}

/// Where rows come into a graph. One that exchanges rows is there several times: one takes the rows of tables, and one for each
/// partition of the edges those of the keys in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entrance {
    /// From sources.
    Sources,
    /// From edges.
    Edges,
}

struct Node {
    id: String,
    operator: Box<dyn Operator>,
    targets: Vec<Target>,
    watermark: WatermarkMerge,
    /// The epoch of the newest snapshot.
    saved: Option<u64>,
}

/// Takes what comes out of the graph.
pub trait Sinks {
    /// A batch for a sink.
    fn batch(&mut self, sink: usize, batch: Batch) -> Result<()>;

    /// No more rows up to this time come for a sink.
    fn watermark(&mut self, sink: usize, watermark: i64) -> Result<()> {
        let _ = (sink, watermark);
        Ok(())
    }

    /// A batch for an edge.
    fn edge(&mut self, edge: usize, _: Batch) -> Result<()> {
        Err(Error::internal(format!("rows for edge {edge} of a graph whose edges nobody takes")))
    }

    /// No more rows up to this time come for an edge; `None`: it is idle.
    fn edge_watermark(&mut self, edge: usize, _: Option<i64>) -> Result<()> {
        Err(Error::internal(format!("a watermark for edge {edge} of a graph whose edges nobody takes")))
    }
}

enum Item {
    Batch(Batch),
    /// `None`: idle.
    Watermark(Option<i64>),
}

/// The graph. It has no circles: an operator is added after those whose output it takes.
#[derive(Default)]
pub struct Graph {
    nodes: Vec<Node>,
    sources: Vec<Vec<Target>>,
    /// Where the rows of each edge come in again.
    edges: Vec<Target>,
}

impl Graph {
    /// A graph without operators.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a source; answers its number.
    pub fn source(&mut self) -> usize {
        self.sources.push(Vec::new());
        self.sources.len() - 1
    }

    /// Adds an operator with so many inputs. `id` names its state and stays the same from one start to the next.
    pub fn operator(&mut self, id: impl Into<String>, operator: Box<dyn Operator>, inputs: usize) -> Result<usize> {
        let id = id.into();
        if self.nodes.iter().any(|node| node.id == id) {
            return Err(Error::internal(format!("two operators of one graph are called {id}")));
        }
        let watermark = WatermarkMerge::new(inputs);
        self.nodes.push(Node { id, operator, targets: Vec::new(), watermark, saved: None });
        Ok(self.nodes.len() - 1)
    }

    /// Sends the output of a source on.
    pub fn from_source(&mut self, source: usize, target: Target) {
        self.sources[source].push(target);
    }

    /// Sends the output of an operator on.
    pub fn connect(&mut self, node: usize, target: Target) -> Result<()> {
        if matches!(target, Target::Operator { node: next, .. } if next <= node) {
            return Err(Error::internal(format!("operator {node} of a graph before the one it sends to, {target:?}")));
        }
        self.nodes[node].targets.push(target);
        Ok(())
    }

    /// Adds an edge that ends at an input of an operator; answers its number.
    pub fn edge(&mut self, to: Target) -> usize {
        self.edges.push(to);
        self.edges.len() - 1
    }

    /// Keeps to the rows that come in one way: inputs that none of them reach are idle. Answers the edges that are reached.
    pub fn only(&mut self, entrance: Entrance) -> BTreeSet<usize> {
        let mut reached: Vec<Target> = match entrance {
            Entrance::Sources => self.sources.iter().flatten().copied().collect(),
            Entrance::Edges => self.edges.clone(),
        };
        for (number, node) in self.nodes.iter().enumerate() {
            if reached.iter().any(|target| matches!(target, Target::Operator { node, .. } if *node == number)) {
                reached.extend(&node.targets);
            }
        }
        for (number, node) in self.nodes.iter_mut().enumerate() {
            for input in 0..node.watermark.inputs() {
                if !reached.contains(&Target::Operator { node: number, input }) {
                    node.watermark.update(input, None);
                }
            }
        }
        let edges = reached.into_iter().filter_map(|target| match target {
            Target::Edge(edge) => Some(edge),
            Target::Operator { .. } | Target::Sink(_) => None,
        });
        edges.collect()
    }

    /// Takes a batch from an edge.
    pub fn process_edge(&mut self, edge: usize, batch: Batch, cx: &Context, sinks: &mut dyn Sinks) -> Result<()> {
        self.run([(self.edges[edge], Item::Batch(batch))].into(), cx, sinks)
    }

    /// Takes the watermark of an edge, `None` if it is idle.
    pub fn advance_edge(
        &mut self,
        edge: usize,
        watermark: Option<i64>,
        cx: &Context,
        sinks: &mut dyn Sinks,
    ) -> Result<()> {
        self.run([(self.edges[edge], Item::Watermark(watermark))].into(), cx, sinks)
    }

    /// Takes a batch from a source.
    pub fn process(&mut self, source: usize, batch: Batch, cx: &Context, sinks: &mut dyn Sinks) -> Result<()> {
        let items = self.sources[source].iter().map(|target| (*target, Item::Batch(batch.clone()))).collect();
        self.run(items, cx, sinks)
    }

    /// Takes the watermark of a source, `None` if it is idle.
    pub fn advance(
        &mut self,
        source: usize,
        watermark: Option<i64>,
        cx: &Context,
        sinks: &mut dyn Sinks,
    ) -> Result<()> {
        let items = self.sources[source].iter().map(|target| (*target, Item::Watermark(watermark))).collect();
        self.run(items, cx, sinks)
    }

    /// First in, first out, so the order on each way is that of its batches.
    fn run(&mut self, mut items: VecDeque<(Target, Item)>, cx: &Context, sinks: &mut dyn Sinks) -> Result<()> {
        while let Some((target, item)) = items.pop_front() {
            let (node, input, item) = match (target, item) {
                (Target::Sink(sink), Item::Batch(batch)) => {
                    sinks.batch(sink, batch)?;
                    continue;
                }
                (Target::Sink(sink), Item::Watermark(watermark)) => {
                    watermark.map_or(Ok(()), |watermark| sinks.watermark(sink, watermark))?;
                    continue;
                }
                (Target::Edge(edge), Item::Batch(batch)) => {
                    sinks.edge(edge, batch)?;
                    continue;
                }
                (Target::Edge(edge), Item::Watermark(watermark)) => {
                    sinks.edge_watermark(edge, watermark)?;
                    continue;
                }
                (Target::Operator { node, input }, item) => (&mut self.nodes[node], input, item),
            };
            let mut out: Vec<Batch> = Vec::new();
            let mut watermark = None;
            match item {
                Item::Batch(batch) => node.operator.process(input, batch, cx, &mut out)?,
                Item::Watermark(of_input) => {
                    let was_idle = node.watermark.is_idle();
                    if let Some(risen) = node.watermark.update(input, of_input) {
                        node.operator.advance(risen, cx, &mut out)?;
                        watermark = Some(Some(node.operator.output_watermark(risen)));
                    } else if node.watermark.is_idle() && !was_idle {
                        watermark = Some(None);
                    } else if was_idle && let Some(known) = node.watermark.known().filter(|_| !node.watermark.is_idle())
                    {
                        // Whoever goes on without it waits for it again.
                        watermark = Some(Some(node.operator.output_watermark(known)));
                    }
                }
            }
            for batch in out {
                items.extend(node.targets.iter().map(|target| (*target, Item::Batch(batch.clone()))));
            }
            if let Some(watermark) = watermark {
                items.extend(node.targets.iter().map(|target| (*target, Item::Watermark(watermark))));
            }
        }
        Ok(())
    }

    /// What changed in each operator since its last snapshot, by the operator's id; nothing of one where nothing did.
    pub fn snapshot(&mut self, epoch: u64) -> Result<BTreeMap<String, Vec<u8>>> {
        let mut snapshots = BTreeMap::new();
        for node in &mut self.nodes {
            let (name, description) = (node.operator.name(), node.operator.describe());
            let mut writer = SnapshotWriter::new(name, &description, epoch, node.saved);
            node.operator.snapshot(&mut writer)?;
            if writer.is_empty() {
                continue;
            }
            snapshots.insert(node.id.clone(), writer.finish()?);
            node.saved = Some(epoch);
        }
        Ok(snapshots)
    }

    /// Takes the state of key groups. `chains` answers the chains of an operator by its id; one that has none begins empty.
    ///
    /// Where an operator had one chain, its next snapshot is a delta after it; where it had several, `compact` makes one of
    /// them first.
    pub fn restore<B: Clone + Into<Bytes>>(
        &mut self,
        groups: RangeInclusive<u8>,
        mut chains: impl FnMut(&str) -> Result<Vec<Vec<B>>>,
    ) -> Result<()> {
        for node in &mut self.nodes {
            let of_node = chains(&node.id)?;
            if of_node.iter().all(Vec::is_empty) {
                continue;
            }
            let state = StateReader::open(&node.operator.describe(), &of_node, groups.clone())?;
            node.operator.restore(&state)?;
            node.saved = Some(state.epoch());
        }
        Ok(())
    }

    /// Whether a chain is the state of the operator with this id. What cannot be read is not: its error is told when it is restored.
    pub fn claims(&self, id: &str, snapshot: &[u8]) -> bool {
        self.describe(id).is_some_and(|description| is_of(&description, snapshot).unwrap_or(true))
    }

    /// The ids of the operators, in the order of their numbers.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().map(|node| node.id.as_str())
    }

    /// What gives the state of an operator its meaning; `None` if there is no such operator.
    pub fn describe(&self, id: &str) -> Option<String> {
        self.nodes.iter().find(|node| node.id == id).map(|node| node.operator.describe())
    }

    /// The id of the first operator that needs all rows of a key in one task.
    pub fn keyed(&self) -> Option<&str> {
        self.nodes.iter().find(|node| node.operator.keyed_by(0).is_some()).map(|node| node.id.as_str())
    }

    /// The ids of the operators, in the order of their numbers, with what they send to whom.
    pub fn lines(&self) -> Vec<String> {
        let to = |target: &Target| match target {
            Target::Operator { node, .. } => self.nodes[*node].id.clone(),
            Target::Sink(sink) => format!("sink {sink}"),
            Target::Edge(edge) => format!("exchange {edge}"),
        };
        let line = |from: String, targets: &[Target]| {
            let targets: Vec<String> = targets.iter().map(to).collect();
            format!("{from} -> {}", targets.join(", "))
        };
        let sources =
            self.sources.iter().enumerate().map(|(source, targets)| line(format!("source {source}"), targets));
        let edges = self.edges.iter().enumerate();
        let edges = edges.map(|(edge, to)| line(format!("exchange {edge}"), std::slice::from_ref(to)));
        sources.chain(self.nodes.iter().map(|node| line(node.id.clone(), &node.targets))).chain(edges).collect()
    }

    /// Bytes of state, by the operator's id.
    pub fn state_bytes(&self) -> BTreeMap<&str, usize> {
        self.nodes.iter().map(|node| (node.id.as_str(), node.operator.state_bytes())).collect()
    }

    /// Late rows dropped, of all operators together.
    pub fn late_rows(&self) -> u64 {
        self.nodes.iter().map(|node| node.operator.late_rows()).sum()
    }
}

#[cfg(test)]
#[path = "graph_tests.rs"]
mod tests;

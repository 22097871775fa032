//! The computation of a task: rows of tables go through the graph of operators to the writers of sinks.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::Bytes;
use tereza_runtime::{Error, Result};

use super::stats::Stats;
use crate::connector::{Arrivals, SinkWriter};
use crate::operator::batch::Batch;
use crate::operator::graph::{Graph, Sinks};
use crate::operator::watermark::{PartitionWatermark, WatermarkAssigner};
use crate::operator::{Context, WATERMARK_MAX, WATERMARK_MIN};
use crate::pipeline::{Part, Pipeline, Produced, Restored, Snapshot};
use crate::record::{Watermark, Watermarks};

/// First bytes of a part of state.
const MAGIC: &[u8; 8] = b"TEREZAST";
/// Snapshots of an operator before they become one.
const DELTAS_MAX: usize = 64;
/// Parts of a record before all state is written anew as one.
const PARTS_MAX: usize = 128;
/// Bytes of state that are not worth to be made less.
const SMALL_BYTES: usize = 1 << 20;

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

/// Operator → its snapshots, a base and what changed since.
type Chains = BTreeMap<String, Vec<Bytes>>;

/// What a part of state says of an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Of {
    /// The snapshots are all of its state; else they follow on those of earlier parts.
    is_base: bool,
    snapshots: Vec<Bytes>,
}

/// The pipeline of one task.
pub(crate) struct Flow {
    graph: Graph,
    tables: Vec<FlowTable>,
    sinks: Vec<SinkWriter>,
    state_bytes_max: usize,
    task: u32,
    groups: RangeInclusive<u8>,
    epoch: u64,
    /// What is in committed records, or will be.
    chains: Chains,
    /// All state is to be written anew, since what was restored is of several tasks.
    is_shared: bool,
    /// Parts of the last record, and the bytes in them that later ones replace.
    parts: usize,
    replaced_bytes: usize,
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
        let (groups, epoch, chains, is_shared) = (0..=u8::MAX, 0, Chains::new(), false);
        let (parts, replaced_bytes, has_begun) = (0, 0, false);
        Self {
            graph,
            tables,
            sinks,
            state_bytes_max,
            task,
            groups,
            epoch,
            chains,
            is_shared,
            parts,
            replaced_bytes,
            has_begun,
            stats,
        }
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
        let mut to = To { sinks: &mut self.sinks, out, stats: &self.stats };
        let mut is_new = false;
        for table in &mut self.tables {
            let watermark = match (&mut table.assigner, table.is_ended) {
                (_, true) => Some(WATERMARK_MAX),
                (None, false) => continue,
                (Some(assigner), false) => match assigner.watermark(now_ms) {
                    None if !assigner.is_idle() => continue,
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
        let marks = self.tables.iter().filter_map(|table| table.told.flatten());
        let bytes = self.graph.state_bytes().values().sum::<usize>();
        self.stats.holds(self.graph.late_rows(), bytes as u64, marks.min());
        Ok(is_new)
    }

    /// The operator whose snapshots are most worth to become one: at most one in an epoch, which waits for it.
    fn longest(&self) -> Option<String> {
        let deltas = |chain: &Vec<Bytes>| chain.iter().skip(1).map(Bytes::len).sum::<usize>();
        let is_long = |chain: &Vec<Bytes>| {
            let base = chain.first().map_or(0, Bytes::len);
            chain.len() > DELTAS_MAX || deltas(chain) > base.max(SMALL_BYTES)
        };
        let long = self.chains.iter().filter(|(_, chain)| is_long(chain));
        long.max_by_key(|(_, chain)| (chain.len() > DELTAS_MAX, deltas(chain))).map(|(id, _)| id.clone())
    }

    /// Makes one base of an operator's snapshots.
    fn compact(&mut self, id: &str) -> Result<()> {
        let Some(chain) = self.chains.get_mut(id) else { return Ok(()) };
        if let Some(base) = self.graph.compact(id, std::slice::from_ref(chain), self.groups.clone()) {
            let base = Bytes::from(base?);
            self.replaced_bytes += chain.iter().map(Bytes::len).sum::<usize>();
            *chain = vec![base];
        }
        Ok(())
    }

    fn is_to_be_written_anew(&self) -> bool {
        let live = self.chains.values().flatten().map(Bytes::len).sum::<usize>();
        self.is_shared || self.parts >= PARTS_MAX || self.replaced_bytes > live.max(SMALL_BYTES)
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
        let mut to = To { sinks: &mut self.sinks, out, stats: &self.stats };
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

    fn snapshot(&mut self, _: &mut Produced<RecordBatch>) -> Result<Snapshot> {
        self.epoch += 1;
        let mut changed: BTreeMap<String, Of> = BTreeMap::new();
        for (id, bytes) in self.graph.snapshot(self.epoch)? {
            let bytes = Bytes::from(bytes);
            let chain = self.chains.entry(id.clone()).or_default();
            chain.push(bytes.clone());
            changed.insert(id, Of { is_base: chain.len() == 1, snapshots: vec![bytes] });
        }
        if let Some(id) = self.longest() {
            self.compact(&id)?;
            let snapshots = self.chains.get(&id).cloned().unwrap_or_default();
            changed.insert(id, Of { is_base: true, snapshots });
        }
        let is_base = self.is_to_be_written_anew();
        if is_base {
            let all = self.chains.iter();
            changed = all.map(|(id, chain)| (id.clone(), Of { is_base: true, snapshots: chain.clone() })).collect();
            (self.is_shared, self.parts, self.replaced_bytes) = (false, 0, 0);
        }
        let key_groups = (u16::from(*self.groups.start()), u16::from(*self.groups.end()));
        let parts = match changed.is_empty() {
            true => Vec::new(),
            false => vec![Part { key_groups, bytes: write_part(self.task, self.epoch, &changed)? }],
        };
        self.parts += parts.len();
        Ok(Snapshot { watermarks: self.watermarks(), upstream: BTreeMap::new(), is_base, parts })
    }

    fn restore(&mut self, from: Restored) -> Result<()> {
        let group = |group: u16| {
            u8::try_from(group)
                .map_err(|_| Error::internal(format!("a task of the key group {group}, the last is 255")))
        };
        self.groups = group(from.key_groups.0)?..=group(from.key_groups.1)?;
        // By the task that wrote them.
        let mut chains: BTreeMap<u32, Chains> = BTreeMap::new();
        for part in &from.parts {
            let (task, epoch, of_part) = read_part(&part.bytes)?;
            self.epoch = self.epoch.max(epoch);
            let known = chains.entry(task).or_default();
            for (id, Of { is_base, mut snapshots }) in of_part {
                let chain = known.entry(id).or_default();
                if is_base {
                    self.replaced_bytes += chain.iter().map(Bytes::len).sum::<usize>();
                    chain.clear();
                }
                chain.append(&mut snapshots);
            }
        }
        let mut ids = chains.values().flat_map(Chains::keys);
        if let Some(lost) = ids.find(|id| !self.graph.ids().any(|known| known == id.as_str())) {
            let text = format!("there is state of the operator {lost}, and none of this name in the plan of the query");
            return Err(Error::invalid_input(text)
                .with_hint("run the job with the release that wrote the state, or submit it again"));
        }
        self.parts = from.parts.len();
        self.is_shared = chains.len() > 1 || chains.keys().any(|task| *task != self.task);
        self.graph.restore(self.groups.clone(), |id| {
            let of_tasks = chains.values().filter_map(|chains| chains.get(id));
            Ok(of_tasks.map(|chain| chain.iter().map(|bytes| bytes.to_vec()).collect()).collect())
        })?;
        self.chains = match chains.len() {
            0 | 1 => chains.into_values().next().unwrap_or_default(),
            _ => {
                let ids: Vec<String> = chains.values().flat_map(Chains::keys).cloned().collect();
                let mut merged = Chains::new();
                for id in ids {
                    let of_tasks: Vec<Vec<Bytes>> =
                        chains.values().filter_map(|chains| chains.get(&id)).cloned().collect();
                    if let Some(base) = self.graph.compact(&id, &of_tasks, self.groups.clone()) {
                        merged.insert(id, vec![base?.into()]);
                    }
                }
                merged
            }
        };
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

/// Task, epoch, and snapshots by operators: magic, task (u32), epoch (u64), then for each operator its id, 1 if the snapshots are all
/// of its state and 0 if not (u8), how many snapshots (u32), and these. Texts and bytes have their lengths (u64) before them; all
/// numbers are little endian.
fn write_part(task: u32, epoch: u64, operators: &BTreeMap<String, Of>) -> Result<Bytes> {
    let all = operators.values().flat_map(|of| &of.snapshots);
    let mut bytes = Vec::with_capacity(all.map(|bytes| bytes.len() + 64).sum());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&task.to_le_bytes());
    bytes.extend_from_slice(&epoch.to_le_bytes());
    let put = |bytes: &mut Vec<u8>, part: &[u8]| {
        bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
        bytes.extend_from_slice(part);
    };
    for (id, Of { is_base, snapshots }) in operators {
        put(&mut bytes, id.as_bytes());
        bytes.push(u8::from(*is_base));
        let count = u32::try_from(snapshots.len()).map_err(|_| Error::internal("too many snapshots of an operator"))?;
        bytes.extend_from_slice(&count.to_le_bytes());
        snapshots.iter().for_each(|snapshot| put(&mut bytes, snapshot));
    }
    Ok(bytes.into())
}

fn read_part(bytes: &Bytes) -> Result<(u32, u64, BTreeMap<String, Of>)> {
    let mut left = Left(bytes.clone());
    let damaged = || Error::invalid_input("a part of state is damaged");
    if left.take(MAGIC.len()).is_none_or(|magic| magic != MAGIC.as_slice()) {
        return Err(damaged());
    }
    let task = left.number::<4>().map(u32::from_le_bytes).ok_or_else(damaged)?;
    let epoch = left.number::<8>().map(u64::from_le_bytes).ok_or_else(damaged)?;
    let mut operators = BTreeMap::new();
    while !left.0.is_empty() {
        let id = left.text().ok_or_else(damaged)?;
        let id = String::from_utf8(id.to_vec()).map_err(|_| damaged())?;
        let is_base = match left.number::<1>().ok_or_else(damaged)? {
            [0] => false,
            [1] => true,
            _ => return Err(damaged()),
        };
        let count = left.number::<4>().map(u32::from_le_bytes).ok_or_else(damaged)?;
        let mut snapshots = Vec::new();
        for _ in 0..count {
            snapshots.push(left.text().ok_or_else(damaged)?);
        }
        operators.insert(id, Of { is_base, snapshots });
    }
    Ok((task, epoch, operators))
}

struct Left(Bytes);

impl Left {
    fn take(&mut self, count: usize) -> Option<Bytes> {
        (count <= self.0.len()).then(|| self.0.split_to(count))
    }

    fn number<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.as_ref().try_into().ok()
    }

    fn text(&mut self) -> Option<Bytes> {
        let count = self.number::<8>().map(u64::from_le_bytes)?;
        self.take(usize::try_from(count).ok()?)
    }
}

/// Takes what comes out of the graph to the sinks.
struct To<'a> {
    sinks: &'a mut [SinkWriter],
    out: &'a mut Produced<RecordBatch>,
    stats: &'a Stats,
}

impl Sinks for To<'_> {
    fn batch(&mut self, sink: usize, batch: Batch) -> Result<()> {
        let written = self.sinks[sink].write(batch, self.out)?;
        self.stats.wrote(written);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back_and_damaged_ones_do_not() {
        let operators = BTreeMap::from([
            ("0-calc".to_owned(), Of { is_base: true, snapshots: vec![Bytes::from_static(b"base"), Bytes::new()] }),
            ("1-join".to_owned(), Of { is_base: false, snapshots: vec![] }),
        ]);
        let bytes = write_part(3, 7, &operators).unwrap();
        assert_eq!(read_part(&bytes).unwrap(), (3, 7, operators));
        for end in 0..bytes.len() {
            // At the end of an operator there is nothing to miss.
            if let Ok((_, _, some)) = read_part(&bytes.slice(..end)) {
                assert!(some.len() < 2, "{end}");
            }
        }
        assert!(read_part(&Bytes::from_static(b"TEREZASO and so on, and more")).is_err());
    }

    #[test]
    fn state_of_operators_that_are_not_there_is_refused() {
        let of = Of { is_base: true, snapshots: vec![Bytes::from_static(b"base")] };
        let operators = BTreeMap::from([("3-join".to_owned(), of)]);
        let parts = vec![Part { key_groups: (0, 255), bytes: write_part(0, 7, &operators).unwrap() }];
        let mut flow = Flow::new(Graph::new(), Vec::new(), Vec::new(), 0, 0, Arc::default());
        let restored = flow.restore(Restored { key_groups: (0, 255), parts, ..Restored::default() });
        assert!(restored.unwrap_err().to_string().contains("3-join"));
    }
}

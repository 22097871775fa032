//! Tasks that exchange rows through a log in memory, with crashes between epochs and changes of their number.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, TimestampMillisecondArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::{Column, lit};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::super::flow::{Flow, FlowTable};
use super::*;
use crate::connector::{Arrivals, Arrived, SinkWriter, Target as SinkTarget};
use crate::edge::{PARTITIONS, decode};
use crate::operator::batch::Batch;
use crate::operator::graph::Target;
use crate::operator::watermark::WatermarkAssigner;
use crate::operator::window::Windows;
use crate::operator::window_aggregate::{WindowAggregate, WindowCall, WindowSource};
use crate::operator::{ChangelogMode, Operator};
use crate::pipeline::{Part, Pipeline, Produced, Restored};
use crate::record::Watermarks;

/// Partitions of the table, rows of each, and keys.
const SOURCES: i32 = 3;
const ROWS: i64 = 300;
const KEYS: i64 = 40;
/// Windows overlap, so that parts of one that is answered are kept for the next.
const SIZE: i64 = 400;
const SLIDE: i64 = 100;

fn schema() -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Millisecond, None);
    Arc::new(Schema::new(vec![Field::new("k", DataType::Int64, false), Field::new("ts", time, true)]))
}

/// Key and time of a row of a partition. Times of one rise; the partitions are apart.
fn row(partition: i32, at: i64) -> (i64, i64) {
    ((at * 31 + i64::from(partition) * 17) % KEYS, at * 7 + i64::from(partition) * 50)
}

fn counts() -> WindowAggregate {
    let count = AggregateExprBuilder::new(count_udaf(), vec![lit(1_i64)]).schema(schema()).alias("n").build().unwrap();
    let source = WindowSource::Aligned { windows: Windows::hop(SIZE, SLIDE, 0).unwrap(), time: 1 };
    let call = WindowCall { function: Arc::new(count), filter: None };
    WindowAggregate::new(&schema(), &ChangelogMode::Append, source, vec![0], vec![call]).unwrap()
}

fn graph(is_spread: bool) -> Graph {
    let mut graph = Graph::new();
    let source = graph.source();
    let node = graph.operator("0-window-aggregate", Box::new(counts()), 1).unwrap();
    let into = Target::Operator { node, input: 0 };
    let to = if is_spread { Target::Edge(graph.edge(into)) } else { into };
    graph.from_source(source, to);
    graph.connect(node, Target::Sink(0)).unwrap();
    graph
}

/// What a task has committed, or a plan gives it.
#[derive(Clone, Default)]
struct Record {
    /// Of the table and of the edge: the next row or message.
    read: BTreeMap<i32, usize>,
    taken: BTreeMap<i32, usize>,
    watermarks: Watermarks,
    upstream: Upstream,
    parts: Vec<Part>,
}

struct Task {
    flow: Flow,
    ended: Arc<AtomicBool>,
    key_groups: (u16, u16),
    last: Record,
    open: Record,
    out: Produced<RecordBatch>,
}

struct World {
    generation: u64,
    is_spread: bool,
    tasks: Vec<Task>,
    /// Committed messages of the edge, by partitions.
    edge: BTreeMap<i32, Vec<Output>>,
    /// Key, start of the window, count: committed.
    answers: Vec<(i64, i64, i64)>,
}

impl World {
    fn task(generation: u64, task: u32, tasks: u32, is_spread: bool, key_groups: (u16, u16), last: Record) -> Task {
        let strategy = WatermarkAssigner::new(Arc::new(Column::new("ts", 1)), &schema(), None, [], 0);
        let table = FlowTable {
            sources: vec![(0, vec![0, 1])],
            assigner: Some(strategy.unwrap()),
            topics: ["in".to_owned()].into(),
            partitions: BTreeMap::new(),
            is_ended: false,
            told: None,
        };
        let columns = counts().schema();
        let places = (0..columns.fields().len()).collect();
        let sink = SinkTarget::Table { name: "t".to_owned(), schema: Arc::clone(&columns), places };
        let sink = SinkWriter::new("t".to_owned(), &columns, sink);
        let ended = Arc::new(AtomicBool::new(false));
        let exchange = Exchange { schema: schema(), keys: vec![0], into: "0-window-aggregate".to_owned(), input: 0 };
        let spread = is_spread.then(|| Spread {
            generation,
            task,
            tasks,
            topics: vec!["edge".to_owned()],
            exchanges: vec![exchange],
            partitions: PARTITIONS,
            graphs: last.taken.keys().map(|lane| (*lane, graph(true))).collect(),
            ended: Arc::clone(&ended),
        });
        let flow = Flow::new(graph(is_spread), vec![table], vec![sink], usize::MAX, task, Arc::default());
        let mut flow = flow.spread(spread).unwrap();
        let (watermarks, upstream) = (last.watermarks.clone(), last.upstream.clone());
        flow.restore(Restored { generation, key_groups, watermarks, upstream, parts: last.parts.clone() }).unwrap();
        Task { flow, ended, key_groups, open: last.clone(), last, out: Produced::default() }
    }

    /// Begins a job in one task.
    fn new() -> Self {
        let last = Record { read: (0..SOURCES).map(|partition| (partition, 0)).collect(), ..Record::default() };
        let task = Self::task(1, 0, 1, false, (0, 255), last);
        let edge = (0..PARTITIONS).map(|partition| (partition, Vec::new())).collect();
        Self { generation: 1, is_spread: false, tasks: vec![task], edge, answers: Vec::new() }
    }

    /// All tasks die, and go on from what they committed.
    fn crash(&mut self) {
        let count = self.tasks.len() as u32;
        let old = std::mem::take(&mut self.tasks).into_iter();
        let again = (0..).zip(old).map(|(task, Task { key_groups, last, .. })| {
            Self::task(self.generation, task, count, self.is_spread, key_groups, last)
        });
        self.tasks = again.collect();
    }

    /// Another number of tasks, as a plan gives them what the old ones have.
    fn rescale(&mut self, tasks: i32) {
        let old: Vec<Record> = std::mem::take(&mut self.tasks).into_iter().map(|task| task.last).collect();
        let taken: BTreeMap<i32, usize> = match self.is_spread {
            true => old.iter().flat_map(|record| record.taken.clone()).collect(),
            false => (0..PARTITIONS).map(|partition| (partition, 0)).collect(),
        };
        (self.generation, self.is_spread) = (self.generation + 1, true);
        let share = |task: i32| {
            let (first, end) = (task * PARTITIONS / tasks, (task + 1) * PARTITIONS / tasks);
            let key_groups = ((first * 16) as u16, (end * 16 - 1) as u16);
            let mut cut = Record::default();
            cut.taken.extend(taken.range(first..end).map(|(lane, next)| (*lane, *next)));
            for record in &old {
                let is_own = |partition: &i32| partition % tasks == task;
                cut.read.extend(record.read.iter().filter(|(partition, _)| is_own(partition)));
                for (topic, marks) in &record.watermarks {
                    let own = marks.iter().filter(|(partition, _)| is_own(partition));
                    cut.watermarks.entry(topic.clone()).or_default().extend(own);
                }
                for (topic, told) in &record.upstream {
                    let own = told.range(first..end).map(|(lane, told)| (*lane, told.clone()));
                    cut.upstream.entry(topic.clone()).or_default().extend(own);
                }
                for part in &record.parts {
                    let both = (part.key_groups.0.max(key_groups.0), part.key_groups.1.min(key_groups.1));
                    if both.0 <= both.1 {
                        cut.parts.push(Part { key_groups: both, bytes: part.bytes.clone() });
                    }
                }
            }
            Self::task(self.generation, task as u32, tasks as u32, true, key_groups, cut)
        };
        self.tasks = (0..tasks).map(share).collect();
    }

    /// A task takes some rows of its partitions and some messages.
    fn step(&mut self, task: usize, most: usize) {
        let Task { flow, open, out, .. } = &mut self.tasks[task];
        let mut input = Arrivals::default();
        for (partition, next) in &mut open.taken {
            let messages = &self.edge[partition];
            let end = messages.len().min(*next + most);
            for message in &messages[*next..end] {
                let (head, rows) = decode(&message.headers, message.value.as_ref(), &schema()).unwrap();
                input.passed.push(Passed { edge: 0, partition: *partition, rows, head });
            }
            *next = end;
        }
        for (partition, next) in &mut open.read {
            input.partitions.push((0, "in".into(), *partition));
            let end = (ROWS as usize).min(*next + most);
            let rows: Vec<(i64, i64)> = (*next..end).map(|at| row(*partition, at as i64)).collect();
            *next = end;
            if rows.is_empty() {
                continue;
            }
            let keys: Int64Array = rows.iter().map(|(key, _)| Some(*key)).collect();
            let times: TimestampMillisecondArray = rows.iter().map(|(_, time)| Some(*time)).collect();
            let columns: Vec<ArrayRef> = vec![Arc::new(keys), Arc::new(times)];
            let batch = Batch::inserts(RecordBatch::try_new(schema(), columns).unwrap());
            input.rows.push(Arrived { table: 0, topic: "in".into(), partition: *partition, batch });
        }
        if open.read.values().all(|next| *next == ROWS as usize) {
            input.ended = vec![0];
        }
        flow.process(input, 0, out).unwrap();
    }

    /// A task commits its epoch.
    fn commit(&mut self, task: usize) {
        let Task { flow, open, last, out, .. } = &mut self.tasks[task];
        let snapshot = flow.snapshot(out).unwrap();
        let parts = snapshot.kept.of(&last.parts).unwrap().into_iter().chain(snapshot.parts).collect();
        *last = Record { watermarks: snapshot.watermarks, upstream: snapshot.upstream, parts, ..open.clone() };
        *open = last.clone();
        for output in std::mem::take(&mut out.outputs) {
            self.edge.get_mut(&output.partition.unwrap()).unwrap().push(output);
        }
        for (_, rows) in std::mem::take(&mut out.rows) {
            let column = |at: usize| cast(rows.column(at), &DataType::Int64).unwrap();
            let [keys, counts, starts] = [0, 1, 2].map(column);
            let value = |column: &ArrayRef, row: usize| column.as_primitive::<Int64Type>().value(row);
            let answers = (0..rows.num_rows()).map(|row| (value(&keys, row), value(&starts, row), value(&counts, row)));
            self.answers.extend(answers);
        }
    }
}

/// Each window of each key with its count.
fn truth() -> Vec<(i64, i64, i64)> {
    let mut counts: BTreeMap<(i64, i64), i64> = BTreeMap::new();
    for (key, time) in (0..SOURCES).flat_map(|partition| (0..ROWS).map(move |at| row(partition, at))) {
        let last = time.div_euclid(SLIDE) * SLIDE;
        for start in (0..SIZE / SLIDE).map(|before| last - before * SLIDE) {
            *counts.entry((key, start)).or_default() += 1;
        }
    }
    counts.into_iter().map(|((key, start), count)| (key, start, count)).collect()
}

#[tokio::test]
async fn windows_are_answered_once_whatever_dies_and_however_many_tasks_there_are() {
    for seed in 0..12 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut world = World::new();
        for tasks in [1, 3, 2, 1, 5] {
            if tasks > 1 || world.is_spread {
                world.rescale(tasks);
            }
            for _ in 0..random.random_range(0..25) {
                let task = random.random_range(0..world.tasks.len());
                world.step(task, random.random_range(1..12));
                match random.random_range(0..10) {
                    0 => world.crash(),
                    1..=6 => world.commit(task),
                    _ => {}
                }
            }
        }
        // To the end: until all tasks know that no more comes.
        let mut rounds = 0;
        while !world.tasks.iter().all(|task| task.ended.load(Ordering::Acquire)) {
            for task in 0..world.tasks.len() {
                world.step(task, 50);
                world.commit(task);
            }
            rounds += 1;
            assert!(rounds < 100, "seed {seed}: it does not end");
        }
        // What tasks still tell one another has no rows.
        for task in 0..world.tasks.len() {
            world.step(task, 50);
            world.commit(task);
        }
        world.answers.sort_unstable();
        assert_eq!(world.answers, truth(), "seed {seed}");
    }
}

#[test]
fn a_plan_that_is_not_in_force_is_seen() {
    let mut world = World::new();
    world.rescale(2);
    let task = &mut world.tasks[0];
    let error = task.flow.restore(Restored { generation: 3, key_groups: task.key_groups, ..Restored::default() });
    assert_eq!(error.unwrap_err().kind(), tereza_runtime::ErrorKind::Conflict);
}

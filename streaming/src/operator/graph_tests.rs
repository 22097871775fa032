use std::sync::Arc;

use datafusion::functions_aggregate::count::count_udaf;
use datafusion::functions_aggregate::min_max::max_udaf;
use datafusion::logical_expr::Operator as Comparison;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::{Column, binary, col, lit};
use proptest::prelude::*;

use super::super::aggregate::{AggregateCall, AggregateKind, GroupAggregate};
use super::super::fold::Fold;
use super::super::harness::{
    Change, Cut, any_changes, any_cuts, any_row, assert_same, batch, folded, schema, sql, table,
};
use super::super::join::{Join, JoinKind, JoinOn};
use super::super::window::Windows;
use super::super::window_aggregate::{WindowAggregate, WindowCall, WindowSource};
use super::super::window_join::{WindowColumns, WindowJoin};
use super::super::{ChangelogMode, RowKind, WATERMARK_MAX};
use super::*;

impl Sinks for Fold {
    fn batch(&mut self, _: usize, batch: Batch) -> Result<()> {
        self.apply(&batch)
    }
}

const HOP: (i64, i64) = (40, 20);

fn counts() -> WindowAggregate {
    let count =
        AggregateExprBuilder::new(count_udaf(), vec![lit(1_i64)]).schema(schema()).alias("num").build().unwrap();
    let source = WindowSource::Aligned { windows: Windows::hop(HOP.0, HOP.1, 0).unwrap(), time: 3 };
    let call = WindowCall { function: Arc::new(count), filter: None };
    WindowAggregate::new(&schema(), &ChangelogMode::Append, source, vec![0], vec![call]).unwrap()
}

/// The keys with the most rows of each window: a count, its maximum, and a join of both (query 5 of Nexmark).
fn most() -> (Graph, arrow::datatypes::SchemaRef) {
    let mode = ChangelogMode::Append;
    let middle = counts().schema();
    let max = AggregateExprBuilder::new(max_udaf(), vec![col("num", &middle).unwrap()]).schema(Arc::clone(&middle));
    let call = WindowCall { function: Arc::new(max.alias("most").build().unwrap()), filter: None };
    let attached = WindowSource::Attached { start: 2, end: 3 };
    let max = WindowAggregate::new(&middle, &mode, attached, vec![], vec![call]).unwrap();
    let on = JoinOn { kind: JoinKind::Inner, left: vec![], right: vec![], condition: None };
    let joined = on.schema(&middle, &max.schema());
    let (num, most) = (Arc::new(Column::new("num", 1)), Arc::new(Column::new("most", 5)));
    let on = JoinOn { condition: Some(binary(num, Comparison::GtEq, most, &joined).unwrap()), ..on };
    let columns = [WindowColumns { start: 2, end: 3 }, WindowColumns { start: 1, end: 2 }];
    let join = WindowJoin::new([&middle, &max.schema()], [&mode, &mode], on, columns).unwrap();
    let schema = join.schema();

    let mut graph = Graph::new();
    let source = graph.source();
    let counts = graph.operator("counts", Box::new(counts()), 1).unwrap();
    let max = graph.operator("max", Box::new(max), 1).unwrap();
    let join = graph.operator("join", Box::new(join), 2).unwrap();
    graph.from_source(source, Target::Operator { node: counts, input: 0 });
    graph.connect(counts, Target::Operator { node: join, input: 0 }).unwrap();
    graph.connect(counts, Target::Operator { node: max, input: 0 }).unwrap();
    graph.connect(max, Target::Operator { node: join, input: 1 }).unwrap();
    graph.connect(join, Target::Sink(0)).unwrap();
    (graph, schema)
}

/// The average of the maxima of a join, all taken back and made anew as rows change (query 4 of Nexmark).
fn averages() -> (Graph, arrow::datatypes::SchemaRef) {
    let mode = ChangelogMode::Retract { key: None };
    let on = JoinOn { kind: JoinKind::Inner, left: vec![0], right: vec![0], condition: None };
    let call = |kind, column| AggregateCall { kind, column: Some(column), filter: None, name: "a".to_owned() };
    let join = Join::new([&schema(), &schema()], [&mode, &mode], on, [None, None]).unwrap();
    let max = GroupAggregate::new(&join.schema(), &join.mode(), vec![2, 6], vec![call(AggregateKind::Max, 5)]).unwrap();
    let calls = vec![call(AggregateKind::Avg, 2), call(AggregateKind::Min, 2)];
    let avg = GroupAggregate::new(&max.schema(), &max.mode(), vec![0], calls).unwrap();
    let schema = avg.schema();

    let mut graph = Graph::new();
    let sources = [graph.source(), graph.source()];
    let join = graph.operator("join", Box::new(join), 2).unwrap();
    let max = graph.operator("max", Box::new(max), 1).unwrap();
    let avg = graph.operator("avg", Box::new(avg), 1).unwrap();
    for source in sources {
        graph.from_source(source, Target::Operator { node: join, input: source });
    }
    graph.connect(join, Target::Operator { node: max, input: 0 }).unwrap();
    graph.connect(max, Target::Operator { node: avg, input: 0 }).unwrap();
    graph.connect(avg, Target::Sink(0)).unwrap();
    (graph, schema)
}

/// Goes on with another graph from all snapshots where the cut says so.
struct Run {
    make: fn() -> (Graph, arrow::datatypes::SchemaRef),
    graph: Graph,
    fold: Fold,
    cx: Context,
    chains: BTreeMap<String, Vec<Vec<u8>>>,
    epoch: u64,
}

impl Run {
    fn new(make: fn() -> (Graph, arrow::datatypes::SchemaRef)) -> Self {
        let (graph, schema) = make();
        let cx = Context { now_ms: 0, state_bytes_max: usize::MAX };
        Self { make, graph, fold: Fold::new(schema).unwrap(), cx, chains: BTreeMap::new(), epoch: 0 }
    }

    fn process(&mut self, source: usize, changes: &[Change]) {
        self.graph.process(source, batch(changes), &self.cx, &mut self.fold).unwrap();
    }

    fn advance(&mut self, source: usize, watermark: i64) {
        self.graph.advance(source, Some(watermark), &self.cx, &mut self.fold).unwrap();
    }

    fn cut(&mut self, cut: Cut) {
        if matches!(cut, Cut::None | Cut::Batch) {
            return;
        }
        self.epoch += 1;
        for (id, snapshot) in self.graph.snapshot(self.epoch).unwrap() {
            self.chains.entry(id).or_default().push(snapshot);
        }
        if cut != Cut::Snapshot {
            (self.graph, _) = (self.make)();
            self.graph.restore(0..=255, |id| Ok(self.chains.get(id).cloned().into_iter().collect())).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_most_of_each_window_are_those_of_the_batch(
        rows in proptest::collection::vec(any_row(), 1..80), slack in 0..60_i64, cuts in any_cuts(),
    ) {
        let mut rows = rows;
        rows.sort_by_key(|row| row.ts + row.v.unwrap_or(0).rem_euclid(slack + 1));
        let mut run = Run::new(most);
        let mut highest = i64::MIN;
        for (row, cut) in rows.iter().zip(cuts.iter().cycle()) {
            run.process(0, &[(RowKind::Insert, row.clone())]);
            run.cut(*cut);
            highest = highest.max(row.ts);
            run.advance(0, highest - slack - 1);
        }
        run.advance(0, WATERMARK_MAX);
        prop_assert_eq!(run.graph.late_rows(), 0);
        let (size, slide) = HOP;
        let query = format!("
            WITH slices AS (SELECT k, FLOOR(CAST(ts AS BIGINT) / {slide}.0) * {slide} AS begins FROM t),
            windows AS (SELECT k, begins AS ws, begins + {size} AS we FROM slices
                        UNION ALL SELECT k, begins - {slide} AS ws, begins - {slide} + {size} AS we FROM slices),
            counts AS (SELECT k, COUNT(*) AS num, ws, we FROM windows GROUP BY k, ws, we),
            most AS (SELECT MAX(num) AS most, ws, we FROM counts GROUP BY ws, we)
            SELECT c.k, c.num, CAST(c.ws AS BIGINT), CAST(c.we AS BIGINT), CAST(c.we AS BIGINT) - 1, m.most,
                CAST(m.ws AS BIGINT), CAST(m.we AS BIGINT), CAST(m.we AS BIGINT) - 1
            FROM counts c JOIN most m ON c.ws = m.ws AND c.we = m.we AND c.num >= m.most");
        assert_same(&run.fold.rows().unwrap(), &sql(&[("t", table(&rows))], &query));
    }

    #[test]
    fn averages_of_maxima_of_a_join_are_those_of_the_batch(
        left in any_changes(30), right in any_changes(30), cuts in any_cuts(),
    ) {
        let mut run = Run::new(averages);
        let inputs = [&left, &right];
        for (at, cut) in (0..left.len().max(right.len())).zip(cuts.iter().cycle()) {
            for (source, changes) in inputs.iter().enumerate() {
                changes.get(at).into_iter().for_each(|change| run.process(source, std::slice::from_ref(change)));
            }
            run.cut(*cut);
        }
        let query = "
            SELECT s, CAST(TRUNC(AVG(most)) AS BIGINT), MIN(most) FROM (
                SELECT l.s, r.s AS other, MAX(r.v) AS most FROM l JOIN r ON l.k = r.k GROUP BY l.s, r.s
            ) GROUP BY s";
        assert_same(&run.fold.rows().unwrap(), &sql(&[("l", folded(&left)), ("r", folded(&right))], query));
    }
}

#[test]
fn watermarks_of_idle_sources_do_not_hold_others_back() {
    #[derive(Default)]
    struct Watermarks(Vec<i64>);
    impl Sinks for Watermarks {
        fn batch(&mut self, _: usize, _: Batch) -> Result<()> {
            Ok(())
        }

        fn watermark(&mut self, _: usize, watermark: i64) -> Result<()> {
            self.0.push(watermark);
            Ok(())
        }
    }
    let (mut graph, _) = averages();
    let cx = Context { now_ms: 0, state_bytes_max: usize::MAX };
    let mut sink = Watermarks::default();
    graph.advance(0, Some(5), &cx, &mut sink).unwrap();
    graph.advance(1, Some(3), &cx, &mut sink).unwrap();
    graph.advance(1, None, &cx, &mut sink).unwrap();
    graph.advance(0, None, &cx, &mut sink).unwrap();
    graph.advance(0, Some(8), &cx, &mut sink).unwrap();
    assert_eq!(sink.0, [3, 5, 8]);
}

#[test]
fn circles_and_two_of_one_name_are_refused() {
    let (mut graph, _) = averages();
    assert!(graph.connect(2, Target::Operator { node: 0, input: 0 }).is_err());
    assert!(graph.operator("max", Box::new(counts()), 1).is_err());
}

use proptest::prelude::*;
use tereza_runtime::error::ErrorKind;

use super::super::RowKind::{Delete, Insert, UpdateAfter, UpdateBefore};
use super::super::calc::{Calc, Expression};
use super::super::harness::{Change, Driver, Row, any_changes, any_cuts, assert_same, batch, folded, schema, sql};
use super::*;

fn call(kind: AggregateKind, column: Option<usize>, filter: Option<usize>) -> AggregateCall {
    AggregateCall { kind, column, filter, name: format!("{kind:?}").to_lowercase() }
}

/// Every aggregate, of numbers and of texts.
fn calls() -> Vec<AggregateCall> {
    use AggregateKind::{Avg, AvgDistinct, Count, CountDistinct, CountRows, Max, Min, Sum, SumDistinct};
    vec![
        call(CountRows, None, None),
        call(Count, Some(1), None),
        call(Sum, Some(1), None),
        call(Avg, Some(1), None),
        call(Min, Some(1), None),
        call(Max, Some(2), None),
        call(CountDistinct, Some(2), None),
        call(SumDistinct, Some(1), None),
        call(AvgDistinct, Some(1), None),
    ]
}

const EXPECTED: &str = "COUNT(*), COUNT(v), SUM(v), SUM(v) / NULLIF(COUNT(v), 0), MIN(v), MAX(s), COUNT(DISTINCT s), \
    SUM(DISTINCT v), SUM(DISTINCT v) / NULLIF(COUNT(DISTINCT v), 0)";

fn retract() -> ChangelogMode {
    ChangelogMode::Retract { key: None }
}

fn inserts(changes: &[Change]) -> Vec<Change> {
    changes.iter().filter(|(kind, _)| kind.adds()).map(|(_, row)| (Insert, row.clone())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_stream_of_changes_is_the_batch(changes in any_changes(80), cuts in any_cuts()) {
        let mut driver = Driver::new(|| GroupAggregate::new(&schema(), &retract(), vec![0], calls()).unwrap());
        driver.run(&changes, &cuts);
        let query = format!("SELECT k, {EXPECTED} FROM t GROUP BY k");
        assert_same(&driver.finish(), &sql(&[("t", folded(&changes))], &query));
    }

    #[test]
    fn a_stream_of_inserts_is_the_batch(changes in any_changes(80), cuts in any_cuts()) {
        let changes = inserts(&changes);
        let mode = ChangelogMode::Append;
        let mut driver = Driver::new(|| GroupAggregate::new(&schema(), &mode, vec![2, 0], calls()).unwrap());
        driver.run(&changes, &cuts);
        let query = format!("SELECT s, k, {EXPECTED} FROM t GROUP BY s, k");
        assert_same(&driver.finish(), &sql(&[("t", folded(&changes))], &query));
    }

    #[test]
    fn without_keys_there_is_one_group(changes in any_changes(40), cuts in any_cuts()) {
        let mut driver = Driver::new(|| GroupAggregate::new(&schema(), &retract(), vec![], calls()).unwrap());
        driver.run(&changes, &cuts);
        // Of no rows SQL makes one row, a stream none.
        let query = format!("SELECT {EXPECTED} FROM t HAVING COUNT(*) > 0");
        assert_same(&driver.finish(), &sql(&[("t", folded(&changes))], &query));
    }

    #[test]
    fn aggregates_of_aggregates_take_results_back(changes in any_changes(60), cuts in any_cuts()) {
        let first = GroupAggregate::new(
            &schema(), &retract(), vec![0, 2], vec![call(AggregateKind::Max, Some(1), None)],
        ).unwrap();
        let (middle, mode) = (first.schema(), first.mode());
        let mut first = Driver::new(|| GroupAggregate::new(
            &schema(), &retract(), vec![0, 2], vec![call(AggregateKind::Max, Some(1), None)],
        ).unwrap());
        let mut second = Driver::new(|| GroupAggregate::new(
            &middle, &mode, vec![1], vec![call(AggregateKind::Sum, Some(2), None), call(AggregateKind::Min, Some(2), None)],
        ).unwrap());
        for (change, cut) in changes.iter().zip(cuts.iter().cycle()) {
            let mut out = Vec::new();
            first.operator.process(0, batch(std::slice::from_ref(change)), &first.cx, &mut out).unwrap();
            out.into_iter().for_each(|batch| second.process(0, batch));
            first.cut(*cut);
            second.cut(*cut);
        }
        let query = "SELECT s, SUM(m), MIN(m) FROM (SELECT k, s, MAX(v) AS m FROM t GROUP BY k, s) GROUP BY s";
        assert_same(&second.finish(), &sql(&[("t", folded(&changes))], query));
    }
}

/// `k, v, s, ts, v > 0`.
fn with_filter() -> Calc {
    use datafusion::physical_expr::expressions::{binary, col, lit};
    let schema = schema();
    let mut columns: Vec<(Expression, String)> =
        ["k", "v", "s", "ts"].into_iter().map(|name| (col(name, &schema).unwrap(), name.to_owned())).collect();
    let v = col("v", &schema).unwrap();
    columns.push((binary(v, datafusion::logical_expr::Operator::Gt, lit(0_i64), &schema).unwrap(), "f".to_owned()));
    Calc::new(&schema, &retract(), None, columns).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn filters_pass_rows_over(changes in any_changes(60), cuts in any_cuts()) {
        use AggregateKind::{CountDistinct, CountRows, Max, Sum};
        let input = with_filter().schema();
        let calls = vec![
            call(CountRows, None, Some(4)), call(Sum, Some(1), Some(4)), call(Max, Some(2), Some(4)),
            call(CountDistinct, Some(1), Some(4)),
        ];
        let mut driver = Driver::new(|| GroupAggregate::new(&input, &retract(), vec![0], calls.clone()).unwrap());
        for (change, cut) in changes.iter().zip(cuts.iter().cycle()) {
            let mut out = Vec::new();
            with_filter().process(0, batch(std::slice::from_ref(change)), &driver.cx, &mut out).unwrap();
            out.into_iter().for_each(|batch| driver.process(0, batch));
            driver.cut(*cut);
        }
        let query = "SELECT k, COUNT(*) FILTER (WHERE v > 0), SUM(v) FILTER (WHERE v > 0), MAX(s) FILTER (WHERE v > 0), \
                     COUNT(DISTINCT v) FILTER (WHERE v > 0) FROM t GROUP BY k";
        assert_same(&driver.finish(), &sql(&[("t", folded(&changes))], query));
    }
}

fn row(k: i64, v: i64) -> Row {
    Row { k: Some(k), v: Some(v), s: None, ts: 0 }
}

#[test]
fn changes_are_those_of_the_results() {
    let calls = vec![call(AggregateKind::Max, Some(1), None)];
    let mut driver = Driver::new(|| GroupAggregate::new(&schema(), &retract(), vec![0], calls.clone()).unwrap());
    driver.process(0, batch(&[(Insert, row(1, 5)), (Insert, row(1, 7))]));
    driver.process(0, batch(&[(Insert, row(1, 6))]));
    driver.process(0, batch(&[(Delete, row(1, 7)), (Insert, row(2, 1))]));
    driver.process(0, batch(&[(Delete, row(1, 5)), (Delete, row(1, 6)), (Delete, row(9, 9))]));
    assert_eq!(driver.kinds, [Insert, UpdateBefore, UpdateAfter, Insert, Delete]);
}

#[test]
fn averages_are_those_of_flink() {
    use arrow::array::{ArrayRef, Decimal128Array, Int32Array};
    use arrow::datatypes::{DataType, Decimal128Type, Int32Type};
    let schema =
        Schema::new(vec![Field::new("i", DataType::Int32, true), Field::new("d", DataType::Decimal128(10, 2), true)]);
    let calls = vec![
        call(AggregateKind::Avg, Some(0), None),
        call(AggregateKind::Sum, Some(0), None),
        call(AggregateKind::Avg, Some(1), None),
        call(AggregateKind::Sum, Some(1), None),
    ];
    let mut aggregate = GroupAggregate::new(&schema, &ChangelogMode::Append, vec![], calls).unwrap();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from(vec![-3, -4, i32::MAX])),
        Arc::new(Decimal128Array::from(vec![100, 100, 0]).with_precision_and_scale(10, 2).unwrap()),
    ];
    let rows = RecordBatch::try_new(Arc::new(schema), columns).unwrap();
    let cx = Context { now_ms: 0, state_bytes_max: usize::MAX };
    let mut out = Vec::new();
    aggregate.process(0, Batch::inserts(rows.slice(0, 2)), &cx, &mut out).unwrap();
    aggregate.process(0, Batch::inserts(rows.slice(2, 1)), &cx, &mut out).unwrap();
    let ints = |batch: &Batch, column: usize| batch.rows().column(column).as_primitive::<Int32Type>().values().to_vec();
    let decimals = |column: usize| out[1].rows().column(column).as_primitive::<Decimal128Type>().value(1);
    assert_eq!(ints(&out[0], 0), [-3], "-7 / 2 is rounded towards zero");
    assert_eq!(ints(&out[1], 1), [-7, i32::MAX - 7]);
    assert_eq!(*out[1].rows().column(2).data_type(), DataType::Decimal128(38, 6));
    assert_eq!(decimals(2), 666_667, "2.00 / 3 is 0.666667");
    assert_eq!(decimals(3), 200);
}

#[test]
fn an_average_of_large_decimals_is_known() {
    use arrow::array::Decimal128Array;
    use arrow::datatypes::{DataType, Decimal128Type};
    let schema = Schema::new(vec![Field::new("d", DataType::Decimal128(38, 2), true)]);
    let calls = vec![call(AggregateKind::Avg, Some(0), None), call(AggregateKind::AvgDistinct, Some(0), None)];
    let mut aggregate = GroupAggregate::new(&schema, &ChangelogMode::Append, vec![], calls).unwrap();
    // The sum of a thousand times 10^31 has no room for four more digits, its average has.
    let values = vec![10_i128.pow(33); 1_000].into_iter().chain([-7]).collect::<Vec<_>>();
    let column = Decimal128Array::from(values).with_precision_and_scale(38, 2).unwrap();
    let rows = RecordBatch::try_new(Arc::new(schema), vec![Arc::new(column)]).unwrap();
    let cx = Context { now_ms: 0, state_bytes_max: usize::MAX };
    let mut out = Vec::new();
    aggregate.process(0, Batch::inserts(rows.slice(0, 1_000)), &cx, &mut out).unwrap();
    aggregate.process(0, Batch::inserts(rows.slice(999, 2)), &cx, &mut out).unwrap();
    let average = |batch: usize, column: usize| {
        let values = out[batch].rows().column(column).as_primitive::<Decimal128Type>();
        values.value(values.len() - 1)
    };
    assert_eq!((average(0, 0), average(0, 1)), (10_i128.pow(37), 10_i128.pow(37)));
    // Two values, each once: (10^33 - 7) / 2 hundredths, with four more places.
    assert_eq!(average(1, 1), (10_i128.pow(33) - 7) * 5_000);
}

#[test]
fn a_group_is_forgotten_after_its_time_to_live() {
    let make = || {
        let calls = vec![call(AggregateKind::Sum, Some(1), None), call(AggregateKind::SumDistinct, Some(1), None)];
        GroupAggregate::new(&schema(), &ChangelogMode::Append, vec![0], calls)
            .unwrap()
            .with_time_to_live(Some(100))
            .unwrap()
    };
    let mut aggregate = make();
    let mut out = Vec::new();
    let mut give = |aggregate: &mut GroupAggregate, now_ms: i64, rows: &[Change]| {
        let cx = Context { now_ms, state_bytes_max: usize::MAX };
        out.clear();
        aggregate.process(0, batch(rows), &cx, &mut out).unwrap();
        let changes = out.iter().flat_map(|batch| {
            (0..batch.len()).map(move |row| {
                let sum = |column: usize| {
                    batch.rows().column(column).as_primitive::<arrow::datatypes::Int64Type>().value(row)
                };
                (batch.kind(row), sum(0), sum(1), sum(2))
            })
        });
        changes.collect::<Vec<_>>()
    };
    assert_eq!(give(&mut aggregate, 0, &[(Insert, row(1, 5))]), [(Insert, 1, 5, 5)]);
    assert_eq!(
        give(&mut aggregate, 90, &[(Insert, row(1, 5))]),
        [(UpdateBefore, 1, 5, 5), (UpdateAfter, 1, 10, 5)],
        "a change makes it live longer"
    );
    assert_eq!(give(&mut aggregate, 189, &[(Insert, row(2, 1))]), [(Insert, 2, 1, 1)]);
    let snapshot = |aggregate: &mut GroupAggregate, epoch: u64| {
        let mut writer = SnapshotWriter::new(NAME, &aggregate.describe(), epoch, epoch.checked_sub(1));
        aggregate.snapshot(&mut writer).unwrap();
        writer.finish().unwrap()
    };
    let mut chain = vec![snapshot(&mut aggregate, 0)];
    assert_eq!(give(&mut aggregate, 190, &[(Insert, row(1, 7))]), [(Insert, 1, 7, 7)], "what it was is forgotten");
    chain.push(snapshot(&mut aggregate, 1));
    // State remembers when it was written; other groups are found by the clock alone.
    let mut again = make();
    again.restore(&StateReader::open(&again.describe(), &[chain.clone()], 0..=255).unwrap()).unwrap();
    assert_eq!(give(&mut again, 289, &[(Insert, row(1, 1))]), [(UpdateBefore, 1, 7, 7), (UpdateAfter, 1, 8, 8)]);
    assert_eq!(again.groups.bytes(), aggregate.groups.bytes() / 2, "group 2 is gone");
    // A job without a time to live takes the same state, and keeps it.
    let calls = vec![call(AggregateKind::Sum, Some(1), None), call(AggregateKind::SumDistinct, Some(1), None)];
    let mut for_ever = GroupAggregate::new(&schema(), &ChangelogMode::Append, vec![0], calls).unwrap();
    for_ever.restore(&StateReader::open(&for_ever.describe(), &[chain], 0..=255).unwrap()).unwrap();
    assert_eq!(give(&mut for_ever, 9_999, &[(Insert, row(1, 1))]), [(UpdateBefore, 1, 7, 7), (UpdateAfter, 1, 8, 8)]);
}

#[test]
fn state_over_the_bound_is_an_error_that_names_it() {
    let mut aggregate = GroupAggregate::new(&schema(), &retract(), vec![0], calls()).unwrap();
    let cx = Context { now_ms: 0, state_bytes_max: 100 };
    let error =
        aggregate.process(0, batch(&[(Insert, row(1, 1)), (Insert, row(2, 2))]), &cx, &mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
    assert!(error.message().starts_with("the state of group aggregate has "), "{}", error.message());
}

#[test]
fn restored_state_takes_what_it_took() {
    let make = || {
        let calls = vec![call(AggregateKind::Sum, Some(1), None)];
        GroupAggregate::new(&schema(), &ChangelogMode::Append, vec![0], calls).unwrap()
    };
    let (mut aggregate, mut chain) = (make(), Vec::new());
    let cx = Context { now_ms: 0, state_bytes_max: usize::MAX };
    // Each epoch writes all groups again.
    for epoch in 0..4_u64 {
        let rows: Vec<Change> = (0..1_000).map(|key| (Insert, row(key, 1))).collect();
        aggregate.process(0, batch(&rows), &cx, &mut Vec::new()).unwrap();
        let mut writer = SnapshotWriter::new(NAME, &aggregate.describe(), epoch, epoch.checked_sub(1));
        aggregate.snapshot(&mut writer).unwrap();
        chain.push(writer.finish().unwrap());
    }
    let bytes = |groups| {
        let mut again = make();
        again.restore(&StateReader::open(&again.describe(), &[chain.clone()], groups).unwrap()).unwrap();
        again.state_bytes()
    };
    assert_eq!(bytes(0..=255), aggregate.state_bytes());
    // Tasks and lanes that share the key groups take no more together.
    assert_eq!((0..16).map(|lane| bytes(lane * 16..=lane * 16 + 15)).sum::<usize>(), aggregate.state_bytes());
}

#[test]
fn what_cannot_be_computed_is_refused() {
    let refused = |mode: &ChangelogMode, call: AggregateCall| {
        GroupAggregate::new(&schema(), mode, vec![0], vec![call]).err().map(|error| error.kind())
    };
    assert_eq!(
        refused(&ChangelogMode::Upsert(vec![0]), call(AggregateKind::CountRows, None, None)),
        Some(ErrorKind::Unsupported)
    );
    assert_eq!(refused(&retract(), call(AggregateKind::Sum, Some(2), None)), Some(ErrorKind::Unsupported));
    assert_eq!(refused(&retract(), call(AggregateKind::Sum, Some(1), Some(2))), Some(ErrorKind::InvalidInput));
}

#[test]
fn a_delta_has_what_changed() {
    let snapshot = |aggregate: &mut GroupAggregate, epoch: u64| {
        let mut writer = SnapshotWriter::new(NAME, &aggregate.describe(), epoch, epoch.checked_sub(1));
        aggregate.snapshot(&mut writer).unwrap();
        writer.finish().unwrap().len()
    };
    let mut aggregate = GroupAggregate::new(&schema(), &retract(), vec![0], calls()).unwrap();
    let cx = Context { now_ms: 0, state_bytes_max: usize::MAX };
    let many: Vec<Change> = (0..10_000).map(|k| (Insert, row(k, k * 7919))).collect();
    aggregate.process(0, batch(&many), &cx, &mut Vec::new()).unwrap();
    let first = snapshot(&mut aggregate, 0);
    aggregate.process(0, batch(&[(Insert, row(5, 5))]), &cx, &mut Vec::new()).unwrap();
    let second = snapshot(&mut aggregate, 1);
    let third = snapshot(&mut aggregate, 2);
    assert!(first > 20 * second && second > third, "{first}, {second}, {third}");
}

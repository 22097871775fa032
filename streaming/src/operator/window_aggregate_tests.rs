use arrow::array::{ArrayRef, TimestampMillisecondArray};
use datafusion::functions_aggregate::average::avg_udaf;
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::{AggregateUDF, Operator as Comparison};
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::{binary, col, lit};
use proptest::prelude::*;
use tereza_runtime::error::ErrorKind;

use super::super::WATERMARK_MAX;
use super::super::calc::Expression;
use super::super::harness::{Change, Cut, Driver, Row, any_cuts, any_row, assert_same, batch, schema, sql, table};
use super::*;

fn function(udf: Arc<AggregateUDF>, argument: Expression, distinct: bool, name: &str) -> WindowCall {
    let built =
        AggregateExprBuilder::new(udf, vec![argument]).schema(schema()).alias(name).with_distinct(distinct).build();
    WindowCall { function: Arc::new(built.unwrap()), filter: None }
}

/// Aggregates of all kinds that DataFusion's accumulators come in, one with a filter.
fn calls() -> Vec<WindowCall> {
    let schema = schema();
    let column = |name: &str| col(name, &schema).unwrap();
    let mut filtered = function(sum_udaf(), column("v"), false, "f");
    filtered.filter = Some(binary(column("v"), Comparison::Gt, lit(0_i64), &schema).unwrap());
    vec![
        function(count_udaf(), lit(1_i64), false, "n"),
        function(sum_udaf(), column("v"), false, "sum"),
        function(
            avg_udaf(),
            datafusion::physical_expr::expressions::cast(column("v"), &schema, arrow::datatypes::DataType::Float64)
                .unwrap(),
            false,
            "avg",
        ),
        function(min_udaf(), column("s"), false, "min"),
        function(max_udaf(), column("v"), false, "max"),
        function(count_udaf(), column("s"), true, "distinct"),
        filtered,
    ]
}

const EXPECTED: &str =
    "COUNT(*), SUM(v), AVG(v), MIN(s), MAX(v), COUNT(DISTINCT s), SUM(v) FILTER (WHERE v > 0), ws, we, wt";

/// All windows of a time, from what Flink's documentation says of them.
fn windows_of(windows: (Kind, i64, i64, i64), time: i64) -> Vec<(i64, i64)> {
    let (kind, size, step, offset) = windows;
    let around = (-2000..2000).map(|n| n * step + offset);
    match kind {
        Kind::Hop => {
            around.map(|start| (start, start + size)).filter(|(start, end)| (*start..*end).contains(&time)).collect()
        }
        Kind::Cumulate => {
            let start =
                (-2000..2000).map(|n| n * size + offset).find(|start| (*start..start + size).contains(&time)).unwrap();
            (1..=size / step).map(|n| (start, start + n * step)).filter(|(_, end)| time < *end).collect()
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Hop,
    Cumulate,
}

fn any_windows() -> impl Strategy<Value = (Kind, i64, i64, i64)> {
    let kind = prop_oneof![Just(Kind::Hop), Just(Kind::Cumulate)];
    (kind, 1..5_i64, prop_oneof![Just(10_i64), Just(25), Just(7)], -30..30_i64)
        .prop_map(|(kind, steps, step, offset)| (kind, steps * step, step, offset))
}

fn windows((kind, size, step, offset): (Kind, i64, i64, i64)) -> Windows {
    match kind {
        Kind::Hop => Windows::hop(size, step, offset).unwrap(),
        Kind::Cumulate => Windows::cumulate(size, step, offset).unwrap(),
    }
}

/// The rows of each window, as a table for the judge.
fn exploded(rows: &[(Row, (i64, i64))]) -> RecordBatch {
    let own: Vec<Row> = rows.iter().map(|(row, _)| row.clone()).collect();
    let mut columns = table(&own).columns().to_vec();
    let bound = |of: fn(&(Row, (i64, i64))) -> i64| -> ArrayRef {
        Arc::new(TimestampMillisecondArray::from_iter_values(rows.iter().map(of)))
    };
    columns.extend([bound(|row| row.1.0), bound(|row| row.1.1), bound(|row| row.1.1 - 1)]);
    let mut fields = schema().fields().to_vec();
    let timestamp = schema().field(3).data_type().clone();
    fields.extend(["ws", "we", "wt"].map(|name| Arc::new(Field::new(name, timestamp.clone(), false))));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn windows_of_a_stream_are_those_of_the_batch(
        rows in proptest::collection::vec(any_row(), 0..120),
        shape in any_windows(),
        slack in 0..120_i64,
        keyed in any::<bool>(),
        cuts in any_cuts(),
    ) {
        let keys = if keyed { vec![0, 2] } else { vec![] };
        let source = WindowSource::Aligned { windows: windows(shape), time: 3 };
        let mut driver = Driver::new(|| {
            WindowAggregate::new(&schema(), &ChangelogMode::Append, source, keys.clone(), calls()).unwrap()
        });
        let (mut watermark, mut highest, mut from, mut late) = (i64::MIN, i64::MIN, 0, 0);
        let mut counted: Vec<(Row, (i64, i64))> = Vec::new();
        for (at, cut) in (1..=rows.len()).zip(cuts.iter().cycle()) {
            if *cut == Cut::None && at != rows.len() {
                continue;
            }
            for row in &rows[from..at] {
                let open: Vec<_> = windows_of(shape, row.ts).into_iter().filter(|(_, end)| end - 1 > watermark).collect();
                late += u64::from(open.is_empty());
                counted.extend(open.into_iter().map(|window| (row.clone(), window)));
                highest = highest.max(row.ts);
            }
            let changes: Vec<Change> = rows[from..at].iter().map(|row| (super::super::RowKind::Insert, row.clone())).collect();
            let late_before = driver.operator.late_rows();
            driver.process(0, batch(&changes));
            late -= driver.operator.late_rows() - late_before;
            if at % 2 == 0 {
                driver.cut(*cut);
                watermark = watermark.max(highest - slack);
                driver.advance(watermark);
            } else {
                watermark = watermark.max(highest - slack);
                driver.advance(watermark);
                driver.cut(*cut);
            }
            from = at;
        }
        prop_assert_eq!(late, 0);
        let query = match keyed {
            true => format!("SELECT k, s, {EXPECTED} FROM t GROUP BY k, s, ws, we, wt"),
            false => format!("SELECT {EXPECTED} FROM t GROUP BY ws, we, wt"),
        };
        assert_same(&driver.finish(), &sql(&[("t", exploded(&counted))], &query));
    }

    #[test]
    fn windows_that_rows_have_are_kept(
        rows in proptest::collection::vec((any_row(), 0..4_i64, 1..3_i64), 0..60), cuts in any_cuts(),
    ) {
        let rows: Vec<(Row, (i64, i64))> =
            rows.into_iter().map(|(row, start, size)| (row, (start * 10, (start + size) * 10))).collect();
        let input = exploded(&rows);
        let mut driver = Driver::new(|| {
            let source = WindowSource::Attached { start: 4, end: 5 };
            WindowAggregate::new(&input.schema(), &ChangelogMode::Append, source, vec![0], calls()).unwrap()
        });
        for (at, cut) in (0..rows.len()).zip(cuts.iter().cycle()) {
            driver.process(0, Batch::inserts(input.slice(at, 1)));
            driver.cut(*cut);
        }
        let query = format!("SELECT k, {EXPECTED} FROM t GROUP BY k, ws, we, wt");
        assert_same(&driver.finish(), &sql(&[("t", input)], &query));
    }
}

fn counting(windows: Windows) -> WindowAggregate {
    let source = WindowSource::Aligned { windows, time: 3 };
    let calls = vec![function(count_udaf(), lit(1_i64), false, "n")];
    WindowAggregate::new(&schema(), &ChangelogMode::Append, source, vec![0], calls).unwrap()
}

fn at(ts: i64) -> Change {
    (super::super::RowKind::Insert, Row { k: Some(1), v: None, s: None, ts })
}

#[test]
fn a_window_is_emitted_when_its_last_millisecond_is_over() {
    let mut aggregate = counting(Windows::tumble(10, 0).unwrap());
    let cx = Context { now_ms: 0, state_bytes_max: usize::MAX };
    let mut out = Vec::new();
    aggregate.process(0, batch(&[at(0), at(9), at(10)]), &cx, &mut out).unwrap();
    aggregate.advance(8, &cx, &mut out).unwrap();
    assert!(out.is_empty());
    aggregate.advance(9, &cx, &mut out).unwrap();
    assert_eq!(out.iter().map(Batch::len).sum::<usize>(), 1);
    aggregate.process(0, batch(&[at(9), at(10)]), &cx, &mut out).unwrap();
    assert_eq!(aggregate.late_rows(), 1);
    aggregate.advance(WATERMARK_MAX, &cx, &mut out).unwrap();
    assert_eq!(out.iter().map(Batch::len).sum::<usize>(), 2);
    assert_eq!(aggregate.state_bytes(), 0);
}

#[test]
fn updates_and_too_much_state_are_refused() {
    let source = WindowSource::Aligned { windows: Windows::tumble(10, 0).unwrap(), time: 3 };
    let retract = ChangelogMode::Retract { key: None };
    let refused = WindowAggregate::new(&schema(), &retract, source, vec![0], calls()).err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    let cx = Context { now_ms: 0, state_bytes_max: 10 };
    let mut aggregate = counting(Windows::tumble(10, 0).unwrap());
    let error = aggregate.process(0, batch(&[at(0)]), &cx, &mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
    assert!(error.message().starts_with("the state of window aggregate has "));
}

#[test]
fn a_window_without_an_offset_of_its_own_takes_the_offset_of_its_size() {
    assert_eq!(Windows::tumble(10, 3).unwrap(), Windows::tumble(10, -7).unwrap());
}

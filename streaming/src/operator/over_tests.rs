use arrow::array::{Int64Array, StringArray};
use arrow::datatypes::Int64Type;
use proptest::prelude::*;
use tereza_runtime::error::ErrorKind;

use super::super::harness::{Change, Cut, Driver, Row, any_cuts, any_row, assert_same, batch, schema, sql, table};
use super::super::{RowKind, WATERMARK_MAX};
use super::*;

fn call(kind: OverKind, column: Option<usize>) -> OverCall {
    let name = match &kind {
        OverKind::Aggregate(kind) => format!("{kind:?}").to_lowercase(),
        OverKind::FirstValue => "first".to_owned(),
        OverKind::LastValue => "last".to_owned(),
        OverKind::RowNumber => "number".to_owned(),
        OverKind::Lag { .. } => "lag".to_owned(),
    };
    OverCall { kind, column, filter: None, name }
}

/// Aggregates whose results do not depend on the order of rows of one time.
fn aggregates() -> Vec<OverCall> {
    use AggregateKind::{Avg, AvgDistinct, Count, CountDistinct, CountRows, Max, Min, Sum, SumDistinct};
    let of = |kind, column| call(OverKind::Aggregate(kind), column);
    vec![
        of(CountRows, None),
        of(Count, Some(1)),
        of(Sum, Some(1)),
        of(Avg, Some(1)),
        of(Min, Some(1)),
        of(Max, Some(2)),
        of(CountDistinct, Some(2)),
        of(SumDistinct, Some(1)),
        of(AvgDistinct, Some(1)),
    ]
}

/// The same in SQL, over a table `t` whose rows are joined with those of their frame, `f`.
const AGGREGATES: &str =
    "COUNT(*), COUNT(f.v), SUM(f.v), SUM(f.v) / NULLIF(COUNT(f.v), 0), MIN(f.v), MAX(f.s), COUNT(DISTINCT f.s),
    SUM(DISTINCT f.v), SUM(DISTINCT f.v) / NULLIF(COUNT(DISTINCT f.v), 0)";

fn with_order() -> Vec<OverCall> {
    let default: ArrayRef = Arc::new(Int64Array::from(vec![-77]));
    let mut calls = aggregates();
    calls.extend([
        call(OverKind::FirstValue, Some(1)),
        call(OverKind::LastValue, Some(2)),
        call(OverKind::RowNumber, None),
        call(OverKind::Lag { offset: 2, default: Some(default) }, Some(1)),
        call(OverKind::Lag { offset: 0, default: None }, Some(2)),
    ]);
    calls
}

fn over(keys: &[usize], frame: Frame, calls: Vec<OverCall>) -> Over {
    Over::new(&schema(), &ChangelogMode::Append, 3, keys.to_vec(), frame, calls).unwrap()
}

fn inserts(rows: &[Row]) -> Vec<Change> {
    rows.iter().map(|row| (RowKind::Insert, row.clone())).collect()
}

/// The rows with `n`, their place in the order of times and arrival: the judge joins by it.
fn numbered(rows: &[Row]) -> RecordBatch {
    let mut rows = rows.to_vec();
    rows.sort_by_key(|row| row.ts);
    let mut fields = schema().fields().to_vec();
    fields.push(Arc::new(Field::new("n", DataType::Int64, false)));
    let mut columns = table(&rows).columns().to_vec();
    columns.push(Arc::new(Int64Array::from_iter_values(0..rows.len() as i64)));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

/// Gives rows with watermarks among them; answers those that were not late.
fn run(driver: &mut Driver<Over, impl Fn() -> Over>, rows: &[Row], slack: i64, cuts: &[Cut]) -> Vec<Row> {
    let (mut from, mut highest, mut watermark, mut late) = (0, i64::MIN + 1_000, i64::MIN, 0);
    let mut taken = Vec::new();
    for (at, cut) in (1..=rows.len()).zip(cuts.iter().cycle()) {
        if *cut == Cut::None && at != rows.len() {
            continue;
        }
        let now = &rows[from..at];
        let in_time: Vec<Row> = now.iter().filter(|row| row.ts > watermark).cloned().collect();
        let late_before = driver.operator.late_rows();
        driver.process(0, batch(&inserts(now)));
        late += driver.operator.late_rows() - late_before;
        taken.extend(in_time);
        if at % 2 == 0 {
            driver.cut(*cut);
        }
        highest = now.iter().map(|row| row.ts).fold(highest, i64::max);
        watermark = watermark.max(highest - slack);
        driver.advance(watermark);
        if at % 2 == 1 {
            driver.cut(*cut);
        }
        from = at;
    }
    assert_eq!(late, (rows.len() - taken.len()) as u64);
    taken
}

const KEY: &str = "(f.k IS NOT DISTINCT FROM t.k) AND (f.s IS NOT DISTINCT FROM t.s)";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn ranges_of_a_stream_are_those_of_the_batch(
        rows in proptest::collection::vec(any_row(), 0..80), before_ms in proptest::option::of(0..60_i64),
        slack in 0..80_i64, keyed in any::<bool>(), cuts in any_cuts(),
    ) {
        let keys: &[usize] = if keyed { &[0, 2] } else { &[] };
        let mut driver = Driver::new(|| over(keys, Frame::Range(before_ms), aggregates()));
        let taken = run(&mut driver, &rows, slack, &cuts);
        let key = if keyed { KEY } else { "TRUE" };
        let since = before_ms.map_or("TRUE".to_owned(), |ms| format!("CAST(f.ts AS BIGINT) >= CAST(t.ts AS BIGINT) - {ms}"));
        let query = format!(
            "SELECT t.k, t.v, t.s, t.ts, {AGGREGATES} FROM t JOIN t AS f ON {key} AND f.ts <= t.ts AND {since}
             GROUP BY t.n, t.k, t.v, t.s, t.ts"
        );
        assert_same(&driver.finish(), &sql(&[("t", numbered(&taken))], &query));
    }

    #[test]
    fn rows_before_a_row_of_a_stream_are_those_of_the_batch(
        rows in proptest::collection::vec(any_row(), 0..80), before in proptest::option::of(0..6_usize),
        slack in 0..80_i64, keyed in any::<bool>(), cuts in any_cuts(),
    ) {
        let keys: &[usize] = if keyed { &[0, 2] } else { &[] };
        let mut driver = Driver::new(|| over(keys, Frame::Rows(before), with_order()));
        let taken = run(&mut driver, &rows, slack, &cuts);
        let partition = if keyed { "PARTITION BY k, s" } else { "" };
        let key = if keyed { KEY } else { "TRUE" };
        let before = before.map_or(i64::MAX, |before| before as i64);
        let query = format!(
            "WITH r AS (
               SELECT *, CAST(ROW_NUMBER() OVER ({partition} ORDER BY n) AS BIGINT) AS rn, LAG(v, 2, -77) OVER ({partition} ORDER BY n) AS lag2 FROM t
             ), a AS (
               SELECT t.n, {AGGREGATES_NAMED}, MIN(CASE WHEN f.v IS NOT NULL THEN f.n END) AS first_n,
                 MAX(CASE WHEN f.s IS NOT NULL THEN f.n END) AS last_n
               FROM r AS t JOIN r AS f ON {key} AND f.rn <= t.rn AND t.rn - f.rn <= {before} GROUP BY t.n
             )
             SELECT r.k, r.v, r.s, r.ts, a.a0, a.a1, a.a2, a.a3, a.a4, a.a5, a.a6, a.a7, a.a8, fv.v AS first_v, lv.s AS last_s,
               r.rn, r.lag2, r.s AS lag0
             FROM r JOIN a ON r.n = a.n LEFT JOIN t AS fv ON fv.n = a.first_n LEFT JOIN t AS lv ON lv.n = a.last_n"
        );
        assert_same(&driver.finish(), &sql(&[("t", numbered(&taken))], &query));
    }
}

/// [`AGGREGATES`] with names.
const AGGREGATES_NAMED: &str =
    "COUNT(*) AS a0, COUNT(f.v) AS a1, SUM(f.v) AS a2, SUM(f.v) / NULLIF(COUNT(f.v), 0) AS a3,
    MIN(f.v) AS a4, MAX(f.s) AS a5, COUNT(DISTINCT f.s) AS a6, SUM(DISTINCT f.v) AS a7,
    SUM(DISTINCT f.v) / NULLIF(COUNT(DISTINCT f.v), 0) AS a8";

fn row(k: i64, v: i64, ts: i64) -> Row {
    Row { k: Some(k), v: Some(v), s: None, ts }
}

fn ints(batches: &[Batch], column: usize) -> Vec<i64> {
    batches.iter().flat_map(|batch| batch.rows().column(column).as_primitive::<Int64Type>().values().to_vec()).collect()
}

const CX: Context = Context { now_ms: 0, state_bytes_max: usize::MAX };

fn counting(frame: Frame) -> Over {
    over(&[0], frame, vec![call(OverKind::Aggregate(AggregateKind::Sum), Some(1))])
}

#[test]
fn rows_come_out_in_the_order_of_their_times_when_the_watermark_reaches_them() {
    let mut operator = counting(Frame::Range(Some(10)));
    let mut out = Vec::new();
    operator
        .process(0, batch(&inserts(&[row(1, 4, 30), row(1, 1, 10), row(2, 8, 10), row(1, 2, 20)])), &CX, &mut out)
        .unwrap();
    operator.advance(9, &CX, &mut out).unwrap();
    assert!(out.is_empty());
    operator.advance(20, &CX, &mut out).unwrap();
    assert_eq!((ints(&out, 1), ints(&out, 4)), (vec![1, 8, 2], vec![1, 8, 3]));
    out.clear();
    operator.process(0, batch(&inserts(&[row(1, 16, 20), row(1, 32, 30)])), &CX, &mut out).unwrap();
    assert_eq!(operator.late_rows(), 1);
    operator.advance(30, &CX, &mut out).unwrap();
    assert_eq!((ints(&out, 1), ints(&out, 4)), (vec![4, 32], vec![38, 38]), "rows of one time have the same results");
}

#[test]
fn a_key_whose_range_is_past_is_forgotten() {
    let mut operator = counting(Frame::Range(Some(10)));
    operator.process(0, batch(&inserts(&[row(1, 1, 10), row(2, 2, 15)])), &CX, &mut Vec::new()).unwrap();
    operator.advance(19, &CX, &mut Vec::new()).unwrap();
    assert!(operator.index.get(operator.index.key(0)).is_some(), "a row of 20 still has the row of 10 in its frame");
    operator.advance(20, &CX, &mut Vec::new()).unwrap();
    assert!(operator.index.get(operator.index.key(0)).is_none() && operator.index.get(operator.index.key(1)).is_some());
    operator.advance(WATERMARK_MAX, &CX, &mut Vec::new()).unwrap();
    assert_eq!((operator.bytes, operator.index.bytes(), operator.lasts.len()), (0, 0, 0));
}

#[test]
fn a_key_is_forgotten_after_its_time_to_live() {
    let mut operator = counting(Frame::Rows(None)).with_time_to_live(Some(100)).unwrap();
    let at = |now_ms: i64| Context { now_ms, ..CX };
    let mut out = Vec::new();
    for (now_ms, rows) in [(0, [row(1, 1, 10)]), (99, [row(1, 2, 20)]), (150, [row(2, 3, 30)]), (250, [row(1, 4, 40)])]
    {
        operator.process(0, batch(&inserts(&rows)), &at(now_ms), &mut out).unwrap();
        operator.advance(rows[0].ts, &at(now_ms), &mut out).unwrap();
    }
    assert_eq!(ints(&out, 4), [1, 3, 3, 4], "the rows of 10 and 20 are forgotten");
}

#[test]
fn a_delta_has_no_rows_that_came_and_went_between() {
    let size = |operator: &mut Over, epoch: u64| {
        let mut writer = SnapshotWriter::new(NAME, &operator.describe(), epoch, epoch.checked_sub(1));
        operator.snapshot(&mut writer).unwrap();
        writer.finish().unwrap().len()
    };
    let mut operator = counting(Frame::Rows(Some(2)));
    let empty = size(&mut operator, 0);
    let many: Vec<Row> = (0..10_000).map(|n| row(1, n, n)).collect();
    operator.process(0, batch(&inserts(&many)), &CX, &mut Vec::new()).unwrap();
    operator.advance(20_000, &CX, &mut Vec::new()).unwrap();
    let delta = size(&mut operator, 1);
    assert!(delta < empty + 8_000, "three rows and a key take {delta} bytes, nothing takes {empty}");
}

#[test]
fn what_cannot_be_computed_is_refused() {
    let refused = |mode: &ChangelogMode, time: usize, frame: Frame, calls: Vec<OverCall>| {
        Over::new(&schema(), mode, time, vec![0], frame, calls).err().map(|error| error.kind())
    };
    let (append, retract) = (ChangelogMode::Append, ChangelogMode::Retract { key: None });
    assert_eq!(refused(&retract, 3, Frame::Rows(None), aggregates()), Some(ErrorKind::Unsupported));
    assert_eq!(refused(&append, 0, Frame::Rows(None), aggregates()), Some(ErrorKind::InvalidInput));
    assert_eq!(refused(&append, 3, Frame::Range(Some(-1)), aggregates()), Some(ErrorKind::InvalidInput));
    let far = call(OverKind::Lag { offset: LAG_MAX + 1, default: None }, Some(1));
    assert_eq!(refused(&append, 3, Frame::Rows(None), vec![far]), Some(ErrorKind::ResourceExhausted));
    let no_argument = call(OverKind::FirstValue, None);
    assert_eq!(refused(&append, 3, Frame::Rows(None), vec![no_argument]), Some(ErrorKind::InvalidInput));
}

#[test]
fn filters_pass_rows_over() {
    let mut fields = schema().fields().to_vec();
    fields.push(Arc::new(Field::new("f", DataType::Boolean, true)));
    let with_filter: SchemaRef = Arc::new(Schema::new(fields));
    let calls = vec![
        OverCall { filter: Some(4), ..call(OverKind::Aggregate(AggregateKind::Sum), Some(1)) },
        OverCall { filter: Some(4), ..call(OverKind::LastValue, Some(1)) },
    ];
    let mut operator = Over::new(&with_filter, &ChangelogMode::Append, 3, vec![], Frame::Rows(Some(1)), calls).unwrap();
    let mut columns = table(&[row(1, 1, 1), row(1, 2, 2), row(1, 4, 3), row(1, 8, 4)]).columns().to_vec();
    columns.push(Arc::new(arrow::array::BooleanArray::from(vec![Some(true), Some(false), None, Some(true)])));
    let rows = RecordBatch::try_new(with_filter, columns).unwrap();
    let mut out = Vec::new();
    operator.process(0, Batch::inserts(rows), &CX, &mut out).unwrap();
    operator.advance(WATERMARK_MAX, &CX, &mut out).unwrap();
    let result = |column: usize| -> Vec<Option<i64>> {
        out[0].rows().column(column).as_primitive::<Int64Type>().iter().collect()
    };
    assert_eq!(result(5), [Some(1), Some(1), None, Some(8)]);
    assert_eq!(result(6), [Some(1), Some(1), None, Some(8)]);
}

#[test]
fn texts_are_kept_as_they_are() {
    let text = |s: Option<u8>, ts: i64| Row { k: None, v: None, s, ts };
    let mut operator = over(&[], Frame::Rows(Some(1)), vec![call(OverKind::FirstValue, Some(2))]);
    let mut out = Vec::new();
    let rows = [text(None, 1), text(Some(1), 2), text(Some(2), 3), text(None, 4), text(None, 5)];
    operator.process(0, batch(&inserts(&rows)), &CX, &mut out).unwrap();
    operator.advance(WATERMARK_MAX, &CX, &mut out).unwrap();
    let expected = StringArray::from(vec![None, Some("s1"), Some("s1"), Some("s2"), None]);
    assert_eq!(*out[0].rows().column(4).as_string::<i32>(), expected);
}

use proptest::prelude::*;

use super::super::harness::{Change, Cut, Driver, Row, any_cuts, any_row, assert_same, batch, schema, sql, table};
use super::super::{RowKind, WATERMARK_MAX};
use super::*;
use crate::operator::aggregate::AggregateKind;

fn call(kind: AggregateKind, column: Option<usize>) -> AggregateCall {
    AggregateCall { kind, column, filter: None, name: format!("{kind:?}").to_lowercase() }
}

fn calls() -> Vec<AggregateCall> {
    use AggregateKind::{CountDistinct, CountRows, Max, Min, Sum};
    vec![
        call(CountRows, None),
        call(Sum, Some(1)),
        call(Min, Some(1)),
        call(Max, Some(2)),
        call(CountDistinct, Some(2)),
    ]
}

/// Sessions by SQL: a session begins where no row of its key is at most a gap before.
const QUERY: &str = "
    WITH marked AS (
        SELECT *, CASE WHEN CAST(ts AS BIGINT) - LAG(CAST(ts AS BIGINT)) OVER (PARTITION BY k ORDER BY ts) <= 17 THEN 0 ELSE 1 END AS opens
        FROM t
    ), numbered AS (
        SELECT *, SUM(opens) OVER (PARTITION BY k ORDER BY ts RANGE UNBOUNDED PRECEDING) AS session FROM marked
    )
    SELECT k, COUNT(*), SUM(v), MIN(v), MAX(s), COUNT(DISTINCT s), MIN(CAST(ts AS BIGINT)), MAX(CAST(ts AS BIGINT)) + 17,
        MAX(CAST(ts AS BIGINT)) + 16
    FROM numbered GROUP BY k, session";
const GAP: i64 = 17;

fn sessions() -> SessionAggregate {
    SessionAggregate::new(&schema(), &ChangelogMode::Append, 3, GAP, vec![0], calls()).unwrap()
}

fn inserts(rows: &[Row]) -> Vec<Change> {
    rows.iter().map(|row| (RowKind::Insert, row.clone())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn sessions_in_any_order_are_those_of_the_batch(
        rows in proptest::collection::vec(any_row(), 0..60), cuts in any_cuts(),
    ) {
        let mut driver = Driver::new(sessions);
        driver.run(&inserts(&rows), &cuts);
        prop_assert_eq!(driver.operator.late_rows(), 0);
        assert_same(&driver.finish(), &sql(&[("t", table(&rows))], QUERY));
    }

    #[test]
    fn sessions_that_close_on_the_way_are_those_of_the_batch(
        rows in proptest::collection::vec(any_row(), 0..80), slack in 0..40_i64, cuts in any_cuts(),
    ) {
        // Nearly in order, so that watermarks close sessions and no row is late.
        let mut rows = rows;
        rows.sort_by_key(|row| row.ts + row.v.unwrap_or(0).rem_euclid(slack + 1));
        let mut driver = Driver::new(sessions);
        let (mut from, mut highest) = (0, i64::MIN);
        for (at, cut) in (1..=rows.len()).zip(cuts.iter().cycle()) {
            if *cut == Cut::None && at != rows.len() {
                continue;
            }
            driver.process(0, batch(&inserts(&rows[from..at])));
            driver.cut(*cut);
            highest = rows[from..at].iter().map(|row| row.ts).fold(highest, i64::max);
            // A session may still grow by a row exactly a gap after it.
            driver.advance(highest - slack - 2);
            from = at;
        }
        assert_same(&driver.finish(), &sql(&[("t", table(&rows))], QUERY));
    }
}

fn at(ts: i64) -> Change {
    (RowKind::Insert, Row { k: Some(1), v: Some(1), s: None, ts })
}

#[test]
fn a_gap_is_part_of_the_session() {
    let mut driver = Driver::new(sessions);
    driver.process(0, batch(&[at(0), at(17), at(35)]));
    let rows = driver.finish();
    assert_eq!(rows.num_rows(), 2, "17 is a gap after 0, 35 is one more after 17");
}

#[test]
fn a_row_between_two_sessions_makes_them_one_and_late_rows_are_counted() {
    let cx = Context { now_ms: 0, state_bytes_max: usize::MAX };
    let mut aggregate = sessions();
    let mut out = Vec::new();
    aggregate.process(0, batch(&[at(0), at(30)]), &cx, &mut out).unwrap();
    aggregate.advance(10, &cx, &mut out).unwrap();
    // Too old to open a session, but it is in one that is open.
    aggregate.process(0, batch(&[at(-8), at(-26), at(15)]), &cx, &mut out).unwrap();
    assert_eq!(aggregate.late_rows(), 1);
    aggregate.advance(WATERMARK_MAX, &cx, &mut out).unwrap();
    assert_eq!(out.iter().map(Batch::len).sum::<usize>(), 1);
    aggregate.process(0, batch(&[at(0)]), &cx, &mut out).unwrap();
    assert_eq!(aggregate.late_rows(), 2);
    assert_eq!(aggregate.keys.bytes() + aggregate.ends.len(), 0);
}

use std::sync::Arc;

use datafusion::logical_expr::Operator as Comparison;
use datafusion::physical_expr::expressions::{Column, binary};
use proptest::prelude::*;

use super::super::harness::{Change, Driver, Row, any_cuts, any_row, assert_same, batch, schema, sql, table};
use super::super::pairs::JoinKind;
use super::*;

fn any_kind() -> impl Strategy<Value = (JoinKind, &'static str)> {
    prop_oneof![
        Just((JoinKind::Inner, "INNER")),
        Just((JoinKind::Left, "LEFT")),
        Just((JoinKind::Right, "RIGHT")),
        Just((JoinKind::Full, "FULL")),
    ]
}

fn join(kind: JoinKind, least: i64, most: i64) -> IntervalJoin {
    let on = JoinOn { kind, left: vec![0], right: vec![0], condition: None };
    let joined = on.schema(&schema(), &schema());
    let columns = (Arc::new(Column::new("v", 1)), Arc::new(Column::new("v", 5)));
    let condition = Some(binary(columns.0, Comparison::NotEq, columns.1, &joined).unwrap());
    let on = JoinOn { condition, ..on };
    let mode = ChangelogMode::Append;
    IntervalJoin::new([&schema(), &schema()], [&mode, &mode], on, [3, 3], least, most).unwrap()
}

fn inserts(rows: &[Row]) -> Vec<Change> {
    rows.iter().map(|row| (RowKind::Insert, row.clone())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_join_within_an_interval_is_the_batch(
        left in proptest::collection::vec(any_row(), 0..40), right in proptest::collection::vec(any_row(), 0..40),
        (kind, name) in any_kind(), least in -60..60_i64, width in 0..60_i64, slack in 0..30_i64,
        turns in proptest::collection::vec(any::<bool>(), 1..20), cuts in any_cuts(), at_once in 1..5_usize,
    ) {
        // Both inputs nearly in order, so that rows expire on the way and none is late.
        let nearly = |mut rows: Vec<Row>| {
            rows.sort_by_key(|row| row.ts + row.v.unwrap_or(0).rem_euclid(slack + 1));
            rows
        };
        let (left, right, most) = (nearly(left), nearly(right), least + width);
        let mut driver = Driver::new(|| join(kind, least, most));
        let (mut rest, mut highest) = ([left.as_slice(), right.as_slice()], [i64::MIN + 1000; 2]);
        for (turn, cut) in turns.iter().cycle().zip(cuts.iter().cycle()) {
            if rest.iter().all(|rest| rest.is_empty()) {
                break;
            }
            let input = usize::from(if rest[usize::from(*turn)].is_empty() { !*turn } else { *turn });
            let (now, later) = rest[input].split_at(at_once.min(rest[input].len()));
            rest[input] = later;
            driver.process(input, batch(&inserts(now)));
            driver.cut(*cut);
            highest[input] = now.iter().map(|row| row.ts).fold(highest[input], i64::max);
            driver.advance(highest[0].min(highest[1]) - slack - 1);
        }
        let query = format!(
            "SELECT l.*, r.* FROM l {name} JOIN r ON l.k = r.k AND l.v <> r.v \
             AND CAST(l.ts AS BIGINT) - CAST(r.ts AS BIGINT) BETWEEN {least} AND {most}"
        );
        assert_same(&driver.finish(), &sql(&[("l", table(&left)), ("r", table(&right))], &query));
    }
}

fn at(k: i64, v: i64, ts: i64) -> Change {
    (RowKind::Insert, Row { k: Some(k), v: Some(v), s: None, ts })
}

#[test]
fn rows_go_when_no_partner_can_come() {
    let mut driver = Driver::new(|| join(JoinKind::Left, -10, 5));
    driver.process(0, batch(&[at(1, 1, 100), at(2, 1, 100)]));
    driver.process(1, batch(&[at(1, 2, 95)]));
    driver.advance(109);
    assert_eq!(driver.kinds.len(), 1, "110 may still come for key 2");
    driver.advance(110);
    assert_eq!(driver.kinds.len(), 2);
    assert_eq!(driver.operator.state_bytes(), 0);
    driver.process(0, batch(&[at(3, 1, 100)]));
    assert_eq!(driver.kinds.len(), 3, "a late row without a partner is padded at once");
    assert_eq!(driver.operator.output_watermark(110), 100);
    assert_eq!(driver.operator.output_watermark(WATERMARK_MAX), WATERMARK_MAX);
}

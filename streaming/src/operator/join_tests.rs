use datafusion::logical_expr::Operator as Comparison;
use datafusion::physical_expr::expressions::{Column, binary};
use proptest::prelude::*;

use super::super::harness::{Change, Cut, Driver, Row, any_changes, any_cuts, assert_same, batch, folded, schema, sql};
use super::*;

fn any_kind() -> impl Strategy<Value = JoinKind> {
    prop_oneof![Just(JoinKind::Inner), Just(JoinKind::Left), Just(JoinKind::Right), Just(JoinKind::Full)]
}

fn sql_of(kind: JoinKind) -> &'static str {
    match kind {
        JoinKind::Inner => "INNER",
        JoinKind::Left => "LEFT",
        JoinKind::Right => "RIGHT",
        JoinKind::Full => "FULL",
    }
}

/// `l.k = r.k`, and `l.v < r.v` where asked.
fn on(kind: JoinKind, with_condition: bool) -> JoinOn {
    let on = JoinOn { kind, left: vec![0], right: vec![0], condition: None };
    let joined = on.schema(&schema(), &schema());
    let (left, right) = (Arc::new(Column::new("v", 1)), Arc::new(Column::new("v", 5)));
    let condition = with_condition.then(|| binary(left, Comparison::Lt, right, &joined).unwrap());
    JoinOn { condition, ..on }
}

fn join(kind: JoinKind, with_condition: bool, mode: &ChangelogMode, ttl_ms: Option<i64>) -> Join {
    Join::new([&schema(), &schema()], [mode, mode], on(kind, with_condition), [ttl_ms, ttl_ms]).unwrap()
}

fn query(kind: JoinKind, with_condition: bool) -> String {
    let condition = if with_condition { " AND l.v < r.v" } else { "" };
    format!("SELECT l.*, r.* FROM l {} JOIN r ON l.k = r.k{condition}", sql_of(kind))
}

/// Gives both inputs their changes, one batch of either after the other.
fn interleave(
    driver: &mut Driver<Join, impl Fn() -> Join>,
    inputs: [&[Change]; 2],
    turns: &[bool],
    cuts: &[Cut],
    width: usize,
) {
    let mut rest = inputs;
    for (turn, cut) in turns.iter().cycle().zip(cuts.iter().cycle()) {
        if rest.iter().all(|rest| rest.is_empty()) {
            break;
        }
        let input = usize::from(if rest[usize::from(*turn)].is_empty() { !*turn } else { *turn });
        let (now, later) = rest[input].split_at(width.min(rest[input].len()));
        rest[input] = later;
        driver.process(input, batch(now));
        driver.cut(*cut);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_join_of_changes_is_the_batch(
        left in any_changes(40), right in any_changes(40), kind in any_kind(), with_condition in any::<bool>(),
        turns in proptest::collection::vec(any::<bool>(), 1..20), cuts in any_cuts(), width in 1..6_usize,
    ) {
        let mode = ChangelogMode::Retract { key: None };
        let mut driver = Driver::new(|| join(kind, with_condition, &mode, None));
        interleave(&mut driver, [&left, &right], &turns, &cuts, width);
        let tables = [("l", folded(&left)), ("r", folded(&right))];
        assert_same(&driver.finish(), &sql(&tables, &query(kind, with_condition)));
    }

    #[test]
    fn an_inner_join_of_inserts_only_inserts(
        left in any_changes(30), right in any_changes(30), turns in proptest::collection::vec(any::<bool>(), 1..20),
        cuts in any_cuts(),
    ) {
        let inserts = |changes: Vec<Change>| -> Vec<Change> {
            changes.into_iter().filter(|(kind, _)| kind.adds()).map(|(_, row)| (RowKind::Insert, row)).collect()
        };
        let (left, right) = (inserts(left), inserts(right));
        let mut driver = Driver::new(|| join(JoinKind::Inner, false, &ChangelogMode::Append, None));
        assert_eq!(driver.operator.mode(), ChangelogMode::Append);
        interleave(&mut driver, [&left, &right], &turns, &cuts, 3);
        let tables = [("l", folded(&left)), ("r", folded(&right))];
        assert_same(&driver.finish(), &sql(&tables, &query(JoinKind::Inner, false)));
    }
}

fn row(k: i64, v: i64) -> Change {
    (RowKind::Insert, Row { k: Some(k), v: Some(v), s: None, ts: 0 })
}

#[test]
fn rows_are_given_up_after_their_time_to_live() {
    let mode = ChangelogMode::Append;
    let mut driver = Driver::new(|| join(JoinKind::Inner, false, &mode, Some(100)));
    driver.process(0, batch(&[row(1, 1), row(2, 2)]));
    driver.cx.now_ms = 60;
    driver.process(0, batch(&[row(2, 2)]));
    driver.cut(Cut::Restart);
    driver.cx.now_ms = 110;
    driver.process(1, batch(&[row(1, 3), row(2, 4)]));
    driver.cut(Cut::Restart);
    driver.cx.now_ms = 1000;
    driver.process(1, batch(&[row(3, 5)]));
    driver.cut(Cut::Restart);
    assert_eq!(driver.operator.sides.iter().map(|side| side.rows.len()).sum::<usize>(), 1, "only the last row is kept");
    assert_eq!(driver.finish().num_rows(), 2, "both rows of key 2, none of key 1");
}

#[test]
fn keys_of_other_types_are_refused() {
    let mode = ChangelogMode::Append;
    let on = JoinOn { kind: JoinKind::Inner, left: vec![0], right: vec![2], condition: None };
    let error = Join::new([&schema(), &schema()], [&mode, &mode], on, [None, None]).err().unwrap();
    assert_eq!(error.message(), "a join of k Int64 with s Utf8");
}

use proptest::prelude::*;

use super::super::harness::{Change, Driver, any_changes, any_cuts, assert_same, folded, schema, sql};
use super::*;

/// By all columns, so that only equal rows tie: `v DESC NULLS LAST, s NULLS FIRST, ts`.
fn order() -> Vec<(usize, SortOptions)> {
    vec![
        (1, SortOptions { descending: true, nulls_first: false }),
        (2, SortOptions { descending: false, nulls_first: true }),
        (3, SortOptions::default()),
    ]
}

fn query(ranks: Ranks, with_rank: bool) -> String {
    let rank = if with_rank { ", rn" } else { "" };
    format!(
        "SELECT k, v, s, ts{rank} FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k \
         ORDER BY v DESC NULLS LAST, s ASC NULLS FIRST, ts ASC) AS rn FROM t) WHERE rn BETWEEN {} AND {}",
        ranks.first, ranks.last
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn the_first_rows_are_those_of_the_batch(
        changes in any_changes(80), cuts in any_cuts(), first in 1..3_usize, more in 0..4_usize,
        with_rank in any::<bool>(), only_inserts in any::<bool>(),
    ) {
        let ranks = Ranks { first, last: first + more };
        let mode = if only_inserts { ChangelogMode::Append } else { ChangelogMode::Retract { key: None } };
        let changes: Vec<Change> = match only_inserts {
            false => changes,
            true => changes.into_iter().filter(|(kind, _)| kind.adds()).map(|(_, row)| (RowKind::Insert, row)).collect(),
        };
        let rank = with_rank.then_some("rn");
        let mut driver = Driver::new(|| TopN::new(&schema(), &mode, vec![0], &order(), ranks, rank).unwrap());
        driver.run(&changes, &cuts);
        let expected = sql(&[("t", folded(&changes))], &query(ranks, with_rank));
        assert_same(&driver.finish(), &expected);
    }
}

#[test]
fn rows_past_the_last_rank_are_not_kept_where_none_comes_back() {
    let rows: Vec<Change> = (0..1000)
        .map(|v| (RowKind::Insert, super::super::harness::Row { k: Some(1), v: Some(v * 7919 % 1000), s: None, ts: 0 }))
        .collect();
    let state = |mode: ChangelogMode| {
        let ranks = Ranks { first: 1, last: 3 };
        let mut driver = Driver::new(|| TopN::new(&schema(), &mode, vec![0], &order(), ranks, None).unwrap());
        driver.run(&rows, &[super::super::harness::Cut::Batch]);
        driver.operator.rows.values().map(BTreeMap::len).sum::<usize>()
    };
    assert_eq!(state(ChangelogMode::Append), 3);
    assert_eq!(state(ChangelogMode::Retract { key: None }), 1000);
}

#[test]
fn ranks_that_are_none_are_refused() {
    let top =
        |first, last| TopN::new(&schema(), &ChangelogMode::Append, vec![0], &order(), Ranks { first, last }, None);
    assert!(top(0, 1).is_err());
    assert!(top(2, 1).is_err());
    assert!(top(1, RANKS_MAX + 1).is_err());
}

#[test]
fn the_rows_of_a_key_are_forgotten_after_their_time_to_live() {
    use super::super::harness::{Row, batch};
    let ranks = Ranks { first: 1, last: 1 };
    let make = || {
        let top = TopN::new(&schema(), &ChangelogMode::Append, vec![0], &order(), ranks, None).unwrap();
        top.with_time_to_live(Some(100)).unwrap()
    };
    let give = |top: &mut TopN, now_ms: i64, k: i64, v: i64| -> Vec<RowKind> {
        let cx = Context { now_ms, state_bytes_max: usize::MAX };
        let mut out = Vec::new();
        let row = Row { k: Some(k), v: Some(v), s: None, ts: 0 };
        top.process(0, batch(&[(RowKind::Insert, row)]), &cx, &mut out).unwrap();
        out.iter().flat_map(|batch| (0..batch.len()).map(|row| batch.kind(row)).collect::<Vec<_>>()).collect()
    };
    let mut top = make();
    assert_eq!(give(&mut top, 0, 1, 5), [RowKind::Insert]);
    assert!(give(&mut top, 60, 1, 4).is_empty(), "it is past the last rank, and no change");
    let mut writer = SnapshotWriter::new(NAME, &top.describe(), 0, None);
    top.snapshot(&mut writer).unwrap();
    let chains = [vec![writer.finish().unwrap()]];
    let mut again = make();
    again.restore(&StateReader::open(&again.describe(), &chains, 0..=255).unwrap()).unwrap();
    for mut top in [top, again] {
        assert_eq!(give(&mut top, 99, 2, 1), [RowKind::Insert]);
        assert_eq!(give(&mut top, 100, 1, 3), [RowKind::Insert], "what it was is forgotten");
        assert_eq!(give(&mut top, 101, 1, 6), [RowKind::Delete, RowKind::Insert]);
        assert_eq!(give(&mut top, 300, 3, 6), [RowKind::Insert]);
        assert_eq!((top.rows.len(), top.written_ms.len()), (1, 1), "keys without rows go too");
    }
}

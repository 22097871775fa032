use std::sync::Arc;

use arrow::datatypes::Schema;
use proptest::prelude::*;

use super::super::harness::{Change, Driver, Row, any_cuts, any_row, assert_same, schema, sql, table};
use super::*;

/// The first or last row of each key, with `n` for the order of arrival.
fn expected(rows: &[Row], order: &str) -> RecordBatch {
    let mut fields = schema().fields().to_vec();
    fields.push(Arc::new(arrow::datatypes::Field::new("n", arrow::datatypes::DataType::Int64, false)));
    let mut columns = table(rows).columns().to_vec();
    columns.push(Arc::new(arrow::array::Int64Array::from_iter_values(0..rows.len() as i64)));
    let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    let query = format!(
        "SELECT k, v, s, ts FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k, s ORDER BY {order}) AS rn FROM t) WHERE rn = 1"
    );
    sql(&[("t", rows)], &query)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_rows_that_stay_are_those_of_the_batch(
        rows in proptest::collection::vec(any_row(), 0..60), cuts in any_cuts(), first in any::<bool>(), event in any::<bool>(),
    ) {
        let keep = if first { Keep::First } else { Keep::Last };
        let by = if event { OrderBy::EventTime(3) } else { OrderBy::ProcessingTime };
        let order = match (first, event) {
            (true, false) => "n",
            (false, false) => "n DESC",
            (true, true) => "ts, n",
            (false, true) => "ts DESC, n DESC",
        };
        let mut driver = Driver::new(|| Deduplicate::new(&schema(), &ChangelogMode::Append, vec![0, 2], keep, by).unwrap());
        let changes: Vec<Change> = rows.iter().map(|row| (RowKind::Insert, row.clone())).collect();
        driver.run(&changes, &cuts);
        assert_same(&driver.finish(), &expected(&rows, order));
    }
}

#[test]
fn modes_say_what_is_final() {
    let mode = |keep, order| Deduplicate::new(&schema(), &ChangelogMode::Append, vec![0], keep, order).unwrap().mode();
    let by_key = ChangelogMode::Retract { key: Some(vec![0]) };
    assert_eq!(mode(Keep::First, OrderBy::ProcessingTime), ChangelogMode::Append);
    assert_eq!(mode(Keep::First, OrderBy::EventTime(3)), by_key);
    assert_eq!(mode(Keep::Last, OrderBy::ProcessingTime), by_key);
    assert!(Deduplicate::new(&schema(), &by_key, vec![0], Keep::Last, OrderBy::ProcessingTime).is_err());
    assert!(Deduplicate::new(&schema(), &ChangelogMode::Append, vec![0], Keep::Last, OrderBy::EventTime(0)).is_err());
}

#[test]
fn a_key_is_forgotten_after_its_time_to_live() {
    use super::super::harness::batch;
    let first = Deduplicate::new(&schema(), &ChangelogMode::Append, vec![0], Keep::First, OrderBy::ProcessingTime);
    let mut first = first.unwrap().with_time_to_live(Some(100)).unwrap();
    let mut give = |now_ms: i64, k: i64| {
        let cx = Context { now_ms, state_bytes_max: usize::MAX };
        let mut out = Vec::new();
        let row = Row { k: Some(k), v: None, s: None, ts: 0 };
        first.process(0, batch(&[(RowKind::Insert, row)]), &cx, &mut out).unwrap();
        (out.iter().map(Batch::len).sum::<usize>(), first.of_keys.iter().filter(|of_key| of_key.kept.is_some()).count())
    };
    assert_eq!([give(0, 1), give(99, 1), give(100, 1)], [(1, 1), (0, 1), (1, 1)]);
    assert_eq!(give(500, 2), (1, 1), "keys without rows go too");
}

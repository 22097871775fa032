use arrow::array::TimestampMillisecondArray;
use arrow::datatypes::Schema;
use datafusion::logical_expr::Operator as Comparison;
use datafusion::physical_expr::expressions::{Column, binary};
use proptest::prelude::*;

use super::super::harness::{Cut, Driver, Row, any_cuts, any_row, assert_same, schema, sql, table};
use super::super::pairs::JoinKind;
use super::super::{WATERMARK_MAX, time};
use super::*;

/// Rows with windows of 10 ms from their times.
fn windowed(rows: &[Row]) -> RecordBatch {
    let mut fields = schema().fields().to_vec();
    fields.extend(time::window_fields().into_iter().take(2).map(Arc::new));
    let starts: Vec<i64> = rows.iter().map(|row| row.ts.div_euclid(10) * 10).collect();
    let mut columns = table(rows).columns().to_vec();
    columns.push(Arc::new(TimestampMillisecondArray::from(starts.clone())));
    columns.push(Arc::new(TimestampMillisecondArray::from_iter_values(starts.iter().map(|start| start + 10))));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

fn join(kind: JoinKind, with_condition: bool) -> WindowJoin {
    let input = windowed(&[]).schema();
    let on = JoinOn { kind, left: vec![0], right: vec![0], condition: None };
    let joined = on.schema(&input, &input);
    let columns = (Arc::new(Column::new("v", 1)), Arc::new(Column::new("v", 7)));
    let condition = with_condition.then(|| binary(columns.0, Comparison::GtEq, columns.1, &joined).unwrap());
    let (mode, columns) = (ChangelogMode::Append, WindowColumns { start: 4, end: 5 });
    WindowJoin::new([&input, &input], [&mode, &mode], JoinOn { condition, ..on }, [columns, columns]).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_join_of_windows_is_the_batch(
        left in proptest::collection::vec(any_row(), 0..60), right in proptest::collection::vec(any_row(), 0..60),
        kind in prop_oneof![Just(JoinKind::Inner), Just(JoinKind::Left), Just(JoinKind::Right), Just(JoinKind::Full)],
        with_condition in any::<bool>(), slack in 0..100_i64, cuts in any_cuts(),
    ) {
        let mut driver = Driver::new(|| join(kind, with_condition));
        let (mut watermark, mut highest) = (i64::MIN, i64::MIN);
        let mut counted: [Vec<Row>; 2] = [Vec::new(), Vec::new()];
        let rows = [&left, &right];
        for (at, cut) in (0..left.len().max(right.len())).step_by(3).zip(cuts.iter().cycle()) {
            for input in [0, 1] {
                let now = rows[input].get(at..rows[input].len().min(at + 3)).unwrap_or_default();
                driver.process(input, Batch::inserts(windowed(now)));
                counted[input].extend(now.iter().filter(|row| row.ts.div_euclid(10) * 10 + 9 > watermark).cloned());
                highest = now.iter().map(|row| row.ts).fold(highest, i64::max);
            }
            driver.cut(*cut);
            watermark = watermark.max(highest.saturating_sub(slack));
            driver.advance(watermark);
        }
        let condition = if with_condition { "AND l.v >= r.v" } else { "" };
        let query = format!(
            "SELECT l.*, r.* FROM l {} JOIN r ON l.k = r.k AND l.window_end = r.window_end {condition}",
            format!("{kind:?}").to_uppercase()
        );
        let tables = [("l", windowed(&counted[0])), ("r", windowed(&counted[1]))];
        assert_same(&driver.finish(), &sql(&tables, &query));
    }
}

#[test]
fn late_rows_are_counted_and_nothing_stays() {
    let row = |ts| Row { k: Some(1), v: Some(1), s: None, ts };
    let mut driver = Driver::new(|| join(JoinKind::Inner, false));
    driver.process(0, Batch::inserts(windowed(&[row(5), row(15)])));
    driver.process(1, Batch::inserts(windowed(&[row(6)])));
    driver.advance(9);
    assert_eq!(driver.kinds.len(), 1);
    driver.process(1, Batch::inserts(windowed(&[row(9), row(10)])));
    assert_eq!(driver.operator.late_rows(), 1);
    driver.cut(Cut::Compact);
    driver.advance(WATERMARK_MAX);
    assert_eq!((driver.kinds.len(), driver.operator.state_bytes()), (2, 0));
}

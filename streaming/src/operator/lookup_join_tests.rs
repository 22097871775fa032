use datafusion::logical_expr::Operator as Comparison;
use datafusion::physical_expr::expressions::{Column, binary};
use proptest::prelude::*;
use std::sync::Arc;
use tereza_runtime::error::ErrorKind;

use super::super::RowKind;
use super::super::harness::{Change, Driver, any_cuts, any_row, assert_same, schema, sql, table};
use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_looked_up_is_what_the_batch_joins(
        rows in proptest::collection::vec(any_row(), 0..40), dimension in proptest::collection::vec(any_row(), 0..20),
        left in any::<bool>(), with_condition in any::<bool>(), cuts in any_cuts(),
    ) {
        let (kind, name) = if left { (JoinKind::Left, "LEFT") } else { (JoinKind::Inner, "INNER") };
        let on = JoinOn { kind, left: vec![0, 2], right: vec![0, 2], condition: None };
        let joined = on.schema(&schema(), &schema());
        let columns = (Arc::new(Column::new("v", 1)), Arc::new(Column::new("v", 5)));
        let condition = with_condition.then(|| binary(columns.0, Comparison::Lt, columns.1, &joined).unwrap());
        let on = JoinOn { condition, ..on };
        let held = table(&dimension);
        let mut driver = Driver::new(|| {
            let memory = TableInMemory::new(held.clone(), &[0, 2]).unwrap();
            LookupJoin::new(&schema(), &ChangelogMode::Append, on.clone(), memory).unwrap()
        });
        let changes: Vec<Change> = rows.iter().map(|row| (RowKind::Insert, row.clone())).collect();
        driver.run(&changes, &cuts);
        let condition = if with_condition { "AND l.v < r.v" } else { "" };
        let query = format!("SELECT l.*, r.* FROM l {name} JOIN r ON l.k = r.k AND l.s = r.s {condition}");
        assert_same(&driver.finish(), &sql(&[("l", table(&rows)), ("r", held.clone())], &query));
    }
}

#[test]
fn joins_that_would_have_to_take_back_are_refused() {
    let refused = |kind, mode: ChangelogMode| {
        let on = JoinOn { kind, left: vec![0], right: vec![0], condition: None };
        let memory = TableInMemory::new(table(&[]), &[0]).unwrap();
        LookupJoin::new(&schema(), &mode, on, memory).err().map(|error| error.kind())
    };
    assert_eq!(refused(JoinKind::Inner, ChangelogMode::Append), None);
    assert_eq!(refused(JoinKind::Full, ChangelogMode::Append), Some(ErrorKind::Unsupported));
    assert_eq!(refused(JoinKind::Left, ChangelogMode::Retract { key: None }), Some(ErrorKind::Unsupported));
}

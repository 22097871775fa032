use datafusion::logical_expr::Operator as Comparison;
use datafusion::physical_expr::expressions::{binary, col, lit};
use tereza_runtime::error::ErrorKind;

use super::super::harness::{Driver, any_changes, any_cuts, assert_same, folded, schema, sql};
use super::*;
use proptest::prelude::*;

fn calc(mode: &ChangelogMode) -> Result<Calc> {
    let schema = schema();
    let (k, v) = (col("k", &schema).unwrap(), col("v", &schema).unwrap());
    let condition = binary(Arc::clone(&v), Comparison::Gt, lit(0_i64), &schema).unwrap();
    let sum = binary(v, Comparison::Plus, Arc::clone(&k), &schema).unwrap();
    Calc::new(&schema, mode, Some(condition), vec![(sum, "sum".to_owned()), (k, "k".to_owned())])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_stream_of_changes_is_the_batch(changes in any_changes(60), cuts in any_cuts()) {
        let mut driver = Driver::new(|| calc(&ChangelogMode::Retract { key: None }).unwrap());
        driver.run(&changes, &cuts);
        assert_same(&driver.finish(), &sql(&[("t", folded(&changes))], "SELECT v + k, k FROM t WHERE v > 0"));
    }
}

#[test]
fn modes_follow_the_columns() {
    assert_eq!(calc(&ChangelogMode::Append).unwrap().mode(), ChangelogMode::Append);
    let key = ChangelogMode::Retract { key: Some(vec![0]) };
    assert_eq!(calc(&key).unwrap().mode(), ChangelogMode::Retract { key: Some(vec![1]) });
    let refused = calc(&ChangelogMode::Upsert(vec![0])).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    assert!(refused.message().contains("the condition v@1 > 0"), "{}", refused.message());
}

#[test]
fn a_row_that_fails_names_why() {
    let schema = schema();
    let (k, v) = (col("k", &schema).unwrap(), col("v", &schema).unwrap());
    let ratio = binary(v, Comparison::Divide, k, &schema).unwrap();
    let mut calc = Calc::new(&schema, &ChangelogMode::Append, None, vec![(ratio, "r".to_owned())]).unwrap();
    let row = super::super::harness::Row { k: Some(0), v: Some(1), s: None, ts: 0 };
    let batch = Batch::inserts(super::super::harness::table(&[row]));
    let cx = Context { now_ms: 0, state_bytes_max: 0 };
    let error = calc.process(0, batch, &cx, &mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.message().contains("Divide by zero"), "{}", error.message());
}

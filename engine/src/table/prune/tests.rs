use arrow::datatypes::Field;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::prelude::{col, lit, random, scalar_subquery};
use tereza_catalog::model::DEFAULT_PARTITION;
use tereza_runtime::ErrorKind;

use super::*;
use crate::types::arrow_type;

fn state() -> SessionState {
    SessionStateBuilder::new().with_default_features().build()
}

fn keys() -> Vec<FieldRef> {
    let key = |name: &str, hive: &str| Arc::new(Field::new(name, arrow_type(hive).unwrap(), true));
    vec![key("ds", "string"), key("hr", "int")]
}

fn pruner(filters: &[Expr]) -> Pruner {
    Pruner::new(&state(), &keys(), filters).unwrap()
}

fn partitions() -> Vec<Vec<String>> {
    let rows = [("a", "1"), ("a", "02"), ("b", "2"), (DEFAULT_PARTITION, "3"), ("c", DEFAULT_PARTITION), ("", "4")];
    rows.iter().map(|(ds, hr)| vec![(*ds).to_owned(), (*hr).to_owned()]).collect()
}

/// The places of the partitions that the filters let through.
fn selected(filters: &[Expr]) -> Vec<usize> {
    let partitions = partitions();
    let texts: Vec<&[String]> = partitions.iter().map(Vec::as_slice).collect();
    let selected = pruner(filters).select(&texts).unwrap();
    selected.iter().enumerate().filter(|(_, values)| values.is_some()).map(|(place, _)| place).collect()
}

fn view(text: &str) -> Expr {
    lit(ScalarValue::Utf8View(Some(text.to_owned())))
}

#[test]
fn predicates_are_decided_on_values() {
    assert_eq!(selected(&[]), [0, 1, 2, 3, 4, 5]);
    assert_eq!(selected(&[col("ds").eq(view("a"))]), [0, 1]);
    // The text '02' is the number 2.
    assert_eq!(selected(&[col("hr").eq(lit(2i32))]), [1, 2]);
    assert_eq!(selected(&[col("hr").gt(lit(1i32)), col("ds").lt(view("c"))]), [1, 2]);
    assert_eq!(selected(&[col("ds").is_null()]), [3, 5]);
    assert_eq!(selected(&[col("hr").not_eq(lit(1i32))]), [1, 2, 3, 5]);
    assert_eq!(selected(&[col("ds").eq(view(DEFAULT_PARTITION))]), Vec::<usize>::new());
    assert_eq!(pruner(&[col("hr").eq(lit(2i32))]).select(&[]).unwrap(), Vec::<Option<Vec<ScalarValue>>>::new());
}

#[test]
fn the_catalog_compares_only_texts_of_text_keys() {
    let texts = |filter: Expr| {
        let filter = pruner(&[filter]).text_filter()?;
        assert_eq!(filter.values.len(), 2);
        assert_eq!(filter.values[1], None);
        filter.values[0].clone()
    };
    let (ds, a, b) = (col("ds"), view("a"), view("b"));
    assert_eq!(texts(ds.clone().eq(a.clone())), Some(vec!["a".to_owned()]));
    assert_eq!(texts(b.clone().eq(ds.clone())), Some(vec!["b".to_owned()]));
    assert_eq!(
        texts(ds.clone().in_list(vec![b.clone(), a.clone()], false)),
        Some(vec!["a".to_owned(), "b".to_owned()])
    );
    assert_eq!(
        texts(ds.clone().eq(a.clone()).or(ds.clone().eq(b.clone()))),
        Some(vec!["a".to_owned(), "b".to_owned()])
    );
    assert_eq!(texts(ds.clone().eq(a.clone()).and(ds.clone().eq(b.clone()))), Some(vec![]));
    assert_eq!(texts(ds.clone().eq(a.clone()).and(col("hr").gt(lit(1i32)))), Some(vec!["a".to_owned()]));
    // Nothing that could let through too little.
    assert_eq!(texts(ds.clone().eq(a.clone()).or(col("hr").gt(lit(1i32)))), None);
    assert_eq!(texts(ds.clone().in_list(vec![a.clone()], true)), None);
    assert_eq!(texts(ds.clone().gt(a)), None);
    assert_eq!(texts(col("hr").eq(lit(1i32))), None);
    assert_eq!(
        pruner(&[ds.eq(b), col("hr").eq(lit(1i32))]).text_filter().unwrap().values[0],
        Some(vec!["b".to_owned()])
    );
}

#[test]
fn only_what_is_the_same_for_all_rows_of_a_partition_is_decided() {
    let keys = keys();
    assert!(is_on_keys(&keys, &col("ds").eq(view("a")).or(col("hr").is_null())));
    assert!(!is_on_keys(&keys, &col("ds").eq(view("a")).or(col("x").is_null())));
    assert!(!is_on_keys(&keys, &random().gt(lit(0.5))));
    let plan =
        datafusion::logical_expr::LogicalPlanBuilder::empty(true).project(vec![lit(1i32)]).unwrap().build().unwrap();
    assert!(!is_on_keys(&keys, &col("hr").eq(scalar_subquery(Arc::new(plan)))));
    assert!(!is_on_keys(&[], &lit(true)));
    assert!(pruner(&[col("x").eq(lit(1i32))]).takes_all());
}

#[test]
fn a_value_of_another_type_is_refused_with_its_key() {
    let values = ["a".to_owned(), "x".to_owned()];
    let error = pruner(&[]).select(&[&values]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.message().contains("key 'hr'") && error.message().contains("'x'"), "{error}");
}

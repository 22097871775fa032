//! Column statistics.

use tereza_runtime::ErrorKind;

use super::{column, expect_error, new_partitioned_table, new_table, partition, strings};
use crate::Store;
use crate::model::{ColumnStatistics, Range, Storage, Table};

/// All tests of this module.
pub async fn run(store: &dyn Store) {
    statistics_come_back_as_they_were_given(store).await;
    setting_some_keeps_the_others(store).await;
    a_table_and_its_partitions_have_their_own(store).await;
    unknown_columns_and_partitions_are_not_found(store).await;
    a_changed_column_loses_them(store).await;
    statistics_are_deleted(store).await;
}

/// Statistics of a column of type `bigint`.
pub(super) fn some_statistics(column: &str) -> ColumnStatistics {
    ColumnStatistics {
        column: column.into(),
        type_name: "bigint".into(),
        num_nulls: 3,
        num_distincts: Some(5),
        range: Range::Long { low: -7, high: i64::MAX },
        avg_length: None,
        max_length: None,
        num_trues: None,
        num_falses: None,
        last_analyzed_s: 0,
    }
}

async fn new_table_with_columns(store: &dyn Store, columns: &[&str]) -> String {
    let (database, name) = new_table(store).await;
    let table = store.table(&database, name).await.expect("the table").table;
    let columns = columns.iter().map(|name| column(name, "bigint")).collect();
    let changed = Table { storage: Storage { columns, ..table.storage.clone() }, ..table };
    store.alter_table(&database, name, None, &changed).await.expect("altered");
    database
}

/// What was set, without the time that the store sets.
fn untimed(statistics: Vec<ColumnStatistics>) -> Vec<ColumnStatistics> {
    statistics.into_iter().map(|column| ColumnStatistics { last_analyzed_s: 0, ..column }).collect()
}

/// Every field and every shape of a range is kept.
pub async fn statistics_come_back_as_they_were_given(store: &dyn Store) {
    let database = new_table_with_columns(store, &["a", "b", "c", "d"]).await;
    let given = [
        some_statistics("a"),
        ColumnStatistics {
            range: Range::Double { low: -1.5, high: 2.25 },
            num_distincts: None,
            ..some_statistics("b")
        },
        ColumnStatistics {
            range: Range::Decimal { low: "-2.56".into(), high: "99999999999999999999.01".into() },
            ..some_statistics("c")
        },
        ColumnStatistics {
            range: Range::None,
            avg_length: Some(2.5),
            max_length: Some(9),
            num_trues: Some(1),
            num_falses: Some(0),
            ..some_statistics("d")
        },
    ];
    store.set_column_statistics(&database, "t", None, &given).await.expect("set");
    let found = store.column_statistics(&database, "T", None).await.expect("statistics");
    assert!(found.iter().all(|column| column.last_analyzed_s > 0), "the store sets the time");
    assert_eq!(untimed(found), given);
}

/// A column that is set again has the new ones; the others stay.
pub async fn setting_some_keeps_the_others(store: &dyn Store) {
    let database = new_table_with_columns(store, &["a", "b"]).await;
    store
        .set_column_statistics(&database, "t", None, &[some_statistics("a"), some_statistics("b")])
        .await
        .expect("set");
    let new = ColumnStatistics { num_nulls: 99, range: Range::None, ..some_statistics("A") };
    store.set_column_statistics(&database, "t", None, &[new]).await.expect("set");
    let found = untimed(store.column_statistics(&database, "t", None).await.expect("statistics"));
    let changed = ColumnStatistics { num_nulls: 99, range: Range::None, ..some_statistics("a") };
    assert_eq!(found, [changed, some_statistics("b")]);
    store.set_column_statistics(&database, "t", None, &[]).await.expect("nothing to set");
    let twice = [some_statistics("a"), some_statistics("A")];
    expect_error(store.set_column_statistics(&database, "t", None, &twice).await, ErrorKind::InvalidInput);
}

/// They do not mix, and those of a partition go with it.
pub async fn a_table_and_its_partitions_have_their_own(store: &dyn Store) {
    let (database, table) = new_partitioned_table(store).await;
    let (a, b) = (strings(&["a", "1"]), strings(&["b", "1"]));
    store
        .add_partitions(&database, table, &[partition(&["a", "1"]), partition(&["b", "1"])], false)
        .await
        .expect("added");
    for (owner, num_nulls) in [(None, 1), (Some(a.as_slice()), 2), (Some(b.as_slice()), 3)] {
        let statistics = ColumnStatistics { num_nulls, ..some_statistics("id") };
        store.set_column_statistics(&database, table, owner, &[statistics]).await.expect("set");
    }
    for (owner, num_nulls) in [(None, 1), (Some(a.as_slice()), 2), (Some(b.as_slice()), 3)] {
        let found = store.column_statistics(&database, table, owner).await.expect("statistics");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].num_nulls, num_nulls);
    }
    let asked = strings(&["ds=a/k=1", "ds=nope/k=1", "ds=b/k=1"]);
    let mut found = store.partition_statistics(&database, table, &asked).await.expect("statistics");
    found.sort_by(|one, two| one.0.cmp(&two.0));
    for ((name, found), (expected, values)) in found.iter().zip([("ds=a/k=1", &a), ("ds=b/k=1", &b)]) {
        let one = store.column_statistics(&database, table, Some(values)).await.expect("statistics");
        assert_eq!((name.as_str(), found), (expected, &one));
    }
    assert_eq!(found.len(), 2);
    store.drop_partitions(&database, table, std::slice::from_ref(&a), false).await.expect("dropped");
    store.add_partitions(&database, table, &[partition(&["a", "1"])], false).await.expect("added again");
    assert_eq!(store.column_statistics(&database, table, Some(&a)).await.expect("statistics"), []);
    assert_eq!(store.column_statistics(&database, table, Some(&b)).await.expect("statistics").len(), 1);
}

/// Statistics of nothing are a mistake.
pub async fn unknown_columns_and_partitions_are_not_found(store: &dyn Store) {
    let (database, table) = new_partitioned_table(store).await;
    let unknown = [some_statistics("id"), some_statistics("nope")];
    let error = expect_error(store.set_column_statistics(&database, table, None, &unknown).await, ErrorKind::NotFound);
    assert!(error.message().contains("nope"), "{error}");
    assert_eq!(store.column_statistics(&database, table, None).await.expect("statistics"), []);
    let values = strings(&["a", "1"]);
    expect_error(store.column_statistics(&database, table, Some(&values)).await, ErrorKind::NotFound);
    expect_error(store.set_column_statistics(&database, table, Some(&values), &[]).await, ErrorKind::NotFound);
    expect_error(store.column_statistics(&database, table, Some(&[])).await, ErrorKind::InvalidInput);
}

/// A column that is gone or has another type has no statistics any more.
pub async fn a_changed_column_loses_them(store: &dyn Store) {
    let database = new_table_with_columns(store, &["a", "b", "c"]).await;
    let given = [some_statistics("a"), some_statistics("b"), some_statistics("c")];
    store.set_column_statistics(&database, "t", None, &given).await.expect("set");
    let table = store.table(&database, "t").await.expect("the table").table;
    let columns = vec![column("c", "bigint"), column("a", "double")];
    let changed = Table { storage: Storage { columns, ..table.storage.clone() }, ..table };
    store.alter_table(&database, "t", None, &changed).await.expect("altered");
    assert_eq!(
        untimed(store.column_statistics(&database, "t", None).await.expect("statistics")),
        [some_statistics("c")]
    );
}

/// Those of one column or of all, of a table or of a partition.
pub async fn statistics_are_deleted(store: &dyn Store) {
    let (database, name) = super::new_partitioned_table(store).await;
    let values = super::strings(&["1", "2"]);
    store.add_partitions(&database, name, &[super::partition(&["1", "2"])], false).await.expect("added");
    let both = [some_statistics("id"), some_statistics("name")];
    store.set_column_statistics(&database, name, None, &both).await.expect("set");
    store.set_column_statistics(&database, name, Some(&values), &both).await.expect("set");
    assert_eq!(store.delete_column_statistics(&database, name, None, Some("ID")).await.expect("deleted"), 1);
    assert_eq!(store.delete_column_statistics(&database, name, None, Some("id")).await.expect("deleted"), 0);
    assert_eq!(store.column_statistics(&database, name, None).await.expect("statistics")[0].column, "name");
    assert_eq!(store.delete_column_statistics(&database, name, Some(&values), None).await.expect("deleted"), 2);
    assert_eq!(store.column_statistics(&database, name, Some(&values)).await.expect("statistics"), []);
}

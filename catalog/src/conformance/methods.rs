//! What else a metastore is asked: its id, its notifications, and to give partitions to another table.

use tereza_runtime::ErrorKind;

use super::{expect_error, new_database, partition, partitioned_table, strings};
use crate::Store;
use crate::store::NotificationFilter;

/// Runs the tests of this file.
pub async fn run(store: &dyn Store) {
    a_catalog_keeps_its_id(store).await;
    there_is_nothing_after_the_last_notification(store).await;
    partitions_are_given_to_another_table(store).await;
}

/// It is made when it is first asked for.
pub async fn a_catalog_keeps_its_id(store: &dyn Store) {
    let id = store.catalog_id().await.expect("an id");
    assert!(!id.is_empty());
    assert_eq!(store.catalog_id().await.expect("an id"), id);
}

/// Tereza writes none of its own.
pub async fn there_is_nothing_after_the_last_notification(store: &dyn Store) {
    let database = new_database(store).await;
    let last = store.last_notification().await.expect("an id");
    assert!(last >= 0);
    assert_eq!(store.notifications(last, 10).await.expect("notifications"), []);
    let filter = NotificationFilter { after: 0, until: None, database, tables: strings(&["t"]) };
    assert_eq!(store.count_notifications(&filter).await.expect("a number"), 0);
}

/// All or none, with their places.
pub async fn partitions_are_given_to_another_table(store: &dyn Store) {
    let database = new_database(store).await;
    for name in ["a", "b"] {
        store.create_table(&partitioned_table(&database, name)).await.expect("a new table");
    }
    let given = [partition(&["1", "x"]), partition(&["2", "x"])];
    store.add_partitions(&database, "a", &given, false).await.expect("added");
    let values = given.clone().map(|partition| partition.values);
    let (from, to) = ((database.as_str(), "A"), (database.as_str(), "B"));
    let before = store.table(&database, "b").await.expect("the table").version;
    let found = store.give_partitions(from, to, &values[..1]).await.expect("given");
    assert_eq!(found.iter().map(|own| &own.storage).collect::<Vec<_>>(), [&given[0].storage]);
    assert!(store.table(&database, "b").await.expect("the table").version > before);
    assert_eq!(store.partition_names(&database, "a").await.expect("names"), ["ds=2/k=x"]);
    assert_eq!(store.partition_names(&database, "b").await.expect("names"), ["ds=1/k=x"]);

    store.add_partitions(&database, "a", &given[..1], false).await.expect("added");
    expect_error(store.give_partitions(from, to, &values).await, ErrorKind::AlreadyExists);
    assert_eq!(store.partition_names(&database, "a").await.expect("names").len(), 2);
    assert_eq!(store.partition_names(&database, "b").await.expect("names").len(), 1);
    let missing = [strings(&["3", "x"])];
    expect_error(store.give_partitions(from, to, &missing).await, ErrorKind::NotFound);
    expect_error(store.give_partitions(from, (&database, "nope"), &values).await, ErrorKind::NotFound);
}

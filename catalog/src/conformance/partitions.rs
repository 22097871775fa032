//! Partitions.

use bytes::Bytes;
use tereza_runtime::ErrorKind;
use tereza_thrift::codec::{SentAs, Writer};

use super::{
    column, expect_error, new_partitioned_table, new_table, parameters, partition, strings, with_partition_additions,
};
use crate::Store;
use crate::model::{DEFAULT_PARTITION, Partition, Storage, Table};
use crate::store::PartitionFilter;

/// All tests of this module.
pub async fn run(store: &dyn Store) {
    a_partition_comes_back_as_it_was_given(store).await;
    partitions_come_in_the_order_of_their_names(store).await;
    a_filter_picks_by_any_key(store).await;
    a_filter_without_sense_is_refused(store).await;
    null_and_the_empty_value_are_one_partition(store).await;
    adding_is_all_or_nothing(store).await;
    only_partitioned_tables_have_partitions(store).await;
    altering_replaces_everything(store).await;
    dropping_is_all_or_nothing(store).await;
    partitions_keep_their_columns(store).await;
    the_version_counts_changes_of_partitions(store).await;
    thousands_are_handled_at_once(store).await;
    partitions_are_found_by_their_names(store).await;
    listed_names_are_the_names(store).await;
    a_renamed_partition_keeps_its_statistics(store).await;
    partitions_get_the_columns_of_their_table(store).await;
}

async fn values_of(store: &dyn Store, table: &(String, &str), filter: &PartitionFilter) -> Vec<Vec<String>> {
    let found = store.partitions(&table.0, table.1, filter, None).await.expect("partitions");
    found.into_iter().map(|partition| partition.values).collect()
}

/// Every field of a partition is kept.
pub async fn a_partition_comes_back_as_it_was_given(store: &dyn Store) {
    let (database, table) = new_partitioned_table(store).await;
    let given = Partition {
        create_time_s: 5,
        last_access_time_s: 9,
        storage: Storage {
            columns: vec![column("only", "int")],
            num_buckets: 4,
            bucket_columns: vec!["only".into()],
            sort_columns: vec![("only".into(), 1)],
            parameters: parameters(&[("a", "")]),
            ..partition(&["x", "y"]).storage
        },
        parameters: parameters(&[("numRows", "3")]),
        ..partition(&["x", "y"])
    };
    assert_eq!(store.add_partitions(&database, table, std::slice::from_ref(&given), false).await.expect("added"), 1);
    let all = store.partitions(&database, table, &PartitionFilter::default(), None).await.expect("partitions");
    assert_eq!(all, [with_partition_additions(&given, &all[0])]);
    assert!(all[0].create_time_s > 5, "the store sets the time");
    assert_eq!(all[0].parameters.get("transient_lastDdlTime"), Some(&all[0].create_time_s.to_string()));
}

/// Names are sorted byte by byte, and a limit takes the first.
pub async fn partitions_come_in_the_order_of_their_names(store: &dyn Store) {
    let table = new_partitioned_table(store).await;
    let given: Vec<Partition> =
        [["b", "1"], ["a", "2"], ["a-b", "1"], ["a", "10"], ["B", "1"]].iter().map(|v| partition(v)).collect();
    store.add_partitions(&table.0, table.1, &given, false).await.expect("added");
    let names = store.partition_names(&table.0, table.1).await.expect("names");
    assert_eq!(names, ["ds=B/k=1", "ds=a-b/k=1", "ds=a/k=10", "ds=a/k=2", "ds=b/k=1"]);
    let all = PartitionFilter::default();
    assert_eq!(values_of(store, &table, &all).await, [["B", "1"], ["a-b", "1"], ["a", "10"], ["a", "2"], ["b", "1"]]);
    let filter = PartitionFilter { values: vec![Some(strings(&["b", "a", "a-b"])), None] };
    for (filter, first) in [(&all, ["B", "1"]), (&filter, ["a-b", "1"])] {
        for limit in [0, 1, 2] {
            let found = store.partitions(&table.0, table.1, filter, Some(limit)).await.expect("partitions");
            assert_eq!(found.len(), limit);
            assert!(found.first().is_none_or(|partition| partition.values == first));
        }
    }
}

/// Any key may be bound to some values, or to none at all.
pub async fn a_filter_picks_by_any_key(store: &dyn Store) {
    let table = new_partitioned_table(store).await;
    let given: Vec<Partition> = ["1", "10", "2"].iter().flat_map(|a| ["x", "y"].map(|b| partition(&[a, b]))).collect();
    store.add_partitions(&table.0, table.1, &given, false).await.expect("added");
    let bound = |values: &[&str]| Some(strings(values));
    let cases: [(Vec<Option<Vec<String>>>, usize); 9] = [
        (vec![], 6),
        (vec![None, None], 6),
        (vec![bound(&["1"])], 2),
        (vec![bound(&["1"]), None], 2),
        (vec![bound(&["1"]), bound(&["x"])], 1),
        (vec![bound(&["1", "2", "7"]), bound(&["x", "z"])], 2),
        (vec![None, bound(&["y"])], 3),
        (vec![bound(&[]), None], 0),
        (vec![None, bound(&[])], 0),
    ];
    for (values, expected) in cases {
        let filter = PartitionFilter { values };
        assert_eq!(values_of(store, &table, &filter).await.len(), expected, "{filter:?}");
        let snapshot = store.snapshot(&table.0, table.1, &filter).await.expect("a snapshot");
        assert_eq!(snapshot.partitions.len(), expected, "{filter:?}");
    }
}

/// More values than keys can only be a mistake.
pub async fn a_filter_without_sense_is_refused(store: &dyn Store) {
    let (database, table) = new_partitioned_table(store).await;
    let filter = PartitionFilter { values: vec![None, None, None] };
    expect_error(store.partitions(&database, table, &filter, None).await, ErrorKind::InvalidInput);
    expect_error(store.snapshot(&database, table, &filter).await, ErrorKind::InvalidInput);
}

/// Both have the same folder, so they are the same partition; each value comes back as it was given.
pub async fn null_and_the_empty_value_are_one_partition(store: &dyn Store) {
    let table = new_partitioned_table(store).await;
    let given = [partition(&["", "1"]), partition(&[DEFAULT_PARTITION, "2"])];
    store.add_partitions(&table.0, table.1, &given, false).await.expect("added");
    let same = partition(&[DEFAULT_PARTITION, "1"]);
    let outcome = store.add_partitions(&table.0, table.1, std::slice::from_ref(&same), false).await;
    expect_error(outcome, ErrorKind::AlreadyExists);
    for null in ["", DEFAULT_PARTITION] {
        let filter = PartitionFilter { values: vec![Some(strings(&[null]))] };
        assert_eq!(values_of(store, &table, &filter).await, [["", "1"], [DEFAULT_PARTITION, "2"]]);
    }
    store.drop_partitions(&table.0, table.1, &[same.values], false).await.expect("dropped");
}

/// One that exists spoils the whole call, unless the caller said otherwise.
pub async fn adding_is_all_or_nothing(store: &dyn Store) {
    let (database, table) = new_partitioned_table(store).await;
    let a = partition(&["a", "1"]);
    let b = Partition { parameters: parameters(&[("numRows", "1")]), ..partition(&["b", "1"]) };
    store.add_partitions(&database, table, std::slice::from_ref(&a), false).await.expect("added");
    let error = expect_error(
        store.add_partitions(&database, table, &[b.clone(), a.clone()], false).await,
        ErrorKind::AlreadyExists,
    );
    assert!(error.message().contains("ds=a/k=1"), "{error}");
    expect_error(
        store.add_partitions(&database, table, &[b.clone(), b.clone()], false).await,
        ErrorKind::AlreadyExists,
    );
    assert_eq!(store.partition_names(&database, table).await.expect("names"), ["ds=a/k=1"]);

    let changed = Partition { storage: Storage::default(), ..a.clone() };
    let added = store.add_partitions(&database, table, &[changed, b.clone(), b], true).await.expect("added");
    assert_eq!(added, 1);
    let all = store.partitions(&database, table, &PartitionFilter::default(), None).await.expect("partitions");
    assert_eq!(all[0].storage, a.storage, "one that exists is left as it is");
    assert_eq!(store.add_partitions(&database, table, &[], false).await.expect("added"), 0);
}

/// A table without keys has none, and a partition needs a value for each key.
pub async fn only_partitioned_tables_have_partitions(store: &dyn Store) {
    let (database, plain) = new_table(store).await;
    assert_eq!(store.partitions(&database, plain, &PartitionFilter::default(), None).await.expect("partitions"), []);
    expect_error(store.add_partitions(&database, plain, &[partition(&["1"])], true).await, ErrorKind::InvalidInput);
    let (database, table) = new_partitioned_table(store).await;
    expect_error(store.add_partitions(&database, table, &[partition(&["1"])], true).await, ErrorKind::InvalidInput);
    expect_error(
        store.drop_partitions(&database, table, &[strings(&["1", "2", "3"])], true).await,
        ErrorKind::InvalidInput,
    );
}

/// After altering a partition nothing of the old one is left but when it was made.
pub async fn altering_replaces_everything(store: &dyn Store) {
    let (database, table) = new_partitioned_table(store).await;
    let old = Partition { parameters: parameters(&[("old", "1")]), ..partition(&["a", "1"]) };
    store.add_partitions(&database, table, &[old, partition(&["b", "1"])], false).await.expect("added");
    let new = Partition {
        last_access_time_s: 3,
        storage: Storage {
            columns: vec![column("id", "string")],
            location: Some("s3://elsewhere".into()),
            bucket_columns: vec!["id".into()],
            ..Storage::default()
        },
        parameters: parameters(&[("new", "1")]),
        ..partition(&["a", "1"])
    };
    let before = store.partitions(&database, table, &PartitionFilter::default(), None).await.expect("partitions");
    store.alter_partitions(&database, table, std::slice::from_ref(&new)).await.expect("altered");
    let after = store.partitions(&database, table, &PartitionFilter::default(), None).await.expect("partitions");
    assert_eq!(after[0], with_partition_additions(&new, &after[0]));
    assert_eq!(after[0].create_time_s, before[0].create_time_s);
    assert_eq!(after[1], before[1]);

    let missing = [Partition { parameters: parameters(&[("never", "1")]), ..new }, partition(&["c", "1"])];
    let error = expect_error(store.alter_partitions(&database, table, &missing).await, ErrorKind::NotFound);
    assert!(error.message().contains("ds=c/k=1"), "{error}");
    let unchanged = store.partitions(&database, table, &PartitionFilter::default(), None).await.expect("partitions");
    assert_eq!(unchanged, after);
}

/// One that is missing spoils the whole call, unless the caller said otherwise; the dropped ones come back.
pub async fn dropping_is_all_or_nothing(store: &dyn Store) {
    let (database, table) = new_partitioned_table(store).await;
    let given = [partition(&["a", "1"]), partition(&["b", "1"]), partition(&["c", "1"])];
    store.add_partitions(&database, table, &given, false).await.expect("added");
    let all = store.partitions(&database, table, &PartitionFilter::default(), None).await.expect("partitions");
    let values = [strings(&["c", "1"]), strings(&["x", "1"]), strings(&["a", "1"])];
    let error = expect_error(store.drop_partitions(&database, table, &values, false).await, ErrorKind::NotFound);
    assert!(error.message().contains("ds=x/k=1"), "{error}");
    assert_eq!(store.partition_names(&database, table).await.expect("names").len(), 3);
    let dropped = store.drop_partitions(&database, table, &values, true).await.expect("dropped");
    assert_eq!(dropped, [all[2].clone(), all[0].clone()]);
    assert_eq!(store.partition_names(&database, table).await.expect("names"), ["ds=b/k=1"]);
}

/// A table's new columns are not those of the partitions that it has already.
pub async fn partitions_keep_their_columns(store: &dyn Store) {
    let (database, name) = new_partitioned_table(store).await;
    store.add_partitions(&database, name, &[partition(&["old", "1"])], false).await.expect("added");
    let table = store.table(&database, name).await.expect("the table").table;
    let mut columns = table.storage.columns.clone();
    columns.push(column("more", "int"));
    let storage = Storage { columns: columns.clone(), ..table.storage.clone() };
    store
        .alter_table(&database, name, None, &Table { storage: storage.clone(), ..table.clone() })
        .await
        .expect("altered");
    let new = Partition { storage, ..partition(&["new", "1"]) };
    store.add_partitions(&database, name, &[new, partition(&["older", "1"])], false).await.expect("added");
    let found = store.partitions(&database, name, &PartitionFilter::default(), None).await.expect("partitions");
    let found: Vec<_> =
        found.into_iter().map(|partition| (partition.values[0].clone(), partition.storage.columns)).collect();
    let old = table.storage.columns;
    assert_eq!(found, [("new".into(), columns), ("old".into(), old.clone()), ("older".into(), old)]);
    // The list that only they had goes with the last of them.
    let values = [strings(&["old", "1"]), strings(&["older", "1"])];
    store.drop_partitions(&database, name, &values, false).await.expect("dropped");
    assert_eq!(store.partition_names(&database, name).await.expect("names"), ["ds=new/k=1"]);
}

/// Readers learn by the version that a listing of theirs is old.
pub async fn the_version_counts_changes_of_partitions(store: &dyn Store) {
    let (database, table) = new_partitioned_table(store).await;
    let first = store.table_version(&database, table).await.expect("the version");
    let one = partition(&["a", "1"]);
    store.add_partitions(&database, table, std::slice::from_ref(&one), true).await.expect("added");
    store.add_partitions(&database, table, std::slice::from_ref(&one), true).await.expect("nothing new");
    assert_eq!(store.table_version(&database, table).await.expect("the version"), first + 1);
    store.alter_partitions(&database, table, std::slice::from_ref(&one)).await.expect("altered");
    assert_eq!(store.table_version(&database, table).await.expect("the version"), first + 2);
    store.drop_partitions(&database, table, std::slice::from_ref(&one.values), true).await.expect("dropped");
    store.drop_partitions(&database, table, &[one.values], true).await.expect("nothing left");
    assert_eq!(store.table_version(&database, table).await.expect("the version"), first + 3);
}

/// More than fit into one statement of any implementation.
pub async fn thousands_are_handled_at_once(store: &dyn Store) {
    let table = new_partitioned_table(store).await;
    let given: Vec<Partition> = (0..2_003).map(|n| partition(&[&format!("{n:04}"), "x"])).collect();
    assert_eq!(store.add_partitions(&table.0, table.1, &given, false).await.expect("added"), 2_003);
    let found = store.partitions(&table.0, table.1, &PartitionFilter::default(), None).await.expect("partitions");
    assert_eq!(found.len(), 2_003);
    for (given, found) in given.iter().zip(&found) {
        assert_eq!(found, &with_partition_additions(given, found));
    }
    let changed: Vec<Partition> =
        found.iter().map(|old| Partition { parameters: parameters(&[("numRows", "1")]), ..old.clone() }).collect();
    store.alter_partitions(&table.0, table.1, &changed).await.expect("altered");
    let wanted: Vec<String> = (0..2_003).step_by(2).map(|n| format!("{n:04}")).collect();
    let filter = PartitionFilter { values: vec![Some(wanted.clone())] };
    let half = store.partitions(&table.0, table.1, &filter, None).await.expect("partitions");
    assert!(half.iter().map(|partition| &partition.values[0]).eq(&wanted));
    assert!(half.iter().all(|partition| partition.parameters["numRows"] == "1"));
    let values: Vec<Vec<String>> = half.into_iter().map(|partition| partition.values).collect();
    assert_eq!(store.drop_partitions(&table.0, table.1, &values, false).await.expect("dropped").len(), 1_002);
    assert_eq!(store.partition_names(&table.0, table.1).await.expect("names").len(), 1_001);
    store.drop_table(&table.0, table.1).await.expect("dropped");
}

/// In the order of the names, without those that are missing; and names alone, as a filter lets them through.
pub async fn partitions_are_found_by_their_names(store: &dyn Store) {
    let (database, name) = new_partitioned_table(store).await;
    let added = [partition(&["1", "a"]), partition(&["1", "b"]), partition(&["2", "a"])];
    store.add_partitions(&database, name, &added, false).await.expect("added");
    let names = strings(&["ds=2/k=a", "ds=9/k=a", "ds=1/k=a"]);
    let found = store.partitions_by_names(&database, name, &names).await.expect("partitions");
    let values: Vec<&[String]> = found.iter().map(|partition| partition.values.as_slice()).collect();
    assert_eq!(values, [strings(&["2", "a"]), strings(&["1", "a"])]);
    let one = PartitionFilter { values: vec![Some(strings(&["1"]))] };
    let matching = store.matching_partition_names(&database, name, &one, None).await.expect("names");
    assert_eq!(matching, ["ds=1/k=a", "ds=1/k=b"]);
    let last_key = PartitionFilter { values: vec![None, Some(strings(&["a"]))] };
    let matching = store.matching_partition_names(&database, name, &last_key, Some(1)).await.expect("names");
    assert_eq!(matching, ["ds=1/k=a"]);
    let keys = store.partition_keys(&database, name).await.expect("keys");
    assert_eq!(keys, store.table(&database, name).await.expect("the table").table.partition_keys);
}

/// They are sent as the same names in a list are, and no more of them are read than there is room for.
pub async fn listed_names_are_the_names(store: &dyn Store) {
    fn sent(names: &dyn SentAs<Vec<String>>) -> Bytes {
        let mut writer = Writer::new(1 << 20);
        names.write_as(&mut writer);
        writer.finish().expect("few bytes").into_bytes()
    }
    let (database, name) = new_partitioned_table(store).await;
    let added = [partition(&["1", "a"]), partition(&["1", "b"]), partition(&["2", "a"])];
    store.add_partitions(&database, name, &added, false).await.expect("added");
    let filters = [
        vec![],
        vec![Some(strings(&["1"]))],
        vec![None, Some(strings(&["a"]))],
        vec![Some(strings(&["2", "1"])), Some(strings(&["a"]))],
    ];
    for values in filters {
        let filter = PartitionFilter { values };
        for limit in [None, Some(0), Some(1), Some(9)] {
            let names = store.matching_partition_names(&database, name, &filter, limit).await.expect("names");
            let listed = store.listed_partition_names(&database, name, &filter, limit, 1000).await.expect("names");
            assert_eq!((listed.len(), listed.is_full()), (names.len(), false), "{filter:?} {limit:?}");
            assert_eq!(sent(&listed), sent(&names), "{filter:?} {limit:?}");
        }
    }
    let all = PartitionFilter::default();
    // A name is eight bytes after the four of its length.
    let some = store.listed_partition_names(&database, name, &all, None, 30).await.expect("names");
    assert_eq!((some.len(), some.is_full()), (2, true));
    let missing = store.listed_partition_names(&database, "missing", &all, None, 30).await;
    expect_error(missing.map(drop), ErrorKind::NotFound);
    expect_error(store.partition_keys(&database, "missing").await, ErrorKind::NotFound);
}

/// It is found under its new name only, and a name that is taken is refused.
pub async fn a_renamed_partition_keeps_its_statistics(store: &dyn Store) {
    let (database, name) = new_partitioned_table(store).await;
    let (old, new) = (strings(&["1", "a"]), strings(&["2", "b"]));
    let added = [partition(&["1", "a"]), partition(&["3", "c"])];
    store.add_partitions(&database, name, &added, false).await.expect("added");
    let statistics = super::statistics::some_statistics("id");
    store.set_column_statistics(&database, name, Some(&old), &[statistics]).await.expect("set");
    let version = store.table_version(&database, name).await.expect("the version");
    let renamed = partition(&["2", "b"]);
    store.rename_partition(&database, name, &old, &renamed).await.expect("renamed");
    assert!(store.table_version(&database, name).await.expect("the version") > version);
    let names = store.partition_names(&database, name).await.expect("names");
    assert_eq!(names, ["ds=2/k=b", "ds=3/k=c"]);
    let found = store.partitions_by_names(&database, name, &names[..1]).await.expect("partitions").remove(0);
    assert_eq!(found, with_partition_additions(&renamed, &found));
    assert_eq!(store.column_statistics(&database, name, Some(&new)).await.expect("statistics").len(), 1);
    expect_error(store.rename_partition(&database, name, &old, &renamed).await, ErrorKind::NotFound);
    let taken = partition(&["3", "c"]);
    expect_error(store.rename_partition(&database, name, &new, &taken).await, ErrorKind::AlreadyExists);
}

/// Altering a table with its partitions gives all of them its columns and nothing else.
pub async fn partitions_get_the_columns_of_their_table(store: &dyn Store) {
    let (database, name) = new_partitioned_table(store).await;
    let mut other = partition(&["1", "b"]);
    other.storage.columns.truncate(1);
    store.add_partitions(&database, name, &[partition(&["1", "a"]), other], false).await.expect("added");
    let mut table = store.table(&database, name).await.expect("the table");
    table.table.storage.columns.push(column("extra", "date"));
    let before = store.partitions(&database, name, &PartitionFilter::default(), None).await.expect("partitions");
    let altered = store.alter_table_and_partitions(&database, name, Some(table.version), &table.table).await;
    altered.expect("altered");
    let after = store.partitions(&database, name, &PartitionFilter::default(), None).await.expect("partitions");
    for (before, after) in before.into_iter().zip(after) {
        let storage = Storage { columns: table.table.storage.columns.clone(), ..before.storage };
        assert_eq!(after, Partition { storage, ..before });
    }
    let stale = store.alter_table_and_partitions(&database, name, Some(table.version), &table.table).await;
    expect_error(stale, ErrorKind::Conflict);
}

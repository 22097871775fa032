//! Tables and views.

use tereza_runtime::ErrorKind;

use super::{
    column, expect_error, new_database, new_partitioned_table, new_table, parameters, partition, partitioned_table,
    strings, table, with_additions,
};
use crate::Store;
use crate::model::{Column, PrincipalKind, Serde, Skewed, Storage, Table, TableKind};
use crate::store::PartitionFilter;

/// All tests of this module.
pub async fn run(store: &dyn Store) {
    a_table_comes_back_as_it_was_given(store).await;
    a_view_comes_back_as_it_was_given(store).await;
    missing_and_empty_values_stay_apart(store).await;
    an_external_table_says_so(store).await;
    the_store_sets_the_times(store).await;
    names_are_sorted_and_folded(store).await;
    missing_tables_are_not_found(store).await;
    a_name_is_given_once(store).await;
    senseless_columns_are_refused(store).await;
    a_wide_table_is_kept(store).await;
    altering_replaces_everything(store).await;
    a_stale_version_is_refused(store).await;
    a_renamed_table_keeps_what_it_has(store).await;
    a_rename_needs_a_free_name(store).await;
    a_folder_is_taken_as_long_as_its_table_lives(store).await;
    partition_keys_stay_while_there_are_partitions(store).await;
    a_dropped_table_is_gone(store).await;
    a_name_never_gets_the_same_version_twice(store).await;
    locations_in_use_are_known(store).await;
}

/// The folder is the table's own, whatever the table is called by now.
pub async fn a_folder_is_taken_as_long_as_its_table_lives(store: &dyn Store) {
    let (database, name) = new_table(store).await;
    let location = format!("file:///warehouse/{database}.db/{name}");
    let renamed = Table { name: "renamed".into(), ..table(&database, name) };
    store.alter_table(&database, name, None, &renamed).await.expect("renamed");
    for spelled in [location.clone(), format!("{location}/")] {
        assert!(store.is_location_taken(&spelled).await.expect("an answer"), "{spelled}");
    }
    assert!(!store.is_location_taken(&format!("{location}-2")).await.expect("an answer"));
    store.drop_table(&database, "renamed").await.expect("dropped");
    assert!(!store.is_location_taken(&location).await.expect("an answer"));
}

/// Every field of a table is kept.
pub async fn a_table_comes_back_as_it_was_given(store: &dyn Store) {
    let database = new_database(store).await;
    let given = Table {
        last_access_time_s: 7,
        owner_kind: PrincipalKind::Role,
        retention: -1,
        storage: Storage {
            columns: vec![
                Column { comment: Some("the key".into()), ..column("id", "bigint") },
                column("z", "struct<a:array<string>,b:map<int,decimal(10,2)>>"),
                column("a", "string"),
            ],
            compressed: true,
            num_buckets: 8,
            bucket_columns: vec!["id".into(), "a".into()],
            sort_columns: vec![("z".into(), 1), ("a".into(), 0)],
            serde: Serde { name: Some("t".into()), library: None, parameters: parameters(&[("field.delim", "\u{1}")]) },
            parameters: parameters(&[("storage", "yes"), ("empty", "")]),
            stored_as_sub_directories: true,
            skewed: Skewed {
                columns: vec!["id".into(), "a".into()],
                values: vec![strings(&["1", "x"]), strings(&["2", ""])],
                locations: [(strings(&["2", ""]), "s3://bucket/t/2".to_owned())].into(),
            },
            ..super::storage("s3://bucket/t")
        },
        partition_keys: vec![Column { comment: Some("day".into()), ..column("ds", "date") }, column("b", "int")],
        parameters: parameters(&[("numRows", "0"), ("long", &"x".repeat(100_000)), ("transient_lastDdlTime", "5")]),
        ..table(&database, "t")
    };
    store.create_table(&given).await.expect("a new table");
    let returned = store.table(&database, "t").await.expect("the table").table;
    assert_eq!(returned, with_additions(&given, &returned));
    assert_eq!(returned.parameters, given.parameters, "the client's own time of definition is kept");
}

/// A view has a text and no place.
pub async fn a_view_comes_back_as_it_was_given(store: &dyn Store) {
    let database = new_database(store).await;
    let given = Table {
        kind: TableKind::View,
        storage: Storage { columns: vec![column("n", "int")], num_buckets: -1, ..Storage::default() },
        view_original_text: Some("select 1 n".into()),
        view_expanded_text: Some(format!("select 1 n -- {}", "é".repeat(50_000))),
        ..table(&database, "v")
    };
    store.create_table(&given).await.expect("a new view");
    let returned = store.table(&database, "v").await.expect("the view").table;
    assert_eq!(returned, with_additions(&given, &returned));
}

/// NULL is not the empty text.
pub async fn missing_and_empty_values_stay_apart(store: &dyn Store) {
    let database = new_database(store).await;
    let empty = Table {
        owner: Some(String::new()),
        storage: Storage {
            columns: vec![Column { comment: Some(String::new()), ..column("id", "int") }],
            location: Some(String::new()),
            input_format: Some(String::new()),
            output_format: Some(String::new()),
            serde: Serde { name: Some(String::new()), library: Some(String::new()), ..Serde::default() },
            ..Storage::default()
        },
        view_original_text: Some(String::new()),
        view_expanded_text: Some(String::new()),
        ..table(&database, "empty")
    };
    let missing = Table { owner: None, storage: Storage::default(), ..table(&database, "missing") };
    for given in [empty, missing] {
        store.create_table(&given).await.expect("a new table");
        let returned = store.table(&database, &given.name).await.expect("the table").table;
        assert_eq!(returned, with_additions(&given, &returned));
    }
}

/// Other readers of a metastore tell external tables by the parameter `EXTERNAL`.
pub async fn an_external_table_says_so(store: &dyn Store) {
    let database = new_database(store).await;
    store.create_table(&Table { kind: TableKind::External, ..table(&database, "t") }).await.expect("a new table");
    let returned = store.table(&database, "t").await.expect("the table").table;
    assert_eq!(returned.kind, TableKind::External);
    assert_eq!(returned.parameters.get("EXTERNAL").map(String::as_str), Some("TRUE"));
}

/// When a table was made is the store's to say, and altering does not change it.
pub async fn the_store_sets_the_times(store: &dyn Store) {
    let database = new_database(store).await;
    store.create_table(&Table { create_time_s: 5, ..table(&database, "t") }).await.expect("a new table");
    let made = store.table(&database, "t").await.expect("the table").table;
    assert!(made.create_time_s > 5);
    assert_eq!(made.parameters.get("transient_lastDdlTime"), Some(&made.create_time_s.to_string()));
    store.alter_table(&database, "t", None, &Table { create_time_s: 6, ..made.clone() }).await.expect("altered");
    assert_eq!(store.table(&database, "t").await.expect("the table").table, made);
}

/// Names of tables and columns come back in lower case and are found in any case.
pub async fn names_are_sorted_and_folded(store: &dyn Store) {
    let database = new_database(store).await;
    let mixed = Table {
        storage: Storage {
            columns: vec![column("Id", "int"), column("NAME", "string")],
            bucket_columns: vec!["ID".into()],
            sort_columns: vec![("Name".into(), 1)],
            ..Storage::default()
        },
        partition_keys: vec![column("DS", "string")],
        ..table(&database.to_uppercase(), "Mixed")
    };
    store.create_table(&mixed).await.expect("a new table");
    store.create_table(&Table { kind: TableKind::View, ..table(&database, "a_view") }).await.expect("a new view");
    let listed = store.tables(&database.to_uppercase()).await.expect("tables");
    assert_eq!(listed, [("a_view".into(), TableKind::View), ("mixed".into(), TableKind::Managed)]);
    let found = store.table(&database, "MIXED").await.expect("the table").table;
    assert_eq!((found.database.as_str(), found.name.as_str()), (database.as_str(), "mixed"));
    assert_eq!(found.storage.columns, [column("id", "int"), column("name", "string")]);
    assert_eq!(found.storage.bucket_columns, ["id"]);
    assert_eq!(found.storage.sort_columns, [("name".into(), 1)]);
    assert_eq!(found.partition_keys, [column("ds", "string")]);
}

/// Every method that names a table says when there is none, and names it.
pub async fn missing_tables_are_not_found(store: &dyn Store) {
    let database = new_database(store).await;
    let error = expect_error(store.table(&database, "nowhere").await, ErrorKind::NotFound);
    assert!(error.message().contains("nowhere"), "{error}");
    expect_error(store.drop_table(&database, "t").await, ErrorKind::NotFound);
    expect_error(store.alter_table(&database, "t", None, &table(&database, "t")).await, ErrorKind::NotFound);
    expect_error(store.table_version(&database, "t").await, ErrorKind::NotFound);
    expect_error(store.commits_since(&database, "t", 0).await, ErrorKind::NotFound);
    expect_error(store.partition_names(&database, "t").await, ErrorKind::NotFound);
    expect_error(store.column_statistics(&database, "t", None).await, ErrorKind::NotFound);
    expect_error(store.set_column_statistics(&database, "t", None, &[]).await, ErrorKind::NotFound);
    let all = PartitionFilter::default();
    expect_error(store.partitions(&database, "t", &all, None).await, ErrorKind::NotFound);
    expect_error(store.snapshot(&database, "t", &all).await, ErrorKind::NotFound);
    expect_error(store.add_partitions(&database, "t", &[], true).await, ErrorKind::NotFound);
    expect_error(store.alter_partitions(&database, "t", &[]).await, ErrorKind::NotFound);
    expect_error(store.drop_partitions(&database, "t", &[], true).await, ErrorKind::NotFound);
}

/// Tables and views share one set of names.
pub async fn a_name_is_given_once(store: &dyn Store) {
    let (database, _) = new_table(store).await;
    let view = Table { kind: TableKind::View, ..table(&database, "T") };
    let error = expect_error(store.create_table(&view).await, ErrorKind::AlreadyExists);
    assert!(error.message().contains(&format!("{database}.t")), "{error}");
    assert_eq!(store.tables(&database).await.expect("tables"), [("t".into(), TableKind::Managed)]);
}

/// Two columns of one name cannot be told apart.
pub async fn senseless_columns_are_refused(store: &dyn Store) {
    let database = new_database(store).await;
    let twice = vec![column("id", "int"), column("ID", "int")];
    let with_columns = |columns| Table { storage: Storage { columns, ..Storage::default() }, ..table(&database, "t") };
    expect_error(store.create_table(&with_columns(twice.clone())).await, ErrorKind::InvalidInput);
    let keys = Table { partition_keys: twice, ..with_columns(vec![]) };
    expect_error(store.create_table(&keys).await, ErrorKind::InvalidInput);
    let both = Table { partition_keys: vec![column("id", "int")], ..with_columns(vec![column("id", "int")]) };
    expect_error(store.create_table(&both).await, ErrorKind::InvalidInput);
    expect_error(store.create_table(&with_columns(vec![column("", "int")])).await, ErrorKind::InvalidInput);
    assert_eq!(store.tables(&database).await.expect("tables"), []);
}

/// Two thousand columns stay in order.
pub async fn a_wide_table_is_kept(store: &dyn Store) {
    let database = new_database(store).await;
    let columns: Vec<Column> = (0..2_000).map(|n| column(&format!("c{}", 1_999 - n), "double")).collect();
    let wide = Table { storage: Storage { columns, ..Storage::default() }, ..table(&database, "wide") };
    store.create_table(&wide).await.expect("a new table");
    let returned = store.table(&database, "wide").await.expect("the table").table;
    assert_eq!(returned.storage.columns, wide.storage.columns);
}

/// After altering a table nothing of the old one is left, and its version is one higher.
pub async fn altering_replaces_everything(store: &dyn Store) {
    let (database, name) = new_table(store).await;
    let before = store.table(&database, name).await.expect("the table");
    let given = Table {
        kind: TableKind::External,
        owner: None,
        retention: 9,
        storage: Storage {
            columns: vec![column("name", "string"), column("extra", "date")],
            location: Some("s3://elsewhere".into()),
            bucket_columns: vec!["name".into()],
            sort_columns: vec![("extra".into(), 0)],
            serde: Serde { parameters: parameters(&[("other", "2")]), ..Serde::default() },
            parameters: parameters(&[("p", "q")]),
            ..Storage::default()
        },
        partition_keys: vec![column("ds", "string")],
        parameters: parameters(&[("new", "1"), ("EXTERNAL", "TRUE")]),
        view_original_text: Some("text".into()),
        ..table(&database, name)
    };
    store.alter_table(&database, name, Some(before.version), &given).await.expect("altered");
    let after = store.table(&database, name).await.expect("the table");
    assert_eq!(after.table, with_additions(&given, &after.table));
    assert_eq!(after.version, before.version + 1);
    assert_eq!(store.table_version(&database, name).await.expect("the version"), after.version);
}

/// Whoever read an older version loses, and hears what was expected and found.
pub async fn a_stale_version_is_refused(store: &dyn Store) {
    let (database, name) = new_table(store).await;
    let read = store.table(&database, name).await.expect("the table");
    store.alter_table(&database, name, Some(read.version), &read.table).await.expect("altered");
    let changed = Table { owner: Some("late".into()), ..read.table.clone() };
    let outcome = store.alter_table(&database, name, Some(read.version), &changed).await;
    let error = expect_error(outcome, ErrorKind::Conflict);
    for part in [&format!("{database}.{name}"), &read.version.to_string(), &(read.version + 1).to_string()] {
        assert!(error.message().contains(part), "{part} is not in: {error}");
    }
    assert_eq!(store.table(&database, name).await.expect("the table").table, read.table);
}

/// A rename, also into another database, keeps partitions and statistics.
pub async fn a_renamed_table_keeps_what_it_has(store: &dyn Store) {
    let (database, name) = new_partitioned_table(store).await;
    let other = new_database(store).await;
    store.add_partitions(&database, name, &[partition(&["1", "2"])], false).await.expect("added");
    let statistics = super::statistics::some_statistics("id");
    store.set_column_statistics(&database, name, None, std::slice::from_ref(&statistics)).await.expect("set");
    let old = store.table(&database, name).await.expect("the table");
    let partitions = store.partitions(&database, name, &PartitionFilter::default(), None).await.expect("partitions");

    let renamed = Table { database: other.to_uppercase(), name: "New".into(), ..old.table.clone() };
    store.alter_table(&database, name, Some(old.version), &renamed).await.expect("renamed");
    expect_error(store.table(&database, name).await, ErrorKind::NotFound);
    let new = store.table(&other, "new").await.expect("the table");
    assert_eq!(new.table, Table { database: other.clone(), name: "new".into(), ..old.table });
    assert!(new.version > old.version);
    assert_eq!(
        store.partitions(&other, "new", &PartitionFilter::default(), None).await.expect("partitions"),
        partitions
    );
    assert_eq!(store.column_statistics(&other, "new", None).await.expect("statistics").len(), 1);
}

/// Renaming to a name that is taken, or into a database that is not there, changes nothing.
pub async fn a_rename_needs_a_free_name(store: &dyn Store) {
    let (database, name) = new_table(store).await;
    store.create_table(&table(&database, "taken")).await.expect("a new table");
    let before = store.table(&database, name).await.expect("the table");
    let to_taken = Table { name: "taken".into(), ..before.table.clone() };
    expect_error(store.alter_table(&database, name, None, &to_taken).await, ErrorKind::AlreadyExists);
    let to_nowhere = Table { database: "no_such_database".into(), ..before.table.clone() };
    expect_error(store.alter_table(&database, name, None, &to_nowhere).await, ErrorKind::NotFound);
    assert_eq!(store.table(&database, name).await.expect("the table"), before);
}

/// The names of partitions hold the keys, so with partitions only a key's type and comment may change.
pub async fn partition_keys_stay_while_there_are_partitions(store: &dyn Store) {
    let (database, name) = new_partitioned_table(store).await;
    store.add_partitions(&database, name, &[partition(&["1", "2"])], false).await.expect("added");
    let before = store.table(&database, name).await.expect("the table").table;
    let fewer = Table { partition_keys: vec![column("ds", "string")], ..before.clone() };
    expect_error(store.alter_table(&database, name, None, &fewer).await, ErrorKind::InvalidInput);
    let retyped = Table { partition_keys: vec![column("ds", "date"), column("k", "bigint")], ..before };
    store.alter_table(&database, name, None, &retyped).await.expect("altered");
    assert_eq!(store.table(&database, name).await.expect("the table").table.partition_keys, retyped.partition_keys);
}

/// A dropped table comes back as it was, once; a new one of its name has nothing of it.
pub async fn a_dropped_table_is_gone(store: &dyn Store) {
    let (database, name) = new_partitioned_table(store).await;
    store
        .add_partitions(&database, name, &[partition(&["1", "2"]), partition(&["1", "3"])], false)
        .await
        .expect("added");
    let statistics = super::statistics::some_statistics("id");
    let values = super::strings(&["1", "2"]);
    store.set_column_statistics(&database, name, None, std::slice::from_ref(&statistics)).await.expect("set");
    store.set_column_statistics(&database, name, Some(&values), &[statistics]).await.expect("set");
    let before = store.table(&database, name).await.expect("the table").table;
    store.create_table(&table(&database, "u")).await.expect("a new table");
    let other = store.table(&database, "u").await.expect("the table").table;
    let found = store.tables_by_names(&database, &super::strings(&["u", "nope", "T"])).await.expect("tables");
    assert_eq!(found, [other, before.clone()], "many at once are the same as each by itself");
    assert_eq!(store.drop_table(&database, "T").await.expect("dropped"), before);
    expect_error(store.drop_table(&database, name).await, ErrorKind::NotFound);
    store.create_table(&partitioned_table(&database, name)).await.expect("made again");
    assert_eq!(store.partition_names(&database, name).await.expect("names"), Vec::<String>::new());
    assert_eq!(store.column_statistics(&database, name, None).await.expect("statistics"), []);
}

/// What was prepared on a table that had the name before never fits the one that has it now.
pub async fn a_name_never_gets_the_same_version_twice(store: &dyn Store) {
    let database = new_database(store).await;
    let mut last = 0;
    for round in 0..4 {
        store.create_table(&table(&database, "t")).await.expect("a new table");
        let made = store.table(&database, "t").await.expect("the table");
        assert!(made.version > last, "round {round}: {} after {last}", made.version);
        for _ in 0..round {
            store.alter_table(&database, "t", None, &made.table).await.expect("altered");
        }
        last = store.table_version(&database, "t").await.expect("the version");
        if round == 2 {
            let away = Table { name: "away".into(), ..made.table };
            store.alter_table(&database, "t", None, &away).await.expect("renamed");
        } else {
            store.drop_table(&database, "t").await.expect("dropped");
        }
    }
    // The other way round: a table that takes the name by renaming.
    store.create_table(&table(&database, "u")).await.expect("a new table");
    let other = store.table(&database, "u").await.expect("the table").table;
    store.alter_table(&database, "u", None, &Table { name: "t".into(), ..other }).await.expect("renamed");
    assert!(store.table_version(&database, "t").await.expect("the version") > last);
}

/// What is kept at a place is found, with and without a slash at its end.
pub async fn locations_in_use_are_known(store: &dyn Store) {
    let (database, _) = new_table(store).await;
    let folder = format!("file:///warehouse/{database}.db");
    let asked = [format!("{folder}/t/"), format!("{folder}/other"), format!("{folder}/t")];
    let used = store.locations_in_use(&asked).await.expect("locations");
    assert_eq!(used, [format!("{folder}/t/"), format!("{folder}/t")]);
}

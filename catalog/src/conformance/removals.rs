//! Dropping things together with their files: what is noted for removal, and what is kept.

use tereza_runtime::ErrorKind;

use super::{expect_error, new_database, parameters, partition, partitioned_table, storage, strings, table};
use crate::Store;
use crate::model::{Database, Partition, Table, TableKind};

/// All tests of this module.
pub async fn run(store: &dyn Store) {
    only_what_owns_its_files_is_noted(store).await;
    what_others_need_is_kept(store).await;
    partitions_are_noted_inside_their_table_only(store).await;
    a_database_leaves_what_is_not_its_own(store).await;
    a_place_is_not_given_before_it_is_empty(store).await;
}

async fn is_noted(store: &dyn Store, location: &str) -> bool {
    store.are_being_removed(&[location.to_owned()]).await.expect("an answer")
}

fn home(database: &str, name: &str) -> String {
    format!("file:///warehouse/{database}.db/{name}")
}

fn at(table: Table, location: &str) -> Table {
    Table { storage: storage(location), ..table }
}

/// Managed tables, and external ones that say so; only where it is asked for.
pub async fn only_what_owns_its_files_is_noted(store: &dyn Store) {
    let database = new_database(store).await;
    let external = |name: &str| Table { kind: TableKind::External, ..table(&database, name) };
    let purge = parameters(&[("external.table.purge", "TRUE")]);
    for (given, with_files, expected) in [
        (table(&database, "managed"), true, true),
        (table(&database, "left"), false, false),
        (external("external"), true, false),
        (Table { parameters: purge, ..external("purged") }, true, true),
    ] {
        store.create_table(&given).await.expect("a new table");
        let made = store.table(&database, &given.name).await.expect("the table").table;
        let dropped = if with_files {
            store.drop_table_with_files(&database, &given.name).await
        } else {
            store.drop_table(&database, &given.name).await
        };
        assert_eq!(dropped.expect("dropped"), made);
        assert_eq!(is_noted(store, &home(&database, &given.name)).await, expected, "{}", given.name);
    }
    expect_error(store.drop_table_with_files(&database, "nope").await, ErrorKind::NotFound);
}

/// A folder stays if a table, a partition or a database is at or below it, or a table or a partition above it.
pub async fn what_others_need_is_kept(store: &dyn Store) {
    let database = new_database(store).await;
    let external =
        |name: &str, location: &str| at(Table { kind: TableKind::External, ..table(&database, name) }, location);
    for (name, other) in [("same", ""), ("below", "/x/y"), ("above", "/.."), ("spelled", "//")] {
        let location = home(&database, &format!("{name}/t"));
        let place = match other {
            "/.." => home(&database, name),
            "//" => location.replace("file:///", "file:/") + "/",
            below => format!("{location}{below}"),
        };
        store.create_table(&at(table(&database, name), &location)).await.expect("a new table");
        store.create_table(&external("other", &place)).await.expect("a new table");
        store.drop_table_with_files(&database, name).await.expect("dropped");
        assert!(!is_noted(store, &location).await, "{name}");
        store.drop_table(&database, "other").await.expect("dropped");
    }
    let location = home(&database, "outer");
    store.create_table(&at(table(&database, "outer"), &location)).await.expect("a new table");
    let inner = Database { location: format!("{location}/inner.db"), ..super::database(&format!("{database}_inner")) };
    store.create_database(&inner).await.expect("a new database");
    store.drop_table_with_files(&database, "outer").await.expect("dropped");
    assert!(!is_noted(store, &location).await);
    // Its own partition elsewhere stays, and so does what that lies in.
    let location = home(&database, "keys/t");
    store.create_table(&at(partitioned_table(&database, "keys"), &location)).await.expect("a new table");
    let away = Partition { storage: storage(&home(&database, "keys")), ..partition(&["1", "2"]) };
    store.add_partitions(&database, "keys", &[away], false).await.expect("added");
    store.drop_table_with_files(&database, "keys").await.expect("dropped");
    assert!(!is_noted(store, &location).await);
}

/// Partitions go with their folders inside the table's, if no other partition is there.
pub async fn partitions_are_noted_inside_their_table_only(store: &dyn Store) {
    let database = new_database(store).await;
    let folder = home(&database, "t");
    store.create_table(&at(partitioned_table(&database, "t"), &folder)).await.expect("a new table");
    let placed = |key: &str, location: &str| Partition { storage: storage(location), ..partition(&["1", key]) };
    let outside = home(&database, "outside");
    let (inside, shared, at_home) = (format!("{folder}/a"), format!("{folder}/b"), folder.clone());
    let given = [
        placed("inside", &inside),
        placed("outside", &outside),
        placed("shared", &shared),
        placed("too", &format!("{shared}/")),
        placed("home", &at_home),
    ];
    store.add_partitions(&database, "t", &given, false).await.expect("added");
    let values: Vec<Vec<String>> = ["outside", "shared", "home"].iter().map(|key| strings(&["1", key])).collect();
    store.drop_partitions_with_files(&database, "t", &values, false).await.expect("dropped");
    for location in [&inside, &outside, &shared, &at_home] {
        assert!(!is_noted(store, location).await, "{location}");
    }
    let last = [strings(&["1", "inside"]), strings(&["1", "too"])];
    let dropped = store.drop_partitions_with_files(&database, "t", &last, false).await.expect("dropped");
    assert_eq!(dropped.len(), 2);
    assert!(is_noted(store, &inside).await && is_noted(store, &format!("{shared}/file")).await);
    assert!(!is_noted(store, &folder).await);
    // The table is there and has its place: it can be altered meanwhile.
    let table = store.table(&database, "t").await.expect("the table").table;
    store.alter_table(&database, "t", None, &table).await.expect("altered");
    let again = [placed("inside", &inside)];
    expect_error(store.add_partitions(&database, "t", &again, false).await, ErrorKind::Unavailable);
}

/// A database takes its own folder along, unless what is in it belongs to somebody else.
pub async fn a_database_leaves_what_is_not_its_own(store: &dyn Store) {
    let empty = new_database(store).await;
    store.drop_database_with_files(&empty, false).await.expect("dropped");
    assert!(is_noted(store, &format!("file:/warehouse/{empty}.db")).await);

    let database = new_database(store).await;
    let folder = format!("file:///warehouse/{database}.db");
    store.create_table(&table(&database, "managed")).await.expect("a new table");
    expect_error(store.drop_database_with_files(&database, false).await, ErrorKind::InvalidInput);
    assert!(!is_noted(store, &folder).await);
    let external = Table { kind: TableKind::External, ..table(&database, "external") };
    store.create_table(&external).await.expect("a new table");
    store.drop_database_with_files(&database, true).await.expect("dropped");
    assert!(is_noted(store, &home(&database, "managed")).await);
    assert!(!is_noted(store, &folder).await && !is_noted(store, &home(&database, "external")).await);

    let database = new_database(store).await;
    let folder = format!("file:///warehouse/{database}.db");
    store.create_table(&table(&database, "managed")).await.expect("a new table");
    let whole = at(Table { kind: TableKind::External, ..table(&database, "whole") }, &folder);
    store.create_table(&whole).await.expect("a new table");
    store.drop_database_with_files(&database, true).await.expect("dropped");
    assert!(!is_noted(store, &home(&database, "managed")).await, "it is in the folder of an external table");

    let database = new_database(store).await;
    store.create_table(&partitioned_table(&database, "t")).await.expect("a new table");
    let away = Partition { storage: storage(&home(&database, "away")), ..partition(&["1", "2"]) };
    store.add_partitions(&database, "t", &[away], false).await.expect("added");
    store.drop_database_with_files(&database, true).await.expect("dropped");
    assert!(is_noted(store, &home(&database, "t")).await);
    assert!(!is_noted(store, &home(&database, "away")).await);
}

/// What is removed late is nobody else's.
pub async fn a_place_is_not_given_before_it_is_empty(store: &dyn Store) {
    let database = new_database(store).await;
    let given = table(&database, "t");
    let location = home(&database, "t");
    store.create_table(&given).await.expect("a new table");
    store.drop_table_with_files(&database, "t").await.expect("dropped");
    assert!(store.is_location_taken(&location).await.expect("an answer"));
    expect_error(store.create_table(&given).await, ErrorKind::Unavailable);
    let inside = Database { location: format!("{location}/x"), ..super::database(&format!("{database}_inside")) };
    expect_error(store.create_database(&inside).await, ErrorKind::Unavailable);
    let beside = at(given.clone(), &format!("{location}_2"));
    store.create_table(&beside).await.expect("a new table elsewhere");
    expect_error(store.alter_table(&database, "t", None, &given).await, ErrorKind::Unavailable);
    store.drop_table(&database, "t").await.expect("dropped");
    // Others take turns with removals of their own, so this one may be somebody's for a while.
    loop {
        let next = store.next_removals(60_000, 10).await.expect("removals");
        let mine = next.iter().filter(|removal| removal.location == location);
        store.finish_removals(&mine.map(|removal| removal.id).collect::<Vec<_>>()).await.expect("finished");
        if next.is_empty() {
            break;
        }
    }
    assert!(!is_noted(store, &location).await);
    store.create_table(&given).await.expect("a new table");
}

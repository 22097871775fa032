//! Databases.

use tereza_runtime::ErrorKind;

use super::{database, expect_error, new_database, parameters, table};
use crate::Store;
use crate::model::{Database, Parameters, PrincipalKind};

/// All tests of this module.
pub async fn run(store: &dyn Store) {
    the_default_database_always_exists(store).await;
    a_database_comes_back_as_it_was_given(store).await;
    missing_and_empty_values_stay_apart(store).await;
    names_are_sorted_and_folded(store).await;
    an_altered_database_keeps_its_name(store).await;
    missing_databases_are_not_found(store).await;
    a_name_is_given_once(store).await;
    only_an_empty_database_is_dropped_without_cascade(store).await;
}

/// `default` is there and stays.
pub async fn the_default_database_always_exists(store: &dyn Store) {
    assert!(store.databases().await.expect("names").contains(&"default".into()));
    assert_eq!(store.database("DEFAULT").await.expect("the default database").name, "default");
    expect_error(store.drop_database("default", true).await, ErrorKind::InvalidInput);
    assert!(store.database("default").await.is_ok());
}

/// Every field of a database is kept.
pub async fn a_database_comes_back_as_it_was_given(store: &dyn Store) {
    let given = Database {
        description: Some("all of it".into()),
        owner: Some("ada".into()),
        owner_kind: PrincipalKind::Role,
        parameters: parameters(&[("a", "1"), ("b", "")]),
        ..database(&format!("whole_{}", tereza_runtime::ids::new_id()))
    };
    store.create_database(&given).await.expect("a new database");
    assert_eq!(store.database(&given.name).await.expect("the database"), given);
}

/// NULL is not the empty text.
pub async fn missing_and_empty_values_stay_apart(store: &dyn Store) {
    let name = new_database(store).await;
    let empty = Database { description: Some(String::new()), owner: Some(String::new()), ..database(&name) };
    assert_eq!(store.database(&name).await.expect("the database").description, None);
    store.alter_database(&name, &empty).await.expect("altered");
    assert_eq!(store.database(&name).await.expect("the database"), empty);
}

/// Names come back in lower case and in order, and are found in any case.
pub async fn names_are_sorted_and_folded(store: &dyn Store) {
    let name = new_database(store).await;
    let second = format!("A{}", name.to_uppercase());
    store.create_database(&database(&second)).await.expect("a new database");
    let names = store.databases().await.expect("names");
    assert!(names.is_sorted());
    assert!(names.contains(&name) && names.contains(&second.to_lowercase()));
    assert_eq!(store.database(&name.to_uppercase()).await.expect("the database").name, name);
}

/// Altering replaces everything else.
pub async fn an_altered_database_keeps_its_name(store: &dyn Store) {
    let name = new_database(store).await;
    let first = Database { parameters: parameters(&[("a", "1"), ("b", "2")]), ..database(&name) };
    store.alter_database(&name, &first).await.expect("altered");
    let second = Database {
        name: "something_else".into(),
        description: Some("new".into()),
        location: "s3://bucket/new".into(),
        owner: Some("bob".into()),
        owner_kind: PrincipalKind::Group,
        parameters: parameters(&[("b", "3"), ("c", "4")]),
    };
    store.alter_database(&name.to_uppercase(), &second).await.expect("altered");
    assert_eq!(store.database(&name).await.expect("the database"), Database { name, ..second });
}

/// Every method that names a database says when there is none.
pub async fn missing_databases_are_not_found(store: &dyn Store) {
    let missing = "no_such_database";
    expect_error(store.database(missing).await, ErrorKind::NotFound);
    expect_error(store.alter_database(missing, &database(missing)).await, ErrorKind::NotFound);
    expect_error(store.drop_database(missing, true).await, ErrorKind::NotFound);
    expect_error(store.tables(missing).await, ErrorKind::NotFound);
    expect_error(store.table(missing, "t").await, ErrorKind::NotFound);
    let error = expect_error(store.create_table(&table(missing, "t")).await, ErrorKind::NotFound);
    assert!(error.message().contains(missing), "{error}");
}

/// A name that is taken, in whatever case, is refused.
pub async fn a_name_is_given_once(store: &dyn Store) {
    let name = new_database(store).await;
    let error = expect_error(store.create_database(&database(&name)).await, ErrorKind::AlreadyExists);
    assert!(error.message().contains(&name), "{error}");
    expect_error(store.create_database(&database(&name.to_uppercase())).await, ErrorKind::AlreadyExists);
}

/// Dropping a database with tables needs `cascade`, and then takes them along.
pub async fn only_an_empty_database_is_dropped_without_cascade(store: &dyn Store) {
    let name = new_database(store).await;
    let with_parameters = Database { parameters: parameters(&[("a", "1")]), ..database(&name) };
    store.alter_database(&name, &with_parameters).await.expect("altered");
    store.create_table(&table(&name, "t")).await.expect("a new table");
    store.create_table(&table(&name, "u")).await.expect("a new table");
    expect_error(store.drop_database(&name, false).await, ErrorKind::InvalidInput);
    assert_eq!(store.tables(&name).await.expect("tables").len(), 2);
    store.drop_database(&name, true).await.expect("dropped");
    expect_error(store.database(&name).await, ErrorKind::NotFound);
    store.create_database(&database(&name)).await.expect("made again");
    assert_eq!(store.tables(&name).await.expect("tables"), []);
    assert_eq!(store.database(&name).await.expect("the database").parameters, Parameters::new());
    store.drop_database(&name, false).await.expect("an empty one is dropped");
}

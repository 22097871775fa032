//! Functions.

use tereza_runtime::ErrorKind;

use super::{expect_error, new_database};
use crate::Store;
use crate::model::Function;

/// Runs the tests of this file.
pub async fn run(store: &dyn Store) {
    a_function_comes_back_as_it_was_given(store).await;
    a_function_is_altered_and_dropped(store).await;
    functions_keep_their_database(store).await;
}

/// What is given is what is got, with the name in lower case and the time set by the store.
pub async fn a_function_comes_back_as_it_was_given(store: &dyn Store) {
    let database = new_database(store).await;
    let given = Function { name: "MyFn".into(), ..function(&database, "b") };
    store.create_function(&given).await.expect("a new function");
    store.create_function(&function(&database, "a")).await.expect("a new function");
    let found = store.function(&database.to_uppercase(), "MYFN").await.expect("the function");
    assert!(found.create_time_s > 0);
    assert_eq!(found, Function { name: "myfn".into(), create_time_s: found.create_time_s, ..given.clone() });
    assert_eq!(store.functions(&database).await.expect("names"), ["a", "myfn"]);
    expect_error(store.create_function(&given).await, ErrorKind::AlreadyExists);
    expect_error(store.create_function(&function("no_such_database", "f")).await, ErrorKind::NotFound);
    expect_error(store.function(&database, "nowhere").await, ErrorKind::NotFound);
    expect_error(store.functions("no_such_database").await, ErrorKind::NotFound);
}

/// Nothing of the old one is left, and a dropped one is gone.
pub async fn a_function_is_altered_and_dropped(store: &dyn Store) {
    let database = new_database(store).await;
    store.create_function(&function(&database, "f")).await.expect("a new function");
    store.create_function(&function(&database, "taken")).await.expect("a new function");
    let made = store.function(&database, "f").await.expect("the function");
    let taken = Function { name: "taken".into(), ..made.clone() };
    expect_error(store.alter_function(&database, "f", &taken).await, ErrorKind::AlreadyExists);
    let other = Function { name: "g".into(), class_name: None, owner: None, resources: vec![], ..made };
    store.alter_function(&database, "F", &other).await.expect("altered");
    assert_eq!(store.function(&database, "g").await.expect("the function"), other);
    store.drop_function(&database, "G").await.expect("dropped");
    expect_error(store.drop_function(&database, "g").await, ErrorKind::NotFound);
    assert_eq!(store.functions(&database).await.expect("names"), ["taken"]);
}

/// A database with a function is not empty.
pub async fn functions_keep_their_database(store: &dyn Store) {
    let database = new_database(store).await;
    store.create_function(&function(&database, "f")).await.expect("a new function");
    expect_error(store.drop_database(&database, false).await, ErrorKind::InvalidInput);
    store.drop_database(&database, true).await.expect("dropped");
}

fn function(database: &str, name: &str) -> Function {
    Function {
        database: database.into(),
        name: name.into(),
        class_name: Some("org.example.Fn".into()),
        owner: Some("ada".into()),
        create_time_s: 0,
        resources: vec![(1, "s3://code/a.jar".into()), (2, "s3://code/b".into())],
    }
}

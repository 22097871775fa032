//! Constraints.

use tereza_runtime::{ErrorKind, ids};

use super::{column, expect_error, new_database, partitioned_table, strings, table};
use crate::Store;
use crate::model::{Constraint, Reference, Rule, Table};

/// Runs the tests of this file.
pub async fn run(store: &dyn Store) {
    constraints_come_back_as_they_were_given(store).await;
    a_constraint_that_does_not_fit_is_refused(store).await;
    constraints_follow_their_columns(store).await;
    constraints_go_with_their_tables(store).await;
}

/// What is given is what is got, with names in lower case.
pub async fn constraints_come_back_as_they_were_given(store: &dyn Store) {
    let database = new_database(store).await;
    store.create_table(&table(&database, "parent")).await.expect("a new table");
    let key = constraint(&database, "parent", &["ID"], Rule::PrimaryKey);
    let unique = constraint(&database, "parent", &["name", "id"], Rule::Unique);
    store.add_constraints(&[key.clone(), unique.clone()]).await.expect("two keys");
    let reference = reference(&database, &["id", "name"]);
    let given = [
        constraint(&database, "T", &["id", "name"], Rule::ForeignKey(reference)),
        constraint(&database, "t", &["ds"], Rule::NotNull),
        constraint(&database, "t", &["id"], Rule::Default("7".into())),
        constraint(&database, "t", &["k"], Rule::Check("k > 0".into())),
        Constraint { relied: true, ..constraint(&database, "t", &[], Rule::Check("k > id".into())) },
    ];
    store.create_table_with(&partitioned_table(&database, "t"), &given, &[]).await.expect("a new table");
    let mut expected: Vec<Constraint> = given.iter().map(folded).collect();
    expected.sort_by(|one, two| one.name.cmp(&two.name));
    assert_eq!(store.constraints(&database, "T").await.expect("constraints"), expected);
    let mut keys = vec![folded(&key), folded(&unique)];
    keys.sort_by(|one, two| one.name.cmp(&two.name));
    assert_eq!(store.constraints(&database, "parent").await.expect("keys"), keys);
    let foreign = store.foreign_keys_to(&database, "Parent").await.expect("foreign keys");
    assert_eq!(foreign, [folded(&given[0])]);
    assert_eq!(store.foreign_keys_to(&database, "t").await.expect("foreign keys"), []);

    let unnamed = Constraint { name: String::new(), ..constraint(&database, "t", &["name"], Rule::NotNull) };
    store.add_constraints(&[unnamed.clone(), unnamed]).await.expect("two without names");
    let found = store.constraints(&database, "t").await.expect("constraints");
    assert_eq!(found.iter().filter(|found| found.name.starts_with("nn_")).count(), 2);
}

/// All or none, and only what there is to say something of.
pub async fn a_constraint_that_does_not_fit_is_refused(store: &dyn Store) {
    let database = new_database(store).await;
    for name in ["parent", "t"] {
        store.create_table(&table(&database, name)).await.expect("a new table");
    }
    let add = async |constraint: &Constraint| store.add_constraints(std::slice::from_ref(constraint)).await;
    let key = constraint(&database, "t", &["id"], Rule::PrimaryKey);
    add(&key).await.expect("a primary key");
    let second = constraint(&database, "t", &["name"], Rule::PrimaryKey);
    expect_error(add(&second).await, ErrorKind::InvalidInput);
    expect_error(
        add(&Constraint { name: key.name.to_uppercase(), rule: Rule::Unique, ..key.clone() }).await,
        ErrorKind::AlreadyExists,
    );
    expect_error(add(&constraint(&database, "t", &["nope"], Rule::Unique)).await, ErrorKind::InvalidInput);
    expect_error(add(&constraint(&database, "t", &[], Rule::Unique)).await, ErrorKind::InvalidInput);
    expect_error(add(&constraint(&database, "t", &["id", "ID"], Rule::Unique)).await, ErrorKind::InvalidInput);
    expect_error(add(&constraint(&database, "nope", &["id"], Rule::Unique)).await, ErrorKind::NotFound);
    let long = Rule::Default("x".repeat(401));
    expect_error(add(&constraint(&database, "t", &["id"], long)).await, ErrorKind::InvalidInput);

    let foreign = constraint(&database, "t", &["id"], Rule::ForeignKey(reference(&database, &["id"])));
    expect_error(add(&foreign).await, ErrorKind::InvalidInput);
    add(&constraint(&database, "parent", &["id"], Rule::Unique)).await.expect("a key to refer to");
    add(&foreign).await.expect("a foreign key");
    let other_type = constraint(&database, "t", &["name"], Rule::ForeignKey(reference(&database, &["id"])));
    expect_error(add(&other_type).await, ErrorKind::InvalidInput);

    let good = constraint(&database, "u", &["name"], Rule::NotNull);
    let bad = constraint(&database, "u", &["nope"], Rule::NotNull);
    let made = store.create_table_with(&table(&database, "u"), &[good, bad], &[]).await;
    expect_error(made, ErrorKind::InvalidInput);
    expect_error(store.table(&database, "u").await, ErrorKind::NotFound);
}

/// Also where the place of a column changes, or its name; a constraint goes with its column.
pub async fn constraints_follow_their_columns(store: &dyn Store) {
    let database = new_database(store).await;
    store.create_table(&partitioned_table(&database, "t")).await.expect("a new table");
    let key = constraint(&database, "t", &["name"], Rule::PrimaryKey);
    let check = constraint(&database, "t", &["id"], Rule::Check("id > 0".into()));
    let not_null = constraint(&database, "t", &["k"], Rule::NotNull);
    store.add_constraints(&[key.clone(), check.clone(), not_null.clone()]).await.expect("constraints");
    let named = async |name: &str| {
        let found = store.constraints(&database, name).await.expect("constraints");
        found.into_iter().map(|constraint| (constraint.name, constraint.columns)).collect::<Vec<_>>()
    };
    let expect = |entries: &[(&Constraint, &str)]| {
        let mut all: Vec<_> =
            entries.iter().map(|(own, column)| (own.name.to_lowercase(), strings(&[column]))).collect();
        all.sort();
        all
    };
    let alter = async |name: &str, change: fn(&mut Table)| {
        let mut new = store.table(&database, name).await.expect("the table").table;
        change(&mut new);
        store.alter_table(&database, name, None, &new).await.expect("altered");
    };
    alter("t", |table| table.storage.columns.insert(0, column("first", "int"))).await;
    assert_eq!(named("t").await, expect(&[(&key, "name"), (&check, "id"), (&not_null, "k")]));
    alter("t", |table| table.storage.columns[2].name = "title".into()).await;
    alter("t", |table| table.name = "renamed".into()).await;
    assert_eq!(named("renamed").await, expect(&[(&key, "title"), (&check, "id"), (&not_null, "k")]));
    alter("renamed", |table| table.storage.columns.truncate(2)).await;
    assert_eq!(named("renamed").await, expect(&[(&check, "id"), (&not_null, "k")]));
}

/// And when they are dropped themselves.
pub async fn constraints_go_with_their_tables(store: &dyn Store) {
    let database = new_database(store).await;
    let make = async || {
        for name in ["parent", "t"] {
            store.create_table(&table(&database, name)).await.expect("a new table");
        }
        let key = constraint(&database, "parent", &["id"], Rule::PrimaryKey);
        let foreign = constraint(&database, "t", &["id"], Rule::ForeignKey(reference(&database, &["id"])));
        let constraints =
            [Constraint { name: "my_key".into(), ..key }, Constraint { name: "MY_REF".into(), ..foreign }]
                .map(|own| Constraint { name: format!("{}_{database}", own.name), ..own });
        store.add_constraints(&constraints).await.expect("constraints");
    };
    make().await;
    let name = format!("my_ref_{database}");
    expect_error(store.drop_constraint(&database, "t", "nope").await, ErrorKind::NotFound);
    expect_error(store.drop_constraint(&database, "nope", &name).await, ErrorKind::NotFound);
    store.drop_constraint(&database, "T", &name.to_uppercase()).await.expect("dropped");
    assert_eq!(store.constraints(&database, "t").await.expect("constraints"), []);
    store.drop_table(&database, "parent").await.expect("dropped");
    store.drop_table(&database, "t").await.expect("dropped");
    make().await;
    store.drop_table(&database, "parent").await.expect("dropped");
    assert_eq!(store.constraints(&database, "t").await.expect("constraints"), []);
    store.drop_table(&database, "t").await.expect("dropped");
    make().await;
    store.drop_table(&database, "t").await.expect("dropped");
    assert_eq!(store.foreign_keys_to(&database, "parent").await.expect("foreign keys"), []);
}

/// With a name that nothing else has.
fn constraint(database: &str, table: &str, columns: &[&str], rule: Rule) -> Constraint {
    Constraint {
        name: format!("C_{}", ids::new_id()),
        database: database.into(),
        table: table.into(),
        columns: strings(columns),
        rule,
        enabled: true,
        validated: false,
        relied: false,
    }
}

/// Of the table `parent`.
fn reference(database: &str, columns: &[&str]) -> Reference {
    Reference {
        database: database.into(),
        table: "parent".into(),
        columns: strings(columns),
        update_rule: Some(0),
        delete_rule: Some(3),
    }
}

fn folded(constraint: &Constraint) -> Constraint {
    Constraint {
        name: constraint.name.to_lowercase(),
        table: constraint.table.to_lowercase(),
        columns: constraint.columns.iter().map(|column| column.to_lowercase()).collect(),
        ..constraint.clone()
    }
}

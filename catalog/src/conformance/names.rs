//! Names and texts that try to be more than that.

use tereza_runtime::{ErrorKind, ids};

use super::{
    column, database, expect_error, new_database, parameters, partition, partitioned_table, table, with_additions,
};
use crate::Store;
use crate::model::{Column, Parameters, Storage, Table};
use crate::store::PartitionFilter;

/// Texts that a careless store trips over.
const HOSTILE: [&str; 11] = [
    "'; drop table TBLS; --",
    "\"quoted\" `and` [more]",
    "100%_of%20it",
    "back\\slash/and/slash",
    "zażółć 表 🦀",
    "e\u{301} is not é",
    "a=b/c=d",
    "? ?1 :name $1",
    " spaces around ",
    "null",
    "__HIVE_DEFAULT_PARTITION__x",
];

/// All tests of this module.
pub async fn run(store: &dyn Store) {
    hostile_names_are_only_names(store).await;
    hostile_texts_are_only_texts(store).await;
    hostile_partition_values_are_only_values(store).await;
    impossible_names_are_refused(store).await;
    long_comments_are_cut(store).await;
}

/// Names of databases, tables and columns.
pub async fn hostile_names_are_only_names(store: &dyn Store) {
    let suffix = ids::new_id();
    // Those with a slash are not names of folders, and are refused.
    for name in HOSTILE.iter().filter(|name| !name.contains(['/', '\\'])) {
        let name = name.to_lowercase();
        let name = name.as_str();
        let database_name = format!("{name}{suffix}");
        store.create_database(&database(&database_name)).await.expect(name);
        let given = Table {
            storage: Storage {
                columns: vec![column(name, "int"), column("plain", "int")],
                bucket_columns: vec![name.into()],
                ..Storage::default()
            },
            ..table(&database_name, name)
        };
        store.create_table(&given).await.expect(name);
        let returned = store.table(&database_name, name).await.expect(name).table;
        assert_eq!(returned, with_additions(&given, &returned));
        assert_eq!(store.tables(&database_name).await.expect(name).len(), 1);
        store.drop_database(&database_name, true).await.expect(name);
    }
}

/// Parameters, owners, locations and comments, also in upper case.
pub async fn hostile_texts_are_only_texts(store: &dyn Store) {
    let database = new_database(store).await;
    for (at, text) in HOSTILE.into_iter().chain(["MiXeD Case", "line\nbreak\ttab"]).enumerate() {
        let given = Table {
            owner: Some(text.into()),
            storage: Storage {
                columns: vec![Column { comment: Some(text.into()), ..column("id", "int") }],
                location: Some(text.into()),
                parameters: parameters(&[(text, text)]),
                ..Storage::default()
            },
            parameters: parameters(&[(text, text)]),
            ..table(&database, &format!("t{at}"))
        };
        store.create_table(&given).await.expect(text);
        let returned = store.table(&database, &given.name).await.expect(text).table;
        assert_eq!(returned, with_additions(&given, &returned));
    }
}

/// Values of partition keys, which are part of names, and are case sensitive.
pub async fn hostile_partition_values_are_only_values(store: &dyn Store) {
    let database = new_database(store).await;
    store.create_table(&partitioned_table(&database, "t")).await.expect("a new table");
    let values: Vec<&str> = HOSTILE.into_iter().chain(["Upper", "upper", "line\nbreak", "*?#{[]^:"]).collect();
    let given: Vec<_> = values.iter().flat_map(|a| [partition(&[a, "x"]), partition(&["x", a])]).collect();
    assert_eq!(store.add_partitions(&database, "t", &given, false).await.expect("added"), given.len());
    for value in values {
        let first = PartitionFilter { values: vec![Some(vec![value.into()])] };
        let second = PartitionFilter { values: vec![None, Some(vec![value.into()])] };
        for (filter, expected) in [(first, [value, "x"]), (second, ["x", value])] {
            let found = store.partitions(&database, "t", &filter, None).await.expect(value);
            assert_eq!(found.len(), 1, "{value}");
            assert_eq!(found[0].values, expected);
        }
    }
}

/// Empty names, control characters, and names longer than a metastore keeps.
pub async fn impossible_names_are_refused(store: &dyn Store) {
    let name = new_database(store).await;
    let long = |chars: usize| "é".repeat(chars);
    for bad in ["", "a\nb", "nul\0", "a/b", "a\\b", "..", &long(129)] {
        let error = expect_error(store.create_database(&database(bad)).await, ErrorKind::InvalidInput);
        assert!(error.to_string().len() < 500, "{error}");
    }
    for bad in ["", "a\rb", "a/b", "..", &long(257)] {
        expect_error(store.create_table(&table(&name, bad)).await, ErrorKind::InvalidInput);
    }
    store.create_table(&table(&name, &long(256))).await.expect("256 characters fit");
    assert!(store.table(&name, &long(256).to_uppercase()).await.is_ok());

    let with_columns = |columns| Table { storage: Storage { columns, ..Storage::default() }, ..table(&name, "t") };
    expect_error(store.create_table(&with_columns(vec![column(&long(768), "int")])).await, ErrorKind::InvalidInput);
    let with_parameters = |parameters: Parameters| Table { parameters, ..table(&name, "t") };
    expect_error(store.create_table(&with_parameters(parameters(&[("", "v")]))).await, ErrorKind::InvalidInput);
    expect_error(store.create_table(&with_parameters(parameters(&[(&long(257), "v")]))).await, ErrorKind::InvalidInput);
    assert_eq!(store.tables(&name).await.expect("tables").len(), 1, "nothing of the refused is left");

    store.create_table(&partitioned_table(&name, "p")).await.expect("a new table");
    let too_long = [partition(&["fits", "1"]), partition(&[&long(257), "1"])];
    expect_error(store.add_partitions(&name, "p", &too_long, true).await, ErrorKind::InvalidInput);
    assert_eq!(store.partition_names(&name, "p").await.expect("names"), Vec::<String>::new());
}

/// A metastore keeps 256 characters of a column's comment.
pub async fn long_comments_are_cut(store: &dyn Store) {
    let database = new_database(store).await;
    let columns = vec![Column { comment: Some("é".repeat(300)), ..column("id", "int") }];
    let given = Table { storage: Storage { columns, ..Storage::default() }, ..table(&database, "t") };
    store.create_table(&given).await.expect("a new table");
    let returned = store.table(&database, "t").await.expect("the table").table;
    assert_eq!(returned.storage.columns[0].comment, Some("é".repeat(256)));
}

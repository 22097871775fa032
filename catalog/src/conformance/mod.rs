//! What every implementation of [`Store`] must pass: one small test per promise, to be run one by one or all by [`run`].
//!
//! The tests make their own databases, so they may run on a store that holds other things, and at once. They panic with
//! what was wrong, like any test.

pub mod commits;
pub mod constraints;
pub mod databases;
pub mod functions;
pub mod jobs;
pub mod locks;
pub mod methods;
pub mod names;
pub mod partitions;
pub mod privileges;
pub mod races;
pub mod removals;
pub mod schemas;
pub mod statistics;
pub mod tables;

use std::fmt::Debug;

use tereza_runtime::{Error, ErrorKind, Result, ids};

use crate::Store;
use crate::model::{
    Column, Database, Parameters, Partition, PrincipalKind, Serde, Storage, Table, TableKind, partition_name,
};

/// Runs all tests, one after the other.
pub async fn run(store: &dyn Store) {
    databases::run(store).await;
    tables::run(store).await;
    names::run(store).await;
    partitions::run(store).await;
    statistics::run(store).await;
    commits::run(store).await;
    jobs::run(store).await;
    functions::run(store).await;
    constraints::run(store).await;
    privileges::run(store).await;
    methods::run(store).await;
    locks::run(store).await;
    removals::run(store).await;
    races::run(store).await;
}

/// Makes an empty database with a name that nothing else has.
async fn new_database(store: &dyn Store) -> String {
    let name = format!("conformance_{}", ids::new_id());
    store.create_database(&database(&name)).await.expect("a new database");
    name
}

/// Makes a table `t` partitioned by `ds` and `k` in a new database.
async fn new_partitioned_table(store: &dyn Store) -> (String, &'static str) {
    let database = new_database(store).await;
    store.create_table(&partitioned_table(&database, "t")).await.expect("a new table");
    (database, "t")
}

/// Makes a table `t` without partitions in a new database.
async fn new_table(store: &dyn Store) -> (String, &'static str) {
    let database = new_database(store).await;
    store.create_table(&table(&database, "t")).await.expect("a new table");
    (database, "t")
}

fn database(name: &str) -> Database {
    Database {
        name: name.into(),
        description: None,
        location: format!("file:///warehouse/{name}.db"),
        owner: None,
        owner_kind: PrincipalKind::User,
        parameters: Parameters::new(),
    }
}

fn table(database: &str, name: &str) -> Table {
    Table {
        database: database.into(),
        name: name.into(),
        kind: TableKind::Managed,
        owner: Some("ada".into()),
        owner_kind: PrincipalKind::User,
        create_time_s: 0,
        last_access_time_s: 0,
        retention: 0,
        storage: storage(&format!("file:///warehouse/{database}.db/{name}")),
        partition_keys: Vec::new(),
        parameters: Parameters::new(),
        view_original_text: None,
        view_expanded_text: None,
    }
}

fn partitioned_table(database: &str, name: &str) -> Table {
    Table { partition_keys: vec![column("ds", "string"), column("k", "int")], ..table(database, name) }
}

fn partition(values: &[&str]) -> Partition {
    let keys: Vec<Column> = values.iter().map(|_| column("k", "string")).collect();
    let folder = partition_name(&keys, &strings(values));
    Partition {
        values: strings(values),
        create_time_s: 0,
        last_access_time_s: 0,
        storage: storage(&format!("file:///warehouse/p/{folder}")),
        parameters: Parameters::new(),
    }
}

fn storage(location: &str) -> Storage {
    Storage {
        columns: vec![column("id", "bigint"), column("name", "string")],
        location: Some(location.into()),
        input_format: Some("org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat".into()),
        output_format: Some("org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat".into()),
        serde: Serde {
            name: None,
            library: Some("org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe".into()),
            parameters: parameters(&[("serialization.format", "1")]),
        },
        ..Storage::default()
    }
}

fn column(name: &str, type_name: &str) -> Column {
    Column { name: name.into(), type_name: type_name.into(), comment: None }
}

fn parameters(entries: &[(&str, &str)]) -> Parameters {
    entries.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
}

fn strings(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| (*value).into()).collect()
}

/// A table as it was given, with what the store adds to it taken from what it returned.
fn with_additions(given: &Table, returned: &Table) -> Table {
    let mut expected = given.clone();
    expected.create_time_s = returned.create_time_s;
    for key in ["transient_lastDdlTime", "EXTERNAL"] {
        if let Some(value) = returned.parameters.get(key) {
            expected.parameters.entry(key.into()).or_insert_with(|| value.clone());
        }
    }
    expected
}

/// A partition as it was given, with what the store adds to it taken from what it returned.
fn with_partition_additions(given: &Partition, returned: &Partition) -> Partition {
    let mut expected = given.clone();
    expected.create_time_s = returned.create_time_s;
    if let Some(value) = returned.parameters.get("transient_lastDdlTime") {
        expected.parameters.entry("transient_lastDdlTime".into()).or_insert_with(|| value.clone());
    }
    expected
}

/// Panics unless `outcome` is an error of `kind`.
fn expect_error<T: Debug>(outcome: Result<T>, kind: ErrorKind) -> Error {
    match outcome {
        Ok(value) => panic!("expected an error of kind {kind}, got {value:?}"),
        Err(error) if error.kind() == kind => error,
        Err(error) => panic!("expected an error of kind {kind}, got {error:?}"),
    }
}

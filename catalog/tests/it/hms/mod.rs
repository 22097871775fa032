//! A running metastore as the catalog: over a metastore of Tereza in this process, and over a real one where one is installed.

mod conformance;
mod death;
mod others;
mod proxy;
mod real;
mod refusal;

use std::path::Path;
use std::time::Duration;

use tereza_catalog::conformance::commits::begin_as;
use tereza_catalog::model::{Column, Parameters, Partition, Serde, Storage, Table, TableKind};
use tereza_catalog::store::Commit;
use tereza_catalog::store::hms::{HmsStore, Settings};
use tereza_catalog::{SqliteStore, Store};
use tereza_runtime::clock::Clock;
use tereza_thrift::client;

/// More calls than a commit makes.
const CALLS_MAX: usize = 40;
/// Longer than the background takes to do what is decided.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks at whether it is done.
const ASKED_EVERY: Duration = Duration::from_millis(10);

/// What the metastore has of a table: its rows, and those of each partition.
type Truth = (i64, Vec<(String, i64)>);

/// Waits that end within a test.
fn settings() -> Settings {
    let client = client::Settings {
        connect_timeout: Duration::from_secs(5),
        call_timeout: Duration::from_secs(20),
        ..client::Settings::default()
    };
    Settings {
        client,
        lock_patience: Duration::from_secs(20),
        settle_every: Duration::from_millis(200),
        ..Settings::default()
    }
}

/// A store on the metastore at an address, with its own file in a folder.
async fn open(address: &str, folder: &Path, name: &str, clock: &Clock) -> HmsStore {
    let url = format!("thrift://{address}");
    HmsStore::connect(&url, settings(), folder.join(name), clock.clone()).await.unwrap()
}

/// A write that has begun, and the bare commit that ends it.
async fn begin(store: &dyn Store, table: &str) -> Commit {
    begin_as(store, "test", "web", table).await
}

fn storage(location: String) -> Storage {
    Storage {
        columns: vec![Column { name: "id".into(), type_name: "bigint".into(), comment: None }],
        location: Some(location),
        input_format: Some("org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat".into()),
        output_format: Some("org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat".into()),
        serde: Serde {
            library: Some("org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe".into()),
            ..Serde::default()
        },
        ..Storage::default()
    }
}

/// A table `web.<name>` partitioned by `ds`, in the warehouse.
fn table(warehouse: &str, name: &str) -> Table {
    Table {
        owner_kind: Default::default(),
        database: "web".into(),
        name: name.into(),
        kind: TableKind::Managed,
        owner: Some("ada".into()),
        create_time_s: 0,
        last_access_time_s: 0,
        retention: 0,
        storage: storage(format!("{warehouse}/web.db/{name}")),
        partition_keys: vec![Column { name: "ds".into(), type_name: "string".into(), comment: None }],
        parameters: Parameters::new(),
        view_original_text: None,
        view_expanded_text: None,
    }
}

fn partition(table: &Table, value: &str) -> Partition {
    let location = format!("{}/ds={value}", table.storage.location.as_deref().unwrap());
    Partition {
        values: vec![value.into()],
        create_time_s: 0,
        last_access_time_s: 0,
        storage: storage(location),
        parameters: Parameters::new(),
    }
}

fn database(warehouse: &str) -> tereza_catalog::model::Database {
    tereza_catalog::model::Database {
        owner_kind: Default::default(),
        name: "web".into(),
        description: None,
        location: format!("{warehouse}/web.db"),
        owner: None,
        parameters: Parameters::new(),
    }
}

/// A parameter as a number, 0 if it is not there.
fn number(parameters: &Parameters, key: &str) -> i64 {
    parameters.get(key).map_or(0, |text| text.parse().unwrap())
}

/// Value and rows of each partition.
async fn rows(store: &dyn Store, table: &str) -> Vec<(String, i64)> {
    let found = store.partitions("web", table, &Default::default(), None).await.unwrap();
    found.into_iter().map(|one| (one.values[0].clone(), number(&one.parameters, "numRows"))).collect()
}

/// What the metastore itself has, when its own catalog is opened.
async fn truth(store: &SqliteStore, table: &str) -> Option<Truth> {
    let found = store.table("web", table).await.ok()?;
    Some((number(&found.table.parameters, "numRows"), rows(store, table).await))
}

/// A table with the partition `a` of 5 rows.
async fn with_one(store: &HmsStore, table: &Table) {
    let mut one = partition(table, "a");
    one.parameters.insert("numRows".into(), "5".into());
    let mut table = table.clone();
    table.parameters.insert("numRows".into(), "5".into());
    store.create_table(&table).await.unwrap();
    store.add_partitions("web", &table.name, &[one], false).await.unwrap();
}

fn counted(value: &str, count: i64) -> (Vec<String>, Vec<(String, i64)>) {
    (vec![value.to_owned()], vec![("numRows".to_owned(), count)])
}

/// 3 rows for the partition `a`, which is there, and 4 for `b`, which is not.
async fn insert(store: &HmsStore, table: &Table) -> Commit {
    Commit {
        add_partitions: vec![partition(table, "a"), partition(table, "b")],
        table_increments: vec![("numRows".into(), 7)],
        partition_increments: vec![counted("a", 3), counted("b", 4)],
        ..begin(store, &table.name).await
    }
}

/// Of the partition `a`, which gets 9 rows in the partition `c` in its place.
async fn overwrite(store: &HmsStore, table: &Table) -> Commit {
    let seen = store.table("web", &table.name).await.unwrap();
    let rows = || [("numRows".to_owned(), "9".to_owned())].into();
    Commit {
        expected_version: Some(seen.version),
        expected_table: Some(seen.id),
        drop_partitions: vec![vec!["a".into()]],
        add_partitions: vec![partition(table, "c")],
        table_parameters: rows(),
        partition_parameters: vec![(vec!["c".into()], rows())],
        ..begin(store, &table.name).await
    }
}

/// A table with the partition `d` of 4 rows.
async fn new_table(store: &HmsStore, table: &Table) -> Commit {
    Commit {
        create_table: Some(table.clone()),
        add_partitions: vec![partition(table, "d")],
        table_increments: vec![("numRows".into(), 4)],
        partition_increments: vec![counted("d", 4)],
        ..begin(store, &table.name).await
    }
}

async fn one_more(store: &HmsStore, table: &str) -> tereza_runtime::Result<i64> {
    let commit = Commit { table_increments: vec![("numRows".into(), 1)], ..begin(store, table).await };
    store.commit(&commit).await
}

/// Asks again until it is so; whether it came to be.
async fn until(is_so: impl AsyncFn() -> bool) -> bool {
    let asking = async {
        while !is_so().await {
            tokio::time::sleep(ASKED_EVERY).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.is_ok()
}

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
async fn truth(store: &SqliteStore, table: &str) -> Option<(i64, Vec<(String, i64)>)> {
    let found = store.table("web", table).await.ok()?;
    Some((number(&found.table.parameters, "numRows"), rows(store, table).await))
}

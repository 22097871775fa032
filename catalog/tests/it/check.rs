//! What is wrong in a catalog is found, each thing once, and in a good one nothing.

use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection, query};
use tereza_catalog::check::{Expected, Kind, Report, check};
use tereza_catalog::model::*;
use tereza_catalog::store::{LockRequest, StagedFile, Write};
use tereza_catalog::{SqliteStore, Store};
use tereza_runtime::Error;
use tereza_runtime::clock::Clock;

const SERDE: &str = "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe";
const INPUT: &str = "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat";

fn storage(location: &str) -> Storage {
    Storage {
        columns: vec![column("id", "bigint"), column("name", "string")],
        location: Some(location.into()),
        input_format: Some(INPUT.into()),
        serde: Serde { library: Some(SERDE.into()), ..Serde::default() },
        ..Storage::default()
    }
}

fn column(name: &str, type_name: &str) -> Column {
    Column { name: name.into(), type_name: type_name.into(), comment: None }
}

fn table(name: &str, location: &str) -> Table {
    Table {
        owner_kind: Default::default(),
        database: "default".into(),
        name: name.into(),
        kind: TableKind::External,
        owner: None,
        create_time_s: 0,
        last_access_time_s: 0,
        retention: 0,
        storage: storage(location),
        partition_keys: Vec::new(),
        parameters: Parameters::new(),
        view_original_text: None,
        view_expanded_text: None,
    }
}

fn partition(value: &str, location: &str) -> Partition {
    Partition {
        values: vec![value.into()],
        create_time_s: 0,
        last_access_time_s: 0,
        storage: storage(location),
        parameters: Parameters::new(),
    }
}

fn expected(clock: &Clock) -> Expected {
    Expected {
        is_readable: |_, storage| match storage.serde.library.as_deref() {
            Some(SERDE) => Ok(()),
            other => Err(Error::unsupported(format!("serde {other:?}"))),
        },
        now_ms: clock.unix_ms(),
        lock_timeout_ms: 300_000,
        alive_owner: "me".into(),
    }
}

fn found(report: &Report) -> Vec<(&str, Kind)> {
    let mut found: Vec<_> = report.findings.iter().map(|one| (one.object.as_str(), one.kind)).collect();
    found.sort();
    found
}

#[tokio::test]
async fn each_thing_that_is_wrong_is_found_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalog.db");
    let clock = Clock::fixed(1_700_000_000_000);
    let store = SqliteStore::open(&path, clock.clone()).await.unwrap();
    let keys = vec![column("ds", "string")];
    let parted = Table { partition_keys: keys, ..table("parted", "s3://b/parted") };
    store.create_table(&table("good", "s3://b/good")).await.unwrap();
    store.create_table(&table("good_2", "s3://b/good-2")).await.unwrap();
    store.create_table(&Table { kind: TableKind::View, ..table("v", "s3://b/good") }).await.unwrap();
    store.create_table(&parted).await.unwrap();
    let of_good =
        ["a", "b/c"].map(|value| partition(value, &format!("s3://b/parted/ds={}", value.replace('/', "%2F"))));
    store.add_partitions("default", "parted", &of_good, false).await.unwrap();
    let clean = check(&store, &expected(&clock)).await.unwrap();
    assert_eq!((clean.tables, clean.partitions, clean.more), (4, 2, 0));
    assert_eq!(clean.findings, []);

    store.create_table(&table("same", "s3a://b//good/")).await.unwrap_err();
    store.create_table(&table("same", "s3a://b/good/")).await.unwrap();
    store.create_table(&table("inside", "s3://b/good-2/x/y")).await.unwrap();
    let long = Parameters::from([("long".to_owned(), "x".repeat(5_000))]);
    let short = Parameters::from([("long".to_owned(), "not yet".to_owned())]);
    let bad = [
        Partition { parameters: short, ..partition("A", "s3://b/parted/ds=A") },
        partition("twice", "s3://b/parted/ds=a"),
        partition("away", "s3://b/good/z"),
        partition("whole", "s3://b/parted"),
    ];
    store.add_partitions("default", "parted", &bad, false).await.unwrap();
    let mut odd = table("odd", "s3://b/odd");
    odd.parameters = long;
    odd.storage.columns = vec![column("id", "bigint"), column("x", "array<text>"), column("y", "int")];
    odd.storage.serde.library = Some("org.example.Serde".into());
    store.create_table(&odd).await.unwrap();
    let statistics = ColumnStatistics {
        column: "y".into(),
        type_name: "int".into(),
        num_nulls: 0,
        num_distincts: Some(1),
        range: Range::None,
        avg_length: None,
        max_length: None,
        num_trues: None,
        num_falses: None,
        last_analyzed_s: 0,
    };
    store.set_column_statistics("default", "odd", None, &[statistics]).await.unwrap();
    let lock = LockRequest {
        parts: vec![LockPart { mode: LockMode::Exclusive, database: "default".into(), table: None, partition: None }],
        user: "ada".into(),
        host: "there".into(),
        agent: None,
    };
    let lock = store.lock(&lock, 1_000_000_000).await.unwrap().id;
    clock.advance_ms(301_000);
    let write = Write {
        id: "w".into(),
        database: "default".into(),
        table: "good".into(),
        owner: "dead".into(),
        began_ms: 0,
        staged: vec![StagedFile { target: "s3://b/good/f".into(), staged: "s3://b/good/_tereza/f".into() }],
    };
    store.begin_write(&write).await.unwrap();
    store.begin_write(&Write { id: "mine".into(), owner: "me".into(), ..write }).await.unwrap();
    // What no method of a store does, and other programs did.
    let mut file = SqliteConnection::connect(&format!("sqlite:{}", path.display())).await.unwrap();
    for change in [
        "UPDATE COLUMNS_V2 SET COLUMN_NAME = 'ID' WHERE COLUMN_NAME = 'y'",
        "UPDATE PARTITION_PARAMS SET PARAM_VALUE = hex(zeroblob(2500)) WHERE PARAM_KEY = 'long'",
        "UPDATE PARTITIONS SET PART_NAME = 'ds=other' WHERE PART_NAME = 'ds=b%2Fc'",
    ] {
        assert_eq!(query(change).execute(&mut file).await.unwrap().rows_affected(), 1, "{change}");
    }
    file.close().await.unwrap();

    let report = check(&store, &expected(&clock)).await.unwrap();
    let lock = format!("lock {lock}");
    let mut wanted = vec![
        ("default.inside", Kind::NestedLocation),
        ("default.same", Kind::SharedLocation),
        ("default.parted/ds=away", Kind::PartitionElsewhere),
        ("default.parted/ds=away", Kind::NestedLocation),
        ("default.parted/ds=whole", Kind::SharedLocation),
        ("default.parted/ds=twice", Kind::SharedLocation),
        ("default.parted/ds=a", Kind::PartitionTwice),
        ("default.parted/ds=A", Kind::Parameter),
        ("default.parted/ds=b%2Fc", Kind::PartitionName),
        ("default.odd", Kind::ColumnTwice),
        ("default.odd", Kind::Type),
        ("default.odd", Kind::Format),
        ("default.odd", Kind::Statistics),
        (lock.as_str(), Kind::Lock),
        ("write w", Kind::Write),
    ];
    wanted.sort();
    assert_eq!(found(&report), wanted, "{:#?}", report.findings);
    let words = |kind| report.findings.iter().find(|one| one.kind == kind).unwrap().words.clone();
    assert_eq!(words(Kind::Lock), "of ada was last renewed 301 s ago");
    assert_eq!(words(Kind::Type), "column x has the type 'array<text>'");
    assert_eq!(words(Kind::Format), "cannot be read: serde Some(\"org.example.Serde\")");
}

//! The store on MariaDB: the conformance suite, several stores on one database, and what only MySQL does.

pub(crate) mod metastore;
mod opening;
mod races;
mod trouble;

use futures::future::join_all;
use sqlx::{AssertSqlSafe, MySqlConnection, query_scalar, raw_sql};
use tereza_catalog::conformance;
use tereza_catalog::model::{Column, Database, Parameters, Partition, Storage, Table, TableKind};
use tereza_catalog::store::{Commit, Write};
use tereza_catalog::{MySqlStore, Store};
use tereza_runtime::ids;

use crate::mariadb::new_database;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms() {
    let Some(database) = new_database().await else { return };
    let store = database.store().await;
    conformance::run(&store).await;
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms_in_the_character_set_of_a_metastore() {
    // What a metastore's own schema file makes is latin1: all but the names and texts of other languages.
    let Some(database) = new_database().await else { return };
    let store = database.store().await;
    let mut conn = database.connect().await;
    to_latin1(&mut conn).await;
    let store: &dyn Store = &store;
    conformance::databases::run(store).await;
    conformance::tables::run(store).await;
    conformance::partitions::run(store).await;
    conformance::statistics::run(store).await;
    conformance::commits::run(store).await;
    conformance::functions::run(store).await;
    conformance::locks::run(store).await;
    conformance::constraints::run(store).await;
    conformance::privileges::run(store).await;
    conformance::methods::run(store).await;

    let with_comment = |name: &str, text: &str| {
        let parameters = Parameters::from([("comment".into(), text.into())]);
        Table { parameters, ..table("default", name) }
    };
    store.create_table(&with_comment("known", "zaé")).await.unwrap();
    let error = store.create_table(&with_comment("unknown", "表")).await.unwrap_err();
    assert_eq!(error.kind(), tereza_runtime::ErrorKind::InvalidInput, "{error}");
    assert!(error.message().contains("character set"), "{error}");
    let found = store.table("default", "known").await.unwrap();
    assert_eq!(found.table.parameters["comment"], "zaé");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_given_up_happens_whole_or_not_at_all() {
    let Some(database) = new_database().await else { return };
    let store = database.store().await;
    store.create_table(&partitioned("t")).await.unwrap();
    let partitions: Vec<Partition> = (0..100).map(|n| partition(&[&n.to_string(), "x"])).collect();
    for polls in 0..40 {
        let mut call = store.add_partitions("default", "t", &partitions, true);
        for _ in 0..polls {
            if futures::poll!(&mut call).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(call);
        let names = store.partition_names("default", "t").await.unwrap().len();
        assert!(names == 0 || names == 100, "{names} after {polls} polls");
        if names > 0 {
            break;
        }
    }
    assert_eq!(store.drop_table("default", "t").await.unwrap().name, "t");
}

#[tokio::test]
async fn names_that_differ_in_spaces_at_the_end_are_refused() {
    // The metastore's collations ignore them, so that both are one key.
    let Some(database) = new_database().await else { return };
    let store = database.store().await;
    store.create_table(&partitioned("t")).await.unwrap();
    store.add_partitions("default", "t", &[partition(&["a", "x"])], false).await.unwrap();
    let error = store.add_partitions("default", "t", &[partition(&["a", "x "])], false).await.unwrap_err();
    assert_eq!(error.kind(), tereza_runtime::ErrorKind::AlreadyExists, "{error}");
    assert_eq!(store.partition_names("default", "t").await.unwrap(), ["ds=a/k=x"]);
}

#[tokio::test]
async fn rows_are_those_that_a_metastore_writes() {
    let Some(database) = new_database().await else { return };
    let store = database.store().await;
    store.create_table(&partitioned("T")).await.unwrap();
    let odd =
        Partition { storage: Storage { columns: vec![column("odd")], ..Storage::default() }, ..partition(&["c", ""]) };
    let odd_too = Partition { values: vec!["d".into(), "/".into()], ..odd.clone() };
    let given = [partition(&["a", "1"]), partition(&["b", "1"]), odd, odd_too];
    store.add_partitions("default", "t", &given, false).await.unwrap();
    let mut conn = database.connect().await;
    let mut text = async |sql: &'static str| {
        let rows: Vec<String> = query_scalar(sql).fetch_all(&mut conn).await.expect(sql);
        rows.join(" ")
    };
    assert_eq!(text("SELECT CONCAT(TBL_NAME, ' ', OWNER_TYPE) FROM TBLS").await, "t USER");
    assert_eq!(
        text("SELECT PART_NAME FROM PARTITIONS ORDER BY PART_ID").await,
        "ds=a/k=1 ds=b/k=1 ds=c/k=__HIVE_DEFAULT_PARTITION__ ds=d/k=%2F"
    );
    assert_eq!(
        text("SELECT CONCAT('[', PART_KEY_VAL, ']') FROM PARTITION_KEY_VALS ORDER BY PART_ID, INTEGER_IDX").await,
        "[a] [1] [b] [1] [c] [] [d] [/]"
    );
    // The table and the two partitions with its columns share a list; the two others share one of their own.
    assert_eq!(text("SELECT CAST(CD_ID AS CHAR) FROM SDS ORDER BY SD_ID").await, "1 1 1 2 2");
    // Blocks of ids are taken before there is anything to use them for.
    assert_eq!(
        text(
            "SELECT CONCAT(REPLACE(SEQUENCE_NAME, 'org.apache.hadoop.hive.metastore.model.', ''), '=', NEXT_VAL) \
              FROM SEQUENCE_TABLE ORDER BY SEQUENCE_NAME"
        )
        .await,
        "MColumnDescriptor=101 MDatabase=2 MGlobalPrivilege=2 MNotificationLog=1 MPartition=101 MRole=3 MSerDeInfo=101 \
         MStorageDescriptor=101 MTable=101"
    );
    let values: Vec<Vec<String>> = given.into_iter().map(|partition| partition.values).collect();
    store.drop_partitions("default", "t", &values, false).await.unwrap();
    assert_eq!(text("SELECT CAST(CD_ID AS CHAR) FROM CDS ORDER BY CD_ID").await, "1");
}

/// Gives all tables of the metastore the character set that its schema file gives them, but for two that a foreign key
/// of text holds together.
async fn to_latin1(conn: &mut MySqlConnection) {
    let select = "SELECT CAST(TABLE_NAME AS CHAR) FROM information_schema.TABLES \
                  WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME NOT LIKE 'TZ%' AND TABLE_NAME NOT IN ('CTLGS', 'DBS')";
    let tables: Vec<String> = query_scalar(select).fetch_all(&mut *conn).await.unwrap();
    raw_sql("SET foreign_key_checks = 0").execute(&mut *conn).await.unwrap();
    for table in tables {
        let alter = format!("ALTER TABLE {table} CONVERT TO CHARACTER SET latin1 COLLATE latin1_bin");
        raw_sql(AssertSqlSafe(alter)).execute(&mut *conn).await.unwrap();
    }
}

/// Rows of all tables but those of ids, to see that nothing is left behind.
async fn rows_by_table(conn: &mut MySqlConnection) -> Vec<(String, i64)> {
    let select = "SELECT CAST(TABLE_NAME AS CHAR) FROM information_schema.TABLES \
                  WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME <> 'SEQUENCE_TABLE' ORDER BY 1";
    let tables: Vec<String> = query_scalar(select).fetch_all(&mut *conn).await.unwrap();
    let mut counts = Vec::new();
    for table in tables {
        let count = query_scalar(AssertSqlSafe(format!("SELECT COUNT(*) FROM {table}")));
        let count = count.fetch_one(&mut *conn).await.unwrap();
        counts.push((table, count));
    }
    counts
}

/// A commit that adds one row to the count of a table.
fn one_row(name: &str) -> Commit {
    Commit { table_increments: vec![("numRows".into(), 1)], ..Commit::bare(ids::new_id(), "default", name) }
}

/// Begins the write of a commit.
async fn begin(store: &dyn Store, commit: &Commit) -> tereza_runtime::Result<()> {
    let write = Write {
        id: commit.id.clone(),
        database: commit.database.clone(),
        table: commit.table.clone(),
        owner: "a test".into(),
        began_ms: 1,
        staged: Vec::new(),
    };
    store.begin_write(&write).await
}

/// Several stores that share nothing but the database, as processes do.
async fn stores(database: &crate::mariadb::TestDatabase, count: usize) -> Vec<MySqlStore> {
    join_all((0..count).map(|_| database.store())).await
}

fn database(name: &str) -> Database {
    Database {
        name: name.into(),
        description: None,
        location: format!("file:///{name}"),
        owner: None,
        owner_kind: Default::default(),
        parameters: Parameters::from([("a".into(), "b".into())]),
    }
}

fn table(database: &str, name: &str) -> Table {
    Table {
        database: database.into(),
        name: name.into(),
        kind: TableKind::Managed,
        owner: None,
        create_time_s: 0,
        last_access_time_s: 0,
        retention: 0,
        storage: Storage { columns: vec![column("id")], ..Storage::default() },
        partition_keys: Vec::new(),
        parameters: Parameters::new(),
        view_original_text: None,
        view_expanded_text: None,
        owner_kind: Default::default(),
    }
}

fn partitioned(name: &str) -> Table {
    Table { partition_keys: vec![column("ds"), column("k")], ..table("default", name) }
}

fn partition(values: &[&str]) -> Partition {
    Partition {
        values: values.iter().map(|value| (*value).into()).collect(),
        create_time_s: 0,
        last_access_time_s: 0,
        storage: Storage { columns: vec![column("id")], ..Storage::default() },
        parameters: Parameters::new(),
    }
}

fn column(name: &str) -> Column {
    Column { name: name.into(), type_name: "string".into(), comment: None }
}

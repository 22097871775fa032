//! A real Hive Metastore 3.1 as the catalog, where one is installed (`TEREZA_TEST_HIVE_HOME`).

use tereza_catalog::conformance::{commits, partitions};
use tereza_catalog::store::Commit;
use tereza_catalog::{MySqlStore, Store};
use tereza_runtime::ErrorKind;
use tereza_runtime::clock::Clock;
use tereza_thrift::hive::*;

use super::{begin, database, number, open, partition, rows, table};
use crate::mariadb::new_database;
use crate::mysql::metastore::{Hive, home};
use crate::support::text;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_metastore_is_a_catalog() {
    let (Some(home), Some(at)) = (home(), new_database().await) else { return };
    at.store().await.close().await;
    let hive = Hive::start(&home, &at).await;
    let (address, clock) = (format!("127.0.0.1:{}", hive.port), Clock::system());
    let one = open(&address, hive.folder.path(), "one.db", &clock).await;
    let other = open(&address, hive.folder.path(), "other.db", &clock).await;
    let warehouse = format!("file:{}/warehouse", hive.folder.path().display());
    one.create_database(&database(&warehouse)).await.unwrap();
    let given = table(&warehouse, "t");
    one.create_table(&given).await.unwrap();
    assert_eq!(one.create_table(&given).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(one.table("web", "nope").await.unwrap_err().kind(), ErrorKind::NotFound);

    // INSERTs of two, then an OVERWRITE of each from the same version.
    let insert = async |store: &dyn Store, value: &str| {
        let rows = |value: &str| (vec![value.to_owned()], vec![("numRows".to_owned(), 2)]);
        let commit = Commit {
            add_partitions: vec![partition(&given, "shared"), partition(&given, value)],
            table_increments: vec![("numRows".into(), 4)],
            partition_increments: vec![rows("shared"), rows(value)],
            ..begin(store, "t").await
        };
        store.commit(&commit).await.unwrap();
    };
    tokio::join!(insert(&one, "a"), insert(&other, "b"));
    for store in [&one, &other] {
        assert_eq!(rows(store, "t").await, [("a".into(), 2), ("b".into(), 2), ("shared".into(), 4)]);
        assert_eq!(number(&store.table("web", "t").await.unwrap().table.parameters, "numRows"), 8);
    }
    let seen = [one.table_version("web", "t").await.unwrap(), other.table_version("web", "t").await.unwrap()];
    let overwrite = async |store: &dyn Store, version| {
        let commit = Commit {
            expected_version: Some(version),
            drop_partitions: vec![vec!["a".into()], vec!["b".into()], vec!["shared".into()]],
            add_partitions: vec![partition(&given, "c")],
            ..begin(store, "t").await
        };
        store.commit(&commit).await.map_err(|error| error.kind())
    };
    let outcomes = tokio::join!(overwrite(&one, seen[0]), overwrite(&other, seen[1]));
    assert!([outcomes.0.is_ok(), outcomes.1.is_ok()].contains(&false) && outcomes.0.is_ok() != outcomes.1.is_ok());
    assert_eq!(rows(&other, "t").await.len(), 1);

    // What a client of Hive sees, and what it changes is another version.
    let mut client = hive.client().await;
    let get = GetTableArgs { dbname: text("web"), tbl_name: text("t") };
    let mut theirs = client.get_table(get).await.unwrap();
    let version = one.table_version("web", "t").await.unwrap();
    theirs.parameters.as_mut().unwrap().insert("k".into(), "v".into());
    let alter = AlterTableArgs { dbname: text("web"), tbl_name: text("t"), new_tbl: Some(theirs) };
    client.alter_table(alter).await.unwrap();
    assert_eq!(overwrite(&one, version).await, Err(ErrorKind::Conflict));
    let names = one.partition_names("web", "t").await.unwrap();
    assert_eq!(names, ["ds=c"]);

    // CREATE TABLE AS, and the cases of the suite that say most about commits.
    let made = Commit {
        create_table: Some(table(&warehouse, "made")),
        add_partitions: vec![partition(&given, "x")],
        table_increments: vec![("numRows".into(), 3)],
        ..begin(&one, "made").await
    };
    one.commit(&made).await.unwrap();
    assert_eq!(number(&other.table("web", "made").await.unwrap().table.parameters, "numRows"), 3);
    commits::a_commit_that_fails_leaves_nothing(&one).await;
    commits::a_stale_version_is_refused(&one).await;
    commits::a_commit_asked_for_twice_happens_once(&one).await;
    commits::numbers_are_added(&one).await;
    partitions::a_filter_picks_by_any_key(&one).await;
    partitions::dropping_is_all_or_nothing(&one).await;
    one.drop_table("web", "t").await.unwrap();
    assert_eq!(one.locks(0).await.unwrap(), []);
    let behind = MySqlStore::open(&at.url(), Default::default(), clock).await.unwrap();
    assert_eq!(behind.table("web", "t").await.unwrap_err().kind(), ErrorKind::NotFound);
}

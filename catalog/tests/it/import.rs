//! A metastore's names copied into another catalog.

use std::sync::Arc;

use sqlx::{AssertSqlSafe, query_scalar, raw_sql};
use tereza_catalog::conformance;
use tereza_catalog::hive::Remote;
use tereza_catalog::import::{FromStore, Imported, import};
use tereza_catalog::store::mysql;
use tereza_catalog::{MySqlStore, SqliteStore, Store};
use tereza_runtime::ErrorKind;
use tereza_runtime::clock::Clock;
use tereza_thrift::client;
use tereza_thrift::hive::*;

use crate::mariadb::new_database;
use crate::support::*;

struct Copy {
    store: Arc<SqliteStore>,
    remote: Remote,
}

impl Copy {
    async fn of(metastore: &Metastore) -> Self {
        let path = metastore.folder.path().join("copy.db");
        let store = Arc::new(SqliteStore::open(path, metastore.clock.clone()).await.unwrap());
        let remote = Remote::new(&format!("thrift://{}", metastore.address), client::Settings::default()).unwrap();
        Self { store, remote }
    }

    async fn import(&self, databases: &[&str]) -> tereza_runtime::Result<Imported> {
        let databases: Vec<String> = databases.iter().map(|name| (*name).to_owned()).collect();
        import(&self.remote, self.store.as_ref(), &databases, &mut |_, _| {}).await
    }
}

fn day(n: usize) -> String {
    format!("2024-{:02}-{:02}", n / 28 + 1, n % 28 + 1)
}

#[tokio::test]
async fn all_names_are_copied_and_again_only_what_is_new() {
    let metastore = Metastore::new().await;
    let mut client = metastore.client().await;
    make_web(&mut client).await;
    make(&mut client, partitioned_table("events")).await;
    let view = Table {
        table_type: text("VIRTUAL_VIEW"),
        view_original_text: text("SELECT 1"),
        view_expanded_text: text("SELECT 1"),
        ..partitioned_table("seen")
    };
    make(&mut client, Table { partition_keys: None, ..view }).await;
    let new_parts = (0..40).map(|n| partition("events", &[&day(n), "7", "2024-02-29"])).collect();
    client.add_partitions(AddPartitionsArgs { new_parts: Some(new_parts) }).await.unwrap();

    let copy = Copy::of(&metastore).await;
    let first = copy.import(&[]).await.unwrap();
    assert_eq!((first.databases, first.tables, first.partitions), (2, 2, 40), "{first:?}");
    assert_eq!((first.known, &first.different[..], &first.problems[..]), (0, &[][..], &[][..]));
    let (copied, original) = (copy.store.as_ref(), metastore.store().await);
    for name in ["default", "web"] {
        assert_eq!(copied.database(name).await.unwrap(), original.database(name).await.unwrap());
        assert_eq!(copied.tables(name).await.unwrap(), original.tables(name).await.unwrap());
    }
    for name in ["events", "seen"] {
        assert_eq!(copied.table("web", name).await.unwrap().table, original.table("web", name).await.unwrap().table);
    }
    let all = Default::default();
    let partitions = copied.partitions("web", "events", &all, None).await.unwrap();
    assert_eq!(partitions, original.partitions("web", "events", &all, None).await.unwrap());

    let new_parts = Some(vec![partition("events", &["x/y=z", "7", "2024-02-29"])]);
    client.add_partitions(AddPartitionsArgs { new_parts }).await.unwrap();
    make(&mut client, partitioned_table("later")).await;
    let again = copy.import(&["WEB"]).await.unwrap();
    assert_eq!((again.databases, again.tables, again.partitions), (0, 1, 1), "{again:?}");
    assert_eq!((again.known, &again.different[..], &again.problems[..]), (3, &[][..], &[][..]));

    let mut changed = copied.table("web", "seen").await.unwrap().table;
    changed.view_original_text = Some("SELECT 2".to_owned());
    copied.alter_table("web", "seen", None, &changed).await.unwrap();
    let differing = copy.import(&[]).await.unwrap();
    assert_eq!(differing.different, ["table web.seen"]);
    assert_eq!(copied.table("web", "seen").await.unwrap().table.view_original_text.as_deref(), Some("SELECT 2"));
}

#[tokio::test]
async fn what_cannot_be_reached_or_is_not_there_is_said() {
    let metastore = Metastore::new().await;
    let copy = Copy::of(&metastore).await;
    let error = copy.import(&["nope"]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("no database nope"), "{error}");
    let address = metastore.address;
    metastore.end().await;
    let error = copy.import(&[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

/// A metastore's database as the metastore left it, without a metastore; nothing is made or changed in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_come_out_of_a_database_that_is_only_read() {
    const COUNTS: &str = "SELECT CONCAT_WS(' ', (SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE()), \
                          (SELECT COUNT(*) FROM TBLS), (SELECT COUNT(*) FROM PARTITIONS), (SELECT MAX(NEXT_VAL) FROM SEQUENCE_TABLE))";
    let Some(database) = new_database().await else { return };
    let original = database.store().await;
    let settings = || mysql::Settings { read_only: true, ..mysql::Settings::default() };
    let url = database.url();
    let open = || MySqlStore::open(&url, settings(), Clock::system());
    conformance::tables::a_renamed_table_keeps_what_it_has(&original).await;
    conformance::partitions::partitions_are_found_by_their_names(&original).await;
    conformance::statistics::a_table_and_its_partitions_have_their_own(&original).await;
    conformance::functions::functions_keep_their_database(&original).await;
    conformance::functions::a_function_comes_back_as_it_was_given(&original).await;
    original.close().await;
    let mut conn = database.connect().await;
    let own: Vec<String> = query_scalar(
        "SELECT CAST(TABLE_NAME AS CHAR) FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME LIKE 'TZ%' \
         ORDER BY TABLE_NAME = 'TZ_WRITES'",
    )
    .fetch_all(&mut conn)
    .await
    .unwrap();
    raw_sql(AssertSqlSafe(format!("SET FOREIGN_KEY_CHECKS = 0; DROP TABLE {}", own.join(", "))))
        .execute(&mut conn)
        .await
        .unwrap();
    let before: String = query_scalar(COUNTS).fetch_one(&mut conn).await.unwrap();

    let source = FromStore(open().await.unwrap());
    let folder = tempfile::tempdir().unwrap();
    let copy = SqliteStore::open(folder.path().join("copy.db"), Clock::system()).await.unwrap();
    let done = import(&source, &copy, &[], &mut |_, _| {}).await.unwrap();
    assert!(done.databases > 4 && done.tables >= 3 && done.partitions >= 5 && done.functions == 2, "{done:?}");
    assert_eq!((&done.different[..], &done.problems[..]), (&[][..], &[][..]));
    for database in source.0.databases().await.unwrap() {
        assert_eq!(copy.tables(&database).await.unwrap(), source.0.tables(&database).await.unwrap());
        for (name, _) in copy.tables(&database).await.unwrap() {
            let (mut one, other) =
                (copy.table(&database, &name).await.unwrap(), source.0.table(&database, &name).await.unwrap());
            one.table.create_time_s = other.table.create_time_s;
            assert_eq!(one.table, other.table);
            let names = copy.partition_names(&database, &name).await.unwrap();
            assert_eq!(names, source.0.partition_names(&database, &name).await.unwrap());
            let statistics = copy.partition_statistics(&database, &name, &names).await.unwrap();
            assert_eq!(statistics.len(), source.0.partition_statistics(&database, &name, &names).await.unwrap().len());
        }
    }
    let again = import(&source, &copy, &[], &mut |_, _| {}).await.unwrap();
    assert_eq!((again.tables, again.partitions, again.functions, &again.different[..]), (0, 0, 0, &[][..]));
    // It is not changed, and cannot be.
    assert!(source.0.drop_database("default", true).await.is_err());
    let first = source.0.databases().await.unwrap().into_iter().find(|name| name != "default").unwrap();
    source.0.drop_database(&first, true).await.unwrap_err();
    assert_eq!(query_scalar::<_, String>(COUNTS).fetch_one(&mut conn).await.unwrap(), before);
    raw_sql("DROP TABLE VERSION").execute(&mut conn).await.unwrap();
    assert_eq!(open().await.unwrap_err().kind(), ErrorKind::InvalidInput);
}

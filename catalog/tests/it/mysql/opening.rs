//! What is opened, what is refused, and what is made.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use sqlx::{AssertSqlSafe, ConnectOptions, query_as, query_scalar, raw_sql};
use tereza_catalog::store::mysql::Settings;
use tereza_catalog::{MySqlStore, SqliteStore, Store};
use tereza_runtime::clock::Clock;
use tereza_runtime::{Error, ErrorKind};

use super::{database, partition, partitioned, rows_by_table, stores, table};
use crate::mariadb::{TestDatabase, new_database};

async fn refused(database: &TestDatabase, settings: Settings) -> Error {
    let error = MySqlStore::open(&database.url(), settings, Clock::system()).await.expect_err("it is refused");
    assert!(!format!("{error:?}").contains("ecret"), "the password is in: {error:?}");
    error
}

fn creating() -> Settings {
    Settings { create: true, ..Settings::default() }
}

#[tokio::test]
async fn an_empty_database_is_filled_only_when_asked() {
    let Some(database) = new_database().await else { return };
    let error = refused(&database, Settings::default()).await;
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(error.message().contains(&database.name) && error.hint().is_some(), "{error}");
    let store = database.store().await;
    assert_eq!(store.databases().await.unwrap(), ["default"]);
    store.close().await;
    let again = MySqlStore::open(&database.url(), Settings::default(), Clock::system()).await.unwrap();
    assert_eq!(again.databases().await.unwrap(), ["default"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_may_meet_it_empty() {
    let Some(database) = new_database().await else { return };
    for store in stores(&database, 4).await {
        assert_eq!(store.databases().await.unwrap(), ["default"]);
    }
}

#[tokio::test]
async fn what_a_dead_process_began_is_ended() {
    let Some(database) = new_database().await else { return };
    database.store().await.close().await;
    let mut conn = database.connect().await;
    let whole = rows_by_table(&mut conn).await;
    for died in [
        // While it made the metastore's tables.
        "SET foreign_key_checks = 0; DROP TABLE DBS, PARTITIONS, WM_POOL, VERSION, TZ_JOBS, TZ_STAGED; \
         DELETE FROM NEXT_LOCK_ID; UPDATE TZ_VERSION SET VERSION = -1",
        // With no word of how far it came.
        "DELETE FROM TZ_VERSION",
        // After a step, before that was noted.
        "UPDATE TZ_VERSION SET VERSION = 1",
        "DROP TABLE TZ_STAGED, TZ_WRITES; UPDATE TZ_VERSION SET VERSION = 0",
    ] {
        raw_sql(died).execute(&mut conn).await.expect(died);
        let store = database.store().await;
        assert_eq!(store.databases().await.unwrap(), ["default"], "{died}");
        store.close().await;
        assert_eq!(rows_by_table(&mut conn).await, whole, "{died}");
    }
}

#[tokio::test]
async fn other_versions_are_refused_with_what_to_do() {
    let Some(database) = new_database().await else { return };
    database.store().await.close().await;
    let mut conn = database.connect().await;
    for (version, hint) in [("2.3.0", "schematool"), ("3.0.0", "schematool"), ("4.0.0", "empty database")] {
        let update = format!("UPDATE VERSION SET SCHEMA_VERSION = '{version}'");
        raw_sql(AssertSqlSafe(update)).execute(&mut conn).await.unwrap();
        let error = refused(&database, creating()).await;
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.message().contains(version) && error.message().contains("3.1.0"), "{error}");
        assert!(error.hint().is_some_and(|said| said.contains(hint)), "{error}");
    }
    raw_sql("UPDATE VERSION SET SCHEMA_VERSION = '3.1.0'; UPDATE TZ_VERSION SET VERSION = 999")
        .execute(&mut conn)
        .await
        .unwrap();
    let error = refused(&database, creating()).await;
    assert!(error.message().contains("newer Tereza"), "{error}");
}

#[tokio::test]
async fn something_else_is_refused() {
    let Some(database) = new_database().await else { return };
    let mut conn = database.connect().await;
    raw_sql("CREATE TABLE SHOP (ID INT)").execute(&mut conn).await.unwrap();
    let error = refused(&database, creating()).await;
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert!(error.message().contains("SHOP"), "{error}");

    let missing = TestDatabase { name: "not_there".into(), ..database };
    assert_eq!(refused(&missing, creating()).await.kind(), ErrorKind::NotFound);
    for url in ["mysql://u:s%20ecret@127.0.0.1", "postgres://u:s%20ecret@127.0.0.1/d", "mysql://u:s ecret@[/d", "d"] {
        let error = MySqlStore::open(url, creating(), Clock::system()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(!format!("{error:?}").contains("ecret"), "{error:?}");
    }
    let wrong = missing.url().replace("ecret", "ecret2");
    let error = MySqlStore::open(&wrong, creating(), Clock::system()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let brief = Settings { connect_timeout: Duration::from_millis(500), ..creating() };
    let error = MySqlStore::open(&missing.url_by(free), brief, Clock::system()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}

#[tokio::test]
async fn a_metastore_that_never_ran_gets_the_default_database() {
    // As its schema file leaves it.
    let Some(database) = new_database().await else { return };
    database.store().await.close().await;
    let mut conn = database.connect().await;
    raw_sql(
        "DROP TABLE TZ_STAGED, TZ_WRITES, TZ_COMMITS, TZ_JOBS, TZ_TABLE_VERSIONS, TZ_VERSION; DELETE FROM DBS; \
         DELETE FROM SEQUENCE_TABLE WHERE SEQUENCE_NAME LIKE '%MDatabase'",
    )
    .execute(&mut conn)
    .await
    .unwrap();
    let store = MySqlStore::open(&database.url(), Settings::default(), Clock::system()).await.unwrap();
    assert_eq!(store.databases().await.unwrap(), ["default"]);
    let next: i64 = query_scalar("SELECT NEXT_VAL FROM SEQUENCE_TABLE WHERE SEQUENCE_NAME LIKE '%MDatabase'")
        .fetch_one(&mut conn)
        .await
        .unwrap();
    assert_eq!(next, 2);
}

#[tokio::test]
async fn the_tables_are_those_of_sqlite() {
    let Some(database) = new_database().await else { return };
    database.store().await.close().await;
    let mut conn = database.connect().await;
    let select = "SELECT CAST(TABLE_NAME AS CHAR), CAST(COLUMN_NAME AS CHAR) FROM information_schema.COLUMNS \
                  WHERE TABLE_SCHEMA = DATABASE()";
    let mine: Vec<(String, String)> = query_as(select).fetch_all(&mut conn).await.unwrap();
    let mut mine: BTreeSet<(String, String)> = mine.into_iter().collect();
    // What only this database needs.
    for (table, column) in [("TZ_STAGED", "STAGED_SEQ"), ("TZ_JOBS", "LIVE_NAME")] {
        assert!(mine.remove(&(table.into(), column.into())), "{table}.{column}");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalog.db");
    SqliteStore::open(&path, Clock::system()).await.unwrap().close().await;
    let mut conn = sqlx::sqlite::SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
    let select = "SELECT m.NAME, c.NAME FROM sqlite_master m JOIN pragma_table_info(m.NAME) c \
                  WHERE m.TYPE = 'table' AND m.NAME NOT LIKE 'sqlite%'";
    let theirs: Vec<(String, String)> = query_as(select).fetch_all(&mut conn).await.unwrap();
    assert_eq!(mine, theirs.into_iter().collect());
}

#[tokio::test]
async fn nothing_is_left_of_what_was_dropped() {
    let Some(at) = new_database().await else { return };
    let store = at.store().await;
    let mut conn = at.connect().await;
    let before = rows_by_table(&mut conn).await;
    store.create_database(&database("d")).await.unwrap();
    let whole = tereza_catalog::model::Table { database: "d".into(), ..partitioned("t") };
    store.create_table(&whole).await.unwrap();
    store.create_table(&table("d", "u")).await.unwrap();
    let added: Vec<_> = (0..3).map(|n| partition(&[&n.to_string(), "1"])).collect();
    store.add_partitions("d", "t", &added, false).await.unwrap();
    // Rows that only a metastore on the same database writes.
    let foreign = "INSERT INTO TBL_PRIVS (TBL_GRANT_ID, CREATE_TIME, GRANT_OPTION, TBL_ID)
          SELECT TBL_ID, 1, 1, TBL_ID FROM TBLS;
        INSERT INTO PART_PRIVS (PART_GRANT_ID, CREATE_TIME, GRANT_OPTION, PART_ID)
          SELECT PART_ID, 1, 1, PART_ID FROM PARTITIONS;
        INSERT INTO KEY_CONSTRAINTS (PARENT_TBL_ID, PARENT_INTEGER_IDX, POSITION, CONSTRAINT_NAME, CONSTRAINT_TYPE,
          ENABLE_VALIDATE_RELY) SELECT TBL_ID, 0, 1, TBL_NAME, 0, 0 FROM TBLS;
        INSERT INTO SKEWED_COL_NAMES (SD_ID, SKEWED_COL_NAME, INTEGER_IDX) SELECT SD_ID, 'id', 0 FROM SDS";
    raw_sql(foreign).execute(&mut conn).await.unwrap();
    store.drop_database("d", true).await.unwrap();
    assert_eq!(rows_by_table(&mut conn).await, before);
}

#[tokio::test]
async fn a_bound_prefix_of_keys_uses_the_index() {
    let Some(at) = new_database().await else { return };
    let store = at.store().await;
    store.create_table(&partitioned("t")).await.unwrap();
    let added: Vec<_> = (0..300).map(|n| partition(&[&n.to_string(), "1"])).collect();
    join_all(added.chunks(100).map(|chunk| store.add_partitions("default", "t", chunk, false))).await;
    let mut conn = at.connect().await;
    for condition in [
        "TBL_ID = 1 AND PART_NAME IN ('ds=1/k=1', 'ds=2/k=1')",
        "TBL_ID = 1 AND PART_NAME >= 'ds=1/' AND PART_NAME < 'ds=10' ORDER BY PART_NAME",
    ] {
        let explain =
            format!("ANALYZE TABLE PARTITIONS; EXPLAIN SELECT PART_ID, SD_ID FROM PARTITIONS WHERE {condition}");
        let plan = raw_sql(AssertSqlSafe(explain)).fetch_all(&mut conn).await.unwrap().pop().unwrap();
        let (key, extra): (String, String) = (sqlx::Row::get(&plan, "key"), sqlx::Row::get(&plan, "Extra"));
        assert_eq!(key, "UNIQUEPARTITION", "{condition}");
        assert!(!extra.contains("filesort"), "{condition}: {extra}");
    }
}

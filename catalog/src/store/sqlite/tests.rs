//! The conformance suite on a file and in memory, and what only SQLite does: opening, surviving, its tables.

use std::collections::HashSet;
use std::path::Path;

use futures::future::join_all;
use proptest::prelude::{ProptestConfig, any, prop, proptest};
use proptest::strategy::Strategy;
use sqlx::{AssertSqlSafe, query, query_as, query_scalar, raw_sql};
use tereza_runtime::ErrorKind;
use tereza_runtime::clock::Clock;

use super::SqliteStore;
use crate::conformance;
use crate::model::{
    Column, Database, LockMode, LockPart, Parameters, Partition, Storage, Table, TableKind, partition_name,
};
use crate::store::{LockRequest, PartitionFilter, Store};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms_in_a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder.path().join("catalog.db")).await;
    conformance::run(&store).await;
    conformance::schemas::run(&store).await;
    check_integrity(&store).await;
}

#[tokio::test]
async fn conforms_in_memory() {
    let store = SqliteStore::open_in_memory(Clock::system()).await.expect("a catalog in memory");
    conformance::run(&store).await;
    conformance::schemas::run(&store).await;
    check_integrity(&store).await;
}

#[tokio::test]
async fn a_file_is_there_again_after_a_drop_without_close() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("catalog.db");
    let store = open(&path).await;
    store.create_database(&database("kept")).await.expect("a new database");
    drop(store);
    let again = open(&path).await;
    assert_eq!(again.databases().await.expect("names"), ["default", "kept"]);
    again.close().await;
    assert_eq!(open(&path).await.databases().await.expect("names"), ["default", "kept"]);
    let error = again.databases().await.expect_err("a closed store answers nothing");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_dropped_transaction_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("catalog.db");
    let store = open(&path).await;
    store.create_table(&table("default", "t")).await.expect("a new table");
    let mut tx = store.begin_change().await.expect("a transaction");
    query("DELETE FROM TABLE_PARAMS").execute(&mut *tx).await.expect("deleted");
    super::sql::databases::create(&mut tx, &database("never")).await.expect("made");
    drop(tx);
    assert_eq!(store.databases().await.expect("names"), ["default"]);
    assert!(!store.table("default", "t").await.expect("the table").table.parameters.is_empty());
    store.create_database(&database("next")).await.expect("the next transaction is a new one");
    drop(store);
    assert_eq!(open(&path).await.databases().await.expect("names"), ["default", "next"]);
}

#[tokio::test]
async fn a_call_that_is_given_up_happens_whole_or_not_at_all() {
    let store = SqliteStore::open_in_memory(Clock::system()).await.expect("a catalog in memory");
    store.create_table(&partitioned("t")).await.expect("a new table");
    let partitions: Vec<Partition> = (0..300).map(|n| partition(&[&n.to_string(), "x"])).collect();
    for polls in 0..60 {
        let mut call = store.add_partitions("default", "t", &partitions, true);
        for _ in 0..polls {
            if futures::poll!(&mut call).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(call);
        let names = store.partition_names("default", "t").await.expect("names").len();
        assert!(names == 0 || names == 300, "{names} after {polls} polls");
    }
    assert_eq!(store.drop_table("default", "t").await.expect("dropped").name, "t");
    check_integrity(&store).await;
}

#[tokio::test]
async fn a_copy_taken_at_any_time_opens() {
    // What a power failure leaves is some state of the file and its log: here, of the middle of a run.
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("catalog.db");
    let store = open(&path).await;
    for n in 0..20 {
        store.create_database(&database(&format!("d{n:02}"))).await.expect("a new database");
        let copy = folder.path().join(format!("copy{n}.db"));
        std::fs::copy(&path, &copy).expect("copied");
        std::fs::copy(folder.path().join("catalog.db-wal"), folder.path().join(format!("copy{n}.db-wal")))
            .expect("copied");
        let copied = open(&copy).await;
        assert_eq!(copied.databases().await.expect("names").len(), n + 2, "all that was acknowledged is there");
        check_integrity(&copied).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_processes_may_share_a_file() {
    // Stores share nothing but the file, as processes do; all meet it empty.
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("catalog.db");
    let stores = join_all((0..4).map(|_| open(&path))).await;
    let names: Vec<String> = (0..20).map(|n| format!("d{n:02}")).collect();
    let calls = names.iter().zip(stores.iter().cycle()).map(|(name, store)| {
        let database = database(name);
        async move { store.create_database(&database).await }
    });
    for outcome in join_all(calls).await {
        outcome.expect("a new database");
    }
    for store in &stores {
        assert_eq!(store.databases().await.expect("names").len(), 21);
    }
    check_integrity(&stores[0]).await;
}

#[tokio::test]
async fn what_was_read_before_is_read_anew_after_any_change() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("catalog.db");
    let (here, there) = (open(&path).await, open(&path).await);
    here.create_table(&table("default", "t")).await.expect("a new table");
    let all = PartitionFilter::default();
    for n in 0..5 {
        // Both have it in their caches, then one changes it, by turns.
        let before = here.table("default", "t").await.expect("the table");
        assert_eq!(there.table("default", "T").await.expect("the table"), before);
        let (writer, reader) = if n % 2 == 0 { (&here, &there) } else { (&there, &here) };
        let mut changed = before.table.clone();
        changed.parameters.insert("n".into(), n.to_string());
        writer.alter_table("default", "t", Some(before.version), &changed).await.expect("altered");
        for store in [writer, reader] {
            let after = store.table("default", "t").await.expect("the table");
            assert_eq!(after.table.parameters.get("n"), Some(&n.to_string()));
            assert_eq!(after.version, before.version + 1);
            assert_eq!(store.table_version("default", "t").await.expect("its version"), after.version);
            assert_eq!(store.snapshot("default", "t", &all).await.expect("a snapshot").table, after);
        }
    }
    // A program that knows nothing of versions, as the `sqlite3` shell.
    change_file(&path, "UPDATE TABLE_PARAMS SET PARAM_VALUE = 'by hand' WHERE PARAM_KEY = 'n'").await;
    let found = here.table("default", "t").await.expect("the table");
    assert_eq!(found.table.parameters.get("n").map(String::as_str), Some("by hand"));
    there.drop_table("default", "t").await.expect("dropped");
    assert_eq!(here.table("default", "t").await.expect_err("it is gone").kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_table_is_read_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder.path().join("catalog.db")).await;
    store.create_table(&table("default", "t")).await.expect("a new table");
    let first = store.table("default", "t").await.expect("the table");
    // With all readers taken, nothing is read any more.
    let mut taken = Vec::new();
    while let Some(reader) = store.readers.try_acquire() {
        taken.push(reader);
    }
    while taken.len() < store.readers.options().get_max_connections() as usize {
        taken.push(store.readers.acquire().await.expect("a reader"));
    }
    assert_eq!(store.table("default", "t").await.expect("the table"), first);
    assert_eq!(store.table_version("default", "t").await.expect("its version"), first.version);
    assert_eq!(store.column_statistics("default", "t", None).await.expect("statistics"), []);
    let all = PartitionFilter::default();
    assert_eq!(store.snapshot("default", "t", &all).await.expect("a snapshot").table, first);
}

#[tokio::test]
async fn a_file_of_something_else_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("other.db");
    let refused = async |expected: &[&str]| {
        let error = SqliteStore::open(&path, Clock::system()).await.expect_err("it is no catalog");
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        for part in expected.iter().chain(&["other.db"]) {
            assert!(error.message().contains(part), "{part} is not in: {error}");
        }
    };
    std::fs::write(&path, "this is no database, however long it may be; ".repeat(100)).expect("written");
    refused(&["no SQLite file"]).await;

    std::fs::remove_file(&path).expect("removed");
    change_file(&path, "CREATE TABLE songs (title TEXT); CREATE TABLE albums (title TEXT)").await;
    refused(&["2 other tables", "albums, songs"]).await;

    std::fs::remove_file(&path).expect("removed");
    open(&path).await.close().await;
    change_file(&path, "UPDATE VERSION SET SCHEMA_VERSION = '2.3.0'").await;
    refused(&["2.3.0", "3.1.0"]).await;
    change_file(&path, "UPDATE VERSION SET SCHEMA_VERSION = '3.1.0'; UPDATE TZ_VERSION SET VERSION = VERSION + 99")
        .await;
    refused(&["newer Tereza", "has version"]).await;
    change_file(&path, "UPDATE TZ_VERSION SET VERSION = VERSION - 99").await;
    open(&path).await;

    let nowhere = SqliteStore::open(folder.path().join("no/such/folder.db"), Clock::system()).await;
    assert_eq!(nowhere.expect_err("there is no folder").kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn a_metastore_without_own_tables_is_taken_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("catalog.db");
    let store = open(&path).await;
    store.create_table(&table("default", "t")).await.expect("a new table");
    store.close().await;
    change_file(
        &path,
        "DROP TABLE TZ_VERSION; DROP TABLE TZ_TABLE_VERSIONS; DROP TABLE TZ_COMMITS; DROP TABLE TZ_STAGED; \
         DROP TABLE TZ_WRITES; DROP TABLE TZ_JOBS; DROP TABLE TZ_SCHEMA_CONTEXTS; DROP TABLE TZ_SCHEMAS; \
         DROP TABLE TZ_SCHEMA_REFERENCES; DROP TABLE TZ_SUBJECTS; DROP TABLE TZ_SUBJECT_VERSIONS; \
         DROP TABLE TZ_SCHEMA_SETTINGS; DROP TABLE TZ_REMOVALS; DROP TABLE TZ_OWNERS; DROP TABLE TZ_GIVEN_UP; DROP INDEX TZ_SDS_LOCATION; \
         DROP INDEX TZ_HIVE_LOCKS_TABLE; DROP INDEX TZ_HIVE_LOCKS_RENEWED;",
    )
    .await;
    let store = open(&path).await;
    let found = store.table("default", "t").await.expect("the table");
    assert!(found.version > 0);
    store.alter_table("default", "t", Some(found.version), &found.table).await.expect("altered");
    assert_eq!(store.pending_commits().await.expect("commits"), []);
    assert_eq!(store.jobs(None, 1).await.expect("jobs"), []);
}

#[tokio::test]
async fn a_damaged_file_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("damaged.db");
    let store = open(&path).await;
    store.create_table(&partitioned("t")).await.expect("a new table");
    let partitions: Vec<Partition> = (0..500).map(|n| partition(&[&n.to_string(), "x"])).collect();
    store.add_partitions("default", "t", &partitions, false).await.expect("added");
    store.close().await;
    let mut bytes = std::fs::read(&path).expect("read");
    // The first page, with the header and the list of tables, stays; the rest becomes noise.
    let noise = bytes.len() / 4;
    bytes[noise..].fill(0x5a);
    std::fs::write(&path, bytes).expect("written");
    let outcome = match SqliteStore::open(&path, Clock::system()).await {
        Ok(store) => store.partitions("default", "t", &PartitionFilter::default(), None).await.map(|_| ()),
        Err(error) => Err(error),
    };
    let error = outcome.expect_err("the file is damaged");
    assert_eq!(error.kind(), ErrorKind::Internal, "{error}");
    assert!(error.message().contains("damaged.db' is damaged"), "{error}");
}

#[tokio::test]
async fn a_full_disk_is_named_and_loses_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder.path().join("full.db")).await;
    store.create_table(&partitioned("t")).await.expect("a new table");
    // A bound on the pages of the file fails as a full disk does.
    let set_bound = async |pages: i64| {
        let mut writer = store.writer.acquire().await.expect("the writer");
        raw_sql(AssertSqlSafe(format!("PRAGMA max_page_count = {pages}"))).execute(&mut *writer).await.expect("set");
    };
    set_bound(1).await; // means: no more pages than there are
    let partitions: Vec<Partition> = (0..5_000).map(|n| partition(&[&n.to_string(), "x"])).collect();
    let error = store.add_partitions("default", "t", &partitions, false).await.expect_err("no space");
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error}");
    assert!(error.message().contains("full.db"), "{error}");
    assert_eq!(store.partition_names("default", "t").await.expect("names"), Vec::<String>::new());
    set_bound(1_000_000).await;
    assert_eq!(store.add_partitions("default", "t", &partitions, false).await.expect("added"), 5_000);
    check_integrity(&store).await;
}

#[tokio::test]
async fn acknowledged_commits_survive_a_loss_of_power() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder.path().join("catalog.db")).await;
    let mut writer = store.writer.acquire().await.expect("the writer");
    let journal: String = query_scalar("PRAGMA journal_mode").fetch_one(&mut *writer).await.expect("the mode");
    let synchronous: i64 = query_scalar("PRAGMA synchronous").fetch_one(&mut *writer).await.expect("the level");
    let foreign_keys: i64 = query_scalar("PRAGMA foreign_keys").fetch_one(&mut *writer).await.expect("the switch");
    assert_eq!((journal.as_str(), synchronous, foreign_keys), ("wal", 2, 1));
}

#[tokio::test]
async fn the_tables_are_those_of_the_metastore() {
    let store = SqliteStore::open_in_memory(Clock::fixed(7_000)).await.expect("a catalog in memory");
    let mut tx = store.begin_read().await.expect("a transaction");
    let tables: Vec<String> =
        query_scalar("SELECT NAME FROM sqlite_master WHERE TYPE = 'table' AND NAME NOT LIKE 'sqlite%' ORDER BY NAME")
            .fetch_all(&mut *tx)
            .await
            .expect("names");
    let own: Vec<&String> = tables.iter().filter(|name| name.starts_with("TZ_")).collect();
    let expected = [
        "TZ_COMMITS",
        "TZ_GIVEN_UP",
        "TZ_JOBS",
        "TZ_OWNERS",
        "TZ_REMOVALS",
        "TZ_SCHEMAS",
        "TZ_SCHEMA_CONTEXTS",
        "TZ_SCHEMA_REFERENCES",
        "TZ_SCHEMA_SETTINGS",
        "TZ_STAGED",
        "TZ_SUBJECTS",
        "TZ_SUBJECT_VERSIONS",
        "TZ_TABLE_VERSIONS",
        "TZ_VERSION",
        "TZ_WRITES",
    ];
    assert_eq!(own, expected);
    assert_eq!(tables.len() - own.len(), 74);
    for (column, expected) in [
        ("(SELECT SCHEMA_VERSION FROM VERSION)", "3.1.0"),
        ("(SELECT NAME || LOCATION_URI FROM CTLGS)", "hiveTBD"),
        ("(SELECT NAME || OWNER_NAME || OWNER_TYPE || CTLG_NAME FROM DBS)", "defaultpublicROLEhive"),
        ("(SELECT ROLE_NAME || CREATE_TIME FROM ROLES WHERE ROLE_ID = 2)", "public7"),
        ("(SELECT CAST(NEXT_EVENT_ID AS TEXT) FROM NOTIFICATION_SEQUENCE)", "1"),
    ] {
        let found: String =
            query_scalar(AssertSqlSafe(format!("SELECT {column}"))).fetch_one(&mut *tx).await.expect(column);
        assert_eq!(found, expected);
    }
}

#[tokio::test]
async fn every_foreign_key_has_an_index() {
    // Without one, SQLite reads a whole table of children for each parent that goes.
    let store = SqliteStore::open_in_memory(Clock::system()).await.expect("a catalog in memory");
    let mut tx = store.begin_read().await.expect("a transaction");
    let keys: Vec<(String, String)> = query_as(
        "SELECT m.NAME, f.\"from\" FROM sqlite_master m JOIN pragma_foreign_key_list(m.NAME) f WHERE m.TYPE = 'table'",
    )
    .fetch_all(&mut *tx)
    .await
    .expect("keys");
    assert!(keys.len() > 40);
    let indexed: Vec<(String, String)> = query_as(
        "SELECT m.NAME, c.NAME FROM sqlite_master m JOIN pragma_index_list(m.NAME) i JOIN pragma_index_info(i.NAME) c \
         WHERE m.TYPE = 'table' AND c.SEQNO = 0",
    )
    .fetch_all(&mut *tx)
    .await
    .expect("indexes");
    let indexed: HashSet<(String, String)> = indexed.into_iter().collect();
    for key in keys {
        assert!(indexed.contains(&key), "{key:?} has no index");
    }
}

#[tokio::test]
async fn rows_are_those_that_a_metastore_writes() {
    let store = SqliteStore::open_in_memory(Clock::fixed(9_000)).await.expect("a catalog in memory");
    store.create_table(&partitioned("T")).await.expect("a new table");
    let odd =
        Partition { storage: Storage { columns: vec![column("odd")], ..Storage::default() }, ..partition(&["c", ""]) };
    let odd_too = Partition { values: vec!["d".into(), "/".into()], ..odd.clone() };
    let given = [partition(&["a", "1"]), partition(&["b", "1"]), odd, odd_too];
    store.add_partitions("default", "t", &given, false).await.expect("added");
    let text = async |sql: &'static str| {
        let mut tx = store.begin_read().await.expect("a transaction");
        let rows: Vec<String> = query_scalar(sql).fetch_all(&mut *tx).await.expect(sql);
        rows.join(" ")
    };
    assert_eq!(text("SELECT TBL_NAME || ' ' || OWNER_TYPE || ' ' || CREATE_TIME FROM TBLS").await, "t USER 9");
    assert_eq!(
        text("SELECT PART_NAME FROM PARTITIONS ORDER BY PART_ID").await,
        "ds=a/k=1 ds=b/k=1 ds=c/k=__HIVE_DEFAULT_PARTITION__ ds=d/k=%2F"
    );
    assert_eq!(
        text("SELECT '[' || PART_KEY_VAL || ']' FROM PARTITION_KEY_VALS ORDER BY PART_ID, INTEGER_IDX").await,
        "[a] [1] [b] [1] [c] [] [d] [/]"
    );
    // The table and the two partitions with its columns share a list; the two others share one of their own.
    assert_eq!(text("SELECT CAST(CD_ID AS TEXT) FROM SDS ORDER BY SD_ID").await, "1 1 1 2 2");
    assert_eq!(text("SELECT CAST(COUNT(*) AS TEXT) FROM SERDES").await, "5");
    assert_eq!(
        text(
            "SELECT replace(SEQUENCE_NAME, 'org.apache.hadoop.hive.metastore.model.', '') || '=' || NEXT_VAL \
              FROM SEQUENCE_TABLE ORDER BY SEQUENCE_NAME"
        )
        .await,
        "MColumnDescriptor=3 MDatabase=2 MGlobalPrivilege=2 MNotificationLog=1 MPartition=5 MRole=3 MSerDeInfo=6 \
         MStorageDescriptor=6 MTable=2"
    );

    // The table gets new columns: the partitions keep the old list, which goes with the last of them.
    let changed = Table { storage: Storage { columns: vec![column("new")], ..Storage::default() }, ..partitioned("t") };
    store.alter_table("default", "t", None, &changed).await.expect("altered");
    assert_eq!(text("SELECT CAST(CD_ID AS TEXT) FROM SDS ORDER BY SD_ID").await, "3 1 1 2 2");
    let values = given.map(|partition| partition.values);
    store.drop_partitions("default", "t", &values[..3], false).await.expect("dropped");
    assert_eq!(text("SELECT CAST(CD_ID AS TEXT) FROM CDS ORDER BY CD_ID").await, "2 3");
}

#[tokio::test]
async fn nothing_is_left_of_what_was_dropped() {
    let store = SqliteStore::open_in_memory(Clock::system()).await.expect("a catalog in memory");
    let before = rows_by_table(&store).await;
    store.create_database(&database("d")).await.expect("a new database");
    let whole = Table {
        storage: Storage {
            bucket_columns: vec!["id".into()],
            sort_columns: vec![("id".into(), 1)],
            skewed: crate::model::Skewed {
                columns: vec!["id".into()],
                values: vec![vec!["1".into()], vec!["2".into()]],
                locations: [(vec!["1".to_owned()], "file:///d/t/1".to_owned())].into(),
            },
            parameters: Parameters::from([("a".into(), "b".into())]),
            serde: crate::model::Serde {
                parameters: Parameters::from([("a".into(), "b".into())]),
                ..Default::default()
            },
            ..partitioned("t").storage
        },
        database: "d".into(),
        ..partitioned("t")
    };
    store.create_table(&whole).await.expect("a new table");
    let partition = Partition { storage: whole.storage.clone(), ..partition(&["a", "1"]) };
    store.add_partitions("d", "t", std::slice::from_ref(&partition), false).await.expect("added");
    // Rows that only a metastore on the same database writes.
    let mut tx = store.begin_change().await.expect("a transaction");
    let foreign = raw_sql(
        "INSERT INTO TBL_PRIVS (TBL_GRANT_ID, CREATE_TIME, GRANT_OPTION, TBL_ID) SELECT 1, 1, 1, TBL_ID FROM TBLS;
         INSERT INTO TBL_COL_PRIVS (TBL_COLUMN_GRANT_ID, CREATE_TIME, GRANT_OPTION, TBL_ID) SELECT 1, 1, 1, TBL_ID FROM TBLS;
         INSERT INTO PART_PRIVS (PART_GRANT_ID, CREATE_TIME, GRANT_OPTION, PART_ID) SELECT 1, 1, 1, PART_ID FROM PARTITIONS;
         INSERT INTO PART_COL_PRIVS (PART_COLUMN_GRANT_ID, CREATE_TIME, GRANT_OPTION, PART_ID)
           SELECT 1, 1, 1, PART_ID FROM PARTITIONS;
         INSERT INTO KEY_CONSTRAINTS (PARENT_TBL_ID, PARENT_INTEGER_IDX, POSITION, CONSTRAINT_NAME, CONSTRAINT_TYPE,
           ENABLE_VALIDATE_RELY) SELECT TBL_ID, 0, 1, 'pk', 0, 0 FROM TBLS;
         INSERT INTO DB_PRIVS (DB_GRANT_ID, CREATE_TIME, GRANT_OPTION, DB_ID) SELECT 1, 1, 1, DB_ID FROM DBS WHERE NAME = 'd';
         INSERT INTO FUNCS (FUNC_ID, CREATE_TIME, FUNC_TYPE, DB_ID) SELECT 1, 1, 1, DB_ID FROM DBS WHERE NAME = 'd';
         INSERT INTO FUNC_RU (FUNC_ID, RESOURCE_TYPE, INTEGER_IDX) VALUES (1, 1, 0);",
    );
    foreign.execute(&mut *tx).await.expect("inserted");
    tx.commit().await.expect("committed");
    store.drop_database("d", true).await.expect("dropped");
    assert_eq!(rows_by_table(&store).await, before);
}

#[tokio::test]
async fn a_bound_prefix_of_keys_uses_the_index() {
    let store = SqliteStore::open_in_memory(Clock::system()).await.expect("a catalog in memory");
    let mut tx = store.begin_read().await.expect("a transaction");
    for condition in [
        "TBL_ID = 1 AND PART_NAME IN ('a', 'b')",
        "TBL_ID = 1 AND PART_NAME >= 'a' AND PART_NAME < 'b' ORDER BY PART_NAME",
    ] {
        let sql = format!("EXPLAIN QUERY PLAN SELECT PART_ID, SD_ID FROM PARTITIONS WHERE {condition}");
        let plan: Vec<(i64, i64, i64, String)> =
            query_as(AssertSqlSafe(sql)).fetch_all(&mut *tx).await.expect("a plan");
        assert_eq!(plan.len(), 1, "{plan:?}");
        assert!(
            plan[0].3.starts_with("SEARCH PARTITIONS USING INDEX UNIQUEPARTITION (TBL_ID=? AND PART_NAME"),
            "{plan:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whatever is bound, the store finds what comparing each partition by itself finds, in the same order.
    #[test]
    fn a_filter_finds_what_a_naive_one_does(
        given in prop::collection::btree_set((value(), value(), value()), 0..40),
        bound in prop::collection::vec(prop::option::of(prop::collection::vec(value(), 0..4)), 0..=3),
        limit in prop::option::of(0_usize..10),
        reversed in any::<bool>(),
    ) {
        let keys: Vec<Column> = ["a", "b", "c"].map(column).into();
        let null = |value: &String| if value.is_empty() { crate::model::DEFAULT_PARTITION.to_owned() } else { value.clone() };
        // The empty value and NULL are one partition, so only one of them can be there.
        let mut partitions: Vec<Partition> = Vec::new();
        for (a, b, c) in given {
            let values = vec![a, b, c];
            let name = partition_name(&keys, &values);
            if partitions.iter().all(|other| partition_name(&keys, &other.values) != name) {
                partitions.push(Partition { values, ..partition(&[]) });
            }
        }
        let filter = PartitionFilter { values: bound };
        let mut expected: Vec<&Partition> = partitions
            .iter()
            .filter(|partition| filter.values.iter().zip(&partition.values).all(|(bound, value)| {
                bound.as_ref().is_none_or(|bound| bound.iter().any(|wanted| null(wanted) == null(value)))
            }))
            .collect();
        expected.sort_by_key(|partition| partition_name(&keys, &partition.values));
        let expected: Vec<_> = expected.into_iter().take(limit.unwrap_or(usize::MAX)).map(|p| p.values.clone()).collect();

        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let found = runtime.block_on(async {
            let store = SqliteStore::open_in_memory(Clock::system()).await.expect("a catalog in memory");
            let table = Table { partition_keys: keys, ..table("default", "t") };
            store.create_table(&table).await.expect("a new table");
            // A neighbour with the same partitions, which must not be found.
            store.create_table(&Table { name: "u".into(), ..table }).await.expect("a new table");
            if reversed {
                partitions.reverse();
            }
            for name in ["t", "u"] {
                store.add_partitions("default", name, &partitions, false).await.expect("added");
            }
            store.partitions("default", "t", &filter, limit).await.expect("partitions")
        });
        let found: Vec<_> = found.into_iter().map(|partition| partition.values).collect();
        assert_eq!(found, expected);
    }
}

/// Few values, so that filters meet partitions, among them those that sort around `/` and need escapes.
fn value() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "",
        "1",
        "10",
        "2",
        "a",
        "a-b",
        "a/b",
        "a.b",
        "a0",
        "%",
        "é",
        "A",
        "__HIVE_DEFAULT_PARTITION__",
    ])
    .prop_map(String::from)
}

async fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(path, Clock::system()).await.expect("the catalog opens")
}

/// Runs statements on a file by a connection of its own.
async fn change_file(path: &Path, sql: &'static str) {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path).create_if_missing(true);
    let mut conn = sqlx::ConnectOptions::connect(&options).await.expect("the file opens");
    raw_sql(sql).execute(&mut conn).await.expect(sql);
    sqlx::Connection::close(conn).await.expect("closed");
}

async fn check_integrity(store: &SqliteStore) {
    let mut tx = store.begin_read().await.expect("a transaction");
    let integrity: String = query_scalar("PRAGMA integrity_check").fetch_one(&mut *tx).await.expect("checked");
    assert_eq!(integrity, "ok");
    let orphans = query("PRAGMA foreign_key_check").fetch_all(&mut *tx).await.expect("checked");
    assert_eq!(orphans.len(), 0);
}

async fn rows_by_table(store: &SqliteStore) -> Vec<(String, i64)> {
    let mut tx = store.begin_read().await.expect("a transaction");
    let tables: Vec<String> = query_scalar(
        "SELECT NAME FROM sqlite_master WHERE TYPE = 'table' AND NAME NOT IN ('SEQUENCE_TABLE', 'sqlite_sequence') ORDER BY NAME",
    )
    .fetch_all(&mut *tx)
    .await
    .expect("names");
    let mut counts = Vec::new();
    for table in tables {
        let count = query_scalar(AssertSqlSafe(format!("SELECT COUNT(*) FROM {table}")));
        counts.push((table, count.fetch_one(&mut *tx).await.expect("a count")));
    }
    counts
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
        owner_kind: Default::default(),
        create_time_s: 0,
        last_access_time_s: 0,
        retention: 0,
        storage: Storage { columns: vec![column("id")], ..Storage::default() },
        partition_keys: Vec::new(),
        parameters: Parameters::new(),
        view_original_text: None,
        view_expanded_text: None,
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

#[tokio::test]
async fn a_lock_that_is_not_renewed_runs_out() {
    const TIMEOUT_MS: i64 = 1_000;
    let clock = Clock::fixed(1_000_000);
    let store = SqliteStore::open_in_memory(clock.clone()).await.expect("a catalog in memory");
    let part = LockPart { mode: LockMode::Exclusive, database: "d".into(), table: None, partition: None };
    let ask = LockRequest { parts: vec![part], user: "ada".into(), host: "there".into(), agent: None };
    let first = store.lock(&ask, TIMEOUT_MS).await.expect("locked");
    let second = store.lock(&ask, TIMEOUT_MS).await.expect("in line");
    clock.advance_ms(TIMEOUT_MS);
    store.renew_lock(first.id, TIMEOUT_MS).await.expect("renewed in the last moment");
    clock.advance_ms(1);
    let error = store.check_lock(second.id, TIMEOUT_MS).await.expect_err("it ran out in line");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let third = store.lock(&ask, TIMEOUT_MS).await.expect("in line");
    assert_eq!(third.blocked_by, Some(first.id));
    clock.advance_ms(TIMEOUT_MS);
    assert!(store.check_lock(third.id, TIMEOUT_MS).await.expect("locked").acquired_ms.is_some());
    assert_eq!(store.locks(TIMEOUT_MS).await.expect("locks").len(), 1);
}

#[tokio::test]
async fn a_removal_is_one_process_s_until_that_dies() {
    const LEASE_MS: i64 = 1_000;
    let clock = Clock::fixed(1_000_000);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("catalog.db");
    let store = SqliteStore::open(&path, clock.clone()).await.expect("a catalog");
    for name in ["t", "u"] {
        let storage = Storage { location: Some(format!("file:///w/{name}")), ..Storage::default() };
        store.create_table(&Table { storage, ..table("default", name) }).await.expect("a new table");
        store.drop_table_with_files("default", name).await.expect("dropped");
    }
    let next = async |store: &SqliteStore| {
        let next = store.next_removals(LEASE_MS, 1).await.expect("removals");
        next.into_iter().next().map(|removal| (removal.id, removal.location))
    };
    let (first, location) = next(&store).await.expect("a removal");
    assert_eq!(location, "file:///w/t");
    assert_eq!(next(&store).await.expect("a removal").1, "file:///w/u");
    assert_eq!(next(&store).await, None);
    store.go_on_with_removals(&[first]).await.expect("put back");
    assert_eq!(next(&store).await.expect("a removal").0, first);
    // It dies, and the next one goes on.
    drop(store);
    let store = SqliteStore::open(&path, clock.clone()).await.expect("a catalog");
    assert_eq!(next(&store).await, None);
    clock.advance_ms(LEASE_MS);
    assert_eq!(next(&store).await.expect("a removal").1, "file:///w/t");
    store.finish_removals(&[first]).await.expect("finished");
    assert_eq!(next(&store).await.expect("a removal").1, "file:///w/u");
    // A metastore that shares the database has put something there.
    change_file(
        &path,
        "INSERT INTO SDS (SD_ID, IS_COMPRESSED, IS_STOREDASSUBDIRECTORIES, NUM_BUCKETS, LOCATION) \
                        VALUES (999, 0, 0, 0, 'file:/w/u/x')",
    )
    .await;
    clock.advance_ms(LEASE_MS);
    assert_eq!(next(&store).await, None);
    assert!(!store.are_being_removed(&["file:///w/u".into()]).await.expect("an answer"));
}

#[tokio::test]
async fn a_lock_of_a_transaction_is_not_ours_to_renew() {
    let store = SqliteStore::open_in_memory(Clock::fixed(1_000)).await.expect("a catalog in memory");
    let mut tx = store.begin_change().await.expect("a transaction");
    // Of a metastore that shares the database.
    let foreign = raw_sql(
        "INSERT INTO HIVE_LOCKS (HL_LOCK_EXT_ID, HL_LOCK_INT_ID, HL_TXNID, HL_DB, HL_TABLE, HL_LOCK_STATE, HL_LOCK_TYPE, \
         HL_LAST_HEARTBEAT, HL_USER, HL_HOST) VALUES (900, 1, 7, 'd', 't', 'a', 'e', 0, 'bob', 'there')",
    );
    foreign.execute(&mut *tx).await.expect("inserted");
    tx.commit().await.expect("committed");
    for refused in [
        store.renew_lock(900, 10).await.err(),
        store.check_lock(900, 10).await.err(),
        store.unlock(900, 10).await.err(),
    ] {
        assert_eq!(refused.map(|error| error.kind()), Some(ErrorKind::NotFound));
    }
    // It is in the way all the same.
    let part = |table: Option<&str>, partition: Option<&str>| LockPart {
        mode: LockMode::SharedRead,
        database: "d".into(),
        table: table.map(Into::into),
        partition: partition.map(Into::into),
    };
    for (parts, expected) in [
        (vec![part(Some("t"), Some("ds=1"))], Some(900)),
        (vec![part(Some("u"), None), part(None, None)], Some(900)),
        (vec![part(Some("u"), None), part(Some("v"), Some("ds=1"))], None),
    ] {
        let ask = LockRequest { parts, user: "ada".into(), host: "there".into(), agent: None };
        let lock = store.lock(&ask, 10).await.expect("asked");
        assert_eq!(lock.blocked_by, expected, "{ask:?}");
        store.unlock(lock.id, 10).await.expect("given back");
    }
}

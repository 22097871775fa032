//! Several stores on one database, as several processes have them, and a process that dies.

use std::collections::{BTreeSet, HashSet};
use std::process::Stdio;
use std::time::Duration;

use futures::future::join_all;
use sqlx::{query, query_scalar, raw_sql};
use tereza_catalog::store::mysql::Settings;
use tereza_catalog::{MySqlStore, Store, conformance};
use tereza_runtime::ErrorKind;
use tereza_runtime::clock::Clock;
use tokio::io::{AsyncBufReadExt, BufReader};

use super::{begin, database, one_row, partition, partitioned, rows_by_table, stores, table};
use crate::mariadb::new_database;

/// Writers in each race, by turns over two stores.
const WRITERS: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_stores_conform() {
    let Some(at) = new_database().await else { return };
    let stores = stores(&at, 3).await;
    let stores: Vec<&dyn Store> = stores.iter().map(|store| store as &dyn Store).collect();
    conformance::races::run_over(&stores).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_id_is_given_twice_and_no_change_is_lost() {
    const ROUNDS: usize = 6;
    let Some(at) = new_database().await else { return };
    let stores = stores(&at, 2).await;
    stores[0].create_table(&partitioned("shared")).await.unwrap();
    let writer = |n: usize| {
        let store = &stores[n % 2];
        async move {
            for round in 0..ROUNDS {
                let mine = partitioned(&format!("w{n}_{round}"));
                store.create_table(&mine).await.unwrap();
                let partitions: Vec<_> = (0..10).map(|p| partition(&[&p.to_string(), "x"])).collect();
                assert_eq!(store.add_partitions("default", &mine.name, &partitions, false).await.unwrap(), 10);
                let shared = [partition(&[&n.to_string(), &round.to_string()])];
                assert_eq!(store.add_partitions("default", "shared", &shared, false).await.unwrap(), 1);
                add_row(store, "shared").await.unwrap();
                if round % 2 == 1 {
                    store.drop_table("default", &mine.name).await.unwrap();
                }
            }
        }
    };
    join_all((0..WRITERS).map(writer)).await;

    let store = &stores[0];
    assert_eq!(store.partition_names("default", "shared").await.unwrap().len(), WRITERS * ROUNDS);
    let shared = store.table("default", "shared").await.unwrap();
    assert_eq!(shared.table.parameters["numRows"], (WRITERS * ROUNDS).to_string());
    assert_eq!(shared.version, 1 + 2 * i64::try_from(WRITERS * ROUNDS).unwrap());
    assert_eq!(store.tables("default").await.unwrap().len(), 1 + WRITERS * ROUNDS.div_ceil(2));
    let mut conn = at.connect().await;
    // No storage or serde has two owners, no list of columns none, and no id is at or above the next one of its sequence.
    for sql in [
        "SELECT COUNT(*) - COUNT(DISTINCT SD_ID) \
         FROM (SELECT SD_ID FROM TBLS UNION ALL SELECT SD_ID FROM PARTITIONS) s",
        "SELECT COUNT(*) - COUNT(DISTINCT SERDE_ID) FROM SDS",
        "SELECT COUNT(*) FROM SDS JOIN SEQUENCE_TABLE ON SEQUENCE_NAME LIKE '%MStorageDescriptor' WHERE SD_ID >= NEXT_VAL",
        "SELECT COUNT(*) FROM TBLS JOIN SEQUENCE_TABLE ON SEQUENCE_NAME LIKE '%MTable' WHERE TBL_ID >= NEXT_VAL",
        "SELECT COUNT(*) FROM PARTITIONS JOIN SEQUENCE_TABLE ON SEQUENCE_NAME LIKE '%MPartition' WHERE PART_ID >= NEXT_VAL",
        "SELECT COUNT(*) FROM CDS WHERE CD_ID NOT IN (SELECT CD_ID FROM SDS)",
    ] {
        let wrong: i64 = query_scalar(sql).fetch_one(&mut conn).await.expect(sql);
        assert_eq!(wrong, 0, "{sql}");
    }
}

/// A folder that is noted for removal while another store makes a table in it: one of the two gives way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_new_is_in_a_folder_that_goes() {
    const ROUNDS: usize = 40;
    let Some(at) = new_database().await else { return };
    let stores = stores(&at, 2).await;
    let mut refused = 0;
    for round in 0..ROUNDS {
        let (old, new) = (format!("old{round}"), format!("new{round}"));
        let location = format!("file:///warehouse/place{round}");
        let at_place = |name: &str| {
            let mut table = table("default", name);
            table.storage.location = Some(location.clone());
            table
        };
        stores[0].create_table(&at_place(&old)).await.unwrap();
        let made = at_place(&new);
        let (dropped, made) =
            tokio::join!(stores[0].drop_table_with_files("default", &old), stores[1].create_table(&made));
        dropped.unwrap();
        let goes = stores[0].are_being_removed(std::slice::from_ref(&location)).await.unwrap();
        match made {
            Ok(()) => assert!(!goes, "round {round}: the folder of a new table is to be removed"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                assert!(goes);
                refused += 1;
            }
        }
    }
    println!("{refused} of {ROUNDS} were refused");
}

/// Adds one row to the table's count, by a commit.
async fn add_row(store: &dyn Store, name: &str) -> tereza_runtime::Result<i64> {
    let commit = one_row(name);
    begin(store, &commit).await?;
    store.commit(&commit).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_meets_whatever_ends_well() {
    // Makes, renames, drops, and drops of databases with all that is in them, all over the same few names. Each may be
    // refused, but nothing may be left by half, and nothing may fail because another was in the way.
    const ROUNDS: usize = 8;
    let Some(at) = new_database().await else { return };
    let stores = stores(&at, 2).await;
    let mut conn = at.connect().await;
    let before = rows_by_table(&mut conn).await;
    let caller = |n: usize| {
        let store = &stores[n % 2];
        async move {
            let (here, there) = (format!("d{}", n % 2), format!("d{}", (n + 1) % 2));
            for round in 0..ROUNDS {
                let given = tereza_catalog::model::Table { database: here.clone(), ..partitioned("t") };
                let renamed = tereza_catalog::model::Table { database: there.clone(), ..partitioned("u") };
                let partitions: Vec<_> = (0..3).map(|p| partition(&[&p.to_string(), "x"])).collect();
                let outcomes = [
                    store.create_database(&database(&here)).await,
                    store.create_table(&given).await,
                    store.add_partitions(&here, "t", &partitions, true).await.map(|_| ()),
                    store.alter_table(&here, "t", None, &renamed).await,
                    store.alter_database(&here, &database(&here)).await,
                    store.drop_partitions(&there, "u", &[vec!["1".into(), "x".into()]], true).await.map(|_| ()),
                    if (n + round).is_multiple_of(3) { store.drop_database(&here, true).await } else { Ok(()) },
                ];
                for error in outcomes.into_iter().filter_map(Result::err) {
                    let refused = matches!(error.kind(), ErrorKind::NotFound | ErrorKind::AlreadyExists);
                    assert!(refused, "{error:?}");
                }
            }
        }
    };
    join_all((0..WRITERS).map(caller)).await;
    for name in ["d0", "d1"] {
        if let Err(error) = stores[0].drop_database(name, true).await {
            assert_eq!(error.kind(), ErrorKind::NotFound);
        }
    }
    assert_eq!(rows_by_table(&mut conn).await, before, "nothing is left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_follow_the_protocol_of_a_metastore() {
    let Some(at) = new_database().await else { return };
    let stores = stores(&at, 4).await;
    // Nobody has asked for an id of a function yet, and all do at once.
    let function = |n: usize| tereza_catalog::model::Function {
        database: "default".into(),
        name: format!("f{n}"),
        class_name: Some("x".into()),
        owner: None,
        create_time_s: 0,
        resources: Vec::new(),
    };
    let mut conn = at.connect().await;
    query("INSERT INTO FUNCS (FUNC_ID, CREATE_TIME, FUNC_TYPE, FUNC_NAME, DB_ID) VALUES (41, 1, 1, 'old', 1)")
        .execute(&mut conn)
        .await
        .unwrap();
    let made = join_all((0..4).map(|n| {
        let function = function(n);
        let store = &stores[n];
        async move { store.create_function(&function).await }
    }));
    for outcome in made.await {
        outcome.unwrap();
    }
    let given: Vec<i64> =
        query_scalar("SELECT FUNC_ID FROM FUNCS ORDER BY FUNC_ID").fetch_all(&mut conn).await.unwrap();
    assert_eq!(given.len(), 5);
    assert_eq!(given.iter().collect::<BTreeSet<_>>().len(), 5, "each has its own");
    assert_eq!(given[..2], [41, 42], "the first begins above what is there");
    // Each store has taken a block; a metastore takes one of 5 above them, and its rows are in nobody's way.
    let next =
        "SELECT NEXT_VAL FROM SEQUENCE_TABLE WHERE SEQUENCE_NAME = 'org.apache.hadoop.hive.metastore.model.MFunction'";
    let free: i64 = query_scalar(next).fetch_one(&mut conn).await.unwrap();
    assert_eq!(free, 42 + 4 * 100);

    // While a metastore holds the row, no id is given; afterwards the ids begin above its block.
    let fresh = at.store().await;
    let waits = function(9);
    raw_sql("BEGIN; SELECT NEXT_VAL FROM SEQUENCE_TABLE WHERE SEQUENCE_NAME LIKE '%MFunction' FOR UPDATE")
        .execute(&mut conn)
        .await
        .unwrap();
    let call = fresh.create_function(&waits);
    tokio::pin!(call);
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut call).await.is_err(), "it waits");
    raw_sql("UPDATE SEQUENCE_TABLE SET NEXT_VAL = NEXT_VAL + 5 WHERE SEQUENCE_NAME LIKE '%MFunction'; COMMIT")
        .execute(&mut conn)
        .await
        .unwrap();
    call.await.unwrap();
    let given: i64 =
        query_scalar("SELECT FUNC_ID FROM FUNCS WHERE FUNC_NAME = 'f9'").fetch_one(&mut conn).await.unwrap();
    assert_eq!(given, free + 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_process_was_told_is_there() {
    let Some(at) = new_database().await else { return };
    let store = at.store().await;
    store.create_table(&table("default", "counted")).await.unwrap();
    let mut acknowledged = HashSet::new();
    for round in 0..3 {
        let mut child = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "mysql::races::writes_until_it_is_killed", "--nocapture"])
            .env("TEREZA_TEST_WRITER", at.url())
            .env("TEREZA_TEST_WRITER_ROUND", round.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut seen = 0;
        while seen < 25
            && let Some(line) = lines.next_line().await.unwrap()
        {
            if let Some(name) = line.strip_prefix("made ") {
                acknowledged.insert(name.to_owned());
                seen += 1;
            }
        }
        assert_eq!(seen, 25, "the writer ended by itself");
        // SIGKILL: it has no time to tidy up.
        child.kill().await.unwrap();
        while let Some(line) = lines.next_line().await.unwrap() {
            acknowledged.extend(line.strip_prefix("made ").map(ToOwned::to_owned));
        }
    }
    let tables: HashSet<String> = store
        .tables("default")
        .await
        .unwrap()
        .into_iter()
        .map(|(name, _)| name)
        .filter(|name| name != "counted")
        .collect();
    assert!(acknowledged.is_subset(&tables), "all that was acknowledged is there");
    let rows: usize = store.table("default", "counted").await.unwrap().table.parameters["numRows"].parse().unwrap();
    // Each table is acknowledged after its row was counted; the last ones were perhaps not heard of.
    assert!(rows >= acknowledged.len() && rows <= tables.len(), "{} {rows} {}", acknowledged.len(), tables.len());
    for name in &tables {
        let found = store.snapshot("default", name, &Default::default()).await.unwrap();
        assert!(found.partitions.is_empty() || found.partitions.len() == 5, "{name} is whole");
    }
    // Whoever comes next goes on: no lock outlives the process.
    add_row(&store, "counted").await.unwrap();
}

/// Not a test of its own: the process that [`what_a_killed_process_was_told_is_there`] kills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a process that what_a_killed_process_was_told_is_there starts"]
async fn writes_until_it_is_killed() {
    let Ok(url) = std::env::var("TEREZA_TEST_WRITER") else { return };
    let round = std::env::var("TEREZA_TEST_WRITER_ROUND").unwrap_or_default();
    let store = MySqlStore::open(&url, Settings::default(), Clock::system()).await.unwrap();
    let writer = |n: usize| {
        let (store, round) = (&store, &round);
        async move {
            for at in 0..1_000 {
                let name = format!("t{round}_{n}_{at}");
                store.create_table(&partitioned(&name)).await.unwrap();
                let partitions: Vec<_> = (0..5).map(|p| partition(&[&p.to_string(), "x"])).collect();
                store.add_partitions("default", &name, &partitions, false).await.unwrap();
                add_row(store, "counted").await.unwrap();
                println!("made {name}");
            }
        }
    };
    join_all((0..4).map(writer)).await;
}

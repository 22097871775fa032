//! Others who change the same metastore: another Tereza, and clients that know nothing of it.

use std::time::Duration;

use futures::future::join_all;
use tereza_catalog::model::{LockMode, LockPart, Table};
use tereza_catalog::store::hms::{HmsStore, Settings};
use tereza_catalog::store::{Commit, LockRequest};
use tereza_catalog::{SqliteStore, Store};
use tereza_runtime::ErrorKind;

use super::proxy::Proxy;
use super::{begin, database, number, open, partition, rows, settings, table, until};
use crate::support::Metastore;

async fn two(metastore: &Metastore) -> (HmsStore, HmsStore, SqliteStore) {
    let (address, folder) = (metastore.address.to_string(), metastore.folder.path());
    let one = open(&address, folder, "one.db", &metastore.clock).await;
    let other = open(&address, folder, "other.db", &metastore.clock).await;
    let itself = metastore.store().await;
    itself.create_database(&database(&metastore.warehouse())).await.unwrap();
    (one, other, itself)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_insert_lose_nothing() {
    const EACH: i64 = 6;
    let metastore = Metastore::new().await;
    let (one, other, itself) = two(&metastore).await;
    let given = table(&metastore.warehouse(), "t");
    one.create_table(&given).await.unwrap();
    let insert = async |store: &HmsStore, mine: &str| {
        for _ in 0..EACH {
            let rows = |value: &str| (vec![value.to_owned()], vec![("numRows".to_owned(), 1)]);
            let commit = Commit {
                add_partitions: vec![partition(&given, "shared"), partition(&given, mine)],
                table_increments: vec![("numRows".into(), 2)],
                partition_increments: vec![rows("shared"), rows(mine)],
                ..begin(store, "t").await
            };
            store.commit(&commit).await.unwrap();
        }
    };
    tokio::join!(insert(&one, "a"), insert(&other, "b"));
    let expected = [("a".to_owned(), EACH), ("b".to_owned(), EACH), ("shared".to_owned(), 2 * EACH)];
    for store in [&one as &dyn Store, &other, &itself] {
        assert_eq!(rows(store, "t").await, expected);
        assert_eq!(number(&store.table("web", "t").await.unwrap().table.parameters, "numRows"), 4 * EACH);
    }
    // One that was dropped with its caller is given back behind it.
    assert!(until(async || one.locks(0).await.unwrap().is_empty()).await, "not all locks are given back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_that_overwrite_one_wins() {
    let metastore = Metastore::new().await;
    let (one, other, _) = two(&metastore).await;
    let given = table(&metastore.warehouse(), "t");
    one.create_table(&given).await.unwrap();
    for round in 0..4 {
        let overwrite = async |store: &HmsStore, version: i64| {
            let value = round.to_string();
            let commit = Commit {
                expected_version: Some(version),
                table_parameters: [("numRows".to_owned(), value)].into(),
                ..begin(store, "t").await
            };
            store.commit(&commit).await.map_err(|error| error.kind())
        };
        let version = one.table_version("web", "t").await.unwrap();
        let others = other.table_version("web", "t").await.unwrap();
        let outcomes = tokio::join!(overwrite(&one, version), overwrite(&other, others));
        let outcomes = [outcomes.0, outcomes.1];
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
        assert_eq!(outcomes.iter().filter(|outcome| **outcome == Err(ErrorKind::Conflict)).count(), 1, "{outcomes:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_change_is_another_version() {
    let metastore = Metastore::new().await;
    let (one, other, itself) = two(&metastore).await;
    let given = table(&metastore.warehouse(), "t");
    one.create_table(&given).await.unwrap();
    let overwrite = async |version: i64, id: i64| {
        let commit = Commit { expected_version: Some(version), expected_table: Some(id), ..begin(&one, "t").await };
        one.commit(&commit).await.map_err(|error| error.kind())
    };
    let seen = one.table("web", "t").await.unwrap();
    assert_eq!(seen, one.table("web", "t").await.unwrap(), "reading changes nothing");
    // Partitions that another Tereza adds.
    other.add_partitions("web", "t", &[partition(&given, "a")], false).await.unwrap();
    assert_eq!(overwrite(seen.version, seen.id).await, Err(ErrorKind::Conflict));
    // A parameter that somebody else sets, who keeps what he does not know.
    let seen = one.table("web", "t").await.unwrap();
    let mut changed = itself.table("web", "t").await.unwrap().table;
    changed.parameters.insert("k".into(), "v".into());
    itself.alter_table("web", "t", None, &changed).await.unwrap();
    assert_eq!(overwrite(seen.version, seen.id).await, Err(ErrorKind::Conflict));
    let seen = one.table("web", "t").await.unwrap();
    assert_eq!(seen.table.parameters["k"], "v");
    overwrite(seen.version, seen.id).await.unwrap();
    // A table that was dropped and made anew is another.
    let seen = one.table("web", "t").await.unwrap();
    let late = Commit { expected_table: Some(seen.id), ..begin(&one, "t").await };
    itself.drop_table("web", "t").await.unwrap();
    metastore.clock.advance_ms(2_000);
    itself.create_table(&given).await.unwrap();
    assert_eq!(one.commit(&late).await.map_err(|error| error.kind()), Err(ErrorKind::Conflict));
    let now = one.table("web", "t").await.unwrap();
    assert!(now.id != seen.id && now.version > seen.version, "{now:?}");
    // One that was dropped is gone, with what was staged for it.
    let last = begin(&one, "t").await;
    one.commit(&last).await.unwrap();
    itself.drop_table("web", "t").await.unwrap();
    assert_eq!(one.table("web", "t").await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(one.pending_commits().await.unwrap().iter().filter(|pending| pending.id == last.id).count(), 0);
    assert!(one.abandoned_writes("test").await.unwrap().iter().any(|write| write.id == last.id));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_of_others_is_waited_for() {
    let metastore = Metastore::new().await;
    let (one, _, _) = two(&metastore).await;
    let given = table(&metastore.warehouse(), "t");
    one.create_table(&given).await.unwrap();
    let hive = LockRequest {
        parts: vec![LockPart {
            mode: LockMode::Exclusive,
            database: "web".into(),
            table: Some("t".into()),
            partition: None,
        }],
        user: "hive".into(),
        host: "there".into(),
        agent: None,
    };
    let lock = one.lock(&hive, 0).await.unwrap();
    assert!(lock.acquired_ms.is_some());
    let impatient = Settings { lock_patience: Duration::from_millis(200), ..settings() };
    let url = format!("thrift://{}", metastore.address);
    let clock = metastore.clock.clone();
    let late = HmsStore::connect(&url, impatient, metastore.folder.path().join("late.db"), clock).await.unwrap();
    let commit = begin(&late, "t").await;
    let error = late.commit(&commit).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.hint().unwrap().contains(&format!("tereza catalog locks --url {url}")), "{error:?}");
    assert!(late.write(&commit.id).await.unwrap().is_some(), "it can be asked for again");
    assert_eq!(late.table("web", "t").await.unwrap().table.name, "t", "readers do not wait");
    let waiting = async { late.commit(&commit).await };
    let going = async {
        one.unlock(lock.id, 0).await.unwrap();
    };
    assert!(tokio::join!(waiting, going).0.is_ok());
    assert_eq!(late.locks(0).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn locks_of_a_process_that_died_are_given_back_by_the_next() {
    let metastore = Metastore::new().await;
    let (one, _, _) = two(&metastore).await;
    one.create_table(&table(&metastore.warehouse(), "t")).await.unwrap();
    let proxy = Proxy::to(metastore.address).await;
    let (address, folder) = (proxy.address.to_string(), metastore.folder.path());
    let dying = open(&address, folder, "dying.db", &metastore.clock).await;
    let commit = begin(&dying, "t").await;
    // The lock is taken, and then nothing more arrives.
    proxy.break_before("get_table");
    assert!(dying.commit(&commit).await.is_err());
    drop(dying);
    assert_eq!(one.locks(0).await.unwrap().len(), 1);
    proxy.revive();
    let next = open(&address, folder, "dying.db", &metastore.clock).await;
    assert_eq!(one.locks(0).await.unwrap(), []);
    next.commit(&commit).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_that_cannot_be_given_back_is_given_back_later() {
    let metastore = Metastore::new().await;
    let (one, _, _) = two(&metastore).await;
    one.create_table(&table(&metastore.warehouse(), "t")).await.unwrap();
    let proxy = Proxy::to(metastore.address).await;
    let store = open(&proxy.address.to_string(), metastore.folder.path(), "own.db", &metastore.clock).await;
    let commit = begin(&store, "t").await;
    proxy.break_before("unlock");
    store.commit(&commit).await.unwrap();
    assert_eq!(one.locks(0).await.unwrap().len(), 1);
    proxy.revive();
    let next = begin(&store, "t").await;
    store.commit(&next).await.unwrap();
    assert_eq!(one.locks(0).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_metastore_that_does_not_answer_is_unavailable_until_it_does() {
    let metastore = Metastore::new().await;
    let (_, _, itself) = two(&metastore).await;
    let proxy = Proxy::to(metastore.address).await;
    let (address, folder) = (proxy.address.to_string(), metastore.folder.path());
    proxy.die();
    let url = format!("thrift://{address}");
    let path = folder.join("gone.db");
    let failed = HmsStore::connect(&url, settings(), &path, metastore.clock.clone()).await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Unavailable);
    assert!(failed.to_string().contains(&address), "{failed}");
    proxy.revive();
    let store = open(&address, folder, "gone.db", &metastore.clock).await;
    let given: Table = table(&metastore.warehouse(), "t");
    store.create_table(&given).await.unwrap();
    proxy.die();
    assert_eq!(store.table("web", "t").await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(store.drop_table("web", "t").await.unwrap_err().kind(), ErrorKind::Unavailable);
    let commit = begin(&store, "t").await;
    assert_eq!(store.commit(&commit).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(itself.table("web", "t").await.is_ok());
    proxy.revive();
    store.commit(&commit).await.unwrap();
    let readers = join_all((0..20).map(|_| store.table("web", "t"))).await;
    assert!(readers.into_iter().all(|found| found.is_ok()), "more callers than connections");
}

#[tokio::test]
async fn a_file_that_is_a_catalog_is_not_put_beside_a_metastore() {
    let metastore = Metastore::new().await;
    let own = metastore.store().await;
    own.create_database(&database(&metastore.warehouse())).await.unwrap();
    own.create_table(&table(&metastore.warehouse(), "t")).await.unwrap();
    let url = format!("thrift://{}", metastore.address);
    let path = metastore.folder.path().join("catalog.db");
    let error = HmsStore::connect(&url, settings(), path, metastore.clock.clone()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("tables of its own"), "{error}");
}

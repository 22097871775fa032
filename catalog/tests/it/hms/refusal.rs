//! The metastore says no at each call of a commit that changes something: what was done is taken back, and the caller hears why.
//! One that it refuses for good when it was acknowledged does not keep others from writing.

use std::time::Duration;

use tereza_catalog::Store;
use tereza_catalog::model::Table;
use tereza_catalog::store::hms::{HmsStore, Settings};
use tereza_catalog::store::{Commit, StagedFile};
use tereza_runtime::ErrorKind;

use super::proxy::{Proxy, Refusal};
use super::{
    CALLS_MAX, Truth, begin, database, insert, new_table, one_more, open, overwrite, rows, settings, table, truth,
    until, with_one,
};
use crate::support::Metastore;

/// Refuses each call of each kind of commit. `prepare` makes what the commit needs and returns it, `after` is what the
/// metastore has when it is made. Returns the methods that were refused.
async fn at_each_call(
    what: &str,
    prepare: impl AsyncFn(&HmsStore, &Table) -> Commit,
    before: Option<Truth>,
    after: Truth,
) -> Vec<String> {
    let metastore = Metastore::new().await;
    let proxy = Proxy::to(metastore.address).await;
    let (folder, address) = (metastore.folder.path(), proxy.address.to_string());
    let warehouse = metastore.warehouse();
    let of_metastore = metastore.store().await;
    of_metastore.create_database(&database(&warehouse)).await.unwrap();
    let mut methods = Vec::new();
    for refusal in [Refusal::Invalid, Refusal::Trouble] {
        for n in 0..CALLS_MAX {
            let name = format!("{what}_{refusal:?}_{n}").to_lowercase();
            let store = open(&address, folder, &format!("{name}.db"), &metastore.clock).await;
            let commit = prepare(&store, &table(&warehouse, &name)).await;
            proxy.refuse_at(n, refusal);
            let outcome = store.commit(&commit).await;
            let Some(method) = proxy.refused() else {
                let calls = proxy.revive();
                assert!(outcome.is_ok(), "{name}: {outcome:?} after {calls:?}");
                if calls.len() <= n {
                    break;
                }
                assert!(n + 1 < CALLS_MAX, "a commit makes more calls than that: {calls:?}");
                continue;
            };
            let error = outcome.expect_err(&method);
            assert!(error.to_string().contains("not here"), "{name}: {error}");
            let is_passing = refusal == Refusal::Trouble;
            let expected = if is_passing { ErrorKind::Unavailable } else { ErrorKind::InvalidInput };
            assert!([expected, ErrorKind::NotFound].contains(&error.kind()), "{name}: {error:?}");
            assert_eq!(truth(&of_metastore, &name).await, before, "{name}: {method}");
            assert!(store.write(&commit.id).await.unwrap().is_some(), "{name}: its files are its own still");
            assert!(store.pending_commits().await.unwrap().is_empty(), "{name}: {method}");
            // Others go on, and so does whoever was refused.
            let more = i64::from(before.is_some());
            if before.is_some() {
                one_more(&store, &name).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
            }
            methods.push(method);
            proxy.revive();
            let version = store.commit(&Commit { expected_version: None, ..commit.clone() }).await;
            version.unwrap_or_else(|error| panic!("{name}: {error:?}"));
            // What an overwrite sets takes the place of what was added.
            let total = if commit.table_parameters.is_empty() { after.0 + more } else { after.0 };
            assert_eq!(truth(&of_metastore, &name).await, Some((total, after.1.clone())), "{name}");
        }
    }
    methods
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_insert_that_is_refused_is_taken_back() {
    let prepare = async |store: &HmsStore, table: &Table| {
        with_one(store, table).await;
        insert(store, table).await
    };
    let before = Some((5, vec![("a".into(), 5)]));
    let methods = at_each_call("insert", prepare, before, (12, vec![("a".into(), 8), ("b".into(), 4)])).await;
    let each =
        ["add_partitions_req", "alter_partitions_with_environment_context", "alter_table_with_environment_context"];
    assert_eq!(methods, [each, each].concat());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_overwrite_that_is_refused_is_taken_back() {
    let prepare = async |store: &HmsStore, table: &Table| {
        with_one(store, table).await;
        overwrite(store, table).await
    };
    let before = Some((5, vec![("a".into(), 5)]));
    let methods = at_each_call("overwrite", prepare, before, (9, vec![("c".into(), 9)])).await;
    let each = ["add_partitions_req", "drop_partitions_req", "alter_table_with_environment_context"];
    assert_eq!(methods, [each, each].concat());
}

/// The call is refused that would take back what was done, too: the caller hears of the refusal all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_cannot_be_taken_back_keeps_nobody_from_writing() {
    let metastore = Metastore::new().await;
    let proxy = Proxy::to(metastore.address).await;
    let warehouse = metastore.warehouse();
    metastore.store().await.create_database(&database(&warehouse)).await.unwrap();
    let store = open(&proxy.address.to_string(), metastore.folder.path(), "one.db", &metastore.clock).await;
    let given = table(&warehouse, "t");
    with_one(&store, &given).await;
    let commit = overwrite(&store, &given).await;
    proxy.refuse("drop_partitions_req", Refusal::Invalid);
    let error = store.commit(&commit).await.unwrap_err();
    assert!(error.kind() == ErrorKind::NotFound && error.to_string().contains("not here"), "{error:?}");
    assert!(store.write(&commit.id).await.unwrap().is_some());
    one_more(&store, "t").await.unwrap();
    // The partition that stays has no files, and no row of `a` is lost.
    let left = vec![("a".to_owned(), 5), ("c".to_owned(), 9)];
    assert_eq!(truth(&metastore.store().await, "t").await, Some((6, left)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_table_that_is_refused_is_taken_back() {
    let methods = at_each_call("new", new_table, None, (4, vec![("d".into(), 4)])).await;
    let each = ["create_table_with_environment_context", "add_partitions_req"];
    assert_eq!(methods, [each, each].concat());
}

/// A store with the table `t` of one partition, or none, and a commit that was acknowledged though the network broke before
/// `method`; which is refused when the next process opens the store.
async fn acknowledged(
    metastore: &Metastore,
    proxy: &Proxy,
    method: &str,
    refusal: Refusal,
    is_new: bool,
) -> (HmsStore, Commit) {
    let (folder, warehouse, address) = (metastore.folder.path(), metastore.warehouse(), proxy.address.to_string());
    metastore.store().await.create_database(&database(&warehouse)).await.unwrap();
    let store = open(&address, folder, "one.db", &metastore.clock).await;
    let given = table(&warehouse, "t");
    let staged = StagedFile { target: format!("{warehouse}/web.db/t/f"), staged: format!("{warehouse}/_tereza/f") };
    let commit = match is_new {
        true => Commit { create_table: Some(given.clone()), ..begin(&store, "t").await },
        false => {
            with_one(&store, &given).await;
            insert(&store, &given).await
        }
    };
    let commit = Commit { add_files: vec![staged], ..commit };
    proxy.break_before(method);
    store.commit(&commit).await.unwrap();
    assert!(proxy.is_dead(), "{method} was not asked for");
    drop(store);
    proxy.refuse(method, refusal);
    (open(&address, folder, "one.db", &metastore.clock).await, commit)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_for_good_keeps_nobody_from_writing() {
    let metastore = Metastore::new().await;
    let proxy = Proxy::to(metastore.address).await;
    let (store, commit) = acknowledged(&metastore, &proxy, "add_partitions_req", Refusal::Invalid, false).await;
    one_more(&store, "t").await.unwrap();
    // What the metastore has no place for is not there, and the files of all else go to their places.
    assert_eq!(rows(&store, "t").await, [("a".to_owned(), 5)]);
    assert_eq!(truth(&metastore.store().await, "t").await, Some((6, vec![("a".into(), 5)])));
    assert!(store.pending_commits().await.unwrap().iter().any(|pending| pending.id == commit.id));
    proxy.revive();
    one_more(&store, "t").await.unwrap();
    assert_eq!(truth(&metastore.store().await, "t").await, Some((7, vec![("a".into(), 5)])), "it is not tried again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_is_refused_for_good_leaves_its_files_to_the_cleaner() {
    let metastore = Metastore::new().await;
    let proxy = Proxy::to(metastore.address).await;
    let method = "create_table_with_environment_context";
    let (store, commit) = acknowledged(&metastore, &proxy, method, Refusal::Invalid, true).await;
    assert_eq!(one_more(&store, "t").await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(store.table("web", "t").await.unwrap_err().kind(), ErrorKind::NotFound);
    let abandoned = store.abandoned_writes("test").await.unwrap();
    let left = abandoned.iter().find(|write| write.id == commit.id).expect("its files are left");
    assert_eq!(left.staged, commit.add_files);
    proxy.revive();
    store.create_table(&table(&metastore.warehouse(), "t")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trouble_that_may_pass_is_waited_for() {
    let metastore = Metastore::new().await;
    let proxy = Proxy::to(metastore.address).await;
    let method = "alter_table_with_environment_context";
    let (store, _) = acknowledged(&metastore, &proxy, method, Refusal::Trouble, false).await;
    let error = one_more(&store, "t").await.unwrap_err();
    assert!(error.kind() == ErrorKind::Unavailable && error.to_string().contains("a former commit"), "{error}");
    // Readers see it all the while.
    assert_eq!(rows(&store, "t").await, [("a".to_owned(), 8), ("b".to_owned(), 4)]);
    proxy.revive();
    one_more(&store, "t").await.unwrap();
    assert_eq!(truth(&metastore.store().await, "t").await, Some((13, vec![("a".into(), 8), ("b".into(), 4)])));

    // It does not pass.
    let commit = insert(&store, &table(&metastore.warehouse(), "t")).await;
    proxy.break_before(method);
    store.commit(&commit).await.unwrap();
    drop(store);
    proxy.refuse(method, Refusal::Trouble);
    let settings = Settings { refusal_patience: Duration::from_millis(300), ..settings() };
    let url = format!("thrift://{}", proxy.address);
    let path = metastore.folder.path().join("one.db");
    let store = HmsStore::connect(&url, settings, path, metastore.clock.clone()).await.unwrap();
    let is_given_up = async || !one_more(&store, "t").await.unwrap_err().to_string().contains("a former commit");
    assert!(until(is_given_up).await, "it is not given up");
    proxy.revive();
    one_more(&store, "t").await.unwrap();
    assert_eq!(truth(&metastore.store().await, "t").await, Some((14, vec![("a".into(), 11), ("b".into(), 8)])));
}

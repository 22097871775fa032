//! The network breaks, or the process dies, at each call of a commit: afterwards it is made whole or not at all.

use tereza_catalog::model::Table;
use tereza_catalog::store::Commit;
use tereza_catalog::store::hms::HmsStore;
use tereza_catalog::{SqliteStore, Store};

use super::proxy::{Cut, Proxy};
use super::{
    CALLS_MAX, Truth, begin, database, insert, new_table, open, overwrite, rows, table, truth, until, with_one,
};
use crate::support::Metastore;

/// Waits until the metastore has what is decided.
async fn settled(truth_of: &SqliteStore, table: &str, expected: &Option<Truth>) {
    if !until(async || truth(truth_of, table).await == *expected).await {
        panic!("{table}: {:?} and not {expected:?}", truth(truth_of, table).await);
    }
}

/// Breaks each kind of commit at each call, before and after it arrives. `prepare` makes what the commit needs and returns
/// it; `after` is what the metastore has then.
async fn at_each_call(
    what: &str,
    prepare: impl AsyncFn(&HmsStore, &Table) -> Commit,
    before: Option<Truth>,
    after: Truth,
) {
    let metastore = Metastore::new().await;
    let proxy = Proxy::to(metastore.address).await;
    let (folder, address) = (metastore.folder.path(), proxy.address.to_string());
    let warehouse = metastore.warehouse();
    let of_metastore = metastore.store().await;
    of_metastore.create_database(&database(&warehouse)).await.unwrap();
    let (mut made, mut unmade) = (0, 0);
    for cut in [Cut::Before, Cut::After] {
        for n in 0..CALLS_MAX {
            let name = format!("{what}_{cut:?}_{n}").to_lowercase();
            let file = format!("{name}.db");
            let store = open(&address, folder, &file, &metastore.clock).await;
            let commit = prepare(&store, &table(&warehouse, &name)).await;
            // So that nothing of what was before is still under way.
            assert!(until(async || proxy.is_quiet()).await, "{name}: calls go on");
            proxy.break_at(n, cut);
            let outcome = store.commit(&commit).await;
            let is_over = !proxy.is_dead();
            // The process dies here: nothing that it still does arrives.
            proxy.die();
            drop(store);
            let calls = proxy.revive();
            let calls = format!("{name}: {outcome:?} after {calls:?}");

            let store = open(&address, folder, &file, &metastore.clock).await;
            let is_decided = store.pending_commits().await.unwrap().iter().any(|pending| pending.id == commit.id);
            let has_begun = store.write(&commit.id).await.unwrap().is_some();
            assert!(is_decided != has_begun, "{calls}");
            assert!(is_decided || outcome.is_err(), "{calls}");
            if is_decided {
                made += 1;
                // Readers see it from the first moment on, whether the metastore has it or not.
                assert_eq!(rows(&store, &name).await, after.1, "{calls}");
                let seen = store.table("web", &name).await.unwrap().table;
                assert_eq!(super::number(&seen.parameters, "numRows"), after.0, "{calls}");
                assert!(seen.parameters.keys().all(|key| !key.starts_with("tereza.")), "{seen:?}");
            } else {
                unmade += 1;
                assert_eq!(truth(&of_metastore, &name).await, before, "{calls}");
                // It can be asked for again.
                store.commit(&commit).await.unwrap_or_else(|error| panic!("{calls}: {error:?}"));
            }
            settled(&of_metastore, &name, &Some(after.clone())).await;
            // Asked for again, it is not made again.
            store.commit(&commit).await.unwrap();
            assert_eq!(truth(&of_metastore, &name).await, Some(after.clone()), "{calls}");
            // And the next one comes after it.
            let next = Commit { table_increments: vec![("numRows".into(), 1)], ..begin(&store, &name).await };
            store.commit(&next).await.unwrap_or_else(|error| panic!("{calls}: {error:?}"));
            assert_eq!(truth(&of_metastore, &name).await, Some((after.0 + 1, after.1.clone())), "{calls}");
            if is_over {
                break;
            }
            assert!(n + 1 < CALLS_MAX, "a commit makes more calls than that: {calls}");
        }
    }
    assert!(made > 4 && unmade > 4, "{what}: {made} made and {unmade} not");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_insert_that_breaks_off_is_whole_or_not_there() {
    let before = Some((5, vec![("a".into(), 5)]));
    let after = (12, vec![("a".into(), 8), ("b".into(), 4)]);
    let prepare = async |store: &HmsStore, table: &Table| {
        with_one(store, table).await;
        insert(store, table).await
    };
    at_each_call("insert", prepare, before, after).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_overwrite_that_breaks_off_is_whole_or_not_there() {
    let before = Some((5, vec![("a".into(), 5)]));
    let after = (9, vec![("c".into(), 9)]);
    let prepare = async |store: &HmsStore, table: &Table| {
        with_one(store, table).await;
        overwrite(store, table).await
    };
    at_each_call("overwrite", prepare, before, after).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_table_that_breaks_off_is_whole_or_not_there() {
    let after = (4, vec![("d".into(), 4)]);
    at_each_call("new", new_table, None, after).await;
}

//! Several callers at once, of one store or of several over the same database.

use futures::future::join_all;
use tereza_runtime::{ErrorKind, ids};

use super::{commits, jobs, new_partitioned_table, new_table, partition, strings, table};
use crate::Store;
use crate::model::Job;
use crate::store::{Commit, PartitionFilter};

/// Callers in each race.
const CALLERS: usize = 8;

/// All tests of this module on one store.
pub async fn run(store: &dyn Store) {
    run_over(&[store]).await;
}

/// All tests of this module, with callers that take turns in which of `stores` they call, all of the same database.
pub async fn run_over(stores: &[&dyn Store]) {
    no_commit_is_lost(stores).await;
    one_of_many_overwrites_wins(stores).await;
    a_table_is_made_once(stores).await;
    a_partition_is_made_once(stores).await;
    a_job_is_made_once(stores).await;
    one_of_many_updates_of_a_job_wins(stores).await;
    a_snapshot_is_of_one_moment(stores).await;
}

/// The store of the `n`th caller.
fn of<'a>(stores: &[&'a dyn Store], n: usize) -> &'a dyn Store {
    stores[n % stores.len()]
}

/// Commits that add rows all count, and each gets its own version.
pub async fn no_commit_is_lost(stores: &[&dyn Store]) {
    const ROUNDS: usize = 5;
    let store = of(stores, 0);
    let (database, name) = new_table(store).await;
    let first = store.table_version(&database, name).await.expect("the version");
    let database = &database;
    let caller = |n| async move {
        let store = of(stores, n);
        let mut versions = Vec::new();
        for _ in 0..ROUNDS {
            let commit =
                Commit { table_increments: vec![("numRows".into(), 1)], ..commits::begin(store, database, name).await };
            versions.push(store.commit(&commit).await.expect("committed"));
        }
        assert!(versions.is_sorted(), "each caller sees versions go up");
        versions
    };
    let mut versions: Vec<i64> = join_all((0..CALLERS).map(caller)).await.into_iter().flatten().collect();
    versions.sort_unstable();
    let expected: Vec<i64> = (first + 1..).take(CALLERS * ROUNDS).collect();
    assert_eq!(versions, expected);
    let found = store.table(database, name).await.expect("the table");
    assert_eq!(found.table.parameters["numRows"], (CALLERS * ROUNDS).to_string());
    let journal = store.commits_since(database, name, first).await.expect("commits");
    assert!(journal.iter().map(|commit| commit.version).eq(expected));
}

/// All read the same version; one commits, the others hear of it.
pub async fn one_of_many_overwrites_wins(stores: &[&dyn Store]) {
    let store = of(stores, 0);
    let (database, name) = new_table(store).await;
    let read = store.table_version(&database, name).await.expect("the version");
    let database = &database;
    let caller = |n| async move {
        let store = of(stores, n);
        let commit = Commit { expected_version: Some(read), ..commits::begin(store, database, name).await };
        store.commit(&commit).await.map_err(|error| error.kind())
    };
    let outcomes = join_all((0..CALLERS).map(caller)).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Err(ErrorKind::Conflict)).count(), CALLERS - 1);
    assert_eq!(store.table_version(database, name).await.expect("the version"), read + 1);
}

/// The same table is asked for by all.
pub async fn a_table_is_made_once(stores: &[&dyn Store]) {
    let store = of(stores, 0);
    let (database, _) = new_table(store).await;
    let wanted = table(&database, "wanted");
    let outcomes = join_all((0..CALLERS).map(|n| of(stores, n).create_table(&wanted))).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    let taken = |outcome: &&tereza_runtime::Result<()>| {
        outcome.as_ref().is_err_and(|error| error.kind() == ErrorKind::AlreadyExists)
    };
    assert_eq!(outcomes.iter().filter(taken).count(), CALLERS - 1);
}

/// The same partition is asked for by all.
pub async fn a_partition_is_made_once(stores: &[&dyn Store]) {
    let store = of(stores, 0);
    let (database, name) = new_partitioned_table(store).await;
    let wanted = [partition(&["a", "1"])];
    let caller = |n| of(stores, n).add_partitions(&database, name, &wanted, true);
    let outcomes = join_all((0..CALLERS).map(caller)).await;
    let added: usize = outcomes.into_iter().map(|outcome| outcome.expect("added or not")).sum();
    assert_eq!(added, 1);
    assert_eq!(store.partition_names(&database, name).await.expect("names"), ["ds=a/k=1"]);
}

/// Of jobs that ask for one name, one gets it.
pub async fn a_job_is_made_once(stores: &[&dyn Store]) {
    let name = ids::new_id();
    let caller = |n| {
        let wanted = Job { name: Some(name.clone()), ..jobs::job() };
        async move { of(stores, n).create_job(&wanted).await.map_err(|error| error.kind()) }
    };
    let outcomes = join_all((0..CALLERS).map(caller)).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Err(ErrorKind::AlreadyExists)).count(), CALLERS - 1);
}

/// All read the same version; one takes the job.
pub async fn one_of_many_updates_of_a_job_wins(stores: &[&dyn Store]) {
    let store = of(stores, 0);
    let job = jobs::job();
    store.create_job(&job).await.expect("a new job");
    let caller = |n: usize| {
        let mine = Job { state: "running".into(), detail: format!("{n}"), ..job.clone() };
        async move { of(stores, n).update_job(&mine).await.map_err(|error| error.kind()) }
    };
    let outcomes = join_all((0..CALLERS).map(caller)).await;
    let winner = outcomes.iter().position(Result::is_ok).expect("one wins");
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Err(ErrorKind::Conflict)).count(), CALLERS - 1);
    assert_eq!(store.job(&job.id).await.expect("the job").detail, winner.to_string());
}

/// While one adds a partition and its rows per commit, every reader sees as many rows as partitions.
pub async fn a_snapshot_is_of_one_moment(stores: &[&dyn Store]) {
    const COMMITS: usize = 20;
    let store = of(stores, 0);
    let (database, name) = new_partitioned_table(store).await;
    let first = store.table_version(&database, name).await.expect("the version");
    let writer = async {
        for n in 0..COMMITS {
            let values = strings(&[&format!("{n}"), "x"]);
            let commit = Commit {
                add_partitions: vec![partition(&[&values[0], &values[1]])],
                table_increments: vec![("numPartitions".into(), 1)],
                ..commits::begin(store, &database, name).await
            };
            store.commit(&commit).await.expect("committed");
        }
    };
    let reader = async {
        let reader = of(stores, 1);
        loop {
            let snapshot = reader.snapshot(&database, name, &PartitionFilter::default()).await.expect("a snapshot");
            let seen = snapshot.partitions.len();
            let counted = snapshot.table.table.parameters.get("numPartitions").map_or("0", String::as_str);
            assert_eq!(counted, seen.to_string());
            assert_eq!(snapshot.pending.len(), seen);
            assert_eq!(snapshot.table.version - first, i64::try_from(seen).expect("few partitions"));
            if seen == COMMITS {
                break;
            }
        }
    };
    futures::join!(writer, reader);
}

//! Writes, commits and the journal.

use tereza_runtime::{ErrorKind, ids};

use super::{expect_error, new_database, new_partitioned_table, new_table, parameters, partition, strings, table};
use crate::Store;
use crate::model::{Parameters, Table, TableKind};
use crate::store::{Commit, PartitionFilter, StagedFile, Write};

/// All tests of this module.
pub async fn run(store: &dyn Store) {
    a_commit_does_all_that_it_says(store).await;
    numbers_are_added(store).await;
    a_commit_may_make_its_table(store).await;
    a_commit_that_fails_leaves_nothing(store).await;
    a_stale_version_is_refused(store).await;
    rows_for_a_dropped_table_are_not_the_next_ones(store).await;
    a_commit_needs_its_write(store).await;
    a_commit_asked_for_twice_happens_once(store).await;
    pending_commits_are_listed_until_finished(store).await;
    finished_commits_are_kept_until_forgotten(store).await;
    staged_files_are_noted(store).await;
    abandoned_writes_are_found(store).await;
    writes_of_the_living_are_left_to_them(store).await;
    a_write_that_was_given_up_is_not_committed(store).await;
    the_journal_follows_a_renamed_table(store).await;
    a_dropped_table_leaves_its_staged_files_to_the_cleaner(store).await;
    commits_to_a_dropped_external_table_stay_pending(store).await;
}

/// A write and the bare commit that ends it.
pub(super) async fn begin(store: &dyn Store, database: &str, table: &str) -> Commit {
    begin_as(store, "conformance", database, table).await
}

/// [`begin`] by an owner.
pub async fn begin_as(store: &dyn Store, owner: &str, database: &str, table: &str) -> Commit {
    let commit = Commit::bare(ids::new_id(), database, table);
    let (id, database, table) = (commit.id.clone(), database.to_owned(), table.to_owned());
    let write = Write { id, database, table, owner: owner.into(), began_ms: 1, staged: Vec::new() };
    store.begin_write(&write).await.expect("a new write");
    commit
}

fn moved(name: &str) -> StagedFile {
    let staged = format!("file:///warehouse/_tereza/{name}");
    StagedFile { target: format!("file:///warehouse/{name}"), staged }
}

async fn pending_of(store: &dyn Store, database: &str, table: &str) -> Vec<Commit> {
    store.snapshot(database, table, &PartitionFilter::default()).await.expect("a snapshot").pending
}

async fn abandoned_ids(store: &dyn Store) -> Vec<String> {
    store.abandoned_writes("somebody").await.expect("writes").into_iter().map(|write| write.id).collect()
}

/// Files, partitions, parameters and the version change together, and the write ends.
pub async fn a_commit_does_all_that_it_says(store: &dyn Store) {
    let (database, name) = new_partitioned_table(store).await;
    let old = [partition(&["a", "1"]), partition(&["b", "1"]), partition(&["c", "1"])];
    store.add_partitions(&database, name, &old, false).await.expect("added");
    let before = store.table_version(&database, name).await.expect("the version");
    let commit = Commit {
        expected_version: Some(before),
        add_files: vec![moved("f1"), moved("f2")],
        remove_files: strings(&["file:///warehouse/old"]),
        drop_partitions: vec![strings(&["a", "1"]), strings(&["missing", "1"])],
        add_partitions: vec![partition(&["d", "1"]), partition(&["b", "1"])],
        table_parameters: parameters(&[("numRows", "10"), ("EXTRA", "x")]),
        partition_parameters: vec![
            (strings(&["d", "1"]), parameters(&[("numRows", "7")])),
            (strings(&["b", "1"]), parameters(&[("numRows", "3")])),
        ],
        ..begin(store, &database.to_uppercase(), "T").await
    };
    assert_eq!(store.commit(&commit).await.expect("committed"), before + 1);

    let snapshot = store.snapshot(&database, name, &PartitionFilter::default()).await.expect("a snapshot");
    assert_eq!(snapshot.table.version, before + 1);
    assert_eq!(snapshot.table.table.parameters["numRows"], "10");
    assert_eq!(snapshot.table.table.parameters["EXTRA"], "x");
    let rows: Vec<(&str, Option<&str>)> = snapshot
        .partitions
        .iter()
        .map(|partition| (partition.values[0].as_str(), partition.parameters.get("numRows").map(String::as_str)))
        .collect();
    assert_eq!(rows, [("b", Some("3")), ("c", None), ("d", Some("7"))]);
    let expected = Commit { database: database.clone(), table: name.into(), version: before + 1, ..commit.clone() };
    assert_eq!(snapshot.pending, [expected]);
    assert!(!abandoned_ids(store).await.contains(&commit.id), "the write has ended");
}

/// Increments commute, count from 0 and leave alone what is not known.
pub async fn numbers_are_added(store: &dyn Store) {
    let (database, name) = new_partitioned_table(store).await;
    store.add_partitions(&database, name, &[partition(&["a", "1"])], false).await.expect("added");
    let values = strings(&["a", "1"]);
    for round in 1..=2 {
        let commit = Commit {
            table_parameters: if round == 1 {
                parameters(&[("unknown", "-1"), ("text", "many")])
            } else {
                Parameters::new()
            },
            table_increments: ["numRows", "unknown", "text"].map(|key| (key.into(), 5)).into(),
            partition_increments: vec![
                (values.clone(), vec![("numRows".into(), 2), ("numRows".into(), 1)]),
                (values.clone(), vec![("totalSize".into(), i64::MAX)]),
            ],
            ..begin(store, &database, name).await
        };
        store.commit(&commit).await.expect("committed");
    }
    let snapshot = store.snapshot(&database, name, &PartitionFilter::default()).await.expect("a snapshot");
    let of_table = &snapshot.table.table.parameters;
    assert_eq!(
        (of_table["numRows"].as_str(), of_table["unknown"].as_str(), of_table["text"].as_str()),
        ("10", "-1", "many")
    );
    let of_partition = &snapshot.partitions[0].parameters;
    assert_eq!((of_partition["numRows"].as_str(), of_partition["totalSize"].as_str()), ("6", "9223372036854775807"));
}

/// CREATE TABLE AS: the table appears with its rows.
pub async fn a_commit_may_make_its_table(store: &dyn Store) {
    let database = new_database(store).await;
    let made = Table { partition_keys: vec![super::column("ds", "string")], ..table(&database, "made") };
    let commit = Commit {
        create_table: Some(made.clone()),
        add_files: vec![moved("f")],
        add_partitions: vec![partition(&["a"])],
        table_increments: vec![("numRows".into(), 4)],
        ..begin(store, &database, "made").await
    };
    let version = store.commit(&commit).await.expect("committed");
    let snapshot = store.snapshot(&database, "made", &PartitionFilter::default()).await.expect("a snapshot");
    assert_eq!(snapshot.table.version, version);
    assert_eq!(snapshot.table.table.parameters["numRows"], "4");
    assert_eq!((snapshot.partitions.len(), snapshot.pending.len()), (1, 1));

    let again = Commit { create_table: Some(made.clone()), ..begin(store, &database, "made").await };
    expect_error(store.commit(&again).await, ErrorKind::AlreadyExists);
    let misnamed = Commit { create_table: Some(made), ..begin(store, &database, "other").await };
    expect_error(store.commit(&misnamed).await, ErrorKind::InvalidInput);
    let missing = begin(store, &database, "nowhere").await;
    expect_error(store.commit(&missing).await, ErrorKind::NotFound);
}

/// What comes last and fails undoes what came before, and the write is still there to be tried again or cleaned up.
pub async fn a_commit_that_fails_leaves_nothing(store: &dyn Store) {
    let (database, name) = new_partitioned_table(store).await;
    store.add_partitions(&database, name, &[partition(&["a", "1"])], false).await.expect("added");
    let before = store.snapshot(&database, name, &PartitionFilter::default()).await.expect("a snapshot");
    let commit = Commit {
        add_files: vec![moved("f")],
        drop_partitions: vec![strings(&["a", "1"])],
        add_partitions: vec![partition(&["b", "1"])],
        table_parameters: parameters(&[("numRows", "10")]),
        partition_increments: vec![(strings(&["gone", "1"]), vec![("numRows".into(), 1)])],
        ..begin(store, &database, name).await
    };
    let error = expect_error(store.commit(&commit).await, ErrorKind::Conflict);
    assert!(error.message().contains("ds=gone/k=1"), "{error}");
    let after = store.snapshot(&database, name, &PartitionFilter::default()).await.expect("a snapshot");
    assert_eq!(after.table, before.table);
    assert_eq!(after.partitions, before.partitions);
    assert_eq!(after.pending, []);
    assert!(abandoned_ids(store).await.contains(&commit.id));
    let corrected = Commit { partition_increments: Vec::new(), ..commit };
    store.commit(&corrected).await.expect("committed");
}

/// OVERWRITE names the version it read.
pub async fn a_stale_version_is_refused(store: &dyn Store) {
    let (database, name) = new_table(store).await;
    let read = store.table_version(&database, name).await.expect("the version");
    let insert = begin(store, &database, name).await;
    store.commit(&insert).await.expect("committed");
    let overwrite = Commit { expected_version: Some(read), ..begin(store, &database, name).await };
    let error = expect_error(store.commit(&overwrite).await, ErrorKind::Conflict);
    for part in [&format!("{database}.{name}"), &read.to_string(), &(read + 1).to_string()] {
        assert!(error.message().contains(part), "{part} is not in: {error}");
    }
    let retried = Commit { expected_version: Some(read + 1), ..overwrite };
    assert_eq!(store.commit(&retried).await.expect("committed"), read + 2);

    // A table dropped and made again is another one, whatever its version was.
    let old = Commit { expected_version: Some(read + 2), ..begin(store, &database, name).await };
    store.drop_table(&database, name).await.expect("dropped");
    store.create_table(&table(&database, name)).await.expect("made again");
    expect_error(store.commit(&old).await, ErrorKind::Conflict);
}

/// INSERT names no version, since it commutes with whatever happens to its table, but it names the table.
pub async fn rows_for_a_dropped_table_are_not_the_next_ones(store: &dyn Store) {
    let (database, name) = new_table(store).await;
    let read = store.table(&database, name).await.expect("the table").id;
    let insert = Commit { expected_table: Some(read), ..begin(store, &database, name).await };
    let late = Commit { expected_table: Some(read), ..begin(store, &database, name).await };
    store.commit(&insert).await.expect("committed");
    store.drop_table(&database, name).await.expect("dropped");
    store.create_table(&table(&database, name)).await.expect("made again");
    expect_error(store.commit(&late).await, ErrorKind::Conflict);
    assert!(pending_of(store, &database, name).await.is_empty());
}

/// A write that was cleaned up has lost its files: it must not commit any more.
pub async fn a_commit_needs_its_write(store: &dyn Store) {
    let (database, name) = new_table(store).await;
    let commit = begin(store, &database, name).await;
    store.end_write(&commit.id).await.expect("ended");
    store.end_write(&commit.id).await.expect("harmless when repeated");
    expect_error(store.commit(&commit).await, ErrorKind::NotFound);
    assert_eq!(pending_of(store, &database, name).await, []);
}

/// A writer that did not hear the answer asks again.
pub async fn a_commit_asked_for_twice_happens_once(store: &dyn Store) {
    let (database, name) = new_table(store).await;
    let commit = Commit { table_increments: vec![("numRows".into(), 1)], ..begin(store, &database, name).await };
    let version = store.commit(&commit).await.expect("committed");
    assert_eq!(store.commit(&commit).await.expect("told again"), version);
    store.finish_commit(&commit.id).await.expect("finished");
    assert_eq!(store.commit(&commit).await.expect("told again"), version);
    let found = store.table(&database, name).await.expect("the table");
    assert_eq!((found.version, found.table.parameters["numRows"].as_str()), (version, "1"));
}

/// Pending commits of all tables, oldest first, each until it is finished.
pub async fn pending_commits_are_listed_until_finished(store: &dyn Store) {
    let (database, name) = new_table(store).await;
    store.create_table(&table(&database, "other")).await.expect("a new table");
    let mut ids = Vec::new();
    for table in [name, "other", name] {
        let commit = Commit { add_files: vec![moved("f")], ..begin(store, &database, table).await };
        store.commit(&commit).await.expect("committed");
        ids.push(commit.id);
    }
    let pending = || async {
        let all = store.pending_commits().await.expect("commits");
        all.into_iter().filter(|commit| commit.database == database).map(|commit| commit.id).collect::<Vec<_>>()
    };
    assert_eq!(pending().await, ids);
    assert_eq!(pending_of(store, &database, name).await.len(), 2);
    store.finish_commit(&ids[0]).await.expect("finished");
    store.finish_commit(&ids[0]).await.expect("harmless when repeated");
    store.finish_commit("no such commit").await.expect("harmless when unknown");
    assert_eq!(pending().await, ids[1..]);
    assert_eq!(pending_of(store, &database, name).await[0].id, ids[2]);
    for id in &ids {
        store.finish_commit(id).await.expect("finished");
    }
}

/// Readers see by them whether their listing was disturbed.
pub async fn finished_commits_are_kept_until_forgotten(store: &dyn Store) {
    let (database, name) = new_table(store).await;
    let mut versions = Vec::new();
    for _ in 0..3 {
        let commit = begin(store, &database, name).await;
        versions.push(store.commit(&commit).await.expect("committed"));
        if versions.len() < 3 {
            store.finish_commit(&commit.id).await.expect("finished");
        }
    }
    let since = |version| async move {
        let commits = store.commits_since(&database, name, version).await.expect("commits");
        (database, commits.into_iter().map(|commit| commit.version).collect::<Vec<_>>())
    };
    let (database, found) = since(0).await;
    assert_eq!(found, versions);
    let found = store.commits_since(&database, name, versions[0]).await.expect("commits");
    assert_eq!(found.len(), 2);
    assert_eq!(store.forget_commits(0).await.expect("forgotten"), 0);
    assert!(store.forget_commits(i64::MAX).await.expect("forgotten") >= 2);
    let left = store.commits_since(&database, name, 0).await.expect("commits");
    assert_eq!(left.len(), 1, "one that is pending is never forgotten");
    assert_eq!(left[0].version, versions[2]);
}

/// A file is noted before its first byte and again when it is finished.
pub async fn staged_files_are_noted(store: &dyn Store) {
    let (database, name) = new_table(store).await;
    let id = ids::new_id();
    let write = Write {
        id: id.clone(),
        database: database.clone(),
        table: name.into(),
        owner: "dead".into(),
        began_ms: 42,
        staged: vec![moved("first")],
    };
    store.begin_write(&write).await.expect("a new write");
    expect_error(store.begin_write(&write).await, ErrorKind::AlreadyExists);
    let again = StagedFile { staged: "file:///warehouse/_tereza/second-2".into(), ..moved("second") };
    store.stage(&id, &moved("second")).await.expect("noted");
    store.stage(&id, &again).await.expect("another place of the same file");
    store.stage(&id, &moved("first")).await.expect("noted again");
    expect_error(store.stage("no such write", &moved("x")).await, ErrorKind::NotFound);

    let found = store.abandoned_writes("alive").await.expect("writes").into_iter().find(|write| write.id == id);
    let mut found = found.expect("the write is abandoned");
    found.staged.sort_by_key(|file| format!("{file:?}"));
    let mut expected = Write { staged: vec![moved("first"), moved("second"), again], ..write };
    expected.staged.sort_by_key(|file| format!("{file:?}"));
    assert_eq!(found, expected);
    let mut alone = store.write(&id).await.expect("asked").expect("the write");
    alone.staged.sort_by_key(|file| format!("{file:?}"));
    assert_eq!(alone, expected);
    store.end_write(&id).await.expect("ended");
    assert_eq!(store.write(&id).await.expect("asked"), None);
    expect_error(store.stage(&id, &moved("late")).await, ErrorKind::NotFound);
}

/// The writes of everybody but the living.
pub async fn abandoned_writes_are_found(store: &dyn Store) {
    let database = new_database(store).await;
    let commit = begin(store, &database, "not_there_yet").await;
    assert!(abandoned_ids(store).await.contains(&commit.id));
    let alive = store.abandoned_writes("conformance").await.expect("writes");
    assert!(alive.iter().all(|write| write.id != commit.id));
    store.end_write(&commit.id).await.expect("ended");
    assert!(!abandoned_ids(store).await.contains(&commit.id));
}

/// Whoever said lately that it lives is not cleaned up after.
pub async fn writes_of_the_living_are_left_to_them(store: &dyn Store) {
    const AN_HOUR_MS: i64 = 3_600_000;
    let (database, name) = new_table(store).await;
    let (owner, other) = (ids::new_id(), ids::new_id());
    let is_alive = async |owner: &String| store.live_owners().await.expect("owners").contains(owner);
    assert!(!is_alive(&owner).await);
    store.renew_owner(&owner, AN_HOUR_MS).await.expect("renewed");
    store.renew_owner(&owner, AN_HOUR_MS).await.expect("renewed again");
    store.renew_owner(&other, AN_HOUR_MS).await.expect("renewed");
    let commit = begin_as(store, &owner, &database, name).await;
    assert!(is_alive(&owner).await);
    assert!(!abandoned_ids(store).await.contains(&commit.id));
    assert!(!store.give_up_write(&commit.id).await.expect("asked"));

    store.end_owner(&owner).await.expect("ended");
    store.end_owner(&owner).await.expect("ended already");
    assert!(!is_alive(&owner).await && is_alive(&other).await);
    assert!(abandoned_ids(store).await.contains(&commit.id));
    store.renew_owner(&owner, 0).await.expect("renewed for no time");
    assert!(!is_alive(&owner).await);
    assert!(abandoned_ids(store).await.contains(&commit.id));
    store.commit(&commit).await.expect("nobody gave it up yet");
    assert!(!store.give_up_write(&commit.id).await.expect("asked"), "it has ended");
    store.end_owner(&other).await.expect("ended");
}

/// Its files may be gone.
pub async fn a_write_that_was_given_up_is_not_committed(store: &dyn Store) {
    let (database, name) = new_table(store).await;
    let slow = ids::new_id();
    let commit = begin_as(store, &slow, &database, name).await;
    let version = store.table_version(&database, name).await.expect("the version");
    assert!(store.give_up_write(&commit.id).await.expect("given up"));
    assert!(store.give_up_write(&commit.id).await.expect("given up already"));
    store.renew_owner(&slow, 60_000).await.expect("too late");
    expect_error(store.stage(&commit.id, &moved("late")).await, ErrorKind::NotFound);
    expect_error(store.commit(&commit).await, ErrorKind::NotFound);
    assert_eq!(store.table_version(&database, name).await.expect("the version"), version);
    assert!(store.write(&commit.id).await.expect("asked").is_some(), "whoever removes its files finds it");
    store.end_owner(&slow).await.expect("ended");
    store.end_write(&commit.id).await.expect("ended");
    assert!(!store.give_up_write(&commit.id).await.expect("asked"));
    expect_error(store.commit(&commit).await, ErrorKind::NotFound);
}

/// What is committed to a table stays part of it under its new name.
pub async fn the_journal_follows_a_renamed_table(store: &dyn Store) {
    let (database, name) = new_table(store).await;
    let commit = Commit { add_files: vec![moved("f")], ..begin(store, &database, name).await };
    let version = store.commit(&commit).await.expect("committed");
    let old = store.table(&database, name).await.expect("the table").table;
    let renamed = Table { name: "renamed".into(), ..old };
    store.alter_table(&database, name, Some(version), &renamed).await.expect("renamed");
    let pending = pending_of(store, &database, "renamed").await;
    assert_eq!(pending.len(), 1);
    assert_eq!((pending[0].id.as_str(), pending[0].table.as_str()), (commit.id.as_str(), "renamed"));
    store.create_table(&table(&database, name)).await.expect("made again");
    assert_eq!(pending_of(store, &database, name).await, []);
}

/// Its rows are gone, so nobody may roll them forward into a table that gets the name next.
pub async fn a_dropped_table_leaves_its_staged_files_to_the_cleaner(store: &dyn Store) {
    let (database, name) = new_table(store).await;
    let finished = begin(store, &database, name).await;
    store.commit(&finished).await.expect("committed");
    store.finish_commit(&finished.id).await.expect("finished");
    let commit = Commit { add_files: vec![moved("f")], ..begin(store, &database, name).await };
    store.commit(&commit).await.expect("committed");
    store.drop_table(&database, name).await.expect("dropped");
    let pending = store.pending_commits().await.expect("commits");
    assert!(pending.iter().all(|pending| pending.id != commit.id));
    let abandoned = store.abandoned_writes("conformance").await.expect("writes");
    let write = abandoned.into_iter().find(|write| write.id == commit.id).expect("its files are left");
    assert_eq!(write.staged, commit.add_files);
    store.finish_commit(&commit.id).await.expect("harmless");
    store.create_table(&table(&database, name)).await.expect("made again");
    assert_eq!(store.commits_since(&database, name, 0).await.expect("commits"), []);
    store.end_write(&commit.id).await.expect("ended");
}

/// The files of an external table outlive it, and so do rows that were committed.
pub async fn commits_to_a_dropped_external_table_stay_pending(store: &dyn Store) {
    let database = new_database(store).await;
    store.create_table(&Table { kind: TableKind::External, ..table(&database, "e") }).await.expect("a new table");
    let commit = Commit { add_files: vec![moved("f")], ..begin(store, &database, "e").await };
    store.commit(&commit).await.expect("committed");
    store.drop_table(&database, "e").await.expect("dropped");
    let pending = store.pending_commits().await.expect("commits");
    assert!(pending.iter().any(|pending| pending.id == commit.id));
    assert!(!abandoned_ids(store).await.contains(&commit.id));
    store.finish_commit(&commit.id).await.expect("finished");
}

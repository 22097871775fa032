//! Appliers over a real table, and processes that die in the middle.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

use arrow::array::{ArrayRef, AsArray, Int64Array, StringArray};
use arrow::datatypes::Int64Type;
use object_store::memory::InMemory;
use tereza_engine::query::{SessionDefaults, Statement};
use tereza_engine::{LocalQueryService, QueryService, fail_point};
use tereza_runtime::clock::Clock;
use tereza_runtime::{ErrorKind, Settings};

use super::*;
use crate::apply::{Applier, Backlog, Tables};
use crate::host::{Host, System};
use crate::objects::Objects;
use crate::record::{self, Applied, Pending};
use crate::rules::Rules;

const UID: &str = "7d1c";
const KEY: &str = "tereza.7d1c.0";

/// The name of the test whose process is to die, its folder, and what it is to do there.
const MORTAL: &str = "table::tests::whoever_dies_leaves_a_table_before_its_commit_or_after_it";
const FOLDER: &str = "TEREZA_TEST_TABLE_FOLDER";
const WORK: &str = "TEREZA_TEST_TABLE_WORK";
const WRITES: &str = "writes";
const COMMITS: &str = "commits";
/// In its folder: the files that are to be committed.
const FILES: &str = "files.json";
const SIGABRT: i32 = 6;

async fn engine(folder: &Path) -> Arc<Engine> {
    Engine::open(&Settings::in_folder(folder).unwrap()).await.unwrap()
}

async fn run(engine: &Arc<Engine>, sql: &str) -> Vec<RecordBatch> {
    let service = LocalQueryService::new(Arc::clone(engine));
    let session = service.open_session("ada", SessionDefaults::default()).await.unwrap();
    service.submit(&session, Statement::new(sql)).await.unwrap().collect().await.unwrap()
}

async fn ids(engine: &Arc<Engine>) -> Vec<i64> {
    let batches = run(engine, "SELECT id FROM t ORDER BY id").await;
    batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
}

async fn open(engine: &Arc<Engine>) -> CatalogTable {
    CatalogTable::open(engine, "tereza", "default", "t").await.unwrap()
}

/// Rows of two partitions, one for each id.
fn rows(ids: &[i64]) -> RecordBatch {
    let id: ArrayRef = Arc::new(Int64Array::from(ids.to_vec()));
    let key: ArrayRef = Arc::new(StringArray::from_iter_values(ids.iter().map(|id| format!("k={}", id % 2))));
    RecordBatch::try_from_iter([("id", id), ("k", key)]).unwrap()
}

async fn written(table: &CatalogTable, name: &str, ids: &[i64]) -> Vec<DataFile> {
    let mut writer = table.begin(name).await.unwrap();
    writer.write(rows(ids)).await.unwrap();
    writer.finish().await.unwrap()
}

/// The applier of a task whose record has these files pending, and says that the table has what is up to `marker`.
fn applier(table: CatalogTable, uuid: &str, marker: u64, pending: &[(u64, Vec<DataFile>)]) -> Applier<RecordBatch> {
    let host: Arc<dyn Host> = Arc::new(System(Clock::system()));
    let pending = pending.iter().map(|(epoch, files)| {
        let files = record::Files::Inline(files.clone());
        Pending { table: "t".into(), epoch: *epoch, files }
    });
    let applied = Applied { uuid: uuid.to_owned(), marker };
    Applier {
        uid: UID.into(),
        task: 0,
        tables: Tables::from([("t".to_owned(), Arc::new(table) as Arc<dyn Table<Rows = RecordBatch>>)]),
        objects: Objects::new(Arc::new(InMemory::new()), Arc::clone(&host)),
        host,
        backlog: Arc::new(Backlog::new(pending.collect(), BTreeMap::from([("t".to_owned(), applied)]))),
        rules: Rules::default(),
    }
}

#[tokio::test]
async fn appliers_bring_what_records_name_once() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(folder.path()).await;
    run(&engine, "CREATE TABLE t (id BIGINT) PARTITIONED BY (k STRING)").await;
    let table = open(&engine).await;
    let uuid = table.load(KEY).await.unwrap().uuid;
    let pending = [(1, written(&table, "e1", &[1, 2]).await), (2, written(&table, "e2", &[3]).await)];
    // Records are JSON.
    let text = serde_json::to_string(&pending[0].1).unwrap();
    assert_eq!(serde_json::from_str::<Vec<DataFile>>(&text).unwrap(), pending[0].1);
    assert_eq!(ids(&engine).await, [0_i64; 0]);

    let first = applier(table, &uuid, 0, &pending);
    first.turn().await.unwrap();
    assert_eq!((ids(&engine).await, first.backlog.len()), (vec![1, 2, 3], 0));
    assert_eq!(open(&engine).await.load(KEY).await.unwrap().marker, 2);
    // One that went on after it was replaced.
    let late = applier(open(&engine).await, &uuid, 0, &pending);
    late.turn().await.unwrap();
    assert_eq!((ids(&engine).await, late.backlog.len()), (vec![1, 2, 3], 0));
    // The next epoch, with one that the table has.
    let table = open(&engine).await;
    let third = (3, written(&table, "e3", &[4]).await);
    let next = applier(table, &uuid, 1, &[pending[1].clone(), third]);
    next.turn().await.unwrap();
    assert_eq!(ids(&engine).await, [1, 2, 3, 4]);
}

#[tokio::test]
async fn an_applier_stops_at_what_does_not_pass_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(folder.path()).await;
    let make = "CREATE TABLE t (id BIGINT, other STRING) PARTITIONED BY (k STRING)";
    run(&engine, make).await;
    let table = open(&engine).await;
    let uuid = table.load(KEY).await.unwrap().uuid;
    let mut writer = table.begin("e1").await.unwrap();
    let cells: [(&str, ArrayRef); 3] = [
        ("id", Arc::new(Int64Array::from(vec![1]))),
        ("other", Arc::new(StringArray::from(vec!["x"]))),
        ("k", Arc::new(StringArray::from(vec!["a"]))),
    ];
    writer.write(RecordBatch::try_from_iter(cells).unwrap()).await.unwrap();
    let pending = [(1, writer.finish().await.unwrap())];

    run(&engine, "ALTER TABLE t DROP COLUMN other").await;
    let error = applier(table, &uuid, 0, &pending).turn().await.unwrap_err();
    assert!(error.kind() == ErrorKind::InvalidInput && error.message().contains("no column other"), "{error}");
    run(&engine, "ALTER TABLE t ADD COLUMNS (other STRING)").await;
    applier(open(&engine).await, &uuid, 0, &pending).turn().await.unwrap();
    assert_eq!(ids(&engine).await, [1]);

    // A client that had read the table before has written its parameters as they were.
    run(&engine, &format!("ALTER TABLE t UNSET TBLPROPERTIES ('{KEY}')")).await;
    let error = applier(open(&engine).await, &uuid, 0, &pending).turn().await.unwrap_err();
    assert!(error.kind() == ErrorKind::Internal && error.message().contains("its rows are lost"), "{error}");
    assert_eq!(ids(&engine).await, [1]);

    run(&engine, "DROP TABLE t").await;
    let table_url = folder.path().join("anew").display().to_string();
    run(&engine, &format!("CREATE EXTERNAL TABLE t (id BIGINT) STORED AS PARQUET LOCATION '{table_url}'")).await;
    let error = applier(open(&engine).await, &uuid, 0, &pending).turn().await.unwrap_err();
    assert!(error.kind() == ErrorKind::InvalidInput && error.message().contains("is not the one"), "{error}");
}

/// What the process does that dies.
async fn die(folder: &Path) {
    let engine = engine(folder).await;
    let table = open(&engine).await;
    if env::var(WORK).unwrap() == WRITES {
        written(&table, "e1", &[1, 2, 3]).await;
        return;
    }
    let files: Vec<DataFile> = serde_json::from_slice(&fs::read(folder.join(FILES)).unwrap()).unwrap();
    let base = table.load(KEY).await.unwrap();
    table.commit(Change { base: &base, key: KEY, marker: 7, files: &files }).await.unwrap();
}

fn die_at(point: &str, work: &str, folder: &Path) {
    let status = Command::new(env::current_exe().unwrap())
        .args(["--exact", MORTAL, "--nocapture"])
        .env(FOLDER, folder)
        .env(WORK, work)
        .env(fail_point::VARIABLE, point)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.signal(), Some(SIGABRT), "{point}: {status}");
}

#[tokio::test]
async fn whoever_dies_leaves_a_table_before_its_commit_or_after_it() {
    if let Some(folder) = env::var_os(FOLDER) {
        return die(Path::new(&folder)).await;
    }
    let points = [
        (fail_point::AFTER_STAGE, WRITES, false),
        (fail_point::MID_FILE, WRITES, false),
        (fail_point::AFTER_LAST_CLOSE, WRITES, false),
        (fail_point::AFTER_BEGIN, COMMITS, false),
        (fail_point::BEFORE_COMMIT, COMMITS, false),
        (fail_point::AFTER_COMMIT, COMMITS, true),
        (fail_point::MID_ROLL_FORWARD, COMMITS, true),
        (fail_point::BEFORE_DELETES, COMMITS, true),
        (fail_point::BEFORE_FINISH, COMMITS, true),
    ];
    for (point, work, is_committed) in points {
        let folder = tempfile::tempdir().unwrap();
        let before = engine(folder.path()).await;
        run(&before, "CREATE TABLE t (id BIGINT) PARTITIONED BY (k STRING)").await;
        let files = written(&open(&before).await, "e0", &[1, 2, 3]).await;
        assert_eq!(files.len(), 2);
        fs::write(folder.path().join(FILES), serde_json::to_vec(&files).unwrap()).unwrap();
        before.close().await;
        drop(before);

        die_at(point, work, folder.path());

        let after = engine(folder.path()).await;
        let table = open(&after).await;
        let base = table.load(KEY).await.unwrap();
        let expected: (&[i64], u64) = if is_committed { (&[1, 2, 3], 7) } else { (&[], 0) };
        assert_eq!((ids(&after).await.as_slice(), base.marker), expected, "{point}");
        for file in &files {
            assert_eq!(table.has(file).await.unwrap(), !is_committed, "{point}: {}", file.path);
        }
        if !is_committed {
            let change = Change { base: &base, key: KEY, marker: 7, files: &files };
            assert_eq!(table.commit(change).await.unwrap(), Outcome::Committed, "{point}");
            assert_eq!(ids(&after).await, [1, 2, 3], "{point}");
        }
        after.close().await;
    }
}

//! Appliers over a real table, and processes that die in the middle.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use arrow::array::{ArrayRef, AsArray, Int64Array, StringArray};
use arrow::datatypes::Int64Type;
use object_store::memory::InMemory;
use tereza_engine::query::{SessionDefaults, Statement};
use tereza_engine::{LocalQueryService, QueryService, fail_point};
use tereza_runtime::clock::Clock;
use tereza_runtime::{ErrorKind, Settings};

use super::*;
use crate::apply::{Applier, Backlog, Tables};
use crate::coordinator::Coordinator;
use crate::host::{Host, System};
use crate::log::Log;
use crate::log::object::ObjectLog;
use crate::objects::Objects;
use crate::pipeline::{Pipeline, Polled, Produced, Restored, Snapshot, Source};
use crate::record::{self, Applied, Cut, EpochRecord, Pending, PlanRecord, Positions};
use crate::rules::Rules;
use crate::task::{self, Job, Started, start};

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

/// Partitions `k=0` and `k=1` are complete when the watermark is past the first two hours of 1970.
const BY_WATERMARK: &str = "CREATE TABLE t (id BIGINT) PARTITIONED BY (k STRING) TBLPROPERTIES (
    'sink.partition-commit.trigger' = 'partition-time', 'partition.time-extractor.timestamp-formatter' = '''k=''H')";
const HOUR_MS: i64 = 3_600_000;

#[tokio::test]
async fn partitions_come_when_their_files_are_in_and_their_time_has_come() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(folder.path()).await;
    run(&engine, BY_WATERMARK).await;
    let table = open(&engine).await;
    assert_eq!(table.needs_watermarks(), Some(true));
    let uuid = table.load(KEY).await.unwrap().uuid;
    let files = written(&table, "e1", &[0, 1, 2]).await;
    let values: Vec<_> = files.iter().map(|file| table.partition(file).unwrap().unwrap()).collect();
    let open_partition =
        |values: &Vec<String>, epoch| OpenPartition { table: "t".into(), values: values.clone(), epoch, since_ms: 0 };
    let mark = record::Watermark { ms: Some(1), idle: false };
    let record = EpochRecord {
        pending: vec![Pending { table: "t".into(), epoch: 1, files: record::Files::Inline(files) }],
        applied: BTreeMap::from([("t".to_owned(), Applied { uuid: uuid.clone(), marker: 0 })]),
        partitions: values.iter().map(|values| open_partition(values, 1)).collect(),
        watermarks: BTreeMap::from([("in".to_owned(), BTreeMap::from([(0, mark)]))]),
        ..EpochRecord::default()
    };
    let mut applier = applier(table, &uuid, 0, &[]);
    applier.backlog = Arc::new(Backlog::of(&record));
    applier.turn().await.unwrap();
    assert_eq!(ids(&engine).await, [0, 2], "files are in, and one partition is not complete");
    let waiting = applier.backlog.partitions(&[]).unwrap();
    assert_eq!(waiting, [open_partition(&vec!["k=1".to_owned()], 1)]);
    // It gets more files, and its time is there but not past.
    let late = open_partition(&waiting[0].values, 2);
    let more = written(&open(&engine).await, "e2", &[3]).await;
    let pending = Pending { table: "t".into(), epoch: 2, files: record::Files::Inline(more) };
    applier.backlog.committed(&[pending], std::slice::from_ref(&late), Some(HOUR_MS));
    applier.turn().await.unwrap();
    assert_eq!((ids(&engine).await, applier.backlog.partitions(&[]).unwrap()), (vec![0, 2], vec![late]));
    applier.backlog.committed(&[], &[], Some(HOUR_MS + 1));
    applier.turn().await.unwrap();
    assert_eq!((ids(&engine).await, applier.backlog.partitions(&[]).unwrap()), (vec![0, 1, 2, 3], vec![]));
    engine.close().await;
}

#[tokio::test]
async fn too_many_partitions_that_wait_are_an_error() {
    let backlog = Backlog::new(Vec::new(), BTreeMap::new());
    let touched: Vec<OpenPartition> = (0..10_001)
        .map(|n| OpenPartition { table: "t".into(), values: vec![format!("{n}")], epoch: 1, since_ms: 0 })
        .collect();
    assert_eq!(backlog.partitions(&touched[1..]).unwrap().len(), 10_000);
    assert_eq!(backlog.partitions(&touched).unwrap_err().kind(), ErrorKind::ResourceExhausted);
}

/// Neither rows nor state.
struct Still;

impl Pipeline for Still {
    type Input = ();
    type Rows = RecordBatch;

    fn process(&mut self, (): (), _: i64, _: &mut Produced<RecordBatch>) -> Result<()> {
        Ok(())
    }

    fn tick(&mut self, _: i64, _: &mut Produced<RecordBatch>) -> Result<bool> {
        Ok(false)
    }

    fn snapshot(&mut self, _: &mut Produced<RecordBatch>) -> Result<Snapshot> {
        Ok(Snapshot::default())
    }

    fn restore(&mut self, _: Restored) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl Source for Still {
    type Input = ();

    async fn assign(&mut self, _: &Positions) -> Result<()> {
        Ok(())
    }

    async fn poll(&mut self) -> Result<Polled<()>> {
        Ok(Polled::Idle)
    }

    fn committed(&mut self, _: &EpochRecord) {}
}

#[tokio::test]
async fn an_attempt_removes_what_dead_ones_left() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(folder.path()).await;
    let url = folder.path().join("t").display().to_string();
    run(&engine, &format!("CREATE EXTERNAL TABLE t (id BIGINT, k STRING) STORED AS PARQUET LOCATION '{url}'")).await;
    let table = Arc::new(open(&engine).await);
    let uuid = table.load(KEY).await.unwrap().uuid;
    let host: Arc<dyn Host> = Arc::new(System(Clock::system()));
    let objects = Objects::new(Arc::new(InMemory::new()), Arc::clone(&host));
    let log: Arc<dyn Log> = Arc::new(ObjectLog::new(objects.clone(), "jobs"));
    let tables = Tables::from([("t".to_owned(), Arc::clone(&table) as Arc<dyn Table<Rows = RecordBatch>>)]);
    let plan = PlanRecord {
        tables: BTreeMap::from([("t".to_owned(), uuid)]),
        cuts: vec![Cut { key_groups: (0, 255), ..Cut::default() }],
        fingerprint: "q".into(),
        ..PlanRecord::default()
    };
    let coordinator = Coordinator {
        uid: UID.into(),
        log: Arc::clone(&log),
        objects: objects.clone(),
        root: "jobs".into(),
        tables: tables.clone(),
        host: Arc::clone(&host),
        rules: Rules::default(),
    };
    assert!(coordinator.create(plan).await.is_ok());
    // Of a dead attempt long ago, of one just now, and of another job.
    let mut files = Vec::new();
    for name in [format!("{UID}-0-a-1"), format!("{UID}-0-b-1"), "other-0-a-1".to_owned()] {
        files.extend(written(&table, &name, &[1]).await);
    }
    let path = |file: &DataFile| PathBuf::from(file.path.strip_prefix("file://").unwrap());
    for file in [&files[0], &files[2]] {
        let file = fs::File::options().write(true).open(path(file)).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    }
    let job = Job {
        uid: UID.into(),
        task: 0,
        fingerprint: "q".into(),
        log,
        objects,
        root: "jobs".into(),
        tables,
        host,
        settings: task::Settings::default(),
        rules: Rules::default(),
    };
    assert!(matches!(start(Arc::new(job), Still, Still).await, Ok(Started::Running(_))));
    assert_eq!(files.iter().map(|file| path(file).exists()).collect::<Vec<_>>(), [false, true, true]);
    engine.close().await;
}

//! Files of a stream over a real catalog and real files.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::util::display::array_value_to_string;
use futures::TryStreamExt;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use tempfile::TempDir;
use tereza_catalog::hive;
use tereza_catalog::model::{DEFAULT_PARTITION, Parameters};
use tereza_catalog::store::PartitionFilter;
use tereza_catalog::store::sqlite::SqliteStore;
use tereza_runtime::clock::Clock;
use tereza_runtime::{ErrorKind, Settings};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::LocalQueryService;
use crate::query::{QueryService, SessionDefaults, SessionId, Statement};

const KEY: &str = "tereza.7d1c.0";
const ORPHANS_AGE_MS: i64 = 25 * 60 * 60 * 1000;
/// Looks for what is cleaned up in the background.
const CLEANUP_LOOKS: u32 = 500;
const CLEANUP_PAUSE: Duration = Duration::from_millis(20);

struct Fixture {
    engine: Arc<Engine>,
    service: Arc<LocalQueryService>,
    session: SessionId,
    folder: TempDir,
}

impl Fixture {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::open(&Settings::in_folder(folder.path()).unwrap()).await.unwrap();
        Self::over(engine, folder).await
    }

    async fn at(clock: Clock) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let catalog = SqliteStore::open_in_memory(clock.clone()).await.unwrap();
        let settings = Settings::in_folder(folder.path()).unwrap();
        let engine = Engine::over(&settings, Arc::new(catalog), clock).await.unwrap();
        Self::over(engine, folder).await
    }

    async fn over(engine: Arc<Engine>, folder: TempDir) -> Self {
        let service = LocalQueryService::new(Arc::clone(&engine));
        let session = service.open_session("ada", SessionDefaults::default()).await.unwrap();
        Self { engine, service, session, folder }
    }

    /// Another process on the same folder, after this one has ended.
    async fn next(self) -> Self {
        let Self { engine, service, folder, .. } = self;
        drop(service);
        engine.close().await;
        drop(engine);
        let engine = Engine::open(&Settings::in_folder(folder.path()).unwrap()).await.unwrap();
        Self::over(engine, folder).await
    }

    async fn run(&self, sql: &str) {
        self.service.submit(&self.session, Statement::new(sql)).await.unwrap().run().await.unwrap();
    }

    /// One text for each row, with `|` between its columns.
    async fn rows(&self, sql: &str) -> Vec<String> {
        let batches = self.service.submit(&self.session, Statement::new(sql)).await.unwrap().collect().await.unwrap();
        let mut rows = Vec::new();
        for batch in &batches {
            for row in 0..batch.num_rows() {
                let cells = batch.columns().iter().map(|column| match column.is_null(row) {
                    true => "NULL".to_owned(),
                    false => array_value_to_string(column, row).unwrap(),
                });
                rows.push(cells.collect::<Vec<_>>().join("|"));
            }
        }
        rows
    }

    fn url(&self, name: &str) -> String {
        format!("file://{}", self.folder.path().join(name).display())
    }

    async fn table(&self, name: &str) -> StagingTable {
        StagingTable::open(&self.engine, "tereza", "default", name).await.unwrap()
    }

    async fn parameters(&self, name: &str) -> Parameters {
        self.engine.catalog.table("default", name).await.unwrap().table.parameters
    }
}

fn ids(ids: &[i64]) -> RecordBatch {
    RecordBatch::try_from_iter([("id", Arc::new(Int64Array::from(ids.to_vec())) as ArrayRef)]).unwrap()
}

fn keyed(rows: &[(i64, Option<&str>)]) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|(id, _)| *id)));
    let keys: ArrayRef = Arc::new(StringArray::from_iter(rows.iter().map(|(_, key)| *key)));
    RecordBatch::try_from_iter([("id", ids), ("k", keys)]).unwrap()
}

async fn written(table: &StagingTable, name: &str, rows: &RecordBatch) -> Vec<CompleteFile> {
    let mut writer = table.begin(name).unwrap();
    writer.write(rows).await.unwrap();
    writer.finish().await.unwrap()
}

async fn commit(table: &StagingTable, base: &TableState, marker: u64, files: &[CompleteFile]) -> Result<bool> {
    table.commit(TableChange { base, key: KEY, marker, files }).await
}

/// Commits to the table as it is now.
async fn bring(table: &StagingTable, marker: u64, files: &[CompleteFile]) -> Result<bool> {
    commit(table, &table.load(KEY).await.unwrap(), marker, files).await
}

fn path_of(file: &CompleteFile) -> PathBuf {
    file.path.strip_prefix("file://").unwrap().into()
}

#[tokio::test]
async fn rows_are_in_the_table_with_the_marker_and_not_before() {
    let fixture = Fixture::new().await;
    fixture.run("CREATE TABLE t (id BIGINT) PARTITIONED BY (k STRING)").await;
    fixture.run("INSERT INTO t VALUES (0, 'old')").await;
    let table = fixture.table("t").await;
    assert_eq!(table.schema().fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>(), ["id", "k"]);
    let rows = [(1, Some("old")), (2, Some("a/b=c%é '")), (3, None), (4, Some("")), (5, Some("old"))];
    let files = written(&table, "7d1c-0-1", &keyed(&rows)).await;
    assert_eq!(files.iter().map(|file| file.rows).sum::<u64>(), 5);
    for file in &files {
        let name = file.path.rsplit('/').next().unwrap();
        assert!(name.contains("7d1c-0-1") && file.path.contains("/_tereza/7d1c-0-1/"), "{}", file.path);
        assert!(file.token.len() < token::TOKEN_BYTES_MAX);
        assert_eq!(fs::metadata(path_of(file)).unwrap().len(), file.size);
        assert!(table.has(&file.path, file.size).await.unwrap());
        assert!(!table.has(&file.path, file.size + 1).await.unwrap());
    }
    assert!(!table.has(&format!("{}-no", files[0].path), 1).await.unwrap());
    let before = table.load(KEY).await.unwrap();
    assert_eq!((fixture.rows("SELECT id FROM t").await, before.marker), (vec!["0".to_owned()], 0));

    assert!(commit(&table, &before, 9, &files).await.unwrap());
    let expected = ["0|old", "1|old", "2|a/b=c%é '", "3|NULL", "4|NULL", "5|old"];
    assert_eq!(fixture.rows("SELECT id, k FROM t ORDER BY id").await, expected);
    let after = table.load(KEY).await.unwrap();
    assert_eq!((after.marker, &after.uuid), (9, &before.uuid));
    assert_ne!(after.token, before.token);
    let partitions =
        fixture.engine.catalog.partitions("default", "t", &PartitionFilter::default(), None).await.unwrap();
    let mut numbers: Vec<(&str, &str, &str)> = partitions
        .iter()
        .map(|partition| {
            let of = |key: &str| partition.parameters[key].as_str();
            (partition.values[0].as_str(), of("numRows"), of("numFiles"))
        })
        .collect();
    numbers.sort_unstable();
    let mut expected = [("old", "3", "2"), ("a/b=c%é '", "1", "1"), (DEFAULT_PARTITION, "2", "2")];
    expected.sort_unstable();
    assert_eq!(numbers, expected);
    assert!(!files.iter().any(|file| path_of(file).exists()));
    assert_eq!(fixture.engine.catalog.pending_commits().await.unwrap(), []);
}

#[tokio::test]
async fn files_make_the_numbers_that_insert_makes() {
    let fixture = Fixture::new().await;
    for name in ["t", "u"] {
        fixture.run(&format!("CREATE TABLE {name} (id BIGINT)")).await;
        fixture.run(&format!("INSERT OVERWRITE {name} VALUES (1)")).await;
    }
    let table = fixture.table("t").await;
    let files = written(&table, "n", &ids(&[2, 3])).await;
    assert!(bring(&table, 1, &files).await.unwrap());
    fixture.run("INSERT INTO u VALUES (2), (3)").await;
    let (of_stream, of_insert) = (fixture.parameters("t").await, fixture.parameters("u").await);
    for key in ["numRows", "numFiles", "totalSize"] {
        assert_eq!(of_stream[key], of_insert[key], "{key}");
    }
    assert_eq!((of_stream["numRows"].as_str(), of_stream[KEY].as_str()), ("3", "1"));
}

#[tokio::test]
async fn what_was_changed_by_others_is_a_conflict() {
    let fixture = Fixture::new().await;
    fixture.run("CREATE TABLE t (id BIGINT)").await;
    let table = fixture.table("t").await;
    let files = written(&table, "n", &ids(&[1])).await;
    let read = table.load(KEY).await.unwrap();
    fixture.run("INSERT INTO t VALUES (7)").await;
    assert!(!commit(&table, &read, 1, &files).await.unwrap());
    assert_eq!(fixture.rows("SELECT id FROM t").await, ["7"]);
    assert!(bring(&table, 1, &files).await.unwrap());
    assert_eq!(fixture.rows("SELECT id FROM t ORDER BY id").await, ["1", "7"]);
}

#[tokio::test]
async fn files_come_in_once() {
    let fixture = Fixture::new().await;
    fixture.run("CREATE TABLE t (id BIGINT)").await;
    let (table, other) = (fixture.table("t").await, fixture.table("t").await);
    let files = written(&table, "n", &ids(&[1, 2])).await;
    let read = table.load(KEY).await.unwrap();
    // Two at once with the same files.
    let (one, two) = tokio::join!(commit(&table, &read, 5, &files), commit(&other, &read, 5, &files));
    assert_eq!(u8::from(one.unwrap()) + u8::from(two.unwrap()), 1);
    // A late one.
    assert!(!commit(&other, &read, 5, &files).await.unwrap());
    // One that does not heed the marker.
    let error = bring(&other, 6, &files).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal, "{error}");
    assert!(error.message().contains("is not there any more"), "{error}");
    // One whose marker somebody set back.
    fixture.run(&format!("ALTER TABLE t SET TBLPROPERTIES ('{KEY}' = '0')")).await;
    assert_eq!(other.load(KEY).await.unwrap().marker, 0);
    bring(&other, 5, &files).await.unwrap_err();
    assert_eq!(fixture.rows("SELECT id FROM t ORDER BY id").await, ["1", "2"]);
}

#[tokio::test]
async fn a_marker_only_grows() {
    let fixture = Fixture::new().await;
    fixture.run("CREATE TABLE t (id BIGINT)").await;
    let table = fixture.table("t").await;
    let files = written(&table, "n", &ids(&[1])).await;
    assert!(bring(&table, 5, &files).await.unwrap());
    let more = written(&table, "m", &ids(&[2])).await;
    assert_eq!(bring(&table, 5, &more).await.unwrap_err().kind(), ErrorKind::Internal);
    fixture.run(&format!("ALTER TABLE t SET TBLPROPERTIES ('{KEY}' = 'x')")).await;
    let error = table.load(KEY).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.message().contains(KEY) && error.message().contains("'x'"), "{error}");
}

#[tokio::test]
async fn the_marker_and_the_identity_outlive_what_happens_to_the_table() {
    let fixture = Fixture::new().await;
    fixture.run("CREATE TABLE t (id BIGINT)").await;
    let table = fixture.table("t").await;
    let files = written(&table, "n", &ids(&[1])).await;
    assert!(bring(&table, 3, &files).await.unwrap());
    let read = table.load(KEY).await.unwrap();
    for change in [
        "INSERT INTO t VALUES (2)",
        "INSERT OVERWRITE t SELECT id FROM t",
        "ALTER TABLE t ADD COLUMNS (n INT)",
        "ALTER TABLE t SET TBLPROPERTIES ('a' = 'b')",
        "ANALYZE TABLE t COMPUTE STATISTICS",
    ] {
        fixture.run(change).await;
        let now = table.load(KEY).await.unwrap();
        assert_eq!((now.marker, &now.uuid), (3, &read.uuid), "{change}");
    }
    fixture.run("ALTER TABLE t RENAME TO u").await;
    let now = fixture.table("u").await.load(KEY).await.unwrap();
    assert_eq!((now.marker, now.uuid), (3, read.uuid));
    assert_eq!(table.load(KEY).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_table_that_is_made_anew_is_another() {
    let fixture = Fixture::new().await;
    fixture.run("CREATE TABLE t (id BIGINT)").await;
    let table = fixture.table("t").await;
    let files = written(&table, "n", &ids(&[1])).await;
    let read = table.load(KEY).await.unwrap();
    fixture.run("DROP TABLE t").await;
    assert_eq!(commit(&table, &read, 1, &files).await.unwrap_err().kind(), ErrorKind::NotFound);
    let elsewhere = fixture.url("elsewhere");
    fixture.run(&format!("CREATE EXTERNAL TABLE t (id BIGINT) STORED AS PARQUET LOCATION '{elsewhere}'")).await;
    assert_ne!(table.load(KEY).await.unwrap().uuid, read.uuid);
    assert!(!commit(&table, &read, 1, &files).await.unwrap());
}

#[tokio::test]
async fn a_column_that_was_added_is_null_and_one_that_was_dropped_is_missed() {
    let fixture = Fixture::new().await;
    fixture.run("CREATE TABLE t (id BIGINT, b STRING)").await;
    let table = fixture.table("t").await;
    let rows = RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from(vec![1])) as ArrayRef),
        ("b", Arc::new(StringArray::from(vec!["x"])) as ArrayRef),
    ])
    .unwrap();
    let files = written(&table, "n", &rows).await;
    let more = written(&table, "m", &rows).await;
    fixture.run("ALTER TABLE t ADD COLUMNS (c INT)").await;
    assert!(bring(&table, 1, &files).await.unwrap());
    assert_eq!(fixture.rows("SELECT id, b, c FROM t").await, ["1|x|NULL"]);
    fixture.run("ALTER TABLE t DROP COLUMN b").await;
    let error = bring(&table, 2, &more).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.message().contains("has no column b any more"), "{error}");
    assert_eq!((table.load(KEY).await.unwrap().marker, fixture.rows("SELECT id FROM t").await.len()), (1, 1));
    assert!(path_of(&more[0]).exists());
}

#[tokio::test]
async fn files_that_wait_are_left_alone_by_other_processes() {
    let fixture = Fixture::new().await;
    fixture.run("CREATE TABLE t (id BIGINT)").await;
    let table = fixture.table("t").await;
    let files = written(&table, "n", &ids(&[1, 2])).await;
    let uuid = table.load(KEY).await.unwrap().uuid;
    drop(table);
    let fixture = fixture.next().await;
    fixture.run("INSERT INTO t VALUES (3)").await;
    let fixture = fixture.next().await;
    let table = fixture.table("t").await;
    for file in &files {
        assert!(table.has(&file.path, file.size).await.unwrap());
    }
    assert_eq!(table.load(KEY).await.unwrap().uuid, uuid);
    assert!(bring(&table, 1, &files).await.unwrap());
    assert_eq!(fixture.rows("SELECT id FROM t ORDER BY id").await, ["1", "2", "3"]);
}

#[tokio::test]
async fn a_file_that_is_gone_is_not_called_committed() {
    let fixture = Fixture::new().await;
    fixture.run("CREATE TABLE t (id BIGINT)").await;
    let table = fixture.table("t").await;
    let files = written(&table, "n", &ids(&[1])).await;
    fs::write(path_of(&files[0]), "cut").unwrap();
    let error = bring(&table, 1, &files).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Internal && error.message().contains(&files[0].path), "{error}");
    assert_eq!(table.load(KEY).await.unwrap().marker, 0);
    let mut elsewhere = files;
    elsewhere[0].path = "file:///etc/hostname".into();
    let error = bring(&table, 1, &elsewhere).await.unwrap_err();
    assert!(error.message().contains("no file that waits"), "{error}");
}

#[tokio::test]
async fn a_writer_that_is_dropped_leaves_nothing() {
    let fixture = Fixture::new().await;
    fixture.run("CREATE TABLE t (id BIGINT) PARTITIONED BY (k STRING)").await;
    let table = fixture.table("t").await;
    let kept = written(&table, "kept", &keyed(&[(1, Some("a"))])).await;
    let mut writer = table.begin("dropped").unwrap();
    writer.write(&keyed(&[(1, Some("a")), (2, Some("b"))])).await.unwrap();
    drop(writer);
    let staging = path_of(&kept[0]).parent().unwrap().parent().unwrap().to_path_buf();
    let dropped = staging.join("dropped");
    for _ in 0..CLEANUP_LOOKS {
        if !dropped.exists() {
            break;
        }
        tokio::time::sleep(CLEANUP_PAUSE).await;
    }
    assert!(!dropped.exists());
    assert!(path_of(&kept[0]).exists());
}

#[tokio::test]
async fn rows_that_do_not_fit_are_refused_and_end_the_files() {
    let fixture = Fixture::new().await;
    fixture.run("CREATE TABLE t (id BIGINT) PARTITIONED BY (k STRING)").await;
    let table = fixture.table("t").await;
    let mut writer = table.begin("n").unwrap();
    assert_eq!(writer.write(&ids(&[1])).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    writer.write(&keyed(&[(1, Some("a"))])).await.unwrap();
    let long = "x".repeat(300);
    let error = writer.write(&keyed(&[(2, Some(&long))])).await.unwrap_err();
    assert!(error.kind() == ErrorKind::InvalidInput && error.message().contains("300 characters"), "{error}");
    assert_eq!(writer.write(&keyed(&[(3, Some("a"))])).await.unwrap_err().kind(), ErrorKind::Internal);
    assert_eq!(writer.finish().await.unwrap_err().kind(), ErrorKind::Internal);
    let mut writer = table.begin("m").unwrap();
    let wide = "é".repeat(200);
    let error = writer.write(&keyed(&[(2, Some(&wide))])).await.unwrap_err();
    assert!(error.kind() == ErrorKind::InvalidInput && error.message().contains("more than 255"), "{error}");
    for name in ["", "a/b", "..", "_a", "é", &"x".repeat(161)] {
        assert_eq!(table.begin(name).map(drop).unwrap_err().kind(), ErrorKind::InvalidInput, "{name}");
    }
}

#[tokio::test]
async fn files_follow_a_table_to_another_folder() {
    let fixture = Fixture::new().await;
    let [one, two] = ["one", "two"].map(|name| fixture.url(name));
    fixture.run(&format!("CREATE EXTERNAL TABLE t (id BIGINT) STORED AS PARQUET LOCATION '{one}'")).await;
    let table = fixture.table("t").await;
    let files = written(&table, "n", &ids(&[1])).await;
    let more = written(&table, "m", &ids(&[2])).await;
    fixture.run(&format!("ALTER TABLE t SET LOCATION '{two}'")).await;
    assert!(bring(&table, 1, &files).await.unwrap());
    assert_eq!(fixture.rows("SELECT id FROM t").await, ["1"]);
    assert!(fs::read_dir(fixture.folder.path().join("two")).unwrap().count() > 0);
    // Where they cannot be brought.
    fixture.engine.stores.register_bucket("lake", &Arc::new(InMemory::new()));
    fixture.run("ALTER TABLE t SET LOCATION 's3://lake/t'").await;
    let error = bring(&table, 2, &more).await.unwrap_err();
    assert!(error.kind() == ErrorKind::InvalidInput && error.message().contains("another store"), "{error}");
}

#[tokio::test]
async fn objects_are_brought_within_their_bucket() {
    let fixture = Fixture::new().await;
    let bucket = Arc::new(InMemory::new());
    fixture.engine.stores.register_bucket("lake", &bucket);
    fixture.run("CREATE EXTERNAL TABLE t (a STRING) STORED AS TEXTFILE LOCATION 's3://lake/t'").await;
    let table = fixture.table("t").await;
    // So much that it is put in parts.
    let texts: Vec<String> = (0..9).map(|n| n.to_string().repeat(1 << 20)).collect();
    let rows = RecordBatch::try_from_iter([("a", Arc::new(StringArray::from(texts)) as ArrayRef)]).unwrap();
    let files = written(&table, "n", &rows).await;
    assert!(files.len() == 1 && files[0].size > 8 << 20);
    let objects = |bucket: &Arc<InMemory>| {
        let bucket = Arc::clone(bucket);
        async move {
            let listed: Vec<_> = bucket.list(None).try_collect().await.unwrap();
            listed.into_iter().filter(|object| object.size > 0 || object.location.as_ref().contains(".upload")).count()
        }
    };
    assert_eq!(objects(&bucket).await, 1);
    assert!(table.has(&files[0].path, files[0].size).await.unwrap());
    assert!(bring(&table, 1, &files).await.unwrap());
    assert_eq!(objects(&bucket).await, 1);
    assert!(!table.has(&files[0].path, files[0].size).await.unwrap());
    assert_eq!(fixture.rows("SELECT count(*), sum(length(a)) FROM t").await, [format!("9|{}", 9 << 20)]);
}

#[tokio::test]
async fn orphans_go_when_they_are_old_and_nobody_names_them() {
    let clock = Clock::fixed(Clock::system().unix_ms());
    let fixture = Fixture::at(clock.clone()).await;
    let url = fixture.url("t");
    fixture.run(&format!("CREATE EXTERNAL TABLE t (id BIGINT) STORED AS PARQUET LOCATION '{url}'")).await;
    let table = fixture.table("t").await;
    let mut files = Vec::new();
    for name in ["u-0-a1-1", "u-0-a1-2", "u-1-a1-1"] {
        files.extend(written(&table, name, &ids(&[1])).await);
    }
    let is_own = |name: &str| name.starts_with("u-0-a1-");
    let kept = std::collections::BTreeSet::from([files[1].path.as_str()]);
    assert_eq!(table.remove_orphans(is_own, &kept).await.unwrap(), 0);
    clock.advance_ms(ORPHANS_AGE_MS);
    assert_eq!(table.remove_orphans(is_own, &kept).await.unwrap(), 1);
    assert_eq!(files.iter().map(|file| path_of(file).exists()).collect::<Vec<_>>(), [false, true, true]);
    assert_eq!(table.remove_orphans(is_own, &kept).await.unwrap(), 0);
    assert!(bring(&table, 2, &files[1..2]).await.unwrap());
}

#[tokio::test]
async fn a_table_of_a_running_metastore_takes_files() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("thrift://{}", listener.local_addr().unwrap());
    let store = Arc::new(SqliteStore::open_in_memory(Clock::system()).await.unwrap());
    let drain = CancellationToken::new();
    let serving = hive::serve(listener, store, Arc::new(()), hive::Settings::default(), drain.clone());
    let serving = tokio::spawn(serving);
    let mut settings = Settings::in_folder(folder.path()).unwrap();
    settings.catalog.url = url;
    let fixture = Fixture::over(Engine::open(&settings).await.unwrap(), folder).await;
    let url = fixture.url("t");
    let make = "CREATE EXTERNAL TABLE t (id BIGINT) PARTITIONED BY (k STRING) STORED AS PARQUET LOCATION";
    fixture.run(&format!("{make} '{url}'")).await;
    let table = fixture.table("t").await;
    let files = written(&table, "n", &keyed(&[(1, Some("a")), (2, Some("b"))])).await;
    let read = table.load(KEY).await.unwrap();
    fixture.run("INSERT INTO t VALUES (3, 'a')").await;
    assert!(!commit(&table, &read, 1, &files).await.unwrap());
    assert!(bring(&table, 1, &files).await.unwrap());
    let now = table.load(KEY).await.unwrap();
    assert_eq!((now.marker, &now.uuid), (1, &read.uuid));
    bring(&table, 2, &files).await.unwrap_err();
    assert_eq!(fixture.rows("SELECT id, k FROM t ORDER BY id").await, ["1|a", "2|b", "3|a"]);
    let Fixture { engine, service, .. } = fixture;
    drop((table, service));
    engine.close().await;
    drain.cancel();
    serving.abort();
}

#[tokio::test]
async fn what_is_no_table_of_files_is_refused() {
    let fixture = Fixture::new().await;
    fixture.run("CREATE TABLE t (id BIGINT)").await;
    fixture.run("CREATE VIEW v AS SELECT * FROM t").await;
    fixture.run("CREATE TABLE o (id BIGINT) STORED AS ORC").await;
    fixture.run("SET tereza.dialect = 'flink'").await;
    fixture.run("CREATE TABLE s (id BIGINT) WITH ('connector' = 'blackhole')").await;
    let open = async |catalog: &str, schema: &str, name: &str| {
        StagingTable::open(&fixture.engine, catalog, schema, name).await.map(drop).unwrap_err()
    };
    let error = open("memory", "public", "t").await;
    assert!(error.kind() == ErrorKind::Unsupported && error.message().contains("memory.public.t"), "{error}");
    assert_eq!(open("tereza", "default", "v").await.kind(), ErrorKind::InvalidInput);
    assert_eq!(open("tereza", "default", "s").await.kind(), ErrorKind::InvalidInput);
    assert_eq!(open("tereza", "default", "o").await.kind(), ErrorKind::Unsupported);
    assert_eq!(open("tereza", "default", "none").await.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_partition_that_waits_is_not_read_before_it_is_complete() {
    let fixture = Fixture::new().await;
    let url = fixture.url("t");
    fixture
        .run(&format!(
            "CREATE EXTERNAL TABLE t (id BIGINT) PARTITIONED BY (k STRING) STORED AS PARQUET LOCATION '{url}' \
             TBLPROPERTIES ('sink.partition-commit.policy.kind' = 'metastore,success-file', 'auto-compaction' = 'true')"
        ))
        .await;
    fixture.run("INSERT INTO t VALUES (0, 'old')").await;
    let table = fixture.table("t").await;
    let files = written(&table, "n", &keyed(&[(1, Some("old")), (2, Some("new"))])).await;
    let mut partitions: Vec<_> = files.iter().map(|file| table.partition(file).unwrap().unwrap()).collect();
    partitions.sort_unstable();
    assert_eq!(partitions, [["new"], ["old"]]);
    assert!(bring(&table, 1, &files).await.unwrap());
    assert!(bring(&table, 2, &written(&table, "m", &keyed(&[(3, Some("new"))])).await).await.unwrap());
    let all = "SELECT id, k FROM t ORDER BY id";
    assert_eq!(fixture.rows(all).await, ["0|old", "1|old"]);
    let folder = fixture.folder.path().join("t");
    let names = |partition: &str| -> Vec<String> {
        let entries = fs::read_dir(folder.join(partition)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    assert_eq!(names("k=new").len(), 2);

    let TableState { uuid, .. } = table.load(KEY).await.unwrap();
    let new = ["new".to_owned()];
    let error = table.complete("another", &new).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    // Once more does no harm.
    for _ in 0..2 {
        assert!(table.complete(&uuid, &new).await.unwrap());
        assert_eq!(fixture.rows(all).await, ["0|old", "1|old", "2|new", "3|new"]);
        let names = names("k=new");
        assert!(names.len() == 2 && names.iter().any(|name| name == "_SUCCESS"), "one file of rows: {names:?}");
    }
    assert!(!folder.join("k=old/_SUCCESS").exists());
    let known = fixture.engine.catalog.partitions("default", "t", &PartitionFilter::default(), None).await.unwrap();
    let known = known.iter().find(|partition| partition.values == new).unwrap();
    assert_eq!(known.parameters["numFiles"], "1");
    // Late rows are seen with their commit.
    assert!(bring(&table, 3, &written(&table, "o", &keyed(&[(4, Some("new"))])).await).await.unwrap());
    assert_eq!(fixture.rows("SELECT count(*) FROM t WHERE k = 'new'").await, ["3"]);
    assert_eq!(table.load(KEY).await.unwrap().marker, 3);
}

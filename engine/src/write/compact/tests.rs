//! Compaction by its statement, over real files.

use std::path::Path;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use tempfile::TempDir;
use tereza_runtime::Settings;

use super::*;
use crate::LocalQueryService;
use crate::query::{QueryService, SessionDefaults, SessionId, Statement};

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
        let service = LocalQueryService::new(Arc::clone(&engine));
        let session = service.open_session("ada", SessionDefaults::default()).await.unwrap();
        Self { engine, service, session, folder }
    }

    async fn try_run(&self, sql: &str) -> Result<()> {
        self.service.submit(&self.session, Statement::new(sql)).await?.run().await.map(drop)
    }

    async fn run(&self, sql: &str) {
        self.try_run(sql).await.unwrap();
    }

    /// The first column of a query.
    async fn numbers(&self, sql: &str) -> Vec<i64> {
        let batches = self.service.submit(&self.session, Statement::new(sql)).await.unwrap().collect().await.unwrap();
        batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
    }

    async fn external(&self, columns: &str) {
        let url = format!("file://{}", self.folder.path().join("t").display());
        self.run(&format!("CREATE EXTERNAL TABLE t {columns} STORED AS PARQUET LOCATION '{url}'")).await;
    }

    /// Files in a folder of the table.
    fn files(&self, folder: &str) -> usize {
        let is_file = |path: &Path| path.is_file();
        let entries = std::fs::read_dir(self.folder.path().join("t").join(folder)).unwrap();
        entries.filter(|entry| is_file(&entry.as_ref().unwrap().path())).count()
    }
}

#[tokio::test]
async fn small_files_become_one_and_rows_stay() {
    let fixture = Fixture::new().await;
    fixture.external("(id BIGINT) PARTITIONED BY (k STRING)").await;
    for id in 0..4 {
        fixture.run(&format!("INSERT INTO t VALUES ({id}, 'a'), ({id}, 'b'), ({id}, NULL)")).await;
    }
    fixture.run("INSERT INTO t VALUES (9, 'c')").await;
    let all = "SELECT id FROM t ORDER BY k, id";
    let before = fixture.numbers(all).await;
    fixture.run("ALTER TABLE t PARTITION (k = 'a') COMPACT 'major'").await;
    assert_eq!((fixture.files("k=a"), fixture.files("k=b")), (1, 4));
    assert_eq!(fixture.numbers(all).await, before);
    fixture.run("ALTER TABLE t COMPACT 'MAJOR'").await;
    let null = "k=__HIVE_DEFAULT_PARTITION__";
    assert_eq!([fixture.files("k=a"), fixture.files("k=b"), fixture.files(null), fixture.files("k=c")], [1; 4]);
    assert_eq!(fixture.numbers(all).await, before);
    // There is nothing more to do.
    let version = fixture.engine.catalog.table_version("default", "t").await.unwrap();
    assert!(!compact(&fixture.engine, "default", "t", &["a".to_owned()]).await.unwrap());
    assert_eq!(fixture.engine.catalog.table_version("default", "t").await.unwrap(), version);
}

#[tokio::test]
async fn a_table_without_partitions_is_compacted_whole() {
    let fixture = Fixture::new().await;
    fixture.external("(id BIGINT)").await;
    for id in 0..3 {
        fixture.run(&format!("INSERT INTO t VALUES ({id})")).await;
    }
    assert_eq!(fixture.files(""), 3);
    fixture.run("ALTER TABLE t COMPACT 'major'").await;
    assert_eq!((fixture.files(""), fixture.numbers("SELECT id FROM t ORDER BY id").await), (1, vec![0, 1, 2]));
}

#[tokio::test]
async fn values_in_other_texts_are_not_mixed() {
    let fixture = Fixture::new().await;
    fixture.external("(id BIGINT) PARTITIONED BY (n INT)").await;
    for id in 0..2 {
        fixture.run(&format!("INSERT INTO t VALUES ({id}, 1), ({id}, 2)")).await;
    }
    fixture.run("ALTER TABLE t ADD PARTITION (n = '01')").await;
    for n in ["1", "01"] {
        let error = compact(&fixture.engine, "default", "t", &[n.to_owned()]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    }
    assert!(compact(&fixture.engine, "default", "t", &["2".to_owned()]).await.unwrap());
    assert_eq!((fixture.files("n=1"), fixture.files("n=2")), (2, 1));
    let error = fixture.try_run("ALTER TABLE t PARTITION (n = 7) COMPACT 'major'").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    let error = fixture.try_run("ALTER TABLE t COMPACT 'minor'").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
}

#[tokio::test]
async fn rows_that_come_meanwhile_are_kept() {
    let fixture = Fixture::new().await;
    fixture.external("(id BIGINT)").await;
    let mut expected = Vec::new();
    for id in 0..10 {
        fixture.run(&format!("INSERT INTO t VALUES ({id}), ({})", id + 100)).await;
        let insert = format!("INSERT INTO t VALUES ({})", id + 1000);
        let (compacted, inserted) =
            tokio::join!(compact(&fixture.engine, "default", "t", &[]), fixture.try_run(&insert));
        inserted.unwrap();
        if let Err(error) = compacted {
            assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        }
        expected.extend([id, id + 100, id + 1000]);
    }
    expected.sort_unstable();
    assert_eq!(fixture.numbers("SELECT id FROM t ORDER BY id").await, expected);
}

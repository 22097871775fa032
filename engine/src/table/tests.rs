//! Tables over a real catalog and real files.

use std::fs;
use std::path::{Path, PathBuf};

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::util::pretty::pretty_format_batches;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::physical_plan::{collect, displayable};
use datafusion::prelude::{SessionConfig, SessionContext};
use parquet::arrow::ArrowWriter;
use tempfile::TempDir;
use tereza_catalog::model::{Column, DEFAULT_PARTITION, Parameters, Partition, Storage};
use tereza_catalog::store::sqlite::SqliteStore;
use tereza_catalog::store::{Commit, StagedFile};
use tereza_runtime::ErrorKind;
use tereza_runtime::clock::Clock;
use tereza_runtime::settings::Settings;

use super::*;
use crate::error::from_datafusion;

const DATABASE: &str = "default";

/// An engine with a catalog in memory and tables in a folder of its own.
struct Fixture {
    engine: Arc<Engine>,
    dir: TempDir,
}

impl Fixture {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = Settings::default();
        settings.engine.spill_dir = dir.path().join("spill");
        settings.warehouse.url = dir.path().to_str().unwrap().to_owned();
        let clock = Clock::fixed(0);
        let catalog = SqliteStore::open_in_memory(clock.clone()).await.unwrap();
        let engine = Engine::over(&settings, Arc::new(catalog), clock).await.unwrap();
        Self { engine, dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn url(&self, name: &str) -> String {
        format!("file://{}", self.path(name).display())
    }

    fn storage(&self, format: Format, columns: &[(&str, &str)], folder: &str) -> Storage {
        format.storage(typed(columns), Some(self.url(folder)), &Parameters::new()).unwrap()
    }

    async fn create(&self, format: Format, columns: &[(&str, &str)], keys: &[(&str, &str)]) {
        let table = Table {
            database: DATABASE.into(),
            name: "t".into(),
            kind: TableKind::External,
            owner: None,
            create_time_s: 0,
            last_access_time_s: 0,
            retention: 0,
            storage: self.storage(format, columns, "t"),
            partition_keys: typed(keys),
            parameters: Parameters::new(),
            view_original_text: None,
            view_expanded_text: None,
            owner_kind: Default::default(),
        };
        self.engine.catalog.create_table(&table).await.unwrap();
    }

    async fn add_partition(&self, values: &[&str], storage: Storage) {
        let partition = Partition {
            values: values.iter().map(|value| (*value).to_owned()).collect(),
            create_time_s: 0,
            last_access_time_s: 0,
            storage,
            parameters: Parameters::new(),
        };
        self.engine.catalog.add_partitions(DATABASE, "t", &[partition], false).await.unwrap();
    }

    async fn version(&self) -> i64 {
        self.engine.catalog.table_version(DATABASE, "t").await.unwrap()
    }

    /// A session in which the table is `t`.
    async fn context(&self) -> SessionContext {
        let state = SessionStateBuilder::new()
            .with_default_features()
            .with_config(SessionConfig::new().with_target_partitions(2))
            .with_runtime_env(Arc::clone(&self.engine.runtime))
            .build();
        let context = SessionContext::new_with_state(state);
        let table = self.engine.catalog.table(DATABASE, "t").await.unwrap();
        context.register_table("t", provider(&self.engine, table).unwrap()).unwrap();
        context
    }

    async fn try_query(&self, sql: &str) -> Result<String> {
        let frame = self.context().await.sql(sql).await.map_err(from_datafusion)?;
        // A write stays in its process.
        let travelled = if sql.starts_with("INSERT") { None } else { Some(self.travelled(sql).await) };
        let batches = frame.collect().await.map_err(from_datafusion)?;
        let table = pretty_format_batches(&batches).unwrap().to_string();
        if let Some(travelled) = travelled {
            assert_eq!(travelled.unwrap(), table);
        }
        let rows = table.lines().filter(|line| line.starts_with('|')).skip(1);
        let rows: Vec<String> =
            rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().join(",")).collect();
        Ok(rows.join(" "))
    }

    /// The answer of a plan that was sent to another process.
    async fn travelled(&self, sql: &str) -> datafusion::error::Result<String> {
        let context = self.context().await;
        let plan = context.sql(sql).await?.create_physical_plan().await?;
        let plan = crate::codec::tests::round_trip(plan, &context.task_ctx());
        Ok(pretty_format_batches(&collect(plan, context.task_ctx()).await?)?.to_string())
    }

    async fn query(&self, sql: &str) -> String {
        self.try_query(sql).await.unwrap()
    }
}

fn typed(columns: &[(&str, &str)]) -> Vec<Column> {
    let column =
        |(name, hive): &(&str, &str)| Column { name: (*name).into(), type_name: (*hive).into(), comment: None };
    columns.iter().map(column).collect()
}

fn ints(values: &[i64]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

fn write_parquet(path: &Path, columns: Vec<(&str, ArrayRef)>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = ArrowWriter::try_new(fs::File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn commit(id: &str, add: Vec<StagedFile>, remove_files: Vec<String>) -> Commit {
    Commit {
        id: id.into(),
        database: DATABASE.into(),
        table: "t".into(),
        version: 0,
        expected_version: None,
        expected_table: None,
        create_table: None,
        add_files: add,
        remove_files,
        remove_folders: vec![],
        add_partitions: vec![],
        drop_partitions: vec![],
        table_parameters: Parameters::new(),
        partition_parameters: vec![],
        table_increments: vec![],
        partition_increments: vec![],
        step: None,
    }
}

impl Fixture {
    /// A file that is staged out of readers' sight.
    fn staged(&self, name: &str, value: i64) -> StagedFile {
        write_parquet(&self.path(&format!("t/_tereza/w/{name}")), vec![("i", ints(&[value]))]);
        StagedFile { target: self.url(&format!("t/{name}")), staged: self.url(&format!("t/_tereza/w/{name}")) }
    }

    async fn commit(&self, commit: &Commit) {
        let write = tereza_catalog::store::Write {
            id: commit.id.clone(),
            database: DATABASE.into(),
            table: "t".into(),
            owner: "test".into(),
            began_ms: 0,
            staged: vec![],
        };
        self.engine.catalog.begin_write(&write).await.unwrap();
        self.engine.catalog.commit(commit).await.unwrap();
    }
}

#[tokio::test]
async fn partitions_come_from_the_catalog_wherever_they_are() {
    let fixture = Fixture::new().await;
    let columns = [("i", "bigint")];
    fixture.create(Format::Parquet, &columns, &[("ds", "string"), ("hr", "int")]).await;
    for (values, folder, value) in [
        (["a", "1"], "t/ds=a/hr=1", 1),
        (["a", "02"], "elsewhere", 2),
        (["b", "2"], "t/odd%20name", 3),
        ([DEFAULT_PARTITION, "3"], "t/null", 4),
    ] {
        write_parquet(&fixture.path(folder).join("f.parquet"), vec![("i", ints(&[value]))]);
        fixture.add_partition(&values, fixture.storage(Format::Parquet, &columns, folder)).await;
    }
    // A folder that the catalog does not know is no partition.
    write_parquet(&fixture.path("t/ds=z/hr=9/f.parquet"), vec![("i", ints(&[9]))]);

    assert_eq!(fixture.query("select i, ds, hr from t order by i").await, "1,a,1 2,a,2 3,b,2 4,,3");
    assert_eq!(fixture.query("select i from t where ds = 'a' order by i").await, "1 2");
    assert_eq!(fixture.query("select i from t where hr = 2 order by i").await, "2 3");
    assert_eq!(fixture.query("select i from t where hr > 1 and ds in ('b', 'z')").await, "3");
    assert_eq!(fixture.query("select i from t where ds is null").await, "4");
    assert_eq!(fixture.query("select i from t where ds = 'none'").await, "");
    assert_eq!(fixture.query("select i from t where hr = 77").await, "");
    // NULL keys are not counted, though only statistics are asked.
    assert_eq!(fixture.query("select count(*), count(ds), max(ds) from t").await, "4,3,b");
}

#[tokio::test]
async fn partitions_that_are_not_selected_are_not_touched() {
    let fixture = Fixture::new().await;
    let columns = [("i", "bigint")];
    fixture.create(Format::Parquet, &columns, &[("k", "int")]).await;
    write_parquet(&fixture.path("t/good/f.parquet"), vec![("i", ints(&[1]))]);
    fixture.add_partition(&["1"], fixture.storage(Format::Parquet, &columns, "t/good")).await;
    fs::create_dir_all(fixture.path("t/bad")).unwrap();
    fs::write(fixture.path("t/bad/broken.parquet"), "this is no Parquet file").unwrap();
    fixture.add_partition(&["2"], fixture.storage(Format::Parquet, &columns, "t/bad")).await;

    assert_eq!(fixture.query("select i from t where k < 2").await, "1");
    let error = fixture.try_query("select i from t").await.unwrap_err();
    assert!(error.message().contains("t/bad/broken.parquet"), "{error}");
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    let plan =
        fixture.context().await.sql("select i from t where k = 1").await.unwrap().create_physical_plan().await.unwrap();
    let plan = displayable(plan.as_ref()).indent(false).to_string();
    assert!(!plan.contains("FilterExec"), "{plan}");
}

#[tokio::test]
async fn a_file_that_breaks_while_it_is_read_is_named() {
    let fixture = Fixture::new().await;
    fixture.create(Format::Parquet, &[("i", "bigint")], &[]).await;
    let path = fixture.path("t/f.parquet");
    write_parquet(&path, vec![("i", ints(&(0..10_000).map(|value| value * 7919).collect::<Vec<_>>()))]);
    let mut bytes = fs::read(&path).unwrap();
    // The footer stays whole, the first page's header does not.
    bytes[4..24].fill(0xff);
    fs::write(&path, bytes).unwrap();
    let error = fixture.try_query("select sum(i) from t").await.unwrap_err();
    assert!(error.message().contains("t/f.parquet"), "{error}");
}

#[tokio::test]
async fn only_data_files_of_the_folder_itself_are_read() {
    let fixture = Fixture::new().await;
    fixture.create(Format::Parquet, &[("i", "bigint")], &[]).await;
    for name in ["t/a.parquet", "t/_hidden", "t/.hidden", "t/sub/b.parquet", "t/_tereza/w/c.parquet"] {
        write_parquet(&fixture.path(name), vec![("i", ints(&[1]))]);
    }
    fs::write(fixture.path("t/empty"), "").unwrap();
    assert_eq!(fixture.query("select count(*) from t").await, "1");
    fs::remove_dir_all(fixture.path("t")).unwrap();
    assert_eq!(fixture.query("select i from t").await, "");
}

#[tokio::test]
async fn files_with_other_columns_are_read_by_name() {
    let fixture = Fixture::new().await;
    fixture.create(Format::Parquet, &[("id", "bigint"), ("userid", "string"), ("late", "decimal(5,1)")], &[]).await;
    let text = |values: &[&str]| Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
    let small: ArrayRef = Arc::new(Int32Array::from(vec![1, 7]));
    write_parquet(&fixture.path("t/a"), vec![("userId", text(&["x", "y"])), ("id", small)]);
    write_parquet(&fixture.path("t/b"), vec![("extra", ints(&[0])), ("id", ints(&[3])), ("userid", text(&["z"]))]);

    assert_eq!(fixture.query("select * from t order by id").await, "1,x, 3,z, 7,y,");
    assert_eq!(fixture.query("select id from t where userid > 'x' order by id").await, "3 7");
    // From statistics, as far as they tell: a column is there whatever its spelling, and its range whatever its type.
    assert_eq!(fixture.query("select min(id), max(id) from t").await, "1,7");
    assert_eq!(fixture.query("select count(userid), count(late), min(userid) from t").await, "3,0,x");
}

#[tokio::test]
async fn partitions_may_have_formats_of_their_own() {
    let fixture = Fixture::new().await;
    let columns = [("i", "bigint"), ("s", "string")];
    fixture.create(Format::Parquet, &columns, &[("k", "int")]).await;
    let text: ArrayRef = Arc::new(StringArray::from(vec!["p"]));
    write_parquet(&fixture.path("t/k=1/f"), vec![("s", text), ("i", ints(&[1]))]);
    fixture.add_partition(&["1"], fixture.storage(Format::Parquet, &columns, "t/k=1")).await;
    for (key, format, content) in [
        ("2", Format::Text, "2\u{1}t\n"),
        ("3", Format::Csv, "3,\"c\"\n"),
        ("4", Format::Json, "{\"s\":\"j\",\"i\":4}\n"),
    ] {
        let folder = format!("t/k={key}");
        fs::create_dir_all(fixture.path(&folder)).unwrap();
        fs::write(fixture.path(&folder).join("f"), content).unwrap();
        fixture.add_partition(&[key], fixture.storage(format, &columns, &folder)).await;
    }
    assert_eq!(fixture.query("select i, s, k from t order by i").await, "1,p,1 2,t,2 3,c,3 4,j,4");
    assert_eq!(fixture.query("select count(*) from t where k > 1").await, "3");
    assert_eq!(fixture.query("select k + 1, s || '!' from t where k = 2").await, "3,t!");
}

#[tokio::test]
async fn a_committed_write_is_rolled_forward_before_reading() {
    let fixture = Fixture::new().await;
    fixture.create(Format::Parquet, &[("i", "bigint")], &[]).await;
    write_parquet(&fixture.path("t/a.parquet"), vec![("i", ints(&[1]))]);
    let staged = fixture.staged("b.parquet", 2);
    assert_eq!(fixture.query("select i from t").await, "1");
    fixture.commit(&commit("w", vec![staged], vec![])).await;
    assert_eq!(fixture.query("select i from t order by i").await, "1 2");
    assert!(fixture.engine.catalog.pending_commits().await.unwrap().is_empty());
}

#[tokio::test]
async fn what_happens_after_a_snapshot_is_told_apart() {
    let fixture = Fixture::new().await;
    fixture.create(Format::Parquet, &[("i", "bigint")], &[]).await;
    let before = fixture.version().await;
    let later = |version| listing::later_files(&fixture.engine, DATABASE, "t", version);
    assert_eq!(later(before).await.unwrap(), Some(vec![]));

    let staged = fixture.staged("a.parquet", 1);
    fixture.commit(&commit("w1", vec![staged], vec![])).await;
    let target = fixture.engine.stores.place(&fixture.url("t/a.parquet")).unwrap();
    assert_eq!(later(before).await.unwrap(), Some(vec![(target.root, target.path)]));

    let middle = fixture.version().await;
    fixture.commit(&commit("w2", vec![], vec![fixture.url("t/a.parquet")])).await;
    assert_eq!(later(middle).await.unwrap(), None);
    assert_eq!(later(before).await.unwrap(), None);

    let last = fixture.version().await;
    let mut table = fixture.engine.catalog.table(DATABASE, "t").await.unwrap().table;
    table.parameters.insert("a".into(), "b".into());
    fixture.engine.catalog.alter_table(DATABASE, "t", None, &table).await.unwrap();
    assert_eq!(later(last).await.unwrap(), None);
}

#[tokio::test]
async fn a_limit_reads_no_more_files_than_it_needs() {
    let fixture = Fixture::new().await;
    fixture.create(Format::Parquet, &[("i", "bigint")], &[]).await;
    for file in 0..20 {
        write_parquet(&fixture.path(&format!("t/{file:02}.parquet")), vec![("i", ints(&[file]))]);
    }
    let plan =
        fixture.context().await.sql("select i from t limit 2").await.unwrap().create_physical_plan().await.unwrap();
    let plan = displayable(plan.as_ref()).indent(true).to_string();
    assert!(plan.contains("02.parquet") && !plan.contains("03.parquet"), "{plan}");
    assert_eq!(fixture.query("select count(*) from (select i from t limit 7)").await, "7");
}

#[tokio::test]
async fn a_table_that_changed_its_columns_is_not_read_with_the_old_ones() {
    let fixture = Fixture::new().await;
    fixture.create(Format::Parquet, &[("i", "bigint")], &[]).await;
    let context = fixture.context().await;
    let mut table = fixture.engine.catalog.table(DATABASE, "t").await.unwrap().table;
    table.storage.columns.push(Column { name: "j".into(), type_name: "int".into(), comment: None });
    fixture.engine.catalog.alter_table(DATABASE, "t", None, &table).await.unwrap();
    let frame = context.sql("select * from t").await.unwrap();
    let error = from_datafusion(frame.collect().await.unwrap_err());
    assert_eq!(error.kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn rows_for_a_table_that_was_dropped_are_refused_by_the_next_one() {
    let fixture = Fixture::new().await;
    fixture.create(Format::Parquet, &[("i", "bigint")], &[]).await;
    let context = fixture.context().await;
    let frame = context.sql("INSERT INTO t VALUES (1)").await.unwrap();
    let plan = frame.create_physical_plan().await.unwrap();
    fixture.engine.catalog.drop_table(DATABASE, "t").await.unwrap();
    fixture.create(Format::Parquet, &[("i", "bigint")], &[]).await;
    let error = datafusion::physical_plan::collect(plan, context.task_ctx()).await.unwrap_err();
    assert_eq!(from_datafusion(error).kind(), ErrorKind::Conflict);
    assert_eq!(fixture.query("SELECT count(*) FROM t").await, "0");
}

#[tokio::test]
async fn rows_for_the_old_location_are_refused() {
    let fixture = Fixture::new().await;
    fixture.create(Format::Parquet, &[("i", "bigint")], &[]).await;
    let context = fixture.context().await;
    let frame = context.sql("INSERT INTO t VALUES (1)").await.unwrap();
    let plan = frame.create_physical_plan().await.unwrap();
    let mut table = fixture.engine.catalog.table(DATABASE, "t").await.unwrap().table;
    table.storage.location = Some(fixture.url("elsewhere"));
    fixture.engine.catalog.alter_table(DATABASE, "t", None, &table).await.unwrap();
    let error = datafusion::physical_plan::collect(plan, context.task_ctx()).await.unwrap_err();
    assert_eq!(from_datafusion(error).kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn the_journal_of_a_process_that_never_ends_is_bounded() {
    const HOURS_MS: i64 = 60 * 60 * 1000;
    let fixture = Fixture::new().await;
    fixture.create(Format::Parquet, &[("i", "bigint")], &[]).await;
    for _ in 0..3 {
        fixture.query("INSERT INTO t VALUES (1)").await;
        fixture.engine.clock.advance_ms(2 * HOURS_MS);
    }
    let kept = fixture.engine.catalog.commits_since(DATABASE, "t", 0).await.unwrap();
    assert_eq!(kept.len(), 1, "the last one");
    assert_eq!(fixture.query("SELECT count(*) FROM t").await, "3");
}

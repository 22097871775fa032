//! Statements about streams, from their text to what is kept, asked and submitted.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, RecordBatchOptions, StringArray, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Schema};
use arrow::util::display::array_value_to_string;
use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use parking_lot::Mutex;
use tereza_catalog::Store;
use tereza_catalog::store::sqlite::SqliteStore;
use tereza_runtime::clock::Clock;
use tereza_runtime::settings::Settings;
use tereza_runtime::{Error, ErrorKind, Result};

use crate::flink::{StreamInsert, StreamSource};
use crate::jobs::{CANCELLED, Detail, JobStep, QUEUED, STREAM, StreamProgress};
use crate::query::{SessionDefaults, SessionId, Statement};
use crate::streams::Streams;
use crate::{Engine, LocalQueryService, QueryService};

/// Notes what it is asked. Streams hold two rows.
#[derive(Debug, Default)]
struct Asked {
    checks: Mutex<Vec<Vec<Check>>>,
    refuses: Mutex<Option<String>>,
}

/// What was asked of one INSERT: its sink, the sink's columns, those of the plan, the options of the sink and of the streams
/// that are read.
#[derive(Debug, Clone, PartialEq)]
struct Check {
    sink: String,
    columns: Vec<(String, DataType)>,
    planned: Vec<(String, DataType)>,
    plan: String,
    settings: BTreeMap<String, String>,
}

fn columns(schema: &Schema) -> Vec<(String, DataType)> {
    schema.fields().iter().map(|field| (field.name().clone(), field.data_type().clone())).collect()
}

impl Check {
    fn of(insert: &StreamInsert, settings: &BTreeMap<String, String>) -> Self {
        Self {
            sink: insert.sink.name(),
            columns: columns(&insert.sink.columns()),
            planned: columns(insert.plan.plan.schema().as_arrow()),
            plan: insert.plan.plan.display_indent().to_string(),
            settings: settings.clone(),
        }
    }
}

#[async_trait]
impl Streams for Asked {
    fn check_table(&self, table: &StreamSource) -> Result<()> {
        match table.definition().options.get("unknown") {
            Some(_) => Err(Error::invalid_input(format!("{} has no option 'unknown'", table.name()))),
            None => Ok(()),
        }
    }

    async fn check(&self, inserts: &[StreamInsert], settings: &BTreeMap<String, String>) -> Result<String> {
        if let Some(reason) = &*self.refuses.lock() {
            return Err(Error::unsupported(reason.clone()));
        }
        self.checks.lock().push(inserts.iter().map(|insert| Check::of(insert, settings)).collect());
        Ok(inserts.iter().map(|insert| format!("sink {}", insert.sink.name())).collect::<Vec<_>>().join("\n"))
    }

    async fn scan(
        &self,
        table: Arc<StreamSource>,
        columns: Vec<usize>,
    ) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        if table.definition().options.get("connector").is_some_and(|connector| connector == "blackhole") {
            return Err(Error::unsupported("reading a blackhole"));
        }
        let schema = datafusion::catalog::TableProvider::schema(table.as_ref());
        let topic = table.definition().options.get("topic").cloned().unwrap_or_default();
        let column = |place: &usize| -> arrow::array::ArrayRef {
            match schema.field(*place).data_type() {
                DataType::Int64 => Arc::new(Int64Array::from(vec![1, 2])),
                DataType::Utf8 => Arc::new(StringArray::from(vec![topic.clone(), topic.clone()])),
                _ => Arc::new(TimestampMillisecondArray::from(vec![1_000, 2_000])),
            }
        };
        let options = RecordBatchOptions::new().with_row_count(Some(2));
        let of_columns = Arc::new(schema.project(&columns).expect("places"));
        let rows = RecordBatch::try_new_with_options(of_columns, columns.iter().map(column).collect(), &options);
        let rows = rows.expect("rows");
        Ok(futures::stream::iter([Ok(rows)]).boxed())
    }
}

struct World {
    service: Arc<LocalQueryService>,
    engine: Arc<Engine>,
    asked: Arc<Asked>,
    session: SessionId,
    _folder: tempfile::TempDir,
}

impl World {
    /// A session that speaks Flink's SQL, with the streams `s` (two columns and a time) and `k` (a sink).
    async fn open() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut settings = Settings::default();
        settings.engine.spill_dir = folder.path().join("spill");
        settings.warehouse.url = folder.path().join("warehouse").to_str().expect("a path").to_owned();
        std::fs::create_dir(folder.path().join("warehouse")).expect("a folder");
        let clock = Clock::fixed(1_000);
        let store = SqliteStore::open_in_memory(clock.clone()).await.expect("a store");
        let mut database = store.database("default").await.expect("a database");
        database.location = format!("{}/default", settings.warehouse.url);
        store.alter_database("default", &database).await.expect("a place");
        let engine = Engine::over(&settings, Arc::new(store), clock).await.expect("an engine");
        let asked = Arc::new(Asked::default());
        engine.install_streams(Arc::clone(&asked) as Arc<dyn Streams>);
        let service = LocalQueryService::new(Arc::clone(&engine));
        let session = service.open_session("ada", SessionDefaults::default()).await.expect("a session");
        let world = Self { service, engine, asked, session, _folder: folder };
        for sql in [
            "SET tereza.dialect = 'flink'",
            "CREATE TABLE s (id BIGINT NOT NULL, `Text` STRING, ts TIMESTAMP(3), twice AS id * 2, \
             WATERMARK FOR ts AS ts - INTERVAL '4' SECOND) \
             WITH ('connector' = 'kafka', 'topic' = 't', 'properties.sasl.jaas.config' = 'it is secret')",
            "CREATE TABLE k (id BIGINT NOT NULL, `Text` STRING, note STRING METADATA) WITH ('connector' = 'kafka')",
        ] {
            world.run(sql).await;
        }
        world
    }

    async fn rows_in(&self, session: &SessionId, sql: &str) -> Result<Vec<String>> {
        let batches = self.service.submit(session, Statement::new(sql)).await?.collect().await?;
        let row = |batch: &RecordBatch, row: usize| {
            let cell = |column: &arrow::array::ArrayRef| array_value_to_string(column, row).expect("a text");
            batch.columns().iter().map(cell).collect::<Vec<_>>().join("|")
        };
        Ok(batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |n| row(batch, n))).collect())
    }

    async fn rows(&self, sql: &str) -> Result<Vec<String>> {
        self.rows_in(&self.session, sql).await
    }

    async fn run(&self, sql: &str) -> Vec<String> {
        self.rows(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    async fn refused(&self, sql: &str) -> Error {
        match self.rows(sql).await {
            Ok(rows) => panic!("{sql} is taken: {rows:?}"),
            Err(error) => error,
        }
    }

    /// What was asked last.
    fn last(&self) -> Vec<Check> {
        self.asked.checks.lock().last().cloned().expect("somebody asked")
    }

    async fn detail(&self, id: &str) -> (crate::jobs::Job, Detail) {
        self.engine.jobs().change(id, |_, _| Ok(())).await.expect("a job")
    }
}

#[tokio::test]
async fn a_table_is_kept_and_shown_without_its_secrets() {
    let world = World::open().await;
    assert_eq!(world.run("SHOW TABLES").await, ["k|TABLE", "s|TABLE"]);
    assert_eq!(
        world.run("DESCRIBE s").await,
        ["id|BIGINT|NO||", "Text|STRING|YES||", "ts|TIMESTAMP(3)|YES|row time|", "twice|BIGINT|YES|computed|",]
    );
    assert_eq!(world.run("SHOW COLUMNS FROM k").await[2], "note|STRING|YES|metadata|");
    let shown = world.run("SHOW CREATE TABLE s").await.remove(0);
    assert!(shown.starts_with("CREATE TABLE `tereza`.`default`.`s` (\n  `id` BIGINT NOT NULL,"), "{shown}");
    assert!(shown.contains("'properties.sasl.jaas.config' = '***'") && !shown.contains("secret"), "{shown}");
    assert!(world.run("SHOW TBLPROPERTIES s").await.iter().all(|row| !row.contains("secret")));
    let error = world.refused("CREATE TABLE s (id INT) WITH ('connector' = 'kafka')").await;
    assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
    world.run("CREATE TABLE IF NOT EXISTS s (id INT) WITH ('connector' = 'kafka')").await;
    world.run("DROP TABLE s").await;
    assert_eq!(world.run("SHOW TABLES").await, ["k|TABLE"]);
}

#[tokio::test]
async fn what_is_about_files_is_refused_on_a_stream() {
    let world = World::open().await;
    for sql in ["ANALYZE TABLE s", "TRUNCATE TABLE s", "ALTER TABLE s ADD COLUMNS (b INT)"] {
        let error = world.refused(sql).await;
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{sql}: {error}");
    }
    world.run("ALTER TABLE s RENAME TO other").await;
    assert_eq!(world.run("SELECT COUNT(*) FROM other").await, ["2"]);
}

#[tokio::test]
async fn a_view_of_flinks_sql_means_the_same_in_every_session_and_job() {
    let world = World::open().await;
    world
        .run("CREATE VIEW v AS SELECT id, `Text` AS `What`, ts, DATE_FORMAT(ts, 'yyyy') AS y FROM s WHERE MOD(id, 2) = 0")
        .await;
    assert_eq!(world.run("SELECT `What`, y FROM v").await, ["t|1970"]);
    world.run("CREATE VIEW named (`Key`, other) AS SELECT id, y FROM v").await;
    assert_eq!(world.run("SELECT `Key`, other FROM named").await, ["2|1970"]);
    let plain = world.service.open_session("ada", SessionDefaults::default()).await.expect("a session");
    assert_eq!(world.rows_in(&plain, "SELECT \"What\", y FROM v").await.expect("rows"), ["t|1970"]);
    assert_eq!(world.run("SHOW VIEWS").await, ["named", "v"]);
    let counted = "SELECT window_start, COUNT(*) FROM TABLE(TUMBLE(TABLE v, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) \
                   GROUP BY window_start, window_end";
    world.run(&format!("CREATE VIEW counted (s, n) AS {counted}")).await;
    assert_eq!(world.run("SELECT n FROM counted").await, ["1"]);
    assert_eq!(world.rows_in(&plain, "SELECT n FROM counted").await.expect("rows"), ["1"]);
    let id = world.run("INSERT INTO k (id, `Text`) SELECT id, `What` FROM v").await.remove(0);
    assert_eq!(world.detail(&id).await.1.stream.expect("a stream").sources, ["tereza.default.s"]);
    world.run("CREATE TEMPORARY TABLE mine (a BIGINT) WITH ('connector' = 'datagen')").await;
    let error = world.refused("CREATE VIEW over AS SELECT a FROM mine").await;
    assert!(error.message().contains("would outlive"), "{error}");
    let error = world.refused("CREATE VIEW twice AS SELECT id AS a, id AS `A` FROM s").await;
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
}

#[tokio::test]
async fn a_table_begins_as_another_one() {
    let world = World::open().await;
    world.run("CREATE TABLE t (more INT) WITH ('topic' = 'u') LIKE s (EXCLUDING WATERMARKS)").await;
    let shown = world.run("SHOW CREATE TABLE t").await.remove(0);
    assert!(shown.contains("'topic' = 'u'") && shown.contains("`more` INT") && !shown.contains("WATERMARK"), "{shown}");
    // Of a table of files it is what it was.
    let other = world.service.open_session("ada", SessionDefaults::default()).await.expect("a session");
    for sql in ["CREATE TABLE files (a INT)", "CREATE TABLE more_files LIKE files", "CREATE TABLE again LIKE s"] {
        world.rows_in(&other, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
    assert_eq!(world.rows_in(&other, "DESCRIBE more_files").await.expect("a table"), ["a|int|YES||"]);
    assert_eq!(world.rows_in(&other, "DESCRIBE again").await.expect("a table")[0], "id|BIGINT|NO||");
    let error = world.refused("CREATE TABLE x WITH ('connector' = 'kafka') LIKE files").await;
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
}

#[tokio::test]
async fn a_temporary_table_is_the_sessions_and_comes_first() {
    let world = World::open().await;
    world.run("CREATE TEMPORARY TABLE S (other STRING) WITH ('connector' = 'datagen')").await;
    assert_eq!(world.run("DESCRIBE s").await, ["other|STRING|YES||"]);
    assert_eq!(world.run("SHOW TABLES LIKE 's'").await, ["s|LOCAL TEMPORARY"]);
    let error = world.refused("CREATE TEMPORARY TABLE s (other STRING) WITH ('connector' = 'datagen')").await;
    assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
    let other = world.service.open_session("ada", SessionDefaults::default()).await.expect("a session");
    assert_eq!(world.rows_in(&other, "DESCRIBE s").await.expect("a table").len(), 4);
    world.run("DROP TEMPORARY TABLE s").await;
    assert_eq!(world.run("DESCRIBE s").await.len(), 4);
    let error = world.refused("DROP TEMPORARY TABLE s").await;
    assert_ne!(error.kind(), ErrorKind::Internal, "{error}");
    assert_eq!(world.run("DESCRIBE s").await.len(), 4);
}

#[tokio::test]
async fn what_contradicts_itself_is_no_table() {
    let world = World::open().await;
    for (sql, kind, said) in [
        ("CREATE TABLE t (a INT, b AS nothing) WITH ('connector' = 'kafka')", ErrorKind::InvalidInput, "column 'b'"),
        (
            "CREATE TABLE t (a INT, WATERMARK FOR a AS a) WITH ('connector' = 'kafka')",
            ErrorKind::InvalidInput,
            "is TIMESTAMP(p)",
        ),
        ("CREATE TABLE t WITH ('connector' = 'kafka') AS SELECT 1 AS a", ErrorKind::Unsupported, "AS with a connector"),
        ("CREATE TABLE memory.public.t (a INT) WITH ('connector' = 'kafka')", ErrorKind::Unsupported, "memory"),
        ("CREATE TABLE nowhere.t (a INT) WITH ('connector' = 'kafka')", ErrorKind::NotFound, "nowhere"),
        (
            "CREATE TABLE t (a INT) WITH ('connector' = 'kafka', 'unknown' = '1')",
            ErrorKind::InvalidInput,
            "default.t has no option 'unknown'",
        ),
        ("BEGIN STATEMENT SET", ErrorKind::Unsupported, "BEGIN STATEMENT SET"),
    ] {
        let error = world.refused(sql).await;
        assert_eq!(error.kind(), kind, "{sql}: {error}");
        assert!(error.message().contains(said), "{sql}: {error}");
    }
}

#[tokio::test]
async fn a_table_that_cannot_be_planned_hides_no_other() {
    let world = World::open().await;
    let catalog = &world.engine.catalog;
    let mut broken = catalog.table("default", "s").await.expect("a table").table;
    for value in broken.parameters.values_mut() {
        *value = value.replace("* 2", "* NO_SUCH(2)");
    }
    catalog.alter_table("default", "s", None, &broken).await.expect("changes");
    let error = world.refused("SELECT id FROM s").await;
    assert!(error.message().contains("table tereza.default.s"), "{error}");
    let listed = "SELECT table_name, column_name FROM information_schema.columns \
                  WHERE table_schema = 'default' AND table_catalog = 'tereza' ORDER BY ordinal_position";
    assert_eq!(world.run(listed).await, ["k|id", "k|Text", "k|note"]);
    let listed = "SELECT table_name FROM information_schema.tables \
                  WHERE table_schema = 'default' AND table_catalog = 'tereza' ORDER BY table_name";
    assert_eq!(world.run(listed).await, ["k", "s"]);
    let error = world.refused("SELECT id FROM s, information_schema.tables").await;
    assert!(error.message().contains("table tereza.default.s"), "{error}");
}

#[tokio::test]
async fn an_insert_into_a_stream_is_a_job() {
    let world = World::open().await;
    world.run("SET 'pipeline.name' = 'copy'").await;
    let id = world.run("INSERT INTO k (`Text`, id) SELECT UPPER(`Text`), twice FROM s").await.remove(0);
    let [check] = world.last().try_into().expect("one INSERT");
    assert_eq!(check.sink, "tereza.default.k");
    assert_eq!(check.columns, check.planned);
    assert_eq!(check.planned.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["id", "Text", "note"]);
    let (job, detail) = world.detail(&id).await;
    assert_eq!((job.kind.as_str(), job.state.as_str(), job.name.as_deref()), (STREAM, QUEUED, Some("copy")));
    assert_eq!(job.text, "INSERT INTO k (`Text`, id) SELECT UPPER(`Text`), twice FROM s");
    let stream = detail.stream.expect("a stream");
    assert_eq!(stream.sinks, ["tereza.default.k"]);
    assert_eq!(stream.sources, ["tereza.default.s"]);
    assert_eq!(stream.tables.keys().collect::<Vec<_>>(), ["tereza.default.k", "tereza.default.s"]);
    assert!(stream.dialect_flink);
    let error = world.refused("INSERT INTO k SELECT id, `Text`, `Text` FROM s").await;
    assert_eq!(error.kind(), ErrorKind::AlreadyExists, "its name is given: {error}");
    assert_eq!(world.engine.jobs().next(STREAM).await.expect("jobs").map(|job| job.id), Some(id.clone()));
    assert!(world.engine.jobs().next(crate::jobs::SQL).await.expect("jobs").is_none());
    assert_eq!(world.run("SHOW JOBS").await, [format!("{id}|copy|queued|1970-01-01T00:00:01Z")]);
    assert_eq!(world.run(&format!("DESCRIBE JOB '{id}'")).await.len(), 1);
}

#[tokio::test]
async fn an_insert_that_does_not_fit_is_refused() {
    let world = World::open().await;
    world.run("CREATE TEMPORARY TABLE mine AS SELECT 1 AS id").await;
    for (sql, kind, said) in [
        ("INSERT INTO k SELECT id FROM s", ErrorKind::InvalidInput, "1 values, and 3 columns"),
        ("INSERT INTO k (`Text`) SELECT `Text` FROM s", ErrorKind::InvalidInput, "'id', which is NOT NULL"),
        ("INSERT INTO k (id, nte) SELECT id, `Text` FROM s", ErrorKind::InvalidInput, "'nte' not found"),
        ("INSERT INTO s (id, twice) SELECT id, id FROM k", ErrorKind::InvalidInput, "is not written"),
        ("INSERT INTO k (id, id) SELECT id, id FROM k", ErrorKind::InvalidInput, "named twice"),
        ("INSERT OVERWRITE k SELECT id, `Text`, `Text` FROM s", ErrorKind::Unsupported, "INSERT OVERWRITE"),
        ("INSERT INTO k (id) SELECT id FROM mine", ErrorKind::Unsupported, "ends with the session"),
        ("INSERT INTO k (id) SELECT nowhere FROM s", ErrorKind::InvalidInput, "'nowhere'"),
    ] {
        let error = world.refused(sql).await;
        assert_eq!(error.kind(), kind, "{sql}: {error}");
        assert!(error.message().contains(said), "{sql}: {error}");
    }
    *world.asked.refuses.lock() = Some("a query of no table".into());
    let error = world.refused("INSERT INTO k VALUES (1, 'a', 'b')").await;
    assert!(error.message().contains("a query of no table"), "{error}");
    assert!(world.engine.jobs().next(STREAM).await.expect("jobs").is_none(), "nothing was submitted");
}

#[tokio::test]
async fn tables_that_are_no_streams_are_read_or_looked_up() {
    let world = World::open().await;
    world.run("INSERT INTO k VALUES (1, 'a', 'b')").await;
    let looked_up = "SELECT s.id, n.n_name, n.n_name FROM (SELECT *, PROCTIME() AS p FROM s) AS s
        LEFT JOIN tpch.tiny.nation FOR SYSTEM_TIME AS OF s.p AS n ON s.id = n.n_nationkey";
    world.run(&format!("INSERT INTO k {looked_up}")).await;
    let plans: Vec<String> = world.asked.checks.lock().iter().flatten().map(|check| check.plan.clone()).collect();
    assert!(plans[0].contains("Values: (Int64(1), Utf8(\"a\"), Utf8(\"b\"))"), "{}", plans[0]);
    assert!(plans[1].contains("TableAsOf: time=s.p"), "{}", plans[1]);
    for (of, said) in [("s.id", "which is not PROCTIME()"), ("CURRENT_TIMESTAMP", "which is no column")] {
        let error = world.refused(&format!("INSERT INTO k {}", looked_up.replace("s.p AS", &format!("{of} AS")))).await;
        assert!(error.kind() == ErrorKind::Unsupported && error.message().contains(said), "{error}");
    }
}

#[tokio::test]
async fn options_of_a_statement_stand_for_those_of_its_tables() {
    let world = World::open().await;
    let hinted = "INSERT INTO k /*+ OPTIONS('sink.partitioner' = 'fixed') */ (id) \
                  SELECT id FROM s /*+ OPTIONS('topic' = 'other') */";
    let id = world.run(hinted).await.remove(0);
    let kept = world.detail(&id).await.1.stream.expect("a stream");
    assert_eq!(kept.tables["tereza.default.s"].options["topic"], "t", "the text says it again");
    let (job, detail) = world.detail(&id).await;
    let session = world.service.open_stream_session(&job, &detail).await.expect("a session");
    let inserts = world.service.plan_inserts(&session, &job.text).await.expect("plans");
    let crate::flink::Sink::Stream(sink) = &inserts[0].sink else { panic!("a stream") };
    assert_eq!(sink.definition().options["sink.partitioner"], "fixed");
    assert_eq!(world.run("SELECT `Text` FROM s /*+ OPTIONS('topic' = 'other') */").await, ["other", "other"]);
    assert_eq!(world.run("SELECT `Text` FROM s").await, ["t", "t"]);
    let error = world
        .refused("SELECT a.id FROM s /*+ OPTIONS('topic' = 'x') */ AS a, s /*+ OPTIONS('topic' = 'y') */ AS b")
        .await;
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    world.run("SET 'table.dynamic-table-options.enabled' = 'false'").await;
    assert_eq!(world.refused(hinted).await.kind(), ErrorKind::Denied);
}

#[tokio::test]
async fn a_statement_set_is_one_job_in_every_dialect() {
    let world = World::open().await;
    let set =
        "EXECUTE STATEMENT SET BEGIN INSERT INTO k (id) SELECT id FROM s; INSERT INTO k (id) SELECT twice FROM s; END";
    let plain = world.service.open_session("ada", SessionDefaults::default()).await.expect("a session");
    for session in [&world.session, &plain] {
        let ids = world.rows_in(session, set).await.expect("submits");
        assert_eq!(ids.len(), 1);
        assert_eq!(world.last().len(), 2);
        let stream = world.detail(&ids[0]).await.1.stream.expect("a stream");
        assert_eq!(stream.dialect_flink, *session == world.session);
        assert_eq!(stream.sinks, ["tereza.default.k"]);
    }
    assert_eq!(
        world.run(&set.replace("EXECUTE", "EXPLAIN")).await,
        ["stream_plan|sink tereza.default.k\nsink tereza.default.k"]
    );
    assert_eq!(world.run("EXPLAIN INSERT INTO k (id) SELECT id FROM s").await, ["stream_plan|sink tereza.default.k"]);
    let error = world.refused("EXECUTE STATEMENT SET BEGIN INSERT INTO k (id) SELECT id FROM s;\nINSERT INTO k (ib) SELECT id FROM s; END").await;
    assert_eq!(error.location().map(|place| place.line), Some(2), "{error}");
    let error = world.refused("EXECUTE STATEMENT SET BEGIN SELECT 1; END").await;
    assert!(error.message().contains("expected INSERT"), "{error}");
}

#[tokio::test]
async fn a_table_of_files_takes_a_stream_unless_the_session_is_in_batch_mode() {
    let world = World::open().await;
    world.run("CREATE TABLE files (id BIGINT, text STRING)").await;
    let id = world.run("INSERT INTO files SELECT id, `Text` FROM s").await.remove(0);
    let [check] = world.last().try_into().expect("one INSERT");
    assert_eq!(check.sink, "tereza.default.files");
    assert_eq!(check.columns, check.planned);
    assert_eq!(world.detail(&id).await.1.stream.expect("a stream").sources, ["tereza.default.s"]);
    let explained = "EXPLAIN INSERT INTO files SELECT id, `Text` FROM s";
    assert_eq!(world.run(explained).await, ["stream_plan|sink tereza.default.files"]);
    let error = world.refused(&explained.replace("EXPLAIN", "EXPLAIN ANALYZE")).await;
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(world.run("EXPLAIN INSERT INTO files VALUES (1, 'a')").await[0].starts_with("logical_plan|"));
    world.run("SET 'execution.runtime-mode' = 'batch'").await;
    assert!(world.run(explained).await[0].starts_with("logical_plan|"));
    assert_eq!(world.run("INSERT INTO files SELECT id, `Text` FROM s").await, ["2"]);
    assert_eq!(world.run("SELECT id, text FROM files ORDER BY id").await, ["1|t", "2|t"]);
}

#[tokio::test]
async fn a_batch_query_reads_a_stream_up_to_its_end() {
    let world = World::open().await;
    assert_eq!(world.run("SELECT COUNT(*), SUM(id) FROM s").await, ["2|3"]);
    assert_eq!(world.run("SELECT S.`Text`, id FROM S WHERE id > 1").await, ["t|2"]);
    world.run("CREATE TABLE hole (id BIGINT) WITH ('connector' = 'blackhole')").await;
    let error = world.refused("SELECT * FROM hole").await;
    assert!(error.message().contains("reading a blackhole"), "{error}");
}

#[tokio::test]
async fn a_job_that_starts_again_means_what_it_meant() {
    let world = World::open().await;
    world.run("CREATE TEMPORARY TABLE src (a BIGINT) WITH ('connector' = 'datagen')").await;
    world.run("SET 'table.exec.state.ttl' = '1 d'").await;
    let id = world.run("INSERT INTO k (id) SELECT a FROM src").await.remove(0);
    world.run("DROP TABLE src").await;
    world.run("DROP TABLE k").await;
    let (job, detail) = world.detail(&id).await;
    let session = world.service.open_stream_session(&job, &detail).await.expect("a session");
    let inserts = world.service.plan_inserts(&session, &job.text).await.expect("plans");
    assert_eq!(inserts.len(), 1);
    assert_eq!(Check::of(&inserts[0], &detail.stream.expect("a stream").settings), world.last()[0]);
    let options = world.service.options(&session).await.expect("options");
    assert!(options.contains(&("table.exec.state.ttl".to_owned(), "1 d".to_owned())));
    let error = world.service.plan_inserts(&session, "SELECT 1").await.expect_err("no job");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn a_step_of_a_job_submits_its_stream_once() {
    let world = World::open().await;
    let insert = "INSERT INTO k (id) SELECT id FROM s";
    let step = |attempt| JobStep { job: "j1".into(), attempt, step: 4 };
    let mut ids = Vec::new();
    for attempt in [1, 2] {
        world.service.set_step(&world.session, Some(step(attempt))).expect("a step");
        ids.extend(world.run(insert).await);
    }
    assert_eq!(ids, ["j1-5", "j1-5"]);
    assert_eq!(world.service.repeat(&world.session, insert).await.expect("known"), crate::jobs::Repeat::UnlessDone);
    let create = "CREATE TEMPORARY TABLE x (a INT) WITH ('connector' = 'datagen')";
    assert_eq!(world.service.repeat(&world.session, create).await.expect("known"), crate::jobs::Repeat::Always);
}

#[tokio::test]
async fn a_stream_is_stopped_by_whoever_runs_it() {
    let world = World::open().await;
    let id = world.run("INSERT INTO k (id) SELECT id FROM s").await.remove(0);
    let jobs = world.engine.jobs();
    jobs.enter(&id);
    let stopping = jobs.stopping(&id);
    let refused = world.refused(&format!("STOP JOB '{id}' WITH SAVEPOINT WITH DRAIN")).await;
    assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused}");
    world.run(&format!("CALL system.runtime.stop_job('{id}', drain => true)")).await;
    assert!(stopping.is_cancelled());
    assert_eq!(world.detail(&id).await.1.stop, Some(true));
    world.run(&format!("CALL system.runtime.stop_job('{id}')")).await;
    assert_eq!(world.detail(&id).await.1.stop, Some(false));
    world.run(&format!("CALL system.runtime.rescale_job('{id}', 3)")).await;
    assert_eq!(world.detail(&id).await.1.stream.expect("a stream").parallelism(), Some("3"));
    let progress = StreamProgress {
        epoch: 7,
        watermark_ms: Some(5_000),
        lag: Some(3),
        rows_per_second: 1.5,
        tasks: 3,
        ..StreamProgress::default()
    };
    jobs.tell(&id, progress.clone());
    let shown = "SELECT kind, epoch, watermark, lag, rows_per_second, waits_for, tasks FROM system.runtime.jobs";
    assert_eq!(world.run(shown).await, ["stream|7|1970-01-01T00:00:05Z|3|1.5||3"]);
    world.run(&format!("CALL system.runtime.cancel_job('{id}')")).await;
    assert_eq!(world.detail(&id).await.0.state, CANCELLED);
    let error = world.refused(&format!("STOP JOB '{id}'")).await;
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    jobs.leave(&id);
    assert_eq!(world.run("SELECT epoch FROM system.runtime.jobs").await, [""]);
    // What another process runs is known by its record.
    let kept = StreamProgress { late_rows: 2, waits_for: Some("a broker".to_owned()), ..progress };
    let keep = |_: &mut crate::jobs::Job, detail: &mut Detail| {
        detail.progress = Some(kept.clone());
        Ok(())
    };
    jobs.change(&id, keep).await.expect("a record");
    let shown = "SELECT epoch, lag, late_rows, state_bytes, waits_for FROM system.runtime.jobs";
    assert_eq!(world.run(shown).await, ["7|3|2|0|a broker"]);
}

#[tokio::test]
async fn settings_of_flink_are_kept_and_others_refused() {
    let world = World::open().await;
    assert_eq!(world.run("SET").await, Vec::<String>::new());
    world.run("SET 'execution.checkpointing.interval' = '1 s'").await;
    world.run("SET 'table.exec.state.ttl' = '1 h'").await;
    assert_eq!(world.run("SET").await, ["execution.checkpointing.interval|1 s", "table.exec.state.ttl|1 h"]);
    world.run("RESET 'table.exec.state.ttl'").await;
    assert_eq!(world.run("SET").await, ["execution.checkpointing.interval|1 s"]);
    world.run("RESET").await;
    assert_eq!(world.run("SET").await, Vec::<String>::new());
    let error = world.refused("SET 'tabel.exec.state.ttl' = '1 h'").await;
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert_eq!(world.run("SHOW CURRENT CATALOG").await, ["tereza"]);
    world.run("CREATE DATABASE d WITH ('owner.team' = 'x')").await;
    world.run("USE d").await;
    assert_eq!(world.run("SHOW CURRENT DATABASE").await, ["d"]);
}

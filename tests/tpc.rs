//! TPC-H and TPC-DS against DuckDB: every query on the same Parquet files, from the disk and from MinIO, and the
//! generated catalogs against DuckDB's generator and the specification's row counts.

#[path = "../src/cmd/bench/answer.rs"]
mod answer;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow::ipc::reader::StreamReader;
use object_store::aws::AmazonS3Builder;
use object_store::{ObjectStore, ObjectStoreExt};
use serde::Deserialize;
use tereza_runtime::{clock, ids};

use crate::support::network::Host;
use crate::support::{self, Cluster, Minio, Python, Server};
use answer::Answer;

/// Scale of the compared data: small enough for every run, large enough that most queries have rows.
const SCALE: &str = "0.1";
/// What the loss of an executor may cost beyond half of a query's time.
const KILL_COST: Duration = Duration::from_secs(10);
/// For one statement.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(120);

/// Rows of each table at scale 1: TPC-DS specification 4.0.0, table 3-2. `reason` is an exception: the specification's own
/// `dsdgen` makes all 75 reasons at every scale, where the table says 35.
const TPCDS_ROWS: [(&str, u64); 24] = [
    ("call_center", 6),
    ("catalog_page", 11_718),
    ("catalog_returns", 144_067),
    ("catalog_sales", 1_441_548),
    ("customer", 100_000),
    ("customer_address", 50_000),
    ("customer_demographics", 1_920_800),
    ("date_dim", 73_049),
    ("household_demographics", 7_200),
    ("income_band", 20),
    ("inventory", 11_745_000),
    ("item", 18_000),
    ("promotion", 300),
    ("reason", 75),
    ("ship_mode", 20),
    ("store", 12),
    ("store_returns", 287_514),
    ("store_sales", 2_880_404),
    ("time_dim", 86_400),
    ("warehouse", 5),
    ("web_page", 60),
    ("web_returns", 71_763),
    ("web_sales", 719_384),
    ("web_site", 30),
];

/// What the judge says about one query.
#[derive(Deserialize)]
struct Judged {
    number: u32,
    query: String,
    #[serde(flatten)]
    answer: Answer,
}

#[tokio::test]
async fn tpch_from_files() {
    let Some(python) = support::python() else { return };
    check_queries(&python, "tpch", 22, None, &Tereza::new(None)).await;
}

#[tokio::test]
async fn tpcds_from_files() {
    let Some(python) = support::python() else { return };
    check_queries(&python, "tpcds", 99, None, &Tereza::new(None)).await;
}

#[tokio::test]
async fn tpch_over_minio() {
    let (Some(python), Some(minio)) = (support::python(), support::minio()) else { return };
    check_queries(&python, "tpch", 22, Some(minio), &Tereza::new(Some(minio))).await;
}

#[tokio::test]
async fn tpcds_over_minio() {
    let (Some(python), Some(minio)) = (support::python(), support::minio()) else { return };
    check_queries(&python, "tpcds", 99, Some(minio), &Tereza::new(Some(minio))).await;
}

#[tokio::test]
async fn tpch_on_two_executors_over_minio() {
    let (Some(python), Some(minio)) = (support::python(), support::minio()) else { return };
    let cluster = Cluster::start(Some(minio), 2);
    check_queries(&python, "tpch", 22, Some(minio), &Tereza::of_cluster(&cluster)).await;
}

#[tokio::test]
async fn tpcds_on_two_executors_over_minio() {
    let (Some(python), Some(minio)) = (support::python(), support::minio()) else { return };
    let cluster = Cluster::start(Some(minio), 2);
    check_queries(&python, "tpcds", 99, Some(minio), &Tereza::of_cluster(&cluster)).await;
}

/// When an executor is killed.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// After this time.
    After(Duration),
    /// When one of them has made something for a later stage; that one.
    WithOutput,
}

/// Each query twice with one of two executors killed: at a random moment, and when there are outputs to lose.
#[tokio::test]
async fn tpch_while_executors_are_killed() {
    let (Some(python), Some(minio)) = (support::python(), support::minio()) else { return };
    let cluster = Arc::new(Cluster::start(Some(minio), 2));
    let tereza = Tereza::of_cluster(&cluster);
    let judged = prepare(&python, "tpch", Some(minio), &tereza).await;
    let seed = ids::jitter(u64::MAX);
    println!("seed {seed}");
    let (mut wrong, mut killed) = (Vec::new(), 0);
    for Judged { number, query, answer: right } in &judged {
        let began = clock::now();
        tereza.answer(query).await.unwrap();
        let whole = began.elapsed();
        let random = seed.wrapping_mul(u64::from(*number)).rotate_left(17);
        let part = Duration::from_millis(random % u64::try_from(whole.as_millis()).unwrap().max(1));
        for moment in [Moment::After(part), Moment::WithOutput] {
            let has_ended = Arc::new(AtomicBool::new(false));
            let killing = std::thread::spawn({
                let (cluster, has_ended) = (Arc::clone(&cluster), Arc::clone(&has_ended));
                move || kill(&cluster, moment, random as usize % 2, &has_ended)
            });
            let began = clock::now();
            let answer = tereza.answer(query).await;
            let took = began.elapsed();
            has_ended.store(true, Ordering::Relaxed);
            killed += usize::from(killing.join().unwrap());
            let difference = match answer {
                Ok((_, answer)) => answer.difference(right),
                Err(error) => Some(error),
            };
            wrong.extend(difference.map(|difference| format!("q{number}, {moment:?}: {difference}")));
            if took > whole.mul_f64(1.5) + KILL_COST {
                wrong.push(format!("q{number}, {moment:?}: {took:?} in place of {whole:?}"));
            }
            cluster.wait_for_executors();
        }
    }
    assert!(wrong.is_empty(), "seed {seed}:\n{}", wrong.join("\n"));
    // Some end before anything lies in the folders long enough to be seen.
    assert!(killed > judged.len() + judged.len() / 2, "only {killed} were killed");
}

/// Each query with one of two executors that hangs, or is cut off, from a random moment to the query's end.
#[tokio::test]
async fn tpch_while_executors_are_out_of_reach() {
    let (Some(python), Some(host)) = (support::python(), Host::new()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let scheduler = Server::start_scheduler(&data, &host.here, 0);
    let url = scheduler.endpoint("scheduler");
    let here = support::executor(support::tereza(), &folder.path().join("here"), &host.here, &url);
    let _there = support::executor(host.tereza(), &folder.path().join("there"), &host.there, &url);
    let come_back = || support::wait_for("two executors", || support::has_executors(&scheduler, 2));
    come_back();
    let tereza = Tereza::of_scheduler(&scheduler);
    let judged = prepare(&python, "tpch", None, &tereza).await;
    let seed = ids::jitter(u64::MAX);
    println!("seed {seed}");
    let mut wrong = Vec::new();
    for Judged { number, query, answer: right } in &judged {
        let began = clock::now();
        tereza.answer(query).await.unwrap();
        let whole = began.elapsed();
        let random = seed.wrapping_mul(u64::from(*number)).rotate_left(17);
        let part = Duration::from_millis(random % u64::try_from(whole.as_millis()).unwrap().max(1));
        // Each query meets each of the two in every other run.
        let hangs = seed.wrapping_add(u64::from(*number)).is_multiple_of(2);
        let began = clock::now();
        let fault = async {
            tokio::time::sleep(part).await;
            if hangs { support::signal("-STOP", here.id()) } else { host.cut() }
        };
        let (answer, ()) = tokio::join!(tereza.answer(query), fault);
        let took = began.elapsed();
        if hangs {
            support::signal("-CONT", here.id())
        } else {
            host.mend()
        }
        let case = format!("q{number}, {} after {part:?} of {whole:?}", if hangs { "hangs" } else { "is cut off" });
        let difference = match answer {
            Ok((_, answer)) => answer.difference(right),
            Err(error) => Some(error),
        };
        wrong.extend(difference.map(|difference| format!("{case}: {difference}")));
        println!("{case}: {took:?}");
        // Half of the slots are left.
        if took > 3 * whole + KILL_COST {
            wrong.push(format!("{case}: {took:?}"));
        }
        come_back();
    }
    assert!(wrong.is_empty(), "seed {seed}:\n{}", wrong.join("\n"));
}

/// Kills an executor, unless the query ends before, and waits until it has come back. Returns whether it did.
fn kill(cluster: &Cluster, moment: Moment, victim: usize, has_ended: &AtomicBool) -> bool {
    let victim = match moment {
        Moment::After(time) => {
            std::thread::park_timeout(time);
            victim
        }
        Moment::WithOutput => loop {
            if has_ended.load(Ordering::Relaxed) {
                return false;
            }
            match (0..2).find(|index| has_files(&cluster.shuffle_folder(*index))) {
                Some(index) => break index,
                None => std::thread::park_timeout(Duration::from_millis(1)),
            }
        },
    };
    let id = cluster.executor(victim).unwrap();
    let status = std::process::Command::new("kill").args(["-KILL", &id.to_string()]).status().unwrap();
    assert!(status.success());
    support::wait_for("the executor to be replaced", || cluster.executor(victim).filter(|new| *new != id));
    true
}

/// Whether anything is in a folder or in those below it.
fn has_files(folder: &Path) -> bool {
    let Ok(entries) = folder.read_dir() else { return false };
    entries.flatten().any(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => has_files(&entry.path()),
        kind => kind.is_ok(),
    })
}

/// Row by row, in every column but the free text: DuckDB's generator draws that from another pool than TPC's does.
#[tokio::test]
async fn generated_tpch_is_what_dbgen_makes() {
    let Some(python) = support::python() else { return };
    let tereza = Tereza::new(None);
    let folder = tempfile::tempdir().unwrap();
    let columns: BTreeMap<String, Vec<String>> = judge(&python, &["columns", "tpch"]);
    assert_eq!(columns.len(), 8);
    for (table, columns) in &columns {
        let is_free_text = |column: &str| column.ends_with("_comment") || column.ends_with("_address");
        let compared: Vec<&str> = columns.iter().map(String::as_str).filter(|column| !is_free_text(column)).collect();
        let sql = format!("SELECT {} FROM tpch.\"sf{SCALE}\".{table}", compared.join(", "));
        let file = File::create(folder.path().join(format!("{table}.csv"))).unwrap();
        tereza.run(&sql, "csv", file).await.unwrap();
    }
    let differing: BTreeMap<String, (u64, u64)> = judge(&python, &["compare", SCALE, text(folder.path())]);
    assert_eq!(differing.len(), 8);
    assert!(differing.values().all(|rows| *rows == (0, 0)), "rows too few and too many: {differing:?}");
}

#[tokio::test]
async fn generated_tables_have_the_names_of_the_standard() {
    let Some(python) = support::python() else { return };
    let tereza = Tereza::new(None);
    for benchmark in ["tpch", "tpcds"] {
        let columns: BTreeMap<String, Vec<String>> = judge(&python, &["columns", benchmark]);
        for (table, columns) in columns {
            let batch = tereza.answer(&format!("SELECT * FROM {benchmark}.tiny.{table} LIMIT 0")).await.unwrap();
            assert_eq!(batch.0, columns, "{benchmark}.{table}");
        }
    }
}

#[tokio::test]
async fn generated_tpcds_has_the_row_counts_of_the_specification() {
    let Some(python) = support::python() else { return };
    let tereza = Tereza::new(None);
    let columns: BTreeMap<String, Vec<String>> = judge(&python, &["columns", "tpcds"]);
    let counts: Vec<String> = TPCDS_ROWS
        .iter()
        // The sum makes sure that rows are generated: a count alone is answered from statistics.
        .map(|(table, _)| {
            format!("SELECT '{table}' AS name, count(*), sum({}) FROM tpcds.sf1.{table}", columns[*table][0])
        })
        .collect();
    let (_, answer) = tereza.answer(&counts.join(" UNION ALL ")).await.unwrap();
    let mut found: Vec<(String, u64)> =
        answer.rows.iter().map(|row| (row[0].clone().unwrap(), row[1].as_ref().unwrap().parse().unwrap())).collect();
    found.sort();
    let wanted: Vec<(String, u64)> = TPCDS_ROWS.iter().map(|(table, rows)| ((*table).to_owned(), *rows)).collect();
    assert_eq!(found, wanted);
}

/// The queries of a benchmark with DuckDB's answers, on tables that are in the catalog when this returns.
async fn prepare(python: &Python, benchmark: &str, minio: Option<&Minio>, tereza: &Tereza) -> Vec<Judged> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{benchmark}-sf{SCALE}"));
    support_run(python, &["make", benchmark, SCALE, text(&folder)]);
    let judged: Vec<Judged> = judge(python, &["answers", benchmark, text(&folder)]);

    let tables: Vec<String> =
        folder.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let root = match minio {
        None => format!("file://{}", text(&folder)),
        Some(minio) => upload(minio, &folder, &tables).await,
    };
    let create = |table: &String| format!("CREATE EXTERNAL TABLE {table} STORED AS PARQUET LOCATION '{root}/{table}/'");
    let script: Vec<String> = tables.iter().map(create).collect();
    tereza.run(&script.join(";\n"), "csv", Stdio::piped()).await.unwrap();
    judged
}

/// Every query of a benchmark through `tereza sql`, on tables in the catalog of a data folder.
async fn check_queries(python: &Python, benchmark: &str, count: usize, minio: Option<&Minio>, tereza: &Tereza) {
    let judged = prepare(python, benchmark, minio, tereza).await;
    assert_eq!(judged.len(), count);

    let mut wrong = Vec::new();
    for Judged { number, query, answer: right } in &judged {
        let difference = match tereza.answer(query).await {
            Ok((_, answer)) => answer.difference(right),
            Err(error) => Some(error),
        };
        wrong.extend(difference.map(|difference| format!("q{number}: {difference}")));
    }
    assert!(wrong.is_empty(), "{} of {count} wrong:\n{}", wrong.len(), wrong.join("\n"));
    if tereza.is_cluster {
        let lanes =
            "SELECT count(*) FILTER (WHERE lane = 'cluster'), count(*) FILTER (WHERE lane_reason LIKE '%UNION%'),
            count(*) FILTER (WHERE lane = 'local' AND lane_reason LIKE 'not supported by executors: %')
            FROM system.runtime.queries WHERE kind = 'query' AND state = 'finished'";
        let (_, answer) = tereza.answer(lanes).await.unwrap();
        let number = |at: usize| -> usize { answer.rows[0][at].as_ref().unwrap().parse().unwrap() };
        // What executors would answer wrongly is not theirs, or turns out not to be, and says so.
        let (on_executors, of_unions, taken_back) = (number(0), number(1), number(2));
        assert_eq!(on_executors + of_unions + taken_back, count, "{:?}", answer.rows);
        assert!((of_unions + taken_back) * 10 <= count, "{:?}", answer.rows);
    }
}

/// Puts the files into a bucket of their own and returns its URL.
async fn upload(minio: &Minio, folder: &Path, tables: &[String]) -> String {
    let bucket = minio.fresh_bucket();
    let store: Arc<dyn ObjectStore> = Arc::new(
        AmazonS3Builder::new()
            .with_endpoint(&minio.endpoint)
            .with_access_key_id(&minio.access_key)
            .with_secret_access_key(&minio.secret_key)
            .with_bucket_name(&bucket)
            .with_region("us-east-1")
            .with_allow_http(true)
            .build()
            .unwrap(),
    );
    for table in tables {
        let bytes = std::fs::read(folder.join(table).join(format!("{table}.parquet"))).unwrap();
        store.put(&format!("{table}/{table}.parquet").into(), bytes.into()).await.unwrap();
    }
    format!("s3://{bucket}")
}

/// `tereza sql`, on a data folder of its own or on a server.
struct Tereza {
    arguments: Vec<String>,
    environment: Vec<(&'static str, String)>,
    is_cluster: bool,
    _data: Option<tempfile::TempDir>,
}

impl Tereza {
    fn new(minio: Option<&Minio>) -> Self {
        let s3 = |minio: &Minio| {
            vec![
                ("TEREZA__S3__ENDPOINT", minio.endpoint.clone()),
                ("TEREZA__S3__ACCESS_KEY", minio.access_key.clone()),
                ("TEREZA__S3__SECRET_KEY", minio.secret_key.clone()),
                ("TEREZA__S3__ALLOW_HTTP", "true".to_owned()),
            ]
        };
        let data = tempfile::tempdir().unwrap();
        let arguments = vec!["--data".into(), text(data.path()).into()];
        let environment = minio.map(s3).unwrap_or_default();
        Self { arguments, environment, is_cluster: false, _data: Some(data) }
    }

    /// On executors, all that can run there.
    fn of_cluster(cluster: &Cluster) -> Self {
        Self::of_scheduler(&cluster.server)
    }

    /// The same, wherever they come from.
    fn of_scheduler(server: &Server) -> Self {
        let arguments = ["--url", &server.flight_sql, "--mode", "cluster"];
        let arguments = arguments.map(str::to_owned).to_vec();
        Self { arguments, environment: Vec::new(), is_cluster: true, _data: None }
    }

    /// Runs statements and returns what is written to standard output, if that is a pipe; standard error on failure.
    async fn run(&self, sql: &str, format: &str, output: impl Into<Stdio>) -> Result<Vec<u8>, String> {
        let mut command = support::tereza();
        command.arg("sql").args(&self.arguments).args(["--format", format, "-c", sql]);
        command.envs(self.environment.iter().cloned()).stdin(Stdio::null()).stdout(output).stderr(Stdio::piped());
        let child = tokio::process::Command::from(command).kill_on_drop(true).spawn().unwrap();
        let output = tokio::time::timeout(STATEMENT_TIMEOUT, child.wait_with_output()).await;
        let output = output.map_err(|_| format!("no end after {} s", STATEMENT_TIMEOUT.as_secs()))?.unwrap();
        if output.status.success() { Ok(output.stdout) } else { Err(String::from_utf8_lossy(&output.stderr).into()) }
    }

    /// The names of the columns, and the answer to one query.
    async fn answer(&self, sql: &str) -> Result<(Vec<String>, Answer), String> {
        let bytes = self.run(sql, "arrow", Stdio::piped()).await?;
        let reader = StreamReader::try_new(Cursor::new(bytes), None).map_err(|error| error.to_string())?;
        let schema = reader.schema();
        let batches = reader.collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
        let names = schema.fields().iter().map(|field| field.name().clone()).collect();
        Ok((names, Answer::of(&schema, &batches).map_err(|error| error.to_string())?))
    }
}

/// What `tests/support/judge.py` prints, as JSON.
fn judge<T: serde::de::DeserializeOwned>(python: &Python, arguments: &[&str]) -> T {
    serde_json::from_str(&support_run(python, arguments)).unwrap()
}

fn support_run(python: &Python, arguments: &[&str]) -> String {
    let script: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests", "support", "judge.py"].iter().collect();
    python.run(text(&script), arguments)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the tests' folders have names in UTF-8")
}

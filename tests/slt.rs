//! SQL through the front door: Tereza's own `.slt` files, on files and on MinIO, and the corpus that DataFusion publishes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use datafusion_sqllogictest::{
    DFColumnType, DFOutput, DFSqlLogicTestError, convert_batches, convert_schema_to_types, df_value_validator,
    is_spark_path, value_normalizer,
};
use sqllogictest::{
    AsyncDB, DBOutput, ExpectedError, ParseError, QueryExpect, Record, Runner, StatementExpect, parse_file,
    parse_with_name, strict_column_validator,
};

use crate::support::flight::Session;
use crate::support::{PATIENCE, Server, http_get, minio, wait_for};

/// Asks for executors.
const ON_EXECUTORS: &str = "SET tereza.mode = 'cluster'";
/// Files that run at once.
const SESSIONS: usize = 4;

/// A session as the runner of `.slt` files sees it.
struct Door {
    session: Session,
    is_spark: bool,
    is_parallel: bool,
}

#[async_trait]
impl AsyncDB for Door {
    type Error = DFSqlLogicTestError;
    type ColumnType = DFColumnType;

    async fn run(&mut self, sql: &str) -> Result<DFOutput, Self::Error> {
        let run = tokio::time::timeout(PATIENCE, self.session.run(sql)).await;
        let run = run.map_err(|_| DFSqlLogicTestError::Other(format!("no answer within {PATIENCE:?}")))?;
        let (schema, batches) = run.map_err(other)?;
        let types = convert_schema_to_types(schema.fields());
        let mut rows = convert_batches(&schema, batches, self.is_spark)?;
        if self.is_parallel && !is_ordered(sql) {
            rows.sort_by_key(|row| row.join(" "));
        }
        Ok(if rows.is_empty() && types.is_empty() {
            DBOutput::StatementComplete(0)
        } else {
            DBOutput::Rows { types, rows }
        })
    }

    fn engine_name(&self) -> &str {
        "DataFusion"
    }

    async fn sleep(duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    async fn shutdown(&mut self) {}
}

fn other(error: crate::support::flight::Error) -> DFSqlLogicTestError {
    DFSqlLogicTestError::Other(error.to_string())
}

/// Waits until executors can be asked, if they are to be.
fn wait_for_executors(server: &Server, setup: &[&str]) {
    let are_there = || http_get(&server.console, "/metrics")?.contains("tereza_executors 2").then_some(());
    if setup.contains(&ON_EXECUTORS) {
        wait_for("executors", are_there);
    }
}

/// Whether a query says, outside of parentheses, in which order its rows come. Of one that does not, executors give them in
/// any.
fn is_ordered(sql: &str) -> bool {
    let mut depth = 0_usize;
    let outside = sql.chars().filter(|char| {
        match char {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0
    });
    let outside = outside.collect::<String>().to_ascii_lowercase();
    outside.split_whitespace().collect::<Vec<_>>().join(" ").contains("order by")
}

/// How many queries of a file ran as they should.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Count {
    passed: usize,
    total: usize,
}

/// What a file holds, or why it is none.
type Script = Result<Vec<Record<DFColumnType>>, ParseError>;

/// Runs one file's records, each for itself, and returns the count of its queries and what failed.
async fn run_file(url: &str, name: &str, script: Script, setup: &[&str], own: bool) -> (Count, Vec<String>) {
    let is_spark = is_spark_path(Path::new(name));
    let is_parallel = !own && setup.contains(&ON_EXECUTORS);
    let mut runner = Runner::new(|| async {
        let mut session = Session::open(url).await;
        for statement in setup {
            session.run(statement).await.map_err(other)?;
        }
        Ok(Door { session, is_spark, is_parallel })
    });
    runner.add_label("Datafusion");
    runner.with_column_validator(strict_column_validator);
    runner.with_normalizer(value_normalizer);
    runner.with_validator(df_value_validator);
    let mut count = Count::default();
    let mut failures = Vec::new();
    let records = match script {
        Ok(records) => records,
        Err(error) => return (count, vec![format!("{name}: {error}")]),
    };
    for mut record in records {
        if matches!(record, Record::Halt { .. }) {
            break;
        }
        let is_query = match &mut record {
            Record::Query { sql, expected, .. } => {
                // Tereza words its errors itself, so in the corpus any error is the expected one.
                match expected {
                    QueryExpect::Error(expected) if !own => *expected = ExpectedError::Empty,
                    QueryExpect::Results { results, .. } if is_parallel && !is_ordered(sql) => results.sort(),
                    _ => {}
                }
                if !own && sql.trim_start().get(..7).is_some_and(|word| word.eq_ignore_ascii_case("explain")) {
                    continue;
                }
                true
            }
            Record::Statement { expected: StatementExpect::Error(expected), .. } if !own => {
                *expected = ExpectedError::Empty;
                false
            }
            _ => own && matches!(record, Record::Statement { .. }),
        };
        let outcome = runner.run_async(record).await;
        if is_query {
            count.total += 1;
            count.passed += usize::from(outcome.is_ok());
        }
        if let Err(error) = outcome {
            failures.push(error.to_string());
        }
    }
    runner.shutdown_async().await;
    (count, failures)
}

fn slt_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("folder") {
            let path = entry.expect("entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "slt") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// Runs Tereza's own files with `$DIR` as the place for tables outside the warehouse.
fn own_files(directory: &str, arguments: &[String], setup: &[&str]) {
    let folder = tempfile::tempdir().expect("temporary folder");
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let server = Server::start(&folder.path().join("data"), &arguments);
    wait_for_executors(&server, setup);
    let files = slt_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slt"));
    assert!(!files.is_empty());
    let failures = block_on(async {
        let mut failures = Vec::new();
        for file in files {
            let name = file.file_stem().expect("name").to_string_lossy().into_owned();
            let script = fs::read_to_string(&file).expect("script").replace("$DIR", &format!("{directory}/{name}"));
            let script = parse_with_name(&script, name.as_str());
            let (count, failed) = run_file(&server.flight_sql, &name, script, setup, true).await;
            assert!(count.total > 0, "{name} has no record");
            failures.extend(failed);
        }
        failures
    });
    assert!(failures.is_empty(), "{} failures\n\n{}", failures.len(), failures.join("\n\n"));
}

#[test]
fn own_files_on_local_disk() {
    let folder = tempfile::tempdir().expect("temporary folder");
    own_files(folder.path().to_str().expect("UTF-8"), &[], &[]);
}

#[test]
fn own_files_on_executors() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let arguments = ["--executors".to_owned(), "2".to_owned()];
    own_files(folder.path().to_str().expect("UTF-8"), &arguments, &[ON_EXECUTORS]);
}

#[test]
fn own_files_on_minio() {
    let Some(minio) = minio() else { return };
    let bucket = minio.fresh_bucket();
    let mut arguments = minio.arguments();
    arguments.extend(["--set".into(), format!("warehouse.url=s3://{bucket}/warehouse")]);
    own_files(&format!("s3://{bucket}"), &arguments, &[]);
}

/// The share of the corpus's queries that must pass.
const SHARE_MIN: f64 = 0.97;

/// The corpus was written for DataFusion's default.
const FLOATS: &str = "SET datafusion.sql_parser.parse_float_as_decimal = false";

/// Folders that the corpus's authors have beside their crate and that the crate does not hold.
const OUTSIDE: [&str; 6] = [
    "create_tables.slt.part",
    "../../testing/",
    "../../parquet-testing",
    "../core/tests/",
    "../../datafusion/",
    "ARROW_TEST_DATA",
];

#[test]
fn datafusion_corpus() {
    report(&corpus(&[], &[]));
}

#[test]
fn datafusion_corpus_on_executors() {
    let results = corpus(&["--executors", "2"], &[ON_EXECUTORS]);
    compare(&results);
}

/// What a file of the corpus gave.
type Results = BTreeMap<String, (Count, Vec<String>)>;

/// Runs the corpus on a server with these arguments, in sessions with this setup.
fn corpus(arguments: &[&str], setup: &[&str]) -> Results {
    let folder = tempfile::tempdir().expect("temporary folder");
    let corpus = corpus_folder();
    // The files name their data relative to the crate, and write beside it: so the server works in a copy.
    let work = folder.path().join("corpus");
    copy_folder(&corpus, &work);
    let ours = ["--set", "engine.target_partitions=4", "--set", "engine.batch_size_rows=8192"];
    let server = Server::start_in(&folder.path().join("data"), &work, &[&ours, arguments].concat());
    wait_for_executors(&server, setup);
    let files: Vec<(String, PathBuf)> = slt_files(&work.join("test_files"))
        .into_iter()
        .filter(|path| {
            let script = fs::read_to_string(path).expect("script");
            !OUTSIDE.iter().any(|outside| script.contains(outside))
        })
        .map(|path| (path.strip_prefix(work.join("test_files")).expect("below").to_string_lossy().into_owned(), path))
        .collect();
    let setup: Arc<[String]> = setup.iter().map(|statement| (*statement).to_owned()).collect();
    block_on(async {
        let mut results = BTreeMap::new();
        let mut queue = files.into_iter();
        let mut running = tokio::task::JoinSet::new();
        let url: Arc<str> = server.flight_sql.as_str().into();
        loop {
            while running.len() < SESSIONS {
                let Some((name, path)) = queue.next() else { break };
                let scratch = work
                    .join("test_files/scratch")
                    .join(Path::new(&name).with_extension("").file_name().expect("name"));
                fs::create_dir_all(scratch).expect("scratch folder");
                let (url, setup) = (Arc::clone(&url), Arc::clone(&setup));
                running.spawn(async move {
                    let mut statements = vec!["USE memory.public", FLOATS];
                    if is_spark_path(Path::new(&name)) {
                        statements.push("SET tereza.dialect = 'spark'");
                    }
                    statements.extend(setup.iter().map(String::as_str));
                    // From the file itself, since some include others beside them.
                    let result = run_file(&url, &name, parse_file(path), &statements, false).await;
                    (name, result)
                });
            }
            let Some(done) = running.join_next().await else { break };
            let (name, result) = done.expect("a file's task");
            results.insert(name, result);
        }
        results
    })
}

/// Compares what executors gave with what one process is recorded to give: files of which fewer queries pass are listed
/// with their cause.
fn compare(results: &Results) {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |name: &str| fs::read_to_string(manifest.join(name)).expect("record");
    let (local, causes) = (read("tests/corpus.tsv"), read("tests/corpus-executors.tsv"));
    let numbers = |text: &str| -> BTreeMap<String, usize> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let fields = lines.map(|line| line.split('\t').take(2).collect::<Vec<_>>());
        fields.map(|fields| (fields[0].to_owned(), fields[1].parse().expect("a number"))).collect()
    };
    let (local, known) = (numbers(&local), numbers(&causes));
    let mut differ = Vec::new();
    let mut log = String::new();
    for (name, passed) in &local {
        let (count, failed) = results.get(name).cloned().unwrap_or_default();
        let expected = known.get(name).unwrap_or(passed);
        if count.passed < *expected {
            differ.push(format!("{name}: {} pass, {expected} expected, {passed} in one process", count.passed));
        }
        if count.passed < *passed {
            log.push_str(&failed.iter().map(|failure| format!("== {name}\n{failure}\n\n")).collect::<String>());
        }
    }
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("corpus-failures-executors.txt");
    fs::write(&file, log).expect("failures");
    let all: usize = results.values().map(|(count, _)| count.passed).sum();
    println!("{all} queries passed; failures are in {}", file.display());
    assert!(differ.is_empty(), "fewer queries pass on executors:\n{}", differ.join("\n"));
}

/// Compares with the recorded counts, which may only rise. `UPDATE=1` records.
fn report(results: &Results) {
    let record = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus.tsv");
    let mut now = String::from("# file\tqueries passed\tqueries\n");
    let mut sum = Count::default();
    let mut failures = String::new();
    for (name, (count, failed)) in results {
        now.push_str(&format!("{name}\t{}\t{}\n", count.passed, count.total));
        sum.passed += count.passed;
        sum.total += count.total;
        for failure in failed {
            failures.push_str(&format!("== {name}\n{failure}\n\n"));
        }
    }
    let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join("corpus-failures.txt");
    fs::write(&log, failures).expect("failures");
    println!("{} of {} queries passed; failures are in {}", sum.passed, sum.total, log.display());
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&record, now).expect("record");
        return;
    }
    let recorded = fs::read_to_string(&record).expect("tests/corpus.tsv");
    let mut fallen = Vec::new();
    for line in recorded.lines().filter(|line| !line.starts_with('#')) {
        let mut fields = line.split('\t');
        let name = fields.next().expect("name");
        let passed: usize = fields.next().and_then(|number| number.parse().ok()).expect("number");
        let count = results.get(name).map(|(count, _)| *count).unwrap_or_default();
        if count.passed < passed {
            fallen.push(format!("{name}: {} passed, {passed} recorded", count.passed));
        }
    }
    let causes =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus-causes.tsv")).expect("causes");
    let known: Vec<&str> = causes.lines().filter_map(|line| line.split_once('\t')).map(|(name, _)| name).collect();
    for (name, (count, _)) in results {
        if count.passed < count.total && !known.contains(&name.as_str()) {
            fallen.push(format!(
                "{name}: {} of {} passed, and tests/corpus-causes.tsv does not say why",
                count.passed, count.total
            ));
        }
    }
    assert!(fallen.is_empty(), "fewer queries pass than recorded:\n{}", fallen.join("\n"));
    assert!(sum.passed as f64 >= SHARE_MIN * sum.total as f64, "{} of {} queries passed", sum.passed, sum.total);
}

/// The folder of the published crate, which holds the files.
fn corpus_folder() -> PathBuf {
    // Only this platform's packages were fetched.
    let version = Command::new("rustc").arg("-vV").output().expect("rustc");
    let version = String::from_utf8(version.stdout).expect("UTF-8");
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("the host's platform");
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", host])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo metadata");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("metadata");
    let packages = metadata["packages"].as_array().expect("packages");
    let package =
        packages.iter().find(|package| package["name"] == "datafusion-sqllogictest").expect("the corpus's crate");
    Path::new(package["manifest_path"].as_str().expect("path")).parent().expect("folder").to_path_buf()
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("folder");
    for entry in fs::read_dir(from).expect("folder") {
        let entry = entry.expect("entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copy");
        }
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().expect("runtime").block_on(future)
}

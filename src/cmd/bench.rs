//! `tereza bench`: TPC-H and TPC-DS with every answer checked, next to other engines in the same run; and calls to metastores
//! (`bench/metastore.rs`).
//!
//! Each engine is a process of its own that keeps its tables open (`bench/peer.rs`); Tereza is one of them
//! (`bench/own.rs`), so all are asked and timed alike. For each query the engines take turns, run by run, so that what
//! disturbs the machine disturbs all of them. DuckDB is the judge: its answer on the same files is the right one
//! (`bench/answer.rs`). Results go to standard output (`bench/report.rs`), progress to standard error.

mod answer;
mod metastore;
mod own;
mod peer;
mod report;

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::time::Duration;

use arrow::temporal_conversions::timestamp_ms_to_datetime;
use clap::ValueEnum;
use serde_json::{Value, json};
use tereza_runtime::clock::Clock;
use tereza_runtime::{Error, Result, ids};
use tokio::process::Command;

use super::ExitStatus;
use answer::Answer;
use peer::Peer;
use report::{EngineReport, Machine, QueryReport, QueryResult, Report, Verdict};

/// The engine that knows the right answers.
const JUDGE: &str = "duckdb";
/// For the files to be made.
const MAKE_TIMEOUT: Duration = Duration::from_secs(6 * 60 * 60);

/// Flags of `tereza bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which queries to run
    suite: Suite,
    /// Scale factor: about that many gigabytes
    #[arg(long, default_value_t = 1.0)]
    sf: f64,
    /// Warm runs of each query, after the cold one
    #[arg(long, default_value_t = 5)]
    runs: u32,
    /// Engines to run beside Tereza, separated by commas
    #[arg(long, value_enum, value_delimiter = ',')]
    vs: Vec<PeerName>,
    /// Executors that Tereza runs on, each a process; 0 means one process without any
    #[arg(long, default_value_t = 0, value_name = "N")]
    executors: usize,
    /// Write everything measured to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Folder in which the made files are kept
    #[arg(long, default_value = "tereza-data")]
    data: PathBuf,
    /// Numbers of the queries to run, separated by commas
    #[arg(long, value_delimiter = ',')]
    only: Vec<u32>,
    /// Bytes that each engine may use for operators
    #[arg(long, value_name = "BYTES")]
    memory_limit: Option<u64>,
    /// Where Tereza reads from: `file`, or `s3://bucket/prefix`, to which the files are copied; peers read files
    #[arg(long, default_value = "file")]
    store: String,
    /// Folder of the peers' runners and environments (made by its setup.sh)
    #[arg(long, env = "TEREZA_BENCH_PEERS", default_value = "benches/peers")]
    peers: PathBuf,
    /// Seconds that one query may take
    #[arg(long, default_value_t = 600, value_name = "SECONDS")]
    timeout: u64,
    #[command(flatten)]
    metastore: metastore::Args,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Suite {
    /// The 22 queries of TPC-H
    Tpch,
    /// The 99 queries of TPC-DS
    Tpcds,
    /// Calls to running metastores, as many as --at names
    Catalog,
    /// Answers the peers' protocol; how this command starts Tereza itself
    #[value(hide = true)]
    Peer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PeerName {
    Duckdb,
    Polars,
    Sail,
    Spark,
    Datafusion,
    /// Tereza in one process, to compare with one that has executors
    Local,
}

/// A query of the suite.
#[derive(Debug)]
struct Query {
    number: u32,
    text: String,
}

/// The engines of a run: Tereza first, then the peers that are there.
#[derive(Debug)]
struct Engines {
    running: Vec<Peer>,
    /// Position of the judge among them, if it is also measured.
    judge: Option<usize>,
    /// The judge, if it only judges.
    silent_judge: Option<Peer>,
    /// Name and reason of each peer that is not there.
    missing: Vec<(String, String)>,
}

/// Runs the command.
pub(crate) async fn run(args: Args) -> Result<ExitStatus> {
    match args.suite {
        Suite::Peer => {
            own::serve().await?;
            return Ok(ExitStatus::Done);
        }
        Suite::Catalog => {
            let report = metastore::run(&args.metastore).await?;
            if let Some(path) = &args.json {
                write_json(path, &report)?;
            }
            return Ok(ExitStatus::Done);
        }
        Suite::Tpch | Suite::Tpcds => {}
    }
    let bench = Bench::new(args)?;
    let queries = bench.queries().await?;
    let folder = bench.files().await?;
    let own_data = bench.cache.join(format!("tereza-{}", ids::new_id()));
    let mut engines = bench.start(&folder, &own_data).await?;
    let mut reports = Vec::with_capacity(queries.len());
    for (at, query) in queries.iter().enumerate() {
        eprintln!("{}: query {} ({} of {})", bench.suite(), query.number, at + 1, queries.len());
        reports.push(bench.measure(&mut engines, query).await?);
    }
    for peer in engines.running.iter_mut().chain(&mut engines.silent_judge) {
        peer.stop().await;
    }
    remove(&own_data);

    let report = bench.report(&engines, reports);
    print!("{}", report.render());
    if let Some(path) = &bench.args.json {
        write_json(path, &report)?;
    }
    Ok(if report.is_right() { ExitStatus::Done } else { ExitStatus::Failed })
}

fn write_json(path: &Path, report: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(report)
        .map_err(|error| Error::internal(format!("the report cannot be written as JSON: {error}")))?;
    std::fs::write(path, text + "\n")
        .map_err(|error| Error::unavailable(format!("{} cannot be written: {error}", path.display())))
}

#[derive(Debug)]
struct Bench {
    args: Args,
    /// `<data>/bench`, absolute: other processes are given paths in it.
    cache: PathBuf,
    cores: usize,
}

impl Bench {
    fn new(args: Args) -> Result<Self> {
        if !args.sf.is_finite() || args.sf <= 0.0 {
            return Err(Error::invalid_input(format!("scale factor {} is not above 0", args.sf)));
        }
        if args.store != "file" && !args.store.starts_with("s3://") {
            return Err(Error::invalid_input(format!("store '{}' is neither file nor s3://…", args.store)));
        }
        let cache = args.data.join("bench");
        let cache = std::fs::create_dir_all(&cache).and_then(|()| cache.canonicalize());
        let cache = cache.map_err(|error| {
            Error::unavailable(format!("folder {} cannot be made: {error}", args.data.join("bench").display()))
        })?;
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        Ok(Self { args, cache, cores })
    }

    fn suite(&self) -> &'static str {
        match self.args.suite {
            Suite::Tpcds => "tpcds",
            // The peer has left before.
            Suite::Tpch | Suite::Catalog | Suite::Peer => "tpch",
        }
    }

    /// The interpreter of a peer's environment, or what to do to get it.
    fn python(&self, peer: &str) -> Result<PathBuf> {
        let python = self.args.peers.join(".venv").join(peer).join("bin/python");
        if python.exists() {
            return Ok(python);
        }
        Err(Error::not_found(format!("{} does not exist", python.display()))
            .with_hint(format!("run {} {peer}", self.args.peers.join("setup.sh").display())))
    }

    /// Runs `tpc.py`, which knows the judge's data and queries.
    async fn tpc(&self, arguments: &[&str]) -> Result<Vec<u8>> {
        let mut command = Command::new(self.python(JUDGE)?);
        command.arg(self.args.peers.join("tpc.py")).args(arguments).kill_on_drop(true);
        let output = command.output().await;
        let output = output.map_err(|error| Error::unavailable(format!("python cannot be started: {error}")))?;
        if !output.status.success() {
            let error = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(Error::unavailable(format!("tpc.py {} failed: {error}", arguments.join(" "))));
        }
        Ok(output.stdout)
    }

    async fn queries(&self) -> Result<Vec<Query>> {
        let text = self.tpc(&["queries", self.suite()]).await?;
        let all: Vec<(u32, String)> =
            serde_json::from_slice(&text).map_err(|error| Error::internal(format!("tpc.py answers oddly: {error}")))?;
        if let Some(unknown) = self.args.only.iter().find(|only| !all.iter().any(|(number, _)| number == *only)) {
            return Err(Error::invalid_input(format!("{} has no query {unknown}", self.suite())));
        }
        let is_wanted = |number| self.args.only.is_empty() || self.args.only.contains(&number);
        let wanted = all.into_iter().filter(|(number, _)| is_wanted(*number));
        Ok(wanted.map(|(number, text)| Query { number, text }).collect())
    }

    /// The folder of the files, made if it is not there: TPC-H by Tereza's own catalog, TPC-DS by the judge.
    async fn files(&self) -> Result<PathBuf> {
        let folder = self.cache.join(format!("{}-sf{}", self.suite(), self.args.sf));
        if folder.is_dir() {
            return Ok(folder);
        }
        eprintln!("{}: making {}", self.suite(), folder.display());
        let target = folder.to_string_lossy().into_owned();
        match self.args.suite {
            Suite::Tpcds => {
                self.tpc(&["make", "tpcds", &self.args.sf.to_string(), &target]).await?;
            }
            Suite::Tpch | Suite::Catalog | Suite::Peer => {
                // A process of its own, so that the memory of making is not counted as the queries'.
                let data = self.cache.join(format!("making-{}", ids::new_id()));
                let mut maker = self.own("tereza", &json!({}), &data, &Value::Null, 0)?;
                let request = json!({ "make": { "scale": self.args.sf, "folder": target } });
                maker.start().await?;
                let made = maker.ask(&request, MAKE_TIMEOUT).await;
                maker.stop().await;
                remove(&data);
                made?;
            }
        }
        Ok(folder)
    }

    /// Tereza in a process of its own.
    fn own(&self, name: &str, tables: &Value, data: &Path, store: &Value, executors: usize) -> Result<Peer> {
        let program = std::env::current_exe()
            .map_err(|error| Error::unavailable(format!("this program's own file is not known: {error}")))?;
        let mut open = self.open(tables);
        open["data"] = json!(data);
        open["store"] = store.clone();
        open["executors"] = json!(executors);
        let log = self.cache.join(format!("{name}.log"));
        Ok(Peer::new(name, program, vec!["bench".into(), "peer".into()], open, &log))
    }

    fn open(&self, tables: &Value) -> Value {
        json!({ "tables": tables, "cores": self.cores, "memory_limit_bytes": self.args.memory_limit })
    }

    fn peer(&self, name: &str, tables: &Value) -> Result<Peer> {
        let script = self.args.peers.join(format!("{name}_peer.py"));
        let log = self.cache.join(format!("{name}.log"));
        Ok(Peer::new(name, self.python(name)?, vec![script.into()], self.open(tables), &log))
    }

    async fn start(&self, folder: &Path, own_data: &Path) -> Result<Engines> {
        let tables = tables(folder)?;
        let store = match self.args.store.as_str() {
            "file" => Value::Null,
            url => json!(format!("{}/{}-sf{}", url.trim_end_matches('/'), self.suite(), self.args.sf)),
        };
        let mut running = vec![self.own("tereza", &tables, own_data, &store, self.args.executors)?];
        running[0].start().await.map_err(|error| error.context("tereza cannot open the tables"))?;

        let mut missing = Vec::new();
        let mut names: Vec<&str> = Vec::new();
        for wanted in &self.args.vs {
            let name = wanted.as_str();
            if names.contains(&name) {
                continue;
            }
            names.push(name);
            let peer = match wanted {
                PeerName::Local => self.own(name, &tables, &own_data.join(name), &store, 0),
                _ => self.peer(name, &tables),
            };
            let started = match peer {
                Ok(mut peer) => peer.start().await.map(|()| peer),
                Err(error) => Err(error),
            };
            match started {
                Ok(peer) => running.push(peer),
                Err(error) => {
                    eprintln!("{name}: MISSING: {error}");
                    missing.push((name.to_owned(), error.to_string()));
                }
            }
        }
        let judge = running.iter().position(|peer| peer.name == JUDGE);
        let silent_judge = match judge {
            Some(_) => None,
            None => Some(self.peer(JUDGE, &tables)?),
        };
        Ok(Engines { running, judge, silent_judge, missing })
    }

    /// Runs one query by all engines in turns.
    async fn measure(&self, engines: &mut Engines, query: &Query) -> Result<QueryReport> {
        let limit = Duration::from_secs(self.args.timeout);
        let mut results: Vec<QueryResult> =
            engines.running.iter().map(|peer| QueryResult::unanswered(&peer.name)).collect();
        let mut answers: Vec<Vec<Answer>> = vec![Vec::new(); results.len()];
        for run in 0..=self.args.runs as usize {
            for at in order(results.len(), run) {
                let result = &mut results[at];
                if result.detail.is_some() {
                    continue;
                }
                let asked = engines.running[at].query(&query.text, limit).await;
                engines.running[at].settle().await;
                match asked {
                    Ok(timed) => {
                        let ms = timed.seconds * 1000.0;
                        if run == 0 {
                            result.cold_ms = Some(ms)
                        } else {
                            result.warm_runs_ms.push(ms)
                        }
                        result.rows = Some(timed.answer.rows.len());
                        if answers[at].last() != Some(&timed.answer) {
                            answers[at].push(timed.answer);
                        }
                    }
                    Err(error) => result.detail = Some(error.to_string()),
                }
            }
        }
        let judged = match engines.judge {
            Some(judge) => answers[judge].first().cloned(),
            None => None,
        };
        let right = match (judged, &mut engines.silent_judge) {
            (Some(right), _) => right,
            (None, Some(judge)) => judge.query(&query.text, limit).await?.answer,
            (None, None) => {
                return Err(Error::unavailable(format!("{JUDGE} does not answer query {}", query.number)));
            }
        };
        for (result, answers) in results.iter_mut().zip(&answers) {
            result.warm_ms = report::median(&result.warm_runs_ms);
            if result.detail.is_some() {
                continue;
            }
            // Every run's answer is checked, not the first one only.
            result.detail = answers.iter().find_map(|answer| answer.difference(&right));
            result.verdict = if result.detail.is_none() { Verdict::Right } else { Verdict::Wrong };
        }
        Ok(QueryReport { number: query.number, results })
    }

    fn report(&self, engines: &Engines, queries: Vec<QueryReport>) -> Report {
        let now_ms = Clock::system().unix_ms();
        let measured = engines.running.iter().map(|peer| EngineReport {
            name: peer.name.clone(),
            version: peer.version.clone(),
            peak_rss_bytes: peer.peak_rss_bytes,
            missing: None,
        });
        let missing = engines.missing.iter().map(|(name, reason)| EngineReport {
            name: name.clone(),
            version: None,
            peak_rss_bytes: 0,
            missing: Some(reason.clone()),
        });
        Report {
            benchmark: self.suite().into(),
            scale: self.args.sf,
            date: timestamp_ms_to_datetime(now_ms).map_or_else(String::new, |date| date.format("%FT%TZ").to_string()),
            machine: Machine {
                cores: self.cores,
                memory_bytes: field("/proc/meminfo", "MemTotal")
                    .and_then(|text| text.strip_suffix(" kB")?.parse::<u64>().ok())
                    .map(|kib| kib * 1024),
                cpu: field("/proc/cpuinfo", "model name"),
            },
            runs: self.args.runs,
            store: self.args.store.clone(),
            executors: self.args.executors,
            memory_limit_bytes: self.args.memory_limit,
            engines: measured.chain(missing).collect(),
            ratios: report::ratios(&queries),
            queries,
        }
    }
}

impl PeerName {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Duckdb => "duckdb",
            Self::Polars => "polars",
            Self::Sail => "sail",
            Self::Spark => "spark",
            Self::Datafusion => "datafusion",
            Self::Local => "local",
        }
    }
}

/// The order in which `engines` take their turns in a round: in as many rounds as there are engines, an even number of
/// them, each comes after each other one once (E. J. Williams, 1949).
fn order(engines: usize, round: usize) -> impl Iterator<Item = usize> {
    (0..engines).map(move |turn| {
        let zigzag = if turn % 2 == 1 { turn.div_ceil(2) } else { engines - turn / 2 };
        (zigzag + round) % engines
    })
}

/// `{table: files}` of a folder with a folder for each table.
fn tables(folder: &Path) -> Result<Value> {
    let unreadable =
        |error: std::io::Error| Error::unavailable(format!("{} cannot be read: {error}", folder.display()));
    let mut tables = serde_json::Map::new();
    for entry in folder.read_dir().map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if !entry.path().is_dir() {
            continue;
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        tables.insert(name, json!(entry.path().join("*.parquet")));
    }
    Ok(Value::Object(tables))
}

/// Removes a folder of this run; one that stays is harmless and has a name of its own.
fn remove(folder: &Path) {
    if let Err(error) = std::fs::remove_dir_all(folder) {
        tracing::warn!(folder = %folder.display(), %error, "a folder of the bench stays");
    }
}

/// The value of `name: value` in a file of Linux' `/proc`.
fn field(path: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_engine_always_follows_the_same_other() {
        let mut after = BTreeSet::new();
        for round in 0..6 {
            let turns: Vec<usize> = order(6, round).collect();
            assert_eq!(turns.iter().collect::<BTreeSet<_>>().len(), 6, "{turns:?}");
            for pair in turns.windows(2) {
                assert!(after.insert((pair[0], pair[1])), "{pair:?} twice");
            }
        }
        assert_eq!(order(1, 3).collect::<Vec<_>>(), [0]);
        assert_eq!(order(3, 1).collect::<BTreeSet<_>>().len(), 3);
    }
}

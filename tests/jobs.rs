//! Jobs: texts that a server keeps and runs whoever is still there, also when it dies in the middle of them.

use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tereza_engine::fail_point;
use tereza_runtime::{clock, ids};

use crate::support::{self, Server, http_get, wait_for};

/// Takes many seconds and holds next to nothing: a join without an equality.
const LONG: &str =
    "SELECT count(*) FROM tpch.sf1.lineitem a, tpch.sf1.lineitem b WHERE a.l_orderkey < b.l_orderkey - 1000000000";
/// Rows of [`INSERT`].
const ROWS: u64 = 15_000;
const INSERT: &str = "INSERT INTO t SELECT o_orderkey, o_totalprice FROM tpch.tiny.orders";
const CREATE: &str = "CREATE TABLE IF NOT EXISTS t (k BIGINT, price DECIMAL(15, 2))";
/// Jobs that wait or run while their server is killed, and how often it is.
const JOBS: u64 = 6;
const KILLS: u64 = 4;

#[test]
fn a_job_goes_on_without_its_client_and_its_rows_go_where_they_are_wanted() {
    let world = World::start(&[]);
    let script = world.script(&format!("{CREATE};\n{INSERT};\nSELECT count(*) AS n FROM t -- the last one\n;"));
    let submitted = world.run(&["submit", &script, "--into", "answers"]);
    let id = text(submitted);
    let ended = world.run(&["job", "wait", id.trim()]);
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert_eq!(String::from_utf8_lossy(&ended.stderr), "succeeded (1 row to answers)\n");
    assert_eq!(world.ask("SELECT * FROM answers"), format!("{ROWS}\n"));

    let shown: serde_json::Value =
        serde_json::from_str(&text(world.run(&["job", "show", id.trim(), "--format", "json"]))).unwrap();
    for (column, expected) in [("state", "succeeded"), ("destination", "answers"), ("kind", "sql")] {
        assert_eq!(shown[column], expected, "{shown}");
    }
    for (column, expected) in [("attempts", 1), ("statements_done", 3), ("statements", 3), ("rows", 1)] {
        assert_eq!(shown[column], expected, "{shown}");
    }
    let logs = text(world.run(&["job", "logs", id.trim()]));
    let events: Vec<&str> = logs.lines().map(|line| line.split("]  ").nth(1).unwrap()).collect();
    assert!(events[0].starts_with("submitted by "), "{logs}");
    assert_eq!(events[1], "attempt 1 begins at statement 1");
    assert!(events[3].starts_with(&format!("statement 2 is done: {ROWS} rows in ")), "{logs}");
    assert_eq!(*events.last().unwrap(), "succeeded");
    assert!(text(world.run(&["job", "ls", "--state", "succeeded"])).contains(id.trim()));
    assert!(!text(world.run(&["job", "ls", "--state", "failed"])).contains(id.trim()));

    let file = world.folder.path().join("it's.parquet");
    let path = file.to_str().unwrap();
    let waited = world.run(&["submit", &world.script("SELECT 1 AS a UNION ALL SELECT 2"), "--into", path, "--wait"]);
    assert_eq!(waited.status.code(), Some(0), "{waited:?}");
    assert_eq!(world.ask(&format!("SELECT sum(a) FROM '{}'", path.replace('\'', "''"))), "3\n");
}

#[test]
fn what_cannot_work_is_refused_or_fails_with_its_cause() {
    let world = World::start(&["--set", "jobs.retry_pause_ms=1"]);
    let refused = |script: &str, arguments: &[&str], part: &str| {
        let script = world.script(script);
        let output = world.run(&[&["submit", script.as_str()], arguments].concat());
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains(part), "{script}: {error}");
    };
    refused("SELECT 1; SELEC 2", &[], "statement 2 of the job");
    refused(" ; -- nothing", &[], "no statement");
    refused("SELECT 1", &["--memory", "many"], "many");
    refused("SELECT 1", &["--memory", "9000GB"], "more than the process may use");
    refused("SHOW TABLES", &["--into", "x"], "statement 1 of the job");
    let missing = world.run(&["submit", "no-such-file.sql"]);
    assert_eq!(missing.status.code(), Some(2), "{missing:?}");
    let unknown = world.run(&["job", "wait", "nobody"]);
    assert_eq!(unknown.status.code(), Some(1), "{unknown:?}");

    let failed = |script: &str, arguments: &[&str], parts: &[&str]| {
        let script = world.script(script);
        let output = world.run(&[&["submit", script.as_str(), "--wait"], arguments].concat());
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        text(world.run(&["job", "logs", String::from_utf8_lossy(&output.stdout).trim()]))
    };
    let log = failed("SELECT 1; SELECT * FROM nowhere", &[], &["statement 2 of 2", "nowhere"]);
    assert_eq!(log.matches("begins at").count(), 1, "trying again would not help: {log}");
    failed(LONG, &["--timeout", "1"], &["took longer than its limit of 1000 ms"]);
    let wide = "SELECT count(*) FROM (SELECT DISTINCT l_orderkey, l_comment FROM tpch.sf1.lineitem)";
    let bounded = &format!("SET datafusion.execution.target_partitions = 2; {wide}");
    failed(bounded, &["--memory", "1MB"], &["1000000 bytes"]);

    drop(world.server);
    let gone = support::tereza().args(["job", "ls", "--data"]).arg(&world.data).output().unwrap();
    assert_eq!(gone.status.code(), Some(3), "{gone:?}");
}

#[test]
fn a_name_stands_for_one_job() {
    let world = World::start(&["--set", "jobs.queue_max=2"]);
    let [one, other, long] = ["SELECT 1", "SELECT 2", LONG].map(|script| world.script(script));
    let submit = |script: &str, more: &[&str]| world.run(&[&["submit", script], more].concat());
    let first = text(submit(&one, &["--name", "nightly", "--wait"]));
    assert_eq!(text(submit(&one, &["--name", "nightly"])), first, "the same again, as after a lost answer");
    let refused = submit(&other, &["--name", "nightly"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("does something else"), "{refused:?}");
    let again = text(submit(&other, &["--name", "nightly", "--again", "--wait"]));
    assert_ne!(again, first);
    // What failed may be tried under its name.
    let wrong = world.script("SELECT * FROM nowhere");
    let failed = text_of_failed(submit(&wrong, &["--name", "late", "--wait"]));
    text(world.run(&["sql", "-c", "CREATE TABLE nowhere AS SELECT 1 AS a"]));
    let retried = text(submit(&wrong, &["--name", "late", "--wait"]));
    assert_ne!(retried, failed);

    // Two run; of those that wait, the one with the greatest priority is next, and a third is refused.
    let running = [text(submit(&long, &[])), text(submit(&long, &[]))];
    let state = |id: &str| world.ask(&format!("SELECT state FROM system.runtime.jobs WHERE job_id = '{}'", id.trim()));
    wait_for("two jobs to run", || running.iter().all(|id| state(id) == "running\n").then_some(()));
    let low = text(submit(&one, &["--priority", "-1"]));
    let high = text(submit(&one, &["--priority", "7"]));
    let full = submit(&one, &[]);
    assert!(String::from_utf8_lossy(&full.stderr).contains("jobs.queue_max"), "{full:?}");
    text(world.run(&["job", "cancel", running[0].trim()]));
    text(world.run(&["job", "wait", low.trim()]));
    let order = format!(
        "SELECT job_id FROM system.runtime.jobs WHERE job_id IN ('{}', '{}') ORDER BY started",
        low.trim(),
        high.trim()
    );
    assert_eq!(world.ask(&order), format!("{high}{low}"));
    text(world.run(&["job", "cancel", running[1].trim()]));
}

#[test]
fn a_job_that_is_cancelled_ends_at_once_and_leaves_nothing() {
    let world = World::start(&[]);
    let long = world.script(&format!("CREATE TABLE never AS {LONG}"));
    let id = text(world.run(&["submit", &long, "--name", "long"]));
    let runs =
        "SELECT count(*) FROM system.runtime.queries WHERE state = 'running' AND query LIKE 'CREATE TABLE never%'";
    wait_for("the job's query", || (world.ask(runs) == "1\n").then_some(()));
    let other = world.run(&["job", "cancel", "long", "--user", "somebody-else"]);
    assert!(String::from_utf8_lossy(&other.stderr).contains("another user"), "{other:?}");
    let began = clock::now();
    text(world.run(&["job", "cancel", "long"]));
    wait_for("the query to end", || (world.ask(runs) == "0\n").then_some(()));
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    let ended = world.run(&["job", "wait", id.trim()]);
    assert_eq!((ended.status.code(), String::from_utf8_lossy(&ended.stderr).as_ref()), (Some(1), "cancelled\n"));
    assert!(!world.run(&["sql", "-c", "SELECT * FROM never"]).status.success());
    let again = world.run(&["job", "cancel", id.trim()]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("has been cancelled"), "{again:?}");
}

#[test]
fn a_job_whose_server_dies_at_any_step_commits_once() {
    for place in fail_point::BEFORE_COMMIT_POINT.iter().chain(&fail_point::AFTER_COMMIT_POINT) {
        if *place == fail_point::BEFORE_DELETES {
            // Nothing is deleted by an INSERT.
            continue;
        }
        let folder = tempfile::tempdir().unwrap();
        let data = data_folder(&folder);
        let server = Server::start_mortal(&data, place, &[]);
        let mut world = World { server, data, folder };
        let script = world.script(&format!("USE default; {CREATE}; {INSERT}; SELECT count(*) FROM t"));
        let id = text(world.run(&["submit", &script]));
        wait_for("the server to die", || world.server.process().child().try_wait().unwrap());
        world.restart();
        let ended = world.run(&["job", "wait", id.trim()]);
        let logs = text(world.run(&["job", "logs", id.trim()]));
        assert!(ended.status.success(), "{place}: {ended:?}\n{logs}");
        assert!(logs.contains("queued again: the process that ran it ended"), "{place}: {logs}");
        assert_eq!(world.ask("SELECT count(*) FROM t"), format!("{ROWS}\n"), "{place}: {logs}");
        let begins = if fail_point::AFTER_COMMIT_POINT.contains(place) { 4 } else { 3 };
        assert!(logs.contains(&format!("attempt 2 begins at statement {begins}")), "{place}: {logs}");
    }
}

#[test]
fn jobs_that_wait_and_run_survive_the_death_of_their_server_at_random_moments() {
    let mut world = World::start(&[]);
    text(world.run(&["sql", "-c", CREATE]));
    let insert = "INSERT INTO t SELECT o_orderkey, o_totalprice FROM tpch.\"sf0.1\".orders";
    let script = world.script(&[insert; 3].join(";\n"));
    let ids: Vec<String> = (0..JOBS).map(|_| text(world.run(&["submit", &script, "--attempts", "20"]))).collect();
    let seed = ids::jitter(u64::MAX);
    println!("seed {seed}");
    for kill in 0..KILLS {
        let random = seed.wrapping_mul(kill + 1).rotate_left(17);
        std::thread::park_timeout(Duration::from_millis(random % 400));
        world.server.process().kill();
        world.restart();
    }
    for id in &ids {
        let ended = world.run(&["job", "wait", id.trim()]);
        let logs = text(world.run(&["job", "logs", id.trim()]));
        assert!(ended.status.success(), "seed {seed}: {ended:?}\n{logs}");
    }
    assert_eq!(world.ask("SELECT count(*) FROM t"), format!("{}\n", JOBS * 3 * 150_000), "seed {seed}");
}

#[test]
fn a_server_that_is_asked_to_end_hands_its_jobs_on() {
    let mut world = World::start(&[]);
    let id = text(world.run(&["submit", &world.script(LONG), "--attempts", "1"]));
    let state = |world: &World| text(world.run(&["job", "ls", "--format", "csv"]));
    wait_for("the job to run", || state(&world).contains("running").then_some(()));
    let began = clock::now();
    assert_eq!(world.server.terminate(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    world.restart();
    wait_for("the job to run again", || state(&world).contains("running").then_some(()));
    let logs = text(world.run(&["job", "logs", id.trim()]));
    assert!(logs.contains("attempt 2 begins"), "a start that was drained does not count: {logs}");
    let metrics = http_get(&world.server.console, "/metrics").unwrap();
    assert!(metrics.contains("tereza_jobs_running 1"), "{metrics}");
    text(world.run(&["job", "cancel", id.trim()]));
}

/// A server on a data folder of its own.
pub(crate) struct World {
    pub(crate) server: Server,
    data: PathBuf,
    pub(crate) folder: TempDir,
}

impl World {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = data_folder(&folder);
        Self { server: Server::start(&data, arguments), data, folder }
    }

    /// Starts the server anew, after it died.
    pub(crate) fn restart(&mut self) {
        self.restart_with(&[]);
    }

    pub(crate) fn restart_with(&mut self, arguments: &[&str]) {
        self.server = Server::start(&self.data, arguments);
    }

    /// A file of statements.
    pub(crate) fn script(&self, text: &str) -> String {
        let path = self.folder.path().join(format!("{}.sql", ids::new_id()));
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// A command on the server, which it finds by its URL.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let mut command = support::tereza();
        command.args(arguments).args(["--url", &self.server.flight_sql]);
        command.stdin(Stdio::null()).output().unwrap()
    }

    /// The rows of a query, as CSV without the header.
    pub(crate) fn ask(&self, sql: &str) -> String {
        let csv = text(self.run(&["sql", "--format", "csv", "-c", sql]));
        csv.lines().skip(1).map(|line| format!("{line}\n")).collect()
    }
}

fn data_folder(folder: &TempDir) -> PathBuf {
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    data
}

pub(crate) fn text(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn text_of_failed(output: Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

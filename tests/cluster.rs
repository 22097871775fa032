//! Statements on executors that die, hang and come back: the answer is right, and comes in bounded time.

use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use tereza_runtime::{clock, ids};

use crate::support::{self, Cluster, wait_for};

/// A query of several stages that takes about a second: joins, an aggregation and a sort over generated tables.
const QUERY: &str = "SELECT n_name, o_orderpriority, count(*) AS n, sum(l_extendedprice * (1 - l_discount)) AS revenue
    FROM lineitem JOIN orders ON l_orderkey = o_orderkey JOIN customer ON o_custkey = c_custkey
    JOIN nation ON c_nationkey = n_nationkey
    WHERE l_shipdate > DATE '1995-03-15' GROUP BY n_name, o_orderpriority ORDER BY n_name, o_orderpriority";
/// Kills of an executor at random moments.
const KILLS: u64 = 6;
/// A statement that loses executors ends after this at the latest.
const BOUND: Duration = Duration::from_secs(60);

#[test]
fn a_statement_says_where_it_runs_and_why() {
    let cluster = Cluster::start(None, 1);
    let explain = |mode: &str, sql: &str| text(ask(&cluster, mode, &format!("EXPLAIN {sql}")));
    assert!(explain("cluster", QUERY).contains("cluster: tereza.mode is cluster"));
    assert!(explain("auto", QUERY).contains("local: it reads 0 bytes of files"));
    assert!(explain("local", QUERY).contains("local: tereza.mode is local"));
    text(ask(&cluster, "cluster", "CREATE TABLE tereza.default.t AS SELECT 1 AS a"));
    let lanes = "SELECT lane, lane_reason FROM system.runtime.queries WHERE query LIKE 'CREATE TABLE%'";
    assert!(text(ask(&cluster, "local", lanes)).contains("local"), "writes run in the process that schedules");
    let refused = ask(&cluster, "somewhere", "SELECT 1");
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    let union = "SELECT count(*) FROM nation UNION ALL SELECT n_nationkey FROM nation";
    assert!(explain("cluster", union).contains("local: a part of its UNION"));
    assert_eq!(text(ask(&cluster, "cluster", union)), text(ask(&cluster, "local", union)));
}

#[test]
fn without_a_scheduler_there_is_no_cluster() {
    let data = tempfile::tempdir().unwrap();
    let refused = support::sql_output(data.path(), &["--mode", "cluster"], "SELECT 1");
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{error}");
    assert!(error.contains("the cluster lane in a process that schedules no executors"), "{error}");
    assert!(error.contains("tereza up --executors"), "{error}");
}

#[test]
fn functions_and_types_are_the_same_on_executors() {
    let cluster = Cluster::start(None, 2);
    for sql in [
        "SELECT array_length(array_agg(o_orderkey)), max(map {'a': o_custkey}['a']) FROM orders",
        "SELECT o_orderpriority, array_sort(array_agg(DISTINCT o_orderstatus)) FROM orders GROUP BY 1 ORDER BY 1",
        "SELECT regexp_replace(upper(o_comment), 'A', '_', 'g') AS c, count(*) FROM orders GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 5",
        "SELECT struct(o_orderkey, o_comment) AS s FROM orders ORDER BY o_orderkey LIMIT 3",
        "SELECT count(*) FROM orders WHERE o_orderkey NOT IN (SELECT l_orderkey FROM lineitem WHERE l_quantity > 49)",
        "SELECT o_orderkey, rank() OVER (PARTITION BY o_custkey ORDER BY o_totalprice) FROM orders ORDER BY 1 LIMIT 20",
        "SELECT * FROM orders WHERE false",
        "SELECT sum(x) FROM (SELECT 1 AS x UNION ALL SELECT 2 UNION ALL SELECT o_orderkey FROM orders WHERE false)",
        "SELECT (SELECT max(o_totalprice) FROM orders) - avg(o_totalprice) FROM orders",
        "SELECT approx_distinct(o_custkey), median(o_totalprice), stddev(o_totalprice) > 0 FROM orders",
    ] {
        assert_eq!(text(ask(&cluster, "cluster", sql)), text(ask(&cluster, "local", sql)), "{sql}");
    }
}

#[test]
fn an_executor_that_is_killed_at_a_random_moment_costs_time_only() {
    let cluster = Cluster::start(None, 2);
    let right = text(ask(&cluster, "local", QUERY));
    let started = clock::now();
    assert_eq!(text(ask(&cluster, "cluster", QUERY)), right);
    let whole_ms = u64::try_from(started.elapsed().as_millis()).unwrap();
    let seed = ids::jitter(u64::MAX);
    println!("seed {seed}");
    for kill in 0..KILLS {
        let random = seed.wrapping_mul(kill + 1).rotate_left(17);
        let asked = start(&cluster, "cluster", QUERY);
        std::thread::park_timeout(Duration::from_millis(random % whole_ms.max(1)));
        signal("-KILL", cluster.executor((random >> 32) as usize % 2).unwrap());
        assert_eq!(text(end(asked)), right, "seed {seed}, kill {kill}");
        cluster.wait_for_executors();
    }
}

#[test]
fn when_all_executors_die_the_statement_waits_for_the_next() {
    let cluster = Cluster::start(None, 2);
    let right = text(ask(&cluster, "local", QUERY));
    let asked = start(&cluster, "cluster", QUERY);
    std::thread::park_timeout(Duration::from_millis(200));
    (0..2).filter_map(|index| cluster.executor(index)).for_each(|id| signal("-KILL", id));
    assert_eq!(text(end(asked)), right);
}

#[test]
fn an_executor_that_hangs_is_given_up() {
    let cluster = Cluster::start(None, 2);
    let right = text(ask(&cluster, "local", QUERY));
    let hanging = cluster.executor(0).unwrap();
    let asked = start(&cluster, "cluster", QUERY);
    std::thread::park_timeout(Duration::from_millis(200));
    signal("-STOP", hanging);
    let answer = text(end(asked));
    signal("-CONT", hanging);
    assert_eq!(answer, right);
    // It is told that it was given up, and comes back as another.
    cluster.wait_for_executors();
    assert_eq!(text(ask(&cluster, "cluster", QUERY)), right);
}

#[test]
fn executors_end_with_their_server_and_leave_nothing() {
    let mut cluster = Cluster::start(None, 2);
    text(ask(&cluster, "cluster", QUERY));
    let executors: Vec<u32> = (0..2).filter_map(|index| cluster.executor(index)).collect();
    let is_alive = |id: &u32| std::path::Path::new(&format!("/proc/{id}")).exists();
    assert!(executors.len() == 2 && executors.iter().all(is_alive));
    let left = |index: usize| cluster.shuffle_folder(index).read_dir().map_or(0, Iterator::count);
    wait_for("what stages left to be removed", || (left(0) + left(1) == 0).then_some(()));
    cluster.server.process().kill();
    wait_for("the executors to end with their server", || (!executors.iter().any(is_alive)).then_some(()));
}

/// `tereza sql` with these statements on the server.
fn start(cluster: &Cluster, mode: &str, sql: &str) -> Child {
    let mut command = support::tereza();
    command.args([
        "sql",
        "--url",
        &cluster.server.flight_sql,
        "--mode",
        mode,
        "--catalog",
        "tpch",
        "--schema",
        "sf0.1",
    ]);
    command.args(["--format", "csv", "-c", sql]).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn ask(cluster: &Cluster, mode: &str, sql: &str) -> Output {
    end(start(cluster, mode, sql))
}

fn end(mut asked: Child) -> Output {
    let started = clock::now();
    while asked.try_wait().unwrap().is_none() {
        if started.elapsed() > BOUND {
            let _ = asked.kill();
            panic!("no end after {BOUND:?}");
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
    asked.wait_with_output().unwrap()
}

fn text(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn signal(name: &str, process: u32) {
    assert!(Command::new("kill").args([name, &process.to_string()]).status().unwrap().success());
}

//! Statements on executors that die, hang and come back: the answer is right, and comes in bounded time.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use tereza_engine::fail_point;
use tereza_runtime::{clock, ids};

use crate::support::network::Host;
use crate::support::{
    self, Cluster, Look, Minio, Numbers, Python, Server, executor, has_executors, http_get, numbers, signal, wait_for,
};

/// A query of several stages that takes about a second: joins, an aggregation and a sort over generated tables.
const QUERY: &str = "SELECT n_name, o_orderpriority, count(*) AS n, sum(l_extendedprice * (1 - l_discount)) AS revenue
    FROM lineitem JOIN orders ON l_orderkey = o_orderkey JOIN customer ON o_custkey = c_custkey
    JOIN nation ON c_nationkey = n_nationkey
    WHERE l_shipdate > DATE '1995-03-15' GROUP BY n_name, o_orderpriority ORDER BY n_name, o_orderpriority";
/// Kills of an executor at random moments.
const KILLS: u64 = 6;
/// Cuts of an executor's network at random moments.
const CUTS: u64 = 4;
/// How long an executor hangs.
const HANG: Duration = Duration::from_secs(30);
/// Clients that ask at once.
const CLIENTS: usize = 50;
/// A statement that loses executors ends after this at the latest.
const BOUND: Duration = Duration::from_secs(60);

#[test]
fn a_statement_says_where_it_runs_and_why() {
    let cluster = Cluster::start(None, 1);
    let explain = |mode: &str, sql: &str| text(ask(&cluster, mode, &format!("EXPLAIN {sql}")));
    assert!(explain("cluster", QUERY).contains("cluster: tereza.mode is cluster"));
    assert!(explain("auto", QUERY).contains("local: it reads 0 bytes of files"));
    assert!(explain("local", QUERY).contains("local: tereza.mode is local"));
    let create = "CREATE TABLE tereza.default.t AS SELECT o_orderkey FROM orders";
    text(ask(&cluster, "cluster", create));
    let insert = "INSERT INTO tereza.default.t SELECT o_orderkey FROM orders";
    assert!(explain("cluster", insert).contains("cluster: tereza.mode is cluster"));
    let lanes = "SELECT lane FROM system.runtime.queries WHERE query LIKE 'CREATE TABLE%'";
    assert_eq!(text(ask(&cluster, "local", lanes)), "lane\ncluster\n");
    let session = "INSERT INTO memory.public.t SELECT 1";
    let both = format!("CREATE TEMPORARY TABLE t (a INT); EXPLAIN {session}; {session}");
    assert!(text(ask(&cluster, "cluster", &both)).contains("local: it writes what is no table of files"));
    let refused = ask(&cluster, "somewhere", "SELECT 1");
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    let union = "SELECT count(*) FROM nation UNION ALL SELECT n_nationkey FROM nation";
    assert!(explain("cluster", union).contains("local: a part of its UNION"));
    assert_eq!(text(ask(&cluster, "cluster", union)), text(ask(&cluster, "local", union)));
}

#[test]
fn what_stages_do_is_told_while_they_run_and_afterwards() {
    let cluster = Cluster::start(None, 2);
    let plan = text(ask(&cluster, "cluster", &format!("EXPLAIN ANALYZE {QUERY}")));
    for part in ["cluster: tereza.mode is cluster", "stage 1:", "GenerateExec", "output_rows=600.6 K", "125 rows"] {
        assert!(plan.contains(part), "no {part} in {plan}");
    }
    let long = "SELECT count(*) FROM tpch.sf1.lineitem WHERE l_comment LIKE '%no such thing%'";
    let asked = start(&cluster, "cluster", long);
    let running = "SELECT stages, partitions FROM system.runtime.queries WHERE state = 'running' AND lane = 'cluster'";
    wait_for("its stages to be told", || {
        let rows = text(ask(&cluster, "local", running));
        rows.lines().nth(1).is_some_and(|row| !row.starts_with('0')).then_some(())
    });
    assert_eq!(text(end(asked)), "count(*)\n0\n");
    text(ask(&cluster, "cluster", QUERY));
    let done = "SELECT stages > 1, stages = stages_done, partitions = partitions_done, scanned_rows FROM system.runtime.queries
        WHERE state = 'finished' AND query LIKE 'SELECT n_name%'";
    // lineitem, orders, customer and nation.
    let scanned = 600_572 + 150_000 + 15_000 + 25;
    assert_eq!(text(ask(&cluster, "local", done)).lines().nth(1).unwrap(), format!("true,true,true,{scanned}"));
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
        kill_and_wait(cluster.executor((random >> 32) as usize % 2).unwrap());
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
    (0..2).filter_map(|index| cluster.executor(index)).for_each(kill_and_wait);
    assert_eq!(text(end(asked)), right);
}

#[test]
fn an_executor_that_hangs_is_given_up() {
    let cluster = Cluster::start(None, 2);
    let right = text(ask(&cluster, "local", QUERY));
    let hanging = cluster.executor(0).unwrap();
    let asked = start(&cluster, "cluster", QUERY);
    std::thread::park_timeout(Duration::from_millis(200));
    let began = clock::now();
    signal("-STOP", hanging);
    let mut answers = vec![text(end(asked))];
    // Only the first statements wait for it to be missed.
    while began.elapsed() < HANG {
        answers.push(text(ask(&cluster, "cluster", QUERY)));
    }
    signal("-CONT", hanging);
    println!("{} statements while it hung", answers.len());
    assert!(answers.len() > 5, "{} statements", answers.len());
    assert!(answers.iter().all(|answer| *answer == right));
    // It is told that it was given up, and comes back as another.
    cluster.wait_for_executors();
    assert_eq!(text(ask(&cluster, "cluster", QUERY)), right);
}

#[test]
fn a_statement_that_ends_early_frees_its_executors_within_a_second() {
    let cluster = Cluster::start(None, 2);
    // Takes minutes of a core.
    let long = "SELECT count(*) FROM tpch.sf100.lineitem WHERE l_comment LIKE '%no such thing%'";
    // Pairs of a single batch take as long.
    let pairs = "SELECT count(*) FROM lineitem AS a JOIN lineitem AS b ON a.l_linestatus = b.l_linestatus";
    let none = "SELECT count(*) FROM lineitem AS a JOIN lineitem AS b ON a.l_linestatus = b.l_linestatus \
                AND a.l_extendedprice + b.l_extendedprice < 0";
    let loops = "SELECT count(*) FROM lineitem AS a JOIN lineitem AS b ON a.l_extendedprice + b.l_extendedprice < 0";
    let executors: Vec<u32> = (0..2).filter_map(|index| cluster.executor(index)).collect();
    let busy = || executors.iter().map(|id| cpu_ticks(*id)).sum::<u64>();
    for (how, sql) in [("killed", long), ("abandoned", long), ("killed", pairs), ("killed", none), ("abandoned", loops)]
    {
        let before = busy();
        let mut client = start(&cluster, "cluster", sql);
        wait_for("the executors to be busy", || (busy() > before + 100).then_some(()));
        if how == "killed" {
            let running = "SELECT query_id FROM system.runtime.queries WHERE state = 'running' AND lane = 'cluster'";
            let id = text(ask(&cluster, "local", running)).lines().nth(1).unwrap().to_owned();
            text(ask(&cluster, "local", &format!("KILL QUERY '{id}'")));
            let told = client.wait_with_output().unwrap();
            assert!(String::from_utf8_lossy(&told.stderr).contains("cancelled"), "{told:?}");
        } else {
            client.kill().unwrap();
            client.wait().unwrap();
        }
        std::thread::park_timeout(Duration::from_secs(1));
        let after = busy();
        std::thread::park_timeout(Duration::from_millis(500));
        // Heartbeats, and nothing else.
        assert!(busy() - after <= 5, "{how}: {} ticks in half a second, {sql}", busy() - after);
        let left = |index: usize| cluster.shuffle_folder(index).read_dir().map_or(0, Iterator::count);
        wait_for("what stages left to be removed", || (left(0) + left(1) == 0).then_some(()));
    }
}

#[test]
fn many_clients_at_once_are_all_answered() {
    let cluster = Cluster::start(None, 2);
    let right = text(ask(&cluster, "local", QUERY));
    let began = clock::now();
    let clients: Vec<Child> = (0..CLIENTS).map(|_| start(&cluster, "cluster", QUERY)).collect();
    let mut took = Vec::new();
    for client in clients {
        assert_eq!(text(end(client)), right);
        took.push(began.elapsed());
    }
    println!("{CLIENTS} clients: the last was answered after {:?}", took.last());
    let executors: Vec<u32> = (0..2).filter_map(|index| cluster.executor(index)).collect();
    for id in executors {
        let held = support::rss_bytes(id);
        assert!(held < 1 << 30, "an executor holds {held} bytes");
    }
}

#[test]
fn a_query_that_needs_too_much_is_refused_and_its_executor_lives() {
    let limit = ["--set".to_owned(), "engine.memory_limit_bytes=192MiB".to_owned()];
    let cluster = Cluster::start_with(None, 2, &limit);
    let executors: Vec<u32> = (0..2).filter_map(|index| cluster.executor(index)).collect();
    let runaway = "SELECT sum(length(s)) FROM (SELECT string_agg(l_comment, ',') AS s FROM tpch.sf1.lineitem) AS t";
    let refused = ask(&cluster, "cluster", runaway);
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && error.contains("memory"), "{error}");
    assert_eq!(text(ask(&cluster, "cluster", "SELECT count(*) FROM orders")), "count(*)\n150000\n");
    let after: Vec<u32> = (0..2).filter_map(|index| cluster.executor(index)).collect();
    assert_eq!(after, executors, "the executors are the same processes");
}

#[test]
fn a_session_has_its_memory_limit_also_on_executors() {
    let cluster = Cluster::start(None, 2);
    let limited = |sql: &str| {
        let limited = format!("SET datafusion.runtime.memory_limit = '24MB'; {sql}");
        ask(&cluster, "cluster", &limited)
    };
    let refused = limited("SELECT sum(length(s)) FROM (SELECT string_agg(l_comment, ',') AS s FROM lineitem) AS t");
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(error.contains("beyond the session's limit of 24000000 bytes"), "{refused:?}");
    let lanes = "SELECT DISTINCT lane FROM system.runtime.queries WHERE query LIKE 'SELECT sum(length%'";
    assert_eq!(text(ask(&cluster, "local", lanes)), "lane\ncluster\n");
    // What can spill does.
    let spilled = limited(
        "SELECT max(n) FROM (SELECT row_number() OVER (ORDER BY l_comment, l_orderkey) AS n FROM lineitem) AS t",
    );
    assert_eq!(text(spilled), "max(t.n)\n600572\n");
}

#[test]
fn a_task_that_ends_every_executor_fails_its_statement_with_the_cause() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let server = Server::start_mortal(&data, fail_point::AFTER_STAGE, &["--executors", "2"]);
    wait_for("the executors", || has_executors(&server, 2));
    let ask = |mode: &str, sql: &str| end(ask_server(&server, mode, sql));
    text(ask("local", "CREATE TABLE tereza.default.t (k BIGINT)"));
    let began = clock::now();
    let failed = ask("cluster", "INSERT INTO tereza.default.t SELECT o_orderkey FROM orders");
    let error = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(failed.status.code() == Some(1) && began.elapsed() < BOUND, "{:?}: {error}", began.elapsed());
    assert!(error.contains("given up after 4 attempts: executor") && error.contains("was lost"), "{error}");
    wait_for("the executors", || has_executors(&server, 2));
    assert_eq!(text(ask("cluster", "SELECT count(*) FROM orders")), "count(*)\n150000\n");
    assert_eq!(text(ask("local", "SELECT count(*) FROM tereza.default.t")), "count(*)\n0\n");
}

#[test]
fn an_executor_that_is_asked_to_end_does_so_when_nobody_needs_what_it_made() {
    let cluster = Cluster::start(None, 2);
    let right = text(ask(&cluster, "local", QUERY));
    let seed = ids::jitter(u64::MAX);
    println!("seed {seed}");
    for end_of in 0..KILLS {
        let random = seed.wrapping_mul(end_of + 1).rotate_left(17);
        let delay = Duration::from_millis(random % 1_000);
        let victim = cluster.executor((random >> 32) as usize % 2).unwrap();
        let asked = start(&cluster, "cluster", QUERY);
        std::thread::park_timeout(delay);
        signal("-TERM", victim);
        let began = clock::now();
        assert_eq!(text(end(asked)), right, "seed {seed}, after {delay:?}");
        wait_for("the executor to end", || (!Path::new(&format!("/proc/{victim}")).exists()).then_some(()));
        println!("asked after {delay:?}, ended {:?} later", began.elapsed());
        cluster.wait_for_executors();
    }
    let metrics = http_get(&cluster.server.console, "/metrics").expect("metrics");
    assert!(!metrics.contains("tereza_statements_begun_again_total "), "a statement lost an executor: {metrics}");
}

#[test]
fn a_server_that_is_asked_to_end_finishes_what_runs_on_its_executors() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let patient = ["--executors", "2", "--set", "shutdown.drain_timeout_ms=55000"];
    let mut server = Server::start_as_group(&data, &patient);
    wait_for("the executors", || has_executors(&server, 2));
    let long = "SELECT count(*) FROM tpch.sf1.lineitem WHERE l_comment LIKE '%no such thing%'";
    let asked = ask_server(&server, "cluster", long);
    let running =
        "SELECT count(*) FROM system.runtime.queries WHERE state = 'running' AND lane = 'cluster' AND stages > 0";
    wait_for("it to run", || (text(end(ask_server(&server, "local", running))) == "count(*)\n1\n").then_some(()));
    // As Ctrl-C at a terminal, which goes to the whole group.
    let group = format!("-{}", server.id());
    assert!(Command::new("kill").args(["-INT", "--", &group]).status().unwrap().success());
    let ended = wait_for("the server to end", || server.process().child().try_wait().expect("status"));
    assert_eq!(text(end(asked)), "count(*)\n0\n", "{ended:?}");
}

#[test]
fn a_server_that_is_asked_to_end_starts_executors_that_its_statements_need() {
    let patient = ["--set".to_owned(), "shutdown.drain_timeout_ms=55000".to_owned()];
    let mut cluster = Cluster::start_with(None, 1, &patient);
    let long = "SELECT count(*) FROM tpch.sf1.lineitem WHERE l_comment LIKE '%no such thing%'";
    let asked = start(&cluster, "cluster", long);
    let executor = cluster.executor(0).unwrap();
    let before = cpu_ticks(executor);
    wait_for("it to run", || (cpu_ticks(executor) > before + 20).then_some(()));
    signal("-TERM", cluster.server.id());
    kill_and_wait(executor);
    assert_eq!(text(end(asked)), "count(*)\n0\n");
    let ended = wait_for("the server to end", || cluster.server.process().child().try_wait().expect("status"));
    assert!(ended.success(), "{ended:?}");
}

#[test]
fn an_executor_ends_when_it_is_asked_to_at_any_moment_of_its_start() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let scheduler = Server::start_scheduler(&data, "127.0.0.1", 0);
    let (here, nowhere) = (scheduler.endpoint("scheduler"), "http://127.0.0.1:1");
    for (nth, after_ms) in [0, 8, 16, 24, 32, 40, 48, 56, 64, 72, 80, 120, 160, 240, 500, 900].into_iter().enumerate() {
        let url = if nth % 4 == 3 { nowhere } else { &here };
        let mut process = executor(support::tereza(), &folder.path().join("executor"), "127.0.0.1", url);
        std::thread::park_timeout(Duration::from_millis(after_ms));
        signal("-TERM", process.id());
        let began = clock::now();
        let ended = wait_for("the executor to end", || process.child().try_wait().expect("status"));
        assert!(began.elapsed() < Duration::from_secs(5), "asked {after_ms} ms after its start");
        // Before it listens to signals they end it.
        assert!(ended.success() || ended.signal() == Some(15), "asked {after_ms} ms after its start: {ended:?}");
    }
}

#[test]
fn when_all_executors_are_asked_to_end_the_statement_waits_for_the_next() {
    let cluster = Cluster::start(None, 2);
    let right = text(ask(&cluster, "local", QUERY));
    let asked = start(&cluster, "cluster", QUERY);
    std::thread::park_timeout(Duration::from_millis(300));
    (0..2).filter_map(|index| cluster.executor(index)).for_each(|id| signal("-TERM", id));
    assert_eq!(text(end(asked)), right);
    let lanes =
        "SELECT DISTINCT lane FROM system.runtime.queries WHERE query LIKE 'SELECT n_name%' AND lane <> 'local'";
    assert_eq!(text(ask(&cluster, "local", lanes)), "lane\ncluster\n");
    let metrics = http_get(&cluster.server.console, "/metrics").expect("metrics");
    assert!(!metrics.contains("tereza_statements_taken_back_total "), "the server ran it: {metrics}");
}

#[test]
fn how_far_a_statement_is_stands_on_the_terminal_of_its_client() {
    if !Command::new("script").arg("--version").output().is_ok_and(|output| output.status.success()) {
        return support::missing("script (util-linux)");
    }
    let cluster = Cluster::start(None, 2);
    let long = "SELECT count(*) FROM tpch.sf1.lineitem WHERE l_comment LIKE '%no such thing%'";
    let program = support::tereza().get_program().to_string_lossy().into_owned();
    let url = &cluster.server.flight_sql;
    let command = format!("{program} sql --url {url} -c \"SET tereza.mode = 'cluster'\" -c \"{long}\"");
    let mut terminal = Command::new("script");
    let shown = terminal.args(["-qec", &command, "/dev/null"]).stdin(Stdio::null()).output().unwrap();
    let shown = text(shown);
    assert!(shown.contains(" · stages ") && shown.contains(", tasks "), "{shown:?}");
}

#[test]
fn a_join_whose_hash_tables_do_not_fit_is_sorted() {
    let limit = ["--set".to_owned(), "engine.memory_limit_bytes=192MiB".to_owned()];
    let cluster = Cluster::start_with(None, 2, &limit);
    let sql = "SELECT count(*), sum(length(a.l_comment)), sum(length(b.l_comment)) FROM lineitem AS a JOIN lineitem AS b \
               ON a.l_orderkey = b.l_orderkey AND a.l_linenumber = b.l_linenumber AND a.l_shipinstruct = b.l_shipinstruct \
               AND a.l_shipmode || a.l_extendedprice || a.l_comment = b.l_shipmode || b.l_extendedprice || b.l_comment";
    let begun_again = || {
        let metrics = support::http_get(&cluster.server.console, "/metrics").expect("metrics");
        metrics.contains("tereza_statements_begun_again_total 1\n")
    };
    assert!(!begun_again());
    let [joined, alone] = ["cluster", "local"].map(|mode| {
        let sql = if mode == "cluster" { sql } else { "SELECT count(*), sum(length(l_comment)) FROM lineitem" };
        text(ask(&cluster, mode, sql))
    });
    let alone = alone.lines().nth(1).and_then(|row| row.split_once(',')).expect("a row");
    assert_eq!(joined.lines().nth(1), Some(format!("{},{},{}", alone.0, alone.1, alone.1).as_str()));
    assert!(begun_again(), "everything fitted");
}

#[test]
fn a_job_survives_its_scheduler_and_executors_come_back_to_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let port = support::free_port();
    let mut scheduler = Server::start_scheduler(&data, "127.0.0.1", port);
    let url = format!("http://127.0.0.1:{port}");
    let _executors = [0, 1].map(|index| {
        let data = folder.path().join(format!("executor-{index}"));
        executor(support::tereza(), &data, "127.0.0.1", &url)
    });
    wait_for("two executors", || has_executors(&scheduler, 2));
    let script = folder.path().join("job.sql");
    let insert = "INSERT INTO t SELECT l_orderkey, l_comment FROM tpch.\"sf0.1\".lineitem";
    let mode = "SET tereza.mode = 'cluster'";
    std::fs::write(&script, format!("{mode}; CREATE TABLE IF NOT EXISTS t (k BIGINT, c STRING); {insert}; {insert}"))
        .unwrap();
    let run = |scheduler: &Server, arguments: &[&str]| {
        support::tereza().args(arguments).args(["--url", &scheduler.flight_sql]).output().unwrap()
    };
    let seed = ids::jitter(u64::MAX);
    println!("seed {seed}");
    for kill in 1..=3_u64 {
        let id = text(run(&scheduler, &["submit", script.to_str().unwrap(), "--attempts", "5"]));
        std::thread::park_timeout(Duration::from_millis(seed.rotate_left(7 * kill as u32) % 2_500));
        scheduler.process().kill();
        scheduler = Server::start_scheduler(&data, "127.0.0.1", port);
        let ended = run(&scheduler, &["job", "wait", id.trim()]);
        let logs = text(run(&scheduler, &["job", "logs", id.trim()]));
        assert!(ended.status.success(), "seed {seed}, kill {kill}: {ended:?}\n{logs}");
        let count = text(run(&scheduler, &["sql", "--format", "csv", "-c", "SELECT count(*) FROM t"]));
        assert_eq!(count, format!("count(*)\n{}\n", kill * 2 * 600_572), "seed {seed}: {logs}");
        wait_for("the executors to come back", || has_executors(&scheduler, 2));
    }
    let nodes = "SELECT role, count(*) FROM system.runtime.nodes GROUP BY role ORDER BY role";
    let nodes = text(run(&scheduler, &["sql", "--format", "csv", "-c", nodes]));
    assert_eq!(nodes, "role,count(*)\nall,1\nexecutor,2\n");
}

#[test]
fn an_executor_that_is_cut_off_is_given_up_and_comes_back() {
    let Some(host) = Host::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let scheduler = Server::start_scheduler(&data, &host.here, 0);
    let url = scheduler.endpoint("scheduler");
    let _here = executor(support::tereza(), &folder.path().join("here"), &host.here, &url);
    let _there = executor(host.tereza(), &folder.path().join("there"), &host.there, &url);
    wait_for("two executors", || has_executors(&scheduler, 2));
    let ask = |mode: &str| ask_server(&scheduler, mode, QUERY);
    let right = text(end(ask("local")));
    let started = clock::now();
    assert_eq!(text(end(ask("cluster"))), right);
    let whole_ms = u64::try_from(started.elapsed().as_millis()).unwrap();
    let seed = ids::jitter(u64::MAX);
    println!("seed {seed}");
    for cut in 1..=CUTS {
        let asked = ask("cluster");
        let delay = Duration::from_millis(seed.wrapping_mul(cut).rotate_left(17) % whole_ms.max(1));
        std::thread::park_timeout(delay);
        host.cut();
        let answer = text(end(asked));
        assert_eq!(answer, right, "seed {seed}, cut {cut} after {delay:?} of {whole_ms} ms");
        host.mend();
        wait_for("the executor to come back", || has_executors(&scheduler, 2));
    }
    assert_eq!(text(end(ask("cluster"))), right);
}

#[test]
fn rows_that_an_executor_wrote_on_a_disk_of_its_own_are_not_committed() {
    if !Command::new("unshare").args(["-m", "true"]).status().is_ok_and(|status| status.success()) {
        return support::missing("a mount namespace (root and util-linux)");
    }
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir_all(data.join("warehouse")).unwrap();
    let scheduler = Server::start_scheduler(&data, "127.0.0.1", 0);
    let mut apart = Command::new("unshare");
    apart.args(["-m", "sh", "-c", "mount -t tmpfs none \"$0\" && exec \"$@\""]).arg(data.join("warehouse"));
    apart.arg(support::tereza().get_program());
    let _executor = executor(apart, &folder.path().join("executor"), "127.0.0.1", &scheduler.endpoint("scheduler"));
    wait_for("the executor", || has_executors(&scheduler, 1));
    let ask = |mode: &str, sql: &str| end(ask_server(&scheduler, mode, sql));
    text(ask("local", "CREATE TABLE tereza.default.t (k BIGINT)"));
    let refused = ask("cluster", "INSERT INTO tereza.default.t SELECT o_orderkey FROM orders");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("is not found here"), "{refused:?}");
    text(ask("local", "INSERT INTO tereza.default.t VALUES (1)"));
    assert_eq!(text(ask("local", "SELECT k FROM tereza.default.t")), "k\n1\n");
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

#[test]
fn writes_on_executors_on_files_are_all_or_nothing() {
    let Some(python) = support::python() else { return };
    Writes { cluster: Cluster::start(None, 2), bucket: None, python }.kill_at_random();
}

#[test]
fn writes_on_executors_on_minio_are_all_or_nothing() {
    let (Some(minio), Some(python)) = (support::minio(), support::python()) else { return };
    let bucket = minio.fresh_bucket();
    let warehouse = ["--set".to_owned(), format!("warehouse.url=s3://{bucket}/warehouse")];
    let cluster = Cluster::start_with(Some(minio), 2, &warehouse);
    Writes { cluster, bucket: Some((minio, bucket)), python }.kill_at_random();
}

/// Statements that write, on executors that are killed meanwhile.
struct Writes {
    cluster: Cluster,
    bucket: Option<(&'static Minio, String)>,
    python: Python,
}

impl Writes {
    fn kill_at_random(&self) {
        let seed = ids::jitter(u64::MAX);
        println!("seed {seed}");
        // Some rows to a partition, so that each task has files in all; and files of more than one part.
        let rows = "SELECT l_orderkey AS k, l_comment, l_shipmode AS mode FROM lineitem";
        let one = numbers(&text(ask(&self.cluster, "local", &format!("SELECT count(*), sum(k) FROM ({rows}) AS r"))));
        self.write("CREATE TABLE tereza.default.t (k BIGINT, l_comment STRING) PARTITIONED BY (mode STRING)", None);
        // A partition with a folder of its own is found by executors too.
        let elsewhere = match &self.bucket {
            Some((_, bucket)) => format!("s3://{bucket}/warehouse/elsewhere"),
            None => self.cluster.data.join("warehouse/elsewhere").display().to_string(),
        };
        self.write(&format!("ALTER TABLE tereza.default.t ADD PARTITION (mode = 'AIR') LOCATION '{elsewhere}'"), None);
        let insert = format!("INSERT INTO tereza.default.t {rows}");
        let started = clock::now();
        self.write(&insert, None);
        let whole_ms = u64::try_from(started.elapsed().as_millis()).unwrap();
        let mut expected = one;
        assert_eq!(self.numbers(), expected);
        let at_air = format!("SELECT count(*) FROM '{elsewhere}/*.parquet'");
        assert_ne!(text(ask(&self.cluster, "local", &at_air)), "count(*)\n0\n");
        let mut keys = Vec::new();
        for kill in 0..KILLS {
            let random = seed.wrapping_mul(kill + 1).rotate_left(17);
            let delay = Duration::from_millis(random % whole_ms.max(1));
            let case = format!("seed {seed}, kill {kill} after {delay:?} of {whole_ms} ms");
            let victim = self.cluster.executor((random >> 32) as usize % 2).unwrap();
            if kill % 3 == 2 {
                self.write(&format!("INSERT OVERWRITE tereza.default.t {rows}"), Some((victim, delay)));
                expected = one;
            } else {
                self.write(&insert, Some((victim, delay)));
                expected = (expected.0 + one.0, expected.1 + one.1);
            }
            keys.extend(self.look(&[]).keys);
            assert_eq!(self.numbers(), expected, "{case}");
            self.cluster.wait_for_executors();
        }
        // One that cannot end well, after tasks wrote files.
        let failing = format!(
            "INSERT INTO tereza.default.t SELECT k / (CASE WHEN k = 600000 THEN 0 ELSE 1 END), l_comment, mode FROM ({rows}) AS r"
        );
        let failed = ask(&self.cluster, "cluster", &failing);
        assert!(String::from_utf8_lossy(&failed.stderr).contains("division by zero"), "{failed:?}");
        assert_eq!(self.numbers(), expected);
        wait_for("what was staged to be removed", || {
            let look = self.look(&keys);
            (look.staged.is_empty() && look.uploads.is_empty()).then_some(())
        });
        let look = self.look(&keys);
        let elsewhere = format!("SELECT count(*), sum(k) FROM '{elsewhere}/*.parquet'");
        let elsewhere = numbers(&text(ask(&self.cluster, "local", &elsewhere)));
        let all = (look.numbers.0 + elsewhere.0, look.numbers.1 + elsewhere.1);
        assert_eq!((all, look.strays.len()), (expected, 0), "another reader sees other rows");
    }

    /// Runs a statement on executors, one of which is killed after a while.
    fn write(&self, sql: &str, killed: Option<(u32, Duration)>) {
        let asked = start(&self.cluster, "cluster", sql);
        if let Some((victim, delay)) = killed {
            std::thread::park_timeout(delay);
            kill_and_wait(victim);
        }
        text(end(asked));
    }

    fn numbers(&self) -> Numbers {
        numbers(&text(ask(&self.cluster, "local", "SELECT count(*), sum(k) FROM tereza.default.t")))
    }

    fn look(&self, keys: &[String]) -> Look {
        let bucket = self.bucket.as_ref().map(|(minio, bucket)| (*minio, bucket.as_str()));
        support::look(&self.python, &self.cluster.data, bucket, "t", keys)
    }
}

/// `tereza sql` with these statements on the server.
fn start(cluster: &Cluster, mode: &str, sql: &str) -> Child {
    ask_server(&cluster.server, mode, sql)
}

fn ask_server(server: &Server, mode: &str, sql: &str) -> Child {
    let mut command = support::tereza();
    command.args(["sql", "--url", &server.flight_sql, "--mode", mode, "--catalog", "tpch", "--schema", "sf0.1"]);
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

/// Ends a process at once, and waits until it is gone: until then it is counted with the living.
fn kill_and_wait(process: u32) {
    signal("-KILL", process);
    wait_for("a killed process to be gone", || (!Path::new(&format!("/proc/{process}")).exists()).then_some(()));
}

/// Processor time that a process has used, in ticks of a hundredth of a second.
fn cpu_ticks(process: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    [11, 12].iter().filter_map(|field| fields.get(*field)?.parse::<u64>().ok()).sum()
}

//! Stream jobs whose operators keep rows by their keys, in several tasks: answers are there once and right, whatever dies and however
//! many tasks there are.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;
use tereza_runtime::ids;

use crate::jobs::{World, text};
use crate::streams::{Kafka, Orders, PARTITIONS, WINDOW_MS, stream_job, timestamp};
use crate::support::wait_for;

/// Rows that are put at once.
const ROWS: i64 = 400;
/// Looks for what a job leaves, a second apart: its logs are deleted half a minute after its end.
const LOOKS: usize = 120;

fn value(row: &Value) -> Value {
    serde_json::from_str(row["value"].as_str().unwrap()).unwrap()
}

/// The sums of keys, as the rows of `orders` have them.
fn sums(orders: &Orders) -> BTreeMap<String, (i64, i64)> {
    let mut sums: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    for ((_, key), (n, total)) in &orders.windows {
        let of = sums.entry(format!("k{key}")).or_default();
        *of = (of.0 + n, of.1 + total);
    }
    sums
}

/// The latest sums of keys in a topic.
fn latest(kafka: &Kafka, topic: &str) -> BTreeMap<String, (i64, i64)> {
    let of = |row: &Value| {
        let value = value(row);
        let key = value["key"].as_str().unwrap().to_owned();
        (key, (value["n"].as_i64().unwrap(), value["total"].as_i64().unwrap()))
    };
    let mut latest: BTreeMap<_, _> = kafka.read(topic, "all").iter().map(of).collect();
    latest.remove("end");
    latest
}

/// Whether each window of each key is there once, and right.
fn check_windows(kafka: &Kafka, topic: &str, orders: &Orders, what: &str) {
    let found = kafka.read(topic, &orders.windows.len().to_string());
    let mut seen = BTreeSet::new();
    for row in &found {
        let value = value(row);
        let (window, key) = (value["w"].as_str().unwrap().to_owned(), value["key"].as_str().unwrap().to_owned());
        assert!(seen.insert((window.clone(), key.clone())), "{what}: {window} of {key} is there twice");
        let truth = orders.windows.iter().find(|((start, of), _)| {
            format!("k{of}") == key && timestamp(*start).starts_with(window.trim_end_matches(".000"))
        });
        let (_, (n, total)) = truth.unwrap_or_else(|| panic!("{what}: no window {window} of {key}"));
        assert_eq!((value["n"].as_i64(), value["total"].as_i64()), (Some(*n), Some(*total)), "{what}: {value}");
    }
    assert_eq!(found.len(), orders.windows.len(), "{what}: windows");
}

/// The table `orders`, as one that ends or goes on.
fn orders_table(kafka: &Kafka, is_bounded: bool) -> String {
    let (more, orders) = (", 'scan.bounded.mode' = 'latest-offset'", kafka.orders());
    let orders = orders.replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS");
    if is_bounded { orders.replace("'format' = 'json'", &format!("'format' = 'json'{more}")) } else { orders }
}

/// Tables of windows and of sums, and the INSERTs into both from `orders`.
fn script(kafka: &Kafka, settings: &str, is_bounded: bool) -> String {
    let bootstrap = kafka.bootstrap();
    format!(
        "{}
         CREATE TABLE totals (w TIMESTAMP(3), `key` STRING, n BIGINT, total BIGINT) {};
         CREATE TABLE sums (`key` STRING, n BIGINT, total BIGINT, PRIMARY KEY (`key`) NOT ENFORCED)
         WITH ('connector' = 'upsert-kafka', 'topic' = 'sums', 'properties.bootstrap.servers' = '{bootstrap}',
           'key.format' = 'json', 'value.format' = 'json');
         SET 'execution.checkpointing.interval' = '100 ms';
         {settings}
         EXECUTE STATEMENT SET BEGIN
           INSERT INTO totals SELECT window_start, `key`, COUNT(*), SUM(amount)
             FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '10' SECOND))
             GROUP BY window_start, window_end, `key`;
           INSERT INTO sums SELECT `key`, COUNT(*), SUM(amount) FROM orders GROUP BY `key`;
         END;",
        orders_table(kafka, is_bounded),
        kafka.with("totals", "")
    )
}

#[test]
fn windows_and_sums_are_right_in_one_task_then_three_then_two() {
    let Some(kafka) = Kafka::start() else { return };
    kafka.topic("orders", PARTITIONS);
    kafka.topic("totals", 2);
    kafka.topic("sums", 2);
    let seed = ids::jitter(u64::MAX);
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut orders = Orders::new(seed);
    let mut world = World::start(&["--set", "streaming.retry_pause_ms=50"]);
    text(world.run(&["submit", &world.script(&script(&kafka, "", false)), "--wait"]));
    let id = stream_job(&world);
    let mut kill = |world: &mut World, within_ms: u64| {
        std::thread::park_timeout(Duration::from_millis(random.random_range(0..within_ms)));
        world.server.process().kill();
        world.restart();
    };
    for tasks in [1, 3, 2] {
        kafka.put("orders", &orders.rows(ROWS));
        if tasks > 1 {
            // Rows are on their way while it changes, also in edges, and the server may die in the middle.
            text(world.run(&["sql", "-c", &format!("CALL system.runtime.rescale_job('{id}', {tasks})")]));
            kill(&mut world, 4_000);
            let told = format!("runs in {tasks} tasks");
            wait_for("the tasks", || text(world.run(&["job", "logs", &id])).contains(&told).then_some(()));
        }
        kafka.put("orders", &orders.rows(ROWS));
        kill(&mut world, 1_500);
        kafka.put("orders", &orders.rows(ROWS));
        let truth = sums(&orders);
        let what = format!("seed {seed}: the sums of {tasks} tasks");
        wait_for(&what, || (latest(&kafka, "sums") == truth).then_some(()));
    }
    assert!(kafka.has_topic(&format!("__tereza.{id}.edge.0")) && kafka.has_topic(&format!("__tereza.{id}.edge.1")));
    assert!(!kafka.has_topic(&format!("__tereza.{id}.edge.2")), "there are two operators by key");
    let tasks = format!("SELECT tasks FROM system.runtime.jobs WHERE job_id = '{id}'");
    wait_for("the tasks to be shown", || (world.ask(&tasks) == "2\n").then_some(()));
    let refused = world.run(&["sql", "-c", &format!("CALL system.runtime.savepoint_job('{id}', 'spread')")]);
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && error.contains("exchange rows"), "{error}");

    // The watermark passes all windows of these rows once a later row is in each partition.
    let last = orders.windows.keys().map(|(start, _)| *start).max().unwrap();
    let later = timestamp(last + 20 * WINDOW_MS);
    let end = format!("{{\"key\":\"end\",\"seq\":-1,\"amount\":0,\"ts\":\"{later}\"}}");
    let rows: Vec<_> = (0..PARTITIONS).map(|partition| (partition, "end".to_owned(), end.clone())).collect();
    kafka.put("orders", &rows);
    check_windows(&kafka, "totals", &orders, &format!("seed {seed}"));
    assert_eq!(latest(&kafka, "sums"), sums(&orders), "seed {seed}");

    text(world.run(&["job", "cancel", &id]));
    let is_clean = (0..LOOKS).any(|_| {
        std::thread::park_timeout(Duration::from_secs(1));
        text(world.run(&["job", "logs", &id])).contains("its logs and its state are deleted")
    });
    assert!(is_clean, "{}", text(world.run(&["job", "logs", &id])));
    assert!(!kafka.has_topic(&format!("__tereza.{id}.edge.0")) && !kafka.has_topic(&format!("__tereza.{id}.epochs")));
}

#[test]
fn a_bounded_job_of_three_tasks_ends_with_all_answers() {
    let Some(kafka) = Kafka::start() else { return };
    kafka.topic("orders", PARTITIONS);
    kafka.topic("totals", 2);
    kafka.topic("sums", 2);
    // Two of three tasks have nothing of it to read.
    kafka.topic("names", 1);
    let mut orders = Orders::new(11);
    let rows = orders.rows(3_000);
    kafka.put("orders", &rows);
    let keys: BTreeSet<i64> = orders.windows.keys().map(|(_, key)| *key).collect();
    let names: Vec<_> = keys
        .iter()
        .map(|key| (0, format!("k{key}"), format!("{{\"key\":\"k{key}\",\"name\":\"name of k{key}\"}}")))
        .collect();
    kafka.put("names", &names);
    let world = World::start(&[]);
    let ends = |name: &str, script: &str| {
        let script = script.replace("SET 'execution", &format!("SET 'pipeline.name' = '{name}'; SET 'execution"));
        text(world.run(&["submit", &world.script(&script), "--wait"]));
        let ask = format!("SELECT job_id FROM system.runtime.jobs WHERE kind = 'stream' AND name = '{name}'");
        let id = world.ask(&ask).trim().to_owned();
        let ended = world.run(&["job", "wait", &id]);
        let logs = text(world.run(&["job", "logs", &id]));
        assert!(ended.status.success() && logs.contains("runs in 3 tasks"), "{ended:?}\n{logs}");
    };
    ends("sums", &script(&kafka, "SET 'parallelism.default' = '3';", true));
    check_windows(&kafka, "totals", &orders, "three tasks");
    assert_eq!(latest(&kafka, "sums"), sums(&orders));

    // Rows go to a table of the catalog: that the log of the job is in Kafka is for the exchange alone.
    let tables = format!(
        "{} CREATE TABLE names (`key` STRING, name STRING) {};",
        orders_table(&kafka, true),
        kafka.with("names", ", 'scan.bounded.mode' = 'latest-offset'")
    );
    ends(
        "named",
        &format!(
            "CREATE TABLE named (seq BIGINT, name STRING);
             {tables}
             SET 'execution.checkpointing.interval' = '100 ms';
             SET 'parallelism.default' = '3';
             INSERT INTO named SELECT o.seq, n.name FROM orders AS o JOIN names AS n ON o.`key` = n.`key`;"
        ),
    );
    let ask = "SELECT count(*), count(DISTINCT seq), min(seq), max(seq) FROM named";
    assert_eq!(world.ask(ask), "3000,3000,0,2999\n");

    let explain = "SET tereza.dialect = 'flink'; SET 'parallelism.default' = '3';
         EXPLAIN INSERT INTO sums SELECT `key`, COUNT(*), SUM(amount) FROM orders GROUP BY `key`;";
    let told = text(world.run(&["sql", "--format", "csv", "-c", explain]));
    assert!(told.contains("-> exchange 0") && told.contains("exchange 0 -> "), "{told}");
}

#[test]
fn what_cannot_be_spread_says_why() {
    let Some(kafka) = Kafka::start() else { return };
    kafka.topic("orders", PARTITIONS);
    kafka.topic("best", 1);
    let mut orders = Orders::new(5);
    kafka.put("orders", &orders.rows(ROWS));
    let world = World::start(&["--set", "streaming.retry_pause_ms=50"]);
    let bootstrap = kafka.bootstrap();
    let job = |name: &str, before: &str, script: &str| {
        let script = format!(
            "{before} {} SET 'pipeline.name' = '{name}'; SET 'execution.checkpointing.interval' = '100 ms'; {script}",
            orders_table(&kafka, false)
        );
        text(world.run(&["submit", &world.script(&script), "--wait"]));
        world
            .ask(&format!("SELECT job_id FROM system.runtime.jobs WHERE kind = 'stream' AND name = '{name}'"))
            .trim()
            .to_owned()
    };
    let says = |id: &str, why: &str| {
        wait_for(why, || text(world.run(&["job", "logs", id])).contains(why).then_some(()));
    };
    // Rows of all keys are kept by their window alone: those of a window would come from several tasks.
    let best = job(
        "best",
        "",
        &format!(
            "CREATE TABLE best (w TIMESTAMP(3), n BIGINT, PRIMARY KEY (w) NOT ENFORCED)
             WITH ('connector' = 'upsert-kafka', 'topic' = 'best', 'properties.bootstrap.servers' = '{bootstrap}',
               'key.format' = 'json', 'value.format' = 'json');
             SET 'parallelism.default' = '2';
             INSERT INTO best SELECT window_start, COUNT(*)
               FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '10' SECOND))
               GROUP BY window_start, window_end, `key`;"
        ),
    );
    says(&best, "would come from several tasks in no order");
    let counts = job(
        "counts",
        "CREATE TABLE counts (w TIMESTAMP(3), n BIGINT);",
        "INSERT INTO counts SELECT window_start, COUNT(*)
           FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end;",
    );
    wait_for("its first commit", || {
        (world.ask(&format!("SELECT epoch > 0 FROM system.runtime.jobs WHERE job_id = '{counts}'")) == "true\n")
            .then_some(())
    });
    text(world.run(&["sql", "-c", &format!("CALL system.runtime.rescale_job('{counts}', 2)")]));
    says(&counts, "tasks exchange rows only where the log of the job is in Kafka");
    for id in [best, counts] {
        text(world.run(&["job", "cancel", &id]));
    }
}

//! Stream jobs, from a text of Flink's SQL to rows in Kafka that another client reads, also when the server dies again and again.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;
use tereza_runtime::ids;

use crate::jobs::{World, text};
use crate::kafka::Broker;
use crate::support::{self, wait_for};

/// Times that the server is killed.
const KILLS: usize = 8;
const KEYS: i64 = 17;
/// Rows in each of the rounds between two kills.
const ROWS: i64 = 400;
pub(crate) const WINDOW_MS: i64 = 10_000;
/// Event time between two rows of one partition.
const STEP_MS: i64 = 25;
pub(crate) const PARTITIONS: i64 = 3;

/// A broker and a client of it that is not ours.
pub(crate) struct Kafka {
    broker: Broker,
    python: support::Python,
}

impl Kafka {
    pub(crate) fn start() -> Option<Self> {
        Self::of(Broker::start())
    }

    /// One that asks who is there at its [secured address](Broker::secured), where there is one user, who may do what no ACL forbids.
    pub(crate) fn start_guarded(user: &str, password: &str) -> Option<Self> {
        Self::of(Broker::start_guarded(user, password))
    }

    fn of(broker: Option<Broker>) -> Option<Self> {
        let python = support::python();
        if broker.is_none() {
            support::missing("Kafka");
        }
        Some(Self { broker: broker?, python: python? })
    }

    pub(crate) fn broker(&self) -> &Broker {
        &self.broker
    }

    pub(crate) fn bootstrap(&self) -> String {
        self.broker.bootstrap()
    }

    pub(crate) fn client(&self, arguments: &[&str]) -> Command {
        let bootstrap = self.bootstrap();
        let arguments = [&[bootstrap.as_str()], arguments].concat();
        self.python.command("kafka/streams.py", &arguments)
    }

    pub(crate) fn topic(&self, name: &str, partitions: i64) {
        text(self.client(&["topic", name, &partitions.to_string()]).output().unwrap());
    }

    /// Whether a topic is there.
    pub(crate) fn has_topic(&self, name: &str) -> bool {
        text(self.client(&["topics"]).output().unwrap()).lines().any(|known| known == name)
    }

    /// Gives a topic more partitions: so many in all.
    pub(crate) fn grow(&self, name: &str, partitions: i64) {
        text(self.client(&["grow", name, &partitions.to_string()]).output().unwrap());
    }

    /// Rows of partition, key and value; headers may follow on a value, with a tab between.
    pub(crate) fn put(&self, topic: &str, rows: &[(i64, String, String)]) {
        let mut client = self.client(&["put", topic]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines: String =
            rows.iter().map(|(partition, key, value)| format!("{partition}\t{key}\t{value}\n")).collect();
        client.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        text(client.wait_with_output().unwrap());
    }

    /// What is committed: so many rows, or `all` there are now.
    pub(crate) fn read(&self, topic: &str, count: &str) -> Vec<Value> {
        let rows = text(self.client(&["read", topic, count]).output().unwrap());
        rows.lines().map(|row| serde_json::from_str(row).unwrap()).collect()
    }

    /// The options of a table on a topic.
    pub(crate) fn with(&self, topic: &str, more: &str) -> String {
        let bootstrap = self.broker.bootstrap();
        format!(
            "WITH ('connector' = 'kafka', 'topic' = '{topic}', 'properties.bootstrap.servers' = '{bootstrap}', \
             'scan.startup.mode' = 'earliest-offset', 'format' = 'json'{more})"
        )
    }

    pub(crate) fn orders(&self) -> String {
        format!(
            "SET tereza.dialect = 'flink';
             CREATE TABLE orders (`key` STRING, seq BIGINT, amount BIGINT, ts TIMESTAMP(3),
               WATERMARK FOR ts AS ts - INTERVAL '1' SECOND) {};",
            self.with("orders", "")
        )
    }
}

/// Rows with their truth: sums of windows by key.
pub(crate) struct Orders {
    next: i64,
    random: StdRng,
    pub(crate) windows: BTreeMap<(i64, i64), (i64, i64)>,
}

impl Orders {
    pub(crate) fn new(seed: u64) -> Self {
        Self { next: 0, random: StdRng::seed_from_u64(seed), windows: BTreeMap::new() }
    }

    pub(crate) fn rows(&mut self, count: i64) -> Vec<(i64, String, String)> {
        (0..count)
            .map(|_| {
                let seq = self.next;
                self.next += 1;
                let (key, amount) = (self.random.random_range(0..KEYS), self.random.random_range(1..1_000));
                let ms = seq / PARTITIONS * STEP_MS;
                let of = self.windows.entry((ms / WINDOW_MS * WINDOW_MS, key)).or_default();
                *of = (of.0 + 1, of.1 + amount);
                let value =
                    format!("{{\"key\":\"k{key}\",\"seq\":{seq},\"amount\":{amount},\"ts\":\"{}\"}}", timestamp(ms));
                (seq % PARTITIONS, format!("k{key}"), value)
            })
            .collect()
    }
}

/// A time of the first day of 2026.
pub(crate) fn timestamp(ms: i64) -> String {
    let (seconds, millis) = (ms / 1_000, ms % 1_000);
    format!("2026-01-01 {:02}:{:02}:{:02}.{millis:03}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

/// The id of the stream job that a submitted text began.
pub(crate) fn stream_job(world: &World) -> String {
    let ask = "SELECT job_id FROM system.runtime.jobs WHERE kind = 'stream'";
    let id = wait_for("the stream job", || Some(world.ask(ask)).filter(|id| !id.is_empty()));
    id.trim().to_owned()
}

#[test]
fn windows_are_answered_once_whenever_the_server_dies() {
    let Some(kafka) = Kafka::start() else { return };
    kafka.topic("orders", PARTITIONS);
    kafka.topic("totals", 2);
    let seed = ids::jitter(u64::MAX);
    println!("seed {seed}");
    let mut orders = Orders::new(seed);
    let mut world = World::start(&["--set", "streaming.retry_pause_ms=50"]);
    let totals = format!(
        "CREATE TABLE archive (seq BIGINT, amount BIGINT, k STRING) PARTITIONED BY (k);
         {}
         CREATE TABLE totals (w TIMESTAMP(3), `key` STRING, n BIGINT, total BIGINT) {};
         SET 'execution.checkpointing.interval' = '100 ms';
         SET 'table.exec.sink.commit-interval' = '300 ms';
         EXECUTE STATEMENT SET BEGIN
           INSERT INTO totals SELECT window_start, `key`, COUNT(*), SUM(amount)
             FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '10' SECOND))
             GROUP BY window_start, window_end, `key`;
           INSERT INTO archive SELECT seq, amount, `key` FROM orders;
         END;",
        kafka.orders(),
        kafka.with("totals", "")
    );
    text(world.run(&["submit", &world.script(&totals), "--wait"]));
    let id = stream_job(&world);
    for _ in 0..KILLS {
        kafka.put("orders", &orders.rows(ROWS));
        std::thread::park_timeout(Duration::from_millis(orders.random.random_range(0..1_500)));
        world.server.process().kill();
        world.restart();
    }
    // The watermark passes all windows of these rows once a later row is in each partition.
    let last = orders.windows.keys().map(|(start, _)| *start).max().unwrap();
    kafka.put("orders", &orders.rows(ROWS));
    let later = timestamp(last + 20 * WINDOW_MS);
    let rows: Vec<_> = (0..PARTITIONS)
        .map(|partition| {
            let value = format!("{{\"key\":\"end\",\"seq\":-1,\"amount\":0,\"ts\":\"{later}\"}}");
            (partition, "end".to_owned(), value)
        })
        .collect();
    kafka.put("orders", &rows);

    let found = kafka.read("totals", &orders.windows.len().to_string());
    let mut seen = BTreeSet::new();
    for row in &found {
        let value: Value = serde_json::from_str(row["value"].as_str().unwrap()).unwrap();
        let (window, key) = (value["w"].as_str().unwrap().to_owned(), value["key"].as_str().unwrap().to_owned());
        assert!(seen.insert((window.clone(), key.clone())), "seed {seed}: {window} of {key} is there twice");
        let truth = orders.windows.iter().find(|((start, of), _)| {
            format!("k{of}") == key && timestamp(*start).starts_with(window.trim_end_matches(".000"))
        });
        let (_, (n, total)) = truth.unwrap_or_else(|| panic!("seed {seed}: no window {window} of {key}"));
        assert_eq!((value["n"].as_i64(), value["total"].as_i64()), (Some(*n), Some(*total)), "seed {seed}: {value}");
    }
    assert_eq!(found.len(), orders.windows.len(), "seed {seed}: windows");

    // The rows themselves are in the table, each once, and so are the last ones.
    let ask = "SELECT count(*), count(DISTINCT seq), sum(amount) FROM archive";
    let amount: i64 = orders.windows.values().map(|(_, total)| total).sum();
    let expected = format!("{},{},{amount}\n", orders.next + PARTITIONS, orders.next + 1);
    wait_for("all rows in the table", || (world.ask(ask) == expected).then_some(()));
    assert_eq!(world.ask("SELECT count(*) FROM archive WHERE k = 'end'"), format!("{PARTITIONS}\n"));
    let logs = text(world.run(&["job", "logs", &id]));
    assert!(logs.contains("queued again: the process that ran it ended"), "{logs}");

    let shown: Value = serde_json::from_str(&text(world.run(&["job", "show", &id, "--format", "json"]))).unwrap();
    assert_eq!((shown["kind"].as_str(), shown["state"].as_str()), (Some("stream"), Some("running")), "{shown}");
    text(world.run(&["job", "cancel", &id]));
    wait_for("the job to end", || text(world.run(&["job", "logs", &id])).contains("cancelled").then_some(()));
}

#[test]
fn sums_of_keys_replace_one_another_and_a_bounded_job_ends() {
    let Some(kafka) = Kafka::start() else { return };
    kafka.topic("orders", PARTITIONS);
    kafka.topic("sums", 2);
    let mut orders = Orders::new(7);
    kafka.put("orders", &orders.rows(3_000));
    let world = World::start(&[]);
    let bootstrap = kafka.broker.bootstrap();
    let sums = format!(
        "{}
         CREATE TABLE sums (`key` STRING, n BIGINT, total BIGINT, PRIMARY KEY (`key`) NOT ENFORCED)
         WITH ('connector' = 'upsert-kafka', 'topic' = 'sums', 'properties.bootstrap.servers' = '{bootstrap}',
           'key.format' = 'json', 'value.format' = 'json');
         INSERT INTO sums SELECT `key`, COUNT(*), SUM(amount)
           FROM orders /*+ OPTIONS('scan.bounded.mode' = 'latest-offset') */ GROUP BY `key`;",
        kafka.orders(),
    );
    text(world.run(&["submit", &world.script(&sums), "--wait"]));
    let id = stream_job(&world);
    let ended = world.run(&["job", "wait", &id]);
    let logs = text(world.run(&["job", "logs", &id]));
    assert!(ended.status.success(), "{ended:?}\n{logs}");

    let mut truth: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    for ((_, key), (n, total)) in &orders.windows {
        let of = truth.entry(format!("k{key}")).or_default();
        *of = (of.0 + n, of.1 + total);
    }
    // The last row of each key is what holds.
    let mut latest = BTreeMap::new();
    for row in kafka.read("sums", "all") {
        let value: Value = serde_json::from_str(row["value"].as_str().unwrap()).unwrap();
        let key = value["key"].as_str().unwrap().to_owned();
        latest.insert(key, (value["n"].as_i64().unwrap(), value["total"].as_i64().unwrap()));
    }
    assert_eq!(latest, truth);

    // The same rows by the batch engine.
    let batch = "SELECT count(*) AS n, sum(amount) AS total FROM orders";
    let (n, total) = truth.values().fold((0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1));
    assert_eq!(world.ask(batch), format!("{n},{total}\n"));
}

#[test]
fn what_cannot_run_is_refused_when_it_is_submitted() {
    let Some(kafka) = Kafka::start() else { return };
    kafka.topic("orders", 1);
    let world = World::start(&[]);
    let refused = |insert: &str, parts: &[&str]| {
        let script = format!(
            "{} CREATE TABLE plain (`key` STRING, n BIGINT) {}; {insert}",
            kafka.orders().replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS"),
            kafka.with("plain", ""),
        );
        let script = script.replace("CREATE TABLE plain", "CREATE TABLE IF NOT EXISTS plain");
        let output = world.run(&["submit", &world.script(&script), "--wait"]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && parts.iter().all(|part| error.contains(part)), "{insert}: {error}");
    };
    refused("INSERT INTO plain SELECT `key`, COUNT(*) FROM orders GROUP BY `key`", &["takes inserts only", "plain"]);
    refused("INSERT INTO plain SELECT `key`, seq FROM orders ORDER BY seq", &["ORDER BY without an end"]);
    refused("INSERT INTO plain SELECT nothing, seq FROM orders", &["nothing"]);
    refused("INSERT INTO plain SELECT `key`, seq FROM nowhere", &["nowhere"]);
    assert_eq!(world.ask("SELECT count(*) FROM system.runtime.jobs WHERE kind = 'stream'"), "0\n");

    // A message that is no row ends the job with its place, and is not skipped.
    kafka.topic("plain", 1);
    kafka.put("orders", &[(0, "k".to_owned(), "{\"key\":\"k\",\"seq\":1,\"amount\":".to_owned())]);
    let script = format!(
        "{} CREATE TABLE IF NOT EXISTS plain (`key` STRING, n BIGINT) {}; INSERT INTO plain SELECT `key`, seq FROM orders;",
        kafka.orders().replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS"),
        kafka.with("plain", "")
    );
    text(world.run(&["submit", &world.script(&script), "--wait"]));
    let id = stream_job(&world);
    let ended = world.run(&["job", "wait", &id]);
    let error = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(!ended.status.success() && error.contains("topic `orders`, partition 0, offset 0"), "{error}");
}

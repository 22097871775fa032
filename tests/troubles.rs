//! Stream jobs in trouble: what is away is waited for and told, what is wrong is named, and no row is lost or doubled by it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tereza_runtime::{clock, ids};

use crate::jobs::{World, text};
use crate::streams::{Kafka, timestamp};
use crate::support::{self, Server, mariadb, wait_for};

/// Attempts follow each other soon.
const SOON: [&str; 2] = ["--set", "streaming.retry_pause_ms=50"];
const EPOCHS: &str = "SET 'execution.checkpointing.interval' = '100 ms';";

/// A way to a port of this machine that can be closed.
struct Gate {
    port: u16,
    way: Arc<Way>,
}

struct Way {
    is_open: AtomicBool,
    /// Bytes that may still come back; what comes after them is lost, and nobody is told.
    left: AtomicI64,
    streams: Mutex<Vec<TcpStream>>,
}

impl Gate {
    /// From a port that the test gives, or a free one where that is 0.
    fn new(from: u16, to: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", from)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let way = Way { is_open: AtomicBool::new(true), left: AtomicI64::new(i64::MAX), streams: Mutex::default() };
        let (way, of_thread) = {
            let way = Arc::new(way);
            (Arc::clone(&way), way)
        };
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if of_thread.is_open.load(Ordering::SeqCst)
                    && let Ok(server) = TcpStream::connect(("127.0.0.1", to))
                {
                    of_thread.join(&client, &server);
                }
            }
        });
        Self { port, way }
    }

    /// Before the broker's listener that is there for it.
    fn before(kafka: &Kafka) -> Self {
        let (from, to) = kafka.broker().proxied();
        Self::new(from, to)
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn close(&self) {
        self.way.is_open.store(false, Ordering::SeqCst);
        for stream in self.way.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn open(&self) {
        self.way.left.store(i64::MAX, Ordering::SeqCst);
        self.way.is_open.store(true, Ordering::SeqCst);
    }

    /// After so many more bytes nothing comes back.
    fn hold_after(&self, bytes: i64) {
        self.way.left.store(bytes, Ordering::SeqCst);
    }
}

impl Way {
    fn join(self: &Arc<Self>, client: &TcpStream, server: &TcpStream) {
        let mut streams = self.streams.lock().unwrap();
        for (from, to, is_back) in [(client, server, false), (server, client, true)] {
            streams.push(from.try_clone().unwrap());
            let (from, to, way) = (from.try_clone().unwrap(), to.try_clone().unwrap(), Arc::clone(self));
            std::thread::spawn(move || way.pass(from, to, is_back));
        }
    }

    fn pass(&self, mut from: TcpStream, mut to: TcpStream, is_back: bool) {
        let mut bytes = vec![0; 64 << 10];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            let size = i64::try_from(count).unwrap();
            if is_back && self.left.fetch_sub(size, Ordering::SeqCst) < size {
                continue;
            }
            if to.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }
}

/// The port of a URL.
fn port(url: &str) -> u16 {
    let (_, port) = url.trim_end_matches('/').rsplit_once(':').unwrap();
    port.parse().unwrap()
}

/// Submits a text whose one job has a name; its id.
fn submit(world: &World, name: &str, script: &str) -> String {
    let script = format!("SET tereza.dialect = 'flink'; {EPOCHS} SET 'pipeline.name' = '{name}'; {script}");
    text(world.run(&["submit", &world.script(&script), "--wait"]));
    let ask = format!("SELECT job_id FROM system.runtime.jobs WHERE kind = 'stream' AND name = '{name}'");
    world.ask(&ask).trim().to_owned()
}

/// A column of `system.runtime.jobs`.
fn of_job(world: &World, id: &str, column: &str) -> String {
    // NULL alone in a line of CSV is an empty text in quotes.
    let line = world.ask(&format!("SELECT {column} FROM system.runtime.jobs WHERE job_id = '{id}'"));
    line.trim().trim_matches('"').to_owned()
}

/// Waits until a job that runs says that it waits, and with these words.
fn wait_until_it_waits(world: &World, id: &str, words: &[&str]) -> String {
    let mut last = String::new();
    let start = clock::now();
    while start.elapsed() < support::PATIENCE {
        last = of_job(world, id, "state || ': ' || coalesce(waits_for, '')");
        if last.contains("running: ") && words.iter().all(|word| last.contains(word)) {
            return last;
        }
    }
    panic!("the job does not wait for {words:?}: {last}\n{}", logs(world, id))
}

/// Waits until a job has failed; why.
fn failure(world: &World, id: &str) -> String {
    let failed = || (of_job(world, id, "state") == "failed").then(|| of_job(world, id, "error"));
    wait_for("the job to fail", failed)
}

fn logs(world: &World, id: &str) -> String {
    text(world.run(&["job", "logs", id]))
}

/// The values of the messages of a topic, which are JSON.
fn values(kafka: &Kafka, topic: &str, count: &str) -> Vec<Value> {
    let of = |row: &Value| row["value"].as_str().map(|value| serde_json::from_str(value).unwrap());
    kafka.read(topic, count).iter().filter_map(of).collect()
}

/// The whole numbers of a column, sorted.
fn numbers(rows: &[Value], column: &str) -> Vec<i64> {
    let mut numbers: Vec<i64> = rows.iter().map(|row| row[column].as_i64().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

/// Puts rows with these numbers into partition 0.
fn put(kafka: &Kafka, topic: &str, numbers: std::ops::Range<i64>) {
    let rows: Vec<_> = numbers.map(|n| (0, String::new(), format!("{{\"n\":{n}}}"))).collect();
    kafka.put(topic, &rows);
}

/// Two tables of numbers on topics, and the copy of one into the other. `options` are those of both.
fn copy(from: &str, to: &str, with: impl Fn(&str) -> String) -> String {
    format!(
        "CREATE TABLE {from} (n BIGINT) {}; CREATE TABLE {to} (n BIGINT) {}; INSERT INTO {to} SELECT n FROM {from};",
        with(from),
        with(to)
    )
}

/// How often each key of `counts` was counted last.
fn counts(kafka: &Kafka) -> BTreeMap<String, i64> {
    let rows = values(kafka, "counts", "all");
    rows.iter().map(|row| (row["key"].as_str().unwrap().to_owned(), row["n"].as_i64().unwrap())).collect()
}

/// Counts the rows of each key of `events` in `counts`.
fn counting(kafka: &Kafka) -> String {
    let bootstrap = kafka.bootstrap();
    format!(
        "CREATE TABLE events (`key` STRING) {};
         CREATE TABLE counts (`key` STRING, n BIGINT, PRIMARY KEY (`key`) NOT ENFORCED)
         WITH ('connector' = 'upsert-kafka', 'topic' = 'counts', 'properties.bootstrap.servers' = '{bootstrap}',
           'key.format' = 'json', 'value.format' = 'json');
         INSERT INTO counts SELECT `key`, COUNT(*) FROM events GROUP BY `key`;",
        kafka.with("events", "")
    )
}

fn put_keys(kafka: &Kafka, count: i64) {
    let rows: Vec<_> = (0..count).map(|n| (0, String::new(), format!("{{\"key\":\"key {n}\"}}"))).collect();
    kafka.put("events", &rows);
}

#[test]
fn rows_that_are_late_and_partitions_without_rows_and_other_fields() {
    let Some(kafka) = Kafka::start() else { return };
    kafka.topic("events", 2);
    kafka.topic("windows", 1);
    kafka.topic("words", 1);
    let world = World::start(&SOON);
    let script = format!(
        "CREATE TABLE events (n BIGINT, word STRING, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '1' SECOND) {};
         CREATE TABLE windows (w TIMESTAMP(3), n BIGINT) {};
         CREATE TABLE words (n BIGINT, word STRING) {};
         SET 'table.exec.source.idle-timeout' = '500 ms';
         EXECUTE STATEMENT SET BEGIN
           INSERT INTO windows SELECT window_start, COUNT(*)
             FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end;
           INSERT INTO words SELECT n, word FROM events;
         END;",
        kafka.with("events", ""),
        kafka.with("windows", ""),
        kafka.with("words", ""),
    );
    let id = submit(&world, "rows", &script);
    // A field that the table does not have is left out, one that the message does not have is NULL.
    let row =
        |more: &str, second: i64| (0, String::new(), format!("{{{more},\"ts\":\"{}\"}}", timestamp(second * 1_000)));
    kafka.put("events", &[row("\"n\":1,\"word\":\"a\"", 1), row("\"n\":2,\"new\":{\"x\":[1]}", 2)]);
    // Nobody waits for the other partition, which never has a row.
    let mut second = 20;
    let windows = wait_for("the first window", || {
        kafka.put("events", &[row("\"n\":0", second)]);
        second += 1;
        Some(values(&kafka, "windows", "all")).filter(|windows| !windows.is_empty())
    });
    let is_first = |window: &Value| window["w"].as_str().unwrap().starts_with("2026-01-01 00:00:00");
    assert!(is_first(&windows[0]) && windows[0]["n"] == 2, "{windows:?}");

    kafka.put("events", &[row("\"n\":3", 5)]);
    wait_for("the late row to be counted", || (of_job(&world, &id, "late_rows") == "1").then_some(()));
    let shown: Value = serde_json::from_str(&text(world.run(&["job", "show", &id, "--format", "json"]))).unwrap();
    assert!(shown["late_rows"] == 1 && shown["waits_for"].is_null(), "{shown}");
    let windows = values(&kafka, "windows", "all");
    assert_eq!(windows.iter().filter(|window| is_first(window)).count(), 1, "{windows:?}");
    let words = values(&kafka, "words", "all");
    let of = |n: i64| words.iter().find(|row| row["n"] == n).cloned().unwrap();
    assert_eq!(
        [of(1), of(2), of(3)],
        [(1, json!("a")), (2, Value::Null), (3, Value::Null)].map(|(n, word)| json!({"n": n, "word": word}))
    );
}

#[test]
fn topics_that_go_are_named() {
    let Some(kafka) = Kafka::start() else { return };
    // A topic that is gone is looked for once more, which is to be after the other one is there.
    let world = World::start(&["--set", "streaming.retry_pause_ms=3000"]);
    let job = |name: &str| {
        let (from, to) = (format!("{name}_in"), format!("{name}_out"));
        kafka.topic(&from, 1);
        kafka.topic(&to, 1);
        let with = |topic: &str| kafka.with(topic, ", 'scan.topic-partition-discovery.interval' = '500 ms'");
        let id = submit(&world, name, &copy(&from, &to, with));
        put(&kafka, &from, 0..1);
        id
    };
    let ids = ["gone", "again", "unwritten"].map(job);
    for topic in ["gone_out", "again_out", "unwritten_out"] {
        assert_eq!(kafka.read(topic, "1").len(), 1);
    }
    text(kafka.client(&["delete", "gone_in"]).output().unwrap());
    text(kafka.client(&["remake", "again_in", "1"]).output().unwrap());
    text(kafka.client(&["delete", "unwritten_out"]).output().unwrap());
    put(&kafka, "unwritten_in", 1..2);

    let expected: [&[&str]; 3] = [
        &["a topic that is read was deleted", "there is no topic 'gone_in'", "hint"],
        &["topic 'again_in' was deleted and made again", "make a new job"],
        &["a topic that is written is not there", "there is no topic 'unwritten_out'"],
    ];
    for (id, words) in ids.iter().zip(expected) {
        let error = failure(&world, id);
        assert!(words.iter().all(|word| error.contains(word)), "{error}\n{}", logs(&world, id));
    }
}

/// A request to the registry, which must be answered well.
fn ask(registry: &str, method: &str, path: &str, body: &Value) -> Value {
    let address = registry.trim_start_matches("http://").trim_end_matches('/');
    let mut stream = TcpStream::connect(address).unwrap();
    let body = body.to_string();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    serde_json::from_str(reply.split_once("\r\n\r\n").unwrap().1).unwrap()
}

#[test]
fn schemas_change_and_their_registry_goes_away() {
    let Some(kafka) = Kafka::start() else { return };
    kafka.topic("events", 1);
    kafka.topic("copies", 1);
    let world = World::start(&SOON);
    let registry = world.server.endpoint("registry");
    let gate = Gate::new(0, port(&registry));
    let register = |fields: Value| {
        let schema = json!({"type": "record", "name": "event", "fields": fields}).to_string();
        let answer = ask(&registry, "POST", "/subjects/events-value/versions", &json!({ "schema": schema }));
        // The test writes messages as text, so an id is one byte that is none of its separators.
        u8::try_from(answer["id"].as_u64().unwrap()).ok().filter(|id| *id < 9).unwrap()
    };
    // In Avro a number is twice itself, and the length of a text and the branch of a union are such numbers before them.
    let put = |id: u8, record: &str| {
        kafka.put("events", &[(0, String::new(), format!("\0\0\0\0{}{record}", char::from(id)))]);
    };
    let (number, name) = (json!({"name": "id", "type": "long"}), json!({"name": "name", "type": "string"}));
    let first = register(json!([number, name]));
    put(first, "\u{2}\u{2}a");
    gate.close();
    let avro = format!("'format' = 'avro-confluent', 'avro-confluent.url' = 'http://{}'", gate.address());
    let script = format!(
        "CREATE TABLE events (id BIGINT, name STRING) {};
         CREATE TABLE copies (id BIGINT, name STRING) {};
         INSERT INTO copies SELECT id, name FROM events;",
        kafka.with("events", "").replace("'format' = 'json'", &avro),
        kafka.with("copies", "")
    );
    let id = submit(&world, "schemas", &script);
    let away = format!("the Schema Registry at http://{} does not answer", gate.address());
    wait_until_it_waits(&world, &id, &[&away]);
    gate.open();
    assert_eq!(values(&kafka, "copies", "1"), [json!({"id": 1, "name": "a"})]);

    // While it is away, what is known of it does.
    gate.close();
    put(first, "\u{4}\u{2}b");
    assert_eq!(numbers(&values(&kafka, "copies", "2"), "id"), [1, 2]);
    let second = register(json!([number, name, {"name": "more", "type": ["null", "string"], "default": null}]));
    put(second, "\u{6}\u{2}c\u{2}\u{2}x");
    wait_until_it_waits(&world, &id, &[&away]);
    gate.open();
    assert_eq!(numbers(&values(&kafka, "copies", "3"), "id"), [1, 2, 3]);

    ask(&registry, "PUT", "/config/events-value", &json!({"compatibility": "NONE"}));
    let third = register(json!([{"name": "id", "type": "string"}, name]));
    put(third, "\u{2}d\u{2}d");
    let error = failure(&world, &id);
    let words = [
        "topic `events`, partition 0, offset 3".to_owned(),
        format!("schema {third} (version 3 of events-value)"),
        format!("schema {second} (version 2 of events-value)"),
        "an Avro string cannot be read as Int64".to_owned(),
    ];
    assert!(words.iter().all(|word| error.contains(word)), "{error}");
}

#[test]
fn rights_that_are_taken_away_are_waited_for() {
    let Some(kafka) = Kafka::start_guarded("ann", "s3cret") else { return };
    let world = World::start(&SOON);
    let secured = kafka.broker().secured();
    let with = |topic: &str, password: &str| {
        let module = "org.apache.kafka.common.security.scram.ScramLoginModule";
        let more = format!(
            ", 'properties.security.protocol' = 'SASL_PLAINTEXT', 'properties.sasl.mechanism' = 'SCRAM-SHA-512', \
             'properties.sasl.jaas.config' = '{module} required username=\"ann\" password=\"{password}\";'"
        );
        kafka.with(topic, &more).replace(&kafka.bootstrap(), &secured)
    };
    for topic in ["inbox", "outbox", "box_a", "box_b"] {
        kafka.topic(topic, 1);
    }
    // A job that has done nothing yet fails.
    let stranger = submit(&world, "stranger", &copy("box_a", "box_b", |topic| with(topic, "wr0ng")));
    let id = submit(&world, "rights", &copy("inbox", "outbox", |topic| with(topic, "s3cret")));
    put(&kafka, "inbox", 0..1);
    assert_eq!(numbers(&values(&kafka, "outbox", "1"), "n"), [0]);
    let mut next = 1;
    for topic in ["inbox", "outbox"] {
        text(kafka.client(&["forbid", "ann", topic]).output().unwrap());
        put(&kafka, "inbox", next..next + 1);
        next += 1;
        wait_until_it_waits(&world, &id, &["Topic authorization failed", topic]);
        text(kafka.client(&["allow", "ann", topic]).output().unwrap());
        assert_eq!(numbers(&values(&kafka, "outbox", &next.to_string()), "n"), (0..next).collect::<Vec<_>>());
    }
    wait_for("the job to go on", || of_job(&world, &id, "waits_for").is_empty().then_some(()));
    let error = failure(&world, &stranger);
    assert!(error.contains("Kafka does not let us in") && !error.contains("wr0ng"), "{error}");
}

#[test]
fn a_process_that_was_stopped_longer_than_its_transaction_may_be() {
    let Some(kafka) = Kafka::start() else { return };
    kafka.topic("origin", 1);
    kafka.topic("copies", 1);
    let world = World::start(&SOON);
    let script = copy("origin", "copies", |topic| kafka.with(topic, ""));
    let id = submit(&world, "stopped", &format!("SET 'execution.checkpointing.interval' = '8 s'; {script}"));
    put(&kafka, "origin", 0..200);
    let undecided = || text(kafka.client(&["open", "copies"]).output().unwrap()).trim().parse::<i64>().unwrap();
    wait_for("an open transaction", || (undecided() > 0).then_some(()));
    support::signal("-STOP", world.server.id());
    wait_for("the broker to give it up", || (undecided() == 0).then_some(()));
    support::signal("-CONT", world.server.id());
    put(&kafka, "origin", 200..400);
    assert_eq!(numbers(&values(&kafka, "copies", "400"), "n"), (0..400).collect::<Vec<_>>());
    let logs = logs(&world, &id);
    assert!(logs.contains("brokers give one up after 30s"), "{logs}");
}

#[test]
fn state_that_outgrows_its_bound_is_kept_for_a_larger_one() {
    let Some(kafka) = Kafka::start() else { return };
    kafka.topic("events", 1);
    kafka.topic("counts", 1);
    let mut world = World::start(&[&SOON[..], &["--set", "streaming.state_limit_bytes=300000"]].concat());
    let id = submit(&world, "grows", &counting(&kafka));
    put_keys(&kafka, 50);
    assert_eq!(kafka.read("counts", "50").len(), 50);
    put_keys(&kafka, 20_000);
    wait_until_it_waits(&world, &id, &["the state of ", " bytes, more than the 300000 an operator may hold"]);

    world.server.process().kill();
    world.server = Server::start(&world.folder.path().join("data"), &SOON);
    let counts = wait_for("all keys", || Some(counts(&kafka)).filter(|counts| counts.len() == 20_000));
    assert_eq!(counts.values().sum::<i64>(), 20_050);
    assert_eq!((counts["key 0"], counts["key 49"], counts["key 50"]), (2, 2, 1));
    wait_for("the job to go on", || of_job(&world, &id, "waits_for").is_empty().then_some(()));
}

#[test]
fn rows_go_on_while_the_catalog_is_away() {
    let Some(kafka) = Kafka::start() else { return };
    let Some(url) = mariadb::new_database() else { return };
    kafka.topic("origin", 1);
    kafka.topic("copies", 1);
    let (server, database) = url.rsplit_once('/').unwrap();
    let gate = Gate::new(0, port(server));
    let url = format!("{}:{}/{database}", server.rsplit_once(':').unwrap().0, gate.port);
    let warehouse = tempfile::tempdir().unwrap();
    let catalog = [format!("catalog.url={url}"), format!("warehouse.url={}", warehouse.path().display())];
    let set =
        ["--set", "catalog.create=true", "--set", "catalog.lease_ms=1500", "--set", &catalog[0], "--set", &catalog[1]];
    let world = World::start(&[&SOON[..], &set].concat());
    let id = submit(&world, "copy", &copy("origin", "copies", |topic| kafka.with(topic, "")));
    put(&kafka, "origin", 0..10);
    assert_eq!(kafka.read("copies", "10").len(), 10);

    gate.close();
    let log = world.folder.path().join("data.log");
    let missed =
        || std::fs::read_to_string(&log).unwrap().matches("cannot say in the catalog that this process lives").count();
    let mut next = 10;
    // Each miss is some seconds of trying, so its lease is over long before the last turn.
    for misses in 1..=3 {
        put(&kafka, "origin", next..next + 10);
        next += 10;
        assert_eq!(numbers(&values(&kafka, "copies", &next.to_string()), "n"), (0..next).collect::<Vec<_>>());
        wait_for("the lease to be missed", || (missed() >= misses).then_some(()));
    }
    gate.open();
    wait_for("the catalog", || world.run(&["job", "show", &id]).status.success().then_some(()));
    put(&kafka, "origin", next..next + 10);
    next += 10;
    assert_eq!(numbers(&values(&kafka, "copies", &next.to_string()), "n"), (0..next).collect::<Vec<_>>());
    assert_eq!(of_job(&world, &id, "state"), "running");
    // It is the attempt that began before.
    assert_eq!(of_job(&world, &id, "attempts"), "1", "{}", logs(&world, &id));
}

#[test]
fn a_job_waits_for_its_object_store() {
    let Some(kafka) = Kafka::start() else { return };
    let Some(minio) = support::minio() else { return };
    kafka.topic("events", 1);
    kafka.topic("counts", 1);
    let gate = Gate::new(0, port(&minio.endpoint));
    let mut set = minio.arguments();
    for setting in [
        format!("s3.endpoint=http://{}", gate.address()),
        "s3.retry_timeout_ms=500".to_owned(),
        format!("streaming.url=s3://{}/streams", minio.fresh_bucket()),
    ] {
        set.extend(["--set".to_owned(), setting]);
    }
    let set: Vec<&str> = SOON.into_iter().chain(set.iter().map(String::as_str)).collect();
    let world = World::start(&set);
    let id = submit(&world, "counts", &counting(&kafka));
    put_keys(&kafka, 3_000);
    wait_for("all keys", || (counts(&kafka).len() == 3_000).then_some(()));

    gate.close();
    put_keys(&kafka, 3_000);
    let waits = wait_until_it_waits(&world, &id, &["the object "]);
    assert!(!waits.contains(&minio.secret_key), "{waits}");
    gate.open();
    let twice = |counts: &BTreeMap<String, i64>| counts.len() == 3_000 && counts.values().all(|count| *count == 2);
    wait_for("all keys twice", || Some(counts(&kafka)).filter(twice));
    wait_for("the job to go on", || of_job(&world, &id, "waits_for").is_empty().then_some(()));
}

#[test]
fn a_job_waits_for_its_brokers_and_says_so() {
    let Some(kafka) = Kafka::start() else { return };
    kafka.topic("origin", 1);
    kafka.topic("copies", 1);
    let gate = Gate::before(&kafka);
    let world = World::start(&SOON);
    let with = |topic: &str| kafka.with(topic, "").replace(&kafka.bootstrap(), &gate.address());
    let id = submit(&world, "copy", &copy("origin", "copies", with));
    put(&kafka, "origin", 0..10);
    assert_eq!(kafka.read("copies", "10").len(), 10);
    gate.close();
    put(&kafka, "origin", 10..20);
    let away = format!("no broker of {} answers", gate.address());
    wait_until_it_waits(&world, &id, &[&away]);
    wait_for("its log", || logs(&world, &id).contains(&format!("waits: {away}")).then_some(()));
    assert!(text(world.run(&["job", "ls", "--format", "csv"])).contains(&away));
    gate.open();
    assert_eq!(numbers(&values(&kafka, "copies", "20"), "n"), (0..20).collect::<Vec<_>>());
    wait_for("its log", || logs(&world, &id).contains("goes on").then_some(()));
}

#[test]
fn a_query_does_not_wait_for_brokers_for_ever() {
    let Some(kafka) = Kafka::start() else { return };
    kafka.topic("many", 1);
    let gate = Gate::before(&kafka);
    let world = World::start(&[]);
    // What no codec makes small.
    let row = |n: i64| {
        let filling: String = (0..6).map(|_| ids::new_secret()).collect();
        (0, String::new(), format!("{{\"n\":{n},\"filling\":\"{filling}\"}}"))
    };
    let rows: Vec<_> = (0..30_000).map(row).collect();
    kafka.put("many", &rows);
    let with = kafka.with("many", "").replace(&kafka.bootstrap(), &gate.address());
    let script = format!("SET tereza.dialect = 'flink'; CREATE TABLE many (n BIGINT, filling STRING) {with};");
    text(world.run(&["submit", &world.script(&script), "--wait"]));
    let query = "SELECT count(*), sum(n) FROM many";
    let fails = |words: &[&str], within: Duration| {
        let start = clock::now();
        let output = world.run(&["sql", "-c", query]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && words.iter().all(|word| error.contains(word)), "{error}");
        assert!(start.elapsed() < within, "{:?}", start.elapsed());
    };
    let kafka_at = format!("Kafka at {}", gate.address());
    // In the middle, where no connection breaks.
    gate.hold_after(1 << 20);
    fails(&[&kafka_at, "gave no row for 20s"], Duration::from_secs(50));
    gate.close();
    fails(&[&kafka_at, "does not answer"], Duration::from_secs(40));
    gate.open();
    assert_eq!(world.ask(query), format!("30000,{}\n", 30_000_i64 * 29_999 / 2));
}

#[test]
fn all_processes_know_how_far_a_job_is() {
    let Some(url) = mariadb::new_database() else { return };
    let folder = tempfile::tempdir().unwrap();
    let catalog = [format!("catalog.url={url}"), format!("warehouse.url={}", folder.path().join("w").display())];
    let streams = format!("streaming.url={}", folder.path().join("streams").display());
    let set = ["--set", "catalog.create=true", "--set", &catalog[0], "--set", &catalog[1], "--set", &streams];
    let worlds = [World::start(&set), World::start(&set)];
    let tables = |option: &str| {
        format!(
            "SET tereza.dialect = 'flink';
             CREATE TABLE numbers (n BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '100'{option});
             CREATE TABLE nowhere (n BIGINT) WITH ('connector' = 'blackhole');"
        )
    };
    // An option that there is not is refused when the table is made.
    let refused = worlds[0].run(&["submit", &worlds[0].script(&tables(", 'fields.n.knd' = 'random'")), "--wait"]);
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(error.contains("no option 'fields.n.knd'") && error.contains("fields.n.kind"), "{error}");

    let id = submit(&worlds[0], "far", &format!("{} INSERT INTO nowhere SELECT n FROM numbers;", tables("")));
    for world in &worlds {
        wait_for("the epoch", || of_job(world, &id, "epoch").parse::<u64>().is_ok_and(|epoch| epoch > 0).then_some(()));
    }
    text(worlds[1].run(&["job", "stop", &id]));
    let has_ended = || of_job(&worlds[1], &id, "state") == "cancelled";
    wait_for("the job to end", || has_ended().then_some(()));
    // How far it came is known also then.
    let [here, there] = [&worlds[0], &worlds[1]].map(|world| of_job(world, &id, "epoch").parse::<u64>().unwrap());
    assert!(here == there && here > 0, "{here} and {there}");
}

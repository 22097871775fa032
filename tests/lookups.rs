//! Stream jobs beside tables that are no streams: rows are looked up in them, and they are written into streams.

use std::collections::BTreeMap;
use std::path::Path;

use crate::jobs::{World, text};
use crate::streams::{Kafka, stream_job};
use crate::support::wait_for;

/// Rows that are made, and how many a second.
const ROWS: i64 = 4_000;
const RATE: i64 = 2_000;
/// Keys that rows ask for, and those of them that the tables have.
const ASKED: i64 = 40;
const KNOWN: i64 = 25;
/// Rows of the table that is written into a topic.
const TABLE_ROWS: i64 = 150_000;
/// Times that the server dies meanwhile.
const KILLS: usize = 3;

const SETTINGS: &str =
    "SET 'execution.checkpointing.interval' = '50 ms'; SET 'table.exec.sink.commit-interval' = '100 ms';";

fn numbers(name: &str, rows: i64, more: &str) -> String {
    format!(
        "CREATE TABLE {name} (n BIGINT, k AS MOD(n, {ASKED}), p AS PROCTIME()) WITH (
           'connector' = 'datagen', 'rows-per-second' = '{RATE}', 'fields.n.kind' = 'sequence',
           'fields.n.start' = '0', 'fields.n.end' = '{}'{more});",
        rows - 1
    )
}

fn finish(world: &World, id: &str) {
    let ended = world.run(&["job", "wait", id]);
    let logs = text(world.run(&["job", "logs", id]));
    assert!(ended.status.success(), "{ended:?}\n{logs}");
}

/// A file that is there at once.
fn put(folder: &Path, name: &str, lines: &str) {
    let hidden = folder.join(format!(".{name}"));
    std::fs::write(&hidden, lines).unwrap();
    std::fs::rename(hidden, folder.join(name)).unwrap();
}

#[test]
fn rows_meet_tables_of_the_catalog_and_files_when_the_server_dies() {
    let mut world = World::start(&["--set", "streaming.retry_pause_ms=50"]);
    let folder = world.folder.path().join("colours");
    std::fs::create_dir(&folder).unwrap();
    // Key 3 is there twice, key 4 under a name that nobody wants.
    let mut lines: String = (0..KNOWN).map(|key| format!("{key},\"colour, {key}\"\n")).collect();
    lines.push_str("3,another\n");
    put(&folder, "a.csv", &lines);
    let script = format!(
        "CREATE TABLE dimension (id INT, label STRING) STORED AS PARQUET;
         INSERT INTO dimension SELECT CAST(value AS INT), 'label ' || value FROM generate_series(0, {});
         CREATE TABLE kept (n BIGINT, label STRING, colour STRING);
         SET tereza.dialect = 'flink';
         {}
         CREATE TABLE colours (id BIGINT, colour STRING)
           WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'csv');
         {SETTINGS}
         INSERT INTO kept SELECT s.n, d.label, c.colour FROM numbers AS s
           JOIN dimension FOR SYSTEM_TIME AS OF s.p AS d ON s.k = d.id
           LEFT JOIN colours FOR SYSTEM_TIME AS OF s.p AS c ON d.id = c.id + 1 AND c.id <> 4;",
        KNOWN - 1,
        numbers("numbers", ROWS, ""),
        folder.to_str().unwrap(),
    );
    text(world.run(&["submit", &world.script(&script), "--wait"]));
    let id = stream_job(&world);
    wait_for("the first rows", || (world.ask("SELECT count(*) FROM kept") != "0\n").then_some(()));
    world.server.process().kill();
    world.restart();
    finish(&world, &id);

    let mut expected = Vec::new();
    for n in 0..ROWS {
        let key = n % ASKED;
        if key >= KNOWN {
            continue;
        }
        let label = format!("label {key}");
        match key - 1 {
            -1 | 4 => expected.push((n, label, String::new())),
            3 => {
                expected.push((n, label.clone(), "another".to_owned()));
                expected.push((n, label, "colour; 3".to_owned()));
            }
            colour => expected.push((n, label, format!("colour; {colour}"))),
        }
    }
    let ask = "SELECT n, label, replace(coalesce(colour, ''), ',', ';') FROM kept ORDER BY 1, 2, 3";
    let found = world.ask(ask);
    let found: Vec<(i64, String, String)> = found
        .lines()
        .map(|line| {
            let mut cells = line.split(',');
            let mut next = || cells.next().unwrap_or_default().trim_matches('"').to_owned();
            (next().parse().unwrap(), next(), next())
        })
        .collect();
    assert_eq!(found.len(), expected.len());
    assert_eq!(found, expected);
}

#[test]
fn a_table_is_read_again_when_its_time_is_over() {
    let world = World::start(&["--set", "streaming.retry_pause_ms=50"]);
    let script = format!(
        "CREATE TABLE dimension (id BIGINT, label STRING) STORED AS PARQUET TBLPROPERTIES ('lookup.join.cache.ttl' = '200 ms');
         INSERT INTO dimension VALUES (0, 'before');
         CREATE TABLE kept (n BIGINT, label STRING);
         SET tereza.dialect = 'flink';
         {}
         {SETTINGS}
         INSERT INTO kept SELECT s.n, d.label FROM numbers AS s
           LEFT JOIN dimension FOR SYSTEM_TIME AS OF s.p AS d ON MOD(s.n, 2) = d.id;",
        numbers("numbers", 10_000_000, "")
    );
    text(world.run(&["submit", &world.script(&script), "--wait"]));
    let id = stream_job(&world);
    let count =
        |of: &str| -> i64 { world.ask(&format!("SELECT count(*) FROM kept WHERE {of}")).trim().parse().unwrap() };
    wait_for("rows of the first table", || (count("label = 'before'") > 0).then_some(()));
    assert_eq!((count("label = 'after'"), count("n % 2 = 1 AND label IS NOT NULL")), (0, 0));
    world.ask("INSERT INTO dimension VALUES (1, 'after')");
    wait_for("rows of the second one", || (count("label = 'after'") > 0).then_some(()));
    // Each row met the table of its moment: the odd ones before some number found nothing, those after it all found something.
    text(world.run(&["job", "cancel", &id]));
    wait_for("the job to end", || text(world.run(&["job", "logs", &id])).contains("cancelled").then_some(()));
    let ask = "SELECT (SELECT max(n) FROM kept WHERE n % 2 = 1 AND label IS NULL)
        < (SELECT min(n) FROM kept WHERE label = 'after')";
    assert_eq!(world.ask(ask), "true\n");
    assert_eq!(world.ask("SELECT count(*) = count(DISTINCT n) FROM kept"), "true\n");
}

#[test]
fn what_cannot_be_looked_up_is_refused() {
    let world = World::start(&["--set", "streaming.state_limit_bytes=50000"]);
    let setup = format!(
        "CREATE TABLE dimension (id BIGINT, label STRING);
         INSERT INTO dimension SELECT value, repeat('x', 100) FROM generate_series(1, 2000);
         CREATE TABLE kept (n BIGINT, label STRING);
         SET tereza.dialect = 'flink';
         {}
         CREATE TABLE messages (id BIGINT, label STRING) WITH ('connector' = 'kafka', 'topic' = 't',
           'properties.bootstrap.servers' = '127.0.0.1:1', 'format' = 'json');",
        numbers("numbers", ROWS, "")
    );
    text(world.run(&["submit", &world.script(&setup), "--wait"]));
    let insert = |join: &str| {
        let script =
            format!("SET tereza.dialect = 'flink'; INSERT INTO kept SELECT s.n, d.label FROM numbers AS s {join};");
        world.run(&["submit", &world.script(&script), "--wait"])
    };
    for (join, said) in [
        ("JOIN messages FOR SYSTEM_TIME AS OF s.p AS d ON s.k = d.id", "connector 'kafka'"),
        ("JOIN dimension FOR SYSTEM_TIME AS OF s.n AS d ON s.k = d.id", "which is not PROCTIME()"),
        ("RIGHT JOIN dimension FOR SYSTEM_TIME AS OF s.p AS d ON s.k = d.id", "Right join"),
    ] {
        let output = insert(join);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains(said), "{join}: {error}");
    }
    text(insert("JOIN dimension FOR SYSTEM_TIME AS OF s.p AS d ON s.k = d.id"));
    let ended = world.run(&["job", "wait", &stream_job(&world)]);
    let error = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(!ended.status.success(), "{ended:?}");
    assert!(error.contains("dimension, which is looked up") && error.contains("50000 bytes"), "{error}");
}

#[test]
fn rows_of_tables_are_written_into_topics_once() {
    let Some(kafka) = Kafka::start() else { return };
    kafka.topic("copies", 3);
    kafka.topic("values", 1);
    let mut world = World::start(&["--set", "streaming.retry_pause_ms=50"]);
    let script = format!(
        "CREATE TABLE origin (n BIGINT, word STRING);
         INSERT INTO origin SELECT value, 'word ' || value FROM generate_series(1, {TABLE_ROWS});
         SET tereza.dialect = 'flink';
         CREATE TABLE copies (n BIGINT, word STRING) {};
         CREATE TABLE `values` (n BIGINT, word STRING, amount DECIMAL(9, 2)) {};
         SET 'execution.checkpointing.interval' = '20 ms';
         INSERT INTO copies SELECT n, word FROM origin WHERE MOD(n, 3) <> 0;",
        kafka.with("copies", ""),
        kafka.with("values", ""),
    );
    text(world.run(&["submit", &world.script(&script), "--wait"]));
    let id = stream_job(&world);
    for attempt in 1..=KILLS {
        // The last time it may have ended.
        let begins = format!("attempt {attempt} begins");
        let has_begun = |logs: String| logs.contains(&begins) || logs.contains("succeeded");
        wait_for("the job to begin", || has_begun(text(world.run(&["job", "logs", &id]))).then_some(()));
        world.server.process().kill();
        world.restart();
    }
    finish(&world, &id);
    let mut seen: BTreeMap<i64, String> = BTreeMap::new();
    for row in kafka.read("copies", "all") {
        let value: serde_json::Value = serde_json::from_str(row["value"].as_str().unwrap()).unwrap();
        let (n, word) = (value["n"].as_i64().unwrap(), value["word"].as_str().unwrap().to_owned());
        assert!(seen.insert(n, word).is_none(), "{n} is there twice");
    }
    let expected: BTreeMap<i64, String> =
        (1..=TABLE_ROWS).filter(|n| n % 3 != 0).map(|n| (n, format!("word {n}"))).collect();
    assert!(seen == expected, "{} rows, not {}", seen.len(), expected.len());

    let script = "SET tereza.dialect = 'flink';
        INSERT INTO `values` (word, n, amount) VALUES ('a', 1, 2.5), ('b', 2, NULL);";
    text(world.run(&["submit", &world.script(script), "--wait"]));
    let ask = format!("SELECT job_id FROM system.runtime.jobs WHERE kind = 'stream' AND job_id <> '{id}'");
    let second = wait_for("the second job", || Some(world.ask(&ask)).filter(|id| !id.is_empty()));
    finish(&world, second.trim());
    let mut values: Vec<serde_json::Value> = kafka
        .read("values", "all")
        .iter()
        .map(|row| serde_json::from_str(row["value"].as_str().unwrap()).unwrap())
        .collect();
    values.sort_by_key(|value| value["n"].as_i64());
    let expected = [
        serde_json::json!({"n": 1, "word": "a", "amount": 2.5}),
        serde_json::json!({"n": 2, "word": "b", "amount": null}),
    ];
    assert_eq!(values.len(), 2);
    for (value, expected) in values.iter().zip(expected) {
        assert_eq!((&value["n"], &value["word"]), (&expected["n"], &expected["word"]));
        assert_eq!(value["amount"].as_f64(), expected["amount"].as_f64(), "{value}");
    }
}

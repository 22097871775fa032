//! Messages that cannot be read: they go to a topic of their own, each once, also when the server dies.

use std::time::Duration;

use serde_json::{Value, json};
use tereza_runtime::ids;

use crate::jobs::{World, text};
use crate::streams::{Kafka, stream_job};
use crate::support::wait_for;

const PARTITIONS: i64 = 2;
/// Good messages before, and after, the server dies.
const GOOD: i64 = 500;
const OPTION: &str = ", 'tereza.dead-letter.topic' = 'dead'";

fn good(from: i64) -> Vec<(i64, String, String)> {
    (from..from + GOOD).map(|id| (id % PARTITIONS, format!("k{id}"), format!("{{\"id\":{id}}}"))).collect()
}

fn events(kafka: &Kafka, more: &str) -> String {
    format!("SET tereza.dialect = 'flink'; CREATE TABLE events (id BIGINT) {};", kafka.with("events", more))
}

/// The messages of the topic `dead`: value, key, and headers, by the place that the headers say.
fn dead(kafka: &Kafka, count: &str) -> Vec<(String, i64, Value)> {
    let mut dead: Vec<(String, i64, Value)> = kafka
        .read("dead", count)
        .into_iter()
        .map(|row| {
            let headers = row["headers"].as_array().unwrap();
            let of = |name: &str| {
                let found: Vec<&str> =
                    headers.iter().filter(|pair| pair[0] == name).map(|pair| pair[1].as_str().unwrap()).collect();
                assert_eq!(found.len(), 1, "{name}: {row}");
                found[0].to_owned()
            };
            assert_eq!(of("__tereza.error.topic"), "events");
            assert_eq!(of("__tereza.error.timestamp"), row["timestamp"].to_string());
            assert!(of("__tereza.error.message").starts_with("the value: "), "{row}");
            let own: Vec<&Value> =
                headers.iter().filter(|pair| !pair[0].as_str().unwrap().starts_with("__tereza.error.")).collect();
            let partition = of("__tereza.error.partition");
            let offset = of("__tereza.error.offset").parse().unwrap();
            (partition, offset, json!({"key": row["key"], "value": row["value"], "headers": own}))
        })
        .collect();
    dead.sort_by(|one, other| (&one.0, one.1).cmp(&(&other.0, other.1)));
    dead
}

#[test]
fn each_is_kept_once_when_the_server_dies() {
    let Some(kafka) = Kafka::start() else { return };
    kafka.topic("events", PARTITIONS);
    kafka.topic("good", 1);
    kafka.topic("dead", 3);
    let mut world = World::start(&["--set", "streaming.retry_pause_ms=50"]);
    let script = format!(
        "{} CREATE TABLE good (id BIGINT) {}; SET 'execution.checkpointing.interval' = '100 ms';
         INSERT INTO good SELECT id FROM events;",
        events(&kafka, OPTION),
        kafka.with("good", "")
    );
    text(world.run(&["submit", &world.script(&script), "--wait"]));
    let id = stream_job(&world);

    let mut rows = good(0);
    let headers = r#"[["h", "1"], ["h", null]]"#;
    rows.insert(100, (0, "a".to_owned(), format!("{{\"id\":\t{headers}")));
    rows.insert(301, (1, String::new(), "{\"id\":\"one\"}".to_owned()));
    kafka.put("events", &rows);
    let pause = ids::jitter(1_500);
    println!("killed after {pause} ms");
    std::thread::park_timeout(Duration::from_millis(pause));
    world.server.process().kill();
    world.restart();
    let mut rows = good(GOOD);
    rows.insert(0, (1, "c".to_owned(), "no JSON".to_owned()));
    kafka.put("events", &rows);

    let found = kafka.read("good", &(2 * GOOD).to_string());
    let mut ids: Vec<i64> = found
        .iter()
        .map(|row| serde_json::from_str::<Value>(row["value"].as_str().unwrap()).unwrap()["id"].as_i64().unwrap())
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..2 * GOOD).collect::<Vec<_>>());
    let expected = [
        ("0".to_owned(), 50, json!({"key": "a", "value": "{\"id\":", "headers": [["h", "1"], ["h", null]]})),
        ("1".to_owned(), 150, json!({"key": null, "value": "{\"id\":\"one\"}", "headers": []})),
        ("1".to_owned(), GOOD / 2 + 1, json!({"key": "c", "value": "no JSON", "headers": []})),
    ];
    assert_eq!(dead(&kafka, "3"), expected);
    text(world.run(&["job", "cancel", &id]));
    wait_for("the job to end", || text(world.run(&["job", "logs", &id])).contains("cancelled").then_some(()));
}

#[test]
fn a_job_that_writes_no_topic_keeps_them_too() {
    let Some(kafka) = Kafka::start() else { return };
    kafka.topic("events", 1);
    kafka.topic("dead", 1);
    kafka.put("events", &[(0, String::new(), "{".to_owned()), (0, String::new(), "{\"id\":1}".to_owned())]);
    let world = World::start(&[]);
    let script = format!(
        "{} CREATE TABLE nowhere (id BIGINT) WITH ('connector' = 'blackhole');
         INSERT INTO nowhere SELECT id FROM events;",
        events(
            &kafka,
            &format!("{OPTION}, 'scan.bounded.mode' = 'latest-offset', 'json.ignore-parse-errors' = 'true'")
        )
    );
    text(world.run(&["submit", &world.script(&script), "--wait"]));
    let ended = world.run(&["job", "wait", &stream_job(&world)]);
    assert!(ended.status.success(), "{ended:?}");
    let value = json!({"key": null, "value": "{", "headers": []});
    assert_eq!(dead(&kafka, "all"), [("0".to_owned(), 0, value)]);
    // A query leaves them out, as the table asks for.
    assert_eq!(world.ask("SELECT count(*) AS n FROM events"), "1\n");

    // What would read what it writes is refused.
    let script = format!(
        "{} CREATE TABLE IF NOT EXISTS again (id BIGINT) {}; CREATE TABLE IF NOT EXISTS nowhere2 (id BIGINT)
         WITH ('connector' = 'blackhole');
         INSERT INTO nowhere2 SELECT id FROM events UNION ALL SELECT id FROM again;",
        events(&kafka, OPTION).replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS"),
        kafka.with("dead", "")
    );
    let refused = world.run(&["submit", &world.script(&script), "--wait"]);
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && error.contains("the topic 'dead'"), "{error}");
}

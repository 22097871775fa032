//! Savepoints of stream jobs: a job that ends with one, another that goes on from it, and what is left of the first.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::jobs::{World, text};
use crate::streams::{Kafka, Orders, PARTITIONS, WINDOW_MS, stream_job, timestamp};
use crate::support::wait_for;

/// Rows before the savepoint, and after it: more than two windows each.
const ROWS: i64 = 3_000;
/// Looks, a second apart, until what ended is cleaned up, which begins half a minute after the end.
const LOOKS: usize = 180;

/// Sums of windows of `orders` into a topic.
fn script(kafka: &Kafka, sink: &str, path: Option<&str>) -> String {
    let orders = kafka.orders().replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS");
    let origin = path.map(|path| format!("SET 'execution.state-recovery.path' = '{path}';")).unwrap_or_default();
    format!(
        "{orders}
         CREATE TABLE IF NOT EXISTS {sink} (w TIMESTAMP(3), `key` STRING, n BIGINT, total BIGINT) {};
         SET 'execution.checkpointing.interval' = '100 ms';
         {origin}
         INSERT INTO {sink} SELECT window_start, `key`, COUNT(*), SUM(amount)
           FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '10' SECOND))
           GROUP BY window_start, window_end, `key`;",
        kafka.with(sink, "")
    )
}

/// Windows by their start and key, each of which must be there once.
fn add(found: &mut BTreeMap<(String, String), (i64, i64)>, rows: &[Value]) {
    for row in rows {
        let value: Value = serde_json::from_str(row["value"].as_str().unwrap()).unwrap();
        let of = (value["w"].as_str().unwrap().to_owned(), value["key"].as_str().unwrap().to_owned());
        let sums = (value["n"].as_i64().unwrap(), value["total"].as_i64().unwrap());
        assert!(found.insert(of, sums).is_none(), "twice: {value}");
    }
}

#[test]
fn a_job_with_another_sink_goes_on_from_a_savepoint() {
    let Some(kafka) = Kafka::start() else { return };
    kafka.topic("orders", PARTITIONS);
    kafka.topic("before", 1);
    kafka.topic("after", 1);
    let mut orders = Orders::new(11);
    let world = World::start(&[]);
    text(world.run(&["submit", &world.script(&script(&kafka, "before", None)), "--wait"]));
    let id = stream_job(&world);
    kafka.put("orders", &orders.rows(ROWS));
    // Some windows are answered, and others are open.
    assert!(!kafka.read("before", "1").is_empty());

    let taken = world.ask(&format!("CALL system.runtime.savepoint_job('{id}', 'first')"));
    assert!(taken.starts_with("savepoints/first-"), "{taken}");
    let path = world.ask(&format!("STOP JOB '{id}' WITH SAVEPOINT")).trim().to_owned();
    assert!(path.starts_with("savepoints/savepoint-"), "{path}");
    let state = format!("SELECT state FROM system.runtime.jobs WHERE job_id = '{id}'");
    wait_for("the job to end", || (world.ask(&state) == "cancelled\n").then_some(()));
    let before = kafka.read("before", "all");

    for (wrong, part) in
        [("savepoints/none", "there is no savepoint"), ("s3://elsewhere/a", "is no path of a savepoint")]
    {
        let refused = world.run(&["submit", &world.script(&script(&kafka, "after", Some(wrong))), "--wait"]);
        let error = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && error.contains(part), "{error}");
    }

    kafka.put("orders", &orders.rows(ROWS));
    text(world.run(&["submit", &world.script(&script(&kafka, "after", Some(&path))), "--wait"]));
    let last = orders.windows.keys().map(|(start, _)| *start).max().unwrap();
    let later = timestamp(last + 20 * WINDOW_MS);
    let rows: Vec<_> = (0..PARTITIONS)
        .map(|partition| {
            let value = format!("{{\"key\":\"end\",\"seq\":-1,\"amount\":0,\"ts\":\"{later}\"}}");
            (partition, "end".to_owned(), value)
        })
        .collect();
    kafka.put("orders", &rows);
    let after = kafka.read("after", &(orders.windows.len() - before.len()).to_string());
    assert!(!before.is_empty() && !after.is_empty());
    let mut found = BTreeMap::new();
    add(&mut found, &before);
    add(&mut found, &after);
    let truth: BTreeMap<(String, String), (i64, i64)> = orders
        .windows
        .iter()
        .map(|((start, key), sums)| ((timestamp(*start).trim_end_matches(".000").to_owned(), format!("k{key}")), *sums))
        .collect();
    let found: BTreeMap<_, _> =
        found.into_iter().map(|((w, key), sums)| ((w.trim_end_matches(".000").to_owned(), key), sums)).collect();
    assert_eq!(found, truth);
    assert_eq!(kafka.read("before", "all").len(), before.len());

    // Of the first job nothing is left, and the second one runs on.
    let is_gone = || text(world.run(&["job", "logs", &id])).contains("its logs and its state are deleted");
    let is_clean = (0..LOOKS).any(|_| {
        std::thread::park_timeout(Duration::from_secs(1));
        is_gone()
    });
    assert!(is_clean, "{}", text(world.run(&["job", "logs", &id])));
    assert!(!kafka.has_topic(&format!("__tereza.{id}.epochs")));
    let running = "SELECT count(*) FROM system.runtime.jobs WHERE kind = 'stream' AND state = 'running'";
    assert_eq!(world.ask(running), "1\n");
}

//! Stream jobs in several tasks: rows come through once, whatever dies and however many tasks there are.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;
use tereza_runtime::ids;

use crate::jobs::{World, text};
use crate::streams::{Kafka, stream_job};
use crate::support::wait_for;

const PARTITIONS: i64 = 6;
/// Those that the topic has in the end.
const GROWN: i64 = 8;
/// Rows that are put at once.
const ROWS: i64 = 600;
/// Partitions of the copy: each task writes into one of its own.
const COPIES: i64 = 3;

/// Puts the rows from `next` on into so many partitions.
fn put(kafka: &Kafka, partitions: i64, next: &mut i64) {
    let rows: Vec<(i64, String, String)> =
        (*next..*next + ROWS).map(|seq| (seq % partitions, seq.to_string(), format!("{{\"seq\":{seq}}}"))).collect();
    kafka.put("origin", &rows);
    *next += ROWS;
}

/// Number and partition of each row of the copy, when there are so many.
fn copies(kafka: &Kafka, count: i64) -> Vec<(i64, i64)> {
    let of = |row: &Value| {
        let value: Value = serde_json::from_str(row["value"].as_str().unwrap()).unwrap();
        (value["seq"].as_i64().unwrap(), row["partition"].as_i64().unwrap())
    };
    kafka.read("copies", &count.to_string()).iter().map(of).collect()
}

/// Whether each row up to `next` is there once.
fn check(found: &[(i64, i64)], next: i64, what: &str) {
    let rows: BTreeSet<i64> = found.iter().map(|(seq, _)| *seq).collect();
    assert!(rows.iter().copied().eq(0..next), "{what}: {} of {next} rows", rows.len());
    assert_eq!(found.len(), rows.len(), "{what}: rows are there twice");
}

fn tables(kafka: &Kafka) -> String {
    format!(
        "SET tereza.dialect = 'flink';
         CREATE TABLE origin (seq BIGINT) {};
         CREATE TABLE copies (seq BIGINT) {};
         SET 'execution.checkpointing.interval' = '100 ms';
         SET 'table.exec.sink.commit-interval' = '300 ms';",
        kafka.with("origin", ", 'scan.topic-partition-discovery.interval' = '500 ms'"),
        kafka.with("copies", ", 'sink.partitioner' = 'fixed'"),
    )
}

#[test]
fn rows_come_once_in_one_task_then_three_then_two() {
    let Some(kafka) = Kafka::start() else { return };
    kafka.topic("origin", PARTITIONS);
    kafka.topic("copies", COPIES);
    let seed = ids::jitter(u64::MAX);
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut world = World::start(&["--set", "streaming.retry_pause_ms=50"]);
    let script = format!(
        "CREATE TABLE archive (seq BIGINT);
         {}
         EXECUTE STATEMENT SET BEGIN
           INSERT INTO copies SELECT seq FROM origin;
           INSERT INTO archive SELECT seq FROM origin WHERE seq >= 0;
         END;",
        tables(&kafka)
    );
    text(world.run(&["submit", &world.script(&script), "--wait"]));
    let id = stream_job(&world);
    let mut kill = |world: &mut World, within_ms: u64| {
        std::thread::park_timeout(Duration::from_millis(random.random_range(0..within_ms)));
        world.server.process().kill();
        world.restart();
    };

    let mut next = 0;
    for (tasks, partitions) in [(1, PARTITIONS), (3, PARTITIONS), (2, GROWN)] {
        if partitions > PARTITIONS {
            // Tasks find the new ones by themselves; the next plan has to go on there.
            kafka.grow("origin", partitions);
            put(&kafka, partitions, &mut next);
            check(&copies(&kafka, next), next, &format!("seed {seed}, new partitions"));
        }
        if tasks > 1 {
            // Rows are on their way while it changes, and the server may die in the middle.
            put(&kafka, partitions, &mut next);
            text(world.run(&["sql", "-c", &format!("CALL system.runtime.rescale_job('{id}', {tasks})")]));
            kill(&mut world, 4_000);
            let told = format!("runs in {tasks} tasks");
            wait_for("the tasks", || text(world.run(&["job", "logs", &id])).contains(&told).then_some(()));
        }
        let from = next;
        put(&kafka, partitions, &mut next);
        kill(&mut world, 1_500);
        put(&kafka, partitions, &mut next);
        let found = copies(&kafka, next);
        check(&found, next, &format!("seed {seed}, {tasks} tasks"));
        let late = found.iter().filter(|(seq, _)| *seq >= from);
        let wrote: BTreeSet<i64> = late.map(|(_, partition)| *partition).collect();
        assert!(wrote.iter().copied().eq(0..tasks), "seed {seed}: tasks {wrote:?} of {tasks} have written");
    }
    let ask = "SELECT count(*), count(DISTINCT seq), max(seq) FROM archive";
    let expected = format!("{next},{next},{}\n", next - 1);
    wait_for("all rows in the table", || (world.ask(ask) == expected).then_some(()));
    text(world.run(&["job", "cancel", &id]));
}

#[test]
fn tasks_are_as_many_as_have_something_to_do_and_end_together() {
    let Some(kafka) = Kafka::start() else { return };
    kafka.topic("origin", PARTITIONS);
    kafka.topic("copies", COPIES);
    kafka.topic("counts", 1);
    let mut next = 0;
    put(&kafka, PARTITIONS, &mut next);
    let world = World::start(&[]);
    let bounded = "origin /*+ OPTIONS('scan.bounded.mode' = 'latest-offset') */";
    let bootstrap = kafka.bootstrap();
    let job = |name: &str, script: &str| {
        let script = format!("{} SET 'pipeline.name' = '{name}'; {script}", tables(&kafka));
        let script = script.replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS");
        text(world.run(&["submit", &world.script(&script), "--wait"]));
        let ask = format!("SELECT job_id FROM system.runtime.jobs WHERE kind = 'stream' AND name = '{name}'");
        let id = world.ask(&ask).trim().to_owned();
        let ended = world.run(&["job", "wait", &id]);
        let logs = text(world.run(&["job", "logs", &id]));
        assert!(ended.status.success(), "{ended:?}\n{logs}");
        (id, logs)
    };
    let (id, logs) =
        job("copy", &format!("SET 'parallelism.default' = '8'; INSERT INTO copies SELECT seq FROM {bounded};"));
    assert!(logs.contains("runs in 6 tasks: partitions to read: 6"), "{logs}");
    check(&copies(&kafka, next), next, "six tasks");
    let refused = world.run(&["sql", "-c", &format!("CALL system.runtime.rescale_job('{id}', 2)")]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("has succeeded"), "{refused:?}");

    let (_, logs) = job(
        "count",
        &format!(
            "CREATE TABLE counts (seq BIGINT, n BIGINT, PRIMARY KEY (seq) NOT ENFORCED)
             WITH ('connector' = 'upsert-kafka', 'topic' = 'counts', 'properties.bootstrap.servers' = '{bootstrap}',
               'key.format' = 'json', 'value.format' = 'json');
             SET 'parallelism.default' = '2';
             INSERT INTO counts SELECT seq, COUNT(*) FROM {bounded} GROUP BY seq;"
        ),
    );
    assert!(logs.contains("runs in 2 tasks"), "{logs}");
    let found = kafka.read("counts", &next.to_string());
    assert_eq!(found.len(), usize::try_from(next).unwrap());
}

//! Stream jobs into folders that no catalog knows: each row is in one file, whoever dies.

use std::time::Duration;

use tereza_runtime::ids;

use crate::jobs::{World, text};
use crate::streams::{Kafka, stream_job, timestamp};
use crate::support::{self, wait_for};

/// Times that the server is killed.
const KILLS: i64 = 3;
const PARTITIONS: i64 = 3;
const ROUND_ROWS: i64 = 3_000;
const DAYS: i64 = 4;
const INTERVALS: &str =
    "SET 'execution.checkpointing.interval' = '100 ms'; SET 'table.exec.sink.commit-interval' = '200 ms';";
/// The rows' own text, with all that a line of CSV has to quote.
const TEXT: &str = "CONCAT('of \"', CAST(seq AS STRING), '\",', CHR(10), 'and more')";

fn rows(from: i64) -> Vec<(i64, String, String)> {
    let row = |seq: i64| {
        let ts = timestamp(seq * 1_000);
        (seq % PARTITIONS, "k".to_owned(), format!("{{\"key\":\"k\",\"seq\":{seq},\"amount\":1,\"ts\":\"{ts}\"}}"))
    };
    (from..from + ROUND_ROWS).map(row).collect()
}

/// A table whose partition keys are not its last columns.
fn out(location: &str, format: &str, more: &str) -> String {
    format!(
        "CREATE TABLE files (d STRING, seq BIGINT, `text` STRING) PARTITIONED BY (d) WITH (
           'connector' = 'filesystem', 'path' = '{location}', 'format' = '{format}'{more});"
    )
}

fn insert() -> String {
    // Of every fourth day nobody knows the name.
    format!(
        "INSERT INTO files SELECT CASE WHEN seq % {DAYS} > 0 THEN CONCAT('a/', CAST(seq % {DAYS} AS STRING)) END, seq, {TEXT} FROM orders;"
    )
}

/// Kills a server with these arguments while rows arrive; `count` is what another reader sees.
fn kill_while_rows_arrive(kafka: &Kafka, arguments: &[String], script: &str, count: impl Fn() -> String) {
    let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    arguments.extend(["--set", "streaming.retry_pause_ms=50"]);
    let mut world = World::start(&arguments);
    text(world.run(&["submit", &world.script(script), "--wait"]));
    let id = stream_job(&world);
    let mut all = 0;
    for _ in 0..KILLS {
        kafka.put("orders", &rows(all));
        all += ROUND_ROWS;
        std::thread::park_timeout(Duration::from_millis(ids::jitter(1_500)));
        world.server.process().kill();
        // What is seen of files is whole, and no row twice.
        let seen = count();
        let numbers: Vec<&str> = seen.trim().split(',').collect();
        assert_eq!(numbers[0], numbers[1], "{seen}");
        world.restart_with(&arguments);
    }
    kafka.put("orders", &rows(all));
    all += ROUND_ROWS;
    let expected = format!("{all},{all},{DAYS}\n");
    wait_for("all rows", || (count() == expected).then_some(()));
    // Who reads the same table as a stream finds them too.
    let read = world.ask("SELECT count(*), count(DISTINCT seq), count(DISTINCT d), count(*) - count(d) FROM files");
    assert_eq!(read, format!("{all},{all},{},{}\n", DAYS - 1, all / DAYS));
    text(world.run(&["job", "cancel", &id]));
    wait_for("the job to end", || text(world.run(&["job", "logs", &id])).contains("cancelled").then_some(()));
    assert_eq!(count(), expected);
}

#[test]
fn rows_are_in_one_file_of_a_folder_whenever_the_server_dies() {
    let (Some(kafka), Some(python)) = (Kafka::start(), support::python()) else { return };
    kafka.topic("orders", PARTITIONS);
    let folder = tempfile::tempdir().unwrap();
    let out_folder = folder.path().join("out");
    let path = out_folder.to_str().unwrap().to_owned();
    let more =
        ", 'sink.partition-commit.trigger' = 'process-time', 'sink.partition-commit.policy.kind' = 'success-file'";
    let script = format!("{}{}{INTERVALS}{}", out(&path, "csv", more), kafka.orders(), insert());
    kill_while_rows_arrive(&kafka, &[], &script, || python.run("folder_rows.py", &[&path]));
    for day in ["d=__DEFAULT_PARTITION__", "d=a%2F1", "d=a%2F2", "d=a%2F3"] {
        assert!(out_folder.join(day).join("_SUCCESS").is_file(), "{day} is not said to be complete");
    }
}

#[test]
fn rows_are_in_one_file_of_a_bucket_whenever_the_server_dies() {
    let (Some(kafka), Some(python), Some(minio)) = (Kafka::start(), support::python(), support::minio()) else {
        return;
    };
    kafka.topic("orders", PARTITIONS);
    let place = format!("{}/out", minio.fresh_bucket());
    let script = format!("{}{}{INTERVALS}{}", out(&format!("s3://{place}"), "json", ""), kafka.orders(), insert());
    kill_while_rows_arrive(&kafka, &minio.arguments(), &script, || {
        python.run("folder_rows.py", &[&place, &minio.endpoint, &minio.access_key, &minio.secret_key])
    });
}

#[test]
fn a_bounded_query_fills_a_folder_of_parquet_and_what_no_file_can_hold_is_refused() {
    let Some(python) = support::python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out").to_str().unwrap().to_owned();
    let world = World::start(&[]);
    let numbers = "CREATE TEMPORARY TABLE numbers (seq BIGINT) WITH ('connector' = 'datagen',
        'fields.seq.kind' = 'sequence', 'fields.seq.start' = '0', 'fields.seq.end' = '999');";
    let script = format!(
        "{}{numbers} INSERT INTO files SELECT CONCAT('a/', CAST(seq % {DAYS} AS STRING)), seq, {TEXT} FROM numbers;",
        out(&path, "parquet", "")
    );
    text(world.run(&["submit", &world.script(&script), "--wait"]));
    let id = stream_job(&world);
    text(world.run(&["job", "wait", &id]));
    assert_eq!(python.run("folder_rows.py", &[&path]), format!("1000,1000,{DAYS}\n"));

    let refused = |options: &str, query: &str, why: &str| {
        let script = format!(
            "CREATE TEMPORARY TABLE other (seq BIGINT, `text` STRING) WITH ('connector' = 'filesystem', 'path' = '{path}/other', {options});
             {numbers} INSERT INTO other {query};"
        );
        let submitted = world.run(&["submit", &world.script(&script), "--wait"]);
        let said =
            format!("{}{}", String::from_utf8_lossy(&submitted.stdout), String::from_utf8_lossy(&submitted.stderr));
        assert!(said.contains(why), "{why} is not in: {said}");
    };
    let one = "SELECT seq, 'x' FROM numbers";
    refused("'format' = 'orc'", one, "format 'orc'");
    refused("'format' = 'csv', 'sink.rolling-policy.file-sise' = '1 MB'", one, "file-sise");
    refused("'format' = 'csv'", "SELECT count(*), 'x' FROM numbers GROUP BY seq % 7", "takes inserts only");
}

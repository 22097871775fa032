//! Stream jobs into partitioned tables: partitions are seen when they are complete, and each row is in one of few files.

use std::path::Path;
use std::time::Duration;

use tereza_runtime::ids;

use crate::jobs::{World, text};
use crate::streams::{Kafka, stream_job, timestamp};
use crate::support::wait_for;

/// Times that the server is killed.
const KILLS: i64 = 4;
const PARTITIONS: i64 = 3;
/// Event time in each of the rounds between two kills, with a row a second in each partition.
const ROUND_SECONDS: i64 = 120;
const MINUTE_ROWS: i64 = 60 * PARTITIONS;

fn row(seq: i64, second: i64) -> (i64, String, String) {
    let ts = timestamp(second * 1_000);
    let value = format!("{{\"key\":\"k\",\"seq\":{seq},\"amount\":1,\"ts\":\"{ts}\"}}");
    (seq % PARTITIONS, "k".to_owned(), value)
}

/// Names of the files of a minute of the table, and whether it is said to be complete.
fn files(folder: &Path, minute: i64) -> (usize, bool) {
    let partition = format!("m=2026-01-01 00%3A{minute:02}");
    let Ok(entries) = std::fs::read_dir(folder.join(partition)) else { return (0, false) };
    let names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    (names.iter().filter(|name| !name.starts_with(['_', '.'])).count(), names.iter().any(|name| name == "_SUCCESS"))
}

#[test]
fn partitions_are_seen_when_they_are_complete_whenever_the_server_dies() {
    let Some(kafka) = Kafka::start() else { return };
    kafka.topic("orders", PARTITIONS);
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("archive");
    let mut world = World::start(&["--set", "streaming.retry_pause_ms=50"]);
    let script = format!(
        "CREATE EXTERNAL TABLE archive (seq BIGINT) PARTITIONED BY (m STRING) STORED AS PARQUET
           LOCATION 'file://{}' TBLPROPERTIES (
             'sink.partition-commit.trigger' = 'partition-time',
             'sink.partition-commit.delay' = '1 min',
             'sink.partition-commit.policy.kind' = 'metastore,success-file',
             'partition.time-extractor.timestamp-pattern' = '$m:00',
             'auto-compaction' = 'true');
         {}
         SET 'execution.checkpointing.interval' = '100 ms';
         SET 'table.exec.sink.commit-interval' = '200 ms';
         INSERT INTO archive SELECT seq, DATE_FORMAT(ts, 'yyyy-MM-dd HH:mm') FROM orders;",
        archive.display(),
        kafka.orders()
    );
    text(world.run(&["submit", &world.script(&script), "--wait"]));
    let id = stream_job(&world);
    let mut seq = 0;
    let mut more = || {
        let rows: Vec<_> = (seq..seq + ROUND_SECONDS * PARTITIONS).map(|seq| row(seq, seq / PARTITIONS)).collect();
        seq += ROUND_SECONDS * PARTITIONS;
        rows
    };
    for _ in 0..KILLS {
        kafka.put("orders", &more());
        std::thread::park_timeout(Duration::from_millis(ids::jitter(1_500)));
        world.server.process().kill();
        world.restart();
        // What is seen of a minute is all of it.
        let counts = world.ask("SELECT count(*), count(DISTINCT seq) FROM archive GROUP BY m");
        let whole = format!("{MINUTE_ROWS},{MINUTE_ROWS}");
        assert!(counts.lines().all(|counts| counts == whole), "{counts}");
    }
    kafka.put("orders", &more());

    // The watermark is in the last minute, and past the end of all before it.
    let last = (KILLS + 1) * ROUND_SECONDS / 60 - 1;
    let ask = "SELECT count(*), count(DISTINCT seq) FROM archive";
    let rows = last * MINUTE_ROWS;
    wait_for("all complete minutes", || (world.ask(ask) == format!("{rows},{rows}\n")).then_some(()));
    wait_for("what says so", || (0..last).all(|minute| files(&archive, minute) == (1, true)).then_some(()));
    let open = wait_for("files of the last minute", || Some(files(&archive, last)).filter(|(files, _)| *files > 0));
    assert!(!open.1, "the last minute is not complete");

    // A late row is seen with its commit, and does not stay in a file of its own.
    kafka.put("orders", &[row(-PARTITIONS, 0)]);
    wait_for("a late row", || (world.ask(ask) == format!("{0},{0}\n", rows + 1)).then_some(()));
    wait_for("its compaction", || (files(&archive, 0) == (1, true)).then_some(()));
    assert_eq!(world.ask(ask), format!("{0},{0}\n", rows + 1));

    // What a job leaves that is cancelled is in its folder.
    let all = rows + MINUTE_ROWS + 1;
    text(world.run(&["job", "cancel", &id]));
    wait_for("the job to end", || text(world.run(&["job", "logs", &id])).contains("cancelled").then_some(()));
    assert_eq!(world.ask(ask), format!("{0},{0}\n", rows + 1));
    text(world.run(&["sql", "-c", "MSCK REPAIR TABLE archive"]));
    assert_eq!(world.ask(ask), format!("{all},{all}\n"));
    assert!(!files(&archive, last).1);
}

//! What stream jobs read that is no topic: rows that are made, and files. Each row is there once, also when the server dies.

use std::path::Path;

use crate::jobs::{World, text};
use crate::support::wait_for;

/// Rows that are made, and how many a second.
const ROWS: u64 = 6_000;
const RATE: u64 = 2_000;
/// Files before and after the server died, and the lines of each.
const FILES: u64 = 12;
const LINES: u64 = 500;

const SETTINGS: &str =
    "SET 'execution.checkpointing.interval' = '50 ms'; SET 'table.exec.sink.commit-interval' = '100 ms';";

fn job(world: &World) -> String {
    let ask = "SELECT job_id FROM system.runtime.jobs WHERE kind = 'stream'";
    wait_for("the stream job", || Some(world.ask(ask)).filter(|id| !id.is_empty())).trim().to_owned()
}

fn count(world: &World, table: &str) -> u64 {
    world.ask(&format!("SELECT count(*) FROM {table}")).trim().parse().unwrap()
}

/// Waits for some rows of a table, but not all, and ends the server.
fn kill_in_the_middle(world: &mut World, table: &str) {
    wait_for("the first rows", || (count(world, table) > 0).then_some(()));
    world.server.process().kill();
    world.restart();
}

#[test]
fn made_rows_are_there_once_when_the_server_dies() {
    let mut world = World::start(&["--set", "streaming.retry_pause_ms=50"]);
    let script = format!(
        "CREATE TABLE kept (n BIGINT, word STRING, moment TIMESTAMP);
         SET tereza.dialect = 'flink';
         CREATE TABLE numbers (n BIGINT, word STRING, moment TIMESTAMP(3)) WITH (
           'connector' = 'datagen', 'rows-per-second' = '{RATE}', 'fields.word.length' = '12',
           'fields.n.kind' = 'sequence', 'fields.n.start' = '1', 'fields.n.end' = '{ROWS}');
         {SETTINGS}
         INSERT INTO kept SELECT n, word, moment FROM numbers;"
    );
    text(world.run(&["submit", &world.script(&script), "--wait"]));
    let id = job(&world);
    kill_in_the_middle(&mut world, "kept");
    let ended = world.run(&["job", "wait", &id]);
    let logs = text(world.run(&["job", "logs", &id]));
    assert!(ended.status.success(), "{ended:?}\n{logs}");
    let ask = "SELECT count(*), count(DISTINCT n), min(n), max(n), sum(n) FROM kept";
    assert_eq!(world.ask(ask), format!("{ROWS},{ROWS},1,{ROWS},{}\n", ROWS * (ROWS + 1) / 2));
    // Each row has its own word and time, whoever made it.
    let ask = "SELECT count(DISTINCT word), min(length(word)), max(length(word)) FROM kept";
    assert_eq!(world.ask(ask), format!("{ROWS},12,12\n"));
    let ask = format!(
        "SELECT count(*) FROM kept a JOIN kept b ON a.n + {RATE} = b.n WHERE b.moment = a.moment + INTERVAL '1' SECOND"
    );
    assert_eq!(world.ask(&ask), format!("{}\n", ROWS - RATE));

    // The batch engine reads one that ends, and refuses one that does not.
    let script = "SET tereza.dialect = 'flink';
        CREATE TABLE few WITH ('number-of-rows' = '100') LIKE numbers;
        CREATE TABLE many (n BIGINT) WITH ('connector' = 'datagen');";
    text(world.run(&["submit", &world.script(script), "--wait"]));
    assert_eq!(world.ask("SELECT count(*), max(n) FROM few"), "100,100\n");
    let refused = world.run(&["sql", "-c", "SELECT count(*) FROM many"]);
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && error.contains("which has no end"), "{error}");
}

/// A file that is there at once, with lines that are nowhere else.
fn put(folder: &Path, file: u64) {
    let lines: String = (file * LINES..(file + 1) * LINES).map(|line| format!("{line},\"line\n{line}\"\n")).collect();
    let hidden = folder.join(format!(".{file}.csv"));
    std::fs::write(&hidden, lines).unwrap();
    std::fs::rename(hidden, folder.join(format!("{file}.csv"))).unwrap();
}

#[test]
fn records_of_files_are_there_once_when_the_server_dies() {
    let mut world = World::start(&["--set", "streaming.retry_pause_ms=50"]);
    let folder = world.folder.path().join("lines");
    std::fs::create_dir(&folder).unwrap();
    let path = folder.to_str().unwrap().to_owned();
    for file in 0..FILES {
        put(&folder, file);
    }
    let script = format!(
        "CREATE TABLE kept (n BIGINT, line STRING, file STRING);
         CREATE TABLE at_once (n BIGINT);
         SET tereza.dialect = 'flink';
         CREATE TABLE lines (n BIGINT, line STRING, `file.name` STRING NOT NULL METADATA VIRTUAL)
           WITH ('connector' = 'filesystem', 'path' = '{path}', 'format' = 'csv');
         {SETTINGS}
         INSERT INTO kept SELECT n, line, `file.name`
           FROM lines /*+ OPTIONS('source.monitor-interval' = '50 ms') */;"
    );
    text(world.run(&["submit", &world.script(&script), "--wait"]));
    let id = job(&world);
    kill_in_the_middle(&mut world, "kept");
    for file in FILES..2 * FILES {
        put(&folder, file);
    }
    let all = 2 * FILES * LINES;
    wait_for("all rows", || (count(&world, "kept") >= all).then_some(()));
    let ask = "SELECT count(*), count(DISTINCT n), max(n), count(DISTINCT line), count(DISTINCT file) FROM kept";
    assert_eq!(world.ask(ask), format!("{all},{all},{},{all},{}\n", all - 1, 2 * FILES));
    text(world.run(&["job", "cancel", &id]));

    // Without the option the job ends with the files that are there, and so does a query.
    assert_eq!(world.ask("SELECT count(*), count(DISTINCT n) FROM lines"), format!("{all},{all}\n"));
    let script = format!("SET tereza.dialect = 'flink'; {SETTINGS} INSERT INTO at_once SELECT n FROM lines;");
    text(world.run(&["submit", &world.script(&script), "--wait"]));
    let ask = format!("SELECT job_id FROM system.runtime.jobs WHERE kind = 'stream' AND job_id <> '{id}'");
    let second = wait_for("the second job", || Some(world.ask(&ask)).filter(|id| !id.is_empty()));
    let ended = world.run(&["job", "wait", second.trim()]);
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(world.ask("SELECT count(*), count(DISTINCT n) FROM at_once"), format!("{all},{all}\n"));

    let script = "SET tereza.dialect = 'flink'; CREATE TEMPORARY TABLE packed (n BIGINT)
         WITH ('connector' = 'filesystem', 'path' = '/packed', 'format' = 'parquet'); INSERT INTO at_once SELECT n FROM packed;";
    let refused = world.run(&["submit", &world.script(script), "--wait"]);
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && error.contains("reading the Parquet files"), "{error}");
}

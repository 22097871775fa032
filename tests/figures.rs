//! Figures that are promised and quick to take: start, first answer, memory when idle. Speed of queries is the bench's.

#![expect(clippy::disallowed_methods, reason = "tests measure real processes by the machine's clock")]

use std::time::{Duration, Instant};

use crate::support::{Cluster, Server, own_bytes, sql, wait_for};

/// From process start to the end of `tereza sql -c 'select 1'`.
const FIRST_ANSWER_MAX: Duration = Duration::from_millis(150);
/// From process start of `tereza up` to ready.
const READY_MAX: Duration = Duration::from_millis(500);
/// Memory that an idle server holds by itself, and an executor.
const IDLE_MAX_BYTES: u64 = 32 << 20;
/// Odd, for a median.
const RUNS: usize = 7;

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

#[test]
fn the_first_answer_is_quick() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let data = folder.path().join("data");
    sql(&data, "select 1");
    let times = (0..RUNS).map(|_| {
        let start = Instant::now();
        assert_eq!(sql(&data, "select 1"), "1\n");
        start.elapsed()
    });
    let time = median(times.collect());
    println!("first answer after {time:?}");
    assert!(time < FIRST_ANSWER_MAX, "{time:?}");
}

#[test]
fn a_server_is_ready_soon_and_idles_light() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let mut idle_bytes = 0;
    let times = (0..RUNS).map(|run| {
        let start = Instant::now();
        let server = Server::start(&folder.path().join(format!("data{run}")), &[]);
        let time = start.elapsed();
        idle_bytes = idle_bytes.max(own_bytes(server.id()));
        time
    });
    let time = median(times.collect());
    println!("ready after {time:?}, {} MB idle", idle_bytes >> 20);
    assert!(time < READY_MAX, "{time:?}");
    assert!(idle_bytes < IDLE_MAX_BYTES, "{idle_bytes} bytes");
}

#[test]
fn a_cluster_idles_light() {
    let cluster = Cluster::start(None, 2);
    let processes =
        [Some(cluster.server.id()), cluster.executor(0), cluster.executor(1)].map(|id| id.expect("it runs"));
    // An executor is at rest some time after its start.
    let idle = wait_for("all to idle light", || {
        let held = processes.map(own_bytes);
        held.iter().all(|bytes| *bytes < IDLE_MAX_BYTES).then_some(held)
    });
    println!("{:?} MB idle", idle.map(|bytes| bytes >> 20));
}

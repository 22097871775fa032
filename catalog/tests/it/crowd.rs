//! Ten thousand clients that are connected and silent, as engines keep connections for hours: another one is served at once,
//! and each of them costs a bounded amount of memory. The metastore is a process of its own, so that its memory is known.

use std::time::Duration;

use tereza_runtime::{clock, open_files};
use tereza_thrift::client::Client;
use tereza_thrift::hive::SetUgiArgs;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::process::Process;
use crate::support::text;

const CONNECTIONS: usize = 10_000;
/// Files that a process has open besides.
const OTHER_FILES: usize = 500;
/// What a connection may cost that never said anything, and one that was answered once.
const SILENT_BYTES_MAX: usize = 16 << 10;
const ANSWERED_BYTES_MAX: usize = 32 << 10;
/// How long another client waits at most, on a busy machine.
const PROMPT: Duration = Duration::from_secs(2);

/// The most files that a process may have open.
fn files_max() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    line.split_whitespace().nth(4).unwrap().parse().unwrap_or(usize::MAX)
}

/// The slowest of some calls.
async fn slowest(client: &mut Client) -> Duration {
    let mut slowest = Duration::ZERO;
    for _ in 0..20 {
        let began = clock::now();
        client.get_all_databases().await.unwrap();
        slowest = slowest.max(began.elapsed());
    }
    slowest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_silent_connections_do_no_harm() {
    open_files::raise_limit();
    let allowed = files_max();
    let count = CONNECTIONS.min(allowed.saturating_sub(OTHER_FILES));
    if count < CONNECTIONS {
        eprintln!("only {count} connections instead of {CONNECTIONS}: this process may open {allowed} files");
    }
    let folder = tempfile::tempdir().unwrap();
    let metastore = Process::start(folder.path());
    let mut client = metastore.client().await;
    slowest(&mut client).await;
    let before = metastore.resident_bytes();
    let per_connection = |resident: usize| resident.saturating_sub(before) / count;

    let mut crowd = Vec::with_capacity(count);
    for _ in 0..count {
        crowd.push(TcpStream::connect(&metastore.address).await.unwrap());
    }
    // The last one is answered, so all of them are accepted.
    let mut last = metastore.client().await;
    last.get_all_databases().await.unwrap();
    let waited = slowest(&mut client).await;
    let silent = per_connection(metastore.resident_bytes());
    println!("{count} silent connections: {silent} bytes each, another client waits {waited:?} at most");
    assert!(waited < PROMPT && silent <= SILENT_BYTES_MAX, "{waited:?}, {silent} bytes each");

    // Each says who it is, is answered, and begins a call that it does not end.
    let hello = ugi_call();
    for stream in &mut crowd {
        stream.write_all(&hello).await.unwrap();
    }
    for stream in &mut crowd {
        assert!(tokio::time::timeout(PROMPT, stream.read(&mut [0; 200])).await.unwrap().unwrap() > 0);
        stream.write_all(&hello[..hello.len() / 2]).await.unwrap();
    }
    let waited = slowest(&mut client).await;
    let answered = per_connection(metastore.resident_bytes());
    println!("{count} connections in a call: {answered} bytes each, another client waits {waited:?} at most");
    assert!(waited < PROMPT && answered <= ANSWERED_BYTES_MAX, "{waited:?}, {answered} bytes each");

    drop(crowd);
    last.set_ugi(SetUgiArgs { user_name: text("ada"), ..SetUgiArgs::default() }).await.unwrap();
    assert!(slowest(&mut client).await < PROMPT);
    metastore.end();
}

/// The bytes of a call of `set_ugi`.
fn ugi_call() -> Vec<u8> {
    let head = b"\x80\x01\x00\x01\x00\x00\x00\x07set_ugi\x00\x00\x00\x01";
    [&head[..], b"\x0b\x00\x01\x00\x00\x00\x03ada\x0f\x00\x02\x0b\x00\x00\x00\x00\x00"].concat()
}

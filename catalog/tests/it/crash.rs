//! A metastore that is killed while clients write: what it acknowledged is there when it is begun again, and what it did not is
//! there whole or not at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tereza_thrift::client::Client;
use tereza_thrift::hive::*;

use crate::process::Process;
use crate::support::{make, make_web, partition, partitioned_table, text};

const WRITERS: usize = 4;
/// Acknowledged calls after which it is killed.
const CALLS: usize = 60;
const ROUNDS: usize = 3;
/// Partitions that come or do not come together.
const TOGETHER: usize = 5;

/// Adds partitions until the metastore is gone; returns how many calls were acknowledged.
async fn write(mut client: Client, table: String, done: Arc<AtomicUsize>) -> usize {
    for call in 0.. {
        let of = |n: usize| partition(&table, &[&format!("c{call}"), &n.to_string(), "2024-01-01"]);
        let new_parts = Some((0..TOGETHER).map(of).collect());
        if client.add_partitions(AddPartitionsArgs { new_parts }).await.is_err() {
            return call;
        }
        done.fetch_add(1, Ordering::SeqCst);
    }
    unreachable!("it ends with the metastore")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_by_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let metastore = Process::start(folder.path());
    make_web(&mut metastore.client().await).await;
    metastore.end();
    for round in 0..ROUNDS {
        let metastore = Process::start(folder.path());
        let done = Arc::new(AtomicUsize::new(0));
        let mut writers = Vec::new();
        for writer in 0..WRITERS {
            let table = format!("t{round}_{writer}");
            let mut client = metastore.client().await;
            make(&mut client, partitioned_table(&table)).await;
            writers.push((table.clone(), tokio::spawn(write(client, table, Arc::clone(&done)))));
        }
        let under_way = async {
            while done.load(Ordering::SeqCst) < CALLS {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(60), under_way).await.expect("writes are acknowledged");
        metastore.kill();
        let metastore = Process::start(folder.path());
        let mut client = metastore.client().await;
        for (table, writer) in writers {
            let acknowledged = writer.await.unwrap();
            let names =
                GetPartitionNamesArgs { db_name: text("web"), tbl_name: Some(table.clone()), max_parts: Some(-1) };
            let there = client.get_partition_names(names).await.unwrap();
            for call in 0..=acknowledged {
                let of_call = format!("ds=c{call}/");
                let count = there.iter().filter(|name| name.starts_with(&of_call)).count();
                // Of the last one nobody knows.
                let is_whole = count == TOGETHER || (call == acknowledged && count == 0);
                assert!(is_whole, "{table}: {count} of call {call}, {acknowledged} are acknowledged");
            }
            assert!(there.len() <= (acknowledged + 1) * TOGETHER, "{table}");
        }
        metastore.end();
    }
}

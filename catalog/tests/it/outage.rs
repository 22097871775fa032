//! A database that is gone for half a minute, seen by clients of the metastore: they wait for a bounded time, are told
//! clearly, and go on by themselves when it is back; and what was acknowledged is there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tereza_catalog::hive;
use tereza_catalog::store::mysql::Settings;
use tereza_catalog::{MySqlStore, Store};
use tereza_runtime::clock::{self, Clock};
use tereza_thrift::client::{self, CallError, Client};
use tereza_thrift::hive::*;
use tokio::net::TcpListener;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::mariadb::OwnServer;
use crate::support::text;

const GONE: Duration = Duration::from_secs(30);
/// How long a client is left waiting: what the store waits for a connection or a transaction, and one more attempt.
const WAIT_MAX: Duration = Duration::from_secs(15);
/// What the database had begun when it was stopped may still be answered.
const SETTLED: Duration = Duration::from_secs(1);
/// How long it may take until calls work again.
const BACK_MAX: Duration = Duration::from_secs(10);

fn settings() -> Settings {
    Settings {
        create: true,
        connect_timeout: Duration::from_secs(3),
        transaction_timeout: Duration::from_secs(5),
        ..Settings::default()
    }
}

fn database(name: &str) -> CreateDatabaseArgs {
    CreateDatabaseArgs { database: Some(Database { name: text(name), ..Database::default() }) }
}

/// Makes databases one after the other until it is told to end; returns those that were acknowledged, and what the longest
/// call took. Each failure has to be one that a client understands, on a connection that goes on.
async fn write(mut client: Client, prefix: &str, ends: Arc<AtomicBool>) -> (Vec<String>, usize, Duration) {
    let (mut acknowledged, mut failures, mut longest) = (Vec::new(), 0, Duration::ZERO);
    for n in 0.. {
        if ends.load(Ordering::SeqCst) {
            break;
        }
        let name = format!("{prefix}{n}");
        let began = clock::now();
        let outcome = client.create_database(database(&name)).await;
        longest = longest.max(began.elapsed());
        match outcome {
            Ok(()) => acknowledged.push(name),
            Err(CallError::Exception(Exception::Meta(exception))) => {
                let message = exception.message.unwrap_or_default();
                assert!(message.contains("mysql://") && !message.contains("ecret"), "{message}");
                failures += 1;
            }
            Err(error) => panic!("{error:?}"),
        }
        sleep(Duration::from_millis(20)).await;
    }
    (acknowledged, failures, longest)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_the_metastore_get_over_a_database_that_is_gone() {
    let Some(mut server) = OwnServer::start().await else { return };
    let at = server.new_database().await;
    let store: Arc<dyn Store> = Arc::new(MySqlStore::open(&at.url(), settings(), Clock::system()).await.unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let drain = CancellationToken::new();
    let serving = hive::serve(listener, store, Arc::new(()), hive::Settings::default(), drain.clone());
    let serving = tokio::spawn(serving);
    let connected = async || Client::connect(&address, client::Settings::default()).await.unwrap();

    let mut all = Vec::new();
    for way in ["killed", "stopped"] {
        let ends = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = (0..4).map(|n| (n, Arc::clone(&ends))).collect();
        let mut tasks = Vec::new();
        for (n, ends) in writers {
            let client = connected().await;
            let prefix = format!("{way}_{n}_");
            tasks.push(tokio::spawn(async move { write(client, &prefix, ends).await }));
        }
        sleep(Duration::from_secs(1)).await;
        match way {
            "killed" => server.kill().await,
            _ => server.stop().await,
        }
        // Whoever comes meanwhile is told too, and can go on asking.
        let mut other = connected().await;
        let away = clock::now();
        let mut asked = 0;
        while away.elapsed() < GONE {
            let began = clock::now();
            match other.get_all_databases().await {
                Err(error) => assert!(matches!(error, CallError::Exception(Exception::Meta(_))), "{error:?}"),
                Ok(_) => assert!(away.elapsed() < SETTLED, "somebody is there"),
            }
            assert!(began.elapsed() < WAIT_MAX, "{:?}", began.elapsed());
            asked += 1;
        }
        match way {
            "killed" => server.begin().await,
            _ => server.go_on().await,
        }
        let back = clock::now();
        while let Err(error) = other.get_all_databases().await {
            assert!(back.elapsed() < BACK_MAX, "{error:?}");
        }
        println!("{way}: {asked} questions while it was gone, answered {:?} after it was back", back.elapsed());
        sleep(Duration::from_secs(2)).await;
        ends.store(true, Ordering::SeqCst);
        for task in tasks {
            let (acknowledged, failures, longest) = task.await.unwrap();
            assert!(failures > 0 && longest < WAIT_MAX, "{failures} failures, the longest call took {longest:?}");
            all.extend(acknowledged);
        }
        let there = other.get_all_databases().await.unwrap();
        let lost: Vec<_> = all.iter().filter(|name| !there.contains(name)).collect();
        assert!(lost.is_empty(), "{way}: of {} acknowledged {lost:?} are lost", all.len());
        assert!(all.iter().any(|name| name.starts_with(way)));
    }
    drain.cancel();
    serving.await.unwrap();
}

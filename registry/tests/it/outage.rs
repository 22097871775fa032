//! A database that is gone for half a minute, seen by clients of the registry: they wait for a bounded time, are told with the
//! protocol's code for it, and go on by themselves when it is back; and what was acknowledged is there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tereza_catalog::MySqlStore;
use tereza_catalog::store::mysql::Settings;
use tereza_runtime::clock::{self, Clock};
use tokio::time::sleep;

use crate::mariadb::OwnServer;
use crate::support::Registry;

const GONE: Duration = Duration::from_secs(30);
/// How long a client is left waiting: what the store waits for a connection or a transaction, and one more attempt.
const WAIT_MAX: Duration = Duration::from_secs(15);
/// How long it may take until requests work again.
const BACK_MAX: Duration = Duration::from_secs(10);
/// What the database had begun when it was stopped may still be answered.
const SETTLED: Duration = Duration::from_secs(1);
/// What a registry answers whose store fails, and one that waited too long for it.
const CODES: [u64; 2] = [50001, 50002];

fn settings() -> Settings {
    Settings {
        create: true,
        connect_timeout: Duration::from_secs(3),
        transaction_timeout: Duration::from_secs(5),
        ..Settings::default()
    }
}

fn schema(name: &str) -> Value {
    json!({ "schema": json!({ "type": "fixed", "name": name, "size": 4 }).to_string() })
}

/// Registers schemas one after the other until it is told to end; returns those that were acknowledged with their ids.
async fn write(registry: &Registry, prefix: &str, ends: &AtomicBool) -> (Vec<(String, i64)>, usize) {
    let (mut acknowledged, mut failures) = (Vec::new(), 0);
    for n in 0.. {
        if ends.load(Ordering::SeqCst) {
            break;
        }
        let name = format!("{prefix}{n}");
        let began = clock::now();
        let (status, answer) = registry.send("POST", &format!("/subjects/{name}/versions"), Some(&schema(&name))).await;
        assert!(began.elapsed() < WAIT_MAX, "{:?}", began.elapsed());
        match answer["id"].as_i64() {
            Some(id) => acknowledged.push((name, id)),
            None => {
                assert!(is_told(status, &answer), "{status} {answer}");
                failures += 1;
            }
        }
        sleep(Duration::from_millis(20)).await;
    }
    (acknowledged, failures)
}

fn is_told(status: u16, answer: &Value) -> bool {
    let message = answer["message"].as_str().unwrap_or_default();
    let code = answer["error_code"].as_u64().unwrap_or_default();
    status == 500 && CODES.contains(&code) && !message.contains("ecret")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_the_registry_get_over_a_database_that_is_gone() {
    let Some(mut server) = OwnServer::start().await else { return };
    let at = server.new_database().await;
    let store = MySqlStore::open(&at.url(), settings(), Clock::system()).await.expect("a store");
    let folder = tempfile::tempdir().expect("a folder");
    let registry = Registry::over(Arc::new(store), folder, Default::default(), Default::default()).await;
    let mut all = Vec::new();
    for (way, gone) in [("killed", GONE), ("stopped", GONE / 2)] {
        let ends = AtomicBool::new(false);
        let prefixes: Vec<String> = (0..4).map(|n| format!("{way}_{n}_")).collect();
        let writers = prefixes.iter().map(|prefix| write(&registry, prefix, &ends));
        let outage = async {
            sleep(Duration::from_secs(1)).await;
            match way {
                "killed" => server.kill().await,
                _ => server.stop().await,
            }
            let away = clock::now();
            while away.elapsed() < gone {
                let began = clock::now();
                let (status, answer) = registry.send("GET", "/subjects", None).await;
                let is_late = status == 200 && away.elapsed() < SETTLED;
                assert!(is_late || is_told(status, &answer), "{status} {answer}");
                assert!(began.elapsed() < WAIT_MAX, "{:?}", began.elapsed());
            }
            match way {
                "killed" => server.begin().await,
                _ => server.go_on().await,
            }
            let back = clock::now();
            while registry.send("GET", "/subjects", None).await.0 != 200 {
                assert!(back.elapsed() < BACK_MAX);
            }
            println!("{way}: answered {:?} after the database was back", back.elapsed());
            sleep(Duration::from_secs(2)).await;
            ends.store(true, Ordering::SeqCst);
        };
        let (written, ()) = tokio::join!(futures::future::join_all(writers), outage);
        for (acknowledged, failures) in written {
            assert!(failures > 0 && !acknowledged.is_empty(), "{way}: {failures} of {}", acknowledged.len());
            all.extend(acknowledged);
        }
        for (name, id) in &all {
            let found = registry.get(&format!("/subjects/{name}/versions/1")).await;
            let text = found["schema"].as_str().unwrap_or_default();
            assert!(found["id"].as_i64() == Some(*id) && text.contains(&format!("\"{name}\"")), "{name}: {found}");
        }
    }
    registry.end().await;
}

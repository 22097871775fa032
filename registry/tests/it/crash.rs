//! A process that registers schemas is killed: what it had acknowledged is there.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use tereza_catalog::store::schemas::SubjectName;
use tereza_catalog::{SchemaStore, SqliteStore};
use tereza_registry::Service;
use tereza_registry::model::SchemaRequest;
use tereza_registry::service::{Normalize, Settings};
use tereza_runtime::clock::Clock;

const FOLDER: &str = "TEREZA_TEST_CRASH_FOLDER";
/// How many acknowledged registrations it lives for.
const REGISTRATIONS: usize = 40;

fn name(n: usize) -> SubjectName {
    SubjectName { context: ".".into(), subject: format!("s{}", n % 7) }
}

fn schema(n: usize) -> SchemaRequest {
    let text = format!("{{\"type\":\"fixed\",\"name\":\"F{n}\",\"size\":4}}");
    SchemaRequest { schema: Some(text), ..SchemaRequest::default() }
}

async fn open(folder: &Path) -> (SqliteStore, Service) {
    let store = SqliteStore::open(folder.join("catalog.db"), Clock::system()).await.expect("a store");
    (store.clone(), Service::new(Arc::new(store), Settings::default()))
}

/// Not a test: what the test runs in a process of its own, and kills.
#[tokio::test]
async fn registers_until_it_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let (_, service) = open(Path::new(&folder)).await;
    service
        .put_config(None, &tereza_registry::json::Json::parse("{\"compatibility\": \"NONE\"}").expect("json"))
        .await
        .expect("set");
    for n in 0.. {
        let registered = service.register(name(n), &schema(n), Normalize::default()).await.expect("registered");
        println!("registered {n} {} {}", registered.id.expect("an id"), registered.version.expect("a version"));
    }
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_by_a_kill() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "crash::registers_until_it_is_killed", "--nocapture"])
        .env(FOLDER, folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a process");
    let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let mut acknowledged = Vec::new();
    for line in lines.map_while(Result::ok) {
        let Some((_, numbers)) = line.split_once("registered ") else { continue };
        let numbers: Vec<i32> = numbers.split(' ').map(|number| number.parse().expect("a number")).collect();
        acknowledged.push(numbers);
        if acknowledged.len() == REGISTRATIONS {
            child.kill().expect("killed");
        }
    }
    child.wait().expect("ended");
    assert!(acknowledged.len() >= REGISTRATIONS, "{}", acknowledged.len());
    let (store, service) = open(folder.path()).await;
    for numbers in &acknowledged {
        let [n, id, version] = numbers.as_slice() else { panic!("{numbers:?}") };
        let n = usize::try_from(*n).expect("a number");
        let found = service.version(name(n), &version.to_string(), false, None).await.expect("it is there");
        assert_eq!((found.id, Some(&found.schema)), (Some(*id), schema(n).schema.as_ref()));
    }
    let next = acknowledged.len() + 1_000;
    let registered = service.register(name(next), &schema(next), Normalize::default()).await.expect("goes on");
    assert!(registered.id > acknowledged.iter().map(|numbers| Some(numbers[1])).max().expect("some"));
    assert_eq!(store.subject(&name(next)).await.expect("asked").last_version, registered.version.expect("a version"));
}

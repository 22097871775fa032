//! A process that registers schemas, or lets clients register them, is killed: what it had acknowledged is there.

use std::io::{BufRead, BufReader, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tereza_catalog::store::schemas::SubjectName;
use tereza_catalog::{SchemaStore, SqliteStore};
use tereza_registry::model::SchemaRequest;
use tereza_registry::service::{Normalize, Settings};
use tereza_registry::{Service, rest};
use tereza_runtime::clock::Clock;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const FOLDER: &str = "TEREZA_TEST_CRASH_FOLDER";
const SERVED: &str = "TEREZA_TEST_CRASH_SERVED_FOLDER";
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

/// Not a test: the registry that the test below kills.
#[tokio::test]
async fn serves_until_it_is_killed() {
    let Some(folder) = std::env::var_os(SERVED) else { return };
    let (_, service) = open(Path::new(&folder)).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    println!("served at {}", listener.local_addr().expect("an address"));
    rest::serve(listener, service, rest::Settings::default(), CancellationToken::new()).await.expect("served");
}

#[tokio::test]
async fn nothing_that_clients_were_told_is_lost_by_a_kill() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "crash::serves_until_it_is_killed", "--nocapture"])
        .env(SERVED, folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a process");
    let mut output = BufReader::new(child.stdout.take().expect("its output"));
    let mut lines = output.by_ref().lines().map_while(Result::ok);
    let address = lines.find_map(|line| line.split_once("served at ").map(|(_, address)| address.to_owned()));
    let url = format!("http://{}", address.expect("an address"));
    let acknowledged = Mutex::new(Vec::new());
    let register = async |client: usize| {
        let http = reqwest::Client::new();
        for n in 0.. {
            let subject = format!("c{client}_{n}");
            let schema = format!("{{\"type\":\"fixed\",\"name\":\"{subject}\",\"size\":4}}");
            let body = serde_json::json!({ "schema": schema }).to_string();
            let request = http.post(format!("{url}/subjects/{subject}/versions")).body(body);
            let request = request.header("content-type", "application/json");
            let answer = async { request.send().await?.text().await };
            // The registry is gone.
            let Ok(text) = answer.await else { return };
            let answer: serde_json::Value = serde_json::from_str(&text).expect("a whole answer");
            let id = answer["id"].as_i64().and_then(|id| i32::try_from(id).ok()).expect("an id");
            acknowledged.lock().expect("no panic").push((subject, id, schema));
        }
    };
    let killing = async {
        let under_way = async {
            while acknowledged.lock().expect("no panic").len() < REGISTRATIONS {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), under_way).await.expect("registrations are acknowledged");
        child.kill().expect("killed");
    };
    tokio::join!(futures::future::join_all((0..4).map(register)), killing);
    child.wait().expect("ended");
    let (_, service) = open(folder.path()).await;
    for (subject, id, schema) in acknowledged.into_inner().expect("no panic") {
        let name = SubjectName { context: ".".into(), subject };
        let found = service.version(name, "1", false, None).await.expect("it is there");
        assert_eq!((found.id, found.schema), (Some(id), schema));
    }
}

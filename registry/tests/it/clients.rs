//! Clients of others, where they are installed: each runs a program against our registry and must find all it asks for.
//!
//! `TEREZA_TEST_PYTHON` may name an interpreter that has `confluent-kafka[avro,json,protobuf,schemaregistry]`,
//! `TEREZA_TEST_NODE_MODULES` a folder with what `clients/package.json` lists, and `TEREZA_TEST_RUST_REGISTRY_CLIENT` the
//! program of `registry/rust_client`. `scripts/test-setup.sh` makes all three. If one is missing, its test is skipped with
//! a line that says so.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use crate::support::Registry;

/// Longer than a program takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);

const IMPORTS: &str = "import confluent_kafka.schema_registry.avro, confluent_kafka.schema_registry.json_schema, \
                       confluent_kafka.schema_registry.protobuf";

/// Gives the program the URL of a new registry; its last line has to be `ok`.
async fn is_answered(mut command: Command) {
    let registry = Registry::start().await;
    command.arg(registry.url()).stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(PATIENCE, command.output()).await.expect("in time").expect("run");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && stdout.trim_end().ends_with("ok"), "{stdout}\n{stderr}");
    registry.end().await;
}

/// What the variable names, if it is there.
fn installed(variable: &str) -> Option<PathBuf> {
    let found = std::env::var_os(variable).map(PathBuf::from).filter(|path| path.exists());
    if found.is_none() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{variable} names nothing that is there");
        eprintln!("skipped: {variable} names nothing that is there");
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn confluents_python_client_is_answered() {
    let python = std::env::var("TEREZA_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let probe = Command::new(&python).args(["-c", IMPORTS]).stderr(Stdio::null()).status().await;
    if !probe.is_ok_and(|status| status.success()) {
        assert!(std::env::var_os("TEREZA_TEST_PYTHON").is_none(), "TEREZA_TEST_PYTHON: {python} cannot {IMPORTS}");
        eprintln!("skipped: {python} cannot {IMPORTS}; TEREZA_TEST_PYTHON may name one that can");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let script = folder.path().join("check.py");
    std::fs::write(&script, include_str!("clients/confluent_check.py")).expect("written");
    let mut command = Command::new(&python);
    command.arg(&script);
    is_answered(command).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn javascript_clients_are_answered() {
    let Some(modules) = installed("TEREZA_TEST_NODE_MODULES") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let script = folder.path().join("check.js");
    std::fs::write(&script, include_str!("clients/confluent_check.js")).expect("written");
    let mut command = Command::new("node");
    command.env("NODE_PATH", modules).arg(&script);
    is_answered(command).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rust_client_is_answered() {
    let Some(program) = installed("TEREZA_TEST_RUST_REGISTRY_CLIENT") else { return };
    is_answered(Command::new(program)).await;
}

//! Clients of others, where they are installed: each runs a script against our metastore and must find all it asks for.
//!
//! `TEREZA_TEST_PYTHON` may name an interpreter that has `pymetastore` and `pyiceberg[hive]`, `TEREZA_TEST_SPARK` one that has
//! `pyspark` with Java, and `TEREZA_TEST_HIVE_CLASSPATH` the jars of Hive 4's client and what it needs. A client that is
//! missing is skipped with a line that says so.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use crate::support::Metastore;

/// Longer than Spark takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(600);

#[tokio::test]
async fn pymetastore_is_answered() {
    run("TEREZA_TEST_PYTHON", "import pymetastore", include_str!("clients/pymetastore_check.py")).await;
}

#[tokio::test]
async fn pyiceberg_is_answered() {
    run("TEREZA_TEST_PYTHON", "import pyiceberg.catalog.hive", include_str!("clients/pyiceberg_check.py")).await;
}

#[tokio::test]
async fn spark_is_answered() {
    run("TEREZA_TEST_SPARK", "import pyspark", include_str!("clients/spark_check.py")).await;
}

#[tokio::test]
async fn hives_own_client_is_answered() {
    let Ok(jars) = std::env::var("TEREZA_TEST_HIVE_CLASSPATH") else {
        eprintln!("skipped: TEREZA_TEST_HIVE_CLASSPATH may name the jars of Hive 4's client");
        return;
    };
    let metastore = Metastore::new().await;
    let source = metastore.folder.path().join("HiveCheck.java");
    std::fs::write(&source, include_str!("clients/HiveCheck.java")).unwrap();
    let mut java = Command::new("java");
    java.args(["-cp", &jars]).arg(source).arg(format!("thrift://{}", metastore.address));
    check(java, metastore).await;
}

/// Runs a script with the metastore's URI and its warehouse.
async fn run(variable: &str, import: &str, script: &str) {
    let python = std::env::var(variable).unwrap_or_else(|_| "python3".to_owned());
    let probe = Command::new(&python).args(["-c", import]).stderr(Stdio::null()).status().await;
    if !probe.is_ok_and(|status| status.success()) {
        assert!(std::env::var_os(variable).is_none(), "{variable}: {python} cannot {import}");
        eprintln!("skipped: {python} cannot {import}; {variable} may name one that can");
        return;
    }
    let metastore = Metastore::new().await;
    let uri = format!("thrift://{}", metastore.address);
    let mut command = Command::new(&python);
    command.args(["-c", script, &uri, &metastore.warehouse()]);
    check(command, metastore).await;
}

/// Runs a client, which ends badly if anything was not as expected, and must not ask for what is not there.
async fn check(mut command: Command, metastore: Metastore) {
    // What clients leave behind, such as Derby's files, goes with the folder.
    command.current_dir(metastore.folder.path()).stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(PATIENCE, command.output()).await.expect("the client waits").unwrap();
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{complained}");
    assert_eq!(*metastore.calls.0.lock().unwrap(), [].into(), "methods that are not there");
    metastore.end().await;
}

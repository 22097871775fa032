//! Clients of others, where they are installed: each runs a script against our metastore and must find all it asks for.
//!
//! `TEREZA_TEST_PYTHON` may name an interpreter that has `pymetastore` and `pyiceberg[hive]`, `TEREZA_TEST_SPARK` one that has
//! `pyspark` with Java, and `TEREZA_TEST_HIVE_CLASSPATH` the jars of Hive 4's client and what it needs. A client that is
//! missing is skipped with a line that says so. `TEREZA_TEST_ICEBERG_CLASSPATH` may name `iceberg-spark-runtime` and the jars of the
//! same `pyspark`, `TEREZA_TEST_FLINK_CLASSPATH` the jars of Flink 1.20 with `flink-sql-connector-hive-2.3.10` and Hadoop's client,
//! and `TEREZA_TEST_RUST_METASTORE_CLIENT` the program of `catalog/rust_client`.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tereza_thrift::hive::*;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use crate::support::{Metastore, text};

/// Longer than Spark takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long a lock is kept that nobody renews, unless settings say otherwise.
const LOCK_TIMEOUT_MS: i64 = 300_000;

#[tokio::test]
async fn pymetastore_is_answered() {
    run("TEREZA_TEST_PYTHON", "import pymetastore", include_str!("clients/pymetastore_check.py")).await;
}

#[tokio::test]
async fn pyiceberg_is_answered() {
    run("TEREZA_TEST_PYTHON", "import pyiceberg.catalog.hive", include_str!("clients/pyiceberg_check.py")).await;
}

/// Two processes of PyIceberg commit to one table, by locks and by comparing: nothing is lost.
#[tokio::test]
async fn commits_to_an_iceberg_table_are_not_lost() {
    let Some(python) = python().await else { return };
    let metastore = Metastore::new().await;
    let command = script(&python, &metastore, "iceberg_commits.py", include_str!("clients/iceberg_commits.py"));
    check(command, metastore).await;
}

/// The same with Iceberg itself.
#[tokio::test]
async fn commits_of_iceberg_in_java_are_not_lost() {
    let Ok(jars) = std::env::var("TEREZA_TEST_ICEBERG_CLASSPATH") else {
        eprintln!("skipped: TEREZA_TEST_ICEBERG_CLASSPATH may name Iceberg's runtime for Spark and Spark's own jars");
        return;
    };
    let metastore = Metastore::new().await;
    let source = metastore.folder.path().join("IcebergCommits.java");
    std::fs::write(&source, include_str!("clients/IcebergCommits.java")).unwrap();
    let mut java = Command::new("java");
    java.args(["-Xmx256m", "-cp", &jars]).arg(&source).arg(format!("thrift://{}", metastore.address));
    java.arg(metastore.warehouse()).arg(&source);
    check(java, metastore).await;
}

#[tokio::test]
async fn the_lock_of_a_dead_client_is_given_back() {
    let Some(python) = python().await else { return };
    let metastore = Metastore::new().await;
    let mut client = metastore.client().await;
    let component = LockComponent {
        r#type: LockType::EXCLUSIVE,
        dbname: "default".into(),
        tablename: text("held"),
        ..LockComponent::default()
    };
    let lock = LockArgs { rqst: Some(LockRequest { component: vec![component], ..LockRequest::default() }) };
    for is_asked_for in [false, true] {
        let mut command = script(&python, &metastore, "lock_left.py", include_str!("clients/lock_left.py"));
        let mut owner = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(owner.stdout.take().unwrap()).lines();
        let id =
            timeout(PATIENCE, said.next_line()).await.expect("the client waits").unwrap().expect("it has the lock");
        let id: i64 = id.parse().unwrap();
        owner.kill().await.unwrap();
        let second = client.lock(lock.clone()).await.unwrap();
        assert_eq!(second.state, LockState::WAITING);
        if is_asked_for {
            // Whoever knows its number, which `show_locks` tells, may give it back.
            client.unlock(UnlockArgs { rqst: Some(UnlockRequest { lockid: id }) }).await.unwrap();
        } else {
            metastore.clock.advance_ms(LOCK_TIMEOUT_MS - 1_000);
            let heartbeat = HeartbeatRequest { lockid: Some(second.lockid), txnid: None };
            client.heartbeat(HeartbeatArgs { ids: Some(heartbeat) }).await.unwrap();
            metastore.clock.advance_ms(2_000);
        }
        let request = CheckLockRequest { lockid: second.lockid, ..CheckLockRequest::default() };
        let state = client.check_lock(CheckLockArgs { rqst: Some(request) }).await.unwrap().state;
        assert_eq!(state, LockState::ACQUIRED, "given back by hand: {is_asked_for}");
        client.unlock(UnlockArgs { rqst: Some(UnlockRequest { lockid: second.lockid }) }).await.unwrap();
    }
    metastore.end().await;
}

/// The crate `hive_metastore`, by the program of `catalog/rust_client`.
#[tokio::test]
async fn a_rust_client_is_answered() {
    const VARIABLE: &str = "TEREZA_TEST_RUST_METASTORE_CLIENT";
    let Some(program) = std::env::var_os(VARIABLE).filter(|path| Path::new(path).exists()) else {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{VARIABLE} names nothing that is there");
        eprintln!("skipped: {VARIABLE} may name what scripts/test-setup.sh builds of catalog/rust_client");
        return;
    };
    let metastore = Metastore::new().await;
    let mut command = Command::new(program);
    command.arg(metastore.address.to_string());
    check(command, metastore).await;
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

/// Flink's catalog of Hive's tables, with the client of 2.3.
#[tokio::test]
async fn flink_is_answered() {
    let Ok(jars) = std::env::var("TEREZA_TEST_FLINK_CLASSPATH") else {
        eprintln!("skipped: TEREZA_TEST_FLINK_CLASSPATH may name the jars of Flink 1.20 and of its connector to Hive");
        return;
    };
    let metastore = Metastore::new().await;
    let source = metastore.folder.path().join("FlinkCheck.java");
    std::fs::write(&source, include_str!("clients/FlinkCheck.java")).unwrap();
    let mut java = Command::new("java");
    java.args(["-Xmx512m", "-cp", &jars]).arg(source).arg(format!("thrift://{}", metastore.address));
    check(java, metastore).await;
}

/// The Python that has `pyiceberg`, if there is one.
async fn python() -> Option<String> {
    interpreter("TEREZA_TEST_PYTHON", "import pyiceberg.catalog.hive").await
}

/// The interpreter that a variable names, or the usual one, if it can import something.
pub(crate) async fn interpreter(variable: &str, import: &str) -> Option<String> {
    let python = std::env::var(variable).unwrap_or_else(|_| "python3".to_owned());
    let probe = Command::new(&python).args(["-c", import]).stderr(Stdio::null()).status().await;
    if probe.is_ok_and(|status| status.success()) {
        return Some(python);
    }
    assert!(std::env::var_os(variable).is_none(), "{variable}: {python} cannot {import}");
    eprintln!("skipped: {python} cannot {import}; {variable} may name one that can");
    None
}

/// A script that lies in the folder of the metastore, to be run with its URI and warehouse.
fn script(python: &str, metastore: &Metastore, name: &str, source: &str) -> Command {
    let path = metastore.folder.path().join(name);
    std::fs::write(&path, source).unwrap();
    let mut command = Command::new(python);
    command.arg(path).arg(format!("thrift://{}", metastore.address)).arg(metastore.warehouse()).kill_on_drop(true);
    command
}

/// Runs a script with the metastore's URI and its warehouse.
async fn run(variable: &str, import: &str, script: &str) {
    let Some(python) = interpreter(variable, import).await else { return };
    let metastore = Metastore::new().await;
    let command = self::script(&python, &metastore, "check.py", script);
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

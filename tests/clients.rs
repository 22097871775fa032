//! Unmodified clients against a running server: ADBC, JDBC and arrow-flight's own.

use std::path::Path;
use std::process::Command;

use crate::support::{Cluster, Server, flight, jdbc_driver, python};

/// A server may hold this much while it sends a result of any size.
const RSS_MAX_BYTES: u64 = 600 << 20;

#[test]
fn adbc() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().expect("temporary folder");
    let server = Server::start(&folder.path().join("data"), &[]);
    let address = server.flight_sql.replace("http://", "grpc://");
    let printed = python.run("adbc_check.py", &[&address]);
    println!("{printed}");
    assert!(printed.lines().filter(|line| line.starts_with("ok ")).count() >= 13, "{printed}");
    assert!(server.rss_bytes() < RSS_MAX_BYTES, "{} bytes after the big result", server.rss_bytes());
}

#[test]
fn jdbc() {
    let Some(driver) = jdbc_driver() else { return };
    let folder = tempfile::tempdir().expect("temporary folder");
    let server = Server::start(&folder.path().join("data"), &[]);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/jdbc/Check.java");
    let output = Command::new("java")
        .arg("--add-opens=java.base/java.nio=ALL-UNNAMED")
        .arg("-Xmx512m")
        .arg("-cp")
        .arg(driver)
        .arg(source)
        .arg(server.flight_sql.replace("http://", ""))
        .output()
        .expect("java starts");
    let printed = String::from_utf8_lossy(&output.stdout);
    println!("{printed}");
    assert!(output.status.success(), "{printed}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(printed.lines().filter(|line| line.starts_with("ok ")).count() >= 8, "{printed}");
    assert!(server.rss_bytes() < RSS_MAX_BYTES, "{} bytes after the big result", server.rss_bytes());
}

#[test]
fn adbc_and_jdbc_on_executors() {
    let (Some(python), Some(driver)) = (python(), jdbc_driver()) else { return };
    let cluster = Cluster::start(None, 2);
    let url = &cluster.server.flight_sql;
    let printed = python.run("adbc_cluster.py", &[&url.replace("http://", "grpc://")]);
    assert_eq!(printed.trim(), "ok");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/jdbc/Cluster.java");
    let mut java = Command::new("java");
    java.args(["--add-opens=java.base/java.nio=ALL-UNNAMED", "-cp"]).arg(driver).arg(source);
    let output = java.arg(url.replace("http://", "")).output().expect("java starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "60175\ncluster\n");
}

#[test]
fn arrow_flight() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let server = Server::start(&folder.path().join("data"), &[]);
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    runtime.block_on(async {
        let mut session = flight::Session::open(&server.flight_sql).await;
        let (schema, batches) =
            session.run("select n_name, n_regionkey from tpch.tiny.nation order by 1 limit 3").await.expect("rows");
        assert_eq!(schema.field(0).data_type(), &arrow::datatypes::DataType::Utf8);
        assert_eq!(batches.iter().map(|batch| batch.num_rows()).sum::<usize>(), 3);
        let error = session.run("select nonsense from tpch.tiny.nation").await.expect_err("no such column");
        assert!(error.to_string().contains("nonsense"), "{error}");
    });
}

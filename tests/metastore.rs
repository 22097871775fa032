//! The catalog's other doors: clients of a Hive Metastore and of a Schema Registry beside clients of SQL.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use tereza_runtime::clock;

use crate::support::{self, Server, own_bytes, python, spark, sql, tereza};

/// From process start to ready.
const START: Duration = Duration::from_millis(500);
/// Resident memory of a catalog that nobody asks.
const IDLE_BYTES: u64 = 30 << 20;

#[test]
fn spark_and_tereza_read_what_the_other_wrote() {
    let Some(spark) = spark() else { return };
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Server::start(&data, &[]);
    let warehouse = format!("file:{}", data.join("warehouse").display());
    let arguments = [&server.endpoint("metastore"), &warehouse, env!("CARGO_BIN_EXE_tereza"), &server.flight_sql];
    spark.run_in(folder.path(), "metastore/spark.py", &arguments);
}

#[test]
fn a_catalog_alone_is_light_and_can_be_copied() {
    let folder = tempfile::tempdir().unwrap();
    let (data, copy) = (folder.path().join("data"), folder.path().join("copy"));
    sql(&data, "CREATE SCHEMA web COMMENT 'of the site'");
    sql(
        &data,
        "CREATE TABLE web.hits PARTITIONED BY (day) AS SELECT x AS id, x % 5 AS day FROM generate_series(1, 100) AS s(x)",
    );
    sql(&data, "ANALYZE TABLE web.hits");
    let began = clock::now();
    let mut server = Server::start_catalog(&data, &[]);
    let took = began.elapsed();
    assert!(took < START, "{took:?}");
    let url = server.endpoint("metastore");

    let report = text(import(&copy, &url, &[]));
    assert!(report.starts_with("new: 2 databases, 1 tables and views, 5 partitions, 0 functions\n"), "{report}");
    assert_eq!(sql(&copy, "SELECT count(*), sum(id), count(DISTINCT day) FROM web.hits"), "100,5050,5\n");
    assert_eq!(sql(&copy, "SHOW PARTITIONS web.hits"), sql_of(&data, &mut server, "SHOW PARTITIONS web.hits"));
    server = Server::start_catalog(&data, &[]);
    let url = server.endpoint("metastore");
    let again = text(import(&copy, &url, &["--database", "web"]));
    assert!(again.starts_with("new: 0 databases, 0 tables and views, 0 partitions, 0 functions\n"), "{again}");
    assert!(again.contains("there already: 2, of which 0 differ"), "{again}");

    assert_eq!(import(&copy, &url, &["--database", "nope"]).status.code(), Some(1));
    assert_eq!(import(&copy, "http://127.0.0.1:1", &[]).status.code(), Some(2));
    let held = own_bytes(server.id());
    println!("ready in {took:?}, {} MB", held >> 20);
    assert!(held < IDLE_BYTES, "{held} bytes");
    assert_eq!(server.terminate(), Some(0));
    let gone = import(&copy, &url, &[]);
    assert_eq!(gone.status.code(), Some(3), "{}", String::from_utf8_lossy(&gone.stderr));
}

#[test]
fn schemas_outlive_their_server() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut server = Server::start(&data, &[]);
    let message = python.run("metastore/registry.py", &[&server.endpoint("registry"), "put"]);
    server.process().kill();
    let server = Server::start_catalog(&data, &[]);
    let found = python.run("metastore/registry.py", &[&server.endpoint("registry"), "get", message.trim()]);
    assert_eq!(found, "ok\n");
}

#[test]
fn a_catalog_that_does_not_answer_is_named_without_its_password() {
    let folder = tempfile::tempdir().unwrap();
    let url = "catalog.url=mysql://ada:hunter2@127.0.0.1:1/metastore";
    let output = tereza().args(["config", "show", "--set", url]).output().unwrap();
    assert!(!String::from_utf8_lossy(&output.stdout).contains("hunter2"));
    let output = support::sql_output(&folder.path().join("data"), &["--set", url], "SELECT 1");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("127.0.0.1:1/metastore") && !errors.contains("hunter2"), "{errors}");
    assert_eq!(output.status.code(), Some(3));
}

/// Copies from `url` into the catalog of a data folder.
fn import(data: &Path, url: &str, more: &[&str]) -> Output {
    let mut command = tereza();
    command.args(["catalog", "import", "--from", url, "--data"]).arg(data).args(more);
    command.output().unwrap()
}

fn text(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What the data folder of a server says, which ends for it.
fn sql_of(data: &Path, server: &mut Server, statement: &str) -> String {
    assert_eq!(server.terminate(), Some(0));
    sql(data, statement)
}

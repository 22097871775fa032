//! The catalog's other doors: clients of a Hive Metastore and of a Schema Registry beside clients of SQL.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use tereza_engine::fail_point;
use tereza_runtime::clock;
use tereza_thrift::client::Client;
use tereza_thrift::hive::{LockArgs, LockComponent, LockRequest, LockType};
use tokio::runtime::Runtime;

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
    assert!(again.contains("there already: 2; 0 differ"), "{again}");

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

/// Its tables are read and written in place, and no death at any step of a write loses a row or shows one twice.
#[test]
fn a_running_metastore_is_a_catalog() {
    const ROWS: &str = "SELECT l_orderkey AS k, l_comment, l_linenumber AS n FROM tpch.\"sf0.01\".lineitem";
    let folder = tempfile::tempdir().unwrap();
    let theirs = folder.path().join("theirs");
    sql(&theirs, "CREATE SCHEMA web; CREATE TABLE web.hits (id bigint, name string) PARTITIONED BY (day string)");
    sql(&theirs, "INSERT INTO web.hits VALUES (1, 'a', 'x'), (2, 'b', 'y')");
    let mut server = Server::start_catalog(&theirs, &[]);
    let url = format!("catalog.url={}", server.endpoint("metastore"));
    let mine = folder.path().join("mine");
    let run = |statement: &str, dies_at: Option<&str>| {
        let mut command = tereza();
        command.arg("sql").arg("--data").arg(&mine).args(["--format", "csv", "--set", &url, "-c", statement]);
        if let Some(place) = dies_at {
            command.env(fail_point::VARIABLE, place);
        }
        command.output().unwrap()
    };
    let ask = |statement: &str| -> String {
        let answer = text(run(statement, None));
        answer.lines().skip(1).map(|line| format!("{line}\n")).collect()
    };
    assert_eq!(ask("SELECT id, name, day FROM web.hits ORDER BY id"), "1,a,x\n2,b,y\n");
    ask("INSERT INTO web.hits VALUES (3, 'c', 'y'), (4, 'd', 'z')");
    ask("INSERT OVERWRITE web.hits VALUES (5, 'e', 'x')");
    ask("ALTER TABLE web.hits ADD COLUMN more int");
    ask("INSERT INTO web.hits VALUES (6, 'f', 60, 'z')");
    ask("ANALYZE TABLE web.hits COMPUTE STATISTICS");
    ask("CREATE SCHEMA shop; CREATE TABLE shop.made AS SELECT 1 AS one");
    ask("CREATE VIEW shop.seen AS SELECT one FROM shop.made");
    assert_eq!(ask("SELECT one FROM shop.seen"), "1\n");
    assert!(!run("CREATE TABLE web.hits (id int)", None).status.success());

    ask("CREATE TABLE web.t (k bigint, l_comment string) PARTITIONED BY (n int)");
    let rows: u64 = ask(&format!("SELECT count(*) FROM ({ROWS}) AS l")).trim().parse().unwrap();
    let mut expected = 0;
    let steps = fail_point::BEFORE_COMMIT_POINT.map(|step| (step, false)).into_iter();
    for (step, is_committed) in steps.chain(fail_point::AFTER_COMMIT_POINT.map(|step| (step, true))) {
        let died = run(&format!("INSERT INTO web.t {ROWS}"), Some(step));
        assert_eq!(died.status.code(), None, "{step}: {died:?}");
        expected += if is_committed { rows } else { 0 };
        assert_eq!(ask("SELECT count(*) FROM web.t"), format!("{expected}\n"), "{step}");
    }
    // Everything is where the metastore's own process finds it.
    let expected = format!("{expected},7\n");
    let found = sql_of(&theirs, &mut server, "SELECT count(*), count(DISTINCT n) FROM web.t");
    assert_eq!(found, expected);
    assert_eq!(
        sql(&theirs, "SELECT id, name, more, day FROM web.hits ORDER BY id"),
        "2,b,,y\n3,c,,y\n4,d,,z\n5,e,,x\n6,f,60,z\n"
    );
    assert_eq!(sql(&theirs, "SELECT one FROM shop.seen"), "1\n");
    let gone = run("SELECT 1", None);
    let errors = String::from_utf8_lossy(&gone.stderr);
    assert!(gone.status.code() == Some(1) && errors.contains("the metastore at 127.0.0.1"), "{errors}");
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
    assert_eq!(output.status.code(), Some(1));
}

/// An operator sees who keeps others from a table, and ends that.
#[test]
fn locks_are_shown_and_taken_back() {
    const HEADER: &str = "id,state,type,on,owner,agent,since,last_heartbeat,waits_for\n";
    let folder = tempfile::tempdir().unwrap();
    let (data, mine) = (folder.path().join("data"), folder.path().join("mine"));
    sql(&data, "CREATE TABLE t (id bigint)");
    let mut server = Server::start_catalog(&data, &[]);
    let url = server.endpoint("metastore");
    let locks = |more: &[&str]| {
        let mut command = tereza();
        command.args(["catalog", "locks", "--format", "csv"]).args(more);
        text(command.output().unwrap())
    };
    let unlock = |id: &str| tereza().args(["catalog", "unlock", id, "--url", &url]).output().unwrap();
    assert_eq!(locks(&["--url", &url]), HEADER);
    assert_eq!(unlock("7").status.code(), Some(1));

    // A client keeps the table for itself, and Tereza waits for it.
    let address = url.strip_prefix("thrift://").unwrap().to_owned();
    let id = Runtime::new().unwrap().block_on(async move {
        let component = LockComponent {
            r#type: LockType::EXCLUSIVE,
            dbname: "default".into(),
            tablename: Some("t".into()),
            ..LockComponent::default()
        };
        let request = LockRequest {
            component: vec![component],
            user: "ada".into(),
            hostname: "there".into(),
            agent_info: Some("by hand".into()),
            ..LockRequest::default()
        };
        let mut client = Client::connect(&address, Default::default()).await.unwrap();
        client.lock(LockArgs { rqst: Some(request) }).await.unwrap().lockid
    });
    let catalog = format!("catalog.url={url}");
    let mut waiting = tereza();
    waiting.arg("sql").arg("--data").arg(&mine).args(["--set", &catalog, "-c", "INSERT INTO t VALUES (1)"]);
    let mut waiting = waiting.spawn().unwrap();
    let shown = support::wait_for("the one that waits", || {
        let shown = locks(&["--data", data.to_str().unwrap()]);
        shown.contains(",waiting,").then_some(shown)
    });
    let rows = shown.strip_prefix(HEADER).unwrap().lines().map(|line| line.split(',').collect::<Vec<_>>());
    let [held, waits] = <[Vec<&str>; 2]>::try_from(rows.collect::<Vec<_>>()).unwrap();
    let id = id.to_string();
    assert_eq!(held[..6], [id.as_str(), "held", "exclusive", "default.t", "ada@there", "by hand"], "{shown}");
    assert!(held[6].starts_with("20") && held[7].starts_with("20") && held[8].is_empty(), "{shown}");
    assert_eq!(waits[1..5], ["waiting", "shared write", "default.t", "tereza@localhost"], "{shown}");
    assert!(waits[5].starts_with("tereza-") && waits[6].is_empty() && waits[8] == id, "{shown}");
    let given_back = unlock(&id);
    assert!(given_back.status.success(), "{given_back:?}");
    assert!(waiting.wait().unwrap().success());
    assert_eq!(locks(&["--set", &catalog]), HEADER);
    assert_eq!(unlock(&id).status.code(), Some(1));
    assert_eq!(sql_of(&data, &mut server, "SELECT count(*) FROM t"), "1\n");
    let nobody = tereza().args(["catalog", "locks", "--data"]).arg(&mine).output().unwrap();
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("--url thrift://"), "{nobody:?}");
}

/// What is wrong in a catalog ends the command with another status than a good one.
#[test]
fn a_catalog_is_checked_by_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    sql(&data, "CREATE SCHEMA web; CREATE TABLE web.t (id bigint) PARTITIONED BY (day string)");
    sql(&data, "INSERT INTO web.t VALUES (1, 'x'), (2, 'y')");
    let check = || tereza().args(["catalog", "check", "--data"]).arg(&data).output().unwrap();
    assert_eq!(text(check()), "1 tables and views, 2 partitions: 0 findings\n");
    let inside = format!("file://{}/warehouse/web.db/t/inside", data.display());
    sql(&data, &format!("CREATE EXTERNAL TABLE web.inside (id bigint) STORED AS PARQUET LOCATION '{inside}'"));
    let found = check();
    assert_eq!(found.status.code(), Some(1), "{found:?}");
    let said = String::from_utf8_lossy(&found.stdout);
    let [finding, last] = said.lines().collect::<Vec<_>>()[..] else { panic!("{said}") };
    assert!(finding.contains("\tweb.inside\t") && finding.contains("web.t"), "{said}");
    assert_eq!(last, "2 tables and views, 2 partitions: 1 findings");
    let nowhere = ["catalog", "check", "--set", "catalog.url=mysql://a@127.0.0.1:1/b", "--data"];
    let missing = tereza().args(nowhere).arg(folder.path().join("other")).output().unwrap();
    assert_eq!(missing.status.code(), Some(3), "{missing:?}");
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

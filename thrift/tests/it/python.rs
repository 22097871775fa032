//! A client that others use, if it is installed: pymetastore asks our server.

use std::process::Stdio;

use tereza_thrift::server::Settings;
use tokio::process::Command;
use tokio::time::timeout;

use crate::memory::{PATIENCE, Running, golden};

/// The interpreter that has pymetastore, if it is not the first one.
const PYTHON: &str = "TEREZA_TEST_PYTHON";

const SCRIPT: &str = r#"
import sys
from pymetastore.metastore import HMS
with HMS.create("127.0.0.1", int(sys.argv[1])) as hms:
    assert hms.list_databases() == ["default", "web"]
    assert hms.get_database("web").location == "file:/warehouse"
    assert hms.list_tables("web") == ["events"], hms.list_tables("web")
    table = hms.get_table("web", "events")
    assert [column.name for column in table.columns] == ["id", "größe"], table
    assert table.parameters["EXTERNAL"] == "TRUE"
    try:
        hms.list_columns("web", "events")
        raise SystemExit("a method that is not there answered")
    except Exception as error:
        assert "Invalid method name" in str(error), error
    assert hms.list_databases() == ["default", "web"]
"#;

#[tokio::test]
async fn pymetastore_is_answered() {
    let python = std::env::var(PYTHON).unwrap_or_else(|_| "python3".to_owned());
    let probe = Command::new(&python).args(["-c", "import pymetastore"]).stderr(Stdio::null()).status().await;
    if !probe.is_ok_and(|status| status.success()) {
        assert!(std::env::var_os(PYTHON).is_none(), "{PYTHON}: {python} has no pymetastore");
        eprintln!("skipped: {python} has no pymetastore; {PYTHON} may name one that has");
        return;
    }
    let server = Running::new(Settings::default()).await;
    server.connect().await.asks(&golden("create_table.call"), &golden("create_table.reply")).await;
    let script =
        Command::new(&python).args(["-c", SCRIPT, &server.address.port().to_string()]).kill_on_drop(true).output();
    let output = timeout(PATIENCE, script).await.expect("pymetastore waits").unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

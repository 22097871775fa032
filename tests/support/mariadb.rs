//! A MariaDB of this test run, and databases in it.

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{free_port, missing, wait_for};

/// Databases that are made when the server starts, as it has no client here.
const DATABASES: u32 = 16;

/// The URL of a database that no other test has and that is empty; `None` where no MariaDB is installed.
pub(crate) fn new_database() -> Option<String> {
    static SERVER: OnceLock<Option<(u16, Child)>> = OnceLock::new();
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let started = SERVER.get_or_init(start);
    let Some((port, _)) = started else {
        missing("MariaDB");
        return None;
    };
    let number = COUNT.fetch_add(1, Ordering::SeqCst);
    assert!(number < DATABASES, "the server has no more databases");
    Some(format!("mysql://tereza:s%20ecret@127.0.0.1:{port}/lake{number}"))
}

fn start() -> Option<(u16, Child)> {
    let found = Command::new("mariadbd").arg("--version").output();
    if !found.is_ok_and(|output| output.status.success()) {
        return None;
    }
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().to_str().expect("a path of text").to_owned();
    let install = Command::new("mariadb-install-db")
        .args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db", "--user=root"])
        .arg(format!("--datadir={path}/data"))
        .output()
        .expect("mariadb-install-db comes with mariadbd");
    assert!(install.status.success(), "{}", String::from_utf8_lossy(&install.stderr));
    let mut sql =
        "CREATE USER tereza@'127.0.0.1' IDENTIFIED BY 's ecret';\nGRANT ALL ON *.* TO tereza@'127.0.0.1';\n".to_owned();
    for number in 0..DATABASES {
        sql.push_str(&format!("CREATE DATABASE lake{number} CHARACTER SET latin1;\n"));
    }
    fs::write(folder.path().join("init.sql"), sql).expect("the first statements");
    let port = free_port();
    // The shell ends the server when its standard input closes, which happens however this process ends; and it removes the
    // data, since statics are never dropped.
    let script =
        r#"trap '' INT TERM; "$@" </dev/null & server=$!; read -r _; kill -9 $server; wait $server; rm -rf "$0""#;
    let mut shell = Command::new("sh");
    shell
        .args(["-c", script, &path, "mariadbd", "--no-defaults", "--user=root", "--bind-address=127.0.0.1"])
        .arg(format!("--port={port}"))
        .arg(format!("--datadir={path}/data"))
        .arg(format!("--socket={path}/socket"))
        .arg(format!("--pid-file={path}/pid"))
        .arg(format!("--init-file={path}/init.sql"))
        .args(["--skip-name-resolve", "--innodb-buffer-pool-size=64M", "--max-connections=400"])
        // What this server holds is gone with it, so it need not reach the disk.
        .args(["--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(File::create(folder.path().join("log")).expect("a log"));
    let shell = shell.spawn().expect("a shell");
    // From here on the shell removes the folder.
    let folder = folder.keep();
    wait_for("MariaDB to answer", || {
        let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
        assert!(!log.contains("Aborting"), "{log}");
        log.contains("ready for connections").then_some(())
    });
    Some((port, shell))
}

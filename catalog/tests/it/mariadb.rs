//! A MariaDB of our own, where one is installed: one server for all tests of this binary, and a new database for each.
//!
//! `TEREZA_TEST_MARIADBD` may name the server; `scripts/test-setup.sh` installs one. A test that finds none says so and
//! is skipped, which fails it when `CI=true`.

use std::process::{ChildStdin, Stdio};
use std::time::Duration;

use sqlx::mysql::{MySqlConnectOptions, MySqlConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use tempfile::TempDir;
use tereza_catalog::MySqlStore;
use tereza_catalog::store::mysql::Settings;
use tereza_runtime::clock::Clock;
use tereza_runtime::ids;
use tokio::process::Command;
use tokio::sync::OnceCell;

/// How long the server may take to answer on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Its port may be taken by another process before it takes it.
const STARTS: usize = 3;

struct Server {
    port: u16,
    /// Open as long as this process lives.
    _input: ChildStdin,
}

/// A database of its own.
pub(crate) struct TestDatabase {
    pub(crate) port: u16,
    pub(crate) name: String,
}

static SERVER: OnceCell<Option<Server>> = OnceCell::const_new();

/// A new empty database; none where there is no server.
pub(crate) async fn new_database() -> Option<TestDatabase> {
    let Some(server) = SERVER.get_or_init(Server::start).await else {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "MariaDB is missing");
        eprintln!("skipped: there is no mariadbd; TEREZA_TEST_MARIADBD may name one");
        return None;
    };
    let name = format!("t{}", ids::new_id().replace('-', ""));
    let mut root = server.root().connect().await.expect("the server answers");
    let create = format!("CREATE DATABASE {name} CHARACTER SET latin1");
    sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut root).await.expect("a new database");
    root.close().await.expect("closed");
    Some(TestDatabase { port: server.port, name })
}

impl TestDatabase {
    pub(crate) fn url(&self) -> String {
        self.url_by(self.port)
    }

    /// Its URL by way of another port.
    pub(crate) fn url_by(&self, port: u16) -> String {
        format!("mysql://tereza:s%20ecret@127.0.0.1:{port}/{}", self.name)
    }

    /// A connection that knows nothing of the catalog.
    pub(crate) async fn connect(&self) -> MySqlConnection {
        let options = self.url().parse::<MySqlConnectOptions>().expect("a URL");
        options.connect().await.expect("the server answers")
    }

    pub(crate) async fn store(&self) -> MySqlStore {
        self.store_at(Clock::system()).await
    }

    pub(crate) async fn store_at(&self, clock: Clock) -> MySqlStore {
        let settings = Settings { create: true, ..Settings::default() };
        MySqlStore::open(&self.url(), settings, clock).await.expect("the catalog opens")
    }
}

impl Server {
    async fn start() -> Option<Self> {
        let program = std::env::var("TEREZA_TEST_MARIADBD").unwrap_or_else(|_| "mariadbd".to_owned());
        let found = Command::new(&program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().await;
        if !found.is_ok_and(|status| status.success()) {
            return None;
        }
        for _ in 0..STARTS {
            if let Some(server) = Self::try_start(&program).await {
                return Some(server);
            }
        }
        panic!("{program} does not start");
    }

    async fn try_start(program: &str) -> Option<Self> {
        let folder: TempDir = tempfile::tempdir().expect("a folder");
        let path = folder.path().to_str().expect("a path of text").to_owned();
        let install = Command::new("mariadb-install-db")
            .args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db", "--user=root"])
            .arg(format!("--datadir={path}/data"))
            .output()
            .await
            .expect("mariadb-install-db comes with mariadbd");
        assert!(install.status.success(), "{}", String::from_utf8_lossy(&install.stderr));
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = free.local_addr().expect("an address").port();
        drop(free);

        // A shell that waits for the end of its input, which comes with the end of this process, however it ends; then
        // it ends the server that it began, by its id, and removes the folder.
        let script = r#""$@" & server=$!; cat > /dev/null; kill -9 $server; wait $server; rm -rf "$0""#;
        let mut shell = std::process::Command::new("sh");
        shell
            .args(["-c", script, &path, program, "--no-defaults", "--user=root", "--bind-address=127.0.0.1"])
            .arg(format!("--port={port}"))
            .arg(format!("--datadir={path}/data"))
            .arg(format!("--socket={path}/socket"))
            .arg(format!("--pid-file={path}/pid"))
            .args(["--skip-name-resolve", "--innodb-buffer-pool-size=64M", "--innodb-log-file-size=32M"])
            // What this server holds is gone with it, so it need not reach the disk.
            .args(["--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0", "--max-connections=400"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.path().join("log")).expect("a log"));
        let input = shell.spawn().expect("a shell").stdin.take().expect("its input");
        // From here on the shell removes the folder.
        let folder = folder.keep();

        let server = Self { port, _input: input };
        let answers = async {
            loop {
                if let Ok(connection) = server.root().connect().await {
                    break connection;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let Ok(mut root) = tokio::time::timeout(PATIENCE, answers).await else {
            eprintln!("{}", std::fs::read_to_string(folder.join("log")).unwrap_or_default());
            return None;
        };
        let user = "CREATE USER tereza@'127.0.0.1' IDENTIFIED BY 's ecret'; GRANT ALL ON *.* TO tereza@'127.0.0.1'";
        sqlx::raw_sql(user).execute(&mut root).await.expect("a user");
        root.close().await.expect("closed");
        Some(server)
    }

    fn root(&self) -> MySqlConnectOptions {
        MySqlConnectOptions::new().host("127.0.0.1").port(self.port).username("root")
    }
}

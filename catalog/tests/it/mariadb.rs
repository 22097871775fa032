//! A MariaDB of our own, where one is installed: one server for all tests of this binary, and a new database for each.
//!
//! `TEREZA_TEST_MARIADBD` may name the server; `scripts/test-setup.sh` installs one. A test that finds none says so and
//! is skipped, which fails it when `CI=true`.

use std::path::Path;
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
    /// Open as long as it is to live.
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
    Some(server.new_database().await)
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
        let program = program().await?;
        for _ in 0..STARTS {
            if let Some(server) = Self::try_start(&program).await {
                return Some(server);
            }
        }
        panic!("{program} does not start");
    }

    async fn try_start(program: &str) -> Option<Self> {
        let folder = new_folder().await;
        let port = free_port();
        // What this server holds is gone with it, so it need not reach the disk.
        let fast = ["--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0"];
        let input = begin(program, folder.path(), port, &fast, true);
        // From here on the shell removes the folder.
        let folder = folder.keep();
        let server = Self { port, _input: input };
        if !server.answers().await {
            eprintln!("{}", std::fs::read_to_string(folder.join("log")).unwrap_or_default());
            return None;
        }
        server.make_user().await;
        Some(server)
    }

    /// Waits until it answers, as long as that may take.
    async fn answers(&self) -> bool {
        let answers = async {
            while self.root().connect().await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, answers).await.is_ok()
    }

    async fn make_user(&self) {
        let mut root = self.root().connect().await.expect("the server answers");
        let user = "CREATE USER tereza@'127.0.0.1' IDENTIFIED BY 's ecret'; GRANT ALL ON *.* TO tereza@'127.0.0.1'";
        sqlx::raw_sql(user).execute(&mut root).await.expect("a user");
        root.close().await.expect("closed");
    }

    async fn new_database(&self) -> TestDatabase {
        let name = format!("t{}", ids::new_id().replace('-', ""));
        let mut root = self.root().connect().await.expect("the server answers");
        let create = format!("CREATE DATABASE {name} CHARACTER SET latin1");
        sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut root).await.expect("a new database");
        root.close().await.expect("closed");
        TestDatabase { port: self.port, name }
    }

    fn root(&self) -> MySqlConnectOptions {
        MySqlConnectOptions::new().host("127.0.0.1").port(self.port).username("root")
    }
}

/// The server's program, if there is one.
async fn program() -> Option<String> {
    let program = std::env::var("TEREZA_TEST_MARIADBD").unwrap_or_else(|_| "mariadbd".to_owned());
    let found = Command::new(&program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().await;
    found.is_ok_and(|status| status.success()).then_some(program)
}

/// A folder with the data of a server that has nothing yet.
async fn new_folder() -> TempDir {
    let folder: TempDir = tempfile::tempdir().expect("a folder");
    let install = Command::new("mariadb-install-db")
        .args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db", "--user=root"])
        .arg(format!("--datadir={}/data", folder.path().display()))
        .output()
        .await
        .expect("mariadb-install-db comes with mariadbd");
    assert!(install.status.success(), "{}", String::from_utf8_lossy(&install.stderr));
    folder
}

fn free_port() -> u16 {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    free.local_addr().expect("an address").port()
}

/// Begins a server on the data of a folder. It ends when what is returned is closed, which comes with the end of this
/// process, however it ends: a shell waits for that and ends the server that it began, by its id.
fn begin(program: &str, folder: &Path, port: u16, more: &[&str], removes: bool) -> ChildStdin {
    let script = r#""$@" & server=$!; cat > /dev/null; kill -9 $server; wait $server; [ -z "$0" ] || rm -rf "$0""#;
    let path = folder.to_str().expect("a path of text");
    let mut shell = std::process::Command::new("sh");
    shell
        .args(["-c", script, if removes { path } else { "" }, program])
        .args(["--no-defaults", "--user=root", "--bind-address=127.0.0.1"])
        .arg(format!("--port={port}"))
        .arg(format!("--datadir={path}/data"))
        .arg(format!("--socket={path}/socket"))
        .arg(format!("--pid-file={path}/pid"))
        .args(["--skip-name-resolve", "--innodb-buffer-pool-size=64M", "--innodb-log-file-size=32M"])
        .arg("--max-connections=400")
        .args(more)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(folder.join("log")).expect("a log"));
    shell.spawn().expect("a shell").stdin.take().expect("its input")
}

/// A server of a test's own, which keeps what it acknowledges, and which the test may stop, kill and begin again.
pub(crate) struct OwnServer {
    program: String,
    server: Server,
    folder: TempDir,
}

impl OwnServer {
    /// None where there is no server; a test is skipped then, as with [`new_database`].
    pub(crate) async fn start() -> Option<Self> {
        let Some(program) = program().await else {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "MariaDB is missing");
            eprintln!("skipped: there is no mariadbd; TEREZA_TEST_MARIADBD may name one");
            return None;
        };
        let folder = new_folder().await;
        let port = free_port();
        let server = Server { port, _input: begin(&program, folder.path(), port, &[], false) };
        assert!(server.answers().await, "{}", std::fs::read_to_string(folder.path().join("log")).unwrap_or_default());
        server.make_user().await;
        Some(Self { program, server, folder })
    }

    pub(crate) async fn new_database(&self) -> TestDatabase {
        self.server.new_database().await
    }

    /// Nothing of it moves any more, and nobody is told.
    pub(crate) async fn stop(&self) {
        self.signal("-STOP").await;
    }

    pub(crate) async fn go_on(&self) {
        self.signal("-CONT").await;
    }

    /// It ends in the middle of what it does.
    pub(crate) async fn kill(&self) {
        self.signal("-KILL").await;
    }

    /// It is begun again after it was killed.
    pub(crate) async fn begin(&mut self) {
        let port = self.server.port;
        self.server._input = begin(&self.program, self.folder.path(), port, &[], false);
        assert!(self.server.answers().await, "it does not begin again");
    }

    async fn signal(&self, signal: &str) {
        let id = std::fs::read_to_string(self.folder.path().join("pid")).expect("its id");
        let sent = Command::new("kill").args([signal, id.trim()]).status().await.expect("kill");
        assert!(sent.success());
    }
}

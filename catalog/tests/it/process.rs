//! A metastore in a process of its own, which a test may measure or kill.

use std::io::{BufRead, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;

use tereza_catalog::{SqliteStore, Store, hive};
use tereza_runtime::clock::Clock;
use tereza_runtime::open_files;
use tereza_thrift::client::{self, Client};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const FOLDER: &str = "TEREZA_TEST_METASTORE_FOLDER";
/// Clients that it lets in.
pub(crate) const CONNECTIONS_MAX: usize = 10_500;

/// Not a test: the metastore that [`Process::start`] starts, over the catalog in a folder. It ends with its input.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serves_until_its_input_ends() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    open_files::raise_limit();
    let path = Path::new(&folder).join("catalog.db");
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(path, Clock::system()).await.unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("address {}", listener.local_addr().unwrap());
    let mut settings = hive::Settings::default();
    settings.server.connections_max = CONNECTIONS_MAX;
    let drain = CancellationToken::new();
    let serving = tokio::spawn(hive::serve(listener, store, Arc::new(()), settings, drain.clone()));
    drop(tokio::io::stdin().read_to_end(&mut Vec::new()).await);
    drain.cancel();
    serving.await.unwrap();
}

pub(crate) struct Process {
    child: Child,
    /// Open as long as it may say something.
    _output: BufReader<ChildStdout>,
    pub(crate) address: String,
}

impl Process {
    /// Returns when it can be asked.
    pub(crate) fn start(folder: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "process::serves_until_its_input_ends", "--nocapture"])
            .env(FOLDER, folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut lines = output.by_ref().lines().map_while(Result::ok);
        let address = lines.find_map(|line| line.split_once("address ").map(|(_, address)| address.to_owned()));
        Self { child, address: address.unwrap(), _output: output }
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(&self.address, client::Settings::default()).await.unwrap()
    }

    /// The memory that it has in use.
    pub(crate) fn resident_bytes(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
    }

    /// Ends it in the middle of what it does.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Lets it answer what was begun.
    pub(crate) fn end(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success());
    }
}

//! The real components that tests run against, and the program itself.
//!
//! `scripts/test-setup.sh` installs them once into one folder. A component that is not there is reported in the summary of
//! `make test`, and fails the test that asked for it when `CI=true`: a green run in CI is a run with everything.

#![expect(clippy::disallowed_methods, reason = "tests wait for real processes by the machine's clock")]

pub(crate) mod flight;
pub(crate) mod mariadb;
pub(crate) mod network;

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde::Deserialize;
use tempfile::TempDir;

/// No wait is longer than this.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The folder that `scripts/test-setup.sh` fills.
pub(crate) fn home() -> PathBuf {
    if let Some(home) = std::env::var_os("TEREZA_TEST_HOME") {
        return home.into();
    }
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")));
    cache.unwrap_or_default().join("tereza")
}

/// Says that a component is missing; fails the test under `CI=true`.
pub(crate) fn missing(component: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{component} is missing; run scripts/test-setup.sh");
    eprintln!("MISSING: {component}; run scripts/test-setup.sh");
    let target = Path::new(env!("CARGO_BIN_EXE_tereza")).parent().and_then(Path::parent);
    let Some(list) = target.map(|target| target.join("missing-components")) else { return };
    let test = std::thread::current().name().unwrap_or("a test").to_string();
    if let Ok(mut list) = OpenOptions::new().create(true).append(true).open(list) {
        // Only the summary loses a line if this fails; the line above is printed.
        let _ = writeln!(list, "{component}: {test}");
    }
}

/// The program, told to talk to nobody but this machine.
pub(crate) fn tereza() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tereza"));
    for (key, _) in std::env::vars_os() {
        if key.to_string_lossy().starts_with("TEREZA__") || key.to_string_lossy().starts_with("AWS_") {
            command.env_remove(key);
        }
    }
    command.env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

/// `tereza sql` on an embedded data folder: runs statements and returns what it printed as CSV without the header.
pub(crate) fn sql(data: &Path, statements: &str) -> String {
    let output = sql_output(data, &[], statements);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{statements}\n{errors}");
    let text = String::from_utf8(output.stdout).expect("output is UTF-8");
    text.lines().skip(1).map(|line| format!("{line}\n")).collect()
}

/// The same with further arguments, whatever becomes of it.
pub(crate) fn sql_output(data: &Path, arguments: &[&str], statements: &str) -> Output {
    tereza()
        .arg("sql")
        .arg("--data")
        .arg(data)
        .args(["--format", "csv"])
        .args(arguments)
        .args(["-c", statements])
        .output()
        .expect("tereza starts")
}

/// A process that ends with the test, even when the test fails.
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts a command.
    pub(crate) fn start(command: &mut Command) -> Self {
        Self { child: command.spawn().unwrap_or_else(|error| panic!("{command:?} does not start: {error}")) }
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The child itself.
    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Ends it as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A running `tereza up` on a data folder, with every port chosen freely.
pub(crate) struct Server {
    process: Process,
    data: PathBuf,
    /// Flight SQL's URL, `http://127.0.0.1:port`; no use where it serves none.
    pub(crate) flight_sql: String,
    /// The console's address, `127.0.0.1:port`, for `/healthz`, `/readyz` and `/metrics`.
    pub(crate) console: String,
}

impl Server {
    /// Starts it and waits until it is ready.
    pub(crate) fn start(data: &Path, arguments: &[&str]) -> Self {
        Self::start_in(data, Path::new("."), arguments)
    }

    /// The same, with a working directory for relative paths in statements.
    pub(crate) fn start_in(data: &Path, directory: &Path, arguments: &[&str]) -> Self {
        let mut command = tereza();
        command.arg("up").current_dir(directory);
        Self::start_as(command, data, arguments)
    }

    /// The same, which dies when it comes to a place of `tereza_engine::fail_point`.
    pub(crate) fn start_mortal(data: &Path, fail_point: &str, arguments: &[&str]) -> Self {
        let mut command = tereza();
        command.arg("up").env(tereza_engine::fail_point::VARIABLE, fail_point);
        Self::start_as(command, data, arguments)
    }

    /// The same in a group of processes of its own, as a shell gives to what it starts.
    pub(crate) fn start_as_group(data: &Path, arguments: &[&str]) -> Self {
        let mut command = tereza();
        command.arg("up").process_group(0);
        Self::start_as(command, data, arguments)
    }

    /// The same for a scheduler that executors find at a port.
    pub(crate) fn start_scheduler(data: &Path, ip: &str, port: u16) -> Self {
        let mut command = tereza();
        command.args(["scheduler", "--listen", ip]);
        Self::start_as(command, data, &["--set", &format!("listen.scheduler={port}")])
    }

    /// The catalog alone, without SQL.
    pub(crate) fn start_catalog(data: &Path, arguments: &[&str]) -> Self {
        let mut command = tereza();
        command.arg("catalog");
        Self::start_as(command, data, arguments)
    }

    fn start_as(mut command: Command, data: &Path, arguments: &[&str]) -> Self {
        let log = File::create(data.with_extension("log")).expect("log file");
        command.arg("--data").arg(data);
        for port in ["flight_sql", "metastore", "registry", "console", "scheduler"] {
            command.args(["--set", &format!("listen.{port}=0")]);
        }
        command.args(arguments).stdout(Stdio::from(log.try_clone().expect("log file"))).stderr(Stdio::from(log));
        // An endpoints file of an earlier run must not be taken for this one's.
        let endpoints = data.join("endpoints.json");
        let _ = fs::remove_file(&endpoints);
        let mut process = Process::start(&mut command);
        let read = || fs::read_to_string(data.with_extension("log")).unwrap_or_default();
        let found = wait_for("tereza up to be ready", || {
            assert!(process.child().try_wait().expect("status").is_none(), "tereza up ended:\n{}", read());
            let text = fs::read_to_string(&endpoints).ok()?;
            let endpoints: serde_json::Value = serde_json::from_str(&text).ok()?;
            let endpoints = endpoints.get("endpoints")?;
            let console = strip(endpoints.get("console")?.as_str()?);
            (http_get(&console, "/readyz").is_some_and(|reply| reply.starts_with("HTTP/1.1 200")))
                .then(|| (format!("http://{}", strip(endpoints["flight_sql"].as_str().unwrap_or_default())), console))
        });
        Self { process, data: data.to_path_buf(), flight_sql: found.0, console: found.1 }
    }

    /// The URL of what it serves under a name.
    pub(crate) fn endpoint(&self, name: &str) -> String {
        let text = fs::read_to_string(self.data.join("endpoints.json")).expect("endpoints.json");
        let endpoints: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
        endpoints["endpoints"][name].as_str().expect("it serves that").to_owned()
    }

    /// Its process.
    pub(crate) fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Asks it to end, and waits.
    pub(crate) fn terminate(&mut self) -> Option<i32> {
        let id = self.process.id().to_string();
        Command::new("kill").args(["-TERM", &id]).status().expect("kill");
        wait_for("tereza up to end", || self.process.child().try_wait().expect("status")).code()
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Resident memory in bytes.
    pub(crate) fn rss_bytes(&self) -> u64 {
        rss_bytes(self.id())
    }
}

/// Resident memory of a process in bytes.
pub(crate) fn rss_bytes(process: u32) -> u64 {
    status_bytes(process, "VmRSS:")
}

/// Memory that a process holds by itself. The rest of what is resident are pages of its program file, which the system keeps for
/// all and maps as many of at a time as it finds together: 10 to 40 MB of the same program at rest.
pub(crate) fn own_bytes(process: u32) -> u64 {
    status_bytes(process, "RssAnon:")
}

fn status_bytes(process: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default() * 1024
}

/// A server with executors on this machine.
pub(crate) struct Cluster {
    pub(crate) server: Server,
    pub(crate) data: PathBuf,
    executors: usize,
    _folder: TempDir,
}

impl Cluster {
    /// Starts all and waits until every executor is there.
    pub(crate) fn start(minio: Option<&Minio>, executors: usize) -> Self {
        Self::start_with(minio, executors, &[])
    }

    /// The same with further arguments.
    pub(crate) fn start_with(minio: Option<&Minio>, executors: usize, more: &[String]) -> Self {
        let folder = tempfile::tempdir().expect("temporary folder");
        let data = folder.path().join("data");
        fs::create_dir(&data).expect("data folder");
        let mut arguments = minio.map(Minio::arguments).unwrap_or_default();
        arguments.extend(["--executors".into(), executors.to_string()]);
        arguments.extend_from_slice(more);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let server = Server::start(&data, &arguments);
        let cluster = Self { server, data, executors, _folder: folder };
        cluster.wait_for_executors();
        cluster
    }

    /// Waits until every executor is there.
    pub(crate) fn wait_for_executors(&self) {
        let line = format!("tereza_executors {}", self.executors);
        wait_for("all executors", || {
            // One that was just killed may still be counted.
            let live = (0..self.executors).filter_map(|index| self.executor(index)).filter(|id| is_alive(*id)).count();
            let is_counted = http_get(&self.server.console, "/metrics")?.contains(&line);
            (live == self.executors && is_counted).then_some(())
        });
    }

    /// Where an executor, from 0, keeps what stages pass on.
    pub(crate) fn shuffle_folder(&self, index: usize) -> PathBuf {
        let folder = self.data.join(format!("executors/{index}/shuffle"));
        let own = folder.read_dir().expect("shuffle folder").next().expect("the executor's own");
        own.expect("entry").path()
    }

    /// The process id of an executor, from 0.
    pub(crate) fn executor(&self, index: usize) -> Option<u32> {
        let text = fs::read_to_string(self.data.join(format!("executors/{index}/endpoints.json"))).ok()?;
        let endpoints: serde_json::Value = serde_json::from_str(&text).ok()?;
        endpoints.get("pid")?.as_u64()?.try_into().ok()
    }
}

/// An executor with free ports.
pub(crate) fn executor(mut command: Command, data: &Path, ip: &str, scheduler: &str) -> Process {
    command.arg("executor").arg("--data").arg(data).args(["--listen", ip, "--scheduler", scheduler]);
    for port in ["executor_flight", "executor_tasks", "console"] {
        command.args(["--set", &format!("listen.{port}=0")]);
    }
    Process::start(command.stdout(Stdio::null()))
}

/// Whether a scheduler has so many executors.
pub(crate) fn has_executors(scheduler: &Server, count: usize) -> Option<()> {
    let metrics = http_get(&scheduler.console, "/metrics")?;
    metrics.contains(&format!("tereza_executors {count}")).then_some(())
}

/// Sends a signal, such as `-TERM`.
pub(crate) fn signal(name: &str, process: u32) {
    let id = process.to_string();
    assert!(Command::new("kill").args([name, &id]).status().expect("kill").success());
}

/// Whether a process runs, and has not ended without its parent having been told.
fn is_alive(process: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.trim().is_empty() && !rest.trim().starts_with('Z'))
}

fn strip(endpoint: &str) -> String {
    endpoint.split_once("://").map_or(endpoint, |(_, address)| address).trim_end_matches('/').to_string()
}

/// The whole reply to one HTTP/1.1 GET, or nothing if nobody answers.
pub(crate) fn http_get(address: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).ok()?;
    Some(reply)
}

/// Asks again and again until there is an answer, for at most [`PATIENCE`].
pub(crate) fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// A MinIO server of this test run.
#[derive(Debug)]
pub(crate) struct Minio {
    /// `http://127.0.0.1:port`.
    pub(crate) endpoint: String,
    /// Access key.
    pub(crate) access_key: String,
    /// Secret key.
    pub(crate) secret_key: String,
    data: PathBuf,
}

impl Minio {
    /// The name of a new, empty bucket.
    pub(crate) fn fresh_bucket(&self) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("bucket-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::SeqCst));
        // A single-drive MinIO takes each folder of its drive for a bucket.
        fs::create_dir(self.data.join(&name)).expect("bucket folder");
        name
    }

    /// The arguments that point `tereza` at this server.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let set = [
            format!("s3.endpoint={}", self.endpoint),
            format!("s3.access_key={}", self.access_key),
            format!("s3.secret_key={}", self.secret_key),
            "s3.allow_http=true".to_string(),
        ];
        set.into_iter().flat_map(|pair| ["--set".to_string(), pair]).collect()
    }
}

/// The MinIO of this test run, started by the first test that asks; `None` if it is not installed.
pub(crate) fn minio() -> Option<&'static Minio> {
    static SERVER: OnceLock<Option<(Minio, Child, TempDir)>> = OnceLock::new();
    let started = SERVER.get_or_init(|| {
        let program = home().join("bin/minio");
        program.exists().then(|| start_minio(&program))
    });
    if started.is_none() {
        missing("MinIO");
    }
    started.as_ref().map(|(minio, _, _)| minio)
}

fn start_minio(program: &Path) -> (Minio, Child, TempDir) {
    let folder = tempfile::tempdir().expect("temporary folder");
    let data = folder.path().join("data");
    fs::create_dir(&data).expect("data folder");
    let log = File::create(folder.path().join("log")).expect("log file");
    let port = free_port();
    // The shell ends MinIO when its standard input closes, which happens however this process ends; and it removes the
    // data, since statics are never dropped.
    let script = r#"trap '' INT TERM; "$1" server --quiet --address "127.0.0.1:$2" "$3" </dev/null & server=$!; read -r _; kill -9 $server; wait $server; rm -rf "$4""#;
    let minio = Minio {
        endpoint: format!("http://127.0.0.1:{port}"),
        access_key: "lakeadmin".into(),
        secret_key: "lakesecret1".into(),
        data: data.clone(),
    };
    let supervisor = Command::new("sh")
        .args([OsStr::new("-c"), script.as_ref(), "sh".as_ref(), program.as_os_str(), port.to_string().as_ref()])
        .args([&data, folder.path()])
        .env("MINIO_ROOT_USER", &minio.access_key)
        .env("MINIO_ROOT_PASSWORD", &minio.secret_key)
        .env("MINIO_UPDATE", "off")
        .env("MINIO_BROWSER", "off")
        .stdin(Stdio::piped())
        .stdout(Stdio::from(log.try_clone().expect("log file")))
        .stderr(Stdio::from(log))
        .spawn()
        .expect("sh starts");
    let address = format!("127.0.0.1:{port}");
    wait_for("MinIO to be ready", || {
        http_get(&address, "/minio/health/ready").filter(|reply| reply.starts_with("HTTP/1.1 200"))
    });
    (minio, supervisor, folder)
}

/// A port that was free a moment ago, for servers that cannot choose one themselves.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

/// The Python with the judges and clients.
#[derive(Debug)]
pub(crate) struct Python {
    program: PathBuf,
}

impl Python {
    fn of(venv: &str, what: &str) -> Option<Self> {
        let venv = home().join(venv);
        if !venv.join("requirements.txt").exists() {
            missing(what);
            return None;
        }
        Some(Self { program: venv.join("bin/python") })
    }

    /// Runs a script of `tests/support/` and returns what it printed; fails the test with its errors if it fails.
    pub(crate) fn run(&self, script: &str, arguments: &[&str]) -> String {
        self.run_in(Path::new("."), script, arguments)
    }

    /// The same in a folder, for what the script leaves behind.
    pub(crate) fn run_in(&self, folder: &Path, script: &str, arguments: &[&str]) -> String {
        let output = self.command(script, arguments).current_dir(folder).output().expect("python starts");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script} {arguments:?}\n{errors}");
        String::from_utf8(output.stdout).expect("output is UTF-8")
    }

    /// The command that runs a script of `tests/support/`.
    pub(crate) fn command(&self, script: &str, arguments: &[&str]) -> Command {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support").join(script);
        let mut command = Command::new(&self.program);
        command.arg(script).args(arguments).stdin(Stdio::null());
        command
    }
}

/// The tests' Python; `None` if it is not installed.
pub(crate) fn python() -> Option<Python> {
    Python::of("venv", "the tests' Python")
}

/// The Python that has Spark.
pub(crate) fn spark() -> Option<Python> {
    Python::of("spark", "Spark")
}

/// The JDBC driver's jar; `None` if it or Java is not installed.
pub(crate) fn jdbc_driver() -> Option<PathBuf> {
    let jar = home().join("jars/flight-sql-jdbc-driver.jar");
    let java = Command::new("java").arg("-version").output().is_ok_and(|output| output.status.success());
    if !jar.exists() || !java {
        missing("Java and the Flight SQL JDBC driver");
        return None;
    }
    Some(jar)
}

/// Number of rows and sum of their keys.
pub(crate) type Numbers = (i64, i64);

/// What is there without Tereza's help.
#[derive(Debug, Deserialize)]
pub(crate) struct Look {
    /// Rows of all visible Parquet files of the table, and the sum of their keys.
    pub(crate) numbers: Numbers,
    /// Visible files in the folder of a table that the catalog does not know.
    pub(crate) strays: Vec<String>,
    /// Files below any `_tereza` folder.
    pub(crate) staged: Vec<String>,
    /// Rows of `TZ_WRITES`.
    pub(crate) writes: u64,
    /// Object names that the catalog's journal and writes hold, that staged announcements tell, and the ones asked for.
    pub(crate) keys: Vec<String>,
    /// Uploads that are neither completed nor aborted, of those objects.
    pub(crate) uploads: Vec<String>,
}

/// Looks at a table, whose warehouse is in the data folder or in a bucket, with a catalog and readers that are not Tereza's.
pub(crate) fn look(python: &Python, data: &Path, bucket: Option<(&Minio, &str)>, table: &str, keys: &[String]) -> Look {
    let bucket = bucket.map(|(minio, bucket)| {
        let (access_key, secret_key) = (&minio.access_key, &minio.secret_key);
        serde_json::json!({
            "endpoint": minio.endpoint, "access_key": access_key, "secret_key": secret_key, "name": bucket,
        })
    });
    let data = data.to_str().expect("the folder's name is text");
    let request = serde_json::json!({ "data": data, "table": table, "bucket": bucket, "keys": keys });
    let printed = python.run("look.py", &[&request.to_string()]);
    serde_json::from_str(printed.trim()).unwrap_or_else(|error| panic!("{error}: {printed}"))
}

/// The last line of CSV with two whole numbers.
pub(crate) fn numbers(csv: &str) -> Numbers {
    let line = csv.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    let parsed = line.split_once(',').and_then(|(a, b)| Some((a.trim().parse().ok()?, b.trim().parse().ok()?)));
    parsed.unwrap_or_else(|| panic!("expected two numbers, got {csv:?}"))
}

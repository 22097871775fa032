//! Kafka brokers of a test run: one node each, on ports of loopback, with data that outlives a kill and a restart.
//!
//! Tests of several packages include this file, so it stands on the standard library and `tereza-runtime` alone.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tereza_runtime::{clock, ids};

/// No start and no end of a broker takes longer, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Ports of listeners; `proxy` is what the broker tells clients of `proxied`.
#[derive(Debug, Clone, Copy)]
struct Ports {
    plain: u16,
    proxied: u16,
    proxy: u16,
    secured: u16,
}

/// A broker. When its owner ends, however it does, the broker is killed and its data removed.
#[derive(Debug)]
pub(crate) struct Broker {
    folder: PathBuf,
    ports: Ports,
    /// The shell that watches the broker, and the broker's process id; `None` while it is down.
    running: Option<(Child, u32)>,
}

/// What a third listener wants of clients: TLS, and SCRAM-SHA-512.
#[derive(Debug)]
pub(crate) struct Secure<'a> {
    /// The broker's key and certificate, both PEM.
    pub(crate) key: &'a str,
    pub(crate) certificate: &'a str,
    pub(crate) user: &'a str,
    pub(crate) password: &'a str,
}

/// The user of the third listener, and what the broker is set to besides.
struct Guard<'a> {
    user: &'a str,
    password: &'a str,
    /// The broker's key and certificate, both PEM, if the listener has TLS.
    pem: Option<String>,
    settings: &'static str,
}

impl Broker {
    /// Starts one; `None` where none is installed.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with(None)
    }

    /// Starts one with a listener that wants to know who is there, at [`Self::secured`].
    pub(crate) fn start_secure(secure: &Secure<'_>) -> Option<Self> {
        let &Secure { key, certificate, user, password } = secure;
        let pem = Some(format!("{key}{certificate}"));
        Self::start_with(Some(Guard { user, password, pem, settings: "" }))
    }

    /// Starts one whose listener at [`Self::secured`] has no TLS, and one user, who may do all that no ACL forbids. Whoever comes
    /// to the other listeners may do all.
    pub(crate) fn start_guarded(user: &str, password: &str) -> Option<Self> {
        let settings = "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,\
                        SECURED:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT\n\
                        authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
                        allow.everyone.if.no.acl.found=true\nsuper.users=User:ANONYMOUS\n";
        Self::start_with(Some(Guard { user, password, pem: None, settings }))
    }

    fn start_with(guard: Option<Guard<'_>>) -> Option<Self> {
        let jars = jars()?;
        let folder = std::env::temp_dir().join(format!("tereza-kafka-{}", ids::new_id()));
        fs::create_dir(&folder).expect("a folder for the broker");
        let [plain, proxied, proxy, secured, controller] = [(); 5].map(|()| free_port());
        let ports = Ports { plain, proxied, proxy, secured };
        let mut settings = include_str!("kafka/server.properties").to_owned();
        let more = if guard.is_some() { format!(",SECURED://127.0.0.1:{secured}") } else { String::new() };
        settings.push_str(&format!(
            "listeners=PLAINTEXT://127.0.0.1:{plain},PROXIED://127.0.0.1:{proxied},CONTROLLER://127.0.0.1:{controller}{more}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{plain},PROXIED://127.0.0.1:{proxy}{more}\n\
             controller.quorum.voters=1@127.0.0.1:{controller}\nlog.dirs={}\n",
            folder.join("data").display()
        ));
        let mut user = Vec::new();
        if let Some(Guard { user: name, password, pem, settings: more }) = guard {
            settings.push_str(
                "listener.name.secured.sasl.enabled.mechanisms=SCRAM-SHA-512\n\
                 listener.name.secured.scram-sha-512.sasl.jaas.config=\
                 org.apache.kafka.common.security.scram.ScramLoginModule required;\n",
            );
            if let Some(pem) = pem {
                let store = folder.join("server.pem");
                fs::write(&store, pem).expect("the broker's certificate");
                settings.push_str(&format!(
                    "listener.name.secured.ssl.keystore.type=PEM\nlistener.name.secured.ssl.keystore.location={}\n",
                    store.display()
                ));
            }
            // Of two lines with one name the last one holds.
            settings.push_str(more);
            user = vec!["--add-scram".to_owned(), format!("SCRAM-SHA-512=[name={name},password={password}]")];
        }
        fs::write(folder.join("server.properties"), settings).expect("settings of the broker");
        fs::write(folder.join("log4j2.yaml"), include_str!("kafka/log4j2.yaml")).expect("settings of its log");
        // Any 16 bytes in base64 for URLs are the id of a cluster.
        let cluster = format!("{}A", &ids::new_secret()[..21]);
        let format = java(&folder, &jars)
            .args(["kafka.tools.StorageTool", "format", "-t", &cluster, "-c", "server.properties"])
            .args(user)
            .output()
            .expect("java starts");
        assert!(format.status.success(), "{}", String::from_utf8_lossy(&format.stderr));
        let mut broker = Self { folder, ports, running: None };
        broker.restart();
        Some(broker)
    }

    /// What clients connect to.
    pub(crate) fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.ports.plain)
    }

    /// What clients connect to that only reach the broker through a proxy; the test runs it, from the first port to the second.
    pub(crate) fn proxied(&self) -> (u16, u16) {
        (self.ports.proxy, self.ports.proxied)
    }

    /// What clients connect to that say who they are.
    pub(crate) fn secured(&self) -> String {
        format!("127.0.0.1:{}", self.ports.secured)
    }

    /// Starts it again on its data, and waits until it serves.
    pub(crate) fn restart(&mut self) {
        assert!(self.running.is_none(), "the broker runs");
        let log = self.folder.join("log");
        let file = File::create(&log).expect("a log of the broker");
        let jars = jars().expect("the broker is installed");
        // The shell reads what becomes of the broker: `stop`, `kill`, or nothing when its owner is gone.
        let script = r#"trap '' INT TERM; "$@" </dev/null >log 2>&1 & server=$!; echo $server; read -r how
            case $how in stop) kill -TERM $server;; *) kill -9 $server;; esac; wait $server
            [ -n "$how" ] || rm -rf "$0""#;
        let java = java(&self.folder, &jars);
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(script).arg(&self.folder).arg(java.get_program()).args(java.get_args());
        shell.args(["kafka.Kafka", "server.properties"]);
        shell.current_dir(&self.folder).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(file);
        let mut shell = shell.spawn().expect("a shell");
        let mut line = String::new();
        let output = shell.stdout.take().expect("the shell's output");
        BufReader::new(output).read_line(&mut line).expect("the shell says who it started");
        let server = line.trim().parse().expect("a process id");
        self.running = Some((shell, server));
        let address = self.bootstrap();
        wait_for("Kafka to serve", || {
            let text = fs::read_to_string(&log).unwrap_or_default();
            assert!(Path::new("/proc").join(server.to_string()).exists(), "{text}");
            (text.contains("Kafka Server started") && TcpStream::connect(&address).is_ok()).then_some(())
        });
    }

    /// Ends it as `kill -9` does; its data stays.
    pub(crate) fn kill(&mut self) {
        self.end("kill");
    }

    /// Ends it in order; its data stays.
    pub(crate) fn stop(&mut self) {
        self.end("stop");
    }

    fn end(&mut self, how: &str) {
        let (mut shell, _) = self.running.take().expect("the broker runs");
        let mut input = shell.stdin.take().expect("the shell's input");
        writeln!(input, "{how}").expect("the shell reads");
        drop(input);
        shell.wait().expect("the shell ends");
    }

    /// Makes a topic with one of Kafka's own tools.
    pub(crate) fn create_topic(&self, topic: &str, partitions: u32, settings: &[(&str, &str)]) {
        let partitions = partitions.to_string();
        let mut arguments = vec!["--create".to_owned(), "--partitions".to_owned(), partitions];
        for (key, value) in settings {
            arguments.extend(["--config".to_owned(), format!("{key}={value}")]);
        }
        self.topics(topic, &arguments);
    }

    /// Deletes a topic with one of Kafka's own tools.
    pub(crate) fn delete_topic(&self, topic: &str) {
        self.topics(topic, &["--delete".to_owned()]);
    }

    /// Runs a script of `tests/support/kafka/` with the tests' Python and returns what it printed; `None` where that is missing.
    pub(crate) fn judge(&self, script: &str, arguments: &[&str]) -> Option<String> {
        let venv = home()?.join("venv");
        if !venv.join("requirements.txt").exists() {
            return None;
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .ancestors()
            .find(|folder| folder.join("tests/support/kafka").exists());
        let script = root.expect("the repository").join("tests/support/kafka").join(script);
        let output =
            Command::new(venv.join("bin/python")).arg(&script).args(arguments).output().expect("python starts");
        assert!(output.status.success(), "{}\n{}", script.display(), String::from_utf8_lossy(&output.stderr));
        Some(String::from_utf8(output.stdout).expect("text").trim().to_owned())
    }

    fn topics(&self, topic: &str, arguments: &[String]) {
        let tool = java(&self.folder, &jars().expect("the broker is installed"))
            .args(["org.apache.kafka.tools.TopicCommand", "--bootstrap-server", &self.bootstrap(), "--topic", topic])
            .args(arguments)
            .output()
            .expect("java starts");
        assert!(tool.status.success(), "{arguments:?} {topic}\n{}", String::from_utf8_lossy(&tool.stdout));
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        match self.running.take() {
            // Its input closes, so the shell kills the broker and removes the data.
            Some((mut shell, _)) => {
                drop(shell.stdin.take());
                let _ = shell.wait();
            }
            None => {
                let _ = fs::remove_dir_all(&self.folder);
            }
        }
    }
}

/// The folder that `scripts/test-setup.sh` fills.
fn home() -> Option<PathBuf> {
    std::env::var_os("TEREZA_TEST_HOME").map(PathBuf::from).or_else(|| {
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cache")));
        Some(cache?.join("tereza"))
    })
}

/// The class path; `None` where Kafka or Java is not installed.
fn jars() -> Option<String> {
    let jars = home()?.join("kafka");
    let java = Command::new("java").arg("-version").output().is_ok_and(|output| output.status.success());
    (jars.join("pom.xml").exists() && java).then(|| format!("{}/*", jars.display()))
}

/// Java with the broker's classes: little memory, and compiled fast rather than well.
fn java(folder: &Path, jars: &str) -> Command {
    let mut java = Command::new("java");
    java.args(["-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
    java.args(["-Dlog4j2.configurationFile=log4j2.yaml", "-cp", jars]).current_dir(folder);
    java
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = clock::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

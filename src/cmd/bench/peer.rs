//! An engine in a process of its own, asked in lines of JSON: the protocol is in `benches/peers/common.py`.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tereza_runtime::{Error, Result};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use super::answer::Answer;

/// Longest line of a peer: an answer of some million cells.
const LINE_BYTES_MAX: u64 = 256 << 20;
/// For a process to start and open its tables.
const OPEN_TIMEOUT: Duration = Duration::from_secs(600);
/// For a process to end by itself when its standard input ends.
const END_TIMEOUT: Duration = Duration::from_secs(10);
/// An engine that computes less than a tick in this time has settled.
const SETTLE_INTERVAL: Duration = Duration::from_millis(50);
/// For an engine to settle.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(3);

/// How to start an engine and what to open in it.
#[derive(Debug)]
pub(super) struct Peer {
    /// Name in reports.
    pub(super) name: String,
    program: OsString,
    arguments: Vec<OsString>,
    open: Value,
    log: PathBuf,
    process: Option<Process>,
    /// What it says of itself, once it was started.
    pub(super) version: Option<String>,
    /// Most resident memory of any of its processes so far, children included.
    pub(super) peak_rss_bytes: u64,
}

#[derive(Debug)]
struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// One timed answer.
#[derive(Debug, Deserialize)]
pub(super) struct Timed {
    /// From handing the text over until the whole result was there.
    pub(super) seconds: f64,
    /// The result.
    #[serde(flatten)]
    pub(super) answer: Answer,
}

impl Peer {
    /// An engine that is started by its first question. What it writes on standard error goes to `log`.
    pub(super) fn new(
        name: &str,
        program: impl Into<OsString>,
        arguments: Vec<OsString>,
        open: Value,
        log: &Path,
    ) -> Self {
        Self {
            name: name.into(),
            program: program.into(),
            arguments,
            open,
            log: log.into(),
            process: None,
            version: None,
            peak_rss_bytes: 0,
        }
    }

    /// Starts it unless it runs.
    pub(super) async fn start(&mut self) -> Result<()> {
        if self.process.is_some() {
            return Ok(());
        }
        let name = self.name.clone();
        let unstarted = |error: std::io::Error| Error::unavailable(format!("{name} cannot be started: {error}"));
        let log = File::options().create(true).append(true).open(&self.log).map_err(unstarted)?;
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .map_err(unstarted)?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::internal("a process was started without its pipes"));
        };
        self.process = Some(Process { child, input, output: BufReader::new(output) });

        let request = json!({ "open": self.open });
        let opened = self.ask(&request, OPEN_TIMEOUT).await?;
        self.version = opened["version"].as_str().map(str::to_owned);
        Ok(())
    }

    /// Runs a query. After an error that is not the query's own (time-out, death) the next question starts it anew.
    pub(super) async fn query(&mut self, sql: &str, limit: Duration) -> Result<Timed> {
        self.start().await?;
        let answer = self.ask(&json!({ "query": sql }), limit).await?;
        serde_json::from_value(answer).map_err(|error| Error::internal(format!("{} answers oddly: {error}", self.name)))
    }

    /// Asks one thing; an `error` in the reply is an error here.
    pub(super) async fn ask(&mut self, request: &Value, limit: Duration) -> Result<Value> {
        let Some(process) = &mut self.process else {
            return Err(Error::unavailable(format!("{} does not run", self.name)));
        };
        let reply = match timeout(limit, process.ask(request)).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(error)) => {
                self.kill().await;
                return Err(error.context(format!("{} died (see {})", self.name, self.log.display())));
            }
            Err(_) => {
                self.kill().await;
                return Err(Error::cancelled(format!("{} took more than {} s", self.name, limit.as_secs())));
            }
        };
        if let Some(pid) = process.child.id() {
            self.peak_rss_bytes = self.peak_rss_bytes.max(peak_rss_bytes(pid));
        }
        match reply["error"].as_str() {
            Some(error) => Err(Error::unsupported(error)),
            None => Ok(reply),
        }
    }

    /// Waits until it has stopped computing: some engines compile and collect garbage after an answer, and would slow down
    /// whoever is asked next.
    pub(super) async fn settle(&self) {
        let Some(pid) = self.process.as_ref().and_then(|process| process.child.id()) else { return };
        let settled = async {
            let mut before = cpu_ticks(pid);
            loop {
                tokio::time::sleep(SETTLE_INTERVAL).await;
                let now = cpu_ticks(pid);
                if now == before {
                    return;
                }
                before = now;
            }
        };
        // One that is always busy is measured so.
        let _ = timeout(SETTLE_TIMEOUT, settled).await;
    }

    /// Ends it at once, and waits until it is gone and its locks with it.
    async fn kill(&mut self) {
        if let Some(mut process) = self.process.take()
            && let Err(error) = process.child.kill().await
        {
            tracing::warn!(peer = self.name, %error, "a process cannot be killed");
        }
    }

    /// Lets it end.
    pub(super) async fn stop(&mut self) {
        let Some(Process { mut child, input, .. }) = self.process.take() else { return };
        drop(input);
        if timeout(END_TIMEOUT, child.wait()).await.is_ok() {
            return;
        }
        if let Err(error) = child.kill().await {
            tracing::warn!(peer = self.name, %error, "a process cannot be killed");
        }
    }
}

impl Process {
    async fn ask(&mut self, request: &Value) -> Result<Value> {
        let broken = |error: std::io::Error| Error::unavailable(error.to_string());
        self.input.write_all(format!("{request}\n").as_bytes()).await.map_err(broken)?;
        self.input.flush().await.map_err(broken)?;
        let mut line = String::new();
        (&mut self.output).take(LINE_BYTES_MAX).read_line(&mut line).await.map_err(broken)?;
        if !line.ends_with('\n') {
            return Err(Error::unavailable(format!("no whole answer but {} bytes of one", line.len())));
        }
        serde_json::from_str(&line).map_err(|error| Error::unavailable(format!("an answer is not JSON: {error}")))
    }
}

/// A process and its descendants, from Linux' `/proc`.
fn family(pid: u32) -> Vec<u32> {
    let children = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten().flat_map(|thread| {
        let text = std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()
    });
    std::iter::once(pid).chain(children.flat_map(family)).collect()
}

/// The sum of the peaks of a process and its descendants; 0 where there is no `/proc`.
fn peak_rss_bytes(pid: u32) -> u64 {
    let peak_kib = |pid| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
        line.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0)
    };
    family(pid).into_iter().map(peak_kib).sum::<u64>() * 1024
}

/// Time that a process and its descendants have computed, in the kernel's ticks; 0 where there is no `/proc`.
fn cpu_ticks(pid: u32) -> u64 {
    let ticks = |pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // After the name, which may hold anything: state is the 3rd field, user and system time the 14th and 15th.
        let fields = stat.rsplit_once(')').map(|(_, fields)| fields).unwrap_or_default();
        fields.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>()
    };
    family(pid).into_iter().map(ticks).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_seen_to_compute() {
        let own = std::process::id();
        assert!(family(own).contains(&own));
        assert!(peak_rss_bytes(own) > 1 << 20);
        let before = cpu_ticks(own);
        let mut sum = 0u64;
        while cpu_ticks(own) == before {
            sum = std::hint::black_box((0..1_000_000u64).fold(sum, u64::wrapping_add));
        }
        assert!(cpu_ticks(own) > before);
    }
}

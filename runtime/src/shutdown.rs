//! How a process ends: the first SIGTERM or SIGINT starts the drain, in which what runs may finish; the second ends the
//! process at once.
//!
//! Every long-lived task is spawned through [`Shutdown::spawn`] with the name of its owner, so that the process knows
//! what it still waits for, and ends when one of them fails.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::settings;
use crate::{Error, Result};

/// How often a process looks whether the one that started it still runs.
const PARENT_LOOK: Duration = Duration::from_millis(500);

/// The end of a process, shared by all that take part in it. Cheap to clone.
#[derive(Clone)]
pub struct Shutdown(Arc<Inner>);

struct Inner {
    token: CancellationToken,
    tracker: TaskTracker,
    drain_timeout: Duration,
    signals: AtomicU64,
    tasks: Mutex<Tasks>,
}

#[derive(Default)]
struct Tasks {
    next_id: u64,
    /// `owner/name` of what runs.
    running: BTreeMap<u64, String>,
    /// The first error of a task.
    failure: Option<Error>,
}

/// A signal that ends a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM.
    Terminate,
    /// SIGINT.
    Interrupt,
}

impl Signal {
    /// The exit status of a process that the signal ended: 128 and the signal's number.
    pub fn exit_status(self) -> i32 {
        match self {
            Self::Terminate => 128 + SignalKind::terminate().as_raw_value(),
            Self::Interrupt => 128 + SignalKind::interrupt().as_raw_value(),
        }
    }
}

/// Tells a child process to end; one that has ended already is left alone.
pub fn terminate(child: u32) {
    let id = i32::try_from(child).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(id) = id {
        let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
    }
}

/// Ends this process, at once, when the one that started it has ended.
pub fn end_with_parent() {
    let parent = rustix::process::getppid();
    tokio::spawn(async move {
        while rustix::process::getppid() == parent {
            tokio::time::sleep(PARENT_LOOK).await;
        }
        std::process::exit(1);
    });
}

impl Shutdown {
    /// Nothing runs yet.
    pub fn new(settings: &settings::Shutdown) -> Self {
        Self(Arc::new(Inner {
            token: CancellationToken::new(),
            tracker: TaskTracker::new(),
            drain_timeout: Duration::from_millis(settings.drain_timeout_ms),
            signals: AtomicU64::new(0),
            tasks: Mutex::default(),
        }))
    }

    /// Cancelled when the drain starts: take nothing new, finish what runs.
    pub fn token(&self) -> CancellationToken {
        self.0.token.clone()
    }

    /// Starts the drain, if it has not started.
    pub fn begin(&self, reason: impl fmt::Display) {
        if !self.0.token.is_cancelled() {
            tracing::info!(%reason, "draining");
            self.0.token.cancel();
        }
    }

    /// Runs a task until it ends by itself or, soon after [`Shutdown::token`] is cancelled, because of that. If it
    /// fails or panics, the drain starts and [`Shutdown::drained`] returns its error.
    pub fn spawn(
        &self,
        owner: &'static str,
        name: impl fmt::Display,
        task: impl Future<Output = Result<()>> + Send + 'static,
    ) {
        let name = format!("{owner}/{name}");
        let id = {
            let mut tasks = self.0.tasks.lock();
            tasks.next_id += 1;
            let id = tasks.next_id;
            tasks.running.insert(id, name.clone());
            id
        };
        let running = Running { shutdown: self.clone(), id, name, result: None };
        // The handle is not needed: the tracker awaits the task, and `running` tells its result.
        drop(self.0.tracker.spawn(async move { running.end(task.await) }));
    }

    /// Waits for the drain to start and for every task to end. The error of the first task that failed; `Cancelled`
    /// with the names of the tasks that had not ended in time.
    pub async fn drained(&self) -> Result<()> {
        self.0.token.cancelled().await;
        self.0.tracker.close();
        let in_time = tokio::time::timeout(self.0.drain_timeout, self.0.tracker.wait()).await.is_ok();
        let mut tasks = self.0.tasks.lock();
        if let Some(failure) = tasks.failure.take() {
            return Err(failure);
        }
        if in_time {
            return Ok(());
        }
        let names = tasks.running.values().map(String::as_str).collect::<Vec<_>>().join(", ");
        let timeout_ms = self.0.drain_timeout.as_millis();
        Err(Error::cancelled(format!("still running {timeout_ms} ms after the drain began: {names}"))
            .with_hint("raise shutdown.drain_timeout_ms to let them finish"))
    }

    /// Watches for signals until the returned guard is dropped.
    pub fn watch_signals(&self) -> Result<SignalWatch> {
        let listen = |kind| signal(kind).map_err(|error| Error::io("signals cannot be watched", error));
        let mut terminate = listen(SignalKind::terminate())?;
        let mut interrupt = listen(SignalKind::interrupt())?;
        let shutdown = self.clone();
        Ok(SignalWatch(tokio::spawn(async move {
            loop {
                let signal = tokio::select! {
                    _ = terminate.recv() => Signal::Terminate,
                    _ = interrupt.recv() => Signal::Interrupt,
                };
                if let Some(exit_status) = shutdown.received(signal) {
                    std::process::exit(exit_status);
                }
            }
        })))
    }

    /// Starts the drain at the first signal; at the second, the status to exit with at once.
    fn received(&self, signal: Signal) -> Option<i32> {
        let earlier = self.0.signals.fetch_add(1, Ordering::SeqCst);
        self.begin(format_args!("{signal:?} signal"));
        (earlier > 0).then(|| signal.exit_status())
    }
}

impl fmt::Debug for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let running = self.0.tasks.lock().running.len();
        f.debug_struct("Shutdown").field("draining", &self.0.token.is_cancelled()).field("running", &running).finish()
    }
}

/// Stops watching for signals when dropped.
#[derive(Debug)]
pub struct SignalWatch(JoinHandle<()>);

impl Drop for SignalWatch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// One running task: dropped with its future, whether that returned, panicked or was dropped itself.
struct Running {
    shutdown: Shutdown,
    id: u64,
    name: String,
    result: Option<Result<()>>,
}

impl Running {
    fn end(mut self, result: Result<()>) {
        self.result = Some(result);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let failure = match self.result.take() {
            Some(result) => result.err().map(|error| error.context(&self.name)),
            None if std::thread::panicking() => Some(Error::internal(format!("{}: panicked", self.name))),
            None => None,
        };
        let mut tasks = self.shutdown.0.tasks.lock();
        tasks.running.remove(&self.id);
        let Some(error) = failure else { return };
        tracing::error!(error = %error, kind = %error.kind(), "a task failed");
        tasks.failure.get_or_insert(error);
        drop(tasks);
        self.shutdown.begin(format_args!("failure of {}", self.name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn shutdown(drain_timeout_ms: u64) -> Shutdown {
        Shutdown::new(&settings::Shutdown { drain_timeout_ms })
    }

    #[tokio::test]
    async fn tasks_finish_in_the_drain() {
        let shutdown = shutdown(60_000);
        let (token, (sender, receiver)) = (shutdown.token(), tokio::sync::oneshot::channel());
        shutdown.spawn("test", "short", async { Ok(()) });
        shutdown.spawn("test", "server", async move {
            token.cancelled().await;
            sender.send("finished").map_err(Error::internal)
        });
        assert_eq!(shutdown.received(Signal::Terminate), None);
        shutdown.drained().await.unwrap();
        assert_eq!(receiver.await, Ok("finished"));
    }

    #[tokio::test]
    async fn a_drain_that_takes_too_long_names_the_tasks() {
        let shutdown = shutdown(50);
        shutdown.spawn("gateway", "stuck", std::future::pending());
        shutdown.spawn("engine", "quick", async { Ok(()) });
        shutdown.begin("test");
        let error = shutdown.drained().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        assert_eq!(error.message(), "still running 50 ms after the drain began: gateway/stuck");
    }

    #[tokio::test]
    async fn a_task_that_fails_or_panics_ends_the_process() {
        let failing = shutdown(60_000);
        failing.spawn("engine", "keeper", async { Err(Error::unavailable("gone")) });
        let error = failing.drained().await.unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::Unavailable, "engine/keeper: gone"));

        let panicking = shutdown(60_000);
        panicking.spawn("engine", "keeper", async { panic!("on purpose") });
        let error = panicking.drained().await.unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::Internal, "engine/keeper: panicked"));
    }

    #[test]
    fn the_second_signal_exits_with_its_own_status() {
        let shutdown = shutdown(0);
        assert_eq!(shutdown.received(Signal::Terminate), None);
        assert!(shutdown.token().is_cancelled());
        assert_eq!(shutdown.received(Signal::Interrupt), Some(130));
        assert_eq!(shutdown.received(Signal::Terminate), Some(143));
    }

    #[tokio::test]
    async fn a_real_signal_starts_the_drain() {
        let shutdown = shutdown(60_000);
        let _watch = shutdown.watch_signals().unwrap();
        let kill = format!("kill -TERM {}", std::process::id());
        assert!(std::process::Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        tokio::time::timeout(Duration::from_secs(60), shutdown.drained()).await.unwrap().unwrap();
    }
}

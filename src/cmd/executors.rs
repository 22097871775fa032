//! Executors that a process starts on its own machine: processes of this program, started again when they end, and ended
//! with it.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tereza_engine::Engine;
use tereza_engine::cluster::Cluster;
use tereza_runtime::health::Readiness;
use tereza_runtime::shutdown::{self, Shutdown};
use tereza_runtime::{Error, Result, Settings};
use tereza_scheduler::Scheduler;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use super::SettingsArgs;

/// After an executor ended by itself, the next is started so much later.
const PAUSE: Duration = Duration::from_secs(1);

/// The executors of this process.
pub(super) struct Executors {
    count: usize,
    /// Of each, before those that are its own.
    flags: Vec<OsString>,
    data: PathBuf,
    /// How long each may take to end.
    drain_timeout: Duration,
}

impl Executors {
    /// Shares cores and memory of this machine between the executors and this process, whose part is set in `settings`.
    pub(super) fn share(settings: &mut Settings, args: &SettingsArgs) -> Self {
        let count = settings.cluster.executors;
        let mut flags = args.to_flags();
        if count > 0 {
            let engine = &mut settings.engine;
            engine.memory_fraction /= (count + 1) as f64;
            engine.memory_limit_bytes /= count as u64 + 1;
            let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
            let slots = match settings.cluster.task_slots {
                0 => (cores / count).max(1),
                slots => slots,
            };
            let own = [
                format!("engine.memory_fraction={}", engine.memory_fraction),
                format!("engine.memory_limit_bytes={}", engine.memory_limit_bytes),
                format!("cluster.task_slots={slots}"),
                "cluster.executors=0".into(),
                "listen.console=0".into(),
                "listen.executor_flight=0".into(),
                "listen.executor_tasks=0".into(),
            ];
            flags.extend(own.into_iter().flat_map(|set| ["--set".into(), set.into()]));
        }
        let drain_timeout = Duration::from_millis(settings.shutdown.drain_timeout_ms);
        Self { count, flags, data: settings.data.dir.join("executors"), drain_timeout }
    }

    /// Lets `engine` schedule on them, and starts them; they end when `unused` fires, which is after the last statement.
    pub(super) async fn join(
        self,
        engine: &Engine,
        settings: &Settings,
        listener: TcpListener,
        readiness: Readiness,
        shutdown: &Shutdown,
        unused: CancellationToken,
    ) -> Result<Arc<Scheduler>> {
        let address = listener.local_addr().map_err(|error| Error::io("the scheduler has no address", error))?;
        let scheduler = Scheduler::start(&settings.cluster, address, self.drain_timeout).await?;
        engine.join_cluster(Arc::clone(&scheduler) as Arc<dyn Cluster>);
        let serving = Arc::clone(&scheduler).serve(listener, unused.clone());
        shutdown.spawn("scheduler", "serve", async move {
            readiness.ready();
            serving.await
        });
        self.start(address, shutdown, &unused);
        Ok(scheduler)
    }

    /// Starts them; each is a task of `shutdown` that keeps one running.
    fn start(self, address: SocketAddr, shutdown: &Shutdown, unused: &CancellationToken) {
        for index in 0..self.count {
            let mut flags = vec!["executor".into(), "--with-parent".into()];
            flags.extend(self.flags.iter().cloned());
            flags.extend(["--scheduler".into(), format!("http://{address}").into()]);
            flags.extend(["--listen".into(), address.ip().to_string().into()]);
            flags.extend(["--data".into(), self.data.join(index.to_string()).into_os_string()]);
            shutdown.spawn("executor", index, keep(flags, unused.clone(), self.drain_timeout));
        }
    }
}

/// Keeps one executor running until `stop` fires.
async fn keep(flags: Vec<OsString>, stop: CancellationToken, drain_timeout: Duration) -> Result<()> {
    loop {
        let mut child = spawn(&flags)?;
        tokio::select! {
            ended = child.wait() => {
                let ended = ended.map_err(|error| Error::io("an executor cannot be waited for", error))?;
                tracing::warn!(%ended, "an executor ended: another is started");
            }
            () = stop.cancelled() => return end(child, drain_timeout).await,
        }
        if stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_none() {
            return Ok(());
        }
    }
}

fn spawn(flags: &[OsString]) -> Result<Child> {
    let program = std::env::current_exe().map_err(|error| Error::io("this program is not found", error))?;
    let mut command = Command::new(program);
    // What it prints is for people who started it themselves; its log goes where this process's goes.
    command.args(flags).stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    // Ctrl-C at a terminal goes to this process, which ends them when nobody needs them.
    command.process_group(0);
    command.spawn().map_err(|error| Error::io("an executor cannot be started", error))
}

/// Lets it finish its tasks, for a while.
async fn end(mut child: Child, drain_timeout: Duration) -> Result<()> {
    if let Some(id) = child.id() {
        shutdown::terminate(id);
    }
    if tokio::time::timeout(drain_timeout, child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
    Ok(())
}

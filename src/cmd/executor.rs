//! `tereza executor`: a process that runs stages for a scheduler.

use std::net::{IpAddr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::process::Command;

use tereza_runtime::shutdown::{self, Shutdown};
use tereza_runtime::{DataFolder, Endpoints, Error, Result, Settings, clock, telemetry};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::up::{Console, tell_ready};
use super::{ExitStatus, SettingsArgs};

/// Flags of `tereza executor`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where the scheduler is, as http://host:port (setting cluster.scheduler_url)
    #[arg(long, value_name = "URL")]
    scheduler: Option<String>,
    /// Address that every port is bound on (setting listen.ip)
    #[arg(long, value_name = "IP")]
    listen: Option<IpAddr>,
    /// End when the process that started this one ends
    #[arg(long, hide = true)]
    with_parent: bool,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// Runs the command until the process is told to end.
pub(crate) async fn run(args: Args) -> Result<ExitStatus> {
    let started = clock::now();
    if args.with_parent {
        shutdown::end_with_parent();
    }
    let sources = args.settings.sources();
    let sources = sources.flag("--scheduler", "cluster.scheduler_url", args.scheduler.as_ref());
    let settings = Settings::load(&sources.flag("--listen", "listen.ip", args.listen))?;
    let shutdown = Shutdown::new(&settings.shutdown);
    let _signals = shutdown.watch_signals()?;
    let folder = DataFolder::open(&settings.data.dir)?;

    let mut endpoints = Endpoints::new(settings.listen.ip);
    let flight = free(endpoints.bind("executor_flight", "http", settings.listen.executor_flight).await?)?;
    let tasks = free(endpoints.bind("executor_tasks", "http", settings.listen.executor_tasks).await?)?;
    let console = endpoints.bind("console", "http", settings.listen.console).await?;
    telemetry::init_logs(&settings.log)?;
    let console = Console::start(console, &shutdown)?;
    let readiness = console.health.register("executor");

    let _published = endpoints.publish(folder.path())?;
    let registered = CancellationToken::new();
    let running = tereza_executor::run(&settings, flight, tasks, shutdown.token(), registered.clone());
    tokio::pin!(running);
    let ended = tokio::select! {
        ended = &mut running => ended,
        () = registered.cancelled() => {
            readiness.ready();
            if let Err(error) = tell_ready(&endpoints, started.elapsed()) {
                tracing::warn!(%error, "nobody reads standard output");
            }
            running.await
        }
    };
    console.end().await;
    ended?;
    if shutdown.token().is_cancelled() {
        return Ok(ExitStatus::Done);
    }
    // The scheduler took this process for dead and told it to end. What it had is lost, but it can begin anew.
    tracing::warn!("the scheduler gave up on this executor: it starts again");
    let program = std::env::current_exe().map_err(|error| Error::io("this program is not found", error))?;
    let error = Command::new(program).args(std::env::args_os().skip(1)).exec();
    Err(Error::io("the executor cannot start again", error))
}

/// The address of a port that is free from now on: it is bound again by whoever serves it, a moment later.
fn free(listener: TcpListener) -> Result<SocketAddr> {
    listener.local_addr().map_err(|error| Error::io("a port has no address", error))
}

//! `tereza up` and `tereza scheduler`: the roles of one process, from the settings to the end of the drain; with executors
//! as processes of their own, if wanted.

use std::io::{self, Write};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tereza_runtime::shutdown::Shutdown;
use tereza_runtime::telemetry::{self, Metrics};
use tereza_runtime::{DataFolder, Endpoints, Health, Result, Settings, clock, health};
use tereza_scheduler::JobRunner;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::executors::Executors;
use super::{ExitStatus, SettingsArgs};
use crate::allocator::program;

/// The console answers until everything else has ended; its last answers get so long.
const CONSOLE_END_TIMEOUT: Duration = Duration::from_secs(1);

/// Flags of `tereza up`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Address that every port is bound on (setting listen.ip)
    #[arg(long, value_name = "IP")]
    listen: Option<IpAddr>,
    /// Executors to start on this machine, each a process of its own (setting cluster.executors)
    #[arg(long, value_name = "N")]
    executors: Option<usize>,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// Whether a process schedules.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// If it starts executors.
    Up,
    /// In any case: executors come by themselves.
    Scheduler,
}

/// Runs the command until the process is told to end.
pub(crate) async fn run(args: Args, role: Role) -> Result<ExitStatus> {
    let started = clock::now();
    let sources = args.settings.sources().flag("--listen", "listen.ip", args.listen);
    let mut settings = Settings::load(&sources.flag("--executors", "cluster.executors", args.executors))?;
    let shutdown = Shutdown::new(&settings.shutdown);
    let _signals = shutdown.watch_signals()?;
    let folder = DataFolder::open(&settings.data.dir)?;

    let mut endpoints = Endpoints::new(settings.listen.ip);
    let has_tls = !settings.gateway.tls_cert.as_os_str().is_empty();
    let flight_sql =
        endpoints.bind("flight_sql", if has_tls { "https" } else { "http" }, settings.listen.flight_sql).await?;
    let schedules = role == Role::Scheduler || settings.cluster.executors > 0;
    let scheduler = match schedules {
        true => Some(endpoints.bind("scheduler", "http", settings.listen.scheduler).await?),
        false => None,
    };
    let console = endpoints.bind("console", "http", settings.listen.console).await?;

    telemetry::init_logs(&settings.log)?;
    if !settings.listen.ip.is_loopback() && settings.gateway.users.is_empty() {
        tracing::warn!(ip = %settings.listen.ip, "everybody who reaches this address is let in: set gateway.users");
    }
    let console = Console::start(console, &shutdown)?;
    let executors = Executors::share(&mut settings, &args.settings);

    let roles = start_roles(&settings, Sockets { flight_sql, scheduler }, executors, &console.health, &shutdown);
    let result = match shutdown.token().run_until_cancelled(roles).await {
        Some(Ok(())) => {
            let _published = endpoints.publish(folder.path())?;
            if let Err(error) = tell_ready(&endpoints, started.elapsed()) {
                tracing::warn!(%error, "nobody reads standard output");
            }
            shutdown.drained().await
        }
        Some(Err(error)) => {
            shutdown.begin("the start failed");
            // The first error is the one that counts.
            let _ = shutdown.drained().await;
            Err(error)
        }
        None => shutdown.drained().await,
    };
    console.end().await;
    result.map(|()| ExitStatus::Done)
}

/// The console of a process: first up and last down, so that a probe hears "starting" and "draining" and not silence.
pub(crate) struct Console {
    /// What the roles of the process tell of themselves.
    pub(crate) health: Health,
    stop: CancellationToken,
    serving: JoinHandle<Result<()>>,
}

impl Console {
    /// Answers from now on.
    pub(crate) fn start(listener: TcpListener, shutdown: &Shutdown) -> Result<Self> {
        let (health, stop) = (Health::default(), CancellationToken::new());
        let metrics = Metrics::install()?;
        let serving = health::serve(listener, health.clone(), metrics.clone(), shutdown.token(), stop.clone());
        shutdown.spawn("runtime", "metrics", metrics.upkeep(shutdown.token()));
        Ok(Self { health, stop, serving: tokio::spawn(serving) })
    }

    /// Answers no more.
    pub(crate) async fn end(self) {
        self.stop.cancel();
        let _ = tokio::time::timeout(CONSOLE_END_TIMEOUT, self.serving).await;
    }
}

/// What the roles listen on.
struct Sockets {
    flight_sql: TcpListener,
    scheduler: Option<TcpListener>,
}

/// Starts the roles and returns when all are ready; from then on they are tasks of `shutdown`.
async fn start_roles(
    settings: &Settings,
    sockets: Sockets,
    executors: Executors,
    health: &Health,
    shutdown: &Shutdown,
) -> Result<()> {
    let engine_readiness = health.register("engine");
    let flight_readiness = health.register("flight_sql");

    let engine = tereza_engine::Engine::open(settings).await?;
    // Executors are needed until nobody is there whose statements they run.
    let unused = CancellationToken::new();
    let in_use = Arc::new(unused.clone().drop_guard());
    if let Some(listener) = sockets.scheduler {
        let readiness = health.register("scheduler");
        executors.join(&engine, settings, listener, readiness, shutdown, unused).await?;
    }
    let service = tereza_engine::LocalQueryService::new(Arc::clone(&engine));
    let jobs = JobRunner::new(&engine, Arc::clone(&service), settings.jobs.clone());
    let (token, used_by_jobs) = (shutdown.token(), Arc::clone(&in_use));
    shutdown.spawn("scheduler", "jobs", async move {
        let _used = used_by_jobs;
        jobs.run(token).await
    });
    engine_readiness.ready();

    let gateway = gateway_settings(settings);
    let token = shutdown.token();
    shutdown.spawn("gateway", "flight_sql", async move {
        // The engine lives as long as its last user.
        let (_engine_readiness, _used) = (engine_readiness, in_use);
        flight_readiness.ready();
        let served = tereza_gateway::flight::serve(sockets.flight_sql, service, gateway, token).await;
        engine.close().await;
        served
    });
    Ok(())
}

/// The settings of the gateway, in its own type.
fn gateway_settings(settings: &Settings) -> tereza_gateway::Settings {
    let from = &settings.gateway;
    let has_tls = !from.tls_cert.as_os_str().is_empty();
    tereza_gateway::Settings {
        connections_max: from.connections_max,
        requests_per_connection_max: from.requests_per_connection_max,
        connection_setup_ms: from.connection_setup_ms,
        message_limit_bytes: from.message_limit_bytes,
        request_limit_bytes: from.request_limit_bytes,
        stream_idle_timeout_ms: from.stream_idle_timeout_ms,
        ticket_ttl_ms: from.ticket_ttl_ms,
        tickets_max: from.tickets_max,
        poll_buffer_batches: from.poll_buffer_batches,
        prepared_max: from.prepared_max,
        parameter_rows_max: from.parameter_rows_max,
        parameters_limit_bytes: from.parameters_limit_bytes,
        users: from.users.iter().map(|(name, password)| (name.clone(), password.expose().to_owned())).collect(),
        tls: has_tls.then(|| tereza_gateway::Tls { certificate: from.tls_cert.clone(), key: from.tls_key.clone() }),
        token_ttl_ms: from.token_ttl_ms,
        // A tenth is left for the statements that it then cancels to end, before the process stops waiting.
        drain_ms: settings.shutdown.drain_timeout_ms / 10 * 9,
        views: from.views,
    }
}

/// Tells on standard output where a process is reached, and that it is ready. What only the start needed is let go of.
pub(crate) fn tell_ready(endpoints: &Endpoints, elapsed: Duration) -> io::Result<()> {
    program::unmap_unused();
    let mut out = io::stdout().lock();
    endpoints.print(&mut out)?;
    writeln!(out, "ready in {} ms", elapsed.as_millis())?;
    out.flush()
}

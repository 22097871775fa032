//! `tereza up`, `tereza scheduler` and `tereza catalog`: the roles of one process, from the settings to the end of the drain;
//! with executors as processes of their own, if wanted.

use std::io::{self, Write};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tereza_engine::{Catalog, Engine, LocalQueryService};
use tereza_runtime::clock::Clock;
use tereza_runtime::shutdown::Shutdown;
use tereza_runtime::telemetry::{self, Metrics};
use tereza_runtime::{DataFolder, Endpoints, Error, Health, Result, Settings, clock, health};
use tereza_scheduler::JobRunner;
use tereza_streaming::{StreamRunner, StreamSettings};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::executors::Executors;
use super::{ExitStatus, SettingsArgs, catalog};
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

/// What a process is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// All; it schedules if it starts executors.
    Up,
    /// The same, and it schedules in any case: executors come by themselves.
    Scheduler,
    /// The catalog alone, for clients of a metastore and of a schema registry.
    Catalog,
    /// Stream jobs alone, of a catalog that others serve.
    Stream,
}

/// Runs the command until the process is told to end.
pub(crate) async fn run(args: Args, role: Role) -> Result<ExitStatus> {
    let started = clock::now();
    let sources = args.settings.sources().flag("--listen", "listen.ip", args.listen);
    let mut settings = Settings::load(&sources.flag("--executors", "cluster.executors", args.executors))?;
    if role == Role::Catalog && !settings.metastore.enabled && !settings.registry.enabled {
        return Err(Error::invalid_input("metastore.enabled and registry.enabled are both false: nothing is served"));
    }
    let shutdown = Shutdown::new(&settings.shutdown);
    let _signals = shutdown.watch_signals()?;
    let folder = DataFolder::open(&settings.data.dir)?;

    let mut endpoints = Endpoints::new(settings.listen.ip);
    let sockets = Sockets::bind(&mut endpoints, &settings, role).await?;
    let console = endpoints.bind("console", "http", settings.listen.console).await?;

    telemetry::init_logs(&settings.log)?;
    sockets.warn_of_open_doors(&settings);
    let console = Console::start(console, &shutdown)?;
    let executors = Executors::share(&mut settings, &args.settings);

    let roles = start_roles(&settings, role, sockets, executors, &console.health, &shutdown);
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

/// What the roles listen on; a role that has none is not one of the process.
struct Sockets {
    flight_sql: Option<TcpListener>,
    metastore: Option<TcpListener>,
    registry: Option<TcpListener>,
    scheduler: Option<TcpListener>,
}

impl Sockets {
    async fn bind(endpoints: &mut Endpoints, settings: &Settings, role: Role) -> Result<Self> {
        let Settings { listen, gateway, metastore, registry, cluster, .. } = settings;
        let mut sockets = Self { flight_sql: None, metastore: None, registry: None, scheduler: None };
        if role == Role::Stream {
            return Ok(sockets);
        }
        if role != Role::Catalog {
            let scheme = if is_set(&gateway.tls_cert) { "https" } else { "http" };
            sockets.flight_sql = Some(endpoints.bind("flight_sql", scheme, listen.flight_sql).await?);
        }
        if metastore.enabled {
            sockets.metastore = Some(endpoints.bind("metastore", "thrift", listen.metastore).await?);
        }
        if registry.enabled {
            sockets.registry = Some(endpoints.bind("registry", "http", listen.registry).await?);
        }
        if role == Role::Scheduler || role == Role::Up && cluster.executors > 0 {
            sockets.scheduler = Some(endpoints.bind("scheduler", "http", listen.scheduler).await?);
        }
        Ok(sockets)
    }

    /// Says what is not guarded, where others than this machine reach it.
    fn warn_of_open_doors(&self, settings: &Settings) {
        let ip = settings.listen.ip;
        if ip.is_loopback() {
            return;
        }
        if self.flight_sql.is_some() && settings.gateway.users.is_empty() {
            tracing::warn!(%ip, "everybody who reaches this address is let in: set gateway.users");
        }
        if self.metastore.is_some() {
            tracing::warn!(
                %ip,
                "a metastore has no passwords: everybody who reaches its port may change tables and drop their files; \
                 keep strangers from it, or set metastore.enabled=false"
            );
        }
        if self.registry.is_some() {
            tracing::warn!(
                %ip,
                "a schema registry has no passwords: everybody who reaches its port may change schemas; keep strangers \
                 from it, or set registry.enabled=false"
            );
        }
    }
}

/// Starts the roles and returns when all are ready; from then on they are tasks of `shutdown`.
async fn start_roles(
    settings: &Settings,
    role: Role,
    sockets: Sockets,
    executors: Executors,
    health: &Health,
    shutdown: &Shutdown,
) -> Result<()> {
    let clock = Clock::system();
    let catalog = Catalog::open(settings, clock.clone()).await?;
    if let Some(listener) = sockets.metastore {
        catalog::start_metastore(settings, listener, &catalog, health, shutdown)?;
    }
    if let Some(listener) = sockets.registry {
        catalog::start_registry(settings, listener, &catalog, health, shutdown);
    }
    if role == Role::Catalog {
        return Ok(());
    }

    let engine_readiness = health.register("engine");
    let engine = Engine::over(settings, catalog.store, clock.clone()).await?;
    // Executors are needed until nobody is there whose statements they run.
    let unused = CancellationToken::new();
    let in_use = Arc::new(unused.clone().drop_guard());
    if let Some(listener) = sockets.scheduler {
        let readiness = health.register("scheduler");
        executors.join(&engine, settings, listener, readiness, shutdown, unused).await?;
    }
    let service = LocalQueryService::new(Arc::clone(&engine));
    let streams = stream_runner(settings, &engine, &service, clock)?;
    engine.install_streams(Arc::clone(&streams) as _);
    let (token, used_by_streams) = (shutdown.token(), Arc::clone(&in_use));
    shutdown.spawn("streaming", "jobs", async move {
        let _used = used_by_streams;
        streams.run(token).await
    });
    let Some(flight_sql) = sockets.flight_sql else {
        engine_readiness.ready();
        let token = shutdown.token();
        shutdown.spawn("streaming", "engine", async move {
            let (_readiness, _used) = (engine_readiness, in_use);
            token.cancelled().await;
            engine.close().await;
            Ok(())
        });
        return Ok(());
    };
    let flight_readiness = health.register("flight_sql");
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
        let served = tereza_gateway::flight::serve(flight_sql, service, gateway, token).await;
        engine.close().await;
        served
    });
    Ok(())
}

/// Who runs stream jobs in this process.
fn stream_runner(
    settings: &Settings,
    engine: &Arc<Engine>,
    service: &Arc<LocalQueryService>,
    clock: Clock,
) -> Result<Arc<StreamRunner>> {
    let from = &settings.streaming;
    let (store, root) = engine.object_store(&from.url)?;
    let settings = StreamSettings {
        running_max: from.running_max,
        store,
        root,
        state_bytes_max: usize::try_from(from.state_limit_bytes).unwrap_or(usize::MAX),
        retry_pause: Duration::from_millis(from.retry_pause_ms),
    };
    Ok(StreamRunner::new(Arc::clone(engine), Arc::clone(service), clock, settings))
}

/// The settings of the gateway, in its own type.
fn gateway_settings(settings: &Settings) -> tereza_gateway::Settings {
    let from = &settings.gateway;
    let has_tls = is_set(&from.tls_cert);
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

pub(super) fn is_set(path: &Path) -> bool {
    !path.as_os_str().is_empty()
}

/// Tells on standard output where a process is reached, and that it is ready. What only the start needed is let go of.
pub(crate) fn tell_ready(endpoints: &Endpoints, elapsed: Duration) -> io::Result<()> {
    program::unmap_unused();
    let mut out = io::stdout().lock();
    endpoints.print(&mut out)?;
    writeln!(out, "ready in {} ms", elapsed.as_millis())?;
    out.flush()
}

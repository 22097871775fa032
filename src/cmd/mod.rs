//! The commands, one file each, and what they share: the flags that set settings, and the exit status.

mod bench;
mod catalog;
pub(crate) mod client;
mod config;
mod executor;
mod executors;
mod job;
mod server;
mod sql;
mod submit;
mod up;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tereza_engine::{Engine, LocalQueryService};
use tereza_runtime::settings::Sources;
use tereza_runtime::shutdown::Shutdown;
use tereza_runtime::{DataFolder, Endpoints, Error, ErrorKind, Health, Result, Settings, clock};

use self::executors::Executors;

/// How often it is looked whether all executors have come.
const EXECUTOR_LOOK: Duration = Duration::from_millis(5);

/// What to do.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Run every role in this process until SIGTERM or Ctrl-C
    Up(up::Args),
    /// Serve SQL and schedule what is large on executors, until SIGTERM or Ctrl-C
    Scheduler(up::Args),
    /// Serve a Hive Metastore and a Schema Registry, without SQL, until SIGTERM or Ctrl-C; or import another metastore
    Catalog(Box<catalog::Args>),
    /// Run stream jobs of a catalog that others serve, until SIGTERM or Ctrl-C
    Stream(up::Args),
    /// Run stages for a scheduler until SIGTERM or Ctrl-C
    Executor(executor::Args),
    /// Run SQL: in this process, or on a server with --url
    Sql(sql::Args),
    /// Give a server a text of SQL to keep and to run
    Submit(submit::Args),
    /// What has become of submitted texts
    Job(job::Args),
    /// Measure speed and check answers
    Bench(bench::Args),
    /// Show or check the settings
    Config(config::Args),
}

impl Command {
    /// Whether it waits most of the time, for others to ask.
    pub(crate) fn is_server(&self) -> bool {
        matches!(self, Self::Up(_) | Self::Scheduler(_) | Self::Catalog(_) | Self::Stream(_))
    }

    /// Runs it to its end.
    pub(crate) async fn run(self) -> Result<ExitStatus> {
        match self {
            Self::Up(args) => up::run(args, up::Role::Up).await,
            Self::Scheduler(args) => up::run(args, up::Role::Scheduler).await,
            Self::Stream(args) => up::run(args, up::Role::Stream).await,
            Self::Catalog(args) => catalog::run(*args).await,
            Self::Executor(args) => executor::run(args).await,
            Self::Sql(args) => sql::run(args).await,
            Self::Submit(args) => submit::run(args).await,
            Self::Job(args) => job::run(args).await,
            Self::Bench(args) => bench::run(args).await,
            Self::Config(args) => config::run(args),
        }
    }
}

/// What a process ends with; scripts rely on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExitStatus {
    /// It is done.
    Done = 0,
    /// The statement or job failed.
    Failed = 1,
    /// Wrong usage: flags, settings.
    Usage = 2,
    /// The server cannot be reached.
    Unreachable = 3,
    /// Ctrl-C: 128 and the number of SIGINT.
    Interrupted = 130,
}

impl ExitStatus {
    /// For an error that ends a command. What a statement of the user's does wrong is its command's own to report.
    pub(crate) fn of(error: &Error) -> Self {
        match error.kind() {
            ErrorKind::InvalidInput => Self::Usage,
            ErrorKind::Unavailable => Self::Unreachable,
            _ => Self::Failed,
        }
    }
}

/// An engine in this process, which has its data folder for itself.
pub(crate) struct Embedded {
    /// Runs the statements.
    pub(crate) service: Arc<LocalQueryService>,
    engine: Arc<Engine>,
    /// The executors that it started, if it did.
    executors: Option<Shutdown>,
    _folder: DataFolder,
}

impl Embedded {
    /// Opens the data folder of the settings and an engine on it.
    pub(crate) async fn open(settings: &Settings) -> Result<Self> {
        let folder = DataFolder::open(&settings.data.dir)?;
        let engine = Engine::open(settings).await?;
        let service = LocalQueryService::new(Arc::clone(&engine));
        Ok(Self { service, engine, executors: None, _folder: folder })
    }

    /// The same with the executors of the settings, all of which have come when this returns.
    pub(crate) async fn with_executors(mut settings: Settings) -> Result<Self> {
        let executors = Executors::share(&mut settings, &SettingsArgs::default());
        let mut embedded = Self::open(&settings).await?;
        let shutdown = Shutdown::new(&settings.shutdown);
        let listener = Endpoints::new(settings.listen.ip).bind("scheduler", "http", 0).await?;
        let readiness = Health::default().register("scheduler");
        let scheduler =
            executors.join(&embedded.engine, &settings, listener, readiness, &shutdown, shutdown.token()).await?;
        embedded.executors = Some(shutdown);
        let deadline = clock::now() + Duration::from_millis(settings.cluster.executor_wait_ms);
        while scheduler.executor_count() < settings.cluster.executors {
            if clock::now() > deadline {
                return Err(Error::unavailable(format!("not all of {} executors came", settings.cluster.executors)));
            }
            tokio::time::sleep(EXECUTOR_LOOK).await;
        }
        Ok(embedded)
    }

    /// Waits for what dropped statements still clean up.
    pub(crate) async fn close(self) {
        self.engine.close().await;
        if let Some(executors) = self.executors {
            executors.begin("the command ends");
            // What they had is no longer wanted.
            let _ = executors.drained().await;
        }
    }
}

/// The flags of every command that runs in this process on settings.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct SettingsArgs {
    /// Data folder (setting data.dir)
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// Settings file; without it ./tereza.toml, if it is there
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting, over file and environment; may be repeated
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
}

impl SettingsArgs {
    /// Where the settings come from, for further flags to be added.
    pub(crate) fn sources(&self) -> Sources {
        Sources::of_process(self.config.clone(), self.set.clone()).flag("--data", "data.dir", self.data.as_ref())
    }

    /// The flags that give another process the same settings, but for its data folder.
    pub(crate) fn to_flags(&self) -> Vec<OsString> {
        let config = self.config.iter().flat_map(|file| ["--config".into(), file.clone().into_os_string()]);
        let set = self.set.iter().flat_map(|set| ["--set".into(), set.into()]);
        config.chain(set).collect()
    }

    /// The settings of this process.
    pub(crate) fn load(&self) -> Result<Settings> {
        Settings::load(&self.sources())
    }
}

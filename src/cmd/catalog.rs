//! `tereza catalog`: serves the catalog to clients of a Hive Metastore and of a Schema Registry, or brings into it what another
//! one has, or looks after it; and the two as roles of any process.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use tereza_catalog::MySqlStore;
use tereza_catalog::check::{Expected, Finding, Report, check};
use tereza_catalog::hive::{self, Remote};
use tereza_catalog::import::{FromStore, Imported, Source, import};
use tereza_catalog::store::mysql;
use tereza_engine::{Catalog, CatalogFiles};
use tereza_registry::{Service, rest, service};
use tereza_runtime::clock::Clock;
use tereza_runtime::shutdown::Shutdown;
use tereza_runtime::{DataFolder, Error, Health, Result, Settings, telemetry};
use tereza_thrift::codec::Limits;
use tereza_thrift::tls::Tls;
use tereza_thrift::{client, server};
use tokio::net::TcpListener;

use self::locks::{LocksArgs, UnlockArgs};
use super::up::{self, Role, is_set};
use super::{ExitStatus, SettingsArgs};

mod locks;

/// Flags of `tereza catalog`.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    serve: up::Args,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Copy databases, tables, partitions, statistics, functions, constraints, roles and privileges of a running metastore; files
    /// stay where they are
    Import(ImportArgs),
    /// Look for what is wrong in the catalog: places, names, types and records that readers stumble over; nothing is changed
    Check(CheckArgs),
    /// Show the locks of a metastore, held and waiting
    Locks(LocksArgs),
    /// Take back a lock of a metastore, whose owner then has it no more
    Unlock(UnlockArgs),
}

#[derive(clap::Args)]
struct CheckArgs {
    #[command(flatten)]
    settings: SettingsArgs,
}

#[derive(clap::Args)]
struct ImportArgs {
    /// Where from: thrift://host:port of a Hive Metastore (several of one metastore with commas between), or the database of one
    /// that runs no more, mysql://user:password@host:port/database, which is only read
    #[arg(long, value_name = "URL")]
    from: String,
    /// Only this database; may be repeated
    #[arg(long, value_name = "NAME")]
    database: Vec<String>,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// Runs the command.
pub(crate) async fn run(args: Args) -> Result<ExitStatus> {
    match args.action {
        None => up::run(args.serve, Role::Catalog).await,
        Some(Action::Import(args)) => run_import(args).await,
        Some(Action::Check(args)) => run_check(args).await,
        Some(Action::Locks(args)) => locks::list(args).await,
        Some(Action::Unlock(args)) => locks::unlock(args).await,
    }
}

async fn run_import(args: ImportArgs) -> Result<ExitStatus> {
    let settings = args.settings.load()?;
    telemetry::init_logs(&settings.log)?;
    let source: Box<dyn Source> = if args.from.starts_with("mysql://") || args.from.starts_with("mariadb://") {
        let settings = mysql::Settings { read_only: true, ..mysql::Settings::default() };
        Box::new(FromStore(MySqlStore::open(&args.from, settings, Clock::system()).await?))
    } else {
        Box::new(Remote::new(&args.from, client::Settings::default())?)
    };
    let _folder = DataFolder::open(&settings.data.dir)?;
    let catalog = Catalog::open(&settings, Clock::system()).await?;
    let shows_progress = std::io::stderr().is_terminal();
    let mut progress = |done: &Imported, at: &str| {
        if shows_progress {
            let Imported { tables, partitions, .. } = done;
            eprint!("\r\x1b[K{tables} tables, {partitions} partitions: {at}");
        }
    };
    let done = import(source.as_ref(), catalog.store.as_ref(), &args.database, &mut progress).await;
    if shows_progress {
        eprint!("\r\x1b[K");
    }
    let done = done.map_err(|error| {
        let hint = "what was copied stays; run the command again to go on";
        if error.hint().is_none() { error.with_hint(hint) } else { error }
    })?;
    tell(&done).map_err(|error| Error::io("standard output", error))?;
    Ok(if done.problems.is_empty() { ExitStatus::Done } else { ExitStatus::Failed })
}

async fn run_check(args: CheckArgs) -> Result<ExitStatus> {
    let settings = args.settings.load()?;
    telemetry::init_logs(&settings.log)?;
    let _folder = DataFolder::open(&settings.data.dir)?;
    let clock = Clock::system();
    let catalog = Catalog::open(&settings, clock.clone()).await?;
    let expected = Expected {
        is_readable: tereza_engine::is_readable,
        now_ms: clock.unix_ms(),
        lock_timeout_ms: i64::try_from(settings.metastore.lock_timeout_ms).unwrap_or(i64::MAX),
        // Nobody writes in this process.
        alive_owner: String::new(),
    };
    let report = check(catalog.store.as_ref(), &expected).await?;
    tell_findings(&report).map_err(|error| Error::io("standard output", error))?;
    Ok(if report.findings.is_empty() { ExitStatus::Done } else { ExitStatus::Failed })
}

fn tell_findings(report: &Report) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    for Finding { object, kind, words } in &report.findings {
        writeln!(out, "{kind}\t{object}\t{words}")?;
    }
    if report.more > 0 {
        writeln!(out, "and {} more", report.more)?;
    }
    let Report { tables, partitions, findings, more } = report;
    writeln!(out, "{tables} tables and views, {partitions} partitions: {} findings", findings.len() + more)?;
    out.flush()
}

fn tell(done: &Imported) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let Imported {
        databases, tables, partitions, functions, constraints, roles, role_grants, privileges, known, ..
    } = done;
    writeln!(
        out,
        "new: {databases} databases, {tables} tables and views, {partitions} partitions, {functions} functions"
    )?;
    writeln!(out, "new: {constraints} constraints, {roles} roles, given {role_grants} times, {privileges} privileges")?;
    writeln!(out, "there already: {known}; {} differ and were left as they are", done.different.len())?;
    for different in &done.different {
        writeln!(out, "  differs: {different}")?;
    }
    if !done.problems.is_empty() {
        writeln!(out, "not copied: {}", done.problems.len() + done.more_problems)?;
    }
    for problem in &done.problems {
        writeln!(out, "  {problem}")?;
    }
    if done.more_problems > 0 {
        writeln!(out, "  and {} more", done.more_problems)?;
    }
    out.flush()
}

/// Serves the catalog to clients of a Hive Metastore, as a task of `shutdown`.
pub(super) fn start_metastore(
    settings: &Settings,
    listener: TcpListener,
    catalog: &Catalog,
    health: &Health,
    shutdown: &Shutdown,
) -> Result<()> {
    let readiness = health.register("metastore");
    let files = Arc::new(CatalogFiles::new(settings)?);
    let settings = metastore_settings(settings, &files)?;
    let (store, token) = (Arc::clone(&catalog.store), shutdown.token());
    shutdown.spawn("catalog", "metastore", async move {
        readiness.ready();
        hive::serve(listener, store, files, settings, token).await;
        Ok(())
    });
    Ok(())
}

/// The settings of the metastore, in its own type.
fn metastore_settings(settings: &Settings, files: &CatalogFiles) -> Result<hive::Settings> {
    let from = &settings.metastore;
    let tls = match is_set(&from.tls_cert) {
        true => Some(Tls::of_files(&from.tls_cert, &from.tls_key)?),
        false => None,
    };
    Ok(hive::Settings {
        warehouse: files.warehouse().to_owned(),
        lock_timeout: Duration::from_millis(from.lock_timeout_ms),
        answers_limit_bytes: from.answers_limit_bytes,
        server: server::Settings {
            limits: Limits { message_bytes: from.request_limit_bytes, ..Limits::default() },
            reply_limit_bytes: from.reply_limit_bytes,
            connections_max: from.connections_max,
            idle_timeout: Duration::from_millis(from.idle_timeout_ms),
            message_timeout: Duration::from_millis(from.message_timeout_ms),
            call_timeout: Duration::from_millis(from.call_timeout_ms),
            // A tenth is left for what comes after, before the process stops waiting.
            drain_timeout: Duration::from_millis(settings.shutdown.drain_timeout_ms / 10 * 9),
            tls,
            ..server::Settings::default()
        },
        ..hive::Settings::default()
    })
}

/// Serves the catalog's schemas to clients of a Schema Registry, as a task of `shutdown`.
pub(super) fn start_registry(
    settings: &Settings,
    listener: TcpListener,
    catalog: &Catalog,
    health: &Health,
    shutdown: &Shutdown,
) {
    let readiness = health.register("registry");
    let from = &settings.registry;
    let service = service::Settings {
        schema_bytes_max: from.schema_limit_bytes,
        references_max: from.references_max,
        references_bytes_max: from.references_limit_bytes,
        cached_schemas: from.cached_schemas,
        cached_bytes: from.cached_bytes,
        ..service::Settings::default()
    };
    let rest = rest::Settings {
        connections_max: from.connections_max,
        idle_timeout: Duration::from_millis(from.idle_timeout_ms),
        requests_max: from.requests_max,
        request_timeout: Duration::from_millis(from.request_timeout_ms),
        body_bytes_max: from.request_limit_bytes,
        ..rest::Settings::default()
    };
    let service = Service::new(Arc::clone(&catalog.schemas), service);
    let token = shutdown.token();
    shutdown.spawn("catalog", "registry", async move {
        readiness.ready();
        rest::serve(listener, service, rest, token).await
    });
}

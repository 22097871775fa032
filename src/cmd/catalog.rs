//! `tereza catalog`: serves the catalog to clients of a Hive Metastore, or brings into it what another one has.

use std::io::{IsTerminal, Write};

use tereza_catalog::hive::Remote;
use tereza_catalog::import::{Imported, import};
use tereza_runtime::clock::Clock;
use tereza_runtime::{DataFolder, Error, Result, telemetry};
use tereza_thrift::client;

use super::up::{self, Role};
use super::{ExitStatus, SettingsArgs};

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
    /// Copy databases, tables, partitions, statistics and functions of a running metastore; files stay where they are
    Import(ImportArgs),
}

#[derive(clap::Args)]
struct ImportArgs {
    /// Where from: thrift://host:port of a Hive Metastore (several of one metastore with commas between)
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
    }
}

async fn run_import(args: ImportArgs) -> Result<ExitStatus> {
    let settings = args.settings.load()?;
    let source = Remote::new(&args.from, client::Settings::default())?;
    telemetry::init_logs(&settings.log)?;
    let _folder = DataFolder::open(&settings.data.dir)?;
    let store = tereza_engine::open_catalog(&settings, Clock::system()).await?;
    let shows_progress = std::io::stderr().is_terminal();
    let mut progress = |done: &Imported, at: &str| {
        if shows_progress {
            let Imported { tables, partitions, .. } = done;
            eprint!("\r\x1b[K{tables} tables, {partitions} partitions: {at}");
        }
    };
    let done = import(&source, store.as_ref(), &args.database, &mut progress).await;
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

fn tell(done: &Imported) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let Imported { databases, tables, partitions, functions, known, .. } = done;
    writeln!(
        out,
        "new: {databases} databases, {tables} tables and views, {partitions} partitions, {functions} functions"
    )?;
    writeln!(out, "there already: {known}, of which {} differ and were left as they are", done.different.len())?;
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

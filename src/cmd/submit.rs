//! `tereza submit`: gives a text of SQL to a server, which keeps it and runs it whoever is still there.

use std::fmt::Write;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use arrow::array::AsArray;
use tereza_engine::query::SessionDefaults;
use tereza_runtime::{Error, Result};

use super::ExitStatus;
use super::job;
use super::server::{Refusal, Remote, RemoteArgs, quoted};
use super::sql::read_script;

/// Flags of `tereza submit`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The statements, separated by ; (- is standard input)
    file: PathBuf,
    /// A name of the job's own: submitted again under it, it is the same job, unless that failed or was cancelled
    #[arg(long)]
    name: Option<String>,
    /// Run it also if a job of this name has succeeded
    #[arg(long, requires = "name")]
    again: bool,
    /// Where the rows of the last statement go: a new table's name, or the path or URL of a file
    #[arg(long, value_name = "TABLE|PATH")]
    into: Option<String>,
    /// Of the jobs that wait, the one with the greatest is next
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    priority: i32,
    /// How often it may be started (setting jobs.attempts_max of the server)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    attempts: Option<u32>,
    /// Seconds that it may take, from its first start
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    timeout: Option<u64>,
    /// What its operators may hold, as in 2GB
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// Catalog of names that say none
    #[arg(long)]
    catalog: Option<String>,
    /// Schema of names that say none
    #[arg(long)]
    schema: Option<String>,
    /// Wait until it has ended
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Runs the command.
pub(crate) async fn run(args: Args) -> Result<ExitStatus> {
    Ok(submit(&args).await.unwrap_or_else(|Refusal { status, error }| {
        eprintln!("error: {error}");
        status
    }))
}

async fn submit(args: &Args) -> Result<ExitStatus, Refusal> {
    let text = read_script(&args.file).map_err(Refusal::usage)?;
    let defaults = SessionDefaults { catalog: args.catalog.clone(), schema: args.schema.clone(), options: Vec::new() };
    let remote = Remote::open(&args.remote, defaults).await?;
    let rows = remote.rows(&call(args, &text)).await?;
    let id = rows.first().and_then(|batch| batch.column(0).as_string_opt::<i32>()).map(|ids| ids.value(0).to_owned());
    let id = id.ok_or_else(|| Error::internal("the server gave the job no id"))?;
    let mut out = std::io::stdout().lock();
    // Whoever does not read it finds it with `job ls`.
    let _ = writeln!(out, "{id}").and_then(|()| out.flush());
    drop(out);
    let status = match args.wait {
        true => job::wait(&remote, &id).await?,
        false => ExitStatus::Done,
    };
    remote.close().await;
    Ok(status)
}

/// The statement that submits.
fn call(args: &Args, text: &str) -> String {
    let mut call = format!("CALL system.runtime.submit_job(text => {}", quoted(text));
    let texts = [("name", &args.name), ("into", &args.into), ("memory_limit", &args.memory)];
    for (parameter, value) in texts.into_iter().filter_map(|(parameter, value)| Some((parameter, value.as_ref()?))) {
        let _ = write!(call, ", {parameter} => {}", quoted(value));
    }
    let timeout_ms = args.timeout.map(|seconds| Duration::from_secs(seconds).as_millis());
    let numbers = [("attempts_max", args.attempts.map(u128::from)), ("timeout_ms", timeout_ms)];
    for (parameter, value) in numbers.into_iter().filter_map(|(parameter, value)| Some((parameter, value?))) {
        let _ = write!(call, ", {parameter} => {value}");
    }
    let _ = write!(call, ", priority => {}, again => {})", args.priority, args.again);
    call
}

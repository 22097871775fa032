//! `tereza job`: what has become of the jobs of a server, and their end.

use std::io::{self, BufWriter, Write};
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use clap::ValueEnum;
use tereza_engine::query::SessionDefaults;
use tereza_runtime::{Error, Result};

use super::ExitStatus;
use super::server::{Refusal, Remote, RemoteArgs, quoted};
use super::sql::Line;
use crate::output::{self, Format, Style, Writer};

/// The job is asked for after the first pause, and then less and less often.
const FIRST_LOOK: Duration = Duration::from_millis(50);
const LAST_LOOK: Duration = Duration::from_secs(1);

/// Flags of `tereza job`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// The jobs, newest first
    Ls(List),
    /// Everything about one job
    Show(One),
    /// Wait until a job has ended; the status is 1 if it did not succeed
    Wait(One),
    /// End a job: what it has committed stays, nothing more is
    Cancel(One),
    /// End the job of a stream after its last epoch
    Stop(Stop),
    /// Take a savepoint of the job of a stream, and print its path
    Savepoint(Savepoint),
    /// What happened to a job
    Logs(One),
}

#[derive(Debug, clap::Args)]
struct Stop {
    /// Its id or name
    id: String,
    /// With a savepoint, whose path is printed
    #[arg(long, conflicts_with = "drain")]
    savepoint: bool,
    /// When its open windows are answered
    #[arg(long)]
    drain: bool,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, clap::Args)]
struct Savepoint {
    /// Its id or name
    id: String,
    /// The first part of the savepoint's own name
    #[arg(long, default_value = "savepoint")]
    name: String,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, clap::Args)]
struct List {
    /// Only jobs in this state
    #[arg(long, value_enum)]
    state: Option<State>,
    /// At most so many
    #[arg(long, default_value_t = 50)]
    limit: u32,
    #[command(flatten)]
    view: View,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, clap::Args)]
struct One {
    /// Its id or name
    id: String,
    #[command(flatten)]
    view: View,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, clap::Args)]
struct View {
    /// How it is written
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

/// A state of a job.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum State {
    Queued,
    Running,
    Succeeded,
    Failed,
    Cancelled,
}

/// Runs the command.
pub(crate) async fn run(args: Args) -> Result<ExitStatus> {
    let status = match &args.action {
        Action::Ls(list) => ls(list).await,
        Action::Show(one) => show(one).await,
        Action::Wait(one) => wait_for(one).await,
        Action::Cancel(one) => cancel(one).await,
        Action::Stop(stop) => end(stop).await,
        Action::Savepoint(one) => savepoint(&one.remote, &one.id, &one.name, false).await,
        Action::Logs(one) => logs(one).await,
    };
    Ok(status.unwrap_or_else(|Refusal { status, error }| {
        if output::is_closed(&error) {
            return ExitStatus::Done;
        }
        eprintln!("error: {error}");
        status
    }))
}

async fn ls(list: &List) -> Result<ExitStatus, Refusal> {
    let remote = Remote::open(&list.remote, SessionDefaults::default()).await?;
    let state = list.state.and_then(|state| state.to_possible_value());
    let filter = state.map(|state| format!("WHERE state = {}", quoted(state.get_name()))).unwrap_or_default();
    let sql = format!(
        "SELECT job_id, name, kind, state, priority, attempts, statements_done, statements, rows, created, ended, error, \
         waits_for FROM system.runtime.jobs {filter} ORDER BY created DESC, job_id DESC LIMIT {}",
        list.limit
    );
    print(&remote.rows(&sql).await?, list.view.format, false)?;
    remote.close().await;
    Ok(ExitStatus::Done)
}

async fn show(one: &One) -> Result<ExitStatus, Refusal> {
    let remote = Remote::open(&one.remote, SessionDefaults::default()).await?;
    let row = found(&remote, &one.id, "*").await?;
    print(&[row], one.view.format, true)?;
    remote.close().await;
    Ok(ExitStatus::Done)
}

async fn wait_for(one: &One) -> Result<ExitStatus, Refusal> {
    let remote = Remote::open(&one.remote, SessionDefaults::default()).await?;
    let status = wait(&remote, &one.id).await?;
    remote.close().await;
    Ok(status)
}

async fn cancel(one: &One) -> Result<ExitStatus, Refusal> {
    let remote = Remote::open(&one.remote, SessionDefaults::default()).await?;
    remote.rows(&format!("CALL system.runtime.cancel_job({})", quoted(&one.id))).await?;
    eprintln!("cancelled");
    remote.close().await;
    Ok(ExitStatus::Done)
}

async fn end(stop: &Stop) -> Result<ExitStatus, Refusal> {
    if stop.savepoint {
        return savepoint(&stop.remote, &stop.id, "savepoint", true).await;
    }
    let remote = Remote::open(&stop.remote, SessionDefaults::default()).await?;
    let call = format!("CALL system.runtime.stop_job({}, drain => {})", quoted(&stop.id), stop.drain);
    remote.rows(&call).await?;
    eprintln!("to be stopped");
    remote.close().await;
    Ok(ExitStatus::Done)
}

async fn savepoint(remote: &RemoteArgs, id: &str, name: &str, stop: bool) -> Result<ExitStatus, Refusal> {
    let remote = Remote::open(remote, SessionDefaults::default()).await?;
    let (id, name) = (quoted(id), quoted(name));
    let rows = remote.rows(&format!("CALL system.runtime.savepoint_job({id}, {name}, stop => {stop})")).await?;
    let row = rows.into_iter().find(|batch| batch.num_rows() > 0);
    let row = row.ok_or_else(|| Error::internal("the server answers no path"))?;
    writeln!(io::stdout().lock(), "{}", text(&row, "savepoint path")?).map_err(output::failed_write)?;
    remote.close().await;
    Ok(ExitStatus::Done)
}

async fn logs(one: &One) -> Result<ExitStatus, Refusal> {
    let remote = Remote::open(&one.remote, SessionDefaults::default()).await?;
    let id = text(&found(&remote, &one.id, "job_id").await?, "job_id")?;
    let sql = format!("SELECT at, attempt, event FROM system.runtime.job_events WHERE job_id = {}", quoted(&id));
    let events = remote.rows(&sql).await?;
    match one.view.format {
        Format::Table => print_lines(&events)?,
        format => print(&events, format, false)?,
    }
    remote.close().await;
    Ok(ExitStatus::Done)
}

/// Waits until a job has ended, and tells how on standard error.
pub(super) async fn wait(remote: &Remote, id: &str) -> Result<ExitStatus, Refusal> {
    let mut line = Line::begin();
    let mut pause = FIRST_LOOK;
    let columns = "state, error, rows, destination, attempts, statements_done, statements, scanned_rows";
    let (state, row) = loop {
        let row = match found(remote, id, columns).await {
            Ok(row) => row,
            Err(error) => {
                line.wipe();
                return Err(error.into());
            }
        };
        let state = text(&row, "state")?;
        if !["queued", "running"].contains(&state.as_str()) {
            break (state, row);
        }
        let [done, all, attempt] = ["statements_done", "statements", "attempts"].map(|column| text(&row, column));
        line.say(&format!("{state} · {} of {} statements · attempt {}", done?, all?, attempt?));
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LAST_LOOK);
    };
    line.wipe();
    let (rows, destination) = (text(&row, "rows")?, text(&row, "destination")?);
    match state.as_str() {
        "succeeded" if destination.is_empty() => eprintln!("succeeded ({})", counted(&rows)),
        "succeeded" => eprintln!("succeeded ({} to {destination})", counted(&rows)),
        "failed" => eprintln!("failed: {}", text(&row, "error")?),
        other => eprintln!("{other}"),
    }
    Ok(if state == "succeeded" { ExitStatus::Done } else { ExitStatus::Failed })
}

/// The row of a job by its id or name; of those of one name the live one, or else the newest.
async fn found(remote: &Remote, id: &str, columns: &str) -> Result<RecordBatch> {
    let wanted = quoted(id);
    let sql = format!(
        "SELECT {columns} FROM system.runtime.jobs WHERE job_id = {wanted} OR name = {wanted} \
         ORDER BY job_id = {wanted} DESC, state IN ('queued', 'running') DESC, created DESC LIMIT 1"
    );
    let rows = remote.rows(&sql).await?;
    let row = rows.into_iter().find(|batch| batch.num_rows() > 0);
    row.ok_or_else(|| Error::not_found(format!("job '{id}' does not exist")).with_hint("tereza job ls lists them"))
}

/// One value of the first row as text; NULL is empty.
fn text(row: &RecordBatch, column: &str) -> Result<String> {
    let unreadable = || Error::internal(format!("the server's answer has no column '{column}'"));
    let values = row.column_by_name(column).ok_or_else(unreadable)?;
    let format = FormatOptions::new();
    let formatter = ArrayFormatter::try_new(values, &format).map_err(|_| unreadable())?;
    Ok(formatter.value(0).to_string())
}

fn print(rows: &[RecordBatch], format: Format, expanded: bool) -> Result<()> {
    let Some(first) = rows.first() else { return Ok(()) };
    let style = Style { expanded, ..Style::of_terminal() };
    let mut writer = Writer::new(format, style, &first.schema(), BufWriter::new(io::stdout().lock()))?;
    for batch in rows {
        writer.write(batch)?;
    }
    writer.finish()?.flush().map_err(output::failed_write)
}

/// Events as lines: when, in which attempt, what.
fn print_lines(events: &[RecordBatch]) -> Result<()> {
    let Some(first) = events.first() else { return Ok(()) };
    let all = concat_batches(&first.schema(), events)
        .map_err(|error| Error::internal(format!("events do not fit together: {error}")))?;
    let format = FormatOptions::new().with_timestamp_tz_format(Some("%Y-%m-%d %H:%M:%S%.3f"));
    let times = ArrayFormatter::try_new(all.column(0), &format);
    let times = times.map_err(|error| Error::internal(format!("times cannot be written: {error}")))?;
    let attempts = ArrayFormatter::try_new(all.column(1), &format);
    let attempts = attempts.map_err(|error| Error::internal(format!("numbers cannot be written: {error}")))?;
    let texts = all.column(2).as_string_opt::<i32>();
    let texts = texts.ok_or_else(|| Error::internal("the server's events are no texts"))?;
    let mut out = BufWriter::new(io::stdout().lock());
    for row in 0..all.num_rows() {
        writeln!(out, "{}  [{}]  {}", times.value(row), attempts.value(row), texts.value(row))
            .map_err(output::failed_write)?;
    }
    out.flush().map_err(output::failed_write)
}

fn counted(rows: &str) -> String {
    if rows == "1" { "1 row".into() } else { format!("{rows} rows") }
}

//! `tereza catalog locks` and `unlock`: who keeps others from a table, and the end of that, at any Hive Metastore.

use std::io::{BufWriter, Write};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use tereza_catalog::hive::Remote;
use tereza_catalog::model::{LockMode, LockPart};
use tereza_catalog::store::Lock;
use tereza_runtime::{Error, Result, Settings, endpoints, telemetry};
use tereza_thrift::client;

use super::super::{ExitStatus, SettingsArgs};
use crate::output::{self, Format, Style, Writer};

/// Flags of `tereza catalog locks`.
#[derive(clap::Args)]
pub(super) struct LocksArgs {
    #[command(flatten)]
    metastore: MetastoreArgs,
    /// How they are written
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

/// Flags of `tereza catalog unlock`.
#[derive(clap::Args)]
pub(super) struct UnlockArgs {
    /// Its id, as `tereza catalog locks` shows it
    id: i64,
    #[command(flatten)]
    metastore: MetastoreArgs,
}

/// Whose locks are meant.
#[derive(clap::Args)]
struct MetastoreArgs {
    /// A metastore: thrift://host:port. Without it the one that is the catalog, or that of the Tereza that runs with the data folder
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    #[command(flatten)]
    settings: SettingsArgs,
}

impl MetastoreArgs {
    fn open(&self) -> Result<Remote> {
        let settings = self.settings.load()?;
        telemetry::init_logs(&settings.log)?;
        let url = match &self.url {
            Some(url) => url.clone(),
            None => usual(&settings)?,
        };
        Remote::new(&url, client::Settings::default())
    }
}

fn usual(settings: &Settings) -> Result<String> {
    if settings.catalog.url.starts_with("thrift://") {
        return Ok(settings.catalog.url.clone());
    }
    let own = endpoints::read(&settings.data.dir).and_then(|own| own.endpoints.get("metastore").cloned());
    own.ok_or_else(|| {
        let message = format!("no Tereza serves a metastore out of {}", settings.data.dir.display());
        Error::not_found(message).with_hint("name a metastore with --url thrift://host:port")
    })
}

/// Shows all locks.
pub(super) async fn list(args: LocksArgs) -> Result<ExitStatus> {
    let locks = args.metastore.open()?.locks().await?;
    let rows = rows(&locks)?;
    let out = BufWriter::new(std::io::stdout().lock());
    let mut writer = Writer::new(args.format, Style::of_terminal(), &rows.schema(), out)?;
    writer.write(&rows)?;
    writer.finish()?.flush().map_err(output::failed_write)?;
    Ok(ExitStatus::Done)
}

/// Takes a lock back.
pub(super) async fn unlock(args: UnlockArgs) -> Result<ExitStatus> {
    let metastore = args.metastore.open()?;
    let not_there = || {
        let message = format!("the metastore has no lock {}", args.id);
        Error::not_found(message).with_hint("`tereza catalog locks` shows those that it has")
    };
    // Some metastores say nothing of a lock that is not there.
    if !metastore.locks().await?.iter().any(|lock| lock.id == args.id) {
        return Err(not_there());
    }
    metastore.unlock(args.id).await?;
    eprintln!("lock {} is given back", args.id);
    Ok(ExitStatus::Done)
}

/// A row for each thing that a lock is on.
fn rows(locks: &[Lock]) -> Result<RecordBatch> {
    let parts = || locks.iter().flat_map(|lock| lock.request.parts.iter().map(move |part| (lock, part)));
    let texts = |of: &dyn Fn(&Lock, &LockPart) -> Option<String>| -> ArrayRef {
        Arc::new(parts().map(|(lock, part)| of(lock, part)).collect::<StringArray>())
    };
    let times = |of: &dyn Fn(&Lock) -> Option<i64>| -> ArrayRef {
        let times: TimestampMillisecondArray = parts().map(|(lock, _)| of(lock)).collect();
        Arc::new(times.with_timezone("+00:00"))
    };
    let ids: ArrayRef = Arc::new(parts().map(|(lock, _)| lock.id).collect::<Int64Array>());
    let waits_for: ArrayRef = Arc::new(parts().map(|(lock, _)| lock.blocked_by).collect::<Int64Array>());
    let columns = [
        ("id", ids),
        ("state", texts(&|lock, _| Some(if lock.acquired_ms.is_some() { "held" } else { "waiting" }.to_owned()))),
        ("type", texts(&|_, part| Some(mode(part.mode).to_owned()))),
        ("on", texts(&|_, part| Some(named(part)))),
        ("owner", texts(&|lock, _| Some(format!("{}@{}", lock.request.user, lock.request.host)))),
        ("agent", texts(&|lock, _| lock.request.agent.clone())),
        ("since", times(&|lock| lock.acquired_ms)),
        ("last_heartbeat", times(&|lock| Some(lock.renewed_ms))),
        ("waits_for", waits_for),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, values)| (name, values, true)))
        .map_err(|error| Error::internal("locks cannot be shown").with_source(error))
}

fn mode(mode: LockMode) -> &'static str {
    match mode {
        LockMode::SharedRead => "shared read",
        LockMode::SharedWrite => "shared write",
        LockMode::Exclusive => "exclusive",
    }
}

fn named(part: &LockPart) -> String {
    let names = [Some(&part.database), part.table.as_ref(), part.partition.as_ref()];
    names.into_iter().flatten().map(String::as_str).collect::<Vec<_>>().join(".")
}

//! The commands, one file each.

pub(crate) mod bench;

use std::path::Path;
use std::sync::Arc;

use tereza_engine::QueryService;
use tereza_runtime::{Error, Result};

/// What a command's process ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExitStatus {
    Done = 0,
    Failed = 1,
}

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Run TPC-H or TPC-DS with every answer checked, beside other engines.
    Bench(bench::Args),
}

pub(crate) async fn run(command: Command) -> Result<ExitStatus> {
    match command {
        Command::Bench(args) => bench::run(args).await,
    }
}

/// The engine in this process, on a data folder, with settings as `section.key=value` over the usual layers.
pub(crate) async fn embedded(_data: &Path, _settings: &[String]) -> Result<Arc<dyn QueryService>> {
    Err(Error::unsupported("this build has no engine"))
}

//! Placeholder until the real command joins.

use tereza_runtime::{Error, Result};

use super::ExitStatus;

/// Flags of `tereza bench`.
#[derive(clap::Args)]
pub(crate) struct Args {}

/// Runs the command.
pub(crate) async fn run(_args: Args) -> Result<ExitStatus> {
    Err(Error::unsupported("this build has no tereza bench"))
}

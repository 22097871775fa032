//! `tereza config`: what the settings are, once all layers are joined, and whether they can be.

use std::io::Write;

use tereza_runtime::{Error, Result};

use super::{ExitStatus, SettingsArgs};

/// Flags of `tereza config`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Print the effective settings as a settings file, secrets masked
    Show(SettingsArgs),
    /// Say whether the settings are good
    Check(SettingsArgs),
}

/// Runs the command.
pub(crate) fn run(args: Args) -> Result<ExitStatus> {
    let text = match args.action {
        Action::Show(settings) => settings.load()?.show()?,
        Action::Check(settings) => {
            settings.load()?;
            "ok\n".to_owned()
        }
    };
    std::io::stdout().write_all(text.as_bytes()).map_err(|error| Error::io("standard output", error))?;
    Ok(ExitStatus::Done)
}

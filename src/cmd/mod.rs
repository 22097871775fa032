//! The commands, one file each.

pub(crate) mod client;
pub(crate) mod sql;

/// What a command's process ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExitStatus {
    Done = 0,
    Failed = 1,
    Usage = 2,
    Unreachable = 3,
    Interrupted = 130,
}

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Run SQL: in this process, or on a server with --url.
    Sql(sql::Args),
}

pub(crate) async fn run(command: Command) -> tereza_runtime::Result<ExitStatus> {
    match command {
        Command::Sql(args) => sql::run(args).await,
    }
}

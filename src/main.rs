//! The one binary.

use std::process::ExitCode;

use clap::Parser;

mod cmd;

#[derive(Parser)]
#[command(name = "tereza", version)]
struct Cli {
    #[command(subcommand)]
    command: cmd::Command,
}

#[tokio::main]
async fn main() -> ExitCode {
    match cmd::run(Cli::parse().command).await {
        Ok(status) => ExitCode::from(status as u8),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(cmd::ExitStatus::Failed as u8)
        }
    }
}

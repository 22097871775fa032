//! The one binary: reads the command line, runs the command, and ends with its status.

mod allocator;
mod cmd;
mod output;
mod processor;

use std::process::ExitCode;

use clap::Parser;
use tereza_runtime::{Error, Result, open_files};
use tokio::runtime::{Builder, Runtime};

use crate::cmd::{Command, ExitStatus};

/// Several times what planning the longest chain of operators that the engine takes needs; memory is taken as a stack grows.
const STACK_BYTES: usize = 64 << 20;

/// SQL over tables on files and object stores, from one process.
#[derive(Parser)]
#[command(name = "tereza", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    let missing = processor::missing_features();
    if missing.is_empty() {
        return run();
    }
    eprintln!("error: this build needs a processor with {}", missing.join(", "));
    eprintln!("hint: build it for others: RUSTFLAGS=\"-C target-cpu=x86-64\" make");
    ExitCode::FAILURE
}

/// Not a part of `main`: nothing of it is to run on a processor that cannot.
#[inline(never)]
fn run() -> ExitCode {
    let cli = Cli::parse();
    open_files::raise_limit();
    allocator::begin(cli.command.is_server());
    let result = runtime().and_then(|runtime| {
        runtime.spawn(allocator::give_back_at_rest());
        let result = runtime.block_on(cli.command.run());
        // Not waited for: a thread that reads from a file or a terminal must not keep an ended process.
        runtime.shutdown_background();
        result
    });
    let status = result.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitStatus::of(&error)
    });
    ExitCode::from(status as u8)
}

fn runtime() -> Result<Runtime> {
    let runtime = Builder::new_multi_thread().enable_all().thread_name("tereza").thread_stack_size(STACK_BYTES).build();
    runtime.map_err(|error| Error::io("the threads cannot be started", error))
}

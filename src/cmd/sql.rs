//! `tereza sql`: statements from the command line, files, standard input or a prompt, run by the engine in this process
//! or by a server, with results on standard output and everything else on standard error.
//!
//! Files in reading order: [`shell`] (runs one text), [`meta`] (the backslash commands), [`prompt`] (the terminal),
//! [`complete`] and [`edit`] (what the prompt knows of SQL), [`lexer`], [`progress`].

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{ArgAction, ArgMatches, Command, FromArgMatches};
use tereza_engine::query::{QueryService, SessionDefaults};
use tereza_runtime::{Error, Result, telemetry};

use super::server::{Refusal, ServerArgs};
use super::{Embedded, ExitStatus, SettingsArgs};
use crate::output::Format;
pub(super) use progress::Line;
use shell::{Outcome, Shell, View};

mod complete;
mod edit;
#[cfg(test)]
mod fake;
pub(crate) mod lexer;
mod meta;
mod progress;
mod prompt;
mod shell;

/// A script of more bytes than this is refused: it is held in memory whole.
const SCRIPT_LIMIT_BYTES: u64 = 256 * 1024 * 1024;

/// Flags of `tereza sql`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    inputs: Inputs,
    /// Ask a server, as http://[user[:password]@]host[:port]; without it the engine runs in this process
    #[arg(long, conflicts_with_all = ["data", "config", "set"])]
    url: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    settings: SettingsArgs,
    /// Catalog of names that say none
    #[arg(long)]
    catalog: Option<String>,
    /// Schema of names that say none
    #[arg(long)]
    schema: Option<String>,
    /// Where statements run: auto, local or cluster (on the executors of the server)
    #[arg(long, value_name = "MODE", value_parser = ["auto", "local", "cluster"])]
    mode: Option<String>,
    /// How results are written, on a terminal and elsewhere
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Print the time of each statement
    #[arg(long)]
    timing: bool,
}

/// One `-c` or `-f`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Input {
    Sql(String),
    File(PathBuf),
}

/// Every `-c` and `-f` in the order they were given, which derived flags would lose.
#[derive(Debug, Default)]
struct Inputs(Vec<Input>);

/// Runs the command.
pub(crate) async fn run(args: Args) -> Result<ExitStatus> {
    let (service, embedded) = match open(&args).await {
        Ok(opened) => opened,
        Err(Refusal { status, error }) => {
            eprintln!("error: {error}");
            return Ok(status);
        }
    };
    let options = args.mode.iter().map(|mode| ("tereza.mode".to_owned(), mode.clone())).collect();
    let defaults = SessionDefaults { catalog: args.catalog.clone(), schema: args.schema.clone(), options };
    let session = match service.open_session(&args.server.user(), defaults).await {
        Ok(session) => session,
        Err(error) => {
            let Refusal { status, error } = error.into();
            eprintln!("error: {error}");
            return Ok(status);
        }
    };

    let is_prompt = args.inputs.0.is_empty() && std::io::stdin().is_terminal();
    let view = View { format: args.format, timing: args.timing, expanded: false };
    let mut shell = Shell::on_terminal(Arc::clone(&service), session.clone(), view)?;
    let outcome = if is_prompt { prompt::run(shell).await? } else { run_inputs(&mut shell, args.inputs.0).await };
    // The results are out: a server that has gone away meanwhile, or closed the session itself, changes nothing.
    let _ = service.close_session(&session).await;
    if let Some(embedded) = embedded {
        embedded.close().await;
    }
    Ok(match outcome {
        Outcome::Done | Outcome::Quit | Outcome::Closed => ExitStatus::Done,
        Outcome::Failed => ExitStatus::Failed,
        Outcome::Unreachable => ExitStatus::Unreachable,
        Outcome::Interrupted => ExitStatus::Interrupted,
    })
}

/// Runs each input until one does not end well; without any, standard input is the script.
async fn run_inputs(shell: &mut Shell, inputs: Vec<Input>) -> Outcome {
    let inputs = if inputs.is_empty() { vec![Input::File(PathBuf::from("-"))] } else { inputs };
    for input in inputs {
        let outcome = match input {
            Input::Sql(text) => shell.input(&text).await,
            Input::File(path) => match read_script(&path) {
                Ok(text) => shell.script(Some(&script_name(&path)), &text).await,
                Err(error) => shell.fail(&error),
            },
        };
        if outcome != Outcome::Done {
            return outcome;
        }
    }
    Outcome::Done
}

/// The text of a script; `-` is standard input.
pub(super) fn read_script(path: &Path) -> Result<String> {
    let name = script_name(path);
    let unreadable = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::not_found(format!("there is no file {name}")),
        _ => Error::invalid_input(format!("{name} cannot be read: {error}")),
    };
    let mut text = String::new();
    let limit = SCRIPT_LIMIT_BYTES + 1;
    let length = if path == Path::new("-") {
        std::io::stdin().lock().take(limit).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(limit).read_to_string(&mut text))
    };
    if length.map_err(unreadable)? as u64 > SCRIPT_LIMIT_BYTES {
        return Err(Error::resource_exhausted(format!("{name} has more than {SCRIPT_LIMIT_BYTES} bytes"))
            .with_hint("split it into several files"));
    }
    Ok(text)
}

fn script_name(path: &Path) -> String {
    if path == Path::new("-") { "standard input".to_string() } else { path.display().to_string() }
}

/// A service, and its engine if that is in this process.
type Opened = (Arc<dyn QueryService>, Option<Embedded>);

async fn open(args: &Args) -> Result<Opened, Refusal> {
    match &args.url {
        Some(url) => Ok((Arc::new(args.server.connect(url).await?), None)),
        None => open_embedded(args).await,
    }
}

/// The engine in this process, on the data folder of the settings.
async fn open_embedded(args: &Args) -> Result<Opened, Refusal> {
    let settings = args.settings.load().map_err(Refusal::usage)?;
    let failed = |error| Refusal { status: ExitStatus::Failed, error };
    telemetry::init_logs(&settings.log).map_err(failed)?;
    let embedded = Embedded::open(&settings).await.map_err(failed)?;
    Ok((Arc::clone(&embedded.service) as Arc<dyn QueryService>, Some(embedded)))
}

impl clap::Args for Inputs {
    fn augment_args(command: Command) -> Command {
        let sql = clap::Arg::new("command")
            .short('c')
            .long("command")
            .value_name("SQL")
            .action(ArgAction::Append)
            .allow_hyphen_values(true)
            .help("Run these statements, separated by ; (-c and -f run in the order given)");
        let file = clap::Arg::new("file")
            .short('f')
            .long("file")
            .value_name("FILE")
            .action(ArgAction::Append)
            .value_parser(clap::value_parser!(PathBuf))
            .help("Run the statements of a file; - is standard input");
        command.arg(sql).arg(file)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Inputs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut inputs = Self::default();
        inputs.update_from_arg_matches(matches)?;
        Ok(inputs)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        let mut placed: Vec<(usize, Input)> = Vec::new();
        if let (Some(places), Some(texts)) = (matches.indices_of("command"), matches.get_many::<String>("command")) {
            placed.extend(places.zip(texts.cloned().map(Input::Sql)));
        }
        if let (Some(places), Some(paths)) = (matches.indices_of("file"), matches.get_many::<PathBuf>("file")) {
            placed.extend(places.zip(paths.cloned().map(Input::File)));
        }
        placed.sort_by_key(|(place, _)| *place);
        self.0 = placed.into_iter().map(|(_, input)| input).collect();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn inputs_keep_their_order() {
        let args = Cli::parse_from(["sql", "-c", "select 1", "-f", "a.sql", "-c", "--note"]).args;
        assert_eq!(
            args.inputs.0,
            [Input::Sql("select 1".into()), Input::File("a.sql".into()), Input::Sql("--note".into()),]
        );
    }

    #[test]
    fn a_server_and_a_data_folder_exclude_each_other() {
        assert!(Cli::try_parse_from(["sql", "--url", "http://localhost", "--data", "x"]).is_err());
        assert!(Cli::try_parse_from(["sql", "--data", "x", "--set", "a.b=1"]).is_ok());
        assert!(Cli::try_parse_from(["sql", "--format", "xml"]).is_err());
    }

    #[test]
    fn a_script_that_is_not_there_is_named() {
        let error = read_script(Path::new("no/such.sql")).unwrap_err();
        assert_eq!(error.to_string(), "there is no file no/such.sql");
    }
}

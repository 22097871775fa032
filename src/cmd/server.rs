//! The flags of every command that asks a server, and the connection to it.

use std::path::PathBuf;

use arrow::array::RecordBatch;
use tereza_engine::query::{QueryService, SessionDefaults, SessionId, Statement};
use tereza_runtime::{Error, Result, endpoints};

use super::client::{self, RemoteQueryService, Target};
use super::{ExitStatus, SettingsArgs};

/// Which server, and who asks.
#[derive(Debug, clap::Args)]
pub(crate) struct ServerArgs {
    /// User on the server, if the URL names none; its password may be in the URL or in TEREZA_PASSWORD
    #[arg(long, env = "TEREZA_USER")]
    user: Option<String>,
    /// File of the certificates (PEM) that an https:// server's certificate is checked against
    #[arg(long, requires = "url")]
    tls_ca: Option<PathBuf>,
}

/// Why a command cannot begin, and what the process ends with for it.
pub(crate) struct Refusal {
    pub(crate) status: ExitStatus,
    pub(crate) error: Error,
}

impl Refusal {
    /// For what is wrong with the command itself.
    pub(crate) fn usage(error: Error) -> Self {
        Self { status: ExitStatus::Usage, error }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let status = if client::is_unreachable(&error) { ExitStatus::Unreachable } else { ExitStatus::Failed };
        Self { status, error }
    }
}

impl ServerArgs {
    /// Connects to the server at `url`.
    pub(crate) async fn connect(&self, url: &str) -> Result<RemoteQueryService, Refusal> {
        let target = Target::parse(url, self.user.as_deref(), self.tls_ca.as_deref()).map_err(Refusal::usage)?;
        Ok(RemoteQueryService::connect(target).await?)
    }

    /// Who asks: `--user`, or whoever runs this process.
    pub(crate) fn user(&self) -> String {
        let account = || std::env::var("USER").ok().filter(|user| !user.is_empty());
        self.user.clone().or_else(account).unwrap_or_else(|| "tereza".to_string())
    }
}

/// The flags of a command that works on a server only.
#[derive(Debug, clap::Args)]
pub(crate) struct RemoteArgs {
    /// The server, as http://[user[:password]@]host[:port]; without it the one that has the data folder
    #[arg(long, conflicts_with_all = ["data", "config", "set"])]
    url: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// A session on a server.
pub(crate) struct Remote {
    service: RemoteQueryService,
    session: SessionId,
}

impl Remote {
    /// Opens a session.
    pub(crate) async fn open(args: &RemoteArgs, defaults: SessionDefaults) -> Result<Self, Refusal> {
        let url = match &args.url {
            Some(url) => url.clone(),
            None => url_of_folder(&args.settings)?,
        };
        let service = args.server.connect(&url).await?;
        let session = service.open_session(&args.server.user(), defaults).await?;
        Ok(Self { service, session })
    }

    /// Runs a statement of a small result.
    pub(crate) async fn rows(&self, sql: &str) -> Result<Vec<RecordBatch>> {
        self.service.submit(&self.session, Statement::new(sql)).await?.collect().await
    }

    /// Closes the session.
    pub(crate) async fn close(self) {
        // The work is done: a server that has gone away meanwhile changes nothing.
        let _ = self.service.close_session(&self.session).await;
    }
}

/// The URL of the server that has the data folder of the settings.
fn url_of_folder(settings: &SettingsArgs) -> Result<String, Refusal> {
    let settings = settings.load().map_err(Refusal::usage)?;
    let served = endpoints::read(&settings.data.dir).and_then(|mut file| file.endpoints.remove("flight_sql"));
    served.ok_or_else(|| {
        let error = Error::unavailable(format!("no server has the data folder {}", settings.data.dir.display()))
            .with_hint("start one with tereza up, or name one with --url");
        Refusal { status: ExitStatus::Unreachable, error }
    })
}

/// A text as a literal of SQL.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

//! A client of a Schema Registry: schemas by their ids, and ids of schemas.

use std::time::Duration;

use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use tereza_runtime::{Error, Result, ids};

use super::{FormatOptions, Part, Reason};

const URL: &str = "url";
pub(super) const SUBJECT: &str = "subject";
pub(super) const SCHEMA: &str = "schema";
const BASIC_SOURCE: &str = "basic-auth.credentials-source";
const BASIC_USER: &str = "basic-auth.user-info";
const BEARER_SOURCE: &str = "bearer-auth.credentials-source";
const BEARER_TOKEN: &str = "bearer-auth.token";
/// What Flink hands to its own client, and there is nothing like it here.
const UNSUPPORTED: [&str; 5] = [
    "ssl.keystore.location",
    "ssl.keystore.password",
    "ssl.truststore.location",
    "ssl.truststore.password",
    "properties.",
];

/// The names that three options had before.
const OLD: [&str; 3] = ["schema-registry.url", "schema-registry.subject", "schema-registry.schema"];

/// Kinds of schemas, by their names in the registry.
pub(super) const AVRO: &str = "AVRO";
pub(super) const PROTOBUF: &str = "PROTOBUF";

/// Why there is no schema with an id that there may be later.
pub(super) const UNKNOWN: &str = "the registry does not know it";

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Calls before one that is not answered fails, on all servers together.
const ATTEMPTS: u32 = 4;
/// How long is waited before the second call, at most; twice as long before each further one.
const BACKOFF_MS: u64 = 100;
/// Bytes of an answer.
const ANSWER_MAX: usize = 4 << 20;
/// Schemas that one refers to, directly or not.
const REFERENCES_MAX: usize = 100;
/// What the registry answers for an id that it does not know.
const SCHEMA_NOT_FOUND: i64 = 40_403;

/// Refuses options that formats with a registry do not have.
pub(super) fn check_options(options: &FormatOptions) -> Result<()> {
    let mut known = vec![URL, SUBJECT, SCHEMA, BASIC_SOURCE, BASIC_USER, BEARER_SOURCE, BEARER_TOKEN];
    known.extend(OLD);
    known.extend(UNSUPPORTED);
    options.check(&known)?;
    let is_unsupported = |name: &&String| UNSUPPORTED.iter().any(|prefix| name.starts_with(prefix));
    match options.options.keys().find(is_unsupported) {
        Some(name) => Err(Error::unsupported(format!("option `{}.{name}`", options.format))),
        None => Ok(()),
    }
}

/// An option by its name or the one it had before.
pub(super) fn option<'a>(options: &'a FormatOptions, name: &str) -> Option<&'a str> {
    options.get(name).or_else(|| options.get(&format!("schema-registry.{name}")))
}

/// The subject that schemas of a part of messages are registered under.
pub(super) fn subject(options: &FormatOptions, part: Part, topic: Option<&str>) -> Result<String> {
    let suffix = if part == Part::Key { "key" } else { "value" };
    match (option(options, SUBJECT), topic) {
        (Some(subject), _) => Ok(subject.to_owned()),
        (None, Some(topic)) => Ok(format!("{topic}-{suffix}")),
        (None, None) => options.needed(SUBJECT).map(str::to_owned),
    }
}

/// How the client says who it is.
#[derive(Clone)]
enum Credentials {
    None,
    Basic { user: String, password: String },
    Bearer(String),
}

pub(super) struct Registry {
    http: Client,
    /// Addresses of servers of one registry, without a slash at the end.
    servers: Vec<String>,
    credentials: Credentials,
}

/// Without credentials.
impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("servers", &self.servers).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct SchemaAnswer {
    schema: String,
    #[serde(rename = "schemaType", default)]
    kind: Option<String>,
    #[serde(default)]
    references: Vec<serde_json::Value>,
}

/// The text of a schema, and names and texts of all that it imports from the registry.
pub(super) type WithImports = (String, Vec<(String, String)>);

/// A schema that another one refers to: its name there, and what it is a version of.
#[derive(Deserialize)]
struct Reference {
    name: String,
    subject: String,
    version: u32,
}

#[derive(Deserialize)]
struct IdAnswer {
    id: u32,
}

/// What a schema is a version of.
#[derive(Deserialize)]
struct VersionAnswer {
    subject: String,
    version: u32,
}

#[derive(Deserialize)]
struct Refusal {
    error_code: i64,
    #[serde(default)]
    message: String,
}

impl Registry {
    /// A client by the options of a format. Errors: `InvalidInput` names the option.
    pub(super) fn new(options: &FormatOptions) -> Result<Self> {
        let mut servers = Vec::new();
        let urls = option(options, URL).map_or_else(|| options.needed(URL), Ok)?;
        for server in urls.split(',').map(str::trim).filter(|server| !server.is_empty()) {
            let parsed = url::Url::parse(server).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
            if parsed.is_none_or(|url| url.password().is_some()) {
                return Err(Error::invalid_input(format!(
                    "option `{}.{URL}` is no address that begins with http:// or https://, without a password",
                    options.format
                )));
            }
            servers.push(server.trim_end_matches('/').to_owned());
        }
        if servers.is_empty() {
            return Err(options.bad(URL, "the address of a registry"));
        }
        let http = Client::builder().timeout(TIMEOUT).build();
        let http = http.map_err(|error| Error::internal("cannot make an HTTP client").with_source(error))?;
        Ok(Self { http, servers, credentials: credentials(options)? })
    }

    /// The Avro schema with an id. The inner error says why there is none: it is unknown, or no such schema.
    pub(super) async fn avro(&self, id: u32) -> Result<Result<String, Reason>> {
        Ok(match self.schema(id, AVRO).await? {
            Ok(answer) if !answer.references.is_empty() => {
                Err("it refers to other schemas, which is not supported".to_owned())
            }
            answer => answer.map(|answer| answer.schema),
        })
    }

    /// The name of a schema for errors: its id, and what it is a version of if the registry tells.
    pub(super) async fn name(&self, id: u32) -> String {
        let answer = self.call(|http, server| http.get(format!("{server}/schemas/ids/{id}/versions"))).await;
        let versions = answer.ok().and_then(Result::ok).and_then(|body| parse::<Vec<VersionAnswer>>(&body).ok());
        match versions.unwrap_or_default().first() {
            Some(VersionAnswer { subject, version }) => format!("schema {id} (version {version} of {subject})"),
            None => format!("schema {id}"),
        }
    }

    /// The Protobuf schema with an id, as [`Self::avro`].
    pub(super) async fn protobuf(&self, id: u32) -> Result<Result<WithImports, Reason>> {
        let answer = match self.schema(id, PROTOBUF).await? {
            Ok(answer) => answer,
            Err(reason) => return Ok(Err(reason)),
        };
        let mut found = Vec::<(String, String)>::new();
        let mut wanted = answer.references;
        while let Some(reference) = wanted.pop() {
            let Ok(Reference { name, subject, version }) = serde_json::from_value(reference) else {
                return Ok(Err("it refers to what is no version of a subject".to_owned()));
            };
            if found.iter().any(|(known, _)| *known == name) {
                continue;
            }
            if found.len() >= REFERENCES_MAX {
                return Ok(Err(format!("it refers to more than {REFERENCES_MAX} schemas")));
            }
            let path = format!("subjects/{}/versions/{version}", encode(&subject));
            let answer = self.call(|http, server| http.get(format!("{server}/{path}"))).await?;
            let body =
                answer.map_err(|(status, refusal)| refused(status, &refusal, &format!("schema {id}: {path}")))?;
            let answer: SchemaAnswer = parse(&body)?;
            wanted.extend(answer.references);
            found.push((name, answer.schema));
        }
        Ok(Ok((answer.schema, found)))
    }

    async fn schema(&self, id: u32, wanted: &str) -> Result<Result<SchemaAnswer, Reason>> {
        let answer = self.call(|http, server| http.get(format!("{server}/schemas/ids/{id}"))).await?;
        let body = match answer {
            Ok(body) => body,
            Err((_, refusal)) if refusal.error_code == SCHEMA_NOT_FOUND => {
                return Ok(Err(UNKNOWN.to_owned()));
            }
            Err((status, refusal)) => return Err(refused(status, &refusal, &format!("schema {id}"))),
        };
        let answer: SchemaAnswer = parse(&body)?;
        let kind = answer.kind.as_deref().unwrap_or(AVRO);
        if kind != wanted {
            let wanted = if wanted == AVRO { "Avro" } else { "Protobuf" };
            return Ok(Err(format!("it is a schema of {kind}, not of {wanted}")));
        }
        Ok(Ok(answer))
    }

    /// The id of a schema, which is registered under a subject if it is not yet.
    pub(super) async fn register(&self, subject: &str, schema: &str, kind: &str) -> Result<u32> {
        let body = match kind {
            AVRO => serde_json::json!({ "schema": schema }),
            kind => serde_json::json!({ "schema": schema, "schemaType": kind }),
        };
        let body = body.to_string();
        let subject = encode(subject);
        let answer = self
            .call(|http, server| {
                http.post(format!("{server}/subjects/{subject}/versions"))
                    .header("Content-Type", "application/vnd.schemaregistry.v1+json")
                    .body(body.clone())
            })
            .await?;
        let body = answer.map_err(|(status, refusal)| refused(status, &refusal, &format!("subject `{subject}`")))?;
        parse::<IdAnswer>(&body).map(|answer| answer.id)
    }

    /// Asks servers in turn until one answers. The inner error is a refusal.
    async fn call(
        &self,
        request: impl Fn(&Client, &str) -> RequestBuilder,
    ) -> Result<Result<Vec<u8>, (StatusCode, Refusal)>> {
        let mut last = Error::unavailable("the Schema Registry does not answer");
        let servers = self.servers.iter().cycle();
        for (attempt, server) in (0..ATTEMPTS).zip(servers) {
            if attempt > 0 {
                let bound = BACKOFF_MS << (attempt - 1);
                tokio::time::sleep(Duration::from_millis(bound / 2 + ids::jitter(bound / 2))).await;
            }
            let request = request(&self.http, server).header("Accept", "application/vnd.schemaregistry.v1+json");
            let request = match &self.credentials {
                Credentials::None => request,
                Credentials::Basic { user, password } => request.basic_auth(user, Some(password)),
                Credentials::Bearer(token) => request.bearer_auth(token),
            };
            let unavailable = |error: reqwest::Error| {
                Error::unavailable(format!("the Schema Registry at {server} does not answer"))
                    .with_source(error.without_url())
            };
            match request.send().await {
                Err(error) => last = unavailable(error),
                Ok(answer) => {
                    let status = answer.status();
                    match body(answer).await {
                        Ok(body) if status.is_success() => return Ok(Ok(body)),
                        Ok(body) if !status.is_server_error() && status != StatusCode::TOO_MANY_REQUESTS => {
                            return Ok(Err((status, refusal(status, &body))));
                        }
                        Ok(_) => last = Error::unavailable(format!("the Schema Registry at {server} answers {status}")),
                        Err(BodyError::Broken(error)) => last = unavailable(error),
                        Err(BodyError::Large) => {
                            return Err(Error::resource_exhausted(format!(
                                "the Schema Registry at {server} answers more than {ANSWER_MAX} bytes"
                            )));
                        }
                    }
                }
            }
        }
        Err(last)
    }
}

enum BodyError {
    Broken(reqwest::Error),
    Large,
}

async fn body(mut answer: Response) -> Result<Vec<u8>, BodyError> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(BodyError::Broken)? {
        if body.len() + chunk.len() > ANSWER_MAX {
            return Err(BodyError::Large);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T> {
    serde_json::from_slice(body).map_err(|error| {
        Error::unavailable("the Schema Registry answers what is none of its answers").with_source(error)
    })
}

fn refusal(status: StatusCode, body: &[u8]) -> Refusal {
    let unknown = || Refusal { error_code: i64::from(status.as_u16()), message: String::new() };
    serde_json::from_slice(body).unwrap_or_else(|_| unknown())
}

fn refused(status: StatusCode, refusal: &Refusal, what: &str) -> Error {
    let message = format!("the Schema Registry refuses {what}: {status}, {} {}", refusal.error_code, refusal.message);
    match status {
        StatusCode::UNAUTHORIZED => Error::unauthenticated(message),
        StatusCode::FORBIDDEN => Error::denied(message),
        StatusCode::NOT_FOUND => Error::not_found(message),
        StatusCode::CONFLICT => Error::conflict(message),
        _ => Error::invalid_input(message),
    }
}

fn credentials(options: &FormatOptions) -> Result<Credentials> {
    let basic = options.choice(BASIC_SOURCE, &[("USER_INFO", true)], false, true)?;
    let bearer = options.choice(BEARER_SOURCE, &[("STATIC_TOKEN", true)], false, true)?;
    if basic && bearer {
        return Err(Error::invalid_input(format!("options `{BASIC_SOURCE}` and `{BEARER_SOURCE}` cannot both be set")));
    }
    if bearer {
        return Ok(Credentials::Bearer(options.needed(BEARER_TOKEN)?.to_owned()));
    }
    if !basic {
        return Ok(Credentials::None);
    }
    match options.needed(BASIC_USER)?.split_once(':') {
        Some((user, password)) => Ok(Credentials::Basic { user: user.to_owned(), password: password.to_owned() }),
        None => Err(Error::invalid_input(format!(
            "option `{}.{BASIC_USER}` is not of the form user:password",
            options.format
        ))),
    }
}

/// A subject as a part of a path.
fn encode(subject: &str) -> String {
    let mut encoded = String::with_capacity(subject.len());
    for byte in subject.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests;

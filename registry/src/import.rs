//! Copying a running registry into this one over REST, with its ids and versions.
//!
//! It may be begun again at any time: a version that is here with the id that it has there is left as it is, so a copy that
//! was broken off goes on where it was, and one that is repeated brings what is new. Schemas come after what they refer to,
//! and what is deleted there is deleted here before it. Names are taken as they are: aliases and modes that are here already
//! mean nothing to a copy. Nothing is ever changed in the other registry.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use reqwest::{Client, StatusCode, Url};
use tereza_runtime::{Error, Result, Secret};

use crate::json::Json;
use crate::model::{SchemaBody, SchemaRequest};
use crate::service::{Normalize, SCHEMAS_MAX};
use crate::{Service, names, percent};
use tereza_catalog::store::schemas::{DEFAULT_CONTEXT, SubjectName};

/// Schemas that are asked for at once.
const PAGE: u32 = SCHEMAS_MAX;
/// How long the other registry has to answer.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of an answer.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// What a copy did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Versions that were copied.
    pub copied: usize,
    /// Versions that were here already.
    pub present: usize,
    /// Settings of subjects, and the global level.
    pub settings: usize,
}

/// Another registry.
#[derive(Debug, Clone, Default)]
pub struct Source {
    /// Its URL, without credentials.
    pub url: String,
    /// Who asks, if it wants to know.
    pub user: Option<String>,
    /// The password of the user.
    pub password: Secret,
}

/// Copies all that `source` has into `service`.
///
/// # Errors
/// `Unavailable` if the other registry does not answer, `Conflict` if an id or version means something else here.
pub async fn run(service: &Service, source: &Source) -> Result<Report> {
    let remote = Remote::new(source)?;
    let mut report = Report::default();
    let mut versions = remote.versions().await?;
    versions.sort_by_key(|version| (version.id, version.version));
    let versions = references_first(versions);
    for version in &versions {
        copy(service, version, &mut report).await?;
    }
    // What refers to something before that, and all before the settings, which go with the last version of a subject.
    for version in versions.iter().rev().filter(|version| version.deleted == Some(true)) {
        tracing::debug!(subject = version.subject, version = version.version, "deleting softly, as it is there");
        delete(service, version).await?;
    }
    // Only now, as some of what is there may not be compatible, or not be allowed any more.
    if let Some(config) = remote.get("config").await? {
        put_config(service, None, &config, &mut report).await?;
    }
    let mut subjects: Vec<&str> = versions.iter().filter_map(|version| version.subject.as_deref()).collect();
    subjects.sort_unstable();
    subjects.dedup();
    for subject in subjects {
        if let Some(config) = remote.get(&format!("config/{}", percent::encode(subject))).await? {
            put_config(service, Some(subject), &config, &mut report).await?;
        }
    }
    Ok(report)
}

/// Subject and version.
type Key = (SubjectName, i32);

fn key(version: &SchemaBody) -> Option<Key> {
    Some((names::parse(version.subject.as_deref()?, DEFAULT_CONTEXT), version.version?))
}

/// Versions in their order, but each after those that it refers to: an id says little about that, as the schemas of an import
/// have what ids they had.
fn references_first(versions: Vec<SchemaBody>) -> Vec<SchemaBody> {
    let index_of: HashMap<Key, usize> =
        versions.iter().enumerate().filter_map(|(index, version)| Some((key(version)?, index))).collect();
    let referred: Vec<Vec<usize>> = versions
        .iter()
        .map(|version| {
            let context = key(version).map_or_else(|| DEFAULT_CONTEXT.to_owned(), |(name, _)| name.context);
            let keys = version.references.iter().map(|to| (names::parse(&to.subject, &context), to.version));
            keys.filter_map(|key| index_of.get(&key).copied()).collect()
        })
        .collect();
    /// A version to be looked at, or one whose references have been.
    enum Step {
        Enter(usize),
        Leave(usize),
    }
    let mut seen = vec![false; versions.len()];
    let mut order = Vec::with_capacity(versions.len());
    let mut steps: Vec<Step> = (0..versions.len()).rev().map(Step::Enter).collect();
    while let Some(step) = steps.pop() {
        match step {
            Step::Leave(index) => order.push(index),
            Step::Enter(index) if seen[index] => {}
            Step::Enter(index) => {
                seen[index] = true;
                steps.push(Step::Leave(index));
                steps.extend(referred[index].iter().rev().copied().map(Step::Enter));
            }
        }
    }
    let mut versions: Vec<Option<SchemaBody>> = versions.into_iter().map(Some).collect();
    order.into_iter().filter_map(|index| versions[index].take()).collect()
}

async fn copy(service: &Service, version: &SchemaBody, report: &mut Report) -> Result<()> {
    let (Some(subject), Some(number), Some(id)) = (&version.subject, version.version, version.id) else {
        return Err(Error::unavailable("the other registry answered a schema without subject, version or id"));
    };
    let name = names::parse(subject, DEFAULT_CONTEXT);
    let refused = |refusal: crate::refusal::Refusal| {
        Error::conflict(format!("version {number} of subject '{subject}' cannot be copied: {}", refusal.message))
    };
    match service.id_of_version(&name, number).await.map_err(refused)? {
        Some(found) if found == id => {
            report.present += 1;
            return Ok(());
        }
        Some(found) => {
            let message = format!("version {number} of subject '{subject}' has the id {found} here and {id} there");
            return Err(Error::conflict(message));
        }
        None => {}
    }
    let request = SchemaRequest {
        schema: Some(version.schema.clone()),
        schema_type: version.schema_type.clone(),
        references: Some(version.references.clone()),
        metadata: version.metadata.clone(),
        rule_set: version.rule_set.clone(),
        id: Some(id),
        version: Some(number),
    };
    service.import(name, &request, Normalize::default()).await.map_err(refused)?;
    report.copied += 1;
    Ok(())
}

async fn put_config(service: &Service, subject: Option<&str>, config: &Json, report: &mut Report) -> Result<()> {
    let name = subject.map(|subject| names::parse(subject, DEFAULT_CONTEXT));
    let put = service.import_config(name.as_ref(), config).await;
    put.map_err(|refusal| Error::invalid_input(format!("a setting cannot be copied: {}", refusal.message)))?;
    report.settings += 1;
    Ok(())
}

async fn delete(service: &Service, version: &SchemaBody) -> Result<()> {
    let (Some(subject), Some(number)) = (&version.subject, version.version) else { return Ok(()) };
    let name = names::parse(subject, DEFAULT_CONTEXT);
    match service.delete_as_named(&name, number, false).await {
        Ok(()) => Ok(()),
        // It was deleted by the copy before.
        Err(refusal) if refusal.code == 40406 => Ok(()),
        Err(refusal) => Err(Error::conflict(format!(
            "version {number} of subject '{subject}' cannot be deleted as it is there: {}",
            refusal.message
        ))),
    }
}

struct Remote {
    client: Client,
    url: Url,
    user: Option<(String, Secret)>,
}

impl Remote {
    fn new(source: &Source) -> Result<Self> {
        let mut url = Url::parse(&source.url)
            .map_err(|error| Error::invalid_input(format!("the URL of the other registry is none: {error}")))?;
        if !url.username().is_empty() || url.password().is_some() {
            let message = "the URL of the other registry holds credentials";
            return Err(Error::invalid_input(message).with_hint("give user and password by themselves"));
        }
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        let client = Client::builder().timeout(TIMEOUT).build();
        let client = client.map_err(|error| Error::internal(format!("no HTTP client: {error}")))?;
        let user = source.user.as_ref().map(|user| (user.clone(), source.password.clone()));
        Ok(Self { client, url, user })
    }

    /// All versions of all subjects, deleted ones too.
    async fn versions(&self) -> Result<Vec<SchemaBody>> {
        let live = self.list(false).await?;
        let live: HashSet<_> = live.into_iter().map(|version| (version.subject, version.version)).collect();
        let mut all = self.list(true).await?;
        for version in &mut all {
            // Not every registry says which ones are deleted, so those that it hides otherwise are.
            version.deleted = Some(!live.contains(&(version.subject.clone(), version.version)));
        }
        Ok(all)
    }

    async fn list(&self, deleted: bool) -> Result<Vec<SchemaBody>> {
        let mut all = Vec::new();
        let mut seen = HashSet::new();
        let mut offset = 0;
        loop {
            let path = format!("schemas?subjectPrefix=%3A*%3A&deleted={deleted}&offset={offset}&limit={PAGE}");
            let page = self.get(&path).await?.unwrap_or(Json::Array(Vec::new()));
            let page: Vec<SchemaBody> = serde_json::from_str(&page.to_string()).map_err(|error| {
                Error::unavailable(format!("the other registry answered no list of schemas: {error}"))
            })?;
            // One may answer with smaller pages than it is asked for, and one that knows none with everything each time.
            offset += page.len();
            let known = all.len();
            all.extend(page.into_iter().filter(|version| seen.insert((version.subject.clone(), version.version))));
            if all.len() == known {
                return Ok(all);
            }
        }
    }

    /// What is there; none if nothing is.
    async fn get(&self, path: &str) -> Result<Option<Json>> {
        let failed = |error: reqwest::Error| {
            Error::unavailable(format!("the other registry does not answer {path}: {}", error.without_url()))
        };
        let url = self.url.join(path).map_err(|error| Error::internal(format!("{path} is no path: {error}")))?;
        let mut request = self.client.get(url);
        if let Some((user, password)) = &self.user {
            request = request.basic_auth(user, Some(password.expose()));
        }
        let mut response = request.send().await.map_err(failed)?;
        let status = response.status();
        if status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        if !status.is_success() {
            return Err(Error::unavailable(format!("the other registry answered {path} with status {status}")));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
                let message = format!("the answer to {path} has more than {ANSWER_BYTES_MAX} bytes");
                return Err(Error::resource_exhausted(message));
            }
            bytes.extend_from_slice(&chunk);
        }
        let json = serde_json::from_slice(&bytes);
        json.map(Some).map_err(|error| Error::unavailable(format!("the answer to {path} is not JSON: {error}")))
    }
}

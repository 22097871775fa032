//! From paths to the service.

use axum::http::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tereza_catalog::store::schemas::{DEFAULT_CONTEXT, SubjectName};
use tereza_runtime::Error;

use super::query::Query;
use crate::formats::Format;
use crate::json::Json;
use crate::model::SchemaRequest;
use crate::refusal::{Answer, Refusal};
use crate::service::{ListQuery, Normalize, VersionsQuery};
use crate::{Service, names, percent};

/// What a request gives.
pub(super) enum Output {
    Json(String),
    /// A schema as it is.
    Text(String),
    Nothing,
    /// The methods of a path, as they were asked for.
    Allowed(&'static str),
    /// The methods of a path, none of which it was.
    NotAllowed(&'static str),
}

/// A path with the context that its names are of.
#[derive(Debug)]
pub(super) struct Route {
    context: String,
    parts: Vec<String>,
}

/// Takes a path apart; none if nothing is there.
pub(super) fn find(path: &str) -> Answer<Option<Route>> {
    let parts = path.split('/').filter(|part| !part.is_empty()).map(percent::decode).collect::<Option<Vec<String>>>();
    let mut parts = parts.ok_or_else(|| Refusal::http(400, "the path is not percent-encoded as it should be"))?;
    let mut context = DEFAULT_CONTEXT.to_owned();
    if parts.len() > 2 && parts[0] == "contexts" {
        let Some(named) = names::context(&parts[1]) else { return Ok(None) };
        context = named;
        parts.drain(..2);
    }
    let texts: Vec<&str> = parts.iter().map(String::as_str).collect();
    Ok(methods(&texts).is_some().then_some(Route { context, parts }))
}

/// The methods of a path; none if nothing is there.
fn methods(parts: &[&str]) -> Option<&'static str> {
    Some(match parts {
        []
        | ["subjects" | "schemas" | "contexts"]
        | ["subjects", _, "metadata"]
        | ["subjects", _, "versions", _, "schema" | "referencedby"]
        | ["schemas", "ids" | "guids", _]
        | ["schemas", "ids", _, "schema" | "subjects" | "versions"]
        | ["schemas", "guids", _, "ids"]
        | ["schemas", "types"]
        | ["v1", "metadata", "id" | "version"] => "GET,HEAD,OPTIONS",
        ["subjects", _] => "POST,DELETE,OPTIONS",
        ["subjects", _, "versions"] => "GET,HEAD,POST,OPTIONS",
        ["subjects", _, "versions", _] => "GET,HEAD,DELETE,OPTIONS",
        ["compatibility", "subjects", _, "versions"] | ["compatibility", "subjects", _, "versions", _] => {
            "POST,OPTIONS"
        }
        ["config" | "mode"] | ["config" | "mode", _] => "GET,HEAD,PUT,DELETE,OPTIONS",
        ["contexts", _] => "DELETE,OPTIONS",
        _ => return None,
    })
}

/// Does what a request asks for.
pub(super) async fn run(
    service: &Service,
    route: Route,
    method: &Method,
    query: &Query,
    body: &[u8],
) -> Answer<Output> {
    let Route { context, parts } = route;
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let allowed = methods(&parts).unwrap_or_default();
    if method == Method::OPTIONS {
        return Ok(Output::Allowed(allowed));
    }
    if !allowed.split(',').any(|allowed| allowed == method.as_str()) {
        return Ok(Output::NotAllowed(allowed));
    }
    let call = Call { service, context, query, body, method };
    match parts.as_slice() {
        [] => json(&json!({})),
        ["subjects", rest @ ..] => call.subjects(rest).await,
        ["schemas", rest @ ..] => call.schemas(rest).await,
        ["compatibility", "subjects", subject, "versions", version @ ..] => {
            call.compatibility(subject, version.first().copied()).await
        }
        ["config", subject @ ..] => call.config(subject.first().copied()).await,
        ["mode", subject @ ..] => call.mode(subject.first().copied()).await,
        ["contexts"] => {
            let prefix = query.get("contextPrefix").unwrap_or_default();
            json(&service.contexts(prefix, query.offset()?, query.limit()?).await?)
        }
        ["contexts", context] => {
            let context = names::context(context).ok_or_else(|| Refusal::http(404, "HTTP 404 Not Found"))?;
            service.delete_context(&context).await?;
            Ok(Output::Nothing)
        }
        ["v1", "metadata", "id"] => {
            let clusters = json!({ "schema-registry-cluster": "schema-registry" });
            json(&json!({ "id": "", "scope": { "path": [], "clusters": clusters } }))
        }
        ["v1", "metadata", "version"] => json(&json!({ "version": env!("CARGO_PKG_VERSION"), "commitId": "" })),
        _ => Err(Refusal::http(404, "HTTP 404 Not Found")),
    }
}

/// A request whose path is known.
struct Call<'a> {
    service: &'a Service,
    context: String,
    query: &'a Query,
    body: &'a [u8],
    method: &'a Method,
}

impl Call<'_> {
    fn name(&self, subject: &str) -> SubjectName {
        names::parse(subject, &self.context)
    }

    /// Of a subject, or of the context of the path, or of everything.
    fn scope(&self, subject: Option<&str>) -> Option<SubjectName> {
        match subject {
            Some(subject) => Some(self.name(subject)),
            None if self.context == DEFAULT_CONTEXT => None,
            None => Some(self.name("")),
        }
    }

    fn normalize(&self) -> Normalize {
        Normalize(self.query.is("normalize"))
    }

    fn way(&self) -> Option<&str> {
        self.query.get("format")
    }

    fn parse<T: DeserializeOwned>(&self) -> Answer<T> {
        if self.body.iter().all(u8::is_ascii_whitespace) {
            return Err(Refusal::http(422, "the request has no body"));
        }
        serde_json::from_slice(self.body).map_err(|error| match error.classify() {
            serde_json::error::Category::Data => Refusal::http(422, format!("the body of the request: {error}")),
            _ => Refusal::http(400, format!("the body of the request is not JSON: {error}")),
        })
    }

    fn list_query(&self) -> Answer<ListQuery> {
        // Without a prefix all contexts are meant, unless the path names one.
        let default = if self.context == DEFAULT_CONTEXT { ":*:" } else { "" };
        Ok(ListQuery {
            prefix: self.query.get("subjectPrefix").unwrap_or(default).to_owned(),
            deleted: self.query.deleted(),
            latest_only: self.query.is("latestOnly"),
            aliases: self.query.is("aliases"),
            offset: self.query.offset()?,
            limit: self.query.limit()?,
        })
    }

    fn versions_query(&self) -> Answer<VersionsQuery> {
        Ok(VersionsQuery {
            deleted: self.query.deleted(),
            negative: self.query.is("deletedAsNegative"),
            offset: self.query.offset()?,
            limit: self.query.limit()?,
        })
    }

    async fn subjects(&self, parts: &[&str]) -> Answer<Output> {
        let (service, query) = (self.service, self.query);
        let (deleted, permanent) = (query.is("deleted"), query.is("permanent"));
        let is_get = self.method == Method::GET;
        match parts {
            [] => json(&service.subjects(&self.context, &self.list_query()?).await?),
            [subject] if self.method == Method::POST => {
                let request: SchemaRequest = self.parse()?;
                json(&service.lookup(self.name(subject), &request, self.normalize(), deleted).await?)
            }
            [subject] => json(&service.delete_subject(self.name(subject), permanent).await?),
            [subject, "metadata"] => {
                let keys = query.all("key").into_iter().map(str::to_owned);
                let wanted: Vec<(String, String)> =
                    keys.zip(query.all("value").into_iter().map(str::to_owned)).collect();
                json(&service.with_metadata(self.name(subject), &wanted, deleted, self.way()).await?)
            }
            [subject, "versions"] if is_get => {
                json(&service.versions(self.name(subject), &self.versions_query()?).await?)
            }
            [subject, "versions"] => {
                let request: SchemaRequest = self.parse()?;
                let registered = service.register(self.name(subject), &request, self.normalize()).await?;
                json(&registered)
            }
            [subject, "versions", version] if is_get => {
                json(&service.version(self.name(subject), version, deleted, self.way()).await?)
            }
            [subject, "versions", version] => {
                json(&service.delete_version(self.name(subject), version, permanent).await?)
            }
            [subject, "versions", version, "schema"] => {
                let found = service.version(self.name(subject), version, deleted, self.way()).await?;
                Ok(Output::Text(found.schema))
            }
            [subject, "versions", version, _] => {
                let (offset, limit) = (query.offset()?, query.limit()?);
                json(&service.referenced_by(self.name(subject), version, offset, limit).await?)
            }
            _ => Err(Refusal::http(404, "HTTP 404 Not Found")),
        }
    }

    async fn schemas(&self, parts: &[&str]) -> Answer<Output> {
        let (service, context, subject) = (self.service, &self.context, self.query.get("subject"));
        match parts {
            [] => json(&service.schemas(context, &self.list_query()?).await?),
            ["types"] => json(&Format::ALL.map(Format::name)),
            ["ids", id] => {
                let max_id = self.query.is("fetchMaxId");
                json(&service.by_id(context, schema_id(id)?, subject, self.way(), max_id).await?)
            }
            ["ids", id, "schema"] => {
                let found = service.by_id(context, schema_id(id)?, subject, self.way(), false).await?;
                Ok(Output::Text(found.schema))
            }
            ["ids", id, "subjects"] => {
                json(&service.subjects_of(context, schema_id(id)?, subject, &self.versions_query()?).await?)
            }
            ["ids", id, "versions"] => {
                json(&service.versions_of(context, schema_id(id)?, subject, &self.versions_query()?).await?)
            }
            ["guids", guid] => json(&service.by_guid(guid, self.way()).await?),
            ["guids", guid, "ids"] => json(&service.ids_of_guid(guid).await?),
            _ => Err(Refusal::http(404, "HTTP 404 Not Found")),
        }
    }

    async fn compatibility(&self, subject: &str, version: Option<&str>) -> Answer<Output> {
        let request: SchemaRequest = self.parse()?;
        let found = self.service.compatibility(self.name(subject), version, &request, self.normalize()).await?;
        match self.query.is("verbose") {
            true => json(&json!({ "is_compatible": found.is_compatible, "messages": found.messages })),
            false => json(&json!({ "is_compatible": found.is_compatible })),
        }
    }

    async fn config(&self, subject: Option<&str>) -> Answer<Output> {
        let scope = self.scope(subject);
        match self.method.as_str() {
            "GET" => json(&self.service.get_config(scope.as_ref(), self.query.is("defaultToGlobal")).await?),
            "PUT" => {
                let request: Json = self.parse()?;
                self.service.put_config(scope.as_ref(), &request).await?;
                json(&request)
            }
            _ => json(&self.service.delete_config(scope.as_ref()).await?),
        }
    }

    async fn mode(&self, subject: Option<&str>) -> Answer<Output> {
        let scope = self.scope(subject);
        let mode = match self.method.as_str() {
            "GET" => self.service.get_mode(scope.as_ref(), self.query.is("defaultToGlobal")).await?,
            "PUT" => {
                let request: Json = self.parse()?;
                let mode = request.as_object().and_then(|request| request.get("mode")).and_then(Json::as_str);
                let mode = mode.ok_or_else(Refusal::invalid_mode)?;
                self.service.put_mode(scope.as_ref(), mode, self.query.is("force")).await?
            }
            _ => self.service.delete_mode(scope.as_ref(), self.query.is("recursive")).await?,
        };
        json(&json!({ "mode": mode.name() }))
    }
}

fn schema_id(text: &str) -> Answer<i32> {
    text.parse().map_err(|_| Refusal::http(404, "HTTP 404 Not Found"))
}

fn json(value: &impl Serialize) -> Answer<Output> {
    let text = serde_json::to_string(value);
    text.map(Output::Json).map_err(|error| Error::internal(format!("an answer cannot be written: {error}")).into())
}

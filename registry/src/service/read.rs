//! Schemas and versions, one or many.

use std::sync::Arc;

use tereza_catalog::store::schemas::{DEFAULT_CONTEXT, Deleted, Page, Schema, SettingKind, SubjectName, Version};

use super::{CONTEXTS_MAX, LIST_MAX, SCHEMAS_MAX, Service, body};
use crate::formats::Format;
use crate::json::Json;
use crate::model::{self, Config, ContextId, SchemaBody, SubjectVersion};
use crate::names;
use crate::refusal::{Answer, Refusal};

/// Versions that are looked through for metadata.
const METADATA_VERSIONS_MAX: usize = 1_000;
/// Places of one UUID that are named.
const GUID_PLACES_MAX: u32 = 1_000;

/// Part of a list of subjects or schemas.
#[derive(Debug, Clone, Default)]
pub struct ListQuery {
    /// With which the names begin.
    pub prefix: String,
    /// Also deleted ones, or only those.
    pub deleted: Deleted,
    /// Only the latest version of each subject.
    pub latest_only: bool,
    /// Also those of subjects with an alias that begins so.
    pub aliases: bool,
    /// How many to leave out.
    pub offset: u32,
    /// How many at most; none is as many as a list may have.
    pub limit: Option<u32>,
}

/// Part of a list of versions.
#[derive(Debug, Clone, Default)]
pub struct VersionsQuery {
    /// Also deleted ones, or only those.
    pub deleted: Deleted,
    /// Deleted ones with a minus.
    pub negative: bool,
    /// How many to leave out.
    pub offset: u32,
    /// How many at most.
    pub limit: Option<u32>,
}

/// A version as a path names it; none is the latest.
pub(super) fn version(text: &str) -> Answer<Option<i32>> {
    match text {
        "latest" | "-1" => Ok(None),
        _ => number(text).map(Some),
    }
}

pub(super) fn number(text: &str) -> Answer<i32> {
    let number = text.parse::<i32>().ok().filter(|number| *number >= 1);
    number.ok_or_else(|| Refusal::invalid_version(text))
}

fn page(offset: u32, limit: Option<u32>, max: u32) -> Page {
    let limit = limit.filter(|limit| (1..=max).contains(limit)).unwrap_or(max);
    Page { offset, limit }
}

impl Service {
    /// Subjects, sorted.
    pub async fn subjects(&self, context: &str, query: &ListQuery) -> Answer<Vec<String>> {
        let mut filter = names::prefix(&query.prefix, context);
        filter.deleted = query.deleted;
        let found = self.store().subjects(&filter, page(query.offset, query.limit, LIST_MAX)).await?;
        Ok(found.iter().map(names::render).collect())
    }

    /// Versions of subjects with their schemas, sorted.
    pub async fn schemas(&self, context: &str, query: &ListQuery) -> Answer<Vec<SchemaBody>> {
        let mut filter = names::prefix(&query.prefix, context);
        filter.deleted = query.deleted;
        let page = page(query.offset, query.limit, SCHEMAS_MAX);
        let mut found = self.store().subject_versions(&filter, query.latest_only, page).await?;
        if query.aliases {
            let all = Page { offset: 0, limit: SCHEMAS_MAX };
            for (name, setting) in self.store().schema_settings(SettingKind::Config, &filter, all).await? {
                let alias = serde_json::from_str::<Config>(&setting).ok().and_then(|config| config.alias);
                let Some(alias) = alias.filter(|alias| !alias.is_empty()) else { continue };
                let name = names::parse(&alias, &name.context);
                let subject = self.store().subject(&name).await?;
                let shown = subject.versions.iter().copied().filter(|version| match query.deleted {
                    Deleted::Hide => !version.deleted,
                    Deleted::Include => true,
                    Deleted::Only => version.deleted,
                });
                let skipped = if query.latest_only { shown.clone().count().saturating_sub(1) } else { 0 };
                let shown = shown.skip(skipped).map(|version| (name.clone(), version));
                let new: Vec<_> = shown.filter(|shown| !found.contains(shown)).collect();
                found.extend(new);
                if found.len() >= page.limit as usize {
                    break;
                }
            }
            found.truncate(page.limit as usize);
        }
        let mut bodies = Vec::with_capacity(found.len());
        for (name, version) in found {
            // One that was removed since then is left out.
            if let Some(schema) = self.schema(&name.context, version.id).await? {
                bodies.push(version_body(&name, version, &schema, None));
            }
        }
        Ok(bodies)
    }

    /// Numbers of a subject's versions.
    pub async fn versions(&self, name: SubjectName, query: &VersionsQuery) -> Answer<Vec<i32>> {
        let name = self.meant(name).await?;
        let subject = self.store().subject(&name).await?;
        let is_shown = |version: &Version| match query.deleted {
            Deleted::Hide => !version.deleted,
            Deleted::Include => true,
            Deleted::Only => version.deleted,
        };
        let exists =
            subject.versions.iter().any(|version| !version.deleted || query.deleted != Deleted::Hide || query.negative);
        if !exists {
            return Err(Refusal::subject_not_found(&names::render(&name)));
        }
        let Page { offset, limit } = page(query.offset, query.limit, LIST_MAX);
        let shown = subject.versions.iter().filter(|version| query.negative || is_shown(version));
        let numbers =
            shown.map(|version| if query.negative && version.deleted { -version.version } else { version.version });
        Ok(numbers.skip(offset as usize).take(limit as usize).collect())
    }

    /// A version of a subject with its schema, in one of the ways that its format has.
    pub async fn version(&self, name: SubjectName, text: &str, deleted: bool, way: Option<&str>) -> Answer<SchemaBody> {
        let name = self.meant(name).await?;
        let (name, version) = self.find_version(name, text, deleted).await?;
        let schema = self.schema_of(&name, version).await?;
        let formatted = self.formatted(&schema, way).await?;
        Ok(version_body(&name, version, &schema, formatted))
    }

    /// The id that a version has, deleted or not, in the subject of this very name.
    pub(crate) async fn id_of_version(&self, name: &SubjectName, number: i32) -> Answer<Option<i32>> {
        Ok(self.store().subject_version(name, Some(number)).await?.map(|version| version.id))
    }

    /// A version, in the subject or in one of the same name in another context.
    pub(super) async fn find_version(
        &self,
        name: SubjectName,
        text: &str,
        deleted: bool,
    ) -> Answer<(SubjectName, Version)> {
        let number = version(text)?;
        let is_shown = |version: &Version| deleted || !version.deleted;
        if let Some(version) = self.store().subject_version(&name, number).await?.filter(is_shown) {
            return Ok((name, version));
        }
        for other in self.same_in_other_contexts(&name).await? {
            if let Some(version) = self.store().subject_version(&other, number).await?.filter(is_shown) {
                return Ok((other, version));
            }
        }
        let subject = self.store().subject(&name).await?;
        if subject.versions.iter().any(is_shown) {
            return Err(Refusal::version_not_found(
                number.map_or_else(|| "latest".to_owned(), |number| number.to_string()),
            ));
        }
        Err(Refusal::subject_not_found(&names::render(&name)))
    }

    /// The same name in the other contexts, if it is one of the default context.
    pub(super) async fn same_in_other_contexts(&self, name: &SubjectName) -> Answer<Vec<SubjectName>> {
        if name.context != DEFAULT_CONTEXT {
            return Ok(Vec::new());
        }
        let others = self.other_contexts().await?;
        let names =
            others.iter().map(|context| SubjectName { context: context.clone(), subject: name.subject.clone() });
        Ok(names.collect())
    }

    async fn other_contexts(&self) -> Answer<Arc<[String]>> {
        let forgotten = match self.0.contexts.get() {
            Ok(known) => return Ok(known),
            Err(forgotten) => forgotten,
        };
        let contexts = self.store().schema_contexts(CONTEXTS_MAX).await?;
        let others: Arc<[String]> = contexts.into_iter().filter(|context| context != DEFAULT_CONTEXT).collect();
        self.0.contexts.put(forgotten, &others);
        Ok(others)
    }

    async fn formatted(&self, schema: &Schema, way: Option<&str>) -> Answer<Option<String>> {
        let Some(way) = way.filter(|way| !way.is_empty()) else { return Ok(None) };
        let has_way = match Format::of(&schema.content.kind) {
            Some(Format::Avro) => way == "resolved",
            Some(Format::Protobuf) => way == "serialized",
            _ => false,
        };
        if !has_way {
            return Ok(None);
        }
        let parsed = self.parse_stored(schema).await?;
        let way = way.to_owned();
        let formatted = self.work(move || parsed.formatted(&way)).await?;
        formatted.map_err(|error| Refusal::invalid_schema(error.to_string()))
    }

    /// The newest version whose metadata has these properties.
    pub async fn with_metadata(
        &self,
        name: SubjectName,
        wanted: &[(String, String)],
        deleted: bool,
        way: Option<&str>,
    ) -> Answer<SchemaBody> {
        let name = self.meant(name).await?;
        let subject = self.store().subject(&name).await?;
        let shown = subject.versions.iter().rev().filter(|version| deleted || !version.deleted);
        let shown: Vec<Version> = shown.take(METADATA_VERSIONS_MAX).copied().collect();
        if shown.is_empty() {
            return Err(Refusal::subject_not_found(&names::render(&name)));
        }
        for version in shown {
            let schema = self.schema_of(&name, version).await?;
            let found = version_body(&name, version, &schema, None);
            let has = |(key, value): &(String, String)| {
                let property = model::properties(found.metadata.as_ref()).and_then(|all| all.get(key));
                property.and_then(Json::as_str) == Some(value)
            };
            if found.metadata.is_some() && wanted.iter().all(has) {
                let formatted = self.formatted(&schema, way).await?;
                return Ok(version_body(&name, version, &schema, formatted));
            }
        }
        Err(Refusal::schema_not_found())
    }

    /// Ids of the schemas that refer to a version.
    pub async fn referenced_by(
        &self,
        name: SubjectName,
        text: &str,
        offset: u32,
        limit: Option<u32>,
    ) -> Answer<Vec<i32>> {
        let name = self.meant(name).await?;
        let (name, version) = self.find_version(name, text, true).await?;
        Ok(self.store().referring_schemas(&name, version.version, page(offset, limit, LIST_MAX)).await?)
    }

    /// A schema by its id. A subject, if it is given, says in which context to look.
    pub async fn by_id(
        &self,
        context: &str,
        id: i32,
        subject: Option<&str>,
        way: Option<&str>,
        max_id: bool,
    ) -> Answer<SchemaBody> {
        let (schema, _) = self.find_id(context, id, subject).await?;
        let formatted = self.formatted(&schema, way).await?;
        let mut found = body(&schema, formatted);
        if max_id {
            found.max_id = Some(self.store().greatest_schema_id(&schema.context).await?);
        }
        Ok(found)
    }

    async fn find_id(
        &self,
        context: &str,
        id: i32,
        subject: Option<&str>,
    ) -> Answer<(Arc<Schema>, Option<SubjectName>)> {
        let subject = subject.filter(|subject| !subject.is_empty()).map(|subject| names::parse(subject, context));
        let here = subject.as_ref().map_or(context, |name| name.context.as_str());
        let found = self.schema(here, id).await?;
        let Some(name) = subject.filter(|name| name.context == DEFAULT_CONTEXT && !name.subject.is_empty()) else {
            return found.map(|found| (found, None)).ok_or_else(|| Refusal::id_not_found(id));
        };
        // Without a context the subject may be in any; the one that has the schema is meant. Mostly there is but one context.
        if let Some(found) = &found
            && (self.other_contexts().await?.is_empty() || self.store().has_schema(&name, id).await?)
        {
            return Ok((Arc::clone(found), Some(name)));
        }
        for name in self.same_in_other_contexts(&name).await? {
            if self.store().has_schema(&name, id).await?
                && let Some(found) = self.schema(&name.context, id).await?
            {
                return Ok((found, Some(name)));
            }
        }
        found.map(|found| (found, None)).ok_or_else(|| Refusal::id_not_found(id))
    }

    /// The versions that have a schema.
    pub async fn versions_of(
        &self,
        context: &str,
        id: i32,
        subject: Option<&str>,
        query: &VersionsQuery,
    ) -> Answer<Vec<SubjectVersion>> {
        let (schema, _) = self.find_id(context, id, subject).await?;
        let page = page(query.offset, query.limit, LIST_MAX);
        let found = self.store().versions_of_schema(&schema.context, id, query.deleted, page).await?;
        let versions = found.into_iter().map(|(subject, version)| {
            let name = SubjectName { context: schema.context.clone(), subject };
            SubjectVersion { subject: names::render(&name), version }
        });
        Ok(versions.collect())
    }

    /// The subjects that have a schema.
    pub async fn subjects_of(
        &self,
        context: &str,
        id: i32,
        subject: Option<&str>,
        query: &VersionsQuery,
    ) -> Answer<Vec<String>> {
        let mut subjects: Vec<String> = Vec::new();
        for version in self.versions_of(context, id, subject, query).await? {
            if subjects.last() != Some(&version.subject) {
                subjects.push(version.subject);
            }
        }
        Ok(subjects)
    }

    /// A schema by its UUID.
    pub async fn by_guid(&self, guid: &str, way: Option<&str>) -> Answer<SchemaBody> {
        let places = self.store().schemas_of_guid(&guid.to_ascii_lowercase(), 1).await?;
        let (context, id) = places.into_iter().next().ok_or_else(|| Refusal::id_not_found(guid))?;
        let schema = self.schema(&context, id).await?.ok_or_else(|| Refusal::id_not_found(guid))?;
        let formatted = self.formatted(&schema, way).await?;
        Ok(body(&schema, formatted))
    }

    /// The ids that a UUID has in contexts.
    pub async fn ids_of_guid(&self, guid: &str) -> Answer<Vec<ContextId>> {
        let places = self.store().schemas_of_guid(&guid.to_ascii_lowercase(), GUID_PLACES_MAX).await?;
        if places.is_empty() {
            return Err(Refusal::id_not_found(guid));
        }
        Ok(places.into_iter().map(|(context, id)| ContextId { context, id }).collect())
    }
}

fn version_body(name: &SubjectName, version: Version, schema: &Schema, text: Option<String>) -> SchemaBody {
    SchemaBody {
        subject: Some(names::render(name)),
        version: Some(version.version),
        id: Some(version.id),
        deleted: version.deleted.then_some(true),
        ..body(schema, text)
    }
}

//! Registering schemas, looking them up, and whether they are compatible.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use tereza_catalog::store::schemas::{
    DEFAULT_CONTEXT, NewVersion, Schema as StoredSchema, Subject, SubjectName, Version,
};
use tereza_runtime::{Error, ErrorKind};
use tokio::sync::{Mutex, MutexGuard};

use super::contents::{Parsed, Reading};
use super::{Service, body};
use crate::formats::{Problem, Schema};
use crate::json::{Json, Object};
use crate::model::{self, Config, Mode, SchemaBody, SchemaRequest};
use crate::names;
use crate::refusal::{Answer, Refusal};

/// How often a registration begins again because its subject was changed by another one.
const ATTEMPTS: u32 = 20;
/// Turns that there are, for all subjects.
const TURNS: usize = 64;
/// Versions of a subject that a look-up goes through for one that was registered with references and is asked for without.
const LOOKUP_MAX: usize = 100;
/// Bytes of an old schema that a message about incompatibility shows.
const SHOWN_BYTES: usize = 10 << 10;
/// The property of metadata that holds the version.
const VERSION_PROPERTY: &str = "confluent:version";
/// The property of metadata that lists fields that may not be used.
const RESERVED_PROPERTY: &str = "confluent:reserved";

/// Whether a schema's normal form is taken: if the request says so, or the settings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Normalize(pub bool);

/// The answer about compatibility.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compatibility {
    /// Whether it is.
    pub is_compatible: bool,
    /// Why not.
    pub messages: Vec<String>,
}

/// Registrations that lost to another one go on one after the other, so that many at once for one subject all get through.
/// Some subjects share a turn, by chance.
#[derive(Debug)]
pub(super) struct Turns([Mutex<()>; TURNS]);

impl Turns {
    pub(super) fn new() -> Self {
        Self([const { Mutex::const_new(()) }; TURNS])
    }

    async fn take(&self, name: &SubjectName) -> MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        (&name.context, &name.subject).hash(&mut hasher);
        let place = hasher.finish() % u64::try_from(TURNS).unwrap_or(1);
        self.0[usize::try_from(place).unwrap_or(0)].lock().await
    }
}

impl Service {
    /// Registers a schema, and returns it with its id. One that is there already is not registered again.
    pub async fn register(
        &self,
        name: SubjectName,
        request: &SchemaRequest,
        normalize: Normalize,
    ) -> Answer<SchemaBody> {
        model::check_rules(request.rule_set.as_ref())?;
        if !names::is_valid(&name) {
            return Err(Refusal::invalid_subject(&names::render(&name)));
        }
        let name = self.meant(name).await?;
        let mode = self.mode(&name).await?;
        self.register_in(mode, &name, request, normalize).await
    }

    /// Registers a schema with the id and version that it has elsewhere, whatever the mode is.
    pub(crate) async fn import(
        &self,
        name: SubjectName,
        request: &SchemaRequest,
        normalize: Normalize,
    ) -> Answer<SchemaBody> {
        if !names::is_valid(&name) {
            return Err(Refusal::invalid_subject(&names::render(&name)));
        }
        self.register_in(Mode::Import, &name, request, normalize).await
    }

    async fn register_in(
        &self,
        mode: Mode,
        name: &SubjectName,
        request: &SchemaRequest,
        normalize: Normalize,
    ) -> Answer<SchemaBody> {
        let mut turn = None;
        for _ in 0..ATTEMPTS {
            if let Some(registered) = self.try_register(mode, name, request, normalize).await? {
                return Ok(registered);
            }
            if turn.is_none() {
                turn = Some(self.0.turns.take(name).await);
            }
        }
        Err(Error::conflict(format!("subject '{}' is being changed all the time", names::render(name))).into())
    }

    /// Registers a schema unless its subject changes meanwhile.
    async fn try_register(
        &self,
        mode: Mode,
        name: &SubjectName,
        request: &SchemaRequest,
        normalize: Normalize,
    ) -> Answer<Option<SchemaBody>> {
        let given_id = request.id.filter(|id| *id >= 0);
        let rendered = names::render(name);
        if mode.is_read_only() {
            return Err(Refusal::not_permitted(format!("Subject {rendered} is in read-only mode")));
        }
        if given_id.is_some() && !mode.is_import() {
            return Err(Refusal::not_permitted(format!("Subject {rendered} is not in import mode")));
        }
        if given_id.is_none() && mode != Mode::ReadWrite {
            return Err(Refusal::not_permitted(format!("Subject {rendered} is not in read-write mode")));
        }
        let subject = self.store().subject(name).await?;
        let config = self.config(name).await?;
        let next_version = subject.last_version.checked_add(1);
        let version = request.version.unwrap_or_default();
        if mode == Mode::ReadWrite && version == 0 && !config.adds_to_schemas() {
            // What is there already is found whatever the latest version would add to it now.
            if let Some(found) = self.lookup_in(name, request, normalize, false).await? {
                let (id, version, guid) = (found.id, found.version, found.guid);
                return Ok(Some(SchemaBody { id, version, guid, ..SchemaBody::default() }));
            }
        }
        let filled = match mode.is_import() {
            true => request.clone(),
            false => self.filled(name, &subject, &config, request, next_version).await?,
        };
        let is_as_sent = filled == *request;
        let request = filled;
        let normalize = normalize.0 || config.normalize == Some(true);
        let reading = Reading { is_new: given_id.is_none(), normalize };
        let parsed = self.parse(name, &request, reading).await?;
        if version == 0
            && let Some(known) = self.known(name, &subject, &parsed, given_id).await?
        {
            return Ok(Some(registered_body(name, &parsed, known, is_as_sent)));
        }
        if !mode.is_import() {
            let older = live(&subject);
            let messages = self.incompatibilities(name, &config, &parsed, &older).await?;
            if !messages.is_empty() {
                return Err(Refusal::incompatible(&rendered, &messages));
            }
            if version > 0 && Some(version) != next_version {
                return Err(Refusal::invalid_schema("Version is not one more than previous version"));
            }
        }
        let new = NewVersion {
            name: name.clone(),
            content: parsed.content.clone(),
            id: given_id,
            version: (version > 0).then_some(version),
            expected_stamp: Some(subject.stamp),
        };
        match self.store().register_schema(&new).await {
            Ok(registered) => {
                if name.context != DEFAULT_CONTEXT {
                    self.0.contexts.forget();
                }
                if given_id.is_some() {
                    self.0.cache.clear();
                }
                Ok(Some(registered_body(name, &parsed, registered, is_as_sent)))
            }
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(None),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let id = given_id.unwrap_or_default();
                let context = &name.context;
                Err(Refusal::not_permitted(format!(
                    "Overwrite new schema with id {id} in context {context} is not permitted."
                )))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The version of a subject that has this content already, live.
    async fn known(
        &self,
        name: &SubjectName,
        subject: &Subject,
        parsed: &Parsed,
        given_id: Option<i32>,
    ) -> Answer<Option<Version>> {
        let ids = self.store().schema_id(&name.context, &parsed.content.hash).await?;
        let Some(id) = ids else { return Ok(None) };
        let version = live(subject).into_iter().rev().find(|version| version.id == id);
        match (version, given_id) {
            (Some(version), Some(given)) if given != version.id => Err(Refusal::id_mismatch(version.id, given)),
            (version, _) => Ok(version),
        }
    }

    /// A request with what the latest version and the settings add to it.
    async fn filled(
        &self,
        name: &SubjectName,
        subject: &Subject,
        config: &Config,
        request: &SchemaRequest,
        next_version: Option<i32>,
    ) -> Answer<SchemaRequest> {
        let mut filled = request.clone();
        let latest = match live(subject).last() {
            Some(version) => Some(body(&*self.schema_of(name, *version).await?, None)),
            None => None,
        };
        if filled.schema.as_deref().is_none_or(|text| text.trim().is_empty()) {
            let latest = latest.as_ref().ok_or_else(|| Refusal::invalid_schema("Empty schema"))?;
            filled.schema = Some(latest.schema.clone());
            filled.schema_type = latest.schema_type.clone();
            filled.references = Some(latest.references.clone());
        }
        let metadata = request.metadata.clone().or_else(|| latest.as_ref().and_then(|latest| latest.metadata.clone()));
        let metadata = model::merge_metadata(config.default_metadata.as_ref(), metadata.as_ref());
        let metadata = model::merge_metadata(metadata.as_ref(), config.override_metadata.as_ref());
        let rules = request.rule_set.clone().or_else(|| latest.and_then(|latest| latest.rule_set));
        let rules = model::merge_rules(config.default_rule_set.as_ref(), rules.as_ref());
        filled.rule_set = model::merge_rules(rules.as_ref(), config.override_rule_set.as_ref());
        let has_version = model::properties(metadata.as_ref()).is_some_and(|all| all.contains_key(VERSION_PROPERTY));
        filled.metadata = match next_version {
            Some(version) if has_version || request.version.unwrap_or_default() != 0 => {
                let property = Object::from([(VERSION_PROPERTY.to_owned(), Json::String(version.to_string()))]);
                let added = Json::Object(Object::from([("properties".to_owned(), Json::Object(property))]));
                model::merge_metadata(metadata.as_ref(), Some(&added))
            }
            _ => metadata,
        };
        Ok(filled)
    }

    /// Finds a schema in a subject.
    pub async fn lookup(
        &self,
        name: SubjectName,
        request: &SchemaRequest,
        normalize: Normalize,
        deleted: bool,
    ) -> Answer<SchemaBody> {
        let name = self.meant(name).await?;
        let found = self.lookup_in(&name, request, normalize, deleted).await?;
        if let Some(found) = found {
            return Ok(found);
        }
        for other in self.same_in_other_contexts(&name).await? {
            match self.lookup_in(&other, request, normalize, deleted).await {
                Ok(Some(found)) => return Ok(found),
                // What it refers to may not be there.
                Ok(None) | Err(Refusal { code: 42201, .. }) => {}
                Err(refusal) => return Err(refusal),
            }
        }
        let exists = self.store().subject(&name).await?.versions.iter().any(|version| deleted || !version.deleted);
        Err(if exists { Refusal::schema_not_found() } else { Refusal::subject_not_found(&names::render(&name)) })
    }

    async fn lookup_in(
        &self,
        name: &SubjectName,
        request: &SchemaRequest,
        normalize: Normalize,
        deleted: bool,
    ) -> Answer<Option<SchemaBody>> {
        let subject = self.store().subject(name).await?;
        let candidates: Vec<Version> =
            subject.versions.iter().copied().filter(|version| deleted || !version.deleted).collect();
        let config = self.config(name).await?;
        let reading = Reading { is_new: false, normalize: normalize.0 || config.normalize == Some(true) };
        let mut parsed = self.parse(name, request, reading).await?;
        let filled = self.filled(name, &subject, &config, request, None).await?;
        let mut requests = vec![parsed.clone()];
        if (&filled.metadata, &filled.rule_set) != (&request.metadata, &request.rule_set) {
            parsed = self.parse(name, &filled, reading).await?;
            requests.push(parsed.clone());
        }
        for parsed in &requests {
            if let Some(id) = self.store().schema_id(&name.context, &parsed.content.hash).await?
                && let Some(version) = candidates.iter().rev().find(|version| version.id == id)
            {
                return Ok(Some(found_body(name, parsed, *version)));
            }
        }
        self.lookup_unresolved(name, &requests[0], &candidates).await
    }

    /// A schema that holds what another one refers to, or does not say what else the other one says.
    async fn lookup_unresolved(
        &self,
        name: &SubjectName,
        parsed: &Parsed,
        candidates: &[Version],
    ) -> Answer<Option<SchemaBody>> {
        let asked = &parsed.content;
        let metadata = without_version(asked.metadata.as_deref());
        for version in candidates.iter().rev().take(LOOKUP_MAX) {
            let stored = self.schema_of(name, *version).await?;
            let content = &stored.content;
            if content.kind != asked.kind {
                continue;
            }
            let is_same = content.text == asked.text
                && content.references == asked.references
                && content.rule_set == asked.rule_set
                && without_version(content.metadata.as_deref()) == metadata;
            let is_resolved = asked.references.is_empty() && !content.references.is_empty() && {
                let resolved = self.parse_stored(&stored).await?;
                let text = self.work(move || resolved.formatted("resolved")).await?;
                text.ok().flatten().is_some_and(|text| text == asked.text)
            };
            if is_same || is_resolved {
                let mut found = body(&stored, None);
                (found.subject, found.version, found.id) =
                    (Some(names::render(name)), Some(version.version), Some(version.id));
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Whether a schema is compatible with one version of a subject, or with those that its level names.
    pub async fn compatibility(
        &self,
        name: SubjectName,
        version: Option<&str>,
        request: &SchemaRequest,
        normalize: Normalize,
    ) -> Answer<Compatibility> {
        let name = self.meant(name).await?;
        let subject = self.store().subject(&name).await?;
        let live = live(&subject);
        let versions = match version {
            None => live,
            Some("latest" | "-1") => live.last().copied().into_iter().collect(),
            Some(text) => {
                let number = super::read::number(text)?;
                let found = live.into_iter().find(|version| version.version == number);
                vec![found.ok_or_else(|| Refusal::version_not_found(number))?]
            }
        };
        let config = self.config(&name).await?;
        let reading = Reading { is_new: false, normalize: normalize.0 || config.normalize == Some(true) };
        let parsed = self.parse(&name, request, reading).await?;
        let messages = self.incompatibilities(&name, &config, &parsed, &versions).await?;
        Ok(Compatibility { is_compatible: messages.is_empty(), messages })
    }

    /// Why a schema is not compatible with older versions, which are in order.
    async fn incompatibilities(
        &self,
        name: &SubjectName,
        config: &Config,
        parsed: &Parsed,
        older: &[Version],
    ) -> Answer<Vec<String>> {
        let level = config.level()?;
        let policy = config.policy()?;
        let validates = config.validate_fields == Some(true);
        let mut messages = Vec::new();
        if validates {
            self.check_reserved(name, parsed, older, &mut messages).await?;
        }
        let mut checked = 0;
        for version in older.iter().rev() {
            if !(level.backward || level.forward) || checked > 0 && !level.transitive || !messages.is_empty() {
                break;
            }
            let stored = self.schema_of(name, *version).await?;
            if !is_of_group(config, &parsed.content.metadata, &stored.content.metadata) {
                continue;
            }
            checked += 1;
            if stored.content.hash == parsed.content.hash {
                continue;
            }
            let old = Arc::new(self.parse_stored(&stored).await?);
            let new = Arc::clone(&parsed.schema);
            let found = self.work(move || both_ways(&new, &old, level, policy)).await?;
            messages = found;
            if !messages.is_empty() {
                messages.push(format!("{{oldSchemaVersion: {}}}", version.version));
                messages.push(old_schema(&stored));
            }
        }
        if !messages.is_empty() {
            messages.push(format!("{{validateFields: '{validates}', compatibility: '{}'}}", config.level_name()));
        }
        Ok(messages)
    }

    /// Fields that are reserved stay so, and are not there.
    async fn check_reserved(
        &self,
        name: &SubjectName,
        parsed: &Parsed,
        older: &[Version],
        messages: &mut Vec<String>,
    ) -> Answer<()> {
        let reserved = reserved(parsed.content.metadata.as_deref());
        if let Some(latest) = older.last() {
            let latest = self.schema_of(name, *latest).await?;
            for field in self::reserved(latest.content.metadata.as_deref()) {
                if !reserved.contains(&field) {
                    messages
                        .push(format!("The field {field} is reserved by the old schema and no longer by the new one"));
                }
            }
        }
        for field in reserved.iter().filter(|field| parsed.schema.has_top_level_field(field)) {
            messages.push(format!("The new schema has the field {field}, which its metadata reserve"));
        }
        Ok(())
    }
}

/// Metadata but for the version that the registry writes into it; none if nothing else is there.
fn without_version(metadata: Option<&str>) -> Option<Json> {
    let metadata: Json = serde_json::from_str(metadata?).ok()?;
    let Json::Object(mut members) = metadata else { return Some(metadata) };
    if let Some(Json::Object(properties)) = members.get_mut("properties") {
        properties.shift_remove(VERSION_PROPERTY);
        if properties.is_empty() {
            members.shift_remove("properties");
        }
    }
    (!members.is_empty()).then_some(Json::Object(members))
}

fn reserved(metadata: Option<&str>) -> Vec<String> {
    let metadata: Option<Json> = metadata.and_then(|text| serde_json::from_str(text).ok());
    let list = model::properties(metadata.as_ref()).and_then(|all| all.get(RESERVED_PROPERTY)).and_then(Json::as_str);
    let fields = list.unwrap_or_default().split(',').map(str::trim).filter(|field| !field.is_empty());
    fields.map(str::to_owned).collect()
}

/// Whether two schemas are to be compatible: if there are groups, only those of one group are.
fn is_of_group(config: &Config, new: &Option<String>, old: &Option<String>) -> bool {
    let Some(group) = &config.compatibility_group else { return true };
    let value = |metadata: &Option<String>| {
        let metadata: Option<Json> = metadata.as_ref().and_then(|text| serde_json::from_str(text).ok());
        model::properties(metadata.as_ref()).and_then(|all| all.get(group)).cloned()
    };
    value(new) == value(old)
}

/// Messages about what a new schema cannot read of an old one and the other way round, as the level asks.
fn both_ways(new: &Schema, old: &Schema, level: model::Level, policy: crate::formats::Policy) -> Vec<String> {
    let mut messages = Vec::new();
    let mut add = |found: Result<Vec<Problem>, crate::formats::TooComplex>, reader: &str, writer: &str| match found {
        Ok(problems) => messages.extend(problems.iter().map(|problem| problem.render(reader, writer))),
        Err(error) => messages.push(error.to_string()),
    };
    if level.backward {
        add(new.problems(old, policy), "new", "old");
    }
    if level.forward {
        add(old.problems(new, policy), "old", "new");
    }
    messages
}

fn old_schema(stored: &StoredSchema) -> String {
    let text = &stored.content.text;
    if text.len() <= SHOWN_BYTES {
        return format!("{{oldSchema: '{text}'}}");
    }
    let end = (0..=SHOWN_BYTES).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
    format!("{{oldSchema: <truncated> '{}...'}}", &text[..end])
}

/// The versions that are not deleted, in order.
fn live(subject: &Subject) -> Vec<Version> {
    subject.versions.iter().copied().filter(|version| !version.deleted).collect()
}

/// What a registration answers: id, version and UUID, and the schema only if it is not the one that was sent, as clients
/// take it for the one that they sent.
fn registered_body(name: &SubjectName, parsed: &Parsed, version: Version, is_as_sent: bool) -> SchemaBody {
    match is_as_sent {
        true => SchemaBody {
            id: Some(version.id),
            version: Some(version.version),
            guid: Some(parsed.content.guid.clone()),
            ..SchemaBody::default()
        },
        false => content_body(name, parsed, version),
    }
}

fn content_body(name: &SubjectName, parsed: &Parsed, version: Version) -> SchemaBody {
    let stored = StoredSchema { context: name.context.clone(), id: version.id, content: parsed.content.clone() };
    SchemaBody { id: Some(version.id), version: Some(version.version), ..body(&stored, None) }
}

fn found_body(name: &SubjectName, parsed: &Parsed, version: Version) -> SchemaBody {
    let deleted = version.deleted.then_some(true);
    SchemaBody { subject: Some(names::render(name)), deleted, ..content_body(name, parsed, version) }
}

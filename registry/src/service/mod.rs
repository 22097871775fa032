//! What the registry does, without HTTP: each request of the protocol is a method of [`Service`].
//!
//! In reading order: this file (what all of them need), `contents` (from requests to schemas that can be kept), `register`
//! (registering, looking up, compatibility), `read`, `delete`, `settings` (levels, modes, contexts), `cache`.
//!
//! Schemas are parsed and compared on threads of their own, a bounded number at a time; texts never run on the threads that
//! serve connections.

mod cache;
mod contents;
mod delete;
mod read;
mod register;
mod settings;

use std::sync::Arc;

use tereza_catalog::SchemaStore;
use tereza_catalog::store::schemas::{DEFAULT_CONTEXT, Page, Schema, Scope, SettingKind, SubjectName, Version};
use tereza_runtime::Error;
use tokio::sync::Semaphore;

use self::cache::{Cache, Contexts};
use crate::model::{Config, Mode, ReferenceBody, SchemaBody};
use crate::names;
use crate::refusal::{Answer, Refusal};

pub use self::read::{ListQuery, VersionsQuery};
use self::register::Turns;
pub use self::register::{Compatibility, Normalize};

/// Entries that a list has at most, and has if nobody says how many.
pub const LIST_MAX: u32 = 20_000;
/// Schemas that a list with their texts has at most, and has if nobody says how many.
pub const SCHEMAS_MAX: u32 = 1_000;
/// Contexts that are looked through for what the default one does not have.
const CONTEXTS_MAX: Page = Page { offset: 0, limit: 1_000 };

/// How the registry behaves.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Bytes that the text of a schema has at most.
    pub schema_bytes_max: usize,
    /// Schemas that one may refer to, directly or through others.
    pub references_max: usize,
    /// Bytes that their texts have together at most: they are in memory at once.
    pub references_bytes_max: usize,
    /// Schemas that are parsed or compared at once.
    pub parallelism: usize,
    /// Schemas that are kept in memory for look-ups by id.
    pub cached_schemas: usize,
    /// Bytes of all of them.
    pub cached_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            schema_bytes_max: 1 << 20,
            references_max: 200,
            references_bytes_max: 8 << 20,
            parallelism: std::thread::available_parallelism().map_or(1, usize::from),
            cached_schemas: 1_000,
            cached_bytes: 16 << 20,
        }
    }
}

/// The registry. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Service(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    store: Arc<dyn SchemaStore>,
    settings: Settings,
    work: Arc<Semaphore>,
    cache: Cache,
    contexts: Contexts,
    turns: Turns,
}

impl Service {
    /// A registry over a store.
    pub fn new(store: Arc<dyn SchemaStore>, settings: Settings) -> Self {
        let work = Arc::new(Semaphore::new(settings.parallelism.max(1)));
        let cache = Cache::new(settings.cached_schemas, settings.cached_bytes);
        Self(Arc::new(Shared { store, settings, work, cache, contexts: Contexts::default(), turns: Turns::new() }))
    }

    fn store(&self) -> &dyn SchemaStore {
        self.0.store.as_ref()
    }

    fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// Runs what takes long on a thread of its own, when there is room.
    async fn work<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Answer<T> {
        let permit = Arc::clone(&self.0.work).acquire_owned().await;
        let permit = permit.map_err(|error| Error::internal(error.to_string()))?;
        // The permit goes along, as the work goes on when the request that asked for it is given up.
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(permit);
            done
        });
        let done = done.await;
        done.map_err(|error| Error::internal(format!("a schema could not be looked at: {error}")).into())
    }

    /// A schema by its id, out of the cache if it was read a short while ago.
    async fn schema(&self, context: &str, id: i32) -> Answer<Option<Arc<Schema>>> {
        if let Some(schema) = self.0.cache.get(context, id) {
            return Ok(Some(schema));
        }
        let schema = self.store().schema(context, id).await?.map(Arc::new);
        if let Some(schema) = &schema {
            self.0.cache.put(schema);
        }
        Ok(schema)
    }

    /// The schema that a version has. A version without one was removed a moment ago.
    async fn schema_of(&self, name: &SubjectName, version: Version) -> Answer<Arc<Schema>> {
        let schema = self.schema(&name.context, version.id).await?;
        schema.ok_or_else(|| Refusal::version_not_found(version.version))
    }

    /// The subject that a name means: another one if it has an alias.
    async fn meant(&self, name: SubjectName) -> Answer<SubjectName> {
        let config = self.own_config(&Scope::Subject(name.clone())).await?;
        let alias = config.and_then(|config| config.alias).filter(|alias| !alias.is_empty());
        Ok(alias.map_or_else(|| name.clone(), |alias| names::parse(&alias, &name.context)))
    }

    async fn own_config(&self, scope: &Scope) -> Answer<Option<Config>> {
        let body = self.store().schema_setting(scope, SettingKind::Config).await?;
        let config = body.map(|body| serde_json::from_str(&body)).transpose();
        config.map_err(|error| Error::internal(format!("a config in the store cannot be read: {error}")).into())
    }

    async fn own_mode(&self, scope: &Scope) -> Answer<Option<Mode>> {
        let body = self.store().schema_setting(scope, SettingKind::Mode).await?;
        body.map(|body| Mode::of(&body)).transpose()
    }

    /// The settings that hold for a subject: its own, then those of its context, then those of all.
    async fn config(&self, name: &SubjectName) -> Answer<Config> {
        let mut config = Config::default();
        for scope in scopes(name) {
            config = config.or(self.own_config(&scope).await?.unwrap_or_default());
        }
        Ok(config)
    }

    /// The mode that holds for a subject.
    async fn mode(&self, name: &SubjectName) -> Answer<Mode> {
        let global = self.own_mode(&Scope::Global).await?;
        if global == Some(Mode::ReadOnlyOverride) {
            return Ok(Mode::ReadOnlyOverride);
        }
        for scope in scopes(name) {
            if let Some(mode) = self.own_mode(&scope).await? {
                return Ok(mode);
            }
        }
        Ok(Mode::default())
    }

    async fn refuse_read_only(&self, name: &SubjectName) -> Answer<()> {
        match self.mode(name).await?.is_read_only() {
            true if name.subject.is_empty() => {
                Err(Refusal::not_permitted(format!("Context {} is in read-only mode", name.context)))
            }
            true => Err(Refusal::not_permitted(format!("Subject {} is in read-only mode", names::render(name)))),
            false => Ok(()),
        }
    }
}

/// From the nearest to the farthest.
fn scopes(name: &SubjectName) -> Vec<Scope> {
    let mut scopes = vec![Scope::Subject(name.clone())];
    if name.subject.is_empty() {
        scopes.clear();
    }
    if name.context != DEFAULT_CONTEXT {
        scopes.push(Scope::Context(name.context.clone()));
    }
    scopes.push(Scope::Global);
    scopes
}

/// A schema as a response has it, with its text in place of its own if one is given.
fn body(schema: &Schema, text: Option<String>) -> SchemaBody {
    let content = &schema.content;
    let references = content.references.iter().map(|reference| ReferenceBody {
        name: reference.name.clone(),
        subject: reference.subject_text.clone(),
        version: reference.version,
    });
    let json = |text: &Option<String>| text.as_ref().and_then(|text| serde_json::from_str(text).ok());
    SchemaBody {
        guid: Some(content.guid.clone()),
        schema_type: (content.kind != "AVRO").then(|| content.kind.clone()),
        references: references.collect(),
        metadata: json(&content.metadata),
        rule_set: json(&content.rule_set),
        schema: text.unwrap_or_else(|| content.text.clone()),
        ..SchemaBody::default()
    }
}

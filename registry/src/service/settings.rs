//! Levels, modes and contexts.

use tereza_catalog::store::schemas::{
    DEFAULT_CONTEXT, Deleted, Deletion, Page, Scope, SettingKind, SubjectFilter, SubjectName,
};
use tereza_runtime::Error;

use super::{LIST_MAX, Service};
use crate::json::Json;
use crate::model::{Config, DEFAULT_LEVEL, Mode};
use crate::names;
use crate::refusal::{Answer, Refusal};

/// Subjects that are changed in one go where many are.
const CHANGES: Page = Page { offset: 0, limit: 500 };

/// Of a subject, or of a context if its name is empty, or of everything if there is none.
fn scope(name: Option<&SubjectName>) -> Scope {
    match name {
        None => Scope::Global,
        Some(name) if name.subject.is_empty() && name.context == DEFAULT_CONTEXT => Scope::Global,
        Some(name) if name.subject.is_empty() => Scope::Context(name.context.clone()),
        Some(name) => Scope::Subject(name.clone()),
    }
}

fn shown(name: Option<&SubjectName>) -> String {
    name.map(names::render).unwrap_or_default()
}

fn check(name: Option<&SubjectName>) -> Answer<()> {
    match name {
        Some(name) if !name.subject.is_empty() && !names::is_valid(name) => {
            Err(Refusal::invalid_subject(&names::render(name)))
        }
        _ => Ok(()),
    }
}

fn all() -> SubjectName {
    SubjectName { context: DEFAULT_CONTEXT.to_owned(), subject: String::new() }
}

impl Service {
    /// The settings of a subject, a context or all; with `in_scope` those that hold.
    pub async fn get_config(&self, name: Option<&SubjectName>, in_scope: bool) -> Answer<Config> {
        let scope = scope(name);
        let own = self.own_config(&scope).await?;
        if scope == Scope::Global {
            return Ok(with_level(own.unwrap_or_default()));
        }
        match own {
            _ if in_scope => Ok(with_level(self.config(name.unwrap_or(&all())).await?)),
            Some(own) => Ok(own),
            None => Err(Refusal::no_config(&shown(name))),
        }
    }

    /// Changes settings, unless nothing may be changed there.
    pub async fn put_config(&self, name: Option<&SubjectName>, request: &Json) -> Answer<Config> {
        check(name)?;
        self.refuse_read_only(name.unwrap_or(&all())).await?;
        self.import_config(name, request).await
    }

    /// Changes settings whatever the mode is.
    pub(crate) async fn import_config(&self, name: Option<&SubjectName>, request: &Json) -> Answer<Config> {
        check(name)?;
        let scope = scope(name);
        let old = self.own_config(&scope).await?.unwrap_or_default();
        let new = old.update(request)?;
        let body = serde_json::to_string(&new).map_err(|error| Error::internal(error.to_string()))?;
        self.store().set_schema_setting(&scope, SettingKind::Config, Some(&body)).await?;
        Ok(new)
    }

    /// Forgets settings, unless nothing may be changed there, and returns what they were.
    pub async fn delete_config(&self, name: Option<&SubjectName>) -> Answer<Config> {
        let scope = scope(name);
        self.refuse_read_only(name.unwrap_or(&all())).await?;
        let old = match (self.own_config(&scope).await?, &scope) {
            (Some(old), _) => old,
            (None, Scope::Global) => with_level(Config::default()),
            (None, _) => return Err(Refusal::subject_not_found(&shown(name))),
        };
        self.store().set_schema_setting(&scope, SettingKind::Config, None).await?;
        Ok(old)
    }

    /// The mode of a subject, a context or all; with `in_scope` the one that holds.
    pub async fn get_mode(&self, name: Option<&SubjectName>, in_scope: bool) -> Answer<Mode> {
        let scope = scope(name);
        match self.own_mode(&scope).await? {
            _ if in_scope => self.mode(name.unwrap_or(&all())).await,
            Some(mode) => Ok(mode),
            None if scope == Scope::Global => Ok(Mode::default()),
            None => Err(Refusal::no_mode(&shown(name))),
        }
    }

    /// Sets a mode. Schemas are not imported over others, unless that is forced.
    pub async fn put_mode(&self, name: Option<&SubjectName>, mode: &str, force: bool) -> Answer<Mode> {
        let mode = Mode::of(mode)?;
        check(name)?;
        let scope = scope(name);
        let current = self.mode(name.unwrap_or(&all())).await?;
        if mode == Mode::Import && current != Mode::Import && !force {
            self.clear_for_import(&scope).await?;
        }
        self.store().set_schema_setting(&scope, SettingKind::Mode, Some(mode.name())).await?;
        Ok(mode)
    }

    /// Makes sure that nothing is there, and removes for good what is deleted softly.
    async fn clear_for_import(&self, scope: &Scope) -> Answer<()> {
        let exist = || Refusal::not_permitted("Cannot import since found existing subjects");
        if let Scope::Subject(name) = scope {
            let versions = self.store().subject(name).await?.versions;
            if versions.iter().any(|version| !version.deleted) {
                return Err(exist());
            }
            return self.remove(name).await;
        }
        let filter = |deleted: Deleted| SubjectFilter {
            context: match scope {
                Scope::Context(context) => Some(context.clone()),
                _ => None,
            },
            deleted,
            ..SubjectFilter::default()
        };
        let one = Page { offset: 0, limit: 1 };
        if !self.store().subjects(&filter(Deleted::Hide), one).await?.is_empty() {
            return Err(exist());
        }
        loop {
            let names = self.store().subjects(&filter(Deleted::Only), CHANGES).await?;
            if names.is_empty() {
                return Ok(());
            }
            for name in &names {
                self.remove(name).await?;
            }
        }
    }

    async fn remove(&self, name: &SubjectName) -> Answer<()> {
        match self.store().delete_subject(name, true).await? {
            Deletion::Referenced(version) => Err(Refusal::reference_exists(&names::render(name), version)),
            Deletion::NotDeleted(_) => Err(Refusal::not_permitted("Cannot import since found existing subjects")),
            Deletion::Done(_) | Deletion::NotFound | Deletion::AlreadyDeleted => {
                self.0.cache.clear();
                Ok(())
            }
        }
    }

    /// Forgets a mode, with `recursive` also those of all subjects in it, and returns what it was.
    pub async fn delete_mode(&self, name: Option<&SubjectName>, recursive: bool) -> Answer<Mode> {
        let scope = scope(name);
        let old = match (self.own_mode(&scope).await?, &scope) {
            (Some(old), _) => old,
            (None, Scope::Global) => Mode::default(),
            (None, _) => return Err(Refusal::subject_not_found(&shown(name))),
        };
        if recursive && !matches!(scope, Scope::Subject(_)) {
            let context = match &scope {
                Scope::Context(context) => Some(context.clone()),
                _ => None,
            };
            let filter = SubjectFilter { context, ..SubjectFilter::default() };
            loop {
                let settings = self.store().schema_settings(SettingKind::Mode, &filter, CHANGES).await?;
                if settings.is_empty() {
                    break;
                }
                for (name, _) in settings {
                    self.store().set_schema_setting(&Scope::Subject(name), SettingKind::Mode, None).await?;
                }
            }
        }
        self.store().set_schema_setting(&scope, SettingKind::Mode, None).await?;
        Ok(old)
    }

    /// Contexts, the default one first.
    pub async fn contexts(&self, prefix: &str, offset: u32, limit: Option<u32>) -> Answer<Vec<String>> {
        let mut contexts = self.store().schema_contexts(Page { offset: 0, limit: LIST_MAX }).await?;
        if !contexts.iter().any(|context| context == DEFAULT_CONTEXT) {
            contexts.insert(0, DEFAULT_CONTEXT.to_owned());
        }
        let limit = limit.filter(|limit| *limit > 0).unwrap_or(LIST_MAX);
        let shown = contexts.into_iter().filter(|context| context.starts_with(prefix));
        Ok(shown.skip(offset as usize).take(limit as usize).collect())
    }

    /// Forgets a context without subjects.
    pub async fn delete_context(&self, context: &str) -> Answer<()> {
        match self.store().drop_schema_context(context).await? {
            true => {
                self.0.contexts.forget();
                Ok(())
            }
            false => Err(Refusal::context_not_empty(context)),
        }
    }
}

fn with_level(config: Config) -> Config {
    let level = config.compatibility_level.or_else(|| Some(DEFAULT_LEVEL.to_owned()));
    Config { compatibility_level: level, ..config }
}

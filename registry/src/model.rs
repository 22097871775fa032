//! Requests and responses, as JSON has them.

use serde::{Deserialize, Serialize};

use crate::formats::Policy;
use crate::json::{Json, Object};
use crate::refusal::{Answer, Refusal};

/// A reference to a version of another subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReferenceBody {
    /// The name that the schema uses.
    pub name: String,
    /// The subject, perhaps with a context.
    pub subject: String,
    /// Its version; -1 is the latest.
    pub version: i32,
}

/// A schema in a request.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SchemaRequest {
    /// The text; none means that of the latest version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// The format, if it is not Avro.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema_type: Option<String>,
    /// What it refers to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub references: Option<Vec<ReferenceBody>>,
    /// Metadata.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Json>,
    /// Rules.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule_set: Option<Json>,
    /// The id that it must get; negative is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<i32>,
    /// The version that it must get; 0 is none, -1 the next one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<i32>,
}

/// A schema in a response.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SchemaBody {
    /// The subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The version in the subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<i32>,
    /// The id in the context.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<i32>,
    /// The UUID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guid: Option<String>,
    /// The format, if it is not Avro.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema_type: Option<String>,
    /// What it refers to, if anything.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<ReferenceBody>,
    /// Metadata.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Json>,
    /// Rules.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule_set: Option<Json>,
    /// The text.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub schema: String,
    /// Whether the version is deleted softly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deleted: Option<bool>,
    /// The greatest id of the context.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_id: Option<i32>,
}

/// A subject with a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubjectVersion {
    /// The subject.
    pub subject: String,
    /// The version.
    pub version: i32,
}

/// A context with an id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContextId {
    /// The context.
    pub context: String,
    /// The id.
    pub id: i32,
}

/// What may be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "UPPERCASE")]
pub enum Mode {
    /// Everything but giving ids.
    #[default]
    ReadWrite,
    /// Nothing may change.
    ReadOnly,
    /// Nothing may change, whatever is said below.
    #[serde(rename = "READONLY_OVERRIDE")]
    ReadOnlyOverride,
    /// Schemas come with their ids, and are not checked.
    Import,
    /// As `Import`, for what another registry forwards.
    Forward,
}

impl Mode {
    /// The mode of that name.
    pub(crate) fn of(name: &str) -> Answer<Self> {
        match name.to_ascii_uppercase().as_str() {
            "READWRITE" => Ok(Self::ReadWrite),
            "READONLY" => Ok(Self::ReadOnly),
            "READONLY_OVERRIDE" => Ok(Self::ReadOnlyOverride),
            "IMPORT" => Ok(Self::Import),
            "FORWARD" => Ok(Self::Forward),
            _ => Err(Refusal::invalid_mode()),
        }
    }

    /// The name in the protocol.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::ReadWrite => "READWRITE",
            Self::ReadOnly => "READONLY",
            Self::ReadOnlyOverride => "READONLY_OVERRIDE",
            Self::Import => "IMPORT",
            Self::Forward => "FORWARD",
        }
    }

    pub(crate) const fn is_read_only(self) -> bool {
        matches!(self, Self::ReadOnly | Self::ReadOnlyOverride)
    }

    pub(crate) const fn is_import(self) -> bool {
        matches!(self, Self::Import | Self::Forward)
    }
}

/// Which versions a new schema has to be compatible with, and which of the two reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Level {
    /// The new one reads data of the old ones.
    pub(crate) backward: bool,
    /// The old ones read data of the new one.
    pub(crate) forward: bool,
    /// All of them, not only the latest.
    pub(crate) transitive: bool,
}

impl Level {
    /// The level of that name, in any case.
    pub(crate) fn of(name: &str) -> Answer<Self> {
        let name = name.to_ascii_uppercase();
        let (base, transitive) = match name.strip_suffix("_TRANSITIVE") {
            Some("NONE") => return Err(Refusal::invalid_level()),
            Some(base) => (base, true),
            None => (name.as_str(), false),
        };
        let (backward, forward) = match base {
            "NONE" => (false, false),
            "BACKWARD" => (true, false),
            "FORWARD" => (false, true),
            "FULL" => (true, true),
            _ => return Err(Refusal::invalid_level()),
        };
        Ok(Self { backward, forward, transitive })
    }
}

/// The level of registries that say nothing.
pub(crate) const DEFAULT_LEVEL: &str = "BACKWARD";

/// Settings about registering, of everything, a context or a subject.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Config {
    /// Another subject that is meant by this one's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// Whether schemas are normalized.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub normalize: Option<bool>,
    /// Whether reserved fields are looked after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validate_fields: Option<bool>,
    /// Whether rules are looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validate_rules: Option<bool>,
    /// How compatibility is checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compatibility_level: Option<String>,
    /// How strictly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compatibility_policy: Option<String>,
    /// The property of the metadata that tells which versions are checked against one another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compatibility_group: Option<String>,
    /// Metadata that schemas get if they have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_metadata: Option<Json>,
    /// Metadata that all schemas get.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub override_metadata: Option<Json>,
    /// Rules that schemas get if they have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_rule_set: Option<Json>,
    /// Rules that all schemas get.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub override_rule_set: Option<Json>,
}

impl Config {
    /// Takes what is not set from the settings above.
    #[must_use]
    pub(crate) fn or(self, above: Self) -> Self {
        Self {
            // An alias is of one subject only.
            alias: self.alias,
            normalize: self.normalize.or(above.normalize),
            validate_fields: self.validate_fields.or(above.validate_fields),
            validate_rules: self.validate_rules.or(above.validate_rules),
            compatibility_level: self.compatibility_level.or(above.compatibility_level),
            compatibility_policy: self.compatibility_policy.or(above.compatibility_policy),
            compatibility_group: self.compatibility_group.or(above.compatibility_group),
            default_metadata: self.default_metadata.or(above.default_metadata),
            override_metadata: self.override_metadata.or(above.override_metadata),
            default_rule_set: self.default_rule_set.or(above.default_rule_set),
            override_rule_set: self.override_rule_set.or(above.override_rule_set),
        }
    }

    /// Sets what a request sets: members that are null are unset, those that are not there stay.
    pub(crate) fn update(self, request: &Json) -> Answer<Self> {
        let wrong = |error: serde_json::Error| Refusal::http(422, format!("invalid config: {error}"));
        let given = request.as_object().ok_or_else(|| Refusal::http(422, "a config is an object"))?;
        let own: Json = serde_json::to_value(self).and_then(serde_json::from_value).map_err(wrong)?;
        let mut members = own.as_object().cloned().unwrap_or_default();
        for (name, value) in given {
            let name = if name == "compatibility" { "compatibilityLevel" } else { name };
            match value {
                Json::Null => _ = members.shift_remove(name),
                value => _ = members.insert(name.to_owned(), value.clone()),
            }
        }
        let members = serde_json::to_value(Json::Object(members));
        let updated: Self = members.and_then(serde_json::from_value).map_err(wrong)?;
        let level = updated.compatibility_level.as_deref().map(|level| Level::of(level).map(|_| level.to_uppercase()));
        let updated = Self { compatibility_level: level.transpose()?, ..updated };
        updated.policy()?;
        Ok(updated)
    }

    /// Whether schemas get metadata or rules that they do not bring.
    pub(crate) const fn adds_to_schemas(&self) -> bool {
        self.default_metadata.is_some()
            || self.override_metadata.is_some()
            || self.default_rule_set.is_some()
            || self.override_rule_set.is_some()
    }

    pub(crate) fn level(&self) -> Answer<Level> {
        Level::of(self.level_name())
    }

    pub(crate) fn level_name(&self) -> &str {
        self.compatibility_level.as_deref().unwrap_or(DEFAULT_LEVEL)
    }

    pub(crate) fn policy(&self) -> Answer<Policy> {
        match self.compatibility_policy.as_deref().map(str::to_ascii_uppercase).as_deref() {
            None | Some("STRICT") => Ok(Policy::Strict),
            Some("LENIENT") => Ok(Policy::Lenient),
            Some(other) => {
                Err(Refusal::http(422, format!("'{other}' is no compatibility policy; there are strict and lenient")))
            }
        }
    }
}

/// Properties of a schema's metadata.
pub(crate) fn properties(metadata: Option<&Json>) -> Option<&Object> {
    metadata?.as_object()?.get("properties")?.as_object()
}

/// Metadata of both, where that of `over` wins. Lists of tags are put together.
pub(crate) fn merge_metadata(under: Option<&Json>, over: Option<&Json>) -> Option<Json> {
    let (Some(Json::Object(under)), Some(Json::Object(over))) = (under, over) else {
        return over.or(under).cloned();
    };
    let mut merged = under.clone();
    for (name, value) in over {
        let value = match (merged.get(name), value) {
            (Some(Json::Object(old)), Json::Object(new)) => {
                let mut both = old.clone();
                for (key, value) in new {
                    let value = match (both.get(key), value) {
                        (Some(Json::Array(old)), Json::Array(new)) => union(old, new),
                        _ => value.clone(),
                    };
                    both.insert(key.clone(), value);
                }
                Json::Object(both)
            }
            (Some(Json::Array(old)), Json::Array(new)) => union(old, new),
            _ => value.clone(),
        };
        merged.insert(name.clone(), value);
    }
    Some(Json::Object(merged))
}

fn union(old: &[Json], new: &[Json]) -> Json {
    let added = new.iter().filter(|value| !old.contains(value));
    Json::Array(old.iter().chain(added).cloned().collect())
}

/// Rules of both; those of `over` take the places of those with their names.
pub(crate) fn merge_rules(under: Option<&Json>, over: Option<&Json>) -> Option<Json> {
    let (Some(Json::Object(under)), Some(Json::Object(over))) = (under, over) else {
        return over.or(under).cloned();
    };
    let mut merged = under.clone();
    for (kind, rules) in over {
        let both = match (merged.get(kind), rules) {
            (Some(Json::Array(old)), Json::Array(new)) => {
                let name = |rule: &Json| rule.as_object().and_then(|rule| rule.get("name")).cloned();
                let kept = old.iter().filter(|old| !new.iter().any(|new| name(new) == name(old)));
                Json::Array(kept.chain(new).cloned().collect())
            }
            _ => rules.clone(),
        };
        merged.insert(kind.clone(), both);
    }
    Some(Json::Object(merged))
}

/// Checks that rules have names of their own, and kinds and modes that there are.
pub(crate) fn check_rules(rules: Option<&Json>) -> Answer<()> {
    let lists = [
        ("migrationRules", &["UPGRADE", "DOWNGRADE", "UPDOWN"][..]),
        ("domainRules", &["READ", "WRITE", "WRITEREAD"][..]),
        ("encodingRules", &["READ", "WRITE", "WRITEREAD"][..]),
    ];
    let Some(rules) = rules else { return Ok(()) };
    let rules = rules.as_object().ok_or_else(|| Refusal::invalid_rules("A rule set is an object"))?;
    let mut names = std::collections::HashSet::new();
    for (list, modes) in lists {
        let rules = match rules.get(list) {
            None | Some(Json::Null) => continue,
            Some(Json::Array(rules)) => rules,
            Some(_) => return Err(Refusal::invalid_rules(format!("{list} is a list"))),
        };
        for rule in rules {
            let rule = rule.as_object().ok_or_else(|| Refusal::invalid_rules("A rule is an object"))?;
            let text = |name: &str| rule.get(name).and_then(Json::as_str);
            let name = text("name").filter(|name| !name.trim().is_empty());
            let name = name.ok_or_else(|| Refusal::invalid_rules("A rule needs a name"))?;
            if !names.insert(name) {
                return Err(Refusal::invalid_rules(format!("Two rules are named '{name}'")));
            }
            if text("type").is_none_or(str::is_empty) {
                return Err(Refusal::invalid_rules(format!("Rule '{name}' has no type")));
            }
            if text("kind").is_some_and(|kind| kind != "TRANSFORM" && kind != "CONDITION") {
                return Err(Refusal::invalid_rules(format!("Rule '{name}' is of an unknown kind")));
            }
            if text("mode").is_some_and(|mode| !modes.contains(&mode)) {
                let mode = text("mode").unwrap_or_default();
                return Err(Refusal::invalid_rules(format!(
                    "Rule '{name}' has the mode {mode}, which {list} do not have"
                )));
            }
        }
    }
    Ok(())
}

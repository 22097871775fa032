//! Options of a format: `json.ignore-parse-errors` and its like, without their prefix.

use std::collections::BTreeMap;
use std::fmt;

use tereza_runtime::{Error, Result};

/// How different a name may be for it to be what was meant.
const NEAR: f64 = 0.6;

/// A format by its name, with its options.
#[derive(Clone, PartialEq, Eq)]
pub struct FormatOptions {
    /// The name: `json`, `csv`, `raw`, `avro`, `avro-confluent`, `protobuf`, `protobuf-confluent`,
    /// `debezium-json`.
    pub format: String,
    /// Options by their names without the format's.
    pub options: BTreeMap<String, String>,
}

/// Options may hold passwords: only their names are shown.
impl fmt::Debug for FormatOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FormatOptions")
            .field("format", &self.format)
            .field("options", &self.options.keys().collect::<Vec<_>>())
            .finish()
    }
}

impl FormatOptions {
    /// A format without options.
    pub fn new(format: impl Into<String>) -> Self {
        Self { format: format.into(), options: BTreeMap::new() }
    }

    /// Adds an option.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.insert(name.into(), value.into());
        self
    }

    /// Refuses options that the format does not have. A name that ends with `.` stands for all that begin with it.
    pub(super) fn check(&self, known: &[&str]) -> Result<()> {
        let is_known =
            |name: &str| known.iter().any(|known| *known == name || (known.ends_with('.') && name.starts_with(known)));
        match self.options.keys().find(|name| !is_known(name)) {
            None => Ok(()),
            Some(name) => {
                Err(Error::invalid_input(format!("format `{}` has no option `{}.{name}`", self.format, self.format))
                    .with_hint(match nearest(name, known) {
                        Some(near) => format!("did you mean `{}.{near}`?", self.format),
                        None => format!("its options are {}", list(known)),
                    }))
            }
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(String::as_str)
    }

    pub(super) fn needed(&self, name: &str) -> Result<&str> {
        self.get(name).ok_or_else(|| {
            Error::invalid_input(format!("format `{}` needs the option `{}.{name}`", self.format, self.format))
        })
    }

    /// Whether an option is `true`; `default` without it.
    pub(super) fn is(&self, name: &str, default: bool) -> Result<bool> {
        match self.get(name).map(|value| value.trim().to_ascii_lowercase()).as_deref() {
            None => Ok(default),
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            Some(_) => Err(self.bad(name, "true or false")),
        }
    }

    /// One of some values, whatever the case of its letters if `folds`.
    pub(super) fn choice<T: Copy>(&self, name: &str, choices: &[(&str, T)], default: T, folds: bool) -> Result<T> {
        let Some(value) = self.get(name) else { return Ok(default) };
        let is_it = |known: &str| if folds { known.eq_ignore_ascii_case(value) } else { known == value };
        match choices.iter().find(|(known, _)| is_it(known)) {
            Some((_, choice)) => Ok(*choice),
            None => {
                let known: Vec<&str> = choices.iter().map(|(known, _)| *known).collect();
                Err(self.bad(name, &list(&known)))
            }
        }
    }

    /// A single character.
    pub(super) fn character(&self, name: &str) -> Result<Option<char>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let mut characters = value.chars();
        match (characters.next(), characters.next()) {
            (Some(character), None) => Ok(Some(character)),
            _ => Err(self.bad(name, "a single character")),
        }
    }

    pub(super) fn bad(&self, name: &str, expected: &str) -> Error {
        let value = self.get(name).unwrap_or_default();
        Error::invalid_input(format!("option `{}.{name}` is `{value}`, not {expected}", self.format))
    }
}

/// The name that is most like another.
pub(crate) fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let likeness = |known: &str| strsim::normalized_damerau_levenshtein(name, known);
    let nearest = known.iter().copied().max_by(|one, other| likeness(one).total_cmp(&likeness(other)));
    nearest.filter(|known| likeness(known) >= NEAR)
}

pub(super) fn list(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;

//! Options of a connector as they were given.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use tereza_runtime::{Error, Result};

use crate::format::nearest;
use crate::kafka::duration;

/// The options of a table after WITH, with errors that name them.
#[derive(Clone, Copy)]
pub(super) struct Given<'a> {
    /// The connector, for errors.
    pub(super) connector: &'a str,
    pub(super) options: &'a BTreeMap<String, String>,
}

impl<'a> Given<'a> {
    /// The names of all options but `connector`.
    pub(super) fn names(self) -> impl Iterator<Item = &'a str> {
        self.options.keys().map(String::as_str).filter(|name| *name != "connector")
    }

    /// The error of an option that there is not.
    pub(super) fn unknown(self, name: &str, known: &[&str]) -> Error {
        let error = Error::invalid_input(format!("connector '{}' has no option '{name}'", self.connector));
        match nearest(name, known) {
            Some(near) => error.with_hint(format!("did you mean '{near}'?")),
            None => error,
        }
    }

    pub(super) fn text(self, name: &str) -> Option<&'a str> {
        self.options.get(name).map(|value| value.trim())
    }

    /// The error of a value that is not what is expected.
    pub(super) fn bad(self, name: &str, expected: impl Display) -> Error {
        let (connector, value) = (self.connector, self.text(name).unwrap_or_default());
        Error::invalid_input(format!("option '{name}' of connector '{connector}' is '{value}', not {expected}"))
    }

    /// A number within bounds.
    pub(super) fn number<T: FromStr + PartialOrd + Display>(
        self,
        name: &str,
        bounds: &RangeInclusive<T>,
    ) -> Result<Option<T>> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let number = text.parse().ok().filter(|number| bounds.contains(number));
        let number = number
            .ok_or_else(|| self.bad(name, format_args!("a number from {} to {}", bounds.start(), bounds.end())))?;
        Ok(Some(number))
    }

    pub(super) fn flag(self, name: &str) -> Result<bool> {
        match self.text(name) {
            None => Ok(false),
            Some(text) if text.eq_ignore_ascii_case("true") => Ok(true),
            Some(text) if text.eq_ignore_ascii_case("false") => Ok(false),
            Some(_) => Err(self.bad(name, "true or false")),
        }
    }

    /// A duration as Flink writes it.
    pub(super) fn duration(self, name: &str) -> Result<Option<Duration>> {
        let Some(text) = self.text(name) else { return Ok(None) };
        Ok(Some(duration(text).ok_or_else(|| self.bad(name, "a duration such as '30 s'"))?))
    }
}

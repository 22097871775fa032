//! The settings of a session that are Tereza's own.

use std::any::Any;
use std::str::FromStr;

use datafusion::common::{Result as DataFusionResult, config_err};
use datafusion::config::{ConfigEntry, ConfigExtension, ConfigOptions, ExtensionOptions};
use tereza_runtime::{Error, Result};

use crate::error::to_datafusion;

/// The setting that forces a lane.
pub(crate) const MODE: &str = "tereza.mode";

/// What the memory limit of a session is in bytes: with the other settings it comes to executors.
pub(crate) const MEMORY_LIMIT_BYTES: &str = "tereza.memory_limit_bytes";

/// Which lane a session's statements take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// The router decides.
    #[default]
    Auto,
    /// This process.
    Local,
    /// Executors, for every statement that can leave this process.
    Cluster,
}

impl Mode {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Local => "local",
            Self::Cluster => "cluster",
        }
    }
}

impl FromStr for Mode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.to_ascii_lowercase().as_str() {
            "auto" => Ok(Self::Auto),
            "local" => Ok(Self::Local),
            "cluster" => Ok(Self::Cluster),
            _ => Err(Error::invalid_input(format!("there is no mode '{text}'")).with_hint("auto, local or cluster")),
        }
    }
}

/// Settings below `tereza.`.
#[derive(Debug, Clone, Default)]
pub(crate) struct TerezaOptions {
    mode: Mode,
    /// Where the session has lowered it.
    pub(crate) memory_limit_bytes: Option<usize>,
}

impl ConfigExtension for TerezaOptions {
    const PREFIX: &'static str = "tereza";
}

impl ExtensionOptions for TerezaOptions {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }

    fn set(&mut self, key: &str, value: &str) -> DataFusionResult<()> {
        match key {
            "mode" => self.mode = value.parse().map_err(to_datafusion)?,
            "memory_limit_bytes" => match value.parse() {
                Ok(bytes) => self.memory_limit_bytes = Some(bytes),
                Err(error) => return config_err!("{MEMORY_LIMIT_BYTES}: '{value}': {error}"),
            },
            _ => return config_err!("there is no setting 'tereza.{key}'"),
        }
        Ok(())
    }

    /// With their whole names, by which they are shown and come to executors.
    fn entries(&self) -> Vec<ConfigEntry> {
        let entry = |key: &str, value, description| ConfigEntry { key: key.into(), value, description };
        let limit = self.memory_limit_bytes.map(|bytes| bytes.to_string());
        vec![
            entry(
                MODE,
                Some(self.mode.as_str().into()),
                "Where statements run: auto (the router decides), local or cluster (executors)",
            ),
            entry(
                MEMORY_LIMIT_BYTES,
                limit,
                "Bytes that the operators of a statement may hold in each process that runs it; datafusion.runtime.memory_limit sets it",
            ),
        ]
    }
}

impl TerezaOptions {
    /// The mode that a session asks for.
    pub(crate) fn mode(options: &ConfigOptions) -> Mode {
        options.extensions.get::<Self>().map(|own| own.mode).unwrap_or_default()
    }

    /// Bytes that the operators of a statement may hold in each process, if the session has a limit.
    pub(crate) fn memory_limit_bytes(options: &ConfigOptions) -> Option<usize> {
        options.extensions.get::<Self>().and_then(|own| own.memory_limit_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_come_to_executors_by_their_whole_names() {
        let (mut here, mut there) = (ConfigOptions::new(), ConfigOptions::new());
        for options in [&mut here, &mut there] {
            options.extensions.insert(TerezaOptions::default());
        }
        here.set(MODE, "cluster").unwrap();
        here.set(MEMORY_LIMIT_BYTES, "0").unwrap();
        for ConfigEntry { key, value, .. } in here.entries() {
            if let Some(value) = value.filter(|_| key.starts_with(TerezaOptions::PREFIX)) {
                there.set(&key, &value).unwrap();
            }
        }
        assert_eq!(TerezaOptions::mode(&there), Mode::Cluster);
        assert_eq!(TerezaOptions::memory_limit_bytes(&there), Some(0));
        assert!(here.set("tereza.mood", "a").is_err() && here.set(MEMORY_LIMIT_BYTES, "-1").is_err());
    }
}

//! The settings of a session that are Tereza's own.

use std::str::FromStr;

use datafusion::common::extensions_options;
use datafusion::config::{ConfigExtension, ConfigOptions};
use tereza_runtime::{Error, Result};

/// The setting that forces a lane.
pub(crate) const MODE: &str = "tereza.mode";

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

extensions_options! {
    /// Settings below `tereza.`.
    pub(crate) struct TerezaOptions {
        /// Where statements run: auto (the router decides), local or cluster.
        pub mode: String, default = "auto".to_string()
    }
}

impl ConfigExtension for TerezaOptions {
    const PREFIX: &'static str = "tereza";
}

impl TerezaOptions {
    /// The mode that a session asks for; what is not a mode was refused when it was set.
    pub(crate) fn mode(options: &ConfigOptions) -> Mode {
        options.extensions.get::<Self>().and_then(|own| own.mode.parse().ok()).unwrap_or_default()
    }
}

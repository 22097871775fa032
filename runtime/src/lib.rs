//! What every process of Tereza needs, whatever its role: settings, errors with a kind, logs and metrics,
//! health, an orderly shutdown, one clock and one source of ids, and the memory budget of the process.
//!
//! It knows nothing of SQL, of protocols or of storage, so that it compiles and is tested in seconds.
//! Files in reading order: [`error`], [`settings`], [`clock`], [`ids`], [`memory`], [`folder`], [`endpoints`],
//! [`telemetry`], [`health`], [`shutdown`].

pub mod clock;
pub mod error;
pub mod ids;
pub mod settings;
mod telemetry;

pub use error::{Error, ErrorKind, Location, Result};
pub use settings::{Secret, Settings};

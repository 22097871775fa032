//! What every process of Tereza needs, whatever its role: settings, errors with a kind, logs and metrics,
//! health, an orderly shutdown, one clock and one source of ids, and the bounds of the process: memory, open files.
//!
//! It knows nothing of SQL, of protocols or of storage, so that it compiles and is tested in seconds.
//! Files in reading order: [`error`], [`settings`], [`clock`], [`ids`], [`memory`], [`open_files`], [`folder`],
//! [`endpoints`], [`telemetry`], [`connections`], [`health`], [`shutdown`].

pub mod clock;
pub mod connections;
pub mod endpoints;
pub mod error;
pub mod folder;
pub mod health;
pub mod ids;
pub mod memory;
pub mod open_files;
pub mod settings;
pub mod shutdown;
pub mod telemetry;

pub use endpoints::Endpoints;
pub use error::{Error, ErrorKind, Location, Result};
pub use folder::DataFolder;
pub use health::Health;
pub use settings::{Secret, Settings};
pub use shutdown::Shutdown;

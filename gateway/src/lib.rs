//! The wire protocols of Tereza: each turns bytes into a [`tereza_engine::query::Statement`] and the stream of a
//! [`tereza_engine::query::Query`] into bytes, over any [`tereza_engine::query::QueryService`].
//!
//! What it refuses to be: it knows no SQL, plans nothing and holds no data beyond the bounds in [`Settings`]. Who may
//! enter and how connections are protected is decided here; what a user may see is decided in the engine.
//!
//! Files in reading order: [`settings`](Settings), `status` (the one place that makes a gRPC status), [`flight`]
//! (Arrow Flight SQL).

pub mod flight;
mod settings;
mod status;

pub use settings::{Settings, Tls};

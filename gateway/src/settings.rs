//! What can be set about the front doors, with the bounds that keep one client from costing the others anything.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// The settings of a gateway.
#[derive(Clone)]
pub struct Settings {
    /// Open connections; one more is accepted and closed at once, which clients report as unavailable.
    pub connections_max: usize,
    /// Requests that one connection may have open at once; a client waits with the next.
    pub requests_per_connection_max: u32,
    /// A connection that has not made its first request (TLS handshake included) after this is closed.
    pub connection_setup_ms: u64,
    /// Results are cut into messages of about this size; a single row that is larger is one message. Many clients
    /// refuse messages over 4 MiB unless told otherwise.
    pub message_limit_bytes: usize,
    /// The largest message taken from a client; also bounds the rows that a message may declare and what a compressed
    /// one may unpack to.
    pub request_limit_bytes: usize,
    /// A stream whose client neither reads nor writes for so long is ended and its statement cancelled.
    pub stream_idle_timeout_ms: u64,
    /// A planned statement whose result is not fetched after this is cancelled.
    pub ticket_ttl_ms: u64,
    /// Statements that are planned and not yet fetched to the end, over all sessions.
    pub tickets_max: usize,
    /// Batches kept for a statement started with `PollFlightInfo` until the client fetches them.
    pub poll_buffer_batches: usize,
    /// Prepared statements of one session.
    pub prepared_max: usize,
    /// Rows of parameters that may be bound to a prepared statement; each is one run of the statement.
    pub parameter_rows_max: usize,
    /// Memory for the parameters bound to one prepared statement.
    pub parameters_limit_bytes: usize,
    /// Names and passwords of who may enter; empty means that anyone may.
    pub users: BTreeMap<String, String>,
    /// Certificate and key; `None` means plain text.
    pub tls: Option<Tls>,
    /// A token, or a session without one, that is not used for so long ends.
    pub token_ttl_ms: u64,
    /// How long running statements may go on after the shutdown has begun.
    pub drain_ms: u64,
    /// Whether results keep the types Utf8View and BinaryView; otherwise they are sent as Utf8 and Binary, which every
    /// client reads.
    pub views: bool,
}

/// Where the server's certificate and key are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// Certificate chain in PEM.
    pub certificate: PathBuf,
    /// Private key in PEM.
    pub key: PathBuf,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connections_max: 1000,
            requests_per_connection_max: 256,
            connection_setup_ms: 30_000,
            message_limit_bytes: 2 << 20,
            request_limit_bytes: 64 << 20,
            stream_idle_timeout_ms: 300_000,
            ticket_ttl_ms: 300_000,
            tickets_max: 1000,
            poll_buffer_batches: 16,
            prepared_max: 1000,
            parameter_rows_max: 100_000,
            parameters_limit_bytes: 64 << 20,
            users: BTreeMap::new(),
            tls: None,
            token_ttl_ms: 3_600_000,
            drain_ms: 30_000,
            views: false,
        }
    }
}

/// Passwords are left out.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("connections_max", &self.connections_max)
            .field("message_limit_bytes", &self.message_limit_bytes)
            .field("request_limit_bytes", &self.request_limit_bytes)
            .field("tickets_max", &self.tickets_max)
            .field("users", &self.users.keys())
            .field("tls", &self.tls)
            .field("views", &self.views)
            .finish_non_exhaustive()
    }
}

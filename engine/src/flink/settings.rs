//! Settings of Flink's that a session keeps for its stream jobs.

/// The most of them in one session.
pub(crate) const SETTINGS_MAX: usize = 1_000;

/// What their keys begin with.
const PREFIXES: [&str; 7] =
    ["execution.", "parallelism.", "pipeline.", "restart-strategy.", "sql-client.", "state.", "table."];

/// Whether a key is one of Flink's settings.
pub(crate) fn is_setting(key: &str) -> bool {
    PREFIXES.iter().any(|prefix| key.len() > prefix.len() && key.starts_with(prefix))
}

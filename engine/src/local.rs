//! The query service of this process.

/// Runs statements in this process.
#[derive(Debug)]
pub struct LocalQueryService {}

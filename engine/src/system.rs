//! The catalog `system`: what runs in this process now, and what ran lately.

/// The running statements and a bounded history of finished ones.
#[derive(Debug)]
pub(crate) struct QueryLog {}

//! The catalog `system`: what runs in this process now, and what ran lately.

/// The running statements and a bounded history of finished ones.
#[derive(Debug)]
pub(crate) struct QueryLog {}

impl QueryLog {
    /// Cancels a running statement of `user`; `NotFound` if that user runs none with this id.
    pub(crate) fn cancel(&self, query: &crate::query::QueryId, _user: &str) -> tereza_runtime::Result<()> {
        Err(tereza_runtime::Error::not_found(format!("query {query} is not running")))
    }
}

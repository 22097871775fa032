//! The catalog `system`: what runs in this process now, and what ran lately.
use crate::query::*;
use std::sync::Arc;
use datafusion::catalog::CatalogProvider;
#[derive(Debug)]
pub(crate) struct QueryLog {}
pub(crate) struct QueryEntry {}
impl QueryLog {
    pub(crate) fn new(_h: usize, _c: tereza_runtime::clock::Clock) -> Self { Self {} }
    pub(crate) fn start(&self, _id: &QueryId, _u: &str, _s: &SessionId, _sql: &str, _c: tokio_util::sync::CancellationToken) -> QueryEntry { QueryEntry {} }
    pub(crate) fn cancel(&self, _id: &QueryId, _u: &str) -> tereza_runtime::Result<()> { Ok(()) }
}
impl QueryEntry {
    pub(crate) fn planned(&mut self, _k: StatementKind) {}
    pub(crate) fn running(&mut self) {}
    pub(crate) fn returned(&mut self, _r: u64, _b: u64) {}
    pub(crate) fn finish(&mut self) {}
    pub(crate) fn fail(&mut self, _e: &tereza_runtime::Error) {}
}
pub(crate) fn catalog(_e: &Arc<crate::engine::Engine>) -> Arc<dyn CatalogProvider> { unimplemented!() }

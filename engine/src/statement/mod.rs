//! Text to work: parses one statement, handles what is Tereza's own (DDL, SHOW, USE, ANALYZE, …) and plans the rest with
//! DataFusion.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::logical_expr::LogicalPlan;
use futures::future::BoxFuture;
use tereza_runtime::{Error, Result};

use crate::query::StatementKind;
use crate::session::Session;

/// A statement that is ready to run.
pub(crate) struct Planned {
    pub(crate) kind: StatementKind,
    /// The columns of its result (before views of text are cast for clients).
    pub(crate) schema: SchemaRef,
    /// One field for each parameter in order; type Null where unknown.
    pub(crate) parameters: SchemaRef,
    pub(crate) work: Work,
}

/// What is left to do.
pub(crate) enum Work {
    /// Run this plan with the session's state.
    Plan(Box<LogicalPlan>),
    /// Do this; it returns the result's batches.
    Task(BoxFuture<'static, Result<Vec<RecordBatch>>>),
}

/// Parses and plans one statement without running anything. With `parameters`, placeholders are replaced.
pub(crate) async fn plan(_session: &Arc<Session>, _sql: &str, _parameters: Option<&RecordBatch>) -> Result<Planned> {
    Err(Error::unsupported("statements"))
}

/// Splits a script into statements: see [`crate::query::QueryService::split`].
pub(crate) fn split(_sql: &str) -> Result<Vec<String>> {
    Err(Error::unsupported("scripts"))
}

/// Keywords and function names: see [`crate::query::QueryService::words`].
pub(crate) fn words() -> Vec<String> {
    Vec::new()
}
pub(crate) async fn plan_view(_s: &datafusion::execution::session_state::SessionState, _t: &tereza_catalog::model::Table) -> Result<LogicalPlan> { unimplemented!() }
pub(crate) fn set_option(_s: &Session, _k: &str, _v: &str) -> Result<()> { Ok(()) }

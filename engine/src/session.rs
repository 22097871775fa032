//! One user's session: a DataFusion session with its current catalog and schema.

use std::sync::Arc;

use datafusion::prelude::SessionContext;

use crate::engine::Engine;
use crate::query::SessionId;

/// One user's session.
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) user: String,
    pub(crate) engine: Arc<Engine>,
    /// The DataFusion session: its `state()` holds the current catalog and schema in its configuration.
    pub(crate) context: SessionContext,
}

impl Session {
    /// The catalog of unqualified names.
    pub(crate) fn catalog(&self) -> String {
        unimplemented!()
    }

    /// The schema of unqualified names.
    pub(crate) fn schema(&self) -> String {
        unimplemented!()
    }

    /// Makes unqualified names mean `catalog.schema`; both must exist.
    pub(crate) async fn set_current(&self, _catalog: &str, _schema: &str) -> tereza_runtime::Result<()> {
        unimplemented!()
    }

    /// Loads the names of the user's catalog, which DataFusion's `information_schema` reads without waiting. To be called
    /// before a statement that mentions it is planned.
    pub(crate) async fn refresh_names(&self) -> tereza_runtime::Result<()> {
        unimplemented!()
    }
}

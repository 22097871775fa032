//! What a session of Flink's SQL is told and asked: SET, RESET, SHOW CURRENT.

use std::sync::Arc;

use tereza_runtime::Result;

use crate::flink::is_setting;
use crate::statement::session;
use crate::statement::{Planned, Planner, text_rows, text_schema};

/// `SET 'key' = 'value'`
pub(super) fn set(planner: &Planner<'_>, key: String, value: String) -> Planned {
    let session = Arc::clone(planner.session);
    Planned::command(async move { session::set(&session, &key, &value).await })
}

/// `RESET ['key']`: all of Flink's settings without a key.
pub(super) fn reset(planner: &Planner<'_>, key: Option<String>) -> Planned {
    let session = Arc::clone(planner.session);
    Planned::command(async move {
        match key {
            Some(key) if !is_setting(&key) => session::reset(&session, &key).await,
            key => {
                session.reset_stream_settings(key.as_deref());
                Ok(())
            }
        }
    })
}

/// `SET`: Flink's settings that have a value.
pub(super) fn show(planner: &Planner<'_>) -> Result<Planned> {
    let schema = text_schema(&["key", "value"]);
    let rows: Vec<Vec<Option<String>>> =
        planner.session.stream_settings().into_iter().map(|(key, value)| vec![Some(key), Some(value)]).collect();
    let batch = text_rows(&schema, &rows);
    Ok(Planned::rows(schema, async move { batch }))
}

/// `SHOW CURRENT CATALOG`, `SHOW CURRENT DATABASE`
pub(super) fn show_current(planner: &Planner<'_>, is_catalog: bool) -> Result<Planned> {
    let scope = &planner.text.scope;
    let (column, value) =
        if is_catalog { ("current catalog name", &scope.catalog) } else { ("current database name", &scope.schema) };
    let schema = text_schema(&[column]);
    let batch = text_rows(&schema, &[vec![Some(value.clone())]]);
    Ok(Planned::rows(schema, async move { batch }))
}

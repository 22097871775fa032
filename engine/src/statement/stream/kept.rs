//! Tables of streams as they are kept, and shown.

use std::sync::Arc;

use tereza_catalog::model::{Table, TableKind};
use tereza_runtime::{Error, Result};

use crate::flink::{ColumnKind, HIDDEN, StreamColumn, StreamTable, from_parameters, is_secret};
use crate::session::Session;
use crate::statement::parse::{Home, TableName};
use crate::statement::{Planned, Planner, errors};

/// Whether a name means a temporary table of a stream.
pub(in crate::statement) fn is_temporary(session: &Session, name: &TableName) -> bool {
    temporary(session, name).is_some()
}

fn temporary(session: &Session, name: &TableName) -> Option<StreamTable> {
    match name.home() {
        Home::Tereza => session.catalogs().temporary_streams().get(&name.schema, &name.table),
        Home::Session | Home::ReadOnly => None,
    }
}

/// The table of this name if it is a stream's; `NotFound` if there is none at all.
pub(in crate::statement) async fn find(session: &Session, name: &TableName) -> Result<Option<StreamTable>> {
    if let Some(found) = temporary(session, name) {
        return Ok(Some(found));
    }
    of_table(&errors::table(session, name).await?.table)
}

/// The table of a stream that a table of the catalog is. Flink's views have its mark too.
pub(in crate::statement) fn of_table(table: &Table) -> Result<Option<StreamTable>> {
    match table.kind {
        TableKind::Managed | TableKind::External => from_parameters(&table.parameters),
        TableKind::View | TableKind::MaterializedView => Ok(None),
    }
}

/// Forgets a temporary table of a stream; false if the name means none.
pub(in crate::statement) fn drop_temporary(session: &Session, name: &TableName) -> bool {
    name.home() == Home::Tereza && session.catalogs().temporary_streams().remove(&name.schema, &name.table)
}

/// `DROP TEMPORARY TABLE`
pub(super) fn drop(planner: &Planner<'_>, name: TableName, if_exists: bool) -> Planned {
    let session = Arc::clone(planner.session);
    Planned::command(async move {
        match drop_temporary(&session, &name) || if_exists {
            true => Ok(()),
            false => Err(Error::not_found(format!("temporary table {name} not found"))),
        }
    })
}

/// Rows of DESCRIBE and SHOW COLUMNS: types in Flink's words.
pub(in crate::statement) fn column_rows(table: &StreamTable) -> Vec<Vec<Option<String>>> {
    let row = |column: &StreamColumn| {
        let data_type = column.data_type();
        let shown = data_type.map(|of| {
            let mut of = of.clone();
            of.nullable = true;
            of.summary().to_string()
        });
        let is_nullable = data_type.is_none_or(|of| of.nullable);
        vec![
            Some(column.name.clone()),
            shown,
            Some(if is_nullable { "YES" } else { "NO" }.to_owned()),
            role(table, column),
            column.comment.clone(),
        ]
    };
    table.columns.iter().map(row).collect()
}

/// What a column is besides data, in words.
fn role(table: &StreamTable, column: &StreamColumn) -> Option<String> {
    let is_in = |names: &[String]| names.contains(&column.name);
    let mut roles = Vec::new();
    if table.primary_key.as_ref().is_some_and(|key| is_in(&key.columns)) {
        roles.push("primary key");
    }
    if is_in(&table.partition_keys) {
        roles.push("partition key");
    }
    match &column.kind {
        ColumnKind::Physical { .. } => {}
        ColumnKind::Computed { .. } => roles.push("computed"),
        ColumnKind::Metadata { is_virtual: false, .. } => roles.push("metadata"),
        ColumnKind::Metadata { is_virtual: true, .. } => roles.push("virtual metadata"),
    }
    if table.watermark.as_ref().is_some_and(|watermark| watermark.rowtime == column.name) {
        roles.push("row time");
    }
    (!roles.is_empty()).then(|| roles.join(", "))
}

/// The statement that makes the table, without what only its owner is to know.
pub(in crate::statement) fn create_statement(session: &Session, name: &TableName, table: &StreamTable) -> String {
    let mut shown = table.clone();
    for (key, value) in &mut shown.options {
        if is_secret(key) {
            *value = HIDDEN.to_owned();
        }
    }
    let temporary = if is_temporary(session, name) { "TEMPORARY " } else { "" };
    let quoted = |part: &str| format!("`{}`", part.replace('`', "``"));
    let name = [&name.catalog, &name.schema, &name.table].map(|part| quoted(part)).join(".");
    format!("CREATE {temporary}TABLE {name} {shown}")
}

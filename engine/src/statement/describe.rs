//! DESCRIBE of tables and schemas of the catalog; queries and tables of the session are DataFusion's to describe.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::sql::sqlparser::tokenizer::Token;
use tereza_catalog::model::{Column, Table, TableKind, partition_name};
use tereza_runtime::{Error, Result};

use super::ddl::Spec;
use super::errors;
use super::parse::{Home, Reader, SchemaName, TableName};
use super::{Planned, Planner, stream, text_rows, text_schema, view};
use crate::flink::is_secret;
use crate::formats::{Format, spark};
use crate::session::{Session, USER_CATALOG};

/// The columns of DESCRIBE and SHOW COLUMNS.
pub(super) const COLUMNS: [&str; 5] = ["column_name", "data_type", "is_nullable", "key", "comment"];

/// `DESCRIBE|DESC [EXTENDED|FORMATTED] [TABLE] name [PARTITION (…)]` or `DESCRIBE SCHEMA|DATABASE [EXTENDED] name`
pub(super) enum Describe {
    Table { name: TableName, extended: bool, partition: Option<Spec> },
    Schema(SchemaName),
}

/// Reads a DESCRIBE statement; `None` if it is DataFusion's.
pub(super) fn parse(reader: &mut Reader<'_>) -> Result<Option<Describe>> {
    let _ = reader.take_one(&["DESCRIBE", "DESC"]);
    if reader.at_token(&Token::LParen) || ["SELECT", "WITH", "VALUES"].iter().any(|word| reader.at(word)) {
        return Ok(None);
    }
    if reader.take_one(&["SCHEMA", "DATABASE"]).is_some() {
        reader.take("EXTENDED");
        let name = reader.schema_name()?;
        return match name.home() {
            Home::Tereza => Ok(Some(Describe::Schema(name))),
            Home::Session | Home::ReadOnly => Err(Error::unsupported(format!("DESCRIBE SCHEMA on {name}"))),
        };
    }
    if reader.at("FUNCTION") {
        return Err(reader.refuse(Error::unsupported("DESCRIBE FUNCTION")).with_hint("use SHOW FUNCTIONS LIKE 'name'"));
    }
    let extended = reader.take_one(&["EXTENDED", "FORMATTED"]).is_some();
    reader.take("TABLE");
    let name = reader.table_name()?;
    if name.home() != Home::Tereza {
        return Ok(None);
    }
    let partition = if reader.take("PARTITION") { Some(Spec::parse(reader)?) } else { None };
    Ok(Some(Describe::Table { name, extended, partition }))
}

impl Describe {
    pub(super) async fn plan(self, planner: &Planner<'_>) -> Result<Planned> {
        let session = Arc::clone(planner.session);
        let schema = match &self {
            Self::Table { .. } => text_schema(&COLUMNS),
            Self::Schema(_) => text_schema(&["key", "value"]),
        };
        // A table that is not there is known before anything runs.
        if let Self::Table { name, .. } = &self
            && !stream::is_temporary(&session, name)
        {
            errors::table(&session, name).await?;
        }
        let rows = Arc::clone(&schema);
        Ok(Planned::rows(schema, async move { self.run(&session, &rows).await }))
    }

    async fn run(self, session: &Session, schema: &SchemaRef) -> Result<RecordBatch> {
        let rows = match self {
            Self::Table { name, .. } if stream::is_temporary(session, &name) => columns_of(session, &name).await?,
            Self::Table { name, extended, partition } => {
                let table = errors::table(session, &name).await?.table;
                let mut rows = column_rows(&table)?;
                match partition {
                    Some(spec) => rows.extend(partition_rows(session, &table, &spec).await?),
                    None if extended => rows.extend(detail_rows(&table)),
                    None => {}
                }
                rows
            }
            Self::Schema(name) => {
                let database = errors::database(session, &name).await?;
                let row = |key: &str, value: Option<String>| vec![Some(key.to_owned()), value];
                let mut rows = vec![
                    row("name", Some(database.name)),
                    row("comment", database.description),
                    row("location", Some(database.location)),
                    row("owner", database.owner),
                ];
                rows.extend(database.parameters.into_iter().map(|(key, value)| row(&key, Some(value))));
                rows
            }
        };
        text_rows(schema, &rows)
    }
}

/// Rows of [`COLUMNS`] for a table of any catalog.
pub(super) async fn columns_of(session: &Session, name: &TableName) -> Result<Vec<Vec<Option<String>>>> {
    if name.home() == Home::Tereza {
        if stream::is_temporary(session, name)
            && let Some(found) = stream::find(session, name).await?
        {
            return Ok(stream::column_rows(&found));
        }
        return column_rows(&errors::table(session, name).await?.table);
    }
    let Ok(provider) = session.context.table_provider(name.reference()).await else {
        return Err(errors::missing_table(session, name).await);
    };
    let row = |field: &arrow::datatypes::FieldRef| {
        let nullable = if field.is_nullable() { "YES" } else { "NO" };
        vec![Some(field.name().clone()), Some(field.data_type().to_string()), Some(nullable.to_owned()), None, None]
    };
    Ok(provider.schema().fields().iter().map(row).collect())
}

/// The columns without partition keys, wherever they are kept.
pub(super) fn columns_said(table: &Table) -> Result<Cow<'_, [Column]>> {
    if table.kind == TableKind::View { view::columns(table) } else { spark::columns(table) }
}

fn column_rows(table: &Table) -> Result<Vec<Vec<Option<String>>>> {
    if let Some(found) = stream::of_table(table)? {
        return Ok(stream::column_rows(&found));
    }
    let row = |column: &Column, key: Option<&str>| {
        vec![
            Some(column.name.clone()),
            Some(column.type_name.clone()),
            Some("YES".to_owned()),
            key.map(str::to_owned),
            column.comment.clone(),
        ]
    };
    let columns = columns_said(table)?;
    let columns = columns.iter().map(|column| row(column, None));
    Ok(columns.chain(table.partition_keys.iter().map(|key| row(key, Some("partition key")))).collect())
}

/// What PARTITION adds below the columns.
async fn partition_rows(session: &Session, table: &Table, spec: &Spec) -> Result<Vec<Vec<Option<String>>>> {
    let store = &session.engine.catalog;
    let found = store.partitions(&table.database, &table.name, &spec.filter(table)?, None).await?;
    let row = |name: &str, value: Option<String>| vec![Some(name.to_owned()), value, None, None, None];
    let mut rows = Vec::new();
    for partition in found.iter().filter(|partition| spec.matches(table, partition)) {
        rows.push(row("# partition", Some(partition_name(&table.partition_keys, &partition.values))));
        rows.push(row("location", partition.storage.location.clone()));
        rows.extend(partition.parameters.iter().map(|(key, value)| row(key, Some(value.clone()))));
    }
    if rows.is_empty() {
        let error = Error::not_found(format!("{}.{} has no partition ({spec})", table.database, table.name));
        return Err(error.with_hint("see SHOW PARTITIONS"));
    }
    Ok(rows)
}

/// What EXTENDED adds below the columns: a name and a value in each row.
fn detail_rows(table: &Table) -> Vec<Vec<Option<String>>> {
    let row = |name: &str, value: Option<String>| vec![Some(name.to_owned()), value, None, None, None];
    let format = Format::of(&table.storage).ok().map(|format| format!("{format:?}").to_uppercase());
    let created =
        arrow::temporal_conversions::timestamp_s_to_datetime(table.create_time_s).map(|time| format!("{time} UTC"));
    let mut rows = vec![
        row("# table", None),
        row("name", Some(format!("{}.{}.{}", USER_CATALOG, table.database, table.name))),
        row("type", Some(table.kind.as_str().to_owned())),
        row("owner", table.owner.clone()),
        row("created", created),
        row("location", table.storage.location.clone()),
        row("format", format.filter(|_| table.storage.location.is_some())),
    ];
    if let Some(text) = view::query_text(table) {
        rows.push(row("query", Some(text.into_owned())));
    }
    rows.push(row("# properties", None));
    let shown = table.parameters.iter().map(|(key, value)| {
        let value = if super::ddl::is_credential(key) || is_secret(key) { "***" } else { value };
        row(key, Some(value.to_owned()))
    });
    rows.extend(shown);
    rows
}

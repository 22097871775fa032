//! The catalog as result sets: catalogs, schemas, tables, types and keys, with the columns that the specification names.
//!
//! Such a command is its own ticket: nothing is kept for it, and it can be fetched again.

use std::sync::{Arc, LazyLock};

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow_flight::error::FlightError;
use arrow_flight::sql::metadata::{GetCatalogsBuilder, SqlInfoData, XdbcTypeInfoData};
use arrow_flight::sql::{Command, CommandGetDbSchemas, CommandGetTableTypes, CommandGetTables, CommandGetXdbcTypeInfo};
use tereza_engine::query::{QueryService, SessionId, TableFilter};
use tereza_runtime::{Error, Result};

use super::plain::plain_schema;

/// The kinds of tables that [`QueryService::tables`] tells of.
const TABLE_KINDS: [&str; 4] = ["LOCAL TEMPORARY", "SYSTEM TABLE", "TABLE", "VIEW"];

static PRIMARY_KEYS: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("catalog_name", DataType::Utf8, true),
        Field::new("db_schema_name", DataType::Utf8, true),
        Field::new("table_name", DataType::Utf8, false),
        Field::new("column_name", DataType::Utf8, false),
        Field::new("key_name", DataType::Utf8, true),
        Field::new("key_sequence", DataType::Int32, false),
    ]))
});

/// Exported keys, imported keys and cross references have the same columns.
static FOREIGN_KEYS: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("pk_catalog_name", DataType::Utf8, true),
        Field::new("pk_db_schema_name", DataType::Utf8, true),
        Field::new("pk_table_name", DataType::Utf8, false),
        Field::new("pk_column_name", DataType::Utf8, false),
        Field::new("fk_catalog_name", DataType::Utf8, true),
        Field::new("fk_db_schema_name", DataType::Utf8, true),
        Field::new("fk_table_name", DataType::Utf8, false),
        Field::new("fk_column_name", DataType::Utf8, false),
        Field::new("key_sequence", DataType::Int32, false),
        Field::new("fk_key_name", DataType::Utf8, true),
        Field::new("pk_key_name", DataType::Utf8, true),
        Field::new("update_rule", DataType::UInt8, false),
        Field::new("delete_rule", DataType::UInt8, false),
    ]))
});

/// What does not change while the server runs.
pub(crate) struct Facts {
    pub(crate) sql_info: SqlInfoData,
    pub(crate) types: XdbcTypeInfoData,
    /// Whether clients get views, see `Settings`.
    pub(crate) views: bool,
}

/// The schema of a metadata command's result, or `None` if the command is not one.
pub(crate) fn schema(command: &Command, facts: &Facts) -> Option<SchemaRef> {
    Some(match command {
        Command::CommandGetCatalogs(_) => GetCatalogsBuilder::new().schema(),
        Command::CommandGetDbSchemas(command) => command.clone().into_builder().schema(),
        Command::CommandGetTables(command) => command.clone().into_builder().schema(),
        Command::CommandGetTableTypes(_) => CommandGetTableTypes {}.into_builder().schema(),
        Command::CommandGetSqlInfo(_) => facts.sql_info.schema(),
        Command::CommandGetXdbcTypeInfo(_) => facts.types.schema(),
        Command::CommandGetPrimaryKeys(_) => Arc::clone(&PRIMARY_KEYS),
        Command::CommandGetExportedKeys(_)
        | Command::CommandGetImportedKeys(_)
        | Command::CommandGetCrossReference(_) => Arc::clone(&FOREIGN_KEYS),
        _ => return None,
    })
}

/// The result of a metadata command, or `None` if the command is not one.
pub(crate) async fn batch(
    service: &dyn QueryService,
    session: &SessionId,
    command: Command,
    facts: &Facts,
) -> Result<Option<RecordBatch>> {
    let batch = match command {
        Command::CommandGetCatalogs(_) => catalogs(service, session).await?,
        Command::CommandGetDbSchemas(command) => schemas(service, session, command).await?,
        Command::CommandGetTables(command) => tables(service, session, command, facts.views).await?,
        Command::CommandGetTableTypes(_) => table_types()?,
        Command::CommandGetSqlInfo(command) => command.into_builder(&facts.sql_info).build().map_err(failed)?,
        Command::CommandGetXdbcTypeInfo(CommandGetXdbcTypeInfo { data_type }) => {
            facts.types.record_batch(data_type).map_err(failed)?
        }
        // Tables have no keys, so every question for them has an empty answer.
        Command::CommandGetPrimaryKeys(_) => RecordBatch::new_empty(Arc::clone(&PRIMARY_KEYS)),
        Command::CommandGetExportedKeys(_)
        | Command::CommandGetImportedKeys(_)
        | Command::CommandGetCrossReference(_) => RecordBatch::new_empty(Arc::clone(&FOREIGN_KEYS)),
        _ => return Ok(None),
    };
    Ok(Some(batch))
}

async fn catalogs(service: &dyn QueryService, session: &SessionId) -> Result<RecordBatch> {
    let mut builder = GetCatalogsBuilder::new();
    for catalog in service.catalogs(session).await? {
        builder.append(catalog);
    }
    builder.build().map_err(failed)
}

async fn schemas(service: &dyn QueryService, session: &SessionId, command: CommandGetDbSchemas) -> Result<RecordBatch> {
    let found =
        service.schemas(session, command.catalog.as_deref(), command.db_schema_filter_pattern.as_deref()).await?;
    let mut builder = command.into_builder();
    for (catalog, schema) in found {
        builder.append(catalog, schema);
    }
    builder.build().map_err(failed)
}

async fn tables(
    service: &dyn QueryService,
    session: &SessionId,
    command: CommandGetTables,
    views: bool,
) -> Result<RecordBatch> {
    let filter = TableFilter {
        catalog: command.catalog.clone(),
        schema_pattern: command.db_schema_filter_pattern.clone(),
        table_pattern: command.table_name_filter_pattern.clone(),
        kinds: command.table_types.clone(),
        with_columns: command.include_schema,
    };
    let no_columns = Arc::new(Schema::empty());
    let mut builder = command.into_builder();
    for table in service.tables(session, &filter).await? {
        // What a client will see when it reads the table.
        let columns = table.columns.map_or_else(|| Arc::clone(&no_columns), |columns| plain_schema(&columns, views));
        builder.append(table.catalog, table.schema, table.table, table.kind, &columns).map_err(failed)?;
    }
    builder.build().map_err(failed)
}

fn table_types() -> Result<RecordBatch> {
    let mut builder = CommandGetTableTypes {}.into_builder();
    for kind in TABLE_KINDS {
        builder.append(kind);
    }
    builder.build().map_err(failed)
}

fn failed(error: FlightError) -> Error {
    match error {
        // The patterns and names of the request are all that can be wrong.
        FlightError::Arrow(error) => Error::invalid_input(format!("the listing failed: {error}")),
        other => Error::internal(format!("the listing failed: {other}")),
    }
}

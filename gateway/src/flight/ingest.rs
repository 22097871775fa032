//! Bulk rows into a table.

use arrow_flight::sql::{CommandStatementIngest, TableDefinitionOptions, TableExistsOption, TableNotExistOption};
use futures::StreamExt;
use tereza_engine::query::{IfExists, IfNotExists, IngestTarget};
use tereza_runtime::{Error, Result};

use super::decode::Upload;
use super::plain::{plain_batch, plain_schema};
use super::service::Gateway;
use super::session::Session;
use super::statements::refuse_transaction;

impl Gateway {
    /// Writes the rows of an upload into a table in one commit and returns how many. The client is read as fast as
    /// the table is written.
    pub(super) async fn ingest(
        &self,
        session: &Session,
        command: CommandStatementIngest,
        upload: Upload,
    ) -> Result<i64> {
        let target = target(command)?;
        let (schema, rows) = upload
            .rows(self.settings().request_limit_bytes)
            .await?
            .ok_or_else(|| Error::invalid_input("rows to be ingested must begin with their schema, none was sent"))?;
        // How a client packs its rows is not what a table should be made of.
        let plain = plain_schema(&schema, true);
        let announced = plain.clone();
        let rows = rows.map(move |batch| plain_batch(&batch?, &announced)).boxed();
        let written = self.service().ingest(&session.id, target, plain, rows).await?;
        Ok(i64::try_from(written).unwrap_or(i64::MAX))
    }
}

fn target(command: CommandStatementIngest) -> Result<IngestTarget> {
    refuse_transaction(command.transaction_id.as_ref())?;
    if let Some(option) = command.options.keys().min() {
        return Err(Error::unsupported(format!("the ingest option '{option}' is not supported; no option is")));
    }
    if command.table.is_empty() {
        return Err(Error::invalid_input("an ingest must name its table"));
    }
    let unspecified = || Error::invalid_input("an ingest must say what to do if its table exists and if it does not");
    let options: TableDefinitionOptions = command.table_definition_options.ok_or_else(unspecified)?;
    let if_not_exists = match options.if_not_exist() {
        TableNotExistOption::Create => IfNotExists::Create,
        TableNotExistOption::Fail => IfNotExists::Fail,
        TableNotExistOption::Unspecified => return Err(unspecified()),
    };
    let if_exists = match options.if_exists() {
        TableExistsOption::Append => IfExists::Append,
        TableExistsOption::Replace => IfExists::Replace,
        TableExistsOption::Fail => IfExists::Fail,
        TableExistsOption::Unspecified => return Err(unspecified()),
    };
    // Drivers send an empty name where none was set.
    let named = |name: Option<String>| name.filter(|name| !name.is_empty());
    Ok(IngestTarget {
        catalog: named(command.catalog),
        schema: named(command.schema),
        table: command.table,
        if_not_exists,
        if_exists,
        temporary: command.temporary,
    })
}

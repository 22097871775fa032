//! A running Hive Metastore of any version, read over Thrift.

use std::time::Duration;

use async_trait::async_trait;
use tereza_runtime::{Error, ErrorKind, Result};
use tereza_thrift::call::Method;
use tereza_thrift::client::{CallError, Client, Settings};
use tereza_thrift::codec::ApplicationException;
use tereza_thrift::hive::{
    Exception, GetAllDatabasesArgs, GetAllTablesArgs, GetDatabaseArgs, GetFunctionArgs, GetFunctionsArgs,
    GetPartitionNamesArgs, GetPartitionsByNamesArgs, GetPartitionsStatisticsReqArgs, GetTableObjectsByNameArgs,
    GetTableObjectsByNameReqArgs, GetTableStatisticsReqArgs, GetTablesRequest, PartitionsStatsRequest,
    TableStatsRequest,
};
use tokio::sync::{Mutex, MutexGuard};

use super::{convert, names, statistics};
use crate::import::{PartitionStatistics, Source};
use crate::model::{ColumnStatistics, Database, Function, Partition, Table};

/// The port of a metastore whose address names none.
const PORT: u16 = 9083;
/// Calls that only read are made again so often after a connection broke.
const TRIES: usize = 3;
/// Before the next try.
const PAUSE: Duration = Duration::from_millis(500);

/// A metastore, over one connection at a time that is made again when it breaks.
pub struct Remote {
    /// `host:port`, each of the same metastore.
    addresses: Vec<String>,
    settings: Settings,
    client: Mutex<Option<Client>>,
}

impl Remote {
    /// At `thrift://host:port`, or several of one metastore with commas between. Nothing is asked of it yet.
    pub fn new(url: &str, settings: Settings) -> Result<Self> {
        let address = |part: &str| {
            let address = part.trim().strip_prefix("thrift://").filter(|address| !address.trim_matches('/').is_empty());
            let address = address.ok_or_else(|| {
                Error::invalid_input(format!("'{part}' is not the URL of a metastore: expected thrift://host:port"))
            })?;
            let address = address.trim_end_matches('/');
            let has_port = address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
            Ok(if has_port { address.to_owned() } else { format!("{address}:{PORT}") })
        };
        let addresses = url.split(',').map(address).collect::<Result<Vec<_>>>()?;
        Ok(Self { addresses, settings, client: Mutex::new(None) })
    }

    async fn connected(&self) -> Result<MutexGuard<'_, Option<Client>>> {
        let mut client = self.client.lock().await;
        if client.as_ref().is_none_or(Client::is_broken) {
            let mut failed = Error::unavailable("no metastore");
            *client = None;
            for address in &self.addresses {
                match Client::connect(address, self.settings.clone()).await {
                    Ok(connected) => {
                        *client = Some(connected);
                        break;
                    }
                    Err(error) => failed = error,
                }
            }
            if client.is_none() {
                return Err(failed);
            }
        }
        Ok(client)
    }

    /// Asks once more where a connection broke: nothing that is asked here changes anything.
    async fn ask<M: Method<Exception = Exception> + Sync>(&self, args: &M) -> Result<M::Reply, CallError<Exception>> {
        let mut tries = 0;
        loop {
            tries += 1;
            let answer = match self.connected().await {
                Ok(mut client) => match client.as_mut() {
                    Some(client) => client.call(args).await,
                    None => Err(Error::internal("a connection is gone").into()),
                },
                Err(error) => Err(error.into()),
            };
            match answer {
                Err(CallError::Connection(error)) if error.kind() == ErrorKind::Unavailable && tries < TRIES => {
                    tracing::warn!(%error, "the metastore is asked again");
                    tokio::time::sleep(PAUSE).await;
                }
                answer => return answer,
            }
        }
    }
}

#[async_trait]
impl Source for Remote {
    async fn databases(&self) -> Result<Vec<String>> {
        Ok(self.ask(&GetAllDatabasesArgs {}).await?)
    }

    async fn database(&self, name: &str) -> Result<Database> {
        let args = GetDatabaseArgs { name: Some(name.to_owned()) };
        let found = self.ask(&args).await?;
        Ok(convert::database_from(name.to_owned(), found))
    }

    async fn tables(&self, database: &str) -> Result<Vec<String>> {
        let args = GetAllTablesArgs { db_name: Some(database.to_owned()) };
        Ok(self.ask(&args).await?)
    }

    /// By the call of Hive 3 and 4, or by that of all before.
    async fn tables_by_names(&self, database: &str, names: &[String]) -> Result<Vec<Table>> {
        let request = GetTablesRequest {
            db_name: database.to_owned(),
            tbl_names: Some(names.to_vec()),
            ..GetTablesRequest::default()
        };
        let args = GetTableObjectsByNameReqArgs { req: Some(request) };
        let found = self.ask(&args).await;
        let found = match found {
            Ok(found) => found.tables,
            Err(CallError::Exception(exception)) if is_unknown_method(&exception) => {
                let args =
                    GetTableObjectsByNameArgs { dbname: Some(database.to_owned()), tbl_names: Some(names.to_vec()) };
                self.ask(&args).await?
            }
            Err(error) => return Err(error.into()),
        };
        let table = |table: tereza_thrift::hive::Table| {
            let (name, created) = (names::object(table.table_name.clone()), table.create_time.unwrap_or_default());
            Table { create_time_s: created.into(), ..convert::table_from(database.to_owned(), name, table) }
        };
        Ok(found.into_iter().map(table).collect())
    }

    async fn partition_names(&self, database: &str, table: &str) -> Result<Vec<String>> {
        let args = GetPartitionNamesArgs {
            db_name: Some(database.to_owned()),
            tbl_name: Some(table.to_owned()),
            max_parts: Some(-1),
        };
        Ok(self.ask(&args).await?)
    }

    async fn partitions(&self, database: &str, table: &str, names: &[String]) -> Result<Vec<Partition>> {
        let args = GetPartitionsByNamesArgs {
            db_name: Some(database.to_owned()),
            tbl_name: Some(table.to_owned()),
            names: Some(names.to_vec()),
        };
        let found = self.ask(&args).await?;
        let partition = |partition: tereza_thrift::hive::Partition| {
            let created = partition.create_time.unwrap_or_default();
            Partition { create_time_s: created.into(), ..convert::partition_from(partition) }
        };
        Ok(found.into_iter().map(partition).collect())
    }

    async fn table_statistics(&self, table: &Table, columns: &[String]) -> Result<Vec<ColumnStatistics>> {
        let request = TableStatsRequest {
            db_name: table.database.clone(),
            tbl_name: table.name.clone(),
            col_names: columns.to_vec(),
            ..TableStatsRequest::default()
        };
        let args = GetTableStatisticsReqArgs { request: Some(request) };
        let found = self.ask(&args).await?;
        Ok(found.table_stats.into_iter().filter_map(statistics::from_object).collect())
    }

    async fn partition_statistics(
        &self,
        table: &Table,
        names: &[String],
        columns: &[String],
    ) -> Result<PartitionStatistics> {
        let request = PartitionsStatsRequest {
            db_name: table.database.clone(),
            tbl_name: table.name.clone(),
            col_names: columns.to_vec(),
            part_names: names.to_vec(),
            ..PartitionsStatsRequest::default()
        };
        let args = GetPartitionsStatisticsReqArgs { request: Some(request) };
        let found = self.ask(&args).await?;
        let of_partition = |(name, objects): (String, Vec<_>)| {
            (name, objects.into_iter().filter_map(statistics::from_object).collect())
        };
        Ok(found.part_stats.into_iter().map(of_partition).collect())
    }

    async fn functions(&self, database: &str) -> Result<Vec<Function>> {
        let all = GetFunctionsArgs { db_name: Some(database.to_owned()), pattern: Some("*".to_owned()) };
        let mut functions = Vec::new();
        for name in self.ask(&all).await? {
            let args = GetFunctionArgs { db_name: Some(database.to_owned()), func_name: Some(name.clone()) };
            let found = self.ask(&args).await?;
            let create_time_s = found.create_time.unwrap_or_default().into();
            functions.push(Function { create_time_s, ..convert::function_from(database.to_owned(), name, found) });
        }
        Ok(functions)
    }
}

fn is_unknown_method(exception: &Exception) -> bool {
    matches!(exception, Exception::Application(own) if own.code == ApplicationException::UNKNOWN_METHOD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_metastore_are_read() {
        let addresses = |url: &str| Remote::new(url, Settings::default()).map(|remote| remote.addresses);
        assert_eq!(addresses("thrift://a:1").unwrap(), ["a:1"]);
        assert_eq!(addresses("thrift://a, thrift://b:2/").unwrap(), ["a:9083", "b:2"]);
        for wrong in ["", "a:1", "thrift://", "thrift:///", "http://a:1", "thrift://a:1,", "mysql://a/b"] {
            assert!(addresses(wrong).is_err_and(|error| error.kind() == ErrorKind::InvalidInput), "{wrong}");
        }
    }
}

//! A running Hive Metastore of any version, read over Thrift.

mod changes;
mod constraints;
mod grants;
mod locks;
mod pool;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tereza_runtime::{Error, ErrorKind, Result};
use tereza_thrift::call::Method;
use tereza_thrift::client::{CallError, Settings};
use tereza_thrift::codec::ApplicationException;
use tereza_thrift::hive::{
    Exception, GetAllDatabasesArgs, GetAllTablesArgs, GetDatabaseArgs, GetFunctionArgs, GetFunctionsArgs, GetNameArgs,
    GetPartitionNamesArgs, GetPartitionNamesPsArgs, GetPartitionsByNamesArgs, GetPartitionsStatisticsReqArgs,
    GetTableArgs, GetTableMetaArgs, GetTableObjectsByNameArgs, GetTableObjectsByNameReqArgs, GetTableReqArgs,
    GetTableRequest, GetTableStatisticsReqArgs, GetTablesRequest, PartitionsStatsRequest, TableStatsRequest,
};
use tokio::sync::OnceCell;

use self::pool::Pool;
use super::{convert, names, statistics};
use crate::import::{PartitionStatistics, Source};
use crate::model::{
    ColumnStatistics, Constraint, Database, Function, Grant, Partition, Role, RoleGrant, Securable, Table, TableKind,
};

/// The port of a metastore whose address names none.
const PORT: u16 = 9083;
/// Connections at once, unless said otherwise.
const CONNECTIONS: usize = 4;
/// Calls that only read are made again so often after a connection broke.
const TRIES: usize = 3;
/// Before the next try.
const PAUSE: Duration = Duration::from_millis(500);
/// How Tereza's own metastore calls itself.
const OWN_NAME: &str = "Tereza";

/// A metastore, over connections that are made again when they break.
pub struct Remote {
    pool: Pool,
    /// Whether it has no `get_table` any more, as those of Hive 4.
    is_new: AtomicBool,
    /// Whether writers share what they lock with `SHARED_WRITE`; asked for with the first of these.
    shares_writes: OnceCell<bool>,
}

/// Why a call that changes something failed.
#[derive(Debug)]
pub(crate) enum Failed {
    /// The metastore says no: nothing was changed.
    Refused(Error),
    /// The metastore was not reached: nothing was changed.
    Unsent(Error),
    /// No answer came: nobody knows whether it was done.
    Lost(Error),
}

impl From<CallError<Exception>> for Failed {
    fn from(error: CallError<Exception>) -> Self {
        match error {
            CallError::Exception(exception) => Self::Refused(explain(exception)),
            CallError::Connection(error) => Self::Lost(error),
        }
    }
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Refused(error) | Failed::Unsent(error) | Failed::Lost(error) => error,
        }
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("addresses", &self.pool.addresses).finish_non_exhaustive()
    }
}

impl Remote {
    /// At `thrift://host:port`, or several of one metastore with commas between. Nothing is asked of it yet.
    pub fn new(url: &str, settings: Settings) -> Result<Self> {
        Self::with_connections(url, settings, CONNECTIONS)
    }

    /// [`Remote::new`] with so many connections at most.
    pub(crate) fn with_connections(url: &str, settings: Settings, connections: usize) -> Result<Self> {
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
        Ok(Self {
            pool: Pool::new(addresses, settings, connections),
            is_new: AtomicBool::new(false),
            shares_writes: OnceCell::new(),
        })
    }

    /// The URL of the metastore, at the first of its addresses.
    pub(crate) fn url(&self) -> String {
        format!("thrift://{}", self.pool.addresses.first().map_or("", String::as_str))
    }

    /// Asks once more where a connection broke: nothing that is asked here changes anything.
    async fn ask<M: Method<Exception = Exception> + Sync>(&self, args: &M) -> Result<M::Reply, CallError<Exception>> {
        let mut tries = 0;
        loop {
            tries += 1;
            let answer = match self.pool.any().await {
                Ok(mut taken) => taken.client()?.call(args).await,
                Err(error) => Err(error.into()),
            };
            match answer {
                Err(CallError::Connection(error)) => {
                    self.pool.forget();
                    if error.kind() != ErrorKind::Unavailable || tries == TRIES {
                        return Err(error.into());
                    }
                    tracing::warn!(%error, "the metastore is asked again");
                    tokio::time::sleep(PAUSE).await;
                }
                answer => return answer,
            }
        }
    }

    /// Makes a call that changes something, once.
    async fn tell<M: Method<Exception = Exception> + Sync>(&self, args: &M) -> Result<M::Reply, Failed> {
        // Where nothing was sent nothing was done.
        let mut taken = self.pool.sound().await.map_err(Failed::Unsent)?;
        let answer = taken.client().map_err(Failed::Unsent)?.call(args).await;
        if matches!(answer, Err(CallError::Connection(_))) {
            self.pool.forget();
        }
        Ok(answer?)
    }

    /// Whether it is one of Tereza's, which never moves the files of a table.
    pub(crate) async fn is_tereza(&self) -> Result<bool> {
        let name = self.ask(&GetNameArgs {}).await;
        match name {
            Ok(name) => Ok(name == OWN_NAME),
            Err(CallError::Exception(_)) => Ok(false),
            Err(error) => Err(failed(error)),
        }
    }

    /// One table; nothing if it or its database is not there.
    pub(crate) async fn table(&self, database: &str, name: &str) -> Result<Option<Table>> {
        let found = self.get_table(database, name).await;
        match found {
            Ok(found) => Ok(Some(table_from(database, found))),
            Err(CallError::Exception(Exception::NoSuchObject(_))) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// By the call of all before Hive 4, or by that of all since 2.3.
    async fn get_table(&self, database: &str, name: &str) -> Result<tereza_thrift::hive::Table, CallError<Exception>> {
        if !self.is_new.load(Ordering::Relaxed) {
            let args = GetTableArgs { dbname: Some(database.to_owned()), tbl_name: Some(name.to_owned()) };
            match self.ask(&args).await {
                Err(CallError::Exception(exception)) if is_unknown_method(&exception) => {
                    self.is_new.store(true, Ordering::Relaxed);
                }
                answer => return answer,
            }
        }
        let request =
            GetTableRequest { db_name: database.to_owned(), tbl_name: name.to_owned(), ..GetTableRequest::default() };
        Ok(self.ask(&GetTableReqArgs { req: Some(request) }).await?.table)
    }

    /// Names and kinds of all tables of a database that is there, in no order.
    pub(crate) async fn table_kinds(&self, database: &str) -> Result<Vec<(String, TableKind)>> {
        let args = GetTableMetaArgs {
            db_patterns: Some(database.to_owned()),
            tbl_patterns: Some("*".to_owned()),
            tbl_types: Some(Vec::new()),
        };
        let found = self.ask(&args).await.map_err(failed)?;
        // The database is a pattern there.
        let mine = found
            .into_iter()
            .filter(|meta| names::database(Some(meta.db_name.clone())).is_ok_and(|name| name == database));
        Ok(mine.map(|meta| (meta.table_name, TableKind::parse(Some(&meta.table_type)))).collect())
    }

    /// Names of the partitions that have these values, where there is one; in no order.
    pub(crate) async fn partition_names_with(
        &self,
        database: &str,
        table: &str,
        values: &[Option<&str>],
    ) -> Result<Vec<String>> {
        let args = GetPartitionNamesPsArgs {
            db_name: Some(database.to_owned()),
            tbl_name: Some(table.to_owned()),
            part_vals: Some(values.iter().map(|value| value.unwrap_or_default().to_owned()).collect()),
            max_parts: Some(-1),
        };
        self.ask(&args).await.map_err(failed)
    }

    /// Names of all functions of a database.
    pub(crate) async fn function_names(&self, database: &str) -> Result<Vec<String>> {
        let all = GetFunctionsArgs { db_name: Some(database.to_owned()), pattern: Some("*".to_owned()) };
        self.ask(&all).await.map_err(failed)
    }

    /// One function.
    pub(crate) async fn function(&self, database: &str, name: &str) -> Result<Function> {
        let args = GetFunctionArgs { db_name: Some(database.to_owned()), func_name: Some(name.to_owned()) };
        let found = self.ask(&args).await.map_err(failed)?;
        let create_time_s = found.create_time.unwrap_or_default().into();
        let function = convert::function_from(database.to_owned(), name.to_owned(), found);
        Ok(Function { create_time_s, ..function })
    }
}

/// A table as it came, with the time that it was made.
fn table_from(database: &str, table: tereza_thrift::hive::Table) -> Table {
    let (name, created) = (names::object(table.table_name.clone()), table.create_time.unwrap_or_default());
    Table { create_time_s: created.into(), ..convert::table_from(database.to_owned(), name, table) }
}

fn failed(error: CallError<Exception>) -> Error {
    match error {
        CallError::Exception(exception) => explain(exception),
        CallError::Connection(error) => error,
    }
}

/// What a metastore says, in the kinds of Tereza. A method that does not declare an exception puts its name before the text
/// of one that it does.
fn explain(exception: Exception) -> Error {
    const NAMED: [(&str, ErrorKind); 7] = [
        ("NoSuchObjectException", ErrorKind::NotFound),
        ("UnknownDBException", ErrorKind::NotFound),
        ("UnknownTableException", ErrorKind::NotFound),
        ("AlreadyExistsException", ErrorKind::AlreadyExists),
        ("InvalidObjectException", ErrorKind::InvalidInput),
        ("InvalidOperationException", ErrorKind::InvalidInput),
        ("InvalidInputException", ErrorKind::InvalidInput),
    ];
    let message = match &exception {
        Exception::Meta(meta) => meta.message.clone().unwrap_or_default(),
        _ => String::new(),
    };
    match NAMED
        .iter()
        .find(|(name, _)| message.trim_start_matches("org.apache.hadoop.hive.metastore.api.").starts_with(name))
    {
        Some((_, kind)) => Error::new(*kind, format!("the metastore answered {message}")),
        None => exception.into(),
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
        Ok(found.into_iter().map(|table| table_from(database, table)).collect())
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
        let mut functions = Vec::new();
        for name in self.function_names(database).await? {
            functions.push(self.function(database, &name).await?);
        }
        Ok(functions)
    }

    async fn constraints(&self, database: &str, table: &str) -> Result<Vec<Constraint>> {
        self.table_constraints(database, table).await
    }

    async fn foreign_keys(&self, database: &str, table: &str) -> Result<Vec<Constraint>> {
        self.table_foreign_keys(database, table).await
    }

    async fn roles(&self) -> Result<Vec<Role>> {
        self.role_names().await
    }

    async fn role_grants(&self, role: &str) -> Result<Vec<RoleGrant>> {
        self.principals_in_role(role).await
    }

    async fn privileges(&self, on: &Securable) -> Result<Vec<Grant>> {
        self.privileges_on(on).await
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
        let addresses = |url: &str| Remote::new(url, Settings::default()).map(|remote| remote.pool.addresses);
        assert_eq!(addresses("thrift://a:1").unwrap(), ["a:1"]);
        assert_eq!(addresses("thrift://a, thrift://b:2/").unwrap(), ["a:9083", "b:2"]);
        for wrong in ["", "a:1", "thrift://", "thrift:///", "http://a:1", "thrift://a:1,", "mysql://a/b"] {
            assert!(addresses(wrong).is_err_and(|error| error.kind() == ErrorKind::InvalidInput), "{wrong}");
        }
    }
}

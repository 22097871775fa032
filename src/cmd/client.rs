//! A Tereza somewhere else, asked over Arrow Flight SQL: the same [`QueryService`] that the engine in this process is,
//! so that a command has one path for both.
//!
//! Splitting scripts and the words for completion are answered here without asking the server.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::client::{FlightSqlServiceClient, PreparedStatement};
use arrow_flight::sql::{
    CommandGetDbSchemas, CommandGetTables, CommandStatementIngest, TableDefinitionOptions, TableExistsOption,
    TableNotExistOption,
};
use arrow_flight::{Action, FlightInfo, HandshakeRequest, IpcMessage};
use async_trait::async_trait;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures::{StreamExt, TryStreamExt, future, stream};
use prost::Message;
use prost::bytes::Bytes;
use tereza_engine::query::{
    BatchStream, Description, IfExists, IfNotExists, IngestTarget, Query, QueryId, QueryService, SessionDefaults,
    SessionId, Statement, StatementKind, TableEntry, TableFilter,
};
use tereza_runtime::{Error, Result, ids};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::metadata::MetadataValue;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request};
use url::Url;

use super::sql::lexer;
pub(crate) use failure::is_unreachable;
use messages::{GetSessionOptionsResult, SessionOptionValue, SetSessionOptionsRequest, SetSessionOptionsResult};

mod failure;
mod fetch;
mod messages;
mod progress;
#[cfg(test)]
mod tests;

const DEFAULT_PORT: u16 = 32010;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A server that says nothing to a ping for [`PING_TIMEOUT`] has gone.
const PING_PERIOD: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// A server's message of more bytes than this is refused.
const MESSAGE_LIMIT_BYTES: usize = 256 * 1024 * 1024;
/// A list of names with more rows than this is refused.
const LISTING_LIMIT_ROWS: usize = 1_000_000;
/// Statements that begin with these words tell how many rows they wrote, even if none.
const WRITING_WORDS: [&str; 7] = ["insert", "update", "delete", "merge", "copy", "truncate", "replace"];

type Client = FlightSqlServiceClient<Channel>;

/// A server and who asks it.
pub(crate) struct Target {
    endpoint: Endpoint,
    /// `host:port`, for messages.
    address: String,
    user: Option<String>,
    password: String,
}

/// A connection to a server.
pub(crate) struct RemoteQueryService {
    target: Target,
    channel: Channel,
    /// A client for each session, which carries the session's token.
    sessions: Mutex<HashMap<SessionId, Client>>,
    /// What ends each statement that runs.
    running: Arc<Mutex<HashMap<QueryId, CancellationToken>>>,
}

impl Target {
    /// Reads `http://[user[:password]@]host[:port]`. `user` stands in for a missing one, and `TEREZA_PASSWORD` for a
    /// missing password. `tls_ca` names the file of certificates that an `https` server is checked against.
    pub(crate) fn parse(url: &str, user: Option<&str>, tls_ca: Option<&Path>) -> Result<Self> {
        let hint = "a server's URL looks like http://localhost:32010";
        // The URL itself stays out of messages: it may hold a password.
        let url = Url::parse(url)
            .map_err(|error| Error::invalid_input(format!("--url is no URL: {error}")).with_hint(hint))?;
        let is_tls = match url.scheme() {
            "http" | "grpc" | "grpc+tcp" => false,
            "https" | "grpcs" | "grpc+tls" => true,
            other => {
                return Err(Error::invalid_input(format!("--url has the unknown scheme '{other}'")).with_hint(hint));
            }
        };
        let has_rest = !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some();
        let host = url.host_str().filter(|host| !host.is_empty() && !has_rest);
        let host = host.ok_or_else(|| Error::invalid_input("--url must have a host and no path").with_hint(hint))?;
        // The port that `url` leaves out of http and https is written in vain: nobody serves Flight SQL there.
        let address = format!("{host}:{}", url.port().unwrap_or(DEFAULT_PORT));
        let endpoint = endpoint(&address, is_tls, tls_ca)?;
        let user = Some(percent_decoded(url.username())).filter(|user| !user.is_empty()).or(user.map(str::to_string));
        let password = url.password().map(percent_decoded).or_else(|| std::env::var("TEREZA_PASSWORD").ok());
        Ok(Self { endpoint, address, user, password: password.unwrap_or_default() })
    }
}

fn endpoint(address: &str, is_tls: bool, tls_ca: Option<&Path>) -> Result<Endpoint> {
    let scheme = if is_tls { "https" } else { "http" };
    let invalid = |error: tonic::transport::Error| {
        Error::invalid_input(format!("a connection to {address} cannot be set up: {error}")).with_source(error)
    };
    let endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))
        .map_err(invalid)?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PING_PERIOD)
        .keep_alive_timeout(PING_TIMEOUT);
    if !is_tls {
        return Ok(endpoint);
    }
    let file = tls_ca.ok_or_else(|| {
        Error::invalid_input("an https:// server needs --tls-ca, the file of the certificates to check it against")
    })?;
    let pem = std::fs::read(file).map_err(|error| {
        Error::invalid_input(format!("--tls-ca {} cannot be read: {error}", file.display())).with_source(error)
    })?;
    endpoint.tls_config(ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem))).map_err(invalid)
}

impl RemoteQueryService {
    /// Connects within [`CONNECT_TIMEOUT`]; a failure is one that [`is_unreachable`] tells.
    pub(crate) async fn connect(target: Target) -> Result<Self> {
        let connection = target.endpoint.connect().await;
        let channel = connection.map_err(|error| failure::unreachable(&target.address, &error))?;
        Ok(Self { target, channel, sessions: Mutex::default(), running: Arc::default() })
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<SessionId, Client>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn client(&self, session: &SessionId) -> Result<Client> {
        self.sessions().get(session).cloned().ok_or_else(|| Error::not_found(format!("there is no session {session}")))
    }

    fn failed(&self, error: FlightError) -> Error {
        failure::of_flight(&self.target.address, error)
    }

    /// Says who asks, and keeps the token that the server answers with, if it does.
    async fn handshake(&self, client: &mut Client, user: &str) -> Result<()> {
        let user = self.target.user.as_deref().unwrap_or(user);
        let credentials = BASE64_STANDARD.encode(format!("{user}:{}", self.target.password));
        let mut header = MetadataValue::try_from(format!("Basic {credentials}"))
            .map_err(|_| Error::internal("Basic credentials are always ASCII"))?;
        header.set_sensitive(true);
        let mut request = Request::new(stream::iter([HandshakeRequest::default()]));
        request.metadata_mut().insert("authorization", header);
        let response = match client.inner_mut().handshake(request).await {
            Ok(response) => response,
            // A server that asks nobody who they are.
            Err(status) if status.code() == Code::Unimplemented => return Ok(()),
            Err(status) => return Err(failure::of_status(&self.target.address, status)),
        };
        let token = response.metadata().get("authorization").and_then(|value| value.to_str().ok());
        if let Some(token) = token.and_then(|value| value.strip_prefix("Bearer ")) {
            client.set_token(token.to_string());
        }
        Ok(())
    }

    async fn action(&self, client: &mut Client, name: &str, body: Vec<u8>) -> Result<Bytes> {
        let mut results = client.do_action(Action::new(name, body)).await.map_err(|error| self.failed(error))?;
        let result = results.message().await.map_err(|status| failure::of_status(&self.target.address, status))?;
        Ok(result.map_or_else(Bytes::new, |result| result.body))
    }

    fn decoded<M: Message + Default>(&self, body: Bytes) -> Result<M> {
        let address = &self.target.address;
        M::decode(body).map_err(|error| {
            Error::internal(format!("the answer of {address} cannot be read: {error}")).with_source(error)
        })
    }

    async fn set_options(&self, client: &mut Client, options: &[(String, String)]) -> Result<()> {
        let session_options: BTreeMap<_, _> =
            options.iter().map(|(key, value)| (key.clone(), SessionOptionValue::text(value))).collect();
        let body = SetSessionOptionsRequest { session_options }.encode_to_vec();
        let body = self.action(client, "SetSessionOptions", body).await?;
        let SetSessionOptionsResult { errors } = self.decoded(body)?;
        let Some((key, error)) = errors.into_iter().next() else { return Ok(()) };
        let value = options.iter().find(|(name, _)| *name == key).map_or("", |(_, value)| value);
        Err(match error.value {
            1 => Error::not_found(format!("the server has no option '{key}'")),
            2 => Error::invalid_input(format!("the server refuses {key} = '{value}'")),
            _ => Error::invalid_input(format!("the server cannot set {key} = '{value}'")),
        })
    }

    async fn prepare(&self, client: &mut Client, sql: &str) -> Result<PreparedStatement<Channel>> {
        client.prepare(sql.to_string(), None).await.map_err(|error| self.failed(error))
    }

    fn schema_of(&self, prepared: &PreparedStatement<Channel>) -> Result<SchemaRef> {
        Ok(Arc::new(prepared.dataset_schema().map_err(|error| self.failed(error))?.clone()))
    }

    /// All rows of an answer about names.
    async fn listing(&self, client: Client, info: FlightInfo) -> Result<Vec<RecordBatch>> {
        let mut batches = fetch::rows(client, None, info, CancellationToken::new(), self.target.address.clone());
        let mut listing = Vec::new();
        let mut rows = 0;
        while let Some(batch) = batches.try_next().await? {
            rows += batch.num_rows();
            if rows > LISTING_LIMIT_ROWS {
                return Err(Error::resource_exhausted(format!(
                    "the server lists more than {LISTING_LIMIT_ROWS} names"
                )));
            }
            listing.push(batch);
        }
        Ok(listing)
    }

    /// Registers a statement as running for as long as its stream lives.
    fn tracked(
        &self,
        id: &QueryId,
        cancellation: &CancellationToken,
        asking: AbortOnDropHandle<()>,
        rows: BatchStream,
    ) -> BatchStream {
        let running = Running { id: id.clone(), all: Arc::clone(&self.running), _asking: asking };
        running.all.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), cancellation.clone());
        stream::unfold((rows, running), async |(mut rows, running)| Some((rows.next().await?, (rows, running)))).boxed()
    }
}

/// Takes its statement off the list when it is dropped.
struct Running {
    id: QueryId,
    all: Arc<Mutex<HashMap<QueryId, CancellationToken>>>,
    /// Asks how far it is.
    _asking: AbortOnDropHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

#[async_trait]
impl QueryService for RemoteQueryService {
    async fn open_session(&self, user: &str, defaults: SessionDefaults) -> Result<SessionId> {
        let flight = FlightServiceClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_LIMIT_BYTES);
        let mut client = Client::new_from_inner(flight);
        self.handshake(&mut client, user).await?;
        let mut options = defaults.options;
        options.extend(defaults.catalog.map(|catalog| ("catalog".to_string(), catalog)));
        options.extend(defaults.schema.map(|schema| ("schema".to_string(), schema)));
        if !options.is_empty() {
            self.set_options(&mut client, &options).await?;
        }
        let session = SessionId(ids::new_id());
        self.sessions().insert(session.clone(), client);
        Ok(session)
    }

    async fn close_session(&self, session: &SessionId) -> Result<()> {
        let client = self.sessions().remove(session);
        let mut client = client.ok_or_else(|| Error::not_found(format!("there is no session {session}")))?;
        self.action(&mut client, "CloseSession", Vec::new()).await.map(drop)
    }

    async fn set_option(&self, session: &SessionId, key: &str, value: &str) -> Result<()> {
        let mut client = self.client(session)?;
        self.set_options(&mut client, &[(key.to_string(), value.to_string())]).await
    }

    async fn options(&self, session: &SessionId) -> Result<Vec<(String, String)>> {
        let mut client = self.client(session)?;
        let body = self.action(&mut client, "GetSessionOptions", Vec::new()).await?;
        let GetSessionOptionsResult { session_options } = self.decoded(body)?;
        Ok(session_options.into_iter().map(|(key, value)| (key, value.to_text())).collect())
    }

    async fn describe(&self, session: &SessionId, sql: &str) -> Result<Description> {
        let mut client = self.client(session)?;
        let prepared = self.prepare(&mut client, sql).await?;
        let schema = self.schema_of(&prepared)?;
        let parameters = prepared.parameter_schema().map_err(|error| self.failed(error))?.clone();
        fetch::close(prepared).await;
        Ok(Description { kind: kind_of(sql, &schema), schema, parameters: Arc::new(parameters) })
    }

    async fn submit(&self, session: &SessionId, statement: Statement) -> Result<Query> {
        let Statement { sql, parameters } = statement;
        let mut client = self.client(session)?;
        let mut prepared = self.prepare(&mut client, &sql).await?;
        if let Some(parameters) = parameters {
            prepared.set_parameters(parameters).map_err(|error| self.failed(error))?;
        }
        let address = self.target.address.clone();
        let cancellation = CancellationToken::new();
        let described = self.schema_of(&prepared)?;
        let kind = kind_of(&sql, &described);
        let (schema, rows) = match kind {
            StatementKind::Query => {
                let info = match prepared.execute().await {
                    Ok(info) => info,
                    Err(error) => {
                        fetch::close(prepared).await;
                        return Err(self.failed(error));
                    }
                };
                let schema = info.clone().try_decode_schema().map_err(|error| self.failed(error.into()))?;
                (Arc::new(schema), fetch::rows(client, Some(prepared), info, cancellation.clone(), address))
            }
            StatementKind::Update | StatementKind::Command => {
                let schema = Arc::new(Schema::new(vec![Field::new("count", DataType::UInt64, false)]));
                let sent = Arc::clone(&schema);
                let batches = move |count: Result<Option<u64>>| {
                    let told = count.map(|count| count.filter(|count| kind == StatementKind::Update || *count > 0));
                    future::ready(told.transpose().map(|count| count_batch(&sent, count?)))
                };
                (schema, fetch::count(prepared, cancellation.clone(), address).filter_map(batches).boxed())
            }
        };
        let id = QueryId(ids::new_id());
        let progress = Arc::default();
        let asking = tokio::spawn(progress::ask(self.client(session)?, Arc::downgrade(&progress)));
        let rows = self.tracked(&id, &cancellation, AbortOnDropHandle::new(asking), rows);
        // A statement without rows may turn out to write some (`CREATE TABLE … AS`), so it is an update that may stay
        // without its batch.
        let kind = if kind == StatementKind::Query { kind } else { StatementKind::Update };
        Ok(Query::new(id, kind, schema, progress, cancellation, rows))
    }

    async fn ingest(
        &self,
        session: &SessionId,
        target: IngestTarget,
        _schema: SchemaRef,
        rows: BatchStream,
    ) -> Result<u64> {
        let mut client = self.client(session)?;
        let if_not_exist = match target.if_not_exists {
            IfNotExists::Create => TableNotExistOption::Create,
            IfNotExists::Fail => TableNotExistOption::Fail,
        };
        let if_exists = match target.if_exists {
            IfExists::Append => TableExistsOption::Append,
            IfExists::Replace => TableExistsOption::Replace,
            IfExists::Fail => TableExistsOption::Fail,
        };
        let command = CommandStatementIngest {
            table_definition_options: Some(TableDefinitionOptions {
                if_not_exist: if_not_exist as i32,
                if_exists: if_exists as i32,
            }),
            table: target.table,
            schema: target.schema,
            catalog: target.catalog,
            temporary: target.temporary,
            transaction_id: None,
            options: HashMap::new(),
        };
        let rows = rows.map_err(|error| FlightError::ExternalError(Box::new(error)));
        let count = client.execute_ingest(command, rows).await.map_err(|error| self.failed(error))?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    async fn cancel(&self, _session: &SessionId, query: &QueryId) -> Result<()> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let cancellation = running.get(query);
        cancellation.ok_or_else(|| Error::not_found(format!("statement {query} is not running")))?.cancel();
        Ok(())
    }

    async fn catalogs(&self, session: &SessionId) -> Result<Vec<String>> {
        let mut client = self.client(session)?;
        let info = client.get_catalogs().await.map_err(|error| self.failed(error))?;
        let mut names = Vec::new();
        for batch in self.listing(client, info).await? {
            names.extend(texts(&batch, "catalog_name")?);
        }
        Ok(names)
    }

    async fn schemas(
        &self,
        session: &SessionId,
        catalog: Option<&str>,
        schema_pattern: Option<&str>,
    ) -> Result<Vec<(String, String)>> {
        let mut client = self.client(session)?;
        let request = CommandGetDbSchemas {
            catalog: catalog.map(str::to_string),
            db_schema_filter_pattern: schema_pattern.map(str::to_string),
        };
        let info = client.get_db_schemas(request).await.map_err(|error| self.failed(error))?;
        let mut names = Vec::new();
        for batch in self.listing(client, info).await? {
            names.extend(texts(&batch, "catalog_name")?.into_iter().zip(texts(&batch, "db_schema_name")?));
        }
        Ok(names)
    }

    async fn tables(&self, session: &SessionId, filter: &TableFilter) -> Result<Vec<TableEntry>> {
        let mut client = self.client(session)?;
        let request = CommandGetTables {
            catalog: filter.catalog.clone(),
            db_schema_filter_pattern: filter.schema_pattern.clone(),
            table_name_filter_pattern: filter.table_pattern.clone(),
            table_types: filter.kinds.clone(),
            include_schema: filter.with_columns,
        };
        let info = client.get_tables(request).await.map_err(|error| self.failed(error))?;
        let mut entries = Vec::new();
        for batch in self.listing(client, info).await? {
            let [catalogs, schemas, tables, kinds] =
                ["catalog_name", "db_schema_name", "table_name", "table_type"].map(|name| texts(&batch, name));
            let names = catalogs?.into_iter().zip(schemas?).zip(tables?).zip(kinds?);
            for (row, (((catalog, schema), table), kind)) in names.enumerate() {
                let columns = if filter.with_columns { Some(table_schema(&batch, row)?) } else { None };
                entries.push(TableEntry { catalog, schema, table, kind, columns });
            }
        }
        Ok(entries)
    }

    fn split(&self, sql: &str) -> Result<Vec<String>> {
        lexer::split(sql)
    }

    fn words(&self) -> Vec<String> {
        WORDS.split_whitespace().map(str::to_string).collect()
    }
}

impl fmt::Debug for RemoteQueryService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteQueryService").field("address", &self.target.address).finish_non_exhaustive()
    }
}

/// A prepared statement without columns gives no rows back (as JDBC's driver decides too); of these only the first
/// word says which write rows.
fn kind_of(sql: &str, schema: &Schema) -> StatementKind {
    if !schema.fields().is_empty() {
        return StatementKind::Query;
    }
    let tokens = lexer::tokens(sql);
    let first = tokens.iter().find(|token| token.is_significant());
    let writes = first.is_some_and(|first| WRITING_WORDS.iter().any(|word| first.is_word(word)));
    if writes { StatementKind::Update } else { StatementKind::Command }
}

fn count_batch(schema: &SchemaRef, count: u64) -> Result<RecordBatch> {
    RecordBatch::try_new(Arc::clone(schema), vec![Arc::new(UInt64Array::from(vec![count]))])
        .map_err(|error| Error::internal(format!("a count cannot be made: {error}")).with_source(error))
}

/// The texts of a column; NULL is empty.
fn texts(batch: &RecordBatch, name: &str) -> Result<Vec<String>> {
    let column = batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
    let column = column.ok_or_else(|| Error::internal(format!("the server's list has no column '{name}' of text")))?;
    Ok(column.iter().map(|value| value.unwrap_or_default().to_string()).collect())
}

/// The columns of a table, which a listing holds as an encapsulated schema message.
fn table_schema(batch: &RecordBatch, row: usize) -> Result<SchemaRef> {
    let column = batch.column_by_name("table_schema").and_then(|column| column.as_binary_opt::<i32>());
    let column = column.ok_or_else(|| Error::internal("the server's list has no column 'table_schema'"))?;
    let message = IpcMessage(Bytes::copy_from_slice(column.value(row)));
    let schema = Schema::try_from(message).map_err(|error| {
        Error::internal(format!("the columns of a table cannot be read: {error}")).with_source(error)
    })?;
    Ok(Arc::new(schema))
}

/// A part of a URL with its `%XX` taken back; what is no such triple stays.
fn percent_decoded(text: &str) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = (*first == b'%').then(|| after.get(..2)).flatten().and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                rest = &after[2..];
            }
            None => {
                decoded.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// Keywords and functions for completion. The server has no list of them that is cheaper to ask for than to know.
const WORDS: &str = "abs add all alter analyze and array array_agg as asc avg begin between bigint boolean by case cast \
    catalog catalogs ceil char coalesce column columns comment commit concat copy count create cross csv current_date \
    current_timestamp database databases date date_part date_trunc deallocate decimal default delete dense_rank desc \
    describe distinct double drop else end escape except execute exists explain external extract false fetch \
    first_value float floor following from full function functions group grouping having if ilike in inner insert int \
    integer intersect interval into is join json lag last_value lateral lead left length like limit location lower max \
    md5 memory median min natural not null nullif nulls numeric offset on or order outer over overwrite parquet \
    partition partitioned partitions percentile_cont power preceding prepare primary random range rank recover \
    regexp_like regexp_match regexp_replace rename replace right round row row_number rows schema schemas select set \
    show smallint split_part sqrt stddev stored string substr substring sum table tables temporary then time timestamp \
    to tinyint trim true truncate unbounded union unique unnest update upper use using values varchar verbose view \
    when where window with year";

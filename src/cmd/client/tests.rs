use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{ArrayRef, Int64Array};
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::sql::server::{FlightSqlService, PeekableFlightDataStream};
use arrow_flight::sql::{
    ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult,
    Any, CommandGetCatalogs, CommandGetTables, CommandPreparedStatementQuery, CommandPreparedStatementUpdate, SqlInfo,
};
use arrow_flight::{FlightDescriptor, FlightEndpoint, HandshakeResponse, SchemaAsIpc, Ticket};
use futures::Stream;
use tereza_runtime::ErrorKind;
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Response, Status, Streaming};

use super::*;

/// A server of a handful of statements that demands the token `t` of its handshake.
#[derive(Clone, Default)]
struct FakeServer {
    open_statements: Arc<AtomicUsize>,
    cancelled: Arc<AtomicUsize>,
    options: Arc<Mutex<BTreeMap<String, SessionOptionValue>>>,
}

type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl FakeServer {
    fn admit<T>(request: &Request<T>) -> Result<(), Status> {
        match request.metadata().get("authorization") {
            Some(token) if token == "Bearer t" => Ok(()),
            _ => Err(Status::unauthenticated("no token")),
        }
    }

    fn schema(sql: &str) -> Result<Schema, Status> {
        match sql {
            "numbers" | "hang" => Ok(Schema::new(vec![Field::new("n", DataType::Int64, true)])),
            "insert" | "create" => Ok(Schema::empty()),
            _ => Err(Status::invalid_argument("unexpected word (line 1, column 3); try numbers")),
        }
    }

    fn info(schema: &Schema, endpoints: &[String]) -> FlightInfo {
        let mut info = FlightInfo::new().try_with_schema(schema).unwrap();
        for ticket in endpoints {
            info = info.with_endpoint(FlightEndpoint::new().with_ticket(Ticket::new(ticket.clone())));
        }
        info
    }
}

fn numbers(values: std::ops::Range<i64>) -> RecordBatch {
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(values));
    let schema = Schema::new(vec![Field::new("n", DataType::Int64, true)]);
    RecordBatch::try_new(Arc::new(schema), vec![column]).unwrap()
}

fn tables() -> RecordBatch {
    let columns = Schema::new(vec![Field::new("o_id", DataType::Int64, false)]);
    let IpcMessage(bytes) = SchemaAsIpc::new(&columns, &Default::default()).try_into().unwrap();
    let text = |value: &str| Arc::new(arrow::array::StringArray::from(vec![value])) as ArrayRef;
    RecordBatch::try_from_iter(vec![
        ("catalog_name", text("tereza")),
        ("db_schema_name", text("default")),
        ("table_name", text("orders")),
        ("table_type", text("TABLE")),
        ("table_schema", Arc::new(arrow::array::BinaryArray::from(vec![bytes.as_ref()]))),
    ])
    .unwrap()
}

#[tonic::async_trait]
impl FlightSqlService for FakeServer {
    type FlightService = Self;

    async fn do_handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Messages<HandshakeResponse>>, Status> {
        // ana:s:ecret
        if request.metadata().get("authorization").is_none_or(|value| value != "Basic YW5hOnM6ZWNyZXQ=") {
            return Err(Status::unauthenticated("wrong password"));
        }
        let mut response = Response::new(stream::empty().boxed() as Messages<HandshakeResponse>);
        response.metadata_mut().insert("authorization", MetadataValue::from_static("Bearer t"));
        Ok(response)
    }

    async fn do_action_create_prepared_statement(
        &self,
        query: ActionCreatePreparedStatementRequest,
        request: Request<Action>,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        Self::admit(&request)?;
        let schema = Self::schema(&query.query)?;
        let IpcMessage(dataset_schema) = SchemaAsIpc::new(&schema, &Default::default()).try_into().unwrap();
        self.open_statements.fetch_add(1, Ordering::SeqCst);
        Ok(ActionCreatePreparedStatementResult {
            prepared_statement_handle: query.query.into(),
            dataset_schema: if schema.fields().is_empty() { Bytes::new() } else { dataset_schema },
            parameter_schema: Bytes::new(),
        })
    }

    async fn do_action_close_prepared_statement(
        &self,
        _query: ActionClosePreparedStatementRequest,
        _request: Request<Action>,
    ) -> Result<(), Status> {
        self.open_statements.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    }

    async fn get_flight_info_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        _request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let sql = String::from_utf8(query.prepared_statement_handle.to_vec()).unwrap();
        let endpoints = if sql == "numbers" { vec!["0".to_string(), "10".to_string()] } else { vec![sql.clone()] };
        Ok(Response::new(Self::info(&Self::schema(&sql)?, &endpoints)))
    }

    async fn get_flight_info_catalogs(
        &self,
        _query: CommandGetCatalogs,
        _request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let schema = Schema::new(vec![Field::new("catalog_name", DataType::Utf8, false)]);
        Ok(Response::new(Self::info(&schema, &["catalogs".to_string()])))
    }

    async fn get_flight_info_tables(
        &self,
        query: CommandGetTables,
        _request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        assert_eq!((query.table_name_filter_pattern.as_deref(), query.include_schema), (Some("orders"), true));
        Ok(Response::new(Self::info(&tables().schema(), &["tables".to_string()])))
    }

    async fn do_get_fallback(
        &self,
        request: Request<Ticket>,
        _message: Any,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        Err(Status::internal(format!("{:?}", request.into_inner())))
    }

    async fn do_put_prepared_statement_update(
        &self,
        query: CommandPreparedStatementUpdate,
        _request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        Ok(if query.prepared_statement_handle == "insert" { 3 } else { 0 })
    }

    async fn do_action_fallback(
        &self,
        request: Request<Action>,
    ) -> Result<Response<<Self as FlightService>::DoActionStream>, Status> {
        Self::admit(&request)?;
        let action = request.into_inner();
        let body = match action.r#type.as_str() {
            "SetSessionOptions" => {
                let set = SetSessionOptionsRequest::decode(action.body).unwrap().session_options;
                let refused = set.contains_key("nope");
                if !refused {
                    self.options.lock().unwrap().extend(set);
                }
                let errors = BTreeMap::from([("nope".to_string(), messages::OptionError { value: 1 })]);
                SetSessionOptionsResult { errors: if refused { errors } else { BTreeMap::new() } }.encode_to_vec()
            }
            "GetSessionOptions" => {
                GetSessionOptionsResult { session_options: self.options.lock().unwrap().clone() }.encode_to_vec()
            }
            "CancelFlightInfo" => {
                self.cancelled.fetch_add(1, Ordering::SeqCst);
                Vec::new()
            }
            "CloseSession" => Vec::new(),
            other => return Err(Status::unimplemented(other)),
        };
        Ok(Response::new(stream::iter([Ok(arrow_flight::Result::new(body))]).boxed()))
    }

    async fn register_sql_info(&self, _id: i32, _result: &SqlInfo) {}
}

/// Answers `DoGet` itself, since the tickets here are plain words; all else is Flight SQL.
#[derive(Clone)]
struct PlainTickets(FakeServer);

#[tonic::async_trait]
impl FlightService for PlainTickets {
    type HandshakeStream = <FakeServer as FlightService>::HandshakeStream;
    type ListFlightsStream = <FakeServer as FlightService>::ListFlightsStream;
    type DoGetStream = <FakeServer as FlightService>::DoGetStream;
    type DoPutStream = <FakeServer as FlightService>::DoPutStream;
    type DoActionStream = <FakeServer as FlightService>::DoActionStream;
    type ListActionsStream = <FakeServer as FlightService>::ListActionsStream;
    type DoExchangeStream = <FakeServer as FlightService>::DoExchangeStream;

    async fn handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        self.0.handshake(request).await
    }

    async fn list_flights(
        &self,
        request: Request<arrow_flight::Criteria>,
    ) -> Result<Response<Self::ListFlightsStream>, Status> {
        self.0.list_flights(request).await
    }

    async fn get_flight_info(&self, request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        FakeServer::admit(&request)?;
        self.0.get_flight_info(request).await
    }

    async fn poll_flight_info(
        &self,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<arrow_flight::PollInfo>, Status> {
        self.0.poll_flight_info(request).await
    }

    async fn get_schema(
        &self,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<arrow_flight::SchemaResult>, Status> {
        self.0.get_schema(request).await
    }

    async fn do_get(&self, request: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        FakeServer::admit(&request)?;
        let ticket = request.into_inner().ticket;
        let batch = match ticket.as_ref() {
            b"tables" => tables(),
            b"catalogs" => {
                let names: ArrayRef = Arc::new(arrow::array::StringArray::from(vec!["memory", "tereza"]));
                RecordBatch::try_from_iter(vec![("catalog_name", names)]).unwrap()
            }
            b"hang" => return Ok(Response::new(stream::pending().boxed())),
            first => {
                let first: i64 = std::str::from_utf8(first).unwrap().parse().unwrap();
                numbers(first..first + 2)
            }
        };
        let messages = FlightDataEncoderBuilder::new().with_schema(batch.schema()).build(stream::iter([Ok(batch)]));
        Ok(Response::new(messages.map_err(Status::from).boxed()))
    }

    async fn do_put(
        &self,
        request: Request<Streaming<arrow_flight::FlightData>>,
    ) -> Result<Response<Self::DoPutStream>, Status> {
        FakeServer::admit(&request)?;
        self.0.do_put(request).await
    }

    async fn do_action(&self, request: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        self.0.do_action(request).await
    }

    async fn list_actions(
        &self,
        request: Request<arrow_flight::Empty>,
    ) -> Result<Response<Self::ListActionsStream>, Status> {
        self.0.list_actions(request).await
    }

    async fn do_exchange(
        &self,
        request: Request<Streaming<arrow_flight::FlightData>>,
    ) -> Result<Response<Self::DoExchangeStream>, Status> {
        self.0.do_exchange(request).await
    }
}

/// A server on a free port, and its address.
async fn serve() -> (FakeServer, String) {
    let server = FakeServer::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let service = FlightServiceServer::new(PlainTickets(server.clone()));
    tokio::spawn(Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener)));
    (server, address)
}

async fn connect(url: &str) -> Result<RemoteQueryService> {
    RemoteQueryService::connect(Target::parse(url, None, None)?).await
}

async fn session() -> (FakeServer, RemoteQueryService, SessionId) {
    let (server, address) = serve().await;
    let service = connect(&format!("grpc://ana:s%3Aecret@{address}")).await.unwrap();
    let defaults = SessionDefaults { catalog: Some("memory".into()), ..SessionDefaults::default() };
    let session = service.open_session("somebody", defaults).await.unwrap();
    (server, service, session)
}

#[tokio::test]
async fn rows_of_all_endpoints_come_in_order() {
    let (server, service, session) = session().await;
    let query = service.submit(&session, Statement::new("numbers")).await.unwrap();
    assert_eq!((query.kind(), query.schema()), (StatementKind::Query, numbers(0..1).schema()));
    let progress = query.progress();
    assert_eq!(query.collect().await.unwrap(), [numbers(0..2), numbers(10..12)]);
    assert_eq!(progress.read().rows, 4);
    assert_eq!(server.open_statements.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn an_update_tells_its_rows_and_a_command_tells_nothing() {
    let (server, service, session) = session().await;
    let insert = service.submit(&session, Statement::new("insert")).await.unwrap();
    assert_eq!(insert.kind(), StatementKind::Update);
    assert_eq!(insert.run().await.unwrap(), 3);
    let create = service.submit(&session, Statement::new("create")).await.unwrap();
    assert!(create.collect().await.unwrap().is_empty());
    assert_eq!(server.open_statements.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn an_error_of_the_server_keeps_its_place_and_hint() {
    let (_server, service, session) = session().await;
    let error = service.submit(&session, Statement::new("oh no")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(error.render("oh no"), "unexpected word (line 1, column 3); try numbers\n  oh no\n    ^");
}

#[tokio::test]
async fn cancelling_ends_the_rows_and_tells_the_server() {
    let (server, service, session) = session().await;
    let mut query = service.submit(&session, Statement::new("hang")).await.unwrap();
    let id = query.id().clone();
    let (ended, cancelled) = tokio::join!(query.next(), service.cancel(&session, &id));
    cancelled.unwrap();
    assert_eq!(ended.unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
    assert!(query.next().await.is_none());
    drop(query);
    assert_eq!(server.cancelled.load(Ordering::SeqCst), 1);
    assert_eq!(server.open_statements.load(Ordering::SeqCst), 0);
    assert_eq!(service.cancel(&session, &id).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn options_travel_both_ways() {
    let (_server, service, session) = session().await;
    service.set_option(&session, "schema", "sales").await.unwrap();
    let options = service.options(&session).await.unwrap();
    assert_eq!(options, [("catalog".into(), "memory".into()), ("schema".into(), "sales".into())]);
    let error = service.set_option(&session, "nope", "1").await.unwrap_err();
    assert_eq!(error.to_string(), "the server has no option 'nope'");
}

#[tokio::test]
async fn names_and_columns_are_listed() {
    let (_server, service, session) = session().await;
    assert_eq!(service.catalogs(&session).await.unwrap(), ["memory", "tereza"]);
    let filter = TableFilter { table_pattern: Some("orders".into()), with_columns: true, ..TableFilter::default() };
    let tables = service.tables(&session, &filter).await.unwrap();
    assert_eq!((tables.len(), tables[0].table.as_str(), tables[0].kind.as_str()), (1, "orders", "TABLE"));
    assert_eq!(tables[0].columns.as_ref().unwrap().field(0).name(), "o_id");
}

#[tokio::test]
async fn a_closed_session_is_gone() {
    let (_server, service, session) = session().await;
    service.close_session(&session).await.unwrap();
    assert_eq!(service.options(&session).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_wrong_password_is_refused_and_not_shown() {
    let (_server, address) = serve().await;
    let service = connect(&format!("http://ana:guessed@{address}")).await.unwrap();
    let error = service.open_session("ana", SessionDefaults::default()).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Unauthenticated, "wrong password"));
    assert!(!format!("{service:?}").contains("guessed"));
}

#[tokio::test]
async fn nobody_at_the_address_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let error = connect(&format!("http://{address}")).await.unwrap_err();
    assert!(is_unreachable(&error));
    assert!(error.message().contains(&address), "{error}");
}

#[test]
fn a_url_is_read_or_refused_without_showing_its_password() {
    let address =
        |url: &str| Target::parse(url, None, None).map(|target| (target.address, target.user, target.password));
    assert_eq!(address("http://h").unwrap().0, "h:32010");
    assert_eq!(address("grpc://[::1]:5/").unwrap().0, "[::1]:5");
    let (_, user, password) = address("http://a%40b:p%2Fw@h:1").unwrap();
    assert_eq!((user.as_deref(), password.as_str()), (Some("a@b"), "p/w"));
    for wrong in
        ["ftp://u:hidden@h", "http://u:hidden@h/path", "localhost:32010", "http://u:hidden@:x", "https://u:hidden@h"]
    {
        let error = address(wrong).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{wrong}");
        assert!(!error.to_string().contains("hidden"), "{error}");
    }
}

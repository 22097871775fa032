//! The gateway as clients see it: a real server on the loopback interface, `arrow-flight`'s client, a fake engine.

mod fake;
mod limits;
mod sessions;

use std::net::SocketAddr;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema, UInt32Type};
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::sql::{
    Any, CommandGetCatalogs, CommandGetDbSchemas, CommandGetExportedKeys, CommandGetImportedKeys,
    CommandGetPrimaryKeys, CommandGetTables, CommandGetXdbcTypeInfo, CommandPreparedStatementQuery,
    CommandStatementIngest, CommandStatementQuery, ProstMessageExt, SqlInfo, TableDefinitionOptions, TableExistsOption,
    TableNotExistOption,
};
use arrow_flight::{
    Action, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, Criteria, FlightData, FlightDescriptor,
    FlightInfo, IpcMessage, PollInfo, RenewFlightEndpointRequest, Ticket,
};
use futures::{StreamExt, TryStreamExt, stream};
use prost::Message;
use tereza_engine::query::{IfExists, IfNotExists};
use tokio::task::JoinHandle;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use super::*;
use fake::Fake;

/// A wait that is too long for any test.
const PATIENCE: Duration = Duration::from_secs(10);

struct Server {
    address: SocketAddr,
    fake: Arc<Fake>,
    shutdown: CancellationToken,
    served: JoinHandle<Result<()>>,
}

impl Server {
    async fn start(settings: Settings) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (fake, shutdown) = (Arc::new(Fake::default()), CancellationToken::new());
        let served = tokio::spawn(serve(listener, Arc::clone(&fake) as _, settings, shutdown.clone()));
        Self { address, fake, shutdown, served }
    }

    async fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.address)).unwrap().connect().await.unwrap()
    }

    async fn client(&self) -> FlightSqlServiceClient<Channel> {
        FlightSqlServiceClient::new(self.channel().await)
    }

    async fn flight(&self) -> FlightServiceClient<Channel> {
        FlightServiceClient::new(self.channel().await)
    }

    /// Waits until nothing runs in the engine.
    async fn idle(&self) {
        eventually("the engine to be idle", || self.fake.live() == 0).await;
    }
}

async fn eventually(what: &str, done: impl Fn() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    assert!(waited.await.is_ok(), "waited in vain for {what}");
}

fn ticket_of(info: &FlightInfo) -> Ticket {
    assert_eq!(info.endpoint.len(), 1);
    assert!(info.endpoint[0].location.is_empty());
    info.endpoint[0].ticket.clone().unwrap()
}

/// Fetches a result and checks that it has the announced schema.
async fn fetch(client: &mut FlightSqlServiceClient<Channel>, info: FlightInfo) -> Vec<RecordBatch> {
    let mut rows = client.do_get(ticket_of(&info)).await.unwrap();
    let mut batches = Vec::new();
    while let Some(batch) = rows.next().await {
        batches.push(batch.unwrap());
    }
    let announced = Arc::new(info.try_decode_schema().unwrap());
    assert_eq!(rows.schema().unwrap(), &announced);
    assert!(batches.iter().all(|batch| batch.schema() == announced));
    batches
}

async fn numbers(client: &mut FlightSqlServiceClient<Channel>, info: FlightInfo) -> Vec<i64> {
    let batches = fetch(client, info).await;
    batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
}

async fn texts(client: &mut FlightSqlServiceClient<Channel>, info: FlightInfo) -> Vec<String> {
    let batches = fetch(client, info).await;
    batches.iter().flat_map(|batch| batch.column(0).as_string::<i32>().iter().flatten().map(str::to_owned)).collect()
}

async fn text(client: &mut FlightSqlServiceClient<Channel>, sql: &str) -> String {
    let info = client.execute(sql.to_owned(), None).await.unwrap();
    texts(client, info).await.remove(0)
}

fn code(error: FlightError) -> (Code, String) {
    match error {
        FlightError::Tonic(status) => (status.code(), status.message().to_owned()),
        other => panic!("not a status: {other}"),
    }
}

fn query(sql: &str) -> FlightDescriptor {
    let command = CommandStatementQuery { query: sql.to_owned(), transaction_id: None };
    FlightDescriptor::new_cmd(command.as_any().encode_to_vec())
}

fn action(name: &str, body: impl Message) -> Action {
    Action { r#type: name.to_owned(), body: body.encode_to_vec().into() }
}

async fn act<M: Message + Default>(
    client: &mut FlightServiceClient<Channel>,
    action: Action,
) -> Result<M, tonic::Status> {
    let answer = client.do_action(action).await?.into_inner().message().await?.expect("an answer");
    Ok(M::decode(answer.body).unwrap())
}

fn parameters(values: Vec<i64>) -> RecordBatch {
    RecordBatch::try_from_iter([("p", Arc::new(Int64Array::from(values)) as ArrayRef)]).unwrap()
}

#[tokio::test]
async fn a_statement_gives_its_rows() {
    let server = Server::start(Settings::default()).await;
    let mut client = server.client().await;
    let info = client.execute("numbers 2500".into(), None).await.unwrap();
    assert_eq!(numbers(&mut client, info).await, (0..2500).collect::<Vec<_>>());
    server.idle().await;
}

#[tokio::test]
async fn results_have_plain_types_with_their_nullability_and_metadata() {
    let server = Server::start(Settings::default()).await;
    let mut client = server.client().await;
    let info = client.execute("typed".into(), None).await.unwrap();
    let batches = fetch(&mut client, info).await;
    let expected = Schema::new_with_metadata(
        vec![
            Field::new("view", DataType::Utf8, false),
            Field::new("bytes", DataType::Binary, true),
            Field::new("coded", DataType::Utf8, true),
        ],
        [("made".to_owned(), "up".to_owned())].into(),
    );
    assert_eq!(batches[0].schema().as_ref(), &expected);
    assert_eq!(batches[0].column(0).as_string::<i32>().value(1), "longer than twelve bytes");

    let server = Server::start(Settings { views: true, ..Settings::default() }).await;
    let mut client = server.client().await;
    let info = client.execute("typed".into(), None).await.unwrap();
    let batches = fetch(&mut client, info).await;
    assert_eq!(batches[0].column(0).as_string_view().value(1), "longer than twelve bytes");
}

#[tokio::test]
async fn errors_come_with_their_code_place_and_sqlstate() {
    let server = Server::start(Settings::default()).await;
    let mut client = server.flight().await;
    let status = client.get_flight_info(query("selec 1")).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status.message(), "unexpected word 'selec' (line 1, column 1)");
    assert_eq!(status.metadata().get("sqlstate").unwrap(), "42000");

    let info = client.get_flight_info(query("fail")).await.unwrap().into_inner();
    let messages = client.do_get(ticket_of(&info)).await.unwrap().into_inner();
    let rows = FlightRecordBatchStream::new_from_flight_data(messages.map_err(FlightError::from));
    let rows: Vec<_> = rows.collect().await;
    assert_eq!(rows.len(), 2);
    let failure = rows.into_iter().next_back().unwrap().unwrap_err();
    assert_eq!(code(failure), (Code::Unavailable, "the bucket went away".to_owned()));
}

#[tokio::test]
async fn updates_and_commands_run_by_put_and_by_get() {
    let server = Server::start(Settings::default()).await;
    let mut client = server.client().await;
    assert_eq!(client.execute_update("create".into(), None).await.unwrap(), 0);
    assert_eq!(server.fake.commands.load(std::sync::atomic::Ordering::SeqCst), 1);
    // As ADBC runs DDL when it is asked for a result.
    let info = client.execute("create".into(), None).await.unwrap();
    assert!(fetch(&mut client, info).await.is_empty());
    assert_eq!(server.fake.commands.load(std::sync::atomic::Ordering::SeqCst), 2);
    assert_eq!(client.execute_update("numbers 5".into(), None).await.unwrap(), -1);
    server.idle().await;
}

#[tokio::test]
async fn a_prepared_query_runs_once_for_each_row_of_parameters() {
    let server = Server::start(Settings::default()).await;
    let mut client = server.client().await;
    let mut prepared = client.prepare("echo ?".into(), None).await.unwrap();
    assert_eq!(prepared.parameter_schema().unwrap().field(0).data_type(), &DataType::Utf8);
    assert_eq!(prepared.dataset_schema().unwrap().field(0).name(), "n");
    prepared.set_parameters(parameters(vec![7])).unwrap();
    let info = prepared.execute().await.unwrap();
    assert_eq!(numbers(&mut client, info).await, [7]);
    prepared.set_parameters(parameters(vec![3, 1, 2])).unwrap();
    let info = prepared.execute().await.unwrap();
    assert_eq!(numbers(&mut client, info).await, [3, 1, 2]);
    prepared.set_parameters(parameters(vec![])).unwrap();
    let info = prepared.execute().await.unwrap();
    assert_eq!(numbers(&mut client, info).await, Vec::<i64>::new());

    let two = RecordBatch::try_from_iter([
        ("a", Arc::new(Int64Array::from(vec![1])) as ArrayRef),
        ("b", Arc::new(Int64Array::from(vec![2])) as ArrayRef),
    ])
    .unwrap();
    prepared.set_parameters(two).unwrap();
    let (code, message) = match prepared.execute().await.unwrap_err() {
        FlightError::Tonic(status) => (status.code(), status.message().to_owned()),
        other => panic!("{other}"),
    };
    assert_eq!((code, message.as_str()), (Code::InvalidArgument, "the statement has 1 parameters, 2 were bound"));
    prepared.close().await.unwrap();
    server.idle().await;
}

#[tokio::test]
async fn a_prepared_update_runs_once_for_each_row_however_it_is_bound() {
    let server = Server::start(Settings::default()).await;
    let mut client = server.client().await;
    let mut prepared = client.prepare("insert ?".into(), None).await.unwrap();
    // What JDBC drivers take for an update where they do not know `is_update`.
    assert!(prepared.dataset_schema().unwrap().fields().is_empty());
    // arrow-rs binds first and updates then.
    prepared.set_parameters(parameters(vec![1, 2])).unwrap();
    assert_eq!(prepared.execute_update().await.unwrap(), 2);

    // JDBC and Go send the rows with the update.
    let mut flight = server.flight().await;
    let body =
        arrow_flight::sql::ActionCreatePreparedStatementRequest { query: "insert ?".into(), transaction_id: None };
    let answer: Any = act(&mut flight, action("CreatePreparedStatement", body.as_any())).await.unwrap();
    assert!(answer.type_url.ends_with(".ActionCreatePreparedStatementResult"));
    let result = messages::CreatePreparedStatementResult::decode(answer.value).unwrap();
    assert_eq!(result.is_update, Some(true));
    let parameters_wanted = Schema::try_from(IpcMessage(result.parameter_schema)).unwrap();
    assert_eq!(parameters_wanted.field(0).data_type(), &DataType::Int64);
    let command = arrow_flight::sql::CommandPreparedStatementUpdate {
        prepared_statement_handle: result.prepared_statement_handle.clone(),
    };
    let count = put(&mut flight, command.as_any(), vec![parameters(vec![3]), parameters(vec![4, 5])]).await.unwrap();
    assert_eq!(count, 3);
    assert_eq!(*server.fake.inserted.lock(), [1, 2, 3, 4, 5]);
    // A row that fails names itself.
    let text: ArrayRef = Arc::new(StringArray::from(vec!["x", "y"]));
    let text = RecordBatch::try_from_iter([("p", text)]).unwrap();
    let status = put(&mut flight, command.as_any(), vec![text]).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().starts_with("row 1 of 2 rows of parameters"), "{status}");
    // Without rows it runs once, and the engine misses the parameter.
    let status = put(&mut flight, command.as_any(), vec![]).await.unwrap_err();
    assert_eq!(status.message(), "a parameter is missing");
}

/// Puts rows and returns the count of the answer.
async fn put(
    client: &mut FlightServiceClient<Channel>,
    command: Any,
    batches: Vec<RecordBatch>,
) -> Result<i64, tonic::Status> {
    let descriptor = FlightDescriptor::new_cmd(command.encode_to_vec());
    let schema = batches.first().map_or_else(|| Arc::new(Schema::empty()), RecordBatch::schema);
    let messages: Vec<FlightData> = arrow_flight::encode::FlightDataEncoderBuilder::new()
        .with_flight_descriptor(Some(descriptor))
        .with_schema(schema)
        .build(stream::iter(batches.into_iter().map(Ok)))
        .try_collect()
        .await
        .unwrap();
    let answer = client.do_put(stream::iter(messages)).await?.into_inner().message().await?.expect("an answer");
    Ok(arrow_flight::sql::DoPutUpdateResult::decode(answer.app_metadata).unwrap().record_count)
}

#[tokio::test]
async fn the_schema_of_a_prepared_query_follows_its_parameters() {
    let server = Server::start(Settings::default()).await;
    let mut client = server.flight().await;
    let body = arrow_flight::sql::ActionCreatePreparedStatementRequest { query: "echo ?".into(), transaction_id: None };
    let answer: Any = act(&mut client, action("CreatePreparedStatement", body.as_any())).await.unwrap();
    let result = messages::CreatePreparedStatementResult::decode(answer.value).unwrap();
    assert_eq!(result.is_update, Some(false));
    let command = CommandPreparedStatementQuery { prepared_statement_handle: result.prepared_statement_handle };
    let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
    let schema = client.get_schema(descriptor).await.unwrap().into_inner();
    assert_eq!(Schema::try_from(schema).unwrap().field(0).name(), "n");
    // Older clients fetch a prepared statement by its command.
    let ticket = Ticket::new(command.as_any().encode_to_vec());
    let status = client.do_get(ticket).await.unwrap_err();
    assert_eq!(status.message(), "a parameter is missing");
}

#[tokio::test]
async fn rows_are_ingested_as_they_come() {
    let server = Server::start(Settings::default()).await;
    let mut client = server.client().await;
    let mut command = CommandStatementIngest {
        table_definition_options: Some(TableDefinitionOptions {
            if_not_exist: TableNotExistOption::Create as i32,
            if_exists: TableExistsOption::Append as i32,
        }),
        table: "t".into(),
        schema: Some("s".into()),
        catalog: Some(String::new()),
        temporary: true,
        ..CommandStatementIngest::default()
    };
    let batches = (0..50).map(|n| Ok(parameters(vec![n; 1000])));
    assert_eq!(client.execute_ingest(command.clone(), stream::iter(batches)).await.unwrap(), 50_000);
    {
        let ingested = server.fake.ingested.lock();
        let (target, schema, batches) = &ingested[0];
        assert_eq!(
            (target.catalog.as_deref(), target.schema.as_deref(), target.table.as_str()),
            (None, Some("s"), "t")
        );
        assert_eq!(
            (target.if_not_exists, target.if_exists, target.temporary),
            (IfNotExists::Create, IfExists::Append, true)
        );
        assert_eq!(schema, &parameters(vec![]).schema());
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 50_000);
    }
    command.options.insert("fast".into(), "yes".into());
    let rows = || stream::iter([Ok(parameters(vec![1]))]);
    let refusal = client.execute_ingest(command.clone(), rows()).await.unwrap_err();
    assert_eq!(code(refusal), (Code::Unimplemented, "the ingest option 'fast' is not supported; no option is".into()));
    command.options.clear();
    command.table_definition_options = Some(TableDefinitionOptions::default());
    let refusal = client.execute_ingest(command, rows()).await.unwrap_err();
    assert_eq!(code(refusal).0, Code::InvalidArgument);
}

#[tokio::test]
async fn the_catalog_is_listed_with_filters() {
    let server = Server::start(Settings::default()).await;
    let mut client = server.client().await;
    let info = client.get_catalogs().await.unwrap();
    assert_eq!(texts(&mut client, info).await, ["memory", "tereza"]);
    let info = client
        .get_db_schemas(CommandGetDbSchemas {
            catalog: Some("tereza".into()),
            db_schema_filter_pattern: Some("d%".into()),
        })
        .await
        .unwrap();
    let batches = fetch(&mut client, info).await;
    assert_eq!(batches[0].num_rows(), 1);
    assert_eq!(batches[0].column_by_name("db_schema_name").unwrap().as_string::<i32>().value(0), "default");

    let command = CommandGetTables {
        catalog: None,
        db_schema_filter_pattern: None,
        table_name_filter_pattern: Some("%r%".into()),
        table_types: vec!["TABLE".into()],
        include_schema: true,
    };
    let info = client.get_tables(command.clone()).await.unwrap();
    let batches = fetch(&mut client, info).await;
    assert_eq!(batches[0].column_by_name("table_name").unwrap().as_string::<i32>().value(0), "orders");
    assert_eq!(batches[0].num_rows(), 1);
    let columns = batches[0].column_by_name("table_schema").unwrap().as_binary::<i32>().value(0).to_vec();
    let columns = Schema::try_from(IpcMessage(columns.into())).unwrap();
    assert_eq!(columns.field(0).data_type(), &DataType::Utf8);
    let info = client.get_tables(CommandGetTables { include_schema: false, ..command }).await.unwrap();
    assert_eq!(fetch(&mut client, info).await[0].num_columns(), 4);
    let info = client.get_table_types().await.unwrap();
    assert_eq!(texts(&mut client, info).await, ["LOCAL TEMPORARY", "SYSTEM TABLE", "TABLE", "VIEW"]);
}

#[tokio::test]
async fn keys_are_empty_with_their_columns() {
    let server = Server::start(Settings::default()).await;
    let mut client = server.client().await;
    let (catalog, db_schema, table) = (None, None, "orders".to_owned());
    let primary =
        CommandGetPrimaryKeys { catalog: catalog.clone(), db_schema: db_schema.clone(), table: table.clone() };
    let info = client.get_primary_keys(primary).await.unwrap();
    assert_eq!(info.clone().try_decode_schema().unwrap().field(5).name(), "key_sequence");
    assert_eq!(fetch(&mut client, info).await.iter().map(RecordBatch::num_rows).sum::<usize>(), 0);
    let imported =
        CommandGetImportedKeys { catalog: catalog.clone(), db_schema: db_schema.clone(), table: table.clone() };
    let info = client.get_imported_keys(imported).await.unwrap();
    let schema = info.clone().try_decode_schema().unwrap();
    assert_eq!(schema.field(12), &Field::new("delete_rule", DataType::UInt8, false));
    fetch(&mut client, info).await;
    let exported = CommandGetExportedKeys { catalog, db_schema, table };
    let info = client.get_exported_keys(exported).await.unwrap();
    assert_eq!(info.clone().try_decode_schema().unwrap(), schema);
    fetch(&mut client, info).await;
}

#[tokio::test]
async fn the_server_describes_itself() {
    let server = Server::start(Settings::default()).await;
    let mut client = server.client().await;
    let info = client.get_sql_info(vec![SqlInfo::SqlIdentifierQuoteChar, SqlInfo::SqlNumericFunctions]).await.unwrap();
    let some = fetch(&mut client, info).await;
    assert_eq!(some[0].column(0).as_primitive::<UInt32Type>().values().to_vec(), [504, 509]);
    let values = some[0].column(1).as_union();
    assert_eq!(values.value(0).as_string::<i32>().value(0), "\"");
    assert_eq!(values.value(1).as_list::<i32>().value(0).as_string::<i32>().value(0), "abs");
    let info = client.get_sql_info(vec![]).await.unwrap();
    let all = fetch(&mut client, info).await;
    let keys = all[0].column(0).as_primitive::<UInt32Type>().values().to_vec();
    for key in (500..=576).chain([0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 100, 101]) {
        assert!(keys.contains(&key), "{key} is missing");
    }
    let info = client.get_xdbc_type_info(CommandGetXdbcTypeInfo { data_type: Some(12) }).await.unwrap();
    assert_eq!(texts(&mut client, info).await, ["VARCHAR"]);
    let info = client.get_xdbc_type_info(CommandGetXdbcTypeInfo { data_type: None }).await.unwrap();
    let types = fetch(&mut client, info).await;
    assert!(types[0].num_rows() > 15);
    assert!(types[0].column(1).as_primitive::<Int32Type>().values().is_sorted());
}

#[tokio::test]
async fn get_schema_is_the_schema_of_the_data() {
    let server = Server::start(Settings::default()).await;
    let mut client = server.flight().await;
    for descriptor in [query("typed"), FlightDescriptor::new_cmd(CommandGetCatalogs {}.as_any().encode_to_vec())] {
        let schema = client.get_schema(descriptor.clone()).await.unwrap().into_inner();
        let info = client.get_flight_info(descriptor).await.unwrap().into_inner();
        assert_eq!(Schema::try_from(schema).unwrap(), info.try_decode_schema().unwrap());
    }
}

#[tokio::test]
async fn what_is_not_supported_says_so() {
    let server = Server::start(Settings::default()).await;
    let mut client = server.client().await;
    let (refused, message) = code(client.begin_transaction().await.unwrap_err());
    assert_eq!(refused, Code::Unimplemented);
    assert!(message.contains("transactions"), "{message}");
    let refusal = client.execute("numbers 1".into(), Some("t".into())).await.unwrap_err();
    assert_eq!(code(refusal).0, Code::Unimplemented);
    let mut flight = server.flight().await;
    let status = flight.list_flights(Criteria::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    assert!(status.message().contains("ListFlights"));
    let status = flight.do_exchange(stream::iter([FlightData::new()])).await.unwrap_err();
    assert!(status.message().contains("DoExchange"));
    let status = flight.do_action(action("Dance", ())).await.unwrap_err();
    assert!(status.message().contains("'Dance'"));
    let actions: Vec<_> =
        flight.list_actions(arrow_flight::Empty {}).await.unwrap().into_inner().try_collect().await.unwrap();
    assert!(actions.iter().any(|action| action.r#type == "CancelFlightInfo"));
}

#[tokio::test]
async fn a_statement_is_cancelled_while_it_waits_and_while_it_streams() {
    let server = Server::start(Settings::default()).await;
    let mut client = server.flight().await;
    let cancel = |info: &FlightInfo| action("CancelFlightInfo", CancelFlightInfoRequest::new(info.clone()));

    let info = client.get_flight_info(query("forever")).await.unwrap().into_inner();
    let result: CancelFlightInfoResult = act(&mut client, cancel(&info)).await.unwrap();
    assert_eq!(result.status(), CancelStatus::Cancelled);
    server.idle().await;
    assert_eq!(client.do_get(ticket_of(&info)).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(act::<CancelFlightInfoResult>(&mut client, cancel(&info)).await.unwrap_err().code(), Code::NotFound);

    let info = client.get_flight_info(query("forever")).await.unwrap().into_inner();
    let mut rows = client.do_get(ticket_of(&info)).await.unwrap().into_inner();
    rows.message().await.unwrap().expect("the schema");
    let request = arrow_flight::sql::ActionCancelQueryRequest { info: info.encode_to_vec().into() };
    let result: Any = act(&mut client, action("CancelQuery", request.as_any())).await.unwrap();
    let result: arrow_flight::sql::ActionCancelQueryResult = result.unpack().unwrap().unwrap();
    assert_eq!(result.result, CancelStatus::Cancelled as i32);
    assert_eq!(rows.message().await.unwrap_err().code(), Code::Cancelled);
    server.idle().await;
}

#[tokio::test]
async fn a_poll_starts_the_statement_and_ends_when_it_is_ready() {
    let server = Server::start(Settings::default()).await;
    let mut client = server.client().await;
    let mut flight = server.flight().await;
    let poll: PollInfo = flight.poll_flight_info(query("numbers 5")).await.unwrap().into_inner();
    assert!(poll.flight_descriptor.is_none());
    assert_eq!(numbers(&mut client, poll.info.unwrap()).await, [0, 1, 2, 3, 4]);

    let poll = flight.poll_flight_info(query("slow")).await.unwrap().into_inner();
    let again = poll.flight_descriptor.expect("it runs");
    assert!(poll.expiration_time.is_some());
    let info = poll.info.unwrap();
    assert!(info.endpoint.is_empty());
    assert_eq!(info.try_decode_schema().unwrap().field(0).name(), "n");
    server.fake.go_on.cancel();
    let poll = flight.poll_flight_info(again).await.unwrap().into_inner();
    assert!(poll.flight_descriptor.is_none());
    assert_eq!(numbers(&mut client, poll.info.unwrap()).await, [0, 1, 2]);

    // An endless result is ready when the buffer is full.
    let mut poll = flight.poll_flight_info(query("endless")).await.unwrap().into_inner();
    while let Some(again) = poll.flight_descriptor {
        poll = flight.poll_flight_info(again).await.unwrap().into_inner();
    }
    let mut rows = client.do_get(ticket_of(&poll.info.unwrap())).await.unwrap();
    assert_eq!(rows.next().await.unwrap().unwrap().num_rows(), 8192);
    drop(rows);

    let command = CommandGetCatalogs {}.as_any().encode_to_vec();
    let poll = flight.poll_flight_info(FlightDescriptor::new_cmd(command)).await.unwrap().into_inner();
    assert_eq!(texts(&mut client, poll.info.unwrap()).await, ["memory", "tereza"]);
    server.idle().await;
}

#[tokio::test]
async fn a_polled_statement_fails_in_the_poll_and_can_be_cancelled() {
    let server = Server::start(Settings::default()).await;
    let mut flight = server.flight().await;
    let status = flight.poll_flight_info(query("fail")).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "the bucket went away"));

    let poll = flight.poll_flight_info(query("forever")).await.unwrap().into_inner();
    let request = CancelFlightInfoRequest::new(poll.info.unwrap());
    let result: CancelFlightInfoResult = act(&mut flight, action("CancelFlightInfo", request)).await.unwrap();
    assert_eq!(result.status(), CancelStatus::Cancelled);
    let status = flight.poll_flight_info(poll.flight_descriptor.unwrap()).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    server.idle().await;
}

#[tokio::test]
async fn an_endpoint_is_renewed() {
    let server = Server::start(Settings::default()).await;
    let mut flight = server.flight().await;
    let info = flight.get_flight_info(query("numbers 1")).await.unwrap().into_inner();
    let request = RenewFlightEndpointRequest::new(info.endpoint[0].clone());
    let endpoint: arrow_flight::FlightEndpoint =
        act(&mut flight, action("RenewFlightEndpoint", request)).await.unwrap();
    assert_eq!(endpoint.ticket, info.endpoint[0].ticket);
    assert!(endpoint.expiration_time.is_some());
}

#[tokio::test]
async fn a_result_larger_than_a_message_arrives_in_messages_that_every_client_takes() {
    let server = Server::start(Settings::default()).await;
    let mut client = server.client().await;
    let info = client.execute("wide 20000".into(), None).await.unwrap();
    let batches = fetch(&mut client, info).await;
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 20_000);
    assert!(batches.len() >= 10, "{}", batches.len());
}

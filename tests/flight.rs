//! Flight SQL over the real engine, where the unmodified clients of `clients` do not look: schemas of every type, prepared
//! statements row by row, polling, cancelling, sessions that stay apart.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, DictionaryArray, Int64Array, LargeStringArray, RecordBatch};
use arrow::datatypes::{DataType, Int32Type, Int64Type, Schema};
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::sql::{
    Any, CommandStatementIngest, CommandStatementQuery, ProstMessageExt, TableDefinitionOptions, TableExistsOption,
    TableNotExistOption,
};
use arrow_flight::{CancelFlightInfoRequest, CancelStatus, FlightClient, FlightDescriptor, FlightInfo, PollInfo};
use futures::{StreamExt, TryStreamExt, stream};
use prost::Message;
use tonic::transport::{Channel, Endpoint};

use crate::support::{PATIENCE, Server};

/// Runs forever, for our purposes.
const ENDLESS: &str = "select count(*) from generate_series(1, 1000000000000) a where a.value % 7 = 3";

async fn channel(server: &Server) -> Channel {
    let endpoint = Endpoint::from_shared(server.flight_sql.clone()).expect("URL");
    endpoint.connect().await.unwrap_or_else(|error| panic!("{} does not answer: {error}", server.flight_sql))
}

async fn client(server: &Server) -> FlightSqlServiceClient<Channel> {
    FlightSqlServiceClient::new(channel(server).await)
}

fn command(sql: &str) -> FlightDescriptor {
    let command = CommandStatementQuery { query: sql.to_owned(), transaction_id: None };
    let any: Any = command.as_any();
    FlightDescriptor::new_cmd(any.encode_to_vec())
}

/// Fetches a result and checks that its data has the announced schema.
async fn fetch(client: &mut FlightSqlServiceClient<Channel>, info: FlightInfo) -> Vec<RecordBatch> {
    assert_eq!(info.endpoint.len(), 1);
    assert!(info.endpoint[0].location.is_empty());
    let ticket = info.endpoint[0].ticket.clone().expect("ticket");
    let mut rows = client.do_get(ticket).await.expect("rows");
    let mut batches = Vec::new();
    while let Some(batch) = rows.try_next().await.expect("rows") {
        batches.push(batch);
    }
    let announced = info.try_decode_schema().expect("schema");
    assert_eq!(rows.schema().expect("schema").as_ref(), &announced);
    assert!(batches.iter().all(|batch| batch.schema().as_ref() == &announced));
    batches
}

async fn query(client: &mut FlightSqlServiceClient<Channel>, sql: &str) -> Vec<RecordBatch> {
    let info = client.execute(sql.to_owned(), None).await.unwrap_or_else(|error| panic!("{sql}\n{error}"));
    fetch(client, info).await
}

async fn number(client: &mut FlightSqlServiceClient<Channel>, sql: &str) -> i64 {
    let batches = query(client, sql).await;
    batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().iter()).flatten().sum()
}

async fn run(client: &mut FlightSqlServiceClient<Channel>, sql: &str) -> i64 {
    client.execute_update(sql.to_owned(), None).await.unwrap_or_else(|error| panic!("{sql}\n{error}"))
}

fn in_runtime<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().expect("runtime").block_on(test)
}

#[test]
fn every_way_to_a_schema_gives_the_schema_of_the_data() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let server = Server::start(&folder.path().join("data"), &[]);
    in_runtime(async {
        let mut client = client(&server).await;
        let mut flight = FlightClient::new(channel(&server).await);
        for sql in [
            "select 1 as one, 'a' as text, null as nothing, true as flag, 1.5 as half, x'00ff' as bytes",
            "select date '2024-02-29' as day, timestamp '2024-02-29 12:00:00' as instant, interval '1' day as span",
            "select cast(1 as decimal(38, 10)) as exact, cast(2 as smallint) as small, cast(3 as int unsigned) as natural",
            "select make_array('a', 'b') as list, named_struct('x', 'y', 'n', 1) as record, map(['k'], ['v']) as entries",
            "select arrow_cast('v', 'Utf8View') as view, arrow_cast('w', 'BinaryView') as bytes",
            "select arrow_cast('d', 'Dictionary(Int32, Utf8)') as coded, arrow_cast(['l'], 'LargeList(Utf8View)') as wide",
            "select * from tpch.tiny.lineitem limit 10",
            "select count(*) as many, sum(l_quantity) as total, max(l_comment) as last from tpch.tiny.lineitem",
            "select * from information_schema.columns limit 1",
            "select * from tpch.tiny.region where false",
            "explain select 1",
            "show tables",
        ] {
            let schema = flight.get_schema(command(sql)).await.unwrap_or_else(|error| panic!("{sql}\n{error}"));
            let info = client.execute(sql.to_owned(), None).await.unwrap_or_else(|error| panic!("{sql}\n{error}"));
            assert_eq!(info.clone().try_decode_schema().expect("schema"), schema, "{sql}");
            let prepared = client.prepare(sql.to_owned(), None).await.unwrap_or_else(|error| panic!("{sql}\n{error}"));
            // Whether a column is nullable may be known better when the parameters are known.
            let types = |schema: &Schema| -> Vec<(String, DataType)> {
                schema.fields().iter().map(|field| (field.name().clone(), field.data_type().clone())).collect()
            };
            assert_eq!(types(prepared.dataset_schema().expect("schema")), types(&schema), "{sql}");
            for field in schema.flattened_fields() {
                let plain = !matches!(
                    field.data_type(),
                    DataType::Utf8View | DataType::BinaryView | DataType::Dictionary(_, _)
                );
                assert!(plain, "{sql}: {field}");
            }
            fetch(&mut client, info).await;
            prepared.close().await.expect("close");
        }
    });
}

#[test]
fn prepared_statements_run_once_for_each_row_of_parameters() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let server = Server::start(&folder.path().join("data"), &[]);
    in_runtime(async {
        let mut client = client(&server).await;
        run(&mut client, "create table t (id bigint, name string)").await;

        let mut insert = client.prepare("insert into t values (?, ?)".into(), None).await.expect("prepare");
        assert!(insert.dataset_schema().expect("schema").fields().is_empty());
        assert_eq!(insert.parameter_schema().expect("schema").fields().len(), 2);
        let names: ArrayRef = Arc::new(LargeStringArray::from(vec![Some("one"), None, Some("three")]));
        let ids: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
        insert.set_parameters(RecordBatch::try_from_iter([("1", ids), ("2", names)]).expect("batch")).expect("bind");
        assert_eq!(insert.execute_update().await.expect("insert"), 3);
        insert.close().await.expect("close");
        assert_eq!(number(&mut client, "select count(name) from t").await, 2);

        let mut select =
            client.prepare("select id from t where id >= $1 order by id".into(), None).await.expect("prepare");
        let from: ArrayRef = Arc::new(Int64Array::from(vec![3, 2]));
        select.set_parameters(RecordBatch::try_from_iter([("1", from)]).expect("batch")).expect("bind");
        let info = select.execute().await.expect("execute");
        let batches = fetch(&mut client, info).await;
        let ids: Vec<i64> =
            batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
        assert_eq!(ids, [3, 2, 3]);
        let word: ArrayRef = Arc::new(LargeStringArray::from(vec!["not a number"]));
        select.set_parameters(RecordBatch::try_from_iter([("1", word)]).expect("batch")).expect("bind");
        let refused = match select.execute().await {
            Ok(info) => {
                client
                    .do_get(info.endpoint[0].ticket.clone().expect("ticket"))
                    .await
                    .expect("stream")
                    .try_collect::<Vec<_>>()
                    .await
            }
            Err(error) => Err(arrow_flight::error::FlightError::ProtocolError(error.to_string())),
        };
        assert!(refused.is_err());
        assert_eq!(number(&mut client, "select 1").await, 1);
    });
}

#[test]
fn rows_of_any_packing_are_ingested() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let server = Server::start(&folder.path().join("data"), &[]);
    in_runtime(async {
        let mut client = client(&server).await;
        let coded: DictionaryArray<Int32Type> = [Some("x"), None, Some("x"), Some("y")].into_iter().collect();
        let batch = RecordBatch::try_from_iter([
            ("id", Arc::new(Int64Array::from(vec![1, 2, 3, 4])) as ArrayRef),
            ("word", Arc::new(coded) as ArrayRef),
        ])
        .expect("batch");
        let ingest = |if_not_exist: TableNotExistOption, if_exists: TableExistsOption| CommandStatementIngest {
            table_definition_options: Some(TableDefinitionOptions {
                if_not_exist: if_not_exist as i32,
                if_exists: if_exists as i32,
            }),
            table: "ingested".into(),
            ..CommandStatementIngest::default()
        };
        let rows = |times: usize| stream::iter(vec![batch.clone(); times]).map(Ok);
        let (create, fail, append) =
            (TableNotExistOption::Create, TableNotExistOption::Fail, TableExistsOption::Append);
        assert!(client.execute_ingest(ingest(fail, append), rows(1)).await.is_err());
        assert_eq!(client.execute_ingest(ingest(create, append), rows(1000)).await.expect("create"), 4000);
        assert_eq!(client.execute_ingest(ingest(fail, append), rows(1)).await.expect("append"), 4);
        assert!(client.execute_ingest(ingest(create, TableExistsOption::Fail), rows(1)).await.is_err());
        assert_eq!(number(&mut client, "select count(*) from ingested").await, 4004);
        assert_eq!(number(&mut client, "select count(word) from ingested").await, 3003);
        // All or nothing: a client that goes away in the middle leaves the table as it was.
        let unfinished = rows(1).chain(stream::pending());
        let put = client.execute_ingest(ingest(fail, append), unfinished);
        assert!(tokio::time::timeout(Duration::from_millis(500), put).await.is_err());
        assert_eq!(number(&mut client, "select count(*) from ingested").await, 4004);
        assert_eq!(client.execute_ingest(ingest(fail, TableExistsOption::Replace), rows(2)).await.expect("replace"), 8);
        assert_eq!(number(&mut client, "select count(*) from ingested").await, 8);
    });
}

#[test]
fn a_statement_is_polled_and_cancelled() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let server = Server::start(&folder.path().join("data"), &[]);
    in_runtime(async {
        let channel = channel(&server).await;
        let mut flight = FlightClient::new(channel.clone());
        let mut client = FlightSqlServiceClient::new(channel);

        let mut poll: PollInfo =
            flight.poll_flight_info(command("select count(*) from tpch.tiny.orders")).await.expect("poll");
        while let Some(again) = poll.flight_descriptor {
            poll = flight.poll_flight_info(again).await.expect("poll");
        }
        let batches = fetch(&mut client, poll.info.expect("info")).await;
        assert_eq!(batches[0].column(0).as_primitive::<Int64Type>().value(0), 15_000);
        // A statement that fails, fails in a poll.
        let mut next = flight.poll_flight_info(command("select 1 / 0")).await;
        while let Ok(poll) = &next {
            let again = poll.flight_descriptor.clone().expect("a statement that fails was ready");
            next = flight.poll_flight_info(again).await;
        }

        let poll = flight.poll_flight_info(command(ENDLESS)).await.expect("poll");
        assert!(poll.flight_descriptor.is_some());
        let request = CancelFlightInfoRequest::new(poll.info.expect("info"));
        assert_eq!(flight.cancel_flight_info(request).await.expect("cancel").status(), CancelStatus::Cancelled);

        let info = client.execute(ENDLESS.to_owned(), None).await.expect("plan");
        let rows = client.do_get(info.endpoint[0].ticket.clone().expect("ticket")).await.expect("stream");
        assert_eq!(
            flight.cancel_flight_info(CancelFlightInfoRequest::new(info)).await.expect("cancel").status(),
            CancelStatus::Cancelled
        );
        let ended = tokio::time::timeout(PATIENCE, rows.try_collect::<Vec<_>>()).await.expect("it goes on");
        assert!(ended.is_err());
    });
}

#[test]
fn sessions_stay_apart() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let server = Server::start(&folder.path().join("data"), &[]);
    in_runtime(async {
        // Neither token nor cookie: each connection is a session.
        let (mut first, mut second) = (client(&server).await, client(&server).await);
        run(&mut first, "create temporary table mine as select 1 as n").await;
        run(&mut first, "use tpch.tiny").await;
        assert_eq!(number(&mut first, "select count(*) from region").await, 5);
        assert!(second.execute("select * from mine".into(), None).await.is_err());
        assert!(second.execute("select * from region".into(), None).await.is_err());
        // A token carries its session to another connection.
        let mut third = client(&server).await;
        third.handshake("tester", "").await.expect("handshake");
        run(&mut third, "use tpch.tiny").await;
        let mut fourth = client(&server).await;
        fourth.set_token(third.token().expect("token").clone());
        assert_eq!(number(&mut fourth, "select count(*) from nation").await, 25);
    });
}

#[test]
fn users_need_their_password() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let server = Server::start(&folder.path().join("data"), &["--set", "gateway.users.ada=secret"]);
    in_runtime(async {
        let mut client = client(&server).await;
        let refused = client.execute("select 1".into(), None).await.expect_err("no credentials").to_string();
        assert!(refused.contains("password"), "{refused}");
        assert!(client.handshake("ada", "wrong").await.is_err());
        client.handshake("ada", "secret").await.expect("handshake");
        assert_eq!(number(&mut client, "select 1").await, 1);
    });
}

//! What a client cannot do: cost more than its bounds, or bring anything down.

use arrow_flight::sql::{ActionCreatePreparedStatementRequest, CommandPreparedStatementUpdate, CommandStatementUpdate};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::*;

#[tokio::test]
async fn a_client_that_goes_away_cancels_its_statement() {
    let server = Server::start(Settings::default()).await;
    let mut client = server.client().await;
    let info = client.execute("endless".into(), None).await.unwrap();
    let mut rows = client.do_get(ticket_of(&info)).await.unwrap();
    rows.next().await.unwrap().unwrap();
    assert_eq!(server.fake.live(), 1);
    drop(rows);
    server.idle().await;
    // A statement that has nothing to send learns of it too.
    let info = client.execute("forever".into(), None).await.unwrap();
    let rows = client.do_get(ticket_of(&info)).await.unwrap();
    assert_eq!(server.fake.live(), 1);
    drop(rows);
    server.idle().await;
    // The whole connection.
    let info = client.execute("endless".into(), None).await.unwrap();
    let mut rows = client.do_get(ticket_of(&info)).await.unwrap();
    rows.next().await.unwrap().unwrap();
    drop((rows, client));
    server.idle().await;
}

#[tokio::test]
async fn a_client_that_stops_reading_costs_nothing_after_the_timeout() {
    let settings = Settings { stream_idle_timeout_ms: 100, ..Settings::default() };
    let server = Server::start(settings).await;
    let mut client = server.client().await;
    let info = client.execute("endless".into(), None).await.unwrap();
    let mut rows = client.do_get(ticket_of(&info)).await.unwrap();
    rows.next().await.unwrap().unwrap();
    server.idle().await;
    // What was on the way arrives, then the error: the result does not look whole.
    let end = loop {
        if let Err(error) = rows.next().await.expect("the stream ended as if it were whole") {
            break error;
        }
    };
    let (code, message) = code(end);
    assert_eq!(code, Code::Cancelled);
    assert!(message.contains("stream_idle_timeout_ms"), "{message}");
}

#[tokio::test]
async fn a_client_that_stops_writing_is_given_up() {
    let settings = Settings { stream_idle_timeout_ms: 100, ..Settings::default() };
    let server = Server::start(settings).await;
    let mut client = server.client().await;
    let command = CommandStatementIngest {
        table_definition_options: Some(TableDefinitionOptions { if_not_exist: 1, if_exists: 2 }),
        table: "t".into(),
        ..CommandStatementIngest::default()
    };
    let rows = stream::iter([Ok(parameters(vec![1]))]).chain(stream::pending());
    let refusal = client.execute_ingest(command, rows).await.unwrap_err();
    assert!(code(refusal).1.contains("the client sent nothing"));
    assert!(server.fake.ingested.lock().is_empty());
}

#[tokio::test]
async fn tickets_expire_and_are_bounded() {
    let settings = Settings { ticket_ttl_ms: 100, tickets_max: 3, ..Settings::default() };
    let server = Server::start(settings).await;
    let mut client = server.client().await;
    let info = client.execute("forever".into(), None).await.unwrap();
    for _ in 0..2 {
        client.execute("forever".into(), None).await.unwrap();
    }
    let (refused, message) = code(client.execute("forever".into(), None).await.unwrap_err());
    assert_eq!(refused, Code::ResourceExhausted);
    assert!(message.contains("tickets_max"), "{message}");
    server.idle().await;
    assert_eq!(code(client.do_get(ticket_of(&info)).await.unwrap_err()).0, Code::NotFound);
    client.execute("forever".into(), None).await.unwrap();
}

#[tokio::test]
async fn prepared_statements_and_parameters_are_bounded() {
    let settings =
        Settings { prepared_max: 1, parameter_rows_max: 10, parameters_limit_bytes: 100_000, ..Settings::default() };
    let server = Server::start(settings).await;
    let mut client = server.client().await;
    let mut prepared = client.prepare("echo ?".into(), None).await.unwrap();
    let (refused, message) = code(client.prepare("echo ?".into(), None).await.unwrap_err());
    assert_eq!(refused, Code::ResourceExhausted);
    assert!(message.contains("prepared_max"), "{message}");
    prepared.set_parameters(parameters(vec![1; 11])).unwrap();
    assert!(code(prepared.execute().await.unwrap_err()).1.contains("parameter_rows_max"));
    let text: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(200_000)]));
    prepared.set_parameters(RecordBatch::try_from_iter([("p", text)]).unwrap()).unwrap();
    assert!(code(prepared.execute().await.unwrap_err()).1.contains("parameters_limit_bytes"));
    prepared.close().await.unwrap();
    client.prepare("echo ?".into(), None).await.unwrap();
}

#[tokio::test]
async fn connections_past_the_bound_are_closed_at_once() {
    let server = Server::start(Settings { connections_max: 1, ..Settings::default() }).await;
    let mut first = server.client().await;
    assert_eq!(text(&mut first, "user").await, "anonymous");
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let read = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut Vec::new())).await.expect("it hangs");
    assert_eq!(read.unwrap_or(0), 0);
    assert_eq!(text(&mut first, "user").await, "anonymous");
    drop(first);
    let started = tereza_runtime::clock::now();
    loop {
        assert!(started.elapsed() < PATIENCE);
        let Ok(channel) = Endpoint::from_shared(format!("http://{}", server.address)).unwrap().connect().await else {
            continue;
        };
        let mut client = FlightSqlServiceClient::new(channel);
        if client.execute("user".into(), None).await.is_ok() {
            break;
        }
    }
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed() {
    let server = Server::start(Settings { connection_setup_ms: 50, ..Settings::default() }).await;
    let mut talking = server.client().await;
    assert_eq!(text(&mut talking, "user").await, "anonymous");
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    tokio::time::timeout(PATIENCE, socket.read_to_end(&mut Vec::new())).await.expect("it stays open").unwrap();
    assert_eq!(text(&mut talking, "user").await, "anonymous");
}

#[tokio::test]
async fn a_drain_lets_streams_finish_and_takes_no_new_ones() {
    let server = Server::start(Settings::default()).await;
    let mut client = server.client().await;
    let info = client.execute("slow".into(), None).await.unwrap();
    let other = client.execute("numbers 1".into(), None).await.unwrap();
    let mut rows = client.do_get(ticket_of(&info)).await.unwrap();
    server.shutdown.cancel();
    assert!(client.do_get(ticket_of(&other)).await.is_err());
    assert!(!server.served.is_finished());
    server.fake.go_on.cancel();
    assert_eq!(rows.next().await.unwrap().unwrap().num_rows(), 3);
    assert!(rows.next().await.is_none());
    drop((rows, client));
    tokio::time::timeout(PATIENCE, server.served).await.expect("it does not end").unwrap().unwrap();
    assert_eq!(server.fake.live(), 0);
    assert!(server.fake.sessions.lock().is_empty());
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn a_drain_ends_when_its_time_is_over() {
    let server = Server::start(Settings { drain_ms: 100, ..Settings::default() }).await;
    let mut client = server.client().await;
    let info = client.execute("endless".into(), None).await.unwrap();
    // Not read: its connection cannot become idle by itself.
    let mut rows = client.do_get(ticket_of(&info)).await.unwrap();
    rows.next().await.unwrap().unwrap();
    server.shutdown.cancel();
    tokio::time::timeout(ABORT_WAIT, server.served).await.expect("it does not end in time").unwrap().unwrap();
    assert_eq!(server.fake.live(), 0);
}

#[tokio::test]
async fn dropping_the_server_ends_everything() {
    let server = Server::start(Settings::default()).await;
    let mut client = server.client().await;
    let info = client.execute("endless".into(), None).await.unwrap();
    let mut rows = client.do_get(ticket_of(&info)).await.unwrap();
    rows.next().await.unwrap().unwrap();
    server.served.abort();
    server.idle().await;
}

#[tokio::test]
async fn hostile_bytes_are_refused_and_the_server_lives() {
    let server = Server::start(Settings::default()).await;
    let mut client = server.flight().await;
    let bytes: [&[u8]; 4] = [b"", b"\xff\xff\xff\xff", b"\x0a\x05hello", &[0x12, 0xff, 0xff, 0xff, 0xff, 0x0f]];
    for bytes in bytes {
        let descriptor = FlightDescriptor::new_cmd(bytes.to_vec());
        let refused = [
            client.get_flight_info(descriptor.clone()).await.unwrap_err(),
            client.poll_flight_info(descriptor.clone()).await.unwrap_err(),
            client.get_schema(descriptor.clone()).await.unwrap_err(),
            client.do_get(Ticket::new(bytes.to_vec())).await.unwrap_err(),
            client.do_put(stream::iter([FlightData::new().with_descriptor(descriptor)])).await.unwrap_err(),
        ];
        for status in refused {
            assert!(matches!(status.code(), Code::InvalidArgument | Code::Unimplemented), "{status}");
        }
    }
    for name in ["CreatePreparedStatement", "CancelQuery", "CancelFlightInfo", "SetSessionOptions", "CloseSession"] {
        let request = Action { r#type: name.to_owned(), body: b"\xff\xff".to_vec().into() };
        assert_eq!(client.do_action(request).await.unwrap_err().code(), Code::InvalidArgument, "{name}");
    }
    assert_eq!(client.do_put(stream::empty()).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(client.do_put(stream::iter([FlightData::new()])).await.unwrap_err().code(), Code::InvalidArgument);
    let path = FlightDescriptor::new_path(vec!["a".into()]);
    assert_eq!(client.get_flight_info(path).await.unwrap_err().code(), Code::InvalidArgument);
    let action = CommandStatementUpdate::default().as_any().encode_to_vec();
    let wrong = Action { r#type: "CreatePreparedStatement".into(), body: action.into() };
    assert_eq!(client.do_action(wrong).await.unwrap_err().code(), Code::InvalidArgument);
    client.get_flight_info(query("numbers 1")).await.unwrap();
}

/// Every byte of a message of rows flipped, one at a time, and cut at every length.
#[tokio::test]
async fn broken_rows_are_refused_and_the_server_lives() {
    let server = Server::start(Settings::default()).await;
    let mut client = server.flight().await;
    let request = ActionCreatePreparedStatementRequest { query: "insert ?".into(), transaction_id: None };
    let answer: Any = act(&mut client, action("CreatePreparedStatement", request.as_any())).await.unwrap();
    let result = messages::CreatePreparedStatementResult::decode(answer.value).unwrap();
    let command = CommandPreparedStatementUpdate { prepared_statement_handle: result.prepared_statement_handle };
    let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
    let column: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("bc")]));
    let batch = RecordBatch::try_from_iter([("p", column)]).unwrap();
    let whole: Vec<FlightData> = arrow_flight::encode::FlightDataEncoderBuilder::new()
        .with_flight_descriptor(Some(descriptor))
        .build(stream::iter([Ok(batch)]))
        .try_collect()
        .await
        .unwrap();
    assert_eq!(whole.len(), 2);
    let mut broken = Vec::new();
    for message in 0..2 {
        for at in 0..whole[message].data_header.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut messages = whole.clone();
                let mut header = messages[message].data_header.to_vec();
                header[at] ^= flip;
                messages[message].data_header = header.into();
                broken.push(messages);
            }
        }
        for length in 0..whole[message].data_header.len() {
            let mut messages = whole.clone();
            messages[message].data_header.truncate(length);
            broken.push(messages);
        }
    }
    for length in 0..whole[1].data_body.len() {
        let mut messages = whole.clone();
        messages[1].data_body.truncate(length);
        broken.push(messages);
    }
    for messages in broken {
        // Text is no parameter for the fake, so nothing can succeed but with no rows at all.
        if let Err(status) = client.do_put(stream::iter(messages)).await {
            let refused = matches!(status.code(), Code::InvalidArgument | Code::ResourceExhausted);
            assert!(refused, "{status}");
        }
    }
    client.get_flight_info(query("numbers 1")).await.unwrap();
}

#[tokio::test]
async fn a_message_that_unpacks_to_too_much_is_refused() {
    use arrow::ipc::CompressionType;
    use arrow::ipc::writer::IpcWriteOptions;

    let server = Server::start(Settings { request_limit_bytes: 1 << 20, ..Settings::default() }).await;
    let mut client = server.flight().await;
    let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME)).unwrap();
    let command = CommandStatementIngest {
        table_definition_options: Some(TableDefinitionOptions { if_not_exist: 1, if_exists: 2 }),
        table: "t".into(),
        ..CommandStatementIngest::default()
    };
    let encode = |rows: usize| {
        arrow_flight::encode::FlightDataEncoderBuilder::new()
            .with_flight_descriptor(Some(FlightDescriptor::new_cmd(command.as_any().encode_to_vec())))
            .with_max_flight_data_size(usize::MAX)
            .with_options(options.clone())
            .build(stream::iter([Ok(parameters(vec![0; rows]))]))
            .try_collect::<Vec<_>>()
    };
    client.do_put(stream::iter(encode(1000).await.unwrap())).await.unwrap();
    let status = client.do_put(stream::iter(encode(1 << 20).await.unwrap())).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().contains("request_limit_bytes"), "{status}");
    // Uncompressed it is over the limit of a message.
    let batches = vec![parameters((0..1 << 20).collect())];
    let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
    let messages: Vec<_> = arrow_flight::encode::FlightDataEncoderBuilder::new()
        .with_flight_descriptor(Some(descriptor))
        .with_max_flight_data_size(usize::MAX)
        .build(stream::iter(batches.into_iter().map(Ok)))
        .try_collect()
        .await
        .unwrap();
    let status = client.do_put(stream::iter(messages)).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
}

#[tokio::test]
async fn a_certificate_that_cannot_be_read_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tls = Tls { certificate: "/nowhere/server.pem".into(), key: "/nowhere/server.key".into() };
    let settings = Settings { tls: Some(tls), ..Settings::default() };
    let error = serve(listener, Arc::new(Fake::default()), settings, CancellationToken::new()).await.unwrap_err();
    assert!(error.to_string().contains("/nowhere/server.pem"), "{error}");
}

//! Our client and our server over TCP, and what a connection lives through.

use std::time::Duration;

use tereza_runtime::{Error, ErrorKind};
use tereza_thrift::call::Outcome;
use tereza_thrift::client::{self, CallError, Client};
use tereza_thrift::codec::{ApplicationException, MessageType};
use tereza_thrift::hive::*;
use tereza_thrift::server::{LARGE_BYTES, Settings};
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::memory::{PATIENCE, Raw, Running, decode, golden, text};

async fn client(server: &Running) -> Client {
    connect(server, client::Settings::default()).await
}

async fn connect(server: &Running, settings: client::Settings) -> Client {
    Client::connect(&server.address.to_string(), settings).await.unwrap()
}

fn table(name: &str) -> Table {
    Table { db_name: text("web"), table_name: text(name), parameters: Some([].into()), ..Table::default() }
}

fn get_table(name: &str) -> GetTableArgs {
    GetTableArgs { dbname: text("web"), tbl_name: text(name) }
}

fn exception<T: std::fmt::Debug>(result: Result<T, CallError<Exception>>) -> Exception {
    match result {
        Err(CallError::Exception(exception)) => exception,
        other => panic!("no exception but {other:?}"),
    }
}

fn is_unknown_method(exception: &Exception) -> bool {
    matches!(exception, Exception::Application(own) if own.code == ApplicationException::UNKNOWN_METHOD)
}

#[tokio::test]
async fn what_is_put_is_what_is_got() {
    for is_framed in [false, true] {
        let server = Running::new(Settings::default()).await;
        let mut client = connect(&server, client::Settings { is_framed, ..client::Settings::default() }).await;
        assert_eq!(client.get_all_databases().await.unwrap(), ["default", "web"]);
        client.create_table(CreateTableArgs { tbl: Some(table("events")) }).await.unwrap();
        assert_eq!(client.get_table(get_table("events")).await.unwrap(), table("events"));
        let partitions: Vec<_> = (0..1000)
            .map(|day| Partition {
                values: Some(vec![day.to_string()]),
                table_name: text("events"),
                ..Partition::default()
            })
            .collect();
        let added = client.add_partitions(AddPartitionsArgs { new_parts: Some(partitions.clone()) }).await.unwrap();
        assert_eq!(added, 1000);
        let args = GetPartitionsArgs { tbl_name: text("events"), ..GetPartitionsArgs::default() };
        assert_eq!(client.get_partitions(args).await.unwrap(), partitions);
        assert_eq!(client.get_database(GetDatabaseArgs { name: text("d") }).await.unwrap().name, text("d"));
    }
}

#[tokio::test]
async fn each_connection_has_its_own_user() {
    let server = Running::new(Settings::default()).await;
    let (mut eve, mut bob) = (client(&server).await, client(&server).await);
    let groups = Some(vec!["staff".to_owned()]);
    let said = eve.set_ugi(SetUgiArgs { user_name: text("eve"), group_names: groups }).await.unwrap();
    assert_eq!(said, ["eve", "staff"]);
    bob.set_ugi(SetUgiArgs { user_name: text("bob"), group_names: None }).await.unwrap();
    assert_eq!((eve.get_name().await.unwrap(), bob.get_name().await.unwrap()), ("eve".to_owned(), "bob".to_owned()));
}

#[tokio::test]
async fn an_unknown_method_leaves_the_connection_as_it_was() {
    let server = Running::new(Settings::default()).await;
    // One that the interface has and the implementation lacks.
    let mut client = client(&server).await;
    for _ in 0..2 {
        let failure = exception(client.drop_table(DropTableArgs { name: text("events"), ..Default::default() }).await);
        assert!(is_unknown_method(&failure), "{failure}");
        assert_eq!(client.get_all_databases().await.unwrap().len(), 2);
    }
    // One that the interface lacks, with large arguments.
    let mut raw = server.connect().await;
    raw.asks(&golden("no_such_method.call"), &golden("no_such_method.reply")).await;
    raw.asks(&golden("get_all_databases.call"), &golden("get_all_databases.reply")).await;
    let calls = server.calls.0.lock().unwrap().clone();
    assert_eq!(calls[0], ("drop_table", Outcome::UnknownMethod));
    assert_eq!(calls[4..], [("unknown", Outcome::UnknownMethod), ("get_all_databases", Outcome::Ok)]);
}

#[tokio::test]
async fn an_exception_is_the_one_that_the_method_declares() {
    let server = Running::new(Settings::default()).await;
    let mut client = client(&server).await;
    let missing = exception(client.get_table(get_table("missing")).await);
    assert_eq!(missing, NoSuchObjectException::new("web.missing table not found").into());
    assert_eq!(Error::from(missing).kind(), ErrorKind::NotFound);
    client.create_table(CreateTableArgs { tbl: Some(table("t")) }).await.unwrap();
    let twice = exception(client.create_table(CreateTableArgs { tbl: Some(table("t")) }).await);
    assert!(matches!(twice, Exception::AlreadyExists(_)), "{twice}");
    // Where it is not declared the general one says it, with its name first: Flink looks for that.
    let general = exception(client.get_tables(GetTablesArgs::default()).await);
    assert_eq!(general, MetaException::new("NoSuchObjectException: no database").into());
    // And where not even that is declared, Thrift's own does.
    let failure = exception(client.lock(LockArgs::default()).await);
    let Exception::Application(own) = failure else { panic!("{failure}") };
    assert_eq!(own.code, ApplicationException::INTERNAL_ERROR);
    assert_eq!(own.message, "InvalidOperationException: a lock needs a component");
}

#[tokio::test]
async fn a_panic_is_the_failure_of_one_call() {
    let server = Running::new(Settings::default()).await;
    let mut client = client(&server).await;
    let failure = exception(client.get_status_details().await);
    let Exception::Application(own) = failure else { panic!("{failure}") };
    assert_eq!(own.code, ApplicationException::INTERNAL_ERROR);
    assert_eq!(client.get_all_databases().await.unwrap().len(), 2);
    assert_eq!(server.calls.0.lock().unwrap()[0], ("getStatusDetails", Outcome::Internal));
}

#[tokio::test]
async fn a_result_over_the_bound_is_an_error_that_says_so() {
    let server = Running::new(Settings { reply_limit_bytes: 4000, ..Settings::default() }).await;
    let mut client = client(&server).await;
    let small = client.get_option(GetOptionArgs { key: text("3900") }).await.unwrap();
    assert_eq!(small.len(), 3900);
    let failure = exception(client.get_option(GetOptionArgs { key: text("5000") }).await);
    assert!(failure.to_string().contains("getOption has more than 4000 bytes"), "{failure}");
    let many = (0..1000).map(|_| Partition { table_name: text("t"), ..Partition::default() }).collect();
    client.add_partitions(AddPartitionsArgs { new_parts: Some(many) }).await.unwrap();
    let args = GetPartitionsArgs { tbl_name: text("t"), ..GetPartitionsArgs::default() };
    let failure = exception(client.get_partitions(args).await);
    assert!(matches!(&failure, Exception::Meta(meta) if meta.message.as_ref().unwrap().contains("4000 bytes")));
    assert_eq!(server.calls.0.lock().unwrap()[3], ("get_partitions", Outcome::TooLarge));
}

#[tokio::test]
async fn large_messages_wait_for_each_other() {
    let server = Running::new(Settings { large_messages_max: 1, ..Settings::default() }).await;
    // More than the buffers between the two ends hold, so that what is sent has mostly been read.
    let mut call = call_with_argument("x".repeat(16 * LARGE_BYTES).as_bytes());
    let last = call.split_off(call.len() - 1);
    let (mut first, mut second) = (server.connect().await, client(&server).await);
    first.send(&call).await;
    // The only place is taken while the rest of the first message is awaited.
    let key = text(&"x".repeat(3 * LARGE_BYTES));
    let mut waiting = tokio::spawn(async move { second.get_option(GetOptionArgs { key }).await });
    assert!(timeout(Duration::from_millis(500), &mut waiting).await.is_err());
    assert_eq!(client(&server).await.get_all_databases().await.unwrap().len(), 2);
    first.send(&last).await;
    assert_eq!(timeout(PATIENCE, waiting).await.unwrap().unwrap().unwrap(), "");
}

/// A call of `getOption`.
fn call_with_argument(key: &[u8]) -> Vec<u8> {
    let len = u32::try_from(key.len()).unwrap().to_be_bytes();
    [&b"\x80\x01\x00\x01\x00\x00\x00\x09getOption\x00\x00\x00\x01\x0b\x00\x01"[..], &len, key, b"\x00"].concat()
}

#[tokio::test]
async fn goodbye_ends_its_own_connection_only() {
    let server = Running::new(Settings::default()).await;
    let (mut one, mut other) = (client(&server).await, client(&server).await);
    one.shutdown().await.unwrap();
    let broken = one.get_all_databases().await;
    assert!(matches!(broken, Err(CallError::Connection(_))), "{broken:?}");
    assert!(one.is_broken());
    assert_eq!(other.get_all_databases().await.unwrap().len(), 2);
}

#[tokio::test]
async fn one_connection_too_many_is_closed_at_once() {
    let server = Running::new(Settings { connections_max: 1, ..Settings::default() }).await;
    let mut first = client(&server).await;
    assert_eq!(first.get_all_databases().await.unwrap().len(), 2);
    assert_eq!(server.connect().await.rest().await, b"");
    // Its place is free again when it is gone.
    first.shutdown().await.unwrap();
    let asked = async {
        loop {
            if client(&server).await.get_all_databases().await.is_ok() {
                return;
            }
        }
    };
    timeout(PATIENCE, asked).await.unwrap();
}

#[tokio::test]
async fn a_connection_without_calls_is_closed() {
    let server = Running::new(Settings { idle_timeout: Duration::from_millis(50), ..Settings::default() }).await;
    let mut raw = server.connect().await;
    raw.asks(&golden("get_all_databases.call"), &golden("get_all_databases.reply")).await;
    assert_eq!(raw.rest().await, b"");
}

#[tokio::test]
async fn half_a_message_is_not_waited_for_longer_than_its_time() {
    let server = Running::new(Settings { message_timeout: Duration::from_millis(50), ..Settings::default() }).await;
    let call = golden("create_table.call");
    let mut raw = server.connect().await;
    raw.send(&call[..call.len() - 1]).await;
    let (header, own) = decode::<ApplicationException>(&raw.rest().await);
    assert_eq!((header.kind, own.code), (MessageType::Exception, ApplicationException::PROTOCOL_ERROR));
    // Whoever leaves in the middle of a message does no harm.
    server.connect().await.send(&call[..100]).await;
    assert_eq!(client(&server).await.get_all_databases().await.unwrap().len(), 2);
    assert!(exception(client(&server).await.get_table(get_table("events")).await).to_string().contains("not found"));
}

#[tokio::test]
async fn calls_that_come_together_are_answered_in_their_order() {
    let server = Running::new(Settings::default()).await;
    let names = ["get_all_databases", "create_table", "no_such_method", "get_table", "lock"];
    let (mut calls, mut replies) = (Vec::new(), Vec::new());
    for name in names {
        calls.extend(golden(&format!("{name}.call")));
        replies.extend(golden(&format!("{name}.reply")));
    }
    server.connect().await.asks(&calls, &replies).await;
}

#[tokio::test]
async fn a_call_may_come_in_old_form_or_in_frames() {
    let server = Running::new(Settings::default()).await;
    server.connect().await.asks(&golden("create_table.call"), &golden("create_table.reply")).await;
    for name in ["get_table.call", "get_table.old.call"] {
        let call = golden(name);
        let is_old = name.contains("old");
        // The answer has the form of the call: without a version, its head is three bytes shorter.
        let strict = golden("get_table.reply");
        let head = 12 + "get_table".len();
        let mut reply = strict[4..head - 4].to_vec();
        reply.extend([2, 0, 0, 0, 7]);
        reply.extend(&strict[head..]);
        let reply = if is_old { reply } else { strict };
        server.connect().await.asks(&call, &reply).await;
        let framed = |bytes: &[u8]| [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat();
        let mut raw = server.connect().await;
        raw.asks(&framed(&call), &framed(&reply)).await;
        // What a frame has after its message is not part of the next.
        raw.asks(&framed(&[&call[..], b"more"].concat()), &framed(&reply)).await;
        raw.asks(&framed(&call), &framed(&reply)).await;
    }
}

#[tokio::test]
async fn a_call_may_come_byte_by_byte() {
    let server = Running::new(Settings::default()).await;
    let mut raw = server.connect().await;
    raw.0.set_nodelay(true).unwrap();
    for byte in golden("create_table.call") {
        raw.send(&[byte]).await;
        tokio::task::yield_now().await;
    }
    let created = golden("create_table.reply");
    assert_eq!(raw.receive(created.len()).await, created);
    raw.asks(&golden("get_table.call"), &golden("get_table.reply")).await;
}

#[tokio::test]
async fn a_drain_lets_the_call_that_runs_finish() {
    let mut server = Running::new(Settings::default()).await;
    let mut busy = client(&server).await;
    let mut idle = server.connect().await;
    idle.asks(&golden("get_all_databases.call"), &golden("get_all_databases.reply")).await;
    let running = tokio::spawn(async move { (busy.get_version().await, busy.get_all_databases().await) });
    timeout(PATIENCE, server.store.begun.notified()).await.unwrap();
    server.drain.cancel();
    assert_eq!(idle.rest().await, b"", "a connection without a call is closed at once");
    assert!(timeout(Duration::from_millis(50), &mut server.task).await.is_err(), "a call still runs");
    server.store.release.notify_one();
    let (version, next) = timeout(PATIENCE, running).await.unwrap().unwrap();
    assert_eq!(version.unwrap(), "released");
    assert!(next.is_err());
    timeout(PATIENCE, &mut server.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_call_has_its_time() {
    let server = Running::new(Settings { call_timeout: Duration::from_millis(50), ..Settings::default() }).await;
    let mut client = client(&server).await;
    let late = exception(timeout(PATIENCE, client.get_version()).await.unwrap());
    assert!(late.to_string().contains("call_timeout"), "{late}");
    assert_eq!(client.get_all_databases().await.unwrap(), ["default", "web"], "the connection is as it was");
}

#[tokio::test]
async fn a_drain_does_not_wait_for_ever() {
    let settings = Settings { drain_timeout: Duration::from_millis(50), ..Settings::default() };
    let mut server = Running::new(settings).await;
    let mut busy = client(&server).await;
    let running = tokio::spawn(async move { busy.get_version().await });
    timeout(PATIENCE, server.store.begun.notified()).await.unwrap();
    server.drain.cancel();
    timeout(PATIENCE, &mut server.task).await.unwrap().unwrap();
    assert!(timeout(PATIENCE, running).await.unwrap().unwrap().is_err());
}

#[tokio::test]
async fn large_answers_take_turns() {
    let server = Running::new(Settings { large_messages_max: 1, ..Settings::default() }).await;
    let mut asking = Vec::new();
    for _ in 0..4 {
        let mut client = client(&server).await;
        let args = GetOptionArgs { key: text(&(2 * LARGE_BYTES).to_string()) };
        asking.push(tokio::spawn(async move { client.get_option(args).await }));
    }
    for answer in asking {
        assert_eq!(timeout(PATIENCE, answer).await.unwrap().unwrap().unwrap().len(), 2 * LARGE_BYTES);
    }
}

#[tokio::test]
async fn a_call_without_an_answer_breaks_its_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let settings = client::Settings { call_timeout: Duration::from_millis(50), ..client::Settings::default() };
    let mut client = Client::connect(&address, settings).await.unwrap();
    let Err(CallError::Connection(error)) = client.get_all_databases().await else { panic!("an answer") };
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("50ms"), "{error}");
    let Err(CallError::Connection(error)) = client.get_all_databases().await else { panic!("an answer") };
    assert!(error.to_string().contains("connect again"), "{error}");
}

#[tokio::test]
async fn the_answer_to_another_call_is_not_taken() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let answering = tokio::spawn(async move {
        let mut raw = Raw(listener.accept().await.unwrap().0);
        raw.receive(30).await;
        // Its number is 7; the client's first call is 1.
        raw.send(&golden("get_all_databases.reply")).await;
        raw.rest().await
    });
    let mut client = Client::connect(&address, client::Settings::default()).await.unwrap();
    let Err(CallError::Connection(error)) = client.get_all_databases().await else { panic!("an answer") };
    assert!(error.to_string().contains("answered another call"), "{error}");
    drop(client);
    answering.await.unwrap();
}

#[tokio::test]
async fn nobody_there_is_unavailable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let error = Client::connect(&address, client::Settings::default()).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

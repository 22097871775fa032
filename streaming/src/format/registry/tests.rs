use std::sync::{Arc, Mutex};

use arrow::array::{AsArray, Int32Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int32Type};
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode as Status};
use axum::routing::{get, post};
use tereza_runtime::ErrorKind;

use super::super::tests::{message, schema_of, table};
use super::super::{FormatOptions, decoder, encoder};
use super::*;

/// A registry of a few answers, and what it was asked.
#[derive(Default)]
struct Fake {
    asked: Mutex<Vec<String>>,
    /// How many calls it first answers with 503.
    broken: Mutex<u32>,
}

type Shared = State<Arc<Fake>>;

fn say(fake: &Fake, asked: String, answer: (Status, String)) -> (Status, String) {
    fake.asked.lock().unwrap().push(asked);
    let mut broken = fake.broken.lock().unwrap();
    if *broken > 0 {
        *broken -= 1;
        return (Status::SERVICE_UNAVAILABLE, String::new());
    }
    answer
}

async fn by_id(State(fake): Shared, Path(id): Path<u32>, headers: HeaderMap) -> (Status, String) {
    let record = |kind: &str| {
        let schema = format!(r#"{{"type":"record","name":"r","fields":[{{"name":"v","type":"{kind}"}}]}}"#);
        serde_json::json!({ "schema": schema }).to_string()
    };
    let answer = match id {
        1 => (Status::OK, record("int")),
        2 => (Status::OK, record("string")),
        3 => (Status::OK, serde_json::json!({ "schema": "{}", "schemaType": "JSON" }).to_string()),
        4 => (Status::OK, serde_json::json!({ "schema": "\"int\"", "references": [{ "name": "x" }] }).to_string()),
        5 => (Status::OK, "x".repeat(ANSWER_MAX + 1)),
        6 => (Status::OK, "no JSON".to_owned()),
        7 => (Status::UNAUTHORIZED, r#"{"error_code":401,"message":"who?"}"#.to_owned()),
        _ => (Status::NOT_FOUND, r#"{"error_code":40403,"message":"Schema not found"}"#.to_owned()),
    };
    let who = headers.get("authorization").map_or("", |value| value.to_str().unwrap());
    say(&fake, format!("{id} {who}"), answer)
}

async fn versions(Path(id): Path<u32>) -> (Status, String) {
    match id {
        1 | 2 => (Status::OK, format!(r#"[{{"subject":"t-value","version":{}}}]"#, id + 5)),
        _ => (Status::NOT_FOUND, r#"{"error_code":40403,"message":"Schema not found"}"#.to_owned()),
    }
}

async fn register(State(fake): Shared, Path(subject): Path<String>, body: String) -> (Status, String) {
    let answer = match subject.as_str() {
        "bad-value" => (Status::CONFLICT, r#"{"error_code":409,"message":"incompatible"}"#.to_owned()),
        _ => (Status::OK, r#"{"id":66051}"#.to_owned()),
    };
    say(&fake, format!("{subject} {body}"), answer)
}

async fn start() -> (Arc<Fake>, String) {
    let fake = Arc::new(Fake::default());
    let app = Router::new()
        .route("/schemas/ids/{id}", get(by_id))
        .route("/schemas/ids/{id}/versions", get(versions))
        .route("/subjects/{subject}/versions", post(register))
        .with_state(Arc::clone(&fake));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (fake, url)
}

fn options(url: &str) -> FormatOptions {
    FormatOptions::new("avro-confluent").with("url", url)
}

fn ints() -> arrow::datatypes::SchemaRef {
    schema_of(vec![Field::new("v", DataType::Int32, true)])
}

/// A record with an int behind the id of a schema.
fn record(id: u8) -> super::super::Message {
    message(Some(&[0, 0, 0, 0, id, 84]))
}

#[tokio::test]
async fn records_are_read_by_the_schemas_that_they_name() {
    let (fake, url) = start().await;
    let mut decoder = decoder(&table(ints(), options(&url))).unwrap();
    let messages =
        [record(1), record(9), record(2), record(3), message(Some(b"\x01abcdef")), record(1), record(4), message(None)];
    for _ in 0..2 {
        decoder.prepare(&messages).await.unwrap();
        let decoded = decoder.decode(&messages).unwrap();
        assert_eq!(decoded.batch.column(0).as_primitive::<Int32Type>().values(), &[42, 42]);
        let reasons: Vec<_> = decoded.poisoned.iter().map(|poisoned| poisoned.reason.as_str()).collect();
        assert_eq!(
            reasons,
            [
                "the value: schema 9: the registry does not know it",
                "the value: schema 2 (version 7 of t-value): field `v`: an Avro string cannot be read as Int32; \
                 the record before it is of schema 1 (version 6 of t-value)",
                "the value: schema 3: it is a schema of JSON, not of Avro; \
                 the record before it is of schema 1 (version 6 of t-value)",
                "the value: it does not begin with a zero byte and the id of a schema",
                "the value: schema 4: it refers to other schemas, which is not supported; \
                 the record before it is of schema 1 (version 6 of t-value)",
            ]
        );
    }
    // What is known is not asked for again.
    let asked = fake.asked.lock().unwrap();
    assert_eq!(asked.iter().filter(|asked| asked.starts_with("1 ")).count(), 1);
    assert_eq!(asked.iter().filter(|asked| asked.starts_with("9 ")).count(), 2);
}

#[tokio::test]
async fn a_registry_that_does_not_answer_poisons_nothing() {
    let (fake, url) = start().await;
    *fake.broken.lock().unwrap() = 2;
    let mut decoder = decoder(&table(ints(), options(&url))).unwrap();
    decoder.prepare(&[record(1)]).await.unwrap();
    *fake.broken.lock().unwrap() = 100;
    let error = decoder.prepare(&[record(2)]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(*fake.broken.lock().unwrap(), 100 - ATTEMPTS);
    *fake.broken.lock().unwrap() = 0;
    for (id, kind) in [(5, ErrorKind::ResourceExhausted), (6, ErrorKind::Unavailable), (7, ErrorKind::Unauthenticated)]
    {
        assert_eq!(decoder.prepare(&[record(id)]).await.unwrap_err().kind(), kind, "{id}");
    }
}

#[tokio::test]
async fn the_next_server_is_asked_where_one_is_away() {
    let (_, url) = start().await;
    let away = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = away.local_addr().unwrap();
    drop(away);
    let mut decoder = decoder(&table(ints(), options(&format!("http://{address}, {url}/")))).unwrap();
    decoder.prepare(&[record(1)]).await.unwrap();
    assert_eq!(decoder.decode(&[record(1)]).unwrap().batch.num_rows(), 1);
}

#[tokio::test]
async fn schemas_of_sinks_are_registered() {
    let (fake, url) = start().await;
    let batch = RecordBatch::try_new(ints(), vec![Arc::new(Int32Array::from(vec![42]))]).unwrap();
    let mut encoder = encoder(&table(ints(), options(&url))).unwrap();
    assert_eq!(encoder.encode(&batch, None).unwrap_err().kind(), ErrorKind::Internal);
    encoder.prepare().await.unwrap();
    encoder.prepare().await.unwrap();
    let encoded = encoder.encode(&batch, None).unwrap();
    assert_eq!(encoded[0].value.as_ref().unwrap().to_vec(), [0, 0, 1, 2, 3, 2, 84]);
    let asked = fake.asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 1);
    assert!(asked[0].starts_with("t-value {\"schema\":"), "{asked:?}");

    let mut refused = super::super::encoder(&table(ints(), options(&url).with("subject", "bad-value"))).unwrap();
    let error = refused.prepare().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("incompatible"), "{error}");
    let mut odd =
        super::super::encoder(&table(ints(), options(&url).with("schema-registry.subject", "a/b c"))).unwrap();
    odd.prepare().await.unwrap();
    assert!(fake.asked.lock().unwrap().last().unwrap().starts_with("a/b c "));
}

#[tokio::test]
async fn credentials_are_sent_and_not_shown() {
    let (fake, url) = start().await;
    let basic =
        options(&url).with("basic-auth.credentials-source", "USER_INFO").with("basic-auth.user-info", "user:secret");
    let bearer =
        options(&url).with("bearer-auth.credentials-source", "STATIC_TOKEN").with("bearer-auth.token", "secret");
    for (options, expected) in [(basic, "1 Basic dXNlcjpzZWNyZXQ="), (bearer, "1 Bearer secret")] {
        let registry = Registry::new(&options).unwrap();
        assert!(!format!("{registry:?}").contains("secret"));
        registry.avro(1).await.unwrap().unwrap();
        assert_eq!(fake.asked.lock().unwrap().last().unwrap(), expected);
    }
}

#[test]
fn options_are_checked() {
    let error = |options: FormatOptions| decoder(&table(ints(), options)).err().unwrap().to_string();
    let of = || options("http://127.0.0.1:1");
    assert!(error(FormatOptions::new("avro-confluent")).contains("needs the option `avro-confluent.url`"));
    assert!(error(options("ftp://x")).contains("begins with http"));
    let password = error(options("http://user:secret@x"));
    assert!(password.contains("without a password") && !password.contains("secret"), "{password}");
    assert!(error(of().with("ssl.keystore.location", "x")).contains("`avro-confluent.ssl.keystore.location`"));
    assert!(error(of().with("properties.a", "x")).contains("`avro-confluent.properties.a`"));
    assert!(error(of().with("basic-auth.credentials-source", "URL")).contains("USER_INFO"));
    let other = r#"{"type":"record","name":"r","fields":[{"name":"v","type":["null","long"]}]}"#;
    assert!(error(of().with("schema", other)).contains("it is not the schema of the table"));
    let same = r#"{"type":"record","name":"Mine","doc":"d","fields":[{"name":"v","type":["null","int"]}]}"#;
    assert!(decoder(&table(ints(), of().with("schema", same))).is_ok());
}

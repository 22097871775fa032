//! A registry that is served in this process, and requests to it. `TEREZA_TEST_CATALOG=mysql` keeps its schemas in MariaDB.

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::{Value, json};
use tempfile::TempDir;
use tereza_catalog::{SchemaStore, SqliteStore};
use tereza_registry::{Service, rest, service};
use tereza_runtime::Result;
use tereza_runtime::clock::Clock;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::mariadb;

/// A served registry over a store of its own.
pub(crate) struct Registry {
    pub(crate) address: SocketAddr,
    pub(crate) service: Service,
    client: reqwest::Client,
    drain: CancellationToken,
    server: JoinHandle<Result<()>>,
    _folder: TempDir,
}

impl Registry {
    pub(crate) async fn start() -> Self {
        Self::with(service::Settings::default(), rest::Settings::default()).await
    }

    pub(crate) async fn with(settings: service::Settings, server: rest::Settings) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store: Arc<dyn SchemaStore> = match std::env::var("TEREZA_TEST_CATALOG").as_deref() {
            Ok("mysql") => Arc::new(mariadb::new_database().await.expect("a MariaDB").store().await),
            _ => Arc::new(SqliteStore::open(folder.path().join("catalog.db"), Clock::system()).await.expect("a store")),
        };
        Self::over(store, folder, settings, server).await
    }

    /// Over a store that somebody opened.
    pub(crate) async fn over(
        store: Arc<dyn SchemaStore>,
        folder: TempDir,
        settings: service::Settings,
        server: rest::Settings,
    ) -> Self {
        let service = Service::new(store, settings);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let drain = CancellationToken::new();
        let server = tokio::spawn(rest::serve(listener, service.clone(), server, drain.clone()));
        Self { address, service, client: reqwest::Client::new(), drain, server, _folder: folder }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Sends a request and returns status and body: JSON, or a text if it is none.
    pub(crate) async fn send(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let method = method.parse().expect("a method");
        let mut request = self.client.request(method, format!("{}{path}", self.url()));
        if let Some(body) = body {
            let kind = "application/vnd.schemaregistry.v1+json";
            request = request.header("content-type", kind).body(body.to_string());
        }
        let response = request.send().await.expect("an answer");
        let status = response.status().as_u16();
        let text = response.text().await.expect("a body");
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, body) = self.send("GET", path, None).await;
        assert_eq!(status, 200, "GET {path}: {body}");
        body
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.send("PUT", path, Some(body)).await;
        assert_eq!(status, 200, "PUT {path}: {answer}");
        answer
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.send("POST", path, Some(body)).await;
        assert_eq!(status, 200, "POST {path}: {answer}");
        answer
    }

    pub(crate) async fn delete(&self, path: &str) -> Value {
        let (status, answer) = self.send("DELETE", path, None).await;
        assert_eq!(status, 200, "DELETE {path}: {answer}");
        answer
    }

    /// Registers an Avro schema and returns its id.
    pub(crate) async fn register(&self, subject: &str, schema: &str) -> i64 {
        let answer = self.post(&format!("/subjects/{subject}/versions"), &json!({ "schema": schema })).await;
        answer["id"].as_i64().expect("an id")
    }

    /// Sends a request that is refused, and checks status and code.
    pub(crate) async fn refused(&self, method: &str, path: &str, body: Option<&Value>, expected: (u16, u32)) -> String {
        let (status, answer) = self.send(method, path, body).await;
        let code = answer["error_code"].as_u64().and_then(|code| u32::try_from(code).ok());
        assert_eq!((status, code), (expected.0, Some(expected.1)), "{method} {path}: {answer}");
        answer["message"].as_str().expect("a message").to_owned()
    }

    /// Ends the server and waits for it.
    pub(crate) async fn end(self) {
        self.drain.cancel();
        self.server.await.expect("no panic").expect("served");
    }
}

/// A record with these fields, each of one type and with a default if it is said so.
pub(crate) fn record(fields: &[(&str, &str, Option<Value>)]) -> String {
    let fields = fields.iter().map(|(name, kind, default)| match default {
        Some(default) => json!({ "name": name, "type": kind, "default": default }),
        None => json!({ "name": name, "type": kind }),
    });
    let fields: Vec<Value> = fields.collect();
    json!({ "type": "record", "name": "R", "fields": fields }).to_string()
}

//! Whether the process lives and whether it can be used, told over HTTP to load balancers and monitors:
//! `/healthz` (it answers, so it lives), `/readyz` (every role is ready and no drain has begun; else the body names what
//! is not), `/metrics`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::connections::BoundedListener;
use crate::telemetry::Metrics;
use crate::{Error, Result};

/// Connections served at once; more wait to be accepted.
const CONNECTIONS_MAX: usize = 64;
/// A connection is closed on which nothing moved for so long.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Which roles are ready. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Mutex<BTreeMap<String, Option<String>>>>);

impl Health {
    /// A role that is not ready yet; it says so itself when it is.
    pub fn register(&self, role: impl Into<String>) -> Readiness {
        let role = role.into();
        self.0.lock().insert(role.clone(), Some("starting".into()));
        Readiness { health: self.clone(), role }
    }

    /// What is not ready, by role, with the reason; empty means ready.
    pub fn not_ready(&self) -> BTreeMap<String, String> {
        let roles = self.0.lock();
        roles.iter().filter_map(|(role, reason)| Some((role.clone(), reason.clone()?))).collect()
    }
}

/// Says for one role whether it is ready. When it is dropped the role has ended, and so is not.
#[derive(Debug)]
pub struct Readiness {
    health: Health,
    role: String,
}

impl Readiness {
    /// The role can be used.
    pub fn ready(&self) {
        self.set(None);
    }

    /// The role cannot be used because of `reason`.
    pub fn not_ready(&self, reason: impl Into<String>) {
        self.set(Some(reason.into()));
    }

    fn set(&self, reason: Option<String>) {
        self.health.0.lock().insert(self.role.clone(), reason);
    }
}

impl Drop for Readiness {
    fn drop(&mut self) {
        self.not_ready("ended");
    }
}

/// Answers on `listener` until `stop`; from `draining` on it says that the process is not ready.
pub async fn serve(
    listener: TcpListener,
    health: Health,
    metrics: Metrics,
    draining: CancellationToken,
    stop: CancellationToken,
) -> Result<()> {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(render_metrics))
        .with_state(Console { health, metrics, draining });
    axum::serve(BoundedListener::new(listener, CONNECTIONS_MAX, IDLE_TIMEOUT), router)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
        .map_err(|error| Error::io("the console cannot be served", error))
}

#[derive(Clone)]
struct Console {
    health: Health,
    metrics: Metrics,
    draining: CancellationToken,
}

async fn readyz(State(console): State<Console>) -> Response {
    let mut not_ready = console.health.not_ready();
    if console.draining.is_cancelled() {
        not_ready.insert("process".into(), "draining".into());
    }
    let status = if not_ready.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = serde_json::json!({ "ready": not_ready.is_empty(), "not_ready": not_ready });
    (status, [(header::CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
}

async fn render_metrics(State(console): State<Console>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], console.metrics.render()).into_response()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::telemetry;

    /// A served console.
    struct Served {
        address: SocketAddr,
        health: Health,
        draining: CancellationToken,
        stop: CancellationToken,
        server: tokio::task::JoinHandle<Result<()>>,
    }

    impl Served {
        async fn start() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (health, draining, stop) = (Health::default(), CancellationToken::new(), CancellationToken::new());
            let metrics = telemetry::tests::metrics();
            let server = tokio::spawn(serve(listener, health.clone(), metrics, draining.clone(), stop.clone()));
            Self { address, health, draining, stop, server }
        }

        async fn get(&self, path: &str) -> (u16, String) {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
        }
    }

    #[tokio::test]
    async fn ready_means_that_all_roles_are() {
        let served = Served::start().await;
        let (catalog, flight) = (served.health.register("catalog"), served.health.register("flight_sql"));
        catalog.ready();
        assert_eq!(served.get("/healthz").await, (200, "ok\n".into()));
        assert_eq!(
            served.get("/readyz").await,
            (503, "{\"not_ready\":{\"flight_sql\":\"starting\"},\"ready\":false}\n".into())
        );
        flight.ready();
        assert_eq!(served.get("/readyz").await, (200, "{\"not_ready\":{},\"ready\":true}\n".into()));
        drop(catalog);
        assert_eq!(
            served.get("/readyz").await,
            (503, "{\"not_ready\":{\"catalog\":\"ended\"},\"ready\":false}\n".into())
        );
    }

    #[tokio::test]
    async fn draining_is_alive_and_not_ready() {
        let served = Served::start().await;
        served.draining.cancel();
        assert_eq!(served.get("/healthz").await.0, 200);
        assert_eq!(
            served.get("/readyz").await,
            (503, "{\"not_ready\":{\"process\":\"draining\"},\"ready\":false}\n".into())
        );
    }

    #[tokio::test]
    async fn metrics_are_text_and_anything_else_is_not_found() {
        let served = Served::start().await;
        let (status, text) = served.get("/metrics").await;
        assert_eq!((status, text.contains("tereza_test_total 1")), (200, true), "{text}");
        assert_eq!(served.get("/other").await.0, 404);
    }

    #[tokio::test]
    async fn it_ends_while_a_connection_idles() {
        let served = Served::start().await;
        let _idle = TcpStream::connect(served.address).await.unwrap();
        served.get("/healthz").await;
        served.stop.cancel();
        tokio::time::timeout(Duration::from_secs(60), served.server).await.unwrap().unwrap().unwrap();
    }
}

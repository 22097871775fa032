//! Whether the process lives and whether it can be used, told over HTTP to load balancers and monitors:
//! `/healthz` (it answers, so it lives), `/readyz` (every role is ready and no drain has begun; else the body names what
//! is not), `/metrics`.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::Listener;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;

use crate::telemetry::Metrics;
use crate::{Error, Result, clock};

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
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let listener = Bounded { listener, connections, idle_timeout: IDLE_TIMEOUT };
    axum::serve(listener, router)
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

/// A listener with a bound on connections, and on how long each may be silent.
struct Bounded {
    listener: TcpListener,
    connections: Arc<Semaphore>,
    idle_timeout: Duration,
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let permit = Arc::clone(&self.connections).acquire_owned().await;
        let (stream, address) = Listener::accept(&mut self.listener).await;
        let idle = Box::pin(tokio::time::sleep(self.idle_timeout));
        (Connection { stream, idle, idle_timeout: self.idle_timeout, _permit: permit.ok() }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that fails when nothing moves on it.
struct Connection {
    stream: TcpStream,
    idle: Pin<Box<Sleep>>,
    idle_timeout: Duration,
    /// Held while the connection is open; the semaphore is never closed, so it is always there.
    _permit: Option<OwnedSemaphorePermit>,
}

impl Connection {
    /// Passes on what moved; fails when the time for it is up.
    fn moved<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.idle.as_mut().reset((clock::now() + self.idle_timeout).into());
            return result;
        }
        ready!(self.idle.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.moved(cx, result)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.moved(cx, result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

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

    /// For one connection at a time.
    async fn bounded(idle_timeout: Duration) -> Bounded {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Bounded { listener, connections: Arc::new(Semaphore::new(1)), idle_timeout }
    }

    #[tokio::test]
    async fn connections_past_the_bound_wait() {
        let mut bounded = bounded(IDLE_TIMEOUT).await;
        let address = bounded.local_addr().unwrap();
        let _clients = (TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap());
        let (first, _) = bounded.accept().await;
        assert_eq!(bounded.connections.available_permits(), 0);
        tokio::select! {
            biased;
            _ = bounded.accept() => panic!("accepted past the bound"),
            () = tokio::task::yield_now() => {}
        }
        drop(first);
        bounded.accept().await;
    }

    #[tokio::test]
    async fn a_silent_connection_is_closed() {
        let mut bounded = bounded(Duration::from_millis(10)).await;
        let _client = TcpStream::connect(bounded.local_addr().unwrap()).await.unwrap();
        let (mut connection, _) = bounded.accept().await;
        let error = connection.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}

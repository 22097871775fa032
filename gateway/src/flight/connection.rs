//! The connections: how many there may be, what is known about each, and how they are made to end.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use super::session::Key;

/// Waited after an accept that failed (no file descriptor left, mostly) before the next.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// What the requests of one connection share.
#[derive(Debug, Default)]
pub(crate) struct Peer {
    /// The sessions of this connection's requests that carry no token, by user. Locked while one is opened, so that
    /// the first requests of a client, sent at once, share one session.
    pub(crate) sessions: Mutex<HashMap<String, Key>>,
    /// Whether a request has come.
    greeted: AtomicBool,
}

impl Peer {
    /// Notes that a request has come.
    pub(crate) fn greet(&self) {
        self.greeted.store(true, Ordering::Relaxed);
    }
}

/// The accepted connections. Past `connections_max` a connection is closed as soon as it is accepted.
pub(crate) fn accepted(
    listener: TcpListener,
    connections_max: usize,
    setup_timeout: Duration,
    abort: CancellationToken,
) -> impl Stream<Item = io::Result<Connection>> {
    let places = Arc::new(Semaphore::new(connections_max.min(Semaphore::MAX_PERMITS)));
    futures::stream::unfold(listener, move |listener| {
        let (places, abort) = (Arc::clone(&places), abort.clone());
        async move {
            loop {
                let socket = match listener.accept().await {
                    Ok((socket, _)) => socket,
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(ACCEPT_RETRY).await;
                        continue;
                    }
                };
                let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                    metrics::counter!("tereza_flight_connections_refused_total").increment(1);
                    tracing::debug!(connections_max, "a connection over connections_max was closed");
                    continue;
                };
                // Only delays small messages when it fails.
                let _ = socket.set_nodelay(true);
                return Some((Ok(Connection::new(socket, setup_timeout, &abort, place)), listener));
            }
        }
    })
}

/// A socket that fails when `abort` is cancelled, or when no request came within the setup time-out.
pub(crate) struct Connection {
    socket: TcpStream,
    peer: Arc<Peer>,
    abort: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Until the first request.
    setup: Option<Pin<Box<Sleep>>>,
    _place: OwnedSemaphorePermit,
    _open: OpenConnection,
}

impl Connection {
    fn new(socket: TcpStream, setup_timeout: Duration, abort: &CancellationToken, place: OwnedSemaphorePermit) -> Self {
        Self {
            socket,
            peer: Arc::default(),
            abort: Box::pin(abort.clone().cancelled_owned()),
            setup: Some(Box::pin(tokio::time::sleep(setup_timeout))),
            _place: place,
            _open: OpenConnection::new(),
        }
    }

    /// Whether the connection must end now; else its task is woken when it must.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.abort.as_mut().poll(cx).is_ready() {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the server shuts down"));
        }
        let Some(setup) = &mut self.setup else { return Ok(()) };
        if self.peer.greeted.load(Ordering::Relaxed) {
            self.setup = None;
        } else if setup.as_mut().poll(cx).is_ready() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "no request came (connection_setup_ms)"));
        }
        Ok(())
    }
}

impl Connected for Connection {
    type ConnectInfo = Arc<Peer>;

    fn connect_info(&self) -> Self::ConnectInfo {
        Arc::clone(&self.peer)
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_end(cx)?;
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_end(cx)?;
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_end(cx)?;
        Pin::new(&mut self.socket).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// Counts itself among the open connections.
struct OpenConnection;

impl OpenConnection {
    fn new() -> Self {
        metrics::gauge!("tereza_flight_connections_open").increment(1.0);
        Self
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        metrics::gauge!("tereza_flight_connections_open").decrement(1.0);
    }
}

//! A listener with a bound on connections, and on how long each may be silent.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

use crate::clock;

/// A listener for [`axum::serve`].
#[derive(Debug)]
pub struct BoundedListener {
    listener: TcpListener,
    connections: Arc<Semaphore>,
    idle_timeout: Duration,
}

impl BoundedListener {
    /// Serves at most `connections_max` at once, more wait to be accepted; closes one on which nothing moved for
    /// `idle_timeout`, or whose request was not answered within that time from its first byte on: who sends a byte now and
    /// then moves nothing.
    pub fn new(listener: TcpListener, connections_max: usize, idle_timeout: Duration) -> Self {
        Self { listener, connections: Arc::new(Semaphore::new(connections_max)), idle_timeout }
    }
}

impl Listener for BoundedListener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let permit = Arc::clone(&self.connections).acquire_owned().await;
        let (stream, address) = Listener::accept(&mut self.listener).await;
        let idle = Box::pin(tokio::time::sleep(self.idle_timeout));
        let (idle_timeout, is_asked) = (self.idle_timeout, false);
        (Connection { stream, idle, idle_timeout, is_asked, _permit: permit.ok() }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that fails when nothing moves on it.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    idle: Pin<Box<Sleep>>,
    idle_timeout: Duration,
    /// Whether something was read since something was written last.
    is_asked: bool,
    /// Held while the connection is open; the semaphore is never closed, so it is always there.
    _permit: Option<OwnedSemaphorePermit>,
}

impl Connection {
    /// Passes on what was read or written; fails when the time for it is up.
    fn moved<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>, is_read: bool) -> Poll<io::Result<T>> {
        if result.is_ready() {
            if !(is_read && self.is_asked) {
                self.idle.as_mut().reset((clock::now() + self.idle_timeout).into());
            }
            self.is_asked = is_read;
            return result;
        }
        ready!(self.idle.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.moved(cx, result, true)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.moved(cx, result, false)
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

    /// For one connection at a time.
    async fn bounded(idle_timeout: Duration) -> BoundedListener {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        BoundedListener::new(listener, 1, idle_timeout)
    }

    #[tokio::test]
    async fn connections_past_the_bound_wait() {
        let mut bounded = bounded(Duration::from_secs(60)).await;
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

    #[tokio::test]
    async fn a_request_that_comes_in_drops_is_closed() {
        const DROPS: usize = 1_000;
        let mut bounded = bounded(Duration::from_millis(100)).await;
        let mut client = TcpStream::connect(bounded.local_addr().unwrap()).await.unwrap();
        let (mut connection, _) = bounded.accept().await;
        let dropping = async {
            for _ in 0..DROPS {
                if client.write_all(b"x").await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let reading = async {
            let mut read = 0;
            loop {
                match connection.read_u8().await {
                    Ok(_) => read += 1,
                    Err(error) => return (read, error.kind()),
                }
            }
        };
        tokio::select! {
            () = dropping => panic!("it goes on for ever"),
            (read, kind) = reading => assert!(read < DROPS && kind == io::ErrorKind::TimedOut, "{read} {kind}"),
        }
    }
}

//! A server: connections, each with its own service, and the calls of each one after the other.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tereza_runtime::{Error, clock};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use crate::call::{self, Answer, Call, Outcome, Service};
use crate::codec::{ApplicationException, Chunks, Header, Limits, MessageType, Reader};
use crate::tls::Tls;
pub use crate::transport::LARGE_BYTES;
use crate::transport::{Message, ReadError, Transport};

/// The oneway method with which a client says goodbye. Its name promises more, but it ends its own connection only.
const GOODBYE: &str = "shutdown";

/// How long to wait when no connection can be accepted, as where files are used up.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a refused message may go on arriving, so that its sender reads the answer before the connection is gone.
const LINGER: Duration = Duration::from_secs(1);

/// The bounds of a server.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Bounds of what is read.
    pub limits: Limits,
    /// Bytes of one answer. Java clients refuse messages of more than 100 MiB.
    pub reply_limit_bytes: usize,
    /// Connections at once; one more is closed as soon as it is there.
    pub connections_max: usize,
    /// Messages of more than [`LARGE_BYTES`], calls and answers, that are read or sent at once. One more waits, within its
    /// time.
    pub large_messages_max: usize,
    /// How long a connection may be without a call.
    pub idle_timeout: Duration,
    /// From the first byte of a message to its last, for what is read and for what is written.
    pub message_timeout: Duration,
    /// How long a method may take. Java clients wait ten minutes.
    pub call_timeout: Duration,
    /// How long calls that run may go on when the server is to end.
    pub drain_timeout: Duration,
    /// What makes connections TLS, if they are to be.
    pub tls: Option<Tls>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            reply_limit_bytes: 100 << 20,
            connections_max: 1000,
            large_messages_max: 8,
            idle_timeout: Duration::from_secs(3600),
            message_timeout: Duration::from_secs(120),
            call_timeout: Duration::from_secs(300),
            drain_timeout: Duration::from_secs(30),
            tls: None,
        }
    }
}

/// What is told of every call, for metrics.
pub trait Observer: Send + Sync + 'static {
    /// A call ended. `method` is of the interface, or `unknown`; `took` is from its last byte read to its answer made.
    fn called(&self, method: &'static str, outcome: Outcome, took: Duration) {
        let _ = (method, outcome, took);
    }
}

/// Nobody.
impl Observer for () {}

/// A server of the interface. Cheap to clone.
#[derive(Clone)]
pub struct Server {
    settings: Settings,
    observer: Arc<dyn Observer>,
    large_messages: Arc<Semaphore>,
}

impl Server {
    /// A server with these bounds that tells the observer.
    pub fn new(settings: Settings, observer: impl Observer) -> Self {
        let large_messages = semaphore(settings.large_messages_max);
        Self { settings, observer: Arc::new(observer), large_messages }
    }

    /// Accepts connections until `drain` is cancelled; then each finishes the call that runs, if that does not take too long,
    /// and is closed, and when the last one is, this returns. `connect` makes the service of a connection.
    pub async fn serve<S: Service>(
        &self,
        listener: TcpListener,
        connect: impl Fn(SocketAddr) -> S,
        drain: CancellationToken,
    ) {
        let places = semaphore(self.settings.connections_max);
        let connections = TaskTracker::new();
        let cut = CancellationToken::new();
        loop {
            let accepted = tokio::select! {
                () = drain.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!(%error, "a connection to the metastore could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                warn!(%peer, limit = self.settings.connections_max, "too many connections (connections_max): closed one");
                continue;
            };
            let connection = self.clone().connection(stream, peer, connect(peer), drain.clone(), place);
            let cut = cut.clone();
            connections.spawn(async move {
                tokio::select! {
                    () = connection => {}
                    () = cut.cancelled() => debug!(%peer, "a connection to the metastore was cut in a call"),
                }
            });
        }
        connections.close();
        if timeout(self.settings.drain_timeout, connections.wait()).await.is_err() {
            warn!(connections = connections.len(), "calls take too long to end (drain_timeout): they are given up");
            cut.cancel();
            connections.wait().await;
        }
    }

    async fn connection<S: Service>(
        self,
        stream: TcpStream,
        peer: SocketAddr,
        service: S,
        drain: CancellationToken,
        _place: OwnedSemaphorePermit,
    ) {
        // An answer is one write, so waiting to fill a packet only costs time. Without it the connection still works.
        let _ = stream.set_nodelay(true);
        match self.secured(stream, &service, &drain).await {
            Ok(end) => debug!(%peer, ?end, "a connection to the metastore ended"),
            Err(ReadError::Io(error)) => debug!(%peer, %error, "a connection to the metastore broke"),
            Err(error) => info!(%peer, %error, "a connection to the metastore was closed"),
        }
    }

    /// The session behind what secures it.
    async fn secured<S: Service>(
        &self,
        stream: TcpStream,
        service: &S,
        drain: &CancellationToken,
    ) -> Result<End, ReadError> {
        let Some(Tls(acceptor)) = &self.settings.tls else { return self.session(stream, service, drain).await };
        let limit = self.settings.message_timeout;
        let stream = tokio::select! {
            () = drain.cancelled() => return Ok(End::Drained),
            stream = timeout(limit, acceptor.accept(stream)) => stream.map_err(|_| ReadError::Slow(limit))??,
        };
        self.session(stream, service, drain).await
    }

    /// Answers the calls that come on any stream, until either side ends it.
    pub async fn serve_connection<S: Service>(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        service: &S,
        drain: &CancellationToken,
    ) -> tereza_runtime::Result<()> {
        let session = self.session(stream, service, drain).await;
        session.map(drop).map_err(|error| Error::invalid_input(error.to_string()).with_source(error))
    }

    async fn session<S: Service>(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        service: &S,
        drain: &CancellationToken,
    ) -> Result<End, ReadError> {
        let mut transport = Transport::new(stream, None, self.settings.limits);
        transport.share(Arc::clone(&self.large_messages));
        loop {
            let message = match self.next_message(&mut transport, drain).await {
                Ok(Ok(message)) => message,
                Ok(Err(end)) => {
                    transport.close().await?;
                    return Ok(end);
                }
                Err(error) => {
                    self.refuse(&mut transport, &error).await;
                    return Err(error);
                }
            };
            let (answer, is_goodbye) = self.answer(service, &message.bytes).await;
            // What the call was made of is not kept while its answer is sent.
            drop(message);
            let sent = match answer.message {
                Some(message) => self.send(&mut transport, message).await,
                None => Ok(()),
            };
            service.answered();
            sent?;
            if is_goodbye {
                transport.close().await?;
                return Ok(End::Goodbye);
            }
        }
    }

    async fn send<T: AsyncRead + AsyncWrite + Unpin>(
        &self,
        transport: &mut Transport<T>,
        message: Chunks,
    ) -> Result<(), ReadError> {
        let limit = self.settings.message_timeout;
        let sending = async {
            // Nobody closes the semaphore, so there is always a place in the end.
            let place = match message.len() > LARGE_BYTES {
                true => self.large_messages.acquire().await.ok(),
                false => None,
            };
            let sent = transport.write(message).await;
            drop(place);
            sent
        };
        Ok(timeout(limit, sending).await.map_err(|_| ReadError::Slow(limit))??)
    }

    async fn next_message<T: AsyncRead + AsyncWrite + Unpin>(
        &self,
        transport: &mut Transport<T>,
        drain: &CancellationToken,
    ) -> Result<Result<Message, End>, ReadError> {
        let next = async {
            match timeout(self.settings.idle_timeout, transport.begun()).await {
                Err(_) => Ok(Err(End::Idle)),
                Ok(Ok(false)) => Ok(Err(End::Closed)),
                Ok(Ok(true)) => transport.read(self.settings.message_timeout).await.map(Ok),
                Ok(Err(error)) => Err(error.into()),
            }
        };
        tokio::select! {
            // A call that is not wholly there when the drain begins was not begun.
            biased;
            () = drain.cancelled() => Ok(Err(End::Drained)),
            next = next => next,
        }
    }

    /// The answer, and whether the client wants no more.
    async fn answer<S: Service>(&self, service: &S, message: &[u8]) -> (Answer, bool) {
        let started = clock::now();
        let limits = &self.settings.limits;
        let mut reader = Reader::new(message, limits);
        let header = match Header::read(&mut reader) {
            Ok(header) => header,
            // A frame with something else in it, or a message of no known type: nobody to answer to.
            Err(error) => {
                info!(%error, "a message to the metastore is not one of Thrift's");
                return (Answer { method: "unknown", outcome: Outcome::BadArguments, message: None }, true);
            }
        };
        let args = &message[reader.position()..];
        let Settings { reply_limit_bytes, call_timeout, .. } = self.settings;
        let call = Call::new(&header, args, limits, reply_limit_bytes, call_timeout);
        let is_call = matches!(header.kind, MessageType::Call | MessageType::Oneway);
        let answer = if is_call {
            service.call(call).await
        } else {
            let text = format!("{:?} is not a message for a server", header.kind);
            let exception = ApplicationException::new(ApplicationException::INVALID_MESSAGE_TYPE, text);
            call.failed("unknown", Outcome::BadArguments, &exception)
        };
        self.observer.called(answer.method, answer.outcome, started.elapsed());
        // Old clients say it as a call and do not wait for an answer either.
        let is_goodbye = header.name == GOODBYE.as_bytes();
        (answer, is_goodbye)
    }

    /// Says why a message is refused, if it is known whose it is. Where it ends is not, so nothing more can be read.
    async fn refuse<T: AsyncRead + AsyncWrite + Unpin>(&self, transport: &mut Transport<T>, error: &ReadError) {
        if matches!(error, ReadError::Io(_) | ReadError::Cut) {
            return;
        }
        let header = Header::read(&mut Reader::new(transport.refused(), &self.settings.limits));
        let Ok(header) = header else { return };
        let exception = ApplicationException::new(ApplicationException::PROTOCOL_ERROR, error.to_string());
        let told = async {
            transport.write(call::failure(&header, &exception)).await?;
            transport.close().await?;
            transport.discard().await
        };
        // The peer may be gone or not listen: then it is not told.
        let _ = timeout(LINGER, told).await;
    }
}

/// Why a connection ended in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Closed,
    Goodbye,
    Idle,
    Drained,
}

fn semaphore(permits: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS)))
}

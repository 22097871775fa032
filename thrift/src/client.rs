//! A client: one connection, one call at a time. Whoever holds it connects again when it breaks.

use std::time::Duration;

use bytes::Bytes;
use tereza_runtime::{Error, Result};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::call::{self, Exceptions, Method};
use crate::codec::{ApplicationException, Chunks, DecodeError, Header, Limits, MessageType, Reader, Wire};
use crate::transport::{Framing, Transport};

/// How a client connects and how long it waits.
#[derive(Debug, Clone)]
pub struct Settings {
    pub connect_timeout: Duration,
    /// From sending a call to its whole answer.
    pub call_timeout: Duration,
    /// Whether each message follows its length (`hive.metastore.thrift.framed.transport.enabled`, off by default).
    pub is_framed: bool,
    /// Bounds of a call and of an answer.
    pub limits: Limits,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            call_timeout: Duration::from_secs(600),
            is_framed: false,
            limits: Limits::default(),
        }
    }
}

/// Why a call has no result.
#[derive(Debug)]
pub enum CallError<E> {
    /// The server says so; the connection can be used on.
    Exception(E),
    /// No answer came that could be read.
    Connection(Error),
}

impl<E> From<Error> for CallError<E> {
    fn from(error: Error) -> Self {
        Self::Connection(error)
    }
}

impl<E: Into<Error>> From<CallError<E>> for Error {
    fn from(error: CallError<E>) -> Self {
        match error {
            CallError::Exception(exception) => exception.into(),
            CallError::Connection(error) => error,
        }
    }
}

/// A connection to a server.
pub struct Client {
    transport: Transport<TcpStream>,
    settings: Settings,
    /// For messages.
    address: String,
    sequence: i32,
    /// Set while a call is under way. It stays set where the call failed, or where its future was dropped: an answer that
    /// comes later would be taken for that of the next call.
    is_broken: bool,
}

impl Client {
    /// Connects to `host:port`.
    pub async fn connect(address: &str, settings: Settings) -> Result<Self> {
        let connecting = timeout(settings.connect_timeout, TcpStream::connect(address)).await;
        let stream = match connecting {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(Error::io(format_args!("connect to the metastore at {address}"), error)),
            Err(_) => {
                let waited = settings.connect_timeout;
                return Err(Error::unavailable(format!("the metastore at {address} did not answer within {waited:?}")));
            }
        };
        // An answer follows each call, so waiting to fill a packet only costs time.
        stream
            .set_nodelay(true)
            .map_err(|error| Error::io(format_args!("set up the connection to {address}"), error))?;
        let framing = if settings.is_framed { Framing::Framed } else { Framing::Unframed };
        let transport = Transport::new(stream, Some(framing), settings.limits);
        Ok(Self { transport, settings, address: address.to_owned(), sequence: 0, is_broken: false })
    }

    /// Whether the connection is of no more use: connect again.
    pub fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Asks for the method that the arguments name.
    pub async fn call<M: Method>(&mut self, args: &M) -> Result<M::Reply, CallError<M::Exception>> {
        let limit = self.settings.limits.message_bytes;
        self.sequence = self.sequence.wrapping_add(1);
        let message = call::request(args, self.sequence, limit).ok_or_else(|| {
            Error::invalid_input(format!("the arguments of {} have more than {limit} bytes (message_bytes)", M::NAME))
        })?;
        let Some((header, body)) = self.exchange(M::NAME, message, M::IS_ONEWAY).await? else {
            // A method without an answer has a result without a value.
            return Ok(M::Reply::read(&mut Reader::new(&[], &self.settings.limits)).map_err(|e| self.unreadable(e))?);
        };
        let mut reader = Reader::new(&body, &self.settings.limits);
        if header.kind == MessageType::Exception {
            let own = reader.record::<ApplicationException>().map_err(|error| self.unreadable(error))?;
            return Err(CallError::Exception(M::Exception::application(own)));
        }
        match call::read_result::<M>(&mut reader).map_err(|error| self.unreadable(error))? {
            Some(result) => result.map_err(CallError::Exception),
            None => {
                let text = format!("{} failed: the answer has no result", M::NAME);
                let own = ApplicationException::new(ApplicationException::MISSING_RESULT, text);
                Err(CallError::Exception(M::Exception::application(own)))
            }
        }
    }

    /// Sends a call and waits for its answer; nothing if there is none to wait for.
    async fn exchange(&mut self, method: &str, message: Chunks, is_oneway: bool) -> Result<Option<(Header, Bytes)>> {
        if self.is_broken {
            return Err(Error::unavailable(format!("the connection to {} is broken: connect again", self.address)));
        }
        self.is_broken = true;
        let waits = self.settings.call_timeout;
        let exchange = async {
            let sent = self.transport.write(message).await;
            sent.map_err(|error| Error::io(format_args!("send {method} to {}", self.address), error))?;
            if is_oneway {
                return Ok(None);
            }
            let answer = self.transport.read(waits).await;
            answer.map(Some).map_err(|error| {
                Error::unavailable(format!("{method}: no answer from {}: {error}", self.address)).with_source(error)
            })
        };
        let answer = timeout(waits, exchange).await.unwrap_or_else(|_| {
            Err(Error::unavailable(format!("{method}: {} did not answer within {waits:?}", self.address)))
        })?;
        let Some(answer) = answer else {
            self.is_broken = false;
            return Ok(None);
        };
        let answer = answer.bytes;
        let mut reader = Reader::new(&answer, &self.settings.limits);
        let header = Header::read(&mut reader).map_err(|error| self.unreadable(error))?;
        let is_answer = matches!(header.kind, MessageType::Reply | MessageType::Exception);
        if !is_answer || header.sequence != self.sequence || header.name != method.as_bytes() {
            let found = header.method();
            return Err(Error::unavailable(format!("{method}: {} answered another call, {found}", self.address)));
        }
        let body = answer.slice(reader.position()..);
        self.is_broken = false;
        Ok(Some((header, body)))
    }

    fn unreadable(&self, error: DecodeError) -> Error {
        Error::unavailable(format!("the answer of {} cannot be read: {error}", self.address)).with_source(error)
    }
}

//! Messages on a stream of bytes, framed or not.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::codec::{Chunks, Limits, ScanError, Scanner};

/// The bytes before a message that say how long it is, if the connection is framed.
const FRAME_HEAD_BYTES: usize = 4;
/// The room made for the first bytes of a message. Later it grows with what has arrived, never with what is announced.
const READ_BYTES: usize = 8 << 10;
const READ_LIMIT_BYTES: usize = 1 << 20;
/// A buffer that grew larger than this is given back when it is empty.
const KEPT_BYTES: usize = 64 << 10;

/// A message of which more bytes than these are there, and more to come, needs a place among the large ones, so that many
/// connections together cannot fill the memory.
pub const LARGE_BYTES: usize = 1 << 20;

/// A whole message.
pub(crate) struct Message {
    pub(crate) bytes: Bytes,
    /// Its place among the large ones: free again when it is dropped.
    _place: Option<OwnedSemaphorePermit>,
}

/// Whether each message comes after its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    Framed,
    Unframed,
}

impl Framing {
    /// What the first bytes of a connection show, or nothing if there are too few.
    ///
    /// An unframed message begins with the version of the protocol (its first bit is set), or with the length of a name
    /// and the name. In a frame the same two follow the length of the frame, and no name begins with a zero.
    fn of(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0x80..=0xff, ..] => Some(Self::Unframed),
            [_, _, _, _, 0x00 | 0x80..=0xff, ..] => Some(Self::Framed),
            [_, _, _, _, _, ..] => Some(Self::Unframed),
            _ => None,
        }
    }
}

/// Why there is no next message.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("{0}")]
    Scan(ScanError),
    #[error("the frame has {found} bytes, the limit is {limit} (message_bytes)")]
    FrameTooLarge { found: u32, limit: usize },
    #[error("the peer closed the connection inside a message")]
    Cut,
    #[error("the rest of a message did not arrive within {0:?}")]
    Slow(Duration),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// A stream with the bytes that were read and not used.
pub(crate) struct Transport<S> {
    stream: S,
    buffer: BytesMut,
    framing: Option<Framing>,
    limits: Limits,
    scanner: Scanner,
    /// The places for large messages, if others share them.
    places: Option<Arc<Semaphore>>,
    place: Option<OwnedSemaphorePermit>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Transport<S> {
    /// With a framing that is known, or that is seen from what arrives first.
    pub(crate) fn new(stream: S, framing: Option<Framing>, limits: Limits) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
            framing,
            limits,
            scanner: Scanner::new(limits),
            places: None,
            place: None,
        }
    }

    /// Takes a place from these for each large message.
    pub(crate) fn share(&mut self, places: Arc<Semaphore>) {
        self.places = Some(places);
    }

    /// Waits until a message begins, as long as that takes. False if the peer closed the connection instead.
    pub(crate) async fn begun(&mut self) -> std::io::Result<bool> {
        if self.buffer.is_empty() { self.read_more().await.map(|read| read > 0) } else { Ok(true) }
    }

    /// The next message, whose parts must all arrive within the limit.
    pub(crate) async fn read(&mut self, limit: Duration) -> Result<Message, ReadError> {
        let read = async {
            loop {
                if let Some(bytes) = self.take_message()? {
                    if bytes.len() > KEPT_BYTES {
                        // What is left in the buffer would keep the memory of the whole message, used or not.
                        self.buffer = BytesMut::from(&self.buffer[..]);
                    }
                    return Ok(Message { bytes, _place: self.place.take() });
                }
                self.take_place().await;
                if self.read_more().await? == 0 {
                    return Err(ReadError::Cut);
                }
            }
        };
        tokio::time::timeout(limit, read).await.unwrap_or(Err(ReadError::Slow(limit)))
    }

    async fn take_place(&mut self) {
        if self.buffer.len() > LARGE_BYTES
            && self.place.is_none()
            && let Some(places) = &self.places
        {
            // Nobody closes the semaphore, so there is always a place in the end.
            self.place = Arc::clone(places).acquire_owned().await.ok();
        }
    }

    /// What has arrived of a message that was refused.
    pub(crate) fn refused(&self) -> &[u8] {
        let is_framed = self.framing == Some(Framing::Framed);
        let head = if is_framed { FRAME_HEAD_BYTES } else { 0 };
        self.buffer.get(head..).unwrap_or_default()
    }

    /// Sends a message. What is sent of it is not kept while the rest is.
    pub(crate) async fn write(&mut self, message: Chunks) -> std::io::Result<()> {
        let len = u32::try_from(message.len()).map_err(std::io::Error::other)?;
        let head: [u8; FRAME_HEAD_BYTES] = len.to_be_bytes();
        let is_framed = self.framing == Some(Framing::Framed);
        let head = if is_framed { &head[..] } else { &[] };
        self.stream.write_all_buf(&mut Buf::chain(head, message)).await?;
        self.stream.flush().await
    }

    /// Ends the stream towards the peer.
    pub(crate) async fn close(&mut self) -> std::io::Result<()> {
        self.stream.shutdown().await
    }

    /// Reads and forgets until the peer closes.
    pub(crate) async fn discard(&mut self) -> std::io::Result<()> {
        loop {
            self.buffer.clear();
            if self.read_more().await? == 0 {
                return Ok(());
            }
        }
    }

    async fn read_more(&mut self) -> std::io::Result<usize> {
        if self.buffer.is_empty() && self.buffer.capacity() > KEPT_BYTES {
            self.buffer = BytesMut::new();
        }
        self.buffer.reserve(self.buffer.len().clamp(READ_BYTES, READ_LIMIT_BYTES));
        self.stream.read_buf(&mut self.buffer).await
    }

    fn take_message(&mut self) -> Result<Option<Bytes>, ReadError> {
        if self.framing.is_none() {
            self.framing = Framing::of(&self.buffer);
        }
        match self.framing {
            None => Ok(None),
            Some(Framing::Framed) => self.take_frame(),
            Some(Framing::Unframed) => {
                let Some(end) = self.scanner.scan(&self.buffer).map_err(ReadError::Scan)? else { return Ok(None) };
                self.scanner = Scanner::new(self.limits);
                Ok(Some(self.buffer.split_to(end).freeze()))
            }
        }
    }

    fn take_frame(&mut self) -> Result<Option<Bytes>, ReadError> {
        let Some(head) = self.buffer.first_chunk::<FRAME_HEAD_BYTES>() else { return Ok(None) };
        let found = u32::from_be_bytes(*head);
        let limit = self.limits.message_bytes;
        let len = usize::try_from(found).ok().filter(|len| *len <= limit);
        let len = len.ok_or(ReadError::FrameTooLarge { found, limit })?;
        if self.buffer.len() < FRAME_HEAD_BYTES + len {
            return Ok(None);
        }
        self.buffer.advance(FRAME_HEAD_BYTES);
        Ok(Some(self.buffer.split_to(len).freeze()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn framed(len: usize) -> Vec<u8> {
        // The first byte is that of a call, so that the framing is seen.
        let mut frame = u32::try_from(len).unwrap().to_be_bytes().to_vec();
        frame.extend(vec![0x80; len]);
        frame
    }

    #[tokio::test]
    async fn the_memory_of_a_large_message_is_not_kept() {
        let (mut peer, stream) = tokio::io::duplex(16 << 20);
        let mut transport = Transport::new(stream, None, Limits::default());
        // The buffer doubles: this leaves too little of it for another read, which then takes what the message had.
        let len = (8 << 20) - 1000;
        peer.write_all(&framed(len)).await.unwrap();
        assert_eq!(transport.read(PATIENCE).await.unwrap().bytes.len(), len);
        peer.write_all(&framed(200)).await.unwrap();
        assert_eq!(transport.read(PATIENCE).await.unwrap().bytes.len(), 200);
        assert!(transport.buffer.capacity() <= KEPT_BYTES, "{}", transport.buffer.capacity());
    }

    #[test]
    fn the_framing_is_seen_as_soon_as_it_can_be() {
        assert_eq!(Framing::of(b""), None);
        assert_eq!(Framing::of(b"\x80"), Some(Framing::Unframed));
        assert_eq!(Framing::of(b"\x00\x00\x00\x2d"), None);
        assert_eq!(Framing::of(b"\x00\x00\x00\x2d\x80"), Some(Framing::Framed));
        assert_eq!(Framing::of(b"\x00\x00\x00\x2a\x00"), Some(Framing::Framed));
        assert_eq!(Framing::of(b"\x00\x00\x00\x09g"), Some(Framing::Unframed));
    }
}

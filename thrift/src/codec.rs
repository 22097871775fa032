//! TBinaryProtocol: values to bytes and back, synchronously, over bytes that are all there.
//!
//! [`scan`] finds where a message ends before anything is decoded; [`Reader`] then decodes it and [`Writer`] encodes the
//! answer. The format: <https://github.com/apache/thrift/blob/master/doc/specs/thrift-binary-protocol.md>.

mod chunks;
mod message;
mod reader;
pub mod scan;
mod wire;
mod writer;

pub use chunks::{CHUNK_BYTES, Chunks};
pub use message::{ApplicationException, Form, Header, MessageType};
pub use reader::{DecodeError, FieldReader, Reader};
pub use scan::{ScanError, Scanner};
pub(crate) use wire::enumeration;
pub use wire::{Record, SentAs, Set, Shared, Wire};
pub use writer::{Listed, Texts, Writer};

/// What a message of a peer may have. A message beyond them is refused, not cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one message, its header included. Hive's own servers and clients stop at the same number.
    pub message_bytes: usize,
    /// Structs and containers inside each other.
    pub depth: usize,
    /// Bytes of one string or binary value.
    pub string_bytes: usize,
    /// Elements of one list or set, entries of one map.
    pub items: usize,
    /// Bytes of memory that the decoded values of one message may take.
    pub memory_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { message_bytes: 100 << 20, depth: 64, string_bytes: 64 << 20, items: 10_000_000, memory_bytes: 1 << 30 }
    }
}

/// The types of the wire, by their number there.
pub mod kind {
    pub const STOP: u8 = 0;
    pub const VOID: u8 = 1;
    pub const BOOL: u8 = 2;
    pub const BYTE: u8 = 3;
    pub const DOUBLE: u8 = 4;
    pub const I16: u8 = 6;
    pub const I32: u8 = 8;
    pub const I64: u8 = 10;
    pub const STRING: u8 = 11;
    pub const STRUCT: u8 = 12;
    pub const MAP: u8 = 13;
    pub const SET: u8 = 14;
    pub const LIST: u8 = 15;
}

/// The bytes of a value that has always as many, or nothing for one whose bytes say how many there are.
fn fixed_len(ty: u8) -> Option<usize> {
    match ty {
        kind::BOOL | kind::BYTE => Some(1),
        kind::I16 => Some(2),
        kind::I32 => Some(4),
        kind::I64 | kind::DOUBLE => Some(8),
        _ => None,
    }
}

/// The fewest bytes that a value of the type can have, or nothing if there is no such type.
fn least_len(ty: u8) -> Option<usize> {
    match ty {
        kind::STRING => Some(4),
        kind::STRUCT => Some(1),
        kind::SET | kind::LIST => Some(5),
        kind::MAP => Some(6),
        fixed => fixed_len(fixed),
    }
}

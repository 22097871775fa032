//! Finds where a message ends that comes without its length, before anything of it is decoded.
//!
//! The scanner keeps its place, so that a large message that arrives in many pieces is looked at once. It allocates
//! nothing but its stack, which has a bound, and it jumps over strings and lists of numbers.

use super::message::{STRICT, STRICT_BIT};
use super::{Limits, fixed_len, kind, least_len};

/// Bytes of the name of a method; the longest that there is has about fifty.
pub(crate) const METHOD_NAME_LIMIT_BYTES: usize = 256;

/// Why bytes are not a message, or not one that is taken. Where it would end is then not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    #[error("the message does not begin as Thrift's binary protocol does but as {}: {:02x?}", guess(*.0), .0)]
    BadHeader([u8; 4]),
    #[error("the message has more than {0} bytes (message_bytes)")]
    TooLarge(usize),
    #[error("the message is nested more than {0} deep (depth)")]
    TooDeep(usize),
    #[error("a string of the message has the length {0}, which is negative")]
    NegativeLength(i32),
    #[error("a string of the message has {found} bytes, the limit is {limit} (string_bytes)")]
    StringTooLong { found: usize, limit: usize },
    #[error("a list, set or map of the message has {0} elements, which is negative")]
    NegativeCount(i32),
    #[error("a list, set or map of the message has {found} elements, the limit is {limit} (items)")]
    TooManyItems { found: usize, limit: usize },
    #[error("the message has a value of the wire type {0}, which does not exist")]
    UnknownType(u8),
}

/// What a peer may speak that begins like this, for whoever reads the log.
fn guess(first: [u8; 4]) -> &'static str {
    match first {
        [0x16, 0x03, ..] => "TLS",
        [0x82, ..] => "Thrift's compact protocol",
        [0x01..=0x05, 0, 0, _] => "SASL",
        [b'A'..=b'Z', b'A'..=b'Z', ..] => "HTTP",
        _ => "nothing known",
    }
}

/// What the next bytes are part of.
#[derive(Debug, Clone, Copy)]
enum Level {
    Struct,
    /// A list or set with so many elements to come.
    List {
        ty: u8,
        left: usize,
    },
    /// A map with so many keys and values to come; a key is next if the number is even.
    Map {
        key: u8,
        value: u8,
        left: usize,
    },
}

/// The place in a message up to which it is known.
#[derive(Debug)]
pub struct Scanner {
    limits: Limits,
    /// May be beyond the bytes that are there: up to it they do not matter.
    at: usize,
    has_header: bool,
    /// The type of the value that begins at `at`, if one does.
    value: Option<u8>,
    levels: Vec<Level>,
}

impl Scanner {
    /// A scanner for the next message.
    pub fn new(limits: Limits) -> Self {
        Self { limits, at: 0, has_header: false, value: None, levels: Vec::new() }
    }

    /// Whether the head of the message is there, so that an answer can be addressed.
    pub fn has_header(&self) -> bool {
        self.has_header
    }

    /// Where the message ends, or nothing if more bytes are needed. `bytes` are those from the beginning of the message:
    /// at least those of the call before.
    pub fn scan(&mut self, bytes: &[u8]) -> Result<Option<usize>, ScanError> {
        if !self.has_header && !self.pass_header(bytes)? {
            return self.more();
        }
        loop {
            if self.at > self.limits.message_bytes {
                return Err(ScanError::TooLarge(self.limits.message_bytes));
            }
            let has_passed = match (self.value, self.levels.last_mut()) {
                (Some(ty), _) => self.pass_value_head(ty, bytes)?,
                (None, None) => return if self.at <= bytes.len() { Ok(Some(self.at)) } else { self.more() },
                (None, Some(Level::Struct)) => self.pass_field_head(bytes),
                (None, Some(Level::List { left: 0, .. } | Level::Map { left: 0, .. })) => {
                    self.levels.pop();
                    true
                }
                (None, Some(Level::List { ty, left })) => {
                    *left -= 1;
                    self.value = Some(*ty);
                    true
                }
                (None, Some(Level::Map { key, value, left })) => {
                    self.value = Some(if *left % 2 == 0 { *key } else { *value });
                    *left -= 1;
                    true
                }
            };
            if !has_passed {
                return self.more();
            }
        }
    }

    /// More bytes are needed than there are: not so if the limit is passed.
    fn more(&self) -> Result<Option<usize>, ScanError> {
        let limit = self.limits.message_bytes;
        if self.at > limit { Err(ScanError::TooLarge(limit)) } else { Ok(None) }
    }

    /// The `N` bytes from `at` on, if they are there.
    fn peek<const N: usize>(&self, bytes: &[u8]) -> Option<[u8; N]> {
        bytes.get(self.at..self.at.checked_add(N)?)?.try_into().ok()
    }

    fn pass_header(&mut self, bytes: &[u8]) -> Result<bool, ScanError> {
        let Some(first) = self.peek::<4>(bytes) else { return Ok(false) };
        let (name_len, before, after) = if first[0] & STRICT_BIT != 0 {
            if u16::from_be_bytes([first[0], first[1]]) != STRICT {
                return Err(ScanError::BadHeader(first));
            }
            // Version and type, the length of the name; then the sequence.
            let Some(head) = self.peek::<8>(bytes) else { return Ok(false) };
            (i32::from_be_bytes([head[4], head[5], head[6], head[7]]), 8, 4)
        } else {
            // The length of the name; then the type and the sequence.
            (i32::from_be_bytes(first), 4, 5)
        };
        let name_len = usize::try_from(name_len).ok().filter(|len| *len <= METHOD_NAME_LIMIT_BYTES);
        let len = before + name_len.ok_or(ScanError::BadHeader(first))? + after;
        if bytes.len() < len {
            return Ok(false);
        }
        self.at = len;
        self.has_header = true;
        self.levels.push(Level::Struct);
        Ok(true)
    }

    fn pass_field_head(&mut self, bytes: &[u8]) -> bool {
        let Some([ty]) = self.peek::<1>(bytes) else { return false };
        if ty == kind::STOP {
            self.levels.pop();
            self.at += 1;
            return true;
        }
        if self.peek::<3>(bytes).is_none() {
            return false;
        }
        self.at += 3;
        self.value = Some(ty);
        true
    }

    /// Passes what says how long a value is, and all of it if nothing is inside.
    fn pass_value_head(&mut self, ty: u8, bytes: &[u8]) -> Result<bool, ScanError> {
        match ty {
            kind::STRUCT => self.enter(Level::Struct)?,
            kind::STRING => {
                let Some(len) = self.peek::<4>(bytes) else { return Ok(false) };
                let len = i32::from_be_bytes(len);
                let found = usize::try_from(len).map_err(|_| ScanError::NegativeLength(len))?;
                if found > self.limits.string_bytes {
                    return Err(ScanError::StringTooLong { found, limit: self.limits.string_bytes });
                }
                self.at += 4 + found;
            }
            kind::LIST | kind::SET => {
                let Some([ty, count @ ..]) = self.peek::<5>(bytes) else { return Ok(false) };
                self.at += 5;
                let left = self.count(count, least_len(ty), ty)?;
                match fixed_len(ty) {
                    Some(len) => self.at += left * len,
                    None => self.enter(Level::List { ty, left })?,
                }
            }
            kind::MAP => {
                let Some([key, value, count @ ..]) = self.peek::<6>(bytes) else { return Ok(false) };
                self.at += 6;
                let left = self.count(count, least_len(key), key)?;
                self.count(count, least_len(value), value)?;
                self.enter(Level::Map { key, value, left: left * 2 })?;
            }
            fixed => self.at += fixed_len(fixed).ok_or(ScanError::UnknownType(fixed))?,
        }
        self.value = None;
        Ok(true)
    }

    fn enter(&mut self, level: Level) -> Result<(), ScanError> {
        if self.levels.len() >= self.limits.depth {
            return Err(ScanError::TooDeep(self.limits.depth));
        }
        self.levels.push(level);
        Ok(())
    }

    /// A count of elements for which a message within its limit has room.
    fn count(&self, count: [u8; 4], least: Option<usize>, ty: u8) -> Result<usize, ScanError> {
        let count = i32::from_be_bytes(count);
        let found = usize::try_from(count).map_err(|_| ScanError::NegativeCount(count))?;
        if found > self.limits.items {
            return Err(ScanError::TooManyItems { found, limit: self.limits.items });
        }
        // Without elements their types do not matter, and some writers put zeros there.
        let least = match least {
            Some(least) => least,
            None if found == 0 => 0,
            None => return Err(ScanError::UnknownType(ty)),
        };
        if found.saturating_mul(least) > self.limits.message_bytes {
            return Err(ScanError::TooLarge(self.limits.message_bytes));
        }
        Ok(found)
    }
}

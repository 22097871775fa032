//! Decodes values from the bytes of one whole message.

use std::fmt;

use super::wire::{Record, Wire};
use super::{Limits, fixed_len, kind, least_len};

/// Decoded values may take this many times the bytes of their message, and so much more in any case. A short message can
/// otherwise ask for a long list of empty structs, which are one byte each on the wire and hundreds in memory. Partitions
/// as clients send them take three times their bytes.
const MEMORY_PER_BYTE: usize = 32;
const MEMORY_FREE_BYTES: usize = 1 << 20;

/// Why the bytes of a message are not the values they should be, and in which field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeError {
    /// The fields from the inside out.
    path: Vec<&'static str>,
    reason: Reason,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Reason {
    #[error("is not valid UTF-8 at its byte {at}")]
    NotUtf8 { at: usize },
    #[error("has the length {0}, which is negative")]
    NegativeLength(i32),
    #[error("is longer than the rest of the message")]
    Truncated,
    #[error("has {found} bytes, the limit is {limit} (string_bytes)")]
    StringTooLong { found: usize, limit: usize },
    #[error("has {found} elements, the limit is {limit} (items)")]
    TooManyItems { found: usize, limit: usize },
    #[error("is nested more than {0} deep (depth)")]
    TooDeep(usize),
    #[error("holds elements of the wire type {found}, not {expected}")]
    WrongType { found: u8, expected: u8 },
    #[error("has the wire type {0}, which does not exist")]
    UnknownType(u8),
    #[error("would take more than {0} bytes of memory, which is too much for a message of this size")]
    TooMuchMemory(usize),
    #[error("has no message header that is understood")]
    BadHeader,
}

impl DecodeError {
    pub(crate) fn new(reason: Reason) -> Self {
        Self { path: Vec::new(), reason }
    }

    /// The path of the field that is wrong, as `tbl.sd.cols.comment`; empty if the message itself is.
    pub fn field(&self) -> String {
        let path: Vec<&str> = self.path.iter().rev().copied().collect();
        path.join(".")
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            write!(f, "the message {}", self.reason)
        } else {
            write!(f, "the field {} {}", self.field(), self.reason)
        }
    }
}

impl std::error::Error for DecodeError {}

type Result<T, E = DecodeError> = std::result::Result<T, E>;

/// A place in the bytes of one message.
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
    limits: &'a Limits,
    memory: usize,
    memory_limit: usize,
}

impl<'a> Reader<'a> {
    /// Reads `bytes` from their beginning.
    pub fn new(bytes: &'a [u8], limits: &'a Limits) -> Self {
        let memory_limit = bytes.len().saturating_mul(MEMORY_PER_BYTE).saturating_add(MEMORY_FREE_BYTES);
        let memory_limit = memory_limit.min(limits.memory_bytes);
        Self { bytes, at: 0, depth: 0, limits, memory: 0, memory_limit }
    }

    /// How many bytes have been read.
    pub fn position(&self) -> usize {
        self.at
    }

    /// How many bytes of memory the values read so far were allowed to allocate.
    pub fn memory(&self) -> usize {
        self.memory
    }

    /// The next `len` bytes.
    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| DecodeError::new(Reason::Truncated))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    /// The next `N` bytes, for numbers.
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let taken = self.take(N)?;
        <[u8; N]>::try_from(taken).map_err(|_| DecodeError::new(Reason::Truncated))
    }

    pub(crate) fn byte(&mut self) -> Result<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// A length or a count: never negative.
    pub(crate) fn len(&mut self) -> Result<usize> {
        let len = i32::from_be_bytes(self.array()?);
        usize::try_from(len).map_err(|_| DecodeError::new(Reason::NegativeLength(len)))
    }

    /// The bytes of a string or binary value, still in the message.
    pub(crate) fn string_bytes(&mut self) -> Result<&'a [u8]> {
        let len = self.len()?;
        if len > self.limits.string_bytes {
            return Err(DecodeError::new(Reason::StringTooLong { found: len, limit: self.limits.string_bytes }));
        }
        let bytes = self.take(len)?;
        self.charge(len)?;
        Ok(bytes)
    }

    /// The head of a list or set whose elements should have the type `expected` and take `size` bytes of memory each.
    pub(crate) fn list_head(&mut self, expected: u8, size: usize) -> Result<usize> {
        let found = self.byte()?;
        let count = self.count(least_len(found))?;
        if found != expected && count > 0 {
            return Err(DecodeError::new(Reason::WrongType { found, expected }));
        }
        self.charge(count.saturating_mul(size))?;
        Ok(count)
    }

    /// The head of a map, as [`Reader::list_head`]. What it takes in memory is for the caller to charge.
    pub(crate) fn map_head(&mut self, expected: (u8, u8)) -> Result<usize> {
        let [key, value] = self.array()?;
        let least = least_len(key).zip(least_len(value)).map(|(key, value)| key + value);
        let count = self.count(least)?;
        for (found, expected) in [(key, expected.0), (value, expected.1)] {
            if found != expected && count > 0 {
                return Err(DecodeError::new(Reason::WrongType { found, expected }));
            }
        }
        Ok(count)
    }

    /// A count of elements of at least `least` bytes each, for which the rest of the message has room.
    fn count(&mut self, least: Option<usize>) -> Result<usize> {
        let count = self.len()?;
        if count > self.limits.items {
            return Err(DecodeError::new(Reason::TooManyItems { found: count, limit: self.limits.items }));
        }
        // Without elements their types do not matter, and some writers put zeros there.
        let least = if count == 0 { 0 } else { least.unwrap_or(1) };
        if count.saturating_mul(least) > self.bytes.len() - self.at {
            return Err(DecodeError::new(Reason::Truncated));
        }
        Ok(count)
    }

    /// Counts memory that is allocated next, and refuses what is more than the message may take.
    pub(crate) fn charge(&mut self, bytes: usize) -> Result<()> {
        self.memory = self.memory.saturating_add(bytes);
        if self.memory > self.memory_limit {
            return Err(DecodeError::new(Reason::TooMuchMemory(self.memory_limit)));
        }
        Ok(())
    }

    /// Does `read` one level deeper.
    pub(crate) fn nested<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth >= self.limits.depth {
            return Err(DecodeError::new(Reason::TooDeep(self.limits.depth)));
        }
        self.depth += 1;
        let value = read(self);
        self.depth -= 1;
        value
    }

    /// A struct, whose fields may come in any order; those that are not known are skipped.
    pub fn record<T: Record>(&mut self) -> Result<T> {
        self.nested(|reader| {
            let mut record = T::default();
            loop {
                let ty = reader.byte()?;
                if ty == kind::STOP {
                    return Ok(record);
                }
                let id = i16::from_be_bytes(reader.array()?);
                let read = record.read_field(FieldReader { reader, ty, id });
                read.map_err(|mut error| {
                    let known = T::FIELDS.iter().find(|(known, _)| *known == id);
                    error.path.push(known.map_or("?", |(_, name)| name));
                    error
                })?;
            }
        })
    }

    /// Passes over a value of any type.
    pub fn skip(&mut self, ty: u8) -> Result<()> {
        if let Some(len) = fixed_len(ty) {
            return self.take(len).map(drop);
        }
        match ty {
            kind::STRING => {
                let len = self.len()?;
                self.take(len).map(drop)
            }
            kind::STRUCT => self.nested(|reader| {
                loop {
                    let ty = reader.byte()?;
                    if ty == kind::STOP {
                        return Ok(());
                    }
                    reader.take(2)?;
                    reader.skip(ty)?;
                }
            }),
            kind::LIST | kind::SET => self.nested(|reader| {
                let ty = reader.byte()?;
                let count = reader.count(least_len(ty))?;
                (0..count).try_for_each(|_| reader.skip(ty))
            }),
            kind::MAP => self.nested(|reader| {
                let [key, value] = reader.array()?;
                let count = reader.count(least_len(key))?;
                (0..count).try_for_each(|_| reader.skip(key).and_then(|()| reader.skip(value)))
            }),
            other => Err(DecodeError::new(Reason::UnknownType(other))),
        }
    }
}

/// One field of a struct: its id and type are read, its value is next. Each way to read it consumes the value.
pub struct FieldReader<'r, 'a> {
    reader: &'r mut Reader<'a>,
    ty: u8,
    id: i16,
}

impl<'r, 'a> FieldReader<'r, 'a> {
    pub(crate) fn new(reader: &'r mut Reader<'a>, ty: u8, id: i16) -> Self {
        Self { reader, ty, id }
    }

    /// The number of the field.
    pub fn id(&self) -> i16 {
        self.id
    }

    /// The value, or nothing if the field has another type, as where releases of the interface disagree.
    pub fn value<T: Wire>(self) -> Result<Option<T>> {
        if self.ty == T::TYPE { T::read(self.reader).map(Some) } else { self.skip().map(|()| None) }
    }

    /// Puts the value where absent means nothing.
    pub fn optional<T: Wire>(self, slot: &mut Option<T>) -> Result<()> {
        self.value().map(|value| *slot = value)
    }

    /// Puts the value where absent means nothing and a box holds what is there.
    pub fn boxed<T: Wire>(self, slot: &mut Option<Box<T>>) -> Result<()> {
        if self.ty == T::TYPE {
            self.reader.charge(size_of::<T>())?;
        }
        self.value().map(|value| *slot = value.map(Box::new))
    }

    /// Puts the value where absent means the default of its type.
    pub fn required<T: Wire>(self, slot: &mut T) -> Result<()> {
        if let Some(value) = self.value()? {
            *slot = value;
        }
        Ok(())
    }

    /// Makes the union the variant of this field.
    pub fn variant<U, T: Wire>(self, union: &mut U, variant: impl FnOnce(T) -> U) -> Result<()> {
        if let Some(value) = self.value()? {
            *union = variant(value);
        }
        Ok(())
    }

    /// Passes over the value.
    pub fn skip(self) -> Result<()> {
        self.reader.skip(self.ty)
    }
}

//! Encodes values, up to a bound.

use bytes::{BufMut, BytesMut};

use super::kind;
use super::wire::{Record, Wire};

/// Bytes being written. Past its limit it writes no more and remembers that, so that a large answer costs no more memory
/// than the limit.
pub struct Writer {
    out: BytesMut,
    limit: usize,
    is_full: bool,
}

impl Writer {
    /// A writer for at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { out: BytesMut::new(), limit, is_full: false }
    }

    /// The bytes, or nothing if there was no room for all of them.
    pub fn finish(self) -> Option<BytesMut> {
        (!self.is_full).then_some(self.out)
    }

    pub(crate) fn put(&mut self, bytes: &[u8]) {
        if self.is_full || bytes.len() > self.limit - self.out.len() {
            self.is_full = true;
        } else {
            self.out.put_slice(bytes);
        }
    }

    /// Whether nothing more is taken.
    pub(crate) fn is_full(&self) -> bool {
        self.is_full
    }

    /// A length or a count. What does not fit the wire does not fit the message either.
    pub(crate) fn put_len(&mut self, len: usize) {
        match i32::try_from(len) {
            Ok(len) => self.put(&len.to_be_bytes()),
            Err(_) => self.is_full = true,
        }
    }

    pub(crate) fn put_string(&mut self, bytes: &[u8]) {
        self.put_len(bytes.len());
        self.put(bytes);
    }

    /// A field that is always there.
    pub fn required<T: Wire>(&mut self, id: i16, value: &T) {
        let [high, low] = id.to_be_bytes();
        self.put(&[T::TYPE, high, low]);
        value.write(self);
    }

    /// A field that may be absent.
    pub fn optional<T: Wire>(&mut self, id: i16, value: &Option<T>) {
        if let Some(value) = value {
            self.required(id, value);
        }
    }

    /// A field that may be absent and is in a box if it is there.
    pub fn boxed<T: Wire>(&mut self, id: i16, value: &Option<Box<T>>) {
        if let Some(value) = value {
            self.required(id, &**value);
        }
    }

    /// A struct with its end.
    pub fn record<T: Record>(&mut self, record: &T) {
        record.write_fields(self);
        self.stop();
    }

    pub(crate) fn stop(&mut self) {
        self.put(&[kind::STOP]);
    }
}

//! Encodes values, up to a bound.

use std::marker::PhantomData;

use super::chunks::Chunks;
use super::kind;
use super::wire::{Record, SentAs, Wire};

/// Bytes being written. Past its limit it writes no more and remembers that, so that a large answer costs no more memory
/// than the limit.
#[derive(Debug, Clone)]
pub struct Writer {
    out: Chunks,
    limit: usize,
    is_full: bool,
}

impl Writer {
    /// A writer for at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { out: Chunks::default(), limit, is_full: false }
    }

    /// The bytes, or nothing if there was no room for all of them.
    pub fn finish(self) -> Option<Chunks> {
        (!self.is_full).then_some(self.out)
    }

    /// How many bytes are written.
    pub(crate) fn len(&self) -> usize {
        self.out.len()
    }

    pub(crate) fn put(&mut self, bytes: &[u8]) {
        if self.is_full || bytes.len() > self.limit - self.out.len() {
            self.is_full = true;
        } else {
            self.out.extend(bytes);
        }
    }

    /// Writes what another writer has, if there was room for all of it. Most of it is not copied.
    pub(crate) fn put_written(&mut self, other: &Self) {
        if self.is_full || other.is_full || other.len() > self.limit - self.out.len() {
            self.is_full = true;
        } else {
            self.out.append(&other.out);
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

    /// The head of a field, which its value follows.
    pub(crate) fn field(&mut self, id: i16, ty: u8) {
        let [high, low] = id.to_be_bytes();
        self.put(&[ty, high, low]);
    }

    /// A field that is always there.
    pub fn required<T: Wire>(&mut self, id: i16, value: &T) {
        self.field(id, T::TYPE);
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

/// A list that is kept as it is on the wire, so that a million strings are no million allocations and not copied for the
/// answer. It has a bound, as a [`Writer`] has; with more it cannot be sent.
#[derive(Debug, Clone)]
pub struct Listed<T> {
    count: usize,
    written: Writer,
    items: PhantomData<T>,
}

/// A list of strings.
pub type Texts = Listed<String>;

impl Texts {
    /// Appends a string, if there is room for it and there was for all before.
    pub fn push_str(&mut self, text: &str) {
        self.written.put_string(text.as_bytes());
        self.count();
    }
}

impl<T: Wire> Listed<T> {
    /// An empty list of at most `limit` bytes on the wire.
    pub fn new(limit: usize) -> Self {
        Self { count: 0, written: Writer::new(limit), items: PhantomData }
    }

    /// Appends an item, if there is room for it and there was for all before.
    pub fn push(&mut self, item: &T) {
        item.write(&mut self.written);
        self.count();
    }

    fn count(&mut self) {
        if !self.written.is_full() {
            self.count += 1;
        }
    }

    /// How many items there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether there was no room for one: then nothing more is taken.
    pub fn is_full(&self) -> bool {
        self.written.is_full()
    }

    /// Bytes that they have on the wire, and about as many in memory.
    pub fn bytes(&self) -> usize {
        self.written.len()
    }
}

impl<T: Wire + Send> SentAs<Vec<T>> for Listed<T> {
    fn write_as(&self, writer: &mut Writer) {
        writer.put(&[T::TYPE]);
        writer.put_len(self.count);
        writer.put_written(&self.written);
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::chunks::CHUNK_BYTES;
    use super::*;

    /// Strings of all lengths, so that chunks end before, in and after each part of them.
    fn texts() -> impl Strategy<Value = Vec<String>> {
        let lens = prop_oneof![0_usize..60, CHUNK_BYTES / 7..CHUNK_BYTES / 3, CHUNK_BYTES - 40..CHUNK_BYTES + 40];
        vec(lens.prop_map(|len| "x".repeat(len)), 0..30)
    }

    /// The list as one buffer.
    fn encoded(texts: &[String]) -> Vec<u8> {
        let mut whole = vec![String::TYPE];
        whole.extend_from_slice(&u32::try_from(texts.len()).unwrap().to_be_bytes());
        for text in texts {
            whole.extend_from_slice(&u32::try_from(text.len()).unwrap().to_be_bytes());
            whole.extend_from_slice(text.as_bytes());
        }
        whole
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_list_of_strings_is_the_same_by_every_way(texts in texts(), before in 0..2 * CHUNK_BYTES, short in 1_usize..9) {
            let mut expected = vec![7; before];
            expected.extend(encoded(&texts));
            let mut list = Texts::new(expected.len());
            let mut items = list.clone();
            texts.iter().for_each(|text| list.push_str(text));
            texts.iter().for_each(|text| items.push(text));
            prop_assert_eq!((list.len(), list.is_full()), (texts.len(), false));
            let ways: [&dyn Fn(&mut Writer); 3] = [
                &|writer: &mut Writer| texts.write(writer),
                &|writer: &mut Writer| SentAs::<Vec<String>>::write_as(&list, writer),
                &|writer: &mut Writer| SentAs::<Vec<String>>::write_as(&items, writer),
            ];
            for write in ways {
                for limit in [expected.len(), expected.len() - short.min(expected.len())] {
                    let mut writer = Writer::new(limit);
                    writer.put(&vec![7; before]);
                    write(&mut writer);
                    let found = writer.finish().map(|written| written.into_bytes() == expected);
                    prop_assert_eq!(found, (limit == expected.len()).then_some(true));
                }
            }
        }
    }

    #[test]
    fn more_than_its_limit_cannot_be_sent() {
        let mut list = Texts::new(20);
        ["0123456789", "0123456789", "1"].iter().for_each(|text| list.push_str(text));
        assert_eq!((list.len(), list.is_full(), list.bytes() <= 20), (1, true, true));
        let mut writer = Writer::new(1000);
        SentAs::<Vec<String>>::write_as(&list, &mut writer);
        assert!(writer.finish().is_none());
    }
}

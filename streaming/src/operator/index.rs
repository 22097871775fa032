//! Keys in memory, each with a number.

use std::collections::HashMap;
use std::sync::Arc;

use super::key::BuildKeyHasher;

/// What an entry costs besides the bytes of its key: the map's slot, the counted pointer and its two counts.
const ENTRY_BYTES: usize = 64;

/// Numbers for keys. The number of a removed key is given out again only after [`KeyIndex::recycle`].
#[derive(Debug, Default)]
pub(crate) struct KeyIndex {
    numbers: HashMap<Arc<[u8]>, u32, BuildKeyHasher>,
    keys: Vec<Arc<[u8]>>,
    retired: Vec<u32>,
    free: Vec<u32>,
    bytes: usize,
}

impl KeyIndex {
    /// Makes room for so many more keys.
    pub(crate) fn reserve(&mut self, keys: usize) {
        self.numbers.reserve(keys);
        self.keys.reserve(keys);
    }

    /// The key's number; it gets one if it has none.
    pub(crate) fn intern(&mut self, key: &[u8]) -> u32 {
        if let Some(number) = self.numbers.get(key) {
            return *number;
        }
        let key: Arc<[u8]> = key.into();
        self.bytes += key.len() + ENTRY_BYTES;
        let number = match self.free.pop() {
            Some(number) => {
                self.keys[number as usize] = Arc::clone(&key);
                number
            }
            None => {
                self.keys.push(Arc::clone(&key));
                (self.keys.len() - 1) as u32
            }
        };
        self.numbers.insert(key, number);
        number
    }

    /// The number of a key that has one.
    pub(crate) fn get(&self, key: &[u8]) -> Option<u32> {
        self.numbers.get(key).copied()
    }

    /// The bytes of a key.
    pub(crate) fn key(&self, number: u32) -> &Arc<[u8]> {
        &self.keys[number as usize]
    }

    /// Forgets a key. [`KeyIndex::key`] still answers until [`KeyIndex::recycle`].
    pub(crate) fn remove(&mut self, number: u32) {
        let key = &self.keys[number as usize];
        if self.numbers.get(key) == Some(&number) {
            self.numbers.remove(key);
            self.bytes -= key.len() + ENTRY_BYTES;
            self.retired.push(number);
        }
    }

    /// Lets the numbers of removed keys be given out again.
    pub(crate) fn recycle(&mut self) {
        self.free.append(&mut self.retired);
    }

    /// Numbers given out so far, removed ones among them.
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

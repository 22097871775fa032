//! Keys in memory, each with a number.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::key::key_hash;

/// Bytes of keys lie together in pieces of so many bytes.
const PIECE_BYTES: usize = 1 << 20;
/// What an entry costs besides the bytes of its key: its place, and its slot in the table with what of that is empty.
const ENTRY_BYTES: usize = 32;
/// Tables of fewer buckets are in the processor's caches anyway.
const BUCKETS_MIN: usize = 1 << 15;
/// The piece of a key that is gone.
const NOWHERE: u32 = u32::MAX;

/// Numbers for keys. The number of a removed key is given out again only after [`KeyIndex::recycle`].
#[derive(Debug, Default)]
pub(crate) struct KeyIndex {
    numbers: HashTable<Slot>,
    /// Where the bytes of each number's key are.
    places: Vec<Place>,
    pieces: Vec<Vec<u8>>,
    retired: Vec<u32>,
    free: Vec<u32>,
    /// Of all keys that have numbers.
    key_bytes: usize,
    /// Bytes in pieces that are no key's any more.
    dead_bytes: usize,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    hash: u32,
    number: u32,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    piece: u32,
    from: u32,
    length: u32,
}

/// A part of the key's hash that does not tell its group: the keys of one task may all be of few groups.
pub(crate) fn part_of_hash(key: &[u8]) -> u32 {
    key_hash(key) as u32
}

/// Spreads 32 bits over 64: the table looks at the highest and the lowest ones.
pub(crate) fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// Hashes, by their places, in the order in which a table of so many buckets has them; of one bucket those first that come first. A
/// table that is larger than the processor's caches is looked through in this order, and not waited for at each hash.
pub(crate) fn by_bucket(hashes: impl Iterator<Item = u32>, buckets: usize) -> Vec<u32> {
    // The table looks for a hash where its lowest bits say, first.
    let mask = buckets.saturating_sub(1) as u64;
    let places = hashes.zip(0_u32..).map(|(hash, place)| ((spread(hash) & mask) << 32) | u64::from(place));
    let mut places: Vec<u64> = places.collect();
    if buckets >= BUCKETS_MIN {
        places.sort_unstable();
    }
    places.into_iter().map(|place| place as u32).collect()
}

fn bytes_at(pieces: &[Vec<u8>], place: Place) -> &[u8] {
    let from = place.from as usize;
    &pieces[place.piece as usize][from..from + place.length as usize]
}

/// Puts the bytes of a key into a piece that has room.
fn put(pieces: &mut Vec<Vec<u8>>, key: &[u8]) -> Place {
    if pieces.last().is_none_or(|last| last.capacity() - last.len() < key.len()) {
        pieces.push(Vec::with_capacity(PIECE_BYTES.max(key.len())));
    }
    let piece = pieces.len() - 1;
    let from = pieces[piece].len();
    pieces[piece].extend_from_slice(key);
    Place { piece: piece as u32, from: from as u32, length: key.len() as u32 }
}

impl KeyIndex {
    /// Makes room for so many more keys.
    pub(crate) fn reserve(&mut self, keys: usize) {
        self.numbers.reserve(keys, |slot| spread(slot.hash));
        self.places.reserve(keys);
    }

    /// The key's number; it gets one if it has none.
    pub(crate) fn intern(&mut self, key: &[u8]) -> u32 {
        self.intern_hashed(part_of_hash(key), key)
    }

    /// The numbers of many keys; those get one that have none.
    pub(crate) fn intern_all<'a>(&mut self, keys: usize, key: impl Fn(usize) -> &'a [u8]) -> Vec<u32> {
        let hashes: Vec<u32> = (0..keys).map(|place| part_of_hash(key(place))).collect();
        let mut of_keys = vec![0; keys];
        for place in by_bucket(hashes.iter().copied(), self.numbers.num_buckets()) {
            let place = place as usize;
            of_keys[place] = self.intern_hashed(hashes[place], key(place));
        }
        of_keys
    }

    fn intern_hashed(&mut self, hash: u32, key: &[u8]) -> u32 {
        let Self { numbers, places, pieces, .. } = self;
        let is_same = |slot: &Slot| slot.hash == hash && bytes_at(pieces, places[slot.number as usize]) == key;
        let entry = match numbers.entry(spread(hash), is_same, |slot| spread(slot.hash)) {
            Entry::Occupied(known) => return known.get().number,
            Entry::Vacant(entry) => entry,
        };
        let number = self.free.pop().unwrap_or(places.len() as u32);
        entry.insert(Slot { hash, number });
        let place = put(pieces, key);
        match places.get_mut(number as usize) {
            Some(known) => *known = place,
            None => places.push(place),
        }
        self.key_bytes += key.len();
        number
    }

    /// The number of a key that has one.
    pub(crate) fn get(&self, key: &[u8]) -> Option<u32> {
        let hash = part_of_hash(key);
        let is_same = |slot: &Slot| slot.hash == hash && self.key(slot.number) == key;
        self.numbers.find(spread(hash), is_same).map(|slot| slot.number)
    }

    /// The bytes of a key.
    pub(crate) fn key(&self, number: u32) -> &[u8] {
        bytes_at(&self.pieces, self.places[number as usize])
    }

    /// Forgets a key. [`KeyIndex::key`] still answers until [`KeyIndex::recycle`].
    pub(crate) fn remove(&mut self, number: u32) {
        let place = self.places[number as usize];
        if place.piece == NOWHERE {
            return;
        }
        let hash = part_of_hash(bytes_at(&self.pieces, place));
        if let Ok(entry) = self.numbers.find_entry(spread(hash), |slot| slot.number == number) {
            entry.remove();
            self.key_bytes -= place.length as usize;
            self.retired.push(number);
        }
    }

    /// Lets the numbers of removed keys be given out again, and their bytes go.
    pub(crate) fn recycle(&mut self) {
        for number in &self.retired {
            let place = &mut self.places[*number as usize];
            self.dead_bytes += place.length as usize;
            place.piece = NOWHERE;
        }
        self.free.append(&mut self.retired);
        if self.dead_bytes > self.key_bytes.max(PIECE_BYTES) {
            let before = std::mem::take(&mut self.pieces);
            for place in self.places.iter_mut().filter(|place| place.piece != NOWHERE) {
                *place = put(&mut self.pieces, bytes_at(&before, *place));
            }
            self.dead_bytes = 0;
        }
    }

    /// Numbers given out so far, removed ones among them.
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// Bytes that keys with numbers take.
    pub(crate) fn bytes(&self) -> usize {
        self.key_bytes + self.numbers.len() * ENTRY_BYTES
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    #[test]
    fn numbers_are_those_of_a_map_whatever_comes_and_goes() {
        let mut random = StdRng::seed_from_u64(7);
        let (mut index, mut map): (KeyIndex, HashMap<Vec<u8>, u32>) = Default::default();
        let mut retired = Vec::new();
        for _ in 0..200_000 {
            let key = random.random_range(0..3_000_u32).to_string().repeat(random.random_range(1..4)).into_bytes();
            match random.random_range(0..9) {
                0..5 => {
                    let number = index.intern(&key);
                    assert!(!retired.contains(&number), "a number was given out again too early");
                    assert_eq!(*map.entry(key.clone()).or_insert(number), number);
                }
                5..8 => {
                    assert_eq!(index.get(&key), map.get(&key).copied());
                    if let Some(number) = map.remove(&key) {
                        index.remove(number);
                        index.remove(number);
                        assert_eq!(index.key(number), key);
                        retired.push(number);
                    }
                }
                _ => {
                    index.recycle();
                    retired.clear();
                }
            }
        }
        assert!(index.len() < 9_000, "{} numbers", index.len());
        for (key, number) in &map {
            assert_eq!((index.key(*number), index.get(key)), (key.as_slice(), Some(*number)));
        }
    }

    #[test]
    fn many_keys_get_the_numbers_that_each_has() {
        let mut index = KeyIndex::default();
        let mut known: HashMap<Vec<u8>, u32> = HashMap::new();
        for round in 0..20_u32 {
            // A part of them is new, and some are there twice.
            let keys: Vec<Vec<u8>> =
                (0..5_000).map(|key| ((key * 7919 + round * 2_000) % 60_000 / 2).to_string().into_bytes()).collect();
            let numbers = index.intern_all(keys.len(), |key| &keys[key]);
            assert_eq!(numbers.len(), keys.len());
            for (key, number) in keys.iter().zip(numbers) {
                assert_eq!((index.key(number), index.get(key)), (key.as_slice(), Some(number)));
                assert_eq!(*known.entry(key.clone()).or_insert(number), number);
            }
        }
        assert_eq!(index.len(), known.len());
        assert!(index.numbers.num_buckets() >= BUCKETS_MIN, "no round was in the order of buckets");
    }

    #[test]
    fn hashes_come_in_the_order_of_their_buckets() {
        let hashes: Vec<u32> = (0..50_000).map(|place| place % 20_000 * 40_503).collect();
        let bucket = |place: &u32| spread(hashes[*place as usize]) & (BUCKETS_MIN as u64 - 1);
        let order = by_bucket(hashes.iter().copied(), BUCKETS_MIN);
        assert!(order.is_sorted_by_key(|place| (bucket(place), *place)));
        assert_eq!(order.len(), hashes.len());
        assert!(by_bucket(hashes.iter().copied(), BUCKETS_MIN / 2).into_iter().eq(0..50_000));
    }

    #[test]
    fn bytes_of_keys_that_are_gone_go_too() {
        let mut index = KeyIndex::default();
        for round in 0..100_u32 {
            let numbers: Vec<u32> =
                (0..1_000_u32).map(|key| index.intern(format!("{round} {key:0>100}").as_bytes())).collect();
            numbers.into_iter().for_each(|number| index.remove(number));
            index.recycle();
        }
        let held: usize = index.pieces.iter().map(Vec::capacity).sum();
        assert!(held <= 4 * PIECE_BYTES, "{held} bytes are held");
        assert_eq!((index.len(), index.bytes()), (1_000, 0));
        let long = vec![7; 3 * PIECE_BYTES];
        let number = index.intern(&long);
        assert_eq!(index.key(number), long);
    }
}

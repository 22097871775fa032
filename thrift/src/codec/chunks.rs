//! Bytes that grow without being copied.

use std::collections::VecDeque;
use std::mem;

use bytes::{Buf, Bytes, BytesMut};

/// Bytes of a chunk.
pub const CHUNK_BYTES: usize = 256 << 10;
/// Room that is made for the first bytes.
const FIRST_BYTES: usize = 256;

/// Bytes in chunks of [`CHUNK_BYTES`]. Each that was read, as when it was sent, is free at once.
#[derive(Debug, Clone, Default)]
pub struct Chunks {
    /// What is read first. None is empty.
    whole: VecDeque<Bytes>,
    last: Vec<u8>,
    len: usize,
}

impl Chunks {
    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All bytes in one piece, copied if they are in more.
    pub fn into_bytes(mut self) -> Bytes {
        self.copy_to_bytes(self.len)
    }

    /// Appends a copy of the bytes.
    pub(crate) fn extend(&mut self, mut bytes: &[u8]) {
        self.len += bytes.len();
        while !bytes.is_empty() {
            if self.last.len() == CHUNK_BYTES {
                self.whole.push_back(mem::replace(&mut self.last, Vec::with_capacity(CHUNK_BYTES)).into());
            }
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK_BYTES - self.last.len()));
            let needed = self.last.len() + now.len();
            if needed > self.last.capacity() {
                // The first chunk grows up to its size, as most answers are small.
                let room = (2 * self.last.capacity()).max(needed).clamp(FIRST_BYTES, CHUNK_BYTES);
                self.last.reserve_exact(room - self.last.len());
            }
            self.last.extend_from_slice(now);
            bytes = later;
        }
    }

    /// Appends the bytes of others. Whole chunks are shared and not copied.
    pub(crate) fn append(&mut self, other: &Self) {
        if other.whole.is_empty() {
            return self.extend(&other.last);
        }
        if !self.last.is_empty() {
            self.whole.push_back(mem::take(&mut self.last).into());
        }
        self.whole.extend(other.whole.iter().cloned());
        self.len += other.len - other.last.len();
        self.extend(&other.last);
    }
}

impl Buf for Chunks {
    fn remaining(&self) -> usize {
        self.len
    }

    fn chunk(&self) -> &[u8] {
        match self.whole.front() {
            Some(first) => first,
            None => &self.last,
        }
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.len, "{count} of {} bytes", self.len);
        self.len -= count;
        while let Some(first) = self.whole.front_mut() {
            if count < first.len() {
                return first.advance(count);
            }
            count -= first.len();
            self.whole.pop_front();
        }
        if count > 0 {
            let rest = mem::take(&mut self.last);
            self.whole.extend((count < rest.len()).then(|| Bytes::from(rest).split_off(count)));
        }
    }

    fn copy_to_bytes(&mut self, len: usize) -> Bytes {
        assert!(len <= self.len, "{len} of {} bytes", self.len);
        if len == self.last.len() && self.whole.is_empty() {
            self.len = 0;
            return mem::take(&mut self.last).into();
        }
        let mut copy = BytesMut::with_capacity(len);
        while copy.len() < len {
            let count = self.chunk().len().min(len - copy.len());
            copy.extend_from_slice(&self.chunk()[..count]);
            self.advance(count);
        }
        copy.freeze()
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// What is appended: so many bytes copied, or of others shared. Many end at the end of a chunk or beside it.
    fn part() -> impl Strategy<Value = (usize, bool)> {
        let len = prop_oneof![
            0_usize..20,
            (CHUNK_BYTES - 9)..(CHUNK_BYTES + 9),
            (2 * CHUNK_BYTES - 9)..(2 * CHUNK_BYTES + 9),
        ];
        (len, any::<bool>())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn chunks_are_what_one_buffer_is(parts in vec(part(), 0..8), steps in vec(1_usize..400_000, 1..8)) {
            let (mut chunks, mut whole) = (Chunks::default(), Vec::new());
            for (at, (len, is_shared)) in parts.into_iter().enumerate() {
                let bytes: Vec<u8> = (at * 7..).map(|n| (n % 251) as u8).take(len).collect();
                whole.extend_from_slice(&bytes);
                if is_shared {
                    let mut other = Chunks::default();
                    bytes.chunks(100_000).for_each(|some| other.extend(some));
                    chunks.append(&other);
                } else {
                    chunks.extend(&bytes);
                }
            }
            prop_assert_eq!(chunks.len(), whole.len());
            prop_assert!(chunks.clone().into_bytes() == whole);
            let mut rest = &whole[..];
            for step in steps.into_iter().cycle() {
                prop_assert!(chunks.chunk().len() <= CHUNK_BYTES && rest.starts_with(chunks.chunk()));
                prop_assert_eq!(chunks.remaining(), rest.len());
                if rest.is_empty() {
                    break;
                }
                prop_assert!(!chunks.chunk().is_empty());
                let step = step.min(rest.len());
                chunks.advance(step);
                rest = &rest[step..];
            }
        }
    }

    #[test]
    fn a_small_answer_takes_little_and_a_large_one_a_chunk_more() {
        let mut chunks = Chunks::default();
        chunks.extend(&[1; 100]);
        assert!(chunks.last.capacity() <= FIRST_BYTES, "{}", chunks.last.capacity());
        for _ in 0..40_000 {
            chunks.extend(&[2; 100]);
        }
        let held = chunks.whole.iter().map(Bytes::len).sum::<usize>() + chunks.last.capacity();
        assert!(held <= chunks.len() + CHUNK_BYTES, "{held} for {}", chunks.len());
        let mut twice = Chunks::default();
        twice.append(&chunks);
        assert_eq!(twice.whole[0].as_ptr(), chunks.whole[0].as_ptr(), "shared");
    }
}

//! A small fuzzer for `cargo test`, on stable Rust and with nothing but the standard library.
//!
//! The crates that parse what strangers send include this file in their tests. [`Fuzz::run`] gives a target every file of
//! its corpus, then changes of them for as long as it may. The target checks what must hold and returns what it saw, as
//! a word or two: an input that shows something new is kept and changed further. That stands in for the coverage that a
//! compiler would have to count: the refusals of our parsers name what they stopped at, so what is seen tells paths apart
//! well. The usual fuzzers were left out for what they ask: cargo-fuzz a nightly compiler, AFL a build of its own, and
//! bolero without either of them only makes random bytes, for some thirty dependencies.
//!
//! Each target runs a few seconds within `cargo test`, and always the same way. To look for longer, and elsewhere:
//!
//! ```text
//! TEREZA_FUZZ_SECONDS=3600 cargo test -p tereza-thrift --test it fuzz -- --nocapture
//! TEREZA_FUZZ_SECONDS=3600 cargo test -p tereza-catalog --lib fuzz -- --nocapture
//! ```
//!
//! A long run begins with another seed each time and prints it; `TEREZA_FUZZ_SEED` sets it. An input that fails is written
//! to a file that the failure names. Mend the fault, then put the file in the corpus under a name that says what it is.
//!
//! [`measured`] tells how much memory something took at most, by the allocator that this file puts in place.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a run takes unless it is told otherwise: all targets together stay below a minute.
const SECONDS: u64 = 8;
/// No input may take longer, also not where nothing is optimised and others use the processor.
const SLOWEST: Duration = Duration::from_secs(10);
/// Inputs that are kept to be changed.
const KEPT_MAX: usize = 5_000;
/// Changes of one input at a time.
const CHANGES_MAX: u64 = 6;

/// What is fuzzed.
pub(crate) struct Fuzz<'a> {
    pub(crate) name: &'a str,
    /// Folders of files to begin with.
    pub(crate) corpus: &'a [PathBuf],
    /// What inputs are made of, to be put in.
    pub(crate) words: &'a [&'a [u8]],
    /// Bytes of an input that changes make.
    pub(crate) bytes_max: usize,
}

impl Fuzz<'_> {
    /// Runs the target, which panics if something does not hold that must.
    pub(crate) fn run(&self, mut target: impl FnMut(&[u8]) -> String) {
        let longer = std::env::var("TEREZA_FUZZ_SECONDS").ok().map(|text| text.parse().expect("a number of seconds"));
        let seed = std::env::var("TEREZA_FUZZ_SEED").ok().map(|text| text.parse().expect("a number"));
        let seed = seed.unwrap_or(if longer.is_some() { tereza_runtime::ids::jitter(u64::MAX) } else { 1 });
        let limit = Duration::from_secs(longer.unwrap_or(SECONDS));
        let mut chance = Chance(seed);
        let mut seen = HashSet::new();
        let mut kept = Vec::new();
        let mut slowest = Duration::ZERO;
        let started = tereza_runtime::clock::now();
        for path in files(self.corpus) {
            let input = std::fs::read(&path).expect("a file of the corpus");
            let (saw, took) = self.one(&input, &mut target);
            slowest = slowest.max(took);
            seen.insert(saw);
            kept.push(input);
        }
        assert!(!kept.is_empty(), "{}: no corpus", self.name);
        let mut runs = kept.len();
        while started.elapsed() < limit {
            let input = self.changed(&kept, &mut chance);
            let (saw, took) = self.one(&input, &mut target);
            slowest = slowest.max(took);
            runs += 1;
            if seen.insert(saw) && kept.len() < KEPT_MAX {
                kept.push(input);
            }
        }
        let (new, name) = (seen.len(), self.name);
        println!("fuzz {name}: {runs} inputs, {new} outcomes, the slowest took {slowest:?} (seed {seed})");
    }

    fn one(&self, input: &[u8], target: &mut impl FnMut(&[u8]) -> String) -> (String, Duration) {
        let started = tereza_runtime::clock::now();
        let result = catch_unwind(AssertUnwindSafe(|| {
            let saw = target(input);
            let took = started.elapsed();
            assert!(took < SLOWEST, "an input of {} bytes took {took:?}", input.len());
            (saw, took)
        }));
        result.unwrap_or_else(|panic| {
            let path = std::env::temp_dir().join(format!("tereza-fuzz-{}-{}", self.name, std::process::id()));
            match std::fs::write(&path, input) {
                Ok(()) => eprintln!("fuzz {}: the input that fails is in {}", self.name, path.display()),
                Err(error) => eprintln!("fuzz {}: {}: {error}: {}", self.name, path.display(), input.escape_ascii()),
            }
            resume_unwind(panic)
        })
    }

    /// One of the inputs, changed.
    fn changed(&self, kept: &[Vec<u8>], chance: &mut Chance) -> Vec<u8> {
        let mut input = chance.of(kept).clone();
        for _ in 0..=chance.below(CHANGES_MAX) {
            let at = chance.place(input.len());
            let rest = input.len() - at;
            match chance.below(9) {
                0 if rest > 0 => input[at] ^= 1 << chance.below(8),
                1 if rest > 0 => input[at] = chance.below(256).to_le_bytes()[0],
                2 if rest >= 4 => {
                    let len = i32::try_from(rest).unwrap_or(i32::MAX);
                    let numbers = [0, 1, 2, 127, 256, len - 4, len, 65_536, 10_000_000, i32::MAX, -1, i32::MIN];
                    input[at..at + 4].copy_from_slice(&chance.of(&numbers).to_be_bytes());
                }
                3 => drop(input.drain(at..at + chance.place(rest.min(64)))),
                4 => {
                    let piece = input[at..at + chance.place(rest.min(64))].to_vec();
                    let times = 1 + usize::try_from(chance.below(40)).unwrap_or(0);
                    drop(input.splice(at..at, piece.repeat(times)));
                }
                5 => {
                    let other = chance.of(kept);
                    let from = chance.place(other.len());
                    let to = from + chance.place((other.len() - from).min(256));
                    drop(input.splice(at..at, other[from..to].iter().copied()));
                }
                6 => input.truncate(at),
                _ if !self.words.is_empty() => {
                    let word = *chance.of(self.words);
                    let replaced = if chance.below(2) == 0 { 0 } else { word.len().min(rest) };
                    drop(input.splice(at..at + replaced, word.iter().copied()));
                }
                _ => input.push(b' '),
            }
        }
        input.truncate(self.bytes_max);
        input
    }
}

/// The files of the folders, always in the same order.
pub(crate) fn files(folders: &[PathBuf]) -> Vec<PathBuf> {
    let listed = |folder: &Path| match std::fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| entry.expect("an entry of the corpus").path()),
        Err(error) => panic!("{}: {error}", folder.display()),
    };
    let mut files: Vec<PathBuf> =
        folders.iter().flat_map(|folder| listed(folder)).filter(|path| path.is_file()).collect();
    files.sort();
    files
}

/// Numbers that look like chance and are the same for the same seed (SplitMix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    /// A place from 0 to `len`, both included.
    fn place(&mut self, len: usize) -> usize {
        usize::try_from(self.below(u64::try_from(len).unwrap_or(0) + 1)).unwrap_or(0)
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.place(all.len() - 1)]
    }
}

thread_local! {
    static IN_USE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// What `run` returns, and the bytes that it had allocated at most at one time, on this thread.
pub(crate) fn measured<T>(run: impl FnOnce() -> T) -> (T, usize) {
    let before = IN_USE.get();
    PEAK.set(before);
    let result = run();
    (result, usize::try_from(PEAK.get() - before).unwrap_or(0))
}

/// The system's allocator, counting for each thread.
struct Counting;

impl Counting {
    fn add(bytes: isize) {
        // A thread that ends has no counters any more.
        let _ = IN_USE.try_with(|in_use| {
            in_use.set(in_use.get() + bytes);
            let _ = PEAK.try_with(|peak| peak.set(peak.get().max(in_use.get())));
        });
    }
}

#[expect(unsafe_code, reason = "an allocator is unsafe by its trait; this one passes everything on to the system's")]
// SAFETY: every call goes to `System` as it came, and counting neither allocates nor panics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::add(layout.size().cast_signed());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::add(layout.size().cast_signed());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        Self::add(-layout.size().cast_signed());
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // While it is copied both may be there.
        Self::add(new_size.cast_signed());
        Self::add(-layout.size().cast_signed());
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

//! The allocator of the process, and how long it keeps what was freed.

use std::ffi::{c_int, c_long};

use libmimalloc_sys::mi_option_set;
use tereza_runtime::memory;

/// Operators allocate and free many short-lived buffers on many threads, which the system's allocator serialises.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc's header, in milliseconds; the crate has no name for it.
const PURGE_DELAY: c_int = 15;
/// Memory that one statement freed is there for the next. When it was given back, the kernel clears each page again, which
/// takes up to a fifth of the time of a short query (`benches/NOTES.md`).
const KEPT_MS: c_long = 10_000;
/// A process that may use less gives memory back at mimalloc's own pace: it needs it itself.
const KEPT_FROM_BYTES: u64 = 4 << 30;

/// Lets freed memory be reused for longer, where there is enough. To be called before other threads are.
pub(crate) fn keep_freed_memory() {
    let is_set_by_user = std::env::var_os("MIMALLOC_PURGE_DELAY").is_some();
    if !is_set_by_user && memory::limit().is_some_and(|limit| limit.bytes >= KEPT_FROM_BYTES) {
        set(PURGE_DELAY, KEPT_MS);
    }
}

#[expect(unsafe_code, reason = "mimalloc has no other way to be told")]
fn set(option: c_int, value: c_long) {
    // SAFETY: the option exists, and no other thread reads or sets options yet.
    unsafe { mi_option_set(option, value) }
}

#[cfg(test)]
mod tests {
    use libmimalloc_sys::mi_option_get;

    use super::*;

    #[test]
    #[expect(unsafe_code, reason = "mimalloc has no other way to be asked")]
    fn the_option_is_the_one_that_is_meant() {
        // Its default in this version of mimalloc, which no other option has.
        // SAFETY: the option exists.
        assert_eq!(unsafe { mi_option_get(PURGE_DELAY) }, 1000);
    }
}

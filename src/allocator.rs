//! The allocator of the process, and how long it keeps what was freed.

pub(crate) mod program;

use std::ffi::{c_int, c_long};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use libmimalloc_sys::{mi_collect, mi_option_set};
use tereza_runtime::memory;
use tokio::time::{MissedTickBehavior, interval};

/// Operators allocate and free many short-lived buffers on many threads, which the system's allocator serialises.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc's header, in milliseconds; the crate has no name for it.
const PURGE_DELAY: c_int = 15;
/// Memory that one statement freed is there for the next. When it was given back, the kernel clears each page again, which
/// takes up to a fifth of the time of a short query (`benches/NOTES.md`).
const KEPT_MS: c_long = 120_000;
/// `mi_option_allow_thp`, with which memory is given back in whole huge pages only, so that those in use are not torn apart.
const HUGE_PAGES: c_int = 43;
const WHOLE_HUGE_PAGES: c_long = 2;
/// A process that may use less gives memory back at mimalloc's own pace: it needs it itself.
const KEPT_FROM_BYTES: u64 = 4 << 30;

/// How often a process that keeps freed memory looks whether it is at rest.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// A process that ran for less than this between two looks did nothing to speak of.
const IDLE: Duration = Duration::from_millis(100);
/// After so many looks in which it did nothing, it is at rest.
const IDLE_LOOKS: u32 = 3;
/// A process at rest that holds less than this gives freed memory back at once: to have it again costs little.
const GIVE_BACK_SOON_BYTES: u64 = 256 << 20;
/// Others do after so many looks at rest, two minutes after their last work: whoever reads an answer asks again by then.
const GIVE_BACK_LOOKS: u32 = 10;

/// Lets freed memory be reused for longer, where there is enough; then [`give_back_at_rest`] is to run.
fn keep_freed_memory() {
    memory::set_give_back(give_back);
    if memory::limit().is_none_or(|limit| limit.bytes < KEPT_FROM_BYTES) {
        return;
    }
    for (option, variable, value) in
        [(PURGE_DELAY, "MIMALLOC_PURGE_DELAY", KEPT_MS), (HUGE_PAGES, "MIMALLOC_ALLOW_THP", WHOLE_HUGE_PAGES)]
    {
        // What a user sets is not changed.
        if std::env::var_os(variable).is_none() {
            set(option, value);
        }
    }
}

/// Lets a server begin without huge pages, until its first work: at rest it needs a megabyte, of which huge pages make twelve.
/// Other processes have them from the start. To be called before there are other threads.
pub(crate) fn begin(is_server: bool) {
    keep_freed_memory();
    memory::set_work_begins(allow_huge_pages);
    match is_server {
        true => set_huge_pages(false),
        // The process that started this one may have none.
        false => allow_huge_pages(),
    }
}

fn allow_huge_pages() {
    static ARE_ALLOWED: AtomicBool = AtomicBool::new(false);
    if !ARE_ALLOWED.swap(true, Ordering::Relaxed) {
        set_huge_pages(true);
    }
}

#[cfg(target_os = "linux")]
fn set_huge_pages(are_allowed: bool) {
    // What a user sets is not changed.
    if std::env::var_os("MIMALLOC_ALLOW_THP").is_some() {
        return;
    }
    #[expect(unsafe_code, reason = "only a system call tells the kernel")]
    // SAFETY: no memory is given or taken by it. Where the kernel refuses, pages are as they were.
    unsafe {
        libc::prctl(libc::PR_SET_THP_DISABLE, libc::c_ulong::from(!are_allowed), 0, 0, 0);
    }
}

#[cfg(not(target_os = "linux"))]
fn set_huge_pages(_are_allowed: bool) {}

/// Gives freed memory back when the process has been at rest for a while, which mimalloc does only while it is asked for memory; and
/// all the time that it rests the program's own pages, of which the little that runs now and then maps many around it.
pub(crate) async fn give_back_at_rest() {
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut rest = Rest::default();
    loop {
        looks.tick().await;
        let looks = rest.look(memory::processor_time());
        let is_soon = looks == 1 && memory::anonymous_bytes().is_some_and(|bytes| bytes < GIVE_BACK_SOON_BYTES);
        if is_soon || looks == GIVE_BACK_LOOKS {
            memory::give_back();
        }
        if looks >= 1 {
            program::unmap_unused();
        }
    }
}

/// Whether a process is at rest, by the processor time that it used up to each look.
#[derive(Debug, Default)]
struct Rest {
    used: Duration,
    idle_looks: u32,
}

impl Rest {
    /// For how many looks the process is at rest, with this one; it begins with the first.
    fn look(&mut self, used: Duration) -> u32 {
        let is_idle = used.saturating_sub(self.used) < IDLE;
        self.used = used;
        self.idle_looks = if is_idle { self.idle_looks.saturating_add(1) } else { 0 };
        self.idle_looks.saturating_sub(IDLE_LOOKS - 1)
    }
}

#[expect(unsafe_code, reason = "mimalloc has no other way to be told")]
fn set(option: c_int, value: c_long) {
    // SAFETY: the option exists, and no other thread reads or sets options yet.
    unsafe { mi_option_set(option, value) }
}

#[expect(unsafe_code, reason = "mimalloc has no other way to be told")]
fn give_back() {
    // SAFETY: may be called at any time by any thread.
    unsafe { mi_collect(true) }
}

#[cfg(test)]
mod tests {
    use libmimalloc_sys::mi_option_get;

    use super::*;

    #[expect(unsafe_code, reason = "mimalloc has no other way to be asked")]
    fn get(option: c_int) -> c_long {
        // SAFETY: the option exists.
        unsafe { mi_option_get(option) }
    }

    #[test]
    fn the_options_are_those_that_are_meant() {
        // Its default in this version of mimalloc, which no other option has.
        assert_eq!(get(PURGE_DELAY), 1000);
        // Its default and its neighbours', which no other three have.
        assert_eq!([HUGE_PAGES - 1, HUGE_PAGES, HUGE_PAGES + 1].map(get), [32, 1, 0]);
    }

    #[test]
    fn a_rest_begins_after_some_time_without_work() {
        let mut rest = Rest::default();
        let mut looks = |used_ms: &[u64]| -> Vec<u32> {
            used_ms.iter().map(|&used| rest.look(Duration::from_millis(used))).collect()
        };
        assert_eq!(looks(&[900, 950, 950, 950, 950]), [0, 0, 0, 1, 2]);
        // Work ends it, and there is another.
        assert_eq!(looks(&[5000, 5000, 5000, 5001, 5001]), [0, 0, 0, 1, 2]);
    }
}

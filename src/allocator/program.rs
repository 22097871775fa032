//! The pages of the program itself that this process has mapped.
//!
//! A start touches a little here and there of a large program, and the kernel maps what is around it: half of what an idle
//! process seems to hold is code that ran once. Those pages stay in the page cache of the system; what is used again is mapped
//! again at the next touch, without reading a file.

#[cfg(target_os = "linux")]
use std::ops::Range;
#[cfg(target_os = "linux")]
use std::path::Path;

/// Unmaps what the program does not use now. To be called when a start is over, and at rest.
#[cfg(target_os = "linux")]
pub(crate) fn unmap_unused() {
    let (program, maps) = (std::fs::read_link("/proc/self/exe"), std::fs::read_to_string("/proc/self/smaps"));
    // Where the kernel does not tell, the pages stay mapped.
    let (Ok(program), Ok(maps)) = (program, maps) else { return };
    for range in untouched(&maps, &program) {
        #[expect(unsafe_code, reason = "only a system call unmaps pages")]
        // SAFETY: whole pages of the program's file that this process cannot write to, of which none was ever changed (by the
        // dynamic linker, by a debugger) and swapped out or not: each comes back from the file. Where the kernel refuses, they
        // stay mapped.
        unsafe {
            libc::madvise(range.start as *mut libc::c_void, range.len(), libc::MADV_DONTNEED);
        }
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn unmap_unused() {}

/// Where a file is mapped that nobody can write to there, or ever did, by the text of `/proc/self/smaps`.
#[cfg(target_os = "linux")]
fn untouched(maps: &str, file: &Path) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut of_file = None;
    for line in maps.lines() {
        // Of what was changed: `Anonymous` is what is in memory, and `Swap`, which comes later, the rest.
        if let Some((what @ ("Anonymous" | "Swap"), bytes)) = line.split_once(':') {
            of_file = of_file.filter(|_| bytes.trim() == "0 kB");
            if what == "Swap" {
                found.extend(of_file.take());
            }
        } else if let Some((range, is_read_only, path)) = mapping(line) {
            of_file = (is_read_only && Path::new(path) == file).then_some(range);
        }
    }
    found
}

/// The first line of a mapping: where it is, whether nobody can write there, and the path of its file.
#[cfg(target_os = "linux")]
fn mapping(line: &str) -> Option<(Range<usize>, bool, &str)> {
    let mut words = line.splitn(6, ' ');
    let (begin, end) = words.next()?.split_once('-')?;
    let [begin, end] = [begin, end].map(|address| usize::from_str_radix(address, 16).ok());
    let is_read_only = !words.next()?.contains('w');
    Some((begin?..end?, is_read_only, words.nth(3)?.trim_start()))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    /// Whether this process has the page of an address mapped.
    fn is_mapped(address: usize) -> bool {
        const PAGE: usize = 4096;
        const ENTRY: usize = 8;
        let mut entry = [0; ENTRY];
        let pages = std::fs::File::open("/proc/self/pagemap").expect("the pages of this process");
        pages.read_exact_at(&mut entry, (address / PAGE * ENTRY) as u64).expect("an entry for each page");
        u64::from_ne_bytes(entry) >> 63 == 1
    }

    /// Of one page in a table that is this test's alone: other tests run meanwhile, and a page that they touch maps its
    /// neighbours, up to 64 KiB away.
    #[test]
    fn the_program_goes_on_with_less() {
        static TABLE: [u32; 1 << 16] = [7; 1 << 16];
        let number = &TABLE[TABLE.len() / 2];
        let (value, address) = (*std::hint::black_box(number), std::ptr::from_ref(number).addr());
        assert!(is_mapped(address));
        unmap_unused();
        assert!(!is_mapped(address));
        assert_eq!(*std::hint::black_box(number), value);
        assert!(is_mapped(address));
    }

    #[test]
    fn what_was_changed_stays() {
        let maps = "\
5000-6000 r--p 00000000 fe:00 42                         /a program
Rss:                   4 kB
Anonymous:             0 kB
Swap:                  0 kB
VmFlags: rd mr mw me
6000-9000 r-xp 00001000 fe:00 42                         /a program
Anonymous:             4 kB
Swap:                  0 kB
9000-a000 rw-p 00004000 fe:00 42                         /a program
Anonymous:             0 kB
Swap:                  0 kB
d000-e000 r--p 00006000 fe:00 42                         /a program
Anonymous:             0 kB
Swap:                  4 kB
a000-b000 r--p 00000000 fe:00 43                         /a library
Anonymous:             0 kB
Swap:                  0 kB
b000-c000 r--p 00000000 00:00 0 \n\
Anonymous:             0 kB
Swap:                  0 kB
c000-d000 r--p 00005000 fe:00 42                         /a program
Anonymous:             0 kB
Swap:                  0 kB
";
        assert_eq!(untouched(maps, Path::new("/a program")), [0x5000..0x6000, 0xc000..0xd000]);
    }
}

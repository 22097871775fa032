//! The pages of the program itself that this process has mapped.
//!
//! A start touches a little here and there of a large program, and the kernel maps what is around it: half of what an idle
//! process seems to hold is code that ran once. Those pages stay in the page cache of the system; what is used again is mapped
//! again at the next touch, without reading a file.

/// Unmaps what the program does not use now. To be called when a start is over, and at rest.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub(crate) fn unmap_unused() {
    #[expect(unsafe_code, reason = "only the dynamic linker tells where the program lies")]
    // SAFETY: the callback is of the type that is asked for, and does not unwind.
    unsafe {
        libc::dl_iterate_phdr(Some(unmap), std::ptr::null_mut());
    }
}

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
pub(crate) fn unmap_unused() {}

/// Unmaps the segments of the first object that is told, which is the program, but for those that were ever written to:
/// what the dynamic linker put there is nowhere else.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
#[expect(unsafe_code, reason = "the dynamic linker tells by pointers")]
unsafe extern "C" fn unmap(info: *mut libc::dl_phdr_info, _size: usize, _data: *mut libc::c_void) -> libc::c_int {
    const STOP: libc::c_int = 1;

    // SAFETY: the linker's table lives as long as the program.
    let (base, headers) = unsafe {
        let info = &*info;
        (info.dlpi_addr as usize, std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)))
    };
    // SAFETY: it takes no pointer.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    let is_untouched = |header: &&libc::Elf64_Phdr| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0;
    for header in headers.iter().filter(is_untouched) {
        let begin = (base + header.p_vaddr as usize).next_multiple_of(page);
        let end = (base + header.p_vaddr as usize + header.p_filesz as usize) / page * page;
        if let Some(bytes) = end.checked_sub(begin) {
            // SAFETY: whole pages of a private mapping of the program's file that the program itself cannot write to: each comes
            // back from the file. (A debugger's breakpoints in them do not; nor would the pages of a packed program, which
            // this one is not.) Where the kernel refuses, they stay mapped.
            unsafe { libc::madvise(begin as *mut libc::c_void, bytes, libc::MADV_DONTNEED) };
        }
    }
    STOP
}

#[cfg(all(test, target_os = "linux", target_pointer_width = "64"))]
mod tests {
    use super::*;

    fn resident_pages() -> usize {
        let text = std::fs::read_to_string("/proc/self/statm").expect("statm");
        text.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number")
    }

    #[test]
    fn the_program_goes_on_with_less() {
        static TABLE: [u32; 4096] = {
            let mut table = [0; 4096];
            let mut n = 0;
            while n < table.len() {
                table[n] = n as u32 * n as u32;
                n += 1;
            }
            table
        };
        let sum = || std::hint::black_box(&TABLE).iter().fold(0_u32, |sum, square| sum.wrapping_add(*square));
        let (before, pages) = (sum(), resident_pages());
        unmap_unused();
        let less = resident_pages();
        assert!(less < pages, "{less} of {pages}");
        assert_eq!(sum(), before);
    }
}

//! Memory that was needed for a while, given back to the kernel.
//!
//! An allocator keeps what was freed, and a program's pages stay mapped once they were executed: after a start, or a
//! burst of connections, that is most of what a sidecar seems to need. It refuses to know when that is.

#![allow(unsafe_code, reason = "calls of the C library that have no safe form")]

use std::ffi::{c_int, c_void};

/// Gives the allocator's free pages back, of all threads. Takes a moment: for when there is nothing to do.
pub fn release_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) has no preconditions; it takes the allocator's own locks.
    unsafe {
        libc::malloc_trim(0)
    };
}

/// Unmaps the pages of this program that are as they are in its file. What runs on is mapped again when it is executed
/// next, from the page cache; what only starting executed is not.
pub fn release_program() {
    // SAFETY: the callback has the signature that dl_iterate_phdr(3) asks for, and keeps nothing of what it is given.
    unsafe { libc::dl_iterate_phdr(Some(release_segments), std::ptr::null_mut()) };
}

/// The first object that is given is the program itself; it alone is wanted.
unsafe extern "C" fn release_segments(program: *mut libc::dl_phdr_info, _size: usize, _data: *mut c_void) -> c_int {
    // SAFETY: dl_iterate_phdr gives a valid object, which lives until this returns.
    let program = unsafe { &*program };
    if program.dlpi_phdr.is_null() {
        return 1;
    }
    // SAFETY: the object's program headers, of which it gives place and number; they are mapped as long as it is.
    let headers = unsafe { std::slice::from_raw_parts(program.dlpi_phdr, usize::from(program.dlpi_phnum)) };
    for header in headers {
        let (is_loaded, is_written) = (header.p_type == libc::PT_LOAD, header.p_flags & libc::PF_W != 0);
        if is_loaded && !is_written {
            release(program.dlpi_addr as usize + header.p_vaddr as usize, header.p_memsz as usize);
        }
    }
    1
}

/// The pages of a segment that nobody may write: relocations are in others.
fn release(start: usize, length: usize) {
    let page = page_size();
    let (first, end) = (start / page * page, (start + length).next_multiple_of(page));
    // SAFETY: the pages are those of a segment of this program, mapped privately from its file and never written, so
    // that the next access finds them as they were. A failure leaves them mapped.
    unsafe { libc::madvise(std::ptr::with_exposed_provenance_mut(first), end - first, libc::MADV_DONTNEED) };
}

/// Bytes of a page.
pub(in crate::io) fn page_size() -> usize {
    // SAFETY: sysconf(3) has no preconditions.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_back_is_there_when_it_is_needed() {
        static TEXT: &str = "constant data of the program";
        let before: Vec<u8> = vec![7; 1 << 20];
        release_program();
        release_heap();
        assert_eq!((TEXT.len(), before.iter().map(|b| usize::from(*b)).sum::<usize>()), (28, 7 << 20));
    }
}

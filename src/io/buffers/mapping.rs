//! Anonymous memory from the kernel: page-aligned, zeroed, and free of charge until a page is touched.

#![allow(unsafe_code, reason = "mmap and munmap have no safe form")]

use std::io;
use std::ops::Range;
use std::ptr::NonNull;

use crate::io::buffers::memory::page_size;

/// A private anonymous mapping, unmapped when dropped.
pub(in crate::io) struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

impl Mapping {
    /// Maps `length` bytes, rounded up to pages by the kernel; `length` is not zero.
    pub(in crate::io) fn anonymous(length: usize) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: no address is asked for, so no existing mapping is replaced; the other arguments are plain values.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // A child of fork shares nothing with the rings of its parent (io_uring's own mappings do the same).
        // SAFETY: the range was mapped just above; the advice changes what a child inherits, not the content.
        unsafe { libc::madvise(start, length, libc::MADV_DONTFORK) };
        let start = NonNull::new(start.cast()).expect("mmap succeeded and was not asked for address 0");
        Ok(Self { start, length })
    }

    pub(in crate::io) fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Lets go of the whole pages in these bytes: they are zero when they are touched next. Nobody uses them now.
    pub(in crate::io) fn release(&self, bytes: Range<usize>) {
        let page = page_size();
        let (first, end) = (bytes.start.next_multiple_of(page), bytes.end.min(self.length) / page * page);
        if first < end {
            // SAFETY: first < length, so the result lies inside the mapping.
            let start = unsafe { self.start.add(first) };
            // SAFETY: the range is inside the mapping, which is private and anonymous; the caller vouches for its users.
            unsafe { libc::madvise(start.as_ptr().cast(), end - first, libc::MADV_DONTNEED) };
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: start and length are those of a mapping that this value alone owns.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

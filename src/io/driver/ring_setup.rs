//! A ring as this engine sets it up, and what its kernel can do with one.
//!
//! Below the driver that runs it (`uring`), the probe that tries it and the restrictions that are put on it.

#![allow(unsafe_code, reason = "one receive is submitted, and a field of entries written")]

use std::io::{self, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;

use io_uring::types::Fd;
use io_uring::{IoUring, opcode, squeue};

use crate::io::buffers::provided::GROUP;

/// The smallest submission queue that a worker may have to live with.
pub(in crate::io) const FEWEST_ENTRIES: u32 = 32;

/// Completions that the queue holds for each entry of the submission queue. What is beyond is kept by the kernel elsewhere,
/// and costs time.
pub(in crate::io) const COMPLETIONS: u32 = 8;

/// Bytes that a ring of so many entries locks where the kernel counts them (io_uring_setup(2)): whole pages of entries (64
/// bytes), of completions (16 bytes) with the heads of both queues, and of provided buffers (16 bytes each).
pub(in crate::io) fn locked_bytes(entries: u32, buffers: u16) -> u64 {
    const PAGE: u64 = 4096;
    const HEADS: u64 = 128;
    let entries = u64::from(entries);
    let parts = [entries * 64, entries * u64::from(COMPLETIONS) * 16 + HEADS, u64::from(buffers) * 16];
    parts.iter().map(|bytes| bytes.next_multiple_of(PAGE)).sum()
}

/// A ring with every flag that the kernel has; `disabled`: until it is enabled.
pub(in crate::io) fn build(entries: u32, disabled: bool) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    if disabled {
        builder.setup_r_disabled();
    }
    builder
        .dontfork()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_submit_all()
        .setup_cqsize(entries * COMPLETIONS);
    let basic = builder.clone();
    match builder.setup_no_sqarray().build(entries) {
        // An unknown flag; without it the same happens a little more slowly.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => basic.build(entries),
        ring => ring,
    }
}

/// Older kernels refuse the field at once; newer ones receive the byte that is waiting.
pub(in crate::io) fn can_limit_receives(ring: &mut IoUring) -> io::Result<bool> {
    let (mut near, far) = UnixStream::pair()?;
    near.write_all(b"?")?;
    Ok(limited_receive(ring, far.as_raw_fd())? != -libc::EINVAL)
}

/// What the kernel makes of a limited receive. Completions of other operations may lie in the ring before it.
fn limited_receive(ring: &mut IoUring, fd: RawFd) -> io::Result<i32> {
    const OURS: u64 = u64::MAX;
    let receive = opcode::RecvMulti::new(Fd(fd), GROUP).build().user_data(OURS);
    // SAFETY: the receive refers to the buffers of the group, of which there are none yet.
    unsafe { ring.submission().push(&limited(receive, 1)) }.map_err(io::Error::other)?;
    loop {
        ring.submit_and_wait(1)?;
        if let Some(entry) = ring.completion().find(|entry| entry.user_data() == OURS) {
            return Ok(entry.result());
        }
    }
}

/// A multishot receive that ends after `limit` bytes (kernel 6.17, `optlen`). Without it one fast peer can fill all
/// buffers before the kernel looks at a cancellation.
pub(in crate::io) fn limited(mut entry: squeue::Entry, limit: u32) -> squeue::Entry {
    const OPTLEN: usize = 44;
    const { assert!(size_of::<squeue::Entry>() == 64) };
    let fields = (&raw mut entry).cast::<u8>();
    // SAFETY: an entry is the 64 bytes of `struct io_uring_sqe`; these are the four of its field at offset 44.
    let field = unsafe { fields.add(OPTLEN) }.cast::<[u8; 4]>();
    // SAFETY: as above; bytes need no alignment.
    unsafe { field.write(limit.to_ne_bytes()) };
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_completion_that_lies_there_already_is_not_taken_for_the_receives() {
        let mut ring = build(FEWEST_ENTRIES, false).unwrap();
        for _ in 0..3 {
            // SAFETY: a NOP refers to no memory.
            unsafe { ring.submission().push(&opcode::Nop::new().build()) }.unwrap();
        }
        ring.submit_and_wait(3).unwrap();
        let (_near, far) = UnixStream::pair().unwrap();
        let result = limited_receive(&mut ring, far.as_raw_fd()).unwrap();
        // Too old for the field, or without buffers: a NOP gives 0.
        assert!([-libc::EINVAL, -libc::ENOBUFS].contains(&result), "{result}");
    }

    #[test]
    fn what_a_ring_locks_is_counted_in_pages() {
        assert_eq!(locked_bytes(256, 256), (4 + 9 + 1) * 4096);
        assert_eq!(locked_bytes(32, 64), (1 + 2 + 1) * 4096);
    }
}

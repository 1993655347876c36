//! A ring as this engine sets it up, and what its kernel can do with one.
//!
//! Below the driver that runs it (`uring`), the probe that tries it and the restrictions that are put on it.

#![allow(unsafe_code, reason = "one receive is submitted, and a field of entries written")]

use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use io_uring::types::Fd;
use io_uring::{IoUring, opcode, squeue};

use crate::io::buffers::provided::GROUP;

/// A ring with every flag that the kernel has; `disabled`: until it is enabled.
pub(in crate::io) fn build(entries: u32, disabled: bool) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    if disabled {
        builder.setup_r_disabled();
    }
    builder.dontfork().setup_single_issuer().setup_defer_taskrun().setup_submit_all().setup_cqsize(entries * 4);
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
    let receive = opcode::RecvMulti::new(Fd(far.as_raw_fd()), GROUP).build();
    // SAFETY: the receive refers to the buffers of the group, of which there are none yet.
    unsafe { ring.submission().push(&limited(receive, 1)) }.map_err(io::Error::other)?;
    ring.submit_and_wait(1)?;
    let result = ring.completion().next().map_or(-libc::EINVAL, |entry| entry.result());
    Ok(result != -libc::EINVAL)
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

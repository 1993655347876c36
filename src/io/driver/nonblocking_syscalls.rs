//! The system calls of the epoll driver: each tried once, without waiting.
//!
//! Interruption is repeated here; "not now" and failure are told apart. It refuses to know when to try again.

#![allow(unsafe_code, reason = "system calls on memory that the caller vouches for")]

use std::os::fd::{BorrowedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{getsockopt, sockopt};

use crate::io::driver::Submission;

/// Pieces of a message sent at once; what is left goes with the next call. `UIO_MAXIOV` allows 1,024.
const MAX_PIECES: usize = 64;

const SEND_FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

/// What a call came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::io) enum SyscallResult {
    /// A count, or a new descriptor.
    Done(usize),
    /// Not now.
    Later,
    /// An errno.
    Failed(i32),
}

/// Repeats `call` while it is interrupted.
fn tried(mut call: impl FnMut() -> libc::ssize_t) -> SyscallResult {
    loop {
        let result = call();
        if let Ok(count) = usize::try_from(result) {
            return SyscallResult::Done(count);
        }
        match Errno::last() {
            Errno::EINTR => {}
            Errno::EAGAIN => return SyscallResult::Later,
            errno => return SyscallResult::Failed(errno as i32),
        }
    }
}

/// Makes calls on `fd` answer EAGAIN instead of waiting.
pub(in crate::io) fn do_not_block(fd: RawFd) -> Result<(), Errno> {
    // SAFETY: the caller has an operation on this descriptor, which is open while that is pending.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).map(drop)
}

/// Takes a connection from listener `fd`, which does not block.
pub(in crate::io) fn accept(fd: RawFd) -> SyscallResult {
    let nowhere = std::ptr::null_mut;
    // SAFETY: the peer's address is not asked for, so no memory is written.
    tried(|| unsafe { libc::accept4(fd, nowhere(), std::ptr::null_mut(), libc::SOCK_CLOEXEC) } as libc::ssize_t)
}

/// Receives at most `length` bytes to `start`.
///
/// # Safety
/// `start` is valid for writing `length` bytes.
pub(in crate::io) unsafe fn receive(fd: RawFd, start: *mut u8, length: usize) -> SyscallResult {
    // SAFETY: the caller vouches for the memory.
    tried(|| unsafe { libc::recv(fd, start.cast(), length, libc::MSG_DONTWAIT) })
}

/// Reads and resets an eventfd that does not block.
///
/// # Safety
/// `into` is valid for writing a `u64`.
pub(in crate::io) unsafe fn read_event(fd: RawFd, into: *mut u64) -> SyscallResult {
    // SAFETY: the caller vouches for the memory.
    tried(|| unsafe { libc::read(fd, into.cast(), size_of::<u64>()) })
}

/// Begins to connect `fd`, which does not block, or looks (`under_way`) how that has ended.
///
/// # Safety
/// `address` is valid for reading `length` bytes.
pub(in crate::io) unsafe fn connect(
    fd: RawFd,
    address: *const libc::sockaddr,
    length: libc::socklen_t,
    under_way: bool,
) -> SyscallResult {
    if under_way {
        // SAFETY: the caller has an operation on this descriptor, which is open while that is pending.
        let socket = unsafe { BorrowedFd::borrow_raw(fd) };
        return match getsockopt(&socket, sockopt::SocketError) {
            Ok(0) => SyscallResult::Done(0),
            Ok(errno) => SyscallResult::Failed(errno),
            Err(errno) => SyscallResult::Failed(errno as i32),
        };
    }
    // SAFETY: the caller vouches for the address.
    match tried(|| unsafe { libc::connect(fd, address, length) } as libc::ssize_t) {
        SyscallResult::Failed(libc::EINPROGRESS) => SyscallResult::Later,
        // connect(2): of a TCP socket, no port is free. It would not become ready by waiting.
        SyscallResult::Later => SyscallResult::Failed(libc::EAGAIN),
        outcome => outcome,
    }
}

/// Sends the bytes of `submission` from `skip` on; also says how many there are in all.
///
/// # Safety
/// `submission` is a send, and its memory is valid for reading.
pub(in crate::io) unsafe fn send(submission: &Submission, skip: usize) -> (SyscallResult, usize) {
    match *submission {
        Submission::Send { fd, start, length, manner } => {
            let total = length as usize;
            // SAFETY: fewer than all bytes have been sent, so this is inside the piece.
            let rest = unsafe { start.add(skip) };
            // SAFETY: the caller vouches for the piece, of which this is the end.
            (tried(|| unsafe { libc::send(fd, rest.cast(), total - skip, SEND_FLAGS | manner.flags()) }), total)
        }
        Submission::SendMany { fd, header, length, manner } => {
            // SAFETY: the caller vouches for the header and the pieces that it lists.
            let pieces = unsafe { std::slice::from_raw_parts((*header).msg_iov, (*header).msg_iovlen) };
            let (rest, count) = after(pieces, skip);
            // SAFETY: a header of zeros is one without name, pieces and control data.
            let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
            message.msg_iov = rest.as_ptr().cast_mut();
            message.msg_iovlen = count;
            // SAFETY: the header and what it lists live until the call returns; sendmsg(2) only reads them.
            (tried(|| unsafe { libc::sendmsg(fd, &raw const message, SEND_FLAGS | manner.flags()) }), length as usize)
        }
        _ => unreachable!("only sends are sent"),
    }
}

/// The pieces that remain after the first `skip` bytes, as many as are sent at once.
fn after(pieces: &[libc::iovec], mut skip: usize) -> ([libc::iovec; MAX_PIECES], usize) {
    let mut rest = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; MAX_PIECES];
    let mut count = 0;
    for piece in pieces {
        let sent = skip.min(piece.iov_len);
        skip -= sent;
        if sent < piece.iov_len && count < MAX_PIECES {
            // SAFETY: `sent` is less than the piece's length.
            let iov_base = unsafe { piece.iov_base.byte_add(sent) };
            rest[count] = libc::iovec { iov_base, iov_len: piece.iov_len - sent };
            count += 1;
        }
    }
    (rest, count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_remains_after_a_partial_send() {
        let text = *b"abcdefghij";
        let piece = |from: usize, length: usize| libc::iovec {
            iov_base: text[from..].as_ptr().cast_mut().cast(),
            iov_len: length,
        };
        let pieces = [piece(0, 3), piece(3, 0), piece(3, 4), piece(7, 3)];
        for skip in 0..=10 {
            let (rest, count) = after(&pieces, skip);
            let lengths: Vec<usize> = rest[..count].iter().map(|piece| piece.iov_len).collect();
            assert_eq!(lengths.iter().sum::<usize>(), 10 - skip, "{lengths:?}");
            if let Some(first) = rest[..count].first() {
                assert_eq!(first.iov_base.cast_const().cast(), text[skip..].as_ptr());
            }
        }
    }
}

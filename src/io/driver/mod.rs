//! The operation interface: everything the engine asks of an operating system.
//!
//! Above this line nothing knows which of them works: io_uring ([`crate::io::driver::uring`]), epoll where the host forbids that
//! ([`crate::io::driver::epoll`]), in tests a simulation that fails and dawdles as no kernel would. It refuses to know what a socket
//! is for, who waits for it, or who owns the memory that it is handed: [`crate::io::reactor`] keeps that memory alive.

#![allow(unsafe_code, reason = "submitting is unsafe: the caller promises that memory stays")]

pub(in crate::io) mod engine_select;
pub(in crate::io) mod epoll;
pub(in crate::io) mod nonblocking_syscalls;
pub(in crate::io) mod probe;
pub(in crate::io) mod queries;
pub(in crate::io) mod restrict;
pub(in crate::io) mod ring_setup;
pub(in crate::io) mod uring;

use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use crate::io::driver::queries::Queries;

/// Names one operation from its submission to its last completion. Holds a generation, so it is never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::io) struct OpId(pub(in crate::io) u64);

impl OpId {
    /// The highest bit is left to drivers.
    pub(in crate::io) const MAX_GENERATION: u32 = u32::MAX >> 1;

    pub(in crate::io) fn new(slot: usize, generation: u32) -> Self {
        OpId(u64::from(generation & Self::MAX_GENERATION) << 32 | slot as u64)
    }

    /// A small number that no other operation has at the same time.
    pub(in crate::io) fn slot(self) -> usize {
        self.0 as u32 as usize
    }

    pub(in crate::io) fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// What to do. Pointers stay valid until the last completion: see [`Driver::submit`].
#[derive(Clone, Copy, Debug)]
pub(in crate::io) enum Submission {
    /// Accept once, or (`many`) until cancelled or failed; every completion's result is a new descriptor.
    Accept { fd: RawFd, many: bool },
    /// Receive until end of stream, error, cancellation or lack of buffers; every completion names a pool buffer.
    /// Stops after about `limit` bytes where the driver can; elsewhere the caller cancels it.
    Receive { fd: RawFd, limit: u32 },
    /// Receive once, into memory of the caller; with `gather` not before as many bytes are there as the socket's
    /// `SO_RCVLOWAT` says, where the driver can.
    ReceiveInto { fd: RawFd, start: *mut u8, length: u32, gather: bool },
    /// Send all of one piece.
    Send { fd: RawFd, start: *const u8, length: u32, manner: Manner },
    /// Send all of several pieces, `length` bytes together.
    SendMany { fd: RawFd, header: *const libc::msghdr, length: u32, manner: Manner },
    /// Connect a stream socket.
    Connect { fd: RawFd, address: *const libc::sockaddr, length: libc::socklen_t },
    /// Read an eventfd.
    ReadEvent { fd: RawFd, into: *mut u64 },
}

impl Submission {
    pub(in crate::io) fn descriptor(&self) -> RawFd {
        match *self {
            Submission::Accept { fd, .. }
            | Submission::Receive { fd, .. }
            | Submission::ReceiveInto { fd, .. }
            | Submission::Send { fd, .. }
            | Submission::SendMany { fd, .. }
            | Submission::Connect { fd, .. }
            | Submission::ReadEvent { fd, .. } => fd,
        }
    }

    pub(in crate::io) fn is_send(&self) -> bool {
        matches!(self, Submission::Send { .. } | Submission::SendMany { .. })
    }

    /// Waits for the descriptor to be writable. There is at most one operation of either direction on a descriptor.
    pub(in crate::io) fn is_write(&self) -> bool {
        self.is_send() || matches!(self, Submission::Connect { .. })
    }

    /// Does nobody wait for it to complete?
    pub(in crate::io) fn is_quiet(&self) -> bool {
        let (Submission::Send { manner, .. } | Submission::SendMany { manner, .. }) = self else { return false };
        *manner == Manner::Quiet
    }
}

/// What a send does where the socket has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::io) enum Manner {
    /// It waits for room; fewer bytes are sent only after an error half-way.
    Patient,
    /// It sends what fits at once, and nothing (`EAGAIN`) if nothing does; or it waits, as the driver likes. Nobody waits
    /// for it to complete, so a completion of all its bytes need not end the wait of a turn.
    Quiet,
    /// As patient, and the end of the stream follows at once: bytes that fill no segment may wait for it (`MSG_MORE`), so
    /// that both travel in one.
    Last,
}

impl Manner {
    /// What it adds to the flags of a send.
    pub(in crate::io) fn flags(self) -> i32 {
        match self {
            Manner::Patient => 0,
            Manner::Quiet => libc::MSG_DONTWAIT,
            Manner::Last => libc::MSG_MORE,
        }
    }
}

/// What came of an operation.
#[derive(Clone, Copy, Debug)]
pub(in crate::io) struct Completion {
    pub(in crate::io) id: OpId,
    /// As the system call would have returned: a count, a descriptor, or a negative errno.
    pub(in crate::io) result: i32,
    /// More completions of this operation will follow: its memory is still in use.
    pub(in crate::io) more: bool,
    /// The pool buffer that holds the bytes.
    pub(in crate::io) buffer: Option<u16>,
}

/// How long a turn may wait for completions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::io) enum Wait {
    /// Not at all.
    Poll,
    /// Until something completes or `timeout` has passed. With `batch`, until that many have completed if they do so
    /// within that time, else until something completes.
    Block { timeout: Option<Duration>, batch: Option<Batching> },
}

/// Wait for `count` completions, but no longer than `micros` for more than one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::io) struct Batching {
    pub(in crate::io) count: u32,
    pub(in crate::io) micros: u32,
}

/// Figures that only the driver knows.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::io) struct DriverCounters {
    pub(in crate::io) submissions: u64,
    pub(in crate::io) completions: u64,
    pub(in crate::io) overflows: u64,
}

/// An engine room: takes operations, gives completions.
pub(in crate::io) trait Driver: Queries {
    /// Queues `submission`. It reaches the kernel in the next [`Driver::turn`] at the latest.
    ///
    /// # Safety
    /// The descriptor stays open, and all memory that `submission` points to stays valid, unmoved and untouched (for
    /// memory that is written: unread), until a completion of `id` without `more` has been returned by `turn`.
    unsafe fn submit(&mut self, id: OpId, submission: &Submission);

    /// Asks for `id` to end soon. A hint: its last completion comes in any case, and may well be a success.
    fn cancel(&mut self, id: OpId);

    /// `fd`, on which no operation is left, is about to be closed; its number may come again for another socket.
    fn forget(&mut self, _fd: RawFd) {}

    /// Hands pool buffers back to be received into; empties `ids`.
    fn provide(&mut self, ids: &mut Vec<u16>);

    /// Submits what is queued, waits as told, and appends what completed to `done`. Wakes early on a signal.
    fn turn(&mut self, wait: Wait, done: &mut Vec<Completion>) -> std::io::Result<()>;

    /// Can [`Batching`] be honoured?
    fn can_batch(&self) -> bool;

    fn counters(&self) -> DriverCounters;

    /// The clock.
    fn now(&self) -> Instant {
        Instant::now()
    }
}

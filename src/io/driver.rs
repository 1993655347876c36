//! The operation interface: everything the engine asks of an operating system.
//!
//! Above this line nothing knows about io_uring, so an epoll engine (for hosts whose seccomp profile forbids io_uring)
//! or a seeded simulation can stand behind it without a change elsewhere. It refuses to know what a socket is for, who
//! waits for it, or who owns the memory that it is handed: [`super::reactor`] keeps that memory alive.

#![allow(unsafe_code, reason = "submitting is unsafe: the caller promises that memory stays")]

use std::os::fd::RawFd;
use std::time::Duration;

/// Names one operation from its submission to its last completion. Holds a generation, so it is never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct OpId(pub(super) u64);

/// What to do. Pointers stay valid until the last completion: see [`Driver::submit`].
#[derive(Clone, Copy, Debug)]
pub(super) enum Submission {
    /// Accept until cancelled or failed; every completion's result is a new descriptor.
    Accept { fd: RawFd },
    /// Receive until end of stream, error, cancellation or lack of buffers; every completion names a pool buffer.
    /// Stops after about `limit` bytes where the driver can; elsewhere the caller cancels it.
    Receive { fd: RawFd, limit: u32 },
    /// Receive once, into memory of the caller.
    ReceiveInto { fd: RawFd, start: *mut u8, length: u32 },
    /// Send all of one piece.
    Send { fd: RawFd, start: *const u8, length: u32, manner: Manner },
    /// Send all of several pieces, `length` bytes together.
    SendMany { fd: RawFd, header: *const libc::msghdr, length: u32, manner: Manner },
    /// Connect a stream socket.
    Connect { fd: RawFd, address: *const libc::sockaddr, length: libc::socklen_t },
    /// Read an eventfd.
    ReadEvent { fd: RawFd, into: *mut u64 },
}

/// What a send does where the socket has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// It waits for room; fewer bytes are sent only after an error half-way.
    Patient,
    /// It sends what fits at once, and nothing (`EAGAIN`) if nothing does. Nobody waits for it to complete, so a
    /// completion of all its bytes need not end the wait of a turn.
    Quiet,
}

/// What came of an operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Completion {
    pub(super) id: OpId,
    /// As the system call would have returned: a count, a descriptor, or a negative errno.
    pub(super) result: i32,
    /// More completions of this operation will follow: its memory is still in use.
    pub(super) more: bool,
    /// The pool buffer that holds the bytes.
    pub(super) buffer: Option<u16>,
}

/// How long a turn may wait for completions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// Not at all.
    Poll,
    /// Until something completes or `timeout` has passed. With `batch`, until that many have completed if they do so
    /// within that time, else until something completes.
    Block { timeout: Option<Duration>, batch: Option<Batching> },
}

/// Wait for `count` completions, but no longer than `micros` for more than one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Batching {
    pub(super) count: u32,
    pub(super) micros: u32,
}

/// Figures that only the driver knows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct DriverCounters {
    pub(super) submissions: u64,
    pub(super) completions: u64,
    pub(super) overflows: u64,
}

/// An engine room: takes operations, gives completions.
pub(super) trait Driver {
    /// Queues `submission`. It reaches the kernel in the next [`Driver::turn`] at the latest.
    ///
    /// # Safety
    /// The descriptor stays open, and all memory that `submission` points to stays valid, unmoved and untouched (for
    /// memory that is written: unread), until a completion of `id` without `more` has been returned by `turn`.
    unsafe fn submit(&mut self, id: OpId, submission: &Submission);

    /// Asks for `id` to end soon. A hint: its last completion comes in any case, and may well be a success.
    fn cancel(&mut self, id: OpId);

    /// Hands pool buffers back to be received into; empties `ids`.
    fn provide(&mut self, ids: &mut Vec<u16>);

    /// Submits what is queued, waits as told, and appends what completed to `done`. Wakes early on a signal.
    fn turn(&mut self, wait: Wait, done: &mut Vec<Completion>) -> std::io::Result<()>;

    /// Can [`Batching`] be honoured?
    fn can_batch(&self) -> bool;

    fn counters(&self) -> DriverCounters;
}

//! The driver over io_uring: one ring a thread, entered once a turn.
//!
//! Flags (kernel 6.1 at least, see [`crate::io::driver::probe`]): SINGLE_ISSUER and DEFER_TASKRUN, so that completions are made
//! only when we ask for them and nothing interrupts us; SUBMIT_ALL, so that one bad entry does not hold up others; a
//! completion queue eight times the submission queue. Where the kernel has them: NO_SQARRAY (6.6), a registered ring
//! descriptor (5.18), which saves a look-up at each entry, and waiting for several completions (6.12).
//! No SQPOLL (an idle proxy must be idle), no registered buffers (pods may lock little memory), no bundles.

#![allow(unsafe_code, reason = "system calls and entries of the submission queue")]

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;

use io_uring::types::{Fd, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue};

use crate::io::bounds::EngineOptions;
use crate::io::buffers::Pool;
use crate::io::buffers::provided::{GROUP, ProvidedRing};
use crate::io::driver::probe::{EngineError, classify, set_up};
use crate::io::driver::queries::Queries;
use crate::io::driver::restrict;
use crate::io::driver::ring_setup::{can_limit_receives, limited};
use crate::io::driver::{Batching, Completion, Driver, DriverCounters, Manner, OpId, Submission, Wait};

/// What a cancellation itself answers is of no interest: the operation's own completion tells.
const CANCELLATION: u64 = u64::MAX;

/// In the user data of a quiet send; no id gets that far.
const QUIET: u64 = 1 << 63;

const IORING_REGISTER_RING_FDS: libc::c_uint = 20;
const IORING_UNREGISTER_RING_FDS: libc::c_uint = 21;

const SEND_FLAGS: i32 = libc::MSG_WAITALL | libc::MSG_NOSIGNAL;

pub(in crate::io) struct Uring {
    // Dropped before the memory that it may use.
    ring: IoUring,
    buffers: ProvidedRing,
    registered: Option<u32>,
    /// Entries for which the submission queue had no room.
    overflow: VecDeque<squeue::Entry>,
    /// Quiet sends and their lengths: those of which the kernel says nothing have succeeded once it has taken them.
    quiet: Vec<(u64, u32)>,
    can_batch: bool,
    can_be_quiet: bool,
    limits_receives: bool,
    counters: DriverCounters,
}

/// `struct io_uring_getevents_arg` (linux/io_uring.h; `min_wait_usec` since 6.12, padding before).
#[repr(C)]
struct WaitArgument {
    sigmask: u64,
    sigmask_sz: u32,
    min_wait_usec: u32,
    ts: u64,
}

/// `struct io_uring_rsrc_update` (linux/io_uring.h), as registering a ring's descriptor uses it.
#[repr(C)]
struct RingRegistration {
    offset: u32,
    resv: u32,
    data: u64,
}

impl Uring {
    pub(in crate::io) fn new(options: &EngineOptions, pool: &Rc<Pool>) -> Result<Self, EngineError> {
        let (mut ring, buffers) = set_up(options.submission_entries, options.restrict_ring, pool)?;
        let registered = register_ring(ring.as_raw_fd());
        if options.restrict_ring && restrict::restrict(&ring).is_err() {
            restrict::enable(&ring).map_err(|error| classify(error, "enabling the ring"))?;
        }
        let can_batch = ring.params().is_feature_min_timeout();
        let limits_receives = can_limit_receives(&mut ring).unwrap_or(false);
        let can_be_quiet = ring.params().is_feature_skip_cqe_on_success();
        let (overflow, quiet, counters) = (VecDeque::new(), Vec::new(), DriverCounters::default());
        Ok(Self { ring, buffers, registered, overflow, quiet, can_batch, can_be_quiet, limits_receives, counters })
    }

    fn push(&mut self, entry: squeue::Entry) {
        self.counters.submissions += 1;
        // SAFETY: the memory that the entry refers to outlives the operation: the contract of `Driver::submit`.
        if !self.overflow.is_empty() || unsafe { self.ring.submission().push(&entry) }.is_err() {
            self.overflow.push_back(entry);
        }
    }

    fn refill(&mut self) {
        let mut queue = self.ring.submission();
        while !queue.is_full()
            && let Some(entry) = self.overflow.pop_front()
        {
            // SAFETY: as in `push`.
            unsafe { queue.push(&entry) }.expect("the queue is not full");
        }
    }

    /// One `io_uring_enter`. Interruption, the end of the wait and a lack of room are no errors: the caller comes again.
    fn enter(&mut self, wait: Wait) -> io::Result<()> {
        let to_submit = self.ring.submission().len();
        let mut flags = EnterFlags::GETEVENTS | EnterFlags::EXT_ARG;
        let (timeout, batch) = match wait {
            Wait::Poll => (None, None),
            Wait::Block { timeout, batch } => (timeout, batch),
        };
        let at_least = match (wait, batch) {
            (Wait::Poll, _) => 0,
            (_, Some(Batching { count, .. })) if self.can_batch => count.max(1),
            _ => 1,
        };
        let limit = timeout.map(Timespec::from);
        let argument = WaitArgument {
            sigmask: 0,
            sigmask_sz: 0,
            min_wait_usec: if at_least > 1 { batch.map_or(0, |batch| batch.micros) } else { 0 },
            ts: limit.as_ref().map_or(0, |limit| std::ptr::from_ref(limit) as u64),
        };
        let fd = match self.registered {
            Some(index) => {
                flags |= EnterFlags::REGISTERED_RING;
                libc::c_long::from(index)
            }
            None => libc::c_long::from(self.ring.as_raw_fd()),
        };
        let (number, size) = (libc::SYS_io_uring_enter, size_of::<WaitArgument>());
        // SAFETY: the arguments are those of io_uring_enter(2) with EXT_ARG: `argument` is what that flag promises, it
        // and the time limit that it points to live until the call returns. The entries are sound by `push`.
        let result = unsafe { libc::syscall(number, fd, to_submit, at_least, flags.bits(), &raw const argument, size) };
        if result >= 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::ETIME | libc::EINTR | libc::EAGAIN | libc::EBUSY | libc::ENOMEM) => Ok(()),
            _ => Err(error),
        }
    }

    fn collect(&mut self, done: &mut Vec<Completion>) {
        let before = done.len();
        for entry in self.ring.completion() {
            let mut id = entry.user_data();
            if id == CANCELLATION {
                continue;
            }
            if id & QUIET != 0 {
                id &= !QUIET;
                self.quiet.retain(|(quiet, _)| *quiet != id);
            }
            done.push(Completion {
                id: OpId(id),
                result: entry.result(),
                more: cqueue::more(entry.flags()),
                buffer: cqueue::buffer_select(entry.flags()),
            });
        }
        self.counters.completions += (done.len() - before) as u64;
    }

    /// Completes the quiet sends that the kernel has taken and said nothing about. It carries a send that must not wait
    /// out while it takes it, and then either has posted why it failed or fell short, or it has succeeded.
    fn settle_quiet(&mut self, done: &mut Vec<Completion>) {
        if self.quiet.is_empty() || !self.overflow.is_empty() || !self.ring.submission().is_empty() {
            return;
        }
        self.counters.completions += self.quiet.len() as u64;
        done.extend(self.quiet.drain(..).map(|(id, length)| Completion {
            id: OpId(id),
            result: length as i32,
            more: false,
            buffer: None,
        }));
    }
}

impl Queries for Uring {}

impl Driver for Uring {
    unsafe fn submit(&mut self, id: OpId, submission: &Submission) {
        let entry = entry(submission, self.limits_receives);
        match quiet_length(submission) {
            Some(length) if self.can_be_quiet => {
                self.quiet.push((id.0, length));
                self.push(entry.flags(squeue::Flags::SKIP_SUCCESS).user_data(id.0 | QUIET));
            }
            _ => self.push(entry.user_data(id.0)),
        }
    }

    fn cancel(&mut self, id: OpId) {
        let mut entry = opcode::AsyncCancel::new(id.0).build();
        if self.can_be_quiet {
            entry = entry.flags(squeue::Flags::SKIP_SUCCESS);
        }
        self.push(entry.user_data(CANCELLATION));
    }

    fn provide(&mut self, ids: &mut Vec<u16>) {
        self.buffers.provide(ids);
    }

    fn turn(&mut self, wait: Wait, done: &mut Vec<Completion>) -> io::Result<()> {
        while !self.overflow.is_empty() {
            self.enter(Wait::Poll)?;
            self.collect(done);
            self.refill();
        }
        if self.ring.submission().cq_overflow() {
            self.counters.overflows += 1;
        }
        // What has been collected already must not wait for more.
        self.enter(if done.is_empty() { wait } else { Wait::Poll })?;
        self.collect(done);
        self.settle_quiet(done);
        Ok(())
    }

    fn can_batch(&self) -> bool {
        self.can_batch
    }

    fn counters(&self) -> DriverCounters {
        self.counters
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        // A registered descriptor would keep the ring alive until the thread ends.
        if let Some(index) = self.registered {
            let _ = ring_registration(IORING_UNREGISTER_RING_FDS, self.ring.as_raw_fd(), index, 0);
        }
    }
}

fn quiet_length(submission: &Submission) -> Option<u32> {
    match *submission {
        Submission::Send { length, manner: Manner::Quiet, .. }
        | Submission::SendMany { length, manner: Manner::Quiet, .. } => Some(length),
        _ => None,
    }
}

fn send_flags(manner: Manner) -> i32 {
    SEND_FLAGS | manner.flags()
}

fn entry(submission: &Submission, limits_receives: bool) -> squeue::Entry {
    match *submission {
        Submission::Accept { fd, many: true } => opcode::AcceptMulti::new(Fd(fd)).flags(libc::SOCK_CLOEXEC).build(),
        Submission::Accept { fd, many: false } => {
            let nowhere = std::ptr::null_mut();
            opcode::Accept::new(Fd(fd), nowhere, std::ptr::null_mut()).flags(libc::SOCK_CLOEXEC).build()
        }
        Submission::Receive { fd, limit } => {
            let entry = opcode::RecvMulti::new(Fd(fd), GROUP).build();
            if limits_receives { limited(entry, limit) } else { entry }
        }
        Submission::ReceiveInto { fd, start, length, gather } => {
            let entry = opcode::Recv::new(Fd(fd), start, length).build();
            if gather { polling_first(entry) } else { entry }
        }
        Submission::Send { fd, start, length, manner } => {
            opcode::Send::new(Fd(fd), start, length).flags(send_flags(manner)).build()
        }
        Submission::SendMany { fd, header, manner, .. } => {
            opcode::SendMsg::new(Fd(fd), header).flags(send_flags(manner) as u32).build()
        }
        Submission::Connect { fd, address, length } => opcode::Connect::new(Fd(fd), address, length).build(),
        Submission::ReadEvent { fd, into } => opcode::Read::new(Fd(fd), into.cast(), size_of::<u64>() as u32).build(),
    }
}

/// A receive that waits for readiness before it looks for bytes (kernel 5.19): the low-water mark counts for readiness
/// only.
fn polling_first(mut entry: squeue::Entry) -> squeue::Entry {
    const IOPRIO: usize = 2;
    const IORING_RECVSEND_POLL_FIRST: u16 = 1;
    let fields = (&raw mut entry).cast::<u8>();
    // SAFETY: an entry is the 64 bytes of `struct io_uring_sqe`; these are the two of its field at offset 2.
    let field = unsafe { fields.add(IOPRIO) }.cast::<[u8; 2]>();
    // SAFETY: as above; bytes need no alignment.
    unsafe { field.write(IORING_RECVSEND_POLL_FIRST.to_ne_bytes()) };
    entry
}

fn register_ring(ring: RawFd) -> Option<u32> {
    ring_registration(IORING_REGISTER_RING_FDS, ring, u32::MAX, ring as u64).ok()
}

/// Registers or unregisters a ring's descriptor; returns its index.
fn ring_registration(operation: libc::c_uint, ring: RawFd, offset: u32, data: u64) -> io::Result<u32> {
    let mut registration = RingRegistration { offset, resv: 0, data };
    let number = libc::SYS_io_uring_register;
    // SAFETY: the arguments are those of io_uring_register(2) for this operation: one entry, which the kernel may write.
    let result = unsafe { libc::syscall(number, ring, operation, &raw mut registration, 1) };
    if result == 1 { Ok(registration.offset) } else { Err(io::Error::last_os_error()) }
}

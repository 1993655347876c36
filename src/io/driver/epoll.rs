//! The driver over epoll, for hosts that forbid io_uring: readiness is turned into completions.
//!
//! Every descriptor is registered once, edge-triggered, for both directions; what is known of it since its last edge
//! stands in a [`Watch`]. An operation is tried when the descriptor may be ready and otherwise rests until an edge comes.
//! A read that did not fill its buffer has emptied the socket (epoll(7), "Do I need to continuously read"), which saves
//! the call that would say so, unless the peer is known to have finished. It refuses to know what is received, and who
//! owns the memory.
//!
//! Kernel 4.5 would do; the project is tested from 5.15 on.

#![allow(unsafe_code, reason = "system calls on memory and descriptors that the contract of `Driver` keeps alive")]

use std::collections::VecDeque;
use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::io::buffers::Pool;
use crate::io::driver::nonblocking_syscalls::{self, SyscallResult};
use crate::io::driver::probe::{EngineError, classify};
use crate::io::driver::queries::Queries;
use crate::io::driver::{Completion, Driver, DriverCounters, OpId, Submission, Wait};

/// Edges fetched at once.
const EVENTS: usize = 256;

/// Buffers that one connection may fill in a turn; then others have theirs.
const RECEIVES_A_TURN: usize = 4;

/// Connections that one listener may accept in a turn.
const ACCEPTS_A_TURN: usize = 32;

pub(in crate::io) struct Epoll {
    edges: nix::sys::epoll::Epoll,
    pool: Rc<Pool>,
    /// Buffers that nobody holds.
    free: Vec<u16>,
    /// By descriptor.
    watches: Vec<Watch>,
    /// By [`OpId::slot`].
    pending: Vec<Option<Pending>>,
    /// Operations worth trying. One may be listed twice, or have ended: both are harmless.
    ready: VecDeque<OpId>,
    /// Completions that need no system call.
    settled: Vec<Completion>,
    /// Quiet sends that this turn has completed.
    quiet: usize,
    /// The last turn did not ask for edges, because it had completions already.
    skipped: bool,
    events: Vec<EpollEvent>,
    counters: DriverCounters,
}

/// An operation that has not ended.
struct Pending {
    id: OpId,
    submission: Submission,
    /// Bytes received or sent so far; for a connect: it is under way.
    progress: u32,
}

/// What is known of a descriptor.
#[derive(Clone, Copy, Default)]
struct Watch {
    known: Known,
    /// A read may find something.
    readable: bool,
    /// A write has been refused, and no edge has come since.
    full: bool,
    reader: Option<OpId>,
    writer: Option<OpId>,
}

/// What the kernel has been asked, and has said for good.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Known {
    #[default]
    Unregistered,
    Registered,
    /// The peer has finished or the connection has failed: a short read proves nothing any more.
    Hung,
}

impl Epoll {
    pub(in crate::io) fn new(pool: &Rc<Pool>) -> Result<Self, EngineError> {
        let edges = nix::sys::epoll::Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
            .map_err(|error| classify(error.into(), "epoll_create1"))?;
        Ok(Self {
            edges,
            pool: Rc::clone(pool),
            free: Vec::with_capacity(pool.count()),
            watches: Vec::new(),
            pending: Vec::new(),
            ready: VecDeque::new(),
            settled: Vec::new(),
            quiet: 0,
            skipped: false,
            events: vec![EpollEvent::empty(); EVENTS],
            counters: DriverCounters::default(),
        })
    }

    fn watch(&mut self, fd: RawFd) -> &mut Watch {
        let index = usize::try_from(fd).expect("an open descriptor is not negative");
        if index >= self.watches.len() {
            self.watches.resize(index + 1, Watch::default());
        }
        &mut self.watches[index]
    }

    /// Asks for the edges of `fd`, once. The first comes at once if it is ready now.
    fn register(&mut self, fd: RawFd) -> Result<(), Errno> {
        let watch = self.watch(fd);
        if watch.known != Known::Unregistered {
            return Ok(());
        }
        watch.known = Known::Registered;
        let wanted = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
        // SAFETY: the descriptor is open while an operation on it is pending: the contract of `Driver::submit`.
        let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
        self.edges.add(borrowed, EpollEvent::new(wanted, fd as u64))
    }

    fn find(&mut self, id: OpId) -> Option<&mut Pending> {
        self.pending.get_mut(id.slot())?.as_mut().filter(|pending| pending.id == id)
    }

    /// Ends `id` with `result`.
    fn end(&mut self, id: OpId, result: i32, buffer: Option<u16>, done: &mut Vec<Completion>) {
        self.forget_operation(id);
        done.push(Completion { id, result, more: false, buffer });
    }

    fn forget_operation(&mut self, id: OpId) {
        let Some(Pending { submission, .. }) = self.pending[id.slot()].take() else { return };
        let watch = self.watch(submission.descriptor());
        let place = if submission.is_write() { &mut watch.writer } else { &mut watch.reader };
        *place = None;
    }

    /// Tries everything that is listed, each within its budget.
    fn attempt_ready(&mut self, done: &mut Vec<Completion>) {
        for _ in 0..self.ready.len() {
            let Some(id) = self.ready.pop_front() else { break };
            let Some(pending) = self.find(id) else { continue };
            let (submission, progress) = (pending.submission, pending.progress);
            match submission {
                Submission::Accept { fd, many } => self.attempt_accept(id, fd, many, done),
                Submission::Receive { fd, limit } => self.attempt_receive(id, fd, limit, done),
                Submission::ReceiveInto { fd, start, length, .. } => {
                    let all = length as usize;
                    // SAFETY: the memory is the operation's until it ends: the contract of `Driver::submit`.
                    self.attempt_once(id, fd, all, || unsafe { nonblocking_syscalls::receive(fd, start, all) }, done);
                }
                Submission::ReadEvent { fd, into } => {
                    // SAFETY: as above.
                    self.attempt_once(
                        id,
                        fd,
                        usize::MAX,
                        || unsafe { nonblocking_syscalls::read_event(fd, into) },
                        done,
                    );
                }
                Submission::Connect { fd, address, length } => {
                    if progress > 0 && self.watch(fd).full {
                        continue;
                    }
                    // SAFETY: as above.
                    let outcome = unsafe { nonblocking_syscalls::connect(fd, address, length, progress > 0) };
                    self.after_connect(id, fd, outcome, done);
                }
                Submission::Send { .. } | Submission::SendMany { .. } => self.attempt_send(id, submission, done),
            }
        }
    }

    fn attempt_accept(&mut self, id: OpId, fd: RawFd, many: bool, done: &mut Vec<Completion>) {
        if !self.watch(fd).readable {
            return;
        }
        for _ in 0..ACCEPTS_A_TURN {
            match nonblocking_syscalls::accept(fd) {
                SyscallResult::Done(accepted) if many => {
                    done.push(Completion { id, result: accepted as i32, more: true, buffer: None });
                }
                SyscallResult::Done(accepted) => return self.end(id, accepted as i32, None, done),
                SyscallResult::Later => {
                    self.watch(fd).readable = false;
                    return;
                }
                SyscallResult::Failed(errno) => return self.end(id, -errno, None, done),
            }
        }
        self.ready.push_back(id);
    }

    fn attempt_receive(&mut self, id: OpId, fd: RawFd, limit: u32, done: &mut Vec<Completion>) {
        let size = self.pool.size();
        for _ in 0..RECEIVES_A_TURN {
            if !self.watch(fd).readable {
                return;
            }
            let Some(buffer) = self.free.pop() else { return self.end(id, -libc::ENOBUFS, None, done) };
            // SAFETY: a free buffer of the pool holds `size` bytes, and nobody else uses it.
            match unsafe { nonblocking_syscalls::receive(fd, self.pool.address(buffer).as_ptr(), size) } {
                SyscallResult::Done(0) => {
                    self.free.push(buffer);
                    return self.end(id, 0, None, done);
                }
                SyscallResult::Done(count) => {
                    let watch = self.watch(fd);
                    watch.readable = count == size || watch.known == Known::Hung;
                    let pending = self.find(id).expect("tried only while it is pending");
                    pending.progress = pending.progress.saturating_add(count as u32);
                    if pending.progress >= limit {
                        return self.end(id, count as i32, Some(buffer), done);
                    }
                    done.push(Completion { id, result: count as i32, more: true, buffer: Some(buffer) });
                }
                SyscallResult::Later => {
                    self.free.push(buffer);
                    self.watch(fd).readable = false;
                }
                SyscallResult::Failed(errno) => {
                    self.free.push(buffer);
                    return self.end(id, -errno, None, done);
                }
            }
        }
        self.ready.push_back(id);
    }

    /// One read that ends the operation with whatever it gives; less than `all` means that nothing is left.
    fn attempt_once(
        &mut self,
        id: OpId,
        fd: RawFd,
        all: usize,
        read: impl FnOnce() -> SyscallResult,
        done: &mut Vec<Completion>,
    ) {
        let watch = self.watch(fd);
        if !watch.readable {
            return;
        }
        match read() {
            SyscallResult::Done(count) => {
                watch.readable = count == all || watch.known == Known::Hung;
                self.end(id, count as i32, None, done);
            }
            SyscallResult::Later => self.watch(fd).readable = false,
            SyscallResult::Failed(errno) => self.end(id, -errno, None, done),
        }
    }

    fn after_connect(&mut self, id: OpId, fd: RawFd, outcome: SyscallResult, done: &mut Vec<Completion>) {
        match outcome {
            SyscallResult::Done(_) => self.end(id, 0, None, done),
            SyscallResult::Failed(errno) => self.end(id, -errno, None, done),
            SyscallResult::Later => {
                if let Some(pending) = self.find(id) {
                    pending.progress = 1;
                }
                self.rest_until_writable(id, fd, done);
            }
        }
    }

    fn attempt_send(&mut self, id: OpId, submission: Submission, done: &mut Vec<Completion>) {
        let fd = submission.descriptor();
        if self.watch(fd).full {
            return;
        }
        let Some(pending) = self.find(id) else { return };
        let sent = pending.progress as usize;
        // SAFETY: the pieces are the operation's until it ends: the contract of `Driver::submit`.
        let (outcome, total) = unsafe { nonblocking_syscalls::send(&submission, sent) };
        match outcome {
            SyscallResult::Done(count) if sent + count >= total => {
                self.quiet += usize::from(submission.is_quiet());
                self.end(id, total as i32, None, done);
            }
            SyscallResult::Done(count) => {
                pending.progress += count as u32;
                self.rest_until_writable(id, fd, done);
            }
            SyscallResult::Later => self.rest_until_writable(id, fd, done),
            // What is sent already counts; the next attempt will name the error.
            SyscallResult::Failed(_) if sent > 0 => self.end(id, sent as i32, None, done),
            SyscallResult::Failed(errno) => self.end(id, -errno, None, done),
        }
    }

    fn rest_until_writable(&mut self, id: OpId, fd: RawFd, done: &mut Vec<Completion>) {
        self.watch(fd).full = true;
        if let Err(errno) = self.register(fd) {
            self.watch(fd).known = Known::Unregistered;
            self.end(id, -(errno as i32), None, done);
        }
    }

    /// Fetches edges; what they concern is listed as ready.
    fn wait(&mut self, wait: Wait) -> io::Result<()> {
        let timeout = match wait {
            Wait::Poll => EpollTimeout::ZERO,
            Wait::Block { timeout: None, .. } => EpollTimeout::NONE,
            Wait::Block { timeout: Some(timeout), .. } => in_milliseconds(timeout),
        };
        let count = match self.edges.wait(&mut self.events, timeout) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(error) => return Err(error.into()),
        };
        for index in 0..count {
            let (fd, flags) = (self.events[index].data() as RawFd, self.events[index].events());
            self.note_edge(fd, flags);
        }
        Ok(())
    }

    fn note_edge(&mut self, fd: RawFd, flags: EpollFlags) {
        let over = EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR;
        let watch = self.watch(fd);
        if flags.intersects(over | EpollFlags::EPOLLRDHUP) {
            watch.known = Known::Hung;
        }
        let readable = flags.intersects(over | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLIN);
        let writable = flags.intersects(over | EpollFlags::EPOLLOUT);
        watch.readable |= readable;
        watch.full &= !writable;
        let Watch { reader, writer, .. } = *watch;
        self.ready.extend(reader.filter(|_| readable));
        self.ready.extend(writer.filter(|_| writable));
    }
}

/// Rounded up: a wait is never too short, or the time left would be spun away.
fn in_milliseconds(timeout: Duration) -> EpollTimeout {
    let millis = timeout.as_nanos().div_ceil(1_000_000);
    EpollTimeout::try_from(i32::try_from(millis).unwrap_or(i32::MAX)).unwrap_or(EpollTimeout::MAX)
}

impl Queries for Epoll {}

impl Driver for Epoll {
    unsafe fn submit(&mut self, id: OpId, submission: &Submission) {
        self.counters.submissions += 1;
        let (fd, writes) = (submission.descriptor(), submission.is_write());
        if self.pending.len() <= id.slot() {
            self.pending.resize_with(id.slot() + 1, || None);
        }
        self.pending[id.slot()] = Some(Pending { id, submission: *submission, progress: 0 });
        let watch = self.watch(fd);
        *(if writes { &mut watch.writer } else { &mut watch.reader }) = Some(id);
        let worth_trying = if writes { !watch.full } else { watch.readable };
        let registered = watch.known != Known::Unregistered;
        if worth_trying {
            self.ready.push_back(id);
        }
        if registered || submission.is_send() {
            return;
        }
        let prepared = match submission {
            // These calls have no flag of their own against blocking.
            Submission::Accept { .. } | Submission::Connect { .. } | Submission::ReadEvent { .. } => {
                nonblocking_syscalls::do_not_block(fd)
            }
            _ => Ok(()),
        };
        // A socket that has not begun to connect would answer with a hang-up.
        let registered = if writes { Ok(()) } else { self.register(fd) };
        if let Err(errno) = prepared.and(registered) {
            self.watch(fd).known = Known::Unregistered;
            let mut settled = std::mem::take(&mut self.settled);
            self.end(id, -(errno as i32), None, &mut settled);
            self.settled = settled;
        }
    }

    fn cancel(&mut self, id: OpId) {
        let Some(pending) = self.find(id) else { return };
        let sent = if pending.submission.is_send() { pending.progress as i32 } else { 0 };
        let mut settled = std::mem::take(&mut self.settled);
        self.end(id, if sent > 0 { sent } else { -libc::ECANCELED }, None, &mut settled);
        self.settled = settled;
    }

    fn provide(&mut self, ids: &mut Vec<u16>) {
        self.free.append(ids);
    }

    fn forget(&mut self, fd: RawFd) {
        // Closing the descriptor takes it out of the kernel's list.
        *self.watch(fd) = Watch::default();
    }

    fn turn(&mut self, wait: Wait, done: &mut Vec<Completion>) -> io::Result<()> {
        let before = done.len();
        self.quiet = 0;
        done.append(&mut self.settled);
        self.attempt_ready(done);
        let nothing_to_do = done.len() - before == self.quiet && self.ready.is_empty();
        // A turn that has something to hand out asks for more only every other time: what it does next is often to wait.
        let skip = !nothing_to_do && !self.skipped;
        self.skipped = skip;
        if !skip {
            self.wait(if nothing_to_do { wait } else { Wait::Poll })?;
            self.attempt_ready(done);
        }
        self.counters.completions += (done.len() - before) as u64;
        Ok(())
    }

    fn can_batch(&self) -> bool {
        false
    }

    fn counters(&self) -> DriverCounters {
        self.counters
    }
}

//! The driver: operations end when the seed says so.

#![allow(unsafe_code, reason = "it reads and writes the memory of operations, as a kernel would")]

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::peer::{Ends, Peer, Then};
use super::world::World;
use crate::io::EngineKind;
use crate::io::buffers::Pool;
use crate::io::driver::queries::Queries;
use crate::io::driver::{Completion, Driver, DriverCounters, Manner, OpId, Submission, Wait};

/// Far more turns than a play takes: reaching it is a loop without an end.
const TURNS: u64 = 1_000_000;

pub(super) struct Simulated {
    world: Rc<World>,
    pool: Rc<Pool>,
    /// Buffers to receive into.
    free: Vec<u16>,
    pending: Vec<Pending>,
    /// Completions that have come about and are not told yet. Those of one operation are told in their order.
    late: Vec<Completion>,
    /// A send has got rid of some of its bytes.
    has_moved: bool,
    turns: u64,
    counters: DriverCounters,
}

struct Pending {
    id: OpId,
    submission: Submission,
    progress: usize,
    cancelled: bool,
}

fn not_connected() -> io::Error {
    io::Error::from_raw_os_error(libc::ENOTCONN)
}

/// # Safety
/// `address` is a valid socket address of the internet.
unsafe fn read_address(address: *const libc::sockaddr) -> SocketAddr {
    // SAFETY: the caller vouches for it.
    let family = unsafe { (*address).sa_family };
    if i32::from(family) == libc::AF_INET6 {
        // SAFETY: the family says what it is.
        let v6 = unsafe { address.cast::<libc::sockaddr_in6>().read_unaligned() };
        return SocketAddr::from((v6.sin6_addr.s6_addr, u16::from_be(v6.sin6_port)));
    }
    // SAFETY: as above.
    let v4 = unsafe { address.cast::<libc::sockaddr_in>().read_unaligned() };
    SocketAddr::from((v4.sin_addr.s_addr.to_ne_bytes(), u16::from_be(v4.sin_port)))
}

/// What came of trying an operation.
enum Tried {
    /// Nothing; another time perhaps.
    Nothing,
    /// A completion after which others follow.
    More(i32, Option<u16>),
    Last(i32, Option<u16>),
}

impl Simulated {
    pub(super) fn new(pool: &Rc<Pool>, world: &Rc<World>) -> Self {
        let (world, pool) = (Rc::clone(world), Rc::clone(pool));
        let (free, pending, late) = (Vec::new(), Vec::new(), Vec::new());
        Self { world, pool, free, pending, late, has_moved: false, turns: 0, counters: DriverCounters::default() }
    }

    fn ends(&self, socket: BorrowedFd<'_>) -> io::Result<Ends> {
        let ends = self.world.with_peer(socket.as_raw_fd(), |peer| peer.ends).flatten();
        ends.ok_or_else(not_connected)
    }

    /// Tries each operation, in any order, or (`dawdling`) leaves it for later. Did anything come about?
    fn try_all(&mut self, dawdling: bool) -> bool {
        let before = self.late.len();
        let mut left: Vec<OpId> = self.pending.iter().map(|pending| pending.id).collect();
        while !left.is_empty() {
            let chosen = if self.is_ring() { self.world.random(|random| random.below(left.len() as u64)) } else { 0 };
            let id = left.remove(chosen as usize);
            if dawdling && self.world.random(|random| random.one_in(2)) {
                continue;
            }
            let place = self.pending.iter().position(|pending| pending.id == id).expect("it is tried once");
            let (result, buffer, more) = match self.attempt(place) {
                Tried::Nothing => continue,
                Tried::More(result, buffer) => (result, buffer, true),
                Tried::Last(result, buffer) => (result, buffer, false),
            };
            if !more {
                self.pending.remove(place);
            }
            self.late.push(Completion { id, result, more, buffer });
        }
        std::mem::take(&mut self.has_moved) || self.late.len() > before
    }

    fn attempt(&mut self, place: usize) -> Tried {
        if !self.pending[place].cancelled {
            return self.carry_out(place);
        }
        if self.world.strikes_ring("cancelled and successful")
            && let tried @ (Tried::More(..) | Tried::Last(..)) = self.carry_out(place)
        {
            return tried;
        }
        self.world.note("cancelled");
        Tried::Last(Self::cancelled(&self.pending[place]), None)
    }

    fn carry_out(&mut self, place: usize) -> Tried {
        match self.pending[place].submission {
            Submission::Accept { many, .. } => self.accept(many),
            Submission::Receive { fd, limit } => self.receive(place, fd, limit),
            Submission::ReceiveInto { fd, start, length, .. } => self.receive_into(fd, start, length),
            Submission::Send { fd, start, length, manner } => {
                // SAFETY: the memory is the operation's until it ends: the contract of `Driver::submit`.
                let bytes = unsafe { std::slice::from_raw_parts(start, length as usize) };
                self.send(place, fd, &[bytes], manner)
            }
            Submission::SendMany { fd, header, manner, .. } => {
                // SAFETY: as above; the header's vector names the pieces.
                let header = unsafe { &*header };
                // SAFETY: as above.
                let vector = unsafe { std::slice::from_raw_parts(header.msg_iov, header.msg_iovlen) };
                // SAFETY: as above.
                let piece = |v: &libc::iovec| unsafe { std::slice::from_raw_parts(v.iov_base.cast::<u8>(), v.iov_len) };
                let pieces: Vec<&[u8]> = vector.iter().map(piece).collect();
                self.send(place, fd, &pieces, manner)
            }
            Submission::Connect { fd, address, .. } => {
                // SAFETY: the memory is the operation's until it ends, and holds an address of the family that it names.
                let address = unsafe { read_address(address) };
                self.connect(place, fd, address)
            }
            // Nobody writes it, so that it is read by mistake only.
            Submission::ReadEvent { .. } if self.world.random(|random| random.one_in(200)) => Tried::Last(8, None),
            Submission::ReadEvent { .. } => Tried::Nothing,
        }
    }

    fn accept(&mut self, many: bool) -> Tried {
        if !self.world.is_anyone_to_come() {
            return Tried::Nothing;
        }
        if self.world.strikes("accept fails") {
            let all = [libc::EMFILE, libc::ECONNABORTED, libc::EINTR, libc::EAGAIN, libc::ENOMEM];
            return Tried::Last(-self.world.random(|random| random.one_of(&all)), None);
        }
        let fd = self.world.arrive().expect("somebody is to come");
        if many && !(self.is_ring() && self.world.random(|random| random.one_in(4))) {
            Tried::More(fd, None)
        } else {
            Tried::Last(fd, None)
        }
    }

    fn receive(&mut self, place: usize, fd: RawFd, limit: u32) -> Tried {
        if let Some(fault) = self.receive_fault(fd) {
            return fault;
        }
        if !self.is_silent(fd) && self.world.strikes_ring("no buffers, it says") {
            return Tried::Last(-libc::ENOBUFS, None);
        }
        let Some(rest) = self.rest(fd) else { return self.end(fd) };
        let Some(buffer) = self.free.pop() else {
            self.world.note("no buffers");
            return Tried::Last(-libc::ENOBUFS, None);
        };
        let count = self.world.random(|random| random.up_to(rest.min(self.pool.size())));
        // SAFETY: a buffer that nobody has holds as many bytes.
        let memory = unsafe { std::slice::from_raw_parts_mut(self.pool.address(buffer).as_ptr(), count) };
        self.say(fd, memory);
        let pending = &mut self.pending[place];
        pending.progress += count;
        let is_over = self.world.kind == EngineKind::Uring
            && (pending.progress >= limit as usize || self.world.strikes("receive ends"));
        if is_over { Tried::Last(count as i32, Some(buffer)) } else { Tried::More(count as i32, Some(buffer)) }
    }

    fn receive_into(&mut self, fd: RawFd, start: *mut u8, length: u32) -> Tried {
        if let Some(fault) = self.receive_fault(fd) {
            return fault;
        }
        let Some(rest) = self.rest(fd) else { return self.end(fd) };
        let count = self.world.random(|random| random.up_to(rest.min(length as usize)));
        // SAFETY: the memory is the operation's until it ends: the contract of `Driver::submit`.
        self.say(fd, unsafe { std::slice::from_raw_parts_mut(start, count) });
        Tried::Last(count as i32, None)
    }

    /// Faults without end would be no silence.
    fn is_silent(&self, fd: RawFd) -> bool {
        self.world.with_peer(fd, |peer| peer.is_silent()).expect("the socket is a peer's")
    }

    /// What concerns only this attempt; the connection goes on.
    fn receive_fault(&self, fd: RawFd) -> Option<Tried> {
        (!self.is_silent(fd) && self.world.strikes_ring("receive interrupted")).then(|| {
            let all = [libc::EINTR, libc::EAGAIN, libc::ECANCELED];
            Tried::Last(-self.world.random(|random| random.one_of(&all)), None)
        })
    }

    /// How much can be received now.
    fn rest(&self, fd: RawFd) -> Option<usize> {
        let rest = self.world.with_peer(fd, |peer| peer.receivable()).expect("the socket is a peer's");
        (rest > 0).then_some(rest)
    }

    fn say(&self, fd: RawFd, memory: &mut [u8]) {
        self.world.with_peer(fd, |peer| peer.say(memory));
    }

    /// What is behind the last byte.
    fn end(&mut self, fd: RawFd) -> Tried {
        match self.world.with_peer(fd, |peer| peer.end()) {
            Some(Then::Fin) => {
                // Some kernels name a buffer even for the end.
                let wasted = self.is_ring() && self.world.random(|random| random.one_in(4));
                Tried::Last(0, if wasted { self.free.pop() } else { None })
            }
            Some(Then::Reset(errno)) => {
                self.world.note("reset");
                Tried::Last(-errno, None)
            }
            _ => Tried::Nothing,
        }
    }

    fn is_ring(&self) -> bool {
        self.world.kind == EngineKind::Uring
    }

    fn send(&mut self, place: usize, fd: RawFd, pieces: &[&[u8]], manner: Manner) -> Tried {
        let (all, progress) = (pieces.concat(), self.pending[place].progress);
        // epoll's driver waits for room in any case.
        let waits = manner != Manner::Quiet || !self.is_ring();
        let room = match self.world.with_peer(fd, |peer| {
            assert!(!peer.has_fin(), "bytes after the FIN");
            peer.room()
        }) {
            Some(Ok(0)) if waits => return Tried::Nothing,
            Some(Ok(room)) => room,
            Some(Err(errno)) => {
                self.world.note("connection fails for sending");
                return Tried::Last(if progress > 0 { progress as i32 } else { -errno }, None);
            }
            None => return Tried::Last(-libc::ENOTCONN, None),
        };
        if progress == 0 && self.world.strikes_ring("send interrupted") {
            return Tried::Last(-self.world.random(|random| random.one_of(&[libc::EINTR, libc::EAGAIN])), None);
        }
        let mut count = room.min(all.len() - progress);
        let is_short = count > 1 && self.world.strikes("short send");
        if is_short {
            count = self.world.random(|random| random.up_to(count - 1));
        }
        self.world.with_peer(fd, |peer| peer.take(&all[progress..][..count]));
        let sent = progress + count;
        self.pending[place].progress = sent;
        self.has_moved |= count > 0;
        match sent {
            0 => Tried::Last(-libc::EAGAIN, None),
            _ if sent == all.len() || !waits || is_short && self.is_ring() => Tried::Last(sent as i32, None),
            _ => Tried::Nothing,
        }
    }

    fn connect(&mut self, place: usize, fd: RawFd, address: SocketAddr) -> Tried {
        // Nobody answered, and nobody will.
        if self.pending[place].progress > 0 {
            return Tried::Nothing;
        }
        self.pending[place].progress = 1;
        let adopt = |near: OwnedFd| {
            // SAFETY: both descriptors are open; the engine's is replaced as a whole, by one that it cannot tell from it.
            let result = unsafe { libc::dup3(near.as_raw_fd(), fd, libc::O_CLOEXEC) };
            assert_eq!(result, fd, "{}", io::Error::last_os_error());
        };
        match self.world.dial(fd, address, adopt) {
            Some(result) => Tried::Last(result, None),
            None => Tried::Nothing,
        }
    }

    /// What a cancelled operation comes to.
    fn cancelled(pending: &Pending) -> i32 {
        let is_partly_sent = pending.submission.is_send() && pending.progress > 0;
        if is_partly_sent { pending.progress as i32 } else { -libc::ECANCELED }
    }

    /// Tells some of what has come about.
    fn tell(&mut self, done: &mut Vec<Completion>) {
        if !self.is_ring() {
            return done.append(&mut self.late);
        }
        // A completion queue of four entries, now and then.
        let most = self.world.random(|random| random.one_of(&[1, 4, 1000]));
        for _ in 0..most.min(self.late.len()) {
            if self.world.strikes("late completion") {
                continue;
            }
            let chosen = self.world.random(|random| random.below(self.late.len() as u64)) as usize;
            let id = self.late[chosen].id;
            let first = self.late.iter().position(|completion| completion.id == id).expect("it was chosen");
            if first > 0 {
                self.world.note("overtaken completion");
            }
            done.push(self.late.remove(first));
        }
        if !self.late.is_empty() {
            self.counters.overflows += 1;
        }
    }
}

impl Queries for Simulated {
    fn local_addr(&self, socket: BorrowedFd<'_>) -> io::Result<SocketAddr> {
        Ok(self.ends(socket)?.local)
    }

    fn peer_addr(&self, socket: BorrowedFd<'_>) -> io::Result<SocketAddr> {
        let ends = self.ends(socket)?;
        let is_connected = self.world.with_peer(socket.as_raw_fd(), |peer| peer.is_connected()) == Some(true);
        if is_connected { Ok(ends.remote) } else { Err(not_connected()) }
    }

    fn original_dst(&self, socket: BorrowedFd<'_>, _: SocketAddr) -> io::Result<SocketAddr> {
        Ok(self.ends(socket)?.original)
    }

    fn take_error(&self, socket: BorrowedFd<'_>) -> Option<io::Error> {
        let error = self.world.with_peer(socket.as_raw_fd(), Peer::take_error).flatten();
        error.map(io::Error::from_raw_os_error)
    }

    fn is_quiet(&self, socket: BorrowedFd<'_>) -> bool {
        self.world.with_peer(socket.as_raw_fd(), |peer| peer.is_silent()) == Some(true)
    }

    fn unacknowledged(&self, socket: BorrowedFd<'_>) -> usize {
        self.world.with_peer(socket.as_raw_fd(), |peer| peer.unacknowledged()).unwrap_or(0)
    }
}

impl Driver for Simulated {
    unsafe fn submit(&mut self, id: OpId, submission: &Submission) {
        self.counters.submissions += 1;
        let (fd, writes) = (submission.descriptor(), submission.is_write());
        let same = |pending: &Pending| {
            pending.id == id || pending.submission.descriptor() == fd && pending.submission.is_write() == writes
        };
        assert!(!self.pending.iter().any(same), "two operations of one direction on descriptor {fd}");
        self.pending.push(Pending { id, submission: *submission, progress: 0, cancelled: false });
    }

    fn cancel(&mut self, id: OpId) {
        let Some(place) = self.pending.iter().position(|pending| pending.id == id) else { return };
        if self.is_ring() {
            self.pending[place].cancelled = true;
            return;
        }
        // Nothing of it is in the kernel.
        let pending = self.pending.remove(place);
        self.late.push(Completion { id, result: Self::cancelled(&pending), more: false, buffer: None });
    }

    fn forget(&mut self, fd: RawFd) {
        let is_on = |pending: &Pending| pending.submission.descriptor() == fd;
        assert!(!self.pending.iter().any(is_on), "descriptor {fd} is closed under an operation");
        // SAFETY: the descriptor is open: the contract of `Driver::forget`.
        let socket = unsafe { BorrowedFd::borrow_raw(fd) };
        let resets = SockRef::from(&socket).linger().is_ok_and(|linger| linger == Some(Duration::ZERO));
        self.world.leave(fd, resets);
    }

    fn provide(&mut self, ids: &mut Vec<u16>) {
        for id in ids.drain(..) {
            assert!(!self.free.contains(&id), "buffer {id} is given back twice");
            self.free.push(id);
        }
    }

    fn turn(&mut self, wait: Wait, done: &mut Vec<Completion>) -> io::Result<()> {
        self.turns += 1;
        assert!(self.turns < TURNS, "tasks and operations go round in circles");
        let deadline = match wait {
            Wait::Poll => Some(self.world.now()),
            Wait::Block { timeout, .. } => timeout.map(|timeout| self.world.now() + timeout),
        };
        self.world.pass(Duration::from_micros(self.world.random(|random| random.below(50))));
        loop {
            let is_lively = self.world.run_programs() | self.world.travel() | self.try_all(true);
            self.tell(done);
            let is_over = deadline.is_some_and(|deadline| self.world.now() >= deadline);
            if self.world.programs.take_news() || !done.is_empty() || is_over {
                self.counters.completions += done.len() as u64;
                return Ok(());
            }
            if is_lively || !self.late.is_empty() || self.try_all(false) {
                self.world.pass(Duration::from_micros(self.world.random(|random| random.below(300))));
                continue;
            }
            let next = deadline.into_iter().chain(self.world.programs.next_timer()).min();
            let Some(next) = next else {
                panic!("nothing will ever happen: {} operations, {}", self.pending.len(), self.world);
            };
            self.world.pass(next.saturating_duration_since(self.world.now()));
        }
    }

    fn can_batch(&self) -> bool {
        self.is_ring()
    }

    fn counters(&self) -> DriverCounters {
        self.counters
    }

    fn now(&self) -> Instant {
        self.world.now()
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        // What fails already must not fail twice.
        assert!(
            std::thread::panicking() || self.pending.is_empty() && self.late.is_empty(),
            "an engine ended before its operations"
        );
    }
}

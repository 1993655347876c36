//! The driver: operations end when the seed says so.

#![allow(unsafe_code, reason = "it reads and writes the memory of operations, as a kernel would")]

use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::world::{Peer, Then, World};
use crate::io::buffers::Pool;
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
    turns: u64,
    counters: DriverCounters,
}

struct Pending {
    id: OpId,
    submission: Submission,
    progress: usize,
    cancelled: bool,
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
        Self { world, pool, free, pending, late, turns: 0, counters: DriverCounters::default() }
    }

    /// Tries each operation, in any order, or (`dawdling`) leaves it for later. Did anything come about?
    fn try_all(&mut self, dawdling: bool) -> bool {
        let before = self.late.len();
        let mut left: Vec<OpId> = self.pending.iter().map(|pending| pending.id).collect();
        while !left.is_empty() {
            let id = left.swap_remove(self.world.random(|random| random.below(left.len() as u64)) as usize);
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
                self.pending.swap_remove(place);
            }
            self.late.push(Completion { id, result, more, buffer });
        }
        self.late.len() > before
    }

    fn attempt(&mut self, place: usize) -> Tried {
        let Pending { cancelled, .. } = self.pending[place];
        if !cancelled {
            return self.carry_out(place);
        }
        if self.world.strikes("cancelled and successful")
            && let tried @ (Tried::More(..) | Tried::Last(..)) = self.carry_out(place)
        {
            return tried;
        }
        self.world.note("cancelled");
        Tried::Last(-libc::ECANCELED, None)
    }

    fn carry_out(&mut self, place: usize) -> Tried {
        match self.pending[place].submission {
            Submission::Accept { many, .. } => self.accept(many),
            Submission::Receive { fd, limit } => self.receive(place, fd, limit),
            Submission::ReceiveInto { fd, start, length, .. } => self.receive_into(fd, start, length),
            Submission::Send { fd, start, length, manner } => {
                // SAFETY: the memory is the operation's until it ends: the contract of `Driver::submit`.
                let bytes = unsafe { std::slice::from_raw_parts(start, length as usize) };
                self.send(fd, &[bytes], manner)
            }
            Submission::SendMany { fd, header, manner, .. } => {
                // SAFETY: as above; the header's vector names the pieces.
                let header = unsafe { &*header };
                // SAFETY: as above.
                let vector = unsafe { std::slice::from_raw_parts(header.msg_iov, header.msg_iovlen) };
                // SAFETY: as above.
                let piece = |v: &libc::iovec| unsafe { std::slice::from_raw_parts(v.iov_base.cast::<u8>(), v.iov_len) };
                let pieces: Vec<&[u8]> = vector.iter().map(piece).collect();
                self.send(fd, &pieces, manner)
            }
            Submission::Connect { .. } => Tried::Last(-libc::ECONNREFUSED, None),
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
        if many && !self.world.random(|random| random.one_in(4)) {
            Tried::More(fd, None)
        } else {
            Tried::Last(fd, None)
        }
    }

    fn receive(&mut self, place: usize, fd: RawFd, limit: u32) -> Tried {
        if let Some(fault) = self.receive_fault(fd) {
            return fault;
        }
        if !self.is_silent(fd) && self.world.strikes("no buffers, it says") {
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
        let is_over = pending.progress >= limit as usize || self.world.strikes("receive ends");
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

    /// Nothing comes any more, not even the end. Faults without end would be no silence.
    fn is_silent(&self, fd: RawFd) -> bool {
        let silent = self.world.with_peer(fd, |peer| peer.said == peer.says.len() && peer.then == Then::Silence);
        silent.expect("the socket is a peer's")
    }

    /// What concerns only this attempt; the connection goes on.
    fn receive_fault(&self, fd: RawFd) -> Option<Tried> {
        (!self.is_silent(fd) && self.world.strikes("receive interrupted")).then(|| {
            let all = [libc::EINTR, libc::EAGAIN, libc::ECANCELED];
            Tried::Last(-self.world.random(|random| random.one_of(&all)), None)
        })
    }

    /// How much the peer has still to say.
    fn rest(&self, fd: RawFd) -> Option<usize> {
        let rest = self.world.with_peer(fd, |peer| peer.says.len() - peer.said).expect("the socket is a peer's");
        (rest > 0).then_some(rest)
    }

    fn say(&self, fd: RawFd, memory: &mut [u8]) {
        self.world.with_peer(fd, |peer| {
            memory.copy_from_slice(&peer.says[peer.said..][..memory.len()]);
            peer.said += memory.len();
        });
    }

    /// The peer has said everything.
    fn end(&mut self, fd: RawFd) -> Tried {
        match self.world.with_peer(fd, |peer| peer.then) {
            Some(Then::Fin) => {
                // Some kernels name a buffer even for the end.
                let wasted = self.world.random(|random| random.one_in(4));
                Tried::Last(0, if wasted { self.free.pop() } else { None })
            }
            Some(Then::Reset(errno)) => {
                self.world.note("reset");
                Tried::Last(-errno, None)
            }
            _ => Tried::Nothing,
        }
    }

    fn send(&self, fd: RawFd, pieces: &[&[u8]], manner: Manner) -> Tried {
        let is_deaf = |peer: &mut Peer| peer.hears == Some((peer.heard.len(), None)) && manner == Manner::Patient;
        if self.world.with_peer(fd, is_deaf) == Some(true) {
            return Tried::Nothing;
        }
        if self.world.strikes("send interrupted") {
            return Tried::Last(-self.world.random(|random| random.one_of(&[libc::EINTR, libc::EAGAIN])), None);
        }
        let all = pieces.concat();
        let mut count = all.len();
        if count > 1 && self.world.strikes("short send") {
            count = self.world.random(|random| random.up_to(count - 1));
        }
        let room = self.world.with_peer(fd, |peer| {
            assert!(!peer.has_fin(), "bytes after the FIN");
            let room = peer.hears.map_or(usize::MAX, |(most, _)| most - peer.heard.len());
            let taken = count.min(room);
            peer.heard.extend_from_slice(&all[..taken]);
            (taken, peer.hears.and_then(|(_, errno)| errno))
        });
        match room.expect("the socket is a peer's") {
            (0, Some(errno)) => {
                self.world.note("connection fails for sending");
                Tried::Last(-errno, None)
            }
            (0, None) => Tried::Last(-libc::EAGAIN, None),
            (taken, _) => Tried::Last(taken as i32, None),
        }
    }

    /// Tells some of what has come about.
    fn tell(&mut self, done: &mut Vec<Completion>) {
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

impl crate::io::driver::queries::Queries for Simulated {}

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
        if let Some(pending) = self.pending.iter_mut().find(|pending| pending.id == id) {
            pending.cancelled = true;
        }
    }

    fn forget(&mut self, fd: RawFd) {
        let is_on = |pending: &Pending| pending.submission.descriptor() == fd;
        assert!(!self.pending.iter().any(is_on), "descriptor {fd} is closed under an operation");
        self.world.leave(fd);
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
            self.try_all(true);
            self.tell(done);
            if !done.is_empty() || deadline.is_some_and(|deadline| self.world.now() >= deadline) {
                self.counters.completions += done.len() as u64;
                return Ok(());
            }
            if !self.late.is_empty() || self.try_all(false) {
                self.world.pass(Duration::from_micros(self.world.random(|random| random.below(300))));
            } else if let Some(deadline) = deadline {
                self.world.pass(deadline.saturating_duration_since(self.world.now()));
            } else {
                panic!("nothing will ever happen: {} operations, {}", self.pending.len(), self.world);
            }
        }
    }

    fn can_batch(&self) -> bool {
        true
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

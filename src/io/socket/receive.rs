//! The receiving half of a connection.
//!
//! ```text
//!            first use                        unread > high water
//!   Off ────────────────────► Multishot ─────────────────────────► Cancelling
//!    ▲                         │     ▲                                  │
//!    │ last completion         │     │ buffers came back                │ last completion
//!    ├─────────────────────────┤     │                                  │
//!    │                         └──► Parked  (no buffer was free)        │
//!    ├──────────────────────────────────────────────────────────────────┘
//!    └──► Single ──► Off          one receive into a large block, while much of a body is expected
//! ```
//!
//! From `Off` it is armed again as soon as the unread bytes are below the low-water mark, so that an idle connection's
//! end is noticed without anybody asking. What arrived stays queued whoever waits or stops waiting for it; the end of
//! the stream or its error comes after the bytes that preceded it, and stays.
//!
//! A single receive of a body that is known to go on waits for many bytes (`SO_RCVLOWAT`), since each receive costs an
//! acknowledgement, which the peer's transmission answers on our time. Of a peer that takes longer than [`PATIENCE`] to
//! send them, half as many are waited for from then on, until something else is expected of it.

#![allow(unsafe_code, reason = "a socket option that no crate has")]

use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::io::buffers::Lease;
use crate::io::driver::{Completion, OpId};
use crate::io::executor::waiters::Waiters;
use crate::io::executor::wheel::AlarmKey;
use crate::io::reactor::Alarm;
use crate::io::socket::connection::Connection;
use crate::io::socket::operations::Operation;

/// From this many expected bytes on, a receive of its own into a large block beats a stream of small buffers.
const BULK_FROM: u64 = 16 * 1024;

/// So many bytes a receive waits for at most, and only where more will come; for fewer than [`BULK_FROM`] it does not.
/// A fifth cheaper than 64 KiB of an answer of 1 MiB; more gains nothing, and leaves the processor's cache.
const GATHER: u64 = 192 * 1024;

/// What is expected where nobody knows: enough for a large receive, and too little for it to wait for any number of bytes.
const PROBABLE: u64 = 32 * 1024;

/// Of what is expected, so much may have been received already: a record whose rest is still to come.
const MAY_BE_HERE: u64 = 17 * 1024;

/// How long it waits for them; then it takes what there is.
const PATIENCE: Duration = Duration::from_millis(1);

#[derive(Default)]
pub(in crate::io) struct ReceiveSide {
    queue: VecDeque<Lease>,
    unread: usize,
    total: u64,
    arming: Arming,
    end: Option<End>,
    closing: bool,
    /// Bytes that the reader expects to follow those that have arrived.
    bulk: u64,
    /// Its bytes have been coming for long, and nobody knows how long they will.
    streams: bool,
    /// From how many bytes on the socket is readable; 0 as 1.
    low_water_mark: u32,
    /// Goes off when a receive that gathers has waited long enough.
    patience: Option<AlarmKey>,
    /// What a receive gathers at most, where the peer was too slow for twice as many.
    slow: Option<u32>,
    waiters: Waiters,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Arming {
    #[default]
    Off,
    Multishot(OpId),
    Single(OpId),
    Cancelling(OpId),
    Parked,
}

#[derive(Clone, Copy)]
enum End {
    Fin,
    Error(i32),
}

/// What a look at a connection shows, without waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeekState {
    /// Nothing has arrived.
    Pending,
    /// Unread bytes have.
    Data,
    /// The peer has closed or reset the connection, and no bytes are left to read.
    Closed,
}

impl Connection {
    pub(in crate::io) fn poll_receive(self: &Rc<Self>, cx: &Context<'_>) -> Poll<io::Result<Option<Lease>>> {
        let mut side = self.receive.borrow_mut();
        if let Some(lease) = side.queue.pop_front() {
            side.unread -= lease.len();
            if side.is_due(self.reactor.low_water()) {
                drop(side);
                self.arm();
            }
            return Poll::Ready(Ok(Some(lease)));
        }
        if side.end.is_none() {
            side.waiters.add(cx.waker());
            drop(side);
            self.arm();
            side = self.receive.borrow_mut();
        }
        match side.end {
            Some(End::Fin) => Poll::Ready(Ok(None)),
            Some(End::Error(errno)) => Poll::Ready(Err(io::Error::from_raw_os_error(errno))),
            None => Poll::Pending,
        }
    }

    pub(in crate::io) fn poll_readable(self: &Rc<Self>, cx: &Context<'_>) -> Poll<()> {
        if self.peek() != PeekState::Pending {
            return Poll::Ready(());
        }
        self.receive.borrow_mut().waiters.add(cx.waker());
        Poll::Pending
    }

    pub(in crate::io) fn poll_ended(self: &Rc<Self>, cx: &Context<'_>) -> Poll<io::Result<()>> {
        let mut side = self.receive.borrow_mut();
        match side.end {
            Some(End::Fin) => return Poll::Ready(Ok(())),
            Some(End::Error(errno)) => return Poll::Ready(Err(io::Error::from_raw_os_error(errno))),
            None => {}
        }
        side.waiters.add(cx.waker());
        if side.is_due(self.reactor.low_water()) {
            drop(side);
            self.arm();
        }
        Poll::Pending
    }

    /// Nothing receives, though the peer has not ended: what came is not taken, or no buffer is free.
    pub(in crate::io) fn is_resting(&self) -> bool {
        let side = self.receive.borrow();
        side.end.is_none() && !matches!(side.arming, Arming::Multishot(_) | Arming::Single(_))
    }

    /// What has arrived; begins to watch the connection if nothing does yet.
    pub(in crate::io) fn peek(self: &Rc<Self>) -> PeekState {
        self.arm();
        let side = self.receive.borrow();
        match (side.queue.is_empty(), side.end) {
            (false, _) => PeekState::Data,
            (true, None) => PeekState::Pending,
            (true, Some(_)) => PeekState::Closed,
        }
    }

    pub(in crate::io) fn received(&self) -> u64 {
        self.receive.borrow().total
    }

    /// Gives back what an empty queue keeps for the next bytes.
    pub(in crate::io) fn relax_receive(&self) {
        let mut side = self.receive.borrow_mut();
        if side.queue.is_empty() {
            side.queue = VecDeque::new();
        }
    }

    #[cfg(test)]
    pub(in crate::io) fn unread(&self) -> usize {
        self.receive.borrow().unread
    }

    /// As the kernel has it.
    #[cfg(test)]
    pub(in crate::io) fn low_water_mark(&self) -> libc::c_int {
        let (mut value, mut size) = (0, size_of::<libc::c_int>() as libc::socklen_t);
        let place = (&raw mut value).cast();
        // SAFETY: value and size are what this option writes, and live until the call returns.
        let result =
            unsafe { libc::getsockopt(self.descriptor(), libc::SOL_SOCKET, libc::SO_RCVLOWAT, place, &raw mut size) };
        assert_eq!(result, 0);
        value
    }

    /// The reader expects `bytes` more, some of which may have arrived.
    pub(in crate::io) fn expect_bulk(&self, bytes: u64) {
        let mut side = self.receive.borrow_mut();
        side.bulk = bytes.saturating_sub(side.unread as u64);
        side.streams = false;
        if bytes == 0 {
            side.slow = None;
        }
        if side.bulk >= BULK_FROM
            && let Arming::Multishot(id) = side.arming
        {
            side.arming = Arming::Cancelling(id);
            self.reactor.cancel(id);
        }
    }

    /// The reader expects more, and does not know how much; `streams`: of what has been coming for long.
    pub(in crate::io) fn expect_more(&self, streams: bool) {
        self.expect_bulk(PROBABLE);
        self.receive.borrow_mut().streams = streams;
    }

    /// Starts a receive unless one is running, parked, or pointless.
    pub(in crate::io) fn arm(self: &Rc<Self>) {
        let mut side = self.receive.borrow_mut();
        if side.arming != Arming::Off || side.end.is_some() || side.closing {
            return;
        }
        let reactor = &self.reactor;
        if reactor.is_closed() {
            side.end = Some(End::Error(libc::ESHUTDOWN));
            return;
        }
        let block = if side.bulk >= BULK_FROM { reactor.pool.block() } else { None };
        let certain = side.bulk.saturating_sub(MAY_BE_HERE).min(side.slow.map_or(GATHER, u64::from));
        let gathers = block.is_some() && certain >= BULK_FROM;
        self.set_low_water_mark(&mut side, if gathers { certain as u32 } else { 0 });
        side.arming = if let Some(block) = block {
            side.patience = gathers.then(|| reactor.set_alarm(PATIENCE, Alarm::Hurry(Rc::downgrade(self))));
            Arming::Single(reactor.start(Operation::ReceiveInto(Rc::clone(self), block, gathers)))
        } else {
            let room = reactor.high_water().saturating_sub(side.unread).max(1);
            let limit = u32::try_from(room).unwrap_or(u32::MAX);
            Arming::Multishot(reactor.start(Operation::Receive(Rc::clone(self), limit)))
        };
    }

    /// Lets the socket be readable from `bytes` on.
    fn set_low_water_mark(&self, side: &mut ReceiveSide, bytes: u32) {
        if side.low_water_mark == bytes {
            return;
        }
        side.low_water_mark = bytes;
        let value = bytes.max(1) as libc::c_int;
        let (level, option) = (libc::SOL_SOCKET, libc::SO_RCVLOWAT);
        let length = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: the value is an int, as this option wants it, and is read during the call only.
        let result = unsafe { libc::setsockopt(self.descriptor(), level, option, (&raw const value).cast(), length) };
        debug_assert_eq!(result, 0, "every socket takes this option");
    }

    /// What has come must do: the peer takes its time.
    pub(in crate::io) fn hurry(&self) {
        let mut side = self.receive.borrow_mut();
        side.patience = None;
        side.slow = Some(side.low_water_mark / 2);
        // The kernel looks at once whether what is there is enough now.
        self.set_low_water_mark(&mut side, 0);
    }

    /// Buffers have come back since the receive ended for lack of one.
    pub(in crate::io) fn unpark(self: &Rc<Self>) {
        {
            let mut side = self.receive.borrow_mut();
            if side.arming != Arming::Parked {
                return;
            }
            side.arming = Arming::Off;
        }
        self.arm();
    }

    /// A completion of the multishot receive.
    pub(in crate::io) fn on_receive(self: &Rc<Self>, done: &Completion) {
        let length = usize::try_from(done.result).unwrap_or(0);
        let lease = done.buffer.map(|id| self.reactor.pool.claim(id, length));
        self.on_received(done, lease);
    }

    /// The completion of a receive into a block.
    pub(in crate::io) fn on_receive_into(self: &Rc<Self>, done: &Completion, block: Vec<u8>) {
        let length = usize::try_from(done.result).unwrap_or(0);
        let lease = self.reactor.pool.claim_block(block, length);
        let mut side = self.receive.borrow_mut();
        side.bulk = side.bulk.saturating_sub(length as u64);
        let patience = side.patience.take();
        if side.streams {
            self.reactor.activity.note_streamed(length as u32);
        }
        drop(side);
        drop(patience.map(|key| self.reactor.clear_alarm(key)));
        self.on_received(done, (length > 0).then_some(lease));
    }

    fn on_received(self: &Rc<Self>, done: &Completion, lease: Option<Lease>) {
        let mut side = self.receive.borrow_mut();
        if !done.more {
            side.arming = Arming::Off;
        }
        if side.closing {
            return;
        }
        match done.result {
            0 => side.end = Some(End::Fin),
            1.. => side.push(lease),
            error => self.on_receive_error(-error, &mut side),
        }
        if side.unread > self.reactor.high_water()
            && let Arming::Multishot(id) | Arming::Cancelling(id) = side.arming
        {
            // Again while it goes on: a receive that is being worked on at that moment cannot be cancelled.
            side.arming = Arming::Cancelling(id);
            self.reactor.cancel(id);
        }
        let rearm = side.is_due(self.reactor.low_water());
        let news = !side.queue.is_empty() || side.end.is_some();
        let waiting = if news { side.waiters.take() } else { Waiters::default() };
        drop(side);
        if rearm {
            self.arm();
        }
        waiting.wake();
    }

    fn on_receive_error(self: &Rc<Self>, errno: i32, side: &mut ReceiveSide) {
        match errno {
            libc::ENOBUFS => {
                side.arming = Arming::Parked;
                self.reactor.park(self);
            }
            // Cancelled by us, or to be tried again.
            libc::ECANCELED | libc::EINTR | libc::EAGAIN => {}
            errno => side.end = Some(End::Error(errno)),
        }
    }

    pub(in crate::io) fn close_receive(&self) {
        let mut side = self.receive.borrow_mut();
        side.closing = true;
        let unread = std::mem::take(&mut side.queue);
        let waiting = side.waiters.take();
        let patience = side.patience.take();
        if let Arming::Multishot(id) | Arming::Single(id) | Arming::Cancelling(id) = side.arming {
            side.arming = Arming::Cancelling(id);
            self.reactor.cancel(id);
        }
        drop(side);
        drop((unread, waiting, patience.map(|key| self.reactor.clear_alarm(key))));
    }
}

impl ReceiveSide {
    fn push(&mut self, lease: Option<Lease>) {
        let Some(lease) = lease else { return };
        self.unread += lease.len();
        self.total += lease.len() as u64;
        self.queue.push_back(lease);
    }

    /// Should the next receive be armed without anybody waiting? A block is taken only for a reader that waits.
    fn is_due(&self, low_water: usize) -> bool {
        let wanted = self.bulk < BULK_FROM || !self.waiters.is_empty();
        self.arming == Arming::Off && self.unread <= low_water && wanted
    }
}

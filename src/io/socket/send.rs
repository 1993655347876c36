//! The sending half of a connection.
//!
//! Bytes are queued at once, in order. While one operation is in the kernel, whatever is queued meanwhile becomes the
//! next one: io_uring does not order two sends on one socket. An operation is built at the end of the turn, so a head
//! and the beginning of its body travel together. So do the last bytes and the FIN, where the end is known by then: one
//! segment less for both sides. After an error nothing more is sent, and everybody is told.

use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;

use crate::io::driver::{Manner, OpId};
use crate::io::executor::waiters::Waiters;
use crate::io::executor::wheel::AlarmKey;
use crate::io::socket::batch::{Batch, SendBuf};
use crate::io::socket::connection::Connection;
use crate::io::socket::operations::Operation;

/// What one receive brought may leave in silence; longer sends often find too little room.
const QUIET_UP_TO: usize = 256 * 1024;

#[derive(Default)]
pub(in crate::io) struct SendSide {
    queue: VecDeque<SendBuf>,
    /// Bytes queued or in the kernel's hands.
    unsent: usize,
    total: u64,
    in_flight: Option<OpId>,
    /// On the list of those with something to send at the end of the turn.
    listed: bool,
    error: Option<i32>,
    /// The last send found no room for all of its bytes.
    full: bool,
    fin: Fin,
    /// No task holds the socket any more.
    closing: bool,
    linger: Option<AlarmKey>,
    waiters: Waiters,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Fin {
    #[default]
    Open,
    Wanted,
    Sent,
}

impl Connection {
    /// Queues `bytes`. After an error or a FIN they are dropped: [`poll_room`](Self::poll_room) says so.
    pub(in crate::io) fn enqueue(self: &Rc<Self>, bytes: SendBuf) {
        let mut side = self.send.borrow_mut();
        if bytes.is_empty() {
            return;
        }
        if side.fin != Fin::Open {
            side.error.get_or_insert(libc::EPIPE);
        }
        if self.reactor.is_closed() {
            side.error.get_or_insert(libc::ESHUTDOWN);
        }
        if side.error.is_some() {
            return;
        }
        side.unsent += bytes.len();
        side.queue.push_back(bytes);
        self.list(&mut side);
    }

    fn list(self: &Rc<Self>, side: &mut SendSide) {
        if side.in_flight.is_none() && !side.listed {
            side.listed = true;
            self.reactor.has_to_send(self);
        }
    }

    /// Builds the next operation from what is queued. Called at the end of a turn.
    pub(in crate::io) fn start_send(self: &Rc<Self>) {
        let mut side = self.send.borrow_mut();
        side.listed = false;
        if side.in_flight.is_some() || side.queue.is_empty() {
            return;
        }
        let mut batch = self.reactor.take_batch();
        batch.fill(&mut side.queue);
        if side.closing && side.fin == Fin::Open {
            side.fin = Fin::Wanted;
        }
        let manner = if side.queue.is_empty() && side.fin == Fin::Wanted {
            Manner::Last
        } else if side.may_be_quiet(batch.len()) && self.reactor.has_buffers_to_spare() {
            Manner::Quiet
        } else {
            Manner::Patient
        };
        side.in_flight = Some(self.reactor.start(Operation::Send(Rc::clone(self), batch, manner)));
    }

    pub(in crate::io) fn on_sent(self: &Rc<Self>, result: i32, mut batch: Batch) {
        let mut side = self.send.borrow_mut();
        side.in_flight = None;
        let sent = usize::try_from(result).unwrap_or(0);
        side.total += sent as u64;
        if result < 0 && !matches!(-result, libc::EINTR | libc::EAGAIN) {
            side.fail(-result);
        }
        side.full = sent < batch.len();
        if side.error.is_none() {
            side.unsent -= sent;
            if sent < batch.len() {
                // An error came half-way, which the next attempt will name; or there was no room.
                batch.unsend(sent, &mut side.queue);
            }
        }
        self.reactor.give_batch(batch);
        if self.reactor.is_closed() {
            side.fail(libc::ESHUTDOWN);
        }
        if !side.queue.is_empty() {
            self.list(&mut side);
        } else if side.fin == Fin::Wanted && side.error.is_none() {
            self.send_fin(&mut side);
        }
        let settled = side.unsent < self.reactor.send_high_water() || side.error.is_some();
        let waiting = if settled { side.waiters.take() } else { Waiters::default() };
        let linger = if side.is_done() { side.linger.take() } else { None };
        drop(side);
        waiting.wake();
        if let Some(key) = linger {
            self.reactor.end_linger(key);
        }
    }

    fn send_fin(&self, side: &mut SendSide) {
        side.fin = Fin::Sent;
        // Fails only when the connection has gone already, which the receiving side reports.
        let _ = SockRef::from(self).shutdown(std::net::Shutdown::Write);
    }

    /// A FIN after everything that is queued.
    pub(in crate::io) fn finish(&self) {
        let mut side = self.send.borrow_mut();
        if side.fin != Fin::Open || side.error.is_some() {
            return;
        }
        side.fin = Fin::Wanted;
        if side.is_done() {
            self.send_fin(&mut side);
        }
    }

    /// Ready when less than the high-water mark is queued, or probably will be at the end of the turn.
    pub(in crate::io) fn poll_room(&self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        let (limit, ahead) = (self.reactor.send_high_water(), self.reactor.options.send_ahead);
        self.poll_until(cx, |side| side.unsent < limit || (side.flows() && side.unsent < ahead))
    }

    /// Ready when nothing is queued.
    pub(in crate::io) fn poll_flushed(&self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        self.poll_until(cx, SendSide::is_done)
    }

    fn poll_until(&self, cx: &Context<'_>, reached: impl Fn(&SendSide) -> bool) -> Poll<io::Result<()>> {
        let mut side = self.send.borrow_mut();
        if let Some(errno) = side.error {
            return Poll::Ready(Err(io::Error::from_raw_os_error(errno)));
        }
        if reached(&side) {
            return Poll::Ready(Ok(()));
        }
        side.waiters.add(cx.waker());
        Poll::Pending
    }

    /// Gives back what an empty queue keeps for the next bytes.
    pub(in crate::io) fn relax_send(&self) {
        let mut side = self.send.borrow_mut();
        if side.queue.is_empty() {
            side.queue = VecDeque::new();
        }
    }

    pub(in crate::io) fn unsent(&self) -> usize {
        self.send.borrow().unsent
    }

    /// Whether the kernel has found no room for what is queued.
    pub(in crate::io) fn is_stalled(&self) -> bool {
        let side = self.send.borrow();
        side.full && side.unsent > 0
    }

    /// The close that follows becomes a reset.
    pub(in crate::io) fn reset_at_close(&self) {
        // A failure leaves an ordinary close, which is the best that remains.
        let _ = SockRef::from(self).set_linger(Some(Duration::ZERO));
    }

    pub(in crate::io) fn has_failed(&self) -> bool {
        self.send.borrow().error.is_some()
    }

    pub(in crate::io) fn sent(&self) -> u64 {
        self.send.borrow().total
    }

    pub(in crate::io) fn close_send(self: &Rc<Self>) {
        let mut side = self.send.borrow_mut();
        side.closing = true;
        let waiting = side.waiters.take();
        if !side.is_done() && side.linger.is_none() && !self.reactor.is_closed() {
            side.linger = Some(self.reactor.linger(self));
        }
        drop(side);
        drop(waiting);
    }

    /// Gives up what is unsent: the linger time is over, or the connection is aborted.
    pub(in crate::io) fn give_up_sending(&self) {
        let mut side = self.send.borrow_mut();
        let unsent = std::mem::take(&mut side.queue);
        side.fail(libc::ECONNABORTED);
        if let Some(id) = side.in_flight {
            self.reactor.cancel(id);
        }
        let (waiting, linger) = (side.waiters.take(), side.linger.take());
        drop(side);
        if let Some(key) = linger {
            self.reactor.end_linger(key);
        }
        drop(unsent);
        waiting.wake();
    }
}

impl SendSide {
    fn fail(&mut self, errno: i32) {
        self.error.get_or_insert(errno);
        self.queue.clear();
        self.unsent = 0;
    }

    /// Whether nothing depends on when a send of `length` bytes completes.
    fn may_be_quiet(&self, length: usize) -> bool {
        let nobody_waits = self.waiters.is_empty() && self.queue.is_empty() && self.fin == Fin::Open && !self.closing;
        nobody_waits && !self.full && length <= QUIET_UP_TO
    }

    /// The kernel has nothing in its hands, and took all of what it had last.
    fn flows(&self) -> bool {
        !self.full && self.in_flight.is_none()
    }

    fn is_done(&self) -> bool {
        self.unsent == 0 && self.in_flight.is_none()
    }
}

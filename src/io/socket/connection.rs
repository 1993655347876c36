//! A socket as the engine sees it: the descriptor and what is queued in either direction.
//!
//! It is shared by the [`Socket`](crate::io::Socket) that a task holds and by each operation that the kernel is working on,
//! so the descriptor is closed in exactly one place, when the last of them lets go. Nothing is freed under the kernel's
//! hands, and a descriptor's number is not given out again while an operation still refers to it.

use std::cell::RefCell;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;

use crate::io::activity::Counted;
use crate::io::driver::Driver;
use crate::io::reactor::Reactor;
use crate::io::socket::receive::ReceiveSide;
use crate::io::socket::send::SendSide;

/// Who opened it, for the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::io) enum Origin {
    Accepted,
    Connected,
}

pub(in crate::io) struct Connection {
    pub(in crate::io) reactor: Rc<Reactor>,
    pub(in crate::io) receive: RefCell<ReceiveSide>,
    pub(in crate::io) send: RefCell<SendSide>,
    /// When it was busy, see [`Activity`](crate::io::activity::Activity).
    pub(in crate::io) counted: Counted,
    origin: Origin,
    fd: OwnedFd,
}

impl Connection {
    pub(in crate::io) fn new(reactor: Rc<Reactor>, fd: OwnedFd, origin: Origin) -> Rc<Self> {
        reactor.on_opened(origin);
        Rc::new(Self {
            reactor,
            receive: RefCell::default(),
            send: RefCell::default(),
            counted: Counted::default(),
            origin,
            fd,
        })
    }

    pub(in crate::io) fn descriptor(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Asks the driver about the socket.
    pub(in crate::io) fn ask<T>(&self, question: impl FnOnce(&dyn Driver, BorrowedFd<'_>) -> T) -> T {
        self.reactor.ask(|driver| question(driver, self.as_fd()))
    }

    /// No task holds the socket any more: receives stop, what is queued for sending gets the linger time.
    pub(in crate::io) fn close(self: &Rc<Self>) {
        self.close_receive();
        self.close_send();
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.reactor.forget(self.descriptor());
        self.reactor.on_closed(self.origin);
    }
}

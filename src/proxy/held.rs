//! The body of a request as far as it has gone, held while a route may want it sent again.
//!
//! A body that grows beyond [`MOST`], or that the worker has no room for, is let go: the request goes on, and its first
//! failure is passed on. It knows neither the body's framing nor any connection.

use std::cell::{Cell, RefCell};

use crate::http::BodyLength;
use crate::io::SendBuf;
use crate::proxy::request::Request;

/// Most that is held of one body, in bytes.
const MOST: usize = 64 * 1024;

/// Most that a worker holds of all bodies together, in bytes.
pub const WORKER_ROOM: usize = 4 * 1024 * 1024;

/// What has gone of one request's body.
pub struct Held<'w> {
    gone: RefCell<Vec<u8>>,
    /// All of the request that has gone is still here.
    is_intact: Cell<bool>,
    /// What the worker may still hold.
    room: &'w Cell<usize>,
}

impl<'w> Held<'w> {
    /// Holds nothing until it is [wanted](Self::want): only a request that is over with its head can be sent again.
    #[must_use]
    pub fn new(request: &Request, room: &'w Cell<usize>) -> Self {
        Self { gone: RefCell::default(), is_intact: Cell::new(request.is_over_with_head()), room }
    }

    /// The route may want the body again. To be said before any of it has gone.
    pub fn want(&self, request: &Request) {
        let is_small = !matches!(request.head.body, BodyLength::Length(length) if length > MOST as u64);
        self.is_intact.set(is_small && request.head.upgrade.is_none());
    }

    /// Whether the request can be sent again.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        self.is_intact.get()
    }

    /// What goes first: all that has gone before, and then `part`.
    #[must_use]
    pub fn replay(&self, part: SendBuf) -> SendBuf {
        let before = self.gone.borrow().clone();
        self.hold(part.as_ref());
        if before.is_empty() { part } else { SendBuf::Owned([&before, part.as_ref()].concat()) }
    }

    /// All of the body, once it has gone; `None` where some of it is not here any more.
    #[must_use]
    pub fn all(&self) -> Option<Vec<u8>> {
        self.is_intact.get().then(|| self.gone.borrow().clone())
    }

    /// Trailers go, of which nothing is held.
    pub fn give_up(&self) {
        self.is_intact.set(false);
        self.let_go();
    }

    /// Notes that `part` goes.
    pub fn hold(&self, part: &[u8]) {
        if !self.is_intact.get() {
            return;
        }
        if self.gone.borrow().len() + part.len() > MOST || part.len() > self.room.get() {
            self.is_intact.set(false);
            return self.let_go();
        }
        self.room.set(self.room.get() - part.len());
        self.gone.borrow_mut().extend_from_slice(part);
    }

    fn let_go(&self) {
        let gone = self.gone.take();
        self.room.set(self.room.get() + gone.len());
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.let_go();
    }
}

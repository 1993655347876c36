//! The body of a request as far as it has gone, held while a route may want it sent again.
//!
//! A body that grows beyond [`MOST`], or that the worker has no room for, is let go: the request goes on, and its first
//! failure is passed on. It knows the body's framing and no connection.

use std::cell::{Cell, RefCell};

use crate::http::{BodyLength, BodyScanner};
use crate::io::Lease;
use crate::proxy::http1::Request;
use crate::proxy::reader::Reader;
use crate::proxy::transfer::Broken;

/// Most that is held of one body, in bytes.
const MOST: usize = 64 * 1024;

/// Most that a worker holds of all bodies together, in bytes.
pub const WORKER_ROOM: usize = 4 * 1024 * 1024;

/// What has gone of one request's body, and where it is in its framing.
pub struct Held<'w> {
    scanner: RefCell<BodyScanner>,
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
        let scanner = BodyScanner::new(request.head.body);
        let is_intact = Cell::new(scanner.is_complete() && request.head.upgrade.is_none());
        Self { scanner: RefCell::new(scanner), gone: RefCell::default(), is_intact, room }
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

    /// Whether all of the body has gone.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.scanner.borrow().is_complete()
    }

    /// Bytes that are sure to come yet, of the body or of one of its chunks.
    #[must_use]
    pub fn remaining(&self) -> Option<u64> {
        self.scanner.borrow().remaining()
    }

    /// What goes first: all that has gone before, and what has arrived. Bytes behind the body's end stay in the reader.
    ///
    /// # Errors
    /// The body breaks its framing.
    pub fn first(&self, reader: &mut Reader<'_>) -> Result<Lease, Broken> {
        let before = self.gone.borrow().clone();
        if self.is_complete() {
            return Ok(Lease::from_vec(before));
        }
        let part = self.next(reader)?;
        Ok(if before.is_empty() { part } else { Lease::from_vec([&before, &part[..]].concat()) })
    }

    /// What has arrived of the body.
    ///
    /// # Errors
    /// As [`first`](Self::first).
    pub fn next(&self, reader: &mut Reader<'_>) -> Result<Lease, Broken> {
        let used = self.scanner.borrow_mut().advance(reader.bytes()).map_err(Broken::RequestBody)?;
        let part = reader.take(used);
        self.hold(&part);
        Ok(part)
    }

    fn hold(&self, part: &[u8]) {
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

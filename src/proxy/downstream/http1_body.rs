//! The body of an HTTP/1 request, taken from its connection up to where it ends and no further (RFC 9112 §6).

use std::future::poll_fn;
use std::task::{Poll, ready};

use super::http1_reply::Http1State;
use crate::http::{BodyLength, BodyScanner};
use crate::io::Lease;
use crate::proxy::exchange_error::ExchangeError;
use crate::upstream::{self, Reader};

/// What is left of a request on its connection.
pub struct Http1Body<'i, 's> {
    reader: &'i mut Reader<'s>,
    scanner: BodyScanner,
    state: &'i Http1State,
}

impl<'i, 's> Http1Body<'i, 's> {
    #[must_use]
    pub fn new(reader: &'i mut Reader<'s>, length: BodyLength, state: &'i Http1State) -> Self {
        Self { reader, scanner: BodyScanner::new(length), state }
    }

    /// Bytes behind the body's end stay in the reader.
    pub fn arrived(&mut self) -> Result<Lease, ExchangeError> {
        if self.is_complete() {
            self.state.is_read.set(true);
            return Ok(Lease::from_vec(Vec::new()));
        }
        self.part()
    }

    pub async fn next(&mut self) -> Result<Lease, ExchangeError> {
        upstream::expect(self.reader.stream(), self.scanner.remaining());
        let (reader, state) = (&mut self.reader, self.state);
        let filled = poll_fn(|task| {
            // What comes is the same request again, without this body.
            if state.awaits_repetition() {
                return Poll::Pending;
            }
            Poll::Ready(ready!(reader.poll_fill(task)))
        });
        match filled.await {
            Ok(true) => self.part(),
            Ok(false) | Err(_) => Err(ExchangeError::Client),
        }
    }

    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.scanner.is_complete()
    }

    /// Bytes of it so far, without framing.
    #[must_use]
    pub fn payload(&self) -> u64 {
        self.scanner.payload()
    }

    /// Whether the application has sent all of it, taken or not.
    #[must_use]
    pub fn has_come(&self) -> bool {
        let mut ahead = self.scanner.clone();
        ahead.is_complete() || ahead.advance(self.reader.bytes()).is_ok() && ahead.is_complete()
    }

    pub fn reader(&mut self) -> &mut Reader<'s> {
        self.reader
    }

    fn part(&mut self) -> Result<Lease, ExchangeError> {
        let used = self.scanner.advance(self.reader.bytes()).map_err(ExchangeError::RequestBody)?;
        let part = self.reader.take(used);
        self.state.has_begun.set(self.state.has_begun.get() || used > 0);
        if self.is_complete() {
            self.state.is_read.set(true);
            self.reader.stream().expect(0);
        }
        Ok(part)
    }
}

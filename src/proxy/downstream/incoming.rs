//! One request as the exchange sees it: what is asked, where the rest of it comes from, and where the answer goes.
//!
//! All of a protocol's own affairs stay behind these types: framing, which request is next, how the connection ends.
//! Enums rather than traits: which protocol it is, is known once a connection, and each byte passes here.

use super::http1_body::Http1Body;
use super::http1_reply::Http1Reply;
use crate::http::{FieldEdits, ResponseHead};
use crate::io::{Lease, SendBuf, SendFuture};
use crate::proxy::exchange_error::ExchangeError;
use crate::proxy::failure::Failure;
use crate::proxy::request::Request;
use crate::upstream::{Form, Reader};

/// One request and its way back.
pub struct Incoming<'i, 's> {
    pub request: &'i Request,
    pub body: RequestBody<'i, 's>,
    pub reply: Reply<'i>,
}

/// Where the body of a request comes from.
pub enum RequestBody<'i, 's> {
    Http1(Http1Body<'i, 's>),
}

impl<'s> RequestBody<'_, 's> {
    /// What has arrived of the body; possibly nothing. The bytes are in the form in which they came.
    ///
    /// # Errors
    /// The body breaks its framing.
    pub fn arrived(&mut self) -> Result<Lease, ExchangeError> {
        let Self::Http1(body) = self;
        body.arrived()
    }

    /// Waits for more of the body.
    ///
    /// # Errors
    /// The body breaks its framing, or the application is gone.
    pub async fn next(&mut self) -> Result<Lease, ExchangeError> {
        let Self::Http1(body) = self;
        body.next().await
    }

    /// Whether all of the body has been taken.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let Self::Http1(body) = self;
        body.is_complete()
    }

    /// The application's bytes themselves, where the server has switched to another protocol.
    pub fn tunnel(&mut self) -> &mut Reader<'s> {
        let Self::Http1(body) = self;
        body.reader()
    }
}

/// Where the answer to a request goes. Shared between the two halves of an exchange, and whoever waits for its end.
pub enum Reply<'i> {
    Http1(Http1Reply<'i>),
}

impl Reply<'_> {
    /// Passes an interim response on (RFC 9110 §15.2); `raw` is what `head` was read from.
    ///
    /// # Errors
    /// The application is gone.
    pub async fn interim(&self, head: &ResponseHead, raw: &[u8]) -> Result<(), ExchangeError> {
        let Self::Http1(reply) = self;
        reply.interim(head, raw).await
    }

    /// The final response has this head. Returns the form in which its body is to be handed over. `ends_bond`: with it the
    /// server's connection ends that knows the application, whose own must end then too.
    #[must_use]
    pub fn begin(&self, head: &ResponseHead, ends_bond: bool) -> Form {
        let Self::Http1(reply) = self;
        reply.begin(head, ends_bond)
    }

    /// Queues the head and what came with it of the body: `bytes` are those of the head, and behind them those of the body
    /// in the form that [`begin`](Self::begin) asked for. The future resolves when there is room for more.
    ///
    /// # Errors
    /// The application is gone.
    pub fn start(
        &self,
        head: &ResponseHead,
        bytes: Lease,
        edits: &FieldEdits,
    ) -> Result<SendFuture<'_>, ExchangeError> {
        let Self::Http1(reply) = self;
        reply.start(head, bytes, edits)
    }

    /// Queues a part of the body, as [`start`](Self::start) does.
    ///
    /// # Errors
    /// The application is gone.
    pub fn data(&self, part: impl Into<SendBuf>) -> Result<SendFuture<'_>, ExchangeError> {
        let Self::Http1(reply) = self;
        reply.data(part.into())
    }

    /// The response, or what it led to, is complete.
    pub fn end(&self) {
        let Self::Http1(reply) = self;
        reply.end();
    }

    /// As [`end`](Self::end), and the server's connection has ended that knew the application.
    pub fn end_with_bond(&self) {
        let Self::Http1(reply) = self;
        reply.end_with_bond();
    }

    /// There is no answer, or no rest of it: the application must not take what it has for complete.
    pub fn reset(&self) {
        let Self::Http1(reply) = self;
        reply.reset();
    }

    /// Answers in the server's stead.
    pub async fn answer(&self, failure: &Failure) {
        let Self::Http1(reply) = self;
        reply.answer(failure).await;
    }

    /// Resolves when nobody waits for the answer any more.
    pub async fn lost(&self) {
        let Self::Http1(reply) = self;
        reply.lost().await;
    }
}

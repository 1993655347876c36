//! One request as the exchange sees it: what is asked, where the rest of it comes from, and where the answer goes.
//!
//! All of a protocol's own affairs stay behind these types: framing, which request is next, how the connection ends.
//! Enums rather than traits: which protocol it is, is known once a connection, and each byte passes here.

use super::answered::Answered;
use super::http1_body::Http1Body;
use super::http1_reply::Http1Reply;
use super::http2_body::Http2Body;
use super::http2_reply::Http2Reply;
use crate::http::{FieldEdits, ResponseHead};
use crate::io::{Lease, SendBuf};
use crate::proxy::exchange_error::ExchangeError;
use crate::proxy::failure::Failure;
use crate::proxy::request::Request;
use crate::upstream::{Form, Part, Sending, TunnelEnd, TunnelSink, TunnelSource};

/// One request and its way back.
pub struct Incoming<'i, 's> {
    pub request: &'i Request,
    pub body: RequestBody<'i, 's>,
    pub reply: Reply<'i>,
}

/// Where the body of a request comes from.
pub enum RequestBody<'i, 's> {
    Http1(Http1Body<'i, 's>),
    Http2(Http2Body),
}

impl<'i, 's: 'i> RequestBody<'i, 's> {
    /// The form in which its bytes come.
    #[must_use]
    pub fn form(&self) -> Form {
        match self {
            Self::Http1(_) => Form::Framed,
            Self::Http2(_) => Form::Data,
        }
    }

    /// What has arrived of the body; possibly nothing.
    ///
    /// # Errors
    /// The body breaks its framing.
    pub fn arrived(&mut self) -> Result<SendBuf, ExchangeError> {
        match self {
            Self::Http1(body) => body.arrived().map(SendBuf::from),
            Self::Http2(body) => body.arrived(),
        }
    }

    /// Waits for more of the body.
    ///
    /// # Errors
    /// The body breaks its framing, or the application is gone.
    pub async fn next(&mut self) -> Result<Part, ExchangeError> {
        match self {
            Self::Http1(body) => body.next().await.map(Part::from),
            Self::Http2(body) => body.next().await,
        }
    }

    /// Whether all of the body has been taken.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_complete(),
            Self::Http2(body) => body.is_complete(),
        }
    }

    /// Bytes of it that have been taken, without framing.
    #[must_use]
    pub fn payload(&self) -> u64 {
        match self {
            Self::Http1(body) => body.payload(),
            Self::Http2(body) => body.payload(),
        }
    }

    /// Whether the application has sent all of it, taken or not.
    #[must_use]
    pub fn has_come(&self) -> bool {
        match self {
            Self::Http1(body) => body.has_come(),
            Self::Http2(body) => body.is_complete(),
        }
    }

    /// The application's side of the tunnel, where the server has switched to another protocol. `reply`: of the same
    /// request.
    pub fn tunnel<'a>(&'a mut self, reply: &'a Reply<'i>) -> TunnelEnd<'a, 's> {
        match (self, reply) {
            (Self::Http2(body), Reply::Http2(reply)) => {
                let sink = TunnelSink::Response(reply.responder());
                TunnelEnd { source: TunnelSource::Stream(body.stream()), sink }
            }
            (Self::Http1(body), _) => TunnelEnd::connection(body.reader()),
            (Self::Http2(_), Reply::Http1(_)) => unreachable!("one protocol brings a request and takes its answer"),
        }
    }
}

/// Where the answer to a request goes. Shared between the two halves of an exchange, and whoever waits for its end.
pub enum Reply<'i> {
    Http1(Http1Reply<'i>),
    Http2(Http2Reply<'i>),
}

impl Reply<'_> {
    /// Passes an interim response on (RFC 9110 §15.2); `raw` is what `head` was read from.
    ///
    /// # Errors
    /// The application is gone.
    pub async fn interim(&self, head: &ResponseHead, raw: &[u8]) -> Result<(), ExchangeError> {
        match self {
            Self::Http1(reply) => reply.interim(head, raw).await,
            Self::Http2(reply) => reply.interim(head, raw),
        }
    }

    /// The final response has this head. Returns the form in which its body is to be handed over. `ends_bond`: with it the
    /// server's connection ends that knows the application, whose own must end then too.
    #[must_use]
    pub fn begin(&self, head: &ResponseHead, ends_bond: bool) -> Form {
        match self {
            Self::Http1(reply) => reply.begin(head, ends_bond),
            Self::Http2(_) => Form::Data,
        }
    }

    /// Queues the head and what came with it of the body: `bytes` are those of the head, and behind them those of the body
    /// in the form that [`begin`](Self::begin) asked for; `is_over`: no more follow. The future resolves when there is room
    /// for more.
    ///
    /// # Errors
    /// The application is gone.
    pub fn start(
        &self,
        head: &ResponseHead,
        bytes: Lease,
        edits: &FieldEdits,
        is_over: bool,
    ) -> Result<Sending<'_>, ExchangeError> {
        match self {
            Self::Http1(reply) => reply.start(head, bytes, edits),
            Self::Http2(reply) => reply.start(head, bytes, edits, is_over),
        }
    }

    /// Queues a part of the body, as [`start`](Self::start) does.
    ///
    /// # Errors
    /// The application is gone.
    pub fn part(&self, part: Part, is_over: bool) -> Result<Sending<'_>, ExchangeError> {
        match self {
            Self::Http1(reply) => reply.part(part),
            Self::Http2(reply) => reply.part(part, is_over),
        }
    }

    /// The response, or what it led to, is complete.
    pub fn end(&self) {
        match self {
            Self::Http1(reply) => reply.end(),
            Self::Http2(reply) => reply.end(),
        }
    }

    /// As [`end`](Self::end), and the server's connection has ended that knew the application.
    pub fn end_with_bond(&self) {
        match self {
            Self::Http1(reply) => reply.end_with_bond(),
            // Nothing is ever bound to it: what authenticates a connection is HTTP/1's.
            Self::Http2(reply) => reply.end(),
        }
    }

    /// There is no answer, or no rest of it: the application must not take what it has for complete.
    pub fn reset(&self) {
        match self {
            Self::Http1(reply) => reply.reset(),
            Self::Http2(reply) => reply.reset(),
        }
    }

    /// Answers in the server's stead.
    pub async fn answer(&self, failure: &Failure) -> Answered {
        match self {
            Self::Http1(reply) => {
                reply.answer(failure).await;
                Answered::Http
            }
            Self::Http2(reply) => reply.answer(failure),
        }
    }

    /// Resolves when nobody waits for the answer any more.
    pub async fn lost(&self) {
        match self {
            Self::Http1(reply) => reply.lost().await,
            Self::Http2(reply) => reply.lost().await,
        }
    }
}

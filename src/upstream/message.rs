//! What a carrier is given, what it gives, and why it may not: the same whichever protocol carries it.

use std::cell::RefCell;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use super::stream::StreamError;
use crate::http::{RequestEdits, RequestHead};
use crate::http2::{self, Reason, Responder, SentBody};
use crate::io::{Lease, SendBuf, SendFuture};

/// The request that a carrier is given.
#[derive(Clone, Copy)]
pub struct Outgoing<'r> {
    pub head: &'r RequestHead,
    /// The bytes that `head` was read from.
    pub raw: &'r [u8],
    pub edits: RequestEdits<'r>,
    /// The form in which the body comes.
    pub form: Form,
    /// All of the body is handed over with the head.
    pub is_over: bool,
}

/// Why a response did not come, or not all of it.
#[derive(Debug)]
pub enum CarrierError {
    /// The server ended the connection in order (`None`), or it failed.
    Ended(Option<StreamError>),
    /// What came is no response.
    Protocol(String),
    /// The server ended the connection in the middle of its response, whose framing shows it: in order (`None`), or without
    /// the close_notify of TLS.
    Cut(Option<StreamError>),
    /// The server has not looked at the request (`REFUSED_STREAM`, or above the last stream of its GOAWAY): it may be sent
    /// again, whatever it asks for (RFC 9113 §8.7).
    Refused(String),
    /// The server reset the stream.
    Reset(Reason),
    /// The protocol of the connection has no words for the request. Nothing was sent.
    Unsayable(String),
}

/// The form in which the bytes of a body are handed from one side to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As HTTP/1 has framed them, chunk lines included: another HTTP/1 connection takes them untouched.
    Framed,
    /// The data alone.
    Data,
}

/// A part of a body on its way from one side to the other.
#[derive(Debug)]
pub enum Part {
    /// Bytes in the form that was agreed on.
    Bytes(SendBuf),
    /// The trailers, which end the body: field lines, each with its CR LF. Only where the form is [`Form::Data`]; in the
    /// other they stand in the bytes.
    Trailers(Lease),
}

impl Part {
    /// Bytes of the body.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes.as_ref(),
            Self::Trailers(_) => &[],
        }
    }
}

impl From<Lease> for Part {
    fn from(bytes: Lease) -> Self {
        Self::Bytes(bytes.into())
    }
}

/// Resolves when there is room for more of what was queued, whichever protocol took it.
#[must_use = "the bytes are queued already, but an error and back-pressure are only seen by awaiting"]
pub enum Sending<'a> {
    /// It needs no room.
    Done,
    Http1(SendFuture<'a>),
    Http2Request(&'a RefCell<SentBody>),
    Http2Response(&'a Responder),
}

impl Future for Sending<'_> {
    /// An error: the other side takes no more.
    type Output = io::Result<()>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Done => Poll::Ready(Ok(())),
            Self::Http1(sending) => pin!(sending).poll(cx),
            Self::Http2Request(body) => body.borrow_mut().poll_room(cx).map_err(gone),
            Self::Http2Response(responder) => responder.poll_room(cx).map_err(gone),
        }
    }
}

fn gone(error: http2::StreamError) -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, error)
}

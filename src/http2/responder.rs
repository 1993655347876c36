//! The answer to one stream of an application.
//!
//! Upload, download and the watch for a reset run at once and share it, so that all is by `&self`.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};

use h2::Reason;
use h2::server::SendResponse;
use http::{HeaderMap, Response};

use super::outgoing::{Piece, Queued};
use super::sent_body::SentBody;
use super::stream_error::StreamError;
use crate::io::SendBuf;

/// Answers one request.
pub struct Responder {
    state: RefCell<State>,
    queued: Rc<Queued>,
}

enum State {
    /// Nothing of the final response has been sent.
    Waiting(SendResponse<Piece>),
    Answering(SentBody),
}

impl Responder {
    pub(super) fn new(stream: SendResponse<Piece>, send_buffer: usize) -> Self {
        Self { state: RefCell::new(State::Waiting(stream)), queued: Queued::new(send_buffer) }
    }

    /// Sends an interim response (RFC 9110 §15.2).
    ///
    /// # Errors
    /// Nobody waits for it any more, or the final response has begun.
    pub fn interim(&self, response: Response<()>) -> Result<(), StreamError> {
        match &mut *self.state.borrow_mut() {
            State::Waiting(stream) => stream.send_informational(response).map_err(|error| StreamError::of(&error)),
            State::Answering(_) => Err(begun()),
        }
    }

    /// Sends the head of the final response; `is_last`: it has no body.
    ///
    /// # Errors
    /// Nobody waits for it any more, or the final response has begun.
    pub fn head(&self, response: Response<()>, is_last: bool) -> Result<(), StreamError> {
        let mut state = self.state.borrow_mut();
        let State::Waiting(stream) = &mut *state else { return Err(begun()) };
        let body = stream.send_response(response, is_last).map_err(|error| StreamError::of(&error))?;
        *state = State::Answering(SentBody::new(body, Rc::clone(&self.queued), is_last));
        Ok(())
    }

    /// Queues more of the body, as [`SentBody::send`].
    ///
    /// # Errors
    /// Nobody waits for it any more, the head has not been sent, or the end has.
    pub fn data(&self, bytes: impl Into<SendBuf>, is_last: bool) -> Result<(), StreamError> {
        self.with_body(|body| body.send(bytes, is_last))
    }

    /// Queues the trailers, which end the response.
    ///
    /// # Errors
    /// As [`data`](Self::data).
    pub fn trailers(&self, trailers: HeaderMap) -> Result<(), StreamError> {
        self.with_body(|body| body.send_trailers(trailers))
    }

    fn with_body(&self, send: impl FnOnce(&mut SentBody) -> Result<(), StreamError>) -> Result<(), StreamError> {
        match &mut *self.state.borrow_mut() {
            State::Answering(body) => send(body),
            State::Waiting(_) => Err(StreamError::Protocol("the response has no head yet".to_owned())),
        }
    }

    /// Ready when there is room for more.
    ///
    /// # Errors
    /// Nobody waits for it any more.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        if let Poll::Ready(lost) = self.poll_lost(cx) {
            return Poll::Ready(Err(lost));
        }
        self.queued.poll_room(cx).map(Ok)
    }

    /// Whether the final response has begun.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        matches!(*self.state.borrow(), State::Answering(_))
    }

    /// Whether all of the response has been sent, or queued.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(&*self.state.borrow(), State::Answering(body) if body.is_over())
    }

    /// Ends the stream in both directions. `CANCEL`, `INTERNAL_ERROR` and the like tell the application that what it has is
    /// not all.
    pub fn reset(&self, reason: Reason) {
        match &mut *self.state.borrow_mut() {
            State::Waiting(stream) => stream.send_reset(reason),
            State::Answering(body) => body.reset(reason),
        }
    }

    /// Resolves with the reason when nobody waits for the answer any more: the stream was reset, or the connection is over.
    pub fn lost(&self) -> impl Future<Output = StreamError> {
        poll_fn(|cx| self.poll_lost(cx))
    }

    /// As [`lost`](Self::lost), for a future that waits for other things as well.
    pub fn poll_lost(&self, cx: &mut Context<'_>) -> Poll<StreamError> {
        match &mut *self.state.borrow_mut() {
            State::Waiting(stream) => stream.poll_reset(cx).map(|reset| match reset {
                Ok(reason) => StreamError::Reset(reason),
                Err(error) => StreamError::of(&error),
            }),
            State::Answering(body) => body.poll_reset(cx),
        }
    }
}

fn begun() -> StreamError {
    StreamError::Protocol("the response has begun".to_owned())
}

//! The body of a message that goes to the peer: queued at once, in order, and whoever has more waits while much is queued.

use std::rc::Rc;
use std::task::{Context, Poll};

use h2::{Reason, SendStream};
use http::HeaderMap;

use super::outgoing::{Piece, Queued};
use super::stream_error::StreamError;
use crate::io::SendBuf;

/// A body that is being sent.
pub struct SentBody {
    stream: SendStream<Piece>,
    queued: Rc<Queued>,
    is_over: bool,
}

impl SentBody {
    pub(super) fn new(stream: SendStream<Piece>, queued: Rc<Queued>, is_over: bool) -> Self {
        Self { stream, queued, is_over }
    }

    /// Queues `bytes`, the last of the body if `is_last`. An empty piece that is not the last is nothing.
    ///
    /// # Errors
    /// The peer takes no more, or the end was sent before.
    pub fn send(&mut self, bytes: impl Into<SendBuf>, is_last: bool) -> Result<(), StreamError> {
        let bytes = bytes.into();
        if bytes.is_empty() && !is_last {
            return Ok(());
        }
        self.end_if(is_last)?;
        let piece = self.queued.piece(bytes);
        self.stream.send_data(piece, is_last).map_err(|error| self.reason(&error))
    }

    /// Queues the trailers, which end the message.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_trailers(&mut self, trailers: HeaderMap) -> Result<(), StreamError> {
        self.end_if(true)?;
        self.stream.send_trailers(trailers).map_err(|error| self.reason(&error))
    }

    /// Ready when there is room for more.
    ///
    /// # Errors
    /// The peer takes no more.
    pub fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        if let Poll::Ready(reset) = self.poll_reset(cx) {
            return Poll::Ready(Err(reset));
        }
        self.queued.poll_room(cx).map(Ok)
    }

    /// Bytes that are queued and have not left the codec.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queued.bytes()
    }

    /// Whether the end has been sent, or queued.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Ready with the reason when the peer, or the end of the connection, has ended the stream.
    pub fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<StreamError> {
        self.stream.poll_reset(cx).map(|reset| match reset {
            Ok(reason) => StreamError::Reset(reason),
            Err(error) => StreamError::of(&error),
        })
    }

    /// Ends the stream in both directions, with what is queued thrown away.
    pub fn reset(&mut self, reason: Reason) {
        self.is_over = true;
        self.stream.send_reset(reason);
    }

    fn end_if(&mut self, is_last: bool) -> Result<(), StreamError> {
        if self.is_over {
            return Err(StreamError::Protocol("the message has ended".to_owned()));
        }
        self.is_over = is_last;
        Ok(())
    }

    /// What the codec's refusal to take more means: mostly the stream is over, and it knows why.
    fn reason(&mut self, error: &h2::Error) -> StreamError {
        match self.poll_reset(&mut Context::from_waker(std::task::Waker::noop())) {
            Poll::Ready(reset) => reset,
            Poll::Pending => StreamError::of(error),
        }
    }
}

//! The body of a message that the peer sends: data as it comes, then perhaps trailers.
//!
//! The peer may send as much as its window allows; that is widened only when what came has been passed on. So a source
//! never gets further ahead than a window, however slow the other side is.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;

use super::stream_error::StreamError;

/// What has come of a body.
#[derive(Debug)]
pub enum Received {
    Data(Bytes),
    /// The last of it.
    Trailers(HeaderMap),
}

/// A body that is being received.
pub struct ReceivedBody {
    stream: h2::RecvStream,
    /// Bytes that were handed out, and for which the peer's window has not been widened again.
    taken: usize,
    state: BodyState,
    /// The head said that there is none.
    is_none: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodyState {
    Data,
    Trailers,
    Over,
}

impl ReceivedBody {
    pub(super) fn new(stream: h2::RecvStream) -> Self {
        let state = if stream.is_end_stream() { BodyState::Over } else { BodyState::Data };
        Self { stream, taken: 0, state, is_none: false }
    }

    /// Lets data be an error: the head says that there is none, and a reader of HTTP/1 would take it for the next message.
    pub(super) fn expect_nothing(&mut self) {
        self.is_none = true;
    }

    /// Whether nothing more comes: the end has been seen.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.state == BodyState::Over
    }

    /// Whether data has come that was not handed out.
    pub fn has_arrived(&mut self) -> bool {
        self.stream.flow_control().used_capacity() > self.taken
    }

    /// The next piece of the body; `None` at its end. What was handed out before counts as passed on.
    ///
    /// # Errors
    /// Why the rest does not come.
    pub fn piece(&mut self) -> impl Future<Output = Result<Option<Received>, StreamError>> {
        poll_fn(|cx| self.poll_piece(cx))
    }

    /// As [`piece`](Self::piece), for a future that waits for other things as well.
    pub fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Received>, StreamError>> {
        self.release();
        if self.state == BodyState::Data {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    self.taken = data.len();
                    if self.is_none && !data.is_empty() {
                        self.state = BodyState::Over;
                        return Poll::Ready(Err(StreamError::Protocol("a body where there is none".to_owned())));
                    }
                    // The end, told by the last frame: nobody has to ask once more.
                    if self.stream.is_end_stream() {
                        self.state = BodyState::Over;
                    }
                    return Poll::Ready(Ok(Some(Received::Data(data))));
                }
                Some(Err(error)) => return self.fail(&error),
                None => self.state = BodyState::Trailers,
            }
        }
        if self.state == BodyState::Trailers {
            match ready!(self.stream.poll_trailers(cx)) {
                Ok(trailers) => {
                    self.state = BodyState::Over;
                    return Poll::Ready(Ok(trailers.map(Received::Trailers)));
                }
                Err(error) => return self.fail(&error),
            }
        }
        Poll::Ready(Ok(None))
    }

    /// Widens the peer's window by what was handed out last, which has been passed on.
    pub fn release(&mut self) {
        if self.taken > 0 {
            // Fails only for more than was received.
            let _ = self.stream.flow_control().release_capacity(self.taken);
            self.taken = 0;
        }
    }

    fn fail(&mut self, error: &h2::Error) -> Poll<Result<Option<Received>, StreamError>> {
        self.state = BodyState::Over;
        Poll::Ready(Err(StreamError::of(error)))
    }
}

impl Drop for ReceivedBody {
    fn drop(&mut self) {
        self.release();
    }
}

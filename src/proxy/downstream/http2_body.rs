//! The body of a request that came over HTTP/2. Its sender gets no further ahead than the stream's window.

use std::task::{Context, Poll, Waker};

use crate::http::{BodyError, HeadLimits, RequestHead, is_trailer_field};
use crate::http2::{Received, ReceivedBody, StreamError, trailer_lines};
use crate::io::{Lease, SendBuf};
use crate::proxy::exchange_error::ExchangeError;
use crate::upstream::Part;

/// What is left of a request on its stream.
pub struct Http2Body {
    body: ReceivedBody,
    /// Of trailers: those of heads.
    limits: HeadLimits,
    /// What comes is for a tunnel, and waits until there is one.
    is_tunnel: bool,
    /// Bytes of it so far.
    payload: u64,
}

impl Http2Body {
    #[must_use]
    pub fn new(body: ReceivedBody, limits: HeadLimits, head: &RequestHead) -> Self {
        Self { body, limits, is_tunnel: head.is_connect() || head.upgrade.is_some(), payload: 0 }
    }

    /// The first data, if it is here. Trailers alone wait for [`next`](Self::next).
    pub fn arrived(&mut self) -> Result<SendBuf, ExchangeError> {
        if self.is_tunnel || !self.body.has_arrived() {
            return Ok(SendBuf::Static(&[]));
        }
        match self.body.poll_piece(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(piece) => match self.part(piece)? {
                Part::Bytes(bytes) => Ok(bytes),
                Part::Trailers(_) => Err(ExchangeError::RequestBody(BodyError::TrailerField)),
            },
            Poll::Pending => Ok(SendBuf::Static(&[])),
        }
    }

    pub async fn next(&mut self) -> Result<Part, ExchangeError> {
        let piece = self.body.piece().await;
        self.part(piece)
    }

    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.is_tunnel || self.body.is_over()
    }

    #[must_use]
    pub fn payload(&self) -> u64 {
        self.payload
    }

    /// What comes, for the tunnel that there is now.
    pub fn stream(&mut self) -> &mut ReceivedBody {
        &mut self.body
    }

    fn part(&mut self, piece: Result<Option<Received>, StreamError>) -> Result<Part, ExchangeError> {
        match piece {
            Ok(Some(Received::Data(data))) => {
                self.payload += data.len() as u64;
                Ok(Part::Bytes(data.into()))
            }
            // As in HTTP/1.
            Ok(Some(Received::Trailers(trailers))) if trailers.keys().any(|name| !is_trailer_field(name.as_ref())) => {
                Err(ExchangeError::RequestBody(BodyError::TrailerForbidden))
            }
            Ok(Some(Received::Trailers(trailers))) => match trailer_lines(&trailers, self.limits) {
                Ok(lines) => Ok(Part::Trailers(Lease::from_vec(lines))),
                Err(_) => Err(ExchangeError::RequestBody(BodyError::TrailerField)),
            },
            Ok(None) => Ok(Part::Bytes(SendBuf::Static(&[]))),
            Err(_) => Err(ExchangeError::Client),
        }
    }
}

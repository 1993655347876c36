//! Why an exchange cannot be finished, as its two halves find out. What the application is told about it is `failure`'s affair.

use crate::http::BodyError;
use crate::http2::Reason;
use crate::policy::Outcome;
use crate::proxy::clocks::Clock;
use crate::upstream::{CarrierError, StreamError};

/// Why an exchange cannot be finished.
#[derive(Debug)]
pub enum ExchangeError {
    /// The application reset its connection, or ended it in the middle of its request.
    Client,
    /// The request's body breaks its framing.
    RequestBody(BodyError),
    /// The upstream closed (`None`) or failed.
    Upstream(Option<StreamError>),
    /// The response breaks HTTP.
    Response(String),
    /// The upstream ended in the middle of a response that shows where it ends; `None`: in order.
    Cut(Option<StreamError>),
    /// The server has not looked at the request, and says so.
    Refused(String),
    /// The server reset the request's stream.
    Reset(Reason),
    /// The request cannot be said in the protocol that the server is spoken to in.
    Unsayable(String),
    /// It took too long.
    Overdue(Clock),
    /// The route's time for the whole request is over.
    Timeout,
    /// The route's time for one try is over.
    TryTimeout,
    /// The route wants the request sent again after an answer of this status; nothing of it was passed on.
    Unwanted(u16),
}

impl ExchangeError {
    /// Whether it is what `retryOn: reset` is about: the server's connection, or the stream, gave no answer.
    #[must_use]
    pub fn is_reset(&self) -> bool {
        match self {
            Self::Upstream(_)
            | Self::Response(_)
            | Self::Cut(_)
            | Self::Refused(_)
            | Self::Reset(_)
            | Self::TryTimeout => true,
            Self::Client
            | Self::RequestBody(_)
            | Self::Unsayable(_)
            | Self::Overdue(_)
            | Self::Timeout
            | Self::Unwanted(_) => false,
        }
    }

    /// What it says of the upstream; `None` where the application was at fault.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        match self {
            Self::Client
            | Self::RequestBody(_)
            | Self::Unsayable(_)
            | Self::Overdue(Clock::Idle | Clock::RequestBody) => None,
            Self::Upstream(_) | Self::Response(_) | Self::Cut(_) | Self::Refused(_) | Self::Reset(_) => {
                Some(Outcome::Failed)
            }
            Self::Timeout | Self::TryTimeout | Self::Overdue(Clock::Response) => Some(Outcome::TimedOut),
            Self::Unwanted(status) => Some(Outcome::Answered(*status)),
        }
    }
}

impl From<CarrierError> for ExchangeError {
    fn from(error: CarrierError) -> Self {
        match error {
            CarrierError::Ended(error) => Self::Upstream(error),
            CarrierError::Protocol(what) => Self::Response(what),
            CarrierError::Cut(error) => Self::Cut(error),
            CarrierError::Refused(why) => Self::Refused(why),
            CarrierError::Reset(reason) => Self::Reset(reason),
            CarrierError::Unsayable(what) => Self::Unsayable(what),
        }
    }
}

//! Why an exchange cannot be finished, as its two halves find out. What the application is told about it is `failure`'s affair.

use crate::http::BodyError;
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
    /// What it says of the upstream; `None` where the application was at fault.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        match self {
            Self::Client | Self::RequestBody(_) | Self::Overdue(Clock::Idle | Clock::RequestBody) => None,
            Self::Upstream(_) | Self::Response(_) => Some(Outcome::Failed),
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
        }
    }
}

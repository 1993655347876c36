//! A request whose head has arrived: what routing, policy, edits and the log read, whichever protocol brought it.
//!
//! It knows neither where its body comes from nor where the answer goes.

use std::time::{Instant, SystemTime};

use crate::config::Settings;
use crate::http::{BodyLength, HeadLimits, RequestHead};
use crate::io::Lease;

/// A request; its body may still be on the way.
pub struct Request {
    /// The head as it was received.
    pub raw: Lease,
    pub head: RequestHead,
    pub at: Instant,
    pub since: SystemTime,
}

impl Request {
    /// Whether it may be sent a second time when the first connection died without a byte of an answer.
    #[must_use]
    pub fn is_replayable(&self) -> bool {
        self.head.method.is_idempotent() && self.is_over_with_head()
    }

    /// Whether nothing of it comes behind its head.
    #[must_use]
    pub fn is_over_with_head(&self) -> bool {
        matches!(self.head.body, BodyLength::None | BodyLength::Length(0)) && self.head.upgrade.is_none()
    }
}

/// The limits of heads that the settings give, of requests and of responses.
#[must_use]
pub fn head_limits(settings: &Settings) -> HeadLimits {
    HeadLimits { max_bytes: settings.max_head_bytes, max_fields: settings.max_head_fields }
}

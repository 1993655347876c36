//! A request whose head has arrived: what routing, policy, edits and the log read, whichever protocol brought it.
//!
//! It knows neither where its body comes from nor where the answer goes.

use std::time::{Instant, SystemTime};

use crate::config::Settings;
use crate::http::{BodyLength, HeadLimits, RequestHead, Version};
use crate::io::Lease;
use crate::tls::AlpnProtocol;

/// A request; its body may still be on the way.
pub struct Request {
    /// The head: as it was received over HTTP/1, or the one of HTTP/1 that asks for the same.
    pub raw: Lease,
    pub head: RequestHead,
    /// Which protocol brought it.
    pub protocol: Protocol,
    pub at: Instant,
    pub since: SystemTime,
}

/// A protocol that brings requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http10,
    Http11,
    Http2,
}

impl Protocol {
    /// HTTP/1 in this version.
    #[must_use]
    pub fn of(version: Version) -> Self {
        match version {
            Version::Http10 => Self::Http10,
            Version::Http11 => Self::Http11,
        }
    }

    /// As the access log names it, in Envoy's words.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        }
    }
}

impl Request {
    /// What a server is spoken to in that is spoken to as the application speaks. What leads to another protocol is HTTP/1's.
    #[must_use]
    pub fn speaks(&self) -> AlpnProtocol {
        match self.protocol {
            Protocol::Http2 if self.head.upgrade.is_none() && !self.head.is_connect() => AlpnProtocol::Http2,
            Protocol::Http2 | Protocol::Http10 | Protocol::Http11 => AlpnProtocol::Http1,
        }
    }

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

/// The limits of heads that the settings give to responses: a third more than to requests, as in Envoy (80 KiB beside 60).
#[must_use]
pub fn response_head_limits(settings: &Settings) -> HeadLimits {
    let of_request = head_limits(settings);
    HeadLimits { max_bytes: of_request.max_bytes + of_request.max_bytes / 3, ..of_request }
}

/// The limits of heads that the settings give to requests.
#[must_use]
pub fn head_limits(settings: &Settings) -> HeadLimits {
    HeadLimits { max_bytes: settings.max_head_bytes, max_fields: settings.max_head_fields }
}

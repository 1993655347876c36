//! Why a stream or a connection ended other than in order, by what its user can do.

use h2::Reason;
use thiserror::Error;

/// Why a stream is over.
#[derive(Clone, Debug, Error)]
pub enum StreamError {
    /// The peer has not looked at it: refused (`REFUSED_STREAM`), above the last stream of its GOAWAY, or never sent. It may
    /// be sent again whatever the method (RFC 9113 §8.7).
    #[error("the server did not process the stream: {0}")]
    Unprocessed(String),
    /// The peer reset it.
    #[error("the stream was reset: {}", reason_name(*.0))]
    Reset(Reason),
    /// What the peer sent on it breaks HTTP.
    #[error("{0}")]
    Protocol(String),
    /// Its connection is over.
    #[error("{0}")]
    Connection(String),
}

impl StreamError {
    /// Whether the peer says that all is well: it needs nothing more of what is sent to it (RFC 9113 §8.1).
    #[must_use]
    pub fn is_no_error(&self) -> bool {
        matches!(self, Self::Reset(reason) if *reason == Reason::NO_ERROR)
    }

    /// What the codec says of a stream.
    pub(super) fn of(error: &h2::Error) -> Self {
        match error.reason() {
            Some(reason) if error.is_remote() && error.is_go_away() => {
                Self::Unprocessed(format!("GOAWAY, {}", reason_name(reason)))
            }
            Some(Reason::REFUSED_STREAM) if error.is_remote() => {
                Self::Unprocessed(reason_name(Reason::REFUSED_STREAM).to_owned())
            }
            Some(reason) if error.is_remote() => Self::Reset(reason),
            Some(reason) if error.is_library() => Self::Protocol(format!("HTTP/2 {}", reason_name(reason))),
            // Reset from here, or by another user of the same stream.
            Some(reason) => Self::Reset(reason),
            None if error.is_io() => Self::Connection(error.to_string()),
            None => Self::Connection(format!("HTTP/2: {error}")),
        }
    }
}

/// The name of an error code, as in RFC 9113 §7.
#[must_use]
pub fn reason_name(reason: Reason) -> &'static str {
    match reason {
        Reason::NO_ERROR => "NO_ERROR",
        Reason::PROTOCOL_ERROR => "PROTOCOL_ERROR",
        Reason::INTERNAL_ERROR => "INTERNAL_ERROR",
        Reason::FLOW_CONTROL_ERROR => "FLOW_CONTROL_ERROR",
        Reason::SETTINGS_TIMEOUT => "SETTINGS_TIMEOUT",
        Reason::STREAM_CLOSED => "STREAM_CLOSED",
        Reason::FRAME_SIZE_ERROR => "FRAME_SIZE_ERROR",
        Reason::REFUSED_STREAM => "REFUSED_STREAM",
        Reason::CANCEL => "CANCEL",
        Reason::COMPRESSION_ERROR => "COMPRESSION_ERROR",
        Reason::CONNECT_ERROR => "CONNECT_ERROR",
        Reason::ENHANCE_YOUR_CALM => "ENHANCE_YOUR_CALM",
        Reason::INADEQUATE_SECURITY => "INADEQUATE_SECURITY",
        Reason::HTTP_1_1_REQUIRED => "HTTP_1_1_REQUIRED",
        _ => "an unknown error code",
    }
}

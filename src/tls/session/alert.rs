//! What a server did wrong on an established session: what the log says, and what the server is told.

use rustls::AlertDescription;

use crate::tls::error::TlsError;

/// The end of a session, as a fatal alert (RFC 8446 §6.2) ends it.
#[derive(Debug)]
pub(in crate::tls) struct FatalAlert {
    /// The alert that the server is owed; none answers an alert (RFC 8446 §6.2).
    pub(in crate::tls) alert: Option<AlertDescription>,
    pub(in crate::tls) error: TlsError,
}

impl FatalAlert {
    fn protocol(alert: AlertDescription, token: &'static str, words: impl Into<String>) -> Self {
        Self { alert: Some(alert), error: TlsError::Protocol { token, words: words.into() } }
    }

    /// A record is not what was sealed at the other end.
    pub(in crate::tls) fn not_genuine() -> Self {
        let token = "DECRYPTION_FAILED_OR_BAD_RECORD_MAC";
        Self::protocol(AlertDescription::BadRecordMac, token, "a record did not decrypt")
    }

    /// A record is longer than the protocol allows.
    pub(in crate::tls) fn oversized() -> Self {
        Self::protocol(AlertDescription::RecordOverflow, "DATA_LENGTH_TOO_LONG", "a record is too long")
    }

    /// Something that must not come here.
    pub(in crate::tls) fn unexpected(what: impl Into<String>) -> Self {
        Self::protocol(AlertDescription::UnexpectedMessage, "UNEXPECTED_MESSAGE", what)
    }

    /// A message that is not made as it must be.
    pub(in crate::tls) fn malformed(what: impl Into<String>) -> Self {
        Self::protocol(AlertDescription::DecodeError, "BAD_HANDSHAKE_MESSAGE", what)
    }

    /// Something inside egret; the server is told no more than that.
    pub(in crate::tls) fn internal(what: impl Into<String>) -> Self {
        Self { alert: Some(AlertDescription::InternalError), error: TlsError::Internal(what.into()) }
    }
}

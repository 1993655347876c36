//! Why a TLS session failed, by who must act, in the words of the access log.
//!
//! The upper-case tokens are those of BoringSSL that Envoy's users search their logs for; the words after them say
//! what happened and what to do.

use std::fmt;

use rustls::{AlertDescription, InvalidMessage, PeerIncompatible, PeerMisbehaved};

use crate::tls::verify::cert_error::CertError;

/// A session that is over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// The server's certificate was not believed: its owner, or whoever configured the trust, must act.
    #[error("TLS_error: CERTIFICATE_VERIFY_FAILED: {0}")]
    Refused(CertError),
    /// The server ended the session with an alert.
    #[error("TLS_error: {alert}{}", if *.wants_certificate { WANTS_CERTIFICATE } else { "" })]
    Alert { alert: Alert, wants_certificate: bool },
    /// The server does not speak TLS: the port, or the `tls` block on it, is wrong.
    #[error(
        "TLS_error: WRONG_VERSION_NUMBER: the server speaks {0}, not TLS; check targetPort and the port of the tls block"
    )]
    NotTls(Spoken),
    /// The server has no version, cipher suite, group or protocol that egret accepts.
    #[error("TLS_error: {token}: {words}")]
    Incompatible { token: &'static str, words: String },
    /// The server broke the protocol.
    #[error("TLS_error: {token}: the server broke the TLS protocol: {words}")]
    Protocol { token: &'static str, words: String },
    /// The connection ended before the handshake did.
    #[error(
        "TLS_error: the server closed the connection during the TLS handshake{}",
        if *.wants_certificate { WANTS_CERTIFICATE } else { "" }
    )]
    ClosedInHandshake { wants_certificate: bool },
    /// The connection ended without close_notify: what came before it may not be all (RFC 8446 §6.1).
    #[error("TLS_error: UNEXPECTED_EOF_WHILE_READING: the connection ended without close_notify, data may be missing")]
    Truncated,
    /// The server ended the connection, since it was refused another handshake on it (RFC 5246 §7.4.1.1).
    #[error(
        "TLS_error: NO_RENEGOTIATION: the server asked for another handshake in TLS 1.2 (renegotiation), which is not done, and \
         ended the connection. A server that wants a client certificate for some paths alone asks so: let it ask in the first \
         handshake (IIS: clientcertnegotiation=enable), with tls mode MUTUAL here"
    )]
    Renegotiation,
    /// Something inside egret.
    #[error("TLS_error: internal: {0}")]
    Internal(String),
}

const WANTS_CERTIFICATE: &str =
    "; it asked for a client certificate and none is configured (tls mode MUTUAL with a client certificate)";

/// BoringSSL's name for it.
const NO_PROTOCOL: &str = "NO_APPLICATION_PROTOCOL";

impl TlsError {
    /// What rustls reports, with the reason that the verifier left behind.
    pub(super) fn from_rustls(error: rustls::Error, refusal: Option<CertError>, wants_certificate: bool) -> Self {
        use rustls::Error as E;
        match error {
            E::AlertReceived(alert) => TlsError::Alert { alert: Alert(alert), wants_certificate },
            E::InvalidCertificate(error) => {
                TlsError::Refused(refusal.unwrap_or_else(|| CertError::Malformed(error.to_string())))
            }
            E::PeerIncompatible(why) => incompatible(&why),
            E::NoApplicationProtocol => TlsError::Incompatible {
                token: NO_PROTOCOL,
                words: "the server does not speak the protocol that was offered (ALPN)".to_owned(),
            },
            E::PeerMisbehaved(PeerMisbehaved::SelectedUnofferedApplicationProtocol) => TlsError::Incompatible {
                token: NO_PROTOCOL,
                words: "the server chose a protocol that was not offered (ALPN)".to_owned(),
            },
            E::InvalidMessage(InvalidMessage::UnknownProtocolVersion | InvalidMessage::InvalidContentType) => {
                TlsError::NotTls(Spoken::Unknown)
            }
            E::InvalidMessage(
                InvalidMessage::CertificatePayloadTooLarge | InvalidMessage::HandshakePayloadTooLarge,
            ) => Self::too_much_handshake(),
            E::DecryptError => protocol("DECRYPTION_FAILED_OR_BAD_RECORD_MAC", "a record did not decrypt".to_owned()),
            E::PeerSentOversizedRecord | E::InvalidMessage(InvalidMessage::MessageTooLarge) => {
                protocol("DATA_LENGTH_TOO_LONG", "a record is too long".to_owned())
            }
            E::InappropriateMessage { .. } | E::InappropriateHandshakeMessage { .. } => {
                protocol("UNEXPECTED_MESSAGE", error.to_string())
            }
            E::InvalidMessage(_) | E::PeerMisbehaved(_) | E::NoCertificatesPresented => {
                protocol("BAD_HANDSHAKE_MESSAGE", error.to_string())
            }
            other => TlsError::Internal(other.to_string()),
        }
    }
}

impl TlsError {
    /// Whether it is about the protocols that were offered (RFC 7301).
    #[must_use]
    pub fn is_of_protocol(&self) -> bool {
        match self {
            TlsError::Alert { alert, .. } => alert.0 == AlertDescription::NoApplicationProtocol,
            TlsError::Incompatible { token, .. } => *token == NO_PROTOCOL,
            _ => false,
        }
    }

    /// Certificates of many names, or a flood of session tickets.
    pub(super) fn too_much_handshake() -> Self {
        let words = "handshake messages, probably its certificates, exceed 64 KiB; have the server send fewer: its own and the \
                     intermediate ones, not roots nor a whole bundle";
        protocol("EXCESSIVE_MESSAGE_SIZE", words.to_owned())
    }
}

fn protocol(token: &'static str, words: String) -> TlsError {
    TlsError::Protocol { token, words }
}

fn incompatible(why: &PeerIncompatible) -> TlsError {
    let version = matches!(
        why,
        PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
    );
    if version {
        let words = "the server speaks only TLS versions below the lowest allowed".to_owned();
        return TlsError::Incompatible { token: "UNSUPPORTED_PROTOCOL", words };
    }
    let words = format!("nothing in common with the server: {why:?}");
    TlsError::Incompatible { token: "HANDSHAKE_FAILURE", words }
}

/// An alert from the server.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Alert(pub(super) AlertDescription);

impl Alert {
    /// BoringSSL's name for it and what it means.
    fn words(self) -> (&'static str, &'static str) {
        use AlertDescription as A;
        match self.0 {
            A::HandshakeFailure => ("SSLV3_ALERT_HANDSHAKE_FAILURE", "the server accepts none of what was offered"),
            A::BadCertificate => ("SSLV3_ALERT_BAD_CERTIFICATE", "the server refused the client certificate"),
            A::UnsupportedCertificate => {
                ("SSLV3_ALERT_UNSUPPORTED_CERTIFICATE", "the server does not take this kind of client certificate")
            }
            A::CertificateRevoked => ("SSLV3_ALERT_CERTIFICATE_REVOKED", "the client certificate is revoked"),
            A::CertificateExpired => ("SSLV3_ALERT_CERTIFICATE_EXPIRED", "the client certificate has expired"),
            A::CertificateUnknown => ("SSLV3_ALERT_CERTIFICATE_UNKNOWN", "the server refused the client certificate"),
            A::UnknownCA => {
                ("TLSV1_ALERT_UNKNOWN_CA", "the server does not trust the issuer of the client certificate")
            }
            A::AccessDenied => ("TLSV1_ALERT_ACCESS_DENIED", "the server refused this client"),
            A::CertificateRequired => ("TLSV1_ALERT_CERTIFICATE_REQUIRED", "the server requires a client certificate"),
            A::ProtocolVersion => ("TLSV1_ALERT_PROTOCOL_VERSION", "the server speaks no TLS version that is allowed"),
            A::InsufficientSecurity => ("TLSV1_ALERT_INSUFFICIENT_SECURITY", "the server wants stronger ciphers"),
            A::UnrecognisedName => ("TLSV1_ALERT_UNRECOGNIZED_NAME", "the server does not know the SNI"),
            A::NoApplicationProtocol => {
                ("TLSV1_ALERT_NO_APPLICATION_PROTOCOL", "the server does not speak the protocol that was offered")
            }
            A::DecryptError => ("TLSV1_ALERT_DECRYPT_ERROR", "the server could not verify a signature or key"),
            A::DecodeError => ("TLSV1_ALERT_DECODE_ERROR", "the server could not read a message"),
            A::IllegalParameter => ("SSLV3_ALERT_ILLEGAL_PARAMETER", "the server did not accept a parameter"),
            A::UnexpectedMessage => ("SSLV3_ALERT_UNEXPECTED_MESSAGE", "the server did not expect a message"),
            A::BadRecordMac => ("SSLV3_ALERT_BAD_RECORD_MAC", "the server could not decrypt a record"),
            A::RecordOverflow => ("TLSV1_ALERT_RECORD_OVERFLOW", "the server found a record too long"),
            A::InternalError => ("TLSV1_ALERT_INTERNAL_ERROR", "the server failed internally"),
            A::UserCanceled => ("TLSV1_ALERT_USER_CANCELLED", "the server gave up"),
            A::InappropriateFallback => ("TLSV1_ALERT_INAPPROPRIATE_FALLBACK", "the server speaks a newer version"),
            A::NoRenegotiation => ("TLSV1_ALERT_NO_RENEGOTIATION", "the server does not renegotiate"),
            A::MissingExtension => ("TLSV1_ALERT_MISSING_EXTENSION", "the server misses an extension"),
            A::UnsupportedExtension => ("TLSV1_ALERT_UNSUPPORTED_EXTENSION", "the server did not expect an extension"),
            A::UnknownPSKIdentity => ("TLSV1_ALERT_UNKNOWN_PSK_IDENTITY", "the server does not know the session"),
            A::BadCertificateStatusResponse => {
                ("TLSV1_ALERT_BAD_CERTIFICATE_STATUS_RESPONSE", "the server could not use an OCSP response")
            }
            _ => ("TLS_ALERT", "the server ended the session"),
        }
    }
}

impl fmt::Display for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (token, words) = self.words();
        write!(f, "{token}: {words} (alert {})", u8::from(self.0))
    }
}

impl fmt::Debug for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a server speaks instead of TLS, told by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoken {
    Http,
    Http2,
    Ssh,
    /// SMTP or FTP: a greeting that begins with 220.
    Greeting,
    Unknown,
}

impl Spoken {
    /// `None` when `first`, which is not empty, may be a TLS record (RFC 8446 §5.1: content types 20 to 23).
    pub(super) fn recognise(first: &[u8]) -> Option<Self> {
        let starts = |with: &[u8]| first.starts_with(with);
        match first {
            [20..=23, ..] => None,
            _ if starts(b"HTTP/") => Some(Spoken::Http),
            _ if starts(b"SSH-") => Some(Spoken::Ssh),
            _ if starts(b"220") => Some(Spoken::Greeting),
            [0, 0, _, 4, _, 0, 0, 0, 0, ..] => Some(Spoken::Http2),
            _ => Some(Spoken::Unknown),
        }
    }
}

impl fmt::Display for Spoken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Spoken::Http => "plain HTTP",
            Spoken::Http2 => "plain HTTP/2",
            Spoken::Ssh => "SSH",
            Spoken::Greeting => "SMTP or FTP in the clear",
            Spoken::Unknown => "another protocol",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_protocols_are_told_by_their_first_bytes() {
        for (first, spoken) in [
            (&b"\x16\x03\x03\x00\x7a"[..], None),
            (b"\x15\x03\x01\x00\x02", None),
            (b"HTTP/1.1 400 Bad Request\r\n", Some(Spoken::Http)),
            (b"SSH-2.0-OpenSSH_9.6\r\n", Some(Spoken::Ssh)),
            (b"220 mail.example.com ESMTP\r\n", Some(Spoken::Greeting)),
            (b"\0\0\x12\x04\0\0\0\0\0", Some(Spoken::Http2)),
            (b"H", Some(Spoken::Unknown)),
            (b"\xff", Some(Spoken::Unknown)),
        ] {
            assert_eq!(Spoken::recognise(first), spoken, "{first:?}");
        }
    }

    #[test]
    fn alerts_have_the_names_that_people_search_for() {
        let alert = |alert, wants_certificate| TlsError::Alert { alert: Alert(alert), wants_certificate }.to_string();
        let unknown_ca = alert(AlertDescription::UnknownCA, false);
        assert!(unknown_ca.contains("TLSV1_ALERT_UNKNOWN_CA") && unknown_ca.contains("alert 48"), "{unknown_ca}");
        assert!(alert(AlertDescription::HandshakeFailure, true).contains("asked for a client certificate"));
    }
}

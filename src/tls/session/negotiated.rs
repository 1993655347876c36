//! What client and server agreed upon in a handshake.

use rustls::{NamedGroup, ProtocolVersion, SupportedCipherSuite};

use crate::tls::request::AlpnProtocol;

/// What was agreed upon in the handshake.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Negotiated {
    pub version: Option<ProtocolVersion>,
    pub cipher_suite: Option<SupportedCipherSuite>,
    pub group: Option<NamedGroup>,
    /// What the server chose of what was [offered](crate::tls::Alpn).
    pub alpn: Option<AlpnProtocol>,
    /// From a ticket: the certificate was verified in an earlier session.
    pub resumed: bool,
}

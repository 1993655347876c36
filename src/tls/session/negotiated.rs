//! What client and server agreed upon in a handshake.

use rustls::{NamedGroup, ProtocolVersion, SupportedCipherSuite};

/// What was agreed upon in the handshake.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Negotiated {
    pub version: Option<ProtocolVersion>,
    pub cipher_suite: Option<SupportedCipherSuite>,
    pub group: Option<NamedGroup>,
    pub alpn: Option<NegotiatedAlpn>,
    /// From a ticket: the certificate was verified in an earlier session.
    pub resumed: bool,
}

/// The protocol that the server chose from the one that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NegotiatedAlpn {
    Http1,
    Http2,
}

//! What a policy wants of TLS towards a destination, as values: nothing has been read for it.

use std::path::PathBuf;

use crate::flow::Hostname;

/// What a policy wants of TLS, before any file has been read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ProfileRequest {
    pub mode: ProfileMode,
    pub trust: TrustSource,
    /// Used in mode MUTUAL only.
    pub identity: Option<IdentitySource>,
    pub names: NameCheck,
    pub sni: SniSource,
    pub alpn: Alpn,
}

/// Whether a client certificate is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProfileMode {
    Simple,
    Mutual,
}

/// Whom a server certificate must come from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TrustSource {
    /// The operating system's bundle.
    System,
    /// `caCertificates` and `caCrl`.
    File { ca: PathBuf, crl: Option<PathBuf> },
    /// The CA part of a secret: `credentialName`.
    Credential(String),
    /// `insecureSkipVerify`: anyone; names are not looked at either.
    Unverified,
}

/// Where the client certificate and its key are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum IdentitySource {
    /// `clientCertificate` and `privateKey`.
    Files { cert: PathBuf, key: PathBuf },
    /// `credentialName`.
    Credential(String),
}

/// Which subjectAltName a server certificate must have.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum NameCheck {
    /// The request's host (Istio: automatic SAN validation).
    FromHost,
    /// One of these: DNS names, URIs, addresses.
    Exact(Vec<String>),
    /// The request's host, and one of these.
    FromHostAnd(Vec<String>),
    /// Any: only the chain is verified.
    ChainOnly,
}

/// Which name is sent in the ClientHello.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SniSource {
    /// The request's host without its port; none for an address (RFC 6066 §3).
    FromHost,
    Fixed(Hostname),
    Omit,
}

/// A protocol by the name that it has in a handshake (RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AlpnProtocol {
    Http1,
    Http2,
}

impl AlpnProtocol {
    const ALL: [Self; 2] = [Self::Http1, Self::Http2];

    /// As IANA has registered it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Http1 => "http/1.1",
            Self::Http2 => "h2",
        }
    }

    /// `None` for a protocol that is not spoken here.
    #[must_use]
    pub fn from_name(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|protocol| protocol.name().as_bytes() == name)
    }
}

/// The protocols that are offered, the preferred one first. A server chooses one of them, none, or ends the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Alpn(&'static [AlpnProtocol]);

impl Alpn {
    /// Nothing is offered: nobody knows what will be spoken.
    pub const NONE: Self = Self(&[]);
    pub const HTTP1: Self = Self(&[AlpnProtocol::Http1]);
    pub const HTTP2: Self = Self(&[AlpnProtocol::Http2]);
    /// HTTP/2 where the server has it.
    pub const HTTP2_OR_HTTP1: Self = Self(&[AlpnProtocol::Http2, AlpnProtocol::Http1]);

    #[must_use]
    pub fn protocols(self) -> &'static [AlpnProtocol] {
        self.0
    }
}

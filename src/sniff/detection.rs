//! What the first bytes of a connection can turn out to be, as values. It knows no bytes.

use crate::flow::Hostname;

/// What a connection begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Detection {
    /// Too little to tell.
    NeedMore,
    /// An HTTP/1 request, or what a lenient server could take for one.
    Http1,
    /// The connection preface of HTTP/2 with prior knowledge (RFC 9113 §3.4).
    Http2,
    /// A TLS ClientHello.
    Tls(ClientHello),
    /// None of these.
    Opaque,
}

/// What a ClientHello says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientHello {
    pub sni: ServerName,
    /// The first protocols offered by ALPN (RFC 7301), at most 8.
    pub alpn: Vec<Box<[u8]>>,
    /// Encrypted ClientHello is offered (RFC 9849), or its grease: the name seen is the outer one.
    pub has_ech: bool,
}

impl ClientHello {
    /// The name that policy may go by.
    #[must_use]
    pub fn name(&self) -> Option<&Hostname> {
        match &self.sni {
            ServerName::Name(name) => Some(name),
            ServerName::Absent | ServerName::Unusable => None,
        }
    }
}

/// Whom a ClientHello names (RFC 6066 §3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerName {
    Absent,
    Name(Hostname),
    /// Something is there that is not one host name (an address, two names, other bytes), or the hello is malformed.
    Unusable,
}

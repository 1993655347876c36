//! What a policy asks of TLS towards one destination: the request that material is loaded for.
//!
//! It names files and secrets and never holds their contents, so that it may be printed, compared and kept.

use std::path::PathBuf;

use crate::flow::Hostname;

/// Everything that decides how a handshake with an upstream is made and judged.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ProfileRequest {
    pub mode: ProfileMode,
    pub trust: TrustSource,
    /// The client certificate; always there for [`ProfileMode::Mutual`].
    pub identity: Option<IdentitySource>,
    pub names: NameCheck,
    pub sni: SniSource,
    pub alpn: Alpn,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProfileMode {
    Simple,
    Mutual,
}

/// Who may have signed the server's certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TrustSource {
    /// The operating system's bundle.
    System,
    File {
        ca: PathBuf,
        crl: Option<PathBuf>,
    },
    /// The CA part of a named secret.
    Credential(String),
    /// `insecureSkipVerify`.
    Unverified,
}

/// Where the client's certificate and key are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum IdentitySource {
    Files { cert: PathBuf, key: PathBuf },
    Credential(String),
}

/// Which names the server's certificate must cover.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum NameCheck {
    /// The request's host.
    FromHost,
    /// At least one of these.
    Exact(Vec<String>),
    /// The request's host, and at least one of these.
    FromHostAnd(Vec<String>),
    /// None: only the chain is checked.
    ChainOnly,
}

/// The server name that the ClientHello carries.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SniSource {
    FromHost,
    Fixed(Hostname),
    Omit,
}

/// The one protocol that is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Alpn {
    Http1,
    Http2,
    None,
}

/// A request together with its loaded material.
#[derive(Debug)]
pub struct ClientProfile {}

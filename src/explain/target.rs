//! A URL that somebody asks about, read as a connection that an application might make.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::IpNet;

use crate::config::{HostPattern, Resources};
use crate::flow::{Authority, AuthorityError, Host, Hostname, OriginalDst};

/// An address of TEST-NET-1 (RFC 5737), which no entry lists: what an application is taken to dial.
const SOMEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// What somebody wants to know.
#[derive(Clone, Debug, Default)]
pub struct Question {
    pub url: String,
    /// The address that the application dials, where the host is a name.
    pub address: Option<IpAddr>,
    /// Of an HTTP request; `None` is GET.
    pub method: Option<String>,
    /// Header field lines of an HTTP request besides its Host: `NAME: VALUE`, in their order; a name may stand several times.
    pub headers: Vec<String>,
}

/// A connection that an application might make.
#[derive(Clone, Debug)]
pub struct Target {
    pub(super) url: String,
    pub(super) speaks: Speaks,
    pub(super) host: Host,
    /// The authority and the path with its query, as written.
    pub(super) authority: String,
    pub(super) path: String,
    pub(super) port: u16,
    /// `None` when nobody said what the host's name resolves to.
    pub(super) address: Option<IpAddr>,
    pub(super) method: String,
    /// Names in lower case, and values without white space around them.
    pub(super) headers: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    Http,
    Tls,
    Bytes,
}

/// Not a URL that can be explained.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// expected http://, https://, tls:// or tcp://
    #[error("expected http://HOST, https://HOST, tls://HOST:PORT or tcp://ADDRESS:PORT")]
    Scheme,
    /// a tcp:// URL needs a port
    #[error("a tcp:// URL needs a port")]
    Port,
    /// the method is no token
    #[error("{0:?} is no HTTP method")]
    Method(String),
    /// a header field is none
    #[error("{0:?} is no header field: write \"NAME: VALUE\"")]
    Header(String),
    /// the URL names the host
    #[error("the URL names the host, so there can be no Host field; routes that compare the authority see the URL's")]
    HostHeader,
    /// the authority is none
    #[error("{0}")]
    Authority(#[from] AuthorityError),
}

impl Target {
    /// Reads the question.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(question: &Question) -> Result<Self, TargetError> {
        let Question { url, address, method, headers } = question;
        let method = method.as_deref().unwrap_or("GET");
        if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)) {
            return Err(TargetError::Method(method.to_owned()));
        }
        let headers = headers.iter().map(|line| header(line)).collect::<Result<_, _>>()?;
        let (scheme, rest) = url.split_once("://").ok_or(TargetError::Scheme)?;
        let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
        let Authority { host, port } = Authority::parse(authority)?;
        let (speaks, default) = match scheme.to_ascii_lowercase().as_str() {
            "http" => (Speaks::Http, Some(80)),
            "https" | "tls" => (Speaks::Tls, Some(443)),
            "tcp" => (Speaks::Bytes, None),
            _ => return Err(TargetError::Scheme),
        };
        let port = port.or(default).ok_or(TargetError::Port)?;
        let address = match host {
            Host::Ip(ip) => Some(ip),
            Host::Name(_) => *address,
        };
        let path = rest[authority.len()..].split('#').next().unwrap_or_default();
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let (url, authority, method) = (url.clone(), authority.to_owned(), method.to_owned());
        Ok(Self { url, speaks, host, authority, path, port, address, method, headers })
    }

    /// The address dialled, or else one that an entry of this host lists, or else one that no entry lists.
    pub(super) fn dst(&self, resources: &Resources) -> OriginalDst {
        let listed = || {
            let entries = resources.service_entries.iter().filter(|entry| {
                let host =
                    entry.hosts.iter().any(|host| matches!(host, HostPattern::Exact(n) if Some(n) == self.sni()));
                host && entry.ports.iter().any(|port| port.number == self.port)
            });
            entries.flat_map(|entry| &entry.addresses).map(IpNet::addr).next()
        };
        OriginalDst::new(SocketAddr::new(self.address.or_else(listed).unwrap_or(SOMEWHERE), self.port))
    }

    pub(super) fn sni(&self) -> Option<&Hostname> {
        match &self.host {
            Host::Name(name) => Some(name),
            Host::Ip(_) => None,
        }
    }
}

/// One field line (RFC 9112 §5), its name in lower case.
fn header(line: &str) -> Result<(String, String), TargetError> {
    let none = || TargetError::Header(line.to_owned());
    let (name, value) = line.split_once(':').ok_or_else(none)?;
    // A token (RFC 9110 §5.6.2).
    let is_name_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_name_byte) || value.contains(char::is_control) {
        return Err(none());
    }
    match name.to_ascii_lowercase() {
        name if name == "host" => Err(TargetError::HostHeader),
        name => Ok((name, value.trim().to_owned())),
    }
}

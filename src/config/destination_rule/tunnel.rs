//! `tunnel` of a traffic policy: the way to the upstream leads through a forward proxy. It may stand only at the top.

use std::fmt;
use std::net::IpAddr;

use crate::config::names;
use crate::config::reader::{Field, Report};

/// Connections go through a forward proxy, which is the host of the rule, to this target.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tunnel {
    pub protocol: TunnelProtocol,
    /// A host name, or an address.
    pub host: String,
    pub port: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TunnelProtocol {
    Connect,
    /// Parsed, so that it can be refused where it would be used.
    Post,
}

impl fmt::Display for Tunnel {
    /// `host:port`, as CONNECT names its target (RFC 9110 §9.3.6).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

pub(super) fn read(field: &Field<'_>, report: &mut Report) -> Option<Tunnel> {
    const PROTOCOLS: &[(&str, TunnelProtocol)] =
        &[("CONNECT", TunnelProtocol::Connect), ("POST", TunnelProtocol::Post)];
    let mut object = field.object(report)?;
    let protocol = match object.optional("protocol") {
        Some(field) => field.choice(PROTOCOLS, report),
        None => Some(TunnelProtocol::Connect),
    };
    let host = object.required("targetHost").and_then(|field| read_target(&field, report));
    let port = object.required("targetPort").and_then(|field| field.port(report));
    object.finish(report);
    Some(Tunnel { protocol: protocol?, host: host?, port: port? })
}

fn read_target(field: &Field<'_>, report: &mut Report) -> Option<String> {
    let text = field.word(report)?;
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(ip.to_string());
    }
    names::host_name(text, text).map(|name| name.to_string()).map_err(|message| field.error(message, report)).ok()
}

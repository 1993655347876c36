//! What of a traffic policy is about the way to the upstream and about second tries, and may stand only at its top:
//! `tunnel`, `proxyProtocol`, `retryBudget`.

use std::fmt;
use std::net::IpAddr;

use super::names;
use super::reader::{Field, Report, Shape};

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

/// The header that names the application's address to the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProxyProtocol {
    V1,
    V2,
}

/// How many requests may be tried again at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryBudget {
    /// Of the requests that are under way.
    pub percent: f64,
    /// So many always may.
    pub least: u32,
}

pub(super) fn read_tunnel(field: &Field<'_>, report: &mut Report) -> Option<Tunnel> {
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

pub(super) fn read_proxy_protocol(field: &Field<'_>, report: &mut Report) -> Option<ProxyProtocol> {
    const VERSIONS: &[(&str, ProxyProtocol)] = &[("V1", ProxyProtocol::V1), ("V2", ProxyProtocol::V2)];
    let mut object = field.object(report)?;
    let version = match object.optional("version") {
        Some(field) => field.choice(VERSIONS, report),
        None => Some(ProxyProtocol::V1),
    };
    object.finish(report);
    version
}

pub(super) fn read_retry_budget(field: &Field<'_>, report: &mut Report) -> Option<RetryBudget> {
    let mut object = field.object(report)?;
    let percent = object.optional("percent").and_then(|field| field.number(&(0.0..=100.0), report));
    let least =
        object.optional("minRetryConcurrency").and_then(|field| field.whole(&(0..=i64::from(u32::MAX)), report));
    object.unsupported("budgetInterval", Shape::Duration, report);
    object.finish(report);
    Some(RetryBudget { percent: percent.unwrap_or(20.0), least: least.map_or(3, |least| least as u32) })
}

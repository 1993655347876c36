//! The parts of a cluster, said in words. Decides nothing.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::known::Material;
use crate::config::{EndpointAddress, HashKey, LoadBalancer, Settings};
use crate::flow::Host;
use crate::policy::{Answer, Cluster, ClusterProtocol, EndpointSource, Endpoints, HttpRoute, WeightedRoute};
use crate::tls::{IdentitySource, NameCheck, ProfileMode, ProfileRequest, SniSource, TrustSource};

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    pub mode: String,
    pub sni: String,
    pub ca: String,
    pub names: String,
    pub client_certificate: String,
    pub alpn: String,
}

/// Who shares a connection to a server.
pub(super) const CONNECTIONS: &str = "shared between requests; one that NTLM, Negotiate or Kerberos authenticates serves its application's connection alone";

/// The host that a server is asked for, and who says so.
#[derive(Clone, Copy)]
pub(super) struct Named<'n> {
    pub(super) host: &'n Host,
    pub(super) from: &'static str,
}

pub(super) fn tls(request: &ProfileRequest, cluster: &Cluster, named: Named<'_>) -> Tls {
    let mode = match request.mode {
        ProfileMode::Simple => "SIMPLE",
        ProfileMode::Mutual => "MUTUAL",
    };
    let offered: Vec<_> = request.alpn.protocols().iter().map(|protocol| protocol.name()).collect();
    let why = cluster.why_spoken();
    let alpn = match cluster.protocol {
        ClusterProtocol::SameAsClient => format!("http/1.1 or h2, as the application speaks, since {why}"),
        ClusterProtocol::Negotiated => {
            format!(
                "h2 and http/1.1, of which the server chooses, since {why}; a call of gRPC is refused where it chooses http/1.1"
            )
        }
        ClusterProtocol::Http2 => {
            format!("h2 alone, since {why}; a server that refuses it gets no request (503, NO_APPLICATION_PROTOCOL)")
        }
        _ if offered.is_empty() => "none".to_owned(),
        _ => offered.join(", "),
    };
    let client_certificate = match &request.identity {
        None => "none".to_owned(),
        Some(IdentitySource::Files { cert, key }) => format!("{} with key {}", cert.display(), key.display()),
        Some(IdentitySource::Credential(name)) => format!("secret {name}"),
    };
    Tls {
        mode: mode.to_owned(),
        sni: sni(&request.sni, named),
        ca: ca(&request.trust),
        names: names(request, named.host),
        client_certificate,
        alpn,
    }
}

fn sni(source: &SniSource, Named { host, from }: Named<'_>) -> String {
    match (source, host) {
        (SniSource::FromHost, Host::Name(name)) => format!("{name} (from {from})"),
        (SniSource::FromHost, Host::Ip(_)) => "none (the host is an IP address)".to_owned(),
        (SniSource::Fixed(name), _) => format!("{name} (from the rule)"),
        (SniSource::Omit, _) => "none (no HTTP, and the rule gives none)".to_owned(),
    }
}

fn ca(trust: &TrustSource) -> String {
    match trust {
        TrustSource::System => "the operating system's bundle".to_owned(),
        TrustSource::File { ca, crl: None } => ca.display().to_string(),
        TrustSource::File { ca, crl: Some(crl) } => format!("{} with CRL {}", ca.display(), crl.display()),
        TrustSource::Credential(name) => format!("ca.crt of the secret {name} or {name}-cacert"),
        TrustSource::Unverified => "none: NOT VERIFIED (insecureSkipVerify)".to_owned(),
    }
}

fn names(request: &ProfileRequest, host: &Host) -> String {
    if request.trust == TrustSource::Unverified {
        return "none: NOT VERIFIED (insecureSkipVerify)".to_owned();
    }
    match &request.names {
        NameCheck::FromHost => format!("the certificate must be for {host}"),
        NameCheck::Exact(names) => format!("the certificate must be for one of {}", names.join(", ")),
        NameCheck::FromHostAnd(names) => {
            format!("the certificate must be for {host} and for one of {}", names.join(", "))
        }
        NameCheck::ChainOnly => "none: any certificate of a trusted CA is accepted".to_owned(),
    }
}

/// A route for connections that are not read.
pub(super) fn split(split: &WeightedRoute) -> String {
    format!("{}, a route for bytes", split.source)
}

/// What becomes of a flow that a cluster takes.
pub(super) fn forwarded(cluster: &Cluster, refusal: Option<&str>, host: &Host, http: bool) -> String {
    let carried = match (cluster.protocol, http) {
        (ClusterProtocol::Http1, _) => "as HTTP/1.1",
        (ClusterProtocol::Http2, _) => "as HTTP/2",
        (ClusterProtocol::Negotiated, _) => "as HTTP/2 or HTTP/1.1, whichever the server chooses,",
        (ClusterProtocol::SameAsClient, _) => "in the HTTP version that the application speaks",
        (ClusterProtocol::Opaque, true) => "as plain bytes, so that its Host is not looked at",
        (ClusterProtocol::Opaque, false) => "byte by byte",
    };
    if let Some(reason) = refusal {
        let how = if http { "with 503" } else { "by the end of the connection" };
        return format!("refused {how}: {reason}");
    }
    match &cluster.tls_request {
        Some(request) if request.trust == TrustSource::Unverified => {
            format!("encrypted {carried}, but the server's certificate is not checked")
        }
        Some(_) => format!("encrypted {carried} over TLS that egret originates and verifies"),
        None if cluster.protocol == ClusterProtocol::Opaque && !http => {
            format!(
                "passed through {carried}: what the application encrypts stays encrypted, what it does not is plain"
            )
        }
        None => format!("sent {carried} in PLAINTEXT: no DestinationRule asks for TLS to {host} here"),
    }
}

/// Where connections go; with the addresses of this moment where they are known.
pub(super) fn endpoints(cluster: &Cluster, dialled: u16, material: Material) -> Vec<String> {
    match &cluster.endpoints {
        Endpoints::OriginalDst { port_override } => {
            vec![format!("the address dialled, port {}", port_override.unwrap_or(dialled))]
        }
        Endpoints::ByName { port_override } => {
            let port = port_override.unwrap_or(dialled);
            vec![format!("what the name asked for resolves to then, port {port}")]
        }
        Endpoints::Resolved(sources) => {
            sources.iter().map(|source| endpoint(source) + &addresses(cluster, source, material)).collect()
        }
    }
}

fn endpoint(source: &EndpointSource) -> String {
    let (port, weight) = (source.port, source.weight);
    let weight = if weight == 1 { String::new() } else { format!(" (weight {weight})") };
    let level =
        if source.level == 0 { String::new() } else { format!(" (level {}, if those before fail)", source.level) };
    let weight = weight + &level;
    match &source.configured {
        EndpointAddress::Ip(ip) => format!("{}{weight}", SocketAddr::new(*ip, port)),
        EndpointAddress::Name(name) if source.first_only => {
            format!("{name}:{port}{weight}, the first address that DNS gives")
        }
        EndpointAddress::Name(name) => format!("{name}:{port}{weight}, every address that DNS gives"),
        EndpointAddress::Unix(path) => format!("{path}{weight}"),
    }
}

fn addresses(cluster: &Cluster, source: &EndpointSource, material: Material) -> String {
    if material == Material::Missing {
        return String::new();
    }
    let ejected = cluster.health.ejected();
    let is_ejected = |ip| ejected.contains(&SocketAddr::new(ip, source.port));
    let shown = |ip| if is_ejected(ip) { format!("{ip} (ejected)") } else { ip.to_string() };
    let now: Vec<String> = source.usable().into_iter().map(shown).collect();
    match source.name() {
        Some(_) if now.is_empty() => ": none now".to_owned(),
        Some(_) => format!(": {} now", now.join(", ")),
        None if now.iter().any(|shown| shown.ends_with(')')) => " (ejected)".to_owned(),
        None => String::new(),
    }
}

pub(super) fn limits(cluster: &Cluster, settings: &Settings) -> Vec<String> {
    let limits = &cluster.limits;
    let count = |name: &str, limit: Option<u32>| limit.map(|limit| format!("{name} {limit}"));
    let time = |name: &str, limit: Option<Duration>| limit.map(|limit| format!("{name} {limit:?}"));
    let is_http = cluster.protocol != ClusterProtocol::Opaque;
    let may_be_http2 = is_http && cluster.protocol != ClusterProtocol::Http1;
    let idle = match cluster.protocol {
        ClusterProtocol::Opaque => match limits.tcp_idle_timeout {
            Some(limit) => format!("idle timeout {limit:?}"),
            None => "no idle timeout".to_owned(),
        },
        _ => format!("idle timeout {:?}", limits.http_idle_timeout),
    };
    let all = [
        time("connect timeout", Some(limits.connect_timeout.unwrap_or(settings.connect_timeout))),
        // A rule's connectTimeout covers the handshake.
        time(
            "TLS handshake timeout",
            cluster
                .tls_request
                .as_ref()
                .filter(|_| limits.connect_timeout.is_none())
                .map(|_| settings.tls_handshake_timeout),
        ),
        time("request timeout", Some(settings.request_timeout).filter(|limit| is_http && !limit.is_zero())),
        Some(idle),
        count("max connections", limits.max_connections),
        count("max pending requests", limits.max_pending_requests),
        count("max requests per connection", limits.max_requests_per_connection),
        count("max requests at once", limits.max_requests),
        limits.retry_budget.map_or_else(
            || count("max retries at once", limits.max_retries),
            |budget| Some(format!("retries at once at most {} % of requests or {}", budget.percent, budget.least)),
        ),
        time("max connection duration", limits.max_connection_duration),
        count("max concurrent streams of an HTTP/2 connection", limits.max_concurrent_streams.filter(|_| may_be_http2)),
        limits.http2_keepalive.filter(|_| may_be_http2).map(|keepalive| {
            format!("PING after {:?}, to be answered within {:?}", keepalive.interval, keepalive.timeout)
        }),
    ];
    all.into_iter().flatten().collect()
}

/// What else a DestinationRule has said of endpoints and the way to them; nothing where it has not.
pub(super) fn rule(cluster: &Cluster) -> Vec<String> {
    let balancing = &cluster.balancing;
    let hash = balancing.hash.as_ref().map(|hash| {
        let key = match &hash.key {
            HashKey::Header(name) => format!("the header {name}"),
            HashKey::Cookie(cookie) => format!("the cookie {}", cookie.name),
            HashKey::SourceIp => "the source address".to_owned(),
            HashKey::Query(name) => format!("the query parameter {name}"),
        };
        format!("endpoint by the hash of {key}")
    });
    let simple = match balancing.by {
        LoadBalancer::LeastRequest => None,
        LoadBalancer::RoundRobin => Some("endpoints in turn".to_owned()),
        LoadBalancer::Random => Some("any endpoint".to_owned()),
        LoadBalancer::Passthrough => Some("the address that was dialled".to_owned()),
    };
    let outliers = cluster.outlier_detection.as_ref().map(|rules| {
        let (time, percent) = (rules.base_ejection_time, rules.max_ejection_percent);
        format!("failing endpoints are ejected for {time:?} and longer, at most {percent} %")
    });
    let all = [
        hash.or(simple),
        balancing.warmup.map(|warmup| format!("new endpoints warm up for {:?}", warmup.duration)),
        outliers,
        cluster.tunnel.as_ref().map(|tunnel| format!("the endpoint is a forward proxy, asked to CONNECT {tunnel}")),
        cluster.proxy_protocol.map(|version| format!("announced by PROXY protocol {version:?}")),
    ];
    all.into_iter().flatten().collect()
}

/// A route that sends requests on.
pub(super) fn route(route: &HttpRoute) -> String {
    let mut out = format!("{}, route {}", route.source, route.title());
    if let Some(timeout) = route.timeout {
        let _ = write!(out, ", timeout {}s", timeout.as_secs_f64());
    }
    if let Some(retries) = &route.retries {
        let _ = write!(out, ", up to {} retries", retries.attempts);
    }
    if let Some((delay, _)) = route.fault.delay {
        let _ = write!(out, ", delayed on purpose by {}s", delay.as_secs_f64());
    }
    if let Some((status, _)) = route.fault.abort {
        let _ = write!(out, ", refused on purpose with {status}");
    }
    if route.rewrite.changes_path() || route.rewrite.authority.is_some() {
        out += ", rewritten";
    }
    out
}

/// A route that sends nothing on.
pub(super) fn answer(route: &HttpRoute, answer: &Answer) -> String {
    let kind = match answer {
        Answer::Redirect(_) => "redirect",
        Answer::Direct { .. } => "directResponse",
    };
    format!("answered with {} ({kind}), by VirtualService {}, route {}", answer.status(), route.source, route.title())
}

/// A route whose destination no ServiceEntry lists.
pub(super) fn no_destination(route: &HttpRoute, end: &str) -> String {
    format!("{end}: its destination does not exist, by VirtualService {}, route {}", route.source, route.title())
}

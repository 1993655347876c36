//! Warnings of what is said of versions of HTTP and does not happen, mostly as in Istio, which says nothing; and calls of gRPC
//! that are sent where none can arrive.

use crate::config::{self, H2Upgrade, Location, PortProtocol, ServicePort, UpstreamProtocol};
use crate::policy::lint::problems::Problems;
use crate::policy::service::{PayloadKind, Service};
use crate::policy::table::cluster::{Cluster, ClusterProtocol};

/// Of a service whose servers are spoken to in `protocol`.
pub(in crate::policy) fn of_version(
    service: &Service<'_>,
    protocol: ClusterProtocol,
    payload: PayloadKind,
    problems: &mut Problems,
) {
    if !matches!(payload, PayloadKind::Http1 | PayloadKind::Http2) {
        return;
    }
    let port = service.port;
    if port.protocol == PortProtocol::GrpcWeb {
        let message = format!(
            "port {} is declared GRPC-WEB: Istio translates gRPC-Web into gRPC there, and here it passes as it is; the server \
             must understand it",
            port.number
        );
        problems.warn(&port.at, message);
    }
    let Some((rule, _)) = service.rule else { return };
    let messages = [of_upgrade(service), of_streams(service, protocol), of_choice(service, protocol)];
    messages.into_iter().flatten().for_each(|message| problems.warn(&rule.meta.at, message));
}

/// An upgrade to HTTP/2 that does not happen.
fn of_upgrade(service: &Service<'_>) -> Option<String> {
    let pool = service.policy.and_then(|policy| policy.connection_pool.as_ref());
    let pool = pool.filter(|pool| pool.h2_upgrade == Some(H2Upgrade::Upgrade))?;
    let ServicePort { number, protocol, .. } = service.port;
    match protocol {
        PortProtocol::Auto => Some(format!(
            "h2UpgradePolicy UPGRADE has no effect on port {number}, which has no protocol: its servers are spoken to as the \
             application speaks; declare the port HTTP or HTTP2"
        )),
        _ if pool.use_client_protocol => Some(format!(
            "h2UpgradePolicy UPGRADE has no effect on port {number} beside useClientProtocol: leave one of them out"
        )),
        _ => None,
    }
}

/// Settings of HTTP/2 where it is not spoken, or only when the application speaks it. A policy for all ports is about those of
/// HTTP/2 among them.
fn of_streams(service: &Service<'_>, protocol: ClusterProtocol) -> Option<String> {
    let pool = service.policy.and_then(|policy| policy.connection_pool.as_ref())?;
    let fields = [
        ("maxConcurrentStreams", pool.max_concurrent_streams.is_some()),
        ("http2KeepAlive", pool.http2_keepalive.is_some()),
    ];
    let (field, _) = fields.into_iter().find(|(_, is_set)| *is_set)?;
    let traffic = service.rule.and_then(|(rule, _)| rule.traffic_policy.as_ref())?;
    let port = service.port.number;
    let is_own = traffic.ports.iter().any(|(number, _)| *number == port);
    if !is_own && service.entry.ports.iter().any(|port| port.protocol.is_http2()) {
        return None;
    }
    match protocol {
        ClusterProtocol::Http1 => Some(format!(
            "connectionPool.http.{field} has no effect on port {port}, whose servers are spoken to in HTTP/1.1: declare the \
             port HTTP2, or set h2UpgradePolicy: UPGRADE"
        )),
        ClusterProtocol::SameAsClient => Some(format!(
            "Istio ignores connectionPool.http.{field} on port {port}, whose servers are spoken to as the application speaks; \
             here it holds while that is HTTP/2"
        )),
        ClusterProtocol::Http2 | ClusterProtocol::Negotiated | ClusterProtocol::Opaque => None,
    }
}

/// A rule by which the server is to choose, and cannot.
fn of_choice(service: &Service<'_>, protocol: ClusterProtocol) -> Option<String> {
    let (rule, _) = service.rule?;
    if rule.upstream_protocol != Some(UpstreamProtocol::Auto) {
        return None;
    }
    let number = service.port.number;
    let why = match protocol {
        ClusterProtocol::SameAsClient => "its servers are spoken to as the application speaks",
        ClusterProtocol::Http1 if service.originates_tls() => "h2UpgradePolicy is DO_NOT_UPGRADE",
        ClusterProtocol::Http1 => "servers choose in the handshake of TLS, and no tls block makes one there",
        ClusterProtocol::Http2 | ClusterProtocol::Negotiated | ClusterProtocol::Opaque => return None,
    };
    Some(format!("the annotation egret/upstream-protocol AUTO has no effect on port {number}: {why}"))
}

/// Calls of gRPC, dialled at `port` of `host`, that a route sends to servers which are spoken to in HTTP/1.1: no server of
/// gRPC understands it, and what proxies make of it has no status.
pub(in crate::policy) fn of_calls(
    to: &config::Destination,
    (host, port): (&str, u16),
    cluster: &Cluster,
    problems: &mut Problems,
) {
    if cluster.protocol == ClusterProtocol::Http1 {
        let at: &Location = &to.at;
        let (number, of) = (cluster.origin.port, &cluster.host);
        let message = format!(
            "no call of gRPC can arrive: port {port} of {host} is declared GRPC, and this route sends its calls to port {number} of \
             {of} in HTTP/1.1, since {}; set connectionPool.http.h2UpgradePolicy: UPGRADE in portLevelSettings for port {number} of \
             a DestinationRule for {of}",
            cluster.why_spoken()
        );
        problems.error(at, message);
    }
}

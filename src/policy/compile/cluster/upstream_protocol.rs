//! Which version of HTTP the servers of a port are spoken to in: Istio's order (`setUpstreamProtocol`, `setH2Options`,
//! `useClientProtocol` in its traffic policy).

use crate::config::{ConnectionPool, H2Upgrade, PortProtocol};
use crate::policy::service::{PayloadKind, Service};
use crate::policy::table::cluster::ClusterProtocol;

/// What is spoken to the servers of a service that carries requests, and what is offered to them.
pub(in crate::policy) fn of(service: &Service<'_>) -> (ClusterProtocol, PayloadKind) {
    spoken(service.port.protocol, service.policy.and_then(|policy| policy.connection_pool.as_ref()))
}

fn spoken(declared: PortProtocol, pool: Option<&ConnectionPool>) -> (ClusterProtocol, PayloadKind) {
    let is_declared = matches!(declared, PortProtocol::Http2 | PortProtocol::Grpc | PortProtocol::GrpcWeb);
    let asks_for = |wanted| pool.is_some_and(|pool| pool.h2_upgrade == Some(wanted));
    if declared == PortProtocol::Auto || pool.is_some_and(|pool| pool.use_client_protocol) {
        // A port without a protocol is spoken to as the application speaks before its policy is looked at.
        (ClusterProtocol::SameAsClient, PayloadKind::Http1)
    } else if is_declared || asks_for(H2Upgrade::Upgrade) {
        (ClusterProtocol::Http2, PayloadKind::Http2)
    } else {
        (ClusterProtocol::Http1, PayloadKind::Http1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_version_is_spoken() {
        use ClusterProtocol::{Http1, Http2, SameAsClient};
        use PortProtocol::{Auto, Grpc, GrpcWeb, Http};
        let (up, down) = (Some(H2Upgrade::Upgrade), Some(H2Upgrade::DoNotUpgrade));
        for (declared, h2_upgrade, use_client_protocol, expected) in [
            (Http, None, false, Http1),
            (Http, down, false, Http1),
            (Http, up, false, Http2),
            (Http, None, true, SameAsClient),
            (Http, up, true, SameAsClient),
            (PortProtocol::Http2, None, false, Http2),
            (PortProtocol::Http2, down, false, Http2),
            (PortProtocol::Http2, None, true, SameAsClient),
            (Grpc, None, false, Http2),
            (Grpc, down, false, Http2),
            (GrpcWeb, None, false, Http2),
            (Auto, None, false, SameAsClient),
            (Auto, up, false, SameAsClient),
        ] {
            let pool = ConnectionPool { h2_upgrade, use_client_protocol, ..ConnectionPool::default() };
            let (protocol, payload) = spoken(declared, Some(&pool));
            assert_eq!(protocol, expected, "{declared:?} {h2_upgrade:?} {use_client_protocol}");
            assert_eq!(
                payload == PayloadKind::Http2,
                expected == Http2,
                "{declared:?} {h2_upgrade:?} {use_client_protocol}"
            );
        }
        assert_eq!(spoken(Http, None).0, Http1);
    }
}

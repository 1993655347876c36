//! Which version of HTTP the servers of a port are spoken to in: Istio's order (`setUpstreamProtocol`, `setH2Options`,
//! `useClientProtocol` in its traffic policy).

use crate::config::{ConnectionPool, H2Upgrade, PortProtocol};
use crate::policy::origination::Carries;
use crate::policy::table::ClusterProtocol;

/// What is spoken to the servers of a port of requests, and what is offered to them.
pub(super) fn spoken(declared: PortProtocol, pool: Option<&ConnectionPool>) -> (ClusterProtocol, Carries) {
    let is_declared = matches!(declared, PortProtocol::Http2 | PortProtocol::Grpc | PortProtocol::GrpcWeb);
    let asks_for = |wanted| pool.is_some_and(|pool| pool.h2_upgrade == Some(wanted));
    if declared == PortProtocol::Auto || pool.is_some_and(|pool| pool.use_client_protocol) {
        // A port without a protocol is spoken to as the application speaks before its policy is looked at.
        (ClusterProtocol::SameAsClient, Carries::Http1)
    } else if is_declared || asks_for(H2Upgrade::Upgrade) {
        (ClusterProtocol::Http2, Carries::Http2)
    } else {
        (ClusterProtocol::Http1, Carries::Http1)
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
            let (protocol, carries) = spoken(declared, Some(&pool));
            assert_eq!(protocol, expected, "{declared:?} {h2_upgrade:?} {use_client_protocol}");
            assert_eq!(
                carries == Carries::Http2,
                expected == Http2,
                "{declared:?} {h2_upgrade:?} {use_client_protocol}"
            );
        }
        assert_eq!(spoken(Http, None).0, Http1);
    }
}

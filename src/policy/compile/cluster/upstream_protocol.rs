//! Which version of HTTP the servers of a port are spoken to in: Istio's order (`setUpstreamProtocol`, `setH2Options`,
//! `useClientProtocol` in its traffic policy), and what the server chooses where that is asked for.

use crate::config::{ConnectionPool, H2Upgrade, PortProtocol, Settings, UpstreamProtocol};
use crate::policy::service::{PayloadKind, Service};
use crate::policy::table::cluster::ClusterProtocol;

/// What is spoken to the servers of a service that carries requests, and what is offered to them.
pub(in crate::policy) fn of(service: &Service<'_>, settings: &Settings) -> (ClusterProtocol, PayloadKind) {
    let policy = service.policy;
    let asked = VersionWishes {
        may_choose: service.originates_tls() && chooses(service, settings),
        mesh: settings.h2_upgrade_policy,
    };
    spoken(service.port.protocol, policy.and_then(|policy| policy.connection_pool.as_ref()), asked)
}

/// Whether the server is to choose, where nothing says what is spoken: the rule's word holds before the Settings'.
pub(in crate::policy) fn chooses(service: &Service<'_>, settings: &Settings) -> bool {
    let annotated = service.rule.and_then(|(rule, _)| rule.upstream_protocol);
    annotated.unwrap_or(settings.upstream_protocol) == UpstreamProtocol::Auto
}

/// What is asked for beside the port and its policy.
#[derive(Clone, Copy)]
struct VersionWishes {
    /// The server may choose.
    may_choose: bool,
    /// `h2UpgradePolicy` of the mesh.
    mesh: H2Upgrade,
}

fn spoken(
    declared: PortProtocol,
    pool: Option<&ConnectionPool>,
    asked: VersionWishes,
) -> (ClusterProtocol, PayloadKind) {
    let upgrade = pool.and_then(|pool| pool.h2_upgrade);
    // The mesh's word is about ports that are declared HTTP; a rule's about whatever port it holds for.
    let by_mesh = (declared == PortProtocol::Http).then_some(asked.mesh);
    if declared == PortProtocol::Auto || pool.is_some_and(|pool| pool.use_client_protocol) {
        // A port without a protocol is spoken to as the application speaks before its policy is looked at.
        (ClusterProtocol::SameAsClient, PayloadKind::Http1)
    } else if declared.is_http2() || upgrade.or(by_mesh) == Some(H2Upgrade::Upgrade) {
        (ClusterProtocol::Http2, PayloadKind::Http2)
    } else if asked.may_choose && upgrade.is_none() {
        (ClusterProtocol::Negotiated, PayloadKind::Http1)
    } else {
        (ClusterProtocol::Http1, PayloadKind::Http1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UP: Option<H2Upgrade> = Some(H2Upgrade::Upgrade);
    const DOWN: Option<H2Upgrade> = Some(H2Upgrade::DoNotUpgrade);

    fn found(
        declared: PortProtocol,
        h2_upgrade: Option<H2Upgrade>,
        use_client_protocol: bool,
        asked: VersionWishes,
    ) -> ClusterProtocol {
        let pool = ConnectionPool { h2_upgrade, use_client_protocol, ..ConnectionPool::default() };
        let (protocol, payload) = spoken(declared, Some(&pool), asked);
        let is_http2 = protocol == ClusterProtocol::Http2;
        assert_eq!(payload == PayloadKind::Http2, is_http2, "{declared:?} {h2_upgrade:?} {use_client_protocol}");
        protocol
    }

    #[test]
    fn which_version_is_spoken() {
        use ClusterProtocol::{Http1, Http2, Negotiated, SameAsClient};
        use PortProtocol::{Auto, Grpc, GrpcWeb, Http, Https};
        // By default, with the mesh's upgrade, where the server may choose.
        for (declared, h2_upgrade, use_client_protocol, expected) in [
            (Http, None, false, [Http1, Http2, Negotiated]),
            (Http, DOWN, false, [Http1, Http1, Http1]),
            (Http, UP, false, [Http2, Http2, Http2]),
            (Http, None, true, [SameAsClient; 3]),
            (Http, UP, true, [SameAsClient; 3]),
            (PortProtocol::Http2, None, false, [Http2; 3]),
            (PortProtocol::Http2, DOWN, false, [Http2; 3]),
            (PortProtocol::Http2, None, true, [SameAsClient; 3]),
            (Grpc, None, false, [Http2; 3]),
            (Grpc, DOWN, false, [Http2; 3]),
            (GrpcWeb, None, false, [Http2; 3]),
            (Auto, None, false, [SameAsClient; 3]),
            (Auto, UP, false, [SameAsClient; 3]),
            // Where a route leads requests.
            (Https, None, false, [Http1, Http1, Negotiated]),
            (Https, UP, false, [Http2; 3]),
            (Https, DOWN, false, [Http1; 3]),
        ] {
            let ways = [(false, H2Upgrade::DoNotUpgrade), (false, H2Upgrade::Upgrade), (true, H2Upgrade::DoNotUpgrade)];
            for ((may_choose, mesh), expected) in ways.into_iter().zip(expected) {
                let got = found(declared, h2_upgrade, use_client_protocol, VersionWishes { may_choose, mesh });
                assert_eq!(got, expected, "{declared:?} {h2_upgrade:?} {use_client_protocol} {may_choose} {mesh:?}");
            }
        }
        assert_eq!(spoken(Http, None, VersionWishes { may_choose: false, mesh: H2Upgrade::DoNotUpgrade }).0, Http1);
        // Both: what the operator of the mesh decided is no question to the server any more.
        let both = VersionWishes { may_choose: true, mesh: H2Upgrade::Upgrade };
        assert_eq!(spoken(Http, None, both).0, Http2);
    }
}

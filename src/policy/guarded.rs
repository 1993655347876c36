//! The ports at which bytes that nobody can read must not pass: where requests leave as TLS, or are judged.
//!
//! Counted once a table, so that a connection which is neither HTTP nor TLS costs one look-up however large the policy is.

use std::collections::HashSet;
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::flow::OriginalDst;
use crate::policy::decide::{PolicyTable, Unread};
use crate::policy::http_routes::HttpServices;
use crate::policy::table::{Cluster, ClusterProtocol, Decision, Transport};

#[derive(Debug, Default)]
pub(super) struct Guarded {
    /// Some entry's cluster on the port is not plaintext.
    originating: HashSet<u16, RandomState>,
    /// Some entry's requests on the port are judged.
    judging: HashSet<u16, RandomState>,
    /// Some route leads to TLS: requests to any port that an entry has may take it.
    routed: bool,
}

impl Guarded {
    pub(super) fn of(clusters: &[Arc<Cluster>], services: &HttpServices) -> Self {
        let ports = |which: fn(&Cluster) -> bool| {
            clusters.iter().filter(|cluster| which(cluster)).map(|cluster| cluster.origin.port).collect()
        };
        Self {
            originating: ports(|cluster| !matches!(cluster.transport, Transport::Plaintext)),
            judging: ports(|cluster| {
                cluster.protocol != ClusterProtocol::Opaque
                    && cluster.authorization.as_ref().is_some_and(|all| all.forbids_something())
            }),
            routed: services.originate_tls(),
        }
    }
}

impl PolicyTable {
    /// Whether requests to this port may have to leave as TLS: bytes whose host cannot be read must then not pass.
    pub fn originates_tls(&self, dst: OriginalDst) -> bool {
        self.guarded.originating.contains(&dst.port()) || (self.guarded.routed && self.ports.contains_key(&dst.port()))
    }

    /// Whether requests to this port are judged by the entry of their host: what cannot be read must then not pass.
    pub fn judges_requests(&self, dst: OriginalDst) -> bool {
        self.guarded.judging.contains(&dst.port())
    }

    /// Why bytes that are not read must not pass to where they were going, in one word for the access log: requests to
    /// this port must leave as TLS, or are judged, and it may be one from an HTTP client that connects early and speaks
    /// late, one in HTTP/2, or one that is written so that only its server takes it for one.
    pub fn must_be_read(&self, dst: OriginalDst) -> Option<&'static str> {
        if !matches!(self.opaque(dst, Unread::Unseen), Decision::Passthrough) {
            return None;
        }
        if self.originates_tls(dst) {
            return Some("neither_http1_nor_tls_on_a_port_with_tls_origination");
        }
        let judged = self.judges_requests(dst);
        judged.then_some("neither_http1_nor_tls_on_a_port_with_authorization_policies")
    }
}

#[cfg(test)]
mod tests {
    use crate::config::PortProtocol::{Http, Https};
    use crate::config::Resolution::Dns;
    use crate::config::{AuthorizationAction, AuthorizationPolicy, AuthorizationScope, Resources};
    use crate::policy::fixture::{compiled, dst, entry, meta, rule};

    #[test]
    fn ports_are_guarded_one_by_one() {
        let mut resources = Resources {
            service_entries: vec![
                entry(&["secure.test"], &[], Dns).with_port(80, Http),
                entry(&["plain.test"], &[], Dns).with_port(81, Http).with_port(443, Https),
            ],
            destination_rules: vec![rule("r", "secure.test")],
            ..Resources::default()
        };
        let asked = |resources: &Resources| {
            let table = compiled(resources).0;
            [80, 81, 443, 9].map(|port| table.must_be_read(dst(&format!("9.9.9.9:{port}"))))
        };
        let tls = Some("neither_http1_nor_tls_on_a_port_with_tls_origination");
        let judged = Some("neither_http1_nor_tls_on_a_port_with_authorization_policies");
        assert_eq!(asked(&resources), [tls, None, None, None]);
        resources.authorization_policies.push(AuthorizationPolicy {
            meta: meta("p"),
            scope: AuthorizationScope::Workloads(None),
            action: AuthorizationAction::Deny,
            rules: Vec::new(),
            dry_run: false,
        });
        // The application's own TLS is judged by its SNI, where there is one to read.
        assert_eq!(asked(&resources), [tls, judged, None, None]);
    }
}

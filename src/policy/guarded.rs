//! The destinations to which bytes that nobody can read must not pass, and those to which any bytes may pass unread.
//!
//! A request in disguise (HTTP/2 without TLS, a late or malformed one) could otherwise leave in plain text where its host's
//! requests leave as TLS, or past the policies that judge them. Its host cannot be read, so that it is told by where it
//! goes: an application that means a host dials an address of that host. Where the addresses of such a host cannot be
//! known (a wildcard, resolution NONE or DYNAMIC_DNS, a name that has no address yet), it may be anywhere.
//!
//! The places are gathered once a table. Asking compares an address with those of the hosts of one port.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use foldhash::fast::RandomState;
use ipnet::IpNet;

use crate::config::{ConnectPolicy, EndpointAddress, HostPattern, OutboundPolicy};
use crate::flow::{Hostname, OriginalDst};
use crate::policy::authorization::{Facts, Sni};
use crate::policy::compile::Materials;
use crate::policy::decide::{PolicyTable, Unread};
use crate::policy::http_routes::HttpServices;
use crate::policy::publish::Addresses;
use crate::policy::table::{Cluster, ClusterProtocol, Decision, Endpoints, Transport};

#[derive(Debug, Default)]
pub(super) struct Guarded {
    ports: HashMap<u16, PortGuard, RandomState>,
    /// Of the hosts whose routes lead to TLS: requests to any port that an entry has may take them.
    routed: Places,
}

#[derive(Debug, Default)]
struct PortGuard {
    /// Of the hosts whose connections leave as TLS.
    originating: Places,
    /// Of the hosts whose requests are judged.
    judging: Places,
}

/// Where connections of some hosts may be going.
#[derive(Debug, Default)]
struct Places {
    /// Nobody knows.
    anywhere: bool,
    ranges: Vec<IpNet>,
    names: Vec<Named>,
}

/// The addresses that a host's name has, and had until a while ago: applications keep to them.
#[derive(Debug)]
struct Named {
    addresses: Addresses,
    /// Without any it may be anywhere. Not so where the entry's endpoints are addresses: its name may be made up.
    must_resolve: bool,
}

impl Places {
    fn may_hold(&self, ip: IpAddr) -> bool {
        self.anywhere
            || self.ranges.iter().any(|range| range.contains(&ip))
            || self.names.iter().any(|name| {
                let now = name.addresses.load();
                now.contains(&ip) || name.must_resolve && now.is_empty()
            })
    }

    fn add_name(&mut self, name: &Hostname, must_resolve: bool, materials: &mut dyn Materials) {
        self.names.push(Named { addresses: materials.bound_addresses(name), must_resolve });
    }

    fn add_cluster(&mut self, cluster: &Cluster, materials: &mut dyn Materials) {
        self.ranges.extend(&cluster.listed);
        if is_found_by_address(cluster) {
            return;
        }
        let Endpoints::Resolved(sources) = &cluster.endpoints else {
            self.anywhere = true;
            return;
        };
        let ips = sources.iter().filter_map(|source| match source.configured {
            EndpointAddress::Ip(ip) => Some(IpNet::from(ip)),
            EndpointAddress::Name(_) | EndpointAddress::Unix(_) => None,
        });
        let before = self.ranges.len();
        self.ranges.extend(ips);
        let is_fixed = !sources.is_empty() && self.ranges.len() - before == sources.len();
        // A wildcard is no host name.
        match Hostname::new(&cluster.host) {
            Ok(name) => self.add_name(&name, !is_fixed, materials),
            Err(_) => self.anywhere = true,
        }
    }
}

/// Whether no name leads to the cluster: its connections are those to the addresses that its entry lists.
fn is_found_by_address(cluster: &Cluster) -> bool {
    let is_single = |range: &IpNet| range.prefix_len() == range.max_prefix_len();
    !cluster.listed.is_empty()
        && !matches!(cluster.endpoints, Endpoints::Resolved(_))
        && match cluster.protocol {
            ClusterProtocol::Opaque => true,
            ClusterProtocol::SameAsClient => cluster.listed.iter().all(is_single),
            ClusterProtocol::Http1 | ClusterProtocol::Http2 => false,
        }
}

impl Guarded {
    pub(super) fn of(clusters: &[Arc<Cluster>], services: &HttpServices, materials: &mut dyn Materials) -> Self {
        let mut all = Self::default();
        for cluster in clusters {
            let originates = !matches!(cluster.transport, Transport::Plaintext);
            let judges = cluster.protocol != ClusterProtocol::Opaque
                && cluster.authorization.as_ref().is_some_and(|all| all.forbids_something());
            if originates {
                all.port(cluster.origin.port).originating.add_cluster(cluster, materials);
            }
            if judges {
                all.port(cluster.origin.port).judging.add_cluster(cluster, materials);
            }
        }
        all.add_routed(clusters, services, materials);
        all
    }

    fn add_routed(&mut self, clusters: &[Arc<Cluster>], services: &HttpServices, materials: &mut dyn Materials) {
        let mut names = HashSet::new();
        for host in services.hosts_with_tls() {
            match host {
                HostPattern::Exact(name) => {
                    self.routed.add_name(&name, true, materials);
                    names.insert(name.to_string());
                }
                HostPattern::Wildcard(_) | HostPattern::Any => self.routed.anywhere = true,
            }
        }
        let of_routed = clusters.iter().filter(|cluster| names.contains(&cluster.host));
        self.routed.ranges.extend(of_routed.flat_map(|cluster| &cluster.listed));
    }

    fn port(&mut self, number: u16) -> &mut PortGuard {
        self.ports.entry(number).or_default()
    }
}

impl PolicyTable {
    /// Whether what is dialled as `dst` may be a host's whose connections leave as TLS.
    pub fn originates_tls(&self, dst: OriginalDst) -> bool {
        let of_port = self.guarded.ports.get(&dst.port());
        of_port.is_some_and(|port| port.originating.may_hold(dst.ip()))
            || (self.ports.contains_key(&dst.port()) && self.guarded.routed.may_hold(dst.ip()))
    }

    /// Whether what is dialled as `dst` may be a host's whose requests are judged.
    pub fn judges_requests(&self, dst: OriginalDst) -> bool {
        self.guarded.ports.get(&dst.port()).is_some_and(|port| port.judging.may_hold(dst.ip()))
    }

    /// Why bytes that are not read must not pass to where they were going, in one word for the access log: requests to a
    /// host there must leave as TLS, or are judged, and it may be one from an HTTP client that connects early and speaks
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

    /// Whether a connection that no entry has passes whatever it says, so that nobody need wait for its first byte. Its
    /// bytes are needed where they could change that: names to be looked up (`ALLOW_ANY_DYNAMIC_DNS`), tunnels to be
    /// judged (`connectPolicy: REGISTRY_ONLY`), AuthorizationPolicies with a condition that is not fulfilled or failed by
    /// address and port alone, and hosts of this port whose requests leave as TLS, or are judged.
    pub fn passes_unread(&self, dst: OriginalDst) -> bool {
        let facts = Facts { destination: dst, sni: Sni::Unread, request: None };
        self.settings.outbound_traffic_policy == OutboundPolicy::AllowAny
            && self.settings.connect_policy == ConnectPolicy::Deny
            && self.elsewhere.as_ref().is_none_or(|all| all.allows_whatever_follows(&facts))
            && !self.originates_tls(dst)
            && !self.judges_requests(dst)
    }
}

#[cfg(test)]
mod tests {
    use crate::config::PortProtocol::{Http, Https};
    use crate::config::Resolution::Dns;
    use crate::config::{AuthorizationAction, AuthorizationPolicy, AuthorizationScope, Resources};
    use crate::policy::tests::fixture::{compiled, dst, entry, meta, rule};

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

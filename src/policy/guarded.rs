//! The destinations to which bytes that nobody can read must not pass, and those to which any bytes may pass unread.
//!
//! A request in disguise (HTTP/2 without TLS, a late or malformed one) could otherwise leave in plain text where its host's
//! requests leave as TLS, or past the policies that judge them. Its host cannot be read, so that it is told by where it
//! goes: an application that means a host dials an address of that host. Where the addresses of such a host cannot be
//! known (a wildcard, resolution NONE or DYNAMIC_DNS, a name that has no address yet, or one whose answers change, so that
//! an application may have been given an address that egret was not), it may be anywhere.
//!
//! The places are gathered once a table. Asking compares an address with those of the hosts of one port.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use foldhash::fast::RandomState;
use ipnet::IpNet;

use crate::config::{EndpointAddress, HostPattern};
use crate::flow::{Hostname, OriginalDst};
use crate::policy::http_routes::HttpServices;
use crate::policy::materials::{AskedFamilies, Materials};
use crate::policy::publish::Addresses;
use crate::policy::table::{Cluster, ClusterProtocol, Endpoints, Transport};

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
    now: Addresses,
    recent: Addresses,
    /// Without any it may be anywhere. Not so where the entry's endpoints are addresses: its name may be made up.
    must_resolve: bool,
    families: AskedFamilies,
}

impl Named {
    fn may_hold(&self, ip: IpAddr) -> bool {
        let (now, recent) = (self.now.load(), self.recent.load());
        // An application may ask for a family that egret does not ask for (`options no-aaaa` binds some resolvers only).
        let is_asked = if ip.is_ipv4() { self.families.v4 } else { self.families.v6 };
        // Names of content networks get other addresses with each answer: the application's may be none of ours.
        let changes = recent.iter().any(|ip| !now.contains(ip));
        recent.contains(&ip) || now.contains(&ip) || self.must_resolve && (now.is_empty() || changes || !is_asked)
    }
}

impl Places {
    fn may_hold(&self, ip: IpAddr) -> bool {
        self.anywhere
            || self.ranges.iter().any(|range| range.contains(&ip))
            || self.names.iter().any(|name| name.may_hold(ip))
    }

    fn add_name(&mut self, name: &Hostname, must_resolve: bool, materials: &mut dyn Materials) {
        let (now, recent) = (materials.addresses(name), materials.bound_addresses(name));
        self.names.push(Named { now, recent, must_resolve, families: materials.asked_families() });
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
        let before = self.ranges.len();
        for source in sources {
            match &source.configured {
                EndpointAddress::Ip(ip) => self.ranges.push(IpNet::from(*ip)),
                EndpointAddress::Name(name) => self.add_name(name, true, materials),
                EndpointAddress::Unix(_) => {}
            }
        }
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

    /// Why unread bytes must not pass to `dst`, in one word for the access log; `is_known`: some entry has its port.
    pub(super) fn why(&self, dst: OriginalDst, is_known: bool) -> Option<&'static str> {
        let of_port = self.ports.get(&dst.port());
        let may_hold = |places: fn(&PortGuard) -> &Places| of_port.is_some_and(|port| places(port).may_hold(dst.ip()));
        if may_hold(|port| &port.originating) || is_known && self.routed.may_hold(dst.ip()) {
            return Some("neither_http1_nor_tls_on_a_port_with_tls_origination");
        }
        let is_judged = may_hold(|port| &port.judging);
        is_judged.then_some("neither_http1_nor_tls_on_a_port_with_authorization_policies")
    }

    fn port(&mut self, number: u16) -> &mut PortGuard {
        self.ports.entry(number).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PortProtocol::{Http, Https};
    use crate::config::Resolution::Dns;
    use crate::config::{AuthorizationAction, AuthorizationPolicy, AuthorizationScope, Resources};
    use crate::policy::tests::fixture::{compiled, entry, meta, rule, unreadable};

    #[test]
    fn a_name_whose_addresses_are_not_all_known_may_be_anywhere() {
        const BOTH: AskedFamilies = AskedFamilies { v4: true, v6: true };
        const V4: AskedFamilies = AskedFamilies { v4: true, v6: false };
        let list = |text: &str| Addresses::new(text.split_whitespace().map(|ip| ip.parse().unwrap()).collect());
        for (now, recent, must_resolve, families, held, not_held) in [
            ("1.1.1.1", "1.1.1.1", true, BOTH, "1.1.1.1", "9.9.9.9 2001:db8::1"),
            ("1.1.1.2 1.1.1.1", "1.1.1.1 1.1.1.2", true, BOTH, "1.1.1.1 1.1.1.2", "9.9.9.9"),
            // Another answer than a while ago: the application may have a third one.
            ("1.1.1.2", "1.1.1.1 1.1.1.2", true, BOTH, "1.1.1.1 1.1.1.2 9.9.9.9 2001:db8::1", ""),
            ("", "", true, BOTH, "9.9.9.9 2001:db8::1", ""),
            // AAAA is not asked for, but the application may do so.
            ("1.1.1.1", "1.1.1.1", true, V4, "1.1.1.1 2001:db8::1", "9.9.9.9"),
            // The addresses stand in the entry: its name need not mean anything.
            ("1.1.1.2", "1.1.1.1", false, V4, "1.1.1.1 1.1.1.2", "9.9.9.9 2001:db8::1"),
        ] {
            let name = Named { now: list(now), recent: list(recent), must_resolve, families };
            for (ips, expected) in [(held, true), (not_held, false)] {
                for ip in ips.split_whitespace() {
                    assert_eq!(name.may_hold(ip.parse().unwrap()), expected, "{ip} with {name:?}");
                }
            }
        }
    }

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
            [80, 81, 443, 9].map(|port| unreadable(&table, &format!("9.9.9.9:{port}")).map(str::to_owned))
        };
        let why = |words: &str| Some(format!("neither_http1_nor_tls_on_a_port_with_{words}"));
        let (tls, judged) = (why("tls_origination"), why("authorization_policies"));
        assert_eq!(asked(&resources), [tls.clone(), None, None, None]);
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

//! Gathers the places of hosts whose requests leave as TLS or are judged (`table/must_sniff.rs`), once a table.

use std::collections::HashSet;
use std::sync::Arc;

use ipnet::IpNet;

use crate::config::{EndpointAddress, HostPattern};
use crate::flow::Hostname;
use crate::policy::compile::materials::Materials;
use crate::policy::table::cluster::{Cluster, ClusterProtocol, Endpoints, Transport};
use crate::policy::table::http_routes::HttpServices;
use crate::policy::table::must_sniff::{MustSniff, Named, Places, PortGuard};

impl MustSniff {
    pub(in crate::policy) fn of(
        clusters: &[Arc<Cluster>],
        services: &HttpServices,
        materials: &mut dyn Materials,
    ) -> Self {
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
                HostPattern::Wildcard(_) | HostPattern::PartialWildcard(_) | HostPattern::Any => {
                    self.routed.anywhere = true;
                }
            }
        }
        let of_routed = clusters.iter().filter(|cluster| names.contains(&cluster.host));
        self.routed.ranges.extend(of_routed.flat_map(|cluster| &cluster.listed));
    }

    fn port(&mut self, number: u16) -> &mut PortGuard {
        self.ports.entry(number).or_default()
    }
}

impl Places {
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
            ClusterProtocol::Http1 | ClusterProtocol::Http2 | ClusterProtocol::Negotiated => false,
        }
}

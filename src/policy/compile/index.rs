//! What compiling looks for again and again, found without going over everything: ServiceEntries by host, VirtualServices
//! with routes for bytes by the hosts that they speak of, and the clusters that were made before, by name. With some
//! thousands of each it is the difference between a moment and a minute.
//!
//! It knows nothing of what is made of the answers.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::{HostPattern, ServiceEntry, VirtualService};
use crate::flow::Hostname;
use crate::policy::compile::select::names::qualified_pattern;
use crate::policy::compile::select::scope::{Workload, oldest_first};
use crate::policy::table::cluster::{Cluster, ClusterProtocol};
use crate::policy::table::host_map::HostMap;

#[derive(Default)]
pub(in crate::policy) struct Index<'a> {
    entries: HashMap<&'a Hostname, Vec<&'a ServiceEntry>>,
    /// Oldest first.
    byte_services: Vec<&'a VirtualService>,
    /// Positions there.
    byte_hosts: HostMap<Vec<usize>>,
    /// Those that carry requests.
    of_requests: HashMap<String, Arc<Cluster>>,
    /// How many candidates were looked at, so that a test can tell what depends on the number of all others.
    #[cfg(test)]
    pub(in crate::policy) looked_at: std::cell::Cell<usize>,
}

impl<'a> Index<'a> {
    /// Both oldest first, as the workload sees them.
    pub(in crate::policy) fn new(
        entries: &[&'a ServiceEntry],
        byte_services: Vec<&'a VirtualService>,
        workload: &Workload,
    ) -> Self {
        let mut index = Self { byte_services, ..Self::default() };
        for entry in entries {
            for host in &entry.hosts {
                let HostPattern::Exact(name) = host else { continue };
                let known = index.entries.entry(name).or_default();
                // An entry may list a host twice.
                if !known.last().is_some_and(|last| std::ptr::eq(*last, *entry)) {
                    known.push(entry);
                }
            }
        }
        for (at, service) in index.byte_services.iter().enumerate() {
            for host in &service.hosts {
                let host = qualified_pattern(host, workload.namespace_of(&service.meta));
                index.byte_hosts.get_or_insert_with(&host, Vec::new).push(at);
            }
        }
        index
    }

    /// The entries that list `host` itself, oldest first.
    pub(in crate::policy) fn entries(&self, host: &Hostname) -> Vec<&'a ServiceEntry> {
        let found = self.entries.get(host).cloned().unwrap_or_default();
        self.note(found.len());
        found
    }

    /// Every VirtualService with routes for bytes, oldest first.
    pub(in crate::policy) fn byte_services(&self) -> &[&'a VirtualService] {
        &self.byte_services
    }

    /// Those of them that speak of all that `host` covers.
    pub(in crate::policy) fn byte_services_for(&self, host: &HostPattern) -> Vec<&'a VirtualService> {
        let mut found: Vec<usize> = self.byte_hosts.covering(host).flatten().copied().collect();
        self.note(found.len());
        found.sort_unstable();
        found.dedup();
        found.into_iter().map(|at| self.byte_services[at]).collect()
    }

    /// Of several clusters for requests with one name, the first is remembered.
    pub(in crate::policy) fn remember(&mut self, cluster: &Arc<Cluster>) {
        if cluster.protocol != ClusterProtocol::Opaque {
            self.of_requests.entry(cluster.name.clone()).or_insert_with(|| Arc::clone(cluster));
        }
    }

    pub(in crate::policy) fn cluster_of_requests(&self, name: &str) -> Option<Arc<Cluster>> {
        self.note(1);
        self.of_requests.get(name).cloned()
    }

    #[cfg(test)]
    fn note(&self, candidates: usize) {
        self.looked_at.set(self.looked_at.get() + candidates);
    }

    #[cfg(not(test))]
    #[allow(clippy::unused_self, reason = "only tests count")]
    fn note(&self, _: usize) {}
}

/// The VirtualServices with routes for bytes that the workload sees, oldest first.
pub(in crate::policy) fn byte_services<'a>(
    services: &'a [VirtualService],
    workload: &Workload,
) -> Vec<&'a VirtualService> {
    let mut seen = oldest_first(services, |service| &service.meta);
    seen.retain(|service| {
        let has_routes = !service.tls.is_empty() || !service.tcp.is_empty();
        has_routes && workload.sees(workload.namespace_of(&service.meta), &service.export_to)
    });
    seen
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{HttpAction, Resources, load_text};
    use crate::policy::compile::compiler::Compiler;
    use crate::policy::tests::fixture::{Asked, name, workload};

    const ONE: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: e}
spec:
  hosts: [a.example]
  resolution: DNS
  ports: [{number: 80, name: http, protocol: HTTP}, {number: 443, name: tls, protocol: TLS}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v}
spec:
  hosts: [a.example]
  http: [{route: [{destination: {host: b.example}}]}]
  tls: [{match: [{sniHosts: [a.example]}], route: [{destination: {host: b.example}}]}]
";

    /// So many hosts, each with routes for its requests and for its TLS to the next one.
    fn routed(hosts: usize) -> Resources {
        let one = load_text(Path::new("one.yaml"), ONE.trim_start()).resources;
        let host = |number: usize| name(&format!("h{}.example", number % hosts));
        let mut all = Resources::default();
        for number in 0..hosts {
            let (mut entry, mut service) = (one.service_entries[0].clone(), one.virtual_services[0].clone());
            let next = host(number + 1);
            entry.hosts = vec![HostPattern::Exact(host(number))];
            service.hosts.clone_from(&entry.hosts);
            let HttpAction::Forward(to) = &mut service.http[0].action else { panic!("a route that forwards") };
            to[0].host = next.clone();
            service.tls[0].matches[0].sni_hosts.clone_from(&entry.hosts);
            service.tls[0].destinations[0].host = next;
            all.service_entries.push(entry);
            all.virtual_services.push(service);
        }
        all
    }

    #[test]
    fn compiling_looks_at_each_thing_a_few_times_however_many_there_are() {
        let looked_at = |hosts| {
            let resources = routed(hosts);
            let (workload, mut materials) = (workload("shop", "app=a"), Asked::default());
            let compiler = Compiler::of(&resources, &workload, &mut materials);
            let weighted_routes = compiler.table.weighted_routes.len();
            assert!(
                weighted_routes == hosts && compiler.table.services.services.len() == hosts,
                "{weighted_routes} routes"
            );
            // Two ports each, and each port once more for routes that lead there.
            assert_eq!(compiler.table.clusters.len(), hosts * 4);
            compiler.index.looked_at.get()
        };
        let few = looked_at(100);
        assert!(few <= 100 * 10, "{few}");
        assert_eq!(looked_at(6_000), few * 60);
    }
}

//! The cluster of each destination of a route. One is made where no flow reaches it by itself: a subset, or a port that
//! applications reach with TLS of their own and routes with plain HTTP.

use std::sync::Arc;

use crate::config::{self, HeaderChanges, HostPattern, PortProtocol, ServiceEntry, Subset, TrafficPolicy};
use crate::flow::Hostname;
use crate::http::FieldEdits;
use crate::policy::compile::cluster::upstream_protocol;
use crate::policy::compile::compiler::Compiler;
use crate::policy::compile::select::names::qualified;
use crate::policy::lint;
use crate::policy::service::{PayloadKind, Service};
use crate::policy::table::cluster::{Cluster, ClusterProtocol};
use crate::policy::table::http_routes::{Clusters, Destination, Formats};
use crate::policy::table::listener_matches::PortMatches;

/// Of routes that change no fields.
pub(in crate::policy) const NO_CHANGES: (&HeaderChanges, &HeaderChanges) = {
    const NONE: &HeaderChanges =
        &HeaderChanges { set: Vec::new(), add: Vec::new(), remove: Vec::new(), formatted: Vec::new() };
    (NONE, NONE)
};

/// What a route sends to its destinations.
#[derive(Clone, Copy, Debug)]
pub(in crate::policy) enum Carried {
    Requests,
    /// Copies of requests.
    Copies,
    Bytes {
        /// Whether they are the application's TLS.
        payload: PayloadKind,
        /// The port that was dialled.
        port: u16,
    },
}

impl Carried {
    fn port(self) -> Option<u16> {
        match self {
            Carried::Requests | Carried::Copies => None,
            Carried::Bytes { port, .. } => Some(port),
        }
    }
}

impl<'a> Compiler<'a> {
    /// `changes` are the route's own, of requests and of responses; `namespace` is the route's.
    pub(in crate::policy) fn destination(
        &mut self,
        to: &'a config::Destination,
        changes: (&HeaderChanges, &HeaderChanges),
        carried: Carried,
        namespace: &str,
    ) -> Destination {
        let host = qualified(&to.host, namespace);
        let entries = self.index.entries(&host);
        let ports: Vec<u16> = entries.iter().flat_map(|entry| &entry.ports).map(|port| port.number).collect();
        let only = ports.first().filter(|first| ports.iter().all(|port| port == *first)).copied();
        // Requests are dialled where requests are read.
        let reads = |port: &u16| self.table.ports.get(port).is_some_and(PortMatches::reads_requests);
        let dialled: Vec<u16> = match carried {
            Carried::Requests | Carried::Copies => ports.iter().copied().filter(reads).collect(),
            Carried::Bytes { .. } => ports.clone(),
        };
        let mut find = |port: u16| {
            let entry = entries.iter().find(|entry| entry.ports.iter().any(|own| own.number == port))?;
            self.destination_cluster(entry, port, (&host, to.subset.as_deref()), carried)
        };
        let port = to.port.or(only).or(carried.port());
        let clusters = match port {
            Some(port) => Clusters::One(find(port)),
            None => Clusters::ByPort(dialled.iter().filter_map(|port| find(*port)).collect()),
        };
        if matches!(&clusters, Clusters::One(None)) || matches!(&clusters, Clusters::ByPort(all) if all.is_empty()) {
            let at = port.map_or(String::new(), |port| format!(" with port {port}"));
            let subset =
                to.subset.as_ref().map_or(String::new(), |name| format!(" and a DestinationRule its subset {name}"));
            let lost = match carried {
                Carried::Requests => "requests that this route sends there are answered with 503",
                Carried::Copies => "copies that this route sends there are dropped",
                Carried::Bytes { .. } => "connections that this route sends there are closed",
            };
            let message = if port.is_none() && dialled.is_empty() && !ports.is_empty() {
                format!("no port of {host} is one that requests are dialled on: {lost}; name the destination's port")
            } else {
                format!("no ServiceEntry lists {host}{at}{subset}: {lost}")
            };
            self.problems.warn_of_absence(&to.at, message);
        }
        if matches!(carried, Carried::Requests) {
            clusters.all().for_each(|cluster| lint::of_plain_requests(to, cluster, &mut self.problems));
        }
        let shown = port.map_or(String::new(), |port| port.to_string());
        Destination {
            weight: to.weight,
            name: format!("outbound|{shown}|{}|{}", to.subset.as_deref().unwrap_or(""), host),
            request: edits(changes.0, &to.request),
            response: edits(changes.1, &to.response),
            formats: Formats {
                request: [&changes.0.formatted[..], &to.request.formatted].concat(),
                response: [&changes.1.formatted[..], &to.response.formatted].concat(),
            },
            authority: to.authority.clone(),
            clusters,
        }
    }

    fn destination_cluster(
        &mut self,
        entry: &'a ServiceEntry,
        port: u16,
        (host, subset): (&Hostname, Option<&str>),
        carried: Carried,
    ) -> Option<Arc<Cluster>> {
        let port = entry.ports.iter().find(|own| own.number == port)?;
        let host = entry.hosts.iter().find(|listed| matches!(listed, HostPattern::Exact(name) if name == host))?;
        let subset_name = subset.unwrap_or("");
        let name = format!("outbound|{}|{subset_name}|{host}", port.number);
        if let Some(cluster) = self.known_cluster(&name, carried) {
            return Some(cluster);
        }
        let rule = self.rules.select(host, self.workload.namespace_of(&entry.meta), port.number);
        let (entry_of_subset, policy_of_subset);
        let (entry, policy) = if subset_name.is_empty() {
            (entry, rule.and_then(|(rule, _)| Some(rule.traffic_policy.as_ref()?.of_port(port.number))))
        } else {
            let (rule, _) = rule?;
            let subset = self.rules.subset(host, self.workload.namespace_of(&entry.meta), subset_name)?;
            entry_of_subset = with_labels(entry, subset);
            let merged = TrafficPolicy::with_subset(rule.traffic_policy.as_ref(), subset.traffic_policy.as_ref());
            policy_of_subset = merged.map(|policy| policy.of_port(port.number).clone());
            (&entry_of_subset, policy_of_subset.as_ref())
        };
        let service = Service { entry, host, port, rule, policy };
        let (protocol, content) = match (carried, port.protocol) {
            (_, PortProtocol::Udp) => return None,
            (Carried::Bytes { payload, .. }, _) => (ClusterProtocol::Opaque, payload),
            (Carried::Requests | Carried::Copies, _) => upstream_protocol::of(&service, &self.table.settings),
        };
        let cluster = self.cluster(&service, subset_name, protocol, content);
        let cluster = self.add_cluster(host, cluster);
        if let Carried::Bytes { payload, .. } = carried {
            self.carrying.insert((name, payload == PayloadKind::Tls), Arc::clone(&cluster));
        }
        Some(cluster)
    }

    /// One that was made before. Those that an entry made for bytes are not asked: they may be for the application's TLS,
    /// or for what is none, and have the same name.
    fn known_cluster(&self, name: &str, carried: Carried) -> Option<Arc<Cluster>> {
        match carried {
            Carried::Requests | Carried::Copies => self.index.cluster_of_requests(name),
            Carried::Bytes { payload, .. } => {
                self.carrying.get(&(name.to_owned(), payload == PayloadKind::Tls)).cloned()
            }
        }
    }
}

/// The entry with the endpoints that the subset chooses. One without endpoints has none with labels either.
fn with_labels(entry: &ServiceEntry, subset: &Subset) -> ServiceEntry {
    let mut entry = entry.clone();
    if !subset.labels.is_empty() && entry.resolution != config::Resolution::None {
        let chosen = |labels: &std::collections::BTreeMap<String, String>| {
            subset.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
        };
        entry.endpoints.retain(|endpoint| chosen(&endpoint.labels));
        if entry.endpoints.is_empty() {
            // The host's name would stand in for them, and the subset would be all of the service.
            entry.resolution = config::Resolution::Static;
        }
    }
    entry
}

pub(in crate::policy) fn edits(route: &HeaderChanges, destination: &HeaderChanges) -> FieldEdits {
    let both = |of: fn(&HeaderChanges) -> &Vec<(String, String)>| [&of(route)[..], of(destination)].concat();
    FieldEdits {
        remove: [&route.remove[..], &destination.remove].concat(),
        set: both(|changes| &changes.set),
        add: both(|changes| &changes.add),
    }
}

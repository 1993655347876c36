//! Ports of hosts whose requests all go elsewhere: a VirtualService speaks for the host, and none of its routes, nor of
//! another's, leads to that port.
//!
//! It knows nothing of what routes ask for, and changes no decision: it is for warnings, which must not speak of requests that
//! never are.

use std::collections::HashSet;

use crate::config::{Destination, HostPattern, HttpAction, HttpRoute, VirtualService};
use crate::flow::Hostname;
use crate::policy::compile::select::names::{qualified, qualified_pattern};
use crate::policy::compile::select::scope::Workload;
use crate::policy::table::host_map::HostMap;

#[derive(Debug, Default)]
pub(in crate::policy) struct RoutedAway {
    /// Hosts that routes speak for.
    spoken_for: HostMap<()>,
    /// What a route leads to; without a port it may be any.
    destinations: HashSet<(Hostname, Option<u16>)>,
    /// The same, of routes that name no subset.
    whole: HashSet<(Hostname, Option<u16>)>,
}

/// The routes that some request can reach: those behind one that takes everything are none.
pub(in crate::policy) fn reached(routes: &[HttpRoute]) -> &[HttpRoute] {
    let last = routes.iter().position(|route| route.matches.is_empty());
    &routes[..last.map_or(routes.len(), |last| last + 1)]
}

/// The ports that requests of a route were dialled on; `None` may be any.
fn dialled_ports(route: &HttpRoute) -> Vec<Option<u16>> {
    if route.matches.is_empty() {
        return vec![None];
    }
    route.matches.iter().filter(|one| !one.never).map(|one| one.port).collect()
}

impl RoutedAway {
    pub(in crate::policy) fn of(services: &[VirtualService], workload: &Workload) -> Self {
        let mut all = Self::default();
        for service in services.iter().filter(|service| !service.http.is_empty()) {
            let namespace = workload.namespace_of(&service.meta);
            if !workload.sees(namespace, &service.export_to) {
                continue;
            }
            for host in &service.hosts {
                all.spoken_for.get_or_insert_with(&qualified_pattern(host, namespace), || ());
            }
            for route in reached(&service.http) {
                let HttpAction::Forward(destinations) = &route.action else { continue };
                let dialled = dialled_ports(route);
                let to = |to: &Destination| -> Vec<_> {
                    let ports = if to.port.is_some() { vec![to.port] } else { dialled.clone() };
                    ports.into_iter().map(|port| (qualified(&to.host, namespace), port)).collect()
                };
                all.destinations.extend(destinations.iter().flat_map(to));
                all.whole.extend(destinations.iter().filter(|to| to.subset.is_none()).flat_map(to));
            }
        }
        all
    }

    /// Whether no request goes to this port of `host` itself.
    pub(in crate::policy) fn is(&self, host: &HostPattern, port: u16) -> bool {
        self.leads_nowhere(&self.destinations, host, port)
    }

    /// Whether no request goes to this port of `host` itself but by way of a subset.
    pub(in crate::policy) fn to_subsets(&self, host: &HostPattern, port: u16) -> bool {
        self.leads_nowhere(&self.whole, host, port)
    }

    fn leads_nowhere(&self, destinations: &HashSet<(Hostname, Option<u16>)>, host: &HostPattern, port: u16) -> bool {
        let leads = |port| match host {
            HostPattern::Exact(name) => destinations.contains(&(name.clone(), port)),
            // A destination is one host, which a wildcard does not list.
            HostPattern::Wildcard(_) | HostPattern::PartialWildcard(_) | HostPattern::Any => false,
        };
        self.spoken_for.find_covering(host).is_some() && !leads(Some(port)) && !leads(None)
    }
}

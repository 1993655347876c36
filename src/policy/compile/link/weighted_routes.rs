//! The routes for bytes that have claimed something, led to their clusters.

use crate::policy::compile::compiler::{Compiler, PendingRoute};
use crate::policy::compile::link::destinations::{Carried, NO_CHANGES};
use crate::policy::table::weighted_routes::WeightedRoute;

impl Compiler<'_> {
    /// Compiles what was claimed. Entries must have been added before.
    pub(in crate::policy) fn link_weighted_routes(&mut self) {
        for PendingRoute { route, source, own, port, payload } in std::mem::take(&mut self.pending) {
            self.used.insert(std::ptr::from_ref(route));
            let to = route.destinations.iter();
            let carried = Carried::Bytes { payload, port };
            let namespace = &source.namespace;
            let destinations = to.map(|to| self.destination(to, NO_CHANGES, carried, namespace)).collect();
            self.table.weighted_routes.push(WeightedRoute { source, own, destinations, port });
        }
        for holder in self.index.byte_services() {
            for (route, ports) in holder
                .tls
                .iter()
                .map(|route| (route, "HTTPS or TLS"))
                .chain(holder.tcp.iter().map(|route| (route, "TCP")))
            {
                let is_for_us = route.matches.is_empty()
                    || route.matches.iter().any(|one| !one.never && self.workload.matches(&one.source_labels));
                if is_for_us && !self.used.contains(&std::ptr::from_ref(route)) {
                    let message = format!(
                        "this route takes nothing: no ServiceEntry has one of the hosts with a port of protocol {ports} \
                         and an address that it asks for"
                    );
                    self.problems.warn(&route.at, message);
                }
            }
        }
    }
}

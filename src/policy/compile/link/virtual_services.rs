//! VirtualServices → the routes of requests.

use crate::config::{self, HeaderChanges, HostPattern, HttpAction, HttpMatch, PortProtocol, VirtualService};
use crate::policy::compile::compiler::Compiler;
use crate::policy::compile::link::destinations::{Carried, NO_CHANGES, edits};
use crate::policy::compile::select::names::qualified_pattern;
use crate::policy::compile::select::routed_away::reached;
use crate::policy::compile::select::scope::oldest_first;
use crate::policy::lint;
use crate::policy::table::cluster::Source;
use crate::policy::table::http_routes::{Action, Answer, Destination, HttpRoute, HttpService, Mirror};

impl<'a> Compiler<'a> {
    /// Adds the routes of `services` that the workload sees. Entries must have been added before.
    pub(in crate::policy) fn add_virtual_services(&mut self, services: &'a [VirtualService]) {
        for service in oldest_first(services, |service| &service.meta) {
            let namespace = self.workload.namespace_of(&service.meta);
            let is_for_sidecars = !service.http.is_empty() && service.delegate.is_none();
            if is_for_sidecars && self.workload.sees(namespace, &service.export_to) {
                self.add_virtual_service(service, namespace);
            }
        }
    }

    fn add_virtual_service(&mut self, service: &'a VirtualService, namespace: &str) {
        let source =
            Source { namespace: namespace.to_owned(), name: service.meta.name.clone(), at: service.meta.at.clone() };
        let id = self.table.services.services.len();
        lint::of_routes(service, &mut self.problems);
        for host in service.hosts.iter().map(|host| qualified_pattern(host, namespace)) {
            let host = &host;
            if self.hosts.contains(host) && !self.hosts_of_requests.contains(host) {
                lint::of_unseen_requests(service, &host.to_string(), &mut self.problems);
            }
            let holder = *self.table.services.by_host.get_or_insert_with(host, || id);
            if holder != id {
                let older = &self.table.services.services[holder].source;
                let message =
                    format!("{host} stays with the older VirtualService {older}: these routes do not hold for it");
                self.problems.warn(&service.meta.at, message);
            }
        }
        for ip in &service.addresses {
            let holder = *self.table.services.by_address.entry(*ip).or_insert(id);
            if holder != id {
                let older = &self.table.services.services[holder].source;
                let message =
                    format!("{ip} stays with the older VirtualService {older}: these routes do not hold for it");
                self.problems.warn(&service.meta.at, message);
            }
        }
        let called = self.called(service, namespace);
        let routes = reached(&service.http).iter();
        let routes = routes.filter_map(|route| self.route(route, &source, &called)).collect();
        self.table.services.services.push(HttpService { source, routes });
    }

    /// The ports of the hosts of `service` that calls of gRPC are dialled at.
    fn called(&self, service: &VirtualService, namespace: &str) -> Vec<(String, Vec<u16>)> {
        let hosts = service.hosts.iter().filter_map(|host| match qualified_pattern(host, namespace) {
            HostPattern::Exact(name) => Some(name),
            HostPattern::Wildcard(_) | HostPattern::PartialWildcard(_) | HostPattern::Any => None,
        });
        let called = hosts.map(|host| {
            let ports = self.index.entries(&host).into_iter().flat_map(|entry| &entry.ports);
            let ports = ports.filter(|port| port.protocol == PortProtocol::Grpc).map(|port| port.number);
            (host.to_string(), ports.collect())
        });
        called.filter(|(_, ports): &(String, Vec<u16>)| !ports.is_empty()).collect()
    }

    /// `None` for a route that is for other pods. `called`: where calls of gRPC come from.
    fn route(
        &mut self,
        route: &'a config::HttpRoute,
        source: &Source,
        called: &[(String, Vec<u16>)],
    ) -> Option<HttpRoute> {
        let mut matches = route.matches.clone();
        matches.retain(|one| {
            self.workload.matches(&one.source_labels)
                && one.source_namespace.as_ref().is_none_or(|namespace| *namespace == self.workload.namespace)
        });
        if matches.is_empty() && !route.matches.is_empty() {
            return None;
        }
        let action = match &route.action {
            HttpAction::Forward(all) => {
                let changes = (&route.request, &route.response);
                let each = all.iter().map(|to| {
                    let made = self.destination(to, changes, Carried::Requests, &source.namespace);
                    for (host, ports) in called {
                        let taken = ports.iter().filter(|port| takes(&matches, **port));
                        for (port, cluster) in taken.filter_map(|port| Some((*port, made.cluster(*port)?))) {
                            lint::of_calls(to, (host, port), cluster, &mut self.problems);
                        }
                    }
                    Destination { authority: made.authority.or_else(|| route.rewrite.authority.clone()), ..made }
                });
                Action::Forward(each.collect())
            }
            HttpAction::Redirect(redirect) => Action::Answer(Answer::Redirect(redirect.clone())),
            HttpAction::Direct { status, body } => {
                Action::Answer(Answer::Direct { status: *status, body: body.clone() })
            }
            // What could be merged has been.
            HttpAction::Delegate(_) => return None,
        };
        let mirrors = route.mirrors.iter().map(|mirror| Mirror {
            to: self.destination(&mirror.to, NO_CHANGES, Carried::Copies, &source.namespace),
            share: mirror.share,
        });
        let mirrors = mirrors.collect();
        Some(HttpRoute {
            name: route.name.clone(),
            source: source.clone(),
            action,
            timeout: route.timeout,
            retries: route.retries.clone(),
            fault: route.fault,
            rewrite: route.rewrite.clone(),
            response: edits(&route.response, &HeaderChanges::default()),
            formatted: route.response.formatted.clone(),
            mirrors,
            matches,
        })
    }
}

/// Whether requests to `port` may be among those that a route takes.
fn takes(matches: &[HttpMatch], port: u16) -> bool {
    matches.is_empty() || matches.iter().any(|one| !one.never && one.port.is_none_or(|own| own == port))
}

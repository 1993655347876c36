//! The `tls` and `tcp` routes of VirtualServices: connections that are not read, and that go elsewhere than to the
//! ServiceEntry whose address or server name they bear.
//!
//! Which of them a route takes is settled when the entry claims its matches (`routes`), as Istio settles it: on TLS
//! ports the server names of routes replace the entry's own, on other ports the first route without a condition
//! replaces the entry.

use std::sync::Arc;

use ipnet::IpNet;

use crate::config::{ByteMatch, ByteRoute, HeaderChanges, VirtualService};
use crate::policy::compile::{Compiler, Service, wanted_by};
use crate::policy::http_routes::{Destination, fallen};
use crate::policy::origination::{Carries, Wanted};
use crate::policy::routes::{Claimant, Claims, ClusterId, Speaks, SplitId};
use crate::policy::scope::{Workload, oldest_first};
use crate::policy::table::{Cluster, Source};
use crate::policy::virtual_services::Carried;

/// One compiled route.
#[derive(Debug)]
pub struct Split {
    pub source: Source,
    /// Position of the cluster whose connections these would be.
    pub(super) own: ClusterId,
    pub destinations: Vec<Destination>,
    /// The port of that cluster.
    port: u16,
}

impl Split {
    /// The destination that `dice`, any number, falls on.
    #[must_use]
    pub fn destination(&self, dice: u64) -> Option<&Destination> {
        fallen(&self.destinations, dice)
    }

    /// Where `to`, one of the destinations, leads; `None` when it does not exist.
    #[must_use]
    pub fn cluster<'s>(&self, to: &'s Destination) -> Option<&'s Arc<Cluster>> {
        to.cluster(self.port)
    }
}

/// A route that some matches are claimed for, to be compiled when all entries are known.
pub(super) struct Pending<'a> {
    route: &'a ByteRoute,
    source: Source,
    own: ClusterId,
    port: u16,
    carries: Carries,
}

/// A route that is for this pod and port, with the conditions of it that are.
type Taken<'a> = (&'a VirtualService, &'a ByteRoute, Vec<&'a ByteMatch>);

/// A route, or the entry itself, and the ranges that it takes.
type Share<'a> = (Option<(&'a VirtualService, &'a ByteRoute)>, Vec<IpNet>);

/// The ranges of an entry that a route with these subnets takes. An address of its own is a listener that no subnet
/// widens; a network is replaced by them, as in Istio.
fn within(addresses: &[IpNet], subnets: &[IpNet]) -> Vec<IpNet> {
    if subnets.is_empty() || addresses.is_empty() {
        return if subnets.is_empty() { addresses.to_vec() } else { subnets.to_vec() };
    }
    let (single, wide): (Vec<IpNet>, Vec<IpNet>) =
        addresses.iter().partition(|range| range.prefix_len() == range.max_prefix_len());
    let mut ranges = single;
    ranges.retain(|ip| subnets.iter().any(|subnet| subnet.contains(ip)));
    if !wide.is_empty() {
        ranges.extend(subnets);
    }
    ranges
}

/// The VirtualServices with routes for bytes that the workload sees, oldest first.
pub(super) fn byte_services<'a>(services: &'a [VirtualService], workload: &Workload) -> Vec<&'a VirtualService> {
    let mut seen = oldest_first(services, |service| &service.meta);
    seen.retain(|service| {
        let speaks = !service.tls.is_empty() || !service.tcp.is_empty();
        speaks && workload.sees(workload.namespace_of(&service.meta), &service.export_to)
    });
    seen
}

impl<'a> Compiler<'a> {
    /// The routes of VirtualServices for the service's host, in order.
    fn taken(&self, service: &Service<'a>, of: impl Fn(&'a VirtualService) -> &'a [ByteRoute]) -> Vec<Taken<'a>> {
        let holds = |one: &&ByteMatch| {
            !one.never
                && one.port.is_none_or(|port| port == service.port.number)
                && self.workload.matches(&one.source_labels)
                && one.source_namespace.as_ref().is_none_or(|namespace| *namespace == self.workload.namespace)
        };
        let mut taken = Vec::new();
        for holder in self.sought.byte_services_for(service.host) {
            let routes = of(holder).iter().map(|route| (holder, route, route.matches.iter().filter(holds).collect()));
            taken.extend(routes.filter(|(_, route, held): &Taken<'_>| route.matches.is_empty() || !held.is_empty()));
        }
        taken
    }

    /// What becomes of the server names of a TLS port; `None` where no route speaks of them.
    pub(super) fn claim_sni_routes(&mut self, service: &Service<'a>, own: ClusterId) -> Option<Claims> {
        let taken = self.taken(service, |holder| &holder.tls);
        if taken.is_empty() {
            return None;
        }
        let (mut claims, before) = (Claims::default(), self.pending.len());
        let places = self.places(service);
        for (holder, route, matches) in taken {
            let id = self.pend(holder, route, service, own, Carries::Tls);
            for one in matches {
                let ranges = within(&places, &one.destination_subnets);
                if ranges.is_empty() && !places.is_empty() {
                    continue;
                }
                for name in &one.sni_hosts {
                    self.routes(service).claim_sni(
                        name,
                        &ranges,
                        Claimant { cluster: own, split: Some(id) },
                        &mut claims,
                    );
                }
            }
        }
        self.forget_lost(&claims, before);
        Some(claims)
    }

    /// Who takes which addresses of a port whose bytes are not read, in order; `None` is the entry itself.
    fn shares(&self, service: &Service<'a>) -> Vec<Share<'a>> {
        let addresses = self.places(service);
        let mut shares = Vec::new();
        for (holder, route, matches) in self.taken(service, |holder| &holder.tcp) {
            if matches.is_empty() || matches.iter().any(|one| one.destination_subnets.is_empty()) {
                shares.push((Some((holder, route)), addresses));
                return shares;
            }
            let subnets: Vec<IpNet> = matches.iter().flat_map(|one| &one.destination_subnets).copied().collect();
            let ranges = within(&addresses, &subnets);
            if !ranges.is_empty() {
                shares.push((Some((holder, route)), ranges));
            }
        }
        shares.push((None, addresses));
        shares
    }

    /// The bytes of a port: to the routes that ask for some, and what is left to the entry itself.
    pub(super) fn claim_byte_routes(&mut self, service: &Service<'a>, speaks: Speaks, own: ClusterId) -> Claims {
        let (mut claims, before) = (Claims::default(), self.pending.len());
        for (route, ranges) in self.shares(service) {
            let split = route.map(|(holder, route)| self.pend(holder, route, service, own, Carries::Bytes));
            self.routes(service).claim_bytes(&ranges, speaks, Claimant { cluster: own, split }, &mut claims);
        }
        self.forget_lost(&claims, before);
        claims
    }

    /// The application's TLS on a port without a declared protocol, to where its other bytes go: TLS of ours must not
    /// be put around it. `None` where it may be taken for such bytes.
    pub(super) fn claim_detected_tls(&mut self, service: &Service<'a>, bytes: ClusterId) -> Option<Claims> {
        let own = self.table.clusters.len();
        let is_plain = wanted_by(service, Carries::Tls) == Wanted::Plaintext;
        let mut shares = self.shares(service);
        shares.retain(|(route, _)| route.is_some() || !is_plain);
        if shares.is_empty() {
            return None;
        }
        let (mut claims, before) = (Claims::default(), self.pending.len());
        for (route, ranges) in shares {
            let split = route.map(|(holder, route)| self.pend(holder, route, service, own, Carries::Tls));
            self.routes(service).claim_detected_tls(&ranges, bytes, Claimant { cluster: own, split }, &mut claims);
        }
        self.forget_lost(&claims, before);
        Some(claims)
    }

    /// What won nothing makes no cluster, and nothing refers to its routes.
    fn forget_lost(&mut self, claims: &Claims, before: usize) {
        if !claims.won {
            self.pending.truncate(before);
        }
    }

    fn pend(
        &mut self,
        holder: &'a VirtualService,
        route: &'a ByteRoute,
        service: &Service<'a>,
        own: ClusterId,
        carries: Carries,
    ) -> SplitId {
        let namespace = self.workload.namespace_of(&holder.meta).to_owned();
        let source = Source { namespace, name: holder.meta.name.clone(), at: holder.meta.at.clone() };
        self.pending.push(Pending { route, source, own, port: service.port.number, carries });
        self.pending.len() - 1
    }

    /// Compiles what was claimed. Entries must have been added before.
    pub(super) fn add_splits(&mut self) {
        const UNCHANGED: &HeaderChanges = &HeaderChanges { set: Vec::new(), add: Vec::new(), remove: Vec::new() };
        for Pending { route, source, own, port, carries } in std::mem::take(&mut self.pending) {
            self.used.insert(std::ptr::from_ref(route));
            let to = route.destinations.iter();
            let carried = Carried::Bytes { carries, port };
            let namespace = &source.namespace;
            let destinations = to.map(|to| self.destination(to, (UNCHANGED, UNCHANGED), carried, namespace)).collect();
            self.table.splits.push(Split { source, own, destinations, port });
        }
        for holder in self.sought.byte_services() {
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

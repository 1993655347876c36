//! The `tls` and `tcp` routes of VirtualServices: connections that are not read, and that go elsewhere than to the
//! ServiceEntry whose address or server name they bear.
//!
//! Which of them a route takes is settled when the entry claims its matches (`listener_matches`), as Istio settles it: on TLS
//! ports the server names of routes replace the entry's own, on other ports the first route without a condition
//! replaces the entry.

use ipnet::IpNet;

use crate::config::{ByteMatch, ByteRoute, VirtualService};
use crate::policy::compile::cluster::origination::{Wanted, wanted_by};
use crate::policy::compile::compiler::{Compiler, PendingRoute};
use crate::policy::service::{PayloadKind, Service};
use crate::policy::table::cluster::Source;
use crate::policy::table::listener_matches::{Claimant, Claims, ClusterId, FirstSpeaker, WeightedRouteId};

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
        for holder in self.index.byte_services_for(service.host) {
            let routes = of(holder).iter().map(|route| (holder, route, route.matches.iter().filter(holds).collect()));
            taken.extend(routes.filter(|(_, route, held): &Taken<'_>| route.matches.is_empty() || !held.is_empty()));
        }
        taken
    }

    /// What becomes of the server names of a TLS port; `None` where no route speaks of them.
    pub(in crate::policy) fn claim_sni_routes(&mut self, service: &Service<'a>, own: ClusterId) -> Option<Claims> {
        let taken = self.taken(service, |holder| &holder.tls);
        if taken.is_empty() {
            return None;
        }
        let (mut claims, before) = (Claims::default(), self.pending.len());
        let places = self.places(service);
        for (holder, route, matches) in taken {
            let id = self.pend(holder, route, service, own, PayloadKind::Tls);
            for one in matches {
                let ranges = within(&places, &one.destination_subnets);
                if ranges.is_empty() && !places.is_empty() {
                    continue;
                }
                for name in &one.sni_hosts {
                    self.matches_of(service).claim_sni(
                        name,
                        &ranges,
                        Claimant { cluster: own, route: Some(id) },
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
    pub(in crate::policy) fn claim_byte_routes(
        &mut self,
        service: &Service<'a>,
        first_speaker: FirstSpeaker,
        own: ClusterId,
    ) -> Claims {
        let (mut claims, before) = (Claims::default(), self.pending.len());
        for (route, ranges) in self.shares(service) {
            let route = route.map(|(holder, route)| self.pend(holder, route, service, own, PayloadKind::Bytes));
            self.matches_of(service).claim_bytes(&ranges, first_speaker, Claimant { cluster: own, route }, &mut claims);
        }
        self.forget_lost(&claims, before);
        claims
    }

    /// The application's TLS on a port without a declared protocol, to where its other bytes go: TLS of ours must not
    /// be put around it. `None` where it may be taken for such bytes.
    pub(in crate::policy) fn claim_detected_tls(&mut self, service: &Service<'a>, bytes: ClusterId) -> Option<Claims> {
        let own = self.table.clusters.len();
        let is_plain = wanted_by(service, PayloadKind::Tls) == Wanted::Plaintext;
        let mut shares = self.shares(service);
        shares.retain(|(route, _)| route.is_some() || !is_plain);
        if shares.is_empty() {
            return None;
        }
        let (mut claims, before) = (Claims::default(), self.pending.len());
        for (route, ranges) in shares {
            let route = route.map(|(holder, route)| self.pend(holder, route, service, own, PayloadKind::Tls));
            self.matches_of(service).claim_detected_tls(&ranges, bytes, Claimant { cluster: own, route }, &mut claims);
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
        payload: PayloadKind,
    ) -> WeightedRouteId {
        let namespace = self.workload.namespace_of(&holder.meta).to_owned();
        let source = Source { namespace, name: holder.meta.name.clone(), at: holder.meta.at.clone() };
        self.pending.push(PendingRoute { route, source, own, port: service.port.number, payload });
        self.pending.len() - 1
    }
}

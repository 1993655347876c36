//! The question that the policy answers about a flow: [`PolicyTable::decide`].
//!
//! It is pure and allocates nothing. Everything that has a say is asked here, in this order: who has the flow by its address
//! and what it says; the AuthorizationPolicies of that; the routes of VirtualServices; then, of where a route leads, whether
//! its connections may go there, and its own AuthorizationPolicies.

use std::net::IpAddr;
use std::ptr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::config::{OutboundPolicy, falls_on};
use crate::flow::{Host, OriginalDst};
use crate::policy::facts::{Content, Flow, RequestView};
use crate::policy::table::authorization::Authorization;
use crate::policy::table::cluster::{Cluster, ClusterProtocol, Endpoints};
use crate::policy::table::destination_guard::{Unreachable, is_protected};
use crate::policy::table::http_routes::{Action, HttpRoute, HttpService, Unrouted};
use crate::policy::table::listener_matches::{Dialled, Match, PortMatches};
use crate::policy::table::policy_table::PolicyTable;
use crate::policy::table::verdict::{Decision, Refusal, Route, Verdict};
use crate::policy::table::weighted_routes::WeightedRoute;

type Decided<'t> = Result<Decision<'t>, Refusal<'t>>;

/// A flow, and who has it by its address and what it says.
#[derive(Clone, Copy)]
pub(in crate::policy) struct Asked<'f> {
    pub(in crate::policy) flow: &'f Flow<'f>,
    /// Of a request, by its full name.
    pub(in crate::policy) host: Option<&'f Host>,
    pub(in crate::policy) found: Match,
}

impl PolicyTable {
    /// What becomes of a flow. `random`, any number, picks one of several destinations of a route by their weights.
    ///
    /// A request's host is its own, without its port, which is ignored, and may be a short form of a Kubernetes name. A
    /// cluster that a request goes to may be [`Opaque`](ClusterProtocol::Opaque): then the bytes are carried as they are.
    #[must_use]
    pub fn decide(&self, flow: &Flow<'_>, random: u64) -> Verdict<'_> {
        let (dst, to) = (flow.destination, self.dialled(flow.destination));
        let host = flow.request().map(|request| self.short_names.full(request.host));
        let found = self.on_port(dst, |routes| match (flow.content, host) {
            (Content::Tls(sni), _) => routes.tls(to, sni),
            (_, Some(host)) => routes.http(to, host),
            (_, None) => routes.bytes(to),
        });
        self.settle(&Asked { flow, host, found }, random)
    }

    /// What becomes of a flow of which it is known who has it.
    pub(in crate::policy) fn settle(&self, asked: &Asked<'_>, random: u64) -> Verdict<'_> {
        let mut verdict = self.undecided(asked);
        verdict.decision = self.resolve(asked, random, &mut verdict).unwrap_or_else(Decision::Refuse);
        verdict
    }

    /// Before anything is judged.
    pub(in crate::policy) fn undecided(&self, asked: &Asked<'_>) -> Verdict<'_> {
        let judges = [self.authorization(self.owner(asked.found)), None];
        Verdict { decision: Decision::Passthrough, route: None, is_request: asked.host.is_some(), judges }
    }

    fn resolve<'t>(&'t self, asked: &Asked<'_>, random: u64, verdict: &mut Verdict<'t>) -> Decided<'t> {
        let &Asked { flow, found, .. } = asked;
        if let Content::Connect(authority, _) = flow.content {
            self.tunnel(authority).map_err(Refusal::Tunnel)?;
        }
        // Of a tunnel too: what is asked for it is a request to the forward proxy.
        self.judge(asked, verdict.judges[0])?;
        if let Content::Request(request) = flow.content
            && let Some(service) = self.http_service(asked)
        {
            return self.follow_http(service, flow, request, random, verdict);
        }
        match found {
            Match::Cluster(id) => {
                let cluster = &self.clusters[id];
                self.check_destination(cluster, flow.destination)?;
                Ok(Decision::Forward(cluster))
            }
            Match::Weighted(id) => self.follow_bytes(&self.weighted_routes[id], flow, random, verdict),
            Match::Unknown => self.unmatched(asked),
        }
    }

    pub(in crate::policy) fn dialled(&self, dst: OriginalDst) -> Dialled {
        Dialled { ip: dst.ip(), stands_for_a_host: self.automatic.contains_key(&dst.ip()) }
    }

    pub(in crate::policy) fn on_port(&self, dst: OriginalDst, ask: impl FnOnce(&PortMatches) -> Match) -> Match {
        self.ports.get(&dst.port()).map_or(Match::Unknown, ask)
    }

    /// The cluster whose flow it would be without routes for bytes.
    pub(in crate::policy) fn owner(&self, found: Match) -> Option<&Arc<Cluster>> {
        match found {
            Match::Cluster(id) => Some(&self.clusters[id]),
            Match::Weighted(id) => Some(&self.clusters[self.weighted_routes[id].own]),
            Match::Unknown => None,
        }
    }

    fn authorization<'t>(&'t self, cluster: Option<&'t Arc<Cluster>>) -> Option<&'t Authorization> {
        cluster.map_or(&self.elsewhere, |cluster| &cluster.authorization).as_deref()
    }

    /// `authorization`: what policies say of where the flow was to go.
    ///
    /// # Errors
    /// They forbid it.
    fn judge<'t>(&'t self, asked: &Asked<'_>, authorization: Option<&'t Authorization>) -> Result<(), Refusal<'t>> {
        let Some(all) = authorization else { return Ok(()) };
        let judged = all.judge(asked.flow);
        judged.map_err(|details| Refusal::Forbidden { details, cluster: self.owner(asked.found) })
    }

    /// Whether policies forbid what the flow asks for.
    pub(in crate::policy) fn is_forbidden(&self, asked: &Asked<'_>) -> bool {
        self.judge(asked, self.authorization(self.owner(asked.found))).is_err()
    }

    /// The VirtualService that speaks of a request: of its host, on a port that some entry has for requests. In Istio a port
    /// of other protocols has a listener for them alone, and what is none of theirs is as good as unknown.
    fn http_service(&self, asked: &Asked<'_>) -> Option<&HttpService> {
        match asked.found {
            Match::Weighted(_) => None,
            Match::Cluster(id) if self.clusters[id].protocol == ClusterProtocol::Opaque => None,
            Match::Cluster(_) | Match::Unknown => {
                let service = self.services.of(asked.host?);
                let routes = self.ports.get(&asked.flow.destination.port());
                service.filter(|_| routes.is_some_and(PortMatches::reads_requests))
            }
        }
    }

    fn follow_http<'t>(
        &'t self,
        service: &'t HttpService,
        flow: &Flow<'_>,
        request: &RequestView<'_>,
        random: u64,
        verdict: &mut Verdict<'t>,
    ) -> Decided<'t> {
        let dialled = flow.destination.port();
        let taken = service.route(dialled, request, random).map_err(|unrouted| match unrouted {
            Unrouted::NoRoute(service) => Refusal::NoRoute(service),
            Unrouted::AmbiguousPath => Refusal::AmbiguousPath,
        })?;
        verdict.route = Some(Route::Http(taken));
        match (&taken.route.action, taken.destination) {
            (Action::Answer(answer), _) => Ok(Decision::Answer(taken.route, answer)),
            (Action::Forward(_), None) => Err(Refusal::NoCluster("")),
            (Action::Forward(_), Some(to)) => {
                let cluster = to.cluster(dialled).ok_or(Refusal::NoCluster(&to.name))?;
                self.lead(cluster, flow, verdict)
            }
        }
    }

    fn follow_bytes<'t>(
        &'t self,
        route: &'t WeightedRoute,
        flow: &Flow<'_>,
        random: u64,
        verdict: &mut Verdict<'t>,
    ) -> Decided<'t> {
        verdict.route = Some(Route::Bytes(route));
        let to = route.pick(random).ok_or(Refusal::NoCluster(""))?;
        let cluster = route.cluster(to).ok_or(Refusal::NoCluster(&to.name))?;
        self.lead(cluster, flow, verdict)
    }

    /// A route leads to `cluster`, which is judged as if it had been asked for.
    fn lead<'t>(&'t self, cluster: &'t Arc<Cluster>, flow: &Flow<'_>, verdict: &mut Verdict<'t>) -> Decided<'t> {
        self.check_destination(cluster, flow.destination)?;
        let Some(all) = cluster.authorization.as_deref() else { return Ok(Decision::Forward(cluster)) };
        if !verdict.judges[0].is_some_and(|asked| ptr::eq(asked, all)) {
            verdict.judges[1] = Some(all);
            all.judge(flow).map_err(|details| Refusal::Forbidden { details, cluster: Some(cluster) })?;
        }
        Ok(Decision::Forward(cluster))
    }

    /// Where copies of a request go that `route` has taken: as `draw` falls, and never to where policies would not let it go
    /// itself.
    #[must_use]
    pub fn copies(&self, route: &HttpRoute, flow: &Flow<'_>, mut draw: impl FnMut() -> u64) -> Vec<Arc<Cluster>> {
        let drawn = route.mirrors.iter().filter(|mirror| falls_on(mirror.share, draw()));
        let clusters = drawn.filter_map(|mirror| mirror.to.cluster(flow.destination.port()));
        let open = clusters.filter(|cluster| {
            cluster.protocol != ClusterProtocol::Opaque
                && !matches!(cluster.endpoints, Endpoints::ByName { .. })
                && self.check_destination(cluster, flow.destination).is_ok()
                && cluster.authorization.as_ref().is_none_or(|all| all.judge(flow).is_ok())
        });
        open.cloned().collect()
    }

    /// What becomes of a flow that no entry has.
    fn unmatched(&self, asked: &Asked<'_>) -> Decided<'_> {
        if let Some(unlisted) = self.automatic.get(&asked.flow.destination.ip()) {
            return Err(Refusal::UnlistedPort(unlisted));
        }
        match (self.settings.outbound_traffic_policy, asked.host) {
            (OutboundPolicy::RegistryOnly, _) => Err(Refusal::BlackHole),
            (OutboundPolicy::AllowAnyDynamicDns, Some(Host::Name(_))) => Ok(Decision::ByName),
            (OutboundPolicy::AllowAny | OutboundPolicy::AllowAnyDynamicDns, _) => match self.unreadable(asked.flow) {
                Some(why) => Err(Refusal::Unreadable { why, dialled: asked.flow.destination }),
                None => Ok(Decision::Passthrough),
            },
        }
    }

    /// # Errors
    /// The cluster follows the application to where nobody may go.
    pub(in crate::policy) fn check_destination<'t>(
        &self,
        cluster: &'t Arc<Cluster>,
        dst: OriginalDst,
    ) -> Result<(), Refusal<'t>> {
        match cluster.endpoints {
            Endpoints::OriginalDst { .. } => {
                if self.automatic.contains_key(&dst.ip()) {
                    return Err(Refusal::Unreachable { why: Unreachable::Automatic, cluster });
                }
                let reached = cluster.destination_guard.check(dst.ip(), self.protected());
                reached.map_err(|why| Refusal::Unreachable { why, cluster })
            }
            Endpoints::Resolved(_) | Endpoints::ByName { .. } => Ok(()),
        }
    }

    /// Whether a name that an application made up may lead to `ip`. Protected addresses are protected here whatever the
    /// outbound policy: who means one can dial it.
    ///
    /// # Errors
    /// Why not.
    pub fn leads_to(&self, ip: IpAddr) -> Result<(), Unreachable> {
        if is_protected(ip, &self.settings.protected_addresses) { Err(Unreachable::Protected) } else { Ok(()) }
    }

    /// Addresses that only an entry which lists them opens; none where unknown destinations are allowed.
    pub fn protected(&self) -> &[IpNet] {
        match self.settings.outbound_traffic_policy {
            OutboundPolicy::AllowAny | OutboundPolicy::AllowAnyDynamicDns => &[],
            OutboundPolicy::RegistryOnly => &self.settings.protected_addresses,
        }
    }
}

//! What becomes of a flow: the answer of [`PolicyTable::decide`](super::PolicyTable::decide), and what the access log says of
//! it. The proxy acts on it, and `egret explain` tells it: each outcome is written down here and nowhere else.
//!
//! It borrows from the table, so that asking costs no allocation. It knows nothing of how a flow is matched.

use std::sync::Arc;

use crate::flow::{OriginalDst, ResponseFlags};
use crate::policy::facts::Flow;
use crate::policy::table::authorization::Authorization;
use crate::policy::table::cluster::{Cluster, Source};
use crate::policy::table::destination_guard::Unreachable;
use crate::policy::table::http_routes::{Action, Answer, Destination, HttpRoute, RouteMatch};
use crate::policy::table::tunnels::TunnelRefusal;
use crate::policy::table::unlisted_port::UnlistedPort;
use crate::policy::table::weighted_routes::WeightedRoute;

/// UPSTREAM_CLUSTER of what no entry names, as Istio has it.
const PASSTHROUGH: &str = "PassthroughCluster";
const BY_NAME: &str = "AllowAnyDynamicDNSCluster";
const BLACK_HOLE: &str = "BlackHoleCluster";

/// What becomes of a flow, and who had a say in it.
#[derive(Clone, Debug)]
pub struct Verdict<'t> {
    pub decision: Decision<'t>,
    /// The route that took it. What a route leads to is in the decision.
    pub route: Option<Route<'t>>,
    /// It is read as requests, so that a refusal is answered; other connections are closed.
    pub(in crate::policy) is_request: bool,
    /// What judges the flow: the policies of where it was to go, and of where a route sends it, if these are others.
    pub(in crate::policy) judges: [Option<&'t Authorization>; 2],
}

/// Where a flow goes.
#[derive(Clone, Copy, Debug)]
pub enum Decision<'t> {
    /// To a cluster: a ServiceEntry names it, or a route leads there.
    Forward(&'t Arc<Cluster>),
    /// Nothing names it, and plain HTTP goes where the name in its `Host` resolves to, on the port dialled.
    ByName,
    /// Nothing names it and unknown destinations are allowed: plainly to the original destination.
    Passthrough,
    /// Nowhere: the route answers itself.
    Answer(&'t HttpRoute, &'t Answer),
    Refuse(Refusal<'t>),
}

/// A route of a VirtualService that took a flow.
#[derive(Clone, Copy, Debug)]
pub enum Route<'t> {
    Http(RouteMatch<'t>),
    /// A `tls` or `tcp` route.
    Bytes(&'t WeightedRoute),
}

/// Why a flow may not leave.
#[derive(Clone, Copy, Debug)]
pub enum Refusal<'t> {
    /// `REGISTRY_ONLY`, and no ServiceEntry names it.
    BlackHole,
    /// The address stands for a host, and the host has no such port, or none for what is said there.
    UnlistedPort(&'t UnlistedPort),
    /// An AuthorizationPolicy forbids it.
    Forbidden {
        /// As Envoy logs it: `rbac_access_denied_matched_policy[…]`.
        details: &'t str,
        /// Where it was to go; `None` when no ServiceEntry names that.
        cluster: Option<&'t Arc<Cluster>>,
    },
    /// It may not go to the address that the application dialled.
    Unreachable { why: Unreachable, cluster: &'t Arc<Cluster> },
    /// Its route leads to this cluster, and there is none of the name.
    NoCluster(&'t str),
    /// The VirtualService of its host has no route for it.
    NoRoute(&'t Source),
    /// The VirtualService of its host asks for paths, and this one has no normal form.
    AmbiguousPath,
    /// It could be a request that nobody can read, or one without a host, where requests must leave as TLS or are judged.
    Unreadable { why: &'t str, dialled: OriginalDst },
    /// The tunnel must not be asked for.
    Tunnel(TunnelRefusal),
    /// The TLS that is asked for cannot be had; why, in words. Told by whoever connects, since it may depend on the name.
    NoTls(&'t str),
}

/// What the access log says of a flow as far as the policy decides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogFields<'t> {
    /// RESPONSE_CODE. `None` is the server's; 0 stands at connections that are not read as requests.
    pub code: Option<u16>,
    pub flags: ResponseFlags,
    /// RESPONSE_CODE_DETAILS of a request, CONNECTION_TERMINATION_DETAILS of a connection.
    pub details: Option<&'t str>,
    pub cluster: Option<&'t str>,
    pub route: Option<&'t str>,
}

impl<'t> Refusal<'t> {
    /// The answer that a request gets: its status, and the log's flags and details.
    #[must_use]
    pub fn answer(&self) -> (u16, ResponseFlags, &'t str) {
        let none = ResponseFlags::default();
        match *self {
            // Istio's virtual host `block_all`.
            Refusal::BlackHole => (502, none, "direct_response"),
            Refusal::UnlistedPort(of) => (502, none, &of.details),
            Refusal::Forbidden { details, .. } => (403, none, details),
            Refusal::Unreachable { why, .. } => (403, none, why.details()),
            Refusal::NoCluster(_) => (503, ResponseFlags::NO_CLUSTER, "cluster_not_found"),
            Refusal::NoRoute(_) => (404, ResponseFlags::NO_ROUTE, "route_not_found"),
            Refusal::AmbiguousPath => (400, ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR, "path_normalization_failed"),
            Refusal::Unreadable { .. } => (400, none, "missing_host_header"),
            Refusal::Tunnel(TunnelRefusal::Off) => {
                (405, ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR, "connect_not_allowed")
            }
            Refusal::Tunnel(_) => (403, none, "connect_denied"),
            Refusal::NoTls(_) => (503, ResponseFlags::NO_HEALTHY_UPSTREAM, "no_healthy_upstream"),
        }
    }

    /// The flags and details of a connection that is closed.
    #[must_use]
    pub fn closes(&self) -> (ResponseFlags, Option<&'t str>) {
        match *self {
            // Envoy has no endpoint for either, and logs that alone.
            Refusal::BlackHole | Refusal::NoTls(_) => (ResponseFlags::NO_HEALTHY_UPSTREAM, None),
            Refusal::Unreadable { why, .. } => (ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR, Some(why)),
            _ => {
                let (_, flags, details) = self.answer();
                (flags, Some(details))
            }
        }
    }

    /// Where it was to go, where that exists.
    fn cluster(&self) -> Option<&'t Arc<Cluster>> {
        match *self {
            Refusal::Forbidden { cluster, .. } => cluster,
            Refusal::Unreachable { cluster, .. } => Some(cluster),
            _ => None,
        }
    }
}

impl<'t> LogFields<'t> {
    /// Of a connection that is not read as requests, and of which nothing else is known.
    #[must_use]
    pub fn of_connection() -> Self {
        Self { code: Some(0), flags: ResponseFlags::default(), details: None, cluster: None, route: None }
    }

    /// Of a request that its server answers.
    fn of_request() -> Self {
        Self { code: None, details: Some("via_upstream"), ..Self::of_connection() }
    }

    /// The same for a flow that is refused.
    #[must_use]
    pub fn refused(self, refusal: &Refusal<'t>) -> Self {
        if self.code == Some(0) {
            let (flags, details) = refusal.closes();
            return Self { flags, details, ..self };
        }
        let (code, flags, details) = refusal.answer();
        Self { code: Some(code), flags, details: Some(details), ..self }
    }
}

impl<'t> Verdict<'t> {
    /// Whether the flow is read as requests.
    #[must_use]
    pub fn is_request(&self) -> bool {
        self.is_request
    }

    /// The cluster that the flow goes to, or would have gone to.
    #[must_use]
    pub fn cluster(&self) -> Option<&'t Arc<Cluster>> {
        match &self.decision {
            Decision::Forward(cluster) => Some(cluster),
            Decision::Refuse(refusal) => refusal.cluster(),
            Decision::ByName | Decision::Passthrough | Decision::Answer(..) => None,
        }
    }

    /// The destinations of the route that took it, each with its weight; none where no route has any.
    #[must_use]
    pub fn destinations(&self) -> &'t [Destination] {
        match self.route {
            Some(Route::Http(RouteMatch { route: HttpRoute { action: Action::Forward(all), .. }, .. })) => all,
            Some(Route::Bytes(route)) => &route.destinations,
            Some(Route::Http(_)) | None => &[],
        }
    }

    /// What the access log says before anything is sent.
    #[must_use]
    pub fn log_fields(&self) -> LogFields<'t> {
        let blank = if self.is_request { LogFields::of_request() } else { LogFields::of_connection() };
        let fields = LogFields { cluster: self.cluster_name(), route: self.route_name(), ..blank };
        match &self.decision {
            Decision::Forward(_) | Decision::ByName | Decision::Passthrough => fields,
            Decision::Answer(_, answer) => {
                LogFields { code: Some(answer.status()), details: Some("direct_response"), ..fields }
            }
            Decision::Refuse(refusal) => fields.refused(refusal),
        }
    }

    fn cluster_name(&self) -> Option<&'t str> {
        match self.decision {
            Decision::Forward(cluster) | Decision::Refuse(Refusal::Unreachable { cluster, .. }) => Some(&cluster.name),
            Decision::ByName => Some(BY_NAME),
            Decision::Passthrough => Some(PASSTHROUGH),
            // A request gets an answer, of no cluster.
            Decision::Refuse(Refusal::BlackHole | Refusal::UnlistedPort(_)) => {
                Some(BLACK_HOLE).filter(|_| !self.is_request)
            }
            Decision::Refuse(Refusal::Forbidden { cluster, .. }) => {
                Some(cluster.map_or(PASSTHROUGH, |cluster| &cluster.name))
            }
            // Of a request the route is told, which says where it leads.
            Decision::Refuse(Refusal::NoCluster(name)) => {
                Some(name).filter(|_| !matches!(self.route, Some(Route::Http(_))))
            }
            Decision::Refuse(_) | Decision::Answer(..) => None,
        }
    }

    /// The route's name, or that of the virtual host that Istio would have for the request.
    fn route_name(&self) -> Option<&'t str> {
        match (self.route, &self.decision) {
            _ if !self.is_request => None,
            (Some(Route::Http(taken)), _) => taken.route.name.as_deref(),
            (_, Decision::ByName | Decision::Passthrough) => Some("allow_any"),
            (_, Decision::Refuse(Refusal::BlackHole | Refusal::UnlistedPort(_))) => Some("block_all"),
            (_, Decision::Forward(_) | Decision::Answer(..)) => Some("default"),
            (_, Decision::Refuse(refusal)) => match refusal {
                Refusal::NoRoute(_) | Refusal::AmbiguousPath | Refusal::Unreadable { .. } | Refusal::Tunnel(_) => None,
                _ => Some("default"),
            },
        }
    }

    /// The AUDIT policies, `namespace/name`, that mean a flow which may leave.
    #[must_use]
    pub fn audits(&self, flow: &Flow<'_>) -> Vec<&'t str> {
        let [asked, led] = self.judges;
        let mut names = asked.map(|all| all.audits(flow)).unwrap_or_default();
        let others = led.map(|all| all.audits(flow)).unwrap_or_default();
        // What is said of everything is said of both.
        names.extend(others.into_iter().filter(|name| !names.contains(name)).collect::<Vec<_>>());
        names
    }

    /// Every AuthorizationPolicy that judges the flow: `DENY default/no-admin`.
    #[must_use]
    pub fn judged_by(&self) -> Vec<String> {
        self.judges.iter().flatten().flat_map(|all| all.names()).collect()
    }
}

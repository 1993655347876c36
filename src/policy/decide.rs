//! The compiled table and the questions it answers about a flow.
//!
//! It is immutable and shared by every worker; it knows nothing of how it came to be, of sockets, or of what becomes of
//! an answer. Every question is pure and allocates nothing.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use foldhash::fast::RandomState;
use ipnet::IpNet;

use crate::config::{OutboundPolicy, Settings};
use crate::flow::{Host, Hostname, OriginalDst};
use crate::policy::authorization::{Authorization, Facts, Sni};
use crate::policy::guarded::Guarded;
use crate::policy::http_routes::{self, HttpServices, RequestView, Routed};
use crate::policy::reach::{Unreachable, is_protected};
use crate::policy::routes::{Declared, Match, PortRoutes};
use crate::policy::short_names::ShortNames;
use crate::policy::splits::Split;
use crate::policy::table::{Cluster, ClusterProtocol, Decision, Denial, Endpoints, FirstLook};
use crate::policy::tunnels::TunnelEnds;

/// What may leave, and how. Made by [`compile`](super::compile).
#[derive(Debug, Default)]
pub struct PolicyTable {
    pub(super) version: u64,
    pub(super) settings: Settings,
    pub(super) clusters: Vec<Arc<Cluster>>,
    pub(super) ports: HashMap<u16, PortRoutes, RandomState>,
    pub(super) services: HttpServices,
    pub(super) splits: Vec<Split>,
    pub(super) guarded: Guarded,
    pub(super) tunnel_ends: TunnelEnds,
    pub(super) short_names: Arc<ShortNames>,
    /// What AuthorizationPolicies say of destinations that no entry names.
    pub(super) elsewhere: Option<Arc<Authorization>>,
}

/// What is known of bytes that are not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// None has come, none was looked at, or too few came to tell.
    Unseen,
    /// They begin neither a request nor TLS.
    Unknown,
}

impl PolicyTable {
    /// Counts published tables; 0 until [`with_version`](Self::with_version).
    pub fn version(&self) -> u64 {
        self.version
    }

    #[must_use]
    pub fn with_version(self, version: u64) -> Self {
        Self { version, ..self }
    }

    /// The settings that hold for this workload: a Sidecar's outbound policy is already in them.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Every cluster; a cluster's `index` is its position.
    pub fn clusters(&self) -> &[Arc<Cluster>] {
        &self.clusters
    }

    /// Whether some name, in a Host field or an SNI, may decide about a connection to this port.
    pub fn knows_names(&self, dst: OriginalDst) -> bool {
        self.ports.get(&dst.port()).is_some_and(PortRoutes::has_names)
    }

    /// What may be done before the first byte. Where no entry has the address and port, that depends on whether any byte
    /// could change what becomes of the connection ([`passes_unread`](Self::passes_unread)).
    pub fn first_look(&self, dst: OriginalDst) -> FirstLook<'_> {
        let nobody = Some(Match::Unknown);
        match self.ports.get(&dst.port()).map_or(nobody, |routes| routes.uninspected(dst.ip())) {
            Some(Match::Unknown) if self.passes_unread(dst) => FirstLook::Decided(Decision::Passthrough),
            // Looked at also where it is refused in any case, so that HTTP gets an answer that says why.
            Some(Match::Unknown) | None => FirstLook::Sniff,
            Some(found) => {
                let facts = Facts { destination: dst, sni: Sni::Unread, request: None };
                FirstLook::Decided(self.dialled(self.judged(self.of_match(found), &facts), dst))
            }
        }
    }

    /// What entries declare connections to `dst` to be.
    pub fn declared(&self, dst: OriginalDst) -> Declared {
        self.ports.get(&dst.port()).map(|routes| routes.declared(dst.ip())).unwrap_or_default()
    }

    /// Where a plaintext HTTP request goes by its host alone; whether it may, [`http_request`](Self::http_request) says.
    /// `host` is the request's own, without its port, which is ignored, and may be a short form of a Kubernetes name. The
    /// cluster may be [`Opaque`](super::ClusterProtocol::Opaque): then the bytes are carried as they are.
    pub fn http(&self, dst: OriginalDst, host: &Host) -> Decision<'_> {
        self.http_in_full(dst, self.short_names.full(host))
    }

    /// The same of a host that is short for nothing.
    fn http_in_full(&self, dst: OriginalDst, host: &Host) -> Decision<'_> {
        match (self.decide(dst, |routes| routes.http(dst.ip(), host)), host, self.settings.outbound_traffic_policy) {
            (Decision::Passthrough, Host::Name(_), OutboundPolicy::AllowAnyDynamicDns) => Decision::ByName,
            (decision, ..) => decision,
        }
    }

    /// What becomes of one plaintext HTTP request: as [`http`](Self::http) says, unless a VirtualService speaks of its
    /// host on a port that some entry has.
    pub fn http_request(&self, dst: OriginalDst, request: &RequestView<'_>) -> Routed<'_> {
        let host = self.short_names.full(request.host);
        let decision = self.judged(self.http_in_full(dst, host), &Facts::of_request(dst, request));
        if matches!(decision, Decision::Deny(Denial::Forbidden { .. })) {
            return Routed::Unrouted(decision);
        }
        let service = self.services.of(host).filter(|_| self.ports.contains_key(&dst.port()));
        match (service, &decision) {
            (None, _) => Routed::Unrouted(self.dialled(decision, dst)),
            (_, Decision::Forward(cluster)) if cluster.protocol == ClusterProtocol::Opaque => {
                Routed::Unrouted(self.dialled(decision, dst))
            }
            (_, Decision::Split(_)) => Routed::Unrouted(decision),
            (Some(service), _) => http_routes::route(service, dst.port(), request),
        }
    }

    /// Where a connection goes that begins with a ClientHello.
    pub fn tls(&self, dst: OriginalDst, sni: Option<&Hostname>) -> Decision<'_> {
        let facts = Facts { destination: dst, sni: sni.map_or(Sni::Absent, Sni::Name), request: None };
        self.dialled(self.judged(self.decide(dst, |routes| routes.tls(dst.ip(), sni)), &facts), dst)
    }

    /// Where bytes go that are neither HTTP nor TLS, and connections on which the server speaks first.
    pub fn opaque(&self, dst: OriginalDst, unread: Unread) -> Decision<'_> {
        let sni = match unread {
            Unread::Unseen => Sni::Unread,
            Unread::Unknown => Sni::Absent,
        };
        let facts = Facts { destination: dst, sni, request: None };
        self.dialled(self.judged(self.decide(dst, |routes| routes.bytes(dst.ip())), &facts), dst)
    }

    /// Where a request for a tunnel goes whose end has been judged: to the forward proxy that the application dialled.
    pub fn carrier(&self, dst: OriginalDst, host: &Host) -> Decision<'_> {
        self.dialled(self.http(dst, host), dst)
    }

    /// Whether a request that a route sends to `cluster` may go there. Asked after
    /// [`http_request`](Self::http_request), which judges by the entry of the request's own host.
    ///
    /// # Errors
    /// Why not.
    pub fn admit_routed<'t>(
        &'t self,
        cluster: &'t Cluster,
        dst: OriginalDst,
        request: &RequestView<'_>,
    ) -> Result<(), Denial<'t>> {
        let asked = match self.http(dst, request.host) {
            Decision::Forward(cluster) => cluster.authorization.as_ref(),
            Decision::Split(split) => self.clusters[split.own].authorization.as_ref(),
            Decision::ByName | Decision::Passthrough | Decision::Deny(_) => self.elsewhere.as_ref(),
        };
        self.admit(cluster, asked, &Facts::of_request(dst, request))
    }

    /// Where a flow goes that a `tls` or `tcp` route splits: to the destination that `dice`, any number, falls on, if it
    /// may. Other decisions stay as they are.
    #[must_use]
    pub fn fallen<'t>(&'t self, decision: Decision<'t>, facts: &Facts<'_, '_>, dice: u64) -> Decision<'t> {
        let Decision::Split(split) = decision else { return decision };
        let Some(to) = split.destination(dice) else { return Decision::Deny(Denial::NoCluster("")) };
        let Some(cluster) = split.cluster(to) else { return Decision::Deny(Denial::NoCluster(&to.name)) };
        let asked = self.clusters[split.own].authorization.as_ref();
        self.admit(cluster, asked, facts).map_or_else(Decision::Deny, |()| Decision::Forward(cluster))
    }

    /// Whether a flow that was judged by `asked` may go to `cluster` instead.
    fn admit<'t>(
        &'t self,
        cluster: &'t Cluster,
        asked: Option<&Arc<Authorization>>,
        facts: &Facts<'_, '_>,
    ) -> Result<(), Denial<'t>> {
        self.reachable(cluster, facts.destination)?;
        let Some(authorization) = &cluster.authorization else { return Ok(()) };
        if asked.is_some_and(|asked| Arc::ptr_eq(asked, authorization)) {
            return Ok(());
        }
        let judged = authorization.judge(facts);
        judged.map_err(move |details| Denial::Forbidden { details, cluster: Some(&cluster.name) })
    }

    /// The AUDIT policies, `namespace/name`, that a flow to `cluster` (or to no entry's) is meant by.
    pub fn audits<'t>(&'t self, cluster: Option<&'t Cluster>, facts: &Facts<'_, '_>) -> Vec<&'t str> {
        let authorization = match cluster {
            Some(cluster) => cluster.authorization.as_deref(),
            None => self.elsewhere.as_deref(),
        };
        authorization.map(|all| all.audits(facts)).unwrap_or_default()
    }

    /// The decision, unless an AuthorizationPolicy forbids the flow.
    fn judged<'t>(&'t self, decision: Decision<'t>, facts: &Facts<'_, '_>) -> Decision<'t> {
        let (authorization, cluster) = match &decision {
            Decision::Forward(cluster) => (cluster.authorization.as_deref(), Some(cluster.name.as_str())),
            Decision::Split(split) => {
                let own = &self.clusters[split.own];
                (own.authorization.as_deref(), Some(own.name.as_str()))
            }
            Decision::ByName | Decision::Passthrough | Decision::Deny(_) => (self.elsewhere.as_deref(), None),
        };
        match authorization.map_or(Ok(()), |all| all.judge(facts)) {
            Ok(()) => decision,
            Err(details) => Decision::Deny(Denial::Forbidden { details, cluster }),
        }
    }

    /// The decision, unless it would follow the application to where nobody may go.
    fn dialled<'t>(&'t self, decision: Decision<'t>, dst: OriginalDst) -> Decision<'t> {
        let reached = match &decision {
            Decision::Forward(cluster) => self.reachable(cluster, dst),
            Decision::Passthrough if is_protected(dst.ip(), self.protected()) => {
                Err(Denial::Unreachable { why: Unreachable::Protected, cluster: None })
            }
            // Where these lead is not known yet: `fallen` and `leads_to` are asked then.
            Decision::Passthrough | Decision::ByName | Decision::Split(_) | Decision::Deny(_) => Ok(()),
        };
        reached.map_or_else(Decision::Deny, |()| decision)
    }

    fn reachable<'t>(&self, cluster: &'t Cluster, dst: OriginalDst) -> Result<(), Denial<'t>> {
        match cluster.endpoints {
            Endpoints::OriginalDst { .. } => cluster
                .reach
                .check(dst.ip(), self.protected())
                .map_err(|why| Denial::Unreachable { why, cluster: Some(&cluster.name) }),
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

    fn decide(&self, dst: OriginalDst, ask: impl FnOnce(&PortRoutes) -> Match) -> Decision<'_> {
        self.of_match(self.ports.get(&dst.port()).map_or(Match::Unknown, ask))
    }

    fn of_match(&self, found: Match) -> Decision<'_> {
        match found {
            Match::Cluster(id) => Decision::Forward(&self.clusters[id]),
            Match::Split(id) => Decision::Split(&self.splits[id]),
            Match::Unknown => match self.settings.outbound_traffic_policy {
                OutboundPolicy::AllowAny | OutboundPolicy::AllowAnyDynamicDns => Decision::Passthrough,
                OutboundPolicy::RegistryOnly => Decision::Deny(Denial::BlackHole),
            },
        }
    }
}

//! The compiled table and the questions it answers about a flow.
//!
//! It is immutable and shared by every worker; it knows nothing of how it came to be, of sockets, or of what becomes of
//! an answer. Every question is pure and allocates nothing.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::{OutboundPolicy, Settings};
use crate::flow::{Host, Hostname, OriginalDst};
use crate::policy::http_routes::{self, HttpServices, RequestView, Routed};
use crate::policy::routes::{Match, PortRoutes};
use crate::policy::table::{Cluster, ClusterProtocol, Decision, Denial, FirstLook, Transport};

/// What may leave, and how. Made by [`compile`](super::compile).
#[derive(Debug, Default)]
pub struct PolicyTable {
    pub(super) version: u64,
    pub(super) settings: Settings,
    pub(super) clusters: Vec<Arc<Cluster>>,
    pub(super) ports: HashMap<u16, PortRoutes>,
    pub(super) services: HttpServices,
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

    /// Whether requests to this port may have to leave as TLS: bytes whose host cannot be read must then not pass.
    pub fn originates_tls(&self, dst: OriginalDst) -> bool {
        let mut on_port = self.clusters.iter().filter(|cluster| cluster.origin.port == dst.port());
        let routed = self.ports.contains_key(&dst.port()) && self.services.originate_tls();
        routed || on_port.any(|cluster| !matches!(cluster.transport, Transport::Plaintext))
    }

    /// What may be done before the first byte. A port that no entry mentions is looked at as well, so that the log
    /// shows a host and refused HTTP gets an answer.
    pub fn first_look(&self, dst: OriginalDst) -> FirstLook<'_> {
        let uninspected = self.ports.get(&dst.port()).and_then(|routes| routes.uninspected(dst.ip()));
        uninspected.map_or(FirstLook::Sniff, |id| FirstLook::Opaque(&self.clusters[id]))
    }

    /// Where a plaintext HTTP request goes. `host` is the request's own, without its port, which is ignored. The
    /// cluster may be [`Opaque`](super::ClusterProtocol::Opaque): then the bytes are carried as they are.
    pub fn http(&self, dst: OriginalDst, host: &Host) -> Decision<'_> {
        self.decide(dst, |routes| routes.http(dst.ip(), host))
    }

    /// What becomes of one plaintext HTTP request: as [`http`](Self::http) says, unless a VirtualService speaks of its
    /// host on a port that some entry has.
    pub fn http_request(&self, dst: OriginalDst, request: &RequestView<'_>) -> Routed<'_> {
        let decision = self.http(dst, request.host);
        let service = self.services.of(request.host).filter(|_| self.ports.contains_key(&dst.port()));
        match (service, &decision) {
            (None, _) => Routed::Unrouted(decision),
            (_, Decision::Forward(cluster)) if cluster.protocol == ClusterProtocol::Opaque => {
                Routed::Unrouted(decision)
            }
            (Some(service), _) => http_routes::route(service, dst.port(), request),
        }
    }

    /// Where a connection goes that begins with a ClientHello.
    pub fn tls(&self, dst: OriginalDst, sni: Option<&Hostname>) -> Decision<'_> {
        self.decide(dst, |routes| routes.tls(dst.ip(), sni))
    }

    /// Where bytes go that are neither HTTP nor TLS, and connections on which the server speaks first.
    pub fn opaque(&self, dst: OriginalDst) -> Decision<'_> {
        self.decide(dst, |routes| routes.bytes(dst.ip()))
    }

    fn decide(&self, dst: OriginalDst, ask: impl FnOnce(&PortRoutes) -> Match) -> Decision<'_> {
        match self.ports.get(&dst.port()).map_or(Match::Unknown, ask) {
            Match::Cluster(id) => Decision::Forward(&self.clusters[id]),
            Match::Unknown => match self.settings.outbound_traffic_policy {
                OutboundPolicy::AllowAny => Decision::Passthrough,
                OutboundPolicy::RegistryOnly => Decision::Deny(Denial::BlackHole),
            },
        }
    }
}

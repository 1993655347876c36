//! Clusters: where flows go, and how. Plain data that knows nothing of sockets nor of how a flow is matched.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::config::{
    CloseNotify, EndpointAddress, LoadBalancing, Location, MeshLocation, OutlierDetection, PoolLimits, PortProtocol,
    ProxyProtocol, Tunnel,
};
use crate::policy::runtime::health::Health;
use crate::policy::runtime::occupancy::Occupancy;
use crate::policy::runtime::publish::Addresses;
use crate::policy::table::authorization::Authorization;
use crate::policy::table::destination_guard::DestinationGuard;
use crate::tls::{ClientProfile, ProfileRequest};

/// One port of one ServiceEntry host, with the policy that a DestinationRule gives it.
#[derive(Debug)]
pub struct Cluster {
    /// `outbound|<port>|<subset>|<host>`, as Envoy's users know it; the access log's UPSTREAM_CLUSTER. A port without a
    /// declared protocol has one cluster for each way its bytes may be carried, all with this name.
    pub name: String,
    /// The ServiceEntry's host; a wildcard keeps its `*.`.
    pub host: String,
    pub protocol: ClusterProtocol,
    pub endpoints: Endpoints,
    pub transport: Transport,
    /// The TLS that the rules ask for, also where its material could not be loaded; for explaining, never for
    /// connecting. `None` when `transport` was decided without asking for material.
    pub tls_request: Option<ProfileRequest>,
    pub balancing: LoadBalancing,
    /// Connections go through a forward proxy. TLS of a cluster of requests is then spoken through the tunnel, with the
    /// target; that of a cluster of bytes with the forward proxy, as in Istio.
    pub tunnel: Option<Tunnel>,
    /// The upstream is told who connects.
    pub proxy_protocol: Option<ProxyProtocol>,
    pub limits: PoolLimits,
    /// What the end of a TLS connection without close_notify means.
    pub close_notify: CloseNotify,
    /// What of the limits is used; shared with the clusters of this name in older tables.
    pub occupancy: Arc<Occupancy>,
    /// When endpoints are ejected.
    pub outlier_detection: Option<OutlierDetection>,
    /// How they have fared; shared as `occupancy` is.
    pub health: Arc<Health>,
    /// Position in the table, for per-worker state (round robin, counters): `0..table.clusters().len()`.
    pub index: usize,
    /// What AuthorizationPolicies say of it.
    pub(in crate::policy) authorization: Option<Arc<Authorization>>,
    /// Where connections may go that follow the application.
    pub(in crate::policy) destination_guard: DestinationGuard,
    /// `addresses` of the ServiceEntry.
    pub(in crate::policy) listed: Vec<IpNet>,
    /// What in the configuration made it.
    pub origin: Origin,
}

impl Cluster {
    /// Why its servers are spoken to in the version of HTTP that they are, in words behind "since".
    #[must_use]
    pub fn why_spoken(&self) -> String {
        let Origin { port, declared, .. } = &self.origin;
        match (self.protocol, declared) {
            (ClusterProtocol::Negotiated, _) => "upstreamProtocol is AUTO".to_owned(),
            (ClusterProtocol::Http2, _) if !declared.is_http2() => "h2UpgradePolicy is UPGRADE".to_owned(),
            (ClusterProtocol::SameAsClient, declared) if *declared != PortProtocol::Auto => {
                "useClientProtocol is true".to_owned()
            }
            (_, declared) => match declared.name() {
                Some(name) => format!("port {port} is declared {name}"),
                None => format!("port {port} has no protocol"),
            },
        }
    }
}

/// How a cluster's bytes are carried, whatever they look like: HTTP on a declared TCP port is [`Opaque`](Self::Opaque).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClusterProtocol {
    /// Requests, spoken to the upstream as HTTP/1.1.
    Http1,
    /// Requests, spoken to the upstream as HTTP/2: a port declared HTTP2, GRPC or GRPC-Web, or `h2UpgradePolicy: UPGRADE`.
    Http2,
    /// Requests, in what the server chooses of HTTP/2 and HTTP/1.1 in the handshake (`upstreamProtocol: AUTO`).
    Negotiated,
    /// Requests, in the version that the application speaks: a port without a declared protocol, or
    /// `useClientProtocol`.
    SameAsClient,
    /// Bytes, also an application's own TLS; passed on as they are.
    Opaque,
}

/// The documents that a cluster comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    pub service_entry: Source,
    /// The port's number in the ServiceEntry: the one that the application dials.
    pub port: u16,
    pub declared: PortProtocol,
    pub location: MeshLocation,
    pub destination_rule: Option<Source>,
}

/// One document: `namespace/name` and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    pub namespace: String,
    pub name: String,
    pub at: Location,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} ({})", self.namespace, self.name, self.at)
    }
}

/// Where a cluster's connections go.
#[derive(Debug)]
pub enum Endpoints {
    /// Resolution NONE: the address that the application dialled, on another port if the entry says so.
    OriginalDst { port_override: Option<u16> },
    /// Resolution DYNAMIC_DNS: what the name in a request or a ClientHello resolves to.
    ByName { port_override: Option<u16> },
    /// Addresses that the control thread keeps current (STATIC never changes). A source's address list may be
    /// empty while its name does not resolve. Without any source the transport is [`Transport::Refused`].
    Resolved(Vec<EndpointSource>),
}

/// One endpoint of a ServiceEntry: its addresses now, its port, its share.
#[derive(Debug)]
pub struct EndpointSource {
    /// As configured: what is resolved, or the address itself.
    pub configured: EndpointAddress,
    pub addresses: Addresses,
    pub port: u16,
    pub weight: u32,
    /// DNS_ROUND_ROBIN: only the first address of the latest answer is used.
    pub first_only: bool,
    /// Below [`MAX_LEVELS`]. One of a higher level is used where too many of the lower ones have failed.
    pub level: usize,
}

/// An address that may be dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub address: SocketAddr,
    pub weight: u32,
    pub level: usize,
    /// Which endpoint it belongs to: the addresses of one name are one endpoint's.
    pub endpoint: usize,
    /// Used only where the endpoint's first address does not answer (DNS_ROUND_ROBIN).
    pub is_spare: bool,
}

/// Levels of endpoints that are told apart; what is beyond is of the last.
pub const MAX_LEVELS: usize = 16;

/// How bytes leave.
#[derive(Clone)]
pub enum Transport {
    Plaintext,
    Tls(Arc<ClientProfile>),
    /// The policy asks for TLS that cannot be given (credentials missing, broken, not authorised; double TLS). Never
    /// falls back to plaintext: HTTP gets 503 with this reason, other connections are closed.
    Refused(Arc<str>),
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Transport::Plaintext => f.write_str("Plaintext"),
            Transport::Tls(_) => f.write_str("Tls"),
            Transport::Refused(reason) => write!(f, "Refused({reason})"),
        }
    }
}

impl Endpoints {
    /// Whether there may be more than one, so that one can be preferred to another.
    #[must_use]
    pub fn can_choose(&self) -> bool {
        matches!(self, Endpoints::Resolved(_))
    }

    /// Calls `each` with every address that may be dialled now and its weight; none where only a name can tell.
    pub fn for_each(&self, original: SocketAddr, mut each: impl FnMut(SocketAddr, u32)) {
        self.for_each_of_level(original, |address, weight, _| each(address, weight));
    }

    /// Whether some endpoints are used only where others have failed.
    #[must_use]
    pub fn has_levels(&self) -> bool {
        matches!(self, Endpoints::Resolved(sources) if sources.iter().any(|source| source.level > 0))
    }

    /// As [`for_each`](Self::for_each), with the level of each.
    pub fn for_each_of_level(&self, original: SocketAddr, mut each: impl FnMut(SocketAddr, u32, usize)) {
        self.for_each_candidate(original, |Candidate { address, weight, level, is_spare, .. }| {
            if !is_spare {
                each(address, weight, level);
            }
        });
    }

    /// As [`for_each`](Self::for_each), spare addresses included. Those of one endpoint stand together.
    pub fn for_each_candidate(&self, original: SocketAddr, mut each: impl FnMut(Candidate)) {
        match self {
            Endpoints::OriginalDst { port_override } => {
                let address = SocketAddr::new(original.ip(), port_override.unwrap_or(original.port()));
                each(Candidate { address, weight: 1, level: 0, endpoint: 0, is_spare: false });
            }
            Endpoints::ByName { .. } => {}
            Endpoints::Resolved(sources) => {
                for (endpoint, source) in sources.iter().enumerate() {
                    let &EndpointSource { port, weight, level, first_only, .. } = source;
                    for (place, ip) in source.addresses.load().iter().enumerate() {
                        let (address, is_spare) = (SocketAddr::new(*ip, port), first_only && place > 0);
                        each(Candidate { address, weight, level, endpoint, is_spare });
                    }
                }
            }
        }
    }
}

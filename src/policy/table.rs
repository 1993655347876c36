//! The compiled policy: immutable, shared by every worker, read without locks or allocation.
//!
//! A table knows nothing of sockets. It answers three questions about a flow — what may be assumed before its first
//! byte, and where an HTTP request, a TLS connection or other bytes may go — with a [`Decision`] that borrows from it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{LoadBalancer, TcpKeepalive};
use crate::flow::{Host, Hostname};
use crate::policy::publish::Addresses;
use crate::tls::ClientProfile;

/// What may happen to a flow.
#[derive(Clone, Debug)]
pub enum Decision<'t> {
    /// A ServiceEntry names it.
    Forward(&'t Arc<Cluster>),
    /// Nothing names it and unknown destinations are allowed: plainly to the original destination.
    Passthrough,
    Deny(Denial),
}

/// Why a flow may not leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Denial {
    /// `REGISTRY_ONLY` and no ServiceEntry names it: 502 for HTTP (`block_all`), closed for the rest.
    BlackHole,
}

/// What is known of a connection from its original destination alone.
#[derive(Clone, Debug)]
pub enum FirstLook<'t> {
    /// Look at the first bytes.
    Sniff,
    /// A declared TCP port: never inspected, so that a server may speak first.
    Opaque(&'t Arc<Cluster>),
}

/// One port of one ServiceEntry host, with the policy that a DestinationRule gives it.
#[derive(Debug)]
pub struct Cluster {
    /// `outbound|<port>|<subset>|<host>`, as Envoy's users know it; the access log's UPSTREAM_CLUSTER.
    pub name: String,
    /// The ServiceEntry's host; a wildcard keeps its `*.`.
    pub host: String,
    pub endpoints: Endpoints,
    pub transport: Transport,
    pub load_balancer: LoadBalancer,
    pub limits: PoolLimits,
    /// Position in the table, for per-worker state (round robin, counters): `0..table.clusters().len()`.
    pub index: usize,
}

/// Where a cluster's connections go.
#[derive(Debug)]
pub enum Endpoints {
    /// Resolution NONE: the address that the application dialled, on another port if the entry says so.
    OriginalDst { port_override: Option<u16> },
    /// Addresses that the control thread keeps current (STATIC never changes). Never empty of sources; a source's
    /// address list may be empty while a name does not resolve.
    Resolved(Vec<EndpointSource>),
}

/// One endpoint of a ServiceEntry: its addresses now, its port, its share.
#[derive(Debug)]
pub struct EndpointSource {
    pub addresses: Addresses,
    pub port: u16,
    pub weight: u32,
    /// DNS_ROUND_ROBIN: only the first address of the latest answer is used.
    pub first_only: bool,
}

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

/// `connectionPool` with Istio's defaults filled in (`None` = no limit).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolLimits {
    pub max_connections: Option<u32>,
    pub max_pending_requests: Option<u32>,
    pub max_requests_per_connection: Option<u32>,
    pub connect_timeout: Duration,
    pub http_idle_timeout: Duration,
    /// `None` never ends an idle opaque connection.
    pub tcp_idle_timeout: Option<Duration>,
    pub max_connection_duration: Option<Duration>,
    pub tcp_keepalive: Option<TcpKeepalive>,
}

impl Endpoints {
    /// Calls `each` with every address that may be dialled now and its weight.
    pub fn for_each(&self, original: SocketAddr, mut each: impl FnMut(SocketAddr, u32)) {
        match self {
            Endpoints::OriginalDst { port_override } => {
                each(SocketAddr::new(original.ip(), port_override.unwrap_or(original.port())), 1);
            }
            Endpoints::Resolved(sources) => {
                for source in sources {
                    let addresses = source.addresses.load();
                    let usable = if source.first_only { 1 } else { addresses.len() };
                    for ip in addresses.iter().take(usable) {
                        each(SocketAddr::new(*ip, source.port), source.weight);
                    }
                }
            }
        }
    }
}

/// The key of an HTTP decision, borrowed from a request.
#[derive(Clone, Copy, Debug)]
pub struct HttpKey<'a> {
    pub host: &'a Host,
}

/// The key of a TLS decision, borrowed from a ClientHello.
#[derive(Clone, Copy, Debug)]
pub struct TlsKey<'a> {
    pub sni: Option<&'a Hostname>,
}

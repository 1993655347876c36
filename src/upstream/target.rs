//! Where one request or connection goes: the decision of the policy made concrete for one flow.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::balance::Choice;
use crate::config::{LoadBalancer, LoadBalancing, ProxyProtocol, Tunnel};
use crate::flow::{ClientAddr, Host, OriginalDst};
use crate::policy::{Candidate, Cluster, ClusterProtocol, Endpoints, PoolLimits, Transport};
use crate::tls::{Alpn, AlpnProtocol, ClientProfile};

/// A cluster of the policy table, or the original destination as the application dialled it.
///
/// Borrowed from the table: a count of the cluster would be a cache line that every worker writes for every request.
#[derive(Clone, Copy)]
pub enum Target<'t> {
    Cluster {
        cluster: &'t Arc<Cluster>,
        original: OriginalDst,
        /// Who wants to go there.
        client: ClientAddr,
        /// Of the key that the cluster's `consistentHash` asks for, where there is one.
        hash: Option<u64>,
        /// What its name resolves to, where only a request can tell it.
        found: &'t [IpAddr],
    },
    /// What no entry names, at the addresses of its name.
    ByName {
        original: OriginalDst,
        found: &'t [IpAddr],
    },
    Passthrough(OriginalDst),
}

/// How one connection must be secured. Part of a pooled connection's identity.
#[derive(Clone, Copy)]
pub enum Security<'s> {
    Plaintext,
    /// `name`: what the session is opened with, as [`ClientProfile::session_name`] gave it.
    Tls {
        profile: &'s Arc<ClientProfile>,
        name: &'s Host,
        /// What is offered.
        alpn: Alpn,
    },
}

/// What a request wants of the version of HTTP that a server is spoken to in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// What the application speaks.
    pub speaks: AlpnProtocol,
    /// What it can be carried in alone, where the server may choose.
    pub needs: Option<AlpnProtocol>,
}

/// What is spoken on a connection to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoken {
    Http1,
    Http2,
    /// What the server chooses of both in the handshake.
    Negotiated {
        /// HTTP/1.1 has no words for the request.
        needs_http2: bool,
    },
}

impl From<AlpnProtocol> for Spoken {
    fn from(protocol: AlpnProtocol) -> Self {
        match protocol {
            AlpnProtocol::Http1 => Self::Http1,
            AlpnProtocol::Http2 => Self::Http2,
        }
    }
}

impl Spoken {
    fn offered(self) -> Alpn {
        match self {
            Self::Http1 => Alpn::HTTP1,
            Self::Http2 => Alpn::HTTP2,
            Self::Negotiated { .. } => Alpn::HTTP2_OR_HTTP1,
        }
    }
}

/// What a connection has been through, and whom it was announced for. Part of a pooled connection's identity: one that
/// was made for one application's connection serves no other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionPrelude {
    pub(super) tunnel: Option<Tunnel>,
    /// Source and destination that the upstream was told.
    pub(super) announced: Option<(ProxyProtocol, SocketAddr, SocketAddr)>,
}

impl<'t> Target<'t> {
    /// The name in the access log: `outbound|80||example.com` or `PassthroughCluster`.
    #[must_use]
    pub fn name(&self) -> &'t str {
        match self {
            Target::Cluster { cluster, .. } => &cluster.name,
            Target::ByName { .. } => "AllowAnyDynamicDNSCluster",
            Target::Passthrough(_) => "PassthroughCluster",
        }
    }

    /// `None` for what no ServiceEntry names.
    #[must_use]
    pub fn cluster(&self) -> Option<&'t Cluster> {
        match self {
            Target::Cluster { cluster, .. } => Some(cluster),
            Target::ByName { .. } | Target::Passthrough(_) => None,
        }
    }

    /// Whether its addresses must be found by the name that it was asked for by.
    #[must_use]
    pub fn is_by_name(&self) -> bool {
        match self {
            Target::Cluster { cluster, .. } => matches!(cluster.endpoints, Endpoints::ByName { .. }),
            Target::ByName { .. } => true,
            Target::Passthrough(_) => false,
        }
    }

    /// The port that it is dialled at where it has no endpoints of its own.
    #[must_use]
    pub fn port(&self) -> u16 {
        let dialled = self.original().port();
        match self {
            Target::Cluster { cluster, .. } => match cluster.endpoints {
                Endpoints::OriginalDst { port_override } | Endpoints::ByName { port_override } => {
                    port_override.unwrap_or(dialled)
                }
                Endpoints::Resolved(_) => dialled,
            },
            Target::ByName { .. } | Target::Passthrough(_) => dialled,
        }
    }

    /// The same, at these addresses, if it has none but those of its name.
    #[must_use]
    pub fn at<'f>(&self, ips: &'f [IpAddr]) -> Target<'f>
    where
        't: 'f,
    {
        let mut target: Target<'f> = *self;
        match &mut target {
            Target::Cluster { found, .. } | Target::ByName { found, .. } => *found = ips,
            Target::Passthrough(_) => {}
        }
        target
    }

    #[must_use]
    pub fn original(&self) -> OriginalDst {
        match self {
            Target::Cluster { original, .. } | Target::ByName { original, .. } | Target::Passthrough(original) => {
                *original
            }
        }
    }

    #[must_use]
    pub fn limits(&self) -> Option<&'t PoolLimits> {
        match self {
            Target::Cluster { cluster, .. } => Some(&cluster.limits),
            Target::ByName { .. } | Target::Passthrough(_) => None,
        }
    }

    /// The cluster, where its `connectionPool` limits connections or the requests that wait for one.
    pub(super) fn limited(&self) -> Option<&'t Arc<Cluster>> {
        let &Target::Cluster { cluster, .. } = self else { return None };
        let limits = &cluster.limits;
        (limits.max_connections.is_some() || limits.max_pending_requests.is_some()).then_some(cluster)
    }

    /// How one of several endpoints is chosen.
    pub(super) fn choice(&self) -> Choice<'t> {
        const DIALLED: &LoadBalancing =
            &LoadBalancing { by: LoadBalancer::Passthrough, hash: None, warmup: None, locality: None };
        match self {
            Target::Cluster { cluster, hash, .. } => {
                Choice { cluster: &cluster.name, balancing: &cluster.balancing, hash: *hash }
            }
            Target::ByName { .. } | Target::Passthrough(_) => {
                Choice { cluster: self.name(), balancing: DIALLED, hash: None }
            }
        }
    }

    /// What happens on a new connection before it is secured, or used; `None` mostly.
    pub(super) fn prelude(&self) -> Option<Box<ConnectionPrelude>> {
        let Target::Cluster { cluster, original, client, .. } = self else { return None };
        let announced = cluster.proxy_protocol.map(|version| (version, client.addr(), original.addr()));
        let tunnel = cluster.tunnel.clone();
        (tunnel.is_some() || announced.is_some()).then(|| Box::new(ConnectionPrelude { tunnel, announced }))
    }

    /// What is spoken to the servers for a request.
    #[must_use]
    pub fn spoken(&self, request: Demand) -> Spoken {
        match (cluster_protocol(self), request.needs) {
            (ClusterProtocol::Http1, _) | (ClusterProtocol::Negotiated, Some(AlpnProtocol::Http1)) => Spoken::Http1,
            (ClusterProtocol::Http2, _) => Spoken::Http2,
            (ClusterProtocol::Negotiated, needs) => Spoken::Negotiated { needs_http2: needs.is_some() },
            (ClusterProtocol::SameAsClient | ClusterProtocol::Opaque, _) => request.speaks.into(),
        }
    }

    /// Whether a server that was asked in HTTP/2 may be asked in HTTP/1.1 instead.
    #[must_use]
    pub fn may_speak_http1(&self) -> bool {
        cluster_protocol(self) == ClusterProtocol::Negotiated
    }

    /// Whether its bytes are not read.
    pub(super) fn is_opaque(&self) -> bool {
        matches!(self, Target::Cluster { cluster, .. } if cluster.protocol == ClusterProtocol::Opaque)
    }

    /// How many addresses may be dialled now.
    #[must_use]
    pub fn address_count(&self) -> usize {
        let mut count = 0;
        self.each_address(|_, _| count += 1);
        count
    }

    /// Calls `each` with every address that may be dialled now, and its weight.
    pub(super) fn each_address(&self, mut each: impl FnMut(SocketAddr, u32)) {
        self.each_of_level(|address, weight, _| each(address, weight));
    }

    /// The same with the level of each.
    pub(super) fn each_of_level(&self, mut each: impl FnMut(SocketAddr, u32, usize)) {
        self.each_candidate(|candidate| {
            if !candidate.is_spare {
                each(candidate.address, candidate.weight, candidate.level);
            }
        });
    }

    /// The same, with which endpoint each belongs to, spare addresses included.
    pub(super) fn each_candidate(&self, mut each: impl FnMut(Candidate)) {
        let dialled = [self.original().ip()];
        let found = match self {
            Target::Cluster { cluster, original, .. } if !self.is_by_name() => {
                return cluster.endpoints.for_each_candidate(original.addr(), each);
            }
            Target::Passthrough(_) => &dialled[..],
            Target::Cluster { found, .. } | Target::ByName { found, .. } => found,
        };
        for ip in found {
            let address = SocketAddr::new(*ip, self.port());
            each(Candidate { address, weight: 1, level: 0, endpoint: 0, is_spare: false });
        }
    }

    /// How a connection for `host` (the request's, or the destination's where there is none) must be secured on which
    /// `spoken` is.
    ///
    /// # Errors
    /// The reason why TLS, which the policy wants, cannot be had. Never answered with plaintext instead.
    pub fn security<'s>(&self, host: &'s Host, spoken: Spoken) -> Result<Security<'s>, Arc<str>>
    where
        't: 's,
    {
        let offered = |profile: &ClientProfile| match cluster_protocol(self) {
            ClusterProtocol::SameAsClient | ClusterProtocol::Negotiated => spoken.offered(),
            ClusterProtocol::Http1 | ClusterProtocol::Http2 | ClusterProtocol::Opaque => profile.request().alpn,
        };
        let Target::Cluster { cluster, .. } = self else { return Ok(Security::Plaintext) };
        match &cluster.transport {
            Transport::Plaintext => Ok(Security::Plaintext),
            Transport::Refused(reason) => Err(Arc::clone(reason)),
            Transport::Tls(profile) => match profile.session_name(host) {
                Ok(name) => Ok(Security::Tls { profile, name, alpn: offered(profile) }),
                Err(error) => Err(error.to_string().into()),
            },
        }
    }
}

/// What no entry names is spoken to as the application speaks.
fn cluster_protocol(target: &Target<'_>) -> ClusterProtocol {
    target.cluster().map_or(ClusterProtocol::SameAsClient, |cluster| cluster.protocol)
}

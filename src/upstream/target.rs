//! Where one request or connection goes: the decision of the policy made concrete for one flow.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::ServerName;

use crate::flow::{Host, OriginalDst};
use crate::policy::{Cluster, PoolLimits, Transport};
use crate::tls::ClientProfile;

/// A cluster of the policy table, or the original destination as the application dialled it.
#[derive(Clone)]
pub enum Target {
    Cluster { cluster: Arc<Cluster>, original: OriginalDst },
    Passthrough(OriginalDst),
}

/// How one connection must be secured. Part of a pooled connection's identity.
#[derive(Clone)]
pub enum Security {
    Plaintext,
    Tls { profile: Arc<ClientProfile>, name: ServerName<'static> },
}

impl Target {
    /// The name in the access log: `outbound|80||example.com` or `PassthroughCluster`.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Target::Cluster { cluster, .. } => &cluster.name,
            Target::Passthrough(_) => "PassthroughCluster",
        }
    }

    /// `None` for what no ServiceEntry names.
    #[must_use]
    pub fn cluster(&self) -> Option<&Cluster> {
        match self {
            Target::Cluster { cluster, .. } => Some(cluster),
            Target::Passthrough(_) => None,
        }
    }

    #[must_use]
    pub fn original(&self) -> OriginalDst {
        match self {
            Target::Cluster { original, .. } | Target::Passthrough(original) => *original,
        }
    }

    #[must_use]
    pub fn limits(&self) -> Option<&PoolLimits> {
        match self {
            Target::Cluster { cluster, .. } => Some(&cluster.limits),
            Target::Passthrough(_) => None,
        }
    }

    /// The addresses that may be dialled now, with their weights.
    #[must_use]
    pub fn addresses(&self) -> Vec<(SocketAddr, u32)> {
        match self {
            Target::Passthrough(original) => vec![(original.addr(), 1)],
            Target::Cluster { cluster, original } => {
                let mut found = Vec::new();
                cluster.endpoints.for_each(original.addr(), |address, weight| found.push((address, weight)));
                found
            }
        }
    }

    /// How a connection for `host` (the request's, or the destination's where there is none) must be secured.
    ///
    /// # Errors
    /// The reason why TLS, which the policy wants, cannot be had. Never answered with plaintext instead.
    pub fn security(&self, host: &Host) -> Result<Security, Arc<str>> {
        let Target::Cluster { cluster, .. } = self else { return Ok(Security::Plaintext) };
        match &cluster.transport {
            Transport::Plaintext => Ok(Security::Plaintext),
            Transport::Refused(reason) => Err(Arc::clone(reason)),
            Transport::Tls(profile) => match profile.server_name(host) {
                Ok(name) => Ok(Security::Tls { profile: Arc::clone(profile), name }),
                Err(error) => Err(error.to_string().into()),
            },
        }
    }
}

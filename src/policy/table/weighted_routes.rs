//! The `tls` and `tcp` routes of VirtualServices: connections that are not read, and that go to one of several
//! destinations instead of the ServiceEntry whose address or server name they bear.

use std::sync::Arc;

use crate::policy::table::cluster::{Cluster, Source};
use crate::policy::table::http_routes::{Destination, pick};
use crate::policy::table::listener_matches::ClusterId;

/// One compiled route.
#[derive(Debug)]
pub struct WeightedRoute {
    pub source: Source,
    /// Position of the cluster whose connections these would be.
    pub(in crate::policy) own: ClusterId,
    pub destinations: Vec<Destination>,
    /// The port of that cluster.
    pub(in crate::policy) port: u16,
}

impl WeightedRoute {
    /// The destination that `random`, any number, picks by weight.
    #[must_use]
    pub fn pick(&self, random: u64) -> Option<&Destination> {
        pick(&self.destinations, random)
    }

    /// Where `to`, one of the destinations, leads; `None` when it does not exist.
    #[must_use]
    pub fn cluster<'s>(&self, to: &'s Destination) -> Option<&'s Arc<Cluster>> {
        to.cluster(self.port)
    }
}

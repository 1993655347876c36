//! Where a tunnel may lead that an application asks a forward proxy for. Made only where tunnels are carried.

use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;

use crate::config::HostPattern;
use crate::policy::table::cluster::Cluster;
use crate::policy::table::host_map::HostMap;
use crate::policy::table::listener_matches::ClusterId;
use crate::policy::table::weighted_routes::WeightedRoute;

/// The clusters that a tunnel may lead to, found by port and name. Made once a table, and only where tunnels are carried.
#[derive(Debug, Default)]
pub(in crate::policy) struct TunnelEnds {
    pub(in crate::policy) by_port: HashMap<u16, HostMap<Vec<ClusterId>>, RandomState>,
    /// Clusters whose connections a route for bytes sends elsewhere.
    pub(in crate::policy) routed: HashSet<ClusterId, RandomState>,
}

impl TunnelEnds {
    pub(in crate::policy) fn add(&mut self, host: &HostPattern, cluster: &Cluster) {
        let on_port = self.by_port.entry(cluster.origin.port).or_default();
        on_port.get_or_insert_with(host, Vec::new).push(cluster.index);
    }

    pub(in crate::policy) fn add_weighted_routes(&mut self, weighted_routes: &[WeightedRoute]) {
        self.routed.extend(weighted_routes.iter().map(|route| route.own));
    }
}

//! The compiled table: immutable, shared by every worker, read without locks or allocation.
//!
//! This file holds what it is made of. `decide` and `first_look` ask it about flows, `listing` shows it to people. It knows
//! nothing of how it came to be, of sockets, or of what becomes of an answer.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::config::Settings;
use crate::policy::table::authorization::Authorization;
use crate::policy::table::cluster::Cluster;
use crate::policy::table::http_routes::HttpServices;
use crate::policy::table::listener_matches::PortMatches;
use crate::policy::table::must_sniff::MustSniff;
use crate::policy::table::short_names::ShortNames;
use crate::policy::table::tunnel_ends::TunnelEnds;
use crate::policy::table::unlisted_port::UnlistedPort;
use crate::policy::table::weighted_routes::WeightedRoute;

/// What may leave, and how. Made by [`compile`](super::compile).
#[derive(Debug, Default)]
pub struct PolicyTable {
    pub(in crate::policy) version: u64,
    pub(in crate::policy) settings: Settings,
    pub(in crate::policy) clusters: Vec<Arc<Cluster>>,
    pub(in crate::policy) ports: HashMap<u16, PortMatches, RandomState>,
    pub(in crate::policy) services: HttpServices,
    pub(in crate::policy) weighted_routes: Vec<WeightedRoute>,
    pub(in crate::policy) must_sniff: MustSniff,
    pub(in crate::policy) tunnel_ends: TunnelEnds,
    pub(in crate::policy) short_names: Arc<ShortNames>,
    /// Addresses that stand for a host, and what is said where one is dialled on a port that the host does not list.
    pub(in crate::policy) automatic: HashMap<IpAddr, UnlistedPort, RandomState>,
    /// What AuthorizationPolicies say of destinations that no entry names.
    pub(in crate::policy) elsewhere: Option<Arc<Authorization>>,
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
}

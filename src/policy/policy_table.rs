//! The compiled table: immutable, shared by every worker, read without locks or allocation.
//!
//! This file holds what it is made of. `decide` and `first_look` ask it about flows, `listing` shows it to people. It knows
//! nothing of how it came to be, of sockets, or of what becomes of an answer.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::config::Settings;
use crate::policy::authorization::Authorization;
use crate::policy::guarded::Guarded;
use crate::policy::http_routes::HttpServices;
use crate::policy::routes::PortRoutes;
use crate::policy::short_names::ShortNames;
use crate::policy::splits::Split;
use crate::policy::table::Cluster;
use crate::policy::tunnels::TunnelEnds;
use crate::policy::unlisted_port::UnlistedPort;

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
    /// Addresses that stand for a host, and what is said where one is dialled on a port that the host does not list.
    pub(super) automatic: HashMap<IpAddr, UnlistedPort, RandomState>,
    /// What AuthorizationPolicies say of destinations that no entry names.
    pub(super) elsewhere: Option<Arc<Authorization>>,
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

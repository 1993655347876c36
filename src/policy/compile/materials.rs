//! What compiling cannot compute, and asks for: key material, addresses of names, and what outlives a table.

use std::net::IpAddr;
use std::sync::Arc;

use crate::config::HostPattern;
use crate::flow::Hostname;
use crate::policy::runtime::health::Health;
use crate::policy::runtime::occupancy::Occupancy;
use crate::policy::runtime::publish::Addresses;
use crate::policy::table::must_sniff::AskedFamilies;
use crate::tls::{ClientProfile, ProfileRequest};

/// Where compiling gets what it cannot compute.
pub trait Materials {
    /// The loaded form of a request; asking again for the same may give the same.
    ///
    /// # Errors
    /// Why the material cannot be had, in words for an operator: the cluster is refused with them.
    fn profile(&mut self, wanted: &ProfileRequest) -> Result<Arc<ClientProfile>, String>;

    /// The cell that holds the latest addresses of `name`, kept current from now on.
    fn addresses(&mut self, name: &Hostname) -> Addresses;

    /// As [`addresses`](Self::addresses), with those that the name had until a while ago: applications keep to them.
    fn bound_addresses(&mut self, name: &Hostname) -> Addresses {
        self.addresses(name)
    }

    /// The families whose addresses names are asked for.
    fn asked_families(&self) -> AskedFamilies {
        AskedFamilies { v4: true, v6: true }
    }

    /// The addresses that stand for `host` alone, where applications are told them: the host is known by them on each of its
    /// ports.
    fn automatic_addresses(&self, _host: &HostPattern) -> Vec<IpAddr> {
        Vec::new()
    }

    /// Every address that stands for a host, also one that is listed no more, and the host.
    fn automatic_hosts(&self) -> Vec<(IpAddr, String)> {
        Vec::new()
    }

    /// The counts of the cluster of this name: the same for every table that has one, so that limits outlive reloads.
    fn occupancy(&mut self, _cluster: &str) -> Arc<Occupancy> {
        Arc::default()
    }

    /// The health of the endpoints of the cluster of this name, kept in the same way.
    fn health(&mut self, _cluster: &str) -> Arc<Health> {
        Arc::default()
    }
}

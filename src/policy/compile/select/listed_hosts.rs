//! The hosts that a workload's policy lists, for whoever answers for their names: with the addresses that entries give
//! them, and whether they are to have automatic ones.
//!
//! It knows nothing of DNS. Which entries are eligible is Istio's rule (`ShouldV2AutoAllocateIP`, `keepHost`).

use std::net::IpAddr;

use crate::config::{HostPattern, Resolution, Resources, ServiceEntry};
use crate::flow::Hostname;
use crate::policy::compile::select::imports::imported;
use crate::policy::compile::select::names::forms;
use crate::policy::compile::select::scope::{Workload, oldest_first, sidecar};

/// The label that keeps an entry from getting automatic addresses where its value is `false`.
pub const AUTOALLOCATE_LABEL: &str = "networking.istio.io/enable-autoallocate-ip";

/// One host of one entry that the workload sees.
#[derive(Clone, Copy, Debug)]
pub struct ListedHost<'e> {
    pub host: &'e HostPattern,
    pub entry: &'e ServiceEntry,
}

impl ListedHost<'_> {
    /// `addresses` of the entry, without the ranges among them: a range is no answer.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let single = self.entry.addresses.iter().filter(|range| range.prefix_len() == range.max_prefix_len());
        single.map(ipnet::IpNet::addr)
    }

    /// Whether the host is to have addresses of its own, since the entry lists none.
    #[must_use]
    pub fn is_eligible(&self) -> bool {
        is_eligible(self.entry, self.host)
    }

    /// What is short for it to the workload.
    #[must_use]
    pub fn short_forms(&self, workload: &Workload) -> Vec<Hostname> {
        match self.host {
            HostPattern::Exact(name) => forms(name, &workload.namespace),
            HostPattern::Wildcard(_) | HostPattern::PartialWildcard(_) | HostPattern::Any => Vec::new(),
        }
    }
}

/// Calls `each` with every host that the workload sees, those of the oldest entry first.
pub fn for_each_listed_host(resources: &Resources, workload: &Workload, mut each: impl FnMut(ListedHost<'_>)) {
    let seen = sidecar(resources, workload).and_then(|sidecar| imported(resources, sidecar, workload));
    let resources = seen.as_ref().unwrap_or(resources);
    for entry in oldest_first(&resources.service_entries, |entry| &entry.meta) {
        if !workload.sees(workload.namespace_of(&entry.meta), &entry.export_to) {
            continue;
        }
        for host in entry.hosts.iter().filter(|host| **host != HostPattern::Any) {
            each(ListedHost { host, entry });
        }
    }
}

/// Resolution NONE follows the application to where it connects, so an address that leads nowhere would not do; and a
/// wildcard needs a name that only DYNAMIC_DNS looks for.
pub(in crate::policy) fn is_eligible(entry: &ServiceEntry, host: &HostPattern) -> bool {
    let wanted = entry.meta.labels.get(AUTOALLOCATE_LABEL).is_none_or(|value| !value.eq_ignore_ascii_case("false"));
    let kept = match host {
        HostPattern::Exact(_) => entry.resolution != Resolution::None,
        HostPattern::Wildcard(_) => entry.resolution == Resolution::DynamicDns,
        // Names are looked up label by label.
        HostPattern::PartialWildcard(_) | HostPattern::Any => false,
    };
    wanted && kept && entry.addresses.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Resolution::{Dns, DnsRoundRobin, DynamicDns, None as Original, Static};
    use crate::policy::tests::fixture::{entry, labels, pattern};

    #[test]
    fn who_gets_automatic_addresses() {
        for (host, addresses, resolution, label, expected) in [
            ("db.test", &[][..], Dns, "", true),
            ("db.test", &[], DnsRoundRobin, "", true),
            ("db.test", &[], Static, "", true),
            ("db.test", &[], Original, "", false),
            ("db.test", &["192.0.2.1"], Dns, "", false),
            ("db.test", &["192.0.2.0/24"], Dns, "", false),
            ("db.test", &[], Dns, "false", false),
            ("db.test", &[], Dns, "False", false),
            ("db.test", &[], Dns, "true", true),
            ("*.test", &[], DynamicDns, "", true),
            ("*-db.test", &[], DynamicDns, "", false),
            ("*.test", &[], Static, "", false),
            ("*.test", &[], Original, "", false),
        ] {
            let mut entry = entry(&[host], addresses, resolution);
            if !label.is_empty() {
                entry.meta.labels = labels(&format!("{AUTOALLOCATE_LABEL}={label}"));
            }
            assert_eq!(is_eligible(&entry, &pattern(host)), expected, "{host} {addresses:?} {resolution:?} {label}");
        }
    }
}

//! What the listener knows of the policy in force: the listed names, and what becomes of others.

use crate::config::{HostPattern, OutboundPolicy, Resources};
use crate::dns::automatic_addresses::AutomaticAddresses;
use crate::dns::name_table::NameTable;
use crate::policy::{AskedFamilies, Workload, for_each_listed_host};

/// What becomes of a query for a name that no entry lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unlisted {
    /// A name server answers.
    #[default]
    Forwarded,
    /// It does not exist, unless it is one of the cluster's: nothing leaves the pod in the guise of a lookup.
    Refused,
}

/// Built for each policy.
#[derive(Debug, Default)]
pub struct Names {
    pub table: NameTable,
    pub unlisted: Unlisted,
}

impl Names {
    /// The names that `workload` sees. Automatic addresses are told only of the `families` that this host can have a route
    /// for: others would lead nowhere.
    #[must_use]
    pub fn of(
        resources: &Resources,
        workload: &Workload,
        automatic: &AutomaticAddresses,
        families: AskedFamilies,
    ) -> Self {
        let mut table = NameTable::default();
        for_each_listed_host(resources, workload, |listed| {
            let mut ips: Vec<_> = listed.addresses().collect();
            if listed.is_eligible() {
                let own = automatic.of(&listed.host.to_string());
                ips.extend(own.iter().filter(|ip| if ip.is_ipv4() { families.v4 } else { families.v6 }));
            }
            match listed.host {
                HostPattern::Exact(name) => {
                    table.add(name, &ips);
                    listed.short_forms(workload).into_iter().for_each(|short| table.add_short(short, name));
                }
                HostPattern::Wildcard(suffix) => table.add_wildcard(suffix, &ips),
                HostPattern::PartialWildcard(ending) => table.add_partial_wildcard(ending),
                HostPattern::Any => {}
            }
        });
        Self { table, unlisted: Unlisted::Forwarded }
    }

    /// Refuses lookups of names that nobody lists, where connections to them are refused as well.
    #[must_use]
    pub fn answering_listed_only(self, policy: OutboundPolicy) -> Self {
        let unlisted = if policy == OutboundPolicy::RegistryOnly { Unlisted::Refused } else { Unlisted::Forwarded };
        Self { unlisted, ..self }
    }
}

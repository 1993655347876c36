//! Whether a connection may go to the very address that the application dialled, where a cluster follows it there.
//!
//! Where egret picks the address itself, a name is bound to what it resolves to. Where it follows the application
//! (resolution NONE, PASSTHROUGH), a name in a request or a ClientHello proves nothing about the address: `strict` asks
//! that the name resolves to it. And nobody comes to a protected address by accident: only an entry that lists it.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::policy::runtime::publish::Addresses;

/// The addresses that the connections of one cluster may go to.
#[derive(Debug, Default)]
pub(in crate::policy) struct DestinationGuard {
    /// `addresses` of the ServiceEntry: whoever lists an address means it.
    pub(in crate::policy) listed: Vec<IpNet>,
    /// What the names resolve to that must lead to the address; `None` does not ask.
    pub(in crate::policy) bound: Option<Vec<Addresses>>,
}

/// Why a flow may not go to the address that it was on its way to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unreachable {
    /// `protectedAddresses`, and no entry that is meant lists it.
    Protected,
    /// The address only stands for a host, and the cluster would follow the application there.
    Automatic,
    /// `strict`: the name has no addresses (yet).
    Unresolved,
    /// `strict`: the name has other addresses.
    Elsewhere,
    /// `strict`: the entry has no host that could be resolved, and does not list the address.
    Unbound,
}

impl Unreachable {
    /// In one word for the access log.
    #[must_use]
    pub fn details(self) -> &'static str {
        match self {
            Unreachable::Protected => "protected_address",
            Unreachable::Automatic => "automatic_address_leads_nowhere",
            Unreachable::Unresolved => "strict_name_not_resolved",
            Unreachable::Elsewhere => "strict_address_is_not_of_this_name",
            Unreachable::Unbound => "strict_host_cannot_be_resolved",
        }
    }

    /// For people, with what to do.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Unreachable::Protected => {
                "the address dialled is link-local or of a metadata service (protectedAddresses); a ServiceEntry that \
                 lists it in `addresses` opens it"
            }
            Unreachable::Automatic => {
                "the address dialled only stands for its host, and a load balancer of PASSTHROUGH would go there; leave it \
                 out, or keep the entry from getting one with the label networking.istio.io/enable-autoallocate-ip: \"false\""
            }
            Unreachable::Unresolved => {
                "strict: the name has not been resolved, so nothing says that the address dialled is one of its"
            }
            Unreachable::Elsewhere => "strict: the name does not resolve to the address dialled",
            Unreachable::Unbound => {
                "strict: a wildcard host with resolution NONE cannot be bound to addresses; use resolution DYNAMIC_DNS, \
                 or list hosts by their full names, or `addresses`"
            }
        }
    }
}

/// Whether `ip` may be dialled where no entry names it.
pub(in crate::policy) fn is_protected(ip: IpAddr, protected: &[IpNet]) -> bool {
    protected.iter().any(|network| network.contains(&ip))
}

impl DestinationGuard {
    /// # Errors
    /// Why `ip` must not be dialled.
    pub(in crate::policy) fn check(&self, ip: IpAddr, protected: &[IpNet]) -> Result<(), Unreachable> {
        let lists = |within: &IpNet| self.listed.iter().any(|own| own.contains(&ip) && within.contains(own));
        if protected.iter().any(|network| network.contains(&ip) && !lists(network)) {
            return Err(Unreachable::Protected);
        }
        match &self.bound {
            None => Ok(()),
            Some(_) if self.listed.iter().any(|own| own.contains(&ip)) => Ok(()),
            Some(names) if names.is_empty() => Err(Unreachable::Unbound),
            Some(names) if names.iter().any(|addresses| addresses.load().contains(&ip)) => Ok(()),
            Some(names) if names.iter().all(|addresses| addresses.load().is_empty()) => Err(Unreachable::Unresolved),
            Some(_) => Err(Unreachable::Elsewhere),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::tests::fixture::network;

    #[test]
    fn what_may_be_dialled() {
        let none: &[&str] = &[];
        for (listed, bound, ip, expected) in [
            (none, None, "1.1.1.1", Ok(())),
            (none, None, "169.254.169.254", Err(Unreachable::Protected)),
            (none, None, "fe80::1", Err(Unreachable::Protected)),
            (&["169.254.169.254"], None, "169.254.169.254", Ok(())),
            (&["169.254.169.0/24"], None, "169.254.169.254", Ok(())),
            (&["169.254.169.253"], None, "169.254.169.254", Err(Unreachable::Protected)),
            // A range that is wider was not written with this address in mind.
            (&["0.0.0.0/0"], None, "169.254.169.254", Err(Unreachable::Protected)),
            (none, Some(&[][..]), "1.1.1.1", Err(Unreachable::Unbound)),
            (none, Some(&[&[][..], &[]][..]), "1.1.1.1", Err(Unreachable::Unresolved)),
            (none, Some(&[&["1.1.1.2"][..], &[]][..]), "1.1.1.1", Err(Unreachable::Elsewhere)),
            (none, Some(&[&["1.1.1.2"][..], &["1.1.1.1"]][..]), "1.1.1.1", Ok(())),
            (&["1.1.0.0/16"], Some(&[][..]), "1.1.1.1", Ok(())),
            (none, Some(&[&["169.254.169.254"][..]][..]), "169.254.169.254", Err(Unreachable::Protected)),
        ] {
            let cell = |ips: &&[&str]| Addresses::new(ips.iter().map(|ip| ip.parse().unwrap()).collect());
            let guard = DestinationGuard {
                listed: listed.iter().map(|range| network(range)).collect(),
                bound: bound.map(|names: &[&[&str]]| names.iter().map(cell).collect()),
            };
            let protected = ["169.254.0.0/16", "fe80::/10"].map(network);
            assert_eq!(guard.check(ip.parse().unwrap(), &protected), expected, "{listed:?} {bound:?} {ip}");
        }
    }
}

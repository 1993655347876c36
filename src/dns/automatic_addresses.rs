//! Addresses that stand for hosts: one IPv4 and one IPv6 address for each, from ranges that nobody can route.
//!
//! They are this pod's alone, so pods need not agree. An address stays its host's as long as the process lives, and beyond
//! that where it is written down, because clients keep answers longer than they should. Where one is looked for follows
//! from the host's name, so that it is mostly the same even where nothing is written down. It knows no policy.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::hash::Hasher as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use twox_hash::XxHash64;

/// Where addresses are taken from; a family without a range has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AutomaticRanges {
    pub v4: Option<Ipv4Net>,
    pub v6: Option<Ipv6Net>,
}

#[cfg(test)]
impl Default for AutomaticRanges {
    /// The settings' own.
    fn default() -> Self {
        let v6 = Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 0);
        Self { v4: Some(Ipv4Net::new_assert(Ipv4Addr::new(240, 240, 0, 0), 16)), v6: Some(Ipv6Net::new_assert(v6, 48)) }
    }
}

impl AutomaticRanges {
    fn hold(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => self.v4.is_some_and(|range| range.contains(&ip)),
            IpAddr::V6(ip) => self.v6.is_some_and(|range| range.contains(&ip)),
        }
    }

    fn all(&self) -> impl Iterator<Item = IpNet> {
        self.v4.map(IpNet::V4).into_iter().chain(self.v6.map(IpNet::V6))
    }
}

/// Taken addresses that are stepped over before a range counts as full: as many as the default range has.
const MAX_STEPS: u128 = 1 << 16;

/// Who has which address. Hosts are written as policy writes them, a wildcard with its `*.`.
#[derive(Debug, Default)]
pub struct AutomaticAddresses {
    by_host: BTreeMap<String, Vec<IpAddr>>,
    owner: HashMap<IpAddr, String>,
}

/// The range of a family has no address left; the host goes without.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the range {range} has no address left for {host}: choose a larger one")]
pub struct Exhausted {
    pub host: String,
    pub range: IpNet,
}

/// What came of an assignment.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Assigned {
    /// Hosts whose addresses are other than before, as lines of the state file.
    pub changed: String,
    pub exhausted: Vec<Exhausted>,
}

impl AutomaticAddresses {
    /// What was written down by an earlier process. Lines that make no sense are left out: the last one may be cut.
    #[must_use]
    pub fn restore(text: &str) -> Self {
        let mut all = Self::default();
        for line in text.split_inclusive('\n') {
            let mut words = line.strip_suffix('\n').unwrap_or_default().split(' ');
            let (Some(host), Some(ips)) = (words.next(), words.map(|ip| ip.parse().ok()).collect::<Option<Vec<_>>>())
            else {
                continue;
            };
            let is_sane = !host.is_empty() && !ips.is_empty() && ips.len() <= 2;
            if is_sane && ips.iter().all(|ip| all.owner.get(ip).is_none_or(|owner| owner == host)) {
                all.set(host, ips);
            }
        }
        all
    }

    /// Everything, as lines of the state file.
    #[must_use]
    pub fn written(&self) -> String {
        self.by_host.iter().map(|(host, ips)| line(host, ips)).collect()
    }

    /// Gives each host an address of each range, unless `wanted` has one of the family for it: somebody gave it that before,
    /// and it is taken from whoever has it here. `reserved` are networks that entries list: they are never given, and an
    /// address that is within one is taken back.
    pub fn assign(
        &mut self,
        ranges: AutomaticRanges,
        wanted: &BTreeMap<String, Vec<IpAddr>>,
        reserved: &[IpNet],
    ) -> Assigned {
        let given = wanted.iter().flat_map(|(host, ips)| ips.iter().map(move |ip| (*ip, host.as_str())));
        let given: HashMap<IpAddr, &str> = given.collect();
        let is_reserved = |ip: &IpAddr| reserved.iter().any(|network| network.contains(ip));
        let is_taken = |ip: &IpAddr| given.contains_key(ip) || is_reserved(ip);
        // In the order of their names, whatever the order of the files.
        let mut assigned = Assigned::default();
        for (host, own) in wanted {
            let before = self.by_host.get(host).cloned().unwrap_or_default();
            let own: Vec<IpAddr> = own.iter().copied().filter(|ip| given.get(ip) == Some(&host.as_str())).collect();
            let has_own = |ip: &IpAddr| own.iter().any(|given| given.is_ipv4() == ip.is_ipv4());
            let is_good = |ip: &IpAddr| ranges.hold(*ip) && !has_own(ip) && !is_taken(ip);
            let mut ips: Vec<IpAddr> = before.iter().copied().filter(is_good).chain(own.iter().copied()).collect();
            for range in ranges.all() {
                if ips.iter().any(|ip| ip.is_ipv4() == range.addr().is_ipv4()) {
                    continue;
                }
                match self.free(range, host, &is_taken).or_else(|| self.reclaim(range, wanted, &is_taken)) {
                    Some(ip) => ips.push(ip),
                    None => assigned.exhausted.push(Exhausted { host: host.clone(), range }),
                }
            }
            ips.sort_unstable();
            if ips != before {
                assigned.changed.push_str(&line(host, &ips));
                self.set(host, ips);
            }
        }
        assigned
    }

    /// The addresses of `host`.
    #[must_use]
    pub fn of(&self, host: &str) -> &[IpAddr] {
        self.by_host.get(host).map_or(&[], Vec::as_slice)
    }

    /// The host that has `ip`, or had it last.
    #[must_use]
    pub fn owner(&self, ip: IpAddr) -> Option<&str> {
        self.owner.get(&ip).map(String::as_str)
    }

    /// Every address that was ever given and who has it, or had it last: clients may use it still.
    #[must_use]
    pub fn owners(&self) -> Vec<(IpAddr, String)> {
        self.owner.iter().map(|(ip, host)| (*ip, host.clone())).collect()
    }

    fn set(&mut self, host: &str, ips: Vec<IpAddr>) {
        for old in self.by_host.insert(host.to_owned(), ips.clone()).unwrap_or_default() {
            if self.owner.get(&old).is_some_and(|owner| owner == host) {
                self.owner.remove(&old);
            }
        }
        for ip in ips {
            let other = self.owner.insert(ip, host.to_owned()).filter(|other| other != host);
            if let Some(others) = other.and_then(|other| self.by_host.get_mut(&other)) {
                others.retain(|theirs| *theirs != ip);
            }
        }
    }

    /// The first free address from the one on that the host's name points to.
    fn free(&self, range: IpNet, host: &str, is_taken: &impl Fn(&IpAddr) -> bool) -> Option<IpAddr> {
        let usable = usable(range);
        let mut hasher = XxHash64::with_seed(0);
        hasher.write(host.as_bytes());
        let start = u128::from(hasher.finish()) % usable;
        (0..usable.min(MAX_STEPS))
            .map(|step| nth(range, (start + step) % usable))
            .find(|ip| !self.owner.contains_key(ip) && !is_taken(ip))
    }

    /// The address of a host that is listed no more.
    fn reclaim(
        &mut self,
        range: IpNet,
        wanted: &BTreeMap<String, Vec<IpAddr>>,
        is_taken: &impl Fn(&IpAddr) -> bool,
    ) -> Option<IpAddr> {
        let is_free = |ip: &&IpAddr| range.contains(*ip) && !is_taken(ip);
        let mut idle = self.by_host.iter().filter(|(host, _)| !wanted.contains_key(*host));
        let (host, ip) = idle.find_map(|(host, ips)| Some((host.clone(), *ips.iter().find(is_free)?)))?;
        self.set(&host, Vec::new());
        self.by_host.remove(&host);
        Some(ip)
    }
}

fn line(host: &str, ips: &[IpAddr]) -> String {
    let mut line = host.to_owned();
    for ip in ips {
        write!(line, " {ip}").expect("writing to a String does not fail");
    }
    line.push('\n');
    line
}

/// How many addresses may be given: neither the network's own nor the last, and no more than a hash can reach.
fn usable(range: IpNet) -> u128 {
    let bits = range.max_prefix_len() - range.prefix_len();
    (1_u128 << bits.min(64)).saturating_sub(2).max(1)
}

fn nth(range: IpNet, offset: u128) -> IpAddr {
    match range {
        IpNet::V4(range) => Ipv4Addr::from(u32::from(range.network()).wrapping_add(offset as u32 + 1)).into(),
        IpNet::V6(range) => Ipv6Addr::from(u128::from(range.network()).wrapping_add(offset + 1)).into(),
    }
}

#[cfg(test)]
#[path = "tests/automatic_addresses.rs"]
mod tests;

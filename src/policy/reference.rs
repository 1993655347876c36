//! A second opinion on the table: the same rules as linear searches over the entries, compared on random entries and
//! flows. Ports whose server speaks first are left to the tables of cases.

use std::net::IpAddr;

use ipnet::IpNet;
use proptest::prelude::*;

use crate::config::PortProtocol::{self, Auto, Http, Tcp, Tls};
use crate::config::{HostPattern, Resolution, Resources, ServiceEntry};
use crate::flow::Host;
use crate::policy::fixture::{compiled, dst, entry, host, network, pattern};
use crate::policy::{Decision, FirstLook, PolicyTable, Unread};

/// One host of one entry; entries have one port, which is always 80.
struct Declared<'e> {
    entry: &'e str,
    host: &'e HostPattern,
    protocol: PortProtocol,
    ranges: Vec<IpNet>,
}

type Answer = Option<String>;

fn declared(entries: &[ServiceEntry]) -> Vec<Declared<'_>> {
    let each = entries.iter().flat_map(|entry| {
        entry.hosts.iter().map(|host| Declared {
            entry: &entry.meta.name,
            host,
            protocol: entry.ports[0].protocol,
            ranges: if entry.addresses.is_empty() {
                vec![network("0.0.0.0/0"), network("::/0")]
            } else {
                entry.addresses.iter().map(IpNet::trunc).collect()
            },
        })
    });
    each.collect()
}

fn single(range: &IpNet) -> bool {
    range.prefix_len() == range.max_prefix_len()
}

impl Declared<'_> {
    fn routes_by_host(&self) -> bool {
        self.protocol == Http || self.protocol == Auto && !self.ranges.iter().all(single)
    }

    fn listens(&self, range: &IpNet) -> bool {
        let by_host = self.routes_by_host() && range.prefix_len() == 0;
        by_host || self.protocol != Http && self.ranges.contains(range)
    }

    fn takes_bytes(&self, range: &IpNet) -> bool {
        matches!(self.protocol, Tcp | Auto) && self.ranges.contains(range)
    }

    fn takes_tls(&self, range: &IpNet) -> bool {
        self.protocol == Tls && self.ranges.contains(range)
    }

    fn answer(&self) -> String {
        format!("{} {}", self.entry, self.host)
    }
}

/// How specifically a pattern covers a name, if it does.
fn covers(pattern: &HostPattern, name: &str) -> Option<usize> {
    match pattern {
        HostPattern::Exact(exact) => (exact.as_str() == name).then_some(usize::MAX),
        HostPattern::Wildcard(suffix) => name.ends_with(&format!(".{suffix}")).then_some(suffix.as_str().len()),
        HostPattern::Any => Some(0),
    }
}

/// The first of the most specific.
fn best<'d, 'e>(all: impl Iterator<Item = &'d Declared<'e>>, name: &str) -> Option<&'d Declared<'e>>
where
    'e: 'd,
{
    let mut found: Option<(usize, &Declared<'_>)> = None;
    for one in all {
        let score = covers(one.host, name);
        if score.is_some_and(|score| found.is_none_or(|(held, _)| score > held)) {
            found = score.map(|score| (score, one));
        }
    }
    found.map(|(_, one)| one)
}

/// The ranges that are asked, nearest first: the longest, and behind a range that is no single address the whole.
fn asked(all: &[Declared<'_>], ip: IpAddr) -> Vec<IpNet> {
    let whole = if ip.is_ipv4() { network("0.0.0.0/0") } else { network("::/0") };
    let known = all.iter().flat_map(|one| one.ranges.iter().copied().chain([whole]));
    let mut ranges: Vec<IpNet> =
        known.filter(|range| range.contains(&ip) && all.iter().any(|one| one.listens(range))).collect();
    ranges.sort_by_key(|range| std::cmp::Reverse(range.prefix_len()));
    ranges.dedup();
    let Some(longest) = ranges.first().copied() else { return Vec::new() };
    ranges.retain(|range| *range == longest || !single(&longest) && range.prefix_len() == 0);
    ranges
}

/// Whoever takes everything that comes to a range.
fn catch_all(all: &[Declared<'_>], range: &IpNet) -> Answer {
    all.iter().find(|one| one.takes_bytes(range) || single(range) && one.takes_tls(range)).map(Declared::answer)
}

fn by_host(all: &[Declared<'_>], wanted: &Host) -> Answer {
    let hosts = || all.iter().filter(|one| one.routes_by_host());
    match wanted {
        Host::Name(name) => best(hosts(), name.as_str()).map(Declared::answer),
        Host::Ip(ip) => {
            let first_of_its_name = |one: &&Declared<'_>| {
                hosts().find(|other| other.host == one.host).is_some_and(|f| std::ptr::eq(f, *one))
            };
            let own = |one: &&Declared<'_>| one.ranges.iter().any(|range| single(range) && range.addr() == *ip);
            hosts().filter(first_of_its_name).find(own).map(Declared::answer)
        }
    }
}

fn http(all: &[Declared<'_>], ip: IpAddr, wanted: &Host) -> Answer {
    for range in asked(all, ip) {
        if range.prefix_len() == 0 && all.iter().any(Declared::routes_by_host) {
            return by_host(all, wanted);
        }
        let undeclared = all.iter().find(|one| single(&range) && one.protocol == Auto && one.ranges.contains(&range));
        if let Some(answer) = undeclared.map(Declared::answer).or_else(|| catch_all(all, &range)) {
            return Some(answer);
        }
    }
    None
}

fn tls(all: &[Declared<'_>], ip: IpAddr, sni: Option<&str>) -> Answer {
    let ranges = asked(all, ip);
    ranges.iter().find_map(|range| {
        let named = sni.and_then(|name| best(all.iter().filter(|one| one.takes_tls(range)), name));
        named.map(Declared::answer).or_else(|| catch_all(all, range))
    })
}

fn bytes(all: &[Declared<'_>], ip: IpAddr) -> Answer {
    asked(all, ip).iter().find_map(|range| catch_all(all, range))
}

fn unseen(all: &[Declared<'_>], ip: IpAddr) -> Answer {
    let nearest = *asked(all, ip).first()?;
    let http = all.iter().any(|one| match one.protocol {
        Auto if single(&nearest) => one.ranges.contains(&nearest),
        _ => one.routes_by_host() && nearest.prefix_len() == 0,
    });
    let seen = http || all.iter().any(|one| one.takes_tls(&nearest));
    if seen { None } else { catch_all(all, &nearest) }
}

fn named(decision: &Decision<'_>) -> Answer {
    match decision {
        Decision::Forward(cluster) => Some(format!("{} {}", cluster.origin.service_entry.name, cluster.host)),
        Decision::Passthrough | Decision::Deny(_) => None,
    }
}

fn agree(table: &PolicyTable, all: &[Declared<'_>]) {
    for ip in ["1.1.1.1", "1.1.1.2", "1.1.1.9", "1.1.9.9", "9.9.9.9", "::1", "::2", "2::2"] {
        let ip: IpAddr = ip.parse().expect("an address");
        let to = dst(&std::net::SocketAddr::new(ip, 80).to_string());
        let first = match table.first_look(to) {
            FirstLook::Decided(decision) => named(&decision),
            FirstLook::Sniff => None,
        };
        assert_eq!(first, unseen(all, ip), "first look at {ip}");
        assert_eq!(named(&table.opaque(to, Unread::Unknown)), bytes(all, ip), "bytes to {ip}");
        assert_eq!(named(&table.tls(to, None)), tls(all, ip, None), "TLS to {ip}");
        for text in ["a.t", "b.t", "x.t", "x.a.t", "t", "1.1.1.1", "[::1]"] {
            let wanted = host(text);
            assert_eq!(named(&table.http(to, &wanted)), http(all, ip, &wanted), "HTTP to {ip} for {text}");
            if let Host::Name(sni) = &wanted {
                assert_eq!(
                    named(&table.tls(to, Some(sni))),
                    tls(all, ip, Some(sni.as_str())),
                    "TLS to {ip} for {text}"
                );
            }
        }
    }
}

fn entries() -> impl Strategy<Value = Vec<ServiceEntry>> {
    let hosts = prop::collection::vec(prop::sample::select(vec!["a.t", "b.t", "*.t", "*.a.t"]), 1..3);
    let ranges = ["1.1.1.1", "1.1.1.2", "1.1.1.1/24", "1.1.0.0/16", "0.0.0.0/0", "::1", "::/64"];
    let addresses = prop_oneof![Just(Vec::new()), prop::collection::vec(prop::sample::select(ranges.to_vec()), 1..3),];
    let protocol = prop::sample::select(vec![Http, Auto, Tcp, Tls]);
    let one = (hosts, addresses, protocol).prop_map(|(mut hosts, addresses, protocol)| {
        hosts.dedup();
        let mut made = entry(&hosts, &addresses, Resolution::None).with_port(80, protocol);
        made.hosts = hosts.iter().map(|host| pattern(host)).collect();
        made
    });
    prop::collection::vec(one, 0..6).prop_map(|all| {
        let numbered = all.into_iter().enumerate().map(|(at, entry)| entry.named(&format!("e{at}")));
        numbered.collect()
    })
}

proptest! {
    #[test]
    fn the_table_agrees_with_the_linear_search(entries in entries()) {
        let resources = Resources { service_entries: entries, ..Resources::default() };
        let (table, _) = compiled(&resources);
        agree(&table, &declared(&resources.service_entries));
    }
}

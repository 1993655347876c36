//! A second opinion on the table: the same rules as linear searches over the entries, compared on random entries and
//! flows. Ports whose server speaks first are left to the tables of cases.

use std::net::IpAddr;

use ipnet::IpNet;
use proptest::prelude::*;

use crate::config::PortProtocol::{Auto, Http, Tcp, Tls};
use crate::config::{
    ByteMatch, ByteRoute, Destination, HostPattern, Resolution, Resources, ServiceEntry, VirtualService,
};
use crate::flow::Host;
use crate::policy::tests::fixture::{
    compiled, decided, dst, entry, host, meta, name, network, pattern, place, requested,
};
use crate::policy::{Content, Decision, FirstLook, PolicyTable, Route, Verdict};

/// What somebody wants of a port, in the order in which it is wanted; the port is always 80.
struct Declared {
    /// Who gets it: an entry's host, or a route by the host that it leads to.
    who: String,
    host: HostPattern,
    wants: Wants,
    ranges: Vec<IpNet>,
    /// A route's, on a port without a declared protocol.
    detects: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wants {
    /// Requests by their host.
    Requests,
    /// Whatever a single address is asked, if that is a request.
    RequestsAt,
    /// A server name, and without another claim everything that comes to a single address.
    Names,
    /// A server name for a route.
    NamesOnly,
    Bytes,
}

type Answer = Option<String>;

fn declared(entries: &[ServiceEntry], routes: &[VirtualService]) -> Vec<Declared> {
    let mut all = Vec::new();
    for entry in entries {
        let ranges = if entry.addresses.is_empty() {
            vec![network("0.0.0.0/0"), network("::/0")]
        } else {
            entry.addresses.iter().map(IpNet::trunc).collect()
        };
        let protocol = entry.ports[0].protocol;
        for host in &entry.hosts {
            let own = |wants, ranges: &[IpNet]| Declared {
                who: format!("{} {host}", entry.meta.name),
                host: host.clone(),
                wants,
                ranges: ranges.to_vec(),
                detects: false,
            };
            if protocol == Http || protocol == Auto && !ranges.iter().all(single) {
                all.push(own(Wants::Requests, &ranges));
            }
            if protocol == Auto {
                let singles: Vec<IpNet> = ranges.iter().copied().filter(single).collect();
                all.push(own(Wants::RequestsAt, &singles));
            }
            let holders = || routes.iter().filter(|holder| holder.hosts.iter().any(|own| own.covers(host)));
            let elsewhere = |route: &ByteRoute, host: &HostPattern, wants, subnets: &[IpNet]| Declared {
                who: route.destinations[0].host.to_string(),
                host: host.clone(),
                wants,
                ranges: narrowed(&entry.addresses, &ranges, subnets),
                detects: protocol == Auto,
            };
            if protocol == Tls {
                let routes: Vec<&ByteRoute> = holders().flat_map(|holder| &holder.tls).collect();
                if routes.is_empty() {
                    all.push(own(Wants::Names, &ranges));
                }
                for (route, one) in routes.iter().flat_map(|route| route.matches.iter().map(move |one| (route, one))) {
                    for name in &one.sni_hosts {
                        all.push(elsewhere(route, name, Wants::NamesOnly, &one.destination_subnets));
                    }
                }
            }
            if matches!(protocol, Tcp | Auto) {
                let routes: Vec<&ByteRoute> = holders().flat_map(|holder| &holder.tcp).collect();
                let first = routes.iter().position(|route| route.matches.is_empty());
                for route in &routes[..first.map_or(routes.len(), |first| first + 1)] {
                    let subnets: Vec<IpNet> =
                        route.matches.iter().flat_map(|one| &one.destination_subnets).copied().collect();
                    all.push(elsewhere(route, host, Wants::Bytes, &subnets));
                }
                if first.is_none() {
                    all.push(own(Wants::Bytes, &ranges));
                }
            }
        }
    }
    all
}

/// What of an entry's ranges lies in a route's subnets; networks are replaced by them.
fn narrowed(addresses: &[IpNet], ranges: &[IpNet], subnets: &[IpNet]) -> Vec<IpNet> {
    if subnets.is_empty() {
        return ranges.to_vec();
    }
    let inside = |ip: &&IpNet| single(ip) && subnets.iter().any(|subnet| subnet.contains(*ip));
    let mut found: Vec<IpNet> = addresses.iter().filter(inside).copied().collect();
    if addresses.is_empty() || !addresses.iter().all(single) {
        found.extend(subnets);
    }
    found
}

fn single(range: &IpNet) -> bool {
    range.prefix_len() == range.max_prefix_len()
}

impl Declared {
    fn listens(&self, range: &IpNet) -> bool {
        match self.wants {
            Wants::Requests => range.prefix_len() == 0,
            _ => self.ranges.contains(range),
        }
    }

    fn takes_bytes(&self, range: &IpNet) -> bool {
        self.wants == Wants::Bytes && self.ranges.contains(range)
    }

    fn takes_tls(&self, range: &IpNet) -> bool {
        matches!(self.wants, Wants::Names | Wants::NamesOnly) && self.ranges.contains(range)
    }

    fn takes_anything(&self, range: &IpNet) -> bool {
        self.takes_bytes(range) || single(range) && self.wants == Wants::Names && self.ranges.contains(range)
    }

    fn answer(&self) -> String {
        self.who.clone()
    }
}

/// How specifically a pattern covers a name, if it does.
fn covers(pattern: &HostPattern, name: &str) -> Option<usize> {
    match pattern {
        HostPattern::Exact(exact) => (exact.as_str() == name).then_some(usize::MAX),
        HostPattern::Wildcard(suffix) => name.ends_with(&format!(".{suffix}")).then_some(suffix.as_str().len() + 1),
        HostPattern::PartialWildcard(end) => (name.ends_with(&**end) && name.len() > end.len()).then_some(end.len()),
        HostPattern::Any => Some(0),
    }
}

/// The first of the most specific.
fn best<'d>(all: impl Iterator<Item = &'d Declared>, name: &str) -> Option<&'d Declared> {
    let mut found: Option<(usize, &Declared)> = None;
    for one in all {
        let score = covers(&one.host, name);
        if score.is_some_and(|score| found.is_none_or(|(held, _)| score > held)) {
            found = score.map(|score| (score, one));
        }
    }
    found.map(|(_, one)| one)
}

/// The ranges that are asked, nearest first: the longest, and behind it the whole.
fn asked(all: &[Declared], ip: IpAddr) -> Vec<IpNet> {
    let whole = if ip.is_ipv4() { network("0.0.0.0/0") } else { network("::/0") };
    let known = all.iter().flat_map(|one| one.ranges.iter().copied().chain([whole]));
    let mut ranges: Vec<IpNet> =
        known.filter(|range| range.contains(&ip) && all.iter().any(|one| one.listens(range))).collect();
    ranges.sort_by_key(|range| std::cmp::Reverse(range.prefix_len()));
    ranges.dedup();
    let Some(longest) = ranges.first().copied() else { return Vec::new() };
    ranges.retain(|range| *range == longest || range.prefix_len() == 0);
    ranges
}

/// Whoever takes everything that comes to a range.
fn catch_all(all: &[Declared], range: &IpNet) -> Answer {
    all.iter().find(|one| one.takes_anything(range)).map(Declared::answer)
}

fn by_host(all: &[Declared], wanted: &Host) -> Answer {
    let hosts = || all.iter().filter(|one| one.wants == Wants::Requests);
    match wanted {
        Host::Name(name) => best(hosts(), name.as_str()).map(Declared::answer),
        Host::Ip(ip) => {
            let first_of_its_name =
                |one: &&Declared| hosts().find(|other| other.host == one.host).is_some_and(|f| std::ptr::eq(f, *one));
            let own = |one: &&Declared| one.ranges.iter().any(|range| single(range) && range.addr() == *ip);
            hosts().filter(first_of_its_name).find(own).map(Declared::answer)
        }
    }
}

fn http(all: &[Declared], ip: IpAddr, wanted: &Host) -> Answer {
    for range in asked(all, ip) {
        if range.prefix_len() == 0 && all.iter().any(|one| one.wants == Wants::Requests) {
            return by_host(all, wanted);
        }
        let undeclared = all.iter().find(|one| one.wants == Wants::RequestsAt && one.ranges.contains(&range));
        if let Some(answer) = undeclared.map(Declared::answer).or_else(|| catch_all(all, &range)) {
            return Some(answer);
        }
    }
    None
}

fn tls(all: &[Declared], ip: IpAddr, sni: Option<&str>) -> Answer {
    let ranges = asked(all, ip);
    ranges.iter().find_map(|range| {
        let named = sni.and_then(|name| best(all.iter().filter(|one| one.takes_tls(range)), name));
        named.map(Declared::answer).or_else(|| catch_all(all, range))
    })
}

fn bytes(all: &[Declared], ip: IpAddr) -> Answer {
    asked(all, ip).iter().find_map(|range| catch_all(all, range))
}

fn unseen(all: &[Declared], ip: IpAddr) -> Answer {
    let nearest = *asked(all, ip).first()?;
    let http = all.iter().any(|one| match one.wants {
        Wants::RequestsAt => one.ranges.contains(&nearest),
        Wants::Requests => nearest.prefix_len() == 0,
        _ => false,
    });
    let seen = http || all.iter().any(|one| one.takes_tls(&nearest)) || is_told_apart(all, &nearest);
    if seen { None } else { catch_all(all, &nearest) }
}

/// Where a route of an undeclared port has the bytes, TLS is told from them.
fn is_told_apart(all: &[Declared], range: &IpNet) -> bool {
    let holder = all.iter().find(|one| one.takes_anything(range));
    holder.is_some_and(|one| one.detects && one.wants == Wants::Bytes)
}

fn named(verdict: &Verdict<'_>) -> Answer {
    match (verdict.route, &verdict.decision) {
        (Some(Route::Bytes(route)), _) => Some(route.destinations[0].name.replace("outbound|80||", "")),
        (_, Decision::Forward(cluster)) => Some(format!("{} {}", cluster.origin.service_entry.name, cluster.host)),
        _ => None,
    }
}

fn agree(table: &PolicyTable, all: &[Declared]) {
    for ip in ["1.1.1.1", "1.1.1.2", "1.1.1.9", "1.1.9.9", "9.9.9.9", "::1", "::2", "2::2"] {
        let ip: IpAddr = ip.parse().expect("an address");
        let to = &std::net::SocketAddr::new(ip, 80).to_string();
        let first = match table.first_look(dst(to), 0) {
            FirstLook::Decided(verdict) => named(&verdict),
            FirstLook::Sniff(_) => None,
        };
        assert_eq!(first, unseen(all, ip), "first look at {ip}");
        assert_eq!(named(&decided(table, to, Content::Opaque)), bytes(all, ip), "bytes to {ip}");
        assert_eq!(named(&decided(table, to, Content::Tls(None))), tls(all, ip, None), "TLS to {ip}");
        for text in ["a.t", "b.t", "x.t", "x.a.t", "t", "1.1.1.1", "[::1]"] {
            let wanted = host(text);
            assert_eq!(named(&requested(table, to, text)), http(all, ip, &wanted), "HTTP to {ip} for {text}");
            if let Host::Name(sni) = &wanted {
                assert_eq!(
                    named(&decided(table, to, Content::Tls(Some(sni)))),
                    tls(all, ip, Some(sni.as_str())),
                    "TLS to {ip} for {text}"
                );
            }
        }
    }
}

pub(in crate::policy) fn entries() -> impl Strategy<Value = Vec<ServiceEntry>> {
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

/// Routes whose destinations no entry has, each its own.
fn routes() -> impl Strategy<Value = Vec<VirtualService>> {
    let patterns = || prop::collection::vec(prop::sample::select(vec!["a.t", "b.t", "*.t", "*.a.t", "x.a.t"]), 1..3);
    let subnets =
        || prop::collection::vec(prop::sample::select(vec!["1.1.1.0/24", "1.1.0.0/16", "9.9.9.9", "::/64"]), 0..2);
    let tls = prop::collection::vec((patterns(), subnets()), 0..3);
    let tcp = prop::collection::vec(subnets(), 0..3);
    let one = (patterns(), tls, tcp);
    prop::collection::vec(one, 0..3).prop_map(|all| {
        let mut destinations = 0;
        let mut route = |matches: Vec<ByteMatch>| {
            destinations += 1;
            let host = name(&format!("d{destinations}.example"));
            let (request, response) = Default::default();
            let to = Destination {
                host,
                port: None,
                subset: None,
                weight: 1,
                request,
                response,
                authority: None,
                at: place("to"),
            };
            ByteRoute { matches, destinations: vec![to], at: place("route") }
        };
        let networks = |all: &[&str]| all.iter().map(|range| network(range).trunc()).collect::<Vec<_>>();
        let services = all.iter().enumerate().map(|(at, (hosts, tls, tcp))| VirtualService {
            meta: meta(&format!("v{at}")),
            hosts: hosts.iter().map(|host| pattern(host)).collect(),
            export_to: Vec::new(),
            http: Vec::new(),
            delegate: None,
            tls: tls
                .iter()
                .map(|(names, subnets)| {
                    let sni_hosts = names.iter().map(|name| pattern(name)).collect();
                    let destination_subnets = networks(subnets);
                    route(vec![ByteMatch { sni_hosts, destination_subnets, ..ByteMatch::default() }])
                })
                .collect(),
            tcp: tcp
                .iter()
                .map(|subnets| {
                    let one = ByteMatch { destination_subnets: networks(subnets), ..ByteMatch::default() };
                    route(if subnets.is_empty() { Vec::new() } else { vec![one] })
                })
                .collect(),
        });
        services.collect()
    })
}

/// A route had taken a name whose entry kept the address: the look-up of a cluster that was not there ended the worker.
#[test]
fn a_name_that_a_route_has_taken() {
    let (request, response) = Default::default();
    let host = name("d1.example");
    let to =
        Destination { host, port: None, subset: None, weight: 1, request, response, authority: None, at: place("to") };
    let matches = vec![ByteMatch { sni_hosts: vec![pattern("*.a.t")], ..ByteMatch::default() }];
    let resources = Resources {
        service_entries: vec![entry(&["b.t", "*.a.t"], &["1.1.1.1"], Resolution::None).with_port(80, Tls).named("e0")],
        virtual_services: vec![VirtualService {
            meta: meta("v0"),
            hosts: vec![pattern("b.t")],
            export_to: Vec::new(),
            http: Vec::new(),
            delegate: None,
            tls: vec![ByteRoute { matches, destinations: vec![to], at: place("route") }],
            tcp: Vec::new(),
        }],
        ..Resources::default()
    };
    let (table, _) = compiled(&resources);
    agree(&table, &declared(&resources.service_entries, &resources.virtual_services));
}

proptest! {
    #[test]
    fn the_table_agrees_with_the_linear_search(entries in entries(), routes in routes()) {
        let resources = Resources { service_entries: entries, virtual_services: routes, ..Resources::default() };
        let (table, _) = compiled(&resources);
        agree(&table, &declared(&resources.service_entries, &resources.virtual_services));
    }
}

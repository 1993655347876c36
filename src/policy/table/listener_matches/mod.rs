//! What is known of one destination port: which cluster gets a flow, by address and by what it says.
//!
//! It knows clusters only by number, and nothing of why one was declared; it decides who wins a match. The shape
//! follows Istio's listeners: every address or range of a port is a bind of its own, the longest prefix is looked at
//! first, and HTTP ports share one set of hosts that ignores the address. First come, first served: entries must be
//! claimed oldest first.
//!
//! One deliberate difference: a range that has no answer does not hide the entries without addresses behind it, where
//! Envoy would give up (istio#52235).

mod match_dump;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use foldhash::fast::RandomState;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::config::HostPattern;
use crate::flow::{Host, Hostname};
use crate::policy::table::host_map::HostMap;

pub(super) use match_dump::DumpedMatch;

/// Position of a cluster in its table.
pub(in crate::policy) type ClusterId = usize;
/// Position of a route for bytes in its table.
pub(in crate::policy) type WeightedRouteId = usize;

/// Who has a match: a cluster, or a route that sends the cluster's flows elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::policy) struct Claimant {
    pub(in crate::policy) cluster: ClusterId,
    pub(in crate::policy) route: Option<WeightedRouteId>,
}

/// What a port's routes say of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::policy) enum Match {
    Cluster(ClusterId),
    Weighted(WeightedRouteId),
    /// No entry speaks of it; the outbound policy does.
    Unknown,
}

#[derive(Debug, Default)]
pub(in crate::policy) struct PortMatches {
    hosts: HttpHosts,
    /// Some bind tells requests apart.
    reads_requests: bool,
    binds: HashMap<IpNet, Bind, RandomState>,
    /// The prefix lengths in use, longest first: a lookup probes each once.
    lengths_v4: Vec<u8>,
    lengths_v6: Vec<u8>,
}

/// The virtual hosts that all HTTP entries of a port share.
#[derive(Debug, Default)]
struct HttpHosts {
    names: HostMap<ClusterId>,
    /// Virtual addresses, which are hosts of their own when an application writes them into `Host`.
    literals: HashMap<IpAddr, ClusterId, RandomState>,
}

/// What entries declare the connections to one address to be, on a port of protocol HTTP (and its kin), TLS or HTTPS.
///
/// Such a connection begins with what the application says, so that nothing is decided before: Istio's
/// `protocolDetectionTimeout` is none there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Declared {
    pub http: bool,
    pub tls: bool,
}

/// What connections to one address range of a port may be.
#[derive(Debug, Default)]
struct Bind {
    declared: Declared,
    http: HttpRule,
    /// By SNI; `*` for an entry with an address of its own, which needs no SNI to be known.
    tls: HostMap<Claimant>,
    bytes: Option<Bytes>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum HttpRule {
    /// Not told apart from other bytes.
    #[default]
    Unseen,
    /// By the port's hosts; the first cluster that asked for it.
    ByHost(ClusterId),
    /// By the port's hosts, and this cluster's what none of them has: the address stands for its host alone.
    ByHostOr(ClusterId),
    /// One undeclared port with an address of its own: whatever the host.
    Always(ClusterId),
}

/// The address that an application dialled.
#[derive(Clone, Copy, Debug)]
pub(in crate::policy) struct Dialled {
    pub(in crate::policy) ip: IpAddr,
    /// It is no server's, but stands for one host: entries without addresses, which take connections to wherever they go, do
    /// not take those, unless by a name.
    pub(in crate::policy) stands_for_a_host: bool,
}

/// A bind as a connection sees it.
#[derive(Clone, Copy)]
struct VisibleBind<'r> {
    bind: &'r Bind,
    by_name_alone: bool,
}

#[derive(Clone, Copy, Debug)]
struct Bytes {
    holder: Claimant,
    server_first: bool,
}

/// What came of claiming matches for a cluster.
#[derive(Debug, Default)]
pub(in crate::policy) struct Claims {
    /// At least one match is the cluster's.
    pub(in crate::policy) won: bool,
    /// Matches that an older cluster holds already.
    pub(in crate::policy) lost: Vec<(String, ClusterId)>,
}

/// A protocol whose server speaks first cannot share a bind with one that waits to be recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::policy) enum FirstSpeaker {
    Either,
    Server,
}

impl From<ClusterId> for Claimant {
    fn from(cluster: ClusterId) -> Self {
        Self { cluster, route: None }
    }
}

impl From<Claimant> for Match {
    fn from(claimant: Claimant) -> Self {
        claimant.route.map_or(Match::Cluster(claimant.cluster), Match::Weighted)
    }
}

impl Claims {
    /// `holder` has the match that `id` asked for. An entry may list an address twice, and holds it already then.
    fn note(&mut self, what: impl FnOnce() -> String, id: ClusterId, holder: ClusterId) {
        if holder == id {
            self.won = true;
        } else {
            self.lost.push((what(), holder));
        }
    }
}

/// The ranges of an entry: its addresses, or everything.
fn ranges(addresses: &[IpNet]) -> Vec<IpNet> {
    if addresses.is_empty() { everything().to_vec() } else { addresses.iter().map(IpNet::trunc).collect() }
}

pub(in crate::policy) fn everything() -> [IpNet; 2] {
    let v4 = Ipv4Net::new(Ipv4Addr::UNSPECIFIED, 0).expect("0 is a prefix length");
    let v6 = Ipv6Net::new(Ipv6Addr::UNSPECIFIED, 0).expect("0 is a prefix length");
    [v4.into(), v6.into()]
}

fn is_single(range: &IpNet) -> bool {
    range.prefix_len() == range.max_prefix_len()
}

impl PortMatches {
    /// Whether any entry of this port is found by a name.
    pub(in crate::policy) fn has_names(&self) -> bool {
        self.binds.values().any(|bind| bind.http != HttpRule::Unseen || !bind.tls.is_empty())
    }

    /// Whether any entry has this port for requests.
    pub(in crate::policy) fn reads_requests(&self) -> bool {
        self.reads_requests
    }
}

/// Claiming, oldest first. A cluster that wins nothing need not exist.
impl PortMatches {
    /// An HTTP port: `host` and its single addresses, wherever the connection was going.
    pub(in crate::policy) fn claim_http(&mut self, host: &HostPattern, addresses: &[IpNet], id: ClusterId) -> Claims {
        let claims = self.claim_host(host, addresses, id);
        if claims.won {
            for range in everything() {
                self.bind_mut(range).declared.http = true;
            }
        }
        claims
    }

    fn claim_host(&mut self, host: &HostPattern, addresses: &[IpNet], id: ClusterId) -> Claims {
        let mut claims = Claims::default();
        if let Some(owner) = self.server_first_owner() {
            claims.lost.push((format!("host {host}"), owner));
            return claims;
        }
        self.reads_requests = true;
        for range in everything() {
            let bind = self.bind_mut(range);
            if bind.http == HttpRule::Unseen {
                bind.http = HttpRule::ByHost(id);
            }
        }
        let holder = *self.hosts.names.get_or_insert_with(host, || id);
        claims.note(|| format!("host {host}"), id, holder);
        if claims.won {
            for range in addresses.iter().filter(|range| is_single(range)) {
                self.hosts.literals.entry(range.addr()).or_insert(id);
            }
        }
        claims
    }

    /// Requests to addresses that stand for one host alone, and name none that the port knows.
    pub(in crate::policy) fn claim_unnamed_http(&mut self, addresses: &[IpNet], id: ClusterId) {
        for range in addresses {
            let bind = self.bind_mut(*range);
            if bind.http == HttpRule::Unseen && bind.bytes.is_none() {
                bind.http = HttpRule::ByHostOr(id);
                bind.declared.http = true;
            }
        }
    }

    /// HTTP on a port without a declared protocol: by host, or by address alone where the entry has one.
    pub(in crate::policy) fn claim_detected_http(
        &mut self,
        host: &HostPattern,
        addresses: &[IpNet],
        id: ClusterId,
    ) -> Claims {
        let by_host = addresses.is_empty() || !addresses.iter().all(is_single);
        let mut claims = if by_host { self.claim_host(host, addresses, id) } else { Claims::default() };
        for range in addresses.iter().filter(|range| is_single(range)) {
            let bind = self.bind_mut(*range);
            if bind.bytes.is_some_and(|bytes| bytes.server_first) || bind.http != HttpRule::Unseen {
                continue;
            }
            bind.http = HttpRule::Always(id);
            self.reads_requests = true;
            claims.won = true;
        }
        claims
    }

    /// A TLS port: by SNI within each range; an address of its own needs none.
    pub(in crate::policy) fn claim_tls(&mut self, host: &HostPattern, addresses: &[IpNet], id: ClusterId) -> Claims {
        let mut claims = Claims::default();
        self.claim_sni(host, addresses, id.into(), &mut claims);
        for range in ranges(addresses).into_iter().filter(is_single) {
            let bind = self.bind_mut(range);
            // Won also where a route has taken its name: the address is still its own.
            claims.won |=
                bind.bytes.is_none() && bind.tls.get_or_insert_with(&HostPattern::Any, || id.into()).cluster == id;
        }
        claims
    }

    /// One server name within each range.
    pub(in crate::policy) fn claim_sni(
        &mut self,
        host: &HostPattern,
        addresses: &[IpNet],
        by: Claimant,
        claims: &mut Claims,
    ) {
        for range in ranges(addresses) {
            let bind = self.bind_mut(range);
            bind.declared.tls = true;
            let holder = *bind.tls.get_or_insert_with(host, || by);
            claims.note(|| format!("SNI {host}{}", at_range(&range)), by.cluster, holder.cluster);
        }
    }

    /// Bytes that are not looked into: by address.
    pub(in crate::policy) fn claim_bytes(
        &mut self,
        addresses: &[IpNet],
        first_speaker: FirstSpeaker,
        by: Claimant,
        claims: &mut Claims,
    ) {
        let server_first = first_speaker == FirstSpeaker::Server;
        for range in ranges(addresses) {
            let bind = self.bind_mut(range);
            let http = bind.http.owner().filter(|_| server_first);
            let taken = bind.bytes.map(|bytes| bytes.holder).or_else(|| bind.tls_anyway());
            let older = taken.map(|holder| holder.cluster).or(http);
            if older.is_none() {
                bind.bytes = Some(Bytes { holder: by, server_first });
            }
            claims.note(|| format!("connections{}", at_range(&range)), by.cluster, older.unwrap_or(by.cluster));
        }
    }

    /// TLS of the application on a port without a declared protocol, where it must not be taken for plain bytes.
    pub(in crate::policy) fn claim_detected_tls(
        &mut self,
        addresses: &[IpNet],
        bytes: ClusterId,
        by: Claimant,
        claims: &mut Claims,
    ) {
        for range in ranges(addresses) {
            let bind = self.bind_mut(range);
            if bind.bytes.is_some_and(|held| held.holder.cluster == bytes) {
                let holder = *bind.tls.get_or_insert_with(&HostPattern::Any, || by);
                claims.note(|| format!("TLS{}", at_range(&range)), by.cluster, holder.cluster);
            }
        }
    }

    fn server_first_owner(&self) -> Option<ClusterId> {
        let bytes = everything().iter().find_map(|range| self.binds.get(range)?.bytes)?;
        bytes.server_first.then_some(bytes.holder.cluster)
    }

    fn bind_mut(&mut self, range: IpNet) -> &mut Bind {
        let lengths = if range.addr().is_ipv4() { &mut self.lengths_v4 } else { &mut self.lengths_v6 };
        if let Err(at) = lengths.binary_search_by(|length| range.prefix_len().cmp(length)) {
            lengths.insert(at, range.prefix_len());
        }
        self.binds.entry(range).or_default()
    }
}

fn at_range(range: &IpNet) -> String {
    match range.prefix_len() {
        0 => String::new(),
        _ if is_single(range) => format!(" to {}", range.addr()),
        _ => format!(" to {range}"),
    }
}

/// Looking up; nothing here allocates.
impl PortMatches {
    /// Who has the connections to this address whatever they say: a cluster whose bytes are never looked into, or
    /// nobody, where no entry has the address.
    pub(in crate::policy) fn uninspected(&self, to: Dialled) -> Option<Match> {
        let Some(seen) = self.binds_of(to).next() else { return Some(Match::Unknown) };
        if seen.bind.http != HttpRule::Unseen || !seen.bind.tls.is_empty() {
            return None;
        }
        if seen.by_name_alone { Some(Match::Unknown) } else { seen.bytes().map(|bytes| bytes.holder.into()) }
    }

    /// What connections to this address are declared to be, as Istio's listener of the longest prefix would see them, and
    /// behind it the one for entries without addresses.
    pub(in crate::policy) fn declared(&self, to: Dialled) -> Declared {
        let mut all = Declared::default();
        for seen in self.binds_of(to) {
            // Waiting for the application would wait for ever.
            if seen.bytes().is_some_and(|bytes| bytes.server_first) {
                return Declared::default();
            }
            all.http |= seen.bind.declared.http;
            all.tls |= seen.bind.declared.tls;
            // What is neither HTTP nor TLS ends here, and so does silence.
            if seen.unread().is_some() {
                break;
            }
        }
        all
    }

    pub(in crate::policy) fn http(&self, to: Dialled, host: &Host) -> Match {
        self.first_answer(to, |seen| match seen.bind.http {
            HttpRule::Unseen => seen.unread(),
            HttpRule::Always(id) => Some(Match::Cluster(id)),
            HttpRule::ByHost(_) => Some(self.hosts.find(host)),
            HttpRule::ByHostOr(id) => Some(match self.hosts.find(host) {
                Match::Unknown => Match::Cluster(id),
                found => found,
            }),
        })
    }

    pub(in crate::policy) fn tls(&self, to: Dialled, sni: Option<&Hostname>) -> Match {
        self.first_answer(to, |seen| {
            let named = sni.and_then(|name| seen.bind.tls.find_named(name.as_str())).copied();
            named.map(Match::from).or_else(|| seen.tls_anyway().map(Match::from)).or_else(|| seen.unread())
        })
    }

    pub(in crate::policy) fn bytes(&self, to: Dialled) -> Match {
        self.first_answer(to, VisibleBind::unread)
    }

    /// The longest prefix is asked, and where it has no answer the entries without addresses.
    fn first_answer<'r>(&'r self, to: Dialled, ask: impl Fn(VisibleBind<'r>) -> Option<Match>) -> Match {
        self.binds_of(to).find_map(ask).unwrap_or(Match::Unknown)
    }

    fn binds_of(&self, to: Dialled) -> impl Iterator<Item = VisibleBind<'_>> {
        let lengths = if to.ip.is_ipv4() { &self.lengths_v4 } else { &self.lengths_v6 };
        let mut found = lengths.iter().filter_map(move |&length| {
            let range = IpNet::new(to.ip, length).expect("lengths are those of ranges of this family").trunc();
            self.binds.get_key_value(&range)
        });
        let nearest = found.next();
        let fallback = found.find(|(range, _)| range.prefix_len() == 0);
        [nearest, fallback].into_iter().flatten().map(move |(range, bind)| {
            let by_name_alone = to.stands_for_a_host && range.prefix_len() == 0;
            VisibleBind { bind, by_name_alone }
        })
    }
}

impl VisibleBind<'_> {
    fn bytes(self) -> Option<Bytes> {
        self.bind.bytes.filter(|_| !self.by_name_alone)
    }

    /// An entry with an address of its own takes what comes to that address.
    fn tls_anyway(self) -> Option<Claimant> {
        self.bind.tls_anyway().filter(|_| !self.by_name_alone)
    }

    /// Whose bytes are that nobody reads.
    fn unread(self) -> Option<Match> {
        self.bytes().map(|bytes| bytes.holder).or_else(|| self.tls_anyway()).map(Match::from)
    }
}

impl HttpRule {
    fn owner(self) -> Option<ClusterId> {
        match self {
            HttpRule::Unseen => None,
            HttpRule::ByHost(id) | HttpRule::ByHostOr(id) | HttpRule::Always(id) => Some(id),
        }
    }
}

impl Bind {
    /// An entry with an address of its own takes what comes to that address.
    fn tls_anyway(&self) -> Option<Claimant> {
        self.tls.get(&HostPattern::Any).copied()
    }
}

impl HttpHosts {
    fn find(&self, host: &Host) -> Match {
        let id = match host {
            Host::Name(name) => self.names.find(name.as_str()),
            Host::Ip(ip) => self.literals.get(ip),
        };
        id.map_or(Match::Unknown, |id| Match::Cluster(*id))
    }
}

//! Resources in few words, for tests.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{
    ClientTls, DestinationRule, Endpoint, EndpointAddress, ExportTo, HostPattern, Location, MeshLocation, Meta,
    OutlierDetection, PortPolicy, PortProtocol, Resolution, Resources, ServiceEntry, ServicePort, TlsMode,
    TrafficPolicy,
};
use crate::flow::{Authority, Host, Hostname, OriginalDst};
use crate::policy::runtime::publish::{Addresses, Published};
use crate::policy::{
    ClusterProtocol, Content, Decision, FirstLook, Flow, Materials, PolicyTable, Refusal, RequestView, Route, Verdict,
    Workload, compile,
};
use crate::tls::{ClientProfile, ProfileRequest};

pub(crate) fn pattern(text: &str) -> HostPattern {
    match text.strip_prefix("*.") {
        _ if text == "*" => HostPattern::Any,
        None if text.starts_with('*') => HostPattern::PartialWildcard(text[1..].into()),
        Some(suffix) => HostPattern::Wildcard(name(suffix)),
        None => HostPattern::Exact(name(text)),
    }
}

pub(crate) fn name(text: &str) -> Hostname {
    Hostname::new(text).unwrap()
}

pub(crate) fn host(text: &str) -> Host {
    Authority::parse(text).unwrap().host
}

pub(crate) fn dst(text: &str) -> OriginalDst {
    OriginalDst::new(text.parse().unwrap())
}

/// The line is made from the name, so that two resources never share a place.
pub(crate) fn place(name: &str) -> Location {
    Location { file: Arc::from(Path::new(&format!("{name}.yaml"))), line: 1, column: 1 }
}

pub(crate) fn meta(name: &str) -> Meta {
    Meta {
        name: name.to_owned(),
        namespace: None,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        created_ms: None,
        at: place(name),
    }
}

/// `a=b,c=d`
pub(crate) fn labels(text: &str) -> BTreeMap<String, String> {
    text.split(',').filter_map(|pair| pair.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

pub(crate) fn workload(namespace: &str, text: &str) -> Workload {
    Workload { namespace: namespace.to_owned(), labels: labels(text) }
}

/// An entry named after its first host; ports are added by [`port`].
pub(crate) fn entry(hosts: &[&str], addresses: &[&str], resolution: Resolution) -> ServiceEntry {
    ServiceEntry {
        meta: meta(hosts[0]),
        hosts: hosts.iter().map(|host| pattern(host)).collect(),
        addresses: addresses.iter().map(|range| network(range)).collect(),
        ports: Vec::new(),
        location: MeshLocation::External,
        resolution,
        endpoints: Vec::new(),
        export_to: Vec::new(),
        subject_alt_names: Vec::new(),
        status_addresses: Vec::new(),
        workload_selector: None,
    }
}

/// A network, or an address as a network of its own.
pub(crate) fn network(text: &str) -> ipnet::IpNet {
    text.parse().unwrap_or_else(|_| text.parse::<IpAddr>().unwrap().into())
}

pub(crate) fn port(number: u16, protocol: PortProtocol, target_port: Option<u16>) -> ServicePort {
    ServicePort { number, name: format!("p{number}"), protocol, target_port, at: place(&format!("port-{number}")) }
}

impl ServiceEntry {
    pub(crate) fn with_port(mut self, number: u16, protocol: PortProtocol) -> Self {
        self.ports.push(port(number, protocol, None));
        self
    }

    pub(crate) fn with_target(mut self, number: u16, protocol: PortProtocol, target: u16) -> Self {
        self.ports.push(port(number, protocol, Some(target)));
        self
    }

    pub(crate) fn with_endpoint(mut self, address: EndpointAddress, ports: &[(&str, u16)], weight: u32) -> Self {
        self.endpoints.push(Endpoint {
            address,
            ports: ports.iter().map(|(name, number)| ((*name).to_owned(), *number)).collect(),
            labels: BTreeMap::new(),
            locality: None,
            weight,
            expects_mesh_tls: false,
            at: place("endpoint"),
        });
        self
    }

    pub(crate) fn with_ip(self, ip: &str) -> Self {
        self.with_endpoint(EndpointAddress::Ip(ip.parse().unwrap()), &[], 1)
    }

    pub(crate) fn named(mut self, name: &str) -> Self {
        self.meta = Meta { namespace: self.meta.namespace, ..meta(name) };
        self
    }

    pub(crate) fn within(mut self, namespace: &str, export_to: Vec<ExportTo>) -> Self {
        self.meta.namespace = Some(namespace.to_owned());
        self.export_to = export_to;
        self
    }
}

pub(crate) fn tls(mode: TlsMode) -> ClientTls {
    ClientTls {
        mode,
        client_certificate: None,
        private_key: None,
        ca_certificates: None,
        ca_crl: None,
        credential_name: None,
        subject_alt_names: Vec::new(),
        sni: None,
        insecure_skip_verify: false,
        at: place("tls"),
    }
}

/// A rule whose `trafficPolicy.tls` names it: the SNI is `<name>.test`.
pub(crate) fn rule(name_: &str, host: &str) -> DestinationRule {
    let mut block = tls(TlsMode::Simple);
    block.sni = Some(name(&format!("{name_}.test")));
    DestinationRule {
        meta: meta(name_),
        host: pattern(host),
        traffic_policy: Some(TrafficPolicy { all: with_tls(block), ports: Vec::new() }),
        subsets: Vec::new(),
        export_to: Vec::new(),
        workload_selector: None,
        upstream_protocol: None,
    }
}

pub(crate) fn with_tls(block: ClientTls) -> PortPolicy {
    PortPolicy { tls: Some(block), ..PortPolicy::default() }
}

/// An empty `outlierDetection` block.
pub(crate) fn outliers() -> OutlierDetection {
    OutlierDetection {
        consecutive_5xx: 5,
        consecutive_gateway: 0,
        consecutive_local: 5,
        split: false,
        interval: Duration::from_secs(10),
        base_ejection_time: Duration::from_secs(30),
        max_ejection_percent: 10,
        min_health_percent: 0,
        at: place("outliers"),
    }
}

/// Remembers what it was asked for and loads nothing: every cluster that asks for TLS is refused, and keeps its request.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    pub(crate) names: Vec<Hostname>,
    /// Addresses that stand for hosts.
    pub(crate) automatic: Vec<(IpAddr, &'static str)>,
}

pub(crate) const NOT_LOADED: &str = "nothing is loaded in tests";

impl Materials for Asked {
    fn profile(&mut self, _: &ProfileRequest) -> Result<Arc<ClientProfile>, String> {
        Err(NOT_LOADED.to_owned())
    }

    fn addresses(&mut self, name: &Hostname) -> Addresses {
        self.names.push(name.clone());
        Published::new(Vec::new())
    }

    fn automatic_addresses(&self, host: &HostPattern) -> Vec<IpAddr> {
        let own = self.automatic.iter().filter(|(_, owner)| *owner == host.to_string());
        own.map(|(ip, _)| *ip).collect()
    }

    fn automatic_hosts(&self) -> Vec<(IpAddr, String)> {
        self.automatic.iter().map(|(ip, host)| (*ip, (*host).to_owned())).collect()
    }
}

/// The table of these resources for a workload of namespace `shop` with the label `app=a`, and its warnings without
/// those about material.
pub(crate) fn compiled(resources: &Resources) -> (PolicyTable, Vec<String>) {
    let (table, problems) = compile(resources, &workload("shop", "app=a"), &mut Asked::default());
    let told = problems.iter().map(|problem| problem.to_string().replace(": warning: ", ": "));
    (table, told.filter(|message| !message.contains(NOT_LOADED)).collect())
}

/// What becomes of a flow to `to`, where the first of several destinations is picked.
pub(crate) fn decided<'t>(table: &'t PolicyTable, to: &str, content: Content<'_>) -> Verdict<'t> {
    table.decide(&Flow { destination: dst(to), content }, 0)
}

/// `GET /` of `host`, which is written as its authority.
pub(crate) fn requested<'t>(table: &'t PolicyTable, to: &str, named: &str) -> Verdict<'t> {
    let (host, authority) = (&host(named), named.as_bytes());
    let view = RequestView { host, authority, method: b"GET", target: b"/", any_value: &|_, _| false };
    decided(table, to, Content::Request(&view))
}

/// Why bytes that are neither a request nor TLS must not pass to `to`.
pub(crate) fn unreadable<'t>(table: &'t PolicyTable, to: &str) -> Option<&'t str> {
    match decided(table, to, Content::Opaque).decision {
        Decision::Refuse(Refusal::Unreadable { why, .. }) => Some(why),
        _ => None,
    }
}

/// What becomes of a flow written as `http|tls|bytes ADDRESS [HOST]`: the cluster's name, ` as bytes` where its content is
/// not looked into, ` unseen` where not even its first bytes are; `passthrough`; `blackhole`; the destinations of a route
/// for bytes, each behind its weight.
pub(crate) fn verdict(table: &PolicyTable, flow: &str) -> String {
    let mut words = flow.split_whitespace();
    let (kind, to, named) = (words.next().unwrap(), words.next().unwrap(), words.next());
    if let FirstLook::Decided(verdict) = table.first_look(dst(to), 0) {
        let is_passed = matches!(verdict.decision, Decision::Passthrough | Decision::Refuse(_));
        let is_known = !is_passed || verdict.route.is_some();
        return if is_known { format!("{} unseen", shown(&verdict)) } else { shown(&verdict) };
    }
    let verdict = match kind {
        "http" => requested(table, to, named.unwrap()),
        "tls" => decided(table, to, Content::Tls(named.map(name).as_ref())),
        "bytes" => decided(table, to, Content::Opaque),
        _ => panic!("{flow}"),
    };
    match verdict.decision {
        Decision::Forward(cluster) if kind == "http" && cluster.protocol == ClusterProtocol::Opaque => {
            format!("{} as bytes", shown(&verdict))
        }
        _ => shown(&verdict),
    }
}

fn shown(verdict: &Verdict<'_>) -> String {
    if let Some(Route::Bytes(route)) = verdict.route {
        let each = route.destinations.iter().map(|to| {
            let found = route.cluster(to).map_or_else(|| format!("no {}", to.name), |cluster| cluster.name.clone());
            format!("{}*{found}", to.weight)
        });
        return each.collect::<Vec<_>>().join(" ");
    }
    match verdict.decision {
        Decision::Forward(cluster) => cluster.name.clone(),
        Decision::ByName => "by name".to_owned(),
        Decision::Passthrough => "passthrough".to_owned(),
        Decision::Answer(_, answer) => format!("answered {}", answer.status()),
        Decision::Refuse(Refusal::BlackHole) => "blackhole".to_owned(),
        Decision::Refuse(Refusal::NoCluster(name)) => format!("no {name}"),
        Decision::Refuse(refusal) => refusal.closes().1.unwrap().to_owned(),
    }
}

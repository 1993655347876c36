//! What a table decides by and where its clusters lead, as rows for people and programs.
//!
//! Rows are read back by the command line, so they own what they say. Nothing is decided here.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config::{EndpointAddress, Location, OutboundPolicy, PortProtocol};
use crate::flow::Hostname;
use crate::policy::table::cluster::{Cluster, ClusterProtocol, EndpointSource, Endpoints, Source, Transport};
use crate::policy::table::http_routes::{Action, Destination, HttpRoute};
use crate::policy::table::listener_matches::DumpedMatch;
use crate::policy::table::policy_table::PolicyTable;
use crate::policy::table::weighted_routes::WeightedRoute;
use crate::tls::ProfileMode;

/// An object of the configuration, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Document {
    pub namespace: String,
    pub name: String,
    pub file: String,
    pub line: u32,
    pub column: u32,
}

/// One match of the table.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct RouteRow {
    /// The one that the application dials; `None` for every port.
    pub port: Option<u16>,
    /// `HTTP`, `TLS`, `TCP`, or `*`.
    pub protocol: String,
    /// A request's host or an SNI; `*` for any and for none.
    pub host: String,
    /// Where the connection must go; `*` is anywhere.
    pub address: String,
    /// The VirtualService's route that takes it, if one does.
    pub route: Option<String>,
    /// `PassthroughCluster` and `BlackHoleCluster` for what no entry names; `-` where egret answers itself.
    pub cluster: String,
    /// `SIMPLE`, `MUTUAL`, `PASSTHROUGH` (the application's own), `PLAINTEXT` or `REFUSED`.
    pub tls: String,
    /// Why it is refused.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub refusal: Option<String>,
    pub service_entry: Option<Document>,
    pub destination_rule: Option<Document>,
    pub virtual_service: Option<Document>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum EndpointStatus {
    Healthy,
    /// By `outlierDetection`.
    Ejected,
    /// The name has no address.
    Unresolved,
    /// Nothing is sent there: the cluster's TLS cannot be had.
    Refused,
}

/// One address of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct EndpointRow {
    pub cluster: String,
    /// `ADDRESS:PORT`; `ORIGINAL_DST` for the address that the application dialled; `NAME:PORT` of a name without any.
    pub endpoint: String,
    pub status: EndpointStatus,
    pub weight: u32,
    /// The name that it is an address of.
    pub resolved_from: Option<String>,
    /// Open connections of the whole cluster; counted only where they are limited.
    pub connections: Option<u32>,
    pub max_connections: Option<u32>,
}

impl From<&Source> for Document {
    fn from(source: &Source) -> Self {
        Document::at(&source.namespace, &source.name, &source.at)
    }
}

impl Document {
    #[must_use]
    pub fn at(namespace: &str, name: &str, at: &Location) -> Self {
        let (file, line, column) = (at.file.display().to_string(), at.line, at.column);
        Self { namespace: namespace.to_owned(), name: name.to_owned(), file, line, column }
    }
}

impl PolicyTable {
    /// Everything that it matches: VirtualServices, which are asked first for requests, then ports, then the rest.
    #[must_use]
    pub fn routes(&self) -> Vec<RouteRow> {
        let services =
            self.services.by_host.iter().map(|(host, id)| (host.to_string(), *id)).collect::<BTreeMap<_, _>>();
        let routed = services.iter().flat_map(|(host, id)| {
            self.services.services[*id].routes.iter().flat_map(move |route| routed(host, route))
        });
        let ports: BTreeMap<_, _> = self.ports.iter().collect();
        let held = ports.into_iter().flat_map(|(port, routes)| {
            self.told(routes.dump()).flat_map(|held| {
                let rows = match held.holder.route {
                    Some(id) => weighted(&self.weighted_routes[id]),
                    None => vec![of_cluster(&self.clusters[held.holder.cluster])],
                };
                let (port, protocol) = (Some(*port), held.protocol.to_owned());
                let placed = move |row| RouteRow {
                    port,
                    protocol: protocol.clone(),
                    host: held.host.clone(),
                    address: held.address.clone(),
                    ..row
                };
                rows.into_iter().map(placed)
            })
        });
        let (cluster, tls) = match self.settings().outbound_traffic_policy {
            // With dynamic DNS, requests for a name go where it resolves to.
            OutboundPolicy::AllowAny | OutboundPolicy::AllowAnyDynamicDns => ("PassthroughCluster", "PASSTHROUGH"),
            OutboundPolicy::RegistryOnly => ("BlackHoleCluster", "REFUSED"),
        };
        routed.chain(held).chain([unmatched(cluster, tls)]).collect()
    }

    /// Without matches by addresses that stand for hosts, where a host is matched otherwise as well.
    fn told(&self, held: BTreeSet<DumpedMatch>) -> impl Iterator<Item = DumpedMatch> {
        let stands = |text: &str| text.parse().is_ok_and(|ip| self.automatic.contains_key(&ip));
        let (automatic, told): (Vec<DumpedMatch>, Vec<DumpedMatch>) =
            held.into_iter().partition(|held| stands(&held.address) || stands(&held.host));
        let known: HashSet<_> = told.iter().map(|held| held.holder.cluster).collect();
        let alone = automatic.into_iter().filter(move |held| !known.contains(&held.holder.cluster));
        told.into_iter().chain(alone)
    }

    /// Where every cluster leads now.
    #[must_use]
    pub fn endpoints(&self) -> Vec<EndpointRow> {
        let mut rows: Vec<EndpointRow> = Vec::new();
        let mut before = None;
        for cluster in &self.clusters {
            // A port without a declared protocol has several clusters of one name and the same endpoints.
            if before.replace(&cluster.name) != Some(&cluster.name) {
                endpoints(cluster, &mut rows);
            }
        }
        rows
    }
}

fn unmatched(cluster: &str, tls: &str) -> RouteRow {
    RouteRow {
        port: None,
        protocol: "*".to_owned(),
        host: "*".to_owned(),
        address: "*".to_owned(),
        route: None,
        cluster: cluster.to_owned(),
        tls: tls.to_owned(),
        refusal: None,
        service_entry: None,
        destination_rule: None,
        virtual_service: None,
    }
}

/// What a cluster alone says of whatever leads to it.
fn of_cluster(cluster: &Cluster) -> RouteRow {
    let refusal = match &cluster.transport {
        Transport::Refused(reason) => Some(reason.to_string()),
        Transport::Plaintext | Transport::Tls(_) => None,
    };
    RouteRow {
        refusal,
        service_entry: Some((&cluster.origin.service_entry).into()),
        destination_rule: cluster.origin.destination_rule.as_ref().map(Document::from),
        ..unmatched(&cluster.name, tls_mode(cluster))
    }
}

fn tls_mode(cluster: &Cluster) -> &'static str {
    let own_tls = matches!(cluster.origin.declared, PortProtocol::Https | PortProtocol::Tls);
    match (&cluster.transport, cluster.tls_request.as_ref().map(|request| request.mode)) {
        (Transport::Refused(_), _) => "REFUSED",
        (Transport::Tls(_), Some(ProfileMode::Mutual)) => "MUTUAL",
        (Transport::Tls(_), _) => "SIMPLE",
        (Transport::Plaintext, _) if own_tls && cluster.protocol == ClusterProtocol::Opaque => "PASSTHROUGH",
        (Transport::Plaintext, _) => "PLAINTEXT",
    }
}

/// A row for each destination of a route, or one for the answer that egret gives.
fn routed(host: &str, route: &HttpRoute) -> Vec<RouteRow> {
    let named = |row: RouteRow, cluster: Option<String>| RouteRow {
        protocol: "HTTP".to_owned(),
        host: host.to_owned(),
        route: Some(route.title().to_owned()),
        cluster: cluster.unwrap_or(row.cluster),
        virtual_service: Some((&route.source).into()),
        ..row
    };
    let answers = |what: String| vec![named(unmatched("-", &what), None)];
    match &route.action {
        Action::Forward(all) => {
            all.iter().map(|to| named(destination(to, to.any_cluster()), Some(to.name.clone()))).collect()
        }
        Action::Answer(answer) => answers(format!("ANSWERED {}", answer.status())),
    }
}

/// A row for each destination of a `tls` or `tcp` route.
fn weighted(route: &WeightedRoute) -> Vec<RouteRow> {
    let virtual_service = Some(Document::from(&route.source));
    let row = |to| RouteRow { virtual_service: virtual_service.clone(), ..destination(to, route.cluster(to)) };
    route.destinations.iter().map(row).collect()
}

/// Where a route leads: to `cluster`, if there is one.
fn destination(to: &Destination, cluster: Option<&Arc<Cluster>>) -> RouteRow {
    let missing = || RouteRow {
        refusal: Some("no ServiceEntry has this destination".to_owned()),
        ..unmatched(&to.name, "REFUSED")
    };
    cluster.map_or_else(missing, |cluster| of_cluster(cluster))
}

fn endpoints(cluster: &Cluster, rows: &mut Vec<EndpointRow>) {
    let is_refused = matches!(cluster.transport, Transport::Refused(_));
    let max_connections = cluster.limits.max_connections;
    let row = |endpoint: String, status, weight, resolved_from| EndpointRow {
        cluster: cluster.name.clone(),
        endpoint,
        status: if is_refused { EndpointStatus::Refused } else { status },
        weight,
        resolved_from,
        connections: max_connections.map(|_| cluster.occupancy.connections.now()),
        max_connections,
    };
    let ejected = cluster.health.ejected();
    match &cluster.endpoints {
        Endpoints::OriginalDst { port_override } => {
            let port = port_override.map_or(String::new(), |port| format!(":{port}"));
            rows.push(row(format!("ORIGINAL_DST{port}"), EndpointStatus::Healthy, 1, None));
        }
        Endpoints::ByName { port_override } => {
            let port = port_override.map_or(String::new(), |port| format!(":{port}"));
            rows.push(row(format!("DYNAMIC_DNS{port}"), EndpointStatus::Healthy, 1, None));
        }
        Endpoints::Resolved(sources) => {
            for source in sources {
                let EndpointSource { configured, port, weight, .. } = source;
                let name = source.name().map(ToString::to_string);
                let addresses = source.usable();
                if addresses.is_empty() {
                    let unresolved = format!("{configured}:{port}");
                    rows.push(row(unresolved, EndpointStatus::Unresolved, *weight, name.clone()));
                }
                rows.extend(addresses.into_iter().map(|ip| {
                    let address = SocketAddr::new(ip, *port);
                    let is_ejected = ejected.contains(&address);
                    let status = if is_ejected { EndpointStatus::Ejected } else { EndpointStatus::Healthy };
                    row(address.to_string(), status, *weight, name.clone())
                }));
            }
        }
    }
}

impl EndpointSource {
    /// What is resolved, if anything is.
    #[must_use]
    pub fn name(&self) -> Option<&Hostname> {
        match &self.configured {
            EndpointAddress::Name(name) => Some(name),
            EndpointAddress::Ip(_) | EndpointAddress::Unix(_) => None,
        }
    }

    /// The addresses that connections are made to now.
    #[must_use]
    pub fn usable(&self) -> Vec<IpAddr> {
        let addresses = self.addresses.load();
        let usable = if self.first_only { 1 } else { addresses.len() };
        addresses.iter().take(usable).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PortProtocol::{Http, Https, Tcp};
    use crate::config::Resolution::{Dns, None as Original, Static};
    use crate::config::{OutboundPolicy, Resources};
    use crate::policy::tests::fixture::{compiled, entry, rule};

    fn listed(registry_only: bool) -> PolicyTable {
        let mut resources = Resources {
            service_entries: vec![
                entry(&["secure.test", "*.wild.test"], &[], Original).with_port(80, Http).with_port(443, Https),
                entry(&["db.test"], &["10.0.0.9", "10.1.0.0/16"], Static).with_port(5432, Tcp).with_ip("192.0.2.7"),
                entry(&["named.test"], &[], Dns).with_target(8080, Http, 80),
            ],
            destination_rules: vec![rule("r", "secure.test")],
            ..Resources::default()
        };
        if registry_only {
            resources.settings.outbound_traffic_policy = OutboundPolicy::RegistryOnly;
        }
        compiled(&resources).0
    }

    #[test]
    fn every_match_has_a_row() {
        let shown = |row: &RouteRow| {
            let port = row.port.map_or("*".to_owned(), |port| port.to_string());
            format!("{port} {} {} {} {} {}", row.protocol, row.host, row.address, row.cluster, row.tls)
        };
        let rows: Vec<String> = listed(false).routes().iter().map(shown).collect();
        let expected = [
            "80 HTTP *.wild.test * outbound|80||*.wild.test PLAINTEXT",
            "80 HTTP secure.test * outbound|80||secure.test REFUSED",
            "443 TLS *.wild.test * outbound|443||*.wild.test PASSTHROUGH",
            "443 TLS secure.test * outbound|443||secure.test REFUSED",
            "5432 TCP * 10.0.0.9 outbound|5432||db.test PLAINTEXT",
            "5432 TCP * 10.1.0.0/16 outbound|5432||db.test PLAINTEXT",
            "8080 HTTP named.test * outbound|8080||named.test PLAINTEXT",
            "* * * * PassthroughCluster PASSTHROUGH",
        ];
        assert_eq!(rows, expected);
        let last = listed(true).routes().pop().unwrap();
        assert_eq!((last.cluster.as_str(), last.tls.as_str()), ("BlackHoleCluster", "REFUSED"));
        let row = listed(false).routes().into_iter().find(|row| row.cluster == "outbound|80||secure.test").unwrap();
        let rule = row.destination_rule.unwrap();
        assert_eq!((rule.name.as_str(), rule.file.as_str(), rule.line), ("r", "r.yaml", 1));
    }

    #[test]
    fn every_endpoint_has_a_row() {
        let shown = |row: &EndpointRow| {
            let from = row.resolved_from.as_deref().unwrap_or("-");
            format!("{} {:?} {from} {}", row.endpoint, row.status, row.cluster)
        };
        let rows: Vec<String> = listed(false).endpoints().iter().map(shown).collect();
        let expected = [
            "ORIGINAL_DST Refused - outbound|80||secure.test",
            "ORIGINAL_DST Refused - outbound|443||secure.test",
            "ORIGINAL_DST Healthy - outbound|80||*.wild.test",
            "ORIGINAL_DST Healthy - outbound|443||*.wild.test",
            "192.0.2.7:5432 Healthy - outbound|5432||db.test",
            "named.test:80 Unresolved named.test outbound|8080||named.test",
        ];
        assert_eq!(rows, expected);
    }
}

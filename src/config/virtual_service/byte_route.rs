//! The `tls` and `tcp` routes of a `VirtualService`: which connections they take by what can be known without reading
//! them, and where those go.
//!
//! As with HTTP, a condition that egret does not judge makes a match that holds for nothing, and says so.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::destination::{self, Destination};
use super::gateways;
use super::header_changes::Headers;
use super::http_match::{labels, source_namespace};
use crate::config::names::{self, HostPattern};
use crate::config::problem::Location;
use crate::config::reader::{Field, Object, Report};

/// Where connections go that are not read.
#[derive(Clone, Debug)]
pub struct ByteRoute {
    /// Any of them; none matches everything, which only a `tcp` route may.
    pub matches: Vec<ByteMatch>,
    /// At least one, with a weight above zero in all; none changes header fields.
    pub destinations: Vec<Destination>,
    pub at: Location,
}

/// Conditions that must all hold.
#[derive(Clone, Debug, Default)]
pub struct ByteMatch {
    /// Any of them; of a `tls` route at least one.
    pub sni_hosts: Vec<HostPattern>,
    /// Any of them; none means every address.
    pub destination_subnets: Vec<IpNet>,
    /// The port that the application dials.
    pub port: Option<u16>,
    pub source_labels: BTreeMap<String, String>,
    pub source_namespace: Option<String>,
    /// As in [`HttpMatch`].
    pub never: bool,
}

/// What of a connection a route may ask for.
#[derive(Clone, Copy)]
pub(super) enum Reads<'h> {
    /// The server name; those asked for must be among the VirtualService's hosts.
    ServerName(&'h [HostPattern]),
    Nothing,
}

pub(super) fn read_all(field: &Field<'_>, reads: Reads<'_>, report: &mut Report) -> Vec<ByteRoute> {
    let items = field.list(usize::MAX, report);
    items.iter().filter_map(|item| read(item, reads, report)).collect()
}

fn read(item: &Field<'_>, reads: Reads<'_>, report: &mut Report) -> Option<ByteRoute> {
    let mut object = item.object(report)?;
    object.allow(&["name"]);
    let written = match reads {
        Reads::ServerName(_) => object.required("match"),
        Reads::Nothing => object.optional("match"),
    };
    let mut matches = Vec::new();
    let items = written.as_ref().map(|field| field.list(usize::MAX, report)).unwrap_or_default();
    if let (Reads::ServerName(_), Some(field), true) = (reads, &written, items.is_empty()) {
        field.error("at least one match is required, with sniHosts", report);
    }
    for one in items {
        matches.extend(one.object(report).map(|object| read_match(object, reads, report)));
    }
    let unchanged = |_: &mut Object<'_>, _: &mut Report| Headers::default();
    let destinations = object.required("route");
    let destinations = destinations.and_then(|field| destination::read_all(&field, unchanged, report));
    object.finish(report);
    Some(ByteRoute { matches, destinations: destinations?, at: report.location(item.at()) })
}

fn read_match(mut object: Object<'_>, reads: Reads<'_>, report: &mut Report) -> ByteMatch {
    let sni_hosts = match reads {
        Reads::ServerName(hosts) => object.required("sniHosts").map(|field| read_names(&field, hosts, report)),
        Reads::Nothing => None,
    };
    let subnets = object.optional("destinationSubnets");
    let mut found = ByteMatch {
        sni_hosts: sni_hosts.unwrap_or_default(),
        destination_subnets: subnets.map(|field| read_subnets(&field, report)).unwrap_or_default(),
        port: object.optional("port").and_then(|field| field.port(report)),
        source_labels: labels(&mut object, report),
        source_namespace: source_namespace(&mut object, report),
        never: false,
    };
    if let Some(field) = object.optional("gateways") {
        found.never = gateways::exclude_sidecars(&field, report);
    }
    if let Some(field) = object.optional("sourceSubnet") {
        field.key_warning("is not supported: this match holds for no connection", report);
        found.never = true;
    }
    object.finish(report);
    found
}

fn read_names(field: &Field<'_>, hosts: &[HostPattern], report: &mut Report) -> Vec<HostPattern> {
    let items = field.list(usize::MAX, report);
    if items.is_empty() {
        field.error("at least one host is required", report);
    }
    let mut found = Vec::new();
    for item in items {
        let Some(text) = item.word(report) else { continue };
        match names::host_pattern(text) {
            Ok(name) if hosts.iter().any(|host| host.covers(&name)) => found.push(name),
            // What is wrong with the hosts has been said.
            Ok(_) if hosts.is_empty() => {}
            Ok(name) => item.error(format!("{name} is none of the VirtualService's hosts, nor below one"), report),
            Err(message) => item.error(message, report),
        }
    }
    found
}

fn read_subnets(field: &Field<'_>, report: &mut Report) -> Vec<IpNet> {
    let mut found = Vec::new();
    for item in field.list(usize::MAX, report) {
        let Some(text) = item.word(report) else { continue };
        match names::network(text) {
            Ok(network) => found.push(network.trunc()),
            Err(message) => item.error(message, report),
        }
    }
    found
}

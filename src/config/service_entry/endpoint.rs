//! `endpoints` of a ServiceEntry: the fields of a WorkloadEntry, and what each resolution allows of them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use super::port::ServicePort;
use super::resolution::Resolution;
use crate::config::metadata;
use crate::config::names;
use crate::config::problem::Location;
use crate::config::reader::{Field, Object, Report, Shape};
use crate::config::yaml::quoted;
use crate::flow::Hostname;

#[derive(Clone, Debug)]
pub struct Endpoint {
    pub address: EndpointAddress,
    /// Port name → number.
    pub ports: BTreeMap<String, u16>,
    pub labels: BTreeMap<String, String>,
    pub locality: Option<String>,
    /// At least 1.
    pub weight: u32,
    /// In a mesh it would be spoken to in the mesh's own mutual TLS: its label `security.istio.io/tlsMode` says so, or without
    /// one its `serviceAccount`.
    pub expects_mesh_tls: bool,
    pub at: Location,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EndpointAddress {
    Ip(IpAddr),
    Name(Hostname),
    /// `unix:///path` or `unix://@abstract`, as written.
    Unix(String),
}

impl fmt::Display for EndpointAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EndpointAddress::Ip(ip) => ip.fmt(f),
            EndpointAddress::Name(name) => name.fmt(f),
            EndpointAddress::Unix(path) => f.write_str(path),
        }
    }
}

const MAX_ENDPOINTS: usize = 4096;
/// The label that says whether an endpoint takes the mesh's mutual TLS.
const TLS_MODE: &str = "security.istio.io/tlsMode";

/// `ports` are the entry's, or `None` where they cannot be relied upon.
pub(super) fn read_all(
    field: &Field<'_>,
    resolution: Option<Resolution>,
    ports: Option<&[ServicePort]>,
    report: &mut Report,
) -> Vec<Endpoint> {
    let items = field.list(MAX_ENDPOINTS, report);
    items.iter().filter_map(|item| read(item, resolution, ports, report)).collect()
}

fn read(
    item: &Field<'_>,
    resolution: Option<Resolution>,
    entry_ports: Option<&[ServicePort]>,
    report: &mut Report,
) -> Option<Endpoint> {
    let mut object = item.object(report)?;
    // An endpoint of another network may have no address: a gateway of the mesh leads there.
    let is_remote = object.has("network") && !object.has("address");
    let address = if is_remote { object.optional("address") } else { object.required("address") };
    let address = address.and_then(|field| {
        let address = read_address(&field, report)?;
        check_address(&address, &field, resolution, report);
        Some(address)
    });
    let ports = object.optional("ports").map(|field| read_ports(&field, entry_ports, report)).unwrap_or_default();
    let labels = object.optional("labels").map(|field| metadata::labels(&field, report)).unwrap_or_default();
    let locality = object.optional_text("locality", report).map(|(_, text)| text.to_owned());
    let weight = object.optional("weight").and_then(|field| field.whole(&(0..=i64::from(u32::MAX)), report));
    match object.optional("network") {
        Some(field) if is_remote && field.text(report).is_some() => field.key_warning(
            "is not supported: without an address this endpoint is reached through a gateway of its network; it is left out",
            report,
        ),
        _ => object.unsupported("network", Shape::Word, report),
    }
    let service_account = object.optional_text("serviceAccount", report);
    check_unix(address.as_ref(), &mut object, report);
    object.finish(report);
    // Istio's `getTLSModeFromWorkloadEntry`.
    let expects_mesh_tls = match labels.get(TLS_MODE) {
        Some(mode) => mode == "istio",
        None => service_account.is_some(),
    };
    Some(Endpoint {
        address: address?,
        ports,
        labels,
        expects_mesh_tls,
        locality,
        // Zero is protobuf's "not set".
        weight: weight.and_then(|weight| u32::try_from(weight).ok()).unwrap_or(1).max(1),
        at: report.location(item.at()),
    })
}

fn read_address(field: &Field<'_>, report: &mut Report) -> Option<EndpointAddress> {
    let text = field.word(report)?;
    if let Some(path) = text.strip_prefix("unix://") {
        if path.len() > 1 && path.starts_with(['/', '@']) {
            return Some(EndpointAddress::Unix(text.to_owned()));
        }
        field.error(format!("{} must be \"unix:///path\" or \"unix://@name\"", quoted(text)), report);
        return None;
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(EndpointAddress::Ip(ip.to_canonical()));
    }
    if text.contains('*') {
        field.error(format!("{}: an endpoint must be one host, not a wildcard", quoted(text)), report);
        return None;
    }
    names::host_name(text, text).map(EndpointAddress::Name).map_err(|message| field.error(message, report)).ok()
}

fn check_address(address: &EndpointAddress, field: &Field<'_>, resolution: Option<Resolution>, report: &mut Report) {
    match (resolution, address) {
        (Some(Resolution::Static), EndpointAddress::Name(name)) => {
            let message = format!("{name} is a host name; resolution STATIC needs IP addresses, use DNS for names");
            field.error(message, report);
        }
        (Some(Resolution::Dns | Resolution::DnsRoundRobin), EndpointAddress::Unix(_)) => {
            field.error("a unix socket needs resolution STATIC", report);
        }
        _ => {}
    }
}

fn read_ports(field: &Field<'_>, entry_ports: Option<&[ServicePort]>, report: &mut Report) -> BTreeMap<String, u16> {
    let mut ports = BTreeMap::new();
    for (entry, value) in field.entries(report) {
        if let Some(known) = entry_ports.filter(|known| known.iter().all(|port| port.name != entry.key)) {
            let names: Vec<_> = known.iter().map(|port| port.name.as_str()).collect();
            let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            value.key_error(format!("no port of this entry has this name; its port names: {names}"), report);
        }
        if let Some(number) = value.port(report) {
            ports.insert(entry.key.clone(), number);
        }
    }
    ports
}

fn check_unix(address: Option<&EndpointAddress>, object: &mut Object<'_>, report: &mut Report) {
    if let (Some(EndpointAddress::Unix(_)), Some(ports)) = (address, object.optional("ports")) {
        ports.error("a unix socket has no ports; remove them", report);
    }
}

/// What the entry as a whole allows of its endpoints.
pub(super) fn check(
    endpoints: &[Endpoint],
    resolution: Resolution,
    ports: usize,
    field: &Field<'_>,
    report: &mut Report,
) {
    let count = endpoints.len();
    match resolution {
        Resolution::None if count > 0 => {
            field.error("resolution NONE goes where the application connects to; it allows no endpoints", report);
        }
        Resolution::DynamicDns if count > 0 => field.error("resolution DYNAMIC_DNS allows no endpoints", report),
        Resolution::DnsRoundRobin if count > 1 => {
            field.error(format!("resolution DNS_ROUND_ROBIN allows one endpoint, found {count}"), report);
        }
        _ => {}
    }
    let unix = endpoints.iter().any(|endpoint| matches!(endpoint.address, EndpointAddress::Unix(_)));
    if unix && ports != 1 {
        field.error(format!("an entry with unix socket endpoints must have exactly one port, found {ports}"), report);
    }
}

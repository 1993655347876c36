//! `endpoints` of a ServiceEntry: the fields of a WorkloadEntry, and what each resolution allows of them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::document;
use super::names;
use super::reader::{Field, Object, Report, Shape};
use super::resources::{Endpoint, EndpointAddress, Resolution, ServicePort};
use super::service_entry::Related;
use super::yaml::quoted;

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
    let address = object.required("address").and_then(|field| {
        let address = read_address(&field, report)?;
        check_address(&address, &field, resolution, report);
        Some(address)
    });
    let ports = object.optional("ports").map(|field| read_ports(&field, entry_ports, report)).unwrap_or_default();
    let labels = object.optional("labels").map(|field| document::labels(&field, report)).unwrap_or_default();
    let locality = object.optional_text("locality", report).map(|(_, text)| text.to_owned());
    let weight = object.optional("weight").and_then(|field| field.whole(&(0..=i64::from(u32::MAX)), report));
    object.unsupported("network", Shape::Word, report);
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
pub(super) fn check(related: &Related<'_>, field: &Field<'_>, report: &mut Report) {
    let count = related.endpoints.len();
    match related.resolution {
        Resolution::None if count > 0 => {
            field.error("resolution NONE goes where the application connects to; it allows no endpoints", report);
        }
        Resolution::DynamicDns if count > 0 => field.error("resolution DYNAMIC_DNS allows no endpoints", report),
        Resolution::DnsRoundRobin if count > 1 => {
            field.error(format!("resolution DNS_ROUND_ROBIN allows one endpoint, found {count}"), report);
        }
        _ => {}
    }
    let unix = related.endpoints.iter().any(|endpoint| matches!(endpoint.address, EndpointAddress::Unix(_)));
    if unix && related.ports.len() != 1 {
        let found = related.ports.len();
        field.error(format!("an entry with unix socket endpoints must have exactly one port, found {found}"), report);
    }
}

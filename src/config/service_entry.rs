//! `ServiceEntry`: its fields and the rules among them that need no other object.
//!
//! The limits and rules are those of Istio's CRD (CEL) and of its `ValidateServiceEntry`, so that what is accepted here
//! is accepted by a cluster and the other way round. What entries mean beside each other is `policy`'s concern.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::document::{self, read_meta};
use super::endpoint;
use super::export_to;
use super::names;
use super::reader::{Field, Object, Report};
use super::resources::{
    Endpoint, HostPattern, Location, MeshLocation, PortProtocol, Resolution, ServiceEntry, ServicePort,
};
use super::yaml::quoted;

const MAX_HOSTS: usize = 256;
const MAX_ADDRESSES: usize = 256;
const MAX_PORTS: usize = 256;

const RESOLUTIONS: &[(&str, Resolution)] = &[
    ("NONE", Resolution::None),
    ("STATIC", Resolution::Static),
    ("DNS", Resolution::Dns),
    ("DNS_ROUND_ROBIN", Resolution::DnsRoundRobin),
    ("DYNAMIC_DNS", Resolution::DynamicDns),
];
const LOCATIONS: &[(&str, MeshLocation)] =
    &[("MESH_EXTERNAL", MeshLocation::External), ("MESH_INTERNAL", MeshLocation::Internal)];
const PROTOCOLS: &[(&str, PortProtocol)] = &[
    ("HTTP", PortProtocol::Http),
    ("HTTP2", PortProtocol::Http2),
    ("GRPC", PortProtocol::Grpc),
    ("GRPC-WEB", PortProtocol::GrpcWeb),
    ("HTTPS", PortProtocol::Https),
    ("TLS", PortProtocol::Tls),
    ("TCP", PortProtocol::Tcp),
    ("MONGO", PortProtocol::Mongo),
    ("MYSQL", PortProtocol::Mysql),
    ("REDIS", PortProtocol::Redis),
    ("UDP", PortProtocol::Udp),
];

/// What the rules between fields need to know.
pub(super) struct Related<'e> {
    pub resolution: Resolution,
    pub hosts: &'e [HostPattern],
    pub addresses: &'e [IpNet],
    pub ports: &'e [ServicePort],
    pub endpoints: &'e [Endpoint],
}

pub(super) fn read(mut object: Object<'_>, at: Location, report: &mut Report) -> Option<ServiceEntry> {
    let meta = read_meta(&mut object, at, report);
    object.allow(&["status"]);
    let spec = object.required("spec");
    object.finish(report);
    let mut spec = spec?.object(report)?;

    // `None`: written, but not understood; nothing can be held against it then.
    let resolution = match spec.optional("resolution") {
        Some(field) => field.choice(RESOLUTIONS, report),
        None => Some(Resolution::default()),
    };
    let location = spec.optional("location").and_then(|f| f.choice(LOCATIONS, report)).unwrap_or_default();
    let hosts = spec.required("hosts").map(|f| read_hosts(&f, report)).unwrap_or_default();
    let addresses = spec.optional("addresses").map(|f| read_addresses(&f, resolution, report)).unwrap_or_default();
    let errors_before = report.errors();
    let ports = read_ports(&mut spec, report);
    // Endpoints are held against the ports only where all of them could be read.
    let sound_ports = (report.errors() == errors_before).then_some(ports.as_slice());
    let endpoints = spec.optional("endpoints");
    let endpoints = endpoints.map(|f| endpoint::read_all(&f, resolution, sound_ports, report)).unwrap_or_default();
    let selector = spec.optional("workloadSelector");
    let workload_selector = selector.as_ref().and_then(|f| read_selector(f, "labels", report));
    let export_to = spec.optional("exportTo").map(|f| export_to::read(&f, true, report)).unwrap_or_default();
    let subject_alt_names = spec.optional("subjectAltNames").map(|f| read_words(&f, report)).unwrap_or_default();

    if let Some(resolution) = resolution {
        let related =
            Related { resolution, hosts: &hosts, addresses: &addresses, ports: &ports, endpoints: &endpoints };
        check(&related, &mut spec, report);
    }
    spec.finish(report);
    Some(ServiceEntry {
        meta: meta?,
        hosts,
        addresses,
        ports,
        location,
        resolution: resolution?,
        endpoints,
        export_to,
        subject_alt_names,
        workload_selector,
    })
}

/// The rules between fields.
fn check(related: &Related<'_>, spec: &mut Object<'_>, report: &mut Report) {
    check_hosts(related, spec, report);
    check_dynamic_dns(related, spec, report);
    match (spec.optional("endpoints"), spec.optional("workloadSelector")) {
        (Some(_), Some(selector)) => {
            selector.key_error("only one of workloadSelector and endpoints may be set", report);
        }
        (Some(field), None) => endpoint::check(related, &field, report),
        (None, None) if related.resolution == Resolution::Static => {
            spec.warning("resolution STATIC without endpoints: no request can be answered", report);
        }
        (None, _) => {}
    }
}

fn read_hosts(field: &Field<'_>, report: &mut Report) -> Vec<HostPattern> {
    let before = report.errors();
    let items = field.list(MAX_HOSTS, report);
    if items.is_empty() && report.errors() == before {
        field.error("at least one host is required", report);
    }
    let mut hosts = Vec::new();
    for item in items {
        let Some(text) = item.word(report) else { continue };
        match names::host_pattern(text) {
            Ok(HostPattern::Any) => {
                item.error(
                    "\"*\" is not allowed; write \"*.example.com\", or allow everything by outboundTrafficPolicy",
                    report,
                );
            }
            Ok(host) if hosts.contains(&host) => item.warning(format!("{host} is listed twice"), report),
            Ok(host) => hosts.push(host),
            Err(message) => item.error(message, report),
        }
    }
    hosts
}

fn read_addresses(field: &Field<'_>, resolution: Option<Resolution>, report: &mut Report) -> Vec<IpNet> {
    let mut addresses = Vec::new();
    for item in field.list(MAX_ADDRESSES, report) {
        let Some(text) = item.word(report) else { continue };
        if text.contains('/') && !matches!(resolution, None | Some(Resolution::None | Resolution::Static)) {
            item.error(format!("the CIDR {} is allowed only with resolution NONE or STATIC", quoted(text)), report);
        }
        match names::network(text) {
            Ok(network) => {
                if network.trunc() != network {
                    item.warning(format!("{text} means the whole network {}", network.trunc()), report);
                }
                addresses.push(network.trunc());
            }
            Err(message) => item.error(message, report),
        }
    }
    addresses
}

fn read_ports(spec: &mut Object<'_>, report: &mut Report) -> Vec<ServicePort> {
    let field = spec.optional("ports");
    let before = report.errors();
    let items = field.map(|field| field.list(MAX_PORTS, report)).unwrap_or_default();
    if items.is_empty() && report.errors() == before {
        spec.warning("without ports the entry matches nothing", report);
    }
    let mut ports: Vec<ServicePort> = Vec::new();
    for item in items {
        let Some(port) = read_port(&item, report) else { continue };
        if let Some(first) = ports.iter().find(|p| p.number == port.number) {
            let message =
                format!("port number {} is already used in line {}; each may stand once", port.number, first.at.line);
            item.error(message, report);
        }
        if let Some(first) = ports.iter().find(|p| p.name == port.name) {
            let message = format!(
                "port name {} is already used in line {}; each may stand once",
                quoted(&port.name),
                first.at.line
            );
            item.error(message, report);
        }
        ports.push(port);
    }
    ports
}

fn read_port(item: &Field<'_>, report: &mut Report) -> Option<ServicePort> {
    let mut object = item.object(report)?;
    let number = object.required("number").and_then(|field| field.port(report));
    let name = object.required("name").and_then(|field| read_port_name(&field, report));
    let protocol = object.optional_text("protocol", report);
    let protocol = protocol.map_or(Some(PortProtocol::Auto), |(field, _)| read_protocol(&field, report));
    let target_port = object.optional("targetPort").and_then(|field| field.whole(&(0..=65535), report));
    object.finish(report);
    Some(ServicePort {
        number: number?,
        name: name?,
        protocol: protocol?,
        target_port: target_port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0),
        at: report.location(item.at()),
    })
}

fn read_port_name(field: &Field<'_>, report: &mut Report) -> Option<String> {
    let name = field.word(report)?;
    if !names::is_port_name(name) {
        let allowed = "letters, digits and '-', at most 63";
        field.error(format!("invalid port name: {}; use {allowed}", quoted(name)), report);
        return None;
    }
    Some(name.to_owned())
}

fn read_protocol(field: &Field<'_>, report: &mut Report) -> Option<PortProtocol> {
    let text = field.text(report)?;
    let protocol = PROTOCOLS.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, protocol)| *protocol);
    match protocol {
        Some(PortProtocol::Udp) => field.warning("UDP is not redirected to egret; the port has no effect", report),
        Some(_) => {}
        None => {
            let names: Vec<_> = PROTOCOLS.iter().map(|(name, _)| *name).collect();
            field
                .error(format!("unsupported protocol: {}; expected one of {}", quoted(text), names.join(", ")), report);
        }
    }
    protocol
}

/// `labels` or `matchLabels` of a selector; an empty selector selects everything.
pub(super) fn read_selector(
    field: &Field<'_>,
    name: &'static str,
    report: &mut Report,
) -> Option<BTreeMap<String, String>> {
    let mut object = field.object(report)?;
    let labels = object.optional(name).map(|labels| document::labels(&labels, report)).unwrap_or_default();
    object.finish(report);
    Some(labels)
}

/// A list of texts, none empty.
pub(super) fn read_words(field: &Field<'_>, report: &mut Report) -> Vec<String> {
    let items = field.list(usize::MAX, report);
    items.iter().filter_map(|item| item.word(report)).map(str::to_owned).collect()
}

/// Rules between hosts, resolution and ports.
fn check_hosts(related: &Related<'_>, spec: &mut Object<'_>, report: &mut Report) {
    let Some(hosts) = spec.optional("hosts") else { return };
    let by_name = matches!(related.resolution, Resolution::Dns | Resolution::DnsRoundRobin);
    let wildcard = related.hosts.iter().find(|host| matches!(host, HostPattern::Wildcard(_)));
    if let (true, true, Some(host)) = (by_name, related.endpoints.is_empty(), wildcard) {
        let fix = "list full names, add endpoints, or use resolution NONE";
        hosts.error(format!("{host} cannot be resolved by DNS without endpoints; {fix}"), report);
    }
    let plain = related.ports.iter().find(|port| !tells_hosts_apart(port.protocol));
    if let (true, Some(port)) = (related.hosts.len() > 1 && related.resolution != Resolution::None, plain) {
        let fix = "one entry a host, or resolution NONE";
        let message =
            format!("multiple hosts not allowed for non-HTTP, non-TLS ports (port {}); use {fix}", port.number);
        hosts.error(message, report);
    }
}

/// HTTP has its Host field and TLS its SNI; other bytes name nobody.
fn tells_hosts_apart(protocol: PortProtocol) -> bool {
    use PortProtocol::{Auto, Grpc, GrpcWeb, Http, Http2, Https, Mongo, Mysql, Redis, Tcp, Tls, Udp};
    match protocol {
        Http | Http2 | Grpc | GrpcWeb | Https | Tls => true,
        Tcp | Mongo | Mysql | Redis | Udp | Auto => false,
    }
}

/// DYNAMIC_DNS resolves what the application asks for: only wildcard hosts, and nothing that fixes an address.
fn check_dynamic_dns(related: &Related<'_>, spec: &mut Object<'_>, report: &mut Report) {
    if related.resolution != Resolution::DynamicDns {
        return;
    }
    let exact = related.hosts.iter().find(|host| matches!(host, HostPattern::Exact(_)));
    if let (Some(host), Some(field)) = (exact, spec.optional("hosts")) {
        field.error(format!("{host} is no wildcard; resolution DYNAMIC_DNS needs wildcard hosts, use DNS"), report);
    }
    if let (false, Some(field)) = (related.addresses.is_empty(), spec.optional("addresses")) {
        field.error("resolution DYNAMIC_DNS allows no addresses", report);
    }
}

//! `ServiceEntry`: its fields and the rules among them that need no other object.
//!
//! The limits and rules are those of Istio's CRD (CEL) and of its `ValidateServiceEntry`, so that what is accepted here
//! is accepted by a cluster and the other way round. What entries mean beside each other is `policy`'s concern.

mod endpoint;
mod port;
mod resolution;
mod status;

use std::collections::BTreeMap;

use ipnet::IpNet;

use crate::config::export_to::{self, ExportTo};
use crate::config::metadata::{Meta, read_meta, read_selector};
use crate::config::names::{self, HostPattern};
use crate::config::problem::Location;
use crate::config::reader::{Field, Object, Report};
use crate::config::yaml::quoted;

pub use endpoint::{Endpoint, EndpointAddress};
pub use port::{PortProtocol, ServicePort};
pub use resolution::Resolution;
pub use status::StatusAddress;

#[derive(Clone, Debug)]
pub struct ServiceEntry {
    pub meta: Meta,
    pub hosts: Vec<HostPattern>,
    pub addresses: Vec<IpNet>,
    pub ports: Vec<ServicePort>,
    pub location: MeshLocation,
    pub resolution: Resolution,
    pub endpoints: Vec<Endpoint>,
    pub export_to: Vec<ExportTo>,
    pub subject_alt_names: Vec<String>,
    /// `status.addresses`: what a control plane gave its hosts.
    pub status_addresses: Vec<StatusAddress>,
    /// Parsed so that it can be warned of: a sidecar without a control plane has no pods to select.
    pub workload_selector: Option<BTreeMap<String, String>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MeshLocation {
    #[default]
    External,
    Internal,
}

const MAX_HOSTS: usize = 256;
const MAX_ADDRESSES: usize = 256;

const LOCATIONS: &[(&str, MeshLocation)] =
    &[("MESH_EXTERNAL", MeshLocation::External), ("MESH_INTERNAL", MeshLocation::Internal)];
/// What the rules between fields need to know.
struct Related<'e> {
    pub resolution: Resolution,
    pub hosts: &'e [HostPattern],
    pub addresses: &'e [IpNet],
    pub ports: &'e [ServicePort],
    pub endpoints: &'e [Endpoint],
}

pub(super) fn read(mut object: Object<'_>, at: Location, report: &mut Report) -> Option<ServiceEntry> {
    let meta = read_meta(&mut object, at, report);
    let status_addresses = object.optional("status").map(|field| status::read(&field)).unwrap_or_default();
    let spec = object.required("spec");
    object.finish(report);
    let mut spec = spec?.object(report)?;

    // `None`: written, but not understood; nothing can be held against it then.
    let resolution = match spec.optional("resolution") {
        Some(field) => resolution::read(&field, report),
        None => Some(Resolution::default()),
    };
    let location = spec.optional("location").and_then(|f| f.choice(LOCATIONS, report)).unwrap_or_default();
    let hosts = spec.required("hosts").map(|f| read_hosts(&f, report)).unwrap_or_default();
    let addresses = spec.optional("addresses").map(|f| read_addresses(&f, resolution, report)).unwrap_or_default();
    let errors_before = report.errors();
    let ports = port::read_all(&mut spec, report);
    // Endpoints are held against the ports only where all of them could be read.
    let sound_ports = (report.errors() == errors_before).then_some(ports.as_slice());
    let endpoints = spec.optional("endpoints");
    let endpoints = endpoints.map(|f| endpoint::read_all(&f, resolution, sound_ports, report)).unwrap_or_default();
    let selector = spec.optional("workloadSelector");
    let workload_selector = selector.as_ref().and_then(|f| read_selector(f, "labels", report));
    let export_to = spec.optional("exportTo").map(|f| export_to::read(&f, true, report)).unwrap_or_default();
    let subject_alt_names = spec.optional("subjectAltNames").map(|f| f.words(report)).unwrap_or_default();

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
        status_addresses,
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
        (Some(field), None) => {
            endpoint::check(related.endpoints, related.resolution, related.ports.len(), &field, report);
        }
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
            Ok(host) => {
                if let HostPattern::PartialWildcard(ending) = &host {
                    let message = format!(
                        "{host} is a partial wildcard: it stands for every name that ends with {}, at any depth; where single \
                         names or one domain are meant, list them",
                        quoted(ending)
                    );
                    item.warning(message, report);
                }
                hosts.push(host);
            }
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

/// Rules between hosts, resolution and ports.
fn check_hosts(related: &Related<'_>, spec: &mut Object<'_>, report: &mut Report) {
    let Some(hosts) = spec.optional("hosts") else { return };
    let by_name = matches!(related.resolution, Resolution::Dns | Resolution::DnsRoundRobin);
    let wildcard = related.hosts.iter().find(|host| host.is_wildcard());
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

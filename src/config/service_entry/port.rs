//! `ports` of a ServiceEntry.

use crate::config::names;
use crate::config::problem::Location;
use crate::config::reader::{Field, Object, Report};
use crate::config::yaml::quoted;

#[derive(Clone, Debug)]
pub struct ServicePort {
    pub number: u16,
    pub name: String,
    pub protocol: PortProtocol,
    pub target_port: Option<u16>,
    pub at: Location,
}

/// `ports[].protocol`, case-insensitive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PortProtocol {
    Http,
    Http2,
    Grpc,
    GrpcWeb,
    Https,
    Tls,
    Tcp,
    Mongo,
    Mysql,
    Redis,
    /// Not carried by a TCP redirect; parsed and warned of.
    Udp,
    /// Not written: detected from the first bytes.
    Auto,
}

impl PortProtocol {
    /// Whether its servers are spoken to in HTTP/2 by the declaration alone (`IsHTTP2` of Istio's `protocol.Instance`).
    #[must_use]
    pub fn is_http2(self) -> bool {
        matches!(self, Self::Http2 | Self::Grpc | Self::GrpcWeb)
    }

    /// As it is written; `None` where it is not.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        PROTOCOLS.iter().find(|(_, protocol)| *protocol == self).map(|(name, _)| *name)
    }
}

const MAX_PORTS: usize = 256;
const PROTOCOLS: &[(&str, PortProtocol)] = &[
    ("HTTP", PortProtocol::Http),
    // Istio carries it as HTTP (`protocol.Instance.IsHTTP`): the port of a forward proxy.
    ("HTTP_PROXY", PortProtocol::Http),
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

pub(super) fn read_all(spec: &mut Object<'_>, report: &mut Report) -> Vec<ServicePort> {
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
    let target_port = object.optional("targetPort").and_then(|field| field.port(report));
    object.finish(report);
    Some(ServicePort { number: number?, name: name?, protocol: protocol?, target_port, at: report.location(item.at()) })
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

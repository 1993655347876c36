//! `VirtualService`: its hosts, and whom its routes are for.

mod byte_route;
mod delegate;
mod destination;
mod fault;
mod gateways;
mod header_changes;
mod header_format;
mod http_match;
mod http_route;
mod mirror;
mod retries;
mod rewrite;
mod text_match;

use std::net::IpAddr;

use crate::config::export_to::{self, ExportTo};
use crate::config::metadata::{Meta, read_meta};
use crate::config::names::{self, HostPattern};
use crate::config::problem::{Location, Problem};
use crate::config::reader::{Field, Object, Report};

use byte_route::Reads;
pub use byte_route::{ByteMatch, ByteRoute};
pub use delegate::Delegate;
use delegate::Written;
pub use destination::Destination;
pub use fault::{Abort, Fault, falls_on};
pub use gateways::leave_sidecars_out;
pub use header_changes::HeaderChanges;
pub use header_format::{FormatFacts, FormattedField, HeaderFormat};
pub use http_match::HttpMatch;
pub use http_route::{HttpAction, HttpRoute, Redirect};
pub use mirror::Mirror;
pub use retries::{RETRY_ON, Retries, RetryOn};
pub use rewrite::Rewrite;
pub use text_match::TextMatch;

#[derive(Clone, Debug)]
pub struct VirtualService {
    pub meta: Meta,
    /// None, if its routes hold where another VirtualService delegates to them, or for nobody here.
    pub hosts: Vec<HostPattern>,
    /// Hosts that are addresses: requests may ask for them, and no server name does.
    pub addresses: Vec<IpAddr>,
    pub export_to: Vec<ExportTo>,
    /// The first that matches holds.
    pub http: Vec<HttpRoute>,
    /// For the application's own TLS, by its server name.
    pub tls: Vec<ByteRoute>,
    /// For bytes that are not looked into.
    pub tcp: Vec<ByteRoute>,
    /// Without hosts: what is wrong with it is an error only where a VirtualService for sidecars delegates to it.
    pub delegate: Option<Vec<Problem>>,
}

pub(super) fn read(mut object: Object<'_>, at: Location, report: &mut Report) -> Option<VirtualService> {
    let meta = read_meta(&mut object, at, report);
    object.allow(&["status"]);
    let spec = object.required("spec");
    object.finish(report);
    let mut spec = spec?.object(report)?;

    let export_to = spec.optional("exportTo").map(|field| export_to::read(&field, false, report)).unwrap_or_default();
    if let Some(field) = spec.optional("gateways")
        && gateways::exclude_sidecars(&field, report)
    {
        field.key_warning("these routes are for gateways only, and have no effect here: add mesh", report);
        return without_effect(meta, export_to, spec, report);
    }
    if is_delegate(&mut spec) {
        return Some(read_delegate(meta?, export_to, spec, report));
    }
    let (hosts, addresses) = spec.required("hosts").map(|field| read_hosts(&field, report)).unwrap_or_default();
    let http = spec.optional("http").map(|field| http_route::read_all(&field, Written::InRoot, report));
    let http = http.unwrap_or_default();
    let tls = spec.optional("tls").map(|field| byte_route::read_all(&field, Reads::ServerName(&hosts), report));
    let tcp = spec.optional("tcp").map(|field| byte_route::read_all(&field, Reads::Nothing, report));
    let (tls, tcp) = (tls.unwrap_or_default(), tcp.unwrap_or_default());
    if !["http", "tls", "tcp"].iter().any(|name| spec.has(name)) {
        spec.error("a VirtualService must have at least one of http, tls and tcp", report);
    }
    spec.finish(report);
    Some(VirtualService { meta: meta?, hosts, addresses, export_to, http, tls, tcp, delegate: None })
}

/// Whether a VirtualService is for others to delegate to.
fn is_delegate(spec: &mut Object<'_>) -> bool {
    let names_none = spec.optional("hosts").is_none_or(|hosts| hosts.is_empty_list());
    names_none && (spec.has("http") || spec.has("tls") || spec.has("tcp"))
}

/// What is wrong with its routes stays with it: it may be for gateways.
fn read_delegate(meta: Meta, export_to: Vec<ExportTo>, mut spec: Object<'_>, report: &mut Report) -> VirtualService {
    for name in ["gateways", "tls", "tcp"] {
        if let Some(field) = spec.optional(name) {
            field.key_error("a VirtualService without hosts is for others to delegate to, and has http alone", report);
        }
    }
    let mark = report.mark();
    let http = spec.optional("http").map(|field| http_route::read_all(&field, Written::InDelegate, report));
    let unsound = report.take_since(mark);
    spec.finish(report);
    VirtualService {
        meta,
        hosts: Vec::new(),
        addresses: Vec::new(),
        export_to,
        http: http.unwrap_or_default(),
        tls: Vec::new(),
        tcp: Vec::new(),
        delegate: Some(unsound),
    }
}

/// Routes that are not for sidecars. What others make of them is not known here, so nothing in them is held to be wrong.
fn without_effect(
    meta: Option<Meta>,
    export_to: Vec<ExportTo>,
    mut spec: Object<'_>,
    report: &mut Report,
) -> Option<VirtualService> {
    spec.allow(&["hosts", "http", "tls", "tcp"]);
    spec.finish(report);
    let (hosts, addresses, http, tls, tcp) = Default::default();
    Some(VirtualService { meta: meta?, hosts, addresses, export_to, http, tls, tcp, delegate: None })
}

/// The hosts of routes for sidecars, by the rules of Istio's `ValidateVirtualService`.
fn read_hosts(field: &Field<'_>, report: &mut Report) -> (Vec<HostPattern>, Vec<IpAddr>) {
    let items = field.list(usize::MAX, report);
    if items.is_empty() {
        field.error("at least one host is required", report);
    }
    let (mut hosts, mut addresses): (Vec<HostPattern>, Vec<IpAddr>) = Default::default();
    for item in items {
        let Some(text) = item.word(report) else { continue };
        if let Ok(ip) = text.parse::<IpAddr>() {
            addresses.push(ip.to_canonical());
            continue;
        }
        match names::host_pattern(text) {
            Ok(HostPattern::Any) => item.error(
                "wildcard host * is not allowed for virtual services bound to the mesh gateway; name the hosts, such as \
                 \"*.example.com\", or leave mesh out of `gateways`",
                report,
            ),
            Ok(host) => {
                // Each request must be one of one host: which of two that overlap would be a matter of order.
                if let Some(other) = hosts.iter().find(|other| other.covers(&host) || host.covers(other)) {
                    let message = format!("duplicate hosts in virtual service: {other} & {host}; keep one of them");
                    item.error(message, report);
                }
                hosts.push(host);
            }
            Err(message) => item.error(message, report),
        }
    }
    (hosts, addresses)
}

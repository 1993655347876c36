//! `Sidecar`: of it egret acts on the outbound traffic policy, and on which hosts it shows.

use super::document::read_meta;
use super::egress_listener;
use super::reader::{Field, Object, Report, Shape};
use super::resources::{Location, OutboundPolicy, Sidecar};
use super::service_entry::read_selector;

/// The last is none of a Sidecar's: it holds for the whole mesh.
pub(super) const POLICIES: &[(&str, OutboundPolicy)] = &[
    ("ALLOW_ANY", OutboundPolicy::AllowAny),
    ("REGISTRY_ONLY", OutboundPolicy::RegistryOnly),
    ("ALLOW_ANY_DYNAMIC_DNS", OutboundPolicy::AllowAnyDynamicDns),
];

pub(super) fn read(mut object: Object<'_>, at: Location, report: &mut Report) -> Option<Sidecar> {
    let meta = read_meta(&mut object, at, report);
    object.allow(&["status"]);
    let spec = object.required("spec");
    object.finish(report);
    let mut spec = spec?.object(report)?;

    if !["egress", "ingress", "outboundTrafficPolicy", "inboundConnectionPool"].iter().any(|name| spec.has(name)) {
        spec.error("an empty Sidecar says nothing; write outboundTrafficPolicy", report);
    }
    let workload_selector = spec.optional("workloadSelector").and_then(|field| read_selector(&field, "labels", report));
    let outbound_traffic_policy =
        spec.optional("outboundTrafficPolicy").and_then(|field| read_outbound_policy(&field, &POLICIES[..2], report));
    let egress = spec.optional("egress").map(|field| egress_listener::read_all(&field, report));
    spec.unsupported("ingress", Shape::List, report);
    spec.unsupported("inboundConnectionPool", Shape::Object(&["tcp", "http"]), report);
    spec.finish(report);
    Some(Sidecar { meta: meta?, workload_selector, outbound_traffic_policy, egress })
}

/// `{mode: …}`; without a mode the enumeration's first value holds, REGISTRY_ONLY.
pub(super) fn read_outbound_policy(
    field: &Field<'_>,
    policies: &[(&str, OutboundPolicy)],
    report: &mut Report,
) -> Option<OutboundPolicy> {
    let mut object = field.object(report)?;
    let mode = match object.optional("mode") {
        Some(field) => field.choice(policies, report),
        None => Some(OutboundPolicy::RegistryOnly),
    };
    if let Some(field) = object.optional("tls") {
        field.key_error(
            "is not supported: write a ServiceEntry with a wildcard host and resolution DYNAMIC_DNS, and a DestinationRule",
            report,
        );
    }
    object.unsupported("egressProxy", Shape::Object(&["host", "subset", "port"]), report);
    object.finish(report);
    mode
}

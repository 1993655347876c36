//! `Sidecar`: of it egret acts on the outbound traffic policy, and on which hosts it shows.

mod egress_listener;
pub(super) mod outbound_policy;

use std::collections::BTreeMap;

use crate::config::metadata::{Meta, read_meta, read_selector};
use crate::config::problem::Location;
use crate::config::reader::{Object, Report, Shape};

pub use egress_listener::{EgressListener, ImportedFrom, ImportedHost};
pub use outbound_policy::OutboundPolicy;
use outbound_policy::POLICIES;

/// `Sidecar`: of it what its pods see and what becomes of the rest.
#[derive(Clone, Debug)]
pub struct Sidecar {
    pub meta: Meta,
    pub workload_selector: Option<BTreeMap<String, String>>,
    pub outbound_traffic_policy: Option<OutboundPolicy>,
    /// `None` sees everything.
    pub egress: Option<Vec<EgressListener>>,
}

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
        spec.optional("outboundTrafficPolicy").and_then(|field| outbound_policy::read(&field, &POLICIES[..2], report));
    let egress = spec.optional("egress").map(|field| egress_listener::read_all(&field, report));
    spec.unsupported("ingress", Shape::List, report);
    spec.unsupported("inboundConnectionPool", Shape::Object(&["tcp", "http"]), report);
    spec.finish(report);
    Some(Sidecar { meta: meta?, workload_selector, outbound_traffic_policy, egress })
}

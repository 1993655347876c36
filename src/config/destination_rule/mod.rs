//! `DestinationRule`: the host it is for, its subsets, and traffic policies for all ports and for single ones.

mod client_tls;
mod connection_pool;
mod load_balancer;
mod locality;
mod outlier_detection;
mod proxy_protocol;
mod retry_budget;
mod traffic_policy;
mod tunnel;
mod upstream_protocol;

use std::collections::BTreeMap;

use crate::config::export_to::{self, ExportTo};
use crate::config::metadata::{self, Meta, read_meta, read_selector};
use crate::config::names::{self, HostPattern};
use crate::config::problem::Location;
use crate::config::reader::{Field, Object, Report};
use crate::config::yaml::quoted;

pub use client_tls::{ClientTls, TlsMode};
pub use connection_pool::{ConnectionPool, H2Upgrade, Http2Keepalive, POOLED_IDLE, PoolLimits, TcpKeepalive};
pub use load_balancer::{ConsistentHash, HashCookie, HashKey, HashTable, LoadBalancer, LoadBalancing, Warmup};
pub use locality::{Distribute, Locality, LocalityBalancing, LocalityPattern};
pub use outlier_detection::OutlierDetection;
pub use proxy_protocol::ProxyProtocol;
pub use retry_budget::RetryBudget;
pub use traffic_policy::{PortPolicy, TrafficPolicy};
pub use tunnel::{Tunnel, TunnelProtocol};
pub use upstream_protocol::UpstreamProtocol;

#[derive(Clone, Debug)]
pub struct DestinationRule {
    pub meta: Meta,
    pub host: HostPattern,
    pub traffic_policy: Option<TrafficPolicy>,
    pub subsets: Vec<Subset>,
    pub export_to: Vec<ExportTo>,
    /// `workloadSelector.matchLabels`.
    pub workload_selector: Option<BTreeMap<String, String>>,
    /// Instead of what the Settings say.
    pub upstream_protocol: Option<UpstreamProtocol>,
}

#[derive(Clone, Debug)]
pub struct Subset {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub traffic_policy: Option<TrafficPolicy>,
}

pub(super) fn read(mut object: Object<'_>, at: Location, report: &mut Report) -> Option<DestinationRule> {
    let meta = read_meta(&mut object, at, report);
    object.allow(&["status"]);
    let spec = object.required("spec");
    object.finish(report);
    let mut spec = spec?.object(report)?;

    let host = spec.required("host").and_then(|field| read_host(&field, report));
    let traffic_policy = spec.optional("trafficPolicy").and_then(|field| traffic_policy::read(&field, report));
    let subsets = spec.optional("subsets").map(|field| read_subsets(&field, report)).unwrap_or_default();
    let export_to_field = spec.optional("exportTo");
    let export_to = export_to_field.as_ref().map(|field| export_to::read(field, false, report)).unwrap_or_default();
    let workload_selector =
        spec.optional("workloadSelector").and_then(|field| read_selector(&field, "matchLabels", report));
    if let (Some(field), Some(_), Some(meta)) = (export_to_field, &workload_selector, &meta) {
        check_selected(&field, &export_to, meta, report);
    }
    let upstream_protocol = meta.as_ref().and_then(|meta| upstream_protocol::annotated(meta, &spec, report));
    spec.finish(report);
    Some(DestinationRule {
        meta: meta?,
        host: host?,
        traffic_policy,
        subsets,
        export_to,
        workload_selector,
        upstream_protocol,
    })
}

/// Whom a rule selects is of its own namespace (`validateExportTo`).
fn check_selected(field: &Field<'_>, export_to: &[ExportTo], meta: &Meta, report: &mut Report) {
    let is_own = |to: &ExportTo| match to {
        ExportTo::Same => true,
        // Without a namespace it may be that one.
        ExportTo::Namespace(name) => meta.namespace.as_ref().is_none_or(|own| own == name),
        ExportTo::All | ExportTo::Nobody => false,
    };
    if !export_to.iter().all(is_own) {
        field.error(
            "a rule with workloadSelector holds in its own namespace alone: leave exportTo out, or write \".\"",
            report,
        );
    }
}

fn read_host(field: &Field<'_>, report: &mut Report) -> Option<HostPattern> {
    let text = field.word(report)?;
    names::host_pattern(text).map_err(|message| field.error(message, report)).ok()
}

/// The name of a subset.
pub(super) fn subset_name(field: &Field<'_>, report: &mut Report) -> Option<String> {
    let name = field.word(report)?;
    if !names::is_port_name(name) {
        field.error(
            format!("invalid name of a subset: {}; use letters, digits and '-', at most 63", quoted(name)),
            report,
        );
        return None;
    }
    Some(name.to_owned())
}

fn read_subsets(field: &Field<'_>, report: &mut Report) -> Vec<Subset> {
    let items = field.list(usize::MAX, report);
    let mut subsets: Vec<Subset> = Vec::new();
    for item in items {
        let Some(mut object) = item.object(report) else { continue };
        let name = object.required("name").and_then(|field| Some((subset_name(&field, report)?, field)));
        let labels = object.optional("labels").map(|field| metadata::labels(&field, report)).unwrap_or_default();
        let traffic_policy = object.optional("trafficPolicy").and_then(|field| traffic_policy::read(&field, report));
        object.finish(report);
        let Some((name, field)) = name else { continue };
        if subsets.iter().any(|subset| subset.name == name) {
            field.error(format!("subset {} is defined twice", quoted(&name)), report);
        }
        subsets.push(Subset { name, labels, traffic_policy });
    }
    subsets
}

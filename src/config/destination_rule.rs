//! `DestinationRule`: the host it is for, its subsets, and traffic policies for all ports and for single ones.

use super::client_tls;
use super::connection_pool;
use super::document::{self, read_meta};
use super::export_to;
use super::hop;
use super::load_balancer;
use super::names;
use super::outlier_detection;
use super::reader::{Field, Object, Report};
use super::resources::{DestinationRule, HostPattern, Location, PortPolicy, Subset, TrafficPolicy};
use super::service_entry::read_selector;
use super::yaml::quoted;

pub(super) fn read(mut object: Object<'_>, at: Location, report: &mut Report) -> Option<DestinationRule> {
    let meta = read_meta(&mut object, at, report);
    object.allow(&["status"]);
    let spec = object.required("spec");
    object.finish(report);
    let mut spec = spec?.object(report)?;

    let host = spec.required("host").and_then(|field| read_host(&field, report));
    let traffic_policy = spec.optional("trafficPolicy").and_then(|field| read_traffic_policy(&field, report));
    let subsets = spec.optional("subsets").map(|field| read_subsets(&field, report)).unwrap_or_default();
    let export_to = spec.optional("exportTo").map(|field| export_to::read(&field, false, report)).unwrap_or_default();
    let workload_selector =
        spec.optional("workloadSelector").and_then(|field| read_selector(&field, "matchLabels", report));
    spec.finish(report);
    Some(DestinationRule { meta: meta?, host: host?, traffic_policy, subsets, export_to, workload_selector })
}

fn read_host(field: &Field<'_>, report: &mut Report) -> Option<HostPattern> {
    let text = field.word(report)?;
    names::host_pattern(text).map_err(|message| field.error(message, report)).ok()
}

fn read_subsets(field: &Field<'_>, report: &mut Report) -> Vec<Subset> {
    let items = field.list(usize::MAX, report);
    let mut subsets: Vec<Subset> = Vec::new();
    for item in items {
        let Some(mut object) = item.object(report) else { continue };
        let name = object.required("name").and_then(|field| Some((field.word(report)?.to_owned(), field)));
        let labels = object.optional("labels").map(|field| document::labels(&field, report)).unwrap_or_default();
        let traffic_policy = object.optional("trafficPolicy").and_then(|field| read_traffic_policy(&field, report));
        object.finish(report);
        let Some((name, field)) = name else { continue };
        if subsets.iter().any(|subset| subset.name == name) {
            field.error(format!("subset {} is defined twice", quoted(&name)), report);
        }
        subsets.push(Subset { name, labels, traffic_policy });
    }
    subsets
}

const POLICY_FIELDS: [&str; 4] = ["loadBalancer", "connectionPool", "outlierDetection", "tls"];

fn read_traffic_policy(field: &Field<'_>, report: &mut Report) -> Option<TrafficPolicy> {
    let mut object = field.object(report)?;
    let extra = ["portLevelSettings", "tunnel", "proxyProtocol", "retryBudget"];
    if !POLICY_FIELDS.iter().chain(&extra).any(|name| object.has(name)) {
        field.error("a traffic policy must have at least one field", report);
    }
    let mut all = read_port_policy(&mut object, report);
    let ports = object.optional("portLevelSettings").map(|field| read_port_levels(&field, report)).unwrap_or_default();
    all.tunnel = object.optional("tunnel").and_then(|field| hop::read_tunnel(&field, report));
    all.proxy_protocol = object.optional("proxyProtocol").and_then(|field| hop::read_proxy_protocol(&field, report));
    all.retry_budget = object.optional("retryBudget").and_then(|field| hop::read_retry_budget(&field, report));
    if object.has("tunnel") && object.has("proxyProtocol") {
        field.error("only one of tunnel and proxyProtocol may be set", report);
    }
    object.finish(report);
    Some(TrafficPolicy { all, ports })
}

/// The fields that a policy for all ports and one for a single port share.
fn read_port_policy(object: &mut Object<'_>, report: &mut Report) -> PortPolicy {
    let load_balancer = object.optional("loadBalancer").and_then(|field| load_balancer::read(&field, report));
    let connection_pool = object.optional("connectionPool").and_then(|field| connection_pool::read(&field, report));
    let outlier = object.optional("outlierDetection").and_then(|field| outlier_detection::read(&field, report));
    let tls = object.optional("tls").and_then(|field| client_tls::read(&field, report));
    PortPolicy { tls, load_balancer, connection_pool, outlier_detection: outlier, ..PortPolicy::default() }
}

fn read_port_levels(field: &Field<'_>, report: &mut Report) -> Vec<(u16, PortPolicy)> {
    let mut ports: Vec<(u16, PortPolicy)> = Vec::new();
    for item in field.list(4096, report) {
        let Some(mut object) = item.object(report) else { continue };
        if !POLICY_FIELDS.iter().any(|name| object.has(name)) {
            item.error(format!("a port's policy must have at least one of {}", POLICY_FIELDS.join(", ")), report);
        }
        let number = object.required("port").and_then(|port| read_port_selector(&port, report));
        let policy = read_port_policy(&mut object, report);
        object.finish(report);
        let Some(number) = number else { continue };
        if ports.iter().any(|(other, _)| *other == number) {
            item.error(format!("port {number} has two policies; merge them, only one can hold"), report);
        }
        ports.push((number, policy));
    }
    ports
}

fn read_port_selector(field: &Field<'_>, report: &mut Report) -> Option<u16> {
    let mut object = field.object(report)?;
    let number = object.required("number").and_then(|field| field.port(report));
    object.finish(report);
    number
}

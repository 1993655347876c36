//! `trafficPolicy`: the policy for every port, those of single ports, and which of them holds.

use super::client_tls::{self, ClientTls};
use super::connection_pool::{self, ConnectionPool, PoolLimits};
use super::load_balancer::{self, LoadBalancing};
use super::outlier_detection::{self, OutlierDetection};
use super::proxy_protocol::{self, ProxyProtocol};
use super::retry_budget::{self, RetryBudget};
use super::tunnel::{self, Tunnel};
use crate::config::reader::{Field, Object, Report};

/// A policy for every port, and the ports that have one of their own.
#[derive(Clone, Debug, Default)]
pub struct TrafficPolicy {
    pub all: PortPolicy,
    /// An entry replaces `all` wholesale for its port (`number` of the ServiceEntry, not its target port).
    pub ports: Vec<(u16, PortPolicy)>,
}

#[derive(Clone, Debug, Default)]
pub struct PortPolicy {
    pub tls: Option<ClientTls>,
    pub load_balancer: Option<LoadBalancing>,
    pub connection_pool: Option<ConnectionPool>,
    pub outlier_detection: Option<OutlierDetection>,
    /// This and the next two stand only in a policy for every port, and do not hold for a port with one of its own.
    pub tunnel: Option<Tunnel>,
    pub proxy_protocol: Option<ProxyProtocol>,
    pub retry_budget: Option<RetryBudget>,
}

impl TrafficPolicy {
    /// The policy of a port: its own entry replaces everything, Istio's `GetPortLevelTrafficPolicy`.
    #[must_use]
    pub fn of_port(&self, port: u16) -> &PortPolicy {
        self.ports.iter().find(|(number, _)| *number == port).map_or(&self.all, |(_, own)| own)
    }

    /// A subset's policy over that of its rule, field by field; the ports of the subset replace all of the rule's.
    #[must_use]
    pub fn with_subset(rule: Option<&Self>, subset: Option<&Self>) -> Option<Self> {
        let (rule, subset) = match (rule, subset) {
            (rule, None) => return rule.cloned(),
            (None, subset) => return subset.cloned(),
            (Some(rule), Some(subset)) => (rule.clone(), subset.clone()),
        };
        let ports = if subset.ports.is_empty() { rule.ports } else { subset.ports };
        Some(Self { all: subset.all.over(rule.all), ports })
    }
}

impl PortPolicy {
    /// The limits of a port that has `policy`.
    #[must_use]
    pub fn limits(policy: Option<&Self>) -> PoolLimits {
        let pool = policy.and_then(|policy| policy.connection_pool.clone()).unwrap_or_default();
        let is_shared = policy.is_none_or(|policy| policy.proxy_protocol.is_none());
        PoolLimits::new(&pool, policy.and_then(|policy| policy.retry_budget), is_shared)
    }

    /// This policy, and what it does not say from `general`.
    fn over(self, general: Self) -> Self {
        Self {
            tls: self.tls.or(general.tls),
            load_balancer: self.load_balancer.or(general.load_balancer),
            connection_pool: self.connection_pool.or(general.connection_pool),
            outlier_detection: self.outlier_detection.or(general.outlier_detection),
            tunnel: self.tunnel.or(general.tunnel),
            proxy_protocol: self.proxy_protocol.or(general.proxy_protocol),
            retry_budget: self.retry_budget.or(general.retry_budget),
        }
    }
}

const POLICY_FIELDS: [&str; 4] = ["loadBalancer", "connectionPool", "outlierDetection", "tls"];

pub(super) fn read(field: &Field<'_>, report: &mut Report) -> Option<TrafficPolicy> {
    let mut object = field.object(report)?;
    let extra = ["portLevelSettings", "tunnel", "proxyProtocol", "retryBudget"];
    if !POLICY_FIELDS.iter().chain(&extra).any(|name| object.has(name)) {
        field.error("a traffic policy must have at least one field", report);
    }
    let mut all = read_port_policy(&mut object, report);
    let ports = object.optional("portLevelSettings").map(|field| read_port_levels(&field, report)).unwrap_or_default();
    all.tunnel = object.optional("tunnel").and_then(|field| tunnel::read(&field, report));
    all.proxy_protocol = object.optional("proxyProtocol").and_then(|field| proxy_protocol::read(&field, report));
    all.retry_budget = object.optional("retryBudget").and_then(|field| retry_budget::read(&field, report));
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

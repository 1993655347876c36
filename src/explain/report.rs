//! An explanation, for people and for programs. It is read back from a running process, so it owns what it says.

use std::fmt::Write as _;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::log::Logged;
use super::render;

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub url: String,
    /// Of the running process that was asked; `None` for files.
    pub policy_version: Option<u64>,
    /// What the proxy takes the connection for.
    pub seen_as: String,
    pub decision: DecisionKind,
    /// What would happen, in words.
    pub outcome: String,
    pub outbound_traffic_policy: String,
    /// The VirtualService whose route takes it, and what else the route does.
    pub virtual_service: Option<String>,
    /// Every policy that judges it: `DENY default/no-admin`.
    pub authorization_policies: Vec<String>,
    /// Who shares the connections to servers, where requests are sent on.
    #[serde(default)]
    pub connections: Option<String>,
    pub assumed_address: Option<IpAddr>,
    #[serde(flatten)]
    pub matched: Option<Matched>,
    /// Where a route has several destinations, each of them; `decision`, `outcome`, `logged` and what matched are then
    /// those of the first.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub destinations: Vec<Share>,
    pub logged: Logged,
    pub warnings: Vec<String>,
}

/// One of several destinations of a route.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Share {
    /// `outbound|port|subset|host`, also where there is no such cluster.
    pub name: String,
    /// It gets so many of every `of`.
    pub weight: u32,
    pub of: u64,
    pub decision: DecisionKind,
    pub outcome: String,
    #[serde(flatten)]
    pub matched: Option<Matched>,
    pub logged: Logged,
}

/// What becomes of a flow, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DecisionKind {
    Forward,
    Passthrough,
    Deny,
    Refuse,
    /// By egret itself, as a route says.
    Answer,
}

/// The cluster that a flow belongs to.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Matched {
    pub cluster: String,
    pub service_entry: String,
    pub destination_rule: Option<String>,
    pub endpoints: Vec<String>,
    pub tls: Option<render::Tls>,
    pub limits: Vec<String>,
    pub rule: Vec<String>,
}

impl Report {
    /// A row a fact.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        let mut row = |name: &str, value: &str| {
            let _ = writeln!(out, "{name:<18} {value}");
        };
        row("URL", &self.url);
        if let Some(version) = self.policy_version {
            row("policy", &format!("version {version} of the running proxy"));
        }
        row("seen as", &self.seen_as);
        if let Some(address) = self.assumed_address {
            row("address dialled", &format!("{address}, assumed (--address IP to say)"));
        }
        if let Some(route) = &self.virtual_service {
            row("VirtualService", route);
        }
        match &self.matched {
            _ if !self.destinations.is_empty() => {}
            None => row("outbound policy", &self.outbound_traffic_policy),
            Some(matched) => matched.rows(&mut row),
        }
        if !self.authorization_policies.is_empty() {
            row("authorization", &self.authorization_policies.join(", "));
        }
        for share in &self.destinations {
            row("destination", &format!("{} gets {} of {}", share.name, share.weight, share.of));
            share.matched.iter().for_each(|matched| matched.rows(&mut row));
            row("outcome", &share.outcome);
            row("logged", &share.logged.to_string());
        }
        if let Some(connections) = &self.connections {
            row("connections", connections);
        }
        if self.destinations.is_empty() {
            row("outcome", &self.outcome);
            row("logged", &self.logged.to_string());
        }
        for warning in &self.warnings {
            row("warning", warning);
        }
        out
    }
}

impl Matched {
    fn rows(&self, row: &mut impl FnMut(&str, &str)) {
        row("ServiceEntry", &self.service_entry);
        row("DestinationRule", self.destination_rule.as_deref().unwrap_or("none"));
        row("cluster", &self.cluster);
        for endpoint in &self.endpoints {
            row("endpoint", endpoint);
        }
        if let Some(tls) = &self.tls {
            row("TLS mode", &tls.mode);
            row("SNI", &tls.sni);
            row("trusted CA", &tls.ca);
            row("name check", &tls.names);
            row("client certificate", &tls.client_certificate);
            row("ALPN", &tls.alpn);
        }
        row("limits", &self.limits.join(", "));
        if !self.rule.is_empty() {
            row("rule", &self.rule.join(", "));
        }
    }
}

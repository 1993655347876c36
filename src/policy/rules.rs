//! Which DestinationRule speaks for a host: the workload's own namespace first, then the ServiceEntry's, then the root
//! namespace; within one the most specific host; among equals the rule that selects the workload, then the oldest.
//!
//! It knows nothing of what a rule asks for. Rules whose selector does not match are left out before hosts are compared:
//! Istio would let such a rule hide a wildcard rule that applies, and traffic would leave without the TLS that the
//! wildcard rule asks for.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::config::{
    ClientTls, DestinationRule, HostPattern, Location, PortPolicy, PortProtocol, Resources, ServicePort, Subset,
    TrafficPolicy,
};
use crate::flow::Hostname;
use crate::policy::hosts::{HostMap, suffixes};
use crate::policy::problems::Problems;
use crate::policy::scope::{ROOT_NAMESPACE, Workload, oldest_first};
use crate::policy::short_names::qualified_pattern;
use crate::policy::traps::originates;

#[derive(Debug)]
pub(super) struct Rules<'r> {
    own: &'r str,
    visible: Vec<Rule<'r>>,
    /// Namespace → host → rules, oldest first.
    by_namespace: HashMap<&'r str, HostMap<Vec<usize>>>,
}

/// A rule that the workload sees.
#[derive(Debug)]
struct Rule<'r> {
    document: &'r DestinationRule,
    namespace: &'r str,
    host: HostPattern,
    /// Ports of the hosts that it was chosen for.
    applied: BTreeSet<u16>,
}

impl<'r> Rule<'r> {
    fn tls(&self, port: u16) -> Option<&'r ClientTls> {
        policy_of(self.document.traffic_policy.as_ref()?, port).tls.as_ref()
    }
}

impl<'r> Rules<'r> {
    pub(super) fn visible(resources: &'r Resources, workload: &'r Workload, problems: &mut Problems) -> Self {
        let mut rules = Self { own: &workload.namespace, visible: Vec::new(), by_namespace: HashMap::new() };
        for rule in oldest_first(&resources.destination_rules, |rule| &rule.meta) {
            let namespace = workload.namespace_of(&rule.meta);
            if applies(rule, namespace, workload, problems) {
                rules.add(rule, namespace);
            }
        }
        rules
    }

    fn add(&mut self, rule: &'r DestinationRule, namespace: &'r str) {
        let host = qualified_pattern(&rule.host, namespace);
        let id = self.visible.len();
        self.by_namespace.entry(namespace).or_default().get_or_insert_with(&host, Vec::new).push(id);
        self.visible.push(Rule { document: rule, namespace, host, applied: BTreeSet::new() });
    }

    /// The rule for `host` of a ServiceEntry in `namespace`, and the namespace that the rule stands in.
    pub(super) fn select(
        &mut self,
        host: &HostPattern,
        namespace: &str,
        port: u16,
    ) -> Option<(&'r DestinationRule, &'r str)> {
        let chosen = self.choose(host, namespace)?;
        let chosen = &mut self.visible[chosen];
        chosen.applied.insert(port);
        Some((chosen.document, chosen.namespace))
    }

    /// The subset that the rules for `host` define; of several with one name the oldest.
    pub(super) fn subset(&self, host: &HostPattern, namespace: &str, name: &str) -> Option<&'r Subset> {
        let merged = self.merged(host, namespace).into_iter();
        merged.flat_map(|id| &self.visible[id].document.subsets).find(|subset| subset.name == name)
    }

    fn choose(&self, host: &HostPattern, namespace: &str) -> Option<usize> {
        let merged = self.merged(host, namespace);
        let with_policy = merged.iter().find(|id| self.visible[**id].document.traffic_policy.is_some());
        with_policy.or(merged.first()).copied()
    }

    /// The rules that hold for `host` together, oldest first. Istio merges those of one host and selector: the first that
    /// has a policy gives it, and each may add subsets.
    fn merged(&self, host: &HostPattern, namespace: &str) -> Vec<usize> {
        let tiers = [self.own, namespace, ROOT_NAMESPACE];
        let same = tiers.iter().find_map(|tier| self.by_namespace.get(tier)?.find_covering(host));
        let same = same.map_or(&[][..], Vec::as_slice);
        let selector = |id: &usize| self.visible[*id].document.workload_selector.as_ref();
        let Some(first) = same.iter().find(|id| selector(id).is_some()).or(same.first()) else { return Vec::new() };
        same.iter().filter(|id| selector(id) == selector(first)).copied().collect()
    }

    /// Warns of rules that speak for nobody, of rules that an older one silences, and of ports that nobody has.
    pub(super) fn warn_of_the_unused(&self, hosts: &HashSet<HostPattern>, problems: &mut Problems) {
        let suffixes = covered_suffixes(hosts);
        for rule in self.visible.iter().filter(|rule| rule.namespace == self.own) {
            let known = match &rule.host {
                HostPattern::Exact(_) => hosts.contains(&rule.host),
                HostPattern::Wildcard(suffix) => suffixes.contains(suffix.as_str()),
                HostPattern::Any => !hosts.is_empty(),
            };
            if known {
                self.warn_of_silenced(rule, problems);
                warn_of_unknown_ports(rule, problems);
            } else {
                problems.warn_of_absence(&rule.document.meta.at, unknown_host(rule, hosts));
            }
        }
    }

    /// Warns where a rule for `*.example.com` asks for TLS and a more specific one, which does not, holds instead.
    pub(super) fn warn_of_hidden_tls(
        &self,
        host: &HostPattern,
        namespace: &str,
        port: &ServicePort,
        problems: &mut Problems,
    ) {
        let Some(chosen) = self.choose(host, namespace).map(|id| &self.visible[id]) else { return };
        if chosen.tls(port.number).is_some() || matches!(port.protocol, PortProtocol::Https | PortProtocol::Tls) {
            return;
        }
        let tiers = [self.own, namespace, ROOT_NAMESPACE].into_iter().filter_map(|tier| self.by_namespace.get(tier));
        let covering = tiers.flat_map(|map| map.covering(host)).flatten().map(|id| &self.visible[*id]);
        let hidden = covering.filter(|rule| rule.host != chosen.host);
        if let Some(hidden) = hidden.into_iter().find(|rule| rule.tls(port.number).is_some_and(originates)) {
            let message = format!(
                "{host} leaves in plaintext on port {}: this rule hides {} at {}, which asks for TLS for {}, as a whole; \
                 repeat its tls block here (or `mode: DISABLE` if that is meant)",
                port.number, hidden.document.meta.name, hidden.document.meta.at, hidden.host
            );
            problems.warn(&chosen.document.meta.at, message);
        }
    }

    fn warn_of_silenced(&self, rule: &Rule<'_>, problems: &mut Problems) {
        if rule.document.traffic_policy.is_none() {
            return;
        }
        let same = self.by_namespace.get(rule.namespace).and_then(|map| map.get(&rule.host));
        let older = same.into_iter().flatten().map(|id| &self.visible[*id]).find(|other| {
            other.document.workload_selector == rule.document.workload_selector
                && other.document.traffic_policy.is_some()
        });
        if let Some(older) = older.filter(|older| !std::ptr::eq(older.document, rule.document)) {
            let message = format!(
                "the trafficPolicy of this DestinationRule has no effect: the older rule {} at {} has the same host {}; \
                 merge the two",
                older.document.meta.name, older.document.meta.at, rule.host
            );
            problems.warn(&rule.document.meta.at, message);
        }
    }
}

/// The settings of a port: its own entry replaces everything, Istio's `GetPortLevelTrafficPolicy`.
pub(super) fn policy_of(policy: &TrafficPolicy, port: u16) -> &PortPolicy {
    policy.ports.iter().find(|(number, _)| *number == port).map_or(&policy.all, |(_, own)| own)
}

/// How the warning begins that a rule selects other workloads; without meaning where no workload is given.
pub const NOT_FOR_THIS_WORKLOAD: &str = "this DestinationRule does not apply here";

/// Whether a rule concerns the workload at all. Rules of its own namespace need no export.
fn applies(rule: &DestinationRule, namespace: &str, workload: &Workload, problems: &mut Problems) -> bool {
    let own = namespace == workload.namespace;
    match &rule.workload_selector {
        Some(_) if !own => false,
        Some(selector) if !workload.matches(selector) => {
            let wanted: Vec<String> = selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let message = format!(
                "{NOT_FOR_THIS_WORKLOAD}: its workloadSelector wants {}, and the workload's labels (--labels) are {}",
                wanted.join(","),
                shown(workload),
            );
            problems.warn(&rule.meta.at, message);
            false
        }
        Some(_) => true,
        None => own || workload.sees(namespace, &rule.export_to),
    }
}

fn shown(workload: &Workload) -> String {
    let labels: Vec<String> = workload.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    if labels.is_empty() { "none".to_owned() } else { labels.join(",") }
}

/// Every suffix under which at least one host lies.
fn covered_suffixes(hosts: &HashSet<HostPattern>) -> HashSet<&str> {
    let mut covered = HashSet::new();
    for host in hosts {
        match host {
            HostPattern::Exact(name) => covered.extend(suffixes(name.as_str())),
            HostPattern::Wildcard(suffix) => {
                covered.insert(suffix.as_str());
                covered.extend(suffixes(suffix.as_str()));
            }
            HostPattern::Any => {}
        }
    }
    covered
}

fn unknown_host(rule: &Rule<'_>, hosts: &HashSet<HostPattern>) -> String {
    let wildcard = match &rule.host {
        HostPattern::Exact(name) => suffixes(name.as_str())
            .filter_map(|suffix| Hostname::new(suffix).ok())
            .map(HostPattern::Wildcard)
            .find(|wildcard| hosts.contains(wildcard)),
        _ => None,
    };
    let host = &rule.host;
    match wildcard {
        Some(wildcard) => format!(
            "no ServiceEntry has the host {host}, so this DestinationRule has no effect: the entry's host is {wildcard}, \
             and a rule must name that, or the entry must list {host}"
        ),
        None => format!("no ServiceEntry has the host {host}, so this DestinationRule has no effect"),
    }
}

fn warn_of_unknown_ports(rule: &Rule<'_>, problems: &mut Problems) {
    if rule.applied.is_empty() {
        return;
    }
    let policy = rule.document.traffic_policy.iter().flat_map(|policy| &policy.ports);
    for (port, settings) in policy.filter(|(port, _)| !rule.applied.contains(port)) {
        let known: Vec<String> = rule.applied.iter().map(u16::to_string).collect();
        let message = format!(
            "portLevelSettings for port {port} have no effect: the ServiceEntry of {} has port {}; name the entry's \
             `number`, not its targetPort",
            rule.host,
            known.join(", ")
        );
        problems.warn_of_absence(place(rule.document, settings), message);
    }
}

fn place<'a>(rule: &'a DestinationRule, settings: &'a PortPolicy) -> &'a Location {
    settings.tls.as_ref().map_or(&rule.meta.at, |tls| &tls.at)
}

//! Which DestinationRule speaks for a host: the workload's own namespace first, then the ServiceEntry's, then the root
//! namespace; within one the most specific host; among equals the rules that select the workload, then as `rule_groups` has
//! it.
//!
//! It knows nothing of what a rule asks for. Rules whose selector does not match are left out before hosts are compared:
//! Istio would let such a rule hide a wildcard rule that applies, and traffic would leave without the TLS that the
//! wildcard rule asks for.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::config::{
    ClientTls, DestinationRule, HostPattern, Location, Meta, PortPolicy, PortProtocol, Resources, ServicePort, Subset,
    TrafficPolicy,
};
use crate::flow::Hostname;
use crate::policy::compile::select::names::qualified_pattern;
use crate::policy::compile::select::rule_groups::{Group, general, in_force, join};
use crate::policy::compile::select::scope::{ROOT_NAMESPACE, Workload, oldest_first};
use crate::policy::lint::problems::Problems;
use crate::policy::service::originates;
use crate::policy::table::host_map::{HostMap, suffixes};

#[derive(Debug)]
pub(in crate::policy) struct Rules<'r> {
    own: &'r str,
    all: Vec<VisibleRule<'r>>,
    /// Namespace → host → what the workload sees there.
    by_namespace: HashMap<&'r str, HostMap<Vec<Group<'r>>>>,
}

/// A rule that the workload sees, or that is in the way of one.
#[derive(Debug)]
struct VisibleRule<'r> {
    document: &'r DestinationRule,
    namespace: &'r str,
    host: HostPattern,
    /// Ports of the hosts that it was chosen for.
    applied: BTreeSet<u16>,
}

impl<'r> VisibleRule<'r> {
    fn tls(&self, port: u16) -> Option<&'r ClientTls> {
        policy_of(self.document.traffic_policy.as_ref()?, port).tls.as_ref()
    }
}

impl<'r> Rules<'r> {
    pub(in crate::policy) fn visible(
        resources: &'r Resources,
        workload: &'r Workload,
        problems: &mut Problems,
    ) -> Self {
        let mut rules = Self { own: &workload.namespace, all: Vec::new(), by_namespace: HashMap::new() };
        let mut groups: HashMap<(&str, HostPattern), Vec<Group<'_>>> = HashMap::new();
        for document in oldest_first(&resources.destination_rules, |rule| &rule.meta) {
            let namespace = workload.namespace_of(&document.meta);
            if !applies(document, namespace, workload, problems) {
                continue;
            }
            let host = qualified_pattern(&document.host, namespace);
            join(groups.entry((namespace, host.clone())).or_default(), rules.all.len(), document);
            rules.all.push(VisibleRule { document, namespace, host, applied: BTreeSet::new() });
        }
        for ((namespace, host), mut groups) in groups {
            // Only now: what a pod does not see has its part in what is merged.
            groups.retain(|group| workload.sees(namespace, group.export_to));
            if !groups.is_empty() {
                *rules.by_namespace.entry(namespace).or_default().get_or_insert_with(&host, Vec::new) = groups;
            }
        }
        rules
    }

    /// The rule for `host` of a ServiceEntry in `namespace`, and the namespace that the rule stands in.
    pub(in crate::policy) fn select(
        &mut self,
        host: &HostPattern,
        namespace: &str,
        port: u16,
    ) -> Option<(&'r DestinationRule, &'r str)> {
        let chosen = self.choose(host, namespace)?;
        let chosen = &mut self.all[chosen];
        chosen.applied.insert(port);
        Some((chosen.document, chosen.namespace))
    }

    /// The subset that the rules for `host` define; of several with one name the oldest.
    pub(in crate::policy) fn subset(&self, host: &HostPattern, namespace: &str, name: &str) -> Option<&'r Subset> {
        let merged = &self.merged(host, namespace)?.members;
        merged.iter().flat_map(|id| &self.all[*id].document.subsets).find(|subset| subset.name == name)
    }

    fn choose(&self, host: &HostPattern, namespace: &str) -> Option<usize> {
        self.giver(self.merged(host, namespace)?)
    }

    /// The rule whose policy holds for a group: the oldest that has one.
    fn giver(&self, group: &Group<'_>) -> Option<usize> {
        let with_policy = group.members.iter().find(|id| self.all[**id].document.traffic_policy.is_some());
        with_policy.or(group.members.first()).copied()
    }

    /// The rules that hold for `host` together: one gives the policy, and each may add subsets.
    fn merged(&self, host: &HostPattern, namespace: &str) -> Option<&Group<'r>> {
        let tiers = [self.own, namespace, ROOT_NAMESPACE];
        in_force(tiers.iter().find_map(|tier| self.by_namespace.get(*tier)?.find_covering(host))?)
    }

    /// Warns of rules that speak for nobody, of rules that an older one silences, and of ports that nobody has.
    pub(in crate::policy) fn warn_of_the_unused(&self, hosts: &HashSet<HostPattern>, problems: &mut Problems) {
        let suffixes = covered_suffixes(hosts);
        for (id, rule) in self.all.iter().enumerate().filter(|(_, rule)| rule.namespace == self.own) {
            let known = match &rule.host {
                HostPattern::Exact(_) => hosts.contains(&rule.host),
                HostPattern::Wildcard(suffix) => suffixes.contains(suffix.as_str()),
                HostPattern::PartialWildcard(_) => hosts.iter().any(|host| rule.host.covers(host)),
                HostPattern::Any => !hosts.is_empty(),
            };
            if known {
                self.warn_of_silenced(id, problems);
                warn_of_unknown_ports(rule, problems);
            } else {
                problems.warn_of_absence(&rule.document.meta.at, unknown_host(rule, hosts));
            }
        }
    }

    /// Warns where a rule for `*.example.com` asks for TLS and a more specific one, which does not, holds instead.
    pub(in crate::policy) fn warn_of_hidden_tls(
        &self,
        host: &HostPattern,
        namespace: &str,
        port: &ServicePort,
        problems: &mut Problems,
    ) {
        let Some(chosen) = self.choose(host, namespace).map(|id| &self.all[id]) else { return };
        if chosen.tls(port.number).is_some() || matches!(port.protocol, PortProtocol::Https | PortProtocol::Tls) {
            return;
        }
        let tiers = [self.own, namespace, ROOT_NAMESPACE].into_iter().filter_map(|tier| self.by_namespace.get(tier));
        let groups = tiers.flat_map(|map| map.covering(host)).flatten();
        let covering = groups.flat_map(|group| &group.members).map(|id| &self.all[*id]);
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

    fn warn_of_silenced(&self, id: usize, problems: &mut Problems) {
        let rule = &self.all[id];
        let groups = self.by_namespace.get(rule.namespace).and_then(|map| map.get(&rule.host));
        let groups = groups.map_or(&[][..], Vec::as_slice);
        let selector = rule.document.workload_selector.as_ref();
        // What a rule that selects the pod silences is told by nobody: it is meant to.
        let own = match selector {
            Some(_) => groups.iter().find(|group| group.selector == selector),
            None => general(groups),
        };
        let Some(own) = own else { return };
        let named = |id: usize| {
            let Meta { name, at, .. } = &self.all[id].document.meta;
            format!("{name} at {at}")
        };
        let message = match self.giver(own) {
            _ if !own.members.contains(&id) => format!(
                "this DestinationRule has no effect: the younger rule {} has the same host {} and another exportTo, so the \
                 two are not merged, and the youngest that a pod sees holds; write the same exportTo in both, or merge the \
                 two",
                named(own.members[0]),
                rule.host
            ),
            Some(giver) if giver != id && rule.document.traffic_policy.is_some() => format!(
                "the trafficPolicy of this DestinationRule has no effect: the older rule {} has the same host {}; merge the \
                 two",
                named(giver),
                rule.host
            ),
            _ => return,
        };
        problems.warn(&rule.document.meta.at, message);
    }
}

/// The settings of a port: its own entry replaces everything, Istio's `GetPortLevelTrafficPolicy`.
pub(in crate::policy) fn policy_of(policy: &TrafficPolicy, port: u16) -> &PortPolicy {
    policy.of_port(port)
}

/// How the warning begins that a rule selects other workloads; without meaning where no workload is given.
pub const NOT_FOR_THIS_WORKLOAD: &str = "this DestinationRule does not apply here";

/// Whether a rule concerns the workload at all, or may be merged with one that does.
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
        None if own && !workload.sees(namespace, &rule.export_to) => {
            let message = format!(
                "this DestinationRule does not hold for pods of its own namespace {namespace}: its exportTo names others \
                 alone; add \".\""
            );
            problems.warn(&rule.meta.at, message);
            false
        }
        Some(_) | None => true,
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
            HostPattern::PartialWildcard(ending) => covered.extend(suffixes(ending)),
            HostPattern::Any => {}
        }
    }
    covered
}

fn unknown_host(rule: &VisibleRule<'_>, hosts: &HashSet<HostPattern>) -> String {
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

fn warn_of_unknown_ports(rule: &VisibleRule<'_>, problems: &mut Problems) {
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

//! Which AuthorizationPolicies speak of which traffic: those of the workload of everything it sends, those with targets of
//! what goes to their ServiceEntries.
//!
//! It knows namespaces and selectors, and nothing of what rules ask for.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::{
    AuthorizationAction, AuthorizationPolicy, AuthorizationRule, AuthorizationScope, AuthorizationTarget, Meta,
    PortProtocol, Resources, ServiceEntry,
};
use crate::policy::compile::select::scope::{ROOT_NAMESPACE, Workload, oldest_first};
use crate::policy::lint::problems::Problems;
use crate::policy::table::authorization::{Authorization, Policy};
use crate::policy::table::short_names::ShortNames;

pub(in crate::policy) struct AuthorizationPolicies<'r> {
    workload: &'r Workload,
    entries: &'r [ServiceEntry],
    /// For what goes to no entry that has policies of its own.
    everything: Option<Arc<Authorization>>,
    general: Vec<&'r AuthorizationPolicy>,
    /// Namespace and name of an entry → its own.
    targeted: HashMap<(&'r str, &'r str), Vec<&'r AuthorizationPolicy>>,
    /// Made once an entry.
    of_entries: HashMap<(String, String), Arc<Authorization>>,
    short_names: Arc<ShortNames>,
}

impl<'r> AuthorizationPolicies<'r> {
    pub(in crate::policy) fn visible(
        resources: &'r Resources,
        workload: &'r Workload,
        short_names: &Arc<ShortNames>,
        problems: &mut Problems,
    ) -> Self {
        let mut general = Vec::new();
        let mut targeted: HashMap<_, Vec<_>> = HashMap::new();
        for policy in oldest_first(&resources.authorization_policies, |policy| &policy.meta) {
            let namespace = workload.namespace_of(&policy.meta);
            if policy.dry_run {
                let message = "istio.io/dry-run: this policy is left out; dry runs are not supported, use action AUDIT";
                problems.warn(&policy.meta.at, message.to_owned());
                continue;
            }
            match &policy.scope {
                AuthorizationScope::Workloads(selector) => {
                    let here = namespace == workload.namespace || namespace == ROOT_NAMESPACE;
                    if here && selector.as_ref().is_none_or(|selector| workload.matches(selector)) {
                        general.push(policy);
                    }
                }
                AuthorizationScope::ServiceEntries(targets) => {
                    for target in targets {
                        targeted.entry((namespace, target.name.as_str())).or_default().push(policy);
                    }
                }
            }
        }
        let short_names = Arc::clone(short_names);
        let (entries, of_entries) = (&resources.service_entries[..], HashMap::new());
        let mut all = Self { workload, entries, everything: None, general, targeted, of_entries, short_names };
        all.everything = all.made(&[]);
        all
    }

    /// What holds for unknown destinations.
    pub(in crate::policy) fn everything(&self) -> Option<Arc<Authorization>> {
        self.everything.clone()
    }

    pub(in crate::policy) fn of_entry(
        &mut self,
        entry: &ServiceEntry,
        problems: &mut Problems,
    ) -> Option<Arc<Authorization>> {
        let key = (self.workload.namespace_of(&entry.meta), entry.meta.name.as_str());
        let Some(own) = self.targeted.get(&key) else { return self.everything() };
        let key = (key.0.to_owned(), key.1.to_owned());
        if let Some(made) = self.of_entries.get(&key) {
            return Some(Arc::clone(made));
        }
        for policy in own {
            warn_of_unreadable(policy, entry, problems);
        }
        let made = self.made(own)?;
        self.of_entries.insert(key, Arc::clone(&made));
        Some(made)
    }

    fn made(&self, own: &[&AuthorizationPolicy]) -> Option<Arc<Authorization>> {
        let mut all = Authorization { short_names: Arc::clone(&self.short_names), ..Authorization::default() };
        for policy in self.general.iter().chain(own) {
            let (namespace, name) = (self.workload.namespace_of(&policy.meta), policy.meta.name.as_str());
            // What cannot be judged is no reason to let anything out; whoever loads files has asked before.
            let everything = [AuthorizationRule::default()];
            let (action, rules) = match policy.unjudged[..] {
                [] => (policy.action, &policy.rules[..]),
                _ => (AuthorizationAction::Deny, &everything[..]),
            };
            all.add(action, Policy::new(namespace, name, rules, &self.workload.namespace));
        }
        (!all.is_empty()).then(|| Arc::new(all))
    }

    /// Warns of targets that are no ServiceEntry which the workload sees.
    pub(in crate::policy) fn warn_of_the_unused(&self, problems: &mut Problems) {
        let seen = |namespace: &str, name: &str| self.of_entries.contains_key(&(namespace.to_owned(), name.to_owned()));
        // An entry that another namespace keeps to itself is none of this pod's, nor are the policies that stand beside it.
        let is_elsewhere = |namespace: &str, name: &str| {
            let is_it = |meta: &Meta| meta.name == name && self.workload.namespace_of(meta) == namespace;
            namespace != self.workload.namespace && self.entries.iter().any(|entry| is_it(&entry.meta))
        };
        let unseen = |namespace, name| !seen(namespace, name) && !is_elsewhere(namespace, name);
        for ((namespace, name), policies) in self.targeted.iter().filter(|((ns, name), _)| unseen(ns, name)) {
            for policy in policies {
                let AuthorizationScope::ServiceEntries(targets) = &policy.scope else { continue };
                let all_of_it = targets.iter().filter(|AuthorizationTarget { name: target, .. }| target == name);
                for target in all_of_it {
                    let message = format!(
                        "no ServiceEntry {name} of namespace {namespace} is seen here, so this policy does not hold for \
                         it: a target is named by its metadata.name, not by its host"
                    );
                    problems.warn_of_absence(&target.at, message);
                }
            }
        }
    }
}

/// An ALLOW that asks for what only HTTP has lets nothing to an entry that has no HTTP.
fn warn_of_unreadable(policy: &AuthorizationPolicy, entry: &ServiceEntry, problems: &mut Problems) {
    let opaque = |protocol| {
        use PortProtocol::{Https, Mongo, Mysql, Redis, Tcp, Tls};
        matches!(protocol, Https | Tls | Tcp | Mongo | Mysql | Redis)
    };
    let never_http = !entry.ports.is_empty() && entry.ports.iter().all(|port| opaque(port.protocol));
    let asks = |policy: &AuthorizationPolicy| {
        !policy.rules.is_empty()
            && policy.rules.iter().all(|rule| {
                rule.to.as_ref().is_some_and(|all| {
                    all.iter().all(|one| {
                        !(one.hosts.asks_nothing() && one.methods.asks_nothing() && one.paths.asks_nothing())
                    })
                })
            })
    };
    if never_http && policy.action == AuthorizationAction::Allow && asks(policy) {
        let message = format!(
            "every rule asks for hosts, methods or paths, which are not known of connections to {}: its ports carry no \
             plain HTTP, so this policy allows nothing there; ask for ports or connection.sni",
            entry.meta.name
        );
        problems.warn(&policy.meta.at, message);
    }
}

//! The pods that files may be read by: which namespaces and labels to take, and whom of them a problem concerns.
//!
//! It knows nothing of problems but where they stand and what they say.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::{AuthorizationScope, ExportTo, Location, Meta, Problem, Resources};
use crate::policy::{ROOT_NAMESPACE, Workload};

/// Where a pod is whose namespace nobody names.
const DEFAULT_NAMESPACE: &str = "default";

/// The pods to judge the resources for, by namespace: those of `--namespace` and `--labels`; without them, of each namespace
/// that the files name, with the labels of each workloadSelector that holds there.
pub(super) fn pods(resources: &Resources, namespace: Option<&str>, given: &[(String, String)]) -> Vec<Workload> {
    let namespaces = match namespace {
        Some(namespace) => BTreeSet::from([namespace.to_owned()]),
        None => namespaces(resources),
    };
    let each = |namespace: String| {
        let with = |labels| Workload { namespace: namespace.clone(), labels };
        labels(resources, given, &namespace).into_iter().map(with).collect::<Vec<_>>()
    };
    namespaces.into_iter().flat_map(each).collect()
}

fn namespaces(resources: &Resources) -> BTreeSet<String> {
    let metas: Vec<&Meta> = std::iter::empty()
        .chain(resources.service_entries.iter().map(|entry| &entry.meta))
        .chain(resources.destination_rules.iter().map(|rule| &rule.meta))
        .chain(resources.virtual_services.iter().map(|service| &service.meta))
        .chain(resources.authorization_policies.iter().map(|policy| &policy.meta))
        .chain(resources.sidecars.iter().map(|sidecar| &sidecar.meta))
        .chain(resources.secrets.iter().map(|secret| &secret.meta))
        .collect();
    let mut found: BTreeSet<String> = metas.iter().filter_map(|meta| meta.namespace.clone()).collect();
    // Pods elsewhere may be the only ones that something is for.
    let exported = std::iter::empty()
        .chain(resources.service_entries.iter().map(|entry| &entry.export_to))
        .chain(resources.destination_rules.iter().map(|rule| &rule.export_to))
        .chain(resources.virtual_services.iter().map(|service| &service.export_to));
    found.extend(exported.flatten().filter_map(|to| match to {
        ExportTo::Namespace(name) => Some(name.clone()),
        ExportTo::Same | ExportTo::All | ExportTo::Nobody => None,
    }));
    // An object without a namespace is of that of whoever reads it. What stands in the root namespace speaks for pods of
    // others, and if the files name none of them, this one stands for them.
    if metas.iter().any(|meta| meta.namespace.is_none()) || found.iter().all(|name| name == ROOT_NAMESPACE) {
        found.insert(DEFAULT_NAMESPACE.to_owned());
    }
    found
}

/// The labels that pods of a namespace may have: those given, else each selector's in turn. Pods without any are taken where
/// no DestinationRule selects some: else it is those that the files are for.
fn labels(resources: &Resources, given: &[(String, String)], namespace: &str) -> BTreeSet<BTreeMap<String, String>> {
    if !given.is_empty() {
        return BTreeSet::from([given.iter().cloned().collect()]);
    }
    let here = |meta: &Meta| meta.namespace.as_deref().is_none_or(|own| own == namespace);
    let rules = resources.destination_rules.iter().filter(|rule| here(&rule.meta));
    let mut all: BTreeSet<_> = rules.filter_map(|rule| rule.workload_selector.clone()).collect();
    if all.is_empty() {
        all.insert(BTreeMap::new());
    }
    let sidecars = resources.sidecars.iter().filter(|sidecar| here(&sidecar.meta));
    all.extend(sidecars.filter_map(|sidecar| sidecar.workload_selector.clone()));
    let policies = resources.authorization_policies.iter().filter(|policy| here(&policy.meta));
    all.extend(policies.filter_map(|policy| match &policy.scope {
        AuthorizationScope::Workloads(selector) => selector.clone(),
        AuthorizationScope::ServiceEntries(_) => None,
    }));
    all
}

/// Problems as they are found for one pod after the other, each once.
pub(super) struct Gathered<'p> {
    pods: &'p [Workload],
    found: Vec<(Problem, Vec<usize>)>,
    known: BTreeMap<(Option<Location>, String), usize>,
}

impl<'p> Gathered<'p> {
    pub(super) fn of(pods: &'p [Workload]) -> Self {
        Self { pods, found: Vec::new(), known: BTreeMap::new() }
    }

    /// Notes a problem of the pod at `pod` in the list.
    pub(super) fn add(&mut self, pod: usize, problem: Problem) {
        let key = (problem.at.clone(), problem.message.clone());
        let at = *self.known.entry(key).or_insert(self.found.len());
        match self.found.get_mut(at) {
            Some((_, pods)) if pods.last() == Some(&pod) => {}
            Some((_, pods)) => pods.push(pod),
            None => self.found.push((problem, vec![pod])),
        }
    }

    /// Every problem; one that does not concern all of the pods says whom.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        let Self { pods, found, .. } = self;
        let whom =
            |concerned: &[usize]| if concerned.len() == pods.len() { None } else { Some(named(pods, concerned)) };
        let each = found.into_iter().map(|(problem, concerned)| match whom(&concerned) {
            Some(whom) => Problem { message: format!("{} (for pods of {whom})", problem.message), ..problem },
            None => problem,
        });
        each.collect()
    }
}

/// `namespace a and namespace b with app=x`.
fn named(pods: &[Workload], concerned: &[usize]) -> String {
    let namespaces: BTreeSet<&str> = concerned.iter().map(|pod| pods[*pod].namespace.as_str()).collect();
    let each = namespaces.into_iter().map(|namespace| {
        let of = |pod: &&Workload| pod.namespace == namespace;
        let some: Vec<&Workload> = concerned.iter().map(|pod| &pods[*pod]).filter(of).collect();
        if some.len() == pods.iter().filter(of).count() {
            return format!("namespace {namespace}");
        }
        let labels = some.iter().map(|pod| {
            let pairs = pod.labels.iter().map(|(key, value)| format!("{key}={value}"));
            pairs.collect::<Vec<_>>().join(",")
        });
        format!("namespace {namespace} with {}", labels.collect::<Vec<_>>().join(" or "))
    });
    each.collect::<Vec<_>>().join(" and ")
}

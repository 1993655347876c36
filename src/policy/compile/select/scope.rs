//! Who sees what: ages, namespaces, `exportTo`, selectors, and the Sidecar that speaks for a workload.
//!
//! It knows nothing of what the resources say beyond their metadata. Ages matter because every conflict in Istio is
//! settled for the oldest resource.

use std::collections::BTreeMap;

use crate::config::{ExportTo, Meta, OutboundPolicy, Resources, Sidecar};

/// Istio's root namespace: what stands there without a selector speaks for every namespace.
pub const ROOT_NAMESPACE: &str = "istio-system";

/// The pod on whose behalf a policy is compiled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    pub namespace: String,
    pub labels: BTreeMap<String, String>,
}

impl Workload {
    /// The namespace of a resource; one that names none is of the workload's own.
    pub(in crate::policy) fn namespace_of<'a>(&'a self, meta: &'a Meta) -> &'a str {
        meta.namespace.as_deref().unwrap_or(&self.namespace)
    }

    /// Whether every label of `selector` is one of the workload's.
    pub(in crate::policy) fn matches(&self, selector: &BTreeMap<String, String>) -> bool {
        selector.iter().all(|(key, value)| self.labels.get(key) == Some(value))
    }

    /// Whether a resource of namespace `home` with this `exportTo` (default: everybody) reaches the workload.
    pub(in crate::policy) fn sees(&self, home: &str, export_to: &[ExportTo]) -> bool {
        export_to.is_empty()
            || export_to.iter().any(|to| match to {
                ExportTo::All => true,
                ExportTo::Same => home == self.namespace,
                ExportTo::Namespace(name) => *name == self.namespace,
                ExportTo::Nobody => false,
            })
    }
}

/// `items` by creation time, then name and namespace; those without a time last, in the order of the files.
pub(in crate::policy) fn oldest_first<T>(items: &[T], meta: impl Fn(&T) -> &Meta) -> Vec<&T> {
    let mut sorted: Vec<&T> = items.iter().collect();
    sorted.sort_by_key(|item| {
        let meta = meta(item);
        let name = meta.created_ms.map(|_| (meta.name.as_str(), meta.namespace.as_deref()));
        (meta.created_ms.is_none(), meta.created_ms, name)
    });
    sorted
}

/// What happens to unknown destinations, as the workload's Sidecar says, else the settings.
pub(in crate::policy) fn outbound_policy(resources: &Resources, workload: &Workload) -> OutboundPolicy {
    sidecar(resources, workload)
        .and_then(|sidecar| sidecar.outbound_traffic_policy)
        .unwrap_or(resources.settings.outbound_traffic_policy)
}

/// The Sidecar that selects the workload, else the one of its namespace, else the root namespace's.
pub(in crate::policy) fn sidecar<'r>(resources: &'r Resources, workload: &Workload) -> Option<&'r Sidecar> {
    let sidecars = oldest_first(&resources.sidecars, |sidecar| &sidecar.meta);
    let rank = |sidecar: &Sidecar| match (&sidecar.workload_selector, workload.namespace_of(&sidecar.meta)) {
        (Some(selector), home) if home == workload.namespace && workload.matches(selector) => Some(0),
        (None, home) if home == workload.namespace => Some(1),
        (None, ROOT_NAMESPACE) => Some(2),
        _ => None,
    };
    // `min_by_key` keeps the first of equals, which is the oldest.
    let nearest = sidecars.into_iter().filter_map(|s| rank(s).map(|r| (r, s))).min_by_key(|(r, _)| *r);
    nearest.map(|(_, sidecar)| sidecar)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::tests::fixture::{labels, meta, workload};

    #[test]
    fn export_to() {
        let me = workload("shop", "");
        for (home, export_to, expected) in [
            ("shop", vec![], true),
            ("other", vec![], true),
            ("shop", vec![ExportTo::Same], true),
            ("other", vec![ExportTo::Same], false),
            ("other", vec![ExportTo::All], true),
            ("other", vec![ExportTo::Namespace("shop".into())], true),
            ("other", vec![ExportTo::Namespace("bank".into()), ExportTo::Same], false),
            ("shop", vec![ExportTo::Namespace("bank".into())], false),
            ("shop", vec![ExportTo::Nobody], false),
        ] {
            assert_eq!(me.sees(home, &export_to), expected, "{home} {export_to:?}");
        }
    }

    #[test]
    fn ages() {
        let aged = |name: &str, created_ms| Meta { created_ms, ..meta(name) };
        let all = [aged("z", None), aged("b", Some(2)), aged("y", None), aged("a", Some(2)), aged("c", Some(1))];
        let order: Vec<&str> = oldest_first(&all, |m| m).into_iter().map(|m| m.name.as_str()).collect();
        assert_eq!(order, ["c", "a", "b", "z", "y"]);
    }

    #[test]
    fn the_nearest_sidecar_speaks() {
        use OutboundPolicy::{AllowAny, RegistryOnly};
        let sidecar = |namespace: &str, selector: Option<&str>, policy| Sidecar {
            meta: Meta { namespace: Some(namespace.into()), ..meta("s") },
            workload_selector: selector.map(labels),
            outbound_traffic_policy: policy,
            egress: None,
        };
        let root = sidecar(ROOT_NAMESPACE, None, Some(RegistryOnly));
        let wide = sidecar("shop", None, Some(AllowAny));
        let mine = sidecar("shop", Some("app=a"), Some(RegistryOnly));
        let silent = sidecar("shop", Some("app=a"), None);
        let foreign = sidecar("bank", None, Some(RegistryOnly));
        for (sidecars, labels, expected) in [
            (vec![], "app=a", AllowAny),
            (vec![foreign], "app=a", AllowAny),
            (vec![root.clone()], "app=a", RegistryOnly),
            (vec![root.clone(), wide.clone()], "app=a", AllowAny),
            (vec![root.clone(), wide.clone(), mine.clone()], "app=a", RegistryOnly),
            (vec![wide, mine], "app=b", AllowAny),
            (vec![root, silent], "app=a", AllowAny),
        ] {
            let resources = Resources { sidecars, ..Resources::default() };
            assert_eq!(outbound_policy(&resources, &workload("shop", labels)), expected, "{:?}", resources.sidecars);
        }
    }
}

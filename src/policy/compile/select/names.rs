//! Names as documents mean them: a short one is a Kubernetes service beside the document, and pods know each service by
//! several forms of its name (`table/short_names.rs`).

use std::collections::HashMap;

use crate::config::{HostPattern, ServiceEntry, VirtualService};
use crate::flow::{Host, Hostname};
use crate::policy::compile::select::scope::Workload;
use crate::policy::table::short_names::ShortNames;

/// The short forms of what `entries` list, oldest first, unless a document uses them as names of their own.
pub(in crate::policy) fn short_names(
    entries: &[&ServiceEntry],
    services: &[VirtualService],
    workload: &Workload,
) -> ShortNames {
    let mut short = HashMap::default();
    let listed = || entries.iter().flat_map(|entry| &entry.hosts);
    for host in listed() {
        let HostPattern::Exact(name) = host else { continue };
        for form in forms(name, &workload.namespace) {
            short.entry(form).or_insert_with(|| Host::Name(name.clone()));
        }
    }
    let routed = services.iter().flat_map(|service| {
        let namespace = workload.namespace_of(&service.meta);
        service.hosts.iter().map(move |host| qualified_pattern(host, namespace))
    });
    for host in listed().cloned().chain(routed) {
        if let HostPattern::Exact(name) = &host {
            short.remove(name);
        }
    }
    ShortNames(short)
}

/// The short forms of `name` for a pod of `namespace`.
pub(in crate::policy) fn forms(name: &Hostname, namespace: &str) -> Vec<Hostname> {
    let Some((before, _)) = name.as_str().split_once(".svc.") else { return Vec::new() };
    let Some((service, of)) = before.split_once('.') else { return Vec::new() };
    let own = (of == namespace).then(|| service.to_owned());
    let all = [Some(before.to_owned()), Some(format!("{before}.svc")), own];
    all.into_iter().flatten().filter_map(|form| Hostname::new(&form).ok()).collect()
}

/// The full name that a document of `namespace` means: a short one is a Kubernetes service beside it.
pub(in crate::policy) fn qualified(name: &Hostname, namespace: &str) -> Hostname {
    if name.as_str().contains('.') {
        return name.clone();
    }
    Hostname::new(&format!("{name}.{namespace}.svc.cluster.local")).unwrap_or_else(|_| name.clone())
}

/// The same of a pattern.
pub(in crate::policy) fn qualified_pattern(host: &HostPattern, namespace: &str) -> HostPattern {
    match host {
        HostPattern::Exact(name) => HostPattern::Exact(qualified(name, namespace)),
        HostPattern::Wildcard(_) | HostPattern::PartialWildcard(_) | HostPattern::Any => host.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Resolution::Dns;
    use crate::policy::tests::fixture::{entry, host, name, workload};

    /// The rows of Istio's `TestGenerateVirtualHostDomains` that are about names.
    #[test]
    fn forms_of_names() {
        for (full, namespace, expected) in [
            ("aaa.example.com", "tests", &[][..]),
            ("aaa.example.local", "tests", &[]),
            ("echo.default.svc.cluster.local", "default", &["echo.default", "echo.default.svc", "echo"]),
            ("echo.default.svc.cluster.local", "mesh", &["echo.default", "echo.default.svc"]),
            ("svc.cluster.local", "default", &[]),
            ("echo.svc.cluster.local", "echo", &[]),
        ] {
            let found: Vec<String> = forms(&name(full), namespace).iter().map(ToString::to_string).collect();
            assert_eq!(found, expected, "{full} in {namespace}");
        }
    }

    #[test]
    fn a_name_that_somebody_lists_is_no_short_form() {
        let full = entry(&["echo.shop.svc.cluster.local", "db.bank.svc.cluster.local"], &[], Dns);
        let own = entry(&["echo.shop"], &[], Dns);
        let known = short_names(&[&full, &own], &[], &workload("shop", ""));
        for (short, expected) in [
            ("echo", "echo.shop.svc.cluster.local"),
            ("echo.shop.svc", "echo.shop.svc.cluster.local"),
            ("echo.shop", "echo.shop"),
            ("db.bank", "db.bank.svc.cluster.local"),
            ("db", "db"),
            ("192.0.2.1", "192.0.2.1"),
        ] {
            assert_eq!(*known.full(&host(short)), host(expected), "{short}");
        }
    }
}

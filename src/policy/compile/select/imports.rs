//! What a Sidecar's `egress` leaves of the resources: the hosts and ports that it lists, and the VirtualServices of hosts
//! that it lists. What is left out is unknown to the policy, and treated as what no entry names.
//!
//! It knows nothing of what entries mean.

use crate::config::{EgressListener, HostPattern, ImportedFrom, Resources, ServiceEntry, Sidecar};
use crate::policy::compile::select::names::qualified_pattern;
use crate::policy::compile::select::scope::Workload;

/// The resources that `sidecar` lets the workload see; `None` where it says nothing of them.
pub(in crate::policy) fn imported(resources: &Resources, sidecar: &Sidecar, workload: &Workload) -> Option<Resources> {
    let listeners = sidecar.egress.as_deref()?;
    let seen = |host: &HostPattern, namespace: &str, port: u16| sees(listeners, host, namespace, port, workload);
    let entries = resources.service_entries.iter().flat_map(|entry| {
        let namespace = workload.namespace_of(&entry.meta);
        parts(entry, |host, port| seen(host, namespace, port))
    });
    let mut services = resources.virtual_services.clone();
    services.retain_mut(|service| {
        let namespace = workload.namespace_of(&service.meta).to_owned();
        let listed = |host: &HostPattern| {
            let host = qualified_pattern(host, &namespace);
            listeners.iter().any(|listener| lists(listener, &host, &namespace, workload))
        };
        service.hosts.retain(listed);
        !service.hosts.is_empty()
    });
    Some(Resources {
        service_entries: entries.collect(),
        virtual_services: services,
        // Nothing can be said to be missing: it may be out of sight.
        incomplete: true,
        ..resources.clone()
    })
}

/// An entry by ports that show the same of its hosts, without those that show none.
fn parts(entry: &ServiceEntry, seen: impl Fn(&HostPattern, u16) -> bool) -> Vec<ServiceEntry> {
    let mut parts: Vec<ServiceEntry> = Vec::new();
    for port in &entry.ports {
        let hosts: Vec<HostPattern> = entry.hosts.iter().filter(|host| seen(host, port.number)).cloned().collect();
        match parts.iter_mut().find(|part| part.hosts == hosts) {
            Some(part) => part.ports.push(port.clone()),
            None if hosts.is_empty() => {}
            None => parts.push(ServiceEntry { hosts, ports: vec![port.clone()], ..entry.clone() }),
        }
    }
    parts
}

/// By the listeners of the port, and where it has none by those without one.
fn sees(listeners: &[EgressListener], host: &HostPattern, namespace: &str, port: u16, workload: &Workload) -> bool {
    let own = listeners.iter().any(|listener| listener.port == Some(port));
    let wanted = own.then_some(port);
    listeners.iter().any(|listener| listener.port == wanted && lists(listener, host, namespace, workload))
}

/// What is excluded stays so, whatever else lists it (`included && !excluded` in Istio).
fn lists(listener: &EgressListener, host: &HostPattern, namespace: &str, workload: &Workload) -> bool {
    let mut is_listed = false;
    for listed in listener.hosts.iter().filter(|listed| listed.host.covers(host)) {
        match &listed.from {
            ImportedFrom::Anywhere => is_listed = true,
            ImportedFrom::Same => is_listed |= namespace == workload.namespace,
            ImportedFrom::Namespace(name) => is_listed |= name == namespace,
            ImportedFrom::Except(from) if from.as_ref().is_none_or(|name| name == namespace) => return false,
            ImportedFrom::Nowhere | ImportedFrom::Except(_) => {}
        }
    }
    is_listed
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::load_text;
    use crate::policy::tests::fixture::compiled;

    const ENTRIES: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: own}
spec:
  hosts: [a.example, b.example]
  ports: [{number: 80, name: http, protocol: HTTP}, {number: 81, name: more, protocol: HTTP}]
  resolution: DNS
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: theirs, namespace: bank}
spec:
  hosts: [c.example, '*.wild.example']
  ports: [{number: 80, name: http, protocol: HTTP}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: theirs, namespace: bank}
spec:
  hosts: [a.example]
  http: [{directResponse: {status: 200}}]
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: s}
spec:
  outboundTrafficPolicy: {mode: REGISTRY_ONLY}
  egress: [LISTENERS]
";

    #[test]
    fn what_a_sidecar_lets_its_pods_see() {
        // For each: a.example and b.example on port 80, a.example on 81, c.example, *.wild.example, and the routes.
        const CLUSTERS: [&str; 5] =
            ["80||a.example", "80||b.example", "81||a.example", "80||c.example", "80||*.wild.example"];
        for (listeners, expected) in [
            ("{hosts: ['*/*']}", "abacwv"),
            ("{hosts: ['./*']}", "aba---"),
            ("{hosts: ['~/*']}", "------"),
            ("{hosts: ['*/*', '~bank/*']}", "aba---"),
            ("{hosts: ['~bank/c.example', '*/*']}", "aba-wv"),
            ("{hosts: ['~/c.example', '*/*']}", "aba-wv"),
            ("{hosts: ['./*', 'bank/*', '~other/*']}", "abacwv"),
            ("{hosts: ['~shop/*']}", "------"),
            ("{hosts: ['bank/*']}", "---cwv"),
            ("{hosts: ['shop/*', 'bank/c.example']}", "abac--"),
            ("{hosts: ['./a.example']}", "a-a---"),
            ("{hosts: ['*/*.example']}", "abacwv"),
            ("{hosts: ['*/*.wild.example']}", "----w-"),
            ("{hosts: ['*/x.wild.example']}", "------"),
            ("{port: {number: 81, protocol: HTTP, name: p}, hosts: ['./*']}", "--a---"),
            ("{port: {number: 81}, hosts: ['./b.example']}, {hosts: ['*/a.example', 'bank/*']}", "a--cwv"),
        ] {
            let loaded = load_text(Path::new("f.yaml"), &ENTRIES.trim_start().replace("LISTENERS", listeners));
            assert_eq!(loaded.problems, [], "{listeners}");
            let (table, warnings) = compiled(&loaded.resources);
            assert_eq!(warnings, [""; 0], "{listeners}");
            let has = |name: &str| table.clusters().iter().any(|cluster| cluster.name == format!("outbound|{name}"));
            let seen = CLUSTERS.iter().zip("abacw".chars());
            let mut found: String = seen.map(|(name, letter)| if has(name) { letter } else { '-' }).collect();
            found.push(if table.services.services.is_empty() { '-' } else { 'v' });
            assert_eq!(found, expected, "{listeners}");
        }
    }
}

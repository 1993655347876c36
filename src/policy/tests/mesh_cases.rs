//! Endpoints that Istio's sidecars would speak the mesh's mutual TLS to: nothing leaves for them, unless a rule says how.

use std::path::Path;

use crate::config::load_text;
use crate::policy::tests::fixture::compiled;
use crate::policy::{Cluster, Transport};

const ENTRY: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: vm}
spec:
  hosts: [vm.example.com]
  location: LOCATION
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}, {number: 443, name: tls, protocol: TLS}, \
                     {number: 5432, name: db, protocol: TCP}]
  addresses: [192.0.2.1]
  resolution: STATIC
  endpoints: [ENDPOINTS]
";

const RULE: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: r}
spec:
  host: vm.example.com
  RULE
";

/// `plain`, `tls` or `refused`, the reason for which names the endpoint.
fn leaves(cluster: &Cluster) -> &'static str {
    match (&cluster.transport, &cluster.tls_request) {
        (_, Some(_)) => "tls",
        (Transport::Plaintext, _) => "plain",
        (Transport::Refused(why), _) if why.contains("in the mesh and expects its mutual TLS") => "refused",
        (other, _) => panic!("{other:?}"),
    }
}

const ISTIO: &str = "{address: 192.0.2.10, labels: {security.istio.io/tlsMode: istio}}";
const ACCOUNT: &str = "{address: 192.0.2.10, serviceAccount: vm}";
const DISABLED: &str = "{address: 192.0.2.11, serviceAccount: vm, labels: {security.istio.io/tlsMode: disabled}}";
const PLAIN: &str = "{address: 192.0.2.12}";

/// How ports 80, 443 and 5432 leave.
fn outcome(location: &str, endpoints: &[&str], rule: Option<&str>) -> (String, Vec<String>) {
    let entry = ENTRY.trim_start().replace("LOCATION", location).replace("ENDPOINTS", &endpoints.join(", "));
    let rule = rule.map(|rule| format!("---{}", RULE.replace("RULE", rule))).unwrap_or_default();
    let loaded = load_text(Path::new("f.yaml"), &format!("{entry}{rule}"));
    assert_eq!(loaded.problems, [], "{endpoints:?} {rule}");
    let (table, warnings) = compiled(&loaded.resources);
    (table.clusters().iter().map(|cluster| leaves(cluster)).collect::<Vec<_>>().join(" "), warnings)
}

#[test]
fn what_the_mesh_would_encrypt_is_refused() {
    let (all, none) = ("refused refused refused", "plain plain plain");
    for (location, endpoints, expected) in [
        ("MESH_INTERNAL", &[ISTIO][..], all),
        ("MESH_INTERNAL", &[ACCOUNT], all),
        ("MESH_INTERNAL", &[DISABLED], none),
        ("MESH_INTERNAL", &[PLAIN], none),
        // Istio would speak both ways; nothing goes to the one that expects TLS, so nothing leaves.
        ("MESH_INTERNAL", &[PLAIN, ISTIO], all),
        ("MESH_EXTERNAL", &[ISTIO], none),
        ("MESH_EXTERNAL", &[ACCOUNT], none),
    ] {
        let (found, warnings) = outcome(location, endpoints, None);
        assert_eq!(found, expected, "{location} {endpoints:?}");
        let told = warnings.iter().filter(|w| w.contains("vm.example.com is refused on port")).count();
        assert_eq!(told, if expected == all { 3 } else { 0 }, "{warnings:?}");
        assert!(!warnings.iter().any(|w| w.contains("plaintext")), "{warnings:?}");
    }
    // Each warning stands at the endpoint.
    let (_, warnings) = outcome("MESH_INTERNAL", &[PLAIN, ISTIO], None);
    let place = "f.yaml:10:38: vm.example.com is refused on port 80: the endpoint 192.0.2.10 is in the mesh";
    assert!(warnings.iter().any(|w| w.starts_with(place) && w.contains("DISABLE")), "{warnings:?}");
}

#[test]
fn a_rule_that_says_how_holds() {
    for (rule, expected) in [
        ("trafficPolicy: {tls: {mode: DISABLE}}", "plain plain plain"),
        ("trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: SIMPLE}}]}", "tls refused refused"),
        ("trafficPolicy: {portLevelSettings: [{port: {number: 443}, tls: {mode: DISABLE}}]}", "refused plain refused"),
        ("trafficPolicy: {connectionPool: {tcp: {maxConnections: 1}}}", "refused refused refused"),
        ("subsets: [{name: v1}]", "refused refused refused"),
        // Towards the address that was dialled; both ways of all its endpoints.
        ("trafficPolicy: {loadBalancer: {simple: PASSTHROUGH}}", "refused refused refused"),
    ] {
        assert_eq!(outcome("MESH_INTERNAL", &[ISTIO], Some(rule)).0, expected, "{rule}");
    }
    let passthrough = Some("trafficPolicy: {loadBalancer: {simple: PASSTHROUGH}}");
    assert_eq!(outcome("MESH_INTERNAL", &[ACCOUNT, PLAIN], passthrough).0, "plain plain plain");
}

/// Of a subset its own endpoints count.
#[test]
fn subsets_by_their_endpoints() {
    let text = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: vm}
spec:
  hosts: [vm.example.com]
  location: MESH_INTERNAL
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints:
  - {address: 192.0.2.10, serviceAccount: vm, labels: {version: new}}
  - {address: 192.0.2.11, labels: {version: old}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: r}
spec:
  host: vm.example.com
  subsets: [{name: new, labels: {version: new}}, {name: old, labels: {version: old}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v}
spec:
  hosts: [vm.example.com]
  http:
  - route:
    - {destination: {host: vm.example.com, subset: new}, weight: 1}
    - {destination: {host: vm.example.com, subset: old}, weight: 1}
";
    let loaded = load_text(Path::new("f.yaml"), text.trim_start());
    assert_eq!(loaded.problems, []);
    let (table, _) = compiled(&loaded.resources);
    let found: Vec<_> = table.clusters().iter().map(|c| format!("{} {}", c.name, leaves(c))).collect();
    assert!(found.contains(&"outbound|80|new|vm.example.com refused".to_owned()), "{found:?}");
    assert!(found.contains(&"outbound|80|old|vm.example.com plain".to_owned()), "{found:?}");
}

/// The port's own cluster is used by nobody where every route goes to a subset, so nothing is to be said of it.
#[test]
fn a_host_whose_routes_all_go_to_subsets_is_judged_by_these() {
    let text = |subset: &str, route: &str| {
        let entry = ENTRY.trim_start().replace("LOCATION", "MESH_INTERNAL");
        let endpoint = "{address: 192.0.2.10, labels: {security.istio.io/tlsMode: istio, v: b}}";
        let rule = RULE.replace("RULE", &format!("subsets: [{{name: b, labels: {{v: b}}{subset}}}]"));
        format!(
            "{}---{rule}---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: v}}\nspec: {{hosts: \
             [vm.example.com], http: [{{route: [{{destination: {{host: vm.example.com, port: {{number: 80}}{route}}}}}]}}]}}\n",
            entry.replace("ENDPOINTS", endpoint)
        )
    };
    let told = |subset: &str, route: &str| {
        let loaded = load_text(Path::new("f.yaml"), &text(subset, route));
        assert_eq!(loaded.problems, [], "{subset} {route}");
        let (_, warnings) = compiled(&loaded.resources);
        warnings.iter().filter(|w| w.contains("vm.example.com is refused on port 80:")).count()
    };
    let tls = ", trafficPolicy: {tls: {mode: SIMPLE}}";
    assert_eq!(told(tls, ", subset: b"), 0);
    assert_eq!(told(", trafficPolicy: {tls: {mode: DISABLE}}", ", subset: b"), 0);
    // The subset says nothing of TLS, or is passed by.
    assert_eq!(told("", ", subset: b"), 1);
    assert_eq!(told(tls, ""), 1);
}

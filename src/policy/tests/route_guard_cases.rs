//! What a route must never open: where it leads is judged like what the request itself asked for, a subset that nobody is
//! in is nobody, and bytes that name nothing are bound to the hosts of their entry.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::config::{Resources, load_text};
use crate::flow::Hostname;
use crate::policy::runtime::publish::{Addresses, Published};
use crate::policy::tests::fixture::{decided, host, name, verdict, workload};
use crate::policy::{
    Content, Decision, Endpoints, LogFields, Materials, PolicyTable, Refusal, RequestView, Route, Transport,
    Unreachable, Verdict, compile,
};
use crate::tls::{ClientProfile, ProfileRequest};

/// What names resolve to.
struct Dns(BTreeMap<&'static str, &'static str>);

impl Materials for Dns {
    fn profile(&mut self, _: &ProfileRequest) -> Result<Arc<ClientProfile>, String> {
        Err("no rule asks for one".to_owned())
    }

    fn addresses(&mut self, name: &Hostname) -> Addresses {
        Published::new(self.0.get(name.as_str()).map(|ip| ip.parse().unwrap()).into_iter().collect())
    }
}

fn table(text: &str, change: impl FnOnce(&mut Resources)) -> PolicyTable {
    let loaded = load_text(Path::new("a.yaml"), text);
    assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
    let mut resources = loaded.resources;
    change(&mut resources);
    let answers = [("a.example", "1.1.1.1"), ("b.example", "1.1.1.2"), ("far.example", "1.1.1.9")];
    compile(&resources, &workload("shop", ""), &mut Dns(BTreeMap::from(answers))).0
}

fn entry(hosts: &str, protocol: &str, resolution: &str) -> String {
    let name = hosts.split('.').next().unwrap();
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}}}\nspec: {{hosts: [{hosts}], ports: \
         [{{number: 80, name: p, protocol: {protocol}}}], resolution: {resolution}}}\n---\n"
    )
}

/// Sends `host` to what `then` says.
fn routed(host: &str, then: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: v}}\nspec: {{hosts: [{host}], http: \
         [{{{then}}}]}}\n---\n"
    )
}

fn denied(paths: &str, target: Option<&str>) -> String {
    let targets = target.map_or(String::new(), |name| {
        format!("targetRefs: [{{group: networking.istio.io, kind: ServiceEntry, name: {name}}}], ")
    });
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: refusal}}\nspec: {{{targets}action: DENY, \
         rules: [{{to: [{{operation: {{paths: [{paths}]}}}}]}}]}}\n---\n"
    )
}

/// What becomes of a request of `name` for `path`.
fn sent<'t>(table: &'t PolicyTable, to: &str, name: &str, path: &str) -> Verdict<'t> {
    let (host, authority, target) = (&host(name), name.as_bytes(), path.as_bytes());
    let view = RequestView { host, authority, method: b"GET", target, any_value: &|_, _| false };
    decided(table, to, Content::Request(&view))
}

/// Why a request of `name` may not go where its route sends it.
fn refusal(table: &PolicyTable, to: &str, name: &str, path: &str) -> Option<String> {
    let verdict = sent(table, to, name, path);
    assert!(matches!(verdict.route, Some(Route::Http(_))), "no route takes it: {verdict:?}");
    match verdict.decision {
        Decision::Forward(_) => None,
        Decision::Refuse(refusal @ (Refusal::Forbidden { .. } | Refusal::Unreachable { .. })) => {
            Some(refusal.answer().2.to_owned())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_denial_wins_over_whatever_a_virtual_service_makes_of_the_host() {
    for target in [None, Some("a")] {
        for then in [
            "directResponse: {status: 200}",
            "redirect: {authority: b.example}",
            "route: [{destination: {host: b.example}}]",
        ] {
            let text = [
                entry("a.example", "HTTP", "DNS"),
                entry("b.example", "HTTP", "DNS"),
                routed("a.example", then),
                denied("/no", target),
            ];
            let table = table(&text.concat(), |_| {});
            let denied = sent(&table, "9.9.9.9:80", "a.example", "/no");
            assert!(denied.route.is_none(), "{target:?} {then}: {denied:?}");
            let is_forbidden = matches!(denied.decision, Decision::Refuse(Refusal::Forbidden { .. }));
            assert!(is_forbidden, "{target:?} {then}: {denied:?}");
            let taken = sent(&table, "9.9.9.9:80", "a.example", "/yes");
            assert!(matches!(taken.route, Some(Route::Http(_))), "{target:?} {then}: {taken:?}");
            assert!(!matches!(taken.decision, Decision::Refuse(_)), "{target:?} {then}: {taken:?}");
        }
    }
}

#[test]
fn a_request_that_a_route_sends_to_another_entry_is_judged_by_that_entrys_policies() {
    let text = [
        entry("a.example", "HTTP", "DNS"),
        entry("b.example", "HTTP", "DNS"),
        routed("a.example", "route: [{destination: {host: b.example}}]"),
        denied("/no", Some("b")),
    ];
    let table = table(&text.concat(), |_| {});
    let said = refusal(&table, "9.9.9.9:80", "a.example", "/no").expect("b's policy denies it");
    assert!(said.contains("shop]-policy[refusal]"), "{said}");
    assert_eq!(refusal(&table, "9.9.9.9:80", "a.example", "/yes"), None);
}

#[test]
fn a_route_leads_to_no_protected_address_and_to_none_that_strict_refuses() {
    let text = [
        entry("a.example", "HTTP", "DNS"),
        entry("far.example", "HTTP", "NONE"),
        routed("a.example", "route: [{destination: {host: far.example}}]"),
    ]
    .concat();
    let closed = table(&text, |resources| {
        resources.settings.outbound_traffic_policy = crate::config::OutboundPolicy::RegistryOnly;
    });
    let why = |why: Unreachable| Some(why.details().to_owned());
    assert_eq!(refusal(&closed, "169.254.169.254:80", "a.example", "/"), why(Unreachable::Protected));
    assert_eq!(refusal(&closed, "[fe80::1]:80", "a.example", "/"), why(Unreachable::Protected));
    assert_eq!(refusal(&closed, "1.1.1.3:80", "a.example", "/"), None);
    let strict = table(&text, |resources| resources.settings.strict = true);
    // The address of the host that the request names is not one of the host that the route leads to.
    assert_eq!(refusal(&strict, "1.1.1.1:80", "a.example", "/"), why(Unreachable::Elsewhere));
    assert_eq!(refusal(&strict, "1.1.1.9:80", "a.example", "/"), None);
}

/// The same of connections: by the server name of the application's own TLS, and by address.
#[test]
fn a_route_for_bytes_leads_to_no_protected_address_and_to_none_that_strict_refuses() {
    for (protocol, route) in [
        ("TLS", "tls: [{match: [{sniHosts: [a.example]}], route: [{destination: {host: far.example}}]}]"),
        ("TCP", "tcp: [{route: [{destination: {host: far.example}}]}]"),
    ] {
        let service = format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: v}}\nspec: {{hosts: [a.example], \
             {route}}}\n"
        );
        let text = [entry("a.example", protocol, "DNS"), entry("far.example", protocol, "NONE"), service].concat();
        let sent = |table: &PolicyTable, to: &str| {
            let sni = name("a.example");
            let verdict = decided(table, to, Content::Tls(Some(&sni)));
            assert!(matches!(verdict.route, Some(Route::Bytes(_))), "{protocol} {to}: {verdict:?}");
            let LogFields { details, cluster, .. } = verdict.log_fields();
            assert_eq!(cluster, Some("outbound|80||far.example"));
            details.map(str::to_owned)
        };
        let why = |why: Unreachable| Some(why.details().to_owned());
        let closed = table(&text, |resources| {
            resources.settings.outbound_traffic_policy = crate::config::OutboundPolicy::RegistryOnly;
        });
        assert_eq!(sent(&closed, "169.254.169.254:80"), why(Unreachable::Protected), "{protocol}");
        assert_eq!(sent(&closed, "1.1.1.3:80"), None, "{protocol}");
        let strict = table(&text, |resources| resources.settings.strict = true);
        assert_eq!(sent(&strict, "1.1.1.1:80"), why(Unreachable::Elsewhere), "{protocol}");
        assert_eq!(sent(&strict, "1.1.1.9:80"), None, "{protocol}");
    }
}

#[test]
fn a_subset_that_no_endpoint_is_in_is_no_endpoint() {
    let text = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: a}\nspec:\n  hosts: [a.example]\n  \
                ports: [{number: 80, name: p, protocol: HTTP}]\n  resolution: RESOLUTION\n  endpoints:\n  - {address: 192.0.2.1, \
                labels: {version: v1}}\n  - {address: 192.0.2.2, labels: {version: v1, zone: b}}\n  - {address: 192.0.2.3}\n---\n\
                apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: a}\nspec:\n  host: a.example\n  \
                subsets:\n  - {name: some, labels: {version: v1}}\n  - {name: one, labels: {version: v1, zone: b}}\n  - {name: \
                nobody, labels: {version: v2}}\n  - {name: neither, labels: {version: v1, zone: c}}\n---\n";
    // With DNS the host's name stands in for endpoints that an entry does not have: not for those of a subset.
    let resolutions = ["STATIC", "DNS"].map(|resolution| text.replace("RESOLUTION", resolution));
    for (subset, addresses) in [("some", 2), ("one", 1), ("nobody", 0), ("neither", 0)] {
        let route = routed("a.example", &format!("route: [{{destination: {{host: a.example, subset: {subset}}}}}]"));
        for text in &resolutions {
            let table = table(&[text.as_str(), &route].concat(), |_| {});
            let verdict = sent(&table, "9.9.9.9:80", "a.example", "/");
            let Decision::Forward(cluster) = verdict.decision else { panic!("{subset}: {verdict:?}") };
            let Endpoints::Resolved(sources) = &cluster.endpoints else { panic!("{subset}: {:?}", cluster.endpoints) };
            assert_eq!(sources.len(), addresses, "{subset}");
            assert_eq!(matches!(cluster.transport, Transport::Refused(_)), addresses == 0, "{subset}");
        }
    }
}

/// Bytes of a port declared TCP name nothing, so any host of the entry may be meant, and no other.
#[test]
fn strict_binds_bytes_to_every_host_of_their_entry() {
    let flows = |hosts: &str, protocol: &str| {
        let table = table(&entry(hosts, protocol, "NONE"), |resources| resources.settings.strict = true);
        ["1.1.1.1", "1.1.1.2", "1.1.1.9", "8.8.8.8"].map(|ip| verdict(&table, &format!("bytes {ip}:80")))
    };
    let elsewhere = Unreachable::Elsewhere.details();
    let [a, b, far, unknown] = flows("a.example, b.example", "TCP");
    assert!(a.starts_with("outbound|80||") && b == a, "{a} {b}");
    assert_eq!([far.as_str(), &unknown], [elsewhere; 2]);
    let [a, b, far, unknown] = flows("b.example, gone.example, far.example", "MONGO");
    assert!(b.starts_with("outbound|80||") && far == b, "{b} {far}");
    assert_eq!([a.as_str(), &unknown], [elsewhere; 2]);
    let none = flows("gone.example, lost.example", "TCP");
    assert_eq!(none, [Unreachable::Unresolved.details(); 4]);
}

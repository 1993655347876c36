//! What is warned of where routes and rules stand together: never of requests that do not leave that way.

use std::path::Path;

use crate::config::load_text;
use crate::policy::tests::fixture::compiled;

const ENTRIES: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: a}
spec:
  hosts: [a.example]
  ports: [{number: 80, name: http, protocol: HTTP}, {number: 8080, name: more, protocol: HTTP, targetPort: 443}, \
                       {number: 443, name: https, protocol: HTTPS}]
  resolution: DNS
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v}
spec:
  hosts: [a.example]
  http: [ROUTES]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: r}
spec: {host: a.example, trafficPolicy: {portLevelSettings: [{port: {number: PORT}, tls: {mode: SIMPLE}}]}}
";

/// What is said of plaintext when `routes` hold and the rule gives TLS to `port`: `N` for that port of the entry, `route` for
/// a route.
fn told(routes: &str, port: u16) -> String {
    let text = ENTRIES.trim_start().replace("ROUTES", routes).replace("PORT", &port.to_string());
    let loaded = load_text(Path::new("f.yaml"), &text);
    assert_eq!(loaded.problems, [], "{text}");
    let (_, warnings) = compiled(&loaded.resources);
    let short = |warning: &String| {
        let said = [
            ("this route sends requests in plaintext to port 443", "route"),
            ("requests to port 8080 leave in plaintext for port 443", "8080"),
            ("port 80 leaves in plaintext", "80"),
            ("port 8080 leaves in plaintext", "8080"),
            ("port 443 is declared as plain HTTP", "declared"),
        ];
        said.iter().find(|(part, _)| warning.contains(part)).map(|(_, short)| *short)
    };
    let mut all: Vec<_> = warnings.iter().filter_map(short).collect();
    all.dedup();
    all.join(" ")
}

#[test]
fn plaintext_is_told_where_it_leaves() {
    let to_443 = "route: [{destination: {host: a.example, port: {number: 443}}}]";
    for (routes, port, expected) in [
        // All requests go to port 443, in TLS of the rule: none leaves in plaintext.
        (format!("{{{to_443}}}"), 443, ""),
        (format!("{{match: [{{port: 80}}], {to_443}}}, {{redirect: {{uri: /x}}}}"), 443, ""),
        // And in none where the rule says nothing of that port: the route is what must be told, not the entry.
        (format!("{{{to_443}}}"), 80, "route"),
        (format!("{{match: [{{port: 80}}], {to_443}}}"), 8080, "route"),
        // What goes to its own port as well leaves there.
        (
            format!("{{match: [{{port: 80}}], {to_443}}}, {{route: [{{destination: {{host: a.example}}}}]}}"),
            443,
            "80 8080",
        ),
        ("{route: [{destination: {host: a.example, port: {number: 80}}}]}".to_owned(), 443, "80"),
        ("{directResponse: {status: 403}}".to_owned(), 443, ""),
    ] {
        assert_eq!(told(&routes, port), expected, "{routes} {port}");
    }
}

//! What the access log says of each outcome, and who had a say in it.

use std::path::Path;

use crate::config::load_text;
use crate::flow::Authority;
use crate::policy::tests::fixture::{compiled, dst, host, name};
use crate::policy::{Content, Flow, PolicyTable, RequestView, Verdict};

const ENTRIES: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: api}
spec:
  hosts: [api.example]
  ports: [{number: 80, name: http, protocol: HTTP}, {number: 443, name: tls, protocol: TLS}]
  resolution: DNS
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: far}
spec:
  hosts: [far.example]
  ports: [{number: 80, name: http, protocol: HTTP}, {number: 9000, name: tcp, protocol: TCP}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: routes}
spec:
  hosts: [api.example]
  http:
  - {name: said, match: [{uri: {exact: /said}}], directResponse: {status: 418}}
  - {name: moved, match: [{uri: {exact: /moved}}], redirect: {uri: /, redirectCode: 308}}
  - {name: gone, match: [{uri: {exact: /gone}}], route: [{destination: {host: gone.example}}]}
  - {name: far, match: [{uri: {prefix: /far}}], route: [{destination: {host: far.example, port: {number: 80}}}]}
  - {name: own, match: [{uri: {exact: /own}}], route: [{destination: {host: api.example, port: {number: 80}}}]}
  tls:
  - {match: [{sniHosts: [api.example]}], route: [{destination: {host: gone.example, port: {number: 443}}}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-secrets}
spec:
  action: DENY
  rules:
  - {to: [{operation: {hosts: [far.example], paths: [/far/secret]}}], when: [{key: destination.ip, values: [9.9.9.1]}]}
  - {to: [{operation: {ports: ['666']}}]}
";

fn loaded(text: &str) -> PolicyTable {
    let loaded = load_text(Path::new("f.yaml"), text);
    assert_eq!(loaded.problems, []);
    compiled(&loaded.resources).0
}

fn table(more: &str) -> PolicyTable {
    loaded(&format!("{}---\n{more}", ENTRIES.trim_start()))
}

fn settings(spec: &str) -> PolicyTable {
    table(&format!("apiVersion: egret/v1\nkind: Settings\nspec: {{{spec}}}\n"))
}

/// Of a flow written as `http ADDRESS HOST PATH`, `connect ADDRESS AUTHORITY`, `tls ADDRESS SNI` or `bytes|silence ADDRESS`; a
/// host of `-` is none.
fn verdict<'t, T>(table: &'t PolicyTable, flow: &str, look: impl FnOnce(Verdict<'t>, &Flow<'_>) -> T) -> T {
    let words: Vec<&str> = flow.split(' ').collect();
    let destination = dst(words[1]);
    let named = words.get(2).copied().filter(|host| *host != "-");
    let end = Authority::parse(named.unwrap_or("x")).unwrap();
    let dialled = destination.ip().to_string();
    let host = host(named.filter(|_| words[0] != "connect").unwrap_or(&dialled));
    let (authority, target) = (named.unwrap_or_default().as_bytes(), words.get(3).unwrap_or(&"/").as_bytes());
    let method: &[u8] = if words[0] == "connect" { b"CONNECT" } else { b"GET" };
    let view = RequestView { host: &host, authority, method, target, any_value: &|_, _| false };
    let sni = named.filter(|_| words[0] == "tls").map(name);
    let content = match words[0] {
        "http" => Content::Request(&view),
        "connect" => Content::Connect(&end, &view),
        "tls" => Content::Tls(sni.as_ref()),
        "bytes" => Content::Opaque,
        "silence" => Content::Silence,
        other => panic!("{other}"),
    };
    let flow = Flow { destination, content };
    look(table.decide(&flow, 0), &flow)
}

/// `CODE FLAGS DETAILS CLUSTER ROUTE`
fn logged(table: &PolicyTable, flow: &str) -> String {
    let fields = verdict(table, flow, |verdict, _| verdict.log_fields());
    let code = fields.code.map_or("*".to_owned(), |code| code.to_string());
    let or_dash = |text: Option<&str>| text.unwrap_or("-").to_owned();
    let (details, cluster, route) = (or_dash(fields.details), or_dash(fields.cluster), or_dash(fields.route));
    format!("{code} {} {details} {cluster} {route}", fields.flags)
}

#[test]
fn each_outcome_has_its_line() {
    let open = settings("outboundTrafficPolicy: {mode: ALLOW_ANY}");
    let closed = settings("outboundTrafficPolicy: {mode: REGISTRY_ONLY}, connectPolicy: REGISTRY_ONLY");
    let by_name = settings("outboundTrafficPolicy: {mode: ALLOW_ANY_DYNAMIC_DNS}");
    let forbidden = "rbac_access_denied_matched_policy[ns[shop]-policy[no-secrets]-rule";
    let far = "outbound|80||far.example";
    for (table, flow, expected) in [
        (&open, "http 9.9.9.9:80 far.example /", &format!("* - via_upstream {far} default")[..]),
        (&open, "http 9.9.9.9:80 api.example /own", "* - via_upstream outbound|80||api.example own"),
        (&open, "http 9.9.9.9:80 api.example /far", &format!("* - via_upstream {far} far")),
        (&open, "http 9.9.9.9:80 api.example /said", "418 - direct_response - said"),
        (&open, "http 9.9.9.9:80 api.example /moved", "308 - direct_response - moved"),
        (&open, "http 9.9.9.9:80 api.example /gone", "503 NC cluster_not_found - gone"),
        (&open, "http 9.9.9.9:80 api.example /other", "404 NR route_not_found - -"),
        (&open, "http 9.9.9.9:80 api.example /a%2fb", "400 DPE path_normalization_failed - -"),
        (&open, "http 9.9.9.1:80 far.example /far/secret", &format!("403 - {forbidden}[0]] {far} default")),
        (&open, "http 9.9.9.9:80 x.example /", "* - via_upstream PassthroughCluster allow_any"),
        (&open, "http 9.9.9.9:666 x.example /", &format!("403 - {forbidden}[1]] PassthroughCluster default")),
        (&closed, "http 9.9.9.9:80 x.example /", "502 - direct_response - block_all"),
        (&closed, "http 169.254.169.254:80 far.example /", &format!("403 - protected_address {far} default")),
        (&by_name, "http 9.9.9.9:80 x.example /", "* - via_upstream AllowAnyDynamicDNSCluster allow_any"),
        (&open, "http 9.9.9.9:80 - /", "400 - missing_host_header - -"),
        (&open, "connect 9.9.9.9:3128 far.example:9000", "405 DPE connect_not_allowed - -"),
        (&closed, "connect 9.9.9.9:3128 far.example:9001", "403 - connect_denied - -"),
        (&open, "silence 9.9.9.9:9000", "0 - - outbound|9000||far.example -"),
        (&open, "silence 9.9.9.9:80", "0 - - PassthroughCluster -"),
        (&open, "bytes 9.9.9.9:80", "0 DPE neither_http1_nor_tls_on_a_port_with_authorization_policies - -"),
        (&open, "bytes 9.9.9.9:666", &format!("0 - {forbidden}[1]] PassthroughCluster -")),
        (&open, "tls 9.9.9.9:443 api.example", "0 NC cluster_not_found outbound|443||gone.example -"),
        (&open, "tls 9.9.9.9:443 x.example", "0 - - PassthroughCluster -"),
        (&closed, "tls 9.9.9.9:443 x.example", "0 UH - BlackHoleCluster -"),
        (&closed, "silence 169.254.169.254:9000", "0 - protected_address outbound|9000||far.example -"),
    ] {
        assert_eq!(logged(table, flow), expected, "{flow}");
    }
}

/// Two entries and a policy of the first; tunnels are carried.
const FORWARD_PROXY: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: proxy}
spec:
  hosts: [proxy.example]
  addresses: [192.0.2.8]
  ports: [{number: 3128, name: http, protocol: HTTP}]
  resolution: NONE
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: end}
spec:
  hosts: [end.example]
  ports: [{number: 443, name: https, protocol: HTTPS}]
  resolution: DNS
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: methods}
spec:
  action: ALLOW
  targetRefs: [{group: networking.istio.io, kind: ServiceEntry, name: proxy}]
  rules: [{to: [{operation: {methods: [METHODS]}}]}]
---
apiVersion: egret/v1
kind: Settings
spec: {connectPolicy: REGISTRY_ONLY}
";

/// To ask a forward proxy for a tunnel is a request to it.
#[test]
fn a_forward_proxys_policies_judge_who_asks_for_a_tunnel() {
    for (methods, expected) in
        [("GET, CONNECT", "* - via_upstream"), ("GET", "403 - rbac_access_denied_matched_policy[none]")]
    {
        let table = loaded(&FORWARD_PROXY.trim_start().replace("METHODS", methods));
        let expected = format!("{expected} outbound|3128||proxy.example default");
        assert_eq!(logged(&table, "connect 192.0.2.8:3128 end.example:443"), expected, "{methods}");
        assert_eq!(logged(&table, "connect 192.0.2.8:3128 end.example:444"), "403 - connect_denied - -", "{methods}");
    }
}

/// The policies of the entry that is asked for, and of the one that a route leads to.
#[test]
fn both_entries_have_a_say() {
    let audit = |name: &str, entry: &str| {
        let targets = match entry {
            "" => String::new(),
            _ => format!("targetRefs: [{{group: networking.istio.io, kind: ServiceEntry, name: {entry}}}], "),
        };
        format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}}}\nspec: {{{targets}action: \
             AUDIT, rules: [{{to: [{{operation: {{paths: [/far*]}}}}]}}]}}\n---\n"
        )
    };
    let table = table(&[audit("all", ""), audit("of-api", "api"), audit("of-far", "far")].concat());
    let said = |flow: &str| {
        verdict(&table, flow, |verdict, flow| (verdict.audits(flow).join(" "), verdict.judged_by().join(" ")))
    };
    let (general, api, far) = ("DENY shop/no-secrets AUDIT shop/all", "AUDIT shop/of-api", "AUDIT shop/of-far");
    for (flow, audits, judges) in [
        (
            "http 9.9.9.9:80 api.example /far",
            "shop/all shop/of-api shop/of-far",
            format!("{general} {api} {general} {far}"),
        ),
        ("http 9.9.9.9:80 api.example /own", "", format!("{general} {api}")),
        ("http 9.9.9.9:80 far.example /far", "shop/all shop/of-far", format!("{general} {far}")),
        ("http 9.9.9.9:81 x.example /far", "shop/all", general.to_owned()),
        // What is not read may be meant.
        ("silence 9.9.9.9:9000", "shop/all shop/of-far", format!("{general} {far}")),
    ] {
        assert_eq!(said(flow), (audits.to_owned(), judges), "{flow}");
    }
}

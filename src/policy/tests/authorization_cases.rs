//! AuthorizationPolicies as tables of cases: a flow and who forbids it.

use std::path::Path;

use crate::config::load_text;
use crate::policy::tests::fixture::{compiled, decided, dst, host, name};
use crate::policy::{Content, Decision, FirstLook, PolicyTable, Refusal, RequestView};

const ENTRIES: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: api}
spec:
  hosts: [api.example]
  ports: [{number: 80, name: http, protocol: HTTP}, {number: 443, name: https, protocol: HTTPS}]
  resolution: DNS
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: db}
spec:
  hosts: [db.example]
  addresses: [10.0.0.9]
  ports: [{number: 5432, name: tcp, protocol: TCP}]
  resolution: NONE
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: other}
spec:
  hosts: ['*.other.example']
  ports: [{number: 80, name: http, protocol: HTTP}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: pay}
spec:
  hosts: [pay.shop.svc.cluster.local]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: DNS
";

/// One policy a line: `NAME [key: value, …]` of its spec; `@NAMESPACE` behind the name.
fn table(policies: &[&str]) -> (PolicyTable, Vec<String>) {
    let mut text = ENTRIES.trim_start().to_owned();
    for policy in policies {
        let (name, spec) = policy.split_once(' ').unwrap_or((policy, ""));
        let (name, namespace) = name
            .split_once('@')
            .map_or((name, String::new()), |(name, namespace)| (name, format!(", namespace: {namespace}")));
        let document = format!(
            "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}{namespace}}}\n\
             spec: {{{spec}}}\n"
        );
        text.push_str(&document);
    }
    let loaded = load_text(Path::new("f.yaml"), &text);
    assert_eq!(loaded.problems, [], "{text}");
    compiled(&loaded.resources)
}

fn words(decision: &Decision<'_>) -> String {
    match decision {
        Decision::Refuse(Refusal::Forbidden { details, .. }) => {
            let details = details.strip_prefix("rbac_access_denied_matched_policy[").unwrap();
            details.strip_suffix(']').unwrap().replace("ns[shop]-policy[", "").replace("]-rule[0]", "")
        }
        _ => "allowed".to_owned(),
    }
}

/// `METHOD ADDRESS HOST TARGET [NAME=VALUE…]`, `tls ADDRESS [SNI]`, `bytes ADDRESS`, `silence ADDRESS` → `allowed`, or
/// the policy that forbids it.
fn becomes(table: &PolicyTable, flow: &str) -> String {
    let words_of: Vec<&str> = flow.split(' ').collect();
    let to = words_of[1];
    if let FirstLook::Decided(verdict) = table.first_look(dst(to), 0) {
        return words(&verdict.decision);
    }
    let content = |content: Content<'_>| words(&decided(table, to, content).decision);
    match words_of[0] {
        "tls" => return content(Content::Tls(words_of.get(2).map(|sni| name(sni)).as_ref())),
        "bytes" => return content(Content::Opaque),
        "silence" => return content(Content::Silence),
        _ => {}
    }
    let fields: Vec<_> = words_of[4..].iter().map(|pair| pair.split_once('=').unwrap()).collect();
    let any_value = |name: &str, is_wanted: &mut dyn FnMut(&[u8]) -> bool| {
        let lines = fields.iter().filter(|(known, _)| *known == name).map(|(_, value)| value.as_bytes());
        crate::http::any_value(name, lines, is_wanted)
    };
    let wanted = host(words_of[2]);
    let view = RequestView {
        host: &wanted,
        authority: words_of[2].as_bytes(),
        method: words_of[0].as_bytes(),
        target: words_of[3].as_bytes(),
        any_value: &any_value,
    };
    content(Content::Request(&view))
}

fn check(policies: &[&str], flows: &[(&str, &str)]) {
    let (table, warnings) = table(policies);
    assert_eq!(warnings, [""; 0], "{policies:?}");
    for (flow, expected) in flows {
        assert_eq!(becomes(&table, flow), *expected, "{flow} under {policies:?}");
    }
}

const TO_API: &str = "targetRefs: [{group: networking.istio.io, kind: ServiceEntry, name: api}]";

fn to_api(name: &str, rest: &str) -> String {
    format!("{name} {TO_API}, {rest}")
}

#[test]
fn deny_before_allow_and_allow_denies_the_rest() {
    let get = "GET 9.9.9.9:80 api.example /x";
    let post = "POST 9.9.9.9:80 api.example /x";
    let elsewhere = "POST 9.9.9.9:80 a.other.example /x";
    let allow_get = to_api("gets", "rules: [{to: [{operation: {methods: [GET]}}]}]");
    let deny_x = to_api("no-x", "action: DENY, rules: [{to: [{operation: {paths: [/x]}}]}]");
    check(&[], &[(get, "allowed")]);
    check(
        &[&allow_get],
        &[(get, "allowed"), (post, "none"), (elsewhere, "allowed"), ("tls 9.9.9.9:443 api.example", "none")],
    );
    check(&[&allow_get, &deny_x], &[(get, "no-x"), (post, "no-x"), ("GET 9.9.9.9:80 api.example /y", "allowed")]);
    // No rules: an ALLOW that allows nothing. One empty rule: everything.
    check(&[&to_api("nothing", "rules: []")], &[(get, "none"), (elsewhere, "allowed")]);
    check(&[&to_api("all", "rules: [{}]")], &[(get, "allowed"), ("tls 9.9.9.9:443 api.example", "allowed")]);
    check(&[&to_api("never", "action: DENY, rules: [{}]")], &[(get, "never"), (elsewhere, "allowed")]);
    check(&[&to_api("seen", "action: AUDIT, rules: [{}]")], &[(get, "allowed")]);
}

#[test]
fn policies_without_targets_speak_of_everything() {
    let flows = [
        "GET 9.9.9.9:80 api.example /",
        "GET 9.9.9.9:80 unknown.example /",
        "bytes 10.0.0.9:5432",
        "tls 9.9.9.9:443 x.example",
    ];
    let all = |expected| flows.map(|flow| (flow, expected));
    check(&["deny-all"], &all("none"));
    check(&["deny-all selector: {matchLabels: {app: a}}"], &all("none"));
    check(&["deny-all selector: {matchLabels: {app: b}}"], &all("allowed"));
    check(&["deny-all@bank"], &all("allowed"));
    check(&["deny-all@istio-system"], &all("none"));
    // Of all the policies that speak of an entry, one that allows is enough.
    check(
        &["deny-all", &to_api("api", "rules: [{}]")],
        &[(flows[0], "allowed"), (flows[1], "none"), (flows[2], "none"), ("tls 9.9.9.9:443 api.example", "allowed")],
    );
}

/// A narrow ALLOW does not win over a wide DENY.
#[test]
fn deny_of_a_range_wins() {
    let allow = "narrow rules: [{when: [{key: destination.ip, values: [10.0.0.9]}]}]";
    let deny = "wide action: DENY, rules: [{when: [{key: destination.ip, values: [10.0.0.0/8]}]}]";
    check(&[allow], &[("bytes 10.0.0.9:5432", "allowed"), ("tls 10.0.0.8:443", "none")]);
    check(
        &[allow, deny],
        &[("bytes 10.0.0.9:5432", "wide"), ("tls 10.0.0.8:443", "wide"), ("tls 9.9.9.9:443", "none")],
    );
}

#[test]
fn conditions() {
    let rule = |rule: &str| format!("r action: DENY, rules: [{rule}]");
    let to = |operation: &str| rule(&format!("{{to: [{{operation: {{{operation}}}}}]}}"));
    let when = |condition: &str| rule(&format!("{{when: [{{{condition}}}]}}"));
    for (policy, flow, denied) in [
        (to("hosts: [api.example]"), "GET 9.9.9.9:80 API.example.:81 /", true),
        (to("hosts: ['*.other.example']"), "GET 9.9.9.9:80 a.b.other.example /", true),
        (to("hosts: ['*.other.example']"), "GET 9.9.9.9:80 other.example /", false),
        (to("notHosts: [api.example]"), "GET 9.9.9.9:80 api.example /", false),
        (to("notHosts: [api.example]"), "GET 9.9.9.9:80 x.example /", true),
        (to("hosts: [9.9.9.9]"), "GET 9.9.9.9:80 9.9.9.9 /", true),
        (to("ports: ['80']"), "GET 9.9.9.9:80 api.example /", true),
        (to("ports: ['81']"), "GET 9.9.9.9:80 api.example:81 /", false),
        (to("notPorts: ['80']"), "bytes 10.0.0.9:5432", true),
        (to("methods: [GET]"), "get 9.9.9.9:80 api.example /", true),
        (to("methods: [GET]"), "HEAD 9.9.9.9:80 api.example /", false),
        (to("notMethods: [GET]"), "get 9.9.9.9:80 api.example /", true),
        (to("notMethods: [GET]"), "GET 9.9.9.9:80 api.example /", false),
        (to("paths: [/a], methods: [GET]"), "GET 9.9.9.9:80 api.example /a?x", true),
        (to("paths: [/a], methods: [GET]"), "GET 9.9.9.9:80 api.example /b", false),
        (to("paths: ['/a/{*}/b']"), "GET 9.9.9.9:80 api.example /a/x/b", true),
        (to("notPaths: ['/public/*']"), "GET 9.9.9.9:80 api.example /public/x", false),
        (to("notPaths: ['/public/*']"), "GET 9.9.9.9:80 api.example /public/../x", true),
        (when("key: 'request.headers[X-Role]', values: [admin]"), "GET 9.9.9.9:80 api.example / x-role=admin", true),
        (
            when("key: 'request.headers[X-Role]', values: [admin]"),
            "GET 9.9.9.9:80 api.example / x-role=user,admin",
            true,
        ),
        (when("key: 'request.headers[X-Role]', values: [admin]"), "GET 9.9.9.9:80 api.example /", false),
        (when("key: 'request.headers[X-Role]', notValues: ['*']"), "GET 9.9.9.9:80 api.example /", true),
        (when("key: connection.sni, values: ['*.evil.example']"), "tls 9.9.9.9:443 a.evil.example", true),
        (when("key: connection.sni, values: ['*.evil.example']"), "tls 9.9.9.9:443 good.example", false),
        (when("key: connection.sni, notValues: ['*']"), "tls 9.9.9.9:443", true),
        (when("key: connection.sni, values: [evil.example]"), "bytes 9.9.9.9:443", false),
        (when("key: destination.ip, values: [9.0.0.0/8]"), "tls 9.9.9.9:443 x.example", true),
        (when("key: destination.ip, notValues: [9.0.0.0/8]"), "tls 9.9.9.9:443 x.example", false),
        (when("key: destination.port, values: ['443']"), "tls 9.9.9.9:443 x.example", true),
        (when("key: source.namespace, values: [shop]"), "bytes 9.9.9.9:443", true),
        (when("key: source.namespace, values: [bank]"), "bytes 9.9.9.9:443", false),
        (rule("{from: [{source: {namespaces: ['sh*']}}]}"), "bytes 9.9.9.9:443", true),
        (rule("{from: [{source: {notNamespaces: [shop]}}]}"), "bytes 9.9.9.9:443", false),
        // One entry of a list is enough, every entry of `when` is needed.
        (rule("{to: [{operation: {ports: ['1']}}, {operation: {ports: ['443']}}]}"), "bytes 9.9.9.9:443", true),
        (
            rule("{when: [{key: destination.port, values: ['443']}, {key: destination.port, values: ['1']}]}"),
            "bytes 9.9.9.9:443",
            false,
        ),
    ] {
        check(&[&policy], &[(flow, if denied { "r" } else { "allowed" })]);
    }
}

/// What a connection does not tell never helps it out: Istio's rule for fields of HTTP on TCP, and of names unread.
#[test]
fn what_is_not_known() {
    let deny = |rule: &str| format!("r action: DENY, rules: [{rule}]");
    let allow = |rule: &str| format!("r rules: [{rule}]");
    let paths = "{to: [{operation: {paths: [/a], ports: ['443']}}]}";
    let not_paths = "{to: [{operation: {notPaths: [/a]}}]}";
    let header = "{when: [{key: 'request.headers[x]', values: ['y']}]}";
    let sni = "{when: [{key: connection.sni, values: [a.example]}]}";
    for (rule, flow, denied, allowed) in [
        (paths, "tls 9.9.9.9:443 a.example", true, false),
        (paths, "tls 9.9.9.9:444 a.example", false, false),
        (not_paths, "bytes 9.9.9.9:443", true, false),
        (header, "bytes 9.9.9.9:443", true, false),
        (sni, "silence 9.9.9.9:443", true, false),
        (sni, "bytes 10.0.0.9:5432", true, false),
        (sni, "bytes 9.9.9.9:443", false, false),
        (sni, "GET 9.9.9.9:80 a.example /", false, false),
        (header, "GET 9.9.9.9:80 a.example / x=y", true, true),
        (header, "GET 9.9.9.9:80 a.example / x=z,y", true, false),
    ] {
        check(&[&deny(rule)], &[(flow, if denied { "r" } else { "allowed" })]);
        check(&[&allow(rule)], &[(flow, if allowed { "allowed" } else { "none" })]);
    }
}

/// Servers differ in which of several lines they go by: for a DENY any that matches counts, for an ALLOW all must match.
#[test]
fn lines_of_a_field() {
    let condition = |key: &str, values: &str| format!("{{when: [{{key: 'request.headers[{key}]', {values}}}]}}");
    for (key, values, fields, denied, allowed) in [
        ("X-Role", "values: [admin]", "x-role=user x-role=admin", true, false),
        ("X-Role", "values: [admin]", "x-role=admin x-role=user", true, false),
        ("X-Role", "values: [admin]", "x-role=admin x-role=admin", true, true),
        ("X-Role", "values: [admin]", "x-role=user x-role=a,admin", true, false),
        ("X-Role", "values: [admin]", "x-role=user x-role=guest", false, false),
        ("X-Role", "values: [admin, user]", "x-role=user x-role=user", true, true),
        ("X-Role", "values: ['user,admin']", "x-role=user x-role=admin", true, false),
        ("X-Role", "values: ['*']", "x-role=a x-role=", true, false),
        ("X-Role", "notValues: [admin]", "x-role=user x-role=admin", true, false),
        ("X-Role", "notValues: [admin]", "x-role=admin x-role=admin", false, false),
        ("X-Role", "notValues: [admin]", "x-role=user x-role=guest", true, true),
        ("X-Role", "notValues: [admin]", "", true, true),
        // Envoy joins these before they are compared.
        ("Via", "values: [a]", "via=a via=b", true, false),
        ("Via", "values: ['a,b']", "via=a via=b", true, true),
        ("X-Forwarded-For", "values: ['10.*']", "x-forwarded-for=10.0.0.1 x-forwarded-for=1.1.1.1", true, true),
    ] {
        let rule = condition(key, values);
        let flow = format!("GET 9.9.9.9:80 api.example / {fields}");
        let flow = flow.trim_end();
        check(&[&format!("r action: DENY, rules: [{rule}]")], &[(flow, if denied { "r" } else { "allowed" })]);
        check(&[&format!("r rules: [{rule}]")], &[(flow, if allowed { "allowed" } else { "none" })]);
    }
}

/// Ways to write a path past a rule: CVE-2021-31920, CVE-2021-39156, CVE-2021-32779 and their kin.
#[test]
fn disguised_paths() {
    let deny = "r action: DENY, rules: [{to: [{operation: {paths: [/admin, '/admin/*']}}]}]";
    let allow = "r rules: [{to: [{operation: {paths: ['/public/*']}}]}]";
    let long = format!("/public/{}/../../admin", "x".repeat(8 * 1024));
    for path in [
        "/admin",
        "//admin",
        "/./admin",
        "/x/../admin",
        "/x/%2e%2e/admin",
        "/%61dmin",
        "/admin%2f",
        "/a%5cadmin",
        "/admin%00",
        "/admin;x=1/",
        "/admin;x=1",
        "/admin?x",
        "/%61dmin/",
        "/admin/../admin/x",
        "\\admin",
        "/%c0%af",
        "/public/..;/admin",
        "/public/%2e%2e;x/admin",
        "/public/..%2fadmin",
        "/public/../admin",
        "/public/%252e%252e/x",
        &long,
    ] {
        let flow = format!("GET 9.9.9.9:80 api.example {path}");
        check(&[deny], &[(&flow, "r")]);
        check(&[allow], &[(&flow, "none")]);
    }
    let whole_server = "OPTIONS 9.9.9.9:80 api.example *";
    check(&[deny], &[(whole_server, "r")]);
    check(&[allow], &[(whole_server, "none")]);
    for path in ["/public/x", "/public/a/../b;v=1?q=/admin", "/public/%61"] {
        let flow = format!("GET 9.9.9.9:80 api.example {path}");
        check(&[deny], &[(&flow, "allowed")]);
        check(&[allow], &[(&flow, "allowed")]);
    }
}

/// A short form of a Kubernetes name is the name as well.
#[test]
fn short_forms_of_a_host() {
    let full = "{to: [{operation: {hosts: [pay.shop.svc.cluster.local]}}]}";
    let short = "{to: [{operation: {hosts: [pay.shop]}}]}";
    let others = "{to: [{operation: {notHosts: ['*.cluster.local']}}]}";
    let suffix = "{to: [{operation: {hosts: ['*.cluster.local']}}]}";
    for (rule, host, matches) in [
        (full, "pay", true),
        (full, "pay.shop", true),
        (full, "pay.shop.svc.cluster.local", true),
        (full, "pay.bank", false),
        (short, "pay.shop", true),
        (short, "pay.shop.svc", false),
        (suffix, "pay.shop.svc", true),
        (others, "pay", false),
        (others, "api.example", true),
    ] {
        let flow = format!("GET 9.9.9.9:80 {host} /");
        check(&[&format!("r action: DENY, rules: [{rule}]")], &[(&flow, if matches { "r" } else { "allowed" })]);
        check(&[&format!("r rules: [{rule}]")], &[(&flow, if matches { "allowed" } else { "none" })]);
    }
}

#[test]
fn what_is_warned_of() {
    for (policies, words) in [
        (
            vec![
                "p targetRefs: [{group: networking.istio.io, kind: ServiceEntry, name: nobody}], rules: [{}]"
                    .to_owned(),
            ],
            "no ServiceEntry nobody of namespace shop is seen here",
        ),
        (
            vec![
                "p targetRefs: [{group: networking.istio.io, kind: ServiceEntry, name: db}], \
                 rules: [{to: [{operation: {methods: [GET]}}]}]"
                    .to_owned(),
            ],
            "its ports carry no plain HTTP, so this policy allows nothing there",
        ),
    ] {
        let policies: Vec<&str> = policies.iter().map(String::as_str).collect();
        let (_, warnings) = table(&policies);
        assert!(warnings.len() == 1 && warnings[0].contains(words), "{warnings:?}");
    }
}

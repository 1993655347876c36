//! What is said of versions of HTTP: where nothing comes of what is written, and where calls of gRPC cannot arrive.

use std::path::Path;

use crate::config::{Severity, load_text};
use crate::policy::tests::fixture::Asked;
use crate::policy::{Workload, compile};

const ENTRY: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: a}
spec: {hosts: [a.example], ports: [PORTS], resolution: DNS}
";

const RULE: &str = "
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: r ANNOTATIONS}
spec: {host: a.example, trafficPolicy: POLICY}
";

/// The problems of these documents, errors with `error: `.
fn told(text: &str) -> Vec<String> {
    let loaded = load_text(Path::new("f.yaml"), text.trim_start());
    assert_eq!(loaded.problems, [], "{text}");
    let (_, problems) = compile(&loaded.resources, &Workload::default(), &mut Asked::default());
    let short = |problem: crate::config::Problem| match problem.severity {
        Severity::Error => format!("error: {}", problem.message),
        Severity::Warning => problem.message,
    };
    problems.into_iter().map(short).collect()
}

fn with_rule(ports: &str, annotations: &str, policy: &str) -> Vec<String> {
    let rule = RULE.replace("ANNOTATIONS", annotations).replace("POLICY", policy);
    told(&format!("{}{rule}", ENTRY.replace("PORTS", ports)))
}

const HTTP: &str = "{number: 80, name: http, protocol: HTTP}";
const HTTP2: &str = "{number: 81, name: h2, protocol: HTTP2}";
const AUTO: &str = "{number: 80, name: any}";

#[test]
fn what_has_no_effect_is_told() {
    let annotated = ", annotations: {egret/upstream-protocol: AUTO}";
    let pool = |fields: &str| format!("{{connectionPool: {{http: {{{fields}}}}}}}");
    let own = |fields: &str| {
        format!("{{portLevelSettings: [{{port: {{number: 80}}, connectionPool: {{http: {{{fields}}}}}}}]}}")
    };
    let tls =
        |fields: &str| format!("{{tls: {{mode: SIMPLE}}, connectionPool: {{http: {{maxRetries: 1, {fields}}}}}}}");
    let both = format!("{HTTP}, {HTTP2}");
    for (ports, annotations, policy, expected) in [
        (
            AUTO,
            "",
            pool("h2UpgradePolicy: UPGRADE"),
            "h2UpgradePolicy UPGRADE has no effect on port 80, which has no protocol",
        ),
        (HTTP, "", pool("h2UpgradePolicy: UPGRADE, useClientProtocol: true"), "beside useClientProtocol"),
        (HTTP, "", pool("h2UpgradePolicy: UPGRADE"), ""),
        (
            HTTP,
            "",
            pool("maxConcurrentStreams: 5"),
            "connectionPool.http.maxConcurrentStreams has no effect on port 80",
        ),
        (
            HTTP,
            "",
            pool("http2KeepAlive: {interval: 5s}"),
            "connectionPool.http.http2KeepAlive has no effect on port 80",
        ),
        (HTTP, "", pool("maxConcurrentStreams: 5, h2UpgradePolicy: UPGRADE"), ""),
        (
            AUTO,
            "",
            pool("maxConcurrentStreams: 5"),
            "Istio ignores connectionPool.http.maxConcurrentStreams on port 80",
        ),
        (HTTP2, "", pool("maxConcurrentStreams: 5"), ""),
        // It is about the port of HTTP/2.
        (&both, "", pool("maxConcurrentStreams: 5"), ""),
        (&both, "", own("maxConcurrentStreams: 5"), "has no effect on port 80"),
        (HTTP, annotated, tls(""), ""),
        (
            HTTP,
            annotated,
            pool("maxRetries: 1"),
            "AUTO has no effect on port 80: servers choose in the handshake of TLS",
        ),
        (HTTP, annotated, tls("h2UpgradePolicy: DO_NOT_UPGRADE"), "port 80: h2UpgradePolicy is DO_NOT_UPGRADE"),
        (
            HTTP,
            annotated,
            tls("useClientProtocol: true"),
            "port 80: its servers are spoken to as the application speaks",
        ),
        (HTTP2, annotated, tls(""), ""),
    ] {
        let all = with_rule(ports, annotations, &policy);
        let words = ["h2UpgradePolicy", "connectionPool.http", "egret/upstream-protocol"];
        let all: Vec<_> = all.iter().filter(|problem| words.iter().any(|word| problem.contains(word))).collect();
        match (expected, &all[..]) {
            ("", []) => {}
            (_, [one]) if !expected.is_empty() => assert!(one.contains(expected), "{ports} {policy}: {one}"),
            (_, other) => panic!("{ports} {annotations} {policy}: {other:?}"),
        }
    }
    let web = told(&ENTRY.replace("PORTS", "{number: 80, name: web, protocol: GRPC-WEB}"));
    assert!(web.iter().any(|problem| problem.contains("port 80 is declared GRPC-WEB")), "{web:?}");
}

#[test]
fn an_annotation_is_one_of_two_words() {
    let rule = RULE.replace("ANNOTATIONS", ", annotations: {egret/upstream-protocol: auto}").replace("POLICY", "{}");
    let loaded = load_text(Path::new("f.yaml"), &rule);
    let problems: Vec<_> = loaded.problems.iter().map(ToString::to_string).collect();
    assert!(problems.iter().any(|problem| problem.contains("is DECLARED or AUTO, found \"auto\"")), "{problems:?}");
}

/// Routes that lead calls to port 443, which is spoken to in HTTP/1.1 unless a rule says otherwise.
#[test]
fn calls_that_cannot_arrive_are_an_error() {
    let ports = "{number: 80, name: grpc, protocol: GRPC}, {number: 90, name: http, protocol: HTTP}, \
                 {number: 443, name: https, protocol: HTTPS}";
    let told = |routes: &str, pool: &str| {
        let policy = format!("{{portLevelSettings: [{{port: {{number: 443}}, tls: {{mode: SIMPLE}}{pool}}}]}}");
        let rule = RULE.replace("ANNOTATIONS", "").replace("POLICY", &policy);
        let service = format!(
            "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: v}}\nspec: {{hosts: [a.example], http: \
             [{routes}]}}\n"
        );
        told(&format!("{}{rule}{service}", ENTRY.replace("PORTS", ports)))
    };
    let to = |port: &str| format!("route: [{{destination: {{host: a.example{port}}}}}]");
    let to_443 = to(", port: {number: 443}");
    let upgraded = ", connectionPool: {http: {h2UpgradePolicy: UPGRADE}}";
    for (routes, pool, is_error) in [
        (format!("{{{to_443}}}"), "", true),
        (format!("{{match: [{{port: 80}}], {to_443}}}"), "", true),
        (format!("{{{to_443}}}"), upgraded, false),
        // Only what is dialled at the other port goes there.
        (format!("{{match: [{{port: 90}}], {to_443}}}, {{{}}}", to("")), "", false),
        // Each to its own port.
        (format!("{{{}}}", to("")), "", false),
        (format!("{{{}}}", to(", port: {number: 90}")), "", true),
    ] {
        let problems = told(&routes, pool);
        let errors: Vec<_> = problems.iter().filter(|problem| problem.starts_with("error: ")).collect();
        assert_eq!(!errors.is_empty(), is_error, "{routes} {pool}: {problems:?}");
        if is_error {
            assert!(
                errors[0].contains("no call of gRPC can arrive: port 80 of a.example is declared GRPC"),
                "{errors:?}"
            );
        }
    }
}

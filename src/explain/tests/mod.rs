//! Explanations of small configurations.

use std::collections::BTreeMap;

use super::*;
use crate::config::OutboundPolicy;
use crate::config::PortProtocol::{Grpc, Http, Https, Mysql, Tcp};
use crate::config::{ConnectionPool, H2Upgrade, Resolution, ServiceEntry, TlsMode, TrafficPolicy, UpstreamProtocol};
use crate::policy::tests::fixture::{entry, rule, tls, with_tls};

/// The document's entry and rule, and a database with an address.
fn resources() -> Resources {
    let cnn = entry(&["edition.cnn.com"], &[], Resolution::Dns).with_target(80, Http, 443).with_port(443, Https);
    let plain = entry(&["plain.test"], &[], Resolution::Dns).with_port(8080, Http);
    let database = entry(&["db.test"], &["10.0.0.9"], Resolution::None).with_port(3306, Mysql);
    let double: ServiceEntry = entry(&["double.test"], &[], Resolution::Dns).with_port(443, Https);
    let mut simple = rule("simple", "edition.cnn.com");
    let on_80 = (80, with_tls(tls(TlsMode::Simple)));
    simple.traffic_policy = Some(TrafficPolicy { ports: vec![on_80], ..TrafficPolicy::default() });
    Resources {
        service_entries: vec![cnn, plain, database, double],
        destination_rules: vec![simple, rule("twice", "double.test")],
        ..Resources::default()
    }
}

fn explained(url: &str, registry_only: bool) -> Report {
    let mut resources = resources();
    if registry_only {
        resources.settings.outbound_traffic_policy = OutboundPolicy::RegistryOnly;
    }
    offline(&target(url), &resources, &Workload::default())
}

fn target(url: &str) -> Target {
    Target::parse(&Question { url: url.to_owned(), ..Question::default() }).unwrap()
}

#[test]
fn outcomes() {
    for (url, registry_only, verdict, words) in [
        ("http://edition.cnn.com/politics", true, DecisionKind::Forward, "encrypted as HTTP/1.1 over TLS"),
        ("https://edition.cnn.com/politics", true, DecisionKind::Forward, "passed through byte by byte"),
        ("http://plain.test:8080", true, DecisionKind::Forward, "PLAINTEXT"),
        ("https://double.test", true, DecisionKind::Refuse, "already speaks TLS on port 443"),
        ("tcp://10.0.0.9:3306", true, DecisionKind::Forward, "passed through"),
        ("tcp://db.test:3306", true, DecisionKind::Forward, "passed through"),
        ("tcp://10.0.0.8:3306", true, DecisionKind::Deny, "closed"),
        ("http://plain.test", true, DecisionKind::Deny, "plain.test is listed on port 8080"),
        ("http://unknown.test", true, DecisionKind::Deny, "answered with 502"),
        ("http://unknown.test", false, DecisionKind::Passthrough, "no ServiceEntry lists unknown.test"),
        ("tls://unknown.test:9000", false, DecisionKind::Passthrough, "passed on unchanged"),
        ("tcp://10.9.9.9:9000", false, DecisionKind::Passthrough, "passed on unchanged"),
        // It may be HTTP in disguise, which must leave as TLS.
        ("tcp://10.9.9.9:80", false, DecisionKind::Refuse, "neither_http1_nor_tls_on_a_port_with_tls_origination"),
    ] {
        let report = explained(url, registry_only);
        assert_eq!(report.decision, verdict, "{url}: {report:?}");
        assert!(report.outcome.contains(words), "{url}: {}", report.outcome);
    }
}

#[test]
fn a_match_is_told_with_its_documents() {
    let text = explained("http://edition.cnn.com/politics", false).text();
    for row in [
        "ServiceEntry       /edition.cnn.com (edition.cnn.com.yaml:1:1)",
        "DestinationRule    /simple (simple.yaml:1:1)",
        "cluster            outbound|80||edition.cnn.com",
        "endpoint           edition.cnn.com:443, every address that DNS gives",
        "SNI                edition.cnn.com (from the request's host)",
        "trusted CA         the operating system's bundle",
        "name check         the certificate must be for edition.cnn.com",
        "client certificate none",
        "ALPN               http/1.1",
        "limits             connect timeout 10s, TLS handshake timeout 10s, idle timeout 60s",
        "logged             \"GET /politics HTTP/1.1\" <the server's> - via_upstream - … outbound|80||edition.cnn.com … - default",
    ] {
        assert!(text.lines().any(|line| line == row), "{row}\nnot in\n{text}");
    }
    assert!(!text.contains(OFFLINE), "{text}");
    let json = serde_json::to_value(explained("http://edition.cnn.com", false)).unwrap();
    assert_eq!(json["decision"], "forward");
    assert_eq!(json["tls"]["mode"], "SIMPLE");
    assert_eq!(json["endpoints"][0], "edition.cnn.com:443, every address that DNS gives");
    assert_eq!(json["outboundTrafficPolicy"], "ALLOW_ANY");
}

#[test]
fn what_is_offered_is_told_with_its_reason() {
    let row = |protocol, by_mesh, by_rule: Option<UpstreamProtocol>, pool: ConnectionPool| {
        let mut resources = resources();
        resources.service_entries[0].ports[0].protocol = protocol;
        resources.settings.h2_upgrade_policy = by_mesh;
        let rule = &mut resources.destination_rules[0];
        rule.upstream_protocol = by_rule;
        rule.traffic_policy.as_mut().unwrap().ports[0].1.connection_pool = Some(pool);
        let report = offline(&target("http://edition.cnn.com"), &resources, &Workload::default());
        (report.matched.unwrap().tls.unwrap().alpn, report.outcome)
    };
    let none = ConnectionPool::default;
    let follows = ConnectionPool { use_client_protocol: true, ..none() };
    let (down, up, auto) = (H2Upgrade::DoNotUpgrade, H2Upgrade::Upgrade, Some(UpstreamProtocol::Auto));
    for (got, alpn, outcome) in [
        (row(Http, down, None, none()), "http/1.1", "as HTTP/1.1 over"),
        (row(Grpc, down, None, none()), "h2 alone, since port 80 is declared GRPC;", "as HTTP/2 over"),
        (row(Http, up, None, none()), "h2 alone, since h2UpgradePolicy is UPGRADE;", "as HTTP/2 over"),
        (
            row(Http, down, auto, none()),
            "h2 and http/1.1, of which the server chooses,",
            "as HTTP/2 or HTTP/1.1, whichever",
        ),
        (
            row(Http, down, auto, follows),
            "as the application speaks, since useClientProtocol is true",
            "that the application",
        ),
    ] {
        assert!(got.0.contains(alpn) && got.1.contains(outcome), "{got:?}");
    }
}

#[test]
fn warnings_of_the_documents_are_shown_and_no_others() {
    let mut resources = resources();
    resources.service_entries.push(entry(&["swallow.test"], &[], Resolution::Dns).with_port(9, Tcp));
    let of = |url: &str| offline(&target(url), &resources, &Workload::default()).warnings;
    assert!(of("tcp://10.1.1.1:9")[0].contains("takes every connection to port 9"));
    assert_eq!(of("tcp://10.0.0.9:3306"), [""; 0]);
    // The usual reason for unexpected plaintext: --labels forgotten.
    let mut elsewhere = rule("elsewhere", "plain.test");
    elsewhere.workload_selector = Some(BTreeMap::from([("app".to_owned(), "sleep".to_owned())]));
    resources.destination_rules.push(elsewhere);
    let report = offline(&target("http://plain.test:8080"), &resources, &Workload::default());
    assert!(report.warnings[0].contains("its workloadSelector wants app=sleep"), "{report:?}");
}

#[test]
fn urls() {
    let at = |target: &Target| target.dst(&resources()).to_string();
    let question = |url: &str| Question { url: url.to_owned(), ..Question::default() };
    let parsed = |url: &str| Target::parse(&question(url)).map(|t| (t.speaks, t.host.to_string(), at(&t)));
    let good = |speaks, host: &str, dst: &str| Ok((speaks, host.to_owned(), dst.to_owned()));
    assert_eq!(parsed("HTTP://Example.com./a?b#c"), good(Speaks::Http, "example.com", "192.0.2.1:80"));
    assert_eq!(parsed("https://[2001:db8::1]/"), good(Speaks::Tls, "[2001:db8::1]", "[2001:db8::1]:443"));
    assert_eq!(parsed("tls://a.test:8443"), good(Speaks::Tls, "a.test", "192.0.2.1:8443"));
    assert_eq!(parsed("tcp://10.0.0.1:5432"), good(Speaks::Bytes, "10.0.0.1", "10.0.0.1:5432"));
    assert_eq!(parsed("tcp://10.0.0.1"), Err(TargetError::Port));
    assert_eq!(parsed("example.com"), Err(TargetError::Scheme));
    assert_eq!(parsed("ftp://example.com"), Err(TargetError::Scheme));
    assert!(matches!(parsed("http://user@example.com"), Err(TargetError::Authority(_))));
    let dialled = Target::parse(&Question { address: "10.0.0.1".parse().ok(), ..question("http://a.test") }).unwrap();
    assert_eq!(at(&dialled), "10.0.0.1:80");
}

/// Lines of a field are compared one by one, and those of some fields as one list.
#[test]
fn header_fields_are_told_to_routes_and_policies() {
    const ROUTES: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: api}
spec:
  hosts: [api.test]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: DNS
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: by-field}
spec:
  hosts: [api.test]
  http:
  - {name: one, match: [{headers: {x-m: {exact: a}}}], route: [{destination: {host: api.test}}]}
  - {name: list, match: [{headers: {via: {exact: 'a,b'}}}], route: [{destination: {host: api.test}}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-admin}
spec: {action: DENY, rules: [{when: [{key: 'request.headers[X-Role]', values: [admin]}]}]}
";
    let loaded = crate::config::load_text(std::path::Path::new("f.yaml"), ROUTES.trim_start());
    assert_eq!(loaded.problems, []);
    let of = |headers: &[&str]| {
        let headers = headers.iter().map(|line| (*line).to_owned()).collect();
        let question = Question { url: "http://api.test/".to_owned(), headers, ..Question::default() };
        Target::parse(&question).map(|target| offline(&target, &loaded.resources, &Workload::default()))
    };
    for (headers, decision, route) in [
        (&["X-M: b", "x-m:a"][..], DecisionKind::Forward, Some("one")),
        (&["x-m: b"], DecisionKind::Answer, None),
        (&[], DecisionKind::Answer, None),
        (&["Via: a", "via: b"], DecisionKind::Forward, Some("list")),
        (&["x-m: a", "x-role: user", "X-Role: admin"], DecisionKind::Deny, None),
    ] {
        let report = of(headers).unwrap();
        assert_eq!(report.decision, decision, "{headers:?}: {report:?}");
        assert!(route.is_none_or(|route| report.logged.route_name == route), "{headers:?}: {report:?}");
    }
    for line in ["x-m", ": a", "x m: a", "x-m: a\r\nb"] {
        assert_eq!(of(&[line]).unwrap_err(), TargetError::Header(line.to_owned()));
    }
    assert_eq!(of(&["Host: a"]).unwrap_err(), TargetError::HostHeader);
}

/// Routes that share by weight, for requests and for TLS; one destination has TLS of ours, one is missing.
const SHARES: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: api}
spec:
  hosts: [api.test]
  ports: [{number: 80, name: http, protocol: HTTP}, {number: 443, name: tls, protocol: TLS}]
  resolution: DNS
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: new}
spec:
  hosts: [new.test]
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 443}, {number: 443, name: tls, protocol: TLS}]
  resolution: DNS
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: new}
spec:
  host: new.test
  trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: SIMPLE}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shares}
spec:
  hosts: [api.test]
  http:
  - route:
    - {destination: {host: api.test, port: {number: 80}}, weight: 70}
    - {destination: {host: new.test, port: {number: 80}}, weight: 25}
    - {destination: {host: new.test, port: {number: 443}}, weight: 0}
    - {destination: {host: gone.test}, weight: 5}
  tls:
  - match: [{sniHosts: [api.test]}]
    route: [{destination: {host: api.test}, weight: 1}, {destination: {host: gone.test}, weight: 3}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-new}
spec:
  action: DENY
  targetRefs: [{group: networking.istio.io, kind: ServiceEntry, name: new}]
  rules: [{to: [{operation: {paths: [/secret]}}]}]
";

#[test]
fn every_destination_of_a_route_is_told_with_its_share() {
    let loaded = crate::config::load_text(std::path::Path::new("f.yaml"), SHARES.trim_start());
    assert_eq!(loaded.problems, []);
    let of = |url: &str| offline(&target(url), &loaded.resources, &Workload::default());
    let shown = |report: &Report| {
        let each = report.destinations.iter().map(|share| {
            let Share { name, weight, of, decision, matched, logged, .. } = share;
            let tls = matched.as_ref().is_some_and(|matched| matched.tls.is_some());
            let code = logged.response_code.map_or("-".to_owned(), |code| code.to_string());
            format!("{weight}/{of} {name} {decision:?} {tls} {code}").to_lowercase()
        });
        each.collect::<Vec<_>>()
    };
    assert_eq!(
        shown(&of("http://api.test/open")),
        [
            "70/100 outbound|80||api.test forward false -",
            "25/100 outbound|80||new.test forward true -",
            "5/100 outbound|||gone.test answer false 503",
        ]
    );
    let secret = of("http://api.test/secret");
    assert_eq!(shown(&secret)[1], "25/100 outbound|80||new.test deny true 403");
    assert_eq!(secret.authorization_policies, ["DENY /no-new"]);
    let text = secret.text();
    for row in [
        "VirtualService     /shares (f.yaml:25:7), route shares",
        "destination        outbound|80||api.test gets 70 of 100",
        "destination        outbound|80||new.test gets 25 of 100",
        "SNI                api.test (from the request's host)",
        "destination        outbound|||gone.test gets 5 of 100",
    ] {
        assert!(text.lines().any(|line| line == row), "{row}\nnot in\n{text}");
    }
    let tls = of("https://api.test/");
    assert_eq!(shown(&tls), ["1/4 outbound|443||api.test forward false 0", "3/4 outbound|443||gone.test deny false 0"]);
    assert_eq!(tls.destinations[1].logged.response_flags, "NC");
    assert!(tls.virtual_service.is_some_and(|route| route.contains("a route for bytes")));
    // A single destination needs no shares.
    assert!(of("http://new.test/").destinations.is_empty());
}

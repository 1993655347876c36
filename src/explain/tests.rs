//! Explanations of small configurations.

use std::collections::BTreeMap;

use super::*;
use crate::config::OutboundPolicy;
use crate::config::PortProtocol::{Http, Https, Mysql, Tcp};
use crate::config::{Resolution, ServiceEntry, TlsMode, TrafficPolicy};
use crate::policy::fixture::{entry, rule, tls, with_tls};

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
        ("http://edition.cnn.com/politics", true, Verdict::Forward, "encrypted as HTTP/1.1 over TLS"),
        ("https://edition.cnn.com/politics", true, Verdict::Forward, "passed through byte by byte"),
        ("http://plain.test:8080", true, Verdict::Forward, "PLAINTEXT"),
        ("https://double.test", true, Verdict::Refuse, "already speaks TLS on port 443"),
        ("tcp://10.0.0.9:3306", true, Verdict::Forward, "passed through"),
        ("tcp://db.test:3306", true, Verdict::Forward, "passed through"),
        ("tcp://10.0.0.8:3306", true, Verdict::Deny, "closed"),
        ("http://plain.test", true, Verdict::Deny, "plain.test is listed on port 8080"),
        ("http://unknown.test", true, Verdict::Deny, "answered with 502"),
        ("http://unknown.test", false, Verdict::Passthrough, "no ServiceEntry lists unknown.test"),
        ("tls://unknown.test:9000", false, Verdict::Passthrough, "passed on unchanged"),
        ("tcp://10.9.9.9:9000", false, Verdict::Passthrough, "passed on unchanged"),
        // It may be HTTP in disguise, which must leave as TLS.
        ("tcp://10.9.9.9:80", false, Verdict::Refuse, "neither_http1_nor_tls_on_a_port_with_tls_origination"),
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
        "limits             connect timeout 10s, TLS handshake timeout 10s, idle timeout 3600s",
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

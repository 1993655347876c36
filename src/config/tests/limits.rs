//! What Istio's CRD limits in number, and what it fills in where nothing is written.

use std::path::Path;

use crate::config::{MeshLocation, OutlierDetection, PortProtocol, Resolution, ServiceEntry, load_text};

/// An entry with these lists, each in YAML's flow form.
fn entry(hosts: &str, addresses: &str, ports: &str, rest: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: e}}\nspec:\n  hosts: [{hosts}]\n  \
         addresses: [{addresses}]\n  ports: [{ports}]\n{rest}"
    )
}

fn list(count: usize, item: impl Fn(usize) -> String) -> String {
    (0..count).map(item).collect::<Vec<_>>().join(", ")
}

#[test]
fn lists_end_where_those_of_a_cluster_end() {
    let hosts = |count| list(count, |n| format!("h{n}.example"));
    let addresses = |count| list(count, |n| format!("10.0.{}.{}", n / 256, n % 256));
    let ports = |count| list(count, |n| format!("{{number: {}, name: p{n}, protocol: HTTP}}", n + 1));
    let endpoints = |count| {
        let each = list(count, |n| format!("{{address: 10.0.{}.{}}}", n / 256, n % 256));
        format!("  resolution: STATIC\n  endpoints: [{each}]\n")
    };
    let one = "{number: 80, name: http, protocol: HTTP}";
    let protocol = |length: usize| format!("{{number: 80, name: http, protocol: {}}}", "X".repeat(length));
    for (text, words) in [
        (entry(&hosts(256), "", one, ""), ""),
        (entry(&hosts(257), "", one, ""), "spec.hosts"),
        (entry("a.example", &addresses(256), one, ""), ""),
        (entry("a.example", &addresses(257), one, ""), "spec.addresses"),
        (entry("a.example", "", &ports(256), ""), ""),
        (entry("a.example", "", &ports(257), ""), "spec.ports"),
        (entry("a.example", "", one, &endpoints(4096)), ""),
        (entry("a.example", "", one, &endpoints(4097)), "spec.endpoints"),
        (entry("a.example", "", &format!("{{number: 80, name: {}}}", "n".repeat(64)), ""), "invalid port name"),
        (entry("a.example", "", &protocol(257), ""), "unsupported protocol"),
        (entry("a.example", &"1".repeat(65), one, ""), "spec.addresses[0]"),
        (entry(&format!("{}.example", "h".repeat(64)), "", one, ""), "spec.hosts[0]"),
        (entry("'2001:db8::1'", "", one, ""), "spec.hosts[0]"),
    ] {
        let problems = load_text(Path::new("f"), &text).problems;
        let problems: Vec<String> =
            problems.iter().map(ToString::to_string).filter(|p| !p.contains("warning")).collect();
        let start = &text[..text.len().min(200)];
        match words {
            "" => assert_eq!(problems, [""; 0], "{start}"),
            words => assert!(problems.len() == 1 && problems[0].contains(words), "{words}: {problems:?} of {start}"),
        }
    }
}

#[test]
fn what_is_not_written_has_istios_meaning() {
    let only = |text: &str| -> ServiceEntry {
        let loaded = load_text(Path::new("f"), text);
        assert_eq!(loaded.problems, [], "{text}");
        loaded.resources.service_entries.into_iter().next().expect("one entry")
    };
    let plain = only(&entry("a.example", "", "{number: 80, name: any}", ""));
    assert_eq!((plain.resolution, plain.location), (Resolution::None, MeshLocation::External));
    assert_eq!((plain.ports[0].protocol, plain.ports[0].target_port), (PortProtocol::Auto, None));
    assert!(plain.export_to.is_empty() && plain.subject_alt_names.is_empty());
    for (written, expected) in [
        ("http", PortProtocol::Http),
        ("Https", PortProtocol::Https),
        ("gRPC-Web", PortProtocol::GrpcWeb),
        ("HTTP2", PortProtocol::Http2),
        ("tls", PortProtocol::Tls),
        ("Mongo", PortProtocol::Mongo),
        ("''", PortProtocol::Auto),
    ] {
        let ports = format!("{{number: 80, name: p, protocol: {written}}}");
        let port = &only(&entry("a.example", "", &ports, "")).ports[0];
        assert_eq!((port.protocol, port.target_port), (expected, None), "{written}");
    }
}

/// `TestApplyOutlierDetection`: what is written, and 5xx, gateway, local failures, whether they are told apart, the share.
#[test]
fn outlier_detection_has_istios_defaults() {
    let read = |block: &str| -> Option<OutlierDetection> {
        let text = format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: r}}\nspec:\n  host: a.example\n  \
             trafficPolicy: {{{block}}}\n"
        );
        let loaded = load_text(Path::new("f"), &text);
        assert!(!loaded.has_errors(), "{:?}", loaded.problems);
        loaded.resources.destination_rules[0].traffic_policy.as_ref()?.all.outlier_detection.clone()
    };
    assert_eq!(read("connectionPool: {tcp: {}}"), None);
    for (block, expected) in [
        ("", (5, 0, 5, false, 10, 0)),
        ("consecutive5xxErrors: 4, consecutiveGatewayErrors: 3", (4, 3, 5, false, 10, 0)),
        ("consecutiveGatewayErrors: 0", (5, 0, 5, false, 10, 0)),
        ("consecutive5xxErrors: 0, consecutiveGatewayErrors: 2", (0, 2, 5, false, 10, 0)),
        ("splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 10", (5, 0, 10, true, 10, 0)),
        ("splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 0", (5, 0, 0, true, 10, 0)),
        ("maxEjectionPercent: 0, minHealthPercent: 0", (5, 0, 5, false, 10, 0)),
        ("maxEjectionPercent: 100, minHealthPercent: 50", (5, 0, 5, false, 100, 50)),
    ] {
        let rules = read(&format!("outlierDetection: {{{block}}}")).expect("the block is there");
        let found = (
            rules.consecutive_5xx,
            rules.consecutive_gateway,
            rules.consecutive_local,
            rules.split,
            rules.max_ejection_percent,
            rules.min_health_percent,
        );
        assert_eq!(found, expected, "{block}");
        assert_eq!((rules.interval.as_secs(), rules.base_ejection_time.as_secs()), (10, 30), "{block}");
    }
}

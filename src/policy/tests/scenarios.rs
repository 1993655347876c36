//! Istio's tables of flows and what becomes of them (istio-egress §1.4, §1.5, §7.2, §7.4), as data.

use crate::config::PortProtocol::{Auto, Grpc, Http, Http2, Https, Mongo, Mysql, Tcp, Tls, Udp};
use crate::config::Resolution::{Dns, DynamicDns, None as Original, Static};
use crate::config::{ExportTo, OutboundPolicy, Resources, ServiceEntry};
use crate::policy::tests::fixture::{compiled, entry, verdict};

fn check(entries: Vec<ServiceEntry>, policy: OutboundPolicy, flows: &[(&str, &str)]) -> Vec<String> {
    let mut resources = Resources { service_entries: entries, ..Resources::default() };
    resources.settings.outbound_traffic_policy = policy;
    let (table, warnings) = compiled(&resources);
    for (flow, expected) in flows {
        assert_eq!(verdict(&table, flow), *expected, "{flow} under {policy:?}");
    }
    warnings
}

fn allow_any(entries: Vec<ServiceEntry>, flows: &[(&str, &str)]) -> Vec<String> {
    check(entries, OutboundPolicy::AllowAny, flows)
}

/// The ServiceEntry of `TestPassthroughTraffic`.
fn istio_io(addresses: &[&str]) -> Vec<ServiceEntry> {
    let ports = [(80, Http), (81, Auto), (82, Tcp), (83, Tls), (84, Https), (85, Grpc), (86, Http2)];
    let plain = entry(&["istio.io"], addresses, Dns);
    vec![ports.into_iter().fold(plain, |entry, (number, protocol)| entry.with_port(number, protocol))]
}

/// What becomes of plain HTTP, and of the rest, that no entry names.
const MODES: [(OutboundPolicy, &str, &str); 3] = [
    (OutboundPolicy::RegistryOnly, "blackhole", "blackhole"),
    (OutboundPolicy::AllowAny, "passthrough", "passthrough"),
    (OutboundPolicy::AllowAnyDynamicDns, "by name", "passthrough"),
];

#[test]
fn unknown_destinations_beside_an_entry_with_an_address() {
    for (policy, http, unknown) in MODES {
        for port in [80, 81, 82, 83, 84, 85, 86, 7777] {
            for flow in ["http 9.9.9.9:{} foo", "tls 9.9.9.9:{} foo", "tls 9.9.9.9:{}", "bytes 9.9.9.9:{}"] {
                let flow = flow.replace("{}", &port.to_string());
                let expected = if flow.starts_with("http") { http } else { unknown };
                check(istio_io(&["1.2.3.4"]), policy, &[(&flow, expected)]);
            }
        }
    }
}

#[test]
fn unknown_destinations_beside_an_entry_without_an_address() {
    for (policy, http, unknown) in MODES {
        let mut flows = vec![
            ("http 9.9.9.9:81 foo", http),
            ("bytes 9.9.9.9:81", "outbound|81||istio.io"),
            ("tls 9.9.9.9:81 foo", "outbound|81||istio.io"),
            ("http 9.9.9.9:82 foo", "outbound|82||istio.io unseen"),
            ("tls 9.9.9.9:82 foo", "outbound|82||istio.io unseen"),
            ("bytes [2001:db8::9]:82", "outbound|82||istio.io unseen"),
        ];
        for flow in [
            "http 9.9.9.9:80 foo",
            "http 9.9.9.9:85 foo",
            "http 9.9.9.9:86 foo",
            "tls 9.9.9.9:80 istio.io",
            "bytes 9.9.9.9:80",
            "tls 9.9.9.9:83 foo",
            "tls 9.9.9.9:84 foo",
            "tls 9.9.9.9:84",
            "bytes 9.9.9.9:83",
            "http 9.9.9.9:84 istio.io",
            "http 9.9.9.9:7777 istio.io",
        ] {
            flows.push((flow, if flow.starts_with("http") { http } else { unknown }));
        }
        check(istio_io(&[]), policy, &flows);
    }
}

/// `cluster_dfp_sidecar_test.go`, `TestOutboundTLSDynamicDNSWildcardServerNames`; and what is no name to look up.
#[test]
fn names_that_are_looked_up() {
    let ports = [(80, Http), (9090, Grpc), (86, Http2), (443, Tls), (8443, Https), (82, Tcp), (81, Auto)];
    let plain = entry(&["*.svc.test"], &[], DynamicDns);
    let dynamic = ports.into_iter().fold(plain, |entry, (number, protocol)| entry.with_port(number, protocol));
    let warnings = allow_any(
        vec![dynamic],
        &[
            ("http 9.9.9.9:80 a.svc.test", "outbound|80||*.svc.test"),
            ("http 9.9.9.9:9090 a.b.svc.test", "outbound|9090||*.svc.test"),
            ("http 9.9.9.9:86 a.svc.test:1234", "outbound|86||*.svc.test"),
            ("http 9.9.9.9:80 svc.test", "passthrough"),
            ("tls 9.9.9.9:443 a.svc.test", "outbound|443||*.svc.test"),
            ("tls 9.9.9.9:443 a.test", "passthrough"),
            ("tls 9.9.9.9:443", "passthrough"),
            ("tls 9.9.9.9:8443 a.svc.test", "passthrough"),
            ("bytes 9.9.9.9:82", "passthrough"),
            ("http 9.9.9.9:81 a.svc.test", "passthrough"),
        ],
    );
    assert_eq!(warnings.iter().filter(|warning| warning.contains("is left out: resolution DYNAMIC_DNS")).count(), 3);
    // An address needs no name server: such a request goes where it was going.
    check(
        istio_io(&[]),
        OutboundPolicy::AllowAnyDynamicDns,
        &[
            ("http 9.9.9.9:80 9.9.9.9", "passthrough"),
            ("http 9.9.9.9:7777 foo", "by name"),
            ("http 9.9.9.9:80 istio.io", "outbound|80||istio.io"),
        ],
    );
}

#[test]
fn known_destinations() {
    allow_any(
        istio_io(&[]),
        &[
            ("http 9.9.9.9:80 istio.io", "outbound|80||istio.io"),
            ("http [2001:db8::9]:80 ISTIO.IO.", "outbound|80||istio.io"),
            ("http 9.9.9.9:80 istio.io:12345", "outbound|80||istio.io"),
            ("http 9.9.9.9:81 istio.io", "outbound|81||istio.io"),
            ("http 9.9.9.9:80 www.istio.io", "passthrough"),
            ("tls 9.9.9.9:83 istio.io", "outbound|83||istio.io"),
            ("tls 9.9.9.9:84 istio.io", "outbound|84||istio.io"),
        ],
    );
    allow_any(
        istio_io(&["1.2.3.4"]),
        &[
            // The address is ignored for HTTP, and is a host of its own.
            ("http 9.9.9.9:80 istio.io", "outbound|80||istio.io"),
            ("http 9.9.9.9:80 1.2.3.4", "outbound|80||istio.io"),
            ("http 1.2.3.4:80 9.9.9.9", "passthrough"),
            // An undeclared port with an address: whatever the host.
            ("http 1.2.3.4:81 foo", "outbound|81||istio.io"),
            ("bytes 1.2.3.4:81", "outbound|81||istio.io"),
            ("bytes 1.2.3.4:82", "outbound|82||istio.io unseen"),
            // With an address of its own no SNI is needed.
            ("tls 1.2.3.4:83 foo", "outbound|83||istio.io"),
            ("tls 1.2.3.4:84", "outbound|84||istio.io"),
            ("http 1.2.3.4:84 foo", "outbound|84||istio.io as bytes"),
            ("tls 9.9.9.9:84 istio.io", "passthrough"),
        ],
    );
}

#[test]
fn hosts_by_precedence() {
    let entries = || {
        vec![
            entry(&["*.example.com"], &[], Original).with_port(80, Http).with_port(443, Tls),
            entry(&["*.a.example.com"], &[], Original).with_port(80, Http).with_port(443, Tls),
            entry(&["www.example.com"], &["10.0.0.1", "2001:db8::1"], Dns).with_port(80, Http),
            entry(&["www.example.com"], &[], Dns).with_port(443, Https).named("tls"),
        ]
    };
    let warnings = allow_any(
        entries(),
        &[
            ("http 9.9.9.9:80 www.example.com", "outbound|80||www.example.com"),
            ("http 9.9.9.9:80 x.y.example.com", "outbound|80||*.example.com"),
            ("http 9.9.9.9:80 x.a.example.com", "outbound|80||*.a.example.com"),
            ("http 9.9.9.9:80 example.com", "passthrough"),
            ("http 9.9.9.9:80 10.0.0.1:80", "outbound|80||www.example.com"),
            ("http 9.9.9.9:80 [2001:db8::1]", "outbound|80||www.example.com"),
            ("tls 9.9.9.9:443 www.example.com", "outbound|443||www.example.com"),
            ("tls 9.9.9.9:443 b.example.com", "outbound|443||*.example.com"),
            ("tls 9.9.9.9:443 a.a.example.com", "outbound|443||*.a.example.com"),
            ("tls 9.9.9.9:443 example.org", "passthrough"),
        ],
    );
    assert_eq!(warnings, [""; 0]);
}

/// `serviceentry_simulation_test.go`, TestServiceEntry.
#[test]
fn addresses_by_precedence() {
    let tcp =
        |host: &str, addresses: &[&str]| entry(&[host], addresses, Static).with_port(9999, Tcp).with_ip("8.8.8.8");
    let (se1, se2) = ("outbound|9999||se1 unseen", "outbound|9999||se2 unseen");
    let warnings = allow_any(
        vec![tcp("se1", &["1.2.3.4/16"]), tcp("se2", &["1.2.255.255/16"])],
        &[("bytes 1.2.9.9:9999", se1), ("bytes 1.3.0.1:9999", "passthrough")],
    );
    assert!(warnings.iter().any(|w| w.contains("older ServiceEntry shop/se1")), "{warnings:?}");
    allow_any(
        vec![tcp("se1", &["1.2.0.0/16"]), tcp("se2", &["1.2.3.4/32"])],
        &[("bytes 1.2.9.9:9999", se1), ("bytes 1.2.3.4:9999", se2)],
    );
    allow_any(
        vec![tcp("se1", &["1.1.1.1"]), tcp("se2", &["2.2.2.2", "1.1.1.1"])],
        &[("bytes 1.1.1.1:9999", se1), ("bytes 2.2.2.2:9999", se2)],
    );
    allow_any(
        vec![tcp("se1", &["2001:db8::/32"]), tcp("se2", &[])],
        &[("bytes [2001:db8::1]:9999", se1), ("bytes [2001:db9::1]:9999", se2), ("bytes 1.1.1.1:9999", se2)],
    );
    // SNI within ranges; behind a range stand the entries without addresses.
    let tls = |host: &str, addresses: &[&str]| entry(&[host], addresses, Original).with_port(9999, Tls);
    allow_any(
        vec![tls("a.test", &["10.0.0.0/8"]), tls("b.test", &["11.0.0.0/8"]), tls("c.test", &[])],
        &[
            ("tls 10.1.1.1:9999 a.test", "outbound|9999||a.test"),
            ("tls 10.1.1.1:9999 b.test", "passthrough"),
            ("tls 11.1.1.1:9999 b.test", "outbound|9999||b.test"),
            ("tls 10.1.1.1:9999 c.test", "outbound|9999||c.test"),
            ("tls 9.1.1.1:9999 a.test", "passthrough"),
        ],
    );
}

#[test]
fn protocols_that_share_a_port() {
    let http = || entry(&["web.test"], &[], Dns).with_port(8080, Http);
    let tcp = || entry(&["db.test"], &[], Dns).with_port(8080, Tcp);
    let mysql = || entry(&["my.test"], &[], Dns).with_port(8080, Mysql);
    let mongo = || entry(&["mongo.test"], &["10.0.0.1"], Dns).with_port(8080, Mongo);
    let merged = [
        ("http 9.9.9.9:8080 web.test", "outbound|8080||web.test"),
        ("http 9.9.9.9:8080 foo.test", "passthrough"),
        ("bytes 9.9.9.9:8080", "outbound|8080||db.test"),
        ("tls 9.9.9.9:8080 web.test", "outbound|8080||db.test"),
    ];
    allow_any(vec![http(), tcp()], &merged);
    allow_any(vec![tcp(), http()], &merged);
    // Where the server speaks first nothing can be recognised: the older keeps the port.
    let warnings = allow_any(
        vec![http(), mysql()],
        &[("http 9.9.9.9:8080 web.test", "outbound|8080||web.test"), ("bytes 9.9.9.9:8080", "passthrough")],
    );
    assert!(warnings.iter().any(|w| w.contains("older ServiceEntry shop/web.test")), "{warnings:?}");
    let warnings = allow_any(vec![mysql(), http()], &[("http 9.9.9.9:8080 web.test", "outbound|8080||my.test unseen")]);
    assert!(warnings.iter().any(|w| w.contains("older ServiceEntry shop/my.test")), "{warnings:?}");
    // An address of its own stands apart.
    allow_any(
        vec![http(), mongo()],
        &[
            ("http 9.9.9.9:8080 web.test", "outbound|8080||web.test"),
            ("bytes 10.0.0.1:8080", "outbound|8080||mongo.test unseen"),
            ("http 10.0.0.1:8080 web.test", "outbound|8080||mongo.test unseen"),
        ],
    );
}

#[test]
fn the_oldest_keeps_what_two_want() {
    let http = |name: &str, created_ms| {
        let mut made =
            entry(&["a.test"], &[], Dns).with_target(80, Http, if name == "new" { 1 } else { 2 }).named(name);
        made.meta.created_ms = created_ms;
        made
    };
    for (entries, winner) in [
        (vec![http("new", None), http("old", Some(5))], 2),
        (vec![http("new", Some(4)), http("old", Some(5))], 1),
        (vec![http("old", None), http("new", None)], 2),
    ] {
        let (table, warnings) = compiled(&Resources { service_entries: entries, ..Resources::default() });
        let [cluster] = table.clusters() else { panic!("one cluster: {:?}", table.clusters()) };
        let crate::policy::Endpoints::Resolved(sources) = &cluster.endpoints else { panic!("{cluster:?}") };
        assert_eq!(sources[0].port, winner);
        assert!(warnings[0].contains("host a.test on port 80 stay with the older"), "{warnings:?}");
    }
}

#[test]
fn what_a_namespace_sees() {
    let in_bank = |host: &str, export_to| entry(&[host], &[], Dns).with_port(80, Http).within("bank", export_to);
    allow_any(
        vec![
            in_bank("all.test", vec![]),
            in_bank("private.test", vec![ExportTo::Same]),
            in_bank("mine.test", vec![ExportTo::Namespace("shop".into())]),
            in_bank("nobody.test", vec![ExportTo::Nobody]),
        ],
        &[
            ("http 9.9.9.9:80 all.test", "outbound|80||all.test"),
            ("http 9.9.9.9:80 private.test", "passthrough"),
            ("http 9.9.9.9:80 mine.test", "outbound|80||mine.test"),
            ("http 9.9.9.9:80 nobody.test", "passthrough"),
        ],
    );
}

#[test]
fn ranges_of_undeclared_and_tcp_ports() {
    allow_any(
        vec![entry(&["a.test"], &["10.0.0.0/24", "10.0.1.0/24"], Original).with_port(443, Tcp)],
        &[("tls 10.0.1.9:443 x", "outbound|443||a.test unseen"), ("tls 10.0.2.9:443 x", "passthrough")],
    );
    allow_any(
        vec![entry(&["a.test"], &["10.0.0.0/24"], Original).with_port(70, Auto)],
        &[
            ("bytes 10.0.0.9:70", "outbound|70||a.test unseen"),
            ("bytes 10.0.1.9:70", "passthrough"),
            ("http 10.0.1.9:70 a.test", "outbound|70||a.test"),
        ],
    );
    let warnings = allow_any(
        vec![entry(&["a.test"], &["0.0.0.0/0"], Original).with_port(53, Udp).with_port(70, Tcp)],
        &[("bytes 10.0.0.9:70", "outbound|70||a.test unseen"), ("bytes [2001:db8::1]:70", "passthrough")],
    );
    assert!(warnings[0].contains("UDP"), "{warnings:?}");
}

/// Istio's `TestGenerateVirtualHostDomains`, by what requests become: the pod is one of namespace `shop`.
#[test]
fn forms_of_a_host() {
    let near = || entry(&["echo.shop.svc.cluster.local"], &[], Dns).with_port(80, Http);
    let far = || entry(&["db.bank.svc.cluster.local"], &[], Dns).with_port(80, Http);
    let outside = || entry(&["aaa.example.local"], &["1.2.3.4", "2001:db8::4"], Dns).with_port(80, Http);
    let (echo, db, aaa) = (
        "outbound|80||echo.shop.svc.cluster.local",
        "outbound|80||db.bank.svc.cluster.local",
        "outbound|80||aaa.example.local",
    );
    allow_any(
        vec![near(), far(), outside()],
        &[
            ("http 9.9.9.9:80 echo.shop.svc.cluster.local", echo),
            ("http 9.9.9.9:80 echo.shop.svc.cluster.local.", echo),
            ("http 9.9.9.9:80 echo.shop.svc", echo),
            ("http 9.9.9.9:80 ECHO.shop:12345", echo),
            ("http 9.9.9.9:80 echo", echo),
            ("http 9.9.9.9:80 echo.", echo),
            ("http 9.9.9.9:80 echo.shop.svc.cluster", "passthrough"),
            ("http 9.9.9.9:80 db.bank.svc", db),
            ("http 9.9.9.9:80 db.bank", db),
            ("http 9.9.9.9:80 db", "passthrough"),
            ("http 9.9.9.9:80 x.echo.shop", "passthrough"),
            ("http 9.9.9.9:80 aaa.example.local.:80", aaa),
            ("http 9.9.9.9:80 aaa", "passthrough"),
            ("http 9.9.9.9:80 aaa.example", "passthrough"),
            ("http 9.9.9.9:80 1.2.3.4", aaa),
            ("http 9.9.9.9:80 [2001:db8::4]:80", aaa),
            ("http 9.9.9.9:80 1.2.3.5", "passthrough"),
        ],
    );
    // Whoever lists a short form as its own host has it.
    allow_any(
        vec![near(), entry(&["echo.shop"], &[], Dns).with_port(80, Http)],
        &[("http 9.9.9.9:80 echo.shop", "outbound|80||echo.shop"), ("http 9.9.9.9:80 echo", echo)],
    );
    // TLS names its host in full: an SNI has no short form.
    allow_any(
        vec![entry(&["echo.shop.svc.cluster.local"], &[], Dns).with_port(443, Tls)],
        &[("tls 9.9.9.9:443 echo.shop", "passthrough")],
    );
}

/// The second copy of an address was taken for somebody else's.
#[test]
fn an_address_that_an_entry_lists_twice() {
    for protocol in [Http, Auto, Tcp, Tls] {
        let twice = entry(&["a.test"], &["1.1.1.2", "1.1.1.2/32"], Original).with_port(81, protocol);
        let warnings = allow_any(vec![twice], &[]);
        assert_eq!(warnings, [""; 0], "{protocol:?}");
    }
}

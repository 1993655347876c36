//! Which connections wait for their first byte, and which bytes must be read: configurations, and what becomes of
//! destinations.

use std::path::Path;
use std::sync::Arc;

use crate::config::load_text;
use crate::flow::Hostname;
use crate::policy::runtime::publish::{Addresses, Published};
use crate::policy::tests::fixture::{dst, unreadable, workload};
use crate::policy::{Decision, Declared, Expected, FirstLook, Materials, PolicyTable, compile};
use crate::tls::{ClientProfile, ProfileRequest};

/// What DNS says; no key is loaded, so that who asks for TLS is refused.
struct Dns;

const ANSWERS: [(&str, &str); 3] = [("secure.test", "1.1.1.1"), ("plain.test", "1.1.1.2"), ("routed.test", "1.1.1.3")];

impl Materials for Dns {
    fn profile(&mut self, _: &ProfileRequest) -> Result<Arc<ClientProfile>, String> {
        Err("nothing is loaded".to_owned())
    }

    fn addresses(&mut self, name: &Hostname) -> Addresses {
        let found = ANSWERS.iter().filter(|(known, _)| *known == name.as_str());
        Published::new(found.map(|(_, ip)| ip.parse().unwrap()).collect())
    }
}

fn table(objects: &[String]) -> PolicyTable {
    let loaded = load_text(Path::new("f.yaml"), &objects.join("---\n"));
    assert_eq!(loaded.problems, []);
    compile(&loaded.resources, &workload("shop", "app=a"), &mut Dns).0
}

fn object(kind: &str, name: &str, spec: &str) -> String {
    let group = if kind == "AuthorizationPolicy" { "security.istio.io/v1" } else { "networking.istio.io/v1" };
    format!("apiVersion: {group}\nkind: {kind}\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{{spec}}}\n")
}

fn entry(host: &str, ports: &str, rest: &str) -> String {
    object("ServiceEntry", &host.replace(['.', '*'], "x"), &format!("hosts: ['{host}'], ports: [{ports}], {rest}"))
}

fn originating(host: &str) -> String {
    let spec = format!("host: '{host}', trafficPolicy: {{tls: {{mode: SIMPLE}}}}");
    object("DestinationRule", &host.replace(['.', '*'], "x"), &spec)
}

fn settings(spec: &str) -> String {
    format!("apiVersion: egret/v1\nkind: Settings\nspec: {{{spec}}}\n")
}

fn policy(action: &str, rule: &str) -> String {
    object("AuthorizationPolicy", "p", &format!("action: {action}, rules: [{rule}]"))
}

const HTTP: &str = "{number: 80, name: http, protocol: HTTP}";
const DNS: &str = "resolution: DNS";

/// `at once`, `looks`, or the cluster that has the bytes.
fn look(table: &PolicyTable, to: &str) -> String {
    match table.first_look(dst(to), 0) {
        FirstLook::Sniff(_) => "looks".to_owned(),
        FirstLook::Decided(verdict) => match verdict.decision {
            Decision::Passthrough => "at once".to_owned(),
            Decision::Forward(cluster) => cluster.name.clone(),
            other => panic!("{other:?}"),
        },
    }
}

#[test]
fn nobody_waits_where_no_byte_could_change_anything() {
    let database =
        || entry("db.test", "{number: 3306, name: tcp, protocol: TCP}", "addresses: [1.1.1.9], resolution: NONE");
    for (objects, to, expected) in [
        (vec![], "9.9.9.9:25", "at once"),
        (vec![entry("plain.test", HTTP, DNS)], "9.9.9.9:25", "at once"),
        (vec![entry("plain.test", HTTP, DNS)], "9.9.9.9:80", "looks"),
        (vec![database()], "1.1.1.9:3306", "outbound|3306||db.test"),
        (vec![database()], "1.1.1.8:3306", "at once"),
        (vec![settings("outboundTrafficPolicy: {mode: REGISTRY_ONLY}")], "9.9.9.9:25", "looks"),
        (vec![settings("outboundTrafficPolicy: {mode: ALLOW_ANY_DYNAMIC_DNS}")], "9.9.9.9:25", "looks"),
        (vec![settings("connectPolicy: REGISTRY_ONLY")], "9.9.9.9:25", "looks"),
        (vec![settings("strict: true, protectedAddresses: [9.9.9.0/24]")], "9.9.9.9:25", "at once"),
        // A policy that address and port decide; one that they rule out; one that wants more.
        (vec![policy("DENY", "{to: [{operation: {ports: ['26']}}]}")], "9.9.9.9:25", "at once"),
        (vec![policy("DENY", "{to: [{operation: {ports: ['26'], methods: [GET]}}]}")], "9.9.9.9:25", "at once"),
        (vec![policy("DENY", "{to: [{operation: {ports: ['25'], methods: [GET]}}]}")], "9.9.9.9:25", "looks"),
        (vec![policy("DENY", "{when: [{key: connection.sni, values: [a.test]}]}")], "9.9.9.9:25", "looks"),
        (vec![policy("DENY", "{when: [{key: destination.ip, values: [9.9.9.8]}]}")], "9.9.9.9:25", "at once"),
        (vec![policy("ALLOW", "{to: [{operation: {ports: ['25']}}]}")], "9.9.9.9:25", "at once"),
        (vec![policy("ALLOW", "{to: [{operation: {ports: ['25'], paths: [/a]}}]}")], "9.9.9.9:25", "looks"),
        (vec![policy("AUDIT", "{to: [{operation: {ports: ['25']}}]}")], "9.9.9.9:25", "at once"),
        (vec![policy("AUDIT", "{to: [{operation: {hosts: [a.test]}}]}")], "9.9.9.9:25", "looks"),
        // Refused in any case: HTTP gets to know why.
        (vec![policy("DENY", "{to: [{operation: {ports: ['25']}}]}")], "9.9.9.9:25", "looks"),
    ] {
        assert_eq!(look(&table(&objects), to), expected, "{objects:?} {to}");
    }
}

/// A virtual address is told apart from the one that DNS gives for the same host, whose requests leave as TLS.
#[test]
fn an_address_of_a_host_with_tls_is_looked_at_wherever_its_entry_listens() {
    let listed = "addresses: [10.0.0.1], resolution: DNS";
    let table =
        table(&[entry("secure.test", "{number: 5432, name: tcp, protocol: TCP}", listed), originating("secure.test")]);
    for (to, expected) in
        [("10.0.0.1:5432", "outbound|5432||secure.test"), ("1.1.1.1:5432", "looks"), ("1.1.1.2:5432", "at once")]
    {
        assert_eq!(look(&table, to), expected, "{to}");
    }
}

#[test]
fn what_is_declared_http_or_tls_waits_for_the_application() {
    let (http, tls) = (Declared { http: true, tls: false }, Declared { http: false, tls: true });
    let neither = Declared::default();
    let port = |protocol: &str| format!("{{number: 80, name: p, protocol: '{protocol}'}}");
    let at = |host: &str, protocol: &str, addresses: &str| {
        let rest = format!("addresses: [{addresses}], resolution: NONE");
        entry(host, &port(protocol).replace(", protocol: ''", ""), &rest)
    };
    for (objects, expected) in [
        (vec![at("a.test", "HTTP", "")], http),
        (vec![at("a.test", "GRPC", "9.9.9.8")], http),
        (vec![at("a.test", "HTTPS", "")], tls),
        (vec![at("a.test", "TLS", "9.9.9.0/24")], tls),
        (vec![at("a.test", "TLS", "9.9.8.0/24")], neither),
        (vec![at("a.test", "TCP", "")], neither),
        (vec![at("a.test", "", "")], neither),
        (vec![at("a.test", "", "9.9.9.9")], neither),
        // Another entry's address: it is that one's connection.
        (vec![at("a.test", "HTTP", ""), at("b.test", "TCP", "9.9.9.9")], neither),
        (vec![at("a.test", "HTTP", ""), at("b.test", "", "9.9.9.9")], neither),
        (vec![at("a.test", "HTTP", ""), at("b.test", "TLS", "9.9.9.0/24")], Declared { http: true, tls: true }),
        (vec![at("a.test", "HTTP", ""), at("b.test", "TLS", "9.9.9.9")], tls),
        (vec![at("a.test", "HTTP", ""), at("b.test", "TCP", "9.9.9.8")], http),
        // Its server speaks first, and would be waited for in vain.
        (vec![at("a.test", "TLS", ""), at("b.test", "MYSQL", "")], neither),
    ] {
        let found = match table(&objects).first_look(dst("9.9.9.9:80"), 0) {
            FirstLook::Sniff(Expected { declared, .. }) => declared,
            // By the entry of the address, or because no byte matters.
            FirstLook::Decided(_) => neither,
        };
        assert_eq!(found, expected, "{objects:?}");
    }
}

const TLS: Option<&str> = Some("neither_http1_nor_tls_on_a_port_with_tls_origination");
const JUDGED: Option<&str> = Some("neither_http1_nor_tls_on_a_port_with_authorization_policies");

/// For bytes that are neither a request nor TLS, to the address of each host and to another.
fn guards(objects: &[String]) -> [Option<&'static str>; 4] {
    let table = table(objects);
    ["1.1.1.1:80", "1.1.1.2:80", "1.1.1.3:80", "9.9.9.9:80"].map(|to| {
        let found = unreadable(&table, to);
        let waits = matches!(table.first_look(dst(to), 0), FirstLook::Sniff(Expected { must_be_read: true, .. }));
        assert!(waits || found.is_none(), "bytes that must not pass unread are waited for: {objects:?}");
        [TLS, JUDGED].into_iter().flatten().find(|why| Some(*why) == found)
    })
}

#[test]
fn bytes_must_be_read_on_the_way_to_hosts_with_tls_or_policies() {
    let plain = || entry("plain.test", HTTP, DNS);
    let secure = |rest: &str| entry("secure.test", HTTP, rest);
    let judged = || {
        let target = "targetRefs: [{group: networking.istio.io, kind: ServiceEntry, name: plainxtest}]";
        object("AuthorizationPolicy", "p", &format!("{target}, action: DENY, rules: [{{}}]"))
    };
    for (objects, expected) in [
        (vec![plain()], [None; 4]),
        (vec![plain(), secure(DNS), originating("secure.test")], [TLS, None, None, None]),
        (vec![plain(), secure(DNS), originating("secure.test"), judged()], [TLS, JUDGED, None, None]),
        // A policy that would forbid what nobody has looked at allows bytes without a server name: they must still be read.
        (
            vec![
                plain(),
                secure(DNS),
                originating("secure.test"),
                policy("DENY", "{when: [{key: connection.sni, values: [a.test]}]}"),
            ],
            [TLS, JUDGED, None, None],
        ),
        // Known by its addresses, whether or not its name means anything to DNS.
        (
            vec![
                entry(
                    "made-up.test",
                    HTTP,
                    "addresses: [1.1.1.3], resolution: STATIC, endpoints: [{address: 1.1.1.2}]",
                ),
                originating("made-up.test"),
            ],
            [None, TLS, TLS, None],
        ),
        (
            vec![secure("resolution: STATIC, endpoints: [{address: 1.1.1.3}]"), originating("secure.test")],
            [TLS, None, TLS, None],
        ),
        // Endpoints that have names.
        (
            vec![secure("resolution: DNS, endpoints: [{address: routed.test}]"), originating("secure.test")],
            [TLS, None, TLS, None],
        ),
        // It may be anywhere.
        (vec![secure("resolution: DNS, endpoints: [{address: unknown.test}]"), originating("secure.test")], [TLS; 4]),
        (vec![entry("unknown.test", HTTP, DNS), originating("unknown.test")], [TLS; 4]),
        (vec![secure("resolution: NONE"), originating("secure.test")], [TLS; 4]),
        (vec![entry("*.test", HTTP, "resolution: NONE"), originating("*.test")], [TLS; 4]),
        (vec![entry("*.test", HTTP, "resolution: DYNAMIC_DNS"), originating("*.test")], [TLS; 4]),
    ] {
        assert_eq!(guards(&objects), expected, "{objects:?}");
    }
}

#[test]
fn a_route_to_tls_guards_the_hosts_that_take_it() {
    let route = |host: &str| {
        let to = "http: [{route: [{destination: {host: secure.test, port: {number: 443}}}]}]";
        object("VirtualService", "v", &format!("hosts: ['{host}'], {to}"))
    };
    let encrypted = "{number: 443, name: http, protocol: HTTP}";
    let all = |host: &str| {
        vec![
            entry("plain.test", HTTP, DNS),
            entry("routed.test", HTTP, "addresses: [9.9.9.9], resolution: DNS"),
            entry("secure.test", encrypted, DNS),
            originating("secure.test"),
            route(host),
        ]
    };
    assert_eq!(guards(&all("routed.test")), [None, None, TLS, TLS]);
    assert_eq!(guards(&all("*.test")), [TLS; 4]);
    assert_eq!(unreadable(&table(&all("*.test")), "9.9.9.9:81"), None, "no entry has the port");
}

/// Where only a name can allow a connection its bytes are waited for, however long they take.
#[test]
fn bytes_are_waited_for_where_a_name_may_open_the_way() {
    let strict = || settings("outboundTrafficPolicy: {mode: REGISTRY_ONLY}");
    let named = || entry("plain.test", "{number: 80, name: tls, protocol: TLS}", DNS);
    for (objects, expected) in [(vec![named()], false), (vec![named(), strict()], true), (vec![strict()], false)] {
        let table = table(&objects);
        let FirstLook::Sniff(found) = table.first_look(dst("9.9.9.9:80"), 0) else {
            assert!(!expected, "{objects:?}");
            continue;
        };
        assert_eq!(found.must_be_read, expected, "{objects:?}");
    }
}

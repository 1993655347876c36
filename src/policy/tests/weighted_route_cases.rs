//! `tls` and `tcp` routes as tables of cases: a flow and where it is sent.

use std::path::Path;

use crate::config::load_text;
use crate::policy::tests::fixture::{compiled, decided, dst, name, verdict};
use crate::policy::{Content, Decision, Flow, PolicyTable, Refusal, Transport};

fn entry(name: &str, hosts: &str, ports: &str, rest: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}}}\nspec:\n  \
         hosts: [{hosts}]\n  ports: [{ports}]\n  {rest}\n"
    )
}

fn routes(name: &str, hosts: &str, rest: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\nspec:\n  \
         hosts: [{hosts}]\n{rest}"
    )
}

const TLS: &str = "{number: 443, name: tls, protocol: TLS}";

fn table(text: &str) -> (PolicyTable, Vec<String>) {
    let loaded = load_text(Path::new("f.yaml"), text);
    let errors: Vec<String> = loaded.problems.iter().map(ToString::to_string).collect();
    assert_eq!(errors, [""; 0], "{text}");
    compiled(&loaded.resources)
}

#[track_caller]
fn check(text: &str, flows: &[(&str, &str)]) -> Vec<String> {
    let (table, warnings) = table(text);
    for (flow, expected) in flows {
        assert_eq!(verdict(&table, flow), *expected, "{flow}");
    }
    warnings
}

/// The entries that routes lead to: a gateway for TLS, and one with several ports and subsets.
fn destinations() -> String {
    let both = format!("{TLS}, {{number: 9000, name: tcp, protocol: TCP}}");
    entry("gateway", "gate.example", &TLS.replace("443", "8443"), "resolution: DNS")
        + &entry("both", "both.example", &both, "resolution: DNS\n  addresses: [192.0.2.77]")
        + "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: both}\nspec:\n  \
           host: both.example\n  subsets: [{name: v1}]\n"
}

const GATE: &str = "1*outbound|8443||gate.example";

#[test]
fn server_names_of_routes_replace_those_of_the_entry() {
    let entries = destinations()
        + &entry("a", "a.example, b.example, '*.wild.example'", TLS, "resolution: NONE")
        + &entry("c", "c.example", TLS, "resolution: NONE");
    let to = |host: &str| format!("    route: [{{destination: {{host: {host}}}}}]\n");
    let route = |matches: &str, host: &str| format!("  - match: [{matches}]\n{}", to(host));
    let warnings = check(
        &(entries
            + &routes(
                "one",
                "a.example, '*.wild.example'",
                &("  tls:\n".to_owned()
                    + &route("{sniHosts: [a.example], sourceLabels: {app: other}}", "c.example")
                    + &route("{sniHosts: [a.example], port: 444}", "c.example")
                    + &route("{sniHosts: [a.example], gateways: [egress]}", "c.example")
                    + &route("{sniHosts: [a.example], sourceLabels: {app: a}}", "gate.example")
                    + &route("{sniHosts: [a.example]}", "c.example")
                    + &route("{sniHosts: [x.wild.example], sourceNamespace: bank}", "c.example")
                    + &route("{sniHosts: [x.wild.example], destinationSubnets: [10.0.0.0/8]}", "both.example")),
            )),
        &[
            // The first that is for this pod and port.
            ("tls 9.9.9.9:443 a.example", GATE),
            ("tls [2001:db8::9]:443 A.example.", GATE),
            // No route speaks of its host.
            ("tls 9.9.9.9:443 b.example", "outbound|443||b.example"),
            ("tls 9.9.9.9:443 c.example", "outbound|443||c.example"),
            // The port that was dialled, since the destination has several.
            ("tls 10.1.2.3:443 x.wild.example", "1*outbound|443||both.example"),
            ("tls 9.9.9.9:443 x.wild.example", "passthrough"),
            // Its host's routes ask for another name: the entry's own is none of them.
            ("tls 9.9.9.9:443 y.wild.example", "passthrough"),
            ("tls 9.9.9.9:443", "passthrough"),
            ("bytes 9.9.9.9:443", "passthrough"),
        ],
    );
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings.iter().all(|w| w.contains("this route takes nothing")), "{warnings:?}");
}

#[test]
fn an_address_of_its_own_bounds_the_routes() {
    let entries = destinations()
        + &entry(
            "a",
            "a.example",
            TLS,
            "resolution: STATIC\n  addresses: [192.0.2.1]\n  endpoints: [{address: 192.0.2.9}]",
        );
    let tls = |rest: &str| {
        routes(
            "r",
            "a.example",
            &format!(
                "  tls:\n  - match: [{{sniHosts: [a.example]{rest}}}]\n    route: [{{destination: {{host: gate.example}}}}]\n"
            ),
        )
    };
    check(
        &(entries.clone() + &tls("")),
        &[
            ("tls 192.0.2.1:443 a.example", GATE),
            // With routes an address does not stand for the name.
            ("tls 192.0.2.1:443 b.example", "passthrough"),
            ("tls 192.0.2.2:443 a.example", "passthrough"),
        ],
    );
    check(
        &(entries.clone() + &tls(", destinationSubnets: [192.0.2.0/24]")),
        &[("tls 192.0.2.1:443 a.example", GATE), ("tls 192.0.2.2:443 a.example", "passthrough")],
    );
    let warnings = check(
        &(entries + &tls(", destinationSubnets: [198.51.100.0/24]")),
        &[("tls 192.0.2.1:443 a.example", "passthrough"), ("tls 198.51.100.1:443 a.example", "passthrough")],
    );
    assert!(warnings.iter().all(|warning| warning.contains("this route takes nothing")), "{warnings:?}");
}

#[test]
fn bytes_go_to_the_first_route_that_takes_them() {
    const PORT: &str = "{number: 9000, name: tcp, protocol: TCP}";
    let entries = destinations() + &entry("db", "db.example", PORT, "resolution: NONE");
    let tcp = |list: &[(&str, &str)]| {
        let each = list.iter().map(|(matches, to)| format!("  - {{{matches}route: [{to}]}}\n"));
        routes("r", "db.example", &format!("  tcp:\n{}", each.collect::<String>()))
    };
    let gate = "{destination: {host: gate.example}}";
    let both = "{destination: {host: both.example}}";
    for (list, flows) in [
        (
            vec![("", gate)],
            vec![("bytes 9.9.9.9:9000", "1*outbound|8443||gate.example unseen"), ("bytes 9.9.9.9:9001", "passthrough")],
        ),
        (
            vec![("match: [{port: 9001}], ", gate), ("match: [{port: 9000}], ", both)],
            vec![("tls 9.9.9.9:9000 x", "1*outbound|9000||both.example unseen")],
        ),
        (
            vec![("match: [{destinationSubnets: [10.0.0.0/8]}], ", gate)],
            vec![
                ("bytes 10.1.1.1:9000", "1*outbound|8443||gate.example unseen"),
                ("bytes 9.9.9.9:9000", "outbound|9000||db.example unseen"),
            ],
        ),
        (
            // One condition without a subnet is one for every address.
            vec![("match: [{destinationSubnets: [10.0.0.0/8]}, {port: 9000}], ", gate), ("", both)],
            vec![("bytes 9.9.9.9:9000", "1*outbound|8443||gate.example unseen")],
        ),
        (
            vec![
                ("match: [{destinationSubnets: [10.0.0.0/8]}], ", gate),
                ("match: [{destinationSubnets: [10.1.0.0/16]}], ", both),
            ],
            vec![
                ("bytes 10.1.1.1:9000", "1*outbound|9000||both.example unseen"),
                ("bytes 10.2.1.1:9000", "1*outbound|8443||gate.example unseen"),
            ],
        ),
        (
            vec![(
                "",
                "{destination: {host: both.example, subset: v1, port: {number: 443}}, weight: 3}, {destination: {host: gate.example}, weight: 1}",
            )],
            vec![("bytes 9.9.9.9:9000", "3*outbound|443|v1|both.example 1*outbound|8443||gate.example unseen")],
        ),
        (
            vec![("", "{destination: {host: nobody.example}}")],
            vec![("bytes 9.9.9.9:9000", "1*no outbound|9000||nobody.example unseen")],
        ),
        // Another pod's, and none that a sidecar meets.
        (
            vec![("match: [{sourceLabels: {app: b}}, {gateways: [egress]}], ", gate)],
            vec![("bytes 9.9.9.9:9000", "outbound|9000||db.example unseen")],
        ),
    ] {
        check(&(entries.clone() + &tcp(&list)), &flows);
    }
}

#[test]
fn ports_without_a_protocol_and_of_other_protocols() {
    let ports = format!("{TLS}, {{number: 70, name: any}}, {{number: 80, name: http, protocol: HTTP}}");
    let entries = destinations()
        + &entry("a", "a.example", &ports, "resolution: DNS")
        + "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: gate}\nspec:\n  host: gate.example\n  \
           trafficPolicy: {tls: {mode: SIMPLE, sni: gate.example, subjectAltNames: [gate.example]}}\n";
    let text = entries + &routes("r", "a.example", "  tcp:\n  - route: [{destination: {host: gate.example}}]\n");
    check(
        &text,
        &[
            ("http 9.9.9.9:70 a.example", "outbound|70||a.example"),
            ("http 9.9.9.9:70 b.example", "passthrough"),
            ("bytes 9.9.9.9:70", GATE),
            ("tls 9.9.9.9:70 a.example", GATE),
            // `tcp` says nothing of TLS and HTTP ports.
            ("tls 9.9.9.9:443 a.example", "outbound|443||a.example"),
            ("http 9.9.9.9:80 a.example", "outbound|80||a.example"),
            ("bytes 9.9.9.9:80", "passthrough"),
        ],
    );
    let (table, _) = table(&text);
    let sent = |content: Content<'_>| {
        let Decision::Forward(cluster) = decided(&table, "9.9.9.9:70", content).decision else {
            panic!("it goes nowhere")
        };
        let Transport::Refused(why) = &cluster.transport else { panic!("nothing is loaded in tests") };
        (cluster.tls_request.is_some(), why.to_string())
    };
    // Bytes leave as TLS of ours; the application's TLS is not wrapped in it.
    assert!(sent(Content::Opaque).0);
    let (asks, why) = sent(Content::Tls(Some(&name("a.example"))));
    assert!(!asks && why.contains("TLS inside TLS"), "{why}");
}

#[test]
fn the_older_virtual_service_is_asked_first() {
    let entries = destinations() + &entry("a", "a.example", TLS, "resolution: NONE");
    let to = |name: &str, hosts: &str, sni: &str, host: &str| {
        routes(
            name,
            hosts,
            &format!("  tls:\n  - match: [{{sniHosts: [{sni}]}}]\n    route: [{{destination: {{host: {host}}}}}]\n"),
        )
    };
    check(
        &(entries
            + &to("old", "a.example", "a.example", "gate.example")
            + &to("new", "'*.example'", "a.example, '*.example'", "both.example")),
        &[
            ("tls 9.9.9.9:443 a.example", GATE),
            // A server name that the entry does not have, for the sake of an entry that the route's hosts cover.
            ("tls 9.9.9.9:443 z.example", "1*outbound|443||both.example"),
        ],
    );
}

/// The example of the README.
#[test]
fn the_example_routes_by_server_name() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/config/examples/wildcard.yaml"));
    let warnings = check(
        &text.expect("the example is there"),
        &[
            ("tls 9.9.9.9:443 commons.wikipedia.org", "1*outbound|443||gateway.example.com"),
            ("tls 9.9.9.9:443 en.wikipedia.org", "1*outbound|8443||gateway.example.com"),
            ("http 9.9.9.9:80 en.wikipedia.org", "outbound|80||*.wikipedia.org"),
        ],
    );
    assert_eq!(warnings, [""; 0]);
}

/// The weights are shares of connections, and both entries' policies hold.
#[test]
fn destinations_by_weight_and_judged_twice() {
    let policy = |name: &str, entry: &str, port: u16| {
        format!(
            "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}}}\nspec:\n  action: DENY\n  \
             targetRefs: [{{group: networking.istio.io, kind: ServiceEntry, name: {entry}}}]\n  \
             rules: [{{to: [{{operation: {{ports: ['{port}']}}}}]}}]\n"
        )
    };
    let text = destinations()
        + &entry("a", "a.example", TLS, "resolution: NONE")
        + &routes(
            "r",
            "a.example",
            "  tls:\n  - match: [{sniHosts: [a.example]}]\n    route:\n    - {destination: {host: gate.example}, weight: 90}\n    \
         - {destination: {host: both.example}, weight: 10}\n    - {destination: {host: nobody.example}, weight: 0}\n",
        );
    let sni = name("a.example");
    let flow = Flow { destination: dst("9.9.9.9:443"), content: Content::Tls(Some(&sni)) };
    let outcome = |table: &PolicyTable, random: u64| match table.decide(&flow, random).decision {
        Decision::Forward(cluster) => cluster.host.clone(),
        Decision::Refuse(Refusal::Forbidden { details, .. }) => details.to_owned(),
        other => panic!("{other:?}"),
    };
    let plain = table(&text).0;
    let gates = (0..100).filter(|random| outcome(&plain, *random) == "gate.example").count();
    assert_eq!(gates, 90);
    let own = table(&(text.clone() + &policy("own", "a", 443))).0;
    assert_eq!(outcome(&own, 0), "rbac_access_denied_matched_policy[ns[shop]-policy[own]-rule[0]]");
    let far = table(&(text + &policy("far", "both", 443))).0;
    assert_eq!(outcome(&far, 0), "gate.example");
    assert_eq!(outcome(&far, 95), "rbac_access_denied_matched_policy[ns[shop]-policy[far]-rule[0]]");
    assert_eq!(verdict(&far, "http 9.9.9.9:443 a.example"), "passthrough");
}

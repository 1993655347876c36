//! Lookups of names that nobody lists: refused where connections to them would be.

use super::entry;
use super::tools::{RealNames, dig, short};

const SETTINGS: &str = "apiVersion: egret/v1\nkind: Settings\nspec: {outboundTrafficPolicy: REGISTRY_ONLY, dnsPolicy: ANSWER_LISTED_ONLY}\n---\n";

fn listed() -> String {
    let port = "{number: 443, name: tls, protocol: TLS}";
    [
        entry("www.example.com", port, "  resolution: NONE\n"),
        entry("*.wild.example.com", port, "  resolution: NONE\n"),
        entry("db1.example.com", port, "  resolution: DNS\n"),
    ]
    .concat()
}

#[test]
fn no_lookup_of_an_unlisted_name_leaves_the_pod() {
    let names = RealNames::with(&["--host-record=svc.shop.svc.cluster.local,10.96.0.7"]);
    let lab = &names.lab;
    lab.pod.write_etc("resolv.conf", "nameserver 10.77.0.1\nsearch shop.svc.cluster.local corp.test\n");
    lab.configure("a.yaml", &[SETTINGS.to_owned(), listed()].concat());
    lab.egret_command(&["init", "--capture-dns"]).succeeded();
    let egret = lab.start_egret(&[]);
    for kind in ["A", "AAAA", "TXT", "MX", "HTTPS", "ANY"] {
        let answer = dig(lab, &["secret.evil.org", kind]);
        assert!(answer.contains("status: NXDOMAIN") && answer.contains("EDE: 18 (Prohibited)"), "{kind}: {answer}");
    }
    assert!(dig(lab, &["+tcp", "hidden.example.org", "A"]).contains("status: NXDOMAIN"));
    assert!(dig(lab, &["4.3.2.1.in-addr.arpa", "PTR"]).contains("status: NXDOMAIN"));
    // Listed, with and without addresses of their own, and what a name server has of them besides.
    assert_eq!(short(lab, &["www.example.com", "A"]), "203.0.113.3");
    assert!(short(lab, &["db1.example.com", "A"]).starts_with("240.240."));
    assert_eq!(short(lab, &["db1.example.com", "TXT"]), "\"text of db1\"");
    assert!(dig(lab, &["x.wild.example.com", "A"]).contains("status: NXDOMAIN"), "as the name server says");
    // The cluster's own names, and those that a resolver completes.
    assert_eq!(short(lab, &["svc.shop.svc.cluster.local", "A"]), "10.96.0.7");
    dig(lab, &["printer.corp.test", "A"]);
    let asked = names.asked();
    assert!(!asked.contains("evil") && !asked.contains("hidden") && !asked.contains("in-addr"), "{asked}");
    assert!(asked.contains("x.wild.example.com") && asked.contains("printer.corp.test"), "{asked}");
    assert!(egret.sample("egret_dns_queries_total{answer=\"refused\"}").unwrap() >= 8.0);
    assert_eq!(egret.sample("egret_dns_refused_total{name=\"secret.evil.org\"}"), Some(6.0));
    assert!(
        egret.stderr().contains("refused a lookup") && egret.stderr().contains("secret.evil.org"),
        "{}",
        egret.stderr()
    );
}

#[test]
fn where_unknown_destinations_are_allowed_so_are_their_lookups() {
    let names = RealNames::new();
    let lab = &names.lab;
    lab.configure("a.yaml", &[SETTINGS.to_owned(), listed()].concat());
    lab.egret_command(&["init", "--capture-dns"]).succeeded();
    let egret = lab.start_egret(&["--outbound-traffic-policy", "ALLOW_ANY"]);
    assert_eq!(short(lab, &["plain.example.org", "A"]), "203.0.113.1");
    assert!(egret.stderr().contains("dnsPolicy ANSWER_LISTED_ONLY has no effect"), "{}", egret.stderr());
}

//! Istio's cases (`name_table_test.go`, `dns_test.go`), and ours.

use super::*;

fn host(text: &str) -> Hostname {
    text.parse().unwrap()
}

fn ips(text: &str) -> Vec<IpAddr> {
    text.split_whitespace().map(|ip| ip.parse().unwrap()).collect()
}

fn table() -> NameTable {
    let mut table = NameTable::default();
    table.add(&host("db.example.com"), &ips("240.240.0.1 2001:2::1"));
    table.add(&host("twice.test"), &ips("192.0.2.1"));
    table.add(&host("twice.test"), &ips("192.0.2.2 192.0.2.1"));
    table.add(&host("elsewhere.wild.test"), &[]);
    table.add(&host("echo.shop.svc.cluster.local"), &ips("240.240.0.2"));
    table.add_short(host("echo.shop"), &host("echo.shop.svc.cluster.local"));
    table.add_short(host("echo"), &host("echo.shop.svc.cluster.local"));
    table.add_wildcard(&host("wild.test"), &ips("10.10.10.10"));
    table.add_wildcard(&host("b.wild.test"), &ips("11.11.11.11"));
    table.add_partial_wildcard("-part.test");
    table
}

#[test]
fn names_are_found() {
    let table = table();
    let search = ["shop.svc.cluster.local", "svc.cluster.local", "cluster.local"].map(host);
    let shown = |name: &str| match table.find(name, &search) {
        Found::Addresses { ips, alias } => {
            let ips: Vec<String> = ips.iter().map(ToString::to_string).collect();
            alias.map_or(ips.join(" "), |alias| format!("{alias}: {}", ips.join(" ")))
        }
        Found::Elsewhere => "elsewhere".to_owned(),
        Found::Unlisted => "unlisted".to_owned(),
    };
    for (name, expected) in [
        ("db.example.com", "240.240.0.1 2001:2::1"),
        ("twice.test", "192.0.2.1 192.0.2.2"),
        ("x.db.example.com", "unlisted"),
        ("example.com", "unlisted"),
        ("foo.wild.test", "10.10.10.10"),
        ("a.foo.wild.test", "10.10.10.10"),
        ("a.b.wild.test", "11.11.11.11"),
        ("b.wild.test", "10.10.10.10"),
        ("wild.test", "unlisted"),
        ("badwild.test", "unlisted"),
        ("elsewhere.wild.test", "elsewhere"),
        ("below.elsewhere.wild.test", "10.10.10.10"),
        ("db.example.com.shop.svc.cluster.local", "db.example.com: 240.240.0.1 2001:2::1"),
        ("db.example.com.svc.cluster.local", "db.example.com: 240.240.0.1 2001:2::1"),
        ("db.example.com.db.example.com.svc.cluster.local", "unlisted"),
        ("db.example.com.other.local", "unlisted"),
        ("echo.shop.svc.cluster.local", "240.240.0.2"),
        ("echo.shop", "240.240.0.2"),
        ("echo", "240.240.0.2"),
        ("x-part.test", "elsewhere"),
        ("y.x-part.test", "elsewhere"),
        ("-part.test", "unlisted"),
        ("part.test", "unlisted"),
        ("echo.shop.shop.svc.cluster.local", "echo.shop: 240.240.0.2"),
        ("elsewhere.wild.test.cluster.local", "unlisted"),
        ("cluster.local", "unlisted"),
        ("", "unlisted"),
    ] {
        assert_eq!(shown(name), expected, "{name}");
    }
}

#[test]
fn a_listed_name_is_no_short_form() {
    let mut table = table();
    table.add(&host("echo.shop"), &ips("192.0.2.9"));
    assert_eq!(table.find("echo.shop", &[]), Found::Addresses { ips: &ips("192.0.2.9"), alias: None });
    let rows: Vec<String> = table.rows().iter().map(|(name, ips)| format!("{name} {}", ips.len())).collect();
    assert_eq!(
        rows,
        [
            "*.b.wild.test 1",
            "*.wild.test 1",
            "db.example.com 2",
            "echo.shop 1",
            "echo.shop.svc.cluster.local 1",
            "twice.test 2"
        ]
    );
}

#[test]
fn domains() {
    for (name, expected) in [
        ("cluster.local", true),
        ("a.b.cluster.local", true),
        ("mycluster.local", false),
        ("local", false),
        ("x.corp", true),
    ] {
        assert_eq!(is_within(name, ["cluster.local", "corp"]), expected, "{name}");
    }
}

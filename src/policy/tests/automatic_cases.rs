//! Addresses that stand for hosts: what is dialled there is its host's, or nobody's.

use crate::config::PortProtocol::{Auto, Http, Mysql, Tcp, Tls};
use crate::config::Resolution::{Dns, DynamicDns};
use crate::config::{OutboundPolicy, Resources, ServiceEntry};
use crate::policy::PolicyTable;
use crate::policy::compile::compiler::compile;
use crate::policy::tests::fixture::{Asked, decided, entry, unreadable, verdict, workload};
use crate::policy::{Content, Decision, Refusal};

const AUTOMATIC: [(&str, &str); 6] = [
    ("240.240.0.1", "db1.test"),
    ("240.240.0.2", "db2.test"),
    ("2001:2::2", "db2.test"),
    ("240.240.0.3", "web.test"),
    ("240.240.0.4", "*.wild.test"),
    ("240.240.0.9", "gone.test"),
];

fn entries() -> Vec<ServiceEntry> {
    vec![
        entry(&["db1.test"], &[], Dns).with_port(5432, Tcp).with_port(6000, Tcp),
        entry(&["db2.test"], &[], Dns).with_port(5432, Tcp).with_port(3306, Mysql),
        entry(&["web.test"], &[], Dns).with_port(80, Http).with_port(443, Tls).with_port(81, Auto),
        entry(&["*.wild.test"], &[], DynamicDns).with_port(80, Http).with_port(443, Tls),
        entry(&["other.test"], &[], Dns).with_port(80, Http).with_port(443, Tls),
    ]
}

fn table(policy: OutboundPolicy) -> (PolicyTable, Vec<String>) {
    let mut resources = Resources { service_entries: entries(), ..Resources::default() };
    resources.settings.outbound_traffic_policy = policy;
    let automatic = AUTOMATIC.map(|(ip, host)| (ip.parse().unwrap(), host)).into();
    let mut asked = Asked { automatic, ..Asked::default() };
    let (table, problems) = compile(&resources, &workload("shop", ""), &mut asked);
    (table, problems.iter().map(ToString::to_string).collect())
}

#[test]
fn the_address_says_whose_it_is() {
    let (table, warnings) = table(OutboundPolicy::AllowAny);
    for (flow, expected) in [
        ("bytes 240.240.0.1:5432", "outbound|5432||db1.test unseen"),
        ("bytes 240.240.0.2:5432", "outbound|5432||db2.test unseen"),
        ("bytes [2001:2::2]:5432", "outbound|5432||db2.test unseen"),
        ("bytes 240.240.0.2:3306", "outbound|3306||db2.test unseen"),
        // By any other address it is as it was.
        ("bytes 203.0.113.1:5432", "outbound|5432||db1.test unseen"),
        ("http 240.240.0.3:80 web.test", "outbound|80||web.test"),
        ("http 240.240.0.3:80 240.240.0.3", "outbound|80||web.test"),
        ("http 240.240.0.3:80 nobody.test", "outbound|80||web.test"),
        ("http 240.240.0.3:80 other.test", "outbound|80||other.test"),
        ("http 203.0.113.1:80 nobody.test", "passthrough"),
        ("tls 240.240.0.3:443", "outbound|443||web.test"),
        ("tls 240.240.0.3:443 nobody.test", "outbound|443||web.test"),
        ("http 240.240.0.3:81 nobody.test", "outbound|81||web.test"),
        ("bytes 240.240.0.3:81", "outbound|81||web.test"),
        ("http 240.240.0.4:80 a.wild.test", "outbound|80||*.wild.test"),
        ("tls 240.240.0.4:443 a.wild.test", "outbound|443||*.wild.test"),
    ] {
        assert_eq!(verdict(&table, flow), expected, "{flow}");
    }
    assert!(
        warnings.iter().any(|warning| warning.contains("those alone that go to its automatic address")),
        "{warnings:?}"
    );
}

/// Rows are about what people have written; addresses are in `/dns`.
#[test]
fn addresses_are_told_only_of_what_has_nothing_else() {
    let (table, _) = table(OutboundPolicy::AllowAny);
    let rows = table.routes();
    let by_address: Vec<_> = rows.iter().filter(|row| row.address.contains("240.240.")).collect();
    assert!(by_address.iter().all(|row| row.cluster == "outbound|5432||db2.test"), "{by_address:#?}");
    assert_eq!(by_address.len(), 1);
    assert!(rows.iter().all(|row| !row.host.contains("240.240.")));
}

#[test]
fn what_its_host_does_not_list_is_nobodys() {
    for policy in [OutboundPolicy::AllowAny, OutboundPolicy::RegistryOnly, OutboundPolicy::AllowAnyDynamicDns] {
        let (table, _) = table(policy);
        for (to, content, host) in [
            ("240.240.0.1:9999", Content::Opaque, "db1.test"),
            // db1 has this port, and takes it from everybody who has no address of its own.
            ("240.240.0.2:6000", Content::Opaque, "db2.test"),
            ("[2001:2::2]:6000", Content::Silence, "db2.test"),
            ("240.240.0.9:5432", Content::Opaque, "gone.test"),
            ("240.240.0.9:81", Content::Tls(None), "gone.test"),
            ("240.240.0.1:443", Content::Tls(None), "db1.test"),
            ("240.240.0.3:80", Content::Opaque, "web.test"),
        ] {
            let refusal = match decided(&table, to, content).decision {
                Decision::Refuse(Refusal::UnlistedPort(of)) => Some(of.host.as_str()),
                _ => None,
            };
            assert_eq!(refusal, Some(host), "{to} under {policy:?}");
            assert_eq!(unreadable(&table, to), None, "{to}");
        }
        // A name that is listed leads on from whatever address.
        assert_eq!(verdict(&table, "tls 240.240.0.9:443 web.test"), "outbound|443||web.test");
        assert_eq!(verdict(&table, "http 240.240.0.9:80 web.test"), "outbound|80||web.test");
    }
}

/// A host that no entry lists is not reached by dialling one that is listed.
#[test]
fn a_request_for_nobody_needs_more_than_an_address_where_only_listed_hosts_may_leave() {
    let (table, _) = table(OutboundPolicy::RegistryOnly);
    for (flow, expected) in [
        ("http 240.240.0.3:80 web.test", "outbound|80||web.test"),
        ("http 240.240.0.3:80 240.240.0.3", "outbound|80||web.test"),
    ] {
        assert_eq!(verdict(&table, flow), expected, "{flow}");
    }
    assert_ne!(verdict(&table, "http 240.240.0.3:80 nobody.test"), "outbound|80||web.test");
    let (wild, _) = self::table(OutboundPolicy::AllowAny);
    assert_ne!(verdict(&wild, "http 240.240.0.4:80 nobody.test"), "outbound|80||*.wild.test");
}

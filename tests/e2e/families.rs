//! Hosts with addresses of both families, one of which leads nowhere: nobody waits for it, and it is not tried again and
//! again.

use std::net::{IpAddr, SocketAddr};

use crate::lab;
use crate::lab::client::HttpClient;
use crate::lab::documents::service_entry;
use crate::lab::process;
use crate::lab::server::Server;
use crate::lab::{Family, Lab};
use crate::site::{HOST, Site, answering};

/// Every connection serves one request, and the host may have one at a time: each attempt that held a place, or gave none
/// back, would keep the next request waiting.
const ONE_REQUEST: &str = "{tcp: {maxConnections: 1}, http: {maxRequestsPerConnection: 1, http1MaxPendingRequests: 1}}";

/// A pod whose IPv6 address is global, so that IPv6 comes first (RFC 6724).
fn give_global_ipv6(lab: &Lab) {
    lab.pod.ip(&["-6", "addr", "add", "2001:db8:77::2/64", "dev", "v0", "nodad"]);
    lab.outside.ip(&["-6", "addr", "add", "2001:db8:77::1/64", "dev", "v1", "nodad"]);
}

/// From now on nothing answers connections to these addresses outside.
fn drop_connections(lab: &Lab, addresses: &[IpAddr]) {
    let rule = |ip: &IpAddr| format!("add rule inet lab in ip6 daddr {ip} meta l4proto tcp counter drop");
    let rules = addresses.iter().map(rule).collect::<Vec<_>>().join("; ");
    let table = "add table inet lab; add chain inet lab in { type filter hook input priority 0; }; ";
    process::finish(lab.outside.command("nft", &[&format!("{table}{rules}")])).succeeded();
}

/// Packets dropped so far.
fn dropped(lab: &Lab) -> u64 {
    let rules = process::finish(lab.outside.command("nft", &["list", "table", "inet", "lab"])).succeeded().stdout;
    let packets =
        rules.split("counter packets ").skip(1).filter_map(|rest| rest.split(' ').next()?.parse::<u64>().ok());
    packets.sum()
}

fn v4(n: u8) -> IpAddr {
    Lab::address(Family::V4, n)
}

fn v6(n: u8) -> IpAddr {
    Lab::address(Family::V6, n)
}

#[test]
fn an_address_that_does_not_answer_is_passed_over_and_remembered() {
    for engine in ["auto", "epoll"] {
        for silent in [&[1][..], &[1, 2, 3]] {
            let site = Site::new(ONE_REQUEST, answering(""));
            give_global_ipv6(&site.lab);
            let silent: Vec<IpAddr> = silent.iter().map(|n| v6(*n)).collect();
            site.lab.names.set(HOST, &[&silent[..], &[v4(1)]].concat());
            drop_connections(&site.lab, &silent);
            site.lab.egret_command(&["init"]).succeeded();
            // Whoever waited for the first address would get no answer at all.
            let egret = site.lab.start_egret_with(&[], engine, &["--workers", "1", "--connect-timeout", "5m"]);
            assert_eq!(site.open().get(HOST, "/first").unwrap().head.status, 200);
            egret.log_line(&["\"GET /first ", " 200 - ", "203.0.113.1:80"]);
            let tried = dropped(&site.lab);
            assert!(tried > 0, "IPv6 comes first");
            for _ in 0..5 {
                assert_eq!(site.open().get(HOST, "/").unwrap().head.status, 200);
            }
            assert_eq!(dropped(&site.lab), tried, "{engine}: it is tried once, {silent:?}");
            assert_eq!(site.server.accepted(), 6);
            assert_eq!(egret.metric("egret_upstream_overflow_total"), Some(0.0));
        }
    }
}

/// A port whose bytes are not read, and a connection to what no entry names: the second goes where the application went.
#[test]
fn bytes_race_too_but_not_those_that_are_passed_through() {
    let lab = Lab::new();
    give_global_ipv6(&lab);
    lab.names.set(HOST, &[v6(1), v6(2), v4(1)]);
    drop_connections(&lab, &[v6(1), v6(2)]);
    let entry = service_entry(HOST, &[(7000, "TCP", None)]).replace("  ports:", "  addresses: [203.0.113.9]\n  ports:");
    lab.configure("site.yaml", &entry);
    let echo = |at| Server::start(&lab, at, |stream| std::io::copy(&mut &stream, &mut &stream).map(drop));
    let (listed, unlisted) = (echo(SocketAddr::new(v4(1), 7000)), echo(SocketAddr::new(v4(1), 7001)));
    let egret = lab.egret(&["--workers", "1", "--connect-timeout", "1s"]);
    let mut tried = 0;
    for turn in 0..3 {
        let mut client = HttpClient::new(lab.connect(SocketAddr::new(v4(9), 7000)).unwrap());
        client.send(b"\x01\x02").unwrap();
        assert_eq!(client.take(2), b"\x01\x02");
        let now = dropped(&lab);
        assert!(if turn == 0 { now > 0 } else { now == tried }, "turn {turn}: {now} after {tried}");
        tried = now;
    }
    assert_eq!(listed.accepted(), 3);
    let mut client = HttpClient::new(lab.connect(SocketAddr::new(v6(1), 7001)).unwrap());
    client.send(b"\x01\x02").unwrap();
    assert!(client.rest().is_err(), "reset, as nothing answers there");
    egret.log_line(&["PassthroughCluster", " UF", "[2001:db8::1]:7001: no answer within 1000 ms"]);
    assert_eq!(unlisted.accepted(), 0);
}

/// A unique local address has no business with global ones (RFC 6724, rule 5).
#[test]
fn a_pod_without_a_global_ipv6_address_begins_with_ipv4() {
    let site = Site::new(ONE_REQUEST, answering(""));
    site.lab.names.set(HOST, &[v6(1), v4(1)]);
    drop_connections(&site.lab, &[v6(1)]);
    let _egret = site.lab.egret(&["--workers", "1"]);
    for _ in 0..3 {
        assert_eq!(site.open().get(HOST, "/").unwrap().head.status, 200);
    }
    assert_eq!(dropped(&site.lab), 0);
}

#[test]
fn a_warm_connection_of_the_other_family_is_used_before_a_new_one() {
    let site = Site::new("{}", answering(""));
    give_global_ipv6(&site.lab);
    drop_connections(&site.lab, &[v6(1)]);
    let egret = site.lab.egret(&["--workers", "1"]);
    assert_eq!(site.open().get(HOST, "/").unwrap().head.status, 200);
    site.lab.names.set(HOST, &[v6(1), v4(1)]);
    lab::eventually("the name has both addresses", || {
        let listed = site.lab.egret_command(&["endpoints"]).succeeded().stdout;
        assert!(site.open().get(HOST, "/").is_ok_and(|response| response.head.status == 200));
        listed.contains("2001:db8::1")
    });
    assert_eq!(site.open().get(HOST, "/").unwrap().head.status, 200);
    assert_eq!((site.server.accepted(), dropped(&site.lab)), (1, 0));
    drop(egret);
}

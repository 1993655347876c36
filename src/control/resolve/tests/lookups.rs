//! The resolver against name servers on loopback sockets, with a clock that stands still until a test moves it.
//!
//! No test waits for time to pass: conditions are awaited with a deadline in real time, which only a failure reaches.

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RecordType};

use super::super::*;
use super::name_servers::{Bench, Seen, eventually, with_still_clock};
use crate::dns::resolv_conf::Transport;

fn name(text: &str) -> Hostname {
    Hostname::new(text).unwrap()
}

fn ips(list: &[&str]) -> Vec<IpAddr> {
    list.iter().map(|ip| ip.parse().unwrap()).collect()
}

async fn settled(resolver: &Resolver) {
    eventually("every name has an outcome", || resolver.shared.unsettled.get() == 0).await;
    assert_eq!(resolver.settle(Duration::from_secs(1)).await, 0);
}

async fn later(seconds: u64) {
    tokio::time::advance(Duration::from_secs(seconds)).await;
}

#[test]
fn both_families_are_asked_and_published() {
    with_still_clock(|| async {
        let bench = Bench::new(1, "", |seen, _| seen.addresses(60, &["192.0.2.2", "2001:db8::1", "192.0.2.1"])).await;
        let resolver = bench.resolver();
        let cell = resolver.cell(&name("a.test"));
        assert!(cell.load().is_empty());
        settled(&resolver).await;
        let expected = ips(&["192.0.2.2", "192.0.2.1", "2001:db8::1"]);
        assert_eq!(**cell.load(), expected);
        let status = &resolver.snapshot()[0];
        assert_eq!((&status.addresses, &status.last_error), (&expected, &None));
        assert_eq!(status.expires_in, Some(Duration::from_secs(60)));
        assert_eq!(bench.servers.count(), 2, "a second call asks for nothing new");
        let same = resolver.cell(&name("a.test"));
        assert_eq!(**same.load(), expected);
        assert_eq!(bench.servers.count(), 2);
    });
}

#[test]
fn answers_that_are_not_ours_are_ignored() {
    with_still_clock(|| async {
        let bench = Bench::new(1, "", |seen, _| {
            let mut wrong_id = seen.addresses(60, &["203.0.113.66"]).remove(0);
            wrong_id.metadata.id = wrong_id.metadata.id.wrapping_add(1);
            let mut wrong_name = seen.addresses(60, &["203.0.113.66"]).remove(0);
            wrong_name.queries[0].set_name(Name::from_ascii("b.test.").unwrap());
            let right = seen.addresses(60, &["192.0.2.1"]).remove(0);
            let second = seen.addresses(60, &["203.0.113.66"]).remove(0);
            vec![wrong_id, wrong_name, right, second]
        })
        .await;
        let resolver = bench.resolver();
        let cell = resolver.cell(&name("a.test"));
        settled(&resolver).await;
        assert_eq!(**cell.load(), ips(&["192.0.2.1"]));
    });
}

#[test]
fn answers_from_elsewhere_are_ignored() {
    with_still_clock(|| async {
        let elsewhere = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let bench = Bench::new(1, "", move |seen, _| {
            // The forger even knows the id.
            let forged = seen.addresses(60, &["203.0.113.66"]).remove(0).to_vec().unwrap();
            elsewhere.send_to(&forged, seen.from).unwrap();
            seen.addresses(60, &["192.0.2.1"])
        })
        .await;
        let resolver = bench.resolver();
        let cell = resolver.cell(&name("a.test"));
        settled(&resolver).await;
        assert_eq!(**cell.load(), ips(&["192.0.2.1"]));
    });
}

#[test]
fn a_flood_of_wrong_answers_is_met_with_tcp() {
    with_still_clock(|| async {
        let bench = Bench::new(1, "", |seen, _| {
            let mut reply = seen.addresses(60, &["192.0.2.1"]).remove(0);
            if seen.transport == Transport::Udp {
                reply.metadata.id = reply.metadata.id.wrapping_add(1);
                return vec![reply; 8];
            }
            vec![reply]
        })
        .await;
        let resolver = bench.resolver();
        let cell = resolver.cell(&name("a.test"));
        settled(&resolver).await;
        assert_eq!(**cell.load(), ips(&["192.0.2.1"]));
    });
}

#[test]
fn what_does_not_fit_is_asked_again_over_tcp() {
    with_still_clock(|| async {
        let many: Vec<String> = (0..200).map(|n| format!("192.0.2.{n}")).collect();
        let expected: Vec<&str> = many.iter().map(String::as_str).collect();
        let all = many.clone();
        let bench = Bench::new(1, "", move |seen, _| {
            let all: Vec<&str> = all.iter().map(String::as_str).collect();
            let mut reply = seen.addresses(60, &all);
            if seen.transport == Transport::Udp {
                reply[0].metadata.truncation = true;
                reply[0].answers.truncate(5);
            }
            reply
        })
        .await;
        let resolver = bench.resolver();
        let cell = resolver.cell(&name("a.test"));
        settled(&resolver).await;
        assert_eq!(**cell.load(), ips(&expected));
    });
}

#[test]
fn use_vc_never_asks_over_udp() {
    with_still_clock(|| async {
        let bench = Bench::new(1, "options use-vc", |seen, _| seen.addresses(60, &["192.0.2.1"])).await;
        let resolver = bench.resolver();
        let cell = resolver.cell(&name("a.test"));
        settled(&resolver).await;
        assert_eq!(**cell.load(), ips(&["192.0.2.1"]));
        assert!(bench.servers.seen.borrow().iter().all(|seen| seen.transport == Transport::Tcp));
    });
}

#[test]
fn a_lost_packet_is_sent_again_from_another_port() {
    with_still_clock(|| async {
        let bench = Bench::new(1, "options timeout:3", |seen, before| match before {
            0 | 1 => Vec::new(),
            _ => seen.addresses(60, &["192.0.2.1"]),
        })
        .await;
        let resolver = bench.resolver();
        let cell = resolver.cell(&name("a.test"));
        eventually("both queries are out", || bench.servers.count() == 2).await;
        later(2).await;
        assert_eq!(bench.servers.count(), 2);
        later(2).await;
        settled(&resolver).await;
        assert_eq!(**cell.load(), ips(&["192.0.2.1"]));
        let seen = bench.servers.seen.borrow();
        let ports: HashSet<u16> = seen.iter().map(|seen| seen.from.port()).collect();
        assert_eq!(ports.len(), 4, "a new port for each query");
        let ids: HashSet<u16> = seen.iter().map(|seen| seen.message.metadata.id).collect();
        assert!(ids.len() > 1, "a new id for each query");
    });
}

#[test]
fn the_next_server_is_asked_when_the_first_fails() {
    type First = fn(&Seen) -> Vec<Message>;
    let silent: First = |_| Vec::new();
    let servfail: First = |seen| seen.code(ResponseCode::ServFail);
    let refused: First = |seen| seen.code(ResponseCode::Refused);
    for first in [silent, servfail, refused] {
        with_still_clock(|| async move {
            let bench = Bench::new(2, "", move |seen, _| match seen.server {
                0 => first(seen),
                _ => seen.addresses(60, &["192.0.2.1"]),
            })
            .await;
            let resolver = bench.resolver();
            let cell = resolver.cell(&name("a.test"));
            eventually("the first server was asked", || bench.servers.count() >= 2).await;
            later(6).await;
            settled(&resolver).await;
            assert_eq!(**cell.load(), ips(&["192.0.2.1"]));
        });
    }
}

#[test]
fn a_port_that_nobody_listens_on_fails_at_once() {
    with_still_clock(|| async {
        let bench = Bench::new(1, "", |seen, _| seen.addresses(60, &["192.0.2.1"])).await;
        bench.write("resolv.conf", "nameserver 127.0.0.77\nnameserver 127.0.0.1\n");
        let resolver = bench.resolver();
        let cell = resolver.cell(&name("a.test"));
        // The clock stands still: it is the ICMP error that sends it to the second server.
        settled(&resolver).await;
        assert_eq!(**cell.load(), ips(&["192.0.2.1"]));
    });
}

#[test]
fn rotate_spreads_names_over_the_servers() {
    with_still_clock(|| async {
        let bench = Bench::new(2, "options rotate", |seen, _| seen.addresses(60, &["192.0.2.1"])).await;
        let resolver = bench.resolver();
        for n in 0..4 {
            resolver.cell(&name(&format!("n{n}.test")));
        }
        settled(&resolver).await;
        let seen = bench.servers.seen.borrow();
        assert_eq!([0, 1].map(|server| seen.iter().filter(|seen| seen.server == server).count()), [4, 4]);
    });
}

#[test]
fn an_answer_is_renewed_ahead_of_its_end_and_published_when_the_set_changed() {
    with_still_clock(|| async {
        let bench = Bench::new(1, "", |seen, before| match before {
            0 | 1 => seen.addresses(100, &["192.0.2.1", "192.0.2.2"]),
            2 | 3 => seen.addresses(100, &["192.0.2.2", "192.0.2.1"]),
            _ => seen.addresses(100, &["192.0.2.3"]),
        })
        .await;
        let resolver = bench.resolver();
        let cell = resolver.cell(&name("a.test"));
        settled(&resolver).await;
        let first = cell.load_full();
        later(84).await;
        assert_eq!(bench.servers.count(), 2, "not before 85 % of the TTL");
        later(12).await;
        let renewed = || resolver.snapshot()[0].expires_in > Some(Duration::from_secs(50));
        eventually("renewed", renewed).await;
        assert!(std::sync::Arc::ptr_eq(&first, &cell.load_full()), "the same set in another order is not published");
        later(96).await;
        eventually("another set is published", || **cell.load() == ips(&["192.0.2.3"])).await;
    });
}

#[test]
fn an_answer_without_a_ttl_is_renewed_at_the_refresh_rate() {
    with_still_clock(|| async {
        let bench = Bench::new(1, "", |seen, _| seen.addresses(0, &["192.0.2.1"])).await;
        let resolver = bench.resolver();
        resolver.set_refresh_rate(Duration::from_secs(20));
        let _cell = resolver.cell(&name("a.test"));
        settled(&resolver).await;
        later(16).await;
        assert_eq!(bench.servers.count(), 2, "not before 85 % of the rate");
        later(4).await;
        eventually("renewed", || bench.servers.count() == 4).await;
        // Another rate holds at once: whoever slept by the old one looks again, and sleeps by the new one then.
        resolver.set_refresh_rate(Duration::from_secs(3600));
        eventually("looked up again", || bench.servers.count() == 6).await;
        let lives_long = || resolver.snapshot()[0].expires_in > Some(Duration::from_secs(3000));
        eventually("the new rate holds", lives_long).await;
        later(3000).await;
        assert_eq!(bench.servers.count(), 6);
        resolver.set_refresh_rate(Duration::from_secs(3600));
        later(1).await;
        assert_eq!(bench.servers.count(), 6, "the same rate changes nothing");
    });
}

#[test]
fn the_last_good_answer_is_kept_when_lookups_fail() {
    with_still_clock(|| async {
        let bench = Bench::new(1, "", |seen, before| match before {
            0 | 1 => seen.addresses(10, &["192.0.2.1"]),
            // Two families, two attempts, each with EDNS and without.
            2..=9 => seen.code(ResponseCode::ServFail),
            10..=13 => seen.code(ResponseCode::NXDomain),
            _ => seen.addresses(10, &["192.0.2.2"]),
        })
        .await;
        let resolver = bench.resolver();
        let cell = resolver.cell(&name("a.test"));
        settled(&resolver).await;
        let error = |text: &'static str| {
            let resolver = &resolver;
            move || resolver.snapshot()[0].last_error.as_deref().is_some_and(|error| error.contains(text))
        };
        later(11).await;
        eventually("the failure is told", error("SERVFAIL")).await;
        assert_eq!(**cell.load(), ips(&["192.0.2.1"]));
        assert_eq!(resolver.snapshot()[0].expires_in, Some(Duration::ZERO));
        later(1).await;
        eventually("no such name is told", error("NXDOMAIN")).await;
        assert_eq!(**cell.load(), ips(&["192.0.2.1"]));
        later(2).await;
        eventually("new addresses", || **cell.load() == ips(&["192.0.2.2"])).await;
        assert_eq!(resolver.snapshot()[0].last_error, None);
    });
}

#[test]
fn the_search_list_is_used_for_short_names_and_after_no_such_name() {
    with_still_clock(|| async {
        let extra = "search ns.svc svc\noptions ndots:3";
        let bench = Bench::new(1, extra, |seen, _| match &*seen.name {
            "db.svc." | "a.b.svc." | "full.test." => seen.addresses(60, &["192.0.2.1"]),
            "servfail.test." => seen.code(ResponseCode::ServFail),
            _ => seen.code(ResponseCode::NXDomain),
        })
        .await;
        let resolver = bench.resolver();
        let cells = ["db", "a.b", "full.test", "servfail.test"].map(|text| resolver.cell(&name(text)));
        settled(&resolver).await;
        let found = cells.map(|cell| cell.load().len());
        assert_eq!(found, [1, 1, 1, 0]);
        let seen = bench.servers.seen.borrow();
        let asked = |prefix: &str| {
            let names = seen.iter().filter(|seen| seen.is(&seen.name, RecordType::A)).map(|seen| seen.name.as_str());
            let mut names: Vec<_> = names.filter(|name| name.starts_with(prefix)).collect();
            // With EDNS and without.
            names.dedup();
            names
        };
        assert_eq!(asked("db."), ["db.ns.svc.", "db.svc."]);
        assert_eq!(asked("a.b."), ["a.b.", "a.b.ns.svc.", "a.b.svc."]);
        assert_eq!(asked("full."), ["full.test."]);
        assert_eq!(asked("servfail."), ["servfail.test."], "a failure is no reason to try other names");
    });
}

#[test]
fn the_hosts_file_comes_first_and_changes_are_noticed() {
    with_still_clock(|| async {
        let bench = Bench::new(1, "", |seen, _| seen.addresses(3600, &["192.0.2.1"])).await;
        bench.write("hosts", "127.0.0.1 a.test\n");
        let resolver = bench.resolver();
        let cell = resolver.cell(&name("a.test"));
        settled(&resolver).await;
        assert_eq!(**cell.load(), ips(&["127.0.0.1"]), "the pod's own file may lead to loopback");
        assert_eq!(bench.servers.count(), 0);

        bench.write("hosts", "10.0.0.7 a.test\n");
        later(5).await;
        eventually("the new line", || **cell.load() == ips(&["10.0.0.7"])).await;
        bench.write("hosts", "");
        later(5).await;
        eventually("the servers' answer", || **cell.load() == ips(&["192.0.2.1"])).await;
    });
}

#[test]
fn another_resolv_conf_is_noticed() {
    with_still_clock(|| async {
        let bench = Bench::new(2, "", |seen, _| seen.addresses(3600, &[["192.0.2.1", "192.0.2.2"][seen.server]])).await;
        let resolver = bench.resolver();
        let cell = resolver.cell(&name("a.test"));
        settled(&resolver).await;
        assert_eq!(**cell.load(), ips(&["192.0.2.1"]));
        bench.write("resolv.conf", "nameserver 127.0.0.2\n");
        later(5).await;
        eventually("the other server's answer", || **cell.load() == ips(&["192.0.2.2"])).await;
    });
}

#[test]
fn a_name_that_notices_a_change_itself_asks_once() {
    with_still_clock(|| async {
        let bench = Bench::new(2, "", |seen, _| seen.addresses(2, &[["192.0.2.1", "192.0.2.2"][seen.server]])).await;
        let resolver = bench.resolver();
        let cell = resolver.cell(&name("a.test"));
        settled(&resolver).await;
        bench.write("resolv.conf", "nameserver 127.0.0.2\n");
        later(2).await;
        eventually("the other server's answer", || **cell.load() == ips(&["192.0.2.2"])).await;
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(bench.servers.count(), 4);
    });
}

#[test]
fn a_family_without_a_route_is_not_asked_for() {
    with_still_clock(|| async {
        let bench = Bench::new(1, "", |seen, _| seen.addresses(60, &["192.0.2.1", "2001:db8::1"])).await;
        let resolver = Resolver::new(ResolverOptions { families: Families::V4, ..bench.options.clone() });
        let cell = resolver.cell(&name("a.test"));
        settled(&resolver).await;
        assert_eq!(**cell.load(), ips(&["192.0.2.1"]));
        assert!(bench.servers.seen.borrow().iter().all(|seen| seen.kind == RecordType::A));
    });
}

#[test]
fn no_aaaa_asks_for_ipv4_alone() {
    with_still_clock(|| async {
        let extra = "options no-aaaa";
        let bench = Bench::new(1, extra, |seen, _| seen.addresses(60, &["192.0.2.1", "2001:db8::1"])).await;
        bench.write("hosts", "2001:db8::7 listed.test");
        let resolver = bench.resolver();
        let cells = ["a.test", "listed.test"].map(|text| resolver.cell(&name(text)));
        settled(&resolver).await;
        assert_eq!(cells.map(|cell| cell.load().to_vec()), [ips(&["192.0.2.1"]), ips(&["2001:db8::7"])]);
        assert!(bench.servers.seen.borrow().iter().all(|seen| seen.kind == RecordType::A));
    });
}

#[test]
fn the_family_that_this_host_reaches_comes_first() {
    with_still_clock(|| async {
        let bench = Bench::new(1, "", |seen, _| seen.addresses(60, &["192.0.2.1", "2001:db8::2", "2001:db8::1"])).await;
        bench.write("hosts", "192.0.2.7 listed.test\n2001:db8::7 listed.test");
        let source_of = |ip: IpAddr| ip.is_ipv6().then_some(ip);
        let resolver = Resolver::new(ResolverOptions { source_of, ..bench.options.clone() });
        let cells = ["a.test", "listed.test"].map(|text| resolver.cell(&name(text)));
        settled(&resolver).await;
        let expected = [ips(&["2001:db8::2", "2001:db8::1", "192.0.2.1"]), ips(&["2001:db8::7", "192.0.2.7"])];
        assert_eq!(cells.map(|cell| cell.load().to_vec()), expected);
    });
}

#[test]
fn a_family_that_is_never_answered_does_not_hold_up_the_other() {
    with_still_clock(|| async {
        let bench = Bench::new(1, "", |seen, _| match seen.kind {
            RecordType::AAAA => Vec::new(),
            _ => seen.addresses(60, &["192.0.2.1"]),
        })
        .await;
        let resolver = bench.resolver();
        let cell = resolver.cell(&name("a.test"));
        eventually("both queries are out", || bench.servers.count() == 2).await;
        // Let the one answer arrive before the clock moves: the second family's second starts then.
        for _ in 0..4 {
            later(1).await;
        }
        settled(&resolver).await;
        assert_eq!(**cell.load(), ips(&["192.0.2.1"]));
    });
}

#[test]
fn lookups_in_flight_are_bounded() {
    with_still_clock(|| async {
        let mut bench = Bench::new(1, "options timeout:1 attempts:1", |_, _| Vec::new()).await;
        bench.options.lookups = 3;
        let resolver = bench.resolver();
        let cells: Vec<Addresses> = (0..10).map(|n| resolver.cell(&name(&format!("n{n}.test")))).collect();
        eventually("three names are asked for", || bench.servers.count() == 6).await;
        assert_eq!(resolver.settle(Duration::ZERO).await, 10);
        assert_eq!(resolver.shared.permits.available_permits(), 0);
        later(1).await;
        eventually("the next three follow", || bench.servers.count() == 12).await;
        assert_eq!(cells.len(), 10);
    });
}

#[test]
fn forgotten_names_are_not_asked_for_again() {
    with_still_clock(|| async {
        let bench = Bench::new(1, "", |seen, _| seen.addresses(10, &["192.0.2.1"])).await;
        let resolver = bench.resolver();
        let gone = resolver.cell(&name("gone.test"));
        resolver.cell(&name("stays.test"));
        settled(&resolver).await;
        resolver.retain(&HashSet::from([name("stays.test")]));
        later(10).await;
        eventually("the other is asked for again", || bench.servers.count() >= 6).await;
        let again = bench.servers.seen.borrow()[4..].iter().any(|seen| seen.name == "gone.test.");
        assert!(!again);
        assert_eq!(**gone.load(), ips(&["192.0.2.1"]), "whoever holds the cell keeps its addresses");
        assert_eq!(resolver.snapshot().len(), 1);

        resolver.cell(&name("never.test"));
        resolver.retain(&HashSet::new());
        assert_eq!(resolver.settle(Duration::from_secs(1)).await, 0, "a forgotten name holds nothing up");
        let tasks = Rc::downgrade(&resolver.shared);
        drop(resolver);
        eventually("every task has ended", || tasks.strong_count() == 0).await;
    });
}

#[test]
fn it_runs_on_tokio_uring() {
    tokio_uring::start(async {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("hosts"), "192.0.2.1 a.test").unwrap();
        let [resolv_conf, hosts] = ["resolv.conf", "hosts"].map(|file| dir.path().join(file));
        let resolver = Resolver::new(ResolverOptions { resolv_conf, hosts, ..ResolverOptions::default() });
        let cell = resolver.cell(&name("a.test"));
        assert_eq!(resolver.settle(Duration::from_secs(10)).await, 0);
        assert_eq!(**cell.load(), ips(&["192.0.2.1"]));
    });
}

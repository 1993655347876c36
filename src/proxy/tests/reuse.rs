//! How often and how long a server's connection is used.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use super::stage::{Site, Stage, address, http_entry, open, rule};
use super::talk::Talk;
use super::wire::Wire;
use crate::io::simulation::{Far, Host, World, for_each_seed};

const HOST: &str = "plain.example";

/// The connectionPool, what the server says in its answers, the seconds between requests, and of how many requests how many
/// have a connection of their own.
const CASES: [(&str, &str, u64, usize, usize); 12] = [
    ("{http: {idleTimeout: 1h}}", "", 0, 5, 1),
    ("{http: {maxRequestsPerConnection: 2}}", "", 0, 5, 3),
    ("{tcp: {maxConnections: 1}, http: {maxRequestsPerConnection: 1}}", "", 0, 3, 3),
    // A second before the server's limit nothing may be on the way any more.
    ("{tcp: {maxConnections: 9}}", "Keep-Alive: timeout=1\r\n", 0, 3, 3),
    ("{tcp: {maxConnections: 9}}", "keep-alive: max=9, Timeout=60\r\n", 0, 3, 1),
    ("{tcp: {maxConnections: 9}}", "Keep-Alive: timeout=10\r\n", 8, 3, 1),
    ("{tcp: {maxConnections: 9}}", "Keep-Alive: timeout=10\r\n", 10, 3, 3),
    // Pooled connections are idle for a minute, if nobody says otherwise.
    ("{tcp: {maxConnections: 9}}", "", 58, 3, 1),
    ("{tcp: {maxConnections: 9}}", "", 61, 3, 3),
    ("{http: {idleTimeout: 1h}}", "", 3_000, 3, 1),
    ("{http: {idleTimeout: 5s}}", "", 6, 3, 3),
    ("{tcp: {maxConnectionDuration: 10s}}", "", 4, 6, 2),
];

#[test]
fn connections_are_used_as_often_and_as_long_as_both_sides_allow() {
    for_each_seed(5, |seed| {
        for (pool, fields, pause, requests, expected) in CASES {
            println!("{pool}, {fields:?}, {requests} requests in {pause} s each");
            let site = Site::new().naming(HOST, &["203.0.113.1"]).with(&http_entry(HOST, 80, 80));
            let site = site.with(&rule(HOST, &format!("{{connectionPool: {pool}}}")));
            site.play(seed, async |stage| {
                let accepted = Rc::new(Cell::new(0));
                let count = Rc::clone(&accepted);
                stage.world.serve(address("203.0.113.1:80"), move |far| {
                    count.set(count.get() + 1);
                    async move {
                        let mut talk = Talk::new(Wire::plain(far));
                        while talk.request().await.is_ok_and(|request| request.is_some()) {
                            let answer = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 2\r\n\r\nok");
                            if talk.send(answer.as_bytes()).await.is_err() {
                                return;
                            }
                        }
                    }
                });
                let world = Rc::clone(&stage.world);
                stage.world.spawn(async move {
                    for _ in 0..requests {
                        // On a connection of its own: the application's may be idle for less.
                        let answer = open(&world, "203.0.113.9:80").get(HOST, "/").await.unwrap();
                        assert_eq!(answer.status, 200);
                        world.sleep(Duration::from_secs(pause)).await;
                    }
                    assert_eq!(accepted.get(), expected);
                });
            });
        }
    });
}

/// A server of which the test counts the connections.
#[derive(Default)]
struct Counted {
    accepted: Cell<usize>,
    ended: Cell<usize>,
}

/// Answers so many requests of each connection, and ends it when the next has come.
async fn serve_some(far: Far, requests: usize, counted: Rc<Counted>) {
    counted.accepted.set(counted.accepted.get() + 1);
    let mut talk = Talk::new(Wire::plain(far));
    for number in 0.. {
        if talk.request().await.is_err() || number >= requests {
            break;
        }
        if talk.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.is_err() {
            break;
        }
    }
    counted.ended.set(counted.ended.get() + 1);
}

fn serve_at(stage: &Stage, at: &str, requests: usize) -> Rc<Counted> {
    let counted = Rc::new(Counted::default());
    let of_server = Rc::clone(&counted);
    stage.world.serve(address(at), move |far| serve_some(far, requests, Rc::clone(&of_server)));
    counted
}

async fn status(world: &Rc<World>, method: &str) -> u16 {
    let mut talk = open(world, "203.0.113.9:80");
    let body = if method == "POST" { "Content-Length: 5\r\n\r\nhello" } else { "\r\n" };
    talk.send(format!("{method} / HTTP/1.1\r\nHost: {HOST}\r\n{body}").as_bytes()).await.unwrap();
    talk.answer_to(method).await.unwrap().status
}

#[test]
fn a_server_that_closes_unannounced_costs_one_request() {
    let site = Site::new().naming(HOST, &["203.0.113.1"]).with(&http_entry(HOST, 80, 80));
    for_each_seed(10, |seed| {
        site.play(seed, async |stage| {
            serve_at(stage, "203.0.113.1:80", 1);
            let world = Rc::clone(&stage.world);
            stage.spawn("all are answered", async move {
                assert_eq!(status(&world, "GET").await, 200);
                assert_eq!(status(&world, "POST").await, 503, "it cannot be sent again");
                for _ in 0..5 {
                    assert_eq!(status(&world, "GET").await, 200, "it is sent again");
                    assert_eq!(status(&world, "POST").await, 200, "it has a connection of its own from now on");
                }
            });
        });
    });
}

#[test]
fn an_idle_connection_to_one_endpoint_keeps_no_request_from_another() {
    let site = Site::new().naming(HOST, &["203.0.113.1", "203.0.113.2"]).with(&http_entry(HOST, 80, 80));
    let site =
        site.with(&rule(HOST, "{connectionPool: {tcp: {maxConnections: 1}}, loadBalancer: {simple: ROUND_ROBIN}}"));
    for_each_seed(10, |seed| {
        site.play(seed, async |stage| {
            let both = [serve_at(stage, "203.0.113.1:80", 9), serve_at(stage, "203.0.113.2:80", 9)];
            let world = Rc::clone(&stage.world);
            stage.spawn("all are answered", async move {
                for _ in 0..6 {
                    let asked = world.now();
                    assert_eq!(status(&world, "GET").await, 200);
                    assert!(world.now() - asked < Duration::from_secs(1), "it waited for an idle connection's end");
                }
                assert!(both.iter().all(|server| server.accepted.get() > 0), "both have been asked");
            });
        });
    });
}

#[test]
fn an_idle_connection_ends_though_nobody_asks_again() {
    let site = Site::new().naming(HOST, &["203.0.113.1"]).with(&http_entry(HOST, 80, 80));
    let site = site.with(&rule(HOST, "{connectionPool: {http: {idleTimeout: 5s}}}"));
    for_each_seed(10, |seed| {
        site.play(seed, async |stage| {
            let counted = serve_at(stage, "203.0.113.1:80", 9);
            let world = Rc::clone(&stage.world);
            stage.spawn("the end", async move {
                assert_eq!(status(&world, "GET").await, 200);
                world.sleep(Duration::from_secs(4)).await;
                assert_eq!(counted.ended.get(), 0);
                world.sleep(Duration::from_secs(3)).await;
                assert_eq!(counted.ended.get(), 1);
            });
        });
    });
}

/// A name with addresses of two families, of which one does not answer: the other has a head start of 250 ms to wait for,
/// once.
#[test]
fn an_address_that_did_not_answer_is_not_waited_for_again() {
    let site = Site::new().naming(HOST, &["2001:db8::1", "203.0.113.1"]).with(&http_entry(HOST, 80, 80));
    let site = site.with(&rule(HOST, "{connectionPool: {http: {maxRequestsPerConnection: 1}}}"));
    for_each_seed(10, |seed| {
        site.play(seed, async |stage| {
            stage.world.host(address("[2001:db8::1]:80"), || Host::Silent);
            let counted = serve_at(stage, "203.0.113.1:80", 9);
            let world = Rc::clone(&stage.world);
            stage.spawn("all are answered", async move {
                let mut times = Vec::new();
                for _ in 0..3 {
                    let asked = world.now();
                    assert_eq!(status(&world, "GET").await, 200);
                    times.push(world.now() - asked);
                }
                let head_start = Duration::from_millis(250);
                assert!(times[0] >= head_start && times[1..].iter().all(|time| *time < head_start), "{times:?}");
                assert_eq!(counted.accepted.get(), 3);
            });
        });
    });
}

/// A server that speaks before it is asked is no HTTP server: where its words come with the end of the handshake, they are no
/// answer to a request that it has not seen.
#[test]
fn what_a_server_says_first_is_no_answer() {
    let site = Site::new().naming(HOST, &["203.0.113.1"]).with(&http_entry(HOST, 80, 443));
    let tls = format!("{{tls: {{mode: SIMPLE, caCertificates: {}}}}}", site.ca_file());
    let site = site.with(&rule(HOST, &tls));
    // Its last message of the handshake is the last of all in TLS 1.2.
    let server = site.server_config_of(HOST, &[&rustls::version::TLS12]);
    let refused = Cell::new(0);
    for_each_seed(30, |seed| {
        let (_, found) = site.play(seed, async |stage| {
            let server = server.clone();
            stage.world.serve(address("203.0.113.1:443"), move |far| {
                let server = server.clone();
                async move {
                    let Ok(wire) = Wire::accept(far, &server).await else { return };
                    let _ = wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst").await;
                    while wire.recv().await.is_ok_and(|bytes| !bytes.is_empty()) {}
                }
            });
            let world = Rc::clone(&stage.world);
            stage.spawn("an answer", async move {
                let _ = open(&world, "203.0.113.9:80").get(HOST, "/").await;
            });
            stage.world.ended().await;
            // Tried again on another connection.
            stage.counters.upstream_connect_failures.get()
        });
        refused.set(refused.get() + found);
    });
    assert!(refused.get() > 0 || std::env::var_os("EGRET_SEED").is_some(), "nobody was found out");
}

/// What may be over already is not used by what cannot be sent twice, and makes room for what is.
#[test]
fn pauses_between_bodies_leave_no_heap_of_connections() {
    let site = Site::new().naming(HOST, &["203.0.113.1"]).with(&http_entry(HOST, 80, 80));
    for_each_seed(10, |seed| {
        site.play(seed, async |stage| {
            let counted = serve_at(stage, "203.0.113.1:80", 9);
            let world = Rc::clone(&stage.world);
            stage.spawn("all are answered", async move {
                for number in 1..=6 {
                    assert_eq!(status(&world, "POST").await, 200);
                    world.sleep(Duration::from_secs(2)).await;
                    assert_eq!((counted.accepted.get(), counted.ended.get()), (number, number - 1));
                }
            });
        });
    });
}

/// A kept connection was verified under a policy that is no more: it ends at once, not when it has been idle for long.
#[test]
fn a_kept_connection_does_not_outlive_its_policy() {
    let before = Site::new().naming(HOST, &["203.0.113.1"]).with(&http_entry(HOST, 80, 443));
    let tls = format!("{{tls: {{mode: SIMPLE, caCertificates: {}}}}}", before.ca_file());
    let before = before.with(&rule(HOST, &tls));
    let server = before.server_config(HOST);
    // Another name is asked for, which makes another profile.
    let after = Site::new().naming(HOST, &["203.0.113.1"]).with(&http_entry(HOST, 80, 443));
    let other = format!("{{tls: {{mode: SIMPLE, sni: other.example, caCertificates: {}}}}}", before.ca_file());
    let after = after.with(&rule(HOST, &other));
    for_each_seed(10, |seed| {
        before.play(seed, async |stage| {
            let ended = Rc::new(Cell::new(None));
            let (told, server) = (Rc::clone(&ended), server.clone());
            stage.world.serve(address("203.0.113.1:443"), move |far| {
                let (told, server, world) = (Rc::clone(&told), server.clone(), Rc::clone(far.world()));
                async move {
                    let Ok(wire) = Wire::accept(far, &server).await else { return };
                    let mut talk = Talk::new(wire);
                    while talk.request().await.is_ok_and(|request| request.is_some()) {
                        talk.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
                    }
                    told.set(Some(world.now()));
                }
            });
            let asked = async |what: &'static str| {
                let (world, done) = (Rc::clone(&stage.world), Rc::new(Cell::new(0)));
                let status = Rc::clone(&done);
                stage.spawn(what, async move {
                    status.set(open(&world, "203.0.113.9:80").get(HOST, "/").await.unwrap().status);
                });
                stage.world.ended().await;
                done.get()
            };
            assert_eq!(asked("the first answer").await, 200);
            stage.policy.publish(after.table());
            stage.context.upstreams.policy_changed(&stage.policy.load());
            let changed = stage.world.now();
            crate::io::sleep(Duration::from_millis(500)).await;
            assert!(ended.get().is_some_and(|at| at - changed < Duration::from_millis(500)), "it is still open");
            assert_eq!(asked("the second answer").await, 200);
        });
    });
}

//! The life of connections to servers that many requests share: how long they are kept, how many streams they take, and what
//! becomes of streams when they end. Each request's answer is its own, whatever happens to the connection.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;

use super::http2_ends::{self, Manner, Stream};
use super::stage::{Site, Stage, address, http_entry, open, rule};
use super::wire::Wire;
use crate::io::simulation::{Host, World, for_each_seed};

pub(super) const HOST: &str = "web.example";
pub(super) const SERVER: &str = "203.0.113.1:80";

/// A server of HTTP/2 without TLS, its policy in flow style.
pub(super) fn site(policy: &str) -> Site {
    let entry = http_entry(HOST, 80, 80).replace("protocol: HTTP", "protocol: HTTP2");
    let site = Site::new().naming(HOST, &["203.0.113.1"]).with(&entry);
    if policy.is_empty() { site } else { site.with(&rule(HOST, policy)) }
}

/// A GET of HTTP/1.1 on a connection of its own: the status, 0 when there was none.
pub(super) async fn get(world: &Rc<World>, path: &str) -> u16 {
    open(world, "203.0.113.9:80").get(HOST, path).await.map_or(0, |answer| answer.status)
}

/// Counts connections and streams of a server.
#[derive(Clone, Default)]
struct Seen {
    connections: Rc<Cell<usize>>,
    ended: Rc<Cell<usize>>,
    active: Rc<Cell<usize>>,
    most: Rc<Cell<usize>>,
}

impl Seen {
    fn begin(&self) {
        self.active.set(self.active.get() + 1);
        self.most.set(self.most.get().max(self.active.get()));
    }

    fn end(&self) {
        self.active.set(self.active.get() - 1);
    }
}

/// A server whose streams `handle` answers; each connection is counted at its beginning and at its end.
fn host<F: Future<Output = ()> + 'static>(
    stage: &Stage,
    manner: Manner,
    seen: &Seen,
    handle: impl Fn(Stream) -> F + Clone + 'static,
) {
    let seen = seen.clone();
    stage.world.serve(address(SERVER), move |far| {
        let (seen, handle) = (seen.clone(), handle.clone());
        seen.connections.set(seen.connections.get() + 1);
        async move {
            http2_ends::serve(Wire::plain(far), manner, handle).await;
            seen.ended.set(seen.ended.get() + 1);
        }
    });
}

async fn answer_at_once(mut stream: Stream) {
    stream.body().await;
    stream.answer("ok");
}

/// The policy, seconds between requests, how many there are, and connections that they take.
const CASES: [(&str, u64, usize, usize); 6] = [
    ("", 3, 4, 1),
    ("{connectionPool: {http: {idleTimeout: 5s}}}", 3, 4, 1),
    ("{connectionPool: {http: {idleTimeout: 5s}}}", 7, 4, 4),
    ("{connectionPool: {http: {maxRequestsPerConnection: 2}}}", 0, 6, 3),
    ("{connectionPool: {tcp: {maxConnectionDuration: 10s}}}", 4, 6, 2),
    // Pooled connections are kept for a minute.
    ("", 62, 3, 3),
];

#[test]
fn connections_are_used_as_often_and_as_long_as_the_policy_allows() {
    for_each_seed(2, |seed| {
        for (policy, pause, requests, expected) in CASES {
            println!("{policy}, {requests} requests in {pause} s each");
            let seen = Seen::default();
            site(policy).play(seed, async |stage| {
                host(stage, Manner::default(), &seen, answer_at_once);
                let world = Rc::clone(&stage.world);
                stage.world.spawn(async move {
                    for _ in 0..requests {
                        assert_eq!(get(&world, "/").await, 200);
                        world.sleep(Duration::from_secs(pause)).await;
                    }
                });
            });
            assert_eq!((seen.connections.get(), seen.ended.get()), (expected, expected), "{policy}");
        }
    });
}

/// A stream on which nothing moves, on a connection on which nothing but PING does.
#[test]
fn a_stream_may_be_idle_for_an_hour() {
    let settings = "apiVersion: egret/v1\nkind: Settings\nspec: {idleTimeout: 2h}\n";
    let site = site("{connectionPool: {http: {http2KeepAlive: {interval: 60s, timeout: 5s}}}}").with(settings);
    for_each_seed(1, |seed| {
        let seen = Seen::default();
        site.play(seed, async |stage| {
            let world = Rc::clone(&stage.world);
            host(stage, Manner::default(), &seen, move |mut stream: Stream| {
                let world = Rc::clone(&world);
                async move {
                    let mut sent = stream.respond.send_response(http::Response::new(()), false).unwrap();
                    sent.send_data(Bytes::from_static(b"before "), false).unwrap();
                    world.sleep(Duration::from_secs(3600)).await;
                    sent.send_data(Bytes::from_static(b"and after"), true).unwrap();
                }
            });
            let world = Rc::clone(&stage.world);
            stage.world.spawn(async move {
                let wire = Wire::plain(world.connect(address("203.0.113.9:80")));
                http2_ends::speak(wire, async |send| {
                    let got = http2_ends::ask(&send, "GET", "http://web.example/", &[], b"").await.unwrap();
                    assert_eq!((got.status, &got.body[..], got.trailers.is_none()), (200, "before and after", true));
                })
                .await;
            });
        });
        assert_eq!(seen.connections.get(), 1);
    });
}

/// A server may take fewer streams than is assumed before it has said so: what is too much waits, and nothing is refused.
#[test]
fn streams_wait_for_the_servers_settings() {
    for_each_seed(10, |seed| {
        let seen = Seen::default();
        site("").play(seed, async |stage| {
            let (world, of_server) = (Rc::clone(&stage.world), seen.clone());
            let manner = Manner { max_streams: Some(2), ..Manner::default() };
            host(stage, manner, &seen, move |mut stream: Stream| {
                let (world, seen) = (Rc::clone(&world), of_server.clone());
                async move {
                    seen.begin();
                    world.sleep(Duration::from_millis(300)).await;
                    seen.end();
                    stream.answer("ok");
                }
            });
            for _ in 0..8 {
                let (world, counters) = (Rc::clone(&stage.world), Arc::clone(&stage.counters));
                stage.spawn("an answer", async move {
                    assert_eq!(get(&world, "/").await, 200);
                    assert_eq!(counters.requests_retried.get(), 0, "a stream was refused");
                });
            }
        });
        assert!(seen.most.get() <= 2 * seen.connections.get() && seen.connections.get() >= 2);
    });
}

/// Of one connection with two streams, where two requests may wait: the fifth is refused.
#[test]
fn what_may_not_wait_is_refused() {
    let policy =
        "{connectionPool: {tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 2, maxConcurrentStreams: 2}}}";
    for_each_seed(5, |seed| {
        let seen = Seen::default();
        let (log, ()) = site(policy).play(seed, async |stage| {
            let (world, of_server) = (Rc::clone(&stage.world), seen.clone());
            host(stage, Manner::default(), &seen, move |mut stream: Stream| {
                let (world, seen) = (Rc::clone(&world), of_server.clone());
                async move {
                    seen.begin();
                    if stream.path() == "/slow" {
                        world.sleep(Duration::from_secs(5)).await;
                    }
                    seen.end();
                    stream.answer("ok");
                }
            });
            let (world, of_server) = (Rc::clone(&stage.world), seen.clone());
            let whole = Rc::clone(&stage.world);
            stage.spawn("all of it", async move {
                assert_eq!(get(&world, "/first").await, 200);
                for _ in 0..4 {
                    let world = Rc::clone(&whole);
                    whole.spawn(async move { assert_eq!(get(&world, "/slow").await, 200) });
                    // In turn: two have streams, two wait.
                    whole.sleep(Duration::from_millis(500)).await;
                }
                assert_eq!(of_server.active.get(), 2);
                assert_eq!(get(&world, "/late").await, 503);
            });
        });
        assert_eq!((seen.most.get(), seen.connections.get()), (2, 1));
        let line = log.iter().find(|line| line.contains("/late")).expect("its line");
        assert!(line.contains(" UO "), "{line}");
    });
}

/// An idle connection elsewhere in a cluster with room for one keeps nobody from going out.
#[test]
fn an_idle_connection_gives_way() {
    let policy = "{loadBalancer: {simple: ROUND_ROBIN}, connectionPool: {tcp: {maxConnections: 1}}}";
    let entry = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: web}\nspec:\n  hosts: [web.example]\n  \
                 ports: [{number: 80, name: h2, protocol: HTTP2}]\n  resolution: STATIC\n  endpoints: [{address: 203.0.113.1}, \
                 {address: 203.0.113.2}]\n";
    let site = Site::new().naming(HOST, &["203.0.113.1"]).with(entry).with(&rule(HOST, policy));
    for_each_seed(5, |seed| {
        let used = Rc::new(RefCell::new([0, 0]));
        site.play(seed, async |stage| {
            for (at, place) in ["203.0.113.1:80", "203.0.113.2:80"].into_iter().enumerate() {
                let used = Rc::clone(&used);
                stage.world.serve(address(place), move |far| {
                    used.borrow_mut()[at] += 1;
                    http2_ends::serve(Wire::plain(far), Manner::default(), answer_at_once)
                });
            }
            let world = Rc::clone(&stage.world);
            stage.spawn("six answers", async move {
                for _ in 0..6 {
                    assert_eq!(get(&world, "/").await, 200);
                }
            });
        });
        assert_eq!(*used.borrow(), [3, 3]);
    });
}

/// What a policy no longer trusts takes no further requests; those that run end on it.
#[test]
fn a_connection_of_a_retired_profile_drains() {
    let site = || Site::new().naming(HOST, &["203.0.113.1"]);
    for_each_seed(3, |seed| {
        let before = site();
        let entry = http_entry(HOST, 80, 443).replace("protocol: HTTP", "protocol: HTTP2");
        let tls = |more: &str| format!("{{tls: {{mode: SIMPLE, caCertificates: {}{more}}}}}", before.ca_file());
        let yaml = |more: &str| format!("---\n{entry}---\n{}", rule(HOST, &tls(more)));
        let after = site().with(&yaml(", subjectAltNames: [web.example]"));
        let mut config = (*before.server_config(HOST)).clone();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let (config, yaml) = (Arc::new(config), yaml(""));
        let before = before.with(&yaml);
        let seen = Seen::default();
        before.play(seed, async |stage| {
            let (world, of_server) = (Rc::clone(&stage.world), seen.clone());
            stage.world.serve(address("203.0.113.1:443"), move |far| {
                let (config, world, seen) = (Arc::clone(&config), Rc::clone(&world), of_server.clone());
                seen.connections.set(seen.connections.get() + 1);
                async move {
                    let Ok(wire) = Wire::accept(far, &config).await else { return };
                    let handle = move |mut stream: Stream| {
                        let world = Rc::clone(&world);
                        async move {
                            if stream.path() == "/slow" {
                                world.sleep(Duration::from_secs(5)).await;
                            }
                            stream.answer("ok");
                        }
                    };
                    http2_ends::serve(wire, Manner::default(), handle).await;
                    seen.ended.set(seen.ended.get() + 1);
                }
            });
            let world = Rc::clone(&stage.world);
            stage.spawn("the slow one", async move { assert_eq!(get(&world, "/slow").await, 200) });
            let (world, of_server) = (Rc::clone(&stage.world), seen.clone());
            while of_server.connections.get() == 0 {
                crate::io::sleep(Duration::from_millis(10)).await;
            }
            crate::io::sleep(Duration::from_secs(1)).await;
            stage.policy.publish(after.table());
            stage.context.upstreams.policy_changed(&stage.policy.load());
            stage.spawn("another connection", async move {
                assert_eq!(get(&world, "/").await, 200);
                assert_eq!((of_server.connections.get(), of_server.ended.get()), (2, 0));
                // Its last stream is over by then, long before it would have been idle for too long.
                world.sleep(Duration::from_secs(8)).await;
                assert_eq!(of_server.ended.get(), 1);
            });
        });
    });
}

/// Who waits for a connect that its owner gives up connects himself.
#[test]
fn a_connect_that_is_given_up_keeps_nobody_waiting() {
    for_each_seed(5, |seed| {
        site("").play(seed, async |stage| {
            let asked = Rc::new(Cell::new(0));
            let count = Rc::clone(&asked);
            let serving = Host::serving(|far| http2_ends::serve(Wire::plain(far), Manner::default(), answer_at_once));
            stage.world.host(address(SERVER), move || {
                count.set(count.get() + 1);
                if count.get() == 1 { Host::Silent } else { serving.clone() }
            });
            let world = Rc::clone(&stage.world);
            stage.spawn("who gives up", async move {
                let talk = open(&world, "203.0.113.9:80");
                talk.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes()).await.unwrap();
                while asked.get() == 0 {
                    world.sleep(Duration::from_millis(10)).await;
                }
                let waiting = Rc::clone(&world);
                world.spawn(async move {
                    let begun = waiting.now();
                    assert_eq!(get(&waiting, "/").await, 200);
                    // connectTimeout is ten seconds.
                    assert!(waiting.now() - begun < Duration::from_secs(5));
                });
                world.sleep(Duration::from_secs(1)).await;
                talk.wire.far.reset();
            });
        });
    });
}

/// An application that leaves, or a stream that it resets, is cancelled at the server at once.
#[test]
fn who_leaves_is_cancelled_at_the_server() {
    for_each_seed(5, |seed| {
        for way in ["stream", "connection", "HTTP/1.1"] {
            let reasons = Rc::new(RefCell::new(Vec::new()));
            site("").play(seed, async |stage| {
                let told = Rc::clone(&reasons);
                host(stage, Manner::default(), &Seen::default(), move |mut stream: Stream| {
                    let told = Rc::clone(&told);
                    async move {
                        let reason = poll_fn(|cx| stream.respond.poll_reset(cx)).await;
                        told.borrow_mut().push(reason.ok());
                    }
                });
                let (world, reasons) = (Rc::clone(&stage.world), Rc::clone(&reasons));
                stage.spawn(way, async move {
                    let is_told = async |world: &Rc<World>| {
                        while reasons.borrow().is_empty() {
                            world.sleep(Duration::from_millis(10)).await;
                        }
                    };
                    if way == "HTTP/1.1" {
                        let talk = open(&world, "203.0.113.9:80");
                        talk.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes()).await.unwrap();
                        world.sleep(Duration::from_secs(1)).await;
                        talk.wire.far.reset();
                        return is_told(&world).await;
                    }
                    let wire = Wire::plain(world.connect(address("203.0.113.9:80")));
                    http2_ends::speak(wire, async |send| {
                        let asking = http2_ends::ask(&send, "GET", "http://web.example/", &[], b"");
                        let given_up = world.sleep(Duration::from_secs(1));
                        futures_lite::future::or(async { drop(asking.await) }, given_up).await;
                        if way == "stream" {
                            is_told(&world).await;
                        }
                    })
                    .await;
                    is_told(&world).await;
                });
            });
            assert_eq!(*reasons.borrow(), [Some(Reason::CANCEL)], "{way}");
        }
    });
}

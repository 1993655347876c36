//! How often and how long a server's connection is used.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use super::stage::{Site, address, http_entry, open, rule};
use super::talk::Talk;
use super::wire::Wire;
use crate::io::simulation::for_each_seed;

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

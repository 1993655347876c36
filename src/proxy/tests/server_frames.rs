//! Servers of HTTP/2 that write their frames themselves: what a library would not send, or not at that moment.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::shared_connections::{HOST, SERVER, get, site};
use super::stage::{address, open};
use super::talk::Talk;
use super::wire::Wire;
use crate::io::simulation::{Far, for_each_seed};

/// A server that writes its frames itself.
struct RawServer(Talk);

impl RawServer {
    async fn accept(far: Far) -> Self {
        let mut talk = Talk::new(Wire::plain(far));
        talk.exactly(24).await.unwrap();
        let server = Self(talk);
        server.send(4, 0, 0, &[]).await;
        server
    }

    async fn send(&self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
        // The other end may be gone.
        let _ = self.0.send(&[&head, payload].concat()).await;
    }

    /// The next HEADERS frame's stream; `None` at the end.
    async fn next_request(&mut self) -> Option<u32> {
        loop {
            let head = self.0.exactly(9).await.ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            self.0.exactly(length as usize).await.ok()?;
            if head[3] == 1 {
                return Some(u32::from_be_bytes([head[5], head[6], head[7], head[8]]));
            }
        }
    }

    /// `:status: 200` (RFC 7541 appendix A, entry 8), and no body.
    async fn answer(&self, stream: u32) {
        self.send(1, 0x5, stream, &[0x88]).await;
    }
}

/// A server that has said enough stops the request's body without an error, and its answer counts (RFC 9113 §8.1).
#[test]
fn an_answer_before_the_end_of_the_body_counts() {
    for_each_seed(5, |seed| {
        site("").play(seed, async |stage| {
            stage.world.serve(address(SERVER), |far| async move {
                let mut server = RawServer::accept(far).await;
                while let Some(stream) = server.next_request().await {
                    // `:status: 413`, its name from the table (RFC 7541 §6.2.2).
                    server.send(1, 0x4, stream, b"\x08\x03413").await;
                    server.send(0, 0x1, stream, b"too much").await;
                    server.send(3, 0, stream, &[0; 4]).await;
                }
            });
            let world = Rc::clone(&stage.world);
            stage.spawn("an answer", async move {
                let mut talk = open(&world, "203.0.113.9:80");
                let head = format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 1000000\r\n\r\n");
                talk.send(head.as_bytes()).await.unwrap();
                let answer = talk.answer_to("POST").await.unwrap();
                assert_eq!((answer.status, &answer.body[..]), (413, &b"too much"[..]));
            });
        });
    });
}

/// Streams above the last that a goodbye names were not looked at: they are sent again, and the others end.
#[test]
fn streams_above_the_last_of_a_goodbye_are_sent_again() {
    for_each_seed(10, |seed| {
        let retried = Rc::new(Cell::new(0));
        site("").play(seed, async |stage| {
            let connections = Rc::new(Cell::new(0));
            stage.world.serve(address(SERVER), move |far| {
                connections.set(connections.get() + 1);
                let is_first = connections.get() == 1;
                async move {
                    let mut server = RawServer::accept(far).await;
                    if is_first {
                        let first = server.next_request().await.unwrap();
                        for _ in 0..3 {
                            server.next_request().await.unwrap();
                        }
                        let last = [&first.to_be_bytes()[..], &[0; 4]].concat();
                        server.send(7, 0, 0, &last).await;
                        server.answer(first).await;
                    }
                    while let Some(stream) = server.next_request().await {
                        server.answer(stream).await;
                    }
                }
            });
            for _ in 0..4 {
                let (world, counters, retried) =
                    (Rc::clone(&stage.world), Arc::clone(&stage.counters), Rc::clone(&retried));
                stage.spawn("an answer", async move {
                    assert_eq!(get(&world, "/").await, 200);
                    retried.set(counters.requests_retried.get());
                });
            }
        });
        assert_eq!(retried.get(), 3);
    });
}

/// A server that goes silent with streams open is given up when it does not answer a PING.
#[test]
fn a_silent_server_fails_its_streams_in_time() {
    let site = site("{connectionPool: {http: {http2KeepAlive: {interval: 5s, timeout: 2s}}}}");
    for_each_seed(5, |seed| {
        let (log, ()) = site.play(seed, async |stage| {
            stage.world.serve(address(SERVER), |far| async move {
                let mut server = RawServer::accept(far).await;
                while server.next_request().await.is_some() {}
            });
            for _ in 0..2 {
                let world = Rc::clone(&stage.world);
                stage.spawn("a failure", async move {
                    let begun = world.now();
                    let mut talk = open(&world, "203.0.113.9:80");
                    // What may not be sent twice.
                    let request = format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 0\r\n\r\n");
                    talk.send(request.as_bytes()).await.unwrap();
                    assert_eq!(talk.answer_to("POST").await.unwrap().status, 503);
                    let taken = world.now() - begun;
                    assert!(taken >= Duration::from_secs(7) && taken < Duration::from_secs(9), "{taken:?}");
                });
            }
        });
        assert!(log.iter().all(|line| line.contains("the_server_did_not_answer_a_PING_in_time")), "{log:?}");
    });
}

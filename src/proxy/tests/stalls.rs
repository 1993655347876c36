//! Applications and servers that read slowly or not at all, answers that are early or cut: what is under way stays bounded,
//! what was sent arrives, and an end that is no end can be seen.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;

use super::stage::{Site, address, http_entry, open, rule};
use super::talk::Talk;
use super::wire::Wire;
use crate::io::simulation::{Far, Random, World, for_each_seed};

const HOST: &str = "plain.example";
const SECURE: &str = "secure.example";

/// What egret and the kernels on both sides may hold of one body, at the most that a seed gives them.
const UNDER_WAY: usize = 600_000;

fn site() -> Site {
    Site::new().naming(HOST, &["203.0.113.1"]).with(&http_entry(HOST, 80, 80))
}

/// With a host over TLS as well, and what its server answers handshakes with.
fn secure_site() -> (Site, Arc<ServerConfig>) {
    let site = site().naming(SECURE, &["203.0.113.2"]).with(&http_entry(SECURE, 80, 443));
    let rule = rule(SECURE, &format!("{{tls: {{mode: SIMPLE, caCertificates: {}}}}}", site.ca_file()));
    let site = site.with(&rule);
    let config = site.server_config(SECURE);
    (site, config)
}

fn content(length: usize) -> Vec<u8> {
    (0..length).map(|place| (place.wrapping_mul(0x9E37_79B1) >> 13) as u8).collect()
}

/// Reads `count` bytes of `wanted` slowly, and says how many have been read.
async fn read_slowly(world: &World, talk: &mut Talk, wanted: &[u8], read: &Cell<usize>) {
    let piece = world.random(|random| random.one_of(&[3000, 20_000]));
    for part in wanted.chunks(piece) {
        let got = talk.exactly(part.len()).await.unwrap();
        assert!(got == part, "something else comes within {piece} bytes of {}", read.get());
        read.set(read.get() + part.len());
        world.sleep(Duration::from_micros(world.random(|random| random.below(4000)))).await;
    }
}

/// Sends `bytes`, never more than [`UNDER_WAY`] ahead of who reads.
async fn send_ahead(talk: &Talk, bytes: &[u8], read: &Cell<usize>) {
    let mut sent = 0;
    for part in bytes.chunks(10_000) {
        talk.send(part).await.unwrap();
        sent += part.len();
        assert!(sent - read.get() <= UNDER_WAY, "{sent} bytes were taken, and {} have been read", read.get());
    }
}

#[test]
fn a_slow_reader_slows_the_sender() {
    const LENGTH: usize = 1_500_000;
    let site = site();
    for_each_seed(8, |seed| {
        site.play(seed, async |stage| {
            let read = Rc::new(Cell::new(0));
            let (uploads, body) = (stage.world.random(|random| random.one_in(2)), Rc::new(content(LENGTH)));
            let (world, of_server, sent) = (Rc::clone(&stage.world), Rc::clone(&read), Rc::clone(&body));
            stage.world.serve(address("203.0.113.1:80"), move |far| {
                let (world, read, body) = (Rc::clone(&world), Rc::clone(&of_server), Rc::clone(&sent));
                async move {
                    let mut talk = Talk::new(Wire::plain(far));
                    talk.head().await.unwrap();
                    if uploads {
                        read_slowly(&world, &mut talk, &body, &read).await;
                        talk.send(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
                    } else {
                        talk.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n").as_bytes())
                            .await
                            .unwrap();
                        send_ahead(&talk, &body, &read).await;
                    }
                }
            });
            let world = Rc::clone(&stage.world);
            stage.world.spawn(async move {
                let mut talk = open(&world, "203.0.113.1:80");
                let length = if uploads { LENGTH } else { 0 };
                let head = format!("PUT / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {length}\r\n\r\n");
                talk.send(head.as_bytes()).await.unwrap();
                if uploads {
                    send_ahead(&talk, &body, &read).await;
                    assert_eq!(talk.answer_to("PUT").await.unwrap().status, 204);
                } else {
                    talk.head().await.unwrap();
                    read_slowly(&world, &mut talk, &body, &read).await;
                }
            });
        });
    });
}

/// How a server ends its connection in or behind its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// In order: over TLS, with close_notify.
    Orderly,
    /// FIN, and its process ends.
    Gone,
    Reset,
}

#[derive(Clone, Copy, Debug)]
struct Cut {
    /// Nothing tells the answer's length but its end.
    until_close: bool,
    /// Over TLS, whose end is close_notify.
    is_secure: bool,
    length: usize,
    /// What is sent of it.
    sent: usize,
    end: End,
}

#[test]
fn what_came_is_delivered_and_a_cut_can_be_seen() {
    let (site, tls) = secure_site();
    for_each_seed(120, |seed| {
        let mut random = Random::new(seed);
        let length = random.one_of(&[1, 1000, 40_000]);
        let sent = if random.one_in(3) { length } else { random.below(length as u64) as usize };
        let end = random.one_of(&[End::Orderly, End::Gone, End::Reset]);
        let cut = Cut { until_close: random.one_in(2), is_secure: random.one_in(2), length, sent, end };
        println!("{cut:?}");
        site.play(seed, async |stage| {
            for (at, tls) in [("203.0.113.1:80", None), ("203.0.113.2:443", Some(Arc::clone(&tls)))] {
                stage.world.serve(address(at), move |far| send_cut(far, tls.clone(), cut));
            }
            let world = Rc::clone(&stage.world);
            stage.spawn(format!("{cut:?}"), async move { read_cut(&world, cut).await });
        });
    });
}

async fn send_cut(far: Far, tls: Option<Arc<ServerConfig>>, cut: Cut) {
    let wire = match tls {
        None => Wire::plain(far),
        Some(config) => Wire::accept(far, &config).await.unwrap(),
    };
    let mut talk = Talk::new(wire);
    talk.head().await.unwrap();
    let framing = if cut.until_close { String::new() } else { format!("Content-Length: {}\r\n", cut.length) };
    talk.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n").as_bytes()).await.unwrap();
    talk.send(&content(cut.length)[..cut.sent]).await.unwrap();
    match cut.end {
        End::Orderly => talk.wire.finish().await,
        End::Gone => {}
        End::Reset => {
            talk.wire.far.delivered().await;
            talk.wire.far.reset();
        }
    }
}

async fn read_cut(world: &Rc<World>, cut: Cut) {
    let mut talk = open(world, "203.0.113.9:80");
    let host = if cut.is_secure { SECURE } else { HOST };
    talk.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).await.unwrap();
    let head = talk.head().await.unwrap().unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let got = Cell::new(0);
    read_slowly(world, &mut talk, &content(cut.length)[..cut.sent], &got).await;
    // Without close_notify anybody could have made the end (RFC 9112 §9.8).
    let is_in_order = cut.end == End::Orderly || cut.end == End::Gone && !cut.is_secure;
    let is_whole = if cut.until_close { is_in_order } else { cut.sent == cut.length };
    if is_whole && !cut.until_close {
        // It is complete, whatever became of the server's connection.
        return;
    }
    match talk.rest().await {
        Ok(rest) => assert!(rest.is_empty() && (is_whole || !cut.until_close), "the cut cannot be seen"),
        Err(_) => assert!(!is_whole, "what is whole ends in order"),
    }
}

/// An answer, and bytes, whose end comes without close_notify: whether it counts, the settings say, or whoever owns the entry
/// or the rule.
#[test]
fn an_end_without_close_notify_counts_where_that_is_said() {
    let of_entry = |word: &str| {
        let (mut site, tls) = secure_site();
        let annotated = format!("metadata: {{annotations: {{egret/close-notify: {word}}}, name: secure-example}}");
        site.yaml = site.yaml.replacen("metadata: {name: secure-example}", &annotated, 1);
        (site, tls)
    };
    let of_all = || {
        let (site, tls) = secure_site();
        (site.with("apiVersion: egret/v1\nkind: Settings\nspec: {closeNotify: IGNORE}\n"), tls)
    };
    for_each_seed(5, |seed| {
        for ((site, tls), counts) in
            [(secure_site(), false), (of_entry("REQUIRE"), false), (of_entry("IGNORE"), true), (of_all(), true)]
        {
            let cut = Cut { until_close: true, is_secure: true, length: 1000, sent: 1000, end: End::Gone };
            let (log, ()) = site.play(seed, async |stage| {
                stage.world.serve(address("203.0.113.2:443"), move |far| send_cut(far, Some(Arc::clone(&tls)), cut));
                let world = Rc::clone(&stage.world);
                stage.spawn("an answer", async move {
                    let mut talk = open(&world, "203.0.113.9:80");
                    let answer = talk.get(SECURE, "/").await;
                    assert_eq!(answer.is_ok_and(|answer| answer.body == content(1000)), counts);
                });
            });
            let words = if counts { " 200 - via_upstream " } else { " 200 UC upstream_reset_after_response_started" };
            assert!(log[0].contains(words), "{log:?}");
        }
    });
}

/// What a server does with a body that it has answered before it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Early {
    /// It is read all the same.
    Reads,
    /// The rest is not read, and the connection is kept open for a while.
    Stalls,
    /// The rest is not read, and the connection ends.
    Leaves,
}

#[test]
fn an_early_answer_is_passed_on() {
    const LENGTH: usize = 300_000;
    let site = site();
    for_each_seed(60, |seed| {
        let early = Random::new(seed).one_of(&[Early::Reads, Early::Stalls, Early::Leaves]);
        println!("{early:?}");
        site.play(seed, async |stage| {
            let world = Rc::clone(&stage.world);
            stage.world.serve(address("203.0.113.1:80"), move |far| {
                let world = Rc::clone(&world);
                async move { answer_early(&world, Talk::new(Wire::plain(far)), early).await }
            });
            let world = Rc::clone(&stage.world);
            stage.spawn("the early answer", async move {
                let mut talk = open(&world, "203.0.113.1:80");
                let wire = Rc::clone(&talk.wire);
                let head = format!("POST /early HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {LENGTH}\r\n\r\n");
                wire.send(head.as_bytes()).await.unwrap();
                let sending = async {
                    let _ = wire.send(&content(LENGTH)).await;
                    std::future::pending().await
                };
                let answer = futures_lite::future::or(talk.answer_to("POST"), sending).await.unwrap();
                assert_eq!((answer.status, answer.body.as_slice()), (413, &b"large"[..]));
                drop((talk, wire));
                let answer = open(&world, "203.0.113.1:80").get(HOST, "/next").await.unwrap();
                assert_eq!((answer.status, answer.body.as_slice()), (200, &b"next"[..]));
            });
        });
    });
}

async fn answer_early(world: &World, mut talk: Talk, early: Early) {
    // Another's request, or the rest of a body that looks like one.
    while let Ok(Some(head)) = talk.head().await {
        if head.starts_with("GET /next ") {
            talk.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext").await.unwrap();
            continue;
        }
        assert!(head.starts_with("POST /early "), "{head:?}");
        talk.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 5\r\n\r\nlarge").await.unwrap();
        match early {
            Early::Reads => drop(talk.request_body(&head).await),
            Early::Stalls => world.sleep(Duration::from_secs(5)).await,
            Early::Leaves => return talk.wire.far.delivered().await,
        }
        if early != Early::Reads {
            return;
        }
    }
}

//! `idleTimeout`: what counts as movement, and whose fault it is when nothing moves.

use std::rc::Rc;
use std::time::Duration;

use super::stage::{Site, address, http_entry, open};
use super::talk::{Talk, field};
use super::wire::Wire;
use crate::io::simulation::{Far, World, for_each_seed};

const HOST: &str = "plain.example";

/// Nothing may be still for three seconds.
const SETTINGS: &str = "apiVersion: egret/v1
kind: Settings
metadata: {name: settings}
spec: {idleTimeout: 3s}
";

fn site() -> Site {
    Site::new().naming(HOST, &["203.0.113.1"]).with(&http_entry(HOST, 80, 80)).with(SETTINGS)
}

/// What a server does that has read a request's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Server {
    /// Says every two seconds that it works, and answers after ten.
    Works,
    /// Says nothing.
    Sleeps,
    /// Takes nothing more either.
    Ends,
}

async fn serve(world: Rc<World>, far: Far, server: Server) {
    let mut talk = Talk::new(Wire::plain(far));
    while let Ok(Some(head)) = talk.head().await {
        if server == Server::Works {
            for _ in 0..5 {
                world.sleep(Duration::from_secs(2)).await;
                talk.send(b"HTTP/1.1 102 Processing\r\n\r\n").await.unwrap();
            }
            talk.send(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
            continue;
        }
        if server == Server::Sleeps && field(&head, "content-length").is_some() {
            let _ = talk.request_body(&head).await;
        }
        world.sleep(Duration::from_secs(15)).await;
        return;
    }
}

#[test]
fn a_late_answer_is_504_where_the_request_was_complete() {
    let get = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    let post = |sent: &str| format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 5\r\n\r\n{sent}");
    let chunked =
        format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
    let upgrade = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    for_each_seed(6, |seed| {
        for (request, server, expected) in [
            (get.clone(), Server::Works, 204),
            (get.clone(), Server::Sleeps, 504),
            (post("hello"), Server::Sleeps, 504),
            (post("hello"), Server::Ends, 504),
            (post("he"), Server::Sleeps, 408),
            (chunked.clone(), Server::Ends, 504),
            (upgrade.clone(), Server::Sleeps, 504),
        ] {
            println!("{request:?} {server:?}");
            let (log, ()) = site().play(seed, async |stage| {
                let world = Rc::clone(&stage.world);
                stage.world.serve(address("203.0.113.1:80"), move |far| serve(Rc::clone(&world), far, server));
                let (world, request) = (Rc::clone(&stage.world), request.clone());
                stage.spawn("an answer", async move {
                    let mut talk = open(&world, "203.0.113.1:80");
                    talk.send(request.as_bytes()).await.unwrap();
                    assert_eq!(talk.answer_to("POST").await.unwrap().status, expected);
                });
            });
            let is_idle = log.iter().any(|line| line.contains(" SI ") && line.contains("stream_idle_timeout"));
            assert_eq!(is_idle, expected != 204, "{log:#?}");
        }
    });
}

/// The request's way to the server is longer than anybody may be still.
#[test]
fn a_server_that_does_not_take_connections_is_504_as_well() {
    for_each_seed(3, |seed| {
        for body in ["", "Content-Length: 5\r\n"] {
            let (log, ()) = site().play(seed, async |stage| {
                stage.world.host(address("203.0.113.1:80"), || crate::io::simulation::Host::Silent);
                let world = Rc::clone(&stage.world);
                stage.spawn("an answer", async move {
                    let mut talk = open(&world, "203.0.113.1:80");
                    let rest = if body.is_empty() { "" } else { "hello" };
                    talk.send(format!("POST / HTTP/1.1\r\nHost: {HOST}\r\n{body}\r\n{rest}").as_bytes()).await.unwrap();
                    assert_eq!(talk.answer_to("POST").await.unwrap().status, 504);
                });
            });
            assert!(log.iter().any(|line| line.contains("504 SI")), "{log:#?}");
        }
    });
}

/// What passes through a tunnel either way keeps it, and its end by idleness is told.
#[test]
fn a_tunnel_ends_when_nothing_moves_and_says_so() {
    for_each_seed(6, |seed| {
        let (log, ()) = site().play(seed, async |stage| {
            let world = Rc::clone(&stage.world);
            stage.world.serve(address("203.0.113.1:80"), move |far| {
                let world = Rc::clone(&world);
                async move {
                    let mut talk = Talk::new(Wire::plain(far));
                    talk.head().await.unwrap();
                    let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
                    talk.send(answer.as_bytes()).await.unwrap();
                    for _ in 0..4 {
                        world.sleep(Duration::from_secs(2)).await;
                        talk.send(b"tick").await.unwrap();
                    }
                    let _ = talk.rest().await;
                }
            });
            let world = Rc::clone(&stage.world);
            stage.world.spawn(async move {
                let mut talk = open(&world, "203.0.113.1:80");
                let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
                talk.send(request.as_bytes()).await.unwrap();
                assert_eq!(talk.answer_to("GET").await.unwrap().status, 101);
                assert_eq!(talk.rest().await.unwrap(), b"tick".repeat(4));
            });
        });
        assert!(log.iter().any(|line| line.contains(" 101 SI stream_idle_timeout ")), "{log:#?}");
    });
}

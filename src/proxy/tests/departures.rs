//! Applications that leave while something is waited for: nothing goes on for them, and nothing that they had is lost to others.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::stage::{PATIENCE, Site, Stage, address, http_entry, open, rule};
use super::talk::Talk;
use super::wire::Wire;
use crate::io::simulation::{Far, Host, Random, World, for_each_seed};

const HOST: &str = "plain.example";
const SECURE: &str = "secure.example";

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stalls {
    /// The server's kernel does not answer.
    Connect,
    /// The server does not take part in the handshake.
    Handshake,
    /// Another request has the only connection that the server may have.
    Turn,
    /// The server does not read the body.
    Upload,
    Answer,
    /// The application does not read.
    Download,
}

const ALL: [Stalls; 6] =
    [Stalls::Connect, Stalls::Handshake, Stalls::Turn, Stalls::Upload, Stalls::Answer, Stalls::Download];

/// Servers stall until this is set.
type Mended = Rc<Cell<bool>>;

async fn serve(far: Far, stalls: Stalls, mended: Mended) {
    if stalls == Stalls::Handshake {
        return far.world().sleep(PATIENCE * 10).await;
    }
    let world = Rc::clone(far.world());
    let mut talk = Talk::new(Wire::plain(far));
    while let Ok(Some(head)) = talk.head().await {
        match stalls {
            _ if mended.get() => {}
            Stalls::Upload => return wait_for_end(&world, &talk).await,
            Stalls::Download => {
                let _ = talk.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n").await;
                while talk.send(&[b'x'; 10_000]).await.is_ok() {}
                return;
            }
            _ => {
                if let Ok(rest) = talk.rest().await {
                    assert!(rest.is_empty(), "{rest:?}");
                }
                return;
            }
        }
        if talk.request_body(&head).await.is_err()
            || talk.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.is_err()
        {
            return;
        }
    }
}

/// Does not read, and must be told of the end nevertheless.
async fn wait_for_end(world: &World, talk: &Talk) {
    let deadline = world.now() + PATIENCE;
    while !talk.wire.far.has_failed() {
        assert!(world.now() < deadline, "the server is not told that the request is over");
        world.sleep(Duration::from_millis(1)).await;
    }
}

async fn leave(world: &Rc<World>, stalls: Stalls, patience: Duration) {
    let talk = open(world, "203.0.113.9:80");
    let host = if stalls == Stalls::Handshake { SECURE } else { HOST };
    let body = if stalls == Stalls::Upload { 2_000_000 } else { 0 };
    let request = format!("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: {body}\r\n\r\n");
    let sending = async {
        let _ = talk.send(request.as_bytes()).await;
        let _ = talk.send(&vec![b'b'; body]).await;
        std::future::pending::<()>().await;
    };
    futures_lite::future::or(sending, world.sleep(patience)).await;
    // Of a FIN nobody can tell whether the answer is still wanted; who is sent something learns it.
    if stalls != Stalls::Download || world.random(|random| random.one_in(2)) {
        talk.wire.far.reset();
    }
}

#[test]
fn who_leaves_takes_nothing_along() {
    let site = Site::new().naming(HOST, &["203.0.113.1"]).naming(SECURE, &["203.0.113.2"]);
    let one = "connectionPool: {tcp: {maxConnections: 1, connectTimeout: 3600s}}";
    let tls = format!("{{{one}, tls: {{mode: SIMPLE, caCertificates: {}}}}}", site.ca_file());
    let site = site.with(&http_entry(HOST, 80, 80)).with(&http_entry(SECURE, 80, 443));
    let site = site.with(&rule(HOST, &format!("{{{one}}}"))).with(&rule(SECURE, &tls));
    for_each_seed(90, |seed| {
        let mut random = Random::new(seed);
        let stalls = random.one_of(&ALL);
        let patience = Duration::from_micros(random.one_of(&[0, 300, 3000, 50_000]));
        println!("{stalls:?}, {patience:?}");
        let (log, ()) = site.play(seed, async |stage| perform(stage, stalls, patience));
        // Who left at once may not have asked anything, and who left before it was accepted has not.
        let is_told = |line: &String| line.contains(" DC ") || line.contains("no_original_destination");
        assert!(patience < Duration::from_millis(50) || log.iter().any(is_told), "{log:#?}");
    });
}

fn perform(stage: &Stage, stalls: Stalls, patience: Duration) {
    let mended = Mended::default();
    for at in ["203.0.113.1:80", "203.0.113.2:443"] {
        let mended = Rc::clone(&mended);
        stage.world.host(address(at), move || {
            if stalls == Stalls::Connect && !mended.get() {
                return Host::Silent;
            }
            let mended = Rc::clone(&mended);
            Host::serving(move |far| serve(far, stalls, Rc::clone(&mended)))
        });
    }
    let world = Rc::clone(&stage.world);
    stage.spawn(format!("{stalls:?}"), async move {
        let blocker = async {
            if stalls == Stalls::Turn {
                leave(&world, Stalls::Answer, patience + Duration::from_millis(100)).await;
            }
        };
        let leaving = async {
            world.sleep(Duration::from_millis(if stalls == Stalls::Turn { 20 } else { 0 })).await;
            leave(&world, stalls, patience).await;
        };
        futures_lite::future::zip(blocker, leaving).await;
        mended.set(true);
        if stalls != Stalls::Handshake {
            // There is one connection at most: it must be free again.
            let answer = open(&world, "203.0.113.9:80").get(HOST, "/").await.unwrap();
            assert_eq!((answer.status, answer.body.as_slice()), (200, &b"ok"[..]));
        }
    });
}

/// When an application's reset came to the server, if it did.
type Told = Rc<Cell<Option<Instant>>>;

#[test]
fn the_server_is_told_within_a_second() {
    let site = Site::new().naming(HOST, &["203.0.113.1"]).with(&http_entry(HOST, 80, 80));
    for_each_seed(40, |seed| {
        let has_finished = Random::new(seed).one_in(2);
        println!("behind a FIN: {has_finished}");
        site.play(seed, async |stage| {
            let (asked, told) = (Rc::new(Cell::new(false)), Told::default());
            let of_server = (Rc::clone(&asked), Rc::clone(&told));
            stage.world.serve(address("203.0.113.1:80"), move |far| {
                let (asked, told) = of_server.clone();
                async move {
                    let world = Rc::clone(far.world());
                    let mut talk = Talk::new(Wire::plain(far));
                    talk.request().await.unwrap();
                    asked.set(true);
                    assert!(talk.rest().await.is_err(), "a request that is given up is no request that is over");
                    told.set(Some(world.now()));
                }
            });
            let world = Rc::clone(&stage.world);
            stage.spawn("the server is told", async move {
                let talk = open(&world, "203.0.113.9:80");
                talk.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes()).await.unwrap();
                if has_finished {
                    talk.wire.finish().await;
                }
                while !asked.get() {
                    world.sleep(Duration::from_millis(1)).await;
                }
                world.sleep(Duration::from_millis(700)).await;
                assert_eq!(told.get(), None, "the answer is still wanted");
                let left = world.now();
                talk.wire.far.reset();
                while told.get().is_none() {
                    world.sleep(Duration::from_millis(1)).await;
                }
                assert!(told.get().is_some_and(|told| told - left < Duration::from_secs(1)), "late");
            });
        });
    });
}

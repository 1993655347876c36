//! Many applications at once, each request of which must get its own answer, whatever servers and applications do.
//!
//! An answer is made of its request's target, so that another's shows. Where nobody misbehaves all are answered; where
//! somebody does, an answer is still the right one, visibly broken, or one of egret's own.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future;
use rustls::ServerConfig;

use super::stage::{PATIENCE, Site, address, http_entry, open, rule};
use super::talk::{Answer, Talk, field};
use super::wire::Wire;
use crate::io::simulation::{Far, Random, World, for_each_seed};

const PLAIN: &str = "plain.example";
const SECURE: &str = "secure.example";

/// What servers and applications of a play are like.
#[derive(Clone, Copy, Debug)]
struct Manners {
    /// Servers break connections.
    servers_fail: bool,
    /// Applications leave before they have their answer.
    applications_leave: bool,
}

struct Play {
    world: Rc<World>,
    manners: Manners,
    connections: Cell<usize>,
    /// On which connections each request was seen.
    seen: RefCell<BTreeMap<String, BTreeSet<usize>>>,
}

/// What a server does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Length,
    Chunked,
    Interim,
    /// It takes its time.
    Slowly,
    /// It says that the connection ends, and ends it.
    Closes,
    /// No length: the end of the connection is the end of the answer.
    UntilClose,
    /// The answer comes before the body is read.
    Early,
    /// As early, and the body is never read.
    EarlyAndGone,
    /// A second answer, to nobody.
    Surplus,
    /// The connection ends before, in or behind the answer.
    Dies,
}

fn content(target: &str) -> Vec<u8> {
    let size = target.rsplit('/').next().and_then(|text| text.parse().ok()).unwrap_or(0);
    target.bytes().chain(*b"|").cycle().take(size).collect()
}

impl Play {
    fn draw<T>(&self, draw: impl FnOnce(&mut Random) -> T) -> T {
        self.world.random(draw)
    }

    async fn serve(self: Rc<Self>, far: Far, tls: Option<Arc<ServerConfig>>) -> io::Result<()> {
        let number = self.connections.get();
        self.connections.set(number + 1);
        let wire = match tls {
            None => Wire::plain(far),
            Some(config) => Wire::accept(far, &config).await?,
        };
        let mut talk = Talk::new(wire);
        while let Some(head) = talk.head().await? {
            if !self.answer(&mut talk, &head, number).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    fn deed(&self) -> Deed {
        let decent =
            [Deed::Length, Deed::Chunked, Deed::Interim, Deed::Slowly, Deed::Closes, Deed::UntilClose, Deed::Early];
        let bad = [Deed::EarlyAndGone, Deed::Surplus, Deed::Dies];
        let misbehaves = self.manners.servers_fail && self.draw(|random| random.one_in(3));
        self.draw(|random| if misbehaves { random.one_of(&bad) } else { random.one_of(&decent) })
    }

    /// Answers one request; does the connection go on?
    async fn answer(&self, talk: &mut Talk, head: &str, number: usize) -> io::Result<bool> {
        let mut words = head.split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        self.seen.borrow_mut().entry(format!("{method} {target}")).or_default().insert(number);
        let deed = self.deed();
        if !matches!(deed, Deed::Early | Deed::EarlyAndGone) {
            talk.request_body(head).await?;
        }
        if deed == Deed::Slowly {
            let time = self.draw(|random| random.below(3000));
            self.world.sleep(Duration::from_millis(time)).await;
        }
        let mut bytes = written(deed, method, target);
        if deed == Deed::Dies {
            let length = self.draw(|random| random.below(bytes.len() as u64 + 1)) as usize;
            bytes.truncate(length);
        }
        talk.send(&bytes).await?;
        match deed {
            Deed::Closes | Deed::UntilClose => {
                if deed == Deed::Closes {
                    // Who was told so does not ask again, though nothing shows yet that it is true.
                    self.world.sleep(Duration::from_micros(self.draw(|random| random.below(20_000)))).await;
                }
                talk.wire.finish().await;
                let rest = talk.rest().await?;
                assert!(rest.is_empty(), "behind `Connection: close` came {:?}", rest.escape_ascii().to_string());
                Ok(false)
            }
            Deed::Early => talk.request_body(head).await.map(|_| true),
            Deed::EarlyAndGone => Ok(false),
            Deed::Dies => {
                if self.draw(|random| random.one_in(2)) {
                    talk.wire.far.reset();
                }
                Ok(false)
            }
            _ => Ok(true),
        }
    }

    /// One request on `client`, or on a new connection; returns the connection where it may go on.
    async fn ask(&self, client: Option<Talk>, application: u64, number: u64) -> Option<Talk> {
        let (host, method) =
            self.draw(|random| (random.one_of(&[PLAIN, SECURE]), random.one_of(&["GET", "POST", "HEAD"])));
        let (size, body) = self.draw(|random| {
            (
                random.one_of(&[0, 5, 700, 20_000]),
                if method == "POST" { random.one_of(&[0, 5, 3000, 30_000]) } else { 0 },
            )
        });
        let target = format!("/{application}/{number}/{size}");
        let mut client = client.unwrap_or_else(|| open(&self.world, "203.0.113.9:80"));
        let asking = self.exchange(&mut client, host, method, &target, body);
        let leaves = self.manners.applications_leave && self.draw(|random| random.one_in(4));
        let patience = if leaves { Duration::from_micros(self.draw(|random| random.below(30_000))) } else { PATIENCE };
        let over = async {
            self.world.sleep(patience).await;
            None
        };
        let Some((answer, is_sent)) = future::or(async { Some(asking.await) }, over).await else {
            assert!(leaves, "no answer to {method} {host}{target}: {}", self.world);
            if self.draw(|random| random.one_in(2)) {
                client.wire.far.reset();
            }
            return None;
        };
        self.judge(method, &target, &answer);
        let goes_on = is_sent && answer.is_ok_and(|answer| field(&answer.head, "connection") != Some("close"));
        goes_on.then_some(client)
    }

    /// The answer, and whether the whole request had been sent by then.
    async fn exchange(
        &self,
        client: &mut Talk,
        host: &str,
        method: &str,
        target: &str,
        body: usize,
    ) -> (io::Result<Answer>, bool) {
        let length = if method == "POST" { format!("Content-Length: {body}\r\n") } else { String::new() };
        let head = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{length}\r\n");
        let request = [head.as_bytes(), &vec![b'b'; body]].concat();
        let (wire, is_sent) = (Rc::clone(&client.wire), Cell::new(false));
        let sending = async {
            let at = self.draw(|random| random.below(request.len() as u64)) as usize;
            let _ = wire.send(&request[..at]).await;
            self.world.sleep(Duration::from_micros(self.draw(|random| random.below(2000)))).await;
            is_sent.set(wire.send(&request[at..]).await.is_ok());
            future::pending().await
        };
        let answer = future::or(client.answer_to(method), sending).await;
        (answer, is_sent.get())
    }

    fn judge(&self, method: &str, target: &str, answer: &io::Result<Answer>) {
        let tries = self.seen.borrow().get(&format!("{method} {target}")).map_or(0, BTreeSet::len);
        assert!(tries <= if method == "POST" { 1 } else { 2 }, "{method} {target} was sent {tries} times");
        match answer {
            Ok(Answer { status: 200, body, .. }) => {
                let wanted = if method == "HEAD" { Vec::new() } else { content(target) };
                assert_eq!(String::from_utf8_lossy(body), String::from_utf8_lossy(&wanted), "{method} {target}");
            }
            other => {
                assert!(self.manners.servers_fail, "{method} {target}: {other:?}");
                let is_own = other.as_ref().is_ok_and(|answer| matches!(answer.status, 502 | 503));
                assert!(is_own || other.is_err(), "{method} {target}: {other:?}");
            }
        }
    }
}

/// The bytes of an answer.
fn written(deed: Deed, method: &str, target: &str) -> Vec<u8> {
    let content = content(target);
    let length = format!("Content-Length: {}\r\n", content.len());
    let (before, fields) = match deed {
        Deed::Interim => ("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", length),
        Deed::Chunked => ("", "Transfer-Encoding: chunked\r\n".to_owned()),
        Deed::Closes | Deed::EarlyAndGone => ("", length + "Connection: close\r\n"),
        Deed::UntilClose => ("", "Connection: close\r\n".to_owned()),
        _ => ("", length),
    };
    let mut bytes = format!("{before}HTTP/1.1 200 OK\r\n{fields}\r\n").into_bytes();
    match deed {
        _ if method == "HEAD" => {}
        Deed::Chunked => {
            for chunk in content.chunks(3001) {
                bytes.extend(format!("{:x}\r\n", chunk.len()).bytes().chain(chunk.iter().copied()).chain(*b"\r\n"));
            }
            bytes.extend(b"0\r\n\r\n");
        }
        _ => bytes.extend(content),
    }
    if deed == Deed::Surplus {
        bytes.extend(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nbogus");
    }
    bytes
}

/// One site for each limit of connections, with what its server over TLS answers handshakes with.
fn sites() -> Vec<(Site, Arc<ServerConfig>)> {
    let site = |pool: &str| {
        let site = Site::new().naming(PLAIN, &["203.0.113.1"]).naming(SECURE, &["203.0.113.2"]);
        let tls = format!("{{connectionPool: {pool}, tls: {{mode: SIMPLE, caCertificates: {}}}}}", site.ca_file());
        let plain = format!("{{connectionPool: {pool}}}");
        let site = site.with(&http_entry(PLAIN, 80, 80)).with(&http_entry(SECURE, 80, 443));
        let site = site.with(&rule(PLAIN, &plain)).with(&rule(SECURE, &tls));
        let server = site.server_config(SECURE);
        (site, server)
    };
    ["{tcp: {maxConnections: 1000}}", "{tcp: {maxConnections: 1}}", "{tcp: {maxConnections: 3}}"].map(site).into()
}

/// Plays `seed`; returns the log, the time that it took by the simulated clock, and the next number of the seed.
fn play(sites: &[(Site, Arc<ServerConfig>)], seed: u64) -> (Vec<String>, (Duration, u64)) {
    let mut random = Random::new(seed);
    let (site, server) = &sites[random.below(sites.len() as u64) as usize];
    let manners = Manners { servers_fail: random.one_in(2), applications_leave: random.one_in(2) };
    println!("{manners:?}");
    let (applications, requests) = (random.up_to(5) as u64, random.up_to(6) as u64);
    site.play(seed, async |stage| {
        let world = Rc::clone(&stage.world);
        let begun = world.now();
        let play = Play { world, manners, connections: Cell::default(), seen: RefCell::default() };
        let play = Rc::new(play);
        for (at, tls) in [("203.0.113.1:80", None), ("203.0.113.2:443", Some(Arc::clone(server)))] {
            let play = Rc::clone(&play);
            stage.world.serve(address(at), move |far| {
                let conversation = Rc::clone(&play).serve(far, tls.clone());
                async move { drop(conversation.await) }
            });
        }
        for application in 0..applications {
            let play = Rc::clone(&play);
            stage.world.spawn(async move {
                let mut client = None;
                for number in 0..requests {
                    client = play.ask(client, application, number).await;
                    let pause = play.draw(|random| random.one_of(&[0, 0, 1, 30, 1200, 70_000]));
                    play.world.sleep(Duration::from_millis(pause)).await;
                }
            });
        }
        stage.world.ended().await;
        (stage.world.now() - begun, play.draw(|random| random.below(u64::MAX)))
    })
}

#[test]
fn everybody_gets_an_answer_of_their_own() {
    let sites = sites();
    for_each_seed(150, |seed| drop(play(&sites, seed)));
}

/// Else a seed would be no help to find a fault again.
#[test]
fn a_play_follows_from_its_seed() {
    let sites = sites();
    for_each_seed(20, |seed| assert_eq!(play(&sites, seed).1, play(&sites, seed).1));
}

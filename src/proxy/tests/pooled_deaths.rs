//! A kept connection to a server dies: at each byte of the next request, at each byte of its answer, and while it is idle.
//!
//! What always holds: an answer that looks whole is the answer to this very request; what cannot be sent twice never is; and
//! the application's next request is answered.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;

use super::stage::{Site, Stage, address, http_entry, patiently, rule};
use super::talk::{Answer, Talk};
use super::wire::Wire;
use crate::io::simulation::{Far, Random, World, for_each_seed};

const PLAIN: &str = "plain.example";
const SECURE: &str = "secure.example";

/// Where the server's first connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Death {
    /// So many bytes of the second request have come.
    InRequest(usize),
    /// So many bytes of the second answer have gone.
    InAnswer(usize),
    /// The first answer has gone, and so much time.
    Idle(Duration),
}

/// How it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// FIN; what comes is still read.
    Fin,
    /// Its process ends.
    Gone,
    Reset,
    /// An answer to nothing, and FIN: as servers do that grow tired of waiting.
    Speaks,
}

#[derive(Clone, Copy, Debug)]
struct Case {
    host: &'static str,
    /// Of the second request.
    method: &'static str,
    death: Death,
    how: How,
    /// From the first answer to the second request.
    pause: Duration,
}

impl Case {
    fn request(&self) -> String {
        let (method, host) = (self.method, self.host);
        let body = if method == "POST" { "Content-Length: 9\r\n\r\nsome body" } else { "\r\n" };
        format!("{method} /second HTTP/1.1\r\nHost: {host}\r\n{body}")
    }
}

fn answer(target: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\nanswer to {target}", target.len() + 10)
}

/// What the servers have seen.
#[derive(Default)]
struct Seen {
    connections: Cell<usize>,
    /// The connections on which a byte of the second request came.
    second: RefCell<BTreeSet<usize>>,
}

async fn serve(far: Far, tls: Option<Arc<ServerConfig>>, case: Case, seen: Rc<Seen>) -> io::Result<()> {
    let number = seen.connections.get();
    seen.connections.set(number + 1);
    let world = Rc::clone(far.world());
    let wire = match tls {
        None => Wire::plain(far),
        Some(config) => Wire::accept(far, &config).await?,
    };
    let mut talk = Talk::new(wire);
    let mut served = 0;
    loop {
        if number == 0 && served == 1 {
            // A reset must not take the first answer.
            talk.wire.far.delivered().await;
            match case.death {
                Death::Idle(time) => world.sleep(time).await,
                Death::InRequest(0) => {}
                Death::InRequest(count) => {
                    if !talk.take(count.min(case.request().len())).await.is_empty() {
                        seen.second.borrow_mut().insert(number);
                    }
                }
                Death::InAnswer(count) => {
                    if talk.request().await?.is_some() {
                        seen.second.borrow_mut().insert(number);
                    }
                    talk.send(&answer("/second").as_bytes()[..count]).await?;
                }
            }
            return die(talk, case.how).await;
        }
        let Some((head, _)) = talk.request().await? else { return Ok(()) };
        let target = head.split(' ').nth(1).unwrap_or_default();
        if target == "/second" {
            seen.second.borrow_mut().insert(number);
        }
        talk.send(answer(target).as_bytes()).await?;
        served += 1;
    }
}

async fn die(mut talk: Talk, how: How) -> io::Result<()> {
    match how {
        How::Gone => return Ok(()),
        How::Reset => {
            talk.wire.far.reset();
            return Ok(());
        }
        How::Fin => {}
        How::Speaks => talk.send(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 5\r\n\r\nbogus").await?,
    }
    talk.wire.finish().await;
    talk.rest().await.map(drop)
}

async fn perform(world: Rc<World>, case: Case, seen: Rc<Seen>) {
    let open = || Talk::new(Wire::plain(world.connect(address("203.0.113.9:80"))));
    let mut client = open();
    let first = client.get(case.host, "/first").await.unwrap();
    assert_eq!(first.body, b"answer to /first");
    world.sleep(case.pause).await;
    client.send(case.request().as_bytes()).await.unwrap();
    let second = client.answer_to(case.method).await;
    judge(case, &second, &seen);
    let is_open = second.is_ok_and(|answer| super::talk::field(&answer.head, "connection").is_none());
    let mut client = if is_open { client } else { open() };
    let third = client.get(case.host, "/third").await.unwrap();
    assert_eq!((third.status, third.body.as_slice()), (200, &b"answer to /third"[..]));
}

fn judge(case: Case, second: &io::Result<Answer>, seen: &Seen) {
    let tries = seen.second.borrow().len();
    let has_begun = matches!(case.death, Death::InAnswer(count) if count > 0) || case.how == How::Speaks;
    match second {
        Ok(answer) if answer.status == 200 => assert_eq!(answer.body, b"answer to /second"),
        // It came when the request was under way, so that nobody can tell.
        Ok(answer) if answer.status == 408 => assert_eq!(case.how, How::Speaks),
        // Nothing of the answer was passed on.
        Ok(answer) => assert!(matches!(answer.status, 502 | 503), "{answer:?}"),
        Err(_) => assert!(has_begun, "the connection broke: {second:?}"),
    }
    let is_whole = second.as_ref().is_ok_and(|answer| answer.status == 200);
    if case.method == "POST" {
        assert!(tries <= 1, "sent {tries} times");
    } else {
        assert!(tries <= 2, "sent {tries} times");
        assert!(is_whole || has_begun, "it can be sent again: {second:?}");
    }
    // A server whose end came long before the request is not asked.
    if let Death::Idle(time) = case.death
        && case.pause >= time + Duration::from_millis(100)
    {
        assert!(is_whole, "{second:?}");
    }
}

fn play(site: &Site, tls: &Arc<ServerConfig>, play: u64, case: Case) {
    println!("{case:?}");
    site.play(play, async |stage: &Stage| {
        let seen = Rc::new(Seen::default());
        for (at, tls) in [("203.0.113.1:80", None), ("203.0.113.2:443", Some(Arc::clone(tls)))] {
            let seen = Rc::clone(&seen);
            stage.world.serve(address(at), move |far| {
                let served = serve(far, tls.clone(), case, Rc::clone(&seen));
                async move { drop(served.await) }
            });
        }
        let world = Rc::clone(&stage.world);
        stage.world.spawn(async move {
            patiently(&world, "the application is done", perform(Rc::clone(&world), case, seen)).await;
        });
    });
}

fn site() -> (Site, Arc<ServerConfig>) {
    let site = Site::new().naming(PLAIN, &["203.0.113.1"]).naming(SECURE, &["203.0.113.2"]);
    let tls = format!("{{tls: {{mode: SIMPLE, caCertificates: {}}}}}", site.ca_file());
    let site = site.with(&http_entry(PLAIN, 80, 80)).with(&http_entry(SECURE, 80, 443)).with(&rule(SECURE, &tls));
    let config = site.server_config(SECURE);
    (site, config)
}

fn case(random: &mut Random, method: &'static str, death: Death) -> Case {
    let host = random.one_of(&[PLAIN, PLAIN, SECURE]);
    let how = random.one_of(&[How::Fin, How::Gone, How::Reset]);
    Case { host, method, death, how, pause: Duration::from_millis(random.one_of(&[0, 1, 30, 900])) }
}

#[test]
fn a_kept_connection_dies_at_every_byte() {
    let (site, tls) = site();
    for_each_seed(2, |seed| {
        let mut random = Random::new(seed);
        for method in ["GET", "POST"] {
            let length = case(&mut random, method, Death::InRequest(0)).request().len();
            let in_request = (0..=length).map(Death::InRequest);
            let in_answer = (0..answer("/second").len()).map(Death::InAnswer);
            for death in in_request.chain(in_answer) {
                let seed = random.below(u64::MAX);
                play(&site, &tls, seed, case(&mut random, method, death));
            }
        }
    });
}

#[test]
fn an_idle_connection_dies() {
    let (site, tls) = site();
    for_each_seed(60, |seed| {
        let mut random = Random::new(seed);
        let method = random.one_of(&["GET", "POST"]);
        let time = Duration::from_micros(random.one_of(&[0, 100, 1000, 20_000, 800_000]));
        let pause = match random.below(3) {
            0 => time + Duration::from_millis(100),
            1 => time,
            _ => time.saturating_sub(Duration::from_micros(random.below(500))),
        };
        let how = random.one_of(&[How::Fin, How::Gone, How::Reset, How::Speaks]);
        let case = Case { how, pause, ..case(&mut random, method, Death::Idle(time)) };
        play(&site, &tls, seed, case);
    });
}

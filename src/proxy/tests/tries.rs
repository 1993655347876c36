//! How often a request is sent: a model of the route's `retries` says it of any sequence of failures, and what comes of it. And
//! how long is waited for: by the simulated clock, to the millisecond.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::stage::{Site, address, http_entry, open, route, rule};
use super::talk::Talk;
use super::wire::Wire;
use crate::io::simulation::{Far, Host, Random, for_each_seed};

const HOST: &str = "plain.example";

/// What becomes of one try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Refused,
    /// The connection ends when the request has been read.
    Reset,
    Status(u16),
}

const FATES: [Fate; 5] = [Fate::Refused, Fate::Reset, Fate::Status(500), Fate::Status(503), Fate::Status(200)];

/// Whether `on` wants another try after `fate`, as docs/fields.md has it.
fn covers(on: &str, fate: Fate) -> bool {
    on.split(',').any(|word| match (word, fate) {
        (_, Fate::Status(200)) => false,
        ("503", fate) => fate == Fate::Status(503),
        (_, Fate::Refused) | ("5xx", _) => true,
        ("gateway-error", fate) => fate == Fate::Reset || fate == Fate::Status(503),
        ("reset", fate) => fate == Fate::Reset,
        _ => false,
    })
}

#[test]
fn a_request_is_tried_as_often_as_its_route_says() {
    const ON: [&str; 6] = ["connect-failure", "reset", "5xx", "gateway-error", "503", "connect-failure,503"];
    let case = |attempts: u64, on: &str| {
        let retries = format!("retries: {{attempts: {attempts}, retryOn: \"{on}\"}}");
        Site::new().naming(HOST, &["203.0.113.1"]).with(&http_entry(HOST, 80, 80)).with(&route(HOST, &retries))
    };
    for_each_seed(120, |seed| {
        let mut random = Random::new(seed);
        let (attempts, on) = (random.below(4), random.one_of(&ON));
        let method = random.one_of(&["GET", "POST"]);
        let fates: Vec<Fate> = (0..=attempts).map(|_| random.one_of(&FATES)).collect();
        let tries = fates.iter().take(attempts as usize).take_while(|fate| covers(on, **fate)).count() + 1;
        let expected = match fates[tries - 1] {
            Fate::Status(status) => status,
            Fate::Refused | Fate::Reset => 503,
        };
        println!("{method}, {attempts} more tries on {on}: {fates:?}");
        case(attempts, on).play(seed, async |stage| {
            let made = Rc::new(Cell::new(0));
            let of_host = Rc::clone(&made);
            stage.world.host(address("203.0.113.1:80"), move || {
                let number = of_host.get();
                of_host.set(number + 1);
                match fates.get(number).copied() {
                    Some(Fate::Refused) => Host::Refuses,
                    Some(fate) => Host::serving(move |far| meet(far, fate)),
                    None => panic!("a try too many"),
                }
            });
            let world = Rc::clone(&stage.world);
            stage.spawn("an answer", async move {
                let mut talk = open(&world, "203.0.113.9:80");
                let body = if method == "POST" { "Content-Length: 5\r\n\r\nhello" } else { "\r\n" };
                talk.send(format!("{method} / HTTP/1.1\r\nHost: {HOST}\r\n{body}").as_bytes()).await.unwrap();
                assert_eq!(talk.answer_to(method).await.unwrap().status, expected);
                assert_eq!(made.get(), tries);
            });
        });
    });
}

#[test]
fn what_was_read_and_reset_is_sent_as_often_as_the_route_says() {
    for_each_seed(3, |seed| {
        for (retries, method, pooled, expected) in [
            ("retries: {attempts: 2, retryOn: reset-before-request}", "POST", false, 1),
            ("retries: {attempts: 2, retryOn: reset-before-request}", "GET", true, 1),
            ("retries: {attempts: 2, retryOn: \"reset-before-request,503\"}", "PUT", false, 1),
            ("retries: {attempts: 2, retryOn: reset}", "POST", false, 3),
            ("retries: {attempts: 2, retryOn: reset}", "GET", true, 3),
            ("retries: {attempts: 1, retryOn: 5xx}", "GET", true, 2),
            // Once on the kept connection, and once more since it may have been over before.
            ("retries: {attempts: 1}", "GET", true, 2),
            ("retries: {attempts: 1}", "GET", false, 1),
            ("retries: {attempts: 0}", "GET", true, 1),
            ("retries: {attempts: 0, retryOn: reset}", "GET", true, 1),
            ("timeout: 20s", "GET", true, 2),
            ("timeout: 20s", "POST", true, 1),
        ] {
            println!("{retries}, {method}, pooled: {pooled}");
            let site = Site::new().naming(HOST, &["203.0.113.1"]);
            let site = site.with(&http_entry(HOST, 80, 80)).with(&route(HOST, retries));
            let (log, ()) = site.play(seed, async |stage| {
                let seen = Rc::new(Cell::new(0));
                let of_server = Rc::clone(&seen);
                stage.world.serve(address("203.0.113.1:80"), move |far| reset_bad(far, Rc::clone(&of_server)));
                let world = Rc::clone(&stage.world);
                stage.spawn("an answer", async move {
                    let mut talk = open(&world, "203.0.113.9:80");
                    if pooled {
                        assert_eq!(talk.get(HOST, "/good").await.unwrap().status, 200);
                    }
                    let fields = if method == "POST" { "Content-Length: 0\r\n" } else { "" };
                    let request = format!("{method} /bad HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n");
                    talk.send(request.as_bytes()).await.unwrap();
                    assert_eq!(talk.answer_to(method).await.unwrap().status, 503);
                    assert_eq!(seen.get(), expected);
                });
            });
            let is_spent = expected > 1 && (retries.contains("reset") || retries.contains("5xx"));
            let line = log.iter().find(|line| line.contains(" /bad ") && line.contains(" 503 ")).expect("its line");
            assert!(line.contains("UC") && line.contains("URX") == is_spent, "{line}");
        }
    });
}

/// Credentials that authenticate a connection go over one that nobody has used, and never over another one.
#[test]
fn credentials_of_a_connection_are_sent_once() {
    for_each_seed(10, |seed| {
        let retries = "retries: {attempts: 3, retryOn: \"reset,5xx\"}";
        let site = Site::new().naming(HOST, &["203.0.113.1"]);
        let site = site.with(&http_entry(HOST, 80, 80)).with(&route(HOST, retries));
        site.play(seed, async |stage| {
            let (seen, accepted) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
            let (of_server, count) = (Rc::clone(&seen), Rc::clone(&accepted));
            stage.world.serve(address("203.0.113.1:80"), move |far| {
                count.set(count.get() + 1);
                reset_bad(far, Rc::clone(&of_server))
            });
            let world = Rc::clone(&stage.world);
            stage.spawn("an answer", async move {
                let mut talk = open(&world, "203.0.113.9:80");
                assert_eq!(talk.get(HOST, "/good").await.unwrap().status, 200);
                let request = format!("GET /bad HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: NTLM TlRMTVNTUAAB\r\n\r\n");
                talk.send(request.as_bytes()).await.unwrap();
                assert_eq!(talk.answer_to("GET").await.unwrap().status, 503);
                assert_eq!((seen.get(), accepted.get()), (1, 2));
            });
        });
    });
}

/// Answers requests for `/good`, and resets its connection at all others, which it counts.
async fn reset_bad(far: Far, seen: Rc<Cell<usize>>) {
    let mut talk = Talk::new(Wire::plain(far));
    while let Ok(Some((head, _))) = talk.request().await {
        if !head.contains(" /good ") {
            seen.set(seen.get() + 1);
            return talk.wire.far.reset();
        }
        if talk.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.is_err() {
            return;
        }
    }
}

async fn meet(far: Far, fate: Fate) {
    let mut talk = Talk::new(Wire::plain(far));
    let (_, body) = talk.request().await.unwrap().unwrap();
    assert!(body.is_empty() || body == b"hello", "every try has the whole body");
    match fate {
        Fate::Status(status) => {
            let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            talk.send(answer.as_bytes()).await.unwrap();
            talk.wire.finish().await;
            drop(talk.rest().await);
        }
        Fate::Refused | Fate::Reset => talk.wire.far.reset(),
    }
}

/// What a server is slow in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slow {
    Connecting,
    Answering,
    /// In the middle of its answer's body.
    Body,
}

#[test]
fn time_is_over_when_it_is_over() {
    let fields = |fields: &str, pool: &str| {
        let site = Site::new().naming(HOST, &["203.0.113.1"]).with(&http_entry(HOST, 80, 80));
        site.with(&route(HOST, fields)).with(&rule(HOST, pool))
    };
    let none = "{connectionPool: {tcp: {maxConnections: 9}}}";
    let connect = "{connectionPool: {tcp: {connectTimeout: 400ms}}}";
    // What is slow, the route, the rule, the status (0: cut), the milliseconds that it must take.
    let cases = [
        (Slow::Answering, "timeout: 700ms", none, 504, 700),
        (Slow::Body, "timeout: 700ms", none, 0, 700),
        (Slow::Connecting, "timeout: 700ms", none, 504, 700),
        (Slow::Connecting, "retries: {attempts: 0}", connect, 503, 400),
        // Each try has its time, and before the second and third are 25 and 50 ms.
        (Slow::Answering, "retries: {attempts: 2, perTryTimeout: 300ms, retryOn: 5xx}", none, 504, 975),
        (Slow::Answering, "timeout: 500ms, retries: {attempts: 2, perTryTimeout: 300ms, retryOn: 5xx}", none, 504, 500),
        (Slow::Connecting, "retries: {attempts: 1, retryOn: connect-failure}", connect, 503, 825),
    ];
    for_each_seed(5, |seed| {
        for (slow, route, pool, status, time) in cases {
            println!("{slow:?}, {route}, {pool}");
            fields(route, pool).play(seed, async |stage| {
                stage.world.host(address("203.0.113.1:80"), move || match slow {
                    Slow::Connecting => Host::Silent,
                    _ => Host::serving(move |far| dawdle(far, slow)),
                });
                let (world, counters) = (Rc::clone(&stage.world), Arc::clone(&stage.counters));
                stage.spawn(route, async move {
                    let mut talk = open(&world, "203.0.113.9:80");
                    // Accepting may rest for a while, which is not this clock's affair.
                    while counters.connections_accepted.get() == 0 {
                        world.sleep(Duration::from_millis(1)).await;
                    }
                    let begun = world.now();
                    // 0: the answer was cut.
                    let answered = talk.get(HOST, "/").await.map_or(0, |answer| answer.status);
                    let taken = world.now() - begun;
                    assert_eq!(answered, status, "after {taken:?}");
                    // A turn of the engine is late by less than the rest.
                    let wanted = Duration::from_millis(time);
                    assert!(taken >= wanted && taken < wanted + Duration::from_millis(40), "{taken:?}");
                });
            });
        }
    });
}

async fn dawdle(far: Far, slow: Slow) {
    let world = Rc::clone(far.world());
    let mut talk = Talk::new(Wire::plain(far));
    if talk.request().await.is_ok_and(|request| request.is_some()) && slow == Slow::Body {
        let _ = talk.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello").await;
    }
    world.sleep(Duration::from_secs(600)).await;
}

/// The clocks of applications that do not go on.
#[test]
fn an_application_has_its_time_too() {
    let site = Site::new().naming(HOST, &["203.0.113.1"]).with(&http_entry(HOST, 80, 80));
    let head = format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 9\r\n\r\nhello");
    for_each_seed(5, |seed| {
        for (said, status) in [("GET / HTTP/1.1\r\nHo", 408), (head.as_str(), 408), ("", 0)] {
            let ended = Rc::new(RefCell::new(None));
            let told = Rc::clone(&ended);
            let said = said.to_owned();
            site.play(seed, async |stage| {
                stage.world.serve(address("203.0.113.1:80"), |far| dawdle(far, Slow::Answering));
                let world = Rc::clone(&stage.world);
                stage.world.spawn(async move {
                    let mut talk = open(&world, "203.0.113.9:80");
                    // As HTTP, so that the silence that follows is not another protocol's.
                    talk.send(said.as_bytes()).await.unwrap();
                    let answer = talk.answer_to("POST").await;
                    *told.borrow_mut() = Some(answer.map_or(0, |answer| answer.status));
                });
            });
            assert_eq!(ended.take(), Some(status));
        }
    });
}

//! What the log says of requests, and what they become on their way, as whoever comes from Istio knows it.

use std::rc::Rc;
use std::time::Duration;

use super::stage::{Site, address, http_entry, open, route, rule};
use super::talk::{Answer, Talk, field};
use super::wire::Wire;
use crate::io::simulation::{Far, World, for_each_seed};

const HOST: &str = "plain.example";

fn site() -> Site {
    Site::new().naming(HOST, &["203.0.113.1"]).with(&http_entry(HOST, 80, 80))
}

fn settings(fields: &str) -> String {
    format!("apiVersion: egret/v1\nkind: Settings\nspec: {{{fields}}}\n")
}

/// What the server does with a request.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Says(&'static str),
    /// And ends its side.
    SaysAndEnds(&'static str),
    SaysAndResets(&'static str),
}

const FINE: Deed = Deed::Says("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");

async fn serve(far: Far, deed: Deed, pause: Duration, seen: Rc<std::cell::RefCell<Vec<String>>>) {
    let world = Rc::clone(far.world());
    let mut talk = Talk::new(Wire::plain(far));
    while let Ok(Some((head, _))) = talk.request().await {
        seen.borrow_mut().push(head);
        world.sleep(pause).await;
        let (Deed::Says(words) | Deed::SaysAndEnds(words) | Deed::SaysAndResets(words)) = deed;
        if talk.send(words.as_bytes()).await.is_err() {
            return;
        }
        match deed {
            Deed::Says(_) => {}
            Deed::SaysAndEnds(_) => {
                talk.wire.finish().await;
                drop(talk.rest().await);
                return;
            }
            Deed::SaysAndResets(_) => {
                talk.wire.far.delivered().await;
                return talk.wire.far.reset();
            }
        }
    }
}

/// One request and what came of it: the log's line, the answer where it was whole, and the heads that the server has seen.
struct Told {
    line: String,
    answer: Option<Answer>,
    seen: Vec<String>,
}

impl Told {
    /// The words of the line behind the request, from the status on.
    fn words(&self) -> Vec<&str> {
        let behind = self.line.splitn(3, '"').nth(2).unwrap_or_default();
        behind.split(' ').skip(1).collect()
    }
}

fn ask(site: &Site, seed: u64, request: &'static str, deed: Deed, pause: Duration) -> Told {
    let heads = Rc::default();
    let (mut lines, answer) = site.play(seed, async |stage| {
        let of_server = Rc::clone(&heads);
        stage.world.serve(address("203.0.113.1:80"), move |far| serve(far, deed, pause, Rc::clone(&of_server)));
        let answer = Rc::new(std::cell::RefCell::new(None));
        let (world, told) = (Rc::clone(&stage.world), Rc::clone(&answer));
        stage.spawn("an answer", async move { *told.borrow_mut() = one(&world, request).await });
        stage.world.ended().await;
        answer.take()
    });
    assert_eq!(lines.len(), 1, "{lines:?}");
    Told { line: lines.remove(0), answer, seen: heads.take() }
}

async fn one(world: &Rc<World>, request: &str) -> Option<Answer> {
    let mut talk = open(world, "203.0.113.9:80");
    talk.send(request.as_bytes()).await.unwrap();
    let method = request.split(' ').next().unwrap_or_default();
    talk.answer_to(method).await.ok()
}

const GET: &str = "GET /a?b HTTP/1.1\r\nHost: plain.example\r\n\r\n";

/// A FIN in the middle of an answer is an answer that is none; before its first byte, or a reset, it is a connection that
/// ended.
#[test]
fn answers_that_are_cut_are_told_apart() {
    let long = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello";
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    let wrong = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\nhello\r\n0\r\n\r\n";
    for_each_seed(5, |seed| {
        for (deed, expected, details) in [
            (Deed::SaysAndEnds(""), "503 UC", "before_response_started{connection_termination"),
            (Deed::SaysAndResets(""), "503 UC", "before_response_started{connection_termination"),
            (Deed::SaysAndEnds("HTTP/1.1 200 OK\r\nConte"), "502 UPE", "before_response_started{protocol_error"),
            (Deed::SaysAndResets("HTTP/1.1 200 OK\r\nConte"), "502 UPE", "before_response_started{protocol_error"),
            (Deed::SaysAndEnds(long), "200 UPE", "after_response_started{protocol_error"),
            (Deed::SaysAndEnds(chunked), "200 UPE", "after_response_started{protocol_error"),
            (Deed::SaysAndResets(long), "200 UPE", "after_response_started{protocol_error"),
            (Deed::SaysAndResets("HTTP/1.1 200 OK\r\n\r\nhello"), "200 UC", "after_response_started{connection_term"),
            // What came with the head is judged before anything is sent.
            (Deed::SaysAndEnds(wrong), "502 UPE", "before_response_started{protocol_error"),
            (Deed::SaysAndEnds("HTTP/1.1 200 OK\r\n\r\nhello"), "200 -", "via_upstream"),
        ] {
            let outcome = ask(&site(), seed, GET, deed, Duration::ZERO);
            let words = outcome.words();
            assert_eq!(format!("{} {}", words[0], words[1]), expected, "{deed:?}: {}", outcome.line);
            assert!(words[2].contains(details), "{deed:?}: {}", outcome.line);
            let status = outcome.answer.as_ref().map_or(200, |answer| answer.status);
            assert_eq!(status.to_string(), words[0], "{deed:?}");
        }
    });
}

/// Flags stand in the order in which they were set.
#[test]
fn a_limit_that_was_reached_stands_before_what_reached_it() {
    for_each_seed(3, |seed| {
        let twice = |on: &str| format!("retries: {{attempts: 1, retryOn: \"{on}\", perTryTimeout: 200ms}}");
        let delayed = format!("fault: {{delay: {{fixedDelay: 50ms}}}}, {}", twice("reset"));
        for (fields, deed, pause, expected) in [
            (twice("reset"), Deed::SaysAndResets(""), 0, "503 URX,UC"),
            (twice("5xx"), Deed::SaysAndEnds("HTTP/1."), 0, "502 URX,UPE"),
            (twice("5xx"), FINE, 900, "504 URX,UT"),
            (twice("connect-failure"), Deed::SaysAndResets(""), 0, "503 UC"),
            (twice("retriable-4xx"), Deed::Says("HTTP/1.1 409 X\r\nContent-Length: 0\r\n\r\n"), 0, "409 URX"),
            (twice("retriable-4xx"), Deed::Says("HTTP/1.1 404 X\r\nContent-Length: 0\r\n\r\n"), 0, "404 -"),
            (delayed, Deed::SaysAndResets(""), 0, "503 DI,URX,UC"),
            ("timeout: 300ms".to_owned(), FINE, 900, "504 UT"),
        ] {
            let site = site().with(&route(HOST, &fields));
            let outcome = ask(&site, seed, GET, deed, Duration::from_millis(pause));
            let words = outcome.words();
            assert_eq!(format!("{} {}", words[0], words[1]), expected, "{fields} {deed:?}: {}", outcome.line);
            let tries = if expected.contains("URX") { 2 } else { 1 };
            assert_eq!(outcome.seen.len(), tries, "{fields} {deed:?}");
        }
    });
}

/// Only the data counts, however it is framed; and how long the server took begins with the request's last byte.
#[test]
fn bytes_and_times_are_those_of_the_body_and_the_server() {
    const CHUNKS: &str = "POST /up HTTP/1.1\r\nHost: plain.example\r\nTransfer-Encoding: chunked\r\n\r\n\
        3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nX-Trailer: 1\r\n\r\n";
    const COUNTED: &str = "POST /up HTTP/1.1\r\nHost: plain.example\r\nContent-Length: 7\r\n\r\nabcdefg";
    const HEAD: &str = "HEAD /up HTTP/1.1\r\nHost: plain.example\r\n\r\n";
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n";
    for_each_seed(5, |seed| {
        for (request, deed, expected) in [
            (CHUNKS, FINE, "7 2"),
            (COUNTED, Deed::Says(chunked), "7 6"),
            (HEAD, Deed::Says("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"), "0 0"),
            (GET, Deed::SaysAndEnds("HTTP/1.1 200 OK\r\n\r\nhello"), "0 5"),
        ] {
            let site = site().with(&route(HOST, "fault: {delay: {fixedDelay: 2s}}"));
            let outcome = ask(&site, seed, request, deed, Duration::from_millis(500));
            let words = outcome.words();
            assert_eq!(format!("{} {}", words[5], words[6]), expected, "{}", outcome.line);
            let (whole, server): (u64, u64) = (words[7].parse().unwrap(), words[8].parse().unwrap());
            assert!(whole >= 2500 && (500..2000).contains(&server), "the delay is not the server's: {}", outcome.line);
        }
        // An answer that came before the request was whole.
        let half = "POST / HTTP/1.1\r\nHost: plain.example\r\nContent-Length: 9\r\n\r\nabc";
        let early = ask_early(&site(), seed, half);
        assert_eq!(early.words()[8], "-", "{}", early.line);
    });
}

/// The server answers what has not come yet.
fn ask_early(site: &Site, seed: u64, request: &'static str) -> Told {
    let (mut lines, ()) = site.play(seed, async |stage| {
        stage.world.serve(address("203.0.113.1:80"), |far| async move {
            let mut talk = Talk::new(Wire::plain(far));
            talk.head().await.unwrap();
            let answer = b"HTTP/1.1 413 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            talk.send(answer).await.unwrap();
            talk.wire.finish().await;
            drop(talk.rest().await);
        });
        let world = Rc::clone(&stage.world);
        stage.spawn("an answer", async move {
            assert_eq!(one(&world, request).await.map(|answer| answer.status), Some(413));
        });
    });
    Told { line: lines.remove(0), answer: None, seen: Vec::new() }
}

/// The twelfth quoted field behind the request is `x-request-id`.
fn id_of(line: &str) -> &str {
    line.split('"').nth(9).unwrap_or_default()
}

#[test]
fn requests_have_a_name() {
    const NAMED: &str =
        "GET /a HTTP/1.1\r\nHost: plain.example\r\nX-Request-Id: mine\r\nX-Envoy-Max-Retries: 3\r\n\r\n";
    for_each_seed(3, |seed| {
        for (mode, sends, logs) in
            [("", false, true), ("requestId: SEND", true, true), ("requestId: OFF", false, false)]
        {
            let site = if mode.is_empty() { site() } else { site().with(&settings(mode)) };
            let outcome = ask(&site, seed, GET, FINE, Duration::ZERO);
            let id = id_of(&outcome.line);
            assert_eq!((id.len(), id == "-"), if logs { (36, false) } else { (1, true) }, "{mode}: {}", outcome.line);
            assert_eq!(field(&outcome.seen[0], "x-request-id"), sends.then_some(id), "{mode}");
            let outcome = ask(&site, seed, NAMED, FINE, Duration::ZERO);
            assert_eq!(id_of(&outcome.line), "mine", "{mode}: {}", outcome.line);
            assert_eq!(field(&outcome.seen[0], "x-request-id"), Some("mine"), "{mode}");
            // What tells Envoy's router what to do is for nobody behind it.
            let control = field(&outcome.seen[0], "x-envoy-max-retries");
            assert_eq!(control, (!sends).then_some("3"), "{mode}");
        }
    });
}

#[test]
fn dashboards_are_told_how_long_the_server_took() {
    for_each_seed(3, |seed| {
        let site = site().with(&settings("envoyHeaders: true"));
        let outcome = ask(&site, seed, GET, FINE, Duration::from_millis(300));
        let head = outcome.answer.as_ref().unwrap().head.clone();
        let told: u64 = field(&head, "x-envoy-upstream-service-time").expect("the field").parse().unwrap();
        assert!((300..400).contains(&told), "{head}");
        assert_eq!(outcome.words()[8], told.to_string(), "{}", outcome.line);
        let plain = ask(&self::site(), seed, GET, FINE, Duration::ZERO);
        assert_eq!(field(&plain.answer.unwrap().head, "x-envoy-upstream-service-time"), None);
    });
}

#[test]
fn what_cannot_be_read_is_logged_as_envoy_logs_it() {
    for_each_seed(3, |seed| {
        for (request, expected) in [
            ("GET / HTTP/1.1\r\n\r\n", "\"GET / HTTP/1.1\" 400 - missing_host_header"),
            ("PUT /a?b HTTP/1.1\r\nX: y\r\n\r\n", "\"PUT /a?b HTTP/1.1\" 400 - missing_host_header"),
            ("GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", "\"- - HTTP/1.1\" 400 DPE http1.codec_error"),
            ("GET / HTTP/1.1\r\nHost: a\r\n X: y\r\n\r\n", "\"- - HTTP/1.1\" 400 DPE http1.codec_error"),
            ("G@T / HTTP/1.1\r\nHost: a\r\n\r\n", "\"- - HTTP/1.1\" 400 DPE http1.codec_error"),
        ] {
            let outcome = ask(&site(), seed, request, FINE, Duration::ZERO);
            assert!(outcome.line.contains(expected), "{}", outcome.line);
            let body = outcome.answer.unwrap().body;
            assert!(!body.is_empty(), "the text says what is wrong");
        }
    });
}

#[test]
fn routes_and_clusters_are_named_as_envoy_names_them() {
    let abort = "fault: {abort: {httpStatus: 418}}";
    let rewrite = "name: moved, rewrite: {authority: \"other.example:81\"}";
    let answers = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: answers}
spec: {hosts: [plain.example], http: [{directResponse: {status: 204}}]}
";
    let cluster = "outbound|80||plain.example";
    for_each_seed(3, |seed| {
        let with_route = |fields: &str| site().with(&route(HOST, fields));
        for (site, status, authority, cluster, name) in [
            (site(), "200", HOST, cluster, "default"),
            (with_route("timeout: 9s"), "200", HOST, cluster, "-"),
            (with_route("name: mine"), "200", HOST, cluster, "mine"),
            (with_route(abort), "418", HOST, cluster, "-"),
            (with_route(rewrite), "200", "other.example:81", cluster, "moved"),
            (site().with(answers), "204", HOST, "-", "-"),
        ] {
            let outcome = ask(&site, seed, GET, FINE, Duration::ZERO);
            let quoted: Vec<_> = outcome.line.split('"').collect();
            assert_eq!((outcome.words()[0], quoted[11]), (status, authority), "{}", outcome.line);
            let tail: Vec<_> = outcome.line.split("\" ").last().unwrap().split(' ').collect();
            assert_eq!((tail[0], *tail.last().unwrap()), (cluster, name), "{}", outcome.line);
        }
        let closed = Site::new().with(&settings("outboundTrafficPolicy: REGISTRY_ONLY"));
        let closed = closed.with(&http_entry("other.example", 80, 80));
        let outcome = ask(&closed, seed, GET, FINE, Duration::ZERO);
        assert!(outcome.line.contains(" 502 - direct_response "), "{}", outcome.line);
        assert!(outcome.line.ends_with(" block_all") && !outcome.line.contains("BlackHole"), "{}", outcome.line);
    });
}

/// A response's head may be larger than a request's.
#[test]
fn heads_of_answers_may_have_a_third_more() {
    let answer = |bytes: usize| -> &'static str {
        Box::leak(format!("HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 0\r\n\r\n", "a".repeat(bytes)).into_boxed_str())
    };
    for (bytes, status) in [(81_000, 200), (82_500, 502)] {
        let outcome = ask(&site(), 1, GET, Deed::Says(answer(bytes)), Duration::ZERO);
        assert_eq!(outcome.answer.unwrap().status, status, "{bytes}");
    }
}

#[test]
fn who_is_over_a_limit_is_told_to_send_less() {
    let site = site().with(&rule(HOST, "{connectionPool: {http: {http2MaxRequests: 1}}}"));
    for_each_seed(3, |seed| {
        let (lines, ()) = site.play(seed, async |stage| {
            let heads = Rc::default();
            let pause = Duration::from_secs(2);
            stage.world.serve(address("203.0.113.1:80"), move |far| serve(far, FINE, pause, Rc::clone(&heads)));
            let world = Rc::clone(&stage.world);
            stage.spawn("both answers", async move {
                let first = one(&world, GET);
                let second = async {
                    world.sleep(Duration::from_secs(1)).await;
                    one(&world, GET).await
                };
                let (first, second) = futures_lite::future::zip(first, second).await;
                assert_eq!(first.unwrap().status, 200);
                let second = second.unwrap();
                assert_eq!((second.status, field(&second.head, "x-envoy-overloaded")), (503, Some("true")));
            });
        });
        assert!(lines.iter().any(|line| line.contains(" 503 UO ")), "{lines:?}");
    });
}

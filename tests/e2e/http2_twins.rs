//! The conversations of HTTP/1 (`tests/http/`), each held by its twin of HTTP/2: what is refused there is refused here, what
//! goes on there says the same to the server here, and no server ever gets what two readers could understand in two ways.

#[path = "../http/twin.rs"]
mod twin;

use std::net::SocketAddr;

use crate::http_cases::cases::{self, Case, End, Gets, Receives};
use crate::http_cases::judge;
use crate::http_cases::upstream::Upstream;
use crate::lab::client::HttpClient;
use crate::lab::documents::service_entry;
use crate::lab::frames::{self, DATA, END_STREAM, GOAWAY, HEADERS, RST_STREAM, RawHttp2};
use crate::lab::http2_client::{Answer, Http2Client, head};
use crate::lab::server::Server;
use crate::lab::{Family, Lab};
use twin::Twin;

const HOST: &str = "plain.example";

/// A body that needs no window.
const WINDOW: usize = 60_000;

/// What makes a request of HTTP/1 unacceptable, and cannot be said in HTTP/2: codings of a connection, chunks, a field
/// without its colon, versions, empty lines. Host may repeat what `:authority` says, and `:scheme` is not believed.
const UNSPEAKABLE: [&str; 11] = [
    "H5 ",
    "H6 ",
    "H7 ",
    "H9 ",
    "H10 ",
    "H11 ",
    r"H12 400 GET / HTTP/1.1\r\nHost: {h}\r\nHost: {h}\r\n",
    "H14 400 GET https://",
    r"H18 400 GET / HTTP/1.1\r\nHost: {h}\r\nX\r\n",
    "H20 ",
    "H21 ",
];

/// What goes on in HTTP/1 and not in HTTP/2, which is strict there: Host must repeat `:authority` (RFC 9113 §8.3.1), and the
/// codec takes paths in UTF-8 alone.
const REFUSED: [&str; 2] = ["H13 the target wins over Host", "H17 obs-text in a target"];

struct Stage {
    lab: Lab,
    upstream: Upstream,
    _server: Server,
}

fn site() -> SocketAddr {
    SocketAddr::new(Lab::address(Family::V4, 1), 80)
}

impl Stage {
    fn new() -> Stage {
        let lab = Lab::new();
        lab.names.set(HOST, &[site().ip()]);
        lab.configure("plain.yaml", &service_entry(HOST, &[(80, "HTTP", None)]));
        let upstream = Upstream::default();
        let shared = upstream.clone();
        let server = Server::start(&lab, site(), move |stream| shared.serve(stream));
        Stage { lab, upstream, _server: server }
    }
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Answered(u16),
    Reset(u32),
    /// With its connection.
    Ended(Option<u32>),
}

impl Outcome {
    fn is_refusal(self) -> bool {
        !matches!(self, Outcome::Answered(..400))
    }
}

/// Sends a request on a connection of its own.
fn ask(stage: &Stage, twin: &Twin) -> Outcome {
    let mut client = RawHttp2::new(stage.lab.connect(site()).unwrap(), &[]);
    let (has_body, has_trailers) = (!twin.body.is_empty(), !twin.trailers.is_empty());
    let last = |is_last: bool| if is_last { END_STREAM } else { 0 };
    let mut bytes = frames::headers(1, last(!has_body && !has_trailers), &twin.block());
    let pieces = twin.body.len().div_ceil(10_000);
    for (at, piece) in twin.body.chunks(10_000).enumerate() {
        bytes.extend(frames::frame(DATA, last(at + 1 == pieces && !has_trailers), 1, piece));
    }
    if has_trailers {
        bytes.extend(frames::headers(1, END_STREAM, &twin.trailers));
    }
    let _ = client.send(&bytes);
    let mut status = None;
    loop {
        let Ok(frame) = client.next_of(&[DATA, HEADERS, RST_STREAM, GOAWAY]) else {
            return Outcome::Ended(None);
        };
        match frame.kind {
            GOAWAY => return Outcome::Ended(Some(frame.code())),
            RST_STREAM if status.is_none() || frame.code() != 0 => return Outcome::Reset(frame.code()),
            HEADERS if status.is_none_or(|status| status < 200) => status = frames::status(&frame.payload),
            _ => {}
        }
        if let (Some(status @ 200..), true) = (status, frame.flags & END_STREAM != 0 || frame.kind == RST_STREAM) {
            return Outcome::Answered(status);
        }
    }
}

/// `twin` with a word in its query that no other request has, where it has a path; and the word.
fn marked(mut twin: Twin, number: usize) -> (Twin, Vec<u8>) {
    if !twin.path.starts_with(b"/") {
        return (twin, Vec::new());
    }
    let word = format!("{}mark={number}.", if twin.path.contains(&b'?') { '&' } else { '?' }).into_bytes();
    twin.path.extend_from_slice(&word);
    (twin, word)
}

/// Holds one conversation by its twin, and says what was not as it should be.
fn hold(stage: &Stage, case: &Case, number: usize) -> Result<(), String> {
    // What was given up may come to the server when it expects the next one already: each knows its own.
    let received = |word: &[u8]| {
        let mut all = stage.upstream.received();
        all.retain(|message| word.is_empty() || message.raw.windows(word.len()).any(|part| part == word));
        all
    };
    let answer = case.bytes(&case.answer, HOST);
    let verbatim = Twin::of(&case.bytes(&case.client, HOST));
    let is_among = |titles: &[&str]| titles.iter().any(|title| case.title.starts_with(title));
    let is_refused = matches!(case.upstream, Receives::Nothing | Receives::Part) || is_among(&REFUSED);
    if verbatim.speaks_of_a_connection() {
        stage.upstream.expect(answer.clone(), case.end);
        let (verbatim, word) = marked(verbatim.clone(), 2 * number);
        let outcome = ask(stage, &verbatim);
        let got = received(&word);
        if !outcome.is_refusal() || !got.is_empty() {
            return Err(format!("{verbatim:?} is served: {outcome:?}, {got:?}"));
        }
    }
    let (twin, word) = marked(verbatim.translated(), 2 * number + 1);
    stage.upstream.expect(answer, case.end);
    let outcome = ask(stage, &twin);
    let got = received(&word);
    judge::unambiguous(&got)?;
    if is_refused && !is_among(&UNSPEAKABLE) {
        // A body may have begun when its trailers were read.
        let nothing = got.iter().all(|message| !message.is_complete);
        return match (outcome.is_refusal(), nothing) {
            (true, true) => Ok(()),
            _ => Err(format!("{twin:?} is served: {outcome:?}, {got:?}")),
        };
    }
    if is_refused && outcome.is_refusal() {
        return Ok(());
    }
    match (&outcome, got.as_slice()) {
        (Outcome::Answered(200), [message]) if Twin::of(&message.raw).essence() == twin.essence() => Ok(()),
        _ => Err(format!("{:?}: {outcome:?}, {got:#?}", twin.essence())),
    }
}

#[test]
fn requests_ask_for_the_same_and_for_no_more() {
    let stage = Stage::new();
    let _egret = stage.lab.egret(&[]);
    // What the server answers matters elsewhere.
    let is_of_requests = |case: &Case| case.answer == "HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok";
    let cases: Vec<Case> = cases::all().into_iter().filter(is_of_requests).collect();
    let fits = |case: &Case| case.bytes(&case.client, HOST).len() < 2 * WINDOW;
    let mut faults = Vec::new();
    let mut held = 0;
    for case in cases.iter().filter(|case| fits(case)) {
        held += 1;
        if let Err(fault) = hold(&stage, case, held) {
            faults.push(format!("{}: {}", case.title, fault.escape_debug()));
        }
        // Another connection, and the pooled one to the server.
        let clean = HttpClient::new(stage.lab.connect(site()).unwrap()).get(HOST, "/clean").unwrap();
        assert_eq!(clean.body, b"/clean", "after {}", case.title);
    }
    assert!(held > 150, "{held} cases");
    assert!(faults.is_empty(), "{} of {held}: {faults:#?}", faults.len());
}

/// What an application got of an answer: its status, its fields but those of the connection, and its body.
type Got = (u16, Vec<(String, String)>, Vec<u8>);

fn in_http1(stage: &Stage, case: &Case) -> Option<Got> {
    let mut client = HttpClient::new(stage.lab.connect(site()).unwrap());
    client.send(&case.bytes(&case.client, HOST)).unwrap();
    let answer = client.response_to(case.method()).ok()?;
    let lines = answer.head.text.trim_end().split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
    let fields = lines.map(|(name, value)| (name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned()));
    Some((answer.head.status, end_to_end(fields), answer.body))
}

fn in_http2(stage: &Stage, case: &Case) -> Option<Got> {
    let client = Http2Client::new(stage.lab.connect(site()).unwrap());
    let Answer { status, headers, body, .. } = client.request(head(case.method(), HOST, "/", &[]), None).ok()?;
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    Some((status, end_to_end(headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value)))), body))
}

fn end_to_end(fields: impl Iterator<Item = (String, String)>) -> Vec<(String, String)> {
    let is_told = |name: &str| name == "date" || twin::OF_A_CONNECTION.contains(&name.as_bytes());
    let mut fields: Vec<_> = fields.filter(|(name, _)| !is_told(name)).collect();
    fields.sort();
    fields
}

#[test]
fn answers_say_the_same() {
    let stage = Stage::new();
    let _egret = stage.lab.egret(&[]);
    let is_plain = |case: &Case| ["GET / HTTP/1.1", "HEAD / HTTP/1.1"].iter().any(|line| case.client.starts_with(line));
    let is_of_answers =
        |case: &Case| is_plain(case) && !case.client.contains("Upgrade") && case.upstream != Receives::Nothing;
    let (mut faults, mut held) = (Vec::new(), 0);
    for case in cases::all().iter().filter(|case| is_of_answers(case)) {
        let answer = case.bytes(&case.answer, HOST);
        stage.upstream.expect(answer.clone(), case.end);
        let old = in_http1(&stage, case);
        stage.upstream.expect(answer, case.end);
        let new = in_http2(&stage, case);
        // A reset may overtake what was sent before it.
        let may_differ = case.end == End::Reset && case.gets == Gets::Broken;
        if old != new && !may_differ {
            faults.push(format!("{}: {old:?}, but {new:?}", case.title));
        }
        held += 1;
    }
    assert!(held > 60, "{held} cases");
    assert!(faults.is_empty(), "{} of {held}: {faults:#?}", faults.len());
}

/// Policies that requests try to get around: one path is denied, one host is registered.
const POLICIES: &str = "apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: secret}
spec: {action: DENY, rules: [{to: [{operation: {paths: [/secret, /secret/*]}}]}, {to: [{operation: {methods: [DELETE]}}]},
  {to: [{operation: {hosts: [admin.example]}}]}, {when: [{key: 'request.headers[x-role]', values: [admin]}]}]}
";

/// Names by which a request may try to mean another host than it seems to.
const HOSTS: [&str; 14] = [
    HOST,
    "PLAIN.example",
    "plain.example.",
    "plain.example:80",
    "plain.example:81",
    "plain.example:080",
    "user@plain.example",
    "other.example",
    "admin.example",
    "203.0.113.1",
    "[::1]",
    "plain.example, other.example",
    "plain.example/..",
    "",
];

/// Request lines that try to be something else for policy than for a server.
const LINES: [&str; 19] = [
    "GET /",
    "GET /secret",
    "GET /secret/x",
    "GET /secret?x",
    "GET /SECRET",
    "GET /%73ecret",
    "GET /%2573ecret",
    "GET //secret",
    "GET /./secret",
    "GET /a/../secret",
    "GET /a/%2e%2e/secret",
    "GET /secret%2fx",
    "GET /a\\..\\secret",
    "GET /secret;x",
    "GET /secret#x",
    "DELETE /",
    "delete /",
    "OPTIONS *",
    "CONNECT plain.example:80",
];

const FIELDS: [&str; 5] =
    ["", "X-Role: admin\r\n", "X-Role: user\r\nX-Role: admin\r\n", "x-role:admin\r\n", "X-Rolex: admin\r\n"];

/// Whatever policy says of a request of HTTP/1, it says of its twin.
#[test]
fn a_stream_gets_past_no_policy_that_its_twin_does_not() {
    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let stage = Stage::new();
    stage.lab.configure("policies.yaml", POLICIES);
    let _egret = stage.lab.egret(&["--outbound-traffic-policy", "REGISTRY_ONLY"]);
    let whole = |line: &str, host: &str, more: &str| format!("{line} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n");
    let of_hosts = HOSTS.iter().flat_map(|host| LINES[..4].iter().map(move |line| whole(line, host, "")));
    let of_lines = LINES.iter().map(|line| whole(line, HOST, ""));
    let of_fields = FIELDS.iter().map(|field| whole("GET /", HOST, field));
    let mut faults = Vec::new();
    let (mut refused, mut served) = (0, 0);
    for request in of_hosts.chain(of_lines).chain(of_fields) {
        stage.upstream.expect(ANSWER.to_vec(), End::Stay);
        let mut client = HttpClient::new(stage.lab.connect(site()).unwrap());
        client.send(request.as_bytes()).unwrap();
        let old = client.response().map_or(0, |answer| answer.head.status);
        let before = stage.upstream.received().len();
        stage.upstream.expect(ANSWER.to_vec(), End::Stay);
        let new = ask(&stage, &Twin::of(request.as_bytes()).translated());
        let after = stage.upstream.received().len();
        let is_right = match (old, new) {
            (200, Outcome::Answered(200)) => before == 1 && after == 1,
            // The codec takes what stands behind # off a path, so that it is refused for another reason, if at all.
            (400, Outcome::Answered(403)) if request.contains('#') => after == 0,
            (_, Outcome::Answered(status)) => status == old && after == before,
            (_, Outcome::Reset(_) | Outcome::Ended(_)) => after == 0,
        };
        if !is_right {
            faults.push(format!("{request:?}: {old} and {before} at the server, but {new:?} and {after}"));
        }
        if old == 200 { served += 1 } else { refused += 1 }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    assert!(refused > 40 && served >= 8, "{refused} refused, {served} served");
}

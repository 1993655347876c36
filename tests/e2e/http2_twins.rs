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

/// Holds one conversation by its twin, and says what was not as it should be.
fn hold(stage: &Stage, case: &Case) -> Result<(), String> {
    let answer = case.bytes(&case.answer, HOST);
    let verbatim = Twin::of(&case.bytes(&case.client, HOST));
    let is_among = |titles: &[&str]| titles.iter().any(|title| case.title.starts_with(title));
    let is_refused = matches!(case.upstream, Receives::Nothing | Receives::Part) || is_among(&REFUSED);
    if verbatim.speaks_of_a_connection() {
        stage.upstream.expect(answer.clone(), case.end);
        let outcome = ask(stage, &verbatim);
        let got = stage.upstream.received();
        if !outcome.is_refusal() || !got.is_empty() {
            return Err(format!("{verbatim:?} is served: {outcome:?}, {got:?}"));
        }
    }
    let twin = verbatim.translated();
    stage.upstream.expect(answer, case.end);
    let outcome = ask(stage, &twin);
    let got = stage.upstream.received();
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
        if let Err(fault) = hold(&stage, case) {
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

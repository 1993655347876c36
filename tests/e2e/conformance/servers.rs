//! Servers that break the rules: egret leaves them, tells why, and the application gets no answer that is none.

use std::io;
use std::sync::{Arc, Mutex, mpsc};

use super::framing::data;
use super::{HOST, site};
use crate::lab::client::HttpClient;
use crate::lab::documents::service_entry;
use crate::lab::frames::*;
use crate::lab::server::Server;
use crate::lab::{Lab, PATIENCE};

/// What the server says behind the request's HEADERS, and what comes of it.
struct Case {
    section: &'static str,
    what: &'static str,
    frames: Vec<u8>,
    expected: Expected,
}

#[derive(Clone, Copy)]
enum Expected {
    /// The application gets an error, and the server RST_STREAM or GOAWAY with one of these codes.
    Told(&'static [u32]),
    /// The application gets an error; for the server, the stream was over.
    Failed,
    /// The application gets the answer.
    Served,
}

fn case(section: &'static str, what: &'static str, frames: impl Into<Vec<u8>>, codes: &'static [u32]) -> Case {
    Case { section, what, frames: frames.into(), expected: Expected::Told(codes) }
}

/// The codec has one code for frames that are not as they should be, and for compression.
const ANY: &[u32] = &[PROTOCOL_ERROR, FRAME_SIZE_ERROR, FLOW_CONTROL_ERROR, COMPRESSION_ERROR];

const OK: (&str, &str) = (":status", "200");

fn head(flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    headers(1, flags, fields)
}

/// A head, and what follows it.
fn ok(rest: &[u8]) -> Vec<u8> {
    [&head(0, &[OK]), rest].concat()
}

fn frames() -> Vec<Case> {
    let push = frame(PUSH_PROMISE, END_HEADERS, 1, &[&[0, 0, 0, 2][..], &super::framing::request("GET", "/")].concat());
    let begun = frame(HEADERS, 0, 1, &block(&[OK]));
    let endless = [&begun[..], &frame(CONTINUATION, 0, 1, b"").repeat(1000)].concat();
    let broken = [&begun[..], &frame(PING, 0, 0, &[0; 8])].concat();
    vec![
        case("4.2", "DATA larger than allowed", ok(&data(1, 0, &[0; 16_385])), &[FRAME_SIZE_ERROR]),
        case("5.1", "DATA on an idle stream", data(3, 0, b"x"), &[PROTOCOL_ERROR]),
        case("5.1", "WINDOW_UPDATE on an idle stream", window_update(3, 1), &[PROTOCOL_ERROR]),
        case("5.1", "RST_STREAM on an idle stream", reset(3), &[PROTOCOL_ERROR]),
        case("5.1.1", "HEADERS on a stream of the server's", headers(2, END_STREAM, &[OK]), &[PROTOCOL_ERROR]),
        case("6.1", "DATA on stream 0", data(0, 0, b"x"), &[PROTOCOL_ERROR]),
        case("6.1", "padding as long as the payload", ok(&frame(DATA, PADDED, 1, &[5, 0])), &[PROTOCOL_ERROR]),
        case("6.1", "DATA before the head", data(1, 0, b"x"), &[PROTOCOL_ERROR]),
        case("6.2", "a frame in a header block", broken, &[PROTOCOL_ERROR]),
        case("6.10", "a header block without end", endless, &[ENHANCE_YOUR_CALM, PROTOCOL_ERROR]),
        case("6.4", "RST_STREAM of 3 bytes", frame(RST_STREAM, 0, 1, &[0; 3]), ANY),
        case("6.5", "an ACK with a payload", frame(SETTINGS, ACK, 0, &[0; 6]), ANY),
        case("6.5", "SETTINGS on a stream", frame(SETTINGS, 0, 1, b""), &[PROTOCOL_ERROR]),
        case("6.5.2", "a window beyond 2^31-1", settings(&[(INITIAL_WINDOW_SIZE, 1 << 31)]), ANY),
        case("6.5.2", "frames below 2^14", settings(&[(MAX_FRAME_SIZE, 1)]), &[PROTOCOL_ERROR]),
        case("6.6", "PUSH_PROMISE", push, &[PROTOCOL_ERROR]),
        case("6.7", "PING of 7 bytes", frame(PING, 0, 0, &[0; 7]), ANY),
        case("6.8", "GOAWAY on a stream", frame(GOAWAY, 0, 1, &[0; 8]), &[PROTOCOL_ERROR]),
        case("6.9", "an increment of 0", window_update(0, 0), &[PROTOCOL_ERROR]),
        case("6.9", "an increment of 0 on a stream", window_update(1, 0), &[PROTOCOL_ERROR]),
        case("6.9.1", "a window beyond 2^31-1", window_update(0, 0x7fff_ffff), &[FLOW_CONTROL_ERROR]),
        case("6.9.1", "more than the window", ok(&data(1, 0, &[0; 16_384]).repeat(2000)), &[FLOW_CONTROL_ERROR]),
        case("RFC 7541 6.1", "index 0", frame(HEADERS, END_HEADERS, 1, &[0x80]), ANY),
        case("RFC 7541 6.3", "a table too large", frame(HEADERS, END_HEADERS, 1, &[0x3f, 0xe2, 0x1f]), ANY),
    ]
}

/// Heads that end their stream.
fn heads() -> Vec<Case> {
    let alone = |what, fields: &[(&str, &str)]| {
        let frames = head(END_STREAM, fields);
        Case { section: "8.2, 8.3", what, frames, expected: Expected::Failed }
    };
    let with = |what, name, value| alone(what, &[OK, (name, value)]);
    vec![
        alone("no :status", &[("x-a", "1")]),
        alone("a :status that is no number", &[(":status", "2x0")]),
        alone("a pseudo-field behind a field", &[("x", "y"), OK]),
        alone("an interim response that is the end", &[(":status", "103")]),
        with(":status twice", ":status", "200"),
        with("a pseudo-field nobody knows", ":x", "y"),
        with("a name in upper case", "X-A", "1"),
        with("CR LF in a value", "x", "1\r\ny: 2"),
        with("a value that begins with a blank", "x", " y"),
        with("connection", "connection", "close"),
        with("transfer-encoding", "transfer-encoding", "chunked"),
        with("a length, and no body", "content-length", "5"),
    ]
}

/// Bodies that do not fit their heads.
fn bodies() -> Vec<Case> {
    let malformed: &[u32] = &[PROTOCOL_ERROR];
    let body = data(1, END_STREAM, b"hello");
    let alone = |what, status, more: &[(&str, &str)], rest: &[u8]| {
        let frames = [&head(0, &[&[(":status", status)], more].concat()), rest].concat();
        Case { section: "8.1", what, frames, expected: Expected::Failed }
    };
    vec![
        alone("101", "101", &[], &body),
        alone("a body that is too short", "200", &[("content-length", "9")], &body),
        alone("a body that is too long", "200", &[("content-length", "2")], &body),
        alone("a body behind 204", "204", &[], &body),
        case("8.1", "trailers that do not end", ok(&head(0, &[("x", "y")])), malformed),
    ]
}

fn answers() -> Vec<Case> {
    let body = data(1, END_STREAM, b"hello");
    let open = data(1, 0, b"hello");
    let padded = frame(DATA, END_STREAM | PADDED, 1, b"\x03hello\0\0\0");
    let no_error = frame(RST_STREAM, 0, 1, &NO_ERROR.to_be_bytes());
    let hints = [head(0, &[(":status", "103"), ("link", "</a>")]), ok(&body)].concat();
    let length = [head(0, &[OK, ("content-length", "5")]), body.clone()].concat();
    let case = |section, what, frames: Vec<u8>| Case { section, what, frames, expected: Expected::Served };
    vec![
        case("8.1", "a body", ok(&body)),
        case("8.1", "a body of a known length", length),
        case("8.1", "an interim response", hints),
        case("8.1", "trailers", ok(&[open.clone(), head(END_STREAM, &[("x-sum", "1")])].concat())),
        case("6.1", "padding", ok(&padded)),
        case("6.1", "an empty DATA at the end", ok(&[open, data(1, END_STREAM, b"")].concat())),
        case("8.1", "NO_ERROR behind the answer", ok(&[body.clone(), no_error].concat())),
        case("4.1", "a frame of an unknown type", [frame(0x42, 0xff, 1, b"x"), ok(&body)].concat()),
        case("6.5.2", "a setting nobody knows", [settings(&[(0xff, 1)]), ok(&body)].concat()),
        case("6.3", "PRIORITY", [priority(1, 3), ok(&body)].concat()),
        // Malformed by §8.3; the codec leaves the field out, so that nobody is told.
        case("8.3", "a pseudo-field of requests", [head(0, &[OK, (":path", "/")]), body].concat()),
    ]
}

/// What the server was told: the frame that ended its stream or connection, if any did.
type Told = Option<(u8, u32)>;

fn serve(stream: std::net::TcpStream, frames: &[u8], tell: &mpsc::Sender<Told>) -> io::Result<()> {
    let mut server = RawHttp2::server(stream, &[])?;
    server.next_of(&[HEADERS])?;
    let mut speaker = RawHttp2::from(server.stream().try_clone()?);
    let mut told = None;
    std::thread::scope(|scope| {
        // Whoever was sent away cannot say all.
        scope.spawn(|| drop(speaker.send(frames)));
        if let Ok(end) = server.next_of(&[RST_STREAM, GOAWAY]) {
            told = Some((end.kind, end.code()));
        }
        let _ = server.stream().shutdown(std::net::Shutdown::Write);
        // Until egret has closed it too: the next request must not meet it.
        while server.frame().is_ok() {}
    });
    tell.send(told).map_err(io::Error::other)
}

fn hold(lab: &Lab, case: &Case, told: &mpsc::Receiver<Told>) -> Result<(), String> {
    let mut client = HttpClient::new(lab.connect(site()).unwrap());
    client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes()).unwrap();
    let end = told.recv_timeout(PATIENCE * 2).map_err(|error| error.to_string())?;
    let answer = client.response();
    let is_failed = answer.as_ref().map_or(true, |answer| answer.head.status >= 500);
    let is_served = answer.as_ref().is_ok_and(|answer| answer.head.status == 200 && answer.body == b"hello");
    let is_as_expected = match (case.expected, end) {
        (Expected::Told(codes), Some((_, code))) => is_failed && codes.contains(&code),
        (Expected::Told(_), None) => false,
        (Expected::Failed, _) => is_failed,
        (Expected::Served, end) => is_served && end.is_none_or(|(_, code)| code == NO_ERROR),
    };
    let status = answer.map(|answer| answer.head.status);
    if is_as_expected { Ok(()) } else { Err(format!("{end:?}, {status:?}")) }
}

#[test]
fn servers_that_break_the_rules_are_left() {
    const NO_TRIES: &str = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: web}\nspec: {hosts: \
        [web.example], http: [{retries: {attempts: 0}, route: [{destination: {host: web.example}}]}]}\n";
    let lab = Lab::new();
    lab.names.set(HOST, &[site().ip()]);
    lab.configure("web.yaml", &service_entry(HOST, &[(80, "HTTP2", None)]));
    lab.configure("tries.yaml", NO_TRIES);
    let (tell, told) = mpsc::channel();
    let (tell, script) = (Mutex::new(tell), Arc::new(Mutex::new(Vec::new())));
    let play = Arc::clone(&script);
    let _server = Server::start(&lab, site(), move |stream| {
        let (frames, tell) = (play.lock().unwrap().clone(), tell.lock().unwrap().clone());
        serve(stream, &frames, &tell)
    });
    let egret = lab.egret(&["--workers", "1"]);
    let goodbye = goaway(1, NO_ERROR);
    let mut faults = Vec::new();
    let cases: Vec<Case> = [frames(), heads(), bodies(), answers()].into_iter().flatten().collect();
    for case in &cases {
        // Where nobody is sent away, the server ends the connection.
        let last = if matches!(case.expected, Expected::Told(_)) { b"" } else { &goodbye[..] };
        *script.lock().unwrap() = [&case.frames, last].concat();
        if let Err(fault) = hold(&lab, case, &told) {
            faults.push(format!("§{} {}: {fault}", case.section, case.what));
        }
    }
    assert!(faults.is_empty(), "{} of {}:\n{}", faults.len(), cases.len(), faults.join("\n"));
    crate::lab::eventually("nothing is left of them", || egret.metric("egret_connections_active") == Some(0.0));
}

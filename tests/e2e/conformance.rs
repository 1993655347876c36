//! HTTP/2 by the book: what RFC 9113 and RFC 7541 demand of egret when a peer breaks them, and when it does what is rare.
//!
//! A case is what a peer sends, byte by byte, and what must come of it. Each has a connection of its own; all of a table
//! share one process. Where the RFC leaves the choice between an error of the stream and one of the connection, a case does.

mod compression;
mod framing;
mod messages;
mod servers;
mod streams;

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::{Mutex, mpsc};

use crate::lab::client::Framing;
use crate::lab::documents::service_entry;
use crate::lab::frames::*;
use crate::lab::proxy::on_epoll;
use crate::lab::server::{HttpServer, Server};
use crate::lab::{Family, Lab};

const HOST: &str = "web.example";

/// Streams that egret allows at once.
const MOST_STREAMS: u32 = 20;

/// What is asked for after a case, to see that the connection still serves.
const AFTERWARDS: u32 = 0x00ff_ffff;

/// What must come of what was sent.
#[derive(Debug)]
pub enum Expected {
    /// GOAWAY with one of these codes, and the end.
    Connection(&'static [u32]),
    /// RST_STREAM of this stream with one of these codes; the connection serves on.
    Stream(u32, &'static [u32]),
    /// Either of them: an error of a stream may end its connection (§5.4.2).
    Either(&'static [u32]),
    /// The stream is answered with this status, to its end; the connection serves on.
    Served(u32, u16),
    /// The same, and then the connection ends in order.
    Last(u32, u16),
    /// This frame comes; the connection serves on.
    Comes(u8, u8, Vec<u8>),
    /// The connection serves on, as if nothing had been.
    Ignored,
}

pub enum Step {
    Send(Vec<u8>),
    /// Until this stream has been answered to its end.
    Answered(u32),
    /// Until a frame of this type has come.
    Came(u8),
}

pub struct Case {
    /// Of RFC 9113, or of another where it says so.
    section: &'static str,
    what: &'static str,
    settings: &'static [(u16, u32)],
    steps: Vec<Step>,
    expected: Expected,
}

/// A case that sends `bytes` when settings have been exchanged.
pub fn case(section: &'static str, what: &'static str, bytes: impl Into<Vec<u8>>, expected: Expected) -> Case {
    Case { section, what, settings: &[], steps: vec![Step::Send(bytes.into())], expected }
}

/// A case of several steps.
pub fn play(section: &'static str, what: &'static str, steps: Vec<Step>, expected: Expected) -> Case {
    Case { section, what, settings: &[], steps, expected }
}

impl Case {
    /// The settings that the client begins with.
    fn after(self, settings: &'static [(u16, u32)]) -> Self {
        Self { settings, ..self }
    }

    fn hold(&self, lab: &Lab) -> Result<(), String> {
        let mut client = RawHttp2::new(lab.connect(site()).unwrap(), self.settings);
        // Egret's settings, and that it has taken ours.
        let is_ack = |frame: &Frame| frame.kind == SETTINGS && frame.flags == ACK;
        until(&mut client, "the settings", is_ack)?;
        for step in &self.steps {
            match step {
                // Whoever has been sent away cannot say more.
                Step::Send(bytes) => drop(client.send(bytes)),
                Step::Came(kind) => drop(until(&mut client, "the frame", |frame| frame.kind == *kind)?),
                Step::Answered(stream) => drop(until(&mut client, "an answer", |frame| is_end(frame, *stream))?),
            }
        }
        self.judge(&mut client)
    }

    fn judge(&self, client: &mut RawHttp2) -> Result<(), String> {
        let is_error = |frame: &Frame, codes: &[u32]| codes.contains(&frame.code());
        match &self.expected {
            Expected::Connection(codes) => {
                let end = until(client, "GOAWAY", |frame| frame.kind == GOAWAY)?;
                return if is_error(&end, codes) { ended(client) } else { Err(format!("{end:?}")) };
            }
            Expected::Either(codes) => {
                let end = until(client, "an error", |frame| matches!(frame.kind, GOAWAY | RST_STREAM))?;
                return if is_error(&end, codes) { Ok(()) } else { Err(format!("{end:?}")) };
            }
            Expected::Stream(stream, codes) => {
                let end = until(client, "RST_STREAM", |frame| matches!(frame.kind, GOAWAY | RST_STREAM))?;
                if end.kind != RST_STREAM || end.stream != *stream || !is_error(&end, codes) {
                    return Err(format!("{end:?}"));
                }
            }
            Expected::Last(stream, status) => {
                served(client, *stream, *status)?;
                return ended(client);
            }
            Expected::Served(stream, status) => served(client, *stream, *status)?,
            Expected::Comes(kind, flags, payload) => {
                let is_it = |frame: &Frame| (frame.kind, frame.flags, &frame.payload) == (*kind, *flags, payload);
                until(client, "the frame", is_it)?;
            }
            Expected::Ignored => {}
        }
        client.send(&get(AFTERWARDS, HOST, "/")).map_err(|error| error.to_string())?;
        let is_answer = |frame: &Frame| frame.stream == AFTERWARDS || frame.kind == GOAWAY;
        let answer = until(client, "answer afterwards", is_answer)?;
        let is_served = answer.kind == HEADERS && status(&answer.payload) == Some(200);
        if is_served { Ok(()) } else { Err(format!("afterwards {answer:?}")) }
    }
}

/// Whether a frame ends `stream` in order.
fn is_end(frame: &Frame, stream: u32) -> bool {
    let ends = match frame.kind {
        DATA | HEADERS => frame.flags & END_STREAM != 0,
        RST_STREAM => frame.code() == NO_ERROR,
        _ => false,
    };
    ends && frame.stream == stream
}

/// The first frame that `is_it`; what came before, if it does not come.
fn until(client: &mut RawHttp2, what: &str, is_it: impl Fn(&Frame) -> bool) -> Result<Frame, String> {
    let mut before = Vec::new();
    loop {
        match client.frame() {
            Ok(frame) if is_it(&frame) => return Ok(frame),
            Ok(frame) => before.push(frame),
            Err(error) => return Err(format!("no {what}, but {error} after {before:?}")),
        }
    }
}

fn served(client: &mut RawHttp2, stream: u32, expected: u16) -> Result<(), String> {
    let mut heads = Vec::new();
    loop {
        let frame = client.frame().map_err(|error| format!("{error} after {heads:?}"))?;
        match frame.kind {
            GOAWAY => return Err(format!("{frame:?}")),
            RST_STREAM if frame.stream == stream && frame.code() != NO_ERROR => return Err(format!("{frame:?}")),
            HEADERS if frame.stream == stream => heads.extend(status(&frame.payload)),
            _ => {}
        }
        if is_end(&frame, stream) {
            return if heads == [expected] { Ok(()) } else { Err(format!("answered with {heads:?}")) };
        }
    }
}

/// The connection ends.
fn ended(client: &mut RawHttp2) -> Result<(), String> {
    loop {
        match client.frame() {
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {
                return Ok(());
            }
            Err(error) => return Err(format!("the connection stays: {error}")),
        }
    }
}

fn site() -> SocketAddr {
    SocketAddr::new(Lab::address(Family::V4, 1), 80)
}

/// A lab with a site, which ends with it.
struct Stage {
    lab: Lab,
    server: Server,
    /// Whoever holds still does so until this is gone.
    _stalled: mpsc::Sender<()>,
}

impl Stage {
    /// A site that answers 200 when it has the whole request; `/never` not at all, and `/stalled` is not even read.
    fn new(protocol: &str) -> Self {
        let lab = Lab::new();
        lab.names.set(HOST, &[site().ip()]);
        lab.configure("web.yaml", &service_entry(HOST, &[(80, protocol, None)]));
        let (stalled, end) = mpsc::channel();
        let end = Mutex::new(end);
        let server = Server::start(&lab, site(), move |stream| {
            let mut server = HttpServer::new(stream);
            while let Some((_, target, head)) = server.request_head()? {
                match target.as_str() {
                    "/never" => return io::copy(server.connection().stream(), &mut io::sink()).map(drop),
                    "/stalled" => {
                        // Fails when the stage is gone: that is its end.
                        let _ = end.lock().unwrap().recv();
                        return Ok(());
                    }
                    _ => {}
                }
                if let framing @ (Framing::Length(_) | Framing::Chunked) = head.framing() {
                    server.connection().body(framing, |_| {})?;
                }
                server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")?;
            }
            Ok(())
        });
        Self { lab, server, _stalled: stalled }
    }
}

fn hold_all(lab: &Lab, cases: &[Case]) {
    let mut faults = Vec::new();
    for case in cases {
        if let Err(fault) = case.hold(lab) {
            faults.push(format!("§{} {}: {fault}", case.section, case.what));
        }
    }
    assert!(faults.is_empty(), "{} of {}:\n{}", faults.len(), cases.len(), faults.join("\n"));
}

fn applications_keep_to_the_book() {
    let stage = Stage::new("HTTP");
    let lab = &stage.lab;
    let streams = MOST_STREAMS.to_string();
    let egret = lab.egret(&["--workers", "1", "--http2-max-concurrent-streams", &streams]);
    let tables = [framing::cases(), streams::cases(), messages::cases(), compression::cases()];
    let cases: Vec<Case> = tables.into_iter().flatten().collect();
    hold_all(lab, &cases);
    println!("{} cases", cases.len());
    crate::lab::eventually("nothing is left of them", || egret.metric("egret_connections_active") == Some(0.0));
}

#[test]
fn applications_that_break_the_rules_get_what_the_rules_say() {
    applications_keep_to_the_book();
}

#[test]
fn epoll_applications_that_break_the_rules_get_what_the_rules_say() {
    on_epoll(applications_keep_to_the_book);
}

/// §3.4: whoever does not begin as HTTP/2 does, nor as HTTP/1, is left without an answer.
#[test]
fn what_is_no_preface_ends_the_connection() {
    for protocol in ["HTTP", "HTTP2", "GRPC"] {
        let stage = Stage::new(protocol);
        let lab = &stage.lab;
        let egret = lab.egret(&["--workers", "1"]);
        for bytes in [&b"INVALID CONNECTION PREFACE\r\n\r\n"[..], b"PRI * HTTX/2.0\r\n\r\nSM\r\n\r\n"] {
            let mut client = lab.connect(site()).unwrap();
            client.write_all(bytes).unwrap();
            let mut answer = Vec::new();
            let _ = client.read_to_end(&mut answer);
            assert_eq!(answer, b"", "{protocol}: {}", bytes.escape_ascii());
        }
        egret.log_line(&["http_version_unknown"]);
        assert_eq!(stage.server.accepted(), 0, "{protocol}");
    }
}

/// §3.4: SETTINGS is the first frame of either side.
#[test]
fn settings_come_first() {
    let stage = Stage::new("HTTP");
    let lab = &stage.lab;
    let _egret = lab.egret(&["--workers", "1"]);
    let mut client = RawHttp2::new(lab.connect(site()).unwrap(), &[]);
    let first = client.frame().unwrap();
    assert_eq!((first.kind, first.flags, first.stream), (SETTINGS, 0, 0));
    for other in [frame(PING, 0, 0, &[0; 8]), get(1, HOST, "/"), frame(SETTINGS, ACK, 0, b""), window_update(0, 1)] {
        let mut stream = lab.connect(site()).unwrap();
        stream.write_all(&[PREFACE, &other].concat()).unwrap();
        let mut client = RawHttp2::from(stream);
        let end = client.next_of(&[GOAWAY]).unwrap();
        assert_eq!(end.code(), PROTOCOL_ERROR, "{other:?}");
        ended(&mut client).unwrap();
    }
}

//! HTTP/1 conversations as data: what an application sends, what the server gets, what it answers, what the application
//! gets, what is logged. Those of here are held through the kernel's redirect with the real binary; all of them, in every
//! way, over the simulated network (`src/proxy/tests/conversations.rs`). Each is followed by clean requests that must get
//! answers of their own.
//!
//! The cases stand in `tests/http/`; their form is described in the README there.

#[path = "../http/cases.rs"]
pub mod cases;
#[path = "../http/judge.rs"]
pub mod judge;
#[path = "../http/upstream.rs"]
pub mod upstream;

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Instant;

use crate::lab::client::HttpClient;
use crate::lab::documents::{origination, service_entry};
use crate::lab::pki::Leaf;
use crate::lab::server::Server;
use crate::lab::{Family, Lab, PATIENCE};
use cases::{After, Case, End, Gets, Receives};
use egret::http;
use upstream::Upstream;

const PLAIN: &str = "plain.example";
const SECURE: &str = "secure.example";

/// A case that is longer says no more when it comes in single bytes, and lasts.
const MAX_SINGLE_BYTES: usize = 1000;

/// How a case's bytes are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pieces {
    Whole,
    Bytes,
}

struct Stage {
    lab: Lab,
    upstream: Upstream,
    _servers: [Server; 2],
}

impl Stage {
    fn new() -> Stage {
        let lab = Lab::new();
        lab.names.set(PLAIN, &[Lab::address(Family::V4, 1)]);
        lab.names.set(SECURE, &[Lab::address(Family::V4, 2)]);
        lab.configure("plain.yaml", &service_entry(PLAIN, &[(80, "HTTP", None)]));
        lab.configure("secure.yaml", &origination(SECURE, Some(&lab.ca_file())));
        let pair = lab.authority.issue(SECURE, Leaf::Good);
        let upstream = Upstream::default();
        let (near, far) = (upstream.clone(), upstream.clone());
        let plain = Server::start(&lab, SocketAddr::new(Lab::address(Family::V4, 1), 80), move |s| near.serve(s));
        let at = SocketAddr::new(Lab::address(Family::V4, 2), 443);
        let secure = Server::start_tls(&lab, at, &pair, move |s| far.serve(s));
        Stage { lab, upstream, _servers: [plain, secure] }
    }

    fn open(&self) -> HttpClient {
        HttpClient::new(self.lab.connect(SocketAddr::new(Lab::address(Family::V4, 9), 80)).unwrap())
    }
}

/// The first case of each number, in turns plainly, through TLS and in single bytes.
fn chosen() -> Vec<(&'static str, Pieces, Case)> {
    const WAYS: [(&str, Pieces); 3] = [(PLAIN, Pieces::Whole), (SECURE, Pieces::Whole), (PLAIN, Pieces::Bytes)];
    let mut known = BTreeSet::new();
    let mut firsts = cases::all();
    firsts.retain(|case| known.insert(case.title.split(' ').next().unwrap_or_default().to_owned()));
    assert!(firsts.len() > 40, "{} numbers were read", firsts.len());
    let is_short = |case: &Case| case.bytes(&case.client, PLAIN).len() <= MAX_SINGLE_BYTES;
    let way = |(at, case): (usize, Case)| {
        let (host, pieces) = WAYS[at % WAYS.len()];
        (host, if is_short(&case) { pieces } else { Pieces::Whole }, case)
    };
    firsts.into_iter().enumerate().map(way).collect()
}

#[test]
fn conversations_go_as_written() {
    let cases = chosen();
    let stage = Stage::new();
    let egret = stage.lab.egret(&[]);
    let mut faults = Vec::new();
    let mut logged = Vec::new();
    for (host, pieces, case) in &cases {
        let mut client = stage.open();
        let port = client.stream().local_addr().unwrap().port();
        if let Err(fault) = hold(&stage, host, case, &mut client, *pieces) {
            faults.push(format!("{host}, {pieces:?}: {}: {fault}", case.title));
        }
        logged.push((host, case, format!("10.77.0.2:{port} ")));
    }
    // A line is found by the application's own port.
    let start = Instant::now();
    for (host, case, port) in logged.iter().filter(|(_, case, _)| !case.log.is_empty()) {
        let found = || {
            let log = egret.access_log();
            log.iter().any(|line| line.contains(port) && case.log.iter().all(|part| line.contains(part.as_str())))
        };
        let mut is_there = found();
        while !is_there && start.elapsed() < PATIENCE {
            std::thread::park_timeout(std::time::Duration::from_millis(20));
            is_there = found();
        }
        if !is_there {
            let log = egret.access_log();
            let lines: Vec<_> = log.iter().filter(|line| line.contains(port)).collect();
            faults.push(format!("{host}: {}: no log line with {:?}: {lines:#?}", case.title, case.log));
        }
    }
    assert!(faults.is_empty(), "{} of {}: {faults:#?}", faults.len(), logged.len());
}

/// Holds one conversation and says what was not as it should be.
fn hold(stage: &Stage, host: &str, case: &Case, client: &mut HttpClient, pieces: Pieces) -> Result<(), String> {
    let sent = case.bytes(&case.client, host);
    let answer = case.bytes(&case.answer, host);
    if case.upstream == Receives::Nothing {
        // So that nobody takes what follows for another protocol than HTTP.
        clean(client, host, "/clean-first")?;
    }
    stage.upstream.expect(answer.clone(), case.end);
    // A refusal may come, and the connection end, before everything has been sent.
    let _ = match pieces {
        Pieces::Whole => client.send(&sent),
        Pieces::Bytes => {
            client.stream().set_nodelay(true).map_err(|error| error.to_string())?;
            sent.iter().try_for_each(|byte| client.send(&[*byte]))
        }
    };
    application(case, host, client, &answer)?;
    server(stage, host, case, &sent)?;
    if case.after == After::Open {
        clean(client, host, "/clean-same")?;
    }
    // A new connection of the application, which may well get the pooled one to the server.
    clean(&mut stage.open(), host, "/clean-next")?;
    judge::unambiguous(&stage.upstream.received())
}

fn clean(client: &mut HttpClient, host: &str, path: &str) -> Result<(), String> {
    let response = client.get(host, path).map_err(|error| format!("{path}: {error}"))?;
    if response.body == path.as_bytes() { Ok(()) } else { Err(format!("{path} was answered with {response:?}")) }
}

/// Is what the application gets as written?
fn application(case: &Case, host: &str, client: &mut HttpClient, answer: &[u8]) -> Result<(), String> {
    let exactly = |client: &mut HttpClient, wanted: &[u8]| {
        let got = client.take(wanted.len());
        let shown = |bytes: &[u8]| bytes.escape_ascii().to_string();
        if got == wanted { Ok(()) } else { Err(format!("the application got {:?}", shown(&got))) }
    };
    match &case.gets {
        Gets::Same => exactly(client, answer)?,
        Gets::Bytes(text) => exactly(client, &case.bytes(text, host))?,
        Gets::Status(status) => {
            let response = client.response_to(case.method()).map_err(|error| format!("no answer: {error}"))?;
            if response.head.status != *status {
                return Err(format!("the application got {:?}", response.head.text));
            }
        }
        Gets::Broken | Gets::Refused => {
            return match client.response_to(case.method()).map_err(|error| error.kind()) {
                Err(ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => Ok(()),
                // A reset may overtake what was sent before it.
                Ok(response) if case.end == End::Reset && response.head.status == 503 => Ok(()),
                Ok(response) if case.gets == Gets::Refused && response.head.status == 502 => Ok(()),
                other => Err(format!("should be seen to be cut short: {other:?}")),
            };
        }
    }
    match case.after {
        After::Open => Ok(()),
        After::Closed => match client.rest() {
            Ok(rest) if rest.is_empty() => Ok(()),
            other => Err(format!("no clean end: {other:?}")),
        },
    }
}

/// Is what the server gets as written?
fn server(stage: &Stage, host: &str, case: &Case, sent: &[u8]) -> Result<(), String> {
    let wanted = match &case.upstream {
        Receives::Anything => return Ok(()),
        Receives::Part => {
            return match stage.upstream.received().as_slice() {
                [] => Ok(()),
                [message] if !message.is_complete => Ok(()),
                other => Err(format!("the server got {other:?}")),
            };
        }
        Receives::Cut => {
            return match stage.upstream.wait_for(1).as_slice() {
                [message] if !message.is_complete => Ok(()),
                other => Err(format!("the server got {other:?}")),
            };
        }
        Receives::Nothing => Vec::new(),
        Receives::Same => vec![sent.to_vec()],
        Receives::Messages(messages) => messages.iter().map(|text| case.bytes(text, host)).collect(),
    };
    let got = stage.upstream.wait_for(wanted.len());
    let is_it = got.len() == wanted.len() && got.iter().zip(&wanted).all(|(a, b)| a.is_complete && a.raw == *b);
    if is_it { Ok(()) } else { Err(format!("the server got {got:?}")) }
}

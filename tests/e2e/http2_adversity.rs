//! Applications that mean harm by HTTP/2, or stand still: their connection ends, egret's memory stays, and others are served.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::lab::client::HttpClient;
use crate::lab::documents::service_entry;
use crate::lab::frames::*;
use crate::lab::process;
use crate::lab::proxy::Egret;
use crate::lab::server::{HttpServer, Server};
use crate::lab::{Family, Lab, PATIENCE, eventually};

const HOST: &str = "web.example";
/// What attacks of each kind may make egret hold beyond what it holds already, in KiB, and what the same may once more.
const ROOM: u64 = 32 << 10;
const ROOM_AGAIN: u64 = 16 << 10;
const LARGE: usize = 1 << 20;

const ROUTES: &str = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web}
spec:
  hosts: [web.example]
  http:
  - match: [{uri: {exact: /hole}}]
    route: [{destination: {host: web.example, port: {number: 81}}}]
  - route: [{destination: {host: web.example, port: {number: 80}}}]
";

fn site() -> SocketAddr {
    SocketAddr::new(Lab::address(Family::V4, 1), 80)
}

/// A site that answers `/large` with 1 MiB, `/never` not at all, and anything else with `ok`. What is for `/hole` gets to no
/// server: its port takes no connection, and refuses none.
fn lab() -> (Lab, Server) {
    let lab = Lab::new();
    lab.names.set(HOST, &[site().ip()]);
    lab.configure("web.yaml", &service_entry(HOST, &[(80, "HTTP", None), (81, "HTTP", None)]));
    lab.configure("hole.yaml", ROUTES);
    let drops = ["-A", "INPUT", "-p", "tcp", "--dport", "81", "-j", "DROP"];
    process::finish(lab.outside.command("iptables", &drops)).succeeded();
    let server = Server::start(&lab, site(), |stream| {
        let mut server = HttpServer::new(stream);
        while let Some(request) = server.request()? {
            match request.target.as_str() {
                "/never" => return server.connection().stream().read(&mut [0; 1]).map(drop),
                "/large" => {
                    server.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n").as_bytes())?;
                    server.send(&vec![b'x'; LARGE])?;
                }
                _ => server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?,
            }
        }
        Ok(())
    });
    (lab, server)
}

fn connect(lab: &Lab, settings: &[(u16, u32)]) -> RawHttp2 {
    RawHttp2::new(connected(lab), settings)
}

/// Floods end by resets: a port that one of them has left may be refused, since the kernel's NAT takes it for the old one.
fn connected(lab: &Lab) -> TcpStream {
    (0..20).find_map(|_| lab.connect(site()).ok()).expect("one of twenty ports is free")
}

/// Sends `attack` with growing numbers until egret has had enough; the error code that it gave, if it came through.
fn attack(mut client: RawHttp2, attack: impl Fn(u32) -> Vec<u8>) -> Option<u32> {
    let mut reader = RawHttp2::from(client.stream().try_clone().unwrap());
    let code = thread::spawn(move || reader.next_of(&[GOAWAY]).ok().map(|frame| frame.code()));
    let start = Instant::now();
    let mut number = 0;
    while client.send(&(number..number + 50).flat_map(&attack).collect::<Vec<_>>()).is_ok() {
        number += 50;
        assert!(start.elapsed() < PATIENCE, "{number} of them are borne");
    }
    code.join().unwrap()
}

/// Runs `attacks` while another application asks; how long its slowest answer took.
fn while_another_asks<T>(lab: &Lab, attacks: impl FnOnce() -> T) -> (T, Duration) {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let other = scope.spawn(|| {
            let mut client = HttpClient::new(connected(lab));
            let mut slowest = Duration::ZERO;
            while !over.load(Ordering::Relaxed) {
                let asked = Instant::now();
                assert_eq!(client.get(HOST, "/").unwrap().head.status, 200);
                slowest = slowest.max(asked.elapsed());
            }
            slowest
        });
        let outcome = catch_unwind(AssertUnwindSafe(attacks));
        over.store(true, Ordering::Relaxed);
        let slowest = other.join().unwrap();
        (outcome.unwrap_or_else(|panic| resume_unwind(panic)), slowest)
    })
}

/// Less than by default, so that floods end soon; the hole takes no connection.
const LIMITS: [&str; 12] = [
    "--workers",
    "1",
    "--http2-max-concurrent-streams",
    "100",
    "--http2-idle-frame-burst",
    "1000",
    "--http2-idle-frames-per-second",
    "100",
    "--http2-max-protocol-errors",
    "100",
    "--connect-timeout",
    "600s",
];

/// The frames that come with a number.
type Attack<'a> = Box<dyn Fn(u32) -> Vec<u8> + 'a>;

/// What comes before an attack, and the attack.
type Flood<'a> = (&'a str, Vec<u8>, Attack<'a>);

fn same<'a>(bytes: Vec<u8>) -> Attack<'a> {
    Box::new(move |_| bytes.clone())
}

fn request(path: &str) -> [(&str, &str); 4] {
    [(":method", "POST"), (":scheme", "http"), (":authority", HOST), (":path", path)]
}

/// A stream that stays open: nobody answers.
fn open() -> Vec<u8> {
    headers(1, 0, &request("/never"))
}

/// Frames that carry nothing.
fn idle_frames<'a>() -> Vec<Flood<'a>> {
    let filler = block(&[("x-a", &"y".repeat(100))]).repeat(100);
    let endless = || frame(HEADERS, END_STREAM, 1, &block(&request("/never")));
    vec![
        ("a header block without end", endless(), same(frame(CONTINUATION, 0, 1, &filler))),
        ("a header block without end, of nothing", endless(), same(frame(CONTINUATION, 0, 1, b""))),
        ("PING", vec![], same(frame(PING, 0, 0, &[0; 8]))),
        ("answers to no PING", vec![], same(frame(PING, ACK, 0, &[0; 8]))),
        ("SETTINGS", vec![], same(frame(SETTINGS, 0, 0, b""))),
        ("SETTINGS that change every stream's window", open(), same(settings(&[(INITIAL_WINDOW_SIZE, 70_000)]))),
        ("PRIORITY", vec![], Box::new(|n| priority(2 * n + 1, 0))),
        ("WINDOW_UPDATE", open(), same(window_update(1, 1))),
        ("WINDOW_UPDATE of the connection", vec![], same(window_update(0, 1))),
        ("unknown frames", vec![], same(frame(0xf0, 0xff, 1, &[0; 100]))),
        ("empty DATA", open(), same(frame(DATA, 0, 1, b""))),
        ("DATA of padding alone", open(), same(frame(DATA, PADDED, 1, &[[255].as_slice(), &[0; 255]].concat()))),
    ]
}

/// Requests that cost more than they say.
fn requests<'a>() -> Vec<Flood<'a>> {
    let fields = block(&request("/never"));
    // A field of nearly the whole table, and then its index again and again: more than four times what is allowed.
    let swelling = |name: &[u8]| {
        let name = [&[0x40, name.len() as u8], name].concat();
        [&fields[..], &name, &[127, 0xa1, 0x1e], &[b'y'; 4000], &[0xbe; 200]].concat()
    };
    let whole = END_STREAM | END_HEADERS;
    let bomb = |name: &'static [u8]| -> Attack<'a> {
        let block = swelling(name);
        Box::new(move |n| frame(HEADERS, whole, 2 * n + 1, &block))
    };
    let malformed = [fields.clone(), block(&[("connection", "close")])].concat();
    let asked = |n| get(2 * n + 1, HOST, "/never");
    vec![
        ("rapid reset", vec![], Box::new(move |n| [asked(n), reset(2 * n + 1)].concat())),
        (
            "resets that egret is made to send",
            vec![],
            Box::new(move |n| [asked(n), window_update(2 * n + 1, 0x7fff_ffff)].concat()),
        ),
        ("malformed requests", vec![], Box::new(move |n| frame(HEADERS, whole, 2 * n + 1, &malformed))),
        ("more streams than allowed", vec![], Box::new(asked)),
        ("a head that swells", vec![], bomb(b"x")),
        ("a cookie that swells", vec![], bomb(b"cookie")),
        ("a Host that swells", vec![], bomb(b"host")),
        ("DATA in single bytes that nobody takes", headers(1, 0, &HOLE), same(frame(DATA, 0, 1, b"x"))),
    ]
}

/// A request to where nobody answers, so that its body stays here.
const HOLE: [(&str, &str); 4] = [(":method", "POST"), (":scheme", "http"), (":authority", HOST), (":path", "/hole")];

fn floods(lab: &Lab, egret: &Egret<'_>, room: u64) {
    let memory = egret.memory().resident_kib;
    for (what, before, frames) in idle_frames().into_iter().chain(requests()) {
        let (code, slowest) = while_another_asks(lab, || {
            let mut client = connect(lab, &[]);
            // They are acknowledged, and not within a header block.
            client.next_of(&[SETTINGS]).unwrap();
            client.send(&before).unwrap();
            attack(client, frames)
        });
        // Whoever goes on sending may miss what was said.
        assert_eq!(code.unwrap_or(ENHANCE_YOUR_CALM), ENHANCE_YOUR_CALM, "{what}");
        let grown = egret.memory().resident_kib.saturating_sub(memory);
        println!("{what}: {grown} KiB more, others waited for at most {slowest:?}");
        assert!(grown < room, "{what}: {grown} KiB");
        assert!(slowest < PATIENCE / 4, "{what}: {slowest:?}");
    }
}

#[test]
fn floods_end_their_connection_alone() {
    let (lab, _server) = lab();
    lab.egret_command(&["init"]).succeeded();
    for engine in ["uring", "epoll"] {
        let mut egret = lab.start_egret_behind(&[], engine, &LIMITS);
        floods(&lab, &egret, ROOM);
        floods(&lab, &egret, ROOM_AGAIN);
        eventually("nothing is left of them", || egret.metric("egret_connections_active") == Some(0.0));
        egret.kill();
    }
}

/// Streams that ask for much and take nothing: each holds no more than its share, and none for ever.
#[test]
fn streams_without_a_window_end_when_nothing_moves() {
    const CONNECTIONS: u64 = 4;
    const STREAMS: u32 = 100;
    let (lab, server) = lab();
    let egret = lab.egret(&["--workers", "1", "--idle-timeout", "3s"]);
    connect(&lab, &[]).next_of(&[SETTINGS]).unwrap();
    let memory = egret.memory().resident_kib;
    let mut clients: Vec<RawHttp2> = (0..CONNECTIONS)
        .map(|_| {
            let mut client = connect(&lab, &[(INITIAL_WINDOW_SIZE, 0)]);
            client.send(&(0..STREAMS).flat_map(|n| get(2 * n + 1, HOST, "/large")).collect::<Vec<_>>()).unwrap();
            client
        })
        .collect();
    eventually("all are asked for", || server.accepted() as u64 >= CONNECTIONS * u64::from(STREAMS));
    let mut most = 0;
    for client in &mut clients {
        for _ in 0..STREAMS {
            let ended = client.next_of(&[RST_STREAM]).unwrap();
            assert_eq!(ended.stream % 2, 1);
            most = egret.memory().resident_kib.max(most);
        }
    }
    let each = most.saturating_sub(memory) / (CONNECTIONS * u64::from(STREAMS));
    println!("{each} KiB for each stream that stands still");
    assert!(each < 256, "{each} KiB");
    drop(clients);
    eventually("nothing is left of them", || egret.metric("egret_connections_active") == Some(0.0));
}

/// The beginning of HTTP/2 is answered in no other language.
#[test]
fn a_preface_that_does_not_go_on_gets_no_answer_of_http1() {
    let (lab, _server) = lab();
    let egret = lab.egret(&["--request-headers-timeout", "1s"]);
    let mut client = connected(&lab);
    client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM").unwrap();
    let mut answer = Vec::new();
    let _ = client.read_to_end(&mut answer);
    assert_eq!(answer, b"");
    egret.log_line(&["http2_preface_timeout"]);
}

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
use crate::lab::proxy::Egret;
use crate::lab::server::{HttpServer, Server};
use crate::lab::{Family, Lab, PATIENCE, eventually};

const HOST: &str = "web.example";
/// What attacks of each kind may make egret hold beyond what it holds already, in KiB, and what the same may once more.
const ROOM: u64 = 32 << 10;
const ROOM_AGAIN: u64 = 4 << 10;
const LARGE: usize = 1 << 20;

fn site() -> SocketAddr {
    SocketAddr::new(Lab::address(Family::V4, 1), 80)
}

/// A site that answers `/large` with 1 MiB, `/never` not at all, and anything else with `ok`.
fn lab() -> (Lab, Server) {
    let lab = Lab::new();
    lab.names.set(HOST, &[site().ip()]);
    lab.configure("web.yaml", &service_entry(HOST, &[(80, "HTTP", None)]));
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
    RawHttp2::new(lab.connect(site()).unwrap(), settings)
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
            let mut client = HttpClient::new(lab.connect(site()).unwrap());
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

/// The frames that come with a number.
type Attack<'a> = Box<dyn Fn(u32) -> Vec<u8> + 'a>;

fn floods(lab: &Lab, egret: &Egret<'_>, room: u64) {
    let memory = egret.memory().resident_kib;
    let fields = [(":method", "GET"), (":scheme", "http"), (":authority", HOST), (":path", "/never")];
    let endless = frame(HEADERS, END_STREAM, 1, &block(&fields));
    let filler = block(&[("x-a", &"y".repeat(100))]).repeat(100);
    // A field of nearly the whole table, and then its index again and again: more than four times what is allowed.
    let mut bomb = [&block(&fields)[..], &[0x40, 1, b'x', 127, 0xa1, 0x1e], &[b'y'; 4000]].concat();
    bomb.extend_from_slice(&[0xbe; 200]);
    let open = frame(HEADERS, END_HEADERS, 1, &block(&fields));
    let attacks: [(&str, &[u8], Attack<'_>); 6] = [
        ("rapid reset", b"", Box::new(|n| [get(2 * n + 1, HOST, "/never"), reset(2 * n + 1)].concat())),
        ("a header block without end", &endless, Box::new(|_| frame(CONTINUATION, 0, 1, &filler))),
        ("PING", b"", Box::new(|_| frame(PING, 0, 0, &[0; 8]))),
        ("SETTINGS", b"", Box::new(|_| frame(SETTINGS, 0, 0, b""))),
        ("empty DATA", &open, Box::new(|_| frame(DATA, 0, 1, b""))),
        ("a head that swells", b"", Box::new(|n| frame(HEADERS, END_STREAM | END_HEADERS, 2 * n + 1, &bomb))),
    ];
    for (what, before, frames) in attacks {
        let (code, slowest) = while_another_asks(lab, || {
            let mut client = connect(lab, &[]);
            // They are acknowledged, and not within a header block.
            client.next_of(&[SETTINGS]).unwrap();
            client.send(before).unwrap();
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
        let mut egret = lab.start_egret_behind(&[], engine, &["--workers", "1"]);
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
    const INITIAL_WINDOW_SIZE: u16 = 4;
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
    let mut client: TcpStream = lab.connect(site()).unwrap();
    client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM").unwrap();
    let mut answer = Vec::new();
    let _ = client.read_to_end(&mut answer);
    assert_eq!(answer, b"");
    egret.log_line(&["http2_preface_timeout"]);
}

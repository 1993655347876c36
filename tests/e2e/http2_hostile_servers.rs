//! Servers that mean harm by HTTP/2: their connection ends, the application that asked gets an error, egret's memory stays,
//! and applications of other servers are served.

use std::io::Read;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::lab::client::HttpClient;
use crate::lab::documents::service_entry;
use crate::lab::frames::*;
use crate::lab::proxy::Egret;
use crate::lab::server::{HttpServer, Server};
use crate::lab::{Family, Lab, eventually};

const HOSTILE: &str = "hostile.example";
const GOOD: &str = "good.example";

/// What attacks of each kind may make egret hold beyond what it holds already, in KiB, and what the same may once more.
const ROOM: u64 = 32 << 10;
const ROOM_AGAIN: u64 = 4 << 10;

fn at(number: u8) -> SocketAddr {
    SocketAddr::new(Lab::address(Family::V4, number), 80)
}

/// What is sent behind the request's HEADERS: once, and then again and again.
struct Attack {
    what: &'static str,
    before: Vec<u8>,
    flood: Vec<u8>,
}

fn attack(what: &'static str, before: &[u8], flood: &[u8]) -> Attack {
    Attack { what, before: before.to_vec(), flood: flood.to_vec() }
}

fn attacks() -> Vec<Attack> {
    let ok = headers(1, 0, &[(":status", "200")]);
    let begun = frame(HEADERS, 0, 1, &block(&[(":status", "200")]));
    let filler = block(&[("x-a", &"y".repeat(100))]).repeat(100);
    let bomb =
        [&block(&[(":status", "200")])[..], &[0x40, 1, b'x', 127, 0xa1, 0x1e], &[b'y'; 4000], &[0xbe; 200]].concat();
    let interim = headers(1, 0, &[(":status", "103"), ("link", "</a>")]);
    vec![
        attack("PING", b"", &frame(PING, 0, 0, &[0; 8])),
        attack("SETTINGS", b"", &settings(&[])),
        attack("PRIORITY", b"", &priority(1, 3)),
        attack("WINDOW_UPDATE", b"", &window_update(1, 1)),
        attack("unknown frames", b"", &frame(0xf0, 0, 1, &[0; 100])),
        attack("empty DATA", &ok, &frame(DATA, 0, 1, b"")),
        attack("DATA of padding alone", &ok, &frame(DATA, PADDED, 1, &[3, 0, 0, 0])),
        attack("more DATA than the window allows", &ok, &frame(DATA, 0, 1, &[0; 16_384])),
        attack("a header block without end", &begun, &frame(CONTINUATION, 0, 1, &filler)),
        attack("a header block without end, of nothing", &begun, &frame(CONTINUATION, 0, 1, b"")),
        attack("a head that swells", b"", &frame(HEADERS, END_HEADERS, 1, &bomb)),
        attack("interim responses without end", b"", &interim),
        attack("trailers without end", &ok, &headers(1, 0, &[("x", "y")])),
        attack("resets", b"", &frame(RST_STREAM, 0, 1, &INTERNAL_ERROR.to_be_bytes())),
        attack("refusals", b"", &frame(RST_STREAM, 0, 1, &REFUSED_STREAM.to_be_bytes())),
        attack("GOAWAY", b"", &goaway(0, NO_ERROR)),
        attack("pushes", b"", &frame(PUSH_PROMISE, END_HEADERS, 1, &[&[0, 0, 0, 2][..], &bomb].concat())),
    ]
}

struct Stage {
    lab: Lab,
    script: Arc<Mutex<Attack>>,
    /// Connections of the hostile server that are over.
    ended: Arc<AtomicUsize>,
    servers: [Server; 2],
}

impl Stage {
    fn new() -> Self {
        let lab = Lab::new();
        for (number, host, protocol) in [(1, HOSTILE, "HTTP2"), (2, GOOD, "HTTP")] {
            lab.names.set(host, &[at(number).ip()]);
            lab.configure(&format!("{host}.yaml"), &service_entry(host, &[(80, protocol, None)]));
        }
        let (script, ended) = (Arc::new(Mutex::new(attack("", b"", b""))), Arc::new(AtomicUsize::new(0)));
        let (play, over) = (Arc::clone(&script), Arc::clone(&ended));
        let hostile = Server::start(&lab, at(1), move |stream| {
            let (before, flood) = {
                let script = play.lock().unwrap();
                (script.before.clone(), script.flood.repeat(10))
            };
            let over = Ended(Arc::clone(&over));
            let mut server = RawHttp2::server(stream, &[])?;
            server.next_of(&[HEADERS])?;
            // What egret says is taken, so that it never waits for this side.
            let mut reader = server.stream().try_clone()?;
            let reading = std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
            server.send(&before)?;
            while server.send(&flood).is_ok() {}
            let _ = reading.join();
            drop(over);
            Ok(())
        });
        let good = Server::start(&lab, at(2), |stream| {
            let mut server = HttpServer::new(stream);
            while server.request()?.is_some() {
                server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
            }
            Ok(())
        });
        Self { lab, script, ended, servers: [hostile, good] }
    }
}

/// Counts when it goes.
struct Ended(Arc<AtomicUsize>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Asks the hostile server, and takes what it gives; returns when nothing more comes.
fn ask(lab: &Lab) -> Vec<u8> {
    let mut stream = lab.connect(at(1)).unwrap();
    let request = format!("GET / HTTP/1.1\r\nHost: {HOSTILE}\r\nConnection: close\r\n\r\n");
    std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let mut piece = vec![0; 64 << 10];
    // As much as an endless body may have is not kept.
    while let Ok(length @ 1..) = stream.read(&mut piece) {
        answer.extend_from_slice(&piece[..length.min(100_usize.saturating_sub(answer.len()))]);
    }
    answer
}

/// Plays every attack, and sees it end.
fn endure(stage: &Stage, egret: &Egret<'_>, room: u64) {
    let Stage { lab, script, ended, servers: [hostile, _] } = stage;
    let memory = egret.memory().resident_kib;
    for attack in attacks() {
        let what = attack.what;
        *script.lock().unwrap() = attack;
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| ask(lab));
            let mut good = HttpClient::new(lab.connect(at(2)).unwrap());
            loop {
                assert_eq!(good.get(GOOD, "/").unwrap().head.status, 200, "{what}");
                if asking.is_finished() {
                    break;
                }
            }
            let answer = asking.join().unwrap();
            let is_cut = answer.starts_with(b"HTTP/1.1 200 ") || answer.starts_with(b"HTTP/1.1 103 ");
            assert!(is_cut || answer.starts_with(b"HTTP/1.1 50"), "{what}: {}", answer.escape_ascii());
        });
        eventually("the connection ends", || ended.load(Ordering::SeqCst) == hostile.accepted());
        let grown = egret.memory().resident_kib.saturating_sub(memory);
        println!("{what}: {grown} KiB more");
        assert!(grown < room, "{what}: {grown} KiB");
    }
}

#[test]
fn floods_of_servers_end_their_connection_alone() {
    let stage = Stage::new();
    let lab = &stage.lab;
    lab.egret_command(&["init"]).succeeded();
    for engine in ["uring", "epoll"] {
        let mut egret = lab.start_egret_behind(&[], engine, &["--workers", "1"]);
        endure(&stage, &egret, ROOM);
        endure(&stage, &egret, ROOM_AGAIN);
        eventually("nothing is left of them", || egret.metric("egret_connections_active") == Some(0.0));
        egret.kill();
    }
}

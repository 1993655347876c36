//! Applications and servers that want too much, take too little or never finish: memory stays bounded, and whoever
//! behaves is served as if they were not there.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::lab;
use crate::lab::client::{Framing, HttpClient, find};
use crate::lab::documents::service_entry;
use crate::lab::process;
use crate::lab::server::{HttpServer, Pattern, Server};
use crate::lab::{Family, Lab, PATIENCE, eventually};
use crate::site::{HOST, Site, answering};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

const GIBIBYTE: u64 = 1 << 30;

/// Slow readers and writers; `EGRET_SLOW` asks for more.
fn slow() -> usize {
    std::env::var("EGRET_SLOW").map_or(200, |all| all.parse().expect("a number of connections"))
}

/// As many descriptors as this process may have.
fn raise_descriptors() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
}

/// A gibibyte for `/large`, and counts what its sockets took of it; "ok" for everything else.
fn generous(sent: Arc<AtomicU64>) -> impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static {
    let pattern = Pattern::new();
    move |stream| {
        let mut server = HttpServer::new(stream);
        while let Some((_, target, head)) = server.request_head()? {
            if let framing @ (Framing::Length(_) | Framing::Chunked) = head.framing() {
                server.connection().body(framing, |_| {})?;
            }
            if target == "/large" {
                server.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {GIBIBYTE}\r\n\r\n").as_bytes())?;
                let mut offset = 0;
                while offset < GIBIBYTE {
                    let run = pattern.run(offset, (GIBIBYTE - offset).min(16 * 1024));
                    let taken = server.connection().stream().write(run)? as u64;
                    offset += taken;
                    sent.fetch_add(taken, Ordering::Relaxed);
                }
                continue;
            }
            server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        }
        Ok(())
    }
}

/// Waits until `value` has not changed for a while.
fn settled(what: &str, mut value: impl FnMut() -> u64) -> u64 {
    let (mut last, mut same) = (value(), 0);
    eventually(what, || {
        let now = value();
        same = if now == last { same + 1 } else { 0 };
        last = now;
        same == 25
    });
    last
}

#[test]
fn slow_readers_stop_their_servers_and_cost_little_memory() {
    raise_descriptors();
    let slow = slow();
    let sent = Arc::new(AtomicU64::new(0));
    let site = Site::new("{}", generous(Arc::clone(&sent)));
    let egret = site.lab.egret(&[]);
    assert_eq!(site.open().get(HOST, "/").unwrap().head.status, 200);
    let before = egret.memory();
    let mut readers: Vec<HttpClient> = (0..slow)
        .map(|_| {
            let mut client = site.open();
            client.send(format!("GET /large HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes()).unwrap();
            client
        })
        .collect();
    let held = settled("the servers are stopped", || sent.load(Ordering::Relaxed));
    // Each takes a byte now and then, which must not open the gates.
    for reader in &mut readers {
        reader.stream().read_exact(&mut [0; 1]).unwrap();
    }
    let memory = egret.memory();
    let each = memory.resident_kib.saturating_sub(before.resident_kib) / slow as u64;
    println!(
        "{slow} slow readers: the servers sent {} KiB each, the proxy grew by {each} KiB each",
        held / 1024 / slow as u64
    );
    assert!(each < 512, "{each} KiB each: {before:?} to {memory:?}");
    assert!(held < GIBIBYTE * slow as u64 / 20, "the servers were not stopped: {held} bytes");
    assert_eq!(site.open().get(HOST, "/").unwrap().head.status, 200, "an ordinary client is served");
    drop(readers);
    eventually("they are let go", || egret.metric("egret_connections_active") == Some(0.0));
}

#[test]
fn slow_writers_disturb_nobody() {
    raise_descriptors();
    let site = Site::new("{}", answering(""));
    let egret = site.lab.egret(&[]);
    let body = b"a byte at a time";
    let head = format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {}\r\n\r\n", body.len());
    let mut writers: Vec<HttpClient> = (0..slow())
        .map(|_| {
            let mut client = site.open();
            client.send(head.as_bytes()).unwrap();
            client
        })
        .collect();
    for byte in body {
        for writer in &mut writers {
            writer.send(&[*byte]).unwrap();
        }
        assert_eq!(site.open().get(HOST, "/").unwrap().head.status, 200, "an ordinary client is served");
    }
    for writer in &mut writers {
        assert_eq!(writer.response().unwrap().head.status, 200);
    }
    egret.log_line(&["\"POST / ", " 200 - via_upstream "]);
}

#[test]
fn a_refusal_reaches_who_is_still_sending_a_gibibyte() {
    let site = Site::new("{}", answering(""));
    site.lab.configure("site.yaml", &service_entry("other.example", &[(80, "HTTP", None)]));
    let egret = site.lab.egret(&["--outbound-traffic-policy", "REGISTRY_ONLY"]);
    let length = format!("Content-Length: {GIBIBYTE}\r\n");
    for framing in [length.as_str(), "Transfer-Encoding: chunked\r\n"] {
        let mut client = site.open();
        let head = format!("POST /denied HTTP/1.1\r\nHost: {HOST}\r\n{framing}\r\n");
        client.send(head.as_bytes()).unwrap();
        let mut sending = client.stream().try_clone().unwrap();
        let chunk = [&b"10000\r\n"[..], &vec![b'G'; 0x10000], b"\r\n"].concat();
        let sender = std::thread::spawn(move || {
            let most = GIBIBYTE / chunk.len() as u64;
            (0..most).take_while(|_| sending.write_all(&chunk).is_ok()).count() as u64 * chunk.len() as u64
        });
        let response = client.response().unwrap();
        assert_eq!((response.head.status, response.head.field("connection")), (502, Some("close")));
        // A request hidden in what is still sent would be answered.
        let rest = client.rest().unwrap_or_default();
        assert_eq!(find(&rest, b"HTTP/1.1"), None);
        let sent = sender.join().unwrap();
        assert!(sent < GIBIBYTE / 4, "all {sent} bytes were taken");
    }
    egret.log_line(&["\"POST /denied ", " 502 - direct_response ", "block_all"]);
    assert_eq!(site.server.accepted(), 0);
}

/// `EGRET_SHORT` asks for more connections.
#[test]
fn thousands_of_short_connections_leave_nothing() {
    const EACH: usize = 500;
    let rounds = std::env::var("EGRET_SHORT").map_or(10, |all| all.parse::<usize>().expect("a number") / EACH);
    let site = Site::new("{http: {maxRequestsPerConnection: 1}}", answering(""));
    let egret = site.lab.egret(&["--access-log", "OFF"]);
    let round = || {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let clients: Vec<_> = (0..EACH / 4).map(|_| site.open()).collect();
                std::thread::spawn(move || {
                    for (number, mut client) in clients.into_iter().enumerate() {
                        // Some say nothing, some leave in the middle of a head, some have an answer under way.
                        match number % 4 {
                            0 => {}
                            1 => client.send(b"GET / HT").unwrap(),
                            2 => client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes()).unwrap(),
                            _ => assert_eq!(client.get(HOST, "/").unwrap().head.status, 200),
                        }
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        eventually("all are gone", || egret.metric("egret_connections_active") == Some(0.0));
    };
    round();
    let (descriptors, memory) = (egret.descriptors(), egret.memory());
    (1..rounds).for_each(|_| round());
    eventually("every descriptor is back", || egret.descriptors() <= descriptors + 4);
    let after = egret.memory();
    let waiting = process::finish(site.lab.pod.command("ss", &["-tanH", "state", "time-wait"])).succeeded().stdout;
    println!(
        "{} short connections: {descriptors} to {} descriptors, {memory:?} to {after:?}, {} in TIME_WAIT",
        rounds * EACH,
        egret.descriptors(),
        waiting.lines().count()
    );
    assert!(after.resident_kib < memory.resident_kib + 4096, "{memory:?} to {after:?}");
}

/// slowhttptest's attacks, while an ordinary client goes on asking.
#[test]
fn slow_attacks_are_not_noticed_by_others() {
    let connections = slow();
    raise_descriptors();
    let lab = Lab::new();
    let at = Lab::address(Family::V4, 1);
    lab.names.set(HOST, &[at]);
    lab.configure("site.yaml", &service_entry(HOST, &[(80, "HTTP", None)]));
    let sent = Arc::default();
    let _server = Server::start(&lab, (at, 80).into(), generous(Arc::clone(&sent)));
    let egret = lab.egret(&["--access-log", "OFF", "--request-headers-timeout", "2s", "--body-stall-timeout", "2s"]);
    let before = egret.memory();
    let url = format!("http://{HOST}/large");
    // Heads that do not end, bodies that do not come, answers that are not read.
    for (attack, options) in
        [("-H", &["-i", "1"][..]), ("-B", &["-i", "5"]), ("-X", &["-n", "2", "-w", "1", "-y", "1"])]
    {
        let count = connections.to_string();
        let arguments = [&[attack, "-c", &count, "-r", &count, "-l", "4", "-p", "20", "-u", &url], options].concat();
        let is_over = AtomicBool::new(false);
        let (asked, attacked) = std::thread::scope(|scope| {
            let attacker = scope.spawn(|| {
                let finished = lab.app("slowhttptest", &arguments);
                is_over.store(true, Ordering::Release);
                finished
            });
            let mut asked = 0;
            while !is_over.load(Ordering::Acquire) {
                let mut client = HttpClient::new(lab.connect((at, 80).into()).unwrap());
                assert_eq!(client.get(HOST, "/").expect("an ordinary client is served").head.status, 200);
                assert_eq!(client.get(HOST, "/").expect("twice").head.status, 200);
                asked += 2;
                std::thread::park_timeout(Duration::from_millis(5));
            }
            (asked, attacker.join().unwrap())
        });
        let memory = egret.memory();
        println!(
            "slowhttptest {attack}, {connections} connections: {asked} of {asked} ordinary requests were answered; {memory:?}"
        );
        assert!(
            attacked.stdout.contains("Exit status"),
            "the attack did not run: {}{}",
            attacked.stdout,
            attacked.stderr
        );
        let each = memory.peak_kib.saturating_sub(before.peak_kib) / connections as u64;
        assert!(each < 512, "{each} KiB for each connection: {before:?} to {memory:?}");
    }
    lab::within(PATIENCE, "all are gone", || egret.metric("egret_connections_active") == Some(0.0));
}

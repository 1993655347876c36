//! Start and end of a process: before it is ready, while it drains, when it is killed, and when it comes back.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::lab;
use crate::lab::client::HttpClient;
use crate::lab::documents::{origination, service_entry};
use crate::lab::nginx::{self, Nginx};
use crate::lab::pki::Leaf;
use crate::lab::proxy::Egret;
use crate::lab::server::{HttpServer, Server};
use crate::lab::{Family, Lab, eventually};
use nix::sys::signal::Signal;

const HOST: &str = "site.example";
const CLIENTS: usize = 8;

fn web() -> SocketAddr {
    SocketAddr::new(Lab::address(Family::V4, 1), 80)
}

fn raw() -> SocketAddr {
    SocketAddr::new(Lab::address(Family::V4, 2), 9000)
}

/// A site on port 80 and an echo on port 9000, which is declared TCP.
fn lab() -> (Lab, [Server; 2]) {
    let lab = Lab::new();
    lab.names.set(HOST, &[web().ip()]);
    lab.configure("site.yaml", &service_entry(HOST, &[(80, "HTTP", None)]));
    lab.configure("raw.yaml", &service_entry("raw.example", &[(9000, "TCP", None)]));
    lab.names.set("raw.example", &[raw().ip()]);
    let site = Server::start(&lab, web(), |mut stream| {
        while stream.read(&mut [0; 4096])? > 0 {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        }
        Ok(())
    });
    let echo = Server::start(&lab, raw(), |mut stream| {
        let mut bytes = [0; 64];
        loop {
            match stream.read(&mut bytes)? {
                0 => return Ok(()),
                length => stream.write_all(&bytes[..length])?,
            }
        }
    });
    (lab, [site, echo])
}

fn connect(lab: &Lab) -> HttpClient {
    HttpClient::new(lab.connect(web()).unwrap())
}

/// A raw connection that has carried something.
fn tunnel(lab: &Lab) -> TcpStream {
    let mut stream = lab.connect(raw()).unwrap();
    echoes(&mut stream);
    stream
}

#[track_caller]
fn echoes(stream: &mut TcpStream) {
    stream.write_all(b"hello").unwrap();
    let mut bytes = [0; 5];
    stream.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"hello");
}

#[track_caller]
fn ends(egret: &mut Egret<'_>, when: &str) {
    eventually(&format!("egret ends {when}"), || !egret.is_running());
}

/// The status of a request to the admin port.
fn admin(lab: &Lab, method: &str, path: &str) -> u16 {
    let mut client = HttpClient::new(lab.connect(SocketAddr::from(([127, 0, 0, 1], 15000))).unwrap());
    let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    client.send(head.as_bytes()).unwrap();
    client.response().unwrap().head.status
}

fn is_draining(egret: &Egret<'_>) -> bool {
    egret.get(15021, "/healthz/ready").is_some_and(|(status, body)| status == 503 && body == "draining\n")
}

fn is_refused(lab: &Lab) -> bool {
    lab.connect(web()).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

/// Asks until nobody listens any more, over connections that are kept or that carry one request each. A request without
/// an answer is a failure, however the proxy's end and the request met.
fn ask_until_refused(keep: bool, answered: &AtomicUsize) {
    loop {
        let stream = match TcpStream::connect_timeout(&web(), lab::PATIENCE) {
            Ok(stream) => stream,
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => return,
            Err(error) => panic!("connecting: {error}"),
        };
        stream.set_read_timeout(Some(lab::PATIENCE)).unwrap();
        let mut client = HttpClient::new(stream);
        loop {
            let response = client.get(HOST, "/").expect("every request is answered");
            assert_eq!((response.head.status, &*response.body), (200, &b"ok"[..]));
            answered.fetch_add(1, Ordering::Relaxed);
            if response.head.field("connection").is_some_and(|value| value == "close") {
                assert_eq!(client.rest().unwrap(), b"", "nothing follows the last response");
                break;
            }
            if !keep {
                break;
            }
        }
    }
}

#[test]
fn sigterm_under_load_loses_no_request() {
    let (lab, _servers) = lab();
    for engine in ["uring", "epoll"] {
        lab.egret_command(&["init"]).succeeded();
        let mut egret = lab.start_egret_behind(&[], engine, &["--drain-duration", "3s"]);
        let answered = AtomicUsize::new(0);
        let start = Instant::now();
        std::thread::scope(|scope| {
            for number in 0..CLIENTS {
                let (lab, answered) = (&lab, &answered);
                scope.spawn(move || lab.pod.enter(|| ask_until_refused(number % 2 == 0, answered)));
            }
            eventually("requests are answered", || answered.load(Ordering::Relaxed) > 2000);
            let rate = answered.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64();
            println!("{engine}: SIGTERM at {rate:.0} requests a second");
            egret.signal(Signal::SIGTERM);
        });
        ends(&mut egret, "after its last connection");
        println!("{engine}: {} requests, all answered", answered.into_inner());
        assert!(is_refused(&lab));
    }
}

#[test]
fn a_websocket_is_kept_until_the_deadline() {
    let lab = Lab::new();
    lab.names.set(HOST, &[web().ip()]);
    lab.configure("site.yaml", &service_entry(HOST, &[(80, "HTTP", None)]));
    let _site = Server::start(&lab, web(), |stream| {
        let mut server = HttpServer::new(stream);
        server.request_head()?;
        server.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")?;
        loop {
            let bytes = server.connection().take(5);
            if bytes.is_empty() {
                return Ok(());
            }
            server.send(&bytes)?;
        }
    });
    let mut egret = lab.egret(&["--drain-duration", "2s"]);
    let mut client = connect(&lab);
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    client.send(format!("GET /ws HTTP/1.1\r\nHost: {HOST}\r\n{upgrade}\r\n").as_bytes()).unwrap();
    assert_eq!(client.head().unwrap().status, 101);
    echoes(client.stream());
    egret.signal(Signal::SIGTERM);
    eventually("egret says that it drains", || is_draining(&egret));
    echoes(client.stream());
    ends(&mut egret, "at the deadline");
    assert!(client.rest().map_or(true, |rest| rest.is_empty()));
}

#[test]
fn a_draining_proxy_is_unready_serves_on_and_closes_what_is_idle() {
    let (lab, _servers) = lab();
    let mut egret = lab.egret(&[]);
    let mut idle = connect(&lab);
    assert_eq!(idle.get(HOST, "/").unwrap().head.field("connection"), None);
    let mut held = tunnel(&lab);
    egret.signal(Signal::SIGTERM);
    eventually("egret says that it drains", || is_draining(&egret));
    assert_eq!(idle.rest().unwrap(), b"", "an idle keep-alive connection is closed");
    let mut late = connect(&lab);
    let response = late.get(HOST, "/").unwrap();
    assert_eq!((response.head.status, response.head.field("connection")), (200, Some("close")));
    assert_eq!(late.rest().unwrap(), b"");
    echoes(&mut held);
    assert!(egret.is_running(), "a connection that carries bytes is not cut");
    drop(held);
    ends(&mut egret, "when its last connection has");
}

#[test]
fn a_second_sigterm_and_a_quit_end_it_at_once() {
    let (lab, _servers) = lab();
    let mut egret = lab.egret(&[]);
    let mut held = tunnel(&lab);
    egret.signal(Signal::SIGTERM);
    eventually("egret says that it drains", || is_draining(&egret));
    echoes(&mut held);
    egret.signal(Signal::SIGTERM);
    ends(&mut egret, "at the second signal");
    assert!(held.read(&mut [0; 1]).map_or(true, |length| length == 0));

    let mut egret = lab.start_egret(&[]);
    let _held = tunnel(&lab);
    assert_eq!(admin(&lab, "GET", "/quitquitquit"), 405, "state changes by POST only");
    assert_eq!(admin(&lab, "POST", "/quitquitquit"), 200);
    ends(&mut egret, "when told to quit");
}

#[test]
fn a_killed_proxy_lets_nothing_past_and_comes_back() {
    let (lab, [site, _echo]) = lab();
    let mut egret = lab.egret(&[]);
    assert_eq!(connect(&lab).get(HOST, "/").unwrap().head.status, 200);
    let mut quickest = Duration::MAX;
    for _ in 0..5 {
        let before = site.accepted();
        egret.kill();
        // The kernel closes the listeners of a killed process a moment after its end, with its rings.
        eventually("connections are refused", || is_refused(&lab));
        assert_eq!(site.accepted(), before, "nothing reached the outside");
        let start = Instant::now();
        egret = lab.start_egret(&[]);
        quickest = quickest.min(start.elapsed());
        assert_eq!(connect(&lab).get(HOST, "/").unwrap().head.status, 200);
    }
    assert!(quickest < Duration::from_secs(1), "a restart took {quickest:?}");
}

#[test]
fn without_a_usable_configuration_it_is_not_ready_and_nothing_passes() {
    let (lab, [site, _echo]) = lab();
    let waits = |seconds: &str| lab.egret_command(&["wait", "--timeout", seconds]);
    lab.egret_command(&["init"]).succeeded();
    let nobody = waits("0");
    assert!(nobody.code() == Some(1) && nobody.stderr.contains("is it running?"), "{nobody:?}");
    lab.configure("broken.yaml", "kind: [\n");
    let process = lab.launch_egret(&[]);
    eventually("egret says why it is not ready", || waits("0").stderr.contains("configuration not usable"));
    assert_eq!(lab.connect(web()).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert_eq!(site.accepted(), 0);
    std::fs::remove_file(lab.config_dir().join("broken.yaml")).unwrap();
    assert_eq!(waits("20").code(), Some(0), "{}", process.stderr());
    assert_eq!(connect(&lab).get(HOST, "/").unwrap().head.status, 200);
}

/// nginx answers in plaintext at port 80 too: whoever got there was not carried by egret.
fn either_way() -> (Lab, Nginx) {
    let lab = Lab::new();
    let address = Lab::address(Family::V4, 1);
    lab.names.set(HOST, &[address]);
    let pair = lab.authority.issue(HOST, Leaf::Good).write(lab.dir(), HOST);
    let nginx = Nginx::start(&lab, &nginx::site(address, &pair, "TLSv1.3"), SocketAddr::new(address, 443));
    lab.configure("site.yaml", &origination(HOST, Some(&lab.ca_file())));
    lab.egret_command(&["init"]).succeeded();
    (lab, nginx)
}

#[test]
fn killed_under_load_it_lets_nothing_past() {
    let (lab, nginx) = either_way();
    let (answered, failed, done) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                lab.pod.enter(|| {
                    while !done.load(Ordering::Relaxed) {
                        let stream = TcpStream::connect_timeout(&web(), lab::PATIENCE);
                        let asked = stream.and_then(|stream| {
                            stream.set_read_timeout(Some(lab::PATIENCE))?;
                            HttpClient::new(stream).get(HOST, "/load")
                        });
                        match asked {
                            Ok(response) => {
                                assert_eq!(response.head.status, 200);
                                answered.fetch_add(1, Ordering::Relaxed);
                            }
                            Err(error) => {
                                // Reset in the middle, or refused: never left waiting.
                                assert_ne!(error.kind(), ErrorKind::WouldBlock, "{error}");
                                failed.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    }
                });
            });
        }
        let more_than = |count: &AtomicUsize, before: usize| count.load(Ordering::Relaxed) > before + 20;
        for _ in 0..5 {
            let mut egret = lab.start_egret(&[]);
            let before = answered.load(Ordering::Relaxed);
            eventually("requests are answered", || more_than(&answered, before));
            egret.kill();
            let before = failed.load(Ordering::Relaxed);
            eventually("requests are refused", || more_than(&failed, before));
        }
        done.store(true, Ordering::Relaxed);
    });
    let seen = nginx.seen();
    println!("{} answered, {} reset or refused", answered.into_inner(), failed.into_inner());
    assert!(seen.iter().all(|seen| seen.tls == "TLSv1.3" && seen.sni == HOST), "{seen:#?}");
}

#[test]
fn an_application_that_races_the_start_is_never_let_past() {
    let (lab, nginx) = either_way();
    let refused = AtomicUsize::new(0);
    for _ in 0..100 {
        std::thread::scope(|scope| {
            let first = scope.spawn(|| {
                let start = Instant::now();
                loop {
                    assert!(start.elapsed() < lab::PATIENCE, "egret does not come up");
                    match lab.connect(web()).and_then(|stream| HttpClient::new(stream).get(HOST, "/race")) {
                        Ok(response) => return response.head.status,
                        Err(_) => refused.fetch_add(1, Ordering::Relaxed),
                    };
                }
            });
            let mut egret = lab.launch_egret(&["--workers", "1"]);
            assert_eq!(first.join().unwrap(), 200, "{}", egret.stderr());
            egret.kill();
        });
    }
    let seen: Vec<_> = nginx.seen().into_iter().filter(|seen| seen.request.contains("/race")).collect();
    assert_eq!(seen.len(), 100);
    assert!(seen.iter().all(|seen| seen.tls == "TLSv1.3" && seen.sni == HOST), "{seen:#?}");
    assert!(refused.into_inner() > 0, "the application was never first");
}

#[test]
fn a_drain_ends_at_its_deadline_whatever_is_open() {
    let (lab, _servers) = lab();
    let mut egret = lab.egret(&["--drain-duration", "1s"]);
    let mut held = tunnel(&lab);
    egret.signal(Signal::SIGTERM);
    ends(&mut egret, "at the deadline");
    assert!(held.read(&mut [0; 1]).map_or(true, |length| length == 0));
}

#[test]
fn a_minimum_drain_serves_an_application_that_calls_while_it_ends() {
    let (lab, _servers) = lab();
    let mut egret = lab.egret(&["--minimum-drain-duration", "600s", "--drain-duration", "600s"]);
    egret.signal(Signal::SIGTERM);
    eventually("egret says that it drains", || is_draining(&egret));
    assert_eq!(connect(&lab).get(HOST, "/").unwrap().head.status, 200);
    assert!(egret.is_running(), "nothing is open, and it stays");
    egret.signal(Signal::SIGTERM);
    ends(&mut egret, "at the second signal");
    // At most as long as a drain lasts.
    let mut egret = lab.start_egret(&["--minimum-drain-duration", "600s", "--drain-duration", "1s"]);
    egret.signal(Signal::SIGTERM);
    ends(&mut egret, "at the deadline");
}

#[test]
fn a_panic_ends_its_connection_only_and_that_of_a_worker_the_process() {
    let (lab, [site, _echo]) = lab();
    let mut egret = lab.egret(&["--workers", "1"]);
    let mut other = connect(&lab);
    assert_eq!(other.get(HOST, "/").unwrap().head.status, 200);
    assert_eq!(admin(&lab, "POST", "/panic?in=connection"), 200, "only builds for tests have this");
    eventually("a connection panics", || {
        let unlucky = connect(&lab).get(HOST, "/");
        egret.stderr().contains("a task panicked") && unlucky.is_err()
            || egret.metric("egret_task_panics_total") == Some(1.0)
    });
    assert_eq!(other.get(HOST, "/").unwrap().head.status, 200, "others are not affected");
    assert_eq!(connect(&lab).get(HOST, "/").unwrap().head.status, 200);
    eventually("the panic is counted", || egret.metric("egret_task_panics_total") == Some(1.0));
    assert_eq!(admin(&lab, "POST", "/panic?in=worker"), 200);
    ends(&mut egret, "with its worker");
    assert!(egret.stderr().contains("a worker thread ended"), "{}", egret.stderr());
    let before = site.accepted();
    eventually("connections are refused", || is_refused(&lab));
    assert_eq!(site.accepted(), before);
}

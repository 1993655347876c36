//! Start and end of a process: before it is ready, while it drains, when it is killed, and when it comes back.

mod lab;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use lab::client::HttpClient;
use lab::documents::{origination, service_entry};
use lab::nginx::{self, Nginx};
use lab::pki::Leaf;
use lab::proxy::Egret;
use lab::server::Server;
use lab::{Family, Lab, eventually};
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
    lab.connect(web()).is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
}

#[test]
fn sigterm_under_load_loses_no_request() {
    let (lab, _servers) = lab();
    let mut egret = lab.egret(&[]);
    let answered = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = connect(&lab);
                    loop {
                        let response = client.get(HOST, "/").expect("every request is answered");
                        assert_eq!((response.head.status, &*response.body), (200, &b"ok"[..]));
                        answered.fetch_add(1, Ordering::Relaxed);
                        if response.head.field("connection").is_some_and(|value| value == "close") {
                            return client.rest().unwrap();
                        }
                    }
                })
            })
            .collect();
        eventually("requests are answered", || answered.load(Ordering::Relaxed) > 100);
        assert!(egret.metric("istio_requests_total").is_some_and(|count| count > 0.0));
        egret.signal(Signal::SIGTERM);
        for client in clients {
            assert_eq!(client.join().unwrap(), b"", "nothing follows the last response");
        }
    });
    ends(&mut egret, "after its last connection");
    eventually("connections are refused", || is_refused(&lab));
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
    assert_eq!(lab.connect(web()).unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    assert_eq!(site.accepted(), 0);
    std::fs::remove_file(lab.config_dir().join("broken.yaml")).unwrap();
    assert_eq!(waits("20").code(), Some(0), "{}", process.stderr());
    assert_eq!(connect(&lab).get(HOST, "/").unwrap().head.status, 200);
}

#[test]
fn an_application_that_races_the_start_is_never_let_past() {
    let lab = Lab::new();
    let address = Lab::address(Family::V4, 1);
    lab.names.set(HOST, &[address]);
    let pair = lab.authority.issue(HOST, Leaf::Good).write(lab.dir(), HOST);
    // nginx answers in plaintext at port 80 too: whoever got there was not carried by egret.
    let nginx = Nginx::start(&lab, &nginx::site(address, &pair, "TLSv1.3"), SocketAddr::new(address, 443));
    lab.configure("site.yaml", &origination(HOST, Some(&lab.ca_file())));
    lab.egret_command(&["init"]).succeeded();
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

//! Connections to servers: how many there may be, how long they are kept, and that none that died is noticed by an
//! application that could have been spared it.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::lab;
use crate::lab::client::Response;
use crate::lab::documents::service_entry;
use crate::lab::server::{HttpServer, Server};
use crate::lab::{Family, Lab, PATIENCE, eventually};
use crate::site::{HOST, Site, answering};

/// Holds every answer back until it is opened, and counts who waits.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<(bool, usize)>, Condvar)>);

impl Gate {
    fn pass(&self) {
        let mut state = self.0.0.lock().unwrap();
        state.1 += 1;
        drop(self.0.1.wait_timeout_while(state, PATIENCE, |state| !state.0).unwrap());
    }

    fn waiting(&self) -> usize {
        self.0.0.lock().unwrap().1
    }

    fn open(&self) {
        self.0.0.lock().unwrap().0 = true;
        self.0.1.notify_all();
    }

    fn handler(&self) -> impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static {
        let gate = self.clone();
        move |stream| {
            let mut server = HttpServer::new(stream);
            while server.request()?.is_some() {
                gate.pass();
                server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
            }
            Ok(())
        }
    }
}

fn ask_aside(site: &Site) -> JoinHandle<io::Result<Response>> {
    let mut client = site.open();
    std::thread::spawn(move || client.get(HOST, "/"))
}

#[test]
fn connections_and_waiting_requests_are_limited_also_across_a_reload() {
    let gate = Gate::default();
    let site = Site::new("{tcp: {maxConnections: 2}, http: {http1MaxPendingRequests: 1}}", gate.handler());
    let egret = site.lab.egret(&["--workers", "1"]);
    // One after the other: a request that waits for its connection to be made is a waiting one too.
    let mut asked = Vec::new();
    for number in 1..=2 {
        asked.push(ask_aside(&site));
        eventually("the request is at the server", || gate.waiting() == number);
    }
    asked.push(ask_aside(&site));
    // The third waits; a fourth would be one too many. Which of the two was first is for the kernel to say.
    let fourth = ask_aside(&site);
    egret.log_line(&[" 503 UO ", "upstream_reset_before_response_started{overflow}"]);
    let versions = |text: &str| egret.stderr().matches(text).count();
    let before = versions("policy published");
    site.lab.configure("other.yaml", &service_entry("other.example", &[(80, "HTTP", None)]));
    eventually("the new table is in force", || versions("policy published") > before);
    let response = site.open().get(HOST, "/").unwrap();
    assert_eq!(response.head.status, 503, "a reload makes no room");
    assert!(String::from_utf8_lossy(&response.body).ends_with("reset reason: overflow"), "{response:?}");
    gate.open();
    asked.push(fourth);
    let mut statuses: Vec<_> = asked.into_iter().map(|asked| asked.join().unwrap().unwrap().head.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 200, 503]);
    assert_eq!(site.server.accepted(), 2);
    assert_eq!(egret.metric("egret_upstream_overflow_total"), Some(2.0));
}

/// Two hosts at one address, of which one or both may have one connection: no request rides on the other's.
#[test]
fn a_limit_counts_its_own_hosts_connections_though_another_host_has_the_same_address() {
    const OTHER: &str = "other.example";
    for both in [false, true] {
        let gate = Gate::default();
        let pool = "{tcp: {maxConnections: 1}}";
        let held = gate.clone();
        let site = Site::new(pool, move |stream| {
            let mut server = HttpServer::new(stream);
            while let Some(request) = server.request()? {
                if request.target == "/held" {
                    held.pass();
                }
                server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
            }
            Ok(())
        });
        site.lab.names.set(OTHER, &[Lab::address(Family::V4, 1)]);
        site.lab.configure("other.yaml", &service_entry(OTHER, &[(80, "HTTP", None)]));
        if both {
            let rule = crate::site::rule(pool).replace(HOST, OTHER).replace("name: site", "name: other");
            site.lab.configure("other-rule.yaml", &rule);
        }
        let egret = site.lab.egret(&["--workers", "1"]);
        assert_eq!(site.open().get(OTHER, "/").unwrap().head.status, 200);
        let mut client = site.open();
        let held = std::thread::spawn(move || client.get(HOST, "/held"));
        eventually("the request is at the server", || gate.waiting() == 1);
        assert_eq!(site.server.accepted(), 2, "the other host's idle connection is not its own");
        // Its own connection is busy, so it waits, although the other host's lies idle.
        let mut client = site.open();
        let waiting = std::thread::spawn(move || client.get(HOST, "/held"));
        assert_eq!(site.open().get(OTHER, "/").unwrap().head.status, 200);
        gate.open();
        for asked in [held, waiting] {
            assert_eq!(asked.join().unwrap().unwrap().head.status, 200);
        }
        assert_eq!(site.server.accepted(), 2, "one connection for each host; both limited: {both}");
        assert_eq!(egret.metric("egret_upstream_overflow_total"), Some(0.0));
    }
}

#[test]
fn requests_at_once_are_limited() {
    let gate = Gate::default();
    let site = Site::new("{http: {http2MaxRequests: 1}}", gate.handler());
    let egret = site.lab.egret(&[]);
    let first = ask_aside(&site);
    eventually("a request is at the server", || gate.waiting() == 1);
    assert_eq!(site.open().get(HOST, "/").unwrap().head.status, 503);
    egret.log_line(&[" 503 UO ", "upstream_reset_before_response_started{overflow}"]);
    gate.open();
    assert_eq!(first.join().unwrap().unwrap().head.status, 200);
    assert_eq!(site.open().get(HOST, "/").unwrap().head.status, 200);
}

#[test]
fn retries_at_once_are_limited() {
    let (gate, seen) = (Gate::default(), AtomicUsize::new(0));
    let passed = gate.clone();
    // Of the first request the second try waits; every other try is in vain.
    let site = Site::new("{http: {maxRetries: 1}}", move |stream| {
        let mut server = HttpServer::new(stream);
        while server.request()?.is_some() {
            let status = if seen.fetch_add(1, Ordering::SeqCst) == 1 {
                passed.pass();
                "200 OK"
            } else {
                "503 Service Unavailable"
            };
            server.send(format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nok").as_bytes())?;
        }
        Ok(())
    });
    site.lab.configure(
        "routes.yaml",
        &format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: site}}\nspec:\n  hosts: [{HOST}]\n  \
             http: [{{retries: {{attempts: 1, retryOn: 5xx}}, route: [{{destination: {{host: {HOST}}}}}]}}]\n"
        ),
    );
    let egret = site.lab.egret(&[]);
    let first = ask_aside(&site);
    eventually("a retry is at the server", || gate.waiting() == 1);
    assert_eq!(site.open().get(HOST, "/").unwrap().head.status, 503);
    egret.log_line(&[" 503 UO "]);
    gate.open();
    assert_eq!(first.join().unwrap().unwrap().head.status, 200);
}

#[test]
pub fn an_application_that_leaves_gives_its_place_up() {
    let gate = Gate::default();
    let site = Site::new("{tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1}}", gate.handler());
    let egret = site.lab.egret(&["--workers", "1"]);
    let first = ask_aside(&site);
    eventually("a request is at the server", || gate.waiting() == 1);
    let mut leaver = site.open();
    leaver.send(format!("GET /leaver HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes()).unwrap();
    eventually("the next is refused", || site.open().get(HOST, "/").unwrap().head.status == 503);
    socket2::SockRef::from(&*leaver.stream()).set_linger(Some(Duration::ZERO)).unwrap();
    drop(leaver);
    egret.log_line(&["GET /leaver ", " 0 DC "]);
    let second = ask_aside(&site);
    gate.open();
    assert_eq!(first.join().unwrap().unwrap().head.status, 200);
    assert_eq!(second.join().unwrap().unwrap().head.status, 200);
}

/// How many connections `requests` one after the other make.
fn connections(pool: &str, fields: &'static str, requests: usize) -> usize {
    let site = Site::new(pool, answering(fields));
    let _egret = site.lab.egret(&["--workers", "1"]);
    let mut client = site.open();
    for _ in 0..requests {
        assert_eq!(client.get(HOST, "/").unwrap().head.status, 200);
    }
    site.server.accepted()
}

#[test]
fn connections_are_used_as_often_as_both_sides_allow() {
    // All limits, and each of them: src/proxy/tests/reuse.rs.
    assert_eq!(connections("{http: {maxRequestsPerConnection: 2}}", "", 5), 3);
    assert_eq!(connections("{}", "keep-alive: max=9, Timeout=60\r\n", 3), 1);
}

#[test]
fn old_connections_are_let_go() {
    for pool in ["{http: {idleTimeout: 300ms}}", "{tcp: {maxConnectionDuration: 300ms}}"] {
        let ended = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&ended);
        let answer = answering("");
        let site = Site::new(pool, move |stream| {
            answer(stream)?;
            counter.fetch_add(1, Ordering::SeqCst);
            Ok(())
        });
        let _egret = site.lab.egret(&["--workers", "1"]);
        assert_eq!(site.open().get(HOST, "/").unwrap().head.status, 200);
        eventually("the connection is closed", || ended.load(Ordering::SeqCst) == 1);
        assert_eq!(site.open().get(HOST, "/").unwrap().head.status, 200);
        assert_eq!(site.server.accepted(), 2, "{pool}");
    }
}

#[test]
fn an_endpoint_that_refuses_is_passed_over() {
    let site = Site::new("{http: {maxRequestsPerConnection: 1}}", answering(""));
    site.lab.names.set(HOST, &[1, 5, 6].map(|n| Lab::address(Family::V4, n)));
    let _egret = site.lab.egret(&["--workers", "1"]);
    for _ in 0..10 {
        assert_eq!(site.open().get(HOST, "/").unwrap().head.status, 200);
    }
}

#[test]
pub fn what_cannot_be_sent_twice_meets_no_old_connection() {
    let ended = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&ended);
    let site = Site::new("{}", move |stream| {
        let result = answering("")(stream);
        count.fetch_add(1, Ordering::SeqCst);
        result
    });
    let _egret = site.lab.egret(&["--workers", "1"]);
    let mut client = site.open();
    let mut ask = |method: &str, body: &str| {
        let length = body.len();
        let head = format!("{method} / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {length}\r\n\r\n{body}");
        client.send(head.as_bytes()).unwrap();
        assert_eq!(client.response().unwrap().head.status, 200);
        Instant::now()
    };
    ask("POST", "a");
    let used = ask("POST", "b");
    assert_eq!(site.server.accepted(), 1, "used a moment ago");
    let rest = || eventually("it has rested", || used.elapsed() > Duration::from_millis(1100));
    rest();
    ask("GET", "");
    assert_eq!(site.server.accepted(), 1, "a GET can be sent again");
    let used = ask("GET", "");
    eventually("it has rested", || used.elapsed() > Duration::from_millis(1100));
    ask("PUT", "c");
    assert_eq!(site.server.accepted(), 2, "a body is not kept to be sent again");
    eventually("the old one has made room", || ended.load(Ordering::SeqCst) == 1);
}

/// A whole response that nobody asked for, on a connection that waits in the pool.
#[test]
pub fn what_an_idle_connection_says_answers_nobody() {
    let (tell, told) = mpsc::channel::<()>();
    let (say, said) = mpsc::channel();
    let both = Mutex::new((told, say));
    let site = Site::new("{}", move |stream| {
        let mut server = HttpServer::new(stream);
        while let Some(request) = server.request()? {
            server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nown")?;
            if request.target == "/stray" {
                let (told, say) = &*both.lock().unwrap();
                told.recv_timeout(PATIENCE).map_err(io::Error::other)?;
                server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray")?;
                say.send(server.connection().rest().map_err(|error| error.kind())).map_err(io::Error::other)?;
                return Ok(());
            }
        }
        Ok(())
    });
    let _egret = site.lab.egret(&["--workers", "1"]);
    let mut client = site.open();
    assert_eq!(client.get(HOST, "/stray").unwrap().body, b"own");
    tell.send(()).unwrap();
    // Closed with something unread, so that the server may see a reset.
    let end = said.recv_timeout(PATIENCE).expect("the connection is closed, though nobody wants it");
    assert!(matches!(&end, Ok(rest) if rest.is_empty()) || end == Err(io::ErrorKind::ConnectionReset), "{end:?}");
    assert_eq!(client.get(HOST, "/").unwrap().body, b"own");
    assert_eq!(site.server.accepted(), 2);
}

const CLIENTS: usize = 64;

/// Of each client; `EGRET_STORM` asks for more.
fn requests() -> usize {
    std::env::var("EGRET_STORM").map_or(150, |all| all.parse::<usize>().expect("a number of requests") / CLIENTS)
}

/// Every request that arrived, by its path.
type Arrivals = Arc<Mutex<HashMap<String, usize>>>;

/// Answers, and closes one connection of three at a moment that nobody else can know.
fn unreliable(arrivals: Arrivals, seed: Arc<AtomicUsize>) -> impl Fn(TcpStream) -> io::Result<()> + Send + Sync {
    move |stream| {
        let mut server = HttpServer::new(stream);
        while let Some(request) = server.request()? {
            *arrivals.lock().unwrap().entry(request.target).or_default() += 1;
            server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
            // A multiplicative hash: evenly spread, and the same numbers every time.
            let draw = seed.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
            if draw.is_multiple_of(3) {
                std::thread::park_timeout(Duration::from_micros((draw % 5) as u64 * 500));
                return Ok(());
            }
        }
        Ok(())
    }
}

#[test]
pub fn servers_that_close_idle_connections_are_not_noticed() {
    let arrivals = Arrivals::default();
    let site = Site::new("{}", unreliable(Arc::clone(&arrivals), Arc::default()));
    let egret = site.lab.egret(&["--access-log", "OFF"]);
    let requests = requests();
    let clients: Vec<_> = (0..CLIENTS).map(|number| (number, site.open())).collect();
    let asking = clients.into_iter().map(|(number, mut client)| {
        std::thread::spawn(move || {
            let mut lost = 0;
            for turn in 0..requests {
                let is_post = turn % 4 == 3;
                let (method, fields) = if is_post { ("POST", "Content-Length: 1\r\n") } else { ("GET", "") };
                let head = format!("{method} /{number}-{turn} HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n");
                let asked = Instant::now();
                client.send((head + if is_post { "x" } else { "" }).as_bytes()).unwrap();
                match client.response().map(|response| response.head.status) {
                    Ok(200) => {}
                    Ok(503) if is_post => lost += 1,
                    other => panic!("{method} /{number}-{turn}: {other:?} after {:?}", asked.elapsed()),
                }
            }
            lost
        })
    });
    let asking: Vec<_> = asking.collect();
    let lost: usize = asking.into_iter().map(|thread| thread.join().expect("no replayable request fails")).sum();
    let arrivals = arrivals.lock().unwrap();
    let twice: Vec<_> = arrivals.iter().filter(|(path, times)| is_post(path) && **times > 1).collect();
    assert!(twice.is_empty(), "sent twice: {twice:?}");
    assert_eq!(arrivals.keys().filter(|path| !is_post(path)).count(), CLIENTS * (requests - requests / 4));
    let retried = egret.metric("egret_requests_retried_total").unwrap();
    println!("{retried} requests were sent again; {lost} POSTs met a closing connection and got 503");
}

fn is_post(path: &str) -> bool {
    path.rsplit('-').next().and_then(|turn| turn.parse::<usize>().ok()).is_some_and(|turn| turn % 4 == 3)
}

#[test]
fn each_request_of_a_connection_goes_to_its_own_host() {
    let lab = Lab::new();
    let hosts = ["one.example", "two.example", "three.example"];
    let servers = (1..).zip(hosts).map(|(number, host)| {
        let at = Lab::address(Family::V4, number);
        lab.names.set(host, &[at]);
        lab.configure(&format!("{host}.yaml"), &service_entry(host, &[(80, "HTTP", None)]));
        Server::start(&lab, SocketAddr::new(at, 80), move |stream| {
            let mut server = HttpServer::new(stream);
            while server.request()?.is_some() {
                let length = host.len();
                server.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{host}").as_bytes())?;
            }
            Ok(())
        })
    });
    let _servers: Vec<_> = servers.collect();
    let _egret = lab.egret(&["--outbound-traffic-policy", "REGISTRY_ONLY", "--access-log", "OFF"]);
    let to = SocketAddr::new(Lab::address(Family::V4, 9), 80);
    let mut client = lab::client::HttpClient::new(lab.connect(to).unwrap());
    for turn in 0..10_000 {
        let host = hosts.get(turn % 4).copied().unwrap_or("denied.example");
        let response = client.get(host, "/").unwrap();
        match turn % 4 {
            3 => assert_eq!(response.head.status, 502),
            _ => assert_eq!(response.body, host.as_bytes()),
        }
    }
}

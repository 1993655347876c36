//! Authentication of TCP connections (NTLM, Negotiate, Kerberos): a server's connection that knows a user serves nobody
//! else, and the handshake stays on one connection.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::ScopedJoinHandle;

use crate::lab::client::HttpClient;
use crate::lab::documents::{origination, service_entry};
use crate::lab::ntlm::{self, NOBODY, OPEN};
use crate::lab::pki::Leaf;
use crate::lab::server::Server;
use crate::lab::{Family, Lab, eventually};
use data_encoding::BASE64;

const PLAIN: &str = "plain.example";
const SECURE: &str = "secure.example";

/// Both hosts: one as it is, one behind TLS origination.
struct Site {
    lab: Lab,
    servers: Vec<Server>,
    /// Connections that are over, at the servers.
    ended: Arc<AtomicUsize>,
}

impl Site {
    fn new(asks: u16) -> Site {
        let lab = Lab::new();
        let (plain, secure) = (at(1, 80), at(2, 443));
        lab.names.set(PLAIN, &[plain.ip()]);
        lab.names.set(SECURE, &[secure.ip()]);
        lab.configure("plain.yaml", &service_entry(PLAIN, &[(80, "HTTP", None)]));
        lab.configure("secure.yaml", &origination(SECURE, Some(&lab.ca_file())));
        let pair = lab.authority.issue(SECURE, Leaf::Good);
        let ended = Arc::new(AtomicUsize::new(0));
        let count = |result: io::Result<()>, ended: &AtomicUsize| {
            ended.fetch_add(1, Ordering::SeqCst);
            result
        };
        let (near, far) = (Arc::clone(&ended), Arc::clone(&ended));
        let servers = vec![
            Server::start(&lab, plain, move |stream| count(ntlm::serve(stream, asks), &near)),
            Server::start_tls(&lab, secure, &pair, move |stream| count(ntlm::serve(stream, asks), &far)),
        ];
        Site { lab, servers, ended }
    }

    fn open(&self) -> HttpClient {
        HttpClient::new(self.lab.connect(at(9, 80)).unwrap())
    }

    fn accepted(&self) -> usize {
        self.servers.iter().map(Server::accepted).sum()
    }
}

fn at(number: u8, port: u16) -> SocketAddr {
    SocketAddr::new(Lab::address(Family::V4, number), port)
}

/// Status and body of a request with these further fields.
fn ask(client: &mut HttpClient, host: &str, path: &str, fields: &str) -> io::Result<(u16, String)> {
    client.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n").as_bytes())?;
    let response = client.response()?;
    Ok((response.head.status, String::from_utf8_lossy(&response.body).into_owned()))
}

/// The three messages, after the 401 that asks for them.
fn log_in(client: &mut HttpClient, host: &str, user: &str) {
    for (fields, expected) in [
        (String::new(), (401, NOBODY)),
        (format!("Authorization: {}\r\n", ntlm::first()), (401, NOBODY)),
        (format!("Authorization: {}\r\n", ntlm::third(user)), (200, user)),
    ] {
        let (status, body) = ask(client, host, "/", &fields).unwrap();
        assert_eq!((status, &*body), expected, "{host}, {user}");
    }
}

fn negotiate(user: &str) -> String {
    format!("aUTHORIZATION: Negotiate {}\r\n", BASE64.encode(user.as_bytes()))
}

/// `name` from the environment, for a longer run by hand.
fn amount(name: &str, usual: usize) -> usize {
    std::env::var(name).map_or(usual, |text| text.parse().expect("a number"))
}

/// Logs in again and again on new connections, and counts requests down.
fn be_a_user(site: &Site, host: &'static str, user: &str, left: &AtomicUsize) {
    while left.load(Ordering::SeqCst) > 0 {
        let mut client = site.open();
        if user.ends_with('1') {
            assert_eq!(ask(&mut client, host, "/", &negotiate(user)).unwrap(), (200, user.to_owned()));
        } else {
            log_in(&mut client, host, user);
        }
        for turn in 0..8 {
            let path = if turn % 2 == 0 { "/" } else { OPEN };
            assert_eq!(ask(&mut client, host, path, "").unwrap(), (200, user.to_owned()), "{host}, turn {turn}");
            let _ = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        }
    }
}

fn be_nobody(site: &Site, host: &'static str, left: &AtomicUsize) {
    while left.load(Ordering::SeqCst) > 0 {
        let mut client = site.open();
        for _ in 0..4 {
            let (status, body) = ask(&mut client, host, OPEN, "").unwrap();
            assert_eq!((status, &*body), (200, NOBODY), "{host}");
            let _ = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        }
    }
}

#[test]
fn no_answer_is_another_users() {
    let site = Site::new(401);
    let egret = site.lab.egret(&["--access-log", "OFF"]);
    let users = amount("EGRET_STORM_USERS", 40);
    let left = AtomicUsize::new(amount("EGRET_STORM", 2000));
    let asked = left.load(Ordering::SeqCst);
    std::thread::scope(|scope| {
        let (site, left) = (&site, &left);
        let hosts = [PLAIN, SECURE];
        let users = (0..users)
            .map(|number| scope.spawn(move || be_a_user(site, hosts[number % 2], &format!("user-{number}"), left)));
        let mut all: Vec<ScopedJoinHandle<'_, ()>> = users.collect();
        all.extend((0..8).map(|number| scope.spawn(move || be_nobody(site, hosts[number % 2], left))));
        for thread in all {
            thread.join().expect("every answer was for who had asked");
        }
    });
    let reserved = egret.metric("egret_upstream_reserved_total").unwrap();
    let reused = egret.metric("egret_upstream_reused_total").unwrap();
    println!("{asked} requests of {users} users and 8 nobodies: {reserved} reserved connections, {reused} reuses");
    assert!(reserved > 0.0 && reused > 0.0);
}

/// The connection is gone with the application's own.
#[test]
fn a_reserved_connection_ends_with_the_applications() {
    for asks in [401, 407] {
        let site = Site::new(asks);
        let egret = site.lab.egret(&["--workers", "1"]);
        for (host, ended) in [(PLAIN, 1), (SECURE, 2)] {
            let field = if asks == 407 { "Proxy-Authorization" } else { "Authorization" };
            let mut user = site.open();
            let first = format!("{field}: {}\r\n", ntlm::first());
            assert_eq!(ask(&mut user, host, "/", &first).unwrap().0, asks);
            let third = format!("{field}: {}\r\n", ntlm::third("alice"));
            assert_eq!(ask(&mut user, host, "/", &third).unwrap(), (200, "alice".to_owned()), "{host}, {asks}");
            assert_eq!(ask(&mut user, host, "/", "").unwrap(), (200, "alice".to_owned()));
            assert_eq!(ask(&mut site.open(), host, OPEN, "").unwrap(), (200, NOBODY.to_owned()));
            drop(user);
            // What is left is the pooled connection of the one without a name.
            eventually("it is closed", || site.ended.load(Ordering::SeqCst) == ended);
            assert_eq!(ask(&mut site.open(), host, OPEN, "").unwrap(), (200, NOBODY.to_owned()));
        }
        assert_eq!(site.accepted(), 4, "one for alice and one for the others, at each host");
        assert_eq!(egret.metric("egret_upstream_reserved_total"), Some(2.0));
    }
}

#[test]
fn an_offer_that_is_not_taken_up_costs_no_connection() {
    let site = Site::new(401);
    let _egret = site.lab.egret(&["--workers", "1"]);
    for _ in 0..5 {
        let mut client = site.open();
        assert_eq!(ask(&mut client, PLAIN, "/", "").unwrap().0, 401);
        assert_eq!(ask(&mut client, PLAIN, OPEN, "Authorization: Basic eA==\r\n").unwrap().0, 200);
    }
    assert_eq!(site.accepted(), 1);
}

/// Whoever was known by a connection must not go on over another one as if nothing had happened.
#[test]
fn the_applications_connection_ends_with_the_one_that_knew_it() {
    let site = Site::new(401);
    let egret = site.lab.egret(&["--workers", "1"]);
    for host in [PLAIN, SECURE] {
        let mut client = site.open();
        log_in(&mut client, host, "alice");
        // The server closes behind the answer, which does not say so.
        assert_eq!(ask(&mut client, host, "/leave", "").unwrap(), (200, "alice".to_owned()));
        let end = client.rest().map_err(|error| error.kind());
        assert!(matches!(&end, Ok(rest) if rest.is_empty()) || end == Err(ErrorKind::ConnectionReset), "{end:?}");
        let mut again = site.open();
        log_in(&mut again, host, "bob");
    }
    egret.log_line(&["\"GET /leave HTTP/1.1\" 200 "]);
}

#[test]
fn http_1_0_is_kept_apart_too() {
    let site = Site::new(401);
    let _egret = site.lab.egret(&["--workers", "1"]);
    let mut client = site.open();
    for (credentials, expected) in [(ntlm::first(), (401, NOBODY)), (ntlm::third("alice"), (200, "alice"))] {
        let fields = format!("Host: {PLAIN}\r\nConnection: keep-alive\r\nAuthorization: {credentials}\r\n");
        client.send(format!("GET / HTTP/1.0\r\n{fields}\r\n").as_bytes()).unwrap();
        let response = client.response().unwrap();
        assert_eq!((response.head.status, response.body.as_slice()), (expected.0, expected.1.as_bytes()));
    }
    assert_eq!(ask(&mut site.open(), PLAIN, OPEN, "").unwrap(), (200, NOBODY.to_owned()));
}

/// Whatever endpoint would be next in turn, a handshake goes on where it began.
#[test]
fn a_handshake_stays_at_its_endpoint() {
    let site = Site::new(401);
    let _second = Server::start(&site.lab, at(3, 80), |stream| ntlm::serve(stream, 401));
    site.lab.names.set(PLAIN, &[at(1, 80).ip(), at(3, 80).ip()]);
    site.lab.configure(
        "rule.yaml",
        &format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: plain}}\n\
             spec: {{host: {PLAIN}, trafficPolicy: {{loadBalancer: {{simple: ROUND_ROBIN}}, \
             connectionPool: {{http: {{maxRequestsPerConnection: 1}}}}}}}}\n"
        ),
    );
    let _egret = site.lab.egret(&["--workers", "1"]);
    for user in ["alice", "bob", "carol"] {
        let mut client = site.open();
        log_in(&mut client, PLAIN, user);
        assert_eq!(ask(&mut client, PLAIN, "/", "").unwrap(), (200, user.to_owned()));
    }
}

/// curl's own NTLM, and its next call without a name.
#[test]
fn curl_authenticates_and_the_next_one_is_nobody() {
    let site = Site::new(401);
    let features = site.lab.curl(&["-V"]).succeeded().stdout;
    assert!(features.contains("NTLM"), "this curl has no NTLM: {features}");
    let _egret = site.lab.egret(&["--workers", "1"]);
    for host in [PLAIN, SECURE] {
        let url = format!("http://{host}/");
        let open = format!("http://{host}{OPEN}");
        for user in ["alice", "bob", "carol"] {
            let found = site.lab.curl(&["--ntlm", "-u", &format!("{user}:x"), &url, "--next", "-sS", &open]);
            let found = found.succeeded().stdout;
            assert!(found.ends_with(user) || found.starts_with(user), "{host}: {found}");
            assert_eq!(site.lab.curl(&[&open]).succeeded().stdout, NOBODY, "{host}");
        }
    }
}

//! Servers that are down, frozen, unreachable or gone without a word: each is told apart, within the time that the
//! policy gives, and none leaves anything behind.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use crate::lab;
use crate::lab::client::HttpClient;
use crate::lab::documents::service_entry;
use crate::lab::process::{self, Kept};
use crate::lab::server::HttpServer;
use crate::lab::{Family, Lab, PATIENCE, eventually};
use crate::site::{HOST, Site, answering};
use nix::sys::signal::Signal;

/// Rules for what arrives outside, in nft's words.
fn outside_rules(lab: &Lab, rules: &str) {
    let table = format!("add table inet lab; add chain inet lab in {{ type filter hook input priority 0; }}; {rules}");
    process::finish(lab.outside.command("nft", &[&table])).succeeded();
}

/// What the kernel knows of the proxy's connections to `port`.
fn sockets(lab: &Lab, port: u16) -> String {
    sockets_with(lab, &format!("dport = :{port}"))
}

/// What the kernel knows of the pod's connections with these ports, in ss's words.
fn sockets_with(lab: &Lab, ports: &str) -> String {
    process::finish(lab.pod.command("ss", &["-tnoH", ports])).succeeded().stdout
}

/// Whether the kernel will send a keep-alive probe on each of these connections, at least one, within so many seconds.
fn all_are_probed(sockets: &str, within: u64) -> bool {
    let next = |line: &str| {
        let (_, timer) = line.split_once("timer:(keepalive,")?;
        let (time, _) = timer.split_once(',')?;
        match time.strip_suffix("sec") {
            Some(seconds) => seconds.parse::<f64>().ok(),
            // `14ms`, and nothing as long as a minute.
            None => time.strip_suffix("ms").map(|_| 0.0),
        }
    };
    let mut lines = sockets.lines().filter(|line| line.contains("ESTAB")).peekable();
    lines.peek().is_some() && lines.all(|line| next(line).is_some_and(|seconds| seconds <= within as f64))
}

#[test]
fn why_a_server_cannot_be_reached_is_told_apart_and_in_time() {
    let site = Site::new("{}", answering(""));
    // 203.0.113.2 drops, 3 answers that there is no such host, on 4 nobody listens.
    outside_rules(
        &site.lab,
        "add rule inet lab in ip daddr 203.0.113.2 tcp dport 80 drop; \
         add rule inet lab in ip daddr 203.0.113.3 tcp dport 80 reject with icmpx type host-unreachable",
    );
    let reasons = [(2, "no answer within 400 ms"), (3, "No route to host"), (4, "Connection refused")];
    for (number, _) in reasons {
        let host = format!("down{number}.example");
        site.lab.names.set(&host, &[Lab::address(Family::V4, number)]);
        site.lab.configure(&format!("{host}.yaml"), &down(&host));
    }
    let egret = site.lab.egret(&[]);
    for (number, reason) in reasons {
        let begun = Instant::now();
        let response = site.open().get(&format!("down{number}.example"), "/down").unwrap();
        let body = String::from_utf8(response.body).unwrap();
        let wanted = format!("connect to 203.0.113.{number}:80: {reason}");
        assert!(response.head.status == 503 && body.contains(&wanted), "{body}");
        // The kernel's own patience is two minutes.
        assert!(begun.elapsed() < PATIENCE, "{reason} took {:?}", begun.elapsed());
        egret.log_line(&["\"GET /down ", " 503 URX,UF ", &wanted.replace(' ', "_")]);
    }
    assert_eq!(site.open().get(HOST, "/").unwrap().head.status, 200, "the others are served as before");
}

/// A host with a connect timeout of its own.
fn down(host: &str) -> String {
    let rule = crate::site::rule("{tcp: {connectTimeout: 400ms}}")
        .replace(HOST, host)
        .replace("name: site", &format!("name: {host}"));
    format!("{}---\n{rule}", service_entry(host, &[(80, "HTTP", None)]))
}

/// Servers that take the connection and say nothing: a rule's connectTimeout holds for whatever step comes next.
#[test]
fn a_connect_timeout_covers_the_handshake_and_the_tunnel() {
    let site = Site::new("{}", |mut stream| std::io::copy(&mut stream, &mut std::io::sink()).map(drop));
    let tunnel = "tunnel: {protocol: CONNECT, targetHost: far.example, targetPort: 80}";
    let cases = [
        ("tls.example", "tls: {mode: SIMPLE}", "TLS handshake with 203.0.113.1:80 not finished within 400 ms"),
        ("tunnel.example", tunnel, "tunnel through 203.0.113.1:80: no answer to CONNECT within 400 ms"),
    ];
    for (host, policy, _) in cases {
        site.lab.names.set(host, &[Lab::address(Family::V4, 1)]);
        let rule = down(host) + &format!("    {policy}\n");
        site.lab.configure(&format!("{host}.yaml"), &rule);
    }
    // Longer than any client here waits.
    let egret = site.lab.egret(&["--tls-handshake-timeout", "5m"]);
    for (host, _, reason) in cases {
        let response = site.open().get(host, "/silent").unwrap();
        let body = String::from_utf8(response.body).unwrap();
        let wanted = format!("{reason} (connectTimeout, of all steps together)");
        assert!(response.head.status == 503 && body.contains(&wanted), "{body}");
        egret.log_line(&["\"GET /silent ", ",UF ", host, &wanted.replace(' ', "_")]);
    }
}

#[test]
fn a_frozen_server_is_waited_for_and_comes_back() {
    let lab = Lab::new();
    let at = Lab::address(Family::V4, 1);
    lab.names.set(HOST, &[at]);
    lab.configure("site.yaml", &service_entry(HOST, &[(80, "HTTP", None)]));
    let egret = lab.egret(&["--request-timeout", "1s"]);
    let folder = lab.dir().join("served");
    fs::create_dir(&folder).unwrap();
    let arguments = ["-I", "-m", "http.server", "80", "--bind", "203.0.113.1", "--directory", lab::utf8(&folder)];
    let server = Kept::start(lab.outside.command("/usr/bin/python3", &arguments), lab.dir(), "served");
    let ask = |path: &str| {
        let mut client = HttpClient::new(lab.connect(SocketAddr::new(at, 80)).unwrap());
        client.get(HOST, path).is_ok_and(|response| response.head.status == 200)
    };
    eventually("the server is up", || ask("/"));
    server.signal(Signal::SIGSTOP);
    // Its kernel still takes connections.
    let asking = (0..20).map(|_| {
        let mut client = HttpClient::new(lab.connect(SocketAddr::new(at, 80)).unwrap());
        client.send(format!("GET /frozen HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes()).unwrap();
        client
    });
    for mut client in asking.collect::<Vec<_>>() {
        assert_eq!(client.response().unwrap().head.status, 504);
    }
    egret.log_line(&["\"GET /frozen ", " 504 UT ", "response_timeout"]);
    server.signal(Signal::SIGCONT);
    eventually("it is served again", || ask("/"));
}

#[test]
fn a_server_that_vanishes_is_noticed_by_keepalive() {
    let probes = "--tcp-keepalive-time 1s --tcp-keepalive-interval 1s --tcp-keepalive-probes 2 --tcp-user-timeout 0s";
    let pool = "{tcp: {tcpKeepalive: {time: 1s, interval: 1s, probes: 2}}}";
    // By a rule, which wins over the Settings; by the Settings.
    for (pool, flags) in [(pool, ""), ("{}", probes)] {
        vanishes(pool, &flags.split_whitespace().collect::<Vec<_>>());
    }
}

fn vanishes(pool: &str, flags: &[&str]) {
    let (told, heard) = std::sync::mpsc::channel();
    let told = Mutex::new(told);
    let site = Site::new(pool, move |stream| {
        let mut server = HttpServer::new(stream);
        server.request()?;
        let _ = told.lock().unwrap().send(());
        server.connection().rest().map(drop)
    });
    let egret = site.lab.egret(&[&["--workers", "1"], flags].concat());
    let mut client = site.open();
    client.send(format!("GET /gone HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes()).unwrap();
    heard.recv_timeout(PATIENCE).unwrap();
    let known = sockets(&site.lab, 80);
    assert!(known.lines().any(|line| line.contains("203.0.113.1:80") && line.contains("keepalive")), "{known}");
    outside_rules(&site.lab, "add rule inet lab in ip daddr 203.0.113.1 tcp dport 80 drop");
    let response = client.response().unwrap();
    let body = String::from_utf8_lossy(&response.body);
    assert!(response.head.status == 503 && body.contains("timed out"), "{body}");
    egret.log_line(&["\"GET /gone ", " 503 UC ", "timed_out"]);
}

/// Originated, pooled and passed through: both legs of each are probed, as often as Go's programs probe.
#[test]
fn silent_connections_are_probed_on_both_legs() {
    let site = Site::new("{}", answering(""));
    let unlisted = SocketAddr::new(Lab::address(Family::V4, 1), 81);
    let _echo =
        lab::server::Server::start(&site.lab, unlisted, |stream| std::io::copy(&mut &stream, &mut &stream).map(drop));
    let egret = site.lab.egret(&["--workers", "1"]);
    let mut asking = site.open();
    assert_eq!(asking.get(HOST, "/").unwrap().head.status, 200);
    let mut passing = HttpClient::new(site.lab.connect(unlisted).unwrap());
    passing.send(b"\x01\x02").unwrap();
    assert_eq!(passing.take(2), b"\x01\x02");
    for ports in ["sport = :15001", "dst 203.0.113.1:80", "dst 203.0.113.1:81"] {
        // The application's own end, which has no probes, is dialled at the same ports.
        let known = || {
            let all = sockets_with(&site.lab, ports);
            let ours = |line: &&str| ports.starts_with("sport") || !is_an_applications(&site.lab, line);
            all.lines().filter(ours).collect::<Vec<_>>().join("\n")
        };
        eventually(&format!("each is probed: {ports}, {}", known()), || all_are_probed(&known(), 15));
    }
    drop(egret);
    // Those that the Settings switch off.
    let egret = site.lab.start_egret(&["--workers", "1", "--tcp-keepalive-time", "0s"]);
    let mut asking = site.open();
    assert_eq!(asking.get(HOST, "/").unwrap().head.status, 200);
    let accepted = sockets_with(&site.lab, "sport = :15001");
    assert!(accepted.contains("ESTAB") && !accepted.contains("keepalive"), "{accepted}");
    drop(egret);
}

/// Whether a line of ss is of an application's socket: the accepted end of it is at the proxy's port.
fn is_an_applications(lab: &Lab, line: &str) -> bool {
    let local = line.split_whitespace().nth(3).expect("ss names both ends");
    sockets_with(lab, "sport = :15001").contains(&format!("{local} "))
}

/// What lies unacknowledged ends a connection, also one that is passed through.
#[test]
fn a_server_that_acknowledges_nothing_is_given_up() {
    let lab = Lab::new();
    let to = SocketAddr::new(Lab::address(Family::V4, 1), 80);
    let server = lab::server::Server::start(&lab, to, |stream| std::io::copy(&mut &stream, &mut &stream).map(drop));
    let egret = lab.egret(&["--workers", "1", "--tcp-user-timeout", "1500ms"]);
    let mut client = HttpClient::new(lab.connect(to).unwrap());
    client.send(b"\x01\x02").unwrap();
    assert_eq!(client.take(2), b"\x01\x02");
    outside_rules(&lab, "add rule inet lab in ip daddr 203.0.113.1 tcp dport 80 drop");
    client.send(b"\x03").unwrap();
    assert!(client.rest().is_err(), "reset, when the kernel has given the server up");
    egret.log_line(&[" UC ", "timed out"]);
    drop(server);
}

/// Holds every answer back until it is opened.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

#[test]
fn local_ports_run_out_and_come_back() {
    let gate = Gate::default();
    let held = gate.clone();
    let site = Site::new("{}", move |stream| {
        let mut server = HttpServer::new(stream);
        while server.request()?.is_some() {
            let open = held.0.0.lock().unwrap();
            drop(held.0.1.wait_timeout_while(open, PATIENCE, |open| !*open).unwrap());
            server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        }
        Ok(())
    });
    let egret = site.lab.egret(&[]);
    let range = "/proc/sys/net/ipv4/ip_local_port_range";
    site.lab.pod.enter(|| fs::write(range, "40000 40031")).unwrap();
    // To two addresses, for the application's own ports are as few.
    let mut clients: Vec<_> = (0..50)
        .map(|number| {
            let to = SocketAddr::new(Lab::address(Family::V4, 8 + number % 2), 80);
            let mut client = HttpClient::new(site.lab.connect(to).unwrap());
            client.send(format!("GET /{number} HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes()).unwrap();
            client
        })
        .collect();
    let refused = |line: &&String| line.contains(" 503 URX,UF ") && line.contains("Cannot_assign_requested_address");
    // A later try of one that is not refused yet would find a port once the others are given back.
    eventually("all that find no port are refused", || egret.access_log().iter().filter(refused).count() == 50 - 32);
    *gate.0.0.lock().unwrap() = true;
    gate.0.1.notify_all();
    let statuses: Vec<_> = clients.iter_mut().map(|client| client.response().unwrap().head.status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 32, "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 200 | 503)), "{statuses:?}");
    for client in &mut clients {
        assert_eq!(client.get(HOST, "/again").unwrap().head.status, 200, "every connection goes on");
    }
}

#[test]
fn a_port_nobody_listens_on_is_tried_thrice_and_no_more() {
    let lab = Lab::new();
    let at = SocketAddr::new(Lab::address(Family::V4, 1), 80);
    lab.names.set(HOST, &[at.ip()]);
    lab.configure("site.yaml", &service_entry(HOST, &[(80, "HTTP", None)]));
    let egret = lab.egret(&[]);
    let post = || {
        let mut client = HttpClient::new(lab.connect(at).unwrap());
        let post = format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 4\r\n\r\nbody");
        client.send(post.as_bytes()).unwrap();
        client.response().unwrap().head.status
    };
    (0..20).for_each(|_| assert_eq!(post(), 503));
    assert_eq!(egret.metric("egret_upstream_connect_failures_total"), Some(60.0));
    assert_eq!(egret.metric("egret_requests_retried_total"), Some(40.0));
    let listener = lab.outside.enter(|| TcpListener::bind(at)).unwrap();
    let serving = std::thread::spawn(move || answering("")(listener.accept()?.0));
    assert_eq!(post(), 200, "it is back at once");
    drop(egret);
    // However its connection ended.
    let _ = serving.join().unwrap();
}

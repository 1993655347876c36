//! HTTP/2 to servers: which version is spoken, many requests on one connection, and what becomes of them when a server
//! refuses a stream or says goodbye.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use h2::Reason;

use crate::lab::client::HttpClient;
use crate::lab::documents::{service_entry, simple_tls};
use crate::lab::http2_server::{self, Manner, Stream};
use crate::lab::nginx::{self, Nginx};
use crate::lab::pki::Leaf;
use crate::lab::server::{Pattern, Server};
use crate::lab::{Family, Lab, eventually};

const HOST: &str = "web.example";

fn site(port: u16) -> SocketAddr {
    SocketAddr::new(Lab::address(Family::V4, 1), port)
}

/// A lab whose host has port 80, declared HTTP2, without TLS, and this `connectionPool.http`.
fn h2c_lab(pool: &str) -> Lab {
    let lab = Lab::new();
    lab.names.set(HOST, &[site(80).ip()]);
    lab.configure("web.yaml", &service_entry(HOST, &[(80, "HTTP2", None)]));
    if !pool.is_empty() {
        lab.configure("rule.yaml", &rule(&format!("connectionPool: {{http: {pool}}}")));
    }
    lab
}

fn rule(policy: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: web}}\nspec: {{host: web.example, \
         trafficPolicy: {{{policy}}}}}\n"
    )
}

fn open(lab: &Lab) -> HttpClient<std::net::TcpStream> {
    HttpClient::new(lab.connect(site(80)).unwrap())
}

/// On a DestinationRule.
const AUTO: &str = "egret/upstream-protocol: AUTO";

/// Istio's table: the port's protocol, its policy, and what the application speaks.
#[test]
fn the_version_is_the_ports_and_its_policys() {
    let lab = Lab::new();
    lab.names.set(HOST, &[site(80).ip()]);
    let pair = lab.authority.issue(HOST, Leaf::Good).write(lab.dir(), HOST);
    let secure = nginx::secure(site(443), &pair, "TLSv1.3", r#"location / { return 200 "$uri"; }"#);
    let nginx = Nginx::start(&lab, &secure, site(443));
    let (h1, h2) = ("HTTP/1.1", "HTTP/2.0");
    let (up, down, client) = ("h2UpgradePolicy: UPGRADE", "h2UpgradePolicy: DO_NOT_UPGRADE", "useClientProtocol: true");
    let both = "h2UpgradePolicy: UPGRADE, useClientProtocol: true";
    let cases = [
        ("HTTP", "", [h1, h1]),
        ("HTTP2", "", [h2, h2]),
        ("GRPC", "", [h2, h2]),
        ("GRPC-WEB", "", [h2, h2]),
        ("HTTP2", down, [h2, h2]),
        ("HTTP", up, [h2, h2]),
        ("HTTP", client, [h1, h2]),
        ("HTTP2", client, [h1, h2]),
        ("HTTP", both, [h1, h2]),
        // Where the server chooses: nginx has both.
        ("HTTP", AUTO, [h2, h2]),
        ("GRPC", AUTO, [h2, h2]),
    ];
    let mut documents = String::new();
    let names: Vec<String> = cases.iter().enumerate().map(|(at, _)| format!("{at}.web.example")).collect();
    let pair_of_all = lab.authority.issue("*.web.example", Leaf::Good).write(lab.dir(), "all");
    drop(nginx);
    let secure = nginx::secure(site(443), &pair_of_all, "TLSv1.3", r#"location / { return 200 "$uri"; }"#);
    let nginx = Nginx::start(&lab, &secure, site(443));
    for (name, (protocol, pool, _)) in names.iter().zip(&cases) {
        lab.names.set(name, &[site(80).ip()]);
        documents += &service_entry(name, &[(80, protocol, Some(443))]);
        let ca = lab.ca_file();
        let mut rule = simple_tls(name, 80, Some(&ca));
        let mut fields = *pool;
        if fields == AUTO {
            rule = rule.replacen("metadata:\n", &format!("metadata:\n  annotations: {{{AUTO}}}\n"), 1);
            fields = "";
        }
        let pool = format!("      connectionPool: {{http: {{maxRetries: 1, {fields}}}}}\n");
        documents.extend(["---\n", &rule, &pool, "---\n"]);
    }
    lab.configure("all.yaml", documents.trim_end_matches("---\n"));
    let _egret = lab.egret(&[]);
    for (name, (protocol, pool, expected)) in names.iter().zip(&cases) {
        for (flag, expected) in ["--http1.1", "--http2-prior-knowledge"].iter().zip(expected) {
            let said = lab.curl(&[flag, &format!("http://{name}/{flag}")]).succeeded();
            assert_eq!(said.stdout, format!("/{flag}"), "{protocol} {pool}");
            let line = format!("GET /{flag} {expected}");
            eventually("nginx has seen it", || {
                nginx.seen().iter().any(|seen| seen.host == *name && seen.request.starts_with(&format!("GET /{flag}")))
            });
            let seen = nginx.seen();
            let found =
                seen.iter().find(|seen| seen.host == *name && seen.request.starts_with(&format!("GET /{flag}")));
            assert_eq!(found.unwrap().request, line, "{protocol} {pool}");
        }
    }
}

/// Requests of HTTP/1.1 as one server of HTTP/2 gets them, and its answers on their way back.
#[test]
fn requests_are_translated_with_chunks_trailers_and_interim_answers() {
    let lab = h2c_lab("");
    let seen = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&seen);
    let _server = http2_server::start(&lab, site(80), Manner::default(), move |mut stream: Stream| {
        let tell = Arc::clone(&tell);
        async move {
            let (parts, ()) = http::Request::new(()).into_parts();
            let _ = parts;
            let uri = stream.request.uri().to_string();
            let hop = stream.request.headers().get("x-hop").is_some();
            let (body, trailers) = stream.body().await;
            let sum = trailers.and_then(|fields| Some(fields.get("x-sum")?.to_str().ok()?.to_owned()));
            tell.lock().unwrap().push((uri, hop, body.clone(), sum));
            if stream.request.method() == http::Method::HEAD {
                let response = http::Response::builder().header("content-length", 1000).body(()).unwrap();
                let _ = stream.respond.send_response(response, true);
            } else {
                stream.answer(&body, &[("x-check", "5")]);
            }
        }
    });
    let egret = lab.egret(&[]);
    let mut client = open(&lab);
    client
        .send(
            b"POST /up?q=1 HTTP/1.1\r\nHost: web.example\r\nConnection: x-hop, te\r\nX-Hop: 1\r\nTE: trailers\r\n\
            Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\nX-Sum: 6\r\n\r\n",
        )
        .unwrap();
    let answer = client.response().unwrap();
    assert_eq!((answer.head.status, &answer.body[..]), (200, &b"hello"[..]));
    // Without a word that trailers are understood there are none, and HEAD has no body.
    client.send(b"HEAD /head HTTP/1.1\r\nHost: web.example\r\n\r\n").unwrap();
    let head = client.response_to("HEAD").unwrap().head;
    assert_eq!(head.field("content-length"), Some("1000"));
    assert_eq!(&client.get(HOST, "/empty").unwrap().body, b"");
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen[0], ("http://web.example/up?q=1".to_owned(), false, b"hello".to_vec(), Some("6".to_owned())));
    assert_eq!(seen[1].0, "http://web.example/head");
    egret.log_line(&["\"POST /up?q=1 HTTP/1.1\" 200 - via_upstream"]);
}

#[test]
fn many_requests_share_a_connection_and_large_bodies_go_both_ways() {
    let lab = h2c_lab("");
    let server = http2_server::start(&lab, site(80), Manner::default(), |mut stream: Stream| async move {
        let (body, _) = stream.body().await;
        let Ok(mut sent) = stream.respond.send_response(http::Response::new(()), false) else { return };
        let _ = sent.send_data(body.into(), true);
    });
    let egret = lab.egret(&["--workers", "1"]);
    let mut first = open(&lab);
    first.get(HOST, "/").unwrap();
    std::thread::scope(|scope| {
        for number in 0..16 {
            let lab = &lab;
            scope.spawn(move || {
                let body = Pattern::new().take(300_000 + number);
                let mut client = open(lab);
                for _ in 0..4 {
                    let head = format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {}\r\n\r\n", body.len());
                    client.send(head.as_bytes()).unwrap();
                    client.send(&body).unwrap();
                    assert!(client.response().unwrap().body == body, "{number}");
                }
            });
        }
    });
    assert_eq!(server.accepted(), 1);
    assert_eq!(egret.metric("egret_upstream_connects_total"), Some(1.0));
    assert_eq!(egret.sample("egret_http2_streams_total{side=\"upstream\"}"), Some(65.0));
    let shown = lab.egret_command(&["connections"]).succeeded().stdout;
    let row = shown.lines().find(|line| line.starts_with("upstream")).expect("the connection");
    let columns: Vec<&str> = row.split_whitespace().collect();
    let cluster = format!("outbound|80||{HOST}");
    assert_eq!(columns, ["upstream", "HTTP/2", &site(80).to_string(), "0", "65", "0", &cluster], "{shown}");
}

/// Counts which connection of the server carried each request.
fn counting(lab: &Lab, manner: Manner) -> (Server, Arc<Mutex<Vec<usize>>>) {
    let carried = Arc::new(Mutex::new(Vec::new()));
    let count = Arc::clone(&carried);
    let server = http2_server::start(lab, site(80), manner, move |mut stream: Stream| {
        count.lock().unwrap().push(stream.connection);
        async move {
            stream.body().await;
            stream.answer(b"ok", &[]);
        }
    });
    (server, carried)
}

#[test]
fn a_goodbye_and_the_limit_of_requests_lead_to_another_connection() {
    for (pool, manner) in [
        ("", Manner { streams_per_connection: Some(3), ..Manner::default() }),
        ("{maxRequestsPerConnection: 3}", Manner::default()),
    ] {
        let lab = h2c_lab(pool);
        let (_server, carried) = counting(&lab, manner);
        let _egret = lab.egret(&["--workers", "1"]);
        let mut client = open(&lab);
        for _ in 0..9 {
            client.send(b"POST / HTTP/1.1\r\nHost: web.example\r\nContent-Length: 2\r\n\r\nhi").unwrap();
            assert_eq!(client.response().unwrap().head.status, 200, "{pool}");
        }
        let used: BTreeSet<usize> = carried.lock().unwrap().iter().copied().collect();
        assert!(used.len() >= 3, "{pool} {used:?}");
    }
}

#[test]
fn a_refused_stream_is_sent_again_and_a_reset_is_told() {
    let lab = h2c_lab("");
    let _server = http2_server::start(&lab, site(80), Manner::default(), |mut stream: Stream| async move {
        match stream.request.uri().path() {
            "/refused" if stream.number == 0 => stream.respond.send_reset(Reason::REFUSED_STREAM),
            "/reset" => stream.respond.send_reset(Reason::INTERNAL_ERROR),
            _ => stream.answer(b"ok", &[]),
        }
    });
    let egret = lab.egret(&["--workers", "1"]);
    let mut client = open(&lab);
    assert_eq!(client.get(HOST, "/refused").unwrap().body, b"ok");
    let answer = client.get(HOST, "/reset").unwrap();
    assert_eq!(answer.head.status, 503);
    egret.log_line(&[
        "\"GET /reset HTTP/1.1\" 503 UR upstream_reset_before_response_started{remote_reset|INTERNAL_ERROR}",
    ]);
    assert_eq!(client.get(HOST, "/").unwrap().body, b"ok");
}

/// As many connections as the limit of streams asks for, and no stream too many on any.
#[test]
fn streams_of_a_connection_are_limited() {
    for (pool, max_streams) in [("{maxConcurrentStreams: 2}", None), ("", Some(2))] {
        let lab = h2c_lab(pool);
        let gate = Arc::new(tokio::sync::Semaphore::new(0));
        let (held, waiting) = (Arc::clone(&gate), Arc::new(Mutex::new(Vec::new())));
        let count = Arc::clone(&waiting);
        let manner = Manner { max_streams, ..Manner::default() };
        let server = http2_server::start(&lab, site(80), manner, move |mut stream: Stream| {
            let (held, count) = (Arc::clone(&held), Arc::clone(&count));
            async move {
                if stream.request.uri().path() != "/first" {
                    count.lock().unwrap().push(stream.connection);
                    drop(held.acquire().await);
                }
                stream.answer(b"ok", &[]);
            }
        });
        let _egret = lab.egret(&["--workers", "1"]);
        // The server's limit is known from here on.
        open(&lab).get(HOST, "/first").unwrap();
        std::thread::scope(|scope| {
            let asked: Vec<_> = (0..6)
                .map(|_| {
                    let lab = &lab;
                    scope.spawn(move || open(lab).get(HOST, "/").unwrap().head.status)
                })
                .collect();
            eventually("all requests are at the server", || waiting.lock().unwrap().len() == 6);
            gate.add_permits(6);
            assert!(asked.into_iter().all(|asked| asked.join().unwrap() == 200));
        });
        let carried = waiting.lock().unwrap();
        for connection in 0..server.accepted() {
            let streams = carried.iter().filter(|of| **of == connection).count();
            assert!(streams <= 2, "{pool}: {streams} on connection {connection}");
        }
    }
}

#[test]
fn a_server_without_http2_is_named_as_such() {
    let lab = h2c_lab("");
    let _server = Server::start(&lab, site(80), |stream| {
        use std::io::{Read, Write};
        let mut stream = stream;
        stream.read_exact(&mut [0; 24])?;
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    });
    let egret = lab.egret(&["--workers", "1"]);
    let answer = open(&lab).get(HOST, "/").unwrap();
    assert_eq!(answer.head.status, 503);
    egret.log_line(&["\"GET / HTTP/1.1\" 503 UC", "the_server_answers_in_HTTP/1.1"]);
}

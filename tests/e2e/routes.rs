//! What the routes of a VirtualService do to requests on the wire.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::lab;
use crate::lab::client::HttpClient;
use crate::lab::documents::{service_entry, simple_tls, static_tcp};
use crate::lab::pki::Leaf;
use crate::lab::server::{HttpServer, Server};
use crate::lab::{Family, Lab};

const HOST: &str = "api.example";

const ROUTES: &str = r#"---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: api}
spec:
  hosts: [api.example]
  http:
  - name: slow
    match: [{uri: {prefix: /hang}}]
    timeout: 1s
    route: [{destination: {host: api.example, port: {number: 80}}}]
  - name: impatient
    match: [{uri: {prefix: /try}}]
    retries: {attempts: 2, perTryTimeout: 100ms, retryOn: reset}
    route: [{destination: {host: api.example, port: {number: 80}}}]
  - name: again
    match: [{uri: {prefix: /flaky}}]
    retries: {attempts: 2, retryOn: 5xx}
    route: [{destination: {host: api.example, port: {number: 80}}}]
  - name: moved
    match: [{uri: {exact: /old}}]
    redirect: {uri: /new, authority: other.example, redirectCode: 302}
  - name: teapot
    match: [{uri: {regex: "/tea(pot)?"}, method: {exact: GET}}]
    directResponse: {status: 418, body: {string: short and stout}}
    headers: {response: {set: {x-by: route}}}
  - name: faulty
    match: [{uri: {prefix: /faulty}}]
    fault: {delay: {fixedDelay: 50ms}, abort: {httpStatus: 555}}
    route: [{destination: {host: api.example, port: {number: 80}}}]
  - name: rewritten
    match: [{uri: {prefix: /v1/}}]
    rewrite: {uri: /v2/, authority: inner.example}
    headers:
      request: {set: {x-set: "1"}, remove: [x-gone]}
      response: {add: {x-back: "2"}, remove: [x-hidden]}
    route: [{destination: {host: api.example, port: {number: 80}}}]
  - name: secure
    match: [{uri: {prefix: /secure}}]
    route: [{destination: {host: api.example, port: {number: 443}}}]
  - name: nowhere
    match: [{uri: {prefix: /nowhere}}]
    route: [{destination: {host: nowhere.example, port: {number: 80}}}]
"#;

/// Answers with the request's head as it came. `/hang` and `/try` get no answer; `/flaky` gets every third time a good one.
fn serve(stream: impl Read + Write, flaky: &AtomicUsize) -> io::Result<()> {
    let mut server = HttpServer::new(stream);
    while let Some(request) = server.request()? {
        let bad = request.target.starts_with("/flaky") && flaky.fetch_add(1, Ordering::SeqCst) % 3 != 2;
        let status = if bad { "503 Service Unavailable" } else { "200 OK" };
        if ["/hang", "/try"].iter().any(|path| request.target.starts_with(path)) {
            // Nothing more comes: this waits for the connection's end.
            server.request()?;
            return Ok(());
        }
        let body = request.head.text;
        let length = body.len();
        server
            .send(format!("HTTP/1.1 {status}\r\nx-hidden: 1\r\nContent-Length: {length}\r\n\r\n{body}").as_bytes())?;
    }
    Ok(())
}

#[test]
fn routes_do_what_they_say() {
    let lab = Lab::new();
    let address = Lab::address(Family::V4, 1);
    lab.names.set(HOST, &[address]);
    let flaky = Arc::new(AtomicUsize::new(0));
    let (near, far) = (Arc::clone(&flaky), Arc::clone(&flaky));
    let plain = Server::start(&lab, SocketAddr::new(address, 80), move |stream| serve(stream, &near));
    let pair = lab.authority.issue(HOST, Leaf::Good);
    let secure = Server::start_tls(&lab, SocketAddr::new(address, 443), &pair, move |stream| serve(stream, &far));
    let entry = service_entry(HOST, &[(80, "HTTP", None), (443, "HTTPS", None)]);
    let rule = simple_tls(HOST, 443, Some(&lab.ca_file()));
    lab.configure("api.yaml", &format!("{entry}---\n{rule}{ROUTES}"));
    let egret = lab.egret(&[]);
    // With its head, which comes first.
    let get = |path: &str| {
        lab.curl(&["-i", "-H", "x-gone: 1", "-H", "x-kept: 1", &format!("http://{HOST}{path}")]).succeeded().stdout
    };
    let has = |text: &str, parts: &[&str]| {
        for part in parts {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
    };

    has(&get("/hang"), &["HTTP/1.1 504 ", "upstream request timeout"]);
    egret.log_line(&["\"GET /hang HTTP/1.1\" 504 UT response_timeout", " outbound|80||api.example ", " slow"]);
    let before = plain.accepted();
    has(&get("/try"), &["HTTP/1.1 504 "]);
    lab::eventually("there was a connection for each try", || plain.accepted() == before + 3);
    egret.log_line(&["\"GET /try HTTP/1.1\" 504 URX,UT upstream_per_try_timeout"]);

    has(&get("/flaky"), &["HTTP/1.1 200 OK"]);
    assert_eq!(flaky.load(Ordering::SeqCst), 3, "the first two answers were not wanted");
    let post = |body: &str, fields: &[&str]| {
        let url = format!("http://{HOST}/flaky");
        lab.curl(&[&["-i", "-d", body, &url], fields].concat()).succeeded().stdout
    };
    has(&post("body", &[]), &["HTTP/1.1 200 OK", "Content-Length: 4\r\n"]);
    assert_eq!(flaky.load(Ordering::SeqCst), 6, "a small body is held");
    has(&post(&"x".repeat(30_000), &["-H", "Transfer-Encoding: chunked", "-H", "Expect:"]), &["HTTP/1.1 200 OK"]);
    assert_eq!(flaky.load(Ordering::SeqCst), 9);
    let large = lab.write("large", &"x".repeat(70_000));
    has(&post(&format!("@{}", lab::utf8(&large)), &["-H", "Expect:"]), &["HTTP/1.1 503 "]);
    assert_eq!(flaky.load(Ordering::SeqCst), 10, "a large one is not, and cannot be sent again");

    has(&get("/old"), &["HTTP/1.1 302 Found\r\n", "location: http://other.example/new\r\n"]);
    has(&get("/teapot"), &["HTTP/1.1 418 ", "x-by: route\r\n", "short and stout"]);
    egret.log_line(&["\"GET /teapot HTTP/1.1\" 418 - direct_response", " teapot"]);
    has(&get("/faulty"), &["HTTP/1.1 555 ", "fault filter abort"]);
    egret.log_line(&["\"GET /faulty HTTP/1.1\" 555 DI,FI fault_filter_abort"]);

    let rewritten = get("/v1/x?q=1");
    has(
        &rewritten,
        &["x-back: 2\r\n", "GET /v2/x?q=1 HTTP/1.1\r\n", "Host: inner.example\r\n", "x-set: 1\r\n", "x-kept: 1"],
    );
    assert!(!rewritten.contains("x-gone") && !rewritten.contains("x-hidden"), "{rewritten}");

    has(&get("/secure"), &["HTTP/1.1 200 OK", "GET /secure HTTP/1.1\r\n", "Host: api.example\r\n"]);
    assert_eq!(secure.accepted(), 1, "over TLS, to the port of the route");
    egret.log_line(&["\"GET /secure HTTP/1.1\" 200", " outbound|443||api.example "]);

    has(&get("/nowhere"), &["HTTP/1.1 503 "]);
    egret.log_line(&["\"GET /nowhere HTTP/1.1\" 503 NC cluster_not_found"]);
    has(&get("/other"), &["HTTP/1.1 404 Not Found"]);
    egret.log_line(&["\"GET /other HTTP/1.1\" 404 NR route_not_found"]);
    has(&get("/a%2fb"), &["HTTP/1.1 400 Bad Request"]);
}

fn byte_routes(host: &str, routes: &str) -> String {
    let name = host.replace('.', "-");
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\nspec:\n  hosts: [{host}]\n  \
         {routes}\n"
    )
}

/// What is not read goes where routes say: TLS by its server name, bytes by their port, in shares.
#[test]
fn connections_that_are_not_read_are_routed() {
    let lab = Lab::new();
    let [own, other, third] = [1, 2, 3].map(|n| Lab::address(Family::V4, n));
    lab.names.set(HOST, &[own]);
    let flaky = AtomicUsize::new(0);
    let pair = lab.authority.issue(HOST, Leaf::Good);
    let stranger = Server::start(&lab, SocketAddr::new(own, 443), |_| Ok(()));
    let gate = Server::start_tls(&lab, SocketAddr::new(other, 8443), &pair, move |stream| serve(stream, &flaky));
    let letters = [("K", own, 9000), ("L", other, 9001), ("M", third, 9001)].map(|(letter, ip, port)| {
        Server::start(&lab, SocketAddr::new(ip, port), move |mut stream| stream.write_all(letter.as_bytes()))
    });
    let documents = [
        service_entry(HOST, &[(443, "TLS", None)]),
        static_tcp("gate.example", other, 8443).replace("protocol: TCP", "protocol: TLS"),
        static_tcp("db.example", own, 9000),
        static_tcp("one.example", other, 9001),
        static_tcp("two.example", third, 9001),
    ];
    let tls = "tls: [{match: [{sniHosts: [api.example], port: 443}], route: [{destination: {host: gate.example}}]}]";
    let tcp = "tcp: [{match: [{port: 9000}], route: [{destination: {host: one.example}, weight: 50}, \
               {destination: {host: two.example}, weight: 50}]}]";
    lab.configure(
        "entries.yaml",
        &(documents.join("---\n") + &byte_routes(HOST, tls) + &byte_routes("db.example", tcp)),
    );
    let egret = lab.egret(&[]);
    assert!(lab.curl(&["https://api.example/x"]).succeeded().stdout.starts_with("GET /x HTTP/1.1\r\n"));
    egret.log_line(&["\"- - -\" 0 - ", &format!("\"{other}:8443\" outbound|8443||gate.example"), " api.example "]);
    assert_eq!((gate.accepted(), stranger.accepted()), (1, 0));
    let mut seen = String::new();
    lab::eventually("both destinations get a share", || {
        let mut stream = lab.connect(SocketAddr::new(own, 9000)).expect("the redirect accepts");
        stream.read_to_string(&mut seen).expect("the letter of a server");
        seen.contains('L') && seen.contains('M')
    });
    assert!(!seen.contains('K') && letters[0].accepted() == 0, "{seen}");
    // A route that leads nowhere closes what it takes.
    lab.configure("lost.yaml", &byte_routes("one.example", "tcp: [{route: [{destination: {host: nobody.example}}]}]"));
    lab::eventually("the route is in force", || {
        let mut bytes = Vec::new();
        let read = lab.connect(SocketAddr::new(other, 9001)).and_then(|mut stream| stream.read_to_end(&mut bytes));
        read.is_err() || bytes.is_empty()
    });
    egret.log_line(&["\"- - -\" 0 NC - cluster_not_found ", "outbound|9001||nobody.example"]);
}

/// Istio's `tlsOriginationCases` where the application picks the address: a port with a `targetPort` leaves as TLS to that
/// port of the address dialled, and so does one whose route leads to a port with TLS. And an entry of two networks.
#[test]
fn origination_follows_the_address_that_was_dialled() {
    let lab = Lab::new();
    let address = Lab::address(Family::V4, 1);
    let pair = lab.authority.issue("somebody-else.example", Leaf::Good);
    let secure = Server::start_tls(&lab, SocketAddr::new(address, 443), &pair, |stream| {
        let alpn = String::from_utf8_lossy(stream.conn.alpn_protocol().unwrap_or(b"none")).into_owned();
        let mut server = HttpServer::new(stream);
        while server.request()?.is_some() {
            server.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{alpn}", alpn.len()).as_bytes())?;
        }
        Ok(())
    });
    let echo = Server::start(&lab, SocketAddr::new(address, 9000), |mut stream| stream.write_all(b"K"));
    let none = |host: &str, ports: &[(u16, &str, Option<u16>)]| {
        service_entry(host, ports).replace("resolution: DNS", "resolution: NONE")
    };
    let insecure = |host: &str, port: u16| simple_tls(host, port, None) + "        insecureSkipVerify: true\n";
    let networks = service_entry("networks.example", &[(9000, "TCP", None)])
        .replace("  resolution: DNS", "  addresses: [198.51.100.0/24, 203.0.113.0/24]\n  resolution: NONE");
    let redirect = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: redirected}\nspec:\n  hosts: \
                    [redirected.example]\n  http: [{route: [{destination: {host: redirected.example, port: {number: 443}}}]}]\n";
    lab.configure(
        "none.yaml",
        &[
            none("direct.example", &[(8888, "HTTP", Some(443))]),
            insecure("direct.example", 8888),
            none("redirected.example", &[(8888, "HTTP", None), (8882, "HTTP2", None), (443, "HTTPS", Some(443))]),
            insecure("redirected.example", 443),
            redirect.to_owned(),
            networks,
        ]
        .join("---\n"),
    );
    let egret = lab.egret(&["--outbound-traffic-policy", "REGISTRY_ONLY"]);
    for (host, port, cluster) in [
        ("direct.example", 8888, "outbound|8888||direct.example"),
        ("redirected.example", 8888, "outbound|443||redirected.example"),
        ("redirected.example", 8882, "outbound|443||redirected.example"),
    ] {
        let mut client = HttpClient::new(lab.connect(SocketAddr::new(address, port)).expect("the redirect accepts"));
        let response = client.get(host, "/").expect("an answer");
        assert_eq!((response.head.status, response.body.as_slice()), (200, &b"http/1.1"[..]), "{host}:{port}");
        egret.log_line(&["\"GET / HTTP/1.1\" 200 ", &format!("\"{address}:443\" {cluster} ")]);
    }
    assert!(secure.accepted() >= 2);
    let mut answer = String::new();
    let mut stream = lab.connect(SocketAddr::new(address, 9000)).expect("the redirect accepts");
    stream.read_to_string(&mut answer).expect("a letter");
    assert_eq!((answer.as_str(), echo.accepted()), ("K", 1), "an address of the second network");
    let mut beyond = Vec::new();
    let read = lab.connect("192.0.2.1:9000".parse().expect("an address")).and_then(|mut s| s.read_to_end(&mut beyond));
    assert!(read.is_err() || beyond.is_empty(), "an address of neither");
    egret.log_line(&["\"- - -\" 0 UH ", " 192.0.2.1:9000 "]);
}

//! What the routes of a VirtualService do to requests on the wire.

mod lab;

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lab::documents::{service_entry, simple_tls, static_tcp};
use lab::pki::Leaf;
use lab::server::{HttpServer, Server};
use lab::{Family, Lab};

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
    has(&lab.curl(&["-i", "-d", "body", &format!("http://{HOST}/flaky")]).succeeded().stdout, &["HTTP/1.1 503 "]);
    assert_eq!(flaky.load(Ordering::SeqCst), 4, "a body that is gone cannot be sent again");

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

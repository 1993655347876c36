//! Who is waited for, and what a connection's first bytes decide: nothing where no policy asks for them, everything where
//! an entry declares HTTP or TLS, however late they come.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use crate::lab::client::HttpClient;
use crate::lab::documents::{origination, service_entry};
use crate::lab::server::{HttpServer, Server};
use crate::lab::{Family, Lab};

/// For ever where it holds: whoever is heard was not waited for.
const FOR_EVER: [&str; 2] = ["--protocol-detection-timeout", "0s"];
/// For edition.cnn.com.
const HELLO: &[u8] = include_bytes!("../../src/sniff/tests/hellos/openssl-3.0-tls13.bin");
/// The beginning of HTTP/2 without TLS.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

fn at(number: u8, port: u16) -> SocketAddr {
    SocketAddr::new(Lab::address(Family::V4, number), port)
}

fn object(kind: &str, name: &str, spec: &str) -> String {
    let group = if kind == "AuthorizationPolicy" { "security" } else { "networking" };
    format!("---\napiVersion: {group}.istio.io/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n")
}

/// A port without a protocol, whose server speaks first: its greeting comes when the detection timeout has passed.
fn clock(lab: &Lab) -> (Server, SocketAddr) {
    let address = at(8, 7100);
    let spec = format!(
        "hosts: [clock.example], addresses: [{ip}], ports: [{{number: 7100, name: any}}], resolution: STATIC, endpoints: \
         [{{address: {ip}}}]",
        ip = address.ip()
    );
    lab.configure("clock.yaml", &object("ServiceEntry", "clock", &spec));
    (Server::start(lab, address, greet), address)
}

/// Resolves when what has been silent until now has been silent for longer than the detection timeout.
fn detection_timeout_passes(lab: &Lab, clock: SocketAddr) {
    let mut stream = lab.connect(clock).unwrap();
    stream.read_exact(&mut [0; 4]).unwrap();
}

fn greet(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(b"220 ")?;
    echo(stream)
}

fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut bytes = [0; 4096];
    loop {
        match stream.read(&mut bytes)? {
            0 => return Ok(()),
            count => stream.write_all(&bytes[..count])?,
        }
    }
}

/// Sends `bytes` and waits for as many; `None` where the connection ends before.
fn echoed(lab: &Lab, to: SocketAddr, bytes: &[u8]) -> Option<Vec<u8>> {
    let mut stream = lab.connect(to).ok()?;
    stream.write_all(bytes).ok()?;
    let mut back = vec![0; bytes.len()];
    match stream.read_exact(&mut back) {
        Ok(()) => Some(back),
        Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("{} waits", bytes.escape_ascii()),
        Err(_) => None,
    }
}

/// Mail and databases: neither a port that nobody lists, nor one that is listed for another address, nor policies about
/// other ports make anybody wait.
#[test]
fn servers_that_speak_first_are_heard_at_once() {
    let lab = Lab::new();
    let _servers = [2525, 3306, 3307].map(|port| Server::start(&lab, at(1, port), greet));
    let mysql = service_entry("db.example", &[(3306, "TCP", None)]) + "  addresses: [203.0.113.5]\n";
    let elsewhere = object(
        "AuthorizationPolicy",
        "elsewhere",
        "action: DENY, rules: [{to: [{operation: {ports: ['81'], methods: [DELETE]}}]}]",
    );
    lab.configure("all.yaml", &[mysql, elsewhere, "---\n".to_owned() + &origination("secure.example", None)].concat());
    let egret = lab.egret(&FOR_EVER);
    for port in [2525, 3306, 3307] {
        let mut client = lab.connect(at(1, port)).unwrap();
        client.read_exact(&mut [0; 4]).unwrap();
        client.write_all(b"quit\r\n").unwrap();
        client.read_exact(&mut [0; 6]).unwrap();
        drop(client);
        egret.log_line(&["\"- - -\" 0 - - - \"-\" 6 10 ", &format!("\"{}\" PassthroughCluster ", at(1, port))]);
    }
}

/// A port scan, and a health check that sends nothing.
#[test]
fn a_refused_connection_ends_without_a_byte() {
    let lab = Lab::new();
    let egret = lab.egret(&FOR_EVER);
    // The reset may come before the connection is handed to the test.
    let end = lab.connect(at(1, 4444)).and_then(|mut stream| stream.read(&mut [0; 1]));
    assert_eq!(end.map_err(|error| error.kind()), Err(ErrorKind::ConnectionReset));
    egret.log_line(&["\"- - -\" 0 UF", "PassthroughCluster"]);
}

#[test]
fn http_to_a_port_that_no_entry_names_passes_as_it_is() {
    let lab = Lab::new();
    let _server = Server::start(&lab, at(1, 3128), |mut stream| {
        let mut received = Vec::new();
        stream.read_to_end(&mut received)?;
        stream.write_all(&received)
    });
    let egret = lab.egret(&[]);
    let long = format!("GET / HTTP/1.1\r\nHost: a.example\r\nX-Long: {}\r\n\r\n", "x".repeat(70_000));
    for request in [
        "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n\x16\x03\x01",
        "GET http://a.example/ HTTP/1.1\r\nHost: b.example\r\nProxy-Connection: keep-alive\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.example\r\nX-Folded: a\r\n b\r\n\r\n",
        "get / HTTP/1.1\n\n",
        &long,
    ] {
        let mut client = lab.connect(at(1, 3128)).unwrap();
        client.write_all(request.as_bytes()).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut back = Vec::new();
        client.read_to_end(&mut back).unwrap();
        assert!(back == request.as_bytes(), "{}", &request[..30]);
        let length = request.len();
        egret.log_line(&[&format!("\"- - -\" 0 - - - \"-\" {length} {length} "), " PassthroughCluster "]);
    }
}

/// Not even the beginning of a word that could be a method, or of TLS, is waited on, unless a policy wants to see it; and
/// then not for long.
#[test]
fn the_beginning_of_something_is_not_waited_on() {
    let lab = Lab::new();
    let _servers = [7001, 7002].map(|port| Server::start(&lab, at(1, port), echo));
    lab.configure(
        "policy.yaml",
        &object(
            "AuthorizationPolicy",
            "deletes",
            "action: AUDIT, rules: [{to: [{operation: {ports: ['7002'], methods: [DELETE]}}]}]",
        ),
    );
    let _egret = lab.egret(&FOR_EVER);
    for opening in [&b"foo1"[..], b"123", b"GET", b"\x16", b"\x16\x03", b"PRI * HTTP", b"ping", b"\r\n", b"S"] {
        for port in [7001, 7002] {
            assert_eq!(echoed(&lab, at(1, port), opening).as_deref(), Some(opening), "{port}");
        }
    }
}

/// A ClientHello in pieces, with a pause that is longer than anybody waits for the rest: its name stays unknown, which
/// helps it past no policy.
#[test]
fn a_name_that_comes_late_is_no_name_that_is_absent() {
    let lab = Lab::new();
    let server = Server::start(&lab, at(1, 4433), echo);
    lab.configure(
        "policy.yaml",
        &object(
            "AuthorizationPolicy",
            "no-cnn",
            "action: DENY, rules: [{when: [{key: connection.sni, values: [edition.cnn.com]}]}]",
        ),
    );
    let egret = lab.egret(&[]);
    let mut client = lab.connect(at(1, 4433)).unwrap();
    client.write_all(&HELLO[..100]).unwrap();
    egret.log_line(&["rbac_access_denied_matched_policy[ns[default]-policy[no-cnn]-rule[0]]"]);
    let _ = client.write_all(&HELLO[100..]);
    assert!(!client.read(&mut [0; 1]).is_ok_and(|count| count > 0));
    assert_eq!(server.accepted(), 0);
    // Other bytes have none.
    assert_eq!(echoed(&lab, at(1, 4433), b"ping").as_deref(), Some(&b"ping"[..]));
}

#[test]
fn who_speaks_late_is_judged_all_the_same() {
    let lab = Lab::new();
    let (_clock, tick) = clock(&lab);
    let _server = Server::start(&lab, at(1, 80), |stream| {
        let mut server = HttpServer::new(stream);
        server.request()?;
        server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    });
    let tls = Server::start(&lab, at(1, 443), echo);
    let routes = "hosts: [closed.example], http: [{directResponse: {status: 403, body: {string: closed}}}]";
    let nowhere = "hosts: [edition.cnn.com], tls: [{match: [{sniHosts: [edition.cnn.com]}], route: [{destination: {host: \
                   nowhere.example}}]}]";
    lab.configure(
        "all.yaml",
        &[
            service_entry("closed.example", &[(80, "HTTP", None)]),
            object("VirtualService", "closed", routes),
            "---\n".to_owned() + &service_entry("edition.cnn.com", &[(443, "TLS", None)]),
            object("VirtualService", "tls", nowhere),
        ]
        .concat(),
    );
    let _egret = lab.egret(&["--protocol-detection-timeout", "200ms"]);
    let [mut closed, mut open] = [80, 80].map(|port| HttpClient::new(lab.connect(at(1, port)).unwrap()));
    let mut hello = lab.connect(at(1, 443)).unwrap();
    detection_timeout_passes(&lab, tick);
    assert_eq!(closed.get("closed.example", "/").unwrap().head.status, 403);
    assert_eq!(open.get("other.example", "/").unwrap().head.status, 200);
    hello.write_all(HELLO).unwrap();
    let end = hello.read(&mut [0; 1]);
    assert!(!end.is_ok_and(|count| count > 0), "the route leads nowhere");
    assert_eq!(tls.accepted(), 0);
}

/// Bytes that are no requests: not to a host whose requests leave as TLS, by its rule or by a route, and to everybody else.
/// HTTP/2 without TLS is requests.
#[test]
fn one_host_with_tls_does_not_shut_a_port_for_others() {
    let lab = Lab::new();
    let (secure, routed, plain) = (at(1, 80), at(2, 80), at(3, 80));
    lab.names.set("secure.example", &[secure.ip()]);
    lab.names.set("routed.example", &[routed.ip()]);
    lab.names.set("plain.example", &[plain.ip()]);
    let servers = [secure, routed, plain, at(4, 80), at(2, 8080), at(3, 8080)].map(|at| Server::start(&lab, at, echo));
    let route = "hosts: [routed.example], http: [{route: [{destination: {host: secure.example, port: {number: 80}}}]}]";
    lab.configure(
        "all.yaml",
        &[
            origination("secure.example", Some(&lab.ca_file())),
            "---\n".to_owned() + &service_entry("routed.example", &[(80, "HTTP", None), (8080, "HTTP", None)]),
            "---\n".to_owned() + &service_entry("plain.example", &[(80, "HTTP", None), (8080, "HTTP", None)]),
            object("VirtualService", "routed", route),
        ]
        .concat(),
    );
    let egret = lab.egret(&[]);
    for served in [secure, routed, at(2, 8080)] {
        let answer = echoed(&lab, served, PREFACE).expect("the settings of a server");
        assert_eq!(answer[3..9], [4, 0, 0, 0, 0, 0], "{served}");
    }
    for bytes in [&b"\0\x01\x02"[..], b"*1\r\n$4\r\nPING\r\n"] {
        for shut in [secure, routed, at(2, 8080)] {
            assert_eq!(echoed(&lab, shut, bytes), None, "{shut} {}", bytes.escape_ascii());
            egret.log_line(&[" neither_http1_nor_tls_on_a_port_with_tls_origination ", &format!(" {shut} ")]);
        }
        for open in [plain, at(4, 80), at(3, 8080)] {
            assert_eq!(echoed(&lab, open, bytes).as_deref(), Some(bytes), "{open} {}", bytes.escape_ascii());
        }
    }
    // Nor does a request that names no host (HTTP/1.0), to where one may be meant whose requests leave as TLS.
    for (shut, target) in [(secure, "/"), (at(2, 8080), "/admin")] {
        let mut client = HttpClient::new(lab.connect(shut).unwrap());
        client.send(format!("GET {target} HTTP/1.0\r\nAuthorization: Basic eA==\r\n\r\n").as_bytes()).unwrap();
        assert_eq!(client.head().unwrap().status, 400, "{shut}");
        egret.log_line(&["\"GET ", " 400 - missing_host_header ", &format!(" {shut} ")]);
    }
    for shut in [0, 1, 4] {
        assert_eq!(servers[shut].accepted(), 0, "something left in plain text");
    }
}

/// The application has chosen a proxy, which reads the absolute form (RFC 9112 §3.2.2); the target says whom it means.
#[test]
fn a_forward_proxy_gets_the_absolute_form() {
    let lab = Lab::new();
    let proxies = [at(1, 3128), at(2, 3128)];
    let _servers = proxies.map(|at| {
        Server::start(&lab, at, |stream| {
            let mut server = HttpServer::new(stream);
            while let Some((_, target, head)) = server.request_head()? {
                let body = format!("{target} {}", head.field("host").unwrap_or("none"));
                server.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes())?;
            }
            Ok(())
        })
    });
    lab.names.set("origin.example", &[at(2, 3128).ip()]);
    lab.configure("ports.yaml", &service_entry("origin.example", &[(3128, "HTTP", None)]));
    let _egret = lab.egret(&[]);
    for (to, request, seen) in [
        (proxies[0], "GET http://a.example/x?y HTTP/1.1\r\nHost: a.example\r\n\r\n", "http://a.example/x?y a.example"),
        (proxies[0], "GET http://a.example:81 HTTP/1.1\r\nHost: b.example\r\n\r\n", "http://a.example:81 a.example:81"),
        // Its entry's own address, and then another way there.
        (proxies[1], "GET http://origin.example/ HTTP/1.1\r\nHost: b\r\n\r\n", "http://origin.example/ origin.example"),
        (proxies[0], "GET http://origin.example/ HTTP/1.1\r\nHost: b\r\n\r\n", "/ origin.example"),
    ] {
        let mut client = HttpClient::new(lab.connect(to).unwrap());
        client.send(request.as_bytes()).unwrap();
        let answer = client.response().unwrap();
        assert_eq!(String::from_utf8_lossy(&answer.body), seen, "{request}");
    }
}

/// On a port of protocol HTTP what is nearly a request is one, and refused.
#[test]
fn malformed_openings_of_http_are_answered() {
    let lab = Lab::new();
    let server = Server::start(&lab, at(1, 80), echo);
    lab.configure("http.yaml", &service_entry("site.example", &[(80, "HTTP", None)]));
    let _egret = lab.egret(&[]);
    for opening in [
        "GET  HTTP/1.1\r\nHost: a\r\n\r\n",
        "G(T / HTTP/1.1\r\nHost: a\r\n\r\n",
        "get / HTTP/1.1\r\nHost: a\r\n\r\n",
        " GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET nowhere HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        let mut client = HttpClient::new(lab.connect(at(1, 80)).unwrap());
        client.send(opening.as_bytes()).unwrap();
        assert_eq!(client.response().unwrap().head.status, 400, "{opening}");
    }
    assert_eq!(server.accepted(), 0);
}

//! Ways past the policy that need no name and no address: what is said inside a tunnel, a host that is not the server
//! name, and data that comes before the connection is there.

use std::fs;
use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::lab;
use crate::lab::client::HttpClient;
use crate::lab::documents::{access, origination, service_entry};
use crate::lab::pki::Leaf;
use crate::lab::server::{HttpServer, Server, TlsStream};
use crate::lab::{Family, Lab};
use socket2::{Domain, SockAddr, Socket, Type};

const REGISTRY_ONLY: [&str; 2] = ["--outbound-traffic-policy", "REGISTRY_ONLY"];

fn outside(number: u8, port: u16) -> SocketAddr {
    SocketAddr::new(Lab::address(Family::V4, number), port)
}

/// Switches protocols, whatever is asked; then gives back what comes.
fn switching(stream: TcpStream) -> io::Result<()> {
    let mut server = HttpServer::new(stream);
    server.request_head()?;
    server.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")?;
    let stream = server.connection().stream();
    let mut back = stream.try_clone()?;
    io::copy(stream, &mut back).map(drop)
}

/// Plain HTTP inside a websocket is bytes like others: they go to the server that the policy let, and to nobody else.
#[test]
fn what_is_inside_a_websocket_stays_with_its_server() {
    let lab = Lab::new();
    lab.names.set("chat.example", &[outside(1, 80).ip()]);
    for host in ["denied.example", "other.example"] {
        lab.names.set(host, &[outside(2, 80).ip()]);
    }
    let chat = Server::start(&lab, outside(1, 80), switching);
    let strangers = [80, 443].map(|port| Server::start(&lab, outside(2, port), |_| Ok(())));
    // One that is registered, too: there is no other way to it than a request of its own.
    lab.configure("entries.yaml", &[access("chat.example"), access("other.example")].join("---\n"));
    let egret = lab.egret(&REGISTRY_ONLY);
    let mut client = HttpClient::new(lab.connect(outside(1, 80)).expect("the redirect accepts"));
    let upgrade = "GET /chat HTTP/1.1\r\nHost: chat.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    client.send(upgrade.as_bytes()).expect("the proxy reads");
    assert_eq!(client.head().expect("an answer").status, 101);
    for inside in [
        "GET /secret HTTP/1.1\r\nHost: denied.example\r\n\r\n".to_owned(),
        "GET /secret HTTP/1.1\r\nHost: other.example\r\n\r\n".to_owned(),
        "GET http://other.example/ HTTP/1.1\r\nHost: other.example\r\n\r\n".to_owned(),
        format!("CONNECT {} HTTP/1.1\r\nHost: other.example\r\n\r\n", outside(2, 443)),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
    ] {
        client.send(inside.as_bytes()).expect("the proxy reads");
        assert_eq!(String::from_utf8_lossy(&client.take(inside.len())), inside, "the server gets every byte");
    }
    drop(client);
    egret.log_line(&["\"GET /chat HTTP/1.1\" 101 ", "outbound|80||chat.example"]);
    assert_eq!(egret.access_log().len(), 1, "nothing inside is a request: {:?}", egret.access_log());
    assert_eq!(chat.accepted(), 1);
    assert!(strangers.iter().all(|stranger| stranger.accepted() == 0), "something got elsewhere");
}

/// Answers with the server name that the client asked for and the request's host.
fn named(stream: TlsStream) -> io::Result<()> {
    let server_name = stream.conn.server_name().unwrap_or("none").to_owned();
    let mut server = HttpServer::new(stream);
    while let Some(request) = server.request()? {
        let body = format!("{server_name} {}", request.head.field("host").unwrap_or("none"));
        server.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes())?;
    }
    Ok(())
}

/// Over TLS of egret's a request is judged by its host, and the server name follows from it, or from a rule. Inside TLS of
/// the application nobody sees the host: its server name is what is judged.
#[test]
fn a_host_is_judged_whatever_the_server_name() {
    let lab = Lab::new();
    let address = outside(1, 443);
    let pair = lab.authority.issue("allowed.example", Leaf::Good);
    let server = Server::start_tls(&lab, address, &pair, named);
    for host in ["allowed.example", "fronted.example", "denied.example"] {
        lab.names.set(host, &[address.ip()]);
    }
    let ca = lab.ca_file();
    // The name of another in its ClientHello, as a rule may want it.
    let fronted = origination("fronted.example", Some(&ca)) + "        sni: allowed.example\n";
    let forbidden = "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: no-admin}\nspec:\n  \
                     action: DENY\n  targetRefs: [{group: networking.istio.io, kind: ServiceEntry, name: fronted-example}]\n  \
                     rules: [{to: [{operation: {hosts: [fronted.example], paths: [/admin]}}]}]\n";
    lab.configure("hosts.yaml", &(origination("allowed.example", Some(&ca)) + "---\n" + &fronted + forbidden));
    let egret = lab.egret(&REGISTRY_ONLY);
    let mut client = HttpClient::new(lab.connect(outside(1, 80)).expect("the redirect accepts"));
    let mut ask = |target: &str, host: &str| {
        client.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).expect("the proxy reads");
        let response = client.response().expect("an answer");
        (response.head.status, String::from_utf8(response.body).expect("text"))
    };
    for (target, host, status, body) in [
        ("/", "allowed.example", 200, "allowed.example allowed.example"),
        ("/", "denied.example", 502, ""),
        ("/", "fronted.example", 200, "allowed.example fronted.example"),
        ("/admin", "fronted.example", 403, "RBAC: access denied"),
        ("/admin", "allowed.example", 200, "allowed.example allowed.example"),
        ("/", "denied.example", 502, ""),
        ("/", "allowed.example", 200, "allowed.example allowed.example"),
    ] {
        assert_eq!(ask(target, host), (status, body.to_owned()), "{host}{target}");
    }
    egret.log_line(&["\"GET / HTTP/1.1\" 502 - direct_response ", "\"denied.example\"", " block_all"]);
    assert!(server.accepted() >= 2, "each host has connections of its own");

    // The application's own TLS: the server name decides, and what is inside is between it and the server.
    let to_itself = format!("allowed.example:443:{}:443", address.ip());
    let inside =
        lab.curl(&["-k", "--connect-to", &to_itself, "-H", "Host: denied.example", "https://allowed.example/"]);
    assert_eq!(inside.succeeded().stdout, "allowed.example denied.example");
    let refused = lab.curl(&["-k", "-H", "Host: allowed.example", "https://denied.example/"]);
    assert!(!refused.status.success(), "{refused:?}");
}

/// TCP Fast Open: a client may send data with its SYN.
#[test]
fn data_in_a_syn_gets_no_further_than_the_proxy() {
    let lab = Lab::new();
    lab.configure("other.yaml", &service_entry("other.example", &[(81, "HTTP", None)]));
    let servers = [80, 9000].map(|port| Server::start(&lab, outside(1, port), |_| Ok(())));
    let egret = lab.egret(&REGISTRY_ONLY);
    // Without a cookie, and on every listener (ip-sysctl: 1 client, 2 server, 4 and 0x200 no cookie, 0x400 all listeners).
    lab.pod.enter(|| fs::write("/proc/sys/net/ipv4/tcp_fastopen", "1543")).expect("root may");
    let capture = lab.capture();
    let sent = |to: SocketAddr, bytes: &[u8]| {
        let socket = lab.pod.enter(|| Socket::new(Domain::IPV4, Type::STREAM, None)).expect("a socket");
        // The reset may come before the call returns.
        let Ok(count) = socket.send_to_with_flags(bytes, &SockAddr::from(to), libc::MSG_FASTOPEN) else {
            return String::new();
        };
        assert_eq!(count, bytes.len(), "with the SYN");
        socket.set_read_timeout(Some(lab::PATIENCE)).expect("a timeout");
        let (mut stream, mut answer) = (TcpStream::from(socket), Vec::new());
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    };
    let request = "GET /in-a-syn HTTP/1.1\r\nHost: denied.example\r\nConnection: close\r\n\r\n";
    let answer = sent(outside(1, 80), request.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    assert_eq!(sent(outside(1, 9000), b"\0in-a-syn"), "");
    egret.log_line(&["\"GET /in-a-syn HTTP/1.1\" 502 "]);
    let captured = capture.finish();
    assert!(
        !captured.contains("in-a-syn") && captured.streams().iter().all(|stream| !stream.from_pod),
        "it left the pod"
    );
    assert!(servers.iter().all(|server| server.accepted() == 0));
}

/// A connection between ports that one of the proxy's had, which the server has reset: the kernel's NAT does not look at it.
#[test]
fn a_port_that_the_proxy_had_is_no_way_around_it() {
    let lab = Lab::new();
    lab.names.set("web.example", &[outside(1, 80).ip()]);
    lab.configure("web.yaml", &service_entry("web.example", &[(80, "HTTP", None)]));
    let server = Server::start(&lab, outside(1, 80), |stream| {
        HttpServer::new(stream.try_clone()?).request_head()?;
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))
    });
    for backend in ["nft", "iptables-nft", "iptables-legacy"] {
        lab.egret_command(&["init", "--backend", backend]).succeeded();
        let mut egret = lab.start_egret(&[]);
        let mut client = HttpClient::new(lab.connect(outside(1, 80)).unwrap());
        assert_eq!(client.get("web.example", "/").unwrap().head.status, 503);
        let line = egret.log_line(&["\"GET / HTTP/1.1\" 503 UC"]);
        let own: SocketAddr = line.rsplit(' ').nth(4).and_then(|word| word.parse().ok()).expect("the proxy's address");
        let before = server.accepted();
        let outcome = lab.pod.enter(|| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            socket.set_reuse_address(true)?;
            socket.bind(&SockAddr::from(own))?;
            socket.connect_timeout(&SockAddr::from(outside(1, 80)), lab::PATIENCE)
        });
        assert_eq!(outcome.map_err(|error| error.kind()), Err(io::ErrorKind::ConnectionRefused), "{backend}");
        assert_eq!(server.accepted(), before, "{backend}");
        egret.kill();
    }
}

//! Connections that are not HTTP: bytes in both directions as if nothing stood between, or closed when policy says so.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use crate::lab::client::HttpClient;
use crate::lab::documents::{origination, static_tcp};
use crate::lab::pki::Leaf;
use crate::lab::server::{HttpServer, Pattern, Server};
use crate::lab::{Family, Lab, PATIENCE, eventually};
use rustls::pki_types::ServerName;

const BOTH: [Family; 2] = [Family::V4, Family::V6];
/// Short, so that a connection where the server speaks first does not keep the test waiting.
const SHORT_WAIT: [&str; 2] = ["--protocol-detection-timeout", "200ms"];

fn outside(family: Family, port: u16) -> SocketAddr {
    SocketAddr::new(Lab::address(family, 1), port)
}

/// Greets, then answers each line in capitals.
fn greeter(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(b"220 ready\r\n")?;
    let mut line = [0; 64];
    loop {
        match stream.read(&mut line)? {
            0 => return Ok(()),
            count => stream.write_all(&line[..count].to_ascii_uppercase())?,
        }
    }
}

fn converse(lab: &Lab, at: SocketAddr) {
    let mut client = lab.connect(at).unwrap();
    assert_eq!(read_exactly(&mut client, 11), b"220 ready\r\n");
    client.write_all(b"helo\r\n").unwrap();
    assert_eq!(read_exactly(&mut client, 6), b"HELO\r\n");
}

fn read_exactly(stream: &mut impl Read, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

fn read_all(stream: &mut impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

/// `None` where the connection was closed or reset without a word; a blocking `read` alone may be interrupted.
fn end_of(stream: &mut impl Read) -> Option<String> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        _ if !bytes.is_empty() => Some(bytes.escape_ascii().to_string()),
        Err(error) if error.kind() != ErrorKind::ConnectionReset => Some(error.to_string()),
        Ok(_) | Err(_) => None,
    }
}

/// A port without a declared protocol, for a server at its only address.
fn undeclared(lab: &Lab, at: SocketAddr) {
    let entry = static_tcp("any.example", at.ip(), at.port()).replace("    protocol: TCP\n", "");
    lab.configure("undeclared.yaml", &entry.replace("name: tcp-", "name: any-"));
}

#[test]
fn a_server_that_speaks_first_is_served_after_the_wait() {
    for family in BOTH {
        let lab = Lab::new();
        let at = outside(family, 2525);
        let _server = Server::start(&lab, at, greeter);
        undeclared(&lab, at);
        let egret = lab.egret(&SHORT_WAIT);
        converse(&lab, at);
        egret.log_line(&["\"- - -\" 0 - - - \"-\" 6 17 ", "outbound|2525||any.example"]);
    }
}

#[test]
fn a_server_that_speaks_first_needs_no_wait_where_no_policy_looks() {
    for family in BOTH {
        let lab = Lab::new();
        let at = outside(family, 2525);
        let _server = Server::start(&lab, at, greeter);
        // Zero waits for the application for ever.
        let egret = lab.egret(&["--protocol-detection-timeout", "0s"]);
        converse(&lab, at);
        // 6 bytes from the application, 17 to it.
        egret.log_line(&["\"- - -\" 0 - - - \"-\" 6 17 ", &format!("\"{at}\" PassthroughCluster ")]);
    }
}

#[test]
pub fn a_declared_tcp_port_needs_no_wait() {
    for family in BOTH {
        let lab = Lab::new();
        let at = outside(family, 2525);
        let _server = Server::start(&lab, at, greeter);
        lab.configure("mail.yaml", &static_tcp("mail.example", at.ip(), 2525));
        // Zero waits for the application for ever: only the declaration lets the greeting through.
        let egret = lab.egret(&["--protocol-detection-timeout", "0s"]);
        converse(&lab, at);
        egret.log_line(&["\"- - -\" 0 - - - \"-\" 6 17 ", "outbound|2525||mail.example"]);
    }
}

#[test]
pub fn the_application_may_finish_first() {
    for family in BOTH {
        let lab = Lab::new();
        let at = outside(family, 7001);
        // Answers only once it has seen the application's end.
        let _server = Server::start(&lab, at, |mut stream| {
            let asked = read_all(&mut stream);
            stream.write_all(format!("{} bytes", asked.len()).as_bytes())
        });
        let _egret = lab.egret(&SHORT_WAIT);
        let mut client = lab.connect(at).unwrap();
        client.write_all(&Pattern::new().take(100_000)).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_all(&mut client), b"100000 bytes");
    }
}

#[test]
pub fn the_server_may_finish_first() {
    for family in BOTH {
        let lab = Lab::new();
        let at = outside(family, 7002);
        let (sender, received) = mpsc::channel();
        let sender = Mutex::new(sender);
        let _server = Server::start(&lab, at, move |mut stream| {
            stream.write_all(b"that is all")?;
            stream.shutdown(Shutdown::Write)?;
            let after = read_all(&mut stream);
            sender.lock().unwrap().send(after).map_err(io::Error::other)
        });
        let _egret = lab.egret(&SHORT_WAIT);
        let mut client = lab.connect(at).unwrap();
        assert_eq!(read_all(&mut client), b"that is all");
        client.write_all(b"still talking").unwrap();
        drop(client);
        assert_eq!(received.recv_timeout(PATIENCE).unwrap(), b"still talking");
    }
}

#[test]
pub fn a_reset_is_passed_on_as_a_reset() {
    let lab = Lab::new();
    let (resets, waits) = (outside(Family::V4, 7003), outside(Family::V4, 7004));
    let _resetting = Server::start(&lab, resets, |mut stream| {
        let _ = read_exactly(&mut stream, 2);
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))
    });
    let (sender, ended) = mpsc::channel();
    let sender = Mutex::new(sender);
    let _waiting = Server::start(&lab, waits, move |mut stream| {
        let _ = read_exactly(&mut stream, 2);
        stream.write_all(b"!")?;
        let end = stream.read(&mut [0; 16]).map_err(|error| error.kind());
        sender.lock().unwrap().send(end).map_err(io::Error::other)
    });
    let _egret = lab.egret(&[]);

    let mut client = lab.connect(resets).unwrap();
    client.write_all(&[0, 1]).unwrap();
    let end = client.read(&mut [0; 16]).map_err(|error| error.kind());
    assert_eq!(end, Err(ErrorKind::ConnectionReset), "the server's reset reaches the application");

    let mut client = lab.connect(waits).unwrap();
    client.write_all(&[0, 1]).unwrap();
    // A reset may overtake what was sent before it: only what has been answered is known to have arrived.
    assert_eq!(read_exactly(&mut client, 1), b"!");
    socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    let end = ended.recv_timeout(PATIENCE).unwrap();
    assert_eq!(end, Err(ErrorKind::ConnectionReset), "the application's reset reaches the server");
}

/// The first flight of a real TLS client.
fn client_hello(host: &'static str) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = builder.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    let name = ServerName::try_from(host).unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}

#[test]
fn the_applications_own_tls_is_not_touched() {
    for family in BOTH {
        let lab = Lab::new();
        let at = outside(family, 443);
        let _server = Server::start(&lab, at, |mut stream| {
            let received = read_all(&mut stream);
            stream.write_all(&received)
        });
        let egret = lab.egret(&[]);
        let mut sent = client_hello("inner.example");
        sent.extend(Pattern::new().take(300_000));
        let mut client = lab.connect(at).unwrap();
        // In pieces that cut the record header, the hello and what follows.
        for piece in [&sent[..3], &sent[3..200], &sent[200..]] {
            client.write_all(piece).unwrap();
        }
        client.shutdown(Shutdown::Write).unwrap();
        assert!(read_all(&mut client) == sent, "the server did not see the very bytes of the application");
        egret.log_line(&["\"- - -\" 0 - - - \"-\" ", " PassthroughCluster ", " inner.example -"]);
    }
}

#[test]
fn only_the_registry_is_let_out() {
    for family in BOTH {
        let lab = Lab::new();
        let (open, shut) = (outside(family, 2525), outside(family, 2526));
        let _open = Server::start(&lab, open, greeter);
        let closed = Server::start(&lab, shut, greeter);
        lab.configure("mail.yaml", &static_tcp("mail.example", open.ip(), 2525));
        let egret = lab.egret(&["--outbound-traffic-policy", "REGISTRY_ONLY", SHORT_WAIT[0], SHORT_WAIT[1]]);
        converse(&lab, open);
        for first in [&b""[..], &client_hello("inner.example"), &[0, 0xff, 7]] {
            let mut client = lab.connect(shut).unwrap();
            client.write_all(first).unwrap();
            assert_eq!(end_of(&mut client), None, "{first:?}");
        }
        let mut client = HttpClient::new(lab.connect(shut).unwrap());
        assert_eq!(client.get("unknown.example", "/").unwrap().head.status, 502);
        assert_eq!(closed.accepted(), 0, "egret dialled a destination that policy forbids");
        egret.log_line(&["\"- - -\" 0 UH ", &format!(" {shut} ")]);
    }
}

/// First flights that are TLS, nearly TLS, or cut short; at ports that promise something else, too.
fn first_flights() -> Vec<(&'static str, Vec<u8>)> {
    let hello = client_hello("inner.example");
    let changed = |at: usize, to: u8| {
        let mut bytes = hello.clone();
        bytes[at] = to;
        bytes
    };
    // The handshake message alone, in two records.
    let (first, second) = hello[5..].split_at(40);
    let record = |part: &[u8]| [&[22, 3, 1][..], &(part.len() as u16).to_be_bytes(), part].concat();
    vec![
        ("a hello", hello.clone()),
        ("a hello in two records", [record(first), record(second)].concat()),
        ("a hello that ends early", hello[..hello.len() / 2].to_vec()),
        ("a record header", hello[..5].to_vec()),
        ("a hello of a length that lies", changed(6, 0xff)),
        ("a hello of SSL 3", changed(2, 0)),
        ("a record of TLS 1.3", changed(2, 4)),
        ("an SSLv2 hello", vec![0x80, 0x2e, 1, 3, 1, 0, 3, 0, 0, 0, 16, 1, 0, 0x80]),
        ("a first byte that lies", b"\x16 is no TLS".to_vec()),
        ("an HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec()),
    ]
}

/// Behind each comes the application's FIN, and the server answers only then.
#[test]
fn first_flights_pass_whole_or_not_at_all() {
    let flights = first_flights();
    let lab = Lab::new();
    let ports = [80, 443, 7007];
    let echo = |mut stream: TcpStream| {
        let received = read_all(&mut stream);
        stream.write_all(&received)
    };
    let servers = ports.map(|port| Server::start(&lab, outside(Family::V4, port), echo));
    {
        let _egret = lab.egret(&[]);
        for (port, (name, flight)) in ports.iter().flat_map(|port| flights.iter().map(move |flight| (port, flight))) {
            let mut client = lab.connect(outside(Family::V4, *port)).unwrap();
            client.set_nodelay(true).unwrap();
            for byte in flight {
                client.write_all(&[*byte]).unwrap();
            }
            client.shutdown(Shutdown::Write).unwrap();
            assert!(read_all(&mut client) == *flight, "{name} to {port}");
        }
    }
    let before = servers.each_ref().map(Server::accepted);
    lab.configure("other.yaml", &static_tcp("other.example", Lab::address(Family::V4, 2), 2525));
    let egret = lab.egret(&["--outbound-traffic-policy", "REGISTRY_ONLY"]);
    // HTTP/2 is read there: each request gets an answer of its own.
    let flights: Vec<_> = flights.into_iter().filter(|(name, _)| *name != "an HTTP/2 preface").collect();
    for (port, (name, flight)) in ports.iter().flat_map(|port| flights.iter().map(move |flight| (port, flight))) {
        let mut client = lab.connect(outside(Family::V4, *port)).unwrap();
        let _ = client.write_all(flight);
        let _ = client.shutdown(Shutdown::Write);
        assert_eq!(end_of(&mut client), None, "{name} to {port} was answered");
    }
    assert_eq!(servers.each_ref().map(Server::accepted), before, "something left");
    egret.log_line(&["\"- - -\" 0 UH "]);
}

/// Once it is clear that nobody speaks soon, whoever speaks first is heard.
#[test]
fn tls_after_a_long_silence_passes() {
    let lab = Lab::new();
    let at = outside(Family::V4, 443);
    let _server = Server::start(&lab, at, |mut stream| {
        let received = read_all(&mut stream);
        stream.write_all(&received)
    });
    undeclared(&lab, at);
    let egret = lab.egret(&SHORT_WAIT);
    let mut client = lab.connect(at).unwrap();
    eventually("egret has waited for the first byte", || egret.metric("egret_connections_detected_total") == Some(1.0));
    let hello = client_hello("inner.example");
    client.write_all(&hello).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert!(read_all(&mut client) == hello);
}

/// Where requests must leave as TLS nothing passes unread: neither what an early client says late, which would look like
/// a server that speaks first, nor what is no request.
#[test]
fn nothing_unread_passes_where_tls_is_originated() {
    const HOST: &str = "secure.example";
    let lab = Lab::new();
    let plain = outside(Family::V4, 80);
    lab.names.set(HOST, &[plain.ip()]);
    lab.configure("secure.yaml", &origination(HOST, Some(&lab.ca_file())));
    let in_plain = Server::start(&lab, plain, greeter);
    let pair = lab.authority.issue(HOST, Leaf::Good);
    let _secure = Server::start_tls(&lab, outside(Family::V4, 443), &pair, |stream| {
        let mut server = HttpServer::new(stream);
        server.request()?;
        server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    });
    let clock = outside(Family::V4, 2525);
    let _clock = Server::start(&lab, clock, greeter);
    undeclared(&lab, clock);
    let egret = lab.egret(&SHORT_WAIT);

    let mut late = HttpClient::new(lab.connect(plain).unwrap());
    // Its server is heard when the wait is over.
    converse(&lab, clock);
    assert_eq!(late.get(HOST, "/late").unwrap().head.status, 200);

    for unread in [&b"\0\x01\x02 not a request"[..], b"GET nowhere HTTP/1.1\r\n\r\n"] {
        let mut client = lab.connect(plain).unwrap();
        client.write_all(unread).unwrap();
        let mut answer = Vec::new();
        let end = client.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"220"), "{}", unread.escape_ascii());
        assert!(end.is_ok() || end.is_err_and(|e| e.kind() == ErrorKind::ConnectionReset), "{}", unread.escape_ascii());
    }
    assert_eq!(in_plain.accepted(), 0, "something left in plain text");
    egret.log_line(&[" neither_http1_nor_tls_on_a_port_with_tls_origination "]);
}

#[test]
pub fn both_directions_at_once() {
    const LENGTH: u64 = 8 << 20;
    for family in BOTH {
        let lab = Lab::new();
        let at = outside(family, 7005);
        let exchange = |stream: TcpStream| {
            let pattern = Pattern::new();
            let mut writer = stream.try_clone()?;
            std::thread::scope(|scope| {
                scope.spawn(|| pattern.write(LENGTH, &mut writer).and_then(|()| writer.shutdown(Shutdown::Write)));
                let received = read_all(&mut &stream);
                Ok::<_, io::Error>(received.len() as u64 == LENGTH && pattern.matches(0, &received))
            })
        };
        let (sender, verdict) = mpsc::channel();
        let sender = Mutex::new(sender);
        let _server = Server::start(&lab, at, move |stream| {
            let whole = exchange(stream)?;
            sender.lock().unwrap().send(whole).map_err(io::Error::other)
        });
        let egret = lab.egret(&SHORT_WAIT);
        let client = lab.connect(at).unwrap();
        assert!(exchange(client).unwrap(), "what the application received is not what the server sent");
        assert!(verdict.recv_timeout(PATIENCE).unwrap(), "what the server received is not what the application sent");
        egret.log_line(&[&format!("\"- - -\" 0 - - - \"-\" {LENGTH} {LENGTH} ")]);
    }
}

/// TCP's urgent byte travels beside the stream unless a program asks for it (tcp(7)); what is in the stream arrives.
#[test]
pub fn around_an_urgent_byte_the_stream_is_whole() {
    let lab = Lab::new();
    let at = outside(Family::V4, 7006);
    let _server = Server::start(&lab, at, |mut stream| {
        let received = read_all(&mut stream);
        stream.write_all(&received)
    });
    let _egret = lab.egret(&SHORT_WAIT);
    let mut client = lab.connect(at).unwrap();
    client.write_all(b"\x00before").unwrap();
    socket2::SockRef::from(&client).send_out_of_band(b"!").unwrap();
    client.write_all(b"after").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut client), b"\x00beforeafter");
}

/// A mail server, and a DestinationRule with this `connectionPool.tcp`.
fn mail(lab: &Lab, at: SocketAddr, pool: &str) -> Server {
    lab.configure("mail.yaml", &static_tcp("mail.example", at.ip(), at.port()));
    lab.configure(
        "rule.yaml",
        &format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: mail}}\nspec:\n  host: mail.example\n  \
             trafficPolicy: {{connectionPool: {{tcp: {{{pool}}}}}}}\n"
        ),
    );
    Server::start(lab, at, greeter)
}

#[test]
fn a_connection_may_last_as_long_as_its_rule_allows() {
    let lab = Lab::new();
    let at = outside(Family::V4, 2525);
    let _server = mail(&lab, at, "maxConnectionDuration: 700ms");
    let egret = lab.egret(&[]);
    let mut client = lab.connect(at).unwrap();
    assert_eq!(read_exactly(&mut client, 11), b"220 ready\r\n");
    assert_eq!(read_all(&mut client), b"", "it ends in order");
    egret.log_line(&["\"- - -\" 0 DT ", "outbound|2525||mail.example"]);
    assert_eq!(egret.metric("egret_connections_timed_out_total"), Some(1.0));
}

/// Also where a route led there.
#[test]
fn a_connection_may_be_idle_as_long_as_its_rule_allows() {
    let lab = Lab::new();
    let (at, other) = (outside(Family::V4, 2525), outside(Family::V4, 2526));
    let _server = mail(&lab, at, "idleTimeout: 500ms");
    lab.configure(
        "routed.yaml",
        &(static_tcp("routed.example", other.ip(), other.port())
            + "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: routed}\nspec:\n  hosts: \
               [routed.example]\n  tcp: [{route: [{destination: {host: mail.example}}]}]\n"),
    );
    let egret = lab.egret(&[]);
    for dialled in [at, other] {
        converse(&lab, dialled);
        let mut client = lab.connect(dialled).unwrap();
        assert_eq!(read_exactly(&mut client, 11), b"220 ready\r\n");
        assert_eq!(read_all(&mut client), b"", "it ends in order");
        egret.log_line(&[
            "\"- - -\" 0 - - tcp_session_idle_timeout ",
            "outbound|2525||mail.example",
            &format!(" {dialled} "),
        ]);
    }
}

#[test]
fn connections_of_a_rule_are_limited() {
    let lab = Lab::new();
    let at = outside(Family::V4, 2525);
    let server = mail(&lab, at, "maxConnections: 1");
    let egret = lab.egret(&["--workers", "1"]);
    let mut client = lab.connect(at).unwrap();
    assert_eq!(read_exactly(&mut client, 11), b"220 ready\r\n");
    // The reset may come before the connection is handed to the test.
    assert_eq!(lab.connect(at).map_or(None, |mut refused| end_of(&mut refused)), None);
    egret.log_line(&["\"- - -\" 0 UO", "outbound|2525||mail.example"]);
    drop(client);
    eventually("there is room again", || {
        let mut greeting = [0; 11];
        lab.connect(at).and_then(|mut stream| stream.read_exact(&mut greeting)).is_ok()
    });
    assert!(server.accepted() >= 2);
}

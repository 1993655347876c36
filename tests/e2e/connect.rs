//! CONNECT: an application asks a forward proxy for a tunnel, through egret.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use crate::lab::client::HttpClient;
use crate::lab::documents::{origination, service_entry};
use crate::lab::server::{HttpServer, Server};
use crate::lab::{Family, Lab, PATIENCE};

const HOST: &str = "site.example";
const EARLY: &[u8] = b"\x16\x03\x01early";

fn forward_proxy() -> SocketAddr {
    SocketAddr::new(Lab::address(Family::V4, 1), 3128)
}

/// A lab where `site.example:443` is registered, and `secure.example:80` leaves as TLS.
fn lab() -> Lab {
    let lab = Lab::new();
    lab.configure("site.yaml", &service_entry(HOST, &[(443, "HTTPS", None)]));
    lab.configure("secure.yaml", &origination("secure.example", None));
    lab
}

fn connect_to(authority: &str, fields: &str) -> String {
    format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{fields}\r\n")
}

/// Wants a password, then opens a tunnel to an echo. Tells what it was asked.
fn asked(stream: TcpStream, told: &Sender<String>) -> io::Result<()> {
    let mut server = HttpServer::new(stream);
    while let Some((_, _, head)) = server.request_head()? {
        let _ = told.send(head.text.clone());
        if head.field("proxy-authorization").is_none() {
            server.send(b"HTTP/1.1 407 Who?\r\nProxy-Authenticate: Basic\r\nContent-Length: 2\r\n\r\nno")?;
            continue;
        }
        let stream = server.connection().stream();
        stream.set_read_timeout(Some(Duration::from_millis(200)))?;
        let early = stream.read(&mut [0; 64]).map_err(|error| error.kind());
        assert_eq!(early, Err(ErrorKind::WouldBlock), "nothing comes before the tunnel is there");
        stream.set_read_timeout(Some(PATIENCE))?;
        // RFC 9110 §9.3.6: lengths in the answer to CONNECT mean nothing. The other end's first bytes come with it.
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhello")?;
        let mut bytes = [0; 1024];
        loop {
            match stream.read(&mut bytes)? {
                0 => return stream.write_all(b"bye"),
                count => stream.write_all(&bytes[..count])?,
            }
        }
    }
    Ok(())
}

#[test]
fn a_tunnel_to_a_registered_host_opens_after_2xx_and_not_before() {
    let lab = lab();
    let (told, requests) = channel();
    let server = Server::start(&lab, forward_proxy(), move |stream| asked(stream, &told));
    let egret = lab.egret(&["--connect-policy", "REGISTRY_ONLY", "--workers", "1"]);
    let mut client = HttpClient::new(lab.connect(forward_proxy()).unwrap());
    client.send(connect_to("site.example:443", "").as_bytes()).unwrap();
    let refused = client.response().unwrap();
    assert_eq!((refused.head.status, refused.body.as_slice()), (407, &b"no"[..]));
    assert_eq!(refused.head.field("connection"), None, "the same connection may ask again");
    assert_eq!(requests.recv_timeout(PATIENCE), Ok(connect_to("site.example:443", "")));

    let request = connect_to("site.example:443", "Proxy-Authorization: Basic eDp5\r\n");
    client.send(&[request.as_bytes(), EARLY].concat()).unwrap();
    let head = client.head().unwrap();
    assert_eq!((head.status, head.field("content-length"), head.field("connection")), (200, None, None));
    assert_eq!(requests.recv_timeout(PATIENCE), Ok(request));
    assert_eq!(client.take(5 + EARLY.len()), [b"hello", EARLY].concat());
    let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    client.send(&bytes).unwrap();
    assert!(client.take(bytes.len()) == bytes, "bytes pass as they are");
    client.stream().shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.rest().unwrap(), b"bye", "the way back stays open");
    egret.log_line(&["\"CONNECT ", " 200 - via_upstream ", "\"site.example:443\""]);

    // What was meant for the tunnel is no request when there is none.
    let before = server.accepted();
    let mut client = HttpClient::new(lab.connect(forward_proxy()).unwrap());
    client.send(&[connect_to("site.example:443", "").as_bytes(), b"GET / HTTP/1.1\r\n\r\n"].concat()).unwrap();
    assert_eq!(client.response().unwrap().head.status, 407);
    assert_eq!(client.rest().unwrap(), b"");
    assert_eq!(server.accepted(), before + 1, "a tunnel's connection is not used again");
}

#[test]
fn no_other_tunnel_is_asked_for() {
    let lab = lab();
    lab.configure("own.yaml", &service_entry("a.localhost", &[(443, "HTTPS", None)]));
    // A port that is read: to one that no entry names, bytes pass as they are.
    lab.configure("proxy.yaml", &service_entry("proxy.example", &[(3128, "HTTP", None)]));
    let server = Server::start(&lab, forward_proxy(), |_| Ok(()));
    let ask = |authority: &str| {
        let mut client = HttpClient::new(lab.connect(forward_proxy()).unwrap());
        client.send(&[connect_to(authority, "").as_bytes(), EARLY].concat()).unwrap();
        let response = client.response().unwrap();
        assert_eq!(client.rest().unwrap(), b"", "what follows is not read");
        (response.head.status, String::from_utf8(response.body).unwrap())
    };
    {
        let egret = lab.egret(&[]);
        let (status, reason) = ask("site.example:443");
        assert_eq!(status, 405);
        assert!(reason.contains("connectPolicy: REGISTRY_ONLY"), "{reason}");
        egret.log_line(&[" 405 DPE connect_not_allowed "]);
    }
    let egret = lab.egret(&["--connect-policy", "REGISTRY_ONLY", "--outbound-traffic-policy", "ALLOW_ANY"]);
    for (authority, reason) in [
        ("site.example:444", "no ServiceEntry names"),
        ("other.example:443", "no ServiceEntry names"),
        ("secure.example:80", "which a tunnel would go past"),
        ("127.0.0.1:443", "no ServiceEntry names"),
        ("127.0.0.1:15000", "no ServiceEntry names"),
        ("10.77.0.2:15001", "no ServiceEntry names"),
        ("localhost:443", "no ServiceEntry names"),
    ] {
        let (status, body) = ask(authority);
        assert_eq!(status, 403, "{authority}");
        assert!(body.contains(reason), "{authority}: {body}");
    }
    // Not even where an entry names it.
    assert!(ask("a.localhost:443").1.contains("loopback"));
    egret.log_line(&["\"CONNECT ", " 403 - connect_denied ", "\"a.localhost:443\""]);
    assert_eq!(server.accepted(), 0, "the forward proxy was never asked");
}

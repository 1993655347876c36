//! Applications and servers that are slow, that leave, or that switch to another protocol.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::lab::client::HttpClient;
use crate::lab::server::HttpServer;
use crate::lab::{PATIENCE, eventually, within};
use crate::site::{HOST, Site, answering};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n")
}

/// Reads a request's head, says so, and never answers; says how the connection ended.
fn silent(told: Sender<&'static str>) -> impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static {
    let told = Mutex::new(told);
    move |stream| {
        let told = told.lock().unwrap().clone();
        let mut server = HttpServer::new(stream);
        server.request_head()?;
        let _ = told.send("asked");
        let end = server.connection().rest();
        let _ = told.send(if end.is_ok() { "closed" } else { "reset" });
        Ok(())
    }
}

fn reset(mut client: HttpClient) {
    socket2::SockRef::from(&*client.stream()).set_linger(Some(Duration::ZERO)).unwrap();
}

#[test]
fn who_is_too_slow_is_told_so() {
    let (told, heard) = channel();
    let site = Site::new("{}", silent(told));
    let flags = ["--request-headers-timeout", "300ms", "--body-stall-timeout", "300ms", "--request-timeout", "900ms"];
    let egret = site.lab.egret(&flags);

    // A head that never ends, and never stops either.
    let mut client = site.open();
    client.send(b"GET / HTTP/1.1\r\n").unwrap();
    let mut trickle = client.stream().try_clone().unwrap();
    let trickling = std::thread::spawn(move || {
        while trickle.write_all(b"X: y\r\n").is_ok() {
            std::thread::park_timeout(Duration::from_millis(50));
        }
    });
    assert_eq!(client.response().unwrap().head.status, 408);
    assert_eq!(client.rest().unwrap_or_default(), b"");
    drop(client);
    trickling.join().unwrap();
    egret.log_line(&[" 408 DPE ", "request_header_timeout"]);

    // A body that stops.
    let mut client = site.open();
    client.send(format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 9\r\n\r\nhello").as_bytes()).unwrap();
    assert_eq!(client.response().unwrap().head.status, 408);
    assert_eq!(client.rest().unwrap(), b"");
    assert_eq!(heard.recv_timeout(PATIENCE), Ok("asked"));
    assert_eq!(heard.recv_timeout(PATIENCE), Ok("reset"), "the server must not take it for a whole request");
    egret.log_line(&["POST / ", " 408 SI ", "request_body_timeout"]);

    // A server that does not answer.
    let mut client = site.open();
    client.send(get("/").as_bytes()).unwrap();
    let response = client.response().unwrap();
    assert_eq!((response.head.status, response.body.as_slice()), (504, &b"upstream request timeout"[..]));
    egret.log_line(&["GET / ", " 504 UT ", "response_timeout"]);
    assert_eq!(egret.metric("egret_request_timeouts_total"), Some(3.0));
}

/// Whose fault it is when nothing moves: the server's, once the request is complete.
#[test]
fn a_late_answer_is_504_and_a_late_request_408() {
    let (told, _heard) = channel();
    let site = Site::new("{}", silent(told));
    let egret = site.lab.egret(&["--idle-timeout", "400ms", "--body-stall-timeout", "0s"]);
    for (method, length, status) in [("GET", 0, 504), ("POST", 5, 504), ("PUT", 6, 408)] {
        let mut client = site.open();
        let head = format!("{method} / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {length}\r\n\r\n");
        client.send(&[head.as_bytes(), &b"hello"[..length.min(5)]].concat()).unwrap();
        assert_eq!(client.response().unwrap().head.status, status, "{method}");
        egret.log_line(&[&format!("\"{method} / HTTP/1.1\" {status} SI stream_idle_timeout ")]);
    }
}

#[test]
fn an_application_that_says_nothing_is_let_go() {
    let site = Site::new("{}", answering(""));
    let egret = site.lab.egret(&["--idle-timeout", "300ms"]);
    let mut client = site.open();
    assert_eq!(client.get(HOST, "/").unwrap().head.status, 200);
    assert_eq!(client.rest().unwrap(), b"");
    assert_eq!(egret.metric("egret_connections_timed_out_total"), Some(1.0));
}

#[test]
fn a_reset_by_the_application_ends_the_request_and_its_fin_does_not() {
    let (told, heard) = channel();
    let site = Site::new("{}", silent(told));
    let egret = site.lab.egret(&[]);
    let mut client = site.open();
    client.send(get("/k3").as_bytes()).unwrap();
    assert_eq!(heard.recv_timeout(PATIENCE), Ok("asked"));
    reset(client);
    assert_eq!(heard.recv_timeout(PATIENCE), Ok("reset"));
    egret.log_line(&["GET /k3 ", " 0 DC "]);

    let mut client = site.open();
    client.send(get("/k1").as_bytes()).unwrap();
    client.stream().shutdown(Shutdown::Write).unwrap();
    assert_eq!(heard.recv_timeout(PATIENCE), Ok("asked"));
    assert!(heard.recv_timeout(Duration::from_millis(300)).is_err(), "the answer is still wanted");
    reset(client);
    assert_eq!(heard.recv_timeout(PATIENCE), Ok("reset"), "also behind its FIN");
    egret.log_line(&["GET /k1 ", " 0 DC "]);
}

#[test]
fn an_application_that_has_finished_sending_gets_its_answer() {
    let site = Site::new("{}", |stream| {
        let mut server = HttpServer::new(stream);
        server.request()?;
        // Until the FIN has long arrived at the proxy.
        std::thread::park_timeout(Duration::from_millis(200));
        server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate")
    });
    let _egret = site.lab.egret(&[]);
    let mut client = site.open();
    client.send(get("/").as_bytes()).unwrap();
    client.stream().shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.response().unwrap().body, b"late");
    assert_eq!(client.rest().unwrap(), b"");
}

const UPGRADE: &str = "GET /chat HTTP/1.1\r\nHost: site.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const SWITCHED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

/// Switches protocols; echoes until the application has finished, then says goodbye.
fn chat(stream: TcpStream) -> io::Result<()> {
    let mut server = HttpServer::new(stream);
    while let Some((_, target, _)) = server.request_head()? {
        if target != "/chat" {
            server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
            continue;
        }
        let stream = server.connection().stream();
        stream.set_read_timeout(Some(Duration::from_millis(200)))?;
        let early = stream.read(&mut [0; 64]).map_err(|error| error.kind());
        assert_eq!(early, Err(ErrorKind::WouldBlock), "nothing comes before the protocol is switched");
        stream.set_read_timeout(Some(PATIENCE))?;
        // The first frame together with the head.
        stream.write_all(&[SWITCHED, b"\x81\x02hi"].concat())?;
        let mut frames = [0; 1024];
        loop {
            match stream.read(&mut frames)? {
                0 => return stream.write_all(b"\x88\x02\x03\xe8"),
                count => stream.write_all(&frames[..count])?,
            }
        }
    }
    Ok(())
}

#[test]
fn a_websocket_is_a_tunnel_after_101_and_never_before() {
    let site = Site::new("{}", chat);
    let egret = site.lab.egret(&["--workers", "1"]);
    let mut client = site.open();
    assert_eq!(client.get(HOST, "/").unwrap().head.status, 200);
    let early = b"\x81\x85\x01\x02\x03\x04early";
    client.send(&[UPGRADE.as_bytes(), early].concat()).unwrap();
    let head = client.head().unwrap();
    assert_eq!(
        (head.status, head.field("upgrade"), head.field("connection")),
        (101, Some("websocket"), Some("Upgrade"))
    );
    assert_eq!(client.take(4), b"\x81\x02hi");
    assert_eq!(client.take(early.len()), early);
    let frame: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    client.send(&frame).unwrap();
    assert!(client.take(frame.len()) == frame, "frames pass byte for byte");
    client.stream().shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.rest().unwrap(), b"\x88\x02\x03\xe8", "the way back stays open");
    egret.log_line(&["GET /chat ", " 101 - "]);
    let before = site.server.accepted();
    assert_eq!(site.open().get(HOST, "/").unwrap().head.status, 200);
    assert_eq!(site.server.accepted(), before + 1, "a tunnel's connection is not used again");
}

#[test]
fn a_tunnel_that_breaks_breaks_on_both_sides() {
    let (told, heard) = channel();
    let told = Arc::new(Mutex::new(told));
    let site = Site::new("{}", move |stream| {
        let mut server = HttpServer::new(&stream);
        let target = server.request_head()?.map(|(_, target, _)| target);
        server.send(SWITCHED)?;
        if target.as_deref() == Some("/reset") {
            return socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        }
        let end = server.connection().rest().map_err(|error| error.kind());
        let _ = told.lock().unwrap().send(end);
        Ok(())
    });
    let egret = site.lab.egret(&[]);
    let mut client = site.open();
    client.send(UPGRADE.as_bytes()).unwrap();
    assert_eq!(client.head().unwrap().status, 101);
    reset(client);
    assert_eq!(heard.recv_timeout(PATIENCE), Ok(Err(ErrorKind::ConnectionReset)));
    egret.log_line(&["GET /chat ", " 101 DC "]);

    let mut client = site.open();
    client.send(UPGRADE.replace("/chat", "/reset").as_bytes()).unwrap();
    // The reset may overtake the head.
    if client.head().is_ok_and(|head| head.status == 101) {
        assert_eq!(client.rest().map_err(|error| error.kind()), Err(ErrorKind::ConnectionReset));
    }
}

#[test]
fn too_many_connections_wait_and_the_operator_is_answered() {
    let (told, heard) = channel();
    let site = Site::new("{}", silent(told));
    let egret = site.lab.egret(&["--workers", "1", "--max-connections", "4"]);
    let mut clients: Vec<_> = (0..4).map(|_| site.open()).collect();
    for client in &mut clients {
        client.send(get("/").as_bytes()).unwrap();
        assert_eq!(heard.recv_timeout(PATIENCE), Ok("asked"));
    }
    // The kernel takes it into the backlog; nobody serves it.
    let mut fifth = site.open();
    fifth.send(get("/fifth").as_bytes()).unwrap();
    assert!(heard.recv_timeout(Duration::from_millis(300)).is_err());
    assert_eq!(egret.get(15021, "/healthz/ready").map(|(status, _)| status), Some(200));
    assert_eq!(egret.metric("egret_connections_active"), Some(4.0));
    reset(clients.pop().unwrap());
    let mut news = Vec::new();
    within(PATIENCE, "the waiting connection is served", || {
        news.extend(heard.try_iter());
        news.iter().filter(|news| **news == "asked").count() == 1
    });
}

#[test]
fn while_it_drains_answers_say_close() {
    let site = Site::new("{}", answering(""));
    let egret = site.lab.egret(&[]);
    let mut client = site.open();
    assert_eq!(client.get(HOST, "/").unwrap().head.field("connection"), None);
    kill(Pid::from_raw(egret.pid().cast_signed()), Signal::SIGTERM).unwrap();
    eventually("egret drains", || egret.stderr().contains("draining"));
    let response = client.get(HOST, "/").unwrap();
    assert_eq!((response.head.status, response.head.field("connection")), (200, Some("close")));
    assert_eq!(client.rest().unwrap(), b"");
}

//! Much data: a gibibyte each way in little memory, and thousands of responses that are right to the last byte.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};

use crate::lab::client::{Framing, HttpClient};
use crate::lab::documents::origination;
use crate::lab::nginx::{self, Nginx};
use crate::lab::pki::Leaf;
use crate::lab::server::{HttpServer, Pattern, Server, TlsStream};
use crate::lab::{Family, Lab, eventually, utf8};

const HOST: &str = "bulk.example";
const GIBIBYTE: u64 = 1 << 30;
const PEAK_LIMIT_KIB: u64 = 32 * 1024;

fn at(port: u16) -> SocketAddr {
    SocketAddr::new(Lab::address(Family::V4, 1), port)
}

fn lab() -> Lab {
    let lab = Lab::new();
    lab.names.set(HOST, &[at(443).ip()]);
    lab.configure("bulk.yaml", &origination(HOST, Some(&lab.ca_file())));
    lab
}

/// Starts a TLS upstream of its own.
fn upstream(lab: &Lab, handler: impl Fn(TlsStream) -> io::Result<()> + Send + Sync + 'static) -> Server {
    let pair = lab.authority.issue(HOST, Leaf::Good);
    Server::start_tls(lab, at(443), &pair, handler)
}

/// Receives a body and tells its length and whether it is the pattern.
fn receive(client: &mut HttpClient<impl io::Read + Write>, framing: Framing) -> io::Result<(u64, bool)> {
    let (pattern, mut length, mut right) = (Pattern::new(), 0, true);
    client.body(framing, |part| {
        right &= pattern.matches(length, part);
        length += part.len() as u64;
    })?;
    Ok((length, right))
}

#[test]
fn a_gibibyte_down() {
    // `EGRET_GIBIBYTES` asks for more.
    let gibibytes = std::env::var("EGRET_GIBIBYTES").map_or(1, |all| all.parse::<u64>().expect("a number of GiB"));
    much_down(gibibytes * GIBIBYTE);
}

/// `length` bytes of one body, in little memory.
pub fn much_down(length: u64) {
    let lab = lab();
    let _server = upstream(&lab, move |stream| {
        let mut server = HttpServer::new(stream);
        while server.request()?.is_some() {
            server.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").as_bytes())?;
            Pattern::new().write(length, server.connection().stream())?;
        }
        Ok(())
    });
    let egret = lab.egret(&[]);
    let mut client = HttpClient::new(lab.connect(at(80)).unwrap());
    client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes()).unwrap();
    let framing = client.head().unwrap().framing();
    assert_eq!(receive(&mut client, framing).unwrap(), (length, true));
    let memory = egret.memory();
    println!("after a download of {length} bytes: {memory:?}");
    assert!(memory.peak_kib < PEAK_LIMIT_KIB, "{memory:?}");
}

#[test]
fn a_gibibyte_up() {
    much_up(GIBIBYTE);
}

/// `length` bytes of one body, in little memory.
pub fn much_up(length: u64) {
    let lab = lab();
    let (sender, verdict) = mpsc::channel();
    let sender = Mutex::new(sender);
    let _server = upstream(&lab, move |stream| {
        let mut server = HttpServer::new(stream);
        let Some((_, _, head)) = server.request_head()? else { return Ok(()) };
        let received = receive(server.connection(), head.framing())?;
        server.send(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")?;
        sender.lock().unwrap().send(received).map_err(io::Error::other)?;
        server.connection().rest().map(drop)
    });
    let egret = lab.egret(&[]);
    let mut client = HttpClient::new(lab.connect(at(80)).unwrap());
    client.send(format!("PUT / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {length}\r\n\r\n").as_bytes()).unwrap();
    Pattern::new().write(length, client.stream()).unwrap();
    assert_eq!(client.response().unwrap().head.status, 201);
    assert_eq!(verdict.recv().unwrap(), (length, true));
    let memory = egret.memory();
    println!("after an upload of {length} bytes: {memory:?}");
    assert!(memory.peak_kib < PEAK_LIMIT_KIB, "{memory:?}");
}

const CONNECTIONS: usize = 200;

/// Body sizes of the files that nginx serves: the edges of buffers and records among them.
const SIZES: [usize; 12] = [0, 1, 2, 100, 1023, 4096, 16_383, 16_384, 16_385, 65_537, 262_144, 1_048_576];

/// Mostly small, now and then large: of 100 requests one is for each of the two largest.
fn size(connection: usize, request: usize) -> usize {
    match (connection * 7 + request) % 100 {
        0 => SIZES[11],
        1 => SIZES[10],
        n @ 2..20 => SIZES[5 + n % 5],
        n => SIZES[n % 6],
    }
}

/// nginx with the files at `/length/SIZE` and, because the length is unknown once a filter may change it, chunked at
/// `/chunked/SIZE`.
fn files(lab: &Lab) -> Nginx {
    let pattern = Pattern::new();
    for size in SIZES {
        std::fs::write(lab.dir().join(size.to_string()), pattern.take(size)).unwrap();
    }
    let pair = lab.authority.issue(HOST, Leaf::Good).write(lab.dir(), HOST);
    let folder = utf8(lab.dir());
    let locations = format!(
        "location /length/ {{ alias {folder}/; }} location /chunked/ {{ alias {folder}/; sub_filter_types *; \
         sub_filter 'this text is in no file' ''; }}"
    );
    Nginx::start(lab, &nginx::secure(at(443), &pair, "TLSv1.3", &locations), at(443))
}

/// All requests of one connection; the connection stays open.
fn converse(lab: &Lab, index: usize, requests: usize, pattern: &Pattern) -> HttpClient {
    let mut client = HttpClient::new(lab.connect(at(80)).unwrap());
    for request in 0..requests {
        let size = size(index, request);
        let kind = if request % 3 == 0 { "chunked" } else { "length" };
        let response = client.get(HOST, &format!("/{kind}/{size}")).unwrap();
        assert_eq!(response.head.status, 200, "{kind} {size}: {}", response.head.text);
        assert_eq!(response.body.len(), size, "connection {index}, request {request}, {kind}");
        assert!(pattern.matches(0, &response.body), "connection {index}, request {request}, {kind} {size}");
        let chunked = response.head.framing() == Framing::Chunked;
        // The filter leaves an empty file and its length alone.
        assert_eq!(chunked, kind == "chunked" && size > 0, "{}", response.head.text);
    }
    client
}

#[test]
fn every_byte_of_a_hundred_thousand_responses() {
    every_byte_of_responses(500);
}

/// So many on each of [`CONNECTIONS`].
pub fn every_byte_of_responses(requests: usize) {
    let lab = lab();
    let nginx = files(&lab);
    let egret = lab.egret(&[]);
    let before = egret.descriptors();
    let pattern = Arc::new(Pattern::new());
    let open: Vec<HttpClient> = std::thread::scope(|scope| {
        let start = |index| {
            scope.spawn({
                let (lab, pattern) = (&lab, Arc::clone(&pattern));
                move || converse(lab, index, requests, &pattern)
            })
        };
        let threads: Vec<_> = (0..CONNECTIONS).map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    eventually("nginx has logged everything", || nginx.seen().len() == CONNECTIONS * requests);
    let connections = nginx.connections().len();
    println!("{} requests over {connections} upstream connections; {:?}", CONNECTIONS * requests, egret.memory());
    assert!(connections <= CONNECTIONS, "{connections} upstream connections: they are not reused");
    drop(open);
    drop(nginx);
    eventually("every descriptor is back", || egret.descriptors() <= before);
}

#[test]
pub fn bodies_of_every_size_go_up() {
    let lab = lab();
    let _server = upstream(&lab, |stream| {
        let mut server = HttpServer::new(stream);
        while let Some(request) = server.request()? {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", request.body.len());
            server.send(&[head.as_bytes(), &request.body].concat())?;
        }
        Ok(())
    });
    let _egret = lab.egret(&[]);
    let mut client = HttpClient::new(lab.connect(at(80)).unwrap());
    for size in SIZES {
        let body = Pattern::new().take(size);
        client
            .send(format!("POST /length HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {size}\r\n\r\n").as_bytes())
            .unwrap();
        client.send(&body).unwrap();
        assert!(client.response().unwrap().body == body, "{size} with a length");
        client
            .send(format!("POST /chunked HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n").as_bytes())
            .unwrap();
        for piece in body.chunks(10_000) {
            client.send(format!("{:x}\r\n", piece.len()).as_bytes()).unwrap();
            client.send(piece).unwrap();
            client.send(b"\r\n").unwrap();
        }
        client.send(b"0\r\n\r\n").unwrap();
        assert!(client.response().unwrap().body == body, "{size} in chunks");
    }
}

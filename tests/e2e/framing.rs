//! Where a response ends: every framing of HTTP/1, through the plain relay and through TLS origination, and every way
//! in which an upstream can cut one short.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use crate::lab::client::{HttpClient, Response};
use crate::lab::documents::{origination, service_entry};
use crate::lab::pki::Leaf;
use crate::lab::server::{HttpServer, Pattern, Server, TlsStream};
use crate::lab::{Family, Lab, PATIENCE};

const PLAIN: &str = "plain.example";
const SECURE: &str = "secure.example";

/// What the upstream does once it has answered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Stay,
    /// TLS: close_notify, then FIN.
    Close,
    /// TLS: FIN without close_notify. TCP: the same as `Close`.
    Vanish,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Expect {
    /// This status and body; the connection carries a second request.
    Reusable(u16, &'static str),
    /// This status and body; the connection ends cleanly.
    Last(u16, &'static str),
    /// The application can see that the response is not whole.
    Broken,
    /// Broken over TLS; over TCP nobody can know, so it is `Last`.
    BrokenOverTls(u16, &'static str),
    /// egret's own answer.
    Local(u16),
}

#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    /// Method and version.
    request: (&'static str, &'static str),
    answer: &'static str,
    then: Then,
    expect: Expect,
}

const fn get(name: &'static str, answer: &'static str, then: Then, expect: Expect) -> Case {
    Case { name, request: ("GET", "HTTP/1.1"), answer, then, expect }
}

const fn with(request: (&'static str, &'static str), case: Case) -> Case {
    Case { request, ..case }
}

use Expect::{Broken, BrokenOverTls, Last, Local, Reusable};
use Then::{Close, Stay, Vanish};

const CASES: [Case; 25] = [
    get("length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", Stay, Reusable(200, "hello")),
    get("length-zero", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Stay, Reusable(200, "")),
    get(
        "length-then-close",
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello",
        Close,
        Reusable(200, "hello"),
    ),
    get("length-cut", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", Close, Broken),
    get("length-cut-rudely", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", Vanish, Broken),
    get(
        "chunked",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
        Stay,
        Reusable(200, "hello"),
    ),
    get("chunked-empty", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Stay, Reusable(200, "")),
    get(
        "chunked-extras",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n005;a=b\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
        Stay,
        Reusable(200, "hello"),
    ),
    get("chunked-cut", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", Close, Broken),
    get("chunked-cut-inside", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhello", Close, Broken),
    get("until-close", "HTTP/1.1 200 OK\r\n\r\nhello", Close, Last(200, "hello")),
    get("until-close-1.0", "HTTP/1.0 200 OK\r\n\r\nhello", Close, Last(200, "hello")),
    get("until-close-cut", "HTTP/1.1 200 OK\r\n\r\nhello", Vanish, BrokenOverTls(200, "hello")),
    get("no-content", "HTTP/1.1 204 No Content\r\n\r\n", Stay, Reusable(204, "")),
    get("not-modified", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", Stay, Reusable(304, "")),
    get(
        "interim",
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        Stay,
        Reusable(200, "ok"),
    ),
    with(("HEAD", "HTTP/1.1"), get("head", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Stay, Reusable(200, ""))),
    with(
        ("HEAD", "HTTP/1.1"),
        get("head-chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Stay, Reusable(200, "")),
    ),
    with(
        ("GET", "HTTP/1.0"),
        get("to-1.0-length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", Stay, Last(200, "hello")),
    ),
    with(
        ("GET", "HTTP/1.0"),
        get(
            "to-1.0-chunked",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            Stay,
            Last(200, "hello"),
        ),
    ),
    get(
        "both-framings",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        Close,
        Local(502),
    ),
    get("two-lengths", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", Close, Local(502)),
    get("not-http", "220 mail.example ESMTP\r\n\r\n", Close, Local(502)),
    get("head-cut", "HTTP/1.1 200 OK\r\nContent-Le", Close, Local(502)),
    get("nothing", "", Close, Local(503)),
];

fn answer<S: Read + Write>(stream: &mut HttpServer<S>) -> io::Result<Then> {
    while let Some(request) = stream.request()? {
        let name = request.target.trim_start_matches('/');
        let case = CASES.iter().find(|case| case.name == name);
        stream.send(case.map_or("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext", |case| case.answer).as_bytes())?;
        match case.map_or(Stay, |case| case.then) {
            Stay => {}
            end => return Ok(end),
        }
    }
    Ok(Close)
}

fn answer_plainly(stream: TcpStream) -> io::Result<()> {
    answer(&mut HttpServer::new(stream)).map(drop)
}

fn answer_securely(mut stream: TlsStream) -> io::Result<()> {
    if answer(&mut HttpServer::new(&mut stream))? == Close {
        stream.conn.send_close_notify();
        stream.conn.complete_io(&mut stream.sock)?;
    }
    stream.sock.shutdown(Shutdown::Write)
}

/// A lab where `PLAIN` is relayed as it is and `SECURE` through origination.
fn lab_with<P, T>(plainly: P, securely: T) -> (Lab, [Server; 2])
where
    P: Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static,
    T: Fn(TlsStream) -> io::Result<()> + Send + Sync + 'static,
{
    let lab = Lab::new();
    lab.names.set(PLAIN, &[Lab::address(Family::V4, 1)]);
    lab.names.set(SECURE, &[Lab::address(Family::V4, 2)]);
    lab.configure("plain.yaml", &service_entry(PLAIN, &[(80, "HTTP", None)]));
    lab.configure("secure.yaml", &origination(SECURE, Some(&lab.ca_file())));
    let pair = lab.authority.issue(SECURE, Leaf::Good);
    let plain = Server::start(&lab, SocketAddr::new(Lab::address(Family::V4, 1), 80), plainly);
    let secure = Server::start_tls(&lab, SocketAddr::new(Lab::address(Family::V4, 2), 443), &pair, securely);
    (lab, [plain, secure])
}

fn open(lab: &Lab) -> HttpClient {
    HttpClient::new(lab.connect(SocketAddr::new(Lab::address(Family::V4, 9), 80)).unwrap())
}

/// Sends the case's request and reads its response as an application does.
fn ask(client: &mut HttpClient, host: &str, case: &Case) -> io::Result<Response> {
    let (method, version) = case.request;
    client.send(format!("{method} /{} {version}\r\nHost: {host}\r\n\r\n", case.name).as_bytes())?;
    client.response_to(method)
}

/// What the application saw, in the words of [`Expect`]; or what was wrong about it.
fn judge(lab: &Lab, host: &str, case: &Case) -> Result<(), String> {
    let mut client = open(lab);
    let response = ask(&mut client, host, case);
    let expect = match case.expect {
        BrokenOverTls(..) if host == SECURE => Broken,
        BrokenOverTls(status, body) => Last(status, body),
        other => other,
    };
    let (wanted, text, reusable) = match expect {
        Broken | BrokenOverTls(..) => {
            return match response.map_err(|error| error.kind()) {
                Err(ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => Ok(()),
                other => Err(format!("should be seen to be cut short: {other:?}")),
            };
        }
        Reusable(status, text) => (status, Some(text), true),
        Last(status, text) => (status, Some(text), false),
        Local(status) => (status, None, true),
    };
    let response = response.map_err(|error| error.to_string())?;
    let body = String::from_utf8_lossy(&response.body);
    if response.head.status != wanted || text.is_some_and(|text| text != body) {
        return Err(format!("{:?} {body:?}", response.head.text));
    }
    if reusable {
        let next = client.get(host, "/again").map_err(|error| format!("the next request: {error}"))?;
        return if next.body == b"next" { Ok(()) } else { Err(format!("the next request: {next:?}")) };
    }
    match client.rest() {
        Err(error) => Err(format!("no clean end: {error}")),
        Ok(rest) if !rest.is_empty() => Err(format!("something follows: {rest:?}")),
        Ok(_) => Ok(()),
    }
}

fn judge_all(lab: &Lab) {
    let both = [PLAIN, SECURE].into_iter().flat_map(|host| CASES.iter().map(move |case| (host, case)));
    let judged = both.map(|(host, case)| (host, case.name, judge(lab, host, case)));
    let faults: Vec<_> = judged.filter(|(.., verdict)| verdict.is_err()).collect();
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn every_framing_arrives_as_it_was_sent() {
    let (lab, _servers) = lab_with(answer_plainly, answer_securely);
    let _egret = lab.egret(&[]);
    judge_all(&lab);
}

/// Every byte is a segment of its own, and over TLS a record.
#[test]
fn every_framing_arrives_also_in_single_bytes() {
    let (lab, _servers) = lab_with(
        |stream| {
            stream.set_nodelay(true)?;
            answer(&mut HttpServer::new(SingleBytes(stream))).map(drop)
        },
        |stream| {
            stream.sock.set_nodelay(true)?;
            let mut stream = SingleBytes(stream);
            if answer(&mut HttpServer::new(&mut stream))? == Close {
                stream.0.conn.send_close_notify();
                stream.0.conn.complete_io(&mut stream.0.sock)?;
            }
            stream.0.sock.shutdown(Shutdown::Write)
        },
    );
    let _egret = lab.egret(&[]);
    judge_all(&lab);
}

struct SingleBytes<S>(S);

impl<S: Read> Read for SingleBytes<S> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.read(bytes)
    }
}

impl<S: Write> Write for SingleBytes<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.0.write(&bytes[..bytes.len().min(1)])?;
        self.0.flush()?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Also through TLS, which has an end of its own in each direction.
#[test]
fn who_has_finished_sending_gets_the_answer_that_comes_later() {
    let (tell, told) = mpsc::channel();
    let told = Arc::new(Mutex::new(told));
    let late = move |stream: &mut dyn ReadWrite| -> io::Result<()> {
        let mut server = HttpServer::new(stream);
        server.request()?;
        told.lock().unwrap().recv_timeout(PATIENCE).map_err(io::Error::other)?;
        server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate")
    };
    let also_late = late.clone();
    let (lab, _servers) = lab_with(move |mut stream| late(&mut stream), move |mut stream| also_late(&mut stream));
    let _egret = lab.egret(&[]);
    for host in [PLAIN, SECURE] {
        let mut client = open(&lab);
        client.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).unwrap();
        client.stream().shutdown(Shutdown::Write).unwrap();
        tell.send(()).unwrap();
        assert_eq!(client.response().unwrap().body, b"late", "{host}");
        assert_eq!(client.rest().unwrap(), b"", "{host}");
    }
}

#[test]
fn heads_keep_what_describes_the_body() {
    let (lab, _servers) = lab_with(answer_plainly, answer_securely);
    let _egret = lab.egret(&[]);
    for host in [PLAIN, SECURE] {
        let mut client = open(&lab);
        let head = |client: &mut HttpClient, name: &str| {
            let case = CASES.iter().find(|case| case.name == name).unwrap();
            ask(client, host, case).unwrap().head
        };
        assert_eq!(head(&mut client, "head").field("content-length"), Some("5"));
        assert_eq!(head(&mut client, "not-modified").field("content-length"), Some("5"));
        assert_eq!(head(&mut client, "no-content").field("content-length"), None);
        // An interim response is passed on, not swallowed.
        client.send(format!("GET /interim HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).unwrap();
        let hints = client.head().unwrap();
        assert_eq!((hints.status, hints.field("link")), (103, Some("</a>")));
        assert_eq!(client.response().unwrap().body, b"ok");
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let (lab, _servers) = lab_with(answer_plainly, answer_securely);
    let _egret = lab.egret(&[]);
    let names = ["length", "chunked", "no-content", "interim", "chunked-extras", "length-then-close", "length"];
    for host in [PLAIN, SECURE] {
        let mut client = open(&lab);
        let all = names.map(|name| format!("GET /{name} HTTP/1.1\r\nHost: {host}\r\n\r\n")).concat();
        client.send(all.as_bytes()).unwrap();
        for name in names {
            let case = CASES.iter().find(|case| case.name == name).unwrap();
            let Reusable(status, body) = case.expect else { panic!("{name} ends its connection") };
            let response = client.response().unwrap();
            assert_eq!((response.head.status, response.body.as_slice()), (status, body.as_bytes()), "{host}/{name}");
        }
    }
}

#[test]
fn response_bytes_after_the_end_never_answer_another_request() {
    let (lab, _servers) = lab_with(|mut stream| answer_too_much(&mut stream), |mut s| answer_too_much(&mut s));
    let _egret = lab.egret(&[]);
    for host in [PLAIN, SECURE] {
        own_answers_only(&lab, host);
    }
}

/// What is opened from one receive may be several pieces; those that nobody asked for count as well.
#[test]
fn a_record_behind_the_response_never_answers_another_request() {
    let (lab, _servers) = lab_with(answer_plainly, |stream| answer_too_much(&mut RecordApart(stream)));
    let _egret = lab.egret(&[]);
    own_answers_only(&lab, SECURE);
}

fn own_answers_only(lab: &Lab, host: &str) {
    let mut client = open(lab);
    for _ in 0..20 {
        assert_eq!(client.get(host, "/stray").unwrap().body, b"ok", "{host}");
        assert_eq!(client.get(host, "/own").unwrap().body, b"mine", "{host}");
    }
}

fn answer_too_much(stream: &mut dyn ReadWrite) -> io::Result<()> {
    let stray = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray";
    let mut server = HttpServer::new(stream);
    while let Some(request) = server.request()? {
        let text = if request.target == "/stray" { stray } else { "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmine" };
        server.send(text.as_bytes())?;
    }
    Ok(())
}

/// Puts what stands behind a response into a record of its own, and both on the wire at once.
struct RecordApart(TlsStream);

impl Read for RecordApart {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.read(bytes)
    }
}

impl Write for RecordApart {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let end = bytes.windows(6).position(|window| window == b"okHTTP").map_or(bytes.len(), |at| at + 2);
        let (response, rest) = bytes.split_at(end);
        for record in [response, rest] {
            self.0.conn.writer().write_all(record)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

#[test]
fn an_answer_before_the_end_of_the_request_arrives() {
    // The server refuses a large upload at its head, and stops reading.
    let refuse = |stream: &mut dyn ReadWrite| -> io::Result<()> {
        let mut server = HttpServer::new(stream);
        server.request_head()?;
        server.send(b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nno!")?;
        server.connection().rest().map(drop)
    };
    let (lab, _servers) = lab_with(move |mut stream| refuse(&mut stream), move |mut stream| refuse(&mut stream));
    let _egret = lab.egret(&[]);
    for host in [PLAIN, SECURE] {
        let mut client = open(&lab);
        client.send(format!("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 50000000\r\n\r\n").as_bytes()).unwrap();
        client.send(&Pattern::new().take(300_000)).unwrap();
        let response = client.response().unwrap();
        assert_eq!((response.head.status, response.body.as_slice()), (413, &b"no!"[..]), "{host}");
    }
}

#[test]
fn expect_continue_is_the_upstreams_to_answer() {
    let hesitate = |stream: &mut dyn ReadWrite| -> io::Result<()> {
        let mut server = HttpServer::new(stream);
        while let Some((_, target, head)) = server.request_head()? {
            assert_eq!(head.field("expect"), Some("100-continue"));
            if target == "/no" {
                server.send(b"HTTP/1.1 417 Expectation Failed\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")?;
                return Ok(());
            }
            server.send(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            let mut length = 0;
            server.connection().body(head.framing(), |part| length += part.len())?;
            server.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n{length:>6}").as_bytes())?;
        }
        Ok(())
    };
    let (lab, _servers) = lab_with(move |mut stream| hesitate(&mut stream), move |mut stream| hesitate(&mut stream));
    let _egret = lab.egret(&[]);
    for host in [PLAIN, SECURE] {
        let mut client = open(&lab);
        let head = |target: &str| {
            format!("PUT {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 100000\r\nExpect: 100-continue\r\n\r\n")
        };
        client.send(head("/yes").as_bytes()).unwrap();
        assert_eq!(client.head().unwrap().status, 100, "{host}: the body is held back until the server asks for it");
        client.send(&Pattern::new().take(100_000)).unwrap();
        assert_eq!(client.response().unwrap().body, b"100000", "{host}");
        client.send(head("/no").as_bytes()).unwrap();
        assert_eq!(client.head().unwrap().status, 417, "{host}");
    }
}

#[test]
fn a_reset_in_the_middle_is_seen() {
    let reset = |stream: TcpStream| -> io::Result<()> {
        let mut server = HttpServer::new(&stream);
        server.request()?;
        server.send(b"HTTP/1.1 200 OK\r\n\r\nbegun")?;
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))
    };
    let (lab, _servers) = lab_with(reset, |_| Ok(()));
    let _egret = lab.egret(&[]);
    let mut client = open(&lab);
    let error = client.get(PLAIN, "/").expect_err("a reset must not look like a clean end");
    assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof), "{error}");
}

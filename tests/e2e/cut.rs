//! Answers that end before their end: all that the server had sent reaches the application, however slowly it reads, and
//! where only the connection's end could tell what is missing it is a reset.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use crate::lab::documents::{origination, service_entry, static_tcp};
use crate::lab::pki::Leaf;
use crate::lab::server::{Pattern, Server};
use crate::lab::{Family, Lab, PATIENCE, eventually, process};

const PLAIN: &str = "plain.example";
const SECURE: &str = "secure.example";
/// What comes of the body, and what was promised.
const SENT: usize = 200_000;
const PROMISED: usize = 400_000;

/// How the server ends, when the kernel of the other side has everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Close,
    Reset,
}

/// How the application reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    Fast,
    /// Nothing before the server is gone, then a little at a time, through a small window.
    Slow,
}

/// A server that answers once in the same way, and ends when it is told to.
struct CutServer {
    lab: Lab,
    at: SocketAddr,
    go: Sender<()>,
    /// Told when everything is written, and when it is gone.
    told: Receiver<()>,
    _server: Server,
}

impl CutServer {
    fn new(at: SocketAddr, head: &'static str, end: End, is_tls: bool) -> CutServer {
        let lab = Lab::new();
        let ((go, gone), (tell, told)) = (mpsc::channel::<()>(), mpsc::channel());
        let both = Mutex::new((gone, tell));
        let answer = move |stream: &mut dyn ReadWrite, socket: &TcpStream| -> io::Result<()> {
            if stream.read(&mut [0; 4096])? == 0 {
                return Ok(());
            }
            stream.write_all(head.as_bytes())?;
            stream.write_all(&Pattern::new().take(SENT))?;
            stream.flush()?;
            let both = both.lock().unwrap();
            both.1.send(()).map_err(io::Error::other)?;
            both.0.recv_timeout(PATIENCE).map_err(io::Error::other)?;
            if end == End::Reset {
                socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO))?;
            }
            // Seen as gone when it is: the descriptor is closed behind this, and both ends wait for it.
            both.1.send(()).map_err(io::Error::other)
        };
        let server = if is_tls {
            let pair = lab.authority.issue(SECURE, Leaf::Good);
            Server::start_tls(&lab, at, &pair, move |mut stream| {
                let socket = stream.sock.try_clone()?;
                answer(&mut stream, &socket)
            })
        } else {
            Server::start(&lab, at, move |mut stream| {
                let socket = stream.try_clone()?;
                answer(&mut stream, &socket)
            })
        };
        lab.names.set(PLAIN, &[at.ip()]);
        lab.names.set(SECURE, &[at.ip()]);
        CutServer { lab, at, go, told, _server: server }
    }

    /// Lets the server end, once all of its bytes have been acknowledged.
    fn end(&self) {
        self.told.recv_timeout(PATIENCE).unwrap();
        eventually("every byte has been taken", || {
            let port = format!("sport = :{}", self.at.port());
            let listed = process::finish(self.lab.outside.command("ss", &["-tnH", "state", "established", &port]));
            let listed = listed.succeeded().stdout;
            let queued = |line: &str| line.split_whitespace().nth(1).and_then(|count| count.parse::<usize>().ok());
            !listed.trim().is_empty() && listed.lines().all(|line| queued(line) == Some(0))
        });
        self.go.send(()).unwrap();
        self.told.recv_timeout(PATIENCE).unwrap();
    }

    /// Everything that the application gets after `asked`, and how that ends.
    fn answer(&self, port: u16, asked: &[u8], pace: Pace) -> (Vec<u8>, Result<(), ErrorKind>) {
        let mut client = self.lab.connect(SocketAddr::new(Lab::address(Family::V4, 1), port)).unwrap();
        if pace == Pace::Slow {
            socket2::SockRef::from(&client).set_recv_buffer_size(4096).unwrap();
        }
        client.write_all(asked).unwrap();
        if pace == Pace::Slow {
            self.end();
            return read(client, Duration::from_millis(2));
        }
        std::thread::scope(|scope| {
            let reading = scope.spawn(|| read(client, Duration::ZERO));
            self.end();
            reading.join().unwrap()
        })
    }
}

/// What comes until the end, with a pause between two reads.
fn read(mut client: TcpStream, pause: Duration) -> (Vec<u8>, Result<(), ErrorKind>) {
    let (mut all, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        match client.read(&mut piece) {
            Ok(0) => return (all, Ok(())),
            Ok(count) => all.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return (all, Err(error.kind())),
        }
        if !pause.is_zero() {
            std::thread::park_timeout(pause);
        }
    }
}

trait ReadWrite: Read + Write {}
impl<S: Read + Write> ReadWrite for S {}

const LENGTH: &str = "HTTP/1.1 200 OK\r\nContent-Length: 400000\r\n\r\n";
/// One chunk of 400,000 bytes.
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n61a80\r\n";
const UNTIL_CLOSE: &str = "HTTP/1.1 200 OK\r\n\r\n";

#[test]
fn everything_that_came_is_delivered_before_the_end() {
    assert_eq!(format!("{PROMISED:x}"), "61a80");
    // The end of the connection is the end of the body only where a reset would tell that it is not.
    let cases = [
        (LENGTH, "1.1", End::Close, false, Ok(())),
        (LENGTH, "1.1", End::Reset, false, Ok(())),
        (LENGTH, "1.1", End::Close, true, Ok(())),
        (CHUNKED, "1.1", End::Reset, false, Ok(())),
        // An application of HTTP/1.0 gets the chunks' data, and nothing that tells of their end.
        (CHUNKED, "1.0", End::Close, false, Err(ErrorKind::ConnectionReset)),
        (UNTIL_CLOSE, "1.1", End::Reset, false, Err(ErrorKind::ConnectionReset)),
        (UNTIL_CLOSE, "1.1", End::Close, true, Err(ErrorKind::ConnectionReset)),
        (UNTIL_CLOSE, "1.1", End::Close, false, Ok(())),
    ];
    for (head, version, end, is_tls, expected) in cases {
        for pace in [Pace::Fast, Pace::Slow] {
            let site = CutServer::new(server_at(if is_tls { 443 } else { 80 }), head, end, is_tls);
            let host = if is_tls { SECURE } else { PLAIN };
            site.lab.configure("plain.yaml", &service_entry(PLAIN, &[(80, "HTTP", None)]));
            site.lab.configure("secure.yaml", &origination(SECURE, Some(&site.lab.ca_file())));
            let _egret = site.lab.egret(&[]);
            let asked = format!("GET / HTTP/{version}\r\nHost: {host}\r\n\r\n");
            let (answer, end_seen) = site.answer(80, asked.as_bytes(), pace);
            let case = format!("{head:?} to HTTP/{version}, {end:?}, TLS {is_tls}, {pace:?}");
            assert!(answer.ends_with(&Pattern::new().take(SENT)), "{case}: {} bytes with the head", answer.len());
            assert_eq!(end_seen, expected, "{case}");
        }
    }
}

/// The same of bytes that nobody reads: what came is delivered, then the reset.
#[test]
fn bytes_that_are_passed_through_are_delivered_before_a_reset() {
    for (end, expected) in [(End::Reset, Err(ErrorKind::ConnectionReset)), (End::Close, Ok(()))] {
        for pace in [Pace::Fast, Pace::Slow] {
            let site = CutServer::new(server_at(7000), "", end, false);
            site.lab.configure("bytes.yaml", &static_tcp("bytes.example", server_at(7000).ip(), 7000));
            let egret = site.lab.egret(&[]);
            let (answer, end_seen) = site.answer(7000, b"go on", pace);
            assert_eq!(answer.len(), SENT, "{end:?}, {pace:?}");
            assert!(answer == Pattern::new().take(SENT));
            assert_eq!(end_seen, expected, "{end:?}, {pace:?}");
            egret.log_line(&["\"- - -\" 0 "]);
        }
    }
}

fn server_at(port: u16) -> SocketAddr {
    SocketAddr::new(Lab::address(Family::V4, 1), port)
}

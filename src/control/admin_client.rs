//! A blocking client for a running egret's admin endpoints, for the command line.
//!
//! One request a connection, a deadline for the whole of it, and errors that say what to do. It speaks as much HTTP as
//! the endpoints do and nothing more, so that the commands need no runtime.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use crate::http::{BodyLength, HeadLimits, Method, Parsed, RequestContext, ResponseError, Version, parse_response};

const CONNECT_DEADLINE: Duration = Duration::from_secs(2);
const DEADLINE: Duration = Duration::from_secs(30);
/// Larger than a dump of any policy that fits a pod.
const MAX_RESPONSE: u64 = 256 * 1024 * 1024;

/// What egret answered; 503 from `/ready` is an answer, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    pub body: String,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// the address cannot be read or resolved
    #[error("{admin:?} is no address; --admin wants host:port, as in 127.0.0.1:15000")]
    Address { admin: String },
    /// nobody listens there
    #[error("no egret is listening on {admin}; is it running? (--admin says where)")]
    NobodyThere { admin: String },
    /// the connection failed
    #[error("asking {admin}: {source}")]
    Io { admin: String, source: io::Error },
    /// something else listens there
    #[error("what listens on {admin} does not answer as egret does: {why}")]
    NotEgret { admin: String, why: &'static str },
}

/// Reads `path` from the egret whose admin endpoint is at `admin` (`host:port`).
///
/// # Errors
/// When there is no answer at all; any status is `Ok`.
pub fn get(admin: &str, path: &str) -> Result<Reply, AskError> {
    ask(admin, "GET", path, DEADLINE)
}

/// Tells the egret at `admin` to do what `path` stands for.
///
/// # Errors
/// When there is no answer at all; any status is `Ok`.
pub fn post(admin: &str, path: &str) -> Result<Reply, AskError> {
    ask(admin, "POST", path, DEADLINE)
}

/// `text` as the value of a query parameter: everything but letters, digits and `-._~` escaped (RFC 3986 §2.1).
#[must_use]
pub fn query_value(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(byte.into());
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

fn ask(admin: &str, method: &str, path: &str, deadline: Duration) -> Result<Reply, AskError> {
    let failed = |source: io::Error| AskError::Io { admin: admin.to_owned(), source };
    let deadline = Instant::now() + deadline;
    let mut stream = connect(admin)?;
    // The endpoints take a request under their own names only, whatever name led here.
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.set_write_timeout(Some(CONNECT_DEADLINE)).map_err(failed)?;
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let response = read_all(&mut stream, deadline).map_err(failed)?;
    parse(&response).map_err(|why| AskError::NotEgret { admin: admin.to_owned(), why })
}

fn connect(admin: &str) -> Result<TcpStream, AskError> {
    let wrong = || AskError::Address { admin: admin.to_owned() };
    let addresses: Vec<SocketAddr> = admin.to_socket_addrs().map_err(|_| wrong())?.collect();
    let mut failed = wrong();
    for address in addresses {
        match TcpStream::connect_timeout(&address, CONNECT_DEADLINE) {
            Ok(stream) => return Ok(stream),
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
                failed = AskError::NobodyThere { admin: admin.to_owned() };
            }
            Err(source) => failed = AskError::Io { admin: admin.to_owned(), source },
        }
    }
    Err(failed)
}

fn read_all(stream: &mut TcpStream, deadline: Instant) -> io::Result<Vec<u8>> {
    let mut response = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "no whole answer in time"));
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut chunk) {
            Ok(0) => return Ok(response),
            Ok(n) => response.extend_from_slice(&chunk[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "no whole answer in time"));
            }
            Err(e) => return Err(e),
        }
        if response.len() as u64 > MAX_RESPONSE {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is larger than egret's ever are"));
        }
    }
}

fn parse(response: &[u8]) -> Result<Reply, &'static str> {
    let request = RequestContext { method: Method::Get, version: Version::Http11, upgrade: false };
    let (head, length) = match parse_response(response, request, HeadLimits::default()) {
        Ok(Parsed::Complete { head, length }) => (head, length),
        Ok(Parsed::Partial) => return Err("it closed before the head was whole"),
        Err(ResponseError::StatusLine) => return Err("that is not HTTP/1"),
        Err(_) => return Err("its head cannot be read"),
    };
    let promised = match head.body {
        BodyLength::None => 0,
        BodyLength::Length(promised) => promised,
        BodyLength::Chunked | BodyLength::UntilClose => return Err("the head has no Content-Length"),
    };
    let body = &response[length..];
    if body.len() as u64 != promised {
        return Err("it closed before the answer was whole");
    }
    let body = String::from_utf8(body.to_vec()).map_err(|_| "the answer is not text")?;
    Ok(Reply { status: head.status, body })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn answers_are_parsed_or_told_apart() {
        for (response, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nLIVE\n", Ok((200, "LIVE\n"))),
            ("HTTP/1.1 503 x\r\ncontent-length: 0\r\n\r\n", Ok((503, ""))),
            ("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nLIVE\n", Err("it closed before the answer was whole")),
            ("HTTP/1.1 200 OK\r\nContent-Le", Err("it closed before the head was whole")),
            ("HTTP/1.1 200 OK\r\n\r\n", Err("the head has no Content-Length")),
            ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", Err("its head cannot be read")),
            ("SSH-2.0-OpenSSH_9.6\r\n", Err("that is not HTTP/1")),
            ("", Err("it closed before the head was whole")),
        ] {
            let expected = expected.map(|(status, body)| Reply { status, body: body.to_owned() });
            assert_eq!(parse(response.as_bytes()), expected, "{response:?}");
        }
    }

    #[test]
    fn query_values_cannot_end_the_request_line() {
        assert_eq!(query_value("info,egret::io=trace"), "info%2Cegret%3A%3Aio%3Dtrace");
        assert_eq!(query_value("a b\r\n&\u{e9}"), "a%20b%0D%0A%26%C3%A9");
    }

    #[test]
    fn errors_say_what_to_do() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let admin = listener.local_addr().unwrap().to_string();
        drop(listener);
        let nobody = format!("no egret is listening on {admin}; is it running? (--admin says where)");
        assert_eq!(get(&admin, "/ready").unwrap_err().to_string(), nobody);
        let error = get("15000", "/ready").unwrap_err().to_string();
        assert_eq!(error, "\"15000\" is no address; --admin wants host:port, as in 127.0.0.1:15000");
    }

    #[test]
    fn a_server_that_stays_silent_is_given_up_on() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let admin = listener.local_addr().unwrap().to_string();
        let error = ask(&admin, "GET", "/ready", Duration::from_millis(50)).unwrap_err().to_string();
        assert_eq!(error, format!("asking {admin}: no whole answer in time"));
    }
}

//! The server of the conversations: notes every request byte by byte and answers as the case says, except that clean
//! requests always get their own target as answer.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use super::cases::End;
use crate::lab::PATIENCE;
use crate::lab::server::{HttpServer, TlsStream};

#[derive(Clone, Default)]
pub struct Upstream(Arc<Shared>);

#[derive(Default)]
struct Shared {
    script: Mutex<Script>,
    changed: Condvar,
}

#[derive(Default)]
struct Script {
    answer: Vec<u8>,
    end: End,
    received: Vec<Message>,
}

/// What came of one request.
#[derive(Clone)]
pub struct Message {
    pub raw: Vec<u8>,
    pub is_complete: bool,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{:?}", if self.is_complete { "" } else { "cut " }, self.raw.escape_ascii().to_string())
    }
}

impl Upstream {
    /// The next request gets `answer`; what was received before is forgotten.
    pub fn expect(&self, answer: Vec<u8>, end: End) {
        *self.0.script.lock().unwrap() = Script { answer, end, received: Vec::new() };
    }

    /// What has been received, once it is `count` messages or does not become as many.
    pub fn wait_for(&self, count: usize) -> Vec<Message> {
        let script = self.0.script.lock().unwrap();
        let waiting = |script: &mut Script| script.received.len() < count;
        let (script, _) = self.0.changed.wait_timeout_while(script, PATIENCE, waiting).unwrap();
        script.received.clone()
    }

    /// What has been received so far.
    pub fn received(&self) -> Vec<Message> {
        self.0.script.lock().unwrap().received.clone()
    }

    pub fn serve<S: Ending>(&self, stream: S) -> io::Result<()> {
        let mut server = HttpServer::new(Tee { stream, raw: Vec::new() });
        loop {
            let request = server.request();
            let raw = std::mem::take(&mut server.connection().stream().raw);
            match request {
                Ok(Some(request)) if request.target.starts_with("/clean") => {
                    let target = request.target;
                    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", target.len());
                    server.send((head + &target).as_bytes())?;
                }
                Ok(Some(_)) => {
                    let (answer, end) = self.note(raw, true);
                    server.send(&answer)?;
                    if end != End::Stay {
                        return server.connection().stream().stream.end(end);
                    }
                }
                // A connection that is ended between two requests, however.
                Ok(None) | Err(_) if raw.is_empty() => return Ok(()),
                Ok(None) | Err(_) => {
                    self.note(raw, false);
                    return Ok(());
                }
            }
        }
    }

    fn note(&self, raw: Vec<u8>, is_complete: bool) -> (Vec<u8>, End) {
        let mut script = self.0.script.lock().unwrap();
        script.received.push(Message { raw, is_complete });
        self.0.changed.notify_all();
        (script.answer.clone(), script.end)
    }
}

/// A stream that can end in more than one way.
pub trait Ending: Read + Write {
    fn end(&mut self, end: End) -> io::Result<()>;
}

impl Ending for TcpStream {
    fn end(&mut self, end: End) -> io::Result<()> {
        match end {
            End::Reset => socket2::SockRef::from(&*self).set_linger(Some(Duration::ZERO)),
            _ => self.shutdown(Shutdown::Write),
        }
    }
}

impl Ending for TlsStream {
    fn end(&mut self, end: End) -> io::Result<()> {
        if end == End::Close {
            self.conn.send_close_notify();
            self.conn.complete_io(&mut self.sock)?;
        }
        self.sock.end(end)
    }
}

/// Keeps what is read.
struct Tee<S> {
    stream: S,
    raw: Vec<u8>,
}

impl<S: Read> Read for Tee<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        self.raw.extend_from_slice(&buffer[..count]);
        Ok(count)
    }
}

impl<S: Write> Write for Tee<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

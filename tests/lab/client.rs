//! An HTTP/1.1 client that hides nothing: it sends the bytes it is given and shows how a response really ended.

use std::io::{self, Read, Write};
use std::net::TcpStream;

pub struct HttpClient<S = TcpStream> {
    stream: S,
    /// Received and not yet consumed.
    pending: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub status: u16,
    /// As received, up to and with the empty line.
    pub text: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub head: Head,
    pub body: Vec<u8>,
}

/// How a body's end is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

impl Head {
    /// The first field of this name.
    pub fn field(&self, name: &str) -> Option<&str> {
        let fields = self.text.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
        fields.into_iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    pub fn framing(&self) -> Framing {
        if self.field("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            return Framing::Chunked;
        }
        let length = self.field("content-length").map(|value| value.parse().expect("a length in digits"));
        length.map_or(Framing::UntilClose, Framing::Length)
    }
}

impl<S: Read + Write> HttpClient<S> {
    pub fn new(stream: S) -> Self {
        Self { stream, pending: Vec::new() }
    }

    pub fn stream(&mut self) -> &mut S {
        &mut self.stream
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    /// A GET on this connection.
    pub fn get(&mut self, host: &str, path: &str) -> io::Result<Response> {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes())?;
        self.response()
    }

    /// The next head, interim ones included.
    pub fn head(&mut self) -> io::Result<Head> {
        let text = self.head_text()?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let status = text.get(9..12).and_then(|digits| digits.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("not a status line: {text:?}")))?;
        Ok(Head { status, text })
    }

    /// The next bytes up to and with an empty line; `None` when the peer ends before the first of them.
    pub fn head_text(&mut self) -> io::Result<Option<String>> {
        loop {
            if let Some(end) = find(&self.pending, b"\r\n\r\n") {
                let text = String::from_utf8_lossy(&self.pending[..end + 4]).into_owned();
                self.pending.drain(..end + 4);
                return Ok(Some(text));
            }
            match self.fill() {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && self.pending.is_empty() => {
                    return Ok(None);
                }
                other => other?,
            }
        }
    }

    /// The next response; interim responses are passed over. A body that ends early is an error.
    pub fn response(&mut self) -> io::Result<Response> {
        self.response_to("GET")
    }

    pub fn response_to(&mut self, method: &str) -> io::Result<Response> {
        let mut head = self.head()?;
        while (100..200).contains(&head.status) && head.status != 101 {
            head = self.head()?;
        }
        let bodiless = method == "HEAD" || matches!(head.status, 101 | 204 | 304);
        let mut body = Vec::new();
        if !bodiless {
            self.body(head.framing(), |part| body.extend_from_slice(part))?;
        }
        Ok(Response { head, body })
    }

    /// Gives the body to `sink` part by part.
    pub fn body(&mut self, framing: Framing, mut sink: impl FnMut(&[u8])) -> io::Result<()> {
        match framing {
            Framing::Length(length) => self.exactly(length, &mut sink),
            Framing::Chunked => self.chunks(&mut sink),
            Framing::UntilClose => self.until_close(&mut sink),
        }
    }

    fn exactly(&mut self, mut left: u64, sink: &mut impl FnMut(&[u8])) -> io::Result<()> {
        while left > 0 {
            if self.pending.is_empty() {
                self.fill()?;
            }
            let take = usize::try_from(left).unwrap_or(usize::MAX).min(self.pending.len());
            sink(&self.pending[..take]);
            self.pending.drain(..take);
            left -= take as u64;
        }
        Ok(())
    }

    fn chunks(&mut self, sink: &mut impl FnMut(&[u8])) -> io::Result<()> {
        loop {
            let line = self.line()?;
            let size = u64::from_str_radix(line.split(';').next().unwrap_or(""), 16);
            let size = size.map_err(|_| io::Error::other(format!("not a chunk size: {line:?}")))?;
            self.exactly(size, sink)?;
            if size == 0 {
                while !self.line()?.is_empty() {}
                return Ok(());
            }
            let end = self.line()?;
            if !end.is_empty() {
                return Err(io::Error::other(format!("a chunk ends with {end:?}")));
            }
        }
    }

    fn until_close(&mut self, sink: &mut impl FnMut(&[u8])) -> io::Result<()> {
        loop {
            sink(&self.pending);
            self.pending.clear();
            match self.fill() {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                other => other?,
            }
        }
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = find(&self.pending, b"\r\n") {
                let line = String::from_utf8_lossy(&self.pending[..end]).into_owned();
                self.pending.drain(..end + 2);
                return Ok(line);
            }
            self.fill()?;
        }
    }

    /// Whatever arrives until the peer closes.
    pub fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        self.until_close(&mut |part| rest.extend_from_slice(part))?;
        Ok(rest)
    }

    /// The next `count` bytes; fewer when the peer ends or fails before.
    pub fn take(&mut self, count: usize) -> Vec<u8> {
        while self.pending.len() < count && self.fill().is_ok() {}
        let count = count.min(self.pending.len());
        self.pending.drain(..count).collect()
    }

    /// Receives more; the peer's end is `UnexpectedEof`.
    fn fill(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        let count = loop {
            match self.stream.read(&mut buffer) {
                // A read with a timeout is not restarted after a signal (signal(7)).
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.pending.extend_from_slice(&buffer[..count]);
        Ok(())
    }
}

pub fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(haystack, needle)
}

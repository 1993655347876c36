//! HTTP/1.1 as a program speaks it: it sends the bytes that it is given, and shows how a message really ended.

use std::io;
use std::rc::Rc;

use bytes::BytesMut;

use super::wire::Wire;

pub(super) struct Talk {
    pub(super) wire: Rc<Wire>,
    /// Received and not yet consumed.
    pending: BytesMut,
    /// Everything received, of a server that notes it.
    pub(super) raw: Vec<u8>,
}

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// As received, up to and with the empty line.
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

/// How a body's end is known.
enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
}

/// The first field of this name.
pub(super) fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let mut fields = head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
    fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

fn framing(head: &str) -> Framing {
    if field(head, "transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        return Framing::Chunked;
    }
    let length = field(head, "content-length").map(|value| value.parse().expect("a length in digits"));
    length.map_or(Framing::UntilClose, Framing::Length)
}

impl Talk {
    pub(super) fn new(wire: Wire) -> Self {
        Self { wire: Rc::new(wire), pending: BytesMut::new(), raw: Vec::new() }
    }

    pub(super) async fn send(&self, bytes: &[u8]) -> io::Result<()> {
        self.wire.send(bytes).await
    }

    /// A GET on this connection.
    pub(super) async fn get(&mut self, host: &str, path: &str) -> io::Result<Answer> {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).await?;
        self.answer_to("GET").await
    }

    /// The next answer; interim ones are passed over. A body that ends early is an error.
    pub(super) async fn answer_to(&mut self, method: &str) -> io::Result<Answer> {
        loop {
            let head = self.head().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
            let status = head.get(9..12).and_then(|digits| digits.parse().ok());
            let status = status.ok_or_else(|| io::Error::other(format!("not a status line: {head:?}")))?;
            if (100..200).contains(&status) && status != 101 {
                continue;
            }
            let is_bodiless = method == "HEAD" || matches!(status, 101 | 204 | 304);
            let body = if is_bodiless { Vec::new() } else { self.body(framing(&head)).await? };
            return Ok(Answer { status, head, body });
        }
    }

    /// The next request's head and body; `None` after the peer's end between two requests.
    pub(super) async fn request(&mut self) -> io::Result<Option<(String, Vec<u8>)>> {
        let Some(head) = self.head().await? else { return Ok(None) };
        let body = self.request_body(&head).await?;
        Ok(Some((head, body)))
    }

    /// The body of the request with this head.
    pub(super) async fn request_body(&mut self, head: &str) -> io::Result<Vec<u8>> {
        match framing(head) {
            Framing::UntilClose => Ok(Vec::new()),
            framing => self.body(framing).await,
        }
    }

    /// The next bytes up to and with an empty line; `None` when the peer ends before the first of them.
    pub(super) async fn head(&mut self) -> io::Result<Option<String>> {
        loop {
            if let Some(end) = find(&self.pending, b"\r\n\r\n") {
                let head = self.pending.split_to(end + 4);
                return Ok(Some(String::from_utf8_lossy(&head).into_owned()));
            }
            if !self.fill().await? {
                return if self.pending.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    async fn body(&mut self, framing: Framing) -> io::Result<Vec<u8>> {
        match framing {
            Framing::Length(length) => self.exactly(length).await,
            Framing::UntilClose => self.rest().await,
            Framing::Chunked => self.chunks().await,
        }
    }

    async fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line().await?;
            let size = usize::from_str_radix(line.split(';').next().unwrap_or(""), 16);
            let size = size.map_err(|_| io::Error::other(format!("not a chunk size: {line:?}")))?;
            body.extend(self.exactly(size).await?);
            if size == 0 {
                while !self.line().await?.is_empty() {}
                return Ok(body);
            }
            let end = self.line().await?;
            if !end.is_empty() {
                return Err(io::Error::other(format!("a chunk ends with {end:?}")));
            }
        }
    }

    async fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.pending) {
                let line = self.pending.split_to(end + 1);
                let text = line.strip_suffix(b"\r\n").ok_or_else(|| io::Error::other("a line without CR"))?;
                return Ok(String::from_utf8_lossy(text).into_owned());
            }
            self.must_fill().await?;
        }
    }

    pub(super) async fn exactly(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.pending.len() < count {
            self.must_fill().await?;
        }
        Ok(self.pending.split_to(count).to_vec())
    }

    /// The next `count` bytes; fewer when the peer ends or fails before.
    pub(super) async fn take(&mut self, count: usize) -> Vec<u8> {
        while self.pending.len() < count && self.fill().await.is_ok_and(|more| more) {}
        let count = count.min(self.pending.len());
        self.pending.split_to(count).to_vec()
    }

    /// Whatever arrives until the peer's end.
    pub(super) async fn rest(&mut self) -> io::Result<Vec<u8>> {
        while self.fill().await? {}
        Ok(self.pending.split().to_vec())
    }

    async fn must_fill(&mut self) -> io::Result<()> {
        if self.fill().await? { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// Receives more; false at the peer's end.
    async fn fill(&mut self) -> io::Result<bool> {
        let bytes = self.wire.recv().await?;
        self.pending.extend_from_slice(&bytes);
        self.raw.extend_from_slice(&bytes);
        Ok(!bytes.is_empty())
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(haystack, needle)
}

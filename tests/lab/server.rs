//! Servers outside, for what nginx cannot be made to do: each connection is handed to a function of the test.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::client::{Framing, Head, HttpClient};
use super::pki::Pair;
use super::{Lab, PATIENCE};

pub type TlsStream = StreamOwned<ServerConnection, TcpStream>;

pub struct Server {
    listener: TcpListener,
    accepted: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens outside and runs `handler` for each connection on a thread of its own. The handler's error ends only
    /// its connection: what a test expects must be seen at the client's side or through a channel.
    pub fn start<H>(lab: &Lab, at: SocketAddr, handler: H) -> Server
    where
        H: Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static,
    {
        let listener = lab.outside.enter(|| TcpListener::bind(at)).expect("a free outside port");
        let accepted = Arc::new(AtomicUsize::new(0));
        let incoming = listener.try_clone().expect("a descriptor");
        let (counter, handler) = (Arc::clone(&accepted), Arc::new(handler));
        let thread = std::thread::spawn(move || {
            for stream in incoming.incoming().map_while(Result::ok) {
                counter.fetch_add(1, Ordering::SeqCst);
                let handler = Arc::clone(&handler);
                std::thread::spawn(move || stream.set_read_timeout(Some(PATIENCE * 6)).and_then(|()| handler(stream)));
            }
        });
        Server { listener, accepted, thread: Some(thread) }
    }

    /// [`Server::start`] behind TLS; the handler runs once the handshake is complete.
    pub fn start_tls<H>(lab: &Lab, at: SocketAddr, pair: &Pair, handler: H) -> Server
    where
        H: Fn(TlsStream) -> io::Result<()> + Send + Sync + 'static,
    {
        let config = Arc::new(server_config(pair));
        Self::start(lab, at, move |stream| {
            let connection = ServerConnection::new(Arc::clone(&config)).map_err(io::Error::other)?;
            let mut stream = StreamOwned::new(connection, stream);
            while stream.conn.is_handshaking() {
                stream.conn.complete_io(&mut stream.sock)?;
            }
            handler(stream)
        })
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Shutting a listening socket down ends the accept that the thread waits in (Linux).
        let _ = socket2::SockRef::from(&self.listener).shutdown(Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Only http/1.1, TLS 1.2 and 1.3.
fn server_config(pair: &Pair) -> ServerConfig {
    let certificate = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).expect("a PEM of ours");
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("a PEM of ours");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.expect("the provider has both versions").with_no_client_auth();
    let mut config = builder.with_single_cert(vec![certificate], key).expect("a pair of ours");
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

/// A request as a server of the lab reads it.
#[derive(Debug)]
pub struct Request {
    pub method: String,
    pub target: String,
    /// As received; its `status` has no meaning.
    pub head: Head,
    pub body: Vec<u8>,
}

/// The server's side of an HTTP/1.1 connection.
pub struct HttpServer<S>(HttpClient<S>);

impl<S: Read + Write> HttpServer<S> {
    pub fn new(stream: S) -> Self {
        Self(HttpClient::new(stream))
    }

    /// The next request with its body; `None` after the peer's end between two requests.
    pub fn request(&mut self) -> io::Result<Option<Request>> {
        let Some((method, target, head)) = self.request_head()? else { return Ok(None) };
        let mut body = Vec::new();
        if let framing @ (Framing::Length(_) | Framing::Chunked) = head.framing() {
            self.0.body(framing, |part| body.extend_from_slice(part))?;
        }
        Ok(Some(Request { method, target, head, body }))
    }

    /// The next request's method, target and head; its body is left to [`HttpServer::connection`].
    pub fn request_head(&mut self) -> io::Result<Option<(String, String, Head)>> {
        let Some(text) = self.0.head_text()? else { return Ok(None) };
        let mut words = text.split(' ').map(str::to_owned);
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        Ok(Some((method, target, Head { status: 0, text })))
    }

    pub fn connection(&mut self) -> &mut HttpClient<S> {
        &mut self.0
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.send(bytes)
    }
}

/// Bytes that differ at every offset: position `i` of a stream holds `PATTERN[i % PERIOD]`. The period is prime, so a
/// lost, doubled or moved block of any usual size shows.
pub struct Pattern(Vec<u8>);

impl Pattern {
    pub const PERIOD: usize = 1_048_573;

    pub fn new() -> Pattern {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        // xorshift64: quick, and of no regular shape.
        let next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        };
        Pattern(std::iter::repeat_with(next).take(Self::PERIOD).collect())
    }

    /// The longest run from `offset` that is at most `limit` bytes.
    pub fn run(&self, offset: u64, limit: u64) -> &[u8] {
        let at = (offset % Self::PERIOD as u64) as usize;
        let end = self.0.len().min(at + usize::try_from(limit).unwrap_or(usize::MAX).min(self.0.len()));
        &self.0[at..end]
    }

    /// The first `length` bytes.
    pub fn take(&self, length: usize) -> Vec<u8> {
        self.0.iter().copied().cycle().take(length).collect()
    }

    /// Whether `bytes` are what stands from `offset` on.
    pub fn matches(&self, mut offset: u64, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let wanted = self.run(offset, bytes.len() as u64);
            if bytes[..wanted.len()] != *wanted {
                return false;
            }
            bytes = &bytes[wanted.len()..];
            offset += wanted.len() as u64;
        }
        true
    }

    /// Writes `length` bytes from offset 0.
    pub fn write(&self, length: u64, sink: &mut impl Write) -> io::Result<()> {
        let mut offset = 0;
        while offset < length {
            let run = self.run(offset, length - offset);
            sink.write_all(run)?;
            offset += run.len() as u64;
        }
        sink.flush()
    }
}

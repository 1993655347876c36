//! Messages to name servers over streams: TCP (RFC 7766), or TLS to a server that proves its name (RFC 7858).
//!
//! One query at a time is on a connection. One over TLS is kept for the next query, since a handshake costs more than the
//! lookup; where TLS is asked for nothing is ever sent in the clear, and a server that cannot prove its name has no answer.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Where name servers listen for TLS (RFC 7858 §3.1).
pub const TLS_PORT: u16 = 853;
/// Servers close sooner or later (RFC 7858 §3.4); what was idle for longer is not tried.
const MAX_IDLE: Duration = Duration::from_secs(10);
/// Connections kept for one server.
const MAX_KEPT: usize = 8;

/// How a stream to a name server is made.
#[derive(Clone, Debug, Default)]
pub enum StreamTransport {
    #[default]
    Tcp,
    Tls(Rc<DnsOverTls>),
    /// It cannot be made, and nothing may take its place.
    Unavailable(Rc<str>),
}

/// TLS to every name server, under one name.
pub struct DnsOverTls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    port: u16,
    kept: RefCell<HashMap<SocketAddr, Vec<Kept>>>,
}

struct Kept {
    stream: TlsStream<TcpStream>,
    since: Instant,
}

impl DnsOverTls {
    /// `config` verifies that a server is `name`.
    #[must_use]
    pub fn new(config: Arc<ClientConfig>, name: ServerName<'static>, port: u16) -> Self {
        Self { config, name, port, kept: RefCell::default() }
    }

    /// Closes connections that have been idle for long.
    pub fn sweep(&self) {
        let mut kept = self.kept.borrow_mut();
        kept.values_mut().for_each(|kept| kept.retain(|kept| kept.since.elapsed() < MAX_IDLE));
        kept.retain(|_, kept| !kept.is_empty());
    }

    async fn exchange(&self, mut server: SocketAddr, message: &[u8]) -> io::Result<Vec<u8>> {
        server.set_port(self.port);
        if let Some(mut stream) = self.take(server) {
            // The server may have closed it while it was idle.
            if let Ok(answer) = exchange(&mut stream, message).await {
                self.keep(server, stream);
                return Ok(answer);
            }
        }
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let mut stream = TlsConnector::from(Arc::clone(&self.config)).connect(self.name.clone(), stream).await?;
        let answer = exchange(&mut stream, message).await?;
        self.keep(server, stream);
        Ok(answer)
    }

    fn take(&self, server: SocketAddr) -> Option<TlsStream<TcpStream>> {
        let mut all = self.kept.borrow_mut();
        let kept = all.get_mut(&server)?;
        kept.retain(|kept| kept.since.elapsed() < MAX_IDLE);
        kept.pop().map(|kept| kept.stream)
    }

    fn keep(&self, server: SocketAddr, stream: TlsStream<TcpStream>) {
        let mut all = self.kept.borrow_mut();
        let kept = all.entry(server).or_default();
        if kept.len() < MAX_KEPT {
            kept.push(Kept { stream, since: Instant::now() });
        }
    }
}

impl fmt::Debug for DnsOverTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DnsOverTls").field("name", &self.name).field("port", &self.port).finish_non_exhaustive()
    }
}

impl StreamTransport {
    /// Whether nothing may be sent in the clear.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        matches!(self, StreamTransport::Tls(_) | StreamTransport::Unavailable(_))
    }

    /// What the server sends back for `message`; whether it is an answer is the caller's to judge.
    ///
    /// # Errors
    /// The server cannot be reached, does not prove its name, or breaks off.
    pub async fn exchange(&self, server: SocketAddr, message: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            StreamTransport::Tcp => {
                let mut stream = TcpStream::connect(server).await?;
                stream.set_nodelay(true)?;
                exchange(&mut stream, message).await
            }
            StreamTransport::Unavailable(why) => Err(io::Error::other(why.to_string())),
            // Boxed: a handshake is large, and each name has a task that may be in one.
            StreamTransport::Tls(tls) => Box::pin(tls.exchange(server, message)).await,
        }
    }

    /// Closes what is no longer needed.
    pub fn sweep(&self) {
        if let StreamTransport::Tls(tls) = self {
            tls.sweep();
        }
    }
}

/// A length of two octets stands before each message.
async fn exchange(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), message: &[u8]) -> io::Result<Vec<u8>> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], message].concat()).await?;
    stream.flush().await?;
    let length = stream.read_u16().await?;
    let mut answer = Vec::new();
    stream.take(length.into()).read_to_end(&mut answer).await?;
    if answer.len() < usize::from(length) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(answer)
}

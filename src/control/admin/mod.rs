//! The process's own HTTP endpoints: admin for people on this host, health for the kubelet, metrics for Prometheus.
//!
//! The server does not know what it shows: everything comes from an [`Admin`]. One request a connection, each with a
//! deadline, and the oldest of them gives way to a new one, so that neither slow readers nor slow writers can keep the
//! kubelet's probe out. What may be asked where stands in `routes`, who may ask it from a browser in `guard`.

mod guard;
mod routes;
mod surface;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

pub use surface::Admin;

use surface::Surface;

/// Connections to one listener at the same time.
const MAX_CONNECTIONS: usize = 64;
const MAX_HEADERS: usize = 64;
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// A head must be whole within this; the kubelet gives up after 1 to 3 s anyway.
const HEAD_DEADLINE: Duration = Duration::from_secs(5);
/// A connection must be over within this, whatever it does: a large dump to a slow reader is the longest.
const CONNECTION_DEADLINE: Duration = Duration::from_secs(60);
/// How long to wait after a failed accept: descriptors run out for longer than a turn of the loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Where to listen. Port 0 takes a free one.
#[derive(Clone, Copy, Debug)]
pub struct AdminAddresses {
    /// Must be a loopback address: whoever reaches it may end the process.
    pub admin: SocketAddr,
    /// On all addresses, IPv4 and IPv6.
    pub health_port: u16,
    /// On all addresses, IPv4 and IPv6.
    pub metrics_port: u16,
}

impl Default for AdminAddresses {
    fn default() -> Self {
        Self { admin: (Ipv4Addr::LOCALHOST, 15000).into(), health_port: 15021, metrics_port: 15090 }
    }
}

/// Why the endpoints cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// the admin address is open to other hosts
    #[error("the admin address {0} is not a loopback address; whoever reaches it may end the process")]
    NotLoopback(SocketAddr),
    /// another process listens there
    #[error(
        "port {} for {purpose} is in use; end the process that listens on {address} or choose another port", .address.port()
    )]
    InUse { purpose: &'static str, address: SocketAddr },
    /// the kernel refuses for another reason
    #[error("cannot listen on {address} for {purpose}: {source}")]
    Io { purpose: &'static str, address: SocketAddr, source: io::Error },
}

/// The three listeners, bound and not yet served: a port in use is known before anything else starts.
#[derive(Debug)]
pub struct AdminServer {
    admin: TcpListener,
    health: TcpListener,
    metrics: TcpListener,
}

impl AdminServer {
    /// Binds all three, inside a tokio runtime.
    ///
    /// # Errors
    /// The first address that cannot be had, and what to do.
    pub fn bind(addresses: &AdminAddresses) -> Result<Self, BindError> {
        if !addresses.admin.ip().is_loopback() {
            return Err(BindError::NotLoopback(addresses.admin));
        }
        Ok(Self {
            admin: listen(addresses.admin, "admin")?,
            health: listen_everywhere(addresses.health_port, "health")?,
            metrics: listen_everywhere(addresses.metrics_port, "metrics")?,
        })
    }

    /// Where admin, health and metrics listen, in this order.
    pub fn local_addrs(&self) -> io::Result<[SocketAddr; 3]> {
        Ok([self.admin.local_addr()?, self.health.local_addr()?, self.metrics.local_addr()?])
    }

    /// Answers requests until dropped, inside a tokio `LocalSet`.
    pub async fn serve(self, admin: Rc<dyn Admin>) -> Infallible {
        tokio::join!(
            accept_all(self.admin, Surface::Admin, Rc::clone(&admin)),
            accept_all(self.health, Surface::Health, Rc::clone(&admin)),
            accept_all(self.metrics, Surface::Metrics, admin),
        )
        .0
    }
}

/// On `[::]` for both families, or on `0.0.0.0` where the kernel has no IPv6.
fn listen_everywhere(port: u16, purpose: &'static str) -> Result<TcpListener, BindError> {
    match listen((Ipv6Addr::UNSPECIFIED, port).into(), purpose) {
        Err(BindError::Io { source, .. }) if has_no_ipv6(&source) => {
            listen((Ipv4Addr::UNSPECIFIED, port).into(), purpose)
        }
        outcome => outcome,
    }
}

fn has_no_ipv6(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

fn listen(address: SocketAddr, purpose: &'static str) -> Result<TcpListener, BindError> {
    bind(address).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse { purpose, address },
        _ => BindError::Io { purpose, address, source },
    })
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(128)?;
    TcpListener::from_std(socket.into())
}

async fn accept_all(listener: TcpListener, surface: Surface, admin: Rc<dyn Admin>) -> Infallible {
    let mut open = Open::default();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let serving = tokio::task::spawn_local(serve_one(stream, surface, Rc::clone(&admin)));
                open.add(serving.abort_handle());
            }
            Err(error) => {
                tracing::warn!(?surface, %error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The connections of a listener, oldest first. Dropping it ends them.
#[derive(Default)]
struct Open(VecDeque<AbortHandle>);

impl Open {
    fn add(&mut self, connection: AbortHandle) {
        self.0.retain(|connection| !connection.is_finished());
        if self.0.len() >= MAX_CONNECTIONS
            && let Some(oldest) = self.0.pop_front()
        {
            oldest.abort();
        }
        self.0.push_back(connection);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

async fn serve_one(stream: TcpStream, surface: Surface, admin: Rc<dyn Admin>) {
    let service = service_fn(|request| {
        let response = routes::respond(surface, &request, &*admin);
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD_BYTES)
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(CONNECTION_DEADLINE, pin!(connection)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(?surface, %error, "a connection ended early"),
        Err(_) => tracing::debug!(?surface, "a connection was cut at its deadline"),
    }
}

#[cfg(test)]
mod tests;

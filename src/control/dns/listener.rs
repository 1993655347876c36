//! The sockets of the listener: loopback only, both families, UDP and TCP.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::sleep;

use super::proxy::DnsProxy;
use super::{tcp, udp};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;
/// How long the listener of an earlier process may take to go away.
const CLAIM_PATIENCE: Duration = Duration::from_millis(500);
const CLAIM_INTERVAL: Duration = Duration::from_millis(10);
/// How often idle sockets are looked at.
const SWEEP: Duration = Duration::from_secs(2);

/// Why there is no listener.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for DNS on {address}: {source}{hint}")]
pub struct DnsBindError {
    pub address: SocketAddr,
    pub source: io::Error,
    hint: &'static str,
}

/// The sockets of the listener, not served yet.
pub struct DnsSockets {
    udp: Vec<std::net::UdpSocket>,
    tcp: Vec<std::net::TcpListener>,
}

impl DnsSockets {
    /// Binds `port` of loopback: IPv4, and IPv6 where the kernel has it.
    ///
    /// # Errors
    /// The port is taken, or sockets are not to be had.
    pub async fn bind(port: u16) -> Result<Self, DnsBindError> {
        let mut sockets = Self { udp: Vec::new(), tcp: Vec::new() };
        for ip in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
            if ip.is_ipv6() && std::net::UdpSocket::bind((ip, 0)).is_err() {
                continue;
            }
            let address = SocketAddr::new(ip, port);
            sockets.udp.push(claim(address, Type::DGRAM).await?.into());
            sockets.tcp.push(claim(address, Type::STREAM).await?.into());
        }
        Ok(sockets)
    }

    /// Serves on tasks of their own until the process ends.
    ///
    /// # Errors
    /// The runtime takes no more sockets.
    ///
    /// # Panics
    /// Outside a tokio `LocalSet`.
    pub fn serve(self, proxy: &Rc<DnsProxy>) -> io::Result<()> {
        for socket in self.udp {
            tokio::task::spawn_local(udp::serve(Rc::clone(proxy), UdpSocket::from_std(socket)?));
        }
        let permits = Rc::new(Semaphore::new(tcp::MAX_CONNECTIONS));
        for listener in self.tcp {
            let listener = TcpListener::from_std(listener)?;
            tokio::task::spawn_local(tcp::serve(Rc::clone(proxy), listener, Rc::clone(&permits)));
        }
        let proxy = Rc::clone(proxy);
        tokio::task::spawn_local(async move {
            loop {
                sleep(SWEEP).await;
                proxy.sweep();
            }
        });
        Ok(())
    }
}

/// A process that was killed leaves its sockets for a moment.
async fn claim(address: SocketAddr, kind: Type) -> Result<Socket, DnsBindError> {
    let deadline = Instant::now() + CLAIM_PATIENCE;
    loop {
        match open(address, kind) {
            Ok(socket) => return Ok(socket),
            Err(source) if source.kind() != io::ErrorKind::AddrInUse || Instant::now() >= deadline => {
                let hint = match source.kind() {
                    io::ErrorKind::AddrInUse => {
                        "; is another proxy running here? choose another --dns-port, for egret init too"
                    }
                    _ => "",
                };
                return Err(DnsBindError { address, source, hint });
            }
            Err(_) => sleep(CLAIM_INTERVAL).await,
        }
    }
}

fn open(address: SocketAddr, kind: Type) -> io::Result<Socket> {
    let protocol = if kind == Type::DGRAM { Protocol::UDP } else { Protocol::TCP };
    let socket = Socket::new(Domain::for_address(address), kind.nonblocking(), Some(protocol))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if kind == Type::STREAM {
        socket.set_reuse_address(true)?;
    }
    socket.bind(&address.into())?;
    if kind == Type::STREAM {
        socket.listen(BACKLOG)?;
    }
    Ok(socket)
}

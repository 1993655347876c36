//! The sockets that redirected connections arrive at: loopback only, one set a worker, spread by the kernel.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::io::Keepalive;

/// Connections that wait for a worker; the kernel cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// The one that every kernel has.
const LOCAL_CONGESTION_CONTROL: &[u8] = b"reno";

/// How long a listener of an earlier process may take to go away.
const CLAIM_PATIENCE: Duration = Duration::from_secs(3);
const CLAIM_INTERVAL: Duration = Duration::from_millis(10);

/// Why the proxy's port cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}{hint}")]
pub struct ListenError {
    pub address: SocketAddr,
    pub source: std::io::Error,
    hint: &'static str,
}

/// `workers` sets of listeners on loopback port `port`: IPv4, and IPv6 where the kernel has it. What they accept has the
/// keep-alive probes from the first connection on.
///
/// # Errors
/// The port is taken, or sockets are not to be had.
pub fn listeners(
    port: u16,
    workers: usize,
    keepalive: Option<Keepalive>,
) -> Result<Vec<Vec<TcpListener>>, ListenError> {
    let v4 = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    let v6 = SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), port);
    let has_v6 = probe(v6);
    if !has_v6 {
        tracing::info!("no IPv6 loopback; only IPv4 connections can be redirected here");
    }
    claim(v4)?;
    (0..workers)
        .map(|_| {
            let mut set = vec![bind(v4, true, keepalive)?];
            if has_v6 {
                set.push(bind(v6, true, keepalive)?);
            }
            Ok(set)
        })
        .collect()
}

/// Binds `address` once without SO_REUSEPORT: a second egret on the port would otherwise share it silently. The kernel
/// takes a moment to close the listeners of a process that was killed, because its rings are torn down after it.
fn claim(address: SocketAddr) -> Result<(), ListenError> {
    let deadline = Instant::now() + CLAIM_PATIENCE;
    loop {
        match bind(address, false, None) {
            Ok(_) => return Ok(()),
            Err(error) if error.source.kind() != ErrorKind::AddrInUse || Instant::now() >= deadline => {
                return Err(error);
            }
            Err(_) => std::thread::sleep(CLAIM_INTERVAL),
        }
    }
}

/// Whether `address` can be bound at all, on any port.
fn probe(address: SocketAddr) -> bool {
    TcpListener::bind(SocketAddr::new(address.ip(), 0)).is_ok()
}

fn bind(address: SocketAddr, share: bool, keepalive: Option<Keepalive>) -> Result<TcpListener, ListenError> {
    open(address, share, keepalive).map_err(|source| {
        let hint = match source.kind() {
            ErrorKind::AddrInUse => "; is another proxy running here? choose another --proxy-port",
            _ => "",
        };
        ListenError { address, source, hint }
    })
}

fn open(address: SocketAddr, share: bool, keepalive: Option<Keepalive>) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(share)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Applications are on the same host: there is no network to spare, and what spares it costs. A system whose default
    // paces (bbr) sets a timer a send. Where it may not be set, the default serves as well.
    let _ = socket.set_tcp_congestion(LOCAL_CONGESTION_CONTROL);
    if let Some(keepalive) = keepalive {
        keepalive.set(&socket)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_paced_towards_applications() {
        let listener = bind((Ipv4Addr::LOCALHOST, 0).into(), true, None).unwrap();
        let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let accepted = Socket::from(listener.accept().unwrap().0);
        let name = accepted.tcp_congestion().unwrap();
        assert!(name.starts_with(LOCAL_CONGESTION_CONTROL), "{name:?}");
    }

    #[test]
    fn workers_share_a_port_and_strangers_do_not() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let sets = listeners(free, 2, None).unwrap();
        assert_eq!(sets.len(), 2);
        assert!(sets.iter().flatten().all(|l| l.local_addr().unwrap().port() == free));
        assert!(sets.iter().flatten().all(|l| l.local_addr().unwrap().ip().is_loopback()));
        let error = listeners(free, 1, None).unwrap_err();
        assert!(error.to_string().contains("another proxy"), "{error}");
    }
}

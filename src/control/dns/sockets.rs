//! UDP sockets towards name servers: one query at a time on each, so that an answer that comes late meets no other query,
//! and each used for a few queries, which spares most of what a new socket costs.
//!
//! A socket is connected, so the kernel drops what comes from elsewhere. Its port is the kernel's choice and changes every
//! few queries or seconds; a forger off the path has to guess it together with a random id (RFC 5452 §9).

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

/// Queries on one port.
const MAX_USES: u32 = 16;
/// Longer than this a socket is not kept for the next query.
const MAX_IDLE: Duration = Duration::from_secs(1);
/// Sockets kept for one server.
const MAX_KEPT: usize = 16;

/// Sockets that nobody uses now.
#[derive(Debug, Default)]
pub(super) struct IdleSockets(RefCell<HashMap<SocketAddr, Vec<Idle>>>);

#[derive(Debug)]
struct Idle {
    socket: UdpSocket,
    uses: u32,
    since: Instant,
}

/// A socket for one query. Dropped, it is closed: only one whose answer has come is [kept](IdleSockets::keep).
#[derive(Debug)]
pub(super) struct Lent {
    pub(super) socket: UdpSocket,
    uses: u32,
}

impl Lent {
    /// Whether it has carried other queries before.
    pub(super) fn is_used(&self) -> bool {
        self.uses > 0
    }

    /// A socket with a port that no other query has had.
    pub(super) fn fresh(server: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(server), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
        socket.connect(&server.into())?;
        Ok(Self { socket: UdpSocket::from_std(socket.into())?, uses: 0 })
    }
}

impl IdleSockets {
    /// A kept socket, or a new one.
    pub(super) fn lend(&self, server: SocketAddr) -> io::Result<Lent> {
        let kept = self.0.borrow_mut().get_mut(&server).and_then(|idle| {
            // The oldest first, so that ports change evenly.
            idle.retain(|idle| idle.since.elapsed() < MAX_IDLE);
            (!idle.is_empty()).then(|| idle.remove(0))
        });
        match kept {
            Some(Idle { socket, uses, .. }) => Ok(Lent { socket, uses }),
            None => Lent::fresh(server),
        }
    }

    /// Takes back a socket that has nothing more to come.
    pub(super) fn keep(&self, server: SocketAddr, lent: Lent) {
        let uses = lent.uses + 1;
        let mut all = self.0.borrow_mut();
        let idle = all.entry(server).or_default();
        if uses < MAX_USES && idle.len() < MAX_KEPT {
            idle.push(Idle { socket: lent.socket, uses, since: Instant::now() });
        }
    }

    /// Closes what has been idle for long, and what leads to servers that are none any more.
    pub(super) fn sweep(&self) {
        let mut all = self.0.borrow_mut();
        for idle in all.values_mut() {
            idle.retain(|idle| idle.since.elapsed() < MAX_IDLE);
        }
        all.retain(|_, idle| !idle.is_empty());
    }
}

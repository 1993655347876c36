//! Opening connections.
//!
//! The socket exists before the operation, so its options hold from the first packet on. A dropped connect closes its
//! socket like any other: the operation is cancelled, and the descriptor goes when the kernel has let go of it.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, SockAddr, TcpKeepalive, Type};

use crate::io::driver::OpId;
use crate::io::engine::context;
use crate::io::executor::waiters::Waiters;
use crate::io::socket::Socket;
use crate::io::socket::connection::{Connection, Origin};
use crate::io::socket::operations::Operation;

/// How to open a connection. `TCP_NODELAY` is always set: what is sent has been gathered already.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConnectOptions {
    /// Keep-alive probes, so that a peer that vanished is noticed.
    pub keepalive: Option<Keepalive>,
    /// How long sent data may stay unacknowledged (`TCP_USER_TIMEOUT`).
    pub user_timeout: Option<Duration>,
    /// A firewall mark (`SO_MARK`, needs CAP_NET_ADMIN).
    pub mark: Option<u32>,
    /// The local address to connect from.
    pub source: Option<IpAddr>,
}

/// TCP keep-alive: the first probe after `idle`, then every `interval`, dead after `probes` without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    pub idle: Duration,
    pub interval: Duration,
    pub probes: u32,
}

impl Keepalive {
    /// Sets it on a socket, or on a listener for those that it accepts.
    ///
    /// # Errors
    /// `EINVAL` for values beyond the kernel's (linux/tcp.h).
    pub fn set(&self, socket: &socket2::Socket) -> io::Result<()> {
        let &Keepalive { idle, interval, probes } = self;
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(probes))
    }
}

/// A connect operation's address and outcome.
pub(in crate::io) struct Connecting {
    address: SockAddr,
    result: Cell<Option<i32>>,
    waiters: RefCell<Waiters>,
}

impl Connecting {
    pub(in crate::io) fn address(&self) -> &SockAddr {
        &self.address
    }

    fn poll_result(&self, cx: &Context<'_>) -> Poll<i32> {
        if let Some(result) = self.result.get() {
            return Poll::Ready(result);
        }
        self.waiters.borrow_mut().add(cx.waker());
        Poll::Pending
    }

    pub(in crate::io) fn on_connected(&self, result: i32) {
        self.result.set(Some(result));
        let waiting = self.waiters.borrow_mut().take();
        waiting.wake();
    }
}

impl Socket {
    /// Connects to `address`. There is no time limit but the kernel's: see [`timeout`](super::timeout).
    ///
    /// # Errors
    /// What `socket`, `setsockopt` or `connect` answer; [`io::ErrorKind::QuotaExceeded`] when as many connections are
    /// open as [`EngineOptions`](crate::io::EngineOptions) allows.
    pub async fn connect(address: SocketAddr, options: &ConnectOptions) -> io::Result<Socket> {
        let reactor = Rc::clone(&context().reactor);
        if reactor.is_at_connect_limit() {
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, "too many open upstream connections"));
        }
        let socket = open(address, options, reactor.options.socket_buffer)?;
        let connection = Connection::new(Rc::clone(&reactor), socket.into(), Origin::Connected);
        let socket = Socket::new(Rc::clone(&connection));
        let (result, waiters) = (Cell::new(None), RefCell::default());
        let connecting = Rc::new(Connecting { address: address.into(), result, waiters });
        let id = reactor.start(Operation::Connect(connection, Rc::clone(&connecting)));
        let attempt = Attempt { id, socket: &socket, connecting: &connecting };
        let result = poll_fn(|cx| connecting.poll_result(cx)).await;
        drop(attempt);
        if result < 0 {
            return Err(io::Error::from_raw_os_error(-result));
        }
        confirm(&socket)?;
        Ok(socket)
    }
}

/// An ICMP error ("host unreachable") ends the operation with success while the SYN is still unanswered: the kernel takes
/// the error for a passing one and reports it to whoever asks the socket (seen on Linux 6.18).
fn confirm(socket: &Socket) -> io::Result<()> {
    // ENOTCONN in every state before the connection is established, and after its end.
    socket.peer_addr().map(drop).map_err(|unconnected| socket.take_error().unwrap_or(unconnected))
}

/// Cancels the operation when the caller loses interest.
struct Attempt<'a> {
    id: OpId,
    socket: &'a Socket,
    connecting: &'a Connecting,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.connecting.result.get().is_none() {
            self.socket.connection.reactor.cancel(self.id);
        }
    }
}

fn open(address: SocketAddr, options: &ConnectOptions, buffer: Option<u32>) -> io::Result<socket2::Socket> {
    let kind = Type::STREAM.cloexec();
    let socket = socket2::Socket::new_raw(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    if let Some(bytes) = buffer {
        socket.set_send_buffer_size(bytes as usize)?;
        socket.set_recv_buffer_size(bytes as usize)?;
    }
    if let Some(keepalive) = options.keepalive {
        keepalive.set(&socket)?;
    }
    if options.user_timeout.is_some() {
        socket.set_tcp_user_timeout(options.user_timeout)?;
    }
    if let Some(mark) = options.mark {
        socket.set_mark(mark)?;
    }
    if let Some(source) = options.source {
        // The port is chosen at connect, by the whole 4-tuple, or ports would run out at 28,000 connections.
        setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    Ok(socket)
}

//! A connected TCP socket in the hands of a task.
//!
//! All methods take `&self`, so that both directions can be in progress at once. Futures may be dropped at any time:
//! what arrived stays queued, what was queued is still sent. It refuses to know what the bytes mean.

pub(in crate::io) mod batch;
pub(in crate::io) mod connect;
pub(in crate::io) mod connection;
pub(in crate::io) mod listener;
pub(in crate::io) mod operations;
pub(in crate::io) mod receive;
pub(in crate::io) mod send;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::io::buffers::Lease;
use crate::io::socket::batch::SendBuf;
use crate::io::socket::connection::Connection;
use crate::io::socket::receive::PeekState;

/// A TCP connection.
///
/// When it is dropped, bytes that are still queued get the engine's linger time to leave; then the connection is
/// closed, by a reset if they did not: the peer must not take what it has for all. See [`abort`](Self::abort) for a reset
/// at once.
pub struct Socket {
    pub(in crate::io) connection: Rc<Connection>,
}

impl Socket {
    pub(in crate::io) fn new(connection: Rc<Connection>) -> Self {
        Self { connection }
    }

    /// The next bytes; `None` after the peer's FIN, again and again. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The connection's error, after the bytes that preceded it.
    pub fn recv(&self) -> Recv<'_> {
        Recv { socket: self }
    }

    /// As [`recv`](Self::recv), for a future that waits for other things as well.
    pub fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Lease>>> {
        self.connection.poll_receive(cx)
    }

    /// What has arrived, without waiting. The first call begins to watch the connection.
    pub fn peek_state(&self) -> PeekState {
        self.connection.peek()
    }

    /// Resolves when there is something to receive, or the peer has closed or reset the connection. Consumes nothing.
    pub fn readable(&self) -> Readable<'_> {
        Readable { socket: self }
    }

    /// Resolves when the peer has finished sending (FIN), or with the error when the connection has failed; whatever is
    /// still unread. Consumes nothing.
    pub fn ended(&self) -> Ended<'_> {
        Ended { socket: self }
    }

    /// Whether nothing receives at the moment, since what came is not taken: the peer's end would not be noticed.
    pub fn is_resting(&self) -> bool {
        self.connection.is_resting()
    }

    /// What the kernel has to report and has not reported yet (`SO_ERROR`): a reset that came behind a FIN, of which
    /// no receive tells, or while nothing [receives](Self::is_resting). Told once.
    pub fn take_error(&self) -> Option<io::Error> {
        self.connection.ask(|driver, socket| driver.take_error(socket))
    }

    /// Whether nothing at all has arrived that was not received, the peer's end included: asked of the kernel itself,
    /// which knows what the engine will hear of only at its next turn.
    pub fn is_quiet(&self) -> bool {
        self.connection.ask(|driver, socket| driver.is_quiet(socket))
    }

    /// Tells the engine that `bytes` more are expected, so that they can be received in few, large pieces. A hint: a
    /// wrong one costs speed only. `0` takes it back.
    pub fn expect_bulk(&self, bytes: u64) {
        self.connection.expect_bulk(bytes);
    }

    /// The same where nobody knows how much more will come. With `streams` it has been coming for long, and may wait for the
    /// time that a busy worker waits.
    pub fn expect_more(&self, streams: bool) {
        self.connection.expect_more(streams);
    }

    /// Gives back the room that queues keep for more: nothing is expected for a while.
    pub fn relax(&self) {
        self.connection.relax_receive();
        self.connection.relax_send();
    }

    /// Queues `bytes` now, after everything queued before; dropping the future does not take them back. The future
    /// resolves when the queue is below the high-water mark.
    ///
    /// # Errors
    /// The connection's error, or `EPIPE` after [`shutdown_write`](Self::shutdown_write); the bytes are lost then.
    pub fn send(&self, bytes: impl Into<SendBuf>) -> SendFuture<'_> {
        self.connection.enqueue(bytes.into());
        SendFuture { socket: self }
    }

    /// Ready when the queue is below the high-water mark, for a future that sends as it can.
    ///
    /// # Errors
    /// The connection's error, or `EPIPE` after [`shutdown_write`](Self::shutdown_write).
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.connection.poll_room(cx)
    }

    /// Resolves when the kernel has taken everything that was queued.
    ///
    /// # Errors
    /// The connection's error.
    pub fn flush(&self) -> FlushFuture<'_> {
        FlushFuture { socket: self }
    }

    /// Bytes queued that the kernel has not confirmed to have taken.
    pub fn unsent(&self) -> usize {
        self.connection.unsent()
    }

    /// Whether the kernel has found no room for what is queued here: the peer reads slowly.
    pub fn is_stalled(&self) -> bool {
        self.connection.is_stalled()
    }

    /// Bytes that the peer has not acknowledged, queued here or taken by the kernel; 0 once it can acknowledge nothing more.
    /// Costs system calls.
    pub fn undelivered(&self) -> usize {
        // A connection that the peer has reset keeps its sequence numbers, but has no peer any more.
        if self.connection.has_failed() || self.peer_addr().is_err() {
            return 0;
        }
        self.connection.unsent() + self.connection.ask(|driver, socket| driver.unacknowledged(socket))
    }

    /// Sends a FIN after everything that is queued; resolves when both are done. Once polled it happens in any case.
    ///
    /// # Errors
    /// The connection's error.
    pub async fn shutdown_write(&self) -> io::Result<()> {
        self.connection.finish();
        self.flush().await
    }

    /// Resets the connection (RST), for errors that the peer must see as such. What is queued is dropped.
    pub fn abort(self) {
        self.connection.reset_at_close();
        self.connection.give_up_sending();
    }

    /// # Errors
    /// None that a connected socket is known to give.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.connection.ask(|driver, socket| driver.local_addr(socket))
    }

    /// # Errors
    /// `ENOTCONN` when the peer has reset the connection.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.connection.ask(|driver, socket| driver.peer_addr(socket))
    }

    /// Where the client meant to connect before a REDIRECT rule sent it here: `SO_ORIGINAL_DST`
    /// (linux/netfilter_ipv4.h), or its IPv6 sibling when the connection is IPv6 and not a mapped IPv4 one, which the
    /// client's own address ([`peer_addr`](Self::peer_addr)) tells.
    ///
    /// # Errors
    /// `ENOENT` when the connection is not known to conntrack; `ENOPROTOOPT` when conntrack is not loaded.
    pub fn original_dst(&self, client: SocketAddr) -> io::Result<SocketAddr> {
        self.connection.ask(|driver, socket| driver.original_dst(socket, client))
    }

    /// Bytes that have arrived since the connection was opened, read or not.
    pub fn bytes_received(&self) -> u64 {
        self.connection.received()
    }

    /// Bytes that the kernel has taken since the connection was opened.
    pub fn bytes_sent(&self) -> u64 {
        self.connection.sent()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.connection.close();
    }
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Socket(fd {})", self.connection.descriptor())
    }
}

/// See [`Socket::recv`].
#[must_use = "futures do nothing unless polled"]
pub struct Recv<'a> {
    socket: &'a Socket,
}

impl Future for Recv<'_> {
    type Output = io::Result<Option<Lease>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.socket.poll_recv(cx)
    }
}

/// See [`Socket::readable`].
#[must_use = "futures do nothing unless polled"]
pub struct Readable<'a> {
    socket: &'a Socket,
}

impl Future for Readable<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.socket.connection.poll_readable(cx)
    }
}

/// See [`Socket::ended`].
#[must_use = "futures do nothing unless polled"]
pub struct Ended<'a> {
    socket: &'a Socket,
}

impl Future for Ended<'_> {
    type Output = io::Result<()>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.connection.poll_ended(cx)
    }
}

/// See [`Socket::send`].
#[must_use = "the bytes are queued already, but an error and back-pressure are only seen by awaiting"]
pub struct SendFuture<'a> {
    socket: &'a Socket,
}

impl Future for SendFuture<'_> {
    type Output = io::Result<()>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.connection.poll_room(cx)
    }
}

/// See [`Socket::flush`].
#[must_use = "futures do nothing unless polled"]
pub struct FlushFuture<'a> {
    socket: &'a Socket,
}

impl Future for FlushFuture<'_> {
    type Output = io::Result<()>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.connection.poll_flushed(cx)
    }
}

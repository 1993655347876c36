//! Accepting connections.
//!
//! One multishot accept while there is much room; each completion is a descriptor that is owned from that moment on. When descriptors or memory
//! run out, or as many connections are open as allowed, accepting pauses: clients wait in the kernel's backlog. It goes
//! on when a connection closes or a little later, never at once, so that a shortage does not become a busy loop.

#![allow(
    unsafe_code,
    reason = "a completion's result becomes the owner of its descriptor; an option without a safe wrapper"
)]

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use socket2::SockRef;

use crate::io::driver::{Completion, OpId};
use crate::io::engine::context;
use crate::io::executor::waiters::Waiters;
use crate::io::reactor::{Alarm, Reactor};
use crate::io::socket::Socket;
use crate::io::socket::connect::Keepalive;
use crate::io::socket::connection::{Connection, Origin};
use crate::io::socket::operations::Operation;

/// Accepted connections that no task has taken yet; at this many, accepting pauses.
const MAX_WAITING: usize = 256;

/// While fewer connections than this may still be accepted, they are accepted one by one: a multishot accept takes all
/// that wait before it can be stopped, and with them the descriptors that were kept for other things.
const MANY_FROM: usize = 512;

/// When nothing of ours closes, a shortage of descriptors (another process's, say) is looked at again after this time.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(100);

/// What no packet's remaining hops reach: senders begin with 64, so the kernel drops it (RFC 5082 asks for no less).
const NO_PACKET: libc::c_int = 255;

/// A listening socket.
pub struct Listener {
    accepting: Rc<Accepting>,
}

/// The listening socket as the engine sees it.
pub(in crate::io) struct Accepting {
    listener: TcpListener,
    reactor: Rc<Reactor>,
    state: RefCell<State>,
    /// Connections that it accepts may have inherited that they take no packet.
    was_held_back: Cell<bool>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Socket>,
    arming: AcceptState,
    error: Option<i32>,
    closing: bool,
    waiters: Waiters,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum AcceptState {
    #[default]
    Off,
    Armed(OpId),
    Cancelling,
    /// Waits for a connection to close, or for the pause to end.
    Paused,
}

impl Listener {
    /// Takes over a bound, listening socket. Accepting begins with the first [`accept`](Self::accept).
    ///
    /// # Errors
    /// `setsockopt`'s.
    pub fn from_std(listener: TcpListener) -> io::Result<Self> {
        // Inherited by the sockets that it accepts, which saves each of them a system call.
        SockRef::from(&listener).set_tcp_nodelay(true)?;
        let reactor = Rc::clone(&context().reactor);
        if let Some(bytes) = reactor.options.socket_buffer {
            SockRef::from(&listener).set_send_buffer_size(bytes as usize)?;
            SockRef::from(&listener).set_recv_buffer_size(bytes as usize)?;
        }
        Ok(Self {
            accepting: Rc::new(Accepting {
                listener,
                reactor,
                state: RefCell::default(),
                was_held_back: Cell::new(false),
            }),
        })
    }

    /// The next connection. Dropping the future loses none.
    ///
    /// # Errors
    /// Only those that make the listener itself useless; a connection that failed before it was accepted is skipped,
    /// and a shortage of descriptors is waited out.
    pub async fn accept(&self) -> io::Result<Socket> {
        poll_fn(|cx| {
            let mut state = self.accepting.state.borrow_mut();
            if let Some(socket) = state.queue.pop_front() {
                drop(state);
                self.accepting.arm();
                return Poll::Ready(Ok(socket));
            }
            if let Some(errno) = state.error {
                return Poll::Ready(Err(io::Error::from_raw_os_error(errno)));
            }
            state.waiters.add(cx.waker());
            drop(state);
            self.accepting.arm();
            Poll::Pending
        })
        .await
    }

    /// # Errors
    /// None that a listening socket is known to give.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.accepting.listener.local_addr()
    }

    /// From now on accepted connections have these keep-alive probes, or none. They inherit it, which saves each of them four
    /// system calls.
    ///
    /// # Errors
    /// `EINVAL` for values beyond the kernel's (linux/tcp.h).
    pub fn set_keepalive(&self, keepalive: Option<Keepalive>) -> io::Result<()> {
        let socket = SockRef::from(&self.accepting.listener);
        match keepalive {
            Some(keepalive) => keepalive.set(&socket),
            None => socket.set_keepalive(false),
        }
    }

    /// With `true`, no handshake is answered any more, while connections that wait in the backlog are still accepted. So
    /// a listener can be closed without resetting anyone: whoever comes meanwhile asks again, and learns then whether
    /// somebody listens. With `false`, handshakes go on.
    ///
    /// # Errors
    /// None that a listening socket of the internet is known to give. It takes no privilege: a socket filter would, where
    /// unprivileged BPF is closed.
    pub fn hold_back(&self, hold: bool) -> io::Result<()> {
        let accepting = &self.accepting;
        accepting.was_held_back.set(accepting.was_held_back.get() || hold);
        set_least_hops(accepting.descriptor(), accepting.listener.local_addr()?, if hold { NO_PACKET } else { 0 })
    }
}

/// Packets with fewer remaining hops (IP's TTL, IPv6's hop limit) are dropped before the socket sees them.
fn set_least_hops(descriptor: RawFd, local: SocketAddr, hops: libc::c_int) -> io::Result<()> {
    let (level, option) = match local {
        SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_MINTTL),
        SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT),
    };
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the value is an int, as both options want it, and is read during the call only.
    let result = unsafe { libc::setsockopt(descriptor, level, option, (&raw const hops).cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut state = self.accepting.state.borrow_mut();
        state.closing = true;
        let waiting = std::mem::take(&mut state.queue);
        if let AcceptState::Armed(id) = state.arming {
            state.arming = AcceptState::Cancelling;
            self.accepting.reactor.cancel(id);
        }
        drop(state);
        drop(waiting);
    }
}

impl Drop for Accepting {
    fn drop(&mut self) {
        self.reactor.forget(self.descriptor());
    }
}

impl Accepting {
    pub(in crate::io) fn descriptor(&self) -> RawFd {
        self.listener.as_raw_fd()
    }

    /// Starts the accept unless it runs, is paused, or nothing may be accepted.
    pub(in crate::io) fn arm(self: &Rc<Self>) {
        let mut state = self.state.borrow_mut();
        if state.arming != AcceptState::Off
            || state.error.is_some()
            || state.closing
            || state.queue.len() >= MAX_WAITING
        {
            return;
        }
        if self.reactor.is_closed() {
            state.error = Some(libc::ESHUTDOWN);
            return;
        }
        let room = self.reactor.accept_room();
        if room == 0 {
            state.arming = AcceptState::Paused;
            self.reactor.pause(self);
            return;
        }
        let accept = Operation::Accept(Rc::clone(self), room >= MANY_FROM);
        state.arming = AcceptState::Armed(self.reactor.start(accept));
    }

    /// The reason for a pause may have gone.
    pub(in crate::io) fn resume(self: &Rc<Self>) {
        {
            let mut state = self.state.borrow_mut();
            if state.arming != AcceptState::Paused {
                return;
            }
            state.arming = AcceptState::Off;
        }
        self.arm();
    }

    pub(in crate::io) fn on_accept(self: &Rc<Self>, done: &Completion) {
        let accepted = (done.result >= 0).then(|| {
            // SAFETY: the kernel has just opened this descriptor for this completion, and nobody else knows it.
            let fd = unsafe { OwnedFd::from_raw_fd(done.result) };
            if self.was_held_back.get()
                && let Ok(local) = self.listener.local_addr()
            {
                // What the peer has sent meanwhile it sends again.
                let _ = set_least_hops(fd.as_raw_fd(), local, 0);
            }
            Socket::new(Connection::new(Rc::clone(&self.reactor), fd, Origin::Accepted))
        });
        let mut state = self.state.borrow_mut();
        if !done.more {
            state.arming = AcceptState::Off;
        }
        if state.closing {
            drop(state);
            return drop(accepted);
        }
        match accepted {
            Some(socket) => state.queue.push_back(socket),
            None => self.on_accept_error(-done.result, &mut state),
        }
        if let AcceptState::Armed(id) = state.arming
            && (state.queue.len() >= MAX_WAITING || self.reactor.accept_room() < MANY_FROM)
        {
            state.arming = AcceptState::Cancelling;
            self.reactor.cancel(id);
        }
        let news = !state.queue.is_empty() || state.error.is_some();
        let waiting = if news { state.waiters.take() } else { Waiters::default() };
        drop(state);
        self.arm();
        waiting.wake();
    }

    fn on_accept_error(self: &Rc<Self>, errno: i32, state: &mut State) {
        match errno {
            libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM => {
                state.arming = AcceptState::Paused;
                self.reactor.pause(self);
                self.reactor.set_alarm(SHORTAGE_PAUSE, Alarm::ResumeAccepting);
            }
            libc::EBADF | libc::EINVAL | libc::ENOTSOCK | libc::EOPNOTSUPP | libc::EFAULT => state.error = Some(errno),
            // accept(2): errors of the connection that was to be accepted, and our own cancellation.
            _ => {}
        }
    }
}

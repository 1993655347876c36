//! The side of an application: requests of one connection, each a stream with a task of its own.
//!
//! ```text
//!  Serving ── idle, or the process drains ──► GoingAway ── last stream over ──► closed
//!     │        GOAWAY(2^31-1), PING,             │
//!     │        then GOAWAY(last stream)          └── too slow ──► ended
//!     └── flooded, or the protocol broken ─────────────────────► ended, GOAWAY with the reason
//! ```
//!
//! It knows neither what requests mean nor where they go: that is for `handle`, which is told when its stream is over and is
//! never dropped in the middle.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use h2::Reason;
use http::request::Parts;
use tokio::io::{AsyncRead, AsyncWrite};

use super::limits::Limits;
use super::outgoing::Piece;
use super::received_body::ReceivedBody;
use super::request_head::{Beside, Unfit, canonical_limits, needs_websocket_key, write_request_head};
use super::responder::Responder;
use super::stream_error::reason_name;
use super::wire::{Side, Wire, WireState};
use crate::http::{HeadLimits, Parsed, RequestError, RequestHead, parse_request, websocket_key};
use crate::io::{self, Sleep};

/// One request.
pub struct Incoming {
    pub parts: Parts,
    pub body: ReceivedBody,
    pub responder: Responder,
    /// RFC 9113 §5.1.1.
    pub stream_id: u32,
}

/// Why a request is not served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unserved {
    /// The header block.
    #[error("{0}")]
    Block(#[from] Unfit),
    /// The request that it stands for; it is answered as in HTTP/1.
    #[error("{0}")]
    Request(#[from] RequestError),
}

impl Incoming {
    /// The request as the head of HTTP/1.1 that asks for the same, and what that says. `nonce` is asked for where the head
    /// needs a key of WebSocket.
    ///
    /// # Errors
    /// Why it is not served.
    pub fn head(
        &self,
        limits: HeadLimits,
        nonce: impl FnOnce() -> [u8; 16],
    ) -> Result<(Vec<u8>, RequestHead), Unserved> {
        let mut raw = Vec::with_capacity(512);
        let key = needs_websocket_key(&self.parts).then(|| websocket_key(nonce()));
        let beside = Beside { is_over: self.body.is_over(), websocket_key: key.as_deref() };
        write_request_head(&self.parts, beside, limits, &mut raw)?;
        match parse_request(&raw, canonical_limits(limits))? {
            Parsed::Complete { head, length } if length == raw.len() => Ok((raw, head)),
            // A complete head was written; that it is none would be a mistake of ours, and is refused as the peer's.
            Parsed::Complete { .. } | Parsed::Partial => {
                Err(Unfit::Malformed("the head has more than one reading").into())
            }
        }
    }
}

/// How long a connection may do nothing, and how long its end may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerClocks {
    /// Without a stream.
    pub idle: Duration,
    /// From GOAWAY to the end of the last stream.
    pub drain: Duration,
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerEnd {
    /// The peer closed it, or it was drained.
    Orderly,
    /// It was idle.
    Idle,
    /// The peer sent too many frames that carry nothing.
    Flooded,
    /// What was left when the time for the end was over has been cut off.
    Overdue,
    /// The peer broke the protocol, or the connection itself.
    Failed(String),
}

/// Serves a connection to its end. `drain` resolves when no further requests are wanted.
///
/// Each request becomes a task that runs `handle`; all of them have ended when this returns.
pub async fn serve<T, H>(
    io: T,
    limits: &Limits,
    clocks: ServerClocks,
    drain: impl Future<Output = ()>,
    mut handle: impl FnMut(Incoming) -> H,
) -> ServerEnd
where
    T: AsyncRead + AsyncWrite + Unpin,
    H: Future<Output = ()> + 'static,
{
    let (wire, state) = Wire::new(io, Side::Server, limits);
    let handshake = io::timeout(clocks.idle, limits.server().handshake::<_, Piece>(wire)).await;
    let connection = match handshake {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return ServerEnd::Failed(error.to_string()),
        Err(io::Elapsed) => return ServerEnd::Idle,
    };
    let running = Rc::new(Running::default());
    let mut server = Server {
        connection,
        wire: state,
        running: Rc::clone(&running),
        clock: Box::pin(io::sleep(clocks.idle)),
        phase: Phase::Serving,
        idle_since: io::now(),
        clocks,
    };
    let mut drain = std::pin::pin!(drain);
    let mut drain_begun = false;
    let end = poll_fn(|cx| {
        if !drain_begun && drain.as_mut().poll(cx).is_ready() {
            drain_begun = true;
            server.go_away(ServerEnd::Orderly);
        }
        server.poll(
            cx,
            |incoming, running| {
                let (task, guard) = (handle(incoming), running);
                io::spawn(async move {
                    task.await;
                    drop(guard);
                });
            },
            limits.send_buffer,
        )
    })
    .await;
    // With the connection gone every stream is over, and whoever handles one is told.
    drop(server);
    poll_fn(|cx| running.poll_none(cx)).await;
    end
}

/// The tasks of a connection that have not ended.
#[derive(Default)]
struct Running {
    count: Cell<usize>,
    waiting: RefCell<Option<Waker>>,
}

impl Running {
    fn begin(self: &Rc<Self>) -> RunningTask {
        self.count.set(self.count.get() + 1);
        RunningTask(Rc::clone(self))
    }

    /// Ready when there is none.
    fn poll_none(&self, cx: &Context<'_>) -> Poll<()> {
        if self.count.get() == 0 {
            return Poll::Ready(());
        }
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *waiting = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

struct RunningTask(Rc<Running>);

impl Drop for RunningTask {
    fn drop(&mut self) {
        self.0.count.set(self.0.count.get() - 1);
        if self.0.count.get() == 0
            && let Some(waiting) = self.0.waiting.take()
        {
            waiting.wake();
        }
    }
}

enum Phase {
    Serving,
    /// GOAWAY has been sent; how it ends when all is well.
    GoingAway(ServerEnd),
}

struct Server<T> {
    connection: h2::server::Connection<Wire<T>, Piece>,
    wire: Rc<WireState>,
    running: Rc<Running>,
    /// Idle while serving, the end of the drain afterwards.
    clock: Pin<Box<Sleep>>,
    phase: Phase,
    idle_since: Instant,
    clocks: ServerClocks,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Server<T> {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut begin: impl FnMut(Incoming, RunningTask),
        send_buffer: usize,
    ) -> Poll<ServerEnd> {
        loop {
            match self.connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, stream)))) => {
                    let (parts, body) = request.into_parts();
                    let stream_id = stream.stream_id().as_u32();
                    let (body, responder) = (ReceivedBody::new(body), Responder::new(stream, send_buffer));
                    begin(Incoming { parts, body, responder, stream_id }, self.running.begin());
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(self.failed(&error)),
                Poll::Ready(None) => return Poll::Ready(self.closed()),
                Poll::Pending => break,
            }
        }
        if let Poll::Ready(reason) = self.wire.poll_refused(cx)
            && !self.is_refused()
        {
            self.connection.abrupt_shutdown(reason);
            self.enter(match reason {
                Reason::ENHANCE_YOUR_CALM => ServerEnd::Flooded,
                reason => ServerEnd::Failed(reason_name(reason).to_owned()),
            });
            cx.waker().wake_by_ref();
        }
        self.poll_clock(cx)
    }

    fn poll_clock(&mut self, cx: &mut Context<'_>) -> Poll<ServerEnd> {
        let is_idle = self.running.poll_none(cx).is_ready();
        if !is_idle {
            self.idle_since = io::now();
        }
        loop {
            if self.clock.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            match &self.phase {
                Phase::GoingAway(end) => {
                    let end = if self.running.count.get() > 0 { ServerEnd::Overdue } else { end.clone() };
                    return Poll::Ready(end);
                }
                Phase::Serving => {
                    let over = self.idle_since + self.clocks.idle;
                    if io::now() < over {
                        self.clock = Box::pin(io::sleep_until(over));
                    } else if is_idle {
                        self.go_away(ServerEnd::Idle);
                        cx.waker().wake_by_ref();
                    }
                }
            }
        }
    }

    /// Takes no further streams; those that run may end.
    fn go_away(&mut self, end: ServerEnd) {
        if matches!(self.phase, Phase::Serving) {
            self.connection.graceful_shutdown();
            self.enter(end);
        }
    }

    fn enter(&mut self, end: ServerEnd) {
        self.phase = Phase::GoingAway(end);
        self.clock = Box::pin(io::sleep(self.clocks.drain));
    }

    /// Whether the peer has been sent away.
    fn is_refused(&self) -> bool {
        matches!(self.phase, Phase::GoingAway(ServerEnd::Flooded | ServerEnd::Failed(_)))
    }

    fn closed(&self) -> ServerEnd {
        match &self.phase {
            Phase::Serving => ServerEnd::Orderly,
            Phase::GoingAway(end) => end.clone(),
        }
    }

    fn failed(&self, error: &h2::Error) -> ServerEnd {
        match &self.phase {
            Phase::GoingAway(end @ (ServerEnd::Flooded | ServerEnd::Failed(_))) => end.clone(),
            _ => ServerEnd::Failed(error.to_string()),
        }
    }
}

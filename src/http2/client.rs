//! The side of a server: one connection that carries many requests.
//!
//! [`connect`] gives a [`ClientConnection`], on which streams are opened, and a [`Driver`], which must run for anything to
//! happen on it. The connection closes in order when its handle and its streams are gone. It knows no pool and no name.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use h2::client::{ResponseFuture, SendRequest};
use http::Request;
use http::response::Parts;
use tokio::io::{AsyncRead, AsyncWrite};

use super::keepalive::{KeepaliveClocks, PingKeepalive};
use super::limits::Limits;
use super::outgoing::{Piece, Queued};
use super::received_body::ReceivedBody;
use super::response_head::has_no_body;
use super::sent_body::SentBody;
use super::stream_error::StreamError;
use super::wire::{Side, Wire, WireState};

/// Begins HTTP/2 on `io`: the preface and our settings are sent at once, requests may follow.
///
/// # Errors
/// The connection's.
pub async fn connect<T: AsyncRead + AsyncWrite + Unpin>(
    io: T,
    limits: &Limits,
    keepalive: Option<KeepaliveClocks>,
) -> Result<(Rc<ClientConnection>, Driver<T>), StreamError> {
    let (wire, state) = Wire::new(io, Side::Client, limits);
    let (send, mut connection) =
        limits.client().handshake::<_, Piece>(wire).await.map_err(|error| StreamError::of(&error))?;
    let pings = keepalive.and_then(|clocks| connection.ping_pong().map(|pings| (clocks, pings)));
    let keepalive = pings.map(|(clocks, pings)| PingKeepalive::new(clocks, pings, Rc::clone(&state)));
    let end = Rc::new(RefCell::new(None));
    let driver = Driver { connection, wire: Rc::clone(&state), keepalive, end: Rc::clone(&end) };
    let handle = ClientConnection {
        send,
        active: Rc::default(),
        opened: Cell::new(0),
        is_draining: Cell::new(false),
        send_buffer: limits.send_buffer,
        wire: state,
        end,
    };
    Ok((Rc::new(handle), driver))
}

/// A connection to a server.
pub struct ClientConnection {
    send: SendRequest<Piece>,
    active: Rc<Cell<usize>>,
    opened: Cell<u32>,
    is_draining: Cell<bool>,
    send_buffer: usize,
    wire: Rc<WireState>,
    end: Rc<RefCell<Option<ClientEnd>>>,
}

/// How a connection to a server ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientEnd {
    /// By the server, or because nobody had a use for it.
    #[error("the connection was closed")]
    Closed,
    /// The server did not answer a PING in time.
    #[error("the server did not answer a PING in time")]
    Silent,
    /// The server sent too many frames that carry nothing.
    #[error("the server sent too many frames that carry nothing")]
    Flooded,
    /// The server broke the protocol, or the connection itself.
    #[error("{0}")]
    Failed(String),
}

impl ClientConnection {
    /// Streams that are open.
    #[must_use]
    pub fn active(&self) -> usize {
        self.active.get()
    }

    /// Streams that have been opened since the connection was.
    #[must_use]
    pub fn opened(&self) -> u32 {
        self.opened.get()
    }

    /// Streams that the server allows at once; 100 until it has said.
    #[must_use]
    pub fn allowed(&self) -> usize {
        self.send.current_max_send_streams()
    }

    /// Whether the server takes extended CONNECT (RFC 8441). False until it has said.
    #[must_use]
    pub fn takes_extended_connect(&self) -> bool {
        self.send.is_extended_connect_protocol_enabled()
    }

    /// Whether the server has said what it allows, or the connection has ended.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.wire.is_settled()
    }

    /// Resolves when the server has said what it allows, or the connection has ended.
    pub fn settled(&self) -> impl Future<Output = ()> {
        poll_fn(|cx| self.wire.poll_settled(cx))
    }

    /// Takes no further streams from now on.
    pub fn drain(&self) {
        self.is_draining.set(true);
    }

    /// Whether a stream may be opened: neither side is going away, and the connection stands.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        let says_so = self.send.clone().poll_ready(&mut Context::from_waker(Waker::noop()));
        !self.is_draining.get() && self.end.borrow().is_none() && !matches!(says_so, Poll::Ready(Err(_)))
    }

    /// How the connection ended, if it has.
    #[must_use]
    pub fn end(&self) -> Option<ClientEnd> {
        self.end.borrow().clone()
    }

    /// Sends the head of a request; `is_last`: it has no body.
    ///
    /// # Errors
    /// [`StreamError::Unprocessed`]: nothing was sent.
    pub fn open(&self, request: Request<()>, is_last: bool) -> Result<ClientStream, StreamError> {
        let sent = self.send.clone().send_request(request, is_last);
        let (future, stream) = sent.map_err(|error| StreamError::Unprocessed(error.to_string()))?;
        self.opened.set(self.opened.get().saturating_add(1));
        Ok(ClientStream {
            stream_id: stream.stream_id().as_u32(),
            sent: SentBody::new(stream, Queued::new(self.send_buffer), is_last),
            received: ClientResponse { state: Awaited::Head(future) },
            open: OpenStream::begin(&self.active),
        })
    }
}

/// One request on a connection, and its response. Dropped before both are over, it is cancelled (`CANCEL`).
pub struct ClientStream {
    pub sent: SentBody,
    pub received: ClientResponse,
    /// RFC 9113 §5.1.1.
    pub stream_id: u32,
    open: OpenStream,
}

impl ClientStream {
    /// Both directions by themselves, and what counts the stream for as long as it lives.
    #[must_use]
    pub fn into_halves(self) -> (SentBody, ClientResponse, OpenStream) {
        (self.sent, self.received, self.open)
    }
}

/// One open stream in the connection's count.
pub struct OpenStream(Rc<Cell<usize>>);

impl OpenStream {
    fn begin(active: &Rc<Cell<usize>>) -> Self {
        active.set(active.get() + 1);
        Self(Rc::clone(active))
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// The head of a response.
#[derive(Debug)]
pub enum ResponseParts {
    /// 100 to 199: another follows (RFC 9110 §15.2).
    Interim(Parts),
    Final(Parts),
}

/// The response to a request.
pub struct ClientResponse {
    state: Awaited,
}

enum Awaited {
    Head(ResponseFuture),
    Body(ReceivedBody),
}

impl ClientResponse {
    /// The next head, to be asked for until it is the final one.
    ///
    /// # Errors
    /// Why there is none.
    pub fn head(&mut self) -> impl Future<Output = Result<ResponseParts, StreamError>> {
        poll_fn(|cx| self.poll_head(cx))
    }

    /// As [`head`](Self::head), for a future that waits for other things as well.
    pub fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseParts, StreamError>> {
        let Awaited::Head(future) = &mut self.state else {
            return Poll::Ready(Err(StreamError::Protocol("the final head has been read".to_owned())));
        };
        match future.poll_informational(cx) {
            Poll::Ready(Some(Ok(interim))) => {
                return Poll::Ready(Ok(ResponseParts::Interim(interim.into_parts().0)));
            }
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(StreamError::of(&error))),
            Poll::Ready(None) => {}
            Poll::Pending => return Poll::Pending,
        }
        let response =
            std::task::ready!(std::pin::Pin::new(future).poll(cx)).map_err(|error| StreamError::of(&error))?;
        let (parts, body) = response.into_parts();
        let mut body = ReceivedBody::new(body);
        if has_no_body(parts.status.as_u16()) {
            body.expect_nothing();
        }
        self.state = Awaited::Body(body);
        Poll::Ready(Ok(ResponseParts::Final(parts)))
    }

    /// Whether nothing more comes.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(&self.state, Awaited::Body(body) if body.is_over())
    }

    /// The body, once the final head has been read.
    pub fn body(&mut self) -> Option<&mut ReceivedBody> {
        match &mut self.state {
            Awaited::Body(body) => Some(body),
            Awaited::Head(_) => None,
        }
    }
}

/// Runs a connection.
#[must_use = "nothing happens on a connection that is not driven"]
pub struct Driver<T> {
    connection: h2::client::Connection<Wire<T>, Piece>,
    wire: Rc<WireState>,
    keepalive: Option<PingKeepalive>,
    end: Rc<RefCell<Option<ClientEnd>>>,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Driver<T> {
    /// Runs the connection to its end. Streams that are open then fail.
    pub async fn run(mut self) -> ClientEnd {
        let end = poll_fn(|cx| self.poll(cx)).await;
        *self.end.borrow_mut() = Some(end.clone());
        self.wire.settle();
        end
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ClientEnd> {
        match std::pin::Pin::new(&mut self.connection).poll(cx) {
            Poll::Ready(Ok(())) => return Poll::Ready(ClientEnd::Closed),
            Poll::Ready(Err(error)) => return Poll::Ready(ClientEnd::Failed(error.to_string())),
            Poll::Pending => {}
        }
        if self.wire.poll_refused(cx).is_ready() {
            return Poll::Ready(ClientEnd::Flooded);
        }
        match &mut self.keepalive {
            Some(keepalive) => keepalive.poll_gone(cx).map(|()| ClientEnd::Silent),
            None => Poll::Pending,
        }
    }
}

//! One connection as the proxy sees it: plaintext in, plaintext out, whatever the wire carries.
//!
//! The application's side is always [`Stream::plaintext`]; the upstream's side may hold a TLS session, whose records are
//! opened and sealed here. A stream knows nothing of HTTP, pools or policy. Both directions may be in use at once.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use futures_lite::future;
use rustls::pki_types::ServerName;

use super::admission::{Share, Slot};
use crate::io::{Lease, PeekState, SendBuf, SendFuture, Socket};
use crate::tls::{Negotiated, Session, TlsError};

/// Why a stream ended other than by the peer's orderly close.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The kernel reported it: reset, broken pipe, timed out.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The TLS session failed, or the peer ended it with an alert.
    #[error("{0}")]
    Tls(#[from] TlsError),
    /// An HTTP server sent bytes before it was asked anything.
    #[error("the server sent data before it was asked anything")]
    SpokeFirst,
}

impl StreamError {
    /// Whether the peer reset the connection.
    #[must_use]
    pub fn is_reset(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::ConnectionReset)
    }
}

/// How long a connection that is to be reset may still hand over what is queued.
const ABORT_FLUSH: Duration = Duration::from_secs(1);

/// How long a peer may take nothing of what it is still to get. An application that reads slowly has this long between two
/// of its reads.
const STANDSTILL: Duration = Duration::from_secs(60);

/// When to look first whether it has taken some.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// How often the kernel is asked about a peer that has finished sending.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// A connected byte stream.
pub struct Stream {
    socket: Socket,
    /// Boxed: the application's connections have none.
    tls: Option<Box<RefCell<Session>>>,
    /// Plaintext that was opened and not asked for yet: what one receive brought.
    opened: RefCell<VecDeque<Lease>>,
    /// Its place among the connections of a cluster that limits them, given back when it ends.
    slot: Option<Slot>,
    /// An end without close_notify is an end in order.
    takes_any_end: bool,
}

/// What an idle stream is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdleState {
    /// Open and silent: a request may be sent.
    Usable,
    /// Closed, failed, or the peer sent bytes nobody asked for.
    Spent,
}

impl Stream {
    #[must_use]
    pub fn plaintext(socket: Socket) -> Self {
        Self { socket, tls: None, opened: RefCell::default(), slot: None, takes_any_end: false }
    }

    /// Runs a TLS handshake as client over `socket`. Nothing of the application is sent before it is complete and the
    /// server's certificate is verified.
    ///
    /// # Errors
    /// What the socket or the session reported. The caller bounds the time.
    pub async fn handshake(
        socket: Socket,
        config: &Arc<rustls::ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, StreamError> {
        let mut session = Session::new(config, name)?;
        let mut opened = VecDeque::new();
        loop {
            if let Err(error) = send_output(&socket, &mut session).await {
                return Err(last_words(&socket, &mut session).await.unwrap_or(error.into()));
            }
            if !session.is_handshaking() {
                let (tls, opened) = (Some(Box::new(RefCell::new(session))), RefCell::new(opened));
                return Ok(Self { socket, tls, opened, slot: None, takes_any_end: false });
            }
            let Some(received) = socket.recv().await? else { return Err(ended(&session)) };
            if let Err(error) = session.open(received, &mut opened) {
                send_alert(&socket, &mut session);
                return Err(error.into());
            }
        }
    }

    /// Puts bytes back that have been received already.
    pub(super) fn unread(&self, bytes: Lease) {
        self.opened.borrow_mut().push_front(bytes);
    }

    /// What was put back before anything else was done with a stream without TLS; with TLS, [`recv`](Self::recv) gives it.
    pub fn early(&self) -> Option<Lease> {
        self.tls.is_none().then(|| self.opened.borrow_mut().pop_front()).flatten()
    }

    /// The socket of a stream that was only used to agree on what follows.
    pub(super) fn into_socket(self) -> Socket {
        self.socket
    }

    pub(super) fn occupy(&mut self, slot: Option<Slot>) {
        self.slot = slot;
    }

    /// From now on an end without close_notify is an end in order.
    pub(super) fn take_any_end(&mut self) {
        self.takes_any_end = true;
    }

    /// The limited cluster that it counts for.
    pub(super) fn share(&self) -> Option<&Rc<Share>> {
        self.slot.as_ref().map(Slot::share)
    }

    /// Whether the server spoke first, which no HTTP server does: its bytes would become the answer to a request that
    /// it has not seen. To be asked right after the handshake.
    #[must_use]
    pub fn spoke_first(&self) -> bool {
        !self.opened.borrow().is_empty()
    }

    /// Whether [`recv`](Self::recv) has something that came in the same receive as what it gave last.
    #[must_use]
    pub fn has_opened(&self) -> bool {
        !self.opened.borrow().is_empty()
    }

    /// The next bytes of the peer; `None` after its orderly end.
    ///
    /// # Errors
    /// A reset, a TLS failure, or a TLS stream that ended without close_notify.
    pub fn recv(&self) -> impl Future<Output = Result<Option<Lease>, StreamError>> {
        poll_fn(|cx| self.poll_recv(cx))
    }

    /// As [`recv`](Self::recv), for a future that waits for other things as well.
    pub fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Result<Option<Lease>, StreamError>> {
        let Some(tls) = &self.tls else { return self.socket.poll_recv(cx).map_err(StreamError::from) };
        let received = ready!(self.poll_session(tls, cx));
        let is_over = !matches!(received, Ok(Some(_)));
        if is_over && tls.borrow().lacks_renegotiation() {
            return Poll::Ready(Err(TlsError::Renegotiation.into()));
        }
        Poll::Ready(received)
    }

    fn poll_session(&self, tls: &RefCell<Session>, cx: &mut Context<'_>) -> Poll<Result<Option<Lease>, StreamError>> {
        loop {
            if let Some(plaintext) = self.opened.borrow_mut().pop_front() {
                return Poll::Ready(Ok(Some(plaintext)));
            }
            if let Some(failure) = tls.borrow().failure() {
                return Poll::Ready(Err(failure.clone().into()));
            }
            if tls.borrow().peer_closed() {
                return Poll::Ready(Ok(None));
            }
            let Some(records) = ready!(self.socket.poll_recv(cx))? else {
                return Poll::Ready(match tls.borrow().end() {
                    Err(TlsError::Truncated) if self.takes_any_end => Ok(None),
                    end => Ok(end.map(|()| None)?),
                });
            };
            self.open(tls, records);
        }
    }

    /// Takes records in. What is wrong with them is told when the plaintext before it has been handed out.
    fn open(&self, tls: &RefCell<Session>, records: Lease) {
        let mut session = tls.borrow_mut();
        // The session remembers its failure.
        let _ = session.open(records, &mut self.opened.borrow_mut());
        // The alert that says why it failed, or that a renegotiation is refused.
        send_alert(&self.socket, &mut session);
    }

    /// Queues `bytes` at once, in order; the future resolves when the queue has room again.
    ///
    /// # Errors
    /// The session's, when it cannot seal any more. The socket's come from the future.
    pub fn send(&self, bytes: impl Into<SendBuf>) -> Result<SendFuture<'_>, StreamError> {
        let bytes = bytes.into();
        let Some(tls) = &self.tls else { return Ok(self.socket.send(bytes)) };
        let mut records = crate::io::buffer(room_for(bytes.len()));
        tls.borrow_mut().seal(&[bytes.as_ref()], &mut records)?;
        Ok(self.socket.send(records))
    }

    /// As [`send`](Self::send), for pieces that stay with the caller: a head and the first bytes of its body become one
    /// send, and for TLS one run of records sealed from where they lie.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_pieces(&self, pieces: &[&[u8]]) -> Result<SendFuture<'_>, StreamError> {
        let mut bytes = crate::io::buffer(room_for(pieces.iter().map(|piece| piece.len()).sum()));
        match &self.tls {
            None => {
                for piece in pieces {
                    bytes.extend_from_slice(piece);
                }
            }
            Some(tls) => tls.borrow_mut().seal(pieces, &mut bytes)?,
        }
        Ok(self.socket.send(bytes))
    }

    /// Ready when the queue has room, for a future that sends as it can.
    ///
    /// # Errors
    /// The socket's.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_room(cx)
    }

    /// Waits until the kernel has taken everything queued.
    ///
    /// # Errors
    /// The socket's.
    pub async fn flush(&self) -> io::Result<()> {
        self.socket.flush().await
    }

    /// Ends this side's sending: close_notify where there is TLS, then FIN.
    ///
    /// # Errors
    /// The socket's.
    pub async fn shutdown_write(&self) -> io::Result<()> {
        self.send_close_notify();
        self.socket.shutdown_write().await
    }

    fn send_close_notify(&self) {
        if let Some(tls) = &self.tls {
            let mut output = Vec::new();
            tls.borrow_mut().close(&mut output);
            if !output.is_empty() {
                drop(self.socket.send(output));
            }
        }
    }

    /// Ends the connection in order: close_notify, FIN, and what is queued is still sent.
    pub fn close(self) {
        self.send_close_notify();
    }

    /// Ends the connection with a reset, so that the peer cannot take what it has for complete. What is queued goes
    /// first, as it would have between the two ends without a proxy; a peer that does not take it within
    /// [`ABORT_FLUSH`] goes without.
    pub async fn abort(self) {
        let _ = crate::io::timeout(ABORT_FLUSH, self.socket.flush()).await;
        self.socket.abort();
    }

    /// Resolves when the peer's kernel has everything that was sent, or can have no more of it: when it has taken nothing for
    /// [`STANDSTILL`]. A reset, or a close with something unread, would take from it what is still on the way.
    pub async fn delivered(&self) {
        let mut pause = LOOK_AGAIN;
        let mut left = self.socket.undelivered();
        let mut since = crate::io::now();
        while left > 0 && crate::io::now() < since + STANDSTILL {
            crate::io::sleep(pause).await;
            // Nothing tells of an acknowledgement; a slow reader is asked for less often.
            pause = (pause * 2).min(ASK_AGAIN);
            let now = self.socket.undelivered();
            if now < left {
                (left, since) = (now, crate::io::now());
            }
        }
    }

    /// As [`abort`](Self::abort), when the peer has [got](Self::delivered) what it can get.
    pub async fn abort_delivered(self) {
        self.delivered().await;
        self.socket.abort();
    }

    /// Resolves with the reason when the peer resets the connection, whatever is still unread.
    pub async fn lost(&self) -> io::Error {
        loop {
            if let Err(error) = self.unheard().await {
                return error;
            }
            if let Some(error) = self.ask().await {
                return error;
            }
        }
    }

    /// Resolves with the reason when the peer resets the connection where no receive tells of it: after it has finished
    /// sending, or while nothing is received since the other side takes nothing.
    pub async fn left(&self) -> io::Error {
        loop {
            if self.unheard().await.is_err() {
                return future::pending().await;
            }
            if let Some(error) = self.ask().await {
                return error;
            }
        }
    }

    /// Resolves where the kernel reports a reset to nobody who does not ask; or with the error that a receive was told.
    async fn unheard(&self) -> io::Result<()> {
        poll_fn(|cx| match pin!(self.socket.ended()).poll(cx) {
            Poll::Pending if self.socket.is_resting() => Poll::Ready(Ok(())),
            ended => ended,
        })
        .await
    }

    /// What the kernel says, or nothing after a while.
    async fn ask(&self) -> Option<io::Error> {
        let error = self.socket.take_error();
        if error.is_none() {
            crate::io::sleep(ASK_AGAIN).await;
        }
        error
    }

    /// Whether a request may be sent on this idle stream. Takes in what the TLS peer may say at any time (session
    /// tickets, key updates); anything else spends the stream.
    pub fn idle_state(&self) -> IdleState {
        while !self.is_spent() {
            match self.socket.peek_state() {
                PeekState::Pending => return IdleState::Usable,
                PeekState::Closed => return IdleState::Spent,
                PeekState::Data => {}
            }
            let Some(tls) = &self.tls else { return IdleState::Spent };
            let arrived = pin!(self.socket.recv()).poll(&mut Context::from_waker(Waker::noop()));
            let Poll::Ready(Ok(Some(records))) = arrived else { return IdleState::Spent };
            self.open(tls, records);
        }
        IdleState::Spent
    }

    /// As [`idle_state`](Self::idle_state), by what the kernel knows at this moment: a server that has just closed is
    /// seen before the engine's next turn. Costs a system call.
    pub fn idle_state_now(&self) -> IdleState {
        if self.socket.is_quiet() { self.idle_state() } else { IdleState::Spent }
    }

    /// Ready when no request may be sent on this idle stream any more.
    pub(super) fn poll_spent(&self, cx: &mut Context<'_>) -> Poll<()> {
        while self.idle_state() == IdleState::Usable {
            // What has come may be what a TLS peer says at any time: then it is asked again.
            ready!(pin!(self.socket.readable()).poll(cx));
        }
        Poll::Ready(())
    }

    /// Whether what has been taken in already rules out another request: plaintext that nobody asked for, an end, or keys
    /// that are worn out.
    fn is_spent(&self) -> bool {
        let Some(tls) = &self.tls else { return false };
        let session = tls.borrow();
        !self.opened.borrow().is_empty() || session.peer_closed() || session.failure().is_some() || session.is_worn()
    }

    /// Tells the engine how much more of one body is to come, so that it is received in few, large pieces; 0 when it is
    /// over. A hint.
    pub fn expect(&self, bytes: u64) {
        self.socket.expect_bulk(bytes);
    }

    /// The same where nobody knows how much; `streams`: it has been coming for long.
    pub fn expect_more(&self, streams: bool) {
        self.socket.expect_more(streams);
    }

    /// Gives back the room that is kept for more bytes: nothing is expected for a while.
    pub fn relax(&self) {
        self.socket.relax();
        let mut opened = self.opened.borrow_mut();
        if opened.is_empty() {
            *opened = VecDeque::new();
        }
    }

    /// What the handshake agreed on; `None` for plaintext.
    pub fn negotiated(&self) -> Option<Negotiated> {
        self.tls.as_ref().map(|tls| tls.borrow().negotiated())
    }

    #[must_use]
    pub fn socket(&self) -> &Socket {
        &self.socket
    }
}

/// What records that carry `length` bytes take, generously.
fn room_for(length: usize) -> usize {
    length + length / 64 + 256
}

/// The connection ended before its handshake did.
fn ended(session: &Session) -> StreamError {
    match session.end() {
        Err(error) => error.into(),
        Ok(()) => io::Error::from(io::ErrorKind::UnexpectedEof).into(),
    }
}

/// Why the server left, where it has said so before it did: an alert tells more than that nothing can be sent any more.
async fn last_words(socket: &Socket, session: &mut Session) -> Option<StreamError> {
    let mut opened = VecDeque::new();
    while session.is_handshaking() {
        let received = socket.recv().await.ok()??;
        if let Err(said) = session.open(received, &mut opened) {
            return Some(said.into());
        }
    }
    None
}

/// Sends what the handshake wants to say.
async fn send_output(socket: &Socket, session: &mut Session) -> io::Result<()> {
    let mut output = Vec::new();
    session.take_output(&mut output);
    if !output.is_empty() {
        socket.send(output).await?;
    }
    Ok(())
}

/// Sends what the session itself wants to say. Best effort: a peer that is gone needs no alert.
fn send_alert(socket: &Socket, session: &mut Session) {
    let mut output = Vec::new();
    session.take_output(&mut output);
    if !output.is_empty() {
        drop(socket.send(output));
    }
}

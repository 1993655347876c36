//! What is between the codec and the connection: counts frames both ways, judges what the codec lets pass, joins small
//! pieces of bodies, and knows when something last came.
//!
//! Once the peer has sent too many frames that carry nothing, or one that it may not, no more is read: the connection is
//! about to be ended, and each further byte would be work.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use h2::Reason;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::data_joiner::join_data;
use super::frame_meter::FrameMeter;
use super::frame_rules;
use super::frame_walker::{FrameWalker, Kind};
use super::limits::Limits;
use crate::io::now;

/// Bytes of a client's connection preface (RFC 9113 §3.4).
const PREFACE: usize = 24;

/// Which side of the connection egret is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Server,
    Client,
}

/// A connection under the codec.
pub(super) struct Wire<T> {
    io: T,
    side: Side,
    has_received: bool,
    state: Rc<WireState>,
}

/// What the owner of the connection may know of it.
pub(super) struct WireState {
    received: RefCell<FrameWalker>,
    sent: RefCell<FrameWalker>,
    meter: RefCell<FrameMeter>,
    /// What the peer has broken.
    violation: Cell<Option<Reason>>,
    heard: Cell<Instant>,
    /// Whoever ends the connection when too much has come.
    watcher: RefCell<Option<Waker>>,
    /// The peer has said what it allows, or never will.
    is_settled: Cell<bool>,
    /// Whoever waits for that.
    unsettled: RefCell<Vec<Waker>>,
}

impl<T> Wire<T> {
    pub(super) fn new(io: T, side: Side, limits: &Limits) -> (Self, Rc<WireState>) {
        let now = now();
        let before = |speaks: Side| if side == speaks { PREFACE } else { 0 };
        let state = Rc::new(WireState {
            received: RefCell::new(FrameWalker::new(before(Side::Server))),
            sent: RefCell::new(FrameWalker::new(before(Side::Client))),
            meter: RefCell::new(FrameMeter::new(limits.idle_frames, limits.initial_stream_window, now)),
            violation: Cell::new(None),
            heard: Cell::new(now),
            watcher: RefCell::default(),
            is_settled: Cell::new(false),
            unsettled: RefCell::default(),
        });
        (Self { io, side, has_received: false, state: Rc::clone(&state) }, state)
    }
}

impl WireState {
    /// When something last came.
    pub(super) fn heard(&self) -> Instant {
        self.heard.get()
    }

    /// Ready when the peer has sent what it may not; the connection ends with this error.
    pub(super) fn poll_refused(&self, cx: &Context<'_>) -> Poll<Reason> {
        if let Some(reason) = self.refusal() {
            return Poll::Ready(reason);
        }
        let mut watcher = self.watcher.borrow_mut();
        if !watcher.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *watcher = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    fn refusal(&self) -> Option<Reason> {
        self.violation.get().or(self.meter.borrow().refusal())
    }

    fn note_received(&self, bytes: &[u8], side: Side) {
        self.heard.set(now());
        let mut has_settings = false;
        let mut meter = self.meter.borrow_mut();
        self.received.borrow_mut().walk(bytes, |frame| {
            if side == Side::Server && self.violation.get().is_none() {
                let is_first = !has_settings && !self.is_settled.get();
                self.violation.set(frame_rules::violation(frame, is_first));
            }
            has_settings |= frame.kind == Kind::Settings;
            meter.received(frame, now);
        });
        drop(meter);
        if has_settings {
            self.settle();
        }
        if self.refusal().is_some()
            && let Some(watcher) = self.watcher.take()
        {
            watcher.wake();
        }
    }

    /// Ready when the peer's settings have come, or the connection has ended.
    pub(super) fn poll_settled(&self, cx: &Context<'_>) -> Poll<()> {
        if self.is_settled.get() {
            return Poll::Ready(());
        }
        let mut waiting = self.unsettled.borrow_mut();
        if !waiting.iter().any(|known| known.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    pub(super) fn is_settled(&self) -> bool {
        self.is_settled.get()
    }

    pub(super) fn settle(&self) {
        if !self.is_settled.replace(true) {
            // They look when the codec has read what has come, which it does before they run.
            self.unsettled.take().into_iter().for_each(Waker::wake);
        }
    }

    fn note_sent(&self, bytes: &[u8]) {
        let mut meter = self.meter.borrow_mut();
        self.sent.borrow_mut().walk(bytes, |frame| meter.sent(frame));
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Wire<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.state.poll_refused(cx).is_ready() {
            return Poll::Pending;
        }
        let before = into.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, into))?;
        let received = &into.filled()[before..];
        if !self.has_received {
            self.has_received = true;
            if self.side == Side::Client && received.starts_with(b"HTTP/1.") {
                return Poll::Ready(Err(io::Error::other("the server answers in HTTP/1.1: it does not speak HTTP/2")));
            }
        }
        let begin = self.state.received.borrow().until_next();
        self.state.note_received(received, self.side);
        if self.state.violation.get().is_some() {
            // The codec would have another word for it.
            into.set_filled(before);
            return Poll::Pending;
        }
        if let Some(begin) = begin {
            let length = join_data(&mut into.filled_mut()[before..], begin);
            into.set_filled(before + length);
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Wire<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, bytes))?;
        self.state.note_sent(&bytes[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, pieces))?;
        let mut left = written;
        for piece in pieces {
            let part = left.min(piece.len());
            self.state.note_sent(&piece[..part]);
            left -= part;
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

//! A [`Stream`] as tokio's traits have it, for a library that reads and writes by them.
//!
//! Reading copies out of the buffers that the engine received into. Writing queues a copy (for TLS: sealed records), and
//! waits while much is queued: the library holds what the peer does not take. It needs no runtime of tokio's.

use std::borrow::Borrow;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::stream::{Stream, StreamError};
use crate::io::Lease;

/// Most that one write takes: what goes beyond the queue's mark is bounded.
const MAX_WRITE: usize = 64 * 1024;

/// A stream, owned or borrowed, as `AsyncRead` and `AsyncWrite`.
pub struct Duplex<S> {
    stream: S,
    /// Received and not read yet.
    unread: Option<Lease>,
}

impl<S: Borrow<Stream>> Duplex<S> {
    /// `unread`: bytes that have been received from the stream before.
    #[must_use]
    pub fn new(stream: S, unread: Option<Lease>) -> Self {
        Self { stream, unread: unread.filter(|bytes| !bytes.is_empty()) }
    }

    fn stream(&self) -> &Stream {
        self.stream.borrow()
    }

    /// Copies what is here; false when that is nothing.
    fn copy(&mut self, into: &mut ReadBuf<'_>) -> bool {
        let Some(bytes) = &mut self.unread else { return false };
        let count = bytes.len().min(into.remaining());
        into.put_slice(&bytes[..count]);
        bytes.advance(count);
        if bytes.is_empty() {
            self.unread = None;
        }
        true
    }
}

impl<S: Borrow<Stream> + Unpin> AsyncRead for Duplex<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while !self.copy(into) {
            self.unread = match ready!(self.stream().poll_recv(cx)) {
                Ok(None) => return Poll::Ready(Ok(())),
                Ok(received) => received.filter(|bytes| !bytes.is_empty()),
                Err(error) => return Poll::Ready(Err(as_io(error))),
            };
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: Borrow<Stream> + Unpin> AsyncWrite for Duplex<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.stream().poll_room(cx))?;
        let (taken, length) = front(pieces);
        if length > 0 {
            // It is queued now. Room for more is what the next write waits for; an error is told at once.
            let sending = self.stream().send_pieces(&taken).map_err(as_io)?;
            if let Poll::Ready(Err(error)) = pin!(sending).poll(cx) {
                return Poll::Ready(Err(error));
            }
        }
        Poll::Ready(Ok(length))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// What is queued leaves at the end of the turn.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Each part of it happens once, however often it is asked for.
        pin!(self.stream().shutdown_write()).poll(cx)
    }
}

/// The first [`MAX_WRITE`] bytes of `pieces`, and how many they are.
fn front<'p>(pieces: &'p [IoSlice<'_>]) -> (Vec<&'p [u8]>, usize) {
    let mut length = 0;
    let mut taken = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let part = &piece[..piece.len().min(MAX_WRITE - length)];
        length += part.len();
        taken.push(part);
    }
    (taken, length)
}

/// The error with its words; what the kernel said stays what it is.
fn as_io(error: StreamError) -> io::Error {
    match error {
        StreamError::Io(error) => error,
        other => io::Error::other(other),
    }
}

#[cfg(test)]
#[path = "tests/duplex.rs"]
mod tests;

//! The reading end of a stream, with what has arrived and is not used yet.
//!
//! Bytes normally stay in the buffer they arrived in; only something that straddles two receives is gathered into one.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use super::stream::{Stream, StreamError};
use crate::io::Lease;

/// Reads from a [`Stream`] it does not own.
pub struct Reader<'s> {
    stream: &'s Stream,
    lease: Option<Lease>,
    gathered: Vec<u8>,
}

impl<'s> Reader<'s> {
    #[must_use]
    pub fn new(stream: &'s Stream) -> Self {
        Self { stream, lease: None, gathered: Vec::new() }
    }

    /// Of a stream that has been read from before, to the beginning of what is to come.
    #[must_use]
    pub fn resuming(stream: &'s Stream) -> Self {
        Self { lease: stream.early(), ..Self::new(stream) }
    }

    /// What has arrived and was not taken.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match &self.lease {
            Some(lease) => lease,
            None => &self.gathered,
        }
    }

    /// Waits for more bytes behind those there are; false at the peer's orderly end.
    ///
    /// # Errors
    /// The stream's.
    pub fn fill(&mut self) -> impl Future<Output = Result<bool, StreamError>> {
        poll_fn(|task| self.poll_fill(task))
    }

    /// As [`fill`](Self::fill), for a future that waits for other things as well.
    pub fn poll_fill(&mut self, task: &mut Context<'_>) -> Poll<Result<bool, StreamError>> {
        let Some(more) = ready!(self.stream.poll_recv(task))? else { return Poll::Ready(Ok(false)) };
        if self.bytes().is_empty() {
            self.lease = Some(more);
            return Poll::Ready(Ok(true));
        }
        if let Some(first) = self.lease.take() {
            self.gathered = first.to_vec();
        }
        self.gathered.extend_from_slice(&more);
        Poll::Ready(Ok(true))
    }

    /// Takes the first `count` bytes, at most what [`bytes`](Self::bytes) holds.
    pub fn take(&mut self, count: usize) -> Lease {
        let mut all = self.take_all();
        let first = all.split_to(count);
        if !all.is_empty() {
            self.lease = Some(all);
        }
        first
    }

    /// Puts `start` in the place of the first `count` bytes.
    pub fn replace(&mut self, count: usize, mut start: Vec<u8>) {
        let all = self.take_all();
        start.extend_from_slice(all.get(count..).unwrap_or_default());
        self.gathered = start;
    }

    /// Takes everything that has arrived; possibly nothing.
    pub fn take_all(&mut self) -> Lease {
        self.lease.take().unwrap_or_else(|| Lease::from_vec(std::mem::take(&mut self.gathered)))
    }

    /// Takes what has arrived, waiting for it if there is nothing; `None` at the peer's orderly end.
    ///
    /// # Errors
    /// The stream's.
    pub async fn next(&mut self) -> Result<Option<Lease>, StreamError> {
        if self.bytes().is_empty() && !self.fill().await? {
            return Ok(None);
        }
        Ok(Some(self.take_all()))
    }

    #[must_use]
    pub fn stream(&self) -> &'s Stream {
        self.stream
    }
}

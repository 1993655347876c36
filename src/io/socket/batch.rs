//! Bytes on their way out: the pieces a caller queues, and the batch of them that the kernel works on.
//!
//! A batch owns its pieces, its vector of pointers and its message header from submission to completion, at addresses
//! that do not move. It refuses to know which socket it is for.

#![allow(unsafe_code, reason = "a message header is plain data that C wants zeroed")]

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

use crate::io::buffers::Lease;
use crate::io::buffers::buffer_cache::give_back;

/// Pieces of one operation: more wait for the next one. The kernel keeps up to 8 on its stack, allocates for more.
const MAX_PIECES: usize = 64;

/// A piece of bytes to send, in whatever form the sender has it. Never copied.
#[derive(Debug)]
pub enum SendBuf {
    Lease(Lease),
    Owned(Vec<u8>),
    Shared(Bytes),
    Static(&'static [u8]),
}

impl SendBuf {
    #[must_use]
    pub fn len(&self) -> usize {
        self.as_ref().len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn advance(&mut self, count: usize) {
        match self {
            SendBuf::Lease(lease) => lease.advance(count),
            SendBuf::Owned(bytes) => {
                let mut rest = Lease::from_vec(std::mem::take(bytes));
                rest.advance(count);
                *self = SendBuf::Lease(rest);
            }
            SendBuf::Shared(bytes) => bytes.advance(count),
            SendBuf::Static(bytes) => *bytes = &bytes[count..],
        }
    }
}

impl AsRef<[u8]> for SendBuf {
    fn as_ref(&self) -> &[u8] {
        match self {
            SendBuf::Lease(lease) => lease,
            SendBuf::Owned(bytes) => bytes,
            SendBuf::Shared(bytes) => bytes,
            SendBuf::Static(bytes) => bytes,
        }
    }
}

impl From<Lease> for SendBuf {
    fn from(lease: Lease) -> Self {
        SendBuf::Lease(lease)
    }
}

impl From<Vec<u8>> for SendBuf {
    fn from(bytes: Vec<u8>) -> Self {
        SendBuf::Owned(bytes)
    }
}

impl From<Bytes> for SendBuf {
    fn from(bytes: Bytes) -> Self {
        SendBuf::Shared(bytes)
    }
}

impl From<&'static [u8]> for SendBuf {
    fn from(bytes: &'static [u8]) -> Self {
        SendBuf::Static(bytes)
    }
}

impl<const N: usize> From<&'static [u8; N]> for SendBuf {
    fn from(bytes: &'static [u8; N]) -> Self {
        SendBuf::Static(bytes)
    }
}

/// What one send operation carries. Boxed, since its address must not change while the kernel reads it.
pub(in crate::io) struct Batch(Box<Contents>);

struct Contents {
    pieces: Vec<SendBuf>,
    vector: Vec<libc::iovec>,
    header: libc::msghdr,
    length: usize,
}

impl Batch {
    /// An empty batch.
    pub(in crate::io) fn new() -> Self {
        // SAFETY: msghdr holds integers and raw pointers, for which zero is a valid value.
        let header = unsafe { std::mem::zeroed() };
        Self(Box::new(Contents { pieces: Vec::new(), vector: Vec::new(), header, length: 0 }))
    }

    /// Moves the front of `queue` into this empty batch.
    pub(in crate::io) fn fill(&mut self, queue: &mut VecDeque<SendBuf>) {
        debug_assert!(self.0.pieces.is_empty(), "a batch is emptied before it is filled again");
        self.0.pieces.extend(queue.drain(..queue.len().min(MAX_PIECES)));
        self.0.length = self.0.pieces.iter().map(SendBuf::len).sum();
        if self.single().is_some() {
            return;
        }
        self.0.vector.extend(self.0.pieces.iter().map(|piece| {
            let bytes = piece.as_ref();
            libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() }
        }));
        self.0.header.msg_iov = self.0.vector.as_mut_ptr();
        self.0.header.msg_iovlen = self.0.vector.len() as _;
    }

    /// Bytes in all.
    pub(in crate::io) fn len(&self) -> usize {
        self.0.length
    }

    /// The only piece, when there is but one and its length fits the operation.
    pub(in crate::io) fn single(&self) -> Option<&[u8]> {
        match self.0.pieces.as_slice() {
            [only] if u32::try_from(only.len()).is_ok() => Some(only.as_ref()),
            _ => None,
        }
    }

    /// The header for the kernel; valid while this batch is neither filled nor cleared.
    pub(in crate::io) fn header(&self) -> &libc::msghdr {
        &self.0.header
    }

    /// Puts what the kernel did not take back at the front of `queue`, `sent` bytes being gone.
    pub(in crate::io) fn unsend(&mut self, mut sent: usize, queue: &mut VecDeque<SendBuf>) {
        let gone = self.0.pieces.iter().take_while(|piece| take_whole(&mut sent, piece.len())).count();
        for (index, mut piece) in self.0.pieces.drain(gone..).enumerate().collect::<Vec<_>>().into_iter().rev() {
            if index == 0 {
                piece.advance(sent);
            }
            queue.push_front(piece);
        }
        self.clear();
    }

    /// Lets go of the pieces; keeps the memory for the next batch.
    pub(in crate::io) fn clear(&mut self) {
        for piece in self.0.pieces.drain(..) {
            if let SendBuf::Owned(bytes) = piece {
                give_back(bytes);
            }
        }
        self.0.vector.clear();
        self.0.length = 0;
    }
}

fn take_whole(sent: &mut usize, length: usize) -> bool {
    let whole = *sent >= length;
    if whole {
        *sent -= length;
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces() -> VecDeque<SendBuf> {
        [
            SendBuf::from(b"static "),
            SendBuf::from(b"owned ".to_vec()),
            SendBuf::from(Bytes::from_static(b"shared ")),
            SendBuf::from(Lease::from_vec(b"lease".to_vec())),
        ]
        .into()
    }

    fn text(queue: &VecDeque<SendBuf>) -> String {
        queue.iter().map(|piece| std::str::from_utf8(piece.as_ref()).unwrap()).collect()
    }

    #[test]
    fn what_a_short_send_leaves_comes_first_again() {
        let whole = text(&pieces());
        for sent in 0..=whole.len() {
            let (mut batch, mut queue) = (Batch::new(), pieces());
            batch.fill(&mut queue);
            assert_eq!((batch.len(), queue.len()), (whole.len(), 0));
            queue.push_back(SendBuf::from(b" later"));
            batch.unsend(sent, &mut queue);
            assert_eq!(text(&queue), format!("{} later", &whole[sent..]), "{sent} bytes sent");
        }
    }

    #[test]
    fn a_batch_takes_a_bounded_number_of_pieces() {
        let mut queue: VecDeque<SendBuf> = (0..MAX_PIECES + 3).map(|_| SendBuf::from(b"x")).collect();
        let mut batch = Batch::new();
        batch.fill(&mut queue);
        assert_eq!((batch.len(), queue.len()), (MAX_PIECES, 3));
    }
}

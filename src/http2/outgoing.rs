//! Bytes of a body on their way into the codec, and how many of a stream's have not left it yet.
//!
//! The codec queues without a bound what it is given. So each piece carries a counter that goes down while the codec writes
//! it, or drops it, and a source waits while its stream has too much queued.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Buf;

use crate::io::SendBuf;

/// A piece of a body in the codec's hands.
pub(super) struct Piece {
    bytes: SendBuf,
    at: usize,
    queued: Rc<Queued>,
}

/// How much of one stream the codec holds.
#[derive(Default)]
pub(super) struct Queued {
    bytes: Cell<usize>,
    waiting: RefCell<Option<Waker>>,
    mark: usize,
}

impl Queued {
    /// `mark`: from so many bytes on a source waits.
    pub(super) fn new(mark: usize) -> Rc<Self> {
        Rc::new(Self { mark, ..Self::default() })
    }

    pub(super) fn piece(self: &Rc<Self>, bytes: SendBuf) -> Piece {
        self.bytes.set(self.bytes.get() + bytes.len());
        Piece { bytes, at: 0, queued: Rc::clone(self) }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.get()
    }

    /// Ready while less than the mark is queued.
    pub(super) fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        if self.bytes.get() < self.mark {
            return Poll::Ready(());
        }
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *waiting = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    fn less(&self, count: usize) {
        self.bytes.set(self.bytes.get() - count);
        if self.bytes.get() < self.mark
            && let Some(waiting) = self.waiting.take()
        {
            // It puts a task on a queue: nothing runs here.
            waiting.wake();
        }
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes.as_ref()[self.at..]
    }

    fn advance(&mut self, count: usize) {
        assert!(count <= self.remaining(), "advance by {count} of {}", self.remaining());
        self.at += count;
        self.queued.less(count);
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.queued.less(self.remaining());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_source_waits_while_much_is_queued() {
        let queued = Queued::new(10);
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let cx = Context::from_waker(&waker);
        let mut first = queued.piece(SendBuf::from(b"12345678"));
        assert!(queued.poll_room(&cx).is_ready());
        let second = queued.piece(SendBuf::from(b"12345678"));
        assert!(queued.poll_room(&cx).is_pending());
        first.advance(6);
        assert_eq!((queued.bytes(), count.0.load(Ordering::Relaxed)), (10, 0));
        first.advance(1);
        assert_eq!((queued.bytes(), count.0.load(Ordering::Relaxed)), (9, 1));
        assert_eq!(first.chunk(), b"8");
        drop(first);
        assert!(queued.poll_room(&cx).is_ready());
        // What the codec throws away is gone as well.
        drop(second);
        assert_eq!(queued.bytes(), 0);
    }
}
